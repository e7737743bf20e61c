"""Sources of budgets: where a sheet is, how it is read, and how it is reached."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from budget_sync.settings import Settings
from budget_sync.sync.reading.model import Reading
from budget_sync.sync.reading.result import Facts

GOOGLE_SHEETS_API_URL = "https://sheets.googleapis.com"

GOOGLE = "google_sheets"
CSV = "csv"
XLSX = "xlsx"

#: Who confirmed the reading of a source that was added by a version without readings.
UPGRADE = "upgrade"


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
    def tab(self) -> str:
        """The name of the tab of a Google Sheet, or else its number."""
        return self.worksheet or f"gid {self.worksheet_gid}"

    @property
    def label(self) -> str:
        """The name for people. It contains a path: only for the command line."""
        if self.kind == GOOGLE:
            return f"Google Sheet {self.spreadsheet_key}, {self.tab}"
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
    """A configured source.

    `reading` is None until a person has confirmed one, and if the stored one cannot be used, which
    `reading_problem` then explains. `facts` are the counts at the confirmation; None after an
    upgrade until the first sync run. An uploaded file has a name and the time of its upload.
    `title` is that of a Google spreadsheet when it was last read.
    """

    id: str
    customer_id: str
    target: Target
    reading: Reading | None = None
    confirmed_by: str | None = None
    confirmed_at: datetime | None = None
    facts: Facts | None = None
    reading_problem: str | None = None
    upload_name: str | None = None
    title: str | None = field(default=None, compare=False)
    uploaded_at: datetime | None = None

    @property
    def kind(self) -> str:
        """GOOGLE, CSV or XLSX."""
        return self.target.kind

    @property
    def label(self) -> str:
        """The name for people. It may contain a path: only for the command line."""
        target = self.target
        if target.kind == GOOGLE and self.title:
            return f"Google Sheet {self.title} / {target.tab} ({target.spreadsheet_key})"
        if target.kind == GOOGLE or target.file_path is not None:
            return target.label
        return _file_label(target.kind, self.upload_name or "(uploaded)", target.worksheet)

    @property
    def is_upload(self) -> bool:
        """Whether the file is uploaded in the console, and not read from a folder."""
        return self.target.kind != GOOGLE and self.target.file_path is None

    @property
    def is_upgraded(self) -> bool:
        """Whether the reading is from an upgrade and no sync run has completed it yet."""
        return self.confirmed_by == UPGRADE and self.facts is None


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
