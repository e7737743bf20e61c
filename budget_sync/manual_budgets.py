"""Creates, changes, removes and revives budgets by hand.

The sheet sync does this for the budgets that have a source.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from budget_sync.accounts.customers import fiscal_year_of, locked_customer
from budget_sync.database import audit_log, locked, transact
from budget_sync.database.models import Budget, BudgetUtilization, Customer
from budget_sync.domain import clock
from budget_sync.domain.balance import Balance
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.ids import CHOSEN_ID, CHOSEN_ID_RULE
from budget_sync.domain.money import MoneyError, currency_exponent, format_money, to_minor, to_text
from budget_sync.domain.names import fold
from budget_sync.domain.periods import PeriodError, api_period_key, field_problem
from budget_sync.domain.permissions import Action, Actor, require, require_serves


class BudgetFigures(NamedTuple):
    """A budget and its balance."""

    budget: Budget
    balance: Balance


class _Period(NamedTuple):
    """A period as written, and its key; or an empty key, and what is wrong with the text."""

    text: str
    key: str
    problem: str | None = None


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
    _require_options(reason, auto_approve_limit, no_limit=no_auto_approve_limit)

    def work() -> tuple[Budget, str]:
        customer = locked_customer(customer_id)
        period = _read_period(customer, fiscal_period)
        same = (
            (Budget.customerId == customer_id)
            & (Budget.departmentKey == fold(department))
            & (Budget.periodKey == period.key)
        )
        budget = locked(Budget.select().where(same & Budget.deletedAt.is_null())).first()
        wanted = _validated(
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


def remove_budget(actor: Actor, budget_id: str, *, reason: str | None = None) -> BudgetFigures:
    """Soft-delete a budget without a source, as a sync run does for a row that is gone.

    The budget takes no new reservations. Its open reservations can be committed and released.
    Raises RequestError BUDGET_NOT_FOUND, or INVALID_REQUEST if the budget has a source or was
    removed before.
    """
    require(actor, Action.MANAGE_SOURCES)
    _require_reason(reason)

    def work() -> BudgetFigures:
        found = _lock(actor, budget_id)
        budget = found.budget
        _require_no_source(budget, "Remove its row from the sheet instead.")
        if budget.deletedAt is not None:
            raise _rejected(
                budget, f"was removed at {clock.to_text(budget.deletedAt)}. Nothing is left to do."
            )
        budget.deletedAt = budget.updatedAt = clock.now()
        budget.save(only=[Budget.deletedAt, Budget.updatedAt])
        audit_log.record(
            actor,
            "SOFT_DELETE",
            customer_id=budget.customerId,
            budget_id=budget_id,
            version=_next_version(budget_id),
            balance=found.balance,
            field="deletedAt",
            newValue=clock.to_text(budget.deletedAt),
            reason=reason or "Removed by hand",
        )
        return found

    return transact(work)


def restore_budget(actor: Actor, budget_id: str, *, reason: str | None = None) -> BudgetFigures:
    """Revive a budget that was removed, with all that is reserved and committed on it.

    Raises RequestError BUDGET_NOT_FOUND, or INVALID_REQUEST if the budget has a source, is live, or
    may not be revived (see `_require_revivable`).
    """
    require(actor, Action.MANAGE_SOURCES)
    _require_reason(reason)

    def work() -> BudgetFigures:
        found = _lock(actor, budget_id)
        budget = found.budget
        _require_no_source(budget, "Put its row back into the sheet instead.")
        if budget.deletedAt is None:
            raise _rejected(budget, "was not removed. Nothing is left to do.")
        # As in a sync run, a revived budget gets the keys of today's program.
        budget.departmentKey = fold(budget.department)
        period = _read_period(locked_customer(budget.customerId), budget.fiscalPeriod)
        budget.periodKey = period.key or budget.periodKey
        _require_revivable(budget, budget.deletedAt, _same_key(budget))
        removed_at = clock.to_text(budget.deletedAt)
        budget.deletedAt, budget.updatedAt = None, clock.now()
        budget.save(
            only=[Budget.departmentKey, Budget.periodKey, Budget.deletedAt, Budget.updatedAt]
        )
        audit_log.record(
            actor,
            "REVIVE",
            customer_id=budget.customerId,
            budget_id=budget_id,
            version=_next_version(budget_id),
            balance=found.balance,
            field="deletedAt",
            oldValue=removed_at,
            reason=reason or "Revived by hand",
        )
        return found

    return transact(work)


def _lock(actor: Actor, budget_id: str) -> BudgetFigures:
    """Lock a budget of a customer that the caller serves. Raises RequestError BUDGET_NOT_FOUND."""
    budget = locked(_with_utilization().where(Budget.id == budget_id)).first()
    if budget is None or not actor.serves(budget.customerId):
        raise RequestError(
            Code.BUDGET_NOT_FOUND,
            f"There is no budget {budget_id!r}; see list-budgets.",
            budgetId=budget_id,
        )
    return _figures(budget)


def _with_utilization() -> Any:
    return Budget.select().join(BudgetUtilization, on=(BudgetUtilization.budgetId == Budget.id))


def _figures(budget: Budget) -> BudgetFigures:
    used = BudgetUtilization.get_by_id(budget.id)
    return BudgetFigures(
        budget,
        Balance(
            budget.currency,
            budget.currencyExponent,
            budget.budgetedMinor,
            used.reservedMinor,
            used.committedMinor,
        ),
    )


def _same_key(budget: Budget) -> list[BudgetFigures]:
    """The customer's other budgets with the same department and period, deleted ones included."""
    others = Budget.select().where(
        (Budget.customerId == budget.customerId)
        & (Budget.departmentKey == budget.departmentKey)
        & (Budget.periodKey == budget.periodKey)
        & (Budget.id != budget.id)
    )
    return [_figures(other) for other in others.order_by(Budget.id)]


