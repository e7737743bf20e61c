"""Security headers and the request id, on every reply.

WSGI middleware adds them to the plain header list. Adding them to Flask's headers costs many times
as much.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask

from budget_sync.runtime.correlation import current_id

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: For replies that are not pages: a browser that shows one as a page loads nothing.
_NOT_A_PAGE = [
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("X-Frame-Options", "DENY"),
]


def init_app(app: Flask) -> None:
    """Add the headers to every reply of the app."""
    app.wsgi_app = _ReplyHeaders(app.wsgi_app)  # type: ignore[method-assign]


class _ReplyHeaders:
    """WSGI middleware that adds the headers, unless the app already set them."""

    def __init__(self, app: WSGIApplication) -> None:
        self.app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""

        def start(status: str, headers: list[tuple[str, str]], *arguments: Any) -> Any:
            names = {name for name, _ in headers}
            headers += [("X-Request-Id", current_id.get()), ("X-Content-Type-Options", "nosniff")]
            if "Cache-Control" not in names:
                headers.append(("Cache-Control", "no-store"))
            if "Content-Security-Policy" not in names:
                headers += _NOT_A_PAGE
            if environ["wsgi.url_scheme"] == "https":
                headers.append(("Strict-Transport-Security", "max-age=31536000"))
            return start_response(status, headers, *arguments)

        return self.app(environ, start)
