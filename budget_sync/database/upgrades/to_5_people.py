"""The part of the step to schema version 5 about people: alerts, decisions, test customers."""

from __future__ import annotations

from budget_sync.database.upgrades.report import Step

_ACTIONS = """
    INSERT INTO "AuditAction" ("action") VALUES ('APPROVE'), ('DECLINE'), ('RESET_CUSTOMER'),
        ('ADD_ALERT'), ('REMOVE_ALERT'), ('ADD_ALIAS'), ('REMOVE_ALIAS')
    """
_COLUMNS: list[Step] = [
    """
    ALTER TABLE "Customer" ADD COLUMN "employeesSee" TEXT NOT NULL DEFAULT 'all'
        CHECK ("employeesSee" IN ('all', 'own'))
    """,
    'ALTER TABLE "Customer" ADD COLUMN "isTest" BOOLEAN NOT NULL DEFAULT FALSE',
    """
    ALTER TABLE "Budget" ADD COLUMN "ownerEmail" TEXT
        CHECK (LENGTH("ownerEmail") BETWEEN 3 AND 254)
    """,
    'ALTER TABLE "Reservation" ADD COLUMN "approvedMinor" BIGINT CHECK ("approvedMinor" > 0)',
    """
    ALTER TABLE "Reservation" ADD COLUMN "approvedAfterCheck" BIGINT
        CONSTRAINT "Reservation_approved"
        CHECK (("approvedMinor" IS NULL) = ("approvedAfterCheck" IS NULL))
    """,
    'ALTER TABLE "AuditLog" ADD COLUMN "afterCheck" BIGINT',
]
_TABLES: list[Step] = [
    """
    CREATE TABLE "DepartmentAlias" (
        "customerId" TEXT NOT NULL REFERENCES "Customer" ("id"),
        "nameKey" TEXT NOT NULL,
        "name" TEXT NOT NULL CHECK (LENGTH("name") BETWEEN 1 AND 200),
        "department" TEXT NOT NULL CHECK (LENGTH("department") BETWEEN 1 AND 200),
        "departmentKey" TEXT NOT NULL,
        "createdBy" TEXT NOT NULL,
        "createdAt" TIMESTAMPTZ NOT NULL,
        PRIMARY KEY ("customerId", "nameKey"),
        CONSTRAINT "DepartmentAlias_other" CHECK ("nameKey" <> "departmentKey")
    )
    """,
    """
    CREATE TABLE "Alert" (
        "id" TEXT PRIMARY KEY,
        "customerId" TEXT NOT NULL REFERENCES "Customer" ("id"),
        "url" TEXT NOT NULL CHECK (LENGTH("url") <= 2000),
        "redactedUrl" TEXT NOT NULL CHECK (LENGTH("redactedUrl") BETWEEN 1 AND 2000),
        "conditions" TEXT NOT NULL CHECK (LENGTH("conditions") BETWEEN 1 AND 500),
        "department" TEXT,
        "departmentKey" TEXT,
        "toOwners" BOOLEAN NOT NULL,
        "digestAt" TEXT CHECK (LENGTH("digestAt") = 5),
        "cursor" TEXT NOT NULL,
        "createdAt" TIMESTAMPTZ NOT NULL,
        "removedAt" TIMESTAMPTZ,
        CONSTRAINT "Alert_department" CHECK (("department" IS NULL) = ("departmentKey" IS NULL)),
        CONSTRAINT "Alert_removed" CHECK (("removedAt" IS NULL) = ("url" <> ''))
    )
    """,
    """
    CREATE TABLE "AlertState" (
        "alertId" TEXT NOT NULL REFERENCES "Alert" ("id"),
        "condition" TEXT NOT NULL,
        "subject" TEXT NOT NULL,
        "reportedAt" TIMESTAMPTZ NOT NULL,
        PRIMARY KEY ("alertId", "condition", "subject")
    )
    """,
    """
    CREATE TABLE "AlertMessage" (
        "id" INTEGER PRIMARY KEY,
        "alertId" TEXT NOT NULL REFERENCES "Alert" ("id"),
        "recipient" TEXT,
        "title" TEXT NOT NULL,
        "body" TEXT NOT NULL,
        "createdAt" TIMESTAMPTZ NOT NULL,
        "dueAt" TIMESTAMPTZ NOT NULL,
        "attempts" INTEGER NOT NULL DEFAULT 0 CHECK ("attempts" >= 0),
        "nextAttemptAt" TIMESTAMPTZ,
        "error" TEXT,
        "sentAt" TIMESTAMPTZ
    )
    """,
    'CREATE INDEX "Alert_customerId" ON "Alert" ("customerId")',
    (
        'CREATE INDEX "AlertMessage_unsent" ON "AlertMessage" ("alertId", "dueAt") '
        'WHERE "sentAt" IS NULL'
    ),
    'CREATE INDEX "AlertMessage_alertId" ON "AlertMessage" ("alertId", "id")',
]
#: True for the rows of customers that are not test customers.
IS_REAL = """NOT EXISTS (
        SELECT 1 FROM "Customer" WHERE "id" = OLD."customerId" AND "isTest"
    )"""
_IS_NOT_PRUNED = """NOT EXISTS (
        SELECT 1 FROM "AuditLog"
        WHERE "action" = 'PRUNE_CHECKS' AND "customerId" = OLD."customerId"
            AND "newValue" > OLD."timestamp"
    )"""
