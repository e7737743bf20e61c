"""The upgrade to schema version 5: readings of sources, keys of budgets, held deletions."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import peewee
import pytest
from database.test_upgrade import EARLIER, create_earlier
from peewee import sqlite3  # type: ignore[attr-defined]  # missing from peewee's stubs
from support.machine import ENGINE

from budget_sync import database
from budget_sync.database import db
from budget_sync.database.models import Budget, BudgetDataSourceConfig, SyncHistory
from budget_sync.database.upgrades import upgrade_steps
from budget_sync.database.upgrades.report import Report
from budget_sync.database.upgrades.to_5_data import MAX_NAMED, reading_of
from budget_sync.domain.money import locale_marks
from budget_sync.ledger import verification
from budget_sync.sync.answers import previous_holds
from budget_sync.sync.holds import Kind, Reason
from budget_sync.sync.reading.model import CurrencyColumn, PeriodColumn, Reading

pytestmark = pytest.mark.skipif(ENGINE != "sqlite", reason="each test names its engine")

(VERSION_4,) = (path for path in EARLIER if path.stem == "4")
NOW = "2026-11-30T12:00:00Z"


@pytest.fixture(params=["sqlite", "postgresql"])
def earlier(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """A connected database of schema version 4, on each engine."""
    if request.param == "sqlite":
        path = tmp_path / "budget_sync.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(VERSION_4.read_text(encoding="utf-8"))
        database.connect(path)
    else:
        url = request.getfixturevalue("postgres_url")
        create_earlier(url, VERSION_4)
        database.connect(url)
    yield
    database.disconnect()


def insert(table: str, **values: Any) -> None:
    """Insert a row as version 4 did."""
    names = ", ".join(f'"{name}"' for name in values)
    marks = ", ".join([db.param] * len(values))
    db.execute_sql(f'INSERT INTO "{table}" ({names}) VALUES ({marks})', tuple(values.values()))


def add_customer(customer_id: str, first_month: int = 1) -> None:
    insert(
        "Customer",
        id=customer_id,
        name=customer_id,
        currency="USD",
        currencyExponent=2,
        fiscalYearStartMonth=first_month,
        createdAt=NOW,
    )


def add_source(source_id: str, customer_id: str, **values: Any) -> None:
    insert(
        "BudgetDataSourceConfig",
        **{
            "id": source_id,
            "customerId": customer_id,
            "sourceType": "csv",
            "csvPath": f"{source_id}.csv",
            "isActive": True,
            "createdAt": NOW,
        }
        | values,
    )


def add_budget(
    budget_id: str,
    customer_id: str,
    names: tuple[str, str],
    keys: tuple[str, str],
    **values: Any,
) -> None:
    """Add a budget with a department, a period, and their keys of version 4."""
    insert(
        "Budget",
        **{
            "id": budget_id,
            "customerId": customer_id,
            "department": names[0],
            "departmentKey": keys[0],
            "fiscalPeriod": names[1],
            "periodKey": keys[1],
            "currency": "USD",
            "currencyExponent": 2,
            "budgetedMinor": 100_00,
            "createdAt": NOW,
            "updatedAt": NOW,
        }
        | values,
    )
    insert("BudgetUtilization", budgetId=budget_id, customerId=customer_id, currencyExponent=2)


def upgrade() -> list[str]:
    """Upgrade the database; return the notes."""
    notes: list[str] = []
    assert database.upgrade_schema(report=Report(note=notes.append)) == [5]
    return notes


def keys_of(customer_id: str) -> dict[str, tuple[str, str]]:
    """The stored keys of a customer's budgets."""
    rows = Budget.select().where(Budget.customerId == customer_id)
    return {row.id: (row.departmentKey, row.periodKey) for row in rows}


# Readings.


