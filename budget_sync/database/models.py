"""Peewee models of the tables in `schema.sql`: fields only.

Constraints and indexes are in `schema.sql`. Columns that the database generates are read-only and
have no field here.
"""

from __future__ import annotations

from datetime import UTC, datetime

from peewee import (
    BigIntegerField,
    BooleanField,
    CompositeKey,
    DateField,
    Field,
    IntegerField,
    Model,
    TextField,
)

from budget_sync.database.connection import db
from budget_sync.domain import clock


class UtcField(Field):
    """A UTC time: an aware datetime in Python, `2025-02-05T10:30:00Z` in SQLite."""

    field_type = "TIMESTAMPTZ"

    def db_value(self, value: datetime | str | None) -> str | None:
        """The text to store in the database."""
        return clock.to_text(value) if isinstance(value, datetime) else value

    def python_value(self, value: datetime | str | None) -> datetime | None:
        """The stored time as an aware datetime in UTC."""
        if value is None or isinstance(value, datetime):
            return value and value.astimezone(UTC)
        return clock.from_text(value)


class BytesField(Field):
    """Bytes: a BLOB in SQLite, a bytea in PostgreSQL."""

    field_type = "BYTEA"

    def python_value(self, value: bytes | memoryview) -> bytes:
        """The stored value as bytes."""
        return bytes(value)


class Table(Model):
    """Base class of all models."""

    class Meta:
        database = db
        legacy_table_names = False


class Customer(Table):
    """The tenant."""

    id = TextField(primary_key=True)
    name = TextField()
    currency = TextField()
    currencyExponent = IntegerField()
    autoApproveLimitMinor = BigIntegerField(null=True)
    timeZone = TextField()
    fiscalYearStartMonth = IntegerField()
    fiscalYearNamedBy = TextField(default="end")
    invoiceToleranceBasisPoints = IntegerField(default=1000)
    invoiceToleranceMinor = BigIntegerField(null=True)
    holdDays = IntegerField(null=True)
    employeesSee = TextField(default="all")
    isTest = BooleanField(default=False)
    createdAt = UtcField()
    disabledAt = UtcField(null=True)

    class Meta:
        table_name = "Customer"


class User(Table):
    """A person."""

    id = TextField(primary_key=True)
    customerId = TextField(null=True)
    name = TextField()
    email = TextField()
    emailKey = TextField()
    role = TextField()
    passwordHash = TextField(null=True)
    createdAt = UtcField()
    disabledAt = UtcField(null=True)
    lastLoginAt = UtcField(null=True)
    provider = TextField(null=True)
    subject = TextField(null=True)

    class Meta:
        table_name = "User"


class Session(Table):
    """A signed-in browser or client."""

    tokenHash = TextField(primary_key=True)
    userId = TextField()
    createdAt = UtcField()
    expiresAt = UtcField()

    class Meta:
        table_name = "Session"


class LoginAttempt(Table):
    """A login that failed or has not succeeded yet."""

    id = IntegerField(primary_key=True)
    account = TextField()
    network = TextField()
    attemptedAt = BigIntegerField()

    class Meta:
        table_name = "LoginAttempt"


class ApiKey(Table):
    """A service's key."""

    id = TextField(primary_key=True)
    customerId = TextField(null=True)
    name = TextField()
    secretHash = TextField()
    mayOverspend = BooleanField()
    createdAt = UtcField()
    revokedAt = UtcField(null=True)
    lastUsedAt = UtcField(null=True)
    scopes = TextField(null=True)
    expiresAt = UtcField(null=True)

    class Meta:
        table_name = "ApiKey"


class BudgetDataSourceConfig(Table):
    """A source of budgets."""

    id = TextField(primary_key=True)
    customerId = TextField()
    sourceType = TextField()
    spreadsheetKey = TextField(null=True)
    worksheet = TextField(null=True)
    worksheetGid = BigIntegerField(null=True)
    title = TextField(null=True)
    csvPath = TextField(null=True)
    reading = TextField(null=True)
    readingConfirmedBy = TextField(null=True)
    readingConfirmedAt = UtcField(null=True)
    readingFacts = TextField(null=True)
    isActive = BooleanField()
    createdAt = UtcField()
    removedAt = UtcField(null=True)

    class Meta:
        table_name = "BudgetDataSourceConfig"


