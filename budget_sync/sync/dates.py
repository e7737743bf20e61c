"""Text that shows a date or a time, which a sheet makes of what people type unasked: "1-2", "Jan 2025". Pure."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

from babel.dates import get_day_names, get_month_names

_DAY = r"(?:0?[1-9]|[12][0-9]|3[01])"
_CLOCK = r"[0-9]{1,4}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?(?:\s?[ap]\.?m\.?)?"
_NUMERIC = (
    rf"(?:[0-9]{{4}}(?P<year_first>\s?[-/.]\s?){_DAY}(?P=year_first){_DAY}"
    rf"|{_DAY}(?P<year_last>\s?[-/.]\s?){_DAY}(?P=year_last)(?:[0-9]{{4}}|[0-9]{{2}})"
    rf"|[0-9]{{4}}\s?[年년]\s?{_DAY}\s?[月월]\s?{_DAY}\s?[日일])\.?"
)
_WHOLE = re.compile(rf"{_CLOCK}|{_NUMERIC}(?:(?:t|,?\s){_CLOCK})?")
_PARTIAL = re.compile(r"[0-9]{1,4}[-/][0-9]{1,4}")
_WORD = re.compile(r"[^\W_]+")

#: A day, a month by its name, a year of four digits, and a number that is none of them, in the orders that whole dates have.
_WHOLE_BY_NAME = {"DMY", "MDY", "YMD", "YDM", "DMD", "DMN"}
_FILLERS = {"de", "of"}


@lru_cache(maxsize=4096)
def is_date(text: str, locale: str) -> bool:
    """Whether text is a whole date, with its day and year, or a time. "Jan 2025" is none, nor is a range of two dates."""
    return bool(_WHOLE.fullmatch(text.casefold())) or _parts(text, locale) in _WHOLE_BY_NAME


def looks_like_date(text: str, locale: str) -> bool:
    """Whether text that is no number may be a date, or a part of one."""
    parts = _parts(text, locale)
    return is_date(text, locale) or bool(_PARTIAL.fullmatch(text)) or (len(parts) > 1 and "M" in parts and "X" not in parts)


def _parts(text: str, locale: str) -> str:
    """What each word is, as a letter; weekdays and fillers are left out, X is none of the others."""
    return "".join(_part(word, locale) for word in _WORD.findall(text.casefold()))


def _part(word: str, locale: str) -> str:
    if word.isdecimal():
        if len(word) > 2:
            return "Y" if len(word) == 4 and word[:2] in ("19", "20") else "X"
        return "D" if 1 <= int(word) <= 31 else "N"
    if word in _names("months", locale):
        return "M"
    return "" if word in _FILLERS or word in _names("weekdays", locale) else "X"


@lru_cache(maxsize=64)
def _names(kind: Literal["months", "weekdays"], locale: str) -> frozenset[str]:
    """The names of months or weekdays in a locale and in English, without their dots."""
    names_of = get_month_names if kind == "months" else get_day_names
    return frozenset(
        name.strip(".").casefold() for each in (locale, "en_US") for width in ("wide", "abbreviated") for name in names_of(width, locale=each).values()
    )
