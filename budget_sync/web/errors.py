"""Error handlers that reply with JSON: for RequestError, HTTP and database errors, and the rest."""

from __future__ import annotations

import peewee
from flask import Flask, Response, current_app
from werkzeug.exceptions import HTTPException

from budget_sync.database import unavailable_error
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.runtime.correlation import current_id
from budget_sync.web.payloads import INCOMPLETE_BODY, error_response
from budget_sync.web.server_interface import BrokenBodyError

_CODES = {
    404: Code.NOT_FOUND,
    405: Code.METHOD_NOT_ALLOWED,
    413: Code.BODY_TOO_LARGE,
    415: Code.UNSUPPORTED_MEDIA_TYPE,
}
_SENTENCES = {
    404: "There is nothing at this path. Check the URL.",
    405: "This path does not accept that method. Use one that the Allow header lists.",
    413: "The body is larger than 64 KiB.",
}


def init_app(app: Flask) -> None:
    """Register the error handlers."""
    app.register_error_handler(RequestError, error_response)
    app.register_error_handler(HTTPException, http_error)
    app.register_error_handler(peewee.PeeweeException, _database_error)
    app.register_error_handler(BrokenBodyError, _broken_body)
    app.register_error_handler(Exception, _unhandled_exception)


def http_error(error: HTTPException) -> Response:
    """The reply to an error that Flask or Werkzeug raised."""
    status = error.code or 500
    sentence = _SENTENCES.get(status, error.description or error.name)
    response = error_response(RequestError(_CODES.get(status, Code.HTTP_ERROR), sentence), status)
    # Keep headers such as Allow of a 405, but not the type and length of the framework's body.
    response.headers.extend(
        [
            header
            for header in error.get_headers()
            if header[0].lower() not in ("content-type", "content-length")
        ]
    )
    return response


def _broken_body(_: BrokenBodyError) -> Response:
    return error_response(invalid_request({"body": INCOMPLETE_BODY}))


def _database_error(error: peewee.PeeweeException) -> Response:
    request_error = unavailable_error(error)
    return error_response(request_error) if request_error else _unhandled_exception(error)


def _unhandled_exception(error: Exception) -> Response:
    current_app.logger.error("Unhandled exception.", exc_info=error)
    request_id = current_id.get()
    return error_response(
        RequestError(
            Code.INTERNAL_ERROR,
            "Something went wrong on our side and was logged. "
            f"Quote request id {request_id} if you contact support.",
            requestId=request_id,
        )
    )
