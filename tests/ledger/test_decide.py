"""approve and decline: FP&A decides about requests that wait."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any

import pytest
import time_machine
from flask import Flask
from support.machine import ENGINE
from support.purchases import (
    ACME,
    APPROVED,
    FIONA,
    FRED,
    GLOBEX,
    JANE,
    MAIN,
    MARK,
    OTHER,
    OVERSPENDER,
    REQUEST,
    SERVICE,
    check,
    do,
    figures,
    movements,
    rejected,
    replayed,
    send,
    soft_delete,
    trail,
    values,
)
from support.world import ROOT

from budget_sync.database import close_connection
from budget_sync.database.models import AuditLog, BudgetCheckLog, Reservation
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import ANONYMOUS, Actor, Role
from budget_sync.ledger import undecided, verification
from budget_sync.ledger.decline import current_decline, uncovered_check

pytestmark = [pytest.mark.both_engines, pytest.mark.usefixtures("company")]

#: How many callers send a call at once.
COPIES = 30


def asks(amount: object, by: Actor = SERVICE, **fields: Any) -> None:
    """Check REQUEST for Jane, as the orchestrator does."""
    check_for: dict[str, Any] = {
        "user_id": "jane",
        "user_name": "Jane",
        "user_email": "jane@example.com",
    }
    body = {"customer_id": ACME, "department": "Engineering", "fiscal_period": "Q1 2025"}
    send("check", by, **(body | check_for | {"amount": amount, "budget_id": None} | fields))


def waits() -> list[str]:
    """The budgets on which an open reservation of REQUEST waits for approval."""
    rows = Reservation.select(Reservation.budgetId).where(undecided.waits_for_approval())
    return [row.budgetId for row in rows.order_by(Reservation.seq)]


def uncovered() -> str | None:
    """The code of the check because of which REQUEST waits for a decision."""
    found = uncovered_check(ACME, REQUEST)
    return None if found is None else str(found.code)


@pytest.fixture
def waiting(company: Flask) -> None:
    """The request holds 600 and waits for approval."""
    asks(600)
    do("reserve", amount=600)


# Approve


def test_approval_moves_no_money_and_ends_the_wait(waiting: None) -> None:
    assert waits() == [MAIN]
    reply = do("approve", FIONA, reason="Fits the plan")
    stored = Reservation.get()
    assert reply == {
        "success": True,
        "reservationId": stored.id,
        "budgetId": MAIN,
        "requestId": REQUEST,
        "amountHeld": 600,
        "version": 3,
    }
    assert waits() == []
    assert figures() == (60_000, 0)
    assert trail()[1:] == [("APPROVE", "600", "600", 0, 0)]
    row = movements()[-1]
    assert (row.changedBy, row.onBehalfOf, row.reason, row.subject, row.reservationId) == (
        "Fiona (fiona@example.com)",
        "Jane (jane@example.com)",
        "Fits the plan",
        "jane",
        stored.id,
    )
    assert (stored.version, stored.approvedMinor, stored.approvedAfterCheck) == (
        3,
        60_000,
        BudgetCheckLog.get().id,
    )
    assert verification.verify().findings == []


def test_approval_needs_no_reason(waiting: None) -> None:
    do("approve", FRED)
    assert movements()[-1].reason == "Request approved"


def test_second_approval_is_a_replay(waiting: None) -> None:
    first = send("approve", FIONA, key="k")
    replayed(first, "approve", FIONA, key="k")
    replayed(first, "approve", FIONA)
    replayed(first, "approve", FRED, if_version=2)


def test_higher_amount_waits_again_after_a_newer_check(waiting: None) -> None:
    do("approve", FIONA)
    do("amend", FIONA, amount=650)
    assert waits() == []
    asks(700)
    assert waits() == [MAIN]
    do("amend", amount=600)
    assert waits() == []
    do("amend", amount=700)
    assert waits() == [MAIN]
    do("approve", FIONA)
    assert waits() == []


def test_check_before_the_approval_does_not_cover_more(waiting: None) -> None:
    asks(900)
    do("approve", FIONA)
    assert waits() == []
    do("amend", amount=900)
    assert waits() == [MAIN]


def test_newer_check_is_by_sequence_if_the_clock_jumps(waiting: None) -> None:
    do("approve", FIONA)
    with time_machine.travel("2020-01-01", tick=False):
        asks(700)
    do("amend", amount=700)
    assert waits() == [MAIN]


def test_committed_money_counts_as_approved(waiting: None) -> None:
    do("approve", FIONA)
    do("commit", amount=400)
    asks(600)
    assert waits() == []
    do("amend", amount=600)
    assert waits() == [MAIN]


def test_moved_reservation_keeps_its_approval(waiting: None) -> None:
    do("approve", FIONA)
    do("amend", to_budget_id=OTHER)
    assert waits() == []
    assert verification.verify().findings == []
    asks(900, department="Marketing")
    do("amend", budget_id=OTHER, amount=900)
    assert waits() == [OTHER]


def test_reservation_of_another_round_waits(waiting: None) -> None:
    do("approve", FIONA)
    do("release", amount=600)
    asks(600)
    do("reserve", amount=600)
    assert waits() == [MAIN]


@pytest.mark.parametrize("by", [JANE, MARK, SERVICE, OVERSPENDER, ANONYMOUS], ids=str)
def test_only_fpa_decides(waiting: None, by: Actor) -> None:
    rejected("approve", Code.FORBIDDEN, by)
    rejected("decline", Code.FORBIDDEN, by)


def test_requester_cannot_approve(company: Flask) -> None:
    check(FIONA, 600)
    do("reserve", amount=600)
    rejected("approve", Code.FORBIDDEN, FIONA)
    do("approve", FRED)


def test_user_who_checked_for_themselves_cannot_approve(waiting: None) -> None:
    check(FRED, 100)
    rejected("approve", Code.FORBIDDEN, FRED)
    do("approve", FIONA)


def test_decision_of_another_customer_is_not_found(waiting: None) -> None:
    stranger = Actor("user:g", "g", "G", "g@example.com", Role.FPA_ADMIN, GLOBEX)
    rejected("approve", Code.BUDGET_NOT_FOUND, stranger)
    rejected("approve", Code.INVALID_CUSTOMER, stranger, customer_id=ACME)
    rejected("decline", Code.INVALID_CUSTOMER, stranger)


@pytest.mark.parametrize("verb", ["commit", "release"])
def test_approval_after_the_money_is_gone_is_rejected(waiting: None, verb: str) -> None:
    do(verb, amount=600)
    rejected("approve", Code.NO_OPEN_RESERVATION, FIONA)


def test_approval_of_an_older_version_is_rejected(waiting: None) -> None:
    do("amend", amount=700)
    rejected("approve", Code.AMEND_OUT_OF_DATE, FIONA, if_version=2)
    do("approve", FIONA, if_version=3)


def test_request_that_does_not_wait_is_not_approved(company: Flask) -> None:
    rejected("approve", Code.NO_OPEN_RESERVATION, FIONA)
    asks(5)
    do("reserve", amount=5)
    rejected("approve", Code.REQUEST_CONFLICT, FIONA)


def test_amend_after_the_approval_is_no_replay(waiting: None) -> None:
    do("amend", amount=650)
    do("approve", FIONA)
    again = do("amend", amount=650)
    assert (again["previousAmount"], again["amountReserved"]) == (650, 650)
    assert [row.action for row in movements()] == ["RESERVE", "AMEND", "APPROVE"]


# Decline


def test_decline_ends_the_wait_with_an_audit_row(company: Flask) -> None:
    asks(5000)
    assert uncovered() == "INSUFFICIENT_BUDGET"
    checked = BudgetCheckLog.get()
    reply = do("decline", FIONA, check_id=checked.checkId, reason="Not this quarter")
    assert reply == {"success": True, "requestId": REQUEST, "budgetId": MAIN, "declined": True}
    assert uncovered() is None
    assert trail() == [("DECLINE", None, "5000", 0, 0)]
    row = movements()[0]
    assert (row.budgetId, row.version, row.reason, row.subject, row.afterCheck) == (
        MAIN,
        2,
        "Not this quarter",
        "jane",
        checked.id,
    )
    assert (row.changedBy, row.onBehalfOf) == (
        "Fiona (fiona@example.com)",
        "Jane (jane@example.com)",
    )
    assert verification.verify().findings == []


def test_request_without_a_budget_can_be_declined(company: Flask) -> None:
    asks(70, department="Enginering")
    assert uncovered() == "NO_BUDGET"
    assert do("decline", FIONA)["budgetId"] is None
    assert uncovered() is None
    assert (movements()[0].budgetId, movements()[0].version) == (None, None)
    assert verification.verify().findings == []


def test_deleted_budget_does_not_prevent_a_decline(company: Flask) -> None:
    asks(5000)
    soft_delete()
    do("decline", FIONA)
    assert uncovered() is None


def test_second_decline_is_a_replay(company: Flask) -> None:
    asks(5000)
    first = send("decline", FIONA, key="k")
    replayed(first, "decline", FIONA, key="k")
    replayed(first, "decline", FRED, reason="Me too")


@pytest.mark.parametrize("department", ["Engineering", "Nowhere"])
def test_newer_check_opens_a_declined_request(company: Flask, department: str) -> None:
    asks(5000, department=department)
    do("decline", FIONA)
    asks(5000, department=department)
    assert uncovered()
    assert current_decline(ACME, REQUEST) is None
    do("decline", FIONA)
    assert uncovered() is None


@pytest.mark.parametrize("by", [MARK, ANONYMOUS], ids=["another user", "anonymous"])
def test_check_of_another_sender_does_not_open_it(company: Flask, by: Actor) -> None:
    asks(5000)
    do("decline", FIONA)
    fields = {"user_id": "mark", "user_name": "M", "user_email": "m@example.com"}
    asks(5, by, **fields)
    assert current_decline(ACME, REQUEST)


def test_decline_is_only_for_the_check_that_was_shown(company: Flask) -> None:
    asks(5000)
    shown = BudgetCheckLog.get().checkId
    asks(7000)
    error = rejected("decline", Code.REQUEST_CONFLICT, FIONA, check_id=shown)
    assert "checked again" in error.sentence
    assert uncovered()


def test_covered_or_held_request_is_not_declined(company: Flask) -> None:
    rejected("decline", Code.REQUEST_CONFLICT, FIONA)
    asks(5000)
    do("reserve", OVERSPENDER, amount=5000, over_budget=APPROVED)
    error = rejected("decline", Code.REQUEST_CONFLICT, FIONA)
    assert "Reject the reservation" in error.sentence


def test_release_of_a_declined_request_says_so(company: Flask) -> None:
    asks(5000)
    before = rejected("release", Code.AMOUNT_EXCEEDS_RESERVED, amount=5000)
    do("decline", FIONA, reason="Too much")
    error = rejected("release", Code.AMOUNT_EXCEEDS_RESERVED, amount=5000)
    assert error.sentence == f"{before.sentence} FP&A has declined the request."
    decision = error.facts.pop("decision")
    assert error.facts == before.facts | {"declined": True}
    assert isinstance(decision, dict)
    assert (decision["decision"], decision["by"], decision["reason"]) == (
        "declined",
        "Fiona (fiona@example.com)",
        "Too much",
    )
    asks(5000)
    assert "declined" not in rejected("release", Code.AMOUNT_EXCEEDS_RESERVED, amount=5000).facts


def test_reservation_after_the_decline_is_released_as_usual(company: Flask) -> None:
    asks(5000)
    do("decline", FIONA)
    do("reserve", amount=100)
    first = send("release", amount=100)
    assert values(first)["amountReleased"] == 100
    replayed(first, "release", amount=100)
    assert "declined" not in rejected("release", Code.AMOUNT_EXCEEDS_RESERVED, amount=50).facts


def test_spend_with_the_id_of_a_declined_request_verifies(company: Flask) -> None:
    do("spend", spend_id=REQUEST, amount=5)
    asks(5000)
    do("decline", FIONA)
    assert verification.verify().findings == []


def test_verify_finds_an_approval_without_its_row(waiting: None) -> None:
    Reservation.update(approvedMinor=60_000, approvedAfterCheck=1).execute()
    (finding,) = verification.verify().findings
    Reservation.update(approvedMinor=None, approvedAfterCheck=None).execute()
    assert "approved without an audit row" in finding


def test_operator_may_decide(waiting: None) -> None:
    do("approve", ROOT)
    assert AuditLog.select().where(AuditLog.action == "APPROVE").count() == 1


# Sent by many at once


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


def test_many_approvals_at_once_are_one(waiting: None) -> None:
    replies = at_once(*[partial(patient, partial(send, "approve", FIONA))] * COPIES)
    assert sum(not reply.replayed for reply in replies) == 1
    assert len({reply.text for reply in replies}) == 1
    assert [row.action for row in movements()] == ["RESERVE", "APPROVE"]


@pytest.mark.parametrize("department", ["Engineering", "Nowhere"])
def test_many_declines_at_once_are_one(company: Flask, department: str) -> None:
    asks(5000, department=department)
    replies = at_once(*[partial(patient, partial(send, "decline", FIONA))] * COPIES)
    assert sum(not reply.replayed for reply in replies) == 1
    assert [row.action for row in movements()] == ["DECLINE"]


@pytest.mark.parametrize("verb", ["commit", "release"])
def test_approval_races_with_the_end_of_the_hold(waiting: None, verb: str) -> None:
    one, other = at_once(
        partial(patient, partial(send, "approve", FIONA)),
        partial(patient, partial(send, verb, amount=600)),
    )
    assert not isinstance(other, RequestError)
    assert getattr(one, "code", None) in (None, Code.NO_OPEN_RESERVATION)
    assert verification.verify().findings == []


def test_decline_races_with_an_approval_over_budget(company: Flask) -> None:
    asks(5000)
    over: dict[str, Any] = {"amount": 5000, "over_budget": APPROVED, "user_id": "jane"}
    declined, _ = at_once(
        partial(patient, partial(send, "decline", FIONA)),
        partial(patient, partial(send, "reserve", OVERSPENDER, **over)),
    )
    is_held = isinstance(declined, RequestError)
    assert [row.action for row in movements()] == ["OVER_BUDGET"] if is_held else True
    # If both happen, the reserve came last, and the request is held.
    assert uncovered() is None
    assert verification.verify().findings == []
