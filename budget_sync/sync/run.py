"""A sync run of one source: prepare, write, and record the result in every case."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import peewee

from budget_sync.accounts.customers import locked_customer
from budget_sync.database import open_connection, transact, unavailable_error
from budget_sync.database.models import BudgetDataSourceConfig
from budget_sync.domain import clock
from budget_sync.domain.errors import RequestError
from budget_sync.runtime.isolate import IsolatedError, out_of_memory
from budget_sync.runtime.slots import try_file_lock
from budget_sync.sync import answers, history, summary
from budget_sync.sync.better_now import better_now_notes
from budget_sync.sync.cancel import Cancelled, OutOfTimeError, TimeLimit
from budget_sync.sync.history import SyncRunResult
from budget_sync.sync.job import Job, Skipped
from budget_sync.sync.manage_sources import complete_reading
from budget_sync.sync.parts import CircleError
from budget_sync.sync.plan import SyncPlan
from budget_sync.sync.prepare import (
    Prepared,
    current_source,
    plan_for,
    prepare,
    reading_customer,
)
from budget_sync.sync.reading.result import Customer, SheetProblem, SheetResult
from budget_sync.sync.sheet_names import title_of
from budget_sync.sync.source import UPGRADE, FetchError, Source
from budget_sync.sync.write import PLAN_ATTEMPTS, BudgetsChangedError, Writer, Written

log = logging.getLogger(__name__)

#: The exceptions that end a run. Their texts are messages for people.
_ENDS = (FetchError, SheetProblem, OutOfTimeError, BudgetsChangedError, CircleError, Cancelled)


class Run:
    """A sync run in progress: its source and its start."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.start_time = clock.now()
        self.latest_id: int | None = None
        self.written = Written()
        self._started_at = time.perf_counter()

    @property
    def duration_ms(self) -> int:
        """The time since the start."""
        return round((time.perf_counter() - self._started_at) * 1000)

    def result(self, status: str, message: str | None = None) -> SyncRunResult:
        """A result at this time, without counts."""
        return SyncRunResult(None, self.source, status, self.start_time, self.duration_ms, message)


def sync_source(job: Job, source: Source) -> SyncRunResult:
    """Sync one source. Any failure becomes the message of the result; none is raised."""
    run = Run(source)
    try:
        # The parent takes the lock, so that a run that will be skipped starts no child process.
        with _lock_source(job.lock_folder, source.id):
            return job.call(_sync_source, source)
    except Skipped as reason:
        return record(job, run, "skipped", message=str(reason))
    except RequestError as error:
        return record(job, run, "failed", message=error.sentence)
    except IsolatedError as problem:
        return record(job, run, "failed", message=str(problem))
    except Exception as error:
        # Any error, so that the other sources are still synced. The child may have made changes.
        log.exception("The sync run of %s failed.", source.id)
        message = (
            f"Something went wrong on our side ({type(error).__name__}) and was logged. The next "
            "sync run tries again."
        )
        return record(job, run, "failed", message=message)


def _sync_source(job: Job, source: Source) -> SyncRunResult:
    run = Run(source)
    try:
        open_connection()
        run.source = current_source(source)
        run.latest_id = history.latest_applied_id(source.id)
        return _work(job, run)
    except Skipped as reason:
        return record(job, run, "skipped", message=str(reason))
    except _ENDS as problem:
        return record(job, run, "failed", message=str(problem))
    except RequestError as error:
        return record(job, run, "failed", message=error.sentence)
    except peewee.PeeweeException as error:
        known = unavailable_error(error)
        if known is None:
            log.exception("The sync run of %s failed.", source.id)
        message = known.sentence if known else _internal_error(error)
        return record(job, run, "failed", message=message)
    except Exception as error:
        # Any error, so that the other sources are still synced.
        log.exception("The sync run of %s failed.", source.id)
        return record(job, run, "failed", message=_internal_error(error))


