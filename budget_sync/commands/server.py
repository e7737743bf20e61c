"""The command that runs the production server."""

from __future__ import annotations

import functools
import socket

import click
from flask import current_app

from budget_sync import database
from budget_sync.accounts import passwords
from budget_sync.commands.support import command, on_current_schema, settings
from budget_sync.operations import startup


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
    help="Skip the check of the database. It may be damaged, and its balances may be wrong.",
)
@on_current_schema
def serve(host: str, port: int, workers: int, unproven: bool) -> None:
    """Run the production server.

    SIGTERM stops it after it has answered the requests in progress.
    """
    _require_free(host, port)
    database.require_writable()
    passwords.require_slots(settings().instance_folder)
    for misspelling in settings().misspellings:
        current_app.logger.warning(misspelling.sentence)
    if not unproven:
        startup.require_sound_start()
    # Each worker opens its own connections: a connection must not cross a fork.
    database.disconnect()
    # Imported here because no other command needs gunicorn.
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


COMMANDS = (serve,)
