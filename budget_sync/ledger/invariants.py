"""The invariants of the ledger's tables, as SQL for both engines; `verification.verify` runs it."""

from __future__ import annotations

from typing import NamedTuple


class Invariant(NamedTuple):
    """A query for violations, and the sentence for them.

    The query returns a budget's id and the details, one row per violation. No row may be found.
    """

    violation: str
    sql: str


def _sum(amount: str) -> str:
    """The exact sum of an amount, null if there are no rows.

    On SQLite, SUM raises an error if a partial sum exceeds 64 bits. That must not happen even if
    rows are damaged, because these queries have to report them. So the upper and the lower bits are
    summed apart, as in `database/sums.py`.
    """
    return f"(SUM(({amount}) >> 26) * 67108864 + SUM(({amount}) & 67108863))"


_BUDGETED, _RESERVED, _COMMITTED = (
    _sum(f'a."{name}DeltaMinor"') for name in ("budgeted", "reserved", "committed")
)
#: The actions that change what a reservation holds, other than COMMIT and RELEASE.
_ADJUSTING = "('RESERVE', 'OVER_BUDGET', 'AMEND', 'TRANSFER', 'REVERSE')"
_RELEASED = _sum("""CASE WHEN a."action" = 'RELEASE' THEN -a."reservedDeltaMinor" END""")
_SET_ASIDE = _sum(f"""CASE WHEN a."action" IN {_ADJUSTING} THEN a."reservedDeltaMinor" END""")
_GROSS = _sum("""CASE WHEN a."action" = 'COMMIT' THEN a."committedDeltaMinor" END""")
_REVERSED = _sum("""CASE WHEN a."action" = 'REVERSE' THEN -a."committedDeltaMinor" END""")
_SPENT = _sum("""CASE WHEN a."action" = 'SPEND' THEN a."committedDeltaMinor" END""")


def _plus(amount: str) -> str:
    """The amount of the audit row before, plus the delta of this one; exact beyond 64 bits."""
    before = f'COALESCE(LAG("{amount}Minor") OVER earlier, 0)'
    return f'CAST({before} AS NUMERIC) + "{amount}DeltaMinor"'


