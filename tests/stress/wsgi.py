"""Requests passed directly to the WSGI app, which is several times cheaper than a test client."""

from __future__ import annotations

import io
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from flask import Flask
from flask.sessions import SecureCookieSessionInterface
from werkzeug.wsgi import ClosingIterator

from app import create_app
from budget_sync import database
from budget_sync.accounts import authentication
from budget_sync.database.models import Session
from budget_sync.domain import clock
from budget_sync.ledger import verification
from budget_sync.settings import load
from stress.outcome import Outcome, Place

#: The WSGI environment of a request.
Environ = dict[str, Any]


class Answer(NamedTuple):
    """A response: media type without parameters, and headers without duplicates."""

    status: int
    kind: str
    headers: dict[str, str]
    body: bytes


@contextmanager
def verified_app(place: Place, outcome: Outcome, **environment: str) -> Iterator[Flask]:
    """An app on a new installation. At the end, its balances must be consistent."""
    with place.installation("instance", "world", **environment) as installation:
        try:
            yield create_app(load(installation.environment))
            outcome.expect(not verification.verify().findings, "verify found an inconsistency")
        finally:
            database.disconnect()


def send(app: Flask, environ: Environ) -> Answer:
    """Pass a request to the app."""
    started: list[Any] = []

    def start(status: str, headers: list[tuple[str, str]], *_: object) -> Callable[[bytes], object]:
        started[:] = status, headers
        return lambda _: None

    chunks = app.wsgi_app(environ, start)
    try:
        body = b"".join(chunks)
    finally:
        if isinstance(chunks, ClosingIterator):
            chunks.close()
    status, headers = int(started[0][:3]), dict(started[1])
    return Answer(status, headers.get("Content-Type", "").partition(";")[0], headers, body)


def request_environ(method: str, target: str, body: bytes = b"") -> Environ:
    """A request as a WSGI server passes it: the path decoded, the query not."""
    path, _, query = target.partition("?")
    return {
        "REQUEST_METHOD": method,
        "RAW_URI": target,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "HTTP_HOST": "localhost",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }


def session_cookie(app: Flask, user_id: str, **more: str) -> str:
    """The cookie of a new session for a user, with additional content.

    Bypasses the login, which costs a password hash.
    """
    token = secrets.token_urlsafe(32)
    now = clock.now()
    Session.insert(
        tokenHash=authentication.digest(token),
        userId=user_id,
        createdAt=now,
        expiresAt=now + authentication.SESSION_LIFETIME,
    ).execute()
    serializer = SecureCookieSessionInterface().get_signing_serializer(app)
    assert serializer is not None
    return f"{app.config['SESSION_COOKIE_NAME']}={serializer.dumps({'_user_id': token, **more})}"
