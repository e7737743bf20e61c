"""Test customers: `flask add-customer --test`, `flask reset-customer`, and what must not change."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import peewee
import pytest
from flask import Flask
from peewee import fn
from support.machine import sqlite_only
from support.sources import add_file
from support.world import ROOT

from budget_sync import ledger, manual_budgets, sync
from budget_sync.accounts import api_keys, customers, reset
from budget_sync.database import audit_log, db
from budget_sync.database.connection import roll_back
from budget_sync.database.delivery_models import (
    Alert,
    AlertMessage,
    AlertState,
    Webhook,
)
from budget_sync.database.models import (
    ApiKey,
    AuditLog,
    Budget,
    BudgetCheckLog,
    BudgetDataSourceConfig,
    Customer,
    DepartmentAlias,
    HoldAnswer,
    Reservation,
    Spend,
    StoredReply,
    SyncHistory,
)
from budget_sync.domain import clock
from budget_sync.domain.errors import RequestError
from budget_sync.domain.request_models import (
    AmendRequest,
    CheckRequest,
    CommitRequest,
    ReserveRequest,
    SpendRequest,
)
from budget_sync.ledger import verification
from budget_sync.queries.events import Cursor, read_events

pytestmark = pytest.mark.both_engines

TEST, REAL = "acme-test", "acme"


def run(app: Flask, *arguments: str) -> click.testing.Result:
    """Run a command in this process."""
    with app.app_context():
        return app.test_cli_runner().invoke(args=arguments, prog_name="flask")


def check(customer_id: str, request_id: str) -> None:
    """Check 100 for a request."""
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
            amount=Decimal(100),
        ),
    )


def reserve(customer_id: str, request_id: str, key: str | None = None) -> None:
    """Check and reserve 100 on the customer's budget."""
    check(customer_id, request_id)
    ledger.reserve(
        ROOT,
        ReserveRequest(budget_id=f"{customer_id}-1", request_id=request_id, amount=Decimal(100)),
        idempotency_key=key or f"key of {request_id}",
    )


def commit(customer_id: str, request_id: str) -> None:
    """Commit what a request holds."""
    ledger.commit(
        ROOT,
        CommitRequest(budget_id=f"{customer_id}-1", request_id=request_id, amount=Decimal(100)),
    )


def move(customer_id: str, request_id: str) -> None:
    """Move a reservation to the customer's second budget."""
    ledger.amend(
        ROOT,
        AmendRequest(
            budget_id=f"{customer_id}-1",
            request_id=request_id,
            to_budget_id=f"{customer_id}-2",
            reason="Other department",
        ),
    )


@pytest.fixture
def two(app: Flask) -> Flask:
    """A test customer and a real one, each with two budgets and a reservation."""
    for customer_id in (TEST, REAL):
        customers.add_customer(ROOT, customer_id, "Acme", is_test=customer_id == TEST)
        for number, department in enumerate(("Engineering", "Sales"), start=1):
            manual_budgets.set_budget(
                *(ROOT, customer_id, department, "Q1 2025", Decimal(100_000)),
                budget_id=f"{customer_id}-{number}",
            )
        reserve(customer_id, f"{customer_id} open")
    return app


def sync_once(app: Flask, folder: Path) -> None:
    """Add a sheet of the test customer, if there is none, and sync it."""
    if not BudgetDataSourceConfig.select().exists():
        text = "Department,Fiscal Period,Budgeted Amount\nLegal,Q1 2025,500\n"
        (folder / "plan.csv").write_text(text, encoding="utf-8")
        add_file(TEST, folder, "plan.csv")
    job = sync.Job(ROOT, sync.Reach(folder, attempts=1), Path(app.instance_path))
    assert [result.status for result in sync.sync_all(job)] == ["success"]


def fill(app: Flask, folder: Path) -> None:
    """Give the test customer a row in each table that a reset empties."""
    for request_id in ("a", "b"):
        reserve(TEST, request_id)
    commit(TEST, "a")
    move(TEST, "b")
    ledger.spend(
        ROOT,
        SpendRequest(
            customer_id=TEST,
            spend_id="card-1",
            budget_id=f"{TEST}-1",
            amount=Decimal(5),
            date=dt.date(2025, 2, 7),
            reason="Flight",
        ),
    )
    sync_once(app, folder)
    now = clock.now()
    HoldAnswer.create(
        customerId=TEST,
        sourceId=BudgetDataSourceConfig.get().id,
        kind="amount",
        answer="apply",
        budgetId=f"{TEST}-1",
        currency="USD",
        currencyExponent=2,
        newMinor=500,
        answeredBy="Jane Doe",
        answeredAt=now,
    )
    DepartmentAlias.create(
        customerId=TEST,
        nameKey="r&d",
        name="R&D",
        department="Engineering",
        departmentKey="engineering",
        createdBy="root",
        createdAt=now,
    )
    Webhook.create(
        id="whk_1",
        customerId=TEST,
        url="https://example.com/events",
        secret="whsec_1",
        cursor=Cursor(1, 0, 0, 0).text,
        attempts=3,
        failingSince=now,
        nextAttemptAt=now,
        createdAt=now,
    )
    Alert.create(
        id="alr_1",
        customerId=TEST,
        url="json://localhost",
        redactedUrl="json://localhost",
        conditions="overdrawn",
        toOwners=False,
        cursor=Cursor().text,
        createdAt=now,
    )
    AlertState.create(alertId="alr_1", condition="overdrawn", subject="x", reportedAt=now)
    AlertMessage.create(alertId="alr_1", title="t", body="b", createdAt=now, dueAt=now)


