"""SIGKILL at a random moment under load: of a worker, of the master, of a sync; on PostgreSQL also of the database's own processes."""

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

from stress.load import Load, verify_balances
from stress.outcome import Outcome, Place
from stress.sync_runs import Pass, last_pass_s, write_sheet

#: Seconds within which the service is to be ready again.
READY_S = 5.0

#: Kills on one installation before the next is made, so that a look at all of it does not get ever longer.
KILLS_EACH = 25

#: What the service says of a connection to PostgreSQL that is gone, with what PostgreSQL said and where.
LOST_CONNECTION = (
    "A rollback failed; closing the connection.",
    "A commit failed; its outcome is unknown.",
)

#: The sheet, and its budgets: so many that writing them takes as long as reading them.
SHEET, BUDGETS = "many.csv", 1000

#: Of so many kills of a sync, some must have met it writing.
SYNC_KILLS = 20

_AMOUNTS = """SELECT DISTINCT "budgetedMinor" / 100 FROM "Budget" WHERE "department" LIKE 'Department %' AND "deletedAt" IS NULL"""
_VERSIONS = """
    SELECT DISTINCT u."version" FROM "BudgetUtilization" u JOIN "Budget" b ON b."id" = u."budgetId" WHERE b."department" LIKE 'Department %'
"""
_PASSES = (
    f"""SELECT "status" FROM "SyncHistory" WHERE "createdCount" + "updatedCount" = {BUDGETS}"""
)


@dataclass
class Victim:
    """An installation under load, and the ways to kill it. Each returns once it is ready again, or not in time."""

    server: Installation
    place: Place
    outcome: Outcome
    slowest_s: dict[str, float] = field(default_factory=dict)
    #: How many kills of a sync fell where.
    sync_kills: Counter[str] = field(default_factory=Counter)
    sheet_version: int = 1

    def prepare(self) -> None:
        """Follow a sheet of many budgets, and start."""
        self._write_sheet()
        self.server.flask("add-source", "--customer", "org-456", "--csv", SHEET)
        self.server.flask("sync-sheets", check=False)
        self.server.start()

    def worker(self) -> None:
        """Kill a worker; the other goes on, and another comes."""
        before = self.server.workers
        began = time.monotonic()
        os.kill(self.place.dice.choice(before), signal.SIGKILL)
        self._wait_ready(
            "worker",
            began,
            lambda: self._is_ready() and len({*self.server.workers} - {*before}) == 1,
        )

    def master(self) -> None:
        """Kill the master, whose workers notice and end; start again as soon as may be, as a supervisor does."""
        began = time.monotonic()
        self.server.stop(signal.SIGKILL)

        def started() -> bool:
            if self.server.server is None or self.server.server.poll() is not None:
                self.server.launch()
            return self._is_ready() and len(self.server.workers) == 2

        self._wait_ready("master", began, started)

    def sync(self) -> None:
        """Kill a sync that is changing every budget of a sheet: all of them were changed, or none, and the next pass changes the rest."""
        self.sheet_version += 1
        self._write_sheet()
        pass_s = last_pass_s(self.server.target)
        with Pass(self.server, SHEET) as killed:
            # Half of them while it writes, which is the shorter part.
            writes = self.place.dice.random() < 0.5
            killed.wait_for_begin(of_writing=writes)
            killed.listen(self.place.dice.uniform(0, 0.5 * pass_s if writes else 1.1 * pass_s))
            killed.kill()
        began = time.monotonic()
        amounts = [amount for (amount,) in found(self.server.target, _AMOUNTS)]
        self.outcome.expect(
            amounts in ([self.sheet_version - 1], [self.sheet_version]),
            f"a sync to {self.sheet_version} that was killed left {amounts[:5]}",
        )
        self._wait_ready("sync", began, self._is_ready)
        told = self._next_pass(began)
        was_done = f"success: {BUDGETS:,} unchanged" in told
        self.sync_kills[
            "after it was done" if was_done else "within" if killed.wrote else "before it wrote"
        ] += 1
        self.outcome.expect(
            was_done or (not killed.ended and amounts != [self.sheet_version]),
            f"a sync said {killed.said[-300:]!r}, the next one {told}",
        )
        self._expect_followed(f"after a sync was killed, and the next one said {told}")

    def _next_pass(self, began: float) -> str:
        """What the next pass says of the sheet, once it is not kept out any more by the one that was killed."""
        while True:
            done = self.server.flask("sync-sheets", check=False)
            told = next(
                (
                    line
                    for line in (done.stdout + done.stderr).splitlines()
                    if f"(CSV {SHEET}): " in line
                ),
                done.stderr[-500:],
            )
            # PostgreSQL keeps a lock until it notices that its holder is gone.
            if "Traceback" in done.stderr:
                return f"{told}\n{traceback_in(done.stderr)}"
            if (
                ": skipped: " not in told
                or time.monotonic() - began > READY_S * self.place.patience
            ):
                return told

    def _expect_followed(self, when: str) -> None:
        """Every budget has the sheet's amount, each sheet was followed once, and so the history says."""
        state = [found(self.server.target, sql) for sql in (_AMOUNTS, _VERSIONS, _PASSES)]
        self.outcome.expect(
            state
            == [
                [(self.sheet_version,)],
                [(self.sheet_version,)],
                [("success",)] * self.sheet_version,
            ],
            f"{when}, sheet {self.sheet_version} is at {state}",
        )
        verify_balances(self.server.target, self.outcome, when)

    def database_process(self) -> None:
        """Kill a process of PostgreSQL's: all its connections end, and it recovers from its log."""
        with psycopg.connect(str(self.server.target), autocommit=True) as connection:
            rows = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND (datname = current_database() OR backend_type LIKE '%writer')"
            )
            processes = sorted(pid for (pid,) in rows)
        began = time.monotonic()
        os.kill(self.place.dice.choice(processes), signal.SIGKILL)
        self._wait_ready("database_process", began, self._is_ready)

    def postmaster(self) -> None:
        """Kill PostgreSQL's first process, and start the cluster anew, which recovers from its log."""
        CLUSTERS[self.place.templates.server or ""].kill_and_start()
        self._wait_ready("postmaster", time.monotonic(), self._is_ready)

    def ways(self) -> list[Callable[[], None]]:
        """What can be killed here: the whole of PostgreSQL only where it is a cluster of ours."""
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
            f"after the kill of the {way}, the server does not come back:\n{self.server.log[-3000:]}",
            timeout_s=60,
        )
        took_s = time.monotonic() - began
        self.slowest_s[way] = max(took_s, self.slowest_s.get(way, 0.0))
        self.outcome.expect(
            took_s <= READY_S * self.place.patience,
            f"the kill of the {way} left it not ready for {took_s:.1f} s",
        )


