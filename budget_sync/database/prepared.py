"""Peewee queries that are compiled only once.

Peewee builds the SQL of a query again each time it runs, which takes several times as long as
SQLite needs to run it. The queries of the hot path differ only in their values, so they are
compiled once with a named parameter for each value, and the SQL is cached.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any, NamedTuple

import peewee

from budget_sync.database.connection import db


class _Parameter:
    """A named placeholder for a value."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class _Parameters:
    """Has a parameter for every attribute name."""

    def __getattr__(self, name: str) -> Any:
        # Peewee does not convert this node, so the value must already have its database form.
        return peewee.Value(_Parameter(name), converter=False)


class _Compiled(NamedTuple):
    """The SQL, the parameter name of each placeholder, and the constructor of a result row."""

    sql: str
    names: tuple[str, ...]
    make_row: Callable[..., Any]


def _compile(query: Any) -> _Compiled:
    sql, parameters = db.get_sql_context().sql(query).query()
    mark = db.param
    texts = sql.split(mark)
    if len(texts) != len(parameters) + 1:
        raise ValueError(f"the number of placeholders differs from the number of values: {sql}")
    marks = [
        mark if type(parameter) is _Parameter else _literal(parameter) for parameter in parameters
    ]
    columns = (
        [getattr(column, "name", "_") for column in query.selected_columns]
        if isinstance(query, peewee.Select)
        else []
    )
    return _Compiled(
        "".join(text + mark for text, mark in zip(texts, [*marks, ""], strict=True)),
        tuple(parameter.name for parameter in parameters if type(parameter) is _Parameter),
        namedtuple("Row", columns, rename=True),  # noqa: PYI024  # columns known at run time
    )


def _literal(value: object) -> str:
    """A constant of the query, as SQL.

    SQLite compiles a statement again on each run if a bound value decides whether a partial index
    can be used, as in `"status" = ?`. With a constant it does not.
    """
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if type(value) is int:
        return str(value)
    raise TypeError(f"a prepared query cannot have this constant: {value!r}")


class Prepared:
    """A query that `build(parameters)` returns; the keyword `name` sets `parameters.name`.

    Values go to the database unconverted, so pass times and enums as text.
    """

    def __init__(self, build: Callable[[Any], Any]) -> None:
        self._build = build
        # By engine, because a process may connect to several databases (tests, copies).
        self._compiled: dict[type, _Compiled] = {}

    def compiled(self, database: peewee.Database) -> _Compiled:
        """The query, compiled for the engine of `database`."""
        compiled = self._compiled.get(type(database))
        if compiled is None:
            compiled = self._compiled[type(database)] = _compile(self._build(_Parameters()))
        return compiled

    def _run(self, values: dict[str, Any]) -> tuple[Any, Any]:
        database = db.obj
        sql, names, make_row = self.compiled(database)
        return database.execute_prepared(sql, [values[name] for name in names]), make_row

    def first(self, **values: Any) -> Any:
        """The first row of a select, with its columns as attributes; None if there are no rows."""
        cursor, make_row = self._run(values)
        row = cursor.fetchone()
        return None if row is None else make_row(*row)

    def rows(self, **values: Any) -> list[Any]:
        """All rows of a select, with their columns as attributes."""
        cursor, make_row = self._run(values)
        return [make_row(*row) for row in cursor.fetchall()]

    def scalar(self, **values: Any) -> Any:
        """The first column of the first row; None if there are no rows."""
        row = self._run(values)[0].fetchone()
        return None if row is None else row[0]

    def execute(self, **values: Any) -> int:
        """Run an insert, update or delete; return the number of affected rows."""
        count: int = self._run(values)[0].rowcount
        return count

    def write(self, **values: Any) -> None:
        """Run an insert whose result is not needed.

        PostgreSQL sends it with the next statement or with the commit, which then also raises its
        error.
        """
        database = db.obj
        sql, names, _ = self.compiled(database)
        database.write_prepared(sql, [values[name] for name in names])


def first_row_of_each(first: Prepared, second: Prepared, **values: Any) -> tuple[Any, Any]:
    """The first row of each of two selects, run in this order.

    PostgreSQL runs both in one round trip.
    """
    database = db.obj
    first_sql, first_names, make_first = first.compiled(database)
    second_sql, second_names, make_second = second.compiled(database)
    first_cursor, second_cursor = database.execute_both_prepared(
        (first_sql, [values[name] for name in first_names]),
        (second_sql, [values[name] for name in second_names]),
    )
    first_row, second_row = first_cursor.fetchone(), second_cursor.fetchone()
    return first_row and make_first(*first_row), second_row and make_second(*second_row)
