"""`flask verify`: proves the balances after any traffic, and finds what somebody changed behind the service's back."""

from __future__ import annotations

import threading
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import Result
from flask import Flask
from peewee import sqlite3  # type: ignore[attr-defined]  # missing from peewee's stubs
from support.machine import ENGINE
from support.world import ROOT, slots

from budget_sync import database, ledger, manual_budgets
from budget_sync.accounts import people
from budget_sync.database import db
from budget_sync.domain.errors import RequestError
from budget_sync.domain.permissions import Actor, Role
from budget_sync.domain.request_models import (
    CommitRequest,
    OverBudget,
    ReleaseAction,
    ReleaseRequest,
    ReserveRequest,
)
from budget_sync.ledger import verification

pytestmark = pytest.mark.both_engines

BUSY, QUIET, FOREIGN = "busy-1", "quiet-1", "globex-1"

FIONA = Actor(
    principal="user:fiona",
    user_id="fiona",
    name="Fiona Adams",
    email="fiona@acme.com",
    role=Role.FPA_USER,
    customer_id="acme",
)


def reserve(request_id: str, amount: int, budget_id: str = BUSY, **more: Any) -> None:
    ledger.reserve(
        FIONA,
        ReserveRequest(
            budget_id=budget_id,
            request_id=request_id,
            amount=Decimal(amount),
            user_id="user-123",
            **more,
        ),
    )


def commit(request_id: str, amount: int, **more: Any) -> None:
    ledger.commit(
        FIONA, CommitRequest(budget_id=BUSY, request_id=request_id, amount=Decimal(amount), **more)
    )


def release(request_id: str, amount: int, action: ReleaseAction = ReleaseAction.REJECT) -> None:
    ledger.release(
        FIONA,
        ReleaseRequest(
            budget_id=BUSY, request_id=request_id, amount=Decimal(amount), action=action
        ),
    )


