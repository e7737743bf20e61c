"""The result of a check: its state, the facts, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """The result of a check. `BY_HAND` is a check that only a person can do."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    BY_HAND = "by hand"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `todo` is empty if there is nothing to do."""

    state: State
    subject: str
    seen: str
    todo: str = ""


def ok(subject: str, seen: str) -> Finding:
    """The check passed."""
    return Finding(State.OK, subject, seen)


def warning(subject: str, seen: str, todo: str) -> Finding:
    """The service works, but something should be fixed before going live."""
    return Finding(State.WARNING, subject, seen, todo)


def failed(subject: str, seen: str, todo: str) -> Finding:
    """The service does not work, or money or secrets are at risk."""
    return Finding(State.FAILED, subject, seen, todo)


def by_hand(subject: str, todo: str) -> Finding:
    """A person has to check it."""
    return Finding(State.BY_HAND, subject, "cannot be checked automatically", todo)
