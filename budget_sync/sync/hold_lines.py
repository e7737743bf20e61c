"""Held changes for people: a line for each, and sentences about all of them. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable
from typing import Final

from budget_sync.domain.money import format_money
from budget_sync.sync.holds.model import Hold, Kind, Reason

#: Why a change is held, to follow "held because".
REASONS: Final = {
    Reason.MONEY: "there is money on the old budget",
    Reason.NAME: "the names differ only in punctuation or zeros",
    Reason.AMOUNT: "the names are alike and the amounts are equal",
    Reason.LIMIT: "the sync run would delete many budgets at once",
    Reason.RENAME: "it was held as a rename before",
    Reason.SPLIT: "there is money on the department's budget for an overlapping period",
    Reason.ZEROS: "most amounts became 0",
    Reason.FACTOR: "most amounts changed by one power of ten",
    Reason.SUM: "the sum of the amounts changed a lot",
    Reason.HUNDREDFOLD: "the amount became 100 times or more of what it was",
}

#: The kinds of held changes that a person answers, and how on the command line.
_COMMANDS: Final = {
    Kind.RENAME: "`flask answer-hold SOURCE` and {rename} or {different}",
    Kind.DELETION: "`flask sync-sheets --allow-deletes`",
    Kind.AMOUNT: "`flask answer-hold SOURCE --accept-amounts`",
}


def hold_lines(hold: Hold) -> Iterable[str]:
    """A held change; a second line starts with "!" and says how much money is on the budget."""
    yield f"{_change(hold)} (held because {REASONS[hold.reasons[0]]})"
    if hold.used_minor and hold.kind is not Kind.CREATION:
        used = format_money(hold.used_minor, hold.currency, hold.exponent)
        yield f"! {used} is reserved or committed on {hold.department}, {hold.fiscal_period}"


def _change(hold: Hold) -> str:
    budget = f"{hold.department}, {hold.fiscal_period}"
    old, new = (
        None if minor is None else format_money(minor, hold.currency, hold.exponent)
        for minor in (hold.old_minor, hold.new_minor)
    )
    if hold.kind is Kind.RENAME and hold.new is not None:
        amounts = f"both with {new}" if old == new else f"{old} and {new}"
        return (
            f"{budget} [{hold.budget_id}] is gone and {hold.new.department}, "
            f"{hold.new.fiscal_period} is new in row {hold.new.row}, {amounts}"
        )
    if hold.kind is Kind.DELETION:
        return f"{budget} [{hold.budget_id}]: {old} would be deleted"
    if hold.kind is Kind.CREATION:
        return f"{budget}: {new} would be created"
    return f"{budget} [{hold.budget_id}]: {old} would become {new}"


def _options(hold: Hold) -> dict[str, str]:
    """The options of `answer-hold` that answer a rename, as they are typed in a shell."""
    if hold.budget_id is None or hold.new is None:
        return {}
    same = shlex.quote(f"{hold.budget_id}={hold.new.name}")
    return {
        "rename": f"--rename {same}",
        "different": f"--different {shlex.quote(hold.budget_id)}",
    }


def hold_sentences(held: Collection[Hold], live_count: int) -> list[str]:
    """The held changes, and how to answer them. The source has `live_count` live budgets."""
    of_kind = {kind: [hold for hold in held if hold.kind is kind] for kind in Kind}
    sentences: list[str] = []
    for kind, command in _COMMANDS.items():
        holds = of_kind[kind]
        if not holds:
            continue
        first = _change(holds[0])
        more = f" (and {len(holds) - 1:,} more)" if len(holds) > 1 else ""
        if kind is Kind.DELETION:
            count = f"{len(holds):,} deletion{'s' * (len(holds) != 1)}"
            sentences.append(
                f"{count} held back, out of {live_count:,} live "
                f"budget{'s' * (live_count != 1)}: if they are correct, approve them on the Sync "
                f"page or with {command}."
            )
        else:
            sentences.append(
                f"Held because {REASONS[holds[0].reasons[0]]}: {first}{more}. Answer on the Sync "
                f"page or with {command.format_map(_options(holds[0]))}."
            )
    created = len(of_kind[Kind.CREATION])
    if created:
        sentences.append(
            f"{created:,} creation{'s' * (created != 1)} held back until that is answered."
        )
    return sentences
