"""Adds up the lines of each budget: lines -> budgets and errors. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Final

from budget_sync.domain.money import LIMIT_MINOR, currency_exponent
from budget_sync.sync.limits import Check, checked
from budget_sync.sync.reading.amounts import SCALE, limit_of, round_minor, to_decimal
from budget_sync.sync.reading.model import Reading
from budget_sync.sync.reading.names import Name
from budget_sync.sync.reading.result import (
    BudgetKey,
    Identity,
    RowError,
    SheetBudget,
    SheetRow,
)
from budget_sync.sync.reading.values import Period

#: A message names at most this many rows.
_NAMED_ROWS: Final = 20

# Never changed. Most groups have no such rows, and one list less makes long sheets faster.
_NO_ROWS: Final[list[int]] = []
_NO_IDS: Final[dict[int, str]] = {}


class Group:
    """The lines of one department and period.

    `rows` are the lines that can be read, `bad_rows` the others. `rows` is a list only if there are
    several, because most groups of some sheets have one. `total` is the sum of the amounts as
    written, times SCALE. `limit` is that of the first line. `budget_ids` are those of the rows
    that have one.
    """

    __slots__ = (
        "bad_rows",
        "budget_ids",
        "currencies",
        "currency",
        "limit",
        "name",
        "period",
        "rows",
        "total",
    )

    def __init__(self, name: Name, period: Period) -> None:
        self.name, self.period = name, period
        self.rows: Sequence[int] = ()
        self.bad_rows: list[int] = _NO_ROWS
        self.total = 0
        self.currency = ""
        self.currencies: set[str] | None = None
        self.limit: int | None = None
        self.budget_ids: dict[int, str] = _NO_IDS

    def add(
        self,
        number: int,
        amount: int,
        currency: str,
        budget_id: str | None = None,
        limit: int | None = None,
    ) -> None:
        """Add a line that can be read."""
        if not self.rows:
            self.rows, self.total = (number,), amount
            self.currency, self.limit = currency, limit
        else:
            self.adder()(number)
            self.total += amount
            if currency != self.currency:
                self.currencies = (self.currencies or {self.currency}) | {currency}
        if budget_id is not None:
            if self.budget_ids is _NO_IDS:
                self.budget_ids = {}
            self.budget_ids[number] = budget_id

    def adder(self) -> Callable[[int], None]:
        """Adds only the number of a line that can be read."""
        if not isinstance(self.rows, list):
            self.rows = list(self.rows)
        return self.rows.append

    def add_bad(self, number: int) -> None:
        """Add a line that cannot be read."""
        if self.bad_rows is _NO_ROWS:
            self.bad_rows = []
        self.bad_rows.append(number)

    @property
    def label(self) -> str:
        """The name for people."""
        return f"{self.name.text}, {self.period.text}"

    @property
    def all_rows(self) -> list[int]:
        """The rows of all lines, each once."""
        return sorted({*self.rows, *self.bad_rows})


class Groups:
    """The lines of a sheet by department and period, in the order of their first rows."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._factor = reading.unit * (-1 if reading.sign == "negate" else 1)
        self.by_key: dict[BudgetKey, Group] = {}
        self._bad_ids: list[tuple[str, int]] = []

    def of(self, name: Name, period: Period) -> Group:
        """The group of a line."""
        key = name.key, period.key
        group = self.by_key.get(key)
        if group is None:
            group = self.by_key[key] = Group(name, period)
        return group

    def add_bad_id(self, budget_id: str, number: int) -> None:
        """Remember the Budget ID of a row that cannot be used."""
        self._bad_ids.append((budget_id, number))

    def finish(self, check: Check) -> tuple[list[SheetRow], list[RowError]]:
        """The budgets, and the errors of groups that are not applied."""
        errors, rejected = self._twice()
        rows: list[SheetRow] = []
        for group in checked(self.by_key.values(), check):
            numbers = group.rows
            if not numbers or (rejected and rejected.issuperset(numbers)):
                continue
            problem = None
            if group.bad_rows or group.currencies or len(numbers) > 1:
                problem = self._problem(group)
            if problem is not None:
                errors.append(_error_of(group, problem))
                continue
            exponent = currency_exponent(group.currency)
            minor = round_minor(group.total * self._factor, exponent)
            if 0 <= minor < LIMIT_MINOR:
                budget = _budget(group, minor, exponent)
                rows.append(SheetRow(numbers[0], budget, len(numbers)))
            else:
                errors.append(_error_of(group, _size_problem(group, minor)))
        return rows, errors

    def _problem(self, group: Group) -> str | None:
        """Why the lines of a group are not applied; None if they can be added up."""
        if group.bad_rows:
            if self._reading.sum:
                count = len(group.all_rows)
                return (
                    f"{group.label} is the sum of {count} rows, and {len(group.bad_rows)} of them "
                    "cannot be read. It is not applied until all can be read."
                )
            return f"{group.label} is also in {row_list(group.bad_rows)}, which cannot be read."
        if group.currencies:
            names = " and ".join(sorted(group.currencies))
            return f"{group.label} has rows in {names}. A budget has one currency."
        if len(group.rows) > 1 and not self._reading.sum:
            return (
                f"{group.label} is in {row_list(group.rows)}. Keep one, or let this source add "
                "such rows up."
            )
        return None

    def _twice(self) -> tuple[list[RowError], set[int]]:
        """One error for each Budget ID that occurs twice, and the rows with such an ID."""
        groups_by_id: dict[str, list[Group]] = {}
        rows_by_id: dict[str, list[int]] = {}
        for group in self.by_key.values():
            for number, budget_id in group.budget_ids.items():
                rows_by_id.setdefault(budget_id, []).append(number)
                groups_by_id.setdefault(budget_id, []).append(group)
        for budget_id, number in self._bad_ids:
            if budget_id in rows_by_id:
                rows_by_id[budget_id].append(number)
        errors: list[RowError] = []
        rejected: set[int] = set()
        for budget_id, rows in rows_by_id.items():
            if len(rows) > 1:
                rejected.update(rows)
                errors.append(_twice_error(budget_id, sorted(set(rows)), groups_by_id[budget_id]))
        return errors, rejected


