"""Checks of an installation: file permissions, database, disk, backups, proxy, demo."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from budget_sync import database
from budget_sync.accounts import passwords
from budget_sync.database import DatabaseUnusableError, db
from budget_sync.database.models import AuditLog, Customer
from budget_sync.domain import clock
from budget_sync.domain.errors import RequestError
from budget_sync.ledger import verification
from budget_sync.operations import backups, demo
from budget_sync.operations.doctor.findings import Finding, failed, ok, warning
from budget_sync.settings import PROJECT_FOLDER, Settings

#: The write-ahead log grows until a checkpoint. One is due after every 4,000 rows that a process
#: changed, which is up to 33 MB of log (see `database.sqlite.checkpoints`). Beyond 64 MB, every
#: commit tries one.
LARGE_LOG_BYTES = 256 * 1024 * 1024

#: The free space must hold two copies of the database, and at least this much.
LEAST_ROOM_BYTES = 1024 * 1024 * 1024

BACKUP_IS_OLD = timedelta(hours=26)

#: A larger difference ends sessions early and puts wrong times into the audit log.
CLOCK_IS_OFF_S = 60


def misspellings(settings: Settings) -> Iterator[Finding]:
    """Report names in the environment and in `.env` that look like a setting but have no effect."""
    for found in settings.misspellings:
        yield warning("Settings", found.sentence, f"remove or correct {found.name}")


def files(settings: Settings) -> Iterator[Finding]:
    """Check that only the service's user can read the secrets, and that it owns its files."""
    yield _instance_folder(settings.instance_folder)
    folder = settings.instance_folder
    env = PROJECT_FOLDER / ".env"
    found = [
        path
        for path in (folder, *folder.glob("*"), *folder.glob("demo/*"), settings.database_path, env)
        if _exists(path)
    ]
    if settings.google_credentials:
        if _exists(settings.google_credentials) and settings.google_credentials.is_file():
            found.append(settings.google_credentials)
        else:
            yield failed(
                "Google credentials",
                f"there is no file {settings.google_credentials}",
                "put the JSON key of the service account there",
            )
    # If no other user may enter the folder, no other user can read the files in it.
    is_private = not stat.S_IMODE(folder.stat().st_mode) & 0o077 if _exists(folder) else False
    readable = [
        path for path in found if _is_open(path) and not (is_private and path.parent == folder)
    ]
    owner = (
        settings.database_path.stat().st_uid if settings.database_path in found else os.geteuid()
    )
    others = [path for path in found if path.stat().st_uid != owner and path.is_relative_to(folder)]
    if readable:
        names = " ".join(map(str, readable))
        yield failed(
            "File permissions",
            f"other users of this machine may read {names}",
            f"`chmod o-rwx,g-w {names}`",
        )
    if others:
        yield failed(
            "File owner",
            f"{others[0]} and the database belong to different users",
            f"give all files in {folder} to the service's user, with chown",
        )
    if not (readable or others):
        yield ok(
            "File permissions",
            f"no other user may read the database, .env or the secrets in {folder}",
        )


def _instance_folder(folder: Path) -> Finding:
    name = "Instance folder"
    if not os.path.lexists(folder):
        return warning(
            name,
            f"there is no folder {folder}, which signing in needs",
            "create it for the service's user, as in docs/install.md; otherwise, the service tries "
            "to create it when it needs it",
        )
    try:
        passwords.require_slots(folder)
    except RequestError as error:
        return failed(
            name,
            f"{folder} cannot be used: {error.__cause__}",
            "correct its owner and permissions, or set INSTANCE_FOLDER: no user can sign in",
        )
    return ok(name, f"this user can create and open files in {folder}")


def _exists(path: Path) -> bool:
    """Whether the path exists. False if this process may not look, for which Path.exists raises."""
    try:
        return path.exists()
    except OSError:
        return False


def _is_open(path: Path) -> bool:
    """Whether other users may read the file, or its group may write it."""
    return bool(stat.S_IMODE(path.stat().st_mode) & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP))


def engine() -> Iterator[Finding]:
    """Check the database: file, schema, durability, balances and clock."""
    # The program does not start with an SQLite library that has the WAL-reset bug.
    yield ok(
        "Database",
        f"{database.engine_version()}, schema version {database.SCHEMA_VERSION}, "
        f"{database.label()}",
    )
    if database.is_file():
        try:
            database.require_intact_file()
        except DatabaseUnusableError as problem:
            yield failed(
                "Database file", str(problem), "restore a backup with `flask restore PATH`"
            )
        else:
            yield ok("Database file", "undamaged, and no row refers to a missing row")
    yield _schema()
    settings, wrong = database.durability()
    if wrong:
        yield failed(
            "Durability",
            ", ".join(wrong),
            "change this setting: a power cut could lose acknowledged requests",
        )
    else:
        yield ok("Durability", ", ".join(settings))
    result = verification.verify()
    if result.findings:
        yield failed(
            "Balances",
            f"{len(result.findings)} contradictions; the first: {result.findings[0]}",
            "list all with `flask verify`, then restore a backup",
        )
    else:
        yield ok(
            "Balances",
            f"consistent: {result.budgets} budgets, {result.reservations} reservations, "
            f"{result.movements} audit rows",
        )
    yield _clock()


