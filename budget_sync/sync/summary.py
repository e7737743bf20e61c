"""Describes a sync plan for people: sections of lines for a preview, and sentences. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

from budget_sync.domain.balance import Balance
from budget_sync.sync.changes import Change, FieldChange
from budget_sync.sync.hold_lines import hold_lines, hold_sentences
from budget_sync.sync.match import StoredBudget
from budget_sync.sync.plan import SyncPlan
from budget_sync.sync.reading.result import RowError, SheetResult, SheetRow

#: A section describes at most this many rows or budgets: a page with all rows of a large sheet
#: would take seconds to create.
MAX_ITEMS: Final = 2000

#: A message names at most this many rows.
MAX_NAMED_ROWS: Final = 3

T = TypeVar("T")

_FIELD_NAMES = {
    "sourceId": "owner",
    "externalId": "Budget ID",
    "department": "department",
    "fiscalPeriod": "fiscal period",
    "budgetedAmount": "budgeted amount",
    "autoApproveLimit": "auto-approve limit",
    "ownerEmail": "Owner Email",
}


class Section(NamedTuple):
    """Rows or budgets with the same outcome, a line each.

    A line that starts with "!" is a warning about the line before it.
    """

    title: str
    lines: list[str]
    is_held: bool = False


class PlanSummary(NamedTuple):
    """A plan as one line, and as sections."""

    line: str
    sections: list[Section]


def summarize(
    plan: SyncPlan, sheet: SheetResult, open_reservations: Mapping[str, int]
) -> PlanSummary:
    """Describe a plan. `open_reservations` counts the open reservations by budget id."""
    held_title = (
        f"Held back until a person answers, of {_count(plan.live_count, 'live budget')} of the "
        "source"
    )

    def changes(of: Sequence[Change]) -> list[str]:
        return _lines(of, lambda change: _change_lines(change, open_reservations))

    def deletions(of: Sequence[StoredBudget]) -> list[str]:
        return _lines(of, lambda budget: _deletion_lines(budget, open_reservations))

    sections = [
        Section("Would be created", _lines(plan.creates, lambda row: [_creation_line(row, sheet)])),
        Section("Would be changed", changes(plan.updates)),
        Section("Would be revived, with their old ids", changes(plan.revivals)),
        Section("Would be deleted", deletions(plan.deletes)),
        Section(held_title, _lines(plan.held, hold_lines), is_held=True),
        Section(
            "Kept, though not in the sheet",
            _lines(plan.kept, lambda kept: [f"{_named(kept.budget)}: {kept.reason}"]),
        ),
        Section(
            "Rejected rows, which change nothing",
            _lines(plan.errors, lambda error: [f"{rows_text(error.rows)}{error.message}"]),
        ),
        Section("Left out", left_out_lines(sheet.skipped)),
        Section("Notes", sheet.notes),
    ]
    return PlanSummary(f"{_counts(plan)}.", [section for section in sections if section.lines])


def _lines(items: Sequence[T], describe: Callable[[T], Iterable[str]]) -> list[str]:
    """The lines of a section, and the number of items that it leaves out."""
    lines = [line for item in items[:MAX_ITEMS] for line in describe(item)]
    more = len(items) - MAX_ITEMS
    return [*lines, f"and {more:,} more"] if more > 0 else lines


def rejections(plan: SyncPlan) -> list[str]:
    """A sentence about the rejected rows, if there are any."""
    if not plan.errors:
        return []
    first = plan.errors[0]
    count = _count(len(plan.errors), "problem")
    sentence = f"{rows_text(first.rows)}{first.message}".rstrip(".")
    return [f"{count} in the sheet, the first is {sentence}."]


def warnings(plan: SyncPlan) -> list[str]:
    """Sentences about held and kept budgets, overdrafts and takeovers."""
    sentences = hold_sentences(plan.held, plan.live_count)
    if plan.kept:
        first = plan.kept[0]
        sentences.append(
            f"{_count(len(plan.kept), 'budget')} kept though not in the sheet: "
            f"{first.budget.label}: {first.reason}."
        )
    overdrafts = [
        _overdraft(change) for change in (*plan.updates, *plan.revivals) if change.is_overdrawn
    ]
    if overdrafts:
        text = overdrafts[0]
        more = f" (and {len(overdrafts) - 1} more)" if len(overdrafts) > 1 else ""
        sentences.append(f"{text[0].upper()}{text[1:]}{more}.")
    takeovers = [change for change in (*plan.updates, *plan.revivals) if change.is_takeover]
    if takeovers:
        more = f" (and {len(takeovers) - 1:,} more)" if len(takeovers) > 1 else ""
        sentences.append(f"{_takeover(takeovers[0])}{more}.")
    return sentences


def errors_json(errors: Iterable[RowError]) -> list[dict[str, object]]:
    """Rejected rows as JSON."""
    return [{"rows": list(error.rows), "message": error.message} for error in errors]


def rows_text(rows: tuple[int, ...]) -> str:
    """The rows of an error, to precede its message: "rows 4, 9: "."""
    if not rows:
        return ""
    named = ", ".join(map(str, rows[:MAX_NAMED_ROWS]))
    more = f" and {len(rows) - MAX_NAMED_ROWS:,} more" if len(rows) > MAX_NAMED_ROWS else ""
    return f"row{'s' * (len(rows) > 1)} {named}{more}: "


def left_out_lines(skipped: Mapping[int, str]) -> list[str]:
    """The rows that do not count, by reason: "829 rows (left out by Status)", "row 31 (total)"."""
    by_reason: dict[str, list[int]] = {}
    for row, why in skipped.items():
        by_reason.setdefault(why, []).append(row)
    lines = []
    for why, rows in by_reason.items():
        if len(rows) == 1:
            named = f"row {rows[0]}"
        elif len(rows) <= MAX_NAMED_ROWS:
            named = f"rows {', '.join(map(str, rows))}"
        else:
            named = f"{len(rows):,} rows"
        lines.append(f"{named} ({why})")
    return lines


def counts_line(counts: Mapping[str, int]) -> str:
    """The counts that are not 0, with their labels: "3 created, 42 unchanged"."""
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
            "rejected": len(plan.errors),
        }
    )


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _creation_line(row: SheetRow, sheet: SheetResult) -> str:
    budget = row.budget
    money = Balance(budget.currency, budget.exponent, budget.budgeted_minor, 0, 0).money
    line = f"row {row.number:<5} {budget.label}: {money(budget.budgeted_minor)}"
    if sheet.has_limits and budget.limit_minor is not None:
        line += f", auto-approve limit {money(budget.limit_minor)}"
    if budget.owner_email:
        line += f", owner {budget.owner_email}"
    if budget.external_id:
        line += f" (Budget ID {budget.external_id})"
    return line


def _change_lines(change: Change, open_reservations: Mapping[str, int]) -> Iterable[str]:
    before = change.before
    fields = "; ".join(_field_change(each, before) for each in change.fields)
    yield f"row {change.row:<5} {_named(before)}: {fields or 'no visible change'}"
    if change.is_overdrawn:
        yield f"! {_overdraft(change)}{_reservations(before, open_reservations)}"


def _field_change(change: FieldChange, budget: StoredBudget) -> str:
    old = _field_text(change.name, change.old, budget)
    new = _field_text(change.name, change.new, budget)
    return f"{_FIELD_NAMES[change.name]} {old} → {new}"


def _field_text(name: str, value: object, budget: StoredBudget) -> str:
    if value is None:
        return "set by hand" if name == "sourceId" else "none"
    if name == "sourceId":
        return "this source"
    return budget.balance.money(value) if isinstance(value, int) else str(value)


def _overdraft(change: Change) -> str:
    budget, balance = change.after.sheet, change.after.balance
    is_cut = balance.budgeted_minor < change.before.sheet.budgeted_minor
    verb, preposition = ("cuts", "to") if is_cut else ("leaves", "at")
    return (
        f"row {change.row} {verb} {budget.department} {budget.period} {preposition} "
        f"{balance.money(balance.budgeted_minor)}; "
        f"{balance.money(balance.used_minor)} is reserved or committed"
    )


def _takeover(change: Change) -> str:
    before, after = change.before.balance, change.after.balance
    old, new = (balance.money(balance.budgeted_minor) for balance in (before, after))
    amount = f"its amount stays {new}" if old == new else f"its amount was {old} and is now {new}"
    return (
        f"Row {change.row} takes over {change.before.full_name}, which was set by hand or lost its "
        f"source: {amount}"
    )


def _deletion_lines(budget: StoredBudget, open_reservations: Mapping[str, int]) -> Iterable[str]:
    balance = budget.balance
    yield f"{_named(budget)}: {balance.money(balance.budgeted_minor)}"
    if balance.used_minor:
        used = {"reserved": balance.reserved_minor, "committed": balance.committed_minor}
        amounts = " and ".join(
            f"{balance.money(minor)} is {what}" for what, minor in used.items() if minor
        )
        consequence = (
            "; it can still be committed or released, but nothing new can be reserved"
            if balance.reserved_minor
            else ""
        )
        yield f"! {amounts}{_reservations(budget, open_reservations)}{consequence}"


def _reservations(budget: StoredBudget, open_reservations: Mapping[str, int]) -> str:
    count = open_reservations.get(budget.id, 0)
    return f" ({_count(count, 'open reservation')})" if count else ""


def _named(budget: StoredBudget) -> str:
    return f"{budget.label} [{budget.sheet_id}]"
