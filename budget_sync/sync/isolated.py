"""Calls the sync in a child process, with a database connection of the child's own."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self, TypeVar

import peewee

from budget_sync.database import (
    close_connection,
    connect,
    open_connection,
    start_writer,
    unavailable_error,
)
from budget_sync.runtime import isolate
from budget_sync.settings import Settings
from budget_sync.sync.source import Source

if TYPE_CHECKING:
    from budget_sync.sync.job import Job


class Result(Protocol):
    """What a child returns."""

    def cut(self) -> Self:
        """A copy of bounded size, with all that pages show."""


T = TypeVar("T", bound=Result)

#: A run ends itself when its time is over. The child gets this many seconds more, to start and to
#: record the run.
EXTRA_S = 10.0


class Database(NamedTuple):
    """The database that a child connects to: the URL on PostgreSQL, the file on SQLite."""

    target: Path | str
    busy_timeout_s: float

    @classmethod
    def of(cls, settings: Settings) -> Database:
        """The database of this installation."""
        return cls(settings.database, settings.busy_timeout_s)


def call(database: Database, work: Callable[[Job, Source], T], job: Job, source: Source) -> T:
    """Call `work` in a child process. Raises what it raises, and IsolatedError.

    This thread's database connection is closed in the meantime, so that others can use it.
    """
    close_connection()
    try:
        limit_s = job.reach.deadline_s + EXTRA_S
        result: T = isolate.call(_in_child, database, work, job, source, timeout_s=limit_s)
    finally:
        open_connection()
    return result


def _in_child(database: Database, work: Callable[[Job, Source], T], job: Job, source: Source) -> T:
    """Connect, and call `work`; SIGTERM cancels it.

    The result is cut: the parent holds its interpreter's lock while it unpickles the result, which
    takes a second for a line about each of 200,000 rows.
    """
    signal.signal(signal.SIGTERM, lambda number, _: job.stop.request(signal.Signals(number)))
    connect(database.target, busy_timeout_s=database.busy_timeout_s)
    # The writers of other processes wait for the writer thread.
    isolate.at_normal_priority(start_writer)
    try:
        return work(job, source).cut()
    except peewee.PeeweeException as error:
        # Its cause, which says what the error means, does not reach the parent.
        raise unavailable_error(error) or error from error
    finally:
        close_connection()
