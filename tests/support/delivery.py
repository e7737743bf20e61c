"""Webhooks and their delivery in the process of a test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

from budget_sync import database, ledger
from budget_sync.database.delivery_models import Webhook
from budget_sync.delivery import webhooks
from budget_sync.delivery.deliver import Deliverer
from budget_sync.domain.events import EventType
from budget_sync.domain.request_models import ReserveRequest
from budget_sync.operations import demo
from support.machine import wait_until
from support.receivers import (
    Receiver,
)
from support.world import ROOT

CUSTOMER = demo.CUSTOMER


def add(url: str, customer_id: str = CUSTOMER, types: str | None = None) -> webhooks.NewWebhook:
    """Add a webhook as an operator."""
    chosen = None if types is None else [EventType(name) for name in types.split(",")]
    return webhooks.add_webhook(ROOT, customer_id, url, chosen, private_networks=False)


def reserve(request_id: str, budget_id: str = "budget-123", amount: str = "1") -> None:
    """Reserve an amount, which is one event."""
    ledger.reserve(
        ROOT,
        ReserveRequest(
            budget_id=budget_id, request_id=request_id, amount=Decimal(amount), user_id="user-123"
        ),
    )


def once() -> Deliverer:
    """What `flask deliver --once` does."""
    deliverer = Deliverer(private_networks=False)
    deliverer.run_once()
    return deliverer


@contextmanager
def running() -> Iterator[Deliverer]:
    """The delivery as a service, in a thread."""
    deliverer = Deliverer(private_networks=False)

    def run() -> None:
        deliverer.run(lambda: True)
        database.close_connection()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield deliverer
    finally:
        deliverer.stop()
        thread.join(20)
        assert not thread.is_alive()


def wait_for(good: Receiver, count: int, timeout_s: float = 10) -> None:
    """Wait until that many requests have arrived."""
    wait_until(lambda: len(good.received) >= count, "no event", timeout_s)


def stored(webhook_id: str) -> Webhook:
    """The stored webhook."""
    return Webhook.get_by_id(webhook_id)


def requests_of(good: Receiver) -> list[str]:
    """The request ids of the events that arrived."""
    return [each.event["data"]["requestId"] for each in good.received]
