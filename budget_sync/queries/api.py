"""What the API's read calls return: budgets, and the state of a request."""

from __future__ import annotations

from typing import Any

from budget_sync.database import snapshot
from budget_sync.database.models import (
    AuditLog,
    Budget,
    BudgetCheckLog,
    BudgetUtilization,
    Reservation,
)
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.money import to_number
from budget_sync.domain.periods import fold, period_key
from budget_sync.domain.permissions import Action, Actor, Scope, require
from budget_sync.ledger import movements as standings

PAGE_SIZE = 100


def list_budgets(
    actor: Actor,
    *,
    customer_id: str | None = None,
    department: str | None = None,
    fiscal_period: str | None = None,
    cursor: str | None = None,
    limit: int = PAGE_SIZE,
) -> dict[str, object]:
    """A page of the live budgets of one customer, by id: `{"items": [...], "nextCursor": ...}`, the cursor null on the last page."""
    customer = _customer_for(actor, customer_id)
    require(actor, Action.READ_BUDGETS)
    query = _budgets().where(Budget.customerId == customer, Budget.deletedAt.is_null())
    if department is not None:
        query = query.where(Budget.departmentKey == fold(department))
    if fiscal_period is not None:
        query = query.where(Budget.periodKey == period_key(fiscal_period))
    if cursor is not None:
        query = query.where(Budget.id > cursor)
    rows = list(query.order_by(Budget.id).limit(limit + 1))
    items = [_budget_json(row) for row in rows[:limit]]
    return {"items": items, "nextCursor": items[-1]["id"] if len(rows) > limit else None}


def get_budget(actor: Actor, budget_id: str) -> dict[str, object]:
    """One budget, deleted ones included. Raises RequestError BUDGET_NOT_FOUND, for another customer's as well."""
    require(actor, Action.READ_BUDGETS)
    row = _budgets().where(Budget.id == budget_id).first() if _can_be_an_id(budget_id) else None
    if row is None or not actor.serves(row["customerId"]):
        raise RequestError(Code.BUDGET_NOT_FOUND, "Budget not found.", budgetId=budget_id)
    _require_enabled(row["customerId"])
    return _budget_json(row)


def get_request(
    actor: Actor, request_id: str, *, customer_id: str | None = None
) -> dict[str, object]:
    """Where a request stands: its reservations, its checks and its movements, oldest first, the latest 100 of each.

    Who may see only their own sees what they checked or requested. Raises RequestError REQUEST_NOT_FOUND or NOT_YOUR_REQUEST.
    """
    customer = _customer_for(actor, customer_id)
    scope = require(actor, Action.READ_REQUESTS)
    queries = [
        _of_request(table, customer, request_id)
        for table in (Reservation, BudgetCheckLog, AuditLog)
    ]
    own = queries
    if scope is Scope.OWN:
        conditions = (
            Reservation.requesterId == actor.user_id,
            BudgetCheckLog.checkedBy == actor.principal,
            AuditLog.subject == actor.user_id,
        )
        own = [query.where(condition) for query, condition in zip(queries, conditions, strict=True)]
    with snapshot():
        reservations, checks, movements = (
            _latest(query, key)
            for query, key in zip(
                own, (Reservation.seq, BudgetCheckLog.id, AuditLog.id), strict=True
            )
        )
        budgets = {
            row["id"]: row
            for row in _budgets().where(
                Budget.id << {row["budgetId"] for row in (*reservations, *movements)}
            )
        }
        if not reservations and not checks:
            is_known = any(query.first() for query in queries[:2])
            code, sentence = (
                (Code.NOT_YOUR_REQUEST, "This request belongs to someone else.")
                if is_known
                else (Code.REQUEST_NOT_FOUND, "Request not found.")
            )
            raise RequestError(code, sentence, requestId=request_id)
    return {
        "requestId": request_id,
        "reservations": [_reservation_json(row, budgets[row["budgetId"]]) for row in reservations],
        "checks": [_check_json(row) for row in checks],
        "movements": [
            _movement_json(row, budgets[row["budgetId"]]["currencyExponent"]) for row in movements
        ],
    }


def _customer_for(actor: Actor, customer_id: str | None) -> str:
    """The one customer a question is about. Raises RequestError INVALID_REQUEST where it must be named, INVALID_CUSTOMER where it is another's."""
    if customer_id is None:
        if actor.customer_id is None:
            raise invalid_request(
                {"customerId": "is required, since your credential is for all customers"}
            )
        return actor.customer_id
    if not actor.serves(customer_id):
        raise standings.invalid_customer()
    _require_enabled(customer_id)
    return customer_id


