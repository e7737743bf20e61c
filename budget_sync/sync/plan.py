"""Plans a sync run: the changes that a sheet means for a customer's budgets. Pure.

A source creates, changes and deletes only its own budgets, and adopts budgets without a source. A
budget that a bad row means or may mean is kept. The deletion limit holds back deletions if there
are too many.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from budget_sync.sync.limits import Check, checked, no_check
from budget_sync.sync.match import Match, Matches, StoredBudget, match_rows, problem_of
from budget_sync.sync.rows import (
    BudgetKey,
    RowError,
    SheetBudget,
    SheetRow,
    SheetRows,
    rejected,
)

#: The deletion limit: deletions are held back if they are more than half of the source's live
#: budgets, or more than this count and more than a tenth.
DELETION_LIMIT_COUNT = 10


class FieldChange(NamedTuple):
    """An audited difference. `name` is the column in the audit log; amounts are in minor units."""

    name: str
    old: object
    new: object


class Change(NamedTuple):
    """A stored budget before and after a run. `row` is the number of the row that changes it."""

    row: int
    before: StoredBudget
    after: StoredBudget
    fields: tuple[FieldChange, ...]

    @property
    def is_revival(self) -> bool:
        """Whether the budget was deleted before."""
        return self.before.deleted_at is not None

    @property
    def is_takeover(self) -> bool:
        """Whether the budget had no source before: it was set by hand, or lost its source."""
        return self.before.source_id is None

    @property
    def is_overdrawn(self) -> bool:
        """Whether the new budgeted amount is less than the used amount."""
        return self.after.balance.available_minor < 0


class MovedRow(NamedTuple):
    """A row with a new number in the sheet, and no other change."""

    number: int
    budget_id: str


class KeptBudget(NamedTuple):
    """A budget that is not in the sheet but is not deleted, and the reason."""

    budget: StoredBudget
    reason: str


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """The changes of a sync run.

    `moved` is recorded, but does not count as a change of a budget. `held` are the deletions over
    the deletion limit. `overdrawn_count` is the number of the source's budgets that are overdrawn
    after the run. `live_count` is the number of the source's live budgets without approved
    deletions; the deletion limit compares the other deletions with it.
    """

    creates: list[SheetRow]
    updates: list[Change]
    revivals: list[Change]
    unchanged_count: int
    moved: list[MovedRow]
    deletes: list[StoredBudget]
    held: list[StoredBudget]
    kept: list[KeptBudget]
    errors: list[RowError]
    overdrawn_count: int
    live_count: int

    @property
    def changes_nothing(self) -> bool:
        """Whether there is nothing to write."""
        return not (self.creates or self.updates or self.revivals or self.moved or self.deletes)


def make_plan(
    source_id: str,
    sheet: SheetRows,
    stored: Collection[StoredBudget],
    *,
    allow_deletes: bool = False,
    approved_ids: Collection[str] = frozenset(),
    held_before: Collection[str] = frozenset(),
    check: Check = no_check,
) -> SyncPlan:
    """The changes that a source's sheet means for a customer's stored budgets.

    `allow_deletes` switches the deletion limit off. `approved_ids` does so for these budgets only,
    and they do not count toward the limit. Budgets that the previous run held (`held_before`)
    stay held until they are approved: without this, the limit could be passed because the same
    sheet brought new budgets too. It takes linear time, and calls `check` from time to time.
    """
    matched, errors = match_rows(source_id, sheet, stored, check)
    owned = _live_budgets(source_id, stored)
    # Rows that were rejected because of stored budgets count too: they also mean a budget.
    bad = [*sheet.errors, *errors]
    on_sheet = {match.budget.id for match in matched if match.budget is not None}
    missing = [budget for budget in owned if budget.id not in on_sheet]
    waiting = frozenset() if allow_deletes else frozenset(held_before) - frozenset(approved_ids)
    still_held = [budget for budget in missing if budget.id in waiting]
    missing = [budget for budget in missing if budget.id not in waiting]
    kept: list[KeptBudget] = []
    check()
    if bad and missing:
        kept, missing = _keep(missing, bad, stored)
    live_count = len(owned) - sum(1 for budget in missing if budget.id in approved_ids)
    deletes, held = _apply_deletion_limit(
        missing, still_held, live_count, approved_ids, allow_deletes=allow_deletes
    )
    deleted_ids = {budget.id for budget in deletes}
    matched, collisions = _without_collisions(matched, stored, deleted_ids)
    compared = _compare(source_id, checked(matched, check), has_limits=sheet.has_limits)
    return SyncPlan(
        creates=compared.creates,
        updates=[change for change in compared.changes if not change.is_revival],
        revivals=[change for change in compared.changes if change.is_revival],
        unchanged_count=compared.unchanged_count,
        moved=compared.moved,
        deletes=deletes,
        held=held,
        kept=kept,
        errors=sorted([*bad, *collisions]),
        overdrawn_count=_overdrawn_count(owned, deleted_ids, compared.changes),
        live_count=live_count,
    )


def _live_budgets(source_id: str, stored: Iterable[StoredBudget]) -> list[StoredBudget]:
    return [
        budget for budget in stored if budget.source_id == source_id and budget.deleted_at is None
    ]


def _keep(
    missing: list[StoredBudget], bad: Collection[RowError], stored: Iterable[StoredBudget]
) -> tuple[list[KeptBudget], list[StoredBudget]]:
    """The missing budgets that a bad row means or may mean; and the rest of the missing budgets."""
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
    for error in bad:
        meant = stored_by_id.get(error.external_id) if error.external_id is not None else None
        key = error.key
        if meant is not None:
            error_by_id[meant.id] = error
        if key is not None:
            error_by_key[key] = error
        if meant is None and (key is None or (error.id_unknown and key not in live_keys)):
            unclear.add(error)
    kept: list[KeptBudget] = []
    rest: list[StoredBudget] = []
    for budget in missing:
        if certain := error_by_id.get(budget.id) or error_by_key.get(budget.key):
            reason = f"row {certain.row} means it, and cannot be used"
        elif possible := unclear.first_for(budget):
            reason = f"row {possible.row} cannot be read, and may mean it"
        else:
            rest.append(budget)
            continue
        kept.append(KeptBudget(budget, reason))
    return kept, rest


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


def _apply_deletion_limit(
    missing: list[StoredBudget],
    still_held: list[StoredBudget],
    live_count: int,
    approved_ids: Collection[str],
    *,
    allow_deletes: bool,
) -> tuple[list[StoredBudget], list[StoredBudget]]:
    """The budgets to delete, and those to hold back: all unapproved ones if there are too many."""
    unapproved = (
        [] if allow_deletes else [budget for budget in missing if budget.id not in approved_ids]
    )
    count = len(unapproved) + len(still_held)
    too_many = count * 2 > live_count or (count > DELETION_LIMIT_COUNT and count * 10 > live_count)
    if not too_many:
        return missing, still_held
    held = {budget.id for budget in unapproved}
    return [budget for budget in missing if budget.id not in held], [*still_held, *unapproved]


def _without_collisions(
    matched: list[Match], stored: Iterable[StoredBudget], deleted_ids: Collection[str]
) -> Matches:
    """Reject the rows with a department and period that another live budget keeps.

    The budget of a rejected row keeps its old department and period, which may cause the next
    collision.
    """
    wanting = [match for match in matched if _wants_a_key(match)]
    if not wanting:
        return Matches(matched, [])
    moving_ids = {
        match.budget.id for match in wanting if match.budget and match.budget.deleted_at is None
    }
    occupied = {
        budget.key: budget
        for budget in stored
        if budget.deleted_at is None
        and budget.id not in deleted_ids
        and budget.id not in moving_ids
    }
    wanting_by_key: dict[BudgetKey, list[Match]] = {}
    for match in wanting:
        wanting_by_key.setdefault(match.row.budget.key, []).append(match)
    errors: list[RowError] = []
    rejected_rows: set[int] = set()
    # Each row is looked at once: as soon as its department and period are known to be occupied.
    occupied_keys = [key for key in wanting_by_key if key in occupied]
    while occupied_keys:
        colliding = [match for key in occupied_keys for match in wanting_by_key.pop(key, ())]
        occupied_keys = []
        for row, budget in colliding:
            other = occupied[row.budget.key]
            problem = (
                f"{other.label} is still budget {other.id}, which this sync run does not move or "
                "delete: resolve that first"
            )
            errors.append(rejected(row, problem))
            rejected_rows.add(row.number)
            if budget is not None and budget.deleted_at is None:
                occupied[budget.key] = budget
                occupied_keys.append(budget.key)
    return Matches([match for match in matched if match.row.number not in rejected_rows], errors)


def _wants_a_key(match: Match) -> bool:
    """Whether a row has a department and period that its budget does not already have."""
    budget, wanted = match.budget, match.row.budget
    return (
        budget is None
        or budget.sheet.department_key != wanted.department_key
        or budget.sheet.period_key != wanted.period_key
        or budget.deleted_at is not None
    )


class _Compared(NamedTuple):
    """The matched rows by what they change. `moved` rows are among the unchanged ones."""

    creates: list[SheetRow]
    changes: list[Change]
    moved: list[MovedRow]
    unchanged_count: int


def _compare(source_id: str, matched: Iterable[Match], *, has_limits: bool) -> _Compared:
    """Compare each row with its stored budget."""
    creates: list[SheetRow] = []
    changes: list[Change] = []
    moved: list[MovedRow] = []
    unchanged_count = 0
    for row, budget in matched:
        if budget is None:
            creates.append(row)
            continue
        # Most rows are equal to their budget, for which the first comparison is enough.
        if (
            budget.source_id == source_id
            and budget.deleted_at is None
            and (
                row.budget == budget.sheet
                or _described(row.budget, budget.sheet, has_limits=has_limits) == budget.sheet
            )
        ):
            unchanged_count += 1
            if row.number != budget.source_row:
                moved.append(MovedRow(row.number, budget.id))
        else:
            changes.append(_change(source_id, row, budget, has_limits=has_limits))
    return _Compared(creates, changes, moved, unchanged_count)


def _described(row: SheetBudget, stored: SheetBudget, *, has_limits: bool) -> SheetBudget:
    """The row, with the stored values of the columns that it leaves out."""
    if row.external_id is None and stored.external_id is not None:
        row = row._replace(external_id=stored.external_id)
    if not has_limits and stored.limit_minor is not None:
        row = row._replace(limit_minor=stored.limit_minor)
    return row


def _change(source_id: str, row: SheetRow, before: StoredBudget, *, has_limits: bool) -> Change:
    after = before._replace(
        source_id=source_id,
        source_row=row.number,
        deleted_at=None,
        sheet=_described(row.budget, before.sheet, has_limits=has_limits),
    )
    fields = tuple(change for change in _audited(before, after) if change.old != change.new)
    return Change(row.number, before, after, fields)


#: The audited columns that a sheet sets -> the fields of SheetBudget.
_AUDITED_SHEET_FIELDS: Mapping[str, str] = {
    "externalId": "external_id",
    "department": "department",
    "fiscalPeriod": "period",
    "budgetedAmount": "budgeted_minor",
    "autoApproveLimit": "limit_minor",
}


def _audited(before: StoredBudget, after: StoredBudget) -> Iterable[FieldChange]:
    """The old and new values of the audited columns, in the order of the audit log."""
    yield FieldChange("sourceId", before.source_id, after.source_id)
    for name, field in _AUDITED_SHEET_FIELDS.items():
        yield FieldChange(name, getattr(before.sheet, field), getattr(after.sheet, field))


def refresh(
    source_id: str,
    plan: SyncPlan,
    stored: Iterable[StoredBudget],
    newer: Collection[StoredBudget],
) -> SyncPlan | None:
    """The plan with the newer figures of budgets on which money moved since it was created.

    `newer` are the changed ones of the `stored` budgets. None if a change is more than a movement,
    or if the plan would be another one with the new figures: then it must be planned again.
    """
    newer_by_id = {budget.id: budget for budget in newer}
    moved = [(old, newer_by_id[old.id]) for old in stored if old.id in newer_by_id]
    if not all(_is_movement(old, new) for old, new in moved):
        return None

    def latest(budget: StoredBudget) -> StoredBudget:
        return newer_by_id.get(budget.id, budget)

    def latest_change(change: Change) -> Change:
        new = newer_by_id.get(change.before.id)
        if new is None:
            return change
        return change._replace(before=new, after=_moved(change.after, new))

    updates, revivals = (
        [latest_change(change) for change in changes] for changes in (plan.updates, plan.revivals)
    )
    changes = {change.before.id: change for change in (*updates, *revivals)}
    overdrawn_count = plan.overdrawn_count
    deleted_ids = {budget.id for budget in plan.deletes}
    for old, new in moved:
        change = changes.get(old.id)
        if change:
            if problem_of(source_id, change.after.sheet, change.before):
                return None
            before = _moved(change.after, old)
            overdrawn_count += _is_overdrawn(change.after) - _is_overdrawn(before)
        elif old.source_id == source_id and old.deleted_at is None and old.id not in deleted_ids:
            overdrawn_count += _is_overdrawn(new) - _is_overdrawn(old)
    return replace(
        plan,
        updates=updates,
        revivals=revivals,
        deletes=[latest(budget) for budget in plan.deletes],
        held=[latest(budget) for budget in plan.held],
        kept=[kept._replace(budget=latest(kept.budget)) for kept in plan.kept],
        overdrawn_count=overdrawn_count,
    )


def _is_movement(old: StoredBudget, new: StoredBudget) -> bool:
    """Whether only money moved on a budget.

    Whether money is used on a deleted budget decides about new budgets, so that must not change.
    """
    if new.deleted_at is not None and bool(new.balance.used_minor) != bool(old.balance.used_minor):
        return False
    return _moved(old, new) == new


def _moved(budget: StoredBudget, new: StoredBudget) -> StoredBudget:
    """A budget with the figures and the version of another state of it."""
    return budget._replace(
        reserved_minor=new.reserved_minor,
        committed_minor=new.committed_minor,
        version=new.version,
    )


def _is_overdrawn(budget: StoredBudget) -> bool:
    # Compared without creating a Balance, because this is done for every budget.
    return budget.reserved_minor + budget.committed_minor > budget.sheet.budgeted_minor


def _overdrawn_count(
    owned: Iterable[StoredBudget], deleted_ids: Collection[str], changes: Iterable[Change]
) -> int:
    changed = {change.before.id: change.after for change in changes}
    after = [changed.pop(budget.id, budget) for budget in owned if budget.id not in deleted_ids]
    # The changes that are left adopt or revive budgets that are not in `owned`.
    after += changed.values()
    return sum(map(_is_overdrawn, after))
