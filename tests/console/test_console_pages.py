"""The console's pages: access, forms, error pages, people and API keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from support.console_site import BROWSER, PAGES, hidden, hold, member, send, token
from support.machine import sqlite_only
from support.world import PASSWORD, ROOT, person, sign_in

from budget_sync import manual_budgets
from budget_sync.accounts import api_keys, customers
from budget_sync.database.models import AuditLog, Customer, LoginAttempt, User
from budget_sync.domain.permissions import Role
from budget_sync.operations import demo
from budget_sync.queries import paging
from budget_sync.web.console.base import NAVIGATION
from budget_sync.web.console.session import safe_path

pytestmark = pytest.mark.both_engines

AUDIT_REPORTS = ("/changes", "/spend-report")
ADMIN_PAGES = ("/team", "/team/add", "/team/customer", "/keys", "/webhooks")
BUDGET_FORMS = {path for path in PAGES if path.startswith("/budget/")}
FPA_PAGES = ("/sync", "/audit", "/unmatched", "/checks")
FORBIDDEN = {
    Role.BUSINESS_USER: {*FPA_PAGES, "/alerts", *AUDIT_REPORTS, *ADMIN_PAGES, *BUDGET_FORMS},
    Role.MANAGER: {*FPA_PAGES, "/alerts", *AUDIT_REPORTS, *ADMIN_PAGES, *BUDGET_FORMS},
    Role.FPA_USER: {"/alerts", *ADMIN_PAGES, *BUDGET_FORMS},
    Role.FPA_ADMIN: {*ADMIN_PAGES},
    Role.ADMIN: set[str](),
    Role.SUPER_ADMIN: set[str](),
}


def test_every_page_requires_signing_in(client: FlaskClient) -> None:
    for path in PAGES:
        response = client.get(path)
        assert response.status_code == 302, path
        assert response.location.startswith("/sign-in")


def test_each_role_sees_only_its_pages(
    site: Flask,
) -> None:
    with site.test_request_context():
        links = [site.url_for(endpoint) for _, endpoint, _ in NAVIGATION]
    for role, forbidden in FORBIDDEN.items():
        client = member(site, f"user-{role}", role)
        seen = {path: client.get(path) for path in PAGES}
        assert {path for path, response in seen.items() if response.status_code == 403} == forbidden
        assert {response.status_code for response in seen.values()} <= {200, 403}
        assert {response.mimetype for response in seen.values()} == {"text/html"}
        assert all("does not allow this" in seen[path].text for path in forbidden)
        page = seen["/"].text
        nav = page[page.index("<nav") : page.index("</nav>")]
        assert {path for path in links if f'href="{path}"' in nav} == set(links) - forbidden


def test_htmx_request_without_session_redirects_to_sign_in(
    site: Flask,
) -> None:
    response = site.test_client().get("/budgets?q=legal", headers={"HX-Request": "true"})
    assert (response.status_code, response.headers["HX-Redirect"], response.text) == (
        200,
        "/sign-in",
        "",
    )


def test_too_large_form_gets_an_error_page(fiona: FlaskClient) -> None:
    response = fiona.post("/account", data={"new": "a" * 70_000})
    assert (response.status_code, response.mimetype, "Too much data" in response.text) == (
        413,
        "text/html",
        True,
    )
    # The request id that is also in the log.
    assert f"Request id {response.headers['X-Request-Id']}<" in response.text


def test_signing_in_returns_to_the_requested_page(site: Flask) -> None:
    person("jo", Role.FPA_USER)
    client = site.test_client()
    redirect = client.get("/budgets?state=overdrawn")
    form = client.get(redirect.location)
    data = {
        "csrf_token": hidden(form.text, "csrf_token"),
        "next": hidden(form.text, "next"),
        "email": "jo@example.com",
        "password": PASSWORD,
    }
    response = client.post("/sign-in", data=data)
    assert (response.status_code, response.location) == (302, "/budgets?state=overdrawn")
    assert client.get("/api/auth/me").json["user"]["id"] == "jo"  # type: ignore[index]  # a reply


ELSEWHERE = (
    "https://evil.example/", "//evil.example", "///evil.example", "/\\evil.example",
    "\\\\evil.example", "javascript:alert(1)", "/\t/evil.example", "https:evil.example",
    " //evil.example", "\t//evil.example", "/\r\nLocation: https://evil.example/",
    "evil.example", "",
)  # fmt: skip


@pytest.mark.parametrize("path", ELSEWHERE)
def test_path_of_another_site_is_not_safe(app: Flask, path: str) -> None:
    with app.test_request_context():
        assert safe_path(path) == "/"


def test_signing_in_never_redirects_to_another_site(site: Flask) -> None:
    person("jo", Role.FPA_USER)
    for path in ELSEWHERE:
        client = site.test_client()
        form = hidden(client.get("/sign-in", query_string={"next": path}).text, "csrf_token")
        response = client.post(
            "/sign-in",
            data={
                "csrf_token": form,
                "next": path,
                "email": "jo@example.com",
                "password": PASSWORD,
            },
        )
        assert (response.status_code, response.location) == (302, "/"), path
        assert client.get("/sign-in", query_string={"next": path}).location == "/", path


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("Asia/Tokyo", "Asia/Tokyo"),
        ("", "UTC"),
        ("../../etc/passwd", "UTC"),
        ("Nowhere/City", "UTC"),
    ],
)
def test_times_are_in_the_browsers_or_the_customers_zone(
    site: Flask, sent: str, shown: str
) -> None:
    person("jo", Role.FPA_USER)
    client = site.test_client()
    form = hidden(client.get("/sign-in").text, "csrf_token")
    client.post(
        "/sign-in",
        data={"csrf_token": form, "email": "jo@example.com", "password": PASSWORD, "zone": sent},
    )
    assert f"Times are in {shown}." in client.get("/").text


def test_wrong_password_creates_no_session(site: Flask) -> None:
    person("jo", Role.FPA_USER)
    client = site.test_client()
    form = hidden(client.get("/sign-in").text, "csrf_token")
    response = client.post(
        "/sign-in", data={"csrf_token": form, "email": "jo@example.com", "password": "wrong"}
    )
    assert response.status_code == 401
    assert "Email or password is wrong" in response.text
    assert client.get("/").status_code == 302


def test_signing_out_ends_the_session_for_the_api_too(fiona: FlaskClient) -> None:
    assert send(fiona, "/sign-out").location == "/sign-in"
    assert fiona.get("/api/auth/me").status_code == 401


def _posts(app: Flask) -> Iterator[str]:
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("console.") and "POST" in (rule.methods or ()):
            yield rule.rule


@pytest.mark.parametrize(
    "day", ["9999-12-31", "0001-01-01", "1969-12-31", "3000-01-01", "2025-02-30", "today"]
)
@pytest.mark.parametrize("name", ["from", "to"])
def test_invalid_day_is_reported(fiona: FlaskClient, name: str, day: str) -> None:
    for path in ("/audit", "/audit.csv"):
        response = fiona.get(path, query_string={name: day})
        assert (response.status_code, f"{name} must be a day" in response.text) == (400, True), path
    assert fiona.get("/audit", query_string={name: "2999-12-31"}).status_code == 200


def test_head_request_does_not_submit_a_form(site: Flask) -> None:
    alex = member(site, "alex", Role.ADMIN)
    values = {
        "id": "planted",
        "name": "Planted",
        "email": "planted@example.com",
        "role": "admin",
        "present": PASSWORD,
        "new": "a" * 12,
        "again": "a" * 12,
    }
    written = AuditLog.select().count(), User.select().count(), LoginAttempt.select().count()
    for path in _posts(site):
        for sent in ({"query_string": values}, {"data": values}):
            assert alex.head(path, **sent).text == ""
    assert (
        AuditLog.select().count(),
        User.select().count(),
        LoginAttempt.select().count(),
    ) == written


def test_every_form_requires_a_csrf_token(site: Flask) -> None:
    client = member(site, "boss", Role.ADMIN)
    hold("intake-1", 500)
    rows = AuditLog.select().count()
    paths = list(_posts(site))
    assert len(paths) > 10
    for path in paths:
        response = client.post(path, data={"id": "intake-1", "name": "x", "csrf_token": "made up"})
        assert response.status_code == 400, path
        assert "Nothing was changed" in response.text
    assert AuditLog.select().count() == rows
    assert client.get("/account").status_code == 200


def test_cross_origin_form_is_rejected_even_with_a_token(fiona: FlaskClient) -> None:
    data = {"csrf_token": token(fiona), "present": PASSWORD, "new": "a" * 12, "again": "a" * 12}
    response = fiona.post("/account", data=data, headers={"Origin": "https://evil.example"})
    assert response.status_code == 403
    assert "another site" in response.text


def test_api_requires_no_csrf_token(fiona: FlaskClient) -> None:
    body = {"budgetId": demo.BUDGET, "requestId": "r-1", "amount": 10}
    assert fiona.post("/api/budget/reserve", json=body).status_code == 200


def test_every_page_has_security_headers(site: Flask) -> None:
    client = member(site, "boss", Role.ADMIN)
    for path in (
        *PAGES,
        "/nothing",
        "/budget?id=unknown",
        "/request?id=unknown",
        "/sign-in",
        "/budgets.csv",
    ):
        response = client.get(path, headers=BROWSER, buffered=True)
        assert response.headers["Content-Security-Policy"].startswith("default-src 'self';"), path
        assert "unsafe" not in response.headers["Content-Security-Policy"]
        assert response.headers["X-Frame-Options"] == "DENY"
        assert response.headers["Referrer-Policy"] == "same-origin"
        assert response.headers["Cache-Control"] == "no-store"
        # No inline script or style and no external URL, which the policy would block.
        assert not re.search(
            r"\sstyle=|<style|\son\w+=|javascript:|<script(?![^>]*\ssrc=\"/assets/)", response.text
        )
        assert not re.search(r'\s(src|href|action)="(?!/|\?|#|audit\.csv)', response.text)


def test_unknown_path_is_html_for_browsers_else_json(fiona: FlaskClient) -> None:
    page = fiona.get("/nothing", headers=BROWSER)
    assert (page.status_code, page.mimetype, "There is no such page" in page.text) == (
        404,
        "text/html",
        True,
    )
    assert fiona.get("/nothing").mimetype == "application/json"
    assert fiona.get("/api/nothing", headers=BROWSER).mimetype == "application/json"


@sqlite_only
def test_missing_database_gets_an_error_page(fiona: FlaskClient, site: Flask) -> None:
    path = site.config["SETTINGS"].database_path
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


def test_employee_sees_only_their_own_requests(site: Flask) -> None:
    client = member(site, "emma", Role.BUSINESS_USER)
    hold("intake-jane", 500)
    hold("intake-emma", 300, user_id="emma")
    listed = client.get("/requests?view=all").text
    assert "intake-emma" in listed
    assert "intake-jane" not in listed
    assert client.get("/request?id=intake-emma").status_code == 200
    assert client.get("/request?id=intake-jane").status_code == 403
    assert "intake-jane" not in client.get("/budget?id=budget-123").text


OTHER = "org-9"


@pytest.fixture
def two_customers(site: Flask) -> Flask:
    """A second customer with a budget, a request, a person and a key."""
    customers.add_customer(ROOT, OTHER, "Rival Ltd.")
    manual_budgets.set_budget(
        ROOT, OTHER, "Skunkworks", "Q1 2025", Decimal(1000), budget_id="rival-1"
    )
    hold("rival-request", 100, budget_id="rival-1", user_id="rita")
    person("rita", Role.ADMIN, OTHER)
    api_keys.add_key(ROOT, "rival-key", customer_id=OTHER)
    return site


def test_no_page_shows_another_customer(two_customers: Flask) -> None:
    client = member(two_customers, "boss", Role.ADMIN)
    for path in (
        *PAGES,
        "/requests?view=all",
        "/audit?q=rival",
        "/budgets?q=rival",
        "/search?q=rival",
        "/budgets.csv",
        "/audit.csv",
        "/checks.csv",
        "/requests.csv?view=all",
        "/requests.csv?view=denied",
        "/requests.csv?view=spend",
        "/team?q=rita",
    ):
        page = (
            client.get(path, buffered=True)
            .text.replace("q=rival", "")
            .replace('value="rival"', "")
            .replace('value="rita"', "")
        )
        assert not re.search("Rival Ltd|Skunkworks|rival-|[Rr]ita@", page), path
    for path in (
        "/budget?id=rival-1",
        "/request?id=rival-request",
        "/team/person?id=rita",
        "/request/commit?id=rival-request&budget=rival-1",
    ):
        assert client.get(path).status_code == 404, path
    assert send(client, "/team/disable", id="rita").status_code == 404
    assert send(client, "/customer", customer=OTHER).status_code == 400


def test_super_admin_for_all_customers_can_switch_customer(two_customers: Flask) -> None:
    client = member(two_customers, "root", Role.SUPER_ADMIN, None)
    assert "Skunkworks" not in client.get("/budgets").text
    assert send(client, "/customer", customer=OTHER).status_code == 302
    page = client.get("/budgets").text
    assert "Skunkworks" in page
    assert "Engineering" not in page


def test_added_person_can_sign_in_with_the_shown_password(site: Flask) -> None:
    admin = member(site, "boss", Role.ADMIN)
    assert 'name="role"' in admin.get("/team/add").text
    added = send(
        admin, "/team/add", id="nina", name="Nina", email="nina@example.com", role="fpa_user"
    )
    password = re.search(r'id="value">([^<]+)<', added.text)
    assert password
    nina = sign_in(site, "nina@example.com", password[1])
    assert nina.get("/audit").status_code == 200
    assert password[1] not in admin.get("/team/person?id=nina").text
    reset = send(admin, "/team/password", id="nina")
    assert nina.get("/audit").status_code == 302
    found = re.search(r'id="value">([^<]+)<', reset.text)
    assert found
    assert sign_in(site, "nina@example.com", found[1]).get("/audit").status_code == 200
    send(admin, "/team/disable", id="nina")
    assert "Disabled" in admin.get("/team").text
    send(admin, "/team/enable", id="nina")
    assert "Disabled" not in admin.get("/team").text


def test_person_is_changed_and_signed_out_by_a_demotion(site: Flask) -> None:
    admin, nina = member(site, "boss", Role.ADMIN), member(site, "nina", Role.FPA_USER)
    assert 'value="nina@example.com"' in admin.get("/team/person?id=nina").text
    form = {"id": "nina", "name": "Nina Roe", "email": "roe@example.com", "role": "fpa_user"}
    changed = send(admin, "/team/set", **form)
    assert changed.location == "/team/person?id=nina"
    assert "Nina Roe is changed." in admin.get(changed.location).text
    assert nina.get("/audit").status_code == 200
    assert "Nina Roe" in nina.get("/account").text
    send(admin, "/team/set", **form | {"role": "manager"})
    assert nina.get("/requests").status_code == 302
    log = admin.get("/audit").text
    assert "nina: name Nina → Nina Roe" in log
    assert "nina: role fpa_user → manager" in log


@pytest.mark.parametrize(
    ("user_id", "changes", "status", "message"),
    [
        ("nina", {"email": "boss@example.com"}, 400, "email is taken"),
        ("nina", {"email": "nobody"}, 400, "is not an email address"),
        ("nina", {"name": ""}, 400, "name must be 1 to 200 printable characters"),
        ("nina", {"role": "super_admin"}, 400, "can only be given by a super_admin"),
        ("boss", {"role": "manager"}, 403, "You cannot change your own role"),
        ("super", {}, 403, "Only a super_admin can change a super_admin"),
    ],
)
def test_rejected_change_of_a_person_keeps_the_typed_values(
    site: Flask, user_id: str, changes: dict[str, str], status: int, message: str
) -> None:
    admin = member(site, "boss", Role.ADMIN)
    member(site, "nina", Role.FPA_USER)
    member(site, "super", Role.SUPER_ADMIN)
    form = {"id": user_id, "name": "Typed", "email": "typed@example.com", "role": ""} | changes
    rejected = send(admin, "/team/set", **form)
    assert (rejected.status_code, message in rejected.text) == (status, True)
    assert f'value="{form["name"]}"' in rejected.text
    assert User.get_by_id(user_id).name == user_id.title()


def test_last_admin_is_not_demoted_on_the_team_page(site: Flask) -> None:
    root = member(site, "root", Role.SUPER_ADMIN, None)
    person("boss", Role.ADMIN)
    form = {"id": "boss", "name": "Boss", "email": "boss@example.com", "role": "manager"}
    rejected = send(root, "/team/set", **form)
    assert (rejected.status_code, "Boss is the last admin" in rejected.text) == (403, True)
    assert User.get_by_id("boss").role == "admin"


def test_customer_settings_are_changed_on_their_page(site: Flask) -> None:
    admin = member(site, "boss", Role.ADMIN)
    assert 'name="limit" value="10000"' in admin.get("/team/customer").text
    form = {"name": "Acme Corp.", "limit": "1,250.50", "time_zone": "Asia/Tokyo", "month": "4"}
    form |= {"tolerance": "7.5", "tolerance_amount": "500", "hold_days": "30"}
    assert send(admin, "/team/customer", **form).location == "/team/customer"
    page = admin.get("/team/customer").text
    assert "The settings are changed. 0 open reservations will expire in 30 days." in page
    assert 'name="tolerance" value="7.5%"' in page
    assert 'name="hold_days" value="30"' in page
    assert "Times are in Asia/Tokyo." in page
    assert 'name="limit" value="1250.5"' in page
    assert "org-456: auto-approve limit 10000 → 1250.5" in admin.get("/audit").text
    send(admin, "/team/customer", **form | {"limit": ""})
    customer = Customer.get_by_id(demo.CUSTOMER)
    assert (customer.name, customer.autoApproveLimitMinor) == ("Acme Corp.", None)
    assert (customer.fiscalYearStartMonth, customer.fiscalYearNamedBy) == (4, "end")
    send(admin, "/team/customer", **form | {"named_by": "start"})
    assert Customer.get_by_id(demo.CUSTOMER).fiscalYearNamedBy == "start"
    assert '<option value="start" selected>' in admin.get("/team/customer").text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"limit": "much"}, "autoApproveLimit must be an amount such as 5000"),
        ({"limit": "0.005"}, "autoApproveLimit must have at most 2 decimals"),
        ({"limit": "-1"}, "autoApproveLimit must be an amount"),
        ({"time_zone": "Mars"}, "is not a time zone"),
        ({"time_zone": ""}, "is not a time zone"),
        ({"month": "13"}, "must be a month from 1 to 12"),
        ({"named_by": "middle"}, "fiscalYearNamedBy must be one of end, start"),
        ({"month": ""}, "must be a month from 1 to 12"),
        ({"tolerance": "7,5%"}, "invoiceTolerance must be a percentage from 0 to 100"),
        ({"tolerance": ""}, "invoiceTolerance must be a percentage from 0 to 100"),
        ({"tolerance_amount": "much"}, "invoiceToleranceAmount must be an amount such as 5000"),
        ({"hold_days": "0"}, "holdDays must be a whole number of days from 1 to 3650"),
        ({"hold_days": "soon"}, "holdDays must be a whole number of days from 1 to 3650"),
        ({"name": " "}, "name must be 1 to 200 printable characters"),
    ],
)
def test_invalid_setting_of_a_customer_changes_nothing(
    site: Flask, changes: dict[str, str], message: str
) -> None:
    admin = member(site, "boss", Role.ADMIN)
    form = {"name": "New", "limit": "5", "time_zone": "UTC", "month": "1", "tolerance": "10%"}
    form |= changes
    rejected = send(admin, "/team/customer", **form)
    assert (rejected.status_code, message in rejected.text) == (400, True)
    assert Customer.get_by_id(demo.CUSTOMER).name == "Acme Inc."


def test_page_of_keys_shows_the_last_use(site: Flask) -> None:
    admin = member(site, "boss", Role.ADMIN)
    key = api_keys.add_key(ROOT, "billing", customer_id=demo.CUSTOMER)
    assert "never" in admin.get("/keys").text
    headers = {"Authorization": f"Bearer {key}"}
    with time_machine.travel(datetime(2025, 2, 5, 10, 30, tzinfo=UTC), tick=False):
        site.test_client().get("/api/budgets", headers=headers)
    assert "2025-02-05T10:30:00Z" in admin.get("/keys").text


def test_admin_cannot_disable_themselves(site: Flask) -> None:
    admin = member(site, "boss", Role.ADMIN)
    assert "Disable Boss" not in admin.get("/team/person?id=boss").text
    rejected = send(admin, "/team/disable", id="boss")
    assert (rejected.status_code, "cannot disable yourself" in rejected.text) == (403, True)
    assert admin.get("/team").status_code == 200


def test_link_adds_no_person_and_admin_adds_no_super_admin(site: Flask) -> None:
    admin = member(site, "boss", Role.ADMIN)
    assert (
        admin.get("/team/add?id=nina&name=Nina&email=nina@example.com&role=admin").status_code
        == 200
    )
    assert "nina@" not in admin.get("/team").text
    response = send(
        admin, "/team/add", id="nina", name="Nina", email="nina@example.com", role="super_admin"
    )
    assert response.status_code == 400
    assert "super_admin can only be given by a super_admin" in response.text


def test_key_is_shown_once_works_and_is_revoked(site: Flask) -> None:
    admin = member(site, "boss", Role.ADMIN)
    scopes = ["check", "reserve", "commit", "release", "read"]
    created = send(admin, "/keys/add", name="billing", scope=scopes)
    key = re.search(r'id="value">([^<]+)<', created.text)
    assert key
    headers = {"Authorization": f"Bearer {key[1]}"}
    assert site.test_client().get("/api/budgets", headers=headers).status_code == 200
    listed = admin.get("/keys").text
    assert "billing" in listed
    assert key[1] not in listed
    key_id = key[1].split("_")[1]
    assert "cannot be undone" in admin.get(f"/keys/revoke?id={key_id}").text
    assert send(admin, "/keys/revoke", id=key_id).status_code == 302
    assert site.test_client().get("/api/budgets", headers=headers).status_code == 401


def test_keys_are_paged_with_active_keys_first(
    site: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "PAGE_SIZE", 3)
    admin = member(site, "boss", Role.ADMIN)
    for number in range(4):
        key = api_keys.add_key(ROOT, f"key-{number}", customer_id=demo.CUSTOMER)
        if number == 3:
            api_keys.revoke_key(ROOT, key.split("_")[1])
    first, second = admin.get("/keys").text, admin.get("/keys?page=2").text
    assert "Page 1 of 2" in first
    assert ("key-3" in first, "key-3" in second, "Revoked" in second) == (False, True, True)


def test_api_key_opens_no_page(site: Flask) -> None:
    headers = {
        "Authorization": f"Bearer {api_keys.add_key(ROOT, 'robot', customer_id=demo.CUSTOMER)}"
    }
    response = site.test_client().get("/budgets", headers=headers)
    assert response.status_code == 403
    assert "for people" in response.text


def test_password_change_requires_the_current_password(site: Flask) -> None:
    person("jo", Role.FPA_USER)
    client, elsewhere = sign_in(site, "jo@example.com"), sign_in(site, "jo@example.com")
    wrong = send(
        client,
        "/account",
        present="not it at all",
        new="a much longer one",
        again="a much longer one",
    )
    assert (wrong.status_code, "Current password is wrong" in wrong.text) == (400, True)
    differ = send(
        client, "/account", present=PASSWORD, new="a much longer one", again="a much longer on"
    )
    assert "The two passwords do not match" in differ.text
    assert (
        "12 to 200 characters"
        in send(client, "/account", present=PASSWORD, new="short", again="short").text
    )
    assert (
        send(
            client, "/account", present=PASSWORD, new="a much longer one", again="a much longer one"
        ).location
        == "/account"
    )
    assert client.get("/account").status_code == 200
    assert elsewhere.get("/account").status_code == 302
    assert sign_in(site, "jo@example.com", "a much longer one").get("/account").status_code == 200


def test_user_input_is_escaped(fiona: FlaskClient) -> None:
    manual_budgets.set_budget(
        ROOT, demo.CUSTOMER, "<script>alert(1)</script>", "Q2 2025", Decimal(10), budget_id="evil"
    )
    hold("<img src=x>", 5, budget_id="evil")
    for path in (
        "/",
        "/budgets",
        "/budget?id=evil",
        "/requests",
        "/request?id=%3Cimg+src%3Dx%3E",
        "/audit",
        "/budgets?q=%22%3E%3Cscript%3E",
    ):
        page = fiona.get(path).text
        assert "<script>" not in page, path
        assert "<img src=x" not in page, path


def test_pages_work_for_a_customer_without_data(site: Flask) -> None:
    customers.add_customer(ROOT, "fresh", "Fresh Inc.")
    client = member(site, "first", Role.ADMIN, "fresh")
    pages = {
        path: client.get(path)
        for path in (
            "/",
            "/budgets",
            "/requests",
            "/sync",
            "/sync/preview",
            "/audit",
            "/team",
            "/keys",
        )
    }
    assert {response.status_code for response in pages.values()} == {200}
    assert "No budgets yet" in pages["/"].text
    assert "There are no budgets yet" in pages["/budgets"].text
    assert "No open reservations" in pages["/requests"].text
    assert "No sheet yet" in pages["/sync"].text
    assert "No key yet" in pages["/keys"].text