class SourceFile(Table):
    """A file that was uploaded for a source."""

    sourceId = TextField()
    customerId = TextField()
    state = TextField()
    name = TextField()
    content = BytesField()
    uploadedBy = TextField()
    uploadedAt = UtcField()

    class Meta:
        table_name = "SourceFile"
        primary_key = CompositeKey("sourceId", "state")


class Budget(Table):
    """The amount that a department may spend in a fiscal period."""

    id = TextField(primary_key=True)
    customerId = TextField()
    sourceId = TextField(null=True)
    externalId = TextField(null=True)
    sourceRow = IntegerField(null=True)
    department = TextField()
    departmentKey = TextField()
    fiscalPeriod = TextField()
    periodKey = TextField()
    currency = TextField()
    currencyExponent = IntegerField()
    budgetedMinor = BigIntegerField()
    autoApproveLimitMinor = BigIntegerField(null=True)
    ownerEmail = TextField(null=True)
    createdAt = UtcField()
    updatedAt = UtcField()
    deletedAt = UtcField(null=True)

    class Meta:
        table_name = "Budget"


class DepartmentAlias(Table):
    """Another name of a department."""

    customerId = TextField()
    nameKey = TextField()
    name = TextField()
    department = TextField()
    departmentKey = TextField()
    createdBy = TextField()
    createdAt = UtcField()

    class Meta:
        table_name = "DepartmentAlias"
        primary_key = CompositeKey("customerId", "nameKey")


class BudgetUtilization(Table):
    """The reserved and committed amounts of a budget."""

    budgetId = TextField(primary_key=True)
    customerId = TextField()
    currencyExponent = IntegerField()
    reservedMinor = BigIntegerField(default=0)
    committedMinor = BigIntegerField(default=0)
    version = BigIntegerField(default=0)

    class Meta:
        table_name = "BudgetUtilization"


class Reservation(Table):
    """Money set aside on one budget for one request."""

    seq = IntegerField(primary_key=True)
    id = TextField()
    customerId = TextField()
    budgetId = TextField()
    requestId = TextField()
    requesterId = TextField()
    requesterName = TextField()
    requesterEmail = TextField()
    currencyExponent = IntegerField()
    amountMinor = BigIntegerField()
    heldMinor = BigIntegerField()
    committedMinor = BigIntegerField(default=0)
    releasedMinor = BigIntegerField(default=0)
    exceededMinor = BigIntegerField(default=0)
    adjustedMinor = BigIntegerField(default=0)
    reversedMinor = BigIntegerField(default=0)
    approvedMinor = BigIntegerField(null=True)
    approvedAfterCheck = BigIntegerField(null=True)
    version = BigIntegerField()
    status = TextField()
    createdAt = UtcField()
    expiresAt = UtcField(null=True)
    closedAt = UtcField(null=True)
    closedAfterCheck = BigIntegerField(null=True)
    reserveReply = TextField()
    closingCall = TextField(null=True)
    closingReply = TextField(null=True)

    class Meta:
        table_name = "Reservation"


class Spend(Table):
    """Money that was spent without a reservation."""

    seq = IntegerField(primary_key=True)
    customerId = TextField()
    budgetId = TextField()
    spendId = TextField()
    currencyExponent = IntegerField()
    amountMinor = BigIntegerField()
    reversedMinor = BigIntegerField(default=0)
    version = BigIntegerField()
    spentOn = DateField()
    vendor = TextField(null=True)
    reason = TextField()
    externalRef = TextField(null=True)
    recordedBy = TextField()
    createdAt = UtcField()
    reply = TextField()

    class Meta:
        table_name = "Spend"


