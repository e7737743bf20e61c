"""Employees see all budgets, or only those of departments that money was reserved in for them."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.console_site import hold, member
from support.world import ROOT

from budget_sync import manual_budgets
from budget_sync.accounts import customers
from budget_sync.database.models import AuditLog, Customer
from budget_sync.domain.errors import RequestError
from budget_sync.domain.permissions import Actor, Role
from budget_sync.operations import demo
from budget_sync.queries import budgets

pytestmark = pytest.mark.both_engines

#: A department without a request of the employee, and its amount.
FOREIGN, AMOUNT = "Zeppelins", 777_123
MARKS = (FOREIGN, f"{AMOUNT:,}", str(AMOUNT), "$777K")
PATHS = (
    "/",
    "/?period=all",
    "/budgets",
    "/budgets?period=2025-Q2",
    "/budgets?state=deleted",
    "/budgets?state=overdrawn",
    "/budgets.csv",
    "/budgets.csv?state=deleted",
    "/budget?id=zep-1",
    "/budget?id=zep-old",
    "/requests",
    "/requests?view=all",
    "/requests?view=waiting",
    "/requests?view=uncovered",
    "/requests?budget=zep-1",
    "/requests.csv",
    "/request?id=intake-999",
    "/api/budgets",
    "/api/budgets?fiscalPeriod=Q2%202025",
    "/api/budgets?department=zeppelins",
    "/api/budgets/zep-1",
    "/api/budgets/zep-old",
    "/api/requests",
    "/api/requests?status=all",
    "/api/requests/intake-999",
    "/api/auth/me",
)


@pytest.fixture
def company(site: Flask) -> Flask:
    """Acme with a foreign department, a live budget and a deleted one, and another's request."""
    for budget_id, period in (("zep-old", "Q1 2025"), ("zep-1", "Q2 2025")):
        manual_budgets.set_budget(
            ROOT, demo.CUSTOMER, FOREIGN, period, Decimal(AMOUNT), budget_id=budget_id
        )
    manual_budgets.remove_budget(ROOT, "zep-old")
    hold("intake-999", 500, user_id="someone", budget_id="zep-1")
    return site


def set_rule(rule: str) -> None:
    customers.set_customer(ROOT, demo.CUSTOMER, employees_see=rule)


def shown(client: FlaskClient) -> set[str]:
    """The paths whose replies name the foreign department or its figures."""
    found = set()
    for path in PATHS:
        reply = client.get(path)
        if any(mark in reply.text for mark in MARKS):
            found.add(path)
        # An export that is not closed keeps its place.
        reply.close()
    return found


@pytest.mark.parametrize("role", [Role.MANAGER, Role.BUSINESS_USER])
def test_employee_sees_no_foreign_department(company: Flask, role: Role) -> None:
    employee = member(company, "emma", role)
    hold("intake-1", 100, user_id="emma")
    assert {"/", "/budgets.csv", "/budget?id=zep-1", "/api/budgets/zep-1"} <= shown(employee)
    set_rule("own")
    assert shown(employee) == set()
    assert employee.get("/budget?id=zep-1").status_code == 404
    assert employee.get("/api/budgets/zep-1").status_code == 404
    listed = employee.get("/api/budgets").get_json()["items"]
    assert [item["id"] for item in listed] == [demo.BUDGET]
    assert "Engineering" in employee.get("/").text
    hold("intake-2", 100, user_id="emma", budget_id="zep-1")
    assert "/budget?id=zep-old" in shown(employee)
    set_rule("all")
    assert "/budgets.csv" in shown(employee)


def test_employee_without_requests_sees_empty_pages(company: Flask) -> None:
    set_rule("own")
    employee = member(company, "emma", Role.BUSINESS_USER)
    assert shown(employee) == set()
    assert {employee.get(path).status_code for path in ("/", "/budgets", "/requests")} == {200}


def test_check_still_replies_with_the_budget(company: Flask) -> None:
    set_rule("own")
    employee = member(company, "emma", Role.BUSINESS_USER)
    body = {
        "requestId": "intake-5",
        "userId": "emma",
        "userName": "Emma",
        "userEmail": "emma@example.com",
        "customerId": demo.CUSTOMER,
        "department": FOREIGN,
        "fiscalPeriod": "Q2 2025",
        "amount": 5,
    }
    reply = employee.post("/api/budget/check", json=body).get_json()
    assert reply["budget"]["budgetedAmount"] == AMOUNT


@pytest.mark.parametrize("role", [Role.FPA_USER, Role.FPA_ADMIN, Role.ADMIN])
def test_finance_sees_all_departments(company: Flask, role: Role) -> None:
    set_rule("own")
    assert "/budgets.csv" in shown(member(company, "fin", role))


def test_setting_is_audited_and_checked(company: Flask) -> None:
    set_rule("own")
    row = AuditLog.select().where(AuditLog.field == "employeesSee").get()
    assert (row.oldValue, row.newValue) == ("all", "own")
    with pytest.raises(RequestError, match="employeesSee must be all or own"):
        set_rule("some")
    assert Customer.get_by_id(demo.CUSTOMER).employeesSee == "own"


@pytest.mark.parametrize(
    "names",
    [
        lambda actor: [line.department for line in budgets.list_budgets(actor)],
        lambda actor: budgets.departments(actor, demo.CUSTOMER),
    ],
    ids=["list", "departments"],
)
def test_lists_are_limited(company: Flask, names: Callable[[Actor], list[str]]) -> None:
    set_rule("own")
    emma = Actor("user:emma", "emma", "Emma", "e@x.com", Role.BUSINESS_USER, demo.CUSTOMER)
    assert names(emma) == []
    hold("intake-1", 100, user_id="emma")
    assert names(emma) == ["Engineering"]
