"""What the engines spell differently: the append-only triggers.

Kept in one place, since a trigger's syntax is the one thing that `schema.sql` cannot say for both.
"""

from __future__ import annotations

_AUDIT_REFUSAL = "the audit log is append-only"
_CHECK_REFUSAL = "the check log is append-only"
_PRUNE_REFUSAL = "check log rows leave only by flask prune-checks, which audits it"

#: Statements to run after `schema.sql` on SQLite.
#:
#: A replacing insert (INSERT OR REPLACE) deletes without firing delete triggers on a connection that has not asked for
#: them, so an insert over an existing row is refused as well. A check log row may be deleted only once the audit log says
#: that rows of that customer and age are to go.
ENGINE_STATEMENTS = [
    f"""
    CREATE TRIGGER "AuditLog_no_update" BEFORE UPDATE ON "AuditLog"
    BEGIN SELECT RAISE(ABORT, '{_AUDIT_REFUSAL}'); END
    """,
    f"""
    CREATE TRIGGER "AuditLog_no_delete" BEFORE DELETE ON "AuditLog"
    BEGIN SELECT RAISE(ABORT, '{_AUDIT_REFUSAL}'); END
    """,
    f"""
    CREATE TRIGGER "AuditLog_no_replace" BEFORE INSERT ON "AuditLog"
    WHEN EXISTS (SELECT 1 FROM "AuditLog" WHERE "id" = NEW."id" OR ("budgetId" = NEW."budgetId" AND "version" = NEW."version"))
    BEGIN SELECT RAISE(ABORT, '{_AUDIT_REFUSAL}'); END
    """,
    f"""
    CREATE TRIGGER "BudgetCheckLog_no_update" BEFORE UPDATE ON "BudgetCheckLog"
    BEGIN SELECT RAISE(ABORT, '{_CHECK_REFUSAL}'); END
    """,
    f"""
    CREATE TRIGGER "BudgetCheckLog_no_replace" BEFORE INSERT ON "BudgetCheckLog"
    WHEN EXISTS (SELECT 1 FROM "BudgetCheckLog" WHERE "id" = NEW."id")
    BEGIN SELECT RAISE(ABORT, '{_CHECK_REFUSAL}'); END
    """,
    f"""
    CREATE TRIGGER "BudgetCheckLog_no_delete" BEFORE DELETE ON "BudgetCheckLog"
    WHEN NOT EXISTS (
        SELECT 1 FROM "AuditLog"
        WHERE "action" = 'PRUNE_CHECKS' AND "customerId" = OLD."customerId" AND "newValue" > OLD."timestamp"
    )
    BEGIN SELECT RAISE(ABORT, '{_PRUNE_REFUSAL}'); END
    """,
]
