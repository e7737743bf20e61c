"""Step 4, for tables with a period column: which column it is, and its part column. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from budget_sync.domain.periods import Settled, read_period, read_year_and_part
from budget_sync.sync.reading.detect.findings import Findings, Refused, listed
from budget_sync.sync.reading.detect.period_values import PeriodTexts, period_values
from budget_sync.sync.reading.detect.sheet import Column, Sheet, cell_at
from budget_sync.sync.reading.headings import Role, hkey
from budget_sync.sync.reading.proposal import Question

PartKind = Literal["quarter", "fiscal", "calendar"]

#: A column without a known heading is not used if it has more different values.
_MAX_DISTINCT = 120

#: A heading with one of these words or beginnings says when a row was changed.
_CHANGE_WORDS = frozenset(
    ("updated", "modified", "created", "changed", "submitted", "hire", "due", "hired")
)
_CHANGE_BEGINNINGS = ("approv",)

#: A heading with one of these words may hold periods that are numbers: 202601.
_PERIOD_WORDS = frozenset(
    (
        *("month", "monat", "mois", "mes", "mese", "monthyear", "yearmonth", "calmonth"),
        *("period", "periode", "période", "periodo", "yyyymm", "date", "datum", "fecha"),
    )
)

_QUARTER_HEADINGS = frozenset(
    map(hkey, ("quarter", "fiscal quarter", "qtr", "quartal", "trimestre", "fiscal qtr"))
)
_MONTH_HEADINGS = frozenset(
    map(
        hkey,
        (
            "month",
            "fiscal month",
            "month name",
            "month num",
            "month number",
            "monat",
            "mois",
            "mes",
            "budget month",
        ),
    )
)
_EITHER_HEADINGS = frozenset(map(hkey, ("period", "fiscal period")))


@dataclass(frozen=True, slots=True)
class RatedColumn:
    """A column that may be the period column, and how likely that is."""

    column: Column
    rating: float


class PeriodColumns:
    """The columns of a sheet that may hold periods."""

    def __init__(self, sheet: Sheet, texts: PeriodTexts) -> None:
        self.sheet = sheet
        self.texts = texts
        self.rated = [
            RatedColumn(column, rating)
            for column in sheet.columns
            if (rating := self._rate(column)) > 0
        ]

    def best(self) -> Column | None:
        """The best column; of equal ones the leftmost."""
        if not self.rated:
            return None
        best = max(self.rated, key=lambda each: each.rating).column
        values = period_values(best.cells)
        if all(self.texts.is_year(v) for v in values):
            return self._whole_part_column(best) or best
        if all(self.texts.read(value).reason == "year" for value in values):
            return self._years_column() or best
        return best

    def _rate(self, column: Column) -> float:
        score = column.roles.get(Role.PERIOD, 0)
        if score < 4 and column.roles:
            return 0
        values = period_values(column.cells)
        total = sum(values.values())
        if not total:
            return 0
        if score < 4:
            return self._rate_without_heading(column, values, total)
        share = self._share(values, total)
        if score == 4 and share == 1:
            score = 6
        if score < 5 or share < 0.5:
            return 0
        return score + (2 if share >= 0.9 else 0)

    def _rate_without_heading(self, column: Column, values: Counter[str], total: int) -> float:
        is_change = any(
            word in _CHANGE_WORDS or word.startswith(_CHANGE_BEGINNINGS) for word in column.words
        )
        is_start_of = "start of" in " ".join(column.words)
        if len(values) > _MAX_DISTINCT or is_change or is_start_of:
            return 0
        is_named = any(word in _PERIOD_WORDS for word in column.words)
        if not is_named and column.numeric - column.years > 0.9 * column.filled:
            return 0
        return 6 if self._share(values, total) >= 0.97 else 0

    def _share(self, values: Counter[str], total: int) -> float:
        is_period = self.texts.is_period
        return sum(times for text, times in values.items() if is_period(text)) / total

    def _whole_part_column(self, year: Column) -> Column | None:
        """A column such as Quarter that holds whole periods (Q1 2026), next to a year column."""
        for column in self.sheet.columns:
            if column is year or not _is_part_heading(column.heading):
                continue
            values = period_values(column.cells)
            if len(values) >= 2 and all(
                self.texts.is_keyed(value) and not self.texts.is_year(value) for value in values
            ):
                return column
        return None

    def _years_column(self) -> Column | None:
        """A rated column of years, for a column of periods without a year."""
        for each in self.rated:
            if all(self.texts.is_year(value) for value in period_values(each.column.cells)):
                return each.column
        return None

    def refuse_unknown(self) -> None:
        """Raise Refused if a sure heading has values of which more than half are unknown."""
        for column in self.sheet.columns:
            if column.roles.get(Role.PERIOD, 0) < 9:
                continue
            values = period_values(column.cells)
            unknown = {
                value: times for value, times in values.items() if not self.texts.is_period(value)
            }
            if 2 * sum(unknown.values()) > sum(values.values()):
                raise Refused(
                    f"The values under '{column.heading}' are not periods ({listed(unknown, 3)})."
                )


def _is_part_heading(heading: str) -> bool:
    return hkey(heading) in _QUARTER_HEADINGS | _MONTH_HEADINGS | _EITHER_HEADINGS


@dataclass(frozen=True, slots=True)
class Part:
    """The column that holds the quarter or the month, next to a year column."""

    column: Column
    kind: PartKind


def find_part(sheet: Sheet, year: Column, texts: PeriodTexts, findings: Findings) -> Part | None:
    """The part column, if the period column holds only years. It is asked unless it is settled."""
    years = period_values(year.cells)
    if not years or not all(
        texts.is_year(value) or texts.read(value).reason == "placeholder" for value in years
    ):
        return None
    for column in sheet.columns:
        if column is year or not _is_part_heading(column.heading):
            continue
        is_quarter = _part_is_quarter(column, texts)
        if is_quarter is not None:
            return _ask_part(year, column, findings, is_quarter=is_quarter)
    return None


def _part_is_quarter(column: Column, texts: PeriodTexts) -> bool | None:
    """Whether a column holds quarters; False for months, None for neither."""
    values = [value.removesuffix(" (number)") for value in period_values(column.cells)]
    if len(values) < 2 or sum(map(texts.is_keyed, values)) * 2 > len(values):
        return None
    key = hkey(column.heading)
    if key in _QUARTER_HEADINGS:
        kinds: tuple[PartKind, ...] = ("quarter",)
    elif key in _MONTH_HEADINGS:
        kinds = ("calendar",)
    else:
        with_year = [read_period(v, texts.fiscal_year, Settled(year="2000")).key for v in values]
        are_quarters = sum(bool(key) and "Q" in str(key) for key in with_year) * 2 > len(values)
        kinds = ("quarter",) if are_quarters else ("calendar",)
    for kind in kinds:
        known = [read_year_and_part("2000", v, kind, texts.fiscal_year).key for v in values]
        if sum(map(bool, known)) * 2 >= len(known):
            return kind == "quarter"
    return None


def _ask_part(year: Column, column: Column, findings: Findings, *, is_quarter: bool) -> Part | None:
    if is_quarter:
        question = Question(
            "part",
            f"Are {year.label} and {column.label} together the period?",
            (column.name, ""),
            default=(column.name,),
        )
        return Part(column, "quarter") if findings.ask_one(question) else None
    if findings.customer.fiscal_year.first_month == 1:
        return Part(column, "calendar")
    question = Question(
        "part",
        f"{column.label} holds months next to {year.label}. Is month 1 January, or the first "
        "month of the fiscal year?",
        ("fiscal", "calendar"),
    )
    kind = findings.ask_one(question)
    return Part(column, "calendar" if kind == "calendar" else "fiscal")


def all_period_values(sheet: Sheet, column: Column) -> Counter[str]:
    """The period texts of a column in all rows."""
    if sheet.is_whole:
        return period_values(column.cells)
    return period_values(cell_at(row, column.index) for _, row in sheet.body)
