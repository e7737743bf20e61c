"""A PostgreSQL connection that sends several statements in one round trip (pipeline mode).

A round trip costs more than most statements, for both sides. So statements whose result is not
needed at once are deferred: the BEGIN goes with the first query, and the last inserts go with the
COMMIT. The server runs them in order. After a statement fails, it runs none of the rest, not even
the COMMIT.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import cache, cached_property
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar

import peewee
import psycopg
from psycopg import abc, adapt, generators
from psycopg.abc import Buffer, PQGen
from psycopg.adapt import AdaptersMap, Loader, PyFormat
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from budget_sync.runtime import greenlets

T = TypeVar("T")

_SUCCESS = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK)


class CommitFailedError(Exception):
    """The COMMIT itself got an error or no answer, so its outcome is unknown."""

    def __init__(self, error: psycopg.Error) -> None:
        super().__init__(str(error))
        self.error = error


class Statement(NamedTuple):
    """An SQL statement with a %s for each value, and the values."""

    sql: str
    parameters: Sequence[object]


class Result:
    """The result of a statement, with the parts of a cursor that a prepared query needs."""

    __slots__ = ("_connection", "_result")

    def __init__(self, connection: Connection, result: PGresult) -> None:
        self._connection = connection
        self._result = result

    def fetchone(self) -> tuple[Any, ...] | None:
        """The first row; None if there are no rows."""
        if not self._result.ntuples:
            return None
        transformer = self._connection.transformer
        transformer.set_pgresult(self._result)
        return transformer.load_row(0, tuple)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows."""
        transformer = self._connection.transformer
        transformer.set_pgresult(self._result)
        return transformer.load_rows(0, self._result.ntuples, tuple)

    @property
    def rowcount(self) -> int:
        """The number of rows that an insert, update or delete affected."""
        return self._result.command_tuples or 0


class Connection(psycopg.Connection[Any]):
    """A connection that can defer statements, and on which greenlets wait without blocking."""

    @cached_property
    def pending(self) -> list[Statement]:
        """The deferred statements, to be sent with the next one."""
        return []

    @cached_property
    def transformer(self) -> abc.Transformer:
        """Converts values; it caches the converters."""
        return adapt.Transformer(self)

    @cached_property
    def _prepared_names(self) -> dict[str, bytes]:
        """The names of the server's prepared statements, by SQL."""
        return {}

    def defer(self, statement: Statement) -> None:
        """Send a statement with the next one or with the COMMIT, which then raises its error."""
        self.pending.append(statement)

    def run(self, *statements: Statement) -> list[Result]:
        """Run the pending statements and then these; return the results of these.

        Raises the first error of any of them; the statements after it were not run.
        """
        results = self._send_and_check([*self._take_pending(), *statements])
        return [Result(self, result) for result in results[-len(statements) :]]

    def run_pending(self) -> None:
        """Run the pending statements, before a statement that does not use the pipeline."""
        if self.pending:
            self._send_and_check(self._take_pending())

    def commit_pending(self) -> str:
        """Run the pending statements and commit; return the command that the server reports.

        That is COMMIT, or ROLLBACK if the caller ignored an earlier error. Raises the error of a
        pending statement, after which nothing was committed, or CommitFailedError.
        """
        statements = [*self._take_pending(), Statement("COMMIT", ())]
        results, lost = self._send(statements)
        number, error = _first_error(results)
        # If the error ended the connection, a proxy may have reported it for the wrong statement.
        if error and number < len(statements) - 1 and error.diag.severity_nonlocalized == "ERROR":
            raise error
        if failure := error or lost:
            raise CommitFailedError(failure)
        return (results[-1].command_status or b"").decode()

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Run one of psycopg's protocol generators to its end and return its result."""
        if not greenlets.in_greenlet():
            return super().wait(gen, interval, timeout)
        try:
            events = next(gen)
            while True:
                greenlets.await_socket(self.pgconn.socket, events)
                # Psycopg uses the same event bits as selectors, and its I/O is non-blocking.
                events = gen.send(psycopg.waiting.Ready(events))
        except StopIteration as end:
            result: T = end.value
            return result

    def _take_pending(self) -> list[Statement]:
        statements = self.pending[:]
        self.pending.clear()
        return statements

    def _send_and_check(self, statements: Sequence[Statement]) -> list[PGresult]:
        results, lost = self._send(statements)
        _, error = _first_error(results)
        if failure := error or lost:
            raise failure
        return results

    def _send(self, statements: Sequence[Statement]) -> tuple[list[PGresult], psycopg.Error | None]:
        """Send statements; return their results and, if the connection was lost, the error.

        A lost connection leaves fewer results than statements.
        """
        # Convert all values first, so that an invalid value raises before anything is sent.
        values = [
            self.transformer.dump_sequence(parameters, [PyFormat.TEXT] * len(parameters))
            for _, parameters in statements
        ]
        connection, names = self.pgconn, dict[str, bytes]()
        connection.enter_pipeline_mode()
        try:
            for (sql, _), filled in zip(statements, values, strict=True):
                name = self._prepared_names.get(sql) or names.get(sql)
                if name is None:
                    number = len(self._prepared_names) + len(names)
                    name = names[sql] = b"budget_sync_%d" % number
                    connection.send_prepare(name, _numbered(sql))
                connection.send_query_prepared(name, filled)
            connection.pipeline_sync()
            results, lost = self.wait(_receive(connection, len(statements) + len(names)))
            if lost is None:
                connection.exit_pipeline_mode()
        except BaseException:
            # The protocol state is undefined: the connection cannot be used again.
            self.close()
            raise
        return self._without_preparations(statements, names, results), lost

    def _without_preparations(
        self, statements: Sequence[Statement], names: dict[str, bytes], results: list[PGresult]
    ) -> list[PGresult]:
        """The results of the statements, without the results of preparing them.

        A statement that could not be prepared gets the error of its preparation. The names of the
        prepared statements are cached.
        """
        if not names:
            return results
        unread, statement_results = iter(results), list[PGresult]()
        for sql, _ in statements:
            result = next(unread, None)
            if sql in names and result is not None and result.status == ExecStatus.COMMAND_OK:
                self._prepared_names[sql] = names.pop(sql)
                result = next(unread, None)
            if result is None:
                break
            statement_results.append(result)
        return statement_results


