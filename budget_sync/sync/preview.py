"""Previews of sync runs: the changes that a run would make. Changes and records nothing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

from budget_sync.database import open_connection
from budget_sync.database.models import Reservation
from budget_sync.domain import clock
from budget_sync.runtime.isolate import IsolatedError
from budget_sync.sync import summary
from budget_sync.sync.cancel import Cancelled, OutOfTimeError, TimeLimit
from budget_sync.sync.history import SyncRunResult
from budget_sync.sync.job import Job, Skipped
from budget_sync.sync.match import StoredBudget
from budget_sync.sync.plan import SyncPlan
from budget_sync.sync.prepare import current_source, prepare
from budget_sync.sync.reading.model import Reading
from budget_sync.sync.reading.result import SheetProblem
from budget_sync.sync.run import Run, result_of
from budget_sync.sync.source import FetchError, Source
from budget_sync.sync.summary import Section


@dataclass(frozen=True, slots=True)
class Preview:
    """The changes that a sync run would make: its result, one line, and a line per row.

    `result` has no id. If its status is `failed` or `skipped`, `summary` says why.
    """

    result: SyncRunResult
    summary: str
    sections: list[Section] = field(default_factory=list)

    def cut(self) -> Preview:
        """The preview with all its lines, but with fewer entries in the result, for a page."""
        return replace(self, result=self.result.cut())

    @property
    def source(self) -> Source:
        """The source that would be synced."""
        return self.result.source

    @property
    def failed(self) -> bool:
        """Whether the source cannot be read."""
        return self.result.status == "failed"


def failed_preview(source: Source, problem: str, status: str = "failed") -> Preview:
    """The preview of a source that cannot be read."""
    return Preview(SyncRunResult(None, source, status, clock.now(), 0, problem), problem)


def preview_source(
    job: Job, source: Source, *, reading: Reading | None = None, pending: bool = False
) -> Preview:
    """Preview a sync run of one source. Any failure becomes the summary; none is raised.

    `reading` is used in place of the stored one. With `pending`, the file that was uploaded last is
    read, which is not used yet.
    """
    try:
        return job.call(partial(_preview_source, reading=reading, pending=pending), source)
    except IsolatedError as problem:
        return failed_preview(source, str(problem))


def _preview_source(job: Job, source: Source, *, reading: Reading | None, pending: bool) -> Preview:
    run = Run(source)
    try:
        open_connection()
        run.source = current_source(source, reading)
        limit = TimeLimit(job.stop, job.reach.deadline_s)
        prepared = prepare(job, run.source, limit, pending=pending)
    except Skipped as reason:
        return failed_preview(source, str(reason), "skipped")
    except (FetchError, SheetProblem, OutOfTimeError, Cancelled) as problem:
        return failed_preview(source, str(problem))
    reservations = _open_reservations(prepared.plan, prepared.stored)
    described = summary.summarize(prepared.plan, prepared.sheet, reservations)
    result = result_of(run, prepared.plan, prepared.sheet)
    return Preview(result, described.line, described.sections)


def _open_reservations(plan: SyncPlan, stored: list[StoredBudget]) -> dict[str, int]:
    """The number of open reservations on each budget that the plan affects and that has any."""
    affected = {change.before.id for change in (*plan.updates, *plan.revivals)} | {
        budget.id for budget in plan.deletes
    }
    reserved_ids = [
        budget.id for budget in stored if budget.id in affected and budget.reserved_minor
    ]
    counts: dict[str, int] = {}
    for start in range(0, len(reserved_ids), 500):
        chunk = reserved_ids[start : start + 500]
        for row in Reservation.select(Reservation.budgetId).where(
            (Reservation.status == "open") & (Reservation.budgetId << chunk)
        ):
            counts[row.budgetId] = counts.get(row.budgetId, 0) + 1
    return counts
