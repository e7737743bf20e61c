"""Reads a customer's budgets for planning, and writes a plan.

Nothing here opens a transaction: a plan, or a part of it, is written in the one of its caller.

The statements are plain SQL instead of models: a sheet of 10,000 rows means 30,000 rows to write,
and Peewee's `insert_many` takes twenty times as long for them, with the write lock held.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

import peewee

from budget_sync.database import db, locked
from budget_sync.database.models import Budget, BudgetUtilization
from budget_sync.domain import clock
from budget_sync.domain.ids import CHOSEN_ID
from budget_sync.domain.permissions import Actor
from budget_sync.sync.changes import Change
from budget_sync.sync.match import StoredBudget
from budget_sync.sync.plan import SyncPlan
from budget_sync.sync.plan_audit import PlanAudit
from budget_sync.sync.reading.result import SheetBudget, SheetRow

#: Called from time to time with the number of rows written and the total.
Progress = Callable[[int, int], None]

_SELECT_STORED = """
    SELECT b."id", b."sourceId", b."sourceRow", b."deletedAt",
        u."reservedMinor", u."committedMinor", u."version",
        b."externalId", b."department", b."departmentKey", b."fiscalPeriod", b."periodKey",
        b."currency", b."budgetedMinor", b."autoApproveLimitMinor", b."currencyExponent",
        b."ownerEmail"
    FROM "Budget" b JOIN "BudgetUtilization" u ON u."budgetId" = b."id"
    WHERE b."customerId" = ? {condition}
    ORDER BY b."id"
"""
_SELECT_VERSIONS = """
    SELECT "budgetId", "version" FROM "BudgetUtilization" WHERE "customerId" = ? ORDER BY "budgetId"
"""
_INSERT_BUDGET = """
    INSERT INTO "Budget" ("id", "customerId", "sourceId", "externalId", "sourceRow", "department",
        "departmentKey", "fiscalPeriod", "periodKey", "currency", "currencyExponent",
        "budgetedMinor", "autoApproveLimitMinor", "ownerEmail", "createdAt", "updatedAt")
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_INSERT_UTILIZATION = """
    INSERT INTO "BudgetUtilization" ("budgetId", "customerId", "currencyExponent", "version")
    VALUES (?, ?, ?, ?)
"""
_INSERT_AUDIT = """
    INSERT INTO "AuditLog" ("customerId", "budgetId", "version", "action", "field", "oldValue",
        "newValue", "budgetedDeltaMinor", "budgetedMinor", "reservedMinor", "committedMinor",
        "principal", "changedBy", "reason", "createdAt")
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
# A key never starts with a space, so two budgets can swap their keys without a collision.
_SET_TEMPORARY_KEY = """UPDATE "Budget" SET "departmentKey" = ' ' || "id" WHERE "id" = ?"""
_UPDATE_BUDGET = """
    UPDATE "Budget" SET "sourceId" = ?, "sourceRow" = ?, "externalId" = ?, "department" = ?,
        "departmentKey" = ?, "fiscalPeriod" = ?, "periodKey" = ?, "budgetedMinor" = ?,
        "autoApproveLimitMinor" = ?, "ownerEmail" = ?, "deletedAt" = NULL, "updatedAt" = ?
    WHERE "id" = ?
