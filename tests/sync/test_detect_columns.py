"""`detect` finds the header, the columns and their roles, and rejects what is not a budget."""

from __future__ import annotations

import pytest
from support.detection import EURO, JANUARY, JULY, asked, budgets, proposal, question

from budget_sync.sync.reading.detect import detect
from budget_sync.sync.reading.grid import Cell, DateCell, Grid, Merge
from budget_sync.sync.reading.model import PeriodColumn, PeriodHeadings
from budget_sync.sync.reading.result import Customer

HEADER = "Department,FY,Budget\n"


@pytest.mark.parametrize(
    ("sheet", "heading"),
    [
        ("Department,FY,Budget\nA,2026,5\nB,2026,6\n", "Budget"),
        ("Dept,Year,Amt\nA,2026,5\nB,2026,6\n", "Amt"),
        ("Note\n\n,Department,,FY,Budget\n,A,,2026,5\n,B,,2026,6\n", "Budget"),
        ("Dept Code,Dept Name,FY,Total Budget\n1,A,2026,5\n2,B,2026,6\n", "Total Budget"),
        ("Abteilung;Jahr;Betrag\nA;2026;5\nB;2026;6\n", "Betrag"),
        ("Department\tFY\tBudget\nA\t2026\t5\nB\t2026\t6\n", "Budget"),
        ("sep=|\nDepartment|FY|Budget\nA|2026|5\nB|2026|6\n", "Budget"),
        ("Department,FY,Actual,Budget,Variance\nA,2026,1,5,4\nB,2026,2,6,4\n", "Budget"),
        ("\ufeffDepartment,FY,Budget\r\nA,2026,5\r\nB,2026,6\r\n", "Budget"),
        ("Department,FY,Budget\rA,2026,5\rB,2026,6\r", "Budget"),
    ],
)
def test_plain_layouts_need_no_question(sheet: str, heading: str) -> None:
    found = proposal(sheet)
    assert (asked(found), found.refused) == ([], None)
    assert found.reading is not None
    assert found.reading.amount.columns == (heading,)
    assert budgets(found) == {"A|2026": 5, "B|2026": 6}


def test_title_of_a_code_column_names_the_department() -> None:
    found = proposal("Dept,Department Title,FY,Budget\n07,Stars,2026,5\n09,Ships,2026,6\n")
    assert found.reading is not None
    assert found.reading.department.column == "Department Title"


def test_header_of_two_rows_joins_its_headings() -> None:
    sheet = "Department,Budget 2026,,Note\n,Q1,Q2,\nA,5,6,x\nB,7,8,y\n"
    found = proposal(sheet)
    assert found.reading is not None
    assert found.reading.header.rows == 2
    assert found.reading.amount.columns == ("Budget 2026 / Q1", "Budget 2026 / Q2")
    assert budgets(found)["A|2026-Q2"] == 6


def test_year_column_next_to_whole_periods_is_not_used() -> None:
    found = proposal("Department,Year,Quarter,Budget\nA,2026,Q1 2026,5\nB,2026,Q2 2026,6\n")
    assert found.reading is not None
    assert found.reading.period == PeriodColumn(column="Quarter")


def test_halves_are_sums_of_their_quarters() -> None:
    sheet = "Department,Q1 2026,Q2 2026,H1 2026,FY2026\nA,1,2,3,3\nB,4,5,9,9\n"
    found = proposal(sheet)
    assert found.reading is not None
    assert isinstance(found.reading.period, PeriodHeadings)
    assert set(found.reading.period.headings) == {"Q1 2026", "Q2 2026"}
    assert set(found.reading.period.ignored) == {"H1 2026", "FY2026"}
    assert asked(found) == ["columns"]


def test_two_columns_of_one_year_must_be_chosen() -> None:
    sheet = "Department,2026 (Proposed),2026 (Revised)\nA,1,2\nB,4,5\n"
    found = proposal(sheet)
    assert found.open == ["columns"]
    assert question(found, "columns").default is None
    chosen = proposal(sheet, JANUARY, {"columns": ["2026 (Revised)"]})
    assert budgets(chosen) == {"A|2026": 2, "B|2026": 5}


def test_quarters_of_several_years_in_a_column_are_rejected() -> None:
    found = proposal("Department,Year,Q1,Q2,Q3,Q4\nA,2025,1,2,3,4\nA,2026,5,6,7,8\n")
    assert found.refused is not None
    assert "'Year'" in found.refused


def test_dates_as_headings_are_periods() -> None:
    cells: list[list[Cell]] = [
        ["Department", DateCell(46023, "Jan-26"), DateCell(46054, "Feb-26")],
        ["A", 5, 6],
        ["B", 7, 8],
    ]
    assert budgets(proposal(cells))["B|2026-02"] == 8


def test_merged_departments_are_not_asked() -> None:
    rows: list[list[Cell]] = [
        ["Department", "Line", "FY", "Budget"],
        ["A", "x", 2026, 5],
        [None, "y", 2026, 6],
    ]
    found = detect(Grid(rows, merges=(Merge(1, 0, 2, 0),)), JANUARY)
    assert "fill" not in asked(found)
    assert budgets(found) == {"A|2026": 11}


def test_booleans_are_values_of_a_filter() -> None:
    rows: list[list[Cell]] = [
        ["Department", "FY", "Budget", "Final"],
        ["A", 2026, 5, True],
        ["B", 2026, 6, False],
    ]
    found = proposal(rows, JANUARY, {"keep:Final": ["true"]})
    assert budgets(found) == {"A|2026": 5}


