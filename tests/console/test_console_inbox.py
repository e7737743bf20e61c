"""The inbox on the overview: the viewer's open tasks, each with its action one click away."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from pathlib import Path

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from support.console_site import confirm, hold, member, short_check
from support.sources import add_file
from support.world import ROOT

from budget_sync import sync
from budget_sync.accounts import api_keys
from budget_sync.database.delivery_models import Webhook
from budget_sync.database.models import Customer
from budget_sync.domain import clock
from budget_sync.domain.permissions import Role
from budget_sync.operations import demo
from budget_sync.queries import inbox as inbox_queries
from budget_sync.queries.inbox import SyncTrouble, inbox
from budget_sync.sync.sheet_names import SheetName

pytestmark = pytest.mark.both_engines


def shown(client: FlaskClient) -> str:
    """The inbox as the page shows it."""
    page = client.get("/").text
    return html.unescape(page[page.index('id="inbox"') : page.index('class="home"')])


def links(text: str, label: str) -> list[str]:
    """The addresses of the links with that label."""
    return re.findall(rf'href="([^"]+)">{re.escape(label)}<', text)


def test_empty_inbox_says_so(site: Flask) -> None:
    for role in (Role.FPA_ADMIN, Role.ADMIN, Role.BUSINESS_USER):
        assert "All clear: nothing waits for you." in shown(member(site, f"u-{role}", role))


def test_waiting_and_uncovered_requests_have_their_actions(fiona: FlaskClient) -> None:
    with time_machine.travel(clock.now() - timedelta(days=3, minutes=1), tick=False):
        short_check("waits", 20_000)
        hold("waits", 20_000)
    short_check("denied")
    short_check("no-budget", 50, department="Enginering")
    text = shown(fiona)
    assert "Waiting 3 days" in text
    assert "$20,000 on Engineering" in text
    assert links(text, "Approve") == ["/request/approve-reservation?id=waits&budget=budget-123"]
    assert links(text, "Reject") == ["/request/release?id=waits&budget=budget-123&action=reject"]
    assert links(text, "Approve over budget") == ["/request/approve?id=denied"]
    assert links(text, "Decline") == [
        "/request/decline?id=no-budget",
        "/request/decline?id=denied",
    ]
    for path in (*links(text, "Approve"), *links(text, "Reject"), *links(text, "Decline")):
        assert fiona.get(path).status_code == 200, path
    confirm(fiona, links(text, "Approve")[0], reason="")
    for path in links(text, "Decline"):
        confirm(fiona, f"{path}&", reason="No")
    fiona.get("/")
    assert "All clear" in shown(fiona)


def test_employee_sees_their_own_without_actions(site: Flask) -> None:
    client = member(site, "emma", Role.BUSINESS_USER)
    for request_id, user_id in (("hers", "emma"), ("theirs", "user-123")):
        short_check(request_id, 20_000, user_id=user_id)
        hold(request_id, 20_000, user_id=user_id)
    text = shown(client)
    assert "hers" in text
    assert "theirs" not in text
    assert "Approve" not in text.replace("approval", "")
    assert "Reject" not in text


def test_own_request_has_no_approval(fiona: FlaskClient) -> None:
    short_check("mine", 20_000, user_id="fp")
    hold("mine", 20_000, user_id="fp")
    text = shown(fiona)
    assert "mine" in text
    assert links(text, "Approve") == []


def test_only_the_first_of_a_kind_are_listed(
    fiona: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        short_check(f"waits-{number}", 15_000 if number else 20_000)
        hold(f"waits-{number}", 1)
    text = shown(fiona)
    assert len(links(text, "Approve")) == 5
    assert "All 7 reservations that wait for approval" in text
    assert links(text, "All 7 reservations that wait for approval") == ["/requests?view=waiting"]
    monkeypatch.setattr(inbox_queries, "COUNTED", 5)
    assert "All more than 5 reservations" in shown(fiona)


@pytest.mark.parametrize(("hold_days", "age"), [(None, 14), (30, 30), (3, 3)])
def test_old_reservations_are_older_than_the_limit(
    fiona: FlaskClient, hold_days: int | None, age: int
) -> None:
    Customer.update(holdDays=hold_days).execute()
    for request_id, hours in (("older", 1), ("younger", -1)):
        with time_machine.travel(clock.now() - timedelta(days=age, hours=hours), tick=False):
            hold(request_id, 5)
    text = shown(fiona)
    assert "older" in text
    assert "younger" not in text


def test_keys_and_webhooks_are_for_admins(site: Flask) -> None:
    api_keys.add_key(ROOT, "erp", customer_id=demo.CUSTOMER, lifetime=timedelta(days=5))
    api_keys.add_key(ROOT, "lasting", customer_id=demo.CUSTOMER, lifetime=timedelta(days=50))
    Webhook.insert(
        id="wh_1",
        customerId=demo.CUSTOMER,
        url="https://hooks.example/1",
        secret="s",  # not a secret
        cursor="a0.0-s0.0",
        createdAt=clock.now(),
        pausedAt=clock.now(),
        pauseReason="Failed for 3 days",
    ).execute()
    admin, fpa = member(site, "ada", Role.ADMIN), member(site, "fp2", Role.FPA_USER)
    text = shown(admin)
    assert "Expires in 5 days" in text
    assert "lasting" not in text
    assert "Failed for 3 days" in text
    for path in re.findall(r'href="(/(?:keys|webhook)[^"]*)"', text):
        assert admin.get(path).status_code == 200, path
    assert "All clear" in shown(fpa)


def test_sync_problems_are_finances_or_the_operators(site: Flask) -> None:
    client = member(site, "fp", Role.FPA_USER)
    chosen = site.config["SETTINGS"]
    folder: Path = chosen.csv_folder
    folder.mkdir(parents=True)

    def run(*rows: str) -> None:
        lines = ["Department,Fiscal Period,Budgeted Amount", *rows]
        (folder / "plan.csv").write_text("\n".join(lines), encoding="utf-8")
        list(sync.sync_all(sync.Job(ROOT, sync.Reach.of(chosen), chosen.instance_folder)))

    plan = [f"{name},Q1 2025,1000" for name in ("Sales", "Legal", "Design", "Data")]
    (folder / "plan.csv").write_text("Department,Fiscal Period,Budgeted Amount\n")
    add_file(demo.CUSTOMER, folder, "plan.csv")
    run(*plan)
    assert "All clear" in shown(client)
    run(*plan, "Art,Q1 2025,abc")
    text = shown(client)
    (path,) = links(text, "1 row of the sheet could not be read")
    assert client.get(path).status_code == 200
    run(*plan[:1])
    text = shown(client)
    (path,) = links(text, "3 deletions")
    assert client.get(path).status_code == 200
    assert "For your operator" not in text
    with time_machine.travel(clock.now() + timedelta(hours=5), tick=False):
        text = shown(client)
    assert "Sync is stale" in text.split("For your operator")[1]


def test_credentials_and_cron_are_for_the_operator() -> None:
    def is_operators(kind: str, message: str | None = None) -> bool:
        return SyncTrouble(kind, "src", SheetName("plan.csv"), None, None, message).is_operators

    assert is_operators("failed", "GOOGLE_APPLICATION_CREDENTIALS is not set: set it")
    assert is_operators("failed", "Google does not accept it (401): renew the credentials file.")
    assert is_operators("stale")
    assert is_operators("never")
    assert not is_operators("failed", "The header row has no column for the amount.")
    assert not is_operators("rejected")
    assert not is_operators("waiting")


def test_inbox_counts_what_it_lists(site: Flask) -> None:
    short_check("denied")
    found = inbox(ROOT, Customer.get_by_id(demo.CUSTOMER))
    assert (found.total, found.uncovered.total, found.waiting.total) == (1, 1, 0)
