"""Sources, what their passes did, and the deletions that wait for a person."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, NamedTuple

from budget_sync.database.models import Budget, BudgetDataSourceConfig, SyncHistory
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Action, Actor, require_for
from budget_sync.queries import budgets, paging
from budget_sync.queries.budgets import BudgetLine


class SyncRunLine(NamedTuple):
    """One pass over one source, as `SyncHistory` has it."""

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
    """A source, never with a path of the machine; its last pass, the last one that read it, and how many deletions that one holds still."""

    id: str
    name: str
    live_budgets: int
    last: SyncRunLine | None
    last_good: SyncRunLine | None
    held: int


class Held(NamedTuple):
    """The budgets whose deletion waits, a page of them."""

    lines: list[BudgetLine]
    total: int


def source_lines(actor: Actor, customer_id: str) -> list[SourceLine]:
    """A customer's sources, in the order they were made."""
    require_for(actor, Action.READ_SYNC, customer_id)
    return [_source_line(customer_id, source) for source in _sources(customer_id)]


def source_names(actor: Actor, customer_id: str) -> dict[str, str]:
    """How pages name each of them, by id."""
    require_for(actor, Action.READ_SYNC, customer_id)
    return {source.id: _name(source) for source in _sources(customer_id)}


def _sources(customer_id: str) -> Any:
    followed = BudgetDataSourceConfig.select().where(
        BudgetDataSourceConfig.customerId == customer_id,
        BudgetDataSourceConfig.isActive,
        BudgetDataSourceConfig.removedAt.is_null(),
    )
    return followed.order_by(BudgetDataSourceConfig.createdAt, BudgetDataSourceConfig.id)


def _source_line(customer_id: str, source: BudgetDataSourceConfig) -> SourceLine:
    live = Budget.select().where(Budget.sourceId == source.id, Budget.deletedAt.is_null()).count()
    last = _rows(customer_id).where(SyncHistory.sourceId == source.id).first()
    good = _last_good(customer_id, source.id)
    held = len(_still_held(customer_id, source.id)) if good and good.held else 0
    return SourceLine(
        source.id, _name(source), live, SyncRunLine(*last) if last else None, good, held
    )


def _name(source: BudgetDataSourceConfig) -> str:
    if source.sourceType == "csv":
        return "CSV file"
    return (
        f"Google Sheet, tab “{source.worksheet}”"
        if source.worksheet
        else f"Google Sheet, tab no. {source.worksheetGid}"
    )


def sync_runs_page(
    actor: Actor, customer_id: str, before: int | None = None
) -> tuple[list[SyncRunLine], int | None]:
    """A page of a customer's passes, newest first, and what the next one goes on after."""
    require_for(actor, Action.READ_SYNC, customer_id)
    rows = _rows(customer_id)
    if before is not None:
        rows = rows.where(SyncHistory.id < before)
    size = paging.PAGE_SIZE
    lines, last = paging.cut([SyncRunLine(*row) for row in rows.limit(size + 1)], size)
    return lines, last and last.id


def sync_pass(actor: Actor, customer_id: str, sync_id: str) -> SyncRunLine:
    """One pass. Raises RequestError NOT_FOUND."""
    require_for(actor, Action.READ_SYNC, customer_id)
    row = _rows(customer_id).where(SyncHistory.syncId == sync_id).first()
    if row is None:
        raise RequestError(Code.NOT_FOUND, "There is no such pass.")
    return SyncRunLine(*row)


def row_errors(actor: Actor, customer_id: str, sync_id: str) -> list[dict[str, Any]]:
    """The rows that a pass refused: `row` and `message`."""
    require_for(actor, Action.READ_SYNC, customer_id)
    found = SyncHistory.get_or_none(
        SyncHistory.syncId == sync_id, SyncHistory.customerId == customer_id
    )
    listed: list[dict[str, Any]] = json.loads(found.errors) if found else []
    return listed


def held_budgets(actor: Actor, customer_id: str, source_id: str, page: int = 1) -> Held:
    """The budgets whose deletion the source's latest pass held back and that are still there, by department and period."""
    require_for(actor, Action.READ_SYNC, customer_id)
    ids = _still_held(customer_id, source_id)
    first = (page - 1) * paging.PAGE_SIZE
    shown = ids[first : first + paging.PAGE_SIZE]
    lines = {row[0]: budgets.to_line(row) for row in budgets.rows().where(Budget.id << shown)}
    return Held([lines[budget_id] for budget_id in shown if budget_id in lines], len(ids))


def held_ids(actor: Actor, customer_id: str, source_id: str) -> list[str]:
    """The ids of all of them. Raises RequestError FORBIDDEN for whoever may not let them go."""
    require_for(actor, Action.MANAGE_SOURCES, customer_id)
    return _still_held(customer_id, source_id)


def _still_held(customer_id: str, source_id: str) -> list[str]:
    good = _last_good(customer_id, source_id)
    if good is None or not good.held:
        return []
    held = set(json.loads(SyncHistory.get_by_id(good.id).heldBudgetIds))
    live: Any = Budget.select(Budget.id).where(
        Budget.customerId == customer_id, Budget.sourceId == source_id, Budget.deletedAt.is_null()
    )
    return [
        budget_id
        for (budget_id,) in live.order_by(
            Budget.departmentKey, Budget.periodKey, Budget.id
        ).tuples()
        if budget_id in held
    ]


def _last_good(customer_id: str, source_id: str) -> SyncRunLine | None:
    """The latest pass that read its source."""
    row = (
        _rows(customer_id)
        .where(SyncHistory.sourceId == source_id, SyncHistory.status << ["success", "partial"])
        .first()
    )
    return SyncRunLine(*row) if row else None


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
