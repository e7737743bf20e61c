"""The command that releases expired reservations."""

from __future__ import annotations

import click

from budget_sync.commands.support import (
    Lines,
    Progress,
    command,
    count_of,
    has_terminal,
    me,
    on_current_schema,
    require_known,
)
from budget_sync.domain import clock
from budget_sync.ledger.expiry import Expired, NotReleasedError, expire_holds
from budget_sync.queries.expiry import expired_holds


def expired_line(expired: Expired) -> str:
    """A reservation that was released, in one line."""
    return (
        f"{expired.customer_id} {expired.budget_id}: released {expired.amount} "
        f"{expired.currency} of request {expired.request_id}"
    )


@command("expire-holds")
@click.option("--customer", "customer_id", metavar="ID", help="Only of this customer.")
@click.option(
    "--dry-run", is_flag=True, help="Print the reservations that have expired and change nothing."
)
@on_current_schema
def expire_reservations(customer_id: str | None, dry_run: bool) -> None:
    """Release the expired reservations.

    `set-customer --hold-days` sets the time. Prints a line for each one. If it is interrupted, run
    it again. `sync-sheets` does the same before it syncs.
    """
    require_known(customer_id)
    lines, progress, count = Lines(), Progress(), 0

    def report(expired: Expired) -> None:
        nonlocal count
        count += 1
        progress.clear()
        line = expired_line(expired)
        lines.print(line.replace(": released ", ": would release ") if dry_run else line)
        if has_terminal():
            progress.say(f"{count:,} reservations")

    problem = ""
    try:
        if dry_run:
            for expired in expired_holds(me(), customer_id, clock.now()):
                report(expired)
        else:
            expire_holds(me(), customer_id, report)
    except NotReleasedError as error:
        problem = f"{error} "
    finally:
        progress.clear()
    found = count_of(count, "expired reservation")
    lines.print(f"{found}. Nothing was changed." if dry_run else f"Released {found}.")
    if lines.trouble:
        problem += (
            f"Some lines could not be printed ({lines.trouble}). The audit log has the releases "
            'by "expiry".'
        )
    if problem:
        raise click.ClickException(problem.strip())


COMMANDS = (expire_reservations,)
