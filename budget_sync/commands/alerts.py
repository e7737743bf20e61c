"""Commands for alerts."""

from __future__ import annotations

import click

from budget_sync.alerts import manage
from budget_sync.commands.support import (
    command,
    done,
    me,
    on_current_schema,
    require_known,
    settings,
    show_table,
)


@command("add-alert")
@click.option("--customer", "customer_id", required=True, metavar="ID", help="For this customer.")
@click.option(
    "--to",
    "url",
    required=True,
    metavar="URL",
    help="Where to send: an address of Apprise, such as mailtos://… or slack://….",
)
@click.option(
    "--on",
    "conditions",
    required=True,
    metavar="CONDITIONS",
    help="threshold:80, overdrawn, sync-failed, held, stale-hold:14d or webhook-paused, separated "
    "by commas.",
)
@click.option("--department", metavar="NAME", help="Only about the budgets of this department.")
@click.option(
    "--owners",
    "to_owners",
    is_flag=True,
    help="Send messages about a budget to its owner, if it has one, through this mail server.",
)
@click.option(
    "--digest",
    "digest_at",
    metavar="HH:MM",
    help="Send one message a day at this time, in the customer's time zone.",
)
@on_current_schema
def add_alert(
    customer_id: str,
    url: str,
    conditions: str,
    department: str | None,
    to_owners: bool,
    digest_at: str | None,
) -> None:
    """Tell people when a condition begins, from now on.

    The address cannot be shown again, because it has a password or a token.
    """
    added = manage.add_alert(
        me(),
        customer_id,
        url,
        conditions,
        department=department,
        to_owners=to_owners,
        digest_at=digest_at,
        private_networks=settings().webhook_private_networks,
    )
    done(f"Alert: {added.id}\nTo: {added.redactedUrl}")


@command("list-alerts")
@click.option("--customer", "customer_id", metavar="ID", help="Only of this customer.")
@on_current_schema
def list_alerts(customer_id: str | None) -> None:
    """Show the alerts without their passwords."""
    require_known(customer_id)
    waiting = manage.waiting_counts(me(), customer_id)
    show_table(
        ("id", "customer", "to", "on", "department", "owners", "digest", "waiting"),
        [
            (
                row.id,
                row.customerId,
                row.redactedUrl,
                row.conditions,
                row.department or "all",
                "yes" if row.toOwners else "no",
                row.digestAt or "no",
                str(waiting.get(row.id, 0)),
            )
            for row in manage.list_alerts(me(), customer_id)
        ],
        "There are no alerts yet. Create one with `flask add-alert`.",
    )


@command("test-alert")
@click.argument("alert_id", metavar="ID")
@on_current_schema
def test_alert(alert_id: str) -> None:
    """Send a test message now. Exit status 1 if it was not accepted."""
    chosen = settings()
    error = manage.send_test(
        me(),
        alert_id,
        public_url=chosen.public_url,
        private_networks=chosen.webhook_private_networks,
    )
    if error is not None:
        raise click.ClickException(manage.test_sentence(error))
    done(manage.test_sentence(error))


@command("remove-alert")
@click.argument("alert_id", metavar="ID")
@on_current_schema
def remove_alert(alert_id: str) -> None:
    """Remove an alert and its messages. `flask list-alerts` shows the IDs."""
    manage.remove_alert(me(), alert_id)
    done(f"Removed alert {alert_id}.")


COMMANDS = (add_alert, list_alerts, test_alert, remove_alert)
