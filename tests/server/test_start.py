"""Starting: the environment, .env, the stored key and the database; one clear line if it fails."""

from __future__ import annotations

import itertools
import os
import re
import secrets
import shutil
import signal
import socket
import sqlite3 as pythons_sqlite
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import cli as flask_cli
from flask.helpers import get_load_dotenv
from peewee import sqlite3  # type: ignore[attr-defined]  # missing from peewee's stubs
from support.installation import Installation
from support.machine import PROJECT, free_port, needs, sqlite_only, wait_until

from app import create_app
from budget_sync import __version__, database, settings
from budget_sync.settings import SettingsError

KEY = "a key for tests, long enough"

# The variables that the program reads, with invalid values.
INVALID = {
    "DATABASE_URL": [
        "postgres",
        "sqlite://",
        "sqlite:///",
        "sqlite:budget.db",
        "sqlite://host/budget.db",
        "sqlite:///b.db?mode=ro",
        "sqlite:///b.db#x",
    ],
    "SECRET_KEY": ["too short", "x" * 15, "   "],
    "BUDGET_CHECK_AUTH": ["yes", "Local", "none", "open,required"],
    "TRUSTED_HOSTS": ["https://budgets.example.com", ",", " , ", "a b"],
    "TRUSTED_PROXIES": ["one", "-1", "1.5", "11", "1,2", "²", "9" * 5_000],
    "SESSION_COOKIE_SECURE": ["maybe", "2", "y e s"],
    "LOG_FORMAT": ["xml", "JSON5", "text,json"],
    "LOG_LEVEL": ["loud", "5", "INFO,DEBUG"],
    "INSTANCE_FOLDER": ["~nobody-of-that-name/instance"],
    "CSV_FOLDER": ["~nobody-of-that-name/sheets"],
    "GOOGLE_APPLICATION_CREDENTIALS": ["~nobody-of-that-name/key.json"],
}


@pytest.fixture
def fresh(environment: dict[str, str]) -> Installation:
    """An installation of which nothing exists yet."""
    return Installation(environment)


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    """The one line of standard error of a command that failed."""
    assert result.returncode != 0
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


def start(installation: Installation, command: str) -> subprocess.CompletedProcess[str]:
    """Start the server or another command, which must fail; it is killed after 30 seconds."""
    options = ("--port", str(installation.port)) if command == "serve" else ()
    return installation.flask(command, *options, check=False, timeout=30)


@pytest.mark.parametrize("command", ["serve", "verify", "init-db"])
def test_sqlite_that_loses_commits_is_one_line(
    fresh: Installation, tmp_path: Path, command: str
) -> None:
    try:
        database.check_library(pythons_sqlite.sqlite_version_info)
        needs(None, "a Python with an affected SQLite library")
    except database.DatabaseUnusableError:
        pass
    hidden = tmp_path / "hidden" / "pysqlite3"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text('raise ImportError("hidden by a test")\n', encoding="utf-8")
    fresh.environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, (str(hidden.parent), os.environ.get("PYTHONPATH")))
    )
    line = one_line(start(fresh, command))
    assert f"SQLite {pythons_sqlite.sqlite_version} can lose committed transactions" in line
    assert "Install the pinned requirements" in line
    assert not fresh.folder.exists()


@pytest.mark.parametrize(
    ("version", "is_fixed"),
    [
        *(
            ((3, 6, 23), True),
            ((3, 7, 0), False),
            ((3, 8, 11, 1), False),
            ((3, 40, 1), False),
            ((3, 43, 2), False),
        ),
        *(
            ((3, 44, 0), False),
            ((3, 44, 5), False),
            ((3, 44, 6), True),
            ((3, 44, 7), True),
            ((3, 45, 0), False),
            ((3, 46, 9), False),
        ),
        *(
            ((3, 49, 2), False),
            ((3, 50, 0), False),
            ((3, 50, 6), False),
            ((3, 50, 7), True),
            ((3, 50, 12), True),
        ),
        *(
            ((3, 51, 0), False),
            ((3, 51, 2), False),
            ((3, 51, 3), True),
            ((3, 52, 0), True),
            ((3, 53, 4), True),
            ((4, 0, 0), True),
        ),
    ],
)
def test_sqlite_versions_that_lose_commits_are_rejected(
    version: tuple[int, ...], is_fixed: bool
) -> None:
    if is_fixed:
        database.check_library(version)
    else:
        with pytest.raises(database.DatabaseUnusableError, match=".".join(map(str, version))):
            database.check_library(version)


