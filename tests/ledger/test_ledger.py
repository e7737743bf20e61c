"""check, reserve, commit and release over HTTP; after each test, all balances are verified."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from support.damage import yen_with_decimals
from support.world import ROOT, check_body, commit_body, key_headers, release_body, reserve_body
from werkzeug.test import TestResponse

from budget_sync import ledger, manual_budgets
from budget_sync.accounts import customers, people
from budget_sync.database.models import AuditLog, Budget, BudgetCheckLog, Reservation
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Actor, Role
from budget_sync.domain.request_models import (
    CheckRequest,
    CommitRequest,
    OverBudget,
    ReleaseAction,
    ReleaseRequest,
    ReserveRequest,
)
from budget_sync.ledger import retention, verification

pytestmark = pytest.mark.both_engines

CUSTOMER = "org-456"
BUDGET = "budget-123"

JANE = Actor("user:user-123", "user-123", "Jane Doe", "jane@acme.com", Role.BUSINESS_USER, CUSTOMER)
MARK = Actor("user:user-456", "user-456", "Mark Lee", "mark@acme.com", Role.MANAGER, CUSTOMER)
FIONA = Actor("user:fpa-001", "fpa-001", "Fiona Adams", "fiona@acme.com", Role.FPA_ADMIN, CUSTOMER)


@dataclass
class Orchestrator:
    """The orchestrator's four calls, with its API key."""

    client: FlaskClient
    headers: dict[str, str]

    def post(self, call: str, body: dict[str, Any] | str, key: str | None = None) -> TestResponse:
        """Send a body: a dict, or JSON text if the exact digits matter."""
        text = body if isinstance(body, str) else json.dumps(body)
        headers = self.headers | ({"Idempotency-Key": key} if key else {})
        return self.client.post(
            f"/api/budget/{call}", data=text, content_type="application/json", headers=headers
        )

    def check(self, **changes: Any) -> TestResponse:
        """The guide's check, with changes."""
        return self.post("check", check_body(**changes))

    def reserve(self, key: str | None = None, **changes: Any) -> TestResponse:
        """The guide's reserve, with changes."""
        return self.post("reserve", reserve_body(**changes), key)

    def commit(self, key: str | None = None, **changes: Any) -> TestResponse:
        """A commit of the guide's reservation, with changes."""
        return self.post("commit", commit_body(**changes), key)

    def release(self, key: str | None = None, **changes: Any) -> TestResponse:
        """The guide's release, with changes."""
        return self.post("release", release_body(**changes), key)

    def balances(self, budget_id: str = BUDGET) -> tuple[object, object, object]:
        """The reserved, committed and available amount."""
        budget = values(self.client.get(f"/api/budgets/{budget_id}", headers=self.headers))
        return budget["reservedAmount"], budget["committedAmount"], budget["available"]


def values(response: TestResponse) -> dict[str, Any]:
    """A reply's values; numbers with a decimal point are Decimal, so that 5000.0 is not 5000."""
    parsed: dict[str, Any] = json.loads(response.text, parse_float=Decimal)
    return parsed


def numbers(response: TestResponse) -> dict[str, Any]:
    """A reply's values, every number as its JSON text."""
    parsed: dict[str, Any] = json.loads(response.text, parse_float=str, parse_int=str)
    return parsed


def failed(response: TestResponse, status: int, code: Code) -> dict[str, Any]:
    """Assert that the reply is that error; returns its values."""
    reply = values(response)
    assert (response.status_code, reply["success"], reply["code"]) == (status, False, code), reply
    assert "Idempotent-Replayed" not in response.headers
    return reply


def succeeded(response: TestResponse, *, replayed: bool = False) -> dict[str, Any]:
    """Assert that the reply is a success, replayed or not; returns its values."""
    reply = values(response)
    assert (response.status_code, reply["success"]) == (200, True), reply
    assert response.headers.get("Idempotent-Replayed") == ("true" if replayed else None)
    return reply


def movements(budget_id: str = BUDGET) -> list[AuditLog]:
    """The audit rows of a budget in order, without CREATE."""
    return list(
        AuditLog.select()
        .where((AuditLog.budgetId == budget_id) & (AuditLog.action != "CREATE"))
        .order_by(AuditLog.version)
    )


def add_budget(
    department: str,
    amount: str,
    budget_id: str,
    *,
    currency: str | None = None,
    limit: str | None = None,
) -> None:
    """Add a budget for Q1 2025."""
    manual_budgets.set_budget(
        ROOT,
        CUSTOMER,
        department,
        "Q1 2025",
        Decimal(amount),
        budget_id=budget_id,
        currency=currency,
        auto_approve_limit=None if limit is None else Decimal(limit),
    )


def soft_delete(budget_id: str = BUDGET) -> None:
    """Delete a budget, as a sync does if the row is no longer in the sheet."""
    Budget.update(deletedAt=clock.now()).where(Budget.id == budget_id).execute()


@pytest.fixture
def orchestrator(app: Flask) -> Orchestrator:
    """The orchestrator's client; the guide's customer, people and budget, nothing spent yet."""
    customers.add_customer(ROOT, CUSTOMER, "Acme Inc.", auto_approve_limit_minor=1_000_000)
    for actor in (JANE, MARK, FIONA):
        assert actor.user_id
        assert actor.email
        people.add_user(
            ROOT,
            actor.user_id,
            actor.name,
            actor.email,
            actor.role,
            customer_id=CUSTOMER,
            password=None,
            slots_folder=Path(app.instance_path),
        )
    add_budget("Engineering", "100000", BUDGET)
    return Orchestrator(app.test_client(), key_headers())


@pytest.fixture(autouse=True)
def verified(app: Flask) -> Iterator[None]:
    """After every test, counters, reservations and the audit log agree."""
    yield
    assert verification.verify().findings == []


# Exact money


