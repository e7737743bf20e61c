"""How many connections each worker has, where all of them can see it, so that they share the clients evenly.

All workers wait at one listener, and whoever wakes first takes the client. That is often the same one many times in a row: of
clients that keep their connections, one worker then answers all on one core while the others sleep.
"""

from __future__ import annotations

import mmap

#: Workers that are told apart: twice as many as a server may have, for those that replace others.
SEATS = 128

#: The number of one that takes no connections, because it is not there yet or not any more.
ABSENT = 2**31 - 1

#: Bytes of a number, which is written at once: who reads it sees the old one or the new one.
_SIZE = 4


class Balance:
    """The numbers of one server's workers, in memory that a fork shares: to be made before the first of them."""

    def __init__(self) -> None:
        self._numbers = memoryview(mmap.mmap(-1, SEATS * _SIZE)).cast("i")
        for worker in range(SEATS):
            self.tell(worker, ABSENT)

    def tell(self, worker: int, connections: int) -> None:
        """Say how many connections a worker has, by the number that it got when it was made."""
        self._numbers[worker % SEATS] = connections

    def least(self) -> int:
        """The connections of the worker that has fewest."""
        return min(self._numbers)
