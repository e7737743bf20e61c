"""Step 6: the amount column of a table that is not wide. Pure."""

from __future__ import annotations

from collections.abc import Collection

from budget_sync.sync.reading.detect.cells import is_lone_dash
from budget_sync.sync.reading.detect.findings import Findings, Refused
from budget_sync.sync.reading.detect.sheet import Column, Sheet
from budget_sync.sync.reading.headings import Role
from budget_sync.sync.reading.proposal import Question
from budget_sync.sync.reading.vocabulary import NOT_AMOUNT

_MAX_OPTIONS = 30

_NOTHING = frozenset(("n/a", "na", "tbd", "#missing"))


def amount_score(column: Column) -> float:
    """How likely a column holds the budgeted amount; 0 if it cannot."""
    score = column.roles.get(Role.AMOUNT, 0)
    is_code = "budget" in column.words and any(word in ("id", "code") for word in column.words)
    if not score or is_code or not column.filled:
        return 0
    return score if column.share >= 0.5 or _lenient_share(column) >= 0.6 else 0


def _lenient_share(column: Column) -> float:
    """The numeric share if texts for nothing count as numbers."""
    lenient = sum(
        times
        for text, times in column.values.items()
        if is_lone_dash(text) or text.casefold() in _NOTHING
    )
    return (column.numeric + lenient) / column.filled


def find_amount(sheet: Sheet, used: Collection[Column], findings: Findings) -> Column:
    """The amount column. `used` are columns with another role. Raises Refused."""
    candidates = sorted(
        (
            (score, column)
            for column in sheet.columns
            if column not in used and (score := amount_score(column))
        ),
        key=lambda each: -each[0],
    )
    measures = [column for column in sheet.columns if column.is_measure and column not in used]
    if not candidates:
        if not measures:
            raise Refused("No column holds amounts.")
        return _ask("Which column holds the budgeted amount?", measures, measures[0], findings)
    score, best = candidates[0]
    rivals = [column for rating, column in candidates[1:] if score - rating <= 1.5]
    if rivals:
        others = [column for _, column in candidates]
        return _ask("Which column holds the budgeted amount?", [*others, *measures], best, findings)
    other_measures = [column for column in measures if column is not best and _is_other(column)]
    if score < 5 and len(other_measures) >= 2:
        return _ask(
            f"Is '{best.name}' the budgeted amount?", [best, *other_measures], best, findings
        )
    _note(best, score, findings)
    return best


def _is_other(column: Column) -> bool:
    """Whether a measure may be the amount: it has a heading, which names nothing else."""
    return (
        bool(column.heading)
        and not any(word in NOT_AMOUNT for word in column.words)
        and not column.roles.get(Role.CURRENCY, 0)
    )


def _note(best: Column, score: float, findings: Findings) -> None:
    if score < 5:
        findings.note(f"'{best.name}' is taken as the amount, since no other column can be it.")
    if any(word in ("cost", "costs") for word in best.words):
        findings.note(f"'{best.name}' may hold costs and not budgets.")


def _ask(text: str, columns: list[Column], best: Column, findings: Findings) -> Column:
    by_name = {column.name: column for column in columns}
    answer = findings.ask_one(Question("amount", text, tuple(by_name)[:_MAX_OPTIONS]))
    return by_name[answer] if answer else best
