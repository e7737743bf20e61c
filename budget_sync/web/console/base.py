"""What all pages share: who is looking and at whose budgets, the layout's values, error pages, and the headers that keep pages safe."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from threading import BoundedSemaphore
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import peewee
from flask import (
    Blueprint,
    Flask,
    Response,
    current_app,
    g,
    redirect,
    render_template,
    request,
    session,
    stream_with_context,
    url_for,
)
from flask_wtf.csrf import CSRFError, CSRFProtect
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.wrappers import Response as AnyResponse

from budget_sync import database, queries
from budget_sync.database.models import Customer
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Action, Actor, scope_of
from budget_sync.runtime.correlation import current_id
from budget_sync.settings import Settings
from budget_sync.web import auth, charts, errors
from budget_sync.web.console import formats
from budget_sync.web.payloads import STATUSES
from budget_sync.web.server_interface import BrokenBodyError

console = Blueprint(
    "console",
    __name__,
    template_folder="../templates",
    static_folder="../static",
    static_url_path="/assets",
)
csrf = CSRFProtect()

#: The views that nobody has to be signed in for.
PUBLIC = {"console.static", "console.sign_in", "console.sign_out"}

#: Where programs call: what goes wrong there is answered as JSON, whoever asks.
CALLS = ("/api/", "/healthz", "/readyz", "/metrics", "/openapi.json")

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

NAVIGATION = (
    ("Overview", "console.home", Action.READ_BUDGETS),
    ("Budgets", "console.budgets", Action.READ_BUDGETS),
    ("Requests", "console.requests", Action.READ_REQUESTS),
    ("Sync", "console.sync", Action.READ_SYNC),
    ("Audit", "console.audit", Action.READ_AUDIT),
    ("Team", "console.team", Action.MANAGE_PEOPLE),
    ("API keys", "console.keys", Action.MANAGE_KEYS),
)

_TITLES = {
    400: "That did not work",
    403: "Not allowed",
    404: "Not found",
    405: "That does not work here",
    409: "Not possible now",
    413: "Too much at once",
    429: "Too many attempts",
    500: "Something went wrong",
    503: "Not available right now",
}


CSV = "text/csv; charset=utf-8"

#: Files that a worker makes at once: each keeps a thread for as long as its reader takes, and the others are for pages and calls.
EXPORTS_AT_ONCE = 4
_exports = BoundedSemaphore(EXPORTS_AT_ONCE)


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who is looking, at whose budgets, and in which time zone: the browser's, or where it did not say, the customer's."""

    actor: Actor
    customer: Customer
    customers: list[Customer]
    zone: ZoneInfo

    def may(self, action: Action) -> bool:
        """Whether pages offer something. The verbs decide again."""
        return scope_of(self.actor, action) is not None


def viewer() -> Viewer:
    """Who is looking at this page."""
    found: Viewer = g.viewer
    return found


def settings() -> Settings:
    """The app's settings."""
    chosen: Settings = current_app.config["SETTINGS"]
    return chosen


def init_app(app: Flask) -> None:
    """Register the pages, the check of their forms' tokens, and an HTML answer to paths that nothing has."""
    # The calls have no forms: the pages alone ask for tokens, in `_open`. A token lasts as long as its session.
    app.config.setdefault("WTF_CSRF_CHECK_DEFAULT", False)
    app.config.setdefault("WTF_CSRF_TIME_LIMIT", None)
    csrf.init_app(app)
    app.register_blueprint(console)
    app.register_error_handler(NotFound, _unknown_path)
    app.register_error_handler(MethodNotAllowed, _unknown_path)


@console.before_request
def _open() -> None:
    if request.endpoint == "console.static":
        return
    database.open_connection()
    csrf.protect()
    if request.endpoint not in PUBLIC:
        g.viewer = _viewer()


def _viewer() -> Viewer:
    actor = auth.require_user()
    if actor.is_service:
        raise RequestError(
            Code.FORBIDDEN, "These pages are for people: an API key has no use for them."
        )
    customers = queries.customers(actor)
    if not customers:
        raise RequestError(
            Code.NOT_FOUND,
            "There are no customers yet. An operator makes the first one with `flask add-customer`.",
        )
    chosen = next(
        (customer for customer in customers if customer.id == session.get("customer")), customers[0]
    )
    return Viewer(actor, chosen, customers, ZoneInfo(session.get("zone") or chosen.timeZone))


