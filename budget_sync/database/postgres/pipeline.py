"""A connection to PostgreSQL whose statements travel together, where nobody has to see one's outcome before the next is sent.

A statement's way there and back costs more than most statements do, on both sides. So a BEGIN goes with the first query, and the
last inserts go with the COMMIT. The server runs them in order; after one that fails it runs none of the rest, the COMMIT included.
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

_ANSWERED = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK)


class CommitFailedError(Exception):
    """The COMMIT itself was answered with an error, or not at all: what became of it is not known."""

    def __init__(self, error: psycopg.Error) -> None:
        super().__init__(str(error))
        self.error = error


class Statement(NamedTuple):
    """A statement, with %s for each value, and the values."""

    sql: str
    parameters: Sequence[object]


class Answer:
    """What a statement came to: a cursor, as far as a prepared query needs one."""

    __slots__ = ("_connection", "_result")

    def __init__(self, connection: Connection, result: PGresult) -> None:
        self._connection = connection
        self._result = result

    def fetchone(self) -> tuple[Any, ...] | None:
        """The first row; None where there is none."""
        if not self._result.ntuples:
            return None
        transformer = self._connection.transformer
        transformer.set_pgresult(self._result)
        return transformer.load_row(0, tuple)

    @property
    def rowcount(self) -> int:
        """How many rows an insert, update or delete met."""
        return self._result.command_tuples or 0


class Connection(psycopg.Connection[Any]):
    """A connection whose answers are waited for as its caller waits, and which keeps what need not be sent at once."""

    @cached_property
    def pending(self) -> list[Statement]:
        """What goes with the next statement."""
        return []

    @cached_property
    def transformer(self) -> abc.Transformer:
        """Converts values, and remembers how."""
        return adapt.Transformer(self)

    @cached_property
    def _names(self) -> dict[str, bytes]:
        """The statements that the server has compiled, by their SQL."""
        return {}

    def later(self, statement: Statement) -> None:
        """Run a statement with the next one, or with the COMMIT. Its error comes then."""
        self.pending.append(statement)

    def run(self, *statements: Statement) -> list[Answer]:
        """Run statements after those that are pending; their answers. Raises the first error of any of them, after which none was run."""
        results = self._exchange([*self._take_pending(), *statements])
        return [Answer(self, result) for result in results[-len(statements) :]]

    def run_pending(self) -> None:
        """Run what is pending, for a statement that does not go this way."""
        if self.pending:
            self._exchange(self._take_pending())

    def commit_pending(self) -> str:
        """Run what is pending and commit; what the server says that it did: COMMIT, or ROLLBACK where an error was ignored.

        Raises an earlier statement's error, after which nothing was committed, and CommitFailedError.
        """
        statements = [*self._take_pending(), Statement("COMMIT", ())]
        results, lost = self._send(statements)
        number, error = _first_error(results)
        # Where an error ends the connection, whoever stands between may have said so of the wrong statement.
        if error and number < len(statements) - 1 and error.diag.severity_nonlocalized == "ERROR":
            raise error
        if failure := error or lost:
            raise CommitFailedError(failure)
        return (results[-1].command_status or b"").decode()

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Run one of psycopg's exchanges with the server to its end, and return its result."""
        if not greenlets.is_shared():
            return super().wait(gen, interval, timeout)
        try:
            events = next(gen)
            while True:
                greenlets.await_socket(self.pgconn.socket, events)
                # Psycopg counts as the selectors do, and reads and writes no more than it can at once.
                events = gen.send(psycopg.waiting.Ready(events))
        except StopIteration as end:
            result: T = end.value
            return result

    def _take_pending(self) -> list[Statement]:
        taken = self.pending[:]
        self.pending.clear()
        return taken

    def _exchange(self, statements: Sequence[Statement]) -> list[PGresult]:
        results, lost = self._send(statements)
        _, error = _first_error(results)
        if failure := error or lost:
            raise failure
        return results

    def _send(self, statements: Sequence[Statement]) -> tuple[list[PGresult], psycopg.Error | None]:
        """Each statement's result, as far as there are any, and why there are no more."""
        # Values first: one that cannot be sent is found before anything is.
        values = [
            self.transformer.dump_sequence(parameters, [PyFormat.TEXT] * len(parameters))
            for _, parameters in statements
        ]
        connection, names = self.pgconn, dict[str, bytes]()
        connection.enter_pipeline_mode()
        try:
            for (sql, _), filled in zip(statements, values, strict=True):
                name = self._names.get(sql) or names.get(sql)
                if name is None:
                    name = names[sql] = b"budget_sync_%d" % (len(self._names) + len(names))
                    connection.send_prepare(name, _numbered(sql))
                connection.send_query_prepared(name, filled)
            connection.pipeline_sync()
            results, lost = self.wait(_receive(connection, len(statements) + len(names)))
            if lost is None:
                connection.exit_pipeline_mode()
        except BaseException:
            # In the middle of something, and of no use any more.
            self.close()
            raise
        return self._without_preparations(statements, names, results), lost

    def _without_preparations(
        self, statements: Sequence[Statement], names: dict[str, bytes], results: list[PGresult]
    ) -> list[PGresult]:
        """The results of the statements alone, one that could not be compiled counting as its own; remembers those that were."""
        if not names:
            return results
        unread, own = iter(results), list[PGresult]()
        for sql, _ in statements:
            result = next(unread, None)
            if sql in names and result is not None and result.status == ExecStatus.COMMAND_OK:
                self._names[sql] = names.pop(sql)
                result = next(unread, None)
            if result is None:
                break
            own.append(result)
        return own


