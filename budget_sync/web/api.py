"""The JSON API. Each view authenticates the caller, parses the request and calls one function."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Annotated

from flask import Blueprint, Response, current_app, request
from flask.blueprints import BlueprintSetupState
from pydantic import AfterValidator, Field
from werkzeug.routing import PathConverter

import budget_sync
from budget_sync import database, ledger, sync
from budget_sync.accounts import passwords
from budget_sync.accounts.customers import get_customer
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.permissions import Actor
from budget_sync.domain.request_models import (
    AmendRequest,
    Body,
    CheckRequest,
    CommitRequest,
    ReleaseRequest,
    ReserveRequest,
    ReverseRequest,
    SpendRequest,
    clean,
)
from budget_sync.queries import api as api_queries
from budget_sync.queries.events import (
    LATEST,
    Cursor,
    EventPage,
    latest_cursor,
    parse_cursor,
    parse_types,
)
from budget_sync.queries.request_query import RequestQuery
from budget_sync.runtime.slots import try_file_lock
from budget_sync.settings import Settings
from budget_sync.web import auth
from budget_sync.web.auth import require_user, require_user_or_local
from budget_sync.web.events import MAX_WAIT_S, await_events
from budget_sync.web.payloads import error_response, idempotency_key, json_response, parse, respond
from budget_sync.web.server_interface import runs_on_event_loop
from budget_sync.web.test_outcomes import chosen_reply

api = Blueprint("api", __name__)


#: The most characters of each query parameter.
MAX_ARGUMENT_LENGTHS = {
    "customerId": 100,
    "department": 200,
    "fiscalPeriod": 100,
    "asOf": 100,
    "cursor": 200,
    "after": 100,
    "types": 1000,
    "wait": 10,
    "limit": 100,
    "status": 100,
    "waitingFor": 100,
    "olderThanDays": 100,
}

#: The values of `status` and `waitingFor` in a search for requests.
REQUEST_STATUSES = ("open", "closed", "all")
WAITING_FOR = ("approval",)

#: The largest `olderThanDays`.
MAX_DAYS = 36_500


class _AnyText(PathConverter):
    """A part of a URL path that may be any text, with line breaks and leading slashes."""

    part_isolating = False
    regex = r"(?s:.+?)"


@api.record_once
def _accept_any_text(state: BlueprintSetupState) -> None:
    state.app.url_map.converters["text"] = _AnyText
    # Two slashes in a row are part of a request's id.
    state.app.url_map.merge_slashes = False


class Login(Body):
    """Email and password of a person."""

    email: Annotated[str, Field(max_length=254), AfterValidator(clean)]
    password: Annotated[str, Field(max_length=1000), AfterValidator(clean)]


@api.before_request
def _connect() -> None:
    # The health checks reply even if the database is unreachable.
    if request.endpoint not in ("api.healthz", "api.readyz"):
        database.open_connection()


@api.post("/api/budget/check")
@runs_on_event_loop
def check() -> Response:
    """Check whether a budget has an amount available."""
    started_ns = time.perf_counter_ns()
    actor, body = require_user_or_local(), parse(CheckRequest)
    return respond(chosen_reply(actor, body) or ledger.check(actor, body, started_ns=started_ns))


@api.post("/api/budget/reserve")
@runs_on_event_loop
def reserve() -> Response:
    """Reserve money for a request."""
    actor, body = require_user(), parse(ReserveRequest)
    return respond(
        chosen_reply(actor, body) or ledger.reserve(actor, body, idempotency_key=idempotency_key())
    )


@api.post("/api/budget/commit")
@runs_on_event_loop
def commit() -> Response:
    """Move reserved money to committed."""
    actor, body = require_user(), parse(CommitRequest)
    return respond(
        chosen_reply(actor, body) or ledger.commit(actor, body, idempotency_key=idempotency_key())
    )


@api.post("/api/budget/release")
@runs_on_event_loop
def release() -> Response:
    """Return reserved money to the budget."""
    actor, body = require_user(), parse(ReleaseRequest)
    return respond(
        chosen_reply(actor, body) or ledger.release(actor, body, idempotency_key=idempotency_key())
    )


@api.post("/api/budget/amend")
@runs_on_event_loop
def amend() -> Response:
    """Change what a request holds, move it to another budget, or extend it."""
    actor, body = require_user(), parse(AmendRequest)
    return respond(
        chosen_reply(actor, body) or ledger.amend(actor, body, idempotency_key=idempotency_key())
    )


@api.post("/api/budget/reverse")
@runs_on_event_loop
def reverse() -> Response:
    """Return committed money."""
    actor, body = require_user(), parse(ReverseRequest)
    return respond(
        chosen_reply(actor, body) or ledger.reverse(actor, body, idempotency_key=idempotency_key())
    )


@api.post("/api/budget/spend")
@runs_on_event_loop
def spend() -> Response:
    """Record money that was spent without a reservation."""
    actor, body = require_user(), parse(SpendRequest)
    return respond(chosen_reply(actor, body) or ledger.spend(actor, body))


@api.get("/api/budgets")
def list_budgets() -> Response:
    """List the budgets of a customer, without deleted ones; today or as of a past day."""
    actor = require_user()
    page = api_queries.list_budgets(
        actor,
        customer_id=_argument("customerId"),
        department=_argument("department"),
        fiscal_period=_argument("fiscalPeriod"),
        as_of_day=_argument("asOf"),
        cursor=_argument("cursor"),
        limit=_limit(),
    )
    return json_response(page)


@api.get("/api/budgets/<budget_id>")
def get_budget(budget_id: str) -> Response:
    """Get a budget."""
    return json_response(api_queries.get_budget(require_user(), budget_id))


@api.get("/api/requests")
def list_requests() -> Response:
    """List the reservations of a customer with their requests."""
    actor = require_user()
    query = RequestQuery(
        status=_choice("status", REQUEST_STATUSES) or "open",
        waits_for_approval=_choice("waitingFor", WAITING_FOR) is not None,
        department=_argument("department") or "",
        period=_argument("fiscalPeriod") or "",
        older_than_days=_number("olderThanDays", 0, MAX_DAYS),
    )
    page = api_queries.list_requests(
        actor,
        query,
        customer_id=_argument("customerId"),
        cursor=_argument("cursor"),
        limit=_limit(),
    )
    return json_response(page)


@api.get("/api/requests/<text:request_id>")
def get_request(request_id: str) -> Response:
    """Get the timeline of a request."""
    return json_response(
        api_queries.get_request(require_user(), request_id, customer_id=_argument("customerId"))
    )


@api.get("/api/events")
@runs_on_event_loop
def list_events() -> Response:
    """List what happened to a customer, in order; wait for it if nothing did yet."""
    actor = require_user()
    after, types = _argument("after"), _argument("types")
    limit, wait_s = _limit(), _number("wait", 0, MAX_WAIT_S) or 0
    wanted = None if types is None else parse_types(types)
    customer = api_queries.customer_for(actor, _argument("customerId"))
    if after == LATEST:
        page = EventPage([], latest_cursor(actor, customer), has_more=False)
    else:
        cursor = Cursor() if after is None else parse_cursor(after)
        page = await_events(actor, customer, cursor, limit, wanted, wait_s)
    return json_response(page.to_json())


@api.post("/api/auth/login")
def login() -> Response:
    """Sign a person in. The reply sets the session cookie."""
    auth.require_same_origin()
    body = parse(Login)
    return json_response({"success": True, "user": _me(auth.log_in(body.email, body.password))})


@api.post("/api/auth/logout")
def logout() -> Response:
    """End the caller's session."""
    auth.log_out()
    return json_response({"success": True})


