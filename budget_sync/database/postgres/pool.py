"""PostgreSQL: a pool of connections that are set up alike, values as SQLite has them, and what its errors mean.

A caller with a thread of its own waits in it for PostgreSQL's answers. One that shares a thread (see `lanes`) steps aside
instead, with a connection of its own; what could keep all of them waiting, such as opening a connection, is done apart.
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

from budget_sync.database.hooks import told
from budget_sync.database.postgres.pipeline import Adapter, Answer, Statement, context
from budget_sync.runtime import greenlets

#: Connections of one process, and how many of them calls that share a thread may have at once: the rest is for its threads.
MAX_CONNECTIONS = 20
SHARED_CONNECTIONS = 16

#: An idle connection is kept no longer, so that a balancer in front of PostgreSQL can move them on.
STALE_S = 300

#: How long somebody waits for a connection before looking again.
POOL_WAIT_S = 1.0

#: How long one statement may take beyond the wait for a lock, and a transaction may stand still.
STATEMENT_S = 30

# Classes of SQLSTATE, and single ones, that mean "not now" or "not on this server", rather than a mistake in our SQL.
_UNAVAILABLE_STATES = {
    "08": "connection lost",
    "28": "not let in",
    "3D": "no such database",
    "40": "others were in the way",
    "53": "disk, memory or connections used up",
    "57": "stopping, starting, or too slow",
    "58": "system error",
    "25006": "read-only",
    "25P03": "stood still for too long",
    "55P03": "locked",
    "XX001": "damaged",
    "XX002": "damaged",
}

# A serialization failure, a deadlock: undone for certain, and gone when tried again.
UNDONE_STATES = {"40001", "40P01"}


class NoConnectionLeftError(peewee.OperationalError):
    """All connections of this process stayed in use for as long as one may be waited for."""


class _CallersState:
    """What Peewee keeps of a connection for whoever uses it: a thread, or a call that shares one."""

    def __getattr__(self, name: str) -> Any:
        own = greenlets.own()
        try:
            state = own["peewee"]
        except KeyError:
            # What Peewee itself makes one of for each thread.
            state = own["peewee"] = peewee._ConnectionState()  # noqa: SLF001
        return getattr(state, name)


class _NoneIdleError(Exception):
    """The pool has no idle connection."""


class _Opening(peewee.PostgresqlDatabase):
    """What the pool asks for a new connection, where it has none left. Opened there, one that takes its time would keep everybody waiting."""

    psycopg3_adapter = Adapter

    def _connect(self) -> Any:
        raise _NoneIdleError

    def open_one(self) -> Any:
        """A new connection."""
        with peewee.__exception_wrapper__:  # type: ignore[attr-defined]  # missing from the stubs
            return super()._connect()  # type: ignore[misc]  # the same


class PostgresServer(PooledDatabase, _Opening):  # type: ignore[misc]  # peewee's pool has no types
    """A PostgreSQL database that knows how many seconds a lock is waited for, and its name without the password."""

    def __init__(self, url: str, patience_s: float) -> None:
        parameters: dict[str, Any] = dict(conninfo_to_dict(url))
        self.patience_s = patience_s
        self._pid = os.getpid()
        self._inherited: list[Any] = []
        # How many connections are being opened.
        self._opening = 0
        name = parameters.pop("dbname")
        self.label = f"postgresql://{parameters.get('host', '')}{':' + str(parameters['port']) if 'port' in parameters else ''}/{name}"
        patience_ms, statement_ms = (
            round(patience_s * 1000),
            round((patience_s + STATEMENT_S) * 1000),
        )
        options = (
            f"-c TimeZone=UTC -c DateStyle=ISO -c lock_timeout={patience_ms} -c statement_timeout={statement_ms}"
            f" -c idle_in_transaction_session_timeout={statement_ms} {parameters.pop('options', '')}"
        )
        defaults = {
            "application_name": "budget-sync",
            "connect_timeout": max(2, math.ceil(patience_s)),
            # A server that vanished without a word is noticed, even by a COMMIT that waits for its answer.
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": statement_ms,
        }
        super().__init__(
            name,
            max_connections=MAX_CONNECTIONS,
            stale_timeout=STALE_S,
            timeout=patience_s,
            prefer_psycopg3=True,
            options=options.strip(),
            context=context(),
            **cast("dict[str, Any]", defaults | parameters),
        )
        self._state = _CallersState()

    def connect(self, reuse_if_open: bool = False) -> bool:
        """Take a connection from the pool. Raises NoConnectionLeftError where none came free in time."""
        until = time.monotonic() + self.patience_s
        while True:
            try:
                # Without the pool's own waiting, which knows threads alone.
                return bool(super(PooledDatabase, self).connect(reuse_if_open))
            except (_NoneIdleError, MaxConnectionsExceeded):
                if time.monotonic() > until:
                    raise NoConnectionLeftError(
                        "all connections of this process are in use"
                    ) from None
            if greenlets.is_shared():
                greenlets.apart(self._add_idle)
            else:
                self._add_idle()

    def _add_idle(self) -> None:
        """Put a new connection into the pool, or wait until one is given back; somebody else may take it first."""
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

    def execute_prepared(self, sql: str, parameters: Sequence[object]) -> Answer:
        """Run a statement, after those that wait to go with it."""
        return self._run(Statement(sql, parameters))[0]

    def execute_both_prepared(
        self, first: tuple[str, Sequence[object]], second: tuple[str, Sequence[object]]
    ) -> list[Answer]:
        """Run two statements, given as SQL and values, one after the other."""
        return self._run(Statement(*first), Statement(*second))

    def write_prepared(self, sql: str, parameters: Sequence[object]) -> None:
        """Run a statement of which nothing is asked with the next one, or with the COMMIT."""
        self.connection().later(Statement(sql, parameters))  # type: ignore[no-untyped-call]

    def _run(self, *statements: Statement) -> list[Answer]:
        with peewee.__exception_wrapper__:  # type: ignore[attr-defined]  # missing from the stubs
            answers: list[Answer] = self.connection().run(*statements)  # type: ignore[no-untyped-call]
            return answers

    def commit_prepared(self) -> str:
        """Run what waits, and commit; what PostgreSQL says that it did. Raises CommitFailedError where the COMMIT itself failed."""
        with peewee.__exception_wrapper__:  # type: ignore[attr-defined]  # missing from the stubs
            said: str = self.connection().commit_pending()  # type: ignore[no-untyped-call]
            return said

    def cursor(self, named_cursor: str | None = None) -> Any:
        """A new cursor, for what comes after all that waits."""
        if not self.is_closed():
            self._state.conn.run_pending()
        return super().cursor(named_cursor)  # type: ignore[no-untyped-call]

    def rollback(self) -> None:
        """Undo what is open. What waits was never sent."""
        connection = self.connection()  # type: ignore[no-untyped-call]
        connection.pending.clear()
        if (
            connection.closed
            or connection.pgconn.transaction_status != psycopg.pq.TransactionStatus.IDLE
        ):
            super().rollback()

    def _connect(self) -> Any:
        connection = super()._connect()
        told.observer.connection_in_use(1)
        return connection

    def _can_reuse(self, conn: Any) -> bool:
        return bool(self._adapter.is_connection_reusable(conn))

    def _close(self, conn: Any, close_conn: bool = False) -> None:
        was_in_use = self.conn_key(conn) in self._in_use
        super()._close(conn, close_conn)
        if was_in_use:
            told.observer.connection_in_use(-1)

    def leave_parents_connections(self) -> None:
        """In a forked child, forget what was inherited, and neither use nor close it: it is the parent's."""
        if self._pid != os.getpid():
            self._inherited += [pooled.connection for pooled in self._in_use.values()] + [
                connection for _, _, connection in self._connections
            ]
            self._pid = os.getpid()
            self.dispose()

    def _is_closed(self, conn: Any) -> bool:
        """Whether a connection is of no use any more, and then closed. A server that lets go of it says so, which needs no round trip to see."""
        if not conn.closed and conn.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            poll = select.poll()
            poll.register(conn.fileno(), select.POLLIN)
            if not poll.poll(0):
                return False
        conn.close()
        return True

    @property
    def is_lost(self) -> bool:
        """Whether this thread's connection, if it has one, has ended; not asked in the middle of a transaction."""
        if self.is_closed():
            return False
        connection = self._state.conn
        is_idle = connection.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE
        return bool(connection.closed) or (is_idle and self._is_closed(connection))


def state_of(error: BaseException) -> str | None:
    """The SQLSTATE of a peewee error; None where the server did not say one."""
    state: str | None = getattr(getattr(error, "orig", None), "sqlstate", None)
    return state


def trouble(error: peewee.PeeweeException) -> str | None:
    """Why the database cannot be used now, in a word or two; None where the error is no such thing, or not PostgreSQL's."""
    if isinstance(error, NoConnectionLeftError):
        return "no connection left"
    cause = getattr(error, "orig", None)
    state = state_of(error)
    if state is None:
        return (
            "connection lost"
            if isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
            else None
        )
    return _UNAVAILABLE_STATES.get(state) or _UNAVAILABLE_STATES.get(state[:2])


def is_connection_lost(error: peewee.PeeweeException) -> bool:
    """Whether the connection went with the error, so that another one may do better."""
    state = state_of(error)
    if state is None:
        return trouble(error) == "connection lost"
    return state.startswith("08") or state in {"57P01", "57P02", "57P03"}
