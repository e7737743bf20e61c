"""How rows are read by a stored reading: filters, totals, sections, names and amounts."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from support.readings import HEADER, USD, Rows, budgets, errors, read, reading

from budget_sync.sync.reading.apply import apply
from budget_sync.sync.reading.grid import Cell, DateCell, Grid, Merge, UncalculatedCell
from budget_sync.sync.reading.result import SheetResult

NOT_A_NUMBER = "Amount is 'x', which is not a number in this sheet. Enter one such as 5,000.50."

# Rows


def test_blank_rows_text_below_and_repeated_headers_are_skipped() -> None:
    result = read([("A", "2026", 5), (), HEADER, ("B", "2026", 6), ("Note: net",)])
    assert budgets(result) == {"A|2026": 5, "B|2026": 6}
    assert result.skipped == {4: "repeated header", 6: "text below the table"}


def test_merged_range_fills_the_department() -> None:
    rows: Rows = [("A", "2026-Q1", 5), (None, "2026-Q2", 6), (None, "2026-Q3", 7)]
    result = read(rows, merges=(Merge(1, 0, 2, 0),))
    assert budgets(result) == {"A|2026-Q1": 5, "A|2026-Q2": 6}
    assert errors(result) == [((4,), "1 row has an amount but no department (7 in total).")]


def test_department_is_filled_down_until_a_total() -> None:
    by = reading(department={"column": "Department", "fill": "down"}, sum=True)
    rows: Rows = [
        ("A", "2026", 5),
        ("", "2026", 6),
        ("A Total", "", 11),
        ("", "2026", 7),
    ]
    result = read(rows, by)
    assert budgets(result) == {"A|2026": 11}
    assert result.skipped == {4: "total"}
    assert errors(result) == [((5,), "1 row has an amount but no department (7 in total).")]


def test_filled_line_equal_to_the_line_above_counts() -> None:
    by = reading(
        department={"column": "Department", "fill": "down"},
        period={"constant": "FY2026"},
        sum=True,
    )
    rows: Rows = [
        ("Department", "Line", "Budget"),
        ("A", "Coal", 100),
        ("", "Iron", 100),
        ("", "Tin", 200),
    ]
    assert budgets(read(rows, by)) == {"A|2026": 400}


def test_filled_line_without_a_text_counts() -> None:
    by = reading(
        department={"column": "Department", "fill": "down"},
        period={"constant": "FY2026"},
        sum=True,
    )
    rows: Rows = [("Department", "Budget"), ("A", 100), ("", 100), ("B", 5)]
    assert budgets(read(rows, by)) == {"A|2026": 200, "B|2026": 5}


def test_filters_skip_keep_and_reject() -> None:
    by = reading(keep=({"column": "Status", "in": ("approved",), "out": ("draft",)},))
    rows: Rows = [
        (*HEADER, "Status"),
        ("A", "2026", 5, " APPROVED"),
        ("B", "2026", 6, "Draft"),
        ("C", "2026", 7, "On ice"),
        ("D", "2026", 8, ""),
        ("Total", "", 5, ""),
    ]
    result = read(rows, by)
    assert budgets(result) == {"A|2026": 5}
    assert result.skipped == {3: "left out by Status", 6: "total"}
    assert errors(result) == [
        (
            (4,),
            "Status is 'On ice', which this reading does not know. Say whether such rows count.",
        ),
        ((5,), "Status is blank, which this reading does not know. Say whether such rows count."),
    ]
    assert result.errors[0].key == ("c", "2026")


# Totals


@pytest.mark.parametrize(
    ("rows", "skipped"),
    [
        (
            [("A", "2026", 5), ("B", "2026", 6), ("Total", "2026", 11), ("Grand Total:", "", 11)],
            {4: "total", 5: "total"},
        ),
        (
            [
                ("A", "2026", 5),
                ("B", "2026", 6),
                ("Works Total", "", 11),
                ("C", "2026", 7),
                ("D Sum", "", 7),
                ("Total", "", 18),
            ],
            {4: "total", 6: "total", 7: "total"},
        ),
        (
            [("A", "2025", 5), ("A", "2026", 6), ("Sum of 2026", "2026", 6), ("B", "2026", 1)],
            {4: "total"},
        ),
        ([("A", "2026", 5), ("B", "2026", 6), ("", "", 11)], {4: "total without a name"}),
        ([("All departments", "2026", 11), ("A", "2026", 5), ("B", "2026", 6)], {2: "total"}),
        (
            [
                ("A", "2026", "0.1"),
                ("B", "2026", "0.2"),
                ("Total care", "2026", 0.30000000000000004),
            ],
            {4: "total"},
        ),
    ],
)
def test_totals_are_skipped_by_word_and_sum(rows: Rows, skipped: dict[int, str]) -> None:
    result = read(rows)
    assert result.skipped == skipped
    assert not result.errors
    assert not result.notes


def test_pure_total_that_is_not_a_sum_is_skipped_with_note() -> None:
    result = read([("A", "2026", 5), ("Total", "2026", 12)])
    assert budgets(result) == {"A|2026": 5}
    assert result.notes == [
        "Row 3 (Total) is called a total but is not the sum of the rows above.",
    ]


def test_total_word_that_is_not_a_sum_is_an_error() -> None:
    rows: Rows = [("A", "2026", 5), ("Total Care", "2026", 12)]
    result = read(rows)
    assert errors(result) == [
        (
            (3,),
            (
                "'Total Care' reads like a total but is not the sum of the rows above. Say whether "
                "it is a department."
            ),
        ),
    ]
    assert result.errors[0].key == ("total care", "2026")
    by = reading(totals={"departments": ("total care",)})
    assert budgets(read(rows, by)) == {"A|2026": 5, "Total Care|2026": 12}


def test_confirmed_subtotal_is_skipped_only_while_it_fits() -> None:
    by = reading(totals={"names": ("public works",)})
    parts: Rows = [("Roads", "2026", 5), ("Bridges", "2026", 6)]
    rows: Rows = [("Public Works", "2026", 11), *parts]
    assert read(rows, by).skipped == {2: "subtotal"}
    rows = [("Public Works", "2026", 12), *parts]
    assert errors(read(rows, by)) == [
        (
            (2,),
            (
                "'Public Works' was a subtotal when this reading was confirmed, but it is no "
                "longer the sum of its rows."
            ),
        ),
    ]


def test_row_without_name_that_is_not_a_sum_is_noted() -> None:
    result = read([("A", "2026", 5), ("", "", 12)])
    assert result.skipped == {3: "no department, period or ID"}
    assert result.notes == [
        "Row 3 has an amount but no department, period or ID. It was left out.",
    ]


def test_budget_that_happens_to_be_a_sum_counts() -> None:
    rows: Rows = [("A", "2026", 1), ("B", "2026", 2), ("C", "2026", 3)]
    assert budgets(read(rows)) == {"A|2026": 1, "B|2026": 2, "C|2026": 3}


# Sections

SECTIONS = reading(department={"column": "@0", "fill": "section"}, period={"constant": "FY2026"})


def sections(*rows: Sequence[Cell]) -> SheetResult:
    return apply(SECTIONS, Grid([("", "Budget"), *rows]), USD)


def test_section_is_one_budget_with_its_total() -> None:
    result = sections(
        ("Office of",),
        ("Tides",),
        ("Wages", 5),
        ("Ink", 6),
        ("Total", 11),
        (),
        ("Clocks",),
        ("Wages", 1),
        ("Total, Clocks", 1),
        ("Grand Total", 12),
        ("Remark",),
        ("Wages", 4),
    )
    assert budgets(result) == {"Office of Tides|2026": 11, "Clocks|2026": 1}
    assert result.skipped == {11: "total", 13: "below the last total"}
    assert not result.errors


def test_section_whose_total_does_not_fit_is_rejected() -> None:
    result = sections(
        ("Beta",),
        ("Wages", 5),
        ("Total", 6),
        ("Gamma",),
        ("Wages", 5),
        ("Delta",),
        ("x", 1),
        ("Total", 1),
    )
    assert budgets(result) == {"Delta|2026": 1}
    assert errors(result) == [
        ((3, 4), "The total of 'Beta' is not the sum of its lines."),
        ((6,), "'Gamma' has no total line below its lines, as the others do."),
    ]


# Names and IDs


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        ("410.0", "410"),
        (410.0, "410"),
        ("'-Ops", "-Ops"),
        ("  North \u00a0 Sea ", "North Sea"),
        ("A\u200bB", "AB"),
    ],
)
def test_department_is_stored_as_written(cell: Cell, name: str) -> None:
    assert budgets(read([(cell, "2026", 5)])) == {f"{name}|2026": 5}


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("4.5E+11", "Department is '4.5E+11', which has lost digits. Format the column as text."),
        (451002000000000000, "Department is '451002000000000000', which has lost digits."),
        ("#N/A", "Department shows #N/A. Repair its formula."),
        (DateCell(1, "1/2/2025"), "Department is '1/2/2025', which the sheet stores as a date"),
        (UncalculatedCell(), "Department is a formula without a stored value."),
        ("A\x07", "Department has control characters"),
        ("x" * 201, "Department is longer than 200 characters. Shorten it."),
    ],
)
def test_unusable_department_is_an_error(cell: Cell, message: str) -> None:
    result = read([(cell, "2026", 5)])
    assert result.errors[0].message.startswith(message)
    assert result.errors[0].department_key is None


@pytest.mark.parametrize("name", ["AST - Astronomy", "AST: Astronomy", "12\u2013Astronomy"])
def test_code_is_stripped(name: str) -> None:
    by = reading(department={"column": "Department", "code": "strip"})
    assert budgets(read([(name, "2026", 5)], by)) == {"Astronomy|2026": 5}


def test_spellings_of_one_department_are_noted() -> None:
    rows: Rows = [("M & E", "2024", 1), ("M&E", "2025", 1), ("m & e", "2026", 1)]
    assert read(rows).notes == ["One department has 3 spellings: M & E, M&E, m & e."]


def test_id_that_occurs_twice_is_one_error_for_all_rows() -> None:
    rows: Rows = [
        (*HEADER, "ID"),
        ("A", "2026", 1, "S-1"),
        ("B", "2026", 2, "S-1"),
        ("C", "2026", 3, "S-2"),
    ]
    result = read(rows, reading(id="ID"))
    assert budgets(result) == {"C|2026": 3}
    assert errors(result) == [((2, 3), "Budget ID 'S-1' is in rows 2, 3.")]
    assert [(each.external_id, each.key) for each in result.errors[0].each()] == [
        ("S-1", ("a", "2026")),
        ("S-1", ("b", "2026")),
    ]


def test_ids_that_lost_their_digits_are_one_error() -> None:
    rows: Rows = [(*HEADER, "ID"), ("A", "2026", 1, "4.5E+11"), ("B", "2026", 2, "4.5E+11")]
    result = read(rows, reading(id="ID"))
    assert errors(result) == [
        ((2, 3), "Budget ID is '4.5E+11', which has lost digits. Format the column as text."),
    ]
    assert result.errors[0].id_unknown


def test_ids_name_lines_if_rows_are_added_up() -> None:
    rows: Rows = [(*HEADER, "ID"), ("A", "2026", 1, "S-1"), ("A", "2026", 2, "S-1")]
    assert budgets(read(rows, reading(id="ID", sum=True))) == {"A|2026": 3}


# The title


@pytest.mark.parametrize(
    ("title", "period", "is_noted"),
    [
        ("Plan FY2026", {"constant": "FY2026"}, False),
        ("Plan FY2027", {"constant": "FY2026"}, True),
        (2027, {"constant": "Q1 2026"}, True),
        ("Plan 2026, with the actuals of 2025", {"constant": "FY2026"}, False),
        ("Plan", {"constant": "FY2026"}, False),
        ("Plan FY2027", {"column": "Period", "year": "2026"}, True),
        ("Plan FY2027", {"column": "Period"}, False),
    ],
)
def test_title_with_another_year_is_noted(
    title: str | int, period: dict[str, str], is_noted: bool
) -> None:
    rows: Rows = [(title,), HEADER, ("A", "Q1 2026", 5)]
    result = apply(reading(period=period), Grid(rows), USD)
    assert len(budgets(result)) == 1
    noted = [note for note in result.notes if "is confirmed for this sheet" in note]
    assert bool(noted) == is_noted
