"""Step 8: columns that say which rows are budgets. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from budget_sync.domain.names import fold
from budget_sync.sync.limits import cut
from budget_sync.sync.reading.detect.findings import MAX_SHOWN_CHARS, Findings, Refused, count
from budget_sync.sync.reading.detect.sheet import Column, Sheet
from budget_sync.sync.reading.model import Filter
from budget_sync.sync.reading.proposal import Question
from budget_sync.sync.reading.vocabulary import (
    BAD_STATUS,
    BAD_STATUS_BEGINNINGS,
    BUDGET_SCENARIO,
    EXPENSE,
    GOOD_STATUS,
    OTHER_SCENARIO,
    REVENUE,
)

_MAX_VALUES = 12
_MAX_SHARE = 0.5

_STATUS_WORDS = frozenset(
    ("status", "final", "approval", "approved", "state", "stage", "phase", "statut", "estado")
)
_SCENARIO_WORDS = frozenset(("scenario", "version", "type", "ledger"))


def find_filters(sheet: Sheet, used: Collection[Column], findings: Findings) -> tuple[Filter, ...]:
    """The filters of the sheet. Raises Refused."""
    found = []
    for column in sheet.columns:
        if column in used or not column.filled or column.share > _MAX_SHARE:
            continue
        if len(column.values) > 4 * _MAX_VALUES:
            continue
        counts = sheet.folded_counts(column)
        counts.pop("", None)
        if len(counts) <= _MAX_VALUES:
            filter_ = _filter(column, counts, findings)
            if filter_:
                found.append(filter_)
    return tuple(found)


def _filter(column: Column, counts: Counter[str], findings: Findings) -> Filter | None:
    """The filter of one column, by the first rule that fits."""
    values = list(counts)
    if all(value in EXPENSE or value in REVENUE for value in values):
        revenue = [value for value in values if value in REVENUE]
        if len(revenue) == len(values):
            raise Refused(f"Every row is revenue (column '{column.name}').")
        is_only_cost = all(value in ("cost", "costs") for value in values)
        if not is_only_cost and (len(values) >= 2 or revenue):
            expense = tuple(value for value in values if value not in REVENUE)
            return _ask(column, counts, findings, default=expense)
    has_status_word = any(word in _STATUS_WORDS for word in column.words)
    good = [value for value in values if value in GOOD_STATUS]
    bad = [value for value in values if is_bad_status(value) and value not in GOOD_STATUS]
    known = len(good) + len(bad)
    if (
        (has_status_word or known == len(values))
        and bad
        and (good or len(values) >= 2)
        and 2 * known >= len(values)
    ):
        return _ask(column, counts, findings)
    if has_status_word and len(good) == len(values):
        return _new_filter(column, values)
    return _scenario_filter(column, counts, findings)


def is_bad_status(value: str) -> bool:
    """Whether a folded status says that a row is not approved."""
    return value in BAD_STATUS or value.startswith(BAD_STATUS_BEGINNINGS)


def _scenario_filter(column: Column, counts: Counter[str], findings: Findings) -> Filter | None:
    values = list(counts)
    budgets = [value for value in values if value in BUDGET_SCENARIO]
    known = [value for value in values if value in BUDGET_SCENARIO or value in OTHER_SCENARIO]
    if 10 * len(known) < 6 * len(values):
        return None
    if len(values) > 1:
        default = tuple(budgets) if len(budgets) == 1 else None
        return _ask(column, counts, findings, default=default)
    if budgets:
        return _new_filter(column, values)
    if any(word in _SCENARIO_WORDS for word in column.words):
        return _ask(column, counts, findings)
    return None


def _ask(
    column: Column,
    counts: Counter[str],
    findings: Findings,
    default: tuple[str, ...] | None = None,
) -> Filter:
    """Ask which values count. While the question is open, all do."""
    options = tuple(counts)
    shown = ", ".join(
        f"{cut(value, MAX_SHOWN_CHARS)} ({count(times, 'row')})" for value, times in counts.items()
    )
    question = Question(
        f"keep:{column.name}",
        f"{column.name} is {shown}. Which rows are budgets that can be spent?",
        options,
        default=default,
        several=True,
    )
    _use_stored(question, column.name, findings)
    answer = findings.ask(question)
    kept = options if answer is None else answer
    return _new_filter(
        column,
        [value for value in options if value in kept],
        [value for value in options if value not in kept],
    )


def _new_filter(column: Column, kept: Sequence[str], left_out: Sequence[str] = ()) -> Filter:
    return Filter.model_validate({"column": column.name, "in": tuple(kept), "out": tuple(left_out)})


def _use_stored(question: Question, name: str, findings: Findings) -> None:
    """Take the answer from the stored reading, unless the column has a value that it lacks."""
    filters = findings.reading.keep if findings.reading else ()
    stored = next((each for each in filters if each.column == name), None)
    kept = set(map(fold, stored.kept)) if stored else set()
    known = kept | set(map(fold, stored.left_out)) if stored else set()
    if set(question.options) <= known:
        findings.stored[question.id] = [value for value in question.options if value in kept]
    else:
        findings.stored.pop(question.id, None)
