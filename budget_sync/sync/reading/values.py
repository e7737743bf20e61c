"""Reads the other cells of a row: periods, currencies, filters and amounts. Pure.

Each is a dict that reads a text once and every other cell each time: 1, 1.0 and TRUE are equal as
keys of a dict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from enum import Enum
from typing import Final, NamedTuple

from budget_sync.domain.money import MoneyError, currency_exponent
from budget_sync.domain.names import fold
from budget_sync.domain.periods import FiscalYear, Settled, read_period, read_year_and_part
from budget_sync.sync.limits import MAX_CELL_CHARS, MAX_QUOTED_CHARS, cut, quoted
from budget_sync.sync.reading.amounts import AmountReader, CellError, reject_unfinished, sentence
from budget_sync.sync.reading.grid import Cell, DateCell, LongCell, PercentCell, UncalculatedCell
from budget_sync.sync.reading.header import digits
from budget_sync.sync.reading.model import Filter, PeriodColumn
from budget_sync.sync.reading.names import visible

MAX_PERIOD_CHARS: Final = 100

_YEARS: Final = range(1900, 2100)


class Period(NamedTuple):
    """A period as written and its key; both are blank if there is a problem.

    The problem is a sentence.
    """

    text: str
    key: str
    problem: str | None = None


class Periods(dict[Cell, Period]):
    """The periods of the cells of one sheet."""

    def __init__(self, fiscal_year: FiscalYear, settled: Settled) -> None:
        super().__init__()
        self._fiscal_year = fiscal_year
        self._settled = settled

    def __missing__(self, cell: Cell) -> Period:
        """Read the cell."""
        try:
            period = self.of_text(period_text(cell))
        except CellError as error:
            period = Period("", "", f"Period {error}")
        if isinstance(cell, str):
            self[cell] = period
        return period

    def of_text(self, text: str) -> Period:
        """The period of a text."""
        if not text:
            return Period("", "", "Period is blank. Enter a period such as Q1 2025.")
        found = read_period(text, self._fiscal_year, self._settled)
        if found.key is None:
            return Period("", "", f"Period {quoted(text)} {found.problem}")
        return Period(self._with_year(text, found.key), found.key)

    def _with_year(self, text: str, key: str) -> str:
        """The text, with the settled year if it has no other one: it has that key by itself."""
        year, without = self._settled.year, self._settled._replace(year=None)
        if not year or read_period(text, self._fiscal_year, without).key:
            return text
        # "Jul 2026" is another month than the July of the fiscal year 2026.
        plain = f"{text} {year}"
        is_same = read_period(plain, self._fiscal_year, without).key == key
        return plain if is_same else f"{text} FY{year}"


class YearsAndParts(dict[tuple[Cell, Cell], Period]):
    """The periods of a year column and its column of quarters or months."""

    def __init__(self, column: PeriodColumn, fiscal_year: FiscalYear, settled: Settled) -> None:
        super().__init__()
        self._part_kind = column.part_kind or "quarter"
        self._fiscal_year = fiscal_year
        self._settled = settled

    def __missing__(self, cells: tuple[Cell, Cell]) -> Period:
        """Read both cells. The text is the key: "Jul 2026" can be a month of another year."""
        try:
            year, part = (period_text(cell, is_part=place == 1) for place, cell in enumerate(cells))
        except CellError as error:
            return Period("", "", f"Period {error}")
        if not year or not part:
            period = Period("", "", "Period is blank. Enter a period such as Q1 2025.")
        else:
            found = read_year_and_part(
                year, part, self._part_kind, self._fiscal_year, self._settled
            )
            if found.key is None:
                period = Period("", "", f"Period {quoted(f'{year} {part}')} {found.problem}")
            else:
                period = Period(found.key, found.key)
        if all(isinstance(cell, str) for cell in cells):
            self[cells] = period
        return period


def period_text(cell: Cell, *, is_part: bool = False) -> str:
    """The text of a period's cell. Raises CellError, with what follows "Period"."""
    if cell is None:
        return ""
    if isinstance(cell, str):
        text = visible(cell[: MAX_CELL_CHARS + 1])
        if len(text) > MAX_PERIOD_CHARS:
            raise CellError(f"is longer than {MAX_PERIOD_CHARS} characters. Shorten it.")
        reject_unfinished(text)
        if not text.isprintable():
            raise CellError(f"has control characters ({text!a}). Type it again.")
        return text
    if isinstance(cell, bool):
        raise CellError(f"is {str(cell).upper()}. Enter a period such as Q1 2025.")
    if isinstance(cell, DateCell) and cell.shown is not None:
        raise CellError(
            f"is {quoted(cell.shown)}, which the sheet stores as a date. Format it as plain text."
        )
    if isinstance(cell, DateCell | LongCell | PercentCell | UncalculatedCell):
        raise CellError(sentence(cell.problem("format it as plain text")))
    text = digits(cell)
    is_known = text.isdecimal() and (is_part or int(text) in _YEARS)
    if not is_known:
        shown = cut(text, MAX_QUOTED_CHARS)
        raise CellError(f"is the number {shown}. Enter text such as Q1 2025.")
    return text


