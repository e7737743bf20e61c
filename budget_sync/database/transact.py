"""The one seam for writing: `transact(work)`."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import TypeVar

import peewee

from budget_sync.database.connection import (
    close_connection,
    db,
    open_connection,
    refusal_of,
    roll_back,
)
from budget_sync.database.postgres.pipeline import CommitFailedError
from budget_sync.database.postgres.pool import (
    UNDONE_STATES,
    PostgresServer,
    is_connection_lost,
    state_of,
)
from budget_sync.database.sqlite.group_commit import outcome_unknown, the_writer
from budget_sync.runtime import greenlets

log = logging.getLogger(__name__)

T = TypeVar("T")

#: How often a work is tried on PostgreSQL, where others may be in its way.
TRIES = 5

_UNIQUE_VIOLATION = "23505"


def transact(work: Callable[[], T]) -> T:
    """Run `work` in a transaction and return what it returned, once that is on disk.

    Whatever `work` raises undoes all it did and goes on to the caller. Verbs own their `transact`; what they call never
    begins, commits or rolls back. `work` must keep nothing of the calling request but its arguments: on SQLite it runs on
    another thread, together with others that wait, and on PostgreSQL more than once, where others were in its way. Raises
    RequestError UNAVAILABLE where nothing was done, and OUTCOME_UNKNOWN where it may have been: the commit itself failed (an fsync
    error is no undo), or did not end in time. Then the caller has to ask again.
    """
    if isinstance(db.obj, PostgresServer):
        return _transact_in_postgresql(work)
    return the_writer().run(work)


def _transact_in_postgresql(work: Callable[[], T]) -> T:
    """One transaction on the caller's own connection, tried again as long as it is certain that it was undone."""
    own = greenlets.own()
    if own.get("transacts"):
        raise RuntimeError(
            "a work called transact: verbs own their transaction, what they call never begins one"
        )
    has_own_connection = not db.is_closed()
    own["transacts"] = True
    try:
        for tries_left in reversed(range(TRIES)):
            try:
                return _try(work)
            except peewee.PeeweeException as error:
                if not tries_left or not _is_worth_another_try(error):
                    refusal = refusal_of(error)
                    if refusal is None:
                        raise
                    raise refusal from error
                log.info("A transaction is tried again: %s", error)
            # Who collided once would collide again if both came back at once.
            greenlets.sleep(random.uniform(0.001, 0.01 * 2 ** (TRIES - tries_left)))  # noqa: S311  # no secret
        raise AssertionError("the last try returns or raises")
    finally:
        own["transacts"] = False
        if not has_own_connection:
            close_connection()


def _try(work: Callable[[], T]) -> T:
    open_connection()
    try:
        db.write_prepared("BEGIN", ())
        result = work()
        ended: str = db.commit_prepared()
    except CommitFailedError as failed:
        roll_back()
        if failed.error.sqlstate in UNDONE_STATES:
            with peewee.__exception_wrapper__:  # type: ignore[attr-defined]  # missing from the stubs
                raise failed.error from None
        log.exception("A commit failed; its outcome is unknown.")
        raise outcome_unknown() from failed.error
    except BaseException:
        roll_back()
        raise
    if ended != "COMMIT":
        # PostgreSQL answers the COMMIT of a failed transaction by undoing it, without an error.
        raise RuntimeError(
            "a work went on after an error that had ended its transaction: nothing was saved"
        )
    return result


def _is_worth_another_try(error: peewee.PeeweeException) -> bool:
    """Whether others were in the way, or wrote the same row first, or the connection was lost before the COMMIT was sent."""
    return state_of(error) in UNDONE_STATES | {_UNIQUE_VIOLATION} or is_connection_lost(error)
