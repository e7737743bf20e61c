"""Checks where a new source's sheet is: an address, a path, or an uploaded file."""

from __future__ import annotations

import re
from pathlib import Path

from budget_sync.domain.errors import invalid_request
from budget_sync.sync.files import source_file
from budget_sync.sync.source import CSV, GOOGLE, XLSX, FetchError, Target, Upload

#: The most bytes of an uploaded file. The database stores it.
MAX_UPLOAD_BYTES = 16 * 1024 * 1024

#: The name of an uploaded file is cut to this many characters.
MAX_NAME_CHARS = 120

_KEY = re.compile(r"[A-Za-z0-9_-]{5,200}")
_ADDRESS = re.compile(
    r"https://docs\.google\.com/spreadsheets/(?:u/\d+/)?d/([A-Za-z0-9_-]+)(?:[/?#].*)?"
)
_ADDRESS_GID = re.compile(r"[#?&]gid=(\d{1,15})")
_GID = re.compile(r"#?gid[=:]\s*(?P<gid>\d{1,15})")

#: How an Excel file and other ZIP files begin.
_ZIP = b"PK\x03\x04"

#: How an Excel file of an old version begins, and one that is protected with a password.
_OLD_EXCEL = b"\xd0\xcf\x11\xe0"

#: How files begin that are often uploaded by mistake, and what they are.
_OTHER_FILES = (
    (b"\x89PNG\r\n", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"GIF8", "a picture"),
    (b"%PDF-", "a PDF file"),
)


def google_target(
    spreadsheet: str, worksheet: str | None = None, *, needs_worksheet: bool = True
) -> Target:
    """The target of a tab of a Google Sheet.

    `spreadsheet` is its key or its address. `worksheet` is the title of a tab, or its number as in
    "gid=123"; without it, the number in the address. Raises RequestError INVALID_REQUEST with every
    field that is wrong; `worksheet` may be missing unless `needs_worksheet`.
    """
    fields: dict[str, str] = {}
    address = _ADDRESS.fullmatch(spreadsheet.strip())
    key = address[1] if address else spreadsheet.strip()
    if not _KEY.fullmatch(key):
        fields["spreadsheet"] = (
            "must be the spreadsheet's address, or the key between /d/ and /edit in it"
        )
    title, gid = _tab(worksheet, fields)
    in_address = _ADDRESS_GID.search(spreadsheet) if address else None
    if worksheet is None and in_address:
        gid = int(in_address[1])
    elif worksheet is None and needs_worksheet:
        fields["worksheet"] = "is required: name a tab of the spreadsheet"
    if fields:
        raise invalid_request(fields)
    return Target(GOOGLE, spreadsheet_key=key, worksheet=title, worksheet_gid=gid)


def file_target(kind: str, path: str, folder: Path, worksheet: str | None = None) -> Target:
    """The target of a CSV or Excel file in a folder of this machine: only for the command line.

    Raises RequestError INVALID_REQUEST with every field that is wrong.
    """
    fields: dict[str, str] = {}
    relative = None
    try:
        relative = str(source_file(folder, path, kind).relative_to(folder.resolve()))
    except FetchError:
        fields[kind] = f"must be inside {folder}"
    title = _worksheet(kind, worksheet, fields)
    if fields:
        raise invalid_request(fields)
    return Target(kind, worksheet=title, file_path=relative)


def upload_target(name: str, content: bytes, worksheet: str | None = None) -> Target:
    """The target of an uploaded file; its kind is that of its content.

    Raises RequestError INVALID_REQUEST with every field that is wrong.
    """
    upload = checked_upload(name, content)
    kind = kind_of(content)
    fields: dict[str, str] = {}
    title = _worksheet(kind, worksheet, fields)
    if fields:
        raise invalid_request(fields)
    return Target(kind, worksheet=title, upload=upload)


def checked_upload(name: str, content: bytes) -> Upload:
    """The uploaded file, with a clean name.

    Raises RequestError INVALID_REQUEST if it is empty, too large, an old Excel file, or no sheet.
    """
    problem = None
    if not content:
        problem = "is empty"
    elif len(content) > MAX_UPLOAD_BYTES:
        problem = f"is larger than {MAX_UPLOAD_BYTES // 1024 // 1024} MB"
    elif content.startswith(_OLD_EXCEL):
        problem = "is an .xls file or has a password. Save it as .xlsx without a password"
    else:
        other = next((what for start, what in _OTHER_FILES if content.startswith(start)), None)
        problem = other and f"is {other} and not a sheet. Upload a .csv or .xlsx file"
    if problem:
        raise invalid_request({"file": problem})
    return Upload(clean_name(name), content)


def kind_of(content: bytes) -> str:
    """XLSX if the file begins like an Excel file, else CSV. Names may lie about it."""
    return XLSX if content.startswith(_ZIP) else CSV


def clean_name(name: str) -> str:
    """The name of an uploaded file, without folders and characters that are not printable."""
    last = re.split(r"[/\\]", name[-1000:])[-1]
    printable = "".join(each if each.isprintable() else " " for each in last)
    clean = " ".join(printable.split()).strip(". ")
    if len(clean) > MAX_NAME_CHARS:
        stem, dot, ending = clean.rpartition(".")
        ending = f"{dot}{ending}" if stem and len(ending) <= 10 else ""
        clean = clean[: MAX_NAME_CHARS - len(ending)] + ending
    return clean or "sheet"


def _worksheet(kind: str, worksheet: str | None, fields: dict[str, str]) -> str | None:
    """The title of a worksheet of a file."""
    if worksheet is not None and kind == CSV:
        fields["worksheet"] = "is for a spreadsheet or an Excel file; a CSV file has none"
    elif worksheet is not None and not _is_title(worksheet):
        fields["worksheet"] = "must be the title of a worksheet"
    return worksheet


def _tab(worksheet: str | None, fields: dict[str, str]) -> tuple[str | None, int | None]:
    """The title or the number of a tab of a Google Sheet."""
    numbered = _GID.fullmatch((worksheet or "").strip())
    if numbered:
        return None, int(numbered["gid"])
    if worksheet is not None and not _is_title(worksheet):
        fields["worksheet"] = 'must be the title of a tab, or its number as in "gid=0"'
    return worksheet, None


def _is_title(text: str) -> bool:
    return bool(text.strip()) and len(text) <= 100 and text.isprintable()
