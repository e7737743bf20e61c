"""Backups and restores.

A backup file is verified before it gets its name, and again before it replaces a database.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import peewee

from budget_sync import database
from budget_sync.database import DatabaseUnusableError, audit_log, db
from budget_sync.database.models import ApiKey, AuditLog, Session, User
from budget_sync.domain import clock
from budget_sync.domain.permissions import Actor
from budget_sync.ledger import verification
from budget_sync.ledger.verification import Verification
from budget_sync.runtime import files

log = logging.getLogger(__name__)

#: The file in the instance folder that records the latest backup.
NOTE = "last_backup.json"

#: Called with a description of the current step.
Report = Callable[[str], None]

_CHUNK = 4 * 1024 * 1024

# The end of a backup: the SHA-256 of everything before it. SQLite ignores what follows the last
# page.
_SEAL = "\nbudget-sync backup, sha256 {}\n"
_SEAL_BEGINS = _SEAL.encode()[:10]
_SEAL_LENGTH = len(_SEAL.format("0" * 64))

# The size of a database file is a multiple of its page size, which is at least this many bytes.
_SMALLEST_PAGE = 512


@dataclass(frozen=True, slots=True)
class Backup:
    """A finished backup. `note_error` is why it could not be recorded as the latest one."""

    path: Path
    size: int
    verification: Verification
    note_error: OSError | None


@dataclass(frozen=True, slots=True)
class Restored:
    """The result of a restore.

    `version` is the backup's schema version, and `kept` the file with the replaced database.
    `reverted` names the keys and users whose later change the restore undid; None if the replaced
    database cannot be read.
    """

    verification: Verification
    version: int
    last_movement: datetime | None
    kept: Path | None
    reverted: list[str] | None


def take(path: Path, note: Path, report: Report) -> Backup:
    """Write a backup to a new file, or to a file in a folder, named by the current time.

    The file gets its name when it is complete, verified and synced to disk. The file `note` then
    records it as the latest backup. If its balances contradict each other, its name ends with
    .unproven, it cannot be restored and it is not recorded. Raises DatabaseUnusableError or OSError
    if no backup was written.
    """
    target = path / f"budget-sync-{_stamp()}.db" if path.is_dir() else path
    _require_free(target)
    database.require_current_schema(allow_older=database.is_file())
    with _draft(target) as draft:
        database.write_copy(
            draft, lambda done, total: report(f"copying: {100 * done // max(total, 1)}%")
        )
        report("verifying the copy")
        try:
            result = _verify_unchanged(draft)
        except DatabaseUnusableError as problem:
            raise DatabaseUnusableError(
                f"No backup was created, because the copy is unusable: {problem}."
            ) from problem
        if result.findings:
            target = target.with_name(f"{target.name}.unproven")
        size = _seal(draft)
        _require_free(target)
        draft.rename(target)
        database.sync_folder(target.parent)
    note_error = None if result.findings else _write_note(note, target, size)
    return Backup(target, size, result, note_error)


def _write_note(note: Path, target: Path, size: int) -> OSError | None:
    """Record a backup as the latest one.

    Returns the error if that fails: the backup itself is good without the note.
    """
    taken_at = clock.to_text(clock.now())
    try:
        files.create_folder(note.parent)
        files.write(
            note, json.dumps({"path": str(target.resolve()), "size": size, "takenAt": taken_at})
        )
    except OSError as error:
        return error
    return None


def latest(note: Path) -> tuple[Path, datetime] | None:
    """The latest backup and its time; None if no backup is known or the file is gone."""
    try:
        noted = json.loads(note.read_text(encoding="utf-8"))
        path = Path(noted["path"])
        return (
            (path, clock.from_text(noted["takenAt"]))
            if path.stat().st_size == noted["size"]
            else None
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def restore(
    actor: Actor, path: Path, folder: Path, report: Report, *, without_checksum: bool = False
) -> Restored:
    """Replace the database with a backup after verifying it; `folder` gets the replaced database.

    A file that does not end with a checksum is accepted only `without_checksum`, because a changed
    text in it cannot be detected. An older backup is upgraded to the current schema. All sessions
    are ended, and the restored audit log gets a row about the restore. Raises DatabaseUnusableError
    or OSError and leaves the database unchanged.
    """
    _require_backup(path)
    kept = folder / f"replaced-{_stamp()}.db"
    files.create_folder(folder)
    with _installation_draft(db.file_path if database.is_file() else kept) as draft:
        try:
            result, version = _copy_verified(path, draft, report, without_checksum=without_checksum)
        except DatabaseUnusableError as problem:
            raise DatabaseUnusableError(
                f"{path} cannot be restored, and nothing was changed: {str(problem).rstrip('.')}."
            ) from problem
        report("ending the sessions")
        with database.connected_to(draft), db.atomic():
            # The file may be a backup from after a `flask copy-to`. The restore undoes that.
            database.accept_writes(db.connection())
            Session.delete().execute()
            last_movement = AuditLog.select(AuditLog.createdAt).order_by(AuditLog.id.desc()).first()
            # Only the file name: readers of the audit log need not know the machine's folders.
            # Operators find the whole path in the log.
            audit_log.record(actor, "RESTORE", customer_id=None, subject=path.name)
            restored = _credentials()
        _sync(draft)
        report("replacing the database")
        replaced = (
            database.replace_file(draft, kept)
            if database.is_file()
            else _replace_rows(draft, kept, report)
        )
    log.warning("The database was replaced by the backup %s.", path)
    return Restored(
        result,
        version,
        last_movement and last_movement.createdAt,
        replaced,
        _reverted(replaced, restored) if replaced else [],
    )


def _copy_verified(
    path: Path, draft: Path, report: Report, *, without_checksum: bool
) -> tuple[Verification, int]:
    """Copy a backup to `draft`, verify the copy and upgrade it; returns the schema version it had.

    Raises DatabaseUnusableError if it must not be restored.
    """
    is_sealed = _copy(path, draft, report)
    report("verifying the backup")
    result, version = _verify_and_upgrade(draft)
    if result.findings:
        raise DatabaseUnusableError(
            f"{len(result.findings)} contradictions were found in it; "
            f"the first: {result.findings[0]}"
        )
    if not (is_sealed or without_checksum):
        raise DatabaseUnusableError(
            "its balances are consistent, but it does not end with the checksum of a "
            "backup, so a text in it may have changed; if it never had a checksum, as "
            "with a database that a restore replaced, add --without-checksum"
        )
    return result, version


def _require_backup(path: Path) -> None:
    """Raise DatabaseUnusableError if the path is obviously not a backup, before any copy."""
    if not path.is_file():
        raise DatabaseUnusableError(f"There is no file {path}.")
    if database.is_file() and db.file_path.exists() and path.samefile(db.file_path):
        raise DatabaseUnusableError(f"{path} is the database itself.")
    for suffix in ("-wal", "-journal"):
        beside = path.with_name(path.name + suffix)
        if beside.exists() and beside.stat().st_size:
            raise DatabaseUnusableError(
                f"{path} is not a backup: a part of its data is in {beside.name} beside it. "
                "Create a backup with `flask backup`."
            )


def _replace_rows(draft: Path, kept: Path, report: Report) -> Path | None:
    def verify() -> None:
        report("verifying the restored rows")
        findings = verification.find_contradictions().findings
        if findings:
            raise DatabaseUnusableError(
                "The restored balances contradict each other, and nothing was changed: "
                f"{findings[0]}"
            )

    with _installation_draft(kept) as old:
        was_there = database.replace_rows(
            draft,
            old,
            verify,
            lambda done, total: report(
                f"saving the current database: {100 * done // max(total, 1)}%"
            ),
        )
        if not was_there:
            return None
        _sync(old)
        replaced = files.rename_to_new(old, kept)
        database.sync_folder(kept.parent)
    return replaced


def _verify_and_upgrade(draft: Path) -> tuple[Verification, int]:
    """Verify a file that no other process uses, after upgrading an older schema.

    Also returns the schema version that the file had. Raises DatabaseUnusableError if the file is
    damaged, incomplete, not a database of this program, or of a newer version.
    """
    with database.connected_to(draft, immutable=True):
        database.require_intact_file()
        version = database.schema_version() or 0
    if version > database.SCHEMA_VERSION:
        raise DatabaseUnusableError(
            f"its schema version is {version}, newer than this program's "
            f"{database.SCHEMA_VERSION}: install a newer version of the program"
        )
    if version < database.SCHEMA_VERSION:
        with database.connected_to(draft):
            database.accept_writes(db.connection())
            database.upgrade_schema()
    with database.connected_to(draft, immutable=True):
        database.require_complete_schema()
        return verification.verify(), version


def _verify_unchanged(draft: Path) -> Verification:
    """Verify a file without changing it. An older schema is upgraded in a second copy."""
    with database.connected_to(draft, immutable=True):
        is_older = (database.schema_version() or 0) < database.SCHEMA_VERSION
    if not is_older:
        return _verify_and_upgrade(draft)[0]
    with _draft(draft) as upgraded:
        shutil.copyfile(draft, upgraded)
        return _verify_and_upgrade(upgraded)[0]


def _credentials() -> dict[str, tuple[bool, str | None]]:
    """All keys and users by name: whether they are active, and the hash of the key or password."""
    keys = {
        f"key {row.id} ({row.name})": (row.revokedAt is None, row.secretHash)
        for row in ApiKey.select()
    }
    return keys | {
        f"user {row.id} ({row.name})": (row.disabledAt is None, row.passwordHash)
        for row in User.select(User.id, User.name, User.disabledAt, User.passwordHash)
    }


def _reverted(kept: Path, restored: dict[str, tuple[bool, str | None]]) -> list[str] | None:
    """The keys and users that are active now, but were inactive or had another secret in `kept`.

    None if the replaced database `kept` cannot be read.
    """
    # If a reader prevented the checkpoint, the write-ahead log was moved together with its file.
    # The latest changes are then in the log.
    has_log = kept.with_name(f"{kept.name}-wal").exists()
    try:
        with database.connected_to(kept, immutable=not has_log):
            replaced = _credentials()
    except peewee.PeeweeException:
        return None
    return sorted(
        name
        for name, (is_active, secret) in restored.items()
        if name in replaced and is_active and (is_active, secret) != replaced[name]
    )


@contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """An empty file beside the target, readable only by its owner, deleted unless it is renamed."""
    draft = _draft_name(target)
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    yield from _until_renamed(draft)


@contextmanager
def _installation_draft(target: Path) -> Iterator[Path]:
    """A draft owned by the service's user, who must be able to open what root restored."""
    draft = _draft_name(target)
    os.close(files.create(draft, like=target.name))
    yield from _until_renamed(draft)


