"""Tenants apart: one customer's traffic, recorded alone, is sent again beside a second, busy customer, and gets the same bytes.

The traffic is thrown by dice from a seed, so that it is the same both times, and sent over HTTP. The other customer works
meanwhile from several threads: the same departments, periods, requests, Idempotency-Keys and people's names, on all its money.
Only what is random (ids of checks and reservations) or the clock's is made equal before the replies are compared.
"""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import requests
from conftest import ROOT, Installation

from budget_sync import budgets, database, people
from prove.load import prove_balances
from prove.outcome import Outcome, Place

ACME, UMBRELLA = "acme", "umbrella"
DEPARTMENTS = ("Engineering", "Legal", "Sales")
PERIOD = "Q1 2025"
BUSY_THREADS = 4

_RANDOM = (
    (re.compile(r"(chk|res)_[0-9a-f]{24}"), r"\1_random"),
    (re.compile(r"key:[0-9a-f]{16}"), "a key"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "a time"),
)
#: What a reply's head says beside the status; the others are the server's clock and the connection's.
HEADERS = ("Content-Type", "Idempotent-Replayed", "Retry-After", "Set-Cookie", "Cache-Control", "WWW-Authenticate")


def prove(tries: int, place: Place) -> Outcome:
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


def _replay(place: Place, name: str, seed: int, tries: int, *, busy: bool, outcome: Outcome) -> list[tuple[Any, ...]]:
    with place.installation(name, "tables") as server:
        keys = _make_customers(server)
        server.start()
        ended = threading.Event()
        dice = [random.Random(seed + number) for number in range(BUSY_THREADS + 1)]  # noqa: S311  # chance, no secret
        others = [threading.Thread(target=_be_busy, args=(server, keys[UMBRELLA], its_dice, ended)) for its_dice in dice[1:]]
        for thread in others if busy else []:
            thread.start()
        replies = []
        with requests.Session() as session:
            for number in range(tries):
                replies.append(_spoken(_send(server, session, keys[ACME], ACME, dice[0])))
                place.progress(number + 1, tries)
        ended.set()
        for thread in others if busy else []:
            thread.join()
        server.stop()
        prove_balances(server.target, outcome, name)
    return replies


def _make_customers(server: Installation) -> dict[str, dict[str, str]]:
    """Both customers, with the same budgets; their services' keys."""
    database.connect(server.target)
    try:
        keys = {}
        for customer in (ACME, UMBRELLA):
            people.add_customer(ROOT, customer, customer)
            for department in DEPARTMENTS:
                budgets.set_budget(ROOT, customer, department, PERIOD, Decimal(20_000), budget_id=f"{customer}-{department}")
            keys[customer] = {"Authorization": f"Bearer {people.add_key(ROOT, 'orchestrator', customer_id=customer)}"}
        return keys
    finally:
        database.disconnect()


def _be_busy(server: Installation, key: dict[str, str], dice: random.Random, ended: threading.Event) -> None:
    with requests.Session() as session:
        while not ended.is_set():
            with suppress(requests.RequestException):
                _send(server, session, key, UMBRELLA, dice)


def _send(server: Installation, session: requests.Session, key: dict[str, str], customer: str, dice: random.Random) -> requests.Response:
    """One request of a customer's traffic; the dice are thrown the same number of times whatever comes of it."""
    department, request_id, amount = dice.choice(DEPARTMENTS), f"request-{dice.randrange(60)}", dice.choice((1, 10.5, 99, 250))
    headers = key | ({"Idempotency-Key": f"key-{dice.randrange(30)}"} if dice.random() < 0.2 else {})
    budget_id = f"{dice.choices((customer, ACME, 'nobody'), (18, 1, 1))[0]}-{department}"
    call = dice.choice(list(_CALLS))
    method, path, body = _CALLS[call](customer, budget_id, department, request_id, amount)
    return session.request(method, server.url + path, json=body, headers=headers, timeout=60)


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
    "request": lambda _customer, _budget, _department, request, _amount: ("GET", f"/api/requests/{request}", None),
}


def _spoken(response: requests.Response) -> tuple[Any, ...]:
    """A reply without what is random or the clock's."""
    text = response.text
    for pattern, instead in _RANDOM:
        text = pattern.sub(instead, text)
    return response.status_code, [response.headers.get(name) for name in HEADERS], text
