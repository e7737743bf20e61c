"""The one way out of the check log: rows of a given age, audited."""

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

#: How many checks go in one transaction, which is how long others who write wait at most.
PORTION = 5000


def prune_checks(
    actor: Actor, older_than_days: int, tell: Callable[[int], None] = lambda _: None
) -> int:
    """Delete the checks of the caller's customer, or of all, logged more than that many days ago; returns how many went.

    They go in portions, the oldest first, each a transaction of its own with an audit row a customer: cut off anywhere, the log says
    what went and no more, and another run goes on. After each, `tell` is told how many went so far. The newest row of all stays,
    whatever its age: the log's sequence counts on from it, and closed reservations compare with that sequence.
    """
    require(actor, Action.MANAGE_PEOPLE)
    cutoff = clock.now() - timedelta(days=older_than_days)
    deleted, went = 0, PORTION
    while went == PORTION:
        try:
            went = transact(lambda: _prune_portion(actor, older_than_days, cutoff))
        except RequestError as refusal:
            if not deleted:
                raise
            raise RequestError(
                refusal.code, f"{deleted} checks were deleted, and then: {refusal.sentence}"
            ) from refusal.__cause__
        deleted += went
        tell(deleted)
    return deleted


def _prune_portion(actor: Actor, older_than_days: int, cutoff: datetime) -> int:
    """Delete the oldest of those before the cutoff, inside the transaction that is open; returns how many went."""
    # Another run would count the same ones.
    database.lock_name("budget-sync prune-checks")
    newest = BudgetCheckLog.select(fn.MAX(BudgetCheckLog.id)).scalar()
    old = (BudgetCheckLog.timestamp < cutoff) & (BudgetCheckLog.id != newest)
    if actor.customer_id is not None:
        old &= BudgetCheckLog.customerId == actor.customer_id
    oldest: Any = (
        BudgetCheckLog.select(BudgetCheckLog.id, BudgetCheckLog.customerId)
        .where(old)
        .order_by(BudgetCheckLog.timestamp)
        .limit(PORTION)
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
