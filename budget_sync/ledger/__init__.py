"""The ledger: check, reserve, commit and release, each one transaction through `database.transact`.

Money moves by one guarded UPDATE (`standing.move`) whose row count decides; a reservation row is the truth, the counters
of a budget are a cache of it that `reports.verify` proves, and every movement leaves one audit row.
"""

from budget_sync.ledger.check import check
from budget_sync.ledger.reservations import commit, release
from budget_sync.ledger.reserve import reserve

__all__ = ["check", "commit", "release", "reserve"]
