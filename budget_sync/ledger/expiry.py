"""expiry: release expired reservations."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import peewee

from budget_sync.database import transact
from budget_sync.database.models import Customer, Reservation
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import EXPIRY, Action, Actor, require
from budget_sync.ledger import movements, reservations
from budget_sync.ledger.reservations import Closing

log = logging.getLogger(__name__)

#: Reservations that are looked up at once.
BATCH_SIZE = 500


class NotReleasedError(Exception):
    """Reservations could not be released; the text says how many and what to do."""

    def __init__(self, count: int) -> None:
        super().__init__(
            f"{count:,} expired reservation{'s' * (count != 1)} could not be released. The log "
            "says which and why. Run flask verify."
        )


class Expired(NamedTuple):
    """A reservation that was released, with its amount in whole units as text."""

    customer_id: str
    budget_id: str
    request_id: str
    amount: str
    currency: str


class _Due(NamedTuple):
    """An expired reservation."""

    seq: int
    customer_id: str
    budget_id: str
    request_id: str


def expire_holds(
    actor: Actor,
    customer_id: str | None = None,
    report: Callable[[Expired], None] = lambda _: None,
    may_continue: Callable[[], bool] = lambda: True,
) -> int:
    """Release the expired reservations of a customer, or of all; returns how many.

    Each is one transaction, so a run that is interrupted leaves whole movements, and the next run
    continues; so it does if `may_continue` is false. The audit log names "expiry" as the caller.
    Holds of a disabled customer stay until it is enabled. Raises RequestError FORBIDDEN,
    INVALID_CUSTOMER, or an error of `transact`; at the end, NotReleasedError if damaged data kept
    some of the holds from being released.
    """
    movements.require_customer(actor, customer_id)
    require(actor, Action.RELEASE)
    now, count, rejected = clock.to_text(clock.now()), 0, 0
    for due in _due(actor.customer_id or customer_id, now):
        if not may_continue():
            break
        try:
            expired = transact(partial(_expire, due, now))
        except (peewee.IntegrityError, RequestError) as error:
            if isinstance(error, RequestError) and error.code is not Code.BUDGET_NOT_FOUND:
                raise
            # This happens only if the data is damaged. The other holds are still released.
            rejected += 1
            log.error(  # noqa: TRY400  # the traceback of the first one is enough
                "The hold of request %s on %s was not released: %s",
                due.request_id,
                due.budget_id,
                error,
                exc_info=rejected == 1,
            )
            continue
        if expired:
            count += 1
            report(expired)
    if rejected:
        raise NotReleasedError(rejected)
    return count


def _due(customer_id: str | None, now: str) -> Iterator[_Due]:
    """The expired reservations of enabled customers, in the order of their creation."""
    after = 0
    while True:
        query: Any = (
            Reservation.select(
                Reservation.seq, Reservation.customerId, Reservation.budgetId, Reservation.requestId
            )
            .join(Customer, on=(Customer.id == Reservation.customerId))
            .where(
                (Reservation.status == "open")
                & Reservation.expiresAt.is_null(False)
                & (Reservation.expiresAt <= now)
                & (Reservation.seq > after)
                & Customer.disabledAt.is_null()
            )
        )
        if customer_id is not None:
            query = query.where(Reservation.customerId == customer_id)
        rows = list(query.order_by(Reservation.seq).limit(BATCH_SIZE).tuples())
        yield from (_Due(*row) for row in rows)
        if len(rows) < BATCH_SIZE:
            return
        after = rows[-1][0]


def _expire(due: _Due, now: str) -> Expired | None:
    """Release one reservation, unless it was closed or extended since it was looked up."""
    # For one customer, so that the customer may have been disabled since it was looked up.
    actor = replace(EXPIRY, customer_id=due.customer_id)
    budget, reservation = movements.lock_budget(
        actor,
        due.budget_id,
        due.customer_id,
        movements.RESERVATION,
        request_id=due.request_id,
    )
    expires_at = reservations.time_text(reservation.expiresAt) if reservation else None
    if (
        reservation is None
        or reservation.seq != due.seq
        or reservation.status != "open"
        or expires_at is None
        or expires_at > now
    ):
        return None
    held_minor = reservation.heldMinor
    after = reservations.return_money(
        actor, budget, reservation, held_minor, held_minor, f"The hold expired at {expires_at}"
    )
    reply = reservations.settled_reply(
        after, due.request_id, reservation.id, 0, amountReleased=held_minor
    )
    reservations.settle(reservation, after, Closing("expiry", reply), released_minor=held_minor)
    balance = budget.balance
    return Expired(
        due.customer_id,
        budget.id,
        due.request_id,
        balance.text(held_minor),
        balance.currency,
    )
