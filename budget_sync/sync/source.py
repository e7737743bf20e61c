"""Sources of budgets: how one is configured, how it is reached, and its fetched cells."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from budget_sync.settings import Settings
from budget_sync.sync.rows import Grid

GOOGLE_SHEETS_API_URL = "https://sheets.googleapis.com"

#: The most bytes of a source. A larger one is rejected: it cannot be a list of budgets.
MAX_BYTES = 64 * 1024 * 1024

DEFAULT_LOCALE = "en_US"


class FetchError(Exception):
    """A source could not be read.

    The text is one sentence that gives the reason and what to do. It names no path of this machine.
    """


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
