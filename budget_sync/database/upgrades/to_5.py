"""The step to schema version 5: reservations, readings, holds, files, identity, scopes."""

from __future__ import annotations

from budget_sync.database.upgrades.report import Step
from budget_sync.database.upgrades.to_5_data import change_keys, create_readings, describe_held
from budget_sync.database.upgrades.to_5_events import EVENTS_IN_POSTGRESQL, EVENTS_IN_SQLITE
from budget_sync.database.upgrades.to_5_people import (
    IS_REAL,
    PEOPLE_IN_POSTGRESQL,
    PEOPLE_IN_SQLITE,
)
from budget_sync.database.upgrades.to_5_reservations import (
    RESERVATIONS_IN_POSTGRESQL,
    RESERVATIONS_IN_SQLITE,
)

# Adds the name of a customer's fiscal years, uploaded files, answers to held changes, the stored
# reading of each source in place of its column map and locale, and the notes of a sync run.
_CREATE_ANSWERS = """
    CREATE TABLE "HoldAnswer" (
        "id" INTEGER PRIMARY KEY,
        "customerId" TEXT NOT NULL,
        "sourceId" TEXT NOT NULL,
        "kind" TEXT NOT NULL CHECK ("kind" IN ('rename', 'deletion', 'creation', 'amount')),
        "answer" TEXT NOT NULL,
        "budgetId" TEXT,
        "newDepartmentKey" TEXT,
        "newPeriodKey" TEXT,
        "currency" TEXT NOT NULL CHECK (LENGTH("currency") = 3),
        "currencyExponent" INTEGER NOT NULL CHECK ("currencyExponent" BETWEEN 0 AND 4),
        "newMinor" BIGINT CHECK ("newMinor" >= 0 AND "newMinor" < 1000000000000000),
        "newAmount" NUMERIC(20, 4) GENERATED ALWAYS AS (
            "newMinor" / CASE "currencyExponent" WHEN 0 THEN 1.0 WHEN 1 THEN 10.0 WHEN 2 THEN
                100.0 WHEN 3 THEN 1000.0 ELSE 10000.0 END
        ) STORED,
        "answeredBy" TEXT NOT NULL,
        "answeredAt" TIMESTAMPTZ NOT NULL,
        "outcome" TEXT CHECK ("outcome" IN ('applied', 'expired')),
        "closedBySyncId" TEXT,
        "closedAt" TIMESTAMPTZ,
        FOREIGN KEY ("sourceId", "customerId") REFERENCES "BudgetDataSourceConfig" ("id",
            "customerId"),
        FOREIGN KEY ("budgetId", "customerId", "currencyExponent") REFERENCES "Budget" ("id",
            "customerId", "currencyExponent"),
        CHECK (CASE "kind" WHEN 'rename' THEN "answer" IN ('same', 'different') WHEN 'deletion'
            THEN "answer" = 'approve' WHEN 'creation' THEN "answer" IN ('approve', 'apply') ELSE
            "answer" = 'apply' END),
        CHECK (("kind" = 'creation') = ("budgetId" IS NULL)),
        CHECK (("kind" IN ('rename', 'creation')) = ("newDepartmentKey" IS NOT NULL)),
        CHECK (("kind" IN ('rename', 'creation')) = ("newPeriodKey" IS NOT NULL)),
        CHECK (("kind" = 'deletion') = ("newMinor" IS NULL)),
        CHECK (("outcome" IS NULL) = ("closedBySyncId" IS NULL) AND ("outcome" IS NULL) =
            ("closedAt" IS NULL))
    )
    """
_CREATE_FILES = """
    CREATE TABLE "SourceFile" (
        "sourceId" TEXT NOT NULL,
        "customerId" TEXT NOT NULL,
        "state" TEXT NOT NULL CHECK ("state" IN ('current', 'pending')),
        "name" TEXT NOT NULL CHECK (LENGTH("name") BETWEEN 1 AND 255),
        "content" BYTEA NOT NULL,
        "uploadedBy" TEXT NOT NULL,
        "uploadedAt" TIMESTAMPTZ NOT NULL,
        PRIMARY KEY ("sourceId", "state"),
        FOREIGN KEY ("sourceId", "customerId") REFERENCES "BudgetDataSourceConfig" ("id",
            "customerId")
    )
    """
