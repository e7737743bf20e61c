"""Shared by all pages: the blueprint, the viewer, rendering, and the parsing of input."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from threading import BoundedSemaphore
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from flask import (
    Blueprint,
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
from flask_wtf.csrf import CSRFProtect
from werkzeug.wrappers import Response as AnyResponse

import budget_sync
from budget_sync import database
from budget_sync.database.models import Customer
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Action, Actor, scope_of
from budget_sync.queries.accounts import customers
from budget_sync.settings import Settings
from budget_sync.sync.operator_problems import is_for_operator
from budget_sync.web import auth, charts
from budget_sync.web.console import formats
from budget_sync.web.server_interface import (
    MAX_UPLOAD_BYTES,
    BrokenBodyError,
    may_accept_upload,
)

console = Blueprint(
    "console",
    __name__,
    template_folder="../templates",
    static_folder="../static",
    static_url_path="/assets",
)
csrf = CSRFProtect()

#: The views that work without signing in.
PUBLIC = {
    "console.static",
    "console.sign_in",
    "console.sign_out",
    "console.begin_sign_in",
    "console.finish_sign_in",
}

#: Security headers of every page.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
        "object-src 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

NAVIGATION = (
    ("Overview", "console.home", Action.READ_BUDGETS),
    ("Budgets", "console.budgets", Action.READ_BUDGETS),
    ("Requests", "console.requests", Action.READ_REQUESTS),
    ("Reports", "console.compare", Action.READ_BUDGETS),
    ("Sync", "console.sync", Action.READ_SYNC),
    ("Audit", "console.audit", Action.READ_AUDIT),
    ("Alerts", "console.alert_list", Action.MANAGE_ALERTS),
    ("Team", "console.team", Action.MANAGE_PEOPLE),
    ("API keys", "console.keys", Action.MANAGE_KEYS),
    ("Webhooks", "console.webhook_list", Action.MANAGE_WEBHOOKS),
)

#: Flask adds the charset.
CSV = "text/csv"

#: Concurrent CSV downloads per worker. Each occupies a thread for as long as its client takes; the
#: other threads are for pages and the API.
EXPORTS_AT_ONCE = 4
_exports = BoundedSemaphore(EXPORTS_AT_ONCE)


@dataclass(frozen=True, slots=True)
class Viewer:
    """The signed-in person, the customer they look at, and their time zone.

    The zone is the browser's, or the customer's if the browser did not send one.
    """

    actor: Actor
    customer: Customer
    customers: list[Customer]
    zone: ZoneInfo

    def may(self, action: Action) -> bool:
        """Whether to offer an action on a page. The action itself checks permissions again."""
        return scope_of(self.actor, action) is not None


def viewer() -> Viewer:
    """The viewer of the current page."""
    found: Viewer = g.viewer
    return found


def settings() -> Settings:
    """The app's settings."""
    chosen: Settings = current_app.config["SETTINGS"]
    return chosen


@console.before_request
def _before_request() -> AnyResponse | None:
    if request.endpoint == "console.static":
        return None
    database.open_connection()
    if address := _confirmation_address():
        return redirect(address)
    if request.method == "POST" and may_accept_upload(_view()):
        # Before the file is read, unlike for other forms.
        g.viewer = _load_viewer()
        _read_upload()
    csrf.protect()
    if request.endpoint not in PUBLIC and "viewer" not in g:
        g.viewer = _load_viewer()
    return None


def _confirmation_address() -> str | None:
    """Where the identity provider confirms this session; None if it need not or cannot now.

    The redirect to the provider and back suits only a whole page, not a form.
    """
    if request.endpoint in PUBLIC or request.method != "GET" or "HX-Request" in request.headers:
        return None
    if auth.is_confirmed(auth.CONFIRM_AFTER_S):
        return None
    provider = auth.provider_of_session()
    if provider is None or provider.sign_in is None:
        return None
    back = request.full_path.rstrip("?")
    return url_for("console.begin_sign_in", name=provider.name, silent="1", next=back)


def _view() -> Callable[..., Any]:
    return current_app.view_functions[request.endpoint or ""]


