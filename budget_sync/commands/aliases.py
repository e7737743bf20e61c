"""Commands for the aliases of departments."""

from __future__ import annotations

import click

from budget_sync.accounts import aliases
from budget_sync.commands.support import command, done, me, on_current_schema, show_table


@command("add-alias")
@click.option(
    "--customer",
    "customer_id",
    required=True,
    metavar="ID",
    help="The customer that the department belongs to.",
)
@click.option("--name", required=True, help='The other name, for example "Eng".')
@click.option(
    "--department", required=True, help="The department that it means, for example Engineering."
)
@on_current_schema
def add_alias(customer_id: str, name: str, department: str) -> None:
    """Let another name mean a department, in checks and spends."""
    is_new = aliases.add_alias(me(), customer_id, name, department)
    already = "" if is_new else " already"
    done(f"{name.strip()} means {department.strip()}{already}.")


@command("remove-alias")
@click.option(
    "--customer",
    "customer_id",
    required=True,
    metavar="ID",
    help="The customer that the department belongs to.",
)
@click.option("--name", required=True, help='The alias, for example "Eng".')
@on_current_schema
def remove_alias(customer_id: str, name: str) -> None:
    """Let a name no longer mean a department."""
    removed = aliases.remove_alias(me(), customer_id, name)
    done(f"{removed.name} no longer means {removed.department}.")


@command("list-aliases")
@click.option("--customer", "customer_id", metavar="ID", help="Only of this customer.")
@on_current_schema
def list_aliases(customer_id: str | None) -> None:
    """Show the aliases of departments."""
    show_table(
        ("customer", "name", "means", "added by", "state"),
        [
            (
                each.customer_id,
                each.name,
                each.department,
                each.created_by,
                "unused: a department has that name" if each.is_hidden else "active",
            )
            for each in aliases.list_aliases(me(), customer_id)
        ],
        "There are no aliases yet. Add one with `flask add-alias`.",
    )


COMMANDS = (add_alias, remove_alias, list_aliases)
