"""Upgrades: a database of every earlier schema version, with data, becomes equal to a new one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import peewee
import psycopg
import pytest
from peewee import sqlite3  # type: ignore[attr-defined]  # missing from peewee's stubs
from support.installation import Installation, found
from support.machine import ENGINE, PROJECT
from support.world import ROOT

from budget_sync import database
from budget_sync.database import audit_log, db
from budget_sync.database.maintenance.migrate import copy_rows
from budget_sync.database.schema import FILLED_TABLES, statements
from budget_sync.database.upgrades import upgrade_steps
from budget_sync.database.upgrades.report import Step
from budget_sync.ledger import verification

#: The rows of each table, each as its values by column.
Rows = dict[str, list[dict[str, Any]]]

SCHEMAS = PROJECT / "tests" / "schemas"
EARLIER = sorted(SCHEMAS.glob("*.sql"), key=lambda path: int(path.stem))

pytestmark = pytest.mark.skipif(ENGINE != "sqlite", reason="each test names its engine")


def clauses(create_table: str) -> list[str]:
    """A table's columns and constraints, sorted.

    An upgrade adds a column at another position than in a new table.
    """
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
        rows = connection.execute(
            "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"
        ).fetchall()
    finally:
        connection.close()
    return {
        f"{kind} {name}": clauses(sql) if kind == "table" else " ".join(sql.split())
        for kind, name, sql in rows
    }


def rows_of(path: Path) -> Rows:
    """The rows of every table."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {
            table: [dict(row) for row in connection.execute(f'SELECT * FROM "{table}"')]
            for (table,) in tables.fetchall()
        }


def expected_after_upgrade(before: Rows) -> Rows:
    """The rows of an earlier version as the newest one has them.

    Stored replies and checks belong to the name of their key. Of the replies that several keys of
    one name stored under one Idempotency-Key, the newest stays.
    """
    services = {f"key:{key['id']}": f"service:{key['name']}" for key in before["ApiKey"]}

    def renamed(table: str, column: str) -> list[dict[str, Any]]:
        return [row | {column: services.get(row[column], row[column])} for row in before[table]]

    replies = {
        (row["customerId"], row["principal"], row["call"], row["idempotencyKey"]): row
        for _, row in sorted(
            zip(before["StoredReply"], renamed("StoredReply", "principal"), strict=True),
            key=lambda pair: (pair[0]["createdAt"], pair[0]["principal"]),
        )
    }
    return before | {
        "SyncHistory": [_without(row, "heldBudgetIds") for row in before["SyncHistory"]],
        "BudgetDataSourceConfig": [
            _without(row, "columnMap", "locale") for row in before["BudgetDataSourceConfig"]
        ],
        "StoredReply": list(replies.values()),
        "BudgetCheckLog": renamed("BudgetCheckLog", "checkedBy"),
    }


def _without(row: dict[str, Any], *columns: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in columns}


def comparable(rows: Rows, columns_of: Rows) -> dict[str, list[str]]:
    """The rows as sorted texts, of the tables and columns of an earlier version.

    Without the tables that the schema fills, because each version has its own rows in them.
    """
    return {
        table: sorted(
            json.dumps(
                {name: row[name] for name in earlier[0] if name in row} if earlier else row,
                sort_keys=True,
            )
            for row in rows[table]
        )
        for table, earlier in columns_of.items()
        if table not in ("SchemaVersion", *FILLED_TABLES)
    }


before_the_ceiling = pytest.mark.parametrize(
    "dump", EARLIER[:3], ids=lambda path: f"version {path.stem}"
)
every_earlier_version = pytest.mark.parametrize(
    "dump", EARLIER, ids=lambda path: f"version {path.stem}"
)


@pytest.fixture(params=EARLIER, ids=lambda path: f"version {path.stem}")
def earlier(request: pytest.FixtureRequest, environment: dict[str, str]) -> Installation:
    """An installation with a database of an earlier version."""
    installation = Installation(environment)
    installation.folder.mkdir(parents=True)
    connection = sqlite3.connect(installation.database)
    connection.executescript(request.param.read_text(encoding="utf-8"))
    connection.close()
    return installation