_BEFORE_THE_REST: list[Step] = [
    """
    ALTER TABLE "Customer" ADD COLUMN "fiscalYearNamedBy" TEXT NOT NULL DEFAULT 'end'
        CHECK ("fiscalYearNamedBy" IN ('end', 'start'))
    """,
    """
    INSERT INTO "AuditAction" ("action") VALUES ('SET_READING'), ('SET_FILE'), ('ANSWER_HOLD'),
        ('SET_ROLE'), ('LINK_USER')
    """,
    *(
        f'ALTER TABLE "User" ADD COLUMN {column}'
        for column in (
            '"provider" TEXT',
            (
                '"subject" TEXT CONSTRAINT "User_subject" '
                'CHECK (("provider" IS NULL) = ("subject" IS NULL))'
            ),
        )
    ),
    (
        'CREATE UNIQUE INDEX "User_provider_subject" ON "User" ("provider", "subject") '
        'WHERE "provider" IS NOT NULL'
    ),
    *(
        f'ALTER TABLE "ApiKey" ADD COLUMN {column}'
        for column in (
            '"scopes" TEXT CHECK (LENGTH("scopes") BETWEEN 1 AND 200)',
            '"expiresAt" TIMESTAMPTZ',
        )
    ),
    *(
        f'ALTER TABLE "BudgetDataSourceConfig" ADD COLUMN {column}'
        for column in (
            '"title" TEXT',
            '"reading" TEXT',
            '"readingConfirmedBy" TEXT',
            '"readingConfirmedAt" TIMESTAMPTZ',
            '"readingFacts" TEXT',
        )
    ),
    *(
        f'ALTER TABLE "SyncHistory" ADD COLUMN {column}'
        for column in (
            """"held" TEXT NOT NULL DEFAULT '[]'""",
            """"notes" TEXT NOT NULL DEFAULT '[]'""",
            """"skippedRows" TEXT NOT NULL DEFAULT '{}'""",
            '"facts" TEXT',
        )
    ),
    create_readings,
    change_keys,
    describe_held,
]
_REST = [
    'ALTER TABLE "SyncHistory" DROP COLUMN "heldBudgetIds"',
    _CREATE_FILES,
    _CREATE_ANSWERS,
    """CREATE INDEX "HoldAnswer_open" ON "HoldAnswer" ("sourceId") WHERE "outcome" IS NULL""",
]

# SQLite cannot change the constraints of the sources in place, and other tables refer to them. So
# the rows are copied to a table in between. While no source exists, the references are violated,
# which is allowed until the end of the transaction. The insert into the new table must be into a
# table of the final name: SQLite counts the violations, and a renamed table would not lower the
# count.
_REPLACE_SOURCES = [
    "PRAGMA defer_foreign_keys = ON",
    'CREATE TABLE "BudgetDataSourceConfig_4" AS SELECT * FROM "BudgetDataSourceConfig"',
    'DROP TABLE "BudgetDataSourceConfig"',
    """
    CREATE TABLE "BudgetDataSourceConfig" (
        "id" TEXT PRIMARY KEY,
        "customerId" TEXT NOT NULL REFERENCES "Customer" ("id"),
        "sourceType" TEXT NOT NULL CHECK ("sourceType" IN ('google_sheets', 'csv', 'xlsx')),
        "spreadsheetKey" TEXT,
        "worksheet" TEXT,
        "worksheetGid" BIGINT,
        "title" TEXT,
        "csvPath" TEXT,
        "reading" TEXT,
        "readingConfirmedBy" TEXT,
        "readingConfirmedAt" TIMESTAMPTZ,
        "readingFacts" TEXT,
        "isActive" BOOLEAN NOT NULL,
        "createdAt" TIMESTAMPTZ NOT NULL,
        "removedAt" TIMESTAMPTZ,
        UNIQUE ("id", "customerId"),
        CHECK (("sourceType" = 'google_sheets') = ("spreadsheetKey" IS NOT NULL)),
        CHECK ("sourceType" <> 'google_sheets' OR "csvPath" IS NULL),
        CHECK (("reading" IS NULL) = ("readingConfirmedBy" IS NULL) AND ("reading" IS NULL) =
            ("readingConfirmedAt" IS NULL)),
        CHECK ("reading" IS NOT NULL OR "readingFacts" IS NULL)
    )
    """,
    """
    INSERT INTO "BudgetDataSourceConfig" (
        "id", "customerId", "sourceType", "spreadsheetKey", "worksheet", "worksheetGid", "title",
        "csvPath", "reading", "readingConfirmedBy", "readingConfirmedAt", "readingFacts",
        "isActive", "createdAt", "removedAt"
    ) SELECT
        "id", "customerId", "sourceType", "spreadsheetKey", "worksheet", "worksheetGid", "title",
        "csvPath", "reading", "readingConfirmedBy", "readingConfirmedAt", "readingFacts",
        "isActive", "createdAt", "removedAt"
    FROM "BudgetDataSourceConfig_4" ORDER BY rowid
    """,
    'DROP TABLE "BudgetDataSourceConfig_4"',
    ('CREATE INDEX "BudgetDataSourceConfig_customerId" ON "BudgetDataSourceConfig" ("customerId")'),
]
_ANSWER_COLUMNS = (
    '"id", "customerId", "sourceId", "kind", "answer", "budgetId", "newDepartmentKey", '
    '"newPeriodKey", "currency", "currencyExponent", "newMinor", "answeredBy", "answeredAt"'
)
TO_5_IN_SQLITE: list[Step] = [
    *RESERVATIONS_IN_SQLITE,
    *EVENTS_IN_SQLITE,
    *PEOPLE_IN_SQLITE,
    *_BEFORE_THE_REST,
    *_REPLACE_SOURCES,
    *_REST,
    f"""
    CREATE TRIGGER "HoldAnswer_no_update" BEFORE UPDATE OF {_ANSWER_COLUMNS} ON "HoldAnswer"
    BEGIN SELECT RAISE(ABORT, 'answers to held changes are append-only'); END
    """,
    """
    CREATE TRIGGER "HoldAnswer_closed_once" BEFORE UPDATE ON "HoldAnswer"
    WHEN OLD."outcome" IS NOT NULL
    BEGIN SELECT RAISE(ABORT, 'an answer to a held change is closed only once'); END
    """,
    """
    CREATE TRIGGER "HoldAnswer_no_replace" BEFORE INSERT ON "HoldAnswer"
    WHEN EXISTS (SELECT 1 FROM "HoldAnswer" WHERE "id" = NEW."id")
    BEGIN SELECT RAISE(ABORT, 'answers to held changes are append-only'); END
    """,
    f"""
    CREATE TRIGGER "HoldAnswer_no_delete" BEFORE DELETE ON "HoldAnswer"
    WHEN {IS_REAL}
    BEGIN SELECT RAISE(ABORT, 'answers to held changes are append-only'); END
    """,
]


