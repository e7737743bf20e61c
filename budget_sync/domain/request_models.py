"""Request bodies of the ledger calls, as validated and frozen models.

JSON names are camelCase. Amounts are in whole currency units.
"""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from budget_sync.domain.money import LIMIT_MINOR, MoneyError, require_plausible


def _problem(text: str) -> PydanticCustomError:
    return PydanticCustomError("problem", "{text}", {"text": text})


def clean(text: str) -> str:
    """The text, unchanged. Raises if it is blank, or has NUL or half of a surrogate pair.

    No database stores half of a surrogate pair.
    """
    if not text.strip():
        raise _problem("must not be blank")
    if "\x00" in text:
        raise _problem("must not contain a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _problem("must be valid Unicode text") from None
    return text


def _amount(value: object) -> Decimal:
    """The amount as Decimal.

    Raises if it is not a JSON number, not above 0, too large, or has too many decimals for every
    currency.
    """
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise _problem("must be a number")
    try:
        require_plausible(value)
    except MoneyError as error:
        raise _problem(str(error)) from None
    if value == 0:
        raise _problem("must be greater than 0")
    # 1000, 1000.0 and 1e3 get one spelling, so an Idempotency-Key sees the same body.
    return Decimal(f"{Decimal(value).normalize():f}")


def _date(value: object) -> date:
    """The day in a text such as "2025-03-31"."""
    try:
        if isinstance(value, date):
            return value
        # `fromisoformat` also reads other forms, such as 2025-W14-1.
        if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
            return date.fromisoformat(value)
    except ValueError:
        pass
    raise _problem("must be a date such as 2025-03-31")


def _version(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _problem("must be a whole number from 1")
    return value


# The JSON Schema of `clean` and `_amount`. A schema cannot express the decimals of a currency.
_CLEAN = Field(json_schema_extra={"minLength": 1, "pattern": r"^\s*[^\s\u0000][^\u0000]*$"})
_AMOUNT = WithJsonSchema(
    {
        "type": "number",
        "exclusiveMinimum": 0,
        "exclusiveMaximum": LIMIT_MINOR,
        "description": (
            "Exact amount in whole currency units: `5000`, `99.5`. "
            "At most as many decimals as the currency has (USD 2, JPY 0, KWD 3)."
        ),
    }
)

Amount = Annotated[Decimal, BeforeValidator(_amount), _AMOUNT]
Id = Annotated[str, Field(max_length=100), AfterValidator(clean), _CLEAN]
#: A user's id, or "service:" and the name of a service.
RequesterId = Annotated[str, Field(max_length=208), AfterValidator(clean), _CLEAN]
RequestId = Annotated[str, Field(max_length=200), AfterValidator(clean), _CLEAN]
Name = Annotated[str, Field(max_length=200), AfterValidator(clean), _CLEAN]
Email = Annotated[str, Field(max_length=254), AfterValidator(clean), _CLEAN]
Period = Annotated[str, Field(max_length=100), AfterValidator(clean), _CLEAN]
Sentence = Annotated[str, Field(max_length=1000), AfterValidator(clean), _CLEAN]
Currency = Annotated[str, Field(min_length=3, max_length=3), AfterValidator(clean)]
Day = Annotated[date, BeforeValidator(_date), WithJsonSchema({"type": "string", "format": "date"})]
Version = Annotated[
    int, BeforeValidator(_version), WithJsonSchema({"type": "integer", "minimum": 1})
]


class Body(BaseModel):
    """A JSON body. Unknown fields are ignored, so that a client may send fields of other versions.

    Python code uses the snake_case names. `payloads.parse` accepts only the camelCase names.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        frozen=True,
        strict=True,
        extra="ignore",
    )


class CheckRequest(Body):
    """Check whether the budget of a department has an amount available."""

    request_id: Annotated[
        RequestId,
        Field(description="Id of the purchase request. Reserve, commit and release send it too."),
    ]
    user_id: Annotated[
        Id,
        Field(description="The requester. An ordinary user can check only their own requests."),
    ]
    user_name: Name
    user_email: Email
    customer_id: Id
    department: Annotated[
        Name,
        Field(
            description="Letter case, extra spaces, and kinds of dashes, quotes and digits do not "
            "matter."
        ),
    ]
    fiscal_period: Annotated[
        Period,
        Field(
            description='"Q1 2025", "2025-Q1" and "q1 fy2025" are the same period, and "FY2024-25" '
            "is the fiscal year as the customer names it. A text of words that periods do not have "
            '("Summer Campaign") is a period by itself. Any other text is rejected: "Q5 2025", '
            '"Q1" without a year, "TBD".'
        ),
    ]
    amount: Amount
    currency: Annotated[
        Currency | None,
        Field(description="Optional safeguard: the ISO 4217 code that the budget must have."),
    ] = None
    vendor: Name | None = None
    purpose: Sentence | None = None


class OverBudget(Body):
    """The approval to reserve more than is available: the approver and the reason."""

    approved_by: Annotated[
        Id,
        Field(description="Id of an FP&A or admin user of the customer, not the requester."),
    ]
    reason: Sentence


CustomerId = Annotated[
    Id | None,
    Field(
        description=(
            "Optional safeguard: the customer of the budget. The call fails if the budget belongs "
            "to another customer, or if the caller may not act for this customer."
        )
    ),
]


class ReserveRequest(Body):
    """Set an amount aside on a budget for a request."""

    budget_id: Id
    request_id: RequestId
    amount: Amount
    currency: Annotated[
        Currency | None,
        Field(description="Optional safeguard: the ISO 4217 code that the budget must have."),
    ] = None
    customer_id: CustomerId = None
    user_id: Annotated[
        Id | None,
        Field(
            description=(
                "The requester, if a service or FP&A reserves. "
                "Default: the user of the latest check of the request."
            )
        ),
    ] = None
    reason: Annotated[Sentence | None, Field(description="For the audit log.")] = None
    over_budget: Annotated[
        OverBudget | None,
        Field(description="Reserve more than is available. Audited as OVER_BUDGET."),
    ] = None


class CommitRequest(Body):
    """Move reserved money to committed. `final` releases the rest of the reservation."""

    budget_id: Id
    request_id: RequestId
    amount: Annotated[
        Amount,
        Field(
            description=(
                "In whole currency units. It may exceed what the request still holds within the "
                "customer's invoice tolerance, if the budget has the difference available."
            )
        ),
    ]
    customer_id: CustomerId = None
    final: Annotated[bool, Field(description="Also release the rest of the reservation.")] = False
    reason: Annotated[Sentence | None, Field(description="For the audit log.")] = None
    external_ref: Annotated[
        Name | None,
        Field(
            description=(
                "Number of a purchase order or invoice. A commit of the request on this budget "
                "with the same number and amount is a replay."
            )
        ),
    ] = None
    over_budget: Annotated[
        OverBudget | None,
        Field(
            description=(
                "Commit more than the invoice tolerance allows, or more than the budget has "
                "available. Audited with the approver."
            )
        ),
    ] = None


class AmendRequest(Body):
    """Change the amount that a request holds, move it to another budget, or extend it."""

    budget_id: Id
    request_id: RequestId
    amount: Annotated[
        Amount | None,
        Field(
            description=(
                "The new total that the request holds, in whole currency units. It may be left out "
                "with `toBudgetId` or `extend`: the amount stays."
            )
        ),
    ] = None
    to_budget_id: Annotated[
        Id | None,
        Field(description="Another live budget of the same customer and currency to move it to."),
    ] = None
    reason: Annotated[Sentence, Field(description="For the audit log.")]
    over_budget: Annotated[
        OverBudget | None,
        Field(description="Hold more than is available. Audited as OVER_BUDGET."),
    ] = None
    extend: Annotated[
        bool, Field(description="Let the reservation expire the customer's hold days from now.")
    ] = False
    if_version: Annotated[
        Version | None,
        Field(description="Amend only if the reservation still has this version."),
    ] = None
    customer_id: CustomerId = None


class ReverseTo(StrEnum):
    """Where reversed money goes."""

    AVAILABLE = "available"
    RESERVED = "reserved"


def _reverse_to(value: object) -> ReverseTo:
    try:
        return ReverseTo(value)  # type: ignore[arg-type]  # other values raise
    except ValueError:
        raise _problem("must be one of available, reserved") from None


class ReverseRequest(Body):
    """Return committed money: a credit note, a cancelled invoice, or a spend that was undone."""

    budget_id: Id
    request_id: Annotated[
        RequestId, Field(description="Id of the request, or the `spendId` of a spend.")
    ]
    amount: Annotated[
        Amount,
        Field(
            description=(
                "In whole currency units. At most what the request has committed on this budget."
            )
        ),
    ]
    to: Annotated[
        ReverseTo,
        BeforeValidator(_reverse_to),
        Field(
            description=(
                "`available` returns the money to the budget. `reserved` lets the request hold it "
                "again."
            )
        ),
    ]
    reason: Annotated[Sentence, Field(description="For the audit log.")]
    external_ref: Annotated[
        Name | None,
        Field(
            description=(
                "Number of a credit note. A reversal of the request on this budget with the same "
                "number and amount is a replay."
            )
        ),
    ] = None
    customer_id: CustomerId = None


class SpendRequest(Body):
    """Record money that was spent without a reservation."""

    spend_id: Annotated[
        RequestId,
        Field(description="The caller's id of the spend. The same spend again is a replay."),
    ]
    budget_id: Annotated[
        Id | None, Field(description="The budget. Alternative: `department` and `fiscalPeriod`.")
    ] = None
    department: Name | None = None
    fiscal_period: Period | None = None
    amount: Amount
    currency: Annotated[
        Currency | None,
        Field(description="Optional safeguard: the ISO 4217 code that the budget must have."),
    ] = None
    date: Annotated[Day, Field(description="The day on which the money was spent.")]
    vendor: Name | None = None
    reason: Annotated[Sentence, Field(description="For the audit log.")]
    external_ref: Annotated[
        Name | None, Field(description="Number of a purchase order or invoice, for the audit log.")
    ] = None
    customer_id: CustomerId = None


class ReleaseAction(StrEnum):
    """Why reserved money is released."""

    CANCEL = "cancel"
    REJECT = "reject"
    MANUAL = "manual"


def _release_action(value: object) -> ReleaseAction:
    try:
        return ReleaseAction(value)  # type: ignore[arg-type]  # other values raise
    except ValueError:
        raise _problem("must be one of cancel, reject, manual") from None


class ReleaseRequest(Body):
    """Return reserved money to the budget."""

    budget_id: Id
    request_id: RequestId
    amount: Annotated[
        Amount,
        Field(description="In whole currency units. A smaller amount leaves the rest reserved."),
    ]
    action: Annotated[
        ReleaseAction,
        BeforeValidator(_release_action),
        Field(
            description=(
                "`cancel` by the requester, `reject` by an approver or a rule, `manual` by FP&A."
            )
        ),
    ]
    customer_id: CustomerId = None
    original_requester_id: Annotated[
        RequesterId | None,
        Field(description="The requester. Required if a service or an ordinary user cancels."),
    ] = None
    reason: Annotated[Sentence | None, Field(description="For the audit log.")] = None
