"""Every call of the API: its parameters and body, its replies, its callers and its error codes."""

from __future__ import annotations

from budget_sync.domain.errors import Code
from budget_sync.queries.api import PAGE_SIZE
from budget_sync.queries.events import LATEST
from budget_sync.web.api import MAX_DAYS, REQUEST_STATUSES, WAITING_FOR, Login
from budget_sync.web.events import MAX_WAIT_S
from budget_sync.web.openapi import examples, schemas
from budget_sync.web.openapi.ledger_operations import LEDGER_OPERATIONS
from budget_sync.web.openapi.operation import (
    BODY_ERRORS,
    CUSTOMER_ID,
    NOT_EMPTY,
    READ_ERRORS,
    SERVICE_ERRORS,
    Operation,
    Parameter,
    argument,
)


def _page_size(description: str) -> Parameter:
    return Parameter(
        "limit",
        "query",
        description,
        {"type": "integer", "minimum": 1, "maximum": PAGE_SIZE, "default": PAGE_SIZE},
    )


def _one_of(
    name: str, options: tuple[str, ...], description: str, default: str | None = None
) -> Parameter:
    schema: dict[str, object] = {"type": "string", "enum": list(options)}
    return Parameter(name, "query", description, schema | ({"default": default} if default else {}))


OPERATIONS = (
    *LEDGER_OPERATIONS,
    Operation(
        "api.list_budgets",
        "get",
        "/api/budgets",
        "Budgets",
        "List budgets",
        "The budgets of one customer in pages, ordered by id, without deleted budgets.",
        schemas.BudgetPage,
        READ_ERRORS,
        parameters=(
            CUSTOMER_ID,
            argument("department", "Only budgets of this department."),
            argument(
                "fiscalPeriod",
                "Only budgets of this period, in any spelling. Rejected if a check rejects it.",
            ),
            Parameter(
                "asOf",
                "query",
                "A past day or today. The budgets that were live at the end of that day, in the "
                "customer's time zone, with their balances then, from the audit log. Names and "
                "limits are the present ones.",
                {"type": "string", "format": "date", "examples": ["2025-01-31"]},
            ),
            argument("cursor", "The `nextCursor` of the previous page."),
            _page_size("The maximum number of budgets on the page."),
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
            *SERVICE_ERRORS,
        ),
        parameters=(Parameter("budgetId", "path", "", NOT_EMPTY),),
        examples=examples.GET_BUDGET,
    ),
    Operation(
        "api.list_requests",
        "get",
        "/api/requests",
        "Budgets",
        "List requests",
        "The reservations of one customer in pages: open ones from the oldest, closed ones and all "
        "from the newest. Ordinary users see only their own.",
        schemas.RequestPage,
        READ_ERRORS,
        parameters=(
            CUSTOMER_ID,
            _one_of("status", REQUEST_STATUSES, "Only reservations with this status.", "open"),
            _one_of(
                "waitingFor",
                WAITING_FOR,
                "Only open reservations whose latest check said `REQUIRES_APPROVAL`.",
            ),
            argument("department", "Only reservations on budgets of this department."),
            argument(
                "fiscalPeriod",
                "Only reservations on budgets of this period, in any spelling. Rejected if a check "
                "rejects it.",
            ),
            Parameter(
                "olderThanDays",
                "query",
                "Only reservations that were created more than this number of days ago.",
                {"type": "integer", "minimum": 0, "maximum": MAX_DAYS},
            ),
            argument("cursor", "The `nextCursor` of the previous page."),
            _page_size("The maximum number of reservations on the page."),
        ),
        examples=examples.LIST_REQUESTS,
    ),
    Operation(
        "api.get_request",
        "get",
        "/api/requests/{requestId}",
        "Budgets",
        "Get the timeline of a request",
        "Its checks, reservations and movements, for example after a lost reply. The id may also "
        "be the `spendId` of a spend. Ordinary users see only their own requests, and no spend.",
        schemas.RequestTimeline,
        (Code.REQUEST_NOT_FOUND, Code.NOT_YOUR_REQUEST, *READ_ERRORS),
        parameters=(
            Parameter("requestId", "path", "May contain slashes.", NOT_EMPTY),
            CUSTOMER_ID,
        ),
        examples=examples.GET_REQUEST,
    ),
    Operation(
        "api.list_events",
        "get",
        "/api/events",
        "Events",
        "List events",
        "What happened to the customer, in order, from the beginning or after a cursor. Keep "
        "`nextCursor` and send it as `after`: then no event is missed or given twice. For services "
        "with the scope `read`, FP&A and admins.",
        schemas.EventPage,
        READ_ERRORS,
        parameters=(
            CUSTOMER_ID,
            argument(
                "after",
                f"The `nextCursor` of an earlier reply, or `{LATEST}` for the cursor of now.",
            ),
            argument("types", "Only these types, separated by commas."),
            Parameter(
                "wait",
                "query",
                "If there is no event yet, wait for one, at most this many seconds.",
                {"type": "integer", "minimum": 0, "maximum": MAX_WAIT_S, "default": 0},
            ),
            _page_size("The maximum number of events on the page."),
        ),
        examples=examples.LIST_EVENTS,
    ),
    Operation(
        "api.login",
        "post",
        "/api/auth/login",
        "People",
        "Log in",
        "The reply sets the session cookie.",
        schemas.UserReply,
        (Code.BAD_CREDENTIALS, Code.TOO_MANY_ATTEMPTS, *BODY_ERRORS),
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
        (Code.CROSS_ORIGIN, Code.OUTCOME_UNKNOWN, *SERVICE_ERRORS),
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
        (Code.AUTHENTICATION_REQUIRED, *SERVICE_ERRORS),
        examples=examples.ME,
    ),
    Operation(
        "api.sync_google_sheets",
        "get",
        "/api/cron/sync-google-sheets",
        "Operation",
        "Sync all sources",
        "For schedulers that call over HTTP. Every source has its own result, and one that fails "
        "does not stop the others. The call has a time limit of 50 seconds. During it, another "
        "call on the same machine skips every source.",
        schemas.SyncReply,
        (Code.AUTHENTICATION_REQUIRED, *SERVICE_ERRORS),
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