def stress(tries: int, place: Place) -> Outcome:
    """Kill `tries` times; after each, everything acknowledged is there and the balances are proven."""
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
                    time.sleep(place.dice.uniform(0, 0.2))
                    ways[number % len(ways)]()
                    outcome.tries += 1
                    place.progress(outcome.tries, tries)
            load.hold_against(server.target, outcome, f"kills {first} to {number}")
            verify_balances(server.target, outcome, f"kills {first} to {number}")
            mistakes = [
                head
                for head in tracebacks(server.log)
                if place.engine == "sqlite" or not head.endswith(LOST_CONNECTION)
            ]
            outcome.expect(
                not mistakes,
                f"tracebacks in the log, of {mistakes[:5]}: {traceback_in(server.log)}",
            )
            acknowledged += load.answer_count
    outcome.notes.append(
        f"{acknowledged:,} movements acknowledged; slowest return: "
        + ", ".join(f"{way} {took_s:.1f} s" for way, took_s in slowest_s.items())
    )
    outcome.notes.append(
        "kills of a sync: " + ", ".join(f"{count} {where}" for where, count in sync_kills.items())
    )
    outcome.expect(
        sync_kills["within"] or sync_kills.total() < SYNC_KILLS,
        f"no kill of a sync met it writing: {sync_kills}",
    )
    return outcome


def tracebacks(log: str) -> list[str]:
    """The log's line above each traceback, which says what it is of; for one that no logger wrote, its own."""
    heads, head = [], ""
    for line in log.splitlines():
        if re.fullmatch(r"\S+Z [A-Z]+ \S+ \[\S+\] \S.*", line):
            head = line
        elif "Traceback (most recent call last)" in line:
            heads.append(line if line.startswith("Traceback") else head)
    return heads


def traceback_in(log: str) -> str:
    """The first traceback of a log, and the line it belongs to."""
    where = log.find("Traceback")
    return log[max(0, where - 300) : where + 5000]
