"""(b) The baseline: a reserve as most people would write it with Flask and Peewee.

It is correct and durable, like the product: WAL, synchronous FULL, BEGIN IMMEDIATE, a guarded
UPDATE, an audit row. Each request has a connection and a transaction, as in the documentation of
Peewee and Flask. The tables are a simple equivalent of the product's.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from datetime import UTC, datetime
from typing import Any

import peewee
from flask import Flask, jsonify, request

db = peewee.SqliteDatabase(None)


class Table(peewee.Model):
    """The base of all tables."""

    class Meta:
        database = db


class ApiKey(Table):
    """A caller's credential, hashed."""

    secret_hash = peewee.CharField(unique=True)
    name = peewee.CharField()


class Budget(Table):
    """The amount that a department may spend, and the reserved part of it, in cents."""

    id = peewee.CharField(primary_key=True)
    budgeted = peewee.BigIntegerField()
    reserved = peewee.BigIntegerField(default=0)


class Reservation(Table):
    """Money set aside for a request."""

    reservation_id = peewee.CharField(unique=True)
    budget = peewee.ForeignKeyField(Budget)
    request_id = peewee.CharField()
    amount = peewee.BigIntegerField()
    status = peewee.CharField()
    created_at = peewee.DateTimeField()

    class Meta:
        indexes = ((("budget", "request_id"), True),)


class AuditLog(Table):
    """One row for each change."""

    budget = peewee.ForeignKeyField(Budget)
    request_id = peewee.CharField()
    action = peewee.CharField()
    amount = peewee.BigIntegerField()
    changed_by = peewee.CharField()
    reason = peewee.CharField(null=True)
    created_at = peewee.DateTimeField()


def connect(path: str) -> None:
    """Choose the database file."""
    db.init(
        path, pragmas={"journal_mode": "wal", "synchronous": "full", "foreign_keys": 1}, timeout=5
    )


def create(path: str, key: str, budgets: int) -> None:
    """Create a database with that many budgets and one API key."""
    connect(path)
    with db:
        db.create_tables([ApiKey, Budget, Reservation, AuditLog])
        ApiKey.create(secret_hash=_hash(key), name="bench")
        with db.atomic():
            for number in range(budgets):
                Budget.create(id=f"budget-{number}", budgeted=10**13)


def create_app() -> Flask:
    """The app, on the database file in the variable PLAIN_DATABASE."""
    app = Flask("plain")
    connect(os.environ["PLAIN_DATABASE"])

    @app.before_request
    def open_connection() -> None:
        db.connect(reuse_if_open=True)

    @app.teardown_request
    def close_connection(error: BaseException | None) -> None:
        if not db.is_closed():
            db.close()

    @app.post("/api/budget/reserve")
    def reserve() -> Any:
        key = ApiKey.get_or_none(
            ApiKey.secret_hash
            == _hash(request.headers.get("Authorization", "").removeprefix("Bearer "))
        )
        if key is None:
            return jsonify(success=False, error="Authentication required"), 401
        body = request.get_json()
        amount = round(body["amount"] * 100)
        with db.atomic("IMMEDIATE"):
            budget = Budget.get_or_none(Budget.id == body["budgetId"])
            if budget is None:
                return jsonify(success=False, error="Budget not found"), 404
            if Reservation.get_or_none(
                (Reservation.budget == budget) & (Reservation.request_id == body["requestId"])
            ):
                return jsonify(success=False, error="Reserved already"), 409
            room = Budget.budgeted - Budget.reserved >= amount
            if (
                Budget.update(reserved=Budget.reserved + amount)
                .where((Budget.id == budget.id) & room)
                .execute()
                != 1
            ):
                return jsonify(success=False, error="Insufficient budget"), 409
            now = datetime.now(UTC)
            reservation = Reservation.create(
                reservation_id=secrets.token_hex(12),
                budget=budget,
                request_id=body["requestId"],
                amount=amount,
                status="open",
                created_at=now,
            )
            AuditLog.create(
                budget=budget,
                request_id=body["requestId"],
                action="RESERVE",
                amount=amount,
                changed_by=key.name,
                reason=body.get("reason"),
                created_at=now,
            )
        return jsonify(
            success=True,
            reservationId=reservation.reservation_id,
            budgetId=budget.id,
            requestId=body["requestId"],
            amountReserved=amount / 100,
            newAvailable=(budget.budgeted - budget.reserved - amount) / 100,
        )

    @app.get("/readyz")
    def ready() -> dict[str, object]:
        return {"status": "ready", "budgets": Budget.select().count()}

    return app


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
