"""The page of alerts: add, test, remove, and what was sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from support.alerts import add as add_alert
from support.alerts import budget, once, spend
from support.console_site import member, send
from support.mail_server import MailServer, mail_server, running
from support.world import ROOT

from budget_sync.accounts import customers
from budget_sync.database.delivery_models import Alert
from budget_sync.domain.permissions import Role
from budget_sync.web.console import alerts as views

pytestmark = pytest.mark.both_engines

URL = "mailtos://me:s3cretpassword@mail.example.com?to=finance@acme.com"
FORM: dict[str, Any] = {
    "url": URL,
    "thresholds": "80, 100",
    "on": ["overdrawn", "held"],
    "days": "14",
}


@pytest.fixture
def mails(site: Flask) -> Iterator[MailServer]:
    with mail_server() as started:
        yield started


def test_alert_is_added_without_showing_its_password(site: Flask) -> None:
    fpa = member(site, "fpa", Role.FPA_ADMIN)
    empty = fpa.get("/alerts").text
    assert "No alert yet" in empty
    assert "No message yet" in empty
    assert 'href="/alerts" aria-current="page"' in empty
    added = send(fpa, "/alerts/add", **FORM, department="Travel", digest="08:00", owners="yes")
    assert added.status_code == 302
    (alert,) = Alert.select()
    assert (alert.url, alert.department, alert.digestAt, alert.toOwners) == (
        URL,
        "Travel",
        "08:00",
        True,
    )
    assert alert.conditions == "threshold:80,threshold:100,overdrawn,held,stale-hold:14d"
    for path in ("/alerts", f"/alerts/remove?id={alert.id}"):
        text = fpa.get(path).text
        assert "mailtos://mail.example.com:587 to finance@acme.com" in text
        assert "s3cret" not in text
    page = fpa.get("/alerts").text
    assert "only Travel" in page
    assert "daily at 08:00 UTC" in page
    assert "the owners of budgets" in page


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"url": "json://10.0.0.1/s3cret"}, "in a private network"),
        ({"url": "mailto://localhost?from=a@b.com"}, "An operator can add it"),
        ({"thresholds": "", "on": [], "days": ""}, "on must have at least one condition"),
        ({"thresholds": "eighty"}, "has the unknown condition &#39;threshold:eighty&#39;"),
        ({"digest": "8 o'clock"}, "must be a time of day"),
        ({"url": "jsons://hooks.example.com", "owners": "yes"}, "needs the address of a mail"),
    ],
)
def test_wrong_form_is_explained_and_kept(site: Flask, changes: dict[str, Any], says: str) -> None:
    admin = member(site, "boss", Role.ADMIN)
    rejected = send(admin, "/alerts/add", **(FORM | {"department": "Sales & Co"} | changes))
    assert rejected.status_code == 400
    assert says in rejected.text
    assert 'value="Sales &amp; Co"' in rejected.text
    assert "s3cret" not in rejected.text
    assert Alert.select().count() == 0


def test_messages_are_shown_as_failed_and_as_sent(site: Flask) -> None:
    admin = member(site, "boss", Role.ADMIN)
    server = MailServer()
    alert_id = add_alert(server.url(), "threshold:50")
    spend(budget("Travel", 100), 60)
    once()
    failed = admin.get("/alerts").text
    assert "Failed</span> Connection error while submitting email" in failed
    assert "1 waiting" in failed
    tested = send(admin, "/alerts/test", id=alert_id)
    assert tested.status_code == 302
    assert "Not sent. Connection error" in admin.get("/alerts").text
    with running(server):
        send(admin, "/alerts/test", id=alert_id)
        assert "The test message was accepted." in admin.get("/alerts").text
    assert server.titles == ["Test of an alert"]
    assert server.mails[0].body == "Alerts of Acme Inc. arrive here."


def test_sent_message_is_shown_until_removal(site: Flask, mails: MailServer) -> None:
    admin = member(site, "boss", Role.ADMIN)
    alert_id = add_alert(mails.url(), "threshold:50")
    spend(budget("Travel", 100), 60)
    once()
    page = admin.get("/alerts").text
    assert "Travel, Q1 2025: 60% used" in page
    assert "Sent</span>" in page
    assert send(admin, "/alerts/remove", id=alert_id).status_code == 302
    page = admin.get("/alerts").text
    assert "No alert yet" in page
    assert "Travel" not in page
    assert "Alert removed" in admin.get("/audit").text


def test_digest_that_waits_is_shown(site: Flask, mails: MailServer) -> None:
    admin = member(site, "boss", Role.ADMIN)
    add_alert(mails.url(), "threshold:50", digest_at="23:59")
    spend(budget("Travel", 100), 60)
    once()
    page = admin.get("/alerts").text
    assert "Waiting</span> until" in page
    assert "1 waiting" not in page


def test_other_customers_alerts_are_not_found(site: Flask) -> None:
    customers.add_customer(ROOT, "other", "Other Inc.")
    theirs = add_alert(URL, "overdrawn", customer_id="other")
    admin = member(site, "boss", Role.ADMIN)
    assert "mail.example.com" not in admin.get("/alerts").text
    for path in ("/alerts/test", "/alerts/remove"):
        assert send(admin, path, id=theirs).status_code == 404
    assert admin.get(f"/alerts/remove?id={theirs}").status_code == 404
    # An operator's page shows one customer at a time.
    root = member(site, "root", Role.SUPER_ADMIN, None)
    assert send(root, "/alerts/remove", id=theirs).status_code == 404


@pytest.mark.parametrize("role", [Role.FPA_USER, Role.MANAGER, Role.BUSINESS_USER])
def test_other_roles_may_do_nothing(site: Flask, role: Role) -> None:
    alert_id = add_alert(URL, "overdrawn")
    client = member(site, "someone", role)
    assert client.get("/alerts").status_code == 403
    for path in ("/alerts/add", "/alerts/test", "/alerts/remove"):
        assert send(client, path, id=alert_id, **FORM).status_code == 403
    assert Alert.select().count() == 1


def test_tests_at_the_same_time_are_limited(site: Flask) -> None:
    admin = member(site, "boss", Role.ADMIN)
    alert_id = add_alert(URL, "overdrawn")
    taken = [views._tests.acquire(blocking=False) for _ in range(views.TESTS_AT_ONCE)]  # noqa: SLF001
    try:
        assert all(taken)
        assert send(admin, "/alerts/test", id=alert_id).status_code == 503
    finally:
        for _ in taken:
            views._tests.release()  # noqa: SLF001
