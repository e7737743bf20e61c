"""Step 8: columns that say which rows are budgets. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from budget_sync.domain.names import fold
from budget_sync.sync.limits import cut
from budget_sync.sync.reading.detect.findings import MAX_SHOWN_CHARS, Findings, Refused, count
from budget_sync.sync.reading.detect.sheet import Column, Sheet, cell_at
from budget_sync.sync.reading.model import Filter
from budget_sync.sync.reading.proposal import Question
from budget_sync.sync.reading.totals import is_total_like
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


@dataclass(frozen=True, slots=True)
class Values:
    """The folded values of a column with their numbers of rows, and how many cells are blank."""

    column: Column
    counts: Counter[str]
    blank_rows: int


def find_filters(
    sheet: Sheet, department: Column, used: Collection[Column], findings: Findings
) -> tuple[Filter, ...]:
    """The filters of the sheet. `used` are all columns with a role. Raises Refused."""
    found = []
    for column in sheet.columns:
        if column in used or not column.filled or column.share > _MAX_SHARE:
            continue
        if len(column.values) > 4 * _MAX_VALUES:
            continue
        counts = sheet.folded_counts(column)
        counts.pop("", None)
        if len(counts) > _MAX_VALUES:
            continue
        values = Values(column, counts, _blank_rows(sheet, column, department))
        if filter_ := _filter(values, findings):
            found.append(filter_)
    return tuple(found)


def _blank_rows(sheet: Sheet, column: Column, department: Column) -> int:
    """How many rows name a department that is not a total, and have a blank cell in the column."""
    return sum(
        1
        for index, row in sheet.body
        if cell_at(row, column.index) in (None, "")
        and (name := sheet.text(index, department))
        and not is_total_like(name)
    )


def _filter(found: Values, findings: Findings) -> Filter | None:
    """The filter of one column, by the first rule that fits."""
    column, values = found.column, list(found.counts)
    if all(value in EXPENSE or value in REVENUE for value in values):
        revenue = [value for value in values if value in REVENUE]
        if len(revenue) == len(values):
            raise Refused(f"Every row is revenue (column '{column.name}').")
        is_only_cost = all(value in ("cost", "costs") for value in values)
        if not is_only_cost and (len(values) >= 2 or revenue):
            expense = tuple(value for value in values if value not in REVENUE)
            return _ask(found, findings, default=expense)
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
        return _ask(found, findings)
    if has_status_word and len(good) == len(values):
        return _new_filter(column, values)
    return _scenario_filter(found, findings)


def is_bad_status(value: str) -> bool:
    """Whether a folded status says that a row is not approved."""
    return value in BAD_STATUS or value.startswith(BAD_STATUS_BEGINNINGS)


def _scenario_filter(found: Values, findings: Findings) -> Filter | None:
    column, values = found.column, list(found.counts)
    budgets = [value for value in values if value in BUDGET_SCENARIO]
    known = [value for value in values if value in BUDGET_SCENARIO or value in OTHER_SCENARIO]
    if 10 * len(known) < 6 * len(values):
        return None
    if len(values) > 1:
        default = tuple(budgets) if len(budgets) == 1 else None
        return _ask(found, findings, default=default)
    if budgets:
        return _new_filter(column, values)
    if any(word in _SCENARIO_WORDS for word in column.words):
        return _ask(found, findings)
    return None


def _ask(found: Values, findings: Findings, default: tuple[str, ...] | None = None) -> Filter:
    """Ask which values count. While the question is open, all do.

    A blank cell is an option. If it is not chosen, it is an error of its row, as any value that the
    reading does not know.
    """
    column = found.column
    rows = dict(found.counts) | ({"": found.blank_rows} if found.blank_rows else {})
    options = tuple(rows)
    shown = ", ".join(
        f"{cut(value, MAX_SHOWN_CHARS) or 'blank'} ({count(times, 'row')})"
        for value, times in rows.items()
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
        [value for value in options if value and value not in kept],
    )


def _new_filter(column: Column, kept: Sequence[str], left_out: Sequence[str] = ()) -> Filter:
    return Filter.model_validate({"column": column.name, "in": tuple(kept), "out": tuple(left_out)})


def _use_stored(question: Question, name: str, findings: Findings) -> None:
    """Take the answer from the stored reading, unless the column has a value that it lacks."""
    filters = findings.reading.keep if findings.reading else ()
    stored = next((each for each in filters if each.column == name), None)
    kept = set(map(fold, stored.kept)) if stored else set()
    known = kept | set(map(fold, stored.left_out)) if stored else set()
    if {value for value in question.options if value} <= known:
        findings.stored[question.id] = [value for value in question.options if value in kept]
    else:
        findings.stored.pop(question.id, None)
