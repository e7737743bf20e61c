"""Balances as of past days, comparison, changes and spend totals, against a plain model.

The model keeps each budget's figures in lists; the database has histories that the ledger wrote.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
import time_machine
from flask import Flask
from support.machine import sqlite_only
from support.world import ROOT

from budget_sync import database, ledger, manual_budgets
from budget_sync.accounts import customers
from budget_sync.database.models import Budget, Customer
from budget_sync.domain.errors import RequestError
from budget_sync.domain.request_models import (
    CheckRequest,
    CommitRequest,
    ReleaseAction,
    ReleaseRequest,
    ReserveRequest,
    ReverseRequest,
    ReverseTo,
    SpendRequest,
)
from budget_sync.queries import spend_totals as spend_queries
from budget_sync.queries.as_of import lines_at, parse_past_day, past_day, rows_at, search_at
from budget_sync.queries.budgets import BudgetQuery
from budget_sync.queries.changes_between import changes_between
from budget_sync.queries.compare import comparison
from budget_sync.queries.overview_at import overview_at
from budget_sync.queries.spend_totals import spend_totals

pytestmark = pytest.mark.both_engines

ACME = "acme"
#: Half an hour off: a mistake of a whole hour cannot hide.
ZONE = ZoneInfo("Asia/Kolkata")
HISTORIES = 1000
VENDORS = ("Slack", "slack ", "Figma", "AWS", None)
DAYS = [date(2026, 1, 1) + timedelta(days) for days in (0, 9, 31, 60, 100, 170, 240, 330)]

Figures = tuple[int, int, int]


@dataclass
class History:
    """A budget of the model. `states` are its time, whether it is live, and its figures."""

    id: str
    department: str
    period: str
    budgeted: int = 0
    reserved: int = 0
    committed: int = 0
    is_live: bool = True
    held: dict[str, int] = field(default_factory=dict)
    spends: dict[str, int] = field(default_factory=dict)
    vendors: dict[str, str] = field(default_factory=dict)
    states: list[tuple[datetime, bool, Figures]] = field(default_factory=list)
    spent: list[tuple[datetime, str, int]] = field(default_factory=list)

    def at(self, day: date) -> Figures | None:
        """The figures at the end of a day: those of the latest state that is old enough."""
        for moment, is_live, figures in reversed(self.states):
            if moment.astimezone(ZONE).date() <= day:
                return figures if is_live else None
        return None


class Writer:
    """Writes random histories with the ledger, and the same into the model."""

    def __init__(self) -> None:
        self.random = random.Random(311026)  # noqa: S311  # the same histories every time
        self.count = 0

    def write(self, number: int) -> History:
        """Write the history of one budget."""
        history = History(
            f"budget-{number}",
            f"Department {number % 25}",
            f"Q{number // 25 % 4 + 1} {2020 + number // 100}",
        )
        now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=self.random.randrange(2000))
        self.step(history, now, self.raise_amount)
        actions = (self.raise_amount, self.reserve, self.reserve, self.settle, self.settle)
        more = (self.spend, self.reverse, self.remove_or_restore)
        for _ in range(self.random.randrange(7)):
            is_jump = self.random.random() < 0.1
            now += timedelta(minutes=self.random.randrange(-4000 if is_jump else 0, 30_000))
            self.step(history, now, self.random.choice(actions + more))
        return history

    def step(
        self, history: History, now: datetime, action: Callable[[History, datetime], None]
    ) -> None:
        """Do one action at a time, and keep the state after it."""
        with time_machine.travel(now, tick=False):
            action(history, now)
        figures = (history.budgeted, history.reserved, history.committed)
        # An action that was not possible has no audit row.
        if not history.states or history.states[-1][1:] != (history.is_live, figures):
            history.states.append((now, history.is_live, figures))

    def raise_amount(self, history: History, _now: datetime) -> None:
        """Create the budget or raise its amount."""
        if history.is_live:
            history.budgeted += self.random.randrange(100, 10_000_00)
            manual_budgets.set_budget(
                ROOT,
                ACME,
                history.department,
                history.period,
                Decimal(history.budgeted) / 100,
                budget_id=history.id if not history.states else None,
            )

    def reserve(self, history: History, _now: datetime) -> None:
        """Check, often, and reserve a part of what is available."""
        most = history.budgeted - history.reserved - history.committed
        if not history.is_live or most <= 0:
            return
        self.count += 1
        request, amount = f"request-{self.count}", self.random.randrange(1, most + 1)
        vendor = self.random.choice(VENDORS)
        if vendor and self.count % 3:
            self.check(history, request, "Older vendor", amount)
            self.check(history, request, vendor, amount)
            history.vendors[request] = vendor
        body = ReserveRequest(
            budget_id=history.id, request_id=request, amount=Decimal(amount) / 100
        )
        ledger.reserve(ROOT, body)
        history.reserved += amount
        history.held[request] = amount

    def check(self, history: History, request: str, vendor: str, amount: int) -> None:
        """Log a check with a vendor."""
        ledger.check(
            ROOT,
            CheckRequest(
                request_id=request,
                user_id="jane",
                user_name="Jane",
                user_email="jane@example.com",
                customer_id=ACME,
                department=history.department,
                fiscal_period=history.period,
                amount=Decimal(amount) / 100,
                vendor=vendor,
            ),
        )

    def settle(self, history: History, now: datetime) -> None:
        """Commit or release a hold."""
        if not history.held:
            return
        request, amount = history.held.popitem()
        history.reserved -= amount
        if self.random.random() < 0.7:
            body = CommitRequest(
                budget_id=history.id, request_id=request, amount=Decimal(amount) / 100
            )
            ledger.commit(ROOT, body)
            history.committed += amount
            history.spent.append((now, history.vendors.get(request, ""), amount))
        else:
            ledger.release(
                ROOT,
                ReleaseRequest(
                    budget_id=history.id,
                    request_id=request,
                    amount=Decimal(amount) / 100,
                    action=ReleaseAction.REJECT,
                ),
            )

    def spend(self, history: History, now: datetime) -> None:
        """Record a spend, which may overdraw."""
        if not history.is_live:
            return
        self.count += 1
        amount, vendor = self.random.randrange(1, 500_00), self.random.choice(VENDORS)
        body = SpendRequest(
            spend_id=f"card-{self.count}",
            budget_id=history.id,
            amount=Decimal(amount) / 100,
            date=now.date(),
            vendor=vendor,
            reason="Card",
        )
        ledger.spend(ROOT, body)
        history.spends[body.spend_id] = amount
        history.vendors[body.spend_id] = body.vendor or ""
        history.committed += amount
        history.spent.append((now, body.vendor or "", amount))

    def reverse(self, history: History, now: datetime) -> None:
        """Return a spend."""
        if not history.spends:
            return
        spend, amount = history.spends.popitem()
        ledger.reverse(
            ROOT,
            ReverseRequest(
                budget_id=history.id,
                request_id=spend,
                amount=Decimal(amount) / 100,
                to=ReverseTo.AVAILABLE,
                reason="Refund",
            ),
        )
        history.committed -= amount
        history.spent.append((now, history.vendors[spend], -amount))

    def remove_or_restore(self, history: History, _now: datetime) -> None:
        """Delete the budget, or revive it."""
        act = manual_budgets.remove_budget if history.is_live else manual_budgets.restore_budget
        act(ROOT, history.id, reason="Test")
        history.is_live = not history.is_live


@pytest.mark.long
def test_reports_agree_with_a_plain_model_of_1000_histories(app: Flask) -> None:
    with time_machine.travel(datetime(2026, 1, 1, tzinfo=UTC), tick=False):
        customers.add_customer(ROOT, ACME, "Acme", time_zone=ZONE.key)
    writer = Writer()
    histories = [writer.write(number) for number in range(HISTORIES)]
    customer = Customer.get_by_id(ACME)
    assert any(
        earlier[0] > later[0]
        for history in histories
        for earlier, later in zip(history.states, history.states[1:], strict=False)
    ), "no clock jumps"
    assert any(not state[1] for history in histories for state in history.states)
    for day in DAYS:
        compare_balances(customer, histories, day)
    compare_periods(customer, histories, DAYS[-2])
    for start, end in zip(DAYS, DAYS[2:], strict=False):
        compare_changes(customer, histories, start, end)
    compare_spend(customer, histories, DAYS[1], DAYS[-1])
    compare_spend(customer, histories, date(2026, 2, 11), date(2026, 3, 3), "slack")


def compare_balances(customer: Customer, histories: list[History], day: date) -> None:
    """Balances as of a day, of each budget and of all."""
    found = {line.id: line.balance[2:] for line in lines_at(ROOT, ACME, past_day(day, customer))}
    expected = {each.id: each.at(day) for each in histories}
    assert found == {key: figures for key, figures in expected.items() if figures}, day
    overview = overview_at(ROOT, customer, past_day(day, customer), "all")
    totals = [total.balance[2:] for total in overview.totals]
    sums = tuple(map(sum, zip(*found.values(), strict=True)))
    assert totals == ([sums] if found else []), day
    assert sum(each.budgets for each in overview.departments) == len(found)
    query = BudgetQuery(state="overdrawn", order="-available")
    overdrawn = search_at(ROOT, ACME, past_day(day, customer), query)
    left = {key: value[0] - value[1] - value[2] for key, value in found.items()}
    assert [left[line.id] for line in overdrawn] == sorted(
        (minor for minor in left.values() if minor < 0), reverse=True
    )


def compare_periods(customer: Customer, histories: list[History], day: date) -> None:
    """Two periods side by side, of today and as of a day."""
    keys = {"2021-Q2": "Q2 2021", "2022-Q2": "Q2 2022"}
    for as_of in (None, past_day(day, customer)):
        expected: dict[str, dict[str, Figures]] = defaultdict(dict)
        for each in histories:
            figures = each.at(day if as_of else date(2099, 1, 1))
            for key, period in keys.items():
                if each.period == period and figures:
                    expected[each.department][key] = figures
        found = comparison(ROOT, customer, list(keys), as_of)
        assert [period.key for period in found.chosen] == list(keys)
        assert {
            row.name: {key: balance[2:] for key, balance in row.balances.items()}
            for row in found.rows
        } == expected


def compare_changes(customer: Customer, histories: list[History], start: date, end: date) -> None:
    """Net changes of budgets and departments between two days."""
    found = changes_between(ROOT, customer, past_day(start, customer), past_day(end, customer))
    expected: dict[str, tuple[Figures, Figures]] = {}
    net: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for each in histories:
        old, new = each.at(start), each.at(end)
        if old != new:
            expected[each.id] = (old or (0, 0, 0), new or (0, 0, 0))
            for number, (before, after) in enumerate(zip(*expected[each.id], strict=True)):
                net[each.department][number] += after - before
    assert {each.budget_id: (each.before[2:], each.after[2:]) for each in found.budgets} == expected
    assert {
        each.name: [
            each.budgeted_delta_minor,
            each.reserved_delta_minor,
            each.committed_delta_minor,
        ]
        for each in found.departments
    } == net


def compare_spend(
    customer: Customer, histories: list[History], first: date, last: date, vendor: str = ""
) -> None:
    """Spend by vendor, department and month."""
    expected: dict[tuple[str, str, date], int] = defaultdict(int)
    for each in histories:
        for moment, name, minor in each.spent:
            day = moment.astimezone(ZONE).date()
            if first <= day <= last and vendor in name.strip().lower():
                key = name.strip().lower(), each.department, day.replace(day=1)
                expected[key] += minor
    found = spend_totals(ROOT, customer, first, last, vendor)
    cells = {
        (row.vendor.strip().lower(), row.department, month): minor
        for row in found.rows
        for month, minor in row.months.items()
        if minor
    }
    assert cells == {key: minor for key, minor in expected.items() if minor}
    assert found.totals == {"USD": (2, sum(expected.values()))}
    assert all(row.total_minor == sum(row.months.values()) for row in found.rows)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("2026-02-30", "must be a day such as"),
        ("31.10.2026", "must be a day such as"),
        ("2026-1-1", "must be a day from 1970"),
        ("1969-12-31", "must be a day from 1970"),
        ("0001-01-01", "must be a day from 1970"),
        ("9999-12-31", "must not be in the future"),
        ("2026-11-02", "must not be in the future"),
        ("2026-11-01", None),
    ],
)
def test_past_day_must_have_begun_in_the_customers_zone(text: str, problem: str | None) -> None:
    customer = Customer(timeZone=ZONE.key)
    # 1 November in Kolkata, 31 October in UTC.
    with time_machine.travel(datetime(2026, 10, 31, 20, tzinfo=UTC), tick=False):
        if problem is None:
            day = parse_past_day(text, "asOf", customer)
            assert day.end == datetime(2026, 11, 1, 18, 30, tzinfo=UTC)
            return
        with pytest.raises(RequestError) as raised:
            parse_past_day(text, "asOf", customer)
    assert problem in raised.value.fields["asOf"]


@sqlite_only
def test_past_balances_and_spend_use_their_indexes(app: Flask) -> None:
    customers.add_customer(ROOT, ACME, "Acme")
    customer = Customer.get_by_id(ACME)
    plans = {
        "balance": rows_at(datetime(2026, 1, 1, tzinfo=UTC)).where(Budget.customerId == ACME),
        "spent": spend_queries.movements(customer, date(2026, 1, 1), date(2026, 1, 31)),
    }
    found = {}
    for name, query in plans.items():
        sql, values = query.sql()
        rows = database.db.execute_sql(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()
        found[name] = " ".join(row[-1] for row in rows)
    assert "COVERING INDEX AuditLog_balance" in found["balance"]
    assert "AuditLog_deletion" in found["balance"]
    assert "AuditLog_spent" in found["spent"]
