"""What a noisy customer does: hostile sheets, slow sheets, previews, exports, lists and calls.

Each shape is called again and again by several threads while another customer is measured.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import requests
from support.installation import Installation
from support.sheets_server import (
    ABOUT,
    TOKEN,
    VALUES,
    Fault,
    Handler,
    SheetsServer,
    cut_short,
    endless,
    hang_up,
    html_200,
    status,
)
from support.world import check_body, reserve_body

CRON_SECRET = "a secret of cron's, long enough"
SPREADSHEET = "noisy-customers-key"

#: A call may wait for a preview of the largest sheet.
TIMEOUT_S = 120

HEADER = "Department,Fiscal Period,Budgeted Amount"
WITH_ID = "Budget ID,Department,Fiscal Period,Budgeted Amount"

#: A text that keeps a pattern with overlapping repetitions busy.
SPACES = f"1{' ' * 50_000}x1"


class Noisy:
    """The noisy customer: its server, its sessions and its sheets."""

    def __init__(self, server: Installation, google: SheetsServer) -> None:
        self.server = server
        self.google = google
        self.key = server.key()
        self.numbers = itertools.count()
        self.released = threading.Event()
        session = server.session("fiona")
        form = session.get(f"{server.url}/account", timeout=TIMEOUT_S).text
        found = re.search(r'name="csrf_token" value="([^"]+)"', form)
        assert found
        self.csrf_token = found[1]
        # After the form, whose reply puts the token's counterpart into the cookie.
        self.cookies = session.cookies.copy()

    def get(self, path: str, headers: dict[str, str] | None = None) -> int:
        """Open a page, signed in unless there are headers; returns the status."""
        return requests.get(
            f"{self.server.url}{path}",
            cookies=None if headers else self.cookies,
            headers=headers,
            timeout=TIMEOUT_S,
        ).status_code

    def call(self, path: str, body: object, headers: dict[str, str] | None = None) -> int:
        """Send a call of the API; returns the status."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return requests.post(
            f"{self.server.url}{path}",
            data=data,
            headers=self.key | {"Content-Type": "application/json"} | (headers or {}),
            timeout=TIMEOUT_S,
        ).status_code

    def preview(self) -> int:
        """Preview the sheets."""
        return self.get("/sync/preview")

    def run(self) -> int:
        """Start a sync run on the page."""
        return requests.post(
            f"{self.server.url}/sync/run",
            data={"csrf_token": self.csrf_token},
            cookies=self.cookies,
            allow_redirects=False,
            timeout=TIMEOUT_S,
        ).status_code

    def write(self, lines: Iterable[str]) -> None:
        """Replace the CSV file."""
        folder = self.server.folder / "sheets"
        draft = folder / "draft"
        draft.write_text("\n".join([*lines, ""]), encoding="utf-8")
        draft.replace(folder / "demo.csv")

    def hold(self, handler: Handler, payload: bytes) -> None:
        """A reply of Google that comes when the window ends."""
        self.released.wait(TIMEOUT_S)
        handler.send(200, payload)

    def drip(self, handler: Handler, payload: bytes) -> None:
        """A reply that comes byte by byte until the window ends, and then at once."""
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(payload)))
        handler.end_headers()
        for number in range(len(payload)):
            handler.wfile.write(payload[number : number + 1])
            handler.wfile.flush()
            self.released.wait(0.02)

    def new_id(self) -> str:
        """A request id that was not used before."""
        return f"noisy-{next(self.numbers)}"


Action = Callable[[Noisy], int]


class Shape(NamedTuple):
    """Something that the noisy customer does, in `threads` threads.

    `lines` are the lines of its sheet, for a number of rows. `faults` are Google's failures.
    """

    action: Action
    threads: int = 4
    lines: Callable[[int], Iterable[str]] | None = None
    fault: Callable[[Noisy], tuple[str, Fault]] | None = None


def preview_of(lines: Callable[[int], Iterable[str]]) -> Shape:
    """Previews of a sheet, more than may run at once."""
    return Shape(Noisy.preview, 4, lines)


def run_of(lines: Callable[[int], Iterable[str]]) -> Shape:
    """Sync runs of a sheet with at most 1,000 rows, started on the page."""
    return Shape(Noisy.run, 2, lambda rows: lines(min(rows, 1_000)))


