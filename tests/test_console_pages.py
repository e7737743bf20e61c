"""The console's pages: who sees what, what forms need, what errors look like, and what leaves in a CSV file."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import time_machine
from conftest import PASSWORD, PROJECT, ROOT, person, sign_in
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from budget_sync import budgets, clock, demo, ledger, logins, overview, people, reports, sync
from budget_sync.listings import audit as audit_listing
from budget_sync.listings import paging
from budget_sync.models import AuditLog, Budget, BudgetDataSourceConfig, Customer, Reservation, Session, SyncHistory
from budget_sync.periods import period_dates
from budget_sync.permissions import Actor, Role
from budget_sync.requests import CheckRequest, CommitRequest, ReleaseAction, ReleaseRequest, ReserveRequest
from budget_sync.web.console import formats
from budget_sync.web.console.frame import NAVIGATION
from budget_sync.web.console.session import safe_path

PAGES = ("/", "/budgets", "/budget?id=budget-123", "/requests", "/requests?view=uncovered", "/sync", "/audit", "/team", "/team/add", "/keys", "/account")

#: What a browser says when it opens a page.
BROWSER = {"Accept": "text/html,*/*", "Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"}
FORBIDDEN = {
    Role.BUSINESS_USER: {"/sync", "/audit", "/team", "/team/add", "/keys"},
    Role.MANAGER: {"/sync", "/audit", "/team", "/team/add", "/keys"},
    Role.FPA_USER: {"/team", "/team/add", "/keys"},
    Role.FPA_ADMIN: {"/team", "/team/add", "/keys"},
    Role.ADMIN: set[str](),
    Role.SUPER_ADMIN: set[str](),
}


@pytest.fixture
def world(app: Flask) -> Flask:
    """The guide's customer and budget, without the demo's people, whose passwords take their time."""
    people.add_customer(ROOT, demo.CUSTOMER, "Acme Inc.", auto_approve_limit_minor=1_000_000)
    budgets.set_budget(ROOT, demo.CUSTOMER, "Engineering", "Q1 2025", Decimal(100_000), budget_id=demo.BUDGET)
    hold("intake-101", 5000)
    ledger.commit(ROOT, CommitRequest(budget_id=demo.BUDGET, request_id="intake-101", amount=Decimal(5000)))
    return app


@pytest.fixture
def fiona(world: Flask) -> FlaskClient:
    """FP&A, signed in."""
    return member(world, "fp", Role.FPA_ADMIN)


def member(world: Flask, user_id: str, role: Role, customer_id: str | None = demo.CUSTOMER) -> FlaskClient:
    """Somebody of a role, with a session as signing in makes it, but without the time that hashing a password takes."""
    people.add_user(
        ROOT, user_id, user_id.title(), f"{user_id}@example.com", role, customer_id=customer_id, password=None, slots_folder=Path(world.instance_path)
    )
    now = clock.now()
    Session.insert(tokenHash=logins.digest(user_id), userId=user_id, createdAt=now, expiresAt=now + logins.SESSION_LIFETIME).execute()
    client = world.test_client()
    with client.session_transaction() as cookie:
        cookie["_user_id"] = user_id
    return client


def token(client: FlaskClient, path: str = "/account") -> str:
    """A form's token, as the page has it."""
    found = re.search(r'name="csrf_token" value="([^"]+)"', client.get(path).text)
    assert found, path
    return found[1]


def send(client: FlaskClient, path: str, **form: str) -> TestResponse:
    """A form, with its token."""
    return client.post(path, data=form | {"csrf_token": token(client)})


