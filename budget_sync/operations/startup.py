"""Checks that must pass before the server starts."""

from __future__ import annotations

from peewee import PeeweeException

from budget_sync.database import DatabaseProblem, damage, db, is_file, label, require_whole_schema
from budget_sync.ledger.verification import verify

#: A file up to this many bytes is looked at and its balances are proven at each start, which takes about a second;
#: those of a larger one by `flask verify`, `flask doctor` and backups.
MAX_CHECKED_AT_START = 64 * 1024 * 1024


def require_sound_start() -> None:
    """Raises DatabaseProblem where SQLite's file is damaged, the schema not whole, or the balances in the file contradict each other.

    A large file is not read; PostgreSQL looks after its own. SQLite keeps no checksums of the file's pages: a changed figure is
    seen where it contradicts another.
    """
    is_small = is_file() and db.file_path.stat().st_size <= MAX_CHECKED_AT_START
    if is_small and (found := damage()):
        raise _damaged(found)
    # However large the database is, its schema is not.
    _require_whole_schema()
    if is_small:
        _require_proven_balances()


def _damaged(how: str) -> DatabaseProblem:
    return DatabaseProblem(f"The database {label()} is damaged ({how}): restore a backup.")


def _require_whole_schema() -> None:
    try:
        require_whole_schema()
    except DatabaseProblem as problem:
        raise DatabaseProblem(
            f"The database {label()} is not as it was made ({problem}): restore a backup."
        ) from problem


def _require_proven_balances() -> None:
    try:
        findings = verify().findings
    except PeeweeException as error:
        raise _damaged(" ".join(str(error).split())) from error
    if findings:
        raise DatabaseProblem(
            f"The balances in {label()} contradict each other: see `flask verify`, and restore a backup. The first of {len(findings)}: {findings[0]}"
        )
