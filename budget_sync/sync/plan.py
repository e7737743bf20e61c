"""A sheet's rows against the budgets that are there -> what a pass would change. Pure.

A source creates, changes and deletes only what it owns, and adopts what nobody owns. What a bad row means, or may mean, is kept;
and the brake holds deletions that are too many.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from budget_sync.sync.match import Key, Match, Stored, match_rows, refused
from budget_sync.sync.rows import RowError, SheetBudget, SheetRows

#: Up to so many deletions pass unless they are more than half; more are held when they are more than a tenth.
DELETION_LIMIT_COUNT = 10


class Change(NamedTuple):
    """A budget that is there, and what it becomes. `fields` are the audited differences, as (name, old, new), amounts in minor units."""

    row: int
    before: Stored
    after: Stored
    fields: tuple[tuple[str, object, object], ...]

    @property
    def is_revival(self) -> bool:
        """Whether the budget had been deleted."""
        return self.before.deleted_at is not None

    @property
    def is_overdrawn(self) -> bool:
        """Whether less is budgeted than is reserved and committed."""
        return self.after.budgeted_minor < self.after.spoken_for_minor


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """What a pass would do.

    `moved` are rows that changed their number alone, which is noted and is no change of a budget. `kept` are budgets that are
    not on the sheet and yet not to be deleted, each with the reason. `overdrawn_count` is how many of the source's budgets
    stand below what is reserved and committed once all this is done. `live_count` is how many live budgets the source has
    without those that a person let go of: what the brake weighs the other deletions against.
    """

    creates: list[SheetBudget]
    updates: list[Change]
    revivals: list[Change]
    unchanged_count: int
    moved: list[tuple[int, str]]
    deletes: list[Stored]
    held: list[Stored]
    kept: list[tuple[Stored, str]]
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
    stored: Collection[Stored],
    *,
    allow_deletes: bool = False,
    approved_ids: Collection[str] = frozenset(),
    held_before: Collection[str] = frozenset(),
) -> SyncPlan:
    """What the sheet would change in a customer's budgets.

    `allow_deletes` lets the brake go; `approved_ids` does so for those budgets alone, and the others are weighed without them.
    What the pass before held (`held_before`) stays held until a person lets go of it: the brake must not loosen by itself
    because the same sheet brought new budgets too.
    """
    matched, errors = match_rows(source_id, sheet, stored)
    owned = [
        budget for budget in stored if budget.source_id == source_id and budget.deleted_at is None
    ]
    bad = [*sheet.errors, *errors]
    # Those of the rows that are bad because of what is stored count as well: they mean a budget all the same.
    on_sheet = {budget.id for _, budget in matched if budget is not None}
    missing = [budget for budget in owned if budget.id not in on_sheet]
    waiting = frozenset() if allow_deletes else frozenset(held_before) - frozenset(approved_ids)
    still_held = [budget for budget in missing if budget.id in waiting]
    missing = [budget for budget in missing if budget.id not in waiting]
    kept, missing = _keep(missing, bad, stored) if bad and missing else ([], missing)
    live_count = len(owned) - sum(1 for budget in missing if budget.id in approved_ids)
    deletes, held = _brake(
        missing, still_held, live_count, approved_ids, allow_deletes=allow_deletes
    )
    leaving = {budget.id for budget in deletes}
    matched, crowded = _without_collisions(matched, stored, leaving)
    creates, changes, moved, unchanged_count = _changes(source_id, sheet, matched)
    return SyncPlan(
        creates=creates,
        updates=[change for change in changes if not change.is_revival],
        revivals=[change for change in changes if change.is_revival],
        unchanged_count=unchanged_count,
        moved=moved,
        deletes=deletes,
        held=held,
        kept=kept,
        errors=sorted([*bad, *crowded]),
        overdrawn_count=_overdrawn_count(owned, leaving, changes),
        live_count=live_count,
    )


def _keep(
    missing: list[Stored], bad: Collection[RowError], stored: Iterable[Stored]
) -> tuple[list[tuple[Stored, str]], list[Stored]]:
    """The missing budgets that a bad row means or may mean, each with the reason; and the others."""
    known = {
        name: budget
        for budget in stored
        for name in (budget.id, budget.external_id)
        if name is not None
    }
    live_keys = {budget.key for budget in stored if budget.deleted_at is None}
    surely: dict[str, RowError] = {}
    by_key: dict[Key, RowError] = {}
    vague: list[RowError] = []
    for error in bad:
        meant = known.get(error.external_id) if error.external_id is not None else None
        key = (
            None
            if error.department_key is None or error.period_key is None
            else (error.department_key, error.period_key)
        )
        if meant is not None:
            surely[meant.id] = error
        if key is not None:
            by_key[key] = error
        if meant is None and (key is None or (error.id_unknown and key not in live_keys)):
            vague.append(error)
    kept: list[tuple[Stored, str]] = []
    rest: list[Stored] = []
    for budget in missing:
        sure = surely.get(budget.id) or by_key.get(budget.key)
        maybe = None if sure else next((each for each in vague if _may_mean(each, budget)), None)
        if sure:
            kept.append((budget, f"row {sure.row} means it, and cannot be used"))
        elif maybe:
            kept.append((budget, f"row {maybe.row} cannot be read, and may mean it"))
        else:
            rest.append(budget)
    return kept, rest


def _may_mean(error: RowError, budget: Stored) -> bool:
    """Whether a row that does not say which budget it means may mean this one: nothing that it does say speaks against it."""
    if error.department_key is not None and error.period_key is not None:
        # Only its Budget ID cannot be read, and a budget known by its ID may have got another name.
        return budget.external_id is not None
    department_key, key = budget.key
    return error.department_key in (None, department_key) and error.period_key in (None, key)


def _brake(
    missing: list[Stored],
    still_held: list[Stored],
    live_count: int,
    approved_ids: Collection[str],
    *,
    allow_deletes: bool,
) -> tuple[list[Stored], list[Stored]]:
    """What is deleted, and what is held for a person: all that nobody approved, where that is too much."""
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
    matched: list[Match], stored: Iterable[Stored], leaving: Collection[str]
) -> tuple[list[Match], list[RowError]]:
    """Refuse the rows that want a department and period which another live budget keeps; a refused row's budget keeps its own in turn."""
    # By position, as in _changes: this is asked of every row.
    wanting = [
        (row, budget)
        for row, budget in matched
        if budget is None or budget[12] is not None or budget[5] != row[3] or budget[7] != row[5]
    ]
    moving = {
        budget.id for _, budget in wanting if budget is not None and budget.deleted_at is None
    }
    if not wanting:
        return matched, []
    errors: list[RowError] = []
    occupied = {
        budget.key: budget
        for budget in stored
        if budget.deleted_at is None and budget.id not in leaving and budget.id not in moving
    }
    out: set[int] = set()
    while True:
        crowded = [
            (row, budget) for row, budget in wanting if row.row not in out and row.key in occupied
        ]
        if not crowded:
            break
        for row, budget in crowded:
            there = occupied[row.key]
            errors.append(
                refused(
                    row,
                    f"{there.label} is still budget {there.id}, which this pass does not move or delete: settle that one first",
                )
            )
            out.add(row.row)
            if budget is not None and budget.deleted_at is None:
                occupied[budget.key] = budget
    return [pair for pair in matched if pair[0].row not in out], errors