@pytest.mark.parametrize(
    ("currency", "sent", "shown", "left"),
    [
        ("USD", "99.5", "99.5", "99900.5"),
        ("USD", "99.50", "99.5", "99900.5"),
        ("USD", "0.01", "0.01", "99999.99"),
        ("USD", "5000", "5000", "95000"),
        ("USD", "5000.00", "5000", "95000"),
        ("USD", "1e3", "1000", "99000"),
        ("USD", "100000", "100000", "0"),
        ("JPY", "5000", "5000", "95000"),
        ("JPY", "1", "1", "99999"),
        ("KWD", "0.001", "0.001", "99999.999"),
        ("KWD", "1.250", "1.25", "99998.75"),
        ("CLF", "0.0001", "0.0001", "99999.9999"),
    ],
)
def test_amount_is_exact_from_check_to_release(
    orchestrator: Orchestrator, currency: str, sent: str, shown: str, left: str
) -> None:
    add_budget("Travel", "100000", "travel", currency=currency)

    def with_amount(body: dict[str, Any]) -> str:
        return json.dumps(body | {"amount": "AMOUNT"}).replace('"AMOUNT"', sent)

    check = numbers(
        orchestrator.post("check", with_amount(check_body(department="Travel", currency=currency)))
    )
    assert (check["available"], check["budget"]["available"], check["budget"]["currency"]) == (
        True,
        "100000",
        currency,
    )
    reserve = numbers(
        orchestrator.post(
            "reserve", with_amount(reserve_body(budgetId="travel", currency=currency))
        )
    )
    assert (reserve["amountReserved"], reserve["newAvailable"]) == (shown, left)
    release = numbers(orchestrator.post("release", with_amount(release_body(budgetId="travel"))))
    assert (release["amountReleased"], release["amountHeld"], release["newAvailable"]) == (
        shown,
        "0",
        "100000",
    )
    assert [(row.oldValue, row.newValue) for row in movements("travel")] == [
        ("0", shown),
        (shown, "0"),
    ]


def test_ten_times_a_tenth_is_one(orchestrator: Orchestrator) -> None:
    for number in range(10):
        succeeded(orchestrator.reserve(requestId=f"r{number}", amount=0.1))
    assert orchestrator.balances() == (1, 0, 99999)
    for number in range(10):
        succeeded(orchestrator.commit(requestId=f"r{number}", amount=0.1))
    assert orchestrator.balances() == (0, 1, 99999)


@pytest.mark.parametrize(
    ("currency", "most", "too_much"),
    [("USD", "9999999999999.99", "10000000000000"), ("JPY", "999999999999999", "1000000000000000")],
)
def test_largest_amount_is_one_minor_unit_below_the_limit(
    orchestrator: Orchestrator, currency: str, most: str, too_much: str
) -> None:
    add_budget("Treasury", most, "treasury", currency=currency)
    body = json.dumps(reserve_body(budgetId="treasury", amount="AMOUNT"))
    reply = failed(
        orchestrator.post("reserve", body.replace('"AMOUNT"', too_much)), 400, Code.INVALID_REQUEST
    )
    assert list(reply["fields"]) == ["amount"]
    fitting = orchestrator.post("reserve", body.replace('"AMOUNT"', most))
    assert (numbers(fitting).get("amountReserved"), numbers(fitting).get("newAvailable")) == (
        most,
        "0",
    ), fitting.text


@pytest.mark.parametrize(
    ("currency", "amount"), [("USD", 10.999), ("USD", 0.001), ("JPY", 0.5), ("KWD", 0.0001)]
)
def test_too_many_decimals_are_an_error_and_not_rounded(
    orchestrator: Orchestrator, currency: str, amount: float
) -> None:
    add_budget("Travel", "100000", "travel", currency=currency)
    for response in (
        orchestrator.check(department="Travel", amount=amount),
        orchestrator.reserve(budgetId="travel", amount=amount),
        orchestrator.commit(budgetId="travel", amount=amount),
        orchestrator.release(budgetId="travel", amount=amount),
    ):
        assert list(failed(response, 400, Code.INVALID_REQUEST)["fields"]) == ["amount"]
    assert orchestrator.balances("travel") == (0, 0, 100000)
    assert not BudgetCheckLog.select().exists()


def test_currency_must_be_the_budgets(orchestrator: Orchestrator) -> None:
    for response in (orchestrator.check(currency="EUR"), orchestrator.reserve(currency="EUR")):
        reply = failed(response, 400, Code.INVALID_REQUEST)
        assert reply["fields"] == {"currency": "must be USD, the budget's currency"}
    assert orchestrator.balances() == (0, 0, 100000)
    assert succeeded(orchestrator.check(currency="USD"))["available"]
    succeeded(orchestrator.reserve(currency="USD"))


def test_errors_use_the_decimals_stored_with_the_budget(
    orchestrator: Orchestrator,
) -> None:
    with yen_with_decimals(2):
        add_budget("Travel", "50", "travel", currency="JPY")
    reason = "Insufficient budget. Available: ¥50, Requested: ¥60.50"
    checked = succeeded(orchestrator.check(department="Travel", amount=60.5))
    assert (checked["budget"]["available"], checked["reason"]) == (50, reason)
    reply = failed(
        orchestrator.reserve(budgetId="travel", amount=60.5), 409, Code.INSUFFICIENT_BUDGET
    )
    assert (reply["available"], reply["shortfall"], reply["reason"]) == (
        50,
        Decimal("10.5"),
        reason,
    )


# check


def test_check_does_not_count_own_reservation_twice(
    orchestrator: Orchestrator,
) -> None:
    succeeded(orchestrator.reserve(amount=60_000))
    again = succeeded(orchestrator.check(amount=60_000))
    assert (again["available"], again["alreadyReserved"], again["budget"]["available"]) == (
        True,
        60000,
        40000,
    )
    assert succeeded(orchestrator.check(amount=100_000))["available"]
    too_much = succeeded(orchestrator.check(amount=100_001))
    assert too_much["reason"] == "Insufficient budget. Available: $100,000, Requested: $100,001"
    another = succeeded(orchestrator.check(requestId="intake-790", amount=60_000))
    assert (another["available"], another["code"]) == (False, Code.INSUFFICIENT_BUDGET)
    assert another["reason"] == "Insufficient budget. Available: $40,000, Requested: $60,000"
    assert "alreadyReserved" not in another
    succeeded(orchestrator.commit(amount=20_000))
    assert succeeded(orchestrator.check())["alreadyReserved"] == 40000


def test_check_moves_nothing_and_is_logged(orchestrator: Orchestrator) -> None:
    response = orchestrator.check()
    assert orchestrator.balances() == (0, 0, 100000)
    assert movements() == []
    logged = BudgetCheckLog.get()
    assert json.loads(logged.response) == response.json
    assert (logged.checkId, logged.code, logged.budgetId) == (
        succeeded(response)["checkId"],
        Code.AUTO_APPROVED,
        BUDGET,
    )
    assert logged.checkedBy == "service:orchestrator"


