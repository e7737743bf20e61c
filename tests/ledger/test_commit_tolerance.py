"""commit beyond the hold: the invoice tolerance, FP&A, approvals, and the externalRef."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from support.purchases import (
    ACME,
    APPROVED,
    EURO,
    FIONA,
    FRED,
    MAIN,
    OTHER,
    OVERSPENDER,
    SERVICE,
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
from budget_sync.database.models import Budget, Reservation
from budget_sync.domain.errors import Code
from budget_sync.domain.permissions import Actor

pytestmark = [pytest.mark.both_engines, pytest.mark.usefixtures("company")]

NO_LIMIT = {"autoApproveLimitMinor": None}


@pytest.mark.parametrize(
    ("customer", "largest"),
    [
        ({"invoiceToleranceBasisPoints": 1000}, "110"),
        ({"invoiceToleranceBasisPoints": 0}, "100"),
        ({"invoiceToleranceBasisPoints": 333}, "103.33"),
        ({"invoiceToleranceBasisPoints": 10_000}, "200"),
        ({"invoiceToleranceMinor": 500}, "105"),
        ({"invoiceToleranceMinor": 0}, "100"),
        ({"invoiceToleranceMinor": 5000}, "110"),
        ({"autoApproveLimitMinor": 200}, "102"),
        # FP&A approves everything.
        (NO_LIMIT, "100"),
        (NO_LIMIT | {"invoiceToleranceMinor": 300}, "103"),
    ],
)
def test_tolerance_is_the_lower_of_share_and_amount(
    customer: dict[str, object], largest: str
) -> None:
    set_customer(**customer)
    do("reserve", amount=100)
    amount = Decimal(largest)
    error = rejected("commit", Code.COMMIT_EXCEEDS_RESERVED, amount=amount + Decimal("0.01"))
    assert error.facts == {
        "budgetId": MAIN,
        "amountHeld": 100,
        "exceededBy": amount + Decimal("0.01") - 100,
        "largestAmount": amount,
    }
    reply = do("commit", amount=amount)
    exceeded = amount - 100
    assert reply.get("amountExceeded") == (exceeded or None)
    assert (reply["amountHeld"], reply["newAvailable"]) == (0, 1000 - amount)
    assert trail()[1:] == [("COMMIT", "100", "0", -10_000, int(amount * 100))]


def test_limit_of_the_budget_comes_before_that_of_the_customer() -> None:
    Budget.update(autoApproveLimitMinor=100).where(Budget.id == MAIN).execute()
    do("reserve", amount=100)
    error = rejected("commit", Code.COMMIT_EXCEEDS_RESERVED, amount=105)
    assert error.facts["largestAmount"] == 101


@pytest.mark.parametrize(("limit", "largest"), [(None, 100), (300, 103)])
def test_amounts_of_the_customer_are_for_its_own_currency(limit: int | None, largest: int) -> None:
    set_customer(invoiceToleranceMinor=5000)
    Budget.update(autoApproveLimitMinor=limit).where(Budget.id == EURO).execute()
    do("reserve", budget_id=EURO, amount=100)
    error = rejected("commit", Code.COMMIT_EXCEEDS_RESERVED, budget_id=EURO, amount=110)
    assert error.facts["largestAmount"] == largest


@pytest.mark.parametrize(
    ("currency", "held", "largest", "too_much"),
    [
        ("JPY", "19", "20", "21"),
        ("KWD", "0.019", "0.02", "0.021"),
        ("CLF", "0.0019", "0.002", "0.0021"),
    ],
)
def test_share_is_rounded_down_to_whole_minor_units(
    currency: str, held: str, largest: str, too_much: str
) -> None:
    manual_budgets.set_budget(
        ROOT,
        ACME,
        "Far",
        "Q1 2025",
        Decimal(1000),
        budget_id="far",
        currency=currency,
        auto_approve_limit=Decimal(100),
    )
    do("reserve", budget_id="far", amount=held)
    rejected("commit", Code.COMMIT_EXCEEDS_RESERVED, budget_id="far", amount=too_much)
    assert do("commit", budget_id="far", amount=largest)["amountCommitted"] == Decimal(largest)


def test_tolerance_is_of_what_is_still_held() -> None:
    do("reserve", amount=100)
    do("commit", amount=80)
    rejected("commit", Code.COMMIT_EXCEEDS_RESERVED, amount="22.01")
    assert do("commit", amount=22)["amountExceeded"] == 2


@pytest.mark.parametrize("by", [FIONA, FRED])
def test_fpa_commits_as_much_as_the_budget_has(by: Actor) -> None:
    do("reserve", amount=100)
    rejected("commit", Code.INSUFFICIENT_BUDGET, by, amount="1000.01")
    assert do("commit", by, amount=1000)["amountExceeded"] == 900
    assert movements()[-1].approvedBy is None


def test_deleted_or_exhausted_budget_comes_before_the_tolerance() -> None:
    do("reserve", amount=100)
    do("reserve", request_id="r2", amount=880)
    rejected("commit", Code.INSUFFICIENT_BUDGET, amount=500)
    rejected("commit", Code.COMMIT_EXCEEDS_RESERVED, amount=115)
    soft_delete()
    rejected("commit", Code.BUDGET_DELETED, amount=500)
    rejected("commit", Code.BUDGET_DELETED, OVERSPENDER, amount=500, over_budget=APPROVED)
    assert do("commit", amount=100)["amountHeld"] == 0


def test_approval_beyond_the_tolerance_is_in_the_commits_row() -> None:
    do("reserve", amount=100, user_id="jane")
    reply = do("commit", OVERSPENDER, amount=600, over_budget=APPROVED)
    assert reply["amountExceeded"] == 500
    assert trail()[1:] == [("COMMIT", "100", "0", -10_000, 60_000)]
    row = movements()[-1]
    assert (row.approvedBy, row.reason, row.transferId, row.onBehalfOf) == (
        "Fiona (fiona@example.com)",
        "The board insists",
        None,
        "Jane (jane@example.com)",
    )


def test_approval_over_budget_raises_the_hold_first() -> None:
    do("reserve", amount=100)
    reply = do(
        "commit", OVERSPENDER, amount=1500, over_budget=APPROVED, reason="Invoice", final=True
    )
    assert (reply["amountExceeded"], reply["newAvailable"], reply["amountHeld"]) == (1400, -500, 0)
    assert trail()[1:] == [
        ("OVER_BUDGET", "100", "1500", 140_000, 0),
        ("COMMIT", "1500", "0", -150_000, 150_000),
    ]
    rows = movements()[1:]
    assert [(row.reason, row.approvedBy) for row in rows] == [
        ("The board insists", "Fiona (fiona@example.com)"),
        ("Invoice", "Fiona (fiona@example.com)"),
    ]
    assert rows[0].transferId == rows[1].transferId is not None
    stored = Reservation.get()
    assert (stored.adjustedMinor, stored.exceededMinor) == (140_000, 0)


def test_approval_that_is_not_needed_is_not_recorded() -> None:
    do("reserve", amount=100)
    do("commit", OVERSPENDER, amount=60, over_budget=APPROVED)
    row = movements()[-1]
    assert (row.approvedBy, row.reason) == (None, "Request fulfilled")


def test_approved_commit_stays_below_the_ceiling() -> None:
    do("reserve", amount=100)
    do("spend", amount=9_999_999_999_000)
    rejected("commit", Code.AMOUNT_TOO_LARGE, OVERSPENDER, amount=1500, over_budget=APPROVED)


def test_approver_is_not_the_requester() -> None:
    do("reserve", FIONA, amount=100)
    for by in (FIONA, FRED, OVERSPENDER, SERVICE):
        rejected("commit", Code.OVERSPEND_NOT_ALLOWED, by, amount=150, over_budget=APPROVED)


def test_approval_is_authorized_before_other_errors_and_replays() -> None:
    do("reserve", FIONA, amount=100)
    do("commit", FRED, key="k", amount=100)
    for key in ("k", None):
        rejected(
            "commit", Code.OVERSPEND_NOT_ALLOWED, FRED, key=key, amount=100, over_budget=APPROVED
        )


# externalRef


def test_partial_commit_with_a_reference_is_replayed() -> None:
    do("reserve", amount=100)
    first = send("commit", amount=30, external_ref="INV-1")
    do("commit", amount=30, external_ref="INV-2")
    do("spend", amount=100)
    do("amend", amount=200)
    replayed(first, "commit", amount=30, external_ref="INV-1")
    do("release", amount=200)
    # By another caller and with another reason, it is still the same invoice.
    replayed(first, "commit", FIONA, amount=30, external_ref="INV-1", reason="Paid")
    assert figures() == (0, 16_000)


def test_reference_with_another_amount_is_a_conflict() -> None:
    do("reserve", amount=100)
    do("commit", amount=30, external_ref="INV-1")
    error = rejected("commit", Code.EXTERNAL_REF_CONFLICT, amount=31, external_ref="INV-1")
    assert error.facts == {"externalRef": "INV-1", "amount": 30}


def test_references_are_per_request_and_budget() -> None:
    for fields in ({}, {"request_id": "r2"}, {"budget_id": OTHER}):
        values: dict[str, Any] = fields
        do("reserve", amount=100, **values)
        do("commit", amount=30, external_ref="INV-1", **values)
    assert (figures(), figures(OTHER)) == ((14_000, 6_000), (7_000, 3_000))


@pytest.mark.parametrize(
    ("amount", "fields"),
    [
        (60, {"final": True}),
        (105, {}),
        (600, {"over_budget": APPROVED}),
        (1500, {"over_budget": APPROVED}),
    ],
    ids=["remainder released", "tolerance", "approved", "over budget"],
)
def test_every_kind_of_commit_is_replayed_by_its_reference(
    amount: int, fields: dict[str, Any]
) -> None:
    do("reserve", amount=100)
    first = send("commit", OVERSPENDER, amount=amount, external_ref="INV-1", **fields)
    replayed(first, "commit", OVERSPENDER, amount=amount, external_ref="INV-1", **fields)
    # The request is reserved again, so the reply is read from the audit log.
    Reservation.update(closingCall="another").execute()
    do("spend", amount=10)
    replayed(first, "commit", OVERSPENDER, amount=amount, external_ref="INV-1", **fields)
