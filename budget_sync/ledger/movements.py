"""Where a budget stands, and the one guarded UPDATE that changes it. Everything here runs inside a verb's transaction."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from peewee import Expression

from budget_sync.database import Prepared, audit_log, first_of_both, locked
from budget_sync.database.models import Budget, BudgetUtilization, Customer, Reservation
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.money import MoneyError, format_money, to_minor, to_number, to_text
from budget_sync.domain.permissions import Actor


class Standing(NamedTuple):
    """A budget and its balances, in minor units."""

    id: str
    customer_id: str
    department: str
    fiscal_period: str
    currency: str
    exponent: int
    budgeted_minor: int
    auto_approve_limit_minor: int | None
    deleted_at: datetime | None
    reserved_minor: int
    committed_minor: int
    version: int

    @property
    def available_minor(self) -> int:
        """What is left; negative where a sheet cut the budget below what is spent."""
        return self.budgeted_minor - self.reserved_minor - self.committed_minor

    def number(self, minor: int) -> int | Decimal:
        """An amount of this budget's currency as JSON shows it."""
        return to_number(minor, self.exponent)

    def text(self, minor: int) -> str:
        """An amount of this budget's currency as the audit log writes it."""
        return to_text(minor, self.exponent)

    def money(self, minor: int) -> str:
        """An amount of this budget's currency as people read it."""
        return format_money(minor, self.currency, self.exponent)

    def figures(self) -> dict[str, object]:
        """The balances as replies show them."""
        return {
            "id": self.id,
            "currency": self.currency,
            "budgetedAmount": self.number(self.budgeted_minor),
            "reservedAmount": self.number(self.reserved_minor),
            "committedAmount": self.number(self.committed_minor),
            "available": self.number(self.available_minor),
        }


class Claim(NamedTuple):
    """Whose money moves: a reservation, its request and its requester, named as the columns are."""

    id: str
    requestId: str
    requesterId: str
    requesterName: str
    requesterEmail: str

    @classmethod
    def of(cls, reservation: Reservation) -> Claim:
        """The claim of a stored reservation."""
        return cls(
            reservation.id,
            reservation.requestId,
            reservation.requesterId,
            reservation.requesterName,
            reservation.requesterEmail,
        )


#: The fields of Standing, in their order.
COLUMNS = (
    Budget.id,
    Budget.customerId,
    Budget.department,
    Budget.fiscalPeriod,
    Budget.currency,
    Budget.currencyExponent,
    Budget.budgetedMinor,
    Budget.autoApproveLimitMinor,
    Budget.deletedAt,
    BudgetUtilization.reservedMinor,
    BudgetUtilization.committedMinor,
    BudgetUtilization.version,
)


def standings(*conditions: Expression) -> Any:
    """The query for budgets that meet the conditions, with the fields of Standing in their order."""
    return (
        Budget.select(*COLUMNS)
        .join(BudgetUtilization, on=(BudgetUtilization.budgetId == Budget.id))
        .where(*conditions)
    )


#: A customer that is there and not disabled.
ENABLED_CUSTOMER = Prepared(
    lambda value: Customer.select().where(
        (Customer.id == value.customer_id) & Customer.disabledAt.is_null()
    )
)
# Whoever moves money on a budget has it alone until the transaction ends.
_BY_ID = Prepared(lambda value: locked(standings(Budget.id == value.budget_id)))


def latest_reservation(value: Any, table: Any = Reservation, *columns: Any) -> Any:
    """The query for a request's reservation on a budget: the open one, if any, is the latest, as none is made while another is open."""
    return (
        table.select(*columns)
        .where(
            (table.customerId == value.customer_id)
            & (table.requestId == value.request_id)
            & (table.budgetId == value.budget_id)
        )
        .order_by(table.seq.desc())
        .limit(1)
    )


#: A request's open reservation on a budget, or else its latest one.
RESERVATION = Prepared(latest_reservation)


def _move(value: Any) -> Any:
    return BudgetUtilization.update(
        reservedMinor=BudgetUtilization.reservedMinor + value.reserved_minor,
        committedMinor=BudgetUtilization.committedMinor + value.committed_minor,
        version=BudgetUtilization.version + 1,
    ).where(BudgetUtilization.budgetId == value.budget_id)


def _move_within_budget(value: Any) -> Any:
    budgeted = Budget.select(Budget.budgetedMinor).where(
        (Budget.id == value.budget_id) & Budget.deletedAt.is_null()
    )
    return _move(value).where(
        BudgetUtilization.reservedMinor + BudgetUtilization.committedMinor + value.growth_minor
        <= budgeted
    )


_MOVE = Prepared(_move)
_MOVE_WITHIN_BUDGET = Prepared(_move_within_budget)


