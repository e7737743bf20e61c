"""Records when an API key was last used, at most once a minute and without delaying its request."""

from __future__ import annotations

import contextvars
import logging
import threading
from datetime import datetime, timedelta

from budget_sync.database import transact
from budget_sync.database.models import ApiKey
from budget_sync.domain import clock
from budget_sync.runtime import greenlets

log = logging.getLogger(__name__)

#: How old the recorded time may become while a key is in use.
INTERVAL = timedelta(minutes=1)

#: How long a request waits for the write at most, so that a list shows the key's first use at once.
#: Calls of the ledger run in greenlets and do not wait.
MAX_WAIT_S = 0.1

#: When this process last wrote, by key id. It has only valid keys, so it stays small.
written_at: dict[str, datetime] = {}


def is_due(key_id: str) -> bool:
    """Whether this process has not recorded the use of a key for INTERVAL."""
    previous = written_at.get(key_id)
    return previous is None or not timedelta(0) <= clock.now() - previous < INTERVAL


def record(key_id: str) -> None:
    """Record that a valid key is in use.

    The write has a thread of its own. If it fails, that is only logged: the request goes on, and
    the next try is after INTERVAL.
    """
    now = clock.now()
    written_at[key_id] = now
    is_done = threading.Event()

    def run() -> None:
        try:
            transact(lambda: _write(key_id, now))
        except Exception as error:  # noqa: BLE001  # a request must not depend on this write
            log.warning("The last use of API key %s was not recorded: %s", key_id, error)
        finally:
            is_done.set()

    try:
        threading.Thread(
            target=contextvars.copy_context().run, args=(run,), name="key-last-use", daemon=True
        ).start()
    except RuntimeError as error:
        log.warning("The last use of API key %s was not recorded: %s", key_id, error)
        return
    if not greenlets.in_greenlet():
        is_done.wait(MAX_WAIT_S)


def _write(key_id: str, now: datetime) -> None:
    """Store the time, unless another process stored one in the last INTERVAL.

    A stored time in the future comes from a clock that was wrong, and is replaced.
    """
    is_old = ApiKey.lastUsedAt.is_null() | (ApiKey.lastUsedAt <= now - INTERVAL)
    is_in_future = ApiKey.lastUsedAt > now
    ApiKey.update(lastUsedAt=now).where((ApiKey.id == key_id) & (is_old | is_in_future)).execute()
