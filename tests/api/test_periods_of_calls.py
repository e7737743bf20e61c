"""Periods and departments in API calls are read as in a sheet, in the customer's fiscal year."""

from __future__ import annotations

from decimal import Decimal
from importlib import import_module
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.world import ROOT, check_body, key_headers

from budget_sync import manual_budgets
from budget_sync.accounts import customers
from budget_sync.database.models import BudgetCheckLog
from budget_sync.domain.errors import Code, RequestError

#: The name `ledger.check` is the function.
check_module = import_module("budget_sync.ledger.check")

pytestmark = pytest.mark.both_engines

BUDGETS = {
    "year": "FY2024-25",
    "quarter": "Q1 2025",
    "month": "Jul 2024",
    "campaign": "Summer Campaign",
}


@pytest.fixture(params=["end", "start"])
def named_by(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(app: Flask, named_by: str) -> FlaskClient:
    """A client with a key of a customer with a fiscal year from July."""
    customers.add_customer(
        ROOT, "acme", "Acme", fiscal_year_start_month=7, fiscal_year_named_by=named_by
    )
    for budget_id, period in BUDGETS.items():
        manual_budgets.set_budget(
            ROOT, "acme", "R & D \u2013 EMEA", period, Decimal(9), budget_id=budget_id
        )
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = key_headers("acme")["Authorization"]
    return client


def check(client: FlaskClient, period: str, department: str = "R & D - EMEA") -> Any:
    body = check_body(customerId="acme", department=department, fiscalPeriod=period, amount=5)
    return client.post("/api/budget/check", json=body)


def found(client: FlaskClient, period: str, department: str = "R & D - EMEA") -> str | None:
    """The id of the budget that a check finds; GET must find the same."""
    reply = check(client, period, department)
    assert reply.status_code == 200, reply.json
    budget = reply.json["budget"]
    listed = client.get(
        "/api/budgets", query_string={"department": department, "fiscalPeriod": period}
    )
    assert listed.json
    assert [each["id"] for each in listed.json["items"]] == ([budget["id"]] if budget else [])
    return budget["id"] if budget else None


def test_two_years_find_the_budget(client: FlaskClient, named_by: str) -> None:
    name = {"end": "2025", "start": "2024"}[named_by]
    other = {"end": "2024", "start": "2025"}[named_by]
    for period in ("FY2024-25", "2024/25", "FY24\u201325", f"FY{name}", name, "Jul 2024-Jun 2025"):
        assert found(client, period) == "year"
    assert found(client, other) is None


def test_months_of_the_fiscal_year_find_the_budget(client: FlaskClient, named_by: str) -> None:
    name = {"end": "25", "start": "24"}[named_by]
    for period in ("Jul 2024", "2024-07", f"P01 FY{name}", f"Jul FY{name}", "juil. 2024"):
        assert found(client, period) == "month"


def test_range_of_months_finds_the_quarter(client: FlaskClient, named_by: str) -> None:
    year = {"end": 2024, "start": 2025}[named_by]
    assert found(client, f"Jul-Sep {year}") == "quarter"
    assert found(client, f"Jul {year} to Sep {year}") == "quarter"


@pytest.mark.parametrize(
    "department",
    ["r&d-emea", "R & D \u2014 EMEA", "\uff32\uff06\uff24 - EMEA", "R&D\u200b\u2212EMEA "],
)
def test_department_is_found_in_any_spelling(client: FlaskClient, department: str) -> None:
    assert found(client, "Q1 2025", department) == "quarter"


@pytest.mark.parametrize(
    "period", ["Summer Campaign", " SUMMER  campaign", "\ufeffSummer Campaign"]
)
def test_name_is_found_as_it_is(client: FlaskClient, period: str) -> None:
    assert found(client, period) == "campaign"
    assert found(client, "Winter Campaign 2025") is None


@pytest.mark.parametrize(
    ("period", "problem"),
    [
        ("Q5 2026", "is not a known period. Enter a period such as Q1 2025"),
        ("Q1", "has no year"),
        ("TBD", "is a placeholder. Enter a period such as Q1 2025"),
        ("2011-12", "may be a month or a fiscal year"),
        ("T1 2025", "may be a quarter or a third of the year"),
        ("2/1/2025", "may be one of two days. Enter a period such as Jan 2025"),
        ("P13 2025", "is a thirteenth month"),
        ("CY2025", "is a calendar year, and the customer's fiscal year is another"),
        ("Feb-Apr 2025", "is not a quarter, half or year of this customer"),
        ("45000", "is the number 45000. Enter text such as Q1 2025"),
    ],
)
def test_text_that_is_not_a_period_is_rejected(
    client: FlaskClient, period: str, problem: str
) -> None:
    for reply in (
        check(client, period),
        client.get("/api/budgets", query_string={"fiscalPeriod": period}),
    ):
        assert reply.status_code == 400
        assert reply.json
        assert reply.json["code"] == Code.INVALID_REQUEST
        assert reply.json["fields"] == {"fiscalPeriod": f"{period!r} {problem}"}
        assert reply.json["error"] == (
            f"The request is not valid: fiscalPeriod {period!r} {problem}."
        )
    assert BudgetCheckLog.select().count() == 0
    with pytest.raises(RequestError) as raised:
        manual_budgets.set_budget(ROOT, "acme", "Legal", period, Decimal(1))
    assert raised.value.fields == {"period": f"{period!r} {problem}"}


def test_customer_from_january_must_set_the_month(app: Flask) -> None:
    customers.add_customer(ROOT, "acme", "Acme")
    reply = check_body(customerId="acme", fiscalPeriod="FY2024-25")
    rejected = app.test_client().post("/api/budget/check", json=reply, headers=key_headers("acme"))
    assert rejected.status_code == 400
    assert rejected.json
    assert rejected.json["fields"] == {
        "fiscalPeriod": "'FY2024-25' covers two calendar years, but the customer's fiscal year "
        "begins in January"
    }


def test_unknown_customer_is_named_first(app: Flask) -> None:
    body = check_body(customerId="nobody", fiscalPeriod="FY2024-25")
    reply = app.test_client().post("/api/budget/check", json=body, headers=key_headers(None))
    assert reply.json
    assert reply.json["code"] == Code.INVALID_CUSTOMER


def test_usual_period_needs_no_further_query(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(check_module, "_FISCAL_YEAR")
    assert found(client, "q1 fy25") == "quarter"
    assert check(client, "Q5 2026").status_code == 400
    assert check(client, "FY2024-25").status_code == 500
