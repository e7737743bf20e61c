"""Step 4: the source of the periods of a sheet. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from budget_sync.domain.periods import FiscalYear, read_period
from budget_sync.sync.reading.detect.amount import amount_score
from budget_sync.sync.reading.detect.findings import AnswerError, Findings, Refused, count, listed
from budget_sync.sync.reading.detect.period_column import (
    PeriodColumns,
    all_period_values,
    find_part,
)
from budget_sync.sync.reading.detect.period_values import (
    PeriodTexts,
    ask_for_year,
    period_values,
    settle,
)
from budget_sync.sync.reading.detect.sheet import Column, Sheet
from budget_sync.sync.reading.detect.wide import (
    SOME_YEAR,
    Choice,
    WideColumn,
    choose,
    part_headings,
    period_headings,
    relative_years,
    texts_with_periods,
)
from budget_sync.sync.reading.headings import Role
from budget_sync.sync.reading.model import Period, PeriodColumn, PeriodConstant, PeriodHeadings
from budget_sync.sync.reading.proposal import Question

#: The years of the trial begin here while the question for the columns is open.
_FIRST_ASSUMED = 1901


@dataclass
class PeriodPlan:
    """The source of the periods.

    `columns` are the columns with the role period, `amounts` the amount columns of a wide table,
    and `ignored` its columns that are not budgets. `trial` is the same with assumptions for open
    questions.
    """

    period: Period
    trial: Period
    columns: list[Column] = field(default_factory=list)
    amounts: list[Column] = field(default_factory=list)
    ignored: list[Column] = field(default_factory=list)
    evidence: str = ""

    @property
    def is_wide(self) -> bool:
        """Whether the amount columns have different periods."""
        return isinstance(self.period, PeriodHeadings)


class PeriodStep:
    """Chooses between a period column, period headings and one period for the whole sheet."""

    def __init__(self, sheet: Sheet, findings: Findings) -> None:
        self.sheet = sheet
        self.findings = findings
        self.fiscal_year: FiscalYear = findings.customer.fiscal_year
        self.texts = PeriodTexts(self.fiscal_year)
        self.columns = PeriodColumns(sheet, self.texts)
        self.headings = period_headings(sheet, self.fiscal_year)
        self.parts = part_headings(sheet, self.fiscal_year)
        self.relatives = relative_years(sheet)

    @property
    def has_headings(self) -> bool:
        """Whether a heading holds a period."""
        return bool(self.headings or self.parts or self.relatives)

    def find(self) -> PeriodPlan:
        """The plan, by the first rule of the design that fits. Raises Refused."""
        wide = {each.column.index for each in (*self.headings, *self.parts, *self.relatives)}
        best = self.columns.best()
        if best is not None and best.index in wide:
            best = None
        score = max(
            (
                amount_score(column)
                for column in self.sheet.columns
                if column.index not in wide and column is not best
            ),
            default=0,
        )
        return self._in_columns(best, score) or self._constant()

    def _in_columns(self, best: Column | None, score: float) -> PeriodPlan | None:
        """The plan for periods in a column or in headings; None if there are none.

        `best` is the best period column, and `score` that of the best amount heading.
        """
        has_amount = score >= 6
        is_column = best is not None and has_amount
        if len(self.parts) >= 3 and len(self.headings) <= 2:
            return self._parts(best)
        if not is_column:
            is_only = self.headings and best is None and score < 5
            if len(self.headings) >= 2 or is_only:
                return self._wide(self.headings)
            if len(self.relatives) >= 2:
                return self._relatives()
            if len(self.parts) == 2 and not has_amount:
                return self._parts(best)
        return self._column(best) if best is not None else None

    def _column(self, column: Column) -> PeriodPlan:
        part = find_part(self.sheet, column, self.texts, self.findings)
        values = all_period_values(self.sheet, column)
        headings = [each.heading for each in self.sheet.columns if each.heading]
        settled = settle(values, self.texts, self.findings, headings)
        names = {"column": column.name}
        if part:
            names |= {"part": part.column.name, "partKind": part.kind}
        known = [value for value in values if self.texts.is_period(value)]
        assumed = {**_assumptions(self.findings), **settled}
        return PeriodPlan(
            PeriodColumn.model_validate(names | settled),
            PeriodColumn.model_validate(names | assumed),
            columns=[column, part.column] if part else [column],
            evidence=f"Period: {column.label} ({_shown(known)}).",
        )

    def _wide(self, columns: Sequence[WideColumn]) -> PeriodPlan:
        choice = choose(columns, (), self.findings)
        return self._headings(choice, {each.column.name: each.text for each in choice.chosen})

    def _parts(self, years: Column | None) -> PeriodPlan:
        """A wide table without years: they are asked."""
        values = period_values(years.cells) if years else {}
        keys = {key for value in values if (key := self.texts.read(value).key)}
        if years and len(keys) > 1:
            raise Refused(
                f"The years are in '{years.name}' and the parts of a year in the headings. This "
                "layout cannot be read. Put each year on a separate tab."
            )
        if years and keys and not self.findings.title_years:
            self.findings.title_years = tuple(keys)
            self.findings.years_from = f"The column '{years.name}'"
        choice = choose(self.parts, self.headings, self.findings)
        return self._headings(choice, {each.column.name: each.text for each in choice.chosen})

    def _headings(self, choice: Choice, texts: dict[str, str]) -> PeriodPlan:
        chosen = choice.chosen
        reasons = {each.reason: each.text for each in reversed(chosen) if each.reason}
        headings = [each.heading for each in self.sheet.columns if each.heading]
        needs_year = any(each.reason == "year" for each in chosen)
        settled = settle(texts.values(), self.texts, self.findings, headings, reasons)
        if needs_year and self.findings.is_open("year"):
            settled.pop("year", None)
        outside = [each.column for each in choice.ignored]
        texts_only = texts_with_periods(self.sheet, self.fiscal_year)
        ignored = tuple(dict.fromkeys(column.name for column in (*outside, *texts_only)))
        # A department may be among them: "Department 2026".
        outside += [each for each in texts_only if each.roles.get(Role.DEPARTMENT, 0) < 7]
        assumed = {**_assumptions(self.findings), **settled}
        trial = texts
        if choice.is_open:
            trial = {name: f"FY{_FIRST_ASSUMED + number}" for number, name in enumerate(texts)}
        return PeriodPlan(
            PeriodHeadings.model_validate({"headings": texts, "ignored": ignored, **settled}),
            PeriodHeadings.model_validate({"headings": trial, "ignored": ignored, **assumed}),
            amounts=[each.column for each in chosen],
            ignored=outside,
            evidence=f"Period and amount: {listed(texts)}.",
        )

    def _relatives(self) -> PeriodPlan:
        choice = choose(self.relatives, self.headings, self.findings)
        first = min(choice.chosen, key=lambda each: each.key)
        question = Question(
            "first_year",
            f"Which fiscal year is {first.column.label}?",
            proposal=self.findings.title_year,
        )
        answer = ask_for_year(self.findings, question)
        start = int(answer or SOME_YEAR) - int(first.key)
        texts = {each.column.name: f"FY{start + int(each.key)}" for each in choice.chosen}
        return self._headings(choice, texts)

    def _constant(self) -> PeriodPlan:
        self.columns.refuse_unknown()
        year = self.findings.title_year
        question = Question(
            "period",
            f"No column gives the period. Which fiscal year or quarter is this sheet for?"
            f"{self.findings.title_hint}",
            proposal=year,
        )
        answer = self.findings.ask_one(question)
        if answer is not None:
            found = read_period(answer, self.fiscal_year)
            if found.key is None:
                raise AnswerError(
                    f"'{answer}' is not an answer to 'period'. Enter a period such as FY2026."
                )
        period = PeriodConstant(constant=answer or f"FY{year or SOME_YEAR}")
        return PeriodPlan(period, period, evidence="One period for the whole sheet.")


def _shown(known: Sequence[str]) -> str:
    return f"{count(len(known), 'period')}: {listed(known, 3)}" if known else "no period"


def _assumptions(findings: Findings) -> dict[str, str]:
    """The assumptions of the trial for open questions about periods."""
    assumed = {
        "year": findings.title_year or SOME_YEAR,
        "dash": "month",
        "ddmon": "year",
        "tri": "quarter",
        "mdy": "mdy",
        "dates": "month",
    }
    return {key: value for key, value in assumed.items() if findings.is_open(key)}
