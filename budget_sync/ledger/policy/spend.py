"""The decisions of spend."""

from __future__ import annotations

from typing import NamedTuple

from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.request_models import SpendRequest


class SpendFacts(NamedTuple):
    """The facts that two spends with one `spendId` share if they are the same spend."""

    budget_id: str
    amount_minor: int
    spent_on: str


def require_one_budget(request: SpendRequest, *, has_customer: bool) -> None:
    """Require the budget's id, or its department and period, and not both.

    A department and period need a customer. Raises RequestError INVALID_REQUEST.
    """
    named = {"department": request.department, "fiscalPeriod": request.fiscal_period}
    if request.budget_id is not None:
        fields = {name: "must not be sent with budgetId" for name, value in named.items() if value}
    elif any(named.values()):
        fields = {
            name: "is required without budgetId" for name, value in named.items() if not value
        }
        if not has_customer:
            fields["customerId"] = "is required, because your credential is for all customers"
    else:
        fields = {"budgetId": "is required without department and fiscalPeriod"}
    if fields:
        raise invalid_request(fields)


def require_same_spend(spend_id: str, first: SpendFacts, sent: SpendFacts) -> None:
    """Raises RequestError IDEMPOTENCY_KEY_REUSED if the id belongs to another spend."""
    if first != sent:
        raise RequestError(
            Code.IDEMPOTENCY_KEY_REUSED,
            "This spendId was used before for another budget, amount or date. Use a new spendId.",
            spendId=spend_id,
        )
