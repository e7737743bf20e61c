"""A client's connection as the parser and the threads see it: they read only what has arrived."""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
import termios
from collections.abc import Callable

from gunicorn import util
from gunicorn.config import Config
from gunicorn.http import errors, message, parser
from gunicorn.http.body import Body
from gunicorn.http.unreader import Unreader
from gunicorn.workers.gthread import TConn
from werkzeug.exceptions import RequestEntityTooLarge

from budget_sync.server.request_buffer import RequestBuffer
from budget_sync.web.server_interface import BrokenBodyError

#: How long to wait for a client that does not read its reply, in seconds.
SEND_TIMEOUT_S = 10

#: Size of the kernel's send buffer, so that a slow reader blocks no thread; the default is less.
SEND_BUFFER_BYTES = 1024 * 1024


class ReceivedData(Unreader):  # type: ignore[misc]  # gunicorn has no types
    """The received bytes of a request, for the parser and the body. Never waits for more."""

    #: Whether the request was cut off because its body is too large.
    is_cut = False

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Raise instead of waiting for data.

        Raises RequestEntityTooLarge for a request that was cut off, else NoMoreData (an OSError):
        the request announced more than the client sent.
        """
        raise RequestEntityTooLarge if self.is_cut else errors.NoMoreData


class RequestBody(Body):  # type: ignore[misc]  # gunicorn has no types
    """A request's body. Raises BrokenBodyError in place of the parser's exceptions."""

    def _read_reader(self, size: int) -> bytes:
        try:
            data: bytes = super()._read_reader(size)
        except errors.ParseException:
            raise BrokenBodyError from None
        return data


class Request(message.Request):  # type: ignore[misc]  # gunicorn has no types
    """A request with a RequestBody."""

    body: Body

    def set_body_reader(self) -> None:
        """Choose how the body is read, by the headers."""
        super().set_body_reader()
        self.body = RequestBody(self.body.reader)


class RequestParser(parser.RequestParser):  # type: ignore[misc]  # gunicorn has no types
    """Parses the received bytes into requests. Has no socket, so it cannot wait on one."""

    mesg_class = Request

    def __init__(self, cfg: Config, address: object) -> None:
        super().__init__(cfg, (), address)
        self.unreader = ReceivedData()


class Connection(TConn):  # type: ignore[misc]  # gunicorn has no types
    """A connection, with the received bytes of its next request."""

    def __init__(
        self,
        cfg: Config,
        client: socket.socket,
        address: object,
        listener: object,
        linger: Callable[[Connection], None],
        uploads: tuple[bytes, ...] = (),
    ) -> None:
        super().__init__(cfg, client, address, listener)
        self._linger = linger
        self.uploads = uploads
        self.buffer = RequestBuffer(uploads)
        self.is_cut = False
        self.drained = 0
        # Otherwise gunicorn creates a parser later, and gives it the socket.
        self.parser = RequestParser(cfg, address)
        self.initialized = True
        # A thread blocks on the socket only if the client does not read its reply.
        client.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_TIMEOUT_S, 0)
        )
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def close(self, graceful: bool = False) -> None:
        """Close now, or gracefully: end the sending direction and let the worker close later."""
        if graceful:
            self._linger(self)
        else:
            util.close(self.sock)


def unsent_bytes(connection: socket.socket) -> int:
    """Bytes in the send buffer that the other side has not acknowledged yet."""
    return int.from_bytes(fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
