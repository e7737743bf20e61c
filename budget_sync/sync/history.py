"""The results of sync runs: as a value, as text lines, and as rows of `SyncHistory`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from budget_sync.database.models import SyncHistory
from budget_sync.domain import clock
from budget_sync.sync import summary
from budget_sync.sync.apply import to_json
from budget_sync.sync.limits import MAX_MESSAGE_CHARS, cut
from budget_sync.sync.rows import RowError
from budget_sync.sync.source import Source

#: The most row errors that SyncHistory lists; `errorCount` counts all of them.
MAX_LISTED = 200


@dataclass(frozen=True, slots=True)
class SyncRunResult:
    """The result of a sync run; the fields are those of `SyncHistory`."""

    sync_id: str | None
    source: Source
    status: str
    start_time: datetime
    duration_ms: int
    message: str | None = None
    created_count: int = 0
    updated_count: int = 0
    unchanged_count: int = 0
    soft_deleted_count: int = 0
    revived_count: int = 0
    held_count: int = 0
    error_count: int = 0
    overdrawn_count: int = 0
    errors: list[RowError] = field(default_factory=list)
    held_ids: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, object]:
        """As JSON for a reply, without paths of this machine."""
        return {
            "syncId": self.sync_id,
            "customerId": self.source.customer_id,
            "sourceId": self.source.id,
            "sourceType": self.source.kind,
            "status": self.status,
            "createdCount": self.created_count,
            "updatedCount": self.updated_count,
            "unchangedCount": self.unchanged_count,
            "softDeletedCount": self.soft_deleted_count,
            "revivedCount": self.revived_count,
            "heldCount": self.held_count,
            "errorCount": self.error_count,
            "overdrawnCount": self.overdrawn_count,
            "message": self.message,
            "durationMs": self.duration_ms,
            "startTime": clock.to_text(self.start_time),
        }


def result_line(result: SyncRunResult) -> str:
    """A sync run as one line."""
    counts = {
        "created": result.created_count,
        "updated": result.updated_count,
        "unchanged": result.unchanged_count,
        "deleted": result.soft_deleted_count,
        "revived": result.revived_count,
        "held back": result.held_count,
        "rejected": result.error_count,
        "overdrawn": result.overdrawn_count,
    }
    is_done = result.status in ("success", "partial")
    outcome = summary.counts_line(counts) if is_done else result.message
    unrecorded = "" if result.sync_id else " (not recorded in SyncHistory)"
    source = result.source
    name = f"{source.customer_id} {source.id} ({source.label})"
    return f"{name}: {result.status}: {outcome}{unrecorded}"


def error_lines(result: SyncRunResult, max_errors: int = 20) -> list[str]:
    """The rejected rows and the warnings of a sync run, a line each."""
    lines = [
        f"{result.source.id} row {error.row}: {error.message}"
        for error in result.errors[:max_errors]
    ]
    more = len(result.errors) - max_errors
    if more > 0:
        lines.append(f"{result.source.id}: and {more} more; see {result.sync_id} in SyncHistory")
    return lines + [f"{result.source.id}: {warning}" for warning in result.warnings]


def insert(started_by: str, result: SyncRunResult) -> SyncRunResult:
    """Write the row of `SyncHistory` in the open transaction; return the result with its id."""
    sync_id = _free_sync_id(
        f"sync_{int(result.start_time.timestamp())}_{result.source.customer_id}"
    )
    listed = [
        {"row": error.row, "message": cut(error.message, MAX_MESSAGE_CHARS)}
        for error in result.errors[:MAX_LISTED]
    ]
    SyncHistory.insert(
        syncId=sync_id,
        customerId=result.source.customer_id,
        sourceId=result.source.id,
        status=result.status,
        createdCount=result.created_count,
        updatedCount=result.updated_count,
        unchangedCount=result.unchanged_count,
        softDeletedCount=result.soft_deleted_count,
        revivedCount=result.revived_count,
        heldCount=result.held_count,
        errorCount=result.error_count,
        overdrawnCount=result.overdrawn_count,
        message=result.message and cut(result.message, 4 * MAX_MESSAGE_CHARS),
        errors=to_json(listed),
        held=to_json({"kind": "deletion", "budgetId": each} for each in result.held_ids),
        startedBy=started_by,
        durationMs=result.duration_ms,
        startTime=result.start_time,
        # Not the current time, because the clock may have been set back during the run.
        endTime=result.start_time + timedelta(milliseconds=result.duration_ms),
    ).execute()
    return replace(result, sync_id=sync_id)


def _free_sync_id(sync_id: str) -> str:
    """The id, with a numeric suffix if another run of the same second has it."""
    free, number = sync_id, 1
    while SyncHistory.select().where(SyncHistory.syncId == free).exists():
        number += 1
        free = f"{sync_id}_{number}"
    return free
