"""A large SQLite database of one customer, to measure the console: written by SQL in a minute.

It has checks and reservations over the last year on 200 budgets: 3 % of the checks are denied, 5 %
of the reservations are open, and 1 % wait for approval, the newest. The constraints hold, and the
balances agree with the reservations and the audit log.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.machine import PROJECT
from bench.places import Place, Sqlite, cache_folder
from bench.stock import fingerprint
from budget_sync.domain import clock
from budget_sync.domain.periods import period_key

CUSTOMER = "console"
DEPARTMENTS = 50
QUARTERS = 4
BUDGETS = DEPARTMENTS * QUARTERS
SIZE = 1_000_000

_YEAR = timedelta(days=365)

# Numbers of the requests: "n" is that of a request, in the order of time. Multiplying it spreads
# the budgets, the people and the vendors.
_NUMBERS = """
    CREATE TEMP TABLE "Number" AS
    WITH RECURSIVE "each"("n") AS (
        SELECT 0 UNION ALL SELECT "n" + 1 FROM "each" WHERE "n" + 1 < {size}
    )
    SELECT "n",
        strftime('%Y-%m-%dT%H:%M:%SZ', {begin} + "n" * {seconds} / {size}, 'unixepoch') AS "at",
        'b-' || ("n" * 7919 % {budgets}) AS "budget",
        'res_' || lower(hex(randomblob(12))) AS "reservation",
        "n" * 31 % 1000 AS "person",
        10000 + "n" * 7907 % 90000 AS "amount",
        "n" % 100 IN (31, 62, 93) AS "isDenied",
        "n" % 20 = 7 AS "isOpen",
        "n" % 20 = 7 AND "n" >= {size} * 8 / 10 AS "waits"
    FROM "each"
"""
# A commit comes after the next 1 % of the requests, about 4 days later.
_MOVES = """
    CREATE TEMP TABLE "Move" AS
    SELECT "n", 4 * "n" AS "order", 'RESERVE' AS "action", "at", "amount" AS "reserved",
        0 AS "committed"
    FROM "Number"
    UNION ALL
    SELECT "n", 4 * "n" + 1, 'APPROVE', "at", 0, 0 FROM "Number" WHERE "isOpen" AND NOT "waits"
    UNION ALL
    SELECT "n", 4 * ("n" + {size} / 100) + 2, 'COMMIT',
        MIN({now}, strftime('%Y-%m-%dT%H:%M:%SZ', unixepoch("at") + {seconds} / 100, 'unixepoch')),
        -"amount", "amount"
    FROM "Number" WHERE NOT "isOpen"
"""
_BUDGETS = """
    INSERT INTO "Budget" ("id", "customerId", "department", "departmentKey", "fiscalPeriod",
        "periodKey", "currency", "currencyExponent", "budgetedMinor", "createdAt", "updatedAt")
    VALUES (?, 'console', ?, ?, ?, ?, 'USD', 2, ?, ?, ?)
"""
_CREATED = """
    INSERT INTO "AuditLog" ("customerId", "budgetId", "version", "action", "newValue",
        "budgetedDeltaMinor", "budgetedMinor", "reservedMinor", "committedMinor", "principal",
        "changedBy", "createdAt")
    SELECT "customerId", "id", 1, 'CREATE', CAST("budgetedAmount" AS TEXT), "budgetedMinor",
        "budgetedMinor", 0, 0, 'command', 'bench (command line)', "createdAt"
    FROM "Budget"
"""
_AUDIT = """
    INSERT INTO "AuditLog" ("customerId", "budgetId", "version", "action", "subject", "requestId",
        "reservationId", "oldValue", "newValue", "reservedDeltaMinor", "committedDeltaMinor",
        "budgetedMinor", "reservedMinor", "committedMinor", "principal", "changedBy", "onBehalfOf",
        "reason", "afterCheck", "createdAt")
    SELECT 'console', "budget", 1 + ROW_NUMBER() OVER "of", "action", 'user-' || "person",
        'req-' || "n", "reservation", '0.00', '100.00', "reserved", "committed",
        "budgetedMinor", SUM("reserved") OVER "of", SUM("committed") OVER "of",
        'key:bench', 'bench', 'Person ' || "person" || ' (person' || "person" || '@example.com)',
        'Team collaboration', CASE "action" WHEN 'APPROVE' THEN "n" + 1 END, "Move"."at"
    FROM "Move" JOIN "Number" USING ("n") JOIN "Budget" ON "Budget"."id" = "budget"
    WINDOW "of" AS (PARTITION BY "budget" ORDER BY "order")
    ORDER BY "order"
"""
_UTILIZATION = """
    INSERT INTO "BudgetUtilization" ("budgetId", "customerId", "currencyExponent", "reservedMinor",
        "committedMinor", "version")
    SELECT "budgetId", 'console', 2, SUM("reservedDeltaMinor"), SUM("committedDeltaMinor"),
        MAX("version")
    FROM "AuditLog" WHERE "budgetId" IS NOT NULL GROUP BY "budgetId"
