"""Step 3: files that are not budgets, by their headings. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from budget_sync.sync.reading.detect.findings import Refused, plain_list
from budget_sync.sync.reading.detect.sheet import Column
from budget_sync.sync.reading.headings import Role, hkey, words
from budget_sync.sync.reading.vocabulary import DECISIVE_HEADINGS, NOT_BUDGET_HEADINGS

_STRONG_AMOUNT = 7
_SOME = 2
_MANY = 4

_KINDS = {
    kind: {hkey(entry): entry for entry in entries} for kind, entries in NOT_BUDGET_HEADINGS.items()
}
_DECISIVE = frozenset(map(hkey, DECISIVE_HEADINGS))
_NAMES = {
    "payroll": "payroll",
    "invoices": "a list of invoices",
    "expenses": "a list of expenses",
    "revenue": "a list of revenue",
    "actuals": "a list of actual spending",
}


def refuse_other_lists(columns: Sequence[Column]) -> None:
    """Raise Refused if the headings are those of payroll, invoices, expenses or revenue."""
    headings = [column.heading for column in columns if column.heading]
    is_strong = any(
        column.roles.get(Role.AMOUNT, 0) >= _STRONG_AMOUNT and column.share >= 0.5
        for column in columns
    )
    for kind, entries in _KINDS.items():
        found = _matches(headings, entries)
        decisive = [each for each in found if hkey(each) in _DECISIVE]
        if decisive:
            raise Refused(_sentence(kind, decisive))
        is_excused = is_strong and (kind == "revenue" or len(found) < _MANY)
        if len(found) >= _SOME and not is_excused:
            raise Refused(_sentence(kind, found))


def _matches(headings: Sequence[str], entries: dict[str, str]) -> list[str]:
    """The entries of one kind that a heading or one of its words matches, each once."""
    found: dict[str, None] = {}
    for heading in headings:
        for key in (hkey(heading), *words(heading)):
            if key in entries:
                found.setdefault(entries[key])
                break
    return list(found)


def _sentence(kind: str, found: Sequence[str]) -> str:
    listed = plain_list([each.lower() for each in found], 4)
    return f"This looks like {_NAMES[kind]} ({listed}), not budgets."


def refuse_unknown(columns: Sequence[Column], *, has_periods: bool) -> None:
    """Raise Refused if no heading is known as a department, an amount or a period."""
    known = any(
        column.roles.get(Role.DEPARTMENT, 0) or column.roles.get(Role.AMOUNT, 0)
        for column in columns
    )
    if not known and not has_periods:
        raise Refused(
            "No heading is known as a department or an amount. If this is a budget, write a "
            "reading by hand and pass it with --reading."
        )
