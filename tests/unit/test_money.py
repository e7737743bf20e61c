"""Exact money: conversions keep every digit, and invalid amounts are errors."""

from __future__ import annotations

import json
import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_sync.domain.money import (
    LIMIT_MINOR,
    MAX_EXPONENT,
    MoneyError,
    currency_exponent,
    format_money,
    require_plausible,
    rescaled,
    to_minor,
    to_number,
    to_text,
)
from budget_sync.domain.results import dumps

EXPONENTS = st.integers(0, MAX_EXPONENT)
AMOUNTS_MINOR = st.integers(0, LIMIT_MINOR - 1)
BALANCES_MINOR = st.integers(1 - LIMIT_MINOR, LIMIT_MINOR - 1)
CURRENCIES = ("USD", "EUR", "JPY", "KWD", "CLF", "CHF")


@pytest.mark.parametrize(
    ("currency", "decimals"),
    [("USD", 2), ("EUR", 2), ("JPY", 0), ("KRW", 0), ("KWD", 3), ("BHD", 3), ("CLF", 4)],
)
def test_number_of_decimals_of_a_currency(currency: str, decimals: int) -> None:
    assert currency_exponent(currency) == decimals


@pytest.mark.parametrize("text", ["", "US", "usd", "USDX", "QQQ", "$", "U D", "ÜSD"])
def test_unknown_currency_is_an_error(text: str) -> None:
    with pytest.raises(MoneyError, match="is not a currency code"):
        currency_exponent(text)


@pytest.mark.parametrize(
    ("amount", "exponent", "minor"),
    [
        (5000, 2, 500_000),
        (Decimal("99.5"), 2, 9_950),
        (Decimal("99.50"), 2, 9_950),
        (Decimal("0.01"), 2, 1),
        (Decimal("10.99"), 2, 1_099),
        (Decimal("1E+3"), 2, 100_000),
        (Decimal("5000.000"), 0, 5_000),
        (Decimal("0.001"), 3, 1),
        # More trailing zeros than the precision of Decimal's context.
        (Decimal("9999999999999.99" + "0" * 40), 2, 10**15 - 1),
        (Decimal("0.0001"), 4, 1),
        (0, 2, 0),
    ],
)
def test_amount_to_minor_units(amount: int | Decimal, exponent: int, minor: int) -> None:
    assert to_minor(amount, exponent) == minor


@pytest.mark.parametrize(
    ("amount", "exponent", "problem"),
    [
        (Decimal("0.001"), 2, "at most 2 decimals"),
        (Decimal("10.999"), 2, "at most 2 decimals"),
        (Decimal("0.5"), 0, "a whole number"),
        (Decimal("1E-400"), 2, "at most 2 decimals"),
        # One digit beyond the precision of Decimal's context: it must not be rounded to fit.
        (Decimal("1.0000000000000000000000000000000000000000001"), 2, "at most 2 decimals"),
        (-1, 2, "not be negative"),
        (Decimal("-0.01"), 2, "not be negative"),
        (Decimal("NaN"), 2, "finite"),
        (Decimal("sNaN"), 2, "finite"),
        (Decimal("Infinity"), 2, "finite"),
        (Decimal("-Infinity"), 2, "finite"),
        (Decimal("1E+400"), 2, "below 10,000,000,000,000"),
        pytest.param(10**5000, 0, "below 1,000,000,000,000,000", id="5001 digits"),
    ],
)
def test_invalid_amount_is_an_error(amount: int | Decimal, exponent: int, problem: str) -> None:
    with pytest.raises(MoneyError, match=problem):
        to_minor(amount, exponent)


def test_amount_is_plausible_if_valid_in_any_currency() -> None:
    for amount in (LIMIT_MINOR - 1, Decimal("0.0001"), Decimal("99999999999.9999")):
        require_plausible(amount)
    for amount in (LIMIT_MINOR, Decimal("0.00001"), -1, Decimal("NaN"), Decimal("Infinity")):
        with pytest.raises(MoneyError):
            require_plausible(amount)


@given(AMOUNTS_MINOR, EXPONENTS)
def test_minor_units_survive_a_round_trip(minor: int, exponent: int) -> None:
    assert to_minor(to_number(minor, exponent), exponent) == minor
    assert to_minor(Decimal(to_text(minor, exponent)), exponent) == minor


@given(EXPONENTS)
def test_largest_amount_is_one_minor_unit_below_the_limit(exponent: int) -> None:
    assert to_minor(Decimal(LIMIT_MINOR - 1).scaleb(-exponent), exponent) == LIMIT_MINOR - 1
    with pytest.raises(MoneyError, match="must be below"):
        to_minor(Decimal(LIMIT_MINOR).scaleb(-exponent), exponent)


@given(AMOUNTS_MINOR, EXPONENTS, st.integers(1, 10**6 - 1), st.integers(6, 40))
def test_extra_decimals_are_never_rounded_away(
    minor: int, exponent: int, rest: int, places: int
) -> None:
    amount = Decimal(f"{minor}.{rest:0{places}d}")
    sign, digits, scale = amount.as_tuple()
    assert isinstance(scale, int)
    with pytest.raises(MoneyError):
        to_minor(Decimal((sign, digits, scale - exponent)), exponent)


@given(BALANCES_MINOR, EXPONENTS)
def test_number_is_an_int_if_it_is_whole(minor: int, exponent: int) -> None:
    number = to_number(minor, exponent)
    assert number * 10**exponent == minor
    assert isinstance(number, int) == (minor % 10**exponent == 0)


@given(BALANCES_MINOR, EXPONENTS)
def test_json_has_no_extra_or_missing_digits(minor: int, exponent: int) -> None:
    text = dumps(to_number(minor, exponent))
    assert re.fullmatch(r"-?(0|[1-9]\d*)(\.\d*[1-9])?", text)
    assert text == to_text(minor, exponent)
    assert json.loads(text, parse_float=Decimal) * 10**exponent == minor


@pytest.mark.parametrize(
    ("minor", "currency", "exponent", "text"),
    [
        (200_000, "USD", 2, "$2,000"),
        (500_000, "USD", 2, "$5,000"),
        (9_950, "USD", 2, "$99.50"),
        (1, "USD", 2, "$0.01"),
        (0, "USD", 2, "$0"),
        (-1_000_000, "USD", 2, "-$10,000"),
        (-1, "USD", 2, "-$0.01"),
        (500_000, "JPY", 0, "¥500,000"),
        (123_450, "EUR", 2, "€1,234.50"),
        (1_500, "KWD", 3, "KWD1.500"),
        (10**15 - 1, "USD", 2, "$9,999,999,999,999.99"),
        # Another exponent than the currency has today.
        (5_000, "JPY", 2, "¥50"),
        (5_050, "JPY", 2, "¥50.50"),
        (5_050, "USD", 0, "$5,050"),
    ],
)
def test_money_for_people(minor: int, currency: str, exponent: int, text: str) -> None:
    assert format_money(minor, currency, exponent) == text


@given(BALANCES_MINOR, st.sampled_from(CURRENCIES), EXPONENTS)
def test_money_for_people_keeps_every_digit(minor: int, currency: str, exponent: int) -> None:
    digits = re.sub(r"[^0-9.-]", "", format_money(minor, currency, exponent))
    assert Decimal(digits).scaleb(exponent) == minor


def test_rescaled_amount_is_equal_or_rounded_down() -> None:
    assert [rescaled(12_345, 2, exponent) for exponent in (0, 1, 2, 3, 4)] == [
        123,
        1_234,
        12_345,
        123_450,
        1_234_500,
    ]
