"""Checks that expired reservations are released."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from budget_sync.domain import clock
from budget_sync.operations.doctor.findings import Finding, ok, warning
from budget_sync.queries import expiry

#: An expired reservation that is still open after this time shows that no expiry runs.
LATE_AFTER = timedelta(days=1)

_NAME = "Expiry of reservations"


def released_in_time(program: str) -> Iterator[Finding]:
    """Whether expired reservations are released; nothing if none expires.

    `program` is the command line for a crontab, before the name of the command.
    """
    late = expiry.overdue(clock.now() - LATE_AFTER)
    if late.since is not None:
        still = "1 is still open" if late.holds == 1 else f"{late.holds:,} are still open"
        yield warning(
            _NAME,
            f"{still} although expired for more than a day, the oldest since "
            f"{clock.to_text(late.since)}",
            "run `flask expire-holds`, and add this line to the crontab of the service's user: "
            f"15 * * * * {program} expire-holds",
        )
    elif expiry.has_hold_days():
        yield ok(_NAME, "no reservation is open for more than a day after it expired")
