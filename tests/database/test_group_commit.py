"""Group commit: jobs share only the commit, and every caller gets a true answer."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import peewee
import pytest
from flask import Flask
from support.machine import wait_until
from support.world import ROOT

from budget_sync import database
from budget_sync.database import audit_log
from budget_sync.database.models import AuditLog
from budget_sync.database.sqlite import group_commit
from budget_sync.domain.errors import Code, RequestError


@pytest.fixture(autouse=True)
def _on_a_database(app: Flask) -> None:
    """Use a new database for each test."""


def note(word: str) -> Callable[[], str]:
    """A job that adds one row."""

    def work() -> str:
        audit_log.record(ROOT, "ADD_USER", customer_id=None, subject=word)
        return word

    return work


def noted() -> list[str]:
    """The subjects of the rows that jobs have added, read on another connection."""
    return [row.subject or "" for row in AuditLog.select(AuditLog.subject).order_by(AuditLog.id)]


class BusyWriter:
    """Keeps the writer thread busy with a job, so that other jobs gather for the next batch."""

    def __init__(self) -> None:
        self.started, self.may_end = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=outcome, args=(self._work,))
        self.thread.start()
        assert self.started.wait(5)

    def _work(self) -> None:
        self.started.set()
        assert self.may_end.wait(20)

    def end(self) -> None:
        """Let the writer continue."""
        self.may_end.set()
        self.thread.join()


@pytest.fixture
def busy_writer() -> Iterator[BusyWriter]:
    """A writer that is busy until the test ends its job."""
    writer = BusyWriter()
    yield writer
    writer.end()


def outcome(work: Callable[[], object]) -> object:
    """The result of transact(work), or the error that it raised."""
    try:
        return database.transact(work)
    except (RequestError, RuntimeError, peewee.PeeweeException) as error:
        return error


def gather(works: list[Callable[[], object]], busy_writer: BusyWriter) -> list[object]:
    """The outcomes of jobs that all wait when the writer begins its next batch."""
    with ThreadPoolExecutor(len(works)) as pool:
        futures = [pool.submit(outcome, work) for work in works]
        wait_until(
            lambda: len(group_commit.writer_thread()._jobs) == len(works),  # noqa: SLF001
            "the jobs are not waiting",
        )
        busy_writer.end()
        return [future.result() for future in futures]


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list with one item per commit."""
    count: list[int] = []
    commit = database.db.obj.commit

    def counted() -> None:
        count.append(1)
        commit()

    monkeypatch.setattr(database.db.obj, "commit", counted)
    return count


def test_waiting_jobs_share_one_commit(busy_writer: BusyWriter, commits: list[int]) -> None:
    words = [f"word {number}" for number in range(20)]
    assert gather([note(word) for word in words], busy_writer) == words
    assert sorted(noted()) == sorted(words)
    # One commit for the busy writer's job and one for the twenty, of which some may have joined the
    # first batch.
    assert len(commits) <= 2


def test_failed_job_rolls_back_only_itself(busy_writer: BusyWriter, commits: list[int]) -> None:
    def forbidden() -> None:
        note("forbidden")()
        raise RequestError(Code.FORBIDDEN, "No.")

    def buggy() -> None:
        note("buggy")()
        raise RuntimeError("a bug")

    def wrong_sql() -> None:
        note("wrong sql")()
        database.db.execute_sql("INSERT INTO nowhere VALUES (1)")

    first, request_error, runtime_error, sql_error, last = gather(
        [note("first"), forbidden, buggy, wrong_sql, note("last")], busy_writer
    )
    assert (first, last) == ("first", "last")
    assert isinstance(request_error, RequestError)
    assert request_error.code is Code.FORBIDDEN
    assert isinstance(runtime_error, RuntimeError)
    assert isinstance(sql_error, peewee.OperationalError)
    assert sorted(noted()) == ["first", "last"]
    assert len(commits) <= 2


class DiskError(Exception):
    """Replaces the driver's exception for a failing disk."""

    sqlite_errorcode = 10


