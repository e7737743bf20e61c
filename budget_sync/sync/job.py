"""How sync runs are called, and the exceptions that end one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from budget_sync.domain.permissions import Actor, Role
from budget_sync.sync import isolated
from budget_sync.sync.cancel import Cancellation
from budget_sync.sync.source import Reach, Source

T = TypeVar("T", bound=isolated.Result)

#: Called with the current step of a sync run.
Say = Callable[[str], None]


class Skipped(Exception):
    """A sync run that must not happen; the text says why."""


@dataclass(frozen=True, slots=True)
class Job:
    """How to run syncs.

    `allow_deletes` answers held deletions. With `child_database`, each source is read, planned and
    written in a child process, which connects to that database. Commands need none: they are a
    process of their own.
    """

    actor: Actor
    reach: Reach
    lock_folder: Path
    allow_deletes: bool = False
    say: Say | None = None
    stop: Cancellation = field(default_factory=Cancellation)
    child_database: isolated.Database | None = None

    def call(self, work: Callable[[Job, Source], T], source: Source) -> T:
        """Call `work` in a child process, or in this one. Raises IsolatedError."""
        if self.child_database is None:
            return work(self, source)
        job = replace(self, child_database=None, say=None)
        return isolated.call(self.child_database, work, job, source)

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
