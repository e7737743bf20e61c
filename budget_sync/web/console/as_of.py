"""The day that a page shows: today, or a past day with `?asOf=2026-10-31`."""

from __future__ import annotations

from budget_sync.queries.as_of import PastDay, parse_past_day, today_of
from budget_sync.web.console import formats
from budget_sync.web.console.base import argument, viewer


def chosen_day(name: str = "asOf") -> PastDay | None:
    """The past day that is asked for, in the customer's time zone; None for today or no day.

    Raises RequestError INVALID_REQUEST if it is not a day or in the future.
    """
    text, customer = argument(name), viewer().customer
    if not text:
        return None
    day = parse_past_day(text, name, customer)
    return None if day.day == today_of(customer) else day


def as_of_column(day: PastDay | None) -> tuple[str, str]:
    """The heading and the value of the column of an export that says when its figures held."""
    customer = viewer().customer
    shown = day.day.isoformat() if day else formats.local_now(customer.timeZone)
    return f"As of ({customer.timeZone})", shown
