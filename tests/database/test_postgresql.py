"""Only on PostgreSQL: several servers on one database, retries, restarts, pools and passwords."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import peewee
import psycopg
import pytest
import requests
import time_machine
from flask import Flask
from peewee import SQL, sqlite3  # type: ignore[attr-defined]  # missing from peewee's stubs
from support.competitor import AMOUNT, SERVICE, reserve
from support.installation import Installation, found
from support.machine import wait_until
from support.templates import Templates
from support.world import ROOT, check_body, key_headers, person, reserve_body

from app import create_app
from budget_sync import database, ledger, manual_budgets, settings
from budget_sync.database import Prepared, db, first_row_of_each
from budget_sync.database.models import Customer, Reservation
from budget_sync.database.postgres.pipeline import Connection, Statement
from budget_sync.database.postgres.pool import MAX_GREENLET_CONNECTIONS
from budget_sync.database.transact import TRIES
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Role
from budget_sync.domain.request_models import CheckRequest, CommitRequest, ReserveRequest
from budget_sync.ledger import movements, retention, verification
from budget_sync.settings import Settings, SettingsError
from budget_sync.web.metric_definitions import POOL

SECRET = "a key for tests, long enough"


@pytest.fixture
def installed(
    postgres_templates: Templates, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[dict[str, str]]:
    """The environment of an installation on PostgreSQL."""
    with postgres_templates.copy(
        "world" if "world" in request.fixturenames else "nothing", tmp_path / "instance"
    ) as environment:
        yield environment


@pytest.fixture
def postgres_url(installed: dict[str, str]) -> str:
    """The URL of its database."""
    return installed["DATABASE_URL"]


@pytest.fixture
def chosen(installed: dict[str, str]) -> Settings:
    """Its settings, with a short lock timeout."""
    return replace(settings.load(installed), busy_timeout_s=1.0)


@pytest.fixture
def world(chosen: Settings) -> Iterator[Flask]:
    """The guide's example data on PostgreSQL."""
    yield create_app(chosen)
    database.disconnect()


