"""The names of sources for people, and the addresses of their sheets. Pure."""

from __future__ import annotations

from pathlib import PurePath
from typing import Final, NamedTuple
from urllib.parse import quote

from budget_sync.database.models import BudgetDataSourceConfig
from budget_sync.sync.limits import cut
from budget_sync.sync.source import CSV, GOOGLE

#: A longer title of a spreadsheet is cut.
MAX_TITLE_CHARS: Final = 200

_SHEETS_URL: Final = "https://docs.google.com/spreadsheets/d/"


class SheetName(NamedTuple):
    """The name of a source: "Budget 2026 / Q4". `url` opens its sheet; None for a file.

    `gid` is the number of the tab, if it is known.
    """

    text: str
    url: str | None = None
    gid: int | None = None

    def row_text(self, row: int | None) -> str:
        """A row of the sheet: "row 14 of Budget 2026 / Q4"."""
        return self.text if row is None else f"row {row} of {self.text}"

    def row_url(self, row: int | None) -> str | None:
        """The address that opens the sheet at a row."""
        if self.url is None or self.gid is None or row is None:
            return self.url
        return f"{self.url}&range={row}:{row}"


def sheet_name(row: BudgetDataSourceConfig, upload_name: str | None = None) -> SheetName:
    """The name of a source by its database row. It never has a path of this machine.

    `upload_name` is the name of the uploaded file.
    """
    tab = row.worksheet
    if row.sourceType != GOOGLE:
        kind = "CSV file" if row.sourceType == CSV else "Excel file"
        file = upload_name or (PurePath(row.csvPath).name if row.csvPath else kind)
        return SheetName(_joined(file, tab))
    url = f"{_SHEETS_URL}{quote(row.spreadsheetKey or '', safe='')}/edit"
    if row.worksheetGid is not None:
        url += f"#gid={row.worksheetGid}"
        tab = tab or f"tab no. {row.worksheetGid}"
    return SheetName(_joined(row.title or "Google Sheet", tab), url, row.worksheetGid)


def title_of(text: str | None) -> str | None:
    """The title of a spreadsheet as it is stored; None without one."""
    plain = " ".join("".join(each if each.isprintable() else " " for each in text or "").split())
    return cut(plain, MAX_TITLE_CHARS) or None


def _joined(name: str, tab: str | None) -> str:
    return f"{name} / {tab}" if tab else name
