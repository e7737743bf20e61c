"""A noisy customer: hostile sheets, slow sheets, previews, exports, lists and calls.

Meanwhile a second customer checks and reserves at a steady pace. Its calls must succeed, and their
p99 must stay within MAX_FACTOR times the p99 of the quiet windows right before and after.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple, Self

import requests
from support.installation import Installation
from support.sheets_server import SheetsServer
from support.sources import write_reading
from support.sync_world import plan_rows

from budget_sync.operations import demo
from budget_sync.sync.standard import standard_reading
from stress import steady_caller
from stress.load import verify_balances
from stress.noisy_shapes import CRON_SECRET, HEADER, SHAPES, SPREADSHEET, Noisy, Shape, changed
from stress.outcome import Outcome, Place

MAX_FACTOR = 2.0

#: A p99 below this is never a violation: on a machine with two cores, the client processes alone
#: take tens of milliseconds from each other.
FLOOR_S = 0.08

#: The length of a window in seconds. A noisy one also lasts until each thread of the noisy customer
#: has had a reply, up to the limit.
QUIET_S = 0.4
NOISY_S = 0.8
MAX_NOISY_S = 5.0

#: Seconds between two calls of a thread of the noisy customer. Without a pause, its client alone
#: would use up the machine in any case.
PAUSE_S = 0.05

#: Quiet windows before the first noisy one.
FIRST_QUIET = 3

#: Noisy windows of a shape above the limit, each between two quiet ones. The medians count: the p99
#: of a window is one of its slowest calls, and other programs on the machine delay some calls.
REPEATS = 5

#: Rows of a sheet: the most that is read, and fewer for the short form.
MOST_ROWS = 199_999
FEWER_ROWS = 1_000

#: More failures of Google than a window can use up.
MAX_FAULTS = 10_000

QUIET = "quiet"


def stress(tries: int, place: Place) -> Outcome:
    """Try `tries` shapes, in random order. Sheets are smaller if not every shape is tried."""
    outcome = Outcome()
    rows = MOST_ROWS if tries >= len(SHAPES) else FEWER_ROWS
    google = SheetsServer()
    try:
        with place.installation() as server:
            _prepare(server, google)
            server.start()
            workers = server.workers
            noisy = Noisy(server, google)
            noisy.write(changed(1_000))
            outcome.expect(noisy.run() == 302, "the noisy customer cannot start a sync run")
            with _Steady(server) as steady:
                measured = _Comparison(steady, noisy, rows, place, outcome)
                for number in range(tries):
                    measured.try_shape(_shape_names(place, tries)[number])
                    place.progress(number + 1, tries)
                measured.report()
            outcome.expect(server.workers == workers, "a worker was killed and replaced")
            verify_balances(server.target, outcome, "at the end")
            outcome.expect(
                "Traceback" not in server.log, f"traceback in the log: {server.log[-2000:]}"
            )
    finally:
        google.stop()
    return outcome


def _shape_names(place: Place, tries: int) -> list[str]:
    """The shapes to try, each as often as the others; the order depends on the seed."""
    names = list(SHAPES)
    random.Random(place.seed).shuffle(names)  # noqa: S311  # not a secret
    return [names[number % len(names)] for number in range(tries)]


def _prepare(server: Installation, google: SheetsServer) -> None:
    """Give the demo's customer a Google Sheet, and add a second customer with a budget."""
    google.share(SPREADSHEET, plan_rows(Marketing=40_000))
    server.environment |= {
        "GOOGLE_APPLICATION_CREDENTIALS": str(google.credentials_file(server.folder)),
        "GOOGLE_SHEETS_API_URL": google.url,
        "CRON_SECRET": CRON_SECRET,
        "NO_PROXY": "127.0.0.1",
    }
    server.flask(
        *("add-source", "--customer", demo.CUSTOMER),
        *("--spreadsheet", SPREADSHEET, "--worksheet", "Budgets", "--accept"),
        *("--reading", str(write_reading(server.folder, standard_reading(is_csv=False)))),
    )
    server.flask("add-customer", QUIET, "--name", "Quiet Inc.", "--currency", "USD")
    server.flask(
        *("set-budget", "--customer", QUIET, "--id", QUIET, "--department", "Engineering"),
        *("--period", "Q1 2025", "--amount", "1000000"),
    )


class Window(NamedTuple):
    """The calls of the steady caller in one window."""

    p99_s: float
    call_count: int
    failures: list[str]


