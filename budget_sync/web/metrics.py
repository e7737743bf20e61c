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
from typing import TYPE_CHECKING, Any

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
from budget_sync.web.metric_definitions import (
    AVAILABLE,
    BATCHES,
    BUDGETED,
    BUILD,
    CHECKS,
    COMMITTED,
    DATABASE_UP,
    DECISIONS,
    DEFINITIONS,
    KEYS_EXPIRING,
    LATENCY,
    LEDGER_CALLS,
    OVER_THRESHOLD,
    OVERDRAWN,
    POOL,
    RESERVED,
    SYNC_AGE,
    SYNC_RESULT,
    WAITING,
    WAL_SIZE,
    Definition,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

blueprint = Blueprint("metrics", __name__)

# Only other formats than plain text have the creation time of a series.
disable_created_metrics()  # type: ignore[no-untyped-call]


LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10)
BATCH_BUCKETS = (1, 2, 3, 5, 8, 13, 20, 35, 50, 100, 200)

#: The codes of a check's decisions, and whether the budget then has the amount available.
_DECIDED = {
    Code.AUTO_APPROVED: True,
    Code.REQUIRES_APPROVAL: True,
    Code.INSUFFICIENT_BUDGET: False,
    Code.NO_BUDGET: False,
}

#: The calls that move money.
LEDGER_CALL_NAMES = ("reserve", "commit", "release", "amend", "reverse", "spend")

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
        for call in LEDGER_CALL_NAMES:
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
                if auth.UNCOUNTED not in environ:
                    # Flask removes its request when the context ends.
                    endpoint = environ["werkzeug.request"].endpoint
                    duration_s = time.perf_counter() - started
                    self.instruments.count_request(
                        endpoint, int(status[:3]), environ.get(_OUTCOME), duration_s
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
