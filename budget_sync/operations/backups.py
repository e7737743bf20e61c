"""Backups and restores. What a backup is to be good for is proven on the file itself, before it gets its name or takes a database's place."""

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
from budget_sync.database import DatabaseProblem, audit_log, db
from budget_sync.database.models import ApiKey, AuditLog, Session, User
from budget_sync.domain import clock
from budget_sync.domain.permissions import Actor
from budget_sync.ledger import verification
from budget_sync.runtime import files

log = logging.getLogger(__name__)

#: Where the latest backup is remembered, in the instance folder.
NOTE = "last_backup.json"

#: Told what is being done.
Say = Callable[[str], None]

_CHUNK = 4 * 1024 * 1024

# What a backup ends with, after the database's last page, where SQLite does not look: the SHA-256 of all before it.
_SEAL = "\nbudget-sync backup, sha256 {}\n"
_SEAL_BEGINS = _SEAL.encode()[:10]
_SEAL_LENGTH = len(_SEAL.format("0" * 64))

# A database is a whole number of pages, and a page of SQLite's has at least so many bytes.
_SMALLEST_PAGE = 512


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was taken, its bytes, what was proven, and why it could not be noted, where it could not."""

    path: Path
    size: int
    proof: verification.Verification
    unnoted: OSError | None


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored, up to when, where the replaced database is kept, and which keys and people are again what they were then.

    None for those where the replaced database cannot be read.
    """

    proof: verification.Verification
    version: int
    last_movement: datetime | None
    kept: Path | None
    as_they_were: list[str] | None


def take(path: Path, note: Path, say: Say) -> Backup:
    """Write a backup to a new file, or into a folder, where it is named by the time; what it is remembered by goes to `note`.

    A file of that name is whole, on disk and proven. One whose balances contradict each other could not be restored: it gets the
    ending .unproven. Raises DatabaseProblem or OSError where there is no backup.
    """
    target = path / f"budget-sync-{_stamp()}.db" if path.is_dir() else path
    _require_free(target)
    database.require_current_schema(older_will_do=database.is_file())
    with _draft(target) as draft:
        database.write_copy(
            draft, lambda done, total: say(f"copying: {100 * done // max(total, 1)} %")
        )
        say("proving the copy")
        try:
            proof = _examine_copy_of(draft)
        except DatabaseProblem as problem:
            raise DatabaseProblem(
                f"There is no backup, since the copy is of no use: {problem}."
            ) from problem
        if proof.findings:
            target = target.with_name(f"{target.name}.unproven")
        size = _seal(draft)
        _require_free(target)
        draft.rename(target)
        database.sync_folder(target.parent)
    return Backup(target, size, proof, None if proof.findings else _note(note, target, size))


def _note(note: Path, target: Path, size: int) -> OSError | None:
    """Remember a backup; the error where that fails, since the backup is as good without."""
    try:
        files.write(
            note,
            json.dumps(
                {"path": str(target.resolve()), "size": size, "takenAt": clock.to_text(clock.now())}
            ),
        )
    except OSError as error:
        return error
    return None


def latest(note: Path) -> tuple[Path, datetime] | None:
    """The latest backup that was taken here, and when; None where none is known, or it is not there any more."""
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
    actor: Actor, path: Path, folder: Path, say: Say, *, without_checksum: bool = False
) -> Restored:
    """Put a backup in the place of the database, once all of it is proven; `folder` is where the replaced one is kept.

    A file that does not end with a checksum is taken `without_checksum` alone: a changed text in it would go unseen.
    An older backup is upgraded on the way. All sessions are ended, and the restored audit log gets a row that tells of the restore. Raises
    DatabaseProblem or OSError, with the database as it was.
    """
    _require_backup(path)
    kept = folder / f"replaced-{_stamp()}.db"
    files.make_folder(folder)
    with _draft_of_services_user(db.file_path if database.is_file() else kept) as draft:
        try:
            is_sealed = _copy(path, draft, say)
            say("proving the backup")
            proof, version = _examine(draft)
            if proof.findings:
                raise DatabaseProblem(
                    f"{len(proof.findings)} contradictions were found in it; the first: {proof.findings[0]}"
                )
            if not (is_sealed or without_checksum):
                raise DatabaseProblem(
                    "its balances are proven, but it does not end with the checksum of a backup, so a text in it may have changed; "
                    "if it never had one, as a database that a restore replaced, add --without-checksum"
                )
        except DatabaseProblem as problem:
            raise DatabaseProblem(
                f"{path} cannot be restored, and nothing was changed: {str(problem).rstrip('.')}."
            ) from problem
        say("ending the sessions")
        with database.elsewhere(draft), db.atomic():
            Session.delete().execute()
            last_movement = AuditLog.select(AuditLog.createdAt).order_by(AuditLog.id.desc()).first()
            # The name alone: who reads the audit log need not know the machine's folders, and who has the shell finds them in the log.
            audit_log.record(actor, "RESTORE", customer_id=None, subject=path.name)
            restored = _secrets()
        _sync(draft)
        say("replacing the database")
        replaced = (
            database.replace_file(draft, kept)
            if database.is_file()
            else _replace_rows(draft, kept, say)
        )
    log.warning("The database was replaced by the backup %s.", path)
    return Restored(
        proof,
        version,
        last_movement and last_movement.createdAt,
        replaced,
        _changed_since(replaced, restored) if replaced else [],
    )


