"""The doctor: it has every line of the go-live checklist, reports each problem, changes nothing."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import psycopg
import pytest
import time_machine
from flask import Flask
from support.installation import found
from support.machine import ENGINE
from support.sources import add_file
from support.tokens import write_identity_file
from support.world import ROOT

from app import create_app
from budget_sync import database, ledger, manual_budgets, settings, sync
from budget_sync.accounts import api_keys, authentication, customers, passwords, people
from budget_sync.database import db
from budget_sync.database.models import AuditLog, BudgetUtilization, SyncHistory
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Role
from budget_sync.domain.request_models import CheckRequest
from budget_sync.operations import demo, doctor
from budget_sync.operations.doctor import installation
from budget_sync.settings import Settings

pytestmark = pytest.mark.skipif(ENGINE != "sqlite", reason="each test names its engine")

SECRET = "0123456789abcdef0123456789abcdef"
GOOD: dict[str, Any] = {
    "cron_secret": SECRET,
    "metrics_token": SECRET,
    "trusted_proxies": 1,
    "trusted_hosts": ("budgets.example.com", "127.0.0.1"),
    "session_cookie_secure": True,
    "budget_check_auth": "required",
}


def set_up(chosen: Settings) -> Flask:
    """Set up an installation that is ready to go live."""
    chosen.instance_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    database.connect(chosen.database, create=True)
    database.init_schema()
    app = create_app(chosen)
    customers.add_customer(ROOT, "acme", "Acme Inc.")
    people.add_user(
        ROOT,
        "fiona",
        "Fiona",
        "fiona@acme.com",
        Role.FPA_USER,
        customer_id="acme",
        password="a long password",
        slots_folder=chosen.instance_folder,
    )
    # The running server has created the files of all slots.
    passwords.require_slots(chosen.instance_folder)
    service = authentication.actor_of_key(
        api_keys.add_key(ROOT, "orchestrator", customer_id="acme")
    )
    chosen.csv_folder.mkdir()
    (chosen.csv_folder / "plan.csv").write_text(
        "Department,Fiscal Period,Budgeted Amount\nEngineering,Q1 2025,1000\n", encoding="utf-8"
    )
    add_file("acme", chosen.csv_folder, "plan.csv")
    assert [
        result.status
        for result in sync.sync_all(sync.Job(ROOT, sync.Reach.of(chosen), chosen.instance_folder))
    ] == ["success"]
    assert service
    ledger.check(service, CheckRequest.model_validate(CHECK))
    return app


CHECK = {
    "requestId": "r-1",
    "userId": "u",
    "userName": "U",
    "userEmail": "u@example.com",
    "customerId": "acme",
    "department": "Engineering",
    "fiscalPeriod": "Q1 2025",
    "amount": 1,
}


@pytest.fixture
def live(chosen: Settings, tmp_path: Path) -> Flask:
    """An installation that is ready to go live, on SQLite, with a backup."""
    os.umask(0o077)
    app = set_up(replace(chosen, **GOOD))
    (tmp_path / "backups").mkdir()
    assert run(app, "backup", str(tmp_path / "backups")).exit_code == 0
    return app


@pytest.fixture
def postgres_live(tmp_path: Path, postgres_url: str) -> Flask:
    """The same on PostgreSQL."""
    chosen = settings.load(
        {
            "INSTANCE_FOLDER": str(tmp_path / "postgres"),
            "SECRET_KEY": SECRET,
            "DATABASE_URL": postgres_url,
        }
    )
    app = set_up(replace(chosen, busy_timeout_s=1.0, **GOOD))
    (tmp_path / "backups").mkdir()
    assert run(app, "backup", str(tmp_path / "backups")).exit_code == 0
    return app


def run(app: Flask, *arguments: str) -> click.testing.Result:
    """Run a command."""
    with app.app_context():
        return app.test_cli_runner().invoke(args=arguments or ["doctor"], prog_name="flask")


def lines(result: click.testing.Result) -> dict[str, tuple[str, str]]:
    """The findings: state and text by subject."""
    matches = re.findall(
        r"^(ok|warning|failed|by hand) +([^:]+): (.*(?:\n +->.*)?)", result.stdout, re.MULTILINE
    )
    return {subject: (state, text) for state, subject, text in matches}


def everything(target: Path | str) -> dict[str, list[Any]]:
    """All rows of a database, and on PostgreSQL all schemas."""
    database.open_connection()
    tables = {
        table: db.execute_sql(f'SELECT * FROM "{table}"').fetchall() for table in db.get_tables()
    }
    return (
        tables
        if database.is_file()
        else tables
        | {
            "schemas": found(
                target, "SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg_temp%'"
            )
        }
    )


@pytest.mark.parametrize("engine", ["live", "postgres_live"])
def test_ready_installation_passes_and_is_not_changed(
    request: pytest.FixtureRequest, engine: str
) -> None:
    app: Flask = request.getfixturevalue(engine)
    target = app.config["SETTINGS"].database
    folder = Path(app.instance_path)
    before = (everything(target), sorted(folder.rglob("*")))
    result = run(app)
    assert (everything(target), sorted(folder.rglob("*"))) == before
    findings = lines(result)
    # The PostgreSQL of the tests runs with fsync off: no test cuts its power.
    unhealthy = (
        {"Durability"}
        if engine == "postgres_live" and findings["Durability"][1].startswith("fsync = off")
        else set()
    )
    assert (result.exit_code, result.stderr) == (
        (1, "Error: 1 of 24 checks failed.\n") if unhealthy else (0, "")
    ), result.stdout
    assert [subject for subject in findings if subject in doctor.CHECKLIST] == list(
        doctor.CHECKLIST
    )
    assert {
        subject for subject, (state, _) in findings.items() if state in ("failed", "warning")
    } == unhealthy | {"getUserFromRequest"}
    assert [subject for subject, (state, _) in findings.items() if state == "by hand"] == [
        "Load test",
        "Document the orchestrator's API",
    ]
    # The app is connected to its own database again.
    customers.add_customer(ROOT, "later", "Later")
    assert found(target, """SELECT "name" FROM "Customer" WHERE "id" = 'later'""") == [("Later",)]


def test_new_installation_gets_warnings_with_next_steps(world: Flask) -> None:
    findings = lines(run(world))
    assert {subject for subject, (state, _) in findings.items() if state == "warning"} == {
        "Configure CRON_SECRET",
        "getUserFromRequest",
        "Test budget check with the orchestrator",
        "Monitoring alerts",
        "Backup",
        "Demo",
    }
    assert findings["Demo"][1].endswith(
        f"-> disable it with `flask disable-customer {demo.CUSTOMER}`"
    )


def test_missing_database_fails(chosen: Settings) -> None:
    chosen.instance_folder.mkdir(parents=True)
    result = run(create_app(chosen))
    assert result.exit_code == 1
    assert "failed   Database: There is no database at" in result.stdout
    assert result.stderr == "Error: 1 of 4 checks failed.\n"
    assert not chosen.database_path.exists()


def test_every_problem_is_found(live: Flask, chosen: Settings) -> None:
    """All problems in one run, because a run takes a while."""
    wrong = replace(
        chosen,
        cron_secret="short",
        metrics_token="short",
        trusted_proxies=1,
        budget_check_auth="local",
        google_credentials=chosen.instance_folder / "none.json",
    )
    (key,) = api_keys.list_keys(ROOT)
    api_keys.revoke_key(ROOT, key.id)
    chosen.csv_folder.joinpath("plan.csv").unlink()
    BudgetUtilization.update(reservedMinor=5).execute()
    AuditLog.insert(
        action="ADD_KEY", principal="x", changedBy="x", createdAt=datetime(2099, 1, 1, tzinfo=UTC)
    ).execute()
    db.execute_sql('DROP TRIGGER "AuditLog_no_delete"')
    (chosen.instance_folder / "secret_key").write_text("x", encoding="utf-8")
    chosen.instance_folder.chmod(0o755)
    (chosen.instance_folder / "secret_key").chmod(0o644)
    result = run(create_app(wrong))
    assert result.exit_code == 1
    seen = {subject: text for subject, (state, text) in lines(result).items() if state == "failed"}
    expected = {
        "Configure CRON_SECRET": "shorter than 16 characters",
        "getUserFromRequest": "0 API keys; users who can sign in: 1 fpa_user",
        "Audit logs are being created": "its rows can be changed (DELETE)",
        "Test Google Sheets sync": "The CSV file is not in the folder for CSV files",
        "Monitoring alerts": "METRICS_TOKEN is shorter than 16 characters",
        "Google credentials": "there is no file",
        "File permissions": "secret_key",
        "Schema": 'trigger "AuditLog_no_delete" is missing or changed',
        "Balances": "2 contradictions; the first: Budget",
        "Clock": "2099-01-01T00:00:00Z, in the future",
        "Proxy": "SESSION_COOKIE_SECURE is false",
    }
    assert seen.keys() == expected.keys()
    assert [subject for subject, words in expected.items() if words not in seen[subject]] == []
    total = len(re.findall(r"^[a-z]", result.stdout, re.MULTILINE))
    assert result.stderr == f"Error: {len(expected)} of {total} checks failed.\n"


def test_large_write_ahead_log_is_a_warning(live: Flask) -> None:
    database.open_connection()
    assert dict(log_states(live)) == {"ok": "0 MB"}
    # SQLite ignores the bytes after the last frame of the log.
    os.truncate(f"{db.file_path}-wal", installation.LARGE_LOG_BYTES + 1)
    assert dict(log_states(live)) == {"warning": "268 MB are not copied into the database yet"}


def log_states(app: Flask) -> Iterator[tuple[str, str]]:
    """The findings about the write-ahead log."""
    return (
        (finding.state, finding.seen)
        for finding in installation.surroundings(app.config["SETTINGS"])
        if finding.subject == "Write-ahead log"
    )


@pytest.mark.parametrize(
    ("hosts", "state"),
    [
        (("budgets.example.com",), "warning"),
        ((".example.com", "[::1]"), "warning"),
        (("a.example", "localhost:80"), "ok"),
    ],
)
def test_trusted_hosts_without_loopback_is_a_warning(
    live: Flask, hosts: tuple[str, ...], state: str
) -> None:
    result = run(create_app(replace(live.config["SETTINGS"], trusted_hosts=hosts)))
    finding = lines(result)["Monitoring alerts"]
    assert finding[0] == state
    assert (f"-> set TRUSTED_HOSTS={','.join(hosts)},127.0.0.1" in finding[1]) == (
        state == "warning"
    )


LOST = (
    'DROP TABLE "StoredReply"',
    'DROP INDEX "Reservation_open"',
    'DROP TRIGGER "BudgetCheckLog_no_delete"',
)


@pytest.mark.parametrize("engine", ["live", "postgres_live"])
def test_incomplete_schema_is_found(request: pytest.FixtureRequest, engine: str) -> None:
    app: Flask = request.getfixturevalue(engine)
    database.open_connection()
    for statement in LOST:
        db.execute_sql(
            f'{statement} ON "BudgetCheckLog"'
            if not database.is_file() and "TRIGGER" in statement
            else statement
        )
    # Tables and indexes that an operator has added are allowed.
    db.execute_sql('CREATE TABLE "OurNotes" ("id" INTEGER)')
    db.execute_sql('CREATE INDEX "Our_index" ON "Budget" ("department")')
    state, text = lines(run(app))["Schema"]
    assert state == "failed"
    assert text.startswith('its schema is incomplete: table "StoredReply" is missing or changed\n')
    assert "-> restore a backup with `flask restore PATH`" in text
    assert ("naming an empty database" in text) == (engine == "postgres_live")


def test_disabled_trigger_on_postgresql_is_found(
    postgres_live: Flask,
) -> None:
    database.open_connection()
    db.execute_sql('ALTER TABLE "AuditLog" DISABLE TRIGGER "AuditLog_no_truncate"')
    assert lines(run(postgres_live))["Schema"][1].startswith(
        'its schema is incomplete: trigger "AuditLog_no_truncate" is missing or changed\n'
    )


def test_old_backup_and_late_sync_are_warnings(live: Flask) -> None:
    with time_machine.travel(datetime.now(UTC).timestamp() + 27 * 3600, tick=False):
        findings = lines(run(live))
    assert findings["Backup"][0] == "warning"
    assert findings["Test Google Sheets sync"][0] == "warning"
    assert (
        f"0 * * * * {Path(sys.executable).with_name('flask')} --app"
        in findings["Test Google Sheets sync"][1]
    )


@pytest.mark.parametrize(
    ("ago", "state"),
    [(timedelta(hours=2, minutes=59), "ok"), (timedelta(hours=3, minutes=1), "warning")],
)
def test_source_is_late_after_the_same_time_as_in_alerts(
    live: Flask, ago: timedelta, state: str
) -> None:
    SyncHistory.update(startTime=clock.now() - ago).execute()
    assert lines(run(live))["Test Google Sheets sync"][0] == state


@pytest.mark.parametrize(
    ("verb", "subject"),
    [
        ("check", "Test budget check"),
        ("reserve", "Test budget reserve"),
        ("release", "Test budget release (cancel)"),
    ],
)
def test_failing_call_is_found(
    live: Flask, monkeypatch: pytest.MonkeyPatch, verb: str, subject: str
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RequestError(Code.UNAVAILABLE, "A fault.", retryAfter=1)

    monkeypatch.setattr(ledger, verb, broken)
    result = run(live)
    assert result.exit_code == 1
    state, text = lines(result)[subject]
    assert state == "failed"
    assert re.search(
        r"on a temporary file: /api/budget/\w+ returned 503 instead of \d+: A fault\.", text
    )


def test_failed_sync_run_is_reported_with_its_reason(live: Flask) -> None:
    SyncHistory.update(status="failed", message="The sheet is empty.").execute()
    state, text = lines(run(live))["Test Google Sheets sync"]
    assert (state, text.splitlines()[-1].strip()) == ("failed", "-> The sheet is empty.")


def test_unsafe_settings_of_postgresql_are_found(postgres_live: Flask, postgres_url: str) -> None:
    with closing(psycopg.connect(postgres_url, autocommit=True)) as connection:
        (name,) = connection.execute("SELECT current_database()").fetchone() or ("",)
        connection.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off'.encode())
        connection.execute("""CREATE ROLE "reader" LOGIN""")
        try:
            database.disconnect()
            findings = lines(run(postgres_live))
            assert findings["Durability"][0] == "failed"
            assert findings["Durability"][1].startswith("synchronous_commit = off"), findings
            with (
                pytest.raises(database.DatabaseUnusableError, match="permission denied"),
                database.temporary_schema(f"{postgres_url}?user=reader"),
            ):
                pass
        finally:
            connection.execute("""DROP ROLE "reader" """)


def test_tables_may_be_in_another_schema_of_postgresql(tmp_path: Path, postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA apart")
    database.connect(f"{postgres_url}?options=-csearch_path%3Dapart")
    assert database.schema_version() is None
    assert database.init_schema()
    assert not database.init_schema()
    customers.add_customer(ROOT, "acme", "Acme Inc.")
    manual_budgets.set_budget(ROOT, "acme", "Engineering", "Q1 2025", Decimal(1000))
    assert found(
        postgres_url,
        """SELECT table_schema FROM information_schema.tables WHERE table_name = 'Budget'""",
    ) == [("apart",)]
    database.disconnect()


def test_identity_providers_are_checked(world: Flask, tmp_path: Path) -> None:
    settings = replace(
        world.config["SETTINGS"],
        identity_file=write_identity_file(tmp_path),
        is_identity_file_named=True,
    )
    state, text = lines(run(create_app(settings)))["getUserFromRequest"]
    assert state == "ok"
    assert "identity providers: Acme (2 keys)" in text
    (tmp_path / "keys.json").write_text("{}", encoding="utf-8")
    found = lines(run(create_app(settings)))
    assert found["Identity provider Acme"][0] == "failed"
    assert found["getUserFromRequest"][0] == "warning"


def test_key_that_expires_soon_is_reported(world: Flask) -> None:
    api_keys.add_key(ROOT, "soon", customer_id=demo.CUSTOMER, lifetime=timedelta(days=3))
    state, text = lines(run(world))["API keys"]
    assert state == "warning"
    assert "service soon" in text
    assert "flask rotate-key" in text
