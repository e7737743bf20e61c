"""Group commit on SQLite: one writer thread a process runs all waiting works in one transaction, with one durable commit.

A commit costs an fsync however many works it carries. So each process has one writer thread. It takes a lock that is fair
between processes, begins, runs every work that waits, each in a savepoint of its own, commits once, and answers all of them.
A work's refusal rolls back its own savepoint and nothing else.

A work is WAITING until the writer claims it, and then TAKEN. A caller whose patience ends turns a WAITING work to ABANDONED:
it will never run, and the caller may say so. A TAKEN one may still be committed, so its caller is told "outcome unknown".
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

from budget_sync.database.connection import (
    RETRY_AFTER_S,
    db,
    open_connection,
    refusal_of,
    roll_back,
)
from budget_sync.database.hooks import told
from budget_sync.database.locks import process_lock
from budget_sync.database.sqlite.checkpoints import Checkpointer
from budget_sync.domain.errors import Code, RequestError
from budget_sync.runtime import greenlets
from budget_sync.runtime.correlation import NOTHING, current_id, of_all

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Works that may wait in one process; more are refused at once, since they could not be answered in time.
MAX_WAITING = 1000

#: A batch ends when it has this many works or took this long: the other processes' works are waiting too.
MAX_BATCH = 200
MAX_BATCH_S = 0.1

#: How long a claimed work's commit may take beyond the caller's patience, before its outcome is called unknown.
GRACE_S = 20.0


#: How often those who wait look whether the writer thread is alive.
REVIVE_S = 0.2

#: Whether this thread is a writer.
_serving = threading.local()


class _State(Enum):
    WAITING = "waiting"
    TAKEN = "taken"
    ABANDONED = "abandoned"


class _Job(Generic[T]):
    """A work, who may claim it, and what came of it."""

    __slots__ = ("_claim", "_state", "answered", "error", "log_id", "result", "work")

    def __init__(self, work: Callable[[], T]) -> None:
        self.work = work
        self.log_id = current_id.get()
        self.result: T | None = None
        self.error: BaseException | None = None
        self._state = _State.WAITING
        self._claim = threading.Lock()
        self.answered = greenlets.new_bell()

    def claim(self, state: _State) -> bool:
        """Turn a waiting job to TAKEN or ABANDONED; False where the other side was first."""
        with self._claim:
            if self._state is not _State.WAITING:
                return False
            self._state = state
            return True


class Writer:
    """The writer of one process. Its thread is started with the first work, so never before a fork."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._jobs: deque[_Job[Any]] = deque()
        self._changed = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        self._checkpointer = Checkpointer()

    def run(self, work: Callable[[], T]) -> T:
        """Have the thread run the work, and return or raise what came of it once that is durable."""
        if getattr(_serving, "now", False):
            raise RuntimeError(
                "a work called transact: verbs own their transaction, what they call never begins one"
            )
        job = _Job(work)
        self._submit(job)
        self._await(job)
        if job.error is not None:
            raise job.error
        return job.result  # type: ignore[return-value]  # answered without an error: the work's own result

    def _submit(self, job: _Job[Any]) -> None:
        with self._changed:
            if len(self._jobs) >= MAX_WAITING:
                raise busy("Too many requests are waiting.")
            self._jobs.append(job)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._serve, name="budget-sync-writer", daemon=True
                )
                self._thread.start()
        greenlets.before_sleep(self._notify)

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify()

    def _await(self, job: _Job[Any]) -> None:
        """Wait for the answer, for as long as a lock may be waited for, and then say what is known."""
        deadline = time.monotonic() + db.patience_s
        while not job.answered.wait(max(0.0, min(REVIVE_S, deadline - time.monotonic()))):
            # It takes long: whoever looks should see how many wait.
            told.observer.works_wait(len(self._jobs))
            if time.monotonic() < deadline:
                # A writer that died is noticed here, and replaced.
                self._revive()
            elif job.claim(_State.ABANDONED):
                raise busy("The database is busy.")
            elif not job.answered.wait(GRACE_S):
                raise outcome_unknown()
            else:
                return

    def _revive(self) -> None:
        with self._changed:
            if self._jobs and (self._thread is None or not self._thread.is_alive()):
                log.error("The writer thread had died; a new one is started.")
                self._thread = threading.Thread(
                    target=self._serve, name="budget-sync-writer", daemon=True
                )
                self._thread.start()

    def _serve(self) -> None:
        _serving.now = True
        while True:
            with self._changed:
                while not self._jobs:
                    self._changed.wait()
            batch = _Batch(self._jobs)
            told.observer.works_wait(len(self._jobs))
            try:
                batch.run()
            except BaseException:
                # Whatever it was, those who wait are answered, and the next batch gets its chance.
                log.exception("A batch failed outside of any work.")
            finally:
                batch.answer()
            told.observer.works_wait(len(self._jobs))
            if batch.taken and batch.verdict is None:
                told.observer.batch_committed(len(batch.taken))
                self._checkpointer.committed(db.connection().total_changes)


