"""Peewee models of what leaves the service: webhooks, alerts, and their messages."""

from __future__ import annotations

from peewee import BooleanField, CompositeKey, IntegerField, TextField

from budget_sync.database.models import Table, UtcField


class Webhook(Table):
    """An address that is sent the events of a customer."""

    id = TextField(primary_key=True)
    customerId = TextField()
    url = TextField()
    types = TextField(null=True)
    secret = TextField()
    previousSecret = TextField(null=True)
    previousSecretUntil = UtcField(null=True)
    cursor = TextField()
    attempts = IntegerField(default=0)
    failingSince = UtcField(null=True)
    nextAttemptAt = UtcField(null=True)
    lastDeliveredAt = UtcField(null=True)
    pausedAt = UtcField(null=True)
    pauseReason = TextField(null=True)
    createdAt = UtcField()
    removedAt = UtcField(null=True)

    class Meta:
        table_name = "Webhook"


class WebhookAttempt(Table):
    """An attempt to deliver an event."""

    id = IntegerField(primary_key=True)
    webhookId = TextField()
    eventId = TextField()
    eventType = TextField()
    attempt = IntegerField()
    status = IntegerField(null=True)
    error = TextField(null=True)
    durationMs = IntegerField()
    attemptedAt = UtcField()

    class Meta:
        table_name = "WebhookAttempt"


class Alert(Table):
    """Conditions to report to people, and the address for the messages."""

    id = TextField(primary_key=True)
    customerId = TextField()
    url = TextField()
    redactedUrl = TextField()
    conditions = TextField()
    department = TextField(null=True)
    departmentKey = TextField(null=True)
    toOwners = BooleanField()
    digestAt = TextField(null=True)
    cursor = TextField()
    createdAt = UtcField()
    removedAt = UtcField(null=True)

    class Meta:
        table_name = "Alert"


class AlertState(Table):
    """A condition that was reported and has not ended."""

    alertId = TextField()
    condition = TextField()
    subject = TextField()
    reportedAt = UtcField()

    class Meta:
        table_name = "AlertState"
        primary_key = CompositeKey("alertId", "condition", "subject")


class AlertMessage(Table):
    """A message of an alert."""

    id = IntegerField(primary_key=True)
    alertId = TextField()
    recipient = TextField(null=True)
    title = TextField()
    body = TextField()
    createdAt = UtcField()
    dueAt = UtcField()
    attempts = IntegerField(default=0)
    nextAttemptAt = UtcField(null=True)
    error = TextField(null=True)
    sentAt = UtcField(null=True)

    class Meta:
        table_name = "AlertMessage"
