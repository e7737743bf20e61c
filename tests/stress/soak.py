"""Soak: minutes of load, movements and pages, with a fault every 30 seconds; memory and the write-ahead log stay where they were.

Of the workers the youngest is killed each time, so that the oldest lives through all of it: its memory is compared with its own.
"""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import requests
from requests.cookies import RequestsCookieJar
from support.installation import Installation
from support.machine import wait_until

from budget_sync.server.arbiter import THREADS
from stress.load import Load, verify_balances
from stress.locks import HOLD_LOCK
from stress.outcome import Outcome, Place
from stress.preload import SYNC, WRITE, Fault, preload

#: Seconds from fault to fault.
EVERY_S = 30

#: A server takes what memory it needs while its caches come to be: until it has not grown for so long, or at the latest after so long.
STEADY_S = 120
WARM_UP_S = 600

#: How often each kind of fault comes before, and seconds from one to the next. The writer of the worker that is left over has
#: the database to itself for a moment, and fills a page cache, 1.8 MB, that the other worker's commits else keep empty.
FIRST_ROUNDS = 3
SETTLE_S = 5

MAX_GROWTH = 1.05

#: What people look at meanwhile: pages are made in threads with connections of their own, which movements are not. Threads
#: come to be as they are needed, so at first so many people look at the same page at once, each page so often, that every
#: thread of the workers has made every page.
PAGES = ("/", "/budgets", "/requests?view=all", "/requests?view=uncovered", "/audit")
CROWD = 4 * THREADS
CROWD_ROUNDS = 5
READERS = 4
READ_PAUSE_S = 0.2

#: A checkpoint is due with every 4,000 rows that a process changed, of one to two pages of 4 KiB each, and made by the commit itself at
#: 16,000 pages; beyond twice that the log would grow without bound.
MAX_LOG_BYTES = 128 * 1024 * 1024