class _Batch:
    """The works of one transaction."""

    def __init__(self, jobs: deque[_Job[Any]]) -> None:
        self.jobs = jobs
        self.taken: list[_Job[Any]] = []
        # What is to be said to works that were claimed, should this end before it is known that they were committed or undone.
        self.verdict: Callable[[], BaseException] | None = lambda: busy(
            "The writer failed before it saved anything."
        )

    @property
    def log_id(self) -> str:
        """Whom a line about the whole batch is about."""
        return of_all(job.log_id for job in self.taken)

    def run(self) -> None:
        """Begin, run what waits, commit. Leaves for each claimed job what it is to be told."""
        current_id.set(NOTHING)
        try:
            with process_lock():
                open_connection()
                db.begin()
                try:
                    self._run_jobs()
                    current_id.set(self.log_id)
                    self.verdict = outcome_unknown
                    db.commit()
                    self.verdict = None
                finally:
                    roll_back()
        except (peewee.PeeweeException, OSError) as error:
            self._fail(error)
        except _TransactionEndedError as error:
            self._fail(error.cause)

    def _fail(self, error: BaseException) -> None:
        """Nothing of the batch was done, or with a failed commit, nobody knows. Who still waits is told at once, too."""
        if self.verdict is None:
            log.error("Letting go of the lock failed, after a commit that did not.", exc_info=error)
            return
        if self.verdict is outcome_unknown:
            log.error("A commit failed; its outcome is unknown.", exc_info=error)
            return
        if not self.taken:
            self._take_all()
        current_id.set(self.log_id)
        log.error("The database is not available: %s", error)
        # Each caller raises an exception of its own: one object raised in several threads would mix up their tracebacks.
        if isinstance(error, OSError):
            # A lock's file that cannot be opened.
            self.verdict = lambda: busy("The database is not available right now.")
            return
        self.verdict = lambda: (
            (refusal_of(error) if isinstance(error, peewee.PeeweeException) else None) or error
        )

    def _take_all(self) -> None:
        while self.jobs:
            job = self.jobs.popleft()
            if job.claim(_State.TAKEN):
                self.taken.append(job)

    def _run_jobs(self) -> None:
        connection = db.connection()
        ends = time.monotonic() + MAX_BATCH_S
        while self.jobs and len(self.taken) < MAX_BATCH and time.monotonic() < ends:
            job = self.jobs.popleft()
            if job.claim(_State.TAKEN):
                self.taken.append(job)
                self._run_job(connection, job)

    def _run_job(self, connection: Any, job: _Job[Any]) -> None:
        current_id.set(job.log_id)
        connection.execute("SAVEPOINT work")
        try:
            job.result = job.work()
        except BaseException as error:  # whatever it is, it is the caller's
            # A full disk or an I/O error ends the whole transaction, savepoints and all.
            if not connection.in_transaction:
                raise _TransactionEndedError(error) from error
            connection.execute("ROLLBACK TO work")
            job.error = (
                refusal_of(error) or error if isinstance(error, peewee.PeeweeException) else error
            )
        connection.execute("RELEASE work")

    def answer(self) -> None:
        """Tell every claimed job its own result, or what became of all of them."""
        for job in self.taken:
            if self.verdict is not None:
                job.error = self.verdict()
            job.answered.ring()


class _TransactionEndedError(Exception):
    """A work's error that took the whole transaction with it."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


def busy(why: str) -> RequestError:
    """Nothing was done, and nothing will be."""
    return RequestError(
        Code.UNAVAILABLE,
        f"{why} Nothing was changed; please try again shortly.",
        retryAfter=RETRY_AFTER_S,
    )


def outcome_unknown() -> RequestError:
    """It may have been done."""
    return RequestError(
        Code.OUTCOME_UNKNOWN,
        "The database failed while it was saving, so the outcome is unknown. Send the same request again: it will not be done twice.",
        retryAfter=RETRY_AFTER_S,
    )


_writer = Writer()
_writer_lock = threading.Lock()


def the_writer() -> Writer:
    """This process's writer. A forked child gets its own, and leaves its parent's connection alone."""
    global _writer  # noqa: PLW0603  # one writer a process is what makes a group
    if _writer.pid != os.getpid():
        with _writer_lock:
            if _writer.pid != os.getpid():
                _writer = Writer()
    return _writer
