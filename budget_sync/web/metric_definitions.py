"""The metrics of `/metrics`: their names, labels and HELP texts. docs/operate.md lists them."""

from __future__ import annotations

from typing import NamedTuple


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
    "Reserve, commit, release, amend, reverse and spend calls of the API, by outcome: OK, "
    "REPLAYED, or an error code.",
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
    "Number of the customer's budgets whose period includes today and of which at least 80, 90 or "
    "100 percent (the threshold) is reserved or committed, without deleted budgets.",
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