def _receive(connection: PGconn, count: int) -> PQGen[tuple[list[PGresult], psycopg.Error | None]]:
    """Send the buffered statements and fetch `count` results and the end of the pipeline.

    If the connection is lost, return fewer results, and the error.
    """
    results: list[PGresult] = []
    try:
        yield from generators.send(connection)
        for _ in range(count):
            results += yield from generators.fetch_many(connection)
        yield from generators.fetch_many(connection)
    except psycopg.Error as error:
        return results, error
    if connection.status != ConnStatus.OK:
        return results, psycopg.OperationalError("the connection is lost")
    return results, None


def _first_error(results: Sequence[PGresult]) -> tuple[int, psycopg.Error | None]:
    """The index of the first result that is an error, and the error."""
    for number, result in enumerate(results):
        if result.status not in _SUCCESS:
            return number, error_from_result(result)
    return len(results), None


@cache
def _numbered(sql: str) -> bytes:
    """The statement with PostgreSQL's own placeholders: $1, $2 and so on."""
    first, *rest = sql.split("%s")
    return "".join(
        [first, *(f"${number}{text}" for number, text in enumerate(rest, start=1))]
    ).encode()


class _UtcLoader(Loader):
    """Loads a time as SQLite stores it: 2025-02-05T10:30:00Z. The session's time zone is UTC."""

    def load(self, data: Buffer) -> str:
        text = bytes(data).decode()
        return f"{text[:10]}T{text[11:19]}Z"


class _NumberLoader(Loader):
    """Loads a sum of integers as an integer, as SQLite does.

    PostgreSQL returns it as NUMERIC, because it may exceed BIGINT.
    """

    def load(self, data: Buffer) -> int | Decimal:
        text = bytes(data).decode()
        return Decimal(text) if "." in text else int(text)


def context() -> SimpleNamespace:
    """The context of a new connection, with the converters above."""
    adapters = AdaptersMap(psycopg.adapters)
    adapters.register_loader("timestamptz", _UtcLoader)
    adapters.register_loader("numeric", _NumberLoader)
    return SimpleNamespace(adapters=adapters)


class Adapter(peewee.Psycopg3Adapter):
    """Opens these connections for Peewee."""

    def connect(self, db: peewee.Database, **params: Any) -> Connection:
        """Open a connection, on which psycopg itself prepares no statements.

        Otherwise psycopg would at times make the server drop all prepared statements, even ours.
        """
        return Connection.connect(dbname=db.database, prepare_threshold=None, **params)
