"""Names that read like a total: "Grand Total:", "Summe", "cityWideTotal". Pure."""

from __future__ import annotations

import itertools
import re

from budget_sync.domain.money import MoneyError, currency_exponent
from budget_sync.sync.reading.headings import plain, words_of
from budget_sync.sync.reading.vocabulary import (
    PURE_TOTAL_PREFIXES,
    PURE_TOTALS,
    TOTAL_PHRASES,
    TOTAL_WORDS,
)

#: A longer name is a sentence, not a total.
MAX_TOTAL_CHARS = 200

_MAX_PURE_WORDS = 8
_YEAR_WORD = re.compile(r"(?:fy|gj|cy)?(?:(?:19|20)[0-9]{2}|[0-9]{2})")
_YEAR_NAMES = frozenset(("fy", "gj", "cy", "year", "fiscal"))


def is_total_like(name: str) -> bool:
    """Whether a name holds a word for a total. It may still be a department ("Total Care")."""
    if len(name) > MAX_TOTAL_CHARS:
        return False
    found = words_of(name)
    if any(word in TOTAL_WORDS for word in found):
        return True
    joined = "".join(found)
    if joined.startswith("total") or joined.endswith("total"):
        return True
    if any(pair in TOTAL_PHRASES for pair in itertools.pairwise(found)):
        return True
    return is_pure_total(name)


def is_pure_total(name: str) -> bool:
    """Whether a name is nothing but a word for a total, optionally with a currency and a year."""
    if len(name) > MAX_TOTAL_CHARS:
        return False
    found = words_of(name.replace("(s)", "s").replace("(S)", "S"))
    if not found or len(found) > _MAX_PURE_WORDS:
        return False
    if found[0] == "the":
        found = found[1:]
    for start in (0, 1):
        if start and not (found and found[0] in PURE_TOTAL_PREFIXES):
            break
        for end in range(len(found), start, -1):
            if tuple(found[start:end]) in PURE_TOTALS:
                return _is_tail(found[end:], plain(name))
    return False


def _is_tail(tail: list[str], name: str) -> bool:
    """Whether the words after a total are at most a currency code and a year."""
    rest = [word for word in tail if not (_YEAR_WORD.fullmatch(word) or word in _YEAR_NAMES)]
    if len(tail) - len(rest) > 3 or len(rest) > 1:
        return False
    # A code is written in capitals: "Total USD", but not "Total can".
    return not rest or (rest[0].upper() in name and _is_code(rest[0].upper()))


def _is_code(word: str) -> bool:
    try:
        currency_exponent(word)
    except MoneyError:
        return False
    return True
