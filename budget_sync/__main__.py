"""The `budget-sync` command of an installed package: the commands of `flask --app app.py`, from any folder."""

from __future__ import annotations

import importlib
import sys

import click
from flask import Flask
from flask.cli import FlaskGroup

from budget_sync import __version__
from budget_sync.settings import PROGRAM_FOLDER

HELP = """Run and administer Budget Sync.

Settings come from the environment and from the file .env in the instance folder. The instance folder also holds the
database, and is $XDG_DATA_HOME/budget-sync or ~/.local/share/budget-sync unless the environment variable INSTANCE_FOLDER
names another one. In a checkout, .env is beside app.py and the instance folder is instance/.
"""


def create_app() -> Flask:
    """The app of app.py, which imports cli.py by that name, as under `flask --app app.py`."""
    sys.path.insert(0, str(PROGRAM_FOLDER))
    app: Flask = importlib.import_module("app").create_app()
    return app


@click.version_option(__version__, prog_name="budget-sync")
@click.group(
    cls=FlaskGroup,
    create_app=create_app,
    add_version_option=False,
    # Flask would read the `.env` of any project around the current folder.
    load_dotenv=False,
    help=HELP,
)
def main() -> None:
    """Run a command."""


if __name__ == "__main__":
    main(prog_name="budget-sync")
