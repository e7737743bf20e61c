"""Shared by commit and release: the reservation's row, returned money, and the reply."""

from __future__ import annotations

from typing import Any

from peewee import fn

from budget_sync.database import Prepared
from budget_sync.database.models import BudgetCheckLog, Reservation
from budget_sync.domain import clock
from budget_sync.domain.permissions import Actor
from budget_sync.domain.results import Reply
from budget_sync.ledger import movements
from budget_sync.ledger.movements import LedgerBudget, ReservationRef

_SETTLED = (
    "heldMinor",
    "committedMinor",
    "releasedMinor",
    "exceededMinor",
    "status",
    "closedAt",
    "closedAfterCheck",
    "closingCall",
    "closingReply",
)
_SETTLE = Prepared(
    lambda value: Reservation.update({column: getattr(value, column) for column in _SETTLED}).where(
        (Reservation.seq == value.seq)
        & (Reservation.status == "open")
        & (Reservation.heldMinor == value.heldBefore)
    )
)
# On PostgreSQL, concurrent check log rows become visible in any order. A check that was answered
# before the reservation closes is visible here. A check that is sent after that gets a higher id.
# For a check that overlaps, both orders are correct.
_NEWEST_CHECK = Prepared(lambda _: BudgetCheckLog.select(fn.MAX(BudgetCheckLog.id)))


def replay_of(reservation: Any, call: str) -> Reply | None:
    """The reply that closed the reservation if `call` is the call that closed it."""
    if reservation is None or reservation.closingReply is None or reservation.closingCall != call:
        return None
    return Reply(reservation.closingReply, replayed=True)


def return_money(
    actor: Actor,
    budget: LedgerBudget,
    reservation: Any,
    held_minor: int,
    amount_minor: int,
    reason: str,
) -> LedgerBudget:
    """Lower the budget's reserved amount and record a RELEASE; returns the new budget.

    `held_minor` is the amount that the reservation holds before.
    """
    after = movements.move_always(budget, reserved_minor=-amount_minor)
    movements.record_movement(
        actor,
        "RELEASE",
        budget,
        after,
        ReservationRef.of(reservation),
        held_before_minor=held_minor,
        held_after_minor=held_minor - amount_minor,
        reason=reason,
    )
    return after


def settle(
    reservation: Any,
    *,
    call: str,
    reply: Reply,
    released_minor: int,
    committed_minor: int = 0,
    exceeded_minor: int = 0,
) -> None:
    """Update the reservation's row: compare-and-set on the amount that it held when it was read."""
    held_minor = reservation.heldMinor + exceeded_minor - committed_minor - released_minor
    closes = held_minor == 0
    updated = _SETTLE.execute(
        seq=reservation.seq,
        heldBefore=reservation.heldMinor,
        heldMinor=held_minor,
        committedMinor=reservation.committedMinor + committed_minor,
        releasedMinor=reservation.releasedMinor + released_minor,
        exceededMinor=reservation.exceededMinor + exceeded_minor,
        status="closed" if closes else "open",
        closedAt=clock.to_text(clock.now()) if closes else None,
        closedAfterCheck=(_NEWEST_CHECK.scalar() or 0) if closes else None,
        closingCall=call if closes else None,
        closingReply=reply.text if closes else None,
    )
    if updated != 1:
        raise RuntimeError(
            f"reservation {reservation.id} changed between read and update in one transaction"
        )


def settled_reply(
    after: LedgerBudget, reservation: Any, held_minor: int, **amounts_minor: int
) -> Reply:
    """The reply to a commit or release. `amounts_minor` are its amounts by their JSON names."""
    balance = after.balance
    return Reply.of(
        {
            "success": True,
            **{name: balance.number(minor) for name, minor in amounts_minor.items()},
            "newAvailable": balance.number(balance.available_minor),
            "budgetId": after.id,
            "requestId": reservation.requestId,
            "reservationId": reservation.id,
            "amountHeld": balance.number(held_minor),
        }
    )