def _changes(
    source_id: str, sheet: SheetRows, matched: Iterable[Match]
) -> tuple[list[SheetBudget], list[Change], list[tuple[int, str]], int]:
    """What each row comes to: the new ones, the changes, those that moved on the sheet alone, and how many are as they were."""
    creates: list[SheetBudget] = []
    changes: list[Change] = []
    moved: list[tuple[int, str]] = []
    unchanged_count = 0
    has_limits = sheet.has_limits
    for row, budget in matched:
        if budget is None:
            creates.append(row)
        elif (
            # The same six columns of both, and nothing else that a row could change.
            row[2:8] == budget[4:10]
            and budget[1] == source_id
            and budget[12] is None
            and (row[8] == budget[10] or not has_limits)
            and (row[1] is None or row[1] == budget[3])
        ):
            unchanged_count += 1
            if row[0] != budget[2]:
                moved.append((row[0], budget[0]))
        else:
            changes.append(_change(source_id, sheet, row, budget))
    return creates, changes, moved, unchanged_count


def _overdrawn_count(
    owned: Iterable[Stored], leaving: Collection[str], changes: Iterable[Change]
) -> int:
    changed = {change.before.id: change.after for change in changes}
    after = [changed.pop(budget.id, budget) for budget in owned if budget.id not in leaving]
    # What is left of the changed ones was not the source's own before.
    return sum(1 for budget in (*after, *changed.values()) if budget[13] + budget[14] > budget[9])


def _change(source_id: str, sheet: SheetRows, row: SheetBudget, budget: Stored) -> Change:
    after = budget._replace(
        source_id=source_id,
        source_row=row.row,
        external_id=budget.external_id if row.external_id is None else row.external_id,
        department=row.department,
        department_key=row.department_key,
        period=row.period,
        period_key=row.period_key,
        budgeted_minor=row.budgeted_minor,
        limit_minor=row.limit_minor if sheet.has_limits else budget.limit_minor,
        deleted_at=None,
    )
    fields = tuple((name, old, new) for name, old, new in _audited(budget, after) if old != new)
    return Change(row.row, budget, after, fields)


def _audited(before: Stored, after: Stored) -> Iterable[tuple[str, object, object]]:
    """The columns whose changes are audited, by the names of the table."""
    names: Mapping[str, str] = {
        "sourceId": "source_id",
        "externalId": "external_id",
        "department": "department",
        "fiscalPeriod": "period",
        "budgetedAmount": "budgeted_minor",
        "autoApproveLimit": "limit_minor",
    }
    return (
        (name, getattr(before, attribute), getattr(after, attribute))
        for name, attribute in names.items()
    )
