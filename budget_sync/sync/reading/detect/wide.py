"""Step 4, for wide tables: which columns with a period in the heading are budgets. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from budget_sync.domain.periods import FiscalYear, Settled, period_dates, read_period
from budget_sync.sync.reading.detect.findings import Findings, Refused
from budget_sync.sync.reading.detect.sheet import Column, Sheet
from budget_sync.sync.reading.heading_periods import (
    HeadingPeriod,
    heading_period,
    part_heading,
    relative_year,
    scenario_of,
)
from budget_sync.sync.reading.headings import JOIN, Role, hkey
from budget_sync.sync.reading.model import PeriodHeadings
from budget_sync.sync.reading.proposal import Question

#: A year for texts that have none yet, to compare them with each other.
SOME_YEAR = "2000"

_NO_AMOUNT = frozenset(("#missing", "n/a", "na", "tbd", "-", "\u2013", "\u2014", "$-", "$ -"))


@dataclass(frozen=True, slots=True)
class WideColumn:
    """A column with a period in its heading. `key` is its key, or a text to compare it by."""

    column: Column
    text: str
    key: str
    reason: str | None
    scenario: str | None

    @property
    def is_year(self) -> bool:
        """Whether it is a whole year."""
        return len(self.key) == 4

    @property
    def rest(self) -> str:
        """The heading without its period."""
        whole, period = hkey(self.column.heading), hkey(self.text)
        for part in (period, period.removeprefix("fy"), period[-2:]):
            if part and part in whole:
                return whole.replace(part, "", 1).removeprefix("fy")
        return whole


def lenient_share(column: Column) -> float:
    """The numeric share if formula errors and texts for nothing count as numbers."""
    if not column.filled:
        return 0.0
    lenient = sum(
        times
        for text, times in column.values.items()
        if text.startswith("#") or text.casefold() in _NO_AMOUNT
    )
    return (column.numeric + lenient) / column.filled


def may_hold_amounts(column: Column) -> bool:
    """Whether the column of a period heading holds amounts, or nothing yet."""
    return not column.filled or column.share >= 0.5 or lenient_share(column) >= 0.6


def period_headings(sheet: Sheet, fiscal_year: FiscalYear) -> list[WideColumn]:
    """The columns with a period in their heading."""
    found = []
    for column in sheet.columns:
        if not column.heading or column.roles.get(Role.DEPARTMENT, 0) >= 7:
            continue
        period = heading_period(column.heading, fiscal_year)
        if period and may_hold_amounts(column):
            found.append(_wide(column, period, fiscal_year))
    return found


def texts_with_periods(sheet: Sheet, fiscal_year: FiscalYear) -> list[Column]:
    """The columns with a period in their heading that hold no amounts: "Notes 2025"."""
    return [
        column
        for column in sheet.columns
        if column.heading
        and (column.roles.get(Role.DEPARTMENT, 0) >= 7 or not may_hold_amounts(column))
        and heading_period(column.heading, fiscal_year)
    ]


def part_headings(sheet: Sheet, fiscal_year: FiscalYear) -> list[WideColumn]:
    """The columns with a part of a year in their heading, without the year."""
    found = []
    for column in sheet.columns:
        period = part_heading(column.heading, fiscal_year) if column.heading else None
        if period and may_hold_amounts(column):
            found.append(_wide(column, period, fiscal_year))
    return found


def relative_years(sheet: Sheet) -> list[WideColumn]:
    """The columns of relative years: fy1, fy2, …. The key is the number."""
    found = []
    for column in sheet.columns:
        number = relative_year(column.heading) if column.heading else None
        if number is not None and may_hold_amounts(column):
            scenario = scenario_of(column.words)
            found.append(WideColumn(column, column.heading, str(2000 + number), None, scenario))
    return found


def _wide(column: Column, period: HeadingPeriod, fiscal_year: FiscalYear) -> WideColumn:
    key = period.key
    if key is None:
        settled = Settled(year=SOME_YEAR, tri="quarter", ddmon="year", dash="span")
        moved = FiscalYear(7, "end") if period.reason == "fiscal_year" else fiscal_year
        key = read_period(period.text, moved, settled).key or period.text
    text = period.text
    last = text.rsplit(JOIN.strip(), 1)[-1].strip()
    if last != text and read_period(last, fiscal_year).key == period.key is not None:
        # The rows of a header are joined: "Year / 2026".
        text = last
    return WideColumn(column, text, key, period.reason, period.scenario)


@dataclass(frozen=True, slots=True)
class Choice:
    """The columns that are budgets, and all that hold a period and are not.

    `is_open`: a person must choose first.
    """

    chosen: list[WideColumn]
    ignored: list[WideColumn]
    is_open: bool = False


def choose(found: Sequence[WideColumn], others: Sequence[WideColumn], findings: Findings) -> Choice:
    """Which columns are budgets. `others` hold a period and are out unless a person says so.

    Raises Refused if none is a budget.
    """
    everything = sorted((*found, *others), key=lambda each: each.column.index)
    inside = _by_scenario(found)
    if not inside:
        raise Refused(
            "All period columns hold actuals, estimates or variances. There is no budget column."
        )
    inside = _without_sums(inside, findings.customer.fiscal_year)
    question = _question(everything, inside)
    if question is None:
        return Choice(inside, [])
    _check_stored(question, findings)
    answer = findings.ask(question)
    if answer is not None:
        inside = [each for each in everything if each.column.name in answer]
    outside = [each for each in everything if each not in inside]
    return Choice(inside, outside, is_open=answer is None)


def _check_stored(question: Question, findings: Findings) -> None:
    """Drop the stored answer if the sheet has a column that the stored reading does not know."""
    period = findings.reading.period if findings.reading else None
    known = {*period.headings, *period.ignored} if isinstance(period, PeriodHeadings) else set()
    if not set(map(hkey, question.options)) <= set(map(hkey, known)):
        findings.stored.pop(question.id, None)


def _by_scenario(found: Sequence[WideColumn]) -> list[WideColumn]:
    budgets = [each for each in found if each.scenario == "budget"]
    return budgets or [each for each in found if each.scenario is None]


def _without_sums(inside: list[WideColumn], fiscal_year: FiscalYear) -> list[WideColumn]:
    """The columns without those that are sums of others: a year of its quarters."""
    if any(not each.is_year for each in inside):
        inside = [each for each in inside if not each.is_year]
    spans = {each.column.index: period_dates(each.key, fiscal_year) for each in inside}

    def is_sum(whole: WideColumn) -> bool:
        span = spans[whole.column.index]
        parts = {
            part
            for each in inside
            if span
            and (part := spans[each.column.index])
            and part != span
            and span[0] <= part[0]
            and part[1] <= span[1]
        }
        return len(parts) >= 2

    return [each for each in inside if not is_sum(each)]


def _question(everything: list[WideColumn], inside: list[WideColumn]) -> Question | None:
    options = tuple(each.column.name for each in everything)
    if any(times > 1 for times in Counter(each.key for each in inside).values()):
        return Question(
            "columns",
            "Several columns are for one period. Which hold the budget?",
            options,
            several=True,
        )
    differs = len({each.rest for each in inside}) > 1
    if not differs and len(inside) == len(everything):
        return None
    return Question(
        "columns",
        "Which of these columns are budgets?",
        options,
        default=tuple(each.column.name for each in inside),
        several=True,
    )