def _read_upload() -> None:
    """Read a form of up to MAX_UPLOAD_BYTES at once: in parts, each would copy the rest.

    Raises RequestError BODY_TOO_LARGE or INVALID_REQUEST.
    """
    length = request.content_length
    if length is None:
        raise RequestError(Code.INVALID_REQUEST, "The form has no length. Send it from a browser.")
    if length > MAX_UPLOAD_BYTES:
        raise RequestError(
            Code.BODY_TOO_LARGE,
            f"The file is larger than {MAX_UPLOAD_BYTES // 1024 // 1024} MB, so it was not read. "
            "Remove worksheets and columns that are not needed, or share it as a Google Sheet.",
        )
    try:
        body = request.environ["wsgi.input"].read(length)
    except OSError:
        raise BrokenBodyError from None
    request.environ["wsgi.input"] = BytesIO(body)
    request.max_content_length = MAX_UPLOAD_BYTES


def _load_viewer() -> Viewer:
    actor = auth.require_user()
    if actor.is_service:
        raise RequestError(
            Code.FORBIDDEN, "These pages are for people. Use the API with an API key."
        )
    served = customers(actor)
    if not served:
        raise RequestError(
            Code.NOT_FOUND,
            "There are no customers yet. Ask an operator to run `flask add-customer`.",
        )
    chosen = next(
        (customer for customer in served if customer.id == session.get("customer")), served[0]
    )
    return Viewer(actor, chosen, served, ZoneInfo(session.get("zone") or chosen.timeZone))


@console.after_request
def add_security_headers(response: Response) -> Response:
    """Set HEADERS on a page."""
    for name, value in HEADERS.items():
        response.headers[name] = value
    return response


def page(template: str, status: int = 200, **values: Any) -> Response:
    """A page, rendered with the values that the layout needs."""
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
        is_for_operator=is_for_operator,
        version=budget_sync.__version__,
        providers=[each for each in auth.verifier().identity.provider if each.sign_in],
        has_passwords=auth.verifier().identity.password_sign_in,
        patterns=charts.PATTERNS,
        link=link,
        **values,
    )
    return Response(html, status=status, mimetype="text/html")


def csv_response(
    name: str, header: tuple[str, ...], rows: Iterable[tuple[object, ...]]
) -> Response:
    """A CSV file to download, written while it is sent.

    Raises RequestError UNAVAILABLE while EXPORTS_AT_ONCE others are running.
    """
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    if request.method == "HEAD":
        # Nothing is sent, and the server does not close the response.
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


def argument(name: str, max_length: int = 300) -> str:
    """A query parameter, without NUL characters and cut to `max_length`; "" if it is missing."""
    return request.args.get(name, "").replace("\x00", "")[:max_length]


def is_sent() -> bool:
    """Whether this request submits the page's form; False for GET and HEAD."""
    return request.method == "POST"


def typed(name: str, max_length: int = 300) -> str:
    """A form field of a POST, or a query parameter of a GET.

    Query parameters of a POST are ignored, so that a link cannot fill in a form.
    """
    values = request.form if is_sent() else request.args
    return values.get(name, "").replace("\x00", "")[:max_length]


def number(name: str) -> int | None:
    """A query parameter as a whole number of at most 15 digits; None for anything else."""
    text = argument(name)
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 15 else None


def link(**changes: object) -> str:
    """This page's query string with `changes`, on page 1 of its list unless they set `page`."""
    kept = {name: argument(name) for name in request.args if argument(name) and name != "page"}
    return f"?{urlencode(kept | changes)}"


def page_number() -> int:
    """The page of a list that is asked for, from 1."""
    return min(max(number("page") or 1, 1), 100_000)


@console.app_template_filter("money")
def _money(minor: int, currency: str, exponent: int) -> str:
    return formats.money(minor, currency, exponent)


@console.app_template_filter("cell_money")
def _cell_money(minor: int, currency: str, exponent: int) -> str:
    return formats.cell_money(minor, currency, exponent)


@console.app_template_filter("money_short")
def _money_short(minor: int, currency: str, exponent: int) -> str:
    return formats.money_short(minor, currency, exponent)


@console.app_template_filter("in_console")
def _in_console(message: str | None) -> str:
    return formats.in_console(message or "")


@console.app_template_filter("when")
def _when(moment: datetime | None) -> str:
    return formats.when(moment, viewer().zone)
