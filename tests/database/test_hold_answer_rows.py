"""Answers to held changes and uploaded files in the database: append-only, and exact bytes."""

from __future__ import annotations

from decimal import Decimal

import peewee
import pytest
from flask import Flask
from support.world import ROOT

from budget_sync import manual_budgets
from budget_sync.database import db
from budget_sync.database.connection import roll_back
from budget_sync.database.models import (
    BudgetDataSourceConfig,
    HoldAnswer,
    SourceFile,
)
from budget_sync.domain import clock
from budget_sync.operations.demo import CUSTOMER

pytestmark = pytest.mark.both_engines

CLOSED = """UPDATE "HoldAnswer" SET "outcome" = 'applied', "closedBySyncId" = 'sync_1',
    "closedAt" = '2026-01-01T00:00:00Z'"""

REWRITES = {
    "change the answer": """UPDATE "HoldAnswer" SET "answer" = 'approve'""",
    "change the amount": 'UPDATE "HoldAnswer" SET "newMinor" = 1',
    "change an answer while closing it": f'{CLOSED}, "newMinor" = 1',
    "give it to another budget": 'UPDATE "HoldAnswer" SET "budgetId" = NULL',
    "change the time": """UPDATE "HoldAnswer" SET "answeredAt" = '2020-01-01T00:00:00Z'""",
    "delete": 'DELETE FROM "HoldAnswer"',
    "upsert": """INSERT INTO "HoldAnswer" ("id", "customerId", "sourceId", "kind", "answer",
            "budgetId", "currency", "currencyExponent", "newMinor", "answeredBy", "answeredAt")
        SELECT "id", "customerId", "sourceId", "kind", "answer",
            "budgetId", "currency", "currencyExponent", "newMinor", "answeredBy", "answeredAt"
        FROM "HoldAnswer" WHERE TRUE ON CONFLICT ("id") DO UPDATE SET "newMinor" = 1""",
}


@pytest.fixture
def answered(world: Flask) -> Flask:
    """An answer to a held amount, not yet applied."""
    manual_budgets.set_budget(ROOT, CUSTOMER, "Lamps", "Q1 2026", Decimal(100), budget_id="lamps")
    BudgetDataSourceConfig.create(
        id="src_1",
        customerId=CUSTOMER,
        sourceType="csv",
        isActive=True,
        createdAt=clock.now(),
    )
    HoldAnswer.create(
        customerId=CUSTOMER,
        sourceId="src_1",
        kind="amount",
        answer="apply",
        budgetId="lamps",
        currency="USD",
        currencyExponent=2,
        newMinor=500,
        answeredBy="Jane Doe",
        answeredAt=clock.now(),
    )
    return world


@pytest.mark.parametrize("sql", REWRITES.values(), ids=REWRITES)
def test_answer_cannot_be_rewritten(answered: Flask, sql: str) -> None:
    with pytest.raises(peewee.IntegrityError, match="append-only"):
        db.execute_sql(sql)
    roll_back()
    assert [(row.answer, row.newMinor, row.outcome) for row in HoldAnswer.select()] == [
        ("apply", 500, None)
    ]


def test_answer_is_closed_only_once(answered: Flask) -> None:
    db.execute_sql(CLOSED)
    assert HoldAnswer.get().outcome == "applied"
    with pytest.raises(peewee.IntegrityError, match="closed only once"):
        db.execute_sql("""UPDATE "HoldAnswer" SET "outcome" = 'expired'""")
    roll_back()
    assert HoldAnswer.get().outcome == "applied"


def test_uploaded_file_keeps_its_bytes(answered: Flask) -> None:
    content = bytes(range(256)) * 300
    SourceFile.create(
        sourceId="src_1",
        customerId=CUSTOMER,
        state="current",
        name="budgets.xlsx",
        content=content,
        uploadedBy="Jane Doe",
        uploadedAt=clock.now(),
    )
    assert SourceFile.get().content == content
