"""schema.sql on both engines: constraints, the models, creation, upgrades, append-only logs."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import peewee
import psycopg
import pytest
import time_machine
from flask import Flask
from peewee import sqlite3  # type: ignore[attr-defined]  # missing from peewee's stubs
from support.machine import PROJECT
from support.world import ROOT

from budget_sync import database, ledger, manual_budgets
from budget_sync.accounts import customers
from budget_sync.database import audit_log, db, models
from budget_sync.database.schema import audit_actions
from budget_sync.domain import clock
from budget_sync.domain.permissions import Role
from budget_sync.domain.request_models import CheckRequest
from budget_sync.ledger import retention
from budget_sync.settings import Settings

pytest_plugins = ["support.postgres"]

SCHEMA = (PROJECT / "schema.sql").read_text(encoding="utf-8")

NOW = "2025-02-05T10:30:00Z"

Row = Mapping[str, object]


class Column(NamedTuple):
    """A column as the database describes it."""

    type: str
    nullable: bool
    primary: bool
    generated: bool = False


@dataclass
class Engine:
    """A database with schema.sql loaded, unchanged; used without the models."""

    name: str
    connection: Any
    placeholder: str
    integrity_error: type[Exception]

    def run(self, sql: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """Run a statement; return its rows."""
        cursor = self.connection.execute(sql, values)
        return cursor.fetchall() if cursor.description else []

    def insert(self, table: str, changes: Row = MappingProxyType({}), returning: str = "1") -> Any:
        """Insert the table's row of ROWS, with changes; return the `returning` expression."""
        row = {**ROWS[table], **changes}
        columns = ", ".join(f'"{column}"' for column in row)
        values = ", ".join([self.placeholder] * len(row))
        ((returned,),) = self.run(
            f'INSERT INTO "{table}" ({columns}) VALUES ({values}) RETURNING {returning}',
            tuple(row.values()),
        )
        return returned

    def rejects(self, table: str, changes: Row) -> bool:
        """Whether the database rejects the row; an accepted row is rolled back."""
        self.run("SAVEPOINT attempt")
        try:
            self.insert(table, changes)
        except self.integrity_error:
            return True
        finally:
            self.run("ROLLBACK TO SAVEPOINT attempt")
        return False

    def columns(self) -> dict[tuple[str, str], Column]:
        """All columns, by table and column name."""
        if self.name == "sqlite":
            # SQLite allows NULL in a primary key of text (a bug that it keeps for compatibility),
            # so a primary key is never counted as nullable.
            rows = self.run("""
                SELECT t.name, c.name, c.type, c."notnull" = 0 AND c.pk = 0, c.pk <> 0,
                    c.hidden <> 0
                FROM sqlite_master t, pragma_table_xinfo(t.name) c WHERE t.type = 'table'
            """)
        else:
            rows = self.run("""
                SELECT table_name, column_name, data_type, is_nullable = 'YES',
                (table_name, column_name) IN (
                    SELECT k.table_name, k.column_name
                    FROM information_schema.table_constraints t
                    JOIN information_schema.key_column_usage k USING (table_name, constraint_name)
                    WHERE t.constraint_type = 'PRIMARY KEY'
                ), is_generated = 'ALWAYS'
                FROM information_schema.columns WHERE table_schema = 'public'
            """)
        return {
            (table, column): Column(kind, *map(bool, facts)) for table, column, kind, *facts in rows
        }


