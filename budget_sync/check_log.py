"""The one way out of the check log: rows of a given age, audited."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from peewee import fn

from budget_sync import audit, clock
from budget_sync.database import transact
from budget_sync.models import BudgetCheckLog
from budget_sync.permissions import Action, Actor, require


def prune_checks(actor: Actor, older_than_days: int) -> int:
    """Delete the checks of the caller's customer, or of all, logged more than that many days ago; returns how many went.

    One audit row a customer says how many and up to when. The newest row of all stays, whatever its age: the log's
    sequence counts on from it, and closed reservations compare with that sequence.
    """
    require(actor, Action.MANAGE_PEOPLE)
    cutoff = clock.now() - timedelta(days=older_than_days)

    def work() -> int:
        newest = BudgetCheckLog.select(fn.MAX(BudgetCheckLog.id)).scalar()
        old = (BudgetCheckLog.timestamp < cutoff) & (BudgetCheckLog.id != newest)
        if actor.customer_id is not None:
            old &= BudgetCheckLog.customerId == actor.customer_id
        counts: Any = BudgetCheckLog.select(BudgetCheckLog.customerId, fn.COUNT(BudgetCheckLog.id)).where(old).group_by(BudgetCheckLog.customerId)
        for customer_id, count in list(counts.tuples()):
            audit.record(
                actor,
                "PRUNE_CHECKS",
                customer_id=customer_id,
                oldValue=str(count),
                newValue=clock.to_text(cutoff),
                reason=f"{count} checks older than {older_than_days} days deleted",
            )
        deleted: int = BudgetCheckLog.delete().where(old).execute()
        return deleted

    return transact(work)
