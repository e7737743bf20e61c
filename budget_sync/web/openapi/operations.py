"""Every call that programs make: what it takes, what it answers, whom it lets in, and with which codes it refuses."""

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
from budget_sync.web.api import Login
from budget_sync.web.openapi import examples, schemas
from budget_sync.web.payloads import MAX_KEY_LENGTH


class Parameter(NamedTuple):
    """A value in the path, the query or a header."""

    name: str
    place: str
    description: str
    schema: Mapping[str, Any] = {"type": "string"}


class Operation(NamedTuple):
    """A call. `codes` are its refusals; `lets_in` names security schemes, with "" for a caller without credentials."""

    endpoint: str
    method: str
    path: str
    tag: str
    summary: str
    description: str
    reply: type[BaseModel] | UnionType | None
    codes: tuple[Code, ...]
    lets_in: tuple[str, ...] = ("apiKey", "session")
    body: type[BaseModel] | None = None
    parameters: tuple[Parameter, ...] = ()
    examples: Mapping[str, examples.Example] = {}

    @property
    def id(self) -> str:
        """The name that generated clients give it."""
        return self.endpoint.rpartition(".")[2]

    @property
    def is_replayed(self) -> bool:
        """Whether the same call again gets the first reply again."""
        return IDEMPOTENCY_KEY in self.parameters


_CLEAN = {"type": "string", "minLength": 1}
IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    "header",
    "Any text, once for each movement: the same key with the same body gets the first reply again, with another body it is refused.",
    {"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH},
)
_CUSTOMER_ID = Parameter(
    "customerId", "query", "Whose; required where the credential is for all customers.", _CLEAN
)

_SERVICE = (Code.INTERNAL_ERROR, Code.UNAVAILABLE)
_READING = (
    Code.INVALID_REQUEST,
    Code.INVALID_CUSTOMER,
    Code.AUTHENTICATION_REQUIRED,
    Code.FORBIDDEN,
    *_SERVICE,
)
_BODY = (
    Code.INVALID_REQUEST,
    Code.BODY_TOO_LARGE,
    Code.UNSUPPORTED_MEDIA_TYPE,
    Code.CROSS_ORIGIN,
    Code.OUTCOME_UNKNOWN,
    *_SERVICE,
)
_LEDGER = (Code.INVALID_CUSTOMER, Code.AUTHENTICATION_REQUIRED, Code.FORBIDDEN, *_BODY)
_MOVEMENT = (Code.BUDGET_NOT_FOUND, Code.IDEMPOTENCY_KEY_REUSED, *_LEDGER)

