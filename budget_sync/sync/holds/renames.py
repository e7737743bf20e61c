"""Suspected renames: a budget that is gone, and a new one that may be the same. Pure.

A rename is suspected if both have one period and their names are alike or their amounts are equal,
or, with money on the old budget, if the amounts are near; with money also if a department has a
near amount in another period of the same year. This module finds the pairs that must be held:
there is money on the old budget, or the names are equal but for punctuation and zeros, or the names
are alike and the amounts equal. The other suspected renames are ordinary deletions and creations.

The work is bounded: a budget is compared with the new budgets of the same name, of a near amount or
with a likely name, not with all of them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from budget_sync.sync.holds.likeness import (
    MIN_PREFIX_CHARS,
    Comparer,
    NameIndex,
    begins_alike,
)
from budget_sync.sync.holds.model import Reason
from budget_sync.sync.limits import Check, checked, no_check
from budget_sync.sync.match import StoredBudget
from budget_sync.sync.reading.result import BudgetKey, SheetRow

# Amounts are near if they differ by at most this part of the old one.
_NEAR = 10

# Of rows with equal or near amounts or with a common beginning, this many are candidates.
_MAX_ALIKE = 10

# A year has 19 periods: itself, halves, quarters and months.
_MAX_PERIODS = 19

_MAX_EXPONENT: Final = 4


class Pair(NamedTuple):
    """A budget that is gone, and the row that may be the same budget under a new name."""

    old: StoredBudget
    row: SheetRow
    reasons: tuple[Reason, ...]


class Renames(NamedTuple):
    """The suspected renames to hold. `is_complete` is false if there were too many names."""

    pairs: list[Pair]
    is_complete: bool


def find_renames(
    gone: Collection[StoredBudget],
    rows: Sequence[SheetRow],
    before: Mapping[str, BudgetKey],
    check: Check = no_check,
    comparer: Comparer | None = None,
) -> Renames:
    """The renames to hold among the budgets that are gone and the rows that are new.

    `before` are the renames that the previous run held, new keys by budget id: such a pair stays
    one as long as both are there. Each budget and each row is in at most one pair; the budget with
    the most money is paired first.
    """
    if not gone or not rows:
        return Renames([], is_complete=True)
    comparer = comparer or Comparer()
    candidates = _Candidates(rows, comparer)
    pairs: list[Pair] = []
    left: list[StoredBudget] = []
    for old in gone:
        number = candidates.take_key(before.get(old.id))
        if number is None:
            left.append(old)
        else:
            score = _score(old, rows[number], comparer)
            pairs.append(Pair(old, rows[number], (score and score.reasons) or (Reason.RENAME,)))
    left.sort(key=lambda old: (-_used(old), not candidates.has_same_name(old)))
    # A near amount alone says less than a name: "Public Works" must not take "Fire" from "Fire
    # Department".
    unpaired: list[StoredBudget] = []
    for old in checked(left, check):
        best = _best(old, rows, candidates, comparer)
        if best is None or not best.is_likely:
            unpaired += [old] if best else []
            continue
        candidates.take(best.number)
        pairs.append(Pair(old, rows[best.number], best.score.reasons))
    for old in checked(unpaired, check):
        if best := _best(old, rows, candidates, comparer):
            candidates.take(best.number)
            pairs.append(Pair(old, rows[best.number], best.score.reasons))
    return Renames(pairs, is_complete=not comparer.is_exhausted)


class _Best(NamedTuple):
    """The row that fits a budget best, by its number."""

    score: _Score
    number: int

    @property
    def is_likely(self) -> bool:
        """Whether more than a near amount says that it is the same budget."""
        return any(self.score.rank[:3])


def _best(
    old: StoredBudget, rows: Sequence[SheetRow], candidates: _Candidates, comparer: Comparer
) -> _Best | None:
    """The free row that fits a budget best; None if none does."""
    best: _Best | None = None
    for number in candidates.of(old):
        score = _score(old, rows[number], comparer)
        if score is not None and (best is None or score.rank > best.score.rank):
            best = _Best(score, number)
    return best


def _used(budget: StoredBudget) -> int:
    """The money on a budget, comparable between currencies."""
    used_minor = budget.reserved_minor + budget.committed_minor
    return used_minor * int(10 ** (_MAX_EXPONENT - budget.sheet.exponent))


class _Score(NamedTuple):
    """How well a row fits a budget; greater ranks fit better."""

    rank: tuple[bool, bool, bool, bool, float]
    reasons: tuple[Reason, ...]


def _score(old: StoredBudget, row: SheetRow, comparer: Comparer) -> _Score | None:
    """How well the row fits the budget; None if it is not a rename to hold."""
    stored, wanted = old.sheet, row.budget
    if stored.exponent != wanted.exponent:
        return None
    department_key, period_key = old.key
    has_money = old.reserved_minor + old.committed_minor > 0
    difference = abs(wanted.budgeted_minor - stored.budgeted_minor)
    is_same_currency = stored.currency == wanted.currency
    is_near = is_same_currency and difference * _NEAR <= stored.budgeted_minor
    if wanted.period_key != period_key:
        is_moved = (
            has_money
            and is_near
            and department_key == wanted.department_key
            and _year(period_key) == _year(wanted.period_key) is not None
        )
        return (
            _Score((True, difference == 0, True, True, 1.0), (Reason.MONEY,)) if is_moved else None
        )
    is_equal = is_same_currency and difference == 0 and stored.budgeted_minor > 0
    is_same_name = comparer.is_same(department_key, wanted.department_key)
    if not (has_money or is_equal or is_same_name):
        return None
    ratio = 1.0 if is_same_name else comparer.ratio(department_key, wanted.department_key)
    is_alike = ratio > 0 or begins_alike(department_key, wanted.department_key)
    if not (is_alike or (has_money and (is_equal or is_near))):
        return None
    reasons = (
        *((Reason.MONEY,) if has_money else ()),
        *((Reason.NAME,) if is_same_name else ()),
        *((Reason.AMOUNT,) if is_equal else ()),
    )
    return _Score((is_same_name, is_equal, is_alike, is_near, ratio), reasons)


def _year(period_key: str) -> str | None:
    """The year of a period key; None for a text of no known form."""
    year = period_key[:4]
    return year if year.isascii() and year.isdigit() and period_key[4:5] in ("", "-") else None


class _Candidates:
    """The rows that are new, indexed by everything in which a budget may be like them."""

    def __init__(self, rows: Sequence[SheetRow], comparer: Comparer) -> None:
        self._bare = comparer.bare
        self._free = bytearray(b"\x01") * len(rows)
        self._by_key: dict[BudgetKey, int] = {}
        self._same_names: dict[tuple[str, str], Line] = {}
        self._department_years: dict[tuple[str, str], Line] = {}
        same_names: dict[tuple[str, str], list[int]] = {}
        department_years: dict[tuple[str, str], list[int]] = {}
        in_period: dict[str, list[int]] = {}
        for number, row in enumerate(rows):
            budget = row.budget
            self._by_key[budget.key] = number
            in_period.setdefault(budget.period_key, []).append(number)
            if name := self._bare(budget.department_key):
                same_names.setdefault((budget.period_key, name), []).append(number)
            if year := _year(budget.period_key):
                department_years.setdefault((budget.department_key, year), []).append(number)
        self._same_names = {key: Line(numbers, self._free) for key, numbers in same_names.items()}
        self._department_years = {
            key: Line(numbers, self._free) for key, numbers in department_years.items()
        }
        self._periods = {
            key: _Period(rows, numbers, self._free) for key, numbers in in_period.items()
        }

    def take(self, number: int) -> None:
        """Take a row out, because it has a partner."""
        self._free[number] = 0

    def take_key(self, key: BudgetKey | None) -> int | None:
        """Take out the row with this key, if it is there; return its number."""
        number = None if key is None else self._by_key.get(key)
        if number is None or not self._free[number]:
            return None
        self.take(number)
        return number

    def has_same_name(self, old: StoredBudget) -> bool:
        """Whether a row has the same name but for punctuation and zeros."""
        department_key, period_key = old.key
        return (period_key, self._bare(department_key)) in self._same_names

    def of(self, old: StoredBudget) -> list[int]:
        """The numbers of the free rows that may be this budget, in a fixed order."""
        department_key, period_key = old.key
        has_money = old.reserved_minor + old.committed_minor > 0
        found: list[int] = []
        if line := self._same_names.get((period_key, self._bare(department_key))):
            found += line.first(_MAX_ALIKE)
        year = _year(period_key)
        if has_money and year and (line := self._department_years.get((department_key, year))):
            found += line.first(_MAX_PERIODS)
        if period := self._periods.get(period_key):
            found += period.like(old, has_money=has_money)
        return list(dict.fromkeys(found))


class _Period:
    """The rows of one period, indexed by amount and by name."""

    def __init__(self, rows: Sequence[SheetRow], numbers: list[int], free: bytearray) -> None:
        self._numbers = numbers
        self._free = free
        names = [rows[number].budget.department_key for number in numbers]
        self._index = NameIndex(names)
        by_name = sorted(zip(names, numbers, strict=True))
        self._names = [name for name, _ in by_name]
        self._exact = dict(by_name)
        self._lengths = sorted({len(name) for name in names if len(name) >= MIN_PREFIX_CHARS})
        self._by_name = Line([number for _, number in by_name], free)
        by_currency: dict[str, list[tuple[int, int]]] = {}
        for number in numbers:
            budget = rows[number].budget
            by_currency.setdefault(budget.currency, []).append((budget.budgeted_minor, number))
        self._amounts: dict[str, tuple[list[int], Line]] = {}
        for currency, amounts in by_currency.items():
            amounts.sort()
            line = Line([number for _, number in amounts], free)
            self._amounts[currency] = [amount for amount, _ in amounts], line

    def like(self, old: StoredBudget, *, has_money: bool) -> list[int]:
        """The free rows with an equal or near amount, a common beginning or a likely name.

        Without money on the budget, only a row with an equal amount is of use here.
        """
        department_key = old.key[0]
        found = self._of_amount(old, has_money=has_money)
        if not found and not has_money:
            return []
        found += self._beginning_with(department_key)
        for length in self._lengths:
            found += self._named(department_key[:length])
        numbers = (self._numbers[at] for at in self._index.candidates(department_key))
        found += [number for number in numbers if self._free[number]]
        return found

    def _of_amount(self, old: StoredBudget, *, has_money: bool) -> list[int]:
        """The first rows of the budget's amount; with money, also those of the nearest amounts."""
        minor = old.sheet.budgeted_minor
        amounts, line = self._amounts.get(old.sheet.currency, ([], Line([], self._free)))
        start = bisect_left(amounts, minor)
        found = line.first(_MAX_ALIKE, start, bisect_right(amounts, minor))
        if has_money:
            near = minor // _NEAR
            found += line.first(_MAX_ALIKE, start, bisect_right(amounts, minor + near))
            found += line.last(_MAX_ALIKE, bisect_left(amounts, minor - near), start)
        return found

    def _beginning_with(self, name: str) -> list[int]:
        """The first rows whose names begin with this name."""
        if len(name) < MIN_PREFIX_CHARS:
            return []
        start = bisect_left(self._names, name)
        end = bisect_left(self._names, name + chr(0x10FFFF))
        return self._by_name.first(_MAX_ALIKE, start, end)

    def _named(self, name: str) -> list[int]:
        """The row with exactly this name, if it is free."""
        number = self._exact.get(name)
        return [] if number is None or not self._free[number] else [number]


