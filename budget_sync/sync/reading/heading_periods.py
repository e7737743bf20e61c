"""Periods inside headings: "FY25 Budget", "2024 (Proposed)", "Q1", "fy1". Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from budget_sync.domain.periods import FiscalYear, PeriodText, Settled, read_period
from budget_sync.sync.reading.headings import plain, words_of
from budget_sync.sync.reading.vocabulary import ACTUAL, BUDGET, OTHER

#: A heading with more words next to its period is a sentence, not the heading of a period.
MAX_OTHER_WORDS = 6

#: A longer heading is not searched for periods.
MAX_CHARS = 120

#: A part heading and a relative year may have this many words next to it, all of a scenario.
_MAX_SCENARIO_WORDS = 2

_YEAR = r"(?:(?:19|20)[0-9]{2}|'?[0-9]{2})(?![0-9])"
_FOUR = r"(?:19|20)[0-9]{2}"
_PREFIX = r"(?:fy|gj)[ ]?"
_PART_NAME = r"(?:quarter|half|halbjahr|quartal|trimestre|semestre)"
_PART = r"(?:(?:q[1-4]|h[12]|p[0-9]{1,2}|t[1-4])(?![0-9])|[1-4]q|[12]h|[1-3]t)"
_MONTH_WORD = r"[^\W\d_]{3,9}[.]?"

# From the most to the least specific form. Each is searched at the start of a word.
_FORMS = [
    re.compile(rf"(?<![^\W_]){form}")
    for form in (
        rf"{_MONTH_WORD}[ ]?(?:-|to|bis|à|a)[ ]?{_MONTH_WORD}[ ]?{_FOUR}(?![0-9])",
        rf"(?:q[1-4]|h[12])[ ](?:{_PREFIX})?{_FOUR}[-/][0-9]{{2,4}}(?![0-9])",
        rf"{_PREFIX}'?[0-9]{{2,4}}[-/][0-9]{{2,4}}(?![0-9])",
        rf"{_FOUR}[-/](?:[0-9]{{2}}|{_FOUR})(?![0-9])",
        rf"period[ ]?[0-9]{{1,2}}[ ](?:{_PREFIX})?{_YEAR}",
        rf"{_PART_NAME}[ ]?[1-4][ ]?[-/]?[ ]?(?:{_PREFIX})?{_YEAR}",
        rf"[1-4][.]?(?:er|st|nd|rd|th|[ºª])?[ ]{_PART_NAME}[ ]?(?:{_PREFIX})?{_YEAR}",
        rf"{_PART}[ ]?[-/]?[ ]?(?:{_PREFIX})?{_YEAR}",
        rf"{_PREFIX}{_YEAR}[ ]?[-/]?[ ]?{_PART}",
        rf"{_MONTH_WORD}[ ]?[-/]?[ ]?{_PREFIX}{_YEAR}",
        rf"{_PREFIX}{_YEAR}[ ]?[-/]?[ ]?{_MONTH_WORD}",
        rf"{_PREFIX}{_YEAR}",
        rf"{_MONTH_WORD}[ ]?[-/]?[ ]?{_YEAR}",
        rf"[0-9]{{2}}-{_MONTH_WORD}",
        rf"{_FOUR}[ ]?[-/]?[ ]?(?:{_PART}|{_MONTH_WORD}|[0-9]{{2}}(?![0-9]))",
        rf"{_FOUR}m[0-9]{{2}}(?![0-9])",
        rf"[0-9]{{2}}/{_FOUR}(?![0-9])",
        rf"{_FOUR}(?![0-9])",
    )
]
_BEFORE_YEAR = re.compile(r"(?<=[^\W\d_])(?=(?:19|20)[0-9]{2}(?![0-9]))")
#: Next to a year, such a word says that the year alone is not the period.
_PART_WORDS = frozenset(
    ("quarter", "quartal", "qtr", "trimestre", "half", "halbjahr", "semester", "semestre")
)
_BEFORE_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_IS_YEAR = re.compile(r"[0-9]{4}")
_TWO_YEARS = re.compile(r"(?P<first>(?:19|20)[0-9]{2})-(?P<second>[0-9]{2})")
_SPACES = str.maketrans(dict.fromkeys("_()[]", " "))
_RELATIVE = re.compile(r"(?:fy|year|yr|y|jahr)[ ]?(?P<number>[0-9])")


class HeadingPeriod(NamedTuple):
    """The period in a heading.

    `text` is the period as a reading stores it. `key` is None if the text needs an answer; `reason`
    then says which (see `periods.read_period`). `scenario` is "actual", "other", "budget" or None.
    """

    text: str
    key: str | None
    reason: str | None
    scenario: str | None


def heading_period(heading: str, fiscal_year: FiscalYear) -> HeadingPeriod | None:
    """The period in a heading, with a year; None for other headings."""
    if len(heading) > MAX_CHARS:
        return None
    return _heading_period(heading, fiscal_year)


@lru_cache(maxsize=1024)
def _heading_period(heading: str, fiscal_year: FiscalYear) -> HeadingPeriod | None:
    text = _spaced(heading)
    for start, end in _candidates(text):
        found = _period(text[start:end], fiscal_year)
        if found is None:
            continue
        others = words_of(f"{text[:start]} {text[end:]}")
        if len(others) > MAX_OTHER_WORDS:
            return None
        found = _with_part(found, others, fiscal_year)
        return found and found._replace(scenario=scenario_of(others))
    return None


def _with_part(
    found: HeadingPeriod, others: list[str], fiscal_year: FiscalYear
) -> HeadingPeriod | None:
    """The period with the part of the year that stands apart from it: "Q1 Budget 2025".

    None if the heading has several parts, or one that does not go with the year.
    """
    if found.key is None or not _IS_YEAR.fullmatch(found.key):
        return found
    parts = {word for word in others if read_period(word, fiscal_year).reason in ("year", "tri")}
    if not parts:
        return None if any(word in _PART_WORDS for word in others) else found
    return None if len(parts) > 1 else _period(f"{parts.pop()} {found.text}", fiscal_year)


def _spaced(heading: str) -> str:
    """The heading with a space in place of underscores and brackets, and where words meet."""
    text = plain(heading).translate(_SPACES)
    return " ".join(_BEFORE_YEAR.sub(" ", _BEFORE_CAPITAL.sub(" ", text)).split())


def _candidates(text: str) -> Iterator[tuple[int, int]]:
    lower = text.lower()
    if len(lower) != len(text):
        # A letter that has two in lower case would move what follows it.
        return
    for form in _FORMS:
        for match in form.finditer(lower):
            yield match.span()


def _period(text: str, fiscal_year: FiscalYear) -> HeadingPeriod | None:
    """The period that a part of a heading is, or may be once a question is answered."""
    found: PeriodText = read_period(text, fiscal_year)
    if found.reason == "dash":
        # Headings of a wide table are years far more often than months.
        two = _TWO_YEARS.fullmatch(text.strip())
        if two is None:
            return None
        is_month = fiscal_year.first_month == 1
        text = f"{two['first']}M{two['second']}" if is_month else f"FY{text.strip()}"
        found = read_period(text, fiscal_year)
    if found.key is None and found.reason not in ("fiscal_year", "tri", "ddmon"):
        return None
    return HeadingPeriod(text.strip(), found.key, found.reason, None)


def scenario_of(others: list[str]) -> str | None:
    """The scenario that the words next to a period name: actual, other, budget, or none."""
    for name, known in (("actual", ACTUAL), ("other", OTHER), ("budget", BUDGET)):
        if any(word in known for word in others):
            return name
    return None


def part_heading(heading: str, fiscal_year: FiscalYear) -> HeadingPeriod | None:
    """The part of a year that a heading names without a year: "Q1", "Jan", "H2 Budget"."""
    text, others = _without_scenario(heading)
    if text is None:
        return None
    found = read_period(text, fiscal_year)
    settled = read_period(text, fiscal_year, Settled(tri="quarter"))
    if found.reason not in ("year", "tri") or settled.reason != "year":
        return None
    return HeadingPeriod(text, None, found.reason, scenario_of(others))


def relative_year(heading: str) -> int | None:
    """The number of a relative year: 1 for "fy1" and "Year 1 Budget"."""
    text, _ = _without_scenario(heading)
    match = _RELATIVE.fullmatch(text.lower()) if text else None
    return int(match["number"]) if match else None


def _without_scenario(heading: str) -> tuple[str | None, list[str]]:
    """A short heading without the words of its scenario, and these words."""
    if len(heading) > MAX_CHARS:
        return None, []
    text = " ".join(plain(heading).replace("_", " ").split())
    parts = text.split(" ")
    kept = [part for part in parts if not _is_scenario(part)]
    others = [word for part in parts if _is_scenario(part) for word in words_of(part)]
    if not kept or len(others) > _MAX_SCENARIO_WORDS:
        return None, []
    return " ".join(kept), others


def _is_scenario(part: str) -> bool:
    found = words_of(part)
    return bool(found) and all(
        len(word) > 1 and (word in ACTUAL or word in OTHER or word in BUDGET) for word in found
    )