def test_source_with_our_headings_gets_their_reading(earlier: None) -> None:
    notes = upgrade()
    row = BudgetDataSourceConfig.get_by_id("src_51f72bd66fa0")
    reading = Reading.from_text(row.reading or "")
    assert (reading.department.column, reading.amount.columns, reading.sum, reading.file) == (
        "Department",
        ("Budgeted Amount",),
        False,
        None,
    )
    assert reading.period == PeriodColumn(column="Fiscal Period")
    assert (reading.id, reading.limit, reading.currency) == (None, None, None)
    assert (row.readingConfirmedBy, row.readingFacts) == ("upgrade", None)
    assert row.readingConfirmedAt is not None
    assert notes == []
    assert verification.verify().findings == []


def test_column_map_and_locale_become_the_reading(earlier: None) -> None:
    column_map = {
        "Department": "Abteilung",
        "Budgeted Amount": "Plan \u201cneu\u201d",
        "Currency": "Währung",
        "Budget ID": "Nr",
        "Auto-Approve Limit": "Grenze",
    }
    add_source("src_de", "org-456", locale="de_DE", columnMap=json.dumps(column_map), removedAt=NOW)
    upgrade()
    reading = Reading.from_text(BudgetDataSourceConfig.get_by_id("src_de").reading or "")
    assert reading.department.column == "Abteilung"
    assert reading.period == PeriodColumn(column="Fiscal Period")
    assert (reading.amount.columns, reading.id, reading.limit) == (
        ("Plan \u201cneu\u201d",),
        "Nr",
        "Grenze",
    )
    assert reading.currency == CurrencyColumn(column="Währung")
    assert (reading.marks.decimal, reading.marks.group) == (",", ".")


@pytest.mark.parametrize(
    ("locale", "marks"),
    [
        ("en_US", (".", ",")),
        ("de_DE", (",", ".")),
        ("fr_FR", (",", " ")),
        ("sv_SE", (",", " ")),
        ("de_CH", (".", "'")),
        ("hi_IN", (".", ",")),
        # The marks of these are none that a reading knows.
        ("fa_IR", (".", ",")),
        ("xx_XX", (".", ",")),
        ("", (".", ",")),
    ],
)
def test_marks_of_a_locale(locale: str, marks: tuple[str, str]) -> None:
    assert locale_marks(locale) == marks
    reading = Reading.from_text(json.dumps(reading_of({}, locale)))
    assert (reading.marks.decimal, reading.marks.group) == locale_marks(locale)


# Keys.


def test_budgets_get_the_keys_of_this_version(earlier: None) -> None:
    add_customer("july", 7)
    cases = {
        "a": (
            ("Lamp \u2013 North", "FY2011-12"),
            ("lamp \u2013 north", "2011-12"),
            ("lamp-north", "2012"),
        ),
        "b": (("Bob\u2019s", "FY26"), ("bob\u2019s", "2026"), ("bob's", "2026")),
        "c": (("Lamp", "Q1 2026"), ("lamp", "2026-Q1"), ("lamp", "2026-Q1")),
        "d": (
            ("\uff10\uff14\uff11\uff10", "Herbst \u2013 neu"),
            ("\uff10\uff14\uff11\uff10", "herbst \u2013 neu"),
            ("0410", "herbst-neu"),
        ),
        "e": (("Lamp", "January 2026"), ("lamp", "2026-01"), ("lamp", "2026-01")),
    }
    for budget_id, (names, old, _) in cases.items():
        add_budget(budget_id, "july", names, old)
    before = {row.id: row.updatedAt for row in Budget.select(Budget.id, Budget.updatedAt)}
    assert upgrade() == []
    assert keys_of("july") == {budget_id: new for budget_id, (_, _, new) in cases.items()}
    # The names, the audit log and the versions are unchanged.
    assert Budget.get_by_id("a").department == "Lamp \u2013 North"
    assert {row.id: row.updatedAt for row in Budget.select()} == before