def _draft_name(target: Path) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")


def _until_renamed(draft: Path) -> Iterator[Path]:
    try:
        yield draft
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            draft.with_name(draft.name + suffix).unlink(missing_ok=True)


def _seal(draft: Path) -> int:
    """Append the checksum, sync the file to disk and return its size."""
    with draft.open("r+b") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.seek(0, os.SEEK_END) + file.write(_SEAL.format(digest).encode())
        file.flush()
        os.fsync(file.fileno())
    return size


def _copy(path: Path, draft: Path, report: Report) -> bool:
    """Copy a backup without its checksum. Returns whether it had one.

    Raises DatabaseUnusableError if the checksum does not match.
    """
    digest = hashlib.sha256()
    with path.open("rb") as source, open(files.open_or_create(draft), "wb") as target:
        size = os.fstat(source.fileno()).st_size
        source.seek(max(size - _SEAL_LENGTH, 0))
        seal = source.read()
        if seal.startswith(_SEAL_BEGINS):
            size -= len(seal)
        source.seek(0)
        while target.tell() < size and (chunk := source.read(min(_CHUNK, size - target.tell()))):
            digest.update(chunk)
            target.write(chunk)
            report(f"reading the backup: {100 * target.tell() // size}%")
        is_sealed = seal.startswith(_SEAL_BEGINS)
        if is_sealed and seal != _SEAL.format(digest.hexdigest()).encode():
            raise DatabaseUnusableError("it is damaged: its checksum does not match")
        if size % _SMALLEST_PAGE:
            raise DatabaseUnusableError("it is not a database, or it was cut off")
    return is_sealed


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _require_free(target: Path) -> None:
    if os.path.lexists(target):
        raise DatabaseUnusableError(
            f"{target} exists. Choose another name: files are never overwritten."
        )


def _stamp() -> str:
    return f"{clock.now():%Y%m%dT%H%M%SZ}"
