"""The part of the step to schema version 5 about reservations: amendments, reversals, spend."""

from __future__ import annotations

from budget_sync.database.upgrades.report import Step

_CREATE_SPEND = """
    CREATE TABLE "Spend" (
        "seq" INTEGER PRIMARY KEY,
        "customerId" TEXT NOT NULL,
        "budgetId" TEXT NOT NULL,
        "spendId" TEXT NOT NULL CHECK (LENGTH("spendId") BETWEEN 1 AND 200),
        "currencyExponent" INTEGER NOT NULL,
        "amountMinor" BIGINT NOT NULL
            CHECK ("amountMinor" > 0 AND "amountMinor" < 1000000000000000),
        "reversedMinor" BIGINT NOT NULL DEFAULT 0 CHECK ("reversedMinor" >= 0),
        "version" BIGINT NOT NULL CHECK ("version" > 0),
        "amount" NUMERIC(20, 4) GENERATED ALWAYS AS (
            "amountMinor" / CASE "currencyExponent" WHEN 0 THEN 1.0 WHEN 1 THEN 10.0
                WHEN 2 THEN 100.0 WHEN 3 THEN 1000.0 ELSE 10000.0 END
        ) STORED,
        "spentOn" DATE NOT NULL,
        "vendor" TEXT,
        "reason" TEXT NOT NULL,
        "externalRef" TEXT,
        "recordedBy" TEXT NOT NULL,
        "createdAt" TIMESTAMPTZ NOT NULL,
        "reply" TEXT NOT NULL,
        UNIQUE ("customerId", "spendId"),
        FOREIGN KEY ("budgetId", "customerId", "currencyExponent")
            REFERENCES "Budget" ("id", "customerId", "currencyExponent"),
        CONSTRAINT "Spend_reversed" CHECK ("reversedMinor" <= "amountMinor")
    )
    """
_CUSTOMER_COLUMNS: list[Step] = [
    f'ALTER TABLE "Customer" ADD COLUMN {column}'
    for column in (
        (
            '"invoiceToleranceBasisPoints" INTEGER NOT NULL DEFAULT 1000 '
            'CHECK ("invoiceToleranceBasisPoints" BETWEEN 0 AND 10000)'
        ),
        (
            '"invoiceToleranceMinor" BIGINT CHECK ("invoiceToleranceMinor" >= 0 '
            'AND "invoiceToleranceMinor" < 1000000000000000)'
        ),
        '"holdDays" INTEGER CHECK ("holdDays" BETWEEN 1 AND 3650)',
    )
]
_REST: list[Step] = [
    (
        'CREATE INDEX "Reservation_expiry" ON "Reservation" ("expiresAt") '
        """WHERE "status" = 'open' AND "expiresAt" IS NOT NULL"""
    ),
    _CREATE_SPEND,
    'CREATE INDEX "Spend_budgetId" ON "Spend" ("budgetId")',
    *(
        f'ALTER TABLE "AuditLog" ADD COLUMN {column}'
        for column in (
            '"transferId" TEXT',
            '"budgetedMinor" BIGINT',
            '"reservedMinor" BIGINT',
            '"committedMinor" BIGINT',
        )
    ),
    (
        'CREATE INDEX "AuditLog_externalRef" ON "AuditLog" ("customerId", "externalRef") '
        'WHERE "externalRef" IS NOT NULL'
    ),
    """
    INSERT INTO "AuditAction" ("action") VALUES ('AMEND'), ('TRANSFER'), ('EXTEND'), ('REVERSE'),
        ('SPEND')
    """,
    *_CUSTOMER_COLUMNS,
]

# The version of a reservation is that of its latest audit row. A damaged database may have none;
# `flask verify` reports that.
_VERSION = """
    COALESCE((
        SELECT MAX(a."version") FROM "AuditLog" a
        WHERE a."customerId" = r."customerId" AND a."requestId" = r."requestId"
            AND a."reservationId" = r."id"
    ), 1)
    """
_KEPT = (
    '"seq", "id", "customerId", "budgetId", "requestId", "requesterId", "requesterName", '
    '"requesterEmail", "currencyExponent", "amountMinor", "heldMinor", "committedMinor", '
    '"releasedMinor", "exceededMinor", "status", "createdAt", "closedAt", "closedAfterCheck", '
    '"reserveReply", "closingCall", "closingReply"'
)

# Only this step may update audit rows, so their trigger is gone while it runs.
_FILL_BALANCES = """
    UPDATE "AuditLog" SET
        "budgetedMinor" = s."budgeted", "reservedMinor" = s."reserved",
        "committedMinor" = s."committed"
    FROM (
        SELECT "id",
            SUM("budgetedDeltaMinor") OVER running AS "budgeted",
            SUM("reservedDeltaMinor") OVER running AS "reserved",
            SUM("committedDeltaMinor") OVER running AS "committed"
        FROM "AuditLog" WHERE "budgetId" IS NOT NULL
        WINDOW running AS (PARTITION BY "budgetId" ORDER BY "version")
    ) s
    WHERE s."id" = "AuditLog"."id"
    """

