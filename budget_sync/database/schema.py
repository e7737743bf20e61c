"""Creates the schema, reads its version and upgrades older versions.

`schema.sql` is the newest schema. An older database gets all missing steps of `upgrades.py` in one
transaction. A released step is never edited: it records what was needed to get from one version to
the next.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import peewee

from budget_sync.database.connection import (
    SqliteFile,
    db,
    label,
    open_connection,
    roll_back,
)
from budget_sync.database.engine import engine_statements
from budget_sync.database.errors import DatabaseUnusableError
from budget_sync.database.locks import lock_name
from budget_sync.database.postgres.pool import sqlstate
from budget_sync.database.upgrades import require_precondition, upgrade_steps
from budget_sync.database.upgrades.report import Report, Step
from budget_sync.domain import clock
from budget_sync.settings import PROGRAM_FOLDER

#: The version that `schema.sql` describes.
SCHEMA_VERSION = 5

# SQLSTATEs of a role that may not create tables, or has no schema to create them in.
_MAY_NOT_CREATE = {"42501", "3F000"}

_QUIET = Report()

SCHEMA_FILE = PROGRAM_FOLDER / "schema.sql"

#: The tables whose rows `schema.sql` inserts. They are equal in all databases of a version.
FILLED_TABLES = ("AuditAction",)


def statements(text: str) -> list[str]:
    """The SQL statements of a text, without comment lines.

    Each statement must end with a semicolon at the end of a line.
    """
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    return [
        statement.strip() for statement in "\n".join(lines).split(";\n") if statement.strip(" \n;")
    ]


def schema_statements() -> list[str]:
    """The statements of `schema.sql`."""
    return statements(SCHEMA_FILE.read_text(encoding="utf-8"))


def table_names() -> list[str]:
    """All tables except SchemaVersion, each after the tables that it references."""
    found: list[str] = re.findall(
        r'^CREATE TABLE "(\w+)"', SCHEMA_FILE.read_text(encoding="utf-8"), re.MULTILINE
    )
    return [table for table in found if table != "SchemaVersion"]


def audit_actions() -> list[str]:
    """The audit actions that `schema.sql` inserts."""
    (insert,) = (
        statement
        for statement in schema_statements()
        if statement.startswith('INSERT INTO "AuditAction"')
    )
    return re.findall(r"\('(\w+)'\)", insert)


def column_names(connection: Any, table: str) -> list[str]:
    """The columns of a table on an SQLite connection, without the generated columns."""
    return [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]


def schema_version() -> int | None:
    """The schema version of the connected database; None if it has none of our tables.

    Raises DatabaseUnusableError if the stored version is not a number.
    """
    open_connection()
    if not _has_tables():
        return None
    row = db.execute_sql('SELECT MAX("version") FROM "SchemaVersion"').fetchone()
    version = None if row is None else row[0]
    if not isinstance(version, int | None):
        # SQLite returns the value of a damaged row, of any type.
        raise DatabaseUnusableError(
            f"The database {label()} is damaged: its schema version is {version!r}."
        )
    return version


def _has_tables() -> bool:
    if isinstance(db.obj, SqliteFile):
        return bool(db.table_exists("SchemaVersion"))
    # In the schemas of the search path: Peewee would look only in "public".
    return bool(
        db.execute_sql("""SELECT to_regclass('"SchemaVersion"') IS NOT NULL""").fetchone()[0]
    )


def require_current_schema(*, allow_older: bool = False) -> None:
    """Raises DatabaseUnusableError unless the database exists and has this schema version.

    With `allow_older`, an older version is accepted too.
    """
    try:
        version = schema_version()
    except DatabaseUnusableError:
        raise
    except peewee.PeeweeException as error:
        if isinstance(db.obj, SqliteFile) and _is_missing(db.file_path):
            raise DatabaseUnusableError(
                f"There is no database at {db.file_path}. Create it with `flask init-db`."
            ) from error
        raise DatabaseUnusableError(
            f"The database {label()} cannot be opened: {' '.join(str(error).split())}."
        ) from error
    if version is None:
        raise DatabaseUnusableError(
            f"The database {label()} has no tables yet. Create them with `flask init-db`."
        )
    if version < SCHEMA_VERSION and not allow_older:
        raise DatabaseUnusableError(
            f"The database has schema version {version}, but this program needs {SCHEMA_VERSION}. "
            "Run `flask upgrade-db`."
        )
    if version > SCHEMA_VERSION:
        raise DatabaseUnusableError(
            f"The database has schema version {version}, newer than this program's "
            f"{SCHEMA_VERSION}. Install the newer program."
        )


def _is_missing(path: Path) -> bool:
    """Whether there is no such file. False if this process may not look for it."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def init_schema() -> bool:
    """Create all tables in an empty database; return False and change nothing if they exist.

    Raises DatabaseUnusableError if PostgreSQL does not let this role create them.
    """
    open_connection()
    _begin()
    try:
        if schema_version() is not None:
            db.rollback()
            return False
        create_tables()
        db.commit()
    except BaseException as error:
        roll_back()
        if isinstance(error, peewee.PeeweeException) and sqlstate(error) in _MAY_NOT_CREATE:
            raise DatabaseUnusableError(
                f"The tables cannot be created in {label()}: {str(error).splitlines()[0]}. Let the "
                "role of DATABASE_URL create them, for example with GRANT CREATE ON SCHEMA public, "
                "or make it the owner of the database."
            ) from error
        raise
    return True


def create_tables() -> None:
    """Create tables, indexes and triggers in an empty database, inside the open transaction."""
    for statement in schema_statements() + engine_statements(db.obj):
        db.execute_sql(statement)
    _record_version(SCHEMA_VERSION)


def upgrade_schema(
    steps: Mapping[int, Sequence[Step]] | None = None, report: Report = _QUIET
) -> list[int]:
    """Upgrade the database to the newest version; return the versions it was upgraded to, in order.

    All steps run in one transaction: if a step fails, the database is unchanged. `report` gets the
    progress, and notes on rows that need a person. Raises
    DatabaseUnusableError if the database has no tables, a version newer than this program, or rows
    that the newest version does not allow.
    """
    upgrades = upgrade_steps(db.obj) if steps is None else steps
    version = schema_version()
    newest = max(upgrades, default=SCHEMA_VERSION)
    if version is None or version > newest:
        require_current_schema()
    _begin()
    try:
        if not isinstance(db.obj, SqliteFile):
            # Rewriting a large table takes longer than the limit for ordinary statements.
            db.execute_sql("SET LOCAL statement_timeout = 0")
        # Read the version again inside the transaction: another process may have upgraded it.
        todo = [step for step in sorted(upgrades) if step > (schema_version() or 0)]
        for step in todo:
            require_precondition(db.obj, step)
            report.progress(f"upgrading to schema version {step}")
            for statement in upgrades[step]:
                if isinstance(statement, str):
                    db.execute_sql(statement)
                else:
                    statement(db, report)
            _record_version(step)
        db.commit()
    except BaseException:
        roll_back()
        raise
    return todo


def _begin() -> None:
    """Begin a transaction that holds the lock for schema changes."""
    db.begin()
    lock_name("budget-sync schema")


def _record_version(version: int) -> None:
    db.execute_sql(
        'INSERT INTO "SchemaVersion" ("version", "appliedAt") VALUES (?, ?)'.replace("?", db.param),
        (version, clock.to_text(clock.now())),
    )
