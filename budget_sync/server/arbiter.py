"""The production server: gunicorn, set for this service, with workers of our own."""

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
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger

from budget_sync.server.accept_balance import ABSENT, Balance
from budget_sync.server.worker import HELD_BACK, Worker
from budget_sync.web import metrics

THREADS = 16

#: Connections that a worker has open at most, those that were told to go among them.
MOST_CONNECTIONS = 800

#: Files that are left for what else it has open, which a test counts. With every thread's connection to the database, those are 54 on
#: SQLite and 37 on PostgreSQL, and a few more for a moment. Together with 800 connections, that is below the 1,024 that most systems allow.
FILES_BESIDE = 120

#: What gunicorn logs, with a traceback, of a socket that it can write no more to.
LOST_CLIENT = "Socket error processing request."

#: Seconds that the workers have to take in who has connected already, before the door is shut.
LET_IN_S = 2.0


class _Master(Arbiter):  # type: ignore[misc]  # gunicorn has no types
    """Stops listening before it stops the workers: a client then finds the door closed, instead of being taken in and dropped."""

    #: Asked as it starts: a terminal that is closed is none any more, and one that was to be ignored, as by nohup, is none at all.
    on_terminal = False

    def start(self) -> None:
        """Listen, and know what a hang-up will mean."""
        self.on_terminal = os.isatty(0) and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
        super().start()

    def handle_hup(self) -> None:
        """Stop where the terminal was closed, as on SIGTERM: nobody could stop it any more. Without a terminal, as under systemd, start new workers."""
        if self.on_terminal:
            self.handle_term()
        else:
            super().handle_hup()

    def spawn_worker(self) -> object:
        """Start a worker. What tells it to stop waits until it listens: a new process has its master's handlers, with which it would hear nothing."""
        signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
        try:
            return super().spawn_worker()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)

    def stop(self, graceful: bool = True) -> None:
        """Refuse new connections, let the workers end what they have, and stop them."""
        # Where another master (an upgrade in flight) or systemd holds the same socket, it is not ours to shut.
        if self.reexec_pid == self.master_pid == 0 and not self.systemd:
            for listener in self.LISTENERS:
                _let_in(listener.sock)
                listener.sock.shutdown(socket.SHUT_RD)
        super().stop(graceful)


def _let_in(listener: socket.socket) -> None:
    """Let no more queue up before the door, and wait for the workers to take in those who have: once it is shut, they would be turned away."""
    listener.listen(0)
    until = time.monotonic() + LET_IN_S
    while _queued(listener) and time.monotonic() < until:
        time.sleep(0.005)


def _queued(listener: socket.socket) -> int:
    """How many wait to be accepted: on Linux, the field tcpi_unacked of a listening socket's TCP_INFO; elsewhere nobody is seen."""
    if sys.platform != "linux":
        return 0
    (count,) = struct.unpack_from(
        "I", listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24
    )
    return int(count)


class _OurLog(Logger):  # type: ignore[misc]  # gunicorn has no types
    """Gunicorn's messages go where ours go, in our form."""

    def setup(self, cfg: object) -> None:
        """Add no handlers: the app has set the log up."""

    def access(self, *about: object) -> None:
        """Keep no log of who asked for what; /metrics counts them."""

    def exception(self, message: str, *about: object, **more: object) -> None:
        """Tell of what went wrong, but not of a client that takes no reply or is gone: anybody could fill the log with that."""
        tell = (
            super().debug
            if isinstance(sys.exc_info()[1], OSError) and message == LOST_CLIENT
            else super().exception
        )
        tell(message, *about, **more)


def connections_within(files: int) -> int:
    """The connections that each worker takes where the system lets it open so many files; two a thread, where those are too few to count on."""
    return max(2 * THREADS, min(MOST_CONNECTIONS, files - FILES_BESIDE))


def _forget(worker: Worker) -> None:
    """Count no more on a worker that has ended."""
    worker.balance.tell(worker.age, ABSENT)
    metrics.forget_worker(worker.pid)


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """Gunicorn around an app factory, which each worker calls for itself: nothing is opened before the fork."""

    def __init__(
        self, make_app: Callable[[], Flask], *, host: str, port: int, workers: int
    ) -> None:
        self.make_app = make_app
        self.options = {
            "bind": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            "workers": workers,
            "worker_class": Worker,
            "threads": THREADS,
            # The one that our own reading of a request's end was compared with, whatever else may be installed.
            "http_parser": "python",
            "worker_connections": connections_within(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
            "keepalive": 5,
            # On SIGTERM no new connection is taken, and requests under way get this many seconds to be answered.
            "graceful_timeout": 30,
            "timeout": 60,
            # Whether the client spoke https is for TRUSTED_PROXIES to say, not for whoever comes from loopback.
            "forwarded_allow_ips": "",
            "control_socket_disable": True,
            "proc_name": "budget-sync",
            "logger_class": _OurLog,
            "child_exit": lambda _, worker: _forget(worker),
        }
        super().__init__()

    def load_config(self) -> None:
        """Tell gunicorn our options."""
        for name, value in self.options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """The app, made in the worker."""
        app = self.make_app()
        # What was loaded stays for good: the collector need not look through it again and again while requests wait.
        gc.collect()
        gc.freeze()
        return app

    def run(self) -> None:
        """Serve until told to stop."""
        Worker.balance = Balance()
        with metrics.shared_by_workers():
            _Master(self).run()
