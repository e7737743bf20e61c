"""Commands for who runs the service: make the database, serve, prove, move."""

from __future__ import annotations

import functools
import socket
from collections import Counter
from pathlib import Path

import click
from flask import current_app

from budget_sync import database
from budget_sync.commands.support import (
    command,
    done,
    me,
    on_current_schema,
    progress_line,
    settings,
)
from budget_sync.domain import clock
from budget_sync.ledger import verification
from budget_sync.operations import backups, demo, doctor, startup
from budget_sync.runtime import files
from budget_sync.settings import postgresql_url


@command("init-db")
def init_db() -> None:
    """Create the tables; harmless when they are there."""
    files.make_folder(settings().database_path.parent)
    database.connect(settings().database, create=True)
    made = database.init_schema()
    done(
        f"{'Created' if made else 'Already there:'} {database.label()} (schema version {database.schema_version()})."
    )


@command("upgrade-db")
def upgrade_db() -> None:
    """Apply what a newer version of the program needs; all of it or nothing."""
    if settings().database_url is None and not settings().database_path.exists():
        database.require_current_schema()
    steps = database.upgrade_schema()
    done(
        f"Upgraded to schema version {steps[-1]}."
        if steps
        else f"Already at schema version {database.schema_version()}."
    )


@command("demo")
@click.option(
    "--url",
    default="http://127.0.0.1:8000",
    show_default=True,
    help="Where the server will be, for the lines to paste.",
)
@on_current_schema
def load_demo(url: str) -> None:
    """Load the integration guide's world: customer org-456, budget-123 and its people."""
    made = demo.load(me(), settings().instance_folder, settings().csv_folder)
    done("The demo is loaded." if made else "The demo was loaded before; nothing changed.")
    click.echo(demo.tour(url, settings().instance_folder))


@command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(1, 65535),
    help="Port to listen on.",
)
@click.option(
    "--workers", default=2, show_default=True, type=click.IntRange(1, 64), help="Worker processes."
)
@click.option(
    "--unproven",
    is_flag=True,
    help="Start without a look at the database: it may be damaged, and its balances wrong.",
)
@on_current_schema
def serve(host: str, port: int, workers: int, unproven: bool) -> None:
    """Run the production server. SIGTERM stops it once every request under way is answered."""
    _require_free(host, port)
    if not unproven:
        startup.require_sound_start()
    # The workers open their own: a connection must not cross a fork.
    database.disconnect()
    # No other command needs gunicorn.
    from budget_sync.server.arbiter import Server  # noqa: PLC0415

    Server(
        functools.partial(current_app.config["CREATE_APP"], settings()),
        host=host,
        port=port,
        workers=workers,
    ).run()


def _require_free(host: str, port: int) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise click.ClickException(
            f"Cannot listen on {host} port {port}: {error.strerror or error}."
        ) from None


@command("verify")
@on_current_schema
def verify() -> None:
    """Prove the balances: counters = open reservations = replayed audit log. Exit status 1 where they are not."""
    proof = verification.verify()
    for finding in proof.findings:
        click.echo(finding, err=True)
    counted = (
        f"{proof.budgets} budgets, {proof.reservations} reservations, {proof.movements} audit rows"
    )
    if proof.findings:
        raise click.ClickException(f"{len(proof.findings)} contradictions found in {counted}.")
    click.echo(f"Verified: {counted}; every balance is proven.")


