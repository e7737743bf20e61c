"""`/metrics`: for whoever has the token, true over all workers, with labels that have an end, and there when the database is not."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import peewee
import pytest
import requests
from database.test_faults import moved_away, workers_of
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from stress.locks import HOLD_LOCK
from support.damage import insert_vast_budgets, yen_of
from support.installation import Installation
from support.machine import ENGINE, PROJECT, needs, sqlite_only, wait_until
from support.world import ROOT, check_body, commit_body, key_headers, release_body, reserve_body

from app import create_app
from budget_sync import __version__, database, ledger, manual_budgets, settings, sync
from budget_sync.accounts import people
from budget_sync.database.models import Budget, BudgetDataSourceConfig, SyncHistory
from budget_sync.domain import clock
from budget_sync.domain.errors import Code
from budget_sync.domain.request_models import CommitRequest, ReserveRequest
from budget_sync.operations import demo
from budget_sync.queries import monitoring
from budget_sync.web import metrics

pytestmark = pytest.mark.both_engines

TOKEN = "a token for metrics"
BEARER = {"Authorization": f"Bearer {TOKEN}"}

#: A scrape: each sample's value, by its name and labels.
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: str) -> Samples:
    """A scrape, as Prometheus reads it."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    """One sample of it."""
    return samples[f"budget_sync_{name}", frozenset(labels.items())]


@pytest.fixture
def environment(environment: dict[str, str]) -> dict[str, str]:
    """An installation with a token for metrics."""
    return environment | {"METRICS_TOKEN": TOKEN}


@pytest.fixture
def world(app: Flask) -> Flask:
    """The guide's customer and budget, without the demo's people, whose passwords take their time."""
    make_world()
    return app


def make_world() -> None:
    """Customer org-456 with budget-123, of which 5,000 are committed."""
    people.add_customer(ROOT, demo.CUSTOMER, "Acme Inc.", auto_approve_limit_minor=1_000_000)
    manual_budgets.set_budget(
        ROOT, demo.CUSTOMER, "Engineering", "Q1 2025", Decimal(100_000), budget_id=demo.BUDGET
    )
    hold("intake-101", "5000")
    ledger.commit(
        ROOT, CommitRequest(budget_id=demo.BUDGET, request_id="intake-101", amount=Decimal(5000))
    )


def hold(request_id: str, amount: str, budget_id: str = demo.BUDGET) -> None:
    """Money set aside."""
    ledger.reserve(
        ROOT, ReserveRequest(budget_id=budget_id, request_id=request_id, amount=Decimal(amount))
    )


def scraped(client: FlaskClient) -> Samples:
    """What a scrape says."""
    response = client.get("/metrics", headers=BEARER)
    assert (response.status_code, response.content_type) == (
        200,
        "text/plain; version=0.0.4; charset=utf-8",
    )
    return parsed(response.text)


@pytest.mark.parametrize(
    "authorization",
    [None, TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer", "Bearer ä"],
    ids=["nothing", "no scheme", "another scheme", "another token", "no token", "no ASCII"],
)
def test_without_the_token_there_is_nothing(world: Flask, authorization: str | None) -> None:
    client = world.test_client()
    answer = client.get(
        "/metrics", headers={"Authorization": authorization} if authorization else {}
    )
    assert (answer.status_code, answer.data) == (404, client.get("/nowhere").data)


@pytest.mark.parametrize("token", [None, "", "short enough"])
def test_a_token_that_is_missing_or_short_is_nobodys(
    environment: dict[str, str], token: str | None
) -> None:
    database.connect(Path(environment["INSTANCE_FOLDER"]) / "budget_sync.db")
    app = create_app(
        settings.load(
            {name: text for name, text in environment.items() if name != "METRICS_TOKEN"}
            | ({"METRICS_TOKEN": token} if token else {})
        )
    )
    assert (
        app.test_client()
        .get("/metrics", headers={"Authorization": f"Bearer {token or ''}"})
        .status_code
        == 404
    )


def test_calls_are_counted_by_what_they_came_to(world: Flask) -> None:
    client, key = world.test_client(), key_headers()
    before = scraped(client)

    def call(path: str, body: dict[str, object]) -> None:
        client.post(f"/api/budget/{path}", json=body, headers=key)

    for amount in (5000, 5000, 20_000, 1_000_000):
        call("check", check_body(amount=amount))
    call("check", check_body(department="Nobody's"))
    call("check", check_body(amount="5000"))
    for body in (
        reserve_body(),
        reserve_body(),
        reserve_body(amount=6000),
        reserve_body(requestId="other", amount=1_000_000),
    ):
        call("reserve", body)
    call("commit", commit_body(amount=1000))
    call("commit", commit_body(requestId="unknown"))
    call("release", release_body(amount=4000))
    call("release", release_body(amount=4000))
    call("release", release_body(amount=9000))
    after = scraped(client)

    grown = {
        (name.removeprefix("budget_sync_"), *(text for _, text in sorted(labels))): figure
        - before.get((name, labels), 0)
        for (name, labels), figure in after.items()
        if name.endswith("_total") and figure != before.get((name, labels), 0)
    }
    assert grown == {
        ("checks_total", "AUTO_APPROVED"): 2,
        ("checks_total", "REQUIRES_APPROVAL"): 1,
        ("checks_total", "INSUFFICIENT_BUDGET"): 1,
        ("checks_total", "NO_BUDGET"): 1,
        ("checks_total", "INVALID_REQUEST"): 1,
        ("decisions_total", "true", "AUTO_APPROVED"): 2,
        ("decisions_total", "true", "REQUIRES_APPROVAL"): 1,
        ("decisions_total", "false", "INSUFFICIENT_BUDGET"): 1,
        ("decisions_total", "false", "NO_BUDGET"): 1,
        ("ledger_calls_total", "reserve", "OK"): 1,
        ("ledger_calls_total", "reserve", "REPLAYED"): 1,
        ("ledger_calls_total", "reserve", "REQUEST_CONFLICT"): 1,
        ("ledger_calls_total", "reserve", "INSUFFICIENT_BUDGET"): 1,
        ("ledger_calls_total", "commit", "OK"): 1,
        ("ledger_calls_total", "commit", "REQUEST_NOT_FOUND"): 1,
        ("ledger_calls_total", "release", "OK"): 1,
        ("ledger_calls_total", "release", "REPLAYED"): 1,
        ("ledger_calls_total", "release", "AMOUNT_EXCEEDS_RESERVED"): 1,
    }
    assert value(after, "http_request_duration_seconds_count", call="check", status="2xx") == 5
    assert value(after, "http_request_duration_seconds_count", call="check", status="4xx") == 1
    assert (
        value(
            after, "http_request_duration_seconds_bucket", call="reserve", status="4xx", le="+Inf"
        )
        == 2
    )
    assert 0 < value(after, "http_request_duration_seconds_sum", call="reserve", status="2xx") < 60


def test_a_failure_is_counted_from_nought(world: Flask) -> None:
    samples = scraped(world.test_client())
    assert value(samples, "checks_total", code=Code.UNAVAILABLE) == 0
    assert [
        value(samples, "ledger_calls_total", call=call, code=Code.OUTCOME_UNKNOWN)
        for call in ("reserve", "commit", "release")
    ] == [0, 0, 0]


def test_no_label_takes_what_a_caller_makes_up(world: Flask) -> None:
    client, key = world.test_client(), key_headers()

    def scrape_after(word: str) -> list[str]:
        for path in (
            f"/{word}",
            f"/api/{word}",
            f"/api/requests/{word}",
            f"/api/budgets/{word}",
            f"/metrics/{word}",
        ):
            client.open(path, method="GET", headers=key | {"X-Request-Id": word})
            client.open(path, method="PUT", headers=key)
        client.post(
            "/api/budget/check", json=check_body(requestId=word, department=word), headers=key
        )
        client.post(
            "/api/budget/reserve", json=reserve_body(requestId=word, budgetId=word), headers=key
        )
        client.post("/api/budget/release", json=release_body(action=word), headers=key)
        scraped(client)
        return sorted(
            re.sub(r" \S+$", "", line)
            for line in client.get("/metrics", headers=BEARER).text.splitlines()
        )

    first, second = scrape_after("one-word"), scrape_after("another-word")
    assert first == second
    assert not any("word" in line for line in second)
    assert any('call="unknown"' in line for line in second)


def test_balances_are_told_by_customer_and_currency_in_whole_units(world: Flask) -> None:
    people.add_customer(ROOT, "org-789", 'Odd "Name"', currency="JPY")
    manual_budgets.set_budget(ROOT, "org-789", "Travel", "2025", Decimal(90_000), budget_id="trips")
    manual_budgets.set_budget(ROOT, demo.CUSTOMER, "Travel", "2025", Decimal("1000.25"))
    manual_budgets.set_budget(ROOT, demo.CUSTOMER, "Travel", "2026", Decimal(300), currency="EUR")
    hold("one", "99.50")
    hold("two", "0.01")
    hold("three", "700", "trips")
    samples = scraped(world.test_client())
    found = {
        (labels["customer"], labels["currency"]): [
            value(samples, f"{name}_amount", **labels)
            for name in ("budgeted", "reserved", "committed", "available")
        ]
        for labels in (
            dict(pairs) for name, pairs in samples if name == "budget_sync_available_amount"
        )
    }
    assert found == {
        (demo.CUSTOMER, "USD"): [101_000.25, 99.51, 5000, 95_900.74],
        (demo.CUSTOMER, "EUR"): [300, 0, 0, 300],
        ("org-789", "JPY"): [90_000, 700, 0, 89_300],
    }


def test_balances_of_other_decimals_are_told_as_one(world: Flask) -> None:
    for decimals in (2, 0, 3):
        with yen_of(decimals):
            manual_budgets.set_budget(
                ROOT,
                demo.CUSTOMER,
                f"Tokyo {decimals}",
                "2025",
                Decimal(5000),
                budget_id=f"yen-{decimals}",
                currency="JPY",
            )
    hold("one", "0.125", "yen-3")
    hold("two", "700", "yen-0")
    samples = scraped(world.test_client())
    told = [
        value(samples, f"{name}_amount", customer=demo.CUSTOMER, currency="JPY")
        for name in ("budgeted", "reserved", "committed", "available")
    ]
    assert told == [15_000, 700.125, 0, 14_299.875]


def test_overdrawn_budgets_are_counted_by_customer_though_others_have_more_than_enough(
    world: Flask,
) -> None:
    people.add_customer(ROOT, "org-789", "Another", currency="JPY")
    for number, amount in enumerate((10, 20, 30, 40_000)):
        manual_budgets.set_budget(
            ROOT, "org-789", f"D{number}", "2025", Decimal(amount), budget_id=f"b{number}"
        )
        hold(f"r{number}", "10", f"b{number}")
    client = world.test_client()
    counts = {
        dict(labels)["customer"]: count
        for (name, labels), count in scraped(client).items()
        if name == "budget_sync_overdrawn_budgets"
    }
    assert counts == {demo.CUSTOMER: 0, "org-789": 0}
    for number in range(3):
        manual_budgets.set_budget(ROOT, "org-789", f"D{number}", "2025", Decimal(9 + number % 2))
    samples = scraped(client)
    assert value(samples, "overdrawn_budgets", customer="org-789") == 2
    assert value(samples, "overdrawn_budgets", customer=demo.CUSTOMER) == 0
    assert value(samples, "available_amount", customer="org-789", currency="JPY") > 0
    Budget.update(deletedAt=clock.now()).where(Budget.id == "b0").execute()
    assert value(scraped(client), "overdrawn_budgets", customer="org-789") == 1


def test_balances_may_add_up_to_more_than_64_bits_hold(world: Flask) -> None:
    people.add_customer(ROOT, "rich", "Rich")
    total_minor = insert_vast_budgets("rich")
    samples = scraped(world.test_client())
    assert value(samples, "database_up") == 1
    told = [
        value(samples, f"{name}_amount", customer="rich", currency="USD")
        for name in ("budgeted", "reserved", "committed", "available")
    ]
    assert told == [total_minor / 100, total_minor / 100, 0, 0]


def test_figures_that_cannot_be_had_do_not_say_that_the_database_is_down(
    world: Flask, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing() -> None:
        raise peewee.OperationalError("integer overflow")

    monkeypatch.setattr(monitoring, "balances", failing)
    app = create_app(world.config["SETTINGS"])
    samples = scraped(app.test_client())
    assert value(samples, "database_up") == 1
    assert not any(name.endswith("_amount") for name, _ in samples)
    told = capsys.readouterr().err
    assert " ERROR " in told
    assert "integer overflow" in told


def test_each_source_tells_its_age_and_how_its_latest_pass_ended(
    world: Flask, chosen: settings.Settings
) -> None:
    chosen.csv_folder.mkdir()
    sheet = chosen.csv_folder / "budgets.csv"
    sheet.write_text("Department,Fiscal Period,Budgeted Amount\nSales,2025,10\n", encoding="utf-8")
    source, _ = sync.add_source(
        ROOT, demo.CUSTOMER, csv_path="budgets.csv", csv_folder=chosen.csv_folder
    )
    named = {"customer": demo.CUSTOMER, "source": source.id}
    client = world.test_client()

    def told() -> tuple[float, list[str]]:
        samples = scraped(client)
        results = ("success", "partial", "failed")
        return value(samples, "sync_age_seconds", **named), [
            result
            for result in results
            if value(samples, "sync_last_result", **named, result=result)
        ]

    def passes() -> None:
        list(
            sync.sync_all(
                sync.Job(ROOT, sync.Reach(csv_folder=chosen.csv_folder), chosen.instance_folder)
            )
        )

    an_hour_ago = clock.now() - timedelta(hours=1)
    BudgetDataSourceConfig.update(createdAt=an_hour_ago).execute()
    age, results = told()
    assert 3600 <= age < 3700
    assert results == []
    passes()
    age, results = told()
    assert 0 <= age < 100
    assert results == ["success"]
    SyncHistory.update(endTime=an_hour_ago - timedelta(hours=1)).execute()
    sheet.unlink()
    passes()
    failed = SyncHistory.get(SyncHistory.status == "failed").__data__
    SyncHistory.insert(
        {name: text for name, text in failed.items() if name != "id"}
        | {"syncId": "later", "status": "skipped"}
    ).execute()
    age, results = told()
    assert 7200 <= age < 7300
    assert results == ["failed"]
    sync.remove_source(ROOT, source.id)
    assert ("budget_sync_sync_age_seconds", frozenset(named.items())) not in scraped(client)


def test_a_scrape_tells_the_build_and_the_database(world: Flask) -> None:
    client = world.test_client()
    client.get("/healthz")
    samples = scraped(client)
    engine = "SQLite" if ENGINE == "sqlite" else "PostgreSQL"
    assert (
        value(
            samples,
            "build_info",
            version=__version__,
            schema=str(database.SCHEMA_VERSION),
            engine=engine,
        )
        == 1
    )
    assert value(samples, "database_up") == 1
    names = {name for name, _ in samples}
    for definition in metrics.DEFINITIONS:
        told = any(name.startswith(definition.name) for name in names)
        assert told == (
            definition.engine in {None, engine}
            and not definition.name.startswith("budget_sync_sync_")
        ), definition.name


@sqlite_only
def test_the_size_of_the_write_ahead_log_is_told(world: Flask, chosen: settings.Settings) -> None:
    log = chosen.database_path.with_name(f"{chosen.database_path.name}-wal")
    assert value(scraped(world.test_client()), "wal_size_bytes") == log.stat().st_size > 0


@sqlite_only
def test_what_a_commit_carried_is_told(world: Flask) -> None:
    client = world.test_client()
    before = scraped(client)
    hold("one", "1")
    after = scraped(client)
    for suffix in ("count", "sum"):
        assert (
            value(after, f"writer_batch_works_{suffix}")
            - value(before, f"writer_batch_works_{suffix}")
            == 1
        )
    assert value(after, "writer_waiting_works") == 0


@sqlite_only
def test_a_database_that_is_gone_is_told_beside_what_was_counted(
    world: Flask, chosen: settings.Settings
) -> None:
    client, key = world.test_client(), key_headers()
    client.post("/api/budget/check", json=check_body(), headers=key)
    database.close_connection()
    with moved_away(chosen.database_path):
        assert client.post("/api/budget/check", json=check_body(), headers=key).status_code == 503
        samples = scraped(client)
    assert value(samples, "database_up") == 0
    assert value(samples, "checks_total", code=Code.AUTO_APPROVED) == 1
    assert value(samples, "checks_total", code=Code.UNAVAILABLE) == 1
    assert not any(name.endswith("_amount") for name, _ in samples)
    assert value(scraped(client), "database_up") == 1


# Several workers.


@pytest.fixture
def served(environment: dict[str, str]) -> Iterator[Installation]:
    """A server with three workers on the guide's budget."""
    made = Installation(environment)
    made.folder.mkdir(parents=True)
    database.connect(settings.load(environment).database, create=True)
    database.init_schema()
    make_world()
    made.environment["KEY"] = key_headers()["Authorization"]
    database.disconnect()
    made.start("--workers", "3")
    yield made
    made.end()


