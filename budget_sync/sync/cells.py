"""Reads the amount in a cell: a number, or text in the sheet's locale -> minor units. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache

from babel import Locale, UnknownLocaleError
from babel.numbers import (
    NumberFormatError,
    get_currency_symbol,
    get_decimal_symbol,
    get_group_symbol,
    is_currency,
    parse_decimal,
)

from budget_sync.domain.money import LIMIT_MINOR
from budget_sync.sync.limits import MAX_CELL_CHARS, MAX_QUOTED_CHARS, cut, quoted
from budget_sync.sync.reading.grid import DateCell, LongCell

#: A cell of a source: Google's JSON value, with fractions as Decimal and dates as DateCell, or the
#: text in a CSV file. LongCell replaces a text that is too long.
Cell = str | int | float | Decimal | bool | DateCell | LongCell | None

#: Reads the number in a text, in a currency and a locale: the number, or what is wrong with it.
Parse = Callable[[str, str, str], Decimal | str]

# Sheets and Excel: #REF!, #VALUE!, #NAME?, #DIV/0!, #N/A, and other languages' spellings of them.
_FORMULA_ERROR = re.compile(r"#\S*[!?]|#N/A|#NV|#N/D|#ND", re.IGNORECASE)
_LOADING = re.compile(
    r"(?:loading|wird geladen|chargement|cargando|caricamento|carregando)\s*(?:\.\.\.|…)",
    re.IGNORECASE,
)
_SPACES = re.compile(r"[\s\u00a0\u2009\u202f]")
_APOSTROPHES = re.compile("['\u2019]")  # thousands separators in Switzerland
# Neighboring repetitions have no character in common, so a match takes linear time.
_MONEY = re.compile(
    r"(?P<before>[^\d\s.,+\-()'\u2019]*)\s*"
    r"(?P<number>\d[\d.,'\u2019\s]*)(?P<after>[^\d\s.,+\-()'\u2019]*)"
)
_MAX_LOCALE_CHARS = 100
_PLAIN = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,4})?")


class CellError(ValueError):
    """A cell that cannot be used.

    The text follows the column's name in a sentence: what is wrong with the cell and what to do.
    """


def is_blank(cell: Cell) -> bool:
    """Whether a cell is empty or contains only spaces."""
    return cell is None or (isinstance(cell, str) and not cell.strip())


def reject_unfinished(text: str) -> None:
    """Raise CellError if the text is a formula's error, or shows that the sheet is calculating."""
    if _FORMULA_ERROR.fullmatch(text):
        raise CellError(f"shows {cut(text, MAX_QUOTED_CHARS)}: fix its formula")
    if _LOADING.fullmatch(text):
        raise CellError(
            f"shows {text!r}: the sheet had not finished calculating; "
            "the next sync run reads it again"
        )


def without_long_text(cell: Cell) -> Cell:
    """The cell; None or a LongCell if its text, blank or not, is too long to be read."""
    if isinstance(cell, str) and len(cell) > MAX_CELL_CHARS:
        return None if is_blank(cell) else LongCell(len(cell))
    return cell


def amount_minor(cell: Cell, currency: str, exponent: int, locale: str, parse: Parse) -> int:
    """An amount in minor units; `parse` reads the text of a cell. Raises CellError.

    It is rounded half-even, because a formula such as 0.1+0.2 leaves noise below the cent.
    """
    amount = _number(cell, currency, locale, parse)
    if not amount.is_finite():
        raise CellError(f"is {cut(str(amount), MAX_QUOTED_CHARS)}: enter a number")
    limit = LIMIT_MINOR // 10**exponent
    # Check the size first: quantize fails for a number that does not fit Decimal's context.
    if abs(amount) >= limit:
        if amount < 0:
            raise CellError("is negative: enter 0 or more")
        raise CellError(f"is too large: enter less than {limit:,}")
    minor = int(amount.scaleb(exponent).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))
    if minor < 0:
        raise CellError(f"is negative ({cut(f'{amount:f}', MAX_QUOTED_CHARS)}): enter 0 or more")
    if minor >= LIMIT_MINOR:
        raise CellError(f"is too large: enter less than {limit:,}")
    return minor


