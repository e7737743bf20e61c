"""The feed of events: a page at once, or as soon as something happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from budget_sync import database
from budget_sync.domain.events import EventType
from budget_sync.domain.permissions import Actor
from budget_sync.queries.events import Cursor, EventPage, read_events
from budget_sync.runtime import greenlets, shutdown

#: The longest time that a call may wait for events, in seconds.
MAX_WAIT_S = 25

#: Calls of a worker that may wait at the same time. Further ones get an empty page at once.
MAX_WAITING = 100

#: How often a waiting call looks for events, in seconds.
POLL_S = 0.5

# The pause between two pages without events of the types that are asked for, in seconds.
_PAUSE_S = 0.001


class _Waiting:
    """Counts the calls of this process that wait."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.count = 0

    @contextmanager
    def one_more(self) -> Iterator[bool]:
        """Count a call; yields whether it may wait."""
        with self.lock:
            self.count += 1
            may_wait = self.count <= MAX_WAITING
        try:
            yield may_wait
        finally:
            with self.lock:
                self.count -= 1


_waiting = _Waiting()


def await_events(
    actor: Actor,
    customer_id: str,
    after: Cursor,
    limit: int,
    types: Collection[EventType] | None,
    wait_s: float,
) -> EventPage:
    """A page of events; waits up to `wait_s` if there are none yet.

    While it waits, it holds no thread (on the event loop) and no connection. If the types are rare,
    it reads on until it finds an event, for at most MAX_WAIT_S.
    """
    began = time.monotonic()
    with _waiting.one_more() as may_wait:
        while True:
            page = read_events(actor, customer_id, after, limit, types)
            limit_s = MAX_WAIT_S if page.has_more else wait_s if may_wait else 0
            is_over = time.monotonic() - began >= limit_s or shutdown.is_requested()
            if page.events or is_over:
                return page
            after = page.cursor
            if page.has_more:
                # On the event loop, other calls run between two pages.
                greenlets.sleep(_PAUSE_S)
            else:
                database.end_request()
                greenlets.idle(POLL_S)
                database.open_connection()
