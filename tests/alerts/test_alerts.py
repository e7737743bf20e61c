"""Alerts: real mails and requests about what happened, each once, to the right people."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import time_machine
from flask import Flask
from support.alerts import CUSTOMER, PUBLIC_URL, add, budget, collect, once, spend
from support.delivery import add as add_webhook
from support.delivery import once as deliver_once
from support.mail_server import MailServer, mail_server, running
from support.receivers import answers, hangs, receiver
from support.world import ROOT

from budget_sync import ledger, manual_budgets
from budget_sync.accounts import customers
from budget_sync.alerts import manage
from budget_sync.alerts import send as sending
from budget_sync.alerts.service import Alerts
from budget_sync.database.delivery_models import Alert, AlertMessage, AlertState
from budget_sync.database.models import Budget, Customer
from budget_sync.delivery import attempts
from budget_sync.domain.request_models import AmendRequest, ReserveRequest

pytestmark = pytest.mark.both_engines


@pytest.fixture
def mails(world: Flask) -> Iterator[MailServer]:
    with mail_server() as started:
        yield started


def test_mail_has_figures_and_link(mails: MailServer) -> None:
    add(mails.url(), "threshold:80,threshold:100,overdrawn")
    travel = budget("Travel", 1000)
    spend(travel, 790)
    assert once() == (0, 0)
    spend(travel, 35, "card-7")
    assert once() == (1, 0)
    (mail,) = mails.mails
    assert mail.recipients == ["finance@acme.com"]
    assert mail.title == "Travel, Q1 2025: 82.5% used"
    assert mail.body.splitlines() == [
        "$825 of $1,000 used ($0 reserved, $825 committed), $175 available.",
        "Reached: 80%.",
        "Request card-7, by root (command line).",
        f"{PUBLIC_URL}/budget?id={travel}",
    ]
    assert once() == (0, 0)


def test_one_change_is_one_message(mails: MailServer) -> None:
    add(mails.url(), "threshold:80,threshold:100,overdrawn")
    travel = budget("Travel", 1000)
    spend(travel, 1000)
    manual_budgets.set_budget(ROOT, CUSTOMER, "Travel", "Q1 2025", Decimal(900))
    once()
    assert mails.titles == ["Travel, Q1 2025: 100% used", "Travel, Q1 2025: overdrawn by $100"]
    assert "Reached: 80%, 100%." in mails.mails[0].body


def test_transfer_fires_at_its_target_and_rearms_its_origin(mails: MailServer) -> None:
    add(mails.url(), "threshold:80")
    first, second = budget("Travel", 100), budget("Training", 100)
    for request_id in ("a", "b"):
        ledger.reserve(
            ROOT,
            ReserveRequest(
                budget_id=first, request_id=request_id, amount=Decimal(45), user_id="user-123"
            ),
        )
    spend(second, 50)
    once()
    ledger.amend(
        ROOT,
        AmendRequest(budget_id=first, request_id="b", to_budget_id=second, reason="Wrong budget"),
    )
    once()
    spend(first, 40)
    once()
    assert mails.titles == [
        "Travel, Q1 2025: 90% used",
        "Training, Q1 2025: 95% used",
        "Travel, Q1 2025: 85% used",
    ]


def test_changed_amount_counts(mails: MailServer) -> None:
    add(mails.url(), "threshold:80")
    travel = budget("Travel", 1000)
    spend(travel, 500)
    manual_budgets.set_budget(ROOT, CUSTOMER, "Travel", "Q1 2025", Decimal(600))
    once()
    assert mails.titles == ["Travel, Q1 2025: 83.3% used"]


def test_mail_server_that_is_down_delays_only(world: Flask) -> None:
    server = MailServer()
    add(server.url(to="a@acme.com,b@acme.com"), "threshold:50")
    with time_machine.travel(datetime.now(UTC)) as clock:
        for name in ("One", "Two", "Three"):
            spend(budget(name, 100), 60)
        assert once() == (0, 2)
        assert once() == (0, 0)
        (error,) = {row.error for row in AlertMessage.select() if row.error}
        assert "Connection refused" in error
        for _ in range(5):
            clock.shift(attempts.LONGEST_RETRY)
            assert once() == (0, 2)
        with running(server):
            assert once() == (0, 0)
            clock.shift(attempts.LONGEST_RETRY)
            assert once() == (6, 0)
            clock.shift(attempts.LONGEST_RETRY)
            assert once() == (0, 0)
    for recipient in ("a@acme.com", "b@acme.com"):
        received = [mail.title for mail in server.mails if mail.recipients == [recipient]]
        assert received == [f"{name}, Q1 2025: 60% used" for name in ("One", "Two", "Three")]


def test_refused_recipient_delays_no_other(mails: MailServer) -> None:
    add(mails.url(to="a@acme.com,b@acme.com"), "threshold:50")
    mails.behave = lambda to: "550 unknown" if to == "a@acme.com" else None
    with time_machine.travel(datetime.now(UTC)) as clock:
        spend(budget("Travel", 100), 60)
        assert once() == (1, 1)
        mails.behave = lambda _: None
        clock.shift(timedelta(minutes=1))
        assert once() == (1, 0)
    assert [mail.recipients for mail in mails.mails] == [["b@acme.com"], ["a@acme.com"]]


def test_many_delayed_messages_arrive_as_one(world: Flask) -> None:
    server = MailServer()
    add(server.url(), "threshold:50")
    for number in range(sending.MAX_SINGLE + 2):
        spend(budget(f"Team {number}", 100), 60)
    collect()
    with running(server):
        assert once() == (12, 0)
    (mail,) = server.mails
    assert mail.title == "Acme Inc.: 12 alerts"
    for number in range(sending.MAX_SINGLE + 2):
        assert mail.body.count(f"Team {number}, Q1 2025: 60% used") == 1


def test_kill_between_collection_and_sending(mails: MailServer) -> None:
    add(mails.url(), "threshold:50")
    spend(budget("Travel", 100), 60)
    # The process ends after this transaction. The next one has other objects.
    assert collect() == 1
    assert collect() == 0
    assert mails.mails == []
    assert once() == (1, 0)
    assert once() == (0, 0)
    assert mails.titles == ["Travel, Q1 2025: 60% used"]


def test_failed_transaction_stores_nothing(
    mails: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    alert_id = add(mails.url(), "threshold:50")
    before = Alert.get_by_id(alert_id).cursor
    spend(budget("Travel", 100), 60)
    with monkeypatch.context() as patch:
        patch.setattr(AlertMessage, "create", lambda **_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            collect()
    assert AlertState.select().count() == AlertMessage.select().count() == 0
    assert Alert.get_by_id(alert_id).cursor == before
    assert once() == (1, 0)


def test_killed_sender_repeats_only_after_the_lease(
    mails: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(mails.url(), "threshold:50")
    spend(budget("Travel", 100), 60)
    with time_machine.travel(datetime.now(UTC)) as clock:
        with monkeypatch.context() as patch:
            patch.setattr(sending, "_store_result", lambda *_: None)
            assert once()[0] == 1
        assert once() == (0, 0)
        clock.shift(sending.LEASE)
        assert once() == (1, 0)
    assert len(mails.mails) == 2


def test_request_to_a_program(world: Flask) -> None:
    with receiver() as good, time_machine.travel(datetime.now(UTC)) as clock:
        add(good.url.replace("http://", "json://"), "threshold:50")
        good.behave = answers(500)
        spend(budget("Travel", 100), 60)
        assert once() == (0, 1)
        good.behave = answers(200)
        clock.shift(timedelta(minutes=1))
        assert once() == (1, 0)
        assert json.loads(good.received[-1].body)["title"] == "Travel, Q1 2025: 60% used"


def test_hanging_server_delays_only_its_alert(
    mails: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("budget_sync.alerts.addresses.TIMEOUT_S", 3.0)
    with receiver(hangs) as bad:
        add(bad.url.replace("http://", "json://"), "threshold:50")
        add(mails.url(), "threshold:50")
        spend(budget("Travel", 100), 60)
        service = Alerts(PUBLIC_URL, private_networks=False)
        began = time.monotonic()
        service.job()
        while not mails.mails and time.monotonic() - began < 20:
            time.sleep(0.05)
        assert service.outcome.failed == 0
        assert mails.titles == ["Travel, Q1 2025: 60% used"]
        service.finish()


def test_stale_hold_is_reported_once(mails: MailServer) -> None:
    travel = budget("Travel", 1000)
    with time_machine.travel(datetime.now(UTC)) as clock:
        add(mails.url(), "stale-hold:14d")
        ledger.reserve(
            ROOT,
            ReserveRequest(
                budget_id=travel, request_id="r1", amount=Decimal(45), user_id="user-123"
            ),
        )
        clock.shift(timedelta(days=14))
        assert once() == (0, 0)
        clock.shift(timedelta(days=1))
        assert once() == (1, 0)
        clock.shift(timedelta(days=20))
        assert once() == (0, 0)
    (mail,) = mails.mails
    assert mail.title == "Reservation r1 open for more than 14 days"
    assert "$45 of Travel, Q1 2025, reserved on" in mail.body
    assert f"{PUBLIC_URL}/request?id=r1" in mail.body


def test_paused_webhook_is_reported(mails: MailServer) -> None:
    add(mails.url(), "webhook-paused")
    with receiver(answers(410)) as gone:
        add_webhook(f"{gone.url}/secret-path")
        budget("Travel", 1000)
        deliver_once()
    assert once() == (1, 0)
    (mail,) = mails.mails
    assert mail.title.startswith("Webhook paused: http://127.0.0.1:")
    assert "HTTP 410" in mail.body
    assert "secret-path" not in mail.title + mail.body


def test_owners_are_told_about_their_budgets(mails: MailServer) -> None:
    add(mails.url(cc="boss@acme.com"), "threshold:50", to_owners=True)
    travel, training = budget("Travel", 100), budget("Training", 100)
    Budget.update(ownerEmail="tina@acme.com").where(Budget.id == travel).execute()
    spend(travel, 60)
    spend(training, 60)
    assert once() == (2, 0)
    assert [(mail.title[:8], mail.recipients) for mail in mails.mails] == [
        ("Travel, ", ["tina@acme.com"]),
        ("Training", ["finance@acme.com", "boss@acme.com"]),
    ]


def test_department_limits_the_budgets(mails: MailServer) -> None:
    add(mails.url(), "threshold:50", department=" travel ")
    for name in ("Travel", "Training"):
        spend(budget(name, 100), 60)
    assert once() == (1, 0)
    assert mails.titles == ["Travel, Q1 2025: 60% used"]


def test_other_customers_are_never_told(mails: MailServer) -> None:
    customers.add_customer(ROOT, "other", "Other Inc.")
    add(mails.url(to="theirs@other.com"), "threshold:50", customer_id="other")
    spend(budget("Travel", 100), 60)
    assert once() == (0, 0)
    spend(budget("Travel", 100, customer_id="other"), 60)
    assert once() == (1, 0)
    assert AlertMessage.select().count() == 1


def test_disabled_customer_gets_nothing(mails: MailServer) -> None:
    add(mails.url(), "threshold:50,stale-hold:1d", digest_at=None)
    spend(budget("Travel", 100), 60)
    collect()
    spend(budget("Training", 100), 60)
    Customer.update(disabledAt=datetime.now(UTC)).where(Customer.id == CUSTOMER).execute()
    assert once() == (0, 0)
    assert mails.mails == []
    assert AlertMessage.select().count() == 1


def test_test_customer_gets_nothing(mails: MailServer) -> None:
    customers.add_customer(ROOT, "trial", "Trial Inc.", is_test=True)
    add(mails.url(), "threshold:50", customer_id="trial")
    spend(budget("Travel", 100, customer_id="trial"), 60)
    assert once() == (0, 0)
    assert mails.mails == []
    assert AlertMessage.select().count() == 0


def test_removed_alert_sends_nothing_more(mails: MailServer) -> None:
    alert_id = add(mails.url(), "threshold:50")
    spend(budget("Travel", 100), 60)
    collect()
    manage.remove_alert(ROOT, alert_id)
    assert once() == (0, 0)
    assert mails.mails == []
    assert Alert.get_by_id(alert_id).url == ""


def test_digest_is_one_message_at_its_local_time(mails: MailServer) -> None:
    Customer.update(timeZone="Europe/Berlin").where(Customer.id == CUSTOMER).execute()
    # On 30 March 2025, Berlin's clocks go forward: 08:00 is 07:00 UTC before, and 06:00 after.
    with time_machine.travel(datetime(2025, 3, 29, 8, 0, tzinfo=UTC), tick=False) as clock:
        add(mails.url(), "threshold:50", digest_at="08:00")
        for name in ("Travel", "Training"):
            spend(budget(name, 100), 60)
        assert once() == (0, 0)
        clock.move_to(datetime(2025, 3, 30, 5, 59, 59, tzinfo=UTC))
        assert once() == (0, 0)
        clock.move_to(datetime(2025, 3, 30, 6, 0, tzinfo=UTC))
        assert once() == (2, 0)
        clock.move_to(datetime(2025, 3, 31, 6, 0, tzinfo=UTC))
        # Nothing to report: no mail.
        assert once() == (0, 0)
    (mail,) = mails.mails
    assert mail.title == "Acme Inc.: 2 alerts until 2025-03-30 08:00"
    assert mail.body.index("Travel, Q1") < mail.body.index("Training, Q1")


def test_entry_after_its_digest_waits_for_the_next(mails: MailServer) -> None:
    with time_machine.travel(datetime(2025, 2, 3, 7, 0, tzinfo=UTC), tick=False) as clock:
        add(mails.url(), "threshold:50", digest_at="08:00")
        spend(budget("Travel", 100), 60)
        late = budget("Training", 100)
        clock.move_to(datetime(2025, 2, 3, 7, 59, 59, tzinfo=UTC))
        collect()
        spend(late, 60)
        clock.move_to(datetime(2025, 2, 3, 8, 0, 1, tzinfo=UTC))
        # The digest is sent before the last change is read.
        Alerts(PUBLIC_URL, private_networks=False).start_due()
        deadline = time.monotonic() + 20
        while AlertMessage.select().where(AlertMessage.sentAt.is_null()).exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert once() == (0, 0)
        clock.move_to(datetime(2025, 2, 4, 8, 0, tzinfo=UTC))
        assert once() == (1, 0)
    assert [mail.title.rpartition(" until ")[2] for mail in mails.mails] == [
        "2025-02-03 08:00",
        "2025-02-04 08:00",
    ]
