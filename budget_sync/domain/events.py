"""The types of events, and the thresholds of use that are events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum

from budget_sync.domain.balance import Balance

#: The shares of a budget, in percent, whose crossing is an event.
THRESHOLDS = (80, 90, 100)


class EventType(StrEnum):
    """What an event reports. Types are stable; later versions may add types."""

    BUDGET_CREATED = "budget.created"
    BUDGET_UPDATED = "budget.updated"
    BUDGET_DELETED = "budget.deleted"
    BUDGET_REVIVED = "budget.revived"
    BUDGET_OVERDRAWN = "budget.overdrawn"
    BUDGET_THRESHOLD = "budget.threshold"
    BUDGET_SPENT = "budget.spent"
    RESERVATION_CREATED = "reservation.created"
    RESERVATION_APPROVED = "reservation.approved"
    RESERVATION_APPROVED_OVER_BUDGET = "reservation.approved_over_budget"
    RESERVATION_AMENDED = "reservation.amended"
    RESERVATION_MOVED = "reservation.moved"
    RESERVATION_EXTENDED = "reservation.extended"
    RESERVATION_COMMITTED = "reservation.committed"
    RESERVATION_RELEASED = "reservation.released"
    RESERVATION_EXPIRED = "reservation.expired"
    RESERVATION_REVERSED = "reservation.reversed"
    REQUEST_DECLINED = "request.declined"
    SYNC_FINISHED = "sync.finished"
    SYNC_FAILED = "sync.failed"
    SYNC_HELD = "sync.held"


#: The event of each audit action that is one. A release by expiry is RESERVATION_EXPIRED instead.
TYPE_OF_ACTION: Mapping[str, EventType] = {
    "CREATE": EventType.BUDGET_CREATED,
    "UPDATE": EventType.BUDGET_UPDATED,
    "SOFT_DELETE": EventType.BUDGET_DELETED,
    "REVIVE": EventType.BUDGET_REVIVED,
    "SPEND": EventType.BUDGET_SPENT,
    "RESERVE": EventType.RESERVATION_CREATED,
    "APPROVE": EventType.RESERVATION_APPROVED,
    "DECLINE": EventType.REQUEST_DECLINED,
    "OVER_BUDGET": EventType.RESERVATION_APPROVED_OVER_BUDGET,
    "AMEND": EventType.RESERVATION_AMENDED,
    "TRANSFER": EventType.RESERVATION_MOVED,
    "EXTEND": EventType.RESERVATION_EXTENDED,
    "COMMIT": EventType.RESERVATION_COMMITTED,
    "RELEASE": EventType.RESERVATION_RELEASED,
    "REVERSE": EventType.RESERVATION_REVERSED,
}


def is_at(balance: Balance, percent: int) -> bool:
    """Whether at least that share of the budget is reserved or committed.

    Any use of a budget of 0 is 100 percent.
    """
    if balance.used_minor <= 0:
        return False
    return balance.used_minor * 100 >= balance.budgeted_minor * percent


def crossed(before: Balance, after: Balance) -> Iterator[int]:
    """The thresholds that the use of a budget reached with this change, the lowest first."""
    for percent in THRESHOLDS:
        if is_at(after, percent) and not is_at(before, percent):
            yield percent


def became_overdrawn(before: Balance, after: Balance) -> bool:
    """Whether the budget is overdrawn now and was not before."""
    return after.available_minor < 0 <= before.available_minor
