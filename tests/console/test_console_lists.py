"""The console's lists and totals: budgets, requests, the audit log, the overview."""

from __future__ import annotations

import csv
import html
import io
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from peewee import SQL
from support.console_site import hold, member, short_check
from support.damage import ROWS_OVER_64_BITS, insert_vast_budgets, yen_with_decimals
from support.world import ROOT

from budget_sync import ledger, manual_budgets
from budget_sync.accounts import customers
from budget_sync.database import audit_log, combine_sums, sums
from budget_sync.database.models import (
    AuditLog,
    Budget,
    BudgetCheckLog,
    BudgetUtilization,
    Customer,
    Reservation,
)
from budget_sync.domain import clock
from budget_sync.domain.balance import Balance
from budget_sync.domain.permissions import Role
from budget_sync.domain.request_models import (
    CheckRequest,
    CommitRequest,
    ReleaseAction,
    ReleaseRequest,
    ReserveRequest,
)
from budget_sync.operations import demo
from budget_sync.queries import audit as audit_queries
from budget_sync.queries import inbox, overview, paging
from budget_sync.queries import timeline as timeline_queries
from budget_sync.queries.budgets import BudgetQuery, budgets_page
from budget_sync.queries.departments import Department
from budget_sync.web.console import audit as audit_pages
from budget_sync.web.console import base

pytestmark = pytest.mark.both_engines


def csv_rows(client: FlaskClient, path: str) -> list[dict[str, str]]:
    """The rows of a CSV file, read to the end and closed, as a server does."""
    return list(
        csv.DictReader(io.StringIO(client.get(path, buffered=True).text.removeprefix("\ufeff")))
    )


def test_budgets_are_searched_sorted_and_paged(fiona: FlaskClient) -> None:
    for number in range(120):
        manual_budgets.set_budget(
            ROOT, demo.CUSTOMER, f"Team {number:03}", "Q2 2025", Decimal(1000 + number)
        )
    first, last = (
        fiona.get("/budgets?period=2025-Q2").text,
        fiona.get("/budgets?period=2025-Q2&page=3").text,
    )
    assert ("Team 000" in first, "Team 050" in first, "Page 1 of 3" in first) == (True, False, True)
    assert ("Team 119" in last, "Team 099" in last) == (True, False)
    assert fiona.get("/budgets?period=2025-Q2&sort=-budgeted").text.index("Team 119") < fiona.get(
        "/budgets?period=2025-Q2&sort=-budgeted"
    ).text.index("Team 118")
    found = fiona.get("/budgets?q=team+077").text
    assert ("Team 077" in found, "Team 078" in found) == (True, False)
    assert "No budget found" in fiona.get("/budgets?q=100%25_").text


def test_concurrent_csv_downloads_are_limited(fiona: FlaskClient) -> None:
    exports = base._exports  # noqa: SLF001  # simulates slow downloads
    for _ in range(base.EXPORTS_AT_ONCE):
        assert exports.acquire(blocking=False)
    for path in ("/audit.csv", "/budgets.csv"):
        rejected = fiona.get(path)
        assert (
            rejected.status_code,
            rejected.headers["Retry-After"],
            "try again shortly" in rejected.text,
        ) == (503, "5", True)
    exports.release()
    for path in ("/audit.csv", "/budgets.csv") * base.EXPORTS_AT_ONCE:
        assert fiona.head(path).status_code == 200
        assert "Budget ID" in fiona.get(path, buffered=True).text
    for _ in range(base.EXPORTS_AT_ONCE - 1):
        exports.release()


def test_csv_file_has_exact_numbers_and_no_formulas(fiona: FlaskClient) -> None:
    manual_budgets.set_budget(
        ROOT, demo.CUSTOMER, '=HYPERLINK("http://evil.example","x")', "Q2 2025", Decimal("1234.50")
    )
    response = fiona.get("/budgets.csv?period=2025-Q2", buffered=True)
    assert response.mimetype == "text/csv"
    assert "attachment" in response.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(response.text.removeprefix("\ufeff"))))
    assert [(row["Department"], row["Budgeted"], row["Available"]) for row in rows] == [
        ('\'=HYPERLINK("http://evil.example","x")', "1234.5", "1234.5")
    ]


@pytest.mark.parametrize("path", ["/audit.csv", "/budgets.csv", "/requests.csv", "/checks.csv"])
def test_csv_replies_have_one_charset(fiona: FlaskClient, path: str) -> None:
    for response in (fiona.get(path, buffered=True), fiona.head(path)):
        assert response.headers.getlist("Content-Type") == ["text/csv; charset=utf-8"]


