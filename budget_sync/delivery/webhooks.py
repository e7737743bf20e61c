"""Webhooks of a customer: add, list, rotate, test, resume, remove. Only admins may.

The URL can contain a secret, so audit rows and log lines have only its host.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from budget_sync.accounts.customers import get_customer
from budget_sync.database import audit_log, lock_name, locked, transact
from budget_sync.database.delivery_models import Webhook, WebhookAttempt
from budget_sync.delivery import addresses, signatures
from budget_sync.delivery.addresses import AddressError, Destination
from budget_sync.delivery.attempts import store
from budget_sync.delivery.post import Answer, Sender
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.events import EventType
from budget_sync.domain.ids import new_id
from budget_sync.domain.permissions import Action, Actor, require, require_for
from budget_sync.domain.results import dumps
from budget_sync.queries import events

#: The most webhooks of a customer. Each may occupy a thread of the delivery.
MAX_WEBHOOKS = 50

#: How long the earlier secret signs, too, after a rotation.
OVERLAP = timedelta(hours=24)
MAX_OVERLAP = timedelta(days=30)

#: The type of the event that `send_test` sends. It is not in the feed.
TEST_TYPE = "webhook.test"


#: The beginning of the reason of a pause.
ADDRESS_REJECTED = "The address is no longer accepted"


class NewWebhook(NamedTuple):
    """A webhook and its secret, which is shown only once."""

    id: str
    secret: str


def add_webhook(
    actor: Actor,
    customer_id: str,
    url: str,
    types: Iterable[EventType] | None = None,
    *,
    private_networks: bool,
) -> NewWebhook:
    """Add a webhook, which gets the events from now on. None for `types` means all.

    Raises RequestError INVALID_REQUEST, INVALID_CUSTOMER, FORBIDDEN or CONFLICT.
    """
    require_for(actor, Action.MANAGE_WEBHOOKS, customer_id)
    destination = _require_url(actor, url, private_networks=private_networks)
    get_customer(customer_id)
    cursor = events.latest_cursor(actor, customer_id)
    added = NewWebhook(new_id("wh"), signatures.new_secret())
    chosen = None if types is None else ",".join(sorted(set(types)))

    def work() -> NewWebhook:
        lock_name(f"webhooks {customer_id}")
        if _live().where(Webhook.customerId == customer_id).count() >= MAX_WEBHOOKS:
            raise invalid_request(
                {"url": f"is one too many: a customer has at most {MAX_WEBHOOKS} webhooks"}
            )
        Webhook.create(
            id=added.id,
            customerId=customer_id,
            url=url,
            types=chosen,
            secret=added.secret,
            cursor=cursor.text,
            createdAt=clock.now(),
        )
        details = f"{destination.origin}{f', {chosen}' if chosen else ''}"
        _record(actor, "ADD_WEBHOOK", customer_id, added.id, new=details)
        return added

    return transact(work)


def _require_url(actor: Actor, url: str, *, private_networks: bool) -> Destination:
    """The parts of the URL. Raises RequestError INVALID_REQUEST."""
    destination = addresses.parse_url(url)
    if destination.is_loopback and actor.customer_id is not None and not private_networks:
        # Other programs on this machine trust callers from it.
        raise invalid_request(
            {
                "url": "is an address of this machine. An operator can add it with "
                "`flask add-webhook`"
            }
        )
    try:
        addresses.require_allowed_literal(destination, private_networks=private_networks)
    except AddressError as error:
        raise invalid_request({"url": f"cannot be used: {error}"}) from None
    return destination


def list_webhooks(actor: Actor, customer_id: str | None = None) -> list[Webhook]:
    """The webhooks that the caller may manage, oldest first. Do not show their secrets."""
    require(actor, Action.MANAGE_WEBHOOKS)
    wanted = actor.customer_id or customer_id
    query = _live().order_by(Webhook.createdAt, Webhook.id)
    return list(query if wanted is None else query.where(Webhook.customerId == wanted))


def get_webhook(actor: Actor, webhook_id: str) -> Webhook:
    """A webhook. Raises RequestError NOT_FOUND."""
    require(actor, Action.MANAGE_WEBHOOKS)
    found: Webhook | None = _live().where(Webhook.id == webhook_id).first()
    if found is None or not actor.serves(found.customerId):
        raise RequestError(
            Code.NOT_FOUND, f"There is no webhook {webhook_id!r}; see `flask list-webhooks`."
        )
    return found


def latest_attempts(actor: Actor, webhook_id: str, limit: int = 20) -> list[WebhookAttempt]:
    """The latest attempts of a webhook, the newest first. Raises RequestError NOT_FOUND."""
    get_webhook(actor, webhook_id)
    query = WebhookAttempt.select().where(WebhookAttempt.webhookId == webhook_id)
    return list(query.order_by(WebhookAttempt.id.desc()).limit(limit))


def rotate_secret(actor: Actor, webhook_id: str, overlap: timedelta = OVERLAP) -> str:
    """Replace the secret and return the new one, for the only time.

    Both secrets sign until the end of the overlap. An even earlier one ends now. Raises
    RequestError NOT_FOUND or INVALID_REQUEST.
    """
    require(actor, Action.MANAGE_WEBHOOKS)
    if not timedelta(0) <= overlap <= MAX_OVERLAP:
        raise invalid_request({"overlap": f"must be at most {MAX_OVERLAP.days} days"})
    secret = signatures.new_secret()

    def work() -> str:
        webhook = _locked_webhook(actor, webhook_id)
        until = clock.now() + overlap if overlap else None
        _update(
            webhook_id,
            secret=secret,
            previousSecret=webhook.secret if overlap else None,
            previousSecretUntil=until,
        )
        ends = f"the earlier secret ends {clock.to_text(until) if until else 'now'}"
        _record(actor, "ROTATE_WEBHOOK", webhook.customerId, webhook_id, new=ends)
        return secret

    return transact(work)


def resume_webhook(actor: Actor, webhook_id: str, from_cursor: str | None = None) -> Webhook:
    """Continue a webhook now, from its cursor or from another one; returns its new state.

    The cursor may be `latest`. Events that were delivered before are delivered again if the cursor
    is before them. Raises RequestError NOT_FOUND, or INVALID_REQUEST for a bad cursor or if the
    address is no longer accepted.
    """
    webhook = get_webhook(actor, webhook_id)
    addresses.parse_url(webhook.url)
    changes = {} if from_cursor is None else {"cursor": _cursor(actor, webhook, from_cursor)}

    def work() -> Webhook:
        before = _locked_webhook(actor, webhook_id)
        _update(
            webhook_id,
            attempts=0,
            failingSince=None,
            nextAttemptAt=None,
            pausedAt=None,
            pauseReason=None,
            **changes,
        )
        _record(
            actor,
            "RESUME_WEBHOOK",
            before.customerId,
            webhook_id,
            old=before.cursor,
            new=changes.get("cursor", before.cursor),
        )
        return get_webhook(actor, webhook_id)

    return transact(work)


def _cursor(actor: Actor, webhook: Webhook, text: str) -> str:
    """A cursor that exists. Raises RequestError INVALID_REQUEST."""
    if text == events.LATEST:
        return events.latest_cursor(actor, webhook.customerId).text
    cursor = events.parse_cursor(text)
    # Raises an error if the cursor is beyond the newest event.
    events.read_events(actor, webhook.customerId, cursor, 1)
    return cursor.text


def remove_webhook(actor: Actor, webhook_id: str) -> None:
    """Remove a webhook, its secrets and its attempts. Raises RequestError NOT_FOUND."""

    def work() -> None:
        webhook = _locked_webhook(actor, webhook_id)
        _update(
            webhook_id,
            secret="",
            previousSecret=None,
            previousSecretUntil=None,
            removedAt=clock.now(),
        )
        WebhookAttempt.delete().where(WebhookAttempt.webhookId == webhook_id).execute()
        _record(
            actor,
            "REMOVE_WEBHOOK",
            webhook.customerId,
            webhook_id,
            old=host_of(webhook),
        )

    transact(work)


def send_test(actor: Actor, webhook_id: str, *, private_networks: bool) -> Answer:
    """Send an event of the type `webhook.test` now, once, also to a paused webhook.

    It is in no order with the other events, and changes nothing but the list of attempts. Raises
    RequestError NOT_FOUND, or INVALID_REQUEST if the address is no longer accepted.
    """
    webhook = get_webhook(actor, webhook_id)
    now = clock.now()
    event_id = new_id("evt_test")
    body = dumps(
        {
            "id": event_id,
            "type": TEST_TYPE,
            "time": clock.to_text(now),
            "customerId": webhook.customerId,
            "data": {"webhookId": webhook_id},
        }
    ).encode()
    headers = signatures.signed_headers(event_id, int(time.time()), body, valid_secrets(webhook))
    destination = addresses.parse_url(webhook.url)
    with Sender(destination, private_networks=private_networks) as sender:
        answer = sender.post(body, headers)
    transact(lambda: store(webhook_id, event_id, TEST_TYPE, 1, answer))
    return answer


def test_sentence(answer: Answer) -> str:
    """The result of `send_test` for people."""
    status = f" with HTTP {answer.status}" if answer.status else ""
    if answer.error is None:
        return f"Delivered{status} in {answer.duration_ms} ms."
    return f"Not delivered, after {answer.duration_ms} ms. {answer.error}"


def state_sentence(webhook: Webhook) -> str:
    """The state of a webhook for people."""
    if webhook.pausedAt is not None:
        return f"paused since {clock.to_text(webhook.pausedAt)}. {webhook.pauseReason}"
    if webhook.failingSince is not None:
        retry = f", next attempt {clock.to_text(webhook.nextAttemptAt)}"
        return f"failing since {clock.to_text(webhook.failingSince)}{retry}"
    return "active"


def host_of(webhook: Webhook) -> str:
    """The scheme, host and port of a webhook's address. The rest can contain secrets."""
    try:
        return addresses.parse_url(webhook.url).origin
    except RequestError:
        return f"the address of webhook {webhook.id}"


def valid_secrets(webhook: Webhook, now: datetime | None = None) -> list[str]:
    """The secrets that sign now, the newest first."""
    previous, until = webhook.previousSecret, webhook.previousSecretUntil
    if previous is None or until is None or until <= (now or clock.now()):
        return [webhook.secret]
    return [webhook.secret, previous]


def _live() -> Any:
    return Webhook.select().where(Webhook.removedAt.is_null())


def _locked_webhook(actor: Actor, webhook_id: str) -> Webhook:
    """A webhook, locked until the transaction ends. Raises RequestError NOT_FOUND."""
    locked(Webhook.select(Webhook.id).where(Webhook.id == webhook_id)).first()
    return get_webhook(actor, webhook_id)


def _update(webhook_id: str, **values: object) -> None:
    Webhook.update(**values).where(Webhook.id == webhook_id).execute()


def _record(
    actor: Actor,
    action: str,
    customer_id: str,
    webhook_id: str,
    *,
    old: str | None = None,
    new: str | None = None,
) -> None:
    audit_log.record(
        actor, action, customer_id=customer_id, subject=webhook_id, oldValue=old, newValue=new
    )