def test_dumps_of_all_earlier_versions_exist() -> None:
    assert [int(path.stem) for path in EARLIER] == list(range(1, database.SCHEMA_VERSION))


def test_upgraded_database_equals_a_new_one(earlier: Installation, tmp_path: Path) -> None:
    fresh = Installation(earlier.environment | {"INSTANCE_FOLDER": str(tmp_path / "fresh")})
    fresh.flask("init-db")
    assert description(earlier.database) != description(fresh.database)
    assert (
        earlier.flask("upgrade-db").stdout
        == f"Upgraded to schema version {database.SCHEMA_VERSION}.\n"
    )
    assert description(earlier.database) == description(fresh.database)


def test_upgrade_keeps_every_row_and_balance(earlier: Installation) -> None:
    before = rows_of(earlier.database)
    earlier.flask("upgrade-db")
    after = rows_of(earlier.database)
    assert before["Reservation"]
    assert comparable(after, before) == comparable(expected_after_upgrade(before), before)
    assert "All balances are consistent" in earlier.flask("verify").stdout


@pytest.mark.parametrize("earlier", EARLIER[:3], indirect=True, ids=lambda path: path.stem)
def test_newest_reply_of_a_service_is_kept(earlier: Installation) -> None:
    """Also if two keys of one name stored their replies in the same second."""
    with closing(sqlite3.connect(earlier.database)) as connection, connection:
        connection.execute("""UPDATE "StoredReply" SET "createdAt" = '2026-11-30T21:02:00Z'""")
    before = rows_of(earlier.database)
    earlier.flask("upgrade-db")
    after = rows_of(earlier.database)
    assert comparable(after, before) == comparable(expected_after_upgrade(before), before)
    if any(key["name"] == "erp" for key in before["ApiKey"]):
        owners = [(row["principal"], row["call"]) for row in after["StoredReply"]]
        assert owners.count(("service:erp", "commit")) == 1
        assert len(before["StoredReply"]) - len(after["StoredReply"]) == 2


@pytest.mark.parametrize("earlier", EARLIER[:3], indirect=True, ids=lambda path: path.stem)
def test_upgrade_names_the_budgets_above_the_ceiling(earlier: Installation) -> None:
    with closing(sqlite3.connect(earlier.database)) as connection, connection:
        connection.execute(
            """UPDATE "BudgetUtilization" SET "reservedMinor" = 1, "committedMinor" = ?""",
            (10**15 - 1,),
        )
    before = (description(earlier.database), rows_of(earlier.database))
    names = ", ".join(sorted(row["budgetId"] for row in before[1]["BudgetUtilization"]))
    result = earlier.flask("upgrade-db", check=False)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert f"are reserved and committed on {names}: this version keeps every" in result.stderr
    assert (description(earlier.database), rows_of(earlier.database)) == before
    with closing(sqlite3.connect(earlier.database)) as connection, connection:
        connection.execute("""UPDATE "BudgetUtilization" SET "reservedMinor" = 0""")
    assert earlier.flask("upgrade-db").returncode == 0


def test_earlier_version_is_served_only_after_upgrade(earlier: Installation) -> None:
    result = earlier.flask("serve", "--port", str(earlier.port), check=False)
    assert result.returncode == 1
    assert "Run `flask upgrade-db`" in result.stderr
    assert earlier.flask("upgrade-db").returncode == 0
    earlier.start()
    try:
        assert (
            earlier.post(
                "/api/budget/reserve", {}, headers={"Authorization": "Bearer none"}
            ).status_code
            == 401
        )
    finally:
        assert earlier.stop() == 0


def test_second_upgrade_changes_nothing(earlier: Installation) -> None:
    earlier.flask("upgrade-db")
    once = description(earlier.database)
    assert (
        earlier.flask("upgrade-db").stdout
        == f"Already at schema version {database.SCHEMA_VERSION}.\n"
    )
    assert description(earlier.database) == once