"""
# Of the denied checks, every third found no budget.
_CHECKS = """
    INSERT INTO "BudgetCheckLog" ("checkId", "customerId", "requestId", "userId", "userName",
        "userEmail", "checkedBy", "department", "fiscalPeriod", "currency", "currencyExponent",
        "amountMinor", "vendor", "purpose", "budgetId", "available", "canAutoApprove", "code",
        "reason", "response", "durationMs", "timestamp")
    SELECT 'chk_' || lower(hex(randomblob(12))), 'console',
        CASE WHEN "isDenied" THEN 'denied-' ELSE 'req-' END || "n", 'user-' || "person",
        'Person ' || "person", 'person' || "person" || '@example.com', 'key:bench',
        CASE WHEN "isDenied" AND "n" % 3 = 0 THEN 'Unknown ' || "n" % 300 ELSE "department" END,
        "fiscalPeriod", 'USD', 2, "amount", 'Vendor ' || "n" / 7 % 500, 'Team collaboration',
        CASE WHEN "isDenied" AND "n" % 3 = 0 THEN NULL ELSE "budget" END,
        NOT "isDenied", NOT "isDenied" AND NOT "waits" AND "n" % 2,
        CASE WHEN "isDenied" AND "n" % 3 = 0 THEN 'NO_BUDGET'
            WHEN "isDenied" THEN 'INSUFFICIENT_BUDGET'
            WHEN "waits" OR "n" % 2 = 0 THEN 'REQUIRES_APPROVAL' ELSE 'AUTO_APPROVED' END,
        'Budget available', hex(zeroblob(150)), 1, "at"
    FROM "Number" JOIN "Budget" ON "Budget"."id" = "budget" ORDER BY "n"
"""
_RESERVATIONS = """
    INSERT INTO "Reservation" ("id", "customerId", "budgetId", "requestId", "requesterId",
        "requesterName", "requesterEmail", "currencyExponent", "amountMinor", "heldMinor",
        "committedMinor", "approvedMinor", "approvedAfterCheck", "version", "status", "createdAt",
        "closedAt", "closedAfterCheck", "reserveReply", "closingCall", "closingReply")
    SELECT "reservation", 'console', "budget", 'req-' || "n", 'user-' || "person",
        'Person ' || "person", 'person' || "person" || '@example.com', 2, "amount",
        CASE WHEN "isOpen" THEN "amount" ELSE 0 END, CASE WHEN "isOpen" THEN 0 ELSE "amount" END,
        CASE WHEN "isOpen" AND NOT "waits" THEN "amount" END,
        CASE WHEN "isOpen" AND NOT "waits" THEN "n" + 1 END,
        (SELECT MAX("version") FROM "AuditLog" WHERE "customerId" = 'console'
            AND "requestId" = 'req-' || "n"),
        CASE WHEN "isOpen" THEN 'open' ELSE 'closed' END, "at",
        CASE WHEN NOT "isOpen" THEN "at" END, CASE WHEN NOT "isOpen" THEN "n" + 1 END,
        hex(zeroblob(100)), CASE WHEN NOT "isOpen" THEN 'commit:100:full' END,
        CASE WHEN NOT "isOpen" THEN hex(zeroblob(100)) END
    FROM "Number" ORDER BY "n"
"""


def stored(size: int = SIZE) -> Place:
    """The installation with `size` checks and reservations, cached for later runs of a day."""
    print_of_files = fingerprint(PROJECT / "schema.sql"), fingerprint(Path(__file__))
    cached = cache_folder() / f"console-{size}-{'-'.join(print_of_files)}"
    note, sqlite = cached / "key", Sqlite(cache_folder())
    if not note.exists() or _is_of_yesterday(note):
        for outdated in cache_folder().glob(f"console-{size}-*"):
            shutil.rmtree(outdated)
        key = _filled(sqlite.at(cached), size).key
        note.write_text(key, encoding="ascii")
    return sqlite.at(cached, note.read_text(encoding="ascii"))


def _is_of_yesterday(note: Path) -> bool:
    written = datetime.fromtimestamp(note.stat().st_mtime, UTC)
    return datetime.now(UTC) - written > timedelta(days=1)


def _filled(place: Place, size: int) -> Place:
    place.flask("init-db")
    place.flask("add-customer", CUSTOMER, "--name", "Console")
    place.flask("set-customer", CUSTOMER, "--employees-see", "own")
    # Two viewers: one reads everything, one only the own requests.
    for user, role in (("fiona", "fpa_user"), ("user-7", "business_user")):
        place.flask(
            *("add-user", "--customer", CUSTOMER, "--id", user, "--name", user),
            *("--email", f"{user}@example.com", "--role", role),
        )
    key = place.flask("add-key", "--customer", CUSTOMER, "--name", "bench")
    now = datetime.now(UTC)
    facts = {
        "size": size,
        "budgets": BUDGETS,
        "begin": int((now - _YEAR).timestamp()),
        "seconds": int(_YEAR.total_seconds()),
        "now": f"'{clock.to_text(now)}'",
    }
    with place.stock() as stock:
        connection = stock.connection
        # Durability is not needed: the database counts only once its key is stored.
        for pragma in (
            "synchronous = OFF",
            "cache_size = -500000",
            "foreign_keys = ON",
            "wal_autocheckpoint = 100000",
        ):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute(_NUMBERS.format(**facts))
        connection.execute('CREATE UNIQUE INDEX temp."Number_n" ON "Number" ("n")')
        connection.execute(_MOVES.format(**facts))
        connection.executemany(_BUDGETS, _budgets(size, now))
        for statement in (_CREATED, _AUDIT, _UTILIZATION, _CHECKS, _RESERVATIONS):
            connection.execute(statement)
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Place(place.folder, place.database_url, key)


def _budgets(size: int, now: datetime) -> Iterator[tuple[object, ...]]:
    """The values of each budget. Some are overdrawn, some nearly used up."""
    created = clock.to_text(now - _YEAR - timedelta(days=1))
    for number in range(BUDGETS):
        name = f"Department {number % DEPARTMENTS}"
        period = f"Q{number // DEPARTMENTS + 1} {now.year}"
        budgeted = 55_000 * (size // BUDGETS) * (95 + number % 100) // 100
        yield (
            f"b-{number}",
            name,
            name.lower(),
            period,
            period_key(period),
            budgeted,
            created,
            created,
        )
