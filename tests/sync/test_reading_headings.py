"""Headings: how they are compared, which column each names, and names that read like totals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_sync.sync.reading.headings import Role, hkey, scores, words
from budget_sync.sync.reading.totals import is_pure_total, is_total_like


@pytest.mark.parametrize(
    "heading",
    [
        "Budgeted Amount",
        "budgeted_amount",
        "Budgeted Amount ($)*",
        "BUDGETED-AMOUNT:",
        "\uff22\uff55dgeted Am\uff4funt",
        "Budgeted\u200b Amount [USD]",
        "\ufeffBudgeted Amount (in USD (thousands))",
    ],
)
def test_equal_headings_have_one_key(heading: str) -> None:
    assert hkey(heading) == "budgetedamount"


@pytest.mark.parametrize(
    ("heading", "key"),
    [("(Budget)", "budget"), ("Budget (USD", "budgetusd"), ("Actual%", "actual%"), ("***", "")],
)
def test_brackets_are_dropped_only_next_to_a_heading(heading: str, key: str) -> None:
    assert hkey(heading) == key


@given(st.text(max_size=400))
def test_key_of_a_key_is_the_key(heading: str) -> None:
    assert hkey(hkey(heading)) == hkey(heading)


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("DeptName", ["dept", "name"]),
        ("cityWide_Total", ["city", "wide", "total"]),
        ("% of Budget (USD)", ["%", "of", "budget"]),
        ("Straße/Platz", ["strasse", "platz"]),
    ],
)
def test_words_of_a_heading(heading: str, expected: list[str]) -> None:
    assert words(heading) == expected


@pytest.mark.parametrize(
    ("heading", "roles"),
    [
        ("Department", {Role.DEPARTMENT: 10}),
        ("KOSTENSTELLE", {Role.DEPARTMENT: 9}),
        ("PM_Department", {Role.DEPARTMENT: 8}),
        ("department_id", {Role.DEPARTMENT: 6}),
        ("Departmnet", {Role.DEPARTMENT: 8}),
        ("Amt", {Role.DEPARTMENT: 8, Role.AMOUNT: 6}),
        ("Fiscal Perioid", {Role.PERIOD: 6.5}),
        ("Buget Amount", {Role.AMOUNT: 6.5}),
        ("General Fund / Budget", {Role.AMOUNT: 7}),
        ("2025 / Amount", {Role.AMOUNT: 6}),
        ("Budget Line Amount", {Role.AMOUNT: 6}),
        ("Budget Line", {}),
        ("Budget Notes", {}),
        ("Budget Variance", {}),
        ("Remaining Budget", {}),
        ("Curency", {Role.CURRENCY: 10}),
        ("Budget ID", {Role.ID: 10}),
        ("Auto-Approve Limit", {Role.LIMIT: 10}),
        ("Owner", {}),
        ("", {}),
    ],
)
def test_roles_of_a_heading(heading: str, roles: dict[Role, float]) -> None:
    assert dict(scores(heading)) == roles


@pytest.mark.parametrize(
    "name",
    [
        "Total",
        "TOTALS.",
        "Grand Total:",
        "The Grand Total",
        "Sub-Total",
        "Summe",
        "allDepartmentTotal",
        "All Dept(s)",
        "Total FY2026",
        "Total (EUR)",
        "Total USD",
        "Gesamt 2025/26",
        "Total général",
    ],
)
def test_pure_total_words_name_a_total(name: str) -> None:
    assert is_pure_total(name)
    assert is_total_like(name)


@pytest.mark.parametrize(
    "name", ["Total Care", "PARKS DEPT. TOTAL", "cityWideTotal", "Sum of Parts", "Overall"]
)
def test_other_words_with_total_are_only_like_a_total(name: str) -> None:
    assert is_total_like(name)
    assert not is_pure_total(name)


@pytest.mark.parametrize("name", ["Totem Poles", "Summer School", "Sumo", "", "Assembly"])
def test_names_without_a_total_word_are_no_totals(name: str) -> None:
    assert not is_total_like(name)
    assert not is_pure_total(name)
