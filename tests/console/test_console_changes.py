"""Console actions that change a reservation: change amount, move, extend, commit over budget."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from support.console_site import check_for, confirm, hidden, hold, member, rows_of, send
from support.world import ROOT

from budget_sync import manual_budgets
from budget_sync.accounts import customers
from budget_sync.database.models import AuditLog, Budget, Customer, Reservation
from budget_sync.domain.permissions import Role
from budget_sync.ledger import verification
from budget_sync.operations import demo
from budget_sync.web.console import formats

pytestmark = pytest.mark.both_engines

AMEND = "/request/amend?id=intake-1&budget=budget-123"
MOVE = "/request/move?id=intake-1&budget=budget-123&to=legal"
EXTEND = "/request/extend?id=intake-1&budget=budget-123"
COMMIT = "/request/commit?id=intake-1&budget=budget-123"


@pytest.fixture
def legal(site: Flask) -> None:
    """A second budget of 2,000."""
    manual_budgets.set_budget(
        ROOT, demo.CUSTOMER, "Legal", "Q1 2025", Decimal(2000), budget_id="legal"
    )


def held(request_id: str = "intake-1") -> dict[str, int]:
    """What a request holds, by budget."""
    rows = Reservation.select().where(
        Reservation.requestId == request_id, Reservation.status == "open"
    )
    return {row.budgetId: row.heldMinor for row in rows}


def test_change_amount_shows_amounts_and_is_on_the_timeline(fiona: FlaskClient) -> None:
    hold("intake-1", 500)
    page = fiona.get(f"{AMEND}&amount=800").text
    assert rows_of(page) == {
        "Held": ("$500.00", "$800.00"),
        "Reserved": ("$500.00", "$800.00"),
        "Committed": ("$5,000.00", "$5,000.00"),
        "Available": ("$94,500.00", "$94,200.00"),
    }
    done = confirm(fiona, AMEND, amount="800", reason="The price went up")
    assert done.location == "/request?id=intake-1"
    after = html.unescape(fiona.get(done.location).text)
    assert "The request now holds $800. Engineering, Q1 2025 has $94,200 available." in after
    for text in ("Amount changed", "reserved +$300.00", "held $500 → $800", "The price went up"):
        assert text in re.sub("<[^>]+>", "", after)
    assert held() == {demo.BUDGET: 80_000}


@pytest.mark.parametrize(
    ("amount", "sentence"),
    [
        ("500", "The request already holds $500. Enter another amount."),
        ("0", "The amount must be greater than 0."),
        ("abc", "must be an amount such as"),
        ("", "must be an amount such as"),
    ],
)
def test_amount_that_changes_nothing_is_a_problem(
    fiona: FlaskClient, amount: str, sentence: str
) -> None:
    hold("intake-1", 500)
    shown = hidden(fiona.get(AMEND).text, "shown")
    answer = send(fiona, AMEND, amount=amount, reason="why", shown=shown, once="a")
    assert (answer.status_code, sentence in answer.text) == (400, True)
    assert not AuditLog.select().where(AuditLog.action == "AMEND").exists()


def forms(act: str) -> dict[str, str]:
    """A form of each action that changes intake-1."""
    return {} if act == EXTEND else {"amount": "600"}


@pytest.mark.usefixtures("legal")
@pytest.mark.parametrize("act", [AMEND, MOVE, EXTEND, COMMIT])
def test_every_change_needs_a_reason(fiona: FlaskClient, act: str) -> None:
    Customer.update(holdDays=30).execute()
    hold("intake-1", 500)
    answer = confirm(fiona, act, **forms(act), reason=" ")
    assert (answer.status_code, "Enter a reason" in answer.text) == (400, True)
    assert held() == {demo.BUDGET: 50_000}


@pytest.mark.usefixtures("legal")
@pytest.mark.parametrize("act", [AMEND, MOVE, COMMIT])
def test_change_is_valid_only_for_the_amounts_shown(fiona: FlaskClient, act: str) -> None:
    hold("intake-1", 500)
    shown = hidden(fiona.get(act).text, "shown")
    answer = send(fiona, act, amount="400", reason="why", shown=shown, once="a")
    assert (answer.status_code, "The amounts have changed" in answer.text) == (409, True)
    assert held() == {demo.BUDGET: 50_000}
    # The request holds another amount since the page was opened.
    shown = hidden(fiona.get(f"{act}&amount=400").text, "shown")
    confirm(fiona, AMEND, amount="450", reason="first")
    answer = send(fiona, act, amount="400", reason="why", shown=shown, once="b")
    assert (answer.status_code, "The amounts have changed" in answer.text) == (409, True)
    assert held() == {demo.BUDGET: 45_000}


@pytest.mark.usefixtures("legal")
@pytest.mark.parametrize("act", [AMEND, MOVE, EXTEND, COMMIT])
def test_change_sent_twice_happens_once(fiona: FlaskClient, act: str) -> None:
    with time_machine.travel(datetime(2025, 2, 5, tzinfo=UTC), tick=False):
        Customer.update(holdDays=30).execute()
        hold("intake-1", 500)
    before = AuditLog.select().count()
    page = fiona.get(f"{act}&amount=600").text
    fields = forms(act) | {"reason": "why"}
    fields |= {name: hidden(page, name) for name in ("shown", "once")}
    assert send(fiona, act, **fields).status_code == 302
    moved = AuditLog.select().count() - before
    assert moved == (2 if act == MOVE else 1)
    again = send(fiona, act, **fields)
    assert again.status_code in (302, 400, 409)
    assert AuditLog.select().count() - before == moved


@pytest.mark.usefixtures("legal")
def test_move_shows_both_budgets_and_their_other_budget(fiona: FlaskClient) -> None:
    hold("intake-1", 500)
    page = fiona.get(MOVE).text
    assert "From Engineering, Q1 2025" in page
    assert "To Legal, Q1 2025" in page
    first, second = page.split("To Legal, Q1 2025</th>")
    assert rows_of(first)["Held"] == ("$500.00", "$0.00")
    assert rows_of(first)["Available"] == ("$94,500.00", "$95,000.00")
    assert rows_of(second)["Held"] == ("$0.00", "$500.00")
    assert rows_of(second)["Available"] == ("$2,000.00", "$1,500.00")
    done = confirm(fiona, MOVE, amount="500", reason="Legal pays for it")
    after = re.sub("<[^>]+>", "", html.unescape(fiona.get(done.location).text))
    for text in (
        "Moved $500 from Engineering, Q1 2025. Legal, Q1 2025 has $1,500 available.",
        "Moved to Legal, Q1 2025",
        "to Legal, Q1 2025 reserved \u2212$500.00 held $500 → $0",
        "from Engineering, Q1 2025 reserved +$500.00 held $0 → $500",
    ):
        assert text in after
    assert held() == {"legal": 50_000}
    transfer = str(AuditLog.get(AuditLog.action == "TRANSFER").transferId)
    rows = fiona.get(f"/audit?q={transfer}").text.split("<tbody>")[1]
    assert rows.count("<tr>") == 2
    export = fiona.get(f"/audit.csv?q={transfer}", buffered=True)
    assert export.text.count(transfer) == 2


@pytest.mark.usefixtures("legal")
def test_move_offers_only_live_budgets_of_the_currency(fiona: FlaskClient) -> None:
    for number in range(120):
        manual_budgets.set_budget(
            ROOT,
            demo.CUSTOMER,
            f"Team {number:03}",
            "Q1 2025",
            Decimal(100),
            budget_id=f"t{number}",
        )
    manual_budgets.set_budget(
        ROOT, demo.CUSTOMER, "Paris", "Q1 2025", Decimal(9), budget_id="eur", currency="EUR"
    )
    customers.add_customer(ROOT, "other", "Other")
    manual_budgets.set_budget(ROOT, "other", "Theirs", "Q1 2025", Decimal(9), budget_id="theirs")
    Budget.update(deletedAt=datetime(2025, 1, 1, tzinfo=UTC)).where(Budget.id == "t7").execute()
    hold("intake-1", 500)
    choice = "/request/move?id=intake-1&budget=budget-123"
    offered: set[str] = set()
    for number in (1, 2, 3):
        page = fiona.get(f"{choice}&page={number}").text
        offered |= set(re.findall(r'to=([a-z0-9-]+)"', page))
    assert offered == {"legal", *(f"t{number}" for number in range(120) if number != 7)}
    assert re.findall(r'to=([a-z0-9-]+)"', fiona.get(f"{choice}&q=lega").text) == ["legal"]
    foreign = fiona.get(f"{choice}&to=eur")
    assert (foreign.status_code, "must be a budget in USD" in foreign.text) == (400, True)
    assert fiona.get(f"{choice}&to=theirs").status_code == 404


@pytest.mark.usefixtures("legal")
def test_approver_changes_and_moves_over_budget(fiona: FlaskClient) -> None:
    hold("intake-1", 500)
    page = fiona.get(f"{AMEND}&amount=100000").text
    assert "will be overdrawn by $5,000. The audit log names you as the approver." in page
    assert confirm(fiona, AMEND, amount="100000", reason="agreed").status_code == 302
    page = fiona.get(MOVE).text
    assert "Legal, Q1 2025 will be overdrawn by $98,000." in page
    assert confirm(fiona, MOVE, amount="100000", reason="moved").status_code == 302
    rows = AuditLog.select().where(AuditLog.action == "OVER_BUDGET").order_by(AuditLog.id)
    assert [(row.budgetId, row.approvedBy, row.reason) for row in rows] == [
        (demo.BUDGET, "Fp (fp@example.com)", "agreed"),
        ("legal", "Fp (fp@example.com)", "moved"),
    ]
    assert verification.verify().findings == []


def test_approver_commits_over_budget_only_for_the_overdraft_shown(fiona: FlaskClient) -> None:
    hold("intake-1", 500)
    fields = {"amount": "96000", "reason": "The invoice is higher"}
    act = f"{COMMIT}&amount=96000"
    page = fiona.get(act).text
    assert "This is $95,500 more than the request holds." in page
    assert "will be overdrawn by $1,000. The audit log names you as the approver." in page
    hold("intake-2", 100)
    stale = send(fiona, COMMIT, **fields, shown=hidden(page, "shown"), once="a")
    assert (stale.status_code, "overdrawn by $1,100" in stale.text) == (409, True)
    assert confirm(fiona, COMMIT, **fields).status_code == 302
    row = AuditLog.get(AuditLog.action == "OVER_BUDGET")
    assert (row.approvedBy, row.reason) == ("Fp (fp@example.com)", "The invoice is higher")
    assert verification.verify().findings == []


@pytest.mark.usefixtures("legal")
@pytest.mark.parametrize("act", [AMEND, MOVE, COMMIT])
def test_approver_cannot_overdraw_for_their_own_request(site: Flask, act: str) -> None:
    client = member(site, "self", Role.FPA_USER)
    hold("intake-1", 500, user_id="self")
    answer = confirm(client, act, amount="97000", reason="me")
    assert (answer.status_code, "cannot approve their own request" in answer.text) == (403, True)
    assert held() == {demo.BUDGET: 50_000}


@pytest.mark.usefixtures("legal")
@pytest.mark.parametrize("role", [Role.BUSINESS_USER, Role.MANAGER])
def test_user_changes_own_request_after_an_own_check(site: Flask, role: Role) -> None:
    client = member(site, "emma", role)
    hold("intake-1", 500, user_id="emma")
    page = client.get("/request?id=intake-1").text
    assert "Change amount" in page
    assert "Move to another budget" in page
    assert "/request/reverse" not in page
    # Less is possible without a check.
    assert confirm(client, AMEND, amount="400", reason="cheaper").status_code == 302
    for act, department in ((AMEND, "Engineering"), (MOVE, "Legal")):
        rejected = confirm(client, act, amount="600", reason="more")
        assert (rejected.status_code, "You have not checked" in rejected.text) == (409, True)
        check_for("intake-1", "emma", 600, department=department)
        assert confirm(client, act, amount="600", reason="more").status_code == 302
    assert held() == {"legal": 60_000}


def test_user_without_fpa_cannot_overdraw(site: Flask) -> None:
    client = member(site, "emma", Role.BUSINESS_USER)
    hold("intake-1", 500, user_id="emma")
    check_for("intake-1", "emma", 200_000)
    page = client.get(f"{AMEND}&amount=200000").text
    assert "The budget has $105,000 too little available. Only FP&amp;A can approve that." in page
    answer = confirm(client, AMEND, amount="200000", reason="more")
    assert (answer.status_code, "Insufficient budget" in answer.text) == (409, True)
    assert held() == {demo.BUDGET: 50_000}


@pytest.mark.usefixtures("legal")
@pytest.mark.parametrize("act", [AMEND, MOVE, EXTEND])
def test_user_cannot_change_a_request_of_another_user(site: Flask, act: str) -> None:
    Customer.update(holdDays=30).execute()
    hold("intake-1", 500)
    client = member(site, "emma", Role.BUSINESS_USER)
    assert client.get(act).status_code == 403
    assert send(client, act, amount="400", reason="mine", shown="", once="a").status_code == 403
    stranger = member(site, "eve", Role.FPA_ADMIN, other_customer())
    assert stranger.get(act).status_code == 404
    assert send(stranger, act, amount="400", reason="x", shown="", once="a").status_code == 404


def other_customer() -> str:
    """The id of a second customer."""
    customers.add_customer(ROOT, "other", "Other")
    return "other"


def test_extend_is_offered_with_hold_days_only(fiona: FlaskClient) -> None:
    hold("intake-1", 500)
    assert "Extend" not in fiona.get("/request?id=intake-1").text
    assert fiona.get(EXTEND).status_code == 409
    Customer.update(holdDays=30).execute()
    with time_machine.travel(datetime.now(UTC), tick=False):
        until = formats.date_text((datetime.now(UTC) + timedelta(days=30)).date())
        page = fiona.get(EXTEND).text
        assert "30 days from now" in page
        assert ">never</span>" in page
        done = confirm(fiona, EXTEND, reason="Still needed")
        after = re.sub("<[^>]+>", "", html.unescape(fiona.get(done.location).text))
    assert f"Expires in 30 days, on {until}." in after
    assert f"Extended expires never → {until}" in after
    assert held() == {demo.BUDGET: 50_000}
    assert f"expires never → {until}" in html.unescape(fiona.get("/audit").text)
