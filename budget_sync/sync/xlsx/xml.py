"""Reads the XML of one part of an Excel file, in pieces and within limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from xml.parsers import expat

from budget_sync.sync.limits import MAX_XML_ELEMENTS, Check, no_check
from budget_sync.sync.xlsx.package import DamagedFileError

# No tag of an Excel file is nearly as long. Attributes of an endless tag would fill the memory.
_MAX_TAG_BYTES = 1024 * 1024
_MAX_DEPTH = 100

Attributes = Mapping[str, str]


class XmlReader:
    """Calls `start`, `end` and `text` for one part. Names are without their namespace prefix.

    A subclass sets `collecting` to get texts: `text` holds the text since then.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._elements = 0
        self._text: list[str] = []
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._on_start
        self._parser.EndElementHandler = self._on_end
        self._parser.StartDoctypeDeclHandler = _reject_doctype
        self._parser.XmlDeclHandler = _require_utf8

    def forbid_markup_in_texts(self) -> None:
        """Reject comments, CDATA and processing instructions below the root element.

        python-calamine drops texts next to them.
        """
        self._parser.CommentHandler = self._reject_markup
        self._parser.StartCdataSectionHandler = self._reject_markup
        self._parser.ProcessingInstructionHandler = self._reject_markup

    def start(self, name: str, attributes: Attributes) -> None:
        """Called for the start of an element."""

    def end(self, name: str) -> None:
        """Called for the end of an element."""

    def collect(self) -> None:
        """Collect the text from here on."""
        self._text.clear()
        self._parser.CharacterDataHandler = self._text.append

    def collected(self) -> str:
        """The text since `collect`, which ends."""
        self._parser.CharacterDataHandler = None
        return "".join(self._text)

    def position(self) -> int:
        """The index of the first byte of the current tag."""
        return self._parser.CurrentByteIndex

    def read(self, chunks: Iterable[bytes], check: Check = no_check) -> None:
        """Read a part. Raises FetchError."""
        size = 0
        try:
            for chunk in chunks:
                check()
                if not size and chunk.startswith((b"\xff\xfe", b"\xfe\xff")):
                    raise DamagedFileError("its encoding is not UTF-8")
                size += len(chunk)
                self._parser.Parse(chunk)
                if size - self._parser.CurrentByteIndex > _MAX_TAG_BYTES:
                    raise DamagedFileError("a tag is too long")
            self._parser.Parse(b"", True)
        except expat.ExpatError:
            raise DamagedFileError("its XML is not valid") from None

    def _on_start(self, name: str, attributes: Attributes) -> None:
        self._depth += 1
        self._elements += 1
        if self._elements > MAX_XML_ELEMENTS:
            raise DamagedFileError(f"a part has more than {MAX_XML_ELEMENTS:,} elements")
        if self._depth > _MAX_DEPTH:
            raise DamagedFileError("its XML is nested too deeply")
        self.start(name.rpartition(":")[2] if ":" in name else name, attributes)

    def _reject_markup(self, *_: object) -> None:
        if self._depth:
            raise DamagedFileError("its XML has comments or CDATA")

    def _on_end(self, name: str) -> None:
        self._depth -= 1
        self.end(name.rpartition(":")[2] if ":" in name else name)


def attribute(attributes: Attributes, name: str) -> str | None:
    """An attribute with or without a namespace prefix, such as r:id."""
    return next(
        (value for key, value in attributes.items() if key.rpartition(":")[2] == name), None
    )


def is_true(text: str | None) -> bool:
    """Whether an attribute means yes."""
    return text in ("1", "true", "on")


def _reject_doctype(*_: object) -> None:
    # Entities are declared in a document type, and can grow to any size.
    raise DamagedFileError("it declares a document type, which Excel files do not have")


def _require_utf8(_version: str, encoding: str | None, _standalone: int) -> None:
    if encoding is not None and encoding.lower() not in ("utf-8", "utf8", "us-ascii", "ascii"):
        raise DamagedFileError("its encoding is not UTF-8")