@pytest.mark.parametrize(
    ("budget_limit", "customer_limit_minor", "currency", "amount", "auto_approved"),
    [
        # The budget's limit takes precedence over the customer's.
        ("2000", 1_000_000, "USD", 2000, True),
        ("2000", 1_000_000, "USD", 2000.01, False),
        ("20000", 1_000_000, "USD", 20000, True),
        ("0", 1_000_000, "USD", 0.01, False),
        # Without it, the customer's limit applies.
        (None, 1_000_000, "USD", 10000, True),
        (None, 1_000_000, "USD", 10000.01, False),
        # With neither, FP&A approves everything.
        (None, None, "USD", 0.01, False),
        # The customer's limit is in the customer's currency: it does not apply to yen.
        (None, 1_000_000, "JPY", 1, False),
        ("5000", 1_000_000, "JPY", 5000, True),
    ],
)
def test_auto_approve_limit_is_the_budgets_or_the_customers(
    orchestrator: Orchestrator,
    budget_limit: str | None,
    customer_limit_minor: int | None,
    currency: str,
    amount: float,
    auto_approved: bool,
) -> None:
    customers.add_customer(ROOT, "org-7", "Seven", auto_approve_limit_minor=customer_limit_minor)
    limit = None if budget_limit is None else Decimal(budget_limit)
    manual_budgets.set_budget(
        ROOT,
        "org-7",
        "Travel",
        "2025",
        Decimal(100_000),
        currency=currency,
        auto_approve_limit=limit,
    )
    body = check_body(customerId="org-7", department="Travel", fiscalPeriod="FY2025", amount=amount)
    reply = succeeded(
        orchestrator.client.post("/api/budget/check", json=body, headers=key_headers("org-7"))
    )
    assert (reply["available"], reply["canAutoApprove"]) == (True, auto_approved)
    assert reply["code"] == (Code.AUTO_APPROVED if auto_approved else Code.REQUIRES_APPROVAL)
    if not auto_approved:
        assert reply["reason"] == "Budget available. Requires FP&A approval"


@pytest.mark.parametrize(
    ("customer_decimals", "limit_minor", "budget_decimals", "amount", "auto_approved"),
    [
        # Each limit is 100 yen, or half a yen more.
        (2, 10_000, 0, 100, True),
        (2, 10_000, 0, 101, False),
        (2, 10_050, 0, 100, True),
        (2, 10_050, 0, 101, False),
        (0, 100, 2, 100, True),
        (0, 100, 2, 100.01, False),
        (3, 100_000, 3, 100, True),
        (3, 100_000, 3, 100.001, False),
    ],
)
def test_customer_limit_is_rescaled_to_the_budgets_decimals(
    orchestrator: Orchestrator,
    customer_decimals: int,
    limit_minor: int,
    budget_decimals: int,
    amount: float,
    auto_approved: bool,
) -> None:
    with yen_with_decimals(customer_decimals):
        customers.add_customer(
            ROOT, "org-7", "Seven", currency="JPY", auto_approve_limit_minor=limit_minor
        )
    with yen_with_decimals(budget_decimals):
        manual_budgets.set_budget(ROOT, "org-7", "Travel", "2025", Decimal(5000))
    body = check_body(customerId="org-7", department="Travel", fiscalPeriod="FY2025", amount=amount)
    reply = succeeded(
        orchestrator.client.post("/api/budget/check", json=body, headers=key_headers("org-7"))
    )
    assert (reply["available"], reply["canAutoApprove"]) == (True, auto_approved)


@pytest.mark.parametrize(
    "named",
    [
        {"department": "Marketing"},
        {"department": "Eng"},
        {"department": "Engineering%"},
        {"fiscalPeriod": "Q2 2025"},
        {"fiscalPeriod": "2025"},
        {"fiscalPeriod": "Q1 2025 (draft)"},
    ],
)
def test_check_without_matching_budget(orchestrator: Orchestrator, named: dict[str, str]) -> None:
    reply = succeeded(orchestrator.check(**named))
    assert (reply["available"], reply["canAutoApprove"], reply["budget"]) == (False, False, None)
    assert (reply["code"], reply["reason"]) == (Code.NO_BUDGET, "No budget found")
    assert BudgetCheckLog.get().budgetId is None


def test_any_currency_is_valid_without_a_budget(
    orchestrator: Orchestrator,
) -> None:
    assert (
        succeeded(orchestrator.check(department="Marketing", currency="EUR"))["code"]
        == Code.NO_BUDGET
    )


@pytest.mark.parametrize("field", ["department", "fiscalPeriod"])
@pytest.mark.parametrize("blank", ["", "   ", "\t\n", "\u00a0"])
def test_blank_department_or_period_is_an_error(
    orchestrator: Orchestrator, field: str, blank: str
) -> None:
    assert list(
        failed(orchestrator.check(**{field: blank}), 400, Code.INVALID_REQUEST)["fields"]
    ) == [field]


@pytest.mark.parametrize("department", ["engineering", "  ENGINEERING ", "Engineering"])
@pytest.mark.parametrize("period", ["Q1 2025", "2025-Q1", " q1 fy2025"])
def test_check_ignores_letter_case_and_period_spelling(
    orchestrator: Orchestrator, department: str, period: str
) -> None:
    assert (
        succeeded(orchestrator.check(department=department, fiscalPeriod=period))["budget"]["id"]
        == BUDGET
    )


# reserve


def test_insufficient_budget_reports_the_shortfall(
    orchestrator: Orchestrator,
) -> None:
    succeeded(orchestrator.reserve(requestId="first", amount=98_000))
    reply = failed(orchestrator.reserve(), 409, Code.INSUFFICIENT_BUDGET)
    assert (
        reply["reason"]
        == reply["error"]
        == "Insufficient budget. Available: $2,000, Requested: $5,000"
    )
    assert (reply["available"], reply["shortfall"]) == (2000, 3000)
    assert orchestrator.balances() == (98000, 0, 2000)
    assert [row.requestId for row in movements()] == ["first"]


def test_last_cent_can_be_reserved(orchestrator: Orchestrator) -> None:
    succeeded(orchestrator.reserve(requestId="first", amount=99_999.99))
    failed(orchestrator.reserve(amount=0.02), 409, Code.INSUFFICIENT_BUDGET)
    assert succeeded(orchestrator.reserve(amount=0.01))["newAvailable"] == 0


@pytest.mark.parametrize("key", [None, "try-1"])
def test_failed_reserve_may_succeed_later(orchestrator: Orchestrator, key: str | None) -> None:
    succeeded(orchestrator.reserve(requestId="first", amount=98_000))
    failed(orchestrator.reserve(key), 409, Code.INSUFFICIENT_BUDGET)
    succeeded(orchestrator.release(requestId="first", amount=98_000))
    succeeded(orchestrator.reserve(key))
    assert orchestrator.balances() == (5000, 0, 95000)


