"""`/metrics`, for Prometheus: what happens in the workers, counted as it happens, and what the database knows, asked when somebody looks.

The figures of all workers are one: each counts in files of its own, in a folder that they share, and whoever answers reads
all of them. A process that serves alone (`flask run`, tests, commands) counts in its own memory.
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

# When a series began is for other formats than the plain one.
disable_created_metrics()  # type: ignore[no-untyped-call]  # has no types


class Definition(NamedTuple):
    """A metric: its name as it is scraped, its labels, what it tells, and the engine that alone has it."""

    name: str
    labels: tuple[str, ...]
    meaning: str
    engine: str | None = None


CHECKS = Definition(
    "budget_sync_checks_total",
    ("code",),
    "Checks, by the code of the answer: a decision or a refusal.",
)
DECISIONS = Definition(
    "budget_sync_decisions_total",
    ("code", "available"),
    "Checks that were decided, by whether the budget can carry the amount.",
)
LEDGER_CALLS = Definition(
    "budget_sync_ledger_calls_total",
    ("call", "code"),
    "The API's reserves, commits and releases, by outcome: OK, REPLAYED, or the code of the refusal.",
)
LATENCY = Definition(
    "budget_sync_http_request_duration_seconds",
    ("call", "status"),
    "Histogram of the time that the app took for a request, by call and status class.",
)
WAITING = Definition(
    "budget_sync_writer_waiting_works",
    (),
    "Requests of all workers that wait for a writer to commit their work.",
    "SQLite",
)
BATCHES = Definition(
    "budget_sync_writer_batch_works",
    (),
    "Histogram of how many works one durable commit carried.",
    "SQLite",
)
WAL_SIZE = Definition("budget_sync_wal_size_bytes", (), "Size of the write-ahead log.", "SQLite")
POOL = Definition(
    "budget_sync_pool_connections_in_use",
    (),
    "Database connections of all workers that are in use.",
    "PostgreSQL",
)
SYNC_AGE = Definition(
    "budget_sync_sync_age_seconds",
    ("customer", "source"),
    "Time since a pass over the source last worked; before the first, since it was made.",
)
SYNC_RESULT = Definition(
    "budget_sync_sync_last_result",
    ("customer", "source", "result"),
    "1 for how the latest pass over the source ended (success, partial, failed), else 0.",
)
BUDGETED = Definition(
    "budget_sync_budgeted_amount",
    ("customer", "currency"),
    "Sum of the customer's live budgets, in whole units.",
)
RESERVED = Definition(
    "budget_sync_reserved_amount", ("customer", "currency"), "What is reserved on them."
)
COMMITTED = Definition(
    "budget_sync_committed_amount", ("customer", "currency"), "What is committed on them."
)
AVAILABLE = Definition(
    "budget_sync_available_amount", ("customer", "currency"), "What is left of them."
)
OVERDRAWN = Definition(
    "budget_sync_overdrawn_budgets",
    ("customer",),
    "How many of the customer's live budgets are overdrawn, of whatever currency.",
)
DATABASE_UP = Definition(
    "budget_sync_database_up",
    (),
    "1 where the database can be reached and has this program's schema, else 0.",
)
BUILD = Definition(
    "budget_sync_build_info",
    ("version", "schema", "engine"),
    "Always 1; the labels tell this program's version, its schema's and the engine.",
)

#: Every metric there is.
DEFINITIONS = (
    *(CHECKS, DECISIONS, LEDGER_CALLS, LATENCY, WAITING, BATCHES, WAL_SIZE, POOL),
    *(
        SYNC_AGE,
        SYNC_RESULT,
        BUDGETED,
        RESERVED,
        COMMITTED,
        AVAILABLE,
        OVERDRAWN,
        DATABASE_UP,
        BUILD,
    ),
)

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10)
BATCH_BUCKETS = (1, 2, 3, 5, 8, 13, 20, 35, 50, 100, 200)

#: What a check answers with where it decides, and whether the budget can then carry the amount.
_DECIDED = {
    Code.AUTO_APPROVED: True,
    Code.REQUIRES_APPROVAL: True,
    Code.INSUFFICIENT_BUDGET: False,
    Code.NO_BUDGET: False,
}

_SYNC_RESULTS = ("success", "partial", "failed")


class _Sharing:
    """The folder in which the workers of this server count; None in a process that serves alone."""

    folder: Path | None = None


_sharing = _Sharing()

#: Memory, where Linux has it: what is counted by the request must wait for no disk, nor end with a full one.
_MEMORY = Path("/dev/shm")  # noqa: S108  # the folder made in it is this user's alone

_PREFIX = "budget-sync-metrics-"

#: Where a request's environment keeps what it came to.
_OUTCOME = "budget_sync.outcome"


@contextmanager
def shared_by_workers() -> Iterator[None]:
    """Have all apps that are made inside, after a fork as well, count in one new folder, which is gone afterwards."""
    parent = _MEMORY if os.access(_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    _sweep(parent)
    folder, owner = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent)), os.getpid()
    with (folder / "lock").open("w", encoding="ascii") as lock:
        # Until the last of the workers has ended, however the server ends.
        fcntl.flock(lock, fcntl.LOCK_EX)
        _sharing.folder = folder
        try:
            yield
        finally:
            _sharing.folder = None
            # Workers come by here, too, as they end.
            if os.getpid() == owner:
                shutil.rmtree(folder, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Remove what servers left behind that were killed."""
    for left in parent.glob(f"{_PREFIX}*"):
        try:
            with (left / "lock").open("r+", encoding="ascii") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left)
        except OSError:
            # In use, or another user's.
            continue


