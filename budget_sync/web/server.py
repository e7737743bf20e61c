"""The production server: gunicorn with threads, set for this service."""

from __future__ import annotations

from collections.abc import Callable

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

THREADS = 16


class _OurLog(Logger):  # type: ignore[misc]  # gunicorn has no types
    """Gunicorn's messages go where ours go, in our form."""

    def setup(self, cfg: object) -> None:
        """Add no handlers: the app has set the log up."""


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """Gunicorn around an app factory, which each worker calls for itself: nothing is opened before the fork."""

    def __init__(self, make_app: Callable[[], Flask], *, host: str, port: int, workers: int) -> None:
        self.make_app = make_app
        self.options = {
            "bind": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            "workers": workers,
            "worker_class": "gthread",
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
        }
        super().__init__()

    def load_config(self) -> None:
        """Tell gunicorn our options."""
        for name, value in self.options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """The app, made in the worker."""
        return self.make_app()
