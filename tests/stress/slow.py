"""Slow and greedy clients: hundreds of connections that send slowly, send too much or never read.

Other callers must not notice.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple, Self

import requests
from support.installation import Installation
from support.world import check_body, reserve_body

from stress.load import verify_balances
from stress.outcome import Outcome, Place

SLOW_CONNECTIONS = 500
P99_S = 2.0


def stress(tries: int, place: Place) -> Outcome:
    """Make `tries` normal calls while slow clients hold as many connections as they can."""
    outcome = Outcome()
    with place.installation() as server:
        server.start()
        for name, manner in CROWDS.items():
            with _Crowd(server, manner(server)) as slow:
                took_s = _normal_calls(server, name, tries // len(CROWDS), outcome)
            outcome.expect(
                len(slow.arrived) == SLOW_CONNECTIONS,
                f"only {len(slow.arrived)} clients that {name} connected",
            )
            outcome.expect(slow.failure is None, f"clients that {name} failed: {slow.failure!r}")
            p99_s = sorted(took_s)[int(len(took_s) * 0.99)]
            outcome.tries += len(took_s)
            place.progress(outcome.tries, tries)
            outcome.notes.append(
                f"with {SLOW_CONNECTIONS} clients that {name}:"
                f" p99 {p99_s * 1000:,.0f} ms, slowest {max(took_s) * 1000:,.0f} ms"
            )
            outcome.expect(
                p99_s < P99_S * place.patience,
                f"with clients that {name}, the p99 of others is {p99_s:.1f} s",
            )
        verify_balances(server.target, outcome, "at the end")
        outcome.expect(
            "Traceback" not in server.log, f"traceback in the server log: {server.log[-2000:]}"
        )
    return outcome


#: Calls of normal callers, in turn: some share a thread on the server, some need a separate one.
HONEST: tuple[Callable[[Installation, str, dict[str, str]], requests.Response], ...] = (
    lambda server, request, key: server.post(
        "/api/budget/check", check_body(requestId=request), headers=key
    ),
    lambda server, request, key: server.post(
        "/api/budget/reserve", reserve_body(requestId=request, amount=0.01), headers=key
    ),
    lambda server, _, key: requests.get(f"{server.url}/api/budgets", headers=key, timeout=30),
    lambda server, *_: requests.get(
        f"{server.url}/sign-in", headers={"Connection": "close"}, timeout=30
    ),
)


def _normal_calls(server: Installation, name: str, tries: int, outcome: Outcome) -> list[float]:
    """The duration of each call in seconds, each on a new connection."""
    key = server.key() | {"Connection": "close"}

    def call(number: int) -> float:
        began = time.monotonic()
        try:
            response = HONEST[number % len(HONEST)](server, f"{name}-{number}", key)
            outcome.expect(
                response.status_code == 200,
                f"with clients that {name}: {response.status_code} {response.text[:200]}",
            )
        except requests.RequestException as error:
            outcome.expect(
                holds=False,
                otherwise=f"with clients that {name}: a call got no response, {error!r}",
            )
        return time.monotonic() - began

    with ThreadPoolExecutor(8) as callers:
        return list(callers.map(call, range(tries)))


class Manner(NamedTuple):
    """Behavior of a slow client.

    It sends `at_once`, then `dripped` every `pause_s` seconds, and reads `sip_bytes` each time.
    """

    at_once: bytes
    dripped: bytes
    pause_s: float
    sip_bytes: int = 0


class _Crowd:
    """Slow clients in a separate thread. Each reconnects when it is disconnected."""

    def __init__(self, server: Installation, manner: Manner) -> None:
        self.port = server.port
        self.manner = manner
        self.arrived: set[int] = set()
        self.failure: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        deadline = time.monotonic() + 20
        while len(self.arrived) < SLOW_CONNECTIONS and time.monotonic() < deadline:
            time.sleep(0.02)
        return self

    def __exit__(self, *problem: object) -> None:
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._all())
        except asyncio.CancelledError:
            pass
        except Exception as error:  # noqa: BLE001  # reported at the end
            self.failure = error
        self._loop.close()

    async def _all(self) -> None:
        await asyncio.gather(*(self._one(number) for number in range(SLOW_CONNECTIONS)))

    def _stop(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            task.cancel()

    async def _one(self, number: int) -> None:
        while True:
            with suppress(OSError):
                # A small receive buffer, so that unread data stays with the server.
                connection = socket.socket()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.setblocking(False)
                await self._loop.sock_connect(connection, ("127.0.0.1", self.port))
                reader, writer = await asyncio.open_connection(sock=connection, limit=1)
                try:
                    writer.write(self.manner.at_once)
                    self.arrived.add(number)
                    while True:
                        await asyncio.sleep(self.manner.pause_s)
                        if self.manner.sip_bytes:
                            await reader.read(self.manner.sip_bytes)
                        writer.write(self.manner.dripped)
                        await writer.drain()
                finally:
                    writer.close()
            await asyncio.sleep(0.1)


def _head(server: Installation, *headers: str) -> bytes:
    ((name, value),) = server.key().items()
    return "\r\n".join(
        (
            "POST /api/budget/check HTTP/1.1",
            "Host: localhost",
            "Content-Type: application/json",
            f"{name}: {value}",
            *headers,
            "",
        )
    ).encode()


#: Many requests for the longest response: more than the kernel buffers for a client that does
#: not read.
LONG_REPLIES = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 60

#: Behaviors, by name.
CROWDS: dict[str, Callable[[Installation], Manner]] = {
    "send nothing": lambda _: Manner(b"", b"", 1.0),
    "drip a header": lambda server: Manner(_head(server), b"X-Slow: 1\r\n", 1.0),
    "drip a body": lambda server: Manner(
        _head(server, "Content-Length: 60000") + b"\r\n", b" ", 0.5
    ),
    "drip a chunked body": lambda server: Manner(
        _head(server, "Transfer-Encoding: chunked") + b"\r\n", b"1\r\n \r\n", 0.5
    ),
    "announce too long a body": lambda server: Manner(
        _head(server, "Content-Length: 900000") + b"\r\n", b" ", 0.2
    ),
    "announce a long body": lambda server: Manner(
        _head(server, "Content-Length: 00000000000000000005000") + b"\r\n", b" ", 0.2
    ),
    "announce a long chunk": lambda server: Manner(
        _head(server, "Transfer-Encoding: chunked") + b"\r\n00000000f\r\n", b" ", 0.2
    ),
    "announce too long a chunk": lambda server: Manner(
        _head(server, "Transfer-Encoding: chunked") + b"\r\nfffff\r\n", b" ", 0.2
    ),
    "do not read a response": lambda _: Manner(LONG_REPLIES, b"", 1.0),
    "read their responses slowly": lambda _: Manner(LONG_REPLIES, b"", 0.5, sip_bytes=512),
    "do not read responses of calls": lambda server: Manner(_whole(server) * 5, b"", 1.0),
    "do not close": lambda server: Manner(_whole(server, "Connection: close"), b"", 1.0),
    "keep idle connections": lambda server: Manner(_whole(server), b"", 1.0),
}


def _whole(server: Installation, *headers: str) -> bytes:
    body = json.dumps(check_body()).encode()
    return _head(server, f"Content-Length: {len(body)}", *headers) + b"\r\n" + body
