"""Jumps of the wall clock by an hour or a year, back and forth, under load and during sync runs.

Order, durations, sessions and login limits must stay correct.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import requests
from support.installation import Installation, found
from support.sources import write_reading
from support.world import ROOT, check_body, release_body, reserve_body

from budget_sync import database
from budget_sync.accounts.authentication import MAX_FAILURES_ACCOUNT, WINDOW_S
from budget_sync.operations import demo
from budget_sync.queries import audit
from stress.load import Load, verify_balances
from stress.outcome import Outcome, Place
from stress.preload import Clock, preload
from stress.sync_runs import SyncRun, last_run_s, write_sheet

HOUR_S = 3600
YEAR_S = 365 * 24 * HOUR_S
JUMPS_S = (YEAR_S, -HOUR_S, HOUR_S, -YEAR_S)

#: The status of a session's request after a jump. A session lasts 12 hours, so an hour forward is
#: harmless; a session that was created in the future is not valid yet.
STATUS_AFTER = {HOUR_S: 200, -HOUR_S: 401, YEAR_S: 401, -YEAR_S: 401}

#: The sheet's file name and number of budgets.
SHEET, BUDGETS = "clock.csv", 500

#: With at least this many jumps, some must happen during a sync run.
MEETS_A_RUN = 4

#: A timestamp further than this from the true time was written while the clock was wrong.
TURNED_S = HOUR_S / 2

#: Number of rapid jumps back and forth, so that some checks begin and end with different clocks,
#: and the seconds between them.
FLICKERS, FLICKER_S = 100, 0.001

#: Queries that must find no rows, by the problem they detect.
_NEVER = {
    "a check with a wrong duration": """
        SELECT "checkId" FROM "BudgetCheckLog" WHERE "durationMs" < 0 OR "durationMs" > 60000
    """,
    "a sync run with a wrong duration": """
        SELECT "syncId" FROM "SyncHistory"
        WHERE "durationMs" < 0 OR "durationMs" > 60000 OR "endTime" < "startTime"
    """,
    "a sync run with a duration of a year": """
        SELECT "syncId" FROM "SyncHistory"
        WHERE substr("endTime", 1, 4) > substr("startTime", 1, 4) AND "durationMs" < 60000
    """,
    "movements out of order": """
        SELECT a."id" FROM "AuditLog" a
        JOIN "AuditLog" b ON b."budgetId" = a."budgetId" AND b."version" = a."version" + 1
        WHERE b."id" < a."id"
    """,
}


def stress(tries: int, place: Place) -> Outcome:
    """Let the clock jump `tries` times."""
    outcome = Outcome()
    with place.installation() as server:
        clock = Clock(place.folder / "clock")
        preload(server, STRESS_CLOCK=clock.path)
        server.start()
        write_sheet(server, SHEET, BUDGETS, 1)
        server.flask(
            *("add-source", "--customer", demo.CUSTOMER, "--csv", SHEET, "--accept"),
            *("--reading", str(write_reading(server.folder))),
        )
        jumper = Jumper(server, clock, place, outcome, server.session("fiona"))
        with Load(server, "clock", threads_count=4, pause_s=0.05, checks=True) as load:
            for number in range(tries):
                jumper.jump(
                    JUMPS_S[number] if number < len(JUMPS_S) else place.rng.choice(JUMPS_S), number
                )
                load.wait_for(10)
                outcome.tries += 1
                place.progress(number + 1, tries)
        load.compare_with(server.target, outcome, "after all jumps")
        verify_balances(server.target, outcome, "after all jumps")
        for name, sql in _NEVER.items():
            rows = found(server.target, sql)
            outcome.expect(not rows, f"{name}: {rows[:3]}")
        outcome.expect(
            "Traceback" not in server.log, f"traceback in the server log: {server.log[-2000:]}"
        )
    met = jumper.met
    outcome.notes.append(
        f"{met['runs']} jumps during a sync run, {met['checks']:,} checks with a wrong clock"
    )
    outcome.expect(met["runs"] or tries < MEETS_A_RUN, "no jump happened during a sync run")
    outcome.expect(met["checks"], "no check happened with a wrong clock")
    return outcome


@dataclass
class Jumper:
    """Changes the clock under load and verifies the effects."""

    server: Installation
    clock: Clock
    place: Place
    outcome: Outcome
    #: Session of a user who may read all checks.
    fiona: requests.Session
    #: Number of jumps during a sync run ("runs") and of checks with a wrong clock ("checks").
    met: Counter[str] = field(default_factory=Counter)

    def jump(self, jump_s: int, number: int) -> None:
        """Log in, jump during a sync run, verify the effects, and jump back."""
        when = f"with a jump of {jump_s} s"
        self.clock.ahead(0)
        session = self.server.session("jane")
        ((last_check,),) = found(
            self.server.target, """SELECT COALESCE(MAX("id"), 0) FROM "BudgetCheckLog" """
        )
        self._jump_in_a_run(jump_s, number, when)
        self._expect_status(session, STATUS_AFTER[jump_s], when)
        self._lock_out(when)
        for _ in range(FLICKERS):
            for ahead_s in (0, jump_s):
                self.clock.ahead(ahead_s)
                time.sleep(FLICKER_S)
        timeline = Timeline(self.server, f"turned-{number}", self.outcome, when)
        timeline.go_on()
        self.clock.ahead(0)
        self._count_checks(last_check)
        self._expect_history(when)
        timeline.go_on()
        timeline.expect_order(self.fiona, jump_s)
        self._expect_status(session, 200, f"{when} and back")
        # Failed logins with the wrong clock must not block her with the true one.
        right = self._log_in(
            (self.server.folder / "demo" / "jane.json").read_text(encoding="utf-8")
        )
        self.outcome.expect(
            right.status_code == 200,
            f"{when} and back, login fails with {right.status_code} {right.text[:200]}",
        )

    def _jump_in_a_run(self, jump_s: int, number: int, when: str) -> None:
        write_sheet(self.server, SHEET, BUDGETS, number + 1)
        run_s = last_run_s(self.server.target)
        began, began_at = time.monotonic(), datetime.now(UTC)
        with SyncRun(self.server, SHEET) as met:
            met.wait_for_begin()
            met.collect(self.place.rng.uniform(0, run_s))
            self.clock.ahead(jump_s)
            jumped_at = datetime.now(UTC)
            is_met = met.began and not met.ended
            status = met.wait()
        took_ms = (time.monotonic() - began) * 1000
        self.met["runs"] += is_met
        self.outcome.expect(status == 0, f"a sync run {when} failed: {met.output}")
        ((reported_ms, start),) = found(
            self.server.target,
            """SELECT "durationMs", "startTime" FROM "SyncHistory" ORDER BY "id" DESC LIMIT 1""",
        )
        self.outcome.expect(
            0 <= reported_ms <= took_ms,
            f"a sync run {when} took at most {took_ms:.0f} ms, but reports {reported_ms}",
        )
        # Only if the run began before the jump. Times are stored to the second.
        in_time = began_at - timedelta(seconds=1) <= datetime.fromisoformat(start) <= jumped_at
        self.outcome.expect(
            in_time or not is_met,
            f"a sync run {when} began at {began_at} or later, but reports {start}",
        )

    def _expect_status(self, session: requests.Session, status: int, when: str) -> None:
        answer = session.get(f"{self.server.url}/api/auth/me", timeout=30)
        self.outcome.expect(
            answer.status_code == status, f"{when}, a session gets {answer.status_code}"
        )

    def _log_in(self, body: str) -> requests.Response:
        return requests.post(
            f"{self.server.url}/api/auth/login",
            data=body,
            headers={"Content-Type": "application/json"},
            timeout=30,
        )

    def _lock_out(self, when: str) -> None:
        """Fail to log in as often as allowed, and once more."""
        answers = [
            self._log_in('{"email": "jane@acme.com", "password": "not hers"}')
            for _ in range(MAX_FAILURES_ACCOUNT + 1)
        ]
        statuses = [answer.status_code for answer in answers]
        self.outcome.expect(
            statuses == [401] * MAX_FAILURES_ACCOUNT + [429],
            f"{when}, wrong passwords get {statuses}",
        )
        wait_s = answers[-1].json().get("retryAfter", 0)
        self.outcome.expect(0 < wait_s <= WINDOW_S, f"{when}, retryAfter is {wait_s} s")

    def _count_checks(self, last_check: int) -> None:
        """Count the load's checks since `last_check` that were stored with a wrong time."""
        rows = found(
            self.server.target,
            f"""
            SELECT "timestamp" FROM "BudgetCheckLog"
            WHERE "id" > {last_check} AND "requestId" LIKE 'clock-%'
            """,
        )
        now = datetime.now(UTC)
        self.met["checks"] += sum(
            abs((datetime.fromisoformat(at) - now).total_seconds()) > TURNED_S for (at,) in rows
        )

    def _expect_history(self, when: str) -> None:
        """The budget's history begins with the newest row, even if its timestamp is older."""
        newest_first = f"""
            SELECT "id" FROM "AuditLog" WHERE "budgetId" = '{demo.BUDGET}' %s
            ORDER BY "version" DESC LIMIT {audit.HISTORY_SIZE}
        """
        ((newest,), *_) = found(self.server.target, newest_first % "")
        database.connect(self.server.target)
        try:
            lines, _ = audit.budget_history(ROOT, demo.CUSTOMER, demo.BUDGET)
        finally:
            database.disconnect()
        shown = [line.id for line in lines]
        expected = [
            row for (row,) in found(self.server.target, newest_first % f'AND "id" <= {shown[0]}')
        ]
        self.outcome.expect(
            shown == expected and shown[0] >= newest,
            f"{when} and back, the history is {shown}; expected is {expected}, from {newest} on",
        )


