"""A stored reading as answers, to read a source again. Pure."""

from __future__ import annotations

from budget_sync.sync.reading.heading_periods import relative_year
from budget_sync.sync.reading.model import (
    CurrencyConstant,
    PeriodColumn,
    PeriodConstant,
    PeriodHeadings,
    Reading,
)
from budget_sync.sync.reading.proposal import Answers

_SETTLED = ("year", "dash", "ddmon", "tri", "mdy", "dates")


def answers_of(reading: Reading) -> Answers:
    """The answers that a stored reading gives to the questions of `detect`."""
    found = {
        "section": "yes" if reading.department.fill == "section" else "no",
        "department": reading.department.column,
        "fill": "down" if reading.department.fill == "down" else "no",
        "code": reading.department.code,
        "ids": "yes",
        "sum": "sum" if reading.sum else "refuse",
        "unit": str(reading.unit),
        "sign": reading.sign,
        "locale": ". and ," if reading.marks.decimal == "." else ", and .",
        "blanks": "nothing" if reading.blanks else "refuse",
    }
    if reading.file and not reading.file.encoding.startswith("utf"):
        found["encoding"] = reading.file.encoding
    if isinstance(reading.currency, CurrencyConstant):
        found["currency"] = reading.currency.constant
    found |= _of_period(reading)
    answers: dict[str, tuple[str, ...]] = {key: (value,) for key, value in found.items()}
    if isinstance(reading.period, PeriodHeadings):
        answers["columns"] = tuple(reading.period.headings)
    else:
        answers["amount"] = reading.amount.columns
    return answers | {f"keep:{each.column}": each.kept for each in reading.keep}


def _of_period(reading: Reading) -> dict[str, str]:
    period = reading.period
    found = {key: value for key in _SETTLED if (value := getattr(period, key)) is not None}
    if isinstance(period, PeriodConstant):
        found["period"] = period.constant
    elif isinstance(period, PeriodColumn):
        found["part"] = (
            (period.part or "")
            if period.part_kind in (None, "quarter")
            else (period.part_kind or "")
        )
    else:
        relatives = {
            number: text
            for heading, text in period.headings.items()
            if (number := relative_year(heading)) is not None
        }
        if relatives:
            found["first_year"] = relatives[min(relatives)]
    return found
