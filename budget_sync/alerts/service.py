"""The job of alerts in `flask deliver`: stores messages, and sends them in separate threads.

A thread sends the messages of one alert, so that a mail server that hangs delays no other alert and
no webhook.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from budget_sync import database
from budget_sync.alerts.collect import Collector, active_alerts
from budget_sync.alerts.send import Due, Outcome, due_alerts, send_due

log = logging.getLogger(__name__)

#: Threads that send at the same time, and how many of them may try an alert that failed before.
MAX_THREADS = 32
MAX_RETRYING = 24

#: How long an alert waits after an unexpected error, in seconds.
HOLD_S = 10.0

#: How long a message in progress may take after SIGTERM, in seconds.
FINISH_S = 5.0


class Alerts:
    """Collects and sends. `job` is for `Deliverer.jobs`; `finish` comes after the deliverer."""

    def __init__(self, public_url: str | None, *, private_networks: bool) -> None:
        self._collector = Collector(public_url)
        self._private_networks = private_networks
        self._threads: dict[str, threading.Thread] = {}
        self._retrying: set[str] = set()
        self._held_until: dict[str, float] = {}
        self._counting = threading.Lock()
        self.outcome = Outcome()
        self.is_stopping = False
        self._is_finishing = False

    def stop(self) -> None:
        """Stop after the messages in progress. May be called from a signal handler."""
        self.is_stopping = True

    def job(self) -> int:
        """Store what is new, and start to send what is due; returns the number of messages."""
        count = self._collector.collect()
        self.start_due()
        return count

    def job_once(self) -> int:
        """Store what is new, and send what is due; returns the number of messages."""
        count = self.job()
        while self._threads and not self.is_stopping:
            for thread in list(self._threads.values()):
                thread.join(0.1)
            self.start_due()
        return count

    def finish(self) -> None:
        """End the threads: wait for the messages in progress for a moment."""
        self._is_finishing = True
        deadline = time.monotonic() + FINISH_S
        for thread in list(self._threads.values()):
            thread.join(max(deadline - time.monotonic(), 0))
        self._is_finishing = False

    @property
    def sentence(self) -> str:
        """The number of messages, for the output of the command; empty if there was none."""
        sent, failed = self.outcome
        if not sent and not failed:
            return ""
        messages = f"{sent:,} message{'s' * (sent != 1)}"
        return f"Sent {messages} of alerts; {failed:,} attempt{'s' * (failed != 1)} failed."

    def start_due(self) -> None:
        """Start a thread for each alert with due messages, unless too many are running."""
        for alert_id, thread in list(self._threads.items()):
            if not thread.is_alive():
                del self._threads[alert_id]
                self._retrying.discard(alert_id)
        if self.is_stopping:
            return
        for alert, attempts in self._due():
            is_retry = attempts > 0
            if len(self._threads) >= MAX_THREADS:
                return
            if is_retry and len(self._retrying) >= MAX_RETRYING:
                continue
            if is_retry:
                self._retrying.add(alert.id)
            thread = threading.Thread(
                target=self._send, args=(alert,), name="budget-sync-alert", daemon=True
            )
            self._threads[alert.id] = thread
            thread.start()

    def _due(self) -> list[tuple[Any, int]]:
        """The alerts with due messages that no thread sends for; those that work come first."""
        database.open_connection()
        try:
            due: dict[str, Due] = {each.alert_id: each for each in due_alerts()}
            waiting = due.keys() - self._threads.keys()
            alerts = active_alerts() if waiting else []
        finally:
            database.close_connection()
        now = time.monotonic()
        found = [
            (alert, due[alert.id].attempts)
            for alert in alerts
            if alert.id in waiting and self._held_until.get(alert.id, 0.0) <= now
        ]
        return sorted(found, key=lambda each: each[1] > 0)

    def _send(self, alert: Any) -> None:
        try:
            done = send_due(
                alert,
                private_networks=self._private_networks,
                is_stopping=lambda: self.is_stopping or self._is_finishing,
            )
            with self._counting:
                self.outcome = Outcome(
                    self.outcome.sent + done.sent, self.outcome.failed + done.failed
                )
        except Exception:
            self._held_until[alert.id] = time.monotonic() + HOLD_S
            log.exception("Alert %s could not send its messages.", alert.id)
        finally:
            database.close_connection()