def forget_worker(pid: int) -> None:
    """A worker has ended: what it counted stays, what it had under way is over."""
    try:
        mark_process_dead(pid, str(_sharing.folder))  # type: ignore[no-untyped-call]  # has no types
    except OSError:
        log.warning(
            "What worker %s had under way cannot be taken out of the metrics.", pid, exc_info=True
        )


class Instruments(database.Observer):
    """What one process counts with."""

    def __init__(self) -> None:
        self.folder = _usable(_sharing.folder)
        # The library would choose once for the whole process, by its environment, when it is imported, and ask with each count
        # whether the process was forked meanwhile. A worker makes its app after the fork.
        pid = os.getpid()
        values.ValueClass = (
            values.MutexValue if self.folder is None else values.MultiProcessValue(lambda: pid)  # type: ignore[no-untyped-call]
        )
        self.registry = CollectorRegistry()
        checks = self._make(Counter, CHECKS)
        ledger_calls = self._make(Counter, LEDGER_CALLS)
        # All made now, so that the first time that something goes wrong is a step up from 0, which an alert can see.
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
        # A command that copies from one engine to the other meets both.
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
        """A request was answered; `outcome` is what a ledger call came to."""
        known = (endpoint, status // 100)
        latency = self._latencies.get(known)
        if latency is None:
            latency = self._latencies[known] = self._latency.labels(
                _call(endpoint), f"{status // 100}xx"
            )
        latency.observe(duration_s)
        counter = self._outcomes.get((endpoint, outcome))
        if counter is not None:
            counter.inc()

    def works_wait(self, works: int) -> None:
        """That many works wait for the writer thread."""
        self._waiting.set(works)

    def batch_committed(self, works: int) -> None:
        """The writer thread committed that many works at once."""
        self._batches.observe(works)

    def connection_in_use(self, change: int) -> None:
        """One more connection of the pool is in use, or one less."""
        self._pool.inc(change)

    def counted(self) -> list[Metric]:
        """What was counted, by all workers, in the order of the names."""
        if self.folder is None:
            return sorted(self.registry.collect(), key=lambda metric: metric.name)
        # A worker that is just starting makes its files, and then gives them their first bytes.
        files = [str(path) for path in self.folder.glob("*.db") if path.stat().st_size]
        merged: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]  # has no types
        return sorted(merged, key=lambda metric: metric.name)


def _usable(folder: Path | None) -> Path | None:
    """The folder that the workers share, which a tidy machine may have removed. The service goes on where it cannot be used."""
    if folder is None:
        return None
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        log.warning(
            "The metrics are of one worker alone: %s cannot be used.", folder, exc_info=True
        )
        return None
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    return folder


