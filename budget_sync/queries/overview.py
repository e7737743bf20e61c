"""Read-only: where a customer's budgets stand all together, what needs somebody's attention, and how checks were decided."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from peewee import SQL, Case, fn

from budget_sync.database import Prepared, rough_sum, snapshot, sums, whole_sums
from budget_sync.database.models import (
    Budget,
    BudgetCheckLog,
    BudgetDataSourceConfig,
    BudgetUtilization,
    Customer,
    Reservation,
    SyncHistory,
)
from budget_sync.domain import clock
from budget_sync.domain.balance import HIGH_PERCENT, Balance
from budget_sync.domain.errors import Code
from budget_sync.domain.money import MAX_EXPONENT
from budget_sync.domain.periods import period_dates
from budget_sync.domain.permissions import Action, Actor, Scope, require_for, scope_of

#: An open reservation older than this is likely forgotten.
OLD_AFTER = timedelta(days=14)

#: Sources are read every hour; one not read for this long is stale. A pass may be missed once without anybody being called.
STALE_AFTER = timedelta(hours=3)

DEPARTMENTS_A_PAGE = 25
DECISION_DAYS = 30
LISTED = 5

# Beside each row of a page: how many rows there are without the page's limit.
_COUNT = fn.COUNT(SQL("*")).over()

_AMOUNTS = (Budget.budgetedMinor, BudgetUtilization.reservedMinor, BudgetUtilization.committedMinor)
USED = BudgetUtilization.reservedMinor + BudgetUtilization.committedMinor
IS_OVERDRAWN = Budget.budgetedMinor < USED
# What is used has no limit, and a hundred times as much may not fit into 64 bits. The share is rounded down, which no whole number can tell.
IS_HIGH = (Budget.budgetedMinor * HIGH_PERCENT / 100 < USED) & (Budget.budgetedMinor >= USED)


def whole(minor: Any) -> Any:
    """An expression for an amount of a budget in whole units, roughly: to sort by, where decimals differ."""
    return (
        minor
        * 1.0
        / Case(
            Budget.currencyExponent,
            [(exponent, 10**exponent) for exponent in range(1, MAX_EXPONENT + 1)],
            1,
        )
    )


class Period(NamedTuple):
    """A fiscal period that live budgets have; the key is its one spelling."""

    key: str
    name: str
    budgets: int


class Total(NamedTuple):
    """All live budgets of one currency."""

    figures: Balance
    budgets: int
    overdrawn: int
    high: int


class Department(NamedTuple):
    """The live budgets of one department in one currency, and how many of them are overdrawn."""

    name: str
    key: str
    figures: Balance
    budgets: int
    overdrawn: int


class Day(NamedTuple):
    """The checks of one day in the customer's time zone, by what they were answered."""

    day: date
    auto_approved: int
    needs_approval: int
    refused: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.auto_approved + self.needs_approval + self.refused


class Overview(NamedTuple):
    """A customer's figures at one moment: of the chosen period's live budgets, or of all where `period` is None.

    `departments` is a page of them, out of `department_count`. `days` is None where the caller may not read how checks were
    decided.
    """

    periods: list[Period]
    period: Period | None
    totals: list[Total]
    departments: list[Department]
    department_count: int
    attention: Attention
    days: list[Day] | None


#: Asks for the budgets of all periods.
ALL_PERIODS = "all"


def overview(actor: Actor, customer: Customer, asked: str = "", page: int = 1) -> Overview:
    """Where the budgets stand: of the period with the key `asked`, of ALL_PERIODS, or else of the current one."""
    require_for(actor, Action.READ_BUDGETS, customer.id)
    with snapshot():
        known = _periods(customer.id)
        period = next((each for each in known if each.key == asked), None)
        if period is None and asked != ALL_PERIODS:
            period = _current(known, customer)
        chosen = _live(customer.id, period and period.key)
        departments, department_count = _departments(chosen, page)
        return Overview(
            periods=known,
            period=period,
            totals=_totals(chosen),
            departments=departments,
            department_count=department_count,
            attention=_attention(actor, customer.id),
            days=_decisions(customer) if scope_of(actor, Action.READ_AUDIT) else None,
        )


def periods(actor: Actor, customer_id: str) -> list[Period]:
    """The periods of a customer's live budgets, latest first."""
    require_for(actor, Action.READ_BUDGETS, customer_id)
    return _periods(customer_id)


def _periods(customer_id: str) -> list[Period]:
    query = Budget.select(Budget.periodKey, fn.MIN(Budget.fiscalPeriod), fn.COUNT(Budget.id))
    query = query.where(Budget.customerId == customer_id, Budget.deletedAt.is_null())
    rows: Any = query.group_by(Budget.periodKey).order_by(Budget.periodKey.desc()).tuples()
    return list(map(Period._make, rows))