@pytest.fixture
def outsider(postgres_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the same database from outside the service."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


def at_once(*works: Callable[[], object]) -> list[object]:
    """Run the functions at the same time on separate threads; return their results or errors."""
    start = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> object:
        start.wait(timeout=30)
        try:
            return work()
        except RequestError as error:
            return error.code
        finally:
            database.close_connection()

    with ThreadPoolExecutor(len(works)) as threads:
        return list(threads.map(run, works))


def test_server_does_not_start_with_an_incomplete_schema(
    installed: dict[str, str], outsider: psycopg.Connection[Any]
) -> None:
    installation = Installation(installed)
    installation.flask("init-db")
    outsider.execute('DROP TRIGGER "BudgetCheckLog_no_delete" ON "BudgetCheckLog"')
    result = installation.flask("serve", "--port", str(installation.port), check=False, timeout=30)
    assert result.returncode == 1
    assert (
        'its schema is incomplete: trigger "BudgetCheckLog_no_delete" is missing or changed'
        in result.stderr
    )
    assert len(result.stderr.splitlines()) == 1
    try:
        installation.start("--unproven")
    finally:
        installation.end()


def test_balances_stay_correct_when_a_budget_changes_by_hand(world: Flask) -> None:
    def change(amount: int) -> Callable[[], object]:
        return lambda: manual_budgets.set_budget(
            ROOT, "org-456", "Engineering", "Q1 2025", Decimal(amount)
        )

    def move(number: int) -> Callable[[], object]:
        def work() -> object:
            reserve("budget-123", f"moved-{number}", Decimal(10))
            return ledger.commit(
                SERVICE,
                CommitRequest(
                    budget_id="budget-123", request_id=f"moved-{number}", amount=Decimal(10)
                ),
            )

        return work

    for round_ in range(5):
        at_once(
            *(change(100_000 + 10 * round_ + place) for place in range(4)),
            *(move(10 * round_ + place) for place in range(6)),
        )
    assert (
        Reservation.select()
        .where(Reservation.requestId.startswith("moved-") & (Reservation.status == "closed"))
        .count()
        == 30
    )
    assert verification.verify().findings == []


def test_reserve_that_waits_sees_a_cut_budget(
    world: Flask, outsider: psycopg.Connection[Any]
) -> None:
    with ThreadPoolExecutor(1) as threads, outsider.transaction():
        outsider.execute(
            """UPDATE "Budget" SET "budgetedMinor" = 600000 WHERE "id" = 'budget-123'"""
        )
        outsider.execute(
            """UPDATE "BudgetUtilization" SET "version" = "version" + 1
            WHERE "budgetId" = 'budget-123'"""
        )
        waiting = threads.submit(at_once, lambda: reserve("budget-123", "late", Decimal(5000)))
        wait_until(lambda: blocks_another(outsider), "the reserve does not wait")
    # 5,000 of 6,000 were already reserved or committed.
    assert waiting.result(timeout=30) == [None]


def test_one_request_is_not_reserved_by_two_people_at_once(
    world: Flask,
) -> None:
    manual_budgets.set_budget(
        ROOT, "org-456", "Legal", "Q1 2025", Decimal(1000), budget_id="budget-9"
    )
    people = [
        (person("ann", Role.MANAGER), "Engineering", "budget-123"),
        (person("bob", Role.BUSINESS_USER), "Legal", "budget-9"),
    ]
    for round_ in range(20):
        request_id = f"both-{round_}"
        for actor, department, _ in people:
            body = check_body(
                requestId=request_id, userId=actor.user_id, department=department, amount=Decimal(1)
            )
            ledger.check(actor, CheckRequest.model_validate(body))
        requests_to_reserve = [
            (actor, ReserveRequest(budget_id=budget_id, request_id=request_id, amount=Decimal(1)))
            for actor, _, budget_id in people
        ]
        outcomes = at_once(
            *(
                lambda actor=actor, request=request: ledger.reserve(actor, request)
                for actor, request in requests_to_reserve
            )
        )
        assert sum(outcome is Code.NOT_YOUR_REQUEST for outcome in outcomes) == 1, outcomes
        assert Reservation.select().where(Reservation.requestId == request_id).count() == 1


def blocks_another(connection: psycopg.Connection[Any]) -> bool:
    """Whether another connection waits for a lock that this connection holds."""
    return bool(
        connection.execute(
            "SELECT 1 FROM pg_locks "
            "WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"
        ).fetchone()
    )


# Retries, and the errors that a client gets.


@pytest.mark.parametrize("state", ["40001", "40P01", "23505"])
def test_conflicting_transaction_is_retried(world: Flask, state: str) -> None:
    tries = []

    def work() -> int:
        tries.append(state)
        Customer.update(name=f"try {len(tries)}").execute()
        if len(tries) < TRIES:
            db.execute_sql(
                f"DO $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = '{state}'; END $$"
            )
        return len(tries)

    assert database.transact(work) == TRIES
    assert Customer.get_by_id("org-456").name == f"try {TRIES}"


def test_repeated_conflict_is_unavailable_and_rolled_back(world: Flask) -> None:
    def work() -> None:
        Customer.update(name="changed").execute()
        db.execute_sql("DO $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = '40001'; END $$")

    with pytest.raises(RequestError) as raised:
        database.transact(work)
    assert raised.value.code is Code.UNAVAILABLE
    assert Customer.get_by_id("org-456").name == "Acme Inc."


@pytest.mark.parametrize(
    "state", ["53100", "53200", "53300", "57P01", "57014", "55P03", "25006", "58030", "08006"]
)
def test_temporary_server_error_is_unavailable(world: Flask, state: str) -> None:
    with pytest.raises(RequestError) as raised:
        database.transact(
            lambda: db.execute_sql(
                f"DO $$ BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = '{state}'; END $$"
            )
        )
    assert raised.value.code is Code.UNAVAILABLE


def test_wrong_sql_is_not_reported_as_unavailable(world: Flask) -> None:
    with pytest.raises(peewee.ProgrammingError):
        database.transact(lambda: db.execute_sql('SELECT * FROM "Nowhere"'))


def test_lock_timeout_is_unavailable(world: Flask, outsider: psycopg.Connection[Any]) -> None:
    client, headers = world.test_client(), key_headers()
    with outsider.transaction():
        outsider.execute(
            """SELECT * FROM "BudgetUtilization" WHERE "budgetId" = 'budget-123' FOR UPDATE"""
        )
        response = client.post("/api/budget/reserve", json=reserve_body(), headers=headers)
    assert (response.status_code, response.get_json()["code"]) == (503, "UNAVAILABLE")
    assert int(response.headers["Retry-After"]) > 0
    assert (
        client.post("/api/budget/reserve", json=reserve_body(), headers=headers).status_code == 200
    )


def test_commit_without_an_answer_is_outcome_unknown(
    world: Flask, outsider: psycopg.Connection[Any]
) -> None:
    # A deferred trigger, which runs in the COMMIT, ends the connection.
    outsider.execute(
        "CREATE FUNCTION hang_up() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END'"
    )
    outsider.execute(
        'CREATE CONSTRAINT TRIGGER hang_up AFTER INSERT ON "Reservation" '
        "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hang_up()"
    )
    client, headers = world.test_client(), key_headers()
    response = client.post("/api/budget/reserve", json=reserve_body(), headers=headers)
    assert (response.status_code, response.get_json()["code"]) == (503, "OUTCOME_UNKNOWN")
    outsider.execute('DROP TRIGGER hang_up ON "Reservation"')
    again = client.post("/api/budget/reserve", json=reserve_body(), headers=headers)
    assert again.status_code == 200
    assert Reservation.select().where(Reservation.requestId == "intake-789").count() == 1


# Several statements in one round trip.


_NEW_CUSTOMER = Prepared(
    lambda value: Customer.insert(
        id=value.id, name=value.name, currency="USD", currencyExponent=2, createdAt=value.created_at
    )
)


def add(customer: str, name: str = "New Inc.") -> None:
    """Insert a customer; the statement is sent with the next one."""
    _NEW_CUSTOMER.write(id=customer, name=name, created_at="2025-01-01T00:00:00Z")


def customers() -> set[str]:
    """The IDs of the stored customers that a test added."""
    return {customer.id for customer in Customer.select()} - {"org-456"}


def test_deferred_insert_is_seen_by_later_statements_and_saved(world: Flask) -> None:
    def work() -> tuple[set[str], int]:
        add("one")
        add("two")
        by_peewee = customers()
        add("three")
        return by_peewee, Customer.select().count()

    assert database.transact(work) == ({"one", "two"}, 4)
    assert database.transact(lambda: add("four")) is None
    assert customers() == {"one", "two", "three", "four"}


def test_deferred_insert_is_rolled_back_on_an_error(world: Flask) -> None:
    def work() -> None:
        add("one")
        raise RequestError(Code.FORBIDDEN, "No.")

    with pytest.raises(RequestError):
        database.transact(work)
    assert customers() == set()
    database.transact(lambda: add("two"))
    assert customers() == {"two"}


def test_insert_that_fails_with_the_commit_is_rolled_back(world: Flask) -> None:
    tries = []

    def work() -> None:
        tries.append(1)
        add("one")
        add("org-456")
        add("two")

    with pytest.raises(peewee.IntegrityError):
        database.transact(work)
    # It is retried because another transaction may have inserted the same row first.
    assert len(tries) == TRIES
    assert customers() == set()


def test_connection_lost_with_the_commit_is_outcome_unknown(
    world: Flask, outsider: psycopg.Connection[Any]
) -> None:
    outsider.execute(
        "CREATE FUNCTION hang_up() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END'"
    )
    outsider.execute(
        'CREATE TRIGGER hang_up AFTER INSERT ON "Customer" FOR EACH ROW EXECUTE FUNCTION hang_up()'
    )
    with pytest.raises(RequestError) as raised:
        database.transact(lambda: add("one"))
    assert raised.value.code is Code.OUTCOME_UNKNOWN
    outsider.execute('DROP TRIGGER hang_up ON "Customer"')
    database.transact(lambda: add("two"))
    assert customers() == {"two"}


def test_connection_is_usable_after_an_invalid_statement(world: Flask) -> None:
    invalid = Prepared(
        lambda value: Customer.select(SQL('"nowhere"')).where(Customer.id == value.id)
    )
    for _ in range(2):
        with pytest.raises(peewee.ProgrammingError, match="nowhere"):
            invalid.first(id="org-456")
    with pytest.raises(peewee.ProgrammingError, match="nowhere"):
        first_row_of_each(movements.ENABLED_CUSTOMER, invalid, customer_id="org-456", id="org-456")
    assert movements.ENABLED_CUSTOMER.first(customer_id="org-456").id == "org-456"


def test_nul_in_a_value_is_rejected_before_anything_is_sent(world: Flask) -> None:
    with pytest.raises(peewee.DataError, match="NUL"):
        database.transact(lambda: add("one", "a\0b"))
    database.transact(lambda: add("two"))
    assert customers() == {"two"}


def test_reserve_needs_three_round_trips(world: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []
    real = Connection._send  # noqa: SLF001

    def send(connection: Connection, statements: Sequence[Statement]) -> Any:
        sent.append([sql.split()[0] for sql, _ in statements])
        return real(connection, statements)

    monkeypatch.setattr(Connection, "_send", send)
    ledger.reserve(
        SERVICE,
        ReserveRequest(
            budget_id="budget-123", request_id="r", amount=Decimal(1), customer_id="org-456"
        ),
    )
    round_trips = [["BEGIN", "SELECT", "SELECT"], ["UPDATE"], ["INSERT", "INSERT", "COMMIT"]]
    assert [each for each in sent if each[0] != "SELECT"] == round_trips


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/budgets/budget-123%00", "BUDGET_NOT_FOUND"),
        ("/api/requests/%00", "REQUEST_NOT_FOUND"),
    ],
)
def test_id_with_a_nul_in_the_url_is_not_found(world: Flask, path: str, code: str) -> None:
    # PostgreSQL rejects text that contains NUL in any statement.
    response = world.test_client().get(path, headers=key_headers())
    assert (response.status_code, response.get_json()["code"]) == (404, code)