def test_the_sqlite_in_use_is_the_one_checked() -> None:
    connection = sqlite3.connect(":memory:")
    (version,) = connection.execute("SELECT sqlite_version()").fetchone()
    connection.close()
    assert version == ".".join(map(str, sqlite3.sqlite_version_info))
    database.check_library()


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in INVALID.items() for value in values]
)
def test_error_names_the_invalid_setting(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} ") as raised:
        settings.load(
            {"INSTANCE_FOLDER": str(tmp_path / "instance"), "SECRET_KEY": KEY} | {name: value}
        )
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "command"),
    list(zip(INVALID, itertools.cycle(["serve", "verify", "init-db"]), strict=False)),
)
def test_start_with_invalid_setting_is_one_line(
    fresh: Installation, name: str, command: str
) -> None:
    folder = fresh.folder
    fresh.environment[name] = INVALID[name][0]
    line = one_line(start(fresh, command))
    assert line.startswith(f"budget-sync: {name} ")
    assert not folder.exists()


def test_error_does_not_quote_a_secret(tmp_path: Path) -> None:
    for name, value in (
        ("SECRET_KEY", "hunter2"),
        ("DATABASE_URL", "mysql://me:hunter2@db.example.com/budgets"),
    ):
        with pytest.raises(SettingsError) as raised:
            settings.load({"INSTANCE_FOLDER": str(tmp_path), "SECRET_KEY": KEY} | {name: value})
        assert "hunter2" not in str(raised.value)


def no_database(file: Path) -> None:
    """Only the folder exists."""


def empty_file(file: Path) -> None:
    """A file without tables."""
    file.touch()


def garbage(file: Path) -> None:
    """A file that is not a database."""
    file.write_bytes(b"no database\n" * 1_000)


def directory(file: Path) -> None:
    """A directory at the file's path."""
    file.mkdir()


def older_schema(file: Path) -> None:
    """The database of the first version."""
    connection = sqlite3.connect(file)
    connection.executescript((PROJECT / "tests" / "schemas" / "1.sql").read_text(encoding="utf-8"))
    connection.close()


def newer_schema(file: Path) -> None:
    """A database that a future version has upgraded."""
    create_database(file)
    connection = sqlite3.connect(file)
    connection.execute("""INSERT INTO "SchemaVersion" VALUES (999, '2099-01-01T00:00:00Z')""")
    connection.commit()
    connection.close()


def create_database(file: Path) -> None:
    """A database as init-db creates it."""
    database.connect(file, create=True)
    database.init_schema()
    database.close_connection()


STATES: list[tuple[Callable[[Path], None], str]] = [
    (no_database, "flask init-db"),
    (empty_file, "flask init-db"),
    (garbage, "file is not a database"),
    (directory, "unable to open database file"),
    (older_schema, "schema version 1, but this program needs"),
    (newer_schema, "schema version 999, newer than"),
]
every_state = pytest.mark.parametrize(
    ("create", "message"), STATES, ids=[create.__name__ for create, _ in STATES]
)


@every_state
def test_server_needs_a_database_of_its_version(
    fresh: Installation, create: Callable[[Path], None], message: str
) -> None:
    fresh.folder.mkdir()
    create(fresh.database)
    before = sorted(fresh.folder.iterdir())
    line = one_line(start(fresh, "serve"))
    assert line.startswith("Error: ")
    assert message in line
    assert sorted(fresh.folder.iterdir()) == before


@every_state
def test_command_needs_a_database_of_its_version(
    fresh: Installation, create: Callable[[Path], None], message: str
) -> None:
    fresh.folder.mkdir()
    create(fresh.database)
    before = sorted(fresh.folder.iterdir())
    app = create_app(settings.load(fresh.environment))
    try:
        for command in ("verify", "stats", "demo", "list-users"):
            result = app.test_cli_runner().invoke(args=[command])
            assert isinstance(result.exception, SystemExit), result.exception
            assert result.exit_code == 1
            assert len(result.output.splitlines()) == 1, result.output
            assert message in result.output
    finally:
        database.close_connection()
    assert sorted(fresh.folder.iterdir()) == before