OPERATIONS = (
    Operation(
        "api.check",
        "post",
        "/api/budget/check",
        "Budgets",
        "Could the budget carry the amount?",
        "Advice, logged with the answer given; it moves nothing, and a reserve decides again. No budget, too little money and an approval that is needed "
        "are answers, not refusals. Without credentials only as `BUDGET_CHECK_AUTH` allows.",
        schemas.CheckReply,
        (Code.NOT_YOUR_REQUEST, *_LEDGER),
        lets_in=("", "apiKey", "session"),
        body=CheckRequest,
        examples=examples.CHECK,
    ),
    Operation(
        "api.reserve",
        "post",
        "/api/budget/reserve",
        "Budgets",
        "Set the amount aside for a request",
        "All of it or nothing. The same request on the same budget with the same amount gets the first reply again. Once its reservation is closed, a "
        "late duplicate is refused until the request is checked anew. Ordinary users reserve what they checked.",
        schemas.ReserveReply,
        (
            *(
                Code.NOT_YOUR_REQUEST,
                Code.OVERSPEND_NOT_ALLOWED,
                Code.INSUFFICIENT_BUDGET,
                Code.REQUEST_CONFLICT,
            ),
            *(Code.RESERVATION_CLOSED, Code.CHECK_REQUIRED, Code.BUDGET_DELETED, *_MOVEMENT),
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
        "The money is spent",
        "Moves it from reserved to committed; with `final`, what is left of the reservation is released. The commit that closed its reservation, sent "
        "again, gets the first reply again; for partial ones send an Idempotency-Key.",
        schemas.CommitReply,
        (
            Code.REQUEST_NOT_FOUND,
            Code.NO_OPEN_RESERVATION,
            Code.INSUFFICIENT_BUDGET,
            Code.BUDGET_DELETED,
            *_MOVEMENT,
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
        "Give reserved money back",
        "FP&A and services reject, or release by hand; requesters cancel what is theirs. More than the request holds is answered with 200 and "
        "`success: false`, and nothing is moved. The release that closed its reservation, sent again, gets the first reply again; for partial ones send an "
        "Idempotency-Key.",
        schemas.ReleaseReply | schemas.ReleaseRejected,
        (Code.AMOUNT_EXCEEDS_RESERVED, Code.NOT_YOUR_REQUEST, *_MOVEMENT),
        body=ReleaseRequest,
        parameters=(IDEMPOTENCY_KEY,),
        examples=examples.RELEASE,
    ),
    Operation(
        "api.list_budgets",
        "get",
        "/api/budgets",
        "Budgets",
        "Budgets and where they stand",
        "The live budgets of one customer, by id, a page at a time.",
        schemas.BudgetPage,
        _READING,
        parameters=(
            _CUSTOMER_ID,
            Parameter("department", "query", "Of this department alone.", _CLEAN),
            Parameter(
                "fiscalPeriod", "query", "Of this period alone, however it is spelled.", _CLEAN
            ),
            Parameter("cursor", "query", "The page before's `nextCursor`.", _CLEAN),
            Parameter(
                "limit",
                "query",
                "How many at most.",
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
        "One budget",
        "Those that were taken out of their sheet included.",
        schemas.Budget,
        (
            Code.BUDGET_NOT_FOUND,
            Code.INVALID_CUSTOMER,
            Code.AUTHENTICATION_REQUIRED,
            Code.FORBIDDEN,
            *_SERVICE,
        ),
        parameters=(Parameter("budgetId", "path", "", _CLEAN),),
        examples=examples.GET_BUDGET,
    ),
    Operation(
        "api.get_request",
        "get",
        "/api/requests/{requestId}",
        "Budgets",
        "Where a request stands",
        "Its checks, reservations and movements: what to ask after a lost reply. Ordinary users see what is theirs.",
        schemas.RequestTimeline,
        (Code.REQUEST_NOT_FOUND, Code.NOT_YOUR_REQUEST, *_READING),
        parameters=(Parameter("requestId", "path", "May hold slashes.", _CLEAN), _CUSTOMER_ID),
        examples=examples.GET_REQUEST,
    ),
    Operation(
        "api.login",
        "post",
        "/api/auth/login",
        "People",
        "Sign a person in",
        "The reply sets the session cookie.",
        schemas.UserReply,
        (Code.BAD_CREDENTIALS, Code.TOO_MANY_ATTEMPTS, *_BODY),
        lets_in=("",),
        body=Login,
        examples=examples.LOGIN,
    ),
    Operation(
        "api.logout",
        "post",
        "/api/auth/logout",
        "People",
        "Sign out",
        "Ends the session for every copy of its cookie; without one there is nothing to end.",
        schemas.Done,
        (Code.CROSS_ORIGIN, Code.OUTCOME_UNKNOWN, *_SERVICE),
        lets_in=("", "session"),
    ),
    Operation(
        "api.me",
        "get",
        "/api/auth/me",
        "People",
        "Who am I?",
        "Whose session or key was sent.",
        schemas.UserReply,
        (Code.AUTHENTICATION_REQUIRED, *_SERVICE),
        examples=examples.ME,
    ),
    Operation(
        "api.sync_google_sheets",
        "get",
        "/api/cron/sync-google-sheets",
        "Operation",
        "A pass over every source",
        "For schedulers that call over HTTP. One source's failure is its own result, and the call's deadline is 50 seconds.",
        schemas.SyncReply,
        (Code.AUTHENTICATION_REQUIRED, *_SERVICE),
        lets_in=("cronSecret",),
        examples=examples.SYNC,
    ),
    Operation(
        "api.healthz",
        "get",
        "/healthz",
        "Operation",
        "Alive",
        "The process answers, whatever the database does.",
        schemas.Status,
        (),
        lets_in=("",),
    ),
    Operation(
        "api.readyz",
        "get",
        "/readyz",
        "Operation",
        "Able to serve",
        "The database can be reached, has this program's schema, and is open to be written.",
        schemas.Status,
        (Code.UNAVAILABLE,),
        lets_in=("",),
    ),
    Operation(
        "metrics.scrape",
        "get",
        "/metrics",
        "Operation",
        "Figures for Prometheus",
        "In its text format. Without the token there is nothing here.",
        None,
        (Code.NOT_FOUND,),
        lets_in=("metricsToken",),
    ),
    Operation(
        "openapi.describe",
        "get",
        "/openapi.json",
        "Operation",
        "This document",
        "OpenAPI 3.1, made from the models that check the bodies. `/docs` has it as a page.",
        None,
        (),
        lets_in=("",),
    ),
)
