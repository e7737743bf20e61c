"""Soak test: minutes of load with a fault every 30 seconds.

Memory and write-ahead log must not grow. Faults kill the youngest worker, so that the oldest
survives and its memory can be compared.
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

#: Seconds between faults.
EVERY_S = 30

#: Memory grows while caches fill. Measurement starts after memory has been stable for this long,
#: or at the latest after this long.
STEADY_S = 120
WARM_UP_S = 600

#: Faults of each kind before measurement, and seconds between them. Without the other worker's
#: commits, the remaining worker fills a page cache of 1.8 MB that those commits keep empty.
FIRST_ROUNDS = 3
SETTLE_S = 5

MAX_GROWTH = 1.05

#: Pages that viewers open under load. Unlike movements, pages are rendered in threads with
#: separate connections. Threads are created on demand, so at first so many viewers open each page
#: at the same time, and so often, that every thread of the workers renders every page.
PAGES = ("/", "/budgets", "/requests?view=all", "/requests?view=uncovered", "/audit")
CROWD = 4 * THREADS
CROWD_ROUNDS = 5
READERS = 4
READ_PAUSE_S = 0.2

#: A checkpoint is due after every 4,000 rows that a process changed, with one to two pages of 4 KiB
#: each. A commit runs a checkpoint itself at 16,000 pages. More than twice that is a leak.
MAX_LOG_BYTES = 128 * 1024 * 1024


def stress(tries: int, place: Place) -> Outcome:
    """Run load for `tries` minutes."""
    outcome = Outcome()
    with place.installation() as server:
        fault = Fault(place.folder / "fault")
        preload(server, STRESS_FAULT=fault.path)
        server.start()
        faults: list[Callable[[], None]] = [
            lambda: _lock(server, 3),
            lambda: _fail(fault, WRITE),
            lambda: _fail(fault, SYNC),
            lambda: _kill_worker(server),
        ]
        with Load(server, "soak", threads_count=8) as load, _readers(server, outcome):
            _fill_threads(server)
            # The first faults of each kind permanently take 3 MB for code and caches.
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
                    f"no responses for {EVERY_S} s after fault {count}",
                )
                outcome.tries += 1
                place.progress(outcome.tries, tries * 60 // EVERY_S)
            after = _memory_bytes(server)
        load.compare_with(server.target, outcome, "at the end")
        verify_balances(server.target, outcome, "at the end")
        _compare(before, after, outcome)
        outcome.expect(
            largest_log <= MAX_LOG_BYTES,
            f"the write-ahead log grew to {largest_log / 2**20:.1f} MiB",
        )
        outcome.notes.append(
            f"{load.answer_count:,} movements, {load.unavailable_count} responses of 503;"
            f" write-ahead log at most {largest_log / 2**20:.1f} MiB"
        )
    return outcome


def _fill_threads(server: Installation) -> None:
    """Let every worker thread render every page, so that caches are full before measuring."""
    cookies = server.session("alex").cookies

    def open_pages() -> None:
        for page in PAGES:
            list(
                pool.map(
                    _look, itertools.repeat(server.url + page, CROWD), itertools.repeat(cookies)
                )
            )

    def all_there() -> bool:
        open_pages()
        # At least these threads: main, writer, and those for requests.
        return all(
            len(list(Path(f"/proc/{pid}/task").iterdir())) >= THREADS + 2 for pid in server.workers
        )

    with ThreadPoolExecutor(CROWD) as pool:
        wait_until(all_there, "some worker threads were never created", timeout_s=120)
        for _ in range(CROWD_ROUNDS):
            open_pages()


def _look(url: str, cookies: RequestsCookieJar) -> int | None:
    """Open a page over a new connection, so that all workers get some.

    Returns the status, or None if the worker was killed, before or after its first byte.
    """
    with suppress(requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
        return requests.get(
            url, cookies=cookies, headers={"Connection": "close"}, timeout=60
        ).status_code
    return None


@contextmanager
def _readers(server: Installation, outcome: Outcome) -> Iterator[None]:
    """Viewers that open page after page."""
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
        f"pages got {dict(statuses)}",
    )
    outcome.notes.append(f"{statuses[200]:,} pages opened under load")


def _compare(before: dict[int, int], after: dict[int, int], outcome: Outcome) -> None:
    """Compare each process's memory, which also verifies that neither was replaced."""
    if outcome.expect(
        before.keys() == after.keys(),
        f"the master and its oldest worker were {list(before)}, but now are {list(after)}",
    ):
        for name, pid in zip(("the master", "the oldest worker"), before, strict=True):
            growth = f"{before[pid] / 2**20:.1f} -> {after[pid] / 2**20:.1f} MiB"
            outcome.expect(
                after[pid] <= before[pid] * MAX_GROWTH, f"memory of {name} grew: {growth}"
            )
            outcome.notes.append(f"memory of {name} {growth}")


def _memory_bytes(server: Installation) -> dict[int, int]:
    """Resident memory of the master and its oldest worker, by process id.

    Excludes file-backed pages of programs and libraries, some 9 to 14 MB, which are loaded on first
    use and dropped under memory pressure.
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
    """A process's start time in ticks, with its id to order processes started in the same tick."""
    # The process name in parentheses may contain spaces.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[19]), pid


def _warm_up(server: Installation) -> dict[int, int]:
    """Wait until memory is stable; returns it."""
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
    fault.clear()


def _kill_worker(server: Installation) -> None:
    """Kill the youngest worker."""
    before = server.workers
    os.kill(max(before, key=_started), signal.SIGKILL)
    wait_until(lambda: len(set(server.workers) - set(before)) == 1, "no new worker was started")
