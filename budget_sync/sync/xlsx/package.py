"""The zip archive of an Excel file: what it is, and its parts, unpacked within limits."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator

from budget_sync.sync.limits import MAX_UNPACKED_BYTES, MAX_ZIP_ENTRIES
from budget_sync.sync.source import FetchError

CHUNK_BYTES = 64 * 1024

_ZIP = b"PK\x03\x04"
_EMPTY_ZIP = b"PK\x05\x06"
_CENTRAL_ENTRY = b"PK\x01\x02"
_COMPOUND_FILE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_HEAD_BYTES = 1000
_IS_ENCRYPTED = 0x1

#: The exceptions of zipfile for a damaged archive. NotImplementedError: for one that is compressed
#: by a method that zipfile does not know.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OSError,
    ValueError,
    LookupError,
)

_PROTECTED = "This file is protected with a password. Save it without one."
_UNKNOWN = "This is not an Excel file. Save the sheet as an Excel workbook (.xlsx)."

# The beginning of a part's name, and the sentence for a file that has such a part.
_OTHER_ARCHIVES = {
    "xl/workbook.bin": "This is a binary Excel file (.xlsb). Save it as an Excel workbook (.xlsx).",
    "content.xml": "This is an OpenDocument file (.ods). Save it as an Excel workbook (.xlsx).",
    "index/": "This is a Numbers file. Export it as an Excel workbook (.xlsx).",
    "index.zip": "This is a Numbers file. Export it as an Excel workbook (.xlsx).",
    "word/": f"This is a Word document. {_UNKNOWN.partition('. ')[2]}",
    "ppt/": f"This is a PowerPoint file. {_UNKNOWN.partition('. ')[2]}",
}


class DamagedFileError(FetchError):
    """A file that breaks the rules of its format."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The Excel file is damaged ({reason}). Open it in a spreadsheet program, and save it "
            "again."
        )


class Package:
    """The parts of an Excel file by their names, in lower case and without a slash at the start."""

    def __init__(self, data: bytes) -> None:
        """Open the archive in `data`. Raises FetchError if it is not an Excel file."""
        _require_zip(data)
        # Counted in the bytes, because zipfile creates an object for each entry.
        if data.count(_CENTRAL_ENTRY) > MAX_ZIP_ENTRIES:
            raise FetchError(
                f"The Excel file contains more than {MAX_ZIP_ENTRIES:,} parts: copy the sheet into "
                "a new file."
            )
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except _ZIP_ERRORS:
            raise DamagedFileError("it is not a complete archive") from None
        self._parts = {
            info.filename.replace("\\", "/").lstrip("/").lower(): info
            for info in self._zip.infolist()
        }
        if "xl/workbook.xml" not in self._parts and "_rels/.rels" not in self._parts:
            raise FetchError(self._other_kind())
        for beginning, sentence in _OTHER_ARCHIVES.items():
            if "/" in beginning and any(name.startswith(beginning) for name in self._parts):
                raise FetchError(sentence)

    def _other_kind(self) -> str:
        """The sentence for an archive that is not an Excel file."""
        for beginning, sentence in _OTHER_ARCHIVES.items():
            if any(name.startswith(beginning) for name in self._parts):
                return sentence
        return _UNKNOWN

    def has(self, name: str) -> bool:
        """Whether the file has this part."""
        return name.lower() in self._parts

    def chunks(self, name: str) -> Iterator[bytes]:
        """The bytes of a part. Raises FetchError if it is missing, damaged or too large.

        zipfile unpacks no more than the size in the archive, and then compares the checksum.
        """
        info = self._parts.get(name.lower())
        if info is None:
            raise DamagedFileError("a part is missing")
        if info.flag_bits & _IS_ENCRYPTED:
            raise FetchError(_PROTECTED)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DamagedFileError("its compression is unknown")
        if info.file_size > MAX_UNPACKED_BYTES:
            raise FetchError(
                "A part of the Excel file is larger than "
                f"{MAX_UNPACKED_BYTES // 1024 // 1024} MB when it is unpacked: copy the budgets "
                "into a new file."
            )
        yield from self._unpack(info)

    def _unpack(self, info: zipfile.ZipInfo) -> Iterator[bytes]:
        try:
            with self._zip.open(info) as part:
                while chunk := part.read(CHUNK_BYTES):
                    yield chunk
        except _ZIP_ERRORS:
            raise DamagedFileError("a part cannot be unpacked") from None


def _require_zip(data: bytes) -> None:
    """Raise FetchError with what the file is instead of a zip archive."""
    if data.startswith((_ZIP, _EMPTY_ZIP)):
        return
    if not data:
        raise FetchError("The Excel file is empty. Save it again.")
    if data.startswith(_COMPOUND_FILE):
        raise FetchError(
            _PROTECTED
            if _ENCRYPTED in data
            else "This is a file of an old Excel version (.xls). Save it as an Excel workbook "
            "(.xlsx)."
        )
    head = data[:_HEAD_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"<"):
        raise FetchError(
            "This is a web page or XML with the name of an Excel file. Open it in Excel, and save "
            "it as an Excel workbook (.xlsx)."
        )
    if not head.startswith(b"%pdf") and b"\0" not in head:
        raise FetchError(
            "This is a text file and not an Excel file. If it is a CSV file, add it as one."
        )
    raise FetchError(_UNKNOWN)
