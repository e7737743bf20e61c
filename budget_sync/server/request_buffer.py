"""When a request has arrived whole, seen from its bytes alone. What it says is for the HTTP parser to judge, but not where it ends.

Two readers that disagree about the end of a request wait for each other, or take a part of one request for another. So a body that
is not plainly of one known length, or in plain chunks, is refused here, and the parser sees nothing of it.
"""

from __future__ import annotations

import re
import sys

from budget_sync.web.payloads import MAX_BODY_BYTES

#: More than any head that is not refused: gunicorn takes lines of 8 KiB, and nobody needs many.
MAX_HEAD_BYTES = 32 * 1024

#: As many digits as a length may have, the zeros before it too: with more of them, one reader's number may be another's nonsense.
MAX_LENGTH_DIGITS = 15

#: As many bytes as the line before a chunk may have, with its size, whatever else it says, and its end.
MAX_CHUNK_LINE_BYTES = 64

_FRAMING = re.compile(rb"\r\n(content-length|transfer-encoding)[ \t]*:([^\r]*)", re.IGNORECASE)
_EXPECTANT = re.compile(rb"\r\nexpect[ \t]*:[ \t]*100-continue[ \t]*\r\n", re.IGNORECASE)
_CHUNK_LINE = re.compile(rb"([0-9a-fA-F]{1,8})(?:[ \t]*;[^\r\n]*)?\r\n")


class Arrival:
    """The bytes of a request so far."""

    __slots__ = (
        "_at",
        "_body_bytes",
        "_end",
        "_has_last_chunk",
        "_is_chunked",
        "awaits_continue",
        "data",
        "fault",
        "is_cut",
    )

    def __init__(self) -> None:
        self.data = bytearray()
        #: Whether the client sends its body only once it is told to go on.
        self.awaits_continue = False
        #: Whether more may follow that belongs to this request, and is not worth waiting for.
        self.is_cut = False
        #: Why nobody can say for certain where the request ends, or nothing.
        self.fault = ""
        # Where to look on: in the head, then at the next chunk, then after the last one; and where the request ends.
        self._at = 0
        self._end: int | None = None
        self._is_chunked = False
        self._has_last_chunk = False
        self._body_bytes = 0

    @property
    def is_too_long(self) -> bool:
        """Whether this is more than any request's head may be."""
        return self._end is None and len(self.data) > MAX_HEAD_BYTES

    def add(self, data: bytes) -> bool:
        """More bytes; returns whether the request is whole now, or so wrong or large that it can be refused at once."""
        self.data += data
        if self._end is None and not self._read_head():
            return False
        if self._is_chunked:
            self._walk()
        return (
            self.is_cut
            or self.fault != ""
            or (self._end is not None and len(self.data) >= self._end)
        )

    def _read_head(self) -> bool:
        """Find out how the body ends, if the head is there."""
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
            # With the line end that closes the last header.
            self.awaits_continue = _EXPECTANT.search(self.data, 0, head_end + 2) is not None
        return True

    def _read_framing(self, name: bytes, value: bytes) -> None:
        """What the one header means that says how the body ends."""
        value = value.strip(b" \t")
        if name[0] in b"tT":
            self._is_chunked = value.rpartition(b",")[2].strip(b" \t").lower() == b"chunked"
            # The parser refuses any other coding for what it is, and needs no more than the head for that.
            self.is_cut = not self._is_chunked
            self._end = sys.maxsize
        elif not value.isdigit() or len(value) > MAX_LENGTH_DIGITS:
            self.fault = "invalid length"
        elif int(value) > MAX_BODY_BYTES:
            # It is refused by what it announces.
            self.is_cut = True
        else:
            self._end = self._at + int(value)

    def _walk(self) -> None:
        """Go from chunk to chunk as far as they are there, and to the end of what follows the last."""
        while not self._has_last_chunk and self._pass_chunk():
            pass
        if self._has_last_chunk:
            # No trailers, or some.
            end = self.data.find(b"\r\n\r\n", self._at)
            self._end = end + 4 if end >= 0 else sys.maxsize
            self._at = max(self._at, len(self.data) - 3)
        if self._end == sys.maxsize and len(self.data) > MAX_HEAD_BYTES + MAX_BODY_BYTES:
            self.is_cut = True

    def _pass_chunk(self) -> bool:
        """Go on by one chunk; False where there is no further one, not all of it, or too much."""
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
