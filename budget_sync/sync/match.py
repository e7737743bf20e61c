"""Which budget each row of a sheet means, and which rows may not have what they mean. Pure.

A row is known by its Budget ID, or without one by department and period.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from budget_sync.domain.money import format_money
from budget_sync.domain.periods import fold, period_key
from budget_sync.sync.rows import RowError, SheetBudget, SheetRows

#: Of a department and period.
Key = tuple[str, str]


class Stored(NamedTuple):
    """A budget of the customer as the database has it, deleted ones included. Its fifth to twelfth fields are a SheetBudget's."""

    id: str
    source_id: str | None
    source_row: int | None
    external_id: str | None
    department: str
    department_key: str
    period: str
    period_key: str
    currency: str
    budgeted_minor: int
    limit_minor: int | None
    exponent: int
    deleted_at: str | None
    reserved_minor: int
    committed_minor: int
    version: int

    @property
    def key(self) -> Key:
        """What makes it the only live one of its customer; folded anew, since an earlier version may have stored it."""
        return fold(self.department_key), period_key(self.period_key)

    @property
    def spoken_for_minor(self) -> int:
        """What is reserved or committed."""
        return self.reserved_minor + self.committed_minor

    @property
    def label(self) -> str:
        """How people name it."""
        return f"{self.department}, {self.period}"


#: A row, and the budget it means, if that is there.
Match = tuple[SheetBudget, Stored | None]


def match_rows(
    source_id: str, sheet: SheetRows, stored: Collection[Stored]
) -> tuple[list[Match], list[RowError]]:
    """Each good row with the budget it means, None where it is a new one; and the rows that may not have what they mean."""
    by_id: dict[str, Stored] = {
        budget.id: budget for budget in stored if budget.external_id is None
    }
    by_id |= {budget.external_id: budget for budget in stored if budget.external_id is not None}
    matched: list[Match] = []
    unmatched: list[SheetBudget] = []
    errors: list[RowError] = []
    mine = (source_id, None)
    for row in sheet.budgets:
        budget = by_id.get(row.external_id) if row.external_id is not None else None
        if budget is None:
            unmatched.append(row)
        elif problem := _problem(row, budget, mine):
            errors.append(refused(row, problem))
        else:
            matched.append((row, budget))
    if unmatched:
        taken = {budget.id for _, budget in matched if budget is not None} | {
            budget.id for budget in map(by_id.get, ids_of(errors)) if budget
        }
        found, more_errors = _match_by_key(unmatched, stored, taken, ids_of(sheet.errors), mine)
        matched += found
        errors += more_errors
    matched, more_errors = _without_fresh_money(source_id, matched, stored)
    return matched, errors + more_errors


def _match_by_key(
    rows: Iterable[SheetBudget],
    stored: Iterable[Stored],
    taken: Collection[str],
    bad_ids: Collection[str],
    mine: Collection[str | None],
) -> tuple[list[Match], list[RowError]]:
    """The same for rows without a Budget ID, or with one that is new."""
    live: dict[Key, Stored] = {}
    gone: dict[Key, list[Stored]] = {}
    for budget in stored:
        if budget.id in taken:
            continue
        key = budget.key
        if budget.deleted_at is None:
            # Where an earlier version told two names apart that are one, only one of them has that very key.
            if key not in live or key == (budget.department_key, budget.period_key):
                live[key] = budget
        elif budget.source_id in mine and (budget.external_id or budget.id) not in bad_ids:
            gone.setdefault(key, []).append(budget)
    matched: list[Match] = []
    errors: list[RowError] = []
    for row in rows:
        there = live.get(row.key) or _to_revive(row, gone.get(row.key, []))
        if there is None:
            matched.append((row, None))
        elif problem := _problem(row, there, mine):
            errors.append(refused(row, problem))
        elif (there.external_id or there.id) in bad_ids:
            errors.append(
                refused(
                    row,
                    f"{there.label} is budget {there.external_id or there.id}, whose own row cannot be used: repair that one first",
                )
            )
        else:
            matched.append((row, there))
    return matched, errors


