"""Calls of the load test, with the retries that docs/integrate.md asks for."""

from __future__ import annotations

import random
import threading
import time
from typing import Any, NamedTuple

import requests

#: The time limit of an attempt, in seconds.
TIMEOUT_S = 10.0

#: A call is not tried again after so many seconds.
GIVE_UP_S = 60.0

_RETRIED = (429, 500, 503)


class LoadTestError(Exception):
    """The load test cannot run. The text is for the operator."""


class Answer(NamedTuple):
    """The last reply of a call, and how often it was tried again. Status 0 means no reply."""

    status: int
    data: dict[str, Any]
    retries: int
    problem: str = ""


class Client:
    """Sends calls with an API key. Threads may share it: each one has connections of its own."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url.rstrip("/")
        self._key = key
        self._local = threading.local()

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """The reply to a read, tried once. Raises LoadTestError unless it is 200."""
        answer = self._try("GET", path, {"params": query}, 0)
        if answer.status != 200:
            why = answer.problem or answer.data.get("error") or f"status {answer.status}"
            raise LoadTestError(f"{self.url}{path} cannot be read: {why}")
        return answer.data

    def post(self, path: str, body: dict[str, Any], key: str, stop: threading.Event) -> Answer:
        """Send a call, and again after no reply, 429, 500 or 503, until GIVE_UP_S or `stop`."""
        options = {"json": body, "headers": {"Idempotency-Key": key}}
        give_up_at_s = time.monotonic() + GIVE_UP_S
        retries = 0
        while True:
            answer = self._try("POST", path, options, retries)
            wait_s = min(60.0, 2.0**retries)
            wait_s = max(_retry_after_s(answer), wait_s * random.uniform(1, 1.5))  # noqa: S311
            is_over = time.monotonic() + wait_s > give_up_at_s
            if answer.status not in (0, *_RETRIED) or is_over or stop.wait(wait_s):
                return answer
            retries += 1

    def _try(self, method: str, path: str, options: dict[str, Any], retries: int) -> Answer:
        headers = {"Authorization": f"Bearer {self._key}", **options.get("headers", {})}
        try:
            # A redirect would take the key to another address.
            response = self._session().request(
                method,
                f"{self.url}{path}",
                **options | {"headers": headers},
                timeout=TIMEOUT_S,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            return Answer(0, {}, retries, f"no reply ({type(error).__name__})")
        try:
            data = response.json()
        except requests.JSONDecodeError:
            data = None
        if not isinstance(data, dict):
            return Answer(response.status_code, {}, retries, "the reply is no JSON object")
        wait = response.headers.get("Retry-After", "")
        return Answer(response.status_code, data | {"retryAfter": wait}, retries)

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
        return session


def _retry_after_s(answer: Answer) -> float:
    text = str(answer.data.get("retryAfter", ""))
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0.0
