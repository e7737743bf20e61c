"""Runs `detect` on small sheets in tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from budget_sync.domain.periods import FiscalYear
from budget_sync.sync.reading.detect import detect
from budget_sync.sync.reading.grid import Cell, Grid
from budget_sync.sync.reading.proposal import Proposal, Question
from budget_sync.sync.reading.result import Customer

JANUARY = Customer("USD", FiscalYear(1, "end"))
JULY = Customer("USD", FiscalYear(7, "end"))
EURO = Customer("EUR", FiscalYear(1, "end"))

Answers = Mapping[str, str | Sequence[str]]


def proposal(
    sheet: str | bytes | Sequence[Sequence[Cell]],
    customer: Customer = JANUARY,
    answers: Answers | None = None,
    file_name: str = "",
) -> Proposal:
    """The proposal for the text of a CSV file, its bytes, or the cells of a sheet."""
    source: bytes | Grid
    if isinstance(sheet, str):
        source = sheet.encode()
    elif isinstance(sheet, bytes):
        source = sheet
    else:
        source = Grid(sheet)
    given = {
        question: [answer] if isinstance(answer, str) else list(answer)
        for question, answer in (answers or {}).items()
    }
    return detect(source, customer, given, file_name=file_name)


def question(found: Proposal, question_id: str) -> Question:
    """A question of a proposal."""
    return next(each for each in found.questions if each.id == question_id)


def asked(found: Proposal) -> list[str]:
    """The ids of all questions."""
    return [each.id for each in found.questions]


def budgets(found: Proposal) -> dict[str, Decimal]:
    """The budgets of the trial: `{"Department|period key": amount}`."""
    assert found.trial is not None
    return {
        f"{row.budget.department}|{row.budget.period_key}": Decimal(
            row.budget.budgeted_minor
        ).scaleb(-row.budget.exponent)
        for row in found.trial.rows
    }
