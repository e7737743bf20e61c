"""`flask add-alias`, `list-aliases` and `remove-alias`."""

from __future__ import annotations

import click
import pytest
from flask import Flask

from budget_sync.database.models import AuditLog
from budget_sync.operations import demo

pytestmark = pytest.mark.both_engines

CUSTOMER = ("--customer", demo.CUSTOMER)


def run(app: Flask, *arguments: str) -> click.testing.Result:
    """Run a command in this process."""
    with app.app_context():
        return app.test_cli_runner().invoke(args=arguments, prog_name="flask")


def succeed(app: Flask, *arguments: str) -> str:
    """Run a command that must succeed; returns its output."""
    result = run(app, *arguments)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout


def test_alias_is_added_listed_and_removed(world: Flask) -> None:
    assert succeed(world, "list-aliases") == (
        "There are no aliases yet. Add one with `flask add-alias`.\n"
    )
    add = ("add-alias", *CUSTOMER, "--name", "Eng", "--department", "Engineering")
    assert succeed(world, *add) == "Eng means Engineering.\n"
    assert succeed(world, *add) == "Eng means Engineering already.\n"
    (_, line) = succeed(world, "list-aliases", *CUSTOMER).splitlines()
    for text in (demo.CUSTOMER, "Eng", "Engineering", "command line", "active"):
        assert text in line
    remove = ("remove-alias", *CUSTOMER, "--name", "eng")
    assert succeed(world, *remove) == "Eng no longer means Engineering.\n"
    actions = [row.action for row in AuditLog.select().order_by(AuditLog.id)]
    assert actions[-2:] == ["ADD_ALIAS", "REMOVE_ALIAS"]
    failed = run(world, *remove)
    assert (failed.exit_code, failed.stderr) == (
        1,
        "Error: There is no alias 'eng'. `flask list-aliases` shows them.\n",
    )


def test_unknown_customer_is_reported(world: Flask) -> None:
    for command in (
        ("add-alias", "--customer", "x", "--name", "Eng", "--department", "Engineering"),
        ("remove-alias", "--customer", "x", "--name", "Eng"),
        ("list-aliases", "--customer", "x"),
    ):
        failed = run(world, *command)
        assert (failed.exit_code, failed.stderr) == (1, "Error: There is no customer 'x'.\n")
