"""The column of owners. Nothing is asked about it, and it changes no other column. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from budget_sync.sync.reading.detect.sheet import Column, Sheet
from budget_sync.sync.reading.headings import hkey
from budget_sync.sync.reading.owners import may_be_owners
from budget_sync.sync.reading.vocabulary import OWNER_HEADINGS, SURE_OWNER_HEADINGS

_SURE = frozenset(map(hkey, SURE_OWNER_HEADINGS))
_UNSURE = frozenset(map(hkey, OWNER_HEADINGS))


def find_owner(sheet: Sheet, others: Sequence[Column]) -> Column | None:
    """The column of owners among the columns without a role; None if there is none.

    A heading that the sheet has twice names no column.
    """
    keys = Counter(hkey(each.heading) for each in sheet.columns if each.heading)
    candidates = [each for each in others if each.heading and keys[hkey(each.heading)] == 1]
    sure = [each for each in candidates if hkey(each.heading) in _SURE]
    unsure = [
        each
        for each in candidates
        if hkey(each.heading) in _UNSURE and may_be_owners(list(each.values))
    ]
    return next(iter(sure or unsure), None)
