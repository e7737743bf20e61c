"""Slow and greedy clients: hundreds of connections that drip, hoard or never read, beside honest callers who must not notice."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import requests
from conftest import Installation, check_body, reserve_body

from prove.load import prove_balances
from prove.outcome import Outcome, Place

SLOW_CONNECTIONS = 500
P99_S = 2.0


def prove(tries: int, place: Place) -> Outcome:
    """Make `tries` honest calls while slow clients hold on to all the connections they can."""
    outcome = Outcome()
    with place.installation() as server:
        server.start()
        for name, crowd in CROWDS.items():
            with _Crowd(server, crowd):
                took_s = _honest_calls(server, name, tries // len(CROWDS), outcome)
            p99_s = sorted(took_s)[int(len(took_s) * 0.99)]
            outcome.tries += len(took_s)
            place.progress(outcome.tries, tries)
            outcome.notes.append(f"beside {SLOW_CONNECTIONS} that {name}: p99 {p99_s * 1000:,.0f} ms, slowest {max(took_s) * 1000:,.0f} ms")
            outcome.expect(p99_s < P99_S * place.patience, f"beside clients that {name}, the p99 of others is {p99_s:.1f} s")
        prove_balances(server.target, outcome, "at the end")
        outcome.expect("Traceback" not in server.log, f"a traceback in the log: {server.log[-2000:]}")
    return outcome


def _honest_calls(server: Installation, name: str, tries: int, outcome: Outcome) -> list[float]:
    """The seconds that each call took, as its caller sees it, on a connection of its own."""
    key = server.key() | {"Connection": "close"}

    def call(number: int) -> float:
        began = time.monotonic()
        with suppress(requests.RequestException):
            if number % 2:
                response = server.post("/api/budget/check", check_body(requestId=f"{name}-{number}"), headers=key)
            else:
                response = server.post("/api/budget/reserve", reserve_body(requestId=f"{name}-{number}", amount=0.01), headers=key)
            outcome.expect(response.status_code == 200, f"beside clients that {name}: {response.status_code} {response.text[:200]}")
            return time.monotonic() - began
        outcome.expect(holds=False, otherwise=f"beside clients that {name}: a call had no answer")
        return time.monotonic() - began

    with ThreadPoolExecutor(8) as callers:
        return list(callers.map(call, range(tries)))


class _Crowd:
    """Slow clients in a thread of their own, each of which comes back when it is thrown out."""

    def __init__(self, server: Installation, pieces: Callable[[Installation], tuple[bytes, list[bytes], float]]) -> None:
        self.port = server.port
        self.at_once, self.dripped, self.pause_s = pieces(server)
        self.arrived = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()
        deadline = time.monotonic() + 20
        while self.arrived < SLOW_CONNECTIONS and time.monotonic() < deadline:
            time.sleep(0.02)

    def __exit__(self, *problem: object) -> None:
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join()

    def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._all())
        self._loop.close()

    async def _all(self) -> None:
        await asyncio.gather(*(self._one(number) for number in range(SLOW_CONNECTIONS)))

    def _stop(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            task.cancel()

    async def _one(self, number: int) -> None:
        while True:
            with suppress(OSError):
                # A reader that takes little at a time: what is not read must stay with the server.
                _, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1)
                try:
                    writer.write(self.at_once)
                    self.arrived += 1
                    for piece in itertools.cycle(self.dripped):
                        await asyncio.sleep(self.pause_s)
                        writer.write(piece)
                        await writer.drain()
                finally:
                    writer.close()
            await asyncio.sleep(0.1)


def _head(server: Installation, *headers: str) -> bytes:
    ((name, value),) = server.key().items()
    return "\r\n".join(("POST /api/budget/check HTTP/1.1", "Host: localhost", "Content-Type: application/json", f"{name}: {value}", *headers, "")).encode()


#: How each crowd behaves: what a client sends at once, what it drips, and the seconds between two drips.
CROWDS: dict[str, Callable[[Installation], tuple[bytes, list[bytes], float]]] = {
    "send nothing": lambda _: (b"", [b""], 1.0),
    "drip a header": lambda server: (_head(server), [b"X-Slow: 1\r\n"], 1.0),
    "drip a body": lambda server: (_head(server, "Content-Length: 60000") + b"\r\n", [b" "], 0.5),
    "drip a chunked body": lambda server: (_head(server, "Transfer-Encoding: chunked") + b"\r\n", [b"1\r\n \r\n"], 0.5),
    "announce more than is taken": lambda server: (_head(server, "Content-Length: 900000") + b"\r\n", [b" "], 0.2),
    "read no reply": lambda server: (_pipelined(server), [b""], 1.0),
    "do not close": lambda server: (_whole(server, "Connection: close"), [b""], 1.0),
    "keep connections for nothing": lambda server: (_whole(server), [b""], 1.0),
}


def _whole(server: Installation, *headers: str) -> bytes:
    body = json.dumps(check_body()).encode()
    return _head(server, f"Content-Length: {len(body)}", *headers) + b"\r\n" + body


def _pipelined(server: Installation) -> bytes:
    return f"GET /api/budgets HTTP/1.1\r\nHost: localhost\r\nAuthorization: {server.key()['Authorization']}\r\n\r\n".encode() * 5
