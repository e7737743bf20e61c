"""What the four ledger calls take, as validated, frozen models. JSON names are camelCase; amounts are whole currency units."""

from __future__ import annotations

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
    """Refuse what no name, id or reason is made of: nothing at all, NUL, and halves of surrogate pairs, which no database stores."""
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
    """Refuse what is no JSON number, not above zero, or too large or too fine for any currency."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise _problem("must be a number")
    try:
        require_plausible(value)
    except MoneyError as error:
        raise _problem(str(error)) from None
    if value == 0:
        raise _problem("must be greater than 0")
    # One spelling for one amount: 1000, 1000.0 and 1e3 are the same body to an Idempotency-Key.
    return Decimal(f"{Decimal(value).normalize():f}")


# How the API page says what `clean` and `_amount` ask for. How many decimals a currency has, no schema can say.
_CLEAN = Field(json_schema_extra={"minLength": 1, "pattern": r"^[^\u0000]*[^\s\u0000][^\u0000]*$"})
_AMOUNT = WithJsonSchema(
    {
        "type": "number",
        "exclusiveMinimum": 0,
        "exclusiveMaximum": LIMIT_MINOR,
        "description": "Whole currency units, exact: `5000`, `99.5`. No more decimals than the currency has (USD 2, JPY 0, KWD 3).",
    }
)

Amount = Annotated[Decimal, BeforeValidator(_amount), _AMOUNT]
Id = Annotated[str, Field(max_length=100), AfterValidator(clean), _CLEAN]
RequestId = Annotated[str, Field(max_length=200), AfterValidator(clean), _CLEAN]
Name = Annotated[str, Field(max_length=200), AfterValidator(clean), _CLEAN]
Email = Annotated[str, Field(max_length=254), AfterValidator(clean), _CLEAN]
Period = Annotated[str, Field(max_length=100), AfterValidator(clean), _CLEAN]
Sentence = Annotated[str, Field(max_length=1000), AfterValidator(clean), _CLEAN]
Currency = Annotated[str, Field(min_length=3, max_length=3), AfterValidator(clean)]


class Body(BaseModel):
    """A JSON body. Fields that it does not know are ignored, so that clients may send more than one version needs.

    Python names them as it names its own; a body that was sent is read by the camelCase names alone, see `payloads.parse`.
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
    """Could this department's budget carry that amount?"""

    request_id: Annotated[
        RequestId,
        Field(description="The purchase request's own id; what is reserved later names it, too."),
    ]
    user_id: Annotated[
        Id, Field(description="Who asks for the purchase. People can check for themselves only.")
    ]
    user_name: Name
    user_email: Email
    customer_id: Id
    department: Annotated[Name, Field(description="Letter case and extra spaces do not matter.")]
    fiscal_period: Annotated[
        Period, Field(description='"Q1 2025", "2025-Q1" and "q1 fy2025" are one period.')
    ]
    amount: Amount
    currency: Annotated[
        Currency | None,
        Field(description="ISO 4217 code, to be sure: another one than the budget's is refused."),
    ] = None
    vendor: Name | None = None
    purpose: Sentence | None = None


class OverBudget(Body):
    """An approval to go past the limit: who gave it, and why."""

    approved_by: Annotated[
        Id,
        Field(
            description="The id of an FP&A or admin user of the customer, who is not the requester."
        ),
    ]
    reason: Sentence


Whose = Annotated[
    Id | None,
    Field(
        description="Whose budget it is, to be sure: another customer's is not found, and a customer that the caller does not serve is refused."
    ),
]


class ReserveRequest(Body):
    """Set an amount aside on a budget for a request."""

    budget_id: Id
    request_id: RequestId
    amount: Amount
    currency: Annotated[
        Currency | None,
        Field(description="ISO 4217 code, to be sure: another one than the budget's is refused."),
    ] = None
    customer_id: Whose = None
    user_id: Annotated[
        Id | None,
        Field(
            description="Whose request it is, where a service or FP&A reserves; else whoever checked it last."
        ),
    ] = None
    reason: Annotated[Sentence | None, Field(description="For the audit log.")] = None
    over_budget: Annotated[
        OverBudget | None,
        Field(description="Reserve even if the budget cannot carry it. Audited as OVER_BUDGET."),
    ] = None


class CommitRequest(Body):
    """Move reserved money to committed; `final` gives back what is left of the reservation."""

    budget_id: Id
    request_id: RequestId
    amount: Annotated[
        Amount,
        Field(
            description="In whole currency units. More than is reserved is taken only if the budget has room for the rest."
        ),
    ]
    customer_id: Whose = None
    final: Annotated[bool, Field(description="Release what is left of the reservation.")] = False
    reason: Annotated[Sentence | None, Field(description="For the audit log.")] = None
    external_ref: Annotated[
        Name | None, Field(description="A purchase order's or invoice's number, for the audit log.")
    ] = None


class ReleaseAction(StrEnum):
    """Why reserved money is given back."""

    CANCEL = "cancel"
    REJECT = "reject"
    MANUAL = "manual"


def _release_action(value: object) -> ReleaseAction:
    try:
        return ReleaseAction(value)  # type: ignore[arg-type]  # whatever is no action raises
    except ValueError:
        raise _problem("must be one of cancel, reject, manual") from None


class ReleaseRequest(Body):
    """Give reserved money back."""

    budget_id: Id
    request_id: RequestId
    amount: Annotated[
        Amount,
        Field(description="In whole currency units; less than what is reserved leaves the rest."),
    ]
    action: Annotated[
        ReleaseAction,
        BeforeValidator(_release_action),
        Field(description="The requester cancels; FP&A or a rule rejects, or releases by hand."),
    ]
    customer_id: Whose = None
    original_requester_id: Annotated[
        Id | None,
        Field(
            description="Whose request it is: required where a service or an ordinary user cancels."
        ),
    ] = None
    reason: Annotated[Sentence | None, Field(description="For the audit log.")] = None
