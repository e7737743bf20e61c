"""Deletes old rows of `SyncHistory`, with audit rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from peewee import fn

from budget_sync import database
from budget_sync.database import audit_log
from budget_sync.database.models import SyncHistory
from budget_sync.domain import clock
from budget_sync.domain.permissions import Action, Actor, require
from budget_sync.ledger.retention import in_batches

#: Sync runs deleted in one transaction. Other writers wait for that long, and one row may have
#: many row errors.
BATCH_SIZE = 1000

# The metrics show the result of a source's newest run that was not skipped, and the held deletions
# are read from its newest run that worked. So a run is deleted only if a newer run of its source
# has taken its place.
_FINISHED = ("success", "partial", "failed")
_WORKED = ("success", "partial")


def prune_history(
    actor: Actor, older_than_days: int, report: Callable[[int], None] = lambda _: None
) -> int:
    """Delete sync runs that started more than that many days ago; returns how many were deleted.

    Deletes those of the caller's customer, or of all customers if the caller serves all. Each batch
    is one transaction, the oldest runs first, with one audit row per customer. After each batch,
    `report` gets the number deleted so far.

    The newest run of each source always stays, and so do its newest run that was not skipped and
    its newest run that worked. Raises RequestError FORBIDDEN, or an error of `transact` with the
    number deleted before it.
    """
    require(actor, Action.MANAGE_PEOPLE)
    cutoff = clock.now() - timedelta(days=older_than_days)

    def delete_batch() -> int:
        return _prune_batch(actor, older_than_days, cutoff)

    return in_batches(delete_batch, BATCH_SIZE, "sync runs", report)


def _prune_batch(actor: Actor, older_than_days: int, cutoff: datetime) -> int:
    """Delete the oldest runs before the cutoff, in the open transaction; returns how many."""
    # Without the lock, a concurrent run would count the same rows.
    database.lock_name("budget-sync prune-history")
    old = (SyncHistory.startTime < cutoff) & _is_replaced()
    if actor.customer_id is not None:
        old &= SyncHistory.customerId == actor.customer_id
    oldest: Any = (
        SyncHistory.select(SyncHistory.id, SyncHistory.customerId)
        .where(old)
        .order_by(SyncHistory.id)
        .limit(BATCH_SIZE)
    )
    customers: dict[int, str] = dict(oldest.tuples())
    for customer_id, count in sorted(Counter(customers.values()).items()):
        audit_log.record(
            actor,
            "PRUNE_HISTORY",
            customer_id=customer_id,
            oldValue=str(count),
            newValue=clock.to_text(cutoff),
            reason=f"{count} sync runs older than {older_than_days} days deleted",
        )
    SyncHistory.delete().where(SyncHistory.id.in_(list(customers))).execute()
    return len(customers)


def _is_replaced() -> Any:
    """Whether a run has a newer one of its source, and one that ended at least as well."""
    newer = SyncHistory.alias()
    of_source = newer.select(newer.id).where(
        (newer.sourceId == SyncHistory.sourceId) & (newer.id > SyncHistory.id)
    )
    return (
        fn.EXISTS(of_source)
        & (
            SyncHistory.status.not_in(_FINISHED)
            | fn.EXISTS(of_source.where(newer.status.in_(_FINISHED)))
        )
        & (
            SyncHistory.status.not_in(_WORKED)
            | fn.EXISTS(of_source.where(newer.status.in_(_WORKED)))
        )
    )
