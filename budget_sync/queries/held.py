"""Held changes of a source: those of its latest sync run that worked and that still wait."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from budget_sync.database.models import Budget
from budget_sync.domain.permissions import Action, Actor, require_for
from budget_sync.queries import budgets
from budget_sync.queries.budgets import BudgetLine
from budget_sync.queries.visible import visible
from budget_sync.sync.answers import open_answers, previous_holds
from budget_sync.sync.holds import Hold, Question

#: The ids in one query.
_CHUNK = 500


def held_changes(actor: Actor, customer_id: str, source_id: str) -> list[Hold]:
    """The changes of a source that wait for an answer, in the order of the sync run."""
    require_for(actor, Action.READ_SYNC, customer_id)
    return still_held(customer_id, source_id)


def still_held(customer_id: str, source_id: str) -> list[Hold]:
    """The same, without a check of permissions.

    A change of a budget that was deleted or has another source does not wait any more.
    """
    holds = previous_holds(source_id)
    live = _live_ids(customer_id, source_id) if holds else set()
    return [hold for hold in holds if hold.budget_id is None or hold.budget_id in live]


def answered(actor: Actor, customer_id: str, source_id: str) -> set[Question]:
    """The questions with an answer, which the next successful sync run applies."""
    require_for(actor, Action.READ_SYNC, customer_id)
    return {answer.question for answer in open_answers(source_id)}


def _live_ids(customer_id: str, source_id: str) -> set[str]:
    rows: Any = Budget.select(Budget.id).where(
        Budget.customerId == customer_id,
        Budget.sourceId == source_id,
        Budget.deletedAt.is_null(),
    )
    return {budget_id for (budget_id,) in rows.tuples()}


def budget_lines(actor: Actor, customer_id: str, holds: Iterable[Hold]) -> dict[str, BudgetLine]:
    """The budgets of held changes, by id."""
    require_for(actor, Action.READ_BUDGETS, customer_id)
    ids = [hold.budget_id for hold in holds if hold.budget_id is not None]
    lines: dict[str, BudgetLine] = {}
    for start in range(0, len(ids), _CHUNK):
        chunk = ids[start : start + _CHUNK]
        rows = visible(budgets.rows(), actor).where(
            Budget.id << chunk, Budget.customerId == customer_id
        )
        lines |= {line.id: line for line in map(budgets.to_line, rows)}
    return lines
