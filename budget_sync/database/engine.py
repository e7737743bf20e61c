"""Schema statements that differ between the engines: append-only triggers and generated keys.

`schema.sql` cannot hold them, because the trigger syntax differs.
"""

from __future__ import annotations

import peewee

from budget_sync.database.postgres.pool import PostgresServer

_AUDIT_ERROR = "the audit log is append-only"
_CHECK_ERROR = "the check log is append-only"
_ANSWER_ERROR = "answers to held changes are append-only"
_CLOSED_ERROR = "an answer to a held change is closed only once"
_PRUNE_ERROR = "check log rows leave only by flask prune-checks, which audits it"
_TEST_ERROR = "whether a customer is a test customer never changes"

#: True for the rows of customers that are not test customers.
_IS_REAL = """NOT EXISTS (
        SELECT 1 FROM "Customer" WHERE "id" = OLD."customerId" AND "isTest"
    )"""

#: The columns of an answer to a held change that never change.
_ANSWER_COLUMNS = (
    '"id", "customerId", "sourceId", "kind", "answer", "budgetId", "newDepartmentKey", '
    '"newPeriodKey", "currency", "currencyExponent", "newMinor", "answeredBy", "answeredAt"'
)

#: Statements to run after `schema.sql` on SQLite.
#:
#: INSERT OR REPLACE deletes rows without firing delete triggers, unless the connection has turned
#: on recursive triggers. So an insert over an existing row is rejected as well. Two plain look-ups
#: are the fastest form for SQLite to compile and run; this matters because every movement adds an
#: audit row. A row of the check log can be deleted only after the audit log has recorded that rows
#: of that customer and age are pruned. `flask reset-customer` deletes the rows of a test customer.
SQLITE_STATEMENTS = [
    f"""
    CREATE TRIGGER "AuditLog_no_update" BEFORE UPDATE ON "AuditLog"
    BEGIN SELECT RAISE(ABORT, '{_AUDIT_ERROR}'); END
    """,
    f"""
    CREATE TRIGGER "AuditLog_no_delete" BEFORE DELETE ON "AuditLog"
    WHEN {_IS_REAL}
    BEGIN SELECT RAISE(ABORT, '{_AUDIT_ERROR}'); END
    """,
    f"""
    CREATE TRIGGER "AuditLog_no_replace" BEFORE INSERT ON "AuditLog"
    BEGIN
        SELECT RAISE(ABORT, '{_AUDIT_ERROR}') FROM "AuditLog" WHERE "id" = NEW."id";
        SELECT RAISE(ABORT, '{_AUDIT_ERROR}') FROM "AuditLog"
        WHERE "budgetId" = NEW."budgetId" AND "version" = NEW."version";
    END
    """,
    f"""
    CREATE TRIGGER "BudgetCheckLog_no_update" BEFORE UPDATE ON "BudgetCheckLog"
    BEGIN SELECT RAISE(ABORT, '{_CHECK_ERROR}'); END
    """,
    f"""
    CREATE TRIGGER "BudgetCheckLog_no_replace" BEFORE INSERT ON "BudgetCheckLog"
    WHEN EXISTS (SELECT 1 FROM "BudgetCheckLog" WHERE "id" = NEW."id")
    BEGIN SELECT RAISE(ABORT, '{_CHECK_ERROR}'); END
    """,
    f"""
    CREATE TRIGGER "BudgetCheckLog_no_delete" BEFORE DELETE ON "BudgetCheckLog"
    WHEN NOT EXISTS (
        SELECT 1 FROM "AuditLog"
        WHERE "action" = 'PRUNE_CHECKS' AND "customerId" = OLD."customerId"
            AND "newValue" > OLD."timestamp"
    ) AND {_IS_REAL}
    BEGIN SELECT RAISE(ABORT, '{_PRUNE_ERROR}'); END
    """,
    f"""
    CREATE TRIGGER "HoldAnswer_no_update" BEFORE UPDATE OF {_ANSWER_COLUMNS} ON "HoldAnswer"
    BEGIN SELECT RAISE(ABORT, '{_ANSWER_ERROR}'); END
    """,
    f"""
    CREATE TRIGGER "HoldAnswer_closed_once" BEFORE UPDATE ON "HoldAnswer"
    WHEN OLD."outcome" IS NOT NULL
    BEGIN SELECT RAISE(ABORT, '{_CLOSED_ERROR}'); END
    """,
    f"""
    CREATE TRIGGER "HoldAnswer_no_replace" BEFORE INSERT ON "HoldAnswer"
    WHEN EXISTS (SELECT 1 FROM "HoldAnswer" WHERE "id" = NEW."id")
    BEGIN SELECT RAISE(ABORT, '{_ANSWER_ERROR}'); END
    """,
    f"""
    CREATE TRIGGER "HoldAnswer_no_delete" BEFORE DELETE ON "HoldAnswer"
    WHEN {_IS_REAL}
    BEGIN SELECT RAISE(ABORT, '{_ANSWER_ERROR}'); END
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
    """,
]

