"""The OpenAPI document matches the service: its calls, examples, replies and error codes."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import peewee
import pytest
from database.test_faults import moved_away
from flask import Flask
from flask.testing import FlaskClient
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import TypeAdapter
from support.damage import without_checks
from support.installation import Installation, found
from support.sources import add_file
from support.world import (
    ROOT,
    amend_body,
    cheap_hash,
    check_body,
    commit_body,
    key_headers,
    release_body,
    reserve_body,
    reverse_body,
    spend_body,
)
from werkzeug.test import TestResponse

from budget_sync import database, ledger, manual_budgets, settings
from budget_sync.accounts import authentication, customers, people
from budget_sync.database.models import Customer, LoginAttempt, Session, User
from budget_sync.domain import clock
from budget_sync.domain.errors import MEANINGS, Code
from budget_sync.domain.permissions import Role
from budget_sync.domain.request_models import CommitRequest, ReserveRequest
from budget_sync.web.openapi.document import document, status_of
from budget_sync.web.openapi.operation import Operation
from budget_sync.web.openapi.operations import OPERATIONS
from budget_sync.web.openapi.schemas import ErrorReply
from budget_sync.web.payloads import STATUSES

Json = dict[str, Any]

CRON_SECRET, METRICS_TOKEN = "a secret for cron", "a token for metrics"
PASSWORD = "correct horse battery staple"
BY_ID = {operation.id: operation for operation in OPERATIONS}
BUDGET_BODIES = [
    operation.body.__name__
    for operation in OPERATIONS
    if operation.body and operation.path.startswith("/api/budget/")
]


@cache
def api_document() -> Json:
    """The OpenAPI document, as a client reads it."""
    parsed: Json = json.loads(json.dumps(document()))
    return parsed


def described_operation(operation: Operation) -> Json:
    """The description of a call in the document."""
    part: Json = api_document()["paths"][operation.path][operation.method]
    return part


def assert_valid(schema: Json, value: object) -> None:
    """Assert that a value matches a schema of the document."""
    errors = [error.message for error in validator(json.dumps(schema)).iter_errors(value)]
    assert errors == [], value


@cache
def validator(schema: str) -> OAS31Validator:
    """A validator for a schema of the document."""
    return OAS31Validator(json.loads(schema) | {"components": api_document()["components"]})


# The document itself.


def test_document_is_valid_openapi_3_1(app: Flask) -> None:
    response = app.test_client().get("/openapi.json")
    assert (response.status_code, response.mimetype) == (200, "application/json")
    assert response.get_json() == api_document()
    assert [error.message for error in OpenAPIV31SpecValidator(api_document()).iter_errors()] == []
    assert api_document()["openapi"].startswith("3.1.")


def test_document_and_routes_have_the_same_calls(app: Flask) -> None:
    def as_path(rule: str) -> str:
        return re.sub(r"<(?:\w+:)?(\w+?)_id>", r"{\1Id}", rule)

    routes = {
        (rule.endpoint, method.lower(), as_path(rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        # Pages for people and static files are not in the document.
        if rule.endpoint.partition(".")[0] not in {"console", "static"}
        and rule.endpoint not in {"openapi.read", "openapi.read_guide"}
    }
    assert {
        (operation.endpoint, operation.method, operation.path) for operation in OPERATIONS
    } == routes
    assert len(BY_ID) == len(OPERATIONS)
    assert {
        (method, path) for path, methods in api_document()["paths"].items() for method in methods
    } == {(method, path) for _, method, path in routes}


def test_document_lists_every_code_with_its_status() -> None:
    listed = re.findall(
        r"^- `(\w+)` \((\d+)\): (.*)$",
        api_document()["components"]["schemas"]["Code"]["description"],
        flags=re.MULTILINE,
    )
    assert listed == [
        (code.value, str(STATUSES.get(code, 200)), meaning) for code, meaning in MEANINGS.items()
    ]
    # Errors before a request reaches a call.
    before_calls = {Code.METHOD_NOT_ALLOWED, Code.HTTP_ERROR}
    decisions = {Code.AUTO_APPROVED, Code.REQUIRES_APPROVAL, Code.NO_BUDGET}
    assert {code for operation in OPERATIONS for code in operation.codes} == set(
        Code
    ) - before_calls - decisions
    assert not any(code in STATUSES for code in decisions)


def test_every_example_matches_its_schema() -> None:
    count = 0
    for operation in OPERATIONS:
        part = described_operation(operation)
        contents = [response["content"] for response in part["responses"].values()] + (
            [part["requestBody"]["content"]] if operation.body else []
        )
        for content in contents:
            for kind, media in content.items():
                for example in media.get("examples", {}).values():
                    assert_valid(media["schema"], example["value"])
                    assert kind == "application/json"
                    count += 1
    assert count > 100


def test_amounts_are_numbers_greater_than_0() -> None:
    for name in BUDGET_BODIES:
        field = api_document()["components"]["schemas"][name]["properties"]["amount"]
        field = next(iter(field.get("anyOf", []))) | field if "anyOf" in field else field
        assert (field["type"], field["exclusiveMinimum"]) == ("number", 0)
        assert "whole currency units" in field["description"].lower()


def test_session_cookie_has_the_documented_name(app: Flask) -> None:
    assert (
        api_document()["components"]["securitySchemes"]["session"]["name"]
        == app.config["SESSION_COOKIE_NAME"]
    )


def test_docs_page_has_every_call_field_and_code(app: Flask) -> None:
    response = app.test_client().get("/docs")
    assert (response.status_code, response.mimetype) == (200, "text/html")
    assert response.headers["Content-Security-Policy"].startswith("default-src 'self';")
    text = html.unescape(re.sub(r"<[^>]+>", "", response.text))
    schemas = api_document()["components"]["schemas"].values()
    fields = {name for schema in schemas for name in schema.get("properties", {})}
    expected = (
        {operation.path for operation in OPERATIONS}
        | {operation.summary for operation in OPERATIONS}
        | set(Code)
        | set(MEANINGS.values())
        | fields
    )
    expected |= {
        example.summary for operation in OPERATIONS for example in operation.examples.values()
    }
    assert {each for each in expected if each.replace("`", "") not in text} == set()
    assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=", response.text)


# The guide's customer and budget.


@pytest.fixture
def environment(environment: dict[str, str]) -> dict[str, str]:
    """An installation with a cron secret and a metrics token."""
    return environment | {"CRON_SECRET": CRON_SECRET, "METRICS_TOKEN": METRICS_TOKEN}


@pytest.fixture
def world(app: Flask, chosen: settings.Settings) -> Flask:
    """Customer org-456 with people, a CSV source, and budget-123 with 5,000 committed."""
    customers.add_customer(ROOT, "org-456", "Acme Inc.", auto_approve_limit_minor=1_000_000)
    manual_budgets.set_budget(
        ROOT, "org-456", "Engineering", "Q1 2025", Decimal(100_000), budget_id="budget-123"
    )
    spend(5000)
    member(app, "user-123", "Jane Doe", "jane@acme.com", Role.BUSINESS_USER)
    member(app, "fpa-001", "Fiona Adams", "fiona@acme.com", Role.FPA_ADMIN)
    chosen.csv_folder.mkdir()
    (chosen.csv_folder / "budgets.csv").write_text(
        "Department,Fiscal Period,Budgeted Amount\nSales,2025,10\n", encoding="utf-8"
    )
    add_file("org-456", chosen.csv_folder, "budgets.csv")
    return app


def member(app: Flask, user_id: str, name: str, email: str, role: Role) -> None:
    """Add a person with a session and a cheap password hash."""
    people.add_user(
        ROOT,
        user_id,
        name,
        email,
        role,
        customer_id="org-456",
        password=None,
        slots_folder=Path(app.instance_path),
    )
    User.update(passwordHash=cheap_hash(PASSWORD)).where(User.id == user_id).execute()
    Session.insert(
        tokenHash=authentication.digest(user_id),
        userId=user_id,
        createdAt=clock.now(),
        expiresAt=clock.now() + authentication.SESSION_LIFETIME,
    ).execute()


def signed_in(app: Flask, user_id: str) -> FlaskClient:
    """A client with that person's session."""
    client = app.test_client()
    with client.session_transaction() as cookie:
        cookie["_user_id"] = user_id
    return client


