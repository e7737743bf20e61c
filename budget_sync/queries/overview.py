"""The overview page: totals, departments, what needs attention, and how checks were decided."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from peewee import SQL, Case, fn

from budget_sync.accounts.customers import fiscal_year_of
from budget_sync.database import Prepared, approximate_sum, snapshot, sums
from budget_sync.database.models import (
    Budget,
    BudgetCheckLog,
    BudgetDataSourceConfig,
    Customer,
    Reservation,
)
from budget_sync.domain import clock
from budget_sync.domain.balance import Balance
from budget_sync.domain.errors import Code
from budget_sync.domain.periods import is_current
from budget_sync.domain.permissions import Action, Actor, Scope, require_for, scope_of
from budget_sync.queries import sync_runs
from budget_sync.queries.balances import (
    AMOUNTS,
    BALANCE,
    IS_HIGH,
    IS_OVERDRAWN,
    USED,
    in_whole_units,
    live_budgets,
    total_balance,
)
from budget_sync.queries.paging import unindexed
from budget_sync.queries.visible import visible
from budget_sync.sync.sheet_names import SheetName

#: An open reservation older than this needs attention: it was probably forgotten.
OLD_AFTER = timedelta(days=14)

#: A source not read for this long is stale. Sync runs every hour, so a single missed run is not
#: reported.
STALE_AFTER = timedelta(hours=3)

DEPARTMENTS_A_PAGE = 25
DECISION_DAYS = 30
LISTED = 5

# The number of rows without the page's limit, selected next to each row.
_COUNT = fn.COUNT(SQL("*")).over()


class Period(NamedTuple):
    """A fiscal period of live budgets. `key` is its normalized spelling."""

    key: str
    name: str
    budgets: int


class Total(NamedTuple):
    """The balance of all live budgets in one currency."""

    balance: Balance
    budgets: int
    overdrawn: int
    high: int


class Department(NamedTuple):
    """The balance of a department's live budgets in one currency."""

    name: str
    key: str
    balance: Balance
    budgets: int
    overdrawn: int


class Day(NamedTuple):
    """The number of checks on one day in the customer's time zone, by their answer."""

    day: date
    auto_approved: int
    needs_approval: int
    not_covered: int

    @property
    def total(self) -> int:
        """The number of all checks."""
        return self.auto_approved + self.needs_approval + self.not_covered


class Overview(NamedTuple):
    """A customer's live budgets at one moment: of one period, or of all if `period` is None.

    `departments` is one page out of `department_count`. `days` is None if the caller may not read
    how checks were decided.
    """

    periods: list[Period]
    period: Period | None
    totals: list[Total]
    departments: list[Department]
    department_count: int
    attention: Attention
    days: list[Day] | None


#: The value of `chosen_key` for all periods.
ALL_PERIODS = "all"


def overview(actor: Actor, customer: Customer, chosen_key: str = "", page: int = 1) -> Overview:
    """The overview of the period with key `chosen_key`, or of ALL_PERIODS.

    For any other key, the overview of the current period; if there is none, of all periods.
    """
    require_for(actor, Action.READ_BUDGETS, customer.id)
    with snapshot():
        known = _periods(actor, customer.id)
        period = next((each for each in known if each.key == chosen_key), None)
        if period is None and chosen_key != ALL_PERIODS:
            period = _current(known, customer)
        budgets = visible(live_budgets(customer.id, period and period.key), actor)
        departments, department_count = _departments(budgets, page)
        return Overview(
            periods=known,
            period=period,
            totals=_totals(budgets),
            departments=departments,
            department_count=department_count,
            attention=_attention(actor, customer.id),
            days=_decisions(customer) if scope_of(actor, Action.READ_AUDIT) else None,
        )


def periods(actor: Actor, customer_id: str) -> list[Period]:
    """The periods of the live budgets that the caller may read, latest first."""
    require_for(actor, Action.READ_BUDGETS, customer_id)
    return _periods(actor, customer_id)


