"""The part of a worker that accepts connections, and leaves some of them to other workers."""

from __future__ import annotations

import errno
import socket
import time
from abc import abstractmethod

from gunicorn.workers.gthread import ThreadWorker

from budget_sync.server.accept_balance import ConnectionCounts
from budget_sync.server.connection import Connection
from budget_sync.server.lingering_close import LingeringConnections

#: How long to leave a new connection to a less loaded worker before accepting it here, in seconds.
LEAVE_TO_OTHERS_S = 0.002

#: How often to check, until then, whether another worker has fewer connections, in seconds.
CHECK_COUNTS_S = 0.001

#: Errors of `accept` if the system has no file or no memory for another connection.
NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class AcceptingWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Accepts a connection at once only if no other worker has fewer."""

    lingering: LingeringConnections
    upload_requests: tuple[bytes, ...]

    #: Connections with an incomplete request, and those with unread replies, by their deadlines.
    arriving: dict[Connection, None]
    blocked: dict[Connection, None]

    #: Shared by all workers. The server sets it on the class, because gunicorn creates the workers.
    connection_counts: ConnectionCounts

    #: When to accept a connection that was left to another worker.
    accepts_at: float | None = None

    #: Whether the system had no file or no memory for the last connection.
    has_no_room = False

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection, or leave it to a less loaded worker for LEAVE_TO_OTHERS_S.

        Not for longer, because that worker may be busy.
        """
        if self.nr_conns > self.connection_counts.lowest():
            self.accepts_at = time.monotonic() + LEAVE_TO_OTHERS_S
            self.set_accept_enabled(False)
        else:
            self._accept_now(listener)

    def _accept_after_all(self) -> None:
        """Accept a connection that no other worker has accepted, if there still is one."""
        self.accepts_at = None
        if self.alive and self.nr_conns < self.worker_connections:
            self.set_accept_enabled(True)
            for listener in self.sockets:
                self._accept_now(listener)

    def _accept_now(self, listener: socket.socket) -> None:
        """Accept a connection if there still is one.

        EINVAL means that the master has shut the listener down; SIGTERM follows.
        """
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno in NO_ROOM:
                self._wait_for_room(error)
            elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EINVAL):
                raise
            return
        self.has_no_room = False
        self.nr_conns += 1
        if self.nr_conns >= self.worker_connections and (slow := self.blocked or self.arriving):
            # Full: drop the connection that has waited the longest.
            self._drop(next(iter(slow)))
        # Lingering connections use files, too.
        self.lingering.close_beyond(self.worker_connections - self.nr_conns)
        if self.nr_conns >= self.worker_connections:
            self.set_accept_enabled(False)
        self._await_request(
            Connection(
                self.cfg,
                client,
                address,
                listener.getsockname(),
                self.lingering.add,
                self.upload_requests,
            )
        )

    def _wait_for_room(self, error: OSError) -> None:
        """Accept no connections until gunicorn's loop enables it again, after TICK_S.

        Otherwise the connections in the queue would wake the loop again and again.
        """
        self.set_accept_enabled(False)
        if not self.has_no_room:
            # Log it once: it may stay so for hours.
            self.has_no_room = True
            self.log.error(
                "No room for another connection: %s. New clients have to wait. "
                "Raise the limit of open files (ulimit -n) if this happens again.",
                error.strerror,
            )

    @abstractmethod
    def _await_request(self, conn: Connection, read_ahead: bytes = b"") -> None:
        """Read what has arrived of a request, and wait for the rest."""

    @abstractmethod
    def _drop(self, conn: Connection) -> None:
        """Close a connection without a reply."""