"""
_DELETE_BUDGET = (
    'UPDATE "Budget" SET "deletedAt" = ?, "updatedAt" = ? WHERE "id" = ? AND "deletedAt" IS NULL'
)
_UPDATE_VERSION = (
    'UPDATE "BudgetUtilization" SET "version" = ? WHERE "budgetId" = ? AND "version" = ?'
)
_UPDATE_ROW = 'UPDATE "Budget" SET "sourceRow" = ? WHERE "id" = ?'

_CHUNK = 1000

#: Ids in one query.
_IDS = 500

#: A plan is not compared with more changed budgets than this: another one is created instead.
MAX_CHANGED = 5000


def read_stored(customer_id: str) -> list[StoredBudget]:
    """All budgets of a customer, including deleted ones, ordered by id."""
    return _read_stored(customer_id, "", ())


def _read_stored(customer_id: str, condition: str, parameters: Sequence[str]) -> list[StoredBudget]:
    """The budgets of a customer that meet an SQL condition, ordered by id."""
    sql = _SELECT_STORED.format(condition=condition).replace("?", db.param)
    rows = db.execute_sql(sql, (customer_id, *parameters)).fetchall()
    # The last columns are those of SheetBudget, in its order.
    return [
        StoredBudget(
            budget_id,
            source_id,
            source_row,
            deleted_at,
            reserved_minor,
            committed_minor,
            version,
            SheetBudget._make(sheet_columns),
        )
        for (
            budget_id,
            source_id,
            source_row,
            deleted_at,
            reserved_minor,
            committed_minor,
            version,
            *sheet_columns,
        ) in rows
    ]


def lock_and_find_changed(
    customer_id: str, stored: Sequence[StoredBudget]
) -> list[StoredBudget] | None:
    """Lock all budgets of the customer; return those that have changed since they were read.

    None if a budget was added since, or if so many have changed that comparing them takes too long
    for a transaction. Each change of a budget and each movement on it increments its version. The
    locks keep the budgets unchanged until the end of the transaction.
    """
    join = Budget.select(Budget.id).join(
        BudgetUtilization, on=(BudgetUtilization.budgetId == Budget.id)
    )
    list(locked(join.where(Budget.customerId == customer_id).order_by(Budget.id)).tuples())
    found: list[tuple[str, int]] = db.execute_sql(
        _SELECT_VERSIONS.replace("?", db.param), (customer_id,)
    ).fetchall()
    known = [(budget.id, budget.version) for budget in stored]
    if found == known:
        return []
    if len(found) != len(known):
        return None
    changed_ids = [now[0] for now, before in zip(found, known, strict=True) if now != before]
    if len(changed_ids) > MAX_CHANGED:
        return None
    return _read_by_id(customer_id, changed_ids)


def lock_and_find_changed_of(
    customer_id: str, stored: Sequence[StoredBudget]
) -> list[StoredBudget]:
    """Lock these budgets; return those that have changed since they were read."""
    ids = sorted(budget.id for budget in stored)
    for start in range(0, len(ids), _IDS):
        chosen = Budget.id << ids[start : start + _IDS]
        list(locked(Budget.select(Budget.id).where(chosen).order_by(Budget.id)).tuples())
    versions = {budget.id: budget.version for budget in stored}
    now = _read_by_id(customer_id, ids)
    return [budget for budget in now if budget.version != versions[budget.id]]


def _read_by_id(customer_id: str, ids: Sequence[str]) -> list[StoredBudget]:
    found: list[StoredBudget] = []
    for start in range(0, len(ids), _IDS):
        chosen = ids[start : start + _IDS]
        marks = ", ".join("?" * len(chosen))
        found += _read_stored(customer_id, f'AND b."id" IN ({marks})', chosen)
    return found


def apply_plan(
    actor: Actor,
    customer_id: str,
    source_id: str,
    title: str,
    plan: SyncPlan,
    progress: Progress | None = None,
) -> None:
    """Write a plan. Since it was created, no budget of the customer may have changed."""
    now = clock.to_text(clock.now())
    audit = PlanAudit(actor, customer_id, title, now)
    writer = _Writer(progress)
    versions = [(audit.delete(budget), budget.id, budget.version) for budget in plan.deletes]
    changes = [*plan.updates, *plan.revivals]
    versions += [
        (audit.change(change), change.before.id, change.before.version) for change in changes
    ]
    new_ids = _new_ids(plan.creates)
    new_versions = [
        audit.create(budget_id, row) for budget_id, row in zip(new_ids, plan.creates, strict=True)
    ]
    writer.add(_DELETE_BUDGET, [(now, now, budget.id) for budget in plan.deletes])
    writer.add(
        _SET_TEMPORARY_KEY,
        [(change.before.id,) for change in changes if change.before.key != change.after.key],
    )
    writer.add(_UPDATE_BUDGET, [_updated(change, now) for change in changes])
    writer.add(
        _INSERT_BUDGET,
        [
            _inserted(budget_id, customer_id, source_id, row, now)
            for budget_id, row in zip(new_ids, plan.creates, strict=True)
        ],
    )
    writer.add(
        _INSERT_UTILIZATION,
        [
            (budget_id, customer_id, row.budget.exponent, version)
            for budget_id, row, version in zip(new_ids, plan.creates, new_versions, strict=True)
        ],
    )
    writer.add(_UPDATE_VERSION, versions)
    writer.add(_UPDATE_ROW, [(moved.number, moved.budget_id) for moved in plan.moved])
    writer.add(_INSERT_AUDIT, audit.rows)
    writer.run()


def _new_ids(creates: Sequence[SheetRow]) -> list[str]:
    """An id for each new budget: its Budget ID, if that is free and fits into a URL path."""
    external_ids = [row.budget.external_id for row in creates]
    wanted = [
        external_id
        for external_id in external_ids
        if external_id is not None and CHOSEN_ID.fullmatch(external_id)
    ]
    free = set(wanted)
    for start in range(0, len(wanted), 500):
        free -= {
            budget.id
            for budget in Budget.select(Budget.id).where(Budget.id << wanted[start : start + 500])
        }
    # Random digits for all ids at once, because each draw is a system call.
    random_digits = secrets.token_hex(8 * len(creates))
    return [
        external_id
        if external_id is not None and external_id in free
        else f"bud_{random_digits[16 * index : 16 * index + 16]}"
        for index, external_id in enumerate(external_ids)
    ]


def _inserted(
    budget_id: str, customer_id: str, source_id: str, row: SheetRow, now: str
) -> tuple[Any, ...]:
    """The parameters of _INSERT_BUDGET."""
    budget = row.budget
    return (
        budget_id,
        customer_id,
        source_id,
        budget.external_id,
        row.number,
        budget.department,
        budget.department_key,
        budget.period,
        budget.period_key,
        budget.currency,
        budget.exponent,
        budget.budgeted_minor,
        budget.limit_minor,
        budget.owner_email or None,
        now,
        now,
    )


def _updated(change: Change, now: str) -> tuple[Any, ...]:
    """The parameters of _UPDATE_BUDGET."""
    after = change.after
    return (
        after.source_id,
        after.source_row,
        after.sheet.external_id,
        after.sheet.department,
        after.sheet.department_key,
        after.sheet.period,
        after.sheet.period_key,
        after.sheet.budgeted_minor,
        after.sheet.limit_minor,
        after.sheet.owner_email,
        now,
        after.id,
    )


class _Writer:
    """Runs statements with many rows each, in the order they were added, and reports progress."""

    def __init__(self, progress: Progress | None) -> None:
        self.work: list[tuple[str, Sequence[tuple[Any, ...]]]] = []
        self.progress = progress

    def add(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add a statement and its rows."""
        if rows:
            self.work.append((sql, rows))

    def run(self) -> None:
        """Write all rows. Raises RuntimeError if a planned row is missing or has changed."""
        total, done = sum(len(rows) for _, rows in self.work), 0
        for sql, rows in self.work:
            for start in range(0, len(rows), _CHUNK):
                chunk = rows[start : start + _CHUNK]
                written = execute_many(sql, chunk)
                if written != len(chunk):
                    raise RuntimeError(
                        f"{written} rows were written, but {len(chunk)} were planned: "
                        f"{' '.join(sql.split())[:60]}"
                    )
                done += len(chunk)
                if self.progress:
                    self.progress(done, total)


def execute_many(sql: str, rows: Sequence[tuple[Any, ...]]) -> int:
    """Run a statement for each row, on the transaction's connection; return the rows written."""
    # Peewee has no executemany. Its wrapper turns the driver's errors into Peewee's, which
    # `transact` handles.
    with peewee.__exception_wrapper__:  # type: ignore[attr-defined]  # missing from peewee's stubs
        cursor = db.connection().cursor()
        cursor.executemany(sql.replace("?", db.param), rows)
        written: int = cursor.rowcount
    return written
