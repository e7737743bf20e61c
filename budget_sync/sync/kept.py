"""Budgets that are not in the sheet and are kept, because a rejected row means or may mean them.

Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from budget_sync.sync.holds.likeness import Comparer, NameIndex, begins_alike
from budget_sync.sync.match import StoredBudget
from budget_sync.sync.reading.result import BudgetKey, RowError


class KeptBudget(NamedTuple):
    """A budget that is not in the sheet but is not deleted, and the reason.

    `is_certain`: a bad row has its Budget ID, or its department and period.
    """

    budget: StoredBudget
    reason: str
    is_certain: bool


def keep(
    missing: Iterable[StoredBudget], bad: Collection[RowError], stored: Iterable[StoredBudget]
) -> list[KeptBudget]:
    """The missing budgets that a bad row means or may mean."""
    stored_by_id = {
        name: budget
        for budget in stored
        for name in (budget.id, budget.sheet.external_id)
        if name is not None
    }
    live_keys = {budget.key for budget in stored if budget.deleted_at is None}
    error_by_id: dict[str, RowError] = {}
    error_by_key: dict[BudgetKey, RowError] = {}
    unclear = _UnclearRows()
    unknown: dict[str, list[RowError]] = {}
    for error in bad:
        meant = stored_by_id.get(error.external_id) if error.external_id is not None else None
        key = error.key
        if meant is not None:
            error_by_id[meant.id] = error
        if key is not None:
            error_by_key[key] = error
        if meant is None and (key is None or (error.id_unknown and key not in live_keys)):
            unclear.add(error)
        if meant is None and key is not None and key not in live_keys:
            unknown.setdefault(key[1], []).append(error)
    renamed = _UnreadableRenames(unknown)
    kept: list[KeptBudget] = []
    for budget in missing:
        if certain := error_by_id.get(budget.id) or error_by_key.get(budget.key):
            reason = f"row {certain.row} means it, and cannot be used"
            kept.append(KeptBudget(budget, reason, is_certain=True))
        elif possible := unclear.first_for(budget) or renamed.first_for(budget):
            reason = f"row {possible.row} cannot be read, and may mean it"
            kept.append(KeptBudget(budget, reason, is_certain=False))
    return kept


class _UnclearRows:
    """Rejected rows that do not identify their budget, indexed by what can be read of them."""

    def __init__(self) -> None:
        # The first row with each department and period, None if it cannot be read, and its place.
        self._first: dict[tuple[str | None, str | None], tuple[int, RowError]] = {}
        self._first_without_id: tuple[int, RowError] | None = None
        self._count = 0

    def add(self, error: RowError) -> None:
        """Add a row."""
        found = (self._count, error)
        self._count += 1
        if error.key is None:
            self._first.setdefault((error.department_key, error.period_key), found)
        elif self._first_without_id is None:
            # Only the Budget ID cannot be read, and a budget with an ID may have been renamed.
            self._first_without_id = found

    def first_for(self, budget: StoredBudget) -> RowError | None:
        """The row that was added first, of those that may mean this budget.

        Every part of the row that can be read must agree with the budget.
        """
        department_key, period_key = budget.key
        found = [
            self._first.get((None, None)),
            self._first.get((department_key, None)),
            self._first.get((None, period_key)),
            self._first_without_id if budget.sheet.external_id is not None else None,
        ]
        first = min((each for each in found if each), key=lambda each: each[0], default=None)
        return first and first[1]


class _UnreadableRenames:
    """Rejected rows with the name of no budget, by period: their amounts are not known.

    Such a row may be a renamed budget. Without it, the old budget would be deleted now, and the row
    would be a new budget with all of the money as soon as it can be read.
    """

    def __init__(self, errors: dict[str, list[RowError]]) -> None:
        self._errors = errors
        self._names: dict[str, NameIndex] = {}
        self._comparer = Comparer()

    def first_for(self, budget: StoredBudget) -> RowError | None:
        """A row that may be this budget: any one if there is money on it, or one with a like name.

        The name is also taken for alike if too many names were compared.
        """
        department_key, period_key = budget.key
        errors = self._errors.get(period_key)
        if not errors:
            return None
        if budget.reserved_minor + budget.committed_minor > 0:
            return errors[0]
        names = self._names.get(period_key)
        if names is None:
            names = NameIndex([error.department_key or "" for error in errors])
            self._names[period_key] = names
        alike = (
            errors[number]
            for number in names.candidates(department_key)
            if self._is_alike(department_key, errors[number].department_key or "")
        )
        return next(alike, None)

    def _is_alike(self, old: str, new: str) -> bool:
        compare = self._comparer
        return (
            compare.is_same(old, new)
            or begins_alike(old, new)
            or compare.ratio(old, new) > 0
            or compare.is_exhausted
        )
