"""Commands for sources: list them, show how they are read, remove them, a template."""

from __future__ import annotations

import json

import click

from budget_sync import sync
from budget_sync.commands.support import (
    command,
    done,
    me,
    on_current_schema,
    require_known,
    show_table,
)
from budget_sync.domain import clock
from budget_sync.queries.sync_runs import last_run
from budget_sync.sync.source import Source
from budget_sync.sync.standard import template

#: The list of sources cuts messages of sync runs to this many characters.
MAX_MESSAGE = 200


@command("list-sources")
@click.option("--customer", "customer_id", metavar="ID", help="Only of this customer.")
@on_current_schema
def list_sources(customer_id: str | None) -> None:
    """Show the sources, their confirmation, and their last sync run."""
    require_known(customer_id)
    show_table(
        ("id", "customer", "source", "reading", "last sync run", "last result"),
        [
            (
                source.id,
                source.customer_id,
                source.label,
                _reading_state(source),
                *_last_result(source.customer_id, source.id),
            )
            for source in sync.list_sources(me(), customer_id)
        ],
        "There are no sources yet. Create one with `flask add-source`.",
    )


def _reading_state(source: Source) -> str:
    """Whether a person has confirmed how a source is read."""
    if source.reading_problem:
        return "cannot be used"
    if source.reading is None:
        return "waiting for confirmation"
    when = f" {clock.to_text(source.confirmed_at)}" if source.confirmed_at else ""
    return f"confirmed by {source.confirmed_by}{when}"


def _last_result(customer_id: str, source_id: str) -> tuple[str, str]:
    """When a source was last synced, and the result in a few words."""
    run = last_run(customer_id, source_id)
    if run is None:
        return "never", ""
    details = {
        "success": "",
        "partial": f"{run.errors:,} problems in the sheet, {run.held:,} held changes",
    }.get(run.status, " ".join((run.message or "").split())[:MAX_MESSAGE])
    return clock.to_text(run.start), f"{run.status}: {details}" if details else run.status


@command("show-reading")
@click.argument("source_id", metavar="SOURCE")
@on_current_schema
def show_reading(source_id: str) -> None:
    """Print how a source is read, as JSON.

    `add-source` and `reread-source` accept it with --reading.
    """
    source = sync.get_source(me(), source_id)
    if source.reading is None:
        raise click.ClickException(source.reading_problem or sync.UNCONFIRMED)
    click.echo(json.dumps(source.reading.to_json(), ensure_ascii=False, indent=1))


@command("remove-source")
@click.argument("source_id", metavar="ID")
@on_current_schema
def remove_source(source_id: str) -> None:
    """Remove a source. Its budgets stay.

    The budgets can then be changed by hand, or taken over by another source.
    """
    budgets = sync.remove_source(me(), source_id)
    stay = "budget stays as it is" if budgets == 1 else "budgets stay as they are"
    done(f"Removed source {source_id}; its {budgets:,} {stay}.")


@command("sheet-template")
def sheet_template() -> None:
    """Print a CSV file to start a sheet from.

    It has a heading for each column, and two budgets as an example. A sheet with these headings
    needs no questions.
    """
    click.echo(template(clock.now().year), nl=False)


COMMANDS = (list_sources, show_reading, remove_source, sheet_template)
