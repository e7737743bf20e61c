"""`/metrics`: token, sums over all workers, bounded labels, and scrapes without a database."""

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
import time_machine
from database.test_faults import moved_away, workers_of
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from stress.locks import HOLD_LOCK
from support.damage import insert_vast_budgets, yen_with_decimals
from support.installation import Installation
from support.machine import ENGINE, PROJECT, needs, sqlite_only, wait_until
from support.sources import add_file
from support.world import (
    ROOT,
    amend_body,
    check_body,
    commit_body,
    key_headers,
    release_body,
    reserve_body,
    reverse_body,
    spend_body,
)

from app import create_app
from budget_sync import __version__, database, ledger, manual_budgets, settings, sync
from budget_sync.accounts import customers
from budget_sync.database.models import Budget, BudgetDataSourceConfig, SyncHistory
from budget_sync.domain import clock
from budget_sync.domain.errors import Code
from budget_sync.domain.periods import FiscalYear
from budget_sync.domain.request_models import CommitRequest, ReserveRequest
from budget_sync.operations import demo
from budget_sync.queries import monitoring
from budget_sync.web import metric_definitions, metrics

pytestmark = pytest.mark.both_engines

TOKEN = "a token for metrics"
BEARER = {"Authorization": f"Bearer {TOKEN}"}

#: The values of a scrape, by name and labels.
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: str) -> Samples:
    """The samples of a scrape, as Prometheus parses them."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    """The value of a sample."""
    return samples[f"budget_sync_{name}", frozenset(labels.items())]


@pytest.fixture
def environment(environment: dict[str, str]) -> dict[str, str]:
    """An installation with a metrics token."""
    return environment | {"METRICS_TOKEN": TOKEN}


@pytest.fixture
def world(app: Flask) -> Flask:
    """The guide's customer and budget, without people, because password hashes are slow."""
    make_world()
    return app


def make_world() -> None:
    """Create customer org-456 with budget-123, of which 5,000 are committed."""
    customers.add_customer(ROOT, demo.CUSTOMER, "Acme Inc.", auto_approve_limit_minor=1_000_000)
    manual_budgets.set_budget(
        ROOT, demo.CUSTOMER, "Engineering", "Q1 2025", Decimal(100_000), budget_id=demo.BUDGET
    )
    hold("intake-101", "5000")
    ledger.commit(
        ROOT, CommitRequest(budget_id=demo.BUDGET, request_id="intake-101", amount=Decimal(5000))
    )


def hold(request_id: str, amount: str, budget_id: str = demo.BUDGET) -> None:
    """Reserve an amount."""
    ledger.reserve(
        ROOT, ReserveRequest(budget_id=budget_id, request_id=request_id, amount=Decimal(amount))
    )


def scraped(client: FlaskClient) -> Samples:
    """The samples of a scrape by this client."""
    response = client.get("/metrics", headers=BEARER)
    assert (response.status_code, response.content_type) == (
        200,
        "text/plain; version=0.0.4; charset=utf-8",
    )
    return parsed(response.text)


