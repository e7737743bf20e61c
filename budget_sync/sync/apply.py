"""Reads a customer's budgets for planning, and writes a plan. Never opens a transaction: a plan stands or falls with its pass.

The statements below are plain SQL with plain tuples rather than the models: a sheet of 10,000 rows has 30,000 rows to write,
and Peewee's `insert_many` takes twenty times as long over them, all of it with the write lock held.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import peewee

from budget_sync.database import db, locked
from budget_sync.database.models import Budget, BudgetUtilization
from budget_sync.domain import clock
from budget_sync.domain.ids import CHOSEN_ID
from budget_sync.domain.money import to_text
from budget_sync.domain.permissions import Actor
from budget_sync.sync.match import Stored
from budget_sync.sync.plan import Change, SyncPlan
from budget_sync.sync.rows import SheetBudget

#: Told how many statements of how many are done, now and then.
Progress = Callable[[int, int], None]

_SELECT_STORED = """
    SELECT b."id", b."sourceId", b."sourceRow", b."externalId", b."department", b."departmentKey", b."fiscalPeriod", b."periodKey",
        b."currency", b."budgetedMinor", b."autoApproveLimitMinor", b."currencyExponent", b."deletedAt",
        u."reservedMinor", u."committedMinor", u."version"
    FROM "Budget" b JOIN "BudgetUtilization" u ON u."budgetId" = b."id"
    WHERE b."customerId" = ?
    ORDER BY b."id"
"""
_SELECT_VERSIONS = 'SELECT "budgetId", "version" FROM "BudgetUtilization" WHERE "customerId" = ? ORDER BY "budgetId"'
_INSERT_BUDGET = """
    INSERT INTO "Budget" ("id", "customerId", "sourceId", "externalId", "sourceRow", "department", "departmentKey", "fiscalPeriod",
        "periodKey", "currency", "currencyExponent", "budgetedMinor", "autoApproveLimitMinor", "createdAt", "updatedAt")
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_INSERT_UTILIZATION = 'INSERT INTO "BudgetUtilization" ("budgetId", "customerId", "currencyExponent", "version") VALUES (?, ?, ?, ?)'
_INSERT_AUDIT = """
    INSERT INTO "AuditLog" ("customerId", "budgetId", "version", "action", "field", "oldValue", "newValue", "budgetedDeltaMinor",
        "principal", "changedBy", "reason", "createdAt")
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
# A space never stands first in a key, so nothing collides while two budgets change places.
_STEP_ASIDE = """UPDATE "Budget" SET "departmentKey" = ' ' || "id" WHERE "id" = ?"""
_UPDATE_BUDGET = """
    UPDATE "Budget" SET "sourceId" = ?, "sourceRow" = ?, "externalId" = ?, "department" = ?, "departmentKey" = ?, "fiscalPeriod" = ?,
        "periodKey" = ?, "budgetedMinor" = ?, "autoApproveLimitMinor" = ?, "deletedAt" = NULL, "updatedAt" = ?
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


def read_stored(customer_id: str) -> list[Stored]:
    """All budgets of a customer, deleted ones included, by id."""
    return list(
        map(
            Stored._make,
            db.execute_sql(_SELECT_STORED.replace("?", db.param), (customer_id,)).fetchall(),
        )
    )


def is_still(customer_id: str, stored: Sequence[Stored]) -> bool:
    """Whether nothing has changed since: every change of a budget, and every movement on it, counts its version up.

    From here to the end of the transaction nothing does: all budgets of the customer are locked.
    """
    join = Budget.select(Budget.id).join(
        BudgetUtilization, on=(BudgetUtilization.budgetId == Budget.id)
    )
    list(locked(join.where(Budget.customerId == customer_id).order_by(Budget.id)).tuples())
    found: list[tuple[str, int]] = db.execute_sql(
        _SELECT_VERSIONS.replace("?", db.param), (customer_id,)
    ).fetchall()
    return found == [(budget.id, budget.version) for budget in stored]


def apply(
    actor: Actor,
    customer_id: str,
    source_id: str,
    title: str,
    plan: SyncPlan,
    progress: Progress | None = None,
) -> None:
    """Write a plan that was made from what is stored at this moment, in the same transaction."""
    now = clock.to_text(clock.now())
    audit = _Audit(actor, customer_id, title, now)
    writer = _Writer(progress)
    leaving = [_deleted(audit, budget) for budget in plan.deletes]
    changes = [*plan.updates, *plan.revivals]
    versions = [(budget.version + 1, budget.id, budget.version) for budget in plan.deletes]
    versions += [
        (audit.change(change), change.before.id, change.before.version) for change in changes
    ]
    new_ids = _new_ids(plan.creates)
    new_versions = [
        audit.create(budget_id, row) for budget_id, row in zip(new_ids, plan.creates, strict=True)
    ]
    writer.add(_DELETE_BUDGET, [(now, now, budget_id) for budget_id in leaving])
    writer.add(
        _STEP_ASIDE,
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
            (budget_id, customer_id, row.exponent, version)
            for budget_id, row, version in zip(new_ids, plan.creates, new_versions, strict=True)
        ],
    )
    writer.add(_UPDATE_VERSION, versions)
    writer.add(_UPDATE_ROW, plan.moved)
    writer.add(_INSERT_AUDIT, audit.rows)
    writer.run()


