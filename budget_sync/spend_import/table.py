"""Reads a file of spends: its bytes -> rows of cells, and the column of each heading. Pure."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.names import fold
from budget_sync.sync.limits import HEADER_WITHIN_ROWS, MAX_BYTES, size_problem
from budget_sync.sync.reading.decode import (
    DELIMITERS,
    LEGACY_ENCODINGS,
    decode_text,
    encodings,
    sep_line,
    split_lenient,
)
from budget_sync.sync.reading.grid import Cell, Grid
from budget_sync.sync.reading.result import SheetProblem
from budget_sync.sync.reading.values import is_blank, shown
from budget_sync.sync.source import FetchError
from budget_sync.sync.xlsx import read_xlsx
from budget_sync.sync.xlsx.package import Package
from budget_sync.sync.xlsx.workbook import read_workbook

#: The headings that a file must have, in any order and letter case.
REQUIRED: Final = ("Spend ID", "Department", "Fiscal Period", "Amount", "Date")
#: The headings that it may have.
OPTIONAL: Final = ("Vendor", "PO", "Currency")

_EXCEL = b"PK\x03\x04"
_OLD_EXCEL = b"\xd0\xcf\x11\xe0"


class FileOptions(NamedTuple):
    """The operator's answers about a file. None means that the file decides."""

    encoding: str | None = None
    worksheet: str | None = None


class Line(NamedTuple):
    """A row of the file that is not blank, with its number."""

    number: int
    cells: Sequence[Cell]


class Table(NamedTuple):
    """The rows of a file, and the place of each column. `header_row` counts from 1."""

    grid: Grid
    header_row: int
    columns: Mapping[str, int]
    notes: tuple[str, ...] = ()
    from_1904: bool = False

    @property
    def width(self) -> int:
        """The number of columns up to the last one with a heading."""
        header = self.grid.rows[self.header_row - 1]
        return max(place for place, cell in enumerate(header, start=1) if not is_blank(cell))

    def lines(self) -> Iterator[Line]:
        """The rows below the header that are not blank."""
        for number, cells in enumerate(self.grid.rows[self.header_row :], self.header_row + 1):
            if not all(map(is_blank, cells)):
                yield Line(number, cells)

    def cell(self, line: Line, heading: str) -> Cell:
        """The cell of a row in a column; None if the file does not have it."""
        place = self.columns.get(heading)
        return line.cells[place] if place is not None and place < len(line.cells) else None

    def column(self, heading: str) -> Iterator[Cell]:
        """All cells of a column below the header."""
        return (self.cell(line, heading) for line in self.lines())


def read_table(data: bytes, options: FileOptions) -> Table:
    """The table in a CSV or an Excel file.

    Raises RequestError INVALID_REQUEST, which says what to do, if the file cannot be read or a
    column is missing.
    """
    if len(data) > MAX_BYTES:
        raise _rejected(f"The file is larger than {MAX_BYTES // 1024 // 1024} MB. Split it.")
    if not data.strip():
        raise _rejected("The file is empty.")
    if data.startswith(_OLD_EXCEL):
        raise _rejected("The file is an old Excel file (.xls). Save it as .xlsx or as CSV.")
    try:
        table = _excel(data, options) if data.startswith(_EXCEL) else _csv(data, options)
    except (SheetProblem, FetchError) as problem:
        raise _rejected(str(problem)) from None
    rows = table.grid.rows[table.header_row :]
    if problem_with_size := size_problem(len(rows), sum(map(len, rows))):
        raise _rejected(problem_with_size)
    return table


def _rejected(sentence: str) -> RequestError:
    return RequestError(Code.INVALID_REQUEST, sentence)


def _excel(data: bytes, options: FileOptions) -> Table:
    sheet = read_xlsx(data, options.worksheet)
    if sheet.name is None:
        names = ", ".join(sheet.worksheets)
        raise _rejected(f"The file has several worksheets: {names}. Name one with --worksheet.")
    from_1904 = read_workbook(Package(data)).from_1904
    return _with_header([sheet.grid])._replace(from_1904=from_1904)


def _csv(data: bytes, options: FileOptions) -> Table:
    encoding, note = _encoding(data, options.encoding)
    named, text = sep_line(decode_text(data, encoding))
    grids, problem = [], None
    for delimiter in (named,) if named else DELIMITERS:
        if delimiter not in text:
            continue
        try:
            grids.append(Grid(split_lenient(text, delimiter), delimiter=delimiter))
        except csv.Error as error:
            problem = problem or error
    if not grids and problem is not None:
        raise _rejected(f"The file cannot be split into columns: {problem}. Save it again as CSV.")
    return _with_header(grids)._replace(notes=(note,) if note else ())


def _encoding(data: bytes, chosen: str | None) -> tuple[str, str]:
    """The encoding of a file, and a note if it was not certain."""
    found = encodings(data)
    if not found[0].words:
        return found[0].name, ""
    names = [each.name for each in found]
    if chosen is not None:
        return chosen, ""
    first = found[names.index("cp1252") if "cp1252" in names else 0]
    words = ", ".join(first.words)
    others = ", ".join(name for name in LEGACY_ENCODINGS if name != first.name)
    return first.name, (
        f"The file is not UTF-8. It was read as {first.name}: {words}. If these words are wrong, "
        f"give another --encoding ({others})."
    )


def _with_header(grids: Sequence[Grid]) -> Table:
    """The table with a header that has all columns. Raises RequestError INVALID_REQUEST."""
    missing: list[str] = list(REQUIRED)
    for grid in grids:
        for number, cells in enumerate(grid.rows[:HEADER_WITHIN_ROWS], start=1):
            columns = _columns(cells)
            absent = [heading for heading in REQUIRED if heading not in columns]
            if not absent:
                return Table(grid, number, columns)
            missing = min(missing, absent, key=len)
    needed = ", ".join((*REQUIRED, *OPTIONAL[:2]))
    lacks = "has no header" if len(missing) == len(REQUIRED) else f"lacks {', '.join(missing)}"
    raise _rejected(f"The file {lacks}. Its columns must be named {needed}; the last two may lack.")


def _columns(cells: Sequence[Cell]) -> dict[str, int]:
    """The places of our headings in a row. Raises RequestError for one that is there twice."""
    columns: dict[str, int] = {}
    for place, cell in enumerate(cells):
        heading = _HEADINGS.get(_key(shown(cell)))
        if heading in columns:
            raise _rejected(f"The file has two columns named {heading}. Remove or rename one.")
        if heading is not None:
            columns[heading] = place
    return columns


def _key(heading: str) -> str:
    """How a heading is compared: "SPEND_ID" is "Spend ID"."""
    return "".join(letter for letter in fold(heading[:100]) if letter.isalnum())


_HEADINGS: Final = {_key(heading): heading for heading in (*REQUIRED, *OPTIONAL)}
