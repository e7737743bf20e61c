"""The timeline of a request or a spend: its checks, its reservations and its movements.

The API and the console both read it with `request_timeline`.
"""

from __future__ import annotations

import heapq
from datetime import date, datetime
from operator import itemgetter
from typing import Any, NamedTuple

from peewee import SQL, Case

from budget_sync.database import snapshot
from budget_sync.database.models import AuditLog, Budget, BudgetCheckLog, Reservation, Spend
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Action, Actor, Scope, require_for
from budget_sync.ledger import undecided
from budget_sync.queries import audit
from budget_sync.queries.audit import AuditLine

#: The console shows at most this many checks, reservations and movements: the latest of each.
MAX_TIMELINE = 200

#: The most characters of an id of a request or a budget.
MAX_ID_LENGTH = 200


class CheckLine(NamedTuple):
    """A logged check and its answer."""

    id: int
    check_id: str
    request_id: str
    user_id: str
    user: str
    email: str
    checked_by: str | None
    department: str
    period: str
    currency: str
    exponent: int
    amount_minor: int
    vendor: str | None
    purpose: str | None
    budget_id: str | None
    is_available: bool
    can_auto_approve: bool
    code: str
    reason: str
    at: datetime


class ReservationLine(NamedTuple):
    """A reservation, with the name of its budget.

    `committed_minor` is without what was reversed later. `expires_at` is the stored time, also of a
    closed reservation. `waits_for_approval` is explained at `undecided.waits_for_approval()`.
    """

    seq: int
    id: str
    request_id: str
    requester_id: str
    requester: str
    requester_email: str
    budget_id: str
    department: str
    period: str
    currency: str
    exponent: int
    amount_minor: int
    held_minor: int
    committed_minor: int
    released_minor: int
    status: str
    created_at: datetime
    closed_at: datetime | None
    version: int
    expires_at: datetime | None
    reversed_minor: int
    waits_for_approval: bool


class SpendLine(NamedTuple):
    """Money that was spent without a reservation, with the name of its budget.

    `amount_minor` includes what was reversed later.
    """

    seq: int
    id: str
    budget_id: str
    department: str
    period: str
    currency: str
    exponent: int
    amount_minor: int
    reversed_minor: int
    spent_on: date
    vendor: str | None
    reason: str
    external_ref: str | None
    recorded_by: str
    created_at: datetime


class Timeline(NamedTuple):
    """A request's checks, reservations, movements and spend, oldest first.

    Of each list, only the latest `limit` rows. `spends` has the spend with that id, if the caller
    reads the requests of all users.
    """

    request_id: str
    checks: list[CheckLine]
    reservations: list[ReservationLine]
    movements: list[AuditLine]
    spends: list[SpendLine]
    limit: int

    @property
    def events(self) -> list[tuple[datetime, str, CheckLine | AuditLine]]:
        """Checks and movements, merged by time; each kind keeps its own order if a clock jumped."""
        checks: list[tuple[datetime, str, CheckLine | AuditLine]] = [
            (check.at, "check", check) for check in self.checks
        ]
        movements: list[tuple[datetime, str, CheckLine | AuditLine]] = [
            (movement.at, "movement", movement) for movement in self.movements
        ]
        # In the same second, a check comes before the movement that followed from it.
        return list(heapq.merge(checks, movements, key=itemgetter(0)))

    @property
    def is_cut(self) -> bool:
        """Whether there may be older rows."""
        return self.limit in (len(self.checks), len(self.reservations), len(self.movements))

    def open_reservation(self, budget_id: str) -> ReservationLine | None:
        """The request's open reservation on a budget."""
        is_open = (
            line
            for line in self.reservations
            if line.budget_id == budget_id and line.status == "open"
        )
        return next(is_open, None)


