"""A client's connection, as the parser and the threads see it: they get what has arrived, and never wait for the client to send more."""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
import termios
from collections.abc import Callable

from gunicorn import util
from gunicorn.config import Config
from gunicorn.http import errors
from gunicorn.http.parser import RequestParser
from gunicorn.http.unreader import Unreader
from gunicorn.workers.gthread import TConn
from werkzeug.exceptions import RequestEntityTooLarge

from budget_sync.server.request_buffer import Arrival

#: Seconds that a client is waited for that does not take its reply.
SEND_TIMEOUT_S = 10

#: Bytes of a reply that the system keeps for a slow reader, so that no thread has to wait; most systems give less.
SEND_BUFFER_BYTES = 1024 * 1024


class Arrived(Unreader):  # type: ignore[misc]  # gunicorn has no types
    """What has arrived of a request, for the parser and for who reads its body: there is no more, and neither ever waits for a client."""

    is_cut = False

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Refuse to read on: what was cut is too large, and of anything else more was announced than came."""
        raise RequestEntityTooLarge if self.is_cut else errors.NoMoreData


class Connection(TConn):  # type: ignore[misc]  # gunicorn has no types
    """A connection, and what has arrived on it of the next request."""

    def __init__(
        self,
        cfg: Config,
        client: socket.socket,
        address: object,
        listener: object,
        linger: Callable[[Connection], None],
    ) -> None:
        super().__init__(cfg, client, address, listener)
        self._linger = linger
        self.arrival = Arrival()
        self.is_cut = False
        self.drained = 0
        # Gunicorn would make a parser later, and give it the socket: without one, it cannot wait on it.
        self.parser = RequestParser(cfg, (), address)
        self.parser.unreader = Arrived()
        self.initialized = True
        # A thread waits here only for who does not take a reply.
        client.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_TIMEOUT_S, 0)
        )
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def close(self, graceful: bool = False) -> None:
        """Close, or say that nothing more will be sent and let the worker close a little later."""
        if graceful:
            self._linger(self)
        else:
            util.close(self.sock)


def unsent_bytes(connection: socket.socket) -> int:
    """How much of what was sent the other side has not yet taken, so that sending more may have to wait."""
    return int.from_bytes(fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
