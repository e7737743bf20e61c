"""Checks that messages of alerts are accepted, and that they can have links."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from budget_sync.alerts.collect import active_alerts
from budget_sync.database.delivery_models import AlertMessage
from budget_sync.domain import clock
from budget_sync.operations.doctor.findings import Finding, ok, warning
from budget_sync.settings import Settings

#: A message that waits for longer is reported.
WAITS_FOR_LONG = timedelta(hours=1)


def alerts(settings: Settings) -> Iterator[Finding]:
    """Report alerts whose messages wait for more than an hour, and a missing PUBLIC_URL."""
    found = active_alerts()
    if not found:
        return
    troubles = [finding for alert in found for finding in _trouble(alert)]
    yield from troubles
    if settings.public_url is None:
        yield warning(
            "Links in alerts",
            "PUBLIC_URL is not set: messages have no links",
            "set it to the address of the service, such as https://budgets.example.com",
        )
    if not troubles:
        yield ok("Alerts", f"{len(found)} have no message that waits for more than an hour")


def _trouble(alert: Any) -> Iterator[Finding]:
    query = AlertMessage.select().where(
        AlertMessage.alertId == alert.id,
        AlertMessage.sentAt.is_null(),
        AlertMessage.dueAt < clock.now() - WAITS_FOR_LONG,
    )
    first: AlertMessage | None = query.order_by(AlertMessage.dueAt, AlertMessage.id).first()
    if first is None:
        return
    seen = f"a message waits since {clock.to_text(first.dueAt)}"
    if first.attempts:
        seen += f", after {first.attempts:,} attempts. {first.error or 'The last one was stopped.'}"
        todo = f"correct the address or the server, then `flask test-alert {alert.id}`"
    else:
        todo = "start budget-sync-deliver.service, or run `flask deliver --once` every minute"
    yield warning(f"Alert {alert.id} of {alert.customerId}", seen, todo)
