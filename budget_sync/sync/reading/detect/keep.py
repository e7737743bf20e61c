"""Step 8: columns that say which rows are budgets. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum

from budget_sync.domain.names import fold
from budget_sync.sync.limits import cut
from budget_sync.sync.reading.detect.findings import MAX_SHOWN_CHARS, Findings, Refused, count
from budget_sync.sync.reading.detect.sheet import Column, Sheet, cell_at
from budget_sync.sync.reading.headings import hkey, words_of
from budget_sync.sync.reading.model import Filter
from budget_sync.sync.reading.proposal import Question
from budget_sync.sync.reading.totals import is_total_like
from budget_sync.sync.reading.vocabulary import (
    BAD_STATUS,
    BAD_STATUS_BEGINNINGS,
    BUDGET_SCENARIO,
    EXPENSE,
    EXPENSE_ENDINGS,
    GOOD_STATUS,
    OTHER_SCENARIO,
    REVENUE,
    REVENUE_ENDINGS,
)

_MAX_VALUES = 12
_MAX_SHARE = 0.5

_STATUS_WORDS = frozenset(
    ("status", "final", "approval", "approved", "state", "stage", "phase", "statut", "estado")
)
#: Short headings of columns with a code for revenue and one for expense.
_SHORT_SIDES = frozenset(("ea", "eaart", "eakz", "eakennzeichen", "ie", "er", "re"))

_FUND_WORDS = frozenset(("fund", "funds", "fonds", "fondo"))
_SCENARIO_WORDS = frozenset(("scenario", "version", "type", "ledger"))


class Side(Enum):
    """The side of the budget that a text names."""

    EXPENSE = "expense"
    REVENUE = "revenue"


@dataclass(frozen=True, slots=True)
class Values:
    """The folded values of a column with their numbers of rows, and how many cells are blank."""

    column: Column
    counts: Counter[str]
    blank_rows: int


def find_filters(
    sheet: Sheet,
    department: Column,
    periods: Sequence[Column],
    used: Collection[Column],
    findings: Findings,
) -> tuple[Filter, ...]:
    """The filters of the sheet.

    `periods` are the columns with the role period, and `used` all columns with a role. Raises
    Refused.
    """
    found: list[Filter] = []
    others: list[Values] = []
    has_sides = False
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
        is_exclusive = _is_of_periods(sheet, column, periods)
        if filter_ := _filter(values, findings, is_exclusive=is_exclusive):
            found.append(filter_)
            has_sides = has_sides or not REVENUE.isdisjoint(counts)
        else:
            others.append(values)
    if not has_sides and (filter_ := _phrase_filter(others, findings)):
        found.append(filter_)
    return tuple(found)


def _is_of_periods(sheet: Sheet, column: Column, periods: Sequence[Column]) -> bool:
    """Whether each period has only one value of a column with several: "Soll" until 2017."""
    if len(periods) != 1 or not 2 <= len(column.values) <= _MAX_VALUES:
        return False
    values: dict[str, str] = {}
    return all(
        values.setdefault(sheet.text(index, periods[0]), value) == value
        for index, _ in sheet.body
        if (value := fold(sheet.text(index, column)))
    )


def _blank_rows(sheet: Sheet, column: Column, department: Column) -> int:
    """How many rows name a department that is not a total, and have a blank cell in the column."""
    return sum(
        1
        for index, row in sheet.body
        if cell_at(row, column.index) in (None, "")
        and (name := sheet.text(index, department))
        and not is_total_like(name)
    )


def _filter(found: Values, findings: Findings, *, is_exclusive: bool) -> Filter | None:
    """The filter of one column, by the first rule that fits.

    `is_exclusive`: each period has only one of its values.
    """
    column, values = found.column, list(found.counts)
    sides = [_side(value) for value in values]
    if all(value in EXPENSE or value in REVENUE for value in values):
        if Side.EXPENSE not in sides:
            raise Refused(f"Every row is revenue (column '{column.name}').")
        is_only_cost = all(value in ("cost", "costs") for value in values)
        if not is_only_cost and (len(values) >= 2 or Side.REVENUE in sides):
            return _ask(found, findings, default=_expenses(values))
    elif not EXPENSE.isdisjoint(values) and not REVENUE.isdisjoint(values):
        # A value that is neither, such as Transfer, is for a person to decide.
        return _ask(found, findings)
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
    return _scenario_filter(found, findings, is_exclusive=is_exclusive)


def _side(text: str) -> Side | None:
    """Whether a text of several words is about expense or revenue; None for neither or both.

    "Ord. Aufwendungen" and "Operating expenses" are expense. Single letters do not count.
    """
    if text in EXPENSE or text in REVENUE:
        return Side.REVENUE if text in REVENUE else Side.EXPENSE
    found = [word for word in words_of(text) if len(word) > 1]
    is_expense = any(word in EXPENSE or word.endswith(EXPENSE_ENDINGS) for word in found)
    is_revenue = any(word in REVENUE or word.endswith(REVENUE_ENDINGS) for word in found)
    if is_expense == is_revenue:
        return None
    return Side.EXPENSE if is_expense else Side.REVENUE


def _names_both_sides(column: Column) -> bool:
    """Whether a heading names expense and revenue: "Einnahme/Ausgabe", "E/A"."""
    words = column.words
    is_both = not EXPENSE.isdisjoint(words) and not REVENUE.isdisjoint(words)
    return is_both or hkey(column.heading) in _SHORT_SIDES


def _phrase_filter(found: Sequence[Values], findings: Findings) -> Filter | None:
    """The filter of a column with phrases for expense and revenue: "Ord. Erträge".

    It is for sheets in which no column has the plain words. Two phrases that differ in nothing else
    have a default. Funds are no sides: "Special Revenue Fund".
    """
    for each in found:
        column, values = each.column, list(each.counts)
        sides = [_side(value) for value in values]
        is_both = Side.REVENUE in sides and Side.EXPENSE in sides and None not in sides
        if is_both and len({_without_side(value) for value in values}) == 1:
            expense = [v for v, side in zip(values, sides, strict=True) if side is Side.EXPENSE]
            return _ask(each, findings, default=tuple(expense))
        if is_both and _FUND_WORDS.isdisjoint(column.words):
            return _ask(each, findings)
        if len(values) == 2 and _names_both_sides(column):
            return _ask(each, findings)
    return None


def _without_side(text: str) -> tuple[str, ...]:
    """The words of a text that name no side."""
    return tuple(word for word in words_of(text) if _side(word) is None)


def _expenses(values: Sequence[str]) -> tuple[str, ...]:
    """The values that name expenses."""
    return tuple(value for value in values if _side(value) is Side.EXPENSE)


def is_bad_status(value: str) -> bool:
    """Whether a folded status says that a row is not approved."""
    return value in BAD_STATUS or value.startswith(BAD_STATUS_BEGINNINGS)


def _scenario_filter(found: Values, findings: Findings, *, is_exclusive: bool) -> Filter | None:
    column, values = found.column, list(found.counts)
    budgets = [value for value in values if value in BUDGET_SCENARIO]
    others = [value for value in values if value in OTHER_SCENARIO]
    if 10 * (len(budgets) + len(others)) < 6 * len(values) and not (budgets and others):
        return None
    if is_exclusive and len(budgets) == len(values):
        return _new_filter(column, values)
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
