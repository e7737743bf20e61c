"""The guide's users, credentials and request bodies."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.security import generate_password_hash

from budget_sync import database
from budget_sync.accounts import api_keys, people
from budget_sync.database.models import User
from budget_sync.domain.permissions import Actor, ApiScope, Role, operator
from budget_sync.operations import demo

PASSWORD = "correct horse battery"

#: The operator in the shell.
ROOT = operator("root")


def cheap_hash(password: str = PASSWORD) -> str:
    """A password hash that is cheap to compute, for tests on other subjects."""
    return generate_password_hash(password, method="pbkdf2:sha256:1")


def person(user_id: str, role: Role, customer_id: str | None = demo.CUSTOMER) -> Actor:
    """Store a user with PASSWORD; returns their actor."""
    email = f"{user_id}@example.com"
    people.add_user(
        ROOT,
        user_id,
        user_id.title(),
        email,
        role,
        customer_id=customer_id,
        password=None,
        slots_folder=slots(),
    )
    User.update(passwordHash=cheap_hash()).where(User.id == user_id).execute()
    return Actor(
        principal=f"user:{user_id}",
        user_id=user_id,
        name=user_id.title(),
        email=email,
        role=role,
        customer_id=customer_id,
    )


def slots() -> Path:
    """A folder for the locks of password hashing."""
    return Path(database.db.file_path).parent if database.is_file() else Path(tempfile.gettempdir())


def key_headers(
    customer_id: str | None = demo.CUSTOMER,
    name: str = "orchestrator",
    *,
    may_overspend: bool = False,
    scopes: Collection[ApiScope] | None = None,
) -> dict[str, str]:
    """The Authorization header of a new API key."""
    key = api_keys.add_key(
        ROOT, name, customer_id=customer_id, may_overspend=may_overspend, scopes=scopes
    )
    return {"Authorization": f"Bearer {key}"}


def sign_in(app: Flask, email: str, password: str = PASSWORD) -> FlaskClient:
    """Log in; returns a client with the session."""
    client = app.test_client()
    response = client.post("/api/auth/login", json={"email": email, "password": password})
    assert response.status_code == 200, response.json
    return client


def demo_client(app: Flask, file: str) -> FlaskClient:
    """A client logged in as one of the demo's users: jane, fiona or alex."""
    login = json.loads(
        (demo.demo_folder(Path(app.instance_path)) / f"{file}.json").read_text(encoding="utf-8")
    )
    return sign_in(app, login["email"], login["password"])


def check_body(**changes: Any) -> dict[str, Any]:
    """The guide's check with changes; None removes a field."""
    body = {
        "requestId": "intake-789",
        "userId": "user-123",
        "userName": "Jane Doe",
        "userEmail": "jane@acme.com",
        "customerId": "org-456",
        "department": "Engineering",
        "fiscalPeriod": "Q1 2025",
        "amount": 5000,
        "vendor": "Slack",
        "purpose": "Team collaboration",
    } | changes
    return {name: value for name, value in body.items() if value is not None}


def reserve_body(**changes: Any) -> dict[str, Any]:
    """The guide's reserve with changes; None removes a field."""
    body = {
        "budgetId": "budget-123",
        "amount": 5000,
        "requestId": "intake-789",
        "reason": "Slack - Team collaboration",
    } | changes
    return {name: value for name, value in body.items() if value is not None}


def release_body(**changes: Any) -> dict[str, Any]:
    """The guide's release by reject with changes; None removes a field."""
    body = {
        "budgetId": "budget-123",
        "amount": 5000,
        "requestId": "intake-789",
        "action": "reject",
        "reason": "Duplicate subscription found",
    } | changes
    return {name: value for name, value in body.items() if value is not None}


def commit_body(**changes: Any) -> dict[str, Any]:
    """A commit of the guide's reservation with changes; None removes a field."""
    body = {
        "budgetId": "budget-123",
        "amount": 5000,
        "requestId": "intake-789",
        "reason": "Invoice paid",
        "externalRef": "PO-1002",
    } | changes
    return {name: value for name, value in body.items() if value is not None}


def amend_body(**changes: Any) -> dict[str, Any]:
    """An amendment of the guide's reservation with changes; None removes a field."""
    body = {
        "budgetId": "budget-123",
        "amount": 6000,
        "requestId": "intake-789",
        "reason": "New quote",
    } | changes
    return {name: value for name, value in body.items() if value is not None}


def reverse_body(**changes: Any) -> dict[str, Any]:
    """A reversal of a commit of the guide's request with changes; None removes a field."""
    body = {
        "budgetId": "budget-123",
        "amount": 1000,
        "requestId": "intake-789",
        "to": "available",
        "reason": "Credit note",
        "externalRef": "CN-7",
    } | changes
    return {name: value for name, value in body.items() if value is not None}


def spend_body(**changes: Any) -> dict[str, Any]:
    """A card payment on the guide's budget with changes; None removes a field."""
    body = {
        "spendId": "card-2025-0031",
        "department": "Engineering",
        "fiscalPeriod": "Q1 2025",
        "amount": 640,
        "date": "2025-02-07",
        "vendor": "Lufthansa",
        "reason": "Flight to a customer",
    } | changes
    return {name: value for name, value in body.items() if value is not None}