def stress(tries: int, place: Place) -> Outcome:
    """Load for `tries` minutes."""
    outcome = Outcome()
    with place.installation() as server:
        fault = Fault(place.folder / "fault")
        preload(server, PROVE_FAULT=fault.path)
        server.start()
        faults: list[Callable[[], None]] = [
            lambda: _lock(server, 3),
            lambda: _fail(fault, WRITE),
            lambda: _fail(fault, SYNC),
            lambda: _kill_worker(server),
        ]
        with Load(server, "soak", threads_count=8) as load, _readers(server, outcome):
            _fill_threads(server)
            # What the first faults of each kind take for good, 3 MB of code and caches, is no growth either.
            for first in faults * FIRST_ROUNDS:
                first()
                time.sleep(SETTLE_S)
            before = _warm_up(server)
            began, largest_log, count = time.monotonic(), 0, 0
            while time.monotonic() < began + tries * 60:
                faults[count % len(faults)]()
                count += 1
                answered = load.answer_count
                until = time.monotonic() + EVERY_S
                while time.monotonic() < until:
                    largest_log = max(
                        largest_log,
                        server.database.with_name(server.database.name + "-wal").stat().st_size,
                    )
                    time.sleep(0.5)
                outcome.expect(
                    load.answer_count > answered,
                    f"after fault {count} nothing was answered for {EVERY_S} s",
                )
                outcome.tries += 1
                place.progress(outcome.tries, tries * 60 // EVERY_S)
            after = _memory_bytes(server)
        load.hold_against(server.target, outcome, "at the end")
        verify_balances(server.target, outcome, "at the end")
        _compare(before, after, outcome)
        outcome.expect(
            largest_log <= MAX_LOG_BYTES,
            f"the write-ahead log grew to {largest_log / 2**20:.1f} MiB",
        )
        outcome.notes.append(
            f"{load.answer_count:,} movements, {load.unavailable_count} answers of 503; write-ahead log at most {largest_log / 2**20:.1f} MiB"
        )
    return outcome


def _fill_threads(server: Installation) -> None:
    """Have every thread of the workers make every page, so that what threads and their caches take is there before it is measured."""
    cookies = server.session("alex").cookies

    def come() -> None:
        for page in PAGES:
            list(
                pool.map(
                    _look, itertools.repeat(server.url + page, CROWD), itertools.repeat(cookies)
                )
            )

    def all_there() -> bool:
        come()
        # A thread for each of these at least: the main one, the writer's, and those for requests.
        return all(
            len(list(Path(f"/proc/{pid}/task").iterdir())) >= THREADS + 2 for pid in server.workers
        )

    with ThreadPoolExecutor(CROWD) as pool:
        wait_until(all_there, "not all threads of the workers came to be", timeout_s=120)
        for _ in range(CROWD_ROUNDS):
            come()


def _look(url: str, cookies: RequestsCookieJar) -> int | None:
    """Look at a page over a new connection, so that every worker makes some; returns its status, or None where its worker was killed meanwhile."""
    # Before the first byte or after it.
    with suppress(requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
        return requests.get(
            url, cookies=cookies, headers={"Connection": "close"}, timeout=60
        ).status_code
    return None


@contextmanager
def _readers(server: Installation, outcome: Outcome) -> Iterator[None]:
    """People who look at page after page."""
    cookies = server.session("alex").cookies
    statuses: Counter[int | None] = Counter()
    ended = threading.Event()

    def read() -> None:
        for page in itertools.cycle(PAGES):
            if ended.wait(READ_PAUSE_S):
                return
            statuses[_look(server.url + page, cookies)] += 1

    with ThreadPoolExecutor(READERS) as pool:
        readers = [pool.submit(read) for _ in range(READERS)]
        try:
            yield
        finally:
            ended.set()
    for reader in readers:
        reader.result()
    outcome.expect(
        statuses[200] and statuses.keys() <= {200, 503, None},
        f"pages were answered with {dict(statuses)}",
    )
    outcome.notes.append(f"{statuses[200]:,} pages looked at meanwhile")


def _compare(before: dict[int, int], after: dict[int, int], outcome: Outcome) -> None:
    """Hold each process's memory against its own; they are the same two processes, unless one ended that nobody killed."""
    if outcome.expect(
        before.keys() == after.keys(),
        f"the master and its oldest worker were {list(before)}, and are {list(after)}",
    ):
        for name, pid in zip(("the master", "the oldest worker"), before, strict=True):
            told = f"{before[pid] / 2**20:.1f} -> {after[pid] / 2**20:.1f} MiB"
            outcome.expect(after[pid] <= before[pid] * MAX_GROWTH, f"memory of {name} grew: {told}")
            outcome.notes.append(f"memory of {name} {told}")


def _memory_bytes(server: Installation) -> dict[int, int]:
    """The resident memory of the master and of its oldest worker, by their process ids.

    Without the pages of programs and libraries, some 9 to 14 MB: they come when they are first read and go when the machine needs room.
    """
    assert server.server is not None
    return {
        pid: _resident_bytes(pid) for pid in (server.server.pid, min(server.workers, key=_started))
    }


def _resident_bytes(pid: int) -> int:
    fields = dict(
        line.split(":")
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    )
    return sum(int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssShmem"))


def _started(pid: int) -> tuple[int, int]:
    """When a process began, in ticks; of two in the same tick, the one with the higher id is taken for the younger."""
    # What is in parentheses is its name, which may hold blanks.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[19]), pid


def _warm_up(server: Installation) -> dict[int, int]:
    """Wait until memory grows no more; returns it."""
    began = steady_since = time.monotonic()
    largest = _memory_bytes(server)
    while time.monotonic() < min(steady_since + STEADY_S, began + WARM_UP_S):
        time.sleep(1)
        now = _memory_bytes(server)
        if any(now[pid] > largest.get(pid, 0) * 1.01 for pid in now):
            largest, steady_since = now, time.monotonic()
    return _memory_bytes(server)


def _lock(server: Installation, seconds: int) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, str(server.database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    time.sleep(seconds)
    holder.communicate()


def _fail(fault: Fault, kind: int) -> None:
    """Let the disk fail for a second."""
    fault.after(0, kind, errno.EIO, failures=10**9)
    time.sleep(1)
    fault.mend()


def _kill_worker(server: Installation) -> None:
    """Kill the youngest."""
    before = server.workers
    os.kill(max(before, key=_started), signal.SIGKILL)
    wait_until(lambda: len(set(server.workers) - set(before)) == 1, "no new worker came")