def _schema() -> Finding:
    try:
        database.require_complete_schema()
    except DatabaseUnusableError as problem:
        # On PostgreSQL, a restore fills existing tables and does not repair them.
        where = "" if database.is_file() else ", with DATABASE_URL naming an empty database"
        return failed("Schema", str(problem), f"restore a backup with `flask restore PATH`{where}")
    return ok("Schema", "every table, index and trigger exists")


def _clock() -> Finding:
    newest = AuditLog.select(AuditLog.createdAt).order_by(AuditLog.id.desc()).first()
    ahead_s = database.clock_offset_s()
    if newest and (newest.createdAt - clock.now()).total_seconds() > CLOCK_IS_OFF_S:
        return failed(
            "Clock",
            f"the newest audit row is from {clock.to_text(newest.createdAt)}, in the future",
            "set the clock, and synchronize it with NTP",
        )
    if abs(ahead_s) > CLOCK_IS_OFF_S:
        return failed(
            "Clock",
            f"the database server is {ahead_s:.0f} seconds ahead of this machine",
            "set both clocks, and synchronize them with NTP",
        )
    return ok("Clock", f"{clock.to_text(clock.now())}, and no audit row is from the future")


def surroundings(settings: Settings) -> Iterator[Finding]:
    """Check the write-ahead log, the disk, the latest backup, the proxy, and the demo."""
    size = 0
    if database.is_file():
        log_size = database.wal_size()
        size = db.file_path.stat().st_size
        if log_size > LARGE_LOG_BYTES:
            yield warning(
                "Write-ahead log",
                f"{_mb(log_size)} are not copied into the database yet",
                "find and stop the process that has been reading the database for hours",
            )
        else:
            yield ok("Write-ahead log", f"{_mb(log_size)}")
    yield _room(settings, size)
    yield _backup(settings)
    yield from _proxy(settings)
    if _exists(demo.demo_folder(settings.instance_folder)) and Customer.get_or_none(
        Customer.id == demo.CUSTOMER
    ):
        yield warning(
            "Demo",
            f"loaded, with its passwords in {demo.demo_folder(settings.instance_folder)}",
            f"disable it with `flask disable-customer {demo.CUSTOMER}`",
        )


def _room(settings: Settings, size: int) -> Finding:
    folder = db.file_path.parent if database.is_file() else settings.instance_folder
    # The folder may be missing, or a file.
    while not (_exists(folder) and folder.is_dir()) and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < LEAST_ROOM_BYTES // 10:
        return failed(
            "Disk",
            f"{_mb(free)} free at {folder}",
            "free some space: on a full disk, every call that moves money fails",
        )
    if free < max(LEAST_ROOM_BYTES, 2 * size):
        return warning(
            "Disk",
            f"{_mb(free)} free at {folder}, with a database of {_mb(size)}",
            "free some space: a restore needs twice the size of the database",
        )
    return ok("Disk", f"{_mb(free)} free at {folder}")


def _backup(settings: Settings) -> Finding:
    todo = "create one every night with `flask backup FOLDER` (see deploy/budget-sync.cron)"
    latest = backups.latest(settings.instance_folder / backups.NOTE)
    if latest is None:
        return warning(
            "Backup", "no backup of this installation is known, or its file is gone", todo
        )
    path, taken_at = latest
    seen = f"{path}, from {clock.to_text(taken_at)}"
    return (
        warning("Backup", seen, todo)
        if clock.now() - taken_at > BACKUP_IS_OLD
        else ok("Backup", seen)
    )


def _proxy(settings: Settings) -> Iterator[Finding]:
    if not settings.trusted_proxies:
        yield ok("Proxy", "TRUSTED_PROXIES is 0: callers connect directly to this machine")
        return
    if not settings.trusted_hosts:
        yield warning(
            "Proxy",
            "TRUSTED_HOSTS is not set: every host name is accepted",
            "set it to the host name in the service's address",
        )
    if not settings.session_cookie_secure:
        yield failed(
            "Proxy",
            "SESSION_COOKIE_SECURE is false: session cookies are also sent without TLS",
            "set it to true",
        )
    if settings.trusted_hosts and settings.session_cookie_secure:
        yield ok(
            "Proxy",
            f"{settings.trusted_proxies} trusted; accepts {', '.join(settings.trusted_hosts)}; "
            "session cookies only over https",
        )


def _mb(size: int) -> str:
    return f"{size / 1_000_000:,.0f} MB"
