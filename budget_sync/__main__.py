"""The `budget-sync` command: the commands of `flask --app app.py`, from any folder."""

from __future__ import annotations

import importlib
import sys

import click
from flask import Flask
from flask.cli import FlaskGroup

import budget_sync
from budget_sync.settings import PROGRAM_FOLDER

HELP = """Run and administer Budget Sync.

The instance folder holds the database. The environment variable INSTANCE_FOLDER names it. Its
default is $XDG_DATA_HOME/budget-sync, or ~/.local/share/budget-sync.

Settings come from the environment and from the file .env in the instance folder. In a checkout,
the instance folder is instance/ and .env is next to app.py.
"""


def create_app() -> Flask:
    """The app of app.py. Like `flask --app app.py`, adds its folder to the import path."""
    sys.path.insert(0, str(PROGRAM_FOLDER))
    app: Flask = importlib.import_module("app").create_app()
    return app


@click.version_option(budget_sync.__version__, prog_name="budget-sync")
@click.group(
    cls=FlaskGroup,
    create_app=create_app,
    add_version_option=False,
    # Flask would read any `.env` that it finds from the current folder upwards.
    load_dotenv=False,
    help=HELP,
)
def main() -> None:
    """Run a command."""


if __name__ == "__main__":
    main(prog_name="budget-sync")
