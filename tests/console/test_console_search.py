"""The search for anything: its results, their owners, and its limits."""

from __future__ import annotations

import html
import re
from datetime import date
from decimal import Decimal

import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.console_site import check_for, hold, member
from support.world import ROOT

from budget_sync import ledger, manual_budgets
from budget_sync.accounts import customers
from budget_sync.domain.permissions import Role
from budget_sync.domain.request_models import CheckRequest, CommitRequest, SpendRequest
from budget_sync.operations import demo
from budget_sync.queries import search

pytestmark = pytest.mark.both_engines


def check(request_id: str, **fields: str | Decimal) -> None:
    """Check 10 as the orchestrator, for Mia Wong."""
    body = {
        "request_id": request_id,
        "user_id": "mia",
        "user_name": "Mia Wong",
        "user_email": "mia@acme.com",
        "customer_id": demo.CUSTOMER,
        "department": "Engineering",
        "fiscal_period": "Q1 2025",
        "amount": Decimal(10),
    }
    ledger.check(ROOT, CheckRequest.model_validate(body | fields))


def found(client: FlaskClient, text: str, more: str = "") -> list[str]:
    """The requests and spends that a search lists, in order."""
    page = client.get(f"/search?q={text}{more}")
    assert page.status_code == 200
    return [html.unescape(each) for each in re.findall(r'/request\?id=([^"&]+)"', page.text)]


def state(client: FlaskClient, request_id: str) -> str:
    """The state of a request in the results."""
    page = client.get(f"/search?q={request_id}").text
    row = next(row for row in page.split("<tr>") if f"/request?id={request_id}" in row)
    badge = re.search(r'class="badge [^"]*">([^<]+)', row)
    assert badge
    return html.unescape(badge[1])


@pytest.fixture
def mixed(site: Flask) -> None:
    """Requests in all states, and a spend."""
    check("PR-2002", department="Enginering", vendor="Figma", purpose="Seats for design")
    check("PR-2003", vendor="Slack")
    hold("PR-2003", 10)
    check("PR-2004", vendor="slack")
    hold("PR-2004", 10)
    ledger.commit(
        ROOT, CommitRequest(budget_id=demo.BUDGET, request_id="PR-2004", amount=Decimal(10))
    )
    spend = SpendRequest(
        spend_id="card-77",
        budget_id=demo.BUDGET,
        amount=Decimal(5),
        date=date(2025, 2, 7),
        vendor="Slack",
        reason="Company card",
    )
    ledger.spend(ROOT, spend)


@pytest.mark.usefixtures("mixed")
def test_every_text_of_a_request_finds_it(fiona: FlaskClient) -> None:
    for text, expected in (
        ("PR-2002", ["PR-2002"]),
        ("pr-2002", ["PR-2002"]),
        ("PR-", ["PR-2004", "PR-2003", "PR-2002"]),
        ("figma", ["PR-2002"]),
        ("seats+for", ["PR-2002"]),
        ("enginering", ["PR-2002"]),
        ("MIA@acme", ["PR-2004", "PR-2003", "PR-2002"]),
        ("wong", ["PR-2004", "PR-2003", "PR-2002"]),
        ("slack", ["PR-2004", "PR-2003", "card-77"]),
        ("card-77", ["card-77"]),
        ("2003", ["PR-2003"]),
        ("nothing", []),
        ("100%25", []),
    ):
        listed = found(fiona, text)
        assert set(listed) == set(expected), text
        assert len(listed) == len(expected), text


@pytest.mark.usefixtures("mixed")
def test_each_request_is_one_line_with_its_state(fiona: FlaskClient) -> None:
    assert state(fiona, "PR-2002") == "No budget"
    assert state(fiona, "PR-2003") == "Open"
    assert state(fiona, "PR-2004") == "Closed"
    check("PR-2002", amount=Decimal(7))
    assert state(fiona, "PR-2002") == "Auto-approved"
    assert found(fiona, "PR-2002") == ["PR-2002"]