def _receive(connection: PGconn, count: int) -> PQGen[tuple[list[PGresult], psycopg.Error | None]]:
    """Send what is buffered and take in `count` results, and the end of the pipeline; fewer where the connection is lost, and why."""
    results: list[PGresult] = []
    try:
        yield from generators.send(connection)
        for _ in range(count):
            results += yield from generators.fetch_many(connection)
        yield from generators.fetch_many(connection)
    except psycopg.Error as error:
        return results, error
    return results, None if connection.status == ConnStatus.OK else psycopg.OperationalError(
        "the connection is lost"
    )


def _first_error(results: Sequence[PGresult]) -> tuple[int, psycopg.Error | None]:
    """The number of the first result that is an error, and the error."""
    for number, result in enumerate(results):
        if result.status not in _ANSWERED:
            return number, error_from_result(result)
    return len(results), None


@cache
def _numbered(sql: str) -> bytes:
    """A statement with its placeholders as PostgreSQL itself has them: $1, $2 ..."""
    first, *rest = sql.split("%s")
    return "".join(
        [first, *(f"${number}{text}" for number, text in enumerate(rest, start=1))]
    ).encode()


class _UtcLoader(Loader):
    """A time as SQLite stores it: 2025-02-05T10:30:00Z. The session's time zone is UTC."""

    def load(self, data: Buffer) -> str:
        text = bytes(data).decode()
        return f"{text[:10]}T{text[11:19]}Z"


class _NumberLoader(Loader):
    """A sum of integers is an integer, as on SQLite; PostgreSQL's is NUMERIC, since it may be larger than BIGINT."""

    def load(self, data: Buffer) -> int | Decimal:
        text = bytes(data).decode()
        return Decimal(text) if "." in text else int(text)


def context() -> SimpleNamespace:
    """What a new connection takes its converters from."""
    adapters = AdaptersMap(psycopg.adapters)
    adapters.register_loader("timestamptz", _UtcLoader)
    adapters.register_loader("numeric", _NumberLoader)
    return SimpleNamespace(adapters=adapters)


class Adapter(peewee.Psycopg3Adapter):
    """Makes such connections for Peewee."""

    def connect(self, db: peewee.Database, **params: Any) -> Connection:
        """A new one. Psycopg itself compiles nothing on it: at times it has the server forget all that was compiled, ours too."""
        return Connection.connect(dbname=db.database, prepare_threshold=None, **params)
