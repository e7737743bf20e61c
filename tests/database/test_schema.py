"""schema.sql: one text for both engines, which refuses what must never be; the models say the same; making and upgrading it."""

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
from budget_sync.accounts import people
from budget_sync.database import audit_log, db, models
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
    """A column as its database knows it."""

    type: str
    nullable: bool
    primary: bool
    generated: bool = False


@dataclass
class Engine:
    """A database that schema.sql was loaded into, unchanged; spoken to without the models."""

    name: str
    connection: Any
    placeholder: str
    refusals: type[Exception]

    def run(self, sql: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """The rows of a statement."""
        cursor = self.connection.execute(sql, values)
        return cursor.fetchall() if cursor.description else []

    def insert(self, table: str, changes: Row = MappingProxyType({}), returning: str = "1") -> Any:
        """Add the table's row of ROWS, with changes; returns what the database says of it."""
        row = {**ROWS[table], **changes}
        columns = ", ".join(f'"{column}"' for column in row)
        values = ", ".join([self.placeholder] * len(row))
        ((said,),) = self.run(
            f'INSERT INTO "{table}" ({columns}) VALUES ({values}) RETURNING {returning}',
            tuple(row.values()),
        )
        return said

    def refuses(self, table: str, changes: Row) -> bool:
        """Whether the database refuses the row; it is gone again afterwards either way."""
        self.run("SAVEPOINT attempt")
        try:
            self.insert(table, changes)
        except self.refusals:
            return True
        finally:
            self.run("ROLLBACK TO SAVEPOINT attempt")
        return False

    def columns(self) -> dict[tuple[str, str], Column]:
        """What the database says of each (table, column)."""
        if self.name == "sqlite":
            # SQLite lets a primary key of text be null unless told otherwise, which is its slip and no statement of ours.
            rows = self.run("""
                SELECT t.name, c.name, c.type, c."notnull" = 0 AND c.pk = 0, c.pk <> 0, c.hidden <> 0
                FROM sqlite_master t, pragma_table_xinfo(t.name) c WHERE t.type = 'table'
            """)
        else:
            rows = self.run("""
                SELECT table_name, column_name, data_type, is_nullable = 'YES', (table_name, column_name) IN (
                    SELECT k.table_name, k.column_name
                    FROM information_schema.table_constraints t JOIN information_schema.key_column_usage k USING (table_name, constraint_name)
                    WHERE t.constraint_type = 'PRIMARY KEY'
                ), is_generated = 'ALWAYS'
                FROM information_schema.columns WHERE table_schema = 'public'
            """)
        return {
            (table, column): Column(kind, *map(bool, facts)) for table, column, kind, *facts in rows
        }


# A lawful row of each table, which agrees with the others. "acme" has two budgets and a source, "globex" one of each.
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
        "status": "open",
        "createdAt": NOW,
        "reserveReply": "{}",
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
}

# What a reservation has once all of it was given back.
CLOSED: Row = {
    "heldMinor": 0,
    "releasedMinor": 500000,
    "status": "closed",
    "closedAt": NOW,
    "closedAfterCheck": 0,
    "closingCall": "release:reject:500000",
    "closingReply": "{}",
}