def request_timeline(
    actor: Actor, customer_id: str, request_id: str, limit: int | None = None
) -> Timeline:
    """A request's timeline, at most `limit` (default: MAX_TIMELINE) of each kind, in one snapshot.

    An ordinary user sees only what they checked or requested. For other callers, `request_id` may
    also be the id of a spend. Raises RequestError REQUEST_NOT_FOUND, or NOT_YOUR_REQUEST if nothing
    of the request is the caller's.
    """
    scope = require_for(actor, Action.READ_REQUESTS, customer_id)
    limit = limit or MAX_TIMELINE
    all_checks = checks().where(_is_of(BudgetCheckLog, customer_id, request_id))
    all_reservations = reservations().where(_is_of(Reservation, customer_id, request_id))
    all_movements = audit.rows().where(_is_of(AuditLog, customer_id, request_id))
    own_checks, own_reservations, own_movements = all_checks, all_reservations, all_movements
    has_spend_id = Spend.spendId == request_id if can_be_an_id(request_id) else False
    own_spends = spends().where((Spend.customerId == customer_id) & has_spend_id)
    if scope is Scope.OWN:
        own_checks = all_checks.where(BudgetCheckLog.checkedBy == actor.principal)
        own_reservations = all_reservations.where(Reservation.requesterId == actor.user_id)
        own_movements = all_movements.where(AuditLog.subject == actor.user_id)
        own_spends = own_spends.where(SQL("1 = 0"))
    with snapshot():
        timeline = Timeline(
            request_id,
            [CheckLine(*row) for row in _latest(own_checks, BudgetCheckLog.id, limit)],
            [ReservationLine(*row) for row in _latest(own_reservations, Reservation.seq, limit)],
            [AuditLine(*row) for row in _latest(own_movements, AuditLog.id, limit)],
            [SpendLine(*row) for row in _latest(own_spends, Spend.seq, limit)],
            limit,
        )
        if timeline.checks or timeline.reservations or timeline.spends:
            return timeline
        is_known = all_checks.first() or all_reservations.first()
    if is_known:
        raise RequestError(
            Code.NOT_YOUR_REQUEST, "This request belongs to another user.", requestId=request_id
        )
    raise RequestError(Code.REQUEST_NOT_FOUND, "Request not found.", requestId=request_id)


def checks() -> Any:
    """The query for logged checks, in tuples with the fields of CheckLine."""
    return BudgetCheckLog.select(
        BudgetCheckLog.id,
        BudgetCheckLog.checkId,
        BudgetCheckLog.requestId,
        BudgetCheckLog.userId,
        BudgetCheckLog.userName,
        BudgetCheckLog.userEmail,
        BudgetCheckLog.checkedBy,
        BudgetCheckLog.department,
        BudgetCheckLog.fiscalPeriod,
        BudgetCheckLog.currency,
        BudgetCheckLog.currencyExponent,
        BudgetCheckLog.amountMinor,
        BudgetCheckLog.vendor,
        BudgetCheckLog.purpose,
        BudgetCheckLog.budgetId,
        BudgetCheckLog.available,
        BudgetCheckLog.canAutoApprove,
        BudgetCheckLog.code,
        BudgetCheckLog.reason,
        BudgetCheckLog.timestamp,
    ).tuples()


def reservations() -> Any:
    """The query for reservations, in tuples with the fields of ReservationLine."""
    return (
        Reservation.select(
            Reservation.seq,
            Reservation.id,
            Reservation.requestId,
            Reservation.requesterId,
            Reservation.requesterName,
            Reservation.requesterEmail,
            Reservation.budgetId,
            Budget.department,
            Budget.fiscalPeriod,
            Budget.currency,
            Reservation.currencyExponent,
            Reservation.amountMinor,
            Reservation.heldMinor,
            Reservation.committedMinor - Reservation.reversedMinor,
            Reservation.releasedMinor,
            Reservation.status,
            Reservation.createdAt,
            Reservation.closedAt,
            Reservation.version,
            Reservation.expiresAt,
            Reservation.reversedMinor,
            Case(None, [(undecided.waits_for_approval(), 1)], 0).converter(bool),
        )
        .join(Budget, on=(Budget.id == Reservation.budgetId))
        .tuples()
    )


def spends() -> Any:
    """The query for money spent without a reservation, in tuples with the fields of SpendLine."""
    return (
        Spend.select(
            Spend.seq,
            Spend.spendId,
            Spend.budgetId,
            Budget.department,
            Budget.fiscalPeriod,
            Budget.currency,
            Spend.currencyExponent,
            Spend.amountMinor,
            Spend.reversedMinor,
            Spend.spentOn,
            Spend.vendor,
            Spend.reason,
            Spend.externalRef,
            Spend.recordedBy,
            Spend.createdAt,
        )
        .join(Budget, on=(Budget.id == Spend.budgetId))
        .tuples()
    )


def can_be_an_id(text: str) -> bool:
    """False for text with a NUL character, which PostgreSQL does not accept as a parameter.

    Also False for text that is longer than any id.
    """
    return "\x00" not in text and len(text) <= MAX_ID_LENGTH


def _is_of(table: Any, customer_id: str, request_id: str) -> Any:
    has_request_id = table.requestId == request_id if can_be_an_id(request_id) else False
    return (table.customerId == customer_id) & has_request_id


def _latest(rows: Any, sequence: Any, limit: int) -> list[Any]:
    return list(rows.order_by(sequence.desc()).limit(limit))[::-1]
