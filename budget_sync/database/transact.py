"""The one seam for writing: `transact(work)`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import peewee

from budget_sync.database.connection import RETRY_AFTER_S, close_connection, db, open_connection, refusal_of
from budget_sync.refusals import Code, Refusal

log = logging.getLogger(__name__)

T = TypeVar("T")


def transact(work: Callable[[], T]) -> T:
    """Run `work` in a transaction and return what it returned, once that is on disk.

    Whatever `work` raises undoes all it did and goes on to the caller. Verbs own their `transact`; what they call never
    begins, commits or rolls back. `work` may be run on another thread and together with others, so it must not keep anything
    of the calling request but its arguments. Raises Refusal UNAVAILABLE where nothing was done, and OUTCOME_UNKNOWN where the
    commit itself failed: the rows may be there all the same (an fsync error is not an undo), so the caller must ask again.
    """
    try:
        open_connection()
        db.begin()
    except peewee.PeeweeException as error:
        raise _refused(error) from error
    try:
        result = work()
    except peewee.PeeweeException as error:
        _roll_back()
        raise _refused(error) from error
    except BaseException:
        _roll_back()
        raise
    try:
        db.commit()
    except peewee.PeeweeException as error:
        log.exception("A commit failed; its outcome is unknown.")
        _roll_back()
        raise Refusal(
            Code.OUTCOME_UNKNOWN,
            "The database failed while it was saving, so the outcome is unknown. Send the same request again: it will not be done twice.",
            retryAfter=RETRY_AFTER_S,
        ) from error
    return result


def _refused(error: peewee.PeeweeException) -> Exception:
    return refusal_of(error) or error


def _roll_back() -> None:
    """Undo what is open. A full disk or an I/O error may have ended the transaction already; a connection that cannot is given up."""
    try:
        if db.connection().in_transaction:
            db.rollback()
    except peewee.PeeweeException:
        log.warning("A rollback failed; the connection is given up.", exc_info=True)
        close_connection()
