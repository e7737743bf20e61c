"""Creates and changes budgets by hand. The sheet sync changes the budgets that have a source."""

from __future__ import annotations

import secrets
from decimal import Decimal

from budget_sync.accounts.people import get_customer
from budget_sync.database import audit_log, locked, transact
from budget_sync.database.models import Budget, BudgetUtilization, Customer
from budget_sync.domain import clock
from budget_sync.domain.errors import invalid_request
from budget_sync.domain.ids import CHOSEN_ID, CHOSEN_ID_RULE
from budget_sync.domain.money import MoneyError, currency_exponent, format_money, to_minor, to_text
from budget_sync.domain.periods import fold, period_key
from budget_sync.domain.permissions import Action, Actor, require, require_serves


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
    reason: str | None = None,
) -> tuple[Budget, str]:
    """Create the budget of a department and period, or change its amount and limit.

    Return the budget, and "created", "updated" or "unchanged". Without a reason, the audit log says
    that the budget was set by hand. Raises RequestError INVALID_CUSTOMER, or INVALID_REQUEST with
    every field that is wrong. A budget with a source cannot be changed: the next sync run would
    undo it.
    """
    require(actor, Action.MANAGE_SOURCES)
    require_serves(actor, customer_id)
    if problems := _bad_texts({} if reason is None else {"reason": (reason, 500)}):
        raise invalid_request(problems)

    def work() -> tuple[Budget, str]:
        customer = get_customer(customer_id)
        same = (
            (Budget.customerId == customer_id)
            & (Budget.departmentKey == fold(department))
            & (Budget.periodKey == period_key(fiscal_period))
        )
        budget = locked(Budget.select().where(same & Budget.deletedAt.is_null())).first()
        wanted = _validated(
            customer,
            budget,
            department,
            fiscal_period,
            amount,
            budget_id,
            currency,
            auto_approve_limit,
        )
        if budget is None:
            return _create(actor, wanted, reason), "created"
        return budget, "updated" if _update(actor, budget, wanted, reason) else "unchanged"

    return transact(work)


def _validated(
    customer: Customer,
    budget: Budget | None,
    department: str,
    fiscal_period: str,
    amount: Decimal,
    budget_id: str | None,
    currency: str | None,
    auto_approve_limit: Decimal | None,
) -> Budget:
    """The wanted budget, not stored. Raises RequestError INVALID_REQUEST with every wrong field."""
    code = currency or (budget.currency if budget else customer.currency)
    fields = _bad_texts({"department": (department, 200), "period": (fiscal_period, 100)})
    fields |= _bad_change(budget, budget_id, code) if budget else _bad_new_id(budget_id)
    exponent, amounts_minor = 0, {}
    try:
        # A budget keeps the decimals that its currency had when the budget was created.
        exponent = (
            budget.currencyExponent
            if budget and budget.currency == code
            else currency_exponent(code)
        )
    except MoneyError as error:
        fields["currency"] = str(error)
    for name, value in (("amount", amount), ("autoApproveLimit", auto_approve_limit)):
        try:
            amounts_minor[name] = None if value is None else to_minor(value, exponent)
        except MoneyError as error:
            fields[name] = str(error)
    if fields:
        raise invalid_request(fields)
    return Budget(
        id=budget_id or f"bud_{secrets.token_hex(8)}",
        customerId=customer.id,
        department=department.strip(),
        departmentKey=fold(department),
        fiscalPeriod=fiscal_period.strip(),
        periodKey=period_key(fiscal_period),
        currency=code,
        currencyExponent=exponent,
        budgetedMinor=amounts_minor["amount"],
        autoApproveLimitMinor=amounts_minor["autoApproveLimit"],
    )


def _bad_texts(texts: dict[str, tuple[str, int]]) -> dict[str, str]:
    return {
        name: f"must be 1 to {max_length} printable characters"
        for name, (text, max_length) in texts.items()
        if not (text.strip() and len(text) <= max_length and text.isprintable())
    }


def _bad_change(budget: Budget, budget_id: str | None, currency: str) -> dict[str, str]:
    """The fields that cannot change in an existing budget."""
    fields = {}
    if currency != budget.currency:
        fields["currency"] = f"cannot change: the budget is in {budget.currency}"
    if budget.sourceId is not None:
        fields["department"] = f"belongs to source {budget.sourceId}: change the sheet instead"
    if budget_id not in (None, budget.id):
        fields["id"] = f"does not fit: the budget of that department and period is {budget.id}"
    return fields


def _bad_new_id(budget_id: str | None) -> dict[str, str]:
    if budget_id is None:
        return {}
    if not CHOSEN_ID.fullmatch(budget_id):
        return {"id": CHOSEN_ID_RULE}
    return {"id": f"{budget_id!r} is taken"} if Budget.get_or_none(Budget.id == budget_id) else {}


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
            budgeted_delta_minor=budgeted_delta_minor,
            field=field,
            newValue=to_text(minor, budget.currencyExponent),
            reason=reason or default_reason,
        )
    return budget


def _update(actor: Actor, budget: Budget, wanted: Budget, reason: str | None) -> bool:
    """Write the differences, with an audit row per field. A limit that is not given stays."""
    changed = False
    for field, column in (
        ("budgetedAmount", "budgetedMinor"),
        ("autoApproveLimit", "autoApproveLimitMinor"),
    ):
        old_minor, new_minor = getattr(budget, column), getattr(wanted, column)
        if new_minor in (None, old_minor):
            continue
        changed = True
        Budget.update({column: new_minor, "updatedAt": clock.now()}).where(
            Budget.id == budget.id
        ).execute()
        BudgetUtilization.update(version=BudgetUtilization.version + 1).where(
            BudgetUtilization.budgetId == budget.id
        ).execute()
        audit_log.record(
            actor,
            "UPDATE",
            customer_id=budget.customerId,
            budget_id=budget.id,
            version=BudgetUtilization.get_by_id(budget.id).version,
            budgeted_delta_minor=new_minor - old_minor if column == "budgetedMinor" else 0,
            field=field,
            oldValue=None if old_minor is None else to_text(old_minor, budget.currencyExponent),
            newValue=to_text(new_minor, budget.currencyExponent),
            reason=reason or "Set by hand",
        )
        setattr(budget, column, new_minor)
    return changed
