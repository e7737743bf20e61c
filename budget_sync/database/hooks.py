"""Who is told what the database is doing, as it happens: the metrics, in a process that serves."""

from __future__ import annotations


class Observer:
    """Is told; this one makes nothing of it. What it is told in passing must cost next to nothing, and never fail."""

    def works_wait(self, works: int) -> None:
        """That many works of this process wait for its writer thread: told as a batch begins and ends, and while one takes long."""

    def batch_committed(self, works: int) -> None:
        """The writer thread committed that many works at once."""

    def connection_in_use(self, change: int) -> None:
        """One more connection of the pool is in use (1), or one less (-1)."""


class _Told:
    """This process's observer."""

    observer = Observer()


told = _Told()


def observe(observer: Observer) -> None:
    """Tell that one from now on."""
    told.observer = observer
