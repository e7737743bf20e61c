"""API keys: create (shown once), list, revoke."""

from __future__ import annotations

from flask import Response, flash, redirect, url_for
from werkzeug.wrappers import Response as AnyResponse

from budget_sync.accounts import api_keys
from budget_sync.database.models import ApiKey
from budget_sync.domain.errors import RequestError
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
            who.actor, name, customer_id=who.customer.id, may_overspend=bool(typed("may_overspend"))
        )
    except RequestError as error:
        return _page(status_of(error), name=name, error=error.sentence)
    return page(
        "secret.html",
        title=f"API key for {name}",
        what="API key",
        secret=key,
        back="console.keys",
        hint="Send it in the header “Authorization: Bearer <key>”.",
    )


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
    return page("keys.html", status, keys=found, page=page_number(), pages=pages(total), **values)


def _key() -> ApiKey:
    return accounts.key(viewer().actor, viewer().customer.id, typed("id"))
