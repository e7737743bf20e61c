"""Commands that sync sheets, which cron runs, and that answer what a sync run holds."""

from __future__ import annotations

import sys

import click

from budget_sync import sync
from budget_sync.commands.expiry import expired_line
from budget_sync.commands.support import (
    Lines,
    Progress,
    command,
    done,
    handle_stop_signals,
    has_terminal,
    me,
    on_current_schema,
    settings,
)
from budget_sync.domain.results import dumps


@command("sync-sheets")
@click.option("--customer", "customer_id", metavar="ID", help="Only the sources of this customer.")
@click.option(
    "--dry-run", is_flag=True, help="Print the changes of a sync run without making them."
)
@click.option("--allow-deletes", is_flag=True, help="Approve the deletions that are held.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each source.")
@on_current_schema
def sync_sheets(customer_id: str | None, dry_run: bool, allow_deletes: bool, as_json: bool) -> None:
    """Sync budgets from their sources. Exit status 1 if a source failed.

    First releases the reservations that have expired, as `expire-holds` does.

    Prints a line for each source, and its notes. Rejected rows, held changes and failures are
    printed to standard error.
    """
    progress = Progress()
    job = sync.Job(
        me(),
        sync.Reach.of(settings()),
        settings().instance_folder,
        allow_deletes=allow_deletes,
        say=progress.say if has_terminal() else None,
    )
    run = _preview_sheets if dry_run else _sync_sheets
    sys.exit(run(job, customer_id, progress, as_json))


def _preview_sheets(
    job: sync.Job, customer_id: str | None, progress: Progress, as_json: bool
) -> int:
    """Print the changes of the sync runs; returns the exit status."""
    failed = False
    for number, preview in enumerate(sync.preview_all(job, customer_id=customer_id)):
        progress.clear()
        failed |= preview.failed
        if as_json:
            click.echo(dumps(preview.result.to_command_json()))
        else:
            _print_preview(preview, is_first=not number)
    return int(failed)


def _print_preview(preview: sync.Preview, *, is_first: bool) -> None:
    click.echo(
        ("" if is_first else "\n")
        + f"{preview.source.customer_id} {preview.source.id} ({preview.source.label})"
    )
    click.echo(f"  {preview.summary}", err=preview.failed)
    for section in preview.sections:
        click.echo(f"\n  {section.title}:")
        for line in section.lines:
            click.echo(f"{' ' * (14 if line.startswith('!') else 4)}{line}")


def _sync_sheets(job: sync.Job, customer_id: str | None, progress: Progress, as_json: bool) -> int:
    """Run the sync and print each result.

    Returns the exit status: 128 plus the signal's number if a signal stopped the sync.
    """
    lines = Lines()
    with handle_stop_signals(job.stop.request):
        failed = not _expire(job, customer_id, lines, as_json)
        for result in sync.sync_all(job, customer_id=customer_id):
            progress.clear()
            failed |= result.status == "failed"
            if as_json:
                lines.print(dumps(result.to_command_json()))
                continue
            lines.print(sync.result_line(result), err=result.status == "failed")
            for line in sync.note_lines(result):
                lines.print(line)
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


def _expire(job: sync.Job, customer_id: str | None, lines: Lines, as_json: bool) -> bool:
    """Release the reservations that have expired; returns whether that worked.

    With --json, each line of the output is a source, so that only a failure is printed.
    """
    expiry = sync.expire_before_sync(
        job,
        customer_id,
        report=lambda expired: None if as_json else lines.print(expired_line(expired)),
    )
    if expiry.problem:
        lines.print(expiry.problem, err=True)
    return expiry.problem is None


@command("answer-hold")
@click.argument("source_id", metavar="SOURCE")
@click.option(
    "--rename",
    "renames",
    multiple=True,
    metavar="OLD_BUDGET_ID=NEW_KEY",
    help="Same budget: it keeps its money and takes the name of the new row, such as "
    "'bud_17=Lampe North|2026-Q1'.",
)
@click.option(
    "--different",
    "different",
    multiple=True,
    metavar="OLD_BUDGET_ID",
    help="Not the same budget: the old one is deleted, the new one is created.",
)
@click.option(
    "--accept-amounts",
    is_flag=True,
    help="Apply the held amounts, and the creations held with them.",
)
@click.option(
    "--allow-deletes",
    is_flag=True,
    help="Approve the held deletions, and the creations held with them.",
)
@on_current_schema
def answer_hold(
    source_id: str,
    renames: tuple[str, ...],
    different: tuple[str, ...],
    accept_amounts: bool,
    allow_deletes: bool,
) -> None:
    """Answer the changes that the last sync run of a source holds.

    The next sync run applies the answers. `sync-sheets` prints what is held, with the options that
    answer it. To leave a change as it is, do nothing. Stores all answers or none.
    """
    if not (renames or different or accept_amounts or allow_deletes):
        raise click.UsageError("Give --rename, --different, --accept-amounts or --allow-deletes.")
    choice = sync.Choice(
        [_rename(text) for text in renames], different, accept_amounts, allow_deletes
    )
    holds = [change.hold for change in sync.show_holds(me(), source_id)]
    count = sync.answer_holds(me(), source_id, sync.choose(holds, choice))
    done(
        f"Stored {count} answer{'s' * (count != 1)} for source {source_id}. The next sync run "
        f"applies {'it' if count == 1 else 'them'}."
    )


def _rename(text: str) -> tuple[str, str]:
    """The budget and the key of a --rename option. Raises click.UsageError."""
    budget_id, equals, key = text.partition("=")
    if not equals or "|" not in key:
        raise click.UsageError(f"--rename {text!r} must look like 'bud_17=Lampe North|2026-Q1'.")
    return budget_id.strip(), key


COMMANDS = (sync_sheets, answer_hold)
