"""The list of all commands. `budget_sync/commands/` defines them, one module per subject."""

from __future__ import annotations

from flask import Flask

from budget_sync.commands import (
    alerts,
    aliases,
    budgets,
    customers,
    database,
    deliver,
    expiry,
    identity,
    keys,
    load_test,
    people,
    readings,
    server,
    setup,
    sources,
    spend,
    sync_sheets,
    webhooks,
)

COMMANDS = (
    *setup.COMMANDS,
    *server.COMMANDS,
    *database.COMMANDS,
    *customers.COMMANDS,
    *people.COMMANDS,
    *keys.COMMANDS,
    *identity.COMMANDS,
    *budgets.COMMANDS,
    *aliases.COMMANDS,
    *spend.COMMANDS,
    *expiry.COMMANDS,
    *readings.COMMANDS,
    *sources.COMMANDS,
    *sync_sheets.COMMANDS,
    *webhooks.COMMANDS,
    *alerts.COMMANDS,
    *deliver.COMMANDS,
    *load_test.COMMANDS,
)


def init_app(app: Flask) -> None:
    """Register the commands."""
    for command in COMMANDS:
        app.cli.add_command(command)