INVARIANTS = (
    Invariant(
        "the counters differ from the sum of its reservations and spend",
        f"""
        SELECT u."budgetId", 'reserved ' || u."reservedMinor" || ' against '
            || COALESCE(r."held", 0) || ', committed ' || u."committedMinor" || ' against '
            || (COALESCE(r."committed", 0) + COALESCE(s."committed", 0)) || ' (minor units)'
        FROM "BudgetUtilization" u LEFT JOIN (
            SELECT "budgetId", {_sum('"heldMinor"')} AS "held",
                {_sum('"committedMinor" - "reversedMinor"')} AS "committed"
            FROM "Reservation" GROUP BY "budgetId"
        ) r ON r."budgetId" = u."budgetId" LEFT JOIN (
            SELECT "budgetId", {_sum('"amountMinor" - "reversedMinor"')} AS "committed"
            FROM "Spend" GROUP BY "budgetId"
        ) s ON s."budgetId" = u."budgetId"
        WHERE u."reservedMinor" <> COALESCE(r."held", 0)
            OR u."committedMinor" <> COALESCE(r."committed", 0) + COALESCE(s."committed", 0)
        """,
    ),
    Invariant(
        "the balances differ from the sum of its audit log",
        f"""
        SELECT b."id", 'budgeted ' || b."budgetedMinor" || ' against '
            || COALESCE({_BUDGETED}, 0) || ', reserved ' || u."reservedMinor"
            || ' against ' || COALESCE({_RESERVED}, 0) || ', committed '
            || u."committedMinor" || ' against ' || COALESCE({_COMMITTED}, 0)
            || ' (minor units)'
        FROM "Budget" b JOIN "BudgetUtilization" u ON u."budgetId" = b."id"
            LEFT JOIN "AuditLog" a ON a."budgetId" = b."id"
        GROUP BY b."id", b."budgetedMinor", u."reservedMinor", u."committedMinor"
        HAVING b."budgetedMinor" <> COALESCE({_BUDGETED}, 0)
            OR u."reservedMinor" <> COALESCE({_RESERVED}, 0)
            OR u."committedMinor" <> COALESCE({_COMMITTED}, 0)
        """,
    ),
    Invariant(
        "the number of its audit rows differs from its version",
        """
        SELECT u."budgetId", COUNT(a."id") || ' rows up to version '
            || COALESCE(MAX(a."version"), 0) || ', the budget is at version ' || u."version"
        FROM "BudgetUtilization" u LEFT JOIN "AuditLog" a ON a."budgetId" = u."budgetId"
        GROUP BY u."budgetId", u."version"
        HAVING COUNT(a."id") <> u."version" OR COALESCE(MAX(a."version"), 0) <> u."version"
        """,
    ),
    Invariant(
        "a reservation differs from the sum of its audit rows",
        f"""
        SELECT r."budgetId", 'reservation ' || r."id" || ' of request ' || r."requestId"
        FROM "Reservation" r LEFT JOIN "AuditLog" a ON a."reservationId" = r."id"
            AND a."budgetId" = r."budgetId" AND a."requestId" = r."requestId"
            AND a."subject" = r."requesterId" AND a."customerId" = r."customerId"
        GROUP BY r."id", r."budgetId", r."requestId", r."status", r."amountMinor", r."heldMinor",
            r."committedMinor", r."releasedMinor", r."exceededMinor", r."adjustedMinor",
            r."reversedMinor", r."version"
        HAVING r."heldMinor" <> r."amountMinor" + r."adjustedMinor" + r."exceededMinor"
                - r."committedMinor" - r."releasedMinor"
            OR (r."status" = 'open') <> (r."heldMinor" > 0)
            OR r."releasedMinor" <> COALESCE({_RELEASED}, 0)
            OR r."amountMinor" + r."adjustedMinor" <> COALESCE({_SET_ASIDE}, 0)
            OR r."heldMinor" <> COALESCE({_RESERVED}, 0)
            OR r."committedMinor" <> COALESCE({_GROSS}, 0)
            OR r."reversedMinor" <> COALESCE({_REVERSED}, 0)
            OR r."version" <> COALESCE(MAX(a."version"), 0)
        """,
    ),
    Invariant(
        "a spend differs from the sum of its audit rows",
        f"""
        SELECT s."budgetId", 'spend ' || s."spendId"
        FROM "Spend" s LEFT JOIN "AuditLog" a ON a."requestId" = s."spendId"
            AND a."budgetId" = s."budgetId" AND a."customerId" = s."customerId"
            AND a."reservationId" IS NULL AND a."action" <> 'DECLINE'
        GROUP BY s."seq", s."budgetId", s."spendId", s."amountMinor", s."reversedMinor",
            s."version"
        HAVING s."amountMinor" <> COALESCE({_SPENT}, 0)
            OR s."reversedMinor" <> COALESCE({_REVERSED}, 0)
            OR s."version" <> COALESCE(MAX(a."version"), 0)
        """,
    ),
    Invariant(
        "audit rows name a spend that does not exist",
        """
        SELECT a."budgetId", 'spend ' || COALESCE(a."requestId", '?')
        FROM "AuditLog" a LEFT JOIN "Spend" s ON s."spendId" = a."requestId"
            AND s."customerId" = a."customerId" AND s."budgetId" = a."budgetId"
        WHERE a."action" IN ('SPEND', 'REVERSE') AND a."reservationId" IS NULL
            AND s."seq" IS NULL
        GROUP BY a."budgetId", a."requestId"
        """,
    ),
    Invariant(
        "the two rows of a move to another budget do not fit together",
        """
        SELECT MIN("budgetId"), 'transfer ' || COALESCE("transferId", '?') FROM "AuditLog"
        WHERE "action" = 'TRANSFER' OR ("action" = 'OVER_BUDGET' AND "transferId" IS NOT NULL)
        GROUP BY "transferId"
        HAVING SUM(CASE "action" WHEN 'TRANSFER' THEN 1 ELSE 0 END) > 0 AND NOT (
            "transferId" IS NOT NULL AND COUNT(*) = 2 AND COUNT(DISTINCT "budgetId") = 2
            AND COUNT(DISTINCT "requestId") = 1
            AND COUNT(DISTINCT "subject") = 1 AND COUNT(DISTINCT "customerId") = 1
            AND MIN("reservedDeltaMinor") < 0 AND MAX("reservedDeltaMinor") > 0
        )
        """,
    ),
    Invariant(
        "a reservation is approved without an audit row of the approval",
        """
        SELECT r."budgetId", 'reservation ' || r."id" || ' of request ' || r."requestId"
        FROM "Reservation" r WHERE r."approvedAfterCheck" IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM "AuditLog" a
            WHERE a."customerId" = r."customerId" AND a."requestId" = r."requestId"
                AND a."action" = 'APPROVE' AND a."afterCheck" = r."approvedAfterCheck"
        )
        """,
    ),
    Invariant(
        "audit rows name a reservation that does not exist",
        """
        SELECT a."budgetId",
            'reservation ' || a."reservationId" || ' of request ' || COALESCE(a."requestId", '?')
        FROM "AuditLog" a LEFT JOIN "Reservation" r ON r."id" = a."reservationId"
        WHERE a."reservationId" IS NOT NULL AND r."id" IS NULL
        GROUP BY a."budgetId", a."reservationId", a."requestId"
        """,
    ),
    Invariant(
        "the amounts of an audit row do not fit its action",
        """
        SELECT "budgetId", 'version ' || "version" || ', ' || "action" FROM "AuditLog"
        WHERE "budgetId" IS NOT NULL AND NOT CASE "action"
            WHEN 'RESERVE' THEN "reservedDeltaMinor" > 0
                AND "committedDeltaMinor" = 0 AND "budgetedDeltaMinor" = 0
            WHEN 'OVER_BUDGET' THEN "reservedDeltaMinor" > 0
                AND "committedDeltaMinor" = 0 AND "budgetedDeltaMinor" = 0
            WHEN 'COMMIT' THEN "reservedDeltaMinor" < 0
                AND "committedDeltaMinor" > 0 AND "budgetedDeltaMinor" = 0
            WHEN 'RELEASE' THEN "reservedDeltaMinor" < 0
                AND "committedDeltaMinor" = 0 AND "budgetedDeltaMinor" = 0
            WHEN 'AMEND' THEN "reservedDeltaMinor" <> 0
                AND "committedDeltaMinor" = 0 AND "budgetedDeltaMinor" = 0
            WHEN 'TRANSFER' THEN "reservedDeltaMinor" <> 0
                AND "committedDeltaMinor" = 0 AND "budgetedDeltaMinor" = 0
            WHEN 'REVERSE' THEN "committedDeltaMinor" <= 0 AND "reservedDeltaMinor" >= 0
                AND "committedDeltaMinor" <> "reservedDeltaMinor" AND "budgetedDeltaMinor" = 0
            WHEN 'SPEND' THEN "reservedDeltaMinor" = 0
                AND "committedDeltaMinor" > 0 AND "budgetedDeltaMinor" = 0
            WHEN 'APPROVE' THEN "reservedDeltaMinor" = 0 AND "committedDeltaMinor" = 0
                AND "budgetedDeltaMinor" = 0
            WHEN 'DECLINE' THEN "reservedDeltaMinor" = 0 AND "committedDeltaMinor" = 0
                AND "budgetedDeltaMinor" = 0
            ELSE "reservedDeltaMinor" = 0 AND "committedDeltaMinor" = 0
        END
        """,
    ),
    Invariant(
        "the balance in an audit row is not that of the row before plus its amounts",
        f"""
        SELECT "budgetId", 'version ' || "version" FROM (
            SELECT "budgetId", "version", "budgetedMinor", "reservedMinor", "committedMinor",
                {_plus("budgeted")} AS "budgeted", {_plus("reserved")} AS "reserved",
                {_plus("committed")} AS "committed"
            FROM "AuditLog" WHERE "budgetId" IS NOT NULL
            WINDOW earlier AS (PARTITION BY "budgetId" ORDER BY "version")
        ) a
        WHERE "budgetedMinor" IS DISTINCT FROM "budgeted"
            OR "reservedMinor" IS DISTINCT FROM "reserved"
            OR "committedMinor" IS DISTINCT FROM "committed"
        """,
    ),
    Invariant(
        "it does not exist, but has a utilization row",
        """
        SELECT u."budgetId", 'version ' || u."version"
        FROM "BudgetUtilization" u LEFT JOIN "Budget" b ON b."id" = u."budgetId"
        WHERE b."id" IS NULL
        """,
    ),
    Invariant(
        "it does not exist, but has audit rows",
        """
        SELECT a."budgetId", COUNT(*) || ' audit rows'
        FROM "AuditLog" a LEFT JOIN "Budget" b ON b."id" = a."budgetId"
        WHERE a."budgetId" IS NOT NULL AND b."id" IS NULL GROUP BY a."budgetId"
        """,
    ),
    Invariant(
        "it has no utilization row",
        """
        SELECT b."id", 'created ' || b."createdAt"
        FROM "Budget" b LEFT JOIN "BudgetUtilization" u ON u."budgetId" = b."id"
        WHERE u."budgetId" IS NULL
        """,
    ),
)