def _internal_error(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return f"{out_of_memory()} Nothing was changed."
    return (
        f"Something went wrong on our side ({type(error).__name__}) and was logged. "
        "Nothing was changed."
    )


@contextmanager
def _lock_source(folder: Path, source_id: str) -> Iterator[None]:
    """Hold the lock of a source on this machine. Raises Skipped if another run holds it.

    A file and not a lock of PostgreSQL, which would need a connection while the sheet is fetched.
    Runs on other machines are detected before this run is applied, by `_require_latest`.
    """
    with try_file_lock(folder / f"sync-{source_id}.lock") as is_locked:
        if not is_locked:
            raise Skipped("Another sync run of this source is in progress.")
        yield


def _require_latest(run: Run, customer: Customer) -> None:
    """Raise Skipped if the source or its customer has changed, or the source was synced.

    `customer` is the customer as the sheet was read: in another fiscal year, its periods are other
    ones. Another run may have read a newer version of the sheet. Locks the row of the source.
    """
    now = current_source(run.source)
    if reading_customer(locked_customer(run.source.customer_id)) != customer:
        raise Skipped(
            "The customer's fiscal year was changed while this sync run read the sheet; the next "
            "one uses the change."
        )
    if now != run.source:
        raise Skipped(
            "The source was changed while this sync run read the sheet; the next one uses the "
            "change."
        )
    if history.latest_applied_id(run.source.id) != run.latest_id:
        raise Skipped("Another sync run of this source was applied while this one read the sheet.")


def _work(job: Job, run: Run) -> SyncRunResult:
    limit = TimeLimit(job.stop, job.reach.deadline_s)
    prepared = prepare(job, run.source, limit)
    for _ in range(PLAN_ATTEMPTS - 1):
        try:
            return _apply(job, run, limit, prepared)
        except BudgetsChangedError:
            # Planned outside the transaction, because writers of all customers wait for it.
            open_connection()
            stored, plan = plan_for(job, run.source, prepared.customer, prepared.sheet, limit)
            prepared = replace(prepared, stored=stored, plan=plan)
    return _apply(job, run, limit, prepared)


def _apply(job: Job, run: Run, limit: TimeLimit, prepared: Prepared) -> SyncRunResult:
    """Write a plan and its row of `SyncHistory`.

    Raises BudgetsChangedError if the plan no longer fits the budgets.
    """
    source = run.source

    def progress(done: int, total: int) -> None:
        limit.check()
        job.report(f"writing {done:,} of {total:,} rows for {source.label}")

    def before() -> None:
        limit.check()
        _require_latest(run, prepared.customer)

    def finish(plan: SyncPlan) -> SyncRunResult:
        if names := _new_names(source, prepared):
            BudgetDataSourceConfig.update(names).where(
                BudgetDataSourceConfig.id == source.id
            ).execute()
        if source.is_upgraded:
            complete_reading(job.actor, source, prepared.reading, prepared.sheet.facts)
        return result_of(run, plan, prepared.sheet)

    def close_answers(plan: SyncPlan, result: SyncRunResult) -> None:
        answers.close_answers(result.sync_id or "", plan.applied_answers, plan.expired_answers)

    writer = Writer(
        actor=job.actor,
        source=source,
        title=prepared.title,
        stored=prepared.stored,
        written=run.written,
        progress=progress,
        before=before,
        finish=finish,
        saved=close_answers,
        unfinished=lambda: run.result("failed"),
    )
    return writer.write(prepared.plan)


def _new_names(source: Source, prepared: Prepared) -> dict[str, object]:
    """The columns to store for a Google Sheet with a new number or title."""
    if prepared.gid is None:
        return {}
    stored = {
        "worksheetGid": source.target.worksheet_gid,
        "worksheet": source.target.worksheet,
        "title": source.title,
    }
    found = {
        "worksheetGid": prepared.gid,
        "worksheet": prepared.tab,
        "title": title_of(prepared.book) or source.title,
    }
    return {name: value for name, value in found.items() if value != stored[name]}


def result_of(run: Run, plan: SyncPlan, sheet: SheetResult) -> SyncRunResult:
    """The result of a plan that was written, or would be."""
    warnings = summary.warnings(plan)
    is_upgraded = run.source.confirmed_by == UPGRADE
    status = "partial" if plan.errors or plan.held or plan.kept else "success"
    return replace(
        run.result(status, " ".join([*summary.rejections(plan), *warnings]) or None),
        created_count=len(plan.creates),
        updated_count=len(plan.updates),
        unchanged_count=plan.unchanged_count,
        soft_deleted_count=len(plan.deletes),
        revived_count=len(plan.revivals),
        held_count=len(plan.held),
        error_count=len(plan.errors),
        overdrawn_count=plan.overdrawn_count,
        errors=plan.errors,
        held=plan.held,
        warnings=warnings,
        notes=sheet.notes + (better_now_notes(sheet) if is_upgraded else []),
        skipped=sheet.skipped,
        facts=sheet.facts,
    )


def record(job: Job, run: Run, status: str, *, message: str) -> SyncRunResult:
    """Record a run that ended early. If that fails, the result has no `sync_id`."""
    result = run.written.failed(run.result(status, message))
    try:
        return transact(lambda: history.insert(job.actor.label, result))
    except (RequestError, peewee.PeeweeException) as error:
        # Without a traceback, which would add nothing.
        source_id = run.source.id
        log.error("The sync run of %s could not be recorded: %s", source_id, error)  # noqa: TRY400
        return result
