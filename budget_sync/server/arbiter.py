"""The production server: gunicorn, configured for this service, with this package's workers."""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable

from flask import Flask
from gunicorn import arbiter
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from budget_sync.server.accept_balance import ABSENT, ConnectionCounts
from budget_sync.server.worker import DEFERRED_SIGNALS, Worker
from budget_sync.web import metrics

THREADS = 16

#: The most open connections of a worker, including those in a lingering close.
MAX_CONNECTIONS = 800

#: Files that a worker may open in addition to its connections; a test counts them. With every
#: thread's connection to the database, there are 54 on SQLite and 37 on PostgreSQL, and briefly a
#: few more. Together with 800 connections, that is below the usual limit of 1,024 open files.
RESERVED_FILES = 120

#: The message that gunicorn logs, with a traceback, for a socket that it can no longer write to.
LOST_CLIENT = "Socket error processing request."

#: On shutdown, the longest wait for the workers to accept the connections in the queue, in seconds.
ACCEPT_QUEUED_S = 2.0


class Arbiter(arbiter.Arbiter):  # type: ignore[misc]  # gunicorn has no types
    """Gunicorn's master process, which stops listening before it stops the workers.

    A new client then finds the port closed. Otherwise its connection would be accepted and dropped.
    """

    #: Whether a terminal controls the process and SIGHUP is not ignored, as by nohup. Determined at
    #: the start: it cannot be seen any more once the terminal is closed.
    has_terminal = False

    def start(self) -> None:
        """Listen, and store what a SIGHUP means."""
        self.has_terminal = os.isatty(0) and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
        super().start()

    def handle_hup(self) -> None:
        """Stop if the terminal was closed. Otherwise, as under systemd, start new workers.

        Without its terminal, the server could no longer be stopped by Ctrl+C.
        """
        if self.has_terminal:
            self.handle_term()
        else:
            super().handle_hup()

    def handle_usr2(self) -> None:
        """Log that there is no upgrade in flight. Gunicorn's would fail, because the port is taken.

        Gunicorn would start a second server by the command line of this one.
        """
        self.log.warning(
            "SIGUSR2 is ignored, because a running server cannot be upgraded. Restart the service."
        )

    def spawn_worker(self) -> object:
        """Start a worker, with signals blocked until it has its own handlers.

        A new process has its master's handlers, which would ignore the signal to stop.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, DEFERRED_SIGNALS)
        try:
            return super().spawn_worker()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, DEFERRED_SIGNALS)

    def stop(self, graceful: bool = True) -> None:
        """Stop listening, let the workers finish their requests, and stop them."""
        # Another master (during an upgrade) or systemd may use the same socket.
        if self.reexec_pid == self.master_pid == 0 and not self.systemd:
            for listener in self.LISTENERS:
                _drain_accept_queue(listener.sock)
                listener.sock.shutdown(socket.SHUT_RD)
        super().stop(graceful)


def _drain_accept_queue(listener: socket.socket) -> None:
    """Let no connection join the queue, and wait until the workers have accepted those in it.

    Once the listener is shut down, the connections in the queue are reset.
    """
    listener.listen(0)
    deadline = time.monotonic() + ACCEPT_QUEUED_S
    while _queued(listener) and time.monotonic() < deadline:
        time.sleep(0.005)


def _queued(listener: socket.socket) -> int:
    """The connections that wait to be accepted; always 0 on systems other than Linux.

    On Linux it is the field tcpi_unacked of a listening socket's TCP_INFO.
    """
    if sys.platform != "linux":
        return 0
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    (count,) = struct.unpack_from("I", info, 24)
    return int(count)


class _Logger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """Sends gunicorn's messages to the app's log, in the app's format."""

    def setup(self, cfg: object) -> None:
        """Add no handlers: the app has configured logging."""

    def access(self, *details: object) -> None:
        """Write no access log; /metrics counts the requests."""

    def exception(self, message: str, *details: object, **options: object) -> None:
        """Log an exception; at level DEBUG if the client is gone or does not read its reply.

        Otherwise any client could fill the log.
        """
        is_lost_client = isinstance(sys.exc_info()[1], OSError) and message == LOST_CLIENT
        log = super().debug if is_lost_client else super().exception
        log(message, *details, **options)


def connections_within(files: int) -> int:
    """The most connections of a worker that may open that many files; at least two per thread."""
    return max(2 * THREADS, min(MAX_CONNECTIONS, files - RESERVED_FILES))


def _forget(worker: Worker) -> None:
    """Remove a worker that has ended from the connection counts and the metrics."""
    worker.connection_counts.set(worker.age, ABSENT)
    metrics.forget_worker(worker.pid)


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """Gunicorn around an app factory, which each worker calls: nothing is opened before a fork."""

    def __init__(
        self, make_app: Callable[[], Flask], *, host: str, port: int, workers: int
    ) -> None:
        self.make_app = make_app
        self.options = {
            "bind": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            "workers": workers,
            "worker_class": Worker,
            "threads": THREADS,
            # The tests compare the request buffer with this parser, so use it even if gunicorn's
            # faster one is installed.
            "http_parser": "python",
            "worker_connections": connections_within(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
            "keepalive": 5,
            # After SIGTERM, the most seconds for requests in progress to finish.
            "graceful_timeout": 30,
            "timeout": 60,
            # TRUSTED_PROXIES decides whether the client used HTTPS; gunicorn would believe any
            # client on loopback.
            "forwarded_allow_ips": "",
            "control_socket_disable": True,
            "proc_name": "budget-sync",
            "logger_class": _Logger,
            "child_exit": lambda _, worker: _forget(worker),
        }
        super().__init__()

    def load_config(self) -> None:
        """Set gunicorn's options."""
        for name, value in self.options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Create the app, in the worker."""
        app = self.make_app()
        # The objects loaded now stay until the end: the garbage collector need not scan them.
        gc.collect()
        gc.freeze()
        return app

    def run(self) -> None:
        """Serve until stopped."""
        Worker.connection_counts = ConnectionCounts()
        with metrics.shared_by_workers():
            Arbiter(self).run()
