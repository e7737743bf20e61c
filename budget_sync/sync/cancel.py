"""Ending a pass from outside, by a signal: at once while it waits for a sheet or reads it, else with its next step, and never halfway."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Stopped(BaseException):
    """A pass was told to end; the text says by what. No error of a source, and so no Exception."""


class Stop:
    """Whether passes are to end. A signal's handler asks, in the thread that makes the passes."""

    def __init__(self) -> None:
        self.by: signal.Signals | None = None
        self.ended_a_pass = False
        self._at_once = False

    @property
    def sentence(self) -> str:
        """What ended them."""
        return f"Stopped by {self.by.name}." if self.by else ""

    def ask(self, by: signal.Signals) -> None:
        """End the pass under way, and begin no other. Asking again changes nothing, so that what was stopped can still be noted."""
        self.by = self.by or by
        if self._at_once:
            self._at_once = False
            self.check()

    def check(self) -> None:
        """Raises Stopped, if somebody has asked."""
        if self.by:
            self.ended_a_pass = True
            raise Stopped(f"{self.sentence} Nothing was changed.")

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Asking raises Stopped inside, wherever that is: for what waits or takes long, and holds nothing."""
        self._at_once = True
        try:
            self.check()
            yield
        finally:
            self._at_once = False