def found_world(engine: Engine) -> None:
    """The rows that those of ROWS refer to, or must agree with."""
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
    engine.insert("AuditLog", {"id": 1, "version": 1, "action": "CREATE"})
    engine.insert("StoredReply", {"idempotencyKey": "used"})
    engine.insert("SyncHistory", {"id": 1, "syncId": "sync_1_acme"})


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def loaded(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each engine with schema.sql and a small world in it."""
    if request.param == "sqlite":
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            connection.executescript(SCHEMA)
            connection.execute("PRAGMA foreign_keys = ON")
            engine = Engine("sqlite", connection, "?", sqlite3.IntegrityError)
            found_world(engine)
            yield engine
    else:
        new_postgres = request.getfixturevalue("new_postgres")
        with new_postgres() as url, psycopg.connect(url, autocommit=True) as connection:
            connection.execute(SCHEMA.encode())
            engine = Engine("postgresql", connection, "%s", psycopg.IntegrityError)
            found_world(engine)
            yield engine


@pytest.fixture
def engine(loaded: Engine) -> Iterator[Engine]:
    """The same, with whatever a test does undone."""
    loaded.run("BEGIN")
    yield loaded
    loaded.run("ROLLBACK")


def test_every_table_has_a_row_that_is_lawful(engine: Engine) -> None:
    assert set(ROWS) == {table for table, _ in engine.columns()}
    assert [table for table in ROWS if engine.refuses(table, {})] == []


# Whole units, generated by the database.

GENERATED = {
    ("Customer", "autoApproveLimit"): "autoApproveLimitMinor",
    ("Budget", "budgetedAmount"): "budgetedMinor",
    ("Budget", "autoApproveLimit"): "autoApproveLimitMinor",
    ("BudgetUtilization", "reservedAmount"): "reservedMinor",
    ("BudgetUtilization", "committedAmount"): "committedMinor",
    ("Reservation", "amount"): "amountMinor",
    ("Reservation", "heldAmount"): "heldMinor",
    ("BudgetCheckLog", "amount"): "amountMinor",
}


def test_the_database_generates_the_columns_that_people_query_and_no_others(engine: Engine) -> None:
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
def test_amounts_show_whole_units(
    engine: Engine, place: tuple[str, str], exponent: int, minor: int, whole: str
) -> None:
    table, generated = place
    row: dict[str, object] = {"currencyExponent": exponent, GENERATED[place]: minor}
    if table == "Reservation":
        row |= {"amountMinor": minor, "heldMinor": minor}
    if table in ("BudgetUtilization", "Reservation"):
        # These must be of their budget's currency.
        engine.insert("Budget", {"currencyExponent": exponent})
        row["budgetId"] = ROWS["Budget"]["id"]
    shown = engine.insert(table, row, returning=f'"{generated}"')
    assert Decimal(str(shown)) == Decimal(whole)
    if engine.name == "sqlite":
        # PostgreSQL prints 5000.0000.
        assert str(shown) == whole


def test_a_generated_amount_cannot_be_written(engine: Engine) -> None:
    with pytest.raises((sqlite3.OperationalError, psycopg.errors.GeneratedAlways)):
        engine.run('UPDATE "BudgetUtilization" SET "reservedAmount" = 0')


# What the database itself refuses.


class Forbidden(NamedTuple):
    """A row that must not be, and the nearest one that may."""

    table: str
    row: Row
    lawful: Row = MappingProxyType({})


def reservation(**changes: object) -> Row:
    """A reservation that was settled, with changes."""
    return {**CLOSED, **changes}


FORBIDDEN = {
    "a negative reserved": Forbidden(
        "BudgetUtilization", {"reservedMinor": -1}, {"reservedMinor": 0}
    ),
    "a negative committed": Forbidden(
        "BudgetUtilization", {"committedMinor": -1}, {"committedMinor": 0}
    ),
    "a negative version": Forbidden("BudgetUtilization", {"version": -1}),
    "two utilisations of a budget": Forbidden("BudgetUtilization", {"budgetId": "engineering"}),
    "a utilisation of another exponent": Forbidden("BudgetUtilization", {"currencyExponent": 0}),
    "a utilisation of another customer": Forbidden("BudgetUtilization", {"customerId": "globex"}),
    "a utilisation of no budget": Forbidden("BudgetUtilization", {"budgetId": "nowhere"}),
    "an unknown role": Forbidden("User", {"role": "root"}, {"role": "fpa_user"}),
    "a role in another letter case": Forbidden("User", {"role": "Admin"}, {"role": "admin"}),
    "the role of nobody": Forbidden("User", {"role": "anonymous"}, {"role": "api_system"}),
    "an admin of all customers": Forbidden(
        "User", {"role": "admin", "customerId": None}, {"role": "super_admin", "customerId": None}
    ),
    "a business user of all customers": Forbidden("User", {"customerId": None}),
    "a user of an unknown customer": Forbidden(
        "User", {"customerId": "nowhere"}, {"customerId": "globex"}
    ),
    "two users with one address": Forbidden("User", {"emailKey": "sam@acme.com"}),
    "an unknown reservation status": Forbidden(
        "Reservation", reservation(status="pending"), reservation()
    ),
    "a reservation status in another letter case": Forbidden(
        "Reservation", {"status": "OPEN"}, {"status": "open"}
    ),
    "two open reservations of a request on a budget": Forbidden(
        "Reservation", {"requestId": "intake-1"}, {"requestId": "intake-1", "budgetId": "spare"}
    ),
    "an open reservation beside an open one": Forbidden(
        "Reservation", {"requestId": "intake-1"}, reservation(requestId="intake-1")
    ),
    "a request reserved anew before it was settled": Forbidden(
        "Reservation", {"requestId": "intake-1"}, {"requestId": "intake-2"}
    ),
    "a reservation on another customer's budget": Forbidden(
        "Reservation", {"budgetId": "globex-1"}, {"budgetId": "globex-1", "customerId": "globex"}
    ),
    "a reservation of another customer": Forbidden("Reservation", {"customerId": "globex"}),
    "a reservation of another exponent": Forbidden("Reservation", {"currencyExponent": 0}),
    "a reservation on no budget": Forbidden("Reservation", {"budgetId": "nowhere"}),
    "a reservation id twice": Forbidden("Reservation", {"id": "res-1"}),
    "a reservation of nothing": Forbidden(
        "Reservation",
        reservation(amountMinor=0, releasedMinor=0),
        reservation(amountMinor=1, releasedMinor=1),
    ),
    "a negative reservation": Forbidden(
        "Reservation", reservation(amountMinor=-1, releasedMinor=-1)
    ),
    "a negative hold": Forbidden("Reservation", reservation(heldMinor=-1, releasedMinor=500001)),
    "a negative release": Forbidden(
        "Reservation",
        {"heldMinor": 500001, "releasedMinor": -1},
        {"heldMinor": 499999, "releasedMinor": 1},
    ),
    "a negative spending": Forbidden(
        "Reservation",
        {"heldMinor": 500001, "committedMinor": -1},
        {"heldMinor": 499999, "committedMinor": 1},
    ),
    "a negative excess": Forbidden(
        "Reservation",
        {"heldMinor": 499999, "exceededMinor": -1},
        reservation(exceededMinor=1, releasedMinor=500001),
    ),
    "more held than is left": Forbidden(
        "Reservation", {"heldMinor": 500001}, {"heldMinor": 500000}
    ),
    "less held than is left": Forbidden(
        "Reservation", {"heldMinor": 499999}, {"heldMinor": 499999, "releasedMinor": 1}
    ),
    "spending that the hold does not know of": Forbidden(
        "Reservation", {"committedMinor": 1}, {"committedMinor": 1, "exceededMinor": 1}
    ),
    "an open reservation that holds nothing": Forbidden(
        "Reservation", {"heldMinor": 0, "releasedMinor": 500000}, reservation()
    ),
    "a closed reservation that holds something": Forbidden(
        "Reservation", reservation(heldMinor=1, releasedMinor=499999)
    ),
    "a closed reservation without its closing reply": Forbidden(
        "Reservation", reservation(closingReply=None), reservation()
    ),
    "a closed reservation without its closing call": Forbidden(
        "Reservation", reservation(closingCall=None)
    ),
    "a closed reservation without its time": Forbidden("Reservation", reservation(closedAt=None)),
    "a closed reservation without the check it came after": Forbidden(
        "Reservation", reservation(closedAfterCheck=None)
    ),
    "an open reservation that was closed": Forbidden(
        "Reservation", reservation(status="open", heldMinor=500000, releasedMinor=0)
    ),
    "two live budgets of a department and period": Forbidden(
        "Budget", {"departmentKey": "spare"}, {"departmentKey": "spare", "deletedAt": NOW}
    ),
    "two live budgets under different spellings": Forbidden(
        "Budget",
        {"department": "SPARE", "departmentKey": "spare"},
        {"departmentKey": "spare", "periodKey": "2025-Q2"},
    ),
    "a budget number twice": Forbidden(
        "Budget",
        {"externalId": "E-1"},
        {"externalId": "E-1", "customerId": "globex", "periodKey": "2025-Q2"},
    ),
    "the number of a deleted budget": Forbidden(
        "Budget", {"externalId": "E-1", "deletedAt": NOW}, {"externalId": None, "deletedAt": NOW}
    ),
    "a budget id twice": Forbidden("Budget", {"id": "globex-1"}),
    "a budget without an id": Forbidden("Budget", {"id": ""}),
    "a budget of another customer's source": Forbidden(
        "Budget", {"sourceId": "source-globex"}, {"sourceId": "source-acme"}
    ),
    "a budget of an unknown customer": Forbidden("Budget", {"customerId": "nowhere"}),
    "a negative budget": Forbidden("Budget", {"budgetedMinor": -1}, {"budgetedMinor": 0}),
    "a negative auto-approve limit": Forbidden(
        "Budget", {"autoApproveLimitMinor": -1}, {"autoApproveLimitMinor": 0}
    ),
    "a customer's negative auto-approve limit": Forbidden(
        "Customer", {"autoApproveLimitMinor": -1}, {"autoApproveLimitMinor": 0}
    ),
    "a budget of 16 digits": Forbidden(
        "Budget", {"budgetedMinor": 10**15}, {"budgetedMinor": 10**15 - 1}
    ),
    "a limit of 16 digits": Forbidden(
        "Budget", {"autoApproveLimitMinor": 10**15}, {"autoApproveLimitMinor": 10**15 - 1}
    ),
    "a customer's limit of 16 digits": Forbidden(
        "Customer", {"autoApproveLimitMinor": 10**15}, {"autoApproveLimitMinor": 10**15 - 1}
    ),
    "a reservation of 16 digits": Forbidden(
        "Reservation",
        {"amountMinor": 10**15, "heldMinor": 10**15},
        {"amountMinor": 10**15 - 1, "heldMinor": 10**15 - 1},
    ),
    "a check of 16 digits": Forbidden(
        "BudgetCheckLog", {"amountMinor": 10**15}, {"amountMinor": 10**15 - 1}
    ),
    "a check of nothing": Forbidden("BudgetCheckLog", {"amountMinor": 0}, {"amountMinor": 1}),
    "a check of an unknown customer": Forbidden("BudgetCheckLog", {"customerId": "nowhere"}),
    "a check of an unknown budget": Forbidden(
        "BudgetCheckLog", {"budgetId": "nowhere"}, {"budgetId": None}
    ),
    "a currency with five decimals": Forbidden(
        "Customer", {"currencyExponent": 5}, {"currencyExponent": 4}
    ),
    "a currency of four letters": Forbidden("Customer", {"currency": "USDT"}, {"currency": "EUR"}),
    "a thirteenth month": Forbidden(
        "Customer", {"fiscalYearStartMonth": 13}, {"fiscalYearStartMonth": 12}
    ),
    "a customer id twice": Forbidden("Customer", {"id": "acme"}),
    "a key of an unknown customer": Forbidden(
        "ApiKey", {"customerId": "nowhere"}, {"customerId": None}
    ),
    "a session of an unknown user": Forbidden("Session", {"userId": "nowhere"}),
    "an idempotency key twice": Forbidden(
        "StoredReply", {"idempotencyKey": "used"}, {"idempotencyKey": "used", "call": "release"}
    ),
    "an idempotency key of 256 characters": Forbidden(
        "StoredReply", {"idempotencyKey": "k" * 256}, {"idempotencyKey": "k" * 255}
    ),
    "an unknown audit action": Forbidden(
        "AuditLog", {"action": "DELETE"}, {"action": "SOFT_DELETE"}
    ),
    "an audit version twice": Forbidden(
        "AuditLog", {"version": 1}, {"version": 1, "budgetId": "spare"}
    ),
    "an audit version of zero": Forbidden("AuditLog", {"version": 0}),
    "a budget's audit row without a version": Forbidden(
        "AuditLog", {"version": None}, {"version": None, "budgetId": None}
    ),
    "a version of no budget": Forbidden("AuditLog", {"budgetId": None}),
    "a movement of no budget": Forbidden(
        "AuditLog",
        {"version": None, "budgetId": None, "reservedDeltaMinor": 1},
        {"reservedDeltaMinor": 1},
    ),
    "an audit row of an unknown budget": Forbidden("AuditLog", {"budgetId": "nowhere"}),
    "an unknown kind of source": Forbidden(
        "BudgetDataSourceConfig", {"sourceType": "excel"}, {"sourceType": "google_sheets"}
    ),
    "a sheet without its key": Forbidden("BudgetDataSourceConfig", {"spreadsheetKey": None}),
    "a file without its path": Forbidden(
        "BudgetDataSourceConfig",
        {"sourceType": "csv", "spreadsheetKey": None},
        {"sourceType": "csv", "spreadsheetKey": None, "csvPath": "budgets.csv"},
    ),
    "an unknown sync status": Forbidden("SyncHistory", {"status": "done"}, {"status": "partial"}),
    "a sync id twice": Forbidden("SyncHistory", {"syncId": "sync_1_acme"}),
    "a sync of another customer's source": Forbidden(
        "SyncHistory",
        {"customerId": "globex"},
        {"customerId": "globex", "sourceId": "source-globex"},
    ),
}


@pytest.mark.parametrize("case", FORBIDDEN.values(), ids=FORBIDDEN)
def test_the_database_itself_refuses(engine: Engine, case: Forbidden) -> None:
    assert not engine.refuses(case.table, case.lawful)
    assert engine.refuses(case.table, case.row)


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.ANONYMOUS])
def test_every_role_of_the_service_can_be_stored(engine: Engine, role: Role) -> None:
    assert not engine.refuses("User", {"role": role})


@pytest.mark.parametrize("column", ["reservedMinor", "committedMinor"])
def test_a_counter_cannot_be_taken_below_zero(engine: Engine, column: str) -> None:
    with pytest.raises(engine.refusals):
        engine.run(f'UPDATE "BudgetUtilization" SET "{column}" = "{column}" - 500001')


def test_a_budget_may_be_cut_below_what_is_reserved_and_committed(engine: Engine) -> None:
    engine.run("""UPDATE "Budget" SET "budgetedMinor" = 0 WHERE "id" = 'engineering'""")
    engine.run('UPDATE "BudgetUtilization" SET "committedMinor" = "committedMinor" + 500000')
    sums = 'b."budgetedMinor", u."reservedMinor", u."committedMinor"'
    assert engine.run(
        f'SELECT {sums} FROM "Budget" b JOIN "BudgetUtilization" u ON u."budgetId" = b."id"'
    ) == [(0, 500000, 500000)]


def test_a_budget_that_money_moved_on_cannot_be_deleted(engine: Engine) -> None:
    with pytest.raises(engine.refusals):
        engine.run("""DELETE FROM "Budget" WHERE "id" = 'engineering'""")


# Two descriptions of one fact.

# How a model's field and each engine name a type.
TYPES = {
    "TEXT": ("TEXT", "text"),
    "INT": ("INTEGER", "integer"),
    "BIGINT": ("BIGINT", "bigint"),
    "BOOL": ("BOOLEAN", "boolean"),
    "TIMESTAMPTZ": ("TIMESTAMPTZ", "timestamp with time zone"),
}

# Written by the database folder itself, before there are models to speak of.
WITHOUT_MODEL = {"SchemaVersion"}


def fields(model: type[models.Table]) -> list[Any]:
    """A model's fields, in order."""
    return list(model._meta.sorted_fields)  # noqa: SLF001  # Peewee's documented place for them


def keys(model: type[models.Table]) -> set[str]:
    """The columns of a model's primary key."""
    return {field.name for field in model._meta.get_primary_keys()}  # type: ignore[no-untyped-call]  # noqa: SLF001


def test_the_models_have_every_column_that_is_not_generated_and_no_other(engine: Engine) -> None:
    said = {
        (model._meta.table_name, field.name): Column(  # noqa: SLF001
            TYPES[field.field_type][engine.name == "postgresql"],
            field.null,
            field.name in keys(model),
        )
        for model in models.Table.__subclasses__()
        for field in fields(model)
    }
    assert said == {
        place: column
        for place, column in engine.columns().items()
        if not column.generated and place[0] not in WITHOUT_MODEL
    }


def test_the_models_call_the_columns_by_their_names() -> None:
    assert [
        field
        for model in models.Table.__subclasses__()
        for field in fields(model)
        if field.name != field.column_name
    ] == []


def listed(table: str, column: str) -> set[str]:
    """The words that a column's CHECK in schema.sql lists."""
    match = re.search(
        rf'^CREATE TABLE "{table}" \((?:(?!^\);).)*?CHECK \("{column}" IN \(([^)]*)\)\)',
        SCHEMA,
        re.MULTILINE | re.DOTALL,
    )
    assert match, f"{table}.{column} lists nothing"
    return set(re.findall(r"'(\w+)'", match[1]))


def test_the_schema_lists_the_roles_that_a_user_can_have() -> None:
    assert listed("User", "role") == set(Role) - {Role.ANONYMOUS}


def strings_called(name: str, function: ast.FunctionDef) -> set[str]:
    """The texts that a name is given in a function, also as one of several: `action, reason = "RESERVE", why`."""
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
                ):
                    continue
                action = call.args[1]
                if isinstance(action, ast.Constant):
                    found.add(str(action.value))
                elif isinstance(action, ast.Name):
                    found |= strings_called(action.id, function)
    return found


