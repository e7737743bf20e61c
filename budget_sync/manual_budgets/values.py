"""The values of a budget that is set by hand, and what is wrong with them."""

from __future__ import annotations

import secrets
from decimal import Decimal
from typing import NamedTuple

from budget_sync.accounts.customers import fiscal_year_of
from budget_sync.database.models import Budget, Customer
from budget_sync.domain.emails import is_email
from budget_sync.domain.errors import invalid_request
from budget_sync.domain.ids import CHOSEN_ID, CHOSEN_ID_RULE
from budget_sync.domain.money import MoneyError, currency_exponent, to_minor
from budget_sync.domain.names import fold
from budget_sync.domain.periods import PeriodError, api_period_key, field_problem


class Period(NamedTuple):
    """A period as written, and its key; or an empty key, and what is wrong with the text."""

    text: str
    key: str
    problem: str | None = None


def require_reason(reason: str | None) -> None:
    """Raises RequestError INVALID_REQUEST for a reason that the audit log cannot have."""
    if problems := _bad_texts({} if reason is None else {"reason": (reason, 500)}):
        raise invalid_request(problems)


def require_options(
    reason: str | None, *, limit: tuple[Decimal | None, bool], owner: tuple[str | None, bool]
) -> None:
    """Raises RequestError INVALID_REQUEST for a bad reason, or a value both set and removed.

    Limit and owner are the new value, and whether it is removed.
    """
    require_reason(reason)
    pairs = {"autoApproveLimit": limit, "ownerEmail": owner}
    if both := [
        name for name, (value, is_removed) in pairs.items() if is_removed and value is not None
    ]:
        raise invalid_request(dict.fromkeys(both, "can be either set or removed, not both"))


def validated(
    customer: Customer,
    budget: Budget | None,
    department: str,
    period: Period,
    amount: Decimal,
    budget_id: str | None,
    currency: str | None,
    auto_approve_limit: Decimal | None,
    owner_email: str | None,
) -> Budget:
    """The wanted budget, not stored. Raises RequestError INVALID_REQUEST with every wrong field."""
    code = currency or (budget.currency if budget else customer.currency)
    fields = {} if period.problem is None else {"period": period.problem}
    fields |= _bad_texts({"department": (department, 200), "period": (period.text, 100)})
    fields |= _bad_change(budget, budget_id, code) if budget else _bad_new_id(budget_id)
    if owner_email is not None and not is_email(owner_email.strip()):
        fields["ownerEmail"] = f"{owner_email[:100]!r} is not an email address"
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
        ownerEmail=owner_email and owner_email.strip(),
    )


def read_period(customer: Customer, text: str) -> Period:
    """The period of a text in the customer's fiscal year."""
    try:
        return Period(text, api_period_key(text, fiscal_year_of(customer)))
    except PeriodError as error:
        return Period(text, "", field_problem(error))


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
