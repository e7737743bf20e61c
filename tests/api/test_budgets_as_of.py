"""`GET /api/budgets?asOf=`: the balances at the end of a past day."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
import time_machine
from flask import Flask
from support.world import ROOT, key_headers

from budget_sync import ledger, manual_budgets
from budget_sync.accounts import customers
from budget_sync.domain.request_models import ReserveRequest
from budget_sync.operations import demo

pytestmark = pytest.mark.both_engines


def at(text: str) -> time_machine.travel:
    """Set the clock to a time in UTC."""
    moment = datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
    return time_machine.travel(moment, tick=False)


def listed(app: Flask, query: str) -> dict[str, tuple[int, int]]:
    """The budgeted and reserved amount of each budget, read in pages of one."""
    headers = key_headers()
    found: dict[str, tuple[int, int]] = {}
    cursor = ""
    while True:
        reply = app.test_client().get(f"/api/budgets?limit=1&{query}{cursor}", headers=headers).json
        assert reply
        for each in reply["items"]:
            found[each["id"]] = each["budgetedAmount"], each["reservedAmount"]
            assert each["deletedAt"] is None
        if reply["nextCursor"] is None:
            return found
        cursor = f"&cursor={reply['nextCursor']}"


def test_budgets_as_of_a_day_have_their_balances_then(app: Flask) -> None:
    with at("2026-10-01 12:00"):
        customers.add_customer(ROOT, demo.CUSTOMER, "Acme", time_zone="America/New_York")
        for name in ("a", "b"):
            manual_budgets.set_budget(
                ROOT, demo.CUSTOMER, name, "Q4 2026", Decimal(100), budget_id=name
            )
    # 31 October in New York.
    with at("2026-11-01 03:59"):
        hold = ReserveRequest(budget_id="a", request_id="r-1", amount=Decimal(30))
        ledger.reserve(ROOT, hold)
    with at("2026-11-01 04:00"):
        manual_budgets.remove_budget(ROOT, "b")
        manual_budgets.set_budget(ROOT, demo.CUSTOMER, "a", "Q4 2026", Decimal(200))
    with at("2026-12-01 12:00"):
        assert listed(app, "asOf=2026-09-30") == {}
        assert listed(app, "asOf=2026-10-30") == {"a": (100, 0), "b": (100, 0)}
        assert listed(app, "asOf=2026-10-31") == {"a": (100, 30), "b": (100, 0)}
        assert listed(app, "asOf=2026-11-01") == {"a": (200, 30)}
        assert listed(app, "asOf=2026-10-31&department=B") == {"b": (100, 0)}
        assert listed(app, "asOf=2026-10-31&fiscalPeriod=Q3+2026") == {}
        assert listed(app, "asOf=2026-12-01") == listed(app, "")


def test_day_must_have_begun_for_the_customer(app: Flask) -> None:
    customers.add_customer(ROOT, demo.CUSTOMER, "Acme", time_zone="America/New_York")
    with at("2026-12-01 03:00"):
        # It is still 30 November in New York.
        reply = app.test_client().get("/api/budgets?asOf=2026-12-01", headers=key_headers())
    assert reply.status_code == 400
    assert reply.json
    assert "must not be in the future" in reply.json["fields"]["asOf"]
