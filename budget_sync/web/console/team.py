"""The team: people and their roles, adding, disabling, new passwords."""

from __future__ import annotations

import secrets

from flask import Response, flash, redirect, url_for
from werkzeug.wrappers import Response as AnyResponse

from budget_sync import queries
from budget_sync.accounts import people
from budget_sync.database.models import User
from budget_sync.domain.errors import RequestError
from budget_sync.domain.permissions import PEOPLE_ROLES, Action, Role, require
from budget_sync.web.console import formats
from budget_sync.web.console.base import (
    argument,
    console,
    is_sent,
    page,
    page_number,
    settings,
    status_of,
    typed,
    viewer,
)


@console.get("/team")
def team() -> Response:
    """A page of people."""
    who = viewer()
    found, total = queries.people_page(who.actor, who.customer.id, argument("q"), page_number())
    return page(
        "team.html",
        found=found,
        total=total,
        page=page_number(),
        pages=queries.pages(total),
        text=argument("q"),
    )


@console.get("/team/person")
def person() -> Response:
    """One of them, and what can be done."""
    return page("person.html", person=_person())


@console.route("/team/add", methods=["GET", "POST"])
def add_person() -> AnyResponse:
    """Somebody new, with a password shown once."""
    who = viewer()
    require(who.actor, Action.MANAGE_PEOPLE)
    roles = [
        (str(role), formats.ROLES[role])
        for role in PEOPLE_ROLES
        if role is not Role.SUPER_ADMIN or who.actor.role == Role.SUPER_ADMIN
    ]
    values = {name: typed(name).strip() for name in ("id", "name", "email", "role")}
    if not is_sent():
        return page("person_add.html", roles=roles, values=values)
    password = secrets.token_urlsafe(12)
    try:
        made = people.add_user(
            who.actor,
            values["id"],
            values["name"],
            values["email"],
            values["role"],
            customer_id=who.customer.id,
            password=password,
            slots_folder=settings().instance_folder,
        )
    except RequestError as refusal:
        return page(
            "person_add.html",
            status_of(refusal),
            roles=roles,
            values=values,
            error=refusal.sentence,
        )
    return page(
        "secret.html",
        title=f"{made.name} is added",
        what="Their password",
        secret=password,
        back="console.team",
        hint=f"They sign in as {made.email}.",
    )


@console.post("/team/password")
def reset_password() -> Response:
    """A new password, shown once; all their sessions end."""
    found, password = _person(), secrets.token_urlsafe(12)
    people.set_password(viewer().actor, found.id, password, slots_folder=settings().instance_folder)
    hint = f"{found.name} is signed out everywhere, and signs in with this one from now on."
    return page(
        "secret.html",
        title=f"New password for {found.name}",
        what="Their new password",
        secret=password,
        back="console.team",
        hint=hint,
    )


@console.post("/team/disable")
def disable_person() -> AnyResponse:
    """Lock somebody out."""
    found = _person()
    people.disable_user(viewer().actor, found.id)
    flash(f"{found.name} is disabled, and signed out everywhere.")
    return redirect(url_for("console.person", id=found.id))


@console.post("/team/enable")
def enable_person() -> AnyResponse:
    """Let somebody in again."""
    found = _person()
    people.enable_user(viewer().actor, found.id)
    flash(f"{found.name} can sign in again.")
    return redirect(url_for("console.person", id=found.id))


def _person() -> User:
    return queries.person(viewer().actor, viewer().customer.id, typed("id"))
