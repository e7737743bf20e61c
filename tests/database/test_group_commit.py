"""Group commit: works share a commit and nothing else, and no caller is told anything that is not so."""

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
    """Every test here writes to a database of its own."""


def note(word: str) -> Callable[[], str]:
    """A work that leaves one row."""

    def work() -> str:
        audit_log.record(ROOT, "ADD_USER", customer_id=None, subject=word)
        return word

    return work


def noted() -> list[str]:
    """The rows that works have left, as another connection sees them."""
    return [row.subject or "" for row in AuditLog.select(AuditLog.subject).order_by(AuditLog.id)]


class Held:
    """Keeps the writer busy with a work, so that others gather into the next batch."""

    def __init__(self) -> None:
        self.started, self.may_end = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=outcome, args=(self._work,))
        self.thread.start()
        assert self.started.wait(5)

    def _work(self) -> None:
        self.started.set()
        assert self.may_end.wait(20)

    def end(self) -> None:
        """Let the writer go on."""
        self.may_end.set()
        self.thread.join()


@pytest.fixture
def held() -> Iterator[Held]:
    """A writer that is busy until the test lets it go on."""
    busy = Held()
    yield busy
    busy.end()


def outcome(work: Callable[[], object]) -> object:
    """What transact says of a work: its result, or the error it raised."""
    try:
        return database.transact(work)
    except (RequestError, RuntimeError, peewee.PeeweeException) as error:
        return error


def gather(works: list[Callable[[], object]], held: Held) -> list[object]:
    """The outcomes of works that were all waiting when the writer came to them."""
    with ThreadPoolExecutor(len(works)) as pool:
        futures = [pool.submit(outcome, work) for work in works]
        wait_until(
            lambda: len(group_commit.the_writer()._jobs) == len(works),  # noqa: SLF001
            "the works are not waiting",
        )
        held.end()
        return [future.result() for future in futures]


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every commit."""
    count: list[int] = []
    commit = database.db.obj.commit

    def counted() -> None:
        count.append(1)
        commit()

    monkeypatch.setattr(database.db.obj, "commit", counted)
    return count


def test_works_that_wait_together_share_one_commit(held: Held, commits: list[int]) -> None:
    words = [f"word {number}" for number in range(20)]
    assert gather([note(word) for word in words], held) == words
    assert sorted(noted()) == sorted(words)
    # The held work's own, and one for all twenty, but for those that came while its batch still took works.
    assert len(commits) <= 2


def test_a_refusal_inside_a_batch_undoes_only_itself(held: Held, commits: list[int]) -> None:
    def refused() -> None:
        note("refused")()
        raise RequestError(Code.FORBIDDEN, "No.")

    def mistaken() -> None:
        note("mistaken")()
        raise RuntimeError("a mistake")

    def broken() -> None:
        note("broken")()
        database.db.execute_sql("INSERT INTO nowhere VALUES (1)")

    first, no, mistake, sql, last = gather(
        [note("first"), refused, mistaken, broken, note("last")], held
    )
    assert (first, last) == ("first", "last")
    assert isinstance(no, RequestError)
    assert no.code is Code.FORBIDDEN
    assert isinstance(mistake, RuntimeError)
    assert isinstance(sql, peewee.OperationalError)
    assert sorted(noted()) == ["first", "last"]
    assert len(commits) <= 2


class DiskError(Exception):
    """Stands in for the driver's exception of a failing disk."""

    sqlite_errorcode = 10


def test_a_failed_commit_answers_every_work_outcome_unknown(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise peewee.OperationalError(DiskError("disk I/O error"), "disk I/O error")

    monkeypatch.setattr(database.db.obj, "commit", fail)
    outcomes = gather([note("one"), note("two"), note("three")], held)
    for told in outcomes:
        assert isinstance(told, RequestError)
        assert told.code is Code.OUTCOME_UNKNOWN
    assert len({id(told) for told in outcomes}) == 3
    monkeypatch.undo()
    assert noted() == []
    assert database.transact(note("again")) == "again"


def test_an_error_that_ends_the_transaction_gives_up_the_whole_batch(held: Held) -> None:
    def ends_it() -> None:
        # What SQLite does by itself when the disk is full.
        database.db.execute_sql("ROLLBACK")
        raise peewee.OperationalError(
            DiskError("database or disk is full"), "database or disk is full"
        )

    outcomes = gather([note("one"), ends_it], held)
    for told in outcomes:
        if told != "one":
            assert isinstance(told, RequestError)
            assert told.code is Code.UNAVAILABLE
    # "one" may have shared the batch, and then it was undone and told so; or it came before, and stands.
    assert noted() == (["one"] if "one" in outcomes else [])
    assert database.transact(note("after")) == "after"


def test_a_batch_that_cannot_begin_answers_all_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []

    def fail() -> None:
        tries.append(1)
        wait_until(lambda: len(group_commit.the_writer()._jobs) == 2, "the works are not waiting")  # noqa: SLF001  # to see the group form
        raise peewee.OperationalError(
            DiskError("unable to open database file"), "unable to open database file"
        )

    monkeypatch.setattr(database.db.obj, "begin", fail)
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(outcome, [note("one"), note("two")]))
    assert [told.code for told in outcomes if isinstance(told, RequestError)] == [
        Code.UNAVAILABLE
    ] * 2
    assert len(tries) == 1
    monkeypatch.undo()
    assert noted() == []
    assert database.transact(note("after")) == "after"


