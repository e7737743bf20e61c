"""The steps from each schema version to the next. A released step is never edited."""

from __future__ import annotations

import peewee

from budget_sync.database.postgres.pool import PostgresServer

# Adds the time of the last login, and indexes for a customer's audit log and its oldest open
# reservations.
_TO_2 = [
    'ALTER TABLE "User" ADD COLUMN "lastLoginAt" TIMESTAMPTZ',
    'CREATE INDEX "AuditLog_customer" ON "AuditLog" ("customerId", "id")',
    (
        'CREATE INDEX "Reservation_open_age" ON "Reservation" ("customerId", "createdAt") '
        """WHERE "status" = 'open'"""
    ),
]

# Adds the audit action RESTORE and a cheaper trigger against inserts that replace rows.
#
# SQLite cannot change a constraint in place. So a new table is created, filled and renamed, in the
# order that SQLite's documentation of ALTER TABLE gives. The only reference to the table is a
# trigger of the check log, which must not exist while there is no table of that name. The table's
# own triggers are dropped with the old table and created again after the rows are copied.
_TO_3_IN_SQLITE = [
    """
    CREATE TABLE "AuditLog_3" (
        "id" INTEGER PRIMARY KEY,
        "customerId" TEXT REFERENCES "Customer" ("id"),
        "budgetId" TEXT REFERENCES "Budget" ("id"),
        "version" BIGINT CHECK ("version" > 0),
        "action" TEXT NOT NULL CHECK ("action" IN (
            'CREATE', 'UPDATE', 'SOFT_DELETE', 'REVIVE', 'RESERVE', 'OVER_BUDGET', 'COMMIT',
            'RELEASE',
            'ADD_CUSTOMER', 'DISABLE_CUSTOMER', 'ADD_USER', 'SET_PASSWORD', 'DISABLE_USER',
            'ENABLE_USER',
            'ADD_KEY', 'REVOKE_KEY', 'ADD_SOURCE', 'REMOVE_SOURCE', 'PRUNE_CHECKS', 'RESTORE'
        )),
        "field" TEXT,
        "subject" TEXT,
        "requestId" TEXT,
        "reservationId" TEXT,
        "oldValue" TEXT,
        "newValue" TEXT,
        "budgetedDeltaMinor" BIGINT NOT NULL DEFAULT 0,
        "reservedDeltaMinor" BIGINT NOT NULL DEFAULT 0,
        "committedDeltaMinor" BIGINT NOT NULL DEFAULT 0,
        "principal" TEXT NOT NULL,
        "changedBy" TEXT NOT NULL,
        "onBehalfOf" TEXT,
        "approvedBy" TEXT,
        "reason" TEXT,
        "externalRef" TEXT,
        "createdAt" TIMESTAMPTZ NOT NULL,
        UNIQUE ("budgetId", "version"),
        CHECK (("budgetId" IS NULL) = ("version" IS NULL)),
        CHECK ("budgetId" IS NOT NULL OR ("budgetedDeltaMinor" = 0
            AND "reservedDeltaMinor" = 0 AND "committedDeltaMinor" = 0))
    )
    """,
    """
    INSERT INTO "AuditLog_3" (
        "id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId",
        "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor",
        "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason",
        "externalRef", "createdAt"
    ) SELECT
        "id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId",
        "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor",
        "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason",
        "externalRef", "createdAt"
    FROM "AuditLog" ORDER BY "id"
    """,
    'DROP TRIGGER "BudgetCheckLog_no_delete"',
    'DROP TABLE "AuditLog"',
    'ALTER TABLE "AuditLog_3" RENAME TO "AuditLog"',
    'CREATE INDEX "AuditLog_customer" ON "AuditLog" ("customerId", "id")',
    (
        'CREATE INDEX "AuditLog_request" ON "AuditLog" ("customerId", "requestId") '
        'WHERE "requestId" IS NOT NULL'
    ),
    (
        'CREATE INDEX "AuditLog_prune" ON "AuditLog" ("customerId", "newValue") '
        """WHERE "action" = 'PRUNE_CHECKS'"""
    ),
    """
    CREATE TRIGGER "AuditLog_no_update" BEFORE UPDATE ON "AuditLog"
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END
    """,
    """
    CREATE TRIGGER "AuditLog_no_delete" BEFORE DELETE ON "AuditLog"
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END
    """,
    """
    CREATE TRIGGER "AuditLog_no_replace" BEFORE INSERT ON "AuditLog"
    BEGIN
        SELECT RAISE(ABORT, 'the audit log is append-only') FROM "AuditLog" WHERE "id" = NEW."id";
        SELECT RAISE(ABORT, 'the audit log is append-only') FROM "AuditLog"
        WHERE "budgetId" = NEW."budgetId" AND "version" = NEW."version";
    END
    """,
    """
    CREATE TRIGGER "BudgetCheckLog_no_delete" BEFORE DELETE ON "BudgetCheckLog"
    WHEN NOT EXISTS (
        SELECT 1 FROM "AuditLog"
        WHERE "action" = 'PRUNE_CHECKS' AND "customerId" = OLD."customerId"
            AND "newValue" > OLD."timestamp"
    )
    BEGIN
        SELECT RAISE(ABORT, 'check log rows leave only by flask prune-checks, which audits it');
    END
    """,
]
_TO_3_IN_POSTGRESQL = [
    """
    ALTER TABLE "AuditLog" DROP CONSTRAINT "AuditLog_action_check",
    ADD CONSTRAINT "AuditLog_action_check" CHECK ("action" IN (
        'CREATE', 'UPDATE', 'SOFT_DELETE', 'REVIVE', 'RESERVE', 'OVER_BUDGET', 'COMMIT', 'RELEASE',
        'ADD_CUSTOMER', 'DISABLE_CUSTOMER', 'ADD_USER', 'SET_PASSWORD', 'DISABLE_USER',
        'ENABLE_USER',
        'ADD_KEY', 'REVOKE_KEY', 'ADD_SOURCE', 'REMOVE_SOURCE', 'PRUNE_CHECKS', 'RESTORE'
    ))
    """,
]


def upgrade_steps(database: peewee.Database) -> dict[int, list[str]]:
    """The upgrade steps for the engine of `database`, by the version that they lead to."""
    return {
        2: _TO_2,
        3: _TO_3_IN_POSTGRESQL if isinstance(database, PostgresServer) else _TO_3_IN_SQLITE,
    }
