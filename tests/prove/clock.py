"""The wall clock jumps by an hour or a year, back and forth, under load and in the middle of passes: order, durations, sessions and locks stay right."""

from __future__ import annotations

import subprocess
import sys
import time

import requests
from conftest import PROJECT, Installation, found

from prove.load import Load, prove_balances
from prove.outcome import Outcome, Place
from prove.preload import Clock, preload

HOUR_S = 3600
YEAR_S = 365 * 24 * HOUR_S
JUMPS_S = (YEAR_S, -HOUR_S, HOUR_S, -YEAR_S)

#: A session is good for 12 hours, so an hour more does it no harm; one of a time that is yet to come is nobody's until then.
STATUS_AFTER = {HOUR_S: 200, -HOUR_S: 401, YEAR_S: 401, -YEAR_S: 401}

#: What must never be found, by what it is called.
_NEVER = {
    "a check that took less than no time": """SELECT "checkId" FROM "BudgetCheckLog" WHERE "durationMs" < 0 OR "durationMs" > 60000""",
    "a pass that took less than no time": """SELECT "syncId" FROM "SyncHistory" WHERE "durationMs" < 0 OR "durationMs" > 60000 OR "endTime" < "startTime" """,
    "a pass that took a year": """SELECT "syncId" FROM "SyncHistory" WHERE substr("endTime", 1, 4) > substr("startTime", 1, 4) AND "durationMs" < 60000""",
    "movements out of order": """
        SELECT a."id" FROM "AuditLog" a JOIN "AuditLog" b ON b."budgetId" = a."budgetId" AND b."version" = a."version" + 1 WHERE b."id" < a."id"
    """,
}


def prove(tries: int, place: Place) -> Outcome:
    """Let the clock jump `tries` times."""
    outcome = Outcome()
    with place.installation() as server:
        clock = Clock(place.folder / "clock")
        preload(server, PROVE_CLOCK=clock.path)
        server.start()
        _make_source(server)
        with Load(server, "clock", threads_count=4, pause_s=0.05) as load:
            for number in range(tries):
                jump_s = JUMPS_S[number] if number < len(JUMPS_S) else place.dice.choice(JUMPS_S)
                _jump(server, clock, jump_s, number, outcome)
                load.wait_for(10)
                outcome.tries += 1
                place.progress(number + 1, tries)
        load.hold_against(server.target, outcome, "after all jumps")
        prove_balances(server.target, outcome, "after all jumps")
        for name, sql in _NEVER.items():
            rows = found(server.target, sql)
            outcome.expect(not rows, f"{name}: {rows[:3]}")
        outcome.expect("Traceback" not in server.log, f"a traceback in the log: {server.log[-2000:]}")
    return outcome


def _jump(server: Installation, clock: Clock, jump_s: int, number: int, outcome: Outcome) -> None:
    """Sign in, jump in the middle of a pass, look whether the session is as good as it should be, and jump back."""
    clock.ahead(0)
    session = server.session("jane")
    _write_sheet(server, number)
    command = subprocess.Popen(
        [sys.executable, "-m", "flask", "sync-sheets"], cwd=PROJECT, env=server.full_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    # Before it starts to read, or while it does, or after: the machine throws these dice.
    time.sleep(0.4 + 0.1 * (number % 5))
    clock.ahead(jump_s)
    said, _ = command.communicate(timeout=60)
    outcome.expect(command.returncode == 0, f"a pass in which the clock jumped {jump_s} s: {said}")
    status = session.get(f"{server.url}/api/auth/me", timeout=30).status_code
    outcome.expect(status == STATUS_AFTER[jump_s], f"after a jump of {jump_s} s a session is answered with {status}")
    login = (server.folder / "demo" / "jane.json").read_text(encoding="utf-8")
    for _ in range(2):
        wrong = requests.post(f"{server.url}/api/auth/login", json={"email": "jane@acme.com", "password": "not hers"}, timeout=30)
        outcome.expect(wrong.status_code == 401, f"after a jump of {jump_s} s a wrong password is answered with {wrong.status_code}")
    clock.ahead(0)
    status = session.get(f"{server.url}/api/auth/me", timeout=30).status_code
    outcome.expect(status == 200, f"after a jump of {jump_s} s and back, the session is answered with {status}")
    # What she failed at under the other clock must not lock her out under the true one.
    right = requests.post(f"{server.url}/api/auth/login", data=login, headers={"Content-Type": "application/json"}, timeout=30)
    outcome.expect(right.status_code == 200, f"after a jump of {jump_s} s and back, signing in is answered with {right.status_code} {right.text[:200]}")


def _make_source(server: Installation) -> None:
    _write_sheet(server, 0)
    server.flask("add-source", "--customer", "org-456", "--csv", "clock.csv")


def _write_sheet(server: Installation, number: int) -> None:
    folder = server.folder / "sheets"
    folder.mkdir(exist_ok=True)
    rows = [f"Department {row},Q1 2026,{number + 1}" for row in range(200)]
    (folder / "clock.csv").write_text("\n".join(["Department,Fiscal Period,Budgeted Amount", *rows, ""]), encoding="utf-8")
