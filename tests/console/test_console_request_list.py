"""The Requests page: person and vendor, order, totals, export; and the checks of a day."""

from __future__ import annotations

import csv
import html
import io
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from support.console_site import check_for, hold, member, short_check
from support.world import ROOT

from budget_sync import ledger, manual_budgets
from budget_sync.accounts import customers
from budget_sync.domain import clock
from budget_sync.domain.permissions import ANONYMOUS, Actor, Role
from budget_sync.domain.request_models import CheckRequest, CommitRequest, SpendRequest
from budget_sync.operations import demo
from budget_sync.queries import check_list, paging, request_query
from budget_sync.web.console import request_list

pytestmark = pytest.mark.both_engines


def rows(client: FlaskClient, query: str) -> list[dict[str, str]]:
    """The rows of the export."""
    text = client.get(f"/requests.csv?{query}", buffered=True).text
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))


def listed(client: FlaskClient, query: str) -> list[str]:
    """The requests that the page lists, in order."""
    page = client.get(f"/requests?{query}")
    assert page.status_code == 200
    body = page.text.partition("<tbody>")[2]
    return re.findall(r'<th scope="row"[^>]*><a href="/request\?id=([^"&]+)"', body)


def totals(client: FlaskClient, query: str) -> list[str]:
    """The cells of the total rows."""
    _, _, foot = client.get(f"/requests?{query}").text.partition("<tfoot>")
    body = foot.partition("</tfoot>")[0]
    return [
        " ".join(html.unescape(re.sub("<[^>]+>", " ", row)).split())
        for row in re.findall(r"<tr>(.*?)</tr>", body, flags=re.DOTALL)
    ]


def buy(
    request_id: str, amount: int, vendor: str | None, *, by: Actor = ROOT, **fields: Any
) -> None:
    """Check a purchase for Jane."""
    body = {
        "request_id": request_id,
        "user_id": "user-123",
        "user_name": "Jane Doe",
        "user_email": "jane@acme.com",
        "customer_id": demo.CUSTOMER,
        "department": "Engineering",
        "fiscal_period": "Q1 2025",
        "amount": Decimal(amount),
        "vendor": vendor,
        "purpose": vendor and f"{vendor} for all",
    }
    ledger.check(by, CheckRequest.model_validate(body | fields))


@pytest.fixture
def bought(site: Flask) -> None:
    """Open requests "a", "b", "c" in dollars, "e" in euros; "d" is closed."""
    manual_budgets.set_budget(
        ROOT, demo.CUSTOMER, "Paris", "Q1 2025", Decimal(9000), budget_id="paris", currency="EUR"
    )
    for days, request_id, amount, vendor, user in (
        (40, "a", 300, "Slack", "user-123"),
        (35, "b", 100, "Figma", "mia"),
        (3, "c", 200, None, "user-123"),
        (2, "d", 50, "Slack", "user-123"),
    ):
        with time_machine.travel(clock.now() - timedelta(days=days), tick=False):
            buy(request_id, amount, vendor)
            hold(request_id, amount, user_id=user)
    hold("e", 70, budget_id="paris")
    body = CommitRequest(budget_id=demo.BUDGET, request_id="d", amount=Decimal(50))
    ledger.commit(ROOT, body)


@pytest.mark.usefixtures("bought")
def test_person_and_vendor_are_filters_of_every_view(fiona: FlaskClient) -> None:
    assert listed(fiona, "person=MIA") == ["b"]
    assert listed(fiona, "vendor=sla") == ["a"]
    assert listed(fiona, "view=closed&vendor=sla") == ["d"]
    assert listed(fiona, "view=all&vendor=sla") == ["d", "a"]
    assert listed(fiona, "view=all&vendor=sla&person=mia") == []
    short_check("over")
    buy("lost", 10, "Zoom", department="Enginering")
    assert listed(fiona, "view=denied&vendor=zoom") == ["lost"]
    assert listed(fiona, "view=denied&person=jane") == ["lost", "over"]
    assert listed(fiona, "view=denied&department=enginering") == ["lost"]
    assert listed(fiona, "view=denied&department=engineering&period=2025-Q1") == ["over"]
    assert listed(fiona, "view=uncovered&person=nobody") == []


@pytest.mark.usefixtures("bought")
def test_vendor_and_purpose_are_of_the_latest_authenticated_check(fiona: FlaskClient) -> None:
    buy("a", 300, "Zoom")
    buy("a", 300, "Spoofed", by=ANONYMOUS)
    (row,) = rows(fiona, "vendor=zoom")
    assert (row["Request"], row["Vendor"], row["Purpose"]) == ("a", "Zoom", "Zoom for all")
    page = fiona.get("/requests?q=a").text
    assert "Zoom for all" in page
    assert "Spoofed" not in page


