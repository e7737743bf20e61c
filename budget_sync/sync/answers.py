"""Held changes of the last run, and the answers of people, in the database."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any

from budget_sync.database import audit_log
from budget_sync.database.models import Budget, HoldAnswer, SyncHistory
from budget_sync.database.prepared import Prepared
from budget_sync.domain import clock
from budget_sync.domain.money import currency_exponent
from budget_sync.domain.permissions import Actor
from budget_sync.domain.results import dumps
from budget_sync.sync.holds.model import Answer, Hold, Kind, Question, Reply

# A statement names at most this many rows.
_CHUNK = 500

_COLUMNS = (
    *("customerId", "sourceId", "kind", "answer", "budgetId", "newDepartmentKey", "newPeriodKey"),
    *("currency", "currencyExponent", "newMinor", "answeredBy", "answeredAt"),
)
_INSERT = Prepared(
    lambda value: HoldAnswer.insert({column: getattr(value, column) for column in _COLUMNS})
)


def previous_holds(source_id: str) -> list[Hold]:
    """The changes that the source's latest applied run held."""
    latest = (
        SyncHistory.select(SyncHistory.held)
        .where((SyncHistory.sourceId == source_id) & SyncHistory.status.in_(("success", "partial")))
        .order_by(SyncHistory.id.desc())
        .first()
    )
    return [Hold.from_stored(each) for each in json.loads(latest.held)] if latest else []


def open_answers(source_id: str) -> list[Answer]:
    """The answers for a source that no run has closed, the oldest first."""
    rows = HoldAnswer.select().where(
        (HoldAnswer.sourceId == source_id) & HoldAnswer.outcome.is_null()
    )
    return [_answer(row) for row in rows.order_by(HoldAnswer.id)]


def _answer(row: HoldAnswer) -> Answer:
    department_key, period_key = row.newDepartmentKey, row.newPeriodKey
    new_key = (department_key, period_key) if department_key and period_key else None
    question = Question(Kind(row.kind), row.budgetId, new_key, row.currency, row.newMinor)
    return Answer(question, Reply(row.answer), row.id)


def store_answers(
    actor: Actor, customer_id: str, source_id: str, answers: Collection[Answer]
) -> None:
    """Store answers in the open transaction, and one audit row for each.

    An answer that is already open is not stored again.
    """
    known = {(answer.question, answer.reply) for answer in open_answers(source_id)}
    exponents = _exponents(answer.question.budget_id for answer in answers)
    for answer in answers:
        question, reply, _ = answer
        if (question, reply) in known:
            continue
        known.add((question, reply))
        # Older data may have other decimals than the currency has now.
        exponent = (
            currency_exponent(question.currency)
            if question.budget_id is None
            else exponents[question.budget_id]
        )
        _store(actor, customer_id, source_id, answer, exponent)


def _store(actor: Actor, customer_id: str, source_id: str, answer: Answer, exponent: int) -> None:
    question, reply, _ = answer
    new_department_key, new_period_key = question.new_key or (None, None)
    _INSERT.write(
        customerId=customer_id,
        sourceId=source_id,
        kind=question.kind.value,
        answer=reply.value,
        budgetId=question.budget_id,
        newDepartmentKey=new_department_key,
        newPeriodKey=new_period_key,
        currency=question.currency,
        currencyExponent=exponent,
        newMinor=question.new_minor,
        answeredBy=actor.label,
        answeredAt=clock.to_text(clock.now()),
    )
    audit_log.record(
        actor,
        "ANSWER_HOLD",
        customer_id=customer_id,
        subject=source_id,
        field=question.kind.value,
        oldValue=question.budget_id,
        newValue=dumps(
            {
                "answer": reply.value,
                "newKey": "|".join(question.new_key) if question.new_key else None,
                "currency": question.currency,
                "newMinor": question.new_minor,
            }
        ),
    )


def _exponents(budget_ids: Iterable[str | None]) -> dict[str, int]:
    """The decimals of the budgets' amounts, by budget id."""
    ids = [budget_id for budget_id in budget_ids if budget_id is not None]
    found: dict[str, int] = {}
    for start in range(0, len(ids), _CHUNK):
        rows: Any = Budget.select(Budget.id, Budget.currencyExponent).where(
            Budget.id << ids[start : start + _CHUNK]
        )
        found |= dict(rows.tuples())
    return found


def close_answers(sync_id: str, applied_ids: Iterable[int], expired_ids: Iterable[int]) -> None:
    """Close the answers that a run applied, and those that fit nothing, in the open transaction."""
    for outcome, ids in (("applied", list(applied_ids)), ("expired", list(expired_ids))):
        for start in range(0, len(ids), _CHUNK):
            HoldAnswer.update(outcome=outcome, closedBySyncId=sync_id, closedAt=clock.now()).where(
                HoldAnswer.id.in_(ids[start : start + _CHUNK]) & HoldAnswer.outcome.is_null()
            ).execute()
