"""Console actions on committed money: reverse, and record spend."""

from __future__ import annotations

import html
import re
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.console_site import confirm, hidden, hold, member, rows_of, send, short_check
from support.world import ROOT

from budget_sync import ledger, manual_budgets
from budget_sync.accounts import customers
from budget_sync.database.models import AuditLog, Budget, BudgetUtilization, Reservation, Spend
from budget_sync.domain.permissions import Role
from budget_sync.domain.request_models import CommitRequest, SpendRequest
from budget_sync.ledger import verification
from budget_sync.operations import demo

pytestmark = pytest.mark.both_engines

#: The fixture `site` has committed 5,000 for this request.
REVERSE = "/request/reverse?id=intake-101&budget=budget-123"
REVERSE_SPEND = "/request/reverse?id=card-1&budget=budget-123"
SPEND = "/spend?budget=budget-123"
#: The fields of a spend other than the amount.
CARD = {"spend_id": "card-1", "date": "2025-02-05", "vendor": "Staples", "ref": "INV-7"}


def committed() -> int:
    """What the budget has committed, in cents."""
    return int(BudgetUtilization.get_by_id(demo.BUDGET).committedMinor)


def plain(page: str) -> str:
    """The text of a page, without tags."""
    return re.sub("<[^>]+>", "", html.unescape(page))


def record_spend(amount: int = 180) -> None:
    """Record the spend card-1."""
    body = SpendRequest(
        spend_id="card-1",
        budget_id=demo.BUDGET,
        amount=Decimal(amount),
        date=date(2025, 2, 5),
        reason="Company card",
    )
    ledger.spend(ROOT, body)


def test_reverse_shows_amounts_and_is_on_the_timeline(fiona: FlaskClient) -> None:
    assert "/request/reverse" in fiona.get("/request?id=intake-101").text
    page = fiona.get(f"{REVERSE}&amount=1200").text
    assert rows_of(page) == {
        "Committed by this request": ("$5,000.00", "$3,800.00"),
        "Reserved": ("$0.00", "$0.00"),
        "Committed": ("$5,000.00", "$3,800.00"),
        "Available": ("$95,000.00", "$96,200.00"),
    }
    done = confirm(fiona, REVERSE, amount="1200", reason="Credit note", ref="CN-88")
    assert done.location == "/request?id=intake-101"
    after = plain(fiona.get(done.location).text)
    for text in (
        "Reversed $1,200. Engineering, Q1 2025 has $96,200 available.",
        "Reversed committed \u2212$1,200.00 committed $5,000 → $3,800",
        "Credit note CN-88",
    ):
        assert text in after
    assert "<dt>Reversed</dt><dd>$1,200.00</dd>" in fiona.get(done.location).text
    assert committed() == 380_000
    assert verification.verify().findings == []


def test_reversed_money_can_be_held_again(fiona: FlaskClient) -> None:
    page = fiona.get(f"{REVERSE}&amount=1200&hold=yes").text
    assert rows_of(page)["Reserved"] == ("$0.00", "$1,200.00")
    assert rows_of(page)["Available"] == ("$95,000.00", "$95,000.00")
    assert confirm(fiona, REVERSE, amount="1200", hold="yes", reason="Again").status_code == 302
    row = Reservation.get(Reservation.requestId == "intake-101")
    assert (row.status, row.heldMinor) == ("open", 120_000)


def test_reverse_covers_all_reservations_on_the_budget(fiona: FlaskClient) -> None:
    short_check("intake-101", 300)
    hold("intake-101", 300)
    commit = CommitRequest(budget_id=demo.BUDGET, request_id="intake-101", amount=Decimal(300))
    ledger.commit(ROOT, commit)
    assert fiona.get("/request?id=intake-101").text.count("/request/reverse") == 1
    assert rows_of(fiona.get(REVERSE).text)["Committed by this request"] == ("$5,300.00", "$0.00")
    assert confirm(fiona, REVERSE, amount="5300", reason="All of it").status_code == 302
    assert committed() == 0
    assert "/request/reverse" not in fiona.get("/request?id=intake-101").text
    assert fiona.get(REVERSE).status_code == 409


