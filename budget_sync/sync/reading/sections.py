"""Reads sheets in which departments are on separate lines, with a total below each. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from budget_sync.sync.limits import Check, checked, quoted
from budget_sync.sync.reading.groups import Groups, row_list
from budget_sync.sync.reading.names import Name, TotalKind
from budget_sync.sync.reading.notes import Notes
from budget_sync.sync.reading.result import RowError
from budget_sync.sync.reading.row_errors import RowErrors
from budget_sync.sync.reading.rows import Row, Sheet
from budget_sync.sync.reading.running_totals import Sum, equal
from budget_sync.sync.reading.total_rows import TOTAL
from budget_sync.sync.reading.values import Period, Verdict

OUTSIDE: Final = "outside a section"
UNCLOSED: Final = "below the last total"
HEADING: Final = "text between sections"


@dataclass(slots=True)
class _Section:
    """A department's lines so far. `last_title` is the last row of its name."""

    name: Name
    last_title: int
    lines: list[Row] = field(default_factory=list)


class Sections:
    """The sections of one sheet. Each is one line of its department's budget.

    The row of that line is the section's total. The attributes are those of `Lines`.
    """

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet
        self.groups = Groups(sheet.reading)
        self.errors = RowErrors(sheet, self.groups)
        self.skipped: dict[int, str] = {}
        self.notes = Notes()
        self.nameless: list[tuple[int, int]] = []
        self.blank_amounts = 0
        self._width = len(sheet.columns.amounts)
        self._open: _Section | None = None
        self._totals = Sum(self._width)
        self._is_ended = False

    def read(self, check: Check) -> None:
        """Read all rows."""
        first = self.sheet.layout.last_row
        for number, cells in enumerate(checked(self.sheet.grid.rows[first:], check), first + 1):
            if self.sheet.is_blank(cells):
                continue
            row = self.sheet.row(number, cells)
            if row.verdict is Verdict.LEFT_OUT:
                self.skipped[number] = f"left out by {row.filter}"
            elif row.name.total is not TotalKind.NONE:
                self._total(row)
            elif row.has_amount:
                self._line(row)
            elif not row.name.is_blank:
                self._title(row)
        self._end_unclosed()

    def _title(self, row: Row) -> None:
        """Open a section. Two lines of text in succession are one name."""
        name = row.name
        if self._open is not None and not self._open.lines:
            if self._open.last_title == row.number - 1 and not name.problem:
                name = self.sheet.names[f"{self._open.name.text} {name.text}"]
            else:
                self.skipped[self._open.last_title] = HEADING
        else:
            self._end_unclosed()
        self._open = _Section(name, row.number)

    def _line(self, row: Row) -> None:
        """Add a line to the open section."""
        if self._open is not None:
            self._open.lines.append(row)
            return
        self.skipped[row.number] = OUTSIDE
        self.notes.add(
            "rows outside a section",
            f"Row {row.number} has an amount but is in no section. It was left out.",
        )

    def _total(self, row: Row) -> None:
        """Close the open section, or end the table."""
        section, self._open = self._open, None
        if not row.has_amount:
            self._open = section
            self.skipped[row.number] = TOTAL
        elif section is not None:
            self._close(section, row)
        else:
            self.skipped[row.number] = TOTAL
            if self._totals.rows >= 2 and equal(row.readable_amounts, self._totals.amounts):
                self._is_ended = True
                self._totals = Sum(self._width)

    def _close(self, section: _Section, total: Row) -> None:
        """Add the department's line if the total is the sum of the section's lines."""
        lines = Sum(self._width)
        for line in section.lines:
            lines.add(line.readable_amounts)
        is_sum = equal(total.readable_amounts, lines.amounts)
        if is_sum and self._is_sum_of_sections(total):
            self._end_with(section, total)
            return
        problem = self._problem(section, total, is_sum=is_sum)
        if problem is not None and self._is_ended:
            self._leave_out([*section.lines, total])
            return
        self._totals.add(total.readable_amounts)
        if problem is not None:
            self._reject(section, [*section.lines, total], problem)
            return
        currency = total.currency.code if not section.lines else section.lines[0].currency.code
        for period, amount in self._amounts(section, total):
            self.groups.of(section.name, period).add(total.number, amount, currency)

    def _is_sum_of_sections(self, total: Row) -> bool:
        """Whether a section's total is that of all sections above it.

        One amount may be the sum of two others by chance.
        """
        amounts = total.readable_amounts
        enough = self._totals.rows >= 3 or (self._totals.rows == 2 and sum(map(bool, amounts)) >= 2)
        return enough and any(amounts) and equal(amounts, self._totals.amounts)

    def _end_with(self, section: _Section, total: Row) -> None:
        """Leave out a section that adds up all others, and end the table."""
        numbers = [line.number for line in (*section.lines, total)]
        self.skipped.update(dict.fromkeys(numbers, TOTAL))
        self.notes.add(
            "sections that are sums of the others",
            f"{quoted(section.name.text)} (row {total.number}) is the sum of all sections above "
            "it. It was left out as a total.",
        )
        self._is_ended = True
        self._totals = Sum(self._width)

    def _problem(self, section: _Section, total: Row, is_sum: bool) -> str | None:
        """Why a section is not applied; None if it is."""
        name = section.name
        if name.problem is not None:
            return f"Department {name.problem}"
        bad = [line.number for line in section.lines if self._is_unreadable(line)]
        if bad or total.unreadable:
            subject = row_list(bad) if bad else f"its total (row {total.number})"
            return f"{quoted(name.text)} has {subject}, which cannot be read."
        if not is_sum:
            return f"The total of {quoted(name.text)} is not the sum of its lines."
        currencies = sorted({line.currency.code for line in section.lines})
        if len(currencies) > 1:
            return f"{name.text} has rows in {' and '.join(currencies)}. A budget has one currency."
        return None

    def _is_unreadable(self, line: Row) -> bool:
        """Whether a line cannot be read. If so, add an error that says why."""
        problem = line.periods[0].problem or line.currency.problem
        if line.verdict is Verdict.UNKNOWN:
            problem = self.errors.filter_problem(line)
        if problem is None and not line.unreadable:
            return False
        amounts = self.errors.amount_problems(line)
        message = " ".join([problem, *amounts] if problem else amounts)
        self.errors.add(RowError((line.number,), message, blocks=False))
        return True

    def _amounts(self, section: _Section, total: Row) -> list[tuple[Period, int]]:
        """The amount of each period of a section."""
        if self.sheet.columns.period is None:
            return [
                (period, amount)
                for period, amount in zip(total.periods, total.readable_amounts, strict=True)
                if amount is not None
            ]
        periods: dict[str, Period] = {}
        amounts: dict[str, int] = {}
        for line in section.lines:
            period = line.periods[0]
            periods.setdefault(period.key, period)
            amounts[period.key] = amounts.get(period.key, 0) + (line.readable_amounts[0] or 0)
        return [(period, amounts[key]) for key, period in periods.items()]

    def _end_unclosed(self) -> None:
        """End a section without a total."""
        section, self._open = self._open, None
        if section is None:
            return
        if not section.lines:
            self.skipped[section.last_title] = HEADING
        elif self._is_ended:
            self._leave_out(section.lines)
        else:
            problem = (
                f"{quoted(section.name.text)} has no total line below its lines, as the others do."
            )
            self._reject(section, section.lines, problem)

    def _leave_out(self, rows: Sequence[Row]) -> None:
        numbers = [row.number for row in rows]
        self.skipped.update(dict.fromkeys(numbers, UNCLOSED))
        plural = len(numbers) > 1
        self.notes.add(
            "rows below the last total",
            f"{row_list(numbers).capitalize()} {'are' if plural else 'is'} below the last total, "
            f"and no total closes {'them' if plural else 'it'}. "
            f"{'They were' if plural else 'It was'} left out.",
        )

    def _reject(self, section: _Section, rows: Sequence[Row], problem: str) -> None:
        """Reject all rows of a section. The department's budgets stay as they are."""
        for row in rows:
            for period in row.periods:
                if section.name.key and period.key:
                    self.groups.of(section.name, period).add_bad(row.number)
        keys = {period.key for row in rows for period in row.periods}
        self.errors.add(
            RowError(
                tuple(row.number for row in rows),
                problem,
                department_key=section.name.key or None,
                period_key=(keys.pop() or None) if len(keys) == 1 else None,
            )
        )
