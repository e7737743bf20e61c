"""What goes wrong becomes JSON: our refusals, the framework's own errors, a database that is down, and our mistakes."""

from __future__ import annotations

import peewee
from flask import Flask, Response, current_app
from werkzeug.exceptions import HTTPException

from budget_sync.database import refusal_of
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.runtime.correlation import current_id
from budget_sync.web.payloads import refuse
from budget_sync.web.server_interface import BrokenBodyError

_CODES = {
    404: Code.NOT_FOUND,
    405: Code.METHOD_NOT_ALLOWED,
    413: Code.BODY_TOO_LARGE,
    415: Code.UNSUPPORTED_MEDIA_TYPE,
}
_SENTENCES = {
    404: "There is nothing at this path.",
    405: "This path does not take that method.",
    413: "The body is larger than 64 KiB.",
}


def init_app(app: Flask) -> None:
    """Register the handlers."""
    app.register_error_handler(RequestError, refuse)
    app.register_error_handler(HTTPException, http_error)
    app.register_error_handler(peewee.PeeweeException, _database_error)
    app.register_error_handler(BrokenBodyError, _broken_body)
    app.register_error_handler(Exception, _mistake)


def http_error(error: HTTPException) -> Response:
    """The framework's own error as JSON."""
    status = error.code or 500
    sentence = _SENTENCES.get(status, error.description or error.name)
    response = refuse(RequestError(_CODES.get(status, Code.HTTP_ERROR), sentence), status)
    # Such as Allow with a 405. The length and type are those of our own body.
    response.headers.extend(
        [
            header
            for header in error.get_headers()
            if header[0].lower() not in ("content-type", "content-length")
        ]
    )
    return response


def _broken_body(_: BrokenBodyError) -> Response:
    """What it says quotes the request, which may hold a secret: neither the reply nor the log does."""
    return refuse(invalid_request({"body": "did not arrive as it was announced"}))


def _database_error(error: peewee.PeeweeException) -> Response:
    refusal = refusal_of(error)
    return refuse(refusal) if refusal else _mistake(error)


def _mistake(error: Exception) -> Response:
    current_app.logger.error("A mistake of ours.", exc_info=error)
    return refuse(
        RequestError(
            Code.INTERNAL_ERROR,
            "Something went wrong on our side. The log names it under this request id.",
            requestId=current_id.get(),
        )
    )
