"""Every call of the API: its parameters and body, its replies, its callers and its error codes."""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Any, NamedTuple

from pydantic import BaseModel

from budget_sync.domain.errors import Code
from budget_sync.domain.request_models import (
    CheckRequest,
    CommitRequest,
    ReleaseRequest,
    ReserveRequest,
)
from budget_sync.queries.api import PAGE_SIZE
from budget_sync.web.api import MAX_ARGUMENT_LENGTHS, Login
from budget_sync.web.openapi import examples, schemas
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
    examples: Mapping[str, examples.Example] = {}

    @property
    def id(self) -> str:
        """The name of the call in generated clients."""
        return self.endpoint.rpartition(".")[2]

    @property
    def is_replayed(self) -> bool:
        """Whether a repeated call gets the first reply again."""
        return IDEMPOTENCY_KEY in self.parameters


_NOT_EMPTY = {"type": "string", "minLength": 1}


def _argument(name: str, description: str) -> Parameter:
    """A query parameter with text."""
    return Parameter(
        name, "query", description, _NOT_EMPTY | {"maxLength": MAX_ARGUMENT_LENGTHS[name]}
    )


IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    "header",
    "Any text that is unique for each movement. The same key with the same body gets the first "
    "reply again. The same key with another body is an error.",
    {"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH},
)
_CUSTOMER_ID = _argument(
    "customerId", "The customer. Required if the credential is for all customers."
)

_SERVICE_ERRORS = (Code.INTERNAL_ERROR, Code.UNAVAILABLE)
_READ_ERRORS = (
    Code.INVALID_REQUEST,
    Code.INVALID_CUSTOMER,
    Code.AUTHENTICATION_REQUIRED,
    Code.FORBIDDEN,
    *_SERVICE_ERRORS,
)
_BODY_ERRORS = (
    Code.INVALID_REQUEST,
    Code.BODY_TOO_LARGE,
    Code.UNSUPPORTED_MEDIA_TYPE,
    Code.CROSS_ORIGIN,
    Code.OUTCOME_UNKNOWN,
    *_SERVICE_ERRORS,
)
_LEDGER_ERRORS = (
    Code.INVALID_CUSTOMER,
    Code.AUTHENTICATION_REQUIRED,
    Code.FORBIDDEN,
    *_BODY_ERRORS,
)
_MOVEMENT_ERRORS = (Code.BUDGET_NOT_FOUND, Code.IDEMPOTENCY_KEY_REUSED, *_LEDGER_ERRORS)

