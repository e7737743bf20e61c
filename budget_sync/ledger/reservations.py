"""Shared by the verbs that change a reservation: its row, returned money, expiry, the replies."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from peewee import fn

from budget_sync.database import Prepared
from budget_sync.database.models import BudgetCheckLog, Customer, Reservation
from budget_sync.domain import clock
from budget_sync.domain.permissions import Actor
from budget_sync.domain.results import Reply
from budget_sync.ledger import movements
from budget_sync.ledger.movements import LedgerBudget, ReservationRef

_CHANGED = (
    "heldMinor",
    "committedMinor",
    "releasedMinor",
    "exceededMinor",
    "adjustedMinor",
    "reversedMinor",
    "version",
    "status",
    "expiresAt",
    "closedAt",
    "closedAfterCheck",
    "closingCall",
    "closingReply",
)
_CHANGE = Prepared(
    lambda value: Reservation.update({column: getattr(value, column) for column in _CHANGED}).where(
        (Reservation.seq == value.seq) & (Reservation.version == value.versionBefore)
    )
)
# On PostgreSQL, concurrent check log rows become visible in any order. A check that was answered
# before the reservation closes is visible here. A check that is sent after that gets a higher id.
# For a check that overlaps, both orders are correct.
_NEWEST_CHECK = Prepared(lambda _: BudgetCheckLog.select(fn.MAX(BudgetCheckLog.id)))
_HOLD_DAYS = Prepared(
    lambda value: Customer.select(Customer.holdDays).where(Customer.id == value.customer_id)
)

_BY_ID = Prepared(
    lambda value: Reservation.select(
        Reservation.status, Reservation.closingCall, Reservation.closingReply
    ).where(Reservation.id == value.id)
)

#: The call of a transfer begins with this, in `closingCall`.
TRANSFER = "transfer:"


class Expiry(NamedTuple):
    """When a hold expires, as text; `at` is None if it never does."""

    at: str | None


class Closing(NamedTuple):
    """The call that closes a reservation, and its reply, for replays."""

    call: str
    reply: Reply


def replay_of(reservation: Any, call: str) -> Reply | None:
    """The reply that closed the reservation if `call` is the call that closed it."""
    if reservation is None or reservation.closingReply is None or reservation.closingCall != call:
        return None
    return Reply(reservation.closingReply, replayed=True)


def moved_to(reservation: Any) -> str | None:
    """The budget to which a reservation was moved, if a move closed it."""
    if reservation is None or not (reservation.closingCall or "").startswith(TRANSFER):
        return None
    budget_id: str = json.loads(reservation.closingReply)["budgetId"]
    return budget_id


def is_still_held(reservation: Any) -> bool:
    """Whether a reservation that a move closed is open on another budget, after any more moves."""
    while reservation and (reservation.closingCall or "").startswith(TRANSFER):
        moved_id = json.loads(reservation.closingReply)["reservationId"]
        reservation = _BY_ID.first(id=moved_id)
    return bool(reservation and reservation.status == "open")


def new_expiry(customer_id: str) -> Expiry:
    """When a hold of that customer expires if it starts now."""
    return Expiry(expires_after(_HOLD_DAYS.scalar(customer_id=customer_id)))


def time_text(stored: Any) -> str | None:
    """A stored time as text. SQLite returns text, PostgreSQL a datetime."""
    return clock.to_text(stored) if isinstance(stored, datetime) else stored


def expires_after(hold_days: int | None) -> str | None:
    """The time that many days from now, as text; None without days."""
    return None if hold_days is None else clock.to_text(clock.now() + timedelta(days=hold_days))


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
        old_minor=held_minor,
        new_minor=held_minor - amount_minor,
        reason=reason,
    )
    return after


def settle(
    reservation: Any,
    after: LedgerBudget,
    closing: Closing | None = None,
    *,
    released_minor: int = 0,
    committed_minor: int = 0,
    exceeded_minor: int = 0,
    adjusted_minor: int = 0,
    reversed_minor: int = 0,
    expiry: Expiry | None = None,
) -> None:
    """Update the reservation's row, if it still has the version with which it was read.

    `after` is the budget after the last movement of the call. A call that may close the reservation
    gives `closing`. A reservation that holds money again is open again. `expiry` replaces the
    stored one.
    """
    held_minor = (
        reservation.heldMinor + adjusted_minor + exceeded_minor - committed_minor - released_minor
    )
    updated = _CHANGE.execute(
        seq=reservation.seq,
        versionBefore=reservation.version,
        heldMinor=held_minor,
        committedMinor=reservation.committedMinor + committed_minor,
        releasedMinor=reservation.releasedMinor + released_minor,
        exceededMinor=reservation.exceededMinor + exceeded_minor,
        adjustedMinor=reservation.adjustedMinor + adjusted_minor,
        reversedMinor=reservation.reversedMinor + reversed_minor,
        version=after.version,
        expiresAt=expiry.at if expiry else reservation.expiresAt,
        **_state(reservation, held_minor, closing),
    )
    if updated != 1:
        raise RuntimeError(
            f"reservation {reservation.id} changed between read and update in one transaction"
        )


def _state(reservation: Any, held_minor: int, closing: Closing | None) -> dict[str, object]:
    """The status with its columns, after a call that leaves that amount held."""
    names = ("status", "closedAt", "closedAfterCheck", "closingCall", "closingReply")
    if held_minor:
        values: tuple[object, ...] = ("open", None, None, None, None)
    elif reservation.status == "closed":
        values = tuple(getattr(reservation, name) for name in names)
    elif closing:
        newest_check = _NEWEST_CHECK.scalar() or 0
        now = clock.to_text(clock.now())
        values = ("closed", now, newest_check, closing.call, closing.reply.text)
    else:
        raise RuntimeError(f"this call cannot close reservation {reservation.id}")
    return dict(zip(names, values, strict=True))


def settled_reply(
    budget: LedgerBudget,
    request_id: str,
    reservation_id: str | None,
    held_minor: int,
    *,
    available_minor: int | None = None,
    **amounts_minor: int,
) -> Reply:
    """The reply to a commit or release. `amounts_minor` are its amounts by their JSON names.

    `available_minor` is what the budget has available now, if it is left out.
    """
    balance = budget.balance
    available_minor = balance.available_minor if available_minor is None else available_minor
    return Reply.of(
        {
            "success": True,
            **{name: balance.number(minor) for name, minor in amounts_minor.items()},
            "newAvailable": balance.number(available_minor),
            "budgetId": budget.id,
            "requestId": request_id,
            "reservationId": reservation_id,
            "amountHeld": balance.number(held_minor),
        }
    )