def budget_for(
    actor: Actor, budget_id: str, customer_id: str | None, beside: Prepared, **values: Any
) -> tuple[Standing, Any]:
    """The budget a movement names, and the first row of what `beside` asks about it, as it is once nobody else moves its money.

    `beside` gets the values, and customer_id and budget_id. Raises RequestError BUDGET_NOT_FOUND for an unknown budget and, the
    same, for another customer's, and INVALID_CUSTOMER where the customer is disabled.
    """
    known_customer = customer_id or actor.customer_id
    if known_customer is None:
        # Who serves all customers and names none: the budget says whose it is.
        row = _BY_ID.first(budget_id=budget_id)
        found = row and beside.first(customer_id=row.customerId, budget_id=budget_id, **values)
    else:
        row, found = first_of_both(
            _BY_ID, beside, customer_id=known_customer, budget_id=budget_id, **values
        )
    standing = row and Standing(*row)
    if (
        standing is None
        or not actor.serves(standing.customer_id)
        or customer_id not in (None, standing.customer_id)
    ):
        raise RequestError(Code.BUDGET_NOT_FOUND, "Budget not found.", budgetId=budget_id)
    # Who serves one customer was turned away with it; who serves all is turned away from this one.
    if actor.customer_id is None and not ENABLED_CUSTOMER.first(customer_id=standing.customer_id):
        raise invalid_customer()
    return standing, found


def require_customer(actor: Actor, customer_id: str | None) -> None:
    """Raises RequestError INVALID_CUSTOMER where a body names a customer that the caller does not serve: before any permission is asked for."""
    if customer_id is not None and not actor.serves(customer_id):
        raise invalid_customer()


def invalid_customer() -> RequestError:
    """The documented refusal for a customer that is unknown, disabled, or not the credential's."""
    return RequestError(
        Code.INVALID_CUSTOMER,
        "Invalid customer",
        fields={"customerId": "is not a customer you can act for"},
    )


def amount_minor(
    amount: Decimal, currency: str, exponent: int, asked_currency: str | None = None
) -> int:
    """The amount in minor units. Raises RequestError INVALID_REQUEST for too many decimals or another currency than the budget's."""
    fields = {}
    if asked_currency not in (None, currency):
        fields["currency"] = f"must be {currency}, the budget's currency"
    try:
        minor = to_minor(amount, exponent)
    except MoneyError as error:
        fields["amount"] = str(error)
    if fields:
        raise invalid_request(fields)
    return minor


def insufficient(standing: Standing, available_minor: int, requested_minor: int) -> str:
    """The guide's sentence for too little money."""
    return f"Insufficient budget. Available: {standing.money(available_minor)}, Requested: {standing.money(requested_minor)}"


def refuse_insufficient(
    standing: Standing, available_minor: int, requested_minor: int
) -> RequestError:
    """The refusal of a movement that the budget cannot carry, with what is missing."""
    reason = insufficient(standing, available_minor, requested_minor)
    return RequestError(
        Code.INSUFFICIENT_BUDGET,
        reason,
        reason=reason,
        budgetId=standing.id,
        available=standing.number(available_minor),
        shortfall=standing.number(requested_minor - available_minor),
    )


def move(
    standing: Standing,
    *,
    reserved_minor: int,
    committed_minor: int = 0,
    within_budget: bool = False,
) -> Standing | None:
    """Add to the balances, in one guarded UPDATE, and count the version up; returns the new standing.

    With `within_budget` the database itself compares, and None says that the budget has no room or is deleted. What else
    must never be (a negative balance) its constraints refuse: that would be a mistake of ours, and is never smoothed over.
    """
    statement = _MOVE_WITHIN_BUDGET if within_budget else _MOVE
    moved = statement.execute(
        budget_id=standing.id,
        reserved_minor=reserved_minor,
        committed_minor=committed_minor,
        growth_minor=reserved_minor + committed_minor,
    )
    if moved != 1:
        return None
    return standing._replace(
        reserved_minor=standing.reserved_minor + reserved_minor,
        committed_minor=standing.committed_minor + committed_minor,
        version=standing.version + 1,
    )


def record_movement(
    actor: Actor,
    action: str,
    before: Standing,
    after: Standing,
    claim: Claim,
    *,
    held_before_minor: int,
    held_after_minor: int,
    reason: str,
    approved_by: str | None = None,
    external_ref: str | None = None,
) -> None:
    """The audit row of one movement: this request's own hold, before and after, and the budget's deltas."""
    on_behalf_of = (
        None
        if claim.requesterId == actor.user_id
        else person(claim.requesterName, claim.requesterEmail)
    )
    audit_log.record(
        actor,
        action,
        customer_id=before.customer_id,
        budget_id=before.id,
        version=after.version,
        reserved_delta_minor=after.reserved_minor - before.reserved_minor,
        committed_delta_minor=after.committed_minor - before.committed_minor,
        subject=claim.requesterId,
        requestId=claim.requestId,
        reservationId=claim.id,
        oldValue=before.text(held_before_minor),
        newValue=before.text(held_after_minor),
        onBehalfOf=on_behalf_of,
        approvedBy=approved_by,
        reason=reason,
        externalRef=external_ref,
    )


def person(name: str, email: str) -> str:
    """How the audit log names a person: "Jane Doe (jane@acme.com)"."""
    return f"{name} ({email})" if email else name
