"""Files, engine and surroundings of an installation: who may read them, whether a commit lasts, whether there is room."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from budget_sync import database
from budget_sync.database import DatabaseProblem, db
from budget_sync.database.models import AuditLog, Customer
from budget_sync.domain import clock
from budget_sync.ledger import verification
from budget_sync.operations import backups, demo
from budget_sync.operations.doctor.findings import Finding, failed, ok, warning
from budget_sync.settings import PROJECT_FOLDER, Settings

#: A log that is not played into the database grows. A checkpoint is due with every 4,000 rows that a process changed, which is up to
#: 33 MB of log (see `database.checkpoints`), and beyond 64 MB every commit tries to make one.
LARGE_LOG_BYTES = 256 * 1024 * 1024

#: Room for a copy of the database, twice, and never less than this.
LEAST_ROOM_BYTES = 1024 * 1024 * 1024

BACKUP_IS_OLD = timedelta(hours=26)

#: A clock that is further off makes sessions end early and audit rows lie.
CLOCK_IS_OFF_S = 60


def files(settings: Settings) -> Iterator[Finding]:
    """Who may read and write what is secret; one file that the service's user cannot write stops it."""
    folder = settings.instance_folder
    env = PROJECT_FOLDER / ".env"
    found = [
        path
        for path in (folder, *folder.glob("*"), *folder.glob("demo/*"), settings.database_path, env)
        if path.exists()
    ]
    if settings.google_credentials:
        if settings.google_credentials.is_file():
            found.append(settings.google_credentials)
        else:
            yield failed(
                "Google credentials",
                f"there is no file {settings.google_credentials}",
                "put the service account's JSON key there",
            )
    # A folder that nobody else may enter keeps what is in it.
    shut = not stat.S_IMODE(folder.stat().st_mode) & 0o077 if folder.exists() else False
    open_to_all = [
        path for path in found if _is_open(path) and not (shut and path.parent == folder)
    ]
    owner = (
        settings.database_path.stat().st_uid if settings.database_path.exists() else os.geteuid()
    )
    others = [path for path in found if path.stat().st_uid != owner and path.is_relative_to(folder)]
    if open_to_all:
        names = " ".join(map(str, open_to_all))
        yield failed(
            "File permissions",
            f"others on this machine may read {names}",
            f"chmod o-rwx,g-w {names}",
        )
    if others:
        yield failed(
            "File owner",
            f"{others[0]} belongs to another user than the database",
            f"chown everything in {folder} to the service's user",
        )
    if not (open_to_all or others):
        yield ok(
            "File permissions",
            f"nobody else may read the database, .env or the secrets in {folder}",
        )


def _is_open(path: Path) -> bool:
    """Others may read it, or the group may write it."""
    return bool(stat.S_IMODE(path.stat().st_mode) & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP))


def engine() -> Iterator[Finding]:
    """The database: its version, what makes a commit last, its balances, its log, its clock."""
    # The library itself was looked at when the program started, which ends with an affected one.
    yield ok(
        "Database",
        f"{database.engine_version()}, schema version {database.SCHEMA_VERSION}, {database.label()}",
    )
    if database.is_file():
        try:
            database.require_sound()
        except DatabaseProblem as problem:
            yield failed("Database file", str(problem), "restore a backup: flask restore PATH")
        else:
            yield ok("Database file", "undamaged, and no row refers to one that is not there")
    yield _schema()
    settings, lacking = database.durability()
    if lacking:
        yield failed(
            "Commits last",
            ", ".join(lacking),
            "a power cut could take back what was acknowledged: undo that setting",
        )
    else:
        yield ok("Commits last", ", ".join(settings))
    proof = verification.verify()
    if proof.findings:
        yield failed(
            "Balances",
            f"{len(proof.findings)} contradictions; the first: {proof.findings[0]}",
            "see all of them with `flask verify`, and restore a backup",
        )
    else:
        yield ok(
            "Balances",
            f"proven: {proof.budgets} budgets, {proof.reservations} reservations, {proof.movements} audit rows",
        )
    yield _clock()


