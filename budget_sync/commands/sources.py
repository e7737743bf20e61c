"""Commands for sources, and the sync of sheets that cron runs."""

from __future__ import annotations

import sys

import click

from budget_sync import sync
from budget_sync.commands.support import (
    Lines,
    Progress,
    command,
    done,
    handle_stop_signals,
    has_terminal,
    me,
    on_current_schema,
    require_known,
    settings,
    show_table,
)
from budget_sync.domain import clock
from budget_sync.queries.sync_runs import last_run
from budget_sync.runtime import files

#: The list of sources cuts messages of sync runs to this many characters.
MAX_MESSAGE = 200


def column_names(pairs: tuple[str, ...]) -> dict[str, str]:
    """The --map options, from the column's standard name to its name in the sheet."""
    names = {}
    for pair in pairs:
        column, equals, name = pair.partition("=")
        if not equals:
            raise click.UsageError(f"--map {pair!r} must look like 'Budgeted Amount=FY Plan'.")
        names[column.strip()] = name.strip()
    return names


@command("add-source")
@click.option(
    "--customer",
    "customer_id",
    required=True,
    metavar="ID",
    help="The customer that the budgets belong to.",
)
@click.option(
    "--spreadsheet",
    metavar="KEY",
    help="Key or address of a Google spreadsheet.",
)
@click.option("--worksheet", metavar="NAME", help='Title of the tab, or its number as in "gid=0".')
@click.option(
    "--csv",
    "csv_path",
    metavar="PATH",
    help="A CSV file inside CSV_FOLDER (by default instance/sheets), instead of a spreadsheet.",
)
@click.option(
    "--locale",
    help="Locale of amounts that are text, for example de_DE. [default: the sheet's locale]",
)
@click.option(
    "--map",
    "pairs",
    multiple=True,
    metavar="COLUMN=NAME",
    help='Name of a column in the sheet, for example "Budgeted Amount=FY Plan".',
)
@on_current_schema
def add_source(
    customer_id: str,
    spreadsheet: str | None,
    worksheet: str | None,
    csv_path: str | None,
    locale: str | None,
    pairs: tuple[str, ...],
) -> None:
    """Add a Google Sheet or a CSV file as a source of budgets."""
    folder = settings().csv_folder
    files.create_folder(folder)
    source, warnings = sync.add_source(
        me(),
        customer_id,
        spreadsheet=spreadsheet,
        worksheet=worksheet,
        csv_path=csv_path,
        csv_folder=folder,
        locale=locale,
        names=column_names(pairs),
    )
    done(
        f"Added source {source.id} ({source.label}). Preview the first sync run with "
        f"`flask sync-sheets --customer {customer_id} --dry-run`."
    )
    for warning in warnings:
        click.echo(f"Warning: {warning}", err=True)


@command("list-sources")
@click.option("--customer", "customer_id", metavar="ID", help="Only of this customer.")
@on_current_schema
def list_sources(customer_id: str | None) -> None:
    """Show the sources."""
    require_known(customer_id)
    show_table(
        ("id", "customer", "source", "locale", "columns", "last sync run", "last result"),
        [
            (
                source.id,
                source.customer_id,
                source.label,
                source.locale or "(the sheet's)",
                ", ".join(f"{ours}={name}" for ours, name in source.names.items()),
                *_last_result(source.customer_id, source.id),
            )
            for source in sync.list_sources(me(), customer_id)
        ],
        "There are no sources yet. Create one with `flask add-source`.",
    )


def _last_result(customer_id: str, source_id: str) -> tuple[str, str]:
    """When a source was last synced, and the result in a few words."""
    run = last_run(customer_id, source_id)
    if run is None:
        return "never", ""
    details = {
        "success": "",
        "partial": f"{run.errors:,} rejected rows, {run.held:,} held deletions",
    }.get(run.status, " ".join((run.message or "").split())[:MAX_MESSAGE])
    return clock.to_text(run.start), f"{run.status}: {details}" if details else run.status


@command("remove-source")
@click.argument("source_id", metavar="ID")
@on_current_schema
def remove_source(source_id: str) -> None:
    """Remove a source. Its budgets stay.

    The budgets can then be changed by hand or adopted by another source.
    """
    budgets = sync.remove_source(me(), source_id)
    done(f"Removed source {source_id}; its {budgets} budgets stay as they are.")


@command("sync-sheets")
@click.option("--customer", "customer_id", metavar="ID", help="Only the sources of this customer.")
@click.option(
    "--dry-run", is_flag=True, help="Print the changes of a sync run without making them."
)
@click.option("--allow-deletes", is_flag=True, help="Approve deletions above the deletion limit.")
@on_current_schema
def sync_sheets(customer_id: str | None, dry_run: bool, allow_deletes: bool) -> None:
    """Sync budgets from their sources. Exit status 1 if a source failed.

    Prints one line for each source.
    """
    progress = Progress()
    job = sync.Job(
        me(),
        sync.Reach.of(settings()),
        settings().instance_folder,
        allow_deletes=allow_deletes,
        say=progress.say if has_terminal() else None,
    )
    sys.exit(
        _preview_sheets(job, customer_id, progress)
        if dry_run
        else _sync_sheets(job, customer_id, progress)
    )


def _preview_sheets(job: sync.Job, customer_id: str | None, progress: Progress) -> int:
    """Print the changes of the sync runs; returns the exit status."""
    failed = False
    for number, preview in enumerate(sync.preview_all(job, customer_id=customer_id)):
        progress.clear()
        failed |= preview.failed
        click.echo(
            ("\n" if number else "")
            + f"{preview.source.customer_id} {preview.source.id} ({preview.source.label})"
        )
        click.echo(f"  {preview.summary}", err=preview.failed)
        for section in preview.sections:
            click.echo(
                f"\n  {section.title}{'. --allow-deletes deletes them' if section.is_held else ''}:"
            )
            for line in section.lines:
                click.echo(f"{' ' * (14 if line.startswith('!') else 4)}{line}")
    return int(failed)


def _sync_sheets(job: sync.Job, customer_id: str | None, progress: Progress) -> int:
    """Run the sync and print each result.

    Returns the exit status: 128 plus the signal's number if a signal stopped the sync.
    """
    lines, failed = Lines(), False
    with handle_stop_signals(job.stop.request):
        for result in sync.sync_all(job, customer_id=customer_id):
            progress.clear()
            failed |= result.status == "failed"
            lines.print(sync.result_line(result), err=result.status == "failed")
            for line in sync.error_lines(result):
                lines.print(line, err=True)
    if job.stop.by:
        if not job.stop.ended_a_run:
            lines.print(job.stop.sentence, err=True)
        return 128 + job.stop.by
    if lines.trouble:
        raise click.ClickException(
            f"Some lines could not be printed ({lines.trouble}). "
            "The SyncHistory table has the result of each source."
        )
    return int(failed)


COMMANDS = (add_source, list_sources, remove_source, sync_sheets)
