"""The Requests page: its tabs, and the filters that stay with them."""

from __future__ import annotations

import html
import re
from datetime import date, timedelta
from decimal import Decimal

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from support.console_site import check_for, hold, member, short_check
from support.world import ROOT

from budget_sync import ledger, manual_budgets
from budget_sync.domain import clock
from budget_sync.domain.permissions import Role
from budget_sync.domain.request_models import CommitRequest, SpendRequest
from budget_sync.operations import demo
from budget_sync.queries import paging

pytestmark = pytest.mark.both_engines

VIEWS = ("open", "waiting", "uncovered", "denied", "closed", "all", "spend")


def results(page: str) -> str:
    """The part of the page with the list."""
    return page.split('id="results"')[1]


def listed(client: FlaskClient, query: str) -> set[str]:
    """The requests that the page lists."""
    page = client.get(f"/requests?{query}")
    assert page.status_code == 200
    return set(re.findall(r'/request\?id=([^"&]+)"', results(page.text)))


def record_spend(spend_id: str, budget_id: str, day: date) -> None:
    """Record a spend of 5."""
    body = SpendRequest(
        spend_id=spend_id,
        budget_id=budget_id,
        amount=Decimal(5),
        date=day,
        vendor="Staples",
        reason="Card",
    )
    ledger.spend(ROOT, body)


@pytest.fixture
def mixed(site: Flask) -> None:
    """Of each view a row on each of two budgets: an old one on Legal, a new one on Engineering.

    Their names are "<view>-legal" and "<view>-engineering".
    """
    manual_budgets.set_budget(
        ROOT, demo.CUSTOMER, "Legal", "Q2 2025", Decimal(90_000), budget_id="legal"
    )
    for department, budget_id, period, days in (
        ("Legal", "legal", "Q2 2025", 9),
        ("Engineering", demo.BUDGET, "Q1 2025", 0),
    ):
        name = department.lower()
        with time_machine.travel(clock.now() - timedelta(days=days), tick=False):
            hold(f"open-{name}", 10, budget_id=budget_id)
            check_for(f"waiting-{name}", "emma", 20_000, department=department, period=period)
            hold(f"waiting-{name}", 20_000, user_id="emma", budget_id=budget_id)
            short_check(f"uncovered-{name}", department=department, period=period)
            hold(f"closed-{name}", 10, budget_id=budget_id)
            commit = CommitRequest(
                budget_id=budget_id, request_id=f"closed-{name}", amount=Decimal(10)
            )
            ledger.commit(ROOT, commit)
            record_spend(f"spend-{name}", budget_id, clock.now().date())


#: The reservation that the fixture `site` commits.
OF_SITE = "intake-101"


@pytest.mark.usefixtures("mixed")
def test_each_view_lists_its_requests(fiona: FlaskClient) -> None:
    def both(*views: str) -> set[str]:
        return {f"{view}-{name}" for view in views for name in ("legal", "engineering")}

    assert listed(fiona, "") == both("open", "waiting")
    assert listed(fiona, "view=waiting") == both("waiting")
    assert listed(fiona, "view=uncovered") == both("uncovered")
    assert listed(fiona, "view=denied") == both("uncovered")
    assert listed(fiona, "view=closed") == both("closed") | {OF_SITE}
    assert listed(fiona, "view=all") == both("open", "waiting", "closed") | {OF_SITE}
    assert listed(fiona, "view=spend") == both("spend")


@pytest.mark.usefixtures("mixed")
@pytest.mark.parametrize("view", VIEWS)
def test_every_filter_works_in_every_view(fiona: FlaskClient, view: str) -> None:
    unfiltered = listed(fiona, f"view={view}")
    legal = {name for name in unfiltered if name.endswith("-legal")}
    assert legal
    for chosen in ("department=Legal", "period=Q2+2025", "days=5", "budget=legal"):
        assert listed(fiona, f"view={view}&{chosen}") == legal, chosen
    assert listed(fiona, f"view={view}&q=-legal") == legal
    assert listed(fiona, f"view={view}&department=Legal&period=Q1+2025") == set()
    for nothing in ("days=0", "days=-1", "days=x", "days=", "department=+", "period=+"):
        assert listed(fiona, f"view={view}&{nothing}") == unfiltered, nothing


@pytest.mark.usefixtures("mixed")
@pytest.mark.parametrize("view", VIEWS)
def test_filters_stay_on_other_tabs_and_pages(
    fiona: FlaskClient, view: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "PAGE_SIZE", 1)
    chosen = "q=e&department=Legal&period=Q2+2025&days=5&budget=legal"
    page = fiona.get(f"/requests?view={view}&{chosen}&after=999999999").text
    tabs = re.findall(
        r'<a href="\?view=(\w+)&amp;([^"]+)"', page.split('id="tabs"')[1].split("</nav>")[0]
    )
    assert [name for name, _ in tabs] == list(VIEWS)
    assert {html.unescape(filters) for _, filters in tabs} == {chosen}
    page = fiona.get(f"/requests?view={view}&q=e").text
    following = re.search(r'href="(\?[^"]+)" rel="next"', page)
    assert following
    assert "q=e" in following[1]
    first = listed(fiona, f"view={view}&q=e")
    second = listed(fiona, html.unescape(following[1]).lstrip("?"))
    assert len(first) == len(second) == 1
    assert first != second


@pytest.mark.usefixtures("mixed")
def test_form_keeps_what_was_chosen(fiona: FlaskClient) -> None:
    page = fiona.get("/requests?view=all&department=Legal&period=Q2+2025&days=5&budget=legal").text
    for field in (
        "<option selected>Legal</option>",
        "<option selected>Q2 2025</option>",
        'name="days" value="5"',
        'name="view" value="all"',
        'name="budget" value="legal"',
    ):
        assert field in page


@pytest.mark.parametrize(
    ("view", "sentence"),
    [
        ("open", "No open reservations"),
        ("waiting", "A request is listed here while its money is reserved and FP&A"),
        ("uncovered", "Nothing is waiting"),
        ("spend", "No spend yet"),
    ],
)
def test_empty_list_says_what_would_be_listed(fiona: FlaskClient, view: str, sentence: str) -> None:
    assert sentence in html.unescape(fiona.get(f"/requests?view={view}").text)
    filtered = fiona.get(f"/requests?view={view}&department=Nothing").text
    assert "Nothing found" in filtered
    assert f'href="/requests?view={view}">Show all' in filtered


def test_invalid_period_is_reported(fiona: FlaskClient) -> None:
    answer = fiona.get("/requests?period=Q9+2025")
    assert (answer.status_code, "eriod" in answer.text) == (400, True)


@pytest.mark.usefixtures("mixed")
def test_waiting_request_shows_its_age(fiona: FlaskClient) -> None:
    row = re.sub("<[^>]+>", " ", results(fiona.get("/requests?view=waiting").text))
    assert "9 days" in row
    assert "Waiting for approval, 9 days" in fiona.get("/request?id=waiting-legal").text
    assert "Open for 9 days" in fiona.get("/request?id=open-legal").text
    assert results(fiona.get("/requests").text).count("Waiting for approval") == 2


@pytest.mark.usefixtures("mixed")
def test_ordinary_user_filters_own_requests_only(site: Flask) -> None:
    client = member(site, "emma", Role.BUSINESS_USER)
    assert listed(client, "view=all") == {"waiting-legal", "waiting-engineering"}
    assert listed(client, "view=waiting&department=Legal") == {"waiting-legal"}
    assert listed(client, "view=spend&department=Legal") == {"waiting-legal"}
