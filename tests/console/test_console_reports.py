"""The reports, pages as of a past day, forecasts on pages, and exports that a sync run reads."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from support.console_sheets import connect
from support.console_site import check_for, hold, member
from support.world import ROOT

from budget_sync import ledger, manual_budgets, sync
from budget_sync.accounts import customers
from budget_sync.database.models import AuditLog, Budget, BudgetUtilization, SyncHistory
from budget_sync.domain.permissions import Role
from budget_sync.domain.request_models import CommitRequest, SpendRequest
from budget_sync.operations import demo
from budget_sync.queries import spend_totals as spend_queries

pytestmark = pytest.mark.both_engines

NEW_YORK = "America/New_York"


def at(text: str) -> time_machine.travel:
    """Set the clock to a time in UTC."""
    moment = datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
    return time_machine.travel(moment, tick=False)


def budget(department: str, period: str, amount: int, budget_id: str | None = None) -> None:
    """Create a budget by hand, or change its amount."""
    manual_budgets.set_budget(
        ROOT, demo.CUSTOMER, department, period, Decimal(amount), budget_id=budget_id
    )


def commit(budget_id: str, request_id: str, amount: int) -> None:
    """Reserve and commit an amount."""
    hold(request_id, amount, budget_id=budget_id)
    body = CommitRequest(budget_id=budget_id, request_id=request_id, amount=Decimal(amount))
    ledger.commit(ROOT, body)


@pytest.fixture
def fp(request: pytest.FixtureRequest) -> FlaskClient:
    """FP&A of a customer in New York on 1 December 2026, with budgets of two years.

    Sales will run over; Legal and the budgets of 2025 will not.
    """
    with at("2026-01-04 12:00"):
        site: Flask = request.getfixturevalue("site")
    with at("2026-01-05 12:00"):
        customers.set_customer(ROOT, demo.CUSTOMER, time_zone=NEW_YORK)
        budget("Sales", "Q4 2025", 900, "sales-25")
        budget("Sales", "Q4 2026", 1000, "sales")
        budget("Legal", "Q4 2026", 1000, "legal")
        commit("sales-25", "old", 450)
    with at("2026-10-20 12:00"):
        check_for("slack-1", "user-123", 600, department="Sales", period="Q4 2026")
        commit("sales", "slack-1", 600)
        commit("legal", "lawyer", 100)
    # 31 October in New York, 1 November in UTC.
    with at("2026-11-01 02:00"):
        hold("open", 200, budget_id="sales")
    with at("2026-11-20 12:00"):
        body = SpendRequest(
            spend_id="card-1",
            budget_id="legal",
            amount=Decimal(50),
            date=datetime(2026, 11, 19, tzinfo=UTC).date(),
            vendor="Staples",
            reason="Card",
        )
        ledger.spend(ROOT, body)
        budget("Legal", "Q4 2026", 1500)
    with at("2026-12-01 12:00"):
        return member(site, "fp", Role.FPA_ADMIN)


def rows_of_csv(client: FlaskClient, path: str) -> list[dict[str, str]]:
    """The rows of an export."""
    text = client.get(path, buffered=True).text.removeprefix("\ufeff")
    return list(csv.DictReader(io.StringIO(text)))


def text_of(page: str) -> str:
    """The page's text, with single spaces."""
    main = page.partition("<main")[2]
    return " ".join(re.sub(r"<[^>]*>", " ", main).replace("&nbsp;", " ").split())


def test_overview_starts_with_departments_that_will_run_over(fp: FlaskClient) -> None:
    with at("2026-12-01 12:00"):
        page = text_of(fp.get("/").text)
    # 62 of 92 days: 600 + 600 * 30 / 62 + 200 = 1,090.32.
    assert "Sales Will run over by $90.32" in page.replace("80% used ", "")
    assert "Legal Forecast $222.58" in page
    assert page.index("Will run over") < page.index("Legal Forecast")


def test_budget_page_shows_the_forecast_and_its_range(fp: FlaskClient) -> None:
    with at("2026-12-01 12:00"):
        html = fp.get("/budget?id=sales").text
    assert (
        "Forecast: $1,090.32 (between $995.65 and $1,184.99) will be used by 31 Dec 2026, "
        "$90.32 over budget." in text_of(html)
    )
    assert 'class="expected"' in html
    assert 'class="expected-range"' in html
    # The period begins after 269 of the chart's days: even spending begins there as well.
    assert re.search(r'<line class="pace" x1="7[0-9.]+%" x2="100.00%"', html)


