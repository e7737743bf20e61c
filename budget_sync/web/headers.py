"""What the head of every reply has, added as it goes out: to Flask's own headers each would cost many times as much."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask

from budget_sync.runtime.correlation import current_id

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: What is not a page shows nothing to whoever shows it as one.
_NO_PAGE = [
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("X-Frame-Options", "DENY"),
]


def init_app(app: Flask) -> None:
    """Have every reply from here on carry them."""
    app.wsgi_app = _WithHeaders(app.wsgi_app)  # type: ignore[method-assign]  # Flask's documented way to wrap an app


class _WithHeaders:
    """An app whose replies say whose they are, and what a browser may do with them."""

    def __init__(self, app: WSGIApplication) -> None:
        self.app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""

        def start(status: str, headers: list[tuple[str, str]], *arguments: Any) -> Any:
            given = {name for name, _ in headers}
            headers += [("X-Request-Id", current_id.get()), ("X-Content-Type-Options", "nosniff")]
            if "Cache-Control" not in given:
                headers.append(("Cache-Control", "no-store"))
            if "Content-Security-Policy" not in given:
                headers += _NO_PAGE
            if environ["wsgi.url_scheme"] == "https":
                headers.append(("Strict-Transport-Security", "max-age=31536000"))
            return start_response(status, headers, *arguments)

        return self.app(environ, start)
