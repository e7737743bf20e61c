"""Sources, their sync runs, and what these found."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from peewee import fn

from budget_sync.database.models import Budget, BudgetDataSourceConfig, SourceFile, SyncHistory
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Action, Actor, require_for
from budget_sync.queries import held, paging
from budget_sync.sync.better_now import BETTER_NOW
from budget_sync.sync.history import APPLIED, SO_FAR
from budget_sync.sync.reading.result import RowError
from budget_sync.sync.sheet_names import SheetName, sheet_name
from budget_sync.sync.source import UPGRADE

#: The statuses of a sync run that read its source and applied it.
WORKED = APPLIED

#: The statuses of a sync run that was not skipped.
FINISHED = (*WORKED, "failed")

#: A run in parts counts as unfinished until this long after its latest part, which takes seconds.
#: If its process was killed, its event is reported after this time.
GOES_ON_FOR = timedelta(minutes=2)

#: No run takes longer.
_LONGEST_RUN = timedelta(hours=1)


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

    `held` is the number of the latter's changes that still wait for an answer. `is_waiting`: its
    reading is not confirmed yet. `has_pending`: a newer file was uploaded and is not used yet.
    `is_better_now`: an upgrade took over how it is read, and reading it again would find more.
    """

    id: str
    sheet: SheetName
    live_budgets: int
    last: SyncRunLine | None
    last_good: SyncRunLine | None
    held: int
    is_waiting: bool = False
    is_upload: bool = False
    has_pending: bool = False
    is_better_now: bool = False


class RunDetails(NamedTuple):
    """The rows and notes of a sync run.

    `errors` are the rejected rows, `skipped` the rows that did not count and why. Both are cut.
    """

    errors: list[RowError]
    notes: list[str]
    skipped: list[tuple[str, str]]


def source_lines(actor: Actor, customer_id: str) -> list[SourceLine]:
    """A customer's sources, oldest first."""
    require_for(actor, Action.READ_SYNC, customer_id)
    return [_source_line(source) for source in active_sources(customer_id)]


def source_names(actor: Actor, customer_id: str) -> dict[str, SheetName]:
    """The names of a customer's sources, by id."""
    require_for(actor, Action.READ_SYNC, customer_id)
    return {source.id: name_of(source) for source in active_sources(customer_id)}


def name_of(source: BudgetDataSourceConfig) -> SheetName:
    """The name of a source. Does not check permissions."""
    return sheet_name(source, _file_name(source.id) if _is_upload(source) else None)


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
    good = last_run(source.customerId, source.id, WORKED)
    pending = SourceFile.select().where(
        SourceFile.sourceId == source.id, SourceFile.state == "pending"
    )
    return SourceLine(
        source.id,
        name_of(source),
        live.count(),
        last_run(source.customerId, source.id),
        good,
        len(held.still_held(source.customerId, source.id)),
        is_waiting=source.reading is None,
        is_upload=_is_upload(source),
        has_pending=_is_upload(source) and pending.exists(),
        is_better_now=_is_better_now(source, good),
    )


def _is_upload(source: BudgetDataSourceConfig) -> bool:
    return source.sourceType != "google_sheets" and source.csvPath is None


def _is_better_now(source: BudgetDataSourceConfig, good: SyncRunLine | None) -> bool:
    """Whether the latest sync run found that reading the sheet again would help."""
    if source.readingConfirmedBy != UPGRADE or good is None:
        return False
    return BETTER_NOW in _details(source.customerId, good.sync_id).notes


def _file_name(source_id: str) -> str:
    """The name of the uploaded file of a source."""
    row = (
        SourceFile.select(SourceFile.name)
        .where(SourceFile.sourceId == source_id, SourceFile.state == "current")
        .first()
    )
    return row.name if row else ""


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


def run_details(actor: Actor, customer_id: str, sync_id: str) -> RunDetails:
    """The details of a sync run; empty for an unknown run."""
    require_for(actor, Action.READ_SYNC, customer_id)
    return _details(customer_id, sync_id)


def _details(customer_id: str, sync_id: str) -> RunDetails:
    found = SyncHistory.get_or_none(
        SyncHistory.syncId == sync_id, SyncHistory.customerId == customer_id
    )
    if found is None:
        return RunDetails([], [], [])
    errors = [
        # Runs of earlier versions have one row for each error.
        RowError(tuple(each.get("rows", (each["row"],))), each["message"])
        for each in json.loads(found.errors)
    ]
    skipped = list(json.loads(found.skippedRows).items())
    return RunDetails(errors, json.loads(found.notes), skipped)


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


def before_unfinished(customer_id: str, after: int, up_to: int) -> int:
    """The highest id up to `up_to` that is below every unfinished run in parts of the customer.

    Until its last part is written, the row of such a run says that it failed. Rows up to the id
    `after` are not looked at.
    """
    if up_to <= after:
        return up_to
    now = clock.now()
    # There is an index on `startTime`, but none on `endTime`.
    is_new = SyncHistory.startTime >= now - _LONGEST_RUN
    is_new &= SyncHistory.endTime.between(now - GOES_ON_FOR, now + GOES_ON_FOR)
    first: int | None = (
        SyncHistory.select(fn.MIN(SyncHistory.id))
        .where(
            SyncHistory.customerId == customer_id,
            SyncHistory.id > after,
            SyncHistory.status == "failed",
            SyncHistory.message.contains(SO_FAR),
            is_new,
        )
        .scalar()
    )
    return up_to if first is None else min(up_to, first - 1)
