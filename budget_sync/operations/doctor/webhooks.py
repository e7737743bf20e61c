"""Checks that events reach the webhooks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from budget_sync.database.delivery_models import Webhook, WebhookAttempt
from budget_sync.database.models import Customer
from budget_sync.delivery.webhooks import ADDRESS_REJECTED, host_of
from budget_sync.domain import clock
from budget_sync.domain.errors import RequestError
from budget_sync.domain.permissions import Actor
from budget_sync.operations.doctor.findings import Finding, ok, warning
from budget_sync.queries.events import parse_cursor, parse_types, read_events

#: A webhook that fails for longer is reported.
FAILS_FOR_LONG = timedelta(hours=1)

#: An event that was not tried for this long means that the delivery does not run. Cron runs it
#: every minute, and PostgreSQL may settle events later because of a long transaction.
IS_LATE = timedelta(minutes=10)

_START_IT = "start budget-sync-deliver.service, or run `flask deliver --once` every minute"


def webhooks(actor: Actor) -> Iterator[Finding]:
    """Report paused and failing webhooks, and a delivery that does not run."""
    found = list(
        Webhook.select()
        .join(Customer, on=(Customer.id == Webhook.customerId))
        .where(Webhook.removedAt.is_null(), Customer.disabledAt.is_null())
        .order_by(Webhook.createdAt, Webhook.id)
    )
    if not found:
        return
    troubles = [each for webhook in found for each in _trouble(webhook)]
    yield from troubles
    late = [since for webhook in found if (since := _not_tried_since(actor, webhook))]
    if late:
        yield warning(
            "Delivery of events",
            f"`flask deliver` does not run: an event from {clock.to_text(min(late))} was not sent",
            _START_IT,
        )
    elif not troubles:
        yield ok("Webhooks", f"{len(found)} get their events")


def _trouble(webhook: Webhook) -> Iterator[Finding]:
    subject = f"Webhook {webhook.id} of {webhook.customerId}"
    resume = f"correct the receiver at {host_of(webhook)}, then `flask resume-webhook {webhook.id}`"
    if (webhook.pauseReason or "").startswith(ADDRESS_REJECTED):
        resume = f"add a webhook with another address, then `flask remove-webhook {webhook.id}`"
    if webhook.pausedAt is not None:
        since = clock.to_text(webhook.pausedAt)
        yield warning(subject, f"paused since {since}. {webhook.pauseReason}", resume)
    elif webhook.failingSince and clock.now() - webhook.failingSince > FAILS_FOR_LONG:
        since = clock.to_text(webhook.failingSince)
        yield warning(subject, f"fails since {since}. {_latest_error(webhook)}", resume)


def _latest_error(webhook: Webhook) -> str:
    query = WebhookAttempt.select().where(
        (WebhookAttempt.webhookId == webhook.id) & WebhookAttempt.error.is_null(False)
    )
    latest: WebhookAttempt | None = query.order_by(WebhookAttempt.id.desc()).first()
    return (latest and latest.error) or ""


def _not_tried_since(actor: Actor, webhook: Webhook) -> datetime | None:
    """The time of the event that should have been tried by now; None if there is none."""
    if webhook.pausedAt is not None:
        return None
    due_at: datetime | None = webhook.nextAttemptAt
    if due_at is None:
        types = None if webhook.types is None else parse_types(webhook.types)
        try:
            cursor = parse_cursor(webhook.cursor)
            page = read_events(actor, webhook.customerId, cursor, 1, types)
            while page.has_more and not page.events:
                page = read_events(actor, webhook.customerId, page.cursor, 1, types)
        except RequestError:
            # The delivery pauses it.
            return None
        due_at = max(page.events[0].time, webhook.createdAt) if page.events else None
    return due_at if due_at and clock.now() - due_at > IS_LATE else None