def test_reversal_needs_a_reason_and_current_amounts(fiona: FlaskClient) -> None:
    answer = confirm(fiona, REVERSE, amount="100", reason=" ")
    assert (answer.status_code, "Enter a reason" in answer.text) == (400, True)
    shown = hidden(fiona.get(f"{REVERSE}&amount=100").text, "shown")
    for changed in ({"amount": "200"}, {"amount": "100", "hold": "yes"}):
        answer = send(fiona, REVERSE, **changed, reason="why", shown=shown, once="a")
        assert (answer.status_code, "The amounts have changed" in answer.text) == (409, True)
    too_much = confirm(fiona, REVERSE, amount="5001", reason="why")
    assert (too_much.status_code, "Reverse less." in too_much.text) == (409, True)
    assert committed() == 500_000
    confirm(fiona, REVERSE, amount="50", reason="first")
    answer = send(fiona, REVERSE, amount="100", reason="why", shown=shown, once="a")
    assert (answer.status_code, "The amounts have changed" in answer.text) == (409, True)
    assert committed() == 495_000


def test_reversal_sent_twice_happens_once(fiona: FlaskClient) -> None:
    page = fiona.get(f"{REVERSE}&amount=100").text
    fields = {"amount": "100", "reason": "why"}
    fields |= {name: hidden(page, name) for name in ("shown", "once")}
    assert send(fiona, REVERSE, **fields).status_code == 302
    assert send(fiona, REVERSE, **fields).status_code == 409
    assert committed() == 490_000


def test_spend_is_reversed_to_available_only(fiona: FlaskClient) -> None:
    record_spend()
    page = fiona.get(REVERSE_SPEND).text
    assert "$180 was spent on Engineering, Q1 2025." in page
    assert 'name="hold"' not in page
    assert confirm(fiona, REVERSE_SPEND, amount="80", hold="yes", reason="Back").status_code == 302
    assert committed() == 510_000
    after = fiona.get("/request?id=card-1").text
    assert "<dt>Reversed</dt><dd>$80.00</dd>" in after
    assert "committed $180 → $100" in plain(after)
    assert "$80.00 reversed" in fiona.get("/requests?view=spend").text


def test_recorded_spend_has_a_timeline_and_is_listed(fiona: FlaskClient) -> None:
    assert "/spend?budget=budget-123" in fiona.get("/budget?id=budget-123").text
    page = fiona.get(f"{SPEND}&amount=180.40").text
    assert rows_of(page) == {
        "Reserved": ("$0.00", "$0.00"),
        "Committed": ("$5,000.00", "$5,180.40"),
        "Available": ("$95,000.00", "$94,819.60"),
    }
    done = confirm(fiona, SPEND, **CARD, amount="180.40", reason="Company card")
    assert done.location == "/request?id=card-1"
    after = plain(fiona.get(done.location).text)
    for text in (
        "Recorded $180.40 as spent. Engineering, Q1 2025 has $94,819.60 available.",
        "Spend recorded committed +$180.40 committed $0 → $180.40",
        "Company card",
        "5 Feb 2025",
        "Staples",
        "INV-7",
    ):
        assert text in after
    listed = plain(fiona.get("/requests?view=spend").text)
    assert "card-1" in listed
    assert "$180.40" in listed
    assert "Spend recorded" in fiona.get("/audit?action=SPEND").text
    assert verification.verify().findings == []


def test_spend_may_overdraw_after_the_page_said_so(fiona: FlaskClient) -> None:
    page = fiona.get(f"{SPEND}&amount=96000").text
    assert "The budget will be overdrawn by $1,000." in page
    assert "approver" not in page
    shown = hidden(page, "shown")
    hold("intake-2", 10)
    fields = CARD | {"amount": "96000", "reason": "Card"}
    stale = send(fiona, SPEND, **fields, shown=shown, once="a")
    assert (stale.status_code, "overdrawn by $1,010" in stale.text) == (409, True)
    done = confirm(fiona, SPEND, **fields)
    after = html.unescape(fiona.get(done.location).text)
    assert "Engineering, Q1 2025 is overdrawn by $1,010." in after


