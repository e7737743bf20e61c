"""A source's cells: a Google Sheet's, or a CSV file's inside the configured folder. Nothing here knows of budgets or the database."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from budget_sync.settings import Settings
from budget_sync.sync.rows import Grid

#: Where Google's API is.
GOOGLE_SHEETS_API_URL = "https://sheets.googleapis.com"

#: A source of more than this is no budget list.
MAX_BYTES = 64 * 1024 * 1024

DEFAULT_LOCALE = "en_US"
DELIMITERS = ",;\t"


class FetchFailed(Exception):
    """A source could not be read; the text is one sentence that says why and what to do, and names no path of this machine."""


@dataclass(frozen=True, slots=True)
class Source:
    """A source as it is configured."""

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
        """How people name it."""
        if self.kind == "csv":
            return f"CSV {self.csv_path}"
        return (
            f"Google Sheet {self.spreadsheet_key}, {self.worksheet or f'gid {self.worksheet_gid}'}"
        )


@dataclass(frozen=True, slots=True)
class Reach:
    """How sources are reached. Times are seconds; `deadline_s` covers the whole of one source's fetch, retries included."""

    csv_folder: Path
    credentials_path: Path | None = None
    api_url: str = GOOGLE_SHEETS_API_URL
    deadline_s: float = 60.0
    timeout_s: float = 15.0
    attempts: int = 5
    backoff_s: float = 1.0

    @classmethod
    def of(cls, settings: Settings) -> Reach:
        """As an installation's settings have it."""
        return cls(
            csv_folder=settings.csv_folder,
            credentials_path=settings.google_credentials,
            api_url=settings.google_sheets_api_url,
        )


@dataclass(frozen=True, slots=True)
class Fetched:
    """A source's cells. `title` names the sheet for people; `gid` is the tab's own number, which outlives its name."""

    grid: Grid
    title: str
    locale: str
    ragged_is_error: bool = False
    gid: int | None = None
    note: str | None = None


def fetch(source: Source, reach: Reach) -> Fetched:
    """Read a source once. Raises FetchFailed."""
    if source.kind == "csv":
        return fetch_csv(source, reach.csv_folder)
    # Loading gspread and google-auth takes longer than reading a CSV: only those who have a Google Sheet pay for it.
    from budget_sync.sync import google  # noqa: PLC0415

    return google.fetch_sheet(source, reach)


def fetch_csv(source: Source, folder: Path) -> Fetched:
    """Read a CSV file. Raises FetchFailed."""
    data = _read_bytes(csv_file(folder, source.csv_path or ""))
    text, note = _decode(data)
    delimiter, text = _delimiter(text)
    try:
        # Strict: a quote that is never closed would swallow the rest of the file, and rows that are gone are deletions.
        grid = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise FetchFailed(
            f"The CSV file cannot be read: {error}. Save it anew from the spreadsheet program."
        ) from None
    return Fetched(
        grid, "the CSV file", source.locale or DEFAULT_LOCALE, ragged_is_error=True, note=note
    )


def csv_file(folder: Path, path: str) -> Path:
    """The file that a source names, which must be inside the folder, links followed. Raises FetchFailed."""
    try:
        root = folder.resolve()
        file = (root / path).resolve()
        inside = file.is_relative_to(root) and file != root
    except (OSError, ValueError, RuntimeError):
        inside = False
    if not inside:
        raise FetchFailed("The CSV file's path is not inside the folder for CSV files.")
    return file


def _read_bytes(file: Path) -> bytes:
    try:
        # No link was left in the resolved path; a pipe must not keep the pass waiting.
        with open(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise FetchFailed("The CSV path names no file.")
            data = opened.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise FetchFailed(
            "The CSV file is not in the folder for CSV files: put it there."
        ) from None
    except OSError as error:
        raise FetchFailed(f"The CSV file cannot be opened: {error.strerror}.") from None
    if len(data) > MAX_BYTES:
        raise FetchFailed(f"The CSV file is larger than {MAX_BYTES // 1024 // 1024} MB.")
    return data


def _decode(data: bytes) -> tuple[str, str | None]:
    """The text, and a note where its encoding was guessed. Raises FetchFailed where it cannot be told."""
    unknown = FetchFailed("The CSV file's encoding cannot be told: save it as UTF-8.")
    try:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            return data.decode("utf-16"), None
        text = data.decode("utf-8-sig", errors="surrogateescape")
    except UnicodeDecodeError:
        raise unknown from None
    if "\0" in text:
        raise unknown
    broken = (
        any("\udc80" <= character <= "\udcff" for character in text)
        if not text.isascii()
        else False
    )
    if not broken:
        return text, None
    # Proper UTF-8 beside broken bytes is a damaged file, and no other encoding: its names must not be garbled into new ones.
    if any(character > "\x7f" and not "\udc80" <= character <= "\udcff" for character in text):
        raise FetchFailed("The CSV file is damaged UTF-8: save it anew.")
    try:
        return data.decode("cp1252"), "read as Windows-1252, since it is no UTF-8"
    except UnicodeDecodeError:
        raise unknown from None


def _delimiter(text: str) -> tuple[str, str]:
    """What separates the cells, by the line among the first ten that has the most of them; and the text without Excel's sep= line."""
    first, _, rest = text.partition("\n")
    named = first.rstrip("\r").removeprefix("sep=")
    if first.startswith("sep=") and named in tuple(DELIMITERS):
        # Dropped, so that row numbers are those that Excel shows.
        return named, rest
    head = text.split("\n", 10)[:10]

    def width(delimiter: str) -> int:
        try:
            return max((len(cells) for cells in csv.reader(head, delimiter=delimiter)), default=0)
        except csv.Error:
            return 0

    return max(DELIMITERS, key=width), text


def names_of(column_map: str) -> dict[str, str]:
    """A stored column map: our column -> the sheet's name for it."""
    names: dict[str, str] = json.loads(column_map)
    return names
