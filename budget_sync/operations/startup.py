"""Checks that must pass before the server starts."""

from __future__ import annotations

from peewee import PeeweeException

from budget_sync.database import (
    DatabaseUnusableError,
    db,
    find_damage,
    is_file,
    label,
    require_complete_schema,
)
from budget_sync.ledger.verification import verify

#: Size in bytes of the largest SQLite file that is read and verified at each start, which takes
#: about a second. `flask verify`, `flask doctor` and backups also verify a larger one.
MAX_CHECKED_AT_START = 64 * 1024 * 1024


def require_sound_start() -> None:
    """Check the schema, and a small SQLite file for damage and wrong balances.

    PostgreSQL checks its own files. SQLite has no checksums in the pages of its file, so a changed
    amount is found only if it contradicts another one. Raises DatabaseUnusableError if a check
    fails.
    """
    is_small = is_file() and db.file_path.stat().st_size <= MAX_CHECKED_AT_START
    if is_small and (found := find_damage()):
        raise _damaged(found)
    # The schema of a large database is small, too.
    _require_whole_schema()
    if is_small:
        _require_consistent_balances()


def _damaged(how: str) -> DatabaseUnusableError:
    return DatabaseUnusableError(f"The database {label()} is damaged ({how}): restore a backup.")


def _require_whole_schema() -> None:
    try:
        require_complete_schema()
    except DatabaseUnusableError as problem:
        raise DatabaseUnusableError(
            f"The database {label()} cannot be used ({problem}): restore a backup."
        ) from problem


def _require_consistent_balances() -> None:
    try:
        findings = verify().findings
    except PeeweeException as error:
        raise _damaged(" ".join(str(error).split())) from error
    if findings:
        raise DatabaseUnusableError(
            f"The balances in {label()} contradict each other: list the contradictions with "
            f"`flask verify`, then restore a backup. The first of {len(findings)}: {findings[0]}"
        )