_IS_NOT_PRUNED_IN_POSTGRESQL = """NOT EXISTS (
        SELECT 1 FROM "AuditLog"
        WHERE "action" = 'PRUNE_CHECKS' AND "customerId" = OLD."customerId"
            AND "newValue" COLLATE "C"
                > to_char(OLD."timestamp" AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
    )"""
_AUDIT_ERROR = "the audit log is append-only"
_PRUNE_ERROR = "check log rows leave only by flask prune-checks, which audits it"
_TEST_ERROR = "whether a customer is a test customer never changes"


def _function(trigger: str, message: str, condition: str, otherwise: str = "OLD") -> str:
    """The function of a trigger of PostgreSQL."""
    return f"""
        CREATE OR REPLACE FUNCTION "{trigger}"() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF {condition} THEN
                RAISE EXCEPTION '{message}' USING ERRCODE = 'integrity_constraint_violation';
            END IF;
            RETURN {otherwise};
        END $$
        """


# The rows of a test customer can be deleted from the logs. A customer stays what it is.
_TEST_CUSTOMERS_IN_SQLITE: list[Step] = [
    'DROP TRIGGER "AuditLog_no_delete"',
    f"""
    CREATE TRIGGER "AuditLog_no_delete" BEFORE DELETE ON "AuditLog"
    WHEN {IS_REAL}
    BEGIN SELECT RAISE(ABORT, '{_AUDIT_ERROR}'); END
    """,
    'DROP TRIGGER "BudgetCheckLog_no_delete"',
    f"""
    CREATE TRIGGER "BudgetCheckLog_no_delete" BEFORE DELETE ON "BudgetCheckLog"
    WHEN {_IS_NOT_PRUNED} AND {IS_REAL}
    BEGIN SELECT RAISE(ABORT, '{_PRUNE_ERROR}'); END
    """,
    f"""
    CREATE TRIGGER "Customer_test_for_good" BEFORE UPDATE OF "isTest" ON "Customer"
    WHEN NEW."isTest" IS NOT OLD."isTest"
    BEGIN SELECT RAISE(ABORT, '{_TEST_ERROR}'); END
    """,
    f"""
    CREATE TRIGGER "Customer_no_replace" BEFORE INSERT ON "Customer"
    WHEN EXISTS (SELECT 1 FROM "Customer" WHERE "id" = NEW."id" AND "isTest" IS NOT NEW."isTest")
    BEGIN SELECT RAISE(ABORT, '{_TEST_ERROR}'); END
    """,  # noqa: S608  # constants of this module
]
_TEST_CUSTOMERS_IN_POSTGRESQL: list[Step] = [
    _function("AuditLog_no_delete", _AUDIT_ERROR, IS_REAL),
    _function(
        "BudgetCheckLog_no_delete",
        _PRUNE_ERROR,
        f"{_IS_NOT_PRUNED_IN_POSTGRESQL} AND {IS_REAL}",
    ),
    _function(
        "Customer_test_for_good",
        _TEST_ERROR,
        'NEW."isTest" IS DISTINCT FROM OLD."isTest"',
        otherwise="NEW",
    ),
    """
    CREATE TRIGGER "Customer_test_for_good" BEFORE UPDATE OF "isTest" ON "Customer"
    FOR EACH ROW EXECUTE FUNCTION "Customer_test_for_good"()
    """,
]
_INDEXES: list[Step] = [
    (
        'CREATE INDEX "Reservation_requester" ON "Reservation" '
        '("customerId", "requesterId", "budgetId")'
    ),
    'DROP INDEX "BudgetCheckLog_timestamp"',
    'CREATE INDEX "BudgetCheckLog_timestamp" ON "BudgetCheckLog" ("timestamp", "budgetId")',
    (
        'CREATE INDEX "BudgetCheckLog_approval" ON "BudgetCheckLog" ("customerId", "requestId") '
        """WHERE "code" = 'REQUIRES_APPROVAL'"""
    ),
    (
        'CREATE INDEX "BudgetCheckLog_uncovered" ON "BudgetCheckLog" ("customerId", "timestamp") '
        'WHERE "available" = FALSE'
    ),
    (
        'CREATE INDEX "AuditLog_balance" ON "AuditLog" ("budgetId", "createdAt", "version") '
        'WHERE "budgetId" IS NOT NULL'
    ),
    (
        'CREATE INDEX "AuditLog_deletion" ON "AuditLog" ("budgetId", "version") '
        """WHERE "action" IN ('SOFT_DELETE', 'REVIVE')"""
    ),
    (
        'CREATE INDEX "AuditLog_spent" ON "AuditLog" ("customerId", "createdAt") '
        'WHERE "committedDeltaMinor" <> 0'
    ),
]
PEOPLE_IN_SQLITE: list[Step] = [
    *(_ACTIONS, *_COLUMNS, *_TABLES, *_INDEXES, *_TEST_CUSTOMERS_IN_SQLITE),
]
PEOPLE_IN_POSTGRESQL: list[Step] = [
    *(_ACTIONS, *_COLUMNS, *_TABLES, *_INDEXES, *_TEST_CUSTOMERS_IN_POSTGRESQL),
    """
    ALTER TABLE "AlertMessage" ALTER COLUMN "id" TYPE BIGINT,
    ALTER COLUMN "id" ADD GENERATED BY DEFAULT AS IDENTITY
    """,
]
