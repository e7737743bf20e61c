"""Whether this process is about to stop. Calls that only wait for news then end early."""

from __future__ import annotations

_is_requested = False


def request() -> None:
    """Let waiting calls end. May be called from a signal handler."""
    global _is_requested  # noqa: PLW0603  # one state per process
    _is_requested = True


def is_requested() -> bool:
    """Whether the process is about to stop."""
    return _is_requested
