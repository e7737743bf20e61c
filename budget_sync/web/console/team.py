"""The team: list, add and change people, disable and enable them; the customer's settings."""

from __future__ import annotations

import secrets
from decimal import Decimal

from flask import Response, flash, redirect, url_for
from werkzeug.wrappers import Response as AnyResponse

from budget_sync.accounts import customers, people
from budget_sync.accounts.reservation_rules import ReservationRules, percent_text
from budget_sync.database.models import Customer, User
from budget_sync.domain.errors import RequestError, invalid_request
from budget_sync.domain.money import to_text
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
    return _person_page(_person())


@console.post("/team/set")
def change_person() -> AnyResponse:
    """Change a person's name, email or role. A person keeps their own role."""
    found = _person()
    values = {name: typed(name).strip() for name in ("name", "email", "role")}
    try:
        changed = people.set_user(
            viewer().actor,
            found.id,
            name=values["name"],
            email=values["email"],
            role=values["role"] or None,
        )
    except RequestError as error:
        return _person_page(found, status_of(error), values=values, error=error.sentence)
    flash(f"{values['name']} is changed." if changed else "Nothing was changed.")
    return redirect(url_for("console.person", id=found.id))


@console.route("/team/customer", methods=["GET", "POST"])
def customer_settings() -> AnyResponse:
    """The customer's settings."""
    who = viewer()
    require(who.actor, Action.MANAGE_PEOPLE)
    customer = who.customer
    stored = _stored_settings(customer)
    if not is_sent():
        return page("customer.html", values=stored)
    values = {name: typed(name).strip() for name in stored}
    try:
        changed = customers.set_customer(
            who.actor,
            customer.id,
            name=values["name"],
            auto_approve_limit=_amount("autoApproveLimit", values["limit"]),
            no_auto_approve_limit=not values["limit"],
            time_zone=values["time_zone"],
            fiscal_year_start_month=int(values["month"]) if values["month"].isdecimal() else 0,
            fiscal_year_named_by=values["named_by"] or None,
            employees_see=values["employees_see"] or None,
            rules=_rules(values),
        )
    except RequestError as error:
        return page("customer.html", status_of(error), values=values, error=error.sentence)
    flash(_changed_sentence(changed, values["hold_days"]))
    return redirect(url_for("console.customer_settings"))


def _stored_settings(customer: Customer) -> dict[str, str]:
    """The customer's settings as the form shows them."""

    def amount(minor: int | None) -> str:
        return "" if minor is None else to_text(minor, customer.currencyExponent)

    return {
        "name": customer.name,
        "limit": amount(customer.autoApproveLimitMinor),
        "tolerance": percent_text(customer.invoiceToleranceBasisPoints),
        "tolerance_amount": amount(customer.invoiceToleranceMinor),
        "hold_days": "" if customer.holdDays is None else str(customer.holdDays),
        "time_zone": customer.timeZone,
        "month": str(customer.fiscalYearStartMonth),
        "named_by": customer.fiscalYearNamedBy,
        "employees_see": customer.employeesSee,
    }


def _rules(values: dict[str, str]) -> ReservationRules:
    """The typed rules for reservations. Raises RequestError INVALID_REQUEST."""
    amount, days = values["tolerance_amount"], values["hold_days"]
    return ReservationRules(
        invoice_tolerance=values["tolerance"],
        invoice_tolerance_amount=_amount("invoiceToleranceAmount", amount),
        no_invoice_tolerance_amount=not amount,
        # 0 is not a number of days that is accepted.
        hold_days=(int(days[:9]) if days.isdecimal() else 0) if days else None,
        no_hold_days=not days,
    )


def _changed_sentence(changed: customers.SettingsChange, hold_days: str) -> str:
    """The result of a change of the settings, as a sentence."""
    if not changed.fields:
        return "Nothing was changed."
    if "holdDays" not in changed.fields:
        return "The settings are changed."
    count = changed.reservations
    holds = f"{count:,} open reservation{'s' * (count != 1)} will"
    when = f"expire in {hold_days} days" if hold_days else "not expire"
    return f"The settings are changed. {holds} {when}."


def _amount(field: str, text: str) -> Decimal | None:
    """The typed amount; None if the field is empty. Raises RequestError INVALID_REQUEST."""
    try:
        return formats.parse_amount(text) if text else None
    except RequestError:
        problem = "must be an amount such as 5000 or 1,250.50, or empty"
        raise invalid_request({field: problem}) from None


@console.route("/team/add", methods=["GET", "POST"])
def add_person() -> AnyResponse:
    """Add a person and show the initial password once."""
    who = viewer()
    require(who.actor, Action.MANAGE_PEOPLE)
    roles = _roles()
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


def _roles() -> list[tuple[str, str]]:
    """The roles that the viewer may give, with their labels."""
    return [
        (str(role), formats.ROLES[role])
        for role in PEOPLE_ROLES
        if role is not Role.SUPER_ADMIN or viewer().actor.role == Role.SUPER_ADMIN
    ]


def _person_page(
    found: User, status: int = 200, *, values: dict[str, str] | None = None, error: str = ""
) -> Response:
    stored = {"name": found.name, "email": found.email, "role": found.role}
    return page(
        "person.html", status, person=found, roles=_roles(), values=values or stored, error=error
    )
