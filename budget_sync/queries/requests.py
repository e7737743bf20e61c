"""Lists of requests: reservations, requests that wait because their budget is too small, spend."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any

from peewee import SQL, Case, fn

from budget_sync.accounts.customers import period_key_of
from budget_sync.database.models import Budget, BudgetCheckLog, Reservation, Spend
from budget_sync.domain import clock
from budget_sync.domain.errors import Code
from budget_sync.domain.permissions import Action, Actor, Scope, require_any_for, require_for
from budget_sync.ledger.aliases import department_key
from budget_sync.queries import paging, timeline
from budget_sync.queries.timeline import CheckLine, ReservationLine, SpendLine

#: How far back the list of uncovered checks goes.
UNCOVERED_FOR = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class RequestQuery:
    """A search for reservations: "open" (oldest first), "closed" or "all" (newest first).

    `waits_for_approval` selects open reservations only. `department` and `period` are texts as in a
    check. `after` is the `seq` of the last row of the previous page.
    """

    status: str = "open"
    text: str = ""
    budget_id: str = ""
    waits_for_approval: bool = False
    department: str = ""
    period: str = ""
    older_than_days: int | None = None
    after: int | None = None


def reservations_page(
    actor: Actor, customer_id: str, query: RequestQuery, size: int | None = None
) -> tuple[list[ReservationLine], int | None]:
    """A page of reservations, and `after` for the next page. Ordinary users get only their own.

    Raises RequestError INVALID_REQUEST for a text that is not a period.
    """
    scope = require_for(actor, Action.READ_REQUESTS, customer_id)
    rows = _matching(timeline.reservations(), customer_id, query)
    if scope is Scope.OWN:
        rows = rows.where(Reservation.requesterId == actor.user_id)
    if query.status == "open":
        # This order uses the index of open reservations, which is ordered by age.
        rows = rows.where(Reservation.customerId == customer_id)
        order: tuple[Any, ...] = (Reservation.createdAt, Reservation.seq)
        last = query.after and Reservation.get_or_none(
            (Reservation.seq == query.after) & (Reservation.customerId == customer_id)
        )
        if last:
            rows = rows.where(
                (Reservation.createdAt > last.createdAt)
                | ((Reservation.createdAt == last.createdAt) & (Reservation.seq > last.seq))
            )
    else:
        # This order uses the primary key, backwards.
        rows = rows.where(paging.unindexed(Reservation.customerId) == customer_id)
        order = (Reservation.seq.desc(),)
        if query.after is not None:
            rows = rows.where(Reservation.seq < query.after)
    size = size or paging.PAGE_SIZE
    found = [ReservationLine(*row) for row in rows.order_by(*order).limit(size + 1)]
    lines, last_line = paging.cut(found, size)
    return lines, last_line and last_line.seq


def _matching(rows: Any, customer_id: str, query: RequestQuery) -> Any:
    if query.status in ("open", "closed"):
        rows = rows.where(Reservation.status == query.status)
    if query.budget_id:
        rows = rows.where(Reservation.budgetId == query.budget_id)
    rows = _of_name(rows, customer_id, query)
    if query.older_than_days is not None:
        rows = rows.where(Reservation.createdAt < _before(query.older_than_days))
    if query.waits_for_approval:
        rows = rows.where(Reservation.status == "open", timeline.waits_for_approval())
    text = query.text.strip()
    if text:
        rows = rows.where(
            Reservation.requestId.contains(text)
            | Reservation.requesterName.contains(text)
            | Reservation.requesterEmail.contains(text)
        )
    return rows


def spends_page(
    actor: Actor, customer_id: str, query: RequestQuery
) -> tuple[list[SpendLine], int | None]:
    """A page of the money spent without a reservation, newest first, and `after` for the next page.

    `after` is the `seq` of the last row of the previous page. Raises RequestError FORBIDDEN for
    ordinary users, who read only their own requests.
    """
    require_any_for(actor, Action.READ_REQUESTS, customer_id)
    # This order uses the primary key, backwards.
    rows = timeline.spends().where(paging.unindexed(Spend.customerId) == customer_id)
    texts = (Spend.spendId, Spend.vendor, Spend.reason, Spend.externalRef)
    rows = _filtered(rows, Spend.budgetId, texts, customer_id, query)
    if query.older_than_days is not None:
        rows = rows.where(Spend.spentOn < _before(query.older_than_days).date())
    if query.after is not None:
        rows = rows.where(Spend.seq < query.after)
    size = paging.PAGE_SIZE
    newest_first = rows.order_by(Spend.seq.desc()).limit(size + 1)
    lines, last_line = paging.cut([SpendLine(*row) for row in newest_first], size)
    return lines, last_line and last_line.seq


def uncovered_page(
    actor: Actor, customer_id: str, query: RequestQuery
) -> tuple[list[CheckLine], int | None]:
    """A page of the uncovered checks of the last UNCOVERED_FOR, newest first.

    Also returns `after` for the next page. Ordinary users get only their own checks.
    """
    scope = require_for(actor, Action.READ_REQUESTS, customer_id)
    rows = timeline.checks().where(
        # This uses the index of times, so that no more than these days are read.
        paging.unindexed(BudgetCheckLog.customerId) == customer_id,
        BudgetCheckLog.timestamp > clock.now() - UNCOVERED_FOR,
        _is_uncovered(customer_id),
    )
    texts = (
        BudgetCheckLog.requestId,
        BudgetCheckLog.userName,
        BudgetCheckLog.userEmail,
        BudgetCheckLog.vendor,
    )
    rows = _filtered(rows, BudgetCheckLog.budgetId, texts, customer_id, query)
    if query.older_than_days is not None:
        rows = rows.where(BudgetCheckLog.timestamp < _before(query.older_than_days))
    if scope is Scope.OWN:
        rows = rows.where(BudgetCheckLog.checkedBy == actor.principal)
    last = query.after and BudgetCheckLog.get_or_none(
        (BudgetCheckLog.id == query.after) & (BudgetCheckLog.customerId == customer_id)
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


def _filtered(
    rows: Any, budget_id: Any, texts: tuple[Any, ...], customer_id: str, query: RequestQuery
) -> Any:
    """The rows with the query's budget, department, period and text.

    `budget_id` is the column with the id of the budget, `texts` are the columns to search.
    """
    if query.budget_id:
        rows = rows.where(budget_id == query.budget_id)
    if query.department or query.period:
        budgets = Budget.select(Budget.id).where(Budget.customerId == customer_id)
        rows = rows.where(budget_id.in_(_of_name(budgets, customer_id, query)))
    text = query.text.strip()
    if text:
        rows = rows.where(reduce(or_, (column.contains(text) for column in texts)))
    return rows


def _of_name(rows: Any, customer_id: str, query: RequestQuery) -> Any:
    """The rows of budgets with the query's department and period."""
    if query.department:
        rows = rows.where(Budget.departmentKey == department_key(customer_id, query.department))
    if query.period:
        rows = rows.where(Budget.periodKey == period_key_of(customer_id, query.period))
    return rows


