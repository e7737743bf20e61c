"""Which messages an alert sends about events, and which conditions it has reported. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from budget_sync.alerts.conditions import OF_BALANCE, Condition, Kind, change_of
from budget_sync.domain.balance import Balance


class BudgetChange(NamedTuple):
    """A change of a budget: an audit row, with the budget's names as they are now."""

    time: datetime
    budget_id: str
    department: str
    fiscal_period: str
    owner: str | None
    before: Balance
    after: Balance
    is_new_period: bool
    cause: str


class SyncRun(NamedTuple):
    """A sync run that was not skipped."""

    time: datetime
    sync_id: str
    source_id: str
    is_failed: bool
    held_count: int
    message: str


class Pause(NamedTuple):
    """A webhook that was paused."""

    time: datetime
    webhook_id: str
    reason: str


Fact = BudgetChange | SyncRun | Pause


class Key(NamedTuple):
    """A condition that was reported: its text, and the budget, source or reservation."""

    condition: str
    subject: str


class Entry(NamedTuple):
    """A message to send: about a fact, because of conditions that begin with it."""

    fact: Fact
    conditions: list[Condition]


class Plan(NamedTuple):
    """The messages of an alert in order, and all conditions that are reported after them."""

    entries: list[Entry]
    reported: dict[Key, datetime]


def subject_of(fact: Fact) -> str:
    """The subject of the conditions that a fact may begin or end."""
    if isinstance(fact, BudgetChange):
        return fact.budget_id
    return fact.source_id if isinstance(fact, SyncRun) else fact.webhook_id


def plan(
    conditions: Sequence[Condition], facts: Iterable[Fact], reported: Mapping[Key, datetime]
) -> Plan:
    """The messages about facts in their order.

    `reported` has the conditions that were reported before and have not ended.
    """
    found = Plan([], dict(reported))
    for fact in facts:
        if isinstance(fact, BudgetChange):
            reached = _budget(conditions, fact, found.reported)
        elif isinstance(fact, SyncRun):
            reached = _sync(conditions, fact, found.reported)
        else:
            reached = [each for each in conditions if each.kind is Kind.WEBHOOK_PAUSED]
        if reached:
            found.entries.append(Entry(fact, reached))
    return found


def _budget(
    conditions: Sequence[Condition], fact: BudgetChange, reported: dict[Key, datetime]
) -> list[Condition]:
    mine = [each for each in conditions if each.kind in OF_BALANCE]
    if fact.is_new_period:
        # A threshold is reported once per period.
        for condition in mine:
            reported.pop(Key(condition.text, fact.budget_id), None)
    known = {each.text for each in mine if Key(each.text, fact.budget_id) in reported}
    change = change_of(mine, known, fact.before, fact.after)
    for condition in change.ended:
        del reported[Key(condition.text, fact.budget_id)]
    for condition in change.reached:
        reported[Key(condition.text, fact.budget_id)] = fact.time
    return change.reached


def _sync(
    conditions: Sequence[Condition], fact: SyncRun, reported: dict[Key, datetime]
) -> list[Condition]:
    """A failure is reported once until a run works, and held changes until a run holds none."""
    reached = []
    for condition in conditions:
        key = Key(condition.text, fact.source_id)
        if condition.kind is Kind.SYNC_FAILED:
            holds = fact.is_failed
        elif condition.kind is Kind.HELD and not fact.is_failed:
            holds = fact.held_count > 0
        else:
            continue
        if not holds:
            reported.pop(key, None)
        elif key not in reported:
            reported[key] = fact.time
            reached.append(condition)
    return reached
