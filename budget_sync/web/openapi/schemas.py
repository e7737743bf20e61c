"""What the calls answer, as models. Nothing is checked against them while serving: the API page is made from them, and tests hold the replies to them."""

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
    """A field that is left out where it does not apply."""
    return Field(default=None, description=description or None)


class ReplyModel(BaseModel):
    """A JSON object that we send. Later versions may add fields."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")


class BudgetFigures(ReplyModel):
    """Where a budget stands."""

    id: str
    currency: str = Field(description="ISO 4217 code.")
    budgeted_amount: Money
    reserved_amount: Money
    committed_amount: Money
    available: Money = Field(
        description="budgetedAmount - reservedAmount - committedAmount; negative where a sheet cut the budget below what is spent."
    )


class CheckReply(ReplyModel):
    """What a check says. It is advice: a reserve decides again."""

    success: Literal[True]
    available: bool = Field(description="Whether the budget can carry the amount.")
    can_auto_approve: bool = Field(
        description="Whether it can, and the amount is within the auto-approve limit: the budget's, or else the customer's, for budgets in its currency."
    )
    code: Literal[
        Code.AUTO_APPROVED, Code.REQUIRES_APPROVAL, Code.INSUFFICIENT_BUDGET, Code.NO_BUDGET
    ]
    reason: str = Field(description="The same in a sentence, for people.")
    check_id: str
    budget: BudgetFigures | None = Field(
        description="null where there is none of that department and period."
    )
    already_reserved: Money = absent(
        "What this request holds on the budget; it does not count against it. Left out where it holds nothing."
    )


class ReserveReply(ReplyModel):
    """Money was set aside."""

    success: Literal[True]
    reservation_id: str
    budget_id: str
    request_id: str
    amount_reserved: Money
    new_available: Money


class _Settled(ReplyModel):
    success: Literal[True]
    amount_released: Money
    new_available: Money
    budget_id: str
    request_id: str
    reservation_id: str
    amount_held: Money = Field(
        description="What the request still holds on the budget; 0 once its reservation is closed."
    )


class CommitReply(_Settled):
    """Reserved money was spent; a `final` commit released what was left."""

    amount_committed: Money


class ReleaseReply(_Settled):
    """Reserved money was given back."""


class ReleaseRejected(ReplyModel):
    """More was to be released than the request holds on that budget. Nothing was moved."""

    success: Literal[False]
    error: str
    code: Literal[Code.AMOUNT_EXCEEDS_RESERVED]
    amount_released: Literal[0]
    amount_held: Money
    new_available: Money


class Budget(ReplyModel):
    """A budget and where it stands."""

    id: str
    customer_id: str
    department: str
    fiscal_period: str
    currency: str = Field(description="ISO 4217 code.")
    budgeted_amount: Money
    reserved_amount: Money
    committed_amount: Money
    available: Money
    auto_approve_limit: Money | None = Field(description="null where the customer's own holds.")
    deleted_at: Timestamp | None = Field(
        description="When it was taken out of its sheet, if it was."
    )


class BudgetPage(ReplyModel):
    """A page of live budgets, by id."""

    items: list[Budget]
    next_cursor: str | None = Field(
        description="What `cursor` has to be for the next page; null on the last."
    )


class RequestReservation(ReplyModel):
    """Money that was set aside for the request."""

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
    """A check of the request, and what it was told."""

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
    """A row of the audit log."""

    action: Literal["RESERVE", "OVER_BUDGET", "COMMIT", "RELEASE"]
    budget_id: str
    reservation_id: str
    old_value: str = Field(description="What the request held before, in whole units.")
    new_value: str = Field(description="What it held afterwards.")
    reserved_delta: Money
    committed_delta: Money
    changed_by: str
    on_behalf_of: str | None
    approved_by: str | None = Field(description="Who approved going over budget.")
    reason: str
    external_ref: str | None
    created_at: Timestamp


class RequestTimeline(ReplyModel):
    """Where a request stands: the latest 100 of each, oldest first."""

    request_id: str
    reservations: list[RequestReservation]
    checks: list[RequestCheck]
    movements: list[RequestMovement]


class User(ReplyModel):
    """Who is signed in, or which service a key is for."""

    id: str | None = Field(description="null for a service.")
    name: str
    email: str | None
    role: Role
    customer_id: str | None = Field(description="null for all customers.")


class UserReply(ReplyModel):
    """Who the caller is."""

    success: Literal[True]
    user: User


class Done(ReplyModel):
    """It is done."""

    success: Literal[True]


class SyncResult(ReplyModel):
    """What became of a pass over one source, as `SyncHistory` has it."""

    sync_id: str | None = Field(description="null where even the history could not be written.")
    customer_id: str
    source_id: str
    source_type: Literal["google_sheets", "csv"]
    status: Literal["success", "partial", "failed", "skipped"]
    created_count: int
    updated_count: int
    unchanged_count: int
    soft_deleted_count: int
    revived_count: int
    held_count: int = Field(description="Deletions that wait for a person.")
    error_count: int
    overdrawn_count: int
    message: str | None
    duration_ms: int
    start_time: Timestamp


class SyncReply(ReplyModel):
    """One result for each source."""

    success: Literal[True]
    results: list[SyncResult]


class Status(ReplyModel):
    """How the service is."""

    status: Literal["ok", "ready"]


class ErrorReply(ReplyModel):
    """A refusal. `code` is for programs and stays; `error` is for people. What else it names depends on the code."""

    success: Literal[False]
    error: str = Field(description="What is wrong, in a sentence.")
    code: Code
    fields: dict[str, str] = absent("Every bad field with what is wrong with it.")
    request_id: str = absent(
        "The request that it is about; with INTERNAL_ERROR, the id under which our log has the mistake."
    )
    budget_id: str = absent()
    reservation_id: str = absent()
    amount_reserved: Money = absent("What the request's open reservation was made for.")
    available: Money = absent()
    shortfall: Money = absent("How much is missing.")
    reason: str = absent("As a check says it.")
    approved_by: str = absent()
    retry_after: int = absent("Seconds to wait, as in the Retry-After header.")
