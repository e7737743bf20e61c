"""Readings of an earlier version: what they leave open, and the first sync run finds. Pure."""

from __future__ import annotations

import csv

from budget_sync.sync.reading.decode import DELIMITERS, decode_text, sep_line, split, unicode_text
from budget_sync.sync.reading.grid import Grid
from budget_sync.sync.reading.header import find_layout, match_headings, used_headings
from budget_sync.sync.reading.model import CsvFormat, CurrencyColumn, Reading
from budget_sync.sync.reading.result import SheetProblem

#: Columns that an earlier version read if the header had them.
OPTIONAL_COLUMNS = {"id": "Budget ID", "currency": "Currency", "limit": "Auto-Approve Limit"}

#: The note for a file that was read in the encoding that an earlier version assumed.
ENCODING_NOTE = "The file was read as Windows-1252, because it is not UTF-8."

_ENCODING = "cp1252"


def completed(reading: Reading, source: bytes | Grid) -> Reading:
    """The reading with the format of its file, and with the optional columns that the header has.

    Only for a reading that an upgrade confirmed. Raises SheetProblem if the sheet has no such
    header.
    """
    grid: Grid
    if isinstance(source, Grid):
        grid = source
    else:
        found = reading.file or file_format(reading, source)
        reading = reading.model_copy(update={"file": found})
        text = sep_line(decode_text(source, found.encoding))[1]
        grid = Grid(split(text, found.delimiter), delimiter=found.delimiter)
    layout = find_layout(reading, grid)
    used = set(layout.columns.values())
    update: dict[str, object] = {}
    for key, heading in OPTIONAL_COLUMNS.items():
        column = match_headings(layout.headings, [heading]).columns.get(heading)
        if getattr(reading, key) is None and column is not None and column not in used:
            update[key] = CurrencyColumn(column=heading) if key == "currency" else heading
    return reading.model_copy(update=update)


def file_format(reading: Reading, data: bytes) -> CsvFormat:
    """The format of a CSV file, in which it has the headings of the reading.

    Raises SheetProblem if no format has them.
    """
    if unicode_text(data) is not None:
        encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8"
    else:
        encoding = _ENCODING
    named, text = sep_line(decode_text(data, encoding))
    formats: list[tuple[int, CsvFormat]] = []
    problem = None
    for delimiter in DELIMITERS:
        if named not in (None, delimiter) or (named is None and delimiter not in text):
            continue
        try:
            layout = find_layout(reading, Grid(split(text, delimiter), delimiter=delimiter))
        except SheetProblem as error:
            problem = problem or error
        except csv.Error as error:
            problem = problem or SheetProblem(
                f"The CSV file cannot be read: {error}. Save it again from the spreadsheet program."
            )
        else:
            found = CsvFormat(delimiter=delimiter, encoding=encoding, sep_line=named is not None)
            formats.append((len(layout.headings), found))
    if not formats:
        headings = ", ".join(map(repr, used_headings(reading)[:3]))
        raise problem or SheetProblem(f"The file has no header with the headings {headings}.")
    return max(formats, key=lambda each: each[0])[1]