@api.get("/api/auth/me")
def me() -> Response:
    """Get the caller's identity."""
    return json_response({"success": True, "user": _me(require_user())})


#: Time limits of the cron call: first for expired reservations, then for the sources. Gunicorn and
#: most proxies time out after 60 seconds or more.
EXPIRY_DEADLINE_S = 5.0
CRON_DEADLINE_S = 45.0

#: Sources to fetch in parallel, so that a slow one does not use up the time of the others.
CRON_WORKERS = 8


@api.get("/api/cron/sync-google-sheets")
def sync_google_sheets() -> Response:
    """Sync every source, and return one result each. HEAD succeeds without syncing.

    One call runs at a time on this machine. Another one skips all sources, and records nothing.
    """
    settings: Settings = current_app.config["SETTINGS"]
    _require_cron(settings)
    if request.method == "HEAD":
        return json_response({"success": True})
    job = sync.Job(
        sync.cron_actor(),
        sync.Reach.of(settings),
        settings.instance_folder,
        child_database=sync.Database.of(settings),
    )
    with ExitStack() as stack:
        try:
            lock = try_file_lock(settings.instance_folder / "cron.lock")
            is_only_call = stack.enter_context(lock)
        except RequestError:
            # The folder cannot be used, which the result of each source says.
            is_only_call = True
        if is_only_call:
            sync.expire_before_sync(job, deadline_s=EXPIRY_DEADLINE_S)
            results = list(sync.sync_all(job, deadline_s=CRON_DEADLINE_S, workers=CRON_WORKERS))
        else:
            results = sync.skip_all(job, "Another call to sync all sources is in progress.")
    return json_response({"success": True, "results": [result.to_json() for result in results]})