def test_server_does_not_start_on_damaged_database(fresh: Installation) -> None:
    fresh.flask("init-db")
    connection = sqlite3.connect(fresh.database)
    (page,) = connection.execute(
        "SELECT rootpage FROM sqlite_master WHERE name = 'AuditLog'"
    ).fetchone()
    connection.close()
    with fresh.database.open("r+b") as file:
        # The schema can be read, and one of its tables cannot.
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    line = one_line(start(fresh, "serve"))
    assert line.startswith(f"Error: The database {fresh.database} is damaged (")
    assert line.endswith("): restore a backup.")


def tamper(file: Path, statement: str) -> None:
    """Change a database with another tool than the program."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(statement)


@pytest.mark.parametrize(
    "lost",
    ['table "StoredReply"', 'index "Reservation_open"', 'trigger "BudgetCheckLog_no_delete"'],
)
def test_server_needs_its_whole_schema(fresh: Installation, lost: str) -> None:
    fresh.flask("init-db")
    tamper(fresh.database, f"DROP {lost}")
    said = one_line(start(fresh, "serve"))
    assert (
        said == f"Error: The database {fresh.database} cannot be used "
        f"(its schema is incomplete: {lost} is missing or changed): restore a backup."
    )


def test_server_accepts_added_tables_and_indexes(fresh: Installation) -> None:
    fresh.flask("init-db")
    tamper(fresh.database, 'CREATE TABLE "OurNotes" ("id" INTEGER)')
    tamper(fresh.database, 'CREATE INDEX "Our_index" ON "Budget" ("department")')
    try:
        fresh.start()
        assert requests.get(f"{fresh.url}/readyz", timeout=10).status_code == 200
    finally:
        fresh.end()


def test_option_skips_the_check_of_the_schema(fresh: Installation) -> None:
    fresh.flask("init-db")
    tamper(fresh.database, 'DROP INDEX "Reservation_open"')
    try:
        fresh.start("--unproven")
        assert requests.get(f"{fresh.url}/readyz", timeout=10).status_code == 200
    finally:
        fresh.end()


@pytest.fixture
def contradicting(fresh: Installation) -> Iterator[Installation]:
    """An installation with an amount that contradicts its audit log, as after a flipped bit."""
    fresh.flask("init-db")
    fresh.flask("demo")
    tamper(
        fresh.database,
        """UPDATE "Budget" SET "budgetedMinor" = "budgetedMinor" + 1 WHERE "id" = 'budget-123'""",
    )
    yield fresh
    fresh.end()


def test_server_does_not_start_on_contradictory_balances(
    contradicting: Installation,
) -> None:
    said = one_line(start(contradicting, "serve"))
    assert said == (
        f"Error: The balances in {contradicting.database} contradict each other: "
        "list the contradictions with `flask verify`, then restore a backup. "
        "The first of 1: Budget budget-123: the balances differ from the sum of its audit log: "
        "budgeted 10000001 against 10000000, reserved 0 against 0, "
        "committed 500000 against 500000 (minor units)."
    )


@pytest.fixture
def mismatched(fresh: Installation) -> Installation:
    """An installation with an index that does not match its table."""
    fresh.flask("init-db")
    fresh.flask("demo")
    with closing(sqlite3.connect(fresh.database)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        entries = connection.execute(
            "SELECT * FROM sqlite_master WHERE type <> 'table' AND tbl_name = 'AuditLog'"
        ).fetchall()
        connection.execute(
            "DELETE FROM sqlite_master WHERE type <> 'table' AND tbl_name = 'AuditLog'"
        )
    with closing(sqlite3.connect(fresh.database)) as connection, connection:
        # As after a flipped bit: the table has the new value, and its indexes have the old one.
        connection.execute(
            """UPDATE "AuditLog" SET "requestId" = 'damaged' WHERE "action" = 'RESERVE'"""
        )
        connection.execute("PRAGMA writable_schema = ON")
        connection.executemany("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", entries)
    assert fresh.flask("verify", check=False).returncode == 0
    return fresh


def test_server_does_not_start_on_mismatched_index(
    mismatched: Installation,
) -> None:
    line = one_line(start(mismatched, "serve"))
    assert line.startswith(f"Error: The database {mismatched.database} is damaged (")
    assert "missing from index" in line


def test_doctor_and_restore_find_mismatched_index(
    mismatched: Installation,
) -> None:
    assert re.search(
        "Database file.*missing from index", mismatched.flask("doctor", check=False).stdout
    )
    copy = shutil.copyfile(mismatched.database, mismatched.folder / "copy.db")
    restore = mismatched.flask("restore", str(copy), "--without-checksum", check=False)
    assert restore.returncode == 1
    assert "it is not a database, or it is damaged" in restore.stderr
    assert "missing from index" in restore.stderr


def test_option_skips_the_check_of_the_balances(contradicting: Installation) -> None:
    contradicting.start("--unproven")
    assert requests.get(f"{contradicting.url}/readyz", timeout=10).status_code == 200


def test_large_file_is_checked_for_its_schema_only(contradicting: Installation) -> None:
    with closing(sqlite3.connect(contradicting.database)) as connection:
        connection.execute("CREATE TABLE large (bytes BLOB)")
        connection.execute("INSERT INTO large VALUES (ZEROBLOB(?))", (64 * 1024 * 1024,))
        connection.commit()
    contradicting.start()
    assert requests.get(f"{contradicting.url}/readyz", timeout=10).status_code == 200
    contradicting.end()
    # The schema is small in any file.
    tamper(contradicting.database, 'DROP INDEX "Reservation_open"')
    assert 'index "Reservation_open" is missing or changed' in one_line(
        start(contradicting, "serve")
    )


@pytest.mark.parametrize("create", [garbage, directory], ids=lambda create: create.__name__)
def test_init_db_changes_nothing_but_a_database(
    fresh: Installation, create: Callable[[Path], None]
) -> None:
    fresh.folder.mkdir()
    create(fresh.database)
    before = sorted(fresh.folder.iterdir())
    one_line(start(fresh, "init-db"))
    assert sorted(fresh.folder.iterdir()) == before


def test_folder_that_cannot_be_created_is_one_line(fresh: Installation, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    fresh.environment["INSTANCE_FOLDER"] = str(tmp_path / "file" / "instance")
    line = one_line(start(fresh, "init-db"))
    assert str(tmp_path / "file") in line


def test_port_in_use_is_one_line(fresh: Installation) -> None:
    fresh.folder.mkdir()
    create_database(fresh.database)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", fresh.port))
        taken.listen()
        assert (
            one_line(start(fresh, "serve"))
            == f"Error: Cannot listen on 127.0.0.1 port {fresh.port}: Address already in use."
        )


SLOW_TO_LISTEN = """
import sys, time
from app import create_app
from budget_sync.server.arbiter import Server
from budget_sync.server.worker import Worker
init_signals = Worker.init_signals
def late(self):
    print("a worker has started", flush=True)
    time.sleep(1)
    init_signals(self)
