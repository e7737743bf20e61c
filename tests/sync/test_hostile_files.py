"""Hostile files: one clear sentence, or cells, within limits of memory and processor time."""

from __future__ import annotations

import io
import os
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from support.limited_reader import LimitedReader, Outcome
from support.xlsx_files import (
    MAIN,
    SHEET,
    STYLES,
    TEXTS,
    WORKBOOK,
    package,
    parts,
    sheet_xml,
    styles_xml,
    texts_xml,
    workbook_xml,
    xlsx,
)

MB = 1024 * 1024
ONE = "<row><c><v>1</v></c></row>"
DAMAGED = (
    r"The Excel file is damaged \(%s\)\. Open it in a spreadsheet program, and save it again\."
)
BOMB = (
    r"A part of the Excel file is larger than 128 MB when it is unpacked: copy the budgets into a "
    r"new file\."
)


@pytest.fixture(scope="module")
def reader() -> Iterator[LimitedReader]:
    with LimitedReader() as found:
        yield found


@pytest.fixture
def read(reader: LimitedReader, tmp_path: Path) -> Callable[..., Outcome]:
    def read(content: bytes, kind: str = "xlsx", worksheet: str | None = None) -> Outcome:
        file = tmp_path / "file"
        file.write_bytes(content)
        return reader.read(kind, file, worksheet)

    return read


def with_part(name: str, content: str | bytes) -> bytes:
    return package(parts(ONE) | {name: content})


@cache
def bomb(name: str) -> bytes:
    """A file with a part that is too large when it is unpacked."""
    return with_part(name, b" " * (130 * MB))


def with_lying_size(name: str, size: int) -> bytes:
    """A file with a bomb whose directory says that it is smaller than it is."""
    data = bytearray(bomb(name))
    at = data.rindex(b"PK\x01\x02", 0, data.rindex(name.encode()))
    data[at + 24 : at + 28] = struct.pack("<I", size)
    return bytes(data)


