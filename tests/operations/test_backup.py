"""Backups and restores: complete or absent, rejected if damaged, safe while the service runs."""

from __future__ import annotations

import os
import pty
import re
import resource
import signal
import stat
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import click
import pytest
import time_machine
from flask import Flask
from peewee import sqlite3  # type: ignore[attr-defined]  # missing from peewee's stubs
from support.installation import Installation, found
from support.machine import ENGINE, PROJECT, root_only, wait_until
from support.templates import Templates
from support.world import PASSWORD, ROOT, check_body, reserve_body

from app import create_app
from budget_sync import database, ledger, manual_budgets, settings
from budget_sync.accounts import api_keys, authentication, customers, people
from budget_sync.database import audit_log, db
from budget_sync.database.models import ApiKey, AuditLog, BudgetUtilization, Reservation, Session
from budget_sync.domain.permissions import Actor, Role
from budget_sync.domain.request_models import ReserveRequest
from budget_sync.ledger import verification
from budget_sync.operations import backups
from budget_sync.settings import Settings

pytestmark = pytest.mark.skipif(ENGINE != "sqlite", reason="each test names its engine")

SERVICE = Actor("key:orchestrator", None, "orchestrator", None, Role.API_SYSTEM, "acme")
#: How many times the running service is backed up and restored.
ROUNDS = 3

NOW = datetime(2025, 2, 5, 10, 30, tzinfo=UTC)


def reserve(request_id: str) -> None:
    """Reserve $1."""
    ledger.reserve(
        SERVICE,
        ReserveRequest(
            budget_id="budget-1", request_id=request_id, amount=Decimal(1), user_id="jane"
        ),
    )


def flask(app: Flask, *arguments: str | Path) -> click.testing.Result:
    """Run a command."""
    with app.app_context():
        return app.test_cli_runner().invoke(
            args=[str(argument) for argument in arguments], prog_name="flask"
        )


def succeeds(app: Flask, *arguments: str | Path) -> str:
    """Run a command that must succeed; returns its output."""
    result = flask(app, *arguments)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout


def fails(app: Flask, *arguments: str | Path) -> str:
    """Run a command that must fail; returns its error.

    Asserts one line on standard error, and that no row and no file has changed.
    """
    folder = db.file_path.parent if database.is_file() else Path(app.instance_path)
    before = (rows(), sorted(folder.iterdir()))
    result = flask(app, *arguments)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1), result.output
    assert (rows(), sorted(folder.iterdir())) == before
    return result.stderr


def rows() -> dict[str, list[Any]]:
    """All rows of the connected database, sorted, without the tables Session and SchemaVersion."""
    database.open_connection()
    tables = sorted(set(db.get_tables()) - {"Session", "SchemaVersion"})
    return {
        table: sorted(
            repr([normalized(value) for value in row])
            for row in db.execute_sql(f'SELECT * FROM "{table}"').fetchall()
        )
        for table in tables
    }


def restored_rows(backup: str) -> dict[str, list[Any]]:
    """All rows except the last audit row, which must be about the restore of that backup."""
    found = rows()
    restore = AuditLog.select().order_by(AuditLog.id.desc()).first()
    assert (restore.action, restore.subject, restore.customerId, restore.budgetId) == (
        "RESTORE",
        backup,
        None,
        None,
    )
    assert restore.changedBy.endswith(" (command line)")
    found["AuditLog"] = [row for row in found["AuditLog"] if "'RESTORE'" not in row]
    return found


def normalized(value: object) -> object:
    """The value in a form that both engines share: 5000, 5000.0000 and true become floats."""
    return float(value) if isinstance(value, int | float | Decimal) else value


@pytest.fixture
def acme(app: Flask) -> Flask:
    """An app with a customer, a user, and a budget with $2 reserved."""
    return set_up(app)


def set_up(app: Flask) -> Flask:
    customers.add_customer(ROOT, "acme", "Acme Inc.")
    people.add_user(
        ROOT,
        "jane",
        "Jane Doe",
        "jane@acme.com",
        Role.BUSINESS_USER,
        customer_id="acme",
        password=None,
        slots_folder=Path(),
    )
    manual_budgets.set_budget(
        ROOT, "acme", "Engineering", "Q1 2025", Decimal(1000), budget_id="budget-1"
    )
    for request_id in ("before-1", "before-2"):
        reserve(request_id)
    return app


