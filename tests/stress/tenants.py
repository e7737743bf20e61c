"""Tenants apart: one customer's traffic, recorded alone, is sent again beside a second, busy customer, and gets the same bytes.

The traffic is thrown by dice from a seed, so that it is the same both times, and given to the app in this process, which costs
a tenth of sending it; what lies between a socket and the app knows of no customer. The other customer works meanwhile from
several threads: the same departments, periods, requests, Idempotency-Keys and people's names, on all its money.
Only what is random (ids of checks and reservations) or the clock's is made equal before the replies are compared.
"""

from __future__ import annotations

import random
import re
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from support.world import ROOT
from werkzeug.test import TestResponse

from app import create_app
from budget_sync import database, manual_budgets
from budget_sync.accounts import people
from budget_sync.ledger import verification
from budget_sync.settings import load
from stress.outcome import Outcome, Place

ACME, UMBRELLA = "acme", "umbrella"
DEPARTMENTS = ("Engineering", "Legal", "Sales")
PERIOD = "Q1 2025"
BUSY_THREADS = 2

#: How a customer's traffic is answered.
USUAL = (200, 404, 409, 422)

#: A busy thread has an answer of 200 at least for so many of the first customer's requests.
LEAST_BUSY = 10

_RANDOM = (
    (re.compile(r"(chk|res)_[0-9a-f]{24}"), r"\1_random"),
    (re.compile(r"key:[0-9a-f]{16}"), "a key"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "a time"),
)
#: What a reply's head says beside the status; the others are the server's clock and the connection's.
HEADERS = (
    "Content-Type",
    "Idempotent-Replayed",
    "Retry-After",
    "Set-Cookie",
    "Cache-Control",
    "WWW-Authenticate",
)


def stress(tries: int, place: Place) -> Outcome:
    """Send `tries` requests alone and again beside the other; every reply must be the same to the byte."""
    outcome = Outcome()
    seed = place.dice.randrange(10**9)
    alone = _replay(place, "alone", seed, tries, busy=False, outcome=outcome)
    beside = _replay(place, "beside", seed, tries, busy=True, outcome=outcome)
    for number, (first, second) in enumerate(zip(alone, beside, strict=True)):
        outcome.expect(first == second, f"request {number}: alone {first}, beside another {second}")
        outcome.tries += 1
    statuses = sorted({status for status, *_ in alone})
    outcome.notes.append(f"the replies' statuses: {', '.join(map(str, statuses))}")
    outcome.expect(200 in statuses and 409 in statuses, "the traffic is too tame to prove anything")
    return outcome


def _replay(
    place: Place, name: str, seed: int, tries: int, *, busy: bool, outcome: Outcome
) -> list[tuple[Any, ...]]:
    with place.installation(name, "nothing") as made:
        app, keys = _make_app(made.environment)
        try:
            ended = threading.Event()
            dice = [random.Random(seed + number) for number in range(BUSY_THREADS + 1)]  # noqa: S311  # chance, no secret
            rivals = (
                [_Rival(app, keys[UMBRELLA], its_dice, ended) for its_dice in dice[1:]]
                if busy
                else []
            )
            for thread in rivals:
                thread.start()
            replies = []
            client = app.test_client(use_cookies=False)
            for number in range(tries):
                replies.append(_spoken(_send(client, keys[ACME], ACME, dice[0])))
                place.progress(number + 1, tries)
            ended.set()
            for thread in rivals:
                thread.join()
                thread.stress_busy(tries, outcome)
            findings = verification.verify().findings
            outcome.expect(not findings, f"{name}: verify: {findings[:3]}")
        finally:
            database.disconnect()
    return replies


def _make_app(environment: dict[str, str]) -> tuple[Flask, dict[str, dict[str, str]]]:
    """An app with both customers, who have the same budgets, and their services' keys."""
    chosen = load(environment)
    chosen.instance_folder.mkdir(parents=True)
    database.connect(chosen.database, create=True)
    database.init_schema()
    app = create_app(chosen)
    keys = {}
    for customer in (ACME, UMBRELLA):
        people.add_customer(ROOT, customer, customer)
        for department in DEPARTMENTS:
            manual_budgets.set_budget(
                ROOT,
                customer,
                department,
                PERIOD,
                Decimal(20_000),
                budget_id=f"{customer}-{department}",
            )
        keys[customer] = {
            "Authorization": f"Bearer {people.add_key(ROOT, 'orchestrator', customer_id=customer)}"
        }
    return app, keys