@command("backup")
@click.argument("path", metavar="PATH", type=click.Path(path_type=Path))
def backup(path: Path) -> None:
    """Write a backup, one SQLite file whatever the engine, while the service goes on. PATH is a new file, or a folder, where it is named by the time."""
    with progress_line() as say:
        taken = backups.take(path, settings().instance_folder / backups.NOTE, say)
    counted = f"{taken.proof.budgets} budgets, {taken.proof.reservations} reservations, {taken.proof.movements} audit rows"
    if taken.proof.findings:
        raise click.ClickException(
            f"{len(taken.proof.findings)} contradictions found in {counted}: see `flask verify`. The copy is kept as {taken.path}, and cannot be restored."
        )
    done(f"Backed up to {taken.path} ({taken.size:,} bytes): {counted}; every balance is proven.")
    if taken.unnoted:
        click.echo(
            f"Warning: the backup is good, but `flask doctor` will not know of it, since it could not be noted: {taken.unnoted}",
            err=True,
        )


@command("restore")
@click.argument("path", metavar="PATH", type=click.Path(path_type=Path))
@click.option(
    "--without-checksum",
    is_flag=True,
    help="Take a file that `flask backup` did not write: the rest of the proof must do.",
)
def restore(path: Path, without_checksum: bool) -> None:
    """Put a backup in the database's place, once all of it is proven. The service may go on; the replaced database is kept."""
    folder = (
        settings().instance_folder if settings().database_url else settings().database_path.parent
    )
    with progress_line() as say:
        restored = backups.restore(me(), path, folder, say, without_checksum=without_checksum)
    made_by = (
        ""
        if restored.version == database.SCHEMA_VERSION
        else f", upgraded from schema version {restored.version}"
    )
    proof = restored.proof
    lines = [
        f"Restored {path}{made_by}: {proof.budgets} budgets, {proof.reservations} reservations, {proof.movements} audit rows; every balance is proven.",
        f"Its last movement is of {clock.to_text(restored.last_movement)}."
        if restored.last_movement
        else "It has no movements.",
        f"What was there is kept: {restored.kept}"
        if restored.kept
        else "There was no database before.",
        "All sessions were ended: everybody has to sign in again.",
    ]
    if restored.as_they_were is None:
        lines.append(
            "What was there cannot be read: look at every key and person yourself, for who was revoked or disabled since the backup is let in again."
        )
    lines += [
        f"Look at {name}: revoked, disabled or changed since the backup, and now as it was then."
        for name in restored.as_they_were or []
    ]
    done("\n".join(lines))


@command("doctor")
def run_doctor() -> None:
    """Go through the guide's go-live checklist and the installation, checking each line. Exit status 1 where something failed."""
    found = Counter[doctor.State]()
    for finding in doctor.examine(me(), settings(), current_app.config["CREATE_APP"]):
        found[finding.state] += 1
        click.echo(f"{finding.state:<8} {finding.subject}: {finding.seen}")
        if finding.todo:
            click.echo(f"{'':<8}   -> {finding.todo}")
    if found[doctor.State.FAILED]:
        raise click.ClickException(
            f"{found[doctor.State.FAILED]} of {found.total()} checks failed."
        )
    click.echo(
        f"{found[doctor.State.OK]} of {found.total()} are as they should be, {found[doctor.State.WARNING]} have a warning."
    )


@command("copy-to")
@click.argument("url", metavar="URL")
@on_current_schema
def copy_to(url: str) -> None:
    """Copy everything from the SQLite file to an empty, initialised PostgreSQL database, and prove it there. Stop the server first."""
    try:
        target = postgresql_url(url)
    except ValueError as error:
        raise click.ClickException(f"URL {error}.") from None
    if target is None:
        raise click.ClickException("URL must begin with postgresql://.")
    copied = database.copy_to(target)
    database.connect(target)
    try:
        proof = verification.verify()
    finally:
        database.disconnect()
        database.connect(settings().database)
    if proof.findings:
        raise click.ClickException(
            f"Copied, but {len(proof.findings)} contradictions were found there; the first: {proof.findings[0]}"
        )
    done(
        f"Copied {sum(copied.values()):,} rows of {len(copied)} tables; every balance of {proof.budgets} budgets is proven there."
    )


COMMANDS = (init_db, upgrade_db, load_demo, serve, verify, backup, restore, run_doctor, copy_to)