def spend(amount: int) -> None:
    """Commit an amount of the budget."""
    hold(f"spent-{amount}", Decimal(amount))
    ledger.commit(
        ROOT,
        CommitRequest(budget_id="budget-123", request_id=f"spent-{amount}", amount=Decimal(amount)),
    )


def hold(request_id: str, amount: Decimal = Decimal(5000), user_id: str = "user-123") -> None:
    """Reserve an amount of the budget."""
    ledger.reserve(
        ROOT,
        ReserveRequest(
            budget_id="budget-123", request_id=request_id, amount=amount, user_id=user_id
        ),
    )


# Examples.


def spend_all_but_2000() -> None:
    """Scenario 3 of the guide: 2,000 are available."""
    spend(93_000)


def lower_the_limit() -> None:
    """Scenario 2 of the guide: the amount is above the auto-approve limit."""
    Customer.update(autoApproveLimitMinor=100_000).execute()


def raise_budget_by_2000() -> None:
    """Scenario 4 of the guide: it ends with 97,000 available."""
    manual_budgets.set_budget(ROOT, "org-456", "Engineering", "Q1 2025", Decimal(102_000))
    hold("intake-789")


def hold_the_amount() -> None:
    """The orchestrator has reserved the amount."""
    hold("intake-789")


def spend_the_amount() -> None:
    """The reservation was committed."""
    hold("intake-789")
    ledger.commit(
        ROOT,
        CommitRequest(budget_id="budget-123", request_id="intake-789", amount=Decimal(5000)),
    )