def with_compression(method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in parts(ONE).items():
            archive.writestr(name, content)
    return buffer.getvalue()


def encrypted_part() -> bytes:
    data = bytearray(xlsx(ONE))
    at = data.index(b"PK\x01\x02")
    while at >= 0:
        data[at + 8] |= 1
        at = data.find(b"PK\x01\x02", at + 4)
    return bytes(data)


def damaged_crc() -> bytes:
    data = bytearray(xlsx(ONE))
    at = data.rindex(b"PK\x01\x02", 0, data.rindex(SHEET.encode()))
    data[at + 16] ^= 255
    return bytes(data)


def merged(*references: str) -> bytes:
    rows = "".join("<row><c><v>1</v></c><c><v>1</v></c><c><v>1</v></c></row>" for _ in range(5))
    ranges = "".join(f'<mergeCell ref="{each}"/>' for each in references)
    return xlsx(rows, after=f"<mergeCells>{ranges}</mergeCells>")


LAUGHS = "".join(
    f'<!ENTITY l{number} "{f"&l{number - 1};" * 10}">' if number else '<!ENTITY l0 "lol">'
    for number in range(10)
)
BILLION_LAUGHS = (
    f"<!DOCTYPE x [{LAUGHS}]><worksheet><sheetData><row><c>&l9;</c></row></sheetData></worksheet>"
)
FILE_ENTITY = (
    '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]>'
    f'<sst xmlns="{MAIN}"><si><t>&f;</t></si></sst>'
)
TYPED = DAMAGED % "it declares a document type, which Excel files do not have"

# The name of a case, its file, and the pattern of the sentence.
REJECTED: dict[str, tuple[Callable[[], bytes], str]] = {
    "bomb of a worksheet": (
        lambda: bomb(SHEET),
        BOMB,
    ),
    "bomb of texts": (
        lambda: bomb(TEXTS),
        BOMB,
    ),
    "bomb with a wrong size": (
        lambda: with_lying_size(SHEET, 1000),
        DAMAGED % "a part cannot be unpacked",
    ),
    "archive in place of a part": (
        lambda: with_part(WORKBOOK, bomb(SHEET)),
        DAMAGED % "its XML is not valid",
    ),
    "20,000 parts": (
        lambda: package(parts(ONE) | {f"x{number}": "" for number in range(20_000)}),
        r"The Excel file contains more than 10,000 parts: copy the sheet into a new file\.",
    ),
    "1,000,000 columns": (
        lambda: xlsx(f"<row>{'<c><v>1</v></c>' * 1_000_000}</row>"),
        DAMAGED % "it has more than 16,384 columns",
    ),
    "column ZZZ": (
        lambda: xlsx('<row r="1"><c r="ZZZ1"><v>1</v></c></row>'),
        DAMAGED % "it has more than 16,384 columns",
    ),
    "10,000,000 cells": (
        lambda: xlsx(f"<row>{'<c><v>1</v></c>' * 1000}</row>" * 10_000),
        BOMB,
    ),
    "3,000,000 used cells": (
        lambda: xlsx(
            "".join(f'<row r="{n}"><c r="ALL{n}"><v>1</v></c></row>' for n in range(1, 3001))
        ),
        r"The sheet has more than 2,000,000 used cells: .*",
    ),
    "10,000,000 empty cells": (
        lambda: xlsx(f"<row>{'<c/>' * 10_000}</row>" * 1000),
        DAMAGED % "a part has more than 7,000,000 elements",
    ),
    "300,000 rows": (lambda: xlsx(ONE * 300_000), r"The sheet has more than 200,000 rows: .*"),
    "cells at both ends of a sheet": (
        lambda: xlsx(
            '<row r="1"><c r="A1"><v>1</v></c></row>'
            '<row r="200000"><c r="XFD200000"><v>1</v></c></row>'
        ),
        r"The sheet's used cells reach to XFD200000, and almost all of them are empty\. Delete .*",
    ),
    "cell in the last row": (
        lambda: xlsx('<row r="1048576"><c r="A1048576"><v>1</v></c></row>'),
        r"The sheet has more than 200,000 rows: .*",
    ),
    "text of 1 MB in 100,000 cells": (
        lambda: xlsx(
            "<row>" + '<c t="s"><v>0</v></c>' * 10_000 + "</row>", texts=texts_xml("x" * MB)
        ),
        r"The sheet has more than 64,000,000 characters: remove the columns with long texts\.",
    ),
    "billion laughs in a worksheet": (lambda: with_part(SHEET, BILLION_LAUGHS), TYPED),
    "billion laughs in styles": (lambda: with_part(STYLES, BILLION_LAUGHS), TYPED),
    "billion laughs in the workbook": (lambda: with_part(WORKBOOK, BILLION_LAUGHS), TYPED),
    "entity of a file": (lambda: with_part(TEXTS, FILE_ENTITY), TYPED),
    "nested elements": (
        lambda: xlsx("<a>" * 1_000_000),
        DAMAGED % "its XML is nested too deeply",
    ),
    "tag of 20 MB": (
        lambda: xlsx(f'<row x="{"x" * 20 * MB}"/>'),
        DAMAGED % "a tag is too long",
    ),
    "1,000,000 attributes": (
        lambda: xlsx("<row " + " ".join(f"a{n}=''" for n in range(1_000_000)) + "/>"),
        DAMAGED % "a tag is too long",
    ),
    "XML in UTF-16": (
        lambda: with_part(SHEET, sheet_xml(ONE)[39:].encode("utf-16")),
        DAMAGED % "its encoding is not UTF-8",
    ),
    "XML in another encoding": (
        lambda: xlsx(sheet=sheet_xml(ONE).replace("UTF-8", "ISO-8859-1")),
        DAMAGED % "its encoding is not UTF-8",
    ),
    "XML that ends early": (lambda: xlsx(sheet="<worksheet>"), DAMAGED % "its XML is not valid"),
    "comment inside a number": (
        lambda: xlsx("<row><c><v>1<!-- -->2</v></c></row>"),
        DAMAGED % "its XML has comments or CDATA",
    ),
    "CDATA inside a text": (
        lambda: xlsx('<row><c t="str"><v>a<![CDATA[b]]></v></c></row>'),
        DAMAGED % "its XML has comments or CDATA",
    ),
    "merges that overlap": (
        lambda: merged("A1:B2", "B2:C4"),
        r"The merged cells B2:C4 overlap others\. Unmerge them, and save the file again\.",
    ),
    "merge that occurs twice": (
        lambda: merged("A1:B2", "A1:B2"),
        r"The merged cells A1:B2 overlap others\. .*",
    ),
    "merge that ends before it begins": (
        lambda: merged("B2:A1"),
        DAMAGED % "a merged range ends before it begins",
    ),
    "merge of no range": (lambda: merged("A1:B2:C3"), DAMAGED % "a merged range is unknown"),
    "200,000 merges": (
        lambda: merged(*["A1:B2"] * 200_000),
        DAMAGED % "it has more than 100,000 merged cells",
    ),
    "rows that are not in order": (
        lambda: xlsx('<row r="5"/><row r="3"/>'),
        DAMAGED % "its rows are not in order",
    ),
    "row of no number": (lambda: xlsx('<row r="-1"/>'), DAMAGED % "a row has no number"),
    "row 99999999": (lambda: xlsx('<row r="99999999"/>'), DAMAGED % "its rows are not in order"),
    "cell that occurs twice": (
        lambda: xlsx('<row r="1"><c r="A1"><v>1</v></c><c r="A1"><v>2</v></c></row>'),
        DAMAGED % "its cells are not in order",
    ),
    "cell of another row": (
        lambda: xlsx('<row r="1"><c r="A5"><v>1</v></c></row>'),
        DAMAGED % "a cell is not in its row",
    ),
    "cell of no column": (
        lambda: xlsx('<row r="1"><c r="1"><v>1</v></c></row>'),
        DAMAGED % "a cell has no column",
    ),
    "cell in a cell": (
        lambda: xlsx("<row><c><c><v>1</v></c></c></row>"),
        DAMAGED % "its cells are not in order",
    ),
    "cell without a row": (lambda: xlsx("<c><v>1</v></c>"), DAMAGED % "its cells are not in order"),
    "cell of an unknown type": (
        lambda: xlsx('<row><c t="x"><v>1</v></c></row>'),
        DAMAGED % "a cell has an unknown type",
    ),
    "text that is missing": (
        lambda: xlsx('<row><c t="s"><v>7</v></c></row>'),
        DAMAGED % "a text is missing",
    ),
    "text of no number": (
        lambda: xlsx(f'<row><c t="s"><v>{"9" * 400_000}</v></c></row>'),
        DAMAGED % "a text is missing",
    ),
    "200,000 styles": (
        lambda: xlsx(ONE, styles=styles_xml(*["0%"] * 200_000)),
        DAMAGED % "it has more than 100,000 styles",
    ),
    "10,000 worksheets": (
        lambda: xlsx(ONE, workbook=workbook_xml(*map(str, range(10_000)))),
        DAMAGED % "it has more than 1,000 sheets",
    ),
    "part that is missing": (
        lambda: package({name: each for name, each in parts(ONE).items() if name != SHEET}),
        DAMAGED % "a part is missing",
    ),
    "half a file": (lambda: xlsx(ONE)[:-100], DAMAGED % "it is not a complete archive"),
    "archive of noise": (
        lambda: b"PK\x03\x04" + os.urandom(MB),
        DAMAGED % "it is not a complete archive",
    ),
    "part with a wrong checksum": (damaged_crc, DAMAGED % "a part cannot be unpacked"),
    "unusual compression": (
        lambda: with_compression(zipfile.ZIP_LZMA),
        DAMAGED % "its compression is unknown",
    ),
    "parts with a password": (
        encrypted_part,
        r"This file is protected with a password\. Save it without one\.",
    ),
    "file of more than 64 MB": (
        lambda: b"PK\x03\x04" + bytes(65 * MB),
        r"The Excel file is larger than 64 MB\.",
    ),
}


@pytest.mark.parametrize("name", REJECTED)
def test_excel_file_is_rejected(name: str, read: Callable[..., Outcome]) -> None:
    make, sentence = REJECTED[name]
    found = read(make())
    assert found.error is None
    assert found.sentence is not None
    assert re.fullmatch(sentence, found.sentence)


# The name of a case, its file, and the rows and the first cell that are read.
READ: dict[str, tuple[Callable[[], bytes], int, str]] = {
    "text of 10 MB in a cell": (
        lambda: xlsx(f'<row><c t="inlineStr"><is><t>{"x" * 10 * MB}</t></is></c></row>'),
        1,
        f"LongCell(length={10 * MB})",
    ),
    "shared text of 10 MB": (
        lambda: xlsx('<row><c t="s"><v>0</v></c></row>', texts=texts_xml("x" * 10 * MB)),
        1,
        f"LongCell(length={10 * MB})",
    ),
    "formula of 10 MB": (
        lambda: xlsx(f"<row><c><f>{'1+' * 5 * MB}</f><v>1</v></c></row>"),
        1,
        "1",
    ),
    "archive that is not read": (
        lambda: with_part("xl/media/image1.zip", bomb(SHEET)),
        1,
        "1",
    ),
    "300,000 blank rows with a style": (
        lambda: xlsx(ONE + '<row><c s="0"/></row>' * 300_000),
        1,
        "1",
    ),
    "merges of whole columns": (
        lambda: merged("A1:A1048576", "B1:XFD1048576"),
        5,
        "1",
    ),
    "number format of 100,000 characters": (
        lambda: xlsx(
            '<row><c s="1"><v>1</v></c></row>', styles=styles_xml('"' * 100_000 + "[" * 100_000)
        ),
        1,
        "1",
    ),
    "wrong dimension": (
        lambda: xlsx(
            sheet=sheet_xml(ONE).replace(
                "<sheetData>", '<dimension ref="A1:XFD1048576"/><sheetData>'
            )
        ),
        1,
        "1",
    ),
    "2,000,000 cells": (
        lambda: xlsx(f"<row>{'<c><v>1</v></c>' * 100}</row>" * 20_000),
        20_000,
        "1",
    ),
}


@pytest.mark.parametrize("name", READ)
def test_excel_file_is_read(name: str, read: Callable[..., Outcome]) -> None:
    make, rows, first = READ[name]
    assert read(make()) == Outcome(rows=rows, first=first)


def test_worksheet_names_cannot_break_a_line(read: Callable[..., Outcome]) -> None:
    names = ("a&#10;b", "&#x85;", "&#x202e;txt")
    content = parts(ONE, names=names)
    sentence = read(package(content), worksheet="x\x1b[31m\n").sentence or ""
    assert sentence.startswith(r"The Excel file has no worksheet named 'x\x1b[31m\n'; it has ")
    assert sentence.isprintable()


CSV_HEADER = b"Department,Fiscal Period,Budgeted Amount\n"
REJECTED_CSV: dict[str, tuple[Callable[[], bytes], str]] = {
    "NUL": (lambda: CSV_HEADER + b"Sal\0es,Q1 2026,5\n", "NUL|encoding|not text"),
    "half a UTF-16 character": (lambda: "Sales,5\n".encode("utf-16") + b"\x41", "damaged UTF-16"),
    "half a UTF-16 pair": (
        lambda: "Sales,5\n".encode("utf-16") + b"\x3d\xd8",
        "damaged UTF-16",
    ),
    "damaged UTF-8": (lambda: "Café,5\n".encode() + b"Caf\xe9,5\n", "no longer UTF-8"),
    "1,000,000 columns": (
        lambda: CSV_HEADER + b"," * 1_000_000 + b"1\n" + b",1" * 2_000_000,
        "2,000,000 used cells",
    ),
    "10,000,000 cells": (lambda: CSV_HEADER + b"1,1,1,1,1,1,1,1,1,1\n" * 1_000_000, "200,000 rows"),
    "10,000,000 cells in wide rows": (
        lambda: CSV_HEADER + (b"1," * 1000 + b"\n") * 10_000,
        "2,000,000 used cells",
    ),
    "quote that is not closed": (lambda: CSV_HEADER + b'"Sales,Q1 2026,5\n' * 1000, "quot|read"),
    "rows of commas": (lambda: CSV_HEADER + b"," * (60 * MB), "2,000,000 used cells"),
    "file of more than 64 MB": (lambda: b"1" * (65 * MB), "The CSV file is larger than 64 MB"),
}


@pytest.mark.parametrize("name", REJECTED_CSV)
def test_csv_file_is_rejected(name: str, read: Callable[..., Outcome]) -> None:
    make, sentence = REJECTED_CSV[name]
    found = read(make(), "csv")
    assert found.error is None
    assert re.search(sentence, found.sentence or "")


def test_csv_cell_of_10_mb_is_read(read: Callable[..., Outcome]) -> None:
    found = read(CSV_HEADER + b"x" * 10 * MB + b",Q1 2026,5\n", "csv")
    assert (found.rows, found.first) == (2, "'Department'")


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "link", "pipe", "folder", "", "\0"])
def test_path_is_inside_the_folder(
    kind: str, path: str, reader: LimitedReader, tmp_path: Path
) -> None:
    (tmp_path / "outside").write_bytes(CSV_HEADER)
    folder = tmp_path / "files"
    (folder / "folder").mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path / "outside")
    os.mkfifo(folder / "pipe")
    found = reader.read_path(kind, folder, path)
    assert found.error is None
    assert re.fullmatch(
        r"The (CSV|Excel) (file's path is not inside the folder for CSV files|"
        r"path is not a regular file|file cannot be opened: Is a directory)\.",
        found.sentence or "",
    )
