"""Tenant isolation: the traffic of one customer gets the same responses despite a busy second one.

The traffic is random but seeded, so it is equal both times. It is passed directly to the app,
which costs a tenth of sending it; nothing between socket and app knows about customers. The other
customer works in parallel threads on all its money, with the same departments, periods, requests,
Idempotency-Keys and user names. Before comparison, only random ids and times are replaced.
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
from budget_sync.accounts import api_keys, customers
from budget_sync.ledger import verification
from budget_sync.settings import load
from stress.outcome import Outcome, Place

ACME, UMBRELLA = "acme", "umbrella"
DEPARTMENTS = ("Engineering", "Legal", "Sales")
PERIOD = "Q1 2025"
BUSY_THREADS = 2

#: The expected statuses.
USUAL = (200, 400, 404, 409, 422)

#: A busy thread must succeed at least once per this many requests of the first customer.
REQUESTS_PER_SUCCESS = 10

_RANDOM = (
    (re.compile(r"(chk|res)_[0-9a-f]{24}"), r"\1_random"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "a time"),
)
#: The compared headers. The others depend on the clock or the connection.
HEADERS = (
    "Content-Type",
    "Idempotent-Replayed",
    "Retry-After",
    "Set-Cookie",
    "Cache-Control",
    "WWW-Authenticate",
)


def stress(tries: int, place: Place) -> Outcome:
    """Send `tries` requests without and with the busy customer; all responses must be equal."""
    outcome = Outcome()
    seed = place.rng.randrange(10**9)
    quiet = _replay(place, "quiet", seed, tries, busy=False, outcome=outcome)
    disturbed = _replay(place, "busy", seed, tries, busy=True, outcome=outcome)
    for number, (first, second) in enumerate(zip(quiet, disturbed, strict=True)):
        outcome.expect(
            first == second, f"request {number}: {first} without, {second} with the other customer"
        )
        outcome.tries += 1
    statuses = sorted({status for status, *_ in quiet})
    outcome.notes.append(f"statuses of the responses: {', '.join(map(str, statuses))}")
    outcome.expect(200 in statuses and 409 in statuses, "the traffic covers too few statuses")
    return outcome


def _replay(
    place: Place, name: str, seed: int, tries: int, *, busy: bool, outcome: Outcome
) -> list[tuple[Any, ...]]:
    with place.installation(name, "nothing") as installation:
        app, keys = _make_app(installation.environment)
        try:
            ended = threading.Event()
            seeds = range(seed, seed + BUSY_THREADS + 1)
            rng = [random.Random(each) for each in seeds]  # noqa: S311  # not a secret
            others = (
                [_OtherTraffic(app, keys[UMBRELLA], its_rng, ended) for its_rng in rng[1:]]
                if busy
                else []
            )
            for thread in others:
                thread.start()
            replies = []
            client = app.test_client(use_cookies=False)
            for number in range(tries):
                replies.append(_comparable(_send(client, keys[ACME], ACME, rng[0])))
                place.progress(number + 1, tries)
            ended.set()
            for thread in others:
                thread.join()
                thread.check_busy(tries, outcome)
            findings = verification.verify().findings
            outcome.expect(not findings, f"{name}: verify: {findings[:3]}")
        finally:
            database.disconnect()
    return replies


def _make_app(environment: dict[str, str]) -> tuple[Flask, dict[str, dict[str, str]]]:
    """An app with both customers, which have equal budgets, and the headers of their API keys."""
    chosen = load(environment)
    chosen.instance_folder.mkdir(parents=True)
    database.connect(chosen.database, create=True)
    database.init_schema()
    app = create_app(chosen)
    keys = {}
    for customer in (ACME, UMBRELLA):
        customers.add_customer(ROOT, customer, customer)
        for department in DEPARTMENTS:
            manual_budgets.set_budget(
                ROOT,
                customer,
                department,
                PERIOD,
                Decimal(20_000),
                budget_id=f"{customer}-{department}",
            )
        key = api_keys.add_key(ROOT, "orchestrator", customer_id=customer)
        keys[customer] = {"Authorization": f"Bearer {key}"}
    return app, keys


class _OtherTraffic(threading.Thread):
    """A thread with the other customer's traffic."""

    def __init__(
        self, app: Flask, key: dict[str, str], rng: random.Random, ended: threading.Event
    ) -> None:
        super().__init__()
        self.app, self.key, self.rng, self.ended = app, key, rng, ended
        self.statuses: Counter[int] = Counter()
        self.unexpected: list[str] = []

    def run(self) -> None:
        """Send requests until the event is set."""
        client = self.app.test_client(use_cookies=False)
        try:
            while not self.ended.is_set():
                response = _send(client, self.key, UMBRELLA, self.rng)
                self.statuses[response.status_code] += 1
                if response.status_code not in USUAL:
                    self.unexpected.append(f"{response.status_code} {response.text}")
        except Exception:  # noqa: BLE001  # reported instead of lost with the thread
            self.unexpected.append(traceback.format_exc())
        finally:
            database.close_connection()

    def check_busy(self, tries: int, outcome: Outcome) -> None:
        """Verify that its responses were as expected, and that it was busy the whole time."""
        outcome.expect(
            not self.unexpected,
            f"unexpected responses of the other customer: {self.unexpected[:3]}",
        )
        outcome.expect(
            self.statuses[200] * REQUESTS_PER_SUCCESS >= tries,
            f"the other customer is not busy: {dict(self.statuses)} for {tries} requests",
        )
        outcome.notes.append(
            f"a thread of the other customer had {self.statuses[200]:,} successes"
            f" in {self.statuses.total():,} requests"
        )