# SQLite cannot change a constraint in place. No other table refers to reservations.
RESERVATIONS_IN_SQLITE: list[Step] = [
    'ALTER TABLE "Reservation" RENAME TO "Reservation_4"',
    *(f'DROP INDEX "Reservation_{index}"' for index in ("open", "open_age", "request")),
    """
    CREATE TABLE "Reservation" (
        "seq" INTEGER PRIMARY KEY,
        "id" TEXT NOT NULL UNIQUE,
        "customerId" TEXT NOT NULL,
        "budgetId" TEXT NOT NULL,
        "requestId" TEXT NOT NULL CHECK (LENGTH("requestId") BETWEEN 1 AND 200),
        "requesterId" TEXT NOT NULL,
        "requesterName" TEXT NOT NULL,
        "requesterEmail" TEXT NOT NULL,
        "currencyExponent" INTEGER NOT NULL,
        "amountMinor" BIGINT NOT NULL
            CHECK ("amountMinor" > 0 AND "amountMinor" < 1000000000000000),
        "heldMinor" BIGINT NOT NULL CHECK ("heldMinor" >= 0),
        "committedMinor" BIGINT NOT NULL DEFAULT 0 CHECK ("committedMinor" >= 0),
        "releasedMinor" BIGINT NOT NULL DEFAULT 0 CHECK ("releasedMinor" >= 0),
        "exceededMinor" BIGINT NOT NULL DEFAULT 0 CHECK ("exceededMinor" >= 0),
        "adjustedMinor" BIGINT NOT NULL DEFAULT 0,
        "reversedMinor" BIGINT NOT NULL DEFAULT 0 CHECK ("reversedMinor" >= 0),
        "version" BIGINT NOT NULL CHECK ("version" > 0),
        "status" TEXT NOT NULL CHECK ("status" IN ('open', 'closed')),
        "amount" NUMERIC(20, 4) GENERATED ALWAYS AS (
            "amountMinor" / CASE "currencyExponent" WHEN 0 THEN 1.0 WHEN 1 THEN 10.0
                WHEN 2 THEN 100.0 WHEN 3 THEN 1000.0 ELSE 10000.0 END
        ) STORED,
        "heldAmount" NUMERIC(20, 4) GENERATED ALWAYS AS (
            "heldMinor" / CASE "currencyExponent" WHEN 0 THEN 1.0 WHEN 1 THEN 10.0
                WHEN 2 THEN 100.0 WHEN 3 THEN 1000.0 ELSE 10000.0 END
        ) STORED,
        "createdAt" TIMESTAMPTZ NOT NULL,
        "expiresAt" TIMESTAMPTZ,
        "closedAt" TIMESTAMPTZ,
        "closedAfterCheck" BIGINT,
        "reserveReply" TEXT NOT NULL,
        "closingCall" TEXT,
        "closingReply" TEXT,
        FOREIGN KEY ("budgetId", "customerId", "currencyExponent")
            REFERENCES "Budget" ("id", "customerId", "currencyExponent"),
        CHECK ("heldMinor" = "amountMinor" + "adjustedMinor" + "exceededMinor" - "committedMinor" -
            "releasedMinor"),
        CHECK (("status" = 'open') = ("heldMinor" > 0)),
        CHECK (("status" = 'closed') = ("closedAt" IS NOT NULL AND "closedAfterCheck" IS NOT NULL
            AND "closingCall" IS NOT NULL AND "closingReply" IS NOT NULL)),
        CONSTRAINT "Reservation_reversed" CHECK ("reversedMinor" <= "committedMinor")
    )
    """,
    f"""
    INSERT INTO "Reservation" ({_KEPT}, "version")
    SELECT {_KEPT}, {_VERSION} FROM "Reservation_4" r ORDER BY "seq"
    """,  # noqa: S608  # constants of this module
    'DROP TABLE "Reservation_4"',
    (
        'CREATE UNIQUE INDEX "Reservation_open" ON "Reservation" ("budgetId", "requestId") '
        """WHERE "status" = 'open'"""
    ),
    (
        'CREATE INDEX "Reservation_open_age" ON "Reservation" ("customerId", "createdAt") '
        """WHERE "status" = 'open'"""
    ),
    'CREATE INDEX "Reservation_request" ON "Reservation" ("customerId", "requestId")',
    *_REST,
    'DROP TRIGGER "AuditLog_no_update"',
    _FILL_BALANCES,
    """
    CREATE TRIGGER "AuditLog_no_update" BEFORE UPDATE ON "AuditLog"
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END
    """,
]
RESERVATIONS_IN_POSTGRESQL: list[Step] = [
    """
    ALTER TABLE "Reservation"
    ADD COLUMN "adjustedMinor" BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN "reversedMinor" BIGINT NOT NULL DEFAULT 0 CHECK ("reversedMinor" >= 0),
    ADD COLUMN "version" BIGINT NOT NULL DEFAULT 1 CHECK ("version" > 0),
    ADD COLUMN "expiresAt" TIMESTAMPTZ,
    DROP CONSTRAINT "Reservation_check"
    """,
    f'UPDATE "Reservation" AS r SET "version" = {_VERSION}',  # noqa: S608  # constants
    """
    ALTER TABLE "Reservation"
    ADD CONSTRAINT "Reservation_check" CHECK ("heldMinor" = "amountMinor" + "adjustedMinor" +
        "exceededMinor" - "committedMinor" - "releasedMinor"),
    ADD CONSTRAINT "Reservation_reversed" CHECK ("reversedMinor" <= "committedMinor"),
    ALTER COLUMN "version" DROP DEFAULT
    """,
    *_REST,
    'DROP TRIGGER "AuditLog_no_update" ON "AuditLog"',
    _FILL_BALANCES,
    """
    CREATE TRIGGER "AuditLog_no_update" BEFORE UPDATE ON "AuditLog"
    FOR EACH ROW EXECUTE FUNCTION "AuditLog_no_update"()
    """,
    """
    ALTER TABLE "Spend" ALTER COLUMN "seq" TYPE BIGINT,
    ALTER COLUMN "seq" ADD GENERATED BY DEFAULT AS IDENTITY
    """,
]
