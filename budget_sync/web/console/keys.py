"""API keys: create (shown once), replace, list, revoke."""

from __future__ import annotations

from datetime import timedelta

from flask import Response, flash, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from budget_sync.accounts import api_keys
from budget_sync.database.models import ApiKey
from budget_sync.domain import clock
from budget_sync.domain.errors import RequestError, invalid_request
from budget_sync.domain.permissions import ApiScope
from budget_sync.queries import accounts
from budget_sync.queries.paging import pages
from budget_sync.web.console.base import console, page, page_number, typed, viewer
from budget_sync.web.console.errors import status_of


@console.get("/keys")
def keys() -> Response:
    """A page of the list."""
    return _page()


@console.post("/keys/add")
def add_key() -> Response:
    """Create a key and show it once."""
    who, name = viewer(), typed("name").strip()
    try:
        key = api_keys.add_key(
            who.actor,
            name,
            customer_id=who.customer.id,
            may_overspend=bool(typed("may_overspend")),
            scopes=_scopes(),
            lifetime=_days("expires"),
        )
    except RequestError as error:
        return _page(status_of(error), name=name, error=error.sentence)
    return _secret(name, key)


def _scopes() -> list[ApiScope] | None:
    """The chosen scopes; None if all are chosen."""
    chosen = [scope for scope in ApiScope if scope in request.form.getlist("scope")]
    return None if len(chosen) == len(ApiScope) else chosen


def _days(field: str) -> timedelta | None:
    """A number of days in the form; None if it is empty. Raises RequestError INVALID_REQUEST."""
    text = typed(field, 10).strip()
    if not text:
        return None
    if not (text.isascii() and text.isdecimal()):
        raise invalid_request({field: "must be a number of days"})
    return timedelta(days=int(text[:6]))


def _secret(name: str, key: str) -> Response:
    return page(
        "secret.html",
        title=f"API key for {name}",
        what="API key",
        secret=key,
        back="console.keys",
        hint="Send it in the header “Authorization: Bearer <key>”.",
    )


@console.get("/keys/rotate")
def confirm_rotate() -> Response:
    """Ask how long the old key stays valid."""
    return page("key_rotate.html", key=_key())


@console.post("/keys/rotate")
def rotate_key() -> Response:
    """Replace the keys of a service and show the new one once."""
    who, old = viewer(), _key()
    try:
        key = api_keys.rotate_key(
            who.actor,
            old.name,
            customer_id=who.customer.id,
            overlap=_days("overlap") or timedelta(0),
        )
    except RequestError as error:
        return page("key_rotate.html", status_of(error), key=old, error=error.sentence)
    return _secret(old.name, key)


@console.get("/keys/revoke")
def confirm_revoke() -> Response:
    """Ask for confirmation."""
    return page("key_revoke.html", key=_key())


@console.post("/keys/revoke")
def revoke_key() -> AnyResponse:
    """Revoke a key."""
    key = _key()
    api_keys.revoke_key(viewer().actor, key.id)
    flash(f"The key {key.name} is revoked. It no longer works.")
    return redirect(url_for("console.keys"))


def _page(status: int = 200, **values: str) -> Response:
    who = viewer()
    found, total = accounts.keys_page(who.actor, who.customer.id, page_number())
    now = clock.now()
    return page(
        "keys.html",
        status,
        keys=found,
        now=now,
        soon=now + api_keys.EXPIRES_SOON,
        scopes=list(ApiScope),
        page=page_number(),
        pages=pages(total),
        **values,
    )


def _key() -> ApiKey:
    return accounts.key(viewer().actor, viewer().customer.id, typed("id"))