def _rejecting(
    trigger: str, event: str, message: str, condition: str = "TRUE", otherwise: str = "OLD"
) -> list[str]:
    level = "STATEMENT" if event == "TRUNCATE" else "ROW"
    return [
        f"""
        CREATE FUNCTION "{trigger}"() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF {condition} THEN
                RAISE EXCEPTION '{message}' USING ERRCODE = 'integrity_constraint_violation';
            END IF;
            RETURN {otherwise};
        END $$
        """,
        f"""
        CREATE TRIGGER "{trigger}" BEFORE {event} ON "HoldAnswer"
        FOR EACH {level} EXECUTE FUNCTION "{trigger}"()
        """,
    ]


_APPEND_ONLY = "answers to held changes are append-only"
TO_5_IN_POSTGRESQL: list[Step] = [
    *RESERVATIONS_IN_POSTGRESQL,
    *EVENTS_IN_POSTGRESQL,
    *PEOPLE_IN_POSTGRESQL,
    *_BEFORE_THE_REST,
    """
    ALTER TABLE "BudgetDataSourceConfig"
    DROP COLUMN "columnMap",
    DROP COLUMN "locale",
    DROP CONSTRAINT "BudgetDataSourceConfig_sourceType_check",
    DROP CONSTRAINT "BudgetDataSourceConfig_check",
    DROP CONSTRAINT "BudgetDataSourceConfig_check1"
    """,
    """
    ALTER TABLE "BudgetDataSourceConfig"
    ADD CONSTRAINT "BudgetDataSourceConfig_sourceType_check"
        CHECK ("sourceType" IN ('google_sheets', 'csv', 'xlsx')),
    ADD CONSTRAINT "BudgetDataSourceConfig_check"
        CHECK (("sourceType" = 'google_sheets') = ("spreadsheetKey" IS NOT NULL)),
    ADD CONSTRAINT "BudgetDataSourceConfig_check1"
        CHECK ("sourceType" <> 'google_sheets' OR "csvPath" IS NULL),
    ADD CONSTRAINT "BudgetDataSourceConfig_check2"
        CHECK (("reading" IS NULL) = ("readingConfirmedBy" IS NULL)
            AND ("reading" IS NULL) = ("readingConfirmedAt" IS NULL)),
    ADD CONSTRAINT "BudgetDataSourceConfig_check3"
        CHECK ("reading" IS NOT NULL OR "readingFacts" IS NULL)
    """,
    *_REST,
    """
    ALTER TABLE "HoldAnswer" ALTER COLUMN "id" TYPE BIGINT,
    ALTER COLUMN "id" ADD GENERATED BY DEFAULT AS IDENTITY
    """,
    *_rejecting("HoldAnswer_no_update", f"UPDATE OF {_ANSWER_COLUMNS}", _APPEND_ONLY),
    *_rejecting(
        "HoldAnswer_closed_once",
        "UPDATE",
        "an answer to a held change is closed only once",
        'OLD."outcome" IS NOT NULL',
        "NEW",
    ),
    *_rejecting("HoldAnswer_no_delete", "DELETE", _APPEND_ONLY, IS_REAL),
    *_rejecting("HoldAnswer_no_truncate", "TRUNCATE", _APPEND_ONLY),
]