def look(server: Installation) -> Samples:
    """A scrape, by any one of the workers."""
    return parsed(
        requests.get(
            f"{server.url}/metrics", headers=BEARER | {"Connection": "close"}, timeout=30
        ).text
    )


def reserve(server: Installation, request_id: str) -> requests.Response:
    """Reserve, at any one of the workers."""
    headers = {"Authorization": server.environment["KEY"], "Connection": "close"}
    return server.post(
        "/api/budget/reserve", reserve_body(requestId=request_id, amount=1), headers=headers
    )


def reserved_ok(samples: Samples) -> float:
    """How many reserves went well."""
    return value(samples, "ledger_calls_total", call="reserve", code="OK")


def folder_of(worker: int) -> Path:
    """Where a worker counts."""
    found = re.search(
        r"(/\S*/budget-sync-metrics-\w+)/", Path(f"/proc/{worker}/maps").read_text(encoding="utf-8")
    )
    assert found
    return Path(found[1])


def replaced(server: Installation, worker: int, ended_by: signal.Signals) -> None:
    """End a worker, and wait for another in its place."""
    os.kill(worker, ended_by)
    wait_until(
        lambda: worker not in workers_of(server) and len(workers_of(server)) == 3,
        "the worker is not replaced",
    )


@contextmanager
def lock_held(file: Path) -> Iterator[None]:
    """Another process holds the database's write lock."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        yield
    finally:
        holder.communicate()


@sqlite_only
def test_the_figures_are_of_all_workers_and_of_those_before_them(served: Installation) -> None:
    needs(Path("/proc/self/maps").exists(), "the /proc of Linux")
    with ThreadPoolExecutor(8) as pool:
        assert {
            response.status_code
            for response in pool.map(lambda number: reserve(served, f"first-{number}"), range(40))
        } == {200}
    assert {reserved_ok(look(served)) for _ in range(10)} == {40}
    workers = workers_of(served)
    folders = {folder_of(worker) for worker in workers}
    assert len(folders) == 1
    (folder,) = folders
    assert len(list(folder.glob("counter_*.db"))) == 3, "each worker has files of its own"

    with lock_held(served.database), ThreadPoolExecutor(6) as pool:
        waiting = [pool.submit(reserve, served, f"waiting-{number}") for number in range(6)]
        wait_until(
            lambda: value(look(served), "writer_waiting_works") == 6, "not all are seen waiting"
        )
        for worker in workers:
            replaced(served, worker, signal.SIGKILL)
        # What the killed ones had waiting went with them; what they counted stays.
        assert value(look(served), "writer_waiting_works") == 0
        assert reserved_ok(look(served)) == 40
        assert all(isinstance(future.exception(), requests.ConnectionError) for future in waiting)
    for number in range(5):
        assert reserve(served, f"second-{number}").status_code == 200
    replaced(served, min(workers_of(served)), signal.SIGTERM)
    assert {reserved_ok(look(served)) for _ in range(6)} == {45}

    assert served.stop() == 0
    assert not folder.exists()
    served.start("--workers", "3")
    assert reserved_ok(look(served)) == 0


def test_what_a_killed_server_left_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "_MEMORY", tmp_path)
    script = "from budget_sync.web import metrics; from pathlib import Path; import os, sys; metrics._MEMORY = Path(sys.argv[1])\n"
    script += "with metrics.shared_by_workers(): print('counting', flush=True); sys.stdin.read()"
    killed, running = (
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    )
    for server in (killed, running):
        assert server.stdout is not None
        assert server.stdout.readline() == "counting\n"
    killed.kill()
    killed.communicate()
    assert len(list(tmp_path.iterdir())) == 2
    with metrics.shared_by_workers():
        assert len(list(tmp_path.iterdir())) == 2, (
            "the killed one's is gone, the running one's and our own are there"
        )
    running.communicate()
    assert running.returncode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "is_in_the_way", [False, True], ids=["it is made anew", "it cannot be made"]
)
def test_a_folder_that_was_taken_away_stops_no_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_in_the_way: bool
) -> None:
    monkeypatch.setattr(metrics, "_MEMORY", tmp_path)
    with metrics.shared_by_workers():
        (folder,) = tmp_path.iterdir()
        shutil.rmtree(folder)
        if is_in_the_way:
            folder.touch()
        instruments = metrics.Instruments()
        instruments.count_request("api.reserve", 200, "OK", 0.1)
        assert instruments.folder == (None if is_in_the_way else folder)
        samples = [
            sample for metric in instruments.collect() for sample in metric.samples if sample.value
        ]
        assert {sample.name for sample in samples} >= {
            metrics.LEDGER_CALLS.name,
            f"{metrics.LATENCY.name}_count",
        }


# The README.


def test_the_readmes_table_has_every_metric() -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(budget_sync_\w+)` \| (.*?) \| (.*?) \|$", readme, flags=re.MULTILINE)
    expected = [
        (
            definition.name,
            ", ".join(f"`{label}`" for label in definition.labels),
            f"{definition.meaning} {definition.engine} only."
            if definition.engine
            else definition.meaning,
        )
        for definition in metrics.DEFINITIONS
    ]
    assert rows == expected
