"""Splits a huge plan into parts, each of which is written in a transaction of its own. Pure.

A sync run is all or nothing: a plan of at most MAX_ATOMIC changes is one transaction. But on
SQLite, the writes of all customers wait while a transaction is open, and 200,000 new budgets in one
would stop them for nine seconds. So a larger plan is written in parts.

After each part, every budget is as it was before the run or as the sheet says. If a run ends
between two parts, the next run makes the other changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from budget_sync.sync.changes import Change
from budget_sync.sync.plan import SyncPlan

#: The most changes in one transaction. On SQLite, they take about a second of processor time. The
#: largest budget sheets that we know have some thousand rows.
MAX_ATOMIC: Final = 20_000

#: The most changes in a part of a larger plan. On SQLite, they take about 30 ms.
MAX_CHANGES: Final = 500

#: Rows that only moved within the sheet are written faster: this many count as one change.
MOVED_PER_CHANGE: Final = 4

#: The most budgets that exchange their names in a circle. Only one transaction can do that.
MAX_CIRCLE: Final = 5000


class CircleError(Exception):
    """Too many budgets exchange their names; the text says what to do."""


class Counts(NamedTuple):
    """Numbers of changed budgets."""

    created: int = 0
    updated: int = 0
    revived: int = 0
    deleted: int = 0

    @classmethod
    def of(cls, plan: SyncPlan) -> Counts:
        """The changes of a plan, or of a part of one."""
        return cls(len(plan.creates), len(plan.updates), len(plan.revivals), len(plan.deletes))

    def plus(self, other: Counts) -> Counts:
        """The sums."""
        return Counts(*(one + another for one, another in zip(self, other, strict=True)))

    @property
    def in_sheet(self) -> int:
        """The changed budgets that the sheet has, which are unchanged if it is planned again."""
        return self.created + self.updated + self.revived

    @property
    def total(self) -> int:
        """All changes."""
        return sum(self)


def split(
    plan: SyncPlan, max_changes: int = MAX_CHANGES, max_atomic: int = MAX_ATOMIC
) -> list[SyncPlan]:
    """The parts of a plan in their order; one part for all but huge plans. Raises CircleError.

    Deletions and changes of names free names for the budgets after them. Deletions and lower
    amounts come before higher amounts and before new budgets, so that money that moves between
    budgets is not in both of them. Only a budget with a new name may be lowered after another one
    with a new name was raised: the order of names decides.
    """
    if Counts.of(plan).total + len(plan.moved) / MOVED_PER_CHANGE <= max_atomic:
        return [plan]
    filling = _Parts(plan, max_changes)
    for budget in plan.deletes:
        filling.make_room().deletes.append(budget)
    for group in _groups(plan.updates):
        filling.make_room(len(group)).updates.extend(group)
    for change in plan.revivals:
        filling.make_room().revivals.append(change)
    for row in plan.creates:
        filling.make_room().creates.append(row)
    for moved in plan.moved:
        filling.make_room(1 / MOVED_PER_CHANGE).moved.append(moved)
    return filling.parts


class _Parts:
    """The parts of a plan while they are filled."""

    def __init__(self, plan: SyncPlan, max_changes: int) -> None:
        self._plan = plan
        self._max_changes = max_changes
        self._size = 0.0
        self.parts: list[SyncPlan] = []

    def make_room(self, size: float = 1.0) -> SyncPlan:
        """The part for changes of this size: the latest one, or a new one if that is full."""
        if not self.parts or (self._size and self._size + size > self._max_changes):
            self.parts.append(
                replace(self._plan, creates=[], updates=[], revivals=[], deletes=[], moved=[])
            )
            self._size = 0.0
        self._size += size
        return self.parts[-1]


def _is_higher(change: Change) -> bool:
    return change.after.sheet.budgeted_minor > change.before.sheet.budgeted_minor


def _groups(updates: Sequence[Change]) -> Iterator[list[Change]]:
    """The changes in their order; those of a group belong to one part. Raises CircleError."""
    renames = [change for change in updates if change.before.key != change.after.key]
    others = [change for change in updates if change.before.key == change.after.key]
    yield from ([change] for change in others if not _is_higher(change))
    yield from _in_order(renames)
    yield from ([change] for change in others if _is_higher(change))


def _in_order(renames: Sequence[Change]) -> Iterator[list[Change]]:
    """Groups of renamed budgets, so that each name is free, or becomes free in the same group.

    A group has one budget, or the budgets of a circle. It takes linear time. Raises CircleError.
    """
    by_old_key = {change.before.key: change for change in renames}
    done: set[str] = set()
    for first in renames:
        # The chain of budgets, each of which needs the name of the next one.
        chain: list[Change] = []
        places: dict[str, int] = {}
        change: Change | None = first
        while change and change.before.id not in done and change.before.id not in places:
            places[change.before.id] = len(chain)
            chain.append(change)
            change = by_old_key.get(change.after.key)
        done.update(places)
        start = places.get(change.before.id) if change else None
        if start is not None:
            yield _circle(chain[start:])
            del chain[start:]
        yield from ([each] for each in reversed(chain))


def _circle(changes: list[Change]) -> list[Change]:
    if len(changes) > MAX_CIRCLE:
        raise CircleError(
            f"More than {MAX_CIRCLE:,} budgets exchange their names. Nothing was changed. Check "
            "the Budget IDs in the sheet: they may have moved to other rows."
        )
    return changes
