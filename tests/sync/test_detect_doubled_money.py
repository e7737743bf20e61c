"""Layouts in which money would count twice, or revenue as a budget."""

from __future__ import annotations

import pytest
from support.detection import EURO, JANUARY, asked, budgets, proposal, question

from budget_sync.sync.reading.grid import Cell
from budget_sync.sync.reading.model import PeriodColumn, PeriodHeadings


def lines(heading: str, values: tuple[str, ...]) -> str:
    """A sheet of four lines per value; `heading` is that of the column with the values."""
    rows = [
        f"{department},2026,{value},{account},{amount}"
        for department in ("Harbor", "Orchard")
        for value in values
        for account, amount in (("Ropes", 40), ("Nets", 2))
    ]
    return "\n".join([f"Department,FY,{heading},Account,Budget", *rows, ""])


@pytest.mark.parametrize(
    ("heading", "values", "default"),
    [
        ("Kind", ("Ord. Erträge", "Ord. Aufwendungen"), ("ord. aufwendungen",)),
        ("Kind", ("Operating Revenues", "Operating Expenses"), ("operating expenses",)),
        ("Typ", ("Ertrag", "Aufwendung"), ("aufwendung",)),
        ("Art", ("Einzahlungen", "Auszahlungen"), ("auszahlungen",)),
        ("Art", ("Erlöse", "Kosten"), ("kosten",)),
        ("Tipo", ("Receitas", "Despesas"), ("despesas",)),
        ("Kind", ("Service revenue", "Personnel expense", "Office expense"), None),
        ("Einnahme/Ausgabe", ("1", "2x"), None),
        ("E/A", ("E", "A"), None),
    ],
)
def test_revenue_among_the_lines_is_asked(
    heading: str, values: tuple[str, ...], default: tuple[str, ...] | None
) -> None:
    found = question(proposal(lines(heading, values), EURO), f"keep:{heading}")
    assert found.default == default


def test_expense_lines_are_kept_by_default() -> None:
    found = proposal(lines("Kind", ("Sacherträge", "Sachaufwendungen")), EURO)
    assert question(found, "keep:Kind").default == ("sachaufwendungen",)
    found = proposal(lines("Kind", ("Lfd. Ertrag", "Lfd. Aufwand")), EURO)
    assert budgets(found) == {"Harbor|2026": 42, "Orchard|2026": 42}


def test_funds_are_no_sides_of_a_budget() -> None:
    assert asked(proposal(lines("Fund", ("Special Revenue", "Current Expense")))) == ["sum"]


def test_plain_words_come_before_phrases() -> None:
    rows = [
        "Harbor,2026,Berth income,Income,90",
        "Harbor,2026,Rope expense,Expense,40",
        "Orchard,2026,Apple income,Income,80",
        "Orchard,2026,Ladder expense,Expense,30",
    ]
    found = proposal("\n".join(["Department,FY,Account,Side,Budget", *rows, ""]))
    assert asked(found) == ["keep:Side"]


@pytest.mark.parametrize(
    ("values", "default"),
    [
        (("Ansatz", "Ergebnis"), ("ansatz",)),
        (("Ansatz", "Planung", "Ergebnis"), None),
        (("Soll", "Ist"), ("soll",)),
        (("Original", "Revised", "Actual"), None),
        (("Plan", "Ist", "Ziel A", "Ziel B", "Ziel C"), ("plan",)),
    ],
)
def test_scenario_among_the_lines_is_asked(
    values: tuple[str, ...], default: tuple[str, ...] | None
) -> None:
    found = question(proposal(lines("Stand", values), EURO), "keep:Stand")
    assert found.default == default


def test_two_names_of_a_plan_in_different_years_count() -> None:
    rows = [
        f"Harbor,{year},{word},{year - 2000}" for year, word in ((2025, "Soll"), (2026, "Plan"))
    ]
    rows += [row.replace("Harbor", "Orchard") for row in rows]
    found = proposal("\n".join(["Department,FY,Stand,Budget", *rows, ""]))
    assert (asked(found), len(budgets(found))) == ([], 4)


