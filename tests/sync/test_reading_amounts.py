"""How the amount in a cell is read: the marks, signs and currencies, and what is rejected."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_sync.sync.reading.amounts import (
    AmountReader,
    CellError,
    from_decimal,
    round_minor,
    to_decimal,
)
from budget_sync.sync.reading.grid import Cell, DateCell, PercentCell, UncalculatedCell
from budget_sync.sync.reading.model import Marks

ENGLISH = Marks(decimal=".", group=",")
GERMAN = Marks(decimal=",", group=".")
FRENCH = Marks(decimal=",", group=" ")
SWISS = Marks(decimal=".", group="'")

ACCEPTED: list[tuple[Marks, str, Cell, str]] = [
    (ENGLISH, "USD", "5", "5"),
    (ENGLISH, "USD", "007", "7"),
    (ENGLISH, "USD", "1,234.50", "1234.50"),
    (ENGLISH, "USD", " 12,345,678 ", "12345678"),
    (ENGLISH, "USD", ".5", "0.5"),
    (ENGLISH, "USD", "0.500", "0.5"),
    (ENGLISH, "USD", "1234.567", "1234.567"),
    (ENGLISH, "USD", "12.5000", "12.5"),
    (GERMAN, "EUR", "1.234,56", "1234.56"),
    (GERMAN, "EUR", "12.000", "12000"),
    (FRENCH, "EUR", "12 500,00", "12500"),
    (FRENCH, "EUR", "12\u202f500", "12500"),
    (FRENCH, "EUR", "12\u00a0500 €", "12500"),
    (SWISS, "CHF", "5'000", "5000"),
    (SWISS, "CHF", "5\u2019000.50", "5000.50"),
    (ENGLISH, "INR", "12,34,567", "1234567"),
    (ENGLISH, "BDT", "1,00,000.50", "100000.50"),
    (ENGLISH, "KWD", "12.500", "12.500"),
    # A lone dash is 0.
    (ENGLISH, "USD", "-", "0"),
    (ENGLISH, "USD", " $ -   ", "0"),
    (ENGLISH, "USD", "\u2013", "0"),
    (ENGLISH, "USD", "USD -", "0"),
    (ENGLISH, "EUR", "- €", "0"),
    # Negative amounts.
    (ENGLISH, "USD", "(5)", "-5"),
    (ENGLISH, "USD", "$(5)", "-5"),
    (ENGLISH, "USD", "($5)", "-5"),
    (ENGLISH, "USD", "$ (5)", "-5"),
    (ENGLISH, "USD", "-$5", "-5"),
    (ENGLISH, "USD", "$-5", "-5"),
    (ENGLISH, "USD", "5-", "-5"),
    (ENGLISH, "USD", "\u22125", "-5"),
    (ENGLISH, "USD", "(1,234.50)", "-1234.50"),
    # No cents.
    (SWISS, "CHF", "5'000.-", "5000"),
    (SWISS, "CHF", "CHF 5'000.\u2014", "5000"),
    (GERMAN, "EUR", "5.000,-", "5000"),
    (GERMAN, "EUR", "5.000,-- €", "5000"),
    # Signs and codes of the row's currency.
    (ENGLISH, "USD", "US$5", "5"),
    (ENGLISH, "USD", "US-$ 5", "5"),
    (ENGLISH, "USD", "USD $5", "5"),
    (ENGLISH, "USD", "5 USD", "5"),
    (ENGLISH, "USD", "5 dollars", "5"),
    (ENGLISH, "CAD", "C$5", "5"),
    (ENGLISH, "INR", "Rs 5", "5"),
    (ENGLISH, "INR", "Rs.5", "5"),
    (ENGLISH, "SEK", "5 kr", "5"),
    (ENGLISH, "CNY", "¥5", "5"),
    (ENGLISH, "MXN", "$5", "5"),
    # The noise of a formula, and digits of other scripts.
    (ENGLISH, "USD", "-2.91038E-11", "-0.0000000000291038"),
    (ENGLISH, "USD", "\uff11\uff12\uff13", "123"),
    (ENGLISH, "USD", "\u0661\u0662\u0660\u0660", "1200"),
    (ENGLISH, "USD", "\u0661\u066c\u0662\u0660\u0660\u066b\u0665\u0660", "1200.50"),
    # Number cells.
    (ENGLISH, "USD", 5, "5"),
    (ENGLISH, "USD", 5.25, "5.25"),
    (ENGLISH, "USD", Decimal("1E-400"), "0"),
]

REJECTED: list[tuple[Marks, str, Cell, str]] = [
    (ENGLISH, "USD", "", "is blank. Enter an amount, or 0."),
    (ENGLISH, "USD", None, "is blank. Enter an amount, or 0."),
    (ENGLISH, "USD", "50%", "is '50%', a percentage. Enter the amount."),
    (ENGLISH, "USD", PercentCell(0.5), "is '50%', a percentage. Enter the amount."),
    (ENGLISH, "USD", "5k", "is '5k'. Write the number out."),
    (ENGLISH, "USD", "$5 M", "is '$5 M'. Write the number out."),
    (ENGLISH, "INR", "5 lakh", "is '5 lakh'. Write the number out."),
    (GERMAN, "EUR", "5 Mio. €", "is '5 Mio. €'. Write the number out."),
    (GERMAN, "EUR", "5 T\u20ac", "is '5 T€'. Write the number out."),
    (
        ENGLISH,
        "USD",
        "1.5E+5",
        "is '1.5E+5', which has lost digits. Format the column as a number.",
    ),
    (
        ENGLISH,
        "USD",
        DateCell(46025, "2026-01-03"),
        "is '2026-01-03', which the sheet stores as a date. Enter a number.",
    ),
    (ENGLISH, "USD", "true", "is TRUE. Enter a number."),
    (ENGLISH, "USD", True, "is TRUE. Enter a number."),
    (ENGLISH, "USD", "#REF!", "shows #REF!. Repair its formula."),
    (ENGLISH, "USD", "#¿NOMBRE?", "shows #¿NOMBRE?. Repair its formula."),
    (ENGLISH, "USD", "Loading...", "shows 'Loading...'. The sheet had not finished calculating."),
    (ENGLISH, "USD", UncalculatedCell(), "is a formula without a stored value."),
    (
        ENGLISH,
        "USD",
        "12.500",
        "is '12.500': 12500, or 12 and a fraction? Write it without the mark",
    ),
    (ENGLISH, "USD", "$1,234.567", "is '$1,234.567': 1234567, or 1234 and a fraction?"),
    (ENGLISH, "JPY", "12.500", "is '12.500': 12500, or 12 and a fraction?"),
    (GERMAN, "EUR", "14,000", "is '14,000': 14000, or 14 and a fraction?"),
    (
        ENGLISH,
        "USD",
        "€900",
        "is '€900', but the row is in USD. Use the same currency in both.",
    ),
    (ENGLISH, "USD", "C$5", "is 'C$5', but the row is in USD."),
    (ENGLISH, "CHF", "$5", "is '$5', but the row is in CHF."),
    (
        ENGLISH,
        "USD",
        "abc",
        "is 'abc', which is not a number in this sheet. Enter one such as 5,000.50.",
    ),
    (
        GERMAN,
        "EUR",
        "abc",
        "is 'abc', which is not a number in this sheet. Enter one such as 5.000,50.",
    ),
    (ENGLISH, "USD", "1,23,456", "is '1,23,456', which is not a number"),
    (ENGLISH, "USD", "0,500", "is '0,500', which is not a number"),
    (ENGLISH, "USD", "5.", "is '5.', which is not a number"),
    (ENGLISH, "USD", "(5", "is '(5', which is not a number"),
    (ENGLISH, "USD", "--5", "is '--5', which is not a number"),
    (ENGLISH, "USD", "5\u00b2", "is '5²', which is not a number"),
    (ENGLISH, "USD", "12\n500", r"is '12\n500', which is not a number"),
    (ENGLISH, "USD", "2026-01-03", "is '2026-01-03', which is not a number"),
    (ENGLISH, "USD", "9" * 30, "is too large. Enter less than 10,000,000,000,000."),
    (ENGLISH, "USD", 10**13, "is too large. Enter less than 10,000,000,000,000."),
    (ENGLISH, "USD", 1e300, "is too large."),
    (ENGLISH, "USD", float("nan"), "is NaN. Enter a number."),
    (ENGLISH, "USD", "x" * 2000, "has 2,000 characters: shorten it to at most 1,000 characters"),
]


@pytest.mark.parametrize(("marks", "currency", "cell", "amount"), ACCEPTED)
def test_amount_is_read_exactly(marks: Marks, currency: str, cell: Cell, amount: str) -> None:
    assert AmountReader(marks).read(cell, currency) == Decimal(amount)


@pytest.mark.parametrize(("marks", "currency", "cell", "message"), REJECTED)
def test_other_cells_are_rejected(marks: Marks, currency: str, cell: Cell, message: str) -> None:
    with pytest.raises(CellError) as error:
        AmountReader(marks).read(cell, currency)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("marks", [ENGLISH, GERMAN, FRENCH, SWISS])
@given(cents=st.integers(-(10**14), 10**14))
def test_number_with_groups_and_two_decimals_is_read(marks: Marks, cents: int) -> None:
    text = f"{Decimal(cents).scaleb(-2):,.2f}"
    written = text.translate({ord(","): marks.group, ord("."): marks.decimal})
    assert AmountReader(marks).read(written, "USD") == Decimal(cents).scaleb(-2)


@given(number=st.decimals(-(10**12), 10**12, allow_nan=False, places=6))
def test_scaled_amount_is_exact(number: Decimal) -> None:
    assert to_decimal(from_decimal(number)) == number


@given(text=st.text(max_size=30))
def test_any_text_is_an_amount_or_an_error(text: str) -> None:
    found: Decimal | str
    try:
        found = AmountReader(ENGLISH).read(text, "USD")
    except CellError as error:
        found = str(error)
    assert found.is_finite() if isinstance(found, Decimal) else found.endswith(".")


@pytest.mark.parametrize(
    ("amount", "minor"), [("0.125", 12), ("0.135", 14), ("-0.125", -12), ("2.675", 268)]
)
def test_amounts_are_rounded_half_even(amount: str, minor: int) -> None:
    assert round_minor(from_decimal(Decimal(amount)), 2) == minor
