"""The list of all commands. `budget_sync/commands/` defines them, one module per subject."""

from __future__ import annotations

from flask import Flask

from budget_sync.commands import (
    budgets,
    database,
    identity,
    keys,
    people,
    server,
    setup,
    sources,
)

COMMANDS = (
    *setup.COMMANDS,
    *server.COMMANDS,
    *database.COMMANDS,
    *people.COMMANDS,
    *keys.COMMANDS,
    *identity.COMMANDS,
    *budgets.COMMANDS,
    *sources.COMMANDS,
)


def init_app(app: Flask) -> None:
    """Register the commands."""
    for command in COMMANDS:
        app.cli.add_command(command)