def _require_enabled(customer_id: str) -> None:
    """Raises RequestError INVALID_CUSTOMER for a customer that is unknown or disabled: who serves all customers serves no such one."""
    if not standings.ENABLED_CUSTOMER.first(customer_id=customer_id):
        raise standings.invalid_customer()


def _budgets() -> Any:
    return (
        Budget.select(Budget, BudgetUtilization.reservedMinor, BudgetUtilization.committedMinor)
        .join(BudgetUtilization, on=(BudgetUtilization.budgetId == Budget.id))
        .dicts()
    )


def _can_be_an_id(text: str) -> bool:
    """Whether there could be a row with it: PostgreSQL does not even look for text that has a NUL character."""
    return "\x00" not in text


def _of_request(table: Any, customer_id: str, request_id: str) -> Any:
    """A table's rows of a request; none where there can be no such request."""
    named = table.requestId == request_id if _can_be_an_id(request_id) else False
    return table.select().where((table.customerId == customer_id) & named)


def _latest(query: Any, sequence: Any) -> list[dict[str, Any]]:
    return list(query.order_by(sequence.desc()).limit(PAGE_SIZE).dicts())[::-1]


def _budget_json(row: dict[str, Any]) -> dict[str, object]:
    exponent = row["currencyExponent"]
    limit_minor = row["autoApproveLimitMinor"]
    return {
        "id": row["id"],
        "customerId": row["customerId"],
        "department": row["department"],
        "fiscalPeriod": row["fiscalPeriod"],
        "currency": row["currency"],
        "budgetedAmount": to_number(row["budgetedMinor"], exponent),
        "reservedAmount": to_number(row["reservedMinor"], exponent),
        "committedAmount": to_number(row["committedMinor"], exponent),
        "available": to_number(
            row["budgetedMinor"] - row["reservedMinor"] - row["committedMinor"], exponent
        ),
        "autoApproveLimit": None if limit_minor is None else to_number(limit_minor, exponent),
        "deletedAt": row["deletedAt"] and clock.to_text(row["deletedAt"]),
    }


def _reservation_json(row: dict[str, Any], budget: dict[str, Any]) -> dict[str, object]:
    exponent = row["currencyExponent"]
    return {
        "reservationId": row["id"],
        "budgetId": row["budgetId"],
        "department": budget["department"],
        "fiscalPeriod": budget["fiscalPeriod"],
        "currency": budget["currency"],
        "status": row["status"],
        "requesterId": row["requesterId"],
        "amountReserved": to_number(row["amountMinor"], exponent),
        "amountHeld": to_number(row["heldMinor"], exponent),
        "amountCommitted": to_number(row["committedMinor"], exponent),
        "amountReleased": to_number(row["releasedMinor"], exponent),
        "createdAt": clock.to_text(row["createdAt"]),
        "closedAt": row["closedAt"] and clock.to_text(row["closedAt"]),
    }


def _check_json(row: dict[str, Any]) -> dict[str, object]:
    return {
        "checkId": row["checkId"],
        "userId": row["userId"],
        "department": row["department"],
        "fiscalPeriod": row["fiscalPeriod"],
        "currency": row["currency"],
        "amount": to_number(row["amountMinor"], row["currencyExponent"]),
        "budgetId": row["budgetId"],
        "available": row["available"],
        "canAutoApprove": row["canAutoApprove"],
        "code": row["code"],
        "reason": row["reason"],
        "timestamp": clock.to_text(row["timestamp"]),
    }


def _movement_json(row: dict[str, Any], exponent: int) -> dict[str, object]:
    return {
        "action": row["action"],
        "budgetId": row["budgetId"],
        "reservationId": row["reservationId"],
        "oldValue": row["oldValue"],
        "newValue": row["newValue"],
        "reservedDelta": to_number(row["reservedDeltaMinor"], exponent),
        "committedDelta": to_number(row["committedDeltaMinor"], exponent),
        "changedBy": row["changedBy"],
        "onBehalfOf": row["onBehalfOf"],
        "approvedBy": row["approvedBy"],
        "reason": row["reason"],
        "externalRef": row["externalRef"],
        "createdAt": clock.to_text(row["createdAt"]),
    }
