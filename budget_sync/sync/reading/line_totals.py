"""Totals among the lines of a department: rows with its name and a total word elsewhere. Pure.

Such a row reads `Parks, Travel - Total, 900`: without a look at the other columns it is a line, and
the money counts twice. It is left out if it is the sum of lines above it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from budget_sync.sync.limits import quoted
from budget_sync.sync.reading.grid import Cell
from budget_sync.sync.reading.headings import words_of
from budget_sync.sync.reading.rows import Row, Sheet
from budget_sync.sync.reading.running_totals import Amounts, Sum, equal
from budget_sync.sync.reading.totals import is_pure_total
from budget_sync.sync.reading.values import is_blank

#: A total of one sheet is compared with the sums of at most this many lines in all.
_MAX_LOOKS: Final = 1_000_000

#: A text that begins or ends with such a word reads like a total. "Overall planning" does not.
_TOTAL_WORDS: Final = frozenset(
    (
        *("total", "totals", "totale", "totales", "totaux", "totaal", "subtotal", "subtotals"),
        *("summe", "summa", "suma", "gesamtsumme", "zwischensumme", "insgesamt", "gesamt"),
    )
)

#: Rows are looked at column by column if their cells are at least one in so many.
_MAX_PADDED: Final = 4

#: Texts without such a word need no closer look.
_HINT: Final = re.compile("tota|sum|gesamt", re.IGNORECASE)


class LineTotals:
    """The total rows of one sheet by the texts of columns that the reading does not use.

    `is_needed` is False if no text of such a column reads like a total.
    """

    def __init__(self, sheet: Sheet, rows: Sequence[Sequence[Cell]]) -> None:
        self._sheet = sheet
        self._words = _total_texts(sheet, rows)
        self.is_needed = bool(self._words)
        self._department: str | None = None
        self._lines: dict[str, list[Amounts]] = {}
        self._looks_left = _MAX_LOOKS
        #: Columns with a total of several lines, and the rows that are equal to one line.
        self._sure: set[int] = set()
        self._single: list[tuple[Row, int]] = []
        self._doubtful: list[tuple[Row, int]] = []

    def column(self, cells: Sequence[Cell]) -> int | None:
        """The index of the column in which a row reads like a total; None if it does not."""
        count = len(cells)
        for column, texts in self._words.items():
            if column < count and cells[column] in texts:
                return column
        return None

    def add(self, department: str, period: str, amounts: Amounts) -> None:
        """Add a line by the keys of its department and its first period."""
        self._department = department
        self._lines.setdefault(period, []).append(tuple(amounts))

    def skips(self, row: Row, column: int) -> bool:
        """Whether a row is the sum of the lines directly above it.

        A smaller total counts as one line of a larger one, which may be of several departments. The
        last line must be of the row's own department. A row that is no sum is doubtful.
        """
        lines = self._lines.get(row.periods[0].key, [])
        total = row.readable_amounts
        if row.name.key == self._department and lines and not row.unreadable:
            found = Sum(len(total))
            for place in range(len(lines) - 1, -1, -1):
                if self._looks_left <= 0:
                    break
                self._looks_left -= 1
                found.add(lines[place])
                if equal(total, found.amounts):
                    if found.rows == 1:
                        self._single.append((row, column))
                    else:
                        self._sure.add(column)
                    lines[place:] = [tuple(total)]
                    return True
        self._doubtful.append((row, column))
        return False

    def finish(self) -> Verdicts:
        """What the rows are that read like totals, once all rows are known.

        A column holds totals if one of them is the sum of several lines, or if at least two rows
        are equal to one line and none is doubtful. Otherwise its rows are lines, except for those
        that read "Total" and nothing else.
        """
        doubtful = {column for _, column in self._doubtful}
        singles = Counter(column for _, column in self._single)
        sure = self._sure | {c for c, times in singles.items() if times >= 2 and c not in doubtful}
        verdicts = Verdicts([], [], [])
        for row, column in self._single:
            if column not in sure and not _is_pure(row, column):
                verdicts.lines.append(row)
                verdicts.notes.append(_note(row, column))
        for row, column in self._doubtful:
            if column in sure or _is_pure(row, column):
                problem = f"{_text(row, column)} reads like a total but is not the sum of the rows"
                verdicts.rejected.append(
                    (row, f"{problem} above. Correct its amount, or rename it.")
                )
            else:
                verdicts.notes.append(_note(row, column))
        return verdicts


class Verdicts(NamedTuple):
    """Rows that were skipped and are lines, rejected rows with their problems, and notes."""

    lines: list[Row]
    rejected: list[tuple[Row, str]]
    notes: list[str]


def _text(row: Row, column: int) -> str:
    return quoted(str(Sheet.cell(row.cells, column)).strip())


def _is_pure(row: Row, column: int) -> bool:
    return is_pure_total(str(Sheet.cell(row.cells, column)))


def _note(row: Row, column: int) -> str:
    return f"Row {row.number} ({_text(row, column)}) reads like a total. It was counted."


def _total_texts(sheet: Sheet, rows: Sequence[Sequence[Cell]]) -> dict[int, frozenset[Cell]]:
    """The texts that read like totals, by the columns that are not used."""
    used = set(sheet.columns.used)
    found: dict[int, frozenset[Cell]] = {}
    for column, texts in _cells_by_column(rows, sheet.columns.width):
        if column in used:
            continue
        totals = frozenset(text for text in texts if isinstance(text, str) and _is_total(text))
        if totals:
            found[column] = totals
    return found


def _cells_by_column(
    rows: Sequence[Sequence[Cell]], width: int
) -> Iterable[tuple[int, Collection[Cell]]]:
    """The different cells of each column, in time that is linear in the number of cells."""
    widest = min(width, max(map(len, rows), default=0))
    if widest * len(rows) <= _MAX_PADDED * sum(map(len, rows)):
        # Column by column is faster, unless most rows are short.
        return (
            (column, {row[column] for row in rows if len(row) > column}) for column in range(widest)
        )
    found: dict[int, set[Cell]] = {}
    for row in rows:
        for column, cell in enumerate(row[:widest]):
            found.setdefault(column, set()).add(cell)
    return found.items()


def _is_total(text: str) -> bool:
    """Whether a text is a total or begins or ends with a word for one: "Travel - Total*"."""
    if _HINT.search(text) is None or is_blank(text):
        return False
    words = words_of(text)
    return bool(words) and (
        words[0] in _TOTAL_WORDS or words[-1] in _TOTAL_WORDS or is_pure_total(text)
    )
