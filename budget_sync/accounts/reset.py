"""Empties a test customer: its budgets, and everything that happened to them."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from peewee import JOIN, fn

from budget_sync.accounts.customers import (
    get_customer,
    locked_customer,
    require_all_customers,
)
from budget_sync.database import audit_log, locked_for_deletion, transact
from budget_sync.database.delivery_models import Alert, AlertMessage, AlertState, Webhook
from budget_sync.database.models import (
    AuditLog,
    Budget,
    BudgetCheckLog,
    BudgetUtilization,
    Customer,
    DepartmentAlias,
    HoldAnswer,
    Reservation,
    Spend,
    StoredReply,
    SyncHistory,
)
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, invalid_request
from budget_sync.domain.ids import new_id
from budget_sync.domain.permissions import Action, Actor, require
from budget_sync.runtime import greenlets

#: Checks, or stored replies, deleted in one transaction. On SQLite, other writers wait for it.
BATCH_SIZE = 5000

#: One transaction deletes budgets of at most this cost, or a single budget. The cost of a budget is
#: the number of its movements, and the number of rows in the check log divided by CHECKS_PER_COST:
#: the database looks there for checks of the budget.
MAX_COST = 15_000
CHECKS_PER_COST = 50

#: What belongs to budgets, in the order in which it can be deleted.
_TABLES_OF_BUDGETS = (
    *(HoldAnswer, BudgetCheckLog, Reservation, Spend, AuditLog, BudgetUtilization),
)

#: The other tables of a customer that are emptied.
_OTHER_TABLES = (HoldAnswer, BudgetCheckLog, StoredReply, SyncHistory, DepartmentAlias, AuditLog)

#: The audit rows without a budget that are deleted as well: their subjects are.
_ACTIONS = (
    *("ANSWER_HOLD", "PRUNE_CHECKS", "PRUNE_HISTORY", "ADD_ALIAS", "REMOVE_ALIAS"),
    *("APPROVE", "DECLINE"),
)

_MARKER = "The customer was reset. This row keeps the numbers of the log."


class Content(NamedTuple):
    """What a reset deletes: the budgets, and all other rows."""

    budgets: int
    rows: int


def content_of(actor: Actor, customer_id: str) -> Content:
    """What a reset of the customer deletes.

    Raises RequestError INVALID_CUSTOMER, or INVALID_REQUEST if it is not a test customer.
    """
    _require_allowed(actor)
    _require_test(get_customer(customer_id))
    budgets = Budget.select().where(Budget.customerId == customer_id).count()
    tables = {*_TABLES_OF_BUDGETS, *_OTHER_TABLES}
    rows = sum(table.select().where(_is_emptied(table, customer_id)).count() for table in tables)
    return Content(budgets, rows)


def reset_customer(
    actor: Actor, customer_id: str, report: Callable[[int], None] = lambda _: None
) -> int:
    """Delete the budgets of a test customer and everything that happened to them; returns the rows.

    The customer, its people, keys, sources, webhooks and alerts stay, with their audit rows. One
    transaction does it all if the customer is small. Otherwise, each one deletes a part: budgets
    with everything that belongs to them, so that `verify` finds no contradiction at any time.
    `report` gets the number of rows deleted so far. If the run is interrupted, another one
    continues. Calls that the customer sends in the meantime may fail.

    The newest row of each log stays, or a marker takes its place: on SQLite, the next row would
    get the number of a deleted one, and cursors of other customers have passed that number.

    Raises RequestError FORBIDDEN, INVALID_CUSTOMER, or INVALID_REQUEST if it is not a test
    customer, or an error of `transact`.
    """
    _require_allowed(actor)
    _require_test(get_customer(customer_id))
    deleted = 0
    steps = (
        partial(_delete_checks, customer_id),
        partial(_delete_replies, customer_id),
        partial(_empty_part, actor, customer_id),
    )
    for step in steps:
        is_last = False
        while not is_last:
            began_s = time.monotonic()
            part = transact(step)
            deleted += part.rows
            is_last = part.is_last
            report(deleted)
            if not is_last:
                # Other writers get their turn.
                greenlets.sleep(time.monotonic() - began_s)
    return deleted


class _Part(NamedTuple):
    """The rows that a transaction of a step deleted, and whether it was the step's last one."""

    rows: int
    is_last: bool