def test_continuing_after_a_database_error_saves_nothing(world: Flask) -> None:
    def work() -> None:
        Customer.update(name="changed").execute()
        with pytest.raises(peewee.ProgrammingError):
            db.execute_sql('SELECT * FROM "Nowhere"')

    with pytest.raises(RuntimeError, match="nothing was saved"):
        database.transact(work)
    assert Customer.get_by_id("org-456").name == "Acme Inc."


def test_transact_inside_transact_is_an_error(world: Flask) -> None:
    with pytest.raises(RuntimeError, match="called inside transact"):
        database.transact(lambda: database.transact(lambda: None))
    assert database.transact(lambda: 1) == 1


# Connections.


def end_all(connection: psycopg.Connection[Any]) -> int:
    """End all other connections to the database, as a restart does; return their number."""
    ended = connection.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND datname = current_database()"
    ).fetchall()
    return len(ended)


@pytest.mark.parametrize("call", ["check", "reserve"])
def test_no_request_fails_after_a_server_restart(
    world: Flask, outsider: psycopg.Connection[Any], call: str
) -> None:
    client, headers = world.test_client(), key_headers()
    body = check_body() if call == "check" else reserve_body()
    assert client.post(f"/api/budget/{call}", json=body, headers=headers).status_code == 200
    assert end_all(outsider) > 0
    assert client.post(f"/api/budget/{call}", json=body, headers=headers).status_code == 200


def test_transaction_is_retried_on_another_connection(
    world: Flask, outsider: psycopg.Connection[Any]
) -> None:
    tries = []

    def work() -> None:
        tries.append(1)
        Customer.update(name=f"try {len(tries)}").execute()
        if len(tries) == 1:
            end_all(outsider)
        Customer.select().count()

    database.transact(work)
    assert Customer.get_by_id("org-456").name == "try 2"


def test_each_request_returns_its_connection(world: Flask) -> None:
    database.close_connection()
    client, headers = world.test_client(), key_headers()

    def work() -> object:
        return (
            client.application.test_client()
            .post("/api/budget/check", json=check_body(), headers=headers)
            .status_code
        )

    # More threads than connections; no thread closes its connection.
    for _ in range(30):
        with ThreadPoolExecutor(1) as threads:
            assert threads.submit(work).result(timeout=30) == 200