# A valid row of each table; the rows are consistent with each other. "acme" has two budgets and a
# source, "globex" has one of each.
ROWS: dict[str, Row] = {
    "SchemaVersion": {"version": 99, "appliedAt": NOW},
    "Customer": {
        "id": "initech",
        "name": "Initech",
        "currency": "USD",
        "currencyExponent": 2,
        "createdAt": NOW,
    },
    "User": {
        "id": "jane",
        "customerId": "acme",
        "name": "Jane Doe",
        "email": "jane@acme.com",
        "emailKey": "jane@acme.com",
        "role": "business_user",
        "createdAt": NOW,
    },
    "Session": {"tokenHash": "0f", "userId": "sam", "createdAt": NOW, "expiresAt": NOW},
    "LoginAttempt": {"id": 1, "account": "0f", "network": "127.0.0.1", "attemptedAt": 0},
    "ApiKey": {
        "id": "ab12",
        "customerId": "acme",
        "name": "orchestrator",
        "secretHash": "0f",
        "mayOverspend": False,
        "createdAt": NOW,
    },
    "BudgetDataSourceConfig": {
        "id": "source-9",
        "customerId": "acme",
        "sourceType": "google_sheets",
        "spreadsheetKey": "1AbC",
        "isActive": True,
        "createdAt": NOW,
    },
    "Budget": {
        "id": "budget-9",
        "customerId": "acme",
        "department": "Legal",
        "departmentKey": "legal",
        "fiscalPeriod": "Q1 2025",
        "periodKey": "2025-Q1",
        "currency": "USD",
        "currencyExponent": 2,
        "budgetedMinor": 500000,
        "createdAt": NOW,
        "updatedAt": NOW,
    },
    "BudgetUtilization": {"budgetId": "spare", "customerId": "acme", "currencyExponent": 2},
    "Reservation": {
        "seq": 9,
        "id": "res-9",
        "customerId": "acme",
        "budgetId": "engineering",
        "requestId": "intake-9",
        "requesterId": "sam",
        "requesterName": "Sam Poe",
        "requesterEmail": "sam@acme.com",
        "currencyExponent": 2,
        "amountMinor": 500000,
        "heldMinor": 500000,
        "version": 2,
        "status": "open",
        "createdAt": NOW,
        "reserveReply": "{}",
    },
    "Spend": {
        "seq": 9,
        "customerId": "acme",
        "budgetId": "engineering",
        "spendId": "card-9",
        "currencyExponent": 2,
        "amountMinor": 500000,
        "version": 2,
        "spentOn": "2025-02-05",
        "reason": "Train tickets",
        "recordedBy": "Sam Poe (sam@acme.com)",
        "createdAt": NOW,
        "reply": "{}",
    },
    "StoredReply": {
        "customerId": "acme",
        "principal": "user:sam",
        "call": "commit",
        "idempotencyKey": "a key",
        "bodyHash": "0f",
        "reply": "{}",
        "createdAt": NOW,
    },
    "BudgetCheckLog": {
        "id": 9,
        "checkId": "chk-9",
        "customerId": "acme",
        "requestId": "intake-9",
        "userId": "sam",
        "userName": "Sam Poe",
        "userEmail": "sam@acme.com",
        "department": "Engineering",
        "fiscalPeriod": "Q1 2025",
        "currency": "USD",
        "currencyExponent": 2,
        "amountMinor": 500000,
        "budgetId": "engineering",
        "available": True,
        "canAutoApprove": False,
        "code": "REQUIRES_APPROVAL",
        "reason": "Budget available. Requires FP&A approval",
        "response": "{}",
        "durationMs": 3,
        "timestamp": NOW,
    },
    "AuditAction": {"action": "SOMETHING_NEW"},
    "AuditLog": {
        "id": 9,
        "customerId": "acme",
        "budgetId": "engineering",
        "version": 9,
        "action": "RESERVE",
        "principal": "user:sam",
        "changedBy": "Sam Poe (sam@acme.com)",
        "createdAt": NOW,
    },
    "SyncHistory": {
        "id": 9,
        "syncId": "sync_1707134400_acme",
        "customerId": "acme",
        "sourceId": "source-acme",
        "status": "success",
        "startedBy": "root (command line)",
        "durationMs": 3,
        "startTime": NOW,
        "endTime": NOW,
    },
    "SourceFile": {
        "sourceId": "source-acme",
        "customerId": "acme",
        "state": "current",
        "name": "budgets.csv",
        "content": b"Department\x00\xff",
        "uploadedBy": "Jane Doe (jane@acme.com)",
        "uploadedAt": NOW,
    },
    "Webhook": {
        "id": "whk_1",
        "customerId": "acme",
        "url": "https://example.com/events",
        "secret": "whsec_1",
        "cursor": "a0.0-s0.0",
        "createdAt": NOW,
    },
    "WebhookAttempt": {
        "id": 9,
        "webhookId": "whk_acme",
        "eventId": "evt_a1",
        "eventType": "budget.created",
        "attempt": 1,
        "durationMs": 3,
        "attemptedAt": NOW,
    },
    "DepartmentAlias": {
        "customerId": "acme",
        "nameKey": "eng",
        "name": "Eng",
        "department": "Engineering",
        "departmentKey": "engineering",
        "createdBy": "Jane",
        "createdAt": NOW,
    },
    "Alert": {
        "id": "alr_new",
        "customerId": "acme",
        "url": "mailto://user:pass@example.com",
        "redactedUrl": "mailtos://smtp.acme.com",
        "conditions": "threshold:80",
        "toOwners": True,
        "cursor": "a0.0-s0.0",
        "createdAt": NOW,
    },
    "AlertState": {
        "alertId": "alr_acme",
        "condition": "threshold:80",
        "subject": "budget-acme",
        "reportedAt": NOW,
    },
    "AlertMessage": {
        "id": 9,
        "alertId": "alr_acme",
        "title": "80 % used",
        "body": "80 % of the budget is used.",
        "createdAt": NOW,
        "dueAt": NOW,
    },
    "HoldAnswer": {
        "id": 9,
        "customerId": "acme",
        "sourceId": "source-acme",
        "kind": "amount",
        "answer": "apply",
        "budgetId": "engineering",
        "currency": "USD",
        "currencyExponent": 2,
        "newMinor": 500000,
        "answeredBy": "Jane Doe (jane@acme.com)",
        "answeredAt": NOW,
    },
}

# The columns of an answer to a held rename, and of an answer to a held creation.
RENAMED: Row = {
    "kind": "rename",
    "answer": "same",
    "newDepartmentKey": "engineering 2",
    "newPeriodKey": "2025-Q1",
}
CREATED: Row = {**RENAMED, "kind": "creation", "answer": "apply", "budgetId": None}

# The columns of a reservation after all of it was released.
CLOSED: Row = {
    "heldMinor": 0,
    "releasedMinor": 500000,
    "status": "closed",
    "closedAt": NOW,
    "closedAfterCheck": 0,
    "closingCall": "release:reject:500000",
    "closingReply": "{}",
}


