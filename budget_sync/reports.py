"""Read-only: budgets, what became of a request, the guide's monitoring figures, and the proof of the balances."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from peewee import PeeweeException, fn

from budget_sync import clock
from budget_sync.database import DatabaseProblem, damage, db, is_file, label, require_whole_schema, snapshot, sums, whole_sums
from budget_sync.ledger import standing as standings
from budget_sync.models import AuditLog, Budget, BudgetCheckLog, BudgetUtilization, Reservation, SyncHistory
from budget_sync.money import to_number
from budget_sync.periods import fold, period_key
from budget_sync.permissions import Action, Actor, Scope, require
from budget_sync.proofs import PROOFS
from budget_sync.refusals import Code, Refusal, invalid

PAGE_SIZE = 100

#: A file up to this many bytes is looked at and its balances are proven at each start, which takes about a second;
#: those of a larger one by `flask verify`, `flask doctor` and backups.
MAX_CHECKED_AT_START = 64 * 1024 * 1024


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
    """One budget, deleted ones included. Raises Refusal BUDGET_NOT_FOUND, for another customer's as well."""
    require(actor, Action.READ_BUDGETS)
    row = _budgets().where(Budget.id == budget_id).first() if _can_be_an_id(budget_id) else None
    if row is None or not actor.serves(row["customerId"]):
        raise Refusal(Code.BUDGET_NOT_FOUND, "Budget not found.", budgetId=budget_id)
    _require_enabled(row["customerId"])
    return _budget_json(row)


def get_request(actor: Actor, request_id: str, *, customer_id: str | None = None) -> dict[str, object]:
    """Where a request stands: its reservations, its checks and its movements, oldest first, the latest 100 of each.

    Who may see only their own sees what they checked or requested. Raises Refusal REQUEST_NOT_FOUND or NOT_YOUR_REQUEST.
    """
    customer = _customer_for(actor, customer_id)
    scope = require(actor, Action.READ_REQUESTS)
    queries = [_of_request(table, customer, request_id) for table in (Reservation, BudgetCheckLog, AuditLog)]
    own = queries
    if scope is Scope.OWN:
        conditions = (Reservation.requesterId == actor.user_id, BudgetCheckLog.checkedBy == actor.principal, AuditLog.subject == actor.user_id)
        own = [query.where(condition) for query, condition in zip(queries, conditions, strict=True)]
    with snapshot():
        reservations, checks, movements = (_latest(query, key) for query, key in zip(own, (Reservation.seq, BudgetCheckLog.id, AuditLog.id), strict=True))
        budgets = {row["id"]: row for row in _budgets().where(Budget.id << {row["budgetId"] for row in (*reservations, *movements)})}
        if not reservations and not checks:
            is_known = any(query.first() for query in queries[:2])
            code, sentence = (Code.NOT_YOUR_REQUEST, "This request belongs to someone else.") if is_known else (Code.REQUEST_NOT_FOUND, "Request not found.")
            raise Refusal(code, sentence, requestId=request_id)
    return {
        "requestId": request_id,
        "reservations": [_reservation_json(row, budgets[row["budgetId"]]) for row in reservations],
        "checks": [_check_json(row) for row in checks],
        "movements": [_movement_json(row, budgets[row["budgetId"]]["currencyExponent"]) for row in movements],
    }


def _customer_for(actor: Actor, customer_id: str | None) -> str:
    """The one customer a question is about. Raises Refusal INVALID_REQUEST where it must be named, INVALID_CUSTOMER where it is another's."""
    if customer_id is None:
        if actor.customer_id is None:
            raise invalid({"customerId": "is required, since your credential is for all customers"})
        return actor.customer_id
    if not actor.serves(customer_id):
        raise standings.invalid_customer()
    _require_enabled(customer_id)
    return customer_id


def _require_enabled(customer_id: str) -> None:
    """Raises Refusal INVALID_CUSTOMER for a customer that is unknown or disabled: who serves all customers serves no such one."""
    if not standings.ENABLED_CUSTOMER.first(customer_id=customer_id):
        raise standings.invalid_customer()


def _budgets() -> Any:
    return (
        Budget.select(Budget, BudgetUtilization.reservedMinor, BudgetUtilization.committedMinor)
        .join(BudgetUtilization, on=(BudgetUtilization.budgetId == Budget.id))
        .dicts()
    )


def _rows(query: Any) -> list[Any]:
    """A query's rows as tuples, whose types Peewee's stubs do not know."""
    return list(query.tuples())


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
        "available": to_number(row["budgetedMinor"] - row["reservedMinor"] - row["committedMinor"], exponent),
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


class Utilization(NamedTuple):
    """What a department's live budgets add up to, in whole units of one currency."""

    department: str
    currency: str
    total: int | Decimal
    used: int | Decimal
    available: int | Decimal


