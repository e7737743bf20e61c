"""Many clients amend one hold and move it between two budgets, while others use these budgets.

Workers are killed at random moments. Afterwards, the audit log must have every acknowledged
amendment, and at most one more per call without a response. At no point of the log may a budget be
exceeded. PostgreSQL must not have found a deadlock.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from support.installation import Installation, found
from support.machine import wait_until
from support.world import amend_body, commit_body, release_body, reserve_body, reverse_body

from stress.load import verify_balances
from stress.outcome import Outcome, Place

#: The ids sort in this order, in which the budgets must be locked. The hold moves in both ways.
BUDGETS = ("amend-a", "amend-b")
BUDGETED = 1_000
REQUEST = "moving"

CLIENTS, OTHERS = 16, 4

#: Acknowledged amendments between two kills of a worker.
KILL_EVERY = 400

#: Seconds without any acknowledged amendment after which the row fails.
STUCK_S = 60

#: The errors of amendments that are outdated, or do not fit.
USUAL = {"INSUFFICIENT_BUDGET", "NO_OPEN_RESERVATION", "AMEND_OUT_OF_DATE", "REQUEST_CONFLICT"}

_ROWS = """
    SELECT "budgetId", "version", "action", "requestId", "reservationId",
        "budgetedDeltaMinor", "reservedDeltaMinor" + "committedDeltaMinor",
        CASE WHEN "requestId" = 'moving' THEN "newValue" END
    FROM "AuditLog" WHERE "budgetId" IN ('amend-a', 'amend-b') ORDER BY "budgetId", "version"
"""
_DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
_OPEN = f"""
    SELECT "budgetId", "heldMinor" FROM "Reservation"
    WHERE "requestId" = '{REQUEST}' AND "status" = 'open'
