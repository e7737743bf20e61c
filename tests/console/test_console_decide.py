"""Console: approve, decline and reject; double clicks on actions that end a reservation."""

from __future__ import annotations

from decimal import Decimal

import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.console_site import confirm, hidden, hold, member, send, short_check
from support.world import ROOT

from budget_sync import manual_budgets
from budget_sync.database.models import AuditLog, Reservation
from budget_sync.domain.permissions import Role
from budget_sync.ledger import verification
from budget_sync.operations import demo

pytestmark = pytest.mark.both_engines

APPROVE = "/request/approve-reservation?id=intake-1&budget=budget-123"
DECLINE = "/request/decline?id=intake-1"


def waiting(amount: int = 20_000, user_id: str = "user-123") -> None:
    """A request that holds an amount above the auto-approve limit."""
    short_check("intake-1", amount, user_id=user_id)
    hold("intake-1", amount, user_id=user_id)


def listed(client: FlaskClient, view: str) -> bool:
    """Whether the request is in a list."""
    page = client.get(f"/requests?view={view}").text
    return "intake-1</a>" in page.split('id="results"')[1]


def test_approve_ends_the_wait(fiona: FlaskClient) -> None:
    waiting()
    assert listed(fiona, "waiting")
    assert APPROVE.replace("&", "&amp;") in fiona.get("/request?id=intake-1").text
    page = fiona.get(APPROVE).text
    assert "Reason (optional)" in page
    assert "$20,000.00" in page
    assert confirm(fiona, APPROVE, reason="").location == "/request?id=intake-1"
    page = fiona.get("/request?id=intake-1").text
    assert "Approved $20,000" in page
    assert "approve-reservation" not in page
    assert not listed(fiona, "waiting")
    assert listed(fiona, "open")
    assert verification.verify().findings == []


def test_reject_returns_the_money(fiona: FlaskClient) -> None:
    waiting()
    act = "/request/release?id=intake-1&budget=budget-123&action=reject"
    assert act.replace("&", "&amp;") in fiona.get("/request?id=intake-1").text
    assert confirm(fiona, act, amount="20000", reason="No").status_code == 302
    decision = fiona.get("/api/requests/intake-1").get_json()["decision"]
    assert (decision["decision"], decision["reason"]) == ("rejected", "No")


def test_decline_leaves_the_list(fiona: FlaskClient) -> None:
    short_check("intake-1")
    assert listed(fiona, "uncovered")
    assert DECLINE in fiona.get("/request?id=intake-1").text
    form = fiona.get(DECLINE).text
    fields = {"shown": hidden(form, "shown"), "once": hidden(form, "once")}
    without = send(fiona, DECLINE, reason="", **fields)
    assert (without.status_code, "Enter a reason" in without.text) == (400, True)
    assert confirm(fiona, f"{DECLINE}&", reason="Too much").location == "/request?id=intake-1"
    assert not listed(fiona, "uncovered")
    page = fiona.get("/request?id=intake-1").text
    assert "Declined" in page
    assert "Too much" in page
    assert "/request/decline" not in page
    assert "Declined" in fiona.get("/audit").text


def test_request_without_a_budget_is_declined(fiona: FlaskClient) -> None:
    short_check("intake-1", 70, department="Enginering")
    assert listed(fiona, "uncovered")
    page = fiona.get("/request?id=intake-1").text
    assert "/request/approve?" not in page
    assert "Enginering" in fiona.get(DECLINE).text
    assert confirm(fiona, f"{DECLINE}&", reason="Wrong name").status_code == 302
    assert not listed(fiona, "uncovered")
    assert "Declined" in fiona.get("/request?id=intake-1").text
    assert "Wrong name" in fiona.get("/audit").text


def test_decline_is_for_the_check_that_the_page_showed(fiona: FlaskClient) -> None:
    short_check("intake-1")
    form = fiona.get(DECLINE).text
    short_check("intake-1", 600_000)
    fields = {"shown": hidden(form, "shown"), "once": hidden(form, "once")}
    again = send(fiona, DECLINE, reason="No", **fields)
    assert (again.status_code, "The amounts have changed" in again.text) == (409, True)
    assert listed(fiona, "uncovered")


def test_approval_after_a_change_shows_the_new_amount(fiona: FlaskClient) -> None:
    waiting()
    form = fiona.get(APPROVE).text
    act = "/request/amend?id=intake-1&budget=budget-123"
    assert confirm(fiona, act, amount="21000", reason="x").status_code == 302
    fields = {"shown": hidden(form, "shown"), "once": hidden(form, "once")}
    again = send(fiona, APPROVE, reason="", **fields)
    assert (again.status_code, "$21,000.00" in again.text) == (409, True)
    assert Reservation.get(Reservation.requestId == "intake-1").approvedMinor is None


def test_employee_does_not_decide(site: Flask) -> None:
    client = member(site, "emma", Role.MANAGER)
    short_check("intake-1", 20_000, user_id="emma")
    hold("intake-1", 20_000, user_id="emma")
    page = client.get("/request?id=intake-1").text
    assert "approve-reservation" not in page
    for path in (APPROVE, DECLINE):
        assert client.get(path).status_code == 403
        assert send(client, path, reason="mine").status_code == 403


def test_own_request_cannot_be_approved(fiona: FlaskClient) -> None:
    waiting(user_id="fp")
    assert "approve-reservation" not in fiona.get("/request?id=intake-1").text
    assert fiona.get(APPROVE).status_code == 403


def test_request_that_does_not_wait_has_no_decision(fiona: FlaskClient) -> None:
    hold("intake-1", 5)
    assert fiona.get(APPROVE).status_code == 409
    assert fiona.get(DECLINE).status_code == 409


@pytest.mark.parametrize(
    ("act", "fields"),
    [
        ("/request/release?id=intake-1&budget=budget-123&action=reject", {"amount": "20000"}),
        ("/request/commit?id=intake-1&budget=budget-123", {"amount": "20000"}),
        ("/request/move?id=intake-1&budget=budget-123&to=other", {"amount": "20000"}),
        (APPROVE, {}),
        (DECLINE, {}),
        ("/request/approve?id=intake-1", {}),
    ],
    ids=["reject", "commit", "move", "approve", "decline", "approve over budget"],
)
def test_double_click_leads_to_the_request(
    fiona: FlaskClient, act: str, fields: dict[str, str]
) -> None:
    manual_budgets.set_budget(
        ROOT, demo.CUSTOMER, "Other", "Q1 2025", Decimal(90_000), budget_id="other"
    )
    if "decline" in act or "approve?" in act:
        short_check("intake-1")
    else:
        waiting()
    form = fiona.get(act).text
    fields |= {"shown": hidden(form, "shown"), "once": hidden(form, "once"), "reason": "Twice"}
    first = send(fiona, act, **fields)
    rows = AuditLog.select().count()
    again = send(fiona, act, **fields)
    for response in (first, again):
        assert (response.status_code, response.location) == (302, "/request?id=intake-1")
    assert AuditLog.select().count() == rows
    # Another form is not the same click.
    assert send(fiona, act, **(fields | {"once": "other"})).status_code == 409