def test_connections_in_use_are_counted(world: Flask) -> None:
    observer = world.extensions["budget_sync_metrics"]

    def in_use() -> float:
        (metric,) = [metric for metric in observer.collect() if metric.name == POOL.name]
        return float(metric.samples[0].value)

    database.disconnect()
    before = in_use()
    with held_connection() as connection:
        assert in_use() - before == 1
        # Closes the connection on both sides. It must still be returned to the pool.
        connection.execute("SELECT 1").connection.pgconn.finish()
    assert in_use() == before
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: world.test_client().get("/readyz"), range(10)))
    assert in_use() == before


@contextmanager
def held_connection() -> Iterator[psycopg.Connection[Any]]:
    """Take a connection from the pool for the duration of the context."""
    database.open_connection()
    try:
        yield db.connection()
    finally:
        database.close_connection()


def test_exhausted_pool_is_unavailable(world: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db.obj, "_max_connections", 1)
    database.open_connection()
    assert at_once(lambda: reserve_once("crowded")) == [Code.UNAVAILABLE]
    database.close_connection()
    assert at_once(lambda: reserve_once("crowded")) != [Code.UNAVAILABLE]


def reserve_once(request_id: str) -> str:
    """Reserve; return the ID of the reservation."""
    return str(
        ledger.reserve(
            SERVICE, ReserveRequest(budget_id="budget-123", request_id=request_id, amount=AMOUNT)
        ).data["reservationId"]
    )


def test_forked_child_does_not_use_inherited_connections(world: Flask) -> None:
    database.open_connection()
    child = os.fork()
    if child == 0:
        # The child must never continue with the tests.
        try:
            reserve_once("child")
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert reserve_once("parent")
    assert {row.requestId for row in Reservation.select()} == {"intake-101", "child", "parent"}


# Settings.


@contextmanager
def role(connection: psycopg.Connection[Any], password: str) -> Iterator[str]:
    """Create a role with that password; drop it at the end."""
    name = f"role_{os.urandom(4).hex()}"
    connection.execute(
        psycopg.sql.SQL("CREATE ROLE {} LOGIN SUPERUSER PASSWORD {}").format(
            psycopg.sql.Identifier(name), password
        )
    )
    try:
        yield name
    finally:
        connection.execute(psycopg.sql.SQL("DROP ROLE {}").format(psycopg.sql.Identifier(name)))


@pytest.mark.parametrize(
    "password",
    ["p@ss:w/rd?#[]", "100% sure", "%41%2f", "a'b\"c\\d e", "пароль€", "a+b&c=d;"],
)
def test_password_may_have_any_character(
    postgres_url: str, outsider: psycopg.Connection[Any], tmp_path: Path, password: str
) -> None:
    parts = urlsplit(postgres_url)
    with role(outsider, password) as name:
        url = parts._replace(
            netloc=f"{name}:{quote(password, safe='')}@{parts.hostname}:{parts.port}"
        ).geturl()
        chosen = settings.load(
            {"INSTANCE_FOLDER": str(tmp_path), "SECRET_KEY": SECRET, "DATABASE_URL": url}
        )
        database.connect(chosen.database)
        try:
            database.open_connection()
            # The test server does not check passwords, so check the value that the driver has.
            assert (db.connection().info.user, db.connection().info.password) == (name, password)
            assert password not in repr(chosen)
            assert quote(password, safe="") not in database.label()
        finally:
            database.disconnect()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://",
        "postgresql://host",
        "postgresql://u:secret%zz@host/db",
        "postgresql://u:secret@host:port:5/db",
    ],
)
def test_error_for_an_invalid_url_hides_the_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(
        SettingsError, match=r"^DATABASE_URL must look like postgresql://"
    ) as raised:
        settings.load({"INSTANCE_FOLDER": str(tmp_path), "SECRET_KEY": SECRET, "DATABASE_URL": url})
    assert "secret" not in str(raised.value)


