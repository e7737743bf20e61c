"""How pages write amounts, times and the ledger's words, and how charts choose their axes."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.machine import PROJECT

from budget_sync.domain.balance import Balance
from budget_sync.domain.money import MAX_EXPONENT, format_money
from budget_sync.queries import Point
from budget_sync.web import charts
from budget_sync.web.console import formats


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\t=1", "\r=1", " =1", "\uff1d1"])
def test_a_cell_that_a_spreadsheet_would_run_is_quoted(text: str) -> None:
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
def test_money_lines_up(minor: int, currency: str, exponent: int, text: str) -> None:
    assert formats.money(minor, currency, exponent) == text


@given(
    st.integers(-(10**15), 10**15),
    st.sampled_from(["USD", "EUR", "JPY", "KWD", "CHF", "CLF"]),
    st.integers(0, MAX_EXPONENT),
)
def test_a_page_writes_an_amount_as_replies_do(minor: int, currency: str, exponent: int) -> None:
    assert formats.money_short(minor, currency, exponent).replace(
        formats.MINUS, "-"
    ) == format_money(minor, currency, exponent)


@given(st.integers(-(10**15), 0), st.integers(0, 10**15))
def test_an_axis_has_a_few_round_values_and_reaches_from_end_to_end(low: int, high: int) -> None:
    values = charts.ticks(low, high)
    assert values[0] >= high
    assert values[-1] <= low
    assert 2 <= len(values) <= 8
    assert 0 in values
    (step,) = {above - below for above, below in pairwise(values)}
    assert str(step).rstrip("0") in ("1", "2", "25", "5")


def shares(svg: str) -> dict[str, float]:
    """The percent of a bar's width that each of its parts ends at."""
    return {
        name: float(x) + float(width)
        for name, x, width in re.findall(
            r'<rect class="([\w-]+)" x="([\d.]+)%" y="[\d.]+" width="([\d.]+)%"', svg
        )
    }


def test_a_bar_shows_what_is_committed_reserved_and_left() -> None:
    assert shares(charts.bar(Balance("USD", 2, 200, 50, 100), "")) == {
        "available": 100,
        "committed": 50,
        "reserved": 75,
    }


def test_a_bar_shows_what_is_beyond_the_budget_and_those_below_it_end_where_it_does() -> None:
    over, calm = Balance("USD", 2, 100, 10, 100), Balance("USD", 2, 100, 0, 50)
    end = charts.budget_end([calm, over])
    assert shares(charts.bar(over, "", end)) == {
        "available": end,
        "committed": end,
        "over": pytest.approx(end * 1.1),
    }
    assert shares(charts.bar(calm, "", end)) == {"available": end, "committed": end / 2}
    assert shares(charts.bar(Balance("USD", 2, 0, 5, 0), "")) == {"reserved": 80, "over": 100}


def test_a_label_of_a_chart_is_text() -> None:
    assert "<script>" not in charts.bar(Balance("USD", 2, 1, 0, 0), '"><script>')


def test_a_burn_down_falls_from_step_to_step_and_stops_at_the_present() -> None:
    start = datetime(2025, 1, 1, tzinfo=UTC)
    points = [
        Point(start + timedelta(days=day), Balance("USD", 2, 1000, held, spent))
        for day, held, spent in ((0, 0, 0), (10, 200, 0), (20, 0, 500))
    ]
    chart = charts.burn_down(
        points, start, start + timedelta(days=100), start + timedelta(days=30), 1000, "told"
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
def test_an_axis_is_short(minor: int, text: str) -> None:
    assert formats.money_axis(minor, "USD", 2) == text


def test_a_moment_is_told_in_its_zone() -> None:
    told = formats.when(datetime(2025, 7, 1, 22, 5, tzinfo=UTC), ZoneInfo("Europe/Berlin"))
    assert re.sub("<[^>]+>", "", told) == "2 Jul 2025, 00:05"


def test_every_action_of_the_audit_log_has_its_words() -> None:
    text = (PROJECT / "schema.sql").read_text(encoding="utf-8")
    listed = re.search(r'CHECK \("action" IN \((.*?)\)\)', text, flags=re.DOTALL)
    assert listed
    assert set(re.findall("[A-Z_]+", listed[1])) == set(formats.ACTIONS)
