"""Checks the XML of a worksheet, and finds what python-calamine does not tell about its cells.

python-calamine returns errors and formulas without a stored value as empty text, and knows neither
hidden rows nor number formats. It stores a rectangle around all used cells, and a copy of a shared
text in each cell, both of which a small file can ask for in any size.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from typing import NamedTuple

from budget_sync.sync.limits import (
    HEADER_WITHIN_ROWS,
    MAX_AREA_CELLS,
    MAX_CELLS,
    MAX_ROWS,
    MAX_TEXT_CHARS,
    size_problem,
)
from budget_sync.sync.number_formats import NumberFormat
from budget_sync.sync.reading.grid import Merge, UncalculatedCell
from budget_sync.sync.source import FetchError
from budget_sync.sync.xlsx.package import DamagedFileError
from budget_sync.sync.xlsx.xml import Attributes, XmlReader, is_true

MAX_COLUMNS = 16_384
_MAX_SHEET_ROWS = 1_048_576
_MAX_MERGES = 100_000
_MAX_SHOWN_CHARS = 40

_REFERENCE = re.compile(r"([A-Z]{1,3})([1-9][0-9]{0,6})")
_DIGITS = "0123456789"
_TYPES = frozenset(("n", "s", "str", "b", "e", "d", "inlineStr"))
_COLLECTED_TYPES = frozenset(("s", "e", "d"))

# The errors that python-calamine knows. It rejects a file with another one.
_KNOWN_ERRORS = frozenset(("#DIV/0!", "#N/A", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!"))

#: What takes the place of a cell's value: an error's text, or a formula without a value.
Replacement = str | UncalculatedCell


class IsoDate(NamedTuple):
    """A date that the file stores as text."""

    text: str


#: What is special about a cell: its replacement, a date in text, or the format of its number.
Special = Replacement | IsoDate | NumberFormat


class SharedTexts(XmlReader):
    """Counts the characters of each shared text; phonetic hints are left out."""

    def __init__(self) -> None:
        super().__init__()
        self.lengths = array("q")
        self._hints = 0

    def start(self, name: str, _attributes: Attributes) -> None:
        """Begin a text, or a part of one."""
        if name == "t" and not self._hints:
            self.collect()
        elif name == "si":
            self.lengths.append(0)
        elif name == "rPh":
            self._hints += 1

    def end(self, name: str) -> None:
        """Count a part of a text."""
        if name == "t" and not self._hints and self.lengths:
            self.lengths[-1] += len(self.collected())
        elif name == "rPh":
            self._hints -= 1


class SheetScan(XmlReader):
    """Scans one worksheet. Rows and columns are indices from 0."""

    def __init__(
        self,
        formats: Sequence[NumberFormat | None],
        shared: Sequence[int],
        *,
        recalculates: bool,
    ) -> None:
        """`formats` are those of the styles, `shared` the lengths of the shared texts."""
        super().__init__()
        self.forbid_markup_in_texts()
        self.specials: dict[int, dict[int, Special]] = {}
        #: The bytes from the start tag to the end tag of values that python-calamine rejects.
        self.unknown_errors: list[tuple[int, int]] = []
        self.hidden: list[int] = []
        self.row_count = 0
        self.column_count = 0
        self._formats = {str(index): each for index, each in enumerate(formats) if each}
        self._shared = shared
        self._recalculates = recalculates
        self._merges: list[Merge] = []
        self._columns: dict[str, int] = {}
        self._cells = 0
        self._chars = 0
        self._row = -1
        self._row_text = ""
        self._row_cells = 0
        self._is_in_cell = False
        self._column = -1
        self._type = "n"
        self._format: NumberFormat | None = None
        self._has_formula = False
        self._value: str | None = None
        self._value_start = 0
        self._is_collecting = False

    def start(self, name: str, attributes: Attributes) -> None:
        """Begin a row, a cell, or a part of one."""
        if name == "v":
            if self._is_in_cell:
                self._start_value()
        elif name == "c":
            self._start_cell(attributes)
        elif name == "f":
            self._has_formula = True
        elif name == "is":
            if self._is_in_cell:
                self._use_cell()
        elif name == "row":
            self._start_row(attributes)
        elif name == "mergeCell":
            self._add_merge(attributes.get("ref", ""))

    def end(self, name: str) -> None:
        """End a row, a cell, or its value."""
        if name == "v":
            if self._is_collecting:
                self._is_collecting = False
                self._value = self.collected()
                if self._type == "e" and self._value and self._value not in _KNOWN_ERRORS:
                    self.unknown_errors.append((self._value_start, self.position()))
        elif name == "c" and self._is_in_cell:
            self._is_in_cell = False
            special = self._special()
            if special is not None:
                self.specials.setdefault(self._row, {})[self._column] = special
        elif name == "row":
            self._end_row()

    def merges(self) -> tuple[Merge, ...]:
        """The merged ranges within the used cells. Raises FetchError if two of them overlap."""
        found = [
            each
            for each in self._merges
            if each.row1 < self.row_count and each.column1 < self.column_count
        ]
        merges = [
            Merge(
                each.row1,
                each.column1,
                min(each.row2, self.row_count - 1),
                min(each.column2, self.column_count - 1),
            )
            for each in found
        ]
        taken = bytearray(self.row_count * self.column_count)
        for original, merge in zip(found, merges, strict=True):
            width = merge.column2 - merge.column1 + 1
            for row in range(merge.row1, merge.row2 + 1):
                start = row * self.column_count + merge.column1
                if taken.find(1, start, start + width) >= 0:
                    raise FetchError(
                        f"The merged cells {_name(original)} overlap others. Unmerge them, and "
                        "save the file again."
                    )
                taken[start : start + width] = b"\1" * width
        return tuple(sorted(merges))

    def _start_row(self, attributes: Attributes) -> None:
        text = attributes.get("r")
        previous = self._row
        self._row = previous + 1 if text is None else _row_index(text)
        if not previous < self._row < _MAX_SHEET_ROWS:
            raise DamagedFileError("its rows are not in order")
        self._row_text = text or str(self._row + 1)
        self._row_cells = 0
        self._column = -1
        if is_true(attributes.get("hidden")) or attributes.get("ht") == "0":
            self.hidden.append(self._row)

    def _start_cell(self, attributes: Attributes) -> None:
        reference = attributes.get("r")
        previous = self._column
        if reference is None:
            self._column = previous + 1
        else:
            letters = reference.rstrip(_DIGITS)
            column = self._columns.get(letters)
            self._column = self._learn(letters) if column is None else column
            if reference[len(letters) :] != self._row_text:
                raise DamagedFileError("a cell is not in its row")
        if self._column >= MAX_COLUMNS:
            raise DamagedFileError(f"it has more than {MAX_COLUMNS:,} columns")
        if self._column <= previous or self._row < 0 or self._is_in_cell:
            raise DamagedFileError("its cells are not in order")
        self._is_in_cell = True
        self._type = attributes.get("t", "n")
        self._format = self._formats.get(attributes.get("s", "0"))
        self._has_formula = False
        self._value = None

    def _learn(self, letters: str) -> int:
        """The index of a column, which is then known."""
        if not _REFERENCE.fullmatch(f"{letters}1"):
            raise DamagedFileError("a cell has no column")
        column = self._columns[letters] = _column_index(letters)
        return column

    def _start_value(self) -> None:
        self._use_cell()
        self._value = ""
        if self._has_formula or self._type in _COLLECTED_TYPES:
            self._is_collecting = True
            self._value_start = self.position()
            self.collect()

    def _use_cell(self) -> None:
        """Count the current cell as used."""
        if self._column >= self._row_cells:
            self._row_cells = self._column + 1

    def _end_row(self) -> None:
        """Count a row. Raises FetchError if there are too many rows or used cells."""
        if not self._row_cells:
            return
        self._cells += self._row_cells
        self.row_count = self._row + 1
        self.column_count = max(self.column_count, self._row_cells)
        spare_cells = HEADER_WITHIN_ROWS * MAX_CELLS // MAX_ROWS
        problem = size_problem(self.row_count - HEADER_WITHIN_ROWS, self._cells - spare_cells)
        if problem:
            raise FetchError(problem)
        if self.row_count * self.column_count > MAX_AREA_CELLS:
            raise FetchError(
                f"The sheet's used cells reach to {_letters(self.column_count - 1)}"
                f"{self.row_count}, and almost all of them are empty. Delete the columns and rows "
                "that do not belong to the budgets."
            )

    def _special(self) -> Special | None:
        """What is special about the cell that ends here."""
        kind, value = self._type, self._value
        if kind == "s" and value is not None:
            self._count_text(value)
        elif kind not in _TYPES:
            raise DamagedFileError("a cell has an unknown type")
        if self._has_formula:
            is_empty = not value and kind != "str"
            if value is None or is_empty or (self._recalculates and value == "0"):
                # Programs that do not calculate store no value, or 0 and a request to calculate.
                self._use_cell()
                return UncalculatedCell()
        if kind == "e":
            return (value or "#ERROR!")[:_MAX_SHOWN_CHARS]
        if kind == "d" and value:
            return IsoDate(value[:_MAX_SHOWN_CHARS])
        return self._format if kind == "n" and value is not None else None

    def _count_text(self, index: str) -> None:
        if not (index.isascii() and index.isdecimal() and len(index) < 10):
            raise DamagedFileError("a text is missing")
        try:
            self._chars += self._shared[int(index)]
        except IndexError:
            raise DamagedFileError("a text is missing") from None
        if self._chars > MAX_TEXT_CHARS:
            raise FetchError(
                f"The sheet has more than {MAX_TEXT_CHARS:,} characters: remove the columns with "
                "long texts."
            )

    def _add_merge(self, reference: str) -> None:
        if len(self._merges) >= _MAX_MERGES:
            raise DamagedFileError(f"it has more than {_MAX_MERGES:,} merged cells")
        first, _, last = reference.partition(":")
        row1, column1 = _position(first)
        row2, column2 = _position(last or first)
        if row2 < row1 or column2 < column1:
            raise DamagedFileError("a merged range ends before it begins")
        if (row1, column1) != (row2, column2):
            self._merges.append(Merge(row1, column1, row2, column2))


def _row_index(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise DamagedFileError("a row has no number")
    return int(text) - 1


def _position(reference: str) -> tuple[int, int]:
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        raise DamagedFileError("a merged range is unknown")
    return int(found[2]) - 1, _column_index(found[1])


def _column_index(letters: str) -> int:
    index = 0
    for letter in letters:
        index = index * 26 + ord(letter) - 64
    return index - 1


def _letters(column: int) -> str:
    """The letters of a column."""
    text = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        text = chr(65 + rest) + text
    return text


def _name(merge: Merge) -> str:
    """A range such as B2:C4."""
    first = f"{_letters(merge.column1)}{merge.row1 + 1}"
    return f"{first}:{_letters(merge.column2)}{merge.row2 + 1}"
