"""CSV sources: files in the configured folder."""

from __future__ import annotations

import csv
import io
import os
import stat
from pathlib import Path

from budget_sync.sync.source import DEFAULT_LOCALE, MAX_BYTES, Fetched, FetchError, Source

DELIMITERS = ",;\t"


def fetch_csv(source: Source, folder: Path) -> Fetched:
    """Read a CSV file. Raises FetchError."""
    data = _read_bytes(csv_file(folder, source.csv_path or ""))
    text, note = _decode(data)
    delimiter, text = _delimiter(text)
    try:
        # Strict: an unclosed quote would swallow the rest of the file, and missing rows are
        # deletions.
        grid = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise FetchError(
            f"The CSV file cannot be read: {error}. Save it again from the spreadsheet program."
        ) from None
    return Fetched(
        grid, "the CSV file", source.locale or DEFAULT_LOCALE, ragged_is_error=True, note=note
    )


def csv_file(folder: Path, path: str) -> Path:
    """The file of a source. Raises FetchError unless it is inside the folder, links resolved."""
    try:
        root = folder.resolve()
        file = (root / path).resolve()
        inside = file.is_relative_to(root) and file != root
    except (OSError, ValueError, RuntimeError):
        inside = False
    if not inside:
        raise FetchError("The CSV file's path is not inside the folder for CSV files.")
    return file


def _read_bytes(file: Path) -> bytes:
    try:
        # The resolved path contains no link (O_NOFOLLOW holds if one appears now), and a pipe must
        # not block the sync run (O_NONBLOCK).
        with open(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise FetchError("The CSV path is not a regular file.")
            data = opened.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise FetchError("The CSV file is not in the folder for CSV files: put it there.") from None
    except OSError as error:
        raise FetchError(f"The CSV file cannot be opened: {error.strerror}.") from None
    if len(data) > MAX_BYTES:
        raise FetchError(f"The CSV file is larger than {MAX_BYTES // 1024 // 1024} MB.")
    return data


def _decode(data: bytes) -> tuple[str, str | None]:
    """The text, and a note if its encoding was guessed.

    Raises FetchError if the encoding is unknown or the text is damaged.
    """
    unknown = FetchError("The CSV file's encoding is unknown: save it as UTF-8.")
    try:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            return data.decode("utf-16"), None
        text = data.decode("utf-8-sig", errors="surrogateescape")
    except UnicodeDecodeError:
        raise unknown from None
    if "\0" in text:
        raise unknown
    if text.isascii() or not any(map(_is_undecoded, text)):
        return text, None
    # A file with valid UTF-8 next to broken bytes is damaged and not in another encoding. Read as
    # Windows-1252, its names would be garbled into new names.
    if any(character > "\x7f" and not _is_undecoded(character) for character in text):
        raise FetchError("The CSV file is damaged UTF-8: save it again.")
    try:
        return data.decode("cp1252"), "read as Windows-1252, because it is not UTF-8"
    except UnicodeDecodeError:
        raise unknown from None


def _is_undecoded(character: str) -> bool:
    """Whether `surrogateescape` put the character in place of a byte that is not UTF-8."""
    return "\udc80" <= character <= "\udcff"


def _delimiter(text: str) -> tuple[str, str]:
    """The delimiter, and the text without Excel's `sep=` line.

    Without that line, the delimiter is the one that splits a line of the first ten into the most
    cells.
    """
    first, _, rest = text.partition("\n")
    named = first.rstrip("\r").removeprefix("sep=")
    if first.startswith("sep=") and named in tuple(DELIMITERS):
        # The line is dropped because Excel does not count it in its row numbers.
        return named, rest
    head = text.split("\n", 10)[:10]

    def width(delimiter: str) -> int:
        try:
            return max((len(cells) for cells in csv.reader(head, delimiter=delimiter)), default=0)
        except csv.Error:
            return 0

    return max(DELIMITERS, key=width), text