@pytest.mark.parametrize(
    ("now", "budget_id", "reason"),
    [
        ("2026-12-01 12:00", "project", "the period is a name without dates"),
        ("2026-12-01 12:00", "sales-25", "the period has ended"),
        ("2026-10-01 03:00", "sales", "the period has not begun"),
        ("2026-10-09 12:00", "sales", "it begins after 10 % of the period"),
    ],
)
def test_budget_without_a_forecast_says_why(
    fp: FlaskClient, now: str, budget_id: str, reason: str
) -> None:
    with at(now):
        budget("Projects", "Summer Campaign", 50, "project")
        then = member(fp.application, "then", Role.FPA_USER)
        page = text_of(then.get(f"/budget?id={budget_id}").text)
    assert reason in page
    assert "Forecast:" not in page


def test_pages_show_balances_as_of_a_past_day(fp: FlaskClient) -> None:
    with at("2026-12-01 12:00"):
        overview = text_of(fp.get("/?asOf=2026-10-31&period=2026-Q4").text)
        assert "As of 31 October 2026" in overview
        assert "Budgeted $2,000.00 Committed $700.00 Reserved $200.00" in overview
        assert "Needs attention" not in overview
        listed = text_of(fp.get("/budgets?asOf=2026-10-30&period=2026-Q4").text)
        assert "$1,000.00 $600.00 \N{EN DASH} $400.00" in listed
        one = fp.get("/budget?id=sales&asOf=2026-10-30")
        assert "Available $400.00" in text_of(one.text)
        assert "Record spend" not in one.text
        assert fp.get("/budget?id=sales&asOf=2026-01-04").status_code == 404
        assert "No budgets on that day" in fp.get("/?asOf=2025-12-31").text


def test_day_in_the_future_is_an_error(fp: FlaskClient) -> None:
    with at("2026-12-01 12:00"):
        for path in ("/", "/budgets", "/budgets.csv", "/budget", "/compare", "/compare.csv"):
            for day in ("2026-12-02", "yesterday"):
                response = fp.get(f"{path}?asOf={day}&id=sales")
                assert (path, response.status_code) == (path, 400)
        assert "As of" not in text_of(fp.get("/?asOf=2026-12-01").text)


def test_comparison_shows_this_quarter_and_a_year_before(fp: FlaskClient) -> None:
    with at("2026-12-01 12:00"):
        budget("Projects", "Summer Campaign", 50)
        page = text_of(fp.get("/compare").text)
        assert "Periods: Q4 2025, Q4 2026" in page
        assert "Sales $900.00 $450.00 $450.00 50% $1,000.00 $800.00 $200.00 80% +$350.00" in page
        assert "Legal none none none none $1,500.00" in page
        one = text_of(fp.get("/compare?show=used&period=2025-Q4&period=summer+campaign").text)
        assert "Sales $450.00 none" in one
        past = text_of(fp.get("/compare?asOf=2026-10-30&show=used").text)
        assert "Sales $450.00 $600.00 +$150.00" in past
        rows = rows_of_csv(fp, "/compare.csv?period=2025-Q4")
    assert [(row["Department"], row["Fiscal Period"], row["Committed"]) for row in rows] == [
        ("Sales", "Q4 2025", "450")
    ]


def test_changes_are_net_with_before_and_after(fp: FlaskClient) -> None:
    with at("2026-12-01 12:00"):
        page = text_of(fp.get("/changes?from=2026-10-31").text)
        assert "Legal +$500.00 0 +$50.00 +$450.00 $900 → $1,350" in page
        assert "Sales" not in page.partition("Net change")[2]
        assert "Nothing changed" in fp.get("/changes").text
        rows = rows_of_csv(fp, "/changes.csv?from=2026-01-04&to=2026-11-30")
        assert fp.get("/changes?from=2026-11-02&to=2026-11-01").status_code == 400
    sales = next(row for row in rows if row["Budget ID"] == "sales")
    assert (sales["Budgeted before"], sales["Reserved after"], sales["Note"]) == (
        "0",
        "200",
        "Created",
    )
    assert sales[f"End of ({NEW_YORK})"] == "2026-01-04"


