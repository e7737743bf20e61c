"""Fetches a source of any kind."""

from __future__ import annotations

from budget_sync.database import close_connection
from budget_sync.sync.fetched import Fetched
from budget_sync.sync.files import read_source_file
from budget_sync.sync.limits import Check, no_check, quoted
from budget_sync.sync.source import CSV, GOOGLE, Reach, Target

__all__ = ["Fetched", "fetch_source", "read_target"]


def fetch_source(target: Target, reach: Reach, check: Check = no_check) -> Fetched:
    """Read a source once. Raises FetchError, and what `check` raises to end the work.

    A slow sheet must not keep a database connection from others. So this thread's connection is
    closed first, and the caller opens it again.
    """
    close_connection()
    return read_target(target, reach, check)


def read_target(target: Target, reach: Reach, check: Check = no_check) -> Fetched:
    """Read a sheet once, without a database. Raises as `fetch_source`."""
    # gspread, google-auth and python-calamine are imported only by installations that use them.
    if target.kind == GOOGLE:
        from budget_sync.sync.google import fetch_sheet  # noqa: PLC0415

        return fetch_sheet(target, reach)
    data, name = read_source_file(target, reach.csv_folder)
    if target.kind == CSV:
        return Fetched(data, "the CSV file", name)
    from budget_sync.sync.xlsx import read_xlsx  # noqa: PLC0415

    sheet = read_xlsx(data, target.worksheet, check)
    if sheet.name is None:
        return Fetched(sheet.grid, "the Excel file", name, None, sheet.worksheets, is_chosen=False)
    title = f"worksheet {quoted(sheet.name)} of the Excel file"
    return Fetched(sheet.grid, title, name, None, sheet.worksheets)
