"""`flask load-test`: sends purchases of a test customer at a fixed rate, measures the replies."""

from budget_sync.operations.load_test.client import Client, LoadTestError
from budget_sync.operations.load_test.purchases import Plan, prepare, run
from budget_sync.operations.load_test.report import (
    LIMIT_S,
    Report,
    StoredResult,
    last_passed,
    store_passed,
)

__all__ = [
    "LIMIT_S",
    "Client",
    "LoadTestError",
    "Plan",
    "Report",
    "StoredResult",
    "last_passed",
    "prepare",
    "run",
    "store_passed",
]