def test_secret_key_is_required(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^SECRET_KEY must be set on PostgreSQL"):
        settings.load(
            {"INSTANCE_FOLDER": str(tmp_path), "DATABASE_URL": "postgresql://host/budgets"}
        )
    assert not (tmp_path / "secret_key").exists()


def test_two_concurrent_init_db_create_the_tables_once(chosen: Settings) -> None:
    database.connect(chosen.database)
    assert sorted(map(str, at_once(database.init_schema, database.init_schema))) == [
        "False",
        "True",
    ]
    database.disconnect()


@pytest.mark.parametrize("table", ["AuditLog", "BudgetCheckLog"])
def test_logs_are_append_only(world: Flask, table: str) -> None:
    column = "reason"
    for statement in (
        f"""UPDATE "{table}" SET "{column}" = 'x'""",
        f'DELETE FROM "{table}"',
        f'TRUNCATE "{table}"',
    ):
        with pytest.raises(
            peewee.IntegrityError, match=r"append-only|leave only by flask prune-checks"
        ):
            db.execute_sql(statement)


# Two servers on one database.


def reserve_at(
    places: tuple[Installation, ...], body: dict[str, Any], headers: dict[str, str]
) -> str:
    """Reserve; after no answer or a 503, send the request again to the next server."""
    for place in places * 200:
        try:
            response = place.post("/api/budget/reserve", body, headers=headers)
        except requests.RequestException:
            continue
        if response.status_code == 200:
            return str(response.json()["reservationId"])
        assert response.status_code == 503, response.text
    raise AssertionError("no server answers")


def test_killed_server_loses_no_acknowledged_reservation(
    world: Flask, installed: dict[str, str], tmp_path: Path
) -> None:
    one, two = (
        Installation(installed),
        Installation(installed | {"INSTANCE_FOLDER": str(tmp_path / "two")}),
    )
    two.folder.mkdir()
    headers = one.key()
    acknowledged: set[tuple[str, str]] = set()
    stop = threading.Event()

    def client(number: int) -> None:
        tries = 0
        while not stop.is_set():
            tries += 1
            request_id = f"{number}-{tries}"
            acknowledged.add(
                (
                    request_id,
                    reserve_at((one, two), reserve_body(requestId=request_id, amount=1), headers),
                )
            )

    try:
        for server in (one, two):
            server.start("--workers", "1")
        with ThreadPoolExecutor(6) as threads:
            clients = [threads.submit(client, number) for number in range(6)]
            try:
                for _ in range(2):
                    seen = len(acknowledged)
                    wait_until(
                        lambda seen=seen: len(acknowledged) > seen + 30,  # type: ignore[misc]
                        "nothing is reserved",
                    )
                    two.stop(signal.SIGKILL)
                    seen = len(acknowledged)
                    wait_until(
                        lambda seen=seen: len(acknowledged) > seen + 30,  # type: ignore[misc]
                        "the other server reserves nothing",
                    )
                    two.start("--workers", "1")
            finally:
                stop.set()
            for one_client in clients:
                one_client.result(timeout=60)
        stored = set(
            found(
                one.target,
                'SELECT "requestId", "id" FROM "Reservation" '
                """WHERE "requestId" <> 'intake-101'""",
            )
        )
        assert stored == acknowledged
        assert "All balances are consistent" in one.flask("verify").stdout
    finally:
        for server in (one, two):
            server.end()


# Waiting calls.


def test_calls_that_wait_for_a_row_do_not_block_other_calls(
    world: Flask, installed: dict[str, str], outsider: psycopg.Connection[Any]
) -> None:
    server = Installation(installed)
    key, waiting = server.key(), MAX_GREENLET_CONNECTIONS - 1
    with world.app_context():
        database.open_connection()
        manual_budgets.set_budget(
            ROOT, "org-456", "Legal", "Q1 2025", Decimal(1000), budget_id="budget-9"
        )
    try:
        server.start("--workers", "1")
        with ThreadPoolExecutor(2 * waiting) as threads:
            outsider.execute("BEGIN")
            outsider.execute("""SELECT 1 FROM "Budget" WHERE "id" = 'budget-123' FOR UPDATE""")
            reserves = [
                threads.submit(
                    server.post,
                    "/api/budget/reserve",
                    reserve_body(requestId=f"r-{n}", amount=1),
                    headers=key,
                )
                for n in range(waiting)
            ]
            time.sleep(1)
            others = [
                threads.submit(
                    server.post,
                    "/api/budget/reserve",
                    reserve_body(requestId=f"o-{n}", budgetId="budget-9", amount=1),
                    headers=key,
                )
                for n in range(5)
            ]
            assert [other.result().status_code for other in others] == [200] * 5
            assert (
                requests.get(f"{server.url}/api/budgets", headers=key, timeout=30).status_code
                == 200
            )
            assert not any(reserve.done() for reserve in reserves)
            outsider.execute("COMMIT")
            assert [reserve.result().status_code for reserve in reserves] == [200] * waiting
    finally:
        server.end()


class Proxy:
    """Forwards data between the app and PostgreSQL until it falls silent.

    Then it still accepts connections but sends nothing.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.is_silent = False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self.sockets.append(client)
                if not self.is_silent:
                    server = socket.create_connection(self.target)
                    self.sockets.append(server)
                    for source, sink in ((client, server), (server, client)):
                        threading.Thread(
                            target=self._forward, args=(source, sink), daemon=True
                        ).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)

    def fall_silent(self) -> None:
        """Close all connections, and never answer new ones."""
        self.is_silent = True
        for each in self.sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop accepting connections and close all."""
        self.listener.close()
        self.fall_silent()


def test_silent_database_is_unavailable_and_blocks_no_others(
    world: Flask, installed: dict[str, str], postgres_url: str
) -> None:
    url = urlsplit(postgres_url)
    assert url.hostname
    assert url.port
    with closing(Proxy((url.hostname, url.port))) as proxy:
        server = Installation(
            installed
            | {
                "DATABASE_URL": url._replace(
                    netloc=f"{url.username}@127.0.0.1:{proxy.port}"
                ).geturl()
            }
        )
        key = server.key()
        try:
            server.start("--workers", "1")
            assert (
                server.post(
                    "/api/budget/reserve", reserve_body(requestId="before"), headers=key
                ).status_code
                == 200
            )
            proxy.fall_silent()
            with ThreadPoolExecutor(8) as threads:
                waiting = [
                    threads.submit(
                        server.post,
                        "/api/budget/reserve",
                        reserve_body(requestId=f"r-{n}", amount=1),
                        headers=key,
                    )
                    for n in range(8)
                ]
                slowest = 0.0
                while not all(answer.done() for answer in waiting):
                    began = time.monotonic()
                    assert requests.get(f"{server.url}/healthz", timeout=30).status_code == 200
                    slowest = max(slowest, time.monotonic() - began)
                    time.sleep(0.1)
            assert {answer.result().status_code for answer in waiting} == {503}
            assert slowest < 2
            proxy.is_silent = False
            assert (
                server.post(
                    "/api/budget/reserve", reserve_body(requestId="after"), headers=key
                ).status_code
                == 200
            )
        finally:
            server.end()


def test_concurrent_prunes_count_each_check_once(
    world: Flask, outsider: psycopg.Connection[Any], postgres_url: str
) -> None:
    database.connect(postgres_url, busy_timeout_s=20)
    with time_machine.travel(datetime(2024, 1, 1, tzinfo=UTC)):
        for _ in range(3):
            assert (
                world.test_client().post("/api/budget/check", json=check_body()).status_code == 200
            )
    waiting = (
        "SELECT COUNT(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with ThreadPoolExecutor(2) as threads:
        with outsider.transaction():
            outsider.execute('SELECT * FROM "BudgetCheckLog" FOR UPDATE')
            pruning = [threads.submit(retention.prune_checks, ROOT, 30) for _ in range(2)]
            wait_until(lambda: found(postgres_url, waiting) == [(2,)], "not both are waiting")
        assert sorted(deleted.result() for deleted in pruning) == [0, 2]
    assert found(
        postgres_url, """SELECT "oldValue" FROM "AuditLog" WHERE "action" = 'PRUNE_CHECKS'"""
    ) == [("2",)]


# Migration from SQLite.


def test_copy_has_every_row_and_continues_the_keys(
    environment: dict[str, str], postgres_url: str
) -> None:
    here = Installation(
        {name: value for name, value in environment.items() if name != "DATABASE_URL"}
    )
    there = Installation({**here.environment, "DATABASE_URL": postgres_url})
    here.flask("init-db")
    here.flask("demo")
    content = bytes(range(256)) * 300
    with closing(sqlite3.connect(here.database)) as connection, connection:
        connection.execute(
            """INSERT INTO "SourceFile" SELECT "id", "customerId", 'current', 'a.csv', ?, 'Jane',
                "createdAt" FROM "BudgetDataSourceConfig" LIMIT 1""",
            (content,),
        )
        connection.execute(
            """INSERT INTO "HoldAnswer" ("id", "customerId", "sourceId", "kind", "answer",
                "budgetId", "currency", "currencyExponent", "newMinor", "answeredBy", "answeredAt")
            SELECT 7, b."customerId", b."sourceId", 'amount', 'apply', b."id", b."currency",
                b."currencyExponent", 500, 'Jane', b."createdAt"
            FROM "Budget" b WHERE b."sourceId" IS NOT NULL LIMIT 1"""
        )
    too_early = here.flask("copy-to", postgres_url, check=False)
    assert (too_early.returncode, "has no tables yet" in too_early.stderr) == (1, True)
    there.flask("init-db")
    assert "are consistent there" in here.flask("copy-to", postgres_url).stdout
    columns = '"id", "requestId", "heldMinor", "amountMinor", "reserveReply", "closingReply"'
    for table, order in (
        ("Reservation", columns),
        ("AuditLog", '"id", "action", "newValue"'),
        ("User", '"id", "passwordHash"'),
        ("BudgetCheckLog", '"id", "response"'),
        ("HoldAnswer", '"id", "budgetId", "newMinor", "outcome"'),
    ):
        query = f'SELECT {order} FROM "{table}" ORDER BY "id"'
        assert found(there.target, query) == found(here.target, query) != []
    ((copied,),) = found(there.target, 'SELECT "content" FROM "SourceFile"')
    assert bytes(copied) == content
    again = here.flask("copy-to", postgres_url, check=False)
    assert (again.returncode, "was copied to" in again.stderr, again.stderr.count("\n")) == (
        1,
        True,
        1,
    )
    here.flask("copy-to", "--undo")
    again = here.flask("copy-to", postgres_url, check=False)
    assert (again.returncode, "is not empty" in again.stderr, again.stderr.count("\n")) == (
        1,
        True,
        1,
    )
    there.start("--workers", "1")
    try:
        assert there.post("/api/budget/check", check_body()).status_code == 200
        assert (
            there.post("/api/budget/reserve", reserve_body(), headers=there.key()).status_code
            == 200
        )
    finally:
        there.stop()
    assert there.flask("verify").returncode == 0


def test_copy_of_a_damaged_file_fails_and_keeps_nothing(
    environment: dict[str, str], postgres_url: str
) -> None:
    here = Installation(
        {name: value for name, value in environment.items() if name != "DATABASE_URL"}
    )
    here.flask("init-db")
    Installation({**here.environment, "DATABASE_URL": postgres_url}).flask("init-db")
    [(page,)] = found(
        here.target, """SELECT "rootpage" FROM sqlite_master WHERE "name" = 'AuditLog'"""
    )
    with here.database.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    result = here.flask("copy-to", postgres_url, check=False)
    assert (result.returncode, result.stderr) == (
        1,
        "Error: The copy failed and nothing was kept: database disk image is malformed.\n",
    )
    assert found(postgres_url, 'SELECT * FROM "Customer"') == []


def test_old_file_rejects_writes_after_the_copy(
    environment: dict[str, str], postgres_url: str
) -> None:
    here = Installation(
        {name: value for name, value in environment.items() if name != "DATABASE_URL"}
    )
    here.flask("init-db")
    here.flask("demo")
    Installation({**here.environment, "DATABASE_URL": postgres_url}).flask("init-db")
    parts = urlsplit(postgres_url)
    name = f"postgresql://{parts.hostname}:{parts.port}{parts.path}"
    secret = parts._replace(
        netloc=f"{parts.username}:hunter2@{parts.hostname}:{parts.port}"
    ).geturl()
    here.start("--workers", "1")
    try:
        here.flask("copy-to", secret)
        answer = here.post("/api/budget/reserve", reserve_body(), headers=here.key())
        assert (answer.status_code, answer.json()["code"]) == (503, "UNAVAILABLE")
        assert f"This database was copied to {name} and accepts no more writes." in answer.text
        assert "Retry-After" in answer.headers
        assert requests.get(f"{here.url}/healthz", timeout=30).status_code == 200
        assert requests.get(f"{here.url}/readyz", timeout=30).status_code == 503
        assert (
            requests.get(f"{here.url}/api/budgets", headers=here.key(), timeout=30).status_code
            == 200
        )
    finally:
        here.end()
    for command in (
        (
            *("set-budget", "--customer", "org-456", "--department", "X"),
            *("--period", "Q1 2025", "--amount", "1"),
        ),
        ("add-customer", "new", "--name", "New"),
        ("serve", "--port", str(here.port)),
        ("copy-to", postgres_url),
    ):
        result = here.flask(*command, check=False, timeout=30)
        assert (result.returncode, result.stderr.count("\n")) == (1, 1), result.stderr
        assert name in result.stderr
    # Other programs and earlier versions.
    with closing(sqlite3.connect(here.database)) as connection:
        for statement in (
            """UPDATE "Budget" SET "budgetedMinor" = 1""",
            """DELETE FROM "BudgetUtilization" """,
            """INSERT INTO "AuditLog" ("action", "principal", "changedBy", "createdAt")
            VALUES ('RESTORE', 'x', 'x', '2026-01-01T00:00:00Z')""",
        ):
            with pytest.raises(sqlite3.Error, match="accepts no more writes"):
                connection.execute(statement)
    assert here.flask("verify").returncode == 0
    assert "Acme" in here.flask("list-customers").stdout
    assert "hunter2" not in here.log
    assert b"hunter2" not in here.database.read_bytes()
    undone = here.flask("copy-to", "--undo")
    assert "accepts writes again" in undone.stdout
    assert "accepts writes again already" in here.flask("copy-to", "--undo").stdout
    here.flask("add-customer", "new", "--name", "New")
    assert found(here.target, "SELECT 1 FROM sqlite_master WHERE name LIKE '%oved%'") == []


def test_restore_of_a_copied_file_accepts_writes(
    environment: dict[str, str], postgres_url: str, tmp_path: Path
) -> None:
    here = Installation(
        {name: value for name, value in environment.items() if name != "DATABASE_URL"}
    )
    here.flask("init-db")
    here.flask("demo")
    Installation({**here.environment, "DATABASE_URL": postgres_url}).flask("init-db")
    here.flask("copy-to", postgres_url)
    here.flask("backup", str(tmp_path / "moved.db"))
    here.flask("restore", str(tmp_path / "moved.db"))
    here.flask("add-customer", "new", "--name", "New")
    assert here.flask("verify").returncode == 0


def test_copy_that_fails_leaves_the_file_in_use(
    environment: dict[str, str], postgres_url: str
) -> None:
    here = Installation(
        {name: value for name, value in environment.items() if name != "DATABASE_URL"}
    )
    here.flask("init-db")
    here.flask("demo")
    assert here.flask("copy-to", postgres_url, check=False).returncode == 1
    Installation({**here.environment, "DATABASE_URL": postgres_url}).flask("init-db")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        # The copy is changed after it was committed, before it is verified.
        connection.execute(
            "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS "
            """'BEGIN NEW."budgetedMinor" = NEW."budgetedMinor" + 1; RETURN NEW; END'"""
        )
        connection.execute(
            'CREATE TRIGGER spoil BEFORE INSERT ON "Budget" FOR EACH ROW EXECUTE FUNCTION spoil()'
        )
    result = here.flask("copy-to", postgres_url, check=False)
    assert (result.returncode, "stays in use" in result.stderr) == (1, True)
    here.flask("add-customer", "new", "--name", "New")


def test_copy_beside_a_running_server_loses_nothing(
    environment: dict[str, str], postgres_url: str
) -> None:
    here = Installation(
        {name: value for name, value in environment.items() if name != "DATABASE_URL"}
    )
    there = Installation({**here.environment, "DATABASE_URL": postgres_url})
    here.flask("init-db")
    here.flask("demo")
    there.flask("init-db")
    headers, acknowledged, refused = here.key(), set[str](), threading.Event()

    def client(number: int) -> None:
        for tries in range(10_000):
            body = reserve_body(requestId=f"{number}-{tries}", amount=1)
            answer = here.post("/api/budget/reserve", body, headers=headers)
            if answer.status_code == 200:
                acknowledged.add(f"{number}-{tries}")
            elif "accepts no more writes" in answer.text:
                refused.set()
                return

    try:
        here.start()
        with ThreadPoolExecutor(4) as threads:
            clients = [threads.submit(client, number) for number in range(4)]
            wait_until(lambda: len(acknowledged) > 40, "nothing is reserved")
            here.flask("copy-to", postgres_url)
            for each in clients:
                each.result(timeout=60)
    finally:
        here.end()
    assert refused.is_set()
    rows = found(there.target, """SELECT "requestId" FROM "Reservation" WHERE "heldMinor" = 100""")
    assert acknowledged - {request_id for (request_id,) in rows} == set()
    assert there.flask("verify").returncode == 0


# Databases and roles with other settings.


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "WIN1252", "EUC_JP"])
def test_database_that_is_not_utf8_is_rejected_in_one_line(
    installed: dict[str, str], outsider: psycopg.Connection[Any], encoding: str
) -> None:
    name = f"test_{encoding.lower()}_{os.urandom(4).hex()}"
    outsider.execute(
        f"""CREATE DATABASE "{name}" ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' """
        "TEMPLATE template0".encode()
    )
    url = urlsplit(installed["DATABASE_URL"])._replace(path=f"/{name}").geturl()
    place = Installation(installed | {"DATABASE_URL": url})
    source = Installation({k: v for k, v in installed.items() if k != "DATABASE_URL"})
    try:
        for command in ("init-db", "verify", "serve", "upgrade-db", "list-users", "doctor"):
            options = ("--port", str(place.port)) if command == "serve" else ()
            result = place.flask(command, *options, check=False, timeout=30)
            assert result.returncode == 1, command
            assert len(result.stderr.splitlines()) == 1, result.stderr
            assert f"has the encoding {encoding}" in result.stderr + result.stdout
            assert "createdb --encoding=UTF8" in result.stderr + result.stdout
        source.flask("init-db")
        result = source.flask("copy-to", url, check=False)
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
        assert f"has the encoding {encoding}" in result.stderr
        client = create_app(settings.load(place.environment)).test_client()
        for path in ("/readyz", "/api/budgets", "/sign-in"):
            status = client.get(path, headers={"Authorization": "Bearer x"}).status_code
            assert status in (503, 200 if path == "/sign-in" else 503), path
    finally:
        database.disconnect()
        outsider.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@pytest.mark.parametrize("of", ["DATABASE", "ROLE"])
