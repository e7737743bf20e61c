"""Sync runs: fetch, plan, apply, and record the result in `SyncHistory` in every case."""

from __future__ import annotations

import itertools
import json
import logging
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import peewee
from peewee import fn

from budget_sync.accounts.customers import get_customer
from budget_sync.database import (
    close_connection,
    locked,
    open_connection,
    transact,
    unavailable_error,
)
from budget_sync.database.models import BudgetDataSourceConfig, Customer, Reservation, SyncHistory
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Action, Actor, Role, require
from budget_sync.runtime.correlation import current_id
from budget_sync.runtime.slots import try_file_lock
from budget_sync.sync import apply, fetch, history, summary
from budget_sync.sync.cancel import Cancellation, Cancelled, OutOfTimeError, TimeLimit
from budget_sync.sync.history import SyncRunResult
from budget_sync.sync.limits import Check
from budget_sync.sync.manage_sources import list_sources
from budget_sync.sync.match import StoredBudget
from budget_sync.sync.plan import SyncPlan, make_plan, refresh
from budget_sync.sync.rows import Layout, SheetError, SheetRows, read_rows
from budget_sync.sync.source import Fetched, FetchError, Reach, Source
from budget_sync.sync.summary import Section

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Called with the current step of a sync run.
Say = Callable[[str], None]


#: How often a sync run plans, if budgets are changed between planning and writing.
PLAN_ATTEMPTS = 5


class BudgetsChangedError(Exception):
    """The plan no longer fits the customer's budgets; the text says what to do."""


class Skipped(Exception):
    """A sync run that must not happen; the text says why."""


@dataclass(frozen=True, slots=True)
class Preview:
    """The changes that a sync run would make: one line, and sections with a line per row.

    `failed` is set if the source cannot be read; `summary` then says why.
    """

    source: Source
    failed: bool
    summary: str
    sections: list[Section] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Job:
    """How to run syncs. `approved_ids` are budgets with deletions that a person approved."""

    actor: Actor
    reach: Reach
    lock_folder: Path
    allow_deletes: bool = False
    approved_ids: Collection[str] = frozenset()
    say: Say | None = None
    stop: Cancellation = field(default_factory=Cancellation)

    def plan(
        self, source: Source, sheet: SheetRows, stored: list[StoredBudget], check: Check
    ) -> SyncPlan:
        """Plan the changes that the sheet means."""
        return make_plan(
            source.id,
            sheet,
            stored,
            allow_deletes=self.allow_deletes,
            approved_ids=self.approved_ids,
            held_before=_held_before(source),
            check=check,
        )

    def report(self, text: str) -> None:
        """Report the current step. Raises Cancelled if the run is cancelled."""
        self.stop.check()
        if self.say:
            self.say(text)


def cron_actor() -> Actor:
    """The actor for sync runs that are requested over HTTP with the cron secret."""
    return Actor(
        principal="cron",
        user_id=None,
        name="Scheduled sync",
        email="cron",
        role=Role.SUPER_ADMIN,
        customer_id=None,
    )


def sync_all(
    job: Job, *, customer_id: str | None = None, deadline_s: float | None = None, workers: int = 1
) -> Iterator[SyncRunResult]:
    """Sync every source of one customer or of all, in order. A failed source never affects others.

    With `deadline_s`, sources that have not started by then are skipped, and no fetch takes longer.
    After a request to `job.stop`, no further source is started. Raises RequestError FORBIDDEN or
    INVALID_CUSTOMER.
    """

    def sync(timed: Job | None, source: Source) -> SyncRunResult:
        if timed is None:
            message = "The time limit of this call was reached; the next call syncs this source."
            return _record(job, _Run(source), "skipped", message=message)
        return sync_source(timed, source)

    return _for_each_source(job, sync, customer_id, deadline_s, workers)


def preview_all(
    job: Job, *, customer_id: str | None = None, deadline_s: float | None = None, workers: int = 1
) -> Iterator[Preview]:
    """Preview a sync run of every source. Changes and records nothing.

    `deadline_s` and errors are as in `sync_all`.
    """

    def preview(timed: Job | None, source: Source) -> Preview:
        if timed is None:
            return Preview(
                source,
                failed=True,
                summary="The time limit of this preview was reached before this source was read.",
            )
        try:
            open_connection()
            _require_active(source)
            prepared = _prepare(timed, source, TimeLimit(timed.stop, timed.reach.deadline_s))
        except (FetchError, SheetError, OutOfTimeError, Skipped) as problem:
            return Preview(source, not isinstance(problem, Skipped), str(problem))
        reservations = _open_reservations(prepared.plan, prepared.stored)
        described = summary.summarize(prepared.plan, prepared.sheet, reservations)
        return Preview(source, False, described.line, described.sections)

    return _for_each_source(job, preview, customer_id, deadline_s, workers)