def test_small_numbers_are_not_asked_for_a_unit() -> None:
    rows = "".join(f"D{number},2026,{number * 1000}\n" for number in range(1, 12))
    assert asked(proposal(HEADER + rows)) == []


def test_amounts_that_are_not_round_are_asked_for_a_unit() -> None:
    rows = "".join(f"D{number},2026,{41237 + number * 1373}\n" for number in range(10))
    found = proposal(HEADER + rows)
    assert found.open == ["unit"]
    assert question(found, "unit").proposal is None


def test_grouped_comma_amounts_are_noted() -> None:
    found = proposal(HEADER + 'A,2026,"14,000"\nB,2026,"9,000"\n')
    assert budgets(found) == {"A|2026": 14000, "B|2026": 9000}
    assert any("14,000" in sentence for sentence in found.evidence)


@pytest.mark.parametrize(
    ("amounts", "decimal", "group"),
    [
        (("1.234,56", "12.000"), ",", "."),
        (("1,234.56", "12,000"), ".", ","),
        (("12 500,00", "6 000,50"), ",", " "),
        (("12\u202f500", "6\u202f000"), ",", " "),
        (("5'000.50", "12'300.00"), ".", "'"),
        (("12,5", "7"), ",", "."),
        (("1.234.567", "12.000"), ",", "."),
        (("12,34,567", "100"), ".", ","),
        (("500", "700"), ".", ","),
    ],
)
def test_marks_that_the_amounts_settle(amounts: tuple[str, str], decimal: str, group: str) -> None:
    customer = Customer("INR") if amounts[0] == "12,34,567" else EURO
    found = proposal(f"Department;FY;Budget\nA;2026;{amounts[0]}\nB;2026;{amounts[1]}\n", customer)
    assert asked(found) == []
    assert found.reading is not None
    assert (found.reading.marks.decimal, found.reading.marks.group) == (decimal, group)


@pytest.mark.parametrize(
    ("sheet", "words"),
    [
        (
            "Employee ID,Department,Salary,Hire Date\n1,A,5,2020-01-01\n2,B,6,2020-02-01\n",
            "payroll",
        ),
        ("Invoice No,Vendor,Department,Due Date,Amount\n1,x,A,2026-01-02,5\n", "invoices"),
        ("Merchant,Card,Department,Purchase Date,Amount\nx,1,A,2026-01-02,5\n", "expenses"),
        ("Department,FY,Revenue Source,Amount\nA,2026,Fees,5\nB,2026,Tax,6\n", "revenue"),
        ("Department,FY24 Actual,FY25 Spent\nA,5,6\nB,6,7\n", "no budget column"),
        ("Department,FY,Type,Amount\nA,2026,Revenue,5\nB,2026,Revenue,6\n", "Every row is revenue"),
        ("Country,Year,Score\nFrance,2026,5\nSpain,2026,6\n", "No heading is known"),
        (HEADER + "PARKS TOTAL,2026,5\nFIRE TOTAL,2026,6\n", "Every row is a total"),
        ("Department,Fiscal Year,Budget\nA,x1980,5\nB,x1981,6\n", "are not periods ('x1980'"),
        ("Team,Note\nA,x\nB,y\n", "looks like a header"),
        (
            "Department,Budget,,Department,Budget\nA,5,,A,6\nB,6,,B,7\n",
            "several tables side by side (the heading 'Department' occurs 2 times)",
        ),
        (
            "Office,Year,Amount\nFY17 PLAN,2017,5\nFY18 PLAN,2018,6\nFY19 PLAN,2019,7\nB,2020,8\n",
            "years or versions",
        ),
    ],
)
def test_what_is_not_a_budget_is_rejected(sheet: str, words: str) -> None:
    found = proposal(sheet)
    assert found.reading is None
    assert found.refused is not None
    assert words in found.refused


def test_numbers_instead_of_names_reject_the_sheet() -> None:
    found = proposal("department_id,Year,Budget\n1,2026,50\n2,2026,70\n", JANUARY, {"ids": "no"})
    assert found.refused == "Departments are numbers here. Add a column with their names."


@pytest.mark.parametrize(
    ("values", "settled"),
    [
        (("2011-07", "2011-12"), {"dash": "month"}),
        (("2012-13", "2011-12"), {"dash": "span"}),
        (("T1 2026", "T4 2026"), {"tri": "quarter"}),
        (("13/1/2026", "1/2/2026"), {"mdy": "dmy", "dates": "month"}),
        (("2026-01-01", "2026-02-01"), {"dates": "month"}),
        (("2026-01-01", "Q1 2026"), {"dates": "month"}),
    ],
)
def test_other_values_settle_an_ambiguous_period(
    values: tuple[str, str], settled: dict[str, str]
) -> None:
    found = proposal(f"Department,Period,Budget\nA,{values[0]},5\nB,{values[1]},6\n", JULY)
    assert found.open == []
    assert found.reading is not None
    assert found.reading.to_json()["period"] == {"column": "Period", **settled}


def test_period_columns_are_found_by_their_values() -> None:
    found = proposal("Department,Cycle,Budget\nA,Q1 2026,5\nB,Q2 2026,6\n")
    assert found.reading is not None
    assert found.reading.period == PeriodColumn(column="Cycle")


def test_column_of_change_dates_is_not_the_period() -> None:
    found = proposal("Department,Updated On,Budget\nA,2026-01-01,5\nB,2026-02-01,6\n")
    assert found.open == ["period"]
