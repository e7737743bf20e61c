"""Models of the replies of the ledger calls, and what all models of replies share."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from budget_sync.domain.errors import Code

Money = Annotated[Decimal, WithJsonSchema({"type": "number"})]
Timestamp = Annotated[
    str,
    Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", json_schema_extra={"format": "date-time"}),
]


def absent(description: str = "") -> Any:
    """A field that a reply omits if it does not apply."""
    return Field(default=None, description=description or None)


class ReplyModel(BaseModel):
    """A JSON object of a reply. Later versions may add fields."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")


class BudgetFigures(ReplyModel):
    """The amounts of a budget."""

    id: str
    currency: str = Field(description="ISO 4217 code.")
    budgeted_amount: Money
    reserved_amount: Money
    committed_amount: Money
    available: Money = Field(
        description=(
            "`budgetedAmount - reservedAmount - committedAmount`. Negative if the sheet lowered "
            "the budget below what is reserved and committed, or if it was reserved over budget."
        )
    )


class CheckReply(ReplyModel):
    """The decision of a check. It is advice: a reserve decides again."""

    success: Literal[True]
    available: bool = Field(description="Whether the budget has the amount available.")
    can_auto_approve: bool = Field(
        description=(
            "Whether the budget has the amount available and the amount is within the auto-approve "
            "limit: the budget's own, else the customer's for budgets in the customer's currency."
        )
    )
    code: Literal[
        Code.AUTO_APPROVED, Code.REQUIRES_APPROVAL, Code.INSUFFICIENT_BUDGET, Code.NO_BUDGET
    ]
    reason: str = Field(description="The decision as a sentence, for people.")
    check_id: str
    budget: BudgetFigures | None = Field(
        description="null if there is no budget for that department and period."
    )
    suggestions: list[str] = absent(
        "Only with NO_BUDGET: at most three names of departments that the request may mean, among "
        "those whose budgets the caller may read. Departments with a budget in that period come "
        "first. If it is the department that was sent, only the period has no budget."
    )
    already_reserved: Money = absent(
        "Amount that this request already holds on the budget. It does not count against the "
        "request. Omitted if it holds nothing."
    )


class ReserveReply(ReplyModel):
    """The amount was reserved."""

    success: Literal[True]
    reservation_id: str
    budget_id: str
    request_id: str
    amount_reserved: Money
    new_available: Money
    expires_at: Timestamp = absent("When the reservation expires. Omitted if it never does.")


class AmendReply(ReplyModel):
    """The reservation was amended. `budgetId` is the budget that holds the money afterwards."""

    success: Literal[True]
    reservation_id: str = Field(description="A new one if the hold moved to another budget.")
    budget_id: str
    request_id: str
    previous_amount: Money = Field(description="Amount that the request held before.")
    amount_reserved: Money = Field(description="Amount that the request holds now.")
    new_available: Money = Field(description="Available on the budget that holds the money now.")
    version: int = Field(description="The reservation's version, for `ifVersion`.")
    expires_at: Timestamp = absent("When the reservation expires. Omitted if it never does.")


class ReverseReply(ReplyModel):
    """The amount was reversed."""

    success: Literal[True]
    budget_id: str
    request_id: str
    amount_reversed: Money
    to: Literal["available", "reserved"]
    new_available: Money


class SpendReply(ReplyModel):
    """The spend was recorded."""

    success: Literal[True]
    spend_id: str
    budget_id: str
    amount_committed: Money
    new_available: Money
    overdrawn: bool = Field(description="Whether less than 0 is available now.")
    overdrawn_by: Money = Field(description="The amount below 0; 0 if it is not overdrawn.")


class _Movement(ReplyModel):
    success: Literal[True]
    amount_released: Money
    new_available: Money
    budget_id: str
    request_id: str
    reservation_id: str
    amount_held: Money = Field(
        description="Amount that the request still holds; 0 after its reservation is closed."
    )


class CommitReply(_Movement):
    """The amount was committed. A `final` commit also released the rest of the reservation."""

    amount_committed: Money
    amount_exceeded: Money = absent(
        "By how much the commit exceeded what the request held. Omitted if it did not."
    )


class ReleaseReply(_Movement):
    """The amount was released."""


class ReleaseRejected(ReplyModel):
    """The amount to release is more than the request holds on the budget. Nothing was moved."""

    success: Literal[False]
    error: str
    code: Literal[Code.AMOUNT_EXCEEDS_RESERVED]
    amount_released: Literal[0]
    amount_held: Money
    new_available: Money
    moved_to_budget_id: str = absent("The budget to which the reservation was moved.")
