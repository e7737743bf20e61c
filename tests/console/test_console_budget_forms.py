"""Console: budgets set by hand are added, changed, removed and restored."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from decimal import Decimal
from urllib.parse import urlencode

import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.console_site import hidden, hold, member, rows_of, send
from support.world import ROOT
from werkzeug.test import TestResponse

from budget_sync import manual_budgets
from budget_sync.database.models import AuditLog, Budget, BudgetDataSourceConfig
from budget_sync.domain import clock
from budget_sync.domain.errors import RequestError
from budget_sync.domain.permissions import Role
from budget_sync.ledger import verification
from budget_sync.operations import demo

pytestmark = pytest.mark.both_engines

CHANGE = "/budget/change?id=budget-123"
REMOVE = "/budget/remove?id=budget-123"
RESTORE = "/budget/restore?id=budget-123"
LEGAL = {"department": "Legal", "period": "Q1 2025", "amount": "2,500.50", "limit": "50"}


def confirm(client: FlaskClient, path: str, **fields: str) -> TestResponse:
    """Open a form with these fields, and send what it shows."""
    page = client.get(f"{path}{'&' if '?' in path else '?'}{urlencode(fields)}").text
    kept = {name: hidden(page, name) for name in ("shown", "once") if f'name="{name}"' in page}
    kept = {name: html.unescape(value) for name, value in kept.items()}
    return send(client, path, **{"reason": "Board meeting", **fields, **kept})


def give_to_sheet() -> None:
    """Let a tab of a spreadsheet own the budget, in row 14."""
    BudgetDataSourceConfig.create(
        id="src_1",
        customerId=demo.CUSTOMER,
        sourceType="google_sheets",
        spreadsheetKey="the-key",
        worksheet="Q4",
        worksheetGid=7,
        title="Budget 2026",
        isActive=True,
        createdAt=clock.now(),
    )
    Budget.update(sourceId="src_1", sourceRow=14).where(Budget.id == demo.BUDGET).execute()


def test_budget_is_added_with_limit_and_owner(fiona: FlaskClient) -> None:
    fields = LEGAL | {"owner": "jane@acme.com"}
    page = fiona.get(f"/budget/add?{urlencode(fields)}").text
    assert rows_of(page)["Available"] == ("none", "$2,500.50")
    done = confirm(fiona, "/budget/add", **fields)
    assert done.status_code == 302
    budget = Budget.get(Budget.department == "Legal")
    assert done.location == f"/budget?id={budget.id}"
    assert (budget.budgetedMinor, budget.autoApproveLimitMinor) == (250_050, 5_000)
    assert (budget.ownerEmail, budget.sourceId) == ("jane@acme.com", None)
    row = AuditLog.select().where(AuditLog.budgetId == budget.id).order_by(AuditLog.id).get()
    assert (row.action, row.changedBy, row.reason) == (
        "CREATE",
        "Fp (fp@example.com)",
        "Board meeting",
    )
    assert verification.verify().findings == []


def test_form_sent_twice_adds_one_budget(fiona: FlaskClient) -> None:
    page = fiona.get(f"/budget/add?{urlencode(LEGAL)}").text
    kept = {name: html.unescape(hidden(page, name)) for name in ("shown", "once")}
    answers = [send(fiona, "/budget/add", reason="why", **LEGAL, **kept) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [302, 302]
    assert answers[0].location == answers[1].location
    assert Budget.select().where(Budget.department == "Legal").count() == 1
    again = confirm(fiona, "/budget/add", **LEGAL)
    assert again.status_code == 400
    assert "has a budget for this period already" in again.text


def test_budget_is_changed_and_shows_figures_before_and_after(fiona: FlaskClient) -> None:
    hold("intake-102", 3000)
    page = fiona.get(f"{CHANGE}&amount=120000&limit=500&owner=bo@acme.com").text
    assert rows_of(page) == {
        "Budgeted": ("$100,000.00", "$120,000.00"),
        "Reserved": ("$3,000.00", "$3,000.00"),
        "Committed": ("$5,000.00", "$5,000.00"),
        "Available": ("$92,000.00", "$112,000.00"),
        "Auto-approve limit": ("the default", "$500.00"),
        "Owner": ("none", "bo@acme.com"),
    }
    done = confirm(fiona, CHANGE, amount="120000", limit="500", owner="bo@acme.com")
    assert done.location == "/budget?id=budget-123"
    assert "Engineering, Q1 2025 is changed." in fiona.get(done.location).text
    budget = Budget.get_by_id(demo.BUDGET)
    assert (budget.budgetedMinor, budget.ownerEmail) == (12_000_000, "bo@acme.com")
    confirm(fiona, CHANGE, amount="120000", limit="", owner="")
    budget = Budget.get_by_id(demo.BUDGET)
    assert (budget.autoApproveLimitMinor, budget.ownerEmail) == (None, None)
    assert verification.verify().findings == []


def test_change_sent_twice_or_after_another_change(fiona: FlaskClient) -> None:
    page = fiona.get(f"{CHANGE}&amount=120000").text
    fields = {"amount": "120000", "limit": "", "owner": "", "reason": "why"}
    fields["shown"] = html.unescape(hidden(page, "shown"))
    assert [send(fiona, CHANGE, **fields).status_code for _ in range(2)] == [302, 302]
    assert AuditLog.select().where(AuditLog.action == "UPDATE").count() == 1
    manual_budgets.set_budget(ROOT, demo.CUSTOMER, "Engineering", "Q1 2025", Decimal(7))
    stale = send(fiona, CHANGE, **fields)
    assert (stale.status_code, "The figures have changed." in stale.text) == (409, True)
    assert Budget.get_by_id(demo.BUDGET).budgetedMinor == 700


def test_amount_below_what_is_used_is_possible_and_warned_about(fiona: FlaskClient) -> None:
    assert "will be overdrawn" in fiona.get(f"{CHANGE}&amount=10").text
    assert "will be overdrawn" not in fiona.get(CHANGE).text


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"amount": "many"}, "amount must be an amount such as 5000 or 1,250.50."),
        ({"amount": "5", "limit": "x"}, "autoApproveLimit must be an amount"),
        ({"amount": "5", "owner": "Jane"}, "is not an email address."),
        ({"amount": "5", "reason": " "}, "Enter a reason."),
    ],
)
def test_bad_input_is_rejected_and_kept(
    fiona: FlaskClient, fields: dict[str, str], problem: str
) -> None:
    answer = confirm(fiona, CHANGE, **fields)
    assert (answer.status_code, problem in html.unescape(answer.text)) == (400, True)
    assert f'name="amount" value="{fields["amount"]}"' in answer.text
    assert Budget.get_by_id(demo.BUDGET).budgetedMinor == 10_000_000


def test_budget_is_removed_and_restored(fiona: FlaskClient) -> None:
    assert REMOVE in fiona.get("/budget?id=budget-123").text
    assert rows_of(fiona.get(REMOVE).text)["Available"] == ("$95,000.00", "none for new requests")
    assert confirm(fiona, REMOVE).location == "/budget?id=budget-123"
    assert Budget.get_by_id(demo.BUDGET).deletedAt is not None
    page = fiona.get("/budget?id=budget-123").text
    assert (RESTORE in page, CHANGE in page) == (True, False)
    assert "Restore it first" in fiona.get(CHANGE).text
    assert confirm(fiona, REMOVE).status_code == 400
    assert confirm(fiona, RESTORE).status_code == 302
    assert Budget.get_by_id(demo.BUDGET).deletedAt is None
    assert verification.verify().findings == []


def test_page_refuses_what_the_command_refuses(fiona: FlaskClient) -> None:
    manual_budgets.remove_budget(ROOT, demo.BUDGET)
    manual_budgets.set_budget(
        ROOT, demo.CUSTOMER, "Engineering", "Q1 2025", Decimal(1), budget_id="eng-2"
    )
    with pytest.raises(RequestError) as raised:
        manual_budgets.restore_budget(ROOT, demo.BUDGET)
    sentence = raised.value.sentence.replace(" with `flask remove-budget eng-2`", "")
    answer = confirm(fiona, RESTORE)
    assert answer.status_code == 400
    assert sentence in html.unescape(answer.text)


@pytest.mark.parametrize("path", [CHANGE, REMOVE, RESTORE])
def test_budget_of_a_sheet_links_to_its_row(fiona: FlaskClient, path: str) -> None:
    give_to_sheet()
    link = (
        'href="https://docs.google.com/spreadsheets/d/the-key/edit#gid=7&amp;range=14:14" '
        'target="_blank" rel="noopener"'
    )
    page = fiona.get(path).text
    assert "This budget belongs to a sheet." in page
    assert f"{link}>row 14 of Budget 2026 / Q4" in page
    assert send(fiona, path, reason="why", amount="1").status_code == 409
    assert Budget.get_by_id(demo.BUDGET).budgetedMinor == 10_000_000
    page = fiona.get("/budget?id=budget-123").text
    assert f"{link}>Row 14 of Budget 2026 / Q4" in page
    assert "/budget/change" not in page
    assert f"{link}>Row 14<" in fiona.get("/budgets").text


def clicks_to_change(client: FlaskClient) -> int:
    """The clicks from Overview to a changed amount: Budgets, Change, and the button."""
    found = [re.search(r'href="(/budgets)"', client.get("/").text)]
    found.append(re.search(r'href="(/budget/change[^"]+)"', client.get("/budgets").text))
    assert all(found)
    return len(found) + 1


def test_amount_is_changed_in_three_clicks(fiona: FlaskClient) -> None:
    assert clicks_to_change(fiona) == 3


@pytest.mark.parametrize(
    "path", ["/budget/add", CHANGE, REMOVE, RESTORE], ids=["add", "change", "remove", "restore"]
)
@pytest.mark.parametrize("role", [Role.FPA_USER, Role.BUSINESS_USER])
def test_forms_need_the_permission(
    site: Flask, role: Role, path: str, both: Callable[[FlaskClient, str], set[int]]
) -> None:
    client = member(site, "other", role)
    assert both(client, path) == {403}
    assert "/budget/add" not in client.get("/budgets").text


@pytest.fixture
def both() -> Callable[[FlaskClient, str], set[int]]:
    """The statuses of a form that is opened and sent."""
    return lambda client, path: {
        client.get(path).status_code,
        send(client, path, amount="5", reason="why").status_code,
    }