#: Keys that the database generates. SQLite does so for every INTEGER PRIMARY KEY.
GENERATED_KEYS = (
    ("Reservation", "seq"),
    ("BudgetCheckLog", "id"),
    ("AuditLog", "id"),
    ("SyncHistory", "id"),
    ("LoginAttempt", "id"),
    ("HoldAnswer", "id"),
    ("Spend", "seq"),
    ("WebhookAttempt", "id"),
    ("AlertMessage", "id"),
)


def _rejecting(
    trigger: str,
    table: str,
    event: str,
    message: str,
    condition: str = "TRUE",
    *,
    otherwise: str = "OLD",
) -> list[str]:
    """The function and the trigger, with one name, that reject an event on a table.

    If the condition is false, the event goes on with the row `otherwise`.
    """
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
        CREATE TRIGGER "{trigger}" BEFORE {event} ON "{table}"
        FOR EACH {level} EXECUTE FUNCTION "{trigger}"()
        """,
    ]


# An insert that replaces a row is an UPDATE here and needs no separate trigger; TRUNCATE does.
_POSTGRESQL_STATEMENTS = [
    *(
        f'ALTER TABLE "{table}" ALTER COLUMN "{key}" TYPE BIGINT, '
        f'ALTER COLUMN "{key}" ADD GENERATED BY DEFAULT AS IDENTITY'
        for table, key in GENERATED_KEYS
    ),
    *_rejecting("AuditLog_no_update", "AuditLog", "UPDATE", _AUDIT_ERROR),
    *_rejecting("AuditLog_no_delete", "AuditLog", "DELETE", _AUDIT_ERROR, _IS_REAL),
    *_rejecting("AuditLog_no_truncate", "AuditLog", "TRUNCATE", _AUDIT_ERROR),
    *_rejecting("BudgetCheckLog_no_update", "BudgetCheckLog", "UPDATE", _CHECK_ERROR),
    *_rejecting("BudgetCheckLog_no_truncate", "BudgetCheckLog", "TRUNCATE", _CHECK_ERROR),
    *_rejecting(
        "BudgetCheckLog_no_delete",
        "BudgetCheckLog",
        "DELETE",
        _PRUNE_ERROR,
        f"""NOT EXISTS (
            SELECT 1 FROM "AuditLog"
            WHERE "action" = 'PRUNE_CHECKS' AND "customerId" = OLD."customerId"
                AND "newValue" COLLATE "C"
                    > to_char(OLD."timestamp" AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
        ) AND {_IS_REAL}""",
    ),
    *_rejecting(
        "HoldAnswer_no_update", "HoldAnswer", f"UPDATE OF {_ANSWER_COLUMNS}", _ANSWER_ERROR
    ),
    *_rejecting(
        "HoldAnswer_closed_once",
        "HoldAnswer",
        "UPDATE",
        _CLOSED_ERROR,
        'OLD."outcome" IS NOT NULL',
        otherwise="NEW",
    ),
    *_rejecting("HoldAnswer_no_delete", "HoldAnswer", "DELETE", _ANSWER_ERROR, _IS_REAL),
    *_rejecting("HoldAnswer_no_truncate", "HoldAnswer", "TRUNCATE", _ANSWER_ERROR),
    *_rejecting(
        "Customer_test_for_good",
        "Customer",
        'UPDATE OF "isTest"',
        _TEST_ERROR,
        'NEW."isTest" IS DISTINCT FROM OLD."isTest"',
        otherwise="NEW",
    ),
]


def engine_statements(database: peewee.Database) -> list[str]:
    """The statements to run after `schema.sql` on the engine of `database`."""
    return _POSTGRESQL_STATEMENTS if isinstance(database, PostgresServer) else SQLITE_STATEMENTS