@dataclass
class Timeline:
    """A request that is checked, reserved and released with different clocks."""

    server: Installation
    request: str
    outcome: Outcome
    when: str
    checks: list[str] = field(default_factory=list)
    reservations: list[str] = field(default_factory=list)

    def go_on(self) -> None:
        """Check, reserve and release again. Each new reserve requires a check after the release."""
        self.checks.append(
            self._call("check", check_body(requestId=self.request, amount=0.1)).get("checkId", "")
        )
        self.reservations.append(
            self._call("reserve", reserve_body(requestId=self.request, amount=0.1)).get(
                "reservationId", ""
            )
        )
        self._call("release", release_body(requestId=self.request, amount=0.1))

    def expect_order(self, session: requests.Session, jump_s: int) -> None:
        """The timeline has the true order, despite wrong timestamps.

        A check before the last release does not allow another reserve, even if its time is later.
        """
        self._call("reserve", reserve_body(requestId=self.request, amount=0.1), status=409)
        shown = session.get(f"{self.server.url}/api/requests/{self.request}", timeout=30).json()
        seen = (
            [check["checkId"] for check in shown["checks"]],
            [reservation["reservationId"] for reservation in shown["reservations"]],
            [(movement["action"], movement["reservationId"]) for movement in shown["movements"]],
        )
        moved = [
            (action, reservation)
            for reservation in self.reservations
            for action in ("RESERVE", "RELEASE")
        ]
        self.outcome.expect(
            seen == (self.checks, self.reservations, moved),
            f"{self.when}, {self.request} was {self.checks}, {moved}, but is shown as {seen}",
        )
        times = [movement["createdAt"] for movement in shown["movements"]]
        self.outcome.expect(
            (times != sorted(times)) == (jump_s > 0),
            f"{self.when}, the movements have the times {times}",
        )

    def _call(self, call: str, body: dict[str, Any], status: int = 200) -> dict[str, Any]:
        response = self.server.post(f"/api/budget/{call}", body, headers=self.server.key())
        self.outcome.expect(
            response.status_code == status,
            f"{self.when}, {self.request} {call}: {response.status_code} {response.text[:300]}",
        )
        answer: dict[str, Any] = response.json()
        return answer
