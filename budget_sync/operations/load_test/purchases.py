"""The run of a load test: purchases at a fixed rate, whether or not replies are late."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from budget_sync.operations.load_test.client import Answer, Client, LoadTestError
from budget_sync.operations.load_test.report import Report, percentile

#: The most calls that wait for a reply at a time. Later ones wait, which counts as their latency.
MAX_WAITING = 256

#: Seconds from a call of a purchase to its next one.
NEXT_CALL_AFTER_S = 2.0

#: How often a line of progress is reported, in seconds.
PROGRESS_S = 10.0

#: One purchase of so many is released, the others are committed.
RELEASED_OF = 5

_CALLS_OF_PURCHASE = 3

#: What each purchase costs, in whole currency units.
AMOUNT = 1


class Plan(NamedTuple):
    """What is sent: calls per minute, for how many minutes, on which budgets."""

    customer_id: str
    budgets: list[dict[str, Any]]
    per_minute: int
    minutes: float

    @property
    def purchases(self) -> int:
        """The number of purchases."""
        return max(1, round(self.per_minute * self.minutes / _CALLS_OF_PURCHASE))


def prepare(client: Client, per_minute: int, minutes: float) -> Plan:
    """Find out whose key it is, and which budgets can be used.

    Raises LoadTestError if the key is not that of a test customer, or no budget has enough.
    """
    user = client.get("/api/auth/me").get("user") or {}
    if user.get("role") != "api_system" or user.get("isTest") is not True:
        owner = user.get("customerId")
        raise LoadTestError(
            f"This key is for {f'customer {owner}' if owner else 'all customers'}, which is not a "
            "test customer. A load test moves money: create a customer with `flask add-customer "
            "ID --test`, and a key for it."
        )
    customer_id = str(user["customerId"])
    plan = Plan(customer_id, [], per_minute, minutes)
    found = client.get("/api/budgets", customerId=customer_id)["items"]
    needed = plan.purchases * AMOUNT
    budgets = [budget for budget in found if budget["available"] >= needed]
    if not budgets:
        raise LoadTestError(
            f"No budget of {customer_id} has {needed:,} available. Create one: `flask set-budget "
            f"--customer {customer_id} --department LoadTest --period 2030 --amount 100000000`."
        )
    return plan._replace(budgets=budgets)


def run(
    client: Client, plan: Plan, stop: threading.Event, say: Callable[[str], None] = lambda _: None
) -> Report:
    """Send the calls until all have ended or `stop` is set; `say` gets lines of progress."""
    report = Report()
    load = _Load(client, plan, report, stop)
    began_s = time.monotonic()
    next_line_s = began_s + PROGRESS_S
    with ThreadPoolExecutor(MAX_WAITING, thread_name_prefix="load-test") as pool:
        waiting: list[Future[None]] = []
        for offset_s, number, step in _arrivals(plan):
            due_s = began_s + offset_s
            while (now_s := time.monotonic()) < due_s:
                if now_s >= next_line_s:
                    say(_progress(report, now_s - began_s))
                    next_line_s += PROGRESS_S
                if stop.wait(min(due_s, next_line_s) - now_s):
                    break
            if stop.is_set():
                break
            waiting.append(pool.submit(load.send, number, step, due_s))
        for each in waiting:
            each.result()
    report.duration_s = time.monotonic() - began_s
    report.is_complete = not stop.is_set()
    return report


def _arrivals(plan: Plan) -> list[tuple[float, int, int]]:
    """When each call starts, in seconds; the number of its purchase, and of the call in it."""
    between_s = 60 * _CALLS_OF_PURCHASE / plan.per_minute
    return sorted(
        (
            number * between_s + step * (NEXT_CALL_AFTER_S + between_s / _CALLS_OF_PURCHASE),
            number,
            step,
        )
        for number in range(plan.purchases)
        for step in range(_CALLS_OF_PURCHASE)
    )


def _progress(report: Report, seconds: float) -> str:
    with report.lock:
        latencies = [each for values in report.latencies_s.values() for each in values]
        errors = sum(report.errors.values())
    return (
        f"{seconds:,.0f} s: {len(latencies):,} calls, p95 {percentile(latencies, 95):.3f} s, "
        f"{errors:,} errors"
    )


class _Load:
    """The purchases: which of their calls have succeeded, and the bodies of the next ones."""

    def __init__(self, client: Client, plan: Plan, report: Report, stop: threading.Event) -> None:
        self.client = client
        self.plan = plan
        self.report = report
        self.stop = stop
        self.run_id = secrets.token_hex(4)
        # Set when a call of a purchase has ended; `ended[n]` lists whether each one succeeded.
        self.changed = threading.Condition()
        self.ended: dict[int, list[bool]] = {}

    def send(self, number: int, step: int, due_s: float) -> None:
        """Send a call of a purchase after the one before it; skip it if that one failed."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.ended.get(number, [])) >= step)
            is_possible = all(self.ended.get(number, [])) and not self.stop.is_set()
        success = False
        if is_possible:
            call, body = self._call(number, step)
            # The call could not start before the one before it had ended.
            answer = self.client.post(
                f"/api/budget/{call}", body, f"{self.run_id}-{number}-{step}", self.stop
            )
            problem = _problem(call, answer)
            success = problem is None
            if success or not self.stop.is_set():
                latency_s = time.monotonic() - due_s
                self.report.add(call, latency_s, answer.retries, problem)
        with self.changed:
            self.ended.setdefault(number, []).append(success)
            self.changed.notify_all()

    def _call(self, number: int, step: int) -> tuple[str, dict[str, Any]]:
        """The name and the body of a call."""
        budget = self.plan.budgets[number % len(self.plan.budgets)]
        request_id = f"load-{self.run_id}-{number}"
        if step == 0:
            return "check", {
                "requestId": request_id,
                "userId": "load-test",
                "userName": "Load test",
                "userEmail": "load-test@example.com",
                "customerId": self.plan.customer_id,
                "department": budget["department"],
                "fiscalPeriod": budget["fiscalPeriod"],
                "amount": AMOUNT,
            }
        body: dict[str, Any] = {
            "budgetId": budget["id"],
            "customerId": self.plan.customer_id,
            "requestId": request_id,
            "amount": AMOUNT,
            "reason": "Load test",
        }
        if step == 1:
            return "reserve", body
        if number % RELEASED_OF == 0:
            return "release", body | {"action": "reject"}
        return "commit", body


def _problem(call: str, answer: Answer) -> str | None:
    """Why a call failed; None if it succeeded."""
    code = answer.data.get("code")
    if answer.status != 200 or answer.data.get("success") is not True:
        return answer.problem or f"status {answer.status}, {code}"
    if call == "check" and answer.data.get("available") is not True:
        return f"{code}: the budget changed during the test"
    return None
