"""spend: money that was spent without a reservation."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from support.purchases import (
    ACME,
    DAY,
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
    REQUEST,
    SERVICE,
    do,
    figures,
    movements,
    rejected,
    replayed,
    send,
    soft_delete,
    trail,
)
from support.world import ROOT

from budget_sync import manual_budgets
from budget_sync.database.models import Budget, Spend
from budget_sync.domain.errors import Code
from budget_sync.domain.permissions import ANONYMOUS, Actor

pytestmark = [pytest.mark.both_engines, pytest.mark.usefixtures("company")]

NAMED: dict[str, Any] = {
    "budget_id": None,
    "department": " ENGINEERING ",
    "fiscal_period": "2025-Q1",
}


@pytest.mark.parametrize("by", [SERVICE, FIONA, FRED])
def test_spend_is_committed_without_a_hold(by: Actor) -> None:
    reply = do("spend", by, amount="99.5", vendor="Rail", external_ref="PO-1", currency="USD")
    assert reply == {
        "success": True,
        "spendId": REQUEST,
        "budgetId": MAIN,
        "amountCommitted": Decimal("99.5"),
        "newAvailable": Decimal("900.5"),
        "overdrawn": False,
        "overdrawnBy": 0,
    }
    assert figures() == (0, 9_950)
    assert trail() == [("SPEND", "0", "99.5", 0, 9_950)]
    row = movements()[0]
    assert (row.changedBy, row.onBehalfOf, row.reason, row.externalRef, row.reservationId) == (
        by.label,
        None,
        "The price changed",
        "PO-1",
        None,
    )
    stored = Spend.get()
    assert (stored.spentOn, stored.vendor, stored.externalRef, stored.recordedBy) == (
        DAY,
        "Rail",
        "PO-1",
        by.label,
    )
    assert stored.version == row.version == 2


@pytest.mark.parametrize(
    ("amount", "left", "overdrawn"), [(1000, 0, 0), ("1000.01", "-0.01", "0.01")]
)
def test_reply_says_by_how_much_the_budget_is_overdrawn(
    amount: object, left: object, overdrawn: object
) -> None:
    reply = do("spend", amount=amount)
    assert (reply["newAvailable"], reply["overdrawn"], reply["overdrawnBy"]) == (
        Decimal(str(left)),
        bool(Decimal(str(overdrawn))),
        Decimal(str(overdrawn)),
    )


@pytest.mark.parametrize(
    ("currency", "amount", "left"),
    [("JPY", "1", "999"), ("KWD", "0.001", "999.999"), ("CLF", "0.0001", "999.9999")],
)
def test_amounts_are_exact_in_every_currency(currency: str, amount: str, left: str) -> None:
    manual_budgets.set_budget(
        ROOT, ACME, "Far", "Q1 2025", Decimal(1000), budget_id="far", currency=currency
    )
    assert do("spend", budget_id="far", amount=amount)["newAvailable"] == Decimal(left)
    if currency != "CLF":  # No currency has more decimals.
        rejected("spend", Code.INVALID_REQUEST, budget_id="far", amount=Decimal(amount) / 10)


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"budget_id": None}, ["budgetId"]),
        ({"budget_id": None, "department": "Engineering"}, ["fiscalPeriod"]),
        ({"budget_id": None, "fiscal_period": "Q1 2025"}, ["department"]),
        ({"department": "Engineering"}, ["department"]),
        ({"department": "Engineering", "fiscal_period": "Q1"}, ["department", "fiscalPeriod"]),
        ({"currency": "EUR"}, ["currency"]),
    ],
)
def test_budget_is_named_in_one_way(fields: dict[str, Any], wrong: list[str]) -> None:
    error = rejected("spend", Code.INVALID_REQUEST, amount=1, **fields)
    assert list(error.fields) == wrong


def test_department_and_period_name_the_live_budget() -> None:
    assert do("spend", amount=1, **NAMED)["budgetId"] == MAIN
    assert (
        do("spend", GLOBAL, spend_id="s2", amount=1, customer_id=GLOBEX, **NAMED)["budgetId"]
        == FOREIGN
    )
    error = rejected("spend", Code.INVALID_REQUEST, GLOBAL, amount=1, **NAMED)
    assert list(error.fields) == ["customerId"]
    error = rejected("spend", Code.BUDGET_NOT_FOUND, amount=1, **NAMED | {"department": "Sales"})
    assert error.facts == {"department": "Sales", "fiscalPeriod": "2025-Q1"}


def test_deleted_unknown_and_foreign_budgets() -> None:
    for budget_id in ("unknown", FOREIGN):
        rejected("spend", Code.BUDGET_NOT_FOUND, budget_id=budget_id, amount=1)
    rejected("spend", Code.BUDGET_NOT_FOUND, GLOBAL, amount=1, customer_id=GLOBEX)
    rejected("spend", Code.INVALID_CUSTOMER, amount=1, customer_id=GLOBEX)
    soft_delete()
    rejected("spend", Code.BUDGET_DELETED, amount=1)
    rejected("spend", Code.BUDGET_NOT_FOUND, amount=1, **NAMED)


def test_figures_stay_below_the_ceiling() -> None:
    do("spend", amount="9999999999999.98")
    rejected("spend", Code.AMOUNT_TOO_LARGE, spend_id="s2", amount="0.02")
    do("spend", spend_id="s2", amount="0.01")


@pytest.mark.parametrize("by", [JANE, MARK, ANONYMOUS])
def test_ordinary_users_record_no_spend(by: Actor) -> None:
    rejected("spend", Code.INVALID_REQUEST, by, amount=1, budget_id=None)
    rejected("spend", Code.FORBIDDEN, by, amount=1)


# The same spend again


def test_same_spend_is_replayed() -> None:
    first = send("spend", amount=1500, vendor="Rail")
    do("spend", spend_id="s2", amount=5)
    do("reverse", amount=1500)
    for by, fields in (
        (SERVICE, {}),
        (FIONA, {"reason": "Another reason", "vendor": "Bus"}),
        (GLOBAL, NAMED | {"customer_id": ACME}),
    ):
        sent: dict[str, Any] = fields
        replayed(first, "spend", by, amount=1500, **sent)


@pytest.mark.parametrize(
    "fields",
    [{"amount": 11}, {"date": dt.date(2025, 4, 1)}, {"budget_id": OTHER}, {"budget_id": EURO}],
)
def test_id_of_another_spend_is_rejected(fields: dict[str, Any]) -> None:
    do("spend", amount=10)
    error = rejected("spend", Code.IDEMPOTENCY_KEY_REUSED, **{"amount": 10} | fields)
    assert error.facts == {"spendId": REQUEST}


def test_ids_are_per_customer() -> None:
    do("spend", amount=10)
    do("spend", FOREIGN_SERVICE, budget_id=FOREIGN, amount=11)
    assert (figures(), figures(FOREIGN)) == ((0, 1_000), (0, 1_100))


@pytest.mark.parametrize("returns", [False, True], ids=["removed", "replaced"])
def test_spend_on_a_budget_removed_since_is_replayed(*, returns: bool) -> None:
    first = send("spend", amount=10, **NAMED)
    soft_delete()
    if returns:
        manual_budgets.set_budget(
            ROOT, ACME, "Engineering", "Q1 2025", Decimal(500), budget_id="replacement"
        )
    replayed(first, "spend", amount=10, **NAMED)
    replayed(first, "spend", amount=10)
    assert Budget.select().where(Budget.id == "replacement").count() == returns


def test_id_of_a_request_may_be_that_of_a_spend() -> None:
    do("reserve", amount=100)
    do("commit", amount=100)
    do("spend", amount=50)
    rejected("reverse", Code.AMOUNT_EXCEEDS_COMMITTED, amount="150.01")
    do("reverse", amount=120)
    assert figures() == (0, 3_000)
