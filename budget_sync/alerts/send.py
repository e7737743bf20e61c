"""Sends the stored messages of alerts, in order for each recipient, until each was accepted.

A transaction records the attempt before the message is sent, and another one its result. The
network is never used inside a transaction. If the process is killed between the two, the message is
sent again after LEASE, because it is not known if the service accepted it. In all other cases,
a message that was accepted is not sent again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import peewee
from peewee import fn

from budget_sync import database
from budget_sync.alerts import addresses, texts
from budget_sync.alerts.texts import Text
from budget_sync.database import DatabaseUnusableError, locked, transact
from budget_sync.database.delivery_models import Alert, AlertMessage
from budget_sync.delivery.attempts import retry_after
from budget_sync.domain import clock
from budget_sync.domain.errors import RequestError

log = logging.getLogger(__name__)

#: More messages than this for one recipient are sent as one, for example after an outage.
MAX_SINGLE = 10

#: The most messages that are joined.
MAX_JOINED = 200

#: How long a message waits after its sender was killed.
LEASE = timedelta(minutes=2)

#: The messages of an alert that are kept after they were sent.
KEPT = 500

#: How long to try to store a result while the database is not available, in seconds.
STORE_FOR_S = 60.0

_DATABASE_ERRORS = (RequestError, peewee.PeeweeException, DatabaseUnusableError, OSError)


class Due(NamedTuple):
    """An alert with messages to send now. `attempts` of the first of them have failed."""

    alert_id: str
    attempts: int


class Outcome(NamedTuple):
    """The number of messages that were accepted, and of attempts that failed."""

    sent: int = 0
    failed: int = 0


def due_alerts() -> list[Due]:
    """The alerts of all customers with a message that may be sent now."""
    now = clock.now()
    heads = (
        AlertMessage.select(fn.MIN(AlertMessage.id))
        .where(AlertMessage.sentAt.is_null(), AlertMessage.dueAt <= now)
        .group_by(AlertMessage.alertId, AlertMessage.recipient)
    )
    rows = (
        AlertMessage.select(AlertMessage.alertId, fn.MIN(AlertMessage.attempts).alias("attempts"))
        .where(AlertMessage.id << heads, _may_be_tried(now))
        .group_by(AlertMessage.alertId)
    )
    return [Due(row.alertId, row.attempts) for row in rows]


def _may_be_tried(now: Any) -> Any:
    return AlertMessage.nextAttemptAt.is_null() | (AlertMessage.nextAttemptAt <= now)


def send_due(alert: Any, *, private_networks: bool, is_stopping: Callable[[], bool]) -> Outcome:
    """Send what is due to each recipient of an alert, until one attempt to each of them fails."""
    total = Outcome()
    for recipient in _due_recipients(alert.id):
        while not is_stopping():
            messages = _take(alert, recipient)
            if not messages:
                break
            error = _send(alert, recipient, messages, private_networks=private_networks)
            _store_result(alert, messages, error)
            count = len(messages)
            total = Outcome(
                total.sent + (count if error is None else 0), total.failed + (error is not None)
            )
            if error is not None:
                break
    return total


def _due_recipients(alert_id: str) -> list[str | None]:
    """The recipients with a due message, the longest-waiting first."""
    database.open_connection()
    try:
        rows = (
            AlertMessage.select(AlertMessage.recipient, fn.MIN(AlertMessage.id).alias("first"))
            .where(
                AlertMessage.alertId == alert_id,
                AlertMessage.sentAt.is_null(),
                AlertMessage.dueAt <= clock.now(),
            )
            .group_by(AlertMessage.recipient)
            .order_by(fn.MIN(AlertMessage.id))
        )
        return [row.recipient for row in rows]
    finally:
        database.close_connection()


def _take(alert: Any, recipient: str | None) -> list[AlertMessage]:
    """The messages to send next to a recipient, after their attempt was recorded.

    Empty if none is due, if the first one waits for its next attempt, or if the alert was removed.
    """
    due = _due_messages(alert.id, recipient)
    if not due or not _may_be_sent(due[0]):
        return []
    if alert.digestAt is None and len(due) <= MAX_SINGLE:
        due = due[:1]
    else:
        count = addresses.batch(alert.url, [Text(each.title, each.body) for each in due])
        due = due[:count]
    ids = [message.id for message in due]

    def work() -> bool:
        is_live = (Alert.id == alert.id) & Alert.removedAt.is_null()
        if locked(Alert.select(Alert.id).where(is_live)).first() is None:
            return False
        now = clock.now()
        first = AlertMessage.select().where(
            AlertMessage.id == due[0].id, AlertMessage.sentAt.is_null(), _may_be_tried(now)
        )
        if not first.exists():
            return False
        AlertMessage.update(attempts=AlertMessage.attempts + 1, nextAttemptAt=now + LEASE).where(
            AlertMessage.id << ids
        ).execute()
        return True

    return due if transact(work) else []


def _due_messages(alert_id: str, recipient: str | None) -> list[AlertMessage]:
    database.open_connection()
    try:
        is_same = (
            AlertMessage.recipient.is_null()
            if recipient is None
            else AlertMessage.recipient == recipient
        )
        query = AlertMessage.select().where(
            AlertMessage.alertId == alert_id,
            is_same,
            AlertMessage.sentAt.is_null(),
            AlertMessage.dueAt <= clock.now(),
        )
        return list(query.order_by(AlertMessage.id).limit(MAX_JOINED))
    finally:
        database.close_connection()


def _may_be_sent(message: AlertMessage) -> bool:
    return message.nextAttemptAt is None or message.nextAttemptAt <= clock.now()


def _send(
    alert: Any, recipient: str | None, messages: Sequence[AlertMessage], *, private_networks: bool
) -> str | None:
    found = [Text(message.title, message.body) for message in messages]
    if len(found) == 1 and alert.digestAt is None:
        text = found[0]
    else:
        day = None
        if alert.digestAt is not None:
            local = messages[-1].dueAt.astimezone(ZoneInfo(alert.timeZone))
            day = f"{local:%Y-%m-%d %H:%M}"
        text = texts.joined(alert.customerName, found, day)
    return addresses.send(alert.url, text, recipient, private_networks=private_networks)


def _store_result(alert: Any, messages: Sequence[AlertMessage], error: str | None) -> None:
    """Store the result of an attempt. It is tried again for a minute, because it must not be lost.

    Raises the database's error after that.
    """
    ids = [message.id for message in messages]
    attempts = messages[0].attempts + 1
    deadline = time.monotonic() + STORE_FOR_S
    while True:
        try:
            transact(lambda: _update(alert.id, ids, attempts, error))
            break
        except _DATABASE_ERRORS:
            database.close_connection()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
    if error is not None and attempts == 1:
        log.warning("Alert %s fails; its messages are sent again: %s", alert.id, error)
    elif error is None and attempts > 1:
        log.info("Alert %s works again.", alert.id)


def _update(alert_id: str, ids: Iterable[int], attempts: int, error: str | None) -> None:
    now = clock.now()
    values = (
        {"sentAt": now, "nextAttemptAt": None, "error": None}
        if error is None
        else {"nextAttemptAt": now + retry_after(attempts), "error": error}
    )
    AlertMessage.update(**values).where(AlertMessage.id << list(ids)).execute()
    if error is None:
        _delete_oldest(alert_id)


def _delete_oldest(alert_id: str) -> None:
    """Delete the sent messages of an alert beyond the limit."""
    kept = AlertMessage.alias()
    oldest = (
        kept.select(kept.id)
        .where(kept.alertId == alert_id, kept.sentAt.is_null(False))
        .order_by(kept.id.desc())
        .offset(KEPT)
        .limit(1)
    )
    AlertMessage.delete().where(
        (AlertMessage.alertId == alert_id)
        & AlertMessage.sentAt.is_null(False)
        & (AlertMessage.id <= oldest)
    ).execute()
