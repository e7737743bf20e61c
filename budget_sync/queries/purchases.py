"""The vendor and the purpose of requests, as their latest check named them.

An anonymous check counts only if there is no authenticated one: anyone may send it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from peewee import Case, fn

from budget_sync.database.models import BudgetCheckLog, Reservation
from budget_sync.domain.permissions import Action, Actor, Scope, require_for


class Purchase(NamedTuple):
    """The vendor and the purpose of a request."""

    vendor: str | None = None
    purpose: str | None = None


def purchases(actor: Actor, customer_id: str, request_ids: Iterable[str]) -> dict[str, Purchase]:
    """The purchases of requests, by their ids; without those that were never checked.

    An ordinary user gets only what was checked by them or for them.
    """
    scope = require_for(actor, Action.READ_REQUESTS, customer_id)
    check = BudgetCheckLog
    authenticated = Case(None, [(check.checkedBy.is_null(False), check.id)])
    latest: Any = (
        check.select(fn.COALESCE(fn.MAX(authenticated), fn.MAX(check.id)))
        .where(check.customerId == customer_id, check.requestId.in_(sorted(set(request_ids))))
        .group_by(check.requestId)
    )
    if scope is Scope.OWN:
        latest = latest.where(
            (check.checkedBy == actor.principal) | (check.userId == actor.user_id)
        )
    rows: Any = check.select(check.requestId, check.vendor, check.purpose).where(
        check.id.in_(latest)
    )
    return {request_id: Purchase(*rest) for request_id, *rest in rows.tuples()}


def of_latest_check(column: str) -> Any:
    """The expression for a column of the latest check of a reservation's request."""
    check: Any = BudgetCheckLog.alias()
    latest = (
        check.select(getattr(check, column))
        .where(
            (check.customerId == Reservation.customerId)
            & (check.requestId == Reservation.requestId)
        )
        .order_by(Case(None, [(check.checkedBy.is_null(), 1)], 0), check.id.desc())
        .limit(1)
    )
    return fn.COALESCE(latest, "")
