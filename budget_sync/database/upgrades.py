"""The steps from each schema version to the next, keyed by the version they lead to. A released step is never edited."""

from __future__ import annotations

UPGRADES: dict[int, list[str]] = {
    # When somebody last signed in; and quick lists of a customer's audit log and of its oldest open reservations.
    2: [
        'ALTER TABLE "User" ADD COLUMN "lastLoginAt" TIMESTAMPTZ',
        'CREATE INDEX "AuditLog_customer" ON "AuditLog" ("customerId", "id")',
        """CREATE INDEX "Reservation_open_age" ON "Reservation" ("customerId", "createdAt") WHERE "status" = 'open'""",
    ],
}
