"""Buffers a request until it is complete. Finds its end; everything else is up to the HTTP parser.

Two readers that disagree about the end of a request wait for each other, or take a part of one
request for another (request smuggling). So a request is rejected here, before the parser, unless
its body has one plain length or plain chunks.
"""

from __future__ import annotations

import re
import sys

from budget_sync.web.payloads import MAX_BODY_BYTES
from budget_sync.web.server_interface import MAX_UPLOAD_BYTES

#: The longest head, in bytes. Gunicorn accepts lines of 8 KiB, and clients send few of them.
MAX_HEAD_BYTES = 32 * 1024

#: The most digits of a Content-Length, leading zeros included. Readers may disagree about longer
#: ones.
MAX_LENGTH_DIGITS = 15

#: The longest line before a chunk, in bytes: its size, extensions and line end.
MAX_CHUNK_LINE_BYTES = 64

_FRAMING = re.compile(rb"\r\n(content-length|transfer-encoding)[ \t]*:([^\r]*)", re.IGNORECASE)
_EXPECTANT = re.compile(rb"\r\nexpect[ \t]*:[ \t]*100-continue[ \t]*\r\n", re.IGNORECASE)
_CHUNK_LINE = re.compile(rb"([0-9a-fA-F]{1,8})(?:[ \t]*;[^\r\n]*)?\r\n")


class RequestBuffer:
    """The bytes of a request so far.

    A body may have MAX_BODY_BYTES. If the request begins with one of `uploads` and announces its
    length, it may have MAX_UPLOAD_BYTES.
    """

    __slots__ = (
        "_at",
        "_body_bytes",
        "_end",
        "_has_last_chunk",
        "_is_chunked",
        "_uploads",
        "awaits_continue",
        "data",
        "fault",
        "is_cut",
        "is_upload",
    )

    def __init__(self, uploads: tuple[bytes, ...] = ()) -> None:
        self._uploads = uploads
        self.data = bytearray()
        #: Whether the client sends its body only after a 100 Continue.
        self.awaits_continue = False
        #: Whether the rest of the request may be missing, because the request is rejected anyway.
        self.is_cut = False
        #: Whether the body is larger than MAX_BODY_BYTES, and may be.
        self.is_upload = False
        #: Why the end of the request is ambiguous, or empty.
        self.fault = ""
        # Position of the next byte to read: in the head, then at the next chunk, then after the
        # last chunk.
        self._at = 0
        # Position of the request's end, once the head is complete.
        self._end: int | None = None
        self._is_chunked = False
        self._has_last_chunk = False
        self._body_bytes = 0

    @property
    def is_too_long(self) -> bool:
        """Whether the head is incomplete and over MAX_HEAD_BYTES."""
        return self._end is None and len(self.data) > MAX_HEAD_BYTES

    def add(self, data: bytes) -> bool:
        """Add bytes; returns whether the request is complete or can be rejected already."""
        self.data += data
        if self._end is None and not self._read_head():
            return False
        if self._is_chunked:
            self._read_chunks()
        return (
            self.is_cut
            or self.fault != ""
            or (self._end is not None and len(self.data) >= self._end)
        )

    def _read_head(self) -> bool:
        """Find out how the body ends; False if the head is incomplete."""
        head_end = self.data.find(b"\r\n\r\n", max(0, self._at - 3))
        if head_end < 0:
            self._at = len(self.data)
            return False
        self._at = self._end = head_end + 4
        framing = _FRAMING.findall(self.data, 0, head_end)
        if len(framing) > 1:
            self.fault = "more than one length"
        elif framing:
            self._read_framing(*framing[0])
        if self._end > len(self.data):
            # Two bytes more, for the line end of the last header.
            self.awaits_continue = _EXPECTANT.search(self.data, 0, head_end + 2) is not None
        return True

    def _read_framing(self, name: bytes, value: bytes) -> None:
        """Read the header that says how the body ends."""
        value = value.strip(b" \t")
        if name[0] in b"tT":
            self._is_chunked = value.rpartition(b",")[2].strip(b" \t").lower() == b"chunked"
            # The parser rejects any other coding by the head.
            self.is_cut = not self._is_chunked
            self._end = sys.maxsize
        elif not value.isdigit() or len(value) > MAX_LENGTH_DIGITS:
            self.fault = "invalid length"
        else:
            self._read_length(int(value))

    def _read_length(self, length: int) -> None:
        """Find the end of a body of an announced length, or reject it because of its length."""
        is_upload = length > MAX_BODY_BYTES and self.data.startswith(self._uploads)
        if length > (MAX_UPLOAD_BYTES if is_upload else MAX_BODY_BYTES):
            self.is_cut = True
        else:
            self._end = self._at + length
            self.is_upload = is_upload

    def _read_chunks(self) -> None:
        """Find the end of the last chunk and of the trailers, as far as they have arrived."""
        while not self._has_last_chunk and self._skip_chunk():
            pass
        if self._has_last_chunk:
            # The empty line after the trailers, if there are any.
            end = self.data.find(b"\r\n\r\n", self._at)
            self._end = end + 4 if end >= 0 else sys.maxsize
            self._at = max(self._at, len(self.data) - 3)
        if self._end == sys.maxsize and len(self.data) > MAX_HEAD_BYTES + MAX_BODY_BYTES:
            self.is_cut = True

    def _skip_chunk(self) -> bool:
        """Skip one chunk; False if it is the last, incomplete, invalid or over the limit."""
        line = _CHUNK_LINE.match(self.data, self._at, self._at + MAX_CHUNK_LINE_BYTES)
        if line is None:
            if (
                len(self.data) >= self._at + MAX_CHUNK_LINE_BYTES
                or self.data.find(b"\r\n", self._at) >= 0
            ):
                self.fault = "invalid chunk"
            return False
        size = int(line[1], 16)
        if size == 0:
            self._has_last_chunk = True
            self._at = line.end() - 2
            return False
        self.is_cut = self._body_bytes + size > MAX_BODY_BYTES
        next_at = line.end() + size + 2
        if self.is_cut or len(self.data) < next_at:
            return False
        if self.data[next_at - 2 : next_at] != b"\r\n":
            self.fault = "invalid chunk"
            return False
        self._body_bytes += size
        self._at = next_at
        return True
