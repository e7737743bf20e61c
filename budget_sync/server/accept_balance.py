"""How many connections each worker has, in memory that all workers share, to spread clients evenly.

All workers wait on one listening socket, and the first that wakes up accepts the connection. That
is often the same worker many times in a row. If the clients keep their connections, one worker then
answers all of them on one core while the others idle.
"""

from __future__ import annotations

import mmap

#: Slots for workers: twice as many as a server may have, for workers that replace others.
SLOTS = 128

#: The count of a worker that accepts no connections, because it starts or stops.
ABSENT = 2**31 - 1

#: Bytes of a count, written in one store: readers see the old count or the new one.
_COUNT_BYTES = 4


class ConnectionCounts:
    """The counts of one server's workers. To be created before the first fork."""

    def __init__(self) -> None:
        self._counts = memoryview(mmap.mmap(-1, SLOTS * _COUNT_BYTES)).cast("i")
        for worker in range(SLOTS):
            self.set(worker, ABSENT)

    def set(self, worker: int, connections: int) -> None:
        """Set a worker's count. `worker` is the number that gunicorn gives it (its age)."""
        self._counts[worker % SLOTS] = connections

    def lowest(self) -> int:
        """The count of the worker with the fewest connections."""
        return min(self._counts)
