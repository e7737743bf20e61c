"""Commands for the database: create, upgrade, verify, back up, restore, copy to PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import click

from budget_sync import database
from budget_sync.commands.support import (
    command,
    done,
    me,
    on_current_schema,
    progress_line,
    settings,
)
from budget_sync.database.upgrades.report import Report
from budget_sync.domain import clock
from budget_sync.ledger import verification
from budget_sync.operations import backups
from budget_sync.runtime import files
from budget_sync.settings import postgresql_url


@command("init-db")
def init_db() -> None:
    """Create the tables. Changes nothing if they exist."""
    files.create_folder(settings().database_path.parent)
    database.connect(settings().database, create=True)
    result = "Created" if database.init_schema() else "Already there:"
    done(f"{result} {database.label()} (schema version {database.schema_version()}).")
    # A misspelled DATABASE_URL creates a database in the wrong place.
    for misspelling in settings().misspellings:
        click.echo(f"Warning: {misspelling.sentence}", err=True)


@command("upgrade-db")
def upgrade_db() -> None:
    """Upgrade the schema to this version of the program, in one transaction."""
    if settings().database_url is None and not settings().database_path.exists():
        database.require_current_schema()
    notes: list[str] = []
    with progress_line() as progress:
        steps = database.upgrade_schema(report=Report(progress, notes.append))
    lines = [
        f"Upgraded to schema version {steps[-1]}."
        if steps
        else f"Already at schema version {database.schema_version()}.",
        *notes,
    ]
    done("\n".join(lines))


@command("verify")
@on_current_schema
def verify() -> None:
    """Verify all balances against the audit log. Exit status 1 if they are wrong.

    For every budget, the counters must equal its open reservations and the replayed audit log.
    """
    result = verification.verify()
    for finding in result.findings:
        click.echo(finding, err=True)
    if result.findings:
        raise click.ClickException(
            f"{len(result.findings)} contradictions found in {_counts(result)}."
        )
    click.echo(f"Verified: {_counts(result)}. All balances are consistent.")


@command("backup")
@click.argument("path", metavar="PATH", type=click.Path(path_type=Path))
def backup(path: Path) -> None:
    """Write a verified backup while the service runs.

    The backup is one SQLite file, also on PostgreSQL. PATH is a new file, or a folder, in which
    the file is named by the current time.
    """
    with progress_line() as report:
        taken = backups.take(path, settings().instance_folder / backups.NOTE, report)
    counts = _counts(taken.verification)
    if taken.verification.findings:
        raise click.ClickException(
            f"{len(taken.verification.findings)} contradictions found in {counts}: see "
            f"`flask verify`. The copy is kept as {taken.path}, and cannot be restored."
        )
    done(
        f"Backed up to {taken.path} ({taken.size:,} bytes): {counts}. All balances are consistent."
    )
    if taken.note_error:
        click.echo(
            "Warning: the backup is good, but `flask doctor` will not know about it, because "
            f"it could not be recorded: {taken.note_error}",
            err=True,
        )


@command("restore")
@click.argument("path", metavar="PATH", type=click.Path(path_type=Path))
@click.option(
    "--without-checksum",
    is_flag=True,
    help="Accept a file that `flask backup` did not write, after all other checks.",
)
def restore(path: Path, without_checksum: bool) -> None:
    """Replace the database with a backup, after verifying it.

    The service may keep running. The replaced database is kept.
    """
    folder = (
        settings().instance_folder if settings().database_url else settings().database_path.parent
    )
    with progress_line() as report:
        restored = backups.restore(me(), path, folder, report, without_checksum=without_checksum)
    upgraded = (
        ""
        if restored.version == database.SCHEMA_VERSION
        else f", upgraded from schema version {restored.version}"
    )
    counts = _counts(restored.verification)
    lines = [
        f"Restored {path}{upgraded}: {counts}. All balances are consistent.",
        f"Its last movement is from {clock.to_text(restored.last_movement)}."
        if restored.last_movement
        else "It has no movements.",
        f"The replaced database is kept: {restored.kept}"
        if restored.kept
        else "There was no database before.",
        "All sessions were ended. Every user has to sign in again.",
    ]
    if restored.reverted is None:
        lines.append(
            "The replaced database cannot be read. Check every key and user: the restore undid "
            "whatever was revoked or disabled after the backup."
        )
    undone = "it was revoked, disabled or changed after the backup, and the restore undid that."
    lines += [f"Check {name}: {undone}" for name in restored.reverted or []]
    done("\n".join(lines))


@command("copy-to")
@click.argument("url", metavar="URL", required=False)
@click.option("--undo", is_flag=True, help="Let the SQLite file accept writes again. Needs no URL.")
@on_current_schema
def copy_to(url: str | None, undo: bool) -> None:
    """Copy the SQLite file to an empty PostgreSQL database and verify it.

    Create the tables there first, with `flask init-db`. During the copy, writers wait. After it,
    the SQLite file accepts no more writes.
    """
    if (url is None) != undo:
        raise click.UsageError("Give either URL or --undo.")
    if url is None:
        done(
            f"{database.label()} accepts writes again. What was written to the other database "
            "since the copy is not in it."
            if database.undo_copy()
            else f"{database.label()} was not copied, or accepts writes again already."
        )
        return
    target = _target(url)
    verified = list[verification.Verification]()
    copied = database.copy_to(target, lambda: verified.append(_verify_copy(target)))
    (result,) = verified
    done(
        f"Copied {sum(copied.values()):,} rows of {len(copied)} tables. "
        f"All balances of {result.budgets} budgets are consistent there. "
        f"{database.label()} accepts no more writes."
    )


def _target(url: str) -> str:
    """The URL of the database to copy to. Raises click.ClickException unless it is PostgreSQL's."""
    try:
        target = postgresql_url(url)
    except ValueError as error:
        raise click.ClickException(f"URL {error}.") from None
    if target is None:
        raise click.ClickException("URL must begin with postgresql://.")
    return target


def _verify_copy(target: str) -> verification.Verification:
    """Verify the copy. Raises click.ClickException if it is wrong."""
    database.connect(target)
    try:
        result = verification.verify()
    finally:
        database.disconnect()
        database.connect(settings().database)
    if result.findings:
        raise click.ClickException(
            f"Copied, but {len(result.findings)} contradictions were found there, so "
            f"{database.label()} stays in use. The first: {result.findings[0]}"
        )
    return result


def _counts(result: verification.Verification) -> str:
    return (
        f"{result.budgets} budgets, {result.reservations} reservations, "
        f"{result.movements} audit rows"
    )


COMMANDS = (init_db, upgrade_db, verify, backup, restore, copy_to)
