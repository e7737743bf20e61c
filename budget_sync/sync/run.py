"""One pass over a source: fetch, plan, apply, and a row of `SyncHistory` whatever happened."""

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
from typing import TypeVar

import peewee

from budget_sync.accounts.people import get_customer
from budget_sync.database import (
    close_connection,
    held_alone,
    locked,
    open_connection,
    refusal_of,
    transact,
)
from budget_sync.database.models import BudgetDataSourceConfig, Customer, Reservation, SyncHistory
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Action, Actor, Role, require
from budget_sync.runtime.correlation import current_id
from budget_sync.sync import apply, fetch, history
from budget_sync.sync import summary as summaries
from budget_sync.sync.cancel import Stop, Stopped
from budget_sync.sync.history import SyncRunResult
from budget_sync.sync.manage_sources import list_sources
from budget_sync.sync.match import Stored
from budget_sync.sync.plan import SyncPlan, make_plan
from budget_sync.sync.rows import Layout, SheetProblem, SheetRows, read_rows
from budget_sync.sync.source import Fetched, FetchFailed, Reach, Source

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Told what a pass is doing.
Say = Callable[[str], None]


class Skipped(Exception):
    """A pass that is not to be made; the text says why."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a pass would do, in one line and by what would become of each row; `failed` where the source cannot be read."""

    source: Source
    failed: bool
    summary: str
    sections: list[summaries.Section] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Job:
    """How to make passes. `approved_ids` are budgets that a person has let go of, past the brake."""

    actor: Actor
    reach: Reach
    lock_folder: Path
    allow_deletes: bool = False
    approved_ids: Collection[str] = frozenset()
    say: Say | None = None
    stop: Stop = field(default_factory=Stop)

    def plan(self, source: Source, sheet: SheetRows, stored: list[Stored]) -> SyncPlan:
        """What the sheet would change."""
        return make_plan(
            source.id,
            sheet,
            stored,
            allow_deletes=self.allow_deletes,
            approved_ids=self.approved_ids,
            held_before=_held_before(source),
        )

    def tell(self, text: str) -> None:
        """Say what is being done, if anybody listens. Raises Stopped where the pass is to end instead."""
        self.stop.check()
        if self.say:
            self.say(text)


def cron_actor() -> Actor:
    """Who makes a pass that came in over HTTP with the cron's secret."""
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
    """Make a pass over every source, of one customer or of all, in their order; one source's failure never touches another.

    With `deadline_s`, sources that are not begun by then are skipped, and none fetches for longer. Once `job.stop` is asked, no
    source is begun. Raises RequestError FORBIDDEN or INVALID_CUSTOMER.
    """

    def one(timed: Job | None, source: Source) -> SyncRunResult:
        if timed is None:
            return _record(
                job,
                _Pass(source),
                "skipped",
                message="The time for this call was up; the next one goes on.",
            )
        return sync_source(timed, source)

    return _over_all(job, one, customer_id, deadline_s, workers)


def preview_all(
    job: Job, *, customer_id: str | None = None, deadline_s: float | None = None, workers: int = 1
) -> Iterator[Preview]:
    """What a pass over every source would do. Changes nothing, and leaves no trace; `deadline_s` and errors as with `sync_all`."""

    def one(timed: Job | None, source: Source) -> Preview:
        if timed is None:
            return Preview(
                source,
                failed=True,
                summary="The time for this preview was up before this source was read.",
            )
        try:
            open_connection()
            _refuse_disabled(source)
            _, sheet, stored, plan = _prepare(timed, source)
        except (FetchFailed, SheetProblem, Skipped) as problem:
            return Preview(source, not isinstance(problem, Skipped), str(problem))
        return Preview(
            source, False, *summaries.plan_page(plan, sheet, _open_reservations(plan, stored))
        )

    return _over_all(job, one, customer_id, deadline_s, workers)


def _over_all(
    job: Job,
    one: Callable[[Job | None, Source], T],
    customer_id: str | None,
    deadline_s: float | None,
    workers: int,
) -> Iterator[T]:
    """`one` for each source, with a job that ends in time; with None, where the time is up already."""
    wanted = _sources(job.actor, customer_id)
    ends_at = None if deadline_s is None else time.monotonic() + deadline_s

    def in_time(source: Source) -> T:
        left_s = job.reach.deadline_s if ends_at is None else ends_at - time.monotonic()
        return one(
            replace(job, reach=replace(job.reach, deadline_s=min(job.reach.deadline_s, left_s)))
            if left_s > 0
            else None,
            source,
        )

    log_id = current_id.get()

    def on_a_thread(source: Source) -> T:
        current_id.set(log_id)
        try:
            return in_time(source)
        finally:
            close_connection()

    if workers == 1:
        yield from map(in_time, itertools.takewhile(lambda _: not job.stop.by, wanted))
        return
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="sync") as pool:
        yield from pool.map(on_a_thread, wanted)


def _sources(actor: Actor, customer_id: str | None) -> list[Source]:
    require(actor, Action.MANAGE_SOURCES)
    if customer_id is not None:
        if not actor.serves(customer_id):
            raise RequestError(Code.INVALID_CUSTOMER, f"There is no customer {customer_id!r}.")
        get_customer(customer_id)
    return list_sources(actor, customer_id)