def hidden(page: str, name: str) -> str:
    """A hidden field of a page."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found, name
    return found[1]


def hold(request_id: str, amount: int, *, user_id: str = "user-123", budget_id: str = demo.BUDGET) -> None:
    """Money set aside for somebody."""
    body = ReserveRequest(budget_id=budget_id, request_id=request_id, amount=Decimal(amount), user_id=user_id)
    ledger.reserve(ROOT, body)


def short_check(request_id: str, amount: int = 500_000) -> None:
    """A request that the budget cannot carry."""
    body = {"request_id": request_id, "user_id": "user-123", "user_name": "Jane Doe", "user_email": "jane@acme.com", "customer_id": demo.CUSTOMER}
    ledger.check(ROOT, CheckRequest.model_validate(body | {"department": "Engineering", "fiscal_period": "Q1 2025", "amount": Decimal(amount)}))


def test_nobody_sees_a_page_without_signing_in(client: FlaskClient) -> None:
    for path in PAGES:
        response = client.get(path)
        assert response.status_code == 302, path
        assert response.location.startswith("/sign-in")


def test_each_role_sees_the_pages_that_it_may_and_a_sentence_instead_of_the_others(world: Flask) -> None:
    with world.test_request_context():
        links = [world.url_for(endpoint) for _, endpoint, _ in NAVIGATION]
    for role, forbidden in FORBIDDEN.items():
        client = member(world, f"somebody-{role}", role)
        seen = {path: client.get(path) for path in PAGES}
        assert {path for path, response in seen.items() if response.status_code == 403} == forbidden
        assert {response.status_code for response in seen.values()} <= {200, 403}
        assert {response.mimetype for response in seen.values()} == {"text/html"}
        assert all("does not allow this" in seen[path].text for path in forbidden)
        page = seen["/"].text
        nav = page[page.index("<nav") : page.index("</nav>")]
        assert {path for path in links if f'href="{path}"' in nav} == set(links) - forbidden


def test_signing_in_leads_back_to_the_page_that_was_asked_for(world: Flask) -> None:
    person("jo", Role.FPA_USER)
    client = world.test_client()
    door = client.get("/budgets?state=overdrawn")
    form = client.get(door.location)
    data = {"csrf_token": hidden(form.text, "csrf_token"), "next": hidden(form.text, "next"), "email": "jo@example.com", "password": PASSWORD}
    response = client.post("/sign-in", data=data)
    assert (response.status_code, response.location) == (302, "/budgets?state=overdrawn")
    assert client.get("/api/auth/me").json["user"]["id"] == "jo"  # type: ignore[index]  # a reply


@pytest.mark.parametrize(
    "path", ["https://evil.example/", "//evil.example", "/\\evil.example", "\\\\evil.example", "javascript:alert(1)", "/\t/evil.example", ""]
)
def test_signing_in_never_leads_to_another_site(app: Flask, path: str) -> None:
    with app.test_request_context():
        assert safe_path(path) == "/"


def test_a_wrong_password_is_a_sentence_and_no_session(world: Flask) -> None:
    person("jo", Role.FPA_USER)
    client = world.test_client()
    form = hidden(client.get("/sign-in").text, "csrf_token")
    response = client.post("/sign-in", data={"csrf_token": form, "email": "jo@example.com", "password": "wrong"})
    assert response.status_code == 401
    assert "Email or password is wrong" in response.text
    assert client.get("/").status_code == 302


def test_signing_out_ends_the_session_for_the_calls_too(fiona: FlaskClient) -> None:
    assert send(fiona, "/sign-out").location == "/sign-in"
    assert fiona.get("/api/auth/me").status_code == 401


def _posts(app: Flask) -> Iterator[str]:
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("console.") and "POST" in (rule.methods or ()):
            yield rule.rule


def test_no_form_is_taken_without_its_token(world: Flask) -> None:
    client = member(world, "boss", Role.ADMIN)
    hold("intake-1", 500)
    rows = AuditLog.select().count()
    paths = list(_posts(world))
    assert len(paths) > 10
    for path in paths:
        response = client.post(path, data={"id": "intake-1", "name": "x", "csrf_token": "made up"})
        assert response.status_code == 400, path
        assert "Nothing was changed" in response.text
    assert AuditLog.select().count() == rows
    assert client.get("/account").status_code == 200


def test_a_form_from_another_site_is_refused_even_with_a_token(fiona: FlaskClient) -> None:
    data = {"csrf_token": token(fiona), "present": PASSWORD, "new": "a" * 12, "again": "a" * 12}
    response = fiona.post("/account", data=data, headers={"Origin": "https://evil.example"})
    assert response.status_code == 403
    assert "another site" in response.text


def test_the_calls_ask_for_no_token(fiona: FlaskClient) -> None:
    body = {"budgetId": demo.BUDGET, "requestId": "r-1", "amount": 10}
    assert fiona.post("/api/budget/reserve", json=body).status_code == 200


def test_every_page_keeps_itself_safe(world: Flask) -> None:
    client = member(world, "boss", Role.ADMIN)
    for path in (*PAGES, "/nothing", "/budget?id=unknown", "/request?id=unknown", "/sign-in", "/budgets.csv"):
        response = client.get(path, headers=BROWSER)
        assert response.headers["Content-Security-Policy"].startswith("default-src 'self';"), path
        assert "unsafe" not in response.headers["Content-Security-Policy"]
        assert response.headers["X-Frame-Options"] == "DENY"
        assert response.headers["Referrer-Policy"] == "same-origin"
        assert response.headers["Cache-Control"] == "no-store"
        # No script, style or address of its own that the policy would have to refuse.
        assert not re.search(r"\sstyle=|<style|\son\w+=|javascript:|<script(?![^>]*\ssrc=\"/assets/)", response.text)
        assert not re.search(r'\s(src|href|action)="(?!/|\?|#|audit\.csv)', response.text)


def test_an_unknown_path_is_a_page_for_a_browser_and_json_for_a_program(fiona: FlaskClient) -> None:
    page = fiona.get("/nothing", headers=BROWSER)
    assert (page.status_code, page.mimetype, "There is no such page" in page.text) == (404, "text/html", True)
    assert fiona.get("/nothing").mimetype == "application/json"
    assert fiona.get("/api/nothing", headers=BROWSER).mimetype == "application/json"


def test_a_database_that_is_gone_is_a_page_that_says_so(fiona: FlaskClient, world: Flask) -> None:
    path = world.config["SETTINGS"].database_path
    moved = path.with_suffix(".gone")
    path.rename(moved)
    try:
        response = fiona.get("/budgets")
    finally:
        moved.rename(path)
    assert response.status_code == 503
    assert response.mimetype == "text/html"
    assert response.headers["Retry-After"] == "2"
    assert "Nothing was changed" in response.text


def test_an_employee_sees_their_own_requests_alone(world: Flask) -> None:
    client = member(world, "emma", Role.BUSINESS_USER)
    hold("intake-jane", 500)
    hold("intake-emma", 300, user_id="emma")
    listed = client.get("/requests?view=all").text
    assert "intake-emma" in listed
    assert "intake-jane" not in listed
    assert client.get("/request?id=intake-emma").status_code == 200
    assert client.get("/request?id=intake-jane").status_code == 403
    assert "intake-jane" not in client.get("/budget?id=budget-123").text


def test_an_employee_can_only_cancel(world: Flask) -> None:
    client = member(world, "emma", Role.BUSINESS_USER)
    hold("intake-emma", 300, user_id="emma")
    page = client.get("/request?id=intake-emma").text
    assert "Cancel my request" in page
    assert "/request/commit" not in page
    for path in ("/request/commit?id=intake-emma&budget=budget-123", "/request/release?id=intake-emma&budget=budget-123&action=reject"):
        assert client.get(path).status_code == 403
        assert send(client, path, reason="mine").status_code == 403
    act = "/request/release?id=intake-emma&budget=budget-123&action=cancel"
    form = client.get(act).text
    response = send(client, act, amount="300", reason="changed my mind", shown=hidden(form, "shown"), once=hidden(form, "once"))
    assert response.status_code == 302
    assert Reservation.get(Reservation.requestId == "intake-emma").status == "closed"


def test_a_confirmation_counts_for_the_figures_that_it_shows(fiona: FlaskClient) -> None:
    hold("intake-1", 500)
    act = "/request/release?id=intake-1&budget=budget-123&action=reject"
    form = fiona.get(act).text
    assert "$94,500.00" in form
    assert "$95,000.00" in form
    changed = send(fiona, act, amount="200", reason="partly", shown=hidden(form, "shown"), once=hidden(form, "once"))
    assert changed.status_code == 409
    assert "$94,700.00" in changed.text
    assert Reservation.get(Reservation.requestId == "intake-1").heldMinor == 50_000
    again = send(fiona, act, amount="200", reason="partly", shown=hidden(changed.text, "shown"), once=hidden(changed.text, "once"))
    assert again.location == "/request?id=intake-1"
    assert Reservation.get(Reservation.requestId == "intake-1").heldMinor == 30_000


def test_a_form_sent_twice_moves_money_once(fiona: FlaskClient) -> None:
    hold("intake-1", 500)
    act = "/request/release?id=intake-1&budget=budget-123&action=manual&amount=200"
    form = fiona.get(act).text
    fields = {"amount": "200", "reason": "partly", "once": hidden(form, "once"), "shown": hidden(form, "shown")}
    assert send(fiona, act, **fields).status_code == 302
    # The second time it is no longer what was shown; even if it were, it is the same request to the ledger.
    assert send(fiona, act, **fields).status_code == 409
    assert Reservation.get(Reservation.requestId == "intake-1").heldMinor == 30_000


def test_what_is_typed_counts_and_never_what_a_link_brought_along(fiona: FlaskClient) -> None:
    hold("intake-1", 500)
    act = "/request/commit?id=intake-1&budget=budget-123&amount=10&final=yes&reason=planted&ref=planted"
    shown = hidden(fiona.get("/request/commit?id=intake-1&budget=budget-123&amount=200").text, "shown")
    assert send(fiona, act, amount="200", reason="mine", shown=shown, once="a").status_code == 302
    assert Reservation.get(Reservation.requestId == "intake-1").heldMinor == 30_000
    row = AuditLog.select().order_by(AuditLog.id.desc()).first()
    assert (row.action, row.reason, row.externalRef) == ("COMMIT", "mine", None)


def test_an_approval_agrees_to_the_overdraft_that_was_shown(fiona: FlaskClient) -> None:
    short_check("intake-big")
    act = "/request/approve?id=intake-big"
    shown = hidden(fiona.get(act).text, "shown")
    hold("intake-other", 5000)
    again = send(fiona, act, reason="The board wants it", shown=shown, once="a")
    assert again.status_code == 409
    assert "look at them once more" in again.text
    assert not Reservation.select().where(Reservation.requestId == "intake-big").exists()
    assert send(fiona, act, reason="The board wants it", shown=hidden(again.text, "shown"), once="a").status_code == 302


def test_a_request_waits_until_it_was_covered_or_asked_for_anew(fiona: FlaskClient) -> None:
    def waiting() -> bool:
        listed = "intake-1" in fiona.get("/requests?view=uncovered").text.split('id="results"')[1]
        assert ("Waits for FP&amp;A" in fiona.get("/request?id=intake-1").text) == listed
        return listed

    hold("intake-1", 500)
    ledger.release(ROOT, ReleaseRequest(budget_id=demo.BUDGET, request_id="intake-1", amount=Decimal(500), action=ReleaseAction.REJECT))
    # What was settled before the check is another matter.
    short_check("intake-1")
    assert waiting()
    short_check("intake-1", 300)
    assert not waiting()
    short_check("intake-1")
    assert waiting()
    fiona_approves = {"approved_by": "fp", "reason": "agreed"}
    body = {"budget_id": demo.BUDGET, "request_id": "intake-1", "amount": Decimal(500_000), "over_budget": fiona_approves}
    ledger.reserve(Actor("user:fp", "fp", "Fp", "fp@example.com", Role.FPA_ADMIN, demo.CUSTOMER), ReserveRequest.model_validate(body))
    assert not waiting()
    ledger.release(ROOT, ReleaseRequest(budget_id=demo.BUDGET, request_id="intake-1", amount=Decimal(500_000), action=ReleaseAction.REJECT))
    assert not waiting()


def test_an_amount_that_makes_no_sense_is_named_and_moves_nothing(fiona: FlaskClient) -> None:
    hold("intake-1", 500)
    act = "/request/commit?id=intake-1&budget=budget-123"
    shown = hidden(fiona.get(act).text, "shown")
    for amount in ("0", "-5", "abc", "1e3", "10.005", "1,00", "NaN", "9" * 20, ""):
        response = send(fiona, act, amount=amount, reason="x", shown=shown, once="a")
        assert response.status_code == 400, amount
        assert re.search("[Aa]mount .*must", response.text)
    assert Reservation.get(Reservation.requestId == "intake-1").heldMinor == 50_000


def test_a_deed_needs_a_reason_and_what_the_ledger_refuses_is_a_sentence_on_the_form(fiona: FlaskClient) -> None:
    hold("intake-1", 500)
    act = "/request/commit?id=intake-1&budget=budget-123&amount=900000"
    shown = hidden(fiona.get(act).text, "shown")
    without = send(fiona, act, amount="900000", reason="  ", shown=shown, once="a")
    assert (without.status_code, "Say why" in without.text) == (400, True)
    refused = send(fiona, act, amount="900000", reason="too much", shown=shown, once="a")
    assert (refused.status_code, "Insufficient budget" in refused.text) == (409, True)
    assert Reservation.get(Reservation.requestId == "intake-1").heldMinor == 50_000


def test_fpa_approves_over_budget_and_the_audit_log_says_who_and_why(fiona: FlaskClient) -> None:
    short_check("intake-big")
    assert "intake-big" in fiona.get("/requests?view=uncovered").text
    act = "/request/approve?id=intake-big"
    form = fiona.get(act).text
    response = send(fiona, act, reason="The board wants it", shown=hidden(form, "shown"), once=hidden(form, "once"))
    assert response.location == "/request?id=intake-big"
    row = AuditLog.get(AuditLog.action == "OVER_BUDGET")
    assert (row.approvedBy, row.reason, row.requestId) == ("Fp (fp@example.com)", "The board wants it", "intake-big")
    assert "The board wants it" in fiona.get("/request?id=intake-big").text
    assert "intake-big" not in fiona.get("/requests?view=uncovered").text
    assert "Overdrawn" in fiona.get("/").text
    assert reports.verify().findings == []


def test_nobody_approves_their_own_request_over_budget(world: Flask) -> None:
    client = member(world, "self", Role.FPA_USER)
    body = {"request_id": "mine", "user_id": "self", "user_name": "S", "user_email": "s@example.com", "customer_id": demo.CUSTOMER}
    ledger.check(ROOT, CheckRequest.model_validate(body | {"department": "Engineering", "fiscal_period": "Q1 2025", "amount": Decimal(500_000)}))
    assert "Approve over budget" not in client.get("/request?id=mine").text
    form = client.get("/request/approve?id=mine").text
    response = send(client, "/request/approve?id=mine", reason="me", shown=hidden(form, "shown"), once="a")
    assert response.status_code == 403
    assert "cannot approve their own request" in response.text


@pytest.fixture
def held_source(world: Flask) -> Path:
    """A CSV file of four budgets of which two are gone: their deletion is held."""
    folder = world.config["SETTINGS"].csv_folder
    folder.mkdir(parents=True)
    file: Path = folder / "plan.csv"
    write_plan(file, "Sales", "Legal", "Design", "Data")
    sync.add_source(ROOT, demo.CUSTOMER, csv_path="plan.csv", csv_folder=folder)
    pass_over(world)
    write_plan(file, "Sales")
    pass_over(world)
    return file


def write_plan(file: Path, *departments: str) -> None:
    """A sheet with a budget for each of them."""
    file.write_text("".join(["Department,Fiscal Period,Budgeted Amount\n", *(f"{name},Q1 2025,1000\n" for name in departments)]), encoding="utf-8")


def pass_over(world: Flask) -> None:
    """What cron does every hour."""
    chosen = world.config["SETTINGS"]
    assert [result.status for result in sync.sync_all(sync.Job(ROOT, sync.Reach.of(chosen), chosen.instance_folder))] != ["failed"]


def live_departments() -> set[str]:
    """The departments with a live budget."""
    return {budget.department for budget in Budget.select().where(Budget.deletedAt.is_null())}


def test_approved_deletions_are_those_that_were_listed_and_no_others(fiona: FlaskClient, held_source: Path) -> None:
    act = f"/sync/held?source={BudgetDataSourceConfig.get().id}"
    page = fiona.get(act).text
    assert all(name in page for name in ("Legal", "Design", "Data", "Delete these 3 budgets"))
    # Meanwhile one came back to the sheet.
    write_plan(held_source, "Sales", "Design")
    assert send(fiona, act, listed=hidden(page, "listed")).location == "/sync"
    assert live_departments() == {"Engineering", "Sales", "Design"}


def test_an_approval_of_a_list_that_is_not_the_one_shown_deletes_nothing(fiona: FlaskClient, held_source: Path, world: Flask) -> None:
    act = f"/sync/held?source={BudgetDataSourceConfig.get().id}"
    page = fiona.get(act).text
    write_plan(held_source, "Legal")
    pass_over(world)
    refused = send(fiona, act, listed=hidden(page, "listed"))
    assert (refused.status_code, "has changed since" in refused.text, "Sales" in refused.text) == (409, True, True)
    assert live_departments() == {"Engineering", "Sales", "Legal", "Design", "Data"}
    for nothing in ("", "made up"):
        assert send(fiona, act, listed=nothing).status_code == 409


def test_fpa_users_see_what_is_held_and_let_nothing_go(world: Flask, held_source: Path) -> None:
    client = member(world, "felix", Role.FPA_USER)
    assert "An FP&amp;A admin can let them through" in client.get("/sync").text
    for path in (f"/sync/held?source={BudgetDataSourceConfig.get().id}", "/sync/preview"):
        assert client.get(path).status_code == 403
    assert send(client, f"/sync/held?source={BudgetDataSourceConfig.get().id}", listed="x").status_code == 403
    assert send(client, "/sync/run").status_code == 403
    assert live_departments() == {"Engineering", "Sales", "Legal", "Design", "Data"}


def test_no_page_shows_a_path_of_the_machine(fiona: FlaskClient, held_source: Path) -> None:
    held_source.unlink()
    failed = send(fiona, "/sync/run")
    assert failed.location == "/sync"
    last = SyncHistory.select().order_by(SyncHistory.id.desc()).first()
    for path in ("/", "/sync", "/sync/preview", f"/sync/pass?id={last.syncId}", "/audit"):
        page = fiona.get(path).text
        assert "plan.csv" not in page, path
        assert str(held_source.parent) not in page, path
    assert "failed" in fiona.get("/").text


OTHER = "org-9"


@pytest.fixture
def neighbours(world: Flask) -> Flask:
    """Another customer, with a budget, a request and people."""
    people.add_customer(ROOT, OTHER, "Rival Ltd.")
    budgets.set_budget(ROOT, OTHER, "Skunkworks", "Q1 2025", Decimal(1000), budget_id="rival-1")
    hold("rival-request", 100, budget_id="rival-1", user_id="rita")
    person("rita", Role.ADMIN, OTHER)
    people.add_key(ROOT, "rival-key", customer_id=OTHER)
    return world


def test_nothing_of_another_customer_is_on_any_page(neighbours: Flask) -> None:
    client = member(neighbours, "boss", Role.ADMIN)
    for path in (*PAGES, "/requests?view=all", "/audit?q=rival", "/budgets?q=rival", "/budgets.csv", "/audit.csv", "/team?q=rita"):
        page = client.get(path).text.replace("q=rival", "").replace('value="rival"', "").replace('value="rita"', "")
        assert not re.search("Rival Ltd|Skunkworks|rival-|[Rr]ita@", page), path
    for path in ("/budget?id=rival-1", "/request?id=rival-request", "/team/person?id=rita", "/request/commit?id=rival-request&budget=rival-1"):
        assert client.get(path).status_code == 404, path
    assert send(client, "/team/disable", id="rita").status_code == 404
    assert send(client, "/customer", customer=OTHER).status_code == 400


def test_a_super_admin_of_all_customers_chooses_whose_pages_to_see(neighbours: Flask) -> None:
    client = member(neighbours, "root", Role.SUPER_ADMIN, None)
    assert "Skunkworks" not in client.get("/budgets").text
    assert send(client, "/customer", customer=OTHER).status_code == 302
    page = client.get("/budgets").text
    assert "Skunkworks" in page
    assert "Engineering" not in page


def test_budgets_are_found_sorted_and_paged_in_the_database(fiona: FlaskClient) -> None:
    for number in range(120):
        budgets.set_budget(ROOT, demo.CUSTOMER, f"Team {number:03}", "Q2 2025", Decimal(1000 + number))
    first, last = fiona.get("/budgets?period=2025-Q2").text, fiona.get("/budgets?period=2025-Q2&page=3").text
    assert ("Team 000" in first, "Team 050" in first, "Page 1 of 3" in first) == (True, False, True)
    assert ("Team 119" in last, "Team 099" in last) == (True, False)
    assert fiona.get("/budgets?period=2025-Q2&sort=-budgeted").text.index("Team 119") < fiona.get("/budgets?period=2025-Q2&sort=-budgeted").text.index(
        "Team 118"
    )
    found = fiona.get("/budgets?q=team+077").text
    assert ("Team 077" in found, "Team 078" in found) == (True, False)
    assert "No budget found" in fiona.get("/budgets?q=100%25_").text


def test_a_csv_file_has_exact_numbers_and_no_formulas(fiona: FlaskClient) -> None:
    budgets.set_budget(ROOT, demo.CUSTOMER, '=HYPERLINK("http://evil.example","x")', "Q2 2025", Decimal("1234.50"))
    response = fiona.get("/budgets.csv?period=2025-Q2")
    assert response.mimetype == "text/csv"
    assert "attachment" in response.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(response.text.removeprefix("\ufeff"))))
    assert [(row["Department"], row["Budgeted"], row["Available"]) for row in rows] == [('\'=HYPERLINK("http://evil.example","x")', "1234.5", "1234.5")]


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\t=1", "\r=1", " =1", "\uff1d1"])
def test_a_cell_that_a_spreadsheet_would_run_is_quoted(text: str) -> None:
    assert formats.safe_cell(text) == f"'{text}"
    assert formats.safe_cell(f"a{text}") == f"a{text}"
    assert formats.safe_cell(Decimal(-1)) == Decimal(-1)


def test_the_audit_log_is_searched_and_exported(fiona: FlaskClient) -> None:
    hold("intake-one", 500)
    hold("intake-two", 700)
    page = fiona.get("/audit?q=intake-one&action=RESERVE").text
    assert ("intake-one" in page, "intake-two" in page) == (True, False)
    rows = list(csv.DictReader(io.StringIO(fiona.get("/audit.csv?q=intake-two").text.removeprefix("\ufeff"))))
    assert [(row["Request"], row["Reserved change"], row["Currency"]) for row in rows] == [("intake-two", "700", "USD")]
    assert "Nothing found" in fiona.get("/audit?to=2001-01-01").text
    assert fiona.get("/audit?from=yesterday").status_code == 400


def test_an_export_longer_than_a_chunk_has_every_row_once(fiona: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_listing, "EXPORT_CHUNK", 3)
    for number in range(10):
        hold(f"many-{number}", 10)
    rows = list(csv.DictReader(io.StringIO(fiona.get("/audit.csv?q=many-").text.removeprefix("\ufeff"))))
    assert [row["Request"] for row in rows] == [f"many-{number}" for number in range(9, -1, -1)]


def test_lists_of_requests_go_on_where_the_page_before_ended(fiona: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_an_admin_adds_a_person_who_can_sign_in_with_the_password_shown_once(world: Flask) -> None:
    admin = member(world, "boss", Role.ADMIN)
    assert 'name="role"' in admin.get("/team/add").text
    made = send(admin, "/team/add", id="nina", name="Nina", email="nina@example.com", role="fpa_user")
    password = re.search(r'id="value">([^<]+)<', made.text)
    assert password
    nina = sign_in(world, "nina@example.com", password[1])
    assert nina.get("/audit").status_code == 200
    assert password[1] not in admin.get("/team/person?id=nina").text
    reset = send(admin, "/team/password", id="nina")
    assert nina.get("/audit").status_code == 302
    found = re.search(r'id="value">([^<]+)<', reset.text)
    assert found
    assert sign_in(world, "nina@example.com", found[1]).get("/audit").status_code == 200
    send(admin, "/team/disable", id="nina")
    assert "Disabled" in admin.get("/team").text
    send(admin, "/team/enable", id="nina")
    assert "Disabled" not in admin.get("/team").text


def test_an_admin_cannot_disable_themselves(world: Flask) -> None:
    admin = member(world, "boss", Role.ADMIN)
    assert "Disable Boss" not in admin.get("/team/person?id=boss").text
    refused = send(admin, "/team/disable", id="boss")
    assert (refused.status_code, "cannot disable yourself" in refused.text) == (403, True)
    assert admin.get("/team").status_code == 200


def test_nobody_is_added_by_a_link_and_no_admin_makes_a_super_admin(world: Flask) -> None:
    admin = member(world, "boss", Role.ADMIN)
    assert admin.get("/team/add?id=nina&name=Nina&email=nina@example.com&role=admin").status_code == 200
    assert "nina@" not in admin.get("/team").text
    response = send(admin, "/team/add", id="nina", name="Nina", email="nina@example.com", role="super_admin")
    assert response.status_code == 400
    assert "super_admin can be given by a super_admin only" in response.text


def test_a_key_is_shown_once_works_and_is_revoked(world: Flask) -> None:
    admin = member(world, "boss", Role.ADMIN)
    made = send(admin, "/keys/add", name="billing")
    key = re.search(r'id="value">([^<]+)<', made.text)
    assert key
    headers = {"Authorization": f"Bearer {key[1]}"}
    assert world.test_client().get("/api/budgets", headers=headers).status_code == 200
    listed = admin.get("/keys").text
    assert "billing" in listed
    assert key[1] not in listed
    key_id = key[1].split("_")[1]
    assert "cannot be taken back" in admin.get(f"/keys/revoke?id={key_id}").text
    assert send(admin, "/keys/revoke", id=key_id).status_code == 302
    assert world.test_client().get("/api/budgets", headers=headers).status_code == 401


def test_an_api_key_opens_no_page(world: Flask) -> None:
    headers = {"Authorization": f"Bearer {people.add_key(ROOT, 'robot', customer_id=demo.CUSTOMER)}"}
    response = world.test_client().get("/budgets", headers=headers)
    assert response.status_code == 403
    assert "for people" in response.text


def test_a_password_is_changed_by_whoever_knows_the_present_one(world: Flask) -> None:
    person("jo", Role.FPA_USER)
    client, elsewhere = sign_in(world, "jo@example.com"), sign_in(world, "jo@example.com")
    wrong = send(client, "/account", present="not it at all", new="a much longer one", again="a much longer one")
    assert (wrong.status_code, "present password is another" in wrong.text) == (400, True)
    differ = send(client, "/account", present=PASSWORD, new="a much longer one", again="a much longer on")
    assert "not typed the same twice" in differ.text
    assert "12 to 200 characters" in send(client, "/account", present=PASSWORD, new="short", again="short").text
    assert send(client, "/account", present=PASSWORD, new="a much longer one", again="a much longer one").location == "/account"
    assert client.get("/account").status_code == 200
    assert elsewhere.get("/account").status_code == 302
    assert sign_in(world, "jo@example.com", "a much longer one").get("/account").status_code == 200


def test_what_people_type_is_shown_as_text(fiona: FlaskClient) -> None:
    budgets.set_budget(ROOT, demo.CUSTOMER, "<script>alert(1)</script>", "Q2 2025", Decimal(10), budget_id="evil")
    hold("<img src=x>", 5, budget_id="evil")
    for path in ("/", "/budgets", "/budget?id=evil", "/requests", "/request?id=%3Cimg+src%3Dx%3E", "/audit", "/budgets?q=%22%3E%3Cscript%3E"):
        page = fiona.get(path).text
        assert "<script>" not in page, path
        assert "<img src=x" not in page, path


def test_times_are_in_the_customers_zone(world: Flask) -> None:
    people.add_customer(ROOT, "tokyo", "Tokyo KK", currency="JPY", time_zone="Asia/Tokyo")
    client = member(world, "ken", Role.FPA_ADMIN, "tokyo")
    with time_machine.travel(datetime(2025, 2, 5, 20, 30, tzinfo=UTC), tick=False):
        budgets.set_budget(ROOT, "tokyo", "Sales", "Q1 2025", Decimal(1_000_000), budget_id="tk")
    page = client.get("/budget?id=tk").text
    assert '<time datetime="2025-02-05T20:30:00Z"' in page
    assert "<span>6 Feb 2025,</span> <span>05:30</span>" in page
    assert "¥1,000,000" in page
    assert "¥1,000,000.00" not in page


def test_decisions_are_counted_by_the_customers_days(world: Flask) -> None:
    people.add_customer(ROOT, "tokyo", "Tokyo KK", currency="JPY", time_zone="Asia/Tokyo", auto_approve_limit_minor=100)
    budgets.set_budget(ROOT, "tokyo", "Sales", "Q1 2025", Decimal(1000))
    body = {"user_id": "k", "user_name": "K", "user_email": "k@example.com", "customer_id": "tokyo", "department": "Sales", "fiscal_period": "Q1 2025"}
    for moment, amount in (("2025-02-05T14:59:59", 50), ("2025-02-05T15:00:00", 50), ("2025-02-05T15:00:01", 500), ("2025-02-06T01:00:00", 5000)):
        with time_machine.travel(datetime.fromisoformat(moment).replace(tzinfo=UTC), tick=False):
            ledger.check(ROOT, CheckRequest.model_validate(body | {"request_id": moment, "amount": Decimal(amount)}))
    with time_machine.travel(datetime(2025, 2, 6, 3, tzinfo=UTC), tick=False):
        days = overview.overview(ROOT, Customer.get_by_id("tokyo")).days
    assert [day for day in days or [] if day.total] == [overview.Day(date(2025, 2, 5), 1, 0, 0), overview.Day(date(2025, 2, 6), 1, 1, 1)]


@pytest.mark.parametrize(
    ("key", "month", "first", "after"),
    [
        ("2025-Q1", 1, date(2025, 1, 1), date(2025, 4, 1)),
        ("2025-Q4", 1, date(2025, 10, 1), date(2026, 1, 1)),
        ("2025-Q1", 7, date(2024, 7, 1), date(2024, 10, 1)),
        ("2025", 4, date(2024, 4, 1), date(2025, 4, 1)),
        ("2025-H2", 1, date(2025, 7, 1), date(2026, 1, 1)),
        ("2025-12", 7, date(2025, 12, 1), date(2026, 1, 1)),
    ],
)
def test_a_period_has_its_dates(key: str, month: int, first: date, after: date) -> None:
    assert period_dates(key, month) == (first, after)


@pytest.mark.parametrize("key", ["launch party", "2025-X1", "20", "", "abcd-Q1"])
def test_a_period_of_no_known_form_has_no_dates(key: str) -> None:
    assert period_dates(key, 1) is None


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (200_000, "USD", "$2,000.00"),
        (-1050, "USD", "\u2212$10.50"),
        (-50, "USD", "\u2212$0.50"),
        (500, "JPY", "¥500"),
        (1234, "KWD", "KWD\xa01.234"),
        (0, "EUR", "€0.00"),
    ],
)
def test_money_lines_up(minor: int, currency: str, text: str) -> None:
    assert formats.money(minor, currency).replace("KWD1", "KWD\xa01") == text


@pytest.mark.parametrize(("minor", "text"), [(48_000_000, "$480K"), (150_000_000, "$1.5M"), (99_900, "$999"), (0, "$0"), (-1_200_000, "\u2212$12K")])
def test_an_axis_is_short(minor: int, text: str) -> None:
    assert formats.money_axis(minor, "USD") == text


def test_a_moment_is_told_in_its_zone() -> None:
    told = formats.when(datetime(2025, 7, 1, 22, 5, tzinfo=UTC), ZoneInfo("Europe/Berlin"))
    assert re.sub("<[^>]+>", "", told) == "2 Jul 2025, 00:05"


@pytest.mark.parametrize(("asked", "shown"), [("", "Q1 2026"), ("2025-Q4", "Q4 2025"), (overview.ALL_PERIODS, None), ("nothing", "Q1 2026")])
def test_the_overview_opens_on_the_period_that_today_is_in(world: Flask, asked: str, shown: str | None) -> None:
    for period, names in (("Q4 2025", ("Sales", "Legal")), ("Q1 2026", ("Sales", "Legal")), ("FY 2026", ("Sales",))):
        for name in names:
            budgets.set_budget(ROOT, demo.CUSTOMER, name, period, Decimal(100))
    with time_machine.travel(datetime(2026, 3, 31, 12, tzinfo=UTC), tick=False):
        found = overview.overview(ROOT, Customer.get_by_id(demo.CUSTOMER), asked)
    assert found.period == (shown and next(each for each in found.periods if each.name == shown))
    assert sum(total.budgets for total in found.totals) == (6 if shown is None else 2)


def test_an_overview_without_a_current_period_is_of_all(fiona: FlaskClient) -> None:
    page = fiona.get("/").text
    assert '<p class="muted">All periods</p>' in page
    assert '<p class="muted">Q1 2025</p>' in fiona.get("/?period=2025-Q1").text


def test_every_action_of_the_audit_log_has_its_words() -> None:
    text = (PROJECT / "schema.sql").read_text(encoding="utf-8")
    listed = re.search(r'CHECK \("action" IN \((.*?)\)\)', text, flags=re.DOTALL)
    assert listed
    assert set(re.findall("[A-Z_]+", listed[1])) == set(formats.ACTIONS)


def test_an_empty_company_has_pages_all_the_same(world: Flask) -> None:
    people.add_customer(ROOT, "fresh", "Fresh Inc.")
    client = member(world, "first", Role.ADMIN, "fresh")
    told = {path: client.get(path) for path in ("/", "/budgets", "/requests", "/sync", "/sync/preview", "/audit", "/team", "/keys")}
    assert {response.status_code for response in told.values()} == {200}
    assert "No budgets yet" in told["/"].text
    assert "There are no budgets yet" in told["/budgets"].text
    assert "Nothing is set aside" in told["/requests"].text
    assert "No source yet" in told["/sync"].text
    assert "No key yet" in told["/keys"].text


def test_what_needs_attention_is_told_first(world: Flask) -> None:
    client = member(world, "fp", Role.FPA_USER)
    with time_machine.travel(datetime(2026, 1, 1, tzinfo=UTC), tick=False):
        hold("intake-old", 500)
    hold("intake-new", 94_500)
    budgets.set_budget(ROOT, demo.CUSTOMER, "Engineering", "Q1 2025", Decimal(90_000))
    page = client.get("/").text
    attention = page[page.index('id="attention"') : page.index('id="decisions"')]
    assert "by $10,000 of $90,000" in attention
    assert "intake-old" in attention
    assert "intake-new" not in attention
