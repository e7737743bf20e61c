"""What would contradict itself in the ledger's tables, in SQL that both engines take; `reports.verify` asks it."""

from __future__ import annotations

#: Each claim with the query for what bears it out, one line a finding: a budget's id, and the figures. None may find anything.
INVARIANTS = (
    (
        "the counters are not what its reservations add up to",
        """
        SELECT u."budgetId", 'reserved ' || u."reservedMinor" || ' against ' || COALESCE(r."held", 0)
            || ', committed ' || u."committedMinor" || ' against ' || COALESCE(r."committed", 0) || ' (minor units)'
        FROM "BudgetUtilization" u LEFT JOIN (
            SELECT "budgetId", SUM("heldMinor") AS "held", SUM("committedMinor") AS "committed" FROM "Reservation" GROUP BY "budgetId"
        ) r ON r."budgetId" = u."budgetId"
        WHERE u."reservedMinor" <> COALESCE(r."held", 0) OR u."committedMinor" <> COALESCE(r."committed", 0)
        """,
    ),
    (
        "the balances are not what its audit log replays to",
        """
        SELECT b."id", 'budgeted ' || b."budgetedMinor" || ' against ' || COALESCE(SUM(a."budgetedDeltaMinor"), 0)
            || ', reserved ' || u."reservedMinor" || ' against ' || COALESCE(SUM(a."reservedDeltaMinor"), 0)
            || ', committed ' || u."committedMinor" || ' against ' || COALESCE(SUM(a."committedDeltaMinor"), 0) || ' (minor units)'
        FROM "Budget" b JOIN "BudgetUtilization" u ON u."budgetId" = b."id" LEFT JOIN "AuditLog" a ON a."budgetId" = b."id"
        GROUP BY b."id", b."budgetedMinor", u."reservedMinor", u."committedMinor"
        HAVING b."budgetedMinor" <> COALESCE(SUM(a."budgetedDeltaMinor"), 0) OR u."reservedMinor" <> COALESCE(SUM(a."reservedDeltaMinor"), 0)
            OR u."committedMinor" <> COALESCE(SUM(a."committedDeltaMinor"), 0)
        """,
    ),
    (
        "rows are missing from its audit log, or are too many",
        """
        SELECT u."budgetId", COUNT(a."id") || ' rows up to version ' || COALESCE(MAX(a."version"), 0) || ', the budget is at version ' || u."version"
        FROM "BudgetUtilization" u LEFT JOIN "AuditLog" a ON a."budgetId" = u."budgetId"
        GROUP BY u."budgetId", u."version"
        HAVING COUNT(a."id") <> u."version" OR COALESCE(MAX(a."version"), 0) <> u."version"
        """,
    ),
    (
        "a reservation is not what its audit rows tell",
        """
        SELECT r."budgetId", 'reservation ' || r."id" || ' of request ' || r."requestId"
        FROM "Reservation" r LEFT JOIN "AuditLog" a ON a."reservationId" = r."id" AND a."budgetId" = r."budgetId"
            AND a."requestId" = r."requestId" AND a."subject" = r."requesterId" AND a."customerId" = r."customerId"
        GROUP BY r."id", r."budgetId", r."requestId", r."status", r."amountMinor", r."heldMinor", r."committedMinor", r."releasedMinor", r."exceededMinor"
        HAVING r."heldMinor" <> r."amountMinor" + r."exceededMinor" - r."committedMinor" - r."releasedMinor" OR (r."status" = 'open') <> (r."heldMinor" > 0)
            OR r."releasedMinor" <> COALESCE(SUM(CASE WHEN a."action" = 'RELEASE' THEN -a."reservedDeltaMinor" END), 0)
            OR r."amountMinor" <> COALESCE(SUM(CASE WHEN a."action" IN ('RESERVE', 'OVER_BUDGET') THEN a."reservedDeltaMinor" END), 0)
            OR r."heldMinor" <> COALESCE(SUM(a."reservedDeltaMinor"), 0) OR r."committedMinor" <> COALESCE(SUM(a."committedDeltaMinor"), 0)
        """,
    ),
    (
        "movements tell of a reservation that is not there",
        """
        SELECT a."budgetId", 'reservation ' || a."reservationId" || ' of request ' || COALESCE(a."requestId", '?')
        FROM "AuditLog" a LEFT JOIN "Reservation" r ON r."id" = a."reservationId"
        WHERE a."reservationId" IS NOT NULL AND r."id" IS NULL
        GROUP BY a."budgetId", a."reservationId", a."requestId"
        """,
    ),
    (
        "an audit row's figures are not its action's",
        """
        SELECT "budgetId", 'version ' || "version" || ', ' || "action" FROM "AuditLog"
        WHERE "budgetId" IS NOT NULL AND NOT CASE "action"
            WHEN 'RESERVE' THEN "reservedDeltaMinor" > 0 AND "committedDeltaMinor" = 0 AND "budgetedDeltaMinor" = 0
            WHEN 'OVER_BUDGET' THEN "reservedDeltaMinor" > 0 AND "committedDeltaMinor" = 0 AND "budgetedDeltaMinor" = 0
            WHEN 'COMMIT' THEN "reservedDeltaMinor" < 0 AND "committedDeltaMinor" > 0 AND "budgetedDeltaMinor" = 0
            WHEN 'RELEASE' THEN "reservedDeltaMinor" < 0 AND "committedDeltaMinor" = 0 AND "budgetedDeltaMinor" = 0
            ELSE "reservedDeltaMinor" = 0 AND "committedDeltaMinor" = 0
        END
        """,
    ),
    (
        "it is not there, and its utilisation is",
        """
        SELECT u."budgetId", 'version ' || u."version" FROM "BudgetUtilization" u LEFT JOIN "Budget" b ON b."id" = u."budgetId" WHERE b."id" IS NULL
        """,
    ),
    (
        "it is not there, and movements of it are",
        """
        SELECT a."budgetId", COUNT(*) || ' audit rows' FROM "AuditLog" a LEFT JOIN "Budget" b ON b."id" = a."budgetId"
        WHERE a."budgetId" IS NOT NULL AND b."id" IS NULL GROUP BY a."budgetId"
        """,
    ),
    (
        "it has no utilisation row",
        """
        SELECT b."id", 'made ' || b."createdAt" FROM "Budget" b LEFT JOIN "BudgetUtilization" u ON u."budgetId" = b."id" WHERE u."budgetId" IS NULL
        """,
    ),
)