def _for_each_source(
    job: Job,
    work: Callable[[Job | None, Source], T],
    customer_id: str | None,
    deadline_s: float | None,
    workers: int,
) -> Iterator[T]:
    """Call `work` for each source, with a job that ends by the deadline, or None if it is over."""
    sources = _sources(job.actor, customer_id)
    ends_at = None if deadline_s is None else time.monotonic() + deadline_s

    def in_time(source: Source) -> T:
        left_s = job.reach.deadline_s if ends_at is None else ends_at - time.monotonic()
        if left_s <= 0:
            return work(None, source)
        reach = replace(job.reach, deadline_s=min(job.reach.deadline_s, left_s))
        return work(replace(job, reach=reach), source)

    log_id = current_id.get()

    def in_thread(source: Source) -> T:
        current_id.set(log_id)
        try:
            return in_time(source)
        finally:
            close_connection()

    if workers == 1:
        yield from map(in_time, itertools.takewhile(lambda _: not job.stop.by, sources))
        return
    # The threads use connections of their own, and this thread only waits for them.
    close_connection()
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="sync") as pool:
        yield from pool.map(in_thread, sources)
    open_connection()


def _sources(actor: Actor, customer_id: str | None) -> list[Source]:
    require(actor, Action.MANAGE_SOURCES)
    if customer_id is not None:
        if not actor.serves(customer_id):
            raise RequestError(Code.INVALID_CUSTOMER, f"There is no customer {customer_id!r}.")
        get_customer(customer_id)
    return list_sources(actor, customer_id)