class _Pass:
    """A pass under way: its source and its beginning."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.start_time = clock.now()
        self._began = time.perf_counter()

    @property
    def duration_ms(self) -> int:
        """How long it has taken."""
        return round((time.perf_counter() - self._began) * 1000)


def sync_source(job: Job, source: Source) -> SyncRunResult:
    """Make one pass. Never raises for what a source, a network or the database does: that is the result's message."""
    this = _Pass(source)
    try:
        with _only_one(job.lock_folder, source.id):
            open_connection()
            _refuse_disabled(source)
            return _work(job, this)
    except Skipped as reason:
        return _record(job, this, "skipped", message=str(reason))
    except (FetchFailed, SheetProblem, Stopped) as problem:
        return _record(job, this, "failed", message=str(problem))
    except RequestError as refusal:
        return _record(job, this, "failed", message=refusal.sentence)
    except peewee.PeeweeException as error:
        refused = refusal_of(error)
        if refused is None:
            log.exception("The pass over %s failed.", source.id)
        return _record(
            job, this, "failed", message=refused.sentence if refused else _mistake(error)
        )
    except Exception as error:
        # Whatever it is, the other sources are to be synced.
        log.exception("The pass over %s failed.", source.id)
        return _record(job, this, "failed", message=_mistake(error))


def _mistake(error: Exception) -> str:
    return (
        f"A mistake of ours ({type(error).__name__}); the log has the details. Nothing was changed."
    )


def _held_before(source: Source) -> frozenset[str]:
    """The budgets whose deletion the latest pass held that got as far as planning."""
    latest = (
        SyncHistory.select(SyncHistory.heldBudgetIds)
        .where((SyncHistory.sourceId == source.id) & SyncHistory.status.in_(["success", "partial"]))
        .order_by(SyncHistory.id.desc())
        .first()
    )
    return frozenset(json.loads(latest.heldBudgetIds)) if latest else frozenset()


@contextmanager
def _only_one(folder: Path, source_id: str) -> Iterator[None]:
    """Hold a source's lock. Raises Skipped where another holds it."""
    with held_alone(f"sync-{source_id}", folder) as got:
        if not got:
            raise Skipped("Another pass over this source is under way.")
        yield


def _refuse_disabled(source: Source) -> None:
    """Raises Skipped where a source is not to be followed (any more)."""
    if get_customer(source.customer_id).disabledAt is not None:
        raise Skipped(f"Customer {source.customer_id} is disabled.")
    row = locked(
        BudgetDataSourceConfig.select().where(
            (BudgetDataSourceConfig.id == source.id) & BudgetDataSourceConfig.isActive
        )
    ).first()
    if row is None or row.removedAt is not None:
        raise Skipped("The source was removed.")


def _prepare(job: Job, source: Source) -> tuple[Fetched, SheetRows, list[Stored], SyncPlan]:
    """Read the source and plan, with no transaction open."""
    job.tell(f"reading {source.label}")
    with job.stop.at_once():
        fetched = fetch.fetch_source(source, job.reach)
    open_connection()
    customer: Customer = get_customer(source.customer_id)
    job.tell(f"reading {len(fetched.grid):,} rows of {source.label}")
    layout = Layout(
        customer.currency, fetched.locale, source.names, ragged_is_error=fetched.ragged_is_error
    )
    with job.stop.at_once():
        sheet = read_rows(fetched.grid, layout)
    stored = apply.read_stored(source.customer_id)
    return fetched, sheet, stored, job.plan(source, sheet, stored)


def _work(job: Job, this: _Pass) -> SyncRunResult:
    source = this.source
    fetched, sheet, stored, first_plan = _prepare(job, source)

    def progress(done: int, total: int) -> None:
        job.tell(f"writing {done:,} of {total:,} rows for {source.label}")

    def work() -> SyncRunResult:
        job.stop.check()
        _refuse_disabled(source)
        plan = first_plan
        if not plan.changes_nothing:
            # Between planning and now somebody may have changed a budget by hand, or set money aside.
            if not apply.is_still(source.customer_id, stored):
                plan = job.plan(source, sheet, apply.read_stored(source.customer_id))
            apply.apply(job.actor, source.customer_id, source.id, fetched.title, plan, progress)
        if source.worksheet_gid is None and fetched.gid is not None:
            BudgetDataSourceConfig.update(worksheetGid=fetched.gid).where(
                BudgetDataSourceConfig.id == source.id
            ).execute()
        return history.insert(job.actor.label, _result(this, plan, fetched))

    return transact(work)


def _result(this: _Pass, plan: SyncPlan, fetched: Fetched) -> SyncRunResult:
    warnings = summaries.warnings(plan, fetched.note)
    return SyncRunResult(
        sync_id=None,
        source=this.source,
        status="partial" if plan.errors or plan.held or plan.kept else "success",
        start_time=this.start_time,
        duration_ms=this.duration_ms,
        message=" ".join([*summaries.refused(plan), *warnings]) or None,
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


def _record(job: Job, this: _Pass, status: str, *, message: str) -> SyncRunResult:
    """Note a pass that changed nothing. Where even that fails, the result says so, and has no syncId."""
    result = SyncRunResult(None, this.source, status, this.start_time, this.duration_ms, message)
    try:
        return transact(lambda: history.insert(job.actor.label, result))
    except (RequestError, peewee.PeeweeException) as error:
        log.error("The pass over %s could not be noted: %s", this.source.id, error)  # noqa: TRY400  # the line says it all
        return result


def _open_reservations(plan: SyncPlan, stored: list[Stored]) -> dict[str, int]:
    """How many reservations are open on each budget that the plan would touch and that holds money."""
    touched = {change.before.id for change in (*plan.updates, *plan.revivals)} | {
        budget.id for budget in (*plan.deletes, *plan.held)
    }
    holding = [budget.id for budget in stored if budget.id in touched and budget.reserved_minor]
    counts: dict[str, int] = {}
    for start in range(0, len(holding), 500):
        chunk = holding[start : start + 500]
        for row in Reservation.select(Reservation.budgetId).where(
            (Reservation.status == "open") & (Reservation.budgetId << chunk)
        ):
            counts[row.budgetId] = counts.get(row.budgetId, 0) + 1
    return counts
