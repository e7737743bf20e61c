"""Step 2: find the header among the first rows. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate

from budget_sync.domain.periods import FiscalYear
from budget_sync.sync.reading.detect.cells import is_number_cell, is_numeric, is_year, text_of
from budget_sync.sync.reading.detect.findings import Refused
from budget_sync.sync.reading.detect.sheet import HeaderPlace
from budget_sync.sync.reading.grid import Cell, Grid
from budget_sync.sync.reading.header import joined_headings
from budget_sync.sync.reading.heading_periods import heading_period, relative_year
from budget_sync.sync.reading.headings import JOIN, Role, hkey, scores

#: The header is among the first rows of a sheet, and has at most this many rows.
SEARCHED_ROWS = 50
MAX_HEADER_ROWS = 4

#: A sheet with more columns is rejected: the search takes time for each of them.
MAX_COLUMNS = 2000

#: No header scores less.
MIN_SCORE = 1.2

_ROWS_BELOW = 30
_LONG_HEADING = 60

#: Roles are searched in this many columns. Periods are searched in all.
_ROLE_COLUMNS = 200

#: Six roles, four headings of numbers and five rows below.
_MOST_WITHOUT_PERIODS = 0.3 * 6 * 10 + 0.6 * 4 + 0.2 * 5


class TopRows:
    """The first rows of a sheet as texts, with numeric shares of the columns below each row."""

    def __init__(self, rows: Sequence[Sequence[Cell]], fiscal_year: FiscalYear) -> None:
        self.rows = rows[: SEARCHED_ROWS + _ROWS_BELOW + 1]
        self.fiscal_year = fiscal_year
        self.texts = [[text_of(cell) for cell in row] for row in self.rows]
        self.numeric = [[is_numeric(cell) for cell in row] for row in self.rows]
        self.width = max(map(len, self.rows), default=0)
        self.filled_counts = [sum(map(bool, row)) for row in self.texts]
        self.numeric_counts = [sum(row) for row in self.numeric]
        self.number_counts = [
            sum(1 for text, numeric in zip(*row, strict=True) if numeric and not is_year(text))
            for row in zip(self.texts, self.numeric, strict=True)
        ]
        self._periods: dict[str, bool] = {}
        self._best: dict[str, dict[Role, float]] = {}

    @cached_property
    def _sums(self) -> list[tuple[list[int], list[int]]]:
        """For each column, the numbers of filled and of numeric cells above each row."""
        found = []
        for column in range(self.width):
            filled = [bool(column < len(row) and row[column]) for row in self.texts]
            numeric = [column < len(row) and row[column] for row in self.numeric]
            found.append(
                (list(accumulate(filled, initial=0)), list(accumulate(numeric, initial=0)))
            )
        return found

    def share_below(self, row: int, column: int) -> float:
        """The numeric share of a column in the 30 rows below a row."""
        filled, numeric = self._sums[column]
        end = min(row + 1 + _ROWS_BELOW, len(self.rows))
        count = filled[end] - filled[row + 1]
        return (numeric[end] - numeric[row + 1]) / count if count else 0.0

    def most(self, row: int) -> float:
        """No less than the score of a header that ends at a row, without a look at its words."""
        return _MOST_WITHOUT_PERIODS + 0.9 * self.width - 2 * self.number_counts[row]

    def roles(self, heading: str) -> dict[Role, float]:
        """The scores of a heading, which are computed once."""
        if heading not in self._best:
            self._best[heading] = dict(scores(heading)) if not is_numeric(heading) else {}
        return self._best[heading]

    def has_period(self, heading: str) -> bool:
        """Whether a heading holds a period or is a relative year."""
        if heading not in self._periods:
            self._periods[heading] = (
                heading_period(heading, self.fiscal_year) is not None
                or relative_year(heading) is not None
            )
        return self._periods[heading]


def find_header(grid: Grid, fiscal_year: FiscalYear) -> tuple[HeaderPlace, float]:
    """The best header and its score. Raises Refused if nothing looks like one."""
    top = TopRows(grid.rows, fiscal_year)
    if top.width > MAX_COLUMNS:
        raise Refused(
            f"The sheet has {top.width:,} columns, and at most {MAX_COLUMNS:,} can be read. "
            "Remove the columns that are not needed."
        )
    best: HeaderPlace | None = None
    best_score = MIN_SCORE
    for bottom in range(min(SEARCHED_ROWS, len(top.rows))):
        for count in range(1, min(MAX_HEADER_ROWS, bottom + 1) + 1):
            if top.most(bottom) < best_score:
                continue
            place = _candidate(top, bottom, count)
            if place is None:
                continue
            score = round(_score(top, place), 6)
            if score > best_score or (best is None and score >= MIN_SCORE):
                best, best_score = place, score
    if best is None:
        raise Refused("None of the first 50 rows looks like a header with amounts below it.")
    return best, best_score


def _candidate(top: TopRows, bottom: int, count: int) -> HeaderPlace | None:
    """The header of `count` rows that ends at a row; None if it cannot be one."""
    first = bottom - count + 1
    if count > 1 and (top.filled_counts[first] <= 1 or not top.filled_counts[bottom]):
        return None
    if not any(top.numeric_counts[bottom + 1 : bottom + 13]):
        return None
    if count == 1 and top.filled_counts[bottom] < 2:
        return None
    headings = tuple(joined_headings(top.rows[first : bottom + 1]))
    named = [heading for heading in headings if heading]
    numbers = sum(map(_is_number, named))
    if len(named) < 2 or numbers > 0.2 * len(named):
        return None
    return HeaderPlace(first, count, headings)


def _is_number(heading: str) -> bool:
    """Whether a heading is a number that is not a year, or several numbers that are joined."""
    parts = heading.split(JOIN)
    return all(map(is_numeric, parts)) and not all(map(is_year, parts))


def _score(top: TopRows, place: HeaderPlace) -> float:
    roles: dict[Role, float] = {}
    periods = others = 0
    for column, heading in enumerate(place.headings):
        if not heading:
            continue
        if column < _ROLE_COLUMNS:
            for role, score in top.roles(heading).items():
                roles[role] = max(score, roles.get(role, 0))
        if top.share_below(place.bottom, column) < 0.6:
            continue
        if top.has_period(heading):
            periods += 1
        elif not is_numeric(heading):
            others += 1
    lowest = top.texts[place.bottom]
    numbers = sum(top.number_counts[place.top : place.bottom + 1])
    return (
        0.3 * sum(score for score in roles.values() if score >= 4)
        + 0.9 * periods
        + 0.6 * min(others, 4)
        + 0.2 * min(5, sum(n >= 2 for n in top.filled_counts[place.bottom + 1 :][:8]))
        - 2 * numbers
        - sum(len(text) > _LONG_HEADING for text in lowest)
        - 0.35 * (place.rows - 1)
        - 0.01 * place.top
        - (0 if roles.get(Role.DEPARTMENT, 0) >= 4 else 0.5)
    )


def require_one_table(grid: Grid, place: HeaderPlace) -> None:
    """Raise Refused if a department heading occurs twice at the header: there are two tables."""
    first, last = max(0, place.top - 2), place.bottom + 3
    rows = [[text_of(cell) for cell in row] for row in grid.rows[first : last + 1]]
    for texts in (*rows, place.headings):
        keys = Counter(key for text in texts if text and (key := hkey(text)))
        for text in texts:
            times = keys[hkey(text)] if text else 0
            if times > 1 and scores(text).get(Role.DEPARTMENT, 0) >= 9:
                raise Refused(
                    f"The tab has several tables side by side (the heading '{text}' occurs "
                    f"{times} times). Put each table on a separate tab."
                )


def is_blank_grid(grid: Grid) -> bool:
    """Whether no cell of a grid has a text."""
    return not any(is_number_cell(cell) or text_of(cell) for row in grid.rows for cell in row)
