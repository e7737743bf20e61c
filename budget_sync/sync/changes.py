"""What the rows of a sheet change in the stored budgets that they mean. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from budget_sync.sync.match import Match, StoredBudget
from budget_sync.sync.reading.result import KEEP_OWNER, OptionalColumns, SheetBudget, SheetRow


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
        return is_overdrawn(self.after)


class MovedRow(NamedTuple):
    """A row with a new number in the sheet, and no other change."""

    number: int
    budget_id: str


class Compared(NamedTuple):
    """The matched rows by what they change. `moved` rows are among the unchanged ones."""

    creates: list[SheetRow]
    changes: list[Change]
    moved: list[MovedRow]
    unchanged_count: int


def compare(source_id: str, matched: Iterable[Match], has: OptionalColumns) -> Compared:
    """Compare each row with its stored budget.

    A sheet without limits or without owners leaves the stored ones as they are.
    """
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
                or _described(row.budget, budget.sheet, has) == budget.sheet
            )
        ):
            unchanged_count += 1
            if row.number != budget.source_row:
                moved.append(MovedRow(row.number, budget.id))
        else:
            changes.append(_change(source_id, row, budget, has))
    return Compared(creates, changes, moved, unchanged_count)


def _described(row: SheetBudget, stored: SheetBudget, has: OptionalColumns) -> SheetBudget:
    """The row, with the stored values of the columns that it leaves out."""
    if row.external_id is None and stored.external_id is not None:
        row = row._replace(external_id=stored.external_id)
    if not has.limits and stored.limit_minor is not None:
        row = row._replace(limit_minor=stored.limit_minor)
    if not has.owners or row.owner_email == KEEP_OWNER:
        row = row._replace(owner_email=stored.owner_email)
    return row


def _change(source_id: str, row: SheetRow, before: StoredBudget, has: OptionalColumns) -> Change:
    after = before._replace(
        source_id=source_id,
        source_row=row.number,
        deleted_at=None,
        sheet=_described(row.budget, before.sheet, has),
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
    "ownerEmail": "owner_email",
}


def _audited(before: StoredBudget, after: StoredBudget) -> Iterable[FieldChange]:
    """The old and new values of the audited columns, in the order of the audit log."""
    yield FieldChange("sourceId", before.source_id, after.source_id)
    for name, field in _AUDITED_SHEET_FIELDS.items():
        yield FieldChange(name, getattr(before.sheet, field), getattr(after.sheet, field))


def is_overdrawn(budget: StoredBudget) -> bool:
    """Whether the budgeted amount is less than the used amount."""
    # Compared without creating a Balance, because this is done for every budget.
    return budget.reserved_minor + budget.committed_minor > budget.sheet.budgeted_minor


def overdrawn_count(
    owned: Iterable[StoredBudget], deleted_ids: Collection[str], changes: Iterable[Change]
) -> int:
    """The number of the source's live budgets that are overdrawn after a run."""
    changed = {change.before.id: change.after for change in changes}
    after = [changed.pop(budget.id, budget) for budget in owned if budget.id not in deleted_ids]
    # The changes that are left adopt or revive budgets that are not in `owned`.
    after += changed.values()
    return sum(map(is_overdrawn, after))
