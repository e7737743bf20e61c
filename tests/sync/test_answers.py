"""Stored answers to held changes: stored once, audited, and closed by the run that loaded them."""

from __future__ import annotations

import json
import time
from decimal import Decimal

import pytest
from flask import Flask
from support.world import ROOT

from budget_sync import manual_budgets
from budget_sync.database import transact
from budget_sync.database.models import AuditLog, BudgetDataSourceConfig, HoldAnswer, SyncHistory
from budget_sync.domain import clock
from budget_sync.domain.results import dumps
from budget_sync.operations.demo import CUSTOMER
from budget_sync.sync.answer_holds import answer_holds, show_holds
from budget_sync.sync.answers import (
    close_answers,
    open_answers,
    previous_holds,
    store_answers,
)
from budget_sync.sync.holds import Answer, Hold, Kind, NewBudget, Question, Reason, Reply

pytestmark = pytest.mark.both_engines

NEW_KEY = ("lampe north", "2026-Q1")
QUESTIONS = {
    Reply.SAME: Question(Kind.RENAME, "lamps", NEW_KEY, "USD", 100_00),
    Reply.DIFFERENT: Question(Kind.RENAME, "lamps", NEW_KEY, "USD", 101_00),
    Reply.APPROVE: Question(Kind.DELETION, "lamps", None, "USD", None),
    Reply.APPLY: Question(Kind.CREATION, None, NEW_KEY, "JPY", 5000),
}
ANSWERS = [Answer(question, reply) for reply, question in QUESTIONS.items()]


@pytest.fixture
def source(world: Flask) -> str:
    """A source of a customer with a budget."""
    manual_budgets.set_budget(ROOT, CUSTOMER, "Lamps", "Q1 2026", Decimal(100), budget_id="lamps")
    row = BudgetDataSourceConfig.create(
        id="src_1", customerId=CUSTOMER, sourceType="csv", isActive=True, createdAt=clock.now()
    )
    return str(row.id)


def store(source: str, answers: list[Answer]) -> None:
    transact(lambda: store_answers(ROOT, CUSTOMER, source, answers))


def test_answers_are_loaded_as_they_were_stored(source: str) -> None:
    store(source, ANSWERS)
    loaded = open_answers(source)
    assert [answer._replace(id=None) for answer in loaded] == ANSWERS
    assert all(answer.id is not None for answer in loaded)
    assert open_answers("src_2") == []
    assert [row.currencyExponent for row in HoldAnswer.select().order_by(HoldAnswer.id)] == [
        2,
        2,
        2,
        0,
    ]


def test_each_answer_has_an_audit_row(source: str) -> None:
    store(source, ANSWERS[:1])
    (row,) = AuditLog.select().where(AuditLog.action == "ANSWER_HOLD")
    assert (row.customerId, row.subject, row.field, row.oldValue, row.budgetId) == (
        CUSTOMER,
        source,
        "rename",
        "lamps",
        None,
    )
    assert json.loads(row.newValue or "") == {
        "answer": "same",
        "newKey": "lampe north|2026-Q1",
        "currency": "USD",
        "newMinor": 100_00,
    }


def test_open_answer_is_stored_once(source: str) -> None:
    store(source, [*ANSWERS, *ANSWERS])
    store(source, ANSWERS)
    assert len(open_answers(source)) == len(ANSWERS)
    assert AuditLog.select().where(AuditLog.action == "ANSWER_HOLD").count() == len(ANSWERS)


def test_closed_answers_are_not_loaded_again(source: str) -> None:
    store(source, ANSWERS)
    applied, expired, *_ = (answer.id or 0 for answer in open_answers(source))
    transact(lambda: close_answers("sync_1", [applied], [expired]))
    assert [answer._replace(id=None) for answer in open_answers(source)] == ANSWERS[2:]
    closed = HoldAnswer.select().where(HoldAnswer.outcome.is_null(False)).order_by(HoldAnswer.id)
    assert [(row.id, row.outcome, row.closedBySyncId) for row in closed] == [
        (applied, "applied", "sync_1"),
        (expired, "expired", "sync_1"),
    ]
    # A closed answer may be given again.
    store(source, ANSWERS[:1])
    assert len(open_answers(source)) == 3


def record_run(source: str, status: str, holds: list[Hold]) -> None:
    """Record a sync run that held this."""
    SyncHistory.create(
        syncId=f"sync_{SyncHistory.select().count()}",
        customerId=CUSTOMER,
        sourceId=source,
        status=status,
        held=dumps([hold.to_stored() for hold in holds]),
        startedBy="root",
        durationMs=1,
        startTime=clock.now(),
        endTime=clock.now(),
    )


def test_previous_holds_are_those_of_the_latest_applied_run(source: str) -> None:
    assert previous_holds(source) == []
    new = NewBudget(7, "Lampe North", *NEW_KEY[:1], "Q1 2026", NEW_KEY[1])
    hold = Hold(
        Kind.RENAME,
        "lamps",
        "Lamps",
        "Q1 2026",
        "2026-Q1",
        "USD",
        2,
        100_00,
        100_50,
        95_00,
        new,
        (Reason.MONEY, Reason.LIMIT),
    )
    record_run(source, "success", [])
    record_run(source, "partial", [hold])
    record_run(source, "failed", [])
    record_run(source, "skipped", [])
    assert previous_holds(source) == [hold]
    record_run(source, "success", [])
    assert previous_holds(source) == []


def test_many_answers_are_stored_and_shown_in_linear_time(source: str) -> None:
    """Other writers wait while answers are stored."""
    holds = [
        Hold(
            Kind.CREATION,
            None,
            f"New {number}",
            "Q1 2026",
            "2026-Q1",
            "USD",
            2,
            None,
            100,
            0,
            NewBudget(number, f"New {number}", f"new {number}", "Q1 2026", "2026-Q1"),
            (Reason.LIMIT,),
        )
        for number in range(3000)
    ]
    record_run(source, "partial", holds)
    answers = [Answer(hold.question, Reply.APPROVE) for hold in holds]
    began_s = time.process_time()
    answer_holds(ROOT, source, answers)
    changes = show_holds(ROOT, source)
    # One comparison of each change with each answer takes more than ten seconds.
    assert time.process_time() - began_s < 3
    assert {change.replies for change in changes} == {(Reply.APPROVE,)}
