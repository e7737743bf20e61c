"""The time of the daily digest in the customer's time zone. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from budget_sync.domain.errors import invalid_request

_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])", re.ASCII)


def parse_time(text: str) -> str:
    """A time of day such as 08:00. Raises RequestError INVALID_REQUEST."""
    if not _TIME.fullmatch(text):
        raise invalid_request(
            {"digest": "must be a time of day from 00:00 to 23:59, such as 08:00"}
        )
    return text


def next_digest(at: str, zone: ZoneInfo, after: datetime) -> datetime:
    """The first digest after a moment, in UTC.

    On the day when clocks skip the time of the digest, it comes an hour later on the clock. On the
    day when they show it twice, it comes once, the first time.
    """
    day = after.astimezone(zone).date() - timedelta(days=1)
    wanted = time.fromisoformat(at)
    while (found := datetime.combine(day, wanted, zone).astimezone(UTC)) <= after:
        day += timedelta(days=1)
    return found