@every_earlier_version
def test_failed_upgrade_changes_nothing(dump: Path, tmp_path: Path) -> None:
    path = tmp_path / "budget_sync.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(dump.read_text(encoding="utf-8"))
    before = (description(path), rows_of(path))
    database.connect(path)
    for steps in broken_upgrades(int(dump.stem)):
        with pytest.raises(peewee.PeeweeException, match="no such table: Nowhere"):
            database.upgrade_schema(steps)
        assert (description(path), rows_of(path)) == before
    # A complete upgrade on the same connection then succeeds.
    assert database.upgrade_schema() == list(range(int(dump.stem) + 1, database.SCHEMA_VERSION + 1))
    database.disconnect()


def broken_upgrades(version: int, every: int = 1) -> Iterator[dict[int, Sequence[Step]]]:
    """The steps after a version, with a wrong statement after every n-th of their statements."""
    steps = {
        step: statements for step, statements in upgrade_steps(db.obj).items() if step > version
    }
    for step, listed in steps.items():
        for at in sorted({*range(1, len(listed) + 1, every), len(listed)}):
            yield steps | {step: [*listed[:at], 'DELETE FROM "Nowhere"', *listed[at:]]}


def test_upgraded_audit_log_is_unchanged_and_append_only(earlier: Installation) -> None:
    query = 'SELECT * FROM "AuditLog" ORDER BY "id"'
    before = found(earlier.database, query)
    earlier.flask("upgrade-db")
    # The upgrade adds "transferId", "afterCheck" and the balance after each row.
    added = 5
    assert [row[:-added] for row in found(earlier.database, query)] == before
    database.connect(earlier.database)
    for rewrite in (
        """UPDATE "AuditLog" SET "reason" = 'another'""",
        'DELETE FROM "AuditLog"',
        'REPLACE INTO "AuditLog" SELECT * FROM "AuditLog"',
        """INSERT OR REPLACE INTO "AuditLog"
            ("budgetId", "version", "action", "principal", "changedBy", "createdAt")
        SELECT "budgetId", "version", 'UPDATE', 'x', 'x', "createdAt"
        FROM "AuditLog" WHERE "version" = 1""",
    ):
        with pytest.raises(peewee.IntegrityError, match="append-only"):
            db.execute_sql(rewrite)
    with pytest.raises(peewee.IntegrityError, match="leave only by flask prune-checks"):
        db.execute_sql('DELETE FROM "BudgetCheckLog"')
    with pytest.raises(peewee.IntegrityError, match="append-only"):
        db.execute_sql("""UPDATE "BudgetCheckLog" SET "checkedBy" = 'another'""")
    audit_log.record(ROOT, "RESTORE", customer_id=None, subject="a.db")
    assert [row[0] for row in found(earlier.database, query)] == [
        *(row[0] for row in before),
        before[-1][0] + 1,
    ]
    database.disconnect()


# The same on PostgreSQL, where earlier versions had the same tables.


def tables_of(text: str) -> list[str]:
    """The tables of an earlier version, each after those that it references."""
    return re.findall(r'^CREATE TABLE "(\w+)"', text, re.MULTILINE)


def create_earlier(url: str, dump: Path) -> None:
    """Create the schema of an earlier version, with the rows of the dump."""
    text = dump.read_text(encoding="utf-8")
    (postgresql_statements,) = (
        path for path in (SCHEMAS / "postgresql").glob("*.sql") if dump.stem in path.stem.split("-")
    )
    with psycopg.connect(url) as connection, closing(sqlite3.connect(":memory:")) as source:
        source.executescript(text)
        for statement in statements(text):
            if statement.startswith(("CREATE TABLE", "CREATE INDEX", "CREATE UNIQUE INDEX")):
                connection.execute(statement.encode())
        connection.execute(postgresql_statements.read_bytes())
        copy_rows(connection, source, tables_of(text)[1:])
        connection.execute("""INSERT INTO "SchemaVersion" VALUES (%s, now())""", (int(dump.stem),))


