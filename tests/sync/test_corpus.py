"""The corpus: each sheet is read with the answers of its case, and gives the expected result.

The reading that it gives is stored, and then answers the questions about the same sheet.

The steps of sequences, which need stored budgets, are in `test_corpus_sequences.py`.
"""

from __future__ import annotations

import pytest
from support.corpus import (
    Case,
    answers_of,
    cases,
    customer_of,
    ends_in_question,
    mismatches,
    source_of,
    versions_of,
)

from budget_sync.sync.reading import detect as detection
from budget_sync.sync.reading.apply import apply
from budget_sync.sync.reading.detect import detect
from budget_sync.sync.reading.grid import Grid
from budget_sync.sync.reading.model import Reading
from budget_sync.sync.reading.result import Customer

CASES = [pytest.param(case, id=case["id"]) for case in cases()]


@pytest.mark.parametrize("case", CASES)
def test_corpus_sheet_gives_the_expected_result(case: Case) -> None:
    expect, source, customer = case["expect"], source_of(versions_of(case)[0]), customer_of(case)
    asked = {question.id for question in detect(source, customer).questions}
    answers = answers_of(expect, asked)
    proposal = detect(source, customer, answers)
    if "must_refuse" in expect:
        assert proposal.refused, "the sheet is not rejected"
        assert proposal.reading is None
        return
    assert proposal.refused is None
    assert {question.id for question in proposal.questions} >= set(expect.get("must_ask", ()))
    assert bool(proposal.open) == ends_in_question(expect), proposal.open
    if ends_in_question(expect):
        return
    assert proposal.reading is not None
    result = apply(proposal.reading, source, customer)
    assert proposal.trial == result, "the trial differs from what the reading gives"
    if "budgets" in expect:
        assert not mismatches(expect, result)
    assert_answers_its_questions(proposal.reading, expect, source, customer)


def assert_answers_its_questions(
    reading: Reading, expect: Case, source: bytes | Grid, customer: Customer
) -> None:
    """Assert that a sheet with a stored reading has no open question."""
    # That rows which are sums are departments is not part of a reading: it is asked again.
    answers = answers_of(expect, {"subtotals"})
    kept = answers if answers == {"subtotals": ["departments"]} else {}
    again = detect(source, customer, kept, stored=reading)
    assert (again.open, again.reading) == ([], reading), "with the stored reading"
    # Only the sheet tells which of the names in a reading these two questions are about.
    answers = answers_of(expect, {"totals", "subtotals"})
    again = detect(source, customer, {**detection.answers_of(reading), **answers})
    assert (again.open, again.reading) == ([], reading), "with the reading as strict answers"
