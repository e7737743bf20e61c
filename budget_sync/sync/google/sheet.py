"""Fetches the cells of a tab, within the deadline in every case."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from itertools import zip_longest
from typing import Any, TypeVar

import google.auth.exceptions
import requests
from gspread.exceptions import APIError
from gspread.utils import DateTimeOption, ValueRenderOption, absolute_range_name

from budget_sync.sync.credentials import load_credentials
from budget_sync.sync.fetched import Fetched
from budget_sync.sync.google import about, problems
from budget_sync.sync.google.client import SheetsClient
from budget_sync.sync.google.transport import UNEXPECTED_JSON, short, too_slow
from budget_sync.sync.limits import (
    HEADER_WITHIN_ROWS,
    MAX_CELL_CHARS,
    count_cells,
    size_problem,
)
from budget_sync.sync.reading.grid import Cell, DateCell, Grid, LongCell
from budget_sync.sync.source import FetchError, Reach, Target

T = TypeVar("T")


def fetch_sheet(target: Target, reach: Reach) -> Fetched:
    """Read one tab. Raises FetchError."""
    return _within_deadline(target.spreadsheet_key or "", reach, lambda c: _fetch(c, target))


def list_tabs(key: str, reach: Reach) -> about.Spreadsheet:
    """The title of a spreadsheet and its tabs. Raises FetchError."""
    return _within_deadline(key, reach, lambda client: about.describe(client, key))


def sharing_address(reach: Reach) -> str | None:
    """The address with which a spreadsheet must be shared; None for an authorized user.

    An authorized user reads what is shared with that person. Raises FetchError.
    """
    account = load_credentials(reach.credentials_path)[1]
    return account if "@" in account else None


def _within_deadline(key: str, reach: Reach, work: Callable[[SheetsClient], T]) -> T:
    """The result of `work`. Raises FetchError."""
    outcome: queue.SimpleQueue[tuple[T] | BaseException] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put((_explained(key, reach, work),))
        except BaseException as error:  # noqa: BLE001  # re-raised by the caller
            outcome.put(error)

    # In a separate thread, because no timeout covers a DNS lookup or headers that arrive byte by
    # byte. An abandoned thread is harmless: it holds no lock and no transaction.
    threading.Thread(target=run, name=f"fetch {key}", daemon=True).start()
    try:
        found = outcome.get(timeout=reach.deadline_s + 1)
    except queue.Empty:
        raise FetchError(too_slow(reach.deadline_s)) from None
    if isinstance(found, BaseException):
        raise found
    return found[0]


def _explained(key: str, reach: Reach, work: Callable[[SheetsClient], T]) -> T:
    """The result of `work`; errors of Google as FetchError."""
    credentials, account = load_credentials(reach.credentials_path)
    with requests.Session() as session:
        try:
            return work(SheetsClient(credentials, session, reach))
        except APIError as error:
            raise FetchError(problems.sentence(error, key, account)) from None
        except google.auth.exceptions.RefreshError as error:
            reason = short(error.args[0] if error.args else error)
            raise FetchError(
                f"Google rejects the credentials ({reason}): renew the credentials file."
            ) from None
        except (google.auth.exceptions.GoogleAuthError, *UNEXPECTED_JSON) as error:
            raise FetchError(
                "Google's reply does not match its API description "
                f"({type(error).__name__}: {short(error)})."
            ) from error


def _fetch(client: SheetsClient, target: Target) -> Fetched:
    book, tab = about.find_tab(client, target)
    rows = _read_cells(client, target.spreadsheet_key or "", tab.title)
    details = book.details.get(tab.gid, {})
    about.mark_percentages(details, rows)
    return Fetched(
        Grid(rows, about.merges_of(details, rows), about.hidden_rows(details, rows)),
        f"sheet {tab.title!r}",
        f"{book.title}, {tab.title}",
        tab.gid,
        book.visible,
        book.locale or None,
        book=book.title or None,
        tab=tab.title,
    )


def _read_cells(client: SheetsClient, key: str, title: str) -> list[list[Cell]]:
    """The cells of a tab, with dates as DateCell. Raises FetchError, and as `_read_values`."""
    # A sheet stores dates, times and durations as counts of days. Only a second read, of the text
    # that the sheet shows for them, can distinguish them from amounts.
    for _ in range(2):
        kept = _read_values(client, key, title, DateTimeOption.serial_number)
        shown = _read_values(client, key, title, DateTimeOption.formatted_string)
        if len(kept) == len(shown):
            return [
                _without_long_texts(row if row == other else _typed(row, other))
                for row, other in zip(kept, shown, strict=True)
            ]
    raise FetchError(
        "The sheet was changed while it was being read; the next sync run tries again."
    )


def _read_values(
    client: SheetsClient, key: str, title: str, dates: DateTimeOption
) -> list[list[Any]]:
    """The cells of a tab as Google sends them. Raises as `request` and `grid_of`."""
    options: dict[str, Any] = {
        "valueRenderOption": ValueRenderOption.unformatted,
        "dateTimeRenderOption": dates,
    }
    return grid_of(client.values_get(key, absolute_range_name(title), options), title)


def _without_long_texts(row: list[Any]) -> list[Any]:
    """The row, with LongCell in place of texts that nothing may read."""
    return [
        LongCell(len(cell)) if isinstance(cell, str) and len(cell) > MAX_CELL_CHARS else cell
        for cell in row
    ]


def _typed(kept: Sequence[Cell], shown: Sequence[Cell]) -> list[Cell]:
    """A row with its dates as DateCell.

    `kept` are the stored values, `shown` those of the second read, between which the rows may have
    been sorted.
    """
    return [_typed_cell(*cells) for cells in zip_longest(kept, shown[: len(kept)])]


def _typed_cell(kept: Cell, shown: Cell) -> Cell:
    # The representations are compared too, because NaN is not equal to itself.
    if (
        isinstance(kept, bool)
        or not isinstance(kept, int | Decimal)
        or kept == shown
        or repr(kept) == repr(shown)
    ):
        return kept
    return DateCell(kept, shown if isinstance(shown, str) and shown else None)


def grid_of(values: Mapping[str, Any], title: str) -> list[list[Any]]:
    """The cells of a reply.

    Raises LookupError, TypeError or ValueError if it has no cells, or those of another tab.
    """
    if _title_of(values["range"]) != title:
        raise ValueError(f"the values of {values['range']} instead of {title!r}")
    grid = values.get("values", [])
    if not isinstance(grid, list) or not all(isinstance(row, list) for row in grid):
        raise TypeError("the values are not rows of cells")
    # `apply` counts exactly. This also counts the header, and what precedes it.
    spare_rows = HEADER_WITHIN_ROWS
    if problem := size_problem(len(grid) - spare_rows, count_cells(grid[spare_rows:])):
        raise FetchError(problem)
    if any(isinstance(cell, list | dict) for row in grid for cell in row):
        raise TypeError("a cell holds more than one value")
    return grid


def _title_of(a1: str) -> str:
    """The tab's title in a range such as Budgets!A1:Z9 or 'It''s mine'!A1."""
    title = a1.rpartition("!")[0]
    return title[1:-1].replace("''", "'") if title.startswith("'") else title
