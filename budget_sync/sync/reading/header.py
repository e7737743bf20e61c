"""Finds the header of a sheet again, and the columns that a reading uses. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from difflib import SequenceMatcher
from typing import Final, NamedTuple

from budget_sync.domain.names import fold
from budget_sync.sync.limits import MAX_CELL_CHARS, Check, no_check, quoted
from budget_sync.sync.reading.decode import HEADER_WITHIN_ROWS
from budget_sync.sync.reading.grid import Cell, DateCell, Grid
from budget_sync.sync.reading.headings import JOIN, hkey
from budget_sync.sync.reading.model import CurrencyColumn, PeriodColumn, Reading
from budget_sync.sync.reading.result import SheetProblem

#: Headings are searched in this many columns. No spreadsheet program has more.
MAX_COLUMNS: Final = 20_000

#: A heading is a likely new name of a missing one from this `difflib` ratio.
_LIKELY_RATIO: Final = 0.6

#: A new name is searched among this many headings.
_MAX_CANDIDATES: Final = 200
_COMPARED_CHARS: Final = 200

_WITHOUT_HEADING = re.compile(r"@([0-9]{1,6})")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a reading's columns are in a sheet.

    `header_rows` are sheet rows from 1. `headings` are the joined headings of all columns, blank
    for a column without one. `columns` has the index, from 0, of each heading that the reading
    uses.
    """

    header_rows: tuple[int, ...]
    headings: tuple[str, ...]
    columns: Mapping[str, int]

    @property
    def last_row(self) -> int:
        """The sheet row of the lowest header row."""
        return self.header_rows[-1]


def find_layout(reading: Reading, grid: Grid, check: Check = no_check) -> Layout:
    """The first header among the first 50 rows that has all headings of the reading.

    Raises SheetProblem if there is none, or if a heading fits two columns.
    """
    wanted = used_headings(reading)
    count = reading.header.rows
    closest: _Match | None = None
    for start in range(max(min(HEADER_WITHIN_ROWS, len(grid.rows)) - count + 1, 0)):
        check()
        headings = joined_headings(grid.rows[start : start + count])
        found = match_headings(headings, wanted)
        rows = tuple(range(start + 1, start + count + 1))
        if not found.missing:
            if found.twice:
                raise SheetProblem(
                    f"The header (row {rows[-1]}) has {quoted(found.twice[0])} twice. Rename one "
                    "of them."
                )
            return Layout(rows, tuple(headings), found.columns)
        if closest is None or len(found.missing) < len(closest.missing):
            closest = found
    if closest is None or not any(map(_has_text, grid.rows)):
        raise SheetProblem("The sheet is empty. Nothing was changed. Is it the right sheet?")
    raise SheetProblem(_missing(closest))


def used_headings(reading: Reading) -> list[str]:
    """The headings that a reading uses, each once."""
    period, currency = reading.period, reading.currency
    headings: list[str | None] = [reading.department.column]
    if isinstance(period, PeriodColumn):
        headings += [period.column, period.part]
    headings += [*reading.amount.columns, reading.id, reading.limit]
    if isinstance(currency, CurrencyColumn):
        headings.append(currency.column)
    headings += [each.column for each in reading.keep]
    return list(dict.fromkeys(heading for heading in headings if heading is not None))


def joined_headings(rows: Sequence[Sequence[Cell]]) -> list[str]:
    """The heading of each column of a header of one or more rows; blank for a column without one.

    A text in an upper row continues to the right over blank cells, until the next text of that row,
    for all columns with a text in a lower row.
    """
    texts = [[heading_text(cell) for cell in cells[:MAX_COLUMNS]] for cells in rows]
    width = max(map(len, texts), default=0)
    joined = texts[-1] + [""] * (width - len(texts[-1])) if texts else []
    for upper in reversed(texts[:-1]):
        last = ""
        for column in range(width):
            text = upper[column] if column < len(upper) else ""
            last = text or last
            if joined[column]:
                joined[column] = f"{last}{JOIN}{joined[column]}" if last else joined[column]
            else:
                joined[column] = text
    return joined


