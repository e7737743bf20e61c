"""Signing in and out, one's own password, and whose budgets somebody of several customers looks at."""

from __future__ import annotations

from urllib.parse import urlsplit
from zoneinfo import available_timezones

from flask import flash, redirect, request, session, url_for
from flask_login import current_user
from werkzeug.wrappers import Response as AnyResponse

from budget_sync.accounts import people
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.web import auth
from budget_sync.web.console.base import console, is_sent, page, settings, status_of, typed, viewer


@console.route("/sign-in", methods=["GET", "POST"])
def sign_in() -> AnyResponse:
    """The door."""
    back = safe_path(typed("next", 2000))
    if not is_sent():
        return redirect(back) if current_user.is_authenticated else page("sign_in.html", next=back)
    email = typed("email")
    try:
        auth.refuse_cross_origin()
        auth.log_in(email, request.form.get("password", "")[:1000])
    except RequestError as refusal:
        response = page(
            "sign_in.html", status_of(refusal), next=back, email=email, error=refusal.sentence
        )
        if "retryAfter" in refusal.facts:
            response.headers["Retry-After"] = str(refusal.facts["retryAfter"])
        return response
    if typed("zone") in available_timezones():
        session["zone"] = typed("zone")
    return redirect(back)


@console.post("/sign-out")
def sign_out() -> AnyResponse:
    """The way out."""
    auth.log_out()
    return redirect(url_for("console.sign_in"))


def safe_path(path: str) -> str:
    """Where to go after signing in: a path of this site, or else the overview."""
    parts = urlsplit(path)
    local = (
        path.startswith("/") and not path.startswith("//") and not parts.netloc and not parts.scheme
    )
    return path if local and path.isprintable() and "\\" not in path else url_for("console.home")


@console.post("/customer")
def choose_customer() -> AnyResponse:
    """Look at another customer's budgets."""
    chosen = typed("customer")
    if chosen not in [customer.id for customer in viewer().customers]:
        raise RequestError(Code.INVALID_CUSTOMER, "There is no such customer.")
    session["customer"] = chosen
    return redirect(url_for("console.home"))


@console.route("/account", methods=["GET", "POST"])
def account() -> AnyResponse:
    """Who one is, and one's password."""
    if not is_sent():
        return page("account.html")
    try:
        _change_password()
    except RequestError as refusal:
        wrong = refusal.code is Code.BAD_CREDENTIALS
        return page(
            "account.html",
            400 if wrong else status_of(refusal),
            error="Your present password is another one." if wrong else refusal.sentence,
        )
    flash("Your password is changed. Everywhere else you were signed in, you are signed out.")
    return redirect(url_for("console.account"))


def _change_password() -> None:
    present, new, again = (
        request.form.get(name, "")[:1000] for name in ("present", "new", "again")
    )
    if new != again:
        raise invalid_request({"new password": "was not typed the same twice"})
    people.change_own_password(
        viewer().actor,
        present,
        new,
        address=request.remote_addr or "",
        session_token=current_user.token,
        slots_folder=settings().instance_folder,
    )