def _require_allowed(actor: Actor) -> None:
    require(actor, Action.MANAGE_PEOPLE)
    require_all_customers(actor)


def _require_test(customer: Customer) -> None:
    if not customer.isTest:
        raise invalid_request(
            {"id": f"{customer.id!r} is not a test customer; only `add-customer --test` adds one"}
        )


def _delete_checks(customer_id: str) -> _Part:
    """Delete checks in the open transaction, if there are many; never the newest of the table."""
    newest = BudgetCheckLog.select(fn.MAX(BudgetCheckLog.id))
    own = (BudgetCheckLog.customerId == customer_id) & (BudgetCheckLog.id < newest)
    ids = BudgetCheckLog.select(BudgetCheckLog.id).where(own).limit(BATCH_SIZE)
    batch = [row.id for row in ids]
    if len(batch) < BATCH_SIZE:
        return _Part(0, is_last=True)
    deleted = BudgetCheckLog.delete().where(BudgetCheckLog.id.in_(batch)).execute()
    return _Part(deleted, is_last=False)


def _delete_replies(customer_id: str) -> _Part:
    """Delete stored replies in the open transaction, if there are many."""
    own = StoredReply.customerId == customer_id
    found = StoredReply.select(StoredReply.idempotencyKey).where(own).limit(BATCH_SIZE)
    keys = [row.idempotencyKey for row in found]
    if len(keys) < BATCH_SIZE:
        return _Part(0, is_last=True)
    deleted = StoredReply.delete().where(own, StoredReply.idempotencyKey.in_(keys)).execute()
    return _Part(deleted, is_last=False)


def _empty_part(actor: Actor, customer_id: str) -> _Part:
    """Delete some budgets in the open transaction, and with the last ones everything else."""
    _require_test(locked_customer(customer_id))
    budget_ids, is_last = _next_budgets(customer_id)
    # Calls that hold one of them end first, and later ones find no budget.
    budgets = Budget.select(Budget.id).where(Budget.id.in_(budget_ids)).order_by(Budget.id)
    list(locked_for_deletion(budgets).tuples())
    # First, so that the newest audit row is not deleted.
    audit_log.record(
        actor,
        "RESET_CUSTOMER",
        customer_id=customer_id,
        subject=customer_id,
        newValue=f"{len(budget_ids)} budgets deleted",
    )
    _mark_checks(actor, customer_id)
    deleted = 0
    for table in _TABLES_OF_BUDGETS:
        is_own = (table.customerId == customer_id) & table.budgetId.in_(budget_ids)
        deleted += table.delete().where(is_own).execute()
    deleted += Budget.delete().where(Budget.id.in_(budget_ids)).execute()
    if is_last:
        deleted += _delete_others(actor, customer_id)
    return _Part(deleted, is_last)