def insert_related_rows(engine: Engine) -> None:
    """Insert the rows that those of ROWS reference or may conflict with."""
    for customer in ("acme", "globex"):
        engine.insert("Customer", {"id": customer})
        engine.insert(
            "BudgetDataSourceConfig", {"id": f"source-{customer}", "customerId": customer}
        )
    engine.insert("User", {"id": "sam", "email": "sam@acme.com", "emailKey": "sam@acme.com"})
    engine.insert(
        "Budget", {"id": "engineering", "departmentKey": "engineering", "externalId": "E-1"}
    )
    engine.insert("Budget", {"id": "spare", "departmentKey": "spare", "externalId": "E-2"})
    engine.insert("Budget", {"id": "retired", "deletedAt": NOW})
    engine.insert("Budget", {"id": "globex-1", "customerId": "globex"})
    engine.insert(
        "BudgetUtilization", {"budgetId": "engineering", "reservedMinor": 500000, "version": 2}
    )
    engine.insert("Reservation", {"seq": 1, "id": "res-1", "requestId": "intake-1"})
    engine.insert("Reservation", {"seq": 2, "id": "res-2", "requestId": "intake-2", **CLOSED})
    engine.insert("Spend", {"seq": 1, "spendId": "card-1"})
    engine.insert("AuditLog", {"id": 1, "version": 1, "action": "CREATE"})
    engine.insert("StoredReply", {"idempotencyKey": "used"})
    engine.insert("SyncHistory", {"id": 1, "syncId": "sync_1_acme"})
    engine.insert("Webhook", {"id": "whk_acme"})
    engine.insert("Alert", {"id": "alr_acme"})


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def loaded(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each engine, with schema.sql and the related rows loaded."""
    if request.param == "sqlite":
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            connection.executescript(SCHEMA)
            connection.execute("PRAGMA foreign_keys = ON")
            engine = Engine("sqlite", connection, "?", sqlite3.IntegrityError)
            insert_related_rows(engine)
            yield engine
    else:
        new_postgres = request.getfixturevalue("new_postgres")
        with new_postgres() as url, psycopg.connect(url, autocommit=True) as connection:
            connection.execute(SCHEMA.encode())
            engine = Engine("postgresql", connection, "%s", psycopg.IntegrityError)
            insert_related_rows(engine)
            yield engine


@pytest.fixture
def engine(loaded: Engine) -> Iterator[Engine]:
    """The same, in a transaction that is rolled back after the test."""
    loaded.run("BEGIN")
    yield loaded
    loaded.run("ROLLBACK")


def test_every_table_has_a_valid_row(engine: Engine) -> None:
    assert set(ROWS) == {table for table, _ in engine.columns()}
    assert [table for table in ROWS if engine.rejects(table, {})] == []


# Columns in whole units, generated by the database.

GENERATED = {
    ("Customer", "autoApproveLimit"): "autoApproveLimitMinor",
    ("Budget", "budgetedAmount"): "budgetedMinor",
    ("Budget", "autoApproveLimit"): "autoApproveLimitMinor",
    ("BudgetUtilization", "reservedAmount"): "reservedMinor",
    ("BudgetUtilization", "committedAmount"): "committedMinor",
    ("Reservation", "amount"): "amountMinor",
    ("Reservation", "heldAmount"): "heldMinor",
    ("Spend", "amount"): "amountMinor",
    ("BudgetCheckLog", "amount"): "amountMinor",
    ("HoldAnswer", "newAmount"): "newMinor",
}


def test_generated_columns_are_the_whole_unit_amounts(engine: Engine) -> None:
    assert {place for place, column in engine.columns().items() if column.generated} == set(
        GENERATED
    )


# exponent, minor units, whole units
AMOUNTS = [
    (0, 5000, "5000"),
    (1, 50000, "5000"),
    (2, 500000, "5000"),
    (3, 5000000, "5000"),
    (4, 50000000, "5000"),
    (2, 9950, "99.5"),
    (2, 1, "0.01"),
    (4, 1, "0.0001"),
    (0, 999999999999999, "999999999999999"),
    (2, 999999999999999, "9999999999999.99"),
]


@pytest.mark.parametrize("place", GENERATED, ids=".".join)
@pytest.mark.parametrize(("exponent", "minor", "whole"), AMOUNTS)
def test_generated_amounts_are_in_whole_units(
    engine: Engine, place: tuple[str, str], exponent: int, minor: int, whole: str
) -> None:
    table, generated = place
    row: dict[str, object] = {"currencyExponent": exponent, GENERATED[place]: minor}
    if table == "Reservation":
        row |= {"amountMinor": minor, "heldMinor": minor}
    if table in ("BudgetUtilization", "Reservation", "Spend", "HoldAnswer"):
        # These tables reference a budget with the same exponent.
        engine.insert("Budget", {"currencyExponent": exponent})
        row["budgetId"] = ROWS["Budget"]["id"]
    shown = engine.insert(table, row, returning=f'"{generated}"')
    assert Decimal(str(shown)) == Decimal(whole)
    if engine.name == "sqlite":
        # PostgreSQL prints 5000.0000.
        assert str(shown) == whole


def test_generated_amount_cannot_be_written(engine: Engine) -> None:
    with pytest.raises((sqlite3.OperationalError, psycopg.errors.GeneratedAlways)):
        engine.run('UPDATE "BudgetUtilization" SET "reservedAmount" = 0')


# Rows that the database itself rejects.


class Invalid(NamedTuple):
    """An invalid row, and a similar row that is valid."""

    table: str
    row: Row
    valid: Row = MappingProxyType({})


def reservation(**changes: object) -> Row:
    """A closed reservation, with changes."""
    return {**CLOSED, **changes}


INVALID = {
    "negative reserved": Invalid("BudgetUtilization", {"reservedMinor": -1}, {"reservedMinor": 0}),
    "negative committed": Invalid(
        "BudgetUtilization", {"committedMinor": -1}, {"committedMinor": 0}
    ),
    "negative version": Invalid("BudgetUtilization", {"version": -1}),
    "reserved amount of 16 digits": Invalid(
        "BudgetUtilization", {"reservedMinor": 10**15}, {"reservedMinor": 10**15 - 1}
    ),
    "committed amount of 16 digits": Invalid(
        "BudgetUtilization", {"committedMinor": 10**15}, {"committedMinor": 10**15 - 1}
    ),
    "reserved and committed amount of 16 digits together": Invalid(
        "BudgetUtilization",
        {"reservedMinor": 5 * 10**14, "committedMinor": 5 * 10**14},
        {"reservedMinor": 5 * 10**14, "committedMinor": 5 * 10**14 - 1},
    ),
    "two utilizations of a budget": Invalid("BudgetUtilization", {"budgetId": "engineering"}),
    "utilization with another exponent": Invalid("BudgetUtilization", {"currencyExponent": 0}),
    "utilization of another customer": Invalid("BudgetUtilization", {"customerId": "globex"}),
    "utilization of no budget": Invalid("BudgetUtilization", {"budgetId": "nowhere"}),
    "unknown role": Invalid("User", {"role": "root"}, {"role": "fpa_user"}),
    "role in another letter case": Invalid("User", {"role": "Admin"}, {"role": "admin"}),
    "anonymous role": Invalid("User", {"role": "anonymous"}, {"role": "api_system"}),
    "admin of all customers": Invalid(
        "User", {"role": "admin", "customerId": None}, {"role": "super_admin", "customerId": None}
    ),
    "business user of all customers": Invalid("User", {"customerId": None}),
    "user of an unknown customer": Invalid(
        "User", {"customerId": "nowhere"}, {"customerId": "globex"}
    ),
    "two users with one address": Invalid("User", {"emailKey": "sam@acme.com"}),
    "unknown reservation status": Invalid(
        "Reservation", reservation(status="pending"), reservation()
    ),
    "status in another letter case": Invalid("Reservation", {"status": "OPEN"}, {"status": "open"}),
    "two open reservations of a request": Invalid(
        "Reservation", {"requestId": "intake-1"}, {"requestId": "intake-1", "budgetId": "spare"}
    ),
    "second open reservation": Invalid(
        "Reservation", {"requestId": "intake-1"}, reservation(requestId="intake-1")
    ),
    "request reserved again while open": Invalid(
        "Reservation", {"requestId": "intake-1"}, {"requestId": "intake-2"}
    ),
    "budget of another customer": Invalid(
        "Reservation", {"budgetId": "globex-1"}, {"budgetId": "globex-1", "customerId": "globex"}
    ),
    "reservation of another customer": Invalid("Reservation", {"customerId": "globex"}),
    "reservation with another exponent": Invalid("Reservation", {"currencyExponent": 0}),
    "reservation on no budget": Invalid("Reservation", {"budgetId": "nowhere"}),
    "reservation id twice": Invalid("Reservation", {"id": "res-1"}),
    "reservation of zero": Invalid(
        "Reservation",
        reservation(amountMinor=0, releasedMinor=0),
        reservation(amountMinor=1, releasedMinor=1),
    ),
    "negative reservation": Invalid("Reservation", reservation(amountMinor=-1, releasedMinor=-1)),
    "negative held amount": Invalid("Reservation", reservation(heldMinor=-1, releasedMinor=500001)),
    "negative released amount": Invalid(
        "Reservation",
        {"heldMinor": 500001, "releasedMinor": -1},
        {"heldMinor": 499999, "releasedMinor": 1},
    ),
    "negative committed amount": Invalid(
        "Reservation",
        {"heldMinor": 500001, "committedMinor": -1},
        {"heldMinor": 499999, "committedMinor": 1},
    ),
    "negative exceeded amount": Invalid(
        "Reservation",
        {"heldMinor": 499999, "exceededMinor": -1},
        reservation(exceededMinor=1, releasedMinor=500001),
    ),
    "negative reversed amount": Invalid(
        "Reservation",
        {"reversedMinor": -1},
        {"reversedMinor": 1, "committedMinor": 1, "exceededMinor": 1},
    ),
    "more reversed than committed": Invalid(
        "Reservation",
        {"reversedMinor": 2, "committedMinor": 1, "exceededMinor": 1},
        {"reversedMinor": 1, "committedMinor": 1, "exceededMinor": 1},
    ),
    "adjusted amount missing from held": Invalid(
        "Reservation", {"adjustedMinor": 1}, {"adjustedMinor": 1, "heldMinor": 500001}
    ),
    "lowered amount missing from held": Invalid(
        "Reservation", {"adjustedMinor": -1}, {"adjustedMinor": -1, "heldMinor": 499999}
    ),
    "reservation without a version": Invalid("Reservation", {"version": None}),
    "reservation of version zero": Invalid("Reservation", {"version": 0}, {"version": 1}),
    "spend of zero": Invalid("Spend", {"amountMinor": 0}, {"amountMinor": 1}),
    "spend of 16 digits": Invalid("Spend", {"amountMinor": 10**15}, {"amountMinor": 10**15 - 1}),
    "spend reversed by a negative amount": Invalid(
        "Spend", {"reversedMinor": -1}, {"reversedMinor": 1}
    ),
    "spend reversed by more than itself": Invalid(
        "Spend", {"reversedMinor": 500001}, {"reversedMinor": 500000}
    ),
    "spend without an id": Invalid("Spend", {"spendId": ""}),
    "spend with an id of 201 characters": Invalid(
        "Spend", {"spendId": "s" * 201}, {"spendId": "s" * 200}
    ),
    "spend of version zero": Invalid("Spend", {"version": 0}, {"version": 1}),
    "spend id twice": Invalid(
        "Spend",
        {"spendId": "card-1"},
        {"spendId": "card-1", "customerId": "globex", "budgetId": "globex-1"},
    ),
    "spend id twice, on another budget": Invalid(
        "Spend", {"spendId": "card-1", "budgetId": "spare"}, {"budgetId": "spare"}
    ),
    "spend of another customer": Invalid("Spend", {"customerId": "globex"}),
    "spend with another exponent": Invalid("Spend", {"currencyExponent": 0}),
    "spend without a day": Invalid("Spend", {"spentOn": None}),
    "negative invoice tolerance": Invalid(
        "Customer", {"invoiceToleranceBasisPoints": -1}, {"invoiceToleranceBasisPoints": 0}
    ),
    "invoice tolerance above 100 %": Invalid(
        "Customer", {"invoiceToleranceBasisPoints": 10001}, {"invoiceToleranceBasisPoints": 10000}
    ),
    "negative amount of the invoice tolerance": Invalid(
        "Customer", {"invoiceToleranceMinor": -1}, {"invoiceToleranceMinor": 0}
    ),
    "invoice tolerance of 16 digits": Invalid(
        "Customer", {"invoiceToleranceMinor": 10**15}, {"invoiceToleranceMinor": 10**15 - 1}
    ),
    "holds of zero days": Invalid("Customer", {"holdDays": 0}, {"holdDays": 1}),
    "holds of more than ten years": Invalid("Customer", {"holdDays": 3651}, {"holdDays": 3650}),
    "held amount too large": Invalid("Reservation", {"heldMinor": 500001}, {"heldMinor": 500000}),
    "held amount too small": Invalid(
        "Reservation", {"heldMinor": 499999}, {"heldMinor": 499999, "releasedMinor": 1}
    ),
    "committed amount missing from held": Invalid(
        "Reservation", {"committedMinor": 1}, {"committedMinor": 1, "exceededMinor": 1}
    ),
    "open reservation that holds nothing": Invalid(
        "Reservation", {"heldMinor": 0, "releasedMinor": 500000}, reservation()
    ),
    "closed reservation that holds something": Invalid(
        "Reservation", reservation(heldMinor=1, releasedMinor=499999)
    ),
    "closed without closing reply": Invalid(
        "Reservation", reservation(closingReply=None), reservation()
    ),
    "closed without closing call": Invalid("Reservation", reservation(closingCall=None)),
    "closed without time": Invalid("Reservation", reservation(closedAt=None)),
    "closed without the preceding check": Invalid(
        "Reservation", reservation(closedAfterCheck=None)
    ),
    "open with closing columns": Invalid(
        "Reservation", reservation(status="open", heldMinor=500000, releasedMinor=0)
    ),
    "two live budgets of a department and period": Invalid(
        "Budget", {"departmentKey": "spare"}, {"departmentKey": "spare", "deletedAt": NOW}
    ),
    "two live budgets in different spellings": Invalid(
        "Budget",
        {"department": "SPARE", "departmentKey": "spare"},
        {"departmentKey": "spare", "periodKey": "2025-Q2"},
    ),
    "external id twice": Invalid(
        "Budget",
        {"externalId": "E-1"},
        {"externalId": "E-1", "customerId": "globex", "periodKey": "2025-Q2"},
    ),
    "external id of a deleted budget": Invalid(
        "Budget", {"externalId": "E-1", "deletedAt": NOW}, {"externalId": None, "deletedAt": NOW}
    ),
    "budget id twice": Invalid("Budget", {"id": "globex-1"}),
    "budget without an id": Invalid("Budget", {"id": ""}),
    "source of another customer": Invalid(
        "Budget", {"sourceId": "source-globex"}, {"sourceId": "source-acme"}
    ),
    "budget of an unknown customer": Invalid("Budget", {"customerId": "nowhere"}),
    "negative budget": Invalid("Budget", {"budgetedMinor": -1}, {"budgetedMinor": 0}),
    "negative auto-approve limit": Invalid(
        "Budget", {"autoApproveLimitMinor": -1}, {"autoApproveLimitMinor": 0}
    ),
    "negative limit of a customer": Invalid(
        "Customer", {"autoApproveLimitMinor": -1}, {"autoApproveLimitMinor": 0}
    ),
    "budget of 16 digits": Invalid(
        "Budget", {"budgetedMinor": 10**15}, {"budgetedMinor": 10**15 - 1}
    ),
    "limit of 16 digits": Invalid(
        "Budget", {"autoApproveLimitMinor": 10**15}, {"autoApproveLimitMinor": 10**15 - 1}
    ),
    "limit of a customer of 16 digits": Invalid(
        "Customer", {"autoApproveLimitMinor": 10**15}, {"autoApproveLimitMinor": 10**15 - 1}
    ),
    "reservation of 16 digits": Invalid(
        "Reservation",
        {"amountMinor": 10**15, "heldMinor": 10**15},
        {"amountMinor": 10**15 - 1, "heldMinor": 10**15 - 1},
    ),
    "check of 16 digits": Invalid(
        "BudgetCheckLog", {"amountMinor": 10**15}, {"amountMinor": 10**15 - 1}
    ),
    "check of zero": Invalid("BudgetCheckLog", {"amountMinor": 0}, {"amountMinor": 1}),
    "check of an unknown customer": Invalid("BudgetCheckLog", {"customerId": "nowhere"}),
    "check of an unknown budget": Invalid(
        "BudgetCheckLog", {"budgetId": "nowhere"}, {"budgetId": None}
    ),
    "currency with five decimals": Invalid(
        "Customer", {"currencyExponent": 5}, {"currencyExponent": 4}
    ),
    "currency of four letters": Invalid("Customer", {"currency": "USDT"}, {"currency": "EUR"}),
    "month 13": Invalid("Customer", {"fiscalYearStartMonth": 13}, {"fiscalYearStartMonth": 12}),
    "customer id twice": Invalid("Customer", {"id": "acme"}),
    "key of an unknown customer": Invalid(
        "ApiKey", {"customerId": "nowhere"}, {"customerId": None}
    ),
    "session of an unknown user": Invalid("Session", {"userId": "nowhere"}),
    "idempotency key twice": Invalid(
        "StoredReply", {"idempotencyKey": "used"}, {"idempotencyKey": "used", "call": "release"}
    ),
    "idempotency key of 256 characters": Invalid(
        "StoredReply", {"idempotencyKey": "k" * 256}, {"idempotencyKey": "k" * 255}
    ),
    "unknown audit action": Invalid("AuditLog", {"action": "DELETE"}, {"action": "SOFT_DELETE"}),
    "audit action twice": Invalid("AuditAction", {"action": "RESERVE"}),
    "audit action without a name": Invalid("AuditAction", {"action": ""}),
    "audit version twice": Invalid("AuditLog", {"version": 1}, {"version": 1, "budgetId": "spare"}),
    "audit version zero": Invalid("AuditLog", {"version": 0}),
    "audit row of a budget without version": Invalid(
        "AuditLog", {"version": None}, {"version": None, "budgetId": None}
    ),
    "audit version without budget": Invalid("AuditLog", {"budgetId": None}),
    "movement without budget": Invalid(
        "AuditLog",
        {"version": None, "budgetId": None, "reservedDeltaMinor": 1},
        {"reservedDeltaMinor": 1},
    ),
    "audit row of an unknown budget": Invalid("AuditLog", {"budgetId": "nowhere"}),
    "unknown type of source": Invalid(
        "BudgetDataSourceConfig", {"sourceType": "excel"}, {"sourceType": "google_sheets"}
    ),
    "sheet without key": Invalid("BudgetDataSourceConfig", {"spreadsheetKey": None}),
    "sheet with a path": Invalid(
        "BudgetDataSourceConfig",
        {"csvPath": "budgets.csv"},
        {"sourceType": "csv", "spreadsheetKey": None, "csvPath": "budgets.csv"},
    ),
    "Excel file with a spreadsheet key": Invalid(
        "BudgetDataSourceConfig",
        {"sourceType": "xlsx"},
        {"sourceType": "xlsx", "spreadsheetKey": None},
    ),
    "reading that no person confirmed": Invalid(
        "BudgetDataSourceConfig",
        {"reading": "{}", "readingConfirmedAt": NOW},
        {"reading": "{}", "readingConfirmedAt": NOW, "readingConfirmedBy": "upgrade"},
    ),
    "reading without the time of its confirmation": Invalid(
        "BudgetDataSourceConfig",
        {"reading": "{}", "readingConfirmedBy": "upgrade"},
    ),
    "confirmation without a reading": Invalid(
        "BudgetDataSourceConfig",
        {"readingConfirmedAt": NOW, "readingConfirmedBy": "upgrade"},
    ),
    "facts without a reading": Invalid("BudgetDataSourceConfig", {"readingFacts": "{}"}),
    "fiscal year named by its middle": Invalid(
        "Customer", {"fiscalYearNamedBy": "middle"}, {"fiscalYearNamedBy": "start"}
    ),
    "unknown state of a file": Invalid("SourceFile", {"state": "old"}, {"state": "pending"}),
    "file of the source of another customer": Invalid("SourceFile", {"customerId": "globex"}),
    "file without a name": Invalid("SourceFile", {"name": ""}),
    "unknown kind of hold": Invalid("HoldAnswer", {"kind": "total"}),
    "amounts answered with a word for renames": Invalid("HoldAnswer", {"answer": "same"}),
    "rename answered with a word for amounts": Invalid(
        "HoldAnswer", {**RENAMED, "answer": "apply"}, {**RENAMED, "answer": "different"}
    ),
    "rename without the new department": Invalid(
        "HoldAnswer", {**RENAMED, "newDepartmentKey": None}, RENAMED
    ),
    "rename without the new period": Invalid("HoldAnswer", {**RENAMED, "newPeriodKey": None}),
    "amount with a new department": Invalid(
        "HoldAnswer", {"newDepartmentKey": "engineering 2", "newPeriodKey": "2025-Q1"}
    ),
    "amount without the new amount": Invalid("HoldAnswer", {"newMinor": None}),
    "new amount of 16 digits": Invalid(
        "HoldAnswer", {"newMinor": 10**15}, {"newMinor": 10**15 - 1}
    ),
    "negative new amount": Invalid("HoldAnswer", {"newMinor": -1}, {"newMinor": 0}),
    "deletion with a new amount": Invalid(
        "HoldAnswer",
        {"kind": "deletion", "answer": "approve"},
        {"kind": "deletion", "answer": "approve", "newMinor": None},
    ),
    "amount of no budget": Invalid("HoldAnswer", {"budgetId": None}),
    "creation of a budget that exists": Invalid(
        "HoldAnswer", {**CREATED, "budgetId": "spare"}, CREATED
    ),
    "answer for the budget of another customer": Invalid("HoldAnswer", {"budgetId": "globex-1"}),
    "answer with the exponent of another currency": Invalid("HoldAnswer", {"currencyExponent": 0}),
    "answer for the source of another customer": Invalid(
        "HoldAnswer", {"sourceId": "source-globex"}
    ),
    "unknown outcome of an answer": Invalid(
        "HoldAnswer",
        {"outcome": "ignored", "closedBySyncId": "sync_1_acme", "closedAt": NOW},
        {"outcome": "expired", "closedBySyncId": "sync_1_acme", "closedAt": NOW},
    ),
    "closed answer without its sync run": Invalid(
        "HoldAnswer", {"outcome": "applied", "closedAt": NOW}
    ),
    "closed answer without a time": Invalid(
        "HoldAnswer", {"outcome": "applied", "closedBySyncId": "sync_1_acme"}
    ),
    "unknown sync status": Invalid("SyncHistory", {"status": "done"}, {"status": "partial"}),
    "sync id twice": Invalid("SyncHistory", {"syncId": "sync_1_acme"}),
    "sync run of the source of another customer": Invalid(
        "SyncHistory",
        {"customerId": "globex"},
        {"customerId": "globex", "sourceId": "source-globex"},
    ),
}


@pytest.mark.parametrize("case", INVALID.values(), ids=INVALID)
def test_database_rejects(engine: Engine, case: Invalid) -> None:
    assert not engine.rejects(case.table, case.valid)
    assert engine.rejects(case.table, case.row)


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.ANONYMOUS])
def test_every_role_can_be_stored(engine: Engine, role: Role) -> None:
    assert not engine.rejects("User", {"role": role})


@pytest.mark.parametrize("column", ["reservedMinor", "committedMinor"])
def test_counters_cannot_be_negative(engine: Engine, column: str) -> None:
    with pytest.raises(engine.integrity_error):
        engine.run(f'UPDATE "BudgetUtilization" SET "{column}" = "{column}" - 500001')


def test_budget_may_be_cut_below_reserved_and_committed(engine: Engine) -> None:
    engine.run("""UPDATE "Budget" SET "budgetedMinor" = 0 WHERE "id" = 'engineering'""")
    engine.run('UPDATE "BudgetUtilization" SET "committedMinor" = "committedMinor" + 500000')
    sums = 'b."budgetedMinor", u."reservedMinor", u."committedMinor"'
    assert engine.run(
        f'SELECT {sums} FROM "Budget" b JOIN "BudgetUtilization" u ON u."budgetId" = b."id"'
    ) == [(0, 500000, 500000)]


def test_budget_with_movements_cannot_be_deleted(engine: Engine) -> None:
    with pytest.raises(engine.integrity_error):
        engine.run("""DELETE FROM "Budget" WHERE "id" = 'engineering'""")


# The schema against the models and the code.

# The type names of Peewee's fields, with those of SQLite and PostgreSQL.
TYPES = {
    "TEXT": ("TEXT", "text"),
    "INT": ("INTEGER", "integer"),
    "BIGINT": ("BIGINT", "bigint"),
    "BOOL": ("BOOLEAN", "boolean"),
    "BYTEA": ("BYTEA", "bytea"),
    "DATE": ("DATE", "date"),
    "TIMESTAMPTZ": ("TIMESTAMPTZ", "timestamp with time zone"),
}

# The schema code writes this table itself, without a model.
WITHOUT_MODEL = {"SchemaVersion"}


def fields(model: type[models.Table]) -> list[Any]:
    """A model's fields, in order."""
    return list(model._meta.sorted_fields)  # noqa: SLF001  # Peewee's documented place for them


def keys(model: type[models.Table]) -> set[str]:
    """The columns of a model's primary key."""
    primary_keys = model._meta.get_primary_keys()  # type: ignore[no-untyped-call]  # noqa: SLF001
    return {field.name for field in primary_keys}


def test_models_have_exactly_the_columns_not_generated(engine: Engine) -> None:
    in_models = {
        (model._meta.table_name, field.name): Column(  # noqa: SLF001
            TYPES[field.field_type][engine.name == "postgresql"],
            field.null,
            field.name in keys(model),
        )
        for model in models.Table.__subclasses__()
        for field in fields(model)
    }
    assert in_models == {
        place: column
        for place, column in engine.columns().items()
        if not column.generated and place[0] not in WITHOUT_MODEL
    }


def test_model_fields_have_the_names_of_their_columns() -> None:
    assert [
        field
        for model in models.Table.__subclasses__()
        for field in fields(model)
        if field.name != field.column_name
    ] == []


def listed(table: str, column: str) -> set[str]:
    """The values in a column's CHECK in schema.sql."""
    match = re.search(
        rf'^CREATE TABLE "{table}" \((?:(?!^\);).)*?CHECK \("{column}" IN \(([^)]*)\)\)',
        SCHEMA,
        re.MULTILINE | re.DOTALL,
    )
    assert match, f"{table}.{column} has no list of values"
    return set(re.findall(r"'(\w+)'", match[1]))


def test_schema_lists_the_roles_of_users() -> None:
    assert listed("User", "role") == set(Role) - {Role.ANONYMOUS}


def strings_assigned(name: str, function: ast.FunctionDef) -> set[str]:
    """The strings that a function assigns to a name.

    Includes tuple assignments, such as `action, reason = "RESERVE", why`.
    """
    found = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            targets = (
                node.targets[0].elts
                if isinstance(node.targets[0], ast.Tuple)
                else [node.targets[0]]
            )
            values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
            for target, value in zip(targets, values, strict=False):
                if (
                    isinstance(target, ast.Name)
                    and target.id == name
                    and isinstance(value, ast.Constant)
                ):
                    found.add(str(value.value))
    return found


def actions_written() -> set[str]:
    """The audit actions in the code: the second argument of each call that records one."""
    found = set()
    for path in (PROJECT / "budget_sync").rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(function, ast.FunctionDef):
                continue
            for call in ast.walk(function):
                if not (
                    isinstance(call, ast.Call)
                    and isinstance(call.func, ast.Attribute)
                    and call.func.attr in ("record", "record_movement")
                    and len(call.args) > 1
                ):
                    continue
                action = call.args[1]
                if isinstance(action, ast.Constant):
                    found.add(str(action.value))
                elif isinstance(action, ast.Name):
                    found |= strings_assigned(action.id, function)
    return found


# Written only by the sheet sync and the commands for sources.
OF_SOURCES = {"SOFT_DELETE", "REVIVE", "ADD_SOURCE", "REMOVE_SOURCE"}


def test_schema_lists_the_audit_actions_of_the_code() -> None:
    # An action that the code no longer writes stays: old rows of the audit log have it.
    assert actions_written() | OF_SOURCES <= set(audit_actions())


def test_audit_action_in_use_cannot_be_deleted(engine: Engine) -> None:
    engine.run("""DELETE FROM "AuditAction" WHERE "action" = 'REVOKE_KEY'""")
    with pytest.raises(engine.integrity_error):
        engine.run("""DELETE FROM "AuditAction" WHERE "action" = 'CREATE'""")


def test_database_without_an_audit_action_is_incomplete(app: Flask) -> None:
    database.require_complete_schema()
    db.execute_sql("""DELETE FROM "AuditAction" WHERE "action" = 'REVOKE_KEY'""")
    with pytest.raises(
        database.DatabaseUnusableError, match='audit action "REVOKE_KEY" is missing'
    ):
        database.require_complete_schema()


# Creating the tables.


def described() -> set[tuple[str, ...]]:
    """Every table, index and trigger of the connected database, and every row."""
    database.open_connection()
    objects = set(db.execute_sql("SELECT type, name, sql FROM sqlite_master").fetchall())
    tables = [name for kind, name, _ in objects if kind == "table"]
    return objects | {
        (table, *map(repr, row))
        for table in tables
        for row in db.execute_sql(f'SELECT * FROM "{table}"').fetchall()
    }


def test_init_db_creates_schema_sql_and_the_triggers(app: Flask) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        expected = set(connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall())
    created = set(db.execute_sql("SELECT type, name, sql FROM sqlite_master").fetchall())
    single_spaced = [
        {
            (kind, name, " ".join((sql or "").split()))
            for kind, name, sql in rows
            if kind != "trigger"
        }
        for rows in (expected, created)
    ]
    without_comments = [
        {(kind, name, re.sub(r"--.*", "", sql)) for kind, name, sql in rows}
        for rows in single_spaced
    ]
    assert without_comments[0] == without_comments[1]
    rejected = {
        f"{table}_no_{verb}"
        for table in ("AuditLog", "BudgetCheckLog", "HoldAnswer")
        for verb in ("update", "delete", "replace")
    }
    assert {name for kind, name, _ in created if kind == "trigger"} == {
        *rejected,
        *("HoldAnswer_closed_once", "Customer_test_for_good", "Customer_no_replace"),
    }


def test_second_init_db_changes_nothing(app: Flask) -> None:
    customers.add_customer(ROOT, "acme", "Acme")
    before = described()
    with app.app_context():
        result = app.test_cli_runner().invoke(args=["init-db"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("Already there: ")
    assert described() == before


def test_failed_init_db_creates_nothing(chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen.instance_folder.mkdir(parents=True)
    database.connect(chosen.database_path, create=True)
    monkeypatch.setattr(
        "budget_sync.database.schema.engine_statements", lambda _: ["CREATE TRIGGER broken"]
    )
    with pytest.raises(peewee.OperationalError):
        database.init_schema()
    assert described() == set()
    monkeypatch.undo()
    assert database.init_schema()
    database.close_connection()


def test_connection_pragmas_are_safe(app: Flask) -> None:
    database.open_connection()
    pragmas = {
        name: db.execute_sql(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys", "recursive_triggers")
    }
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "recursive_triggers": 1,
    }


# Upgrading the schema.

NEXT = database.SCHEMA_VERSION + 1

# A step that succeeds; a later statement fails.
GOOD_STEP = [
    'CREATE TABLE "Extra" ("id" INTEGER PRIMARY KEY)',
    """INSERT INTO "Extra" VALUES (1)""",
]


@pytest.mark.parametrize(
    "broken",
    [
        "CREATE TABLE broken",
        'INSERT INTO "Extra" VALUES (1)',
        'DROP TABLE "NoSuchTable"',
        """UPDATE "AuditLog" SET "reason" = 'rewritten'""",
    ],
)
@pytest.mark.parametrize("same_step", [True, False])
def test_failed_upgrade_step_changes_nothing(app: Flask, broken: str, same_step: bool) -> None:
    customers.add_customer(ROOT, "acme", "Acme")
    before = described()
    steps = (
        {NEXT: [*GOOD_STEP, broken]}
        if same_step
        else {NEXT: GOOD_STEP, NEXT + 1: ['DROP TABLE "Session"', broken]}
    )
    with pytest.raises(peewee.PeeweeException):
        database.upgrade_schema(steps)
    assert described() == before
    database.require_current_schema()
    customers.add_customer(ROOT, "globex", "Globex")
    assert [customer.id for customer in customers.list_customers(ROOT)] == ["acme", "globex"]


def test_upgrade_runs_every_step_once_and_in_order(app: Flask) -> None:
    steps = {NEXT + 1: ['ALTER TABLE "Extra" ADD COLUMN "name" TEXT'], NEXT: GOOD_STEP}
    assert database.upgrade_schema(steps) == [NEXT, NEXT + 1]
    assert database.schema_version() == NEXT + 1
    assert [column.name for column in db.get_columns("Extra")] == ["id", "name"]
    assert database.upgrade_schema(steps) == []


def test_database_of_a_newer_version_is_not_changed(app: Flask) -> None:
    db.execute_sql('INSERT INTO "SchemaVersion" VALUES (99, ?)', (NOW,))
    before = described()
    for command in ("upgrade-db", "verify"):
        with app.app_context():
            result = app.test_cli_runner().invoke(args=[command])
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == (
            "Error: The database has schema version 99, newer than this program's "
            f"{database.SCHEMA_VERSION}. Install the newer program.\n"
        )
    assert described() == before


def test_database_with_a_version_that_is_not_a_number(app: Flask) -> None:
    for statement in (
        'DROP TABLE "SchemaVersion"',
        'CREATE TABLE "SchemaVersion" ("version" TEXT)',
        """INSERT INTO "SchemaVersion" VALUES ('3x')""",
    ):
        db.execute_sql(statement)
    assert app.test_client().get("/readyz").status_code == 503
    for command in ("upgrade-db", "verify"):
        with app.app_context():
            result = app.test_cli_runner().invoke(args=[command])
        assert (result.exit_code, result.stdout) == (1, "")
        assert (
            result.stderr
            == f"Error: The database {database.label()} is damaged: its schema version is '3x'.\n"
        )


def test_database_without_tables_is_not_upgraded(app: Flask, tmp_path: Path) -> None:
    database.connect(tmp_path / "empty.db", create=True)
    with pytest.raises(database.DatabaseUnusableError, match="Create them with `flask init-db`"):
        database.upgrade_schema()
    assert described() == set()


# The triggers of the append-only logs.

AUDIT_COLUMNS = ", ".join(f'"{field.name}"' for field in fields(models.AuditLog))
CHECK_COLUMNS = ", ".join(f'"{field.name}"' for field in fields(models.BudgetCheckLog))

REWRITES = {
    "update": """UPDATE "AuditLog" SET "reason" = 'another'""",
    "update without a change": 'UPDATE "AuditLog" SET "id" = "id"',
    "update or replace": 'UPDATE OR REPLACE "AuditLog" SET "id" = 1 WHERE "id" = 2',
    "update or ignore": 'UPDATE OR IGNORE "AuditLog" SET "reservedDeltaMinor" = 0',
    "delete": 'DELETE FROM "AuditLog"',
    "delete one": 'DELETE FROM "AuditLog" WHERE "id" = (SELECT MAX("id") FROM "AuditLog")',
    "replace": f'REPLACE INTO "AuditLog" ({AUDIT_COLUMNS}) SELECT {AUDIT_COLUMNS} FROM "AuditLog"',
    "insert or replace a version": f"""INSERT OR REPLACE INTO "AuditLog" ({AUDIT_COLUMNS})
        SELECT {AUDIT_COLUMNS.replace('"id"', '"id" + 1000').replace('"action"', "'UPDATE'")}
        FROM "AuditLog" WHERE "version" = 1""",
    "upsert": f"""INSERT INTO "AuditLog" ({AUDIT_COLUMNS})
        SELECT {AUDIT_COLUMNS} FROM "AuditLog" WHERE TRUE
        ON CONFLICT ("id") DO UPDATE SET "reason" = 'another'""",
    "update checks": 'UPDATE "BudgetCheckLog" SET "available" = 1',
    "update or replace checks": 'UPDATE OR REPLACE "BudgetCheckLog" SET "id" = 1 WHERE "id" = 2',
    "delete checks": 'DELETE FROM "BudgetCheckLog"',
    "delete one check": 'DELETE FROM "BudgetCheckLog" WHERE "id" = 1',
    "replace checks": (
        f'INSERT OR REPLACE INTO "BudgetCheckLog" ({CHECK_COLUMNS}) '
        f'SELECT {CHECK_COLUMNS} FROM "BudgetCheckLog"'
    ),
    "upsert checks": f"""INSERT INTO "BudgetCheckLog" ({CHECK_COLUMNS})
        SELECT {CHECK_COLUMNS} FROM "BudgetCheckLog" WHERE TRUE
        ON CONFLICT ("id") DO UPDATE SET "reason" = 'another'""",
}

LONG_AGO = datetime(2024, 1, 1, 12, tzinfo=UTC)


def log_check(customer_id: str, request_id: str) -> None:
    """Log a check of that customer."""
    ledger.check(
        ROOT,
        CheckRequest(
            request_id=request_id,
            user_id="sam",
            user_name="Sam Poe",
            user_email="sam@acme.com",
            customer_id=customer_id,
            department="Engineering",
            fiscal_period="Q1 2025",
            amount=Decimal(5000),
        ),
    )


@pytest.fixture
def logs(app: Flask) -> Flask:
    """Two customers, each with a budget, two old checks and one check of today."""
    for customer in ("acme", "globex"):
        customers.add_customer(ROOT, customer, customer.title())
        manual_budgets.set_budget(
            ROOT, customer, "Engineering", "Q1 2025", Decimal(100_000), budget_id=f"{customer}-1"
        )
        with time_machine.travel(LONG_AGO, tick=False):
            log_check(customer, "intake-1")
            log_check(customer, "intake-2")
        log_check(customer, "intake-3")
    return app


def by_hand(sql: str) -> None:
    """Run a statement as the `sqlite3` shell would, without setting pragmas."""
    with closing(sqlite3.connect(db.file_path)) as connection, connection:
        connection.execute(sql)


def by_service(sql: str) -> None:
    """Run a statement on the service's own connection."""
    database.open_connection()
    db.execute_sql(sql)


@pytest.mark.parametrize("through", [by_hand, by_service], ids=["shell", "service"])
@pytest.mark.parametrize("sql", REWRITES.values(), ids=REWRITES)
def test_log_cannot_be_rewritten(logs: Flask, sql: str, through: Callable[[str], object]) -> None:
    before = described()
    with pytest.raises(
        (sqlite3.IntegrityError, peewee.IntegrityError),
        match=r"append-only|leave only by flask prune-checks",
    ):
        through(sql)
    assert described() == before


def checks_left() -> set[tuple[str, str]]:
    """The customer and request of each row of the check log."""
    return {(row.customerId, row.requestId) for row in models.BudgetCheckLog.select()}


def test_checks_can_be_deleted_only_after_an_audit_row(logs: Flask) -> None:
    day_after = LONG_AGO + timedelta(days=1)
    audit_log.record(ROOT, "PRUNE_CHECKS", customer_id="acme", newValue=clock.to_text(day_after))
    for still_kept in (
        """'globex' AND "requestId" = 'intake-1'""",
        """'acme' AND "requestId" = 'intake-3'""",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="leave only by flask prune-checks"):
            by_hand(f'DELETE FROM "BudgetCheckLog" WHERE "customerId" = {still_kept}')
    by_hand(
        """DELETE FROM "BudgetCheckLog" WHERE "customerId" = 'acme' AND "requestId" <> 'intake-3'"""
    )
    assert checks_left() == {
        ("acme", "intake-3"),
        ("globex", "intake-1"),
        ("globex", "intake-2"),
        ("globex", "intake-3"),
    }


def test_other_audit_action_does_not_allow_deleting_checks(logs: Flask) -> None:
    audit_log.record(ROOT, "SET_PASSWORD", customer_id="acme", newValue="9999")
    with pytest.raises(sqlite3.IntegrityError, match="leave only by flask prune-checks"):
        by_hand('DELETE FROM "BudgetCheckLog"')
    assert len(checks_left()) == 6


def test_pruning_deletes_old_checks(logs: Flask) -> None:
    assert retention.prune_checks(ROOT, 30) == 4
    assert checks_left() == {("acme", "intake-3"), ("globex", "intake-3")}