def test_a_work_that_waited_too_long_is_refused_and_never_runs(held: Held) -> None:
    began = time.monotonic()
    told = outcome(note("late"))
    assert isinstance(told, RequestError)
    assert told.code is Code.UNAVAILABLE
    assert told.facts["retryAfter"]
    assert time.monotonic() - began >= database.db.patience_s
    held.end()
    assert database.transact(note("next")) == "next"
    assert noted() == ["next"]


def test_a_work_that_runs_too_long_is_called_unknown_and_may_still_be_saved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(group_commit, "GRACE_S", 0.05)
    may_end = threading.Event()

    def slow() -> str:
        assert may_end.wait(20)
        return note("slow")()

    told = outcome(slow)
    assert isinstance(told, RequestError)
    assert told.code is Code.OUTCOME_UNKNOWN
    assert noted() == []
    may_end.set()
    wait_until(lambda: noted() == ["slow"], "the work was lost")


def test_a_full_queue_refuses_at_once(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "MAX_WAITING", 0)
    told = outcome(note("one too many"))
    assert isinstance(told, RequestError)
    assert told.code is Code.UNAVAILABLE
    held.end()
    assert noted() == []


def test_a_writer_thread_that_died_is_replaced() -> None:
    assert database.transact(note("before")) == "before"
    corpse = threading.Thread(target=lambda: None)
    corpse.start()
    corpse.join()
    group_commit.the_writer()._thread = corpse  # noqa: SLF001  # as if it had died
    assert database.transact(note("after")) == "after"
    assert noted() == ["before", "after"]


def test_a_writer_thread_that_dies_while_works_wait_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Started, and gone before it took anything: what a work is left with when its writer dies.
    monkeypatch.setattr(threading.Thread, "start", lambda _: monkeypatch.undo())
    fresh = group_commit.Writer()
    assert fresh.run(note("waited")) == "waited"
    assert noted() == ["waited"]


def test_a_batch_that_fails_outside_of_any_work_is_answered_and_the_next_one_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: object) -> None:
        monkeypatch.undo()
        raise MemoryError

    monkeypatch.setattr(group_commit._Batch, "_run_jobs", fail)  # noqa: SLF001  # a fault that no work causes
    assert database.transact(note("first")) == "first"
    assert noted() == ["first"]


def test_a_work_cannot_begin_a_transaction_of_its_own() -> None:
    told = outcome(lambda: database.transact(note("nested")))
    assert isinstance(told, RuntimeError)
    assert noted() == []


def test_a_forked_child_has_a_writer_of_its_own() -> None:
    assert database.transact(note("parent")) == "parent"
    child = os.fork()
    if child == 0:
        status = 1
        try:
            # The connection it was born with is its parent's: never used, never closed.
            database.db.dispose()
            status = 0 if database.transact(note("child")) == "child" else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert database.transact(note("parent again")) == "parent again"
    assert noted() == ["parent", "child", "parent again"]


def test_a_keyboard_interrupt_in_a_work_is_its_callers_alone() -> None:
    def interrupted() -> None:
        note("interrupted")()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        database.transact(interrupted)
    assert database.transact(note("next")) == "next"
    assert noted() == ["next"]


def test_a_lock_that_cannot_be_had_is_a_refusal_each_and_no_endless_loop(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("budget_sync"), "propagate", True)
    file = database.db.file_path
    turnstile = file.with_name(f"{file.name}.turnstile")
    turnstile.unlink(missing_ok=True)
    turnstile.mkdir()
    with pytest.raises(RequestError) as refused:
        database.transact(note("never"))
    assert refused.value.code is Code.UNAVAILABLE
    time.sleep(0.2)
    assert len(caplog.records) < 5
    turnstile.rmdir()
    assert database.transact(note("afterwards")) == "afterwards"
    assert noted() == ["afterwards"]
