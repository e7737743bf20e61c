"""reverse: committed money returns to the budget or to the hold."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import time_machine
from support.purchases import (
    ACME,
    FIONA,
    FOREIGN,
    FOREIGN_SERVICE,
    GLOBAL,
    GLOBEX,
    JANE,
    MAIN,
    MARK,
    OTHER,
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
)
from support.world import ROOT

from budget_sync import manual_budgets
from budget_sync.database.models import Reservation, Spend
from budget_sync.domain.errors import Code
from budget_sync.domain.permissions import ANONYMOUS, Actor
from budget_sync.domain.request_models import ReverseTo

pytestmark = [pytest.mark.both_engines, pytest.mark.usefixtures("company")]

HOLD: dict[str, Any] = {"to": ReverseTo.RESERVED}


def commit_all(amount: object = 100, **fields: Any) -> None:
    """Reserve and commit an amount for REQUEST."""
    do("reserve", amount=amount, user_id="jane", **fields)
    do("commit", amount=amount, **fields)


def commit_again(amount: int) -> None:
    """Check REQUEST again, then reserve and commit."""
    check(JANE, amount)
    commit_all(amount)


def reservations() -> list[Any]:
    """All reservations of REQUEST, the oldest first."""
    return list(
        Reservation.select().where(Reservation.requestId == REQUEST).order_by(Reservation.seq)
    )


def test_money_returns_to_the_budget() -> None:
    commit_all()
    reply = do("reverse", FIONA, amount="30.5", external_ref="CN-1")
    assert reply == {
        "success": True,
        "budgetId": MAIN,
        "requestId": REQUEST,
        "amountReversed": Decimal("30.5"),
        "to": "available",
        "newAvailable": Decimal("930.5"),
    }
    assert figures() == (0, 6_950)
    assert trail()[2:] == [("REVERSE", "100", "69.5", 0, -3_050)]
    row = movements()[-1]
    assert (row.changedBy, row.onBehalfOf, row.reason, row.externalRef, row.transferId) == (
        "Fiona (fiona@example.com)",
        "Jane (jane@example.com)",
        "The price changed",
        "CN-1",
        None,
    )
    (stored,) = reservations()
    assert (stored.status, stored.committedMinor, stored.reversedMinor, stored.version) == (
        "closed",
        10_000,
        3_050,
        row.version,
    )


def test_money_returns_to_the_hold_and_opens_it() -> None:
    commit_all()
    assert do("reverse", amount=40, **HOLD)["to"] == "reserved"
    assert figures() == (4_000, 6_000)
    assert trail()[2:] == [("REVERSE", "100", "60", 4_000, -4_000)]
    (stored,) = reservations()
    assert (stored.status, stored.heldMinor, stored.closedAt, stored.closingReply) == (
        "open",
        4_000,
        None,
        None,
    )
    do("commit", amount=40)
    assert figures() == (0, 10_000)
    do("reverse", amount=100)
    assert figures() == (0, 0)


@pytest.mark.parametrize(
    ("currency", "amount"), [("JPY", "1"), ("KWD", "0.001"), ("CLF", "0.0001")]
)
def test_amounts_are_exact_in_every_currency(currency: str, amount: str) -> None:
    manual_budgets.set_budget(
        ROOT, ACME, "Far", "Q1 2025", Decimal(1000), budget_id="far", currency=currency
    )
    commit_all(100, budget_id="far")
    assert do("reverse", budget_id="far", amount=amount)["newAvailable"] == 900 + Decimal(amount)
    if currency != "CLF":  # No currency has more decimals.
        rejected("reverse", Code.INVALID_REQUEST, budget_id="far", amount=Decimal(amount) / 10)


def test_at_most_what_is_committed_is_reversed() -> None:
    commit_all()
    do("reverse", amount=30)
    error = rejected("reverse", Code.AMOUNT_EXCEEDS_COMMITTED, amount="70.01")
    assert error.facts == {"budgetId": MAIN, "requestId": REQUEST, "amountCommitted": 70}
    do("reverse", amount=70)
    rejected("reverse", Code.AMOUNT_EXCEEDS_COMMITTED, amount="0.01")


def test_reversal_without_commits() -> None:
    rejected("reverse", Code.REQUEST_NOT_FOUND, amount=1)
    check(JANE, 10)
    rejected("reverse", Code.AMOUNT_EXCEEDS_COMMITTED, amount=1)
    do("reserve", amount=10)
    rejected("reverse", Code.AMOUNT_EXCEEDS_COMMITTED, amount=1)
    rejected("reverse", Code.AMOUNT_EXCEEDS_COMMITTED, amount=1, **HOLD)


@pytest.mark.parametrize("to", ReverseTo)
def test_reversal_is_spread_from_the_newest_reservation(to: ReverseTo) -> None:
    commit_all(100)
    commit_again(50)
    first = send("reverse", amount=120, to=to)
    held = 12_000 if to is ReverseTo.RESERVED else 0
    assert figures() == (held, 3_000)
    assert trail()[4:] == [
        ("REVERSE", "100", "30", 0, -7_000),
        ("REVERSE", "50", "0", held, -5_000),
    ]
    rows = movements()[4:]
    assert rows[0].transferId == rows[1].transferId is not None
    assert [each.reversedMinor for each in reservations()] == [7_000, 5_000]
    assert [each.heldMinor for each in reservations()] == [0, held]
    do("spend", amount=1, spend_id="s")
    replayed(first, "reverse", amount=120, to=to)


def test_latest_reservation_holds_what_older_ones_committed() -> None:
    commit_all(100)
    check(JANE, 50)
    do("reserve", amount=50)
    first = send("reverse", amount=80, **HOLD)
    assert [each.heldMinor for each in reservations()] == [0, 13_000]
    assert trail()[3:] == [("REVERSE", "100", "20", 0, -8_000), ("REVERSE", "0", "0", 8_000, 0)]
    replayed(first, "reverse", amount=80, **HOLD)
    do("commit", amount=130)
    assert figures() == (0, 15_000)


def test_reversal_on_a_removed_budget() -> None:
    """It takes nothing from the budget, so it is allowed, as commit and release are."""
    commit_all()
    soft_delete()
    do("reverse", amount=40)
    do("reverse", amount=60, **HOLD)
    do("release", amount=60)
    assert figures() == (0, 0)


def test_reopened_hold_has_a_new_expiry() -> None:
    set_customer(holdDays=10)
    with time_machine.travel("2025-01-01T00:00:00Z", tick=False):
        commit_all()
    with time_machine.travel("2025-02-01T00:00:00Z", tick=False):
        do("reverse", amount=10, **HOLD)
        assert do("amend", amount=20)["expiresAt"] == "2025-02-11T00:00:00Z"
    with time_machine.travel("2025-02-05T00:00:00Z", tick=False):
        # It is open, so it keeps its expiry.
        do("reverse", amount=10, **HOLD)
        assert do("amend", amount=40)["expiresAt"] == "2025-02-11T00:00:00Z"
        do("release", amount=40)
    set_customer(holdDays=None)
    do("reverse", amount=10, **HOLD)
    assert "expiresAt" not in do("amend", amount=20)


def test_money_of_a_moved_hold_is_reversed_where_it_was_committed() -> None:
    do("reserve", amount=100)
    do("commit", amount=40)
    do("amend", to_budget_id=OTHER)
    do("commit", budget_id=OTHER, amount=60)
    rejected("reverse", Code.AMOUNT_EXCEEDS_COMMITTED, amount=41)
    do("reverse", amount=40, **HOLD)
    do("reverse", budget_id=OTHER, amount=60)
    assert (figures(), figures(OTHER)) == ((4_000, 0), (0, 0))


def test_spend_is_reversed_by_its_id() -> None:
    do("spend", amount=1500)
    reply = do("reverse", FIONA, amount=600)
    assert (reply["requestId"], reply["newAvailable"]) == (REQUEST, 100)
    assert trail()[1:] == [("REVERSE", "1500", "900", 0, -60_000)]
    row = movements()[-1]
    assert (row.reservationId, row.onBehalfOf, row.subject) == (None, None, None)
    assert (Spend.get().reversedMinor, Spend.get().version) == (60_000, row.version)
    error = rejected("reverse", Code.INVALID_REQUEST, amount=1, **HOLD)
    assert list(error.fields) == ["to"]
    rejected("reverse", Code.AMOUNT_EXCEEDS_COMMITTED, amount="900.01")
    rejected("reverse", Code.REQUEST_NOT_FOUND, budget_id=OTHER, amount=1)


# The same reversal again


def test_reference_replays_after_other_movements() -> None:
    commit_all()
    first = send("reverse", amount=30, external_ref="CN-1")
    do("reverse", amount=10, external_ref="CN-2")
    do("spend", amount=7, spend_id="s")
    for by in (SERVICE, FIONA):
        replayed(first, "reverse", by, amount=30, external_ref="CN-1", reason="Another")
    error = rejected("reverse", Code.EXTERNAL_REF_CONFLICT, amount=31, external_ref="CN-1")
    assert error.facts == {"externalRef": "CN-1", "amount": 30}


def test_reference_of_a_commit_is_no_reference_of_a_reversal() -> None:
    do("reserve", amount=100)
    do("commit", amount=100, external_ref="INV-1")
    do("reverse", amount=60, external_ref="INV-1")
    assert figures() == (0, 4_000)


def test_spread_reversal_is_replayed_by_its_reference() -> None:
    commit_all(100)
    commit_again(50)
    first = send("reverse", amount=120, external_ref="CN-1")
    do("spend", amount=7, spend_id="s")
    replayed(first, "reverse", amount=120, external_ref="CN-1")


def test_same_reversal_right_after_is_replayed() -> None:
    commit_all()
    first = send("reverse", amount=30)
    do("spend", amount=7, spend_id="s")
    replayed(first, "reverse", amount=30)
    replayed(first, "reverse", FIONA, amount=30)


@pytest.mark.parametrize(
    "changes", [{"amount": 31}, {"reason": "Another"}, HOLD, {"external_ref": "CN-1"}]
)
def test_another_reversal_is_not_a_replay(changes: dict[str, Any]) -> None:
    commit_all()
    do("reverse", amount=30)
    do("reverse", **{"amount": 30} | changes)
    assert sum(row.action == "REVERSE" for row in movements()) == 2


# Callers and the order of errors


@pytest.mark.parametrize("by", [JANE, MARK, ANONYMOUS])
def test_ordinary_users_reverse_nothing(by: Actor) -> None:
    commit_all()
    rejected("reverse", Code.FORBIDDEN, by, amount=1)


def test_customers_are_separate() -> None:
    commit_all()
    do("reserve", GLOBAL, budget_id=FOREIGN, amount=100)
    do("commit", GLOBAL, budget_id=FOREIGN, amount=100)
    rejected("reverse", Code.BUDGET_NOT_FOUND, budget_id=FOREIGN, amount=1)
    rejected("reverse", Code.BUDGET_NOT_FOUND, FOREIGN_SERVICE, amount=1)
    rejected("reverse", Code.INVALID_CUSTOMER, amount=1, customer_id=GLOBEX)
    rejected("reverse", Code.BUDGET_NOT_FOUND, GLOBAL, amount=1, customer_id=GLOBEX)
    do("reverse", GLOBAL, amount=1)
    do("reverse", FOREIGN_SERVICE, budget_id=FOREIGN, amount=1)
    assert (figures(), figures(FOREIGN)) == ((0, 9_900), (0, 9_900))


def test_bad_target_comes_before_a_reused_key() -> None:
    do("spend", amount=100)
    do("reverse", key="k", amount=1)
    rejected("reverse", Code.INVALID_REQUEST, key="k", amount=1, **HOLD)
    rejected("reverse", Code.IDEMPOTENCY_KEY_REUSED, key="k", amount=2)