def _periods(actor: Actor, customer_id: str) -> list[Period]:
    rows: Any = (
        visible(
            Budget.select(Budget.periodKey, fn.MIN(Budget.fiscalPeriod), fn.COUNT(Budget.id)), actor
        )
        .where(Budget.customerId == customer_id, Budget.deletedAt.is_null())
        .group_by(Budget.periodKey)
        .order_by(Budget.periodKey.desc())
        .tuples()
    )
    return list(map(Period._make, rows))


def _current(known: list[Period], customer: Customer) -> Period | None:
    """Today's period; of several (a quarter and its year), the one with the most budgets."""
    today = clock.now().astimezone(ZoneInfo(customer.timeZone)).date()
    fiscal_year = fiscal_year_of(customer)
    return max(
        (period for period in known if is_current(period.key, fiscal_year, today)),
        key=lambda period: period.budgets,
        default=None,
    )


def _totals(budgets: Any) -> list[Total]:
    """The total of each currency, starting with the currency of the most budgets."""
    query = (
        budgets.select(
            Budget.currency,
            *sums(Budget.currencyExponent, *AMOUNTS),
            fn.COUNT(Budget.id),
            fn.SUM(Case(None, [(IS_OVERDRAWN, 1)], 0)),
            fn.SUM(Case(None, [(IS_HIGH, 1)], 0)),
        )
        .group_by(Budget.currency)
        .order_by(fn.COUNT(Budget.id).desc(), Budget.currency)
    )
    return [
        Total(total_balance(currency, parts), count, overdrawn, high)
        for currency, *parts, count, overdrawn, high in query.tuples()
    ]


def _departments(budgets: Any, page: int) -> tuple[list[Department], int]:
    """A page of departments, the most overdrawn and most used first, and their total number."""
    query = budgets.select(
        fn.MIN(Budget.department).alias("name"),
        Budget.departmentKey,
        Budget.currency,
        *sums(Budget.currencyExponent, *AMOUNTS),
        fn.COUNT(Budget.id),
        fn.SUM(Case(None, [(IS_OVERDRAWN, 1)], 0)).alias("overdrawn"),
        _COUNT,
    ).group_by(Budget.departmentKey, Budget.currency)
    budgeted, reserved, committed = (
        approximate_sum(Budget.currencyExponent, amount) for amount in AMOUNTS
    )
    share = (reserved + committed) / Case(None, [(budgeted == 0, 1)], budgeted)
    rows = list(
        query.order_by(SQL("overdrawn").desc(), share.desc(), Budget.departmentKey, Budget.currency)
        .paginate(page, DEPARTMENTS_A_PAGE)
        .tuples()
    )
    departments = [
        Department(name, key, total_balance(currency, parts), count, overdrawn)
        for name, key, currency, *parts, count, overdrawn, _ in rows
    ]
    return departments, rows[0][-1] if rows else 0


class OverdrawnBudget(NamedTuple):
    """A budget of which more is reserved and committed than budgeted."""

    id: str
    department: str
    period: str
    balance: Balance


class OldReservation(NamedTuple):
    """A reservation that has been open for longer than OLD_AFTER."""

    request_id: str
    requester: str
    department: str
    period: str
    currency: str
    exponent: int
    held_minor: int
    created_at: datetime


class SyncTrouble(NamedTuple):
    """A problem of a source, by `kind`.

    - failed: its latest sync run failed
    - stale: it has not been read for STALE_AFTER
    - never: it has not been read at all
    - held: changes wait for an answer
    - waiting: its reading is not confirmed yet
    """

    kind: str
    source_id: str
    sheet: SheetName
    sync_id: str | None
    since: datetime | None
    message: str | None
    held: int


