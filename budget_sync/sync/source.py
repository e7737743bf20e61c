"""Sources of budgets: how one is configured, how it is reached, and its fetched cells."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from budget_sync.settings import Settings

GOOGLE_SHEETS_API_URL = "https://sheets.googleapis.com"

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
    """Where a sheet is: a tab of a spreadsheet, or a file (in the folder for files, or uploaded).

    `kind` is GOOGLE, CSV or XLSX. `file_path` is relative to the folder. A CSV file has no
    `worksheet`. `worksheet_gid` is the number of a tab of a Google Sheet. A source's target has its
    `upload` only after `uploads.with_file`.
    """

    kind: str
    spreadsheet_key: str | None = None
    worksheet: str | None = None
    worksheet_gid: int | None = None
    file_path: str | None = None
    upload: Upload | None = None

    @property
    def label(self) -> str:
        """The name for people. It contains a path: only for the command line."""
        if self.kind == GOOGLE:
            tab = self.worksheet or f"gid {self.worksheet_gid}"
            return f"Google Sheet {self.spreadsheet_key}, {tab}"
        return _file_label(self.kind, self.file_path, self.worksheet)

    @property
    def public_label(self) -> str:
        """The name for people, without a path of this machine."""
        if self.kind == GOOGLE:
            return self.label
        return _file_label(self.kind, self.upload.name if self.upload else None, self.worksheet)


def _file_label(kind: str, name: str | None, worksheet: str | None) -> str:
    if name is None:
        label = "a CSV file" if kind == CSV else "an Excel file"
    else:
        label = f"{'CSV' if kind == CSV else 'Excel'} {name}"
    return f"{label}, {worksheet}" if worksheet else label


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
    def target(self) -> Target:
        """Where the sheet is."""
        return Target(
            self.kind, self.spreadsheet_key, self.worksheet, self.worksheet_gid, self.csv_path
        )

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


def names_of(column_map: str) -> dict[str, str]:
    """A stored column map: our column -> the sheet's name for it."""
    names: dict[str, str] = json.loads(column_map)
    return names
