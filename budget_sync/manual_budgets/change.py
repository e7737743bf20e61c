"""Creates a budget by hand, and changes its amount and limit."""

from __future__ import annotations

from decimal import Decimal

from budget_sync.accounts.customers import locked_customer
from budget_sync.database import audit_log, locked, transact
from budget_sync.database.models import Budget, BudgetUtilization
from budget_sync.domain import clock
from budget_sync.domain.balance import Balance
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
    reason: str | None = None,
) -> tuple[Budget, str]:
    """Create the budget of a department and period, or change its amount and limit.

    Return the budget, and "created", "updated" or "unchanged". `no_auto_approve_limit` removes the
    limit. Without a reason, the audit log says "Set by hand". Raises RequestError INVALID_CUSTOMER,
    or INVALID_REQUEST with every wrong field. A budget with a source is rejected: the next sync run
    would undo the change.
    """
    require(actor, Action.MANAGE_SOURCES)
    require_serves(actor, customer_id)
    require_options(reason, auto_approve_limit, no_limit=no_auto_approve_limit)

    def work() -> tuple[Budget, str]:
        customer = locked_customer(customer_id)
        period = read_period(customer, fiscal_period)
        same = (
            (Budget.customerId == customer_id)
            & (Budget.departmentKey == fold(department))
            & (Budget.periodKey == period.key)
        )
        budget = locked(Budget.select().where(same & Budget.deletedAt.is_null())).first()
        wanted = validated(
            customer,
            budget,
            department,
            period,
            amount,
            budget_id,
            currency,
            auto_approve_limit,
        )
        if budget is None:
            return _create(actor, wanted, reason), "created"
        keep_limit = auto_approve_limit is None and not no_auto_approve_limit
        changed = _update(actor, budget, wanted, reason, keep_limit=keep_limit)
        return budget, "updated" if changed else "unchanged"

    return transact(work)


def _create(actor: Actor, budget: Budget, reason: str | None) -> Budget:
    budget.createdAt = budget.updatedAt = clock.now()
    budget.save(force_insert=True)
    # The audited fields: name, amount, and change of the budgeted amount.
    fields = [("budgetedAmount", budget.budgetedMinor, budget.budgetedMinor)]
    if budget.autoApproveLimitMinor is not None:
        fields.append(("autoApproveLimit", budget.autoApproveLimitMinor, 0))
    amount = format_money(budget.budgetedMinor, budget.currency, budget.currencyExponent)
    default_reason = f"{budget.department}, {budget.fiscalPeriod}: {amount}"
    BudgetUtilization.insert(
        budgetId=budget.id,
        customerId=budget.customerId,
        currencyExponent=budget.currencyExponent,
        version=len(fields),
    ).execute()
    for version, (field, minor, budgeted_delta_minor) in enumerate(fields, start=1):
        audit_log.record(
            actor,
            "CREATE",
            customer_id=budget.customerId,
            budget_id=budget.id,
            version=version,
            balance=Balance(budget.currency, budget.currencyExponent, budget.budgetedMinor, 0, 0),
            budgeted_delta_minor=budgeted_delta_minor,
            field=field,
            newValue=to_text(minor, budget.currencyExponent),
            reason=reason or default_reason,
        )
    return budget


def _update(
    actor: Actor, budget: Budget, wanted: Budget, reason: str | None, *, keep_limit: bool
) -> bool:
    """Write the differences, with an audit row per field; returns whether there are any."""
    changed = False
    for field, column in (
        ("budgetedAmount", "budgetedMinor"),
        ("autoApproveLimit", "autoApproveLimitMinor"),
    ):
        old_minor, new_minor = getattr(budget, column), getattr(wanted, column)
        if new_minor == old_minor or (keep_limit and field == "autoApproveLimit"):
            continue
        changed = True
        Budget.update({column: new_minor, "updatedAt": clock.now()}).where(
            Budget.id == budget.id
        ).execute()
        setattr(budget, column, new_minor)
        audit_log.record(
            actor,
            "UPDATE",
            customer_id=budget.customerId,
            budget_id=budget.id,
            version=next_version(budget.id),
            balance=figures(budget).balance,
            budgeted_delta_minor=new_minor - old_minor if column == "budgetedMinor" else 0,
            field=field,
            oldValue=None if old_minor is None else to_text(old_minor, budget.currencyExponent),
            newValue=None if new_minor is None else to_text(new_minor, budget.currencyExponent),
            reason=reason or "Set by hand",
        )
    return changed
