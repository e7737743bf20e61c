"""Soak: minutes of load with a fault every 30 seconds; memory and the write-ahead log stay where they were."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from conftest import Installation, wait_until

from prove.kills import children_of
from prove.load import Load, prove_balances
from prove.locks import HOLD_LOCK
from prove.outcome import Outcome, Place
from prove.preload import SYNC, WRITE, Fault, preload

#: Seconds from fault to fault.
EVERY_S = 30

#: A server takes what memory it needs while its threads and their caches come to be: until it has not grown for so long, or at the latest after so long.
STEADY_S = 30
WARM_UP_S = 300

#: Seconds from one fault to the next of those that come before.
SETTLE_S = 5

MAX_GROWTH = 1.05

#: A checkpoint is due at 8,000 pages of 4 KiB, and made by the commit itself at 16,000; beyond twice that the log would grow without bound.
MAX_LOG_BYTES = 128 * 1024 * 1024


def prove(tries: int, place: Place) -> Outcome:
    """Load for `tries` minutes."""
    outcome = Outcome()
    with place.installation() as server:
        fault = Fault(place.folder / "fault")
        preload(server, PROVE_FAULT=fault.path)
        server.start()
        faults: list[Callable[[], None]] = [lambda: _lock(server, 3), lambda: _fail(fault, WRITE), lambda: _fail(fault, SYNC), lambda: _kill_worker(server)]
        with Load(server, "soak", threads_count=8) as load:
            _warm_up(server)
            # What a first fault of each kind takes for good, 3 MB of code and caches, is no growth either.
            for first in faults:
                first()
                time.sleep(SETTLE_S)
            before_bytes = _warm_up(server)
            began, largest_log, count = time.monotonic(), 0, 0
            while time.monotonic() < began + tries * 60:
                faults[count % len(faults)]()
                count += 1
                answered = load.answer_count
                until = time.monotonic() + EVERY_S
                while time.monotonic() < until:
                    largest_log = max(largest_log, server.database.with_name(server.database.name + "-wal").stat().st_size)
                    time.sleep(0.5)
                outcome.expect(load.answer_count > answered, f"after fault {count} nothing was answered for {EVERY_S} s")
                outcome.tries += 1
                place.progress(outcome.tries, tries * 60 // EVERY_S)
            after_bytes = _memory_bytes(server)
        load.hold_against(server.target, outcome, "at the end")
        prove_balances(server.target, outcome, "at the end")
        outcome.expect(after_bytes <= before_bytes * MAX_GROWTH, f"memory grew from {before_bytes / 2**20:.1f} to {after_bytes / 2**20:.1f} MiB")
        outcome.expect(largest_log <= MAX_LOG_BYTES, f"the write-ahead log grew to {largest_log / 2**20:.1f} MiB")
        outcome.notes.append(
            f"{load.answer_count:,} movements, {load.unavailable_count} answers of 503; memory of the largest worker "
            f"{before_bytes / 2**20:.1f} -> {after_bytes / 2**20:.1f} MiB; write-ahead log at most {largest_log / 2**20:.1f} MiB"
        )
    return outcome


def _memory_bytes(server: Installation) -> int:
    """The resident memory of the worker that has most: one that was just replaced has less."""
    assert server.server is not None
    statuses = [Path(f"/proc/{pid}/status").read_text(encoding="ascii") for pid in children_of(server.server.pid)]
    return max(int(line.split()[1]) * 1024 for status in statuses for line in status.splitlines() if line.startswith("VmRSS:"))


def _warm_up(server: Installation) -> int:
    """Wait until memory grows no more; returns it."""
    began = steady_since = time.monotonic()
    largest = _memory_bytes(server)
    while time.monotonic() < min(steady_since + STEADY_S, began + WARM_UP_S):
        time.sleep(1)
        now = _memory_bytes(server)
        if now > largest * 1.01:
            largest, steady_since = now, time.monotonic()
    return max(largest, _memory_bytes(server))


def _lock(server: Installation, seconds: int) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD_LOCK, str(server.database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    time.sleep(seconds)
    holder.communicate()


def _fail(fault: Fault, kind: int) -> None:
    """Let the disk fail for a second."""
    fault.after(0, kind, errno.EIO, failures=10**9)
    time.sleep(1)
    fault.mend()


def _kill_worker(server: Installation) -> None:
    assert server.server is not None
    before = children_of(server.server.pid)
    os.kill(min(before), signal.SIGKILL)
    master = server.server.pid
    wait_until(lambda: len(children_of(master) - before) == 1, "no new worker came")
