"""Commands for users."""

from __future__ import annotations

import sys

import click

from budget_sync.accounts import people
from budget_sync.commands.support import (
    changed_line,
    command,
    customer_or_all,
    done,
    me,
    on_current_schema,
    one_of,
    require_any,
    require_known,
    settings,
    show_table,
)
from budget_sync.domain import clock
from budget_sync.domain.permissions import PEOPLE_ROLES


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
    require_any({"--name": name, "--email": email, "--role": role})
    changed = people.set_user(me(), user_id, name=name, email=email, role=role)
    done(changed_line(f"user {user_id}", changed))


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
    add_user,
    set_user,
    set_password,
    disable_user,
    enable_user,
    list_users,
    link_user,
)
