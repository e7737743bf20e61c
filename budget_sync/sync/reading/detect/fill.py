"""Step 9: rows with an amount and no department. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import Literal

from budget_sync.domain.names import fold
from budget_sync.sync.reading.detect.cells import is_numeric, is_numeric_text
from budget_sync.sync.reading.detect.findings import Findings, count
from budget_sync.sync.reading.detect.numbers import number_of
from budget_sync.sync.reading.detect.sheet import Column, Sheet, cell_at
from budget_sync.sync.reading.grid import Cell
from budget_sync.sync.reading.model import Filter, Marks
from budget_sync.sync.reading.proposal import Question
from budget_sync.sync.reading.totals import is_total_like


def find_fill(
    sheet: Sheet,
    department: Column,
    amounts: Sequence[Column],
    used: Collection[Column],
    filters: Sequence[Filter],
    marks: Marks,
    findings: Findings,
) -> Literal["no", "down"]:
    """Whether a blank department is that of the row above; it is asked if there are such rows.

    `used` are all columns with a role.
    """
    merged = _merged_rows(sheet, department)
    out = [(sheet.column(each.column), set(each.left_out)) for each in filters]
    others = [column for column in sheet.columns if column not in used]
    first_is_blank = False
    blank = 0
    for number, (index, row) in enumerate(sheet.body):
        if index in merged or not _is_blank_row(row, department, amounts, others):
            continue
        if number == 0:
            first_is_blank = True
        if not any(fold(sheet.text(index, column)) in values for column, values in out):
            blank += 1
    if not blank:
        return "no"
    have, their = ("has", "it belong") if blank == 1 else ("have", "they belong")
    hint = ""
    are_parts = _are_parts(sheet, department, amounts, marks)
    if are_parts:
        hint = " The rows with a department are the sums of those below them."
    elif _fits_only_filled(sheet, department, amounts[0], marks):
        hint = " The totals fit only if they do."
    question = Question(
        "fill",
        f"{count(blank, 'row')} {have} an amount but no department. Do{'es' * (blank == 1)} "
        f"{their} to the department above?{hint}",
        ("down", "no"),
        default=("no",) if first_is_blank or are_parts else None,
    )
    return "no" if findings.ask_one(question) == "no" else "down"


def _are_parts(sheet: Sheet, department: Column, amounts: Sequence[Column], marks: Marks) -> bool:
    """Whether named rows are the sums of the rows without a name below them.

    Filled, such rows would count twice. At least two named rows, and 8 of 10 of those with such
    rows, must be sums of at least two.
    """
    sums = parents = 0
    parent: list[Decimal] | None = None
    below: list[list[Decimal]] = []

    def close() -> None:
        nonlocal sums, parents
        if parent is not None and len(below) >= 2 and any(parent):
            parents += 1
            sums += [sum(column) for column in zip(*below, strict=True)] == parent

    for index, row in sheet.body:
        cells = [cell_at(row, column.index) for column in amounts]
        if not any(map(is_numeric, cells)):
            continue
        numbers = [number_of(cell, marks) or Decimal(0) for cell in cells]
        name = sheet.text(index, department)
        if name:
            close()
            parent, below = (None if is_total_like(name) else numbers), []
        else:
            below.append(numbers)
    close()
    return sums >= 2 and 10 * sums >= 8 * parents


def _fits_only_filled(sheet: Sheet, department: Column, amount: Column, marks: Marks) -> bool:
    """Whether a total is the sum of the rows above it only with the rows without a department."""
    named = blank = Decimal(0)
    fits = False
    for index, row in sheet.body:
        number = number_of(cell_at(row, amount.index), marks)
        name = sheet.text(index, department)
        if number is None:
            continue
        if not is_total_like(name):
            named += number if name else 0
            blank += 0 if name else number
            continue
        if blank and number == named:
            return False
        fits = fits or (bool(blank) and number == named + blank)
        named = blank = Decimal(0)
    return fits


def _merged_rows(sheet: Sheet, department: Column) -> set[int]:
    """The rows with a department from a merged range."""
    return {
        row
        for merge in sheet.grid.merges
        if merge.column1 <= department.index <= merge.column2
        for row in range(merge.row1 + 1, merge.row2 + 1)
    }


def _is_blank_row(
    row: Sequence[Cell],
    department: Column,
    amounts: Sequence[Column],
    others: Sequence[Column],
) -> bool:
    """Whether a row has an amount, no department, and a text that is not of a total."""
    if department.index < len(row) and row[department.index] not in (None, ""):
        cell = row[department.index]
        if not isinstance(cell, str) or cell.strip():
            return False
    if not any(is_numeric(cell_at(row, column.index)) for column in amounts):
        return False
    return any(
        isinstance(cell, str)
        and (text := cell.strip())
        and not is_numeric_text(text)
        and not is_total_like(text)
        for column in others
        if (cell := cell_at(row, column.index)) is not None
    )
