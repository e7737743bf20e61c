"""API keys: made (and shown this once), listed, revoked."""

from __future__ import annotations

from flask import Response, flash, redirect, url_for
from werkzeug.wrappers import Response as AnyResponse

from budget_sync import queries
from budget_sync.accounts import people
from budget_sync.database.models import ApiKey
from budget_sync.domain.errors import RequestError
from budget_sync.web.console.base import console, page, page_number, status_of, typed, viewer


@console.get("/keys")
def keys() -> Response:
    """The keys."""
    return _page()


@console.post("/keys/add")
def add_key() -> Response:
    """A new key, shown once."""
    who, name = viewer(), typed("name").strip()
    try:
        key = people.add_key(
            who.actor, name, customer_id=who.customer.id, may_overspend=bool(typed("may_overspend"))
        )
    except RequestError as refusal:
        return _page(status_of(refusal), name=name, error=refusal.sentence)
    return page(
        "secret.html",
        title=f"A key for {name}",
        what="The API key",
        secret=key,
        back="console.keys",
        hint="Send it as Authorization: Bearer and the key.",
    )


@console.get("/keys/revoke")
def confirm_revoke() -> Response:
    """Are you sure?"""
    return page("key_revoke.html", key=_key())


@console.post("/keys/revoke")
def revoke_key() -> AnyResponse:
    """End a key's use."""
    key = _key()
    people.revoke_key(viewer().actor, key.id)
    flash(f"The key {key.name} is revoked: nothing can be done with it any more.")
    return redirect(url_for("console.keys"))


def _page(status: int = 200, **values: str) -> Response:
    who = viewer()
    found, total = queries.keys_page(who.actor, who.customer.id, page_number())
    return page(
        "keys.html", status, keys=found, page=page_number(), pages=queries.pages(total), **values
    )


def _key() -> ApiKey:
    return queries.key(viewer().actor, viewer().customer.id, typed("id"))
