"""Load: threads that move money with every call continuously and record the acknowledgements.

Afterwards, the database is compared with the record: it must have every acknowledged movement, and
otherwise at most the movement of each call that got no response.
"""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

from support.installation import Installation, found
from support.machine import wait_until
from support.world import (
    amend_body,
    check_body,
    commit_body,
    release_body,
    reserve_body,
    reverse_body,
    spend_body,
)

from budget_sync import database
from budget_sync.ledger import verification
from stress.balances import BALANCES, StoredBalance
from stress.outcome import Outcome

#: The budget to which every request moves.
TARGET = "budget-124"


class Step(NamedTuple):
    """A call in the life of a request: its body, and its expected audit rows.

    Each movement has the action and the reserved delta in minor units.
    """

    call: str
    body: Callable[[str], dict[str, Any]]
    movements: tuple[tuple[str, int], ...]


#: The life of every request. The spend has the id of the request, so it is found with its rows.
STEPS = (
    Step(
        "reserve", lambda request: reserve_body(requestId=request, amount=0.1), (("RESERVE", 10),)
    ),
    Step("amend", lambda request: amend_body(requestId=request, amount=0.12), (("AMEND", 2),)),
    Step("commit", lambda request: commit_body(requestId=request, amount=0.03), (("COMMIT", -3),)),
    Step(
        "reverse",
        lambda request: reverse_body(requestId=request, amount=0.01, to="reserved"),
        (("REVERSE", 1),),
    ),
    Step(
        "amend",
        lambda request: amend_body(requestId=request, amount=0.08, toBudgetId=TARGET),
        (("TRANSFER", -10), ("TRANSFER", 8)),
    ),
    Step("spend", lambda request: spend_body(spendId=request, amount=0.02), (("SPEND", 0),)),
    Step(
        "release",
        lambda request: release_body(budgetId=TARGET, requestId=request, amount=0.08),
        (("RELEASE", -8),),
    ),
)

#: The step that moves the request. Its second row, and the next steps, have a new reservation.
MOVE = 4


def add_target(server: Installation) -> None:
    """Add the budget to which requests move, unless it is there."""
    if not found(server.target, f"""SELECT 1 FROM "Budget" WHERE "id" = '{TARGET}'"""):
        server.flask(
            *("set-budget", "--customer", "org-456", "--id", TARGET, "--amount", "100000"),
            *("--department", "Support", "--period", "Q1 2025"),
        )


@dataclass
class Load:
    """Threads that move money on the demo's budget, and the record of every request."""

    server: Installation
    tag: str
    threads_count: int = 8
    #: Seconds between two calls of a thread; more than 0 for light load.
    pause_s: float = 0.0
    #: Whether each request is checked before it is reserved.
    checks: bool = False
    #: Number of acknowledged steps of each request, and of sent ones.
    acknowledged: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    sent: dict[str, int] = field(default_factory=dict)
    reservations: dict[str, str] = field(default_factory=dict)
    #: The reservation of each request after its move.
    moved: dict[str, str] = field(default_factory=dict)
    #: The acknowledged check of each request.
    checked: dict[str, str] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)
    unexpected: list[str] = field(default_factory=list)
    answer_count: int = 0
    unavailable_count: int = 0
    #: Called after each acknowledged step with the request and the step's number.
    on_acknowledged: Any = None
    _ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        add_target(self.server)
        headers = self.server.key() | {"Content-Type": "application/json"}
        self._threads = [
            threading.Thread(target=self._run, args=(number, headers), daemon=True)
            for number in range(self.threads_count)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, more: int) -> None:
        """Wait until this many further calls have succeeded. Fails after 30 s without any."""
        enough = self.answer_count + more
        while (seen := self.answer_count) < enough:
            wait_until(
                lambda: self.answer_count > seen,
                f"the server stopped responding; {self.unexpected[:3]}",
                30,
            )  # used up within the round

    def _run(self, number: int, headers: dict[str, str]) -> None:
        connection: http.client.HTTPConnection | None = None
        for count in itertools.count():
            request = f"{self.tag}-{number}-{count}"
            for step, (call, body, _) in enumerate(STEPS):
                while connection is None:
                    if self._ended.is_set():
                        return
                    connection = self._connect()
                checked = step > 0 or not self.checks or self._check(connection, request, headers)
                if (
                    self._ended.is_set()
                    or not checked
                    or not self._step(connection, request, step, call, body(request), headers)
                ):
                    connection.close()
                    connection = None
                    break
                if self.pause_s:
                    self._ended.wait(self.pause_s)

    def _connect(self) -> http.client.HTTPConnection | None:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        try:
            connection.connect()
        except OSError:
            # The server is down.
            time.sleep(0.02)
            return None
        return connection

    def _check(
        self, connection: http.client.HTTPConnection, request: str, headers: dict[str, str]
    ) -> bool:
        """Check the request, which moves nothing; False if there was no response."""
        text = self._answer(
            connection, request, "check", check_body(requestId=request, amount=0.1), headers
        )
        if text:
            self.checked[request] = json.loads(text)["checkId"]
        return text is not None

    def _step(
        self,
        connection: http.client.HTTPConnection,
        request: str,
        step: int,
        call: str,
        body: dict[str, Any],
        headers: dict[str, str],
    ) -> bool:
        """Send one call that moves money; False if the request ends here."""
        self.sent[request] = step + 1
        text = self._answer(
            connection, request, call, body, headers | {"Idempotency-Key": f"{request}-{step}"}
        )
        if text is None:
            return False
        self.acknowledged[request] = step + 1
        if step == 0:
            self.reservations[request] = json.loads(text)["reservationId"]
        if step == MOVE:
            self.moved[request] = json.loads(text)["reservationId"]
        if self.on_acknowledged:
            self.on_acknowledged(request, step)
        self.answer_count += 1
        return True

    def _answer(
        self,
        connection: http.client.HTTPConnection,
        request: str,
        call: str,
        body: dict[str, Any],
        headers: dict[str, str],
    ) -> bytes | None:
        """Send a call; returns the body of a 200 response. Otherwise records the failure."""
        try:
            connection.request("POST", f"/api/budget/{call}", json.dumps(body), headers)
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException):
            self._record_unsure(request, call)
            return None
        if response.status == 503:
            self.unavailable_count += 1
            if b"OUTCOME_UNKNOWN" in text:
                self._record_unsure(request, call)
            return None
        if response.status != 200:
            self.unexpected.append(f"{request} {call}: {response.status} {text[:300]!r}")
            return None
        return text

    def _record_unsure(self, request: str, call: str) -> None:
        """Record that the call may have succeeded. Irrelevant for a check."""
        if call != "check":
            self.unsure.add(request)

    def compare_with(self, target: Path | str, outcome: Outcome, when: str) -> None:
        """Compare with a database: nothing is lost, duplicated, partial or unrequested."""
        outcome.expect(not self.unexpected, f"{when}: unexpected responses: {self.unexpected[:3]}")
        compare(self.timelines(), self.unsure, target, outcome, when, self.tag)
        stored = set(
            found(
                target,
                f"""
                SELECT "requestId", "checkId" FROM "BudgetCheckLog"
                WHERE "requestId" LIKE '{self.tag}-%'
                """,
            )
        )
        lost = self.checked.items() - stored
        outcome.expect(
            not lost, f"{when}: acknowledged checks that are not stored: {sorted(lost)[:3]}"
        )

    def timelines(self) -> dict[str, tuple[int, str | None]]:
        """The acknowledged steps and the reservation id of each request."""
        return {
            request: (steps, self.reservations.get(request))
            for request, steps in self.acknowledged.items()
        }


