"""Sync runs and previews of every source of one customer or of all."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from budget_sync.accounts.customers import get_customer
from budget_sync.database import close_connection, open_connection
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Action, Actor, require
from budget_sync.runtime.correlation import current_id
from budget_sync.sync.history import SyncRunResult
from budget_sync.sync.job import Job
from budget_sync.sync.manage_sources import list_sources
from budget_sync.sync.preview import Preview, failed_preview, preview_source
from budget_sync.sync.run import Run, record, sync_source
from budget_sync.sync.source import Source

T = TypeVar("T")


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
            return record(job, Run(source), "skipped", message=message)
        return sync_source(timed, source)

    return _for_each_source(job, sync, customer_id, deadline_s, workers)


def skip_all(job: Job, message: str) -> list[SyncRunResult]:
    """A skipped result for every source, with the message. Records nothing."""
    return [Run(source).result("skipped", message) for source in _sources(job.actor, None)]


def preview_all(
    job: Job, *, customer_id: str | None = None, deadline_s: float | None = None, workers: int = 1
) -> Iterator[Preview]:
    """Preview a sync run of every source. Changes and records nothing.

    `deadline_s` and errors are as in `sync_all`.
    """

    def preview(timed: Job | None, source: Source) -> Preview:
        if timed is None:
            return failed_preview(
                source, "The time limit of this preview was reached before this source was read."
            )
        return preview_source(timed, source)

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