class Line:
    """Rows in an order, of which those that are no longer free are skipped in constant time.

    Each place points to the next and to the previous place that may be free; the pointers are
    shortened whenever they are followed.
    """

    def __init__(self, numbers: Sequence[int], free: bytearray) -> None:
        self._numbers = numbers
        self._free = free
        self._up = list(range(len(numbers) + 1))
        self._down = list(range(len(numbers) + 1))

    def first(self, limit: int, start: int = 0, end: int | None = None) -> list[int]:
        """The first free rows of the places from `start` to before `end`."""
        end = len(self._numbers) if end is None else end
        found: list[int] = []
        at = self._free_from(start)
        while at < end and len(found) < limit:
            found.append(self._numbers[at])
            at = self._free_from(at + 1)
        return found

    def last(self, limit: int, start: int, end: int) -> list[int]:
        """The last free rows of the places from `start` to before `end`, the last one first."""
        found: list[int] = []
        at = self._free_before(end)
        while at > start and len(found) < limit:
            found.append(self._numbers[at - 1])
            at = self._free_before(at - 1)
        return found

    def _free_from(self, at: int) -> int:
        """The first free place from `at`; the number of places if all are taken."""
        passed = []
        while at < len(self._numbers) and (self._up[at] != at or not self._free[self._numbers[at]]):
            passed.append(at)
            at = max(self._up[at], at + 1)
        for place in passed:
            self._up[place] = at
        return at

    def _free_before(self, at: int) -> int:
        """One more than the last free place before `at`; 0 if all are taken."""
        passed = []
        while at > 0 and (self._down[at] != at or not self._free[self._numbers[at - 1]]):
            passed.append(at)
            at = min(self._down[at], at - 1)
        for place in passed:
            self._down[place] = at
        return at
