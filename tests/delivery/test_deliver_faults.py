"""The delivery when receivers or the database fail: retries, pauses, time limits, stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from flask import Flask
from support.delivery import CUSTOMER, add, once, requests_of, reserve, running, stored, wait_for
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

from budget_sync import database
from budget_sync.database.delivery_models import Webhook, WebhookAttempt
from budget_sync.database.models import AuditLog
from budget_sync.delivery import attempts, deliver, post, webhooks
from budget_sync.delivery.deliver import Deliverer
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError
from budget_sync.queries.events import Cursor

pytestmark = pytest.mark.both_engines


@pytest.fixture
def good(world: Flask) -> Iterator[Receiver]:
    with receiver() as started:
        yield started


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