def _send(
    client: FlaskClient, key: dict[str, str], customer: str, rng: random.Random
) -> TestResponse:
    """Send a random request. Always draws the same number of random values."""
    department, request_id, amount = (
        rng.choice(DEPARTMENTS),
        f"request-{rng.randrange(60)}",
        rng.choice((1, 10.5, 99, 250)),
    )
    headers = key | ({"Idempotency-Key": f"key-{rng.randrange(30)}"} if rng.random() < 0.2 else {})
    budget_id = f"{rng.choices((customer, ACME, 'nobody'), (18, 1, 1))[0]}-{department}"
    call = rng.choice(list(_CALLS))
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
    "amend": lambda _customer, budget, _department, request, amount: (
        "POST",
        "/api/budget/amend",
        {"budgetId": budget, "requestId": request, "amount": amount, "reason": "New quote"},
    ),
    "move": lambda customer, budget, _department, request, _amount: (
        "POST",
        "/api/budget/amend",
        {
            "budgetId": budget,
            "requestId": request,
            "toBudgetId": f"{customer}-Sales",
            "reason": "Wrong department",
        },
    ),
    "reverse": lambda _customer, budget, _department, request, amount: (
        "POST",
        "/api/budget/reverse",
        {
            "budgetId": budget,
            "requestId": request,
            "amount": amount,
            "to": "reserved" if amount == 1 else "available",
            "reason": "Credit note",
        },
    ),
    "spend": lambda _customer, _budget, department, request, amount: (
        "POST",
        "/api/budget/spend",
        {
            "spendId": f"card-{request}-{amount}",
            "department": department,
            "fiscalPeriod": PERIOD,
            "amount": amount,
            "date": "2025-02-07",
            "reason": "Card",
        },
    ),
    "budgets": lambda *_: ("GET", "/api/budgets", None),
    "budget": lambda _customer, budget, *_: ("GET", f"/api/budgets/{budget}", None),
    "request": lambda _customer, _budget, _department, request, _amount: (
        "GET",
        f"/api/requests/{request}",
        None,
    ),
}


def _comparable(response: TestResponse) -> tuple[Any, ...]:
    """A response without random ids and times."""
    text = response.text
    for pattern, instead in _RANDOM:
        text = pattern.sub(instead, text)
    return response.status_code, [response.headers.get(name) for name in HEADERS], text
