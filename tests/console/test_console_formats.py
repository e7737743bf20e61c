"""Formatting of amounts, times and labels, and the geometry of charts."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_sync.database.schema import audit_actions
from budget_sync.domain.balance import Balance
from budget_sync.domain.money import MAX_EXPONENT, format_money
from budget_sync.queries.budgets import Point
from budget_sync.web import charts
from budget_sync.web.console import formats


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("Save it as UTF-8, or run reread-source.", "Save it as UTF-8, or read the sheet again."),
        ("Run reread-source to confirm.", "Read the sheet again to confirm."),
        (
            (
                "Answer on the Sync page or with `flask answer-hold SOURCE` and "
                "--rename 'bud_1=No. 1 or 2|2026-Q1' or --different bud_1. 1 creation held back."
            ),
            "Answer on the Sync page. 1 creation held back.",
        ),
        (
            (
                "Answer on the Sync page or with `flask answer-hold SOURCE` and "
                "--rename 'a. b=Lamp|2026' or --different 'a. b'."
            ),
            "Answer on the Sync page.",
        ),
        (
            "Approve them on the Sync page or with `flask sync-sheets --allow-deletes`.",
            "Approve them on the Sync page.",
        ),
        ("3 created", "3 created"),
    ],
)
def test_messages_name_no_command_in_the_console(message: str, shown: str) -> None:
    assert formats.in_console(message) == shown


@pytest.mark.parametrize(
    ("budget_id", "stored", "shown"),
    [
        (
            "bud_1",
            '{"answer": "same", "newKey": "lampe north|2026-Q1"}',
            "rename of bud_1: same budget (lampe north, 2026-Q1)",
        ),
        (None, '{"answer": "approve", "newKey": null}', "rename: approve"),
        ("bud_1", "not JSON", "rename of bud_1"),
        ("bud_1", None, "rename of bud_1"),
    ],
)
def test_answer_to_a_held_change_names_budget_and_answer(
    budget_id: str | None, stored: str | None, shown: str
) -> None:
    assert formats.hold_answer("rename", budget_id, stored) == shown


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("240000.5", "EUR", "€240,000.50"),
        ("132500", "USD", "$132,500.00"),
        ("500", "JPY", "¥500"),
        ("0.5", "JPY", "0.5 JPY"),
    ],
)
def test_whole_money_has_the_decimals_of_its_currency(
    amount: str, currency: str, text: str
) -> None:
    assert formats.whole_money(Decimal(amount), currency) == text


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\t=1", "\r=1", " =1", "\uff1d1"])
def test_formula_cells_are_quoted(text: str) -> None:
    assert formats.safe_cell(text) == f"'{text}"
    assert formats.safe_cell(f"a{text}") == f"a{text}"
    assert formats.safe_cell(Decimal(-1)) == Decimal(-1)


@pytest.mark.parametrize(
    ("minor", "currency", "exponent", "text"),
    [
        (200_000, "USD", 2, "$2,000.00"),
        (-1050, "USD", 2, "\u2212$10.50"),
        (-50, "USD", 2, "\u2212$0.50"),
        (500, "JPY", 0, "¥500"),
        (500, "JPY", 2, "¥5.00"),
        (1234, "KWD", 3, "KWD1.234"),
        (0, "EUR", 2, "€0.00"),
    ],
)
def test_money_shows_all_decimals(minor: int, currency: str, exponent: int, text: str) -> None:
    assert formats.money(minor, currency, exponent) == text


@given(
    st.integers(-(10**15), 10**15),
    st.sampled_from(["USD", "EUR", "JPY", "KWD", "CHF", "CLF"]),
    st.integers(0, MAX_EXPONENT),
)
def test_short_money_agrees_with_the_api(minor: int, currency: str, exponent: int) -> None:
    assert formats.money_short(minor, currency, exponent).replace(
        formats.MINUS, "-"
    ) == format_money(minor, currency, exponent)


@given(st.integers(-(10**15), 0), st.integers(0, 10**15))
def test_axis_has_a_few_round_values_and_covers_the_range(low: int, high: int) -> None:
    values = charts.ticks(low, high)
    assert values[0] >= high
    assert values[-1] <= low
    assert 2 <= len(values) <= 8
    assert 0 in values
    (step,) = {above - below for above, below in pairwise(values)}
    assert str(step).rstrip("0") in ("1", "2", "25", "5")


def shares(svg: str) -> dict[str, float]:
    """The right end of each part of a bar, in percent of the width."""
    return {
        name: float(x) + float(width)
        for name, x, width in re.findall(
            r'<rect class="([\w-]+)" x="([\d.]+)%" y="[\d.]+" width="([\d.]+)%"', svg
        )
    }


def test_bar_shows_committed_reserved_and_available() -> None:
    assert shares(charts.bar(Balance("USD", 2, 200, 50, 100), "")) == {
        "available": 100,
        "committed": 50,
        "reserved": 75,
    }


def test_overdrawn_bar_shrinks_all_bars_of_its_list() -> None:
    over, calm = Balance("USD", 2, 100, 10, 100), Balance("USD", 2, 100, 0, 50)
    end = charts.limit_position([calm, over])
    assert shares(charts.bar(over, "", end)) == {
        "available": end,
        "committed": end,
        "over": pytest.approx(end * 1.1),
    }
    assert shares(charts.bar(calm, "", end)) == {"available": end, "committed": end / 2}
    assert shares(charts.bar(Balance("USD", 2, 0, 5, 0), "")) == {"reserved": 80, "over": 100}


def test_chart_label_is_escaped() -> None:
    assert "<script>" not in charts.bar(Balance("USD", 2, 1, 0, 0), '"><script>')


def test_burn_down_falls_in_steps_and_stops_at_the_present() -> None:
    start = datetime(2025, 1, 1, tzinfo=UTC)
    points = [
        Point(start + timedelta(days=day), Balance("USD", 2, 1000, held, spent))
        for day, held, spent in ((0, 0, 0), (10, 200, 0), (20, 0, 500))
    ]
    chart = charts.burn_down(
        points, start, start + timedelta(days=100), start + timedelta(days=30), "summary"
    )
    lines = re.findall(
        r'<line class="left" x1="([\d.]+)%" x2="([\d.]+)%" y1="([\d.]+)" y2="([\d.]+)"', chart.svg
    )
    height = charts.BURN_HEIGHT
    levels = [
        (float(x1), float(x2), (height - float(y1)) * 1000 / height)
        for x1, x2, y1, y2 in lines
        if y1 == y2
    ]
    assert levels == [(0, 10, 1000), (10, 20, 800), (20, 30, 500)]
    assert chart.ticks == [1000, 800, 600, 400, 200, 0]


def test_even_spending_runs_from_first_to_last_day_of_the_period() -> None:
    # A budget for the fourth quarter that was loaded in January.
    start = datetime(2025, 1, 1, tzinfo=UTC)
    first, end = datetime(2025, 10, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    points = [Point(start, Balance("USD", 2, 1000, 0, 0))]
    pace = charts.Pace(first, end, 1000)
    chart = charts.burn_down(points, start, end, first + timedelta(days=46), "", pace=pace)
    (line,) = re.findall(r'<line class="pace" x1="([\d.]+)%" x2="([\d.]+)%" y1="(.+?)"', chart.svg)
    assert line == (f"{100 * 273 / 365:.2f}", "100.00", "0.0")


def test_forecast_runs_from_now_to_the_end_with_its_range() -> None:
    start = datetime(2025, 1, 1, tzinfo=UTC)
    now, end = start + timedelta(days=50), start + timedelta(days=100)
    points = [Point(start, Balance("USD", 2, 1000, 0, 600))]
    expected = charts.Expected(end, -200, -500, 100)
    chart = charts.burn_down(points, start, end, now, "", expected=expected)
    line = re.search(
        r'<line class="expected" x1="(.+?)%" x2="(.+?)%" y1="(.+?)" y2="(.+?)"', chart.svg
    )
    assert chart.ticks[-1] == -500
    height = charts.BURN_HEIGHT / (chart.ticks[0] + 500)
    assert line
    assert [float(each) for each in line.groups()] == pytest.approx(
        [50, 100, 600 * height, 1200 * height], abs=0.05
    )
    points_of_range = re.search(r'class="expected-range" points="(.+?)"', chart.svg)
    assert points_of_range
    assert points_of_range[1] == "0,40.00 100,60.00 100,100.00"


@pytest.mark.parametrize(
    ("minor", "text"),
    [
        (48_000_000, "$480K"),
        (150_000_000, "$1.5M"),
        (99_900, "$999"),
        (0, "$0"),
        (-1_200_000, "\u2212$12K"),
    ],
)
def test_axis_labels_are_short(minor: int, text: str) -> None:
    assert formats.money_axis(minor, "USD", 2) == text


def test_time_is_shown_in_its_zone() -> None:
    shown = formats.when(datetime(2025, 7, 1, 22, 5, tzinfo=UTC), ZoneInfo("Europe/Berlin"))
    assert re.sub("<[^>]+>", "", shown) == "2 Jul 2025, 00:05"


def test_every_audit_action_has_a_label() -> None:
    assert set(audit_actions()) == set(formats.ACTIONS)