def _rejected(budget: Budget, problem: str) -> RequestError:
    name = f"Budget {budget.id} ({budget.department}, {budget.fiscalPeriod})"
    return RequestError(Code.INVALID_REQUEST, f"{name} {problem}", budgetId=budget.id)


def _require_no_source(budget: Budget, advice: str) -> None:
    """Raises RequestError INVALID_REQUEST if a source owns the budget."""
    if budget.sourceId is not None:
        raise _rejected(budget, f"belongs to source {budget.sourceId}. {advice}")


def _require_revivable(
    budget: Budget, removed_at: datetime, others: Iterable[BudgetFigures]
) -> None:
    """Raises RequestError INVALID_REQUEST if another budget took the place of this one.

    `others` have the same department and period. A live one has the place. A deleted one that was
    removed later and has money reserved or committed had it: reviving this budget would give the
    department its whole amount again. The sheet sync rejects such a row too.
    """
    for other, balance in others:
        if other.deletedAt is None:
            advice = (
                f"Remove that budget first with `flask remove-budget {other.id}`."
                if other.sourceId is None
                else f"Remove its row from the sheet of source {other.sourceId} first."
            )
            raise _rejected(
                budget,
                f"cannot be revived: budget {other.id} is live for that department and period. "
                f"{advice}",
            )
        # A time has whole seconds, so that two budgets may be removed at the same time.
        is_later = (other.deletedAt, other.createdAt) > (removed_at, budget.createdAt)
        if is_later and balance.used_minor and other.currency == budget.currency:
            raise _rejected(
                budget,
                f"cannot be revived: {balance.money(balance.used_minor)} is reserved or committed "
                f"on budget {other.id}, which has the same department and period and was removed "
                f"later. Revive that budget instead with `flask restore-budget {other.id}`.",
            )


def _require_reason(reason: str | None) -> None:
    """Raises RequestError INVALID_REQUEST for a reason that the audit log cannot have."""
    if problems := _bad_texts({} if reason is None else {"reason": (reason, 500)}):
        raise invalid_request(problems)


def _require_options(reason: str | None, limit: Decimal | None, *, no_limit: bool) -> None:
    """Raises RequestError INVALID_REQUEST for a bad reason, or a limit both set and removed."""
    _require_reason(reason)
    if no_limit and limit is not None:
        raise invalid_request({"autoApproveLimit": "can be either set or removed, not both"})


def _validated(
    customer: Customer,
    budget: Budget | None,
    department: str,
    period: _Period,
    amount: Decimal,
    budget_id: str | None,
    currency: str | None,
    auto_approve_limit: Decimal | None,
) -> Budget:
    """The wanted budget, not stored. Raises RequestError INVALID_REQUEST with every wrong field."""
    code = currency or (budget.currency if budget else customer.currency)
    fields = {} if period.problem is None else {"period": period.problem}
    fields |= _bad_texts({"department": (department, 200), "period": (period.text, 100)})
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
        fiscalPeriod=period.text.strip(),
        periodKey=period.key,
        currency=code,
        currencyExponent=exponent,
        budgetedMinor=amounts_minor["amount"],
        autoApproveLimitMinor=amounts_minor["autoApproveLimit"],
    )


def _read_period(customer: Customer, text: str) -> _Period:
    try:
        return _Period(text, api_period_key(text, fiscal_year_of(customer)))
    except PeriodError as error:
        return _Period(text, "", field_problem(error))


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
            version=_next_version(budget.id),
            balance=_figures(budget).balance,
            budgeted_delta_minor=new_minor - old_minor if column == "budgetedMinor" else 0,
            field=field,
            oldValue=None if old_minor is None else to_text(old_minor, budget.currencyExponent),
            newValue=None if new_minor is None else to_text(new_minor, budget.currencyExponent),
            reason=reason or "Set by hand",
        )
    return changed


def _next_version(budget_id: str) -> int:
    """Count a change of a locked budget; returns its new version."""
    BudgetUtilization.update(version=BudgetUtilization.version + 1).where(
        BudgetUtilization.budgetId == budget_id
    ).execute()
    version: int = BudgetUtilization.get_by_id(budget_id).version
    return version
