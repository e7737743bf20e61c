"""Stored balances, queried with SQL that is independent of the service's code."""

from __future__ import annotations

from typing import Any, NamedTuple

#: One row per budget with the columns of `StoredBalance`. A WHERE clause may follow.
BALANCES = """
    SELECT b."id", b."budgetedMinor", b."deletedAt" IS NULL, u."reservedMinor", u."committedMinor",
        COALESCE((
            SELECT SUM(r."heldMinor") FROM "Reservation" r
            WHERE r."budgetId" = b."id" AND r."status" = 'open'
        ), 0),
        COALESCE((
            SELECT SUM(r."committedMinor" - r."reversedMinor") FROM "Reservation" r
            WHERE r."budgetId" = b."id"
        ), 0) + COALESCE((
            SELECT SUM(s."amountMinor" - s."reversedMinor") FROM "Spend" s
            WHERE s."budgetId" = b."id"
        ), 0),
        COALESCE((
            SELECT SUM(a."budgetedDeltaMinor") FROM "AuditLog" a WHERE a."budgetId" = b."id"
        ), 0),
        COALESCE((
            SELECT SUM(a."reservedDeltaMinor") FROM "AuditLog" a WHERE a."budgetId" = b."id"
        ), 0),
        COALESCE((
            SELECT SUM(a."committedDeltaMinor") FROM "AuditLog" a WHERE a."budgetId" = b."id"
        ), 0),
        u."version" - (SELECT COUNT(*) FROM "AuditLog" a WHERE a."budgetId" = b."id"),
        u."version"
    FROM "Budget" b LEFT JOIN "BudgetUtilization" u ON u."budgetId" = b."id"
"""


class StoredBalance(NamedTuple):
    """A budget's stored amounts, the sums of its reservations and spends, and its audit log's.

    `held` is the sum of its open reservations. `spent` is the sum of its commits and spends, net of
    reversals. `reserved`, `committed`, `versions_off` and `version` are None if the budget has no
    utilization row.
    """

    budget_id: str
    budgeted: int
    live: Any
    reserved: int | None
    committed: int | None
    held: Any
    spent: Any
    replayed_budgeted: Any
    replayed_reserved: Any
    replayed_committed: Any
    versions_off: int | None
    version: int | None

    @property
    def inconsistency(self) -> str | None:
        """A description of the inconsistency, or None."""
        if self.reserved is None or self.committed is None:
            return f"{self.budget_id} has no utilization row"
        counted = self.budgeted, self.reserved, self.committed
        replayed = (
            int(self.replayed_budgeted),
            int(self.replayed_reserved),
            int(self.replayed_committed),
        )
        if (
            (self.held, self.spent) != (self.reserved, self.committed)
            or replayed != counted
            or self.versions_off
        ):
            return (
                f"{self.budget_id} has {counted}; its reservations hold {self.held}, {self.spent}"
                f" was spent, its audit log replays to {replayed}, and {self.versions_off} audit"
                " rows are missing"
            )
        return f"{self.budget_id} is negative: {counted}" if min(counted) < 0 else None
