"""Signing in and out, the viewer's password, and the choice of a customer."""

from __future__ import annotations

from urllib.parse import urlsplit
from zoneinfo import available_timezones

from flask import flash, redirect, request, session, url_for
from flask_login import current_user
from werkzeug.wrappers import Response as AnyResponse

from budget_sync.accounts import people
from budget_sync.accounts.identity.sign_in import sign_out_address
from budget_sync.domain.errors import Code, RequestError
from budget_sync.web import auth
from budget_sync.web.console.base import console, is_sent, page, settings, typed, viewer
from budget_sync.web.console.errors import status_of


@console.route("/sign-in", methods=["GET", "POST"])
def sign_in() -> AnyResponse:
    """The sign-in page."""
    back = safe_path(typed("next", 2000))
    if not is_sent():
        return redirect(back) if current_user.is_authenticated else page("sign_in.html", next=back)
    email = typed("email")
    try:
        auth.require_same_origin()
        auth.log_in(email, request.form.get("password", "")[:1000])
    except RequestError as error:
        response = page(
            "sign_in.html", status_of(error), next=back, email=email, error=error.sentence
        )
        if "retryAfter" in error.facts:
            response.headers["Retry-After"] = str(error.facts["retryAfter"])
        return response
    if typed("zone") in available_timezones():
        session["zone"] = typed("zone")
    return redirect(back)


@console.post("/sign-out")
def sign_out() -> AnyResponse:
    """End the session."""
    provider = auth.provider_of_session()
    auth.log_out()
    address = provider and sign_out_address(provider, url_for("console.sign_in", _external=True))
    if not address:
        return redirect(url_for("console.sign_in"))
    # A form may not lead to another site (Content-Security-Policy), so a page leads there.
    return page("signed_out.html", provider=provider, address=address)


def safe_path(path: str) -> str:
    """The path to open after signing in: `path` if it is on this site, otherwise the overview."""
    parts = urlsplit(path)
    is_local = (
        path.startswith("/") and not path.startswith("//") and not parts.netloc and not parts.scheme
    )
    is_safe = is_local and path.isprintable() and "\\" not in path
    return path if is_safe else url_for("console.home")


@console.post("/customer")
def choose_customer() -> AnyResponse:
    """Switch to another customer."""
    chosen = typed("customer")
    if chosen not in [customer.id for customer in viewer().customers]:
        raise RequestError(Code.INVALID_CUSTOMER, "There is no such customer.")
    session["customer"] = chosen
    return redirect(url_for("console.home"))


@console.route("/account", methods=["GET", "POST"])
def account() -> AnyResponse:
    """The viewer's account, with a form to change the password."""
    if not is_sent():
        return page("account.html")
    try:
        _change_password()
    except RequestError as error:
        is_wrong = error.code is Code.BAD_CREDENTIALS
        return page(
            "account.html",
            400 if is_wrong else status_of(error),
            error="Current password is wrong." if is_wrong else error.sentence,
        )
    flash("Your password is changed. All your other sessions are signed out.")
    return redirect(url_for("console.account"))


def _change_password() -> None:
    current, new, again = (
        request.form.get(name, "")[:1000] for name in ("present", "new", "again")
    )
    if new != again:
        raise RequestError(Code.INVALID_REQUEST, "The two passwords do not match.")
    people.change_own_password(
        viewer().actor,
        current,
        new,
        address=request.remote_addr or "",
        session_token=current_user.token,
        slots_folder=settings().instance_folder,
    )
