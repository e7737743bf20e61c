"""What holds for every address of the app, those to come included: headers, other sites' pages, reading that only reads, secrets compared in constant time."""

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

#: What may stand in an address, for those that need it.
PARTS = {"budget_id": "budget-123", "request_id": "demo-request", "filename": "console.css"}

#: Rows of these come and go with looking: who is signed in, and what is remembered of attempts.
UNSEEN = {"Session", "LoginAttempt"}


def addresses(app: Flask, method: str) -> list[str]:
    """Every address that takes that method."""
    with app.test_request_context():
        built = app.url_map.bind("localhost")
        rules = [rule for rule in app.url_map.iter_rules() if method in (rule.methods or ())]
        return sorted(
            built.build(rule.endpoint, {name: PARTS[name] for name in rule.arguments})
            for rule in rules
        )


def dump() -> dict[str, list[Any]]:
    """Every row that an address could change."""
    tables = [table for table in database.db.get_tables() if table not in UNSEEN]
    return {
        table: database.db.execute_sql(f'SELECT * FROM "{table}"').fetchall() for table in tables
    }


@pytest.fixture
def alex(world: Flask) -> FlaskClient:
    """The admin, who may see and do the most."""
    return demo_client(world, "alex")


def test_every_reply_keeps_browsers_safe(world: Flask, alex: FlaskClient) -> None:
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


def test_behind_tls_browsers_are_told_to_stay_there(
    world: Flask, environment: dict[str, str]
) -> None:
    behind = create_app(settings.load(environment | {"TRUSTED_PROXIES": "1"})).test_client()
    for path in ("/healthz", "/sign-in", "/nothing-here"):
        assert (
            behind.get(path, headers={"X-Forwarded-Proto": "https"}).headers[
                "Strict-Transport-Security"
            ]
            == "max-age=31536000"
        ), path
        assert "Strict-Transport-Security" not in behind.get(path).headers, path
    # Whoever says so without a proxy that is trusted is not believed.
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
def test_no_page_of_another_site_changes_anything_with_somebodys_session(
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
                # Before anything else about the request is looked at, so that no body could have got through.
                assert (response.status_code, response.json and response.json["code"]) == (
                    403,
                    "CROSS_ORIGIN",
                ), path
            else:
                # A form has no token, and would be refused for its origin with one.
                assert response.status_code in (400, 403), (path, response.text)
    assert dump() == before
    assert alex.get("/api/auth/me").status_code == 200


def test_reading_changes_nothing(world: Flask, alex: FlaskClient) -> None:
    before = dump()
    for path in addresses(world, "GET"):
        for method in ("GET", "HEAD"):
            with alex.open(path, method=method) as response:
                assert response.status_code < 500, path
    assert dump() == before


def test_a_key_in_an_address_opens_nothing(world: Flask) -> None:
    real = (
        (world.config["SETTINGS"].instance_folder / "demo" / "orchestrator.header")
        .read_text(encoding="utf-8")
        .split()[-1]
    )
    stranger = world.test_client()
    for name in ("key", "api_key", "apiKey", "token", "access_token", "Authorization"):
        for value in (real, f"Bearer {real}"):
            assert stranger.get("/api/budgets", query_string={name: value}).status_code == 401


# The hash of a body says whether it is the same one; it keeps nobody out.
_SECRET = re.compile(r"(secret|token|digest|password|(?<!body_)(?<!body)hash)s?$", re.IGNORECASE)


def _names(node: ast.expr) -> list[str]:
    """The last name of a compared value, unless it is a column of a table, which the database compares."""
    if isinstance(node, ast.Attribute):
        return (
            [] if isinstance(node.value, ast.Name) and node.value.id[:1].isupper() else [node.attr]
        )
    if isinstance(node, ast.Call):
        return _names(node.func)
    return [node.id] if isinstance(node, ast.Name) else []


def test_no_secret_is_compared_letter_by_letter() -> None:
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
