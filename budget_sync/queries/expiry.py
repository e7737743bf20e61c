"""Expired reservations, for commands and the doctor."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from peewee import fn

from budget_sync.database.models import Budget, Customer, Reservation
from budget_sync.domain.money import to_text
from budget_sync.domain.permissions import Action, Actor, require
from budget_sync.ledger.expiry import Expired

#: Reservations that are read at once.
BATCH_SIZE = 500


class Overdue(NamedTuple):
    """The open reservations that expired before some time: how many, and the oldest such time."""

    holds: int
    since: datetime | None


def expired_holds(actor: Actor, customer_id: str | None, before: datetime) -> Iterator[Expired]:
    """The open reservations of enabled customers that have expired, the oldest first.

    Raises RequestError FORBIDDEN.
    """
    require(actor, Action.READ_REQUESTS)
    after = 0
    while True:
        query: Any = (
            Reservation.select(
                Reservation.seq,
                Reservation.customerId,
                Reservation.budgetId,
                Reservation.requestId,
                Reservation.heldMinor,
                Reservation.currencyExponent,
                Budget.currency,
            )
            .join(Budget, on=(Budget.id == Reservation.budgetId))
            .where(_is_expired(before) & (Reservation.seq > after))
        )
        if customer_id is not None:
            query = query.where(Reservation.customerId == customer_id)
        rows = list(query.order_by(Reservation.seq).limit(BATCH_SIZE).tuples())
        for _, customer, budget_id, request_id, held_minor, exponent, currency in rows:
            yield Expired(customer, budget_id, request_id, to_text(held_minor, exponent), currency)
        if len(rows) < BATCH_SIZE:
            return
        after = rows[-1][0]


def overdue(before: datetime) -> Overdue:
    """The open reservations of all enabled customers that expired before that time."""
    query: Any = Reservation.select(fn.COUNT(Reservation.seq), fn.MIN(Reservation.expiresAt)).where(
        _is_expired(before)
    )
    holds, since = query.tuples().first()
    return Overdue(holds, Reservation.expiresAt.python_value(since))


def has_hold_days() -> bool:
    """Whether reservations of any enabled customer expire."""
    return (
        Customer.select()
        .where(Customer.holdDays.is_null(False) & Customer.disabledAt.is_null())
        .exists()
    )


def _is_expired(before: datetime) -> Any:
    enabled = Customer.select(Customer.id).where(Customer.disabledAt.is_null())
    return (
        (Reservation.status == "open")
        & Reservation.expiresAt.is_null(False)
        & (Reservation.expiresAt <= before)
        & Reservation.customerId.in_(enabled)
    )
