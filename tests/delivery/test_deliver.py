"""The delivery of events: all of them, in order, at least once, and to their customer only."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler

import pytest
import time_machine
from flask import Flask
from support.delivery import CUSTOMER, add, once, requests_of, reserve, running, stored, wait_for
from support.machine import wait_until
from support.receivers import (
    Receiver,
    answers,
    receiver,
)
from support.world import ROOT

from budget_sync import database, manual_budgets
from budget_sync.accounts import customers
from budget_sync.database.delivery_models import Webhook, WebhookAttempt
from budget_sync.database.models import AuditLog
from budget_sync.delivery import deliver, webhooks
from budget_sync.delivery.deliver import Deliverer
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError
from budget_sync.queries.events import latest_cursor, read_events

pytestmark = pytest.mark.both_engines


@pytest.fixture
def good(world: Flask) -> Iterator[Receiver]:
    with receiver() as started:
        yield started


def test_rejected_address_pauses_only_its_webhook(good: Receiver) -> None:
    rejected = add(good.url).id
    Webhook.update(url="https://hooks.example.com:25/").execute()
    add(good.url)
    reserve("r1")
    assert once().counts.delivered == 1
    assert requests_of(good) == ["r1"]
    webhook = Webhook.get_by_id(rejected)
    assert webhook.pausedAt is not None
    assert "no longer accepted: it must not have the port 25" in str(webhook.pauseReason)
    assert webhooks.host_of(webhook) == f"the address of webhook {rejected}"
    with pytest.raises(RequestError, match="port 25"):
        webhooks.resume_webhook(ROOT, rejected)


def test_events_arrive_in_order_as_the_feed_has_them(good: Receiver) -> None:
    reserve("before")
    added = add(good.url)
    start = latest_cursor(ROOT, CUSTOMER)
    for number in range(120):
        reserve(f"r{number}")
    assert once().counts.delivered == 120
    assert requests_of(good) == [f"r{number}" for number in range(120)]
    feed = read_events(ROOT, CUSTOMER, start).events
    for event, received in zip(feed, good.received, strict=False):
        assert received.id == event.id == received.event["id"]
        assert json.loads(received.body, parse_float=Decimal) == event.to_json()
        assert received.verify(added.secret)
    # All of them over the connections of a few pages.
    assert good.connections < 10
    assert once().counts.delivered == 0
    assert len(good.received) == 120


def test_service_delivers_within_two_seconds(good: Receiver) -> None:
    add(good.url)
    with running():
        for number in range(3):
            time.sleep(0.2)
            reserve(f"r{number}")
            committed = time.monotonic()
            wait_for(good, number + 1)
            assert time.monotonic() - committed < 2


def test_only_the_wanted_types_are_sent(good: Receiver) -> None:
    added = add(good.url, types="budget.created,budget.threshold")
    reserve("r1")
    budget, _ = manual_budgets.set_budget(ROOT, CUSTOMER, "Travel", "Q1 2025", Decimal(100))
    reserve("r2", budget.id, "95")
    once()
    assert [
        (each.event["type"], each.event["data"].get("threshold")) for each in good.received
    ] == [
        ("budget.created", None),
        ("budget.threshold", 80),
        ("budget.threshold", 90),
    ]
    assert stored(added.id).attempts == 0


def test_events_of_other_customers_never_leak(good: Receiver) -> None:
    customers.add_customer(ROOT, "other", "Other Inc.")
    with receiver() as others:
        add(good.url)
        add(others.url, "other")
        with running():
            budget, _ = manual_budgets.set_budget(ROOT, "other", "Ops", "Q1 2025", Decimal(100))
            for number in range(10):
                reserve(f"mine-{number}")
                reserve(f"theirs-{number}", budget.id)
            wait_until(lambda: len(good.received) == 10, "events are missing")
            wait_until(lambda: len(others.received) == 11, "events are missing")
            time.sleep(1)
    assert {each.event["customerId"] for each in good.received} == {CUSTOMER}
    assert requests_of(good) == [f"mine-{number}" for number in range(10)]
    assert {each.event["customerId"] for each in others.received} == {"other"}


def test_disabled_customer_gets_nothing_until_enabled(good: Receiver) -> None:
    add(good.url)
    reserve("r1")
    customers.disable_customer(ROOT, CUSTOMER)
    once()
    assert good.received == []
    customers.enable_customer(ROOT, CUSTOMER)
    once()
    assert requests_of(good) == ["r1"]


def test_resume_from_a_cursor_repeats_or_skips(good: Receiver) -> None:
    start = latest_cursor(ROOT, CUSTOMER)
    added = add(good.url)
    for number in range(3):
        reserve(f"r{number}")
    once()
    webhooks.resume_webhook(ROOT, added.id, start.text)
    once()
    assert requests_of(good) == ["r0", "r1", "r2"] * 2
    assert good.ids[:3] == good.ids[3:]
    reserve("skipped")
    webhooks.resume_webhook(ROOT, added.id, "latest")
    reserve("next")
    once()
    assert requests_of(good)[6:] == ["next"]
    for bad in ("a1", "a999999999.0-s0.0"):
        with pytest.raises(RequestError) as error:
            webhooks.resume_webhook(ROOT, added.id, bad)
        assert error.value.code == Code.INVALID_REQUEST


def test_resume_while_the_service_runs(good: Receiver) -> None:
    start = latest_cursor(ROOT, CUSTOMER)
    added = add(good.url)
    with running():
        reserve("r1")
        wait_for(good, 1)
        time.sleep(0.7)
        webhooks.resume_webhook(ROOT, added.id, start.text)
        wait_for(good, 2)
    assert requests_of(good) == ["r1", "r1"]


def test_resume_during_an_attempt_is_not_lost(good: Receiver) -> None:
    start = latest_cursor(ROOT, CUSTOMER)
    added = add(good.url)

    def resumes(handler: BaseHTTPRequestHandler) -> None:
        if len(good.received) == 2:
            webhooks.resume_webhook(ROOT, added.id, start.text)
            database.close_connection()
        answers(200)(handler)

    good.behave = resumes
    reserve("r1")
    reserve("r2")
    once()
    assert requests_of(good) == ["r1", "r2", "r1", "r2"]


def test_rotation_signs_with_both_secrets_during_the_overlap(good: Receiver) -> None:
    added = add(good.url)
    second = webhooks.rotate_secret(ROOT, added.id)
    now = datetime.now(UTC)
    with time_machine.travel(now):
        reserve("r1")
        once()
        assert good.received[-1].verify(added.secret)
        assert good.received[-1].verify(second)
    with time_machine.travel(now + timedelta(hours=24, seconds=5)):
        reserve("r2")
        once()
        assert good.received[-1].verify(second)
        with pytest.raises(Exception, match="No matching signature"):
            good.received[-1].verify(added.secret)
    third = webhooks.rotate_secret(ROOT, added.id, timedelta(0))
    reserve("r3")
    once()
    assert good.received[-1].verify(third)
    with pytest.raises(Exception, match="No matching signature"):
        good.received[-1].verify(second)


def test_rotation_takes_effect_between_two_events(good: Receiver) -> None:
    added = add(good.url)
    new: list[str] = []

    def rotates(handler: BaseHTTPRequestHandler) -> None:
        if not new:
            new.append(webhooks.rotate_secret(ROOT, added.id, timedelta(0)))
            database.close_connection()
        answers(200)(handler)

    good.behave = rotates
    reserve("r1")
    reserve("r2")
    once()
    assert good.received[0].verify(added.secret)
    assert good.received[1].verify(new[0])


def test_removed_webhook_gets_nothing_more(good: Receiver) -> None:
    added = add(good.url)

    def removes(handler: BaseHTTPRequestHandler) -> None:
        webhooks.remove_webhook(ROOT, added.id)
        database.close_connection()
        answers(200)(handler)

    good.behave = removes
    reserve("r1")
    reserve("r2")
    once()
    assert len(good.received) == 1
    removed = stored(added.id)
    assert (removed.secret, removed.previousSecret) == ("", None)
    assert WebhookAttempt.select().where(WebhookAttempt.webhookId == added.id).count() == 0


def test_one_round_without_news_reads_no_events(
    good: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        add(good.url)
    reserve("r1")
    deliverer = Deliverer(private_networks=False)
    while deliverer.round():
        deliverer._wait_for(deliverer._deliveries)  # noqa: SLF001
    assert len(good.received) == 5
    reads: list[object] = []
    monkeypatch.setattr(deliver, "read_events", lambda *arguments, **_: reads.append(arguments))
    for _ in range(3):
        assert deliverer.round() == 0
    # News of another customer are none for these webhooks.
    customers.add_customer(ROOT, "other", "Other Inc.")
    manual_budgets.set_budget(ROOT, "other", "Ops", "Q1 2025", Decimal(100))
    assert deliverer.round() == 0
    assert reads == []


def test_attempt_that_ends_during_a_round_is_not_repeated(
    good: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(good.url)
    reserve("r1")
    may_answer = threading.Event()

    def waits(handler: BaseHTTPRequestHandler) -> None:
        assert may_answer.wait(10)
        answers(200)(handler)

    good.behave = waits
    deliverer = Deliverer(private_networks=False)
    assert deliverer.round() == 1
    wait_for(good, 1)
    (running_one,) = deliverer._deliveries.values()  # noqa: SLF001
    real = database.horizon

    def after_the_attempt() -> database.Horizon:
        may_answer.set()
        assert running_one.thread
        running_one.thread.join(10)
        return real()

    monkeypatch.setattr(deliver, "horizon", after_the_attempt)
    assert deliverer.round() == 0
    assert deliverer.round() == 0
    assert requests_of(good) == ["r1"]


def test_position_after_many_other_events_is_stored(
    good: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "STORE_AFTER_ROWS", 5)
    added = add(good.url, types="sync.failed")
    before = stored(added.id).cursor
    for number in range(6):
        reserve(f"r{number}")
    once()
    assert good.received == []
    assert stored(added.id).cursor == latest_cursor(ROOT, CUSTOMER).text != before


def test_logs_have_neither_secret_nor_path(
    good: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "budget_sync")
    caplog.set_level(logging.DEBUG, "urllib3")
    added = add(good.url.replace("/hook", "/path-token?key=query-token"))
    second = webhooks.rotate_secret(ROOT, added.id)
    good.behave = answers(500, **{"X-Bad": "header-token"})
    reserve("r1")
    once()
    good.behave = answers(200)
    Webhook.update(nextAttemptAt=clock.now()).execute()
    once()
    assert len(good.received) == 2
    assert good.received[0].path == "/path-token?key=query-token"
    everything = caplog.text + "".join(str(row) for row in AuditLog.select().tuples())
    for secret in (added.secret, second, "path-token", "query-token", "header-token"):
        assert secret not in everything
