"""The audit rows of a sync plan. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from budget_sync.domain.money import to_text
from budget_sync.domain.permissions import Actor
from budget_sync.sync.changes import Change
from budget_sync.sync.match import StoredBudget
from budget_sync.sync.reading.result import SheetRow


class AfterMinor(NamedTuple):
    """The balance of a budget after a change, in minor units."""

    budgeted_minor: int
    reserved_minor: int
    committed_minor: int

    @classmethod
    def of(cls, budget: StoredBudget) -> AfterMinor:
        """The balance of a budget that is not changed yet."""
        return cls(budget.sheet.budgeted_minor, budget.reserved_minor, budget.committed_minor)


class PlanAudit:
    """Collects the audit rows of a sync run.

    There is a row per new, deleted or revived budget, and a row per changed field.
    """

    def __init__(self, actor: Actor, customer_id: str, title: str, now: str) -> None:
        self.customer_id = customer_id
        self.title = title
        self.now = now
        self.principal, self.changed_by = actor.principal, actor.label
        self.rows: list[tuple[Any, ...]] = []

    def add(
        self,
        budget_id: str,
        version: int,
        action: str,
        field: str,
        old: str | None,
        new: str | None,
        after: AfterMinor,
        *,
        reason: str,
        budgeted_delta_minor: int = 0,
    ) -> None:
        """Add a row. `after` is the budget's balance after the change."""
        self.rows.append(
            (
                self.customer_id,
                budget_id,
                version,
                action,
                field,
                old,
                new,
                budgeted_delta_minor,
                *after,
                self.principal,
                self.changed_by,
                reason,
                self.now,
            )
        )

    def delete(self, budget: StoredBudget) -> int:
        """Add the row for a deleted budget; return its new version."""
        version = budget.version + 1
        reason = f"No longer in {self.title}"
        after = AfterMinor.of(budget)
        self.add(
            budget.id, version, "SOFT_DELETE", "deletedAt", None, self.now, after, reason=reason
        )
        return version

    def create(self, budget_id: str, row: SheetRow) -> int:
        """Add the rows for a new budget; return its version.

        There is one for the amount, and one each for a limit and an owner.
        """
        budget = row.budget
        reason = f"Row {row.number} of {self.title}: {budget.label}"
        after = AfterMinor(budget.budgeted_minor, 0, 0)
        self.add(
            budget_id,
            1,
            "CREATE",
            "budgetedAmount",
            None,
            to_text(budget.budgeted_minor, budget.exponent),
            after,
            reason=reason,
            budgeted_delta_minor=budget.budgeted_minor,
        )
        others: list[tuple[str, str]] = []
        if budget.limit_minor is not None:
            others.append(("autoApproveLimit", to_text(budget.limit_minor, budget.exponent)))
        if budget.owner_email:
            others.append(("ownerEmail", budget.owner_email))
        for version, (field, text) in enumerate(others, start=2):
            self.add(budget_id, version, "CREATE", field, None, text, after, reason=reason)
        return 1 + len(others)

    def change(self, change: Change) -> int:
        """Add the rows for a changed budget; return its new version."""
        before, version = change.before, change.before.version
        exponent = before.sheet.exponent
        reason = f"Row {change.row} of {self.title}"
        after = AfterMinor.of(before)
        if change.is_revival:
            version += 1
            self.add(
                before.id,
                version,
                "REVIVE",
                "deletedAt",
                before.deleted_at,
                None,
                after,
                reason=reason,
            )
        for name, old, new in change.fields:
            version += 1
            delta_minor = (
                change.after.sheet.budgeted_minor - before.sheet.budgeted_minor
                if name == "budgetedAmount"
                else 0
            )
            after = after._replace(budgeted_minor=after.budgeted_minor + delta_minor)
            self.add(
                before.id,
                version,
                "UPDATE",
                name,
                _audit_text(old, exponent),
                _audit_text(new, exponent),
                after,
                reason=reason,
                budgeted_delta_minor=delta_minor,
            )
        return version


def _audit_text(value: object, exponent: int) -> str | None:
    """The value of a field as the audit log writes it; only amounts are integers."""
    if value is None:
        return None
    return to_text(value, exponent) if isinstance(value, int) else str(value)
