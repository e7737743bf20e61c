"""Concurrent callers: a budget is never oversold, and repeated calls take effect once."""

from __future__ import annotations

import json
import multiprocessing
import random
import socket
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from decimal import Decimal
from threading import Barrier as ThreadBarrier
from typing import Any, NamedTuple

import pytest
import requests
from flask import Flask
from support.competitor import AMOUNT, compete, enter
from support.installation import Installation, found
from support.machine import wait_until
from support.templates import Templates
from support.world import ROOT, commit_body, release_body, reserve_body

from budget_sync import manual_budgets
from budget_sync.accounts import customers
from budget_sync.database.models import AuditLog, BudgetUtilization, Reservation
from budget_sync.ledger import verification
from budget_sync.settings import Settings

pytestmark = pytest.mark.both_engines

REQUESTS = 400
COPIES = 100


# Never oversold


@pytest.mark.parametrize(("competitors", "rounds"), [(4, 16), (8, 8)])
def test_budget_is_never_oversold(
    app: Flask, chosen: Settings, competitors: int, rounds: int
) -> None:
    customers.add_customer(ROOT, "org-456", "Acme Inc.")
    # Fork from a server process without connections: a connection must not cross a fork.
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(["budget_sync.ledger"])
    start = forks.Barrier(competitors)
    # The same tries in each run, shuffled differently each round.
    rng = random.Random(456)  # noqa: S311  # not a secret
    with ProcessPoolExecutor(
        competitors, mp_context=forks, initializer=enter, initargs=(chosen.database, start)
    ) as processes:
        for number in range(rounds):
            room = 18 + number
            budget_id = f"round-{number}"
            # One cent less than another reservation needs.
            manual_budgets.set_budget(
                ROOT,
                "org-456",
                budget_id,
                "2025",
                AMOUNT * (room + 1) - Decimal("0.01"),
                budget_id=budget_id,
            )
            # 500 tries, 100 of them duplicates.
            tries = [f"r{request}" for request in (*range(REQUESTS), *range(COPIES))]
            rng.shuffle(tries)
            results = [
                processes.submit(compete, budget_id, tries[place::competitors])
                for place in range(competitors)
            ]
            answers = [result.result(timeout=120) for result in results]
            acknowledged = {pair for _, pairs in answers for pair in pairs}
            stored = set(
                Reservation.select(Reservation.requestId, Reservation.id)
                .where(Reservation.budgetId == budget_id)
                .tuples()
            )
            moved = (
                AuditLog.select()
                .where((AuditLog.budgetId == budget_id) & (AuditLog.action == "RESERVE"))
                .count()
            )
            assert len({process for process, _ in answers}) == competitors
            assert acknowledged == stored
            assert (len(acknowledged), moved) == (room, room)
            assert BudgetUtilization.get_by_id(budget_id).reservedMinor == room * AMOUNT * 100
    assert verification.verify().findings == []


# Exactly once


@pytest.fixture(scope="module", params=["4", "8"], ids=lambda workers: f"{workers} workers")
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, templates: Templates
) -> Iterator[Installation]:
    """A server with the guide's data, per number of workers; verifies its balances at the end."""
    with templates.copy("world", tmp_path_factory.mktemp("concurrency")) as environment:
        installation = Installation(environment)
        installation.start("--workers", request.param)
        try:
            yield installation
            installation.flask("verify")
        finally:
            installation.end()


class Movement(NamedTuple):
    """A call that moves money, and its expected result.

    `trail` are the audit rows of the request after it, `stored` is the query for the stored reply.
    """

    call: str
    body: dict[str, Any]
    key: str | None
    trail: list[tuple[str, str, str]]
    stored: str


