"""The spreadsheets of the fake Google, and the Sheets API's replies about them."""

from __future__ import annotations

import base64
import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from budget_sync.sync.number_formats import NumberFormat

EMAIL = "budget-sync@example.iam.gserviceaccount.com"


@dataclass(frozen=True)
class Date:
    """A cell with a date, a time or a duration: the text shown, and the stored count of days."""

    shown: str
    days: float


@dataclass
class Tab:
    """A worksheet.

    `merges` are first row, first column, last row and last column; `formats` are patterns by row
    and column, which `effective_formats` overrides. All indices are from 0.
    """

    title: str
    rows: list[list[Any]]
    gid: int = 0
    is_hidden: bool = False
    merges: list[list[int]] = field(default_factory=list)
    hidden_rows: set[int] = field(default_factory=set)
    filtered_rows: set[int] = field(default_factory=set)
    formats: dict[tuple[int, int], str] = field(default_factory=dict)
    effective_formats: dict[tuple[int, int], str] = field(default_factory=dict)


@dataclass
class Spreadsheet:
    """A spreadsheet; only the accounts in `readers` may read it."""

    tabs: list[Tab]
    locale: str = "en_US"
    readers: set[str] = field(default_factory=lambda: {EMAIL, "user"})
    title: str = "A spreadsheet"
    is_excel_file: bool = False


def corpus_tab(content: Mapping[str, Any]) -> Tab:
    """A sheet of the corpus as the tab "Budgets"."""
    rows = content.get("cells")
    if rows is None:
        data = base64.b64decode(content.get("base64", "")) or content.get("text", "").encode()
        rows = list(csv.reader(data.decode().splitlines(keepends=True)))
    tab = Tab("Budgets", rows, merges=content.get("merges") or [])
    tab.hidden_rows = set(content.get("hidden") or [])
    for row, column, pattern in content.get("number_formats") or []:
        tab.formats[row, column] = pattern
        cell = rows[row][column]
        shown = NumberFormat(pattern)
        if isinstance(cell, int | float) and shown.is_date(cell):
            rows[row][column] = Date(shown.show_date(cell), cell)
    return tab


def about_reply(
    key: str, spreadsheet: Spreadsheet, tabs: Sequence[Tab], fields: str
) -> dict[str, Any]:
    """The properties of a spreadsheet and of these tabs, and the fields that are asked for."""
    found: dict[str, Any] = {
        "properties": {"title": spreadsheet.title, "locale": spreadsheet.locale},
        "sheets": [_about_tab(tab, spreadsheet.tabs.index(tab), fields) for tab in tabs],
    }
    if not fields:
        found["spreadsheetId"] = key
        found["properties"]["timeZone"] = "Etc/UTC"
    return found


def _about_tab(tab: Tab, index: int, fields: str) -> dict[str, Any]:
    properties: dict[str, Any] = {"sheetId": tab.gid, "title": tab.title, "sheetType": "GRID"}
    if tab.is_hidden:
        properties["hidden"] = True
    if not fields:
        properties |= {"index": index, "gridProperties": {"rowCount": 1000, "columnCount": 26}}
    found: dict[str, Any] = {"properties": properties}
    if tab.merges and (not fields or "merges" in fields):
        names = ("startRowIndex", "startColumnIndex", "endRowIndex", "endColumnIndex")
        found["merges"] = [
            {"sheetId": tab.gid}
            | dict(zip(names, (row1, column1, row2 + 1, column2 + 1), strict=True))
            for row1, column1, row2, column2 in tab.merges
        ]
    if "rowMetadata" in fields:
        found["data"] = [
            {
                "rowMetadata": [_row_metadata(tab, row) for row in range(len(tab.rows))],
                "rowData": [_row_data(tab, row, len(cells)) for row, cells in enumerate(tab.rows)],
            }
        ]
    return found


def _row_metadata(tab: Tab, row: int) -> dict[str, bool]:
    found = {}
    if row in tab.hidden_rows:
        found["hiddenByUser"] = True
    if row in tab.filtered_rows:
        found["hiddenByFilter"] = True
    return found


def _row_data(tab: Tab, row: int, width: int) -> dict[str, Any]:
    """The formats of a row, in Google's form: cells without one are empty objects."""
    places = [(row, column) for column in range(width)]
    if not any(place in tab.formats for place in places):
        return {}
    return {
        "values": [
            {
                "userEnteredFormat": {"numberFormat": _number_format(tab.formats[place])},
                "effectiveFormat": {
                    "numberFormat": _number_format(
                        tab.effective_formats.get(place, tab.formats[place])
                    )
                },
            }
            if place in tab.formats
            else {}
            for place in places
        ]
    }


def _number_format(pattern: str) -> dict[str, str]:
    if NumberFormat(pattern).is_percent(1) or pattern.upper() == "PERCENT":
        return {"type": "PERCENT", "pattern": pattern}
    is_date = NumberFormat(pattern).is_date(1)
    return {"type": "DATE" if is_date else "NUMBER", "pattern": pattern}


def named_tab(spreadsheet: Spreadsheet, a1: str) -> Tab | None:
    """The tab that a range names."""
    quoted = re.fullmatch(r"'((?:[^']|'')*)'", a1)
    title = quoted[1].replace("''", "'") if quoted else a1
    return next((tab for tab in spreadsheet.tabs if tab.title == title), None)


def values_reply(spreadsheet: Spreadsheet, a1: str, dates: str) -> dict[str, Any] | None:
    """The values of a tab as Google sends them.

    Trailing empty cells and rows are missing, and `values` is missing if there are none.
    """
    tab = named_tab(spreadsheet, a1)
    if tab is None:
        return None
    title = tab.title
    rows = [_trimmed([_cell(cell, dates) for cell in row], "") for row in tab.rows]
    values = _trimmed(rows, [])
    # Google puts quotes around titles that need them, even if the request had none.
    shown = (
        title if re.fullmatch(r"[A-Za-z_]\w*", title) else "'{}'".format(title.replace("'", "''"))
    )
    found: dict[str, Any] = {"range": f"{shown}!A1:Z1000", "majorDimension": "ROWS"}
    return found | ({"values": values} if values else {})


def _cell(cell: Any, dates: str) -> Any:
    if isinstance(cell, Date):
        return cell.shown if dates == "FORMATTED_STRING" else cell.days
    return cell if cell is not None else ""


def _trimmed(items: list[Any], empty: object) -> list[Any]:
    kept = list(items)
    while kept and kept[-1] == empty and type(kept[-1]) is type(empty):
        kept.pop()
    return kept
