"""The cells of a sheet from any file or service. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from budget_sync.sync.limits import MAX_CELL_CHARS, quoted


class DateCell(NamedTuple):
    """A number that a sheet shows as a date, a time or a duration.

    `shown` is None if the cell changed while the sheet was read, so that its text is unknown.
    """

    number: int | Decimal
    shown: str | None

    def problem(self, advice: str) -> str:
        """What is wrong with the cell, in any column, and what to do."""
        if self.shown is None:
            return "changed while the sheet was being read: the next sync run reads it again"
        return f"is {quoted(self.shown)}, which the sheet stores as a date or a time: {advice}"


class LongCell(NamedTuple):
    """A text that is too long for every column; `length` counts its characters."""

    length: int

    def problem(self, _advice: str) -> str:
        """What is wrong with the cell, in any column, and what to do."""
        return (
            f"has {self.length:,} characters: shorten it to at most {MAX_CELL_CHARS:,} characters"
        )


class PercentCell(NamedTuple):
    """A number that a sheet shows as a percentage: 0.5 is shown as 50%."""

    number: int | float | Decimal

    def problem(self, _advice: str) -> str:
        """What is wrong with the cell, in any column, and what to do."""
        exact = Decimal(str(self.number)) * 100
        return f"is '{exact.normalize():f}%', a percentage. Enter the amount."


class UncalculatedCell(NamedTuple):
    """A formula without its value in the file."""

    def problem(self, _advice: str) -> str:
        """What is wrong with the cell, in any column, and what to do."""
        return (
            "is a formula without a stored value. Open the file in a spreadsheet program and save "
            "it."
        )


#: A cell of a source: Google's JSON value, with fractions as Decimal, or the text in a CSV file.
#: A formula error is its text, such as "#REF!". The other types are cells that cannot be used.
Cell = (
    str | int | float | Decimal | bool | DateCell | LongCell | PercentCell | UncalculatedCell | None
)


class Merge(NamedTuple):
    """A merged range, with its last row and column included; all are indices from 0."""

    row1: int
    column1: int
    row2: int
    column2: int


@dataclass(frozen=True, slots=True)
class Grid:
    """The rows of a sheet. Row 1 of the sheet is `rows[0]`; blank cells at the end are left out.

    `hidden_rows` are sheet rows, from 1. `is_csv` and `delimiter` are for the checks of files in
    which an unquoted comma splits an amount. `is_xlsx` is set for Excel files, in which a blank
    amount may be a formula that was not calculated.
    """

    rows: Sequence[Sequence[Cell]]
    merges: tuple[Merge, ...] = ()
    hidden_rows: frozenset[int] = frozenset()
    delimiter: str | None = None
    is_xlsx: bool = False

    @property
    def is_csv(self) -> bool:
        """Whether the cells are the texts of a CSV file."""
        return self.delimiter is not None