def test_budgets_with_one_new_key_stay_as_they_were(earlier: None) -> None:
    add_customer("acme")
    add_customer("globex")
    add_budget("a", "acme", ("Lamp \u2013 North", "Q1 2026"), ("lamp \u2013 north", "2026-Q1"))
    add_budget("b", "acme", ("Lamp - North", "Q1 2026"), ("lamp - north", "2026-Q1"))
    add_budget("c", "acme", ("Sales\u2014East", "Q1 2026"), ("sales\u2014east", "2026-Q1"))
    # Deleted budgets and those of other customers are in nobody's way.
    add_budget("d", "acme", ("Sales-East", "Q1 2026"), ("sales-east", "2026-Q1"), deletedAt=NOW)
    add_budget("e", "globex", ("Lamp\u2013North", "Q1 2026"), ("lamp\u2013north", "2026-Q1"))
    (note,) = upgrade()
    assert note == (
        "a (Lamp \u2013 North, Q1 2026) and b (Lamp - North, Q1 2026) are now the same department "
        "and period, and were left as they were. Keep one of them: remove the other from its "
        "sheet, or delete it with `flask remove-budget`."
    )
    assert keys_of("acme") == {
        "a": ("lamp \u2013 north", "2026-Q1"),
        "b": ("lamp - north", "2026-Q1"),
        "c": ("sales-east", "2026-Q1"),
        "d": ("sales-east", "2026-Q1"),
    }
    assert keys_of("globex") == {"e": ("lamp-north", "2026-Q1")}


def test_budgets_can_pass_their_keys_on(earlier: None) -> None:
    """The new key of one is the old key of another, which moves on too."""
    add_customer("july", 7)
    add_budget("a", "july", ("Lamp", "FY2025-26"), ("lamp", "2025-26"))
    add_budget("b", "july", ("Lamp", "FY2011-12"), ("lamp", "2011-12"))
    add_budget("c", "july", ("Lamp", "Dec 2011"), ("lamp", "2011-12 "))
    assert upgrade() == []
    assert keys_of("july") == {
        "a": ("lamp", "2026"),
        "b": ("lamp", "2012"),
        "c": ("lamp", "2011-12"),
    }


def test_budget_may_not_take_the_key_of_one_that_stays(earlier: None) -> None:
    add_customer("july", 7)
    # a and b are both the fiscal year 2012 and stay, so the key of December is not free for c.
    add_budget("a", "july", ("Lamp", "FY2011-12"), ("lamp", "2011-12"))
    add_budget("b", "july", ("Lamp", "FY2012"), ("lamp", "2012"))
    add_budget("c", "july", ("Lamp", "Dec 2011"), ("lamp", "december 2011"))
    notes = upgrade()
    assert [note.split(" are now")[0] for note in notes] == [
        "a (Lamp, FY2011-12) and b (Lamp, FY2012)",
        "a (Lamp, FY2011-12) and c (Lamp, Dec 2011)",
    ]
    assert keys_of("july") == {
        "a": ("lamp", "2011-12"),
        "b": ("lamp", "2012"),
        "c": ("lamp", "december 2011"),
    }


def test_period_that_cannot_be_read_has_no_other_periods_key(earlier: None) -> None:
    """FY2011-12 has no key if the fiscal year begins in January, and was December 2011 before."""
    add_customer("january")
    add_budget("a", "january", ("Lamp", "FY2011-12"), ("lamp", "2011-12"))
    add_budget("b", "january", ("Lamp", "whenever"), ("lamp", "whenever"))
    add_budget("c", "january", ("Lamp", "2011-12"), ("lamp", "2011-12 "))
    (note,) = upgrade()
    assert note.startswith("The period of a (Lamp, FY2011-12) cannot be read, and requests no")
    assert keys_of("january")["a"] == ("lamp", "fy2011-12")
    assert keys_of("january")["b"] == ("lamp", "whenever")


