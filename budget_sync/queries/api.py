"""The read calls of the API: budgets, requests, and a request's timeline, in their JSON's shape."""

from __future__ import annotations

from dataclasses import replace

from budget_sync.accounts.customers import get_customer, period_key_of
from budget_sync.database.models import Budget, Reservation
from budget_sync.domain import clock
from budget_sync.domain.decisions import Decision
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.money import to_number
from budget_sync.domain.permissions import Action, Actor, Scope, require, scope_of
from budget_sync.ledger import movements
from budget_sync.ledger.aliases import department_key
from budget_sync.queries import as_of, budgets
from budget_sync.queries.audit import AuditLine
from budget_sync.queries.budgets import BudgetLine
from budget_sync.queries.decisions import decision_of, decisions_of
from budget_sync.queries.request_query import RequestQuery
from budget_sync.queries.requests import reservations_page
from budget_sync.queries.timeline import (
    CheckLine,
    ReservationLine,
    SpendLine,
    can_be_an_id,
    request_timeline,
)
from budget_sync.queries.visible import visible

#: Budgets or requests per page; also the most checks, reservations and movements of a request.
PAGE_SIZE = 100


def list_budgets(
    actor: Actor,
    *,
    customer_id: str | None = None,
    department: str | None = None,
    fiscal_period: str | None = None,
    as_of_day: str | None = None,
    cursor: str | None = None,
    limit: int = PAGE_SIZE,
) -> dict[str, object]:
    """A page of a customer's live budgets, by id: `{"items": [...], "nextCursor": ...}`.

    With `as_of_day`, such as "2026-10-31", the budgets that were live at the end of that day with
    their balances then. The cursor is null on the last page. Raises RequestError INVALID_REQUEST
    for a text that is not a period, and for a day that is invalid or in the future.
    """
    customer = customer_for(actor, customer_id)
    require(actor, Action.READ_BUDGETS)
    if as_of_day is None:
        query = budgets.rows().where(Budget.deletedAt.is_null())
    else:
        day = as_of.parse_past_day(as_of_day, "asOf", get_customer(customer))
        query = as_of.rows_at(day.end)
    query = visible(query, actor).where(Budget.customerId == customer)
    if department is not None:
        query = query.where(Budget.departmentKey == department_key(customer, department))
    if fiscal_period is not None:
        query = query.where(Budget.periodKey == period_key_of(customer, fiscal_period))
    if cursor is not None:
        query = query.where(Budget.id > cursor)
    lines = [budgets.to_line(row) for row in query.order_by(Budget.id).limit(limit + 1)]
    page = lines[:limit]
    return {
        "items": [_budget_json(actor, line) for line in page],
        "nextCursor": page[-1].id if len(lines) > limit else None,
    }


def get_budget(actor: Actor, budget_id: str) -> dict[str, object]:
    """One budget, even if it is deleted.

    Raises RequestError BUDGET_NOT_FOUND, also if the budget belongs to another customer or the
    caller may not read it.
    """
    require(actor, Action.READ_BUDGETS)
    found = visible(budgets.rows(), actor)
    row = found.where(Budget.id == budget_id).first() if can_be_an_id(budget_id) else None
    line = budgets.to_line(row) if row else None
    if line is None or not actor.serves(line.customer_id):
        raise RequestError(Code.BUDGET_NOT_FOUND, "Budget not found.", budgetId=budget_id)
    _require_enabled(line.customer_id)
    return _budget_json(actor, line)


def list_requests(
    actor: Actor,
    query: RequestQuery,
    *,
    customer_id: str | None = None,
    cursor: str | None = None,
    limit: int = PAGE_SIZE,
) -> dict[str, object]:
    """A page of reservations with their requests: `{"items": [...], "nextCursor": ...}`.

    Open ones are ordered from the oldest, others from the newest. The cursor is null on the last
    page. Raises RequestError INVALID_REQUEST for an unknown cursor or a text that is not a period.
    """
    customer = customer_for(actor, customer_id)
    require(actor, Action.READ_REQUESTS)
    if cursor is not None:
        query = replace(query, after=_seq_of(customer, cursor))
    lines, after = reservations_page(actor, customer, query, limit)
    decisions = decisions_of(customer, lines)
    return {
        "items": [_request_json(line, decisions[line.id]) for line in lines],
        "nextCursor": None if after is None else lines[-1].id,
    }


def _seq_of(customer_id: str, cursor: str) -> int:
    """The `seq` of the reservation that the cursor names. `seq` itself counts all customers."""
    seq = (
        Reservation.select(Reservation.seq)
        .where((Reservation.id == cursor) & (Reservation.customerId == customer_id))
        .scalar()
    )
    if seq is None:
        raise invalid_request({"cursor": "must be the nextCursor of an earlier page"})
    return int(seq)


def get_request(
    actor: Actor, request_id: str, *, customer_id: str | None = None
) -> dict[str, object]:
    """A request's reservations, checks and movements, oldest first, the latest 100 of each.

    The id may also be that of a spend. An ordinary user sees only what they checked or requested.
    Raises RequestError REQUEST_NOT_FOUND or NOT_YOUR_REQUEST.
    """
    customer = customer_for(actor, customer_id)
    timeline = request_timeline(actor, customer, request_id, PAGE_SIZE)
    return {
        "requestId": request_id,
        "decision": _decision_json(decision_of(customer, timeline)),
        "reservations": [_reservation_json(line) for line in timeline.reservations],
        "checks": [_check_json(line) for line in timeline.checks],
        "movements": [_movement_json(line) for line in timeline.movements],
        "spends": [_spend_json(line) for line in timeline.spends],
    }


