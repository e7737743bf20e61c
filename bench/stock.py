"""Writes thousands of budgets, reservations and logs directly into the product's tables.

It is plain SQL by `executemany`, the same for both engines; the result passes `flask verify`. A
million reservations by way of the service would take an hour.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: The customer of everything here, and the number of its budgets.
CUSTOMER = "bench"
BUDGETS = 1000

#: More than a run can reserve of each budget, in cents.
BUDGETED_MINOR = 10**13
AMOUNT_MINOR = 1250

#: Prefix of the requests to release: `stock-7` has an open reservation on `budget-7`.
OPEN_TAG = "stock-"

_NOW = "2025-01-15T12:00:00Z"
_CHUNK = 10_000
_OWNER = ("user-1", "Jane Doe", "jane@example.com")
_PRINCIPAL = ("key:bench", "bench")

_BUDGET = """
    INSERT INTO "Budget" ("id", "customerId", "department", "departmentKey", "fiscalPeriod",
        "periodKey", "currency", "currencyExponent", "budgetedMinor", "createdAt", "updatedAt")
    VALUES (?, 'bench', ?, ?, 'Q1 2025', ?, 'USD', 2, ?, ?, ?)
"""
_UTILIZATION = """
    INSERT INTO "BudgetUtilization" ("budgetId", "customerId", "currencyExponent", "version")
    VALUES (?, 'bench', 2, 1)
