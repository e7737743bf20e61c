"""`/metrics` for Prometheus: counters of requests, and figures that each scrape reads from the
database.

Each worker counts in its own files in a shared folder. The worker that serves a scrape adds up the
files of all workers. A single process (`flask run`, tests, commands) counts in memory.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import peewee
from flask import Blueprint, Flask, Response, abort, current_app, request
from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    values,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

import budget_sync
from budget_sync import database
from budget_sync.domain.errors import Code
from budget_sync.queries import monitoring
from budget_sync.settings import Settings
from budget_sync.web import auth

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

blueprint = Blueprint("metrics", __name__)

# Only other formats than plain text have the creation time of a series.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Definition(NamedTuple):
    """The definition of a metric.

    `meaning` is its HELP text. `engine` is set if only that database engine has the metric.
    """

    name: str
    labels: tuple[str, ...]
    meaning: str
    engine: str | None = None


CHECKS = Definition(
    "budget_sync_checks_total",
    ("code",),
    "Budget checks, by code: the code of the decision or of the error.",
)
DECISIONS = Definition(
    "budget_sync_decisions_total",
    ("code", "available"),
    "Budget checks with a decision, by code and by whether the budget has the amount available.",
)
LEDGER_CALLS = Definition(
    "budget_sync_ledger_calls_total",
    ("call", "code"),
    "Reserve, commit and release calls of the API, by outcome: OK, REPLAYED, or an error code.",
)
LATENCY = Definition(
    "budget_sync_http_request_duration_seconds",
    ("call", "status"),
    "Histogram of the time that the app took to serve a request, by call and status class.",
)
WAITING = Definition(
    "budget_sync_writer_waiting_works",
    (),
    "Requests of all workers that wait for a writer thread to commit their work.",
    "SQLite",
)
BATCHES = Definition(
    "budget_sync_writer_batch_works",
    (),
    "Histogram of the number of requests in one durable commit.",
    "SQLite",
)
WAL_SIZE = Definition(
    "budget_sync_wal_size_bytes", (), "Size of the write-ahead log in bytes.", "SQLite"
)
POOL = Definition(
    "budget_sync_pool_connections_in_use",
    (),
    "Database connections in use, summed over all workers.",
    "PostgreSQL",
)
SYNC_AGE = Definition(
    "budget_sync_sync_age_seconds",
    ("customer", "source"),
    "Time since the last sync run of the source that ended with success or partial, "
    "or since the source was created.",
)
SYNC_RESULT = Definition(
    "budget_sync_sync_last_result",
    ("customer", "source", "result"),
    "1 for the result of the latest sync run of the source (success, partial, failed), else 0.",
)
KEYS_EXPIRING = Definition(
    "budget_sync_api_keys_expiring",
    ("customer",),
    "Number of API keys that expire within 14 days and have no valid successor. The label is empty "
    "for keys for all customers.",
)
BUDGETED = Definition(
    "budget_sync_budgeted_amount",
    ("customer", "currency"),
    "Sum of the customer's budgets, in whole currency units, without deleted budgets.",
)
RESERVED = Definition(
    "budget_sync_reserved_amount",
    ("customer", "currency"),
    "Amount reserved on the customer's budgets, without deleted budgets.",
)
COMMITTED = Definition(
    "budget_sync_committed_amount",
    ("customer", "currency"),
    "Amount committed on the customer's budgets, without deleted budgets.",
)
AVAILABLE = Definition(
    "budget_sync_available_amount",
    ("customer", "currency"),
    "Amount available on the customer's budgets, without deleted budgets.",
)
OVERDRAWN = Definition(
    "budget_sync_overdrawn_budgets",
    ("customer",),
    "Number of the customer's overdrawn budgets in all currencies, without deleted budgets.",
)
OVER_THRESHOLD = Definition(
    "budget_sync_budgets_over_threshold",
    ("customer", "threshold"),
    "Number of the customer's budgets whose period includes today and of which at least 80 or 100 "
    "percent (the threshold) is reserved or committed, without deleted budgets.",
)
DATABASE_UP = Definition(
    "budget_sync_database_up",
    (),
    "1 if the database is reachable and has this program's schema, else 0.",
)
BUILD = Definition(
    "budget_sync_build_info",
    ("version", "schema", "engine"),
    "Always 1. The labels are the program's version, its schema version and the database engine.",
)

#: All metrics.
DEFINITIONS = (
    *(CHECKS, DECISIONS, LEDGER_CALLS, LATENCY, WAITING, BATCHES, WAL_SIZE, POOL),
    *(
        SYNC_AGE,
        SYNC_RESULT,
        KEYS_EXPIRING,
        BUDGETED,
        RESERVED,
        COMMITTED,
        AVAILABLE,
        OVERDRAWN,
        OVER_THRESHOLD,
        DATABASE_UP,
        BUILD,
    ),
)

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10)
BATCH_BUCKETS = (1, 2, 3, 5, 8, 13, 20, 35, 50, 100, 200)

#: The codes of a check's decisions, and whether the budget then has the amount available.
_DECIDED = {
    Code.AUTO_APPROVED: True,
    Code.REQUIRES_APPROVAL: True,
    Code.INSUFFICIENT_BUDGET: False,
    Code.NO_BUDGET: False,
}

_SYNC_RESULTS = ("success", "partial", "failed")


class _Sharing:
    """The folder that the workers of this server share; None in a single process."""

    folder: Path | None = None


_sharing = _Sharing()

#: Shared memory on Linux, so that counting never waits for a disk or fails because it is full.
_MEMORY = Path("/dev/shm")  # noqa: S108  # mkdtemp creates the folder

_PREFIX = "budget-sync-metrics-"

#: The key of a request's outcome in its WSGI environment.
_OUTCOME = "budget_sync.outcome"


@contextmanager
def shared_by_workers() -> Iterator[None]:
    """A new folder in which all apps created in this context count, also after a fork.

    It is removed at the end.
    """
    parent = _MEMORY if os.access(_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    _remove_stale_folders(parent)
    folder, owner = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent)), os.getpid()
    with (folder / "lock").open("w", encoding="ascii") as lock:
        # Workers inherit the lock. It lasts until the last one ends, even if the server is killed.
        fcntl.flock(lock, fcntl.LOCK_EX)
        _sharing.folder = folder
        try:
            yield
        finally:
            _sharing.folder = None
            # Workers run this too when they end.
            if os.getpid() == owner:
                shutil.rmtree(folder, ignore_errors=True)


def _remove_stale_folders(parent: Path) -> None:
    """Remove the folders of servers that were killed."""
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            with (folder / "lock").open("r+", encoding="ascii") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
        except OSError:
            # In use, or owned by another user.
            continue


def forget_worker(pid: int) -> None:
    """Remove the gauges of a worker that has ended. Its counters stay."""
    try:
        mark_process_dead(pid, str(_sharing.folder))  # type: ignore[no-untyped-call]
    except OSError:
        log.warning("Could not remove worker %s from the metrics.", pid, exc_info=True)


class Instruments(database.Observer):
    """The counters, gauges and histograms of one process."""

    def __init__(self) -> None:
        self.folder = _usable(_sharing.folder)
        # By default, prometheus_client chooses the value class once, on import and by environment
        # variable, and checks for a fork on each count. A worker creates its app after the fork.
        pid = os.getpid()
        per_process: Any = values.MultiProcessValue
        values.ValueClass = values.MutexValue if self.folder is None else per_process(lambda: pid)
        self.registry = CollectorRegistry()
        checks = self._make(Counter, CHECKS)
        ledger_calls = self._make(Counter, LEDGER_CALLS)
        # Create all series now: the first error is then an increase from 0, which alerts can see.
        self._outcomes: dict[tuple[str | None, str | None], Counter] = {
            ("api.check", code): checks.labels(code) for code in Code
        }
        for call in ("reserve", "commit", "release"):
            for code in (
                "OK",
                "REPLAYED",
                *(
                    code
                    for code in Code
                    if code not in _DECIDED or code is Code.INSUFFICIENT_BUDGET
                ),
            ):
                self._outcomes[f"api.{call}", code] = ledger_calls.labels(call, code)
        self._latency = self._make(Histogram, LATENCY, buckets=LATENCY_BUCKETS_S)
        self._latencies: dict[tuple[str | None, int], Histogram] = {}
        # Both engines' metrics, because a command that copies between engines uses both.
        self._pool = self._make(Gauge, POOL, multiprocess_mode="livesum")
        self._waiting = self._make(Gauge, WAITING, multiprocess_mode="livesum")
        self._batches = self._make(Histogram, BATCHES, buckets=BATCH_BUCKETS)

    def _make(self, kind: Any, definition: Definition, **options: Any) -> Any:
        return kind(
            definition.name,
            definition.meaning,
            definition.labels,
            registry=self.registry,
            **options,
        )

    def count_request(
        self, endpoint: str | None, status: int, outcome: str | None, duration_s: float
    ) -> None:
        """Count a request. `outcome` is the code of a ledger call."""
        key = (endpoint, status // 100)
        latency = self._latencies.get(key)
        if latency is None:
            latency = self._latencies[key] = self._latency.labels(
                _call(endpoint), f"{status // 100}xx"
            )
        latency.observe(duration_s)
        counter = self._outcomes.get((endpoint, outcome))
        if counter is not None:
            counter.inc()

    def jobs_waiting(self, count: int) -> None:
        """Set the number of jobs that wait for the writer thread."""
        self._waiting.set(count)

    def batch_committed(self, count: int) -> None:
        """Count a commit of the writer thread with this number of jobs."""
        self._batches.observe(count)

    def connection_in_use(self, change: int) -> None:
        """Change the number of pool connections in use by 1 or -1."""
        self._pool.inc(change)

    def collect(self) -> list[Metric]:
        """The metrics of all workers, by name."""
        if self.folder is None:
            return sorted(self.registry.collect(), key=lambda metric: metric.name)
        # A file of a worker that is just starting may still be empty.
        files = [str(path) for path in self.folder.glob("*.db") if path.stat().st_size]
        merge: Any = MultiProcessCollector.merge
        merged: Iterable[Metric] = merge(files)
        return sorted(merged, key=lambda metric: metric.name)


def _usable(folder: Path | None) -> Path | None:
    """The shared folder, created again if a cleanup job removed it; None if it is unusable."""
    if folder is None:
        return None
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        log.warning(
            "The metrics cover only one worker, because %s cannot be used.", folder, exc_info=True
        )
        return None
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    return folder


def _call(endpoint: str | None) -> str:
    """The `call` label of a request: the name of an API call, or the blueprint of a page.

    Never the path, because the number of paths has no limit.
    """
    if endpoint is None:
        return "unknown"
    blueprint_name, _, name = endpoint.rpartition(".")
    return name if blueprint_name in {"api", ""} else blueprint_name


def init_app(app: Flask) -> None:
    """Count all requests of the app, and observe its database."""
    instruments = Instruments()
    app.extensions["budget_sync_metrics"] = instruments
    app.wsgi_app = _RequestCounter(app.wsgi_app, instruments)  # type: ignore[method-assign]
    database.observe(instruments)
    app.register_blueprint(blueprint)


class _RequestCounter:
    """WSGI middleware that counts requests. A hook of Flask would cost more than the counting."""

    def __init__(self, app: WSGIApplication, instruments: Instruments) -> None:
        self.app = app
        self.instruments = instruments

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request, and count it when the reply starts."""
        started = time.perf_counter()

        def start(status: str, *arguments: Any) -> Any:
            try:
                # Flask removes its request when the context ends.
                endpoint = environ["werkzeug.request"].endpoint
                self.instruments.count_request(
                    endpoint, int(status[:3]), environ.get(_OUTCOME), time.perf_counter() - started
                )
            except OSError:
                # A new series may need disk space. The caller still gets the reply.
                log.warning("Could not count a request.", exc_info=True)
            return start_response(status, *arguments)

        return self.app(environ, start)