def add_marketing() -> None:
    """The orchestrator has reserved the amount, and Marketing has a budget of 20,000."""
    hold("intake-789")
    manual_budgets.set_budget(
        ROOT, "org-456", "Marketing", "Q1 2025", Decimal(20_000), budget_id="budget-456"
    )


def let_holds_expire() -> None:
    """The orchestrator has reserved the amount, which now expires after 90 days."""
    hold("intake-789")
    Customer.update(holdDays=90).execute()


def nothing() -> None:
    """Change nothing."""


#: The setup of examples that need one.
SETUP: dict[tuple[str, str], Callable[[], None]] = {
    ("check", "requiresApproval"): lower_the_limit,
    ("check", "insufficient"): spend_all_but_2000,
    ("reserve", "overBudget"): spend_all_but_2000,
    ("commit", "commit"): hold_the_amount,
    ("commit", "final"): hold_the_amount,
    ("commit", "exceeds"): hold_the_amount,
    ("amend", "amend"): hold_the_amount,
    ("amend", "move"): add_marketing,
    ("amend", "extend"): let_holds_expire,
    ("reverse", "creditNote"): spend_the_amount,
    ("reverse", "wrongInvoice"): spend_the_amount,
    ("list_requests", "waiting"): lower_the_limit,
    ("release", "reject"): raise_budget_by_2000,
    ("release", "cancel"): hold_the_amount,
    ("release", "exceedsReserved"): hold_the_amount,
}
EXAMPLES = [
    (operation, name)
    for operation in OPERATIONS
    for name in operation.examples
    if operation.id != "sync_google_sheets"
]


@pytest.mark.parametrize(
    ("operation", "name"), EXAMPLES, ids=[f"{operation.id}-{name}" for operation, name in EXAMPLES]
)
def test_example_matches_real_reply(world: Flask, operation: Operation, name: str) -> None:
    SETUP.get((operation.id, name), nothing)()
    client, key = world.test_client(), key_headers(may_overspend=True)
    if operation.id in {"get_request", "list_requests"}:
        for path, body in (("check", check_body()), ("reserve", reserve_body())):
            assert client.post(f"/api/budget/{path}", json=body, headers=key).status_code == 200
    if operation.id == "me":
        client, key = signed_in(world, "fpa-001"), {}
    example = operation.examples[name]
    path = operation.path.format(budgetId="budget-123", requestId="intake-789")
    response = client.open(path, method=operation.method.upper(), json=example.request, headers=key)
    assert response.status_code == 200, response.text
    assert plain(json.loads(response.text, parse_float=Decimal)) == plain(
        json.loads(json.dumps(example.reply), parse_float=Decimal)
    )


def plain(value: Any) -> Any:
    """A reply without new ids and times."""
    if isinstance(value, dict):
        return {
            name: "…"
            if name in {"checkId", "reservationId", "createdAt", "timestamp", "nextCursor"}
            or (name == "expiresAt" and inner)
            else plain(inner)
            for name, inner in value.items()
            if name != "items"
        } | (
            {
                "items": [
                    plain(item) for item in value["items"] if item.get("id") in {None, "budget-123"}
                ]
            }
            if "items" in value
            else {}
        )
    return [plain(item) for item in value] if isinstance(value, list) else value


# Every reply and error code of every call.