class Currency(NamedTuple):
    """A currency code; blank if there is a problem, which is a sentence."""

    code: str
    problem: str | None = None


class Currencies(dict[Cell, Currency]):
    """The currencies of the cells of one sheet. A blank cell has the customer's currency."""

    def __init__(self, default: str, words: Mapping[str, str]) -> None:
        super().__init__()
        self._default = Currency(default)
        self._words = {fold(word): code for word, code in words.items()}

    def __missing__(self, cell: Cell) -> Currency:
        """Read the cell."""
        found = self._read(cell)
        if isinstance(cell, str):
            self[cell] = found
        return found

    def _read(self, cell: Cell) -> Currency:
        if cell is None:
            return self._default
        if not isinstance(cell, str):
            return Currency("", f"Currency is {quoted(shown(cell))}. Enter a code such as USD.")
        text = visible(cell[:MAX_CELL_CHARS])
        if not text:
            return self._default
        code = self._words.get(fold(text)) or text.upper()
        try:
            currency_exponent(code)
        except MoneyError:
            try:
                reject_unfinished(text)
            except CellError as error:
                return Currency("", f"Currency {error}")
            return Currency("", f"Currency is {quoted(text)}. Enter a code such as USD.")
        return Currency(code)


class Verdict(Enum):
    """Whether a row counts, by the value of a filter's column."""

    KEPT = "kept"
    LEFT_OUT = "left out"
    UNKNOWN = "unknown"


class FilterValues(dict[Cell, Verdict]):
    """What the values of a filter's column say."""

    def __init__(self, rule: Filter) -> None:
        super().__init__()
        self.column = rule.column
        self._verdicts = {fold(value): Verdict.LEFT_OUT for value in rule.left_out}
        self._verdicts |= {fold(value): Verdict.KEPT for value in rule.kept}

    def __missing__(self, cell: Cell) -> Verdict:
        """Read the cell."""
        value = fold(shown(cell)[:MAX_CELL_CHARS])
        verdict = self._verdicts.get(value, Verdict.UNKNOWN)
        if isinstance(cell, str):
            self[cell] = verdict
        return verdict


class Amounts(dict[Cell, "int | CellError | None"]):
    """The amounts of the cells of one sheet in one currency, times SCALE.

    None stands for a blank cell, and for a text that means "no amount".
    """

    def __init__(self, reader: AmountReader, currency: str, blanks: Iterable[str]) -> None:
        super().__init__()
        self._reader = reader
        self._common = reader.common
        self._currency = currency
        self._blanks = frozenset(map(fold, blanks))

    def __missing__(self, cell: Cell) -> int | CellError | None:
        """Read the cell."""
        if not isinstance(cell, str):
            return self._read(cell)
        found: int | CellError | None = self._common(cell, self._currency)
        if found is None and not self._is_blank(cell):
            found = self._read(cell)
        self[cell] = found
        return found

    def _read(self, cell: Cell) -> int | CellError | None:
        if cell is None:
            return None
        try:
            return self._reader.scaled(cell, self._currency)
        except CellError as error:
            # The traceback would keep all frames in memory, for each bad amount of a sheet.
            return error.with_traceback(None)

    def _is_blank(self, text: str) -> bool:
        text = visible(text[: MAX_CELL_CHARS + 1])
        return not text or (bool(self._blanks) and fold(text) in self._blanks)


def shown(cell: Cell) -> str:
    """The text of a cell for comparison and for messages; blank for a cell without one."""
    if isinstance(cell, str):
        return visible(cell[:MAX_CELL_CHARS])
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, int | float | Decimal):
        return digits(cell)
    if isinstance(cell, PercentCell):
        return f"{digits(Decimal(str(cell.number)) * 100)}%"
    return (cell.shown or "") if isinstance(cell, DateCell) else ""


def is_blank(cell: Cell) -> bool:
    """Whether a cell is empty or contains only spaces."""
    return cell is None or (isinstance(cell, str) and not cell.strip())