def movement(name: str, request_id: str) -> Movement:
    """The movement with that name, for that request."""
    reserved = ("RESERVE", "0", "5000")
    under_key = f"""SELECT "reply" FROM "StoredReply" WHERE "idempotencyKey" = '{request_id}'"""
    of_request = f"""FROM "Reservation" WHERE "requestId" = '{request_id}'"""
    closing = f"""SELECT "closingReply" {of_request} AND "status" = 'closed'"""
    opening = f'SELECT "reserveReply" {of_request}'
    return {
        "reserve": Movement(
            "reserve", reserve_body(requestId=request_id), None, [reserved], opening
        ),
        "release": Movement(
            "release",
            release_body(requestId=request_id),
            None,
            [reserved, ("RELEASE", "5000", "0")],
            closing,
        ),
        "commit": Movement(
            "commit",
            commit_body(requestId=request_id),
            None,
            [reserved, ("COMMIT", "5000", "0")],
            closing,
        ),
        "partial release": Movement(
            "release",
            release_body(requestId=request_id, amount=10.5),
            request_id,
            [reserved, ("RELEASE", "5000", "4989.5")],
            under_key,
        ),
        "partial commit": Movement(
            "commit",
            commit_body(requestId=request_id, amount=10.5),
            request_id,
            [reserved, ("COMMIT", "5000", "4989.5")],
            under_key,
        ),
    }[name]


MOVEMENTS = ["reserve", "release", "commit", "partial release", "partial commit"]


def trail(running: Installation, request_id: str) -> list[tuple[str, str, str]]:
    """The audit rows of a request."""
    return found(
        running.target,
        f"""
        SELECT "action", "oldValue", "newValue" FROM "AuditLog"
        WHERE "requestId" = '{request_id}' ORDER BY "id"
        """,
    )


def prepare(running: Installation, sent: Movement) -> None:
    """Reserve for the request, unless the movement is a reserve."""
    if sent.call != "reserve":
        assert running.post(
            "/api/budget/reserve",
            reserve_body(requestId=sent.body["requestId"]),
            headers=running.key(),
        ).ok


def send(running: Installation, sent: Movement) -> requests.Response:
    """Send it as the orchestrator, which retries after a 503."""
    headers = running.key() | ({"Idempotency-Key": sent.key} if sent.key else {})
    while True:
        response = running.post(f"/api/budget/{sent.call}", sent.body, headers=headers)
        if response.status_code != 503:
            return response


@pytest.mark.parametrize("name", MOVEMENTS)
def test_hundred_concurrent_copies_are_one_movement(running: Installation, name: str) -> None:
    sent = movement(name, f"copies of {name}")
    prepare(running, sent)
    start = ThreadBarrier(COPIES)

    def copy(_: int) -> requests.Response:
        start.wait(timeout=60)
        return send(running, sent)

    with ThreadPoolExecutor(COPIES) as threads:
        responses = list(threads.map(copy, range(COPIES)))
    assert {response.status_code for response in responses} == {200}, {
        response.text for response in responses
    }
    assert trail(running, sent.body["requestId"]) == sent.trail
    assert len({response.content for response in responses}) == 1
    assert [response.headers.get("Idempotent-Replayed") for response in responses].count(
        "true"
    ) == COPIES - 1


@pytest.mark.parametrize("name", MOVEMENTS)
def test_lost_reply_is_replayed_to_a_retry(running: Installation, name: str) -> None:
    sent = movement(name, f"lost reply of {name}")
    prepare(running, sent)
    body = json.dumps(sent.body).encode()
    headers = running.key() | {
        "Host": f"127.0.0.1:{running.port}",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
    }
    if sent.key:
        headers["Idempotency-Key"] = sent.key
    head = f"POST /api/budget/{sent.call} HTTP/1.1\r\n" + "".join(
        f"{field}: {value}\r\n" for field, value in headers.items()
    )
    with socket.create_connection(("127.0.0.1", running.port)) as caller:
        caller.sendall(head.encode() + b"\r\n" + body)
    wait_until(
        lambda: trail(running, sent.body["requestId"]) == sent.trail,
        "the movement is not in the audit log",
    )
    again = send(running, sent)
    assert (again.status_code, again.headers.get("Idempotent-Replayed")) == (200, "true")
    assert [(again.text.rstrip("\n"),)] == found(running.target, sent.stored)
    assert trail(running, sent.body["requestId"]) == sent.trail
