"""Where every budget stands, in plain SQL that is not the service's own: what it counts, what is reserved, what its audit log adds up to."""

from __future__ import annotations

from typing import Any, NamedTuple

#: One row a budget, as `Standing` has it; a WHERE may follow.
STANDINGS = """
    SELECT b."id", b."budgetedMinor", b."deletedAt" IS NULL, u."reservedMinor", u."committedMinor",
        COALESCE((SELECT SUM(r."heldMinor") FROM "Reservation" r WHERE r."budgetId" = b."id" AND r."status" = 'open'), 0),
        COALESCE((SELECT SUM(a."budgetedDeltaMinor") FROM "AuditLog" a WHERE a."budgetId" = b."id"), 0),
        COALESCE((SELECT SUM(a."reservedDeltaMinor") FROM "AuditLog" a WHERE a."budgetId" = b."id"), 0),
        COALESCE((SELECT SUM(a."committedDeltaMinor") FROM "AuditLog" a WHERE a."budgetId" = b."id"), 0),
        u."version" - (SELECT COUNT(*) FROM "AuditLog" a WHERE a."budgetId" = b."id")
    FROM "Budget" b LEFT JOIN "BudgetUtilization" u ON u."budgetId" = b."id"
"""


class Standing(NamedTuple):
    """A budget: what it counts, None where it has no utilisation; what open reservations hold; what its audit log replays to."""

    budget_id: str
    budgeted: int
    live: Any
    reserved: int | None
    committed: int | None
    held: Any
    replayed_budgeted: Any
    replayed_reserved: Any
    replayed_committed: Any
    versions_off: int | None

    @property
    def contradiction(self) -> str | None:
        """What is wrong with it, if anything is."""
        if self.reserved is None or self.committed is None:
            return f"{self.budget_id} has no utilisation"
        counted = self.budgeted, self.reserved, self.committed
        replayed = (
            int(self.replayed_budgeted),
            int(self.replayed_reserved),
            int(self.replayed_committed),
        )
        if self.held != self.reserved or replayed != counted or self.versions_off:
            return f"{self.budget_id} is at {counted}; its reservations hold {self.held}, its audit log replays to {replayed}, off by {self.versions_off} rows"
        return f"{self.budget_id} is negative: {counted}" if min(counted) < 0 else None