def move_money() -> None:
    """On "busy-1" every kind of movement there is, on "quiet-1" one open reservation, on "globex-1" none."""
    people.add_customer(ROOT, "acme", "Acme")
    people.add_customer(ROOT, "globex", "Globex")
    for customer_id, budget_id, department in (
        ("acme", BUSY, "Engineering"),
        ("acme", QUIET, "Legal"),
        ("globex", FOREIGN, "Engineering"),
    ):
        manual_budgets.set_budget(
            ROOT, customer_id, department, "Q1 2025", Decimal(1000), budget_id=budget_id
        )
    people.add_user(
        ROOT,
        "fiona",
        "Fiona Adams",
        "fiona@acme.com",
        Role.FPA_USER,
        customer_id="acme",
        password=None,
        slots_folder=slots(),
    )
    reserve("open", 100)
    manual_budgets.set_budget(
        ROOT, "acme", "Engineering", "Q1 2025", Decimal(1000), auto_approve_limit=Decimal(10)
    )
    reserve("partly-spent", 200)
    commit("partly-spent", 50)
    reserve("partly-released", 30)
    release("partly-released", 10, ReleaseAction.MANUAL)
    reserve("spent", 70)
    commit("spent", 70)
    reserve("released", 40)
    release("released", 40)
    reserve("exceeded", 10)
    commit("exceeded", 25)
    reserve("remainder", 90)
    commit("remainder", 60, final=True)
    reserve("over", 5000, over_budget=OverBudget(approved_by="fiona", reason="The auditors insist"))
    release("over", 5000, ReleaseAction.CANCEL)
    manual_budgets.set_budget(ROOT, "acme", "Engineering", "Q1 2025", Decimal(2000))
    reserve("elsewhere", 5, QUIET)
    reserve("as-much-here", 5)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with those movements, written once."""
    path = tmp_path_factory.mktemp("written") / "budget_sync.db"
    database.connect(path, create=True)
    database.init_schema()
    move_money()
    database.close_connection()
    return path


@pytest.fixture
def books(request: pytest.FixtureRequest, app: Flask) -> Flask:
    """The app on a database with those movements."""
    if ENGINE != "sqlite":
        move_money()
        return app
    written = request.getfixturevalue("written")
    # Making that file connected the process to it.
    database.connect(app.config["SETTINGS"].database)
    with (
        closing(sqlite3.connect(written)) as source,
        closing(sqlite3.connect(db.file_path)) as target,
    ):
        source.backup(target)
    return app


def verify(app: Flask) -> Result:
    """What the command says."""
    return app.test_cli_runner().invoke(args=["verify"])


def by_hand(*statements: str, unchecked: bool = False) -> None:
    """Change the database as whoever has its shell can: with foreign keys and triggers off, and with `unchecked` the constraints as well."""
    with closing(shell(unchecked=unchecked)) as connection:
        for statement in statements:
            changed = connection.execute(statement)
            # A change that hits no row would prove nothing.
            assert changed.rowcount != 0, statement


def shell(*, unchecked: bool) -> Any:
    """A connection that nothing holds back."""
    if ENGINE == "sqlite":
        # Foreign keys are off unless asked for.
        connection = sqlite3.connect(db.file_path, isolation_level=None)
        off = ['DROP TRIGGER "AuditLog_no_update"', 'DROP TRIGGER "AuditLog_no_delete"'] + [
            "PRAGMA ignore_check_constraints = ON"
        ] * unchecked
    else:
        connection = psycopg.connect(str(db.connection().info.dsn), autocommit=True)
        checks = """SELECT conname FROM pg_constraint WHERE conrelid = '"Reservation"'::regclass AND contype = 'c'"""
        drop = [
            f'ALTER TABLE "Reservation" DROP CONSTRAINT "{name}"'
            for (name,) in connection.execute(checks)
        ]
        off = ["SET session_replication_role = replica"] + drop * unchecked
    for statement in off:
        connection.execute(statement)
    return connection


def test_nothing_is_found_in_an_empty_database(app: Flask) -> None:
    result = verify(app)
    assert (result.exit_code, result.stderr) == (0, "")
    assert (
        result.stdout
        == "Verified: 0 budgets, 0 reservations, 0 audit rows. All balances are consistent.\n"
    )


def test_nothing_is_found_after_traffic(books: Flask) -> None:
    result = verify(books)
    assert (result.exit_code, result.stderr) == (0, "")
    rows = db.execute_sql('SELECT COUNT(*) FROM "AuditLog"').fetchone()[0]
    assert (
        result.stdout
        == f"Verified: 3 budgets, 10 reservations, {rows} audit rows. All balances are consistent.\n"
    )


def test_nothing_is_found_after_refused_movements(books: Flask) -> None:
    with pytest.raises(RequestError):
        reserve("too-much", 5000)
    with pytest.raises(RequestError):
        reserve("open", 99)
    with pytest.raises(RequestError):
        release("open", 101)
    with pytest.raises(RequestError):
        commit("open", 5000)
    assert verify(books).exit_code == 0


def test_nothing_is_found_while_money_moves(books: Flask) -> None:
    stop = threading.Event()
    moved: list[int] = []

    def traffic() -> None:
        while not stop.is_set():
            reserve(f"later-{len(moved)}", 1)
            release(f"later-{len(moved)}", 1)
            moved.append(1)
        database.close_connection()

    thread = threading.Thread(target=traffic)
    thread.start()
    try:
        findings = []
        while len(moved) < 20 and thread.is_alive():
            findings += verification.verify().findings
    finally:
        stop.set()
        thread.join()
    assert findings == []
    assert len(moved) >= 20


ADJUSTED = {
    "a reserved counter": f"""UPDATE "BudgetUtilization" SET "reservedMinor" = "reservedMinor" + 1 WHERE "budgetId" = '{BUSY}'""",
    "a committed counter": f"""UPDATE "BudgetUtilization" SET "committedMinor" = "committedMinor" - 1 WHERE "budgetId" = '{BUSY}'""",
    "money moved from reserved to committed": f"""
        UPDATE "BudgetUtilization" SET "reservedMinor" = "reservedMinor" - 100, "committedMinor" = "committedMinor" + 100 WHERE "budgetId" = '{BUSY}'
    """,
    "a version counted up": f"""UPDATE "BudgetUtilization" SET "version" = "version" + 1 WHERE "budgetId" = '{BUSY}'""",
    "a version counted down": f"""UPDATE "BudgetUtilization" SET "version" = "version" - 1 WHERE "budgetId" = '{BUSY}'""",
    "a budgeted amount": f"""UPDATE "Budget" SET "budgetedMinor" = "budgetedMinor" + 1 WHERE "id" = '{BUSY}'""",
    "a utilisation row deleted": f"""DELETE FROM "BudgetUtilization" WHERE "budgetId" = '{BUSY}'""",
    "a budget deleted": f"""DELETE FROM "Budget" WHERE "id" = '{BUSY}'""",
    "the first audit row deleted": f"""DELETE FROM "AuditLog" WHERE "budgetId" = '{BUSY}' AND "version" = 1""",
    "the last audit row deleted": f"""
        DELETE FROM "AuditLog" WHERE "budgetId" = '{BUSY}' AND "version" = (SELECT MAX("version") FROM "AuditLog" WHERE "budgetId" = '{BUSY}')
    """,
    "an audit row without money deleted": """DELETE FROM "AuditLog" WHERE "field" = 'autoApproveLimit'""",
    "a movement deleted": """DELETE FROM "AuditLog" WHERE "requestId" = 'open'""",
    "two movements deleted that cancel out": """DELETE FROM "AuditLog" WHERE "requestId" = 'released'""",
    "every audit row deleted": f"""DELETE FROM "AuditLog" WHERE "budgetId" = '{BUSY}'""",
    "an audit row added": f"""
        INSERT INTO "AuditLog" ("customerId", "budgetId", "version", "action", "principal", "changedBy", "createdAt")
        SELECT 'acme', '{BUSY}', MAX("version") + 1, 'UPDATE', 'command', 'root (command line)', '2025-02-05T10:30:00Z'
        FROM "AuditLog" WHERE "budgetId" = '{BUSY}'
    """,
    "a release told as a commit": """UPDATE "AuditLog" SET "action" = 'COMMIT' WHERE "requestId" = 'released' AND "action" = 'RELEASE'""",
    "an audit row's reserved delta": """
        UPDATE "AuditLog" SET "reservedDeltaMinor" = "reservedDeltaMinor" + 1 WHERE "requestId" = 'open'
    """,
    "an audit row's committed delta": """
        UPDATE "AuditLog" SET "committedDeltaMinor" = "committedDeltaMinor" + 1 WHERE "requestId" = 'spent' AND "action" = 'COMMIT'
    """,
    "an audit row's budgeted delta": """UPDATE "AuditLog" SET "budgetedDeltaMinor" = 1 WHERE "requestId" = 'open'""",
    "deltas swapped between two requests": """
        UPDATE "AuditLog" SET "reservedDeltaMinor" = CASE "requestId" WHEN 'open' THEN 20000 ELSE 10000 END
        WHERE "action" = 'RESERVE' AND "requestId" IN ('open', 'partly-spent')
    """,
    "an audit row's request": """UPDATE "AuditLog" SET "requestId" = 'another' WHERE "requestId" = 'open'""",
    "an audit row's requester": """UPDATE "AuditLog" SET "subject" = 'another' WHERE "requestId" = 'open'""",
    "an audit row's budget": f"""UPDATE "AuditLog" SET "budgetId" = '{QUIET}', "version" = 99 WHERE "requestId" = 'open'""",
    "an audit row's version": """UPDATE "AuditLog" SET "version" = 99 WHERE "requestId" = 'open'""",
    "a reservation's amount": """
        UPDATE "Reservation" SET "amountMinor" = "amountMinor" + 1, "heldMinor" = "heldMinor" + 1 WHERE "requestId" = 'open'
    """,
    "a reservation's amount and what was released": """
        UPDATE "Reservation" SET "amountMinor" = "amountMinor" + 1, "releasedMinor" = "releasedMinor" + 1 WHERE "requestId" = 'released'
    """,
    "a reservation's amount and what was committed": """
        UPDATE "Reservation" SET "amountMinor" = "amountMinor" + 1, "committedMinor" = "committedMinor" + 1 WHERE "requestId" = 'spent'
    """,
    "committed told as released": """
        UPDATE "Reservation" SET "releasedMinor" = "committedMinor", "committedMinor" = 0 WHERE "requestId" = 'spent'
    """,
    "released told as exceeded": """
        UPDATE "Reservation" SET "releasedMinor" = "releasedMinor" + 1, "exceededMinor" = "exceededMinor" + 1 WHERE "requestId" = 'released'
    """,
    "held given back without a word": """
        UPDATE "Reservation" SET "heldMinor" = "heldMinor" - 1, "releasedMinor" = "releasedMinor" + 1 WHERE "requestId" = 'open'
    """,
    "a reservation's request": """UPDATE "Reservation" SET "requestId" = 'another' WHERE "requestId" = 'open'""",
    "a reservation's requester": """UPDATE "Reservation" SET "requesterId" = 'another' WHERE "requestId" = 'open'""",
    "a reservation's id": """UPDATE "Reservation" SET "id" = 'res-another' WHERE "requestId" = 'open'""",
    "a reservation closed": """
        UPDATE "Reservation" SET "status" = 'closed', "releasedMinor" = "amountMinor", "heldMinor" = 0, "closedAt" = "createdAt", "closedAfterCheck" = 0,
            "closingCall" = 'release:reject:10000', "closingReply" = '{}' WHERE "requestId" = 'open'
    """,
    "a reservation opened again": """
        UPDATE "Reservation" SET "status" = 'open', "releasedMinor" = 0, "heldMinor" = "amountMinor", "closedAt" = NULL WHERE "requestId" = 'released'
    """,
    "a reservation deleted": """DELETE FROM "Reservation" WHERE "requestId" = 'open'""",
    "a settled reservation deleted": """DELETE FROM "Reservation" WHERE "requestId" = 'released'""",
    "a reservation added": f"""
        INSERT INTO "Reservation" ("id", "customerId", "budgetId", "requestId", "requesterId", "requesterName", "requesterEmail", "currencyExponent",
            "amountMinor", "heldMinor", "status", "createdAt", "reserveReply")
        VALUES ('res-new', 'acme', '{BUSY}', 'new', 'user-123', '', '', 2, 1, 1, 'open', '2025-02-05T10:30:00Z', '{{}}')
    """,
}

# What the database's own constraints refuse, unless somebody turned them off as well.
UNCHECKED = {
    "a reservation called closed while it holds money": """UPDATE "Reservation" SET "status" = 'closed' WHERE "requestId" = 'open'""",
    "a reservation called open while it holds nothing": """UPDATE "Reservation" SET "status" = 'open' WHERE "requestId" = 'released'""",
    "a reservation of more than became of it": """UPDATE "Reservation" SET "releasedMinor" = "releasedMinor" + 1 WHERE "requestId" = 'open'""",
}


def found(app: Flask) -> list[str]:
    """The findings: lines on standard error, before the last one that counts them."""
    result = verify(app)
    assert (result.exit_code, result.stdout) == (1, "")
    *findings, last = result.stderr.splitlines()
    assert last.startswith(f"Error: {len(findings)} contradictions found in ")
    assert findings
    return findings


@pytest.mark.parametrize("change", ADJUSTED.values(), ids=ADJUSTED)
def test_verify_finds_by_its_budget(books: Flask, change: str) -> None:
    by_hand(change)
    # Each of these is about the busy budget; what moved an audit row to the quiet one is about both.
    allowed = (f"Budget {BUSY}: ", f"Budget {QUIET}: ") if QUIET in change else f"Budget {BUSY}: "
    findings = found(books)
    assert all(finding.startswith(allowed) for finding in findings), findings
    assert any(finding.startswith(f"Budget {BUSY}: ") for finding in findings)


@pytest.mark.parametrize("change", UNCHECKED.values(), ids=UNCHECKED)
def test_verify_finds_what_the_constraints_were_turned_off_for(books: Flask, change: str) -> None:
    by_hand(change, unchecked=True)
    assert all(finding.startswith(f"Budget {BUSY}: ") for finding in found(books))


def test_verify_finds_a_reservation_moved_to_another_budget_on_both(books: Flask) -> None:
    by_hand(f"""UPDATE "Reservation" SET "budgetId" = '{QUIET}' WHERE "requestId" = 'open'""")
    assert {finding.partition(": ")[0] for finding in found(books)} == {
        f"Budget {BUSY}",
        f"Budget {QUIET}",
    }


def test_verify_finds_two_reservations_of_one_amount_that_changed_places(books: Flask) -> None:
    by_hand(f"""
        UPDATE "Reservation" SET "budgetId" = CASE "budgetId" WHEN '{QUIET}' THEN '{BUSY}' ELSE '{QUIET}' END
        WHERE "requestId" IN ('elsewhere', 'as-much-here')
    """)
    assert {finding.partition(": ")[0] for finding in found(books)} == {
        f"Budget {BUSY}",
        f"Budget {QUIET}",
    }


def test_verify_finds_a_reservation_moved_with_its_counters_and_audit_rows_left(
    books: Flask,
) -> None:
    by_hand(
        f"""UPDATE "Reservation" SET "budgetId" = '{QUIET}' WHERE "requestId" = 'open'""",
        f"""UPDATE "BudgetUtilization" SET "reservedMinor" = "reservedMinor" - 10000 WHERE "budgetId" = '{BUSY}'""",
        f"""UPDATE "BudgetUtilization" SET "reservedMinor" = "reservedMinor" + 10000 WHERE "budgetId" = '{QUIET}'""",
    )
    assert {finding.partition(": ")[0] for finding in found(books)} == {
        f"Budget {BUSY}",
        f"Budget {QUIET}",
    }


def test_verify_finds_a_reservation_given_to_another_customer(books: Flask) -> None:
    by_hand(
        f"""UPDATE "Reservation" SET "customerId" = 'globex', "budgetId" = '{FOREIGN}' WHERE "requestId" = 'open'"""
    )
    assert {finding.partition(": ")[0] for finding in found(books)} == {
        f"Budget {BUSY}",
        f"Budget {FOREIGN}",
    }


def test_verify_finds_movements_of_no_budget_that_tell_of_reservations(books: Flask) -> None:
    by_hand(
        *(
            f"""
        INSERT INTO "AuditLog" ("customerId", "action", "reservationId", "principal", "changedBy", "createdAt")
        VALUES ('acme', 'RELEASE', 'res-{number}', 'command', 'root (command line)', '2025-02-05T10:30:00Z')
        """
            for number in range(2)
        ),
        """DELETE FROM "Reservation" WHERE "requestId" = 'open'""",
    )
    findings = found(books)
    assert [
        finding.partition(": ")[0]
        for finding in findings
        if "that is not there: reservation res-" in finding
    ][:2] == ["No budget", "No budget"], findings


def test_a_counter_raised_together_with_its_reservation_still_contradicts_the_audit_log(
    books: Flask,
) -> None:
    by_hand(
        """UPDATE "Reservation" SET "amountMinor" = "amountMinor" + 1, "heldMinor" = "heldMinor" + 1 WHERE "requestId" = 'open'""",
        f"""UPDATE "BudgetUtilization" SET "reservedMinor" = "reservedMinor" + 1 WHERE "budgetId" = '{BUSY}'""",
    )
    assert all("audit" in finding for finding in found(books))


@pytest.mark.parametrize("column", ["reserved", "committed"])
def test_a_counter_raised_together_with_the_audit_log_still_contradicts_the_reservations(
    books: Flask, column: str
) -> None:
    by_hand(
        f"""UPDATE "BudgetUtilization" SET "{column}Minor" = "{column}Minor" + 1, "version" = "version" + 1 WHERE "budgetId" = '{BUSY}'""",
        f"""
        INSERT INTO "AuditLog" ("customerId", "budgetId", "version", "action", "{column}DeltaMinor", "principal", "changedBy", "createdAt")
        SELECT 'acme', '{BUSY}', MAX("version") + 1, 'COMMIT', 1, 'command', 'root (command line)', '2025-02-05T10:30:00Z'
        FROM "AuditLog" WHERE "budgetId" = '{BUSY}'
        """,
    )
    assert any(
        finding.startswith(f"Budget {BUSY}: the counters are not what its reservations add up to: ")
        for finding in found(books)
    )


def test_verify_finds_a_budget_deleted_with_its_utilisation(books: Flask) -> None:
    by_hand(
        f"""DELETE FROM "BudgetUtilization" WHERE "budgetId" = '{BUSY}'""",
        f"""DELETE FROM "Budget" WHERE "id" = '{BUSY}'""",
    )
    assert all(finding.startswith(f"Budget {BUSY}: ") for finding in found(books))


def test_a_finding_says_both_figures(books: Flask) -> None:
    by_hand(f"""UPDATE "BudgetUtilization" SET "reservedMinor" = 1 WHERE "budgetId" = '{QUIET}'""")
    figures = "reserved 1 against 500, committed 0 against 0 (minor units)."
    assert found(books) == [
        f"Budget {QUIET}: the counters are not what its reservations add up to: {figures}",
        f"Budget {QUIET}: the balances are not what its audit log replays to: budgeted 100000 against 100000, {figures}",
    ]


def test_every_budget_that_is_wrong_is_named(books: Flask) -> None:
    by_hand('UPDATE "BudgetUtilization" SET "version" = "version" + 1')
    assert [finding.partition(": ")[0] for finding in found(books)] == [
        f"Budget {budget_id}" for budget_id in (BUSY, FOREIGN, QUIET)
    ]


def test_verify_repairs_nothing(books: Flask) -> None:
    by_hand(f"""UPDATE "BudgetUtilization" SET "reservedMinor" = 1 WHERE "budgetId" = '{QUIET}'""")
    assert found(books) == found(books)
    assert db.execute_sql(
        f"""SELECT "reservedMinor" FROM "BudgetUtilization" WHERE "budgetId" = '{QUIET}'"""
    ).fetchone() == (1,)
