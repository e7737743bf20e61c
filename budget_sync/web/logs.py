"""Log lines, as text or JSON, each with the id of the request it is about."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask import Flask

from budget_sync.runtime.correlation import RUN, current_id, id_of_request
from budget_sync.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class _Formatter(logging.Formatter):
    """Adds the id of what a line is about; a line break or control character in a message cannot start a line of its own."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%SZ"
    default_msec_format = ""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self.as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback below it where there is one, each of its lines like the first (as JSON, within the line)."""
        log_id = current_id.get()
        message = record.getMessage()
        trace = self.formatException(record.exc_info) if record.exc_info else None
        if self.as_json:
            entry = {
                "time": self.formatTime(record),
                "level": record.levelname,
                "logger": record.name,
                "requestId": log_id,
                "message": message,
            }
            return json.dumps(entry | ({"trace": trace} if trace else {}))
        begins = f"{self.formatTime(record)} {record.levelname} {record.name} [{log_id}]"
        return "\n".join(
            f"{begins} {_escaped(line)}"
            for line in (message, *(f"  {line}" for line in (trace or "").splitlines()))
        )


def _escaped(text: str) -> str:
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _is_wanted(record: logging.LogRecord) -> bool:
    """What a command's database runs into, the command says in its one line."""
    return not (current_id.get().startswith(RUN) and record.name.startswith("budget_sync.database"))


def init_app(app: Flask, settings: Settings) -> None:
    """Send the log to standard error, libraries' warnings too, and give every request an id: the caller's own, where it is a sane one."""
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
    app.wsgi_app = _Named(app.wsgi_app)  # type: ignore[method-assign]  # Flask's documented way to wrap an app


class _Named:
    """An app each of whose requests has an id. Around it rather than in its hooks, of which each costs more than this."""

    def __init__(self, app: WSGIApplication) -> None:
        self.app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, with its id in the context."""
        before = current_id.set(id_of_request(environ.get("HTTP_X_REQUEST_ID", "")))
        try:
            return self.app(environ, start_response)
        finally:
            # The thread goes on to another request, or to none. Under gunicorn it is our worker that ends it, once the reply is sent.
            if "gunicorn.socket" not in environ:
                current_id.reset(before)
