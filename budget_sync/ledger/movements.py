"""Reads and locks a budget, moves money on it with one guarded UPDATE, and records the audit row.

Everything here runs inside a verb's transaction.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from peewee import Expression

from budget_sync.database import Prepared, audit_log, first_row_of_each, locked
from budget_sync.database.models import Budget, BudgetUtilization, Customer, Reservation
from budget_sync.domain.balance import Balance
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Actor
from budget_sync.ledger.policy import Requester


class LedgerBudget(NamedTuple):
    """A budget with its balance, as the verbs read it."""

    id: str
    customer_id: str
    auto_approve_limit_minor: int | None
    deleted_at: datetime | None
    version: int
    balance: Balance

    @classmethod
    def of(cls, row: Any) -> LedgerBudget:
        """The budget in a row of BUDGET_COLUMNS."""
        return cls._make((*row[:5], Balance(*row[5:])))

    def to_json(self) -> dict[str, object]:
        """The budget as replies show it."""
        return {"id": self.id, **self.balance.to_json()}


class ReservationRef(NamedTuple):
    """A reservation as its audit rows name it."""

    id: str
    request_id: str
    requester: Requester

    @classmethod
    def of(cls, reservation: Any) -> ReservationRef:
        """The reference to a row of Reservation."""
        requester = Requester(
            reservation.requesterId, reservation.requesterName, reservation.requesterEmail
        )
        return cls(reservation.id, reservation.requestId, requester)


class SpendRef(NamedTuple):
    """A spend as its audit rows name it: a request without a reservation and a requester."""

    request_id: str
    id: None = None
    requester: None = None


#: The columns of LedgerBudget and its Balance, in the order of their fields.
BUDGET_COLUMNS = (
    Budget.id,
    Budget.customerId,
    Budget.autoApproveLimitMinor,
    Budget.deletedAt,
    BudgetUtilization.version,
    Budget.currency,
    Budget.currencyExponent,
    Budget.budgetedMinor,
    BudgetUtilization.reservedMinor,
    BudgetUtilization.committedMinor,
)


def select_budgets(*conditions: Expression) -> Any:
    """The query for the budgets that meet the conditions, as rows of BUDGET_COLUMNS."""
    return (
        Budget.select(*BUDGET_COLUMNS)
        .join(BudgetUtilization, on=(BudgetUtilization.budgetId == Budget.id))
        .where(*conditions)
    )


#: A customer that exists and is not disabled.
ENABLED_CUSTOMER = Prepared(
    lambda value: Customer.select().where(
        (Customer.id == value.customer_id) & Customer.disabledAt.is_null()
    )
)
# The budget is locked until the transaction ends: no other transaction moves its money.
_BUDGET = Prepared(lambda value: locked(select_budgets(Budget.id == value.budget_id)))


def latest_reservation(value: Any, table: Any = Reservation, *columns: Any) -> Any:
    """The query for a request's open reservation on a budget, or else its latest closed one.

    The open reservation is always the latest, because a request holds at most one on a budget.
    """
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


#: A request's open reservation on a budget, or else its latest closed one.
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


# In the order in which a sync run locks them, so that callers never deadlock.
_TWO_BUDGETS = Prepared(
    lambda value: locked(
        select_budgets((Budget.id == value.budget_id) | (Budget.id == value.other_id)).order_by(
            Budget.id
        )
    )
)
_MOVE = Prepared(_move)
_MOVE_WITHIN_BUDGET = Prepared(_move_within_budget)


def lock_two_budgets(
    actor: Actor, budget_id: str, other_id: str, customer_id: str | None
) -> tuple[LedgerBudget, LedgerBudget]:
    """Lock two budgets of one customer, in the order of their ids, so that callers never deadlock.

    Raises RequestError BUDGET_NOT_FOUND or INVALID_CUSTOMER.
    """
    known_customer = customer_id or actor.customer_id
    rows = _TWO_BUDGETS.rows(budget_id=budget_id, other_id=other_id)
    found = {row.id: LedgerBudget.of(row) for row in rows}
    budgets = []
    for each in (budget_id, other_id):
        # Both are the caller's customer's: the second must have the customer of the first.
        budget = _require_served(actor, found.get(each), each, known_customer)
        known_customer = budget.customer_id
        budgets.append(budget)
    return budgets[0], budgets[1]


def lock_budget(
    actor: Actor, budget_id: str, customer_id: str | None, related: Prepared, **values: Any
) -> tuple[LedgerBudget, Any]:
    """Lock a budget; returns it, and the first row of the query `related`, read after the lock.

    `related` gets the values, customer_id and budget_id. Raises RequestError BUDGET_NOT_FOUND if
    the budget is unknown or another customer's, INVALID_CUSTOMER if its customer is disabled.
    """
    known_customer = customer_id or actor.customer_id
    if known_customer is None:
        # The caller serves all customers and names none: read the customer from the budget.
        row = _BUDGET.first(budget_id=budget_id)
        found = row and related.first(customer_id=row.customerId, budget_id=budget_id, **values)
    else:
        row, found = first_row_of_each(
            _BUDGET, related, customer_id=known_customer, budget_id=budget_id, **values
        )
    return _require_served(actor, row and LedgerBudget.of(row), budget_id, customer_id), found


def _require_served(
    actor: Actor, budget: LedgerBudget | None, budget_id: str, customer_id: str | None
) -> LedgerBudget:
    """The budget. Raises RequestError BUDGET_NOT_FOUND or INVALID_CUSTOMER; see `lock_budget`."""
    if (
        budget is None
        or not actor.serves(budget.customer_id)
        or customer_id not in (None, budget.customer_id)
    ):
        raise RequestError(Code.BUDGET_NOT_FOUND, "Budget not found.", budgetId=budget_id)
    # Credentials for one customer are already invalid if it is disabled; those for all are not.
    if actor.customer_id is None and not ENABLED_CUSTOMER.first(customer_id=budget.customer_id):
        raise invalid_customer()
    return budget


def require_customer(actor: Actor, customer_id: str | None) -> None:
    """Raises RequestError INVALID_CUSTOMER if the caller may not act for the body's customer.

    Call it before any check of permissions.
    """
    if customer_id is not None and not actor.serves(customer_id):
        raise invalid_customer()


def invalid_customer() -> RequestError:
    """The guide's error for a customer that is unknown, disabled, or not the credential's."""
    return RequestError(
        Code.INVALID_CUSTOMER,
        "Invalid customer",
        fields={"customerId": "is not a customer you can act for"},
    )


def move(
    budget: LedgerBudget,
    *,
    reserved_minor: int,
    committed_minor: int = 0,
    within_budget: bool = False,
) -> LedgerBudget | None:
    """Add to the balance and to the version in one guarded UPDATE; returns the new budget.

    With `within_budget`, the database compares, and None means that the available amount is too
    small or that the budget is deleted. A negative reserved or committed amount, or one of 10^15
    minor units, would be a bug: the database's constraints reject it, and the exception stays
    unhandled.
    """
    statement = _MOVE_WITHIN_BUDGET if within_budget else _MOVE
    updated = statement.execute(
        budget_id=budget.id,
        reserved_minor=reserved_minor,
        committed_minor=committed_minor,
        growth_minor=reserved_minor + committed_minor,
    )
    if updated != 1:
        return None
    return budget._replace(
        version=budget.version + 1,
        balance=budget.balance.moved(
            reserved_minor=reserved_minor, committed_minor=committed_minor
        ),
    )


def move_always(
    budget: LedgerBudget, *, reserved_minor: int = 0, committed_minor: int = 0
) -> LedgerBudget:
    """Add to the balance as `move` does, even if it then exceeds the budget."""
    moved = move(budget, reserved_minor=reserved_minor, committed_minor=committed_minor)
    if moved is None:
        raise RuntimeError(f"budget {budget.id} has no utilization row")
    return moved


def record_movement(
    actor: Actor,
    action: str,
    before: LedgerBudget,
    after: LedgerBudget,
    reservation: ReservationRef | SpendRef,
    *,
    old_minor: int,
    new_minor: int,
    reason: str,
    approved_by: str | None = None,
    external_ref: str | None = None,
    transfer_id: str | None = None,
) -> None:
    """Write the audit row of one movement.

    The old and new value are the amounts that the reservation holds; of a REVERSE or SPEND, those
    that it has committed. The deltas are the budget's.
    """
    old, new = before.balance, after.balance
    requester = reservation.requester
    is_for_another = requester is not None and requester.id != actor.user_id
    audit_log.record(
        actor,
        action,
        customer_id=before.customer_id,
        budget_id=before.id,
        version=after.version,
        balance=new,
        reserved_delta_minor=new.reserved_minor - old.reserved_minor,
        committed_delta_minor=new.committed_minor - old.committed_minor,
        subject=requester.id if requester else None,
        requestId=reservation.request_id,
        reservationId=reservation.id,
        oldValue=old.text(old_minor),
        newValue=old.text(new_minor),
        onBehalfOf=requester.label if requester and is_for_another else None,
        approvedBy=approved_by,
        reason=reason,
        externalRef=external_ref,
        transferId=transfer_id,
    )
