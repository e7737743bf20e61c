"""What the four ledger calls take, as validated, frozen models. JSON names are camelCase; amounts are whole currency units."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from budget_sync.money import MoneyError, require_plausible


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


Amount = Annotated[Decimal, BeforeValidator(_amount)]
Id = Annotated[str, Field(max_length=100), AfterValidator(clean)]
RequestId = Annotated[str, Field(max_length=200), AfterValidator(clean)]
Name = Annotated[str, Field(max_length=200), AfterValidator(clean)]
Email = Annotated[str, Field(max_length=254), AfterValidator(clean)]
Period = Annotated[str, Field(max_length=100), AfterValidator(clean)]
Sentence = Annotated[str, Field(max_length=1000), AfterValidator(clean)]
Currency = Annotated[str, Field(min_length=3, max_length=3), AfterValidator(clean)]


class Body(BaseModel):
    """A JSON body. Fields that it does not know are ignored, so that clients may send more than one version needs."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, strict=True, extra="ignore")


class CheckRequest(Body):
    """Could this department's budget carry that amount?"""

    request_id: RequestId
    user_id: Id
    user_name: Name
    user_email: Email
    customer_id: Id
    department: Name
    fiscal_period: Period
    amount: Amount
    currency: Currency | None = None
    vendor: Name | None = None
    purpose: Sentence | None = None


class OverBudget(Body):
    """An approval to go past the limit: who gave it, and why."""

    approved_by: Id
    reason: Sentence


class ReserveRequest(Body):
    """Set an amount aside on a budget for a request."""

    budget_id: Id
    request_id: RequestId
    amount: Amount
    currency: Currency | None = None
    customer_id: Id | None = None
    user_id: Id | None = None
    reason: Sentence | None = None
    over_budget: OverBudget | None = None


class CommitRequest(Body):
    """Move reserved money to committed; `final` gives back what is left of the reservation."""

    budget_id: Id
    request_id: RequestId
    amount: Amount
    customer_id: Id | None = None
    final: bool = False
    reason: Sentence | None = None
    external_ref: Name | None = None


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
    amount: Amount
    action: Annotated[ReleaseAction, BeforeValidator(_release_action)]
    customer_id: Id | None = None
    original_requester_id: Id | None = None
    reason: Sentence | None = None