@console.after_request
def _safe(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers[name] = value
    return response


def page(template: str, status: int = 200, **values: Any) -> Response:
    """A page, with what the layout needs."""
    who: Viewer | None = g.get("viewer")
    here = (request.endpoint or "").removeprefix("console.")
    links = [(name, endpoint) for name, endpoint, action in NAVIGATION if who and who.may(action)]
    html = render_template(
        template,
        viewer=who,
        links=links,
        here=here,
        Action=Action,
        formats=formats,
        patterns=charts.PATTERNS,
        link=link,
        **values,
    )
    return Response(html, status=status, mimetype="text/html")


def csv_response(
    name: str, header: tuple[str, ...], rows: Iterable[tuple[object, ...]]
) -> Response:
    """A CSV file to keep, made while it is sent. Raises RequestError UNAVAILABLE where too many others are under way."""
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    if request.method == "HEAD":
        # There is nothing to send, and nobody closes it.
        return Response(iter(()), mimetype=CSV, headers=headers)
    if not _exports.acquire(blocking=False):
        raise RequestError(
            Code.UNAVAILABLE,
            "Several other files are being downloaded right now. Please try again shortly.",
            retryAfter=5,
        )
    response = Response(
        stream_with_context(formats.csv_lines(header, rows)), mimetype=CSV, headers=headers
    )
    response.call_on_close(_exports.release)
    return response


def status_of(refusal: RequestError) -> int:
    """A refusal's status; a page never says 200 to one."""
    status = STATUSES[refusal.code]
    return 409 if status == 200 else status


def argument(name: str, most: int = 300) -> str:
    """A value of the address, without NUL, cut to a sane length; "" where there is none."""
    return request.args.get(name, "").replace("\x00", "")[:most]


def is_sent() -> bool:
    """Whether a page's form was sent, with its token, and not just the page, or its head, asked for."""
    return request.method == "POST"


def typed(name: str, most: int = 300) -> str:
    """A value of the form that was sent, or of the address where none was; never of the address beside a form."""
    values = request.form if is_sent() else request.args
    return values.get(name, "").replace("\x00", "")[:most]


def number(name: str) -> int | None:
    """A whole number of the address; None where there is none, or no sane one."""
    text = argument(name)
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 15 else None


def link(**changes: object) -> str:
    """This page's address with changes to its query, on the first page of its list unless they say another."""
    kept = {name: value for name, value in request.args.items() if value and name != "page"}
    return f"?{urlencode(kept | changes)}"


def page_number() -> int:
    """Which page of a list."""
    return min(max(number("page") or 1, 1), 100_000)


@console.errorhandler(RequestError)
def _refused(refusal: RequestError) -> AnyResponse:
    if refusal.code is Code.AUTHENTICATION_REQUIRED:
        return _to_sign_in()
    sentence, who = refusal.sentence, g.get("viewer")
    if who:
        # People know their role by its name.
        sentence = sentence.replace(
            f"({who.actor.role})", f"({formats.ROLES.get(who.actor.role, who.actor.role)})"
        )
    return error_page(status_of(refusal), sentence, refusal)


def _to_sign_in() -> AnyResponse:
    """Sign in first, then come back here."""
    is_part = "HX-Request" in request.headers
    back = request.full_path.rstrip("?") if request.method == "GET" and not is_part else None
    target = url_for("console.sign_in", next=back if back != "/" else None)
    return Response(status=200, headers={"HX-Redirect": target}) if is_part else redirect(target)


@console.errorhandler(HTTPException)
def _http_error(error: HTTPException) -> Response:
    if isinstance(error, CSRFError):
        return error_page(
            400,
            "This form is too old, or came from somewhere else. Nothing was changed: go back, reload the page and send it again.",
        )
    return error_page(
        error.code or 500,
        {404: "There is no such page."}.get(error.code or 500, error.description or error.name),
    )


@console.errorhandler(peewee.PeeweeException)
def _database_error(error: peewee.PeeweeException) -> Response:
    refusal = database.refusal_of(error)
    return error_page(503, refusal.sentence, refusal) if refusal else _mistake(error)


@console.errorhandler(BrokenBodyError)
def _broken_body(_: BrokenBodyError) -> Response:
    """What it says quotes the form, which may hold a password: neither the page nor the log does."""
    return error_page(
        400,
        "This form did not arrive as it was announced. Nothing was changed: go back and send it again.",
    )


@console.errorhandler(Exception)
def _mistake(error: Exception) -> Response:
    current_app.logger.error("A mistake of ours.", exc_info=error)
    return error_page(
        500, "This is a mistake of ours, and it was noted. If you report it, name the number below."
    )


def _unknown_path(error: HTTPException) -> Response:
    """A path that nothing has: a page where a browser opens it as one, JSON for a program."""
    is_browser = request.headers.get("Sec-Fetch-Dest") == "document"
    if not is_browser or request.path.startswith(CALLS):
        return errors.http_error(error)
    # It is no page's own error, so nobody else makes it safe.
    return _safe(_http_error(error))


def error_page(status: int, sentence: str, refusal: RequestError | None = None) -> Response:
    """What went wrong, as a page of its own."""
    response = page(
        "error.html",
        status,
        title=_TITLES.get(status, "That did not work"),
        sentence=sentence,
        number=status,
        request_id=current_id.get(),
    )
    if refusal and "retryAfter" in refusal.facts:
        response.headers["Retry-After"] = str(refusal.facts["retryAfter"])
    # A part of a page that was asked for by itself is replaced by the whole of this one's.
    response.headers["HX-Retarget"] = response.headers["HX-Reselect"] = "main"
    return response


@console.app_template_filter("money")
def _money(minor: int, currency: str, exponent: int) -> str:
    return formats.money(minor, currency, exponent)


@console.app_template_filter("money_short")
def _money_short(minor: int, currency: str, exponent: int) -> str:
    return formats.money_short(minor, currency, exponent)


@console.app_template_filter("when")
def _when(moment: datetime | None) -> str:
    return formats.when(moment, viewer().zone)