EMPTIED = (
    *(Budget, Reservation, Spend, StoredReply, HoldAnswer, DepartmentAlias),
    *(BudgetCheckLog, SyncHistory),
)


def rows(table: Any, customer_id: str) -> int:
    """The number of a customer's rows."""
    count: int = table.select().where(table.customerId == customer_id).count()
    return count


def events_of(customer_id: str, after: Cursor) -> list[str]:
    """The ids of the events after a cursor."""
    return [event.id for event in read_events(ROOT, customer_id, after).events]


def test_reset_empties_customer_and_keeps_access(two: Flask, tmp_path: Path) -> None:
    fill(two, tmp_path)
    api_keys.add_key(ROOT, "orchestrator", customer_id=TEST)
    reserve(REAL, "newest")
    before = {table: rows(table, REAL) for table in EMPTIED}
    assert all(rows(table, TEST) for table in EMPTIED)
    result = run(two, "reset-customer", TEST)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"Reset test customer {TEST}: deleted ")
    # The sync run is the newest of its log: a marker has its place.
    assert {table: rows(table, TEST) for table in EMPTIED} == {
        table: int(table is SyncHistory) for table in EMPTIED
    }
    assert {table: rows(table, REAL) for table in EMPTIED} == before
    assert AlertState.select().count() == AlertMessage.select().count() == 0
    for kept in (ApiKey, BudgetDataSourceConfig, Webhook, Alert):
        assert rows(kept, TEST) == 1
    assert [row.action for row in AuditLog.select().where(AuditLog.customerId == TEST)] == [
        *("ADD_CUSTOMER", "ADD_SOURCE", "SET_READING", "ADD_KEY", "RESET_CUSTOMER")
    ]
    hook = Webhook.get()
    assert (hook.attempts, hook.failingSince, hook.nextAttemptAt) == (0, None, None)
    assert hook.cursor == Cursor(1, 0, 0, 0).text
    assert verification.verify().findings == []


def test_sync_after_reset_creates_budgets_again(two: Flask, tmp_path: Path) -> None:
    sync_once(two, tmp_path)
    reset.reset_customer(ROOT, TEST)
    assert rows(Budget, TEST) == 0
    sync_once(two, tmp_path)
    assert [row.department for row in Budget.select().where(Budget.customerId == TEST)] == ["Legal"]
    assert verification.verify().findings == []


def test_other_customers_cursor_gets_every_event_after_reset(two: Flask, tmp_path: Path) -> None:
    fill(two, tmp_path)
    # The newest rows of all logs are those of the test customer.
    sync_once(two, tmp_path)
    reserve(TEST, "newest")
    cursor = read_events(ROOT, REAL, Cursor()).cursor
    highest = AuditLog.select(fn.MAX(AuditLog.id)).scalar()
    reset.reset_customer(ROOT, TEST)
    assert events_of(REAL, cursor) == []
    reserve(REAL, "after the reset")
    found = events_of(REAL, cursor)
    assert len(found) == 1
    assert int(found[0].removeprefix("evt_a")) > highest
    assert events_of(TEST, cursor) == []
    manual_budgets.set_budget(
        *(ROOT, TEST, "Engineering", "Q1 2025", Decimal(100)), budget_id=f"{TEST}-1"
    )
    assert len(events_of(TEST, cursor)) == 1


def test_check_after_reset_is_newer_than_closed_reservation(two: Flask) -> None:
    check(TEST, "newest check of the table")
    commit(REAL, f"{REAL} open")
    closed = Reservation.get(Reservation.requestId == f"{REAL} open")
    reset.reset_customer(ROOT, TEST)
    # With the number of a deleted check, this reserve would be rejected as RESERVATION_CLOSED.
    reserve(REAL, f"{REAL} open", "another key")
    newest = BudgetCheckLog.select(fn.MAX(BudgetCheckLog.id)).scalar()
    assert newest > closed.closedAfterCheck
    assert Reservation.select().where(Reservation.requestId == f"{REAL} open").count() == 2


def test_second_reset_removes_marker_of_the_first(two: Flask) -> None:
    check(TEST, "newest")
    reset.reset_customer(ROOT, TEST)
    assert [row.requestId for row in BudgetCheckLog.select() if row.customerId == TEST] == ["reset"]
    check(REAL, "newer")
    reset.reset_customer(ROOT, TEST)
    assert rows(BudgetCheckLog, TEST) == 0


