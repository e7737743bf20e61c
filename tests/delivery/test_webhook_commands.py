"""The commands of webhooks, and `flask deliver` as a service and from cron."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.installation import Installation, found
from support.machine import wait_until
from support.receivers import Receiver, answers, hangs, receiver
from support.world import reserve_body

pytestmark = pytest.mark.both_engines

CUSTOMER = "org-456"


@pytest.fixture
def good() -> Iterator[Receiver]:
    with receiver() as started:
        yield started


def add(installation: Installation, url: str, *options: str) -> tuple[str, str]:
    """Add a webhook; returns its id and its secret."""
    added = installation.flask("add-webhook", "--customer", CUSTOMER, "--url", url, *options)
    match = re.fullmatch(r"Webhook: (wh_[0-9a-f]+)\nSecret: (whsec_[\w+/=]{44})\n", added.stdout)
    assert match, added.stdout
    return match[1], match[2]


def change_budget(installation: Installation, amount: int) -> None:
    """Cause one event."""
    installation.flask(
        *("set-budget", "--customer", CUSTOMER, "--department", "Travel"),
        *("--period", "Q1 2025", "--amount", str(amount)),
    )


@contextmanager
def delivering(installation: Installation, name: str = "deliver") -> Iterator[Any]:
    """`flask deliver` as a service; its log is in a file of that name. Killed at the end."""
    with (
        (installation.folder / f"{name}.log").open("a", encoding="utf-8") as log,
        open(os.devnull, encoding="ascii") as nothing,
    ):
        process = installation.begin(("deliver",), [nothing, log, log])
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=20)


def log_of(installation: Installation, name: str = "deliver") -> str:
    return (installation.folder / f"{name}.log").read_text(encoding="utf-8")


def test_commands_of_a_webhook_in_their_order(installation: Installation, good: Receiver) -> None:
    flask = installation.flask
    assert "There are no webhooks yet" in flask("list-webhooks").stdout
    webhook_id, secret = add(installation, good.url, "--types", "budget.created,budget.updated")
    tested = flask("test-webhook", webhook_id)
    assert re.fullmatch(r"Delivered with HTTP 204 in \d+ ms\.\n", tested.stdout)
    assert good.received[0].verify(secret)["type"] == "webhook.test"
    change_budget(installation, 1000)
    assert flask("deliver", "--once").stdout == "Delivered 1 event; 0 attempts failed.\n"
    assert good.received[1].verify(secret)["type"] == "budget.created"
    rotated = flask("rotate-webhook", webhook_id, "--overlap", "12h")
    second = rotated.stdout.removeprefix("Secret: ").strip()
    good.behave = answers(410)
    failed = flask("test-webhook", webhook_id, check=False)
    assert failed.returncode == 1
    assert "HTTP 410: the receiver wants no more events." in failed.stderr
    change_budget(installation, 2000)
    assert "1 attempt failed" in flask("deliver", "--once").stdout
    listed = flask("list-webhooks", "--customer", CUSTOMER).stdout
    assert "paused since" in listed
    assert "HTTP 410: the receiver wants no more events." in listed
    good.behave = answers(200)
    resumed = flask("resume-webhook", webhook_id).stdout
    assert re.fullmatch(rf"Resumed webhook {webhook_id} from cursor a\d+\.\d-s\d+\.\d\.\n", resumed)
    assert flask("deliver", "--once").stdout == "Delivered 1 event; 0 attempts failed.\n"
    assert [each.event["type"] for each in good.received if "_test_" not in each.id] == [
        "budget.created",
        "budget.updated",
        "budget.updated",
    ]
    assert flask("resume-webhook", webhook_id, "--from", "latest").returncode == 0
    bad = flask("resume-webhook", webhook_id, "--from", "x", check=False)
    assert (bad.returncode, bad.stderr.count("\n")) == (1, 1)
    everything = listed + flask("list-webhooks").stdout + str(found(installation.target, AUDIT))
    assert secret not in everything
    assert second not in everything
    assert flask("remove-webhook", webhook_id).stdout == f"Removed webhook {webhook_id}.\n"
    assert flask("test-webhook", webhook_id, check=False).returncode == 1
    actions = [row[0] for row in found(installation.target, AUDIT)]
    assert [action for action in actions if action.endswith("_WEBHOOK")] == [
        "ADD_WEBHOOK",
        "ROTATE_WEBHOOK",
        "PAUSE_WEBHOOK",
        "RESUME_WEBHOOK",
        "RESUME_WEBHOOK",
        "REMOVE_WEBHOOK",
    ]


AUDIT = 'SELECT "action", "subject", "oldValue", "newValue" FROM "AuditLog" ORDER BY "id"'


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--customer", "nobody", "--url", "https://hooks.example.com/"), "customer"),
        (("--customer", CUSTOMER, "--url", "http://hooks.example.com/"), "https://"),
        (("--customer", CUSTOMER, "--url", "https://192.168.1.1/"), "private network"),
        (
            ("--customer", CUSTOMER, "--url", "https://hooks.example.com/", "--types", "budget.x"),
            "unknown type",
        ),
    ],
)
def test_invalid_webhook_is_one_line(
    installation: Installation, options: tuple[str, ...], says: str
) -> None:
    failed = installation.flask("add-webhook", *options, check=False)
    assert failed.returncode == 1
    assert failed.stderr.count("\n") == 1
    assert says in failed.stderr


def test_private_network_needs_the_setting(installation: Installation) -> None:
    installation.environment["WEBHOOK_PRIVATE_NETWORKS"] = "true"
    add(installation, "https://192.168.1.1/hook")
    refused = installation.flask(
        *("add-webhook", "--customer", CUSTOMER, "--url", "https://169.254.169.254/"), check=False
    )
    assert "link-local" in refused.stderr


def test_service_delivers_and_stops_within_seconds(server: Installation, good: Receiver) -> None:
    webhook_id, secret = add(server, good.url)
    with delivering(server) as service:
        for number in range(5):
            body = reserve_body(requestId=f"r{number}", amount=1)
            assert server.post("/api/budget/reserve", body, headers=server.key()).ok
        wait_until(lambda: len(good.received) == 5, log_of(server))
        good.behave = hangs
        body = reserve_body(requestId="last", amount=1)
        assert server.post("/api/budget/reserve", body, headers=server.key()).ok
        wait_until(lambda: len(good.received) == 6, log_of(server))
        stopping = time.monotonic()
        service.send_signal(signal.SIGTERM)
        assert service.wait(timeout=20) == 0
        assert time.monotonic() - stopping < 8
    good.behave = answers(200)
    assert "Delivered 1 event" in server.flask("deliver", "--once").stdout
    order = [each.verify(secret)["data"]["requestId"] for each in good.received]
    assert order == ["r0", "r1", "r2", "r3", "r4", "last", "last"]
    assert secret not in log_of(server) + server.log
    assert "Traceback" not in log_of(server)
    assert webhook_id not in server.log


def test_only_one_process_delivers(installation: Installation, good: Receiver) -> None:
    add(installation, good.url)
    with delivering(installation, "first") as first:
        wait_until(lambda: "Delivering" in log_of(installation, "first"), "not started")
        second = installation.flask("deliver", "--once")
        assert second.returncode == 0
        assert second.stdout == "Another `flask deliver` is running. Nothing was done.\n"
        with delivering(installation, "second"):
            waits = "Another process delivers events"
            wait_until(lambda: waits in log_of(installation, "second"), "it does not wait")
            change_budget(installation, 1000)
            wait_until(lambda: len(good.received) == 1, "no event")
            # A kill releases the lock, and the second one takes over.
            first.send_signal(signal.SIGKILL)
            first.wait(timeout=20)
            wait_until(lambda: "Delivering" in log_of(installation, "second"), "no takeover")
            change_budget(installation, 2000)
            wait_until(lambda: len(set(good.ids)) == 2, "no event")
    # The kill may have come before the first event was recorded.
    types = {each.id: each.event["type"] for each in good.received}
    assert list(types.values()) == ["budget.created", "budget.updated"]


def test_help_names_the_service(installation: Installation) -> None:
    shown: subprocess.CompletedProcess[str] = installation.flask("deliver", "--help")
    assert "--once" in shown.stdout
