"""Describes a proposed reading: as sentences for people, and as JSON for programs. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Final

from budget_sync.domain.money import to_number
from budget_sync.sync.facts import plain_number
from budget_sync.sync.limits import cut
from budget_sync.sync.propose import Proposed
from budget_sync.sync.reading.model import (
    CurrencyColumn,
    CurrencyConstant,
    PeriodColumn,
    PeriodConstant,
    PeriodHeadings,
    Reading,
)
from budget_sync.sync.reading.proposal import HEADER_EVIDENCE, Proposal
from budget_sync.sync.reading.result import SheetBudget, SheetResult, SheetRow
from budget_sync.sync.summary import errors_json, left_out_lines, rows_text
from budget_sync.sync.trial_periods import PERIOD, known_period

#: The JSON object lists this many budgets.
MAX_BUDGETS: Final = 20

#: Sentences name at most this many rows, periods or headings.
_MAX_NAMED: Final = 3

#: Sentences list at most this many rejected rows.
_MAX_ERRORS: Final = 10

#: Objects of a reading whose keys are texts of the sheet, so that a difference does not name them.
_WHOLE_KEYS: Final = frozenset({"period.headings", "currency.words"})


def proposal_json(proposed: Proposed, source_id: str | None) -> dict[str, object]:
    """The JSON object of `add-source`, `preview-source` and `reread-source`."""
    proposal, trial = proposed.proposal, proposed.proposal.trial
    reading = proposal.reading.to_json() if proposal.reading else None
    if reading is not None and PERIOD in proposal.open:
        reading["period"] = {"constant": None}
    return {
        "sourceId": source_id,
        "reading": reading,
        "open": list(proposal.open),
        "questions": [question.to_json() for question in proposal.questions],
        "refused": proposal.refused,
        "budgets": None if proposal.refused is not None else _budgets_json(proposed),
        "skipped": [
            {"row": row, "why": why} for row, why in (trial.skipped if trial else {}).items()
        ],
        "errors": errors_json(trial.errors if trial else ()),
        "notes": [*proposal.evidence, *(trial.notes if trial else ())],
    }


def _budgets_json(proposed: Proposed) -> dict[str, object]:
    trial = proposed.proposal.trial
    rows = trial.rows if trial else []
    return {
        "count": len(rows),
        "total": {currency: plain_number(total) for currency, total in totals(rows).items()},
        "first": [_budget_json(row, proposed) for row in rows[:MAX_BUDGETS]],
    }


def _budget_json(row: SheetRow, proposed: Proposed) -> dict[str, object]:
    budget = row.budget
    return {
        "department": budget.department,
        "fiscalPeriod": None if PERIOD in proposed.proposal.open else budget.period,
        "period": known_period(budget, proposed),
        "amount": to_number(budget.budgeted_minor, budget.exponent),
        "currency": budget.currency,
        "row": row.number,
        "rows": row.row_count,
    }


def totals(rows: Iterable[SheetRow]) -> dict[str, Decimal]:
    """The sum of the budgets by currency, in whole units."""
    sums: dict[tuple[str, int], int] = defaultdict(int)
    for row in rows:
        sums[row.budget.currency, row.budget.exponent] += row.budget.budgeted_minor
    return {
        currency: Decimal(minor).scaleb(-exponent) for (currency, exponent), minor in sums.items()
    }


def difference(old: Reading | None, new: Reading | None) -> list[dict[str, object]]:
    """The differences of two readings, by key: `[{"key": "sum", "old": false, "new": true}]`."""
    before = _flat(old.to_json() if old else {})
    after = _flat(new.to_json() if new else {})
    return [
        {"key": key, "old": before.get(key), "new": after.get(key)}
        for key in dict.fromkeys((*before, *after))
        if before.get(key) != after.get(key)
    ]


def _flat(reading: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """The values of a reading by dotted keys."""
    flat: dict[str, object] = {}
    for key, value in reading.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and name not in _WHOLE_KEYS:
            flat |= _flat(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def proposal_lines(proposed: Proposed) -> list[str]:
    """A proposal as sentences, a line each."""
    proposal = proposed.proposal
    if proposal.refused is not None:
        return [proposal.refused]
    lines: list[str] = []
    if proposal.reading is not None:
        lines.append(" ".join(_column_sentences(proposed, proposal.reading)))
        lines += _rule_sentences(proposal.reading)
    trial = proposal.trial
    if trial is not None:
        lines += _trial_lines(proposal, trial)
    return lines


def _column_sentences(proposed: Proposed, reading: Reading) -> Iterator[str]:
    """Which columns mean what."""
    trial = proposed.proposal.trial
    if proposed.layout:
        rows = proposed.layout.header_rows
        yield f"Header: row{'s' * (len(rows) > 1)} {', '.join(map(str, rows))}."
    fill = {"down": ", also for the rows below it", "section": ", on separate lines", "no": ""}
    yield f"Department: {_heading(reading.department.column)}{fill[reading.department.fill]}."
    periods = _period_list(trial.rows if trial else [], proposed)
    is_open = PERIOD in proposed.proposal.open
    yield "Period: not known yet." if is_open else _period_sentence(reading, periods)
    if isinstance(reading.period, PeriodHeadings):
        if reading.period.ignored:
            yield f"Not read: {_some(list(map(_heading, reading.period.ignored)))}."
    else:
        yield f"Amount: {_heading(reading.amount.columns[0])}."
    if reading.id:
        yield f"Budget ID: {_heading(reading.id)}."
    if reading.limit:
        yield f"Auto-approve limit: {_heading(reading.limit)}."
    if reading.owner:
        yield f"Owner: {_heading(reading.owner)}."
    if isinstance(reading.currency, CurrencyColumn):
        yield f"Currency: {_heading(reading.currency.column)}."
    elif isinstance(reading.currency, CurrencyConstant):
        yield f"Currency: {reading.currency.constant}."


def _period_sentence(reading: Reading, periods: str) -> str:
    """The sentence about the period columns; in a wide table, also about the amount columns."""
    period = reading.period
    if isinstance(period, PeriodColumn):
        part = f" with {_heading(period.part)}" if period.part else ""
        return f"Period: {_heading(period.column)}{part}{periods}."
    if isinstance(period, PeriodConstant):
        return f"Period: {period.constant} for all rows{periods}."
    if len(period.headings) == 1:
        return f"Amount: {_heading(*period.headings)}{periods}."
    return f"Amounts: {len(period.headings)} columns, one for each period{periods}."


def _heading(heading: str) -> str:
    """A heading in quotes; a column without one by its number, from 1."""
    if heading.startswith("@") and heading[1:].isdecimal():
        return f"column {int(heading[1:]) + 1}, which has no heading"
    return repr(heading)


def _period_list(rows: Iterable[SheetRow], proposed: Proposed) -> str:
    """The periods of the budgets, such as " (3 periods: FY24 → 2024, …)"."""
    keys: dict[str, str | None] = {}
    for row in rows:
        if row.budget.period not in keys:
            keys[row.budget.period] = known_period(row.budget, proposed)
    if not keys:
        return ""
    named = [f"{text} → {key}" if key else text for text, key in list(keys.items())[:_MAX_NAMED]]
    more = ", …" if len(keys) > _MAX_NAMED else ""
    count = f"{len(keys)} period{'s' * (len(keys) != 1)}"
    return f" ({count}: {', '.join(named)}{more})"


def _rule_sentences(reading: Reading) -> Iterator[str]:
    """How the values of the columns are read, as far as it is not the usual way."""
    if reading.unit != 1:
        yield f"Amounts are multiplied by {reading.unit:,}."
    if reading.sign == "negate":
        yield "The sign of the amounts is reversed."
    if reading.marks.decimal == ",":
        yield "Amounts have a decimal comma, as in 1.234,50."
    if reading.department.code == "strip":
        yield "Codes before the names of departments are left out."
    for each in reading.keep:
        kept = _some(list(each.kept))
        yield f"Only rows count whose {_heading(each.column)} is {kept}."
    if reading.blanks:
        yield f"These texts mean that there is no amount: {_some(list(reading.blanks))}."


def _trial_lines(proposal: Proposal, trial: SheetResult) -> Iterator[str]:
    if proposal.reading is not None and proposal.reading.sum:
        most = max((row.row_count for row in trial.rows), default=1)
        if most > 1:
            yield f"Rows of one department and period are added up: up to {most} rows a budget."
    if trial.skipped:
        yield f"Left out: {'; '.join(left_out_lines(trial.skipped))}."
    # The first sentences of a proposal with a reading say the same as the evidence on the columns.
    yield from (each for each in proposal.evidence if not each.startswith(HEADER_EVIDENCE))
    yield from trial.notes
    if trial.errors:
        yield f"Rejected: {len(trial.errors)}."
        for error in trial.errors[:_MAX_ERRORS]:
            yield f"  {rows_text(error.rows)}{error.message}"
        if len(trial.errors) > _MAX_ERRORS:
            yield f"  and {len(trial.errors) - _MAX_ERRORS:,} more"
    yield _sum_sentence(trial.rows)


def _sum_sentence(rows: list[SheetRow]) -> str:
    """The number of budgets, their sum and the largest one."""
    count = f"{len(rows):,} budget{'s' * (len(rows) != 1)}"
    if not rows:
        return f"{count}."
    sums = " and ".join(f"{total:,} {currency}" for currency, total in totals(rows).items())
    largest = max((row.budget for row in rows), key=_whole_units)
    return f"{count}, {sums} in total. The largest is {largest.label}: {_money(largest)}."


def _whole_units(budget: SheetBudget) -> Decimal:
    return Decimal(budget.budgeted_minor).scaleb(-budget.exponent)


def _money(budget: SheetBudget) -> str:
    return f"{_whole_units(budget):,} {budget.currency}"


def _some(texts: list[str]) -> str:
    """The first texts of a list."""
    shown = [cut(text, 60) for text in texts[:_MAX_NAMED]]
    more = len(texts) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")