"""
_RESERVATION = """
    INSERT INTO "Reservation" ("id", "customerId", "budgetId", "requestId", "requesterId",
        "requesterName", "requesterEmail", "currencyExponent", "amountMinor", "heldMinor",
        "committedMinor", "version", "status", "createdAt", "closedAt", "closedAfterCheck",
        "reserveReply", "closingCall", "closingReply")
    VALUES (?, 'bench', ?, ?, ?, ?, ?, 2, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_AUDIT = """
    INSERT INTO "AuditLog" ("customerId", "budgetId", "version", "action", "subject", "requestId",
        "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor",
        "committedDeltaMinor", "budgetedMinor", "reservedMinor", "committedMinor", "principal",
        "changedBy", "onBehalfOf", "reason", "createdAt")
    VALUES ('bench', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_CHECK = """
    INSERT INTO "BudgetCheckLog" ("checkId", "customerId", "requestId", "userId", "userName",
        "userEmail", "checkedBy", "department", "fiscalPeriod", "currency", "currencyExponent",
        "amountMinor", "vendor", "purpose", "budgetId", "available", "canAutoApprove", "code",
        "reason", "response", "durationMs", "timestamp")
    VALUES (?, 'bench', ?, ?, ?, ?, ?, ?, 'Q1 2025', 'USD', 2, ?, 'Slack', 'Team collaboration',
        ?, ?, ?, 'REQUIRES_APPROVAL', 'Budget available. Requires FP&A approval', ?, 1, ?)
"""
_MOVED = """
    UPDATE "BudgetUtilization" SET "reservedMinor" = "reservedMinor" + ?,
        "committedMinor" = "committedMinor" + ?, "version" = "version" + ?
    WHERE "budgetId" = ?
"""


def first_open(count: int) -> int:
    """The number of the first open reservation in a history of `count` reservations."""
    return count - count // 10


class Stock:
    """Writes into one database, by a DB-API connection; `mark` is its placeholder for a value."""

    def __init__(self, connection: Any, mark: str) -> None:
        self.connection = connection
        self.mark = mark

    def _write(self, sql: str, rows: list[tuple[Any, ...]]) -> None:
        self.connection.cursor().executemany(sql.replace("?", self.mark), rows)

    def add_budgets(self, period_key: str) -> None:
        """Add all the budgets, unused; `period_key` is the product's key for "Q1 2025"."""
        names = [f"budget-{number}" for number in range(BUDGETS)]
        self._write(
            _BUDGET,
            [
                (
                    name,
                    f"Department {number}",
                    f"department {number}",
                    period_key,
                    BUDGETED_MINOR,
                    _NOW,
                    _NOW,
                )
                for number, name in enumerate(names)
            ],
        )
        self._write(_UTILIZATION, [(name,) for name in names])
        created = "100000000000.00"
        self._write(
            _AUDIT,
            [
                (
                    name,
                    1,
                    "CREATE",
                    None,
                    None,
                    None,
                    None,
                    created,
                    BUDGETED_MINOR,
                    0,
                    0,
                    BUDGETED_MINOR,
                    0,
                    0,
                    *_PRINCIPAL,
                    None,
                    "Bench",
                    _NOW,
                )
                for name in names
            ],
        )
        self.connection.commit()

    def add_open(self, first: int, count: int) -> None:
        """Add open reservations from `stock-<first>` on, without checks."""
        self._add(first, count, first_open=first, with_checks=False)

    def add_history(self, count: int) -> None:
        """Add that many reservations with their checks. All but the last tenth are committed."""
        self._add(0, count, first_open=first_open(count), with_checks=True)

    def _add(self, first: int, count: int, *, first_open: int, with_checks: bool) -> None:
        states = {
            budget: list(figures)
            for budget, *figures in self.connection.cursor()
            .execute(
                'SELECT "budgetId", "version", "reservedMinor", "committedMinor" '
                'FROM "BudgetUtilization"'
            )
            .fetchall()
        }
        # Random ids, as in the product: they spread over the whole index.
        chance = random.Random(first)  # noqa: S311  # not a secret
        for start in range(first, first + count, _CHUNK):
            numbers = range(start, min(start + _CHUNK, first + count))
            rows = _Rows(states, chance)
            for number in numbers:
                rows.add(
                    number,
                    f"{OPEN_TAG}{number}",
                    committed=number < first_open,
                    with_check=with_checks,
                )
            self._write(_CHECK, rows.checks)
            self._write(_RESERVATION, rows.reservations)
            self._write(_AUDIT, rows.movements)
            self._write(_MOVED, list(rows.moved()))
            self.connection.commit()


class _Rows:
    """One chunk of rows for each table."""

    def __init__(self, states: dict[str, list[int]], chance: random.Random) -> None:
        # Of each budget: version, reserved and committed amount.
        self.states = states
        self.chance = chance
        self.checks: list[tuple[Any, ...]] = []
        self.reservations: list[tuple[Any, ...]] = []
        self.movements: list[tuple[Any, ...]] = []
        self._changes: dict[str, list[int]] = {}

    def add(self, number: int, request: str, *, committed: bool, with_check: bool) -> None:
        """Add all rows of one request."""
        budget = f"budget-{number % BUDGETS}"
        reservation = f"res_{self.chance.getrandbits(96):024x}"
        if with_check:
            check = f"chk_{self.chance.getrandbits(96):024x}"
            reply = _reply(
                available=True,
                canAutoApprove=False,
                code="REQUIRES_APPROVAL",
                checkId=check,
                budget={"id": budget, "available": 99999},
            )
            self.checks.append(
                (
                    check,
                    request,
                    *_OWNER,
                    _PRINCIPAL[0],
                    f"Department {number % BUDGETS}",
                    AMOUNT_MINOR,
                    budget,
                    True,
                    False,
                    reply,
                    _NOW,
                )
            )
        reserved = _reply(
            reservationId=reservation,
            budgetId=budget,
            requestId=request,
            amountReserved=12.5,
            newAvailable=99999.5,
        )
        closing: tuple[Any, ...] = (None, None, reserved, None, None)
        if committed:
            closing = (
                _NOW,
                number + 1,
                reserved,
                f"commit:{AMOUNT_MINOR}:partial",
                _reply(amountCommitted=12.5, newAvailable=99999.5, reservationId=reservation),
            )
        held, spent = (0, AMOUNT_MINOR) if committed else (AMOUNT_MINOR, 0)
        self._move(budget, "RESERVE", request, reservation, reserved=AMOUNT_MINOR, spent=0)
        if committed:
            self._move(
                budget, "COMMIT", request, reservation, reserved=-AMOUNT_MINOR, spent=AMOUNT_MINOR
            )
        self.reservations.append(
            (
                reservation,
                budget,
                request,
                *_OWNER,
                AMOUNT_MINOR,
                held,
                spent,
                self.states[budget][0],
                "closed" if committed else "open",
                _NOW,
                *closing,
            )
        )

    def _move(
        self, budget: str, action: str, request: str, reservation: str, *, reserved: int, spent: int
    ) -> None:
        state = self.states[budget]
        for place, value in enumerate((1, reserved, spent)):
            state[place] += value
        version, *balance = state
        before, after = ("0.00", "12.50") if reserved > 0 else ("12.50", "0.00")
        details = (
            action,
            _OWNER[0],
            request,
            reservation,
            before,
            after,
            0,
            reserved,
            spent,
            BUDGETED_MINOR,
            *balance,
            *_PRINCIPAL,
            "Jane Doe (jane@example.com)",
            "Slack",
            _NOW,
        )
        self.movements.append((budget, version, *details))
        change = self._changes.setdefault(budget, [0, 0, 0])
        for place, value in enumerate((reserved, spent, 1)):
            change[place] += value

    def moved(self) -> Iterator[tuple[Any, ...]]:
        """The changes of each budget's balances and version in this chunk."""
        return ((*change, budget) for budget, change in self._changes.items())


def _reply(**facts: object) -> str:
    return json.dumps({"success": True, **facts})


def fingerprint(schema: Path) -> str:
    """A hash of the schema and of this file: the key of a cached database."""
    return hashlib.sha256(schema.read_bytes() + Path(__file__).read_bytes()).hexdigest()[:12]