def described(url: str) -> set[tuple[Any, ...]]:
    """Every column, constraint, index, trigger and function.

    Leaves out properties that depend on the order of creation.
    """
    return {
        tuple(" ".join(part.split()) if isinstance(part, str) else part for part in row)
        for query in (
            """SELECT 'column', table_name, column_name, data_type, is_nullable, column_default,
                is_identity, is_generated, generation_expression
            FROM information_schema.columns WHERE table_schema = 'public'""",
            """SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
            FROM pg_constraint
            WHERE connamespace = 'public'::regnamespace AND contype <> 'n'""",
            """SELECT 'index', tablename, indexname, indexdef
            FROM pg_indexes WHERE schemaname = 'public'""",
            """SELECT 'trigger', tgrelid::regclass::text, tgname, tgenabled,
                pg_get_triggerdef(pg_trigger.oid)
            FROM pg_trigger WHERE NOT tgisinternal""",
            """SELECT 'function', proname, prosrc
            FROM pg_proc WHERE pronamespace = 'public'::regnamespace""",
        )
        for row in found(url, query)
    }


def all_rows(url: str) -> Rows:
    """The rows of every table that all versions have."""
    return {
        table: [row for (row,) in found(url, f'SELECT to_jsonb("{table}") FROM "{table}"')]
        for table in tables_of(EARLIER[0].read_text(encoding="utf-8"))
    }


@every_earlier_version
def test_postgresql_upgrade_equals_new_and_keeps_every_row(
    dump: Path, postgres_url: str, request: pytest.FixtureRequest
) -> None:
    create_earlier(postgres_url, dump)
    before = all_rows(postgres_url)
    with request.getfixturevalue("new_postgres")() as fresh:
        database.connect(fresh)
        database.init_schema()
        assert described(postgres_url) != described(fresh)
        database.connect(postgres_url)
        assert database.upgrade_schema() == list(
            range(int(dump.stem) + 1, database.SCHEMA_VERSION + 1)
        )
        assert described(postgres_url) == described(fresh)
    after = all_rows(postgres_url)
    assert before["SchemaVersion"] != after["SchemaVersion"]
    assert before["Reservation"]
    assert comparable(after, before) == comparable(expected_after_upgrade(before), before)
    assert verification.verify().findings == []
    audit_log.record(ROOT, "RESTORE", customer_id=None, subject="a.db")
    for rewrite in (
        """UPDATE "AuditLog" SET "reason" = 'another'""",
        'DELETE FROM "AuditLog"',
        'TRUNCATE "AuditLog"',
    ):
        with pytest.raises(peewee.IntegrityError, match="append-only"):
            db.execute_sql(rewrite)
    with pytest.raises(peewee.IntegrityError, match="append-only"):
        db.execute_sql("""UPDATE "BudgetCheckLog" SET "checkedBy" = 'another'""")
    database.disconnect()


@before_the_ceiling
def test_postgresql_upgrade_names_the_budgets_above_the_ceiling(
    dump: Path, postgres_url: str
) -> None:
    create_earlier(postgres_url, dump)
    with psycopg.connect(postgres_url) as connection:
        connection.execute(
            'UPDATE "BudgetUtilization" SET "reservedMinor" = %s, "committedMinor" = %s',
            (9 * 10**17, 9 * 10**17),
        )
    before = (described(postgres_url), all_rows(postgres_url))
    database.connect(postgres_url)
    with pytest.raises(database.DatabaseUnusableError, match=r"committed on .*budget-123: this"):
        database.upgrade_schema()
    database.disconnect()
    assert (described(postgres_url), all_rows(postgres_url)) == before


@every_earlier_version
def test_postgresql_failed_upgrade_changes_nothing(dump: Path, postgres_url: str) -> None:
    create_earlier(postgres_url, dump)
    before = (described(postgres_url), all_rows(postgres_url))
    database.connect(postgres_url)
    for steps in broken_upgrades(int(dump.stem), every=7):
        with pytest.raises(peewee.PeeweeException, match="Nowhere"):
            database.upgrade_schema(steps)
        assert (described(postgres_url), all_rows(postgres_url)) == before
    database.disconnect()
