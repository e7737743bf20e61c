"""Commands for setting up: load the demo, check the installation."""

from __future__ import annotations

from collections import Counter

import click
from flask import current_app

from budget_sync.commands.support import (
    command,
    done,
    me,
    on_current_schema,
    settings,
    with_command_name,
)
from budget_sync.operations import demo, doctor


@command("demo")
@click.option(
    "--url",
    default="http://127.0.0.1:8000",
    show_default=True,
    help="Address of the server, used in the printed commands.",
)
@on_current_schema
def load_demo(url: str) -> None:
    """Load the data of the integration guide: customer org-456, budget-123 and its users."""
    is_new = demo.load(me(), settings().instance_folder, settings().csv_folder)
    done("The demo is loaded." if is_new else "The demo was loaded before. Nothing was changed.")
    click.echo(demo.tour(url, settings().instance_folder))


@command("doctor")
def run_doctor() -> None:
    """Check the installation against the guide's go-live list. Exit status 1 if a check failed."""
    states = Counter[doctor.State]()
    for finding in doctor.examine(me(), settings(), current_app.config["CREATE_APP"]):
        states[finding.state] += 1
        click.echo(with_command_name(f"{finding.state:<8} {finding.subject}: {finding.seen}"))
        if finding.todo:
            click.echo(with_command_name(f"{'':<8}   -> {finding.todo}"))
    if states[doctor.State.FAILED]:
        raise click.ClickException(
            f"{states[doctor.State.FAILED]} of {states.total()} checks failed."
        )
    click.echo(
        f"{states[doctor.State.OK]} of {states.total()} checks passed, "
        f"{states[doctor.State.WARNING]} gave a warning."
    )


COMMANDS = (load_demo, run_doctor)