def compare(
    timelines: dict[str, tuple[int, str | None]],
    unsure: set[str],
    target: Path | str,
    outcome: Outcome,
    when: str,
    tag: str,
) -> None:
    """Compare requests with a database. `unsure` may have one step more than acknowledged."""
    most = {
        request: timelines.get(request, (0, None))[0] + (request in unsure)
        for request in timelines.keys() | unsure
    }
    compare_within(timelines, most, target, outcome, when, tag)


def compare_within(
    timelines: dict[str, tuple[int, str | None]],
    most: dict[str, int],
    target: Path | str,
    outcome: Outcome,
    when: str,
    tag: str,
) -> None:
    """Compare requests with a database: each has its acknowledged steps, and at most `most`."""
    rows = found(
        target,
        f"""
        SELECT "requestId", "action", "reservedDeltaMinor", "reservationId" FROM "AuditLog"
        WHERE "requestId" LIKE '{tag}-%' ORDER BY "id"
        """,
    )
    stored: dict[str, list[tuple[str, int]]] = defaultdict(list)
    ids: dict[str, list[str | None]] = defaultdict(list)
    for request, action, delta, reservation in rows:
        stored[request].append((action, delta))
        ids[request].append(reservation)
    for request in timelines.keys() | stored.keys():
        steps, reservation = timelines.get(request, (0, None))
        there = stored.get(request, [])
        count = _steps_of(there)
        if outcome.expect(
            count is not None and steps <= count <= most.get(request, 0),
            f"{when}: {request} has {steps} acknowledged steps, but stored are {there}",
        ):
            outcome.expect(
                _is_reservation(ids[request], reservation),
                f"{when}: {request} got {reservation}, but stored is {ids[request]}",
            )


def _steps_of(rows: list[tuple[str, int]]) -> int | None:
    """The number of steps that wrote these rows; None if one is there in part or out of order."""
    expected: list[tuple[str, int]] = []
    for count, step in enumerate(STEPS):
        if rows == expected:
            return count
        expected.extend(step.movements)
    return len(STEPS) if rows == expected else None


def _is_reservation(ids: list[str | None], reservation: str | None) -> bool:
    """Whether the rows have the reservation, and those after the move another one.

    The spend has none. If the reservation is not known, it is that of the first row.
    """
    first = reservation or (ids[0] if ids else None)
    before, after = ids[: MOVE + 1], [each for each in ids[MOVE + 1 :] if each is not None]
    return set(before) <= {first} and len(set(after)) <= 1 and first not in after


def verify_balances(target: Path | str, outcome: Outcome, when: str) -> None:
    """Verify balances with the service's own consistency check and with independent SQL."""
    wrong = [
        row.inconsistency
        for row in map(StoredBalance._make, found(target, BALANCES))
        if row.inconsistency
    ]
    outcome.expect(not wrong, f"{when}: sums: {wrong[:3]}")
    database.connect(target)
    try:
        findings = verification.verify().findings
        outcome.expect(not findings, f"{when}: verify: {findings[:3]}")
    finally:
        database.disconnect()