@pytest.mark.parametrize("key", [None, "try-1"])
def test_failed_release_or_commit_may_succeed_later(
    orchestrator: Orchestrator, key: str | None
) -> None:
    succeeded(orchestrator.check())
    failed(orchestrator.commit(key), 409, Code.NO_OPEN_RESERVATION)
    failed(orchestrator.release(key), 200, Code.AMOUNT_EXCEEDS_RESERVED)
    succeeded(orchestrator.reserve(amount=10_000))
    succeeded(orchestrator.commit(key))
    succeeded(orchestrator.release(key))
    assert orchestrator.balances() == (0, 5000, 95000)


def test_repeated_reserve_returns_the_first_reply(orchestrator: Orchestrator) -> None:
    first = orchestrator.reserve()
    succeeded(orchestrator.reserve(requestId="another"))
    again = orchestrator.reserve(reason="another reason")
    succeeded(again, replayed=True)
    assert again.data == first.data
    assert [row.requestId for row in movements()] == ["intake-789", "another"]


def test_reserve_is_replayed_after_a_partial_commit(orchestrator: Orchestrator) -> None:
    first = orchestrator.reserve()
    succeeded(orchestrator.commit(amount=2000))
    succeeded(orchestrator.release(amount=1000))
    again = orchestrator.reserve()
    succeeded(again, replayed=True)
    assert again.data == first.data
    assert orchestrator.balances() == (2000, 2000, 96000)


@pytest.mark.parametrize("amount", [4999.99, 5000.01, 2000])
def test_same_request_with_another_amount_is_a_conflict(
    orchestrator: Orchestrator, amount: float
) -> None:
    succeeded(orchestrator.reserve())
    # The remainder is another amount too.
    succeeded(orchestrator.commit(amount=3000))
    reply = failed(orchestrator.reserve(amount=amount), 409, Code.REQUEST_CONFLICT)
    assert reply["amountReserved"] == 5000
    assert orchestrator.balances() == (2000, 3000, 95000)


def test_request_may_hold_money_on_two_budgets(orchestrator: Orchestrator) -> None:
    add_budget("Travel", "1000", "travel")
    first, second = (
        succeeded(orchestrator.reserve()),
        succeeded(orchestrator.reserve(budgetId="travel", amount=400)),
    )
    assert first["reservationId"] != second["reservationId"]
    succeeded(orchestrator.release(budgetId="travel", amount=400))
    assert (orchestrator.balances(), orchestrator.balances("travel")) == (
        (5000, 0, 95000),
        (0, 0, 1000),
    )


@pytest.mark.parametrize("close", ["commit", "release"])
def test_late_duplicate_does_not_reserve_twice(orchestrator: Orchestrator, close: str) -> None:
    succeeded(orchestrator.check())
    first = succeeded(orchestrator.reserve())
    succeeded(getattr(orchestrator, close)())
    before = orchestrator.balances()
    assert (
        failed(orchestrator.reserve(), 409, Code.RESERVATION_CLOSED)["reservationId"]
        == first["reservationId"]
    )
    failed(orchestrator.reserve(amount=10), 409, Code.RESERVATION_CLOSED)
    succeeded(orchestrator.check(requestId="another"))
    failed(orchestrator.reserve(), 409, Code.RESERVATION_CLOSED)
    assert orchestrator.balances() == before
    succeeded(orchestrator.check())
    assert succeeded(orchestrator.reserve())["reservationId"] != first["reservationId"]
    assert Reservation.select().where(Reservation.requestId == "intake-789").count() == 2


def test_newer_check_is_newer_by_sequence_not_clock(orchestrator: Orchestrator) -> None:
    with time_machine.travel(clock.now() + timedelta(days=1)):
        succeeded(orchestrator.check())
    succeeded(orchestrator.reserve())
    succeeded(orchestrator.release())
    # The check's time is later than the release's, but it was logged first.
    failed(orchestrator.reserve(), 409, Code.RESERVATION_CLOSED)
    with time_machine.travel(clock.now() - timedelta(days=1)):
        succeeded(orchestrator.check())
    succeeded(orchestrator.reserve())


def test_check_sequence_continues_after_pruning(orchestrator: Orchestrator) -> None:
    with time_machine.travel(clock.now() - timedelta(days=40)):
        succeeded(orchestrator.check())
        succeeded(orchestrator.reserve())
        succeeded(orchestrator.check(requestId="another"))
        succeeded(orchestrator.release())
    assert retention.prune_checks(ROOT, 30) == 1
    failed(orchestrator.reserve(), 409, Code.RESERVATION_CLOSED)
    succeeded(orchestrator.check())
    succeeded(orchestrator.reserve())


def test_employee_reserves_only_what_they_checked(orchestrator: Orchestrator) -> None:
    reserve = ReserveRequest(budget_id=BUDGET, request_id="intake-789", amount=Decimal(5000))
    check = CheckRequest(
        request_id="intake-789",
        user_id="user-123",
        user_name="Jane Doe",
        user_email="jane@acme.com",
        customer_id=CUSTOMER,
        department="Engineering",
        fiscal_period="Q1 2025",
        amount=Decimal("4999.99"),
    )
    succeeded(orchestrator.check())
    ledger.check(JANE, check)
    with pytest.raises(RequestError) as too_little:
        ledger.reserve(JANE, reserve)
    assert too_little.value.code is Code.CHECK_REQUIRED
    ledger.check(JANE, check.model_copy(update={"amount": Decimal(5000)}))
    assert ledger.reserve(JANE, reserve).data["newAvailable"] == 95000
    with pytest.raises(RequestError) as other_user:
        ledger.reserve(MARK, reserve)
    assert other_user.value.code is Code.NOT_YOUR_REQUEST


# commit


def test_reservation_can_be_committed_in_parts(orchestrator: Orchestrator) -> None:
    succeeded(orchestrator.reserve())
    first = succeeded(orchestrator.commit(amount=1200.5))
    assert (
        first["amountCommitted"],
        first["amountReleased"],
        first["amountHeld"],
        first["newAvailable"],
    ) == (Decimal("1200.5"), 0, Decimal("3799.5"), 95000)
    assert orchestrator.balances() == (Decimal("3799.5"), Decimal("1200.5"), 95000)
    last = succeeded(orchestrator.commit(amount=3799.5, externalRef="PO-1003"))
    assert (last["amountHeld"], last["newAvailable"]) == (0, 95000)
    assert orchestrator.balances() == (0, 5000, 95000)
    failed(orchestrator.commit(amount=1, externalRef=None), 409, Code.NO_OPEN_RESERVATION)