def slow(call: str, fault: Callable[[Noisy], Fault], action: Action = Noisy.preview) -> Shape:
    """Many previews or runs while Google fails like this."""
    return Shape(action, 12, None, lambda noisy: (call, fault(noisy)))


def rows_of(row: Callable[[int], str], header: str = HEADER) -> Callable[[int], Iterable[str]]:
    """A sheet with such rows."""
    return lambda rows: [header, *map(row, range(rows))]


def blank_departments(rows: int) -> list[str]:
    """Budgets, and ten times as many rows with a blank department and another period."""
    known = [f"Team {number},Q1 2025,100" for number in range(rows // 11)]
    return [HEADER, *known, *[",Q2 2025,100"] * (rows - rows // 11)]


def renames(rows: int) -> list[str]:
    """Each row takes the name that the next one had; after every second call they are back."""
    shift = next(_shifts)
    return [WITH_ID, *(f"chain-{n},Team {(n + shift) % rows},Q1 2025,100" for n in range(rows))]


def changed(rows: int) -> list[str]:
    """Every amount is new."""
    amount = 100 + next(_shifts)
    return [HEADER, *(f"Team {number},Q1 2025,{amount}" for number in range(rows))]


_shifts = itertools.count()

#: Sheets. The first customer previews or runs them on its pages.
SHEETS: dict[str, Shape] = {
    "many budgets": preview_of(rows_of(lambda n: f"Team {n},Q1 2025,100")),
    "many budgets with ids": preview_of(rows_of(lambda n: f"b-{n},Team {n},Q1 2025,1", WITH_ID)),
    "identical rows": preview_of(rows_of(lambda _: "Team,Q1 2025,100")),
    "identical ids": preview_of(rows_of(lambda n: f"b-1,Team {n},Q1 2025,100", WITH_ID)),
    "blank departments": preview_of(blank_departments),
    "blank periods": preview_of(rows_of(lambda n: f"Team {n},,100")),
    "rename chain": preview_of(renames),
    "one cell per line": preview_of(lambda rows: rows_of(lambda _: "1")(30 * rows)),
    "no amounts": preview_of(rows_of(lambda n: f"Team {n},Q1 2025,#REF!")),
    "text amounts": preview_of(rows_of(lambda n: f"Team {n},Q1 2025,{n} apples")),
    "long departments": preview_of(
        lambda rows: rows_of(lambda n: f"{n}{'x' * 900},Q1 2025,1")(rows // 10)
    ),
    "cells of 50,000 characters": preview_of(
        lambda rows: rows_of(lambda n: f"{n}{'y' * 50_000},Q1 2025,1")(min(rows, 500))
    ),
    "amounts of 50,000 digits": preview_of(
        lambda rows: rows_of(lambda n: f"Team {n},Q1 2025,{'9' * 50_000}")(min(rows, 200))
    ),
    "amounts with 50,000 spaces": preview_of(
        lambda rows: rows_of(lambda n: f"Team {n},Q1 2025,{SPACES}")(min(rows, 4))
    ),
    "periods with 50,000 spaces": preview_of(
        lambda rows: rows_of(lambda n: f"Team {n},{SPACES},1")(min(rows, 4))
    ),
    "departments with 50,000 spaces": preview_of(
        lambda rows: rows_of(lambda n: f"{SPACES},Q{n} 2025,1")(min(rows, 4))
    ),
    "wide rows": preview_of(
        lambda rows: [HEADER, *[",".join(["1"] * 1_000)] * max(1, rows // 100)]
    ),
    "an open quote": preview_of(lambda rows: [HEADER, '"', *["a,b,c"] * rows]),
    "accents in two forms": preview_of(
        rows_of(lambda n: f"{'é' if n % 2 else chr(101) + chr(769)}{n // 2},Q1 2025,1")
    ),
    "run with new amounts": run_of(changed),
    "run with renames": run_of(renames),
    "run with rejected rows": run_of(rows_of(lambda n: f"Bad {n},Q1 2025,-1")),
    "run with fewer rows": run_of(lambda rows: changed(rows // (1 + next(_shifts) % 2))),
}

#: Failures of Google during a preview, a run, or the cron call.
SLOW: dict[str, Shape] = {
    "silent sheet": slow(VALUES, lambda noisy: noisy.hold),
    "silent properties": slow(ABOUT, lambda noisy: noisy.hold),
    "silent token": slow(TOKEN, lambda noisy: noisy.hold),
    "dripping sheet": slow(VALUES, lambda noisy: noisy.drip),
    "sheet that is cut short": slow(VALUES, lambda _: cut_short),
    "sheet that is too large": slow(VALUES, lambda _: endless),
    "closed connections": slow(VALUES, lambda _: hang_up),
    "replies that are no JSON": slow(VALUES, lambda _: html_200),
    "too many requests": slow(VALUES, lambda _: status(429, {"Retry-After": "0"})),
    "run with a silent sheet": slow(VALUES, lambda noisy: noisy.hold, Noisy.run),
    "cron call with a silent sheet": slow(
        VALUES,
        lambda noisy: noisy.hold,
        lambda noisy: noisy.get(
            "/api/cron/sync-google-sheets", {"Authorization": f"Bearer {CRON_SECRET}"}
        ),
    ),
}


def page(path: str, threads: int = 3) -> Shape:
    """A page that is opened again and again."""
    return Shape(lambda noisy: noisy.get(path), threads)


def check(noisy: Noisy, **changes: Any) -> int:
    """A check with changes."""
    return noisy.call("/api/budget/check", check_body(requestId=noisy.new_id(), **changes))


def reserve(noisy: Noisy, headers: dict[str, str] | None = None, **changes: Any) -> int:
    """A reserve with changes."""
    body = reserve_body(requestId=noisy.new_id(), **changes)
    return noisy.call("/api/budget/reserve", body, headers)


#: Pages, exports and calls.
CALLS: dict[str, Shape] = {
    "overview": page("/"),
    "list of budgets": page("/budgets"),
    "search of budgets": page(f"/budgets?q={'%25_' * 50}"),
    "list of requests": page("/requests?view=all"),
    "uncovered requests": page("/requests?view=uncovered"),
    "audit log": page("/audit?q=a"),
    "export of budgets": page("/budgets.csv"),
    "export of the audit log": page("/audit.csv", 4),
    "list of sync runs": page("/sync"),
    "API page": page("/openapi.json"),
    "many checks": Shape(lambda noisy: check(noisy, amount=0.01)),
    "many reserves": Shape(lambda noisy: reserve(noisy, amount=0.01)),
    "reserves over budget": Shape(lambda noisy: reserve(noisy, amount=9_999_999)),
    "one idempotency key": Shape(
        lambda noisy: reserve(noisy, {"Idempotency-Key": "k" * 255}, amount=0.01)
    ),
    "large idempotency keys": Shape(
        lambda noisy: reserve(
            noisy, {"Idempotency-Key": noisy.new_id().ljust(255, "k")}, amount=0.01
        )
    ),
    "idempotency keys of 8,000 characters": Shape(
        lambda noisy: reserve(noisy, {"Idempotency-Key": "k" * 8_000})
    ),
    "bodies of 64 KiB": Shape(lambda noisy: check(noisy, purpose="p" * 65_000)),
    "64 KiB of spaces": Shape(lambda noisy: noisy.call("/api/budget/check", b" " * 65_000 + b"{}")),
    "64 KiB of brackets": Shape(lambda noisy: noisy.call("/api/budget/check", b"[" * 65_000)),
    "64 KiB of digits": Shape(
        lambda noisy: noisy.call("/api/budget/check", b'{"amount":' + b"9" * 65_000 + b"}")
    ),
    "64 KiB of names": Shape(
        lambda noisy: noisy.call(
            "/api/budget/check", json.dumps(dict.fromkeys(map(str, range(6_000)), 1)).encode()
        )
    ),
    "texts with 20,000 spaces": Shape(
        lambda noisy: check(noisy, fiscalPeriod=SPACES[:20_000] + "x", department=SPACES[:20_000])
    ),
    "wrong keys": Shape(
        lambda noisy: noisy.call(
            "/api/budget/check", check_body(), {"Authorization": f"Bearer {noisy.new_id()}"}
        )
    ),
    "wrong passwords": Shape(
        lambda noisy: noisy.call(
            "/api/auth/login",
            {"email": f"{noisy.new_id()}@example.com", "password": "a wrong password"},
        )
    ),
    "unknown requests": page(f"/api/requests/{'r' * 4_000}"),
}

SHAPES: dict[str, Shape] = SHEETS | SLOW | CALLS
