"""Totals among the lines of a department: rows with its name and a total word elsewhere. Pure.

Such a row reads `Parks, Travel - Total, 900`: without a look at the other columns it is a line, and
the money counts twice. It is left out if it is the sum of lines above it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from budget_sync.sync.limits import quoted
from budget_sync.sync.reading.grid import Cell
from budget_sync.sync.reading.headings import words_of
from budget_sync.sync.reading.rows import Row, Sheet
from budget_sync.sync.reading.running_totals import Amounts, Sum, equal
from budget_sync.sync.reading.totals import is_pure_total, is_total_like
from budget_sync.sync.reading.values import is_blank
from budget_sync.sync.reading.vocabulary import TOTAL_WORDS

#: A total of one sheet is compared with the sums of at most this many lines in all.
_MAX_LOOKS: Final = 1_000_000

#: Texts without such a word need no closer look.
_HINT: Final = re.compile("|".join(sorted(TOTAL_WORDS)), re.IGNORECASE)


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
        self._found: set[int] = set()
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
                    lines[place:] = [tuple(total)]
                    self._found.add(column)
                    return True
        self._doubtful.append((row, column))
        return False

    def doubtful(self) -> tuple[list[tuple[Row, str]], list[str]]:
        """The rows that are neither sums nor lines with what is wrong, and notes on lines.

        A row is a line if its column has no totals that are sums.
        """
        errors: list[tuple[Row, str]] = []
        notes: list[str] = []
        for row, column in self._doubtful:
            text = quoted(str(Sheet.cell(row.cells, column)).strip())
            if column in self._found:
                problem = f"{text} reads like a total but is not the sum of the rows above."
                errors.append((row, f"{problem} Correct its amount, or rename it."))
            else:
                notes.append(f"Row {row.number} ({text}) reads like a total. It was counted.")
        return errors, notes


def _total_texts(sheet: Sheet, rows: Sequence[Sequence[Cell]]) -> dict[int, frozenset[Cell]]:
    """The texts that read like totals, by the columns that are not used."""
    used = set(sheet.columns.used)
    found: dict[int, frozenset[Cell]] = {}
    for column in range(sheet.columns.width):
        if column in used:
            continue
        texts = {row[column] for row in rows if len(row) > column}
        totals = frozenset(text for text in texts if isinstance(text, str) and _is_total(text))
        if totals:
            found[column] = totals
    return found


def _is_total(text: str) -> bool:
    """Whether a text is a total or begins or ends with a word for one: "Travel - Total*"."""
    if _HINT.search(text) is None or is_blank(text) or not is_total_like(text):
        return False
    words = words_of(text)
    return words[0] in TOTAL_WORDS or words[-1] in TOTAL_WORDS or is_pure_total(text)