def record_outcome(code: str) -> None:
    """Store the outcome of the current request, to be counted when its reply starts."""
    request.environ[_OUTCOME] = code


@blueprint.get("/metrics")
def scrape() -> Response:
    """All metrics. Without the token the reply is 404."""
    settings: Settings = current_app.config["SETTINGS"]
    if not auth.has_bearer_token(settings.metrics_token):
        abort(404)
    return Response(generate_latest(_AllMetrics()), content_type=CONTENT_TYPE_PLAIN_0_0_4)


class _AllMetrics(Collector):
    """All current metrics."""

    def collect(self) -> Iterable[Metric]:
        """The counted metrics, and those of the database if it is reachable."""
        instruments: Instruments = current_app.extensions["budget_sync_metrics"]
        counted = instruments.collect()
        engine = "SQLite" if database.is_file() else "PostgreSQL"
        of_other_engine = {
            definition.name for definition in DEFINITIONS if definition.engine not in {None, engine}
        }
        yield from (metric for metric in counted if metric.name not in of_other_engine)
        yield _decisions(counted)
        yield _gauge(BUILD, {(budget_sync.__version__, str(database.SCHEMA_VERSION), engine): 1})
        if engine == WAL_SIZE.engine:
            yield _gauge(WAL_SIZE, {(): database.wal_size()})
        yield from _database_metrics()


