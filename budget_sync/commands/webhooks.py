"""Commands for webhooks."""

from __future__ import annotations

from datetime import timedelta

import click

from budget_sync.commands.keys import Duration
from budget_sync.commands.support import (
    command,
    done,
    me,
    on_current_schema,
    require_known,
    settings,
    show_table,
)
from budget_sync.delivery import webhooks
from budget_sync.domain import clock
from budget_sync.queries.events import parse_types


@command("add-webhook")
@click.option("--customer", "customer_id", required=True, metavar="ID", help="For this customer.")
@click.option("--url", required=True, help="Where to send the events: an https address.")
@click.option(
    "--types",
    metavar="NAMES",
    help="The types of events to send, separated by commas. [default: all]",
)
@on_current_schema
def add_webhook(customer_id: str, url: str, types: str | None) -> None:
    """Send the events of a customer to an address, from now on.

    Prints the webhook's ID, and the secret that verifies its signatures. The secret cannot be shown
    again.
    """
    added = webhooks.add_webhook(
        me(),
        customer_id,
        url,
        None if types is None else parse_types(types),
        private_networks=settings().webhook_private_networks,
    )
    done(
        f"Webhook: {added.id}\nSecret: {added.secret}",
        instead=f"rotate the secret, which was not shown, with `flask rotate-webhook {added.id}`.",
    )


@command("list-webhooks")
@click.option("--customer", "customer_id", metavar="ID", help="Only of this customer.")
@on_current_schema
def list_webhooks(customer_id: str | None) -> None:
    """Show the webhooks without their secrets."""
    require_known(customer_id)
    show_table(
        ("id", "customer", "url", "types", "last delivery", "cursor", "state"),
        [
            (
                row.id,
                row.customerId,
                row.url,
                row.types or "all",
                clock.to_text(row.lastDeliveredAt) if row.lastDeliveredAt else "never",
                row.cursor,
                webhooks.state_sentence(row),
            )
            for row in webhooks.list_webhooks(me(), customer_id)
        ],
        "There are no webhooks yet. Create one with `flask add-webhook`.",
    )


@command("rotate-webhook")
@click.argument("webhook_id", metavar="ID")
@click.option(
    "--overlap",
    type=Duration(),
    default="24h",
    show_default=True,
    metavar="TIME",
    help="How long the earlier secret signs, too, for example 7d; 0h ends it at once.",
)
@on_current_schema
def rotate_webhook(webhook_id: str, overlap: timedelta) -> None:
    """Replace the secret of a webhook, and print the new one. It cannot be shown again."""
    secret = webhooks.rotate_secret(me(), webhook_id, overlap)
    done(
        f"Secret: {secret}",
        instead=f"rotate again with `flask rotate-webhook {webhook_id}`: the secret was not shown.",
    )


@command("test-webhook")
@click.argument("webhook_id", metavar="ID")
@on_current_schema
def test_webhook(webhook_id: str) -> None:
    """Send an event of the type webhook.test now. Exit status 1 if it was not delivered."""
    answer = webhooks.send_test(
        me(), webhook_id, private_networks=settings().webhook_private_networks
    )
    text = webhooks.test_sentence(answer)
    if answer.error is not None:
        raise click.ClickException(text)
    done(text)


@command("resume-webhook")
@click.argument("webhook_id", metavar="ID")
@click.option(
    "--from",
    "from_cursor",
    metavar="CURSOR",
    help="Continue after this cursor of the events, or after the `latest` event.",
)
@on_current_schema
def resume_webhook(webhook_id: str, from_cursor: str | None) -> None:
    """Continue a paused webhook, or one that waits for its next attempt.

    Without --from, it continues with the event that failed, so that none is missing.
    """
    webhook = webhooks.resume_webhook(me(), webhook_id, from_cursor)
    done(f"Resumed webhook {webhook_id} from cursor {webhook.cursor}.")


@command("remove-webhook")
@click.argument("webhook_id", metavar="ID")
@on_current_schema
def remove_webhook(webhook_id: str) -> None:
    """Remove a webhook and its secret. `flask list-webhooks` shows the IDs."""
    webhooks.remove_webhook(me(), webhook_id)
    done(f"Removed webhook {webhook_id}.")


COMMANDS = (
    add_webhook,
    list_webhooks,
    rotate_webhook,
    test_webhook,
    resume_webhook,
    remove_webhook,
)
