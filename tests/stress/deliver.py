"""SIGKILL of `flask deliver` and of the server under load, with a receiver that often fails.

Afterwards, the receiver must have each event of the feed at least once, in the feed's order.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple

import requests
from support.installation import WORKERS, Installation, found
from support.machine import wait_until
from support.receivers import Receiver, answers, drops, receiver

from stress.load import Load
from stress.outcome import Outcome, Place

#: Kills per installation.
KILLS_EACH = 25

#: Every n-th request of the receiver fails, in one of these ways.
FAILS_EVERY = 60
_FAILURES = (answers(500), drops, answers(302, Location="http://127.0.0.1:9/"))


class _Target(NamedTuple):
    """The receiver of a webhook, and the cursor at which the webhook starts."""

    receiver: Receiver
    cursor: str


class Delivery:
    """The process `flask deliver`, which is started again after each kill."""

    def __init__(self, server: Installation) -> None:
        self._server = server
        self._process: Any = None

    def start(self) -> None:
        """Start it."""
        with (
            (self._server.folder / "deliver.log").open("a", encoding="utf-8") as log,
            open(os.devnull, encoding="ascii") as nothing,
        ):
            self._process = self._server.begin(("deliver",), [nothing, log, log])

    def kill(self) -> None:
        """Kill it at once."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(timeout=30)

    def stop(self) -> int:
        """Stop it as systemd does; returns its exit status."""
        self._process.send_signal(signal.SIGTERM)
        status: int = self._process.wait(timeout=30)
        return status

    @property
    def log(self) -> str:
        """Its log."""
        return (self._server.folder / "deliver.log").read_text(encoding="utf-8")


def stress(tries: int, place: Place) -> Outcome:
    """Kill `tries` times, the delivery and the server in turn."""
    outcome = Outcome()
    notes: Counter[str] = Counter()
    for first in range(0, tries, KILLS_EACH):
        with ExitStack() as stack:
            server = stack.enter_context(place.installation(f"instance-{first}"))
            targets = [
                _add(server, stack.enter_context(receiver(behave))) for behave in (None, _flaky())
            ]
            server.start()
            delivery = Delivery(server)
            delivery.start()
            try:
                for number in range(first, min(first + KILLS_EACH, tries)):
                    with Load(server, f"deliver-{number}", threads_count=2, pause_s=0.01) as load:
                        load.wait_for(6)
                        _kill(place, server, delivery, is_server=number % 4 == 3)
                        load.wait_for(6)
                    outcome.tries += 1
                    place.progress(outcome.tries, tries)
                expected = _expected(server, targets[0].cursor)
                for target in targets:
                    _wait_for(target, expected[-1], delivery)
            finally:
                status = delivery.stop()
            outcome.expect(status == 0, f"stopped with exit status {status}")
            for index, target in enumerate(targets):
                _compare(outcome, expected, target, f"kills {first} to {number}, webhook {index}")
                notes["delivered"] += len(expected)
                notes["repeated"] += len(target.receiver.received) - len(expected)
            outcome.expect("Traceback" not in delivery.log, delivery.log[-3000:])
    outcome.notes.append(
        f"{notes['delivered']:,} events delivered, {notes['repeated']:,} requests repeated"
    )
    return outcome


def _flaky() -> Any:
    """Fails from time to time, in turns."""
    count = 0

    def behave(handler: BaseHTTPRequestHandler) -> None:
        nonlocal count
        count += 1
        is_failure = count % FAILS_EVERY == 0
        failure = _FAILURES[count // FAILS_EVERY % len(_FAILURES)]
        (failure if is_failure else answers(200))(handler)

    return behave


def _add(server: Installation, target: Receiver) -> _Target:
    added = server.flask("add-webhook", "--customer", "org-456", "--url", target.url)
    _, webhook_id, _, secret = added.stdout.split()
    sql = f"""SELECT "cursor" FROM "Webhook" WHERE "id" = '{webhook_id}'"""
    ((cursor,),) = found(server.target, sql)
    target.secret = secret
    return _Target(target, cursor)


def _wait_for(target: _Target, event_id: str, delivery: Delivery) -> None:
    wait_until(
        lambda: event_id in target.receiver.ids[-20:],
        f"not delivered:\n{delivery.log[-3000:]}",
        120,
    )


def _kill(place: Place, server: Installation, delivery: Delivery, *, is_server: bool) -> None:
    """Kill the delivery or the server at a random moment, and start it again."""
    time.sleep(place.rng.uniform(0, 0.7))
    if is_server:
        server.stop(signal.SIGKILL)
        wait_until(lambda: _restarted(server), f"the server does not start:\n{server.log}", 60)
    else:
        delivery.kill()
        delivery.start()


def _restarted(server: Installation) -> bool:
    """Whether the new server answers. The workers of the killed one may still do, and block it."""
    if server.server is None or server.server.poll() is not None:
        server.launch()
    try:
        is_ready = requests.get(f"{server.url}/readyz", timeout=5).ok
        return is_ready and len(server.workers) == WORKERS
    except requests.RequestException:
        return False


def _expected(server: Installation, cursor: str) -> list[str]:
    """The ids of all events after a cursor, in order, by SQL of this test.

    The load crosses no threshold and runs no sync, so each audit row of a budget is one event.
    """
    start = int(cursor.removeprefix("a").partition(".")[0])
    rows = found(
        server.target,
        f"""SELECT "id" FROM "AuditLog" WHERE "id" > {start} AND "customerId" = 'org-456'
        AND "budgetId" IS NOT NULL ORDER BY "id" ASC""",
    )
    return [f"evt_a{row_id}" for (row_id,) in rows]


def _compare(outcome: Outcome, expected: list[str], target: _Target, when: str) -> None:
    """Compare the requests: each event at least once, in order, and always with the same body."""
    first_ids = list(dict.fromkeys(target.receiver.ids))
    missing = [each for each in expected if each not in set(first_ids)]
    outcome.expect(not missing, f"{when}: {len(missing)} events are missing: {missing[:3]}")
    outcome.expect(first_ids == expected or missing, f"{when}: the order is wrong")
    bodies: dict[str, bytes] = {}
    for each in target.receiver.received:
        outcome.expect(
            bodies.setdefault(each.id, each.body) == each.body, f"{when}: {each.id} changed"
        )
        outcome.expect(each.event["id"] == each.id, f"{when}: {each.id} has another id")
    outcome.expect(not target.receiver.forged, f"{when}: signatures: {target.receiver.forged[:3]}")
