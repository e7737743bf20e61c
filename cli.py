"""The commands of `flask`: all there are. What each does stands in `budget_sync/commands/`, by subject."""

from __future__ import annotations

from flask import Flask

from budget_sync.commands import budgets, operations, people, sources

COMMANDS = (*operations.COMMANDS, *people.COMMANDS, *budgets.COMMANDS, *sources.COMMANDS)


def init_app(app: Flask) -> None:
    """Register the commands."""
    for command in COMMANDS:
        app.cli.add_command(command)