def test_equal_partial_commits_without_key_are_not_replays(orchestrator: Orchestrator) -> None:
    succeeded(orchestrator.reserve())
    for _ in range(2):
        succeeded(orchestrator.commit(amount=1000, externalRef=None))
    assert orchestrator.balances() == (3000, 2000, 95000)


def test_final_commit_releases_the_remainder(orchestrator: Orchestrator) -> None:
    succeeded(orchestrator.reserve())
    first = orchestrator.commit(amount=4000, final=True)
    reply = succeeded(first)
    assert (
        reply["amountCommitted"],
        reply["amountReleased"],
        reply["amountHeld"],
        reply["newAvailable"],
    ) == (4000, 1000, 0, 96000)
    assert [(row.action, row.oldValue, row.newValue) for row in movements()] == [
        ("RESERVE", "0", "5000"),
        ("COMMIT", "5000", "1000"),
        ("RELEASE", "1000", "0"),
    ]
    again = orchestrator.commit(amount=4000, final=True)
    succeeded(again, replayed=True)
    assert again.data == first.data
    assert orchestrator.balances() == (0, 4000, 96000)


def test_commit_beyond_reservation_uses_available_amount(
    orchestrator: Orchestrator,
) -> None:
    succeeded(orchestrator.reserve())
    # The invoice tolerance is 10 % of the reservation.
    assert failed(orchestrator.commit(amount=5500.01), 409, Code.COMMIT_EXCEEDS_RESERVED)[
        "largestAmount"
    ] == Decimal(5500)
    reply = succeeded(orchestrator.commit(amount=5500))
    assert (
        reply["amountCommitted"],
        reply["amountExceeded"],
        reply["amountHeld"],
        reply["newAvailable"],
    ) == (5500, 500, 0, 94500)
    row = movements()[-1]
    assert (row.oldValue, row.newValue, row.reservedDeltaMinor, row.committedDeltaMinor) == (
        "5000",
        "0",
        -500_000,
        550_000,
    )
    assert orchestrator.balances() == (0, 5500, 94500)


def test_commit_beyond_reservation_needs_available_amount(orchestrator: Orchestrator) -> None:
    succeeded(orchestrator.reserve())
    succeeded(orchestrator.reserve(requestId="another", amount=94_500))
    reply = failed(orchestrator.commit(amount=5500.01), 409, Code.INSUFFICIENT_BUDGET)
    # It may spend its own reservation and the 500 that are available.
    assert reply["reason"] == "Insufficient budget. Available: $5,500, Requested: $5,500.01"
    assert (reply["available"], reply["shortfall"]) == (5500, Decimal("0.01"))
    assert orchestrator.balances() == (99500, 0, 500)
    assert succeeded(orchestrator.commit(amount=5500))["newAvailable"] == 0


def test_commit_without_open_reservation(
    orchestrator: Orchestrator,
) -> None:
    failed(orchestrator.commit(), 404, Code.REQUEST_NOT_FOUND)
    succeeded(orchestrator.check())
    failed(orchestrator.commit(), 409, Code.NO_OPEN_RESERVATION)
    add_budget("Travel", "1000", "travel")
    succeeded(orchestrator.reserve(requestId="elsewhere", budgetId="travel", amount=10))
    failed(orchestrator.commit(requestId="elsewhere", amount=10), 409, Code.NO_OPEN_RESERVATION)
    succeeded(orchestrator.reserve())
    succeeded(orchestrator.release())
    failed(orchestrator.commit(), 409, Code.NO_OPEN_RESERVATION)
    assert orchestrator.balances() == (0, 0, 100000)


def test_external_ref_is_in_the_audit_log(orchestrator: Orchestrator) -> None:
    succeeded(orchestrator.reserve())
    succeeded(orchestrator.commit(externalRef="PO-2041"))
    assert [row.externalRef for row in movements()] == [None, "PO-2041"]


def test_closing_commit_is_replayed(orchestrator: Orchestrator) -> None:
    succeeded(orchestrator.reserve())
    succeeded(orchestrator.commit(amount=2000, externalRef=None))
    first = orchestrator.commit(amount=3000, externalRef=None)
    again = orchestrator.commit(amount=3000, externalRef=None)
    succeeded(again, replayed=True)
    assert again.data == first.data
    failed(orchestrator.commit(amount=2000, externalRef=None), 409, Code.NO_OPEN_RESERVATION)
    assert orchestrator.balances() == (0, 5000, 95000)


# release


def test_reservation_can_be_released_in_parts(orchestrator: Orchestrator) -> None:
    succeeded(orchestrator.reserve())
    first = succeeded(orchestrator.release(amount=1200.5))
    assert (first["amountReleased"], first["amountHeld"], first["newAvailable"]) == (
        Decimal("1200.5"),
        Decimal("3799.5"),
        Decimal("96200.5"),
    )
    last = succeeded(orchestrator.release(amount=3799.5))
    assert (last["amountReleased"], last["amountHeld"], last["newAvailable"]) == (
        Decimal("3799.5"),
        0,
        100000,
    )
    assert [(row.oldValue, row.newValue) for row in movements()] == [
        ("0", "5000"),
        ("5000", "3799.5"),
        ("3799.5", "0"),
    ]


def test_check_shows_the_whole_balance(orchestrator: Orchestrator) -> None:
    succeeded(orchestrator.reserve())
    succeeded(orchestrator.commit(amount=2000))
    balance = {
        "id": BUDGET,
        "currency": "USD",
        "budgetedAmount": 100000,
        "reservedAmount": 3000,
        "committedAmount": 2000,
        "available": 95000,
    }
    assert succeeded(orchestrator.check(requestId="another"))["budget"] == balance


def test_key_for_all_customers_fails_for_disabled_customer(
    orchestrator: Orchestrator,
) -> None:
    everywhere = Orchestrator(orchestrator.client, key_headers(None))
    succeeded(everywhere.reserve())
    customers.disable_customer(ROOT, CUSTOMER)
    for call in (everywhere.reserve, everywhere.commit, everywhere.release):
        assert list(failed(call(), 400, Code.INVALID_CUSTOMER)["fields"]) == ["customerId"]


def test_release_of_more_than_held_moves_nothing(orchestrator: Orchestrator) -> None:
    succeeded(orchestrator.reserve())
    succeeded(orchestrator.reserve(requestId="another"))
    for changes, held in (({"amount": 5000.01}, 5000), ({"requestId": "unknown"}, 0)):
        reply = failed(orchestrator.release(**changes), 200, Code.AMOUNT_EXCEEDS_RESERVED)
        assert (reply["amountReleased"], reply["amountHeld"], reply["newAvailable"]) == (
            0,
            held,
            90000,
        )
    succeeded(orchestrator.commit(amount=2000))
    assert failed(orchestrator.release(), 200, Code.AMOUNT_EXCEEDS_RESERVED)["amountHeld"] == 3000
    assert orchestrator.balances() == (8000, 2000, 90000)
    assert succeeded(orchestrator.release(amount=3000))["amountReleased"] == 3000


