"""Reads the amounts of a file of spends in the currencies of their budgets. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Final, Literal

from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.money import currency_exponent
from budget_sync.sync.reading.amounts import (
    SCALE,
    AmountReader,
    CellError,
    round_minor,
    to_decimal,
)
from budget_sync.sync.reading.detect.findings import Findings
from budget_sync.sync.reading.detect.marks import MarkEvidence, find_marks
from budget_sync.sync.reading.grid import Cell
from budget_sync.sync.reading.model import Marks
from budget_sync.sync.reading.result import Customer
from budget_sync.sync.reading.values import is_blank, shown

DecimalMark = Literal[".", ","]

# A formula leaves less than this share of a minor unit behind: 12.340000000000002.
_NOISE: Final = 10**6


class AmountColumn:
    """Reads the amounts of one file."""

    def __init__(self, cells: Iterable[Cell], currency: str, mark: str | None) -> None:
        """Find the marks of the amounts, unless the operator says which is the decimal mark.

        Raises RequestError INVALID_REQUEST if they may be either.
        """
        texts = [cell for cell in cells if isinstance(cell, str) and cell.strip()]
        evidence = MarkEvidence()
        for text in dict.fromkeys(texts):
            evidence.read(text)
        if mark is None and len(evidence.decimals) == 1:
            # An amount that contradicts it is an error of its row.
            (mark,) = evidence.decimals
        findings = Findings(Customer(currency), {})
        self._reader = AmountReader(
            _marks_with(mark, evidence)
            if mark
            else find_marks(texts, currency_exponent(currency), findings)
        )
        self.notes = tuple(findings.evidence)
        if findings.is_open("locale"):
            raise RequestError(
                Code.INVALID_REQUEST,
                f"{_question(findings)} Run the import again with --decimal-mark '.' or "
                "--decimal-mark ','.",
            )

    def read(self, cell: Cell, currency: str, exponent: int) -> Decimal:
        """The amount in a cell, in whole units. Raises CellError, with what follows "Amount"."""
        if is_blank(cell):
            raise CellError("is blank. Enter the amount that was spent.")
        scaled = self._reader.scaled(cell, currency)
        if scaled < 0:
            raise CellError(
                f"is {shown(cell)}. Leave refunds out, and reverse the spend that they belong to."
            )
        minor = round_minor(scaled, exponent)
        if not minor and not scaled:
            raise CellError("is 0. Remove the row, or enter the amount that was spent.")
        unit = SCALE // 10**exponent
        if abs(scaled - minor * unit) * _NOISE > unit:
            raise CellError(f"is {shown(cell)}, but {currency} has {exponent} decimals. Round it.")
        return to_decimal(minor * unit)


def _marks_with(decimal: str, evidence: MarkEvidence) -> Marks:
    """The marks with this decimal mark, and the mark between groups that the amounts show."""
    other = "." if decimal == "," else ","
    group = next((each for each in evidence.groups if each in " '"), other)
    return Marks.model_validate({"decimal": decimal, "group": group})


def _question(findings: Findings) -> str:
    """The open question about the marks, as a sentence."""
    (question,) = [each for each in findings.questions if each.id == "locale"]
    return question.text
