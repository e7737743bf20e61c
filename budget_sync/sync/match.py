"""Matches the rows of a sheet to stored budgets, and rejects rows that may not have theirs. Pure.

A row is identified by its Budget ID, or without one by its department and period.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import NamedTuple

from budget_sync.domain.balance import Balance
from budget_sync.domain.names import fold
from budget_sync.domain.periods import is_period_key
from budget_sync.sync.limits import Check, checked, no_check
from budget_sync.sync.reading.result import (
    BudgetKey,
    RowError,
    SheetBudget,
    SheetResult,
    SheetRow,
)


@lru_cache(maxsize=1024)
def _folded_period(key: str) -> str:
    """A stored key; one that is the text of a name is folded again."""
    return key if is_period_key(key) else fold(key)


class StoredBudget(NamedTuple):
    """A budget of the customer as it is in the database, deleted or not.

    `sheet` has the columns that a sheet sets. `version` counts the changes of the budget and the
    movements on it.
    """

    id: str
    source_id: str | None
    source_row: int | None
    deleted_at: str | None
    reserved_minor: int
    committed_minor: int
    version: int
    sheet: SheetBudget

    @property
    def key(self) -> BudgetKey:
        """The department and period, folded again: an earlier version may have stored old keys."""
        sheet = self.sheet
        return fold(sheet.department_key), _folded_period(sheet.period_key)

    @property
    def balance(self) -> Balance:
        """The budget's figures."""
        sheet = self.sheet
        return Balance(
            currency=sheet.currency,
            exponent=sheet.exponent,
            budgeted_minor=sheet.budgeted_minor,
            reserved_minor=self.reserved_minor,
            committed_minor=self.committed_minor,
        )

    @property
    def label(self) -> str:
        """The name for people."""
        return self.sheet.label

    @property
    def full_name(self) -> str:
        """The name for people, with the id."""
        return f"{self.label} (budget {self.id})"

    @property
    def sheet_id(self) -> str:
        """The Budget ID by which a row names this budget: its own id if the sheet gave none."""
        return self.sheet.external_id or self.id


class Match(NamedTuple):
    """A row and the stored budget that it means; None if the row is a new budget."""

    row: SheetRow
    budget: StoredBudget | None


class Matches(NamedTuple):
    """The rows that may be applied, and errors for the others."""

    matched: list[Match]
    errors: list[RowError]


def match_rows(
    source_id: str,
    sheet: SheetResult,
    stored: Collection[StoredBudget],
    check: Check = no_check,
) -> Matches:
    """Find the stored budget of each good row of a source's sheet."""
    by_id = {budget.id: budget for budget in stored if budget.sheet.external_id is None}
    by_id |= {
        external_id: budget
        for budget in stored
        if (external_id := budget.sheet.external_id) is not None
    }
    matched: list[Match] = []
    unmatched: list[SheetRow] = []
    errors: list[RowError] = []
    for row in checked(sheet.rows, check):
        external_id = row.budget.external_id
        found = by_id.get(external_id) if external_id is not None else None
        if found is None:
            unmatched.append(row)
        elif problem := problem_of(source_id, row.budget, found):
            errors.append(rejected(row, problem))
        else:
            matched.append(Match(row, found))
    check()
    if unmatched:
        taken = {match.budget.id for match in matched if match.budget is not None}
        taken |= {budget.id for budget in map(by_id.get, ids_of(errors)) if budget}
        bad_ids = ids_of(sheet.errors)
        by_key = _match_by_key(source_id, checked(unmatched, check), stored, taken, bad_ids)
        matched += by_key.matched
        errors += by_key.errors
    check()
    allowed = _without_fresh_money(source_id, matched, stored)
    return Matches(allowed.matched, errors + allowed.errors)


def _match_by_key(
    source_id: str,
    rows: Iterable[SheetRow],
    stored: Iterable[StoredBudget],
    taken: Collection[str],
    bad_ids: Collection[str],
) -> Matches:
    """Match the rows without a known Budget ID by department and period.

    `taken` are the ids of budgets that other rows mean; `bad_ids` the Budget IDs of bad rows.
    """
    live: dict[BudgetKey, StoredBudget] = {}
    deleted: dict[BudgetKey, list[StoredBudget]] = {}
    for budget in stored:
        if budget.id in taken:
            continue
        key = budget.key
        if budget.deleted_at is None:
            # Two budgets have the same key if an earlier version stored different keys for them.
            # Only one of them has today's key, and it comes first.
            if key not in live or key == budget.sheet.key:
                live[key] = budget
        elif budget.source_id in (source_id, None) and budget.sheet_id not in bad_ids:
            deleted.setdefault(key, []).append(budget)
    matched: list[Match] = []
    errors: list[RowError] = []
    for row in rows:
        key = row.budget.key
        found = live.get(key) or _to_revive(row.budget, deleted.get(key, ()))
        if found is None:
            matched.append(Match(row, None))
        elif problem := problem_of(source_id, row.budget, found):
            errors.append(rejected(row, problem))
        elif bad_ids and found.sheet_id in bad_ids:
            problem = (
                f"{found.label} is budget {found.sheet_id}, and the row with that Budget ID cannot "
                "be used: fix that row first"
            )
            errors.append(rejected(row, problem))
        else:
            matched.append(Match(row, found))
    return Matches(matched, errors)


def _to_revive(wanted: SheetBudget, deleted: Iterable[StoredBudget]) -> StoredBudget | None:
    """The latest deleted budget that a row revives.

    `deleted` have the row's department and period. The budget must be in the row's currency, and
    must not have another Budget ID.
    """
    candidates = [
        budget
        for budget in deleted
        if (wanted.external_id is None or budget.sheet.external_id is None)
        and wanted.currency == budget.sheet.currency
    ]
    return _latest_deleted(candidates)


