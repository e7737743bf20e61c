"""amend: change the amount of a hold, move it to another budget, extend it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from support.machine import sqlite_only
from support.purchases import (
    ACME,
    APPROVED,
    EURO,
    FIONA,
    FOREIGN,
    FOREIGN_SERVICE,
    FRED,
    GLOBAL,
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
    set_customer,
    soft_delete,
    trail,
    values,
)
from support.world import ROOT

from budget_sync import manual_budgets
from budget_sync.database import db
from budget_sync.database.models import Reservation
from budget_sync.domain.errors import Code
from budget_sync.domain.permissions import ANONYMOUS, Actor
from budget_sync.ledger import past_movements

pytestmark = [pytest.mark.both_engines, pytest.mark.usefixtures("company")]


def stored(budget_id: str = MAIN) -> Any:
    """The latest reservation of REQUEST on the budget."""
    return (
        Reservation.select()
        .where((Reservation.budgetId == budget_id) & (Reservation.requestId == REQUEST))
        .order_by(Reservation.seq.desc())
        .get()
    )


# The amount


@pytest.mark.parametrize(
    ("amount", "reserved", "action"),
    [(150, 15_000, "AMEND"), (40, 4_000, "AMEND"), ("0.01", 1, "AMEND"), (1000, 100_000, "AMEND")],
)
def test_amount_becomes_the_total_held(amount: object, reserved: int, action: str) -> None:
    do("reserve", amount=100, user_id="jane")
    reply = do("amend", amount=amount)
    assert reply == {
        "success": True,
        "reservationId": stored().id,
        "budgetId": MAIN,
        "requestId": REQUEST,
        "previousAmount": 100,
        "amountReserved": Decimal(str(amount)),
        "newAvailable": 1000 - Decimal(str(amount)),
        "version": 3,
    }
    assert figures() == (reserved, 0)
    assert (stored().heldMinor, stored().amountMinor, stored().version) == (reserved, 10_000, 3)
    assert trail()[1:] == [(action, "100", str(amount), reserved - 10_000, 0)]
    row = movements()[-1]
    assert (row.changedBy, row.onBehalfOf, row.reason, row.subject, row.reservationId) == (
        "erp (service)",
        "Jane (jane@example.com)",
        "The price changed",
        "jane",
        stored().id,
    )
    assert (row.approvedBy, row.transferId) == (None, None)


@pytest.mark.parametrize(
    ("currency", "first", "second", "left"),
    [
        ("JPY", "500", "501", "499"),
        ("KWD", "0.5", "0.501", "999.499"),
        ("CLF", "0.0002", "0.0001", "999.9999"),
    ],
)
def test_amounts_are_exact_in_every_currency(
    currency: str, first: str, second: str, left: str
) -> None:
    manual_budgets.set_budget(
        ROOT, ACME, "Far", "Q1 2025", Decimal(1000), budget_id="far", currency=currency
    )
    do("reserve", budget_id="far", amount=first)
    reply = do("amend", budget_id="far", amount=second)
    assert (reply["previousAmount"], reply["amountReserved"], reply["newAvailable"]) == (
        Decimal(first),
        Decimal(second),
        Decimal(left),
    )
    assert trail()[-1][1:3] == (first, second)
    if currency != "CLF":  # No currency has more decimals.
        finer = f"{second}1" if "." in second else f"{second}.1"
        error = rejected("amend", Code.INVALID_REQUEST, budget_id="far", amount=finer)
        assert list(error.fields) == ["amount"]


def test_same_amount_moves_nothing() -> None:
    do("reserve", amount=100)
    reply = do("amend", amount=100)
    assert (reply["previousAmount"], reply["amountReserved"], reply["version"]) == (100, 100, 2)
    assert len(movements()) == 1


def test_more_than_available_is_rejected() -> None:
    do("reserve", amount=100)
    do("reserve", request_id="r2", amount=850)
    error = rejected("amend", Code.INSUFFICIENT_BUDGET, amount="150.01")
    assert (error.facts["available"], error.facts["shortfall"]) == (50, Decimal("0.01"))
    assert do("amend", amount=150)["newAvailable"] == 0


def test_approval_raises_the_hold_over_budget() -> None:
    do("reserve", amount=100, user_id="jane")
    reply = do("amend", OVERSPENDER, amount=1500, over_budget=APPROVED)
    assert (reply["amountReserved"], reply["newAvailable"]) == (1500, -500)
    assert trail()[-1] == ("OVER_BUDGET", "100", "1500", 140_000, 0)
    row = movements()[-1]
    assert (row.approvedBy, row.reason) == ("Fiona (fiona@example.com)", "The board insists")
    # Downward, the approval is not needed and not recorded.
    do("amend", OVERSPENDER, amount=50, over_budget=APPROVED)
    assert (movements()[-1].action, movements()[-1].approvedBy) == ("AMEND", None)


def test_approved_amount_stays_below_the_ceiling() -> None:
    do("reserve", amount=100)
    do("spend", FIONA, amount=9_999_999_999_000)
    rejected("amend", Code.AMOUNT_TOO_LARGE, OVERSPENDER, amount=1500, over_budget=APPROVED)


def test_upward_needs_a_live_budget_and_downward_does_not() -> None:
    do("reserve", amount=100)
    soft_delete()
    rejected("amend", Code.BUDGET_DELETED, amount=101)
    rejected("amend", Code.BUDGET_DELETED, OVERSPENDER, amount=101, over_budget=APPROVED)
    assert do("amend", amount=60)["amountReserved"] == 60


def test_amend_without_open_reservation() -> None:
    rejected("amend", Code.REQUEST_NOT_FOUND, amount=1)
    check(JANE, 10)
    rejected("amend", Code.NO_OPEN_RESERVATION, amount=1)
    do("reserve", amount=100)
    do("release", amount=100)
    rejected("amend", Code.NO_OPEN_RESERVATION, amount=1)


def test_partly_committed_hold_is_amended() -> None:
    do("reserve", amount=100)
    do("commit", amount=30)
    assert do("amend", amount=200)["previousAmount"] == 70
    assert figures() == (20_000, 3_000)
    do("commit", amount=200)
    assert figures() == (0, 23_000)


# Versions


def test_stale_version_is_rejected() -> None:
    do("reserve", amount=100)
    first = do("amend", amount=120)["version"]
    do("release", amount=20)
    error = rejected("amend", Code.AMEND_OUT_OF_DATE, amount=130, if_version=first)
    assert error.facts == {
        "reservationId": stored().id,
        "version": stored().version,
        "amountHeld": 100,
    }
    assert do("amend", amount=130, if_version=stored().version)["amountReserved"] == 130


def test_replay_with_a_version_needs_the_version_before_it() -> None:
    do("reserve", amount=100)
    first = send("amend", amount=120, if_version=2)
    replayed(first, "amend", amount=120, if_version=2)
    do("amend", amount=130)
    do("amend", amount=120)
    # Another caller set the same amount later: the first amendment is not the latest change.
    rejected("amend", Code.AMEND_OUT_OF_DATE, amount=120, if_version=2)


@sqlite_only
def test_version_before_is_found_by_the_request() -> None:
    # A budget may have very many movements between two of a reservation.
    query = past_movements._VERSION_BEFORE.compiled(db.obj)  # noqa: SLF001
    plan = db.execute_sql(f"EXPLAIN QUERY PLAN {query.sql}", [""] * len(query.names)).fetchall()
    assert ["AuditLog_request" in row[-1] for row in plan] == [True]


def test_late_duplicate_of_the_reserve_is_replayed() -> None:
    first = send("reserve", amount=100)
    do("amend", amount=300)
    replayed(first, "reserve", amount=100)
    rejected("reserve", Code.REQUEST_CONFLICT, amount=300)


# Moves


@pytest.mark.parametrize(("amount", "moved"), [(None, 100), (250, 250), (40, 40)])
def test_move_keeps_requester_and_age(amount: int | None, moved: int) -> None:
    with time_machine.travel("2025-01-10T08:00:00Z", tick=False):
        do("reserve", FIONA, amount=100, user_id="jane")
    old = stored()
    reply = do("amend", FIONA, amount=amount, to_budget_id=OTHER)
    new = stored(OTHER)
    assert reply == {
        "success": True,
        "reservationId": new.id,
        "budgetId": OTHER,
        "requestId": REQUEST,
        "previousAmount": 100,
        "amountReserved": moved,
        "newAvailable": 1000 - moved,
        "version": 2,
    }
    assert (figures(), figures(OTHER)) == ((0, 0), (moved * 100, 0))
    assert (new.requesterId, new.requesterName, new.createdAt) == (
        old.requesterId,
        old.requesterName,
        old.createdAt,
    )
    assert new.id != old.id
    assert stored().status == "closed"
    assert trail()[1:] == [
        ("TRANSFER", "100", "0", -10_000, 0),
        ("TRANSFER", "0", str(moved), moved * 100, 0),
    ]
    rows = movements()[1:]
    assert len({row.transferId for row in rows}) == 1
    assert rows[0].transferId is not None
    assert [row.budgetId for row in rows] == [MAIN, OTHER]
    assert {(row.changedBy, row.onBehalfOf, row.reason) for row in rows} == {
        ("Fiona (fiona@example.com)", "Jane (jane@example.com)", "The price changed")
    }


def test_moves_have_different_transfer_ids() -> None:
    do("reserve", amount=100)
    do("amend", to_budget_id=OTHER)
    do("amend", budget_id=OTHER, to_budget_id=MAIN)
    ids = [row.transferId for row in movements() if row.transferId]
    assert (len(ids), len(set(ids))) == (4, 2)
    assert stored().status == "open"
    assert (figures(), figures(OTHER)) == ((10_000, 0), (0, 0))


def test_move_over_budget_names_the_approver() -> None:
    do("reserve", amount=100, user_id="jane")
    rejected("amend", Code.INSUFFICIENT_BUDGET, OVERSPENDER, amount=1001, to_budget_id=OTHER)
    do("amend", OVERSPENDER, amount=1001, to_budget_id=OTHER, over_budget=APPROVED)
    rows = movements()[1:]
    assert [(row.action, row.approvedBy) for row in rows] == [
        ("TRANSFER", None),
        ("OVER_BUDGET", "Fiona (fiona@example.com)"),
    ]
    assert rows[0].transferId == rows[1].transferId is not None


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("unknown", Code.BUDGET_NOT_FOUND),
        (FOREIGN, Code.BUDGET_NOT_FOUND),
        (EURO, Code.INVALID_REQUEST),
    ],
)
@pytest.mark.parametrize("by", [SERVICE, GLOBAL], ids=["one customer", "all customers"])
def test_target_must_be_of_same_customer_and_currency(by: Actor, target: str, code: Code) -> None:
    do("reserve", amount=100)
    rejected("amend", code, by, to_budget_id=target)


def test_move_from_an_unknown_or_foreign_budget() -> None:
    do("reserve", GLOBAL, budget_id=FOREIGN, amount=100)
    for budget_id in ("unknown", FOREIGN):
        rejected("amend", Code.BUDGET_NOT_FOUND, budget_id=budget_id, to_budget_id=MAIN)
    rejected("amend", Code.BUDGET_NOT_FOUND, FOREIGN_SERVICE, to_budget_id=FOREIGN)


def test_deleted_budget_can_be_left_but_not_entered() -> None:
    do("reserve", amount=100)
    soft_delete(OTHER)
    rejected("amend", Code.BUDGET_DELETED, to_budget_id=OTHER)
    rejected("amend", Code.BUDGET_DELETED, OVERSPENDER, to_budget_id=OTHER, over_budget=APPROVED)
    soft_delete()
    manual_budgets.set_budget(ROOT, ACME, "Sales", "Q1 2025", Decimal(1000), budget_id="sales")
    assert do("amend", to_budget_id="sales")["budgetId"] == "sales"


def test_target_that_holds_money_of_the_request() -> None:
    do("reserve", amount=100)
    do("reserve", budget_id=OTHER, amount=30)
    error = rejected("amend", Code.REQUEST_CONFLICT, to_budget_id=OTHER)
    assert error.facts == {"budgetId": OTHER, "amountHeld": 30}
    do("release", budget_id=OTHER, amount=30)
    do("amend", to_budget_id=OTHER)
    assert figures(OTHER) == (10_000, 0)


def test_committed_money_stays_on_the_old_budget() -> None:
    do("reserve", amount=100)
    do("commit", amount=40)
    do("amend", to_budget_id=OTHER)
    do("commit", budget_id=OTHER, amount=60)
    assert (figures(), figures(OTHER)) == ((0, 4_000), (0, 6_000))


@pytest.mark.parametrize(
    ("verb", "code"),
    [
        ("commit", Code.NO_OPEN_RESERVATION),
        ("amend", Code.NO_OPEN_RESERVATION),
        ("release", Code.AMOUNT_EXCEEDS_RESERVED),
    ],
)
def test_old_budget_names_the_new_one(verb: str, code: Code) -> None:
    do("reserve", amount=100)
    do("amend", to_budget_id=OTHER)
    assert rejected(verb, code, amount=50).facts["movedToBudgetId"] == OTHER


def test_move_sent_again_is_replayed() -> None:
    do("reserve", amount=100)
    first = send("amend", amount=200, to_budget_id=OTHER)
    do("amend", budget_id=OTHER, amount=300)
    replayed(first, "amend", amount=200, to_budget_id=OTHER)
    rejected("amend", Code.NO_OPEN_RESERVATION, amount=201, to_budget_id=OTHER)


def test_late_reserve_after_a_move_is_replayed_while_held() -> None:
    first = send("reserve", amount=100)
    do("amend", to_budget_id=OTHER)
    replayed(first, "reserve", amount=100)
    rejected("reserve", Code.RESERVATION_CLOSED, amount=99)
    manual_budgets.set_budget(ROOT, ACME, "Sales", "Q1 2025", Decimal(1000), budget_id="sales")
    do("amend", budget_id=OTHER, to_budget_id="sales")
    replayed(first, "reserve", amount=100)
    # After the release, a success would be false: nothing is held.
    do("release", budget_id="sales", amount=100)
    rejected("reserve", Code.RESERVATION_CLOSED, amount=100)


def test_new_check_allows_a_second_reservation_after_a_move() -> None:
    first = do("reserve", amount=100)
    do("amend", to_budget_id=OTHER)
    check(JANE, 100)
    assert do("reserve", amount=100)["reservationId"] != first["reservationId"]
    assert (figures(), figures(OTHER)) == ((10_000, 0), (10_000, 0))


# Expiry


def test_extension_renews_the_expiry() -> None:
    set_customer(holdDays=30)
    with time_machine.travel("2025-01-10T08:00:00Z", tick=False):
        assert do("reserve", amount=100)["expiresAt"] == "2025-02-09T08:00:00Z"
    with time_machine.travel("2025-02-01T08:00:00Z", tick=False):
        assert do("amend", amount=90)["expiresAt"] == "2025-02-09T08:00:00Z"
        reply = do("amend", FIONA, extend=True)
        assert (reply["expiresAt"], reply["amountReserved"]) == (
            "2025-03-03T08:00:00Z",
            90,
        )
    row = movements()[-1]
    assert (row.action, row.field, row.oldValue, row.newValue, row.version) == (
        "EXTEND",
        "expiresAt",
        "2025-02-09T08:00:00Z",
        "2025-03-03T08:00:00Z",
        stored().version,
    )
    assert (row.changedBy, row.onBehalfOf) == ("Fiona (fiona@example.com)", "erp")
    assert figures() == (9_000, 0)


def test_extension_and_amount_in_one_call() -> None:
    set_customer(holdDays=1)
    do("reserve", amount=100)
    reply = do("amend", amount=150, extend=True)
    assert [row.action for row in movements()] == ["RESERVE", "AMEND", "EXTEND"]
    assert reply["version"] == stored().version == 4
    # Again, it extends again, but moves no money.
    again = do("amend", amount=150, extend=True)
    assert (again["previousAmount"], figures()) == (150, (15_000, 0))


def test_move_keeps_or_renews_the_expiry() -> None:
    set_customer(holdDays=10)
    with time_machine.travel("2025-01-10T08:00:00Z", tick=False) as travel:
        first = do("reserve", amount=100)["expiresAt"]
        travel.shift(timedelta(days=1))
        assert do("amend", to_budget_id=OTHER)["expiresAt"] == first
        reply = do("amend", budget_id=OTHER, to_budget_id=MAIN, extend=True)
        assert reply["expiresAt"] == "2025-01-21T08:00:00Z"


def test_hold_without_days_is_not_extended() -> None:
    do("reserve", amount=100)
    assert "expiresAt" not in do("amend", extend=True)
    assert len(movements()) == 1


@pytest.mark.parametrize("fields", [{}, {"to_budget_id": OTHER}], ids=["stays", "moves"])
def test_extension_removes_the_expiry_if_holds_no_longer_expire(fields: dict[str, Any]) -> None:
    set_customer(holdDays=10)
    do("reserve", amount=100)
    set_customer(holdDays=None)
    reply = do("amend", extend=True, **fields)
    assert "expiresAt" not in reply
    assert stored(reply["budgetId"]).expiresAt is None


# Callers


def test_ordinary_user_amends_only_their_own_reservation() -> None:
    check(JANE, 200)
    do("reserve", JANE, amount=100)
    for fields in ({"amount": 50}, {"to_budget_id": OTHER}, {"extend": True}):
        rejected("amend", Code.NOT_YOUR_REQUEST, MARK, **fields)
    rejected("amend", Code.NOT_YOUR_REQUEST, JANE, request_id="another", amount=50)
    do("amend", JANE, amount=200)
    row = movements()[-1]
    assert (row.changedBy, row.onBehalfOf) == ("Jane (jane@example.com)", None)


def test_ordinary_user_needs_a_check_of_the_new_amount() -> None:
    check(JANE, 200)
    do("reserve", JANE, amount=100)
    rejected("amend", Code.CHECK_REQUIRED, JANE, amount="200.01")
    do("amend", JANE, amount=50)
    rejected("amend", Code.CHECK_REQUIRED, JANE, to_budget_id=OTHER)
    check(JANE, 49, "Marketing")
    rejected("amend", Code.CHECK_REQUIRED, JANE, to_budget_id=OTHER)
    rejected("amend", Code.CHECK_REQUIRED, JANE, amount=60, to_budget_id=OTHER)
    check(JANE, 60, "Marketing")
    assert do("amend", JANE, amount=60, to_budget_id=OTHER)["amountReserved"] == 60


def test_ordinary_user_learns_nothing_of_other_holders() -> None:
    """As for reserve: another user's hold of the request is no concern of the caller."""
    check(JANE, 200)
    check(JANE, 200, "Marketing")
    do("reserve", JANE, amount=100)
    do("reserve", FIONA, budget_id=OTHER, amount=77, user_id="mark")
    error = rejected("amend", Code.NOT_YOUR_REQUEST, JANE, to_budget_id=OTHER)
    assert error.facts == {"requestId": REQUEST}


