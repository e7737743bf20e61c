"""Answers what the last sync run of a source holds. The next sync run applies the answers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from budget_sync.database import transact
from budget_sync.database.models import BudgetUtilization
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.names import fold
from budget_sync.domain.permissions import Action, Actor, require
from budget_sync.sync.answers import open_answers, previous_holds, store_answers
from budget_sync.sync.holds.model import (
    BULK,
    Answer,
    Hold,
    Kind,
    NewBudget,
    Question,
    Reason,
    Reply,
)
from budget_sync.sync.manage_sources import get_source
from budget_sync.sync.source_rows import locked_row


class HeldChange(NamedTuple):
    """A change that the last run holds, and the answers to it that the next run applies."""

    hold: Hold
    replies: tuple[Reply, ...]


class Choice(NamedTuple):
    """What a person answers in words.

    `renames` are pairs of an old budget's id and the key of the new one, "Lampe North|2026-Q1".
    `different` are ids of old budgets.
    """

    renames: Sequence[tuple[str, str]] = ()
    different: Sequence[str] = ()
    accept_amounts: bool = False
    allow_deletes: bool = False


def show_holds(actor: Actor, source_id: str) -> list[HeldChange]:
    """What the last applied sync run of a source holds. Raises RequestError NOT_FOUND."""
    get_source(actor, source_id)
    return _held_changes(source_id)


def _held_changes(source_id: str) -> list[HeldChange]:
    replies: dict[Question, tuple[Reply, ...]] = {}
    for answer in open_answers(source_id):
        replies[answer.question] = (*replies.get(answer.question, ()), answer.reply)
    return [HeldChange(hold, replies.get(hold.question, ())) for hold in previous_holds(source_id)]


def choose(holds: Collection[Hold], choice: Choice) -> list[Answer]:
    """The answers that a choice means for what is held. Pure.

    Raises RequestError REQUEST_CONFLICT if a part of it fits nothing that is held.
    """
    renames = {hold.budget_id: hold for hold in holds if hold.kind is Kind.RENAME}
    answers: list[Answer] = []
    for budget_id, new_key in choice.renames:
        hold = renames.get(budget_id)
        if hold is None or hold.new is None or not _is_named(hold.new, new_key):
            held = f" It is held as {budget_id}={hold.new.name}." if hold and hold.new else ""
            raise _conflict(f"No held rename of budget {budget_id} to {new_key!r} was found.{held}")
        answers.append(Answer(hold.question, Reply.SAME))
    for budget_id in choice.different:
        if budget_id not in renames:
            raise _conflict(f"No held rename of budget {budget_id} was found.")
        answers.append(Answer(renames[budget_id].question, Reply.DIFFERENT))
    if choice.accept_amounts:
        answers += _bulk_answers(holds, Kind.AMOUNT, BULK, Reply.APPLY)
    if choice.allow_deletes:
        answers += _bulk_answers(holds, Kind.DELETION, {Reason.LIMIT, Reason.SPLIT}, Reply.APPROVE)
    return answers


def _is_named(new: NewBudget, text: str) -> bool:
    """Whether "Department|period" names a new budget; the period is its key or its text."""
    department, _, period = text.rpartition("|")
    return fold(department) == new.department_key and fold(period) in (
        fold(new.period_key),
        fold(new.fiscal_period),
    )


def _bulk_answers(
    holds: Collection[Hold], kind: Kind, reasons: Collection[Reason], reply: Reply
) -> list[Answer]:
    """The same answer to all held changes of a kind, and to the creations held with them."""
    answers = [
        Answer(hold.question, reply)
        for hold in holds
        if hold.kind is kind
        or (hold.kind is Kind.CREATION and any(reason in reasons for reason in hold.reasons))
    ]
    if not answers:
        raise _conflict(f"No {kind.value}s are held.")
    return answers


def answer_holds(actor: Actor, source_id: str, answers: Sequence[Answer]) -> int:
    """Store answers to what the last applied run holds, all or none; return their number.

    Raises RequestError NOT_FOUND, FORBIDDEN, or REQUEST_CONFLICT if an answer fits nothing that is
    held, contradicts another one, or is not possible while there is money on the budget.
    """
    require(actor, Action.MANAGE_SOURCES)

    def work() -> int:
        row = locked_row(actor, source_id)
        changes = {change.hold.question: change for change in _held_changes(source_id)}
        replies: dict[object, Reply] = {}
        for answer in answers:
            change = changes.get(answer.question)
            if change is None:
                raise _conflict("The held changes are others now. Look at them again.")
            if replies.setdefault(answer.question, answer.reply) is not answer.reply:
                raise _conflict(f"{change.hold.name} has two answers. Give one.")
            _require_possible(change, answer)
        store_answers(actor, row.customerId, source_id, answers)
        return len(answers)

    return transact(work)


def _require_possible(change: HeldChange, answer: Answer) -> None:
    hold = change.hold
    given = [reply for reply in change.replies if reply is not answer.reply]
    if hold.kind is Kind.RENAME and given:
        raise _conflict(
            f"{hold.name} was answered before ({given[0].value}). The next sync run applies that."
        )
    if answer.reply is not Reply.SAME or hold.new is None or hold.budget_id is None:
        return
    if hold.new.period_key != hold.period_key and _used_minor(hold.budget_id):
        raise _conflict(
            f"{hold.name} cannot move to {hold.new.period_key} while money is reserved or "
            "committed on it."
        )


def _used_minor(budget_id: str) -> int:
    row = BudgetUtilization.get_by_id(budget_id)
    used: int = row.reservedMinor + row.committedMinor
    return used


def _conflict(sentence: str) -> RequestError:
    return RequestError(Code.REQUEST_CONFLICT, sentence)
