"""Peewee queries compiled once.

Peewee makes the SQL of a query anew each time it runs, which costs several times what SQLite needs to run it. The queries of
the hot path are the same but for their values, so they are compiled with a named gap for each value, and the SQL is kept.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any, NamedTuple

import peewee

from budget_sync.database.connection import db


class _Gap:
    """Where a value goes."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class _Gaps:
    """Hands out a gap for any name asked for."""

    def __getattr__(self, name: str) -> Any:
        # A Value node goes through unconverted: what fills the gap must be as the database takes it.
        return peewee.Value(_Gap(name), converter=False)


class _Compiled(NamedTuple):
    """The SQL, which named value fills each of its placeholders, and what makes a row of what it selects."""

    sql: str
    names: tuple[str, ...]
    make_row: Callable[..., Any]


def _compile(query: Any) -> _Compiled:
    sql, parameters = db.get_sql_context().sql(query).query()
    mark = db.param
    texts = sql.split(mark)
    if len(texts) != len(parameters) + 1:
        raise ValueError(f"a placeholder too many or too few: {sql}")
    marks = [mark if type(parameter) is _Gap else _literal(parameter) for parameter in parameters]
    columns = (
        [getattr(column, "name", "_") for column in query.selected_columns]
        if isinstance(query, peewee.Select)
        else []
    )
    return _Compiled(
        "".join(text + mark for text, mark in zip(texts, [*marks, ""], strict=True)),
        tuple(parameter.name for parameter in parameters if type(parameter) is _Gap),
        namedtuple("Row", columns, rename=True),  # noqa: PYI024  # columns known at run time
    )


def _literal(value: object) -> str:
    """A constant of the query, as SQL.

    SQLite compiles a statement anew at each run in which a value was bound that decides whether a partial index can be used,
    as in `"status" = ?`; with a constant it need not.
    """
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if type(value) is int:
        return str(value)
    raise TypeError(f"no constant for a prepared query: {value!r}")


class Prepared:
    """A query made by `build(gaps)`, run with `gaps.name` filled by the keyword `name`.

    Values go to the database as they are: times as text, enums as their text.
    """

    def __init__(self, build: Callable[[Any], Any]) -> None:
        self._build = build
        # By engine, since a process may connect to more than one database in its life (tests, copies).
        self._compiled: dict[type, _Compiled] = {}

    def compiled(self, database: peewee.Database) -> _Compiled:
        """The query as that database takes it."""
        compiled = self._compiled.get(type(database))
        if compiled is None:
            compiled = self._compiled[type(database)] = _compile(self._build(_Gaps()))
        return compiled

    def _run(self, values: dict[str, Any]) -> tuple[Any, Any]:
        database = db.obj
        sql, names, make_row = self.compiled(database)
        return database.execute_prepared(sql, [values[name] for name in names]), make_row

    def first(self, **values: Any) -> Any:
        """The first row of a select, with its columns as attributes; None where there is none."""
        cursor, make_row = self._run(values)
        row = cursor.fetchone()
        return None if row is None else make_row(*row)

    def scalar(self, **values: Any) -> Any:
        """The first column of the first row."""
        row = self._run(values)[0].fetchone()
        return None if row is None else row[0]

    def execute(self, **values: Any) -> int:
        """Run an insert, update or delete; the number of rows it met."""
        count: int = self._run(values)[0].rowcount
        return count

    def write(self, **values: Any) -> None:
        """Run an insert of which nothing is asked. On PostgreSQL it goes with the next statement, or with the commit, and so does its error."""
        database = db.obj
        sql, names, _ = self.compiled(database)
        database.write_prepared(sql, [values[name] for name in names])


def first_of_both(first: Prepared, second: Prepared, **values: Any) -> tuple[Any, Any]:
    """The first rows of two selects, the second of which is run after the first; on PostgreSQL the two travel together."""
    database = db.obj
    sql, names, make_row = first.compiled(database)
    other_sql, other_names, make_other = second.compiled(database)
    cursor, other_cursor = database.execute_both_prepared(
        (sql, [values[name] for name in names]), (other_sql, [values[name] for name in other_names])
    )
    row, other = cursor.fetchone(), other_cursor.fetchone()
    return row and make_row(*row), other and make_other(*other)