Worker.init_signals = late
Server(create_app, host="127.0.0.1", port=int(sys.argv[1]), workers=1).run()
"""


def test_server_stops_at_once_while_a_worker_starts(
    fresh: Installation,
) -> None:
    fresh.flask("init-db")
    command = [sys.executable, "-c", SLOW_TO_LISTEN, str(free_port())]
    options: dict[str, Any] = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.DEVNULL,
        "text": True,
        "process_group": 0,
    }
    with subprocess.Popen(command, cwd=PROJECT, env=fresh.full_environment(), **options) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "a worker has started\n"
            server.terminate()
            # Less than the 30 s that running requests have.
            assert server.wait(timeout=15) == 0
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)


def test_command_works_from_another_directory(fresh: Installation, tmp_path: Path) -> None:
    fresh.folder.mkdir()
    create_database(fresh.database)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [sys.executable, "-m", "flask", "--app", str(PROJECT / "app.py"), "verify"]
    result = subprocess.run(
        command,
        cwd=elsewhere,
        env=fresh.full_environment(),
        text=True,
        capture_output=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("Verified: 0 budgets")
    assert not list(elsewhere.iterdir())


@sqlite_only
def test_folder_name_outside_the_locale_works(fresh: Installation, tmp_path: Path) -> None:
    folder = tmp_path / "büro"
    fresh.environment |= {
        "INSTANCE_FOLDER": str(folder),
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "LC_ALL": "C",
    }
    result = fresh.flask("init-db", check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert (folder / "budget_sync.db").exists()


def test_env_file_of_another_project_is_ignored(fresh: Installation, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "sub"
    elsewhere.mkdir(parents=True)
    # The environment counts, even if the file has the same value.
    foreign = f"INSTANCE_FOLDER={fresh.folder}\nCSV_FOLDER={tmp_path}/foreign\nSECRET_KEY=short\n"
    (elsewhere.parent / ".env").write_text(foreign, encoding="utf-8")
    (elsewhere / ".flaskenv").write_text("LOG_LEVEL=loud\nBUDGET_CHECK_AUTH\n", encoding="utf-8")
    command = [sys.executable, "-m", "flask", "--app", str(PROJECT / "app.py"), "init-db"]
    result = subprocess.run(
        command,
        cwd=elsewhere,
        env=fresh.full_environment(),
        text=True,
        capture_output=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert fresh.database.exists()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the one with app.py, in a process without any of the variables."""
    for name in (*INVALID, "CRON_SECRET", "METRICS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(settings, "PROJECT_FOLDER", tmp_path)
    return tmp_path


def test_default_instance_folder_is_next_to_app_py(project: Path) -> None:
    chosen = settings.load()
    assert chosen.instance_folder == project / "instance"
    assert chosen.database_path == project / "instance" / "budget_sync.db"
    assert (
        chosen.budget_check_auth,
        chosen.log_level,
        chosen.log_format,
        chosen.trusted_hosts,
        chosen.cron_secret,
    ) == ("local", "INFO", "text", (), None)


def test_env_file_next_to_app_py_is_read(project: Path) -> None:
    (project / ".env").write_text(
        f'# for cron\nSECRET_KEY="{KEY}"\nexport LOG_LEVEL=debug\n'
        "TRUSTED_HOSTS=a.example.com, b.example.com\nCRON_SECRET=\nDATABASE_URL=sqlite:///my.db\n",
        encoding="utf-8",
    )
    chosen = settings.load()
    assert (chosen.secret_key, chosen.log_level, chosen.trusted_hosts) == (
        KEY,
        "DEBUG",
        ("a.example.com", "b.example.com"),
    )
    assert (chosen.cron_secret, chosen.database_path) == (None, project / "instance" / "my.db")


def test_environment_wins_over_env_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / ".env").write_text(
        f"SECRET_KEY={KEY}\nLOG_LEVEL=ERROR\nBUDGET_CHECK_AUTH=open\n", encoding="utf-8"
    )
    monkeypatch.setenv("LOG_LEVEL", "WARNING")
    chosen = settings.load()
    assert (chosen.log_level, chosen.budget_check_auth) == ("WARNING", "open")


