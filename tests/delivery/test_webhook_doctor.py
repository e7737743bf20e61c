"""`flask doctor` reports paused and failing webhooks, and a delivery that does not run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import time_machine
from flask import Flask
from support.receivers import answers, receiver
from support.world import ROOT

from budget_sync import manual_budgets
from budget_sync.database.delivery_models import Webhook
from budget_sync.database.models import Budget
from budget_sync.delivery import webhooks
from budget_sync.delivery.deliver import Deliverer
from budget_sync.domain import clock
from budget_sync.domain.events import EventType
from budget_sync.operations import demo
from budget_sync.operations.doctor import State
from budget_sync.operations.doctor.webhooks import webhooks as examine
from budget_sync.queries import events

pytestmark = pytest.mark.both_engines


def seen() -> list[tuple[str, str]]:
    return [(str(finding.state), finding.seen) for finding in examine(ROOT)]


def add(url: str) -> str:
    return webhooks.add_webhook(ROOT, demo.CUSTOMER, url, private_networks=False).id


def change(amount: int) -> None:
    manual_budgets.set_budget(ROOT, demo.CUSTOMER, "Travel", "Q1 2025", Decimal(amount))


def deliver() -> None:
    Deliverer(private_networks=False).run_once()


def test_no_webhooks_no_finding(world: Flask) -> None:
    assert seen() == []


def test_delivery_that_does_not_run_is_reported(world: Flask) -> None:
    now = datetime.now(UTC)
    with receiver() as good, time_machine.travel(now) as travel:
        add(good.url)
        # Events from before the webhook are not its events.
        assert seen() == [(State.OK, "1 get their events")]
        change(1000)
        changed_at = clock.to_text(clock.now())
        assert seen() == [(State.OK, "1 get their events")]
        travel.shift(timedelta(minutes=11))
        ((state, text),) = seen()
        assert state == State.WARNING
        assert text == f"`flask deliver` does not run: an event from {changed_at} was not sent"
        deliver()
        assert seen() == [(State.OK, "1 get their events")]


def test_late_event_is_found_behind_many_others(
    world: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_MOST_PASSED", 2)
    with receiver() as good, time_machine.travel(datetime.now(UTC)) as travel:
        types = [EventType.BUDGET_DELETED]
        webhooks.add_webhook(ROOT, demo.CUSTOMER, good.url, types, private_networks=False)
        for amount in range(1000, 1006):
            change(amount)
        travel_budget = Budget.get(Budget.department == "Travel")
        manual_budgets.remove_budget(ROOT, travel_budget.id, reason="Unused")
        travel.shift(timedelta(minutes=11))
        assert [state for state, _ in seen()] == [State.WARNING]


def test_failing_and_paused_webhooks_are_reported(world: Flask) -> None:
    now = datetime.now(UTC)
    with receiver(answers(500)) as bad, time_machine.travel(now) as travel:
        webhook_id = add(f"{bad.url}/path-token")
        change(1000)
        deliver()
        since = clock.to_text(Webhook.get_by_id(webhook_id).failingSince)
        assert seen() == [(State.OK, "1 get their events")]
        travel.shift(timedelta(minutes=61))
        deliver()
        assert seen() == [(State.WARNING, f"fails since {since}. HTTP 500.")]
        todo = [finding.todo for finding in examine(ROOT)]
        assert f"flask resume-webhook {webhook_id}" in todo[0]
        assert "path-token" not in todo[0]
        # Its next attempt is due, and nothing makes it.
        travel.shift(timedelta(hours=2))
        assert len(seen()) == 2
        bad.behave = answers(410)
        deliver()
        ((state, text),) = seen()
        assert (state, "paused since" in text, "HTTP 410" in text) == (State.WARNING, True, True)
