"""What a check finds: how it stands, what was seen, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How a check ended. What no program can see is for a person to look at."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    BY_HAND = "by hand"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination; `todo` is empty where there is nothing to do."""

    state: State
    subject: str
    seen: str
    todo: str = ""


def ok(subject: str, seen: str) -> Finding:
    """As it should be."""
    return Finding(State.OK, subject, seen)


def warning(subject: str, seen: str, todo: str) -> Finding:
    """It works, and should be looked at before going live."""
    return Finding(State.WARNING, subject, seen, todo)


def failed(subject: str, seen: str, todo: str) -> Finding:
    """It does not work, or money or secrets are at risk."""
    return Finding(State.FAILED, subject, seen, todo)


def by_hand(subject: str, todo: str) -> Finding:
    """A person has to see to it."""
    return Finding(State.BY_HAND, subject, "cannot be seen from here", todo)
