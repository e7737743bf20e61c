"""Periods inside headings: which text, which key in which fiscal year, and which scenario."""

from __future__ import annotations

import pytest

from budget_sync.domain.periods import FiscalYear, read_period
from budget_sync.sync.reading.heading_periods import (
    heading_period,
    part_heading,
    relative_year,
)

JANUARY = FiscalYear(1, "end")
JULY = FiscalYear(7, "end")
APRIL = FiscalYear(4, "start")


@pytest.mark.parametrize(
    ("heading", "keys", "scenario"),
    [
        ("FY25 Budget", ("2025", "2025", "2025"), "budget"),
        ("FY24Adopted", ("2024", "2024", "2024"), "budget"),
        ("BudgetFY25", ("2025", "2025", "2025"), "budget"),
        ("2024 (Proposed)", ("2024", "2024", "2024"), "budget"),
        ("Budget / 2025", ("2025", "2025", "2025"), "budget"),
        ("FY24-25 Adopted", (None, "2025", "2024"), "budget"),
        ("2024/25 Plan", (None, "2025", "2024"), "budget"),
        ("2011-12", ("2011-12", "2012", "2011"), None),
        ("Q1 2025", ("2025-Q1", "2025-Q1", "2025-Q1"), None),
        ("Q1 (2025)", ("2025-Q1", "2025-Q1", "2025-Q1"), None),
        ("1Q25 Budget", ("2025-Q1", "2025-Q1", "2025-Q1"), "budget"),
        ("Quarter 1 2025", ("2025-Q1", "2025-Q1", "2025-Q1"), None),
        ("1. Quartal 2025", ("2025-Q1", "2025-Q1", "2025-Q1"), None),
        ("Q1 Budget 2025", ("2025-Q1", "2025-Q1", "2025-Q1"), "budget"),
        ("2025 / Budget / Q1", ("2025-Q1", "2025-Q1", "2025-Q1"), "budget"),
        ("2025 / January / Actual", ("2025-01", "2025-01", "2025-01"), "actual"),
        ("2026 Jan", ("2026-01", "2026-01", "2026-01"), None),
        ("Jan-25", ("2025-01", "2025-01", "2025-01"), None),
        ("Oct FY25", ("2025-10", "2024-10", "2025-10"), None),
        ("FY25-P01 Budget", ("2025-01", "2024-07", "2025-04"), "budget"),
        ("Jan-Mar 2025", ("2025-Q1", "2025-Q3", "2024-Q4"), None),
        ("2025 % change", ("2025", "2025", "2025"), "other"),
    ],
)
def test_period_of_a_heading(
    heading: str, keys: tuple[str | None, ...], scenario: str | None
) -> None:
    for fiscal_year, key in zip((JANUARY, JULY, APRIL), keys, strict=True):
        found = heading_period(heading, fiscal_year)
        assert found is not None
        assert (found.key, found.scenario) == (key, scenario)
        # A reading stores the text, and each sync run reads it again.
        assert read_period(found.text, fiscal_year).key == key


@pytest.mark.parametrize(
    "heading",
    [
        "Amount",
        "Account 4010",
        "Capital_Year_0",
        "First Quarter 2025",
        "Q1 and Q2 2025 or Q3 of 2026",
        "The budget of the year 2025 was approved by the whole council in June",
        "2025 " + "x" * 200,
    ],
)
def test_heading_without_one_period(heading: str) -> None:
    found = heading_period(heading, JULY)
    assert found is None or found.key != "2025"


@pytest.mark.parametrize(
    "heading", ["Q1", "1Q", "Quarter 3", "H2 Plan", "Jan", "Jänner", "enero", "P1", "M12", "T1"]
)
def test_part_of_a_year_without_a_year(heading: str) -> None:
    assert part_heading(heading, JULY) is not None


@pytest.mark.parametrize("heading", ["P13", "1", "Total", "Q1 Notes", "Q1 2025", ""])
def test_heading_that_is_not_a_part_of_a_year(heading: str) -> None:
    assert part_heading(heading, JULY) is None


@pytest.mark.parametrize(
    ("heading", "number"), [("fy1", 1), ("Year 2", 2), ("FY1 Budget", 1), ("Year 20", None)]
)
def test_relative_year(heading: str, number: int | None) -> None:
    assert relative_year(heading) == number