SUBTOTALS = """Department,FY,Account,Budget
Harbor,2026,Rope,300
Harbor,2026,Net,200
Harbor,2026,Gear - Total*,500
Harbor,2026,Fuel,70
Harbor,2026,Travel - Total*,70
Harbor,2026,Harbor Total*,570
Orchard,2026,Ladder,40
Orchard,2026,Basket,2
Orchard,2026,Gear - Total*,42
Orchard,2026,Orchard Total*,42
Orchard,2026,Total both,612
"""


def test_totals_among_the_lines_are_left_out() -> None:
    found = proposal(SUBTOTALS)
    assert asked(found) == ["sum"]
    assert budgets(found) == {"Harbor|2026": 570, "Orchard|2026": 42}
    assert found.trial is not None
    assert found.trial.skipped == dict.fromkeys((4, 6, 7, 10, 11, 12), "total")


def test_total_of_lines_that_fits_no_longer_rejects_its_budget() -> None:
    found = proposal(SUBTOTALS.replace("Net,200", "Net,201"))
    assert budgets(found) == {"Orchard|2026": 42}
    assert found.trial is not None
    (error,) = (error for error in found.trial.errors if error.rows == (4,))
    assert error.message == (
        "'Gear - Total*' reads like a total but is not the sum of the rows above. Correct its "
        "amount, or rename it."
    )


def test_account_that_reads_like_a_total_counts_with_a_note() -> None:
    found = proposal(
        "Department,FY,Account,Budget\nHarbor,2026,Rope,300\nHarbor,2026,Total quality,20\n"
        "Orchard,2026,Ladder,40\n"
    )
    assert budgets(found) == {"Harbor|2026": 320, "Orchard|2026": 40}
    assert found.trial is not None
    assert found.trial.notes == ["Row 3 ('Total quality') reads like a total. It was counted."]


SECTIONS: list[list[Cell]] = [
    ["", 2026, 2025],
    ["Harbor"],
    ["Staff", 30, 20],
    ["Other", 12, 11],
    ["TOTAL", 42, 31],
    ["Orchard"],
    ["Staff", 7, 6],
    ["Other", 1, 1],
    ["TOTAL", 8, 7],
    ["Cannery"],
    ["Staff", 5, 5],
    ["Other", 4, 3],
    ["TOTAL", 9, 8],
    ["Whole Island"],
    ["Staff", 42, 31],
    ["Other", 17, 15],
    ["Total Island", 59, 46],
]


def test_section_that_adds_up_all_others_is_a_total() -> None:
    found = proposal(SECTIONS)
    departments = {key.split("|")[0] for key in budgets(found)}
    assert departments == {"Harbor", "Orchard", "Cannery"}
    assert found.trial is not None
    assert found.trial.skipped == dict.fromkeys((15, 16, 17), "total")
    assert (
        "'Whole Island' (row 17) is the sum of all sections above it. It was left out as a total."
        in found.trial.notes
    )


def test_section_with_another_sum_is_a_department() -> None:
    found = proposal([*SECTIONS[:-2], ["Other", 18, 15], ["Total Island", 60, 46]])
    assert "Whole Island|2026" in budgets(found)


PARENTS = """Service,Office,Budget FY26
Coast,,50
,Harbor,30
,Cannery,20
Land,,9
,Orchard,4
,Mill,5
"""


def test_named_rows_that_are_sums_of_the_others_are_the_budgets() -> None:
    found = proposal(PARENTS, JANUARY, {"department": "Service"})
    fill = question(found, "fill")
    assert fill.default == ("no",)
    assert "The rows with a department are the sums of those below them." in fill.text
    assert budgets(found) == {"Coast|2026": 50, "Land|2026": 9}


def test_rows_without_a_department_are_asked_if_they_are_no_parts() -> None:
    found = proposal(PARENTS.replace("Coast,,50", "Coast,,51"), JANUARY, {"department": "Service"})
    assert question(found, "fill").default is None


def test_month_numbers_under_a_month_heading_are_periods() -> None:
    rows = [f"{d},{month},5" for d in ("Harbor", "Orchard") for month in (202601, 202602)]
    found = proposal("\n".join(["Department,month_id,Budget", *rows, ""]))
    assert found.reading is not None
    assert found.reading.period == PeriodColumn(column="month_id")
    assert budgets(found)["Harbor|2026-02"] == 5


