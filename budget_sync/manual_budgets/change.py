"""Creates a budget by hand, and changes its amount, limit and owner."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal

from budget_sync.accounts.customers import locked_customer
from budget_sync.database import audit_log, locked, transact
from budget_sync.database.models import Budget, BudgetUtilization
from budget_sync.domain import clock
from budget_sync.domain.balance import Balance
from budget_sync.domain.errors import RequestError, invalid_request
from budget_sync.domain.money import format_money, to_text
from budget_sync.domain.names import fold
from budget_sync.domain.permissions import Action, Actor, require, require_serves
from budget_sync.manual_budgets.figures import figures, next_version
from budget_sync.manual_budgets.values import read_period, require_options, validated


def set_budget(
    actor: Actor,
    customer_id: str,
    department: str,
    fiscal_period: str,
    amount: Decimal,
    *,
    budget_id: str | None = None,
    currency: str | None = None,
    auto_approve_limit: Decimal | None = None,
    no_auto_approve_limit: bool = False,
    owner_email: str | None = None,
    no_owner_email: bool = False,
    reason: str | None = None,
    must_be_new: bool = False,
) -> tuple[Budget, str]:
    """Create the budget of a department and period, or change its amount, limit and owner.

    Return the budget, and "created", "updated" or "unchanged". `no_auto_approve_limit` removes the
    limit, and `no_owner_email` the owner. Without a reason, the audit log says "Set by hand".
    Raises RequestError INVALID_CUSTOMER, or INVALID_REQUEST with every wrong field. A budget with a
    source is rejected: the next sync run would undo the change. With `must_be_new`, another budget
    of the department and period is rejected too, but a call that is sent twice is not.
    """
    require(actor, Action.MANAGE_BUDGETS)
    require_serves(actor, customer_id)
    limit = (auto_approve_limit, no_auto_approve_limit)
    owner = (owner_email, no_owner_email)
    require_options(reason, limit=limit, owner=owner)
    fields = {"autoApproveLimit": limit, "ownerEmail": owner}
    kept = {name for name, given in fields.items() if given == (None, False)}

    def work() -> tuple[Budget, str]:
        customer = locked_customer(customer_id)
        period = read_period(customer, fiscal_period)
        budget = _live_budget(customer_id, fold(department), period.key)
        if must_be_new and budget is not None and budget.id != budget_id:
            raise _not_new(budget)
        values = (budget_id, currency, auto_approve_limit, owner_email)
        wanted = validated(customer, budget, department, period, amount, *values)
        if budget is None:
            return _create(actor, wanted, reason), "created"
        if must_be_new and not _is_same(budget, wanted):
            raise _not_new(budget)
        changed = _update(actor, budget, wanted, reason, kept)
        return budget, "updated" if changed else "unchanged"

    return transact(work)


def _live_budget(customer_id: str, department_key: str, period_key: str) -> Budget | None:
    """The live budget of a department and period, locked."""
    query = Budget.select().where(
        (Budget.customerId == customer_id)
        & (Budget.departmentKey == department_key)
        & (Budget.periodKey == period_key)
        & Budget.deletedAt.is_null()
    )
    budget: Budget | None = locked(query).first()
    return budget


def _create(actor: Actor, budget: Budget, reason: str | None) -> Budget:
    budget.createdAt = budget.updatedAt = clock.now()
    budget.save(force_insert=True)
    exponent = budget.currencyExponent
    # The audited fields: name, value, and change of the budgeted amount.
    fields = [("budgetedAmount", to_text(budget.budgetedMinor, exponent), budget.budgetedMinor)]
    if budget.autoApproveLimitMinor is not None:
        fields.append(("autoApproveLimit", to_text(budget.autoApproveLimitMinor, exponent), 0))
    if budget.ownerEmail is not None:
        fields.append(("ownerEmail", budget.ownerEmail, 0))
    amount = format_money(budget.budgetedMinor, budget.currency, budget.currencyExponent)
    default_reason = f"{budget.department}, {budget.fiscalPeriod}: {amount}"
    BudgetUtilization.insert(
        budgetId=budget.id,
        customerId=budget.customerId,
        currencyExponent=budget.currencyExponent,
        version=len(fields),
    ).execute()
    for version, (field, text, budgeted_delta_minor) in enumerate(fields, start=1):
        audit_log.record(
            actor,
            "CREATE",
            customer_id=budget.customerId,
            budget_id=budget.id,
            version=version,
            balance=Balance(budget.currency, budget.currencyExponent, budget.budgetedMinor, 0, 0),
            budgeted_delta_minor=budgeted_delta_minor,
            field=field,
            newValue=text,
            reason=reason or default_reason,
        )
    return budget


def _is_same(budget: Budget, wanted: Budget) -> bool:
    return all(getattr(budget, each) == getattr(wanted, each) for each in _COLUMNS.values())


def _not_new(budget: Budget) -> RequestError:
    return invalid_request(
        {"department": f"has a budget for this period already, {budget.id}: change that one"}
    )


#: The audited fields that can change, with their columns.
_COLUMNS = {
    "budgetedAmount": "budgetedMinor",
    "autoApproveLimit": "autoApproveLimitMinor",
    "ownerEmail": "ownerEmail",
}


def _update(
    actor: Actor, budget: Budget, wanted: Budget, reason: str | None, kept: Collection[str]
) -> bool:
    """Write the differences, with an audit row per field; returns whether there are any.

    The fields `kept` stay as they are.
    """
    changed = False
    for field, column in _COLUMNS.items():
        old, new = getattr(budget, column), getattr(wanted, column)
        if new == old or field in kept:
            continue
        changed = True
        Budget.update({column: new, "updatedAt": clock.now()}).where(
            Budget.id == budget.id
        ).execute()
        setattr(budget, column, new)
        audit_log.record(
            actor,
            "UPDATE",
            customer_id=budget.customerId,
            budget_id=budget.id,
            version=next_version(budget.id),
            balance=figures(budget).balance,
            budgeted_delta_minor=new - old if column == "budgetedMinor" else 0,
            field=field,
            oldValue=_audit_text(old, budget.currencyExponent),
            newValue=_audit_text(new, budget.currencyExponent),
            reason=reason or "Set by hand",
        )
    return changed


def _audit_text(value: int | str | None, exponent: int) -> str | None:
    return to_text(value, exponent) if isinstance(value, int) else value