def _call(endpoint: str | None) -> str:
    """What a request's latency is told under: an API call's name, or whose page it was. Never the path, of which there is no end."""
    if endpoint is None:
        return "unknown"
    blueprint_name, _, name = endpoint.rpartition(".")
    return name if blueprint_name in {"api", ""} else blueprint_name


def init_app(app: Flask) -> None:
    """Count every request from here on, and be told of the database."""
    instruments = Instruments()
    app.extensions["budget_sync_metrics"] = instruments
    app.wsgi_app = _Counted(app.wsgi_app, instruments)  # type: ignore[method-assign]  # Flask's documented way to wrap an app
    database.observe(instruments)
    app.register_blueprint(blueprint)


class _Counted:
    """An app whose requests are counted. Around it rather than in its hooks, of which each costs more than the counting."""

    def __init__(self, app: WSGIApplication, instruments: Instruments) -> None:
        self.app = app
        self.instruments = instruments

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, and count it as the answer begins."""
        began = time.perf_counter()

        def start(status: str, *arguments: Any) -> Any:
            try:
                # Flask's request is there until its context ends.
                endpoint = environ["werkzeug.request"].endpoint
                self.instruments.count_request(
                    endpoint, int(status[:3]), environ.get(_OUTCOME), time.perf_counter() - began
                )
            except OSError:
                # A new series may need room. The answer is the caller's all the same.
                log.warning("A request could not be counted.", exc_info=True)
            return start_response(status, *arguments)

        return self.app(environ, start)


def note_outcome(code: str) -> None:
    """Say what the call under way came to."""
    request.environ[_OUTCOME] = code


@blueprint.get("/metrics")
def scrape() -> Response:
    """All figures, for whoever sends the token; for everybody else there is nothing here."""
    settings: Settings = current_app.config["SETTINGS"]
    if not auth.is_bearer(settings.metrics_token):
        abort(404)
    return Response(generate_latest(_Figures()), content_type=CONTENT_TYPE_PLAIN_0_0_4)


class _Figures(Collector):
    """Everything, as it is now."""

    def collect(self) -> Iterable[Metric]:
        """What was counted, and what the database says, if it can be asked."""
        instruments: Instruments = current_app.extensions["budget_sync_metrics"]
        counted = instruments.counted()
        engine = "SQLite" if database.is_file() else "PostgreSQL"
        others = {
            definition.name for definition in DEFINITIONS if definition.engine not in {None, engine}
        }
        yield from (metric for metric in counted if metric.name not in others)
        yield _decisions(counted)
        yield _gauge(BUILD, {(budget_sync.__version__, str(database.SCHEMA_VERSION), engine): 1})
        if engine == WAL_SIZE.engine:
            yield _gauge(WAL_SIZE, {(): database.wal_size()})
        yield from _of_database()


def _of_database() -> Iterator[Metric]:
    """Whether the database can be asked, and what it then says."""
    try:
        database.require_current_schema()
    except database.DatabaseProblem as problem:
        log.warning("The database could not be asked for metrics: %s", problem)
        yield _gauge(DATABASE_UP, {(): 0})
        return
    yield _gauge(DATABASE_UP, {(): 1})
    for figures in (_balances, _overdrawn, _sources):
        try:
            yield from figures()
        except peewee.PeeweeException:
            # It answered just now, so this is about the question.
            log.exception("The database is up, but did not say its figures for the metrics.")


def _decisions(counted: list[Metric]) -> Metric:
    """The checks that were decided, taken from all checks."""
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


def _sources() -> list[Metric]:
    found = monitoring.sources()
    results = {
        (row.customer_id, row.source_id, result): int(row.last_result == result)
        for row in found
        for result in _SYNC_RESULTS
    }
    return [
        _gauge(SYNC_AGE, {(row.customer_id, row.source_id): row.age_s for row in found}),
        _gauge(SYNC_RESULT, results),
    ]


def _gauge(definition: Definition, samples: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(definition.name, definition.meaning, labels=definition.labels)
    for labels, value in samples.items():
        family.add_metric(labels, value)
    return family