def customer_for(actor: Actor, customer_id: str | None) -> str:
    """The customer that the call is about.

    Raises RequestError INVALID_REQUEST if the caller must send `customerId` and did not,
    INVALID_CUSTOMER if the caller does not serve the customer that was sent.
    """
    if customer_id is None:
        if actor.customer_id is None:
            raise invalid_request(
                {"customerId": "is required, because your credential is for all customers"}
            )
        return actor.customer_id
    if not actor.serves(customer_id):
        raise movements.invalid_customer()
    _require_enabled(customer_id)
    return customer_id


def _require_enabled(customer_id: str) -> None:
    """Raises RequestError INVALID_CUSTOMER if the customer is unknown or disabled.

    This matters for a caller for all customers, which `Actor.serves` lets name any id.
    """
    if not movements.ENABLED_CUSTOMER.first(customer_id=customer_id):
        raise movements.invalid_customer()


def _budget_json(actor: Actor, line: BudgetLine) -> dict[str, object]:
    """The budget; with its owner only for a caller that may read the requests of all people."""
    balance, limit_minor = line.balance, line.auto_approve_limit_minor
    may_read_owner = scope_of(actor, Action.READ_REQUESTS) is Scope.ANY
    return {
        "id": line.id,
        "customerId": line.customer_id,
        "department": line.department,
        "fiscalPeriod": line.period,
        "currency": balance.currency,
        "budgetedAmount": balance.number(balance.budgeted_minor),
        "reservedAmount": balance.number(balance.reserved_minor),
        "committedAmount": balance.number(balance.committed_minor),
        "available": balance.number(balance.available_minor),
        "autoApproveLimit": None if limit_minor is None else balance.number(limit_minor),
        "deletedAt": line.deleted_at and clock.to_text(line.deleted_at),
        **({"ownerEmail": line.owner_email} if may_read_owner else {}),
    }


def _reservation_json(line: ReservationLine) -> dict[str, object]:
    return {
        "reservationId": line.id,
        "budgetId": line.budget_id,
        "department": line.department,
        "fiscalPeriod": line.period,
        "currency": line.currency,
        "status": line.status,
        "requesterId": line.requester_id,
        "amountReserved": to_number(line.amount_minor, line.exponent),
        "amountHeld": to_number(line.held_minor, line.exponent),
        "amountCommitted": to_number(line.committed_minor, line.exponent),
        "amountReleased": to_number(line.released_minor, line.exponent),
        "amountReversed": to_number(line.reversed_minor, line.exponent),
        "version": line.version,
        "createdAt": clock.to_text(line.created_at),
        "expiresAt": _expiry_text(line),
        "closedAt": line.closed_at and clock.to_text(line.closed_at),
    }


def _expiry_text(line: ReservationLine) -> str | None:
    """When an open reservation expires. A closed one keeps its time, but does not expire."""
    if line.expires_at is None or line.status != "open":
        return None
    return clock.to_text(line.expires_at)


def _decision_json(decision: Decision | None) -> dict[str, object] | None:
    return None if decision is None else decision.to_json()


def _request_json(line: ReservationLine, decision: Decision | None) -> dict[str, object]:
    return {
        "requestId": line.request_id,
        "requesterName": line.requester,
        "waitingFor": "approval" if line.waits_for_approval else None,
        "decision": _decision_json(decision),
        **_reservation_json(line),
    }


def _spend_json(line: SpendLine) -> dict[str, object]:
    return {
        "spendId": line.id,
        "budgetId": line.budget_id,
        "department": line.department,
        "fiscalPeriod": line.period,
        "currency": line.currency,
        "amount": to_number(line.amount_minor, line.exponent),
        "amountReversed": to_number(line.reversed_minor, line.exponent),
        "date": line.spent_on.isoformat(),
        "vendor": line.vendor,
        "reason": line.reason,
        "externalRef": line.external_ref,
        "recordedBy": line.recorded_by,
        "createdAt": clock.to_text(line.created_at),
    }


def _check_json(line: CheckLine) -> dict[str, object]:
    return {
        "checkId": line.check_id,
        "userId": line.user_id,
        "department": line.department,
        "fiscalPeriod": line.period,
        "currency": line.currency,
        "amount": to_number(line.amount_minor, line.exponent),
        "budgetId": line.budget_id,
        "available": line.is_available,
        "canAutoApprove": line.can_auto_approve,
        "code": line.code,
        "reason": line.reason,
        "timestamp": clock.to_text(line.at),
    }


def _movement_json(line: AuditLine) -> dict[str, object]:
    # A movement of money always has a budget, so its decimals are known.
    exponent = line.exponent or 0
    return {
        "action": line.action,
        "budgetId": line.budget_id,
        "reservationId": line.reservation_id,
        "oldValue": line.old,
        "newValue": line.new,
        "reservedDelta": to_number(line.reserved_delta_minor, exponent),
        "committedDelta": to_number(line.committed_delta_minor, exponent),
        "changedBy": line.changed_by,
        "onBehalfOf": line.on_behalf_of,
        "approvedBy": line.approved_by,
        "reason": line.reason,
        "externalRef": line.external_ref,
        "transferId": line.transfer_id,
        "createdAt": clock.to_text(line.at),
    }