def heading_text(cell: Cell) -> str:
    """The text of a header cell with single spaces; blank if it cannot be a heading."""
    if isinstance(cell, DateCell):
        return cell.shown or ""
    if isinstance(cell, bool) or cell is None:
        return ""
    if isinstance(cell, int | float | Decimal):
        return digits(cell)
    if not isinstance(cell, str) or len(cell) > MAX_CELL_CHARS:
        return ""
    return " ".join(cell.replace("\ufeff", "").split())


def digits(number: float | Decimal) -> str:
    """A number cell as people read it: 12, not 12.0."""
    exact = Decimal(repr(number)) if isinstance(number, float) else Decimal(number)
    if not exact.is_finite() or exact.adjusted() > 20 or exact.adjusted() < -20:
        return str(number)
    return f"{int(exact)}" if exact == exact.to_integral_value() else f"{exact.normalize():f}"


class _Match(NamedTuple):
    """What a row has of the headings that a reading uses. `others` are its other headings."""

    columns: dict[str, int]
    missing: list[str]
    twice: list[str]
    others: list[str]


def match_headings(headings: Sequence[str], wanted: Iterable[str]) -> _Match:
    """Find the column of each heading of a reading.

    A folded text that is equal wins over an equal `hkey`. One column fits one heading.
    """
    by_fold: dict[str, list[int]] = {}
    for column, heading in enumerate(headings):
        if heading:
            by_fold.setdefault(fold(heading), []).append(column)
    fits: dict[str, list[int]] = {}
    rest: list[str] = []
    for heading in wanted:
        blank = _WITHOUT_HEADING.fullmatch(heading)
        if blank:
            column = int(blank[1])
            is_blank = column >= len(headings) or not headings[column]
            fits[heading] = [column] if is_blank else []
        elif found := by_fold.get(fold(heading)):
            fits[heading] = found
        else:
            rest.append(heading)
    if rest:
        taken = {column for columns in fits.values() for column in columns}
        fits |= _by_hkey(headings, rest, taken)
    used = {column for columns in fits.values() for column in columns}
    return _Match(
        columns={heading: columns[0] for heading, columns in fits.items() if columns},
        missing=[heading for heading, columns in fits.items() if not columns],
        twice=[heading for heading, columns in fits.items() if len(columns) > 1],
        others=[text for column, text in enumerate(headings) if text and column not in used],
    )


def _by_hkey(
    headings: Sequence[str], wanted: Iterable[str], taken: set[int]
) -> dict[str, list[int]]:
    """The columns of each heading by its letters and digits; a column fits only one of them."""
    by_key: dict[str, list[int]] = {}
    for column, heading in enumerate(headings):
        if heading and column not in taken and (key := hkey(heading)):
            by_key.setdefault(key, []).append(column)
    return {heading: by_key.pop(hkey(heading), []) for heading in wanted}


def _has_text(cells: Sequence[Cell]) -> bool:
    return any(cell is not None and cell != "" for cell in cells)


def _missing(closest: _Match) -> str:
    """The message for headings that no row has; the likeliest new name of the first is a hint."""
    names = ", ".join(quoted(heading) for heading in closest.missing[:5])
    plural = "s" * (len(closest.missing) > 1)
    renamed = _likeliest(closest.missing[0], closest.others)
    hint = f" It may be called {quoted(renamed)} now." if renamed and not plural else ""
    return (
        f"No row among the first {HEADER_WITHIN_ROWS} has the heading{plural} {names}, which this "
        f"source is read by.{hint} Run reread-source to confirm."
    )


def _likeliest(heading: str, candidates: Iterable[str]) -> str | None:
    """The candidate that is most like a heading; None if none is likely."""
    matcher = SequenceMatcher(None, b=fold(heading)[:_COMPARED_CHARS], autojunk=False)
    ratios: dict[str, float] = {}
    for candidate in list(candidates)[:_MAX_CANDIDATES]:
        matcher.set_seq1(fold(candidate)[:_COMPARED_CHARS])
        if matcher.quick_ratio() >= _LIKELY_RATIO:
            ratios[candidate] = matcher.ratio()
    best = max(ratios, key=ratios.__getitem__, default=None)
    return best if best is not None and ratios[best] >= _LIKELY_RATIO else None