# Written by the sheet sync and the commands of its sources alone.
OF_SOURCES = {"SOFT_DELETE", "REVIVE", "ADD_SOURCE", "REMOVE_SOURCE"}


def test_the_schema_lists_the_audit_actions_that_the_code_writes() -> None:
    assert actions_written() | OF_SOURCES == listed("AuditLog", "action")


# Making the tables.


def described() -> set[tuple[str, ...]]:
    """Every table, index and trigger of the connected database, and every row."""
    database.open_connection()
    made = set(db.execute_sql("SELECT type, name, sql FROM sqlite_master").fetchall())
    tables = [name for kind, name, _ in made if kind == "table"]
    return made | {
        (table, *map(repr, row))
        for table in tables
        for row in db.execute_sql(f'SELECT * FROM "{table}"').fetchall()
    }


def test_init_db_makes_what_schema_sql_says_and_the_triggers(app: Flask) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        said = set(connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall())
    made = set(db.execute_sql("SELECT type, name, sql FROM sqlite_master").fetchall())
    squeezed = [
        {
            (kind, name, " ".join((sql or "").split()))
            for kind, name, sql in rows
            if kind != "trigger"
        }
        for rows in (said, made)
    ]
    without_comments = [
        {(kind, name, re.sub(r"--.*", "", sql)) for kind, name, sql in rows} for rows in squeezed
    ]
    assert without_comments[0] == without_comments[1]
    assert {name for kind, name, _ in made if kind == "trigger"} == {
        f"{table}_no_{verb}"
        for table in ("AuditLog", "BudgetCheckLog")
        for verb in ("update", "delete", "replace")
    }