class _Rival(threading.Thread):
    """A thread of the other customer's traffic, and how it was answered."""

    def __init__(
        self, app: Flask, key: dict[str, str], dice: random.Random, ended: threading.Event
    ) -> None:
        super().__init__()
        self.app, self.key, self.dice, self.ended = app, key, dice, ended
        self.statuses: Counter[int] = Counter()
        self.odd: list[str] = []

    def run(self) -> None:
        """Send until it is ended."""
        client = self.app.test_client(use_cookies=False)
        try:
            while not self.ended.is_set():
                response = _send(client, self.key, UMBRELLA, self.dice)
                self.statuses[response.status_code] += 1
                if response.status_code not in USUAL:
                    self.odd.append(f"{response.status_code} {response.text}")
        except Exception:  # noqa: BLE001  # whatever it is, it would end with the thread, and nobody the wiser
            self.odd.append(traceback.format_exc())
        finally:
            database.close_connection()

    def stress_busy(self, tries: int, outcome: Outcome) -> None:
        """It was answered as it should be, and worked for as long as the first customer did."""
        outcome.expect(not self.odd, f"the other customer's answers: {self.odd[:3]}")
        outcome.expect(
            self.statuses[200] * LEAST_BUSY >= tries,
            f"the other customer is not busy: {dict(self.statuses)} beside {tries} requests",
        )
        outcome.notes.append(
            f"a thread of the other customer had {self.statuses[200]:,} answers of 200, of {self.statuses.total():,}"
        )


def _send(
    client: FlaskClient, key: dict[str, str], customer: str, dice: random.Random
) -> TestResponse:
    """One request of a customer's traffic; the dice are thrown the same number of times whatever comes of it."""
    department, request_id, amount = (
        dice.choice(DEPARTMENTS),
        f"request-{dice.randrange(60)}",
        dice.choice((1, 10.5, 99, 250)),
    )
    headers = key | (
        {"Idempotency-Key": f"key-{dice.randrange(30)}"} if dice.random() < 0.2 else {}
    )
    budget_id = f"{dice.choices((customer, ACME, 'nobody'), (18, 1, 1))[0]}-{department}"
    call = dice.choice(list(_CALLS))
    method, path, body = _CALLS[call](customer, budget_id, department, request_id, amount)
    return client.open(path, method=method, json=body, headers=headers)


Body = dict[str, Any] | None

_CALLS: dict[str, Callable[[str, str, str, str, float], tuple[str, str, Body]]] = {
    "check": lambda customer, _budget, department, request, amount: (
        "POST",
        "/api/budget/check",
        {
            "requestId": request,
            "userId": "jane",
            "userName": "Jane",
            "userEmail": "jane@example.com",
            "customerId": customer,
            "department": department,
            "fiscalPeriod": PERIOD,
            "amount": amount,
        },
    ),
    "reserve": lambda _customer, budget, _department, request, amount: (
        "POST",
        "/api/budget/reserve",
        {"budgetId": budget, "requestId": request, "amount": amount},
    ),
    "commit": lambda _customer, budget, _department, request, amount: (
        "POST",
        "/api/budget/commit",
        {"budgetId": budget, "requestId": request, "amount": amount, "final": amount == 1},
    ),
    "release": lambda _customer, budget, _department, request, amount: (
        "POST",
        "/api/budget/release",
        {"budgetId": budget, "requestId": request, "amount": amount, "action": "reject"},
    ),
    "budgets": lambda *_: ("GET", "/api/budgets", None),
    "budget": lambda _customer, budget, *_: ("GET", f"/api/budgets/{budget}", None),
    "request": lambda _customer, _budget, _department, request, _amount: (
        "GET",
        f"/api/requests/{request}",
        None,
    ),
}


def _spoken(response: TestResponse) -> tuple[Any, ...]:
    """A reply without what is random or the clock's."""
    text = response.text
    for pattern, instead in _RANDOM:
        text = pattern.sub(instead, text)
    return response.status_code, [response.headers.get(name) for name in HEADERS], text
