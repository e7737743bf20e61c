"""Models of the replies, except those of the ledger calls.

The API documentation is generated from them, and tests validate replies with them. The service does
not validate its replies.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from budget_sync.domain.decisions import DecisionKind
from budget_sync.domain.errors import Code
from budget_sync.domain.events import EventType
from budget_sync.web.openapi.ledger_schemas import Money, ReplyModel, Timestamp, absent

Role = Literal[
    "super_admin", "admin", "fpa_admin", "fpa_user", "manager", "business_user", "api_system"
]


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
    owner_email: str | None = Field(
        default=None,
        description="The owner's email address; null if there is none. Employees do not get it.",
    )


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
    amount_reserved: Money = Field(description="Amount of the first reserve.")
    amount_held: Money = Field(description="Amount held now, with later changes.")
    amount_committed: Money = Field(description="Without what was reversed.")
    amount_released: Money
    amount_reversed: Money
    version: int = Field(description="Grows with each change, for `ifVersion` of an amendment.")
    created_at: Timestamp
    expires_at: Timestamp | None = Field(
        description="When an open reservation expires; null if it never does, or is closed."
    )
    closed_at: Timestamp | None


class RequestDecision(ReplyModel):
    """A decision of FP&A about a request."""

    decision: DecisionKind = Field(
        description="`approved`, `approved_over_budget`, `rejected` or `declined`."
    )
    by: str = Field(description="The approver, or the person or service that rejected or declined.")
    at: Timestamp
    reason: str


class ListedRequest(RequestReservation):
    """A reservation with its request."""

    request_id: str
    requester_name: str
    waiting_for: Literal["approval"] | None = Field(
        description="`approval` if the reservation is open and its latest check said "
        "`REQUIRES_APPROVAL`, and FP&A has not approved it."
    )
    decision: RequestDecision | None = Field(
        description="The decision on the reservation; null if it waits, or if none was needed."
    )


class Event(ReplyModel):
    """Something that happened to a customer."""

    id: str = Field(description="Unique. An event that is delivered again has the same id.")
    type: EventType
    time: Timestamp
    customer_id: str
    data: dict[str, Any] = Field(
        description=(
            "The facts, as far as they apply: requestId, budgetId, department, fiscalPeriod, "
            "amount, currency, by, reason and more."
        )
    )


class EventPage(ReplyModel):
    """A page of events, in order."""

    items: list[Event]
    next_cursor: str = Field(description="Send it as `after` to get the events after these.")


class RequestPage(ReplyModel):
    """A page of reservations."""

    items: list[ListedRequest]
    next_cursor: str | None = Field(
        description="The `cursor` of the next page; null on the last page."
    )


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
    """A movement of money or a decision, as in the audit log."""

    action: Literal[
        "RESERVE",
        "OVER_BUDGET",
        "COMMIT",
        "RELEASE",
        "AMEND",
        "TRANSFER",
        "EXTEND",
        "REVERSE",
        "SPEND",
        "APPROVE",
        "DECLINE",
    ]
    budget_id: str | None = Field(description="null for a DECLINE if no budget was found.")
    reservation_id: str | None = Field(description="null for a spend or a DECLINE.")
    old_value: str | None = Field(
        description="Amount held before, in whole currency units. Of REVERSE and SPEND, the amount "
        "committed; of EXTEND, the time of expiry, or null; of DECLINE, null."
    )
    new_value: str = Field(
        description="The same after the movement. Of DECLINE, the amount that was requested."
    )
    reserved_delta: Money
    committed_delta: Money
    changed_by: str
    on_behalf_of: str | None
    approved_by: str | None = Field(description="The approver, if over budget.")
    reason: str
    external_ref: str | None
    transfer_id: str | None = Field(
        description="The same in all movements of one call that wrote several."
    )
    created_at: Timestamp


class RequestSpend(ReplyModel):
    """Money that was spent without a reservation."""

    spend_id: str
    budget_id: str
    department: str
    fiscal_period: str
    currency: str
    amount: Money
    amount_reversed: Money
    date: str = Field(pattern=r"^\d{4}-\d\d-\d\d$", json_schema_extra={"format": "date"})
    vendor: str | None
    reason: str
    external_ref: str | None
    recorded_by: str
    created_at: Timestamp


class RequestTimeline(ReplyModel):
    """The timeline of a request: the latest 100 entries of each list, oldest first."""

    request_id: str
    decision: RequestDecision | None = Field(
        description="The decline, or the decision on the latest reservation. A newer check or "
        "reserve ends a decline."
    )
    reservations: list[RequestReservation]
    checks: list[RequestCheck]
    movements: list[RequestMovement]
    spends: list[RequestSpend] = Field(description="The spend with this id, if there is one.")


class User(ReplyModel):
    """The person of a session, or the service of an API key."""

    id: str | None = Field(description="null for a service.")
    name: str
    email: str | None
    role: Role
    customer_id: str | None = Field(description="null for a caller for all customers.")
    is_test: bool = Field(description="Whether the customer is a test customer.")


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
    """The result of a sync run of one source."""

    sync_id: str | None = Field(
        description="null if nothing was recorded: another call was in progress, or the sync "
        "history could not be written."
    )
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
    largest_amount: Money = absent("The largest amount that the call could take.")
    amount_held: Money = absent("Amount that the request holds.")
    amount_committed: Money = absent("Amount that the request has committed on the budget.")
    exceeded_by: Money = absent("By how much the commit exceeds what the request holds.")
    version: int = absent("The reservation's current version.")
    moved_to_budget_id: str = absent("The budget to which the reservation was moved.")
    declined: Literal[True] = absent("FP&A has declined the request.")
    decision: RequestDecision = absent("The decision to decline the request.")
    external_ref: str = absent("The reference that was used before.")
    amount: Money = absent("The amount for which it was used.")
    spend_id: str = absent()
    department: str = absent()
    fiscal_period: str = absent()
    reason: str = absent("The reason, as in a check.")
    approved_by: str = absent()
    retry_after: int = absent("Seconds to wait, as in the Retry-After header.")
