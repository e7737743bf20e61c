"""The API page against the service: its calls, its examples, and each reply and refusal that it names, got for real."""

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
from support.world import (
    ROOT,
    cheap_hash,
    check_body,
    commit_body,
    key_headers,
    release_body,
    reserve_body,
)
from werkzeug.test import TestResponse

from budget_sync import database, ledger, manual_budgets, settings, sync
from budget_sync.accounts import authentication, people
from budget_sync.database.models import Customer, LoginAttempt, Session, User
from budget_sync.domain import clock
from budget_sync.domain.errors import MEANINGS, Code
from budget_sync.domain.permissions import Role
from budget_sync.domain.request_models import CommitRequest, ReserveRequest
from budget_sync.web.openapi.document import document, status_of
from budget_sync.web.openapi.operations import OPERATIONS, Operation
from budget_sync.web.openapi.schemas import ErrorReply
from budget_sync.web.payloads import STATUSES

Json = dict[str, Any]

CRON_SECRET, METRICS_TOKEN = "a secret for cron", "a token for metrics"
PASSWORD = "correct horse battery staple"
BY_ID = {operation.id: operation for operation in OPERATIONS}


@cache
def page() -> Json:
    """The page, as a client reads it."""
    read: Json = json.loads(json.dumps(document()))
    return read


def described(operation: Operation) -> Json:
    """A call's part of it."""
    part: Json = page()["paths"][operation.path][operation.method]
    return part


def requires(schema: Json, value: object) -> None:
    """Assert that a value is what a schema of the page says."""
    errors = [error.message for error in validator(json.dumps(schema)).iter_errors(value)]
    assert errors == [], value


@cache
def validator(schema: str) -> OAS31Validator:
    """What checks values against a schema of the page."""
    return OAS31Validator(json.loads(schema) | {"components": page()["components"]})


# The page by itself.


def test_the_page_is_openapi_3_1(app: Flask) -> None:
    response = app.test_client().get("/openapi.json")
    assert (response.status_code, response.mimetype) == (200, "application/json")
    assert response.get_json() == page()
    assert [error.message for error in OpenAPIV31SpecValidator(page()).iter_errors()] == []
    assert page()["openapi"].startswith("3.1.")


