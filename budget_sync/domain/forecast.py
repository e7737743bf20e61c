"""Forecast: the amount that a budget will have used on the last day of its period. Pure.

The rule, for a period of D days of which d have begun, today included:

- The run rate is what was committed since the first day, divided by d. It is never below 0.
- The forecast is what is committed, plus the run rate for the D - d days to come, plus what is
  reserved now.
- The range is the run rate for the days to come, less or more by the share (D - d) / D of it: the
  more of the period is still to come, the wider the range.
- There is no forecast before a tenth of the period has passed, before its first day, after its last
  day, and if the dates of the period are unknown.

Amounts committed before the first day count as committed, but not in the run rate.
"""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import NamedTuple

#: The share of a period, in percent, that must have begun before there is a forecast.
MIN_PERCENT = 10


class NoForecast(StrEnum):
    """Why a budget has no forecast, as a sentence for people."""

    NOT_DATED = "There is no forecast: the period is a name without dates."
    NOT_BEGUN = "There is no forecast yet: the period has not begun."
    TOO_EARLY = f"There is no forecast yet: it begins after {MIN_PERCENT} % of the period."
    ENDED = "There is no forecast: the period has ended."


class Forecast(NamedTuple):
    """What will be used on the last day, in minor units, and its range.

    `over_minor` is the part of `amount_minor` above the budget, 0 if it stays within.
    """

    amount_minor: int
    low_minor: int
    high_minor: int
    over_minor: int


def reason_for_none(first: date, last: date, today: date) -> NoForecast | None:
    """Why a period has no forecast today; None if it has one.

    `today` is the day in the customer's time zone.
    """
    if today < first:
        return NoForecast.NOT_BEGUN
    if today > last:
        return NoForecast.ENDED
    begun, length = _days(first, today), _days(first, last)
    return NoForecast.TOO_EARLY if begun * 100 < length * MIN_PERCENT else None


def forecast(
    first: date,
    last: date,
    today: date,
    *,
    committed_before_minor: int,
    committed_within_minor: int,
    reserved_minor: int,
    budgeted_minor: int,
) -> Forecast | NoForecast:
    """The forecast of a budget, by the rule above; or why there is none.

    `committed_before_minor` was committed before the first day, `committed_within_minor` since
    then.
    """
    reason = reason_for_none(first, last, today)
    if reason is not None:
        return reason
    begun, length = _days(first, today), _days(first, last)
    left, rate_minor = length - begun, max(committed_within_minor, 0)
    to_come_minor = _rounded(rate_minor * left, begun)
    margin_minor = _rounded(rate_minor * left * left, begun * length)
    amount_minor = committed_before_minor + committed_within_minor + reserved_minor + to_come_minor
    return Forecast(
        amount_minor=amount_minor,
        low_minor=amount_minor - margin_minor,
        high_minor=amount_minor + margin_minor,
        over_minor=max(amount_minor - budgeted_minor, 0),
    )


def _days(first: date, last: date) -> int:
    """The number of days from one to another, both included."""
    return (last - first).days + 1


def _rounded(numerator: int, denominator: int) -> int:
    """A quotient of numbers from 0, rounded half up."""
    return (2 * numerator + denominator) // (2 * denominator)
