"""Logging as text or JSON. Every line has the id of its request."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask import Flask

from budget_sync.runtime.correlation import RUN_PREFIX, current_id, id_of_request
from budget_sync.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class _Formatter(logging.Formatter):
    """Adds the request id, and escapes line breaks and control characters of the message."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%SZ"
    default_msec_format = ""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self.as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line.

        As text, each line of a traceback follows as a line with the same beginning. As JSON, the
        traceback is a field.
        """
        log_id = current_id.get()
        message = record.getMessage()
        # A record from a child process has its traceback as text.
        trace = self.formatException(record.exc_info) if record.exc_info else record.exc_text
        if self.as_json:
            entry = {
                "time": self.formatTime(record),
                "level": record.levelname,
                "logger": record.name,
                "requestId": log_id,
                "message": message,
            }
            return json.dumps(entry | ({"trace": trace} if trace else {}))
        prefix = f"{self.formatTime(record)} {record.levelname} {record.name} [{log_id}]"
        return "\n".join(
            f"{prefix} {_escaped(line)}"
            for line in (message, *(f"  {line}" for line in (trace or "").splitlines()))
        )


def _escaped(text: str) -> str:
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _is_wanted(record: logging.LogRecord) -> bool:
    """False for database errors of a command, which the command reports in its own output."""
    return not (
        current_id.get().startswith(RUN_PREFIX) and record.name.startswith("budget_sync.database")
    )


def init_app(app: Flask, settings: Settings) -> None:
    """Log to standard error, with the warnings of libraries, and give every request an id.

    The id is the caller's `X-Request-Id` if it is valid, else a new one.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(as_json=settings.log_format == "json"))
    handler.addFilter(_is_wanted)
    for name in ("budget_sync", "gunicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(settings.log_level)
        logger.propagate = False
    root = logging.getLogger()
    root.handlers = [
        *(other for other in root.handlers if not isinstance(other.formatter, _Formatter)),
        handler,
    ]
    app.wsgi_app = _RequestIds(app.wsgi_app)  # type: ignore[method-assign]


class _RequestIds:
    """WSGI middleware that sets the request id. Each of Flask's hooks would cost more than this."""

    def __init__(self, app: WSGIApplication) -> None:
        self.app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request with its id in the context."""
        token = current_id.set(id_of_request(environ.get("HTTP_X_REQUEST_ID", "")))
        try:
            return self.app(environ, start_response)
        finally:
            # The thread may serve another request next. Under gunicorn, the worker resets the id
            # after it has sent the reply.
            if "gunicorn.socket" not in environ:
                current_id.reset(token)
