"""Fetches a source, whatever its kind."""

from __future__ import annotations

from budget_sync.database import close_connection
from budget_sync.sync.csv_file import fetch_csv
from budget_sync.sync.source import Fetched, Reach, Source


def fetch_source(source: Source, reach: Reach) -> Fetched:
    """Read a source once. Raises FetchError.

    A slow sheet must not keep a database connection from others. So this thread's connection is
    closed first, and the caller opens it again.
    """
    close_connection()
    if source.kind == "csv":
        return fetch_csv(source, reach.csv_folder)
    # Importing gspread and google-auth takes longer than reading a CSV file, so only installations
    # with a Google Sheet pay for it.
    from budget_sync.sync.google import fetch_sheet  # noqa: PLC0415

    return fetch_sheet(source, reach)
