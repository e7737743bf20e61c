"""Commands for customers and users."""

from __future__ import annotations

import sys
from decimal import Decimal

import click

from budget_sync.accounts import customers, people
from budget_sync.commands.support import (
    AMOUNT,
    command,
    customer_or_all,
    done,
    has_terminal,
    me,
    on_current_schema,
    one_of,
    require_known,
    settings,
    show_table,
    state_since,
)
from budget_sync.domain import clock
from budget_sync.domain.money import MoneyError, currency_exponent, to_minor
from budget_sync.domain.periods import NAMED_BY
from budget_sync.domain.permissions import PEOPLE_ROLES


@command("add-customer")
@click.argument("customer_id", metavar="ID")
@click.option("--name", required=True, help="The customer's name.")
@click.option("--currency", default="USD", show_default=True, help="ISO 4217 code.")
@click.option(
    "--auto-approve-limit",
    type=AMOUNT,
    help="Amounts up to this limit need no FP&A approval. [default: every amount needs it]",
)
@click.option("--time-zone", default="UTC", show_default=True, help="For example Europe/Berlin.")
@click.option(
    "--fiscal-year-start",
    default=1,
    show_default=True,
    type=click.IntRange(1, 12),
    metavar="MONTH",
    help="First month of the fiscal year, 1 to 12.",
)
@click.option(
    "--fiscal-year-named-by",
    default="end",
    show_default=True,
    type=click.Choice(NAMED_BY),
    help="The calendar year that names a fiscal year: that of its end or of its start.",
)
@on_current_schema
def add_customer(
    customer_id: str,
    name: str,
    currency: str,
    auto_approve_limit: Decimal | None,
    time_zone: str,
    fiscal_year_start: int,
    fiscal_year_named_by: str,
) -> None:
    """Create a customer."""
    try:
        limit_minor = (
            None
            if auto_approve_limit is None
            else to_minor(auto_approve_limit, currency_exponent(currency))
        )
    except MoneyError as error:
        raise click.ClickException(f"--currency and --auto-approve-limit: {error}.") from None
    customers.add_customer(
        me(),
        customer_id,
        name,
        currency=currency,
        auto_approve_limit_minor=limit_minor,
        time_zone=time_zone,
        fiscal_year_start_month=fiscal_year_start,
        fiscal_year_named_by=fiscal_year_named_by,
    )
    done(f"Added customer {customer_id}.")


@command("set-customer")
@click.argument("customer_id", metavar="ID")
@click.option("--name", help="The customer's name.")
@click.option(
    "--auto-approve-limit",
    type=AMOUNT,
    help="Amounts up to this limit need no FP&A approval.",
)
@click.option("--no-auto-approve-limit", is_flag=True, help="Every amount needs an FP&A approval.")
@click.option("--time-zone", help="For example Europe/Berlin.")
@click.option(
    "--fiscal-year-start",
    type=click.IntRange(1, 12),
    metavar="MONTH",
    help="First month of the fiscal year, 1 to 12.",
)
@click.option(
    "--fiscal-year-named-by",
    type=click.Choice(NAMED_BY),
    help="The calendar year that names a fiscal year: that of its end or of its start.",
)
@on_current_schema
def set_customer(
    customer_id: str,
    name: str | None,
    auto_approve_limit: Decimal | None,
    no_auto_approve_limit: bool,
    time_zone: str | None,
    fiscal_year_start: int | None,
    fiscal_year_named_by: str | None,
) -> None:
    """Change the settings of a customer. Settings that are not given stay.

    With another fiscal year, each budget keeps the period that its text names: "FY2024-25" gets
    another key. The change is rejected if a budget would lose its period, or if two budgets would
    have one.
    """
    if auto_approve_limit is not None and no_auto_approve_limit:
        raise click.UsageError("Give either --auto-approve-limit or --no-auto-approve-limit.")
    if not no_auto_approve_limit:
        _require_one(
            {
                "--name": name,
                "--auto-approve-limit": auto_approve_limit,
                "--time-zone": time_zone,
                "--fiscal-year-start": fiscal_year_start,
                "--fiscal-year-named-by": fiscal_year_named_by,
            }
        )
    changed = customers.set_customer(
        me(),
        customer_id,
        name=name,
        auto_approve_limit=auto_approve_limit,
        no_auto_approve_limit=no_auto_approve_limit,
        time_zone=time_zone,
        fiscal_year_start_month=fiscal_year_start,
        fiscal_year_named_by=fiscal_year_named_by,
    )
    done(_changed_line(f"customer {customer_id}", changed))


def _require_one(options: dict[str, object]) -> None:
    """Raise click.UsageError if no option is given."""
    if all(value is None for value in options.values()):
        raise click.UsageError(f"Give at least one of {', '.join(options)}.")


def _changed_line(what: str, fields: list[str]) -> str:
    if not fields:
        return f"Nothing to change: {what} has these values already."
    return f"Changed {what}: {', '.join(fields)}."