def test_many_clashes_are_counted(earlier: None) -> None:
    add_customer("acme")
    for number in range(MAX_NAMED + 5):
        for dash in "\u2013-":
            name = f"Lamp {dash} {number:02}"
            add_budget(f"{number:02}{dash}", "acme", (name, "FY2026"), (name.lower(), "2026"))
    notes = upgrade()
    assert len(notes) == MAX_NAMED + 1
    assert notes[-1] == "And 5 more such groups of budgets."


def test_failed_upgrade_keeps_the_old_keys(earlier: None, monkeypatch: pytest.MonkeyPatch) -> None:
    add_customer("acme")
    add_budget("a", "acme", ("Lamp \u2013 North", "Q1 2026"), ("lamp \u2013 north", "2026-Q1"))
    steps = {5: [*upgrade_steps(db.obj)[5], 'DELETE FROM "Nowhere"']}
    with pytest.raises(peewee.PeeweeException, match="Nowhere"):
        database.upgrade_schema(steps)
    assert database.schema_version() == 4
    assert keys_of_4("a") == ("lamp \u2013 north", "2026-Q1")
    assert upgrade() == []
    assert keys_of("acme") == {"a": ("lamp-north", "2026-Q1")}


def keys_of_4(budget_id: str) -> tuple[str, str]:
    """The keys of a budget in a database of version 4."""
    row: tuple[str, str] = db.execute_sql(
        f'SELECT "departmentKey", "periodKey" FROM "Budget" WHERE "id" = {db.param}', (budget_id,)
    ).fetchone()
    return row


def test_upgrade_of_many_budgets_takes_linear_time(earlier: None) -> None:
    """5,000 budgets, all of which get another key."""
    add_customer("acme")
    rows = [
        (
            f"b{number:05}",
            "acme",
            f"Dept \u2013 {number}",
            f"dept \u2013 {number}",
            "Q1 2026",
            "2026-Q1",
        )
        for number in range(5_000)
    ]
    with peewee.__exception_wrapper__:  # type: ignore[attr-defined]  # missing from the stubs
        cursor = db.connection().cursor()
        cursor.executemany(
            f"""INSERT INTO "Budget" ("id", "customerId", "department", "departmentKey",
                "fiscalPeriod", "periodKey", "currency", "currencyExponent", "budgetedMinor",
                "createdAt", "updatedAt")
            VALUES ({", ".join(["?"] * 6)}, 'USD', 2, 100, '{NOW}', '{NOW}')""".replace(
                "?", db.param
            ),
            [
                (key, customer, name, old, text, period)
                for key, customer, name, old, text, period in rows
            ],
        )
    started_at = time.perf_counter()
    assert upgrade() == []
    assert time.perf_counter() - started_at < 20
    assert keys_of("acme")["b04999"] == ("dept-4999", "2026-Q1")


# Held deletions.


def test_held_deletions_of_the_latest_run_stay_held(earlier: None) -> None:
    history = {
        "customerId": "org-456",
        "sourceId": "src_51f72bd66fa0",
        "status": "partial",
        "startedBy": "root",
        "durationMs": 1,
        "startTime": NOW,
        "endTime": NOW,
    }
    insert("SyncHistory", **history, syncId="old", heldBudgetIds='["SAL-25Q1"]')
    insert(
        "SyncHistory",
        **history,
        syncId="new",
        heldBudgetIds='["MKT-25Q1", "OPS-25Q1"]',
        heldCount=2,
    )
    insert("SyncHistory", **history | {"status": "failed"}, syncId="failed", heldBudgetIds="[]")
    upgrade()
    holds = previous_holds("src_51f72bd66fa0")
    assert [(hold.kind, hold.budget_id, hold.old_minor) for hold in holds] == [
        (Kind.DELETION, "MKT-25Q1", 40_000_00),
        (Kind.DELETION, "OPS-25Q1", 30_000_00),
    ]
    assert {hold.reasons for hold in holds} == {(Reason.LIMIT,)}
    assert holds[0].to_json()["old"] == 40_000
    assert SyncHistory.get(SyncHistory.syncId == "old").held == "[]"
