"""Deletes old rows of the check log, with audit rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from peewee import fn

from budget_sync import database
from budget_sync.database import audit_log, transact
from budget_sync.database.models import BudgetCheckLog
from budget_sync.domain import clock
from budget_sync.domain.errors import RequestError
from budget_sync.domain.permissions import Action, Actor, require

#: Checks deleted in one transaction. Other writers wait for that long.
BATCH_SIZE = 5000


def prune_checks(
    actor: Actor, older_than_days: int, report: Callable[[int], None] = lambda _: None
) -> int:
    """Delete checks logged more than that many days ago; returns how many were deleted.

    Deletes those of the caller's customer, or of all customers if the caller serves all. Each batch
    is one transaction, the oldest checks first, with one audit row per customer. If the run is
    interrupted, the audit log is exact, and another run continues. After each batch, `report` gets
    the number deleted so far.

    The newest row of the table always stays: the log's sequence continues from it, and closed
    reservations compare with that sequence. Raises RequestError FORBIDDEN, or an error of
    `transact` with the number deleted before it.
    """
    require(actor, Action.MANAGE_PEOPLE)
    cutoff = clock.now() - timedelta(days=older_than_days)

    def delete_batch() -> int:
        return _prune_batch(actor, older_than_days, cutoff)

    return in_batches(delete_batch, BATCH_SIZE, "checks", report)


def in_batches(
    delete_batch: Callable[[], int], size: int, what: str, report: Callable[[int], None]
) -> int:
    """Call `delete_batch`, each time in its own transaction, until it deletes fewer than `size`.

    Returns the number of deleted rows; `report` gets it after each batch. Raises an error of
    `transact` with the number deleted before it; `what` says in it what was deleted.
    """
    deleted, count = 0, size
    while count == size:
        try:
            count = transact(delete_batch)
        except RequestError as error:
            if not deleted:
                raise
            raise RequestError(
                error.code, f"{deleted} {what} were deleted, and then: {error.sentence}"
            ) from error.__cause__
        deleted += count
        report(deleted)
    return deleted


def _prune_batch(actor: Actor, older_than_days: int, cutoff: datetime) -> int:
    """Delete the oldest checks before the cutoff, in the open transaction; returns how many."""
    # Without the lock, a concurrent run would count the same checks.
    database.lock_name("budget-sync prune-checks")
    newest = BudgetCheckLog.select(fn.MAX(BudgetCheckLog.id)).scalar()
    old = (BudgetCheckLog.timestamp < cutoff) & (BudgetCheckLog.id != newest)
    if actor.customer_id is not None:
        old &= BudgetCheckLog.customerId == actor.customer_id
    oldest: Any = (
        BudgetCheckLog.select(BudgetCheckLog.id, BudgetCheckLog.customerId)
        .where(old)
        .order_by(BudgetCheckLog.timestamp)
        .limit(BATCH_SIZE)
    )
    customers: dict[int, str] = dict(oldest.tuples())
    for customer_id, count in sorted(Counter(customers.values()).items()):
        audit_log.record(
            actor,
            "PRUNE_CHECKS",
            customer_id=customer_id,
            oldValue=str(count),
            newValue=clock.to_text(cutoff),
            reason=f"{count} checks older than {older_than_days} days deleted",
        )
    BudgetCheckLog.delete().where(BudgetCheckLog.id.in_(list(customers))).execute()
    return len(customers)
