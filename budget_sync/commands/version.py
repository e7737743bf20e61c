"""The version that `flask --version` prints.

Flask prints its own version before it loads the app. So `make install` copies
`deploy/flask_version.pth` into the virtual environment: Python runs its line at every start, and
it imports this module only for `flask --version`.
"""

from __future__ import annotations

import platform
from importlib import metadata

import click
from flask import cli

import budget_sync


def show(ctx: click.Context, param: click.Parameter, value: object) -> None:
    """Print the versions of this program and of what it runs on, and end the command."""
    if not value or ctx.resilient_parsing:
        return
    click.echo(
        f"Budget Sync {budget_sync.__version__}\n"
        f"Python {platform.python_version()}\n"
        f"Flask {metadata.version('flask')}\n"
        f"Werkzeug {metadata.version('werkzeug')}"
    )
    ctx.exit()


cli.version_option.callback = show
