"""The delivery of events: all of them, in order, at least once, and to their customer only."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler

import pytest
import time_machine
from flask import Flask
from support.machine import wait_until
from support.receivers import (
    Behave,
    Receiver,
    answers,
    drops,
    hangs,
    receiver,
)
from support.world import ROOT

from budget_sync import database, ledger, manual_budgets
from budget_sync.accounts import customers
from budget_sync.database.models import AuditLog, Webhook, WebhookAttempt
from budget_sync.delivery import attempts, deliver, post, webhooks
from budget_sync.delivery.deliver import Deliverer
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.events import EventType
from budget_sync.domain.request_models import ReserveRequest
from budget_sync.operations import demo
from budget_sync.queries.events import Cursor, latest_cursor, read_events

pytestmark = pytest.mark.both_engines

CUSTOMER = demo.CUSTOMER


def add(url: str, customer_id: str = CUSTOMER, types: str | None = None) -> webhooks.NewWebhook:
    chosen = None if types is None else [EventType(name) for name in types.split(",")]
    return webhooks.add_webhook(ROOT, customer_id, url, chosen, private_networks=False)


def reserve(request_id: str, budget_id: str = "budget-123", amount: str = "1") -> None:
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
    wait_until(lambda: len(good.received) >= count, "no event", timeout_s)


def stored(webhook_id: str) -> Webhook:
    return Webhook.get_by_id(webhook_id)


def requests_of(good: Receiver) -> list[str]:
    return [each.event["data"]["requestId"] for each in good.received]


@pytest.fixture
def good(world: Flask) -> Iterator[Receiver]:
    with receiver() as started:
        yield started


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


@pytest.mark.parametrize(
    ("behave", "error"),
    [
        (answers(500), "HTTP 500."),
        (answers(302, Location="http://127.0.0.1:1/"), "a redirect, which is not followed"),
        (drops, "The connection was closed before the answer."),
        (hangs, "No answer within"),
    ],
)
def test_failed_event_is_sent_again_before_the_next_one(
    good: Receiver, behave: Behave, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(post, "TIMEOUT_S", 0.5)
    added = add(good.url)
    reserve("r1")
    reserve("r2")
    good.behave = behave
    with time_machine.travel(datetime.now(UTC)) as travel:
        assert once().counts == deliver.Counts(delivered=0, failed=1)
        assert once().counts.failed == 0  # it is not due yet
        failing = stored(added.id)
        assert (failing.attempts, failing.failingSince is None) == (1, False)
        (attempt,) = webhooks.latest_attempts(ROOT, added.id)
        assert error in (attempt.error or "")
        travel.shift(timedelta(seconds=6))
        assert once().counts.failed == 1
        good.behave = answers(200)
        travel.shift(timedelta(seconds=12))
        assert once().counts == deliver.Counts(delivered=2, failed=0)
    assert requests_of(good) == ["r1", "r1", "r1", "r2"]
    assert len(set(good.ids)) == 2
    works = stored(added.id)
    assert (works.attempts, works.failingSince, works.nextAttemptAt) == (0, None, None)
    shown = [(each.attempt, each.status) for each in webhooks.latest_attempts(ROOT, added.id)]
    assert shown == [(1, 200), (3, 200), (2, failed_status(behave)), (1, failed_status(behave))]


def failed_status(behave: Behave) -> int | None:
    """The status that the attempts of a test show."""
    return (
        None
        if behave in (drops, hangs)
        else WebhookAttempt.select(WebhookAttempt.status).order_by(WebhookAttempt.id).first().status
    )


def test_retries_back_off_to_an_hour_with_jitter() -> None:
    waits = [attempts.retry_after(number).total_seconds() for number in range(1, 200)]
    assert 3.5 <= waits[0] <= 5
    assert 7 <= waits[1] <= 10
    assert all(2520 <= wait <= 3600 for wait in waits[11:])
    assert len(set(waits[11:])) > 100


def test_receiver_that_fails_for_three_days_is_paused(
    good: Receiver, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Fewer attempts, to save time.
    monkeypatch.setattr(attempts, "LONGEST_RETRY", timedelta(hours=4))
    added = add(good.url)
    reserve("r1")
    good.behave = answers(500)
    began = datetime.now(UTC)
    with time_machine.travel(began, tick=False) as travel:
        for _ in range(200):
            once()
            webhook = stored(added.id)
            if webhook.pausedAt:
                break
            assert webhook.nextAttemptAt is not None
            travel.move_to(webhook.nextAttemptAt)
        now = clock.now()
    assert timedelta(days=3) <= now - began < timedelta(days=3, hours=4)
    assert 20 < len(good.received) < 50
    assert set(good.ids) == {good.ids[0]}
    assert webhook.pauseReason == "Failed for 3 days: HTTP 500."
    row = AuditLog.select().where(AuditLog.action == "PAUSE_WEBHOOK").get()
    assert (row.customerId, row.subject, row.newValue) == (CUSTOMER, added.id, webhook.pauseReason)
    assert row.changedBy == "delivery"
    assert f"Paused the webhook {added.id} of customer {CUSTOMER}: Failed for 3" in caplog.text
    # Nothing more arrives until it is resumed; then nothing is missing.
    reserve("r2")
    good.behave = answers(200)
    count = len(good.received)
    once()
    assert len(good.received) == count
    webhooks.resume_webhook(ROOT, added.id)
    once()
    assert requests_of(good)[count:] == ["r1", "r2"]


def test_gone_pauses_at_once(good: Receiver) -> None:
    added = add(good.url)
    reserve("r1")
    reserve("r2")
    good.behave = answers(410)
    once()
    assert len(good.received) == 1
    assert stored(added.id).pauseReason == "HTTP 410: the receiver wants no more events."


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


def test_hanging_receivers_do_not_delay_the_other_one(good: Receiver) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(receiver(hangs)) for _ in range(7)]
        for number in range(49):
            add(slow[number % len(slow)].url)
        last = add(good.url)
        with running():
            reserve("first")
            wait_for(good, 1)
            wait_until(lambda: sum(len(each.received) for each in slow) == 49, "not tried", 20)
            # All 49 hang now.
            took_s = []
            for number in range(5):
                reserve(f"r{number}")
                committed = time.monotonic()
                wait_for(good, number + 2)
                took_s.append(time.monotonic() - committed)
            assert max(took_s) < 2
        assert requests_of(good) == ["first", *(f"r{number}" for number in range(5))]
        assert stored(last.id).attempts == 0


def test_stop_ends_hanging_requests_and_repeats_them(
    good: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = add(good.url)
    good.behave = hangs
    with running():
        reserve("r1")
        wait_for(good, 1)
        stopping = time.monotonic()
    assert time.monotonic() - stopping < 6
    # It was interrupted by us: that is no failure of the receiver.
    assert stored(added.id).attempts == 0
    good.behave = answers(200)
    once()
    assert good.ids == [good.ids[0]] * 2


def test_latest_attempts_are_kept(good: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    assert attempts.MAX_ATTEMPTS == 100
    monkeypatch.setattr(attempts, "MAX_ATTEMPTS", 5)
    added, other = add(good.url), add(good.url)
    for number in range(9):
        reserve(f"r{number}")
    once()
    for webhook_id in (added.id, other.id):
        kept = [each.eventId for each in webhooks.latest_attempts(ROOT, webhook_id)]
        newest_first = list(dict.fromkeys(reversed(good.ids)))
        assert kept == newest_first[:5]


def test_cursor_beyond_the_newest_event_pauses(good: Receiver) -> None:
    added = add(good.url)
    Webhook.update(cursor=Cursor(10**9, 0, 0, 0).text).where(Webhook.id == added.id).execute()
    Webhook.update(attempts=1, failingSince=clock.now()).where(Webhook.id == added.id).execute()
    once()
    assert "restored to an earlier state" in (stored(added.id).pauseReason or "")
    assert good.received == []


def test_failing_database_does_not_hammer_the_receiver(
    good: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    add(good.url)
    reserve("r1")

    def fails(*arguments: object) -> None:
        raise RequestError(Code.UNAVAILABLE, "The database is full.")

    with monkeypatch.context() as patched:
        patched.setattr(attempts, "record", fails)
        with running():
            wait_for(good, 1)
            time.sleep(1.5)
    assert len(good.received) == 1
    assert "waits for the database: The database is full." in caplog.text
    once()
    assert good.ids == [good.ids[0]] * 2


def test_service_survives_a_database_error(
    good: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    add(good.url)
    real = database.horizon
    calls: list[int] = []

    def fails_at_first() -> database.Horizon:
        calls.append(1)
        if len(calls) < 3:
            raise RequestError(Code.UNAVAILABLE, "The database is down.")
        return real()

    monkeypatch.setattr(deliver, "horizon", fails_at_first)
    reserve("r1")
    with running():
        wait_for(good, 1)
    assert caplog.text.count("The database is not available for the delivery") == 1


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


def test_jobs_run_in_each_round_but_never_twice_at_once(world: Flask) -> None:
    calls: list[float] = []
    release = threading.Event()

    def slow() -> int:
        calls.append(time.monotonic())
        release.wait(10)
        return 0

    deliverer = Deliverer(private_networks=False, jobs=(slow,))
    deliverer.start_jobs()
    deliverer.start_jobs()
    wait_until(lambda: len(calls) == 1, "not called")
    release.set()
    deliverer._wait_for(deliverer._running)  # noqa: SLF001
    deliverer.start_jobs()
    deliverer.finish()
    assert len(calls) == 2


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