@command("disable-customer")
@click.argument("customer_id", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation on a terminal.")
@on_current_schema
def disable_customer(customer_id: str, yes: bool) -> None:
    """End all sessions and keys of a customer, and stop its syncs. Its data stays."""
    access = customers.customer_access(me(), customer_id)
    ends = (
        f"{_count(access.users, 'user')}, {_count(access.sessions, 'session')}, "
        f"{_count(access.keys, 'API key')} and {_count(access.sources, 'source')}"
    )
    if customers.get_customer(customer_id).disabledAt is not None:
        done(f"Customer {customer_id} is disabled already.")
        return
    if not yes and _is_typed_on_a_terminal():
        question = f"Disable customer {customer_id}? This ends the access of {ends}."
        if not click.confirm(question, err=True):
            raise click.ClickException("Not confirmed. Nothing was changed.")
    customers.disable_customer(me(), customer_id)
    done(f"Disabled customer {customer_id}. This ended the access of {ends}.")


def _is_typed_on_a_terminal() -> bool:
    return has_terminal() and sys.stdin is not None and sys.stdin.isatty()


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


@command("enable-customer")
@click.argument("customer_id", metavar="ID")
@on_current_schema
def enable_customer(customer_id: str) -> None:
    """Enable a disabled customer: its users, keys and sources work again."""
    customers.enable_customer(me(), customer_id)
    done(f"Enabled customer {customer_id}.")


@command("list-customers")
@on_current_schema
def list_customers() -> None:
    """Show the customers."""
    show_table(
        ("id", "name", "currency", "time zone", "fiscal year", "state"),
        [
            (
                *(row.id, row.name, row.currency, row.timeZone),
                f"from month {row.fiscalYearStartMonth}, named by its {row.fiscalYearNamedBy}",
                state_since(row.disabledAt, "disabled"),
            )
            for row in customers.list_customers(me())
        ],
        "There are no customers yet. Create one with `flask add-customer`.",
    )


@command("add-user")
@customer_or_all
@click.option(
    "--id",
    "user_id",
    required=True,
    metavar="ID",
    help="The user's id, as the orchestrator sends it in userId.",
)
@click.option("--name", required=True, help="The user's name.")
@click.option("--email", required=True, help="Email address, used to sign in.")
@click.option(
    "--role",
    required=True,
    type=click.Choice([str(role) for role in PEOPLE_ROLES]),
    help="Role, which sets the permissions.",
)
@click.option(
    "--password-stdin",
    is_flag=True,
    help="Read the password from standard input. Without a password, the user cannot sign in.",
)
@on_current_schema
def add_user(
    customer_id: str | None,
    all_customers: bool,
    user_id: str,
    name: str,
    email: str,
    role: str,
    password_stdin: bool,
) -> None:
    """Create a user."""
    password = _password_from_stdin() if password_stdin else None
    people.add_user(
        me(),
        user_id,
        name,
        email,
        role,
        customer_id=one_of(customer_id, all_customers),
        password=password,
        slots_folder=settings().instance_folder,
    )
    done(
        f"Added user {user_id}."
        + ("" if password else f" Set a password with `flask set-password {user_id}`.")
    )


@command("set-user")
@click.argument("user_id", metavar="ID")
@click.option("--name", help="The user's name.")
@click.option("--email", help="Email address, used to sign in.")
@click.option(
    "--role",
    type=click.Choice([str(role) for role in PEOPLE_ROLES]),
    help="Role, which sets the permissions. A demotion ends the user's sessions.",
)
@on_current_schema
def set_user(user_id: str, name: str | None, email: str | None, role: str | None) -> None:
    """Change the name, email address or role of a user. Values that are not given stay."""
    _require_one({"--name": name, "--email": email, "--role": role})
    changed = people.set_user(me(), user_id, name=name, email=email, role=role)
    done(_changed_line(f"user {user_id}", changed))


@command("set-password")
@click.argument("user_id", metavar="ID")
@click.option(
    "--password-stdin",
    is_flag=True,
    help="Read the password from standard input instead of prompting for it.",
)
@on_current_schema
def set_password(user_id: str, password_stdin: bool) -> None:
    """Set a user's password and end the user's sessions."""
    password = (
        _password_from_stdin()
        if password_stdin
        else click.prompt("New password", hide_input=True, confirmation_prompt=True)
    )
    people.set_password(me(), user_id, password, slots_folder=settings().instance_folder)
    done(f"Set the password of {user_id}.")


def _password_from_stdin() -> str:
    return sys.stdin.readline().rstrip("\r\n")


@command("disable-user")
@click.argument("user_id", metavar="ID")
@on_current_schema
def disable_user(user_id: str) -> None:
    """Disable a user and end the user's sessions."""
    people.disable_user(me(), user_id)
    done(f"Disabled user {user_id}.")


@command("enable-user")
@click.argument("user_id", metavar="ID")
@on_current_schema
def enable_user(user_id: str) -> None:
    """Enable a disabled user."""
    people.enable_user(me(), user_id)
    done(f"Enabled user {user_id}.")


@command("list-users")
@click.option("--customer", "customer_id", metavar="ID", help="Only of this customer.")
@on_current_schema
def list_users(customer_id: str | None) -> None:
    """Show the users."""
    require_known(customer_id)
    show_table(
        ("id", "customer", "name", "email", "role", "last login", "state"),
        [
            (
                row.id,
                row.customerId or "(all)",
                row.name,
                row.email,
                row.role,
                clock.to_text(row.lastLoginAt) if row.lastLoginAt else "never",
                "disabled" if row.disabledAt else "active" if row.passwordHash else "no password",
            )
            for row in people.list_users(me(), customer_id)
        ],
        "There are no users yet. Create one with `flask add-user`.",
    )


@command("link-user")
@click.argument("user_id", metavar="ID")
@click.option("--provider", required=True, metavar="NAME", help="The provider's name.")
@click.option(
    "--subject",
    required=True,
    help="The person's id at the provider: the claim `user_id` names it.",
)
@on_current_schema
def link_user(user_id: str, provider: str, subject: str) -> None:
    """Link a user to an account at an identity provider.

    The user's sessions end. `flask identity-check` shows the subject of a token.
    """
    people.link_user(me(), user_id, provider=provider, subject=subject)
    done(f"Linked user {user_id} to {subject} of {provider}.")


COMMANDS = (
    add_customer,
    set_customer,
    disable_customer,
    enable_customer,
    list_customers,
    add_user,
    set_user,
    set_password,
    disable_user,
    enable_user,
    list_users,
    link_user,
)