def test_failed_commit_is_outcome_unknown_for_every_job(
    busy_writer: BusyWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise peewee.OperationalError(DiskError("disk I/O error"), "disk I/O error")

    monkeypatch.setattr(database.db.obj, "commit", fail)
    outcomes = gather([note("one"), note("two"), note("three")], busy_writer)
    for error in outcomes:
        assert isinstance(error, RequestError)
        assert error.code is Code.OUTCOME_UNKNOWN
    assert len({id(error) for error in outcomes}) == 3
    monkeypatch.undo()
    assert noted() == []
    assert database.transact(note("again")) == "again"


def test_error_that_ends_the_transaction_fails_the_batch(busy_writer: BusyWriter) -> None:
    def end_transaction() -> None:
        # SQLite does this itself when the disk is full.
        database.db.execute_sql("ROLLBACK")
        raise peewee.OperationalError(
            DiskError("database or disk is full"), "database or disk is full"
        )

    outcomes = gather([note("one"), end_transaction], busy_writer)
    for result in outcomes:
        if result != "one":
            assert isinstance(result, RequestError)
            assert result.code is Code.UNAVAILABLE
    # "one" was either rolled back with the batch and got an error, or saved in an earlier batch.
    assert noted() == (["one"] if "one" in outcomes else [])
    assert database.transact(note("after")) == "after"


def test_batch_that_cannot_begin_fails_all_waiting_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []

    def fail() -> None:
        tries.append(1)
        wait_until(
            lambda: len(group_commit.writer_thread()._jobs) == 2,  # noqa: SLF001
            "the jobs are not waiting",
        )
        raise peewee.OperationalError(
            DiskError("unable to open database file"), "unable to open database file"
        )

    monkeypatch.setattr(database.db.obj, "begin", fail)
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(outcome, [note("one"), note("two")]))
    codes = [error.code for error in outcomes if isinstance(error, RequestError)]
    assert codes == [Code.UNAVAILABLE] * 2
    assert len(tries) == 1
    monkeypatch.undo()
    assert noted() == []
    assert database.transact(note("after")) == "after"


def test_job_that_waited_too_long_never_runs(busy_writer: BusyWriter) -> None:
    began = time.monotonic()
    error = outcome(note("late"))
    assert isinstance(error, RequestError)
    assert error.code is Code.UNAVAILABLE
    assert error.facts["retryAfter"]
    assert time.monotonic() - began >= database.db.busy_timeout_s
    busy_writer.end()
    assert database.transact(note("next")) == "next"
    assert noted() == ["next"]


def test_slow_job_is_outcome_unknown_and_may_be_saved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(group_commit, "GRACE_S", 0.05)
    may_end = threading.Event()

    def slow() -> str:
        assert may_end.wait(20)
        return note("slow")()

    error = outcome(slow)
    assert isinstance(error, RequestError)
    assert error.code is Code.OUTCOME_UNKNOWN
    assert noted() == []
    may_end.set()
    wait_until(lambda: noted() == ["slow"], "the row was lost")


def test_full_queue_rejects_at_once(
    busy_writer: BusyWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "MAX_WAITING", 0)
    error = outcome(note("one too many"))
    assert isinstance(error, RequestError)
    assert error.code is Code.UNAVAILABLE
    busy_writer.end()
    assert noted() == []


def test_dead_writer_thread_is_replaced() -> None:
    assert database.transact(note("before")) == "before"
    dead_thread = threading.Thread(target=lambda: None)
    dead_thread.start()
    dead_thread.join()
    group_commit.writer_thread()._thread = dead_thread  # noqa: SLF001  # as if it had died
    assert database.transact(note("after")) == "after"
    assert noted() == ["before", "after"]


def test_writer_thread_that_dies_while_jobs_wait_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The first thread never runs, as if it had died before it took the job.
    monkeypatch.setattr(threading.Thread, "start", lambda _: monkeypatch.undo())
    writer = group_commit.WriterThread()
    assert writer.run(note("waited")) == "waited"
    assert noted() == ["waited"]


def test_next_batch_runs_after_a_failed_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: object) -> None:
        monkeypatch.undo()
        raise MemoryError

    monkeypatch.setattr(group_commit._Batch, "_run_jobs", fail)  # noqa: SLF001
    assert database.transact(note("first")) == "first"
    assert noted() == ["first"]


def test_transact_inside_transact_is_an_error() -> None:
    error = outcome(lambda: database.transact(note("nested")))
    assert isinstance(error, RuntimeError)
    assert noted() == []


def test_forked_child_gets_a_new_writer_thread() -> None:
    assert database.transact(note("parent")) == "parent"
    child = os.fork()
    if child == 0:
        status = 1
        try:
            # The inherited connection is the parent's: the child must not use or close it.
            database.db.dispose()
            status = 0 if database.transact(note("child")) == "child" else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert database.transact(note("parent again")) == "parent again"
    assert noted() == ["parent", "child", "parent again"]


def test_keyboard_interrupt_in_a_job_reaches_only_its_caller() -> None:
    def interrupted() -> None:
        note("interrupted")()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        database.transact(interrupted)
    assert database.transact(note("next")) == "next"
    assert noted() == ["next"]


def test_lock_file_that_cannot_be_opened_is_unavailable(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("budget_sync"), "propagate", True)
    file = database.db.file_path
    turnstile = file.with_name(f"{file.name}.turnstile")
    turnstile.unlink(missing_ok=True)
    turnstile.mkdir()
    with pytest.raises(RequestError) as raised:
        database.transact(note("never"))
    assert raised.value.code is Code.UNAVAILABLE
    time.sleep(0.2)
    # The writer does not retry in an endless loop.
    assert len(caplog.records) < 5
    turnstile.rmdir()
    assert database.transact(note("afterwards")) == "afterwards"
    assert noted() == ["afterwards"]
