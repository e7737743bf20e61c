"""Fixtures for console tests: an app with the guide's customer and budget; signed-in clients."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlencode

import pytest
from flask import Flask
from flask.testing import FlaskClient
from jinja2.bccache import Bucket, BytecodeCache
from werkzeug.test import TestResponse

from budget_sync import ledger, manual_budgets
from budget_sync.accounts import authentication, customers, people
from budget_sync.database.models import Session
from budget_sync.domain import clock
from budget_sync.domain.permissions import Actor, Role
from budget_sync.domain.request_models import CheckRequest, CommitRequest, ReserveRequest
from budget_sync.operations import demo
from support.world import ROOT

PAGES = (
    "/",
    "/budgets",
    "/budget?id=budget-123",
    "/budget/add",
    "/budget/change?id=budget-123",
    "/budget/remove?id=budget-123",
    "/budget/restore?id=budget-123",
    "/requests",
    "/requests?view=waiting",
    "/requests?view=uncovered",
    "/requests?view=denied",
    "/requests?view=spend",
    "/compare",
    "/changes",
    "/spend-report",
    "/unmatched",
    "/checks",
    "/search?q=intake",
    "/sync",
    "/audit",
    "/team",
    "/team/add",
    "/team/customer",
    "/keys",
    "/webhooks",
    "/alerts",
    "/account",
)

#: The request headers with which a browser opens a page.
BROWSER = {
    "Accept": "text/html,*/*",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "none",
}


class _Compiled(BytecodeCache):
    """Keeps compiled templates for the apps of later tests."""

    def __init__(self) -> None:
        self.code: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Load a compiled template if there is one."""
        if bucket.key in self.code:
            bucket.bytecode_from_string(self.code[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Store a compiled template."""
        self.code[bucket.key] = bucket.bytecode_to_string()


_COMPILED = _Compiled()


@pytest.fixture
def site(app: Flask) -> Flask:
    """The app with the guide's customer and budget. No demo users: hashing passwords is slow."""
    app.jinja_env.bytecode_cache = _COMPILED
    customers.add_customer(ROOT, demo.CUSTOMER, "Acme Inc.", auto_approve_limit_minor=1_000_000)
    manual_budgets.set_budget(
        ROOT, demo.CUSTOMER, "Engineering", "Q1 2025", Decimal(100_000), budget_id=demo.BUDGET
    )
    hold("intake-101", 5000)
    ledger.commit(
        ROOT, CommitRequest(budget_id=demo.BUDGET, request_id="intake-101", amount=Decimal(5000))
    )
    return app


@pytest.fixture
def fiona(site: Flask) -> FlaskClient:
    """A client signed in as an FP&A admin."""
    return member(site, "fp", Role.FPA_ADMIN)


def member(
    site: Flask, user_id: str, role: Role, customer_id: str | None = demo.CUSTOMER
) -> FlaskClient:
    """A client signed in as a new user, with a session but no password: hashing is slow."""
    people.add_user(
        ROOT,
        user_id,
        user_id.title(),
        f"{user_id}@example.com",
        role,
        customer_id=customer_id,
        password=None,
        slots_folder=Path(site.instance_path),
    )
    now = clock.now()
    Session.insert(
        tokenHash=authentication.digest(user_id),
        userId=user_id,
        createdAt=now,
        expiresAt=now + authentication.SESSION_LIFETIME,
    ).execute()
    client = site.test_client()
    with client.session_transaction() as cookie:
        cookie["_user_id"] = user_id
    return client


def token(client: FlaskClient, path: str = "/account") -> str:
    """The CSRF token from a page's form."""
    found = re.search(r'name="csrf_token" value="([^"]+)"', client.get(path).text)
    assert found, path
    return found[1]


def send(client: FlaskClient, path: str, **form: str | list[str]) -> TestResponse:
    """Send a form with its CSRF token."""
    return client.post(path, data=form | {"csrf_token": token(client)})


def hidden(page: str, name: str) -> str:
    """The value of a hidden form field."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found, name
    return found[1]


def confirm(client: FlaskClient, path: str, **fields: str) -> TestResponse:
    """Confirm an action with these fields, after its page has shown their effect."""
    page = client.get(f"{path}&{urlencode(fields)}").text
    once = {name: hidden(page, name) for name in ("shown", "once")}
    return send(client, path, **fields, **once)


def rows_of(page: str) -> dict[str, tuple[str, str]]:
    """The amounts before and after in an action's table, by their labels."""
    cell = r'<td class="num">(?:<strong>)?(?:<span class="[^"]*">)?([^<]+)'
    found = re.findall(rf'<th scope="row">([^<]+)</th>{cell}.*?</td>{cell}', page)
    return {label: (before, after) for label, before, after in found}


def check_for(
    request_id: str,
    user_id: str,
    amount: int,
    *,
    department: str = "Engineering",
    period: str = "Q1 2025",
) -> None:
    """Check a request as an ordinary user, for themselves."""
    email = f"{user_id}@example.com"
    user = Actor(
        f"user:{user_id}", user_id, user_id.title(), email, Role.BUSINESS_USER, demo.CUSTOMER
    )
    short_check(request_id, amount, by=user, user_id=user_id, department=department, period=period)


def hold(
    request_id: str, amount: int, *, user_id: str = "user-123", budget_id: str = demo.BUDGET
) -> None:
    """Reserve an amount for a user."""
    body = ReserveRequest(
        budget_id=budget_id, request_id=request_id, amount=Decimal(amount), user_id=user_id
    )
    ledger.reserve(ROOT, body)


def short_check(
    request_id: str,
    amount: int = 500_000,
    *,
    by: Actor = ROOT,
    user_id: str = "user-123",
    department: str = "Engineering",
    period: str = "Q1 2025",
) -> None:
    """Check a request that is larger than its budget."""
    body = {
        "request_id": request_id,
        "user_id": user_id,
        "user_name": "Jane Doe",
        "user_email": "jane@acme.com",
        "customer_id": demo.CUSTOMER,
    }
    ledger.check(
        by,
        CheckRequest.model_validate(
            body | {"department": department, "fiscal_period": period, "amount": Decimal(amount)}
        ),
    )
