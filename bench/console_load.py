"""Measures checks and reserves of one client, without and next to an open console."""

from __future__ import annotations

import http.client
import json
import secrets
import threading
import time
from datetime import UTC, datetime
from statistics import median, quantiles
from typing import Any, NamedTuple

from bench import report
from bench.console_stock import CUSTOMER, DEPARTMENTS
from bench.pages import reader
from bench.places import BenchError, Place
from bench.servers import free_port, product_command, running

#: The limit of the API's p99 next to an open console, as a multiple of that without.
MAX_RATIO = 1.3

#: The pages that the console loads in turn, and the pause between two of them: a person reads.
_PAGES = ("/", "/requests", "/requests?view=all", "/budgets")
_PAUSE_S = 1.0


class ApiTimes(NamedTuple):
    """The latency of checks and reserves during the phase `during`, in milliseconds."""

    during: str
    calls: int
    pages: int
    p50_ms: float
    p99_ms: float


def measure(place: Place, seconds: int, rounds: int) -> list[ApiTimes]:
    """The latencies without a console, next to one that is read, and one without a pause.

    The phases take turns, because the machine may be half as fast a minute later. The place gets
    the checks and reservations.
    """
    cookie, port = _cookie(place), free_port()
    phases: dict[str, float | None] = {
        "no console": None,
        f"a console, a page each {_PAUSE_S:g} s": _PAUSE_S,
        "a console without a pause": 0.0,
    }
    latencies: dict[str, list[float]] = {name: [] for name in phases}
    pages = dict.fromkeys(phases, 0)
    with running(product_command(port), port, place.environment(), place.folder / "server.log"):
        _calls_ms(port, place.key, 2)
        for _ in range(rounds):
            for name, pause_s in phases.items():
                stop, loaded = threading.Event(), list[str]()
                console = threading.Thread(
                    target=_read_pages, args=(port, cookie, pause_s, stop, loaded)
                )
                console.start()
                latencies[name] += _calls_ms(port, place.key, seconds)
                stop.set()
                console.join()
                pages[name] += len(loaded)
    return [
        ApiTimes(name, len(found), pages[name], median(found), quantiles(found, n=100)[98])
        for name, found in latencies.items()
    ]


def _cookie(place: Place) -> str:
    with reader(place) as client:
        found = client.get_cookie("budget_sync_session")
        if found is None:
            raise BenchError("the reader has no cookie")
        return f"budget_sync_session={found.value}"


def _read_pages(
    port: int, cookie: str, pause_s: float | None, stop: threading.Event, loaded: list[str]
) -> None:
    """Load the pages in turn until `stop` is set; none without a pause in seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    while pause_s is not None and not stop.is_set():
        path = _PAGES[len(loaded) % len(_PAGES)]
        connection.request("GET", path, headers={"Cookie": cookie})
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            raise BenchError(f"{path} answered {response.status}")
        loaded.append(path)
        stop.wait(pause_s)


def _calls_ms(port: int, key: str, seconds: float) -> list[float]:
    """The latency of each call of a client that checks and reserves, one call after the other."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    def call(name: str, body: dict[str, object]) -> Any:
        began = time.perf_counter()
        connection.request("POST", f"/api/budget/{name}", json.dumps(body), headers)
        response = connection.getresponse()
        reply = response.read()
        latencies.append((time.perf_counter() - began) * 1000)
        if response.status != 200:
            raise BenchError(f"a {name} was answered {response.status}: {reply!r}")
        return json.loads(reply)

    while time.perf_counter() < end:
        request = {
            "requestId": f"beside-{secrets.token_hex(6)}",
            "customerId": CUSTOMER,
            "userId": "user-7",
            "amount": 1,
        }
        found = call("check", request | _purchase())
        call("reserve", request | {"budgetId": found["budget"]["id"]})
    return latencies


def _purchase() -> dict[str, object]:
    return {
        "userName": "Jane Doe",
        "userEmail": "jane@example.com",
        "department": f"Department {secrets.randbelow(DEPARTMENTS)}",
        "fiscalPeriod": f"Q4 {datetime.now(UTC).year}",
    }


def lines(found: list[ApiTimes]) -> list[str]:
    """The table of latencies."""
    rows = [
        (
            each.during,
            f"{each.calls:,}",
            f"{each.pages}",
            f"{each.p50_ms:.1f}",
            f"{each.p99_ms:.1f}",
        )
        for each in found
    ]
    header = ("checks and reserves next to", "calls", "pages", "p50 ms", "p99 ms")
    return report.table(header, rows, left=(0,))


def demands(found: list[ApiTimes]) -> list[report.Demand]:
    """The line of the API in the table of ratios."""
    alone, beside, _ = found
    return [
        report.Demand(
            "checks and reserves next to an open console: p99 against without",
            beside.p99_ms / alone.p99_ms,
            MAX_RATIO,
            at_most=True,
        )
    ]
