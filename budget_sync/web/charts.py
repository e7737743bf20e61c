"""Charts as SVG, drawn on the server. Positions across are percentages, so that a chart has the width of its page and its lines stay thin.

Nothing here has a style of its own: the stylesheet paints by class, in light and dark. What a chart shows is told in words as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from markupsafe import Markup, escape

from budget_sync.domain.balance import Balance
from budget_sync.queries import Point
from budget_sync.queries.overview import Day

#: Where a budget ends on its bar, in percent of the width, once a bar beside it needs room for what is overdrawn.
OVERDRAWN_END = 80.0

BURN_HEIGHT = 220
DAYS_HEIGHT = 150

#: A chart has so many steps at most.
MAX_STEPS = 240

#: The hatching of reserved and of overdrawn money, so that they are told apart without colour. Once a page.
PATTERNS = Markup(
    '<svg class="patterns" width="0" height="0" aria-hidden="true" focusable="false"><defs>'
    '<pattern id="hatch-reserved" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect class="reserved-ground" width="6" height="6"/><rect class="reserved-line" width="2.5" height="6"/></pattern>'
    '<pattern id="hatch-over" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(-45)">'
    '<rect class="over-ground" width="6" height="6"/><rect class="over-line" width="3" height="6"/></pattern>'
    "</defs></svg>"
)


class Chart(NamedTuple):
    """A drawing, and the round values of its axis, largest first."""

    svg: Markup
    ticks: list[int]


def budget_end(figures: Iterable[Balance]) -> float:
    """Where budgets end on bars that stand below one another."""
    return OVERDRAWN_END if any(each.state == "overdrawn" for each in figures) else 100.0


def bar(figures: Balance, label: str, end: float | None = None) -> Markup:
    """Committed, reserved and available of one budget, or of several added up, as one bar; `label` says it in words."""
    end = end or budget_end([figures])
    whole = figures.budgeted_minor
    scale = end / whole if whole else 0.0
    committed, used = figures.committed_minor * scale, figures.used_minor * scale
    if not whole and figures.used_minor:
        committed, used = 0.0, 100.0
    parts = [_rect("available", 0, end)] if whole else []
    parts.append(_rect("committed", 0, min(committed, end)))
    parts.append(_rect("reserved", min(committed, end), min(used, end)))
    if figures.state == "overdrawn":
        parts.append(_rect("over", end if whole else 0, min(used, 100.0)))
    if end < 100:
        parts.append(f'<line class="limit" x1="{end}%" x2="{end}%" y1="-2" y2="20"/>')
    return _svg("bar", 18, label, parts)


def ticks(low: int, high: int) -> list[int]:
    """Round values that reach from `low` to `high` in at most six equal steps, largest first; two at least."""
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


def decisions(days: Sequence[Day], labels: Sequence[str], summary: str) -> Chart:
    """Checks a day, stacked by what was answered. `labels` are the days as people read them."""
    axis = ticks(0, max((day.total for day in days), default=0) or 1)
    step = 100 / max(len(days), 1)
    parts = [_grid(DAYS_HEIGHT, len(axis))]
    for number, (day, label) in enumerate(zip(days, labels, strict=True)):
        left, bottom = number * step + step * 0.14, float(DAYS_HEIGHT)
        columns = []
        for name, count in (
            ("auto", day.auto_approved),
            ("manual", day.needs_approval),
            ("refused", day.refused),
        ):
            height = DAYS_HEIGHT * count / axis[0]
            bottom -= height
            if count:
                columns.append(
                    f'<rect class="{name}" x="{left:.2f}%" y="{bottom:.1f}" width="{step * 0.72:.2f}%" height="{height:.1f}"/>'
                )
        title = f"{label}: {day.auto_approved} auto-approved, {day.needs_approval} for FP&A, {day.refused} not covered"
        parts.append(f"<g><title>{escape(title)}</title>{''.join(columns)}</g>")
    return Chart(_svg("chart decisions", DAYS_HEIGHT, summary, parts), axis)


def burn_down(
    points: Sequence[Point],
    start: datetime,
    end: datetime,
    now: datetime,
    pace_minor: int | None,
    summary: str,
) -> Chart:
    """What is left of a budget over its period, step by step, with what is reserved above it. Needs one point at least.

    `pace_minor` is the amount that an even spend would start from, None where the period's dates are not known.
    """
    span = (end - start).total_seconds()
    axis = ticks(
        min(0, *(point.figures.available_minor for point in points)),
        max(point.figures.budgeted_minor for point in points),
    )

    def x(at: datetime) -> float:
        return 100 * min(1.0, max(0.0, (at - start).total_seconds() / span))

    def y(minor: float) -> float:
        return BURN_HEIGHT * (axis[0] - minor) / (axis[0] - axis[-1])

    shown = [*points[: -1 : max(1, len(points) // MAX_STEPS)], points[-1]]
    until = min(now, end) if now > points[-1].at else end
    parts = [_grid(BURN_HEIGHT, len(axis)), _line("zero", 0, 100, y(0), y(0))]
    areas, lines = [], []
    for point, following in zip(shown, [*(each.at for each in shown[1:]), until], strict=True):
        left, right, free_minor = x(point.at), x(following), point.figures.available_minor
        # The next step's area covers the overlap, which leaves no seam between the two.
        areas.append(
            _rect(
                "available-area",
                left,
                min(right + 0.2, x(until)),
                y(max(free_minor, 0)),
                y(0) - y(max(free_minor, 0)),
            )
        )
        if point.figures.reserved_minor:
            held = y(free_minor + point.figures.reserved_minor)
            areas.append(_rect("reserved", left, right, held, y(free_minor) - held))
        lines.append(_line("left", left, right, y(free_minor), y(free_minor)))
    falls = (
        _line(
            "left",
            x(after.at),
            x(after.at),
            y(before.figures.available_minor),
            y(after.figures.available_minor),
        )
        for before, after in pairwise(shown)
    )
    parts += [*areas, *lines, *falls]
    if pace_minor is not None:
        parts.append(_line("pace", 0, 100, y(pace_minor), y(0)))
    if start < now < end:
        parts.append(_line("today", x(now), x(now), 0, BURN_HEIGHT))
    return Chart(_svg("chart burn-down", BURN_HEIGHT, summary, parts), axis)


def _rect(name: str, start: float, end: float, y: float = 2, height: float = 14) -> str:
    if end <= start:
        return ""
    # A sliver is drawn at least a third of a percent wide: something that is there must be seen.
    return f'<rect class="{name}" x="{start:.2f}%" y="{y:.1f}" width="{max(end - start, 0.35):.2f}%" height="{height:.1f}"/>'


def _line(name: str, x1: float, x2: float, y1: float, y2: float) -> str:
    return f'<line class="{name}" x1="{x1:.2f}%" x2="{x2:.2f}%" y1="{y1:.1f}" y2="{y2:.1f}"/>'


def _grid(height: int, count: int) -> str:
    heights = (height * number / (count - 1) for number in range(count))
    return "".join(_line("grid", 0, 100, y, y) for y in heights)


def _svg(name: str, height: int, label: str, parts: Iterable[str]) -> Markup:
    drawing = Markup("".join(parts))  # noqa: S704  # made of numbers and of this file's own names; titles are escaped
    return Markup(
        '<svg class="{}" role="img" aria-label="{}" width="100%" height="{}" focusable="false">{}</svg>'
    ).format(name, label, height, drawing)
