"""Verify that counters, reservations and the audit log agree, for every budget."""

from __future__ import annotations

from typing import NamedTuple

from budget_sync.database import db, snapshot
from budget_sync.database.models import AuditLog, Budget, Reservation
from budget_sync.ledger.invariants import INVARIANTS


class Verification(NamedTuple):
    """How many rows were verified, and one sentence for every contradiction found."""

    budgets: int
    reservations: int
    movements: int
    findings: list[str]


def verify() -> Verification:
    """Check all invariants on one snapshot, for the budgets of all customers."""
    with snapshot():
        return find_contradictions()


def find_contradictions() -> Verification:
    """Check all invariants inside the transaction that is open."""
    findings = [
        f"{f'Budget {budget_id}' if budget_id else 'No budget'}: {violation}: {detail}."
        for violation, sql in INVARIANTS
        for budget_id, detail in sorted(db.execute_sql(sql).fetchall(), key=str)
    ]
    budgets, reservations, movements = (
        table.select().count() for table in (Budget, Reservation, AuditLog)
    )
    return Verification(budgets, reservations, movements, findings)
