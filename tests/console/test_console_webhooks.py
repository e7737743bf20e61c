"""The page of webhooks: add, secret shown once, state, last deliveries, and the actions."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from flask import Flask
from support.console_site import hold, member, send
from support.receivers import Receiver, answers, receiver
from support.world import ROOT

from budget_sync.accounts import customers
from budget_sync.database.delivery_models import Webhook
from budget_sync.delivery import webhooks
from budget_sync.delivery.deliver import Deliverer
from budget_sync.domain import clock
from budget_sync.domain.events import EventType
from budget_sync.domain.permissions import Role
from budget_sync.operations import demo
from budget_sync.web.console import webhooks as views

pytestmark = pytest.mark.both_engines

URL = "https://hooks.example.com/budgets"
TYPES = [str(kind) for kind in EventType]


@pytest.fixture
def good(site: Flask) -> Iterator[Receiver]:
    with receiver() as started:
        yield started


def add(url: str, customer_id: str = demo.CUSTOMER) -> str:
    return webhooks.add_webhook(ROOT, customer_id, url, private_networks=False).id


def deliver() -> None:
    Deliverer(private_networks=False).run_once()


def test_secret_is_shown_once(site: Flask) -> None:
    admin = member(site, "boss", Role.ADMIN)
    empty = admin.get("/webhooks").text
    assert "No webhook yet" in empty
    assert 'href="/webhooks" aria-current="page"' in empty
    added = send(admin, "/webhooks/add", url=URL, type=TYPES)
    secret = re.search(r'id="value">(whsec_[^<]+)<', added.text)
    assert secret
    (webhook,) = Webhook.select()
    assert (webhook.url, webhook.types, webhook.secret) == (URL, None, secret[1])
    for path in ("/webhooks", f"/webhooks/show?id={webhook.id}", "/audit"):
        text = admin.get(path).text
        assert "hooks.example.com" in text
        assert secret[1] not in text
    assert "No delivery yet" in admin.get(f"/webhooks/show?id={webhook.id}").text


def test_chosen_types_are_kept(site: Flask) -> None:
    admin = member(site, "boss", Role.ADMIN)
    chosen = ["sync.failed", "budget.threshold"]
    assert send(admin, "/webhooks/add", url=URL, type=chosen).status_code == 200
    assert Webhook.select().get().types == "budget.threshold,sync.failed"
    assert "budget.threshold, sync.failed" in admin.get("/webhooks").text
    none = send(admin, "/webhooks/add", url=URL)
    assert (none.status_code, "types must have at least one type" in none.text) == (400, True)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://hooks.example.com/", "must begin with https://"),
        ("https://user:pw@hooks.example.com/", "must not have a user or password"),
        ("https://10.0.0.1/", "10.0.0.1 has an address in a private network"),
        ("https://169.254.169.254/", "169.254.169.254 has a link-local address"),
        ("http://127.0.0.1:9000/", "An operator can add it with `flask add-webhook`"),
        ("https://hooks.example.com:25/", "must not have the port 25"),
    ],
)
def test_refused_address_is_explained_and_kept_in_the_form(
    site: Flask, url: str, says: str
) -> None:
    admin = member(site, "boss", Role.ADMIN)
    rejected = send(admin, "/webhooks/add", url=url, type=TYPES)
    assert rejected.status_code == 400
    assert says in rejected.text
    assert f'value="{url}"' in rejected.text
    assert Webhook.select().count() == 0


def test_last_deliveries_and_pause_are_shown(site: Flask, good: Receiver) -> None:
    admin = member(site, "boss", Role.ADMIN)
    webhook_id = add(good.url)
    page = f"/webhooks/show?id={webhook_id}"
    hold("r1", 1)
    deliver()
    delivered = admin.get(page).text
    assert re.search(r"reservation.created.*Delivered</span> HTTP 204.* ms<", delivered, re.DOTALL)
    assert "Resume" not in delivered
    good.behave = answers(500)
    hold("r2", 1)
    deliver()
    failing = admin.get(page).text
    assert "Failed</span> HTTP 500." in failing
    assert "Failing" in admin.get("/webhooks").text
    good.behave = answers(410)
    assert send(admin, "/webhooks/resume", id=webhook_id).status_code == 302
    deliver()
    paused = admin.get(page).text
    assert "HTTP 410: the receiver wants no more events." in paused
    assert "Paused" in admin.get("/webhooks").text
    assert "Webhook paused" in admin.get("/audit").text
    good.behave = answers(200)
    assert send(admin, "/webhooks/resume", id=webhook_id).status_code == 302
    deliver()
    assert [each.event["data"]["requestId"] for each in good.received] == ["r1", "r2", "r2", "r2"]
    assert "Active" in admin.get("/webhooks").text


def test_missed_events_can_be_skipped(site: Flask, good: Receiver) -> None:
    admin = member(site, "boss", Role.ADMIN)
    webhook_id = add(good.url)
    good.behave = answers(410)
    hold("r1", 1)
    deliver()
    assert send(admin, "/webhooks/resume", id=webhook_id, **{"from": "latest"}).status_code == 302
    good.behave = answers(200)
    hold("r2", 1)
    deliver()
    assert [each.event["data"]["requestId"] for each in good.received] == ["r1", "r2"]


def test_test_event_is_sent_and_its_result_shown(site: Flask, good: Receiver) -> None:
    admin = member(site, "boss", Role.ADMIN)
    webhook_id = add(good.url)
    secret = Webhook.get_by_id(webhook_id).secret
    assert send(admin, "/webhooks/test", id=webhook_id).status_code == 302
    page = admin.get(f"/webhooks/show?id={webhook_id}").text
    assert re.search(r"Delivered with HTTP 204 in \d+ ms\.", page)
    assert "webhook.test" in page
    (received,) = good.received
    assert received.verify(secret)["type"] == "webhook.test"
    good.behave = answers(500)
    send(admin, "/webhooks/test", id=webhook_id)
    assert "Not delivered" in admin.get("/webhooks").text
    # A failed test does not count as a failure of the delivery.
    assert Webhook.get_by_id(webhook_id).attempts == 0


def test_tests_occupy_few_threads(site: Flask, good: Receiver) -> None:
    admin = member(site, "boss", Role.ADMIN)
    webhook_id = add(good.url)
    for _ in range(views.TESTS_AT_ONCE):
        assert views._tests.acquire(blocking=False)  # noqa: SLF001
    try:
        busy = send(admin, "/webhooks/test", id=webhook_id)
    finally:
        for _ in range(views.TESTS_AT_ONCE):
            views._tests.release()  # noqa: SLF001
    assert (busy.status_code, "try again shortly" in busy.text) == (503, True)
    assert good.received == []


def test_secret_is_replaced_with_an_overlap(site: Flask) -> None:
    admin = member(site, "boss", Role.ADMIN)
    webhook_id = add(URL)
    first = Webhook.get_by_id(webhook_id).secret
    assert 'value="24"' in admin.get(f"/webhooks/rotate?id={webhook_id}").text
    too_long = send(admin, "/webhooks/rotate", id=webhook_id, overlap="9999")
    assert (too_long.status_code, "at most 30 days" in too_long.text) == (400, True)
    replaced = send(admin, "/webhooks/rotate", id=webhook_id, overlap="24")
    secret = re.search(r'id="value">(whsec_[^<]+)<', replaced.text)
    assert secret
    stored = Webhook.get_by_id(webhook_id)
    assert (stored.secret, stored.previousSecret) == (secret[1], first)
    assert "Earlier secret" in admin.get(f"/webhooks/show?id={webhook_id}").text
    Webhook.update(previousSecretUntil=clock.now()).execute()
    assert "Earlier secret" not in admin.get(f"/webhooks/show?id={webhook_id}").text


def test_webhook_is_removed_after_confirmation(site: Flask) -> None:
    admin = member(site, "boss", Role.ADMIN)
    webhook_id = add(URL)
    assert "cannot be undone" in admin.get(f"/webhooks/remove?id={webhook_id}").text
    assert send(admin, "/webhooks/remove", id=webhook_id).status_code == 302
    assert "No webhook yet" in admin.get("/webhooks").text
    assert admin.get(f"/webhooks/show?id={webhook_id}").status_code == 404


@pytest.mark.parametrize("role", [Role.FPA_ADMIN, Role.FPA_USER, Role.MANAGER, Role.BUSINESS_USER])
def test_only_admins_see_webhooks(site: Flask, role: Role) -> None:
    webhook_id = add(URL)
    other = member(site, "other", role)
    assert "/webhooks" not in other.get("/").text
    for path in (
        "/webhooks",
        f"/webhooks/show?id={webhook_id}",
        f"/webhooks/rotate?id={webhook_id}",
    ):
        assert other.get(path).status_code == 403
    for path in ("add", "rotate", "test", "resume", "remove"):
        sent = send(other, f"/webhooks/{path}", id=webhook_id, url=URL, type=TYPES, overlap="1")
        assert sent.status_code == 403
    assert Webhook.select().count() == 1
    assert Webhook.select().get().removedAt is None


def test_webhook_of_another_customer_is_unknown(site: Flask) -> None:

    customers.add_customer(ROOT, "other", "Other Inc.")
    webhook_id = add(URL, "other")
    for actor in (member(site, "boss", Role.ADMIN), member(site, "root", Role.SUPER_ADMIN, None)):
        assert "hooks.example.com" not in actor.get("/webhooks").text
        assert actor.get(f"/webhooks/show?id={webhook_id}").status_code == 404
        for path in ("rotate", "test", "resume", "remove"):
            sent = send(actor, f"/webhooks/{path}", id=webhook_id, overlap="1")
            assert sent.status_code == 404
