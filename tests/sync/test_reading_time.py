"""Sheets of the worst shapes take linear time: function calls are counted, not seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress

import pytest

from budget_sync.sync.reading.apply import apply
from budget_sync.sync.reading.grid import Cell, Grid, Merge
from budget_sync.sync.reading.result import Customer, SheetProblem
from budget_sync.sync.standard import BUDGET_ID, CURRENCY, HEADINGS, LIMIT, standard_reading

Rows = list[list[Cell]]

KINDS = ("x", "y", "q1-", "1.", "z", "-")
READING = standard_reading((BUDGET_ID, CURRENCY, LIMIT), is_csv=False)


def sheet(rows: Rows, merges: tuple[Merge, ...] = ()) -> Grid:
    return Grid([list(HEADINGS), *rows], merges=merges)


def other_errors(count: int) -> Grid:
    """Each cell is an error of its own."""
    return sheet([[f"{kind}{row}!" for kind in KINDS] for row in range(count)])


def formula_errors(count: int) -> Grid:
    return sheet([[f"#E{row}!"] * 6 for row in range(count)])


def merges(count: int) -> Grid:
    """Each department is merged over two rows."""
    rows: Rows = []
    for row in range(0, count, 2):
        rows += [[f"Team {row}", "2026", 1], [None, "2027", 2]]
    found = tuple(Merge(row + 1, 0, row + 2, 0) for row in range(0, count, 2))
    return sheet(rows, found)


def columns(count: int) -> Grid:
    """A header of many columns."""
    return Grid([[*HEADINGS, *(f"Note {column}" for column in range(count))], ["A", "2026", 1]])


def pure_totals(count: int) -> Grid:
    return sheet([["Total", f"{2000 + row % 90}", row] for row in range(count)])


def possible_totals(count: int) -> Grid:
    return sheet([[f"Unit {row} total", "2026", 10**6 + row] for row in range(count)])


def nameless(count: int) -> Grid:
    return sheet([["", "2026", row] for row in range(count)])


def spellings(count: int) -> Grid:
    return sheet([["Sales" + " " * (row % 100) + "!", "2026", row] for row in range(count)])


def calls(work: Callable[[], object]) -> int:
    """The number of function calls, each resumption of a generator included."""
    count = 0

    def profile(*_: object) -> None:
        nonlocal count
        count += 1

    sys.setprofile(profile)
    try:
        with suppress(SheetProblem):
            work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize(
    "shape",
    [
        other_errors,
        formula_errors,
        merges,
        columns,
        pure_totals,
        possible_totals,
        nameless,
        spellings,
    ],
)
def test_reading_takes_linear_time(shape: Callable[[int], Grid]) -> None:
    def counted(count: int) -> int:
        grid = shape(count)
        return calls(lambda: apply(READING, grid, Customer("USD")))

    small, large = counted(250), counted(2_500)
    assert large < 11 * small, (small, large)