def test_only_the_closing_release_is_replayed(
    orchestrator: Orchestrator,
) -> None:
    succeeded(orchestrator.reserve())
    first = orchestrator.release()
    succeeded(orchestrator.reserve(requestId="another"))
    again = orchestrator.release()
    succeeded(again, replayed=True)
    assert again.data == first.data
    for changes in ({"action": "manual"}, {"amount": 4000}):
        failed(orchestrator.release(**changes), 200, Code.AMOUNT_EXCEEDS_RESERVED)
    assert [row.action for row in movements()] == ["RESERVE", "RELEASE", "RESERVE"]


def test_committed_money_is_not_released(orchestrator: Orchestrator) -> None:
    succeeded(orchestrator.reserve())
    succeeded(orchestrator.commit())
    assert failed(orchestrator.release(), 200, Code.AMOUNT_EXCEEDS_RESERVED)["amountHeld"] == 0
    assert orchestrator.balances() == (0, 5000, 95000)


# Idempotency-Key


@pytest.mark.parametrize("call", ["commit", "release"])
def test_partial_movement_with_key_happens_once(orchestrator: Orchestrator, call: str) -> None:
    send = getattr(orchestrator, call)
    succeeded(orchestrator.reserve())
    first = send("part-1", amount=1000)
    succeeded(first)
    again = send("part-1", amount=1000)
    succeeded(again, replayed=True)
    assert again.data == first.data
    # The guide's commit has an externalRef, which is a replay by itself.
    other = {"externalRef": "PO-1003"} if call == "commit" else {}
    assert succeeded(send("part-2", amount=1000, **other))["amountHeld"] == 3000
    assert len(movements()) == 3


def test_key_with_another_body_is_an_error(orchestrator: Orchestrator) -> None:
    succeeded(orchestrator.reserve("key"))
    for changes in ({"amount": 4000}, {"requestId": "another"}, {"reason": "another"}):
        failed(orchestrator.reserve("key", **changes), 422, Code.IDEMPOTENCY_KEY_REUSED)
    succeeded(orchestrator.commit("key", amount=1000))
    failed(orchestrator.commit("key", amount=1000, final=True), 422, Code.IDEMPOTENCY_KEY_REUSED)
    succeeded(orchestrator.release("key", amount=1000))
    failed(
        orchestrator.release("key", amount=1000, action="manual"), 422, Code.IDEMPOTENCY_KEY_REUSED
    )
    assert orchestrator.balances() == (3000, 1000, 96000)


def test_key_compares_values_not_json_text(orchestrator: Orchestrator) -> None:
    succeeded(orchestrator.reserve())
    body = json.dumps(commit_body(amount=1000))
    first = orchestrator.post("commit", body, "part-1")
    again = orchestrator.post(
        "commit", body.replace("1000", "1000.00").replace(", ", ",\n  "), "part-1"
    )
    succeeded(again, replayed=True)
    assert again.data == first.data


def test_keys_of_two_callers_are_separate(orchestrator: Orchestrator) -> None:
    other = Orchestrator(orchestrator.client, key_headers(name="another service"))
    succeeded(orchestrator.reserve())
    succeeded(orchestrator.commit("part-1", amount=1000, externalRef=None))
    succeeded(other.commit("part-1", amount=1000, externalRef=None))
    assert orchestrator.balances() == (3000, 2000, 95000)


@pytest.mark.parametrize("call", ["commit", "release"])
def test_late_duplicate_with_key_moves_nothing(orchestrator: Orchestrator, call: str) -> None:
    send = getattr(orchestrator, call)
    succeeded(orchestrator.reserve())
    first = send("close-1")
    succeeded(orchestrator.check())
    succeeded(orchestrator.reserve())
    before = orchestrator.balances()
    again = send("close-1")
    succeeded(again, replayed=True)
    assert again.data == first.data
    assert orchestrator.balances() == before


@pytest.mark.parametrize("call", ["reserve", "commit", "release"])
def test_key_sent_with_a_replay_is_stored(orchestrator: Orchestrator, call: str) -> None:
    calls: list[Callable[..., TestResponse]] = (
        [orchestrator.reserve]
        if call == "reserve"
        else [orchestrator.reserve, getattr(orchestrator, call)]
    )
    first = [send() for send in calls][-1]
    again = calls[-1]("late")
    succeeded(again, replayed=True)
    failed(calls[-1]("late", reason="another"), 422, Code.IDEMPOTENCY_KEY_REUSED)
    if call == "reserve":
        succeeded(orchestrator.release())
    # The request is reserved again, and the duplicate arrives once more.
    succeeded(orchestrator.check())
    succeeded(orchestrator.reserve())
    before = orchestrator.balances()
    late = calls[-1]("late")
    succeeded(late, replayed=True)
    assert first.data == again.data == late.data
    assert orchestrator.balances() == before


@pytest.mark.parametrize("key", ["", "   ", "k" * 256])
def test_blank_or_too_long_key_is_an_error(orchestrator: Orchestrator, key: str) -> None:
    headers = orchestrator.headers | {"Idempotency-Key": key}
    response = orchestrator.client.post("/api/budget/reserve", json=reserve_body(), headers=headers)
    assert list(failed(response, 400, Code.INVALID_REQUEST)["fields"]) == ["Idempotency-Key"]
    succeeded(orchestrator.reserve("k" * 255))


@pytest.mark.parametrize(
    "character",
    ["é".encode(), "日".encode(), b"\x80"],
    ids=["two bytes", "three bytes", "not UTF-8"],
)
def test_key_length_is_counted_in_characters(orchestrator: Orchestrator, character: bytes) -> None:
    sent = character.decode("latin-1")
    too_long = orchestrator.client.post(
        "/api/budget/reserve",
        json=reserve_body(),
        headers=orchestrator.headers | {"Idempotency-Key": sent * 256},
    )
    assert list(failed(too_long, 400, Code.INVALID_REQUEST)["fields"]) == ["Idempotency-Key"]
    first = succeeded(orchestrator.reserve(sent * 255))
    assert succeeded(orchestrator.reserve(sent * 255), replayed=True) == first


# Permissions for replays


