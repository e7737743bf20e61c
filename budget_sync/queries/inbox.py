"""The inbox of a viewer: the first few open tasks of each kind, and how many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Generic, NamedTuple, TypeVar

from peewee import SQL

from budget_sync.accounts import api_keys
from budget_sync.database import snapshot
from budget_sync.database.delivery_models import Webhook
from budget_sync.database.models import (
    ApiKey,
    Budget,
    BudgetCheckLog,
    BudgetDataSourceConfig,
    Customer,
    Reservation,
)
from budget_sync.domain import clock
from budget_sync.domain.balance import Balance
from budget_sync.domain.permissions import Action, Actor, Scope, scope_of
from budget_sync.ledger import undecided
from budget_sync.queries import held, sync_runs, timeline
from budget_sync.queries.balances import (
    BALANCE,
    IS_OVERDRAWN,
    USED,
    in_whole_units,
    live_budgets,
)
from budget_sync.queries.requests import UNCOVERED_FOR
from budget_sync.queries.timeline import CheckLine, ReservationLine
from budget_sync.sync.operator_problems import is_for_operator
from budget_sync.sync.sheet_names import SheetName

#: An open reservation older than this was probably forgotten, if the customer has no hold days.
OLD_AFTER = timedelta(days=14)

#: A source not read for this long is stale. Sync runs every hour, so a single missed run is not
#: reported.
STALE_AFTER = timedelta(hours=3)

#: The lines of each kind.
LISTED = 5

#: Rows are counted up to this number, so that the page stays fast.
COUNTED = 1000

Line = TypeVar("Line")


class Lines(NamedTuple, Generic[Line]):
    """The first LISTED of a kind, and how many there are: at most COUNTED, or COUNTED + 1."""

    first: list[Line]
    total: int

    @property
    def has_more(self) -> bool:
        """Whether there are more than those listed."""
        return self.total > len(self.first)

    @property
    def total_text(self) -> str:
        """The number of all of them: "7" or "more than 1,000"."""
        return f"more than {COUNTED:,}" if self.total > COUNTED else f"{self.total:,}"


class OverdrawnBudget(NamedTuple):
    """A budget of which more is reserved and committed than budgeted."""

    id: str
    department: str
    period: str
    balance: Balance


class HeldChanges(NamedTuple):
    """The changes of a source that wait for an answer: how many of each kind."""

    source_id: str
    sheet: SheetName
    kinds: Mapping[str, int]


class SyncTrouble(NamedTuple):
    """A problem of a source, by `kind`.

    - failed: its latest sync run failed
    - rejected: its latest sync run rejected rows; `rows` is their number
    - waiting: its reading is not confirmed yet
    - stale: it has not been read for STALE_AFTER
    - never: it has not been read at all
    """

    kind: str
    source_id: str
    sheet: SheetName
    sync_id: str | None
    since: datetime | None
    message: str | None = None
    rows: int = 0

    @property
    def is_operators(self) -> bool:
        """Whether only the operator of the server can solve it."""
        return self.kind in ("stale", "never") or is_for_operator(self.message)


class Inbox(NamedTuple):
    """The open tasks of the viewer. The kinds that they may not see are empty.

    `sync` has the problems of finance, `operator` those that only the operator can solve.
    `old_days` is the age from which a reservation is listed in `old`.
    """

    waiting: Lines[ReservationLine]
    uncovered: Lines[CheckLine]
    held: list[HeldChanges]
    sync: list[SyncTrouble]
    overdrawn: Lines[OverdrawnBudget]
    old: Lines[ReservationLine]
    old_days: int
    keys: list[ApiKey]
    webhooks: list[Webhook]
    operator: list[SyncTrouble]

    @property
    def total(self) -> int:
        """How many things there are for finance."""
        lines = (self.waiting, self.uncovered, self.overdrawn, self.old)
        lists = (self.held, self.sync, self.keys, self.webhooks)
        return sum(each.total for each in lines) + sum(len(each) for each in lists)


def inbox(actor: Actor, customer: Customer) -> Inbox:
    """The viewer's inbox. Ordinary users get only their own requests."""
    old_after = OLD_AFTER if customer.holdDays is None else timedelta(days=customer.holdDays)
    with snapshot():
        troubles = _sync_troubles(actor, customer.id)
        return Inbox(
            waiting=_waiting(actor, customer.id),
            uncovered=_uncovered(actor, customer.id),
            held=_held(actor, customer.id),
            sync=[each for each in troubles if not each.is_operators],
            overdrawn=_overdrawn(actor, customer.id),
            old=_old(actor, customer.id, old_after),
            old_days=old_after.days,
            keys=_keys(actor, customer.id),
            webhooks=_webhooks(actor, customer.id),
            operator=[each for each in troubles if each.is_operators],
        )


def _reservations(actor: Actor, customer_id: str) -> Any:
    """The conditions for the open reservations that the viewer may see; None if there are none."""
    scope = scope_of(actor, Action.READ_REQUESTS)
    conditions = (Reservation.customerId == customer_id) & (Reservation.status == "open")
    if scope is None:
        return None
    is_own = Reservation.requesterId == actor.user_id
    return conditions & is_own if scope is Scope.OWN else conditions


