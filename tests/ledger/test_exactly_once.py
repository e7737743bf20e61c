"""Every verb takes effect once: sent again, sent by many at once, and racing with other verbs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any, NamedTuple

import pytest
import time_machine
from flask import Flask
from support.machine import ENGINE
from support.purchases import (
    APPROVED,
    JANE,
    MAIN,
    OTHER,
    OVERSPENDER,
    check,
    do,
    everything,
    figures,
    movements,
    replayed,
    send,
    set_customer,
    trail,
)
from support.world import ROOT

from budget_sync.database import close_connection
from budget_sync.database.models import Reservation
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.request_models import ReverseTo
from budget_sync.domain.results import Reply
from budget_sync.ledger.expiry import expire_holds

pytestmark = [pytest.mark.both_engines, pytest.mark.usefixtures("company")]

COPIES = 100
ROUNDS = 200


class Case(NamedTuple):
    """A call that moves money. What distinguishes copies of it is in `fields`, or is nothing."""

    verb: str
    fields: dict[str, Any]
    #: The audit rows that it writes.
    rows: int = 1


COMMITTED = {"to": ReverseTo.RESERVED}
KEY = {"key": "k-1"}
REF = {"external_ref": "DOC-1"}
CASES = {
    "reserve": Case("reserve", {"request_id": "new", "amount": 10}),
    "reserve with key": Case("reserve", {"request_id": "new", "amount": 10} | KEY),
    "amend": Case("amend", {"amount": 150}),
    "amend downward": Case("amend", {"amount": 50}),
    "amend with version": Case("amend", {"amount": 150, "if_version": 3}),
    "amend with key": Case("amend", {"amount": 150} | KEY),
    "amend and extend with key": Case("amend", {"amount": 150, "extend": True} | KEY, 2),
    "amend over budget": Case("amend", {"amount": 5000, "over_budget": APPROVED}),
    "move": Case("amend", {"to_budget_id": OTHER}, 2),
    "move of another amount": Case("amend", {"amount": 70, "to_budget_id": OTHER}, 2),
    "move with key": Case("amend", {"to_budget_id": OTHER} | KEY, 2),
    "closing commit": Case("commit", {"amount": 80}),
    "final commit": Case("commit", {"amount": 60, "final": True}, 2),
    "final commit with reference": Case("commit", {"amount": 60, "final": True} | REF, 2),
    "partial commit with key": Case("commit", {"amount": 30} | KEY),
    "partial commit with reference": Case("commit", {"amount": 30} | REF),
    "partial commit with both": Case("commit", {"amount": 30} | REF | KEY),
    "commit beyond the hold": Case("commit", {"amount": 85} | REF),
    "commit over budget": Case("commit", {"amount": 2000, "over_budget": APPROVED} | REF, 2),
    "closing release": Case("release", {"amount": 80}),
    "partial release with key": Case("release", {"amount": 30} | KEY),
    "reversal": Case("reverse", {"amount": 5}),
    "reversal to the hold": Case("reverse", {"amount": 5} | COMMITTED),
    "reversal with key": Case("reverse", {"amount": 5} | KEY),
    "reversal with reference": Case("reverse", {"amount": 5} | REF),
    "spend": Case("spend", {"spend_id": "card", "amount": 5}),
    "overdrawing spend": Case("spend", {"spend_id": "card", "amount": 5000}),
}
#: Those that are replayed after any other movement.
LASTING = {
    name: case
    for name, case in CASES.items()
    if case.fields.keys() & {"key", "external_ref", "spend_id"}
    or case.verb == "reserve"
    or "to_budget_id" in case.fields
}


@pytest.fixture(autouse=True)
def prepared(company: Flask) -> None:
    """The request holds 80 of 100, and has committed 20."""
    set_customer(holdDays=30)
    do("reserve", OVERSPENDER, amount=100)
    do("commit", OVERSPENDER, amount=20)


def call(case: Case) -> Reply:
    """Send the case."""
    return send(case.verb, OVERSPENDER, **case.fields)


def audit_rows() -> int:
    """How many audit rows there are."""
    return len(everything()["AuditLog"])


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Run the calls in one thread each, at the same time; returns results or RequestErrors."""
    start = Barrier(len(calls))

    def run(one: Callable[[], Any]) -> Any:
        start.wait(timeout=60)
        try:
            return one()
        except RequestError as error:
            return error
        finally:
            if ENGINE != "sqlite":
                close_connection()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def patient(one: Callable[[], Any]) -> Any:
    """Run the call again after UNAVAILABLE, as a client does."""
    while True:
        try:
            return one()
        except RequestError as error:
            if error.code is not Code.UNAVAILABLE:
                raise


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_lost_reply_is_replayed(case: Case) -> None:
    before = audit_rows()
    first = call(case)
    assert not first.replayed
    assert audit_rows() == before + case.rows
    for _ in range(2):
        replayed(first, case.verb, OVERSPENDER, **case.fields)


@pytest.mark.parametrize("case", LASTING.values(), ids=LASTING)
def test_reply_is_replayed_after_other_movements(case: Case) -> None:
    first = call(case)
    do("spend", spend_id="later", amount=300)
    request_id = case.fields.get("request_id", "r1")
    budget_id = case.fields.get("to_budget_id", MAIN)
    is_open = Reservation.select().where(
        (Reservation.requestId == request_id) & (Reservation.status == "open")
    )
    if is_open.count():
        do("amend", OVERSPENDER, request_id=request_id, budget_id=budget_id, amount=9)
        do("amend", OVERSPENDER, request_id=request_id, budget_id=budget_id, amount=7)
    if case.fields.get("amount") != 2000:
        do("reverse", OVERSPENDER, amount=1, reason="Another")
    replayed(first, case.verb, OVERSPENDER, **case.fields)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_hundred_copies_at_once_are_one_movement(case: Case) -> None:
    before = audit_rows()
    results = at_once(*[partial(patient, partial(call, case))] * COPIES)
    assert [result for result in results if not isinstance(result, Reply)] == []
    assert len({result.text for result in results}) == 1
    assert Counter(result.replayed for result in results) == {True: COPIES - 1, False: 1}
    assert audit_rows() == before + case.rows