def test_other_user_gets_no_replay(orchestrator: Orchestrator) -> None:
    succeeded(orchestrator.check())
    succeeded(orchestrator.reserve("key"))
    reserve = ReserveRequest(
        budget_id=BUDGET,
        request_id="intake-789",
        amount=Decimal(5000),
        reason="Slack - Team collaboration",
    )
    with pytest.raises(RequestError) as other_user:
        ledger.reserve(MARK, reserve, idempotency_key="key")
    assert other_user.value.code is Code.NOT_YOUR_REQUEST
    succeeded(orchestrator.release(action="cancel", originalRequesterId="user-123"))
    failed(
        orchestrator.release(action="cancel", originalRequesterId="user-456"),
        403,
        Code.NOT_YOUR_REQUEST,
    )
    for named in ("user-123", "user-456"):
        cancel = ReleaseRequest(
            budget_id=BUDGET,
            request_id="intake-789",
            amount=Decimal(5000),
            action=ReleaseAction.CANCEL,
            original_requester_id=named,
            reason=None,
        )
        with pytest.raises(RequestError) as other_user:
            ledger.release(MARK, cancel)
        assert other_user.value.code is Code.NOT_YOUR_REQUEST


def test_role_without_permission_gets_no_replay(orchestrator: Orchestrator) -> None:
    succeeded(orchestrator.reserve())
    commit = CommitRequest(budget_id=BUDGET, request_id="intake-789", amount=Decimal(5000))
    assert ledger.commit(FIONA, commit).data["amountCommitted"] == 5000
    assert ledger.commit(FIONA, commit).replayed
    with pytest.raises(RequestError) as demoted:
        ledger.commit(MARK, commit)
    assert demoted.value.code is Code.FORBIDDEN


def test_service_of_other_customer_gets_no_replay(orchestrator: Orchestrator) -> None:
    customers.add_customer(ROOT, "org-7", "Seven")
    foreign = Orchestrator(orchestrator.client, key_headers("org-7"))
    succeeded(orchestrator.reserve("key"))
    failed(foreign.reserve("key"), 404, Code.BUDGET_NOT_FOUND)
    succeeded(orchestrator.release("key"))
    failed(foreign.release("key"), 404, Code.BUDGET_NOT_FOUND)
    failed(foreign.commit(), 404, Code.BUDGET_NOT_FOUND)


# Deleted and reduced budgets


def test_deleted_budget_settles_only_open_reservations(
    orchestrator: Orchestrator,
) -> None:
    first = orchestrator.reserve()
    succeeded(orchestrator.reserve(requestId="another"))
    soft_delete()
    failed(orchestrator.reserve(requestId="new"), 409, Code.BUDGET_DELETED)
    again = orchestrator.reserve()
    succeeded(again, replayed=True)
    assert again.data == first.data
    assert succeeded(orchestrator.commit())["amountCommitted"] == 5000
    assert succeeded(orchestrator.release(requestId="another"))["amountReleased"] == 5000
    assert orchestrator.balances() == (0, 5000, 95000)


def test_check_does_not_find_a_deleted_budget(orchestrator: Orchestrator) -> None:
    soft_delete()
    assert succeeded(orchestrator.check())["code"] == Code.NO_BUDGET
    # Another budget may take its place.
    add_budget("Engineering", "7000", "budget-124")
    assert succeeded(orchestrator.check())["budget"]["id"] == "budget-124"


def test_commit_beyond_reservation_on_deleted_budget(
    orchestrator: Orchestrator,
) -> None:
    succeeded(orchestrator.reserve())
    soft_delete()
    failed(orchestrator.commit(amount=6000), 409, Code.BUDGET_DELETED)
    assert orchestrator.balances() == (5000, 0, 95000)


def test_overdrawn_budget_rejects_new_spending(
    orchestrator: Orchestrator,
) -> None:
    succeeded(orchestrator.reserve(amount=40_000))
    succeeded(orchestrator.reserve(requestId="another", amount=20_000))
    add_budget("Engineering", "50000", BUDGET)
    assert orchestrator.balances() == (60000, 0, -10000)
    check = succeeded(orchestrator.check(requestId="new", amount=1))
    assert (check["available"], check["budget"]["available"]) == (False, -10000)
    assert check["reason"] == "Insufficient budget. Available: -$10,000, Requested: $1"
    reply = failed(orchestrator.reserve(requestId="new", amount=1), 409, Code.INSUFFICIENT_BUDGET)
    assert (reply["available"], reply["shortfall"]) == (-10000, 10001)
    # A movement may go on unless it increases the overdraft.
    failed(orchestrator.commit(amount=40_000.01), 409, Code.INSUFFICIENT_BUDGET)
    assert succeeded(orchestrator.commit(amount=40_000))["newAvailable"] == -10000
    assert (
        succeeded(orchestrator.release(requestId="another", amount=20_000))["newAvailable"] == 10000
    )


# The audit log


