"""The ledger: check, reserve, approve, decline, amend, commit, release, reverse and spend.

Each verb is one transaction. It loads facts, asks `policy`, moves money with one guarded UPDATE
(`movements.move`), and writes an audit row. The reservation rows are authoritative. A budget's
counters are a cache of their sums, which `verification.verify` compares with the reservations and
the audit log.
"""

from budget_sync.ledger.amend import amend
from budget_sync.ledger.approve import approve
from budget_sync.ledger.check import check
from budget_sync.ledger.commit import commit
from budget_sync.ledger.decline import decline
from budget_sync.ledger.release import release
from budget_sync.ledger.reserve import reserve
from budget_sync.ledger.reverse import reverse
from budget_sync.ledger.spend import spend

__all__ = [
    "amend",
    "approve",
    "check",
    "commit",
    "decline",
    "release",
    "reserve",
    "reverse",
    "spend",
]
