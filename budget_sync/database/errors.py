"""The errors that callers of this folder see, the same for both engines."""

from __future__ import annotations

from budget_sync.domain.errors import Code, RequestError

#: How long a client should wait before it retries, in seconds, when the database is unavailable.
RETRY_AFTER_S = 2

#: The text of the RuntimeError for a transaction inside another one.
NESTED_TRANSACT = (
    "transact() was called inside transact(): only the outermost function may begin a transaction"
)


class DatabaseUnusableError(Exception):
    """The database cannot be used as it is. The text is one line: what is wrong and what to do."""


def unavailable(why: str) -> RequestError:
    """The error for a transaction of which nothing was saved and nothing will be."""
    return RequestError(
        Code.UNAVAILABLE,
        f"{why} Nothing was changed; please try again shortly.",
        retryAfter=RETRY_AFTER_S,
    )


def outcome_unknown() -> RequestError:
    """The error for a transaction that may or may not have been saved."""
    return RequestError(
        Code.OUTCOME_UNKNOWN,
        "The database failed while it was saving, so the outcome is unknown. "
        "Send the same request again: it will not be done twice.",
        retryAfter=RETRY_AFTER_S,
    )
