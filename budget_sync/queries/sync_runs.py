"""Sources, their sync runs, and the deletions that wait for approval."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, NamedTuple

from budget_sync.database.models import Budget, BudgetDataSourceConfig, SyncHistory
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Action, Actor, require_for
from budget_sync.queries import budgets, paging
from budget_sync.queries.budgets import BudgetLine

#: The statuses of a sync run that read its source and applied it.
WORKED = ("success", "partial")

#: The statuses of a sync run that was not skipped.
FINISHED = (*WORKED, "failed")


class SyncRunLine(NamedTuple):
    """One sync run, from SyncHistory."""

    id: int
    sync_id: str
    source_id: str
    status: str
    created: int
    updated: int
    unchanged: int
    deleted: int
    revived: int
    held: int
    errors: int
    overdrawn: int
    message: str | None
    started_by: str
    duration_ms: int
    start: datetime


class SourceLine(NamedTuple):
    """A source with its latest sync run, and with the latest one that has a status in WORKED.

    `held` is the number of the latter's deletions that still wait for approval. `name` never has a
    path.
    """

    id: str
    name: str
    live_budgets: int
    last: SyncRunLine | None
    last_good: SyncRunLine | None
    held: int


class Held(NamedTuple):
    """A page of the budgets with a held deletion, and their total number."""

    lines: list[BudgetLine]
    total: int


def source_lines(actor: Actor, customer_id: str) -> list[SourceLine]:
    """A customer's sources, oldest first."""
    require_for(actor, Action.READ_SYNC, customer_id)
    return [_source_line(source) for source in active_sources(customer_id)]


def source_names(actor: Actor, customer_id: str) -> dict[str, str]:
    """The names of a customer's sources, by id."""
    require_for(actor, Action.READ_SYNC, customer_id)
    return {source.id: _name(source) for source in active_sources(customer_id)}


def active_sources(customer_id: str) -> list[BudgetDataSourceConfig]:
    """The sources that are synced, oldest first. Does not check permissions."""
    active = BudgetDataSourceConfig.select().where(
        BudgetDataSourceConfig.customerId == customer_id,
        BudgetDataSourceConfig.isActive,
        BudgetDataSourceConfig.removedAt.is_null(),
    )
    return list(active.order_by(BudgetDataSourceConfig.createdAt, BudgetDataSourceConfig.id))


def last_run(
    customer_id: str, source_id: str, statuses: tuple[str, ...] | None = None
) -> SyncRunLine | None:
    """A source's latest sync run, or the latest one with one of `statuses`.

    Does not check permissions.
    """
    rows = _rows(customer_id).where(SyncHistory.sourceId == source_id)
    if statuses is not None:
        rows = rows.where(SyncHistory.status.in_(statuses))
    row = rows.first()
    return SyncRunLine(*row) if row else None


def _source_line(source: BudgetDataSourceConfig) -> SourceLine:
    live = Budget.select().where(Budget.sourceId == source.id, Budget.deletedAt.is_null())
    return SourceLine(
        source.id,
        _name(source),
        live.count(),
        last_run(source.customerId, source.id),
        last_run(source.customerId, source.id, WORKED),
        len(_still_held(source.customerId, source.id)),
    )


def _name(source: BudgetDataSourceConfig) -> str:
    if source.sourceType == "csv":
        return "CSV file"
    if source.worksheet:
        return f"Google Sheet, tab “{source.worksheet}”"
    return f"Google Sheet, tab no. {source.worksheetGid}"


def sync_runs_page(
    actor: Actor, customer_id: str, before: int | None = None
) -> tuple[list[SyncRunLine], int | None]:
    """A page of a customer's sync runs, newest first, and `before` for the next page."""
    require_for(actor, Action.READ_SYNC, customer_id)
    rows = _rows(customer_id)
    if before is not None:
        rows = rows.where(SyncHistory.id < before)
    size = paging.PAGE_SIZE
    lines, last = paging.cut([SyncRunLine(*row) for row in rows.limit(size + 1)], size)
    return lines, last and last.id


def sync_run(actor: Actor, customer_id: str, sync_id: str) -> SyncRunLine:
    """One sync run. Raises RequestError NOT_FOUND."""
    require_for(actor, Action.READ_SYNC, customer_id)
    row = _rows(customer_id).where(SyncHistory.syncId == sync_id).first()
    if row is None:
        raise RequestError(Code.NOT_FOUND, "There is no sync run with that id.")
    return SyncRunLine(*row)


def row_errors(actor: Actor, customer_id: str, sync_id: str) -> list[dict[str, Any]]:
    """The rows that a sync run rejected: `row` and `message` of each."""
    require_for(actor, Action.READ_SYNC, customer_id)
    found = SyncHistory.get_or_none(
        SyncHistory.syncId == sync_id, SyncHistory.customerId == customer_id
    )
    errors: list[dict[str, Any]] = json.loads(found.errors) if found else []
    return errors


def held_budgets(actor: Actor, customer_id: str, source_id: str, page: int = 1) -> Held:
    """A page of the live budgets with a deletion that waits for approval.

    The source's latest sync run that worked held it back. Ordered by department and period.
    """
    require_for(actor, Action.READ_SYNC, customer_id)
    ids = _still_held(customer_id, source_id)
    first = (page - 1) * paging.PAGE_SIZE
    shown = ids[first : first + paging.PAGE_SIZE]
    found = (budgets.to_line(row) for row in budgets.rows().where(Budget.id << shown))
    lines = {line.id: line for line in found}
    return Held([lines[budget_id] for budget_id in shown if budget_id in lines], len(ids))


def held_ids(actor: Actor, customer_id: str, source_id: str) -> list[str]:
    """The ids of all budgets with a held deletion.

    Raises RequestError FORBIDDEN if the caller may not approve the deletions.
    """
    require_for(actor, Action.MANAGE_SOURCES, customer_id)
    return _still_held(customer_id, source_id)


def _still_held(customer_id: str, source_id: str) -> list[str]:
    run = last_run(customer_id, source_id, WORKED)
    if run is None or not run.held:
        return []
    listed = json.loads(SyncHistory.get_by_id(run.id).held)
    held = {each["budgetId"] for each in listed if each["kind"] == "deletion"}
    live: Any = (
        Budget.select(Budget.id)
        .where(
            Budget.customerId == customer_id,
            Budget.sourceId == source_id,
            Budget.deletedAt.is_null(),
        )
        .order_by(Budget.departmentKey, Budget.periodKey, Budget.id)
    )
    return [budget_id for (budget_id,) in live.tuples() if budget_id in held]


def _rows(customer_id: str) -> Any:
    return (
        SyncHistory.select(
            SyncHistory.id,
            SyncHistory.syncId,
            SyncHistory.sourceId,
            SyncHistory.status,
            SyncHistory.createdCount,
            SyncHistory.updatedCount,
            SyncHistory.unchangedCount,
            SyncHistory.softDeletedCount,
            SyncHistory.revivedCount,
            SyncHistory.heldCount,
            SyncHistory.errorCount,
            SyncHistory.overdrawnCount,
            SyncHistory.message,
            SyncHistory.startedBy,
            SyncHistory.durationMs,
            SyncHistory.startTime,
        )
        .where(SyncHistory.customerId == customer_id)
        .order_by(SyncHistory.id.desc())
        .tuples()
    )