@pytest.fixture
def flask_loads(
    project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """Loads the `.env` of another project, of this content, as Flask's command line does.

    Flask runs in a folder below that project, before this program reads its settings.
    """
    monkeypatch.setattr(os, "environ", {**os.environ, "FLASK_RUN_FROM_CLI": "true"})
    foreign = tmp_path_factory.mktemp("foreign")
    (foreign / "sub").mkdir()
    monkeypatch.chdir(foreign / "sub")

    def load(content: str) -> None:
        (foreign / ".env").write_text(content, encoding="utf-8")
        assert flask_cli.load_dotenv(load_defaults=get_load_dotenv())

    return load


def test_env_file_wins_over_one_of_another_project(
    project: Path, flask_loads: Callable[[str], None]
) -> None:
    (project / ".env").write_text(f"SECRET_KEY={KEY}\nLOG_LEVEL=ERROR\n", encoding="utf-8")
    flask_loads("LOG_LEVEL=DEBUG\nBUDGET_CHECK_AUTH=open\nPGHOST=elsewhere.example.com\n")
    chosen = settings.load()
    assert (chosen.log_level, chosen.budget_check_auth) == ("ERROR", "local")
    # PostgreSQL's client library would read it.
    assert "PGHOST" not in os.environ


@pytest.mark.parametrize(
    "option",
    [["--env-file", "chosen.env"], ["-e", "chosen.env"], ["--env-file=chosen.env"]],
    ids=" ".join,
)
def test_env_file_option_of_flask_counts(
    project: Path,
    flask_loads: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    option: list[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["flask", *option, "verify"])
    # The chosen file may have the same values as the one above the folder, or be that file.
    flask_loads("LOG_LEVEL=DEBUG\n")
    assert settings.load().log_level == "DEBUG"


def test_foreign_env_file_cannot_declare_itself_chosen(
    project: Path, flask_loads: Callable[[str], None]
) -> None:
    flask_loads("FLASK_SKIP_DOTENV=1\nLOG_LEVEL=${LOG_LEVEL}DEBUG\n")
    assert settings.load().log_level == "INFO"


def test_initial_environment_wins_over_foreign_env_file(
    project: Path, flask_loads: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    started_with = project / "started-with"
    started_with.write_bytes(b"HOME=/\0LOG_LEVEL=DEBUG\0")
    monkeypatch.setattr(settings, "_INITIAL_ENVIRONMENT", started_with)
    flask_loads("LOG_LEVEL=DEBUG\nBUDGET_CHECK_AUTH=open\n")
    chosen = settings.load()
    assert (chosen.log_level, chosen.budget_check_auth) == ("DEBUG", "local")
    started_with.unlink()
    # Without the initial environment, nothing is undone.
    assert settings.load().log_level == "DEBUG"


def test_error_names_the_invalid_setting_of_env_file(project: Path) -> None:
    (project / ".env").write_text(f"SECRET_KEY={KEY}\nLOG_LEVEL=loud\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"^LOG_LEVEL "):
        settings.load()


def test_env_file_must_be_utf8(project: Path) -> None:
    (project / ".env").write_bytes(b"SECRET_KEY=caf\xe9 long enough for a key\n")
    with pytest.raises(SettingsError, match=r"\.env"):
        settings.load()


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("", "instance/budget_sync.db"),
        ("sqlite:///budgets.db", "instance/budgets.db"),
        (" sqlite:///budgets.db ", "instance/budgets.db"),
        ("sqlite:///data/budgets.db", "instance/data/budgets.db"),
        ("sqlite:///../budgets.db", "budgets.db"),
        ("sqlite:///{folder}/elsewhere/budgets.db", "elsewhere/budgets.db"),
        ("sqlite:///{folder}/a%20%3F%23%25b.db", "a ?#%b.db"),
    ],
)
def test_database_url_names_a_file(tmp_path: Path, url: str, path: str) -> None:
    chosen = settings.load(
        {
            "INSTANCE_FOLDER": str(tmp_path / "instance"),
            "SECRET_KEY": KEY,
            "DATABASE_URL": url.format(folder=tmp_path),
        }
    )
    assert chosen.database_path == tmp_path / path
    chosen.database_path.parent.mkdir(parents=True, exist_ok=True)
    create_database(chosen.database_path)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [tmp_path / path]


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        ("{folder}/x/../instance", "instance"),
        ("~/instance", "home/instance"),
        ("data/instance", "data/instance"),
    ],
)
def test_paths_are_relative_to_the_folder_of_app_py(
    project: Path, monkeypatch: pytest.MonkeyPatch, text: str, folder: str
) -> None:
    monkeypatch.setenv("HOME", str(project / "home"))
    (project / "here").mkdir()
    monkeypatch.chdir(project / "here")
    path = text.format(folder=project)
    chosen = settings.load(
        {
            "INSTANCE_FOLDER": path,
            "SECRET_KEY": KEY,
            "GOOGLE_APPLICATION_CREDENTIALS": path,
            "CSV_FOLDER": "csv",
        }
    )
    assert chosen.instance_folder == project / folder
    assert chosen.google_credentials is not None
    assert chosen.google_credentials.resolve() == project / folder
    assert chosen.csv_folder == project / folder / "csv"


