"""The forecast of a budget, also compared with a plain model over random histories."""

from __future__ import annotations

import random
from datetime import date, timedelta
from fractions import Fraction

import pytest

from budget_sync.domain.forecast import Forecast, NoForecast, forecast

FIRST, LAST = date(2026, 10, 1), date(2026, 12, 31)


def in_quarter(today: date, before: int = 0, within: int = 0, reserved: int = 0) -> object:
    """The forecast of a budget of 1,000 in the fourth quarter of 2026, which has 92 days."""
    return forecast(
        FIRST,
        LAST,
        today,
        committed_before_minor=before,
        committed_within_minor=within,
        reserved_minor=reserved,
        budgeted_minor=1000,
    )


def test_run_rate_continues_and_reservations_are_added() -> None:
    # 46 of 92 days have begun: half of the period is to come, so the range is half of 600.
    assert in_quarter(date(2026, 11, 15), within=600, reserved=50) == Forecast(1250, 950, 1550, 250)


def test_amount_committed_before_the_period_has_no_run_rate() -> None:
    assert in_quarter(date(2026, 11, 15), before=100, within=200) == Forecast(500, 400, 600, 0)


def test_last_day_has_no_range() -> None:
    assert in_quarter(LAST, within=900, reserved=101) == Forecast(1001, 1001, 1001, 1)


def test_reversals_do_not_make_the_run_rate_negative() -> None:
    assert in_quarter(date(2026, 11, 15), before=500, within=-100) == Forecast(400, 400, 400, 0)


@pytest.mark.parametrize(
    ("today", "reason"),
    [
        (date(2026, 9, 30), NoForecast.NOT_BEGUN),
        (date(2026, 10, 1), NoForecast.TOO_EARLY),
        # 9 of 92 days are less than a tenth, 10 are more.
        (date(2026, 10, 9), NoForecast.TOO_EARLY),
        (date(2026, 10, 10), None),
        (date(2026, 12, 31), None),
        (date(2027, 1, 1), NoForecast.ENDED),
    ],
)
def test_forecast_needs_a_tenth_of_a_period_that_runs(
    today: date, reason: NoForecast | None
) -> None:
    found = in_quarter(today, within=10)
    assert found == reason if reason else isinstance(found, Forecast)


def test_forecast_agrees_with_a_plain_model() -> None:
    chance = random.Random(20261201)  # noqa: S311  # the same histories every time
    shown = 0
    for number in range(1000):
        first = date(2026, 1, 1) + timedelta(chance.randrange(400))
        length = chance.choice((28, 30, 31, 90, 92, 181, 365, 366))
        last = first + timedelta(length - 1)
        today = first + timedelta(chance.randrange(-5, length + 5))
        budgeted, reserved = chance.randrange(10**9), chance.randrange(10**6)
        # Movements by day: a commit, or sometimes a reversal of a part of it.
        movements = [
            (first + timedelta(chance.randrange(-60, length)), chance.randrange(-(10**4), 10**7))
            for _ in range(chance.randrange(30))
        ]
        past = [(day, minor) for day, minor in movements if day <= today]
        before = sum(minor for day, minor in past if day < first)
        within = sum(minor for day, minor in past if day >= first)
        found = forecast(
            first,
            last,
            today,
            committed_before_minor=before,
            committed_within_minor=within,
            reserved_minor=reserved,
            budgeted_minor=budgeted,
        )
        days = [first + timedelta(day) for day in range(length)]
        begun = [day for day in days if day <= today]
        if today not in days or Fraction(len(begun), length) < Fraction(1, 10):
            assert isinstance(found, NoForecast), number
            continue
        shown += 1
        rate = Fraction(max(within, 0), len(begun))
        to_come = sum((rate for day in days if day > today), Fraction(0))
        margin = to_come * Fraction(length - len(begun), length)
        assert isinstance(found, Forecast), number
        assert abs(found.amount_minor - (before + within + reserved + to_come)) <= Fraction(1, 2)
        assert abs(found.high_minor - found.amount_minor - margin) <= Fraction(1, 2), number
        assert found.amount_minor - found.low_minor == found.high_minor - found.amount_minor
        assert found.over_minor == max(0, found.amount_minor - budgeted), number
    assert shown > 500