def _current(known: list[Period], customer: Customer) -> Period | None:
    """The period that today is in, and of several (a quarter and its year) the one that most budgets are for."""
    today = clock.now().astimezone(ZoneInfo(customer.timeZone)).date()
    dates = {period: period_dates(period.key, customer.fiscalYearStartMonth) for period in known}
    return max(
        (period for period, span in dates.items() if span and span[0] <= today < span[1]),
        key=lambda period: period.budgets,
        default=None,
    )


def _totals(chosen: Any) -> list[Total]:
    """What the budgets add up to, one a currency, that of most budgets first."""
    query = (
        chosen.select(
            Budget.currency,
            *sums(Budget.currencyExponent, *_AMOUNTS),
            fn.COUNT(Budget.id),
            fn.SUM(Case(None, [(IS_OVERDRAWN, 1)], 0)),
            fn.SUM(Case(None, [(IS_HIGH, 1)], 0)),
        )
        .group_by(Budget.currency)
        .order_by(fn.COUNT(Budget.id).desc(), Budget.currency)
    )
    return [
        Total(_figures(currency, parts), budgets, overdrawn, high)
        for currency, *parts, budgets, overdrawn, high in query.tuples()
    ]


def _departments(chosen: Any, page: int) -> tuple[list[Department], int]:
    """A page of departments, those that need attention first, and how many there are."""
    query = chosen.select(
        fn.MIN(Budget.department).alias("name"),
        Budget.departmentKey,
        Budget.currency,
        *sums(Budget.currencyExponent, *_AMOUNTS),
        fn.COUNT(Budget.id),
        fn.SUM(Case(None, [(IS_OVERDRAWN, 1)], 0)).alias("overdrawn"),
        _COUNT,
    ).group_by(Budget.departmentKey, Budget.currency)
    budgeted, reserved, committed = (
        rough_sum(Budget.currencyExponent, amount) for amount in _AMOUNTS
    )
    share = (reserved + committed) / Case(None, [(budgeted == 0, 1)], budgeted)
    rows = (
        query.order_by(SQL("overdrawn").desc(), share.desc(), Budget.departmentKey, Budget.currency)
        .paginate(page, DEPARTMENTS_A_PAGE)
        .tuples()
    )
    found = list(rows)
    departments = [
        Department(name, key, _figures(currency, parts), budgets, drawn)
        for name, key, currency, *parts, budgets, drawn, _ in found
    ]
    return departments, found[0][-1] if found else 0


def _figures(currency: str, selected: list[int]) -> Balance:
    exponent, amounts = whole_sums(selected)
    return Balance(currency, exponent, *amounts)


class OverdrawnBudget(NamedTuple):
    """A budget with less than is reserved and committed."""

    id: str
    department: str
    period: str
    figures: Balance


class OldReservation(NamedTuple):
    """A reservation open for long."""

    request_id: str
    requester: str
    department: str
    period: str
    currency: str
    exponent: int
    held_minor: int
    created_at: datetime


class SyncTrouble(NamedTuple):
    """A source whose last pass failed, that was not read for long, or that holds deletions for a person; `kind` says which."""

    kind: str
    source_id: str
    sync_id: str | None
    since: datetime | None
    message: str | None
    held: int


class Attention(NamedTuple):
    """What somebody should look at: the first few of each kind, and how many there are. None where the caller may not know."""

    overdrawn: list[OverdrawnBudget]
    overdrawn_count: int
    old: list[OldReservation] | None
    old_count: int
    sync: list[SyncTrouble] | None

    @property
    def is_empty(self) -> bool:
        """Whether all is well."""
        return not (self.overdrawn or self.old or self.sync)


def _attention(actor: Actor, customer_id: str) -> Attention:
    """Overdrawn budgets, reservations open for long, and sources in trouble, as far as the caller may know of them."""
    figures = (Budget.currency, Budget.currencyExponent, *_AMOUNTS)
    overdrawn = (
        _live(customer_id)
        .select(Budget.id, Budget.department, Budget.fiscalPeriod, *figures, _COUNT)
        .where(IS_OVERDRAWN)
    )
    worst = list(
        overdrawn.order_by(whole(Budget.budgetedMinor - USED), Budget.id).limit(LISTED).tuples()
    )
    may_know_old = scope_of(actor, Action.READ_REQUESTS) is not None
    return Attention(
        overdrawn=[OverdrawnBudget(row[0], row[1], row[2], Balance(*row[3:8])) for row in worst],
        overdrawn_count=worst[0][-1] if worst else 0,
        old=_old_reservations(actor, customer_id) if may_know_old else None,
        old_count=_old(actor, customer_id).count() if may_know_old else 0,
        sync=_sync_troubles(customer_id) if scope_of(actor, Action.READ_SYNC) else None,
    )


