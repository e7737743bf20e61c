"""Load with a memory: callers that reserve, commit and release without end, and know what each was acknowledged.

What is in the database afterwards is held against that: every acknowledged movement, and beyond them at most the one that
was under way when an answer failed to come.
"""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from support.installation import Installation, found
from support.machine import wait_until
from support.world import check_body, commit_body, release_body, reserve_body

from budget_sync import database
from budget_sync.ledger import verification
from stress.balances import STANDINGS, Standing
from stress.outcome import Outcome

#: What becomes of every request: the call, its body, and its audit row's action and reserved delta in minor units.
STEPS: tuple[tuple[str, Any, tuple[str, int]], ...] = (
    ("reserve", lambda request: reserve_body(requestId=request, amount=0.1), ("RESERVE", 10)),
    ("commit", lambda request: commit_body(requestId=request, amount=0.03), ("COMMIT", -3)),
    ("release", lambda request: release_body(requestId=request, amount=0.07), ("RELEASE", -7)),
)


@dataclass
class Load:
    """Threads that move money on the demo's budget, each on a kept connection, and what became of every request."""

    server: Installation
    tag: str
    threads_count: int = 8
    #: Seconds between two calls of a thread, so that load may be light.
    pause_s: float = 0.0
    #: Whether every request is checked before it is reserved.
    checks: bool = False
    #: Number of acknowledged steps of each request, and of those that were sent.
    acknowledged: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    sent: dict[str, int] = field(default_factory=dict)
    reservations: dict[str, str] = field(default_factory=dict)
    #: The acknowledged check of each request.
    checked: dict[str, str] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)
    odd: list[str] = field(default_factory=list)
    answer_count: int = 0
    unavailable_count: int = 0
    #: Told of every acknowledged step: request, and its number.
    on_acknowledged: Any = None
    _ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
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
        """Wait until that many more calls were answered with 200, for as long as there are any within half a minute."""
        enough = self.answer_count + more
        while (seen := self.answer_count) < enough:
            wait_until(
                lambda: self.answer_count > seen, f"the server answers no more; {self.odd[:3]}", 30
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
            # Nobody listens just now.
            time.sleep(0.02)
            return None
        return connection

    def _check(
        self, connection: http.client.HTTPConnection, request: str, headers: dict[str, str]
    ) -> bool:
        """Check the request, which moves nothing; False where no answer came."""
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
        """Make one call that moves money; False where the request's story ends here."""
        self.sent[request] = step + 1
        text = self._answer(
            connection, request, call, body, headers | {"Idempotency-Key": f"{request}-{call}"}
        )
        if text is None:
            return False
        self.acknowledged[request] = step + 1
        if step == 0:
            self.reservations[request] = json.loads(text)["reservationId"]
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
        """What the call is answered with a 200; None, and what is to be known of it noted, where it is not."""
        try:
            connection.request("POST", f"/api/budget/{call}", json.dumps(body), headers)
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException):
            self._doubt(request, call)
            return None
        if response.status == 503:
            self.unavailable_count += 1
            if b"OUTCOME_UNKNOWN" in text:
                self._doubt(request, call)
            return None
        if response.status != 200:
            self.odd.append(f"{request} {call}: {response.status} {text[:300]!r}")
            return None
        return text

    def _doubt(self, request: str, call: str) -> None:
        """It may or may not have happened; of a check that matters to nothing."""
        if call != "check":
            self.unsure.add(request)

    def hold_against(self, target: Path | str, outcome: Outcome, when: str) -> None:
        """Compare with what the database has: nothing acknowledged is lost, nothing is there twice, half, or unasked for."""
        outcome.expect(not self.odd, f"{when}: answers that no caller should get: {self.odd[:3]}")
        compare(self.stories(), self.unsure, target, outcome, when, self.tag)
        stored = set(
            found(
                target,
                f"""SELECT "requestId", "checkId" FROM "BudgetCheckLog" WHERE "requestId" LIKE '{self.tag}-%' """,
            )
        )
        lost = self.checked.items() - stored
        outcome.expect(
            not lost, f"{when}: acknowledged checks that are not in their log: {sorted(lost)[:3]}"
        )

    def stories(self) -> dict[str, tuple[int, str | None]]:
        """Each request's acknowledged steps, and its reservation."""
        return {
            request: (steps, self.reservations.get(request))
            for request, steps in self.acknowledged.items()
        }


def compare(
    stories: dict[str, tuple[int, str | None]],
    unsure: set[str],
    target: Path | str,
    outcome: Outcome,
    when: str,
    tag: str,
) -> None:
    """Hold requests' acknowledged steps, and those that may or may not have happened, against a database."""
    most = {
        request: stories.get(request, (0, None))[0] + (request in unsure)
        for request in stories.keys() | unsure
    }
    compare_within(stories, most, target, outcome, when, tag)


def compare_within(
    stories: dict[str, tuple[int, str | None]],
    most: dict[str, int],
    target: Path | str,
    outcome: Outcome,
    when: str,
    tag: str,
) -> None:
    """Hold requests' acknowledged steps, which must be there, and the most that may be there of each, against a database."""
    rows = found(
        target,
        f"""SELECT "requestId", "action", "reservedDeltaMinor", "reservationId" FROM "AuditLog" WHERE "requestId" LIKE '{tag}-%' ORDER BY "id" """,
    )
    stored: dict[str, list[tuple[str, int]]] = defaultdict(list)
    ids: dict[str, set[str]] = defaultdict(set)
    for request, action, delta, reservation in rows:
        stored[request].append((action, delta))
        ids[request].add(reservation)
    expected = [movement for *_, movement in STEPS]
    for request in stories.keys() | stored.keys():
        steps, reservation = stories.get(request, (0, None))
        there = stored.get(request, [])
        if outcome.expect(
            there == expected[: len(there)] and steps <= len(there) <= most.get(request, 0),
            f"{when}: {request} was acknowledged {steps} steps, stored are {there}",
        ):
            outcome.expect(
                not there or reservation is None or ids[request] == {reservation},
                f"{when}: {request} was told {reservation}, stored is {ids[request]}",
            )


def verify_balances(target: Path | str, outcome: Outcome, when: str) -> None:
    """The balances, by the service's own proof from this process, and by sums that know nothing of it."""
    wrong = [
        said
        for standing in map(Standing._make, found(target, STANDINGS))
        if (said := standing.contradiction)
    ]
    outcome.expect(not wrong, f"{when}: sums: {wrong[:3]}")
    database.connect(target)
    try:
        findings = verification.verify().findings
        outcome.expect(not findings, f"{when}: verify: {findings[:3]}")
    finally:
        database.disconnect()
