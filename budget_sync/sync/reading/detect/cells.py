"""Cells as texts and numbers, for the profile of a sheet. Pure."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from functools import lru_cache

from budget_sync.domain.money import MoneyError, currency_exponent
from budget_sync.sync.limits import MAX_CELL_CHARS
from budget_sync.sync.reading.grid import (
    Cell,
    DateCell,
    LongCell,
    PercentCell,
    UncalculatedCell,
)

#: A longer text is not read as a number.
MAX_NUMBER_CHARS = 60

#: The signs of currencies, as in CURRENCY_WORDS.
SIGNS = "$€£¥₹₪"

_SPACES = " \t\u00a0\u2007\u2009\u202f"
_MINUS = "-\u2212\u2010\u2011\u2012\u2013\u2014"
_AROUND = _SPACES + _MINUS + SIGNS + "+()%"
_CORE = re.compile(
    r"(?:[0-9]+(?:[.,'\u2019 \u00a0\u2007\u2009\u202f][0-9]+)*|[.,][0-9]+)(?:[eE][-+]?[0-9]+)?"
)
_DOTTED_DATE = re.compile(r"[0-9]{1,2}\.[0-9]{1,2}\.(?:[0-9]{4}|[0-9]{2})")
_CODE_BEFORE = re.compile(
    r"(US|C|A|NZ|HK|S|R|MX)?([$€£¥₹₪])|([A-Z]{3})(?![A-Za-z])|(Rs\.?|Fr\.?|kr\.?|SFr\.?)(?![A-Za-z])"
)
_CODE_AFTER = re.compile(r"([A-Z]{3}|kr\.?|Rs\.?|Fr\.?|SFr\.?)$")
_YEAR = re.compile(r"(?:19|20)[0-9]{2}(?:\.0+)?")
_DASH = re.compile(r"(?:[A-Z]{3}|US|C|A)?[$€£¥₹₪]?-+[$€£¥₹₪]?(?:[A-Z]{3})?")

#: The codes of the currency signs that name a country.
_COUNTRY_DOLLARS = {
    "US": "USD",
    "C": "CAD",
    "A": "AUD",
    "NZ": "NZD",
    "HK": "HKD",
    "S": "SGD",
    "R": "BRL",
    "MX": "MXN",
}
_SIGN_CODES = {"$": "$", "€": "EUR", "£": "GBP", "¥": "¥", "₹": "INR", "₪": "ILS"}
_WORD_CODES = {"rs": "INR", "fr": "CHF", "sfr": "CHF", "kr": "kr"}


def text_of(cell: Cell) -> str:
    """A cell as a trimmed text, at most as long as a cell may be; blank for an empty cell."""
    if isinstance(cell, str):
        return cell[:MAX_CELL_CHARS].strip()
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell).upper()
    return _special_text(cell) if isinstance(cell, _Special) else number_text(cell)


_Special = DateCell | PercentCell | LongCell | UncalculatedCell


def _special_text(cell: _Special) -> str:
    if isinstance(cell, DateCell):
        return (cell.shown or "")[:MAX_CELL_CHARS].strip()
    if isinstance(cell, PercentCell):
        return f"{Decimal(str(cell.number)) * 100:f}%"
    return "…" if isinstance(cell, LongCell) else "#?"


def number_text(number: float | Decimal) -> str:
    """A number cell as a text: 2026.0 is "2026"."""
    if isinstance(number, int):
        return str(number)
    exact = Decimal(str(number))
    if not exact.is_finite():
        return str(number)
    if exact == exact.to_integral_value() and abs(exact) < Decimal(10) ** 15:
        return str(int(exact))
    return str(exact)


def is_number_cell(cell: Cell) -> bool:
    """Whether a cell is a number and not a text; a date is not."""
    return isinstance(cell, int | float | Decimal) and not isinstance(cell, bool)


def is_numeric(cell: Cell) -> bool:
    """Whether a cell is a number, or a text of digits with marks, a sign and a currency."""
    if isinstance(cell, str):
        return is_numeric_text(cell)
    return is_number_cell(cell) or isinstance(cell, PercentCell)


def is_numeric_text(text: str) -> bool:
    """The same for a text."""
    if len(text) > MAX_NUMBER_CHARS:
        return False
    return text.isdecimal() or (bool(text) and core_of(text) is not None)


def ascii_digits(text: str) -> str:
    """A text with its digits of any script as 0 to 9, and Arabic marks as "." and ","."""
    if text.isascii():
        return text
    found = unicodedata.normalize("NFKC", text).replace("\u066b", ".").replace("\u066c", ",")
    return "".join(
        str(unicodedata.decimal(letter)) if letter.isdecimal() else letter for letter in found
    )


@lru_cache(maxsize=8192)
def _core(text: str) -> str | None:
    rest = _without_currency(ascii_digits(text).strip(_AROUND)).strip(_AROUND)
    if rest and not rest[-1].isdecimal():
        rest = rest.rstrip(".,")
    if not _CORE.fullmatch(rest) or _DOTTED_DATE.fullmatch(rest):
        return None
    return rest


def core_of(text: str) -> str | None:
    """The digits and marks of a number, without signs, brackets and currency.

    None for another text.

    "$(1,234.50)" has "1,234.50".
    """
    return _core(text) if len(text) <= MAX_NUMBER_CHARS else None


def _without_currency(text: str) -> str:
    match = _CODE_BEFORE.match(text)
    if match and (match[3] is None or is_code(match[3])) and not _is_glued_code(text, match):
        text = text[match.end() :].lstrip(_AROUND)
    match = _CODE_AFTER.search(text)
    if match and (len(match[1]) != 3 or match[1].endswith(".") or is_code(match[1])):
        text = text[: match.start()]
    return text


def _is_glued_code(text: str, match: re.Match[str]) -> bool:
    """Whether a dash joins a code and digits: "CHF-01" is a name, "CHF 01" is an amount."""
    return match[3] is not None and text[match.end() : match.end() + 1] in tuple(_MINUS)


@lru_cache(maxsize=512)
def is_code(text: str) -> bool:
    """Whether a text is an ISO 4217 code in capitals."""
    if len(text) != 3 or not text.isascii() or not text.isupper():
        return False
    try:
        currency_exponent(text)
    except MoneyError:
        return False
    return True


def currency_of(text: str) -> str | None:
    """The code of the currency that is written with an amount; "$", "¥" or "kr" if several fit."""
    if len(text) > MAX_NUMBER_CHARS or text.isdecimal():
        return None
    rest = text.strip(_SPACES + _MINUS + "+()%")
    return _currency_before(rest, text) or _currency_after(rest, text)


def _currency_before(rest: str, text: str) -> str | None:
    match = _CODE_BEFORE.match(rest)
    if match is None:
        return None
    if match[2]:
        return _COUNTRY_DOLLARS.get(match[1] or "", _SIGN_CODES[match[2]])
    if match[3]:
        return match[3] if is_code(match[3]) and core_of(text) else None
    return _WORD_CODES[match[4].lower().rstrip(".")] if core_of(text) else None


def _currency_after(rest: str, text: str) -> str | None:
    if rest and rest[-1] in SIGNS:
        return _SIGN_CODES[rest[-1]]
    match = _CODE_AFTER.search(rest)
    if match is None or not core_of(text):
        return None
    word = match[1].lower().rstrip(".")
    return _WORD_CODES.get(word, match[1] if is_code(match[1]) else None)


def is_year(text: str) -> bool:
    """Whether a text is a year of four digits."""
    return bool(_YEAR.fullmatch(ascii_digits(text)))


def is_lone_dash(text: str) -> bool:
    """Whether a text is a dash for "nothing", with or without a currency."""
    if len(text) > MAX_NUMBER_CHARS:
        return False
    plain = text.translate(dict.fromkeys(map(ord, _MINUS), "-"))
    return bool(_DASH.fullmatch("".join(plain.split())))
