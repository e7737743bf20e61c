"""The view of a sheet for a page: roles of columns, first rows, budgets, fingerprint."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from budget_sync.domain.periods import FiscalYear
from budget_sync.sync.reading.detect import detect
from budget_sync.sync.reading.grid import (
    Cell,
    DateCell,
    Grid,
    LongCell,
    PercentCell,
    UncalculatedCell,
)
from budget_sync.sync.reading.proposal import Proposal
from budget_sync.sync.reading.result import Customer
from budget_sync.sync.sheet_view import (
    CELL_CHARS,
    SHOWN_BUDGETS,
    SHOWN_COLUMNS,
    SHOWN_ROWS,
    SheetView,
    cell_text,
    letters,
    view_of,
)

HEADER: list[Cell] = ["Department", "Class", "Fiscal Period", "Budgeted Amount"]


def look(rows: list[list[Cell]]) -> SheetView:
    """The view of a sheet and of what is proposed for it."""
    proposal = detect(Grid(rows), Customer("USD", FiscalYear()))
    return view_of("plan", None, Grid(rows), proposal)


def plan(count: int, above: int = 0) -> list[list[Cell]]:
    """A sheet with some departments, and rows with a title above the header."""
    rows: list[list[Cell]] = [[f"Title {number}"] for number in range(above)]
    rows.append(HEADER)
    rows += [[f"Team {number}", "Ops", "Q1 2026", 1000 + number] for number in range(count)]
    return rows


def test_columns_have_the_roles_of_the_reading() -> None:
    view = look(plan(3))
    assert [(column.letters, column.role) for column in view.columns] == [
        ("A", "department"),
        ("B", ""),
        ("C", "period"),
        ("D", "amount"),
    ]


def test_rows_begin_a_little_above_the_header() -> None:
    view = look(plan(50, above=6))
    assert [row.number for row in view.rows] == list(range(4, 8 + SHOWN_ROWS))
    kinds = [row.kind for row in view.rows]
    assert kinds == ["above"] * 3 + ["header"] + ["counted"] * SHOWN_ROWS
    assert view.rows[3].cells == ("Department", "Class", "Fiscal Period", "Budgeted Amount")


def test_rows_that_do_not_count_have_a_reason() -> None:
    rows = plan(3)
    rows += [["Total", None, None, 3003], ["Team X", "Ops", "Q1 2026", "5k"]]
    by_number = {row.number: row for row in look(rows).rows}
    assert (by_number[5].kind, by_number[5].why) == ("skipped", "total")
    assert by_number[6].kind == "rejected"
    assert "5k" in by_number[6].why
    assert by_number[4].kind == "counted"


def test_sum_and_largest_cover_all_budgets() -> None:
    view = look(plan(100))
    assert (view.budget_count, len(view.budgets)) == (100, SHOWN_BUDGETS)
    (total,) = view.totals
    assert (total.currency, total.minor) == ("USD", sum(range(1000, 1100)) * 100)
    assert view.largest is not None
    assert view.largest.department == "Team 99"


def test_wide_sheet_shows_used_columns_and_only_some_others() -> None:
    extra: list[Cell] = [f"Remark {number}" for number in range(60)]
    rows = [[*extra, *HEADER], *([*extra, *row] for row in plan(5)[1:])]
    view = look(rows)
    assert view.column_count == 64
    assert len(view.columns) <= 2 * SHOWN_COLUMNS
    assert {column.role for column in view.columns} == {"", "department", "period", "amount"}


def test_fingerprint_changes_with_every_budget_and_with_the_reading() -> None:
    rows = plan(100)
    before = look(rows)
    assert look(rows).fingerprint == before.fingerprint
    rows[100][3] = 5
    assert look(rows).fingerprint != before.fingerprint
    reading = before.proposal.reading
    assert reading is not None
    other = replace(before.proposal, reading=reading.model_copy(update={"sum": True}))
    assert view_of("plan", None, Grid(rows), other).fingerprint != before.fingerprint


def test_sheet_without_a_reading_shows_its_cells() -> None:
    view = view_of("plan", None, Grid([["a", 1], [], ["b", 2]]), Proposal(None))
    assert [(row.number, row.cells) for row in view.rows] == [(1, ("a", "1")), (3, ("b", "2"))]
    assert not view.is_complete
    assert view_of("plan", None, Grid([]), Proposal(None)).rows == ()


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (None, ""),
        ("  two \n lines ", "two lines"),
        ("x" * 9999, "x" * 4 * CELL_CHARS),
        (True, "TRUE"),
        (75_000, "75000"),
        (2026.0, "2026"),
        (0.1, "0.1"),
        (Decimal("12.50"), "12.5"),
        (Decimal("1E+400"), "1E+400"),
        (DateCell(46_000, "1 Jan 2026"), "1 Jan 2026"),
        (DateCell(46_000, None), "a date"),
        (PercentCell(Decimal("0.5")), "50%"),
        (LongCell(12_345), "(12,345 characters)"),
        (UncalculatedCell(), "(formula)"),
    ],
)
def test_cells_look_like_in_a_spreadsheet(cell: Cell, text: str) -> None:
    assert cell_text(cell) == text


@pytest.mark.parametrize(("index", "text"), [(0, "A"), (25, "Z"), (26, "AA"), (701, "ZZ")])
def test_columns_have_the_letters_of_a_spreadsheet(index: int, text: str) -> None:
    assert letters(index) == text