"""


class Row(NamedTuple):
    """An audit row. `growth` is the growth of reserved plus committed, in minor units."""

    budget_id: str
    version: int
    action: str
    request_id: str | None
    reservation_id: str | None
    budgeted: int
    growth: int
    new_value: str | None


class Amended(NamedTuple):
    """An acknowledged amendment: the audit row that it names, and its amount."""

    budget_id: str
    version: int
    reservation_id: str
    amount: float
    #: Whether it says that it wrote the row, and is no replay.
    wrote: bool


@dataclass
class Clients:
    """The threads, and the responses that they got."""

    server: Installation
    seed: int
    amended: list[Amended] = field(default_factory=list)
    unsure_count: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    #: Where the hold was last, and its version, as far as known.
    place: tuple[str, int] = (BUDGETS[0], 1)
    _ended: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Reserve, and start all threads."""
        headers = self.server.key()
        first = reserve_body(requestId=REQUEST, budgetId=BUDGETS[0], amount=300)
        self.server.post("/api/budget/reserve", first, headers=headers).raise_for_status()
        for number in range(CLIENTS + OTHERS):
            rng = random.Random(self.seed + number)  # noqa: S311  # not a secret
            client = _Client(self.server.port, headers)
            work = self._amend if number < CLIENTS else self._use
            arguments = (client, rng, number, work)
            self._threads.append(threading.Thread(target=self._run, args=arguments, daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End all threads."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self, client: _Client, rng: random.Random, number: int, work: Any) -> None:
        count = 0
        while not self._ended.is_set():
            count += 1
            try:
                work(client, rng, f"{number}-{count}")
            except (OSError, http.client.HTTPException):
                client.close()
                time.sleep(0.02)
        client.close()

    def _amend(self, client: _Client, rng: random.Random, name: str) -> None:
        """Amend the hold: change its amount or move it, where it was last or elsewhere."""
        budget_id, version = self.place
        if rng.random() < 0.2:
            budget_id = rng.choice(BUDGETS)
        moves = rng.random() < 0.5
        to = BUDGETS[1 - BUDGETS.index(budget_id)] if moves else None
        amount = rng.randint(100, 90_000) / 100 if not moves or rng.random() < 0.5 else None
        body = amend_body(requestId=REQUEST, budgetId=budget_id, amount=amount, toBudgetId=to)
        if rng.random() < 0.2:
            body["ifVersion"] = version
        key = {"Idempotency-Key": name} if rng.random() < 0.5 else {}
        try:
            status, answer, replayed = client.post("amend", body, key)
        except (OSError, http.client.HTTPException):
            with self._lock:
                self.unsure_count += 1
            raise
        with self._lock:
            self._note_amendment(status, answer, moves=moves, replayed=replayed)

    def _note_amendment(
        self, status: int, answer: dict[str, Any], *, moves: bool, replayed: bool
    ) -> None:
        if status == 200:
            budget_id, version = answer["budgetId"], answer["version"]
            # The same amount on the same budget is acknowledged without an audit row.
            is_change = moves or answer["previousAmount"] != answer["amountReserved"]
            self.place = (budget_id, version)
            wrote = not replayed and is_change
            reservation_id, amount = answer["reservationId"], answer["amountReserved"]
            self.amended.append(Amended(budget_id, version, reservation_id, amount, wrote))
            return
        code = answer["code"]
        self.codes[code] += 1
        if "movedToBudgetId" in answer:
            self.place = (answer["movedToBudgetId"], self.place[1])
        if code == "OUTCOME_UNKNOWN":
            self.unsure_count += 1
        elif code not in USUAL and status != 503:
            self.unexpected.append(f"amend: {status} {answer}")

    def _use(self, client: _Client, rng: random.Random, name: str) -> None:
        """Reserve on a budget, then commit, reverse and release."""
        amount = rng.randint(100, 40_000) / 100
        common = {"budgetId": rng.choice(BUDGETS), "requestId": f"other-{name}", "amount": amount}
        part = rng.randint(1, 100) / 100
        calls = (
            ("reserve", reserve_body(**common)),
            ("commit", commit_body(**common | {"amount": part})),
            ("reverse", reverse_body(**common | {"amount": part, "to": "available"})),
            ("release", release_body(**common | {"amount": round(amount - part, 2)})),
        )
        for call, body in calls:
            # A remainder of nothing cannot be released.
            if body["amount"] <= 0:
                return
            status, answer, _ = client.post(call, body, {})
            if not (200 <= status < 300):
                if answer["code"] not in USUAL and status != 503:
                    with self._lock:
                        self.unexpected.append(f"{call}: {status} {answer}")
                return


class _Client:
    """A kept connection to the server."""

    def __init__(self, port: int, headers: dict[str, str]) -> None:
        self.port = port
        self.headers = headers | {"Content-Type": "application/json"}
        self.connection: http.client.HTTPConnection | None = None

    def post(
        self, call: str, body: dict[str, Any], headers: dict[str, str]
    ) -> tuple[int, dict[str, Any], bool]:
        """Send a call; returns status, body, and whether it is a replay."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        self.connection.request(
            "POST", f"/api/budget/{call}", json.dumps(body), self.headers | headers
        )
        response = self.connection.getresponse()
        replayed = response.getheader("Idempotent-Replayed") == "true"
        return response.status, json.loads(response.read()), replayed

    def close(self) -> None:
        """Close the connection: it was lost, or is not needed any more."""
        if self.connection:
            self.connection.close()
        self.connection = None


def stress(tries: int, place: Place) -> Outcome:
    """Let `tries` amendments be acknowledged."""
    outcome = Outcome()
    with place.installation() as server:
        for number, budget_id in enumerate(BUDGETS):
            server.flask(
                *("set-budget", "--customer", "org-456", "--id", budget_id),
                *("--amount", str(BUDGETED), "--period", "Q1 2025"),
                *("--department", f"Amended {number}"),
            )
        server.start()
        deadlocks_before = _deadlocks(server, place)
        clients = Clients(server, place.rng.randrange(10**9))
        clients.start()
        kills = 0
        try:
            while len(clients.amended) < tries:
                _wait_for(clients, min(tries, (kills + 1) * KILL_EVERY) - len(clients.amended))
                time.sleep(place.rng.uniform(0, 0.1))
                if len(clients.amended) < tries or not kills:
                    os.kill(place.rng.choice(server.workers), signal.SIGKILL)
                    kills += 1
                place.progress(len(clients.amended), tries)
        finally:
            clients.stop()
        server.stop()
        outcome.tries = len(clients.amended)
        _compare(clients, server, outcome)
        verify_balances(server.target, outcome, "at the end")
        deadlocks = _deadlocks(server, place) - deadlocks_before
        retries = server.log.count("Retrying a transaction")
        outcome.expect(not deadlocks, f"PostgreSQL found {deadlocks} deadlocks")
        outcome.expect("deadlock" not in server.log, "the server log has a deadlock")
        outcome.notes.append(
            f"{kills} workers killed, {clients.unsure_count} amendments without a response,"
            f" {deadlocks} deadlocks, {retries} retries; errors: {dict(clients.codes)}"
        )
    return outcome


def _wait_for(clients: Clients, more: int) -> None:
    """Wait for further acknowledged amendments. Fails if there are none for a while."""
    enough = len(clients.amended) + more
    while (seen := len(clients.amended)) < enough:
        wait_until(
            lambda seen=seen: len(clients.amended) > seen,  # type: ignore[misc]  # the default
            f"no amendment was acknowledged; {clients.unexpected[:3]} {clients.codes}",
            STUCK_S,
        )


def _deadlocks(server: Installation, place: Place) -> int:
    """The number of deadlocks that PostgreSQL found in the database; 0 on SQLite."""
    return int(found(server.target, _DEADLOCKS)[0][0]) if place.engine == "postgresql" else 0


def _compare(clients: Clients, server: Installation, outcome: Outcome) -> None:
    """Compare the acknowledgements with the audit log, and that with the budgets."""
    outcome.expect(not clients.unexpected, f"unexpected responses: {clients.unexpected[:3]}")
    rows = [Row(*row) for row in found(server.target, _ROWS)]
    _expect_within_budgets(rows, outcome)
    there = {(row.budget_id, row.version): row for row in rows if row.request_id == REQUEST}
    for amended in clients.amended:
        row = there.get((amended.budget_id, amended.version))
        outcome.expect(
            row is not None
            and row.reservation_id == amended.reservation_id
            and float(row.new_value or 0) == float(amended.amount),
            f"{amended} was acknowledged, but the audit log has {row}",
        )
    written = [(each.budget_id, each.version) for each in clients.amended if each.wrote]
    twice = [place for place, times in Counter(written).items() if times > 1]
    outcome.expect(not twice, f"acknowledged as two amendments, but one row: {twice[:3]}")
    # Of a move, the row on the target is acknowledged.
    changes = {
        place
        for place, row in there.items()
        if row.action == "AMEND" or (row.action == "TRANSFER" and row.growth > 0)
    }
    known = {(each.budget_id, each.version) for each in clients.amended}
    outcome.expect(
        len(changes - known) <= clients.unsure_count,
        f"{len(changes - known)} amendments were not acknowledged, but only"
        f" {clients.unsure_count} calls got no response",
    )
    holds = found(server.target, _OPEN)
    outcome.expect(len(holds) == 1, f"the request holds money {len(holds)} times: {holds}")
    outcome.notes.append(
        f"{len(changes):,} changes, of which {sum(row.action == 'TRANSFER' for row in rows) // 2:,}"
        f" moves; {len(rows):,} audit rows"
    )


def _expect_within_budgets(rows: list[Row], outcome: Outcome) -> None:
    """No budget is exceeded at any version."""
    budgeted: Counter[str] = Counter()
    used: Counter[str] = Counter()
    for row in rows:
        budgeted[row.budget_id] += row.budgeted
        used[row.budget_id] += row.growth
        outcome.expect(
            0 <= used[row.budget_id] <= budgeted[row.budget_id],
            f"{row.budget_id} had {used[row.budget_id]} of {budgeted[row.budget_id]} in use at"
            f" version {row.version}",
        )
