"""Checks that found no budget, by the department and period that they named."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from peewee import fn

from budget_sync.accounts.customers import fiscal_year_of
from budget_sync.database import combine_sums, sums
from budget_sync.database.models import Budget, BudgetCheckLog, Customer, DepartmentAlias
from budget_sync.domain import clock
from budget_sync.domain.names import fold
from budget_sync.domain.nearest import nearest
from budget_sync.domain.periods import FiscalYear, PeriodError, api_period_key
from budget_sync.domain.permissions import Action, Actor, require_any_for
from budget_sync.ledger import undecided
from budget_sync.ledger.suggestions import MAX_SUGGESTIONS

#: How far back the list goes.
LISTED_FOR = timedelta(days=90)

#: The most names and periods that are read, and that are listed; the latest first.
_READ: Final = 2000
LISTED: Final = 100


class Asked(NamedTuple):
    """The sum that checks asked for in one currency, in minor units."""

    currency: str
    exponent: int
    amount_minor: int


class Unmatched(NamedTuple):
    """The checks of one department and period, as sent, for which there is still no budget.

    `meant` is the department of that name or alias, if it has live budgets: then `periods` are
    theirs. Otherwise `nearest` are the names of departments that it may mean.
    """

    department: str
    period: str
    checks: int
    last_at: datetime
    asked: list[Asked]
    meant: str | None
    periods: list[str]
    nearest: list[str]


class UnmatchedPage(NamedTuple):
    """The latest LISTED groups of checks, and how many groups there are."""

    groups: list[Unmatched]
    total: int


class _Departments(NamedTuple):
    """The customer's live budgets and aliases, by key."""

    names: dict[str, str]
    periods: dict[str, dict[str, str]]
    aliases: dict[str, str]


def unmatched(actor: Actor, customer: Customer) -> UnmatchedPage:
    """The checks of the last LISTED_FOR that found no budget, and would find none now.

    Raises RequestError FORBIDDEN for ordinary users, who read only their own requests.
    """
    require_any_for(actor, Action.READ_REQUESTS, customer.id)
    known, fiscal_year = _departments(customer.id), fiscal_year_of(customer)
    found: list[tuple[Unmatched, str]] = []
    for group in _groups(customer.id):
        key = fold(group.department)
        if key not in known.names:
            key = known.aliases.get(key, key)
        if _period_key(group.period, fiscal_year) not in known.periods.get(key, {}):
            found.append((group, key))
    described = [_described(group, key, known) for group, key in found[:LISTED]]
    return UnmatchedPage(described, len(found))


def live_departments(actor: Actor, customer_id: str) -> list[str]:
    """The names of the departments with live budgets, in order: those that an alias can mean.

    Raises RequestError FORBIDDEN for ordinary users.
    """
    require_any_for(actor, Action.READ_REQUESTS, customer_id)
    return list(_departments(customer_id).names.values())


def _described(group: Unmatched, key: str, known: _Departments) -> Unmatched:
    if key in known.names:
        periods = known.periods[key]
        return group._replace(
            meant=known.names[key], periods=[periods[each] for each in sorted(periods)]
        )
    near = nearest(key, known.names, MAX_SUGGESTIONS)
    return group._replace(nearest=[known.names[each] for each in near])


def _groups(customer_id: str) -> list[Unmatched]:
    """The groups of checks, the latest first, before they are compared with the budgets."""
    # This uses the index of denied checks.
    rows: Any = (
        BudgetCheckLog.select(
            BudgetCheckLog.department,
            BudgetCheckLog.fiscalPeriod,
            BudgetCheckLog.currency,
            fn.COUNT(BudgetCheckLog.id),
            fn.MAX(BudgetCheckLog.timestamp).alias("last"),
            *sums(BudgetCheckLog.currencyExponent, BudgetCheckLog.amountMinor),
        )
        .where(
            BudgetCheckLog.customerId == customer_id,
            undecided.is_denied(),
            BudgetCheckLog.budgetId.is_null(),
            BudgetCheckLog.timestamp > clock.now() - LISTED_FOR,
        )
        .group_by(BudgetCheckLog.department, BudgetCheckLog.fiscalPeriod, BudgetCheckLog.currency)
        .order_by(fn.MAX(BudgetCheckLog.timestamp).desc())
        .limit(_READ)
        .tuples()
    )
    groups: dict[tuple[str, str], Unmatched] = {}
    for department, period, currency, count, last, *parts in rows:
        exponent, (amount_minor,) = combine_sums(parts)
        place = (department, period)
        group = groups.get(place) or Unmatched(department, period, 0, last, [], None, [], [])
        groups[place] = group._replace(
            checks=group.checks + count,
            asked=[*group.asked, Asked(currency, exponent, amount_minor)],
        )
    return list(groups.values())


def _departments(customer_id: str) -> _Departments:
    known = _Departments({}, defaultdict(dict), {})
    budgets: Any = (
        Budget.select(
            Budget.departmentKey, Budget.periodKey, Budget.department, Budget.fiscalPeriod
        )
        .where(Budget.customerId == customer_id, Budget.deletedAt.is_null())
        .order_by(Budget.departmentKey, Budget.periodKey)
        .tuples()
    )
    for department_key, period_key, department, period in budgets:
        known.names.setdefault(department_key, department)
        known.periods[department_key][period_key] = period
    for alias in DepartmentAlias.select().where(DepartmentAlias.customerId == customer_id):
        known.aliases[alias.nameKey] = alias.departmentKey
    return known


def _period_key(text: str, fiscal_year: FiscalYear) -> str | None:
    """The key of a period; None if the text is none by today's rules."""
    try:
        return api_period_key(text, fiscal_year)
    except PeriodError:
        return None
