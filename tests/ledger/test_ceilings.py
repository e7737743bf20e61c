"""The ceiling of 10^15 minor units: no figure of a budget reaches it, and no sum overflows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial
from pathlib import Path

import peewee
import pytest
from flask import Flask
from support.world import ROOT, key_headers, person, reserve_body, sign_in

from budget_sync import database, ledger, manual_budgets
from budget_sync.accounts import customers
from budget_sync.database import db
from budget_sync.database.models import AuditLog, Reservation
from budget_sync.domain import clock
from budget_sync.domain.balance import Balance
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.money import LIMIT_MINOR, format_money
from budget_sync.domain.permissions import Actor, Role
from budget_sync.domain.request_models import (
    CommitRequest,
    OverBudget,
    ReleaseAction,
    ReleaseRequest,
    ReserveRequest,
)
from budget_sync.ledger import verification
from budget_sync.queries import budgets, monitoring, overview, stats

pytestmark = pytest.mark.both_engines

ACME = "acme"
BUDGET = "treasury"

#: The largest amount in minor units.
MOST = LIMIT_MINOR - 1

#: Budgets at the ceiling.
MANY = 10_000

APPROVAL = OverBudget(approved_by="fiona", reason="The board insists")

SERVICE = Actor("key:1", None, "erp", None, Role.API_SYSTEM, ACME, may_overspend=True)


@pytest.fixture
def acme(app: Flask) -> Flask:
    """A customer with an approver."""
    # The highest limit, which also limits the invoice tolerance.
    customers.add_customer(ROOT, ACME, "Acme", auto_approve_limit_minor=MOST)
    person("fiona", Role.FPA_USER, ACME)
    return app


@pytest.fixture
def verified(acme: Flask) -> Iterator[None]:
    """After the test, counters, reservations and the audit log agree."""
    yield
    assert verification.verify().findings == []


def add_budget(amount: str, currency: str = "USD") -> None:
    manual_budgets.set_budget(
        ROOT,
        ACME,
        "Treasury",
        "Q1 2025",
        Decimal(amount),
        budget_id=BUDGET,
        currency=currency,
    )


def reserve(request_id: str, amount: str, over_budget: OverBudget | None = APPROVAL) -> None:
    ledger.reserve(
        SERVICE,
        ReserveRequest(
            budget_id=BUDGET,
            request_id=request_id,
            amount=Decimal(amount),
            over_budget=over_budget,
        ),
    )


def commit(request_id: str, amount: str) -> None:
    ledger.commit(
        SERVICE, CommitRequest(budget_id=BUDGET, request_id=request_id, amount=Decimal(amount))
    )


def rejected(call: Callable[[], object], code: Code) -> RequestError:
    """Assert that the call fails with that code and writes nothing; returns the error."""
    before = stored()
    with pytest.raises(RequestError) as raised:
        call()
    assert raised.value.code is code
    assert stored() == before
    return raised.value


def stored() -> tuple[object, ...]:
    """The counters of the budget, and how many reservations and audit rows there are."""
    return (figures(), Reservation.select().count(), AuditLog.select().count())


def figures() -> tuple[int, int]:
    """The reserved and committed amount of the budget, in minor units."""
    found: tuple[int, int] = db.execute_sql(
        f"""SELECT "reservedMinor", "committedMinor" FROM "BudgetUtilization"
        WHERE "budgetId" = '{BUDGET}'"""
    ).fetchone()
    return found


# One budget


@pytest.mark.parametrize(
    ("currency", "most", "least"),
    [
        ("USD", "9999999999999.99", "0.01"),
        ("JPY", "999999999999999", "1"),
        ("KWD", "999999999999.999", "0.001"),
        ("CLF", "99999999999.9999", "0.0001"),
    ],
)
@pytest.mark.usefixtures("verified")
def test_approvals_stop_below_the_ceiling(currency: str, most: str, least: str) -> None:
    """Without a ceiling, 9,280 of these approvals exceed 64 bits, and 11 a NUMERIC(20, 4)."""
    add_budget("0", currency)
    reserve("first", most)
    assert figures() == (MOST, 0)
    for number in range(12):
        error = rejected(partial(reserve, f"more-{number}", most), Code.AMOUNT_TOO_LARGE)
        assert error.facts == {"budgetId": BUDGET, "largestAmount": 0}
    error = rejected(lambda: reserve("one", least), Code.AMOUNT_TOO_LARGE)
    exponent = {"USD": 2, "JPY": 0, "KWD": 3, "CLF": 4}[currency]
    assert error.sentence == (
        "Reserved and committed amounts of a budget must stay below "
        f"{format_money(LIMIT_MINOR, currency, exponent)} together. This budget can take "
        f"{format_money(0, currency, exponent)} more. "
        "Reserve less, or release other reservations first."
    )
    assert figures() == (MOST, 0)


@pytest.mark.usefixtures("verified")
def test_reserved_and_committed_count_together() -> None:
    add_budget("0")
    reserve("spent", "6000000000000")
    commit("spent", "6000000000000")
    error = rejected(lambda: reserve("open", "4000000000000"), Code.AMOUNT_TOO_LARGE)
    assert error.facts["largestAmount"] == Decimal("3999999999999.99")
    reserve("open", "3999999999999.99")
    assert figures() == (MOST - 6 * 10**14, 6 * 10**14)
    # What is reserved can still be committed or released.
    commit("open", "1999999999999.99")
    ledger.release(
        SERVICE,
        ReleaseRequest(
            budget_id=BUDGET,
            request_id="open",
            amount=Decimal(2000000000000),
            action=ReleaseAction.REJECT,
        ),
    )
    assert figures() == (0, MOST - 2 * 10**14)


@pytest.mark.usefixtures("verified")
def test_without_approval_the_budget_is_the_limit() -> None:
    add_budget("9999999999999.99")
    reserve("first", "5000000000000", None)
    reserve("second", "4999999999999.98", None)
    error = rejected(lambda: reserve("too-much", "0.02", None), Code.INSUFFICIENT_BUDGET)
    assert error.facts["shortfall"] == Decimal("0.01")
    # A commit above the reservation takes the last available cent, and no more.
    rejected(lambda: commit("first", "5000000000000.02"), Code.INSUFFICIENT_BUDGET)
    commit("first", "5000000000000.01")
    commit("second", "4999999999999.98")
    assert figures() == (0, MOST)
    rejected(lambda: reserve("one", "0.01"), Code.AMOUNT_TOO_LARGE)


@pytest.mark.usefixtures("verified")
def test_budget_of_16_digits_is_an_error() -> None:
    add_budget("9999999999999.99")
    for amount in ("10000000000000", "1e400", "9" * 400):
        error = rejected(partial(add_budget, amount), Code.INVALID_REQUEST)
        assert list(error.fields) == ["amount"]


def test_approvals_at_the_same_time_stop_below_the_ceiling(acme: Flask, verified: None) -> None:
    add_budget("0")
    headers = key_headers(ACME, may_overspend=True)

    def approve(number: int) -> tuple[int, str | None]:
        body = reserve_body(
            budgetId=BUDGET,
            requestId=f"intake-{number}",
            amount=2_000_000_000_000,
            overBudget={"approvedBy": "fiona", "reason": "The board insists"},
        )
        reply = acme.test_client().post("/api/budget/reserve", json=body, headers=headers)
        return reply.status_code, (reply.json or {}).get("code")

    with ThreadPoolExecutor(8) as threads:
        replies = Counter(threads.map(approve, range(12)))
    assert replies == {(200, None): 4, (409, "AMOUNT_TOO_LARGE"): 8}
    assert figures() == (8 * 10**14, 0)


@pytest.mark.parametrize(
    "change", ['"reservedMinor" = "reservedMinor" + 2', '"committedMinor" = 2']
)
def test_database_rejects_figures_at_the_ceiling(acme: Flask, change: str) -> None:
    add_budget("0")
    reserve("first", "9999999999999.98")
    with pytest.raises(peewee.IntegrityError):
        database.transact(lambda: db.execute_sql(f'UPDATE "BudgetUtilization" SET {change}'))
    assert figures() == (MOST - 1, 0)


# Many budgets


def add_many() -> None:
    """MANY budgets, each with all of it reserved; half of them have two more decimals."""
    now = clock.to_text(clock.now())
    numbers = f"""
        WITH RECURSIVE numbers(i) AS (
            SELECT 0 UNION ALL SELECT i + 1 FROM numbers WHERE i < {MANY - 1}
        )
    """
    statements = (
        f"""{numbers} INSERT INTO "Budget" ("id", "customerId", "department", "departmentKey",
            "fiscalPeriod", "periodKey", "currency", "currencyExponent", "budgetedMinor",
            "createdAt", "updatedAt")
        SELECT 'b' || i, '{ACME}', 'd' || (i - i / 100 * 100), 'd' || (i - i / 100 * 100),
            'p' || (i / 100), 'p' || (i / 100), 'USD', 2 + 2 * (i & 1), {MOST}, '{now}', '{now}'
        FROM numbers""",
        f"""INSERT INTO "BudgetUtilization"
            ("budgetId", "customerId", "currencyExponent", "reservedMinor", "version")
        SELECT "id", "customerId", "currencyExponent", {MOST}, 2 FROM "Budget" """,
        f"""INSERT INTO "Reservation" ("id", "customerId", "budgetId", "requestId",
            "requesterId", "requesterName", "requesterEmail", "currencyExponent", "amountMinor",
            "heldMinor", "version", "status", "createdAt", "reserveReply")
        SELECT 'res_' || "id", "customerId", "id", 'intake', 'fiona', 'Fiona', '',
            "currencyExponent", {MOST}, {MOST}, 2, 'open', '{now}', '{{}}'
        FROM "Budget" """,
        f"""INSERT INTO "AuditLog" ("customerId", "budgetId", "version", "action",
            "budgetedDeltaMinor", "budgetedMinor", "reservedMinor", "committedMinor", "principal",
            "changedBy", "createdAt")
        SELECT "customerId", "id", 1, 'CREATE', {MOST}, {MOST}, 0, 0, 'test', 'test', '{now}'
        FROM "Budget" """,
        f"""INSERT INTO "AuditLog" ("customerId", "budgetId", "version", "action", "subject",
            "requestId", "reservationId", "reservedDeltaMinor", "budgetedMinor",
            "reservedMinor", "committedMinor", "principal", "changedBy", "createdAt")
        SELECT "customerId", "budgetId", 2, 'RESERVE', "requesterId", "requestId", "id", {MOST},
            {MOST}, {MOST}, 0, 'test', 'test', '{now}'
        FROM "Reservation" """,
    )
    database.transact(lambda: [db.execute_sql(statement) for statement in statements])


@pytest.fixture
def many(acme: Flask) -> Flask:
    """The app with MANY budgets at the ceiling."""
    add_many()
    return acme


#: The sum of a figure of all budgets, in units of 10^-4.
SUM_OF_MANY = MANY // 2 * MOST * 100 + MANY // 2 * MOST


def test_sums_of_many_budgets_at_the_ceiling_are_exact(many: Flask) -> None:
    assert SUM_OF_MANY > 2**63
    everything = Balance("USD", 4, SUM_OF_MANY, SUM_OF_MANY, 0)
    page = overview.overview(ROOT, customers.get_customer(ACME), overview.ALL_PERIODS)
    assert [(total.balance, total.high) for total in page.totals] == [(everything, MANY)]
    assert {department.balance for department in page.departments} == {
        # The number of a department is even or odd, as the numbers of all its budgets.
        Balance("USD", exponent, 100 * MOST, 100 * MOST, 0)
        for exponent in (2, 4)
    }
    assert [line.balance for line in monitoring.balances()] == [everything]
    used = [Decimal(line.used) for line in stats.load_stats(ROOT).utilization]
    assert sum(used) == Decimal(SUM_OF_MANY).scaleb(-4)
    _, high = budgets.budgets_page(ROOT, ACME, budgets.BudgetQuery(state="high"))
    assert high == MANY


@pytest.mark.long
def test_commands_and_pages_work_with_figures_at_the_ceiling(many: Flask, tmp_path: Path) -> None:
    for command in (["verify"], ["stats"], ["backup", str(tmp_path / "many.db")]):
        result = many.test_cli_runner().invoke(args=command)
        assert result.exit_code == 0, result.output
    person("alex", Role.ADMIN, ACME)
    client = sign_in(many, "alex@example.com")
    for path in ("/", "/?period=all", "/budgets", "/budgets.csv", "/budget?id=b1", "/requests"):
        page = client.get(path, buffered=True)
        assert page.status_code == 200, path
    total = format_money(SUM_OF_MANY, "USD", 4)
    assert total in client.get("/?period=all").text
    reply = client.get("/api/budgets/b0").json or {}
    assert (reply["reservedAmount"], reply["available"]) == (9999999999999.99, 0)


def test_contradictions_beyond_64_bits_are_reported(acme: Flask) -> None:
    """A damaged audit log is reported, and neither `verify` nor the page of the budget fails."""
    add_budget("100")
    largest = 2**63 - 1

    def damage() -> None:
        for version in (2, 3, 4):
            db.execute_sql(
                f"""INSERT INTO "AuditLog" ("customerId", "budgetId", "version", "action",
                    "budgetedDeltaMinor", "principal", "changedBy", "createdAt")
                VALUES ('{ACME}', '{BUDGET}', {version}, 'UPDATE', {largest}, 'x', 'x',
                    '2025-02-05T10:30:00Z')"""
            )

    database.transact(damage)
    findings = verification.verify().findings
    assert any("the balances differ from the sum of its audit log" in each for each in findings)
    line = budgets.budget_line(ROOT, ACME, BUDGET)
    points = budgets.burn_down(ROOT, ACME, line)
    assert points[0].balance.budgeted_minor == 3 * largest
