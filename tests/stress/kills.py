"""SIGKILL at random moments under load.

The victims are a worker, the master, a sync, and on PostgreSQL also the database's processes.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg
import requests
from support.installation import Installation, found
from support.machine import wait_until
from support.postgres import CLUSTERS
from support.sources import write_reading

from stress.load import Load, verify_balances
from stress.outcome import Outcome, Place
from stress.sync_runs import SyncRun, last_run_s, write_sheet

#: Seconds within which the service must be ready again.
READY_S = 5.0

#: Kills per installation. All rows are compared, so the number of rows is limited.
KILLS_EACH = 25

#: Log messages about a lost connection to PostgreSQL, with a traceback.
LOST_CONNECTION = (
    "A rollback failed; closing the connection.",
    "A commit failed; its outcome is unknown.",
)

#: The sheet and its number of budgets: writing them takes as long as reading them.
SHEET, BUDGETS = "many.csv", 1000

#: With at least this many kills of a sync, some must hit it while writing.
SYNC_KILLS = 20

_AMOUNTS = """
    SELECT DISTINCT "budgetedMinor" / 100 FROM "Budget"
    WHERE "department" LIKE 'Department %' AND "deletedAt" IS NULL
"""
_VERSIONS = """
    SELECT DISTINCT u."version" FROM "BudgetUtilization" u
    JOIN "Budget" b ON b."id" = u."budgetId" WHERE b."department" LIKE 'Department %'
"""
_RUNS = f"""SELECT "status" FROM "SyncHistory" WHERE "createdCount" + "updatedCount" = {BUDGETS}"""


@dataclass
class Victim:
    """An installation under load, and ways to kill its processes.

    Each way returns when the service is ready again, or after a timeout.
    """

    server: Installation
    place: Place
    outcome: Outcome
    slowest_s: dict[str, float] = field(default_factory=dict)
    #: Number of kills of a sync by its phase.
    sync_kills: Counter[str] = field(default_factory=Counter)
    sheet_version: int = 1

    def prepare(self) -> None:
        """Sync a sheet of many budgets, and start the server."""
        self._write_sheet()
        self.server.flask(
            *("add-source", "--customer", "org-456", "--csv", SHEET, "--accept"),
            *("--reading", str(write_reading(self.server.folder))),
        )
        self.server.flask("sync-sheets", check=False)
        self.server.start()

    def worker(self) -> None:
        """Kill a worker. The other continues, and the master starts a new one."""
        before = self.server.workers
        began = time.monotonic()
        os.kill(self.place.rng.choice(before), signal.SIGKILL)
        self._wait_ready(
            "worker",
            began,
            lambda: self._is_ready() and len({*self.server.workers} - {*before}) == 1,
        )

    def master(self) -> None:
        """Kill the master. Its workers notice and exit; then restart it, as a supervisor does."""
        began = time.monotonic()
        self.server.stop(signal.SIGKILL)

        def started() -> bool:
            if self.server.server is None or self.server.server.poll() is not None:
                self.server.launch()
            return self._is_ready() and len(self.server.workers) == 2

        self._wait_ready("master", began, started)

    def sync(self) -> None:
        """Kill a sync that changes every budget of a sheet.

        Either all budgets were changed or none, and the next sync run changes the rest.
        """
        self.sheet_version += 1
        self._write_sheet()
        run_s = last_run_s(self.server.target)
        with SyncRun(self.server, SHEET) as killed:
            # Half of the kills hit the writing phase, which is shorter.
            writes = self.place.rng.random() < 0.5
            killed.wait_for_begin(of_writing=writes)
            killed.collect(self.place.rng.uniform(0, 0.5 * run_s if writes else 1.1 * run_s))
            killed.kill()
        began = time.monotonic()
        amounts = [amount for (amount,) in found(self.server.target, _AMOUNTS)]
        self.outcome.expect(
            amounts in ([self.sheet_version - 1], [self.sheet_version]),
            f"a killed sync to {self.sheet_version} left {amounts[:5]}",
        )
        self._wait_ready("sync", began, self._is_ready)
        summary = self._next_run(began)
        was_done = f"success: {BUDGETS:,} unchanged" in summary
        self.sync_kills[
            "after it was done" if was_done else "within" if killed.wrote else "before it wrote"
        ] += 1
        self.outcome.expect(
            was_done or (not killed.ended and amounts != [self.sheet_version]),
            f"a killed sync printed {killed.output[-300:]!r}, the next run {summary}",
        )
        self._expect_followed(f"after a killed sync and another run that printed {summary}")

    def _next_run(self, began: float) -> str:
        """The summary line of the next sync run that is not skipped because of the killed one."""
        while True:
            done = self.server.flask("sync-sheets", check=False)
            summary = next(
                (
                    line
                    for line in (done.stdout + done.stderr).splitlines()
                    if f"(CSV {SHEET}): " in line
                ),
                done.stderr[-500:],
            )
            # PostgreSQL holds a lock until it notices that the client is gone.
            if "Traceback" in done.stderr:
                return f"{summary}\n{traceback_in(done.stderr)}"
            if (
                ": skipped: " not in summary
                or time.monotonic() - began > READY_S * self.place.patience
            ):
                return summary

    def _expect_followed(self, when: str) -> None:
        """Each budget has the sheet's amount and was changed once per sheet; the history agrees."""
        state = [found(self.server.target, sql) for sql in (_AMOUNTS, _VERSIONS, _RUNS)]
        self.outcome.expect(
            state
            == [
                [(self.sheet_version,)],
                [(self.sheet_version,)],
                [("success",)] * self.sheet_version,
            ],
            f"{when}, sheet {self.sheet_version} resulted in {state}",
        )
        verify_balances(self.server.target, self.outcome, when)

    def database_process(self) -> None:
        """Kill a PostgreSQL process. All its connections end, and it recovers from its log."""
        with psycopg.connect(str(self.server.target), autocommit=True) as connection:
            rows = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                " AND (datname = current_database() OR backend_type LIKE '%writer')"
            )
            processes = sorted(pid for (pid,) in rows)
        began = time.monotonic()
        os.kill(self.place.rng.choice(processes), signal.SIGKILL)
        self._wait_ready("database_process", began, self._is_ready)

    def postmaster(self) -> None:
        """Kill PostgreSQL's main process, and restart the cluster, which recovers from its log."""
        CLUSTERS[self.place.templates.server or ""].kill_and_start()
        self._wait_ready("postmaster", time.monotonic(), self._is_ready)

    def ways(self) -> list[Callable[[], None]]:
        """The possible victims. The main process of PostgreSQL only if we started the cluster."""
        ways = [self.worker, self.master, self.sync]
        if self.place.engine == "postgresql":
            ways += [
                self.database_process,
                *([self.postmaster] if self.place.templates.server in CLUSTERS else []),
            ]
        return ways

    def _write_sheet(self) -> None:
        write_sheet(self.server, SHEET, BUDGETS, self.sheet_version)

    def _is_ready(self) -> bool:
        try:
            return requests.get(f"{self.server.url}/readyz", timeout=5).ok
        except requests.RequestException:
            return False

    def _wait_ready(self, way: str, began: float, is_ready: Callable[[], bool]) -> None:
        wait_until(
            is_ready,
            f"not ready again after the kill of the {way}:\n{self.server.log[-3000:]}",
            timeout_s=60,
        )
        took_s = time.monotonic() - began
        self.slowest_s[way] = max(took_s, self.slowest_s.get(way, 0.0))
        self.outcome.expect(
            took_s <= READY_S * self.place.patience,
            f"not ready for {took_s:.1f} s after the kill of the {way}",
        )