def test_ordinary_user_cannot_overspend() -> None:
    check(JANE, 200)
    do("reserve", JANE, amount=100)
    for by in (JANE, SERVICE):
        rejected("amend", Code.OVERSPEND_NOT_ALLOWED, by, amount=150, over_budget=APPROVED)


@pytest.mark.parametrize("fields", [{"amount": 5000}, {"to_budget_id": OTHER}])
def test_approver_is_not_the_requester(fields: dict[str, Any]) -> None:
    do("reserve", FIONA, amount=100)
    rejected("amend", Code.OVERSPEND_NOT_ALLOWED, FIONA, over_budget=APPROVED, **fields)
    rejected("amend", Code.OVERSPEND_NOT_ALLOWED, FRED, over_budget=APPROVED, **fields)
    rejected("amend", Code.OVERSPEND_NOT_ALLOWED, OVERSPENDER, over_budget=APPROVED, **fields)


def test_service_for_all_customers() -> None:
    do("reserve", GLOBAL, amount=100)
    rejected("amend", Code.BUDGET_NOT_FOUND, GLOBAL, amount=50, customer_id=GLOBEX)
    rejected("amend", Code.INVALID_CUSTOMER, SERVICE, amount=50, customer_id=GLOBEX)
    assert do("amend", GLOBAL, amount=50)["amountReserved"] == 50
    assert do("amend", GLOBAL, to_budget_id=OTHER, customer_id=ACME)["amountReserved"] == 50


