"""A plan as a finance person reads it, row by row, and a pass as one line. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from budget_sync.domain.money import format_money
from budget_sync.sync.match import Stored
from budget_sync.sync.plan import Change, SyncPlan
from budget_sync.sync.rows import SheetBudget, SheetRows

_FIELD_NAMES = {
    "sourceId": "owner",
    "externalId": "Budget ID",
    "department": "department",
    "fiscalPeriod": "fiscal period",
    "budgetedAmount": "budgeted amount",
    "autoApproveLimit": "auto-approve limit",
}


class Section(NamedTuple):
    """Rows or budgets that would meet the same fate, a line each; a line that warns of the one before it begins with "!"."""

    title: str
    lines: list[str]
    is_held: bool = False


def plan_page(
    plan: SyncPlan, sheet: SheetRows, open_reservations: Mapping[str, int]
) -> tuple[str, list[Section]]:
    """What a pass would do: in one line, and row by row. `open_reservations` counts them by budget id."""
    why = f"{len(plan.held)} of the source's {plan.live_count} live budgets are not in the sheet, which may be a mistake"
    sections = [
        Section("Would be created", _created(plan, sheet)),
        Section(
            "Would be changed",
            [line for change in plan.updates for line in _changed(change, open_reservations)],
        ),
        Section(
            "Would come back, under their old ids",
            [line for change in plan.revivals for line in _changed(change, open_reservations)],
        ),
        Section(
            "Would be deleted",
            [line for budget in plan.deletes for line in _deleted(budget, open_reservations)],
        ),
        Section(
            f"Held back: {why}",
            [line for budget in plan.held for line in _deleted(budget, open_reservations)],
            is_held=True,
        ),
        Section(
            "Kept, though not in the sheet",
            [f"{_named(budget)}: {reason}" for budget, reason in plan.kept],
        ),
        Section(
            "Refused, and left as they are",
            [f"row {error.row:<5} {error.message}" for error in plan.errors],
        ),
    ]
    return f"{_counts(plan)}.", [section for section in sections if section.lines]


def refused(plan: SyncPlan) -> list[str]:
    """One sentence about the refused rows, if there are any."""
    if not plan.errors:
        return []
    return [
        f"{_count(len(plan.errors), 'row')} refused, the first is row {plan.errors[0].row}: {plan.errors[0].message}."
    ]


def warnings(plan: SyncPlan, note: str | None) -> list[str]:
    """What a person must know beside the counts and the refused rows, a sentence each."""
    told = []
    if plan.held:
        told.append(
            f"{_count(len(plan.held), 'deletion')} held back, out of {_count(plan.live_count, 'live budget')}: "
            "if they are meant, let them through on the Sync page or with `flask sync-sheets --allow-deletes`."
        )
    if plan.kept:
        told.append(
            f"{_count(len(plan.kept), 'budget')} kept though not in the sheet: {plan.kept[0][0].label}: {plan.kept[0][1]}."
        )
    cut = [_overdraft(change) for change in (*plan.updates, *plan.revivals) if change.is_overdrawn]
    if cut:
        told.append(
            f"{cut[0][0].upper()}{cut[0][1:]}{f' (and {len(cut) - 1} more like it)' if len(cut) > 1 else ''}."
        )
    if note:
        told.append(f"The file was {note}.")
    return told


def counts_line(counts: Mapping[str, int]) -> str:
    """Counts by what they count, without those that are none: "3 created, 42 unchanged"."""
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "nothing"


def _counts(plan: SyncPlan) -> str:
    return counts_line(
        {
            "to create": len(plan.creates),
            "to change": len(plan.updates),
            "to revive": len(plan.revivals),
            "to delete": len(plan.deletes),
            "unchanged": plan.unchanged_count,
            "held back": len(plan.held),
            "kept": len(plan.kept),
            "refused": len(plan.errors),
        }
    )


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _created(plan: SyncPlan, sheet: SheetRows) -> list[str]:
    def limit(row: SheetBudget) -> str:
        if not sheet.has_limits or row.limit_minor is None:
            return ""
        return f", auto-approve limit {_money(row.limit_minor, row)}"

    return [
        f"row {row.row:<5} {row.department}, {row.period}: {_money(row.budgeted_minor, row)}"
        f"{limit(row)}{f' (Budget ID {row.external_id})' if row.external_id else ''}"
        for row in plan.creates
    ]


def _changed(change: Change, open_reservations: Mapping[str, int]) -> Iterable[str]:
    before = change.before
    what = "; ".join(
        f"{_FIELD_NAMES[name]} {_shown(name, old, before)} → {_shown(name, new, before)}"
        for name, old, new in change.fields
    )
    yield f"row {change.row:<5} {_named(before)}: {what or 'as it was'}"
    if change.is_overdrawn:
        yield f"! {_overdraft(change)}{_holding(before, open_reservations)}"


def _shown(name: str, value: object, budget: Stored) -> str:
    if value is None:
        return "made by hand" if name == "sourceId" else "none"
    if name == "sourceId":
        return "this source"
    return _money(value, budget) if isinstance(value, int) else str(value)


def _money(minor: int, budget: Stored | SheetBudget) -> str:
    return format_money(minor, budget.currency, budget.exponent)


def _overdraft(change: Change) -> str:
    after = change.after
    verb = "cuts" if after.budgeted_minor < change.before.budgeted_minor else "leaves"
    preposition = "to" if verb == "cuts" else "at"
    return (
        f"row {change.row} {verb} {after.department} {after.period} {preposition} {_money(after.budgeted_minor, after)}; "
        f"{_money(after.spoken_for_minor, after)} is reserved or committed"
    )


def _deleted(budget: Stored, open_reservations: Mapping[str, int]) -> Iterable[str]:
    yield f"{_named(budget)}: {_money(budget.budgeted_minor, budget)}"
    if budget.spoken_for_minor:
        spoken_for = {"reserved": budget.reserved_minor, "committed": budget.committed_minor}
        amounts = " and ".join(
            f"{_money(minor, budget)} is {what}" for what, minor in spoken_for.items() if minor
        )
        rest = (
            "; what is reserved can still be committed or released, and nothing new can be reserved"
            if budget.reserved_minor
            else ""
        )
        yield f"! {amounts}{_holding(budget, open_reservations)}{rest}"


def _holding(budget: Stored, open_reservations: Mapping[str, int]) -> str:
    count = open_reservations.get(budget.id, 0)
    return f" ({_count(count, 'open reservation')})" if count else ""


def _named(budget: Stored) -> str:
    return f"{budget.label} [{budget.external_id or budget.id}]"
