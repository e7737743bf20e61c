"""Exact money without floats: minor units (int), whole currency units (Decimal), and "$5,000".

A minor unit is the smallest unit of a currency (cents for USD). Its exponent is the number of
decimals: USD 2, JPY 0, KWD 3.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

from babel.core import UnknownLocaleError
from babel.numbers import (
    UnknownCurrencyError,
    format_currency,
    get_currency_precision,
    get_decimal_symbol,
    get_group_symbol,
    validate_currency,
)

#: Amounts are below this many minor units: 15 digits, which every JSON parser reads exactly.
LIMIT_MINOR = 10**15

#: No currency has more decimals than this (CLF and UYW have four).
MAX_EXPONENT = 4

_CODE_LENGTH = 3


class MoneyError(ValueError):
    """An invalid amount or currency; the text says what is wrong with it."""


@lru_cache(maxsize=256)
def currency_exponent(currency: str) -> int:
    """The number of decimals of an ISO 4217 currency, from CLDR: USD 2, JPY 0, KWD 3.

    Raises MoneyError for an unknown currency.
    """
    try:
        # Babel compares with a new set of all codes each time.
        if len(currency) != _CODE_LENGTH:
            raise UnknownCurrencyError(currency)
        validate_currency(currency)
    except UnknownCurrencyError:
        raise MoneyError(f"{currency!r} is not a currency code such as USD or EUR") from None
    return get_currency_precision(currency)


def locale_marks(locale: str) -> tuple[str, str]:
    """The decimal mark and the mark between groups of a locale such as de_DE: ("," and ".").

    Groups have a dot, a comma, a space or an apostrophe, in one spelling each. A locale with other
    marks, and one that is not known, has those of English.
    """
    try:
        decimal, group = get_decimal_symbol(locale), get_group_symbol(locale)
    except (UnknownLocaleError, ValueError):
        return ".", ","
    group = " " if group.isspace() else group.replace("\u2019", "'")
    if decimal not in (".", ",") or group not in (".", ",", " ", "'") or decimal == group:
        return ".", ","
    return decimal, group


def require_plausible(amount: int | Decimal) -> None:
    """Check an amount whose currency is not known yet.

    Raises MoneyError if it is not finite, negative, too large, or has too many decimals for every
    currency.
    """
    _require(Decimal(amount), LIMIT_MINOR, MAX_EXPONENT)


def to_minor(amount: int | Decimal, exponent: int) -> int:
    """An amount in whole units as minor units.

    Raises MoneyError if it is negative, too large, or has too many decimals.
    """
    whole_units = Decimal(amount)
    _require(whole_units, LIMIT_MINOR // 10**exponent, exponent)
    return int(whole_units.scaleb(exponent))


def _require(amount: Decimal, limit: int, decimals: int) -> None:
    if not amount.is_finite():
        raise MoneyError("must be a finite number")
    if amount < 0:
        raise MoneyError("must not be negative")
    # Check the size first: Decimal's arithmetic is exact only for numbers that fit its context.
    if amount >= limit:
        raise MoneyError(f"must be below {limit:,}")
    if amount.quantize(Decimal(1).scaleb(-decimals)) != amount:
        raise MoneyError(
            f"must have at most {decimals} decimals in its currency"
            if decimals
            else "must be a whole number in its currency"
        )


def to_number(minor: int, exponent: int) -> int | Decimal:
    """Minor units as a JSON number in whole units: 5000 (an int, not 5000.0), Decimal("99.5")."""
    whole, rest = divmod(minor, 10**exponent)
    return whole if rest == 0 else Decimal(minor).scaleb(-exponent).normalize()


def to_text(minor: int, exponent: int) -> str:
    """Minor units as text in whole units, as the audit log writes them: "5000", "99.5"."""
    return str(to_number(minor, exponent))


def rescaled(minor: int, exponent: int, new_exponent: int) -> int:
    """An amount's minor units at another exponent, rounded down if that has fewer decimals."""
    scaled: int = minor * 10**new_exponent // 10**exponent
    return scaled


def format_money(minor: int, currency: str, exponent: int) -> str:
    """Minor units as text for people: "$2,000", "$99.50", "-$10"."""
    decimals = 0 if minor % 10**exponent == 0 else exponent
    number = Decimal(minor).scaleb(-exponent)
    return str(
        format_currency(
            number,
            currency,
            locale="en_US",
            format=f"¤#,##0.{'0' * decimals}",
            currency_digits=False,
        )
    )
