"""Headings: how they are compared, and which column each one names. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from enum import StrEnum
from functools import lru_cache
from unicodedata import category, normalize

from budget_sync.sync.reading import vocabulary
from budget_sync.sync.reading.vocabulary import BUDGET, CODE_WORDS, NOT_AMOUNT, NOT_BUDGET_AMOUNT

#: A longer heading is a note. It is compared by its beginning.
MAX_HEADING_CHARS = 300

#: Joins the texts of a header of several rows.
JOIN = " / "

#: The score of a heading with a slip of the pen. A department with it is asked.
SLIP_SCORE = 6.5

_SLIP_RATIO = 0.88
_QUOTES = str.maketrans(
    dict.fromkeys(map(ord, "\u2018\u2019\u201a\u201b\u2032\u00b4`\u02bc"), "'")
    | dict.fromkeys(map(ord, "\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb"), '"')
)
_BRACKETS = {"(": ")", "[": "]"}
_WORD = re.compile(r"[^\W_]+%?|%")
_CAMEL = re.compile(r"(?<=[a-zà-öø-ÿ])(?=[A-ZÀ-ÖØ-Þ])")


class Role(StrEnum):
    """The role of a column."""

    DEPARTMENT = "department"
    PERIOD = "period"
    AMOUNT = "amount"
    CURRENCY = "currency"
    ID = "id"
    LIMIT = "limit"


def plain(text: str) -> str:
    """A text in NFKC with plain dashes and quotes, single spaces, and no invisible characters."""
    composed = normalize("NFKC", text[:MAX_HEADING_CHARS]).translate(_QUOTES)
    kept = "".join(
        "-" if category(letter) == "Pd" or letter == "\u2212" else letter
        for letter in composed
        if category(letter) not in ("Cf", "Cc") or letter in "\t\n\r"
    )
    return " ".join(kept.split())


def hkey(heading: str) -> str:
    """The letters, digits and % of a heading, folded and without brackets.

    Two headings with one key are equal: "Budgeted Amount ($)*" and "budgeted_amount".
    """
    return _hkey(heading[:MAX_HEADING_CHARS])


@lru_cache(maxsize=2048)
def _hkey(heading: str) -> str:
    text = plain(heading)
    return _letters(without_brackets(text)) or _letters(text)


def _letters(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum() or letter == "%")


def without_brackets(text: str) -> str:
    """The text without its bracketed parts; a bracket that is never closed stays."""
    kept: list[str] = []
    closing: list[str] = []
    for letter in text:
        if letter in _BRACKETS:
            closing.append(_BRACKETS[letter])
        elif closing and letter == closing[-1]:
            closing.pop()
        elif not closing:
            kept.append(letter)
    return text if closing else "".join(kept)


def words(heading: str) -> list[str]:
    """The folded words of a heading without its bracketed parts: "DeptName" is dept, name."""
    text = plain(heading)
    outside = without_brackets(text)
    return words_of(outside if _letters(outside) else text)


def words_of(text: str) -> list[str]:
    """The folded words of a text. A capital after a small letter starts a new word."""
    spaced = _CAMEL.sub(" ", plain(text))
    return [word.casefold() for word in _WORD.findall(spaced.replace("_", " "))]


def scores(heading: str) -> Mapping[Role, float]:
    """The roles that a heading may have, and how sure each one is: 10 is sure.

    A joined heading without a role has the roles of its last part.
    """
    found = _scores(heading[:MAX_HEADING_CHARS])
    if not found and JOIN in heading:
        return _scores(heading.rsplit(JOIN, 1)[1][:MAX_HEADING_CHARS])
    return found


@lru_cache(maxsize=2048)
def _scores(heading: str) -> Mapping[Role, float]:
    key = hkey(heading)
    return _TABLE.get(key) or _by_words(words(heading)) or _by_slip(key)


def _by_words(found: list[str]) -> dict[Role, float]:
    """Rules for headings that are in no list."""
    roles: dict[Role, float] = {}
    if department := _department_by_words(found):
        roles[Role.DEPARTMENT] = department
    if amount := _amount_by_words(found):
        roles[Role.AMOUNT] = amount
    return roles


def _department_by_words(found: list[str]) -> float:
    if any(word in ("dept", "depts") or word.startswith("departm") for word in found):
        return 6 if any(word in CODE_WORDS for word in found) else 8
    is_unit = (
        "unit" in found and any(w in ("operating", "org", "business") for w in found)
    ) or any(word in ("organization", "organisation", "agency", "kostenstelle") for word in found)
    if not is_unit:
        return 0
    return 4 if any(word in ("id", "code", "no", "number", "nr") for word in found) else 6


def _amount_by_words(found: list[str]) -> float:
    if any(word in NOT_AMOUNT for word in found):
        return 0
    if not any(word in BUDGET and word != "b" for word in _singular(found)):
        return 0
    names_budget = any(
        word in ("budget", "budgeted", "appropriation", "allocated") for word in _singular(found)
    )
    if names_budget and not any(word in NOT_BUDGET_AMOUNT for word in found):
        return 7
    return 6 if any(word in ("amount", "amt", "total", "usd", "eur") for word in found) else 0


def _singular(found: Iterable[str]) -> Iterable[str]:
    plurals = {"budgets": "budget", "appropriations": "appropriation", "allocations": "allocation"}
    return (plurals.get(word, word) for word in found)


def _by_slip(key: str) -> dict[Role, float]:
    """The role of the sure heading that this one is nearly equal to.

    A ratio of 0.88 finds Departmnet, Curency and Buget Amount, and no false heading among 537 real
    ones. At 0.80, `department_group` is like `departamento`.
    """
    if not 5 <= len(key) <= 40:
        return {}
    matcher = SequenceMatcher(None, b=key, autojunk=False)
    for alias, roles in _SURE.items():
        if abs(len(alias) - len(key)) > 2:
            continue
        matcher.set_seq1(alias)
        if matcher.quick_ratio() >= _SLIP_RATIO and matcher.ratio() >= _SLIP_RATIO:
            return dict.fromkeys(roles, SLIP_SCORE)
    return {}


def _table() -> dict[str, dict[Role, float]]:
    table: dict[str, dict[Role, float]] = {}
    for role, headings in (
        (Role.DEPARTMENT, vocabulary.DEPARTMENT_HEADINGS),
        (Role.PERIOD, vocabulary.PERIOD_HEADINGS),
        (Role.AMOUNT, vocabulary.AMOUNT_HEADINGS),
        (Role.CURRENCY, vocabulary.CURRENCY_HEADINGS),
        (Role.ID, vocabulary.ID_HEADINGS),
        (Role.LIMIT, vocabulary.LIMIT_HEADINGS),
    ):
        for score, names in headings.items():
            for name in names:
                roles = table.setdefault(_hkey(name), {})
                roles[role] = max(score, roles.get(role, 0))
    return table


_TABLE = _table()

#: The headings that a slip may mean, with their roles.
_SURE = {
    key: [role for role, score in roles.items() if score >= 9]
    for key, roles in _TABLE.items()
    if len(key) >= 6 and max(roles.values()) >= 9
}
