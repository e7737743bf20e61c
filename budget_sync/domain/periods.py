"""Fiscal periods: one key for all spellings, so that "Q1 2025", "2025-Q1" and "q1 fy2025" match.

Known forms are years, halves, quarters and months, in the orders and with the separators that
sheets use. The key of any other text is the text itself, trimmed, with single spaces and folded
letter case.
"""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache
from unicodedata import normalize

#: No form of a period is longer. A longer text is not matched against the forms and not cached.
MAX_FORM_LENGTH = 100

#: No stored name is longer. Composing the accents of a long text can take quadratic time.
_MAX_COMPOSED_LENGTH = 1000

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_YEAR = r"(?:(?:fy\s*)?(?P<year>(?:19|20)[0-9]{2})|(?:fy\s*'?|')(?P<short_year>[0-9]{2}))"
_PART = (
    r"(?:(?:q|quarter)\s*(?P<quarter>[1-4])|(?P<quarter_first>[1-4])q"
    r"|(?:h|half)\s*(?P<half>[12])|(?P<half_first>[12])h"
    r"|(?P<name>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
    r"|m?(?P<month>0[1-9]|1[0-2]))"
)
_SEPARATOR = r"[\s\-_/.,]*"
_KEY = re.compile(r"(?P<year>(?:19|20)[0-9]{2})(?:-(?P<part>Q[1-4]|H[12]|0[1-9]|1[0-2]))?")
_FORMS = [
    re.compile(form) for form in (_YEAR, _YEAR + _SEPARATOR + _PART, _PART + _SEPARATOR + _YEAR)
]


def fold(text: str) -> str:
    """Text for comparing names: trimmed, with single spaces, folded letter case and NFC accents.

    NFC means that an accented letter equals a letter followed by a combining accent. A text that is
    too long for a name keeps its accents as they are.
    """
    spaced = " ".join(text.split())
    if len(spaced) > _MAX_COMPOSED_LENGTH:
        return spaced.casefold()
    folded = normalize("NFC", spaced).casefold()
    # A few letters with two accents (\u0390) fold into more characters than their capitals do.
    # After another round of composing and folding, both are equal.
    return normalize("NFC", folded).casefold()


def period_key(text: str) -> str:
    """The key of a period: "2025", "2025-H1", "2025-Q1", "2025-01", or the folded text."""
    if len(text) <= MAX_FORM_LENGTH:
        return _key_of_short(text)
    folded = fold(text)
    return _key_of_short(folded) if len(folded) <= MAX_FORM_LENGTH else folded


@lru_cache(maxsize=4096)
def _key_of_short(text: str) -> str:
    folded = fold(text)
    matches = (form.fullmatch(folded) for form in _FORMS)
    match = next(filter(None, matches), None)
    return _format(match.groupdict()) if match else folded


def _format(found: dict[str, str | None]) -> str:
    """The key for the named groups of a match."""
    year = found["year"] or f"20{found['short_year']}"
    if quarter := found.get("quarter") or found.get("quarter_first"):
        return f"{year}-Q{quarter}"
    if half := found.get("half") or found.get("half_first"):
        return f"{year}-H{half}"
    if name := found.get("name"):
        return f"{year}-{_MONTHS.index(name[:3]) + 1:02d}"
    if month := found.get("month"):
        return f"{year}-{month}"
    return year


def period_dates(key: str, first_month: int) -> tuple[date, date] | None:
    """The first day of a period and the day after its last day; None if its form is unknown.

    `key` is a `period_key`. A fiscal year that begins in `first_month` is named after the calendar
    year in which it ends. Months are calendar months.
    """
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    year, part = int(match["year"]), match["part"] or ""
    if part.isdecimal():
        return _first_of(year, int(part)), _first_of(year, int(part) + 1)
    length = {"": 12, "H": 6, "Q": 3}[part[:1]]
    month = first_month + (int(part[1:]) - 1 if part else 0) * length
    if first_month > 1:
        year -= 1
    return _first_of(year, month), _first_of(year, month + length)


def _first_of(year: int, month: int) -> date:
    """The first day of a month; month 13 is January of the next year."""
    return date(year + (month - 1) // 12, (month - 1) % 12 + 1, 1)


def is_current(key: str, first_month: int, today: date) -> bool:
    """Whether a period includes `today`; see `period_dates`."""
    span = period_dates(key, first_month)
    return span is not None and span[0] <= today < span[1]
