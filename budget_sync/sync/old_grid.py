"""The cells of a fetched source as `read_rows` takes them, until `apply` reads all sources."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from budget_sync.sync.cells import known_locale
from budget_sync.sync.fetch import Fetched
from budget_sync.sync.limits import (
    MAX_BYTES,
    MAX_CELLS,
    MAX_ROWS,
    size_problem,
    without_trailing_blanks,
)
from budget_sync.sync.reading.grid import PercentCell
from budget_sync.sync.rows import HEADER_WITHIN_ROWS, Grid
from budget_sync.sync.source import DEFAULT_LOCALE, FetchError, Source

DELIMITERS = ",;\t"

# A longer cell is a row error, as in a Google Sheet. Python's own limit would fail the whole file.
csv.field_size_limit(MAX_BYTES)

# What is read to find the delimiter.
_HEAD_LINES = 10
_HEAD_CHARS = 100_000

# What `surrogateescape` puts in place of a byte that is not UTF-8, and all other characters that
# are not ASCII.
_UNDECODED = re.compile("[\udc80-\udcff]")
_DECODED = re.compile("[^\x00-\x7f\udc80-\udcff]")


@dataclass(frozen=True, slots=True)
class OldFetched:
    """The cells of a source, and how they are read."""

    grid: Grid
    title: str
    locale: str
    ragged_is_error: bool = False
    gid: int | None = None
    note: str | None = None


def as_rows(fetched: Fetched, source: Source) -> OldFetched:
    """The cells of a fetched source. Raises FetchError."""
    if isinstance(fetched.source, bytes):
        return csv_rows(fetched.source, source)
    locale = source.locale or known_locale(fetched.locale or "") or DEFAULT_LOCALE
    grid = [
        [cell.number if isinstance(cell, PercentCell) else cell for cell in row]
        for row in fetched.source.rows
    ]
    return OldFetched(grid, fetched.title, locale, gid=fetched.gid)  # type: ignore[arg-type]


def csv_rows(data: bytes, source: Source) -> OldFetched:
    """The cells of a CSV file. Raises FetchError."""
    text, note = _decode(data)
    delimiter, text = _delimiter(text)
    try:
        # Strict: an unclosed quote would swallow the rest of the file, and missing rows are
        # deletions.
        grid = _read_grid(text, delimiter)
    except csv.Error as error:
        raise FetchError(
            f"The CSV file cannot be read: {error}. Save it again from the spreadsheet program."
        ) from None
    locale = source.locale or DEFAULT_LOCALE
    return OldFetched(grid, "the CSV file", locale, ragged_is_error=True, note=note)


def _read_grid(text: str, delimiter: str) -> list[Sequence[str]]:
    """The cells of a text, without blank cells and rows at the end.

    Reading ends with FetchError when there are too many rows or cells, before they fill the memory.
    Raises csv.Error.
    """
    # read_rows counts exactly. This also counts the header and what precedes it.
    rows_left = MAX_ROWS + HEADER_WITHIN_ROWS
    cells_left = MAX_CELLS + HEADER_WITHIN_ROWS * MAX_CELLS // MAX_ROWS
    lines = _Lines(text, delimiter)
    grid: list[Sequence[str]] = []
    blank_rows = 0
    for row in csv.reader(lines, delimiter=delimiter, strict=True):
        lines.cells_in_row = 0
        cells = without_trailing_blanks(row)
        if not cells:
            blank_rows += 1
            if blank_rows > MAX_CELLS:
                raise FetchError(size_problem(blank_rows, 0) or "")
            continue
        rows_left -= blank_rows + 1
        cells_left -= len(cells)
        if rows_left < 0 or cells_left < 0:
            raise FetchError(
                size_problem(MAX_ROWS + (rows_left < 0), MAX_CELLS + (cells_left < 0)) or ""
            )
        grid += [()] * blank_rows
        grid.append(cells)
        blank_rows = 0
    return grid


class _Lines:
    """The lines of a text, for csv.reader. FetchError ends a row with too many cells.

    The reader returns a row only when it has all of its cells.
    """

    def __init__(self, text: str, delimiter: str) -> None:
        self._lines = io.StringIO(text, newline="")
        self._delimiter = delimiter
        self.cells_in_row = 0

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.cells_in_row += line.count(self._delimiter)
            if self.cells_in_row > MAX_CELLS:
                raise FetchError(size_problem(0, self.cells_in_row) or "")
            yield line


def _decode(data: bytes) -> tuple[str, str | None]:
    """The text, and a note if its encoding was guessed.

    Raises FetchError if the encoding is unknown or the text is damaged.
    """
    unknown = FetchError("The CSV file's encoding is unknown: save it as UTF-8.")
    try:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            return data.decode("utf-16"), None
        text = data.decode("utf-8-sig", errors="surrogateescape")
    except UnicodeDecodeError:
        raise unknown from None
    if "\0" in text:
        raise unknown
    if text.isascii() or not _UNDECODED.search(text):
        return text, None
    # A file with valid UTF-8 next to broken bytes is damaged and not in another encoding. Read as
    # Windows-1252, its names would be garbled into new names.
    if _DECODED.search(text):
        raise FetchError("The CSV file is damaged UTF-8: save it again.")
    try:
        return data.decode("cp1252"), "read as Windows-1252, because it is not UTF-8"
    except UnicodeDecodeError:
        raise unknown from None


def _delimiter(text: str) -> tuple[str, str]:
    """The delimiter, and the text without Excel's `sep=` line.

    Without that line, the delimiter is the one that splits a line of the first ten into the most
    cells.
    """
    first, _, rest = text.partition("\n")
    named = first.rstrip("\r").removeprefix("sep=")
    if first.startswith("sep=") and named in tuple(DELIMITERS):
        # The line is dropped because Excel does not count it in its row numbers.
        return named, rest
    head = text[: _HEAD_LINES * _HEAD_CHARS].split("\n", _HEAD_LINES)[:_HEAD_LINES]
    lines = [line[:_HEAD_CHARS] for line in head]

    def width(delimiter: str) -> int:
        try:
            return max(map(len, csv.reader(lines, delimiter=delimiter)), default=0)
        except csv.Error:
            return 0

    return max(DELIMITERS, key=width), text