def test_budgets_are_found_by_name_and_id(fiona: FlaskClient) -> None:
    for number in range(12):
        manual_budgets.set_budget(
            ROOT, demo.CUSTOMER, f"Team {number:02}", "Q2 2025", Decimal(10), budget_id=f"t{number}"
        )
    manual_budgets.remove_budget(ROOT, "t7")
    assert "/budget?id=budget-123" in fiona.get("/search?q=budget-1").text
    assert "/budget?id=budget-123" in fiona.get("/search?q=ENGINEER").text
    page = fiona.get("/search?q=team").text
    assert page.count("/budget?id=t") == 10
    assert 'href="/budgets?q=team" rel="next">All 11 budgets' in page
    deleted = fiona.get("/search?q=t7").text
    assert "/budget?id=t7" in deleted
    assert "Deleted" in deleted


@pytest.mark.usefixtures("mixed")
def test_text_is_looked_for_in_the_newest_rows_and_ids_in_all(
    fiona: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "LOOKED_AT", 2)
    for number in range(4):
        check(f"new-{number}")
    page = fiona.get("/search?q=figma").text
    assert "Nothing found" in page
    assert "Ids were looked up everywhere." in page
    older = re.search(r'href="(/search[^"]+)" rel="next">Search older', page)
    assert older
    seen: list[str] = []
    address: str | None = html.unescape(older[1])
    while address:
        page = fiona.get(address).text
        seen += re.findall(r'/request\?id=([^"&]+)"', page)
        following = re.search(r'href="(/search[^"]+)" rel="next">Search older', page)
        address = html.unescape(following[1]) if following else None
    assert seen == ["PR-2002"]
    assert "back to the first check" in page
    assert found(fiona, "PR-2002") == ["PR-2002"]


@pytest.mark.usefixtures("mixed")
def test_long_results_say_that_they_are_cut(
    fiona: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "LISTED", 2)
    assert len(found(fiona, "PR-")) == 2
    assert "Only the latest 2 requests" in fiona.get("/search?q=PR-").text


@pytest.mark.usefixtures("mixed")
def test_employee_finds_own_requests_only(site: Flask) -> None:
    client = member(site, "emma", Role.BUSINESS_USER)
    check_for("PR-9", "emma", 10)
    hold("PR-10", 10, user_id="emma")
    assert set(found(client, "PR-")) == {"PR-9", "PR-10"}
    for text in ("PR-2002", "slack", "card-77", "wong", "figma"):
        assert found(client, text) == [], text


@pytest.mark.usefixtures("mixed")
def test_another_customer_finds_nothing(site: Flask) -> None:
    customers.add_customer(ROOT, "other", "Other")
    stranger = member(site, "stranger", Role.ADMIN, "other")
    for text in ("PR-2002", "slack", "card-77", "engineering", "budget-123"):
        page = stranger.get(f"/search?q={text}").text
        assert "Nothing found" in page, text


def test_odd_texts_are_harmless(fiona: FlaskClient) -> None:
    for text in ("", "+", "%00", "%ff", "x" * 5000, "%3Cb%3E", "'%22", "%25", "_", "%F0%9F%98%80"):
        page = fiona.get(f"/search?q={text}")
        assert page.status_code == 200, text
        assert "<b>" not in page.text
    for cursor in ("1", "a.b.c", "1.2.3", "9" * 40, "-1.2.3"):
        assert fiona.get(f"/search?q=x&before={cursor}").status_code == 200
    assert "Type an id" in fiona.get("/search").text


def test_box_is_on_every_page_and_keeps_the_text(fiona: FlaskClient) -> None:
    for path in ("/", "/budgets", "/requests", "/unmatched"):
        assert 'action="/search"><input type="search" name="q" value=""' in fiona.get(path).text
    assert 'name="q" value="figma" aria-label="Find anything"' in fiona.get("/search?q=figma").text