def _twice_error(budget_id: str, rows: Sequence[int], groups: Iterable[Group]) -> RowError:
    keys = list(dict.fromkeys((group.name.key, group.period.key) for group in groups))
    return RowError(
        tuple(rows),
        f"Budget ID {budget_id!r} is in {row_list(rows)}.",
        budget_id,
        False,
        *keys[0],
        others=tuple(Identity(budget_id, False, *key) for key in keys[1:]),
    )


def _error_of(group: Group, problem: str) -> RowError:
    """One error for all rows of a group. Each of their Budget IDs may mean another budget."""
    key = group.name.key, group.period.key
    ids = list(dict.fromkeys(group.budget_ids.values()))
    return RowError(
        tuple(group.all_rows),
        problem,
        ids[0] if ids else None,
        False,
        *key,
        others=tuple(Identity(each, False, *key) for each in ids[1:]),
    )


def _size_problem(group: Group, minor: int) -> str:
    if minor >= LIMIT_MINOR:
        return f"{group.label} is too large. Enter less than {limit_of(group.currency):,}."
    exponent = currency_exponent(group.currency)
    amount = to_decimal(minor * SCALE // 10**exponent)
    verb = "adds up to" if len(group.rows) > 1 else "is"
    return f"{group.label} {verb} {amount:f}. A budget is 0 or more."


def _budget(group: Group, minor: int, exponent: int) -> SheetBudget:
    name, period, limit = group.name, group.period, group.limit
    return SheetBudget(
        group.budget_ids.get(group.rows[0]) if group.budget_ids else None,
        name.text,
        name.key,
        period.text,
        period.key,
        group.currency,
        minor,
        None if limit is None else round_minor(limit, exponent),
        exponent,
    )


def row_list(rows: Sequence[int]) -> str:
    """Row numbers for people, at most 20 of them."""
    shown = ", ".join(map(str, rows[:_NAMED_ROWS]))
    more = f" and {len(rows) - _NAMED_ROWS} more" if len(rows) > _NAMED_ROWS else ""
    return f"row{'s' * (len(rows) > 1)} {shown}{more}"


def totals_by_currency(rows: Iterable[SheetRow]) -> dict[str, Decimal]:
    """The sum of the budgets in each currency, in whole units."""
    minor: dict[str, int] = {}
    for row in rows:
        budget = row.budget
        minor[budget.currency] = minor.get(budget.currency, 0) + budget.budgeted_minor
    return {
        currency: to_decimal(total * SCALE // 10 ** currency_exponent(currency))
        for currency, total in minor.items()
    }
