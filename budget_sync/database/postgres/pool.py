"""PostgreSQL: a pool of equally configured connections, and what PostgreSQL's errors mean.

A caller that owns its thread blocks while it waits for PostgreSQL. A greenlet on a shared thread
yields instead (see `runtime.greenlets`). Each uses a separate connection. Work that would block the
shared thread, such as opening a connection, runs on a separate thread.
"""

from __future__ import annotations

import heapq
import math
import os
import select
import time
from collections.abc import Sequence
from typing import Any, cast

import peewee
import psycopg
from playhouse.pool import MaxConnectionsExceeded, PooledDatabase
from psycopg.conninfo import conninfo_to_dict

from budget_sync.database.errors import DatabaseUnusableError
from budget_sync.database.hooks import current_observer
from budget_sync.database.postgres.pipeline import Adapter, Result, Statement, context
from budget_sync.runtime import greenlets

#: Connections of one process, and how many of them greenlets may use at once. The rest is for
#: threads.
MAX_CONNECTIONS = 20
MAX_GREENLET_CONNECTIONS = 16

#: An idle connection is closed after this time, so that a load balancer in front of PostgreSQL can
#: redistribute connections.
STALE_S = 300

#: How long to wait for a free connection before checking again.
POOL_WAIT_S = 1.0

# Settings that a database or a role may have, and that the code relies on. They win over the same
# options in the URL.
_SESSION_OPTIONS = (
    "-c TimeZone=UTC -c DateStyle=ISO -c default_transaction_isolation=read\\ committed"
    " -c standard_conforming_strings=on"
)

#: How long a statement may run, in addition to its wait for a lock, and how long a transaction may
#: be idle.
STATEMENT_S = 30

# SQLSTATE classes, and single states, that mean "not now" or "not on this server" rather than a bug
# in our SQL.
_UNAVAILABLE_STATES = {
    "08": "connection lost",
    "28": "login failed",
    "3D": "no such database",
    "40": "conflict with other transactions",
    "53": "disk, memory or connections used up",
    "57": "stopping, starting, or too slow",
    "58": "system error",
    "25006": "read-only",
    "42501": "permission denied",
    "25P03": "idle in a transaction for too long",
    "55P03": "locked",
    "XX001": "damaged",
    "XX002": "damaged",
}

#: A serialization failure and a deadlock: the transaction was certainly rolled back, and may
#: succeed if it is tried again.
RETRYABLE_STATES = {"40001", "40P01"}


class NoConnectionLeftError(peewee.OperationalError):
    """All connections of this process stayed in use until the caller's timeout."""


class UnusableServerError(peewee.OperationalError, DatabaseUnusableError):
    """This database cannot be used as it is. The text is one line: what is wrong, what to do."""


def label_of(url: str) -> str:
    """The URL of a database without user, password and options, for people."""
    parts = conninfo_to_dict(url)
    port = f":{parts['port']}" if "port" in parts else ""
    return f"postgresql://{parts.get('host', '')}{port}/{parts['dbname']}"


def connection_parameters(url: str, timeouts: str = "") -> dict[str, Any]:
    """The parameters of a connection to that URL, with the settings that the code relies on.

    Otherwise the settings of the database or role would apply. `timeouts` are options that the URL
    may override.
    """
    parameters: dict[str, Any] = dict(conninfo_to_dict(url))
    options = (timeouts, str(parameters.get("options", "")), _SESSION_OPTIONS)
    return {
        "application_name": "budget-sync",
        **parameters,
        "client_encoding": "UTF8",
        "options": " ".join(filter(None, options)),
    }


def connect_once(url: str, *, autocommit: bool = False) -> psycopg.Connection[Any]:
    """A connection outside the pool, for long work. Raises UnusableServerError as the pool does."""
    no_timeouts = "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0"
    connection = psycopg.connect(**connection_parameters(url, no_timeouts), autocommit=autocommit)
    _require_utf8(connection, label_of(url))
    return connection


def _require_utf8(connection: psycopg.Connection[Any], label: str) -> None:
    """Close the connection and raise UnusableServerError if the database cannot store all texts.

    The server has sent its encoding already, so this needs no round trip.
    """
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        connection.close()
        raise UnusableServerError(
            f"The database {label} has the encoding {encoding}, which cannot store every text. "
            "Create one with the encoding UTF8, for example with `createdb --encoding=UTF8 "
            "--template=template0 NAME`, and set DATABASE_URL to it."
        )


