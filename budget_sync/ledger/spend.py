"""spend: record money that was spent without a reservation."""

from __future__ import annotations

from typing import Any

from budget_sync.database import Prepared, transact
from budget_sync.database.models import Budget, Spend
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.names import fold
from budget_sync.domain.permissions import Action, Actor, require
from budget_sync.domain.request_models import SpendRequest
from budget_sync.domain.results import Reply
from budget_sync.ledger import movements, policy
from budget_sync.ledger.aliases import department_of_alias
from budget_sync.ledger.check import period_key
from budget_sync.ledger.movements import LedgerBudget, SpendRef
from budget_sync.ledger.policy import SpendFacts

_SPEND = Prepared(
    lambda value: Spend.select(Spend.budgetId, Spend.amountMinor, Spend.spentOn, Spend.reply).where(
        (Spend.customerId == value.customer_id) & (Spend.spendId == value.spend_id)
    )
)
_LIVE_BUDGET = Prepared(
    lambda value: Budget.select(Budget.id).where(
        (Budget.customerId == value.customer_id)
        & (Budget.departmentKey == value.department)
        & (Budget.periodKey == value.period)
        & Budget.deletedAt.is_null()
    )
)
# The budget of an earlier spend with that id, if it has or had this department and period.
_BUDGET_OF_SPEND = Prepared(
    lambda value: (
        Budget.select(Budget.id)
        .join(Spend, on=(Spend.budgetId == Budget.id))
        .where(
            (Spend.customerId == value.customer_id)
            & (Spend.spendId == value.spend_id)
            & (Budget.departmentKey == value.department)
            & (Budget.periodKey == value.period)
        )
    )
)
_COLUMNS = (
    "customerId",
    "budgetId",
    "spendId",
    "currencyExponent",
    "amountMinor",
    "version",
    "spentOn",
    "vendor",
    "reason",
    "externalRef",
    "recordedBy",
    "createdAt",
    "reply",
)
_INSERT = Prepared(
    lambda value: Spend.insert({column: getattr(value, column) for column in _COLUMNS})
)


def spend(actor: Actor, request: SpendRequest) -> Reply:
    """Commit an amount without a reservation, even if it overdraws the budget.

    The money is already spent, so the reply says by how much the budget is overdrawn. The
    `spend_id` is the idempotency key, for all callers of the customer. Raises RequestError
    FORBIDDEN, INVALID_CUSTOMER, INVALID_REQUEST, BUDGET_NOT_FOUND,
    IDEMPOTENCY_KEY_REUSED, BUDGET_DELETED, AMOUNT_TOO_LARGE, or an error of `transact`.
    """
    movements.require_customer(actor, request.customer_id)
    policy.require_one_budget(request, has_customer=_customer_id(actor, request) is not None)
    require(actor, Action.SPEND)

    def work() -> Reply:
        budget_id = request.budget_id or _find_budget(actor, request)
        budget, earlier = movements.lock_budget(
            actor, budget_id, request.customer_id, _SPEND, spend_id=request.spend_id
        )
        balance = budget.balance
        amount_minor = policy.require_minor(
            request.amount, balance.currency, balance.exponent, request.currency
        )
        if earlier:
            first = SpendFacts(earlier.budgetId, earlier.amountMinor, _day_text(earlier.spentOn))
            sent = SpendFacts(budget.id, amount_minor, _day_text(request.date))
            policy.require_same_spend(request.spend_id, first, sent)
            return Reply(earlier.reply, replayed=True)
        policy.require_live_budget(budget.id, is_deleted=budget.deleted_at is not None)
        policy.require_below_ceiling(budget.id, balance, amount_minor)
        return _record(actor, budget, request, amount_minor)

    return transact(work)


def _day_text(stored: Any) -> str:
    """A day as text. SQLite returns text, PostgreSQL a date."""
    return stored if isinstance(stored, str) else stored.isoformat()


def _customer_id(actor: Actor, request: SpendRequest) -> str | None:
    return request.customer_id or actor.customer_id


def _find_budget(actor: Actor, request: SpendRequest) -> str:
    """The id of the budget of the body's department and period.

    It is the live one, or the one on which this spend is recorded already: that may have been
    deleted since. Raises RequestError BUDGET_NOT_FOUND.
    """
    customer_id = _customer_id(actor, request) or ""
    names = {
        "customer_id": customer_id,
        "department": fold(request.department or ""),
        "period": period_key(customer_id, request.fiscal_period or ""),
    }
    found = _budget_named(request, names)
    if found is None and (meant := department_of_alias(customer_id, names["department"])):
        found = _budget_named(request, names | {"department": meant})
    if found is None:
        raise RequestError(
            Code.BUDGET_NOT_FOUND,
            "There is no budget for that department and period.",
            department=request.department,
            fiscalPeriod=request.fiscal_period,
        )
    budget_id: str = found.id
    return budget_id


def _budget_named(request: SpendRequest, names: dict[str, str]) -> Any:
    return _BUDGET_OF_SPEND.first(spend_id=request.spend_id, **names) or _LIVE_BUDGET.first(**names)


def _record(actor: Actor, budget: LedgerBudget, request: SpendRequest, amount_minor: int) -> Reply:
    """Move the money, store the spend and write the audit row."""
    after = movements.move_always(budget, committed_minor=amount_minor)
    balance = after.balance
    reply = Reply.of(
        {
            "success": True,
            "spendId": request.spend_id,
            "budgetId": budget.id,
            "amountCommitted": balance.number(amount_minor),
            "newAvailable": balance.number(balance.available_minor),
            "overdrawn": balance.available_minor < 0,
            "overdrawnBy": balance.number(max(0, -balance.available_minor)),
        }
    )
    _INSERT.write(
        customerId=budget.customer_id,
        budgetId=budget.id,
        spendId=request.spend_id,
        currencyExponent=balance.exponent,
        amountMinor=amount_minor,
        version=after.version,
        spentOn=_day_text(request.date),
        vendor=request.vendor,
        reason=request.reason,
        externalRef=request.external_ref,
        recordedBy=actor.label,
        createdAt=clock.to_text(clock.now()),
        reply=reply.text,
    )
    movements.record_movement(
        actor,
        "SPEND",
        budget,
        after,
        SpendRef(request.spend_id),
        old_minor=0,
        new_minor=amount_minor,
        reason=request.reason,
        external_ref=request.external_ref,
    )
    return reply
