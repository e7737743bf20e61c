"""Plain values that the ledger's decisions take and return."""

from __future__ import annotations

from typing import NamedTuple

from budget_sync.domain.errors import Code


class CheckDecision(NamedTuple):
    """The answer to a check."""

    code: Code
    reason: str
    available: bool = False
    can_auto_approve: bool = False


class CustomerDefaults(NamedTuple):
    """The customer's values that apply if the budget has none."""

    currency: str
    exponent: int
    auto_approve_limit_minor: int | None


class InvoiceTolerance(NamedTuple):
    """How much a customer's commits may exceed the reservation without FP&A.

    `basis_points` are hundredths of a percent of what is held. `amount_minor` is in the customer's
    currency.
    """

    basis_points: int
    amount_minor: int | None


class Requester(NamedTuple):
    """The user or service that a reservation belongs to."""

    id: str
    name: str
    email: str

    @property
    def label(self) -> str:
        """How the audit log names the requester."""
        return person_label(self.name, self.email)


class Approver(NamedTuple):
    """An enabled user who is named as the approver of an over-budget reservation."""

    role: str
    customer_id: str | None
    name: str
    email: str


class Approval(NamedTuple):
    """An over-budget approval as the audit log records it."""

    approver: str
    reason: str


class CommitAmounts(NamedTuple):
    """A commit in minor units: its parts, and the rest of the reservation."""

    #: Moved from reserved to committed.
    taken_minor: int
    #: Committed beyond the reservation, from the available amount.
    exceeded_minor: int
    #: Still reserved after that.
    left_minor: int
    #: The part of `left_minor` that a final commit releases.
    released_minor: int


def person_label(name: str, email: str) -> str:
    """How the audit log names a person: "Jane Doe (jane@acme.com)"."""
    return f"{name} ({email})" if email else name
