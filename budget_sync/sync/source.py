"""Sources of budgets: how one is configured, how it is reached, and its fetched cells."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from budget_sync.settings import Settings
from budget_sync.sync.rows import Grid

GOOGLE_SHEETS_API_URL = "https://sheets.googleapis.com"

#: The most bytes of a source. A larger one is rejected: it cannot be a list of budgets.
MAX_BYTES = 64 * 1024 * 1024

DEFAULT_LOCALE = "en_US"

GOOGLE = "google_sheets"
CSV = "csv"
XLSX = "xlsx"


class FetchError(Exception):
    """A source could not be read.

    The text is one sentence that gives the reason and what to do. It names no path of this machine.
    """


class Upload(NamedTuple):
    """A file that was uploaded in the console."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Target:
    """Where a sheet is: a tab of a spreadsheet, or a file (in a folder, or uploaded).

    `kind` is GOOGLE, CSV or XLSX. `file_path` is relative to the folder for files. A CSV file has
    no `worksheet`. `worksheet_gid` is the number of a tab of a Google Sheet.
    """

    kind: str
    spreadsheet_key: str | None = None
    worksheet: str | None = None
    worksheet_gid: int | None = None
    file_path: str | None = None
    upload: Upload | None = None

    @property
    def label(self) -> str:
        """The name for people. It has a path if there is one: only for the command line."""
        if self.kind == GOOGLE:
            tab = self.worksheet or f"gid {self.worksheet_gid}"
            return f"Google Sheet {self.spreadsheet_key}, {tab}"
        name = self.upload.name if self.upload else self.file_path
        tab = f", {self.worksheet}" if self.worksheet else ""
        return f"{'CSV' if self.kind == CSV else 'Excel file'} {name}{tab}"


@dataclass(frozen=True, slots=True)
class Source:
    """A configured source. `names` maps our columns to the sheet's names for them."""

    id: str
    customer_id: str
    kind: str
    spreadsheet_key: str | None
    worksheet: str | None
    worksheet_gid: int | None
    csv_path: str | None
    locale: str | None
    names: Mapping[str, str]

    @property
    def label(self) -> str:
        """The name for people."""
        if self.kind == "csv":
            return f"CSV {self.csv_path}"
        tab = self.worksheet or f"gid {self.worksheet_gid}"
        return f"Google Sheet {self.spreadsheet_key}, {tab}"


@dataclass(frozen=True, slots=True)
class Reach:
    """How to reach sources.

    Times are in seconds. `deadline_s` covers the whole fetch of one source, retries included.
    """

    csv_folder: Path
    credentials_path: Path | None = None
    api_url: str = GOOGLE_SHEETS_API_URL
    deadline_s: float = 60.0
    timeout_s: float = 15.0
    attempts: int = 5
    backoff_s: float = 1.0

    @classmethod
    def of(cls, settings: Settings) -> Reach:
        """The configuration of this installation."""
        return cls(
            csv_folder=settings.csv_folder,
            credentials_path=settings.google_credentials,
            api_url=settings.google_sheets_api_url,
        )


@dataclass(frozen=True, slots=True)
class Fetched:
    """The cells of a source.

    `title` names the sheet for people. `gid` is the number of the tab, which stays the same when
    the tab is renamed. `note` is a remark on how a file was read.
    """

    grid: Grid
    title: str
    locale: str
    ragged_is_error: bool = False
    gid: int | None = None
    note: str | None = None


def names_of(column_map: str) -> dict[str, str]:
    """A stored column map: our column -> the sheet's name for it."""
    names: dict[str, str] = json.loads(column_map)
    return names