def test_copies_of_partial_commits_without_key_stop_at_the_hold() -> None:
    """Without key and reference, equal partial commits are different invoices."""
    results = at_once(*[partial(send, "commit", amount=8)] * 12)
    replies = [result for result in results if isinstance(result, Reply)]
    # The one that closes the hold is replayed to those after it.
    assert len([reply for reply in replies if not reply.replayed]) == 10
    assert figures() == (0, 10_000)


# Races


@pytest.fixture
def expired() -> Iterator[None]:
    """The hold has expired, but is not released."""
    with time_machine.travel("2055-01-01T00:00:00Z", tick=True):
        yield


RIVALS: dict[str, tuple[Callable[[], Any], str]] = {
    "expiry": (partial(expire_holds, ROOT), "RELEASE"),
    "move": (partial(send, "amend", to_budget_id=OTHER), "TRANSFER"),
    "release": (partial(send, "release", amount=80), "RELEASE"),
    "amend": (partial(send, "amend", amount=10, if_version=3), "AMEND"),
    "another commit": (partial(send, "commit", amount=70, final=True), "COMMIT"),
}


@pytest.mark.parametrize("name", RIVALS)
@pytest.mark.usefixtures("expired")
def test_commit_wins_or_its_rival_but_never_both(name: str) -> None:
    rival, action = RIVALS[name]
    for number in range(10):
        request_id = f"race-{name}-{number}"
        Reservation.update(expiresAt="2055-12-31T00:00:00Z").execute()
        do("spend", spend_id=f"next {number}", amount=1)
        sent = _for_request(rival, request_id)
        with time_machine.travel("2025-01-01T00:00:00Z", tick=True):
            do("reserve", request_id=request_id, amount=80)
        if name == "amend":
            sent = partial(sent, if_version=_version(request_id))
        outcomes = at_once(
            partial(send, "commit", request_id=request_id, amount=75, final=True), sent
        )
        written = [row[0] for row in trail(request_id)]
        if isinstance(outcomes[0], Reply):
            assert written == ["RESERVE", "COMMIT", "RELEASE"]
            assert outcomes[1] == 0 or outcomes[1].code in (
                Code.NO_OPEN_RESERVATION,
                Code.AMOUNT_EXCEEDS_RESERVED,
            )
        else:
            assert outcomes[0].code in (Code.NO_OPEN_RESERVATION, Code.COMMIT_EXCEEDS_RESERVED)
            assert action in written
            # The commit that lost moved nothing.
            assert [row for row in trail(request_id) if row[4] == 7_500] == []


def _for_request(rival: Callable[[], Any], request_id: str) -> Callable[..., Any]:
    if isinstance(rival, partial) and rival.func is send:
        return partial(rival, request_id=request_id)
    return rival


def _version(request_id: str) -> int:
    version: int = Reservation.get(Reservation.requestId == request_id).version
    return version


def test_crossing_moves_do_not_block_each_other() -> None:
    """Moves from A to B and from B to A lock both budgets in one order."""
    do("reserve", request_id="there", amount=100)
    do("reserve", request_id="back", budget_id=OTHER, amount=100)

    def shuttle(request_id: str, budget_id: str, target: str) -> None:
        for _ in range(ROUNDS // 2):
            send("amend", request_id=request_id, budget_id=budget_id, to_budget_id=target)
            send("amend", request_id=request_id, budget_id=target, to_budget_id=budget_id)

    outcomes = at_once(
        partial(shuttle, "there", MAIN, OTHER), partial(shuttle, "back", OTHER, MAIN)
    )
    assert outcomes == [None, None]
    assert (len(movements("there")), len(movements("back"))) == (1 + 2 * ROUNDS, 1 + 2 * ROUNDS)
    assert figures(OTHER) == (10_000, 0)


def test_amendments_up_and_down_never_oversell() -> None:
    for number in range(4):
        do("reserve", request_id=f"w{number}", amount=100)

    def change(number: int) -> int:
        largest = 0
        for amount in (700, 100, 400, 50, 500, 100):
            try:
                send("amend", request_id=f"w{number}", amount=amount)
            except RequestError as error:
                assert error.code is Code.INSUFFICIENT_BUDGET  # noqa: PT017  # any other is a bug
            reserved, committed = figures()
            largest = max(largest, reserved + committed)
        return largest

    assert max(at_once(*[partial(change, number) for number in range(4)])) <= 100_000


def test_reserve_after_a_check_races_with_a_move_back() -> None:
    do("amend", to_budget_id=OTHER)
    check(JANE, 100)
    outcomes = at_once(
        partial(send, "reserve", amount=100),
        partial(send, "amend", budget_id=OTHER, to_budget_id=MAIN),
    )
    held = [isinstance(outcome, Reply) for outcome in outcomes]
    assert held.count(True) >= 1
    assert (
        Reservation.select()
        .where((Reservation.budgetId == MAIN) & (Reservation.status == "open"))
        .count()
        == 1
    )
