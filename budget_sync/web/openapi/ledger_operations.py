"""The calls of the API that check a budget or move money."""

from __future__ import annotations

from budget_sync.domain.errors import Code
from budget_sync.domain.request_models import (
    AmendRequest,
    CheckRequest,
    CommitRequest,
    ReleaseRequest,
    ReserveRequest,
    ReverseRequest,
    SpendRequest,
)
from budget_sync.web.openapi import ledger_examples, ledger_schemas
from budget_sync.web.openapi.operation import (
    IDEMPOTENCY_KEY,
    LEDGER_ERRORS,
    MOVEMENT_ERRORS,
    TEST_OUTCOME,
    Operation,
)

#: The calls that check a budget or move money.
LEDGER_OPERATIONS = (
    Operation(
        "api.check",
        "post",
        "/api/budget/check",
        "Budgets",
        "Check a budget",
        "A check is advice: it moves nothing, and a reserve decides again. Every decision is "
        "logged. A missing budget, an insufficient budget and a required approval are decisions "
        "with status 200, not errors. `BUDGET_CHECK_AUTH` controls checks without credentials.",
        ledger_schemas.CheckReply,
        (Code.NOT_YOUR_REQUEST, *LEDGER_ERRORS),
        allowed_callers=("", "apiKey", "session"),
        body=CheckRequest,
        parameters=(TEST_OUTCOME,),
        examples=ledger_examples.CHECK,
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
        ledger_schemas.ReserveReply,
        (
            *(
                Code.NOT_YOUR_REQUEST,
                Code.OVERSPEND_NOT_ALLOWED,
                Code.INSUFFICIENT_BUDGET,
                Code.REQUEST_CONFLICT,
            ),
            *(Code.RESERVATION_CLOSED, Code.CHECK_REQUIRED, Code.BUDGET_DELETED, *MOVEMENT_ERRORS),
            Code.AMOUNT_TOO_LARGE,
        ),
        body=ReserveRequest,
        parameters=(IDEMPOTENCY_KEY, TEST_OUTCOME),
        examples=ledger_examples.RESERVE,
    ),
    Operation(
        "api.commit",
        "post",
        "/api/budget/commit",
        "Budgets",
        "Commit a reserved amount",
        "Moves the amount from reserved to committed. `final` also releases the rest of the "
        "reservation. If the commit that closed the reservation is sent again, it gets the first "
        "reply again. A partial commit gets it by its Idempotency-Key or its externalRef. The "
        "amount may exceed what the request holds by the customer's invoice tolerance; FP&A, "
        "admins and over-budget approvals may exceed it further.",
        ledger_schemas.CommitReply,
        (
            *(Code.REQUEST_NOT_FOUND, Code.NO_OPEN_RESERVATION, Code.COMMIT_EXCEEDS_RESERVED),
            *(Code.OVERSPEND_NOT_ALLOWED, Code.INSUFFICIENT_BUDGET, Code.EXTERNAL_REF_CONFLICT),
            *(Code.BUDGET_DELETED, Code.AMOUNT_TOO_LARGE, *MOVEMENT_ERRORS),
        ),
        body=CommitRequest,
        parameters=(IDEMPOTENCY_KEY, TEST_OUTCOME),
        examples=ledger_examples.COMMIT,
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
        ledger_schemas.ReleaseReply | ledger_schemas.ReleaseRejected,
        (Code.AMOUNT_EXCEEDS_RESERVED, Code.NOT_YOUR_REQUEST, *MOVEMENT_ERRORS),
        body=ReleaseRequest,
        parameters=(IDEMPOTENCY_KEY, TEST_OUTCOME),
        examples=ledger_examples.RELEASE,
    ),
    Operation(
        "api.amend",
        "post",
        "/api/budget/amend",
        "Budgets",
        "Amend a reservation",
        "Sets the total that a request holds, moves it to another budget, or extends it, in one "
        "step: no other request can take the money in between. More than before needs the "
        "difference to be available. A moved hold keeps its requester and its age, and gets a new "
        "`reservationId`. The same amount again gets the reply to the latest amendment if nothing "
        "has changed since. Ordinary users can amend only their own requests, and raise or move "
        "only what they checked.",
        ledger_schemas.AmendReply,
        (
            *(Code.REQUEST_NOT_FOUND, Code.NOT_YOUR_REQUEST, Code.OVERSPEND_NOT_ALLOWED),
            *(Code.NO_OPEN_RESERVATION, Code.AMEND_OUT_OF_DATE, Code.REQUEST_CONFLICT),
            *(Code.CHECK_REQUIRED, Code.INSUFFICIENT_BUDGET, Code.AMOUNT_TOO_LARGE),
            *(Code.BUDGET_DELETED, *MOVEMENT_ERRORS),
        ),
        body=AmendRequest,
        parameters=(IDEMPOTENCY_KEY, TEST_OUTCOME),
        examples=ledger_examples.AMEND,
    ),
    Operation(
        "api.reverse",
        "post",
        "/api/budget/reverse",
        "Budgets",
        "Reverse a commit",
        "Returns committed money to the budget, or to the hold of its request: at most what the "
        "request has committed on this budget and not yet reversed. `requestId` may be the "
        "`spendId` of a spend, which returns to the budget only. A reversal gets its first reply "
        "again by its Idempotency-Key or its externalRef. Without both, it does if it is sent "
        "again right after itself.",
        ledger_schemas.ReverseReply,
        (
            *(Code.REQUEST_NOT_FOUND, Code.AMOUNT_EXCEEDS_COMMITTED),
            *(Code.EXTERNAL_REF_CONFLICT, *MOVEMENT_ERRORS),
        ),
        body=ReverseRequest,
        parameters=(IDEMPOTENCY_KEY, TEST_OUTCOME),
        examples=ledger_examples.REVERSE,
    ),
    Operation(
        "api.spend",
        "post",
        "/api/budget/spend",
        "Budgets",
        "Record a spend",
        "Records money that was spent without a reservation, such as a card payment or an "
        "expense. It is committed even if that overdraws the budget, and the reply says so. The "
        "`spendId` is the idempotency key: the same id with the same budget, amount and date gets "
        "the first reply again, with others it is an error. Name the budget, or its department "
        "and period.",
        ledger_schemas.SpendReply,
        (Code.BUDGET_DELETED, Code.AMOUNT_TOO_LARGE, *MOVEMENT_ERRORS),
        body=SpendRequest,
        parameters=(TEST_OUTCOME,),
        examples=ledger_examples.SPEND,
    ),
)
