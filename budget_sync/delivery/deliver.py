"""The service that delivers events to webhooks, each in order and at least once.

A thread delivers to each webhook that has something to deliver, so that a receiver that hangs
delays no other. It holds no database connection while it sends. After each attempt, one transaction
stores the result and moves the webhook's cursor. So if the process is killed at any point, the next
one repeats at most the event that was being sent, with the same id.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import peewee

from budget_sync import database
from budget_sync.database import DatabaseUnusableError, Horizon, horizon
from budget_sync.database.delivery_models import Webhook
from budget_sync.database.models import Customer
from budget_sync.delivery import addresses, attempts, signatures
from budget_sync.delivery.addresses import Resolve
from budget_sync.delivery.news import News
from budget_sync.delivery.post import Answer, Sender
from budget_sync.delivery.webhooks import ADDRESS_REJECTED, valid_secrets
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import DELIVERY
from budget_sync.domain.results import dumps
from budget_sync.queries.event_rows import Event
from budget_sync.queries.events import (
    Cursor,
    EventPage,
    parse_types,
    read_events,
)

log = logging.getLogger(__name__)

#: How often to look for events, in seconds.
POLL_S = 0.5

#: Threads that deliver at the same time, and how many of them may try a webhook that failed before.
MAX_THREADS = 128
MAX_RETRYING = 96

#: How long a webhook waits after the database could not store its last attempt, in seconds.
#: Otherwise, the receiver would get the same event in each round.
HOLD_S = 10.0

#: How long the requests in progress may take after SIGTERM, and then their threads, in seconds.
FINISH_S = 2.0
END_S = 1.0

#: The cursor of a webhook is stored after this many rows that were no event for it.
STORE_AFTER_ROWS = 1000

# A page is read again if the process ends before all of its events are delivered.
_PAGE_SIZE = 50

# The database is busy, full, down, or was replaced by another.
_DATABASE_ERRORS = (RequestError, peewee.PeeweeException, DatabaseUnusableError, OSError)

#: Work that is done between the deliveries. It returns the number of things that were done.
Job = Callable[[], int]


@dataclass
class Counts:
    """The number of events delivered, and of failed attempts."""

    delivered: int = 0
    failed: int = 0

    @property
    def sentence(self) -> str:
        """For the output of the command."""
        events = f"{self.delivered:,} event{'s' * (self.delivered != 1)}"
        return f"Delivered {events}; {self.failed:,} attempt{'s' * (self.failed != 1)} failed."


@dataclass
class _Delivery:
    """A webhook that a thread delivers to."""

    webhook: Webhook
    sender: Sender
    thread: threading.Thread | None = None


@dataclass
class Deliverer:
    """Delivers until it is stopped. Call it from one thread.

    `jobs` run in each round, each in a separate thread and never twice at the same time.
    """

    private_networks: bool
    jobs: Sequence[Job] = ()
    resolve: Resolve = addresses.resolve
    counts: Counts = field(default_factory=Counts)
    is_stopping: bool = False
    _deliveries: dict[str, _Delivery] = field(default_factory=dict)
    _running: dict[int, threading.Thread] = field(default_factory=dict)
    #: Until when a webhook waits for the database.
    _held_until: dict[str, float] = field(default_factory=dict)
    _news: News = field(default_factory=News)
    _is_troubled: bool = False
    _counting: threading.Lock = field(default_factory=threading.Lock)

    def stop(self) -> None:
        """Stop within seconds. May be called from a signal handler, so it must not take a lock."""
        self.is_stopping = True

    def run(self, may_continue: Callable[[], bool]) -> None:
        """Deliver until stopped or until `may_continue` is false. A database error ends nothing."""
        while not self.is_stopping and may_continue():
            try:
                self.start_jobs()
                self.round()
                self._is_troubled = False
            except _DATABASE_ERRORS as error:
                if not self._is_troubled:
                    log.warning("The database is not available for the delivery: %s", error)
                self._is_troubled = True
                database.close_connection()
            time.sleep(POLL_S)
        self.finish()

    def run_once(self) -> None:
        """Deliver what is due now and do the jobs once; return when all was tried."""
        self.start_jobs()
        while self.round() and not self.is_stopping:
            self._wait_for(self._deliveries)
        self._wait_for(self._running)
        self.finish()

    def _wait_for(self, running: Collection[object]) -> None:
        while running and not self.is_stopping:
            time.sleep(0.02)
            self._forget_ended()

    def start_jobs(self) -> None:
        """Start the jobs that are not running."""
        self._forget_ended()
        for number, job in enumerate(self.jobs):
            if number not in self._running:
                self._running[number] = _start_thread(_logged, job)

    def round(self) -> int:
        """Start what is due; returns the number of threads that were started."""
        # Before the webhooks are read: if a thread ends later, its webhook is out of date.
        self._forget_ended()
        database.open_connection()
        try:
            webhooks = _active_webhooks()
            if not webhooks:
                return 0
            at = horizon()
            if not any(at.settled):
                # Nothing has happened, or PostgreSQL is not known to have settled anything yet.
                return 0
            self._news.read(at)
        finally:
            database.end_request()
        now = clock.now()
        due = [webhook for webhook in webhooks if self._is_due(webhook, now)]
        # Those that work come first.
        due.sort(key=lambda webhook: (webhook.attempts > 0, webhook.lastDeliveredAt or now))
        return sum(self._begin(webhook, at) for webhook in due)

    def _forget_ended(self) -> None:
        for number, thread in list(self._running.items()):
            if not thread.is_alive():
                del self._running[number]
        for key, delivery in list(self._deliveries.items()):
            if delivery.thread is not None and not delivery.thread.is_alive():
                del self._deliveries[key]

    def _is_due(self, webhook: Webhook, now: datetime) -> bool:
        is_held = self._held_until.get(webhook.id, 0.0) > time.monotonic()
        if is_held or webhook.id in self._deliveries:
            return False
        if webhook.attempts:
            return webhook.nextAttemptAt is None or webhook.nextAttemptAt <= now
        return self._news.has_any(webhook)

    def _begin(self, webhook: Webhook, at: Horizon) -> bool:
        """Start a thread for a webhook, unless too many are running.

        Pauses it if its address is no longer accepted, for example after an upgrade.
        """
        running = list(self._deliveries.values())
        retrying = sum(delivery.webhook.attempts > 0 for delivery in running)
        if len(running) >= MAX_THREADS or (webhook.attempts and retrying >= MAX_RETRYING):
            return False
        try:
            destination = addresses.parse_url(webhook.url)
        except RequestError as error:
            problem = "; ".join(error.fields.values())
            attempts.pause(
                webhook,
                f"{ADDRESS_REJECTED}: it {problem}. Add a webhook with another address, and "
                "remove this one.",
            )
            return False
        sender = Sender(
            destination,
            private_networks=self.private_networks,
            resolve=self.resolve,
        )
        delivery = _Delivery(webhook, sender)
        self._deliveries[webhook.id] = delivery
        delivery.thread = _start_thread(self._deliver, delivery, self._news.position(webhook), at)
        return True

    def _deliver(self, delivery: _Delivery, position: Cursor, at: Horizon) -> None:
        """Deliver the events of a webhook up to a horizon, until one fails. Runs in a thread."""
        try:
            with delivery.sender:
                self._deliver_pages(delivery, position, at)
        except _DATABASE_ERRORS as error:
            self._held_until[delivery.webhook.id] = time.monotonic() + HOLD_S
            log.warning("Webhook %s waits for the database: %s", delivery.webhook.id, error)
        except Exception:
            self._held_until[delivery.webhook.id] = time.monotonic() + HOLD_S
            log.exception("The delivery to webhook %s failed.", delivery.webhook.id)
        finally:
            database.close_connection()

    def _deliver_pages(self, delivery: _Delivery, position: Cursor, at: Horizon) -> None:
        while not self.is_stopping:
            page = _read_page(delivery.webhook, position, at)
            if page is None:
                return
            for event, after in zip(page.events, page.cursors, strict=True):
                if not self._deliver_event(delivery, event, after):
                    return
            if page.cursor.sync_id < at.settled.sync and not (page.events or page.has_more):
                self._news.note_unfinished_run(delivery.webhook)
            position = page.cursor
            passed_rows = self._news.note_position(delivery.webhook, position)
            if not page.has_more:
                if passed_rows >= STORE_AFTER_ROWS:
                    attempts.pass_events(delivery.webhook, position)
                return

    def _deliver_event(self, delivery: _Delivery, event: Event, after: Cursor) -> bool:
        """Send an event and store the result; False if the next one may not be sent now."""
        if self.is_stopping:
            return False
        answer = _send(delivery, event)
        if answer.error and self.is_stopping:
            # It may have been interrupted. It is sent again after the next start.
            return False
        recorded = attempts.record(delivery.webhook, event, answer, after)
        with self._counting:
            self.counts.delivered += answer.error is None
            self.counts.failed += answer.error is not None
        if recorded is None or answer.error is not None:
            return False
        delivery.webhook = recorded.webhook
        return True

    def finish(self) -> None:
        """End the threads: let requests in progress end for a moment, then interrupt them."""
        self._join(FINISH_S)
        for delivery in list(self._deliveries.values()):
            delivery.sender.abort()
        self._join(END_S)

    def _join(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        threads = [each.thread for each in self._deliveries.values()]
        for thread in [*threads, *self._running.values()]:
            if thread is not None:
                thread.join(max(deadline - time.monotonic(), 0))


def _active_webhooks() -> list[Webhook]:
    """The webhooks of all customers that may get events."""
    return list(
        Webhook.select()
        .join(Customer, on=(Customer.id == Webhook.customerId))
        .where(
            Webhook.removedAt.is_null(),
            Webhook.pausedAt.is_null(),
            Customer.disabledAt.is_null(),
        )
    )


def _read_page(webhook: Webhook, position: Cursor, at: Horizon) -> EventPage | None:
    """The next events of a webhook; None if it was paused, because its cursor is not valid."""
    types = None if webhook.types is None else parse_types(webhook.types)
    database.open_connection()
    try:
        return read_events(DELIVERY, webhook.customerId, position, _PAGE_SIZE, types, at=at)
    except RequestError as error:
        if error.code is not Code.INVALID_REQUEST:
            raise
        attempts.pause(webhook, error.sentence)
        return None
    finally:
        database.close_connection()


def _send(delivery: _Delivery, event: Event) -> Answer:
    body = dumps(event.to_json()).encode()
    secrets = valid_secrets(delivery.webhook)
    headers = signatures.signed_headers(event.id, int(time.time()), body, secrets)
    return delivery.sender.post(body, headers)


def _logged(job: Job) -> None:
    """Run a job. An error is logged, and the job runs again in the next round."""
    try:
        job()
    except Exception:
        log.exception("A job of the delivery failed.")
    finally:
        database.close_connection()


def _start_thread(work: Callable[..., None], *arguments: object) -> threading.Thread:
    """Start a thread that has the log id of this one."""
    run = contextvars.copy_context().run
    thread = threading.Thread(target=run, args=(work, *arguments), daemon=True)
    thread.start()
    return thread