def test_text_columns_of_a_year_are_no_new_periods() -> None:
    found = proposal(
        "Department,Plan 2026,Note 2026,Plan 2025,Note 2025\nHarbor,9,new pier,8,old\n"
        "Orchard,5,more trees,4,few\n"
    )
    assert found.reading is not None
    assert isinstance(found.reading.period, PeriodHeadings)
    assert found.reading.period.ignored == ("Note 2026", "Note 2025")
    assert found.trial is not None
    assert found.trial.errors == []


def test_rows_of_a_pivot_table_are_no_header() -> None:
    rows: list[list[Cell]] = [
        ["Sum of Plan", "Fund"],
        ["Row Labels", "1080", "2240", "3300"],
        ["01 - Harbor Department", 2000, "", 65000],
        ["02 - Orchard Department", 930, 65, ""],
        ["03 - Mill Department", 680, "", 12],
        ["04 - Pier", "", "", ""],
        ["05 - Cannery", 144, "", 7],
    ]
    assert proposal(rows).refused is not None


@pytest.mark.parametrize("end", ["\n", "\r\n", " \n"])
def test_spaces_after_a_closing_quote_are_accepted(end: str) -> None:
    text = f'"Department" ;"FY";"Budget" {end}"Harbor ""A""" ;2026 ;"5,50" {end}"Orchard";2026;"6" '
    found = proposal(text, EURO)
    assert found.refused is None
    assert budgets(found) == {'Harbor "A"|2026': 5.5, "Orchard|2026": 6}


def test_quote_inside_a_quoted_cell_is_rejected() -> None:
    found = proposal('"Department";"FY";"Budget"\n"The "old" pier ";2026;5\n"Orchard";2026;6\n')
    assert found.refused == "The file cannot be split into columns. A quote may not be closed."


def test_text_that_only_begins_like_a_total_is_a_line() -> None:
    found = proposal(
        "Department,FY,Account,Budget\nHarbor,2026,Rope,300\nHarbor,2026,Overall planning,300\n"
        "Orchard,2026,Ladder,40\n"
    )
    assert budgets(found) == {"Harbor|2026": 600, "Orchard|2026": 40}


def test_single_row_equal_to_the_line_above_is_a_line() -> None:
    found = proposal(
        "Department,FY,Account,Budget\nHarbor,2026,Rope,300\nHarbor,2026,Total rewards,300\n"
        "Orchard,2026,Ladder,40\nOrchard,2026,Basket,2\n"
    )
    assert budgets(found) == {"Harbor|2026": 600, "Orchard|2026": 42}
    assert found.trial is not None
    assert found.trial.notes == ["Row 3 ('Total rewards') reads like a total. It was counted."]


def test_totals_of_one_line_each_are_totals() -> None:
    found = proposal(
        "Department,FY,Account,Budget\nHarbor,2026,Rope,300\nHarbor,2026,Total,300\n"
        "Orchard,2026,Ladder,40\nOrchard,2026,Total,40\n"
    )
    assert budgets(found) == {"Harbor|2026": 300, "Orchard|2026": 40}


def test_sign_is_asked_for_the_rows_that_count() -> None:
    found = proposal(
        "Department,FY,Side,Budget\nHarbor,2026,Income,900\nHarbor,2026,Expense,-300\n"
        "Orchard,2026,Income,800\nOrchard,2026,Expense,-40\n",
        JANUARY,
        {"sign": "negate"},
    )
    assert asked(found) == ["keep:Side", "sign"]
    assert budgets(found) == {"Harbor|2026": 300, "Orchard|2026": 40}


def test_row_that_says_total_and_nothing_else_is_no_line() -> None:
    found = proposal(
        "Department,FY,Account,Budget\nHarbor,2026,Rope,300\nOrchard,2026,Ladder,40\n"
        "Orchard,2026,Basket,2\nOrchard,2026,Total,341\n"
    )
    assert budgets(found) == {"Harbor|2026": 300}
    assert found.trial is not None
    assert [error.rows for error in found.trial.errors] == [(3, 4, 5), (5,)]