@pytest.mark.usefixtures("bought")
def test_totals_are_of_all_matching_rows_by_currency(
    fiona: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "PAGE_SIZE", 1)
    assert totals(fiona, "") == [
        "Total USD, 3 rows $600.00 $600.00 $0.00 $0.00",
        "Total EUR, 1 row €70.00 €70.00 €0.00 €0.00",
    ]
    assert totals(fiona, "department=Engineering&days=30") == [
        "Total USD, 2 rows $400.00 $400.00 $0.00 $0.00"
    ]
    assert totals(fiona, "view=closed") == ["Total USD, 2 rows $5,050.00 $0.00 $5,050.00 $0.00"]
    short_check("over", 200_000)
    assert totals(fiona, "view=denied") == ["Total USD, 1 row $200,000.00"]
    assert totals(fiona, "view=uncovered") == ["Total USD, 1 row $200,000.00"]
    spend: dict[str, Any] = {
        "spend_id": "s",
        "budget_id": demo.BUDGET,
        "date": date(2025, 2, 1),
        "reason": "Card",
    }
    ledger.spend(ROOT, SpendRequest(**spend, amount=Decimal(7)))
    assert totals(fiona, "view=spend") == ["Total USD, 1 row $7.00"]


@pytest.mark.usefixtures("bought")
def test_long_lists_add_up_and_sort_their_newest_rows(
    fiona: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_query, "LOOKED_AT", 2)
    monkeypatch.setattr(request_list, "LOOKED_AT", 2)
    page = fiona.get("/requests?view=all&sort=request").text
    assert "The total, the order look at the newest 2 rows." in page
    assert listed(fiona, "view=all&sort=request") == ["d", "e"]
    assert set(listed(fiona, "view=all")) >= {"a", "b", "c", "d", "e"}
    assert len(totals(fiona, "")) == 2
    assert "newest 2 rows" not in fiona.get("/requests").text