def _database_metrics() -> Iterator[Metric]:
    """Whether the database is reachable, and its metrics if it is."""
    try:
        database.require_current_schema()
    except database.DatabaseUnusableError as problem:
        log.warning("No database metrics: %s", problem)
        yield _gauge(DATABASE_UP, {(): 0})
        return
    yield _gauge(DATABASE_UP, {(): 1})
    for read in (_balances, _overdrawn, _over_threshold, _sources, _keys):
        try:
            yield from read()
        except peewee.PeeweeException:
            # The database was reachable just now, so the query itself fails.
            log.exception("Could not read metrics from the database.")


def _decisions(counted: list[Metric]) -> Metric:
    """The checks with a decision, derived from all checks."""
    family = CounterMetricFamily(DECISIONS.name, DECISIONS.meaning, labels=DECISIONS.labels)
    by_code = {
        sample.labels["code"]: sample.value
        for metric in counted
        for sample in metric.samples
        if sample.name == CHECKS.name
    }
    for code, available in _DECIDED.items():
        family.add_metric((code, str(available).lower()), by_code.get(code, 0))
    return family


def _balances() -> list[Metric]:
    found = monitoring.balances()
    amounts = {
        BUDGETED: "budgeted_minor",
        RESERVED: "reserved_minor",
        COMMITTED: "committed_minor",
        AVAILABLE: "available_minor",
    }
    return [
        _gauge(
            definition,
            {
                (customer_id, balance.currency): float(balance.number(getattr(balance, name)))
                for customer_id, balance in found
            },
        )
        for definition, name in amounts.items()
    ]


def _overdrawn() -> list[Metric]:
    return [
        _gauge(
            OVERDRAWN,
            {(customer_id,): count for customer_id, count in monitoring.overdrawn().items()},
        )
    ]


def _over_threshold() -> list[Metric]:
    return [
        _gauge(
            OVER_THRESHOLD,
            {
                (row.customer_id, str(row.threshold)): row.budgets
                for row in monitoring.over_threshold()
            },
        )
    ]


def _keys() -> list[Metric]:
    counts = monitoring.expiring_keys()
    return [_gauge(KEYS_EXPIRING, {(customer_id,): n for customer_id, n in counts.items()})]


def _sources() -> list[Metric]:
    rows = monitoring.sources()
    results = {
        (row.customer_id, row.source_id, result): int(row.last_result == result)
        for row in rows
        for result in _SYNC_RESULTS
    }
    return [
        _gauge(SYNC_AGE, {(row.customer_id, row.source_id): row.age_s for row in rows}),
        _gauge(SYNC_RESULT, results),
    ]


def _gauge(definition: Definition, samples: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(definition.name, definition.meaning, labels=definition.labels)
    for labels, value in samples.items():
        family.add_metric(labels, value)
    return family
