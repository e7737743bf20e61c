"""Pages of a list: by number where people leaf through it, or going on after a row where the list may be endless."""

from __future__ import annotations

from typing import Any, TypeVar

#: Rows of a page.
PAGE_SIZE = 50

Line = TypeVar("Line")


def pages(total: int) -> int:
    """How many pages so many rows have; at least one."""
    return max(1, -(-total // PAGE_SIZE))


def cut(lines: list[Line], size: int) -> tuple[list[Line], Line | None]:
    """The page of a list that was read one row further, and the row that the next page goes on after; None on the last one."""
    return lines[:size], lines[size - 1] if len(lines) > size else None


def unindexed(column: Any) -> Any:
    """A text column to compare with, but not to look rows up by.

    A database without statistics takes an index that begins with the customer wherever it can, and then reads and sorts all
    rows of the customer, though the order or the rest of the query has an index that finds a page of them at once.
    """
    return column.concat("")