def _before(days: int) -> datetime:
    return clock.now() - timedelta(days=days)


def uncovered_check(actor: Actor, customer_id: str, request_id: str) -> CheckLine | None:
    """The uncovered check of one request, of any age."""
    scope = require_for(actor, Action.READ_REQUESTS, customer_id)
    rows = timeline.checks().where(
        BudgetCheckLog.customerId == customer_id,
        BudgetCheckLog.requestId == request_id,
        _is_uncovered(customer_id),
    )
    if scope is Scope.OWN:
        rows = rows.where(BudgetCheckLog.checkedBy == actor.principal)
    row = rows.order_by(BudgetCheckLog.id.desc()).first()
    return CheckLine(*row) if row else None


def _is_uncovered(customer_id: str) -> Any:
    """Whether a check still waits for an approval over budget.

    Its answer was INSUFFICIENT_BUDGET, no other check of the request supersedes it, and the
    request has no reservation on that budget that is open or was closed after the check.
    """
    settled = Reservation.select(Reservation.seq).where(
        Reservation.customerId == customer_id,
        Reservation.requestId == BudgetCheckLog.requestId,
        Reservation.budgetId == BudgetCheckLog.budgetId,
        # By sequence and not by time, as in the ledger: clocks jump.
        (Reservation.status == "open") | (Reservation.closedAfterCheck >= BudgetCheckLog.id),
    )
    other: Any = BudgetCheckLog.alias()
    superseding = other.select(other.id).where(
        other.customerId == customer_id,
        other.requestId == BudgetCheckLog.requestId,
        _supersedes(other, BudgetCheckLog),
    )
    return (
        (BudgetCheckLog.code == Code.INSUFFICIENT_BUDGET)
        & ~fn.EXISTS(settled)
        & ~fn.EXISTS(superseding)
    )


def _supersedes(check: Any, other: Any) -> Any:
    """Whether `check` replaces `other`, a check of the same request, as the state of the request.

    An authenticated check supersedes every earlier check and every anonymous check. It does not
    supersede a check for another user if its sender checked for themselves. An anonymous check
    supersedes only earlier anonymous checks.
    """
    is_anonymous, is_later = check.checkedBy.is_null(), check.id > other.id
    is_senders_own = check.checkedBy == SQL("'user:'").concat(check.userId)
    return Case(
        None,
        [
            (is_anonymous, other.checkedBy.is_null() & is_later),
            ((check.userId != other.userId) & is_senders_own, False),
        ],
        other.checkedBy.is_null() | is_later,
    )
