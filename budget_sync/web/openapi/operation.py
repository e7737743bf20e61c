"""The description of a call of the API, and the parameters and error codes that calls share."""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Any, NamedTuple

from pydantic import BaseModel

from budget_sync.domain.errors import Code
from budget_sync.domain.request_models import SpendRequest
from budget_sync.web import test_outcomes
from budget_sync.web.api import MAX_ARGUMENT_LENGTHS
from budget_sync.web.openapi.ledger_examples import Example
from budget_sync.web.payloads import MAX_KEY_LENGTH


class Parameter(NamedTuple):
    """A value in the path, the query or a header."""

    name: str
    place: str
    description: str
    schema: Mapping[str, Any] = {"type": "string"}


class Operation(NamedTuple):
    """A call.

    `codes` are its error codes. `allowed_callers` names security schemes; "" means none.
    """

    endpoint: str
    method: str
    path: str
    tag: str
    summary: str
    description: str
    reply: type[BaseModel] | UnionType | None
    codes: tuple[Code, ...]
    allowed_callers: tuple[str, ...] = ("apiKey", "session")
    body: type[BaseModel] | None = None
    parameters: tuple[Parameter, ...] = ()
    examples: Mapping[str, Example] = {}

    @property
    def id(self) -> str:
        """The name of the call in generated clients."""
        return self.endpoint.rpartition(".")[2]

    @property
    def is_replayed(self) -> bool:
        """Whether a repeated call gets the first reply again."""
        return IDEMPOTENCY_KEY in self.parameters or self.body is SpendRequest


#: The schema of a text that is not empty.
NOT_EMPTY = {"type": "string", "minLength": 1}


def argument(name: str, description: str) -> Parameter:
    """A query parameter with text."""
    return Parameter(
        name, "query", description, NOT_EMPTY | {"maxLength": MAX_ARGUMENT_LENGTHS[name]}
    )


#: The parameters that many calls have in common.
IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    "header",
    "Any text that is unique for each movement. The same key with the same body gets the first "
    "reply again. The same key with another body is an error.",
    {"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH},
)
TEST_OUTCOME = Parameter(
    test_outcomes.HEADER,
    "header",
    "For services of test customers: the reply to get, so that the client's error handling can be "
    "tested. `insufficient`, `unavailable` and `unknown` move and log nothing; `slow` is the real "
    "reply after 5 seconds. For any other caller, the header is an error.",
    {"type": "string", "enum": list(test_outcomes.OUTCOMES)},
)
CUSTOMER_ID = argument(
    "customerId", "The customer. Required if the credential is for all customers."
)

#: Error codes that many calls have in common.
SERVICE_ERRORS = (Code.INTERNAL_ERROR, Code.UNAVAILABLE)
READ_ERRORS = (
    Code.INVALID_REQUEST,
    Code.INVALID_CUSTOMER,
    Code.AUTHENTICATION_REQUIRED,
    Code.FORBIDDEN,
    *SERVICE_ERRORS,
)
BODY_ERRORS = (
    Code.INVALID_REQUEST,
    Code.BODY_TOO_LARGE,
    Code.UNSUPPORTED_MEDIA_TYPE,
    Code.CROSS_ORIGIN,
    Code.OUTCOME_UNKNOWN,
    *SERVICE_ERRORS,
)
LEDGER_ERRORS = (
    Code.INVALID_CUSTOMER,
    Code.AUTHENTICATION_REQUIRED,
    Code.FORBIDDEN,
    *BODY_ERRORS,
)
MOVEMENT_ERRORS = (Code.BUDGET_NOT_FOUND, Code.IDEMPOTENCY_KEY_REUSED, *LEDGER_ERRORS)
