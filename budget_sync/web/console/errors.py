"""The console's error pages."""

from __future__ import annotations

import peewee
from flask import Response, current_app, g, redirect, request, url_for
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from budget_sync import database
from budget_sync.domain.errors import Code, RequestError
from budget_sync.runtime.correlation import current_id
from budget_sync.web import errors
from budget_sync.web.console import formats
from budget_sync.web.console.base import add_security_headers, console, page
from budget_sync.web.payloads import STATUSES
from budget_sync.web.server_interface import BrokenBodyError

#: Paths for programs, which get their errors as JSON even in a browser.
API_PATHS = ("/api/", "/healthz", "/readyz", "/metrics", "/openapi.json")

_TITLES = {
    400: "Check your input",
    403: "Not allowed",
    404: "Not found",
    405: "Not possible here",
    409: "Not possible now",
    413: "Too much data",
    429: "Too many at once",
    500: "Something went wrong",
    503: "Not available right now",
}


def error_page(status: int, sentence: str, error: RequestError | None = None) -> Response:
    """A page that says what went wrong, with the request id."""
    response = page(
        "error.html",
        status,
        title=_TITLES.get(status, "Something went wrong"),
        sentence=sentence,
        status_code=status,
        request_id=current_id.get(),
    )
    if error and "retryAfter" in error.facts:
        response.headers["Retry-After"] = str(error.facts["retryAfter"])
    # If htmx asked for a part of a page, the error page replaces all of `main`.
    response.headers["HX-Retarget"] = response.headers["HX-Reselect"] = "main"
    return response


def status_of(error: RequestError) -> int:
    """The HTTP status of an error's page: never 200, which the API sends for some codes."""
    status = STATUSES[error.code]
    return 409 if status == 200 else status


def unknown_path(error: HTTPException) -> Response:
    """The 404 or 405 of a path without a view: a page for a browser, JSON for a program."""
    is_browser = request.headers.get("Sec-Fetch-Dest") == "document"
    if not is_browser or request.path.startswith(API_PATHS):
        return errors.http_error(error)
    # No view of the blueprint ran, so its after_request did not either.
    return add_security_headers(_http_error(error))


@console.errorhandler(RequestError)
def _request_error(error: RequestError) -> AnyResponse:
    if error.code is Code.AUTHENTICATION_REQUIRED:
        return _to_sign_in()
    sentence, who = error.sentence, g.get("viewer")
    if who:
        # The sentence has the role's identifier; people know its label.
        label = formats.ROLES.get(who.actor.role, who.actor.role)
        sentence = sentence.replace(f"({who.actor.role})", f"({label})")
    return error_page(status_of(error), sentence, error)


def _to_sign_in() -> AnyResponse:
    """Redirect to the sign-in page, which leads back here if this is a GET of a whole page."""
    is_htmx = "HX-Request" in request.headers
    back = request.full_path.rstrip("?") if request.method == "GET" and not is_htmx else None
    target = url_for("console.sign_in", next=back if back != "/" else None)
    return Response(status=200, headers={"HX-Redirect": target}) if is_htmx else redirect(target)


@console.errorhandler(HTTPException)
def _http_error(error: HTTPException) -> Response:
    if isinstance(error, CSRFError):
        return error_page(
            400,
            "This form has expired, or was sent from another site. Nothing was changed. "
            "Go back, reload the page and send it again.",
        )
    status = error.code or 500
    if status == 404:
        return error_page(404, "There is no such page.")
    return error_page(status, error.description or error.name)


@console.errorhandler(peewee.PeeweeException)
def _database_error(error: peewee.PeeweeException) -> Response:
    unavailable = database.unavailable_error(error)
    if unavailable is None:
        return _unhandled_exception(error)
    return error_page(503, unavailable.sentence, unavailable)


@console.errorhandler(BrokenBodyError)
def _broken_body(_: BrokenBodyError) -> Response:
    """The exception quotes the form, which may contain a password: it is not shown or logged."""
    return error_page(
        400,
        "This form arrived incomplete. Nothing was changed. Go back and send it again.",
    )


@console.errorhandler(Exception)
def _unhandled_exception(error: Exception) -> Response:
    current_app.logger.error("Unhandled exception.", exc_info=error)
    return error_page(
        500,
        "Something went wrong on our side and was logged. "
        "Quote the request id below if you contact support.",
    )