def test_settings_of_the_database_or_role_do_not_reach_our_sessions(
    installed: dict[str, str], outsider: psycopg.Connection[Any], of: str
) -> None:
    with role(outsider, "") as name:
        url = urlsplit(installed["DATABASE_URL"])
        target = url.path[1:] if of == "DATABASE" else name
        for setting in (
            "client_encoding = 'LATIN1'",
            "default_transaction_isolation = 'serializable'",
            "TimeZone = 'Asia/Tokyo'",
            "DateStyle = 'German, DMY'",
        ):
            outsider.execute(f'ALTER {of} "{target}" SET {setting}'.encode())
        environment = installed | {
            "DATABASE_URL": url._replace(
                netloc=f"{name}@{url.hostname}:{url.port}",
                query="client_encoding=LATIN1&options=-c%20TimeZone%3DAsia/Tokyo",
            ).geturl()
        }
        place = Installation(environment)
        for command in (("init-db",), ("demo",), ("verify",)):
            place.flask(*command)
        app = create_app(settings.load(environment))
        try:
            people_name = "Łukasz 山田 €"
            database.transact(lambda: Customer.update(name=people_name).execute())
            assert Customer.get_by_id("org-456").name == people_name
            shown = database.transact(
                lambda: [
                    db.execute_sql(f"SHOW {setting}").fetchone()[0]
                    for setting in ("transaction_isolation", "TimeZone", "client_encoding")
                ]
            )
            assert shown == ["read committed", "UTC", "UTF8"]
            reply = app.test_client().get("/api/budgets/budget-123", headers=place.key())
            assert reply.status_code == 200
        finally:
            database.disconnect()
            outsider.execute(f'REASSIGN OWNED BY "{name}" TO CURRENT_USER'.encode())
            outsider.execute(f'DROP OWNED BY "{name}"'.encode())


