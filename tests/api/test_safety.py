"""Rules for every URL of the app, also for future ones.

Security headers, no writes from other sites, no writes by GET, and secrets compared in constant
time.
"""

from __future__ import annotations

import ast
import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.machine import PROJECT
from support.world import demo_client

from app import create_app
from budget_sync import database, settings

pytestmark = pytest.mark.both_engines

#: Values for the variable parts of URLs.
PARTS = {
    "budget_id": "budget-123",
    "request_id": "demo-request",
    "filename": "console.css",
    "name": "integrate",
}

#: Tables whose rows change with reads: sessions and login attempts.
IGNORED_TABLES = {"Session", "LoginAttempt"}


def addresses(app: Flask, method: str) -> list[str]:
    """Every URL that accepts this method."""
    with app.test_request_context():
        adapter = app.url_map.bind("localhost")
        rules = [rule for rule in app.url_map.iter_rules() if method in (rule.methods or ())]
        return sorted(
            adapter.build(rule.endpoint, {name: PARTS[name] for name in rule.arguments})
            for rule in rules
        )


def dump() -> dict[str, list[Any]]:
    """Every row that a request could change."""
    tables = [table for table in database.db.get_tables() if table not in IGNORED_TABLES]
    return {
        table: database.db.execute_sql(f'SELECT * FROM "{table}"').fetchall() for table in tables
    }


@pytest.fixture
def alex(world: Flask) -> FlaskClient:
    """The admin, with the most permissions."""
    return demo_client(world, "alex")


def test_every_reply_has_security_headers(world: Flask, alex: FlaskClient) -> None:
    for path in (*addresses(world, "GET"), "/nothing-here", "/api/nothing-here"):
        for client in (alex, world.test_client()):
            with client.get(path) as response:
                headers = response.headers
            assert headers["X-Content-Type-Options"] == "nosniff", path
            assert headers["X-Frame-Options"] == "DENY", path
            assert "frame-ancestors 'none'" in headers["Content-Security-Policy"], path
            assert "unsafe" not in headers["Content-Security-Policy"], path
            assert (
                len(headers.getlist("Content-Security-Policy"))
                == len(headers.getlist("X-Frame-Options"))
                == 1
            ), path
            assert "Strict-Transport-Security" not in headers, path


def test_replies_over_https_have_hsts(world: Flask, environment: dict[str, str]) -> None:
    https_client = create_app(settings.load(environment | {"TRUSTED_PROXIES": "1"})).test_client()
    for path in ("/healthz", "/sign-in", "/nothing-here"):
        assert (
            https_client.get(path, headers={"X-Forwarded-Proto": "https"}).headers[
                "Strict-Transport-Security"
            ]
            == "max-age=31536000"
        ), path
        assert "Strict-Transport-Security" not in https_client.get(path).headers, path
    # Without a trusted proxy, the header of the client is ignored.
    assert (
        "Strict-Transport-Security"
        not in world.test_client().get("/healthz", headers={"X-Forwarded-Proto": "https"}).headers
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_pages_of_other_sites_cannot_change_anything(
    world: Flask, alex: FlaskClient, headers: dict[str, str]
) -> None:
    before = dump()
    for path in addresses(world, "POST"):
        for sent in (
            {"json": {"budgetId": "budget-123"}},
            {"data": {"confirmed": "yes"}},
            {"data": "{}", "content_type": "text/plain"},
        ):
            response = alex.post(path, headers=headers, **sent)
            if path.startswith("/api/"):
                # This check comes before all others, so no body can pass.
                assert (response.status_code, response.json and response.json["code"]) == (
                    403,
                    "CROSS_ORIGIN",
                ), path
            else:
                # The form has no token. With one, it would be rejected for its origin.
                assert response.status_code in (400, 403), (path, response.text)
    assert dump() == before
    assert alex.get("/api/auth/me").status_code == 200


def test_get_and_head_change_nothing(world: Flask, alex: FlaskClient) -> None:
    before = dump()
    for path in addresses(world, "GET"):
        for method in ("GET", "HEAD"):
            with alex.open(path, method=method) as response:
                assert response.status_code < 500, path
    assert dump() == before


def test_api_key_in_a_url_is_ignored(world: Flask) -> None:
    key = (
        (world.config["SETTINGS"].instance_folder / "demo" / "orchestrator.header")
        .read_text(encoding="utf-8")
        .split()[-1]
    )
    client = world.test_client()
    for name in ("key", "api_key", "apiKey", "token", "access_token", "Authorization"):
        for value in (key, f"Bearer {key}"):
            assert client.get("/api/budgets", query_string={name: value}).status_code == 401


# The hash of a body only identifies the body; it is not a secret.
_SECRET = re.compile(r"(secret|token|digest|password|(?<!body_)(?<!body)hash)s?$", re.IGNORECASE)


def _names(node: ast.expr) -> list[str]:
    """The last name of a compared value. Empty for a column, which the database compares."""
    if isinstance(node, ast.Attribute):
        return (
            [] if isinstance(node.value, ast.Name) and node.value.id[:1].isupper() else [node.attr]
        )
    if isinstance(node, ast.Call):
        return _names(node.func)
    return [node.id] if isinstance(node, ast.Name) else []


def test_secrets_are_compared_in_constant_time() -> None:
    found = []
    for path in (PROJECT / "budget_sync").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq):
                sides = (node.left, *node.comparators)
                columns = any(
                    isinstance(side, ast.Attribute) and not _names(side) for side in sides
                )
                if not columns and any(
                    _SECRET.search(name) for side in sides for name in _names(side)
                ):
                    found.append(f"{path.name}:{node.lineno}")
    assert found == []
