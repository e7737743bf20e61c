"""Group commit on SQLite: a writer thread runs all waiting jobs in one transaction.

A job is one call of `transact`. A commit costs one fsync, regardless of how many jobs it contains.
So each process has one writer thread. It takes a lock that is fair between processes, begins a
transaction, runs each waiting job in its own savepoint, commits once, and reports each result. An
error in a job rolls back only the job's own savepoint.

A job is WAITING until the writer claims it; then it is CLAIMED. A caller whose timeout expires
turns a WAITING job into ABANDONED: it will never run, so the caller can safely report that nothing
was changed. A CLAIMED job may still be committed, so its caller gets OUTCOME_UNKNOWN.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Any, Generic, TypeVar

import peewee

from budget_sync.database.connection import db, open_connection, roll_back, unavailable_error
from budget_sync.database.errors import (
    NESTED_TRANSACT,
    RETRY_AFTER_S,
    outcome_unknown,
    unavailable,
)
from budget_sync.database.hooks import current_observer
from budget_sync.database.locks import process_lock
from budget_sync.database.sqlite.checkpoints import Checkpointer
from budget_sync.database.sqlite.moved import DatabaseMovedError, require_not_moved
from budget_sync.domain.errors import Code, RequestError
from budget_sync.runtime import greenlets
from budget_sync.runtime.correlation import NO_ID, current_id, join_ids

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Jobs that may wait in one process. More are rejected at once, because they could not be done in
#: time.
MAX_WAITING = 1000

#: A batch ends after this many jobs or seconds, because the jobs of other processes wait too.
MAX_BATCH = 200
MAX_BATCH_S = 0.1

#: How long the commit of a claimed job may take beyond the caller's timeout, before its outcome is
#: reported as unknown.
GRACE_S = 20.0

#: How often waiting callers check that the writer thread is alive.
LIVENESS_CHECK_S = 0.2

#: Whether the current thread is a writer thread.
_current_thread = threading.local()


class _State(Enum):
    WAITING = "waiting"
    CLAIMED = "claimed"
    ABANDONED = "abandoned"


class _Job(Generic[T]):
    """The work of one `transact` call, its state and its result."""

    __slots__ = ("_state", "_state_lock", "done", "error", "log_id", "result", "work")

    def __init__(self, work: Callable[[], T]) -> None:
        self.work = work
        self.log_id = current_id.get()
        self.result: T | None = None
        self.error: BaseException | None = None
        self._state = _State.WAITING
        self._state_lock = threading.Lock()
        self.done = greenlets.new_waiter()

    def claim(self, state: _State) -> bool:
        """Turn a waiting job into CLAIMED or ABANDONED; False if it is no longer waiting."""
        with self._state_lock:
            if self._state is not _State.WAITING:
                return False
            self._state = state
            return True


class WriterThread:
    """The queue and the writer thread of one process.

    The thread starts with the first job or by `start`, so never before a fork.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._jobs: deque[_Job[Any]] = deque()
        self._queue_changed = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        self._checkpointer = Checkpointer()

    def start(self) -> None:
        """Start the thread before its first job."""
        with self._queue_changed:
            self._ensure_thread()

    def run(self, work: Callable[[], T]) -> T:
        """Run `work` on the writer thread; return its result or raise its error once durable."""
        if getattr(_current_thread, "is_writer", False):
            raise RuntimeError(NESTED_TRANSACT)
        job = _Job(work)
        self._submit(job)
        self._await(job)
        if job.error is not None:
            raise job.error
        return job.result  # type: ignore[return-value]  # done without an error: the work's result

    def _submit(self, job: _Job[Any]) -> None:
        with self._queue_changed:
            if len(self._jobs) >= MAX_WAITING:
                raise unavailable("Too many requests are waiting.")
            self._jobs.append(job)
            self._ensure_thread()
        greenlets.before_sleep(self._notify)

    def _ensure_thread(self) -> bool:
        """Start the thread unless it is alive; return whether it was started."""
        if self._thread is not None and self._thread.is_alive():
            return False
        self._thread = threading.Thread(
            target=self._run_batches, name="budget-sync-writer", daemon=True
        )
        self._thread.start()
        return True

    def _notify(self) -> None:
        with self._queue_changed:
            self._queue_changed.notify()

    def _await(self, job: _Job[Any]) -> None:
        """Wait until the job is done, for as long as a caller may wait for a lock.

        Raises RequestError UNAVAILABLE if the job did not run, OUTCOME_UNKNOWN if its commit has
        not finished in time.
        """
        deadline = time.monotonic() + db.busy_timeout_s
        while not job.done.wait(max(0.0, min(LIVENESS_CHECK_S, deadline - time.monotonic()))):
            # The job takes long: keep the metric of the queue length up to date.
            current_observer().jobs_waiting(len(self._jobs))
            if time.monotonic() < deadline:
                self._replace_dead_thread()
            elif job.claim(_State.ABANDONED):
                raise unavailable("The database is busy.")
            elif not job.done.wait(GRACE_S):
                raise outcome_unknown()
            else:
                return

    def _replace_dead_thread(self) -> None:
        with self._queue_changed:
            if self._jobs and self._ensure_thread():
                log.error("The writer thread died; started a new one.")

    def _run_batches(self) -> None:
        _current_thread.is_writer = True
        while True:
            with self._queue_changed:
                while not self._jobs:
                    self._queue_changed.wait()
            batch = _Batch(self._jobs)
            current_observer().jobs_waiting(len(self._jobs))
            try:
                batch.run()
            except BaseException:
                # Whatever the error is: waiting callers get an answer and the next batch runs.
                log.exception("A batch failed outside its jobs.")
            finally:
                batch.report_results()
            current_observer().jobs_waiting(len(self._jobs))
            if batch.claimed and batch.failure is None:
                current_observer().batch_committed(len(batch.claimed))
                self._checkpointer.batch_committed(db.connection().total_changes)