@pytest.fixture
def postgres_app(tmp_path: Path, postgres_templates: Templates) -> Iterator[Flask]:
    """The same on PostgreSQL."""
    with postgres_templates.copy("tables", tmp_path / "postgres") as environment:
        yield set_up(create_app(replace(settings.load(environment), busy_timeout_s=1.0)))


@pytest.fixture(params=["sqlite", "postgresql"])
def either(request: pytest.FixtureRequest) -> Flask:
    """Acme on each engine."""
    name = "acme" if request.param == "sqlite" else "postgres_app"
    app: Flask = request.getfixturevalue(name)
    return app


# Backup.


def test_backup_is_one_private_file_with_all_rows(either: Flask, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    output = succeeds(either, "backup", path)
    assert output == (
        f"Backed up to {path} ({path.stat().st_size:,} bytes): 1 budgets, 2 reservations, "
        "5 audit rows. All balances are consistent.\n"
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith((".", "a"))] == [
        "a.db"
    ]
    here = rows()
    with database.connected_to(path, immutable=True):
        assert rows() == here
    # Any SQLite client can read it, and creates no file beside it.
    assert found(path, "PRAGMA integrity_check") == [("ok",)]
    assert found(path, "PRAGMA journal_mode") == [("delete",)]


def test_backup_never_overwrites_a_file(acme: Flask, tmp_path: Path) -> None:
    for name in ("file", "link"):
        path = tmp_path / name
        path.symlink_to("nowhere") if name == "link" else path.write_text(
            "precious", encoding="utf-8"
        )
        assert (
            fails(acme, "backup", path)
            == f"Error: {path} exists. Choose another name: files are never overwritten.\n"
        )
    assert (tmp_path / "file").read_text(encoding="utf-8") == "precious"


def test_backup_in_a_folder_is_named_by_time_and_noted(acme: Flask, tmp_path: Path) -> None:
    note = Path(acme.instance_path) / "last_backup.json"
    assert backups.latest(note) is None
    with time_machine.travel(NOW, tick=False):
        succeeds(acme, "backup", tmp_path)
    path = tmp_path / "budget-sync-20250205T103000Z.db"
    assert path.exists()
    assert backups.latest(note) == (path, NOW)
    path.unlink()
    assert backups.latest(note) is None


def test_backup_that_cannot_be_noted_is_still_good(acme: Flask, tmp_path: Path) -> None:
    (Path(acme.instance_path) / "last_backup.json").mkdir()
    result = flask(acme, "backup", tmp_path / "a.db")
    assert (result.exit_code, result.stdout.startswith(f"Backed up to {tmp_path / 'a.db'} ")) == (
        0,
        True,
    )
    assert result.stderr.startswith(
        "Warning: the backup is good, but `flask doctor` will not know about it, because it could "
        "not be recorded: [Errno 21] Is a directory"
    )
    assert result.stderr.count("\n") == 1
    assert "All balances are consistent" in succeeds(acme, "restore", tmp_path / "a.db")


def test_backup_shows_progress_on_a_terminal_and_erases_it(
    app: Flask, environment: dict[str, str], tmp_path: Path
) -> None:
    installation = Installation(environment)
    terminal, theirs = pty.openpty()
    try:
        line = [sys.executable, "-m", "flask", "backup", str(tmp_path / "a.db")]
        done = subprocess.run(
            line,
            cwd=PROJECT,
            env=installation.full_environment(),
            stdout=subprocess.PIPE,
            stderr=theirs,
            check=True,
        )
        shown = os.read(terminal, 10_000).decode()
    finally:
        os.close(terminal)
        os.close(theirs)
    assert "\rcopying: 100%" in shown
    assert "\rverifying the copy" in shown
    assert re.search(r"\r +\r$", shown)
    assert done.stdout.startswith(b"Backed up to ")


def test_failed_backup_leaves_no_file(
    acme: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert fails(acme, "backup", tmp_path) == "Error: [Errno 28] No space left on device\n"
    assert list(tmp_path.glob("*.db*")) + list(tmp_path.glob(".*")) == []
    assert "No such file" in fails(acme, "backup", tmp_path / "missing" / "a.db")


def test_backup_of_wrong_balances_cannot_be_restored(acme: Flask, tmp_path: Path) -> None:
    BudgetUtilization.update(reservedMinor=199).execute()
    result = flask(acme, "backup", tmp_path / "a.db")
    assert result.exit_code == 1
    assert "contradictions found in 1 budgets" in result.stderr
    assert [path.name for path in tmp_path.glob("a.db*")] == ["a.db.unproven"]
    assert "2 contradictions were found in it; the first: Budget budget-1: the counters" in fails(
        acme, "restore", tmp_path / "a.db.unproven"
    )


def test_restore_upgrades_a_backup_of_an_older_schema(chosen: Settings, tmp_path: Path) -> None:
    chosen.instance_folder.mkdir(parents=True)
    with closing(sqlite3.connect(chosen.database_path)) as connection:
        connection.executescript(
            (PROJECT / "tests" / "schemas" / "1.sql").read_text(encoding="utf-8")
        )
    app = create_app(chosen)
    succeeds(app, "backup", tmp_path / "a.db")
    assert found(tmp_path / "a.db", 'SELECT MAX("version") FROM "SchemaVersion"') == [(1,)]
    assert "upgraded from schema version 1: " in succeeds(app, "restore", tmp_path / "a.db")
    assert "All balances are consistent" in succeeds(app, "verify")
    database.disconnect()


# Restore.


def test_restore_keeps_the_replaced_database(either: Flask, tmp_path: Path) -> None:
    succeeds(either, "backup", tmp_path / "a.db")
    backed_up = rows()
    reserve("after")
    replaced = rows()
    with time_machine.travel(NOW, tick=False):
        lines = succeeds(either, "restore", tmp_path / "a.db").splitlines()
    kept = Path(either.instance_path) / "replaced-20250205T103000Z.db"
    assert lines[0].startswith(
        f"Restored {tmp_path / 'a.db'}: 1 budgets, 2 reservations, 5 audit rows. "
    )
    assert lines[2] == f"The replaced database is kept: {kept}"
    assert restored_rows("a.db") == backed_up
    with database.connected_to(kept, immutable=True):
        assert rows() == replaced
    if database.is_file():
        assert stat.S_IMODE(db.file_path.stat().st_mode) == 0o600
    # New rows continue the numbers of the backup, and the append-only triggers exist again.
    reserve("later")
    assert verification.verify().findings == []
    with pytest.raises(Exception, match="append-only"):
        db.execute_sql("""UPDATE "AuditLog" SET "reason" = 'forged'""")


def test_two_restores_in_one_second_keep_both_databases(either: Flask, tmp_path: Path) -> None:
    succeeds(either, "backup", tmp_path / "a.db")
    reserve("after")
    replaced = [rows()]
    with time_machine.travel(NOW, tick=False):
        outputs = [succeeds(either, "restore", tmp_path / "a.db")]
        reserve("later")
        replaced.append(rows())
        outputs.append(succeeds(either, "restore", tmp_path / "a.db"))
    for output, name, old_rows in zip(
        outputs,
        ("replaced-20250205T103000Z.db", "replaced-20250205T103000Z-2.db"),
        replaced,
        strict=True,
    ):
        kept = Path(either.instance_path) / name
        assert f"The replaced database is kept: {kept}\n" in output
        with database.connected_to(kept, immutable=True):
            assert rows() == old_rows


def test_audit_log_has_time_user_and_file_of_each_restore(acme: Flask, tmp_path: Path) -> None:
    succeeds(acme, "backup", tmp_path / "a.db")
    for moment in (NOW, NOW.replace(hour=11)):
        with time_machine.travel(moment, tick=False):
            succeeds(acme, "restore", tmp_path / "a.db")
        (row,) = AuditLog.select().where(AuditLog.action == "RESTORE")
        assert (row.createdAt, row.subject, row.principal) == (moment, "a.db", "command")
    # A backup of the restored database has the audit row of that restore, too.
    succeeds(acme, "backup", tmp_path / "b.db")
    succeeds(acme, "restore", tmp_path / "b.db")
    restores = (
        AuditLog.select(AuditLog.subject).where(AuditLog.action == "RESTORE").order_by(AuditLog.id)
    )
    assert [row.subject for row in restores] == ["a.db", "b.db"]


def test_restore_creates_a_missing_database(
    either: Flask, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    succeeds(either, "backup", tmp_path / "a.db")
    backed_up = rows()
    database.disconnect()
    environment = {
        "INSTANCE_FOLDER": str(tmp_path / "new"),
        "SECRET_KEY": "a key for tests, long enough",
    }
    if not database.is_file():
        db.execute_sql('DROP SCHEMA "public" CASCADE; CREATE SCHEMA "public"')
        database.disconnect()
        environment["DATABASE_URL"] = request.getfixturevalue("postgres_url")
    connected_to = create_app(settings.load(environment))
    assert "There was no database before." in succeeds(connected_to, "restore", tmp_path / "a.db")
    assert restored_rows("a.db") == backed_up
    database.disconnect()


def test_backup_of_sqlite_can_be_restored_on_postgresql(
    acme: Flask, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    succeeds(acme, "backup", tmp_path / "a.db")
    backed_up = rows()
    other = request.getfixturevalue("postgres_app")
    reserve("lost")
    succeeds(other, "restore", tmp_path / "a.db")
    succeeds(other, "backup", tmp_path / "b.db")
    with database.connected_to(tmp_path / "b.db", immutable=True):
        assert restored_rows("a.db") == backed_up


@pytest.mark.parametrize("engine", ["templates", "postgres_templates"])
def test_restore_works_in_a_folder_with_special_characters(
    engine: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    copies: Templates = request.getfixturevalue(engine)
    with copies.copy("tables", tmp_path / "x#1?a=%41") as environment:
        app = set_up(create_app(settings.load(environment)))
        succeeds(app, "backup", tmp_path / "a.db")
        reserve("after")
        succeeds(app, "restore", tmp_path / "a.db")
        (kept,) = Path(app.instance_path).glob("replaced-*")
        assert requests_in(kept) == {"before-1", "before-2", "after"}
        database.disconnect()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.db", "x#1?a=%41"]


@root_only
def test_restore_by_root_keeps_the_owner_of_the_database(acme: Flask, tmp_path: Path) -> None:
    succeeds(acme, "backup", tmp_path / "a.db")
    os.chown(db.file_path, 1234, 1234)
    succeeds(acme, "restore", tmp_path / "a.db")
    assert (db.file_path.stat().st_uid, db.file_path.stat().st_gid) == (1234, 1234)


def test_restore_ends_sessions_and_names_reactivated_users(acme: Flask, tmp_path: Path) -> None:
    key = api_keys.add_key(ROOT, "orchestrator", customer_id="acme")
    people.add_user(
        ROOT,
        "bo",
        "Bo",
        "bo@acme.com",
        Role.ADMIN,
        customer_id="acme",
        password=None,
        slots_folder=Path(),
    )
    Session.insert(
        tokenHash="t", userId="jane", createdAt=NOW, expiresAt=datetime(2099, 1, 1, tzinfo=UTC)
    ).execute()
    succeeds(acme, "backup", tmp_path / "a.db")
    api_keys.revoke_key(ROOT, key.split("_")[1])
    people.disable_user(ROOT, "jane")
    people.set_password(ROOT, "bo", PASSWORD, slots_folder=Path(acme.instance_path))
    output = succeeds(acme, "restore", tmp_path / "a.db")
    named = [line.split(":")[0] for line in output.splitlines() if line.startswith("Check")]
    assert named == [
        f"Check key {key.split('_')[1]} (orchestrator)",
        "Check user bo (Bo)",
        "Check user jane (Jane Doe)",
    ]
    assert Session.select().count() == 0
    assert authentication.actor_of_key(key)


def test_restore_names_key_revoked_only_in_write_ahead_log(acme: Flask, tmp_path: Path) -> None:
    key = api_keys.add_key(ROOT, "orchestrator", customer_id="acme").split("_")[1]
    succeeds(acme, "backup", tmp_path / "a.db")
    with closing(sqlite3.connect(db.file_path, isolation_level=None)) as reader:
        reader.execute("BEGIN").execute('SELECT COUNT(*) FROM "AuditLog"').fetchall()
        api_keys.revoke_key(ROOT, key)
        db.obj.busy_timeout_s = 0.1
        output = succeeds(acme, "restore", tmp_path / "a.db")
        assert reader.execute('SELECT "revokedAt" FROM "ApiKey"').fetchall() == [(None,)], (
            "the reader still sees its own snapshot"
        )
    assert f"Check key {key} (orchestrator): it was revoked" in output
    (kept,) = Path(acme.instance_path).glob("replaced-*.db")
    with database.connected_to(kept):
        assert [row.revokedAt is None for row in ApiKey.select()] == [False]


def test_restore_reports_unreadable_replaced_database(acme: Flask, tmp_path: Path) -> None:
    succeeds(acme, "backup", tmp_path / "a.db")
    database.disconnect()
    db.file_path.write_bytes(b"garbage" * 1000)
    output = succeeds(acme, "restore", tmp_path / "a.db")
    assert "The replaced database cannot be read. Check every key and user" in output
    assert "All balances are consistent" in succeeds(acme, "verify")


@pytest.mark.parametrize("place", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999, 1.0])
def test_backup_with_one_wrong_byte_is_rejected(acme: Flask, tmp_path: Path, place: float) -> None:
    path = tmp_path / "a.db"
    succeeds(acme, "backup", path)
    whole = bytearray(path.read_bytes())
    whole[min(int(len(whole) * place), len(whole) - 1)] ^= 1
    path.write_bytes(whole)
    assert f"{path} cannot be restored, and nothing was changed: it is " in fails(
        acme, "restore", path
    )


@pytest.mark.parametrize("missing", [1, 60, 93, 94, 4096, 50_000])
def test_backup_that_was_cut_off_is_rejected(acme: Flask, tmp_path: Path, missing: int) -> None:
    path = tmp_path / "a.db"
    succeeds(acme, "backup", path)
    os.truncate(path, path.stat().st_size - missing)
    fails(acme, "restore", path)


def test_file_without_checksum_needs_an_option(acme: Flask, tmp_path: Path) -> None:
    succeeds(acme, "backup", tmp_path / "a.db")
    succeeds(acme, "restore", tmp_path / "a.db")
    (kept,) = Path(acme.instance_path).glob("replaced-*.db")
    replaced = kept.rename(tmp_path / "replaced.db")
    assert "it does not end with the checksum of a backup" in fails(acme, "restore", replaced)
    assert "All balances are consistent" in succeeds(
        acme, "restore", replaced, "--without-checksum"
    )


BROKEN = {
    "newer version": (
        """INSERT INTO "SchemaVersion" VALUES (99, '2026-01-01T00:00:00Z')""",
        "newer than this program's",
    ),
    "missing trigger": (
        'DROP TRIGGER "AuditLog_no_delete"',
        'trigger "AuditLog_no_delete" is missing or changed',
    ),
    "trigger without effect": (
        """DROP TRIGGER "AuditLog_no_delete";
        CREATE TRIGGER "AuditLog_no_delete" BEFORE DELETE ON "AuditLog" BEGIN SELECT 1; END""",
        'trigger "AuditLog_no_delete" is missing or changed',
    ),
    "missing index": (
        'DROP INDEX "Reservation_open"',
        'index "Reservation_open" is missing or changed',
    ),
    "version not a number": (
        """DROP TABLE "SchemaVersion"; CREATE TABLE "SchemaVersion" ("version" TEXT);
        INSERT INTO "SchemaVersion" VALUES ('3x')""",
        "is damaged: its schema version is '3x'",
    ),
    "another program": ('DROP TABLE "SchemaVersion"', "not of this program"),
    "reference to a missing row": (
        """UPDATE "Reservation" SET "budgetId" = 'none'""",
        "refers to a row of Budget that is not there",
    ),
    "wrong balances": (
        'UPDATE "BudgetUtilization" SET "reservedMinor" = 5',
        "contradictions were found in it; the first: Budget budget-1",
    ),
}


@pytest.mark.parametrize(("damage", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_sqlite_file_is_rejected(
    acme: Flask, tmp_path: Path, damage: str, message: str
) -> None:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as connection:
        database.open_connection()
        db.connection().backup(connection)
        connection.executescript(
            f"PRAGMA foreign_keys = off; {damage}; PRAGMA journal_mode = delete"
        )
    assert message in fails(acme, "restore", path)


def test_other_files_are_rejected(acme: Flask, tmp_path: Path) -> None:
    (tmp_path / "diary").write_text("Dear diary, " * 1024, encoding="utf-8")
    (tmp_path / "empty").touch()
    assert "it is not a database" in fails(acme, "restore", tmp_path / "diary")
    assert "not of this program" in fails(acme, "restore", tmp_path / "empty")
    assert f"There is no file {tmp_path}." in fails(acme, "restore", tmp_path)
    assert "is the database itself" in fails(acme, "restore", db.file_path)
    with closing(sqlite3.connect(db.file_path)) as connection:
        for suffix in ("", "-wal"):
            (tmp_path / f"live{suffix}").write_bytes(Path(f"{db.file_path}{suffix}").read_bytes())
        assert connection
    assert "a part of its data is in live-wal beside it" in fails(
        acme, "restore", tmp_path / "live"
    )


def test_restore_on_postgresql_undoes_wrong_balances(
    postgres_app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    succeeds(postgres_app, "backup", tmp_path / "a.db")
    reserve("after")
    original = verification.find_contradictions
    monkeypatch.setattr(
        verification,
        "find_contradictions",
        lambda: (
            original()
            if database.is_file()
            else verification.Verification(0, 0, 0, ["Budget budget-1: a fault."])
        ),
    )
    assert "contradict each other, and nothing was changed: Budget budget-1: a fault." in fails(
        postgres_app, "restore", tmp_path / "a.db"
    )
    monkeypatch.undo()
    with pytest.raises(Exception, match="append-only"):
        db.execute_sql('TRUNCATE "AuditLog" CASCADE')


def test_unreadable_file_changes_nothing_on_postgresql(postgres_app: Flask, tmp_path: Path) -> None:
    before = rows()
    with pytest.raises(
        database.DatabaseUnusableError, match="nothing was changed: unable to open database file"
    ):
        database.replace_rows(
            tmp_path / "none.db", tmp_path / "kept.db", lambda: None, lambda done, total: None
        )
    assert rows() == before


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Limit the size of files that this process writes, as if the disk were full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_backup_on_a_full_disk_leaves_no_file(either: Flask, tmp_path: Path) -> None:
    (tmp_path / "backups").mkdir()
    with files_no_larger_than(64 * 1024):
        error = fails(either, "backup", tmp_path / "backups")
    assert error.startswith(
        f"Error: No backup was created: cannot write the copy in {tmp_path / 'backups'} ("
    )
    assert list((tmp_path / "backups").iterdir()) == []


def test_restore_on_postgresql_with_full_disk_changes_nothing(
    postgres_app: Flask, tmp_path: Path
) -> None:
    succeeds(postgres_app, "backup", tmp_path / "a.db")
    for _ in range(100):
        audit_log.record(ROOT, "RESTORE", customer_id=None, subject="x" * 10_000)
    with files_no_larger_than((tmp_path / "a.db").stat().st_size + 64 * 1024):
        error = fails(postgres_app, "restore", tmp_path / "a.db")
    assert error.startswith(
        "Error: Nothing was changed, because the old rows could not be saved: "
        "cannot write the copy in "
    )


@pytest.mark.parametrize("step", [1, 2])
def test_interrupted_restore_leaves_the_old_database(
    acme: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    succeeds(acme, "backup", tmp_path / "a.db")
    reserve("after")
    before = rows()
    calls, calls_left = iter(range(step)), [1]

    def interrupted(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if next(calls, None) is None:
                calls_left.pop()
                monkeypatch.undo()
                raise KeyboardInterrupt
            return original(*arguments, **options)

        return call

    monkeypatch.setattr(Path, "rename", interrupted(Path.rename))
    monkeypatch.setattr(os, "link", interrupted(os.link))
    with closing(sqlite3.connect(db.file_path, isolation_level=None)) as reader:
        # The reader prevents a checkpoint, so the write-ahead log has to be moved, too.
        reader.execute("BEGIN").execute('SELECT COUNT(*) FROM "AuditLog"').fetchall()
        db.obj.busy_timeout_s = 0.1
        assert flask(acme, "restore", tmp_path / "a.db").exit_code == 1
    assert calls_left == []
    assert rows() == before
    assert verification.verify().findings == []


def test_replaced_database_keeps_its_write_ahead_log(acme: Flask, tmp_path: Path) -> None:
    succeeds(acme, "backup", tmp_path / "a.db")
    reserve("after")
    before = rows()
    db.obj.busy_timeout_s = 0.1
    with closing(sqlite3.connect(db.file_path, isolation_level=None)) as reader:
        reader.execute("BEGIN").execute('SELECT COUNT(*) FROM "AuditLog"').fetchall()
        succeeds(acme, "restore", tmp_path / "a.db")
        (kept,) = Path(acme.instance_path).glob("replaced-*.db")
        assert kept.with_name(f"{kept.name}-wal").stat().st_size
        assert reader.execute('SELECT COUNT(*) FROM "Reservation"').fetchall() == [(3,)]
        # On a busy machine, a write takes longer than the short patience above.
        db.obj.busy_timeout_s = 5
        reserve("new")
    assert [row.requestId for row in Reservation.select().order_by(Reservation.seq)] == [
        "before-1",
        "before-2",
        "new",
    ]
    with database.connected_to(kept):
        assert rows() == before


# Under load.


class Load:
    """Clients that reserve and check continuously at a server, and record acknowledged requests."""

    def __init__(self, server: Installation, callers: int = 4) -> None:
        self.server = server
        self.acknowledged: list[str] = []
        self.unexpected: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(callers)]

    def _call(self) -> None:
        headers = {"Authorization": f"Bearer {self.server.environment['KEY']}"}
        while not self._stop.is_set():
            request_id = uuid.uuid4().hex
            response = self.server.post(
                "/api/budget/reserve",
                reserve_body(requestId=request_id, budgetId="budget-1", amount=0.01, userId="jane"),
                headers=headers,
            )
            if response.status_code == 200:
                self.acknowledged.append(request_id)
            checked = self.server.post(
                "/api/budget/check",
                check_body(requestId=request_id, customerId="acme", amount=0.01),
                headers=headers,
            )
            self.unexpected += [
                reply.text for reply in (response, checked) if reply.status_code not in (200, 503)
            ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self) -> None:
        """Wait for ten more acknowledged requests."""
        count = len(self.acknowledged)
        wait_until(
            lambda: len(self.acknowledged) >= count + 10, "no more requests are acknowledged"
        )


def requests_in(path: Path | str) -> set[str]:
    return {row[0] for row in found(path, 'SELECT "requestId" FROM "Reservation"')}


@pytest.fixture(params=["sqlite", "postgresql"])
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    """An installation on each engine, with its server running."""
    templates: Templates = request.getfixturevalue(
        "postgres_templates" if request.param == "postgresql" else "templates"
    )
    with templates.copy("tables", tmp_path / "instance") as environment:
        set_up(create_app(settings.load(environment)))
        installation = Installation(
            environment | {"KEY": api_keys.add_key(ROOT, "orchestrator", customer_id="acme")}
        )
        database.disconnect()
        installation.start()
        yield installation
        installation.end()


def test_backups_and_restores_under_load_lose_no_request(
    running: Installation, tmp_path: Path
) -> None:
    for number in range(ROUNDS):
        back_up_and_restore_under_load(running, tmp_path / f"{number}.db")
    assert running.stop(signal.SIGTERM) == 0


def back_up_and_restore_under_load(server: Installation, backup: Path) -> None:
    """Back up and restore while clients call, and verify that no acknowledged request is lost."""
    with Load(server) as load:
        load.wait_for_more()
        known = set(load.acknowledged)
        server.flask("backup", str(backup))
        assert known <= requests_in(backup)
        load.wait_for_more()
        restored = server.flask("restore", str(backup), check=False)
        assert restored.returncode == 0, restored.stderr
        load.wait_for_more()
    assert load.unexpected == []
    (kept,) = server.folder.glob("replaced-*.db")
    assert f"kept: {kept}\n" in restored.stdout
    before, after = requests_in(kept), requests_in(server.target)
    # Requests acknowledged before the restore are in the replaced database, later ones in the new.
    assert set(load.acknowledged) <= before | after
    assert after - before
    assert before - after
    assert (after & before) == requests_in(backup)
    database.connect(server.target)
    assert verification.verify().findings == []
    database.disconnect()
    if server.target == server.database:
        assert found(server.database, "PRAGMA integrity_check") == [("ok",)]
    # File names have a resolution of one second, and the next restore may be in the same second.
    for path in server.folder.glob(f"{kept.name}*"):
        path.unlink()