def test_the_pages_calls_are_the_services_both_ways(app: Flask) -> None:
    def as_path(rule: str) -> str:
        return re.sub(r"<(?:\w+:)?(\w+?)_id>", r"{\1Id}", rule)

    routes = {
        (rule.endpoint, method.lower(), as_path(rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        # What is left are pages for people, and their parts.
        if rule.endpoint.partition(".")[0] not in {"console", "static"}
        and rule.endpoint != "openapi.read"
    }
    assert {
        (operation.endpoint, operation.method, operation.path) for operation in OPERATIONS
    } == routes
    assert len(BY_ID) == len(OPERATIONS)
    assert {(method, path) for path, methods in page()["paths"].items() for method in methods} == {
        (method, path) for _, method, path in routes
    }


def test_every_code_is_on_the_page_with_its_status() -> None:
    listed = re.findall(
        r"^- `(\w+)` \((\d+)\): (.*)$",
        page()["components"]["schemas"]["Code"]["description"],
        flags=re.MULTILINE,
    )
    assert listed == [
        (code.value, str(STATUSES.get(code, 200)), meaning) for code, meaning in MEANINGS.items()
    ]
    # Refused before any call is reached.
    elsewhere = {Code.METHOD_NOT_ALLOWED, Code.HTTP_ERROR}
    answers = {Code.AUTO_APPROVED, Code.REQUIRES_APPROVAL, Code.NO_BUDGET}
    assert {code for operation in OPERATIONS for code in operation.codes} == set(
        Code
    ) - elsewhere - answers
    assert not any(code in STATUSES for code in answers)


def test_every_example_is_what_its_schema_says() -> None:
    shown = 0
    for operation in OPERATIONS:
        part = described(operation)
        contents = [response["content"] for response in part["responses"].values()] + (
            [part["requestBody"]["content"]] if operation.body else []
        )
        for content in contents:
            for kind, media in content.items():
                for example in media.get("examples", {}).values():
                    requires(media["schema"], example["value"])
                    assert kind == "application/json"
                    shown += 1
    assert shown > 100


def test_amounts_are_numbers_above_nought() -> None:
    for schema in ("CheckRequest", "ReserveRequest", "CommitRequest", "ReleaseRequest"):
        field = page()["components"]["schemas"][schema]["properties"]["amount"]
        assert (field["type"], field["exclusiveMinimum"]) == ("number", 0)
        assert "whole currency units" in field["description"].lower()


def test_the_session_cookie_is_the_one_that_the_page_names(app: Flask) -> None:
    assert (
        page()["components"]["securitySchemes"]["session"]["name"]
        == app.config["SESSION_COOKIE_NAME"]
    )


def test_the_page_for_people_has_every_call_field_and_code(app: Flask) -> None:
    response = app.test_client().get("/docs")
    assert (response.status_code, response.mimetype) == (200, "text/html")
    assert response.headers["Content-Security-Policy"].startswith("default-src 'self';")
    text = html.unescape(re.sub(r"<[^>]+>", "", response.text))
    # What refusals name beside their codes, the document has.
    schemas = [
        schema for name, schema in page()["components"]["schemas"].items() if name != "ErrorReply"
    ]
    fields = {name for schema in schemas for name in schema.get("properties", {})}
    wanted = (
        {operation.path for operation in OPERATIONS}
        | {operation.summary for operation in OPERATIONS}
        | set(Code)
        | set(MEANINGS.values())
        | fields
    )
    wanted |= {
        example.summary for operation in OPERATIONS for example in operation.examples.values()
    }
    assert {each for each in wanted if each.replace("`", "") not in text} == set()
    assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=", response.text)


# The guide's world, for real.


@pytest.fixture
def environment(environment: dict[str, str]) -> dict[str, str]:
    """An installation with a secret for cron and a token for metrics."""
    return environment | {"CRON_SECRET": CRON_SECRET, "METRICS_TOKEN": METRICS_TOKEN}


@pytest.fixture
def world(app: Flask, chosen: settings.Settings) -> Flask:
    """Customer org-456 with budget-123, of which 5,000 are committed, a CSV source, and its people."""
    people.add_customer(ROOT, "org-456", "Acme Inc.", auto_approve_limit_minor=1_000_000)
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
    sync.add_source(ROOT, "org-456", csv_path="budgets.csv", csv_folder=chosen.csv_folder)
    return app


def member(app: Flask, user_id: str, name: str, email: str, role: Role) -> None:
    """A person with a session, and a password whose hash costs little."""
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
    """Commit some of the budget."""
    hold(f"spent-{amount}", Decimal(amount))
    ledger.commit(
        ROOT,
        CommitRequest(budget_id="budget-123", request_id=f"spent-{amount}", amount=Decimal(amount)),
    )


def hold(request_id: str, amount: Decimal = Decimal(5000), user_id: str = "user-123") -> None:
    """Set some of the budget aside."""
    ledger.reserve(
        ROOT,
        ReserveRequest(
            budget_id="budget-123", request_id=request_id, amount=amount, user_id=user_id
        ),
    )


# The examples.


def spend_all_but_2000() -> None:
    """As the guide's third scenario finds the budget."""
    spend(93_000)


def lower_the_limit() -> None:
    """As the second finds the customer."""
    Customer.update(autoApproveLimitMinor=100_000).execute()


def give_back_2000() -> None:
    """So that the fourth ends with the guide's figure."""
    manual_budgets.set_budget(ROOT, "org-456", "Engineering", "Q1 2025", Decimal(102_000))
    hold("intake-789")


def hold_it() -> None:
    """As the orchestrator leaves it."""
    hold("intake-789")


def nothing() -> None:
    """As it is."""


#: What is done before an example; the others are played in the world as it is.
BEFORE: dict[tuple[str, str], Callable[[], None]] = {
    ("check", "requiresApproval"): lower_the_limit,
    ("check", "insufficient"): spend_all_but_2000,
    ("reserve", "overBudget"): spend_all_but_2000,
    ("commit", "commit"): hold_it,
    ("commit", "final"): hold_it,
    ("release", "reject"): give_back_2000,
    ("release", "cancel"): hold_it,
    ("release", "exceedsReserved"): hold_it,
}
PLAYED = [
    (operation, name)
    for operation in OPERATIONS
    for name in operation.examples
    if operation.id != "sync_google_sheets"
]


@pytest.mark.parametrize(
    ("operation", "name"), PLAYED, ids=[f"{operation.id}-{name}" for operation, name in PLAYED]
)
def test_an_example_is_what_happens(world: Flask, operation: Operation, name: str) -> None:
    BEFORE.get((operation.id, name), nothing)()
    client, key = world.test_client(), key_headers(may_overspend=True)
    if operation.id == "get_request":
        for asked in (check_body(), reserve_body()):
            path = "check" if "userId" in asked else "reserve"
            assert client.post(f"/api/budget/{path}", json=asked, headers=key).status_code == 200
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
    """A reply without what is new each time: the ids that we give, and times."""
    if isinstance(value, dict):
        return {
            name: "…"
            if name in {"checkId", "reservationId", "createdAt", "timestamp"}
            else plain(inner)
            for name, inner in value.items()
            if name != "items"
        } | (
            {"items": [plain(item) for item in value["items"] if item["id"] == "budget-123"]}
            if "items" in value
            else {}
        )
    return [plain(item) for item in value] if isinstance(value, list) else value


# Every reply and refusal of every call, got for real.


class Seen:
    """Sends requests, and holds each answer to the page."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.client = app.test_client()
        self.key = key_headers(may_overspend=True)
        self.codes: set[tuple[str, Code | None]] = set()
        self.number = 0

    def new(self) -> str:
        """A request that nobody has heard of."""
        self.number += 1
        return f"request-{self.number}"

    def held(self) -> str:
        """A request that holds 5."""
        request_id = self.new()
        hold(request_id, Decimal(5))
        return request_id

    def good(self, operation: Operation) -> Json | None:
        """A body that goes well."""
        bodies: dict[str, Callable[[], Json]] = {
            "check": lambda: check_body(requestId=self.new()),
            "reserve": lambda: reserve_body(requestId=self.new(), amount=5),
            "commit": lambda: commit_body(requestId=self.held(), amount=5),
            "release": lambda: release_body(requestId=self.held(), amount=5),
            "login": lambda: {"email": "fiona@acme.com", "password": PASSWORD},
        }
        return bodies[operation.id]() if operation.id in bodies else None

    def credentials(self, operation: Operation) -> Mapping[str, str]:
        """The first of those that let in, but for nobody's."""
        known = {
            "apiKey": self.key,
            "cronSecret": bearer(CRON_SECRET),
            "metricsToken": bearer(METRICS_TOKEN),
        }
        return next((known[scheme] for scheme in operation.lets_in if scheme in known), {})

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
        """Make a call that is to come out so, and hold the answer to the page."""
        if "data" not in options:
            options["json"] = self.good(operation) if body is ... else body
        sent_headers = self.credentials(operation) if headers is None else headers
        path = operation.path.format(budgetId=budget_id, requestId=request_id) + query
        response = (client or self.client).open(
            path, method=operation.method.upper(), headers=sent_headers, **options
        )
        self.check(operation, response, code)
        return response

    def check(self, operation: Operation, response: TestResponse, code: Code | None) -> None:
        """The status, the headers and the body are as the page says, for that code."""
        assert response.status_code == (200 if code is None else status_of(code)), (
            operation.id,
            code,
            response.text,
        )
        told = described(operation)["responses"][str(response.status_code)]
        assert response.mimetype in told["content"]
        media = told["content"][response.mimetype]
        for name in set(told["headers"]) - {"Idempotent-Replayed"}:
            assert name in response.headers, (operation.id, code, name)
        assert set(response.headers) & set(page()["components"]["headers"]) <= set(told["headers"])
        self.codes.add((operation.id, code))
        if response.mimetype != "application/json":
            return
        data = response.get_json()
        requires(media["schema"], data)
        if operation.reply is not None or code is not None:
            # The models forbid what they do not name.
            ours = json.loads(response.text, parse_float=Decimal)
            model: Any = operation.reply if response.status_code == 200 else ErrorReply
            TypeAdapter(model).validate_python(ours)
        if code is not None:
            assert data["code"] == code
            example = media["examples"].get(code) or media["examples"]["exceedsReserved"]
            extra = set(data) - set(example["value"])
            assert not extra, f"the example of {code} lacks {extra}"


def bearer(secret: str) -> dict[str, str]:
    """A bearer token."""
    return {"Authorization": f"Bearer {secret}"}


def calls(with_code: Code) -> list[Operation]:
    """The calls that may refuse so."""
    return [operation for operation in OPERATIONS if with_code in operation.codes]


def test_every_reply_and_refusal_that_the_page_names_is_real_and_as_it_says(
    world: Flask, chosen: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen(world)
    successes(seen)
    refusals_of_requests(seen)
    refusals_of_callers(seen)
    refusals_of_movements(seen)
    refusals_of_logins(seen)
    failures(seen, chosen, monkeypatch)
    named = {(operation.id, code) for operation in OPERATIONS for code in (None, *operation.codes)}
    assert seen.codes == named


def successes(seen: Seen) -> None:
    """Each call, going well; as a service and as a person."""
    fiona = signed_in(seen.app, "fpa-001")
    for operation in OPERATIONS:
        seen.send(operation)
        if "session" in operation.lets_in and operation.id != "logout":
            seen.send(operation, client=fiona, headers={})
    seen.send(BY_ID["logout"], client=signed_in(seen.app, "fpa-001"), headers={})
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
        {"requestId": seen.held()},
    ):
        seen.send(BY_ID["check"], body=check_body(**{"requestId": seen.new()} | changes))
    replayed = reserve_body(requestId=seen.held(), amount=5)
    assert seen.send(BY_ID["reserve"], body=replayed).headers["Idempotent-Replayed"] == "true"
    # A story with everything in it: a second budget, a reservation that was closed, and one that went over budget.
    story = seen.new()
    seen.send(BY_ID["check"], body=check_body(requestId=story, department="Legal"))
    over = {"approvedBy": "fpa-001", "reason": "The launch cannot wait"}
    seen.send(BY_ID["reserve"], body=reserve_body(requestId=story, amount=200_000, overBudget=over))
    seen.send(BY_ID["commit"], body=commit_body(requestId=story, amount=10, final=True))
    assert [
        row["action"]
        for row in seen.send(BY_ID["get_request"], request_id=story).get_json()["movements"]
    ] == ["OVER_BUDGET", "COMMIT", "RELEASE"]
    assert seen.send(BY_ID["list_budgets"], query="?limit=1").get_json()["nextCursor"]
    manual_budgets.set_budget(
        ROOT,
        "org-456",
        "Travel",
        "2025",
        Decimal("0.5"),
        budget_id="trips",
        auto_approve_limit=Decimal("0.25"),
    )
    assert seen.send(BY_ID["get_budget"], budget_id="trips").get_json()["autoApproveLimit"] == 0.25


def refusals_of_requests(seen: Seen) -> None:
    """What is wrong with the request itself."""
    for operation in calls(Code.INVALID_REQUEST):
        if operation.body:
            seen.send(operation, Code.INVALID_REQUEST, body={})
            seen.send(
                operation,
                Code.INVALID_REQUEST,
                data=b'{"amount": NaN, "amount": 1, "final": 1, "action": "x"}',
                content_type="application/json",
            )
        else:
            seen.send(operation, Code.INVALID_REQUEST, query="?customerId=%20")
    for operation in calls(Code.BODY_TOO_LARGE):
        seen.send(
            operation, Code.BODY_TOO_LARGE, data=b" " * 70_000, content_type="application/json"
        )
    for operation in calls(Code.UNSUPPORTED_MEDIA_TYPE):
        seen.send(operation, Code.UNSUPPORTED_MEDIA_TYPE, data=b"{}", content_type="text/plain")
    seen.send(BY_ID["scrape"], Code.NOT_FOUND, headers={})


def refusals_of_callers(seen: Seen) -> None:
    """What is wrong with who calls, or for whom."""
    people.add_customer(ROOT, "org-789", "Closed Inc.")
    manual_budgets.set_budget(
        ROOT, "org-789", "Engineering", "Q1 2025", Decimal(1), budget_id="abroad"
    )
    people.disable_customer(ROOT, "org-789")
    everywhere = key_headers(None, name="everywhere")
    for operation in calls(Code.AUTHENTICATION_REQUIRED):
        seen.send(operation, Code.AUTHENTICATION_REQUIRED, headers=bearer("nonsense"))
    for operation in calls(Code.INVALID_CUSTOMER):
        if operation.body:
            seen.send(
                operation,
                Code.INVALID_CUSTOMER,
                body=(seen.good(operation) or {}) | {"customerId": "org-789"},
            )
        elif operation.id == "get_budget":
            seen.send(operation, Code.INVALID_CUSTOMER, headers=everywhere, budget_id="abroad")
        else:
            seen.send(operation, Code.INVALID_CUSTOMER, query="?customerId=org-789")
    member(seen.app, "odd", "Odd One", "odd@acme.com", Role.BUSINESS_USER)
    with without_checks("User", "User_role_check"):
        User.update(role="auditor").where(User.id == "odd").execute()
    odd, fiona = signed_in(seen.app, "odd"), signed_in(seen.app, "fpa-001")
    for operation in calls(Code.FORBIDDEN):
        seen.send(operation, Code.FORBIDDEN, client=odd, headers={})
    for operation in calls(Code.CROSS_ORIGIN):
        seen.send(
            operation,
            Code.CROSS_ORIGIN,
            client=fiona,
            headers={"Origin": "https://elsewhere.example"},
        )


def refusals_of_movements(seen: Seen) -> None:
    """What stands against a movement."""
    check, reserve, commit, release = (
        BY_ID[name] for name in ("check", "reserve", "commit", "release")
    )
    jane = signed_in(seen.app, "user-123")
    for operation in (reserve, commit, release):
        seen.send(
            operation,
            Code.BUDGET_NOT_FOUND,
            body=(seen.good(operation) or {}) | {"budgetId": "nowhere"},
        )
        one_key = {**seen.credentials(operation), "Idempotency-Key": operation.id}
        seen.send(operation, headers=one_key)
        seen.send(operation, Code.IDEMPOTENCY_KEY_REUSED, headers=one_key)
    seen.send(BY_ID["get_budget"], Code.BUDGET_NOT_FOUND, budget_id="nowhere")
    seen.send(commit, Code.REQUEST_NOT_FOUND, body=commit_body(requestId="unheard-of"))
    seen.send(BY_ID["get_request"], Code.REQUEST_NOT_FOUND, request_id="unheard-of")

    foreign = seen.new()
    hold(foreign, Decimal(5), user_id="fpa-001")
    seen.send(
        check, Code.NOT_YOUR_REQUEST, client=jane, headers={}, body=check_body(userId="fpa-001")
    )
    seen.send(
        reserve,
        Code.NOT_YOUR_REQUEST,
        client=jane,
        headers={},
        body=reserve_body(requestId=foreign, amount=5),
    )
    seen.send(
        release,
        Code.NOT_YOUR_REQUEST,
        client=jane,
        headers={},
        body=release_body(requestId=foreign, action="cancel", originalRequesterId="user-123"),
    )
    seen.send(
        BY_ID["get_request"], Code.NOT_YOUR_REQUEST, client=jane, headers={}, request_id=foreign
    )

    over = {"approvedBy": "user-123", "reason": "Because"}
    seen.send(
        reserve,
        Code.OVERSPEND_NOT_ALLOWED,
        body=reserve_body(requestId=seen.new(), overBudget=over),
    )
    seen.send(
        reserve,
        Code.OVERSPEND_NOT_ALLOWED,
        client=jane,
        headers={},
        body=reserve_body(requestId=seen.new(), overBudget=over),
    )
    seen.send(
        reserve, Code.INSUFFICIENT_BUDGET, body=reserve_body(requestId=seen.new(), amount=500_000)
    )
    seen.send(
        commit, Code.INSUFFICIENT_BUDGET, body=commit_body(requestId=seen.held(), amount=500_000)
    )
    held = seen.held()
    seen.send(reserve, Code.REQUEST_CONFLICT, body=reserve_body(requestId=held, amount=6))
    seen.send(release, Code.AMOUNT_EXCEEDS_RESERVED, body=release_body(requestId=held, amount=6))
    seen.send(commit, body=commit_body(requestId=held, amount=5))
    seen.send(reserve, Code.RESERVATION_CLOSED, body=reserve_body(requestId=held, amount=5))
    seen.send(commit, Code.NO_OPEN_RESERVATION, body=commit_body(requestId=held, amount=1))
    seen.send(
        reserve,
        Code.CHECK_REQUIRED,
        client=jane,
        headers={},
        body=reserve_body(requestId=seen.new()),
    )

    held = seen.held()
    deleted = clock.to_text(clock.now())
    database.transact(
        lambda: database.db.execute_sql(
            f"""UPDATE "Budget" SET "deletedAt" = '{deleted}' WHERE "id" = 'budget-123'"""
        )
    )
    seen.send(reserve, Code.BUDGET_DELETED, body=reserve_body(requestId=seen.new()))
    seen.send(commit, Code.BUDGET_DELETED, body=commit_body(requestId=held, amount=6))
    assert seen.send(BY_ID["get_budget"]).get_json()["deletedAt"] == deleted
    database.transact(
        lambda: database.db.execute_sql(
            """UPDATE "Budget" SET "deletedAt" = NULL WHERE "id" = 'budget-123'"""
        )
    )


def refusals_of_logins(seen: Seen) -> None:
    """A wrong password, and too many of them."""
    wrong = {"email": "fiona@acme.com", "password": "wrong"}
    for _ in range(authentication.MAX_FAILURES_ACCOUNT):
        seen.send(BY_ID["login"], Code.BAD_CREDENTIALS, body=wrong)
    seen.send(BY_ID["login"], Code.TOO_MANY_ATTEMPTS, body=wrong)
    LoginAttempt.delete().execute()


def failures(seen: Seen, chosen: settings.Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is gone, a commit that fails, and mistakes of ours."""
    prepared = {operation.id: seen.good(operation) for operation in OPERATIONS}
    fiona = signed_in(seen.app, "fpa-001")

    def send(operation: Operation, code: Code) -> None:
        with_session = operation.id == "logout"
        seen.send(
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

            def mistake(**_: object) -> None:
                raise RuntimeError("a mistake")

            patch.setitem(seen.app.view_functions, operation.endpoint, mistake)
            send(operation, Code.INTERNAL_ERROR)
    database.close_connection()
    with moved_away(chosen.database_path):
        for operation in calls(Code.UNAVAILABLE):
            send(operation, Code.UNAVAILABLE)


# A client made of the page.

#: Scenario 1 of the guide, and what its orchestrator meets when it tries to take more.
SCENARIO = """
import sys
from budget_client import AuthenticatedClient
from budget_client.api.budgets import check, get_request, reserve
from budget_client.models import CheckReply, CheckRequest, Code, ErrorReply, RequestTimeline, ReserveReply, ReserveRequest

with AuthenticatedClient(base_url=sys.argv[1], token=sys.argv[2], raise_on_unexpected_status=True) as client:
    request = CheckRequest(
        request_id="intake-789", user_id="user-123", user_name="Jane Doe", user_email="jane@acme.com", customer_id="org-456", department="Engineering",
        fiscal_period="Q1 2025", amount=5000, vendor="Slack", purpose="Team collaboration",
    )
    checked = check.sync(client=client, body=request)
    assert isinstance(checked, CheckReply) and checked.available and checked.can_auto_approve and checked.budget
    assert (checked.budget.budgeted_amount, checked.budget.available) == (100000, 95000)
    body = ReserveRequest(budget_id=checked.budget.id, amount=5000, request_id="intake-789", reason="Slack - Team collaboration")
    reserved = reserve.sync(client=client, body=body)
    assert isinstance(reserved, ReserveReply) and (reserved.amount_reserved, reserved.new_available) == (5000, 90000)
    again = reserve.sync_detailed(client=client, body=body, idempotency_key="one")
    assert again.headers["Idempotent-Replayed"] == "true" and again.parsed == reserved
    refused = reserve.sync(client=client, body=ReserveRequest(budget_id="budget-123", amount=90000.01, request_id="intake-790"))
    assert isinstance(refused, ErrorReply) and refused.code is Code.INSUFFICIENT_BUDGET and refused.shortfall == 0.01
    story = get_request.sync("intake-789", client=client)
    assert isinstance(story, RequestTimeline) and story.reservations[0].created_at.utcoffset().total_seconds() == 0
    print(reserved.reservation_id)
"""


def test_a_client_made_by_a_stock_generator_does_the_guides_first_scenario(
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
