"""The production server: gunicorn with threads, set for this service."""

from __future__ import annotations

import errno
import gc
import socket
from collections.abc import Callable
from contextlib import suppress

from flask import Flask
from gunicorn import util
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import ThreadWorker

from budget_sync.refusals import Code
from budget_sync.replies import dumps
from budget_sync.web import metrics

THREADS = 16


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """A worker with threads that refuses as JSON what is no HTTP, and may find the listener shut."""

    def init_process(self) -> None:
        """Start serving."""
        util.write_error = _write_json_error
        super().init_process()

    def accept(self, listener: socket.socket) -> None:
        """Take a connection, unless the master has stopped listening: SIGTERM is then on its way here."""
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise

    def is_parent_alive(self) -> bool:
        """Whether the master lives. Where it was killed, let go of its port at once, for the next one, and end what is under way."""
        if super().is_parent_alive():
            return True
        self.alive = False
        for listener in self.sockets:
            # Shut, not just closed: the other workers have it too. One of them may have been first.
            with suppress(OSError):
                listener.sock.shutdown(socket.SHUT_RD)
        return False


class _Master(Arbiter):  # type: ignore[misc]  # gunicorn has no types
    """Stops listening before it stops the workers: a client then finds the door closed, instead of being taken in and dropped."""

    def stop(self, graceful: bool = True) -> None:
        """Refuse new connections, let the workers end what they have, and stop them."""
        # Where another master (an upgrade in flight) or systemd holds the same socket, it is not ours to shut.
        if self.reexec_pid == self.master_pid == 0 and not self.systemd:
            for listener in self.LISTENERS:
                listener.sock.shutdown(socket.SHUT_RD)
        super().stop(graceful)


class _OurLog(Logger):  # type: ignore[misc]  # gunicorn has no types
    """Gunicorn's messages go where ours go, in our form."""

    def setup(self, cfg: object) -> None:
        """Add no handlers: the app has set the log up."""


def _write_json_error(connection: socket.socket, status: int, reason: str, message: str) -> None:
    """What gunicorn itself refuses, in the form of every other refusal."""
    body = dumps({"success": False, "error": f"{reason}. {message}".strip(), "code": Code.HTTP_ERROR}).encode() + b"\n"
    head = f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    util.write_nonblock(connection, head.encode("latin-1") + body)


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """Gunicorn around an app factory, which each worker calls for itself: nothing is opened before the fork."""

    def __init__(self, make_app: Callable[[], Flask], *, host: str, port: int, workers: int) -> None:
        self.make_app = make_app
        self.options = {
            "bind": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            "workers": workers,
            "worker_class": Worker,
            "threads": THREADS,
            "keepalive": 5,
            # On SIGTERM no new connection is taken, and requests under way get this many seconds to be answered.
            "graceful_timeout": 30,
            "timeout": 60,
            # Whether the client spoke https is for TRUSTED_PROXIES to say, not for whoever comes from loopback.
            "forwarded_allow_ips": "",
            "control_socket_disable": True,
            "proc_name": "budget-sync",
            "logger_class": _OurLog,
            "child_exit": lambda _, worker: metrics.forget_worker(worker.pid),
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
        with metrics.shared_by_workers():
            _Master(self).run()
