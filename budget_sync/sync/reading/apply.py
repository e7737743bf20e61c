"""Reads a sheet by its stored reading: bytes or cells -> budgets, errors and notes. Pure.

Nothing is guessed: a row that cannot be understood is an error with its row number and what to do,
and is never applied. A sheet that no longer fits its reading is a SheetProblem.
"""

from __future__ import annotations

from collections.abc import Sequence

from budget_sync.domain.names import fold
from budget_sync.sync.limits import Check, count_cells, no_check, quoted, size_problem
from budget_sync.sync.reading.amounts import to_decimal
from budget_sync.sync.reading.decode import decode
from budget_sync.sync.reading.grid import Grid
from budget_sync.sync.reading.groups import totals_by_currency
from budget_sync.sync.reading.header import Layout, find_layout
from budget_sync.sync.reading.heading_periods import heading_period, part_heading, relative_year
from budget_sync.sync.reading.headings import hkey
from budget_sync.sync.reading.lines import Lines
from budget_sync.sync.reading.model import PeriodHeadings, Reading
from budget_sync.sync.reading.notes import hidden_rows_note, outside_note, spelling_notes
from budget_sync.sync.reading.owners import with_owners
from budget_sync.sync.reading.result import (
    Customer,
    Facts,
    RowError,
    SheetProblem,
    SheetResult,
    SheetRow,
)
from budget_sync.sync.reading.rows import Sheet
from budget_sync.sync.reading.sections import Sections
from budget_sync.sync.reading.title import other_year_note
from budget_sync.sync.reading.upgraded import ENCODING_NOTE, completed, file_format

__all__ = ["apply", "completed"]


def apply(
    reading: Reading,
    source: bytes | Grid,
    customer: Customer,
    *,
    before: Sequence[Facts] = (),
    check: Check = no_check,
) -> SheetResult:
    """The budgets and the errors of a sheet, in sheet order.

    `before` are the facts of the confirmation and of the last applied sync run. Raises SheetProblem
    if the sheet no longer fits its reading.
    """
    reading, grid, notes = _opened(reading, source)
    layout = find_layout(reading, grid, check)
    below = grid.rows[layout.last_row :]
    if problem := size_problem(len(below), count_cells(below)):
        raise SheetProblem(problem)
    sheet = Sheet(reading, grid, layout, customer)
    has_sections = reading.department.fill == "section"
    lines: Lines | Sections = Sections(sheet) if has_sections else Lines(sheet)
    lines.read(check)
    rows, errors = lines.groups.finish(check)
    errors += lines.errors.all()
    if nameless := _nameless_error(lines.nameless, before):
        errors.append(nameless)
    errors.sort(key=lambda error: error.rows)
    if not rows and not errors:
        raise SheetProblem("No row below the header counts.")
    rows, owner_notes, has_owners = with_owners(rows, grid, layout, reading.owner)
    return SheetResult(
        rows=rows,
        errors=_new_periods(reading, layout, customer) + errors,
        has_limits=reading.limit is not None,
        notes=notes + _notes(lines, rows) + owner_notes,
        skipped=lines.skipped,
        facts=_facts(lines, rows),
        headings=layout.headings,
        has_owners=has_owners,
    )


def _opened(reading: Reading, source: bytes | Grid) -> tuple[Reading, Grid, list[str]]:
    """The reading, the cells, and a note if the encoding was not confirmed.

    A reading of an earlier version has no format of its file yet.
    """
    if isinstance(source, Grid):
        return reading, source, []
    if reading.file is not None:
        return reading, decode(source, reading.file), []
    found = file_format(reading, source)
    notes = [ENCODING_NOTE] if not found.encoding.startswith("utf") else []
    return reading.model_copy(update={"file": found}), decode(source, found), notes


def _nameless_error(
    nameless: Sequence[tuple[int, int]], before: Sequence[Facts]
) -> RowError | None:
    """One error for all rows with an amount and no department; None without such rows.

    It keeps all budgets from being deleted if there are more of these rows than before.
    """
    if not nameless:
        return None
    count = len(nameless)
    total = to_decimal(sum(amount for _, amount in nameless))
    subject = "1 row has" if count == 1 else f"{count:,} rows have"
    is_usual = bool(before) and count <= min(facts.nameless_rows for facts in before)
    return RowError(
        tuple(number for number, _ in nameless),
        f"{subject} an amount but no department ({total:,f} in total).",
        blocks=not is_usual,
    )


def _facts(lines: Lines | Sections, rows: Sequence[SheetRow]) -> Facts:
    below = lines.sheet.grid.rows[lines.sheet.layout.last_row :]
    return Facts(
        rows=sum(map(bool, below)),
        budgets=len(rows),
        total=totals_by_currency(rows),
        nameless_rows=len(lines.nameless),
        blank_amounts=lines.blank_amounts,
    )


def _notes(lines: Lines | Sections, rows: Sequence[SheetRow]) -> list[str]:
    sheet = lines.sheet
    first = sheet.layout.last_row
    several = sheet.names.spellings
    keys = dict.fromkeys(
        key for row in rows if several and (key := row.budget.department_key) in several
    )
    spellings = spelling_notes(several, list(keys))
    found = [
        other_year_note(sheet.grid, sheet.layout.header_rows[0], sheet.reading, sheet.customer),
        *lines.notes.sentences(),
        hidden_rows_note(sheet.grid, first, lines.skipped),
        *spellings.sentences(),
        outside_note(sheet.grid.rows[first:], first + 1, sheet.columns.width),
    ]
    return [note for note in found if note is not None]


def _new_periods(reading: Reading, layout: Layout, customer: Customer) -> list[RowError]:
    """One error for each column that looks like a new period of a wide table."""
    if not isinstance(reading.period, PeriodHeadings):
        return []
    width = len(layout.headings)
    known = {layout.headings[column] for column in layout.columns.values() if column < width}
    ignored = reading.period.ignored
    folded, keys = set(map(fold, ignored)), set(map(hkey, ignored))
    return [
        RowError(
            (),
            f"The column {quoted(heading)} is new and looks like a period. Run reread-source to "
            "include or ignore it.",
            blocks=False,
        )
        for heading in dict.fromkeys(layout.headings)
        if heading
        and heading not in known
        and fold(heading) not in folded
        and hkey(heading) not in keys
        and _is_period(heading, reading.period, customer)
    ]


def _is_period(heading: str, period: PeriodHeadings, customer: Customer) -> bool:
    """Whether a heading holds a period, or a part or relative year as the known ones do."""
    if heading_period(heading, customer.fiscal_year) is not None:
        return True
    if period.year is not None and part_heading(heading, customer.fiscal_year) is not None:
        return True
    return relative_year(heading) is not None and any(
        relative_year(known) is not None for known in period.headings
    )