def test_audit_log_is_searched_and_exported(fiona: FlaskClient) -> None:
    hold("intake-one", 500)
    hold("intake-two", 700)
    page = fiona.get("/audit?q=intake-one&action=RESERVE").text
    assert ("intake-one" in page, "intake-two" in page) == (True, False)
    rows = csv_rows(fiona, "/audit.csv?q=intake-two")
    assert [(row["Request"], row["Reserved change"], row["Currency"]) for row in rows] == [
        ("intake-two", "700", "USD")
    ]
    assert "Nothing found" in fiona.get("/audit?to=2001-01-01").text
    assert fiona.get("/audit?from=yesterday").status_code == 400


def test_audit_search_goes_on_with_older_rows(
    fiona: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first", "second", "third", "fourth"):
        hold(f"intake-{name}", 500)
    monkeypatch.setattr(audit_queries, "LOOKED_AT", 2)
    monkeypatch.setattr(audit_pages, "LOOKED_AT", 2)
    page = html.unescape(fiona.get("/audit?q=intake-second").text)
    assert "Nothing found so far" in page
    assert "The search looked at 2 rows, back to" in page
    assert "Search older rows" in page
    older = re.findall(r'href="([^"]*before=[^"]*)"', page)
    page = html.unescape(fiona.get(f"/audit{older[-1]}").text)
    assert "intake-second" in page.split("<tbody>")[1]
    # The export and the rows without a search are complete.
    assert len(csv_rows(fiona, "/audit.csv?q=intake-first&action=RESERVE")) == 1
    page = fiona.get("/audit").text
    assert "intake-first" in page
    assert "The search looked at" not in page


def test_audit_search_until_a_day_begins_there(
    fiona: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_queries, "LOOKED_AT", 2)
    hold("early", 100)
    with time_machine.travel(clock.now() + timedelta(days=3)):
        for number in range(5):
            hold(f"late-{number}", 100)
    day = (clock.now() + timedelta(days=1)).date()
    rows = fiona.get(f"/audit?action=RESERVE&to={day}").text.split("<tbody>")[1]
    assert ("early" in rows, "late-" in rows) == (True, False)


def test_restore_is_in_the_audit_log_of_every_customer(fiona: FlaskClient) -> None:
    hold("before", 10)
    audit_log.record(ROOT, "RESTORE", customer_id=None, subject="nightly.db")
    audit_log.record(ROOT, "ADD_KEY", customer_id=None, subject="a-key-for-all")
    hold("after", 10)
    page = fiona.get("/audit").text
    assert "Backup restored" in page
    assert page.index(">after<") < page.index("nightly.db") < page.index(">before<")
    assert "a-key-for-all" not in page
    for query in ("action=RESTORE", "q=nightly"):
        (row,) = csv_rows(fiona, f"/audit.csv?{query}")
        assert (row["Action"], row["About"], row["By"], row["Budget ID"]) == (
            "Backup restored",
            "nightly.db",
            "root (command line)",
            "",
        )


def test_pages_of_the_audit_log_have_every_restore_once(
    fiona: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_queries, "EXPORT_CHUNK", 3)
    for number in range(4):
        hold(f"many-{number}", 10)
        audit_log.record(ROOT, "RESTORE", customer_id=None, subject=f"{number}.db")
        audit_log.record(ROOT, "RESTORE", customer_id=None, subject=f"{number}-again.db")
    rows = csv_rows(fiona, "/audit.csv")
    subjects = [
        row["About"] if row["Action"] == "Backup restored" else row["Request"] for row in rows
    ]
    assert subjects[:12] == [
        name
        for number in (3, 2, 1, 0)
        for name in (f"{number}-again.db", f"{number}.db", f"many-{number}")
    ]


def test_export_of_several_chunks_has_every_row_once(
    fiona: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_queries, "EXPORT_CHUNK", 3)
    for number in range(10):
        hold(f"many-{number}", 10)
    rows = csv_rows(fiona, "/audit.csv?q=many-")
    assert [row["Request"] for row in rows] == [f"many-{number}" for number in range(9, -1, -1)]


@pytest.mark.parametrize(
    "request_id",
    ["a/b", "a//b", "a?b#c&d", "%2F", " a ", "a\nb", "\u202e", "<b>", "'\"", "é"],
    ids=repr,
)
def test_request_with_any_id_opens_from_the_list(fiona: FlaskClient, request_id: str) -> None:
    hold(request_id, 500)
    link = re.search(r'href="(/request\?id=[^"]*)"', fiona.get("/requests").text)
    assert link
    page = fiona.get(html.unescape(link[1]))
    assert page.status_code == 200
    assert request_id in html.unescape(page.text.split("<h1")[1])


def test_long_timeline_says_that_it_is_cut(
    fiona: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        manual_budgets.set_budget(
            ROOT,
            demo.CUSTOMER,
            f"Team {number}",
            "Q2 2025",
            Decimal(1000),
            budget_id=f"team-{number}",
        )
        hold("intake-1", 10, budget_id=f"team-{number}")
    assert "Only the latest" not in fiona.get("/request?id=intake-1").text
    monkeypatch.setattr(timeline_queries, "MAX_TIMELINE", 3)
    assert "Only the latest" in fiona.get("/request?id=intake-1").text


def test_pages_of_requests_continue_without_gaps(
    fiona: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "PAGE_SIZE", 4)
    for number in range(10):
        hold(f"many-{number}", 10)
    for view in ("open", "all"):
        link = f"/requests?view={view}"
        seen: list[str] = []
        while link and len(seen) <= 20:
            page = fiona.get(link).text
            seen += re.findall(r"many-\d", page.split("<tbody>")[1].replace("id=many-", ""))
            following = re.search(r'href="(\?[^"]+)" rel="next"', page)
            link = f"/requests{following[1].replace('&amp;', '&')}" if following else ""
        wanted = [f"many-{number}" for number in range(10)]
        assert seen == (wanted if view == "open" else wanted[::-1])


@pytest.mark.parametrize("view", ["open", "uncovered"])
def test_list_ignores_a_start_row_of_another_customer(fiona: FlaskClient, view: str) -> None:
    customers.add_customer(ROOT, "other", "Other")
    manual_budgets.set_budget(
        ROOT, "other", "Engineering", "Q1 2025", Decimal(1000), budget_id="of-other"
    )
    their_check = {
        "request_id": "theirs",
        "user_id": "u",
        "user_name": "U",
        "user_email": "u@example.com",
        "customer_id": "other",
    }
    for day in (1, 2, 3):
        with time_machine.travel(clock.now() - timedelta(days=4 - day), tick=False):
            if day == 2:
                ledger.reserve(
                    ROOT,
                    ReserveRequest(budget_id="of-other", request_id="theirs", amount=Decimal(1)),
                )
                body = their_check | {
                    "department": "Engineering",
                    "fiscal_period": "Q1 2025",
                    "amount": Decimal(5000),
                }
                ledger.check(ROOT, CheckRequest.model_validate(body))
            else:
                hold(f"open-{day}", 10)
                short_check(f"uncovered-{day}")
    theirs = {
        "open": Reservation.get(Reservation.requestId == "theirs").seq,
        "uncovered": BudgetCheckLog.get(BudgetCheckLog.requestId == "theirs").id,
    }
    listed = fiona.get(f"/requests?view={view}&after={theirs[view]}").text.split('id="results"')[1]
    assert (f"{view}-1" in listed, f"{view}-3" in listed) == (True, True)


def test_budget_of_zero_has_a_page(fiona: FlaskClient) -> None:
    manual_budgets.set_budget(ROOT, demo.CUSTOMER, "Zero", "Q1 2025", Decimal(0), budget_id="zero")
    assert "chart burn-down" in fiona.get("/budget?id=zero").text


def test_times_are_in_the_customers_zone(site: Flask) -> None:
    customers.add_customer(ROOT, "tokyo", "Tokyo KK", currency="JPY", time_zone="Asia/Tokyo")
    client = member(site, "ken", Role.FPA_ADMIN, "tokyo")
    with time_machine.travel(datetime(2025, 2, 5, 20, 30, tzinfo=UTC), tick=False):
        manual_budgets.set_budget(
            ROOT, "tokyo", "Sales", "Q1 2025", Decimal(1_000_000), budget_id="tk"
        )
    page = client.get("/budget?id=tk").text
    assert '<time datetime="2025-02-05T20:30:00Z"' in page
    assert "<span>6 Feb 2025,</span> <span>05:30</span>" in page
    assert "¥1,000,000" in page
    assert "¥1,000,000.00" not in page


def test_decisions_are_counted_by_the_customers_days(site: Flask) -> None:
    customers.add_customer(
        ROOT,
        "tokyo",
        "Tokyo KK",
        currency="JPY",
        time_zone="Asia/Tokyo",
        auto_approve_limit_minor=100,
    )
    manual_budgets.set_budget(ROOT, "tokyo", "Sales", "Q1 2025", Decimal(1000))
    body = {
        "user_id": "k",
        "user_name": "K",
        "user_email": "k@example.com",
        "customer_id": "tokyo",
        "department": "Sales",
        "fiscal_period": "Q1 2025",
    }
    for moment, amount in (
        ("2025-02-05T14:59:59", 50),
        ("2025-02-05T15:00:00", 50),
        ("2025-02-05T15:00:01", 500),
        ("2025-02-06T01:00:00", 5000),
    ):
        with time_machine.travel(datetime.fromisoformat(moment).replace(tzinfo=UTC), tick=False):
            ledger.check(
                ROOT,
                CheckRequest.model_validate(
                    body | {"request_id": moment, "amount": Decimal(amount)}
                ),
            )
    with time_machine.travel(datetime(2025, 2, 6, 3, tzinfo=UTC), tick=False):
        days = overview.overview(ROOT, Customer.get_by_id("tokyo")).days
    assert [day for day in days or [] if day.total] == [
        overview.Day(date(2025, 2, 5), 1, 0, 0),
        overview.Day(date(2025, 2, 6), 1, 1, 1),
    ]


@pytest.mark.parametrize(
    ("chosen_key", "shown"),
    [("", "Q1 2026"), ("2025-Q4", "Q4 2025"), (overview.ALL_PERIODS, None), ("nothing", "Q1 2026")],
)
def test_overview_opens_on_the_current_period(
    site: Flask, chosen_key: str, shown: str | None
) -> None:
    for period, names in (
        ("Q4 2025", ("Sales", "Legal")),
        ("Q1 2026", ("Sales", "Legal")),
        ("FY 2026", ("Sales",)),
        ("Q2 2026", ("Sales", "Legal", "Data")),
    ):
        for name in names:
            manual_budgets.set_budget(ROOT, demo.CUSTOMER, name, period, Decimal(100))
    with time_machine.travel(datetime(2026, 3, 31, 12, tzinfo=UTC), tick=False):
        found = overview.overview(ROOT, Customer.get_by_id(demo.CUSTOMER), chosen_key)
    assert found.period == (shown and next(each for each in found.periods if each.name == shown))
    assert sum(total.budgets for total in found.totals) == (9 if shown is None else 2)


def test_overview_without_a_current_period_is_of_all(fiona: FlaskClient) -> None:
    page = fiona.get("/").text
    assert '<p class="muted">All periods</p>' in page
    assert '<p class="muted">Q1 2025</p>' in fiona.get("/?period=2025-Q1").text


def test_overview_sums_can_exceed_64_bits(fiona: FlaskClient) -> None:
    vast_minor = insert_vast_budgets(demo.CUSTOMER)
    manual_budgets.set_budget(ROOT, demo.CUSTOMER, "Nothing", "Q1 2025", Decimal(0))
    found = overview.overview(ROOT, Customer.get_by_id(demo.CUSTOMER), overview.ALL_PERIODS)
    balance = Balance("USD", 2, vast_minor + 10_000_000, vast_minor, 500_000)
    assert found.totals == [overview.Total(balance, ROWS_OVER_64_BITS + 2, 0, ROWS_OVER_64_BITS)]
    # The most used department comes first.
    assert [(each.name, each.balance.budgeted_minor) for each in found.departments] == [
        ("Vast", vast_minor),
        ("Engineering", 10_000_000),
        ("Nothing", 0),
    ]
    assert "$93,000,000,000,099,907" in fiona.get("/?period=all").text


@pytest.mark.parametrize(
    ("budgeted_minor", "used_minor", "state"),
    [
        (100, 80, "ok"),
        (100, 81, "high"),
        (101, 80, "ok"),
        (101, 81, "high"),
        (104, 83, "ok"),
        (104, 84, "high"),
        (100, 100, "high"),
        (100, 101, "overdrawn"),
        (0, 0, "ok"),
        (0, 1, "overdrawn"),
        (10**15 - 1, 8 * 10**14, "high"),
        (10**15 - 1, 10**15 - 1, "high"),
        (10**15 - 2, 10**15 - 1, "overdrawn"),
    ],
)
def test_database_and_balance_agree_on_the_state(
    site: Flask, budgeted_minor: int, used_minor: int, state: str
) -> None:
    Budget.update(budgetedMinor=budgeted_minor).execute()
    BudgetUtilization.update(reservedMinor=used_minor, committedMinor=0).execute()
    listed = [
        each
        for each in ("overdrawn", "high")
        if budgets_page(ROOT, demo.CUSTOMER, BudgetQuery(state=each))[1]
    ]
    (total,) = overview.overview(
        ROOT, Customer.get_by_id(demo.CUSTOMER), overview.ALL_PERIODS
    ).totals
    assert total.balance.state == state
    assert listed == [state][: state != "ok"]
    assert (total.overdrawn, total.high) == (state == "overdrawn", state == "high")


def test_budgets_with_different_decimals_add_up(site: Flask) -> None:
    for decimals, department, period in (
        (0, "Tokyo", "Q1 2025"),
        (2, "Tokyo", "Q2 2025"),
        (3, "Kyoto", "Q1 2025"),
    ):
        with yen_with_decimals(decimals):
            manual_budgets.set_budget(
                ROOT,
                demo.CUSTOMER,
                department,
                period,
                Decimal(5000),
                budget_id=f"yen-{decimals}",
                currency="JPY",
            )
    hold("intake-0", 4500, budget_id="yen-0")
    hold("intake-3", 4500, budget_id="yen-3")
    found = overview.overview(ROOT, Customer.get_by_id(demo.CUSTOMER), overview.ALL_PERIODS)
    yen, dollars = found.totals
    assert yen == overview.Total(
        Balance("JPY", 3, 15_000_000, 9_000_000, 0), budgets=3, overdrawn=0, high=2
    )
    assert dollars.balance.currency == "USD"
    assert found.department_count == 3
    assert found.departments[:2] == [
        Department(
            "Kyoto",
            "kyoto",
            Balance("JPY", 3, 5_000_000, 4_500_000, 0),
            budgets=1,
            overdrawn=0,
        ),
        Department(
            "Tokyo",
            "tokyo",
            Balance("JPY", 2, 1_000_000, 450_000, 0),
            budgets=2,
            overdrawn=0,
        ),
    ]


def test_budgets_with_different_decimals_are_sorted_by_value(site: Flask) -> None:
    for budget_id, decimals, budgeted, moved in (("more", 0, 5000, 50), ("less", 2, 300, 3)):
        with yen_with_decimals(decimals):
            manual_budgets.set_budget(
                ROOT,
                demo.CUSTOMER,
                f"Tokyo {budget_id}",
                "Q1 2025",
                Decimal(budgeted),
                budget_id=budget_id,
                currency="JPY",
            )
        for request_id in ("kept", "spent"):
            hold(request_id, moved, budget_id=budget_id)
        ledger.commit(
            ROOT, CommitRequest(budget_id=budget_id, request_id="spent", amount=Decimal(moved))
        )
    for column in ("budgeted", "reserved", "committed", "available"):
        lines, _ = budgets_page(ROOT, demo.CUSTOMER, BudgetQuery(text="tokyo", order=f"-{column}"))
        assert [line.id for line in lines] == ["more", "less"], column
    Budget.update(budgetedMinor=60).where(Budget.id == "more").execute()
    Budget.update(budgetedMinor=400).where(Budget.id == "less").execute()
    assert [
        each.id for each in inbox.inbox(ROOT, Customer.get_by_id(demo.CUSTOMER)).overdrawn.first
    ] == ["more", "less"]


def test_pages_and_files_use_the_decimals_of_the_budget(
    fiona: FlaskClient,
) -> None:
    with time_machine.travel(datetime(2026, 1, 1, tzinfo=UTC), tick=False):
        with yen_with_decimals(2):
            for name, budget_id in (("Tokyo", "yen"), ("Osaka", "less")):
                manual_budgets.set_budget(
                    ROOT,
                    demo.CUSTOMER,
                    name,
                    "Q1 2025",
                    Decimal(5000),
                    budget_id=budget_id,
                    currency="JPY",
                    auto_approve_limit=Decimal(1000),
                )
        hold("intake-yen", 4900, budget_id="yen")
    manual_budgets.set_budget(
        ROOT, demo.CUSTOMER, "Tokyo", "Q1 2025", Decimal(5000), auto_approve_limit=Decimal(2000)
    )
    hold("intake-less", 5000, budget_id="less")
    manual_budgets.set_budget(ROOT, demo.CUSTOMER, "Osaka", "Q1 2025", Decimal(4000))
    short_check("intake-short", 300, department="Tokyo")
    shown = {
        "/": (
            "¥9,000.00",
            "by ¥1,000 of ¥4,000",
            "¥4,900 on Tokyo",
            "Tokyo: budgeted ¥5,000, committed ¥0, reserved ¥4,900, available ¥100.",
        ),
        "/budgets": ("¥5,000.00", "¥4,900.00", "¥100.00"),
        "/budget?id=yen": (
            "¥5,000.00",
            "<dd>¥2,000</dd>",
            "¥4,900 of ¥5,000 is used; ¥100 is left",
            "<span>¥5K</span>",
            "reserved +¥4,900.00",
        ),
        "/requests": ("¥4,900.00",),
        "/requests?view=uncovered": ("¥300.00",),
        "/request?id=intake-yen": ("¥4,900.00", "held ¥0 → ¥4,900"),
        "/request?id=intake-short": ("¥300 on Tokyo",),
        "/request/release?id=intake-yen&budget=yen&action=manual": (
            "The request holds ¥4,900 on",
            "¥100.00",
        ),
        "/request/approve?id=intake-short": (
            "asks for <strong>¥300</strong>",
            "overdrawn by ¥200",
        ),
        "/audit": ("budgeted \u2212¥1,000.00", "auto-approve limit ¥1,000 → ¥2,000"),
    }
    for path, amounts in shown.items():
        page = re.sub(
            '<span class="nowrap">([^<]*)</span>', r"\1", html.unescape(fiona.get(path).text)
        )
        assert [amount for amount in amounts if amount not in page] == [], path
        assert not re.search(r"¥\d\d+,\d", page), path
    assert [row["Budgeted"] for row in csv_rows(fiona, "/budgets.csv?q=tokyo")] == ["5000"]
    assert [
        row["Reserved change"] for row in csv_rows(fiona, "/audit.csv?budget=yen&action=RESERVE")
    ] == ["4900"]


def test_budget_page_shows_the_customers_limit(site: Flask) -> None:
    with yen_with_decimals(2):
        customers.add_customer(
            ROOT, "tokyo", "Tokyo KK", currency="JPY", auto_approve_limit_minor=10_000
        )
    manual_budgets.set_budget(ROOT, "tokyo", "Sales", "Q1 2025", Decimal(5000), budget_id="tk")
    assert (
        "<dd>¥100 (default)</dd>"
        in member(site, "ken", Role.FPA_ADMIN, "tokyo").get("/budget?id=tk").text
    )


def test_negative_amounts_add_up(site: Flask) -> None:
    hold("intake-102", 1)
    moved = AuditLog.select(
        *sums(SQL("2"), AuditLog.reservedDeltaMinor, AuditLog.committedDeltaMinor)
    )
    assert combine_sums(moved.tuples()[0]) == (2, [100, 500_000])
    assert combine_sums(moved.where(AuditLog.reservedDeltaMinor < 0).tuples()[0]) == (
        2,
        [-500_000, 500_000],
    )


def test_overview_begins_with_the_inbox(site: Flask) -> None:
    client = member(site, "fp", Role.FPA_USER)
    with time_machine.travel(datetime(2026, 1, 1, tzinfo=UTC), tick=False):
        hold("intake-old", 500)
    hold("intake-new", 94_500)
    manual_budgets.set_budget(ROOT, demo.CUSTOMER, "Engineering", "Q1 2025", Decimal(90_000))
    page = client.get("/").text
    attention = page[page.index('id="inbox"') : page.index('class="home"')]
    assert "by $10,000 of $90,000" in attention
    assert "intake-old" in attention
    assert "intake-new" not in attention


def test_timeline_keeps_its_order_if_the_clock_jumps(site: Flask) -> None:
    for hour in (12, 14, 11):
        with time_machine.travel(datetime(2025, 2, 5, hour, tzinfo=UTC), tick=False):
            short_check("intake-1", 300)
            hold("intake-1", 300)
            ledger.release(
                ROOT,
                ReleaseRequest(
                    budget_id=demo.BUDGET,
                    request_id="intake-1",
                    amount=Decimal(300),
                    action=ReleaseAction.REJECT,
                ),
            )
    timeline = timeline_queries.request_timeline(ROOT, demo.CUSTOMER, "intake-1")
    events = [(kind, event.id) for _, kind, event in timeline.events]
    assert [number for kind, number in events if kind == "check"] == [
        check.id for check in timeline.checks
    ]
    assert [number for kind, number in events if kind == "movement"] == [
        movement.id for movement in timeline.movements
    ]
    assert [kind for kind, _ in events[:3]] == ["check", "movement", "movement"]
