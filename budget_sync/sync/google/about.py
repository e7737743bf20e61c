"""What a spreadsheet says about its tabs: names, merges, hidden rows and number formats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

import requests
from gspread.exceptions import APIError
from gspread.utils import absolute_range_name

from budget_sync.sync.google.client import SheetsClient
from budget_sync.sync.google.problems import status_name
from budget_sync.sync.google.transport import TooLargeError
from budget_sync.sync.limits import quoted
from budget_sync.sync.number_formats import NumberFormat
from budget_sync.sync.reading.grid import Cell, Merge, PercentCell
from budget_sync.sync.source import FetchError, Target

_PROPERTIES = "properties(sheetId,title,hidden,sheetType)"
_TABS_ONLY = f"properties(title,locale),sheets({_PROPERTIES})"
_FORMAT = "numberFormat(type,pattern)"
_WITH_FORMATS = (
    f"properties(title,locale),sheets({_PROPERTIES},merges,data(startRow,startColumn,"
    "rowMetadata(hiddenByUser,hiddenByFilter),"
    f"rowData(values(userEnteredFormat({_FORMAT}),effectiveFormat({_FORMAT})))))"
)

Json = Mapping[str, Any]


class Tab(NamedTuple):
    """A tab with cells. `gid` stays the same when the tab is renamed."""

    title: str
    gid: int
    is_hidden: bool


@dataclass(frozen=True, slots=True)
class Spreadsheet:
    """A spreadsheet, its tabs, and what the reply says about each tab, by gid."""

    title: str
    locale: str
    tabs: tuple[Tab, ...]
    details: Mapping[int, Json]

    @property
    def visible(self) -> tuple[str, ...]:
        """The titles of the tabs that are not hidden."""
        return tuple(tab.title for tab in self.tabs if not tab.is_hidden)


def describe(client: SheetsClient, key: str) -> Spreadsheet:
    """The spreadsheet with all of its tabs, without details. Raises as `SheetsClient.request`."""
    return _parse(_get(client, key, _TABS_ONLY))


def find_tab(client: SheetsClient, target: Target) -> tuple[Spreadsheet, Tab]:
    """The spreadsheet with the details of the target's tab, and the tab.

    The tab is found by its number if that is known, because a tab can be renamed, or else by its
    title. One request is enough, unless the tab was renamed. Raises FetchError if there is none,
    and as `SheetsClient.request`.
    """
    key = target.spreadsheet_key or ""
    if target.worksheet is not None:
        found = _with_details(client, key, target.worksheet)
        tab = found and _tab_of(found, target)
        if found and tab and target.worksheet_gid in (None, tab.gid):
            return found, tab
    try:
        about = _parse(_get(client, key, _WITH_FORMATS))
    except TooLargeError:
        about = describe(client, key)
    tab = _tab_of(about, target)
    if tab is None:
        raise FetchError(_no_tab(target, about))
    if not about.details.get(tab.gid, {}).keys() & {"data", "merges"}:
        about = _with_details(client, key, tab.title) or about
    return about, tab


def _with_details(client: SheetsClient, key: str, title: str) -> Spreadsheet | None:
    """The spreadsheet with the details of one tab; None if the tab does not exist.

    Also None for a reply without tabs, as of a proxy that does not know `ranges` in this call.
    """
    try:
        return _parse(_get(client, key, _WITH_FORMATS, title))
    except APIError as error:
        is_unknown_range = (
            error.response.status_code == requests.codes.bad_request
            and status_name(error) == "INVALID_ARGUMENT"
        )
        if is_unknown_range:
            return None
        raise
    except LookupError:
        return None


def _get(client: SheetsClient, key: str, fields: str, title: str | None = None) -> Json:
    params: dict[str, Any] = {"fields": fields, "prettyPrint": "false"}
    if fields == _WITH_FORMATS:
        params["includeGridData"] = "true"
    if title is not None:
        params["ranges"] = absolute_range_name(title)
    return client.fetch_sheet_metadata(key, params)


def _parse(reply: Json) -> Spreadsheet:
    """A reply. Raises LookupError, TypeError, ValueError or AttributeError if it is not valid."""
    about = reply["properties"]
    sheets = [
        (sheet, sheet["properties"])
        for sheet in reply["sheets"]
        if sheet["properties"].get("sheetType", "GRID") == "GRID"
    ]
    tabs = tuple(
        Tab(str(each["title"]), int(each["sheetId"]), each.get("hidden") is True)
        for _, each in sheets
    )
    details = {tab.gid: sheet for tab, (sheet, _) in zip(tabs, sheets, strict=True)}
    return Spreadsheet(str(about.get("title", "")), str(about.get("locale", "")), tabs, details)


def _tab_of(about: Spreadsheet, target: Target) -> Tab | None:
    """The target's tab, by its number or else by its title."""
    for tab in about.tabs:
        if tab.gid == target.worksheet_gid and target.worksheet_gid is not None:
            return tab
    return next((tab for tab in about.tabs if tab.title == target.worksheet), None)


