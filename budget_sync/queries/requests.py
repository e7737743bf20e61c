"""Requests: their reservations, those that no budget could carry, and the whole story of one."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any, NamedTuple

from peewee import SQL, Case, fn

from budget_sync.database import snapshot
from budget_sync.database.models import AuditLog, Budget, BudgetCheckLog, Reservation
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Action, Actor, Scope, require_for
from budget_sync.queries import audit, paging
from budget_sync.queries.audit import AuditLine

#: A story tells so many checks, reservations and movements at most, the latest ones.
MAX_TIMELINE = 200

#: A request that was not covered, and that nobody came back to for so long, waits no more.
UNCOVERED_FOR = timedelta(days=30)


class ReservationLine(NamedTuple):
    """A reservation and its budget."""

    seq: int
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
    closed_after_check: int | None


@dataclass(frozen=True, slots=True)
class RequestQuery:
    """Which reservations: "open" (oldest first), "closed" or "all" (newest first); `after` is the last one of the page before."""

    status: str = "open"
    text: str = ""
    budget_id: str = ""
    after: int | None = None


def reservations_page(
    actor: Actor, customer_id: str, query: RequestQuery
) -> tuple[list[ReservationLine], int | None]:
    """A page of reservations, and what the next one goes on after. Who may see only their own gets their own."""
    scope = require_for(actor, Action.READ_REQUESTS, customer_id)
    rows = _matching(_reservations(), query)
    if scope is Scope.OWN:
        rows = rows.where(Reservation.requesterId == actor.user_id)
    # Backwards along the sequence, or along the index of the open ones, which is by age.
    order: tuple[Any, ...] = (Reservation.seq.desc(),)
    customer: Any = paging.unindexed(Reservation.customerId)
    if query.status == "open":
        order = (Reservation.createdAt, Reservation.seq)
        customer = Reservation.customerId
        last = (
            Reservation.get_or_none(
                (Reservation.seq == query.after) & (Reservation.customerId == customer_id)
            )
            if query.after
            else None
        )
        if last:
            rows = rows.where(
                (Reservation.createdAt > last.createdAt)
                | ((Reservation.createdAt == last.createdAt) & (Reservation.seq > last.seq))
            )
    elif query.after is not None:
        rows = rows.where(Reservation.seq < query.after)
    size = paging.PAGE_SIZE
    lines, last_line = paging.cut(
        [
            ReservationLine(*row)
            for row in rows.where(customer == customer_id).order_by(*order).limit(size + 1)
        ],
        size,
    )
    return lines, last_line and last_line.seq


def _matching(rows: Any, query: RequestQuery) -> Any:
    if query.status in ("open", "closed"):
        rows = rows.where(Reservation.status == query.status)
    if query.budget_id:
        rows = rows.where(Reservation.budgetId == query.budget_id)
    text = query.text.strip()
    if text:
        rows = rows.where(
            Reservation.requestId.contains(text)
            | Reservation.requesterName.contains(text)
            | Reservation.requesterEmail.contains(text)
        )
    return rows


def _reservations() -> Any:
    return (
        Reservation.select(
            Reservation.seq,
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
            Reservation.committedMinor,
            Reservation.releasedMinor,
            Reservation.status,
            Reservation.createdAt,
            Reservation.closedAt,
            Reservation.closedAfterCheck,
        )
        .join(Budget, on=(Budget.id == Reservation.budgetId))
        .tuples()
    )


class CheckLine(NamedTuple):
    """A logged check and the answer it got."""

    id: int
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
    code: str
    reason: str
    at: datetime

    def overtakes(self, other: CheckLine) -> bool:
        """Whether this check of the same request says how the other one stands now.

        A proven one does so for those before it, and for any anonymous one; but not with what its sender checked for themselves, where the other is for
        somebody else. An anonymous one does so for anonymous ones before it.
        """
        if self.checked_by is None:
            return other.checked_by is None and self.id > other.id
        if self.user_id != other.user_id and self.checked_by == f"user:{self.user_id}":
            return False
        return other.checked_by is None or self.id > other.id


def uncovered_page(
    actor: Actor, customer_id: str, after: int | None = None
) -> tuple[list[CheckLine], int | None]:
    """A page of the requests that wait because their budget could not carry them, newest first, and what the next one goes on after.

    That is the latest check of a request, where it said "insufficient" and no reservation on that budget outlived it. What others
    check for themselves does not count, nor does an anonymous check beside a proven one.
    """
    scope = require_for(actor, Action.READ_REQUESTS, customer_id)
    later: Any = BudgetCheckLog.alias()
    settled = Reservation.select(Reservation.seq).where(
        Reservation.customerId == customer_id,
        Reservation.requestId == BudgetCheckLog.requestId,
        Reservation.budgetId == BudgetCheckLog.budgetId,
        # By sequence, as the ledger has it: clocks jump.
        (Reservation.status == "open") | (Reservation.closedAfterCheck >= BudgetCheckLog.id),
    )
    anonymous, proven = BudgetCheckLog.checkedBy.is_null(), later.checkedBy.is_null(False)
    # As `CheckLine.overtakes` has it.
    overtakes = Case(
        None,
        [
            (~proven, anonymous & (later.id > BudgetCheckLog.id)),
            (
                (later.userId != BudgetCheckLog.userId)
                & (later.checkedBy == SQL("'user:'").concat(later.userId)),
                False,
            ),
        ],
        anonymous | (later.id > BudgetCheckLog.id),
    )
    overtaken = later.select(later.id).where(
        later.customerId == customer_id, later.requestId == BudgetCheckLog.requestId, overtakes
    )
    rows = _checks().where(
        # Along the index of times: no more than these days are read.
        paging.unindexed(BudgetCheckLog.customerId) == customer_id,
        BudgetCheckLog.timestamp > clock.now() - UNCOVERED_FOR,
        BudgetCheckLog.code == Code.INSUFFICIENT_BUDGET,
        ~fn.EXISTS(settled),
        ~fn.EXISTS(overtaken),
    )
    if scope is Scope.OWN:
        rows = rows.where(BudgetCheckLog.checkedBy == actor.principal)
    last = (
        BudgetCheckLog.get_or_none(
            (BudgetCheckLog.id == after) & (BudgetCheckLog.customerId == customer_id)
        )
        if after
        else None
    )
    if last:
        rows = rows.where(
            (BudgetCheckLog.timestamp < last.timestamp)
            | ((BudgetCheckLog.timestamp == last.timestamp) & (BudgetCheckLog.id < last.id))
        )
    size = paging.PAGE_SIZE
    newest_first = rows.order_by(BudgetCheckLog.timestamp.desc(), BudgetCheckLog.id.desc())
    lines, last_line = paging.cut([CheckLine(*row) for row in newest_first.limit(size + 1)], size)
    return lines, last_line and last_line.id


def _checks() -> Any:
    return BudgetCheckLog.select(
        BudgetCheckLog.id,
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
        BudgetCheckLog.code,
        BudgetCheckLog.reason,
        BudgetCheckLog.timestamp,
    ).tuples()


class Timeline(NamedTuple):
    """What is known of one request: the latest MAX_STORY of each, oldest first."""

    request_id: str
    checks: list[CheckLine]
    reservations: list[ReservationLine]
    movements: list[AuditLine]

    @property
    def events(self) -> list[tuple[datetime, str, CheckLine | AuditLine]]:
        """Checks and movements in the order they happened: each kind by its sequence, whatever the clock said, and both together by time."""
        checks: list[tuple[datetime, str, CheckLine | AuditLine]] = [
            (check.at, "check", check) for check in self.checks
        ]
        movements: list[tuple[datetime, str, CheckLine | AuditLine]] = [
            (movement.at, "movement", movement) for movement in self.movements
        ]
        # Of the same second, a check comes before the movement that it led to.
        return list(heapq.merge(checks, movements, key=itemgetter(0)))

    @property
    def is_cut(self) -> bool:
        """Whether more happened than is told."""
        return any(
            len(told) == MAX_TIMELINE for told in (self.checks, self.reservations, self.movements)
        )

    def open_on(self, budget_id: str) -> ReservationLine | None:
        """What the request holds on a budget."""
        return next(
            (
                line
                for line in self.reservations
                if line.budget_id == budget_id and line.status == "open"
            ),
            None,
        )

    @property
    def uncovered(self) -> CheckLine | None:
        """The latest check that waits, as `uncovered_page` lists them."""
        return next((check for check in reversed(self.checks) if self._waits(check)), None)

    def _waits(self, check: CheckLine) -> bool:
        if check.code != Code.INSUFFICIENT_BUDGET or any(
            other.overtakes(check) for other in self.checks
        ):
            return False
        on_budget = [line for line in self.reservations if line.budget_id == check.budget_id]
        return all(
            line.closed_after_check is not None and line.closed_after_check < check.id
            for line in on_budget
        )


def request_timeline(actor: Actor, customer_id: str, request_id: str) -> Timeline:
    """A request's checks, reservations and movements. Raises RequestError REQUEST_NOT_FOUND or NOT_YOUR_REQUEST.

    Who may see only their own sees what they checked or requested.
    """
    scope = require_for(actor, Action.READ_REQUESTS, customer_id)
    tables = ((_checks(), BudgetCheckLog), (_reservations(), Reservation), (audit.rows(), AuditLog))
    checks, reservations, movements = (
        _of_request(rows, table, customer_id, request_id) for rows, table in tables
    )
    is_known = (checks, reservations)
    if scope is Scope.OWN:
        checks = checks.where(BudgetCheckLog.checkedBy == actor.principal)
        reservations = reservations.where(Reservation.requesterId == actor.user_id)
        movements = movements.where(AuditLog.subject == actor.user_id)
    with snapshot():
        story = Timeline(
            request_id,
            [CheckLine(*row) for row in _latest(checks, BudgetCheckLog.id)],
            [ReservationLine(*row) for row in _latest(reservations, Reservation.seq)],
            [AuditLine(*row) for row in _latest(movements, AuditLog.id)],
        )
        if story.checks or story.reservations:
            return story
        if any(rows.first() for rows in is_known):
            raise RequestError(
                Code.NOT_YOUR_REQUEST, "This request belongs to someone else.", requestId=request_id
            )
    raise RequestError(
        Code.REQUEST_NOT_FOUND, "Nothing is known of that request.", requestId=request_id
    )


def _of_request(rows: Any, table: Any, customer_id: str, request_id: str) -> Any:
    return rows.where(table.customerId == customer_id, table.requestId == request_id)


def _latest(rows: Any, sequence: Any) -> list[Any]:
    return list(rows.order_by(sequence.desc()).limit(MAX_TIMELINE))[::-1]