class StoredReply(Table):
    """A reply stored under an Idempotency-Key."""

    customerId = TextField()
    principal = TextField()
    call = TextField()
    idempotencyKey = TextField()
    bodyHash = TextField()
    reply = TextField()
    createdAt = UtcField()

    class Meta:
        table_name = "StoredReply"
        primary_key = CompositeKey("customerId", "principal", "call", "idempotencyKey")


class BudgetCheckLog(Table):
    """A logged check and its answer."""

    id = IntegerField(primary_key=True)
    checkId = TextField()
    customerId = TextField()
    requestId = TextField()
    userId = TextField()
    userName = TextField()
    userEmail = TextField()
    checkedBy = TextField(null=True)
    department = TextField()
    fiscalPeriod = TextField()
    currency = TextField()
    currencyExponent = IntegerField()
    amountMinor = BigIntegerField()
    vendor = TextField(null=True)
    purpose = TextField(null=True)
    budgetId = TextField(null=True)
    available = BooleanField()
    canAutoApprove = BooleanField()
    code = TextField()
    reason = TextField()
    response = TextField()
    durationMs = IntegerField()
    timestamp = UtcField()

    class Meta:
        table_name = "BudgetCheckLog"


class AuditAction(Table):
    """An action that the audit log can record."""

    action = TextField(primary_key=True)

    class Meta:
        table_name = "AuditAction"


class AuditLog(Table):
    """A movement of money, or a change of a budget, a person, a key or a source."""

    id = IntegerField(primary_key=True)
    customerId = TextField(null=True)
    budgetId = TextField(null=True)
    version = BigIntegerField(null=True)
    action = TextField()
    field = TextField(null=True)
    subject = TextField(null=True)
    requestId = TextField(null=True)
    reservationId = TextField(null=True)
    oldValue = TextField(null=True)
    newValue = TextField(null=True)
    budgetedDeltaMinor = BigIntegerField(default=0)
    reservedDeltaMinor = BigIntegerField(default=0)
    committedDeltaMinor = BigIntegerField(default=0)
    budgetedMinor = BigIntegerField(null=True)
    reservedMinor = BigIntegerField(null=True)
    committedMinor = BigIntegerField(null=True)
    principal = TextField()
    changedBy = TextField()
    onBehalfOf = TextField(null=True)
    approvedBy = TextField(null=True)
    reason = TextField(null=True)
    externalRef = TextField(null=True)
    transferId = TextField(null=True)
    afterCheck = BigIntegerField(null=True)
    createdAt = UtcField()

    class Meta:
        table_name = "AuditLog"


class SyncHistory(Table):
    """One sync run of one source."""

    id = IntegerField(primary_key=True)
    syncId = TextField()
    customerId = TextField()
    sourceId = TextField()
    status = TextField()
    createdCount = IntegerField(default=0)
    updatedCount = IntegerField(default=0)
    unchangedCount = IntegerField(default=0)
    softDeletedCount = IntegerField(default=0)
    revivedCount = IntegerField(default=0)
    heldCount = IntegerField(default=0)
    errorCount = IntegerField(default=0)
    overdrawnCount = IntegerField(default=0)
    message = TextField(null=True)
    errors = TextField(default="[]")
    held = TextField(default="[]")
    notes = TextField(default="[]")
    skippedRows = TextField(default="{}")
    facts = TextField(null=True)
    startedBy = TextField()
    durationMs = IntegerField()
    startTime = UtcField()
    endTime = UtcField()

    class Meta:
        table_name = "SyncHistory"


class HoldAnswer(Table):
    """A person's answer to a held change."""

    id = IntegerField(primary_key=True)
    customerId = TextField()
    sourceId = TextField()
    kind = TextField()
    answer = TextField()
    budgetId = TextField(null=True)
    newDepartmentKey = TextField(null=True)
    newPeriodKey = TextField(null=True)
    currency = TextField()
    currencyExponent = IntegerField()
    newMinor = BigIntegerField(null=True)
    answeredBy = TextField()
    answeredAt = UtcField()
    outcome = TextField(null=True)
    closedBySyncId = TextField(null=True)
    closedAt = UtcField(null=True)

    class Meta:
        table_name = "HoldAnswer"