@pytest.mark.parametrize(
    ("changed", "status", "sentence"),
    [
        ({"reason": " "}, 400, "Enter a reason"),
        ({"amount": ""}, 400, "must be an amount such as"),
        ({"date": ""}, 400, "Enter the date"),
        ({"date": "5 Feb"}, 400, "Enter the date"),
        ({"spend_id": " "}, 400, "Enter an id for the spend"),
        ({"amount": "0"}, 400, "must be greater than 0"),
    ],
)
def test_spend_with_a_problem_records_nothing(
    fiona: FlaskClient, changed: dict[str, str], status: int, sentence: str
) -> None:
    shown = hidden(fiona.get(f"{SPEND}&amount=180").text, "shown")
    fields = CARD | {"amount": "180", "reason": "Card", "shown": shown, "once": "a"} | changed
    answer = send(fiona, SPEND, **fields)
    assert (answer.status_code, sentence in html.unescape(answer.text)) == (status, True)
    # What was typed is kept.
    assert 'value="Staples"' in answer.text
    assert not Spend.select().exists()


def test_spend_sent_twice_is_recorded_once(fiona: FlaskClient) -> None:
    page = fiona.get(f"{SPEND}&amount=180").text
    fields = CARD | {"amount": "180", "reason": "Card"}
    fields |= {name: hidden(page, name) for name in ("shown", "once")}
    assert send(fiona, SPEND, **fields).status_code == 302
    assert send(fiona, SPEND, **fields).location == "/request?id=card-1"
    assert committed() == 518_000
    other = confirm(fiona, SPEND, **(CARD | {"amount": "90", "reason": "Card"}))
    assert (other.status_code, "This spendId was used before" in other.text) == (422, True)


def test_spend_begins_with_a_choice_of_live_budgets(fiona: FlaskClient) -> None:
    manual_budgets.set_budget(
        ROOT, demo.CUSTOMER, "Legal", "Q1 2025", Decimal(9), budget_id="eur", currency="EUR"
    )
    assert "/spend" in fiona.get("/requests?view=spend").text
    assert re.findall(r'/spend\?budget=([a-z0-9-]+)"', fiona.get("/spend").text) == [
        demo.BUDGET,
        "eur",
    ]
    Budget.update(deletedAt=datetime(2025, 1, 1, tzinfo=UTC)).where(Budget.id == "eur").execute()
    assert "budget=eur" not in fiona.get("/spend").text
    assert "/spend?" not in fiona.get("/budget?id=eur").text
    rejected = confirm(fiona, "/spend?budget=eur", **CARD, amount="1", reason="Card")
    assert (rejected.status_code, "removed" in rejected.text) == (409, True)


@pytest.mark.parametrize("role", [Role.BUSINESS_USER, Role.MANAGER])
def test_ordinary_user_cannot_reverse_or_record_spend(site: Flask, role: Role) -> None:
    record_spend()
    client = member(site, "emma", role)
    for act in (REVERSE, REVERSE_SPEND, SPEND, "/spend"):
        assert client.get(act).status_code == 403
        assert send(client, act, amount="1", reason="x", shown="", once="a").status_code == 403
    assert "view=spend" not in client.get("/requests").text
    assert "card-1" not in client.get("/requests?view=spend").text
    assert client.get("/request?id=card-1").status_code == 404
    assert "Record spend" not in client.get("/budget?id=budget-123").text


@pytest.mark.parametrize("role", [Role.FPA_USER, Role.ADMIN])
def test_other_customers_do_not_see_committed_money(site: Flask, role: Role) -> None:
    record_spend()
    customers.add_customer(ROOT, "other", "Other")
    client = member(site, "eve", role, "other")
    for act in (REVERSE, REVERSE_SPEND, SPEND):
        assert client.get(act).status_code == 404
        assert send(client, act, amount="1", reason="x", shown="", once="a").status_code == 404
    assert "card-1" not in client.get("/requests?view=spend").text
    assert not AuditLog.select().where(AuditLog.action == "REVERSE").exists()
