"""How lines become budgets, and what an error keeps from being deleted."""

from __future__ import annotations

from decimal import Decimal

import pytest
from support.readings import HEADER, USD, Rows, budgets, errors, read, reading

from budget_sync.sync.reading.apply import apply
from budget_sync.sync.reading.grid import DateCell, Grid
from budget_sync.sync.reading.result import Customer, Facts, SheetProblem

NOT_A_NUMBER = "Amount is 'x', which is not a number in this sheet. Enter one such as 5,000.50."

# Amounts, currencies and limits


def test_all_problems_of_a_row_are_named() -> None:
    rows: Rows = [(*HEADER, "Currency"), ("#REF!", "TBD", "abc", "USD"), ("A", "2026", "5", "xx")]
    result = read(rows, reading(currency={"column": "Currency"}))
    assert errors(result) == [
        (
            (2,),
            (
                "Department shows #REF!. Repair its formula. Period 'TBD' is a placeholder. Enter "
                "a period such as Q1 2025. Amount is 'abc', which is not a number in this sheet. "
                "Enter one such as 5,000.50."
            ),
        ),
        ((3,), "Currency is 'xx'. Enter a code such as USD."),
    ]


def test_currency_words_and_blank_currencies() -> None:
    by = reading(currency={"column": "Currency", "words": {"us dollar": "USD"}})
    rows: Rows = [
        (*HEADER, "Currency"),
        ("A", "2026", "$5", "US Dollar"),
        ("B", "2026", "€6", "eur"),
        ("C", "2026", "7", ""),
    ]
    result = read(rows, by, Customer("CAD"))
    assert [row.budget.currency for row in result.rows] == ["USD", "EUR", "CAD"]


def test_unit_and_sign_do_not_apply_to_limits() -> None:
    by = reading(limit="Limit", unit=1000, sign="negate")
    result = read([(*HEADER, "Limit"), ("A", "2026", "-1.5", "20")], by)
    assert (result.rows[0].budget.budgeted_minor, result.rows[0].budget.limit_minor) == (
        150000,
        2000,
    )
    assert result.has_limits


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "A,2026,5,000",
            "The row has more cells than the header. Quote an amount that contains a comma.",
        ),
        ("A,2026,6,000,x", "The row has more cells than the header."),
    ],
)
def test_unquoted_comma_is_an_error(line: str, message: str) -> None:
    result = apply(reading(is_csv=True), f"Department,Period,Budget\n{line}\n".encode(), USD)
    assert result.errors[0].message.startswith(message)
    assert result.errors[0].key == ("a", "2026")
    assert not result.rows


@pytest.mark.parametrize("line", ["A,2026,6,000", "A,2026,6,500", "A,2026,$6,000.50"])
def test_amount_in_two_cells_is_an_error(line: str) -> None:
    text = f"Department,Period,Budget,Remark\nB,2026,5,x\nC,2026,7,y\n{line}\n"
    result = apply(reading(is_csv=True), text.encode(), USD)
    assert budgets(result) == {"B|2026": 5, "C|2026": 7}
    assert "side by side. Quote an amount that contains a comma." in result.errors[0].message


def test_zeros_beside_an_amount_are_a_part_of_it() -> None:
    text = "Department,Period,Budget,Fund\nA,2026,6,000\nB,2026,7,101\nC,2026,8,102\n"
    result = apply(reading(is_csv=True), text.encode(), USD)
    assert budgets(result) == {"B|2026": 7, "C|2026": 8}
    assert [error.rows for error in result.errors] == [(2,)]


def test_cells_beside_the_table_are_noted() -> None:
    result = read([("A", "2026", 5, "seen"), ("B", "2026", 6)])
    assert result.notes == ["1 cell is outside the table, in row 2."]


# Lines to budgets


def test_lines_are_added_before_they_are_rounded() -> None:
    rows: Rows = [("A", "2026", "0.005"), ("a", "FY2026", "0.005"), ("A", "2026", "")]
    result = read(rows, reading(sum=True))
    assert budgets(result) == {"A|2026": Decimal("0.01")}
    assert (result.rows[0].number, result.rows[0].row_count) == (2, 2)
    assert result.facts.blank_amounts == 1


