"""The part of a sheet and its reading that a page shows: some cells, and the budgets. Pure.

A child process creates it, so its size is bounded for a sheet of any size.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import NamedTuple

from budget_sync.sync.reading.grid import (
    Cell,
    DateCell,
    Grid,
    LongCell,
    PercentCell,
    UncalculatedCell,
)
from budget_sync.sync.reading.header import Layout, find_layout, match_headings
from budget_sync.sync.reading.model import (
    CurrencyColumn,
    PeriodColumn,
    PeriodHeadings,
    Reading,
)
from budget_sync.sync.reading.proposal import Proposal
from budget_sync.sync.reading.result import (
    Facts,
    RowError,
    SheetBudget,
    SheetProblem,
    SheetResult,
    SheetRow,
)

#: Rows below the header, rows above it, and columns that a page shows.
SHOWN_ROWS = 20
ROWS_ABOVE = 3
SHOWN_COLUMNS = 14

#: Budgets and rejected rows that a page lists.
SHOWN_BUDGETS = 20
SHOWN_ERRORS = 50

#: A cell is cut to this many characters, a message about rows to the second number.
CELL_CHARS = 60
MESSAGE_CHARS = 300


class ShownColumn(NamedTuple):
    """A column: its position from 0, its letters, and its role or ""."""

    position: int
    letters: str
    role: str


class ShownRow(NamedTuple):
    """A row of the sheet, with the text of each shown column.

    `kind` is "above", "header", "counted", "skipped" or "rejected". `why` is the reason of the last
    two.
    """

    number: int
    cells: tuple[str, ...]
    kind: str
    why: str = ""


class Total(NamedTuple):
    """The sum of the budgets in one currency."""

    currency: str
    exponent: int
    minor: int
    budget_count: int


@dataclass(frozen=True, slots=True)
class SheetView:
    """A sheet, a proposal (or a stored reading) for it, and what it finds.

    `proposal` has no trial: its budgets are in the other fields. `skipped` counts the skipped rows
    by reason. `book` is the title of a Google spreadsheet. `fingerprint` changes with the reading
    and with every budget that it finds.
    """

    name: str
    worksheet: str | None
    proposal: Proposal
    columns: tuple[ShownColumn, ...] = ()
    rows: tuple[ShownRow, ...] = ()
    column_count: int = 0
    budgets: tuple[SheetRow, ...] = ()
    budget_count: int = 0
    totals: tuple[Total, ...] = ()
    largest: SheetBudget | None = None
    errors: tuple[RowError, ...] = ()
    error_count: int = 0
    skipped: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()
    facts: Facts | None = None
    fingerprint: str = ""
    book: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the reading can be confirmed."""
        return self.proposal.reading is not None and not self.proposal.open


def view_of(
    name: str,
    worksheet: str | None,
    grid: Grid,
    proposal: Proposal,
) -> SheetView:
    """The view of a sheet. `grid` has at least its first rows."""
    trial = proposal.trial
    layout = _layout(proposal.reading, grid)
    header = range(layout.header_rows[0], layout.last_row + 1) if layout else range(1, 1)
    shown = SheetView(
        name,
        worksheet,
        replace(proposal, trial=None),
        column_count=max(map(len, grid.rows[: header.stop + SHOWN_ROWS]), default=0),
        fingerprint=_fingerprint(proposal, trial),
    )
    columns = _columns(grid, proposal.reading, layout, header)
    shown = replace(shown, columns=columns, rows=_rows(grid, columns, header, trial))
    return shown if trial is None else _with_result(shown, trial)


def _with_result(shown: SheetView, trial: SheetResult) -> SheetView:
    budgets = [row.budget for row in trial.rows]
    counted = Counter(trial.skipped.values())
    return replace(
        shown,
        budgets=tuple(trial.rows[:SHOWN_BUDGETS]),
        budget_count=len(budgets),
        totals=_totals(budgets),
        largest=max(budgets, key=_whole_units, default=None),
        errors=tuple(
            each._replace(message=_cut(each.message, MESSAGE_CHARS), rows=each.rows[:20])
            for each in trial.errors[:SHOWN_ERRORS]
        ),
        error_count=len(trial.errors),
        skipped=tuple(counted.most_common(20)),
        notes=tuple(trial.notes[:SHOWN_ERRORS]),
        facts=trial.facts,
    )


def _whole_units(budget: SheetBudget) -> Decimal:
    return Decimal(budget.budgeted_minor).scaleb(-budget.exponent)


def _totals(budgets: Sequence[SheetBudget]) -> tuple[Total, ...]:
    """The sums by currency, the one with most budgets first."""
    sums: dict[str, Total] = {}
    for each in budgets:
        before = sums.get(each.currency, Total(each.currency, each.exponent, 0, 0))
        sums[each.currency] = before._replace(
            minor=before.minor + each.budgeted_minor, budget_count=before.budget_count + 1
        )
    return tuple(sorted(sums.values(), key=lambda total: (-total.budget_count, total.currency)))


