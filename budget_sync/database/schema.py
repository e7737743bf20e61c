"""Making the schema, knowing its version, and upgrading an older one.

`schema.sql` is the newest schema. A database of an older version gets the steps of `upgrades.py` it has not had, all in one
transaction. A released step is never edited: it says what it took, on the day, to get from one version to the next.
"""

from __future__ import annotations

from collections.abc import Mapping

import peewee

from budget_sync.database.connection import (
    DatabaseProblem,
    SqliteFile,
    db,
    label,
    open_connection,
    roll_back,
)
from budget_sync.database.engine import engine_statements
from budget_sync.database.locks import lock_name
from budget_sync.database.upgrades import upgrade_steps
from budget_sync.domain import clock
from budget_sync.settings import PROGRAM_FOLDER

#: The version that `schema.sql` describes.
SCHEMA_VERSION = 3

SCHEMA_FILE = PROGRAM_FOLDER / "schema.sql"


def statements(text: str) -> list[str]:
    """The SQL statements of a text, which end with a semicolon at the end of a line; comment lines are left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    return [
        statement.strip() for statement in "\n".join(lines).split(";\n") if statement.strip(" \n;")
    ]


def schema_version() -> int | None:
    """The schema version of the connected database; None where it has no tables of ours. Raises DatabaseProblem where it is no version."""
    open_connection()
    if not _has_tables():
        return None
    row = db.execute_sql('SELECT MAX("version") FROM "SchemaVersion"').fetchone()
    version = None if row is None else row[0]
    if not isinstance(version, int | None):
        # SQLite keeps whatever a damaged row says, of whatever type.
        raise DatabaseProblem(
            f"The database {label()} is damaged: its schema version is {version!r}."
        )
    return version


def _has_tables() -> bool:
    if isinstance(db.obj, SqliteFile):
        return bool(db.table_exists("SchemaVersion"))
    # In whatever schema the connection looks first: Peewee would look in "public" alone.
    return bool(
        db.execute_sql("""SELECT to_regclass('"SchemaVersion"') IS NOT NULL""").fetchone()[0]
    )


def require_current_schema(*, older_will_do: bool = False) -> None:
    """Raises DatabaseProblem, with one line that says what to do, unless the database is there and of this version, or an older one."""
    try:
        version = schema_version()
    except peewee.PeeweeException as error:
        if isinstance(db.obj, SqliteFile) and not db.file_path.exists():
            raise DatabaseProblem(
                f"There is no database at {db.file_path}: make it with `flask init-db`."
            ) from error
        raise DatabaseProblem(
            f"The database {label()} cannot be opened: {' '.join(str(error).split())}."
        ) from error
    if version is None:
        raise DatabaseProblem(
            f"The database {label()} has no tables yet: make them with `flask init-db`."
        )
    if version < SCHEMA_VERSION and not older_will_do:
        raise DatabaseProblem(
            f"The database is of schema version {version}, this program needs {SCHEMA_VERSION}: run `flask upgrade-db`."
        )
    if version > SCHEMA_VERSION:
        raise DatabaseProblem(
            f"The database is of schema version {version}, newer than this program's {SCHEMA_VERSION}: install the newer program."
        )


def init_schema() -> bool:
    """Make all tables in an empty database. Returns False, and changes nothing, where they are there already."""
    open_connection()
    _begin()
    try:
        if schema_version() is not None:
            db.rollback()
            return False
        make_tables()
        db.commit()
    except BaseException:
        roll_back()
        raise
    return True


def make_tables() -> None:
    """Make everything in an empty database, inside the transaction that is open."""
    for statement in statements(SCHEMA_FILE.read_text(encoding="utf-8")) + engine_statements(
        db.obj
    ):
        db.execute_sql(statement)
    _note_version(SCHEMA_VERSION)


def upgrade_schema(steps: Mapping[int, list[str]] | None = None) -> list[int]:
    """Bring an older database to the newest version; returns the versions gone through, none where it was new already.

    All of it is one transaction: a step that fails leaves the database as it was. Raises DatabaseProblem for a database
    without tables or of a version newer than this program.
    """
    upgrades = upgrade_steps(db.obj) if steps is None else steps
    version = schema_version()
    newest = max(upgrades, default=SCHEMA_VERSION)
    if version is None or version > newest:
        require_current_schema()
    _begin()
    try:
        if not isinstance(db.obj, SqliteFile):
            # A large table takes its time to be gone through.
            db.execute_sql("SET LOCAL statement_timeout = 0")
        # Read again inside: another upgrade may have been first.
        todo = [step for step in sorted(upgrades) if step > (schema_version() or 0)]
        for step in todo:
            for statement in upgrades[step]:
                db.execute_sql(statement)
            _note_version(step)
        db.commit()
    except BaseException:
        roll_back()
        raise
    return todo


def _begin() -> None:
    """Begin, as the one who changes the schema."""
    db.begin()
    lock_name("budget-sync schema")


def _note_version(version: int) -> None:
    db.execute_sql(
        'INSERT INTO "SchemaVersion" ("version", "appliedAt") VALUES (?, ?)'.replace("?", db.param),
        (version, clock.to_text(clock.now())),
    )