def _no_tab(target: Target, about: Spreadsheet) -> str:
    wanted = (
        f"named {target.worksheet!r}"
        if target.worksheet is not None
        else f"with gid {target.worksheet_gid}"
    )
    names = ", ".join(quoted(tab.title) for tab in about.tabs[:10])
    return f"The spreadsheet has no tab {wanted}; it has {names}."


def merges_of(details: Json, rows: Sequence[Sequence[Cell]]) -> tuple[Merge, ...]:
    """The merged ranges within the used rows. Raises as `_parse`."""
    row_count, column_count = len(rows), max(map(len, rows), default=0)
    found = []
    for each in details.get("merges") or ():
        row1, column1 = int(each.get("startRowIndex", 0)), int(each.get("startColumnIndex", 0))
        row2 = min(int(each.get("endRowIndex", row_count)), row_count) - 1
        column2 = min(int(each.get("endColumnIndex", column_count)), column_count) - 1
        if 0 <= row1 <= row2 and 0 <= column1 <= column2 and (row1, column1) != (row2, column2):
            found.append(Merge(row1, column1, row2, column2))
    return tuple(found)


def hidden_rows(details: Json, rows: Sequence[Sequence[Cell]]) -> frozenset[int]:
    """The rows with cells, from 1, that a person or a filter hides. Raises as `_parse`."""
    return frozenset(
        row
        for data in details.get("data") or ()
        for row, each in enumerate(data.get("rowMetadata") or (), int(data.get("startRow", 0)) + 1)
        if each
        and row <= len(rows)
        and rows[row - 1]
        and (each.get("hiddenByUser") or each.get("hiddenByFilter"))
    )


def mark_percentages(details: Json, rows: Sequence[list[Cell]]) -> None:
    """Replace the numbers that are shown as percentages by PercentCell. Raises as `_parse`."""
    patterns: dict[str, NumberFormat] = {}
    for data in details.get("data") or ():
        first_row, first_column = int(data.get("startRow", 0)), int(data.get("startColumn", 0))
        for cells, each in zip(rows[first_row:], data.get("rowData") or (), strict=False):
            for column, number_format in _formats(each):
                index = first_column + column
                cell = cells[index] if index < len(cells) else None
                if (
                    isinstance(cell, int | Decimal)
                    and not isinstance(cell, bool)
                    and _is_percent(number_format, cell, patterns)
                ):
                    cells[index] = PercentCell(cell)


def _formats(row: Json) -> Iterator[tuple[int, Json]]:
    """The columns of a row with a number format, and the formats: the effective one counts."""
    for column, value in enumerate(row.get("values") or ()):
        if value:
            for name in ("effectiveFormat", "userEnteredFormat"):
                number_format = (value.get(name) or {}).get("numberFormat")
                if number_format:
                    yield column, number_format
                    break


def _is_percent(
    number_format: Json, number: int | Decimal, patterns: dict[str, NumberFormat]
) -> bool:
    if number_format.get("type") == "PERCENT":
        return True
    pattern = str(number_format.get("pattern") or "")
    if "%" not in pattern:
        return False
    if pattern not in patterns:
        patterns[pattern] = NumberFormat(pattern)
    return patterns[pattern].is_percent(float(number))
