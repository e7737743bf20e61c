"""Models of the replies.

The API documentation is generated from them, and tests validate replies with them. The service does
not validate its replies.
"""

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
Role = Literal[
    "super_admin", "admin", "fpa_admin", "fpa_user", "manager", "business_user", "api_system"
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


class Budget(ReplyModel):
    """A budget and its amounts."""

    id: str
    customer_id: str
    department: str
    fiscal_period: str
    currency: str = Field(description="ISO 4217 code.")
    budgeted_amount: Money
    reserved_amount: Money
    committed_amount: Money
    available: Money
    auto_approve_limit: Money | None = Field(description="null if the customer's limit applies.")
    deleted_at: Timestamp | None = Field(description="When it was removed; null if it was not.")


class BudgetPage(ReplyModel):
    """A page of budgets, ordered by id, without deleted budgets."""

    items: list[Budget]
    next_cursor: str | None = Field(
        description="The `cursor` of the next page; null on the last page."
    )


class RequestReservation(ReplyModel):
    """A reservation of the request."""

    reservation_id: str
    budget_id: str
    department: str
    fiscal_period: str
    currency: str
    status: Literal["open", "closed"]
    requester_id: str
    amount_reserved: Money
    amount_held: Money
    amount_committed: Money
    amount_released: Money
    created_at: Timestamp
    closed_at: Timestamp | None


class RequestCheck(ReplyModel):
    """A check of the request and its decision."""

    check_id: str
    user_id: str
    department: str
    fiscal_period: str
    currency: str
    amount: Money
    budget_id: str | None
    available: bool
    can_auto_approve: bool
    code: Literal[
        Code.AUTO_APPROVED, Code.REQUIRES_APPROVAL, Code.INSUFFICIENT_BUDGET, Code.NO_BUDGET
    ]
    reason: str
    timestamp: Timestamp


class RequestMovement(ReplyModel):
    """A movement of money, as in the audit log."""

    action: Literal["RESERVE", "OVER_BUDGET", "COMMIT", "RELEASE"]
    budget_id: str
    reservation_id: str
    old_value: str = Field(description="Amount held before, in whole currency units.")
    new_value: str = Field(description="Amount held after, in whole currency units.")
    reserved_delta: Money
    committed_delta: Money
    changed_by: str
    on_behalf_of: str | None
    approved_by: str | None = Field(description="The approver, if over budget.")
    reason: str
    external_ref: str | None
    created_at: Timestamp


class RequestTimeline(ReplyModel):
    """The timeline of a request: the latest 100 entries of each list, oldest first."""

    request_id: str
    reservations: list[RequestReservation]
    checks: list[RequestCheck]
    movements: list[RequestMovement]


class User(ReplyModel):
    """The person of a session, or the service of an API key."""

    id: str | None = Field(description="null for a service.")
    name: str
    email: str | None
    role: Role
    customer_id: str | None = Field(description="null for a caller for all customers.")


class UserReply(ReplyModel):
    """The caller."""

    success: Literal[True]
    user: User


class Done(ReplyModel):
    """The call succeeded."""

    success: Literal[True]


class HeldChange(ReplyModel):
    """A change of a sheet that looks like a mistake and waits for the answer of a person.

    `old` and `new` are amounts, or of a rename the keys of both budgets, such as
    "Lampe North|2026-Q1". A deletion has no new amount, a creation no budget and no old amount.
    """

    kind: Literal["rename", "deletion", "creation", "amount"]
    budget_id: str | None
    department: str
    period: str = Field(description="The key of the fiscal period, such as 2026-Q1.")
    old: str | Money | None
    new: str | Money | None


class SyncResult(ReplyModel):
    """The result of a sync run of one source, as stored in `SyncHistory`."""

    sync_id: str | None = Field(description="null if the sync history could not be written.")
    customer_id: str
    source_id: str
    source_type: Literal["google_sheets", "csv", "xlsx"]
    status: Literal["success", "partial", "failed", "skipped"]
    created_count: int
    updated_count: int
    unchanged_count: int
    soft_deleted_count: int
    revived_count: int
    held_count: int = Field(description="Changes that wait for an answer.")
    held: list[HeldChange] = Field(description="The first 200 of them.")
    notes: list[str] = Field(description="The first 200 remarks on how the sheet was read.")
    error_count: int
    overdrawn_count: int
    message: str | None
    duration_ms: int
    start_time: Timestamp


class SyncReply(ReplyModel):
    """The result of each source."""

    success: Literal[True]
    results: list[SyncResult]


class Status(ReplyModel):
    """The status of the service."""

    status: Literal["ok", "ready"]
    version: str = absent("The version of the program. Only in the reply of /healthz.")


class ErrorReply(ReplyModel):
    """An error.

    `code` is stable and for programs; `error` is for people. The other fields depend on the code.
    """

    success: Literal[False]
    error: str = Field(description="What is wrong, as a sentence.")
    code: Code
    fields: dict[str, str] = absent("Every bad field and its problem.")
    request_id: str = absent(
        "The purchase request. With INTERNAL_ERROR, the `X-Request-Id` to quote to support."
    )
    budget_id: str = absent()
    reservation_id: str = absent()
    amount_reserved: Money = absent("The amount of the request's open reservation.")
    available: Money = absent()
    shortfall: Money = absent("The amount that is missing.")
    largest_amount: Money = absent("The largest amount that the budget can still take.")
    reason: str = absent("The reason, as in a check.")
    approved_by: str = absent()
    retry_after: int = absent("Seconds to wait, as in the Retry-After header.")
