"""The forms of periods: what a text says, before the customer's fiscal year is known.

`parse` finds the form of a text, and `read` turns forms into keys.
"""

from __future__ import annotations

from typing import NamedTuple

from budget_sync.domain.periods.words import FISCAL, PLAIN


class Year(NamedTuple):
    """A year as written: one (2025), or two and more (2024-25) with another `last` one.

    `marker`: a word says that it is a fiscal or a calendar year.
    """

    first: int
    last: int
    marker: str = PLAIN

    @property
    def is_fiscal(self) -> bool:
        """Whether a month in this year belongs to the fiscal year."""
        return self.marker == FISCAL or self.last != self.first


class WholeYear(NamedTuple):
    """A year."""

    year: Year


class Part(NamedTuple):
    """A quarter ("Q"), a half ("H"), or a quarter or third ("T") of a year."""

    letter: str
    number: int
    year: Year | None


class Month(NamedTuple):
    """A calendar month, or the month of that name in a fiscal year."""

    month: int
    year: Year | None


class Numbered(NamedTuple):
    """A month by its number in the fiscal year: P01. 13 is a thirteenth month."""

    number: int
    year: Year | None


class MonthRange(NamedTuple):
    """Several months: from a month to another one. Years are None if they are not written."""

    first: Month
    last: Month


class Day(NamedTuple):
    """A day, in one order or in two: each is (year, month, day)."""

    readings: tuple[tuple[int, int, int], ...]
    #: The two numbers as written, if either may be the month.
    numbers: tuple[int, int] | None = None


class MonthOrSpan(NamedTuple):
    """2011-12: December 2011, or the fiscal year 2011-12."""

    first: int
    month: int


class DayOrYear(NamedTuple):
    """25-Jan: a day in January, or January 2025."""

    number: int
    month: int


class Unreadable(NamedTuple):
    """Not a period. `is_free`: it has words that no period has, as a project's name does."""

    reason: str
    text: str = ""
    is_free: bool = False


Form = WholeYear | Part | Month | Numbered | MonthRange | Day | MonthOrSpan | DayOrYear | Unreadable