class Stats(NamedTuple):
    """The guide's four monitoring figures. Rates are percentages, None where there was nothing to count."""

    checks: int
    check_success_rate: float | None
    average_response_ms: float | None
    passes: int
    sync_success_rate: float | None
    utilization: list[Utilization]


def stats(actor: Actor, customer_id: str | None = None) -> Stats:
    """Checks of the last 24 hours, passes of the last 7 days, and the utilisation of each department as it is now."""
    require(actor, Action.READ_AUDIT)
    customer = actor.customer_id or customer_id
    now = clock.now()
    checks = BudgetCheckLog.select(fn.COUNT(BudgetCheckLog.id), fn.SUM(BudgetCheckLog.available.cast("INTEGER")), fn.AVG(BudgetCheckLog.durationMs)).where(
        BudgetCheckLog.timestamp > now - timedelta(hours=24)
    )
    passes = (
        SyncHistory.select(SyncHistory.status, fn.COUNT(SyncHistory.id)).where(SyncHistory.startTime > now - timedelta(days=7)).group_by(SyncHistory.status)
    )
    budgets = (
        Budget.select(
            fn.MIN(Budget.department),
            Budget.currency,
            *sums(Budget.currencyExponent, Budget.budgetedMinor, BudgetUtilization.reservedMinor + BudgetUtilization.committedMinor),
        )
        .join(BudgetUtilization, on=(BudgetUtilization.budgetId == Budget.id))
        .where(Budget.deletedAt.is_null())
        .group_by(Budget.customerId, Budget.departmentKey, Budget.currency)
        .order_by(Budget.customerId, Budget.departmentKey, Budget.currency)
    )
    if customer is not None:
        checks = checks.where(BudgetCheckLog.customerId == customer)
        passes = passes.where(SyncHistory.customerId == customer)
        budgets = budgets.where(Budget.customerId == customer)
    with snapshot():
        count, available, average_ms = _rows(checks)[0]
        by_status: dict[str, int] = dict(_rows(passes))
        rows = _rows(budgets)
    pass_count = sum(by_status.values())
    return Stats(
        checks=count,
        check_success_rate=100 * available / count if count else None,
        average_response_ms=None if average_ms is None else float(average_ms),
        passes=pass_count,
        sync_success_rate=100 * by_status.get("success", 0) / pass_count if pass_count else None,
        utilization=[
            Utilization(department, currency, to_number(total, exponent), to_number(used, exponent), to_number(total - used, exponent))
            for department, currency, *selected in rows
            for exponent, (total, used) in [whole_sums(selected)]
        ],
    )


class Verification(NamedTuple):
    """What was looked at, and one sentence for every contradiction found."""

    budgets: int
    reservations: int
    movements: int
    findings: list[str]


def verify() -> Verification:
    """Prove the balances, at one moment: counters = open reservations = replayed audit log, for every budget of every customer."""
    with snapshot():
        return prove()


def require_sound_start() -> None:
    """Raises DatabaseProblem where SQLite's file is damaged, the schema not whole, or the balances in the file contradict each other.

    A large file is not read; PostgreSQL looks after its own. SQLite keeps no checksums of the file's pages: a changed figure is
    seen where it contradicts another.
    """
    is_small = is_file() and db.file_path.stat().st_size <= MAX_CHECKED_AT_START
    if is_small and (found := damage()):
        raise _damaged(found)
    # However large the database is, its schema is not.
    _require_whole_schema()
    if is_small:
        _require_proven_balances()


def _damaged(how: str) -> DatabaseProblem:
    return DatabaseProblem(f"The database {label()} is damaged ({how}): restore a backup.")


def _require_whole_schema() -> None:
    try:
        require_whole_schema()
    except DatabaseProblem as problem:
        raise DatabaseProblem(f"The database {label()} is not as it was made ({problem}): restore a backup.") from problem


def _require_proven_balances() -> None:
    try:
        findings = verify().findings
    except PeeweeException as error:
        raise _damaged(" ".join(str(error).split())) from error
    if findings:
        raise DatabaseProblem(
            f"The balances in {label()} contradict each other: see `flask verify`, and restore a backup. The first of {len(findings)}: {findings[0]}"
        )


def prove() -> Verification:
    """The same, inside the transaction that is open."""
    findings = [
        f"{f'Budget {budget_id}' if budget_id else 'No budget'}: {claim}: {detail}."
        for claim, sql in PROOFS
        for budget_id, detail in sorted(db.execute_sql(sql).fetchall(), key=str)
    ]
    budgets, reservations, movements = (table.select().count() for table in (Budget, Reservation, AuditLog))
    return Verification(budgets, reservations, movements, findings)