@pytest.mark.parametrize(
    "authorization",
    [None, TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer", "Bearer ä"],
    ids=["none", "no scheme", "other scheme", "other token", "no token", "not ASCII"],
)
def test_without_the_token_metrics_are_a_404(world: Flask, authorization: str | None) -> None:
    client = world.test_client()
    response = client.get(
        "/metrics", headers={"Authorization": authorization} if authorization else {}
    )
    assert (response.status_code, response.data) == (404, client.get("/nowhere").data)


@pytest.mark.parametrize("token", [None, "", "short enough"])
def test_missing_or_short_token_matches_no_request(
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


def test_calls_are_counted_by_outcome(world: Flask) -> None:
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
    call("reverse", reverse_body())
    call("reverse", reverse_body())
    call("reverse", reverse_body(amount=1))
    call("reverse", reverse_body(externalRef="CN-8"))
    call("reserve", reserve_body(requestId="amended"))
    call("amend", amend_body(requestId="amended", reason="New quote"))
    call("amend", amend_body(requestId="amended", reason="New quote"))
    call("amend", amend_body(requestId="amended", ifVersion=1, amount=1))
    for changes in ({}, {}, {"amount": 1}, {"amount": "1"}):
        call("spend", spend_body(**changes))
    after = scraped(client)

    increases = {
        (name.removeprefix("budget_sync_"), *(text for _, text in sorted(labels))): figure
        - before.get((name, labels), 0)
        for (name, labels), figure in after.items()
        if name.endswith("_total") and figure != before.get((name, labels), 0)
    }
    assert increases == {
        ("checks_total", "AUTO_APPROVED"): 2,
        ("checks_total", "REQUIRES_APPROVAL"): 1,
        ("checks_total", "INSUFFICIENT_BUDGET"): 1,
        ("checks_total", "NO_BUDGET"): 1,
        ("checks_total", "INVALID_REQUEST"): 1,
        ("decisions_total", "true", "AUTO_APPROVED"): 2,
        ("decisions_total", "true", "REQUIRES_APPROVAL"): 1,
        ("decisions_total", "false", "INSUFFICIENT_BUDGET"): 1,
        ("decisions_total", "false", "NO_BUDGET"): 1,
        ("ledger_calls_total", "amend", "OK"): 1,
        ("ledger_calls_total", "amend", "REPLAYED"): 1,
        ("ledger_calls_total", "amend", "AMEND_OUT_OF_DATE"): 1,
        ("ledger_calls_total", "reverse", "OK"): 1,
        ("ledger_calls_total", "reverse", "REPLAYED"): 1,
        ("ledger_calls_total", "reverse", "EXTERNAL_REF_CONFLICT"): 1,
        ("ledger_calls_total", "reverse", "AMOUNT_EXCEEDS_COMMITTED"): 1,
        ("ledger_calls_total", "spend", "OK"): 1,
        ("ledger_calls_total", "spend", "REPLAYED"): 1,
        ("ledger_calls_total", "spend", "IDEMPOTENCY_KEY_REUSED"): 1,
        ("ledger_calls_total", "spend", "INVALID_REQUEST"): 1,
        ("ledger_calls_total", "reserve", "OK"): 2,
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
    for name in ("amend", "reverse", "spend"):
        assert value(after, "http_request_duration_seconds_count", call=name, status="2xx") == 2
    assert (
        value(
            after, "http_request_duration_seconds_bucket", call="reserve", status="4xx", le="+Inf"
        )
        == 2
    )
    assert 0 < value(after, "http_request_duration_seconds_sum", call="reserve", status="2xx") < 60


def test_error_counters_start_at_0(world: Flask) -> None:
    samples = scraped(world.test_client())
    assert value(samples, "checks_total", code=Code.UNAVAILABLE) == 0
    assert [
        value(samples, "ledger_calls_total", call=call, code=Code.OUTCOME_UNKNOWN)
        for call in ("reserve", "commit", "release", "amend", "reverse", "spend")
    ] == [0] * 6


def test_no_label_has_a_value_from_the_caller(world: Flask) -> None:
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


def test_balances_are_in_whole_units_by_currency(world: Flask) -> None:
    customers.add_customer(ROOT, "org-789", 'Odd "Name"', currency="JPY")
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


def test_balances_of_different_decimals_are_added(world: Flask) -> None:
    for decimals in (2, 0, 3):
        with yen_with_decimals(decimals):
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
    balances = [
        value(samples, f"{name}_amount", customer=demo.CUSTOMER, currency="JPY")
        for name in ("budgeted", "reserved", "committed", "available")
    ]
    assert balances == [15_000, 700.125, 0, 14_299.875]


def test_overdrawn_budgets_are_counted_by_customer(
    world: Flask,
) -> None:
    customers.add_customer(ROOT, "org-789", "Another", currency="JPY")
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


@time_machine.travel("2025-02-05T11:00:00Z", tick=False)
def test_used_up_budget_among_large_ones_is_counted(world: Flask) -> None:
    for name, amount, used in (("Legal", 1000, 1000), ("Sales", 1000, 800), ("Ops", 1000, 799)):
        manual_budgets.set_budget(
            ROOT, demo.CUSTOMER, name, "Q1 2025", Decimal(amount), budget_id=name
        )
        hold(f"all of {name}", str(used), name)
    counts = thresholds(world.test_client())
    assert counts == {(demo.CUSTOMER, "80"): 2, (demo.CUSTOMER, "90"): 1, (demo.CUSTOMER, "100"): 1}
    manual_budgets.remove_budget(ROOT, "Legal")
    counts = thresholds(world.test_client())
    assert counts == {(demo.CUSTOMER, "80"): 1, (demo.CUSTOMER, "90"): 0, (demo.CUSTOMER, "100"): 0}


def thresholds(client: FlaskClient) -> dict[tuple[str, str], float]:
    """The number of used budgets by customer and threshold."""
    return {
        (dict(labels)["customer"], dict(labels)["threshold"]): count
        for (name, labels), count in scraped(client).items()
        if name == "budget_sync_budgets_over_threshold"
    }


@pytest.mark.parametrize(
    ("period", "time_zone", "fiscal_year", "at", "is_current"),
    [
        ("Q1 2025", "UTC", FiscalYear(), "2025-01-01T00:00:00Z", True),
        ("Q1 2025", "UTC", FiscalYear(), "2024-12-31T23:59:59Z", False),
        ("Q1 2025", "UTC", FiscalYear(), "2025-03-31T23:59:59Z", True),
        ("Q1 2025", "UTC", FiscalYear(), "2025-04-01T00:00:00Z", False),
        # The day in the customer's time zone counts.
        ("Q1 2025", "Asia/Tokyo", FiscalYear(), "2024-12-31T15:00:00Z", True),
        ("Q1 2025", "America/New_York", FiscalYear(), "2025-01-01T04:59:59Z", False),
        # The fiscal year 2025 from April is the one that ends in 2025.
        ("Q1 2025", "UTC", FiscalYear(4), "2024-05-01T00:00:00Z", True),
        ("Q1 2025", "UTC", FiscalYear(4), "2025-02-01T00:00:00Z", False),
        ("FY2025", "UTC", FiscalYear(4), "2025-02-01T00:00:00Z", True),
        # Named by its start, it is the one that begins in 2025.
        ("FY2025", "UTC", FiscalYear(4, "start"), "2025-05-01T00:00:00Z", True),
        ("FY2025", "UTC", FiscalYear(4, "start"), "2025-02-01T00:00:00Z", False),
        ("Launch party", "UTC", FiscalYear(), "2025-02-01T00:00:00Z", False),
    ],
)
def test_only_current_periods_count_as_used_up(
    app: Flask, period: str, time_zone: str, fiscal_year: FiscalYear, at: str, is_current: bool
) -> None:
    customers.add_customer(
        ROOT,
        "acme",
        "Acme",
        time_zone=time_zone,
        fiscal_year_start_month=fiscal_year.first_month,
        fiscal_year_named_by=fiscal_year.named_by,
    )
    manual_budgets.set_budget(ROOT, "acme", "Legal", period, Decimal(5), budget_id="legal")
    hold("all", "5", "legal")
    with time_machine.travel(at, tick=False):
        counts = thresholds(app.test_client())
    assert counts == {("acme", percent): int(is_current) for percent in ("80", "90", "100")}


@time_machine.travel("2025-02-05T11:00:00Z", tick=False)
def test_current_quarter_and_year_both_count(world: Flask) -> None:
    for period in ("Q1 2025", "2025", "Feb 2025", "Q2 2025"):
        manual_budgets.set_budget(
            ROOT, demo.CUSTOMER, "Legal", period, Decimal(5), budget_id=period.replace(" ", "-")
        )
        hold(f"all of {period}", "5", period.replace(" ", "-"))
    assert thresholds(world.test_client())[demo.CUSTOMER, "100"] == 3


@time_machine.travel("2025-02-05T11:00:00Z", tick=False)
def test_empty_budget_counts_as_used_up_only_if_overdrawn(world: Flask) -> None:
    manual_budgets.set_budget(
        ROOT, demo.CUSTOMER, "Legal", "2025", Decimal("0.01"), budget_id="legal"
    )
    assert thresholds(world.test_client())[demo.CUSTOMER, "80"] == 0
    hold("all", "0.01", "legal")
    manual_budgets.set_budget(ROOT, demo.CUSTOMER, "Legal", "2025", Decimal(0))
    assert thresholds(world.test_client())[demo.CUSTOMER, "100"] == 1
    manual_budgets.set_budget(ROOT, demo.CUSTOMER, "Sales", "2025", Decimal(0))
    assert thresholds(world.test_client())[demo.CUSTOMER, "100"] == 1


@time_machine.travel("2025-02-05T11:00:00Z", tick=False)
def test_disabled_customer_has_no_used_up_budgets(world: Flask) -> None:
    customers.disable_customer(ROOT, demo.CUSTOMER)
    assert thresholds(world.test_client()) == {}


def test_balances_may_add_up_to_more_than_64_bits(world: Flask) -> None:
    customers.add_customer(ROOT, "rich", "Rich")
    total_minor = insert_vast_budgets("rich")
    samples = scraped(world.test_client())
    assert value(samples, "database_up") == 1
    balances = [
        value(samples, f"{name}_amount", customer="rich", currency="USD")
        for name in ("budgeted", "reserved", "committed", "available")
    ]
    assert balances == [total_minor / 100, total_minor / 100, 0, 0]


def test_failing_query_does_not_mean_database_down(
    world: Flask, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing() -> None:
        raise peewee.OperationalError("integer overflow")

    monkeypatch.setattr(monitoring, "balances", failing)
    app = create_app(world.config["SETTINGS"])
    samples = scraped(app.test_client())
    assert value(samples, "database_up") == 1
    assert not any(name.endswith("_amount") for name, _ in samples)
    log = capsys.readouterr().err
    assert " ERROR " in log
    assert "integer overflow" in log


def test_each_source_has_its_age_and_last_result(world: Flask, chosen: settings.Settings) -> None:
    chosen.csv_folder.mkdir()
    sheet = chosen.csv_folder / "budgets.csv"
    sheet.write_text("Department,Fiscal Period,Budgeted Amount\nSales,2025,10\n", encoding="utf-8")
    source = add_file(demo.CUSTOMER, chosen.csv_folder, "budgets.csv")
    labels = {"customer": demo.CUSTOMER, "source": source.id}
    client = world.test_client()

    def age_and_results() -> tuple[float, list[str]]:
        samples = scraped(client)
        results = ("success", "partial", "failed")
        return value(samples, "sync_age_seconds", **labels), [
            result
            for result in results
            if value(samples, "sync_last_result", **labels, result=result)
        ]

    def sync_all() -> None:
        list(
            sync.sync_all(
                sync.Job(ROOT, sync.Reach(csv_folder=chosen.csv_folder), chosen.instance_folder)
            )
        )

    an_hour_ago = clock.now() - timedelta(hours=1)
    BudgetDataSourceConfig.update(createdAt=an_hour_ago).execute()
    age, results = age_and_results()
    assert 3600 <= age < 3700
    assert results == []
    sync_all()
    age, results = age_and_results()
    assert 0 <= age < 100
    assert results == ["success"]
    SyncHistory.update(endTime=an_hour_ago - timedelta(hours=1)).execute()
    sheet.unlink()
    sync_all()
    failed = SyncHistory.get(SyncHistory.status == "failed").__data__
    SyncHistory.insert(
        {name: text for name, text in failed.items() if name != "id"}
        | {"syncId": "later", "status": "skipped"}
    ).execute()
    age, results = age_and_results()
    assert 7200 <= age < 7300
    assert results == ["failed"]
    sync.remove_source(ROOT, source.id)
    assert ("budget_sync_sync_age_seconds", frozenset(labels.items())) not in scraped(client)


def test_scrape_has_the_build_and_the_database(world: Flask) -> None:
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
    for definition in metric_definitions.DEFINITIONS:
        is_scraped = any(name.startswith(definition.name) for name in names)
        assert is_scraped == (
            definition.engine in {None, engine}
            and not definition.name.startswith("budget_sync_sync_")
        ), definition.name


@sqlite_only
def test_size_of_the_write_ahead_log_is_reported(world: Flask, chosen: settings.Settings) -> None:
    log = chosen.database_path.with_name(f"{chosen.database_path.name}-wal")
    assert value(scraped(world.test_client()), "wal_size_bytes") == log.stat().st_size > 0


@sqlite_only
def test_number_of_works_of_a_commit_is_reported(world: Flask) -> None:
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
def test_scrape_without_a_database_has_the_counters(
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
    """A server with three workers, and the guide's budget."""
    server = Installation(environment)
    server.folder.mkdir(parents=True)
    database.connect(settings.load(environment).database, create=True)
    database.init_schema()
    make_world()
    server.environment["KEY"] = key_headers()["Authorization"]
    database.disconnect()
    server.start("--workers", "3")
    yield server
    server.end()


def look(server: Installation) -> Samples:
    """The samples of a scrape by any of the workers."""
    return parsed(
        requests.get(
            f"{server.url}/metrics", headers=BEARER | {"Connection": "close"}, timeout=30
        ).text
    )


def reserve(server: Installation, request_id: str) -> requests.Response:
    """Reserve 1 through any of the workers."""
    headers = {"Authorization": server.environment["KEY"], "Connection": "close"}
    return server.post(
        "/api/budget/reserve", reserve_body(requestId=request_id, amount=1), headers=headers
    )


def reserved_ok(samples: Samples) -> float:
    """The number of successful reserves."""
    return value(samples, "ledger_calls_total", call="reserve", code="OK")


def folder_of(worker: int) -> Path:
    """The folder in which a worker counts."""
    found = re.search(
        r"(/\S*/budget-sync-metrics-\w+)/", Path(f"/proc/{worker}/maps").read_text(encoding="utf-8")
    )
    assert found
    return Path(found[1])


def replace_worker(server: Installation, worker: int, end_signal: signal.Signals) -> None:
    """End a worker, and wait for its replacement."""
    os.kill(worker, end_signal)
    wait_until(
        lambda: worker not in workers_of(server) and len(workers_of(server)) == 3,
        "the worker is not replaced",
    )


@contextmanager
def lock_held(file: Path) -> Iterator[None]:
    """Hold the database's write lock in another process."""
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
def test_counters_cover_current_and_former_workers(served: Installation) -> None:
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
    assert len(list(folder.glob("counter_*.db"))) == 3, "each worker has its own files"

    with lock_held(served.database), ThreadPoolExecutor(6) as pool:
        waiting = [pool.submit(reserve, served, f"waiting-{number}") for number in range(6)]
        wait_until(
            lambda: value(look(served), "writer_waiting_works") == 6, "not all requests are waiting"
        )
        for worker in workers:
            replace_worker(served, worker, signal.SIGKILL)
        # The gauges of the killed workers are gone; their counters stay.
        assert value(look(served), "writer_waiting_works") == 0
        assert reserved_ok(look(served)) == 40
        assert all(isinstance(future.exception(), requests.ConnectionError) for future in waiting)
    for number in range(5):
        assert reserve(served, f"second-{number}").status_code == 200
    replace_worker(served, min(workers_of(served)), signal.SIGTERM)
    assert {reserved_ok(look(served)) for _ in range(6)} == {45}

    assert served.stop() == 0
    assert not folder.exists()
    served.start("--workers", "3")
    assert reserved_ok(look(served)) == 0


def test_next_server_removes_folders_of_killed_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "_MEMORY", tmp_path)
    script = "from budget_sync.web import metrics; from pathlib import Path; import os, sys\n"
    script += "metrics._MEMORY = Path(sys.argv[1])\n"
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
            "the folder of the killed server must go, and the other two must stay"
        )
    running.communicate()
    assert running.returncode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_blocked", [False, True], ids=["created again", "cannot be created"])
def test_removed_folder_does_not_stop_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_blocked: bool
) -> None:
    monkeypatch.setattr(metrics, "_MEMORY", tmp_path)
    with metrics.shared_by_workers():
        (folder,) = tmp_path.iterdir()
        shutil.rmtree(folder)
        if is_blocked:
            folder.touch()
        instruments = metrics.Instruments()
        instruments.count_request("api.reserve", 200, "OK", 0.1)
        assert instruments.folder == (None if is_blocked else folder)
        samples = [
            sample for metric in instruments.collect() for sample in metric.samples if sample.value
        ]
        assert {sample.name for sample in samples} >= {
            metric_definitions.LEDGER_CALLS.name,
            f"{metric_definitions.LATENCY.name}_count",
        }


# The documentation.


def test_docs_list_every_metric() -> None:
    page = (PROJECT / "docs" / "operate.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(budget_sync_\w+)` \| (.*?) \| (.*?) \|$", page, flags=re.MULTILINE)
    expected = [
        (
            definition.name,
            ", ".join(f"`{label}`" for label in definition.labels),
            f"{definition.meaning} {definition.engine} only."
            if definition.engine
            else definition.meaning,
        )
        for definition in metric_definitions.DEFINITIONS
    ]
    assert rows == expected