@pytest.mark.parametrize(
    ("is_sum", "rows", "expected"),
    [
        (
            True,
            [("A", "2026", 5), ("A", "2026", "x")],
            [
                (
                    (2, 3),
                    (
                        "A, 2026 is the sum of 2 rows, and 1 of them cannot be read. It is not "
                        "applied until all can be read."
                    ),
                ),
                (
                    (3,),
                    NOT_A_NUMBER,
                ),
            ],
        ),
        (
            False,
            [("A", "2026", 5), ("A", "2026", "x")],
            [
                ((2, 3), "A, 2026 is also in row 3, which cannot be read."),
                (
                    (3,),
                    NOT_A_NUMBER,
                ),
            ],
        ),
        (
            False,
            [("A", "2026", 5), ("A", "FY2026", 5)],
            [
                ((2, 3), "A, 2026 is in rows 2, 3. Keep one, or let this source add such rows up."),
            ],
        ),
        (
            True,
            [("A", "2026", 5), ("A", "2026", -7)],
            [((2, 3), "A, 2026 adds up to -2. A budget is 0 or more.")],
        ),
        (False, [("A", "2026", -7)], [((2,), "A, 2026 is -7. A budget is 0 or more.")]),
        (False, [("A", "2026", "")], [((2,), "Amount is blank. Enter an amount, or 0.")]),
    ],
)
def test_group_that_is_not_applied(
    is_sum: bool,
    rows: Rows,
    expected: list[tuple[tuple[int, ...], str]],
) -> None:
    result = read([*rows, ("B", "2026", 1)], reading(sum=is_sum))
    assert budgets(result) == {"B|2026": 1}
    assert errors(result) == expected
    assert {error.key for error in result.errors} == {("a", "2026")}


def test_lines_in_two_currencies_are_one_error() -> None:
    rows: Rows = [(*HEADER, "Currency"), ("A", "2026", 5, "USD"), ("A", "2026", 6, "GBP")]
    result = read(rows, reading(currency={"column": "Currency"}, sum=True))
    assert errors(result) == [
        ((2, 3), "A, 2026 has rows in GBP and USD. A budget has one currency."),
    ]


def test_blank_amount_of_a_sum_is_an_error_in_an_excel_file() -> None:
    rows: Rows = [("A", "2026", 5), ("A", "2026", None)]
    assert budgets(read(rows, reading(sum=True))) == {"A|2026": 5}
    assert not read(rows, reading(sum=True), is_xlsx=True).rows


def test_bad_cell_of_a_wide_table_rejects_only_its_period() -> None:
    headings = {"Q1": "Q1", "Q2": "Q2", "Q3": "Q3"}
    by = reading(period={"headings": headings, "year": "2026"}, amount={"columns": tuple(headings)})
    result = read([("Department", "Q1", "Q2", "Q3"), ("A", 5, "x", None)], by)
    assert budgets(result) == {"A|2026-Q1": 5}
    assert result.rows[0].budget.period == "Q1 2026"
    assert result.errors[0].key == ("a", "2026-Q2")
    assert result.errors[0].message.startswith("Amount in 'Q2' is 'x', which is not a number")


# What an error blocks


@pytest.mark.parametrize(
    ("before", "blocks"), [((), True), ((2, 2), False), ((2, 1), True), ((3,), False)]
)
def test_more_nameless_rows_than_before_block(before: tuple[int, ...], blocks: bool) -> None:
    rows: Rows = [HEADER, ("A", "2026", 5), ("", "2026", "1,000"), ("", "2026", 500)]
    facts = [Facts(nameless_rows=count) for count in before]
    result = apply(reading(), Grid(rows), USD, before=facts)
    assert errors(result) == [
        ((3, 4), "2 rows have an amount but no department (1,500 in total)."),
    ]
    assert result.errors[0].blocks is blocks
    assert result.facts.nameless_rows == 2


def test_error_knows_what_its_row_means() -> None:
    rows: Rows = [
        (*HEADER, "ID"),
        ("A", "TBD", 5, "S-1"),
        ("", "2026", 5, "S-2"),
        ("B", "2026", 5, DateCell(45, "x")),
    ]
    result = read(rows, reading(id="ID"))
    first, second, third = result.errors
    assert (first.external_id, first.department_key, first.period_key) == ("S-1", "a", None)
    assert (second.external_id, second.department_key, second.period_key) == ("S-2", None, "2026")
    assert (third.external_id, third.id_unknown, third.key) == ("45", True, ("b", "2026"))


def test_sheet_without_rows_that_count_fails() -> None:
    with pytest.raises(SheetProblem, match="No row below the header counts"):
        read([("Total", "", 0)])


def test_result_has_facts_and_hidden_rows() -> None:
    rows: Rows = [("A", "2026", 5), ("B", "2026", 6), ("Total", "", 11)]
    result = read(rows, hidden_rows=frozenset((1, 3, 4)))
    assert result.notes == ["1 hidden row was read."]
    assert result.facts == Facts(rows=3, budgets=2, total={"USD": Decimal(11)})
