"""Another process holds SQLite's write lock for 1 to 30 seconds.

Calls get 503 with Retry-After in time, and succeed afterwards.
"""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import requests
from support.installation import Installation
from support.world import check_body

from stress.kills import traceback_in
from stress.load import STEPS, compare, verify_balances
from stress.outcome import Outcome, Place

#: The service's timeout for locks, and an allowance for a machine under load.
BUSY_TIMEOUT_S = 5
SLACK_S = 10

LONGEST_S = 30

#: A program that holds the write lock of a given file until its standard input is closed.
HOLD_LOCK = """
import sys
from peewee import sqlite3
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


def stress(tries: int, place: Place) -> Outcome:
    """Hold the lock `tries` times; the durations repeat from 1 s to 30 s."""
    outcome = Outcome()
    slowest_s = 0.0
    with place.installation() as server:
        server.start()
        for number in range(tries):
            # The first two are shorter and longer than the service's timeout.
            held_s = (1, BUSY_TIMEOUT_S + 2)[number] if number < 2 else number % LONGEST_S + 1
            slowest_s = max(slowest_s, _hold(server, number, held_s, outcome))
            outcome.tries += 1
            place.progress(outcome.tries, tries)
        verify_balances(server.target, outcome, "at the end")
        outcome.expect(
            "Traceback" not in server.log,
            f"traceback in the server log: {traceback_in(server.log)}",
        )
    outcome.notes.append(f"slowest response while locked: {slowest_s:.1f} s")
    return outcome


def _hold(server: Installation, number: int, held_s: int, outcome: Outcome) -> float:
    """Send calls while the lock is held; returns the seconds of the slowest response."""
    tag = f"lock {number}"
    when = f"held for {held_s} s"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, str(server.database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    began = time.monotonic()
    with ThreadPoolExecutor(16) as threads:
        answers = [threads.submit(_call, server, f"{tag}-{caller}") for caller in range(16)]
        while time.monotonic() < began + held_s:
            reading_began = time.monotonic()
            outcome.expect(
                requests.get(
                    f"{server.url}/api/budgets", headers=server.key(), timeout=30
                ).status_code
                == 200,
                f"{when}: reading fails",
            )
            outcome.expect(
                time.monotonic() - reading_began < BUSY_TIMEOUT_S,
                f"{when}: reading waits for the writer",
            )
            time.sleep(0.2)
        holder.communicate()
        responses = [answer.result() for answer in answers]
    slowest_s = 0.0
    timelines: dict[str, tuple[int, str | None]] = {}
    for caller, (response, took_s) in enumerate(responses):
        slowest_s = max(slowest_s, took_s)
        outcome.expect(took_s < BUSY_TIMEOUT_S + SLACK_S, f"{when}: a response took {took_s:.1f} s")
        if response.status_code == 200:
            timelines[f"{tag}-{caller}"] = (1, response.json().get("reservationId"))
            continue
        honest = (
            response.status_code == 503
            and "Retry-After" in response.headers
            and response.json()["code"] == "UNAVAILABLE"
        )
        outcome.expect(honest, f"{when}: got {response.status_code} {response.text[:300]}")
    reserves = {request: timeline for request, timeline in timelines.items() if timeline[1]}
    compare(reserves, set(), server.target, outcome, when, tag)
    after = _call(server, f"after {tag}-0")[0]
    outcome.expect(
        after.status_code == 200,
        f"{when}: afterwards got {after.status_code} {after.text[:300]}",
    )
    return slowest_s


def _call(server: Installation, request: str) -> tuple[requests.Response, float]:
    """Reserve, or check for every fourth caller; returns the response and its duration in s."""
    began = time.monotonic()
    call, body, _ = STEPS[0]
    if int(request.rpartition("-")[2]) % 4 == 3:
        response = server.post(
            "/api/budget/check", check_body(requestId=request), headers=server.key()
        )
    else:
        response = server.post(f"/api/budget/{call}", body(request), headers=server.key())
    return response, time.monotonic() - began
