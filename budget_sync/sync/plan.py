"""Plans a sync run: the changes that a sheet means for a customer's budgets. Pure.

A source creates, changes and deletes only its own budgets, and adopts budgets without a source. A
budget that a bad row means or may mean is kept. Changes that look like a mistake are held until a
person answers them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from budget_sync.domain.periods import FiscalYear
from budget_sync.sync.changes import Change, MovedRow, compare, overdrawn_count
from budget_sync.sync.holds.decide import Found, decide
from budget_sync.sync.holds.model import Answer, Hold, Kind
from budget_sync.sync.kept import KeptBudget, keep
from budget_sync.sync.limits import Check, checked, no_check
from budget_sync.sync.match import Match, Matches, StoredBudget, match_rows, rejected
from budget_sync.sync.reading.result import BudgetKey, RowError, SheetResult, SheetRow

_CALENDAR_YEAR = FiscalYear()


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """The changes of a sync run.

    `moved` is recorded, but does not count as a change of a budget. `held` are the changes that
    wait for an answer. `applied_answers` and `expired_answers` are the ids of the answers that the
    run closes. `overdrawn_count` is the number of the source's budgets that are overdrawn after the
    run. `live_count` is the number of the source's live budgets without approved deletions; the
    deletion limit compares the other deletions with it.
    """

    creates: list[SheetRow]
    updates: list[Change]
    revivals: list[Change]
    unchanged_count: int
    moved: list[MovedRow]
    deletes: list[StoredBudget]
    held: list[Hold]
    kept: list[KeptBudget]
    errors: list[RowError]
    applied_answers: list[int]
    expired_answers: list[int]
    overdrawn_count: int
    live_count: int

    @property
    def has_new(self) -> bool:
        """Whether it creates or revives a budget."""
        return bool(self.creates or self.revivals)

    @property
    def changes_nothing(self) -> bool:
        """Whether there is nothing to write."""
        return not (
            self.creates
            or self.updates
            or self.revivals
            or self.moved
            or self.deletes
            or self.applied_answers
            or self.expired_answers
        )


def make_plan(
    source_id: str,
    sheet: SheetResult,
    stored: Collection[StoredBudget],
    *,
    previous: Collection[Hold] = (),
    answers: Collection[Answer] = (),
    allow_deletes: bool = False,
    fiscal_year: FiscalYear = _CALENDAR_YEAR,
    check: Check = no_check,
) -> SyncPlan:
    """The changes that a source's sheet means for a customer's stored budgets.

    `previous` is what the source's latest applied run held, and `answers` are the open answers to
    that. `allow_deletes` approves all deletions. `fiscal_year` is the customer's. It takes linear
    time, apart from sorting, and calls `check` from time to time.
    """
    matched, errors = match_rows(source_id, sheet, stored, check)
    owned = _live_budgets(source_id, stored)
    check()
    missing = _missing(owned, matched)
    kept = _keep(missing, [*sheet.errors, *errors], stored, previous)
    compared = compare(source_id, checked(matched, check), sheet.optional)
    is_unchanged = not (missing or compared.creates or compared.changes)
    # Then nothing is held, and only the answers are left to decide.
    rest = [] if is_unchanged else matched
    found = Found(
        source_id, rest, missing, len(owned), fiscal_year, kept, previous, answers, allow_deletes
    )
    decision = decide(found, check)
    deleted_ids = {budget.id for budget in decision.deletes}
    collisions: list[RowError] = []
    if not is_unchanged:
        matched, collisions = _without_collisions(decision.matched, stored, deleted_ids)
        compared = compare(source_id, checked(matched, check), sheet.optional)
    return SyncPlan(
        creates=compared.creates,
        updates=[change for change in compared.changes if not change.is_revival],
        revivals=[change for change in compared.changes if change.is_revival],
        unchanged_count=compared.unchanged_count,
        moved=compared.moved,
        deletes=decision.deletes,
        held=decision.held,
        kept=decision.kept,
        errors=sorted([*sheet.errors, *errors, *collisions], key=_place),
        applied_answers=decision.applied_ids,
        expired_answers=decision.expired_ids,
        overdrawn_count=overdrawn_count(owned, deleted_ids, compared.changes),
        live_count=decision.live_count,
    )


def _missing(owned: Iterable[StoredBudget], matched: Iterable[Match]) -> list[StoredBudget]:
    """The live budgets that no good row means."""
    on_sheet = {match.budget.id for match in matched if match.budget is not None}
    return [budget for budget in owned if budget.id not in on_sheet]


def _place(error: RowError) -> tuple[tuple[int, ...], str]:
    return error.rows, error.message


def _keep(
    missing: Collection[StoredBudget],
    errors: Iterable[RowError],
    stored: Collection[StoredBudget],
    previous: Collection[Hold],
) -> list[KeptBudget]:
    """The missing budgets to keep. What the previous run held stays held instead.

    Rows that were rejected because of stored budgets count too: they also mean a budget.
    """
    bad = [each for error in errors if error.blocks for each in error.each()]
    if not bad or not missing:
        return []
    held_ids = {hold.budget_id for hold in previous if hold.kind in (Kind.RENAME, Kind.DELETION)}
    return keep([budget for budget in missing if budget.id not in held_ids], bad, stored)


def _live_budgets(source_id: str, stored: Iterable[StoredBudget]) -> list[StoredBudget]:
    return [
        budget for budget in stored if budget.source_id == source_id and budget.deleted_at is None
    ]


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