def stress(tries: int, place: Place) -> Outcome:
    """Kill `tries` times. Afterwards, everything acknowledged is stored and balances agree."""
    outcome = Outcome()
    slowest_s: dict[str, float] = {}
    sync_kills: Counter[str] = Counter()
    acknowledged = 0
    for first in range(0, tries, KILLS_EACH):
        with place.installation(f"instance-{first}") as server:
            victim = Victim(server, place, outcome, slowest_s, sync_kills)
            ways = victim.ways()
            victim.prepare()
            with Load(server, "kill", checks=True) as load:
                for number in range(first, min(first + KILLS_EACH, tries)):
                    load.wait_for(20)
                    time.sleep(place.rng.uniform(0, 0.2))
                    ways[number % len(ways)]()
                    outcome.tries += 1
                    place.progress(outcome.tries, tries)
            load.compare_with(server.target, outcome, f"kills {first} to {number}")
            verify_balances(server.target, outcome, f"kills {first} to {number}")
            unexpected = [
                head
                for head in tracebacks(server.log)
                if place.engine == "sqlite" or not head.endswith(LOST_CONNECTION)
            ]
            outcome.expect(
                not unexpected,
                f"tracebacks in the server log, with {unexpected[:5]}: {traceback_in(server.log)}",
            )
            acknowledged += load.answer_count
    outcome.notes.append(
        f"{acknowledged:,} movements acknowledged; slowest recovery: "
        + ", ".join(f"{way} {took_s:.1f} s" for way, took_s in slowest_s.items())
    )
    outcome.notes.append(
        "kills of a sync: " + ", ".join(f"{count} {where}" for where, count in sync_kills.items())
    )
    outcome.expect(
        sync_kills["within"] or sync_kills.total() < SYNC_KILLS,
        f"no kill of a sync hit it while writing: {sync_kills}",
    )
    return outcome


def tracebacks(log: str) -> list[str]:
    """The log line above each traceback; without one, the traceback's own line."""
    heads, head = [], ""
    for line in log.splitlines():
        if re.fullmatch(r"\S+Z [A-Z]+ \S+ \[\S+\] \S.*", line):
            head = line
        elif "Traceback (most recent call last)" in line:
            heads.append(line if line.startswith("Traceback") else head)
    return heads


def traceback_in(log: str) -> str:
    """The first traceback of a log, with the line above."""
    where = log.find("Traceback")
    return log[max(0, where - 300) : where + 5000]
