"""Cancels sync runs on a signal.

A run that is waiting for a sheet or reading it ends at once. Otherwise it ends at its next step,
and never halfway through writing.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Cancelled(BaseException):
    """A sync run was cancelled; the text names the signal.

    Not an Exception, because no handler of a source's errors may catch it.
    """


class Cancellation:
    """Whether sync runs are cancelled.

    `request` is called by a signal handler, which runs in the same thread as the sync runs.
    """

    def __init__(self) -> None:
        self.by: signal.Signals | None = None
        self.ended_a_run = False
        self._raise_now = False

    @property
    def sentence(self) -> str:
        """The signal that cancelled the runs."""
        return f"Stopped by {self.by.name}." if self.by else ""

    def request(self, by: signal.Signals) -> None:
        """End the current run, and start no other.

        A second request changes nothing, so that the cancelled run can still be recorded.
        """
        self.by = self.by or by
        if self._raise_now:
            self._raise_now = False
            self.check()

    def check(self) -> None:
        """Raise Cancelled if the runs are cancelled."""
        if self.by:
            self.ended_a_run = True
            raise Cancelled(f"{self.sentence} Nothing was changed.")

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """A block in which a request raises Cancelled immediately, at any point.

        For steps that wait or take long, and hold no lock and no transaction.
        """
        self._raise_now = True
        try:
            self.check()
            yield
        finally:
            self._raise_now = False