# The order of errors


@pytest.mark.parametrize(
    ("by", "fields", "code"),
    [
        (JANE, {"customer_id": GLOBEX}, Code.INVALID_CUSTOMER),
        (ANONYMOUS, {}, Code.INVALID_REQUEST),
        (ANONYMOUS, {"amount": 1}, Code.FORBIDDEN),
        (JANE, {"budget_id": "unknown", "amount": 1}, Code.BUDGET_NOT_FOUND),
        (JANE, {"amount": 1}, Code.NOT_YOUR_REQUEST),
        (SERVICE, {"amount": "0.001"}, Code.INVALID_REQUEST),
    ],
)
def test_order_of_errors(by: Actor, fields: dict[str, Any], code: Code) -> None:
    do("reserve", amount=100)
    rejected("amend", code, by, **fields)


def test_approval_is_authorized_before_a_replay() -> None:
    do("reserve", FIONA, amount=100, user_id="jane")
    send("amend", FRED, key="k", amount=150)
    approved_by_another = {"over_budget": APPROVED, "amount": 150}
    rejected("amend", Code.OVERSPEND_NOT_ALLOWED, FRED, key="k", **approved_by_another)
    rejected(
        "amend", Code.IDEMPOTENCY_KEY_REUSED, FRED, key="k", amount=150, reason="Another reason"
    )


def test_nothing_to_change_is_rejected() -> None:
    do("reserve", amount=100)
    error = rejected("amend", Code.INVALID_REQUEST)
    assert list(error.fields) == ["amount"]
    assert values(send("amend", amount=100))["amountReserved"] == 100