def _reservation_lines(conditions: Any) -> Lines[ReservationLine]:
    """The reservations with those conditions, the oldest first."""
    if conditions is None:
        return Lines([], 0)
    # This order uses the index of open reservations.
    order = (Reservation.createdAt, Reservation.seq)
    rows = timeline.reservations().where(conditions).order_by(*order).limit(LISTED)
    first = [ReservationLine(*row) for row in rows]
    return Lines(first, _count(first, Reservation.select(SQL("1")).where(conditions)))


def _count(first: list[Any], rows: Any) -> int:
    """How many rows there are, counted up to COUNTED + 1."""
    return len(first) if len(first) < LISTED else rows.limit(COUNTED + 1).count()


def _waiting(actor: Actor, customer_id: str) -> Lines[ReservationLine]:
    """The reservations that wait for approval."""
    conditions = _reservations(actor, customer_id)
    if conditions is None:
        return Lines([], 0)
    return _reservation_lines(conditions & undecided.waits_for_approval())


def _old(actor: Actor, customer_id: str, old_after: timedelta) -> Lines[ReservationLine]:
    conditions = _reservations(actor, customer_id)
    if conditions is None:
        return Lines([], 0)
    return _reservation_lines(conditions & (Reservation.createdAt < clock.now() - old_after))


def _uncovered(actor: Actor, customer_id: str) -> Lines[CheckLine]:
    """The uncovered checks of the last UNCOVERED_FOR, the newest first."""
    scope = scope_of(actor, Action.READ_REQUESTS)
    if scope is None:
        return Lines([], 0)
    conditions = (
        (BudgetCheckLog.customerId == customer_id)
        & (BudgetCheckLog.timestamp > clock.now() - UNCOVERED_FOR)
        & undecided.is_uncovered()
    )
    if scope is Scope.OWN:
        conditions &= BudgetCheckLog.checkedBy == actor.principal
    order = (BudgetCheckLog.timestamp.desc(), BudgetCheckLog.id.desc())
    rows = timeline.checks().where(conditions).order_by(*order).limit(LISTED)
    first = [CheckLine(*row) for row in rows]
    return Lines(first, _count(first, BudgetCheckLog.select(SQL("1")).where(conditions)))


def _overdrawn(actor: Actor, customer_id: str) -> Lines[OverdrawnBudget]:
    if scope_of(actor, Action.READ_REQUESTS) is not Scope.ANY:
        return Lines([], 0)
    overdrawn = live_budgets(customer_id).where(IS_OVERDRAWN)
    worst = (
        overdrawn.select(Budget.id, Budget.department, Budget.fiscalPeriod, *BALANCE)
        .order_by(in_whole_units(Budget.budgetedMinor - USED), Budget.id)
        .limit(LISTED)
    )
    first = [OverdrawnBudget(row[0], row[1], row[2], Balance(*row[3:8])) for row in worst.tuples()]
    return Lines(first, _count(first, overdrawn.select(SQL("1"))))


def _held(actor: Actor, customer_id: str) -> list[HeldChanges]:
    if scope_of(actor, Action.READ_SYNC) is None:
        return []
    found = [
        HeldChanges(
            source.id,
            sync_runs.name_of(source),
            Counter(hold.kind for hold in held.still_held(customer_id, source.id)),
        )
        for source in sync_runs.active_sources(customer_id)
    ]
    return [each for each in found if each.kinds]


def _sync_troubles(actor: Actor, customer_id: str) -> list[SyncTrouble]:
    if scope_of(actor, Action.READ_SYNC) is None:
        return []
    return [
        trouble
        for source in sync_runs.active_sources(customer_id)
        for trouble in _troubles_of(source)
    ]


def _troubles_of(source: BudgetDataSourceConfig) -> list[SyncTrouble]:
    """The source's problems, at most one of each kind."""
    name = (source.id, sync_runs.name_of(source))
    if source.reading is None:
        return [SyncTrouble("waiting", *name, None, source.createdAt)]
    last = sync_runs.last_run(source.customerId, source.id, sync_runs.FINISHED)
    is_failed = last is not None and last.status == "failed"
    good = sync_runs.last_run(source.customerId, source.id, sync_runs.WORKED) if is_failed else last
    troubles = []
    if last is not None and is_failed:
        troubles.append(SyncTrouble("failed", *name, last.sync_id, last.start, last.message))
    elif last is not None and last.errors:
        rejected = SyncTrouble("rejected", *name, last.sync_id, last.start, rows=last.errors)
        troubles.append(rejected)
    good_at = good.start if good else source.createdAt
    if clock.now() - good_at > STALE_AFTER:
        kind = "stale" if good else "never"
        troubles.append(SyncTrouble(kind, *name, good and good.sync_id, good_at))
    return troubles


def _keys(actor: Actor, customer_id: str) -> list[ApiKey]:
    """The keys that expire soon and have no successor."""
    if scope_of(actor, Action.MANAGE_KEYS) is None:
        return []
    return [key for key in api_keys.expiring_keys() if key.customerId == customer_id]


def _webhooks(actor: Actor, customer_id: str) -> list[Webhook]:
    """The webhooks that are paused."""
    if scope_of(actor, Action.MANAGE_WEBHOOKS) is None:
        return []
    paused = Webhook.select().where(
        Webhook.customerId == customer_id,
        Webhook.removedAt.is_null(),
        Webhook.pausedAt.is_null(False),
    )
    return list(paused.order_by(Webhook.pausedAt, Webhook.id))
