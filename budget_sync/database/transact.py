"""The one seam for writing: `transact(work)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from budget_sync.database.writer import the_writer

T = TypeVar("T")


def transact(work: Callable[[], T]) -> T:
    """Run `work` in a transaction and return what it returned, once that is on disk.

    Whatever `work` raises undoes all it did and goes on to the caller. Verbs own their `transact`; what they call never
    begins, commits or rolls back. `work` runs on another thread, together with others that wait, so it must keep nothing of
    the calling request but its arguments. Raises Refusal UNAVAILABLE where nothing was done, and OUTCOME_UNKNOWN where it may
    have been: the commit itself failed (an fsync error is no undo), or did not end in time. Then the caller has to ask again.
    """
    return the_writer().run(work)