def _to_revive(row: SheetBudget, gone: Iterable[Stored]) -> Stored | None:
    """The latest deleted budget that a row brings back: of that department and period, in its currency, and of no other Budget ID."""
    fitting = [
        budget
        for budget in gone
        if (row.external_id is None or budget.external_id is None)
        and row.currency == budget.currency
    ]
    return max(fitting, key=lambda budget: (budget.deleted_at or "", budget.id), default=None)


def _problem(row: SheetBudget, budget: Stored, mine: Collection[str | None]) -> str | None:
    """Why a row may not change the budget it means."""
    if budget.source_id not in mine:
        advice = (
            ": keep it in one sheet only"
            if budget.deleted_at is None
            else ", whose sheet it left: put it back there, or give this row another Budget ID"
        )
        return f"{budget.label} (budget {budget.id}) belongs to source {budget.source_id}{advice}"
    if row.currency != budget.currency:
        return (
            f"{budget.label} (budget {budget.id}) is in {budget.currency} and cannot become {row.currency}: "
            f"write {budget.currency} in the Currency column, or give the new one a Budget ID and period of its own"
        )
    if row.exponent != budget.exponent:
        # The currency tables that came with the program changed: the same figure would be another amount in the minor units stored.
        return (
            f"{budget.label} (budget {budget.id}) has {budget.currency} with {budget.exponent} decimals, which has {row.exponent} by now: "
            "it stays as it is until whoever runs this service has seen to it"
        )
    if row.period_key != budget.key[1] and budget.spoken_for_minor:
        # Money was set aside for the period it was made in; it must not wander into another.
        return f"money is reserved or committed on {budget.label} (budget {budget.id}), so it cannot become {row.period}: add a row for {row.period}"
    return None


def _without_fresh_money(
    source_id: str, matched: list[Match], stored: Iterable[Stored]
) -> tuple[list[Match], list[RowError]]:
    """Refuse the rows that would have all their money again: what was spent of it stands on a deleted budget that is not this source's.

    That is what a row finds which moved here from another sheet. Where this source had the budget itself since, it is that one.
    """
    returning = {
        budget.id for _, budget in matched if budget is not None and budget.deleted_at is not None
    }
    spent: dict[Key, list[Stored]] = {}
    for each in stored:
        if (
            each.deleted_at is not None
            and each.spoken_for_minor
            and each.source_id != source_id
            and each.id not in returning
        ):
            spent.setdefault(each.key, []).append(each)
    if not spent:
        return matched, []
    kept: list[Match] = []
    errors: list[RowError] = []
    for row, budget in matched:
        is_live = budget is not None and budget.deleted_at is None
        old = None if is_live else _spent_since(budget, row.currency, spent.get(row.key, ()))
        if old is None:
            kept.append((row, budget))
        else:
            errors.append(refused(row, _left_behind(old)))
    return kept, errors


def _spent_since(returning: Stored | None, currency: str, spent: Iterable[Stored]) -> Stored | None:
    """The latest of these deleted budgets, in that currency, that was there after the one that comes back was deleted."""
    since = "" if returning is None else returning.deleted_at or ""
    later = [
        budget
        for budget in spent
        if budget.currency == currency and (budget.deleted_at or "") >= since
    ]
    return max(later, key=lambda budget: (budget.deleted_at or "", budget.id), default=None)


def _left_behind(old: Stored) -> str:
    """Why a row may not leave behind what was spent, and what to do."""
    if old.source_id is None:
        where = f"whose source was removed: write {old.external_id or old.id} in its Budget ID column to bring that budget back"
    else:
        where = f"whose row left the sheet of source {old.source_id}: put it back there"
    return (
        f"{format_money(old.spoken_for_minor, old.currency, old.exponent)} is reserved or committed on {old.label} (budget {old.id}), {where}, "
        "or make the new budget with `flask set-budget` if it is to start with nothing spent, and this row takes it over"
    )


def refused(row: SheetBudget, message: str) -> RowError:
    """A good row that may not have what it means."""
    return RowError(row.row, message, row.external_id, False, row.department_key, row.period_key)


def ids_of(errors: Iterable[RowError]) -> set[str]:
    """The Budget IDs that bad rows name."""
    return {error.external_id for error in errors if error.external_id is not None}
