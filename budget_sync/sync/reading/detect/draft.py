"""The parts of a reading as `detect` finds them, and its trial. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from budget_sync.domain.periods import FiscalYear
from budget_sync.sync.limits import Check
from budget_sync.sync.reading.apply import apply
from budget_sync.sync.reading.detect.department import DepartmentPlan
from budget_sync.sync.reading.detect.findings import Findings
from budget_sync.sync.reading.detect.period import PeriodPlan
from budget_sync.sync.reading.detect.sheet import Column, Sheet
from budget_sync.sync.reading.model import (
    Amount,
    CsvFormat,
    CurrencyColumn,
    CurrencyConstant,
    Department,
    Filter,
    Header,
    Marks,
    Reading,
    Totals,
)
from budget_sync.sync.reading.result import Customer, SheetResult


@dataclass
class Draft:
    """A reading in progress. `file` is None unless the source is a CSV file."""

    sheet: Sheet
    file: CsvFormat | None
    department: DepartmentPlan
    period: PeriodPlan
    amounts: list[Column]
    id: Column | None = None
    limit: Column | None = None
    owner: Column | None = None
    currency_column: Column | None = None
    currency: CurrencyColumn | CurrencyConstant | None = None
    fill: Literal["no", "down", "section"] = "no"
    keep: tuple[Filter, ...] = ()
    marks: Marks = field(default_factory=Marks)
    blanks: tuple[str, ...] = ()
    unit: Literal[1, 1000, 1_000_000] = 1
    sign: Literal["as is", "negate"] = "as is"
    sum: bool = False
    totals: tuple[str, ...] = ()
    total_departments: tuple[str, ...] = ()
    #: Subtotals of the trial while the question for them is open.
    assumed_totals: tuple[str, ...] = ()

    @property
    def used(self) -> list[Column]:
        """All columns with a role."""
        found = [self.department.column, *self.period.columns, *self.amounts, *self.period.ignored]
        found += [each for each in (self.id, self.limit, self.currency_column) if each is not None]
        return found

    def reading(self, *, is_trial: bool = False, sums: bool | None = None) -> Reading:
        """The reading; for a trial, with assumptions for open questions."""
        department = Department(
            column=self.department.column.name, fill=self.fill, code=self.department.code
        )
        return Reading(
            file=self.file,
            header=Header(rows=self.sheet.header.rows),
            department=department,
            period=self.period.trial if is_trial else self.period.period,
            amount=Amount(columns=tuple(column.name for column in self.amounts)),
            id=self.id.name if self.id else None,
            limit=self.limit.name if self.limit else None,
            owner=self.owner.name if self.owner else None,
            currency=self.currency,
            sum=self.sum if sums is None else sums,
            keep=self.keep,
            totals=Totals(
                names=self.totals + (self.assumed_totals if is_trial else ()),
                departments=self.total_departments,
            ),
            unit=self.unit,
            sign=self.sign,
            marks=self.marks,
            blanks=self.blanks,
        )


@dataclass
class Trials:
    """Applies a draft to the sheet. Results are kept by reading."""

    findings: Findings
    check: Check
    _known: dict[str, SheetResult] = field(default_factory=dict)

    @property
    def customer(self) -> Customer:
        """The customer; with a year from July while spans of years cannot be read."""
        customer = self.findings.customer
        if self.findings.asked("fiscal_year"):
            return customer._replace(fiscal_year=FiscalYear(7, "end"))
        return customer

    def run(self, draft: Draft, *, sums: bool | None = None) -> SheetResult:
        """The budgets and errors of the draft. Raises SheetProblem."""
        reading = draft.reading(is_trial=True, sums=sums)
        key = reading.to_text()
        if key not in self._known:
            grid = draft.sheet.grid
            self._known[key] = apply(reading, grid, self.customer, check=self.check)
        return self._known[key]


def without(columns: Collection[Column], used: Collection[Column]) -> list[Column]:
    """The columns that have no role."""
    return [column for column in columns if column not in used]