def _layout(reading: Reading | None, grid: Grid) -> Layout | None:
    """Where the reading's columns are; None if they cannot be found."""
    if reading is None:
        return None
    try:
        return find_layout(reading, grid)
    except SheetProblem:
        return None


def _columns(
    grid: Grid, reading: Reading | None, layout: Layout | None, header: range
) -> tuple[ShownColumn, ...]:
    """The first columns, and all that the reading uses."""
    used = _used(reading, layout) if reading and layout else {}
    rows = grid.rows[max(header.start - 1, 0) : header.stop - 1 + SHOWN_ROWS]
    width = max(map(len, rows), default=0)
    indices = sorted({*range(min(width, SHOWN_COLUMNS)), *sorted(used)[:SHOWN_COLUMNS]})
    return tuple(ShownColumn(index, letters(index), used.get(index, "")) for index in indices)


def _used(reading: Reading, layout: Layout) -> dict[int, str]:
    """The role of each column that has one, by its index."""
    roles = roles_of(reading)
    used = {
        index: roles[heading]
        for index, heading in enumerate(layout.headings)
        if roles.get(heading) == "ignored"
    }
    if reading.owner is not None:
        # A sheet may have lost this column, so the layout does not have it.
        found = match_headings(layout.headings, [reading.owner]).columns
        used |= dict.fromkeys(found.values(), "owner")
    return used | {index: roles.get(heading, "") for heading, index in layout.columns.items()}


def roles_of(reading: Reading) -> dict[str, str]:
    """The role of each heading that a reading uses."""
    roles = dict.fromkeys((each.column for each in reading.keep), "filter")
    if isinstance(reading.period, PeriodColumn):
        if reading.period.part is not None:
            roles[reading.period.part] = "period"
        roles[reading.period.column] = "period"
    if isinstance(reading.currency, CurrencyColumn):
        roles[reading.currency.column] = "currency"
    if reading.id is not None:
        roles[reading.id] = "id"
    if reading.limit is not None:
        roles[reading.limit] = "limit"
    if isinstance(reading.period, PeriodHeadings):
        roles |= dict.fromkeys(reading.period.ignored, "ignored")
    roles |= dict.fromkeys(reading.amount.columns, "amount")
    return roles | {reading.department.column: "department"}


def _rows(
    grid: Grid, columns: Sequence[ShownColumn], header: range, trial: SheetResult | None
) -> tuple[ShownRow, ...]:
    """The header, some rows above it, and the first rows below it that are not blank."""
    skipped = {} if trial is None else trial.skipped
    rejected = {} if trial is None else _rejected(trial)
    rows = []
    below = 0
    for number in range(max(1, header.start - ROWS_ABOVE), len(grid.rows) + 1):
        row = grid.rows[number - 1]
        cells = tuple(
            _cut(cell_text(row[column.position]), CELL_CHARS) if column.position < len(row) else ""
            for column in columns
        )
        kind = "above" if number < header.start else "header" if number in header else "counted"
        why = ""
        if number >= header.stop:
            if not any(cells) and number not in skipped:
                continue
            below += 1
            why = skipped.get(number) or rejected.get(number, "")
            if why:
                kind = "skipped" if number in skipped else "rejected"
        rows.append(ShownRow(number, cells, kind, why))
        if below == SHOWN_ROWS:
            break
    return tuple(rows)


def _rejected(trial: SheetResult) -> dict[int, str]:
    """The first message about each rejected row."""
    found: dict[int, str] = {}
    for error in trial.errors:
        for number in error.rows:
            found.setdefault(number, _cut(error.message, MESSAGE_CHARS))
    return found


def letters(index: int) -> str:
    """The letters of a column in a spreadsheet: A, B, …, Z, AA."""
    text = ""
    rest = index + 1
    while rest:
        rest, letter = divmod(rest - 1, 26)
        text = chr(ord("A") + letter) + text
    return text


def cell_text(cell: Cell) -> str:
    """The text of a cell, about as a spreadsheet shows it."""
    match cell:
        case None:
            text = ""
        case str():
            text = " ".join(cell[: 4 * CELL_CHARS].split())
        case bool():
            text = str(cell).upper()
        case DateCell():
            text = cell.shown or "a date"
        case LongCell():
            text = f"({cell.length:,} characters)"
        case UncalculatedCell():
            text = "(formula)"
        case PercentCell():
            text = f"{_plain(Decimal(str(cell.number)) * 100)}%"
        case _:
            text = _plain(Decimal(str(cell)))
    return text


def _plain(number: Decimal) -> str:
    """A number without exponent and without zeros at its end."""
    if not number.is_finite() or abs(number.adjusted()) > CELL_CHARS:
        return str(number)
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _fingerprint(proposal: Proposal, trial: SheetResult | None) -> str:
    """A digest of the reading and of everything that it finds."""
    digest = hashlib.sha256(proposal.reading.to_text().encode() if proposal.reading else b"")
    if trial is not None:
        for row in trial.rows:
            digest.update(repr((row.budget.key, row.budget.currency, row.budget[6:])).encode())
        for error in trial.errors:
            digest.update(repr((error.rows, error.message)).encode())
    return digest.hexdigest()