def _next_budgets(customer_id: str) -> tuple[list[str], bool]:
    """The budgets that the next transaction deletes, and whether they are the last ones.

    Budgets between which reservations were moved are deleted together: `verify` compares them.
    """
    found: Any = (
        Budget.select(Budget.id, fn.COALESCE(BudgetUtilization.version, 0))
        .join(BudgetUtilization, JOIN.LEFT_OUTER, on=(BudgetUtilization.budgetId == Budget.id))
        .where(Budget.customerId == customer_id)
        .order_by(Budget.id)
    )
    movements: dict[str, int] = dict(found.tuples())
    first, newest = BudgetCheckLog.select(
        fn.MIN(BudgetCheckLog.id), fn.MAX(BudgetCheckLog.id)
    ).scalar(as_tuple=True)
    look_up = ((newest or 0) - (first or 0)) // CHECKS_PER_COST
    moved: Any = (
        AuditLog.select(AuditLog.budgetId)
        .where(
            AuditLog.customerId == customer_id,
            AuditLog.transferId.is_null(False),
            AuditLog.action.in_(("TRANSFER", "OVER_BUDGET")),
        )
        .distinct()
    )
    chosen: set[str] = {budget_id for (budget_id,) in moved.tuples()}
    cost = sum(movements[budget_id] + look_up for budget_id in chosen)
    for budget_id, count in movements.items():
        if budget_id not in chosen and (not chosen or cost + count + look_up <= MAX_COST):
            chosen.add(budget_id)
            cost += count + look_up
    return sorted(chosen), len(chosen) == len(movements)


def _delete_others(actor: Actor, customer_id: str) -> int:
    """Delete what belongs to no budget, in the open transaction; returns the number of rows."""
    _mark_sync_runs(actor, customer_id)
    deleted: int = 0
    for table in _OTHER_TABLES:
        deleted += table.delete().where(_is_emptied(table, customer_id)).execute()
    alerts = Alert.select(Alert.id).where(Alert.customerId == customer_id)
    deleted += AlertState.delete().where(AlertState.alertId.in_(alerts)).execute()
    deleted += AlertMessage.delete().where(AlertMessage.alertId.in_(alerts)).execute()
    # The event that failed is deleted. The next one is tried at once.
    Webhook.update(attempts=0, failingSince=None, nextAttemptAt=None).where(
        (Webhook.customerId == customer_id) & (Webhook.attempts > 0)
    ).execute()
    return deleted


def _is_emptied(table: Any, customer_id: str) -> Any:
    """The condition for the rows of a table that a reset deletes."""
    is_own = table.customerId == customer_id
    if table is AuditLog:
        return is_own & (AuditLog.budgetId.is_null(False) | AuditLog.action.in_(_ACTIONS))
    if table in (BudgetCheckLog, SyncHistory):
        # The newest row is another customer's, or the marker.
        return is_own & (table.id < table.select(fn.MAX(table.id)))
    return is_own


def _newest(table: Any, customer_id: str) -> Any:
    """The newest row of a log if it is of that customer, else None."""
    row = table.select().order_by(table.id.desc()).first()
    return row if row is not None and row.customerId == customer_id else None


def _mark_checks(actor: Actor, customer_id: str) -> None:
    """Add a check without a budget if the newest one is of this customer: that one has to go."""
    newest = _newest(BudgetCheckLog, customer_id)
    if newest is None or newest.budgetId is None:
        return
    BudgetCheckLog.insert(
        checkId=new_id("chk"),
        customerId=customer_id,
        requestId="reset",
        userId=actor.principal,
        userName=actor.name,
        userEmail="",
        checkedBy=actor.principal,
        department="-",
        fiscalPeriod="-",
        currency=newest.currency,
        currencyExponent=newest.currencyExponent,
        amountMinor=1,
        available=False,
        canAutoApprove=False,
        code=str(Code.NO_BUDGET),
        reason=_MARKER,
        response="{}",
        durationMs=0,
        timestamp=clock.now(),
    ).execute()


def _mark_sync_runs(actor: Actor, customer_id: str) -> None:
    """Add a skipped sync run if the newest run is of this customer: no event is derived from it."""
    newest = _newest(SyncHistory, customer_id)
    if newest is None:
        return
    now = clock.now()
    SyncHistory.insert(
        syncId=new_id("sync"),
        customerId=customer_id,
        sourceId=newest.sourceId,
        status="skipped",
        message=_MARKER,
        startedBy=actor.label,
        durationMs=0,
        startTime=now,
        endTime=now,
    ).execute()
