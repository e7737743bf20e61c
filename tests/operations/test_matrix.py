"""Every command and the main calls, with an instance folder that is missing, closed or a file.

They run as an unprivileged user, to whom the checkout is read-only.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from support.installation import Installation
from support.machine import (
    UNPRIVILEGED_UID,
    call_as_unprivileged_user,
    free_port,
    root_only,
)
from support.world import check_body, reserve_body

import cli
from app import create_app
from budget_sync import database, settings
from budget_sync.accounts import passwords
from budget_sync.domain.errors import RequestError

pytestmark = pytest.mark.both_engines

PASSWORD = "a long password"

#: The arguments and the input of each command.
COMMANDS: dict[str, tuple[tuple[str, ...], str]] = {
    "init-db": ((), ""),
    "upgrade-db": ((), ""),
    "demo": ((), ""),
    "verify": ((), ""),
    "stats": ((), ""),
    "doctor": ((), ""),
    "add-customer": (("new-customer", "--name", "New"), ""),
    "add-user": (
        (
            *("--customer", "org-456", "--id", "new", "--name", "New", "--role", "admin"),
            *("--email", "new@acme.com", "--password-stdin"),
        ),
        f"{PASSWORD}\n",
    ),
    "set-password": (("user-123", "--password-stdin"), f"{PASSWORD}\n"),
    "disable-user": (("fpa-001",), ""),
    "enable-user": (("fpa-001",), ""),
    "list-users": ((), ""),
    "list-customers": ((), ""),
    "add-key": (("--customer", "org-456", "--name", "another"), ""),
    "list-keys": ((), ""),
    "set-budget": (
        (
            *("--customer", "org-456", "--department", "Legal", "--period", "Q1 2025"),
            *("--amount", "100"),
        ),
        "",
    ),
    "add-source": (("--customer", "org-456", "--csv", "plan.csv", "--accept"), ""),
    "list-sources": ((), ""),
    "sync-sheets": ((), ""),
    "deliver": (("--once",), ""),
    "prune-checks": (("--older-than", "30"), ""),
    "backup": (("{folder}",), ""),
}

#: Commands that a matrix of folders cannot test: they need a key, a source, a file or a server of
#: their own, or they end what the calls after them need.
ELSEWHERE = {"serve", "restore", "copy-to", "disable-customer", "revoke-key", "remove-source"}


def missing(folder: Path) -> None:
    """No folder, in a parent that lets the service create it."""
    os.chown(folder.parent, UNPRIVILEGED_UID, UNPRIVILEGED_UID)


def missing_in_a_closed_parent(folder: Path) -> None:
    """No folder, and no right to create it."""


def closed(folder: Path) -> None:
    """A folder of another user, which the service may read."""
    folder.mkdir(mode=0o755)


def unreadable(folder: Path) -> None:
    """A folder of another user, which the service may not enter."""
    folder.mkdir(mode=0o700)


def a_file(folder: Path) -> None:
    """A file in the folder's place."""
    folder.touch()


def a_broken_link(folder: Path) -> None:
    """A link to nowhere in the folder's place."""
    folder.symlink_to(folder.parent / "nowhere")


UNUSABLE = (missing_in_a_closed_parent, closed, unreadable, a_file, a_broken_link)


