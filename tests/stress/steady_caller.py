"""A process that checks and reserves at a steady pace, and measures how long each call takes.

It is a process of its own, so that the work of the stress test does not delay its clock. It reads
commands from standard input: `begin` starts a window, `end` ends it and prints its result as JSON.
Arguments: port, API key, customer and budget.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time

#: Callers, each with a connection of its own, and seconds between two calls of a caller.
CALLERS = 2
PAUSE_S = 0.004

TIMEOUT_S = 60


class Caller(threading.Thread):
    """Checks and reserves in turn until the window ends."""

    def __init__(self, tag: str, ended: threading.Event) -> None:
        super().__init__(daemon=True)
        self.port, self.key, self.customer, self.budget = sys.argv[1:]
        self.tag = tag
        self.ended = ended
        self.durations_s: list[float] = []
        self.failures: list[str] = []

    def run(self) -> None:
        """Call until the end of the window."""
        connection = http.client.HTTPConnection("127.0.0.1", int(self.port), timeout=TIMEOUT_S)
        while not self.ended.wait(PAUSE_S):
            began = time.monotonic()
            try:
                self._call(connection, f"{self.tag}-{len(self.durations_s)}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
            self.durations_s.append(time.monotonic() - began)
        connection.close()

    def _call(self, connection: http.client.HTTPConnection, request: str) -> None:
        amount = {"requestId": request, "amount": 0.01}
        if len(self.durations_s) % 2:
            path = "/api/budget/reserve"
            body: dict[str, object] = amount | {"budgetId": self.budget}
        else:
            path = "/api/budget/check"
            body = amount | {
                "customerId": self.customer,
                "userId": "jane",
                "userName": "Jane",
                "userEmail": "jane@example.com",
                "department": "Engineering",
                "fiscalPeriod": "Q1 2025",
            }
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        connection.request("POST", path, json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read()
        if response.status != 200:
            self.failures.append(f"{path}: {response.status} {text[:200]!r}")


def measure(window: int) -> dict[str, object]:
    """Call until `end` is read; the durations of all calls in seconds, and the failed calls."""
    ended = threading.Event()
    callers = [Caller(f"steady-{window}-{number}", ended) for number in range(CALLERS)]
    for caller in callers:
        caller.start()
    sys.stdin.readline()
    ended.set()
    for caller in callers:
        caller.join()
    return {
        "durations_s": [each for caller in callers for each in caller.durations_s],
        "failures": [each for caller in callers for each in caller.failures],
    }


if __name__ == "__main__":
    for number, _ in enumerate(iter(sys.stdin.readline, "")):
        sys.stdout.write(json.dumps(measure(number)) + "\n")
        sys.stdout.flush()
