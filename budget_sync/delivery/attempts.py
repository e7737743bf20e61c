"""Stores the results of attempts, and decides when the next one is due."""

from __future__ import annotations

import logging
import random
from datetime import timedelta
from typing import Any, NamedTuple

from budget_sync.database import audit_log, locked, transact
from budget_sync.database.delivery_models import Webhook, WebhookAttempt
from budget_sync.delivery.post import GONE, Answer
from budget_sync.domain import clock
from budget_sync.domain.permissions import DELIVERY
from budget_sync.queries.event_rows import Event
from budget_sync.queries.events import Cursor

log = logging.getLogger(__name__)

#: The first retry comes after FIRST_RETRY, and each further one after twice the time.
FIRST_RETRY = timedelta(seconds=5)
LONGEST_RETRY = timedelta(hours=1)

#: An event that fails for this long pauses its webhook.
GIVE_UP_AFTER = timedelta(days=3)

#: The attempts of a webhook that are kept.
MAX_ATTEMPTS = 100


class Recorded(NamedTuple):
    """The webhook after an attempt. `is_paused` if this attempt paused it."""

    webhook: Webhook
    is_paused: bool


def retry_after(attempts: int) -> timedelta:
    """How long to wait after that many failed attempts: longer each time, and never the same.

    Many webhooks of one receiver fail at the same time, and must not come back at the same time.
    """
    full: timedelta = min(FIRST_RETRY * 2 ** min(attempts - 1, 20), LONGEST_RETRY)
    return full * random.uniform(0.7, 1.0)  # noqa: S311  # not a secret


def record(webhook: Webhook, event: Event, answer: Answer, after: Cursor) -> Recorded | None:
    """Store an attempt together with its effect on the webhook, in one transaction.

    None if the webhook was changed in the meantime: its cursor moved, or it was removed.
    """
    recorded = transact(lambda: _record(webhook, event, answer, after))
    if recorded and recorded.is_paused:
        log.warning(
            "Paused the webhook %s of customer %s: %s",
            webhook.id,
            webhook.customerId,
            recorded.webhook.pauseReason,
        )
    elif recorded and recorded.webhook.attempts == 1:
        log.warning(
            "The webhook %s of customer %s fails; the event %s is sent again: %s",
            webhook.id,
            webhook.customerId,
            event.id,
            answer.error,
        )
    elif recorded and webhook.attempts and not answer.error:
        log.info("The webhook %s works again.", webhook.id)
    return recorded


def _record(webhook: Webhook, event: Event, answer: Answer, after: Cursor) -> Recorded | None:
    row = _locked_row(webhook)
    if row is None:
        return None
    store(webhook.id, event.id, str(event.type), row.attempts + 1, answer)
    changes = _delivered(after) if answer.error is None else _failed(row, answer)
    Webhook.update(**changes).where(Webhook.id == webhook.id).execute()
    is_paused = "pauseReason" in changes
    if is_paused:
        _record_pause(webhook, changes["pauseReason"])
    return Recorded(Webhook.get(Webhook.id == webhook.id), is_paused)


def _locked_row(webhook: Webhook) -> Webhook | None:
    """The stored webhook, locked; None unless it is active and at the same cursor."""
    row: Webhook | None = locked(
        Webhook.select().where(
            (Webhook.id == webhook.id)
            & (Webhook.cursor == webhook.cursor)
            & Webhook.removedAt.is_null()
            & Webhook.pausedAt.is_null()
        )
    ).first()
    return row


def _delivered(after: Cursor) -> dict[str, Any]:
    return {
        "cursor": after.text,
        "attempts": 0,
        "failingSince": None,
        "nextAttemptAt": None,
        "lastDeliveredAt": clock.now(),
    }


def _failed(row: Webhook, answer: Answer) -> dict[str, Any]:
    now = clock.now()
    attempts = row.attempts + 1
    since = row.failingSince or now
    changes: dict[str, Any] = {
        "attempts": attempts,
        "failingSince": since,
        "nextAttemptAt": now + retry_after(attempts),
    }
    if answer.status == GONE:
        changes |= {"pausedAt": now, "pauseReason": answer.error}
    elif now - since >= GIVE_UP_AFTER:
        days = GIVE_UP_AFTER.days
        changes |= {"pausedAt": now, "pauseReason": f"Failed for {days} days: {answer.error}"}
    return changes


def pause(webhook: Webhook, reason: str) -> None:
    """Pause a webhook that cannot continue at its cursor, audited."""

    def work() -> bool:
        if _locked_row(webhook) is None:
            return False
        changes = {"pausedAt": clock.now(), "pauseReason": reason}
        Webhook.update(**changes).where(Webhook.id == webhook.id).execute()
        _record_pause(webhook, reason)
        return True

    if transact(work):
        log.warning(
            "Paused the webhook %s of customer %s: %s", webhook.id, webhook.customerId, reason
        )


def _record_pause(webhook: Webhook, reason: str) -> None:
    audit_log.record(
        DELIVERY,
        "PAUSE_WEBHOOK",
        customer_id=webhook.customerId,
        subject=webhook.id,
        newValue=reason,
    )


def pass_events(webhook: Webhook, cursor: Cursor) -> None:
    """Store that a webhook has passed events of other types."""

    def work() -> None:
        if _locked_row(webhook) is not None:
            Webhook.update(cursor=cursor.text).where(Webhook.id == webhook.id).execute()

    transact(work)


def store(webhook_id: str, event_id: str, event_type: str, attempt: int, answer: Answer) -> None:
    """Add a row of an attempt in the open transaction, and delete the oldest beyond the limit."""
    WebhookAttempt.create(
        webhookId=webhook_id,
        eventId=event_id,
        eventType=event_type,
        attempt=attempt,
        status=answer.status,
        error=answer.error,
        durationMs=answer.duration_ms,
        attemptedAt=clock.now(),
    )
    kept = WebhookAttempt.alias()
    oldest = (
        kept.select(kept.id)
        .where(kept.webhookId == webhook_id)
        .order_by(kept.id.desc())
        .offset(MAX_ATTEMPTS)
        .limit(1)
    )
    WebhookAttempt.delete().where(
        (WebhookAttempt.webhookId == webhook_id) & (WebhookAttempt.id <= oldest)
    ).execute()
