"""`detect` on files that are no budgets at all: one clear sentence, in bounded time."""

from __future__ import annotations

import random
import time
from decimal import Decimal

import pytest
from support.detection import JANUARY, JULY, proposal

from budget_sync.sync.reading.detect import detect
from budget_sync.sync.reading.grid import Cell, DateCell, Grid, LongCell, UncalculatedCell

#: Processor time for one file, in seconds. The slowest one takes a third of it.
LIMIT_S = 15

HEADER = b"Department,FY,Budget\n"
LINES = b"Department,FY,Budget\nA,2026,5\nB,2026,6\n"


def wide(heading: str, columns: int) -> bytes:
    """A table with many columns of numbers."""
    names = ",".join(f"{heading}{number}" for number in range(columns))
    row = ",".join(str(number) for number in range(columns))
    lines = [f"D{number},{row}" for number in range(60)]
    return "\n".join([f"Department,{names}", *lines]).encode()


REFUSED = {
    "nothing": (b"", "empty"),
    "only spaces": (b" \r\n\n ", "empty"),
    "only a mark": (b"\xef\xbb\xbf", "empty"),
    "only blank cells": (b",,,\n" * 1000, "empty"),
    "one cell": (b"x", "header"),
    "only a header": (HEADER, "header"),
    "one column": (b"Department\nA\nB\n", "header"),
    "a NUL": (LINES.replace(b"A", b"\0"), "NUL"),
    "noise": (random.Random(1).randbytes(100_000), "NUL"),  # noqa: S311
    "control characters": (bytes(range(1, 128)) * 1000, "not text"),
    "an open quote": (HEADER + b'"A,2026,5\n', "quote"),
    "a workbook": (b"PK\x03\x04" + bytes(500), "Excel"),
    "an old workbook": (b"\xd0\xcf\x11\xe0" + bytes(500), ".xls"),
    "a PDF": (b"%PDF-1.7\n" + bytes(500), "PDF"),
    "a million columns": (b",".join([b"a"] * 10**6) + b"\n" + b",".join([b"1"] * 10**6), "columns"),
    "too many rows": (HEADER + b"A,2026,5\n" * 201_000, "rows"),
    "damaged UTF-8": ("Département,FY,Budget\nÉcole,2026,5\n".encode() + b"\xff", "damaged"),
    "UTF-16 cut in half": ("a,b\n1,2".encode("utf-16")[:-1], "damaged"),
}


@pytest.mark.parametrize(("data", "word"), REFUSED.values(), ids=REFUSED)
def test_hostile_file_is_rejected_with_one_sentence(data: bytes, word: str) -> None:
    start = time.process_time()
    found = proposal(data, JULY)
    assert time.process_time() - start < LIMIT_S
    assert found.reading is None
    assert found.refused is not None
    assert word in found.refused
    assert found.refused.endswith(".")
    assert len(found.refused) < 300


BOUNDED = {
    "a cell of 10 MB": HEADER + b'"' + b"x" * 10**7 + b'",2026,5\nB,2026,6\n',
    "a heading of 10 MB": b'"' + b"x" * 10**7 + b'",Department,FY,Budget\na,b,2026,5\n',
    "a number of a million digits": HEADER + b"A,2026," + b"9" * 10**6 + b"\nB,2026,6\n",
    "a name with 200,000 accents": LINES + f"e{chr(0x301) * 200_000},2026,5\n".encode(),
    "1,900 quarters": wide("Q1 20", 1900),
    "1,900 headings": wide("heading ", 1900),
    "brackets": HEADER + b"A,2026," + b"(" * 900 + b"5\nB,2026,6\n",
    "slashes as headings": ("/ " * 400 + ",Department,FY,Budget\nx,A,2026,5\n").encode(),
}


@pytest.mark.parametrize("data", BOUNDED.values(), ids=BOUNDED)
def test_hostile_file_takes_bounded_time(data: bytes) -> None:
    start = time.process_time()
    found = proposal(data, JULY)
    assert time.process_time() - start < LIMIT_S
    assert found.refused or found.reading


BROKEN = {
    "heading": [["Department\ud800", "FY", "Budget"], ["A", 2026, 5], ["B", 2026, 6]],
    "unused heading": [["Department", "FY", "Budget", "\ud800"], ["A", 2026, 5], ["B", 2026, 6]],
    "value": [
        ["Department", "FY", "Budget", "Status"],
        ["A", 2026, 5, "Draft"],
        ["B", 2026, 6, "Approved\udfff"],
        ["C", 2026, 6, "Approved"],
    ],
}


@pytest.mark.parametrize("rows", BROKEN.values(), ids=BROKEN)
def test_lone_surrogates_in_a_reading_are_rejected(rows: list[list[Cell]]) -> None:
    found = proposal(rows)
    assert found.refused == (
        "A heading or a value of the sheet holds broken characters. Type it again."
    )
    for each in found.questions:
        each.text.encode()


def test_every_type_of_cell_is_read() -> None:
    cells: list[Cell] = [
        None,
        "",
        "x",
        5,
        2.5,
        Decimal("1e30"),
        float("inf"),
        float("nan"),
        True,
        DateCell(45000, None),
        LongCell(10**6),
        UncalculatedCell(),
        "#REF!",
    ]
    rows: list[list[Cell]] = [["Department", "FY", "Budget"], ["A", 2026, 5], ["B", 2026, 6]]
    rows += [[one, other, another] for one in cells for other in cells for another in cells]
    found = detect(Grid(rows), JANUARY)
    assert found.refused or found.reading


def test_large_file_is_read_in_time() -> None:
    draw = random.Random(1)  # noqa: S311
    lines = [
        f"{n % 40},Fund {n % 40},Dept {n % 60},{n % 900},FY{2010 + n % 15},"
        f"{draw.randint(1, 10**9) / 100:.2f},{'E' if n % 3 else 'R'},{n}\n"
        for n in range(22_000)
    ]
    data = ("Fund,Name,Department,Account,FY,Budget,Type,ObjectId\n" + "".join(lines)).encode()
    start = time.process_time()
    found = proposal(data, JULY)
    # On an idle machine it takes 0.7 s.
    assert time.process_time() - start < 4
    assert found.open == []
    assert found.trial is not None
    assert found.trial.facts.budgets == 40
