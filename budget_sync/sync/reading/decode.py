"""Reads the bytes of a CSV file: encoding, delimiter, rows -> Grid. Pure."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from budget_sync.sync.limits import MAX_CELLS, MAX_ROWS, size_problem, without_trailing_blanks
from budget_sync.sync.reading.grid import Grid
from budget_sync.sync.reading.model import CsvFormat
from budget_sync.sync.reading.result import SheetProblem

DELIMITERS: Final = (",", ";", "\t", "|")

#: The encodings that a file may have if it is not Unicode, in the order in which they are offered.
LEGACY_ENCODINGS: Final = ("cp1252", "mac_roman", "cp1250", "cp1251", "cp1255")

#: The header is searched in this many rows, because a title or notes may precede it.
HEADER_WITHIN_ROWS: Final = 50

#: With each encoding, at most this many words of the file are shown.
_SHOWN_WORDS: Final = 5

# A longer cell is an error of its row. Python's own limit would fail the whole file.
csv.field_size_limit(64 * 1024 * 1024)

# The header and the rows above it come on top of the limits.
_MAX_LINES = MAX_ROWS + HEADER_WITHIN_ROWS
_MAX_USED_CELLS = MAX_CELLS + HEADER_WITHIN_ROWS * MAX_CELLS // MAX_ROWS

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_UTF8_MARK = b"\xef\xbb\xbf"

# What `surrogateescape` puts in place of a byte that is not UTF-8, and all other characters that
# are not ASCII.
_UNDECODED = re.compile("[\udc80-\udcff]")
_DECODED = re.compile("[^\x00-\x7f\udc80-\udcff]")

_SEP_LINE = re.compile(r"\ufeff?\"?sep=([,;\t|])\"?(?:\r\n|\n|\r|\Z)", re.IGNORECASE)
_WORD = re.compile(r"[^\s,;|\"]+")
_DAMAGED = "The CSV file is damaged UTF-8. Save it again."


class Encoding(NamedTuple):
    """An encoding in which a file can be read, and the file's own words that show the difference.

    `words` is empty if the encoding is certain.
    """

    name: str
    words: tuple[str, ...] = ()


def decode(data: bytes, file: CsvFormat) -> Grid:
    """The cells of a CSV file, read in its stored format.

    Raises SheetProblem if the file is damaged, has another encoding, or has too many rows or cells.
    """
    text = decode_text(data, file.encoding)
    _, text = sep_line(text)
    return Grid(rows_of(text, file.delimiter), delimiter=file.delimiter)


def decode_text(data: bytes, encoding: str) -> str:
    """The text of a file. A byte-order mark, or valid UTF-8, wins over the stored encoding.

    Raises SheetProblem.
    """
    text = unicode_text(data)
    if text is None:
        text = _legacy_text(data, encoding)
    return _without_nul(text)


def encodings(data: bytes) -> list[Encoding]:
    """The encodings in which the whole file can be read: one if it is Unicode, else candidates.

    Raises SheetProblem if there is none.
    """
    text = unicode_text(data)
    if text is not None:
        _without_nul(text)
        return [Encoding("utf-16" if data.startswith(_UTF16_MARKS) else "utf-8")]
    _require_undamaged(data)
    found = []
    for name in LEGACY_ENCODINGS:
        try:
            found.append(Encoding(name, _words(_without_nul(data.decode(name)))))
        except UnicodeDecodeError:
            continue
    if not found:
        raise SheetProblem("The file's encoding cannot be determined. Save it as UTF-8.")
    return found


def unicode_text(data: bytes) -> str | None:
    """The text of a file with a byte-order mark or in valid UTF-8; None for another encoding.

    Raises SheetProblem if a file with a byte-order mark is damaged.
    """
    if data.startswith(_UTF16_MARKS):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError:
            raise SheetProblem("The CSV file is damaged UTF-16. Save it again.") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        if data.startswith(_UTF8_MARK):
            raise SheetProblem(_DAMAGED) from None
        return None


def _legacy_text(data: bytes, encoding: str) -> str:
    if encoding.replace("_", "-").startswith(("utf-8", "utf-16", "utf8", "utf16")):
        _require_undamaged(data)
        raise SheetProblem(
            "The file is no longer UTF-8, and no other encoding was confirmed. Save it as UTF-8, "
            "or run reread-source."
        )
    _require_undamaged(data)
    try:
        return data.decode(encoding)
    except UnicodeError:
        raise SheetProblem(
            f"The file can no longer be read in its confirmed encoding ({encoding}). Save it as "
            "UTF-8, or run reread-source."
        ) from None
    except LookupError:
        raise SheetProblem(
            f"The encoding {encoding!r} of this source's reading is not known. Run reread-source."
        ) from None


def _require_undamaged(data: bytes) -> None:
    """Raise SheetProblem for UTF-8 in which single bytes are broken.

    In another encoding, two or more bytes in succession are rarely valid UTF-8. Read in that
    encoding, the names of a damaged file would become other names.
    """
    text = data.decode("utf-8", errors="surrogateescape")
    if _DECODED.subn("", text)[1] > _UNDECODED.subn("", text)[1]:
        raise SheetProblem(_DAMAGED)


def _without_nul(text: str) -> str:
    """The text. Raises SheetProblem if it has a NUL: it is then no text, or UTF-16 or UTF-32."""
    if "\0" in text:
        raise SheetProblem(
            "The file has NUL characters: it is not a CSV file, or its encoding is unknown. Save "
            "it as UTF-8."
        )
    return text


def _words(text: str) -> tuple[str, ...]:
    """The first words of a text that are not ASCII, each once."""
    words: dict[str, None] = {}
    for match in _WORD.finditer(text):
        word = match[0]
        if not word.isascii():
            words.setdefault(word[:40])
            if len(words) == _SHOWN_WORDS:
                break
    return tuple(words)


def sep_line(text: str) -> tuple[str | None, str]:
    """The delimiter of a first line `sep=X`, and the text without it; None and the text without.

    Excel does not count this line in its row numbers.
    """
    match = _SEP_LINE.match(text)
    if match is None:
        return None, text.removeprefix("\ufeff")
    return match[1], text[match.end() :]


def rows_of(text: str, delimiter: str) -> list[Sequence[str]]:
    """As `split_lenient`, with SheetProblem for text that cannot be split."""
    try:
        return split_lenient(text, delimiter)
    except csv.Error as error:
        raise SheetProblem(
            f"The CSV file cannot be read: {error}. Save it again from the spreadsheet program."
        ) from None


def split_lenient(text: str, delimiter: str) -> list[Sequence[str]]:
    """As `split`, also if there are spaces between a closing quote and the next delimiter."""
    try:
        return split(text, delimiter)
    except csv.Error:
        closed = without_spaces_after_quotes(text, delimiter)
        if closed == text:
            raise
        return split(closed, delimiter)


def without_spaces_after_quotes(text: str, delimiter: str) -> str:
    """The text without spaces between a closing quote and the end of its cell.

    Some programs write `"North" ;12`. Spreadsheet programs accept it.
    """
    parts = text.split('"')
    ends = (delimiter, "\r", "\n")
    # The quotes around a cell alternate; a doubled one leaves an empty part between two of them.
    for place in range(2, len(parts), 2):
        rest = parts[place].lstrip(" ")
        if rest.startswith(ends) or (not rest and place == len(parts) - 1):
            parts[place] = rest
    return '"'.join(parts)


def split(text: str, delimiter: str) -> list[Sequence[str]]:
    r"""The cells of a text, without blank cells and rows at the end.

    Lines end at \r\n, \n or \r. Reading is strict, because an unclosed quote would swallow the rest
    of the file, and missing rows are deletions. Raises csv.Error, and SheetProblem for too many
    rows or cells, before they fill the memory.
    """
    lines = text.count("\n") + text.count("\r")
    if lines > _MAX_LINES or lines + text.count(delimiter) > _MAX_USED_CELLS:
        return _split_large(text, delimiter)
    rows = [
        row if row and row[-1] else without_trailing_blanks(row)
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    ]
    while rows and not rows[-1]:
        rows.pop()
    return rows


def _split_large(text: str, delimiter: str) -> list[Sequence[str]]:
    """As `split`, for text that may have too many rows or cells.

    `apply` counts exactly. This also counts the header and what precedes it.
    """
    rows_left, cells_left = _MAX_LINES, _MAX_USED_CELLS
    lines = _Lines(text, delimiter)
    grid: list[Sequence[str]] = []
    blank_rows = 0
    for row in csv.reader(lines, delimiter=delimiter, strict=True):
        lines.cells_in_row = 0
        cells = without_trailing_blanks(row)
        if not cells:
            blank_rows += 1
            if blank_rows > MAX_CELLS:
                raise SheetProblem(size_problem(blank_rows, 0) or "")
            continue
        rows_left -= blank_rows + 1
        cells_left -= len(cells)
        if rows_left < 0 or cells_left < 0:
            problem = size_problem(MAX_ROWS + (rows_left < 0), MAX_CELLS + (cells_left < 0))
            raise SheetProblem(problem or "")
        grid += [()] * blank_rows
        grid.append(cells)
        blank_rows = 0
    return grid


class _Lines:
    """The lines of a text, for csv.reader. SheetProblem ends a row with too many cells.

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
                raise SheetProblem(size_problem(0, self.cells_in_row) or "")
            yield line