def _require_backup(path: Path) -> None:
    """Raises DatabaseProblem for what is plainly not a backup, before anything is copied."""
    if not path.is_file():
        raise DatabaseProblem(f"There is no file {path}.")
    if database.is_file() and db.file_path.exists() and path.samefile(db.file_path):
        raise DatabaseProblem(f"{path} is the database itself.")
    for suffix in ("-wal", "-journal"):
        beside = path.with_name(path.name + suffix)
        if beside.exists() and beside.stat().st_size:
            raise DatabaseProblem(
                f"{path} is no backup: {beside.name} beside it holds a part of it. Take one with `flask backup`."
            )


def _replace_rows(draft: Path, kept: Path, say: Say) -> Path | None:
    def prove() -> None:
        say("proving what is there now")
        findings = verification.find_contradictions().findings
        if findings:
            raise DatabaseProblem(
                f"What was put in does not prove, and nothing was changed: {findings[0]}"
            )

    with _draft_of_services_user(kept) as old:
        was_there = database.replace_rows(
            draft,
            old,
            prove,
            lambda done, total: say(f"keeping what is there: {100 * done // max(total, 1)} %"),
        )
        if not was_there:
            return None
        _sync(old)
        replaced = files.rename_to_new(old, kept)
        database.sync_folder(kept.parent)
    return replaced


def _examine(draft: Path) -> tuple[verification.Verification, int]:
    """Prove a file that is ours alone, and the version it had; an older one is upgraded. Raises DatabaseProblem where it is no whole database of ours."""
    with database.elsewhere(draft, as_it_lies=True):
        database.require_sound()
        version = database.schema_version() or 0
    if version > database.SCHEMA_VERSION:
        raise DatabaseProblem(
            f"it is of schema version {version}, newer than this program's {database.SCHEMA_VERSION}: install the newer program"
        )
    if version < database.SCHEMA_VERSION:
        with database.elsewhere(draft):
            database.upgrade_schema()
    with database.elsewhere(draft, as_it_lies=True):
        database.require_whole_schema()
        return verification.verify(), version


def _examine_copy_of(draft: Path) -> verification.Verification:
    """Prove a file, which stays as it is: one that an earlier version of the program made is upgraded on another copy."""
    with database.elsewhere(draft, as_it_lies=True):
        is_older = (database.schema_version() or 0) < database.SCHEMA_VERSION
    if not is_older:
        return _examine(draft)[0]
    with _draft(draft) as upgraded:
        shutil.copyfile(draft, upgraded)
        return _examine(upgraded)[0]


def _secrets() -> dict[str, tuple[bool, str | None]]:
    """Every key and person, by name: whether they are let in, and the hash of what with."""
    keys = {
        f"key {row.id} ({row.name})": (row.revokedAt is None, row.secretHash)
        for row in ApiKey.select()
    }
    return keys | {
        f"user {row.id} ({row.name})": (row.disabledAt is None, row.passwordHash)
        for row in User.select(User.id, User.name, User.disabledAt, User.passwordHash)
    }


def _changed_since(kept: Path, restored: dict[str, tuple[bool, str | None]]) -> list[str] | None:
    """Who is let in again, or with another secret than in the replaced database; None where that cannot be read."""
    # A log that a reader kept from being played in was moved with its file, and has what came last.
    has_log = kept.with_name(f"{kept.name}-wal").exists()
    try:
        with database.elsewhere(kept, as_it_lies=not has_log):
            replaced = _secrets()
    except peewee.PeeweeException:
        return None
    return sorted(
        name
        for name, (is_in, secret) in restored.items()
        if name in replaced and is_in and (is_in, secret) != replaced[name]
    )


@contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """An empty file beside a target that nobody else can read; gone at the end, unless it was renamed."""
    draft = _draft_name(target)
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    yield from _until_renamed(draft)


@contextmanager
def _draft_of_services_user(target: Path) -> Iterator[Path]:
    """The same for a file of the installation: the service's user must be able to open what an administrator restored."""
    draft = _draft_name(target)
    os.close(files.make(draft, like=target.name))
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
    """Add what damage is noticed by, see to it that all is on disk, and return the file's bytes."""
    with draft.open("r+b") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.seek(0, os.SEEK_END) + file.write(_SEAL.format(digest).encode())
        file.flush()
        os.fsync(file.fileno())
    return size


def _copy(path: Path, draft: Path, say: Say) -> bool:
    """Copy a backup without its seal; whether it had one. Raises DatabaseProblem where one byte of it is not as it was written then."""
    digest = hashlib.sha256()
    with path.open("rb") as source, open(files.open_or_make(draft), "wb") as target:
        size = os.fstat(source.fileno()).st_size
        source.seek(max(size - _SEAL_LENGTH, 0))
        seal = source.read()
        if seal.startswith(_SEAL_BEGINS):
            size -= len(seal)
        source.seek(0)
        while target.tell() < size and (chunk := source.read(min(_CHUNK, size - target.tell()))):
            digest.update(chunk)
            target.write(chunk)
            say(f"reading the backup: {100 * target.tell() // size} %")
        is_sealed = seal.startswith(_SEAL_BEGINS)
        if is_sealed and seal != _SEAL.format(digest.hexdigest()).encode():
            raise DatabaseProblem("it is damaged: it is not what was written when it was taken")
        if size % _SMALLEST_PAGE:
            raise DatabaseProblem("it is no database, or it was cut short")
    return is_sealed


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _require_free(target: Path) -> None:
    if os.path.lexists(target):
        raise DatabaseProblem(f"{target} is there already, and nothing is ever overwritten.")


def _stamp() -> str:
    return f"{clock.now():%Y%m%dT%H%M%SZ}"
