"""The results of sync runs: as a value, as text lines, and as rows of `SyncHistory`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice

from peewee import fn

from budget_sync.database import locked
from budget_sync.database.models import BudgetDataSourceConfig, SyncHistory
from budget_sync.domain import clock
from budget_sync.domain.results import dumps
from budget_sync.sync import summary
from budget_sync.sync.facts import facts_from_text, facts_to_text
from budget_sync.sync.holds.model import Hold
from budget_sync.sync.limits import MAX_MESSAGE_CHARS, cut
from budget_sync.sync.reading.result import Facts, RowError
from budget_sync.sync.source import Source
from budget_sync.sync.summary import errors_json, rows_text

#: The most row errors, notes and skipped rows that SyncHistory lists; `errorCount` counts all row
#: errors.
MAX_LISTED = 200

#: The most rows of one error that SyncHistory lists.
MAX_LISTED_ROWS = 100

#: The statuses of a sync run that read its source and applied it.
APPLIED = ("success", "partial")


#: In the message of a run in parts, until its last part is written.
SO_FAR = "changes were made so far."


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
    held: list[Hold] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skipped: dict[int, str] = field(default_factory=dict)
    facts: Facts | None = None

    def cut(self) -> SyncRunResult:
        """The result with at most MAX_LISTED errors, held changes, notes and skipped rows.

        The counts stay as they are.
        """
        return replace(
            self,
            errors=[
                error._replace(rows=error.rows[:MAX_LISTED_ROWS])
                for error in self.errors[:MAX_LISTED]
            ],
            held=self.held[:MAX_LISTED],
            notes=self.notes[:MAX_LISTED],
            skipped=dict(islice(self.skipped.items(), MAX_LISTED)),
        )

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
            "held": [each.to_json() for each in self.held[:MAX_LISTED]],
            "notes": self.notes[:MAX_LISTED],
            "errorCount": self.error_count,
            "overdrawnCount": self.overdrawn_count,
            "message": self.message,
            "durationMs": self.duration_ms,
            "startTime": clock.to_text(self.start_time),
        }

    def to_command_json(self) -> dict[str, object]:
        """As JSON for the command line, with everything that it found."""
        is_applied = self.status in APPLIED
        whole: list[dict[str, object]] = (
            [] if is_applied else [{"rows": [], "message": self.message}]
        )
        return {
            "source": self.source.id,
            "status": self.status,
            "created": self.created_count,
            "updated": self.updated_count,
            "unchanged": self.unchanged_count,
            "deleted": self.soft_deleted_count,
            "revived": self.revived_count,
            "held": [each.to_json() for each in self.held],
            "errors": [*whole, *errors_json(self.errors)],
            "notes": self.notes,
            "skipped": {str(row): why for row, why in self.skipped.items()},
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
    is_applied = result.status in APPLIED
    outcome = summary.counts_line(counts) if is_applied else result.message
    unrecorded = "" if result.sync_id else " (not recorded in SyncHistory)"
    source = result.source
    name = f"{source.customer_id} {source.id} ({source.label})"
    return f"{name}: {result.status}: {outcome}{unrecorded}"


def error_lines(result: SyncRunResult, max_errors: int = 20) -> list[str]:
    """The rejected rows and the warnings of a sync run, a line each."""
    lines = [
        f"{result.source.id} {rows_text(error.rows)}{error.message}"
        for error in result.errors[:max_errors]
    ]
    more = len(result.errors) - max_errors
    if more > 0:
        lines.append(f"{result.source.id}: and {more} more; see {result.sync_id} in SyncHistory")
    return lines + [f"{result.source.id}: {sentence}" for sentence in result.warnings]


def note_lines(result: SyncRunResult, max_notes: int = 20) -> list[str]:
    """The notes of a sync run, a line each. They need no action, so they are no errors."""
    return [f"{result.source.id}: {note}" for note in result.notes[:max_notes]]


def insert(started_by: str, result: SyncRunResult) -> SyncRunResult:
    """Write the row of `SyncHistory` in the open transaction; return the result with its id.

    The row of a result that has an id already is replaced.
    """
    # Before the row takes its number: see `database/settled.py`.
    source = BudgetDataSourceConfig.id == result.source.id
    locked(BudgetDataSourceConfig.select(BudgetDataSourceConfig.id).where(source)).first()
    sync_id = result.sync_id or _free_sync_id(
        f"sync_{int(result.start_time.timestamp())}_{result.source.customer_id}"
    )
    if result.sync_id:
        SyncHistory.delete().where(SyncHistory.syncId == sync_id).execute()
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
        errors=dumps([_error_json(error) for error in result.errors[:MAX_LISTED]]),
        held=dumps([each.to_stored() for each in result.held]),
        notes=dumps([cut(note, MAX_MESSAGE_CHARS) for note in result.notes[:MAX_LISTED]]),
        skippedRows=dumps(dict(list(result.skipped.items())[:MAX_LISTED])),
        facts=facts_to_text(result.facts) if result.facts else None,
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


def _error_json(error: RowError) -> dict[str, object]:
    return {
        "row": error.row,
        "rows": list(error.rows[:MAX_LISTED_ROWS]),
        "message": cut(error.message, MAX_MESSAGE_CHARS),
    }


def latest_applied_id(source_id: str) -> int | None:
    """The id of the latest sync run that applied a source; None before the first one."""
    latest: int | None = (
        SyncHistory.select(fn.MAX(SyncHistory.id))
        .where((SyncHistory.sourceId == source_id) & SyncHistory.status.in_(APPLIED))
        .scalar()
    )
    return latest


def latest_facts(source_id: str) -> Facts | None:
    """The counts of the latest sync run that applied a source; None if they are not known."""
    latest = latest_applied_id(source_id)
    text = None if latest is None else SyncHistory.get_by_id(latest).facts
    return facts_from_text(text) if text else None