def test_large_reset_is_consistent_after_each_part(
    two: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reset, "BATCH_SIZE", 2)
    monkeypatch.setattr(reset, "MAX_COST", 1)
    fill(two, tmp_path)
    for number in range(3, 6):
        manual_budgets.set_budget(
            *(ROOT, TEST, f"Department {number}", "Q1 2025", Decimal(100)),
            budget_id=f"{TEST}-{number}",
        )
        check(TEST, f"check {number}")
    left: list[int] = []

    def report(_: int) -> None:
        assert verification.verify().findings == []
        left.append(rows(Budget, TEST))

    deleted = reset.reset_customer(ROOT, TEST, report)
    # The two budgets between which a reservation was moved are deleted together.
    assert sorted(set(left), reverse=True) == [6, 4, 3, 2, 1, 0]
    assert deleted > 20
    assert AuditLog.select().where(AuditLog.action == "RESET_CUSTOMER").count() == 5


def test_only_test_customer_can_be_reset(two: Flask) -> None:
    before = AuditLog.select().count()
    result = run(two, "reset-customer", REAL, "--yes")
    assert result.exit_code == 1
    assert "'acme' is not a test customer" in result.stderr
    assert AuditLog.select().count() == before
    assert run(two, "reset-customer", "nobody", "--yes").exit_code == 1
    with pytest.raises(RequestError, match="super_admin"):
        reset.reset_customer(replace(ROOT, customer_id=TEST), TEST)


def test_declined_question_changes_nothing(two: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("budget_sync.commands.customers._is_typed_on_a_terminal", lambda: True)
    with two.app_context():
        result = two.test_cli_runner().invoke(
            args=("reset-customer", TEST), prog_name="flask", input="n\n"
        )
    assert result.exit_code == 1
    assert f"Reset test customer {TEST}? This deletes 2 budgets, " in result.stderr
    assert rows(Budget, TEST) == 2


def test_test_customer_is_listed_and_audited_as_one(app: Flask) -> None:
    result = run(app, "add-customer", "trial", "--name", "Trial", "--test")
    assert result.stdout == "Added test customer trial.\n"
    run(app, "add-customer", "real", "--name", "Real")
    lines = run(app, "list-customers").stdout.splitlines()
    assert [line.rpartition("  ")[2] for line in lines] == ["state", "active", "active, test"]
    assert AuditLog.get(AuditLog.subject == "trial").newValue == "Trial, test customer"


FIRST_CUSTOMER_COLUMNS = '"id", "name", "currency", "currencyExponent", "isTest", "createdAt"'

REWRITES = {
    "make a real customer a test customer": (
        """UPDATE "Customer" SET "isTest" = TRUE WHERE "id" = 'acme'""",
        "never changes",
    ),
    "make a test customer real": (
        """UPDATE "Customer" SET "isTest" = FALSE WHERE "id" = 'acme-test'""",
        "never changes",
    ),
    "upsert": (
        f"""INSERT INTO "Customer" ({FIRST_CUSTOMER_COLUMNS})
        SELECT {FIRST_CUSTOMER_COLUMNS} FROM "Customer" WHERE "id" = 'acme'
        ON CONFLICT ("id") DO UPDATE SET "isTest" = TRUE""",
        "never changes",
    ),
    "delete audit rows of a real customer": (
        """DELETE FROM "AuditLog" WHERE "customerId" = 'acme'""",
        "append-only",
    ),
    "delete audit rows of no customer": (
        """DELETE FROM "AuditLog" WHERE "customerId" IS NULL""",
        "append-only",
    ),
    "delete checks of a real customer": (
        """DELETE FROM "BudgetCheckLog" WHERE "customerId" = 'acme'""",
        "leave only by flask prune-checks",
    ),
    "change a check of a test customer": (
        """UPDATE "BudgetCheckLog" SET "customerId" = 'acme' WHERE "customerId" = 'acme-test'""",
        "append-only",
    ),
    "give an audit row to a test customer": (
        """UPDATE "AuditLog" SET "customerId" = 'acme-test'""",
        "append-only",
    ),
}


@pytest.mark.parametrize(("sql", "message"), REWRITES.values(), ids=REWRITES)
def test_database_rejects_what_must_not_change(two: Flask, sql: str, message: str) -> None:
    audit_log.record(ROOT, "RESTORE", customer_id=None)
    before = AuditLog.select().count()
    with pytest.raises(peewee.IntegrityError, match=message):
        db.execute_sql(sql)
    roll_back()
    assert AuditLog.select().count() == before


@sqlite_only
def test_sqlite_rejects_replacing_a_customer_by_a_test_customer(two: Flask) -> None:
    with pytest.raises(peewee.IntegrityError, match="never changes"):
        db.execute_sql(
            f"""REPLACE INTO "Customer" ({FIRST_CUSTOMER_COLUMNS})
            SELECT {FIRST_CUSTOMER_COLUMNS.replace('"isTest"', "TRUE")} FROM "Customer"
            WHERE "id" = 'acme'"""
        )
    roll_back()
    assert not Customer.get_by_id(REAL).isTest
