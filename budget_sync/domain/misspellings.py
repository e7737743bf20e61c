"""Finds names that look like a misspelled setting."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_SEPARATOR = re.compile(r"[\W_]")

#: A name that begins with one of these is meant for this program, even if no setting is similar.
_PREFIXES = (
    "BUDGET",
    "TRUSTED",
    "METRICS",
    "CSVFOLDER",
    "SESSIONCOOKIE",
    "SECRETKEY",
    "CRONSECRET",
    "DATABASEURL",
    "GOOGLESHEETS",
    "INSTANCEFOLDER",
)

#: Prefixes that other programs expect before the name of a setting.
_ADDED = ("BUDGETSYNC", "FLASK")

#: Longer names are not compared.
_MAX_LENGTH = 60


class Misspelling(NamedTuple):
    """A name that has no effect, and the setting that it probably means, if one is similar."""

    name: str
    meant: str | None

    @property
    def sentence(self) -> str:
        """What is wrong, then what to do."""
        advice = (
            f"Did you mean {self.meant}?"
            if self.meant
            else "Correct or remove it: docs/install.md lists the settings."
        )
        return f"{self.name} is not a setting and has no effect. {advice}"


def find_misspellings(names: Iterable[str], settings: Iterable[str]) -> list[Misspelling]:
    """The names that look like a setting but are none, sorted."""
    known = {_letters(setting): setting for setting in settings}
    found = []
    for name in sorted(set(names) - set(known.values())):
        letters = _letters(name)
        if not letters or len(letters) > _MAX_LENGTH or not name.isprintable():
            continue
        meant = _closest(letters, known)
        if meant or letters.startswith(_PREFIXES):
            found.append(Misspelling(name, meant))
    return found


def _letters(name: str) -> str:
    """The letters and digits of a name, in upper case."""
    return _SEPARATOR.sub("", name).upper()


def _closest(letters: str, known: dict[str, str]) -> str | None:
    """The setting that these letters mean; None if they mean no setting."""
    for added in _ADDED:
        if letters.startswith(added) and (meant := known.get(letters.removeprefix(added))):
            return meant
    allowed = {
        setting: 1 if len(setting) < 10 else 2 if len(setting) < 14 else 3 for setting in known
    }
    distances = {
        setting: _distance(letters, setting)
        for setting in known
        if abs(len(letters) - len(setting)) <= allowed[setting]
    }
    close = [setting for setting, distance in distances.items() if distance <= allowed[setting]]
    return known[min(close, key=lambda setting: distances[setting])] if close else None


def _distance(one: str, other: str) -> int:
    """How many letters to add, remove, replace or swap with the next one."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for number, letter in enumerate(one, start=1):
        before, above, row = row, before, [number]
        for place, expected in enumerate(other, start=1):
            cost = min(
                before[place] + 1, row[place - 1] + 1, before[place - 1] + (letter != expected)
            )
            if (
                number > 1
                and place > 1
                and (letter, one[number - 2]) == (other[place - 2], expected)
            ):
                cost = min(cost, above[place - 2] + 1)
            row.append(cost)
    return row[-1]
