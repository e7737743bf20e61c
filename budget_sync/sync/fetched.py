"""The result of fetching a source."""

from __future__ import annotations

from dataclasses import dataclass

from budget_sync.sync.limits import quoted
from budget_sync.sync.reading.grid import Grid
from budget_sync.sync.source import FetchError


@dataclass(frozen=True, slots=True)
class Fetched:
    """A source as it was fetched: the bytes of a CSV file, or the cells of a worksheet.

    `title` names the sheet for people. `file_name` may hold a year: the name of a file, or those of
    a spreadsheet and its tab. `gid` is the number of a tab, which stays the same when the tab is
    renamed. `worksheets` are the names of the worksheets that are not hidden; for a Google Sheet,
    only of those that the reply lists. `locale` is that of a Google Sheet. `is_chosen` is False,
    and there are no cells, if the file has several worksheets and none of them was named.
    `book` and `tab` are the titles of a Google spreadsheet and of its tab.
    """

    source: bytes | Grid
    title: str
    file_name: str = ""
    gid: int | None = None
    worksheets: tuple[str, ...] = ()
    locale: str | None = None
    is_chosen: bool = True
    book: str | None = None
    tab: str | None = None

    def require_chosen(self) -> None:
        """Raise FetchError if a person must choose a worksheet first."""
        if not self.is_chosen:
            names = ", ".join(quoted(name) for name in self.worksheets[:10])
            raise FetchError(
                f"The Excel file has {len(self.worksheets)} worksheets: {names}. Remove the source "
                "and add it again with --worksheet."
            )
