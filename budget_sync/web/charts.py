"""Charts as SVG, drawn on the server. Positions across are percentages, so that a chart has the width of its page and its lines stay thin.

Nothing here has a style of its own: the stylesheet paints by class, in light and dark. What a chart shows is told in words as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from markupsafe import Markup, escape

from budget_sync.listings import Point
from budget_sync.overview import Day, Figures

#: A bar's whole budget ends here, in percent of its width; the rest is room for what is overdrawn.
BUDGET_END = 80.0
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


def bar(figures: Figures, label: str) -> Markup:
    """Committed, reserved and available of one budget, or of several added up, as one bar; `label` says it in words."""
    whole = figures.budgeted_minor
    scale = BUDGET_END / whole if whole else 0.0
    committed, used = figures.committed_minor * scale, figures.used_minor * scale
    if not whole and figures.used_minor:
        committed, used = 0.0, 100.0
    parts = [_rect("available", 0, BUDGET_END)] if whole else []
    parts.append(_rect("committed", 0, min(committed, BUDGET_END)))
    parts.append(_rect("reserved", min(committed, BUDGET_END), min(used, BUDGET_END)))
    if figures.state == "overdrawn":
        parts.append(_rect("over", BUDGET_END if whole else 0, min(used, 100.0)))
    parts.append(f'<line class="limit" x1="{BUDGET_END}%" x2="{BUDGET_END}%" y1="-2" y2="20"/>')
    return Markup('<svg class="bar" role="img" aria-label="{}" height="18" width="100%" focusable="false">{}</svg>').format(label, Markup("".join(parts)))  # noqa: S704  # made of numbers and names of this file; labels are escaped


def _rect(name: str, start: float, end: float, y: float = 2, height: float = 14) -> str:
    if end <= start:
        return ""
    # A sliver is drawn at least a third of a percent wide: something that is there must be seen.
    return f'<rect class="{name}" x="{start:.2f}%" y="{y:.1f}" width="{max(end - start, 0.35):.2f}%" height="{height:.1f}"/>'


def decisions(days: Sequence[Day], labels: Sequence[str], summary: str) -> Markup:
    """Checks a day, stacked by what was answered. `labels` are the days as people read them."""
    most = max((day.total for day in days), default=0) or 1
    step = 100 / max(len(days), 1)
    parts = [_grid(DAYS_HEIGHT)]
    for number, (day, label) in enumerate(zip(days, labels, strict=True)):
        left, bottom = number * step + step * 0.14, float(DAYS_HEIGHT)
        columns = []
        for name, count in (("auto", day.auto_approved), ("manual", day.needs_approval), ("refused", day.refused)):
            height = DAYS_HEIGHT * count / most
            bottom -= height
            if count:
                columns.append(f'<rect class="{name}" x="{left:.2f}%" y="{bottom:.1f}" width="{step * 0.72:.2f}%" height="{height:.1f}"/>')
        title = f"{label}: {day.auto_approved} auto-approved, {day.needs_approval} for FP&A, {day.refused} not covered"
        parts.append(f"<g><title>{escape(title)}</title>{''.join(columns)}</g>")
    return _chart("decisions", DAYS_HEIGHT, summary, parts)


def burn_down(points: Sequence[Point], start: datetime, end: datetime, now: datetime, pace: int | None, summary: str) -> Markup:
    """What is left of a budget over its period, step by step, with what is reserved above it.

    `pace` is the amount that an even spend would start from, None where the period's dates are not known.
    """
    span = (end - start).total_seconds() or 1.0
    most = max((max(point.figures.budgeted_minor, point.figures.used_minor) for point in points), default=0) or 1
    least = min((point.figures.available_minor for point in points), default=0)
    low = min(0, least)

    def x(at: datetime) -> float:
        return 100 * min(1.0, max(0.0, (at - start).total_seconds() / span))

    def y(minor: float) -> float:
        return BURN_HEIGHT * (most - minor) / (most - low)

    parts = [_grid(BURN_HEIGHT), f'<line class="zero" x1="0" x2="100%" y1="{y(0):.1f}" y2="{y(0):.1f}"/>']
    thinned = points[:: max(1, -(-len(points) // MAX_STEPS))]
    if points and thinned[-1] is not points[-1]:
        thinned = [*thinned, points[-1]]
    until = min(now, end) if thinned and now > thinned[-1].at else end
    previous: Point | None = None
    for point, following in zip(thinned, [*[next_.at for next_ in thinned[1:]], until], strict=True):
        left, right = x(point.at), x(following)
        left_over, freely = point.figures.available_minor, point.figures.available_minor + point.figures.reserved_minor
        parts.append(_rect("available-area", left, right, y(max(left_over, 0)), y(0) - y(max(left_over, 0))))
        if point.figures.reserved_minor:
            parts.append(_rect("reserved", left, right, y(freely), y(left_over) - y(freely)))
        if previous:
            parts.append(_line("left", left, left, y(previous.figures.available_minor), y(left_over)))
        parts.append(_line("left", left, right, y(left_over), y(left_over)))
        previous = point
    if pace is not None:
        parts.append(f'<line class="pace" x1="0" y1="{y(pace):.1f}" x2="100%" y2="{y(0):.1f}"/>')
    if start < now < end:
        parts.append(_line("today", x(now), x(now), 0, BURN_HEIGHT))
    return _chart("burn-down", BURN_HEIGHT, summary, parts)


def _line(name: str, x1: float, x2: float, y1: float, y2: float) -> str:
    return f'<line class="{name}" x1="{x1:.2f}%" x2="{x2:.2f}%" y1="{y1:.1f}" y2="{y2:.1f}"/>'


def _grid(height: int) -> str:
    return "".join(f'<line class="grid" x1="0" x2="100%" y1="{height * part / 4:.1f}" y2="{height * part / 4:.1f}"/>' for part in range(5))


def _chart(name: str, height: int, summary: str, parts: Sequence[str]) -> Markup:
    svg = '<svg class="chart {}" role="img" aria-label="{}" width="100%" height="{}" focusable="false">{}</svg>'
    return Markup(svg).format(name, summary, height, Markup("".join(parts)))  # noqa: S704  # made of numbers and names of this file; labels are escaped
