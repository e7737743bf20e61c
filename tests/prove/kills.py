"""SIGKILL at a random moment under load: of a worker, of the master, of a sync; on PostgreSQL also of the database's own processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import requests
from conftest import PROJECT, Installation, found, wait_until

from prove.load import Load, prove_balances
from prove.outcome import Outcome, Place

#: Seconds within which the service is to be ready again.
READY_S = 5.0

#: Kills on one installation before the next is made, so that a look at all of it does not get ever longer.
KILLS_EACH = 25

BUDGETS = 300


def children_of(pid: int) -> set[int]:
    """The process ids below a process."""
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()}


@dataclass
class Victim:
    """An installation under load, and the ways to kill it. Each returns once it is ready again, or not in time."""

    server: Installation
    place: Place
    outcome: Outcome
    slowest_s: dict[str, float] = field(default_factory=dict)
    sheet_version: int = 1

    def prepare(self) -> None:
        """Follow a sheet of many budgets, and start."""
        self._write_sheet()
        self.server.flask("add-source", "--customer", "org-456", "--csv", "many.csv")
        self.server.flask("sync-sheets", check=False)
        self.server.start()

    def worker(self) -> None:
        """Kill a worker; the other goes on, and another comes."""
        assert self.server.server is not None
        master = self.server.server.pid
        before = children_of(master)
        began = time.monotonic()
        os.kill(self.place.dice.choice(sorted(before)), signal.SIGKILL)
        self._wait_ready("worker", began, lambda: self._is_ready() and len(children_of(master) - before) == 1)

    def master(self) -> None:
        """Kill the master, whose workers notice and end; start again as soon as may be, as a supervisor does."""
        began = time.monotonic()
        self.server.stop(signal.SIGKILL)

        def started() -> bool:
            if self.server.server is None or self.server.server.poll() is not None:
                self.server.launch()
            assert self.server.server is not None
            return self._is_ready() and len(children_of(self.server.server.pid)) == 2

        self._wait_ready("master", began, started)

    def sync(self) -> None:
        """Kill a sync that is changing every budget of a sheet: all of them were changed, or none."""
        self.sheet_version += 1
        self._write_sheet()
        process = subprocess.Popen(
            [sys.executable, "-m", "flask", "sync-sheets"],
            cwd=PROJECT,
            env=self.server.full_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with suppress(subprocess.TimeoutExpired):
            process.wait(self.place.dice.uniform(0.3, 1.2))
        process.kill()
        process.wait()
        amounts = found(self.server.target, """SELECT DISTINCT "budgetedMinor" FROM "Budget" WHERE "department" LIKE 'Department %' AND "deletedAt" IS NULL""")
        self.outcome.expect(len(amounts) == 1, f"a sync that was killed left budgets of {len(amounts)} sheets")
        self._wait_ready("sync", time.monotonic(), self._is_ready)

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

    def _write_sheet(self) -> None:
        folder = self.server.folder / "sheets"
        folder.mkdir(exist_ok=True)
        rows = [f"Department {number},Q1 2026,{self.sheet_version}" for number in range(BUDGETS)]
        # In its place at once: a pass must not read half of it.
        draft = folder / "draft"
        draft.write_text("\n".join(["Department,Fiscal Period,Budgeted Amount", *rows, ""]), encoding="utf-8")
        draft.replace(folder / "many.csv")

    def _is_ready(self) -> bool:
        try:
            return requests.get(f"{self.server.url}/readyz", timeout=5).ok
        except requests.RequestException:
            return False

    def _wait_ready(self, way: str, began: float, is_ready: Callable[[], bool]) -> None:
        wait_until(is_ready, f"after the kill of the {way}, the server does not come back:\n{self.server.log[-3000:]}", timeout_s=60)
        took_s = time.monotonic() - began
        self.slowest_s[way] = max(took_s, self.slowest_s.get(way, 0.0))
        self.outcome.expect(took_s <= READY_S * self.place.patience, f"the kill of the {way} left it not ready for {took_s:.1f} s")


def prove(tries: int, place: Place) -> Outcome:
    """Kill `tries` times; after each, everything acknowledged is there and the balances are proven."""
    outcome = Outcome()
    slowest_s: dict[str, float] = {}
    acknowledged = 0
    for first in range(0, tries, KILLS_EACH):
        with place.installation(f"instance-{first}") as server:
            victim = Victim(server, place, outcome, slowest_s)
            ways = [victim.worker, victim.master, victim.sync, *([victim.database_process] * (place.engine == "postgresql"))]
            victim.prepare()
            with Load(server, "kill") as load:
                for number in range(first, min(first + KILLS_EACH, tries)):
                    load.wait_for(20)
                    time.sleep(place.dice.uniform(0, 0.2))
                    ways[number % len(ways)]()
                    outcome.tries += 1
                    place.progress(outcome.tries, tries)
            load.hold_against(server.target, outcome, f"kills {first} to {number}")
            prove_balances(server.target, outcome, f"kills {first} to {number}")
            outcome.expect("Traceback" not in server.log or place.engine == "postgresql", f"a traceback in the log: {traceback_in(server.log)}")
            acknowledged += load.answer_count
    outcome.notes.append(f"{acknowledged:,} movements acknowledged; slowest return: " + ", ".join(f"{way} {took_s:.1f} s" for way, took_s in slowest_s.items()))
    return outcome


def traceback_in(log: str) -> str:
    """The first traceback of a log, and the line it belongs to."""
    where = log.find("Traceback")
    return log[max(0, where - 300) : where + 1500]