@contextmanager
def plain_role(connection: psycopg.Connection[Any]) -> Iterator[str]:
    """A role that may connect and has no other rights."""
    name = f"role_{os.urandom(4).hex()}"
    connection.execute(f'CREATE ROLE "{name}" LOGIN'.encode())
    try:
        yield name
    finally:
        connection.execute(f'DROP OWNED BY "{name}"'.encode())
        connection.execute(f'DROP ROLE "{name}"'.encode())


@pytest.mark.parametrize("has_schema", [True, False], ids=["schema", "no schema"])
def test_role_that_may_not_create_tables_is_one_line(
    installed: dict[str, str], outsider: psycopg.Connection[Any], has_schema: bool
) -> None:
    outsider.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    if not has_schema:
        outsider.execute("DROP SCHEMA public")
    url = urlsplit(installed["DATABASE_URL"])
    with plain_role(outsider) as name:
        limited = url._replace(netloc=f"{name}@{url.hostname}:{url.port}").geturl()
        place = Installation(installed | {"DATABASE_URL": limited})
        result = place.flask("init-db", check=False)
        assert (result.returncode, result.stdout) == (1, "")
        assert len(result.stderr.splitlines()) == 1, result.stderr
        assert "The tables cannot be created in postgresql://" in result.stderr
        assert "GRANT CREATE ON SCHEMA" in result.stderr


def test_role_that_may_not_use_the_tables_is_one_line(
    world: Flask, installed: dict[str, str], outsider: psycopg.Connection[Any]
) -> None:
    url = urlsplit(installed["DATABASE_URL"])
    with plain_role(outsider) as name:
        limited = url._replace(netloc=f"{name}@{url.hostname}:{url.port}").geturl()
        place = Installation(installed | {"DATABASE_URL": limited})
        # First none of the tables, then all of them for reading only.
        for _ in range(2):
            for command in (
                ("add-customer", "new", "--name", "New"),
                ("prune-checks", "--older-than", "1"),
            ):
                result = place.flask(*command, check=False)
                assert result.returncode == 1
                assert len(result.stderr.splitlines()) == 1, result.stderr
                assert "permission denied" in result.stderr
            outsider.execute(f'GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{name}"'.encode())
        key = place.key()
        client = create_app(settings.load(place.environment)).test_client()
        reply = client.post("/api/budget/reserve", json=reserve_body(), headers=key)
        assert (reply.status_code, reply.get_json()["code"]) == (503, "UNAVAILABLE")
        database.disconnect()
