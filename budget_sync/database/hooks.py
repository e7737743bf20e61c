"""Callbacks for database events. A serving process registers its metrics here."""

from __future__ import annotations


class Observer:
    """Default observer; does nothing. Overrides must be cheap and must not raise."""

    def jobs_waiting(self, count: int) -> None:
        """The length of this process's writer queue.

        Called when a batch begins and ends, and repeatedly while callers wait for a long time.
        """

    def batch_committed(self, count: int) -> None:
        """The writer thread committed this many jobs in one transaction."""

    def connection_in_use(self, change: int) -> None:
        """A pooled connection was taken (1) or returned (-1)."""


_observer = Observer()


def current_observer() -> Observer:
    """The observer of this process."""
    return _observer


def observe(observer: Observer) -> None:
    """Replace the observer of this process."""
    global _observer  # noqa: PLW0603  # one observer per process
    _observer = observer
