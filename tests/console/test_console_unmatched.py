"""The page of unmatched names: its groups, one-click aliases, and permissions."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from decimal import Decimal

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from support.console_site import member, send, short_check
from support.world import ROOT

from budget_sync import manual_budgets
from budget_sync.accounts import aliases, customers
from budget_sync.database.models import BudgetCheckLog, DepartmentAlias
from budget_sync.domain import clock
from budget_sync.domain.permissions import Role
from budget_sync.operations import demo

pytestmark = pytest.mark.both_engines


def rows(page: str) -> list[str]:
    """The rows of the list of names, as text."""
    _, _, rest = page.partition('aria-label="Checks without a budget">')
    body, _, _ = rest.partition("</section>")
    found = re.findall(r"<tr>(.*?)</tr>", body.partition("<tbody>")[2], flags=re.DOTALL)
    return [" ".join(html.unescape(re.sub("<[^>]+>", " ", row)).split()) for row in found]


def test_checks_are_grouped_as_sent_with_what_they_asked_for(fiona: FlaskClient) -> None:
    with time_machine.travel(clock.now() - timedelta(days=91), tick=False):
        short_check("old", 5, department="Olden")
    for number, amount in enumerate((100, 250)):
        short_check(f"r{number}", amount, department="Enginering")
    short_check("r2", 7, department="enginering")
    short_check("r3", 7, department="Zzz")
    short_check("r4", 9, department="Engineering", period="Q2 2025")
    short_check("r5", 9)
    found = rows(fiona.get("/unmatched").text)
    assert {row.split(",")[0].strip() for row in found} == {
        "Engineering",
        "Zzz",
        "enginering",
        "Enginering",
    }
    (misspelled,) = [row for row in found if row.startswith("Enginering")]
    for text in ("Q1 2025", "2 checks", "$350.00", "means Engineering"):
        assert text in misspelled
    (period,) = [row for row in found if row.startswith("Engineering")]
    assert "Engineering has no budget for Q2 2025. It has budgets for Q1 2025." in period
    (unknown,) = [row for row in found if row.startswith("Zzz")]
    assert "Choose a department" in unknown


def test_one_click_lets_the_next_check_match(fiona: FlaskClient) -> None:
    short_check("r1", 5, department="Eng")
    added = send(fiona, "/unmatched/add", name="Eng", department="Engineering")
    assert added.status_code == 302
    page = fiona.get("/unmatched").text
    assert "Eng means Engineering from the next check on." in page
    assert "Every name matches" in page
    short_check("r2", 5, department="Eng")
    last = BudgetCheckLog.select().order_by(BudgetCheckLog.id.desc()).first()
    assert last.budgetId == demo.BUDGET
    audit = fiona.get("/audit?action=ADD_ALIAS").text
    assert "Alias added" in audit
    assert "Eng means Engineering" in audit
    assert send(fiona, "/unmatched/remove", name="Eng").status_code == 302
    page = fiona.get("/unmatched").text
    assert "Eng no longer means Engineering." in page
    assert rows(page)
    assert "Eng meant Engineering" in fiona.get("/audit?action=REMOVE_ALIAS").text


def test_rejected_alias_keeps_what_was_typed(fiona: FlaskClient) -> None:
    manual_budgets.set_budget(ROOT, demo.CUSTOMER, "Legal", "Q1 2025", Decimal(10))
    page = send(fiona, "/unmatched/add", name="Legal", department="Engineering")
    assert page.status_code == 400
    text = html.unescape(page.text)
    assert "Legal is a department with budgets of its own" in text
    assert 'name="name" value="Legal"' in text
    assert "<option selected>Engineering</option>" in text
    assert send(fiona, "/unmatched/add", name="x", department="").status_code == 400
    assert fiona.post("/unmatched/add", data={"name": "x"}).status_code == 400
    assert DepartmentAlias.select().count() == 0


def test_names_are_escaped_and_listed_up_to_a_limit(
    fiona: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        short_check(f"r{number}", 5, department=f"<b>{number}")
    page = fiona.get("/unmatched").text
    assert "<b>" not in page
    assert fiona.get("/unmatched?name=%22%3E%3Cb%3E").text.count("<b>") == 0
    monkeypatch.setattr("budget_sync.queries.unmatched.LISTED", 2)
    monkeypatch.setattr("budget_sync.web.console.unmatched.LISTED", 2)
    page = fiona.get("/unmatched").text
    assert len(rows(page)) == 2
    assert "The latest 2 of 3 names and periods." in page


def test_user_looks_and_admin_changes(site: Flask) -> None:
    short_check("r1", 5, department="Eng")
    aliases.add_alias(ROOT, demo.CUSTOMER, "Dev", "Engineering")
    looker, admin = member(site, "felix", Role.FPA_USER), member(site, "boss", Role.ADMIN)
    page = looker.get("/unmatched").text
    assert rows(page) != []
    assert "<button" not in page.split("<main")[1]
    for path, form in (
        ("/unmatched/add", {"name": "Eng", "department": "Engineering"}),
        ("/unmatched/remove", {"name": "Dev"}),
    ):
        assert send(looker, path, **form).status_code == 403
        assert send(admin, path, **form).status_code == 302
    for role in (Role.MANAGER, Role.BUSINESS_USER):
        other = member(site, str(role), role)
        assert other.get("/unmatched").status_code == 403
        assert "/unmatched" not in other.get("/requests").text


def test_names_of_another_customer_are_not_shown(site: Flask) -> None:
    short_check("r1", 5, department="Secret team")
    aliases.add_alias(ROOT, demo.CUSTOMER, "Dev", "Engineering")
    customers.add_customer(ROOT, "other", "Other")
    stranger = member(site, "stranger", Role.FPA_ADMIN, "other")
    page = stranger.get("/unmatched").text
    assert "Secret team" not in page
    assert "Dev" not in page
    assert send(stranger, "/unmatched/remove", name="Dev").status_code == 404
    assert DepartmentAlias.select().count() == 1
