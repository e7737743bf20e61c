"""Collects the errors of rows, and which budgets the rows may mean. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from budget_sync.sync.limits import quoted
from budget_sync.sync.reading.amounts import CellError
from budget_sync.sync.reading.groups import Groups
from budget_sync.sync.reading.names import has_lost_digits
from budget_sync.sync.reading.result import Identity, RowError
from budget_sync.sync.reading.rows import LIMIT_COLUMN, Row, Sheet
from budget_sync.sync.reading.values import Period, shown


class RowErrors:
    """The errors of one sheet's rows. The groups of these rows are not applied."""

    def __init__(self, sheet: Sheet, groups: Groups) -> None:
        self._sheet = sheet
        self._groups = groups
        self._errors: list[RowError] = []
        self._lost_ids: dict[str, list[RowError]] = {}

    def all(self) -> list[RowError]:
        """The errors; rows with the same Budget ID that lost its digits have one."""
        return self._errors + [_merged(errors) for errors in self._lost_ids.values()]

    def add(self, error: RowError) -> None:
        """Add an error that is not about a single row."""
        self._errors.append(error)

    def reject(self, row: Row, problems: Sequence[str]) -> None:
        """Reject a row as a whole: each of its amounts."""
        self._add(
            row,
            " ".join(problems),
            [
                period
                for period, amount in zip(row.periods, row.amounts, strict=True)
                if amount is not None or not self._sheet.is_wide
            ],
        )

    def reject_amounts(self, row: Row) -> None:
        """Reject only the amounts of a row that cannot be read."""
        bad = [isinstance(amount, CellError) for amount in row.amounts]
        periods = [period for period, is_bad in zip(row.periods, bad, strict=True) if is_bad]
        self._add(row, " ".join(self.amount_problems(row)), periods)

    def problems(self, row: Row) -> list[str]:
        """What is wrong with a row as a whole, as sentences."""
        name, budget_id = row.name, row.budget_id
        problems = [
            f"Department {name.problem}" if name.problem is not None else None,
            "Department is blank. Enter one." if name.is_blank else None,
            row.periods[0].problem,
            f"Budget ID {budget_id.problem}" if budget_id.problem is not None else None,
            row.currency.problem,
            None if row.has_amount else "Amount is blank. Enter an amount, or 0.",
        ]
        if row.currency.problem is None:
            limit = self._sheet.limit(row)
            problems.append(f"{LIMIT_COLUMN} {limit}" if isinstance(limit, CellError) else None)
        return [problem for problem in problems if problem is not None]

    def amount_problems(self, row: Row) -> list[str]:
        """What is wrong with the amounts of a row, as sentences."""
        if row.currency.problem is not None:
            return []
        headings = self._sheet.reading.amount.columns
        return [
            f"Amount in {quoted(heading)} {amount}" if self._sheet.is_wide else f"Amount {amount}"
            for heading, amount in zip(headings, row.amounts, strict=False)
            if isinstance(amount, CellError)
        ]

    def filter_problem(self, row: Row) -> str:
        """The error for a value that the filters of the reading do not know."""
        place = [rule.column for rule in self._sheet.filters].index(row.filter)
        text = shown(Sheet.cell(row.cells, self._sheet.columns.keep[place]))
        value = quoted(text) if text else "blank"
        return (
            f"{row.filter} is {value}, which this reading does not know. Say whether such rows "
            "count."
        )

    def _add(self, row: Row, message: str, periods: Iterable[Period]) -> None:
        found = row.budget_id
        external_id = found.text or found.possible
        if external_id is not None:
            self._groups.add_bad_id(external_id, row.number)
        keys = dict.fromkeys(period.key or None for period in periods) or {None: None}
        for period in periods:
            if row.name.key and period.key:
                self._groups.of(row.name, period).add_bad(row.number)
        first, *others = (
            Identity(external_id, found.problem is not None, row.name.key or None, key)
            for key in keys
        )
        error = RowError((row.number,), message, *first, others=tuple(others))
        if has_lost_digits(found.problem) and message == f"Budget ID {found.problem}":
            self._lost_ids.setdefault(message, []).append(error)
        else:
            self._errors.append(error)


def _merged(errors: Sequence[RowError]) -> RowError:
    """One error for the rows of several errors with the same message."""
    rows = tuple(row for error in errors for row in error.rows)
    identities = [
        Identity(each.external_id, each.id_unknown, each.department_key, each.period_key)
        for error in errors
        for each in error.each()
    ]
    return errors[0]._replace(rows=rows, others=tuple(dict.fromkeys(identities[1:])))
