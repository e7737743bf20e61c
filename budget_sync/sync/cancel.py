"""Ends sync runs early: on a signal, or when their time is over.

A run that is waiting for a sheet or reading it ends at once. Otherwise it ends at its next step,
and never halfway through writing.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Cancelled(BaseException):
    """A sync run was cancelled; the text names the signal.

    Not an Exception, because no handler of a source's errors may catch it.
    """


class OutOfTimeError(Exception):
    """The time of a sync run is over; the text says what to do."""


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


class TimeLimit:
    """The time of one sync run, from its start to its last step. Also ends a cancelled run."""

    def __init__(self, stop: Cancellation, limit_s: float) -> None:
        self._stop = stop
        self._limit_s = limit_s
        self._ends_at = time.monotonic() + limit_s

    def check(self) -> None:
        """Raise Cancelled if the run is cancelled, and OutOfTimeError if its time is over."""
        self._stop.check()
        if time.monotonic() > self._ends_at:
            raise OutOfTimeError(
                f"The sync run was not finished within {math.ceil(self._limit_s)} s. Nothing was "
                "changed; the next sync run tries again. If that fails too, split the sheet into "
                "several sources."
            )