def _require_cron(settings: Settings) -> None:
    """Raises RequestError AUTHENTICATION_REQUIRED unless the bearer token is the cron secret."""
    if not auth.has_bearer_token(settings.cron_secret):
        raise RequestError(
            Code.AUTHENTICATION_REQUIRED,
            "Authentication required: send the CRON_SECRET as a bearer token.",
        )


@api.get("/healthz")
def healthz() -> Response:
    """Liveness: the process is running. Also says which version it runs."""
    return json_response({"status": "ok", "version": budget_sync.__version__})


@api.get("/readyz")
def readyz() -> Response:
    """Readiness: the database is reachable and writable, with this program's schema; sign-in works.

    Signing in needs the instance folder.
    """
    settings: Settings = current_app.config["SETTINGS"]
    try:
        database.require_current_schema()
        database.require_writable()
        passwords.require_slots(settings.instance_folder)
    except (database.DatabaseUnusableError, RequestError) as problem:
        current_app.logger.warning("Not ready: %s (%s)", problem, problem.__cause__ or "no cause")
        return error_response(
            RequestError(
                Code.UNAVAILABLE,
                "The service is not ready. Try again later; the log has the reason.",
                retryAfter=5,
            )
        )
    return json_response({"status": "ready"})


def _me(actor: Actor) -> dict[str, object]:
    return {
        "id": actor.user_id,
        "name": actor.name,
        "email": actor.email,
        "role": actor.role,
        "customerId": actor.customer_id,
        "isTest": actor.customer_id is not None and get_customer(actor.customer_id).isTest,
    }


def _argument(name: str) -> str | None:
    """A query parameter, if given.

    Raises RequestError INVALID_REQUEST if it is repeated, blank or too long, or has NUL or invalid
    Unicode.
    """
    values, max_length = request.args.getlist(name), MAX_ARGUMENT_LENGTHS[name]
    if len(values) > 1:
        raise invalid_request({name: "must be given only once"})
    if values:
        if len(values[0]) > max_length:
            raise invalid_request({name: f"must have at most {max_length} characters"})
        try:
            clean(values[0])
        except ValueError as error:
            raise invalid_request({name: str(error)}) from None
    return values[0] if values else None


def _choice(name: str, options: tuple[str, ...]) -> str | None:
    """A query parameter with one of these values, if given."""
    value = _argument(name)
    if value not in (None, *options):
        raise invalid_request({name: f"must be one of {', '.join(options)}"})
    return value


def _number(name: str, least: int, most: int) -> int | None:
    """A query parameter with a whole number, if given."""
    text = _argument(name)
    if text is None:
        return None
    is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(most))
    if not is_number or not least <= int(text) <= most:
        raise invalid_request({name: f"must be a whole number from {least} to {most}"})
    return int(text)


def _limit() -> int:
    return _number("limit", 1, api_queries.PAGE_SIZE) or api_queries.PAGE_SIZE
