"""Connections that were told to go: closed at once, what a client still sends would cost it the reply that is on its way."""

from __future__ import annotations

import itertools
import selectors
import socket
import time

from gunicorn import util

from budget_sync.runtime.greenlets import Poller
from budget_sync.server.connection import Connection

#: Seconds, and bytes, that a connection which is being closed is listened to.
LINGER_S = 2.0
LINGER_BYTES = 256 * 1024


class Leaving:
    """Those that are listened to until their clients close, by a loop and without a thread. None of it is for other threads."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        # The one that was told first comes first; each knows when its time is up.
        self._connections: dict[Connection, None] = {}

    def add(self, conn: Connection) -> None:
        """Say that nothing more will be sent, and wait for the client to close."""
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
            self._poller.register(conn.sock, selectors.EVENT_READ, lambda _: self._read(conn))
        except OSError:
            util.close(conn.sock)
            return
        conn.timeout = time.monotonic() + LINGER_S
        self._connections[conn] = None

    def end_overdue(self) -> None:
        """Close what was left open long enough."""
        now = time.monotonic()
        for conn in list(itertools.takewhile(lambda conn: conn.timeout <= now, self._connections)):
            self._end(conn)

    def end_beyond(self, most: int) -> None:
        """Close those that were told first, until no more than so many are left."""
        for conn in list(
            itertools.islice(self._connections, max(0, len(self._connections) - most))
        ):
            self._end(conn)

    def _read(self, conn: Connection) -> None:
        """Read and forget what a client still sends."""
        try:
            data = conn.sock.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        conn.drained += len(data)
        if not data or conn.drained > LINGER_BYTES:
            self._end(conn)

    def _end(self, conn: Connection) -> None:
        del self._connections[conn]
        self._poller.unregister(conn.sock)
        util.close(conn.sock)