@contextmanager
def without_umask() -> Iterator[None]:
    """Clear the umask, so that the program chooses the modes of its files."""
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


def test_secret_key_is_created_once_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "instance"
    with without_umask():
        created = settings.load({"INSTANCE_FOLDER": str(folder)}).secret_key
    assert len(created) >= 32
    assert [(file.name, stat.S_IMODE(file.stat().st_mode)) for file in folder.iterdir()] == [
        ("secret_key", 0o600)
    ]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert settings.load({"INSTANCE_FOLDER": str(folder)}).secret_key == created
    assert settings.load({"INSTANCE_FOLDER": str(tmp_path / "other")}).secret_key != created


def test_given_secret_key_is_used_and_not_stored(tmp_path: Path) -> None:
    assert (
        settings.load({"INSTANCE_FOLDER": str(tmp_path / "instance"), "SECRET_KEY": KEY}).secret_key
        == KEY
    )
    assert not (tmp_path / "instance").exists()


def test_simultaneous_first_starts_agree_on_one_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The worst case: every start finds no key before any of them creates one.
    together, token_hex, arrived = threading.Barrier(8), secrets.token_hex, set[int]()

    def together_token_hex(length: int) -> str:
        if threading.get_ident() not in arrived:
            arrived.add(threading.get_ident())
            together.wait(timeout=30)
        return token_hex(length)

    monkeypatch.setattr(secrets, "token_hex", together_token_hex)
    with ThreadPoolExecutor(8) as pool:
        keys = list(
            pool.map(
                lambda _: settings.load({"INSTANCE_FOLDER": str(tmp_path / "instance")}).secret_key,
                range(8),
            )
        )
    assert len(arrived) == 8
    assert len(set(keys)) == 1
    assert [file.name for file in (tmp_path / "instance").iterdir()] == ["secret_key"]