class Attention(NamedTuple):
    """Problems to look at: the first LISTED of each kind, and how many there are.

    `old` and `sync` are None if the caller may not see them.
    """

    overdrawn: list[OverdrawnBudget]
    overdrawn_count: int
    old: list[OldReservation] | None
    old_count: int
    sync: list[SyncTrouble] | None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to look at."""
        return not (self.overdrawn or self.old or self.sync)


def _attention(actor: Actor, customer_id: str) -> Attention:
    overdrawn = (
        visible(live_budgets(customer_id), actor)
        .select(Budget.id, Budget.department, Budget.fiscalPeriod, *BALANCE, _COUNT)
        .where(IS_OVERDRAWN)
        .order_by(in_whole_units(Budget.budgetedMinor - USED), Budget.id)
        .limit(LISTED)
    )
    worst = list(overdrawn.tuples())
    may_see_requests = scope_of(actor, Action.READ_REQUESTS) is not None
    return Attention(
        overdrawn=[OverdrawnBudget(row[0], row[1], row[2], Balance(*row[3:8])) for row in worst],
        overdrawn_count=worst[0][-1] if worst else 0,
        old=_old_reservations(actor, customer_id) if may_see_requests else None,
        old_count=_old(actor, customer_id).count() if may_see_requests else 0,
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
    return [
        trouble
        for source in sync_runs.active_sources(customer_id)
        for trouble in _troubles_of(source)
    ]


def _troubles_of(source: BudgetDataSourceConfig) -> list[SyncTrouble]:
    """The source's problems, at most one of each kind."""
    name = (source.id, sync_runs.name_of(source))
    if source.reading is None:
        return [SyncTrouble("waiting", *name, None, source.createdAt, None, 0)]
    last = sync_runs.last_run(source.customerId, source.id, sync_runs.FINISHED)
    is_failed = last is not None and last.status == "failed"
    good = sync_runs.last_run(source.customerId, source.id, sync_runs.WORKED) if is_failed else last
    troubles = []
    if last is not None and is_failed:
        troubles.append(SyncTrouble("failed", *name, last.sync_id, last.start, last.message, 0))
    good_at = good.start if good else source.createdAt
    if clock.now() - good_at > STALE_AFTER:
        kind = "stale" if good else "never"
        troubles.append(SyncTrouble(kind, *name, good and good.sync_id, good_at, None, 0))
    if good is not None and good.held:
        troubles.append(SyncTrouble("held", *name, good.sync_id, good.start, None, good.held))
    return troubles


# This uses the index of times. The database would prefer an index that begins with the customer,
# and then read all of the customer's checks.
_DAY = Prepared(
    lambda value: BudgetCheckLog.select(
        fn.COUNT(BudgetCheckLog.code),
        fn.SUM(Case(None, [(BudgetCheckLog.code == Code.AUTO_APPROVED, 1)], 0)),
        fn.SUM(Case(None, [(BudgetCheckLog.code == Code.REQUIRES_APPROVAL, 1)], 0)),
    ).where(
        BudgetCheckLog.timestamp >= value.begin,
        BudgetCheckLog.timestamp < value.end,
        unindexed(BudgetCheckLog.customerId) == value.customer_id,
    )
)


def _decisions(customer: Customer) -> list[Day]:
    """The checks of the last DECISION_DAYS, oldest day first, including days without checks."""
    zone = ZoneInfo(customer.timeZone)
    today = clock.now().astimezone(zone).date()
    return [
        _decisions_of(customer.id, today - timedelta(days=ago), zone)
        for ago in range(DECISION_DAYS - 1, -1, -1)
    ]


def _decisions_of(customer_id: str, day: date, zone: ZoneInfo) -> Day:
    # A day in the customer's time zone may have 23 or 25 hours.
    begin, end = (
        clock.to_text(datetime(each.year, each.month, each.day, tzinfo=zone))
        for each in (day, day + timedelta(days=1))
    )
    count, auto, manual = _DAY.first(begin=begin, end=end, customer_id=customer_id)
    return Day(day, auto or 0, manual or 0, count - (auto or 0) - (manual or 0))
