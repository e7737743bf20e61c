"""`detect` proposes how a sheet is read, and asks about everything that the sheet does not settle.

Each step takes the profile of the sheet, the findings so far and the answers. It never runs in a
sync run, and nothing that it finds is applied before a person confirms it. Pure.
"""

from __future__ import annotations

from budget_sync.sync.limits import Check, no_check
from budget_sync.sync.reading.detect.findings import AnswerError, Findings, Refused, unbroken
from budget_sync.sync.reading.detect.steps import propose
from budget_sync.sync.reading.detect.stored import answers_of
from budget_sync.sync.reading.grid import Grid
from budget_sync.sync.reading.model import Reading
from budget_sync.sync.reading.proposal import Answers, Proposal
from budget_sync.sync.reading.result import Customer, SheetProblem

__all__ = ["AnswerError", "answers_of", "detect"]

_NO_ANSWERS: Answers = {}


def detect(
    source: bytes | Grid,
    customer: Customer,
    answers: Answers = _NO_ANSWERS,
    *,
    file_name: str = "",
    check: Check = no_check,
    stored: Reading | None = None,
) -> Proposal:
    """Propose a reading of a CSV file (bytes) or of the cells of a sheet.

    `answers` come from a person. `stored` is the confirmed reading of a source that is read again:
    it answers what `answers` do not, as far as it still fits the sheet. Raises AnswerError if one
    of `answers` is not among the options of its question.
    """
    findings = Findings(
        customer, answers, dict(answers_of(stored)) if stored else {}, reading=stored
    )
    try:
        proposal = propose(source, findings, file_name, check)
    except (Refused, SheetProblem) as problem:
        return Proposal(
            None,
            findings.questions,
            findings.open,
            refused=unbroken(str(problem)),
            evidence=findings.evidence,
        )
    findings.note_unused_answers()
    return proposal
