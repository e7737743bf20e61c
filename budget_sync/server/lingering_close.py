"""Lingering close: read and discard what a client still sends before its connection is closed.

If a connection is closed with unread data, TCP resets it, and the client may lose the reply that is
still on its way.
"""

from __future__ import annotations

import itertools
import selectors
import socket
import time

from gunicorn import util

from budget_sync.runtime.greenlets import Poller
from budget_sync.server.connection import Connection

#: The most time, in seconds, and data, in bytes, to wait for and read from a closing connection.
LINGER_S = 2.0
LINGER_BYTES = 256 * 1024


class LingeringConnections:
    """Connections that wait for their clients to close. Only for the event loop's thread."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        # In the order of their deadlines.
        self._connections: dict[Connection, None] = {}

    def add(self, conn: Connection) -> None:
        """End the sending direction, and wait for the client to close."""
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
            self._poller.register(conn.sock, selectors.EVENT_READ, lambda _: self._read(conn))
        except OSError:
            util.close(conn.sock)
            return
        conn.timeout = time.monotonic() + LINGER_S
        self._connections[conn] = None

    def close_overdue(self) -> None:
        """Close the connections with expired deadlines."""
        now = time.monotonic()
        for conn in list(itertools.takewhile(lambda conn: conn.timeout <= now, self._connections)):
            self._close(conn)

    def close_beyond(self, most: int) -> None:
        """Close the oldest connections until at most that many are left."""
        excess = max(0, len(self._connections) - most)
        for conn in list(itertools.islice(self._connections, excess)):
            self._close(conn)

    def _read(self, conn: Connection) -> None:
        """Read and discard what a client still sends."""
        try:
            data = conn.sock.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        conn.drained += len(data)
        if not data or conn.drained > LINGER_BYTES:
            self._close(conn)

    def _close(self, conn: Connection) -> None:
        del self._connections[conn]
        self._poller.unregister(conn.sock)
        util.close(conn.sock)