def _number(cell: Cell, currency: str, locale: str, parse: Parse) -> Decimal:
    if isinstance(cell, bool):
        raise CellError(f"is {str(cell).upper()}: enter a number")
    if isinstance(cell, DateCell | LongCell):
        raise CellError(cell.problem("enter a number, and format the cell as one"))
    if isinstance(cell, int | Decimal):
        return Decimal(cell)
    if isinstance(cell, float):
        return Decimal(repr(cell))
    text = (cell or "").strip()
    if not text:
        raise CellError("is blank: enter an amount, or 0")
    number = parse(text, currency, locale)
    if isinstance(number, str):
        raise CellError(number)
    return number


def parse_amount(text: str, currency: str, locale: str) -> Decimal | str:
    """The number in a text, or what is wrong with it.

    The problem is returned and not raised, because a cache stores no exceptions.
    """
    if _PLAIN.fullmatch(text) and ("." not in text or _symbols(locale)[0] == "."):
        return Decimal(text)
    try:
        reject_unfinished(text)
    except CellError as error:
        return str(error)
    return _parse_marked(text, currency, locale)


def _parse_marked(text: str, currency: str, locale: str) -> Decimal | str:
    """As `parse_amount`, for text that may have a sign, brackets or a currency."""
    negative = text.startswith(("-", "\u2212", "(")) or text.endswith(("-", ")"))
    not_a_number = f"is {quoted(text)}, which is not a number: enter one such as 5000"
    bare = text.strip("-+()\u2212 ")
    money = _MONEY.fullmatch(bare)
    if money is None:
        return not_a_number
    # Spaces inside a number separate its groups, but a line break does not.
    written = money["number"].strip()
    if "\n" in written:
        return not_a_number
    for mark in (money["before"], money["after"]):
        if mark and mark.casefold() not in _marks(currency, locale):
            if _is_currency(mark):
                return (
                    f"is {quoted(text)}, but the row is in {currency}: correct one of them, "
                    "or enter the number without a currency"
                )
            return not_a_number
    try:
        number = parse_decimal(_as_written_in(written, locale), locale=locale, strict=True)
    except (NumberFormatError, ArithmeticError, ValueError):
        decimal, group = _symbols(locale)
        return (
            f"is {quoted(text)}, which is not a number in the sheet's locale {locale} "
            f"(such as 5{group}000{decimal}50): enter it as a number"
        )
    return -number if negative else number


def _as_written_in(number: str, locale: str) -> str:
    """The number with the locale's group separator in place of a typed space or apostrophe."""
    group = _symbols(locale)[1]
    if _SPACES.fullmatch(group):
        return _SPACES.sub(group, number)
    if _APOSTROPHES.fullmatch(group):
        return _APOSTROPHES.sub(group, number)
    return number


@lru_cache(maxsize=64)
def _symbols(locale: str) -> tuple[str, str]:
    """The decimal separator and the thousands separator."""
    return get_decimal_symbol(locale), get_group_symbol(locale)


@lru_cache(maxsize=256)
def _marks(currency: str, locale: str) -> frozenset[str]:
    """The marks of a currency: its code, its sign in the locale and in English, $ for a dollar."""
    marks = {
        currency,
        get_currency_symbol(currency, locale),
        get_currency_symbol(currency, "en_US"),
    }
    if any(mark.endswith("$") for mark in marks):
        marks.add("$")
    return frozenset(mark.casefold() for mark in marks)


def _is_currency(mark: str) -> bool:
    """Whether a mark means any currency: it contains a sign such as the euro's, or is a code."""
    return any(unicodedata.category(character) == "Sc" for character in mark) or is_currency(
        mark.upper()
    )


def known_locale(name: str) -> str | None:
    """The locale in Babel's spelling ("de-DE", "de_DE" and "de" are accepted); None if unknown."""
    if len(name) > _MAX_LOCALE_CHARS:
        return None
    try:
        return str(Locale.parse(name.replace("-", "_")))
    except (UnknownLocaleError, ValueError, TypeError):
        return None
