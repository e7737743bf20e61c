"""Measures each page of the console, and the first rows of its export, on a large database.

    python -m bench --only-pages [--rounds 5] [--stored 1000000]

Of each page: the time of the page, and of its SQL statements only, on the same connection.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any, NamedTuple

from flask.testing import FlaskClient

from app import create_app
from bench import report
from bench.places import BenchError, Place
from budget_sync import database, settings
from budget_sync.accounts import authentication
from budget_sync.database.models import Session
from budget_sync.domain import clock

#: The limits of a page: its time at the 99th percentile, and as a multiple of the time of its SQL.
MAX_PAGE_MS = 1000
MAX_RATIO = 5

#: The processor time of a page that meets the limit of the ratio in any case. Of a page whose SQL
#: takes next to nothing, the ratio would be that of the template.
SMALL_MS = 50

#: The rows of an export that are read: a page of them.
EXPORTED = 50

_VIEWS = ("open", "waiting", "uncovered", "denied", "closed", "all", "spend")
_FILTERS = (
    "q=req-77",
    "q=no+such+text",
    "department=Department+7",
    "period=Q2+2026",
    "person=Person+77",
    "vendor=Vendor+77",
    "days=30",
    "budget=b-7",
)
_SORTS = ("vendor", "-reserved", "-age", "person")


class PageTime(NamedTuple):
    """The times of a page in milliseconds, and the number of its statements.

    `cpu_ms` and `sql_ms` are processor time, so that other processes do not change their ratio.
    """

    path: str
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    sql_ms: float
    statements: int

    @property
    def is_small(self) -> bool:
        """Whether its SQL takes so little that the ratio says nothing."""
        return self.cpu_ms <= SMALL_MS

    @property
    def ratio(self) -> float:
        """The time of the page as a multiple of the time of its SQL."""
        return self.cpu_ms / self.sql_ms if self.sql_ms else math.inf

    @property
    def is_fast(self) -> bool:
        """Whether the page meets both limits."""
        return self.p99_ms <= MAX_PAGE_MS and (self.is_small or self.ratio <= MAX_RATIO)


def paths() -> dict[str, list[str]]:
    """The paths to measure, by the id of the user that opens them."""
    now = datetime.now(UTC).date()
    past, yesterday = now - timedelta(days=91), now - timedelta(days=1)
    requests = [
        f"/requests?view={view}{filters}"
        for view in _VIEWS
        for filters in ("", *(f"&{each}" for each in _FILTERS), *(f"&sort={by}" for by in _SORTS))
        # Denied checks and spend have other columns.
        if filters != "&sort=-reserved" or view not in ("uncovered", "denied", "spend")
    ]
    return {
        "fiona": [
            *("/", "/?period=all", f"/?asOf={past}", f"/?asOf={past}&period=all"),
            *("/budgets", "/budgets?sort=-used", "/budgets?q=Department+7", "/budgets.csv"),
            *(f"/budgets?asOf={past}", f"/budgets?asOf={past}&sort=-used"),
            *("/budget?id=b-7", f"/budget?id=b-7&asOf={past}"),
            *requests,
            *(f"/requests.csv?view={view}" for view in _VIEWS),
            *("/requests.csv?view=all&q=no+such+text", "/requests.csv?view=all&vendor=Vendor+77"),
            *("/search?q=req-77777", "/search?q=Vendor+77", "/search?q=no+such+text"),
            *("/search?q=Person+77", "/search?q=a"),
            *("/unmatched", "/checks", f"/checks?day={yesterday}", "/checks.csv"),
            *(f"/checks?day={yesterday}&decision=denied",),
            *("/compare", "/compare?period=2026-Q1&period=2026-Q2", f"/compare?asOf={past}"),
            *("/compare.csv", "/changes", f"/changes?from={past}", f"/changes.csv?from={past}"),
            *(
                "/spend-report",
                "/spend-report?q=Vendor+77",
                "/spend-report?department=Department+7",
            ),
            *("/spend-report.csv", f"/spend-report?from={now - timedelta(days=360)}"),
            *("/audit", "/audit?q=Person+77", "/audit?q=no+such+text", "/audit?action=CREATE"),
            *("/audit?budget=b-7", f"/audit?from={past}&to={past}", "/audit?budget=b-7&q=none"),
            *(f"/audit?to={past}", "/audit?action=COMMIT", "/audit?action=RELEASE", "/audit.csv"),
            *("/request?id=req-7777", "/request?id=denied-31", "/request?id=req-9907"),
        ],
        "user-7": [
            *("/", "/budgets", "/requests", "/requests?view=all", "/requests?view=denied"),
            *("/requests?view=uncovered", "/search?q=Vendor+77", "/search?q=no+such+text"),
            *(f"/?asOf={past}", "/compare", "/requests.csv?view=all"),
        ],
    }


def measure(place: Place, rounds: int, only: str = "") -> Iterator[PageTime]:
    """The times of each page whose path contains the text `only`."""
    for user, of_user in paths().items():
        with reader(place, user) as client:
            client.get("/account")
            for path in of_user:
                if only in path:
                    note = "" if user == "fiona" else f" ({user})"
                    found = _page_time(client, path, rounds)
                    yield found._replace(path=path + note)


def _page_time(client: FlaskClient, path: str, rounds: int) -> PageTime:
    # The first time also fills the caches.
    statements = recorded(lambda: _load(client, path))
    pages = [_timed(lambda: _load(client, path)) for _ in range(rounds)]
    sql_ms = median(_timed(lambda: _run_all(statements)).cpu_ms for _ in range(rounds))
    times = sorted(each.wall_ms for each in pages)
    # Of fewer than 100 rounds, the slowest one.
    slowest = times[math.ceil(len(times) * 0.99) - 1]
    cpu_ms = median(each.cpu_ms for each in pages)
    return PageTime(path, median(times), slowest, cpu_ms, sql_ms, len(statements))


def _load(client: FlaskClient, path: str) -> None:
    """Read a page, or the first rows of an export."""
    response = client.get(path)
    body: Iterable[bytes] = response.iter_encoded()
    if ".csv" in path:
        body = itertools.islice(body, EXPORTED)
    for _ in body:
        pass
    response.close()
    if response.status_code != 200:
        raise BenchError(f"{path} answered {response.status_code}")


@contextlib.contextmanager
def reader(place: Place, user: str = "fiona") -> Iterator[FlaskClient]:
    """A test client of the app in this process, with a session of a user."""
    client = create_app(settings.load(place.environment())).test_client()
    token, now = secrets.token_urlsafe(32), clock.now()
    database.open_connection()
    Session.insert(
        tokenHash=authentication.digest(token),
        userId=user,
        createdAt=now,
        expiresAt=now + authentication.SESSION_LIFETIME,
    ).execute()
    with client.session_transaction() as cookie:
        cookie["_user_id"] = token
    yield client
    database.disconnect()


def recorded(action: Callable[[], object]) -> list[tuple[str, Any]]:
    """The SELECT statements that an action runs."""
    found: list[tuple[str, Any]] = []
    engine = database.db.obj
    run = engine.execute_sql

    def record(sql: str, params: Any = None) -> Any:
        if sql.lstrip().startswith(("SELECT", "WITH")):
            found.append((sql, params or ()))
        return run(sql, params)

    engine.execute_sql = record
    try:
        action()
    finally:
        del engine.execute_sql
    return found


def _run_all(statements: list[tuple[str, Any]]) -> None:
    """Run the statements, and fetch their rows."""
    connection = database.db.connection()
    for sql, params in statements:
        connection.execute(sql, params).fetchall()


class _Duration(NamedTuple):
    wall_ms: float
    cpu_ms: float


def _timed(action: Callable[[], object]) -> _Duration:
    began, cpu_began = time.perf_counter(), time.process_time()
    action()
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    return _Duration(wall_s * 1000, cpu_s * 1000)


def lines(found: list[PageTime]) -> list[str]:
    """The table of pages, the slowest first."""
    rows = [
        (
            each.path,
            f"{each.p50_ms:.0f}",
            f"{each.p99_ms:.0f}",
            f"{each.cpu_ms:.0f}",
            f"{each.sql_ms:.1f}",
            f"{each.statements}",
            f"{each.ratio:.1f}",
            "met" if each.is_fast else "MISSED",
        )
        for each in sorted(found, key=lambda each: -each.p50_ms)
    ]
    header = ("page", "p50 ms", "p99 ms", "CPU ms", "SQL ms", "statements", "ratio", "limits")
    return report.table(header, rows, left=(0, 7))


def demands(found: list[PageTime]) -> list[report.Demand]:
    """The lines of the pages in the table of ratios."""
    ratios = [each.ratio for each in found if not each.is_small]
    return [
        report.Demand(
            "console: slowest page, p99",
            max(each.p99_ms for each in found),
            MAX_PAGE_MS,
            at_most=True,
            unit=" ms",
        ),
        report.Demand(
            f"… pages above {SMALL_MS} ms: largest ratio to their SQL",
            max(ratios, default=0),
            MAX_RATIO,
            at_most=True,
        ),
    ]
