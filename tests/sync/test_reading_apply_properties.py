"""What holds for any sheet and any reading."""

from __future__ import annotations

import random
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from support.readings import HEADER, USD, Rows, budgets, read, reading

from budget_sync.domain.periods import FiscalYear
from budget_sync.sync.reading.apply import apply
from budget_sync.sync.reading.grid import Grid
from budget_sync.sync.reading.model import Reading
from budget_sync.sync.reading.result import Customer, SheetProblem, SheetResult

ANY_CELL = st.one_of(
    st.sampled_from(["A", "B", "a ", "Total", "A Total", "", "2026", "FY2025", "Q1 2026", "TBD"]),
    st.sampled_from(["5", "-3", "(2)", "1,000.005", "12.500", "x", "#REF!", "50%", "-", None]),
    st.integers(-50, 50),
    st.text(max_size=5),
)
ANY_GRID = st.lists(st.lists(ANY_CELL, min_size=3, max_size=4), min_size=1, max_size=12)


def attempt(by: Reading, rows: Rows) -> SheetResult | str:
    try:
        return apply(by, Grid([HEADER, *rows]), USD)
    except SheetProblem as problem:
        return str(problem)


@given(rows=ANY_GRID, is_sum=st.booleans(), fill=st.sampled_from(["no", "down", "section"]))
def test_apply_is_deterministic(rows: Rows, is_sum: bool, fill: str) -> None:
    by = reading(sum=is_sum, department={"column": "Department", "fill": fill})
    assert attempt(by, rows) == attempt(by, rows)


LINES = st.lists(
    st.tuples(
        st.sampled_from(["A", "a", "B", "C", "#REF!", ""]),
        st.sampled_from(["2026", "FY2026", "Q1 2026", "TBD"]),
        st.sampled_from(["5", "-3", "0.005", "(2.50)", "1,000", "x", "-"]),
        st.sampled_from(["yes", "no", "?"]),
    ),
    min_size=1,
    max_size=15,
)
FILTERED = {"column": "Counts", "in": ("yes",), "out": ("no",)}


def apply_lines(lines: Rows, *, is_sum: bool) -> SheetResult | None:
    by = reading(sum=is_sum, keep=(FILTERED,))
    try:
        return apply(by, Grid([(*HEADER, "Counts"), *lines]), USD)
    except SheetProblem:
        return None


def without_rows(result: SheetResult | None) -> object:
    """The content of a result, without row numbers."""
    if result is None:
        return None
    return (
        sorted((row.budget.key, row.budget.budgeted_minor, row.row_count) for row in result.rows),
        sorted((len(error.rows), error.key or ()) for error in result.errors),
        sorted(result.skipped.values()),
    )


@given(lines=LINES, is_sum=st.booleans(), seed=st.integers(0, 999))
def test_order_of_rows_changes_only_row_numbers(
    lines: Rows,
    is_sum: bool,
    seed: int,
) -> None:
    shuffled = list(lines)
    random.Random(seed).shuffle(shuffled)  # noqa: S311
    assert without_rows(apply_lines(lines, is_sum=is_sum)) == without_rows(
        apply_lines(shuffled, is_sum=is_sum)
    )


AMOUNTS = {"5": "5", "-3": "-3", "0.005": "0.005", "(2.50)": "-2.5", "1,000": "1000", "-": "0"}


@given(lines=LINES)
def test_each_amount_is_in_a_budget_rejected_or_left_out(lines: Rows) -> None:
    result = apply_lines(lines, is_sum=True)
    if result is None:
        return
    rejected = {number for error in result.errors for number in error.rows}
    # No row of a budget is also rejected or left out, so no error row is applied in part.
    counted = set(range(2, len(lines) + 2)) - rejected - set(result.skipped)
    assert sum(row.row_count for row in result.rows) == len(counted)
    exact = sum((Decimal(AMOUNTS[str(lines[number - 2][2])]) for number in counted), Decimal(0))
    total = sum(budgets(result).values(), Decimal(0))
    assert abs(exact - total) <= Decimal("0.005") * len(result.rows)


def test_long_sheet_of_totals_takes_linear_time() -> None:
    rows: Rows = [(f"Unit {row} total", "2026", 10**6 + row) for row in range(20_000)]
    result = read(rows)
    assert len(result.errors) == 20_000 - len(result.skipped)


def test_customer_fiscal_year_gives_the_key() -> None:
    july = Customer("USD", FiscalYear(7, "end"))
    assert budgets(read([("A", "FY2025-26", 5)], customer=july)) == {"A|2026": 5}