@pytest.mark.usefixtures("bought")
def test_every_column_sorts_both_ways_over_all_pages(
    fiona: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_check("over")
    buy("lost", 10, "Zoom", department="Enginering")
    monkeypatch.setattr(paging, "PAGE_SIZE", 2)
    for view, chosen in request_list.VIEWS.items():
        for column in chosen.orders:
            orders = [_all_pages(fiona, f"view={view}&sort={sign}{column}") for sign in ("", "-")]
            assert orders[0] == orders[1][::-1], (view, column)
            assert set(orders[0]) == set(_all_pages(fiona, f"view={view}")), (view, column)
    assert _all_pages(fiona, "sort=reserved") == ["e", "b", "c", "a"]
    assert _all_pages(fiona, "sort=-vendor&department=Engineering") == ["a", "b", "c"]
    page = fiona.get("/requests?sort=-held").text
    assert 'aria-sort="descending"' in page
    assert listed(fiona, "sort=nonsense") == listed(fiona, "")


def _all_pages(client: FlaskClient, query: str) -> list[str]:
    found: list[str] = []
    while True:
        page = client.get(f"/requests?{query}").text
        body = page.partition("<tbody>")[2]
        found += re.findall(r'<th scope="row"[^>]*><a href="/request\?id=([^"&]+)"', body)
        following = re.search(r'href="\?([^"]+)" rel="next"', page)
        if not following:
            return found
        query = html.unescape(following[1])


@pytest.mark.usefixtures("bought")
def test_export_has_all_rows_and_names_its_time_zone(
    fiona: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    customers.set_customer(ROOT, demo.CUSTOMER, time_zone="Asia/Tokyo")
    monkeypatch.setattr(request_list, "EXPORT_CHUNK", 2)
    exported = rows(fiona, "")
    assert [row["Request"] for row in exported] == ["a", "b", "c", "e"]
    first = exported[0]
    assert (first["Held"], first["Currency"], first["State"], first["Vendor"]) == (
        "300",
        "USD",
        "Open",
        "Slack",
    )
    at = datetime.strptime(first["Reserved at (Asia/Tokyo)"] + " +0900", "%Y-%m-%d %H:%M:%S %z")
    assert abs(at - (clock.now() - timedelta(days=40))) < timedelta(minutes=10)
    assert [row["Request"] for row in rows(fiona, "view=all")][:2] == ["e", "d"]
    assert [row["Request"] for row in rows(fiona, "person=mia&sort=-held&after=3")] == ["b"]
    buy("=1+1", 10, "+cmd", department="@x")
    (denied,) = rows(fiona, "view=denied")
    assert (denied["Request"], denied["Vendor"], denied["Department"]) == ("'=1+1", "'+cmd", "'@x")
    assert (denied["Decision"], denied["Reason"]) == ("No budget", "No budget found")
    assert denied["Checked at (Asia/Tokyo)"]
    link = re.search(r'id="export" href="([^"]+)"', fiona.get("/requests?person=mia&view=all").text)
    assert link
    assert html.unescape(link[1]) == "/requests.csv?view=all&person=mia"


@pytest.mark.usefixtures("bought")
def test_employee_exports_own_requests_only(site: Flask) -> None:
    client = member(site, "mia", Role.BUSINESS_USER)
    assert [row["Request"] for row in rows(client, "view=all")] == ["b"]
    # The check was not theirs, and not for them.
    assert [row["Vendor"] for row in rows(client, "view=all")] == [""]
    check_for("own", "mia", 900_000)
    assert [row["Request"] for row in rows(client, "view=denied")] == ["own"]
    # The Spend view is not theirs: they get the open reservations instead.
    assert [row["Request"] for row in rows(client, "view=spend")] == ["b"]


def checks_of(client: FlaskClient, query: str) -> list[str]:
    """The requests of the checks that the page lists."""
    page = client.get(f"/checks?{query}")
    assert page.status_code == 200
    return re.findall(r'<th scope="row"[^>]*><a href="/request\?id=([^"&]+)"', page.text)


def test_checks_of_a_day_are_those_of_the_charts_bar(site: Flask, fiona: FlaskClient) -> None:
    customers.set_customer(ROOT, demo.CUSTOMER, time_zone="Asia/Tokyo")
    # 23:30 on 1 June in UTC is 2 June in Tokyo.
    with time_machine.travel(datetime(2025, 6, 1, 23, 30, tzinfo=UTC), tick=False):
        buy("auto", 10, "Slack")
        buy("manual", 20_000, "Slack")
        buy("lost", 10, "Slack", department="Nothing")
        short_check("short")
        overview = member(site, "then", Role.FPA_USER).get("/").text
    assert checks_of(fiona, "day=2025-06-02") == ["short", "lost", "manual", "auto"]
    assert checks_of(fiona, "day=2025-06-01") == []
    assert checks_of(fiona, "day=2025-06-02&decision=denied") == ["short", "lost"]
    for decision, expected in (("auto", ["auto"]), ("manual", ["manual"])):
        address = f"/checks?day=2025-06-02&amp;decision={decision}"
        # In the chart and in its table.
        assert overview.count(f'href="{address}"') == 2
        assert checks_of(fiona, f"day=2025-06-02&decision={decision}") == expected
    assert fiona.get("/checks?day=x").status_code == 400
    assert fiona.get("/checks?day=0001-01-01").status_code == 400
    assert fiona.get("/checks").status_code == 200


def test_checks_are_paged_and_exported(fiona: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    with time_machine.travel(datetime(2025, 6, 1, 12, tzinfo=UTC), tick=False):
        for number in range(5):
            buy(f"r{number}", 10, "=1")
    monkeypatch.setattr(paging, "PAGE_SIZE", 2)
    monkeypatch.setattr(check_list, "EXPORT_CHUNK", 2)
    page = fiona.get("/checks?day=2025-06-01").text
    following = re.search(r'href="\?([^"]+)" rel="next"', page)
    assert following
    assert checks_of(fiona, html.unescape(following[1])) == ["r2", "r1"]
    text = fiona.get("/checks.csv?day=2025-06-01", buffered=True).text.removeprefix("\ufeff")
    exported = list(csv.DictReader(io.StringIO(text)))
    assert [row["Request"] for row in exported] == ["r4", "r3", "r2", "r1", "r0"]
    assert (exported[0]["Vendor"], exported[0]["Checked at (UTC)"]) == (
        "'=1",
        "2025-06-01 12:00:00",
    )


def test_overview_leads_to_open_reservations_of_the_period(site: Flask) -> None:
    with time_machine.travel(datetime(2025, 2, 1, tzinfo=UTC), tick=False):
        page = member(site, "then", Role.FPA_USER).get("/").text
    assert 'href="/requests?period=Q1+2025">open&nbsp;reservations' in page
