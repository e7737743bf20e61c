"""A database of every earlier schema version, with data in it, upgrades to what a fresh one is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import PROJECT, Installation
from peewee import sqlite3  # type: ignore[attr-defined]  # missing from peewee's stubs

from budget_sync import database

EARLIER = sorted((PROJECT / "tests" / "schemas").glob("*.sql"), key=lambda path: int(path.stem))


def clauses(create_table: str) -> list[str]:
    """A table's columns and constraints, sorted: an added column stands elsewhere in the text than in a fresh table."""
    text = " ".join(re.sub(r"--[^\n]*", "", create_table).split())
    depth, found = 0, [""]
    for char in text[text.index("(") + 1 : text.rindex(")")]:
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            found.append("")
        else:
            found[-1] += char
    return sorted(clause.strip() for clause in found)


def description(path: Path) -> dict[str, object]:
    """Every table, index and trigger of a database file."""
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    finally:
        connection.close()
    return {f"{kind} {name}": clauses(sql) if kind == "table" else " ".join(sql.split()) for kind, name, sql in rows}


def rows_of(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """What stands in every table, but for columns that came later."""
    connection = sqlite3.connect(path)
    try:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {table: connection.execute(f'SELECT * FROM "{table}"').fetchall() for table in tables}
    finally:
        connection.close()


@pytest.fixture(params=EARLIER, ids=lambda path: f"version {path.stem}")
def earlier(request: pytest.FixtureRequest, environment: dict[str, str]) -> Installation:
    """An installation whose database an earlier version made."""
    installation = Installation(environment)
    installation.folder.mkdir(parents=True)
    connection = sqlite3.connect(installation.database)
    connection.executescript(request.param.read_text(encoding="utf-8"))
    connection.close()
    return installation


def test_every_earlier_version_is_kept_for_this_test() -> None:
    assert [int(path.stem) for path in EARLIER] == list(range(1, database.SCHEMA_VERSION))


def test_an_upgraded_database_equals_a_fresh_one(earlier: Installation, tmp_path: Path) -> None:
    fresh = Installation(earlier.environment | {"INSTANCE_FOLDER": str(tmp_path / "fresh")})
    fresh.flask("init-db")
    assert description(earlier.database) != description(fresh.database)
    assert earlier.flask("upgrade-db").stdout == f"Upgraded to schema version {database.SCHEMA_VERSION}.\n"
    assert description(earlier.database) == description(fresh.database)


def test_an_upgrade_keeps_every_row_and_the_balances_still_verify(earlier: Installation) -> None:
    before = rows_of(earlier.database)
    earlier.flask("upgrade-db")
    after = rows_of(earlier.database)
    assert before["Reservation"]
    for table, rows in before.items():
        if table != "SchemaVersion":
            assert [row[: len(rows[0])] for row in after[table]] == rows if rows else not after[table], table
    assert "every balance is proven" in earlier.flask("verify").stdout


def test_an_earlier_version_is_served_only_once_it_is_upgraded(earlier: Installation) -> None:
    refused = earlier.flask("serve", "--port", str(earlier.port), check=False)
    assert refused.returncode == 1
    assert "run `flask upgrade-db`" in refused.stderr
    assert earlier.flask("upgrade-db").returncode == 0
    earlier.start()
    try:
        assert earlier.post("/api/budget/reserve", {}, headers={"Authorization": "Bearer none"}).status_code == 401
    finally:
        assert earlier.stop() == 0


def test_upgrading_twice_changes_nothing(earlier: Installation) -> None:
    earlier.flask("upgrade-db")
    once = description(earlier.database)
    assert earlier.flask("upgrade-db").stdout == f"Already at schema version {database.SCHEMA_VERSION}.\n"
    assert description(earlier.database) == once
