"""Amounts as exact numbers, read leniently, to compare them with each other. Pure."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from budget_sync.sync.reading.detect.cells import ascii_digits, core_of, is_number_cell
from budget_sync.sync.reading.grid import Cell
from budget_sync.sync.reading.model import Marks

_SPACES = " \u00a0\u2007\u2009\u202f"
_MINUS = "-\u2212\u2010\u2011\u2012\u2013\u2014"


def number_of(cell: Cell, marks: Marks) -> Decimal | None:
    """The number in a cell, for comparisons only; None if it has none. `apply` reads exactly."""
    if isinstance(cell, str):
        return _number_in(cell.strip(), marks)
    if not is_number_cell(cell):
        return None
    found = Decimal(str(cell))
    return found if found.is_finite() else None


def _number_in(text: str, marks: Marks) -> Decimal | None:
    core = core_of(text)
    if core is None or "%" in text:
        return None
    for mark in (*_SPACES, "'", "\u2019", "," if marks.decimal == "." else "."):
        core = core.replace(mark, "")
    try:
        number = Decimal(core.replace(",", "."))
    except InvalidOperation:
        return None
    if number.adjusted() > 20:
        return None
    return -number if _is_negative(ascii_digits(text)) else number


def _is_negative(text: str) -> bool:
    outside = text.strip(_SPACES)
    is_bracketed = "(" in outside and outside.endswith(")")
    letters = [letter for letter in outside if letter in _MINUS]
    is_signed = bool(letters) and (not outside[0].isdecimal() or outside.endswith(tuple(_MINUS)))
    is_cents = outside.endswith((".-", ",-", ".\u2013", ",\u2013"))
    return is_bracketed or (is_signed and not (is_cents and len(letters) == 1))
