"""Adds the rows that have nothing unusual to their groups, fast: most rows of most sheets. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Final

from budget_sync.sync.reading.amounts import CellError
from budget_sync.sync.reading.commas import CommaCheck
from budget_sync.sync.reading.grid import Cell
from budget_sync.sync.reading.groups import Group, Groups
from budget_sync.sync.reading.names import NO_ID, NO_NAME, Name
from budget_sync.sync.reading.rows import Sheet
from budget_sync.sync.reading.running_totals import RunningTotals
from budget_sync.sync.reading.values import Amounts, Period, Verdict

#: A row that is shorter by more cells than this is not read in the fast way.
_MAX_PADDING: Final = 64

#: Groups are remembered for at most this many combinations of cells.
_MAX_OWNERS: Final = 20_000

#: The amounts of a currency, the group with `append` of its rows, and the key of the period.
_Owner = tuple[Amounts, Group, Callable[[int], None], str | None]


class PlainRows:
    """The plain rows of one sheet.

    `last_named` is the department of the last row with one, if blank departments are filled.
    """

    def __init__(
        self, sheet: Sheet, groups: Groups, commas: CommaCheck, running: RunningTotals
    ) -> None:
        self._sheet, self._groups, self._commas, self._running = sheet, groups, commas, running
        self.last_named = NO_NAME
        columns = sheet.columns
        keys = (columns.department, columns.period, columns.part, columns.currency, *columns.keep)
        places = [column for column in keys if column is not None]
        # With two places or more, it returns a tuple.
        self._owner_cells = itemgetter(*places, places[0])
        self._owners: dict[tuple[Cell, ...], _Owner] = {}
        self._id_column = columns.budget_id if sheet.uses_ids else None
        self._filters = list(zip(sheet.filters, columns.keep, strict=True))
        self._has_periods = columns.period is not None
        self._has_simple_lines = (
            not sheet.is_wide and self._id_column is None and columns.limit is None
        )
        self._has_default_currency = columns.currency is None and not self._filters
        self._remembers_owners = sheet.reading.department.fill != "down"
        self._fewest_cells = 1 + max(*columns.used, *commas.next_columns)
        has_own_period = sheet.years_and_parts is None and columns.period is not None
        self._period_column = columns.period if has_own_period else None

    def others(
        self, rows: Sequence[Sequence[Cell]], first: int
    ) -> Iterator[tuple[int, Sequence[Cell]]]:
        """Add the plain rows, of which the first one has this number; the other rows.

        A row with the same cells as an earlier one, but for the amount, needs only two look-ups.
        """
        owner_cells, find = self._owner_cells, self._owners.get
        add_period, add_amount = self._running.add_period, self._running.add_amount
        column, width = self._sheet.columns.amounts[0], self._sheet.columns.width
        is_checked, may_follow = self._commas.is_needed, self._commas.may_follow
        after = column + 1
        for number, cells in enumerate(rows, first):
            try:
                owner = find(owner_cells(cells))
                if owner is not None:
                    amounts, group, add_row, period_key = owner
                    amount = amounts[cells[column]]
                    if type(amount) is int and not (
                        is_checked
                        and (
                            (count := len(cells)) > width
                            or (count > after and may_follow[cells[after]])
                        )
                    ):
                        group.total += amount
                        add_row(number)
                        add_period(period_key)
                        add_amount(amount)
                        continue
            except IndexError:
                pass
            if not self._add(number, cells):
                yield number, cells

    def _add(self, number: int, cells: Sequence[Cell]) -> bool:
        """Add a row that has nothing unusual to its groups; False if it must be read in full."""
        sheet, columns = self._sheet, self._sheet.columns
        count = len(cells)
        if count < self._fewest_cells:
            if count < self._fewest_cells - _MAX_PADDING:
                return False
            cells = [*cells, *[None] * (self._fewest_cells - count)]
        if self._commas.is_needed and self._commas.may_be_split(cells, count):
            return False
        name = sheet.names[cells[columns.department]]
        currency = sheet.default_currency
        if not self._has_default_currency:
            currency = self._currency(cells)
        if self._period_column is None:
            periods = sheet.periods_of(cells)
        else:
            periods = (sheet.periods[cells[self._period_column]],)
        if not (name.is_plain and currency and periods[0].problem is None):
            return False
        if self._has_simple_lines:
            return self._add_line(number, cells, name, periods[0], currency)
        return self._add_lines(number, cells, name, periods, currency)

    def _currency(self, cells: Sequence[Cell]) -> str:
        """The currency of a row; blank if it has a problem, or if a filter does not keep it."""
        for rule, place in self._filters:
            if rule[cells[place]] is not Verdict.KEPT:
                return ""
        column = self._sheet.columns.currency
        if column is None:
            return self._sheet.default_currency
        return self._sheet.currencies[cells[column]].code

    def _add_lines(
        self,
        number: int,
        cells: Sequence[Cell],
        name: Name,
        periods: Sequence[Period],
        currency: str,
    ) -> bool:
        """Add the amounts of a row to their groups; False if one is unusual."""
        sheet, columns = self._sheet, self._sheet.columns
        amounts_of = sheet.amounts(currency)
        amounts: list[int | None] = []
        for column in columns.amounts:
            amount = amounts_of[cells[column]]
            if isinstance(amount, CellError) or (amount is None and not sheet.is_wide):
                return False
            amounts.append(amount)
        limit = None if columns.limit is None else amounts_of[cells[columns.limit]]
        budget_id = NO_ID if self._id_column is None else sheet.ids[cells[self._id_column]]
        if isinstance(limit, CellError) or (limit or 0) < 0 or budget_id.problem is not None:
            return False
        self.last_named = name
        self._running.add(periods[0].key if columns.period is not None else None, amounts)
        for period, amount in zip(periods, amounts, strict=True):
            if amount is not None:
                group = self._groups.of(name, period)
                group.add(number, amount, currency, budget_id.text, limit)
        return True

    def _add_line(
        self, number: int, cells: Sequence[Cell], name: Name, period: Period, currency: str
    ) -> bool:
        """As `_add_lines`, for a sheet with one amount, and without Budget IDs and limits."""
        amounts = self._sheet.amounts(currency)
        amount = amounts[cells[self._sheet.columns.amounts[0]]]
        if type(amount) is not int:
            return False
        self.last_named = name
        key = name.key, period.key
        period_key = key[1] if self._has_periods else None
        self._running.add_period(period_key)
        self._running.add_amount(amount)
        group = self._groups.by_key.get(key)
        if group is None:
            group = self._groups.by_key[key] = Group(name, period)
            group.add(number, amount, currency)
            return True
        group.add(number, amount, currency)
        if self._remembers_owners and group.currency == currency:
            self._remember(cells, (amounts, group, group.adder(), period_key))
        return True

    def _remember(self, cells: Sequence[Cell], owner: _Owner) -> None:
        """Remember the group of these cells.

        Other cells than texts may be equal as keys and mean different things, as 1 and TRUE do.
        """
        key = self._owner_cells(cells)
        if len(self._owners) < _MAX_OWNERS and all(
            cell is None or isinstance(cell, str) for cell in key
        ):
            self._owners[key] = owner
