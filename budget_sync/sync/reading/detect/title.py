"""The years in the title and in the file name. They are proposals, never answers. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from budget_sync.domain.periods import FiscalYear, read_period
from budget_sync.sync.reading.headings import plain

_SEARCHED_CHARS = 500
_MAX_TEXTS = 100

_YEARS = re.compile(
    r"(?<![0-9])(?:(?:fy|gj|cy) ?'?)?(?:(?:19|20)[0-9]{2}(?:[-/](?:20)?[0-9]{2})?)(?![0-9])"
    r"|(?<![^\W_])(?:fy|gj) ?'?[0-9]{2}(?:[-/][0-9]{2})?(?![0-9])"
)


def years_in(texts: Iterable[str], fiscal_year: FiscalYear) -> tuple[str, ...]:
    """The different years, in the order in which they occur."""
    found: dict[str, None] = {}
    for _, text in zip(range(_MAX_TEXTS), texts, strict=False):
        folded = plain(text[:_SEARCHED_CHARS]).casefold().replace("_", " ")
        for match in _YEARS.finditer(folded):
            key = _year(match[0], fiscal_year)
            if key:
                found.setdefault(key)
    return tuple(found)


def _year(text: str, fiscal_year: FiscalYear) -> str | None:
    """The year that a text names; None for two years if the customer's year is a calendar year."""
    read = read_period(text, fiscal_year)
    if read.reason == "dash":
        read = read_period(text if text.startswith(("fy", "gj")) else f"FY{text}", fiscal_year)
    return read.key if read.key and len(read.key) == 4 else None
