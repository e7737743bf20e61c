"""Releases expired reservations before sheets are synced."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

import peewee

from budget_sync.database import unavailable_error
from budget_sync.domain.errors import RequestError
from budget_sync.ledger.expiry import Expired, NotReleasedError, expire_holds
from budget_sync.sync.job import Job

log = logging.getLogger(__name__)

_FAILED = "Expired reservations could not be released"


class ExpiryResult(NamedTuple):
    """How many reservations were released, and what went wrong, as a sentence."""

    released: int
    problem: str | None = None


def expire_before_sync(
    job: Job,
    customer_id: str | None = None,
    *,
    deadline_s: float | None = None,
    report: Callable[[Expired], None] = lambda _: None,
) -> ExpiryResult:
    """Release the expired reservations of a customer, or of all. Never raises.

    A failure is logged and returned, because the sheets must be synced in every case. After
    `deadline_s`, or a request to `job.stop`, the rest is left to the next run.
    """
    ends_at = None if deadline_s is None else time.monotonic() + deadline_s
    released = 0

    def count(expired: Expired) -> None:
        nonlocal released
        released += 1
        report(expired)

    def may_continue() -> bool:
        return not job.stop.by and (ends_at is None or time.monotonic() < ends_at)

    try:
        expire_holds(job.actor, customer_id, count, may_continue)
    except NotReleasedError as error:
        return ExpiryResult(released, str(error))
    except RequestError as error:
        sentence = error.sentence
        log.exception(_FAILED)
    except peewee.PeeweeException as error:
        known = unavailable_error(error)
        sentence = known.sentence if known else _internal_error(error)
        log.exception(_FAILED)
    except Exception as error:
        # Any error, so that the sheets are still synced.
        sentence = _internal_error(error)
        log.exception(_FAILED)
    else:
        return ExpiryResult(released)
    return ExpiryResult(released, f"{_FAILED}: {sentence}")


def _internal_error(error: Exception) -> str:
    return f"Something went wrong on our side ({type(error).__name__}) and was logged."
