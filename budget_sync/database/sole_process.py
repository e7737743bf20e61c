"""A lock that at most one process holds, on all servers of a database, until it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import peewee
import psycopg
from psycopg.conninfo import make_conninfo

from budget_sync.database.postgres.pool import connect_once
from budget_sync.runtime import files

# The system would notice only after hours that the other side of a connection is gone.
_CLIENT_KEEPALIVES = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "connect_timeout": 5,
}
_SERVER_KEEPALIVES = (
    "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10;"
    " SET tcp_keepalives_count = 3; SET tcp_user_timeout = 30000"
)


class SoleProcess:
    """The lock of that name: a file next to SQLite's, or a lock of a PostgreSQL session.

    `database` is the file or the URL. The system releases the lock when the process is killed.
    """

    def __init__(self, database: Path | str, folder: Path, name: str) -> None:
        self._database = database
        self._folder = folder
        self._name = name
        self._file: int | None = None
        self._connection: psycopg.Connection[Any] | None = None

    def acquire(self) -> bool:
        """Take the lock; False if another process has it.

        Raises RequestError UNAVAILABLE or peewee.OperationalError.
        """
        if isinstance(self._database, str):
            return self._lock_in_session(self._database)
        self._file = files.open_lock(self._folder, f"{self._name}.lock")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            return False
        return True

    def _lock_in_session(self, url: str) -> bool:
        try:
            self._connection = connect_once(
                make_conninfo(url, **_CLIENT_KEEPALIVES), autocommit=True
            )
            self._connection.execute(_SERVER_KEEPALIVES)
            row = self._connection.execute(
                "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (self._name,)
            ).fetchone()
        except psycopg.Error as error:
            self.release()
            with peewee.__exception_wrapper__:  # type: ignore[attr-defined]  # not in the stubs
                raise error from None
        if row != (True,):
            self.release()
            return False
        return True

    def is_held(self) -> bool:
        """Whether this process still has the lock: PostgreSQL may have ended the session."""
        if self._connection is None:
            return self._file is not None
        try:
            self._connection.execute("SELECT 1")
        except psycopg.Error:
            self.release()
            return False
        return True

    def release(self) -> None:
        """Release the lock, if this process has it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