def test_spend_page_adds_up_the_latest_whole_days(
    fp: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two movements on 20 October, one on 20 November.
    monkeypatch.setattr(spend_queries, "ADDED_UP", 2)
    with at("2026-12-01 12:00"):
        page = text_of(fp.get("/spend-report").text)
        assert "Only spend from 21 October 2026 is added up here" in page
        assert "$50.00 in total" in page
        assert "Oct 2026" in page
        assert "Jan 2026" not in page
        assert len(rows_of_csv(fp, "/spend-report.csv?from=2026-10-01")) == 3
        # Nothing is left out of fewer movements.
        page = text_of(fp.get("/spend-report?from=2026-11-01").text)
        assert "$50.00 in total" in page
        assert "is added up here" not in page
        # A day is added up as a whole, however many movements it has.
        monkeypatch.setattr(spend_queries, "ADDED_UP", 1)
        page = text_of(fp.get("/spend-report?from=2026-10-01&to=2026-10-20").text)
        assert "$700.00 in total" in page
        assert "Only spend from 20 October 2026 is added up here" in page


def test_spend_is_found_by_vendor_department_and_month(fp: FlaskClient) -> None:
    with at("2026-12-01 12:00"):
        page = text_of(fp.get("/spend-report").text)
        assert "$6,200.00 in total" in page
        assert "Staples Legal $50.00" in page
        found = text_of(fp.get("/spend-report?q=stap").text).partition("in total")
        assert found[0].endswith("$50.00 ")
        assert "Sales" not in found[2]
        rows = rows_of_csv(fp, "/spend-report.csv?department=legal")
        assert "Nothing found" in fp.get("/spend-report?q=nothing").text
        assert fp.get("/spend-report?from=1990-01-01").status_code == 400
    assert [tuple(row.values()) for row in rows] == [
        ("", "Legal", "2026-10", "USD", "100"),
        ("Staples", "Legal", "2026-11", "USD", "50"),
    ]
    assert f"Month ({NEW_YORK})" in rows[0]


def test_exports_name_the_customers_zone_and_use_it(fp: FlaskClient) -> None:
    with at("2026-12-01 12:00"):
        (row,) = rows_of_csv(fp, "/audit.csv?q=open")
        assert row[f"Time ({NEW_YORK})"] == "2026-10-31 22:00:00"
        assert {
            row[f"As of ({NEW_YORK})"] for row in rows_of_csv(fp, "/budgets.csv?asOf=2026-10-31")
        } == {"2026-10-31"}
        assert {row[f"As of ({NEW_YORK})"] for row in rows_of_csv(fp, "/compare.csv")} == {
            "2026-12-01 07:00"
        }


@pytest.mark.parametrize("path", ["/budgets.csv", "/compare.csv", "/budgets.csv?period=2026-Q4"])
def test_budget_export_is_a_source_without_questions_or_changes(fp: FlaskClient, path: str) -> None:
    with at("2026-12-01 12:00"):
        content = fp.get(path, buffered=True).data
        before, last = stock(), AuditLog.select().count()
        connect(fp, content)
        run = SyncHistory.get()
    assert stock() == before
    assert (run.status, run.errorCount, run.heldCount) == ("success", 0, 0), run.errors
    assert run.createdCount == run.softDeletedCount == run.revivedCount == 0
    moved = AuditLog.select().where(AuditLog.budgetedDeltaMinor != 0, AuditLog.id > last)
    assert moved.count() == 0


def test_export_of_a_sheets_budgets_keeps_their_ids(fp: FlaskClient) -> None:
    sheet = (
        b"Budget ID,Department,Fiscal Period,Budgeted Amount\n"
        b"a-1,Data & AI,FY2026,1200.50\na-2,People,FY2026,0\n"
    )
    with at("2026-12-01 12:00"):
        sync.remove_source(ROOT, connect(fp, sheet))
        before = stock()
        connect(fp, fp.get("/budgets.csv?q=a-", buffered=True).data)
    assert stock() == before


def stock() -> list[tuple[object, ...]]:
    """The figures of all budgets, by id."""
    query: Any = (
        Budget.select(
            Budget.id,
            Budget.department,
            Budget.periodKey,
            Budget.currency,
            Budget.budgetedMinor,
            Budget.deletedAt,
            BudgetUtilization.reservedMinor,
            BudgetUtilization.committedMinor,
        )
        .join(BudgetUtilization, on=(BudgetUtilization.budgetId == Budget.id))
        .order_by(Budget.id)
    )
    return list(query.tuples())
