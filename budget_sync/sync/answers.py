"""Held changes of the last run, and the answers of people, in the database."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable

from budget_sync.database import audit_log
from budget_sync.database.models import Budget, HoldAnswer, SyncHistory
from budget_sync.domain import clock
from budget_sync.domain.money import currency_exponent
from budget_sync.domain.permissions import Actor
from budget_sync.domain.results import dumps
from budget_sync.sync.holds.model import Answer, Hold, Kind, Question, Reply

# A statement names at most this many rows.
_CHUNK = 500


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
    for answer in answers:
        question, reply, _ = answer
        if (question, reply) in known:
            continue
        known.add((question, reply))
        new_department_key, new_period_key = question.new_key or (None, None)
        HoldAnswer.insert(
            customerId=customer_id,
            sourceId=source_id,
            kind=question.kind.value,
            answer=reply.value,
            budgetId=question.budget_id,
            newDepartmentKey=new_department_key,
            newPeriodKey=new_period_key,
            currency=question.currency,
            currencyExponent=_exponent(question),
            newMinor=question.new_minor,
            answeredBy=actor.label,
            answeredAt=clock.now(),
        ).execute()
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


def _exponent(question: Question) -> int:
    """The decimals of the question's amounts: those of its budget, which may be older data."""
    if question.budget_id is None:
        return currency_exponent(question.currency)
    exponent: int = Budget.get_by_id(question.budget_id).currencyExponent
    return exponent


def close_answers(sync_id: str, applied_ids: Iterable[int], expired_ids: Iterable[int]) -> None:
    """Close the answers that a run applied, and those that fit nothing, in the open transaction."""
    for outcome, ids in (("applied", list(applied_ids)), ("expired", list(expired_ids))):
        for start in range(0, len(ids), _CHUNK):
            HoldAnswer.update(outcome=outcome, closedBySyncId=sync_id, closedAt=clock.now()).where(
                HoldAnswer.id.in_(ids[start : start + _CHUNK]) & HoldAnswer.outcome.is_null()
            ).execute()