def test_audit_rows_of_every_kind_of_movement(orchestrator: Orchestrator) -> None:
    jane, service, fiona = (
        "Jane Doe (jane@acme.com)",
        "orchestrator (service)",
        "Fiona Adams (fiona@acme.com)",
    )
    succeeded(orchestrator.check())
    # Another request on the same budget does not appear in these rows.
    succeeded(orchestrator.reserve(requestId="bystander", amount=700, userId="user-456"))
    succeeded(orchestrator.reserve())
    succeeded(orchestrator.commit(amount=1200.5))
    succeeded(orchestrator.release(amount=800, action="manual", reason=None))
    succeeded(orchestrator.commit(amount=2000, final=True, reason=None, externalRef=None))

    own = CheckRequest.model_validate(check_body(requestId="own", amount=Decimal(300)))
    ledger.check(JANE, own)
    ledger.reserve(JANE, ReserveRequest(budget_id=BUDGET, request_id="own", amount=Decimal(300)))
    ledger.release(
        JANE,
        ReleaseRequest(
            budget_id=BUDGET,
            request_id="own",
            amount=Decimal(300),
            action=ReleaseAction.CANCEL,
            original_requester_id="user-123",
        ),
    )
    over = OverBudget(approved_by="fpa-001", reason="Signed by the board")
    ledger.reserve(
        FIONA,
        ReserveRequest(
            budget_id=BUDGET,
            request_id="big",
            amount=Decimal(200_000),
            user_id="user-123",
            over_budget=over,
        ),
    )
    succeeded(orchestrator.release(requestId="big", amount=200_000, reason=None))
    add_budget("Engineering", "120000", BUDGET)

    columns = (
        AuditLog.version,
        AuditLog.action,
        AuditLog.requestId,
        AuditLog.oldValue,
        AuditLog.newValue,
        AuditLog.budgetedDeltaMinor,
        AuditLog.reservedDeltaMinor,
        AuditLog.committedDeltaMinor,
        AuditLog.changedBy,
        AuditLog.onBehalfOf,
        AuditLog.approvedBy,
        AuditLog.reason,
        AuditLog.externalRef,
    )
    rows: list[Any] = list(
        AuditLog.select(*columns).where(AuditLog.budgetId == BUDGET).order_by(AuditLog.id).tuples()
    )
    created, changed = rows[0], rows[-1]
    assert created[:8] == (1, "CREATE", None, None, "100000", 10_000_000, 0, 0)
    assert changed[:8] == (12, "UPDATE", None, "100000", "120000", 2_000_000, 0, 0)
    assert created[8] == changed[8] == "root (command line)"
    remainder = "Remainder released by the final commit"
    assert rows[2:-1] == [
        (
            3,
            "RESERVE",
            "intake-789",
            "0",
            "5000",
            0,
            500_000,
            0,
            service,
            jane,
            None,
            "Slack - Team collaboration",
            None,
        ),
        (
            4,
            "COMMIT",
            "intake-789",
            "5000",
            "3799.5",
            0,
            -120_050,
            120_050,
            service,
            jane,
            None,
            "Invoice paid",
            "PO-1002",
        ),
        (
            5,
            "RELEASE",
            "intake-789",
            "3799.5",
            "2999.5",
            0,
            -80_000,
            0,
            service,
            jane,
            None,
            "Budget released manually",
            None,
        ),
        (
            6,
            "COMMIT",
            "intake-789",
            "2999.5",
            "999.5",
            0,
            -200_000,
            200_000,
            service,
            jane,
            None,
            "Request fulfilled",
            None,
        ),
        (
            7,
            "RELEASE",
            "intake-789",
            "999.5",
            "0",
            0,
            -99_950,
            0,
            service,
            jane,
            None,
            remainder,
            None,
        ),
        (
            8,
            "RESERVE",
            "own",
            "0",
            "300",
            0,
            30_000,
            0,
            jane,
            None,
            None,
            "Budget reserved for request",
            None,
        ),
        (
            9,
            "RELEASE",
            "own",
            "300",
            "0",
            0,
            -30_000,
            0,
            jane,
            None,
            None,
            "Request cancelled by user",
            None,
        ),
        (
            10,
            "OVER_BUDGET",
            "big",
            "0",
            "200000",
            0,
            20_000_000,
            0,
            fiona,
            jane,
            fiona,
            "Signed by the board",
            None,
        ),
        (
            11,
            "RELEASE",
            "big",
            "200000",
            "0",
            0,
            -20_000_000,
            0,
            service,
            jane,
            None,
            "Request rejected",
            None,
        ),
    ]


def test_audit_log_has_only_real_movements(orchestrator: Orchestrator) -> None:
    first = succeeded(orchestrator.reserve())
    succeeded(orchestrator.reserve(), replayed=True)
    failed(orchestrator.reserve(amount=1), 409, Code.REQUEST_CONFLICT)
    failed(
        orchestrator.reserve(requestId="too much", amount=200_000), 409, Code.INSUFFICIENT_BUDGET
    )
    failed(orchestrator.release(amount=6000), 200, Code.AMOUNT_EXCEEDS_RESERVED)
    failed(orchestrator.commit(amount=200_000), 409, Code.INSUFFICIENT_BUDGET)
    assert [(row.action, row.reservationId, row.customerId) for row in movements()] == [
        ("RESERVE", first["reservationId"], CUSTOMER)
    ]


def test_reply_to_reserve(orchestrator: Orchestrator) -> None:
    reply = succeeded(orchestrator.reserve())
    reservation = Reservation.get()
    assert reply == {
        "success": True,
        "reservationId": reservation.id,
        "budgetId": BUDGET,
        "requestId": "intake-789",
        "amountReserved": 5000,
        "newAvailable": 95_000,
    }


def test_check_log_has_request_and_answer(orchestrator: Orchestrator) -> None:
    reply = orchestrator.check(purpose="Team collaboration", vendor="Slack")
    row = BudgetCheckLog.get()
    assert (row.vendor, row.purpose, row.department, row.fiscalPeriod) == (
        "Slack",
        "Team collaboration",
        "Engineering",
        "Q1 2025",
    )
    assert (row.userId, row.userName, row.userEmail, row.requestId) == (
        "user-123",
        "Jane Doe",
        "jane@acme.com",
        "intake-789",
    )
    assert (row.reason, row.code, row.checkId, row.response) == (
        *(values(reply)[name] for name in ("reason", "code", "checkId")),
        reply.text.rstrip(),
    )


def test_check_duration_counts_from_the_request_start(
    orchestrator: Orchestrator,
) -> None:
    request = CheckRequest(**{snake(name): value for name, value in check_body().items()})
    for ago_ms, least_ms in ((10_000_000, 10_000_000), (-10_000_000, 0)):
        ledger.check(FIONA, request, started_ns=time.perf_counter_ns() - ago_ms * 1_000_000)
        duration_ms = (
            BudgetCheckLog.select(BudgetCheckLog.durationMs)
            .order_by(BudgetCheckLog.id.desc())
            .first()
            .durationMs
        )
        assert least_ms <= duration_ms < least_ms + 60_000


def snake(name: str) -> str:
    return re.sub("([A-Z])", r"_\1", name).lower()


def test_unknown_currency_without_a_budget_is_an_error(
    orchestrator: Orchestrator,
) -> None:
    reply = failed(
        orchestrator.check(department="Nowhere", currency="ABC"), 400, Code.INVALID_REQUEST
    )
    assert list(reply["fields"]) == ["currency"]


@pytest.mark.parametrize("call", ["reserve", "commit", "release"])
def test_call_for_another_customer_moves_nothing(orchestrator: Orchestrator, call: str) -> None:
    orchestrator.reserve()
    before = orchestrator.balances(), len(movements())
    failed(getattr(orchestrator, call)(customerId="org-789", amount=1), 400, Code.INVALID_CUSTOMER)
    assert (orchestrator.balances(), len(movements())) == before


def test_commit_and_release_replies_name_the_reservation(orchestrator: Orchestrator) -> None:
    reservation_id = succeeded(orchestrator.reserve())["reservationId"]
    for reply in (
        succeeded(orchestrator.commit(amount=1)),
        succeeded(orchestrator.release(amount=1)),
    ):
        assert (reply["budgetId"], reply["requestId"], reply["reservationId"]) == (
            BUDGET,
            "intake-789",
            reservation_id,
        )