def _old(actor: Actor, customer_id: str) -> Any:
    query = Reservation.select().where(
        Reservation.customerId == customer_id,
        Reservation.status == "open",
        Reservation.createdAt < clock.now() - OLD_AFTER,
    )
    return (
        query.where(Reservation.requesterId == actor.user_id)
        if scope_of(actor, Action.READ_REQUESTS) is Scope.OWN
        else query
    )


def _old_reservations(actor: Actor, customer_id: str) -> list[OldReservation]:
    rows = (
        _old(actor, customer_id)
        .select(
            Reservation.requestId,
            Reservation.requesterName,
            Budget.department,
            Budget.fiscalPeriod,
            Budget.currency,
            Budget.currencyExponent,
            Reservation.heldMinor,
            Reservation.createdAt,
        )
        .join(Budget, on=(Budget.id == Reservation.budgetId))
        .order_by(Reservation.createdAt, Reservation.seq)
        .limit(LISTED)
    )
    return [OldReservation(*row) for row in rows.tuples()]


def _sync_troubles(customer_id: str) -> list[SyncTrouble]:
    """At most one trouble of each kind a source: a pass that failed, one too long ago, deletions held."""
    active = BudgetDataSourceConfig.select().where(
        BudgetDataSourceConfig.customerId == customer_id,
        BudgetDataSourceConfig.isActive,
        BudgetDataSourceConfig.removedAt.is_null(),
    )
    return [
        trouble
        for source in active.order_by(BudgetDataSourceConfig.createdAt, BudgetDataSourceConfig.id)
        for trouble in _troubles_of(source)
    ]


def _troubles_of(source: BudgetDataSourceConfig) -> list[SyncTrouble]:
    passes = (
        SyncHistory.select()
        .where(SyncHistory.sourceId == source.id)
        .order_by(SyncHistory.id.desc())
    )
    last = passes.where(SyncHistory.status != "skipped").first()
    good = (
        last
        if last is not None and last.status != "failed"
        else passes.where(SyncHistory.status << ["success", "partial"]).first()
    )
    troubles = []
    if last is not None and last.status == "failed":
        troubles.append(
            SyncTrouble("failed", source.id, last.syncId, last.startTime, last.message, 0)
        )
    good_at = good.startTime if good else source.createdAt
    if clock.now() - good_at > STALE_AFTER:
        troubles.append(
            SyncTrouble(
                "stale" if good else "never", source.id, good and good.syncId, good_at, None, 0
            )
        )
    if good is not None and good.heldCount:
        troubles.append(
            SyncTrouble("held", source.id, good.syncId, good.startTime, None, good.heldCount)
        )
    return troubles


# Along the index of times. An index that begins with the customer would be taken where it could be, and read all their checks.
_DAY = Prepared(
    lambda value: BudgetCheckLog.select(
        fn.COUNT(BudgetCheckLog.code),
        fn.SUM(Case(None, [(BudgetCheckLog.code == Code.AUTO_APPROVED, 1)], 0)),
        fn.SUM(Case(None, [(BudgetCheckLog.code == Code.REQUIRES_APPROVAL, 1)], 0)),
    ).where(
        BudgetCheckLog.timestamp >= value.begin,
        BudgetCheckLog.timestamp < value.end,
        BudgetCheckLog.customerId.concat("") == value.customer_id,
    )
)


def _decisions(customer: Customer) -> list[Day]:
    """How the checks of each of the last days were answered, oldest day first, days without any included."""
    zone = ZoneInfo(customer.timeZone)
    today = clock.now().astimezone(zone).date()
    return [
        _decisions_of(customer.id, today - timedelta(days=ago), zone)
        for ago in range(DECISION_DAYS - 1, -1, -1)
    ]


def _decisions_of(customer_id: str, day: date, zone: ZoneInfo) -> Day:
    # A day begins when it does at the customer's, be it 23 or 25 hours long.
    begin, end = (
        clock.to_text(datetime(each.year, each.month, each.day, tzinfo=zone))
        for each in (day, day + timedelta(days=1))
    )
    count, auto, manual = _DAY.first(begin=begin, end=end, customer_id=customer_id)
    return Day(day, auto or 0, manual or 0, count - (auto or 0) - (manual or 0))


def _live(customer_id: str, period_key: str | None = None) -> Any:
    """The query for live budgets, of one period or of all, with their balances; what to select is the caller's."""
    query = Budget.select().join(BudgetUtilization, on=(BudgetUtilization.budgetId == Budget.id))
    query = query.where(Budget.customerId == customer_id, Budget.deletedAt.is_null())
    return query if period_key is None else query.where(Budget.periodKey == period_key)