class _Batch:
    """The jobs of one transaction."""

    def __init__(self, jobs: deque[_Job[Any]]) -> None:
        self.jobs = jobs
        self.claimed: list[_Job[Any]] = []
        # Creates the error for all claimed jobs if the batch ends now; None once it is committed.
        self.failure: Callable[[], BaseException] | None = lambda: unavailable(
            "The writer failed before it saved anything."
        )

    @property
    def log_id(self) -> str:
        """The id for log lines about the whole batch."""
        return join_ids(job.log_id for job in self.claimed)

    def run(self) -> None:
        """Begin, run the waiting jobs and commit; set the result of each claimed job."""
        current_id.set(NO_ID)
        try:
            with process_lock():
                open_connection()
                db.begin()
                try:
                    require_not_moved()
                    self._run_jobs()
                    current_id.set(self.log_id)
                    self.failure = outcome_unknown
                    db.commit()
                    self.failure = None
                finally:
                    roll_back()
        except (peewee.PeeweeException, OSError, DatabaseMovedError) as error:
            self._fail(error)
        except _TransactionEndedError as error:
            self._fail(error.cause)

    def _fail(self, error: BaseException) -> None:
        """Log the error and set `failure`. If the batch could not begin, all waiting jobs fail."""
        if self.failure is None:
            log.error("The lock was not released after a successful commit.", exc_info=error)
            return
        if self.failure is outcome_unknown:
            log.error("A commit failed; its outcome is unknown.", exc_info=error)
            return
        if not self.claimed:
            self._claim_all()
        current_id.set(self.log_id)
        log.error("The database is not available: %s", error)
        # Each caller gets a new exception: raising one object in several threads would mix up
        # their tracebacks.
        if isinstance(error, OSError):
            # A lock file cannot be opened.
            self.failure = lambda: unavailable("The database is not available right now.")
            return
        if isinstance(error, DatabaseMovedError):
            self.failure = lambda: RequestError(
                Code.UNAVAILABLE, f"{error} Nothing was changed.", retryAfter=RETRY_AFTER_S
            )
            return
        self.failure = lambda: (
            (unavailable_error(error) if isinstance(error, peewee.PeeweeException) else None)
            or error
        )

    def _claim_all(self) -> None:
        while self.jobs:
            job = self.jobs.popleft()
            if job.claim(_State.CLAIMED):
                self.claimed.append(job)

    def _run_jobs(self) -> None:
        connection = db.connection()
        ends = time.monotonic() + MAX_BATCH_S
        while self.jobs and len(self.claimed) < MAX_BATCH and time.monotonic() < ends:
            job = self.jobs.popleft()
            if job.claim(_State.CLAIMED):
                self.claimed.append(job)
                self._run_job(connection, job)

    def _run_job(self, connection: Any, job: _Job[Any]) -> None:
        current_id.set(job.log_id)
        connection.execute("SAVEPOINT job")
        try:
            job.result = job.work()
        except BaseException as error:  # any error is raised to the job's caller
            # A full disk or an I/O error ends the whole transaction, including all savepoints.
            if not connection.in_transaction:
                raise _TransactionEndedError(error) from error
            connection.execute("ROLLBACK TO job")
            job.error = (
                unavailable_error(error) or error
                if isinstance(error, peewee.PeeweeException)
                else error
            )
        connection.execute("RELEASE job")

    def report_results(self) -> None:
        """Notify the caller of every claimed job of its result, or of the batch's error."""
        for job in self.claimed:
            if self.failure is not None:
                job.error = self.failure()
            job.done.notify()


class _TransactionEndedError(Exception):
    """A job's error that ended the whole transaction."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


_writer_thread = WriterThread()
_creation_lock = threading.Lock()


def writer_thread() -> WriterThread:
    """The writer thread of this process.

    A forked child gets a new one and does not use its parent's connection.
    """
    global _writer_thread  # noqa: PLW0603  # group commit needs one writer per process
    if _writer_thread.pid != os.getpid():
        with _creation_lock:
            if _writer_thread.pid != os.getpid():
                _writer_thread = WriterThread()
    return _writer_thread