class _Run:
    """A sync run in progress: its source and its start."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.start_time = clock.now()
        self.latest_id: int | None = None
        self._started_at = time.perf_counter()

    @property
    def duration_ms(self) -> int:
        """The time since the start."""
        return round((time.perf_counter() - self._started_at) * 1000)


def sync_source(job: Job, source: Source) -> SyncRunResult:
    """Sync one source. Any failure becomes the message of the result; none is raised."""
    run = _Run(source)
    try:
        with _lock_source(job.lock_folder, source.id):
            open_connection()
            _require_active(source)
            run.latest_id = _latest_applied_id(source)
            return _work(job, run)
    except Skipped as reason:
        return _record(job, run, "skipped", message=str(reason))
    except (FetchError, SheetError, OutOfTimeError, BudgetsChangedError, Cancelled) as problem:
        return _record(job, run, "failed", message=str(problem))
    except RequestError as error:
        return _record(job, run, "failed", message=error.sentence)
    except peewee.PeeweeException as error:
        known = unavailable_error(error)
        if known is None:
            log.exception("The sync run of %s failed.", source.id)
        message = known.sentence if known else _internal_error(error)
        return _record(job, run, "failed", message=message)
    except Exception as error:
        # Any error, so that the other sources are still synced.
        log.exception("The sync run of %s failed.", source.id)
        return _record(job, run, "failed", message=_internal_error(error))


def _internal_error(error: Exception) -> str:
    return (
        f"Something went wrong on our side ({type(error).__name__}) and was logged. "
        "Nothing was changed."
    )


def _held_before(source: Source) -> frozenset[str]:
    """The budgets with a deletion that the latest successful or partial run held back."""
    latest = (
        SyncHistory.select(SyncHistory.held)
        .where((SyncHistory.sourceId == source.id) & SyncHistory.status.in_(["success", "partial"]))
        .order_by(SyncHistory.id.desc())
        .first()
    )
    held = json.loads(latest.held) if latest else []
    return frozenset(each["budgetId"] for each in held if each["kind"] == "deletion")


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


def _require_active(source: Source) -> None:
    """Raise Skipped if the customer is disabled or the source was removed."""
    if get_customer(source.customer_id).disabledAt is not None:
        raise Skipped(f"Customer {source.customer_id} is disabled.")
    row = locked(
        BudgetDataSourceConfig.select().where(
            (BudgetDataSourceConfig.id == source.id) & BudgetDataSourceConfig.isActive
        )
    ).first()
    if row is None or row.removedAt is not None:
        raise Skipped("The source was removed.")


def _latest_applied_id(source: Source) -> int | None:
    """The id of the latest sync run that applied this source; None if there is none."""
    latest: int | None = (
        SyncHistory.select(fn.MAX(SyncHistory.id))
        .where((SyncHistory.sourceId == source.id) & SyncHistory.status.in_(["success", "partial"]))
        .scalar()
    )
    return latest


def _require_latest(run: _Run) -> None:
    """Raise Skipped if another run has applied the source since this one began.

    This run may have read an older version of the sheet. The row of the source must be locked.
    """
    if _latest_applied_id(run.source) != run.latest_id:
        raise Skipped("Another sync run of this source was applied while this one read the sheet.")


class _Prepared(NamedTuple):
    """A source that was read, and the plan for it."""

    fetched: Fetched
    sheet: SheetRows
    stored: list[StoredBudget]
    plan: SyncPlan


def _prepare(job: Job, source: Source, limit: TimeLimit) -> _Prepared:
    """Read the source and plan, outside any transaction."""
    job.report(f"reading {source.label}")
    with job.stop.at_once():
        fetched = fetch.fetch_source(source, job.reach)
    open_connection()
    customer: Customer = get_customer(source.customer_id)
    job.report(f"reading {len(fetched.grid):,} rows of {source.label}")
    layout = Layout(
        customer.currency, fetched.locale, source.names, ragged_is_error=fetched.ragged_is_error
    )
    with job.stop.at_once():
        sheet = read_rows(fetched.grid, layout, limit.check)
    return _plan(job, source, limit, fetched, sheet)


def _plan(
    job: Job, source: Source, limit: TimeLimit, fetched: Fetched, sheet: SheetRows
) -> _Prepared:
    """Plan the changes that a sheet means for the budgets as they are now."""
    limit.check()
    stored = apply.read_stored(source.customer_id)
    limit.check()
    return _Prepared(fetched, sheet, stored, job.plan(source, sheet, stored, limit.check))


def _work(job: Job, run: _Run) -> SyncRunResult:
    limit = TimeLimit(job.stop, job.reach.deadline_s)
    prepared = _prepare(job, run.source, limit)
    for _ in range(PLAN_ATTEMPTS - 1):
        try:
            return _apply(job, run, limit, prepared)
        except BudgetsChangedError:
            # Planned outside the transaction, because writers of all customers wait for it.
            open_connection()
            prepared = _plan(job, run.source, limit, prepared.fetched, prepared.sheet)
    return _apply(job, run, limit, prepared)


def _apply(job: Job, run: _Run, limit: TimeLimit, prepared: _Prepared) -> SyncRunResult:
    """Write a plan and its row of `SyncHistory` in one transaction.

    Raises BudgetsChangedError if the plan no longer fits the budgets.
    """
    source, fetched = run.source, prepared.fetched

    def progress(done: int, total: int) -> None:
        limit.check()
        job.report(f"writing {done:,} of {total:,} rows for {source.label}")

    def work() -> SyncRunResult:
        limit.check()
        _require_active(source)
        _require_latest(run)
        plan = prepared.plan
        if not plan.changes_nothing:
            plan = _current_plan(source, prepared)
            apply.apply_plan(
                job.actor, source.customer_id, source.id, fetched.title, plan, progress
            )
        if source.worksheet_gid is None and fetched.gid is not None:
            BudgetDataSourceConfig.update(worksheetGid=fetched.gid).where(
                BudgetDataSourceConfig.id == source.id
            ).execute()
        return history.insert(job.actor.label, _result(run, plan, fetched))

    return transact(work)


def _current_plan(source: Source, prepared: _Prepared) -> SyncPlan:
    """Lock the budgets; return the plan with their current figures.

    Since planning, money may have moved on a budget, which rarely changes the plan. Raises
    BudgetsChangedError if the plan must be created again.
    """
    changed = apply.lock_and_find_changed(source.customer_id, prepared.stored)
    if changed == []:
        return prepared.plan
    plan = changed and refresh(source.id, prepared.plan, prepared.stored, changed)
    if not plan:
        raise BudgetsChangedError(
            f"The customer's budgets were changed during the sync run, {PLAN_ATTEMPTS} times in a "
            "row. Nothing was changed; the next sync run tries again."
        )
    return plan


def _result(run: _Run, plan: SyncPlan, fetched: Fetched) -> SyncRunResult:
    warnings = summary.warnings(plan, fetched.note)
    return SyncRunResult(
        sync_id=None,
        source=run.source,
        status="partial" if plan.errors or plan.held or plan.kept else "success",
        start_time=run.start_time,
        duration_ms=run.duration_ms,
        message=" ".join([*summary.rejections(plan), *warnings]) or None,
        created_count=len(plan.creates),
        updated_count=len(plan.updates),
        unchanged_count=plan.unchanged_count,
        soft_deleted_count=len(plan.deletes),
        revived_count=len(plan.revivals),
        held_count=len(plan.held),
        error_count=len(plan.errors),
        overdrawn_count=plan.overdrawn_count,
        errors=plan.errors,
        held_ids=[budget.id for budget in plan.held],
        warnings=warnings,
    )


def _record(job: Job, run: _Run, status: str, *, message: str) -> SyncRunResult:
    """Record a run that changed nothing. If that fails, the result has no `sync_id`."""
    result = SyncRunResult(None, run.source, status, run.start_time, run.duration_ms, message)
    try:
        return transact(lambda: history.insert(job.actor.label, result))
    except (RequestError, peewee.PeeweeException) as error:
        # Without a traceback, which would add nothing.
        source_id = run.source.id
        log.error("The sync run of %s could not be recorded: %s", source_id, error)  # noqa: TRY400
        return result


def _open_reservations(plan: SyncPlan, stored: list[StoredBudget]) -> dict[str, int]:
    """The number of open reservations on each budget that the plan affects and that has any."""
    affected = {change.before.id for change in (*plan.updates, *plan.revivals)} | {
        budget.id for budget in (*plan.deletes, *plan.held)
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