class _Steady:
    """The process of the second customer, which calls while a window is open."""

    def __init__(self, server: Installation) -> None:
        key = server.flask("add-key", "--customer", QUIET, "--name", "steady").stdout.strip()
        self._process = subprocess.Popen(
            [
                *(sys.executable, str(Path(steady_caller.__file__))),
                *(str(server.port), key, QUIET, QUIET),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self._process.kill()
        self._process.communicate()

    def begin(self) -> None:
        """Begin a window."""
        self._send("begin")

    def end(self) -> Window:
        """End it, and return its result."""
        self._send("end")
        assert self._process.stdout
        found = json.loads(self._process.stdout.readline())
        durations_s = sorted(found["durations_s"])
        return Window(
            durations_s[int(len(durations_s) * 0.99)], len(durations_s), found["failures"]
        )

    def _send(self, command: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()


class _Comparison:
    """Quiet and noisy windows in turn."""

    def __init__(
        self, steady: _Steady, noisy: Noisy, rows: int, place: Place, outcome: Outcome
    ) -> None:
        self.steady, self.noisy, self.rows, self.outcome = steady, noisy, rows, outcome
        self.floor_s = FLOOR_S * place.patience
        self.statuses: Counter[int] = Counter()
        #: For each shape: the factor, the p99 in seconds, and the name.
        self.worst: list[tuple[float, float, str]] = []
        self.quiet_s = [self._quiet() for _ in range(FIRST_QUIET)]

    def try_shape(self, name: str) -> None:
        """Measure a shape, more than once if it is above the limit."""
        shape = SHAPES[name]
        noisy_s = [self._noisy(name, shape)]
        quiet_s = [self.quiet_s[-1], self._quiet()]
        if noisy_s[0] > self._limit_s(quiet_s):
            for _ in range(REPEATS - 1):
                noisy_s.append(self._noisy(name, shape))
                quiet_s.append(self._quiet())
        self.quiet_s += quiet_s[1:]
        self.outcome.expect(
            median(noisy_s) <= self._limit_s(quiet_s),
            f"{name}: the p99 of the other customer is {_ms(median(noisy_s))},"
            f" but {_ms(median(quiet_s))} in the quiet windows in between ({_load()})",
        )
        self.worst.append((median(noisy_s) / median(quiet_s), median(noisy_s), name))
        self.outcome.tries += 1

    def _limit_s(self, quiet_s: list[float]) -> float:
        """The highest p99 that is not a violation."""
        return max(self.floor_s, MAX_FACTOR * median(quiet_s))

    def report(self) -> None:
        """Note the figures."""
        self.worst.sort(reverse=True)
        factors = [factor for factor, _, _ in self.worst]
        self.outcome.notes.append(
            f"p99 in quiet windows {_ms(median(self.quiet_s))}, at a {_load()}; noisy windows "
            f"{median(factors):.1f} times that; worst: "
            + ", ".join(
                f"{name} {_ms(seconds)} ({factor:.1f} times)"
                for factor, seconds, name in self.worst[:8]
            )
        )
        self.outcome.notes.append(f"statuses of the noisy customer: {dict(self.statuses)}")
        self.outcome.expect(500 not in self.statuses, "the noisy customer got status 500")

    def _quiet(self) -> float:
        self.steady.begin()
        time.sleep(QUIET_S)
        return self._end("without the noisy customer")

    def _noisy(self, name: str, shape: Shape) -> float:
        with self._at_work(shape) as replied:
            self.steady.begin()
            began = time.monotonic()
            least_s, most_s = began + NOISY_S, began + MAX_NOISY_S
            while time.monotonic() < least_s or (
                len(replied) < shape.threads and not shape.fault and time.monotonic() < most_s
            ):
                time.sleep(0.05)
            return self._end(name)

    def _end(self, name: str) -> float:
        window = self.steady.end()
        self.outcome.expect(
            not window.failures,
            f"{name}: {len(window.failures)} of {window.call_count} calls of the other customer"
            f" failed: {window.failures[:2]}",
        )
        return window.p99_s

    @contextmanager
    def _at_work(self, shape: Shape) -> Iterator[set[int]]:
        """The noisy customer calls inside; gives the threads that have had a reply.

        At the end, its last calls have ended, so that the next window is quiet.
        """
        noisy, ended = self.noisy, threading.Event()
        replied: set[int] = set()
        noisy.write(shape.lines(self.rows) if shape.lines else [HEADER, "Sales,Q1 2025,100"])
        noisy.released.clear()
        if shape.fault:
            call, fault = shape.fault(noisy)
            noisy.google.fail(call, *[fault] * MAX_FAULTS)

        def work() -> None:
            while not ended.is_set():
                try:
                    self.statuses[shape.action(noisy)] += 1
                except requests.RequestException:
                    # The server closes a connection with too long a header.
                    self.statuses[0] += 1
                replied.add(threading.get_ident())
                ended.wait(PAUSE_S)

        threads = [threading.Thread(target=work, daemon=True) for _ in range(shape.threads)]
        for thread in threads:
            thread.start()
        try:
            yield replied
        finally:
            ended.set()
            noisy.released.set()
            noisy.google.faults.clear()
            for thread in threads:
                thread.join()


def _load() -> str:
    return f"load of {os.getloadavg()[0]:.1f}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"