def test_init_db_is_harmless_where_the_tables_are(app: Flask) -> None:
    people.add_customer(ROOT, "acme", "Acme")
    before = described()
    with app.app_context():
        result = app.test_cli_runner().invoke(args=["init-db"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("Already there: ")
    assert described() == before


def test_tables_that_could_not_all_be_made_are_not_made_at_all(
    chosen: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_the_services_own_connection_is_safe(app: Flask) -> None:
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


# Upgrading them.

NEXT = database.SCHEMA_VERSION + 1

# A step that works, for each of which a later one does not.
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
def test_an_upgrade_whose_step_fails_leaves_the_database_as_it_was(
    app: Flask, broken: str, same_step: bool
) -> None:
    people.add_customer(ROOT, "acme", "Acme")
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
    people.add_customer(ROOT, "globex", "Globex")
    assert [customer.id for customer in people.list_customers(ROOT)] == ["acme", "globex"]


def test_an_upgrade_goes_through_every_version_once_and_in_order(app: Flask) -> None:
    steps = {NEXT + 1: ['ALTER TABLE "Extra" ADD COLUMN "name" TEXT'], NEXT: GOOD_STEP}
    assert database.upgrade_schema(steps) == [NEXT, NEXT + 1]
    assert database.schema_version() == NEXT + 1
    assert [column.name for column in db.get_columns("Extra")] == ["id", "name"]
    assert database.upgrade_schema(steps) == []


def test_a_database_of_a_newer_version_is_left_alone(app: Flask) -> None:
    db.execute_sql('INSERT INTO "SchemaVersion" VALUES (99, ?)', (NOW,))
    before = described()
    for command in ("upgrade-db", "verify"):
        with app.app_context():
            result = app.test_cli_runner().invoke(args=[command])
        assert (result.exit_code, result.stdout) == (1, "")
        said = f"The database is of schema version 99, newer than this program's {database.SCHEMA_VERSION}: install the newer program."
        assert result.stderr == f"Error: {said}\n"
    assert described() == before


def test_a_database_whose_version_is_no_number_is_damaged(app: Flask) -> None:
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


def test_a_database_without_tables_is_made_not_upgraded(app: Flask, tmp_path: Path) -> None:
    database.connect(tmp_path / "empty.db", create=True)
    with pytest.raises(
        database.DatabaseProblem, match="has no tables yet: make them with `flask init-db`"
    ):
        database.upgrade_schema()
    assert described() == set()


# Append-only, by triggers, whoever asks.

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
        SELECT {AUDIT_COLUMNS.replace('"id"', '"id" + 1000').replace('"action"', "'UPDATE'")} FROM "AuditLog" WHERE "version" = 1""",
    "upsert": f"""INSERT INTO "AuditLog" ({AUDIT_COLUMNS}) SELECT {AUDIT_COLUMNS} FROM "AuditLog" WHERE TRUE
        ON CONFLICT ("id") DO UPDATE SET "reason" = 'another'""",
    "update checks": 'UPDATE "BudgetCheckLog" SET "available" = 1',
    "update or replace checks": 'UPDATE OR REPLACE "BudgetCheckLog" SET "id" = 1 WHERE "id" = 2',
    "delete checks": 'DELETE FROM "BudgetCheckLog"',
    "delete one check": 'DELETE FROM "BudgetCheckLog" WHERE "id" = 1',
    "replace checks": f'INSERT OR REPLACE INTO "BudgetCheckLog" ({CHECK_COLUMNS}) SELECT {CHECK_COLUMNS} FROM "BudgetCheckLog"',
    "upsert checks": f"""INSERT INTO "BudgetCheckLog" ({CHECK_COLUMNS}) SELECT {CHECK_COLUMNS} FROM "BudgetCheckLog" WHERE TRUE
        ON CONFLICT ("id") DO UPDATE SET "reason" = 'another'""",
}

LONG_AGO = datetime(2024, 1, 1, 12, tzinfo=UTC)


def ask(customer_id: str, request_id: str) -> None:
    """A check of that customer, logged."""
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
    """Two customers, each with a budget and two checks of long ago and one of today."""
    for customer in ("acme", "globex"):
        people.add_customer(ROOT, customer, customer.title())
        manual_budgets.set_budget(
            ROOT, customer, "Engineering", "Q1 2025", Decimal(100_000), budget_id=f"{customer}-1"
        )
        with time_machine.travel(LONG_AGO, tick=False):
            ask(customer, "intake-1")
            ask(customer, "intake-2")
        ask(customer, "intake-3")
    return app


def by_hand(sql: str) -> None:
    """Run a statement as the `sqlite3` shell would: with no pragma set."""
    with closing(sqlite3.connect(db.file_path)) as connection, connection:
        connection.execute(sql)


def by_service(sql: str) -> None:
    """Run a statement on the service's own connection."""
    database.open_connection()
    db.execute_sql(sql)


@pytest.mark.parametrize("through", [by_hand, by_service], ids=["a shell", "the service"])
@pytest.mark.parametrize("sql", REWRITES.values(), ids=REWRITES)
def test_a_log_cannot_be_rewritten(logs: Flask, sql: str, through: Callable[[str], object]) -> None:
    before = described()
    with pytest.raises(
        (sqlite3.IntegrityError, peewee.IntegrityError),
        match=r"append-only|leave only by flask prune-checks",
    ):
        through(sql)
    assert described() == before


def checks_left() -> set[tuple[str, str]]:
    return {(row.customerId, row.requestId) for row in models.BudgetCheckLog.select()}


def test_checks_can_be_deleted_only_as_far_as_the_audit_log_tells(logs: Flask) -> None:
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


def test_another_audit_row_of_the_same_time_frees_no_check(logs: Flask) -> None:
    audit_log.record(ROOT, "SET_PASSWORD", customer_id="acme", newValue="9999")
    with pytest.raises(sqlite3.IntegrityError, match="leave only by flask prune-checks"):
        by_hand('DELETE FROM "BudgetCheckLog"')
    assert len(checks_left()) == 6


def test_pruning_is_the_way_out(logs: Flask) -> None:
    assert retention.prune_checks(ROOT, 30) == 4
    assert checks_left() == {("acme", "intake-3"), ("globex", "intake-3")}
