"""The corpus: each sheet is read with the answers of its case, and gives the expected result.

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
from budget_sync.sync.reading.proposal import Proposal

CASES = [pytest.param(case, id=case["id"]) for case in cases()]
READ = [
    pytest.param(case, id=case["id"])
    for case in cases()
    if "must_refuse" not in case["expect"] and not ends_in_question(case["expect"])
]


def proposal_of(case: Case) -> Proposal:
    """The proposal for the first sheet of a case, with the case's answers."""
    source, customer = source_of(versions_of(case)[0]), customer_of(case)
    asked = {question.id for question in detect(source, customer).questions}
    return detect(source, customer, answers_of(case["expect"], asked))


@pytest.mark.parametrize("case", CASES)
def test_corpus_sheet_gives_the_expected_result(case: Case) -> None:
    expect, proposal = case["expect"], proposal_of(case)
    if "must_refuse" in expect:
        assert proposal.refused, "the sheet is not rejected"
        assert proposal.reading is None
        return
    assert proposal.refused is None
    assert {question.id for question in proposal.questions} >= set(expect.get("must_ask", ()))
    assert bool(proposal.open) == ends_in_question(expect), proposal.open
    if proposal.open or "budgets" not in expect:
        return
    assert proposal.reading is not None
    result = apply(proposal.reading, source_of(case), customer_of(case))
    assert not mismatches(expect, result)


@pytest.mark.parametrize("case", READ)
def test_trial_is_what_the_reading_gives(case: Case) -> None:
    proposal = proposal_of(case)
    assert proposal.reading is not None
    result = apply(proposal.reading, source_of(versions_of(case)[0]), customer_of(case))
    assert proposal.trial == result


@pytest.mark.parametrize("case", READ)
def test_stored_reading_answers_its_own_questions(case: Case) -> None:
    source, customer = source_of(versions_of(case)[0]), customer_of(case)
    proposal = proposal_of(case)
    # That rows which are sums are departments is not part of a reading: it is asked again.
    answers = answers_of(case["expect"], {"subtotals"})
    kept = answers if answers == {"subtotals": ["departments"]} else {}
    again = detect(source, customer, kept, stored=proposal.reading)
    assert (again.open, again.reading) == ([], proposal.reading)


@pytest.mark.parametrize("case", READ)
def test_stored_reading_as_strict_answers(case: Case) -> None:
    source, customer = source_of(versions_of(case)[0]), customer_of(case)
    proposal = proposal_of(case)
    assert proposal.reading is not None
    # Only the sheet tells which of the names in a reading these two questions are about.
    answers = answers_of(case["expect"], {"totals", "subtotals"})
    again = detect(source, customer, {**detection.answers_of(proposal.reading), **answers})
    assert (again.open, again.reading) == ([], proposal.reading)
