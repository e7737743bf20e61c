"""The console's overview over 500 budgets x 8 periods and 200,000 reservations: beside its own SQL, and beside checks.

    python -m bench.overview [--seconds 10] [--rate 100]

Prints how long the page takes and how long its statements take by themselves, and the latency of checks that arrive at a steady
rate: while nobody looks, while one reader loads the page every second, and while one loads it again and again without a pause.
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

#: Threads that send the checks: enough that a slow answer keeps no other check waiting.
SENDERS = 16

_FILL = {
    "Budget": (
        "id", "customerId", "department", "departmentKey", "fiscalPeriod", "periodKey", "currency", "currencyExponent", "budgetedMinor", "createdAt",
        "updatedAt",
    ),
    "BudgetUtilization": ("budgetId", "customerId", "currencyExponent", "reservedMinor", "committedMinor", "version"),
    "BudgetCheckLog": (
        "checkId", "customerId", "requestId", "userId", "userName", "userEmail", "checkedBy", "department", "fiscalPeriod", "currency",
        "currencyExponent", "amountMinor", "budgetId", "available", "canAutoApprove", "code", "reason", "response", "durationMs", "timestamp",
    ),
    "Reservation": (
        "id", "customerId", "budgetId", "requestId", "requesterId", "requesterName", "requesterEmail", "currencyExponent", "amountMinor", "heldMinor",
        "committedMinor", "status", "createdAt", "closedAt", "closedAfterCheck", "reserveReply", "closingCall", "closingReply",
    ),
    "AuditLog": (
        "customerId", "budgetId", "version", "action", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor",
        "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "reason", "createdAt",
    ),
}  # fmt: skip


@click.command("overview")
@click.option(
    "--seconds",
    default=10,
    show_default=True,
    type=click.IntRange(1),
    help="How long checks are sent, with and without a reader.",
)
@click.option(
    "--rate", default=100, show_default=True, type=click.IntRange(1), help="Checks a second."
)
def main(seconds: int, rate: int) -> None:
    """Measure the overview beside its own SQL, and checks beside it."""
    with tempfile.TemporaryDirectory(prefix="budget-sync-bench-overview-") as name:
        click.echo("Filling the database …")
        place = filled(Sqlite(Path(name)).new("console"))
        for line in [
            place.flask("verify"),
            *page_lines(place),
            *beside_lines(place, seconds, rate),
        ]:
            click.echo(line)


def filled(place: Place) -> Place:
    """The installation, with its figures written straight into the tables."""
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
    """A row for each thing, by table: each request was checked and reserved, and nine of ten were committed."""
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
        story = (owner[0], request, f"res_{number}")
        versions[budget] += 1
        audited.append(
            (
                CUSTOMER,
                f"b-{budget}",
                versions[budget],
                "RESERVE",
                *story,
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
                    *story,
                    "1000",
                    "0",
                    0,
                    -AMOUNT_MINOR,
                    AMOUNT_MINOR,
                    *by_command,
                    at,
                )
            )
    made = clock.to_text(now - timedelta(days=61))
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
                made,
                made,
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
                made,
            )
        )
    rows["AuditLog"] += audited
    return rows


@contextlib.contextmanager
def reader(place: Place) -> Iterator[FlaskClient]:
    """Somebody of FP&A, signed in to the app in this process, with a session as a password would make it."""
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
    """The page of the current period, and of all, each beside its statements."""
    with reader(place) as client:
        return [page_line(client, path) for path in ("/", "/?period=all")]


def page_line(client: FlaskClient, path: str, rounds: int = 15) -> str:
    """How long a page takes, and how long its statements take, run and read by themselves on the same connection."""
    statements = recorded(lambda: client.get(path))
    page_ms = median(timed_ms(lambda: client.get(path)) for _ in range(rounds))
    sql_ms = median(timed_ms(lambda: run_all(statements)) for _ in range(rounds))
    return f"{path}: {page_ms:.1f} ms; its {len(statements)} statements by themselves {sql_ms:.1f} ms; {page_ms / sql_ms:.1f} times"


def recorded(do: Callable[[], object]) -> list[tuple[str, Any]]:
    """The SELECTs that something runs."""
    found: list[tuple[str, Any]] = []
    engine = database.db.obj
    run = engine.execute_sql

    def noted(sql: str, params: Any = None) -> Any:
        if sql.lstrip().startswith("SELECT"):
            found.append((sql, params or ()))
        return run(sql, params)

    engine.execute_sql = noted
    try:
        do()
    finally:
        del engine.execute_sql
    return found


def run_all(statements: list[tuple[str, Any]]) -> None:
    """Run them, and read what they find."""
    connection = database.db.connection()
    for sql, params in statements:
        connection.execute(sql, params).fetchall()


def timed_ms(do: Callable[[], object]) -> float:
    """How long something takes."""
    began = time.perf_counter()
    do()
    return (time.perf_counter() - began) * 1000


def beside_lines(place: Place, seconds: int, rate: int) -> list[str]:
    """Checks at a steady rate while nobody looks, while one reader loads the overview now and then, and without a pause; and once more alone."""
    cookie = _cookie(place)
    port, lines = free_port(), []
    with running(product_command(port), port, place.environment(), place.folder / "server.log"):
        checks_ms(port, place.key, 2, rate)
        for pause_s in (None, 1.0, 0.0, None):
            stop, seen = threading.Event(), list[float]()
            looker = threading.Thread(target=_look, args=(port, cookie, pause_s, stop, seen))
            if pause_s is not None:
                looker.start()
            taken = checks_ms(port, place.key, seconds, rate)
            stop.set()
            if pause_s is not None:
                looker.join()
            cuts = quantiles(taken, n=100)
            beside = (
                f"the overview loaded {len(seen)} times ({median(seen):.0f} ms)"
                if seen
                else "nobody looking"
            )
            lines.append(
                f"{len(taken)} checks at {rate}/s, {beside}: p50 {cuts[49]:.1f} ms, p95 {cuts[94]:.1f} ms, p99 {cuts[98]:.1f} ms"
            )
    return lines


def _cookie(place: Place) -> str:
    with reader(place) as client:
        found = client.get_cookie("budget_sync_session")
        if found is None:
            raise RuntimeError("the reader has no cookie")
        return f"budget_sync_session={found.value}"


def _look(port: int, cookie: str, pause_s: float, stop: threading.Event, seen: list[float]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    while not stop.is_set():
        began = time.perf_counter()
        connection.request("GET", "/", headers={"Cookie": cookie})
        response = connection.getresponse()
        if response.status != 200 or b"Needs attention" not in response.read():
            raise RuntimeError(f"the overview answered {response.status}")
        seen.append((time.perf_counter() - began) * 1000)
        stop.wait(pause_s)


def checks_ms(port: int, key: str, seconds: int, rate: int) -> list[float]:
    """The latency of each check, counted from the moment it was due, so that one that had to wait counts its wait."""
    began, taken = time.perf_counter() + 0.2, list[float]()

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
            taken.append((time.perf_counter() - due) * 1000)

    senders = [threading.Thread(target=send, args=(first,)) for first in range(SENDERS)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    return taken


def _check(number: int) -> str:
    person = {"userId": "jane", "userName": "Jane Doe", "userEmail": "jane@example.com"}
    asked = {
        "customerId": CUSTOMER,
        "department": f"Department {number % DEPARTMENTS}",
        "fiscalPeriod": PERIODS[number % 8],
        "amount": 12.5,
    }
    return json.dumps({"requestId": f"beside-{secrets.token_hex(6)}"} | person | asked)


if __name__ == "__main__":
    main()