class ApiChecker:
    """Sends requests and checks each reply against the document."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.client = app.test_client()
        self.key = key_headers(may_overspend=True)
        self.codes: set[tuple[str, Code | None]] = set()
        self.number = 0

    def new_id(self) -> str:
        """A new request id."""
        self.number += 1
        return f"request-{self.number}"

    def held_id(self) -> str:
        """The id of a new request that holds 5."""
        request_id = self.new_id()
        hold(request_id, Decimal(5))
        return request_id

    def committed_id(self) -> str:
        """The id of a new request that has committed 5."""
        request_id = self.held_id()
        request = CommitRequest(
            budget_id="budget-123", request_id=request_id, amount=Decimal(5), final=True
        )
        ledger.commit(ROOT, request)
        return request_id

    def valid_body(self, operation: Operation) -> Json | None:
        """A body with which the call succeeds."""
        bodies: dict[str, Callable[[], Json]] = {
            "check": lambda: check_body(requestId=self.new_id()),
            "reserve": lambda: reserve_body(requestId=self.new_id(), amount=5),
            "commit": lambda: commit_body(requestId=self.held_id(), amount=5),
            "release": lambda: release_body(requestId=self.held_id(), amount=5),
            "amend": lambda: amend_body(requestId=self.held_id(), amount=6),
            "reverse": lambda: reverse_body(requestId=self.committed_id(), amount=5),
            "spend": lambda: spend_body(spendId=self.new_id(), amount=5),
            "login": lambda: {"email": "fiona@acme.com", "password": PASSWORD},
        }
        return bodies[operation.id]() if operation.id in bodies else None

    def credentials(self, operation: Operation) -> Mapping[str, str]:
        """The headers of the first credential that the call accepts, if any."""
        known = {
            "apiKey": self.key,
            "cronSecret": bearer(CRON_SECRET),
            "metricsToken": bearer(METRICS_TOKEN),
        }
        return next((known[scheme] for scheme in operation.allowed_callers if scheme in known), {})

    def send(
        self,
        operation: Operation,
        code: Code | None = None,
        *,
        client: FlaskClient | None = None,
        headers: Mapping[str, str] | None = None,
        body: object = ...,
        query: str = "",
        budget_id: str = "budget-123",
        request_id: str = "spent-5000",
        **options: Any,
    ) -> TestResponse:
        """Send a call, and check its reply: a success, or an error with this code."""
        if "data" not in options:
            options["json"] = self.valid_body(operation) if body is ... else body
        sent_headers = self.credentials(operation) if headers is None else headers
        path = operation.path.format(budgetId=budget_id, requestId=request_id) + query
        response = (client or self.client).open(
            path, method=operation.method.upper(), headers=sent_headers, **options
        )
        self.check(operation, response, code)
        return response

    def check(self, operation: Operation, response: TestResponse, code: Code | None) -> None:
        """Assert that the status, headers and body match the document for this code."""
        assert response.status_code == (200 if code is None else status_of(code)), (
            operation.id,
            code,
            response.text,
        )
        response_spec = described_operation(operation)["responses"][str(response.status_code)]
        assert response.mimetype in response_spec["content"]
        media = response_spec["content"][response.mimetype]
        for name in set(response_spec["headers"]) - {"Idempotent-Replayed"}:
            assert name in response.headers, (operation.id, code, name)
        assert set(response.headers) & set(api_document()["components"]["headers"]) <= set(
            response_spec["headers"]
        )
        self.codes.add((operation.id, code))
        if response.mimetype != "application/json":
            return
        data = response.get_json()
        assert_valid(media["schema"], data)
        if operation.reply is not None or code is not None:
            # The models forbid unknown fields.
            data_as_decimal = json.loads(response.text, parse_float=Decimal)
            model: Any = operation.reply if response.status_code == 200 else ErrorReply
            TypeAdapter(model).validate_python(data_as_decimal)
        if code is not None:
            assert data["code"] == code
            example = media["examples"].get(code) or media["examples"]["exceedsReserved"]
            extra = set(data) - set(example["value"])
            assert not extra, f"the example of {code} lacks {extra}"


def bearer(secret: str) -> dict[str, str]:
    """A bearer token."""
    return {"Authorization": f"Bearer {secret}"}


def calls(with_code: Code) -> list[Operation]:
    """The calls with this error code."""
    return [operation for operation in OPERATIONS if with_code in operation.codes]


def test_every_documented_reply_and_error_occurs(
    world: Flask, chosen: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = ApiChecker(world)
    check_successes(api)
    check_request_errors(api)
    check_caller_errors(api)
    check_ledger_errors(api)
    check_amend_errors(api)
    check_errors_of_spent_money(api)
    check_errors_of_a_deleted_budget(api)
    check_login_errors(api)
    check_service_failures(api, chosen, monkeypatch)
    documented = {
        (operation.id, code) for operation in OPERATIONS for code in (None, *operation.codes)
    }
    assert api.codes == documented


def check_successes(api: ApiChecker) -> None:
    """Every call succeeds, as a service and as a person."""
    fiona = signed_in(api.app, "fpa-001")
    for operation in OPERATIONS:
        api.send(operation)
        if "session" in operation.allowed_callers and operation.id != "logout":
            api.send(operation, client=fiona, headers={})
    api.send(BY_ID["logout"], client=signed_in(api.app, "fpa-001"), headers={})
    Session.insert(
        tokenHash=authentication.digest("fpa-001"),
        userId="fpa-001",
        createdAt=clock.now(),
        expiresAt=clock.now() + authentication.SESSION_LIFETIME,
    ).execute()
    for changes in (
        {"amount": 50_000},
        {"amount": 500_000},
        {"department": "Legal"},
        {"requestId": api.held_id()},
    ):
        api.send(BY_ID["check"], body=check_body(**{"requestId": api.new_id()} | changes))
    replayed = reserve_body(requestId=api.held_id(), amount=5)
    assert api.send(BY_ID["reserve"], body=replayed).headers["Idempotent-Replayed"] == "true"
    # A full timeline: a check of another budget, and a closed reservation over budget.
    request_id = api.new_id()
    api.send(BY_ID["check"], body=check_body(requestId=request_id, department="Legal"))
    over = {"approvedBy": "fpa-001", "reason": "The launch cannot wait"}
    api.send(
        BY_ID["reserve"], body=reserve_body(requestId=request_id, amount=200_000, overBudget=over)
    )
    api.send(BY_ID["commit"], body=commit_body(requestId=request_id, amount=10, final=True))
    assert [
        row["action"]
        for row in api.send(BY_ID["get_request"], request_id=request_id).get_json()["movements"]
    ] == ["OVER_BUDGET", "COMMIT", "RELEASE"]
    assert api.send(BY_ID["list_budgets"], query="?limit=1").get_json()["nextCursor"]
    manual_budgets.set_budget(
        ROOT,
        "org-456",
        "Travel",
        "2025",
        Decimal("0.5"),
        budget_id="trips",
        auto_approve_limit=Decimal("0.25"),
    )
    assert api.send(BY_ID["get_budget"], budget_id="trips").get_json()["autoApproveLimit"] == 0.25


def check_request_errors(api: ApiChecker) -> None:
    """Errors about the request itself."""
    for operation in calls(Code.INVALID_REQUEST):
        if operation.body:
            api.send(operation, Code.INVALID_REQUEST, body={})
            api.send(
                operation,
                Code.INVALID_REQUEST,
                data=b'{"amount": NaN, "amount": 1, "final": 1, "action": "x"}',
                content_type="application/json",
            )
        else:
            api.send(operation, Code.INVALID_REQUEST, query="?customerId=%20")
    for operation in calls(Code.BODY_TOO_LARGE):
        api.send(
            operation, Code.BODY_TOO_LARGE, data=b" " * 70_000, content_type="application/json"
        )
    for operation in calls(Code.UNSUPPORTED_MEDIA_TYPE):
        api.send(operation, Code.UNSUPPORTED_MEDIA_TYPE, data=b"{}", content_type="text/plain")
    api.send(BY_ID["scrape"], Code.NOT_FOUND, headers={})


def check_caller_errors(api: ApiChecker) -> None:
    """Errors about the caller or the customer."""
    customers.add_customer(ROOT, "org-789", "Closed Inc.")
    manual_budgets.set_budget(
        ROOT, "org-789", "Engineering", "Q1 2025", Decimal(1), budget_id="abroad"
    )
    customers.disable_customer(ROOT, "org-789")
    everywhere = key_headers(None, name="everywhere")
    for operation in calls(Code.AUTHENTICATION_REQUIRED):
        api.send(operation, Code.AUTHENTICATION_REQUIRED, headers=bearer("nonsense"))
    for operation in calls(Code.INVALID_CUSTOMER):
        if operation.body:
            api.send(
                operation,
                Code.INVALID_CUSTOMER,
                body=(api.valid_body(operation) or {}) | {"customerId": "org-789"},
            )
        elif operation.id == "get_budget":
            api.send(operation, Code.INVALID_CUSTOMER, headers=everywhere, budget_id="abroad")
        else:
            api.send(operation, Code.INVALID_CUSTOMER, query="?customerId=org-789")
    member(api.app, "odd", "Odd One", "odd@acme.com", Role.BUSINESS_USER)
    with without_checks("User", "User_role_check"):
        User.update(role="auditor").where(User.id == "odd").execute()
    odd, fiona = signed_in(api.app, "odd"), signed_in(api.app, "fpa-001")
    for operation in calls(Code.FORBIDDEN):
        api.send(operation, Code.FORBIDDEN, client=odd, headers={})
    for operation in calls(Code.CROSS_ORIGIN):
        api.send(
            operation,
            Code.CROSS_ORIGIN,
            client=fiona,
            headers={"Origin": "https://elsewhere.example"},
        )


def check_ledger_errors(api: ApiChecker) -> None:
    """Errors of the ledger calls."""
    check, reserve, commit, release = (
        BY_ID[name] for name in ("check", "reserve", "commit", "release")
    )
    jane = signed_in(api.app, "user-123")
    for operation in (reserve, commit, release):
        api.send(
            operation,
            Code.BUDGET_NOT_FOUND,
            body=(api.valid_body(operation) or {}) | {"budgetId": "nowhere"},
        )
        one_key = {**api.credentials(operation), "Idempotency-Key": operation.id}
        api.send(operation, headers=one_key)
        api.send(operation, Code.IDEMPOTENCY_KEY_REUSED, headers=one_key)
    api.send(BY_ID["get_budget"], Code.BUDGET_NOT_FOUND, budget_id="nowhere")
    api.send(commit, Code.REQUEST_NOT_FOUND, body=commit_body(requestId="unheard-of"))
    api.send(BY_ID["get_request"], Code.REQUEST_NOT_FOUND, request_id="unheard-of")

    foreign = api.new_id()
    hold(foreign, Decimal(5), user_id="fpa-001")
    api.send(
        check, Code.NOT_YOUR_REQUEST, client=jane, headers={}, body=check_body(userId="fpa-001")
    )
    api.send(
        reserve,
        Code.NOT_YOUR_REQUEST,
        client=jane,
        headers={},
        body=reserve_body(requestId=foreign, amount=5),
    )
    api.send(
        release,
        Code.NOT_YOUR_REQUEST,
        client=jane,
        headers={},
        body=release_body(requestId=foreign, action="cancel", originalRequesterId="user-123"),
    )
    api.send(
        BY_ID["get_request"], Code.NOT_YOUR_REQUEST, client=jane, headers={}, request_id=foreign
    )

    over = {"approvedBy": "user-123", "reason": "Because"}
    api.send(
        reserve,
        Code.OVERSPEND_NOT_ALLOWED,
        body=reserve_body(requestId=api.new_id(), overBudget=over),
    )
    api.send(
        reserve,
        Code.OVERSPEND_NOT_ALLOWED,
        client=jane,
        headers={},
        body=reserve_body(requestId=api.new_id(), overBudget=over),
    )
    api.send(
        reserve, Code.INSUFFICIENT_BUDGET, body=reserve_body(requestId=api.new_id(), amount=500_000)
    )
    api.send(
        reserve,
        Code.AMOUNT_TOO_LARGE,
        headers=key_headers(may_overspend=True),
        body=reserve_body(
            requestId=api.new_id(),
            amount=9_999_999_999_999,
            overBudget=over | {"approvedBy": "fpa-001"},
        ),
    )
    api.send(
        commit, Code.INSUFFICIENT_BUDGET, body=commit_body(requestId=api.held_id(), amount=500_000)
    )
    held = api.held_id()
    api.send(reserve, Code.REQUEST_CONFLICT, body=reserve_body(requestId=held, amount=6))
    api.send(release, Code.AMOUNT_EXCEEDS_RESERVED, body=release_body(requestId=held, amount=6))
    api.send(commit, body=commit_body(requestId=held, amount=5))
    api.send(reserve, Code.RESERVATION_CLOSED, body=reserve_body(requestId=held, amount=5))
    api.send(
        commit,
        Code.NO_OPEN_RESERVATION,
        body=commit_body(requestId=held, amount=1, externalRef=None),
    )
    api.send(
        reserve,
        Code.CHECK_REQUIRED,
        client=jane,
        headers={},
        body=reserve_body(requestId=api.new_id()),
    )


def check_amend_errors(api: ApiChecker) -> None:
    """Errors of amendments."""
    amend, jane = BY_ID["amend"], signed_in(api.app, "user-123")
    manual_budgets.set_budget(
        ROOT, "org-456", "Marketing", "Q1 2025", Decimal(20_000), budget_id="budget-456"
    )
    one_key = {**api.key, "Idempotency-Key": "amend"}
    api.send(amend, headers=one_key)
    api.send(amend, Code.IDEMPOTENCY_KEY_REUSED, headers=one_key)
    api.send(amend, Code.BUDGET_NOT_FOUND, body=amend_body(budgetId="nowhere"))
    api.send(amend, Code.REQUEST_NOT_FOUND, body=amend_body(requestId="unheard-of"))
    foreign = api.new_id()
    hold(foreign, Decimal(5), user_id="fpa-001")
    errors: list[tuple[Code, Json]] = [
        (Code.NOT_YOUR_REQUEST, {"requestId": foreign}),
        (Code.CHECK_REQUIRED, {"requestId": api.held_id(), "amount": 6}),
    ]
    for code, changes in errors:
        api.send(amend, code, client=jane, headers={}, body=amend_body(**changes))
    over = {"approvedBy": "fpa-001", "reason": "The launch cannot wait"}
    held = {"requestId": api.held_id()}
    errors = [
        (Code.OVERSPEND_NOT_ALLOWED, {"overBudget": over | {"approvedBy": "user-123"}}),
        (Code.INSUFFICIENT_BUDGET, {"amount": 500_000}),
        (Code.AMOUNT_TOO_LARGE, {"amount": 9_999_999_999_999, "overBudget": over}),
        (Code.AMEND_OUT_OF_DATE, {"ifVersion": 1}),
    ]
    for code, changes in errors:
        api.send(amend, code, body=amend_body(**held | changes))
    there = ReserveRequest(budget_id="budget-456", request_id=held["requestId"], amount=Decimal(1))
    ledger.reserve(ROOT, there)
    move = amend_body(**held, amount=None, toBudgetId="budget-456")
    api.send(amend, Code.REQUEST_CONFLICT, body=move)
    moved = api.send(amend, body=move | {"requestId": api.held_id()}).get_json()
    assert moved["budgetId"] == "budget-456"
    body = amend_body(requestId=moved["requestId"])
    reply = api.send(amend, Code.NO_OPEN_RESERVATION, body=body).get_json()
    assert reply["movedToBudgetId"] == "budget-456"
    timeline = api.send(BY_ID["get_request"], request_id=moved["requestId"]).get_json()
    first, *transfers = timeline["movements"]
    assert (first["action"], first["transferId"]) == ("RESERVE", None)
    assert [row["action"] for row in transfers] == ["TRANSFER", "TRANSFER"]
    transfer_ids = {row["transferId"] for row in transfers}
    assert len(transfer_ids) == 1
    assert None not in transfer_ids


def check_errors_of_spent_money(api: ApiChecker) -> None:
    """Errors of reversals, of spend, and of commits that exceed the reservation."""
    commit, reverse, record = BY_ID["commit"], BY_ID["reverse"], BY_ID["spend"]
    over = {"approvedBy": "fpa-001", "reason": "The launch cannot wait"}
    held = {"requestId": api.held_id()}
    errors: list[tuple[Code, Json]] = [
        (Code.COMMIT_EXCEEDS_RESERVED, {"amount": 50}),
        (Code.OVERSPEND_NOT_ALLOWED, {"overBudget": over | {"approvedBy": "user-123"}}),
        (Code.AMOUNT_TOO_LARGE, {"amount": 9_999_999_999_999, "overBudget": over}),
    ]
    for code, changes in errors:
        api.send(commit, code, body=commit_body(**held | changes))
    exceeded = api.send(commit, body=commit_body(**held, amount=5.5)).get_json()
    assert exceeded["amountExceeded"] == 0.5
    api.send(commit, Code.EXTERNAL_REF_CONFLICT, body=commit_body(**held, amount=5))

    one_key = {**api.key, "Idempotency-Key": "reverse"}
    api.send(reverse, headers=one_key)
    api.send(reverse, Code.IDEMPOTENCY_KEY_REUSED, headers=one_key)
    spent = {"requestId": api.committed_id()}
    api.send(reverse, body=reverse_body(**spent, amount=1))
    errors = [
        (Code.BUDGET_NOT_FOUND, {"budgetId": "nowhere"}),
        (Code.REQUEST_NOT_FOUND, {"requestId": "unheard-of"}),
        (Code.AMOUNT_EXCEEDS_COMMITTED, {"amount": 5, "externalRef": None}),
        (Code.EXTERNAL_REF_CONFLICT, {"amount": 2}),
    ]
    for code, changes in errors:
        api.send(reverse, code, body=reverse_body(**spent | changes))

    card = spend_body(spendId="card-1", amount=5)
    api.send(record, body=card)
    assert api.send(record, body=card).headers["Idempotent-Replayed"] == "true"
    api.send(record, Code.IDEMPOTENCY_KEY_REUSED, body=card | {"amount": 6})
    api.send(record, Code.BUDGET_NOT_FOUND, body=card | {"department": "Nowhere"})
    huge = {"spendId": "card-2", "amount": 9_999_999_999_999}
    api.send(record, Code.AMOUNT_TOO_LARGE, body=card | huge)
    api.send(reverse, body=reverse_body(requestId="card-1", amount=2))
    timeline = api.send(BY_ID["get_request"], request_id="card-1").get_json()
    assert [row["action"] for row in timeline["movements"]] == ["SPEND", "REVERSE"]
    assert [(row["amount"], row["amountReversed"]) for row in timeline["spends"]] == [(5, 2)]


def check_errors_of_a_deleted_budget(api: ApiChecker) -> None:
    """Errors about a budget that was deleted."""
    reserve, commit = BY_ID["reserve"], BY_ID["commit"]
    held = api.held_id()
    deleted = clock.to_text(clock.now())
    database.transact(
        lambda: database.db.execute_sql(
            f"""UPDATE "Budget" SET "deletedAt" = '{deleted}' WHERE "id" = 'budget-123'"""
        )
    )
    api.send(reserve, Code.BUDGET_DELETED, body=reserve_body(requestId=api.new_id()))
    api.send(commit, Code.BUDGET_DELETED, body=commit_body(requestId=held, amount=6))
    api.send(BY_ID["amend"], Code.BUDGET_DELETED, body=amend_body(requestId=held, amount=6))
    body = spend_body(department=None, fiscalPeriod=None, budgetId="budget-123")
    api.send(BY_ID["spend"], Code.BUDGET_DELETED, body=body)
    assert api.send(BY_ID["get_budget"]).get_json()["deletedAt"] == deleted
    database.transact(
        lambda: database.db.execute_sql(
            """UPDATE "Budget" SET "deletedAt" = NULL WHERE "id" = 'budget-123'"""
        )
    )


def check_login_errors(api: ApiChecker) -> None:
    """A wrong password, and too many wrong passwords."""
    wrong = {"email": "fiona@acme.com", "password": "wrong"}
    for _ in range(authentication.MAX_FAILURES_ACCOUNT):
        api.send(BY_ID["login"], Code.BAD_CREDENTIALS, body=wrong)
    api.send(BY_ID["login"], Code.TOO_MANY_ATTEMPTS, body=wrong)
    LoginAttempt.delete().execute()


def check_service_failures(
    api: ApiChecker, chosen: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing database, a failing commit, and unhandled exceptions."""
    prepared = {operation.id: api.valid_body(operation) for operation in OPERATIONS}
    fiona = signed_in(api.app, "fpa-001")

    def send(operation: Operation, code: Code) -> None:
        with_session = operation.id == "logout"
        api.send(
            operation, code, body=prepared[operation.id], client=fiona if with_session else None
        )

    def fail(*_: object) -> None:
        raise peewee.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(database.db.obj, "commit", fail)
        for operation in calls(Code.OUTCOME_UNKNOWN):
            send(operation, Code.OUTCOME_UNKNOWN)
    with monkeypatch.context() as patch:
        for operation in calls(Code.INTERNAL_ERROR):

            def broken(**_: object) -> None:
                raise RuntimeError("a bug")

            patch.setitem(api.app.view_functions, operation.endpoint, broken)
            send(operation, Code.INTERNAL_ERROR)
    database.close_connection()
    with moved_away(chosen.database_path):
        for operation in calls(Code.UNAVAILABLE):
            send(operation, Code.UNAVAILABLE)


