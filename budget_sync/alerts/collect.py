"""Stores the messages of alerts about the events after their cursors.

One transaction stores the messages of a page, the reported conditions, and the cursor after the
page. So if the process is killed at any point, no message is missing, and none is stored twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from budget_sync import database
from budget_sync.alerts import addresses, facts, texts
from budget_sync.alerts.conditions import Condition, Kind, parse_conditions
from budget_sync.alerts.digest import next_digest
from budget_sync.alerts.plan import (
    BudgetChange,
    Entry,
    Key,
    Plan,
    SyncRun,
    plan,
    subject_of,
)
from budget_sync.alerts.texts import Pages, Text
from budget_sync.database import Horizon, horizon, locked, transact
from budget_sync.database.delivery_models import Alert, AlertMessage, AlertState, Webhook
from budget_sync.database.models import Customer
from budget_sync.delivery.news import News
from budget_sync.delivery.webhooks import host_of
from budget_sync.domain import clock
from budget_sync.domain.permissions import DELIVERY
from budget_sync.queries import sync_runs
from budget_sync.queries.events import Cursor

log = logging.getLogger(__name__)

#: The cursor of an alert is stored after this many rows without a message for it.
STORE_AFTER_ROWS = 1000

#: How often to look for reservations that are open for too long, in seconds.
STALE_EVERY_S = 60.0


class Message(NamedTuple):
    """A message before it is stored. `owner` is the owner of the budget that it is about."""

    time: datetime
    text: Text
    owner: str | None


class Collector:
    """Stores messages. Call it from one thread at a time, of one process per database."""

    def __init__(self, public_url: str | None) -> None:
        self._pages = Pages(public_url)
        self._news = News()
        self._stale_checked_at: dict[str, float] = {}

    def collect(self) -> int:
        """Store the messages of all alerts; returns how many."""
        database.open_connection()
        try:
            alerts = active_alerts()
            if not alerts:
                return 0
            at = horizon()
            if any(at.settled):
                self._news.read(at)
            return sum(self._collect(alert, at) for alert in alerts)
        finally:
            database.close_connection()

    def _collect(self, alert: Alert, at: Horizon) -> int:
        count = 0
        if any(at.settled) and self._news.has_any(alert):
            count += self._collect_facts(alert, at)
        if time.monotonic() >= self._stale_checked_at.get(alert.id, 0.0):
            self._stale_checked_at[alert.id] = time.monotonic() + STALE_EVERY_S
            count += self._collect_stale(alert)
        return count

    def _collect_facts(self, alert: Alert, at: Horizon) -> int:
        conditions = parse_conditions(alert.conditions)
        position = self._news.position(alert)
        if position.audit_id > at.highest.audit or position.sync_id > at.highest.sync:
            log.warning("Alert %s continues with the newest event after a restore.", alert.id)
            settled_sync = sync_runs.before_unfinished(alert.customerId, 0, at.settled.sync)
            position = Cursor(at.settled.audit, 0, settled_sync, 0)
            _store(alert, position, [], {}, [])
            return 0
        count = 0
        while True:
            page = facts.read_page(alert, conditions, position, at)
            position = page.cursor
            subjects = {subject_of(fact) for fact in page.facts}
            before = _reported(alert, subjects)
            found = plan(conditions, page.facts, before)
            if found.entries or found.reported != before:
                if not _store(
                    alert, position, subjects, found.reported, self._messages(alert, found)
                ):
                    return count
                count += len(found.entries)
            if self._news.note_position(alert, position) >= STORE_AFTER_ROWS:
                _store(alert, position, [], {}, [])
            if not page.has_more:
                return count

    def _messages(self, alert: Alert, found: Plan) -> list[Message]:
        if not found.entries:
            return []
        sheets = sync_runs.source_names(DELIVERY, alert.customerId)
        names = {source_id: sheet.text for source_id, sheet in sheets.items()}
        return [self._message(entry, names) for entry in found.entries]

    def _message(self, entry: Entry, source_names: dict[str, str]) -> Message:
        fact = entry.fact
        if isinstance(fact, BudgetChange):
            text = texts.budget_reached(
                f"{fact.department}, {fact.fiscal_period}",
                fact.after,
                entry.conditions,
                fact.cause,
                self._pages.budget(fact.budget_id),
            )
            return Message(fact.time, text, fact.owner)
        if isinstance(fact, SyncRun):
            return Message(fact.time, self._sync_text(fact, source_names), None)
        webhook = Webhook.get_or_none(Webhook.id == fact.webhook_id)
        text = texts.webhook_paused(
            host_of(webhook) if webhook else fact.webhook_id,
            fact.reason,
            self._pages.webhook(fact.webhook_id),
        )
        return Message(fact.time, text, None)

    def _sync_text(self, run: SyncRun, source_names: dict[str, str]) -> Text:
        name = source_names.get(run.source_id, run.source_id)
        if run.is_failed:
            return texts.sync_failed(name, run.message, self._pages.sync_run(run.sync_id))
        return texts.held(name, run.held_count, self._pages.held(run.source_id))

    def _collect_stale(self, alert: Alert) -> int:
        conditions = parse_conditions(alert.conditions)
        wanted = [each for each in conditions if each.kind is Kind.STALE_HOLD]
        count = 0
        for condition in wanted:
            while number := self._report_stale(alert, condition):
                count += number
        return count

    def _report_stale(self, alert: Alert, condition: Condition) -> int:
        now = clock.now()
        found = facts.stale_holds(alert, condition, now)
        messages = [
            Message(
                now,
                texts.stale_hold(
                    hold.request_id,
                    f"{hold.department}, {hold.fiscal_period}",
                    hold.held,
                    hold.opened,
                    condition.number,
                    self._pages.request(hold.request_id),
                ),
                hold.owner,
            )
            for hold in found
        ]
        reported = {Key(condition.text, hold.reservation_id): now for hold in found}
        subjects = {hold.reservation_id for hold in found}
        if not found or not _store(alert, None, subjects, reported, messages):
            return 0
        return len(found)


def active_alerts() -> list[Alert]:
    """The alerts that may send, of all customers. Test customers get no messages."""
    return list(
        Alert.select(Alert, Customer.timeZone, Customer.name.alias("customerName"))
        .join(Customer, on=(Customer.id == Alert.customerId))
        .where(
            Alert.removedAt.is_null(),
            Customer.disabledAt.is_null(),
            ~Customer.isTest,
        )
        .order_by(Alert.createdAt, Alert.id)
        .objects()
    )


def _reported(alert: Alert, subjects: Iterable[str]) -> dict[Key, datetime]:
    """The conditions of these subjects that were reported and have not ended."""
    rows = AlertState.select().where(
        AlertState.alertId == alert.id, AlertState.subject << list(subjects)
    )
    return {Key(row.condition, row.subject): row.reportedAt for row in rows}


def _store(
    alert: Alert,
    cursor: Cursor | None,
    subjects: Iterable[str],
    reported: dict[Key, datetime],
    messages: Sequence[Message],
) -> bool:
    """Store messages, the reported conditions of `subjects`, and the cursor, if there is one.

    False if the alert was removed, or if another process has moved its cursor.
    """
    recipients = addresses.recipients_of(alert.url) if messages else ()
    replaced = list(subjects)
    text = alert.cursor if cursor is None else cursor.text

    def work() -> bool:
        is_same = (
            (Alert.id == alert.id) & (Alert.cursor == alert.cursor) & Alert.removedAt.is_null()
        )
        if locked(Alert.select(Alert.id).where(is_same)).first() is None:
            return False
        _replace_states(alert, replaced, reported)
        due_at = _DueTimes(alert)
        for message in messages:
            _insert(alert, message, recipients, due_at)
        Alert.update(cursor=text).where(Alert.id == alert.id).execute()
        return True

    is_stored: bool = transact(work)
    if is_stored:
        alert.cursor = text
    return is_stored


def _replace_states(alert: Alert, subjects: list[str], reported: dict[Key, datetime]) -> None:
    if not subjects:
        return
    AlertState.delete().where(
        AlertState.alertId == alert.id, AlertState.subject << subjects
    ).execute()
    for key, moment in reported.items():
        AlertState.create(
            alertId=alert.id, condition=key.condition, subject=key.subject, reportedAt=moment
        )


def _insert(alert: Alert, message: Message, recipients: Sequence[str], due_at: _DueTimes) -> None:
    """Store a message for each recipient: the owner, or those of the alert's address."""
    owner = message.owner if alert.toOwners else None
    for recipient in (owner,) if owner else recipients or (None,):
        AlertMessage.create(
            alertId=alert.id,
            recipient=recipient,
            title=message.text.title,
            body=message.text.body,
            createdAt=message.time,
            dueAt=due_at.of(message.time),
        )


class _DueTimes:
    """When the messages of an alert are due: now, or with the digest after their time."""

    def __init__(self, alert: Any) -> None:
        self._alert = alert
        self._now = clock.now()
        self._is_over: dict[datetime, bool] = {}

    def of(self, moment: datetime) -> datetime:
        """A digest that was sent already gets no more entries: they wait for the next one."""
        if self._alert.digestAt is None:
            return self._now
        due = self._next(moment)
        return self._next(self._now) if due <= self._now and self._was_sent(due) else due

    def _next(self, moment: datetime) -> datetime:
        zone = ZoneInfo(self._alert.timeZone)
        return next_digest(self._alert.digestAt, zone, moment)

    def _was_sent(self, due: datetime) -> bool:
        if due not in self._is_over:
            query = AlertMessage.select().where(
                AlertMessage.alertId == self._alert.id,
                AlertMessage.dueAt == due,
                AlertMessage.attempts > 0,
            )
            self._is_over[due] = query.exists()
        return self._is_over[due]
