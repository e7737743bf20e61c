"""`transact(work)`: the only way to write to the database."""

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
    roll_back,
    unavailable_error,
)
from budget_sync.database.errors import NESTED_TRANSACT, outcome_unknown
from budget_sync.database.postgres.pipeline import CommitFailedError
from budget_sync.database.postgres.pool import (
    RETRYABLE_STATES,
    PostgresServer,
    is_connection_lost,
    sqlstate,
)
from budget_sync.database.sqlite.group_commit import writer_thread
from budget_sync.runtime import greenlets

log = logging.getLogger(__name__)

T = TypeVar("T")

#: How often a transaction is tried on PostgreSQL, where concurrent transactions may conflict.
TRIES = 5

_UNIQUE_VIOLATION = "23505"


def transact(work: Callable[[], T]) -> T:
    """Run `work` in a transaction and return its result once that is durable.

    Any exception from `work` rolls back everything it did and is raised to the caller. Functions
    that `work` calls never call `transact`, and never begin, commit or roll back.

    `work` may use only its arguments, not the current request. On SQLite it runs on the writer
    thread, in one transaction with other jobs. On PostgreSQL it runs again after a conflict.

    Raises RequestError UNAVAILABLE if nothing was saved, and OUTCOME_UNKNOWN if the data may have
    been saved: the commit itself failed (an fsync error does not undo it) or did not finish in
    time. Then the caller must send the request again.
    """
    if isinstance(db.obj, PostgresServer):
        return _transact_on_postgresql(work)
    return writer_thread().run(work)


def start_writer() -> None:
    """On SQLite, start this process's writer thread, with the priority of the calling thread."""
    if not isinstance(db.obj, PostgresServer):
        writer_thread().start()


def _transact_on_postgresql(work: Callable[[], T]) -> T:
    """Run one transaction on the caller's connection; retry while it was certainly rolled back."""
    local_vars = greenlets.local_vars()
    if local_vars.get("transacts"):
        raise RuntimeError(NESTED_TRANSACT)
    had_connection = not db.is_closed()
    local_vars["transacts"] = True
    try:
        for tries_left in reversed(range(TRIES)):
            try:
                return _try(work)
            except peewee.PeeweeException as error:
                if not tries_left or not _is_retryable(error):
                    request_error = unavailable_error(error)
                    if request_error is None:
                        raise
                    raise request_error from error
                log.info("Retrying a transaction: %s", error)
            # Two transactions that collided would collide again if both returned at once.
            longest_s = 0.01 * 2 ** (TRIES - tries_left)
            greenlets.sleep(random.uniform(0.001, longest_s))  # noqa: S311  # not a secret
        raise AssertionError("the last try returns or raises")
    finally:
        local_vars["transacts"] = False
        if not had_connection:
            close_connection()


def _try(work: Callable[[], T]) -> T:
    open_connection()
    try:
        db.write_prepared("BEGIN", ())
        result = work()
        command: str = db.commit_prepared()
    except CommitFailedError as failed:
        roll_back()
        if failed.error.sqlstate in RETRYABLE_STATES:
            with peewee.__exception_wrapper__:  # type: ignore[attr-defined]  # not in the stubs
                raise failed.error from None
        log.exception("A commit failed; its outcome is unknown.")
        raise outcome_unknown() from failed.error
    except BaseException:
        roll_back()
        raise
    if command != "COMMIT":
        # PostgreSQL answers the COMMIT of a failed transaction with ROLLBACK, without an error.
        raise RuntimeError(
            "the work continued after a database error that ended its transaction: "
            "nothing was saved"
        )
    return result


def _is_retryable(error: peewee.PeeweeException) -> bool:
    """Whether the transaction was certainly rolled back and may succeed if tried again.

    True for a conflict with another transaction, for a row that another transaction inserted first,
    and for a connection that was lost before the COMMIT was sent.
    """
    return sqlstate(error) in RETRYABLE_STATES | {_UNIQUE_VIOLATION} or is_connection_lost(error)
