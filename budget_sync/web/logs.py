"""Log lines, as text or JSON, each with the id of the request it is about."""

from __future__ import annotations

import json
import logging
import re
import secrets
import sys
import time

from flask import Flask, g, has_request_context, request

from budget_sync.settings import Settings

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class _Formatter(logging.Formatter):
    """Adds the request id; a line break or control character in a message cannot start a line of its own."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%SZ"
    default_msec_format = ""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self.as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback below it where there is one (within the line, as JSON)."""
        request_id = g.get("request_id", "-") if has_request_context() else "-"
        message = record.getMessage()
        trace = self.formatException(record.exc_info) if record.exc_info else None
        if self.as_json:
            entry = {"time": self.formatTime(record), "level": record.levelname, "logger": record.name, "requestId": request_id, "message": message}
            return json.dumps(entry | ({"trace": trace} if trace else {}))
        escaped = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in message)
        line = f"{self.formatTime(record)} {record.levelname} {record.name} [{request_id}] {escaped}"
        return f"{line}\n{trace}" if trace else line


def init_app(app: Flask, settings: Settings) -> None:
    """Send the log to standard error, and give every request an id: the caller's own, where it is a sane one."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(as_json=settings.log_format == "json"))
    for name in ("budget_sync", "gunicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(settings.log_level)
        logger.propagate = False

    @app.before_request
    def _name_request() -> None:
        sent = request.headers.get("X-Request-Id", "")
        g.request_id = sent if _SANE_ID.fullmatch(sent) else secrets.token_hex(8)