# A client generated from the document.

#: Scenario 1 of the guide, then a reserve that fails because the budget is insufficient.
SCENARIO = """
import sys
from budget_client import AuthenticatedClient
from budget_client.api.budgets import check, get_request, reserve
from budget_client.models import (
    CheckReply, CheckRequest, Code, ErrorReply, RequestTimeline, ReserveReply, ReserveRequest
)

url, key = sys.argv[1:]
with AuthenticatedClient(base_url=url, token=key, raise_on_unexpected_status=True) as client:
    request = CheckRequest(
        request_id="intake-789", user_id="user-123", user_name="Jane Doe",
        user_email="jane@acme.com", customer_id="org-456", department="Engineering",
        fiscal_period="Q1 2025", amount=5000, vendor="Slack", purpose="Team collaboration",
    )
    checked = check.sync(client=client, body=request)
    assert isinstance(checked, CheckReply) and checked.available and checked.can_auto_approve
    assert checked.budget
    assert (checked.budget.budgeted_amount, checked.budget.available) == (100000, 95000)
    body = ReserveRequest(
        budget_id=checked.budget.id, amount=5000, request_id="intake-789",
        reason="Slack - Team collaboration",
    )
    reserved = reserve.sync(client=client, body=body)
    assert isinstance(reserved, ReserveReply)
    assert (reserved.amount_reserved, reserved.new_available) == (5000, 90000)
    again = reserve.sync_detailed(client=client, body=body, idempotency_key="one")
    assert again.headers["Idempotent-Replayed"] == "true" and again.parsed == reserved
    body = ReserveRequest(budget_id="budget-123", amount=90000.01, request_id="intake-790")
    error = reserve.sync(client=client, body=body)
    assert isinstance(error, ErrorReply) and error.code is Code.INSUFFICIENT_BUDGET
    assert error.shortfall == 0.01
    timeline = get_request.sync("intake-789", client=client)
    assert isinstance(timeline, RequestTimeline)
    assert timeline.reservations[0].created_at.utcoffset().total_seconds() == 0
    print(reserved.reservation_id)
"""


def test_generated_client_runs_scenario_1(
    world: Flask, environment: dict[str, str], tmp_path: Path
) -> None:
    key = key_headers()["Authorization"].removeprefix("Bearer ")
    database.disconnect()
    server = Installation(environment)
    server.start("--workers", "1")
    try:
        generate = [
            "openapi-python-client",
            "generate",
            "--url",
            f"{server.url}/openapi.json",
            "--meta",
            "none",
            "--output-path",
            "budget_client",
        ]
        subprocess.run(
            [*generate, "--fail-on-warning"],
            cwd=tmp_path,
            env=server.full_environment(),
            check=True,
            capture_output=True,
        )
        run = [sys.executable, "-W", "error", "-c", SCENARIO, server.url, key]
        script = subprocess.run(
            run,
            cwd=tmp_path,
            env=server.full_environment(),
            text=True,
            capture_output=True,
            check=False,
        )
        assert script.returncode == 0, script.stderr
    finally:
        server.stop()
    stored = found(
        server.target,
        """SELECT "id", "requesterId" FROM "Reservation" WHERE "requestId" = 'intake-789'""",
    )
    assert stored == [(script.stdout.strip(), "user-123")]
