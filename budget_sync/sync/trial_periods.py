"""Which periods of a trial are known, while questions are open. Pure."""

from __future__ import annotations

from typing import Final

from budget_sync.domain.periods import Settled, read_period
from budget_sync.sync.propose import Proposed
from budget_sync.sync.reading.result import SheetBudget

#: The question for the period of the whole sheet.
PERIOD: Final = "period"

#: The questions that decide all periods, and those that decide about any.
_WHOLE_PERIOD: Final = frozenset((PERIOD, "first_year", "part"))
_PERIOD_QUESTIONS: Final = _WHOLE_PERIOD | {
    *("year", "fiscal_year", "dash", "ddmon", "tri", "mdy", "dates")
}


def known_period(budget: SheetBudget, proposed: Proposed) -> str | None:
    """The key of a budget's period; None if it depends on an open question.

    A trial assumes answers to open questions.
    """
    proposal = proposed.proposal
    reading = proposal.reading
    if reading is None or not _PERIOD_QUESTIONS.intersection(proposal.open):
        return budget.period_key
    if _WHOLE_PERIOD.intersection(proposal.open):
        return None
    period = reading.period
    settled = Settled(period.year, period.dash, period.ddmon, period.tri, period.mdy, period.dates)
    return read_period(budget.period, proposed.fiscal_year, settled).key
