"""`X-Test-Outcome`, and what the metrics leave out for test customers."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from pydantic import TypeAdapter
from support.world import (
    ROOT,
    amend_body,
    check_body,
    commit_body,
    key_headers,
    person,
    release_body,
    reserve_body,
    reverse_body,
    sign_in,
    spend_body,
)
from werkzeug.test import TestResponse

from budget_sync import manual_budgets
from budget_sync.accounts import customers
from budget_sync.database.models import AuditLog, BudgetCheckLog, Reservation
from budget_sync.domain.permissions import Role
from budget_sync.queries import monitoring
from budget_sync.web import test_outcomes
from budget_sync.web.openapi.operations import OPERATIONS
from budget_sync.web.openapi.schemas import ErrorReply

pytestmark = pytest.mark.both_engines

TEST, BUDGET = "acme-test", "test-1"

BODIES = {
    "check": check_body(customerId=TEST),
    "reserve": reserve_body(budgetId=BUDGET),
    "commit": commit_body(budgetId=BUDGET),
    "release": release_body(budgetId=BUDGET),
    "amend": amend_body(budgetId=BUDGET),
    "reverse": reverse_body(budgetId=BUDGET),
    "spend": spend_body(),
}

#: The status and code of each call with each outcome that moves no money.
REPLIES = {
    "insufficient": {
        "check": (200, "INSUFFICIENT_BUDGET"),
        "reserve": (409, "INSUFFICIENT_BUDGET"),
        "commit": (409, "INSUFFICIENT_BUDGET"),
        "release": (200, "AMOUNT_EXCEEDS_RESERVED"),
        "amend": (409, "INSUFFICIENT_BUDGET"),
        "reverse": (409, "AMOUNT_EXCEEDS_COMMITTED"),
        "spend": (400, "INVALID_REQUEST"),
    },
    "unknown": dict.fromkeys(BODIES, (404, "BUDGET_NOT_FOUND")) | {"check": (200, "NO_BUDGET")},
    "unavailable": dict.fromkeys(BODIES, (503, "UNAVAILABLE")),
}


@pytest.fixture
def tested(world: Flask) -> Flask:
    """The guide's world, and a test customer with a budget."""
    customers.add_customer(ROOT, TEST, "Acme (test)", is_test=True)
    manual_budgets.set_budget(
        *(ROOT, TEST, "Engineering", "Q1 2025", Decimal(100_000)), budget_id=BUDGET
    )
    return world


def send(app: Flask, call: str, outcome: str, headers: dict[str, str]) -> TestResponse:
    """Send a call with an outcome."""
    return app.test_client().post(
        f"/api/budget/{call}", json=BODIES[call], headers=headers | {"X-Test-Outcome": outcome}
    )


def fields_of(data: Any) -> Any:
    """The names in a reply, with those of its budget."""
    return {name: fields_of(value) for name, value in data.items()} if isinstance(data, dict) else 0


@pytest.mark.parametrize("outcome", REPLIES)
def test_outcome_has_the_documented_reply_and_moves_nothing(tested: Flask, outcome: str) -> None:
    headers = key_headers(TEST)
    before = AuditLog.select().count(), Reservation.select().count()
    for call, expected in REPLIES[outcome].items():
        reply = send(tested, call, outcome, headers)
        assert (reply.status_code, reply.get_json()["code"]) == expected, call
        (operation,) = (each for each in OPERATIONS if each.endpoint == f"api.{call}")
        model: Any = operation.reply if reply.status_code == 200 else ErrorReply
        TypeAdapter(model).validate_python(json.loads(reply.text, parse_float=Decimal))
        if outcome == "unavailable":
            assert int(reply.headers["Retry-After"]) > 0
    assert (AuditLog.select().count(), Reservation.select().count()) == before
    assert BudgetCheckLog.select().where(BudgetCheckLog.customerId == TEST).count() == 0


