"""The owners of budgets: the addresses in a sheet's column "Owner Email". Pure.

The column is read after the budgets, so that it changes nothing else: a cell that is not an address
is a note, and a column that is gone leaves all owners as they are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from budget_sync.domain.emails import is_email
from budget_sync.sync.limits import MAX_CELL_CHARS, quoted
from budget_sync.sync.reading.grid import Cell, Grid
from budget_sync.sync.reading.header import Layout, match_headings
from budget_sync.sync.reading.names import visible
from budget_sync.sync.reading.notes import Notes
from budget_sync.sync.reading.result import KEEP_OWNER, SheetRow
from budget_sync.sync.reading.rows import Sheet, merged_cells
from budget_sync.sync.reading.values import is_blank, shown

#: The name of the column in sentences for people.
OWNER_COLUMN: Final = "Owner Email"

_KIND = "notes about owners"

_BETWEEN = re.compile(r"[;,\s]+")


class Owner(NamedTuple):
    """The owner in one cell: an address, None for a blank cell, or KEEP_OWNER with the problem."""

    email: str | None
    problem: str | None = None


class OwnedRows(NamedTuple):
    """The rows with their owners. `has_owners` is whether the column was read."""

    rows: list[SheetRow]
    notes: list[str]
    has_owners: bool


def with_owners(rows: list[SheetRow], grid: Grid, layout: Layout, heading: str | None) -> OwnedRows:
    """Add the owners from the column with this heading; None means that no column has owners.

    A budget of several rows has the owner in the first of them.
    """
    if heading is None:
        return OwnedRows(rows, [], has_owners=False)
    found = match_headings(layout.headings, [heading])
    if found.missing or found.twice:
        problem = "is twice in the header" if found.twice else "is gone"
        note = (
            f"The column {quoted(heading)} {problem}. The owners of the budgets stay as they are."
        )
        return OwnedRows(rows, [note], has_owners=False)
    column = found.columns[heading]
    merged = merged_cells(grid, column, layout.last_row)
    notes, known = Notes(), dict[int, Owner]()
    owned = []
    for row in rows:
        number = row.number
        if number not in known:
            cell = Sheet.cell(grid.rows[number - 1], column)
            if is_blank(cell):
                cell = merged.get(number)
            known[number] = owner = read_owner(cell)
            if owner.problem is not None:
                notes.add(_KIND, f"Row {number}: {OWNER_COLUMN} {owner.problem}")
        email = known[number].email
        owned.append(row._replace(budget=row.budget._replace(owner_email=email)))
    return OwnedRows(owned, notes.sentences(), has_owners=True)


def read_owner(cell: Cell) -> Owner:
    """The owner in a cell. Of several addresses, the first one counts."""
    if is_blank(cell):
        return Owner(None)
    text = visible(shown(cell)[: MAX_CELL_CHARS + 1])
    texts = [each for each in _BETWEEN.split(_without_name(text)) if each]
    if not texts or not all(map(is_email, texts)):
        return Owner(
            KEEP_OWNER,
            f"is {quoted(text)}, which is not an email address. The owner stays as it is. Enter an "
            "address such as jane@example.com.",
        )
    if len(texts) > 1:
        return Owner(
            texts[0],
            f"has {len(texts)} addresses. {quoted(texts[0])} is the owner. Enter one address.",
        )
    return Owner(texts[0])


def _without_name(text: str) -> str:
    """The address of a text with a name before it, such as "Jane Doe <jane@acme.com>"."""
    _, opening, rest = text.partition("<")
    address, closing, after = rest.partition(">")
    return address if opening and closing and not after else text


def may_be_owners(texts: Sequence[str]) -> bool:
    """Whether the texts of a column that are not blank are addresses, and there is one."""
    filled = [text for text in texts if text]
    return bool(filled) and all(read_owner(text).email not in (None, KEEP_OWNER) for text in filled)