@pytest.mark.parametrize(
    "kept", [b"", b"short\n", b"\xff" * 64, None], ids=["empty", "short", "not UTF-8", "directory"]
)
def test_invalid_stored_key_is_rejected_and_kept(tmp_path: Path, kept: bytes | None) -> None:
    path = tmp_path / "secret_key"
    if kept is None:
        path.mkdir()
    else:
        path.write_bytes(kept)
    with pytest.raises(SettingsError, match=str(path)):
        settings.load({"INSTANCE_FOLDER": str(tmp_path)})
    assert path.is_dir() if kept is None else path.read_bytes() == kept


def test_folder_that_cannot_store_the_key_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="SECRET_KEY"):
        settings.load({"INSTANCE_FOLDER": str(tmp_path / "file" / "instance")})


def test_misspelled_settings_are_reported_at_start(fresh: Installation) -> None:
    fresh.environment |= {"TRUSTED_PROXYS": "1", "METRIC_TOKEN": "hunter2", "TEST_NAME": "x"}
    created = fresh.flask("init-db")
    sentences = [
        "METRIC_TOKEN is not a setting and has no effect. Did you mean METRICS_TOKEN?",
        "TRUSTED_PROXYS is not a setting and has no effect. Did you mean TRUSTED_PROXIES?",
    ]
    assert created.stderr.splitlines() == [f"Warning: {sentence}" for sentence in sentences]
    fresh.start()
    fresh.end()
    warnings = [line for line in fresh.log.splitlines() if " WARNING " in line]
    assert [line.partition("] ")[2] for line in warnings] == sentences
    assert "hunter2" not in fresh.log


def test_misspelled_setting_in_env_file_is_found(project: Path) -> None:
    (project / ".env").write_text(f"SECRET_KEY={KEY}\nTRUSTED_PROXYS=1\n", encoding="utf-8")
    assert "TRUSTED_PROXYS" in [found.name for found in settings.load().misspellings]


def test_host_localhost_is_accepted_where_its_address_is(fresh: Installation) -> None:
    fresh.flask("init-db")
    chosen = settings.load(fresh.environment | {"TRUSTED_HOSTS": "b.example.com,127.0.0.1"})
    client = create_app(chosen).test_client()
    for host, status in (
        ("127.0.0.1:8000", 200),
        ("localhost", 200),
        ("localhost:8000", 200),
        ("b.example.com", 200),
        ("localhost.example.com", 400),
        ("other.example.com", 400),
    ):
        assert client.get("/api/auth/me", headers={"Host": host}).status_code == (
            401 if status == 200 else 400
        ), host
        assert client.get("/sign-in", headers={"Host": host}).status_code == status, host
    database.disconnect()


def test_liveness_has_the_version(fresh: Installation) -> None:
    fresh.flask("init-db")
    client = create_app(settings.load(fresh.environment)).test_client()
    assert client.get("/healthz").get_json() == {"status": "ok", "version": __version__}
    assert client.get("/readyz").get_json() == {"status": "ready"}
    database.disconnect()


def test_sigusr2_is_one_log_line_and_ends_nothing(fresh: Installation) -> None:
    fresh.flask("init-db")
    fresh.start()
    try:
        assert fresh.server is not None
        workers = fresh.workers
        for process in (*workers, fresh.server.pid):
            os.kill(process, signal.SIGUSR2)
        wait_until(lambda: "SIGUSR2" in fresh.log, "the signal is not logged")
        for _ in range(10):
            assert requests.get(f"{fresh.url}/readyz", timeout=10).status_code == 200
        assert fresh.workers == workers
        (line,) = [line for line in fresh.log.splitlines() if "USR2" in line]
        assert line.endswith("Restart the service.")
        assert fresh.stop() == 0
        assert "Cannot listen" not in fresh.log
    finally:
        fresh.end()