@pytest.mark.parametrize("call", ["check", "reserve"])
def test_insufficient_reply_has_the_fields_of_a_real_one(tested: Flask, call: str) -> None:
    headers = key_headers(TEST)
    real = tested.test_client().post(
        f"/api/budget/{call}", json=BODIES[call] | {"amount": 200_000}, headers=headers
    )
    chosen = send(tested, call, "insufficient", headers)
    assert chosen.status_code == real.status_code
    assert fields_of(chosen.get_json()) == fields_of(real.get_json())


def test_slow_call_is_done_after_the_wait(tested: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_outcomes, "SLOW_S", 0.1)
    headers = key_headers(TEST)
    assert send(tested, "check", "slow", headers).get_json()["code"] == "REQUIRES_APPROVAL"
    began_s = time.monotonic()
    assert send(tested, "reserve", "slow", headers).status_code == 200
    assert time.monotonic() - began_s >= 0.1
    assert Reservation.get(Reservation.budgetId == BUDGET).amountMinor == 500_000


@pytest.mark.parametrize("outcome", ["slow", "unavailable"])
def test_header_of_any_other_caller_is_an_error(world: Flask, outcome: str) -> None:
    person("fiona", Role.FPA_USER)
    fiona = sign_in(world, "fiona@example.com")
    for headers, client in (
        (key_headers(), world.test_client()),
        (key_headers(None), world.test_client()),
        ({}, fiona),
    ):
        reply = client.post(
            "/api/budget/reserve",
            json=reserve_body(),
            headers=headers | {"X-Test-Outcome": outcome},
        )
        assert reply.status_code == 400
        assert reply.get_json()["fields"] == {
            "X-Test-Outcome": "works only with an API key of a test customer; remove this header"
        }


@pytest.mark.parametrize("outcome", ["", "Slow", "error", "slow, unavailable", "\u00e4"])
def test_unknown_outcome_is_an_error(tested: Flask, outcome: str) -> None:
    reply = send(tested, "reserve", outcome, key_headers(TEST))
    assert reply.status_code == 400
    assert reply.get_json()["fields"]["X-Test-Outcome"].startswith("must be one of insufficient, ")


def test_me_says_whether_the_customer_is_a_test_customer(tested: Flask) -> None:
    for customer_id, is_test in ((TEST, True), ("org-456", False), (None, False)):
        reply = tested.test_client().get("/api/auth/me", headers=key_headers(customer_id))
        assert reply.get_json()["user"]["isTest"] is is_test


def test_metrics_leave_out_test_customers(tested: Flask) -> None:
    before = counted(tested)
    for outcome in ("insufficient", "unavailable"):
        send(tested, "reserve", outcome, key_headers(TEST))
    assert counted(tested) == before
    send(tested, "reserve", "slow", key_headers())
    assert counted(tested) != before
    for rows in (monitoring.balances(), monitoring.over_threshold(), monitoring.sources()):
        assert TEST not in {row[0] for row in rows}
    assert TEST not in monitoring.overdrawn()
    assert TEST not in monitoring.expiring_keys()


def counted(app: Flask) -> dict[str, float]:
    """The counters of reserve calls and requests."""
    instruments: Any = app.extensions["budget_sync_metrics"]
    return {
        f"{sample.name} {sorted(sample.labels.items())}": sample.value
        for metric in instruments.collect()
        for sample in metric.samples
        if sample.labels.get("call") == "reserve" and sample.name.endswith(("_total", "_count"))
    }


def test_threshold_counts_have_80_90_and_100_percent(tested: Flask) -> None:
    found = {row.threshold for row in monitoring.over_threshold()}
    assert found == {80, 90, 100}


def test_console_shows_a_badge_of_test_customers_only(tested: Flask) -> None:
    people = {"fpa-test": TEST, "fpa-real": "org-456"}
    for user_id, customer_id in people.items():
        person(user_id, Role.FPA_USER, customer_id)
        page = sign_in(tested, f"{user_id}@example.com").get("/").text
        assert ('<span class="badge">Test</span>' in page) is (customer_id == TEST)
