"""When a request has arrived whole, seen from its bytes alone. What it says is for the HTTP parser to judge."""

from __future__ import annotations

import re

from budget_sync.web.payloads import MAX_BODY_BYTES

#: More than any head that is not refused: gunicorn takes lines of 8 KiB, and nobody needs many.
MAX_HEAD_BYTES = 32 * 1024

_LENGTH = re.compile(rb"\r\ncontent-length[ \t]*:[ \t]*(\d{1,15})[ \t]*\r\n", re.IGNORECASE)
_CODED = re.compile(rb"\r\ntransfer-encoding[ \t]*:", re.IGNORECASE)
_EXPECTANT = re.compile(rb"\r\nexpect[ \t]*:[ \t]*100-continue", re.IGNORECASE)
_CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,8}")


class Arrival:
    """The bytes of a request so far."""

    __slots__ = ("_at", "_chunked", "_end", "_has_last_chunk", "awaits_continue", "data", "is_cut")

    def __init__(self) -> None:
        self.data = bytearray()
        #: Whether the client sends its body only once it is told to go on.
        self.awaits_continue = False
        #: Whether more may follow that belongs to this request, and is not worth waiting for.
        self.is_cut = False
        # Where to look on: in the head, and then at the next chunk; and where a body of known length ends.
        self._at = 0
        self._end: int | None = None
        self._chunked = False
        self._has_last_chunk = False

    @property
    def is_too_long(self) -> bool:
        """Whether this is more than any request's head may be."""
        return self._end is None and len(self.data) > MAX_HEAD_BYTES

    def add(self, data: bytes) -> bool:
        """More bytes; returns whether the request is whole now, or so wrong or large that it can be refused at once."""
        self.data += data
        if self._end is None and not self._read_head():
            return False
        if self._chunked:
            self.is_cut = self._is_refusable()
            return self.is_cut or self._has_last_chunk
        return self._end is not None and len(self.data) >= self._end

    def _read_head(self) -> bool:
        """Find out how the body ends, if the head is there."""
        head_end = self.data.find(b"\r\n\r\n", max(0, self._at - 3))
        if head_end < 0:
            self._at = len(self.data)
            return False
        body_at = head_end + 4
        # With the line end that closes the last header.
        head = bytes(self.data[: body_at - 2])
        self._at = self._end = body_at
        if _CODED.search(head):
            self._chunked = True
        elif length := _LENGTH.search(head):
            # One that is too large is refused by what it announces.
            self.is_cut = int(length[1]) > MAX_BODY_BYTES
            self._end += 0 if self.is_cut else int(length[1])
        self.awaits_continue = _EXPECTANT.search(head) is not None
        return True

    def _is_refusable(self) -> bool:
        """Walk from chunk to chunk; whether there is one that is none, or too much of them."""
        while not self._has_last_chunk:
            line_end = self.data.find(b"\r\n", self._at, self._at + 64)
            size = _CHUNK_SIZE.match(self.data, self._at)
            if line_end < 0:
                return len(self.data) >= self._at + 64
            if size is None:
                return True
            length = int(size[0], 16)
            if length == 0:
                # No trailers, or some.
                self._has_last_chunk = self.data.find(b"\r\n\r\n", line_end) >= 0
                return False
            next_at = line_end + 2 + length + 2
            if len(self.data) < next_at or len(self.data) > MAX_HEAD_BYTES + MAX_BODY_BYTES:
                return max(length, len(self.data)) > MAX_HEAD_BYTES + MAX_BODY_BYTES
            self._at = next_at
        return False
