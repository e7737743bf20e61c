"""Verify that counters, open reservations and the audit log agree, for every budget."""

from __future__ import annotations

from typing import NamedTuple

from budget_sync.database import db, snapshot
from budget_sync.database.models import AuditLog, Budget, Reservation
from budget_sync.ledger.invariants import INVARIANTS


class Verification(NamedTuple):
    """What was looked at, and one sentence for every contradiction found."""

    budgets: int
    reservations: int
    movements: int
    findings: list[str]


def verify() -> Verification:
    """Prove the balances, at one moment: counters = open reservations = replayed audit log, for every budget of every customer."""
    with snapshot():
        return find_contradictions()


def find_contradictions() -> Verification:
    """The same, inside the transaction that is open."""
    findings = [
        f"{f'Budget {budget_id}' if budget_id else 'No budget'}: {claim}: {detail}."
        for claim, sql in INVARIANTS
        for budget_id, detail in sorted(db.execute_sql(sql).fetchall(), key=str)
    ]
    budgets, reservations, movements = (
        table.select().count() for table in (Budget, Reservation, AuditLog)
    )
    return Verification(budgets, reservations, movements, findings)
