"""Steps 0 and 1: the encoding and the delimiter of a CSV file. Pure."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections import Counter
from typing import Literal

from budget_sync.domain.periods import FiscalYear
from budget_sync.sync.reading.decode import (
    decode_text,
    encodings,
    sep_line,
    split_lenient,
    without_spaces_after_quotes,
)
from budget_sync.sync.reading.detect.findings import Findings, Refused
from budget_sync.sync.reading.detect.header import find_header
from budget_sync.sync.reading.grid import Grid
from budget_sync.sync.reading.model import CsvFormat
from budget_sync.sync.reading.proposal import Question

Delimiter = Literal[",", ";", "\t", "|"]

#: In the order in which they are tried.
DELIMITERS: tuple[Delimiter, ...] = (",", ";", "\t", "|")

#: The header is searched in this much of the file with each delimiter.
_HEAD_CHARS = 200_000
_HEAD_ROWS = 300
_COMPARED_ROWS = 200

_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f]")
#: A text file has hardly any control characters; a program has one in ten.
_MAX_CONTROL_SHARE = 0.01

_WHICH_ENCODING = "The file is not UTF-8. With which encoding are these words correct?"
_NOT_TEXT = "The file is not text. Save the table as CSV in UTF-8, and add that file."
_PICTURES = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8")
_FORMATS = (
    (b"PK\x03\x04", "The file is an Excel file or an archive, not a CSV file. Add it as Excel."),
    (
        b"\xd0\xcf\x11\xe0",
        "The file is an old Excel file (.xls). Save it as .xlsx or as CSV, and add that file.",
    ),
    (b"%PDF", "The file is a PDF, not a CSV file. Save the table as CSV."),
    *(
        (start, "The file is a picture, not a CSV file. Save the table as CSV.")
        for start in _PICTURES
    ),
    (b"\x1f\x8b", "The file is compressed. Unpack it, and add the CSV file in it."),
)


def read_bytes(data: bytes, findings: Findings) -> tuple[Grid, CsvFormat]:
    """The cells of a CSV file and its format. Raises Refused and SheetProblem."""
    if not data.strip():
        raise Refused("The file is empty.")
    for magic, sentence in _FORMATS:
        if data.startswith(magic):
            raise Refused(sentence)
    encoding = _encoding(data, findings)
    named, text = sep_line(decode_text(data, encoding))
    head = text[:_HEAD_CHARS]
    if len(_CONTROL.findall(head)) > _MAX_CONTROL_SHARE * len(head):
        raise Refused(_NOT_TEXT)
    if not text.strip():
        raise Refused("The file is empty.")
    if named is not None:
        delimiters = [each for each in DELIMITERS if each == named]
    else:
        delimiters = _ranked_delimiters(text, findings.customer.fiscal_year)
    grid, delimiter = _first_that_parses(text, delimiters)
    return grid, CsvFormat(delimiter=delimiter, encoding=encoding, sep_line=named is not None)


def _encoding(data: bytes, findings: Findings) -> str:
    """The encoding, which is asked if it is not UTF-8 or UTF-16."""
    candidates = encodings(data)
    if len(candidates) == 1 and not candidates[0].words:
        return candidates[0].name
    examples = tuple(", ".join(each.words) for each in candidates)
    names = tuple(each.name for each in candidates)
    shown = "; ".join(f"{name}: {words}" for name, words in zip(names, examples, strict=True))
    question = Question(
        "encoding",
        f"{_WHICH_ENCODING} {shown}.",
        names,
        examples=examples,
        short_text=_WHICH_ENCODING,
    )
    return findings.ask_one(question) or candidates[0].name


def _ranked_delimiters(text: str, fiscal_year: FiscalYear) -> list[Delimiter]:
    """The delimiters that occur, by the score of the best header with each, the best first."""
    scored: list[tuple[float, float, Delimiter]] = []
    head = text[:_HEAD_CHARS]
    for delimiter in DELIMITERS:
        if delimiter not in text:
            continue
        is_whole = len(head) == len(text)
        rows = _head_rows(head, delimiter, is_whole=is_whole)
        if rows is None or (not is_whole and len(rows) < _HEAD_ROWS):
            closed = without_spaces_after_quotes(head, delimiter)
            rows = rows if closed == head else _head_rows(closed, delimiter, is_whole=is_whole)
        if rows is None:
            continue
        try:
            score = find_header(Grid(rows, delimiter=delimiter), fiscal_year)[1]
        except Refused:
            score = 0.0
        scored.append((score, _common_width(rows), delimiter))
    ranked = sorted(scored, key=lambda item: item[:2], reverse=True)
    return [delimiter for _, _, delimiter in ranked] or [DELIMITERS[0]]


def _head_rows(text: str, delimiter: str, *, is_whole: bool) -> list[list[str]] | None:
    """The first rows of a text; None if it cannot be parsed."""
    rows: list[list[str]] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows.extend(itertools.islice(reader, _HEAD_ROWS))
    except csv.Error:
        # The last row of a beginning may be cut inside a quoted cell.
        return None if is_whole or not rows else rows
    return rows


def _common_width(rows: list[list[str]]) -> float:
    """The share of rows that have the commonest width."""
    filled = [row for row in rows if any(row)][:_COMPARED_ROWS]
    widths = Counter(map(len, filled))
    return widths.most_common(1)[0][1] / len(filled) if filled else 0.0


def _first_that_parses(text: str, delimiters: list[Delimiter]) -> tuple[Grid, Delimiter]:
    for delimiter in delimiters:
        try:
            return Grid(split_lenient(text, delimiter), delimiter=delimiter), delimiter
        except csv.Error:
            continue
    raise Refused("The file cannot be split into columns. A quote may not be closed.")
