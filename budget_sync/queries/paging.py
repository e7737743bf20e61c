"""Pages of a list: numbered pages, or for long lists, pages that continue after a given row."""

from __future__ import annotations

from typing import Any, TypeVar

#: Rows per page.
PAGE_SIZE = 50

Line = TypeVar("Line")


def pages(total: int) -> int:
    """The number of pages for that many rows; at least 1."""
    return max(1, -(-total // PAGE_SIZE))


def slice_of(lines: list[Line], page: int) -> list[Line]:
    """One page of a list that was read completely. Pages are numbered from 1."""
    return lines[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]


def cut(lines: list[Line], size: int) -> tuple[list[Line], Line | None]:
    """Split off the extra row of a list that was read one row past the page.

    Returns the page and the row that the next page continues after: None on the last page.
    """
    return lines[:size], lines[size - 1] if len(lines) > size else None


def unindexed(column: Any) -> Any:
    """A text column for a comparison in which the database must not use an index of the column.

    A database without statistics prefers any index that begins with the customer. It then reads
    and sorts all rows of the customer, although another index finds one page of them at once.
    """
    return column.concat("")


def unindexed_number(column: Any) -> Any:
    """As `unindexed`, for a column of numbers."""
    return column + 0