OPERATIONS = (
    Operation(
        "api.check",
        "post",
        "/api/budget/check",
        "Budgets",
        "Check a budget",
        "A check is advice: it moves nothing, and a reserve decides again. Every decision is "
        "logged. A missing budget, an insufficient budget and a required approval are decisions "
        "with status 200, not errors. `BUDGET_CHECK_AUTH` controls checks without credentials.",
        schemas.CheckReply,
        (Code.NOT_YOUR_REQUEST, *_LEDGER_ERRORS),
        allowed_callers=("", "apiKey", "session"),
        body=CheckRequest,
        examples=examples.CHECK,
    ),
    Operation(
        "api.reserve",
        "post",
        "/api/budget/reserve",
        "Budgets",
        "Reserve an amount",
        "Reserves the whole amount or nothing. The same request on the same budget with the same "
        "amount gets the first reply again. After its reservation is closed, a late duplicate is "
        "an error until the request is checked again. Ordinary users can reserve only what they "
        "checked.",
        schemas.ReserveReply,
        (
            *(
                Code.NOT_YOUR_REQUEST,
                Code.OVERSPEND_NOT_ALLOWED,
                Code.INSUFFICIENT_BUDGET,
                Code.REQUEST_CONFLICT,
            ),
            *(Code.RESERVATION_CLOSED, Code.CHECK_REQUIRED, Code.BUDGET_DELETED, *_MOVEMENT_ERRORS),
            Code.AMOUNT_TOO_LARGE,
        ),
        body=ReserveRequest,
        parameters=(IDEMPOTENCY_KEY,),
        examples=examples.RESERVE,
    ),
    Operation(
        "api.commit",
        "post",
        "/api/budget/commit",
        "Budgets",
        "Commit a reserved amount",
        "Moves the amount from reserved to committed. `final` also releases the rest of the "
        "reservation. If the commit that closed the reservation is sent again, it gets the first "
        "reply again. For partial commits, send an Idempotency-Key.",
        schemas.CommitReply,
        (
            Code.REQUEST_NOT_FOUND,
            Code.NO_OPEN_RESERVATION,
            Code.INSUFFICIENT_BUDGET,
            Code.BUDGET_DELETED,
            *_MOVEMENT_ERRORS,
        ),
        body=CommitRequest,
        parameters=(IDEMPOTENCY_KEY,),
        examples=examples.COMMIT,
    ),
    Operation(
        "api.release",
        "post",
        "/api/budget/release",
        "Budgets",
        "Release a reserved amount",
        "FP&A and services use `reject` or `manual`. Requesters `cancel` their own requests. If "
        "the amount is more than the request holds, the reply is 200 with `success: false`, and "
        "nothing is moved. If the release that closed the reservation is sent again, it gets the "
        "first reply again. For partial releases, send an Idempotency-Key.",
        schemas.ReleaseReply | schemas.ReleaseRejected,
        (Code.AMOUNT_EXCEEDS_RESERVED, Code.NOT_YOUR_REQUEST, *_MOVEMENT_ERRORS),
        body=ReleaseRequest,
        parameters=(IDEMPOTENCY_KEY,),
        examples=examples.RELEASE,
    ),
    Operation(
        "api.list_budgets",
        "get",
        "/api/budgets",
        "Budgets",
        "List budgets",
        "The budgets of one customer in pages, ordered by id, without deleted budgets.",
        schemas.BudgetPage,
        _READ_ERRORS,
        parameters=(
            _CUSTOMER_ID,
            _argument("department", "Only budgets of this department."),
            _argument(
                "fiscalPeriod",
                "Only budgets of this period, in any spelling. Rejected if a check rejects it.",
            ),
            _argument("cursor", "The `nextCursor` of the previous page."),
            Parameter(
                "limit",
                "query",
                "The maximum number of budgets on the page.",
                {"type": "integer", "minimum": 1, "maximum": PAGE_SIZE, "default": PAGE_SIZE},
            ),
        ),
        examples=examples.LIST_BUDGETS,
    ),
    Operation(
        "api.get_budget",
        "get",
        "/api/budgets/{budgetId}",
        "Budgets",
        "Get a budget",
        "Also finds a deleted budget, which was removed from its sheet or by hand.",
        schemas.Budget,
        (
            Code.BUDGET_NOT_FOUND,
            Code.INVALID_CUSTOMER,
            Code.AUTHENTICATION_REQUIRED,
            Code.FORBIDDEN,
            *_SERVICE_ERRORS,
        ),
        parameters=(Parameter("budgetId", "path", "", _NOT_EMPTY),),
        examples=examples.GET_BUDGET,
    ),
    Operation(
        "api.get_request",
        "get",
        "/api/requests/{requestId}",
        "Budgets",
        "Get the timeline of a request",
        "Its checks, reservations and movements, for example after a lost reply. Ordinary users "
        "see only their own requests.",
        schemas.RequestTimeline,
        (Code.REQUEST_NOT_FOUND, Code.NOT_YOUR_REQUEST, *_READ_ERRORS),
        parameters=(
            Parameter("requestId", "path", "May contain slashes.", _NOT_EMPTY),
            _CUSTOMER_ID,
        ),
        examples=examples.GET_REQUEST,
    ),
    Operation(
        "api.login",
        "post",
        "/api/auth/login",
        "People",
        "Log in",
        "The reply sets the session cookie.",
        schemas.UserReply,
        (Code.BAD_CREDENTIALS, Code.TOO_MANY_ATTEMPTS, *_BODY_ERRORS),
        allowed_callers=("",),
        body=Login,
        examples=examples.LOGIN,
    ),
    Operation(
        "api.logout",
        "post",
        "/api/auth/logout",
        "People",
        "Log out",
        "Ends the session, also for copies of its cookie. Succeeds without a session too.",
        schemas.Done,
        (Code.CROSS_ORIGIN, Code.OUTCOME_UNKNOWN, *_SERVICE_ERRORS),
        allowed_callers=("", "session"),
    ),
    Operation(
        "api.me",
        "get",
        "/api/auth/me",
        "People",
        "Get the caller",
        "The person of the session, or the service of the API key.",
        schemas.UserReply,
        (Code.AUTHENTICATION_REQUIRED, *_SERVICE_ERRORS),
        examples=examples.ME,
    ),
    Operation(
        "api.sync_google_sheets",
        "get",
        "/api/cron/sync-google-sheets",
        "Operation",
        "Sync all sources",
        "For schedulers that call over HTTP. Every source has its own result, and one that fails "
        "does not stop the others. The call has a time limit of 50 seconds.",
        schemas.SyncReply,
        (Code.AUTHENTICATION_REQUIRED, *_SERVICE_ERRORS),
        allowed_callers=("cronSecret",),
        examples=examples.SYNC,
    ),
    Operation(
        "api.healthz",
        "get",
        "/healthz",
        "Operation",
        "Check liveness",
        "The process is running, with the version in the reply. The database may be unreachable.",
        schemas.Status,
        (),
        allowed_callers=("",),
    ),
    Operation(
        "api.readyz",
        "get",
        "/readyz",
        "Operation",
        "Check readiness",
        "The database is reachable and writable, and has this program's schema, and the instance "
        "folder can be used.",
        schemas.Status,
        (Code.UNAVAILABLE,),
        allowed_callers=("",),
    ),
    Operation(
        "metrics.scrape",
        "get",
        "/metrics",
        "Operation",
        "Get metrics",
        "Metrics in the text format of Prometheus. Without the token the reply is 404.",
        None,
        (Code.NOT_FOUND,),
        allowed_callers=("metricsToken",),
    ),
    Operation(
        "openapi.describe",
        "get",
        "/openapi.json",
        "Operation",
        "Get the OpenAPI document",
        "OpenAPI 3.1, generated from the models that validate the bodies. `/docs` is the HTML "
        "page.",
        None,
        (),
        allowed_callers=("",),
    ),
)
