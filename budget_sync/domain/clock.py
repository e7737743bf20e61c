"""The wall clock, in UTC and whole seconds, as every row and reply writes it: 2025-02-05T10:30:00Z."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """The present time in UTC, cut to whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def to_text(moment: datetime) -> str:
    """A UTC time as text: 2025-02-05T10:30:00Z, which sorts as it reads."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def from_text(text: str) -> datetime:
    """The UTC time that `to_text` wrote."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
