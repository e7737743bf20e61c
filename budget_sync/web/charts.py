"""Charts as SVG, drawn on the server.

Horizontal positions are percentages, so that a chart is as wide as its page and its lines stay
thin. There are no styles here: the stylesheet colors the shapes by class, for light and dark. Each
chart has a text alternative.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from markupsafe import Markup, escape

from budget_sync.domain.balance import Balance
from budget_sync.queries.budgets import Point
from budget_sync.queries.overview import Day

#: The position of the budget on its bar, in percent of the width, if any bar of the list is
#: overdrawn and needs the rest for its overdraft.
OVERDRAWN_LIMIT_X = 80.0

BURN_HEIGHT = 220
DAYS_HEIGHT = 150

#: The most steps in a burn-down chart.
MAX_STEPS = 240

#: The hatching of reserved and of overdrawn money, which distinguishes them without color. Every
#: page has it once.
PATTERNS = Markup(
    '<svg class="patterns" width="0" height="0" aria-hidden="true" focusable="false"><defs>'
    '<pattern id="hatch-reserved" width="6" height="6" patternUnits="userSpaceOnUse"'
    ' patternTransform="rotate(45)"><rect class="reserved-ground" width="6" height="6"/>'
    '<rect class="reserved-line" width="2.5" height="6"/></pattern>'
    '<pattern id="hatch-over" width="6" height="6" patternUnits="userSpaceOnUse"'
    ' patternTransform="rotate(-45)"><rect class="over-ground" width="6" height="6"/>'
    '<rect class="over-line" width="3" height="6"/></pattern>'
    "</defs></svg>"
)


class Chart(NamedTuple):
    """A drawing, and the round values of its vertical axis, largest first."""

    svg: Markup
    ticks: list[int]


def limit_position(balances: Iterable[Balance]) -> float:
    """The position of the budget on the bars of a list, in percent of the width."""
    is_any_overdrawn = any(balance.state == "overdrawn" for balance in balances)
    return OVERDRAWN_LIMIT_X if is_any_overdrawn else 100.0


def bar(balance: Balance, label: str, limit_x: float | None = None) -> Markup:
    """A balance as a horizontal bar. `label` is its text alternative.

    `limit_x` is the `limit_position` of the list that the bar is in.
    """
    limit_x = limit_x or limit_position([balance])
    budgeted = balance.budgeted_minor
    scale = limit_x / budgeted if budgeted else 0.0
    committed, used = balance.committed_minor * scale, balance.used_minor * scale
    if not budgeted and balance.used_minor:
        committed, used = 0.0, 100.0
    parts = [_rect("available", 0, limit_x)] if budgeted else []
    parts.append(_rect("committed", 0, min(committed, limit_x)))
    parts.append(_rect("reserved", min(committed, limit_x), min(used, limit_x)))
    if balance.state == "overdrawn":
        parts.append(_rect("over", limit_x if budgeted else 0, min(used, 100.0)))
    if limit_x < 100:
        parts.append(f'<line class="limit" x1="{limit_x}%" x2="{limit_x}%" y1="-2" y2="20"/>')
    return _svg("bar", 18, label, parts)


def ticks(low: int, high: int) -> list[int]:
    """Round values for an axis, evenly spaced from `low` to `high`, largest first.

    At least two values, at most seven steps.
    """
    high = max(high, low + 1)
    rough = (high - low) / 5
    magnitude = 1
    while magnitude * 10 < rough:
        magnitude *= 10
    step = next(
        magnitude * tenths // 10
        for tenths in (10, 20, 25, 50, 100)
        if magnitude * tenths % 10 == 0 and magnitude * tenths >= rough * 10
    )
    return [step * number for number in range(-(-high // step), low // step - 1, -1)]


def decisions(
    days: Sequence[Day], labels: Sequence[str], summary: str, address: Callable[[Day, str], str]
) -> Chart:
    """The checks of each day as a column, stacked by their answer.

    `labels` are the days for people, `summary` is the text alternative. Each part links to
    `address(day, decision)`, with a decision of `queries.check_list.DECISIONS`. The links cannot be
    reached with the Tab key: the table next to the chart has the same ones.
    """
    axis = ticks(0, max((day.total for day in days), default=0) or 1)
    step = 100 / max(len(days), 1)
    parts = [_grid(DAYS_HEIGHT, len(axis))]
    for number, (day, label) in enumerate(zip(days, labels, strict=True)):
        left, bottom = number * step + step * 0.14, float(DAYS_HEIGHT)
        columns = []
        counts = (
            ("auto", "auto", day.auto_approved),
            ("manual", "manual", day.needs_approval),
            ("not-covered", "denied", day.not_covered),
        )
        for name, decision, count in counts:
            height = DAYS_HEIGHT * count / axis[0]
            bottom -= height
            if count:
                columns.append(
                    f'<a href="{escape(address(day, decision))}" tabindex="-1" '
                    f'aria-label="{label}, {decision}">'
                    f'<rect class="{name}" x="{left:.2f}%" y="{bottom:.1f}" '
                    f'width="{step * 0.72:.2f}%" height="{height:.1f}"/></a>'
                )
        title = (
            f"{label}: {day.auto_approved} auto-approved, {day.needs_approval} for FP&A, "
            f"{day.not_covered} not covered"
        )
        parts.append(f"<g><title>{escape(title)}</title>{''.join(columns)}</g>")
    return Chart(_svg("chart decisions", DAYS_HEIGHT, summary, parts, role="group"), axis)


class Pace(NamedTuple):
    """Even spending: from an amount at the start of a period to 0 at its end."""

    start: datetime
    end: datetime
    budgeted_minor: int


class Expected(NamedTuple):
    """What will be available at the end of a period, and the range of it, in minor units."""

    end: datetime
    available_minor: int
    low_minor: int
    high_minor: int


class _Scale(NamedTuple):
    """The positions of times, in percent of the width, and of amounts, in px from the top."""

    start: datetime
    end: datetime
    high: int
    low: int

    def x(self, at: datetime) -> float:
        share = (at - self.start).total_seconds() / (self.end - self.start).total_seconds()
        return 100 * min(1.0, max(0.0, share))

    def y(self, minor: float) -> float:
        return BURN_HEIGHT * (self.high - minor) / (self.high - self.low)


def burn_down(
    points: Sequence[Point],
    start: datetime,
    end: datetime,
    now: datetime,
    summary: str,
    *,
    pace: Pace | None = None,
    expected: Expected | None = None,
) -> Chart:
    """The available amount of a budget over time, with the reserved amount stacked on top.

    `points` is not empty. The lines of even spending and of the forecast are drawn if `pace` and
    `expected` are given.
    """
    axis = ticks(
        min(
            0,
            expected.low_minor if expected else 0,
            *(point.balance.available_minor for point in points),
        ),
        max(point.balance.budgeted_minor for point in points),
    )
    scale = _Scale(start, end, axis[0], axis[-1])
    until = min(now, end) if now > points[-1].at else end
    zero = scale.y(0)
    parts = [_grid(BURN_HEIGHT, len(axis)), _line("zero", 0, 100, zero, zero)]
    if expected is not None:
        parts.append(_range(scale, now, points[-1].balance.available_minor, expected))
    parts += _steps(points, until, scale)
    if pace is not None:
        left, right = scale.x(pace.start), scale.x(pace.end)
        parts.append(_line("pace", left, right, scale.y(pace.budgeted_minor), zero))
    if expected is not None:
        left, right = scale.x(now), scale.x(expected.end)
        now_y = scale.y(points[-1].balance.available_minor)
        parts.append(_line("expected", left, right, now_y, scale.y(expected.available_minor)))
    if start < now < end:
        parts.append(_line("today", scale.x(now), scale.x(now), 0, BURN_HEIGHT))
    return Chart(_svg("chart burn-down", BURN_HEIGHT, summary, parts), axis)


def _steps(points: Sequence[Point], until: datetime, scale: _Scale) -> list[str]:
    """The areas of available and reserved money, and the line of the available amount."""
    shown = [*points[: -1 : max(1, len(points) // MAX_STEPS)], points[-1]]
    zero = scale.y(0)
    areas, lines = [], []
    for point, following in zip(shown, [*(each.at for each in shown[1:]), until], strict=True):
        left, right = scale.x(point.at), scale.x(following)
        available = point.balance.available_minor
        # The area overlaps the next one, so that no gap shows between the two.
        top = scale.y(max(available, 0))
        last = min(right + 0.2, scale.x(until))
        areas.append(_rect("available-area", left, last, top, zero - top))
        if point.balance.reserved_minor:
            top = scale.y(available + point.balance.reserved_minor)
            areas.append(_rect("reserved", left, right, top, scale.y(available) - top))
        lines.append(_line("left", left, right, scale.y(available), scale.y(available)))
    drops = []
    for before, after in pairwise(shown):
        old, new = before.balance.available_minor, after.balance.available_minor
        at = scale.x(after.at)
        drops.append(_line("left", at, at, scale.y(old), scale.y(new)))
    return [*areas, *lines, *drops]


def _range(scale: _Scale, now: datetime, available_minor: int, expected: Expected) -> str:
    """The area between the two ends of the forecast's range, from now on."""
    left, right = scale.x(now), scale.x(expected.end)
    heights = [
        100 * scale.y(minor) / BURN_HEIGHT
        for minor in (available_minor, expected.high_minor, expected.low_minor)
    ]
    now_y, top, bottom = (f"{height:.2f}" for height in heights)
    # A drawing of its own: the points of a polygon cannot be percentages.
    return (
        f'<svg x="{left:.2f}%" width="{max(right - left, 0):.2f}%" height="{BURN_HEIGHT}" '
        'viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">'
        f'<polygon class="expected-range" points="0,{now_y} 100,{top} 100,{bottom}"/></svg>'
    )


def _rect(name: str, start: float, end: float, y: float = 2, height: float = 14) -> str:
    if end <= start:
        return ""
    # At least 0.35 % wide: a tiny amount must still be visible.
    width = max(end - start, 0.35)
    return (
        f'<rect class="{name}" x="{start:.2f}%" y="{y:.1f}" '
        f'width="{width:.2f}%" height="{height:.1f}"/>'
    )


def _line(name: str, x1: float, x2: float, y1: float, y2: float) -> str:
    return f'<line class="{name}" x1="{x1:.2f}%" x2="{x2:.2f}%" y1="{y1:.1f}" y2="{y2:.1f}"/>'


def _grid(height: int, count: int) -> str:
    heights = (height * number / (count - 1) for number in range(count))
    return "".join(_line("grid", 0, 100, y, y) for y in heights)


def _svg(name: str, height: int, label: str, parts: Iterable[str], role: str = "img") -> Markup:
    # `parts` has only numbers and names from this file; titles and addresses are escaped.
    drawing = Markup("".join(parts))  # noqa: S704
    return Markup(
        '<svg class="{}" role="{}" aria-label="{}" width="100%" height="{}" focusable="false">'
        "{}</svg>"
    ).format(name, role, label, height, drawing)
