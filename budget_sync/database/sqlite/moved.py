"""Marks an SQLite file whose rows were copied to PostgreSQL, so that it accepts no more writes.

A server that still uses the file would acknowledge movements that the new database does not have.
The mark is in the file: every process sees it at its next write. The writer thread checks it and
answers with a sentence. Triggers reject the writes of other programs and earlier versions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import peewee

from budget_sync.database.connection import db
from budget_sync.database.errors import DatabaseUnusableError

#: The value of `PRAGMA user_version` in a marked file, in which reading it costs next to nothing.
#: All other files have 0.
_MARK = 1_297_045_069

_TRIGGER = "moved_no_{event}_{table}"
_ANY_TRIGGER = re.compile(r"moved_no_(?:insert|update|delete)_\w+")


class DatabaseMovedError(DatabaseUnusableError):
    """The rows of this file are in another database now."""


def require_not_moved() -> None:
    """Raise DatabaseMovedError, which names the new database, if the connected file is marked."""
    (mark,) = db.execute_prepared("PRAGMA user_version", ()).fetchone()
    if mark == _MARK:
        (name,) = db.execute_prepared('SELECT "database" FROM "MovedTo"', ()).fetchone()
        raise DatabaseMovedError(_sentence(name))


def reject_writes(connection: Any, tables: Sequence[str], name: str) -> None:
    """Mark the file as moved to the database of that name, in the open transaction."""
    connection.execute('CREATE TABLE "MovedTo" ("database" TEXT NOT NULL)')
    connection.execute('INSERT INTO "MovedTo" VALUES (?)', (name,))
    message = _sentence(name).replace("'", "''")
    for table in tables:
        for event in ("INSERT", "UPDATE", "DELETE"):
            trigger = _TRIGGER.format(event=event.lower(), table=table)
            connection.execute(
                f'CREATE TRIGGER "{trigger}" BEFORE {event} ON "{table}" '
                f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
            )
    connection.execute(f"PRAGMA user_version = {_MARK}")


def accept_writes(connection: Any) -> bool:
    """Remove the mark; returns False without one."""
    with peewee.__exception_wrapper__:  # type: ignore[attr-defined]  # missing from the stubs
        (mark,) = connection.execute("PRAGMA user_version").fetchone()
        if mark != _MARK:
            return False
        triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (trigger,) in triggers.fetchall():
            if _ANY_TRIGGER.fullmatch(trigger):
                connection.execute(f'DROP TRIGGER "{trigger}"')
        connection.execute('DROP TABLE "MovedTo"')
        connection.execute("PRAGMA user_version = 0")
    return True


def _sentence(name: str) -> str:
    return (
        f"This database was copied to {name} and accepts no more writes. Use the new one: set "
        "DATABASE_URL to it and restart. Or keep this one with `flask copy-to --undo`."
    )