class _ConnectionState:
    """Peewee's connection state, one per thread or greenlet."""

    def __getattr__(self, name: str) -> Any:
        local_vars = greenlets.local_vars()
        try:
            state = local_vars["peewee"]
        except KeyError:
            # Peewee itself creates one of these per thread.
            state = local_vars["peewee"] = peewee._ConnectionState()  # noqa: SLF001
        return getattr(state, name)


class _NoneIdleError(Exception):
    """The pool has no idle connection."""


class _ConnectionOpener(peewee.PostgresqlDatabase):
    """Opens connections outside the pool's lock.

    The pool would open a new connection while it holds its lock, so a slow one would block all
    callers.
    """

    psycopg3_adapter = Adapter

    #: The URL without user and password.
    label: str

    def _connect(self) -> Any:
        raise _NoneIdleError

    def open_one(self) -> Any:
        """Open a new connection."""
        with peewee.__exception_wrapper__:  # type: ignore[attr-defined]  # missing from the stubs
            connection = super()._connect()  # type: ignore[misc]  # the same
        _require_utf8(connection, self.label)
        return connection


class PostgresServer(PooledDatabase, _ConnectionOpener):  # type: ignore[misc]  # untyped pool
    """A pool of connections to a PostgreSQL database.

    `label` is the URL without user and password; `busy_timeout_s` is the lock timeout in seconds.
    """

    def __init__(self, url: str, busy_timeout_s: float) -> None:
        self.busy_timeout_s = busy_timeout_s
        self._pid = os.getpid()
        self._inherited: list[Any] = []
        # The number of connections that are being opened.
        self._opening = 0
        self.label = label_of(url)
        lock_timeout_ms = round(busy_timeout_s * 1000)
        statement_ms = round((busy_timeout_s + STATEMENT_S) * 1000)
        parameters = connection_parameters(
            url,
            f"-c lock_timeout={lock_timeout_ms} -c statement_timeout={statement_ms}"
            f" -c idle_in_transaction_session_timeout={statement_ms}",
        )
        defaults = {
            "connect_timeout": max(2, math.ceil(busy_timeout_s)),
            # Detects a server that disappeared silently, even while a COMMIT waits for its answer.
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": statement_ms,
        }
        super().__init__(
            parameters.pop("dbname"),
            max_connections=MAX_CONNECTIONS,
            stale_timeout=STALE_S,
            timeout=busy_timeout_s,
            prefer_psycopg3=True,
            context=context(),
            **cast("dict[str, Any]", defaults | parameters),
        )
        self._state = _ConnectionState()

    def connect(self, reuse_if_open: bool = False) -> bool:
        """Take a connection from the pool; raise NoConnectionLeftError if none is free in time."""
        deadline = time.monotonic() + self.busy_timeout_s
        while True:
            try:
                # Not PooledDatabase.connect, whose waiting supports only threads.
                return bool(super(PooledDatabase, self).connect(reuse_if_open))
            except (_NoneIdleError, MaxConnectionsExceeded):
                if time.monotonic() > deadline:
                    raise NoConnectionLeftError(
                        "all connections of this process are in use"
                    ) from None
            if greenlets.in_greenlet():
                greenlets.run_in_thread(self._add_idle_connection)
            else:
                self._add_idle_connection()

    def _add_idle_connection(self) -> None:
        """Add a new connection to the pool, or wait until one is returned.

        Another caller may take it first.
        """
        with self._pool_available:
            if self._connections:
                return
            if len(self._in_use) + self._opening >= self._max_connections:
                self._pool_available.wait(timeout=POOL_WAIT_S)
                return
            self._opening += 1
        connection = None
        try:
            connection = self.open_one()
        finally:
            with self._pool_available:
                self._opening -= 1
                if connection is not None:
                    self._heap_counter += 1
                    heapq.heappush(self._connections, (time.time(), self._heap_counter, connection))
                self._pool_available.notify()

    def execute_prepared(self, sql: str, parameters: Sequence[object]) -> Result:
        """Run a statement after the pending ones."""
        return self._run(Statement(sql, parameters))[0]

    def execute_both_prepared(
        self, first: tuple[str, Sequence[object]], second: tuple[str, Sequence[object]]
    ) -> list[Result]:
        """Run two statements, each given as SQL and values, in one round trip."""
        return self._run(Statement(*first), Statement(*second))

    def write_prepared(self, sql: str, parameters: Sequence[object]) -> None:
        """Send a statement with the next one or with the COMMIT; its result is not needed."""
        self.connection().defer(Statement(sql, parameters))  # type: ignore[no-untyped-call]

    def _run(self, *statements: Statement) -> list[Result]:
        with peewee.__exception_wrapper__:  # type: ignore[attr-defined]  # missing from the stubs
            connection = self.connection()  # type: ignore[no-untyped-call]
            results: list[Result] = connection.run(*statements)
            return results

    def commit_prepared(self) -> str:
        """Run the pending statements and commit; return the command that PostgreSQL reports.

        Raises CommitFailedError if the COMMIT itself failed.
        """
        with peewee.__exception_wrapper__:  # type: ignore[attr-defined]  # missing from the stubs
            command: str = self.connection().commit_pending()  # type: ignore[no-untyped-call]
            return command

    def cursor(self, named_cursor: str | None = None) -> Any:
        """A new cursor; the pending statements run first."""
        if not self.is_closed():
            self._state.conn.run_pending()
        return super().cursor(named_cursor)  # type: ignore[no-untyped-call]

    def rollback(self) -> None:
        """Roll back the open transaction and drop the pending statements, which were not sent."""
        connection = self.connection()  # type: ignore[no-untyped-call]
        connection.pending.clear()
        if (
            connection.closed
            or connection.pgconn.transaction_status != psycopg.pq.TransactionStatus.IDLE
        ):
            super().rollback()

    def _connect(self) -> Any:
        connection = super()._connect()
        current_observer().connection_in_use(1)
        return connection

    def _can_reuse(self, conn: Any) -> bool:
        return bool(self._adapter.is_connection_reusable(conn))

    def _close(self, conn: Any, close_conn: bool = False) -> None:
        was_in_use = self.conn_key(conn) in self._in_use
        super()._close(conn, close_conn)
        if was_in_use:
            current_observer().connection_in_use(-1)

    def forget_inherited_connections(self) -> None:
        """In a forked child, drop the parent's connections without using or closing them."""
        if self._pid != os.getpid():
            self._inherited += [pooled.connection for pooled in self._in_use.values()] + [
                connection for _, _, connection in self._connections
            ]
            self._pid = os.getpid()
            self.dispose()

    def _is_closed(self, conn: Any) -> bool:
        """Whether the connection cannot be used any more; closes it then.

        Needs no round trip: if the server has closed the connection, the socket is readable.
        """
        if not conn.closed and conn.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            poll = select.poll()
            poll.register(conn.fileno(), select.POLLIN)
            if not poll.poll(0):
                return False
        conn.close()
        return True

    @property
    def is_lost(self) -> bool:
        """Whether the caller's connection was lost. Not checked inside a transaction."""
        if self.is_closed():
            return False
        connection = self._state.conn
        is_idle = connection.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE
        return bool(connection.closed) or (is_idle and self._is_closed(connection))


def sqlstate(error: BaseException) -> str | None:
    """The SQLSTATE of a Peewee error; None if the server did not send one."""
    state: str | None = getattr(getattr(error, "orig", None), "sqlstate", None)
    return state


def unavailable_reason(error: peewee.PeeweeException) -> str | None:
    """Why the database cannot be used now, in a few words.

    None if the error has another meaning or is not from PostgreSQL.
    """
    if isinstance(error, NoConnectionLeftError):
        return "no free connection"
    if isinstance(error, UnusableServerError):
        return "not UTF-8"
    cause = getattr(error, "orig", None)
    state = sqlstate(error)
    if state is None:
        return (
            "connection lost"
            if isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
            else None
        )
    return _UNAVAILABLE_STATES.get(state) or _UNAVAILABLE_STATES.get(state[:2])


def is_connection_lost(error: peewee.PeeweeException) -> bool:
    """Whether the connection was lost, so that the transaction may succeed on another one."""
    state = sqlstate(error)
    if state is None:
        return unavailable_reason(error) == "connection lost"
    return state.startswith("08") or state in {"57P01", "57P02", "57P03"}
