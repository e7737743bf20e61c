"""Brings a plan up to date with the money that moved since it was created. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from budget_sync.sync.changes import Change, is_overdrawn
from budget_sync.sync.holds.model import Hold
from budget_sync.sync.match import StoredBudget, problem_of
from budget_sync.sync.plan import SyncPlan


def refresh(
    source_id: str,
    plan: SyncPlan,
    stored: Iterable[StoredBudget],
    newer: Collection[StoredBudget],
    *,
    has_new: bool,
) -> SyncPlan | None:
    """The plan with the newer figures of budgets on which money moved since it was created.

    `newer` are the changed ones of the `stored` budgets. `has_new` is whether the sync run creates
    or revives any budget, perhaps in another part of its plan. None if a change is more than a
    movement, or if the plan would be another one with the new figures: then it must be planned
    again.
    """
    newer_by_id = {budget.id: budget for budget in newer}
    moved = [(old, newer_by_id[old.id]) for old in stored if old.id in newer_by_id]
    if not all(_is_movement(old, new) for old, new in moved):
        return None
    if has_new and _has_money_to_delete(plan, moved):
        return None

    def latest(budget: StoredBudget) -> StoredBudget:
        return newer_by_id.get(budget.id, budget)

    def latest_changes(changes: list[Change]) -> list[Change]:
        return [_latest_change(change, newer_by_id.get(change.before.id)) for change in changes]

    refreshed = replace(
        plan,
        updates=latest_changes(plan.updates),
        revivals=latest_changes(plan.revivals),
        deletes=[latest(budget) for budget in plan.deletes],
        held=[_latest_hold(hold, newer_by_id.get(hold.budget_id or "")) for hold in plan.held],
        kept=[kept._replace(budget=latest(kept.budget)) for kept in plan.kept],
    )
    more = _more_overdrawn(source_id, refreshed, moved)
    if more is None:
        return None
    return replace(refreshed, overdrawn_count=plan.overdrawn_count + more)


def _latest_change(change: Change, new: StoredBudget | None) -> Change:
    return change if new is None else change._replace(before=new, after=_moved(change.after, new))


def _latest_hold(hold: Hold, new: StoredBudget | None) -> Hold:
    return hold if new is None else hold._replace(used_minor=new.balance.used_minor)


def _more_overdrawn(
    source_id: str, plan: SyncPlan, moved: Iterable[tuple[StoredBudget, StoredBudget]]
) -> int | None:
    """How many more budgets are overdrawn; None if a change is no longer allowed."""
    changes = {change.before.id: change for change in (*plan.updates, *plan.revivals)}
    deleted_ids = {budget.id for budget in plan.deletes}
    more = 0
    for old, new in moved:
        change = changes.get(old.id)
        if change:
            if problem_of(source_id, change.after.sheet, change.before):
                return None
            more += is_overdrawn(change.after) - is_overdrawn(_moved(change.after, old))
        elif old.source_id == source_id and old.deleted_at is None and old.id not in deleted_ids:
            more += is_overdrawn(new) - is_overdrawn(old)
    return more


def _has_money_to_delete(
    plan: SyncPlan, moved: Iterable[tuple[StoredBudget, StoredBudget]]
) -> bool:
    """Whether money arrived on a budget to be deleted.

    It may be the old name of a budget that is created or revived, so its deletion may have to be
    held.
    """
    deleted_ids = {budget.id for budget in plan.deletes}
    return any(
        old.id in deleted_ids and new.balance.used_minor > 0 and old.balance.used_minor == 0
        for old, new in moved
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
