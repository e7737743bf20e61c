"""Measures the console's overview of 500 budgets in 8 periods with 200,000 reservations.

    python -m bench.overview [--seconds 10] [--rate 100]

Prints the time of the page and of its SQL statements only. Also prints the latency of checks that
arrive at a steady rate: without readers, with one reader that loads the page every second, and with
one reader that loads it without a pause.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import click
from flask.testing import FlaskClient

from app import create_app
from bench.places import Place, Sqlite
from bench.servers import free_port, product_command, running
from budget_sync import database, settings
from budget_sync.accounts import authentication
from budget_sync.database.models import Session
from budget_sync.domain import clock
from budget_sync.domain.periods import period_key

CUSTOMER = "console"
DEPARTMENTS = 500
PERIODS = [f"Q{number % 4 + 1} {2025 + number // 4}" for number in range(8)]
RESERVATIONS = 200_000
AMOUNT_MINOR = 100_000

#: Threads that send the checks: so many that a slow reply delays no other check.
SENDERS = 16

_FILL = {
    "Budget": (
        "id", "customerId", "department", "departmentKey", "fiscalPeriod", "periodKey", "currency",
        "currencyExponent", "budgetedMinor", "createdAt", "updatedAt",
    ),
    "BudgetUtilization": (
        "budgetId", "customerId", "currencyExponent", "reservedMinor", "committedMinor", "version",
    ),
    "BudgetCheckLog": (
        "checkId", "customerId", "requestId", "userId", "userName", "userEmail", "checkedBy",
        "department", "fiscalPeriod", "currency", "currencyExponent", "amountMinor", "budgetId",
        "available", "canAutoApprove", "code", "reason", "response", "durationMs", "timestamp",
    ),
    "Reservation": (
        "id", "customerId", "budgetId", "requestId", "requesterId", "requesterName",
        "requesterEmail", "currencyExponent", "amountMinor", "heldMinor", "committedMinor",
        "status", "createdAt", "closedAt", "closedAfterCheck", "reserveReply", "closingCall",
        "closingReply",
    ),
    "AuditLog": (
        "customerId", "budgetId", "version", "action", "subject", "requestId", "reservationId",
        "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor",
        "principal", "changedBy", "reason", "createdAt",
    ),
}  # fmt: skip


@click.command("overview")
@click.option(
    "--seconds",
    default=10,
    show_default=True,
    type=click.IntRange(1),
    help="How long to send checks, with and without a reader.",
)
@click.option(
    "--rate", default=100, show_default=True, type=click.IntRange(1), help="Checks per second."
)
def main(seconds: int, rate: int) -> None:
    """Compare the overview with its SQL, and measure checks while it is loaded."""
    with tempfile.TemporaryDirectory(prefix="budget-sync-bench-overview-") as name:
        click.echo("Filling the database …")
        place = filled(Sqlite(Path(name)).new("console"))
        for line in [
            place.flask("verify"),
            *page_lines(place),
            *check_lines(place, seconds, rate),
        ]:
            click.echo(line)


def filled(place: Place) -> Place:
    """The installation, with its figures written directly into the tables."""
    place.flask("init-db")
    place.flask("add-customer", CUSTOMER, "--name", "Console")
    place.flask(
        "add-user",
        "--customer",
        CUSTOMER,
        "--id",
        "fiona",
        "--name",
        "Fiona",
        "--email",
        "fiona@example.com",
        "--role",
        "fpa_user",
    )
    place = Place(
        place.folder,
        place.database_url,
        place.flask("add-key", "--customer", CUSTOMER, "--name", "bench"),
    )
    with place.stock() as stock:
        for table, rows in _rows().items():
            columns = ", ".join(f'"{column}"' for column in _FILL[table])
            marks = ", ".join("?" * len(_FILL[table]))
            stock.connection.executemany(
                f'INSERT INTO "{table}" ({columns}) VALUES ({marks})',  # noqa: S608
                rows,
            )
        stock.connection.commit()
        stock.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return place


def _rows() -> dict[str, list[tuple[Any, ...]]]:
    """The rows of each table. All requests were checked and reserved, nine of ten committed."""
    now = datetime.now(UTC)
    count = DEPARTMENTS * len(PERIODS)
    reserved, committed, versions = [0] * count, [0] * count, [1] * count
    rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in _FILL}
    audited: list[tuple[Any, ...]] = []
    by_command = ("command", "bench (command line)", None)
    for number in range(RESERVATIONS):
        budget, request, is_open = (
            number % count,
            f"intake-{number}",
            number >= RESERVATIONS * 9 // 10,
        )
        at = clock.to_text(now - timedelta(days=60) * (1 - number / RESERVATIONS))
        owner = ("jane", "Jane Doe", "jane@example.com")
        code = ("AUTO_APPROVED", "REQUIRES_APPROVAL", "AUTO_APPROVED", "INSUFFICIENT_BUDGET")[
            number % 4
        ]
        check = (
            f"chk_{number}",
            CUSTOMER,
            request,
            *owner,
            "key:bench",
            f"Department {budget % DEPARTMENTS}",
            PERIODS[budget // DEPARTMENTS],
            "USD",
        )
        rows["BudgetCheckLog"].append(
            (
                *check,
                2,
                AMOUNT_MINOR,
                f"b-{budget}",
                True,
                True,
                code,
                "Budget available",
                "{}" * 150,
                1,
                at,
            )
        )
        held, spent = (AMOUNT_MINOR, 0) if is_open else (0, AMOUNT_MINOR)
        closing = (
            (None, None, "{}" * 100, None, None)
            if is_open
            else (at, number + 1, "{}" * 100, "commit", "{}" * 100)
        )
        rows["Reservation"].append(
            (
                f"res_{number}",
                CUSTOMER,
                f"b-{budget}",
                request,
                *owner,
                2,
                AMOUNT_MINOR,
                held,
                spent,
                "open" if is_open else "closed",
                at,
                *closing,
            )
        )
        reserved[budget] += held
        committed[budget] += spent
        subject = (owner[0], request, f"res_{number}")
        versions[budget] += 1
        audited.append(
            (
                CUSTOMER,
                f"b-{budget}",
                versions[budget],
                "RESERVE",
                *subject,
                "0",
                "1000",
                0,
                AMOUNT_MINOR,
                0,
                *by_command,
                at,
            )
        )
        if not is_open:
            versions[budget] += 1
            audited.append(
                (
                    CUSTOMER,
                    f"b-{budget}",
                    versions[budget],
                    "COMMIT",
                    *subject,
                    "1000",
                    "0",
                    0,
                    -AMOUNT_MINOR,
                    AMOUNT_MINOR,
                    *by_command,
                    at,
                )
            )
    created = clock.to_text(now - timedelta(days=61))
    for budget in range(count):
        # Some are overdrawn, some nearly used up.
        budgeted = AMOUNT_MINOR * (RESERVATIONS // count) * (95 + budget % 100) // 100
        name, period = f"Department {budget % DEPARTMENTS}", PERIODS[budget // DEPARTMENTS]
        rows["Budget"].append(
            (
                f"b-{budget}",
                CUSTOMER,
                name,
                name.lower(),
                period,
                period_key(period),
                "USD",
                2,
                budgeted,
                created,
                created,
            )
        )
        rows["BudgetUtilization"].append(
            (f"b-{budget}", CUSTOMER, 2, reserved[budget], committed[budget], versions[budget])
        )
        rows["AuditLog"].append(
            (
                CUSTOMER,
                f"b-{budget}",
                1,
                "CREATE",
                None,
                None,
                None,
                None,
                str(budgeted / 100),
                budgeted,
                0,
                0,
                *by_command,
                created,
            )
        )
    rows["AuditLog"] += audited
    return rows


@contextlib.contextmanager
def reader(place: Place) -> Iterator[FlaskClient]:
    """A test client of the app in this process, with a session of an FP&A user."""
    client = create_app(settings.load(place.environment())).test_client()
    token, now = secrets.token_urlsafe(32), clock.now()
    database.open_connection()
    Session.insert(
        tokenHash=authentication.digest(token),
        userId="fiona",
        createdAt=now,
        expiresAt=now + authentication.SESSION_LIFETIME,
    ).execute()
    with client.session_transaction() as cookie:
        cookie["_user_id"] = token
    yield client
    database.disconnect()


def page_lines(place: Place) -> list[str]:
    """A line for the page of the current period, and one for all periods."""
    with reader(place) as client:
        return [page_line(client, path) for path in ("/", "/?period=all")]


def page_line(client: FlaskClient, path: str, rounds: int = 15) -> str:
    """The times of a page, and of running its statements only, on the same connection."""
    statements = recorded(lambda: client.get(path))
    page_ms = median(timed_ms(lambda: client.get(path)) for _ in range(rounds))
    sql_ms = median(timed_ms(lambda: run_all(statements)) for _ in range(rounds))
    return (
        f"{path}: {page_ms:.1f} ms; its {len(statements)} statements only {sql_ms:.1f} ms; "
        f"{page_ms / sql_ms:.1f} times"
    )


def recorded(action: Callable[[], object]) -> list[tuple[str, Any]]:
    """The SELECT statements that an action runs."""
    found: list[tuple[str, Any]] = []
    engine = database.db.obj
    run = engine.execute_sql

    def record(sql: str, params: Any = None) -> Any:
        if sql.lstrip().startswith("SELECT"):
            found.append((sql, params or ()))
        return run(sql, params)

    engine.execute_sql = record
    try:
        action()
    finally:
        del engine.execute_sql
    return found


def run_all(statements: list[tuple[str, Any]]) -> None:
    """Run the statements, and fetch their rows."""
    connection = database.db.connection()
    for sql, params in statements:
        connection.execute(sql, params).fetchall()


def timed_ms(action: Callable[[], object]) -> float:
    """The time that an action takes."""
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


def check_lines(place: Place, seconds: int, rate: int) -> list[str]:
    """A line about checks without readers, with one every second or permanently, and without."""
    cookie = _cookie(place)
    port, lines = free_port(), []
    with running(product_command(port), port, place.environment(), place.folder / "server.log"):
        checks_ms(port, place.key, 2, rate)
        for pause_s in (None, 1.0, 0.0, None):
            stop, page_times = threading.Event(), list[float]()
            reading = threading.Thread(
                target=_read_overview, args=(port, cookie, pause_s, stop, page_times)
            )
            if pause_s is not None:
                reading.start()
            latencies = checks_ms(port, place.key, seconds, rate)
            stop.set()
            if pause_s is not None:
                reading.join()
            cuts = quantiles(latencies, n=100)
            during = (
                f"the overview loaded {len(page_times)} times ({median(page_times):.0f} ms)"
                if page_times
                else "no readers"
            )
            lines.append(
                f"{len(latencies)} checks at {rate}/s, {during}: "
                f"p50 {cuts[49]:.1f} ms, p95 {cuts[94]:.1f} ms, p99 {cuts[98]:.1f} ms"
            )
    return lines


def _cookie(place: Place) -> str:
    with reader(place) as client:
        found = client.get_cookie("budget_sync_session")
        if found is None:
            raise RuntimeError("the reader has no cookie")
        return f"budget_sync_session={found.value}"


def _read_overview(
    port: int, cookie: str, pause_s: float, stop: threading.Event, page_times: list[float]
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    while not stop.is_set():
        began = time.perf_counter()
        connection.request("GET", "/", headers={"Cookie": cookie})
        response = connection.getresponse()
        if response.status != 200 or b"Inbox" not in response.read():
            raise RuntimeError(f"the overview answered {response.status}")
        page_times.append((time.perf_counter() - began) * 1000)
        stop.wait(pause_s)


def checks_ms(port: int, key: str, seconds: int, rate: int) -> list[float]:
    """The latency of each check from the moment it was due; a delay before sending counts."""
    began, latencies = time.perf_counter() + 0.2, list[float]()

    def send(first: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for number in range(first, seconds * rate, SENDERS):
            due = began + number / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            connection.request(
                "POST",
                "/api/budget/check",
                _check(number),
                {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
            )
            response = connection.getresponse()
            if response.status != 200 or not json.loads(response.read())["success"]:
                raise RuntimeError(f"a check was answered {response.status}")
            latencies.append((time.perf_counter() - due) * 1000)

    senders = [threading.Thread(target=send, args=(first,)) for first in range(SENDERS)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    return latencies


def _check(number: int) -> str:
    person = {"userId": "jane", "userName": "Jane Doe", "userEmail": "jane@example.com"}
    budget = {
        "customerId": CUSTOMER,
        "department": f"Department {number % DEPARTMENTS}",
        "fiscalPeriod": PERIODS[number % 8],
        "amount": 12.5,
    }
    return json.dumps({"requestId": f"beside-{secrets.token_hex(6)}"} | person | budget)


if __name__ == "__main__":
    main()