def _latest_deleted(budgets: Iterable[StoredBudget]) -> StoredBudget | None:
    """The budget that was deleted last; of several at the same moment, the one with the last id."""
    return max(budgets, key=lambda budget: (budget.deleted_at or "", budget.id), default=None)


def problem_of(source_id: str, wanted: SheetBudget, budget: StoredBudget) -> str | None:
    """Why a row of the source may not change the budget that it means; None if it may."""
    stored = budget.sheet
    if budget.source_id != source_id and budget.source_id is not None:
        if budget.deleted_at is None:
            advice = ": keep it in only one sheet"
        else:
            advice = (
                ", and was removed from that sheet: put it back there, "
                "or give this row another Budget ID"
            )
        return f"{budget.full_name} belongs to source {budget.source_id}{advice}"
    if wanted.currency != stored.currency:
        return (
            f"{budget.full_name} is in {stored.currency} and cannot become {wanted.currency}: "
            f"write {stored.currency} in the Currency column, or give the new budget a different "
            "Budget ID and period"
        )
    if wanted.exponent != stored.exponent:
        # The currency data of the program changed, so the stored minor units would mean another
        # amount.
        return (
            f"{budget.full_name} has {stored.currency} with {stored.exponent} decimals, which now "
            f"has {wanted.exponent}: it stays as it is until the operator of this service fixes it"
        )
    if (
        wanted.period_key != stored.period_key
        and wanted.period_key != _folded_period(stored.period_key)
        and budget.balance.used_minor
    ):
        # The money was set aside for the old period and must not move to another.
        return (
            f"money is reserved or committed on {budget.full_name}, so it cannot become "
            f"{wanted.period}: add a row for {wanted.period}"
        )
    if budget.source_id is None:
        return _takeover_problem(wanted, budget)
    return None


def _takeover_problem(wanted: SheetBudget, budget: StoredBudget) -> str | None:
    """As `problem_of`, for a budget that was set by hand or lost its source."""
    used_minor, stored = budget.balance.used_minor, budget.sheet
    if wanted.budgeted_minor < min(used_minor, stored.budgeted_minor):
        # The sheet would overwrite an amount that a person set, and overdraw the budget.
        money = budget.balance.money
        return (
            f"{money(used_minor)} is reserved or committed on {budget.full_name}, which was set by "
            f"hand or lost its source, and this row would take it over and lower it from "
            f"{money(stored.budgeted_minor)} to {money(wanted.budgeted_minor)}: enter at least "
            f"{money(used_minor)}, or lower it with `flask set-budget` first"
        )
    return None


def _without_fresh_money(
    source_id: str, matched: list[Match], stored: Iterable[StoredBudget]
) -> Matches:
    """Reject the rows that would get their full amount again after it was spent elsewhere.

    The money was used on a deleted budget of another source, or of a removed one: the row moved
    here from another sheet. A row that revives a budget of this source is accepted if that budget
    was deleted later than the other one.
    """
    revived_ids = {
        match.budget.id for match in matched if match.budget and match.budget.deleted_at is not None
    }
    used: dict[BudgetKey, list[StoredBudget]] = {}
    for budget in stored:
        if (
            budget.deleted_at is not None
            and budget.source_id != source_id
            and budget.balance.used_minor
            and budget.id not in revived_ids
        ):
            used.setdefault(budget.key, []).append(budget)
    if not used:
        return Matches(matched, [])
    kept: list[Match] = []
    errors: list[RowError] = []
    for match in matched:
        wanted, own = match.row.budget, match.budget
        old = None
        if own is None or own.deleted_at is not None:
            old = _used_since(own, wanted.currency, used.get(wanted.key, ()))
        if old is None:
            kept.append(match)
        else:
            errors.append(rejected(match.row, _used_elsewhere(old)))
    return Matches(kept, errors)


def _used_since(
    revived: StoredBudget | None, currency: str, used: Iterable[StoredBudget]
) -> StoredBudget | None:
    """The latest of these deleted budgets in that currency that outlived the revived one."""
    since = "" if revived is None else revived.deleted_at or ""
    later = [
        budget
        for budget in used
        if budget.sheet.currency == currency and (budget.deleted_at or "") >= since
    ]
    return _latest_deleted(later)


def _used_elsewhere(old: StoredBudget) -> str:
    """The error for a row with money that was already used on a deleted budget."""
    balance = old.balance
    if old.source_id is None:
        reason = (
            f"whose source was removed: write {old.sheet_id} in the Budget ID column to revive "
            "that budget"
        )
    else:
        reason = (
            f"whose row was removed from the sheet of source {old.source_id}: put it back there"
        )
    return (
        f"{balance.money(balance.used_minor)} is reserved or committed on {old.full_name}, "
        f"{reason}, or create the new budget with `flask set-budget` to start with nothing used, "
        "and this row will take it over"
    )


def ids_of(errors: Iterable[RowError]) -> set[str]:
    """The Budget IDs in rejected rows."""
    return {
        each.external_id
        for error in errors
        for each in error.each()
        if each.external_id is not None
    }


def rejected(row: SheetRow, message: str) -> RowError:
    """The error of a row that describes a budget and cannot be used."""
    budget = row.budget
    return RowError(
        (row.number,),
        message,
        external_id=budget.external_id,
        department_key=budget.department_key,
        period_key=budget.period_key,
    )
