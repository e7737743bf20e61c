"""Console actions: release, commit, approve over budget, and approve held deletions."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.console_site import hidden, hold, member, send, short_check
from support.damage import yen_with_decimals
from support.sources import add_file
from support.world import ROOT

from budget_sync import ledger, manual_budgets, sync
from budget_sync.database.models import (
    AuditLog,
    Budget,
    BudgetDataSourceConfig,
    Reservation,
    SyncHistory,
)
from budget_sync.domain.permissions import ANONYMOUS, Actor, Role
from budget_sync.domain.request_models import (
    CheckRequest,
    ReleaseAction,
    ReleaseRequest,
    ReserveRequest,
)
from budget_sync.ledger import verification
from budget_sync.operations import demo

pytestmark = pytest.mark.both_engines


def test_employee_can_only_cancel(site: Flask) -> None:
    client = member(site, "emma", Role.BUSINESS_USER)
    hold("intake-emma", 300, user_id="emma")
    page = client.get("/request?id=intake-emma").text
    assert "Cancel my request" in page
    assert "/request/commit" not in page
    for path in (
        "/request/commit?id=intake-emma&budget=budget-123",
        "/request/release?id=intake-emma&budget=budget-123&action=reject",
    ):
        assert client.get(path).status_code == 403
        assert send(client, path, reason="mine").status_code == 403
    act = "/request/release?id=intake-emma&budget=budget-123&action=cancel"
    form = client.get(act).text
    response = send(
        client,
        act,
        amount="300",
        reason="changed my mind",
        shown=hidden(form, "shown"),
        once=hidden(form, "once"),
    )
    assert response.status_code == 302
    assert Reservation.get(Reservation.requestId == "intake-emma").status == "closed"


def test_confirmation_is_valid_only_for_the_amounts_shown(fiona: FlaskClient) -> None:
    hold("intake-1", 500)
    act = "/request/release?id=intake-1&budget=budget-123&action=reject"
    form = fiona.get(act).text
    assert "$94,500.00" in form
    assert "$95,000.00" in form
    changed = send(
        fiona,
        act,
        amount="200",
        reason="partly",
        shown=hidden(form, "shown"),
        once=hidden(form, "once"),
    )
    assert changed.status_code == 409
    assert "$94,700.00" in changed.text
    assert Reservation.get(Reservation.requestId == "intake-1").heldMinor == 50_000
    again = send(
        fiona,
        act,
        amount="200",
        reason="partly",
        shown=hidden(changed.text, "shown"),
        once=hidden(changed.text, "once"),
    )
    assert again.location == "/request?id=intake-1"
    assert Reservation.get(Reservation.requestId == "intake-1").heldMinor == 30_000


def test_form_sent_twice_moves_money_once(fiona: FlaskClient) -> None:
    hold("intake-1", 500)
    act = "/request/release?id=intake-1&budget=budget-123&action=manual&amount=200"
    form = fiona.get(act).text
    fields = {
        "amount": "200",
        "reason": "partly",
        "once": hidden(form, "once"),
        "shown": hidden(form, "shown"),
    }
    assert send(fiona, act, **fields).status_code == 302
    # The amounts have changed; even if they had not, the idempotency key is the same.
    assert send(fiona, act, **fields).status_code == 409
    assert Reservation.get(Reservation.requestId == "intake-1").heldMinor == 30_000


def test_form_fields_win_over_query_parameters(fiona: FlaskClient) -> None:
    hold("intake-1", 500)
    planted = "amount=10&final=yes&reason=planted&ref=planted"
    act = f"/request/commit?id=intake-1&budget=budget-123&{planted}"
    shown = hidden(
        fiona.get("/request/commit?id=intake-1&budget=budget-123&amount=200").text, "shown"
    )
    assert send(fiona, act, amount="200", reason="mine", shown=shown, once="a").status_code == 302
    assert Reservation.get(Reservation.requestId == "intake-1").heldMinor == 30_000
    row = AuditLog.select().order_by(AuditLog.id.desc()).first()
    assert (row.action, row.reason, row.externalRef) == ("COMMIT", "mine", None)


def test_approval_is_valid_only_for_the_overdraft_shown(fiona: FlaskClient) -> None:
    short_check("intake-big")
    act = "/request/approve?id=intake-big"
    shown = hidden(fiona.get(act).text, "shown")
    hold("intake-other", 5000)
    again = send(fiona, act, reason="The board wants it", shown=shown, once="a")
    assert again.status_code == 409
    assert "The amounts have changed" in again.text
    assert not Reservation.select().where(Reservation.requestId == "intake-big").exists()
    assert (
        send(
            fiona, act, reason="The board wants it", shown=hidden(again.text, "shown"), once="a"
        ).status_code
        == 302
    )


def test_request_waits_until_covered_or_checked_again(fiona: FlaskClient) -> None:
    def waiting() -> bool:
        listed = "intake-1" in fiona.get("/requests?view=uncovered").text.split('id="results"')[1]
        assert ("Waiting for FP&amp;A" in fiona.get("/request?id=intake-1").text) == listed
        return listed

    hold("intake-1", 500)
    ledger.release(
        ROOT,
        ReleaseRequest(
            budget_id=demo.BUDGET,
            request_id="intake-1",
            amount=Decimal(500),
            action=ReleaseAction.REJECT,
        ),
    )
    # A reservation that was closed before the check does not cover it.
    short_check("intake-1")
    assert waiting()
    short_check("intake-1", 300)
    assert not waiting()
    short_check("intake-1")
    assert waiting()
    fiona_approves = {"approved_by": "fp", "reason": "agreed"}
    body = {
        "budget_id": demo.BUDGET,
        "request_id": "intake-1",
        "amount": Decimal(500_000),
        "over_budget": fiona_approves,
    }
    ledger.reserve(
        Actor("user:fp", "fp", "Fp", "fp@example.com", Role.FPA_ADMIN, demo.CUSTOMER),
        ReserveRequest.model_validate(body),
    )
    assert not waiting()
    ledger.release(
        ROOT,
        ReleaseRequest(
            budget_id=demo.BUDGET,
            request_id="intake-1",
            amount=Decimal(500_000),
            action=ReleaseAction.REJECT,
        ),
    )
    assert not waiting()


@pytest.mark.parametrize("of_first", [ROOT, ANONYMOUS], ids=["authenticated", "anonymous"])
def test_another_users_own_check_does_not_supersede(fiona: FlaskClient, of_first: Actor) -> None:
    mallory = Actor(
        "user:mallory", "mallory", "Mallory", "mallory@acme.com", Role.BUSINESS_USER, demo.CUSTOMER
    )
    short_check("intake-1", by=of_first)
    short_check("intake-1", 1, by=mallory, user_id="mallory")
    assert "intake-1" in fiona.get("/requests?view=uncovered").text.split('id="results"')[1]
    act = "/request/approve?id=intake-1"
    form = fiona.get(act).text
    assert "$500,000.00" in form
    assert (
        send(
            fiona, act, reason="agreed", shown=hidden(form, "shown"), once=hidden(form, "once")
        ).status_code
        == 302
    )
    reservation = Reservation.get(Reservation.requestId == "intake-1")
    assert (reservation.requesterId, reservation.amountMinor) == ("user-123", 50_000_000)


def test_anonymous_check_does_not_supersede_authenticated_one(fiona: FlaskClient) -> None:
    short_check("intake-1")
    short_check("intake-1", 700_000, by=ANONYMOUS)
    assert "$500,000.00" in fiona.get("/request/approve?id=intake-1").text
    short_check("intake-1", 1, by=ANONYMOUS)
    assert "$500,000.00" in fiona.get("/request/approve?id=intake-1").text
    assert (
        fiona.get("/requests?view=uncovered").text.split('id="results"')[1].count("intake-1</a>")
        == 1
    )


def test_invalid_amount_is_reported_and_moves_nothing(fiona: FlaskClient) -> None:
    hold("intake-1", 500)
    act = "/request/commit?id=intake-1&budget=budget-123"
    shown = hidden(fiona.get(act).text, "shown")
    for amount in ("0", "-5", "abc", "1e3", "10.005", "1,00", "NaN", "9" * 20, ""):
        response = send(fiona, act, amount=amount, reason="x", shown=shown, once="a")
        assert response.status_code == 400, amount
        assert re.search("[Aa]mount .*must", response.text)
    assert Reservation.get(Reservation.requestId == "intake-1").heldMinor == 50_000


def test_action_needs_a_reason_and_shows_ledger_errors(
    fiona: FlaskClient,
) -> None:
    hold("intake-1", 500)
    act = "/request/release?id=intake-1&budget=budget-123&action=manual&amount=600"
    shown = hidden(fiona.get(act).text, "shown")
    without = send(fiona, act, amount="600", reason="  ", shown=shown, once="a")
    assert (without.status_code, "Enter a reason" in without.text) == (400, True)
    rejected = send(fiona, act, amount="600", reason="too much", shown=shown, once="a")
    assert (rejected.status_code, "Amount exceeds reserved" in rejected.text) == (409, True)
    assert Reservation.get(Reservation.requestId == "intake-1").heldMinor == 50_000


def test_action_uses_the_decimals_of_its_budget(fiona: FlaskClient) -> None:
    with yen_with_decimals(1):
        manual_budgets.set_budget(
            ROOT, demo.CUSTOMER, "Tokyo", "Q1 2025", Decimal(5000), budget_id="yen", currency="JPY"
        )
        hold("intake-yen", 500, budget_id="yen")
    act = "/request/release?id=intake-yen&budget=yen&action=manual"
    form = fiona.get(act).text
    assert hidden(form, "amount") == "500"
    sent = send(
        fiona,
        act,
        amount="500",
        reason="all of it",
        shown=hidden(form, "shown"),
        once=hidden(form, "once"),
    )
    assert sent.status_code == 302
    assert Reservation.get(Reservation.requestId == "intake-yen").heldMinor == 0


def test_approval_over_budget_is_in_the_audit_log(fiona: FlaskClient) -> None:
    short_check("intake-big")
    assert "intake-big" in fiona.get("/requests?view=uncovered").text
    act = "/request/approve?id=intake-big"
    form = fiona.get(act).text
    response = send(
        fiona,
        act,
        reason="The board wants it",
        shown=hidden(form, "shown"),
        once=hidden(form, "once"),
    )
    assert response.location == "/request?id=intake-big"
    row = AuditLog.get(AuditLog.action == "OVER_BUDGET")
    assert (row.approvedBy, row.reason, row.requestId) == (
        "Fp (fp@example.com)",
        "The board wants it",
        "intake-big",
    )
    assert "The board wants it" in fiona.get("/request?id=intake-big").text
    assert "intake-big" not in fiona.get("/requests?view=uncovered").text
    assert "Overdrawn" in fiona.get("/").text
    assert verification.verify().findings == []


def test_approver_cannot_approve_their_own_request(site: Flask) -> None:
    client = member(site, "self", Role.FPA_USER)
    body = {
        "request_id": "mine",
        "user_id": "self",
        "user_name": "S",
        "user_email": "s@example.com",
        "customer_id": demo.CUSTOMER,
    }
    ledger.check(
        ROOT,
        CheckRequest.model_validate(
            body
            | {"department": "Engineering", "fiscal_period": "Q1 2025", "amount": Decimal(500_000)}
        ),
    )
    assert "Approve over budget" not in client.get("/request?id=mine").text
    form = client.get("/request/approve?id=mine").text
    response = send(
        client, "/request/approve?id=mine", reason="me", shown=hidden(form, "shown"), once="a"
    )
    assert response.status_code == 403
    assert "cannot approve their own request" in response.text


@pytest.fixture
def held_source(site: Flask) -> Path:
    """A CSV file from which three of four budgets have disappeared: their deletions are held."""
    folder = site.config["SETTINGS"].csv_folder
    file: Path = folder / "of-finance" / "plan.csv"
    file.parent.mkdir(parents=True)
    write_plan(file, "Sales", "Legal", "Design", "Data")
    add_file(demo.CUSTOMER, folder, "of-finance/plan.csv")
    sync_sources(site)
    write_plan(file, "Sales")
    sync_sources(site)
    return file


def write_plan(file: Path, *departments: str) -> None:
    """Write a sheet with a budget for each department."""
    file.write_text(
        "".join(
            [
                "Department,Fiscal Period,Budgeted Amount\n",
                *(f"{name},Q1 2025,1000\n" for name in departments),
            ]
        ),
        encoding="utf-8",
    )


def sync_sources(site: Flask) -> None:
    """Sync all sources, as cron does every hour."""
    chosen = site.config["SETTINGS"]
    assert [
        result.status
        for result in sync.sync_all(sync.Job(ROOT, sync.Reach.of(chosen), chosen.instance_folder))
    ] != ["failed"]


def live_departments() -> set[str]:
    """The departments with a live budget."""
    return {budget.department for budget in Budget.select().where(Budget.deletedAt.is_null())}


def test_approved_deletions_are_those_that_were_listed(
    fiona: FlaskClient, held_source: Path
) -> None:
    act = f"/sync/held?source={BudgetDataSourceConfig.get().id}"
    page = fiona.get(act).text
    assert all(name in page for name in ("Legal", "Design", "Data", "Delete these 3 budgets"))
    # One of them is in the sheet again before the approval.
    write_plan(held_source, "Sales", "Design")
    answered = send(fiona, act, listed=hidden(page, "listed"), answer="approve")
    assert answered.location == "/sync"
    assert live_departments() == {"Engineering", "Sales", "Design"}


def test_approval_covers_no_budget_missing_since_then(
    fiona: FlaskClient, held_source: Path, site: Flask
) -> None:
    names = [f"Team {number:02}" for number in range(30)]
    write_plan(held_source, "Sales", "Legal", "Design", "Data", *names)
    sync_sources(site)
    write_plan(held_source, "Sales", "Legal", "Design", "Data", *names[:12])
    sync_sources(site)
    act = f"/sync/held?source={BudgetDataSourceConfig.get().id}"
    page = fiona.get(act).text
    assert "Delete these 18 budgets" in page
    write_plan(held_source, "Sales")
    send(fiona, act, listed=hidden(page, "listed"), answer="approve")
    assert live_departments() == {"Engineering", "Sales", "Legal", "Design", "Data", *names[:12]}
    assert "15 changes" in fiona.get("/sync").text


def test_approval_of_an_outdated_list_deletes_nothing(
    fiona: FlaskClient, held_source: Path, site: Flask
) -> None:
    act = f"/sync/held?source={BudgetDataSourceConfig.get().id}"
    page = fiona.get(act).text
    write_plan(held_source, "Legal")
    sync_sources(site)
    rejected = send(fiona, act, listed=hidden(page, "listed"), answer="approve")
    assert rejected.status_code == 409
    assert "What is held has changed." in rejected.text
    assert "Sales" in rejected.text
    assert live_departments() == {"Engineering", "Sales", "Legal", "Design", "Data"}
    for nothing in ("", "made up"):
        assert send(fiona, act, listed=nothing, answer="approve").status_code == 409


def test_fpa_user_sees_held_deletions_but_cannot_approve(site: Flask, held_source: Path) -> None:
    client = member(site, "felix", Role.FPA_USER)
    assert "An FP&amp;A admin can answer them" in client.get("/sync").text
    page = client.get(f"/sync/held?source={BudgetDataSourceConfig.get().id}").text
    assert "3 budgets are missing from the sheet" in page
    assert "Delete these" not in page
    assert client.get("/sync/preview").status_code == 403
    assert (
        send(client, f"/sync/held?source={BudgetDataSourceConfig.get().id}", listed="x").status_code
        == 403
    )
    assert send(client, "/sync/run").status_code == 403
    assert live_departments() == {"Engineering", "Sales", "Legal", "Design", "Data"}


def test_no_page_shows_a_file_path(fiona: FlaskClient, held_source: Path) -> None:
    held_source.unlink()
    failed = send(fiona, "/sync/run")
    assert failed.location == "/sync"
    last = SyncHistory.select().order_by(SyncHistory.id.desc()).first()
    for path in ("/", "/sync", "/sync/preview", f"/sync/pass?id={last.syncId}", "/audit"):
        page = fiona.get(path).text
        assert "of-finance" not in page, path
        assert str(held_source.parent) not in page, path
    assert "plan.csv" in fiona.get("/sync").text
    assert "failed" in fiona.get("/").text