def _schema() -> Finding:
    try:
        database.require_whole_schema()
    except DatabaseProblem as problem:
        # On PostgreSQL, a restore puts rows into the tables that it finds.
        where = "" if database.is_file() else ", with DATABASE_URL naming an empty database"
        return failed("Schema", str(problem), f"restore a backup: flask restore PATH{where}")
    return ok("Schema", "every table, index and trigger is there")


def _clock() -> Finding:
    newest = AuditLog.select(AuditLog.createdAt).order_by(AuditLog.id.desc()).first()
    ahead_s = database.clock_offset_s()
    if newest and (newest.createdAt - clock.now()).total_seconds() > CLOCK_IS_OFF_S:
        return failed(
            "Clock",
            f"the newest audit row is of {clock.to_text(newest.createdAt)}, which is yet to come",
            "set the clock, and keep it set (NTP)",
        )
    if abs(ahead_s) > CLOCK_IS_OFF_S:
        return failed(
            "Clock",
            f"the database server's is {ahead_s:.0f} seconds ahead of this machine's",
            "set both clocks, and keep them set (NTP)",
        )
    return ok("Clock", f"{clock.to_text(clock.now())}, and nothing in the database is younger")


def surroundings(settings: Settings) -> Iterator[Finding]:
    """Room on the disk, the age of the latest backup, the proxy in front, and the demo."""
    size = 0
    if database.is_file():
        log_size = database.wal_size()
        size = db.file_path.stat().st_size
        if log_size > LARGE_LOG_BYTES:
            yield warning(
                "Write-ahead log",
                f"{_mb(log_size)} are not played into the database",
                "something reads for hours: end it",
            )
        else:
            yield ok("Write-ahead log", f"{_mb(log_size)}")
    yield _room(settings, size)
    yield _backup(settings)
    yield from _proxy(settings)
    if demo.demo_folder(settings.instance_folder).exists() and Customer.get_or_none(
        Customer.id == demo.CUSTOMER
    ):
        yield warning(
            "Demo",
            f"it is loaded, and its passwords lie in {demo.demo_folder(settings.instance_folder)}",
            f"flask disable-customer {demo.CUSTOMER}",
        )


def _room(settings: Settings, size: int) -> Finding:
    folder = db.file_path.parent if database.is_file() else settings.instance_folder
    free = shutil.disk_usage(folder).free
    if free < LEAST_ROOM_BYTES // 10:
        return failed(
            "Disk", f"{_mb(free)} free at {folder}", "make room: a full disk refuses every movement"
        )
    if free < max(LEAST_ROOM_BYTES, 2 * size):
        return warning(
            "Disk",
            f"{_mb(free)} free at {folder}, with a database of {_mb(size)}",
            "make room: a restore needs twice the database",
        )
    return ok("Disk", f"{_mb(free)} free at {folder}")


def _backup(settings: Settings) -> Finding:
    todo = "take one every night: flask backup FOLDER (see deploy/README.md)"
    latest = backups.latest(settings.instance_folder / backups.NOTE)
    if latest is None:
        return warning("Backup", "none is known that was taken here and is still there", todo)
    path, taken_at = latest
    seen = f"{path}, of {clock.to_text(taken_at)}"
    return (
        warning("Backup", seen, todo)
        if clock.now() - taken_at > BACKUP_IS_OLD
        else ok("Backup", seen)
    )


def _proxy(settings: Settings) -> Iterator[Finding]:
    if not settings.trusted_proxies:
        yield ok("Proxy", "TRUSTED_PROXIES is 0: callers come straight to this machine")
        return
    if not settings.trusted_hosts:
        yield warning(
            "Proxy",
            "TRUSTED_HOSTS is not set: any host name is answered to",
            "set it to the name in the service's address",
        )
    if not settings.session_cookie_secure:
        yield failed(
            "Proxy",
            "SESSION_COOKIE_SECURE is false: sessions travel without TLS as well",
            "set it to true",
        )
    if settings.trusted_hosts and settings.session_cookie_secure:
        yield ok(
            "Proxy",
            f"{settings.trusted_proxies} trusted; answers to {', '.join(settings.trusted_hosts)}, sessions over https alone",
        )


def _mb(size: int) -> str:
    return f"{size / 1_000_000:,.0f} MB"
