"""The team: list and add people, disable and enable them, reset passwords."""

from __future__ import annotations

import secrets

from flask import Response, flash, redirect, url_for
from werkzeug.wrappers import Response as AnyResponse

from budget_sync.accounts import people
from budget_sync.database.models import User
from budget_sync.domain.errors import RequestError
from budget_sync.domain.permissions import PEOPLE_ROLES, Action, Role, require
from budget_sync.queries import accounts
from budget_sync.queries.paging import pages
from budget_sync.web.console import formats
from budget_sync.web.console.base import (
    argument,
    console,
    is_sent,
    page,
    page_number,
    settings,
    typed,
    viewer,
)
from budget_sync.web.console.errors import status_of


@console.get("/team")
def team() -> Response:
    """A page of the list."""
    who = viewer()
    found, total = accounts.people_page(who.actor, who.customer.id, argument("q"), page_number())
    return page(
        "team.html",
        found=found,
        total=total,
        page=page_number(),
        pages=pages(total),
        text=argument("q"),
    )


@console.get("/team/person")
def person() -> Response:
    """One person, with actions."""
    return page("person.html", person=_person())


@console.route("/team/add", methods=["GET", "POST"])
def add_person() -> AnyResponse:
    """Add a person and show the initial password once."""
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
        added = people.add_user(
            who.actor,
            values["id"],
            values["name"],
            values["email"],
            values["role"],
            customer_id=who.customer.id,
            password=password,
            slots_folder=settings().instance_folder,
        )
    except RequestError as error:
        return page(
            "person_add.html", status_of(error), roles=roles, values=values, error=error.sentence
        )
    return page(
        "secret.html",
        title=f"{added.name} was added",
        what="Password",
        secret=password,
        back="console.team",
        hint=f"They sign in as {added.email}.",
    )


@console.post("/team/password")
def reset_password() -> Response:
    """Set a new password and show it once. All sessions of the person end."""
    found, password = _person(), secrets.token_urlsafe(12)
    people.set_password(viewer().actor, found.id, password, slots_folder=settings().instance_folder)
    return page(
        "secret.html",
        title=f"New password for {found.name}",
        what="Password",
        secret=password,
        back="console.team",
        hint=f"{found.name} is signed out everywhere and must use this password.",
    )


@console.post("/team/disable")
def disable_person() -> AnyResponse:
    """Disable a person."""
    found = _person()
    people.disable_user(viewer().actor, found.id)
    flash(f"{found.name} is disabled and signed out everywhere.")
    return redirect(url_for("console.person", id=found.id))


@console.post("/team/enable")
def enable_person() -> AnyResponse:
    """Enable a disabled person."""
    found = _person()
    people.enable_user(viewer().actor, found.id)
    flash(f"{found.name} can sign in again.")
    return redirect(url_for("console.person", id=found.id))


def _person() -> User:
    return accounts.person(viewer().actor, viewer().customer.id, typed("id"))
