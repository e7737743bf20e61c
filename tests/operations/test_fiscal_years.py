"""A change of a customer's fiscal year: budgets keep the periods that their texts name."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from support.world import ROOT

from budget_sync import manual_budgets
from budget_sync.accounts import customers
from budget_sync.database.models import AuditLog, Budget, BudgetDataSourceConfig, Customer
from budget_sync.domain.errors import RequestError
from budget_sync.ledger import verification

pytestmark = pytest.mark.both_engines


@pytest.fixture(autouse=True)
def acme(app: Flask) -> None:
    customers.add_customer(ROOT, "acme", "Acme", fiscal_year_start_month=7)


def add(budget_id: str, period: str, department: str = "Legal") -> None:
    manual_budgets.set_budget(ROOT, "acme", department, period, Decimal(9), budget_id=budget_id)


def keys() -> dict[str, str]:
    return {budget.id: budget.periodKey for budget in Budget.select().order_by(Budget.id)}


def set_named_by(named_by: str) -> list[str]:
    return customers.set_customer(ROOT, "acme", fiscal_year_named_by=named_by).fields


def test_keys_follow_the_naming_of_the_fiscal_year() -> None:
    add("a", "FY2024-25")
    add("b", "FY2023-24")
    add("c", "Q3 2022/23")
    add("d", "Jan-Mar 2022")
    add("e", "P01 FY22")
    add("f", "Q1 2025")
    add("g", "Jan 2025")
    add("h", "Summer Campaign")
    assert set_named_by("start") == ["fiscalYearNamedBy"]
    assert Customer.get_by_id("acme").fiscalYearNamedBy == "start"
    assert keys() == {
        "a": "2024",
        "b": "2023",
        "c": "2022-Q3",
        "d": "2021-Q3",
        "e": "2022-07",
        "f": "2025-Q1",
        "g": "2025-01",
        "h": "summer campaign",
    }
    assert set_named_by("start") == []
    set_named_by("end")
    assert (keys()["a"], keys()["b"]) == ("2025", "2024")
    assert verification.verify().findings == []
    rows = AuditLog.select().where(AuditLog.action == "SET_CUSTOMER").order_by(AuditLog.id)
    assert [(row.field, row.oldValue, row.newValue) for row in rows] == [
        ("fiscalYearNamedBy", "end", "start"),
        ("fiscalYearNamedBy", "start", "end"),
    ]


def test_keys_follow_the_first_month() -> None:
    add("a", "Oct-Dec 2024")
    add("b", "P01 FY25", "HR")
    customers.set_customer(ROOT, "acme", fiscal_year_start_month=10)
    assert keys() == {"a": "2025-Q1", "b": "2024-10"}


def test_deleted_budget_gets_its_new_key_too() -> None:
    add("a", "FY2024-25")
    manual_budgets.remove_budget(ROOT, "a")
    add("b", "FY2024-25")
    set_named_by("start")
    assert keys() == {"a": "2024", "b": "2024"}


@pytest.mark.parametrize(
    ("periods", "change", "problem"),
    [
        (
            ["FY2024-25"],
            {"fiscal_year_start_month": 1},
            "these budgets would have no period: Legal, FY2024-25. Remove them first.",
        ),
        (
            ["FY2024-25", "2024"],
            {"fiscal_year_named_by": "start"},
            "these budgets would have the same period as another budget: Legal, 2024.",
        ),
        (
            [f"Jul-Sep {year}" for year in range(2020, 2025)],
            {"fiscal_year_start_month": 2},
            "Legal, Jul-Sep 2020; Legal, Jul-Sep 2021; Legal, Jul-Sep 2022 and 2 more.",
        ),
    ],
)
def test_change_that_confuses_budgets_is_rejected(
    periods: list[str], change: dict[str, Any], problem: str
) -> None:
    for number, period in enumerate(periods):
        add(f"b{number}", period)
    before = keys()
    with pytest.raises(RequestError) as raised:
        customers.set_customer(ROOT, "acme", name="New", **change)
    assert problem in raised.value.sentence
    assert keys() == before
    assert Customer.get_by_id("acme").name == "Acme"


def add_source(**period: str) -> None:
    BudgetDataSourceConfig.create(
        id="s",
        customerId="acme",
        sourceType="csv",
        csvPath="b.csv",
        reading=json.dumps({"period": period}),
        readingConfirmedBy="ada",
        readingConfirmedAt=datetime(2025, 1, 1, tzinfo=UTC),
        isActive=True,
        createdAt=datetime(2025, 1, 1, tzinfo=UTC),
    )
    Budget.update(sourceId="s").execute()


def test_key_of_a_sheet_follows_what_its_reading_settles() -> None:
    add("a", "FY2011-12")
    Budget.update(fiscalPeriod="2011-12").execute()
    add_source(column="FY", dash="span")
    set_named_by("start")
    assert keys() == {"a": "2011"}


def test_fiscal_months_in_two_columns_cannot_change() -> None:
    add("a", "2025-07")
    add_source(column="FY", part="Month", partKind="fiscal")
    with pytest.raises(RequestError, match="would have no period: Legal, 2025-07"):
        set_named_by("start")


def test_years_and_quarters_in_two_columns_keep_their_naming() -> None:
    """The year may be written as 2025-26, of which the key would be 2025-Q1."""
    add("a", "2026-Q1")
    add_source(column="FY", part="Quarter", partKind="quarter")
    with pytest.raises(RequestError, match="would have no period: Legal, 2026-Q1"):
        set_named_by("start")


def test_unknown_naming_is_rejected() -> None:
    with pytest.raises(RequestError) as raised:
        set_named_by("middle")
    assert raised.value.fields == {"fiscalYearNamedBy": "must be one of end, start"}