def _new_ids(creates: Sequence[SheetBudget]) -> list[str]:
    """An id for each new budget: its own Budget ID, where that is free and can stand in a path."""
    wanted = [
        row.external_id
        for row in creates
        if row.external_id is not None and CHOSEN_ID.fullmatch(row.external_id)
    ]
    free = set(wanted)
    for start in range(0, len(wanted), 500):
        free -= {
            budget.id
            for budget in Budget.select(Budget.id).where(Budget.id << wanted[start : start + 500])
        }
    # One draw for all of them: each draw is a call of the system's.
    drawn = secrets.token_hex(8 * len(creates))
    return [
        row.external_id
        if row.external_id in free and row.external_id is not None
        else f"bud_{drawn[16 * number : 16 * number + 16]}"
        for number, row in enumerate(creates)
    ]


def _inserted(
    budget_id: str, customer_id: str, source_id: str, row: SheetBudget, now: str
) -> tuple[Any, ...]:
    return (
        budget_id,
        customer_id,
        source_id,
        row.external_id,
        row.row,
        row.department,
        row.department_key,
        row.period,
        row.period_key,
        row.currency,
        row.exponent,
        row.budgeted_minor,
        row.limit_minor,
        now,
        now,
    )


def _updated(change: Change, now: str) -> tuple[Any, ...]:
    after = change.after
    return (
        after.source_id,
        after.source_row,
        after.external_id,
        after.department,
        after.department_key,
        after.period,
        after.period_key,
        after.budgeted_minor,
        after.limit_minor,
        now,
        after.id,
    )


def _deleted(audit: _Audit, budget: Stored) -> str:
    audit.add(
        budget.id,
        budget.version + 1,
        "SOFT_DELETE",
        "deletedAt",
        None,
        audit.now,
        reason=f"No longer in {audit.title}",
    )
    return budget.id


class _Audit:
    """Gathers the audit rows of a pass: one a new, deleted or revived budget, and one a changed field."""

    def __init__(self, actor: Actor, customer_id: str, title: str, now: str) -> None:
        self.customer_id = customer_id
        self.title = title
        self.now = now
        self.principal, self.changed_by = actor.principal, actor.label
        self.rows: list[tuple[Any, ...]] = []

    def add(
        self,
        budget_id: str,
        version: int,
        action: str,
        field: str,
        old: str | None,
        new: str | None,
        *,
        reason: str,
        budgeted_delta_minor: int = 0,
    ) -> None:
        """One row."""
        self.rows.append(
            (
                self.customer_id,
                budget_id,
                version,
                action,
                field,
                old,
                new,
                budgeted_delta_minor,
                self.principal,
                self.changed_by,
                reason,
                self.now,
            )
        )

    def create(self, budget_id: str, row: SheetBudget) -> int:
        """The rows of a new budget: its amount, and its limit where it has one; returns its version."""
        reason = f"Row {row.row} of {self.title}: {row.department}, {row.period}"
        amount_minor = row.budgeted_minor
        self.add(
            budget_id,
            1,
            "CREATE",
            "budgetedAmount",
            None,
            to_text(amount_minor, row.exponent),
            reason=reason,
            budgeted_delta_minor=amount_minor,
        )
        if row.limit_minor is None:
            return 1
        self.add(
            budget_id,
            2,
            "CREATE",
            "autoApproveLimit",
            None,
            to_text(row.limit_minor, row.exponent),
            reason=reason,
        )
        return 2

    def change(self, change: Change) -> int:
        """The rows of a changed budget; returns its new version."""
        before, version = change.before, change.before.version
        reason = f"Row {change.row} of {self.title}"
        if change.is_revival:
            version += 1
            self.add(
                before.id, version, "REVIVE", "deletedAt", before.deleted_at, None, reason=reason
            )
        for name, old, new in change.fields:
            version += 1
            delta_minor = (
                change.after.budgeted_minor - before.budgeted_minor
                if name == "budgetedAmount"
                else 0
            )
            texts = (_told(old, before.exponent), _told(new, before.exponent))
            self.add(
                before.id,
                version,
                "UPDATE",
                name,
                *texts,
                reason=reason,
                budgeted_delta_minor=delta_minor,
            )
        return version


def _told(value: object, exponent: int) -> str | None:
    """A field's value as the audit log writes it; amounts are the only integers."""
    if value is None:
        return None
    return to_text(value, exponent) if isinstance(value, int) else str(value)


class _Writer:
    """Runs statements over many rows, in the order they were added, and tells how far it is."""

    def __init__(self, progress: Progress | None) -> None:
        self.work: list[tuple[str, Sequence[tuple[Any, ...]]]] = []
        self.progress = progress

    def add(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """A statement and its rows."""
        if rows:
            self.work.append((sql, rows))

    def run(self) -> None:
        """Write. Every row must be found as it was planned."""
        total, done = sum(len(rows) for _, rows in self.work), 0
        for sql, rows in self.work:
            for start in range(0, len(rows), _CHUNK):
                chunk = rows[start : start + _CHUNK]
                written = execute_many(sql, chunk)
                if written != len(chunk):
                    raise RuntimeError(
                        f"{written} rows were written where {len(chunk)} were planned: {' '.join(sql.split())[:60]}"
                    )
                done += len(chunk)
                if self.progress:
                    self.progress(done, total)


def execute_many(sql: str, rows: Sequence[tuple[Any, ...]]) -> int:
    """Run one statement for each row on the transaction's connection; returns how many rows were written in all."""
    # Peewee has no executemany; its wrapper makes the driver's errors Peewee's, which `transact` knows.
    with peewee.__exception_wrapper__:  # type: ignore[attr-defined]  # missing from peewee's stubs
        cursor = db.connection().cursor()
        cursor.executemany(sql.replace("?", db.param), rows)
        written: int = cursor.rowcount
    return written


def to_json(values: Iterable[object]) -> str:
    """A JSON list, for the columns of `SyncHistory` that are one."""
    return json.dumps(list(values), ensure_ascii=False)
