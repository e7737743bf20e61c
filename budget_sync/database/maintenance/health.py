"""Health checks of a database: durability, the append-only audit log, the server's clock."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import peewee
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from budget_sync.database.connection import db, library_version, open_connection, roll_back
from budget_sync.database.errors import DatabaseUnusableError
from budget_sync.database.locks import process_lock
from budget_sync.database.postgres.pool import PostgresServer, connect_once
from budget_sync.domain import clock

# The values of each setting with which a commit is durable.
_POSTGRESQL_SETTINGS = {
    "synchronous_commit": ("on", "remote_write", "remote_apply", "local"),
    "fsync": ("on",),
    "full_page_writes": ("on",),
}
_SQLITE_SETTINGS = {"synchronous": (2, 3), "journal_mode": ("wal",), "foreign_keys": (1,)}


def engine_version() -> str:
    """The engine and its version, such as "SQLite 3.53.4"."""
    if isinstance(db.obj, PostgresServer):
        return f"PostgreSQL {_setting('server_version')}"
    return f"SQLite {'.'.join(map(str, library_version()))}"


def durability() -> tuple[list[str], list[str]]:
    """The settings that make commits durable, as "name = value", and those with a wrong value."""
    wanted: dict[str, tuple[Any, ...]] = (
        _POSTGRESQL_SETTINGS if isinstance(db.obj, PostgresServer) else _SQLITE_SETTINGS
    )
    found = {name: _setting(name) for name in wanted}
    text = {name: f"{name} = {value}" for name, value in found.items()}
    wrong = [text[name] for name, value in found.items() if value not in wanted[name]]
    return list(text.values()), wrong


def clock_offset_s() -> float:
    """How far the database server's clock is ahead of this machine's, in seconds; 0 on SQLite."""
    if not isinstance(db.obj, PostgresServer):
        return 0.0
    open_connection()
    (server_time_s,) = db.execute_sql("SELECT EXTRACT(EPOCH FROM clock_timestamp())").fetchone()
    return float(server_time_s) - time.time()


def check_append_only() -> None:
    """Check that an audit row can be written but neither changed nor deleted; rolls back all of it.

    Raises DatabaseUnusableError otherwise.
    """
    with nullcontext() if isinstance(db.obj, PostgresServer) else process_lock():
        for change in ('UPDATE "AuditLog" SET "reason" = NULL', 'DELETE FROM "AuditLog"'):
            open_connection()
            db.begin()
            try:
                _write_audit_row()
                db.execute_sql(f"""{change} WHERE "id" = (SELECT MAX("id") FROM "AuditLog")""")
            except peewee.IntegrityError:
                continue
            except peewee.PeeweeException as error:
                raise DatabaseUnusableError(
                    f"a row cannot be written: {' '.join(str(error).split())}"
                ) from error
            finally:
                roll_back()
            raise DatabaseUnusableError(
                f"its rows can be changed ({change.split()[0]}): the triggers that reject this are "
                "missing"
            )


def _write_audit_row() -> None:
    insert = f"""
        INSERT INTO "AuditLog" ("action", "principal", "changedBy", "createdAt")
        VALUES ('PRUNE_CHECKS', 'doctor', 'doctor', '{clock.to_text(clock.now())}')
    """
    try:
        db.execute_sql(insert)
    except peewee.IntegrityError as error:
        raise DatabaseUnusableError(
            f"a row cannot be written: {' '.join(str(error).split())}"
        ) from error


@contextmanager
def temporary_schema(url: str) -> Iterator[str]:
    """Create an empty schema in a PostgreSQL database and drop it at the end.

    Gives a connection string for that schema. Raises DatabaseUnusableError if the user may not
    create schemas.
    """
    name = f"budget_sync_trial_{secrets.token_hex(4)}"
    try:
        with connect_once(url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
    except psycopg.Error as error:
        raise DatabaseUnusableError(
            f"cannot create a temporary schema: {' '.join(str(error).split())}"
        ) from error
    try:
        parts: dict[str, Any] = dict(conninfo_to_dict(url))
        yield make_conninfo(
            **parts | {"options": f"{parts.get('options', '')} -c search_path={name}".strip()}
        )
    finally:
        with connect_once(url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))


def _setting(name: str) -> Any:
    open_connection()
    return db.execute_sql(
        f"SHOW {name}" if isinstance(db.obj, PostgresServer) else f"PRAGMA {name}"
    ).fetchone()[0]
