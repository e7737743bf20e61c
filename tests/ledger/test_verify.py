"""`flask verify`: the balances agree after any traffic, and it finds changes made by hand."""

from __future__ import annotations

import datetime as dt
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
from budget_sync.accounts import customers, people
from budget_sync.database import db
from budget_sync.domain.errors import RequestError
from budget_sync.domain.permissions import Actor, Role
from budget_sync.domain.request_models import (
    AmendRequest,
    CommitRequest,
    OverBudget,
    ReleaseAction,
    ReleaseRequest,
    ReserveRequest,
    ReverseRequest,
    ReverseTo,
    SpendRequest,
)
from budget_sync.ledger import verification

pytestmark = pytest.mark.both_engines

BUSY, QUIET, SECOND, FOREIGN = "busy-1", "quiet-1", "second-1", "globex-1"

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
    """Every kind of movement on "busy-1", one open reservation on "quiet-1", none on "globex-1"."""
    customers.add_customer(ROOT, "acme", "Acme")
    customers.add_customer(ROOT, "globex", "Globex")
    for customer_id, budget_id, department in (
        ("acme", BUSY, "Engineering"),
        ("acme", QUIET, "Legal"),
        ("acme", SECOND, "Sales"),
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
    change_later()
    reserve("elsewhere", 5, QUIET)
    reserve("as-much-here", 5)


def change_later() -> None:
    """Amendments, a move that leaves and one that enters, a reversal of two commits, a spend."""
    reserve("amended", 50)
    amend("amended", amount=Decimal(60))
    reserve("moved", 20)
    amend("moved", to_budget_id=SECOND)
    for number in range(2):
        reserve(f"reversed-{number}", 40)
        commit(f"reversed-{number}", 40)
        reverse(f"reversed-{number}", 10)
    ledger.spend(
        FIONA,
        SpendRequest(
            spend_id="card",
            budget_id=BUSY,
            amount=Decimal(15),
            date=dt.date(2025, 3, 31),
            reason="A train",
        ),
    )
    reverse("card", 5)


def amend(request_id: str, **more: Any) -> None:
    ledger.amend(
        FIONA,
        AmendRequest(budget_id=BUSY, request_id=request_id, reason="The price changed", **more),
    )


def reverse(request_id: str, amount: int, to: ReverseTo = ReverseTo.AVAILABLE) -> None:
    ledger.reverse(
        FIONA,
        ReverseRequest(
            budget_id=BUSY,
            request_id=request_id,
            amount=Decimal(amount),
            to=to,
            reason="A credit note",
        ),
    )


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with those movements, created once."""
    path = tmp_path_factory.mktemp("template") / "budget_sync.db"
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
    template = request.getfixturevalue("template")
    # The fixture connected the process to the template file.
    database.connect(app.config["SETTINGS"].database)
    with (
        closing(sqlite3.connect(template)) as source,
        closing(sqlite3.connect(db.file_path)) as target,
    ):
        source.backup(target)
    return app


def verify(app: Flask) -> Result:
    """Run the command."""
    return app.test_cli_runner().invoke(args=["verify"])


def tamper(*statements: str, unchecked: bool = False) -> None:
    """Change the database without foreign keys and triggers; `unchecked`: without constraints."""
    with closing(shell(unchecked=unchecked)) as connection:
        for statement in statements:
            changed = connection.execute(statement)
            # A change of no row would test nothing.
            assert changed.rowcount != 0, statement


def shell(*, unchecked: bool) -> Any:
    """A connection without foreign keys and triggers; `unchecked`: without constraints."""
    if ENGINE == "sqlite":
        # Foreign keys are off by default.
        connection = sqlite3.connect(db.file_path, isolation_level=None)
        off = ['DROP TRIGGER "AuditLog_no_update"', 'DROP TRIGGER "AuditLog_no_delete"'] + [
            "PRAGMA ignore_check_constraints = ON"
        ] * unchecked
    else:
        connection = psycopg.connect(str(db.connection().info.dsn), autocommit=True)
        checks = """
            SELECT conname FROM pg_constraint
            WHERE conrelid = '"Reservation"'::regclass AND contype = 'c'
        """
        drop = [
            f'ALTER TABLE "Reservation" DROP CONSTRAINT "{name}"'
            for (name,) in connection.execute(checks)
        ]
        off = ["SET session_replication_role = replica"] + drop * unchecked
    for statement in off:
        connection.execute(statement)
    return connection


def test_empty_database_verifies(app: Flask) -> None:
    result = verify(app)
    assert (result.exit_code, result.stderr) == (0, "")
    assert (
        result.stdout
        == "Verified: 0 budgets, 0 reservations, 0 audit rows. All balances are consistent.\n"
    )


def test_balances_verify_after_traffic(books: Flask) -> None:
    result = verify(books)
    assert (result.exit_code, result.stderr) == (0, "")
    rows = db.execute_sql('SELECT COUNT(*) FROM "AuditLog"').fetchone()[0]
    assert (
        result.stdout == f"Verified: 4 budgets, 15 reservations, {rows} audit rows. "
        "All balances are consistent.\n"
    )


def test_balances_verify_after_failed_movements(books: Flask) -> None:
    with pytest.raises(RequestError):
        reserve("too-much", 5000)
    with pytest.raises(RequestError):
        reserve("open", 99)
    with pytest.raises(RequestError):
        release("open", 101)
    with pytest.raises(RequestError):
        commit("open", 5000)
    assert verify(books).exit_code == 0


def test_balances_verify_while_money_moves(books: Flask) -> None:
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
        findings: list[str] = []
        while len(moved) < 20 and thread.is_alive():
            findings += verification.verify().findings
    finally:
        stop.set()
        thread.join()
    assert findings == []
    assert len(moved) >= 20


def update(table: str, changes: str, where: str) -> str:
    """An UPDATE statement."""
    return f'UPDATE "{table}" SET {changes} WHERE {where}'


def delete(table: str, where: str) -> str:
    """A DELETE statement."""
    return f'DELETE FROM "{table}" WHERE {where}'


OF_BUSY = f""" "budgetId" = '{BUSY}' """
OPEN, SPENT, RELEASED = (f""" "requestId" = '{name}' """ for name in ("open", "spent", "released"))

TAMPERED = {
    "a reserved counter": update(
        "BudgetUtilization", '"reservedMinor" = "reservedMinor" + 1', OF_BUSY
    ),
    "a committed counter": update(
        "BudgetUtilization", '"committedMinor" = "committedMinor" - 1', OF_BUSY
    ),
    "money moved from reserved to committed": update(
        "BudgetUtilization",
        '"reservedMinor" = "reservedMinor" - 100, "committedMinor" = "committedMinor" + 100',
        OF_BUSY,
    ),
    "a version increased": update("BudgetUtilization", '"version" = "version" + 1', OF_BUSY),
    "a version decreased": update("BudgetUtilization", '"version" = "version" - 1', OF_BUSY),
    "a budgeted amount": update(
        "Budget", '"budgetedMinor" = "budgetedMinor" + 1', f""" "id" = '{BUSY}' """
    ),
    "a utilization row deleted": delete("BudgetUtilization", OF_BUSY),
    "a budget deleted": delete("Budget", f""" "id" = '{BUSY}' """),
    "the first audit row deleted": delete("AuditLog", f'{OF_BUSY} AND "version" = 1'),
    "the last audit row deleted": delete(
        "AuditLog",
        f'{OF_BUSY} AND "version" = (SELECT MAX("version") FROM "AuditLog" WHERE {OF_BUSY})',
    ),
    "an audit row without money deleted": delete("AuditLog", "\"field\" = 'autoApproveLimit'"),
    "a movement deleted": delete("AuditLog", OPEN),
    "two movements deleted that cancel out": delete("AuditLog", RELEASED),
    "every audit row deleted": delete("AuditLog", OF_BUSY),
    "an audit row added": f"""
        INSERT INTO "AuditLog"
            ("customerId", "budgetId", "version", "action", "principal", "changedBy", "createdAt")
        SELECT 'acme', '{BUSY}', MAX("version") + 1, 'UPDATE', 'command', 'root (command line)',
            '2025-02-05T10:30:00Z'
        FROM "AuditLog" WHERE {OF_BUSY}
    """,
    "a release logged as a commit": update(
        "AuditLog", "\"action\" = 'COMMIT'", f"{RELEASED} AND \"action\" = 'RELEASE'"
    ),
    "an audit row's reserved delta": update(
        "AuditLog", '"reservedDeltaMinor" = "reservedDeltaMinor" + 1', OPEN
    ),
    "an audit row's committed delta": update(
        "AuditLog",
        '"committedDeltaMinor" = "committedDeltaMinor" + 1',
        f"{SPENT} AND \"action\" = 'COMMIT'",
    ),
    "an audit row's budgeted delta": update("AuditLog", '"budgetedDeltaMinor" = 1', OPEN),
    "deltas swapped between two requests": """
        UPDATE "AuditLog"
        SET "reservedDeltaMinor" = CASE "requestId" WHEN 'open' THEN 20000 ELSE 10000 END
        WHERE "action" = 'RESERVE' AND "requestId" IN ('open', 'partly-spent')
    """,
    "an audit row's request": update("AuditLog", "\"requestId\" = 'another'", OPEN),
    "an audit row's requester": update("AuditLog", "\"subject\" = 'another'", OPEN),
    "an audit row's budget": update(
        "AuditLog", f""" "budgetId" = '{QUIET}', "version" = 99 """, OPEN
    ),
    "an audit row's version": update("AuditLog", '"version" = 99', OPEN),
    "a reservation's amount": update(
        "Reservation",
        '"amountMinor" = "amountMinor" + 1, "heldMinor" = "heldMinor" + 1',
        OPEN,
    ),
    "a reservation's amount and released amount": update(
        "Reservation",
        '"amountMinor" = "amountMinor" + 1, "releasedMinor" = "releasedMinor" + 1',
        RELEASED,
    ),
    "a reservation's amount and committed amount": update(
        "Reservation",
        '"amountMinor" = "amountMinor" + 1, "committedMinor" = "committedMinor" + 1',
        SPENT,
    ),
    "committed changed to released": update(
        "Reservation", '"releasedMinor" = "committedMinor", "committedMinor" = 0', SPENT
    ),
    "released and exceeded increased": update(
        "Reservation",
        '"releasedMinor" = "releasedMinor" + 1, "exceededMinor" = "exceededMinor" + 1',
        RELEASED,
    ),
    "held released without an audit row": update(
        "Reservation",
        '"heldMinor" = "heldMinor" - 1, "releasedMinor" = "releasedMinor" + 1',
        OPEN,
    ),
    "a reservation's request": update("Reservation", "\"requestId\" = 'another'", OPEN),
    "a reservation's requester": update("Reservation", "\"requesterId\" = 'another'", OPEN),
    "a reservation's id": update("Reservation", "\"id\" = 'res-another'", OPEN),
    "a reservation closed": update(
        "Reservation",
        """
        "status" = 'closed', "releasedMinor" = "amountMinor", "heldMinor" = 0,
        "closedAt" = "createdAt", "closedAfterCheck" = 0,
        "closingCall" = 'release:reject:10000', "closingReply" = '{}'
        """,
        OPEN,
    ),
    "a reservation opened again": update(
        "Reservation",
        """
        "status" = 'open', "releasedMinor" = 0, "heldMinor" = "amountMinor", "closedAt" = NULL
        """,
        RELEASED,
    ),
    "a reservation deleted": delete("Reservation", OPEN),
    "a settled reservation deleted": delete("Reservation", RELEASED),
    "a reservation added": f"""
        INSERT INTO "Reservation" ("id", "customerId", "budgetId", "requestId", "requesterId",
            "requesterName", "requesterEmail", "currencyExponent", "amountMinor", "heldMinor",
            "version", "status", "createdAt", "reserveReply")
        VALUES ('res-new', 'acme', '{BUSY}', 'new', 'user-123', '', '', 2, 1, 1, 1, 'open',
            '2025-02-05T10:30:00Z', '{{}}')
    """,
}

AMENDED, REVERSED, CARD = (
    f""" "requestId" = '{name}' """ for name in ("amended", "reversed-0", "card")
)
SPEND = "\"spendId\" = 'card'"
LEFT = f""" "requestId" = 'moved' AND "action" = 'TRANSFER' AND {OF_BUSY} """
A_RESERVATION = "a reservation differs from the sum of its audit rows"
A_SPEND = "a spend differs from the sum of its audit rows"
NO_SPEND = "audit rows name a spend that does not exist"
A_MOVE = "the two rows of a move to another budget do not fit together"
AN_ACTION = "the amounts of an audit row do not fit its action"

# Changes of what the later verbs wrote, with the sentence that must be among the findings.
LATER = {
    "a reservation's version": (
        A_RESERVATION,
        update("Reservation", '"version" = "version" - 1', AMENDED),
    ),
    "an amended amount in another column": (
        A_RESERVATION,
        update("Reservation", '"adjustedMinor" = 0, "exceededMinor" = "adjustedMinor"', AMENDED),
    ),
    "a reversed amount": (
        A_RESERVATION,
        update("Reservation", '"reversedMinor" = "reversedMinor" + 1', REVERSED),
    ),
    "an amendment deleted": (
        A_RESERVATION,
        delete("AuditLog", f"{AMENDED} AND \"action\" = 'AMEND'"),
    ),
    "a reversal deleted": (
        A_RESERVATION,
        delete("AuditLog", f"{REVERSED} AND \"action\" = 'REVERSE'"),
    ),
    "a spend's amount": (A_SPEND, update("Spend", '"amountMinor" = "amountMinor" + 1', SPEND)),
    "a spend's reversed amount": (A_SPEND, update("Spend", '"reversedMinor" = 0', SPEND)),
    "a spend's version": (A_SPEND, update("Spend", '"version" = 1', SPEND)),
    "a spend's reversal deleted": (
        A_SPEND,
        delete("AuditLog", f"{CARD} AND \"action\" = 'REVERSE'"),
    ),
    "a spend deleted": (NO_SPEND, delete("Spend", SPEND)),
    "a spend's id": (NO_SPEND, update("Spend", "\"spendId\" = 'another'", SPEND)),
    "a spend in the counters only": (
        "the counters differ from the sum of its reservations and spend",
        delete("Spend", SPEND),
    ),
    "one row of a move deleted": (A_MOVE, delete("AuditLog", LEFT)),
    "a move without its id": (A_MOVE, update("AuditLog", '"transferId" = NULL', LEFT)),
    "another id of a move": (A_MOVE, update("AuditLog", "\"transferId\" = 'another'", LEFT)),
    "another request of a move": (A_MOVE, update("AuditLog", "\"requestId\" = 'open'", LEFT)),
    "another requester of a move": (A_MOVE, update("AuditLog", "\"subject\" = 'another'", LEFT)),
    "a move in one direction": (A_MOVE, update("AuditLog", '"reservedDeltaMinor" = 1', LEFT)),
    "a move with a third row": (
        A_MOVE,
        f"""
        UPDATE "AuditLog" SET "action" = 'TRANSFER', "transferId" =
            (SELECT "transferId" FROM "AuditLog" WHERE {LEFT})
        WHERE {AMENDED} AND "action" = 'AMEND'
        """,
    ),
    "an amendment of nothing": (
        AN_ACTION,
        update("AuditLog", '"reservedDeltaMinor" = 0', f"{AMENDED} AND \"action\" = 'AMEND'"),
    ),
    "an amendment that commits": (
        AN_ACTION,
        update("AuditLog", '"committedDeltaMinor" = 1', f"{AMENDED} AND \"action\" = 'AMEND'"),
    ),
    "a move that commits": (AN_ACTION, update("AuditLog", '"committedDeltaMinor" = 1', LEFT)),
    "a reversal that commits": (
        AN_ACTION,
        update("AuditLog", '"committedDeltaMinor" = 1', f"{CARD} AND \"action\" = 'REVERSE'"),
    ),
    "a reversal of nothing": (
        AN_ACTION,
        update("AuditLog", '"committedDeltaMinor" = 0', f"{CARD} AND \"action\" = 'REVERSE'"),
    ),
    "a spend that reserves": (
        AN_ACTION,
        update("AuditLog", '"reservedDeltaMinor" = 1', f"{CARD} AND \"action\" = 'SPEND'"),
    ),
    "a spend that returns money": (
        AN_ACTION,
        update("AuditLog", '"committedDeltaMinor" = -1', f"{CARD} AND \"action\" = 'SPEND'"),
    ),
}

# Changes that the database's constraints reject unless they are off too.
UNCHECKED = {
    "a closed reservation that holds money": update("Reservation", "\"status\" = 'closed'", OPEN),
    "an open reservation that holds nothing": update(
        "Reservation", "\"status\" = 'open'", RELEASED
    ),
    "a reservation whose amounts do not add up": update(
        "Reservation", '"releasedMinor" = "releasedMinor" + 1', OPEN
    ),
}


def findings_of(app: Flask) -> list[str]:
    """The findings: the lines on standard error before the last, which has their number."""
    result = verify(app)
    assert (result.exit_code, result.stdout) == (1, "")
    *findings, last = result.stderr.splitlines()
    assert last.startswith(f"Error: {len(findings)} contradictions found in ")
    assert findings
    return findings


@pytest.mark.parametrize("change", TAMPERED.values(), ids=TAMPERED)
def test_verify_names_the_budget_of_a_change(books: Flask, change: str) -> None:
    tamper(change)
    # Each change is about the busy budget. One moves an audit row to the quiet budget as well. A
    # move may be found on either of its budgets.
    allowed: tuple[str, ...] = (f"Budget {BUSY}: ", f"Budget {SECOND}: {A_MOVE}: ")
    if QUIET in change:
        allowed += (f"Budget {QUIET}: ",)
    findings = findings_of(books)
    assert all(finding.startswith(allowed) for finding in findings), findings
    assert any(finding.startswith(f"Budget {BUSY}: ") for finding in findings)


@pytest.mark.parametrize(("sentence", "change"), LATER.values(), ids=LATER)
def test_verify_finds_changes_of_later_verbs(books: Flask, sentence: str, change: str) -> None:
    tamper(change)
    findings = findings_of(books)
    assert any(f": {sentence}: " in finding for finding in findings), findings


@pytest.mark.parametrize("change", UNCHECKED.values(), ids=UNCHECKED)
def test_verify_finds_changes_made_without_constraints(books: Flask, change: str) -> None:
    tamper(change, unchecked=True)
    assert all(finding.startswith(f"Budget {BUSY}: ") for finding in findings_of(books))


def test_reservation_moved_to_another_budget(books: Flask) -> None:
    tamper(update("Reservation", f"\"budgetId\" = '{QUIET}'", OPEN))
    assert {finding.partition(": ")[0] for finding in findings_of(books)} == {
        f"Budget {BUSY}",
        f"Budget {QUIET}",
    }


def test_two_equal_reservations_swapped(books: Flask) -> None:
    tamper(f"""
        UPDATE "Reservation"
        SET "budgetId" = CASE "budgetId" WHEN '{QUIET}' THEN '{BUSY}' ELSE '{QUIET}' END
        WHERE "requestId" IN ('elsewhere', 'as-much-here')
    """)
    assert {finding.partition(": ")[0] for finding in findings_of(books)} == {
        f"Budget {BUSY}",
        f"Budget {QUIET}",
    }


def test_reservation_and_counters_moved_without_audit_rows(
    books: Flask,
) -> None:
    tamper(
        update("Reservation", f"\"budgetId\" = '{QUIET}'", OPEN),
        update("BudgetUtilization", '"reservedMinor" = "reservedMinor" - 10000', OF_BUSY),
        update(
            "BudgetUtilization",
            '"reservedMinor" = "reservedMinor" + 10000',
            f"\"budgetId\" = '{QUIET}'",
        ),
    )
    assert {finding.partition(": ")[0] for finding in findings_of(books)} == {
        f"Budget {BUSY}",
        f"Budget {QUIET}",
    }


def test_reservation_moved_to_another_customer(books: Flask) -> None:
    tamper(update("Reservation", f""" "customerId" = 'globex', "budgetId" = '{FOREIGN}' """, OPEN))
    assert {finding.partition(": ")[0] for finding in findings_of(books)} == {
        f"Budget {BUSY}",
        f"Budget {FOREIGN}",
    }


def test_audit_rows_without_budget_or_reservation(books: Flask) -> None:
    tamper(
        *(
            f"""
        INSERT INTO "AuditLog"
            ("customerId", "action", "reservationId", "principal", "changedBy", "createdAt")
        VALUES ('acme', 'RELEASE', 'res-{number}', 'command', 'root (command line)',
            '2025-02-05T10:30:00Z')
        """
            for number in range(2)
        ),
        delete("Reservation", OPEN),
    )
    findings = findings_of(books)
    assert [
        finding.partition(": ")[0]
        for finding in findings
        if "that does not exist: reservation res-" in finding
    ][:2] == ["No budget", "No budget"], findings


def test_counter_and_reservation_contradict_the_audit_log(
    books: Flask,
) -> None:
    tamper(
        TAMPERED["a reservation's amount"],
        TAMPERED["a reserved counter"],
    )
    assert all("audit" in finding for finding in findings_of(books))


@pytest.mark.parametrize("column", ["reserved", "committed"])
def test_counter_and_audit_log_contradict_the_reservations(books: Flask, column: str) -> None:
    tamper(
        update(
            "BudgetUtilization",
            f'"{column}Minor" = "{column}Minor" + 1, "version" = "version" + 1',
            OF_BUSY,
        ),
        f"""
        INSERT INTO "AuditLog" ("customerId", "budgetId", "version", "action",
            "{column}DeltaMinor", "principal", "changedBy", "createdAt")
        SELECT 'acme', '{BUSY}', MAX("version") + 1, 'COMMIT', 1, 'command',
            'root (command line)', '2025-02-05T10:30:00Z'
        FROM "AuditLog" WHERE {OF_BUSY}
        """,
    )
    assert any(
        finding.startswith(
            f"Budget {BUSY}: the counters differ from the sum of its reservations and spend: "
        )
        for finding in findings_of(books)
    )


def test_budget_deleted_with_its_utilization_row(books: Flask) -> None:
    tamper(
        TAMPERED["a utilization row deleted"],
        TAMPERED["a budget deleted"],
    )
    assert all(finding.startswith(f"Budget {BUSY}: ") for finding in findings_of(books))


def test_finding_shows_both_amounts(books: Flask) -> None:
    tamper(f"""UPDATE "BudgetUtilization" SET "reservedMinor" = 1 WHERE "budgetId" = '{QUIET}'""")
    amounts = "reserved 1 against 500, committed 0 against 0 (minor units)."
    counters = "the counters differ from the sum of its reservations and spend"
    assert findings_of(books) == [
        f"Budget {QUIET}: {counters}: {amounts}",
        (
            f"Budget {QUIET}: the balances differ from the sum of its audit log: "
            f"budgeted 100000 against 100000, {amounts}"
        ),
    ]


def test_every_contradicting_budget_is_named(books: Flask) -> None:
    tamper('UPDATE "BudgetUtilization" SET "version" = "version" + 1')
    assert [finding.partition(": ")[0] for finding in findings_of(books)] == [
        f"Budget {budget_id}" for budget_id in (BUSY, FOREIGN, QUIET, SECOND)
    ]


def test_verify_changes_nothing(books: Flask) -> None:
    tamper(f"""UPDATE "BudgetUtilization" SET "reservedMinor" = 1 WHERE "budgetId" = '{QUIET}'""")
    assert findings_of(books) == findings_of(books)
    assert db.execute_sql(
        f"""SELECT "reservedMinor" FROM "BudgetUtilization" WHERE "budgetId" = '{QUIET}'"""
    ).fetchone() == (1,)
