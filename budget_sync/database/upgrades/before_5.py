"""The steps to the schema versions 2, 3 and 4."""

from __future__ import annotations

# Adds the time of the last login, and indexes for a customer's audit log and its oldest open
# reservations.
TO_2 = [
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
TO_3_IN_SQLITE = [
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
TO_3_IN_POSTGRESQL = [
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


# Adds the ceiling of 10^15 minor units for the reserved and committed amounts of a budget, the
# table of audit actions, and the time of the last use of an API key. Stored replies and checks of a
# service belong to its name from now on: `service:<name>` replaces `key:<id>`. Reservations and the
# audit log keep the id of the key, because the log is never rewritten.
_CREATE_ACTIONS = [
    """
    CREATE TABLE "AuditAction" (
        "action" TEXT PRIMARY KEY CHECK (LENGTH("action") BETWEEN 1 AND 50)
    )
    """,
    """
    INSERT INTO "AuditAction" ("action") VALUES
        ('CREATE'), ('UPDATE'), ('SOFT_DELETE'), ('REVIVE'), ('RESERVE'), ('OVER_BUDGET'),
        ('COMMIT'), ('RELEASE'),
        ('ADD_CUSTOMER'), ('SET_CUSTOMER'), ('DISABLE_CUSTOMER'), ('ENABLE_CUSTOMER'),
        ('ADD_USER'), ('SET_USER'), ('SET_PASSWORD'), ('DISABLE_USER'), ('ENABLE_USER'),
        ('ADD_KEY'), ('ROTATE_KEY'), ('REVOKE_KEY'), ('ADD_SOURCE'), ('REMOVE_SOURCE'),
        ('PRUNE_CHECKS'), ('PRUNE_HISTORY'), ('RESTORE')
    """,
]
_ADD_LAST_USE = ['ALTER TABLE "ApiKey" ADD COLUMN "lastUsedAt" TIMESTAMPTZ']

# Several keys may have one name and stored a reply under the same Idempotency-Key. The newest reply
# stays, because its client may still be waiting for it.
_RENAME_IN_REPLIES = [
    """
    DELETE FROM "StoredReply" WHERE SUBSTR("principal", 1, 4) = 'key:' AND EXISTS (
        SELECT 1 FROM "ApiKey" own
            JOIN "ApiKey" other ON other."name" = own."name" AND other."id" <> own."id"
            JOIN "StoredReply" newer ON newer."customerId" = "StoredReply"."customerId"
                AND newer."principal" = 'key:' || other."id"
                AND newer."call" = "StoredReply"."call"
                AND newer."idempotencyKey" = "StoredReply"."idempotencyKey"
        WHERE own."id" = SUBSTR("StoredReply"."principal", 5) AND (
            newer."createdAt" > "StoredReply"."createdAt"
            OR (newer."createdAt" = "StoredReply"."createdAt"
                AND newer."principal" > "StoredReply"."principal")
        )
    )
    """,
    """
    UPDATE "StoredReply" SET "principal" = (
        SELECT 'service:' || "ApiKey"."name" FROM "ApiKey"
        WHERE "ApiKey"."id" = SUBSTR("StoredReply"."principal", 5)
    )
    WHERE SUBSTR("principal", 1, 4) = 'key:' AND EXISTS (
        SELECT 1 FROM "ApiKey" WHERE "ApiKey"."id" = SUBSTR("StoredReply"."principal", 5)
    )
    """,
]
_RENAME_IN_CHECKS = """
    UPDATE "BudgetCheckLog" SET "checkedBy" = (
        SELECT 'service:' || "ApiKey"."name" FROM "ApiKey"
        WHERE "ApiKey"."id" = SUBSTR("BudgetCheckLog"."checkedBy", 5)
    )
    WHERE SUBSTR("checkedBy", 1, 4) = 'key:' AND EXISTS (
        SELECT 1 FROM "ApiKey" WHERE "ApiKey"."id" = SUBSTR("BudgetCheckLog"."checkedBy", 5)
    )
    """

# SQLite needs two new tables. The audit log is copied with the same statements as in the step to
# version 3: all except its CREATE TABLE.
TO_4_IN_SQLITE = [
    *_CREATE_ACTIONS,
    """
    CREATE TABLE "AuditLog_4" (
        "id" INTEGER PRIMARY KEY,
        "customerId" TEXT REFERENCES "Customer" ("id"),
        "budgetId" TEXT REFERENCES "Budget" ("id"),
        "version" BIGINT CHECK ("version" > 0),
        "action" TEXT NOT NULL REFERENCES "AuditAction" ("action"),
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
    *(statement.replace('"AuditLog_3"', '"AuditLog_4"') for statement in TO_3_IN_SQLITE[1:]),
    """
    CREATE TABLE "BudgetUtilization_4" (
        "budgetId" TEXT PRIMARY KEY,
        "customerId" TEXT NOT NULL,
        "currencyExponent" INTEGER NOT NULL,
        "reservedMinor" BIGINT NOT NULL DEFAULT 0
            CHECK ("reservedMinor" >= 0 AND "reservedMinor" < 1000000000000000),
        "committedMinor" BIGINT NOT NULL DEFAULT 0
            CHECK ("committedMinor" >= 0 AND "committedMinor" < 1000000000000000),
        "version" BIGINT NOT NULL DEFAULT 0 CHECK ("version" >= 0),
        "reservedAmount" NUMERIC(20, 4) GENERATED ALWAYS AS (
            "reservedMinor" / CASE "currencyExponent" WHEN 0 THEN 1.0 WHEN 1 THEN 10.0
                WHEN 2 THEN 100.0 WHEN 3 THEN 1000.0 ELSE 10000.0 END
        ) STORED,
        "committedAmount" NUMERIC(20, 4) GENERATED ALWAYS AS (
            "committedMinor" / CASE "currencyExponent" WHEN 0 THEN 1.0 WHEN 1 THEN 10.0
                WHEN 2 THEN 100.0 WHEN 3 THEN 1000.0 ELSE 10000.0 END
        ) STORED,
        FOREIGN KEY ("budgetId", "customerId", "currencyExponent")
            REFERENCES "Budget" ("id", "customerId", "currencyExponent"),
        CHECK ("reservedMinor" + "committedMinor" < 1000000000000000)
    )
    """,
    """
    INSERT INTO "BudgetUtilization_4" (
        "budgetId", "customerId", "currencyExponent", "reservedMinor", "committedMinor", "version"
    ) SELECT
        "budgetId", "customerId", "currencyExponent", "reservedMinor", "committedMinor", "version"
    FROM "BudgetUtilization"
    """,
    'DROP TABLE "BudgetUtilization"',
    'ALTER TABLE "BudgetUtilization_4" RENAME TO "BudgetUtilization"',
    *_ADD_LAST_USE,
    *_RENAME_IN_REPLIES,
    'DROP TRIGGER "BudgetCheckLog_no_update"',
    _RENAME_IN_CHECKS,
    """
    CREATE TRIGGER "BudgetCheckLog_no_update" BEFORE UPDATE ON "BudgetCheckLog"
    BEGIN SELECT RAISE(ABORT, 'the check log is append-only'); END
    """,
]
TO_4_IN_POSTGRESQL = [
    *_CREATE_ACTIONS,
    """
    ALTER TABLE "AuditLog" DROP CONSTRAINT "AuditLog_action_check",
    ADD CONSTRAINT "AuditLog_action_fkey"
        FOREIGN KEY ("action") REFERENCES "AuditAction" ("action")
    """,
    """
    ALTER TABLE "BudgetUtilization"
    DROP CONSTRAINT "BudgetUtilization_reservedMinor_check",
    DROP CONSTRAINT "BudgetUtilization_committedMinor_check",
    ADD CONSTRAINT "BudgetUtilization_reservedMinor_check"
        CHECK ("reservedMinor" >= 0 AND "reservedMinor" < 1000000000000000),
    ADD CONSTRAINT "BudgetUtilization_committedMinor_check"
        CHECK ("committedMinor" >= 0 AND "committedMinor" < 1000000000000000),
    ADD CONSTRAINT "BudgetUtilization_check"
        CHECK ("reservedMinor" + "committedMinor" < 1000000000000000)
    """,
    *_ADD_LAST_USE,
    *_RENAME_IN_REPLIES,
    'DROP TRIGGER "BudgetCheckLog_no_update" ON "BudgetCheckLog"',
    _RENAME_IN_CHECKS,
    """
    CREATE TRIGGER "BudgetCheckLog_no_update" BEFORE UPDATE ON "BudgetCheckLog"
    FOR EACH ROW EXECUTE FUNCTION "BudgetCheckLog_no_update"()
    """,
]