@pytest.fixture
def box() -> Iterator[Path]:
    """A folder that every user can enter: pytest's own is closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="budget-sync-tests-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def moved(installation: Installation, box: Path) -> dict[str, str]:
    """The guide's world with its database elsewhere, and an instance folder that does not exist.

    On SQLite the database is in a folder of the service's user.
    """
    environment = dict(installation.environment)
    if "DATABASE_URL" not in environment:
        data = box / "data"
        shutil.copytree(installation.folder, data)
        for path in (data, *data.rglob("*")):
            os.chown(path, UNPRIVILEGED_UID, UNPRIVILEGED_UID)
        environment["DATABASE_URL"] = f"sqlite:///{data}/budget_sync.db"
    (box / "backups").mkdir()
    os.chown(box / "backups", UNPRIVILEGED_UID, UNPRIVILEGED_UID)
    (box / "parent").mkdir()
    return environment | {"INSTANCE_FOLDER": str(box / "parent" / "instance")}


def run_commands(environment: dict[str, str], backups: Path) -> dict[str, list[Any]]:
    """The exit status, the output and the unhandled exception of each command."""
    app = create_app(settings.load(environment))
    results = {}
    names = {str(command.name) for command in cli.COMMANDS}
    # A command without arguments here ends with one line about its usage, if it needs any.
    others = dict.fromkeys(sorted(names - COMMANDS.keys() - ELSEWHERE), ((), ""))
    for name, (arguments, typed) in (COMMANDS | others).items():
        line = [name, *(word.format(folder=backups) for word in arguments)]
        result = app.test_cli_runner().invoke(args=line, input=typed)
        is_handled = result.exception is None or isinstance(result.exception, SystemExit)
        results[name] = [
            result.exit_code,
            result.stdout,
            result.stderr,
            "" if is_handled else repr(result.exception),
        ]
    database.disconnect()
    return results


def call(environment: dict[str, str], key: dict[str, str]) -> dict[str, Any]:
    """The status of each call, with its body if it is an error."""
    app = create_app(settings.load(environment))
    client = app.test_client()
    login = {"email": "jane@acme.com", "password": PASSWORD}
    calls: dict[str, Callable[[], Any]] = {
        "alive": lambda: client.get("/healthz"),
        "ready": lambda: client.get("/readyz"),
        "check": lambda: client.post("/api/budget/check", json=check_body()),
        "reserve": lambda: client.post("/api/budget/reserve", json=reserve_body(), headers=key),
        "budgets": lambda: client.get("/api/budgets", headers=key),
        "page": lambda: client.get("/sign-in"),
        "login": lambda: client.post("/api/auth/login", json=login),
        "metrics": lambda: client.get("/metrics"),
        "sync": lambda: client.get("/api/cron/sync-google-sheets", headers=CRON),
    }
    replies = {name: send() for name, send in calls.items()}
    database.disconnect()
    return {
        name: [reply.status_code, reply.text if name in ("login", "ready", "sync") else ""]
        for name, reply in replies.items()
    }


CRON = {"Authorization": "Bearer a secret for cron, long enough"}


#: What the child process would import, in which it may be unable to read Python's library.
_IMPORTED_LATER = (
    *("_strptime", "encodings.utf_8_sig", "encodings.unicode_escape", "encodings.idna"),
    *("budget_sync.web.openapi.document", "budget_sync.server.arbiter"),
    *("gspread", "babel.numbers", "getpass", "pwd"),
)


def prepared(environment: dict[str, str]) -> dict[str, str]:
    """The environment, with what the child process needs imported."""
    for name in _IMPORTED_LATER:
        import_module(name)
    return environment | {"CRON_SECRET": CRON["Authorization"].removeprefix("Bearer ")}


@root_only
def test_missing_folder_is_created_at_first_need(
    moved: dict[str, str], installation: Installation, box: Path
) -> None:
    folder = Path(moved["INSTANCE_FOLDER"])
    missing(folder)
    environment, key = prepared(moved), installation.key()
    before = os.umask(0)
    try:
        results = call_as_unprivileged_user(lambda: run_commands(environment, box / "backups"))
    finally:
        os.umask(before)
    assert {name: result for name, result in results.items() if result[3]} == {}
    # The test server is not durable, which the doctor finds, and the sources have no files.
    without_files = {"doctor", "add-source", "sync-sheets"}
    failed = {name for name in COMMANDS if results[name][0]} - without_files
    assert {name: results[name] for name in failed} == {}
    status = folder.stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (UNPRIVILEGED_UID, 0o700)
    shutil.rmtree(folder)
    statuses = call_as_unprivileged_user(lambda: call(environment, key))
    assert {name: reply[0] for name, reply in statuses.items()} == {
        "alive": 200,
        "ready": 200,
        "check": 200,
        "reserve": 200,
        "budgets": 200,
        "login": 200,
        "page": 200,
        "metrics": 404,
        "sync": 200,
    }
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@root_only
@pytest.mark.parametrize("place", UNUSABLE, ids=lambda place: place.__name__)
def test_unusable_folder_is_one_line_of_each_command(
    moved: dict[str, str], box: Path, place: Callable[[Path], None]
) -> None:
    place(Path(moved["INSTANCE_FOLDER"]))
    environment = prepared(moved)
    results = call_as_unprivileged_user(lambda: run_commands(environment, box / "backups"))
    assert {name: result for name, result in results.items() if result[3]} == {}
    for name, (status, _, errors, _) in results.items():
        assert "Traceback" not in errors, name
        if status and name not in ("doctor", "sync-sheets"):
            assert len(errors.splitlines()) == 1, (name, errors)
    for name in ("add-user", "set-password"):
        status, _, errors, _ = results[name]
        assert (status, "The instance folder cannot be used: " in errors) == (1, True), errors
    assert "Instance folder: " in results["doctor"][1]


@root_only
@pytest.mark.parametrize("place", UNUSABLE, ids=lambda place: place.__name__)
def test_service_with_an_unusable_folder_is_not_ready(
    moved: dict[str, str], installation: Installation, place: Callable[[Path], None]
) -> None:
    place(Path(moved["INSTANCE_FOLDER"]))
    environment, key = prepared(moved), installation.key()
    replies = call_as_unprivileged_user(lambda: call(environment, key))
    assert {name: reply[0] for name, reply in replies.items()} == {
        "alive": 200,
        "ready": 503,
        "check": 200,
        "reserve": 200,
        "budgets": 200,
        "login": 503,
        "page": 200,
        "metrics": 404,
        "sync": 200,
    }
    # A path of the machine is for the log only.
    for _, text in replies.values():
        assert moved["INSTANCE_FOLDER"] not in text
    assert "instance folder cannot be used" in replies["login"][1]
    if database.is_file():
        # PostgreSQL has the locks of sync runs.
        assert "The instance folder cannot be used: " in replies["sync"][1]


@root_only
@pytest.mark.parametrize("place", UNUSABLE, ids=lambda place: place.__name__)
def test_server_does_not_start_with_an_unusable_folder(
    moved: dict[str, str], place: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    place(Path(moved["INSTANCE_FOLDER"]))
    environment, port = prepared(moved), str(free_port())
    monkeypatch.setattr(import_module("budget_sync.server.arbiter").Server, "run", lambda _: None)

    def serve() -> list[Any]:
        app = create_app(settings.load(environment))
        result = app.test_cli_runner().invoke(args=["serve", "--port", port])
        return [result.exit_code, result.stderr]

    status, errors = call_as_unprivileged_user(serve)
    assert status == 1
    assert "The instance folder cannot be used: " in errors
    assert len(errors.splitlines()) == 1


def test_read_only_checkout_asks_for_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default instance folder is in the checkout."""
    (tmp_path / "checkout").touch()
    monkeypatch.setattr(settings, "PROJECT_FOLDER", tmp_path / "checkout")
    with pytest.raises(settings.SettingsError, match="set INSTANCE_FOLDER") as raised:
        settings.load({})
    assert len(str(raised.value).splitlines()) == 1


def test_slots_leave_no_open_file_if_one_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "password-slot-1.lock").mkdir()
    opened = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # only the number
    for _ in range(5):
        with pytest.raises(RequestError):
            passwords.require_slots(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == opened  # noqa: PTH208  # the same
