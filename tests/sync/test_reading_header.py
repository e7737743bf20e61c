"""How a CSV file is decoded, and how the header of a sheet is found."""

from __future__ import annotations

from typing import Any

import pytest
from support.readings import CSV, USD, Rows, budgets, errors, read, reading

from budget_sync.sync.reading.apply import apply, completed
from budget_sync.sync.reading.grid import Grid
from budget_sync.sync.reading.header import find_layout, joined_headings
from budget_sync.sync.reading.result import SheetProblem


def csv_problem(data: bytes, **file: Any) -> str:
    with pytest.raises(SheetProblem) as error:
        apply(reading(file={**CSV, **file}), data, USD)
    return str(error.value)


# Bytes


@pytest.mark.parametrize(
    ("data", "file"),
    [
        ("Department,Period,Budget\nBüro,2026,5\n".encode(), {}),
        ("Department,Period,Budget\rBüro,2026,5\r".encode("utf-8-sig"), {"encoding": "cp1252"}),
        ("Department;Period;Budget\r\nBüro;2026;5".encode("utf-16"), {"delimiter": ";"}),
        (
            "Department|Period|Budget\nBüro|2026|5".encode("cp1252"),
            {"delimiter": "|", "encoding": "cp1252"},
        ),
        ("sep=;\nDepartment;Period;Budget\nBüro;2026;5".encode(), {"delimiter": ";"}),
    ],
)
def test_file_is_read_in_its_format(data: bytes, file: dict[str, Any]) -> None:
    result = apply(reading(file={**CSV, **file}), data, USD)
    assert budgets(result) == {"Büro|2026": 5}
    assert result.rows[0].number == 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            "Department,Period,Budget\nBüro,2026,5".encode("mac_roman"),
            "The file is no longer UTF-8, and no other encoding was confirmed.",
        ),
        (
            "Department,Period,Budget\nBüro é,2026,5".encode() + b"\xc3",
            "The CSV file is damaged UTF-8.",
        ),
        (b"\xff\xfeD\x00\x00\xd8", "The CSV file is damaged UTF-16."),
        (b"\xff\xfeD\x00e", "The CSV file is damaged UTF-16."),
        (b"Department,Period,Budget\nA\0,2026,5", "The file has NUL characters"),
        (b'Department,Period,Budget\n"A,2026,5', "The CSV file cannot be read:"),
        (b"", "The sheet is empty."),
        (b"," * 3_000_000, "The sheet has more than 2,000,000 used cells"),
        (b"a,b\n" * 201_000, "The sheet has more than 200,000 rows"),
    ],
    ids=range(9),
)
def test_damaged_file_fails_with_one_sentence(data: bytes, message: str) -> None:
    assert csv_problem(data).startswith(message)


# Header


def test_header_is_found_below_a_title() -> None:
    rows: Rows = [("Plan 2026",), (), ("BUDGET ", "department*", "x", "Period:")]
    layout = find_layout(reading(), Grid([*rows, (5, "A", "", "2026")]))
    assert layout.header_rows == (3,)
    assert layout.columns == {"Department": 1, "Period": 3, "Budget": 0}


def test_missing_heading_is_named_with_a_hint() -> None:
    with pytest.raises(SheetProblem) as error:
        read(
            [("Department", "Period", "FY2016 Budget"), ("A", "2026", 5)],
            reading(amount={"columns": ("FY2015 Budget",)}),
        )
    assert str(error.value) == (
        "No row among the first 50 has the heading 'FY2015 Budget', which this source is read by. "
        "It may be called 'FY2016 Budget' now. Run reread-source to confirm."
    )


def test_heading_twice_fails() -> None:
    with pytest.raises(SheetProblem) as error:
        read([("Department", "Period", "Budget", "budget"), ("A", "2026", 5, 6)])
    assert str(error.value) == "The header (row 1) has 'Budget' twice. Rename one of them."


def test_exact_heading_wins_over_equal_letters() -> None:
    result = read([("Department", "Period", "Budget (old)", "Budget"), ("A", "2026", 5, 6)])
    assert budgets(result) == {"A|2026": 6}


def test_upper_heading_continues_over_blank_cells() -> None:
    rows: Rows = [("Department", "Annual", "", "Approved"), ("", "Operating", "Total", "")]
    assert joined_headings(rows) == [
        "Department",
        "Annual / Operating",
        "Annual / Total",
        "Approved",
    ]


def test_column_without_heading_fits_only_while_blank() -> None:
    by = reading(department={"column": "@0"})
    grid = Grid([("", "Period", "Budget"), ("A", "2026", 5)])
    assert budgets(apply(by, grid, USD)) == {"A|2026": 5}
    with pytest.raises(SheetProblem):
        apply(by, Grid([("Name", "Period", "Budget"), ("A", "2026", 5)]), USD)


def test_new_period_column_is_an_error_that_blocks_nothing() -> None:
    by = reading(
        period={"headings": {"Q1 2026": "Q1 2026"}, "ignored": ("FY2026",)},
        amount={"columns": ("Q1 2026",)},
    )
    rows: Rows = [("Department", "Q1 2026", "FY2026", "Q3 2026"), ("A", 5, 9, 6)]
    result = read(rows, by)
    assert budgets(result) == {"A|2026-Q1": 5}
    assert errors(result) == [
        (
            (),
            (
                "The column 'Q3 2026' is new and looks like a period. Run reread-source to include "
                "or ignore it."
            ),
        ),
    ]
    assert not result.errors[0].blocks


# Readings of an earlier version


def test_upgraded_reading_is_completed() -> None:
    text = "Plan, old\nDepartment;Period;Budget;Currency;Budget ID\nBüro;2026;5;EUR;S-1\n"
    found = completed(reading(), text.encode("cp1252"))
    assert found.file is not None
    assert (found.file.delimiter, found.file.encoding) == (";", "cp1252")
    assert found.id == "Budget ID"
    assert found.limit is None
    result = apply(found, text.encode("cp1252"), USD)
    assert (result.rows[0].budget.external_id, result.rows[0].budget.currency) == ("S-1", "EUR")
    plain = apply(reading(), text.encode("cp1252"), USD)
    assert plain.notes[0] == "The file was read as Windows-1252, because it is not UTF-8."
