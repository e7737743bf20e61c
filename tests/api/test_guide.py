"""The integration guide's scenarios, curl lines and error tables, with its bodies, over HTTP."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from flask import Flask
from support.installation import Installation, found
from support.machine import sqlite_only
from support.templates import Templates
from support.world import key_headers

from budget_sync import database, ledger

pytestmark = pytest.mark.both_engines

CHECK = """
   {
     "requestId": "intake-789",
     "userId": "user-123",
     "userName": "Jane Doe",
     "userEmail": "jane@acme.com",
     "customerId": "org-456",
     "department": "Engineering",
     "fiscalPeriod": "Q1 2025",
     "amount": 5000,
     "vendor": "Slack",
     "purpose": "Team collaboration"
   }
"""

RESERVE = """
   {
     "budgetId": "budget-123",
     "amount": 5000,
     "requestId": "intake-789",
     "reason": "Slack - Team collaboration"
   }
"""

REJECT = """
   {
     "budgetId": "budget-123",
     "amount": 5000,
     "requestId": "intake-789",
     "action": "reject",
     "reason": "Duplicate subscription found"
   }
"""

CANCEL = """
   {
     "budgetId": "budget-123",
     "amount": 5000,
     "requestId": "intake-789",
     "action": "cancel",
     "originalRequesterId": "user-123",
     "reason": "No longer needed"
   }
"""

CURL_CHECK = """{
    "requestId": "test-001",
    "userId": "user-123",
    "userName": "Test User",
    "userEmail": "test@example.com",
    "customerId": "org-456",
    "department": "Engineering",
    "fiscalPeriod": "Q1 2025",
    "amount": 5000
  }"""

CURL_RESERVE = """{
    "budgetId": "budget-123",
    "amount": 5000,
    "requestId": "test-001",
    "reason": "Test reservation"
  }"""

CURL_RELEASE = """{
    "budgetId": "budget-123",
    "amount": 5000,
    "requestId": "test-001",
    "action": "reject",
    "reason": "Test rejection"
  }"""

AS_JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, templates: Templates
) -> Iterator[Installation]:
    """A server with the guide's customer and budget, one for this module."""
    with templates.copy("world", tmp_path_factory.mktemp("guide")) as environment:
        server = Installation(environment)
        server.start()
        yield server
        server.end()


@pytest.fixture
def server(running: Installation) -> Iterator[Installation]:
    """The server, with 100,000 budgeted and 5,000 committed before and after each test."""
    yield running
    for request_id, held_minor in query(
        running, """SELECT "requestId", "heldMinor" FROM "Reservation" WHERE "status" = 'open'"""
    ):
        release = {
            "budgetId": "budget-123",
            "requestId": request_id,
            "amount": held_minor / 100,
            "action": "manual",
        }
        assert running.post("/api/budget/release", release, headers=running.key()).json()["success"]
    if budget(running)["budgetedAmount"] != 100000:
        set_budget(running, "100000")
    assert (budget(running)["reservedAmount"], budget(running)["available"]) == (0, 95000)


@pytest.fixture(scope="module")
def jane(running: Installation) -> requests.Session:
    """A session of Jane Doe."""
    return running.session("jane")


@pytest.fixture(scope="module")
def fiona(running: Installation) -> requests.Session:
    """A session of Fiona of FP&A."""
    return running.session("fiona")


def query(server: Installation, sql: str) -> list[Any]:
    """The rows of a statement."""
    return found(server.target, sql)


def set_budget(server: Installation, amount: str) -> None:
    """Change Engineering's budget with the command."""
    server.flask(
        "set-budget",
        "--customer",
        "org-456",
        "--department",
        "Engineering",
        "--period",
        "Q1 2025",
        "--amount",
        amount,
    )


def budget(server: Installation) -> dict[str, Any]:
    """The current figures of budget-123."""
    reply: dict[str, Any] = requests.get(
        f"{server.url}/api/budgets/budget-123", headers=server.key(), timeout=30
    ).json()
    return reply


def send(
    server: Installation,
    call: str,
    body: str,
    caller: requests.Session | None = None,
    **changes: Any,
) -> requests.Response:
    """POST the guide's body, with `changes` if any, in a session or with the orchestrator's key."""
    if changes:
        body = json.dumps(json.loads(body) | changes)
    headers = AS_JSON if caller else AS_JSON | server.key()
    return (caller or requests.Session()).post(
        f"{server.url}/api/budget/{call}", data=body, headers=headers, timeout=30
    )


def expect(response: requests.Response, status: int, **facts: Any) -> dict[str, Any]:
    """The reply's values. Asserts its status and these values."""
    reply: dict[str, Any] = response.json()
    assert (response.status_code, {name: reply.get(name) for name in facts}) == (status, facts), (
        response.text
    )
    return reply


def hold(
    server: Installation, caller: requests.Session | None = None, *, amount: float = 5000
) -> None:
    """Check and reserve, as in every scenario. Other tests may have used the request before."""
    expect(send(server, "check", CHECK, caller, amount=amount), 200, available=True)
    expect(send(server, "reserve", RESERVE, caller, amount=amount), 200, success=True)


# Scenario 1: budget available, auto-approve.


def test_scenario_1_available_budget_is_reserved(server: Installation) -> None:
    check = expect(
        send(server, "check", CHECK), 200, success=True, available=True, canAutoApprove=True
    )
    assert check["budget"]["budgetedAmount"] == 100000
    assert check["budget"]["available"] == 95000
    # Whole amounts are integers in the reply.
    assert all(isinstance(check["budget"][name], int) for name in ("budgetedAmount", "available"))
    expect(
        send(server, "reserve", RESERVE),
        200,
        success=True,
        budgetId="budget-123",
        requestId="intake-789",
        amountReserved=5000,
        newAvailable=90000,
    )
    assert budget(server)["reservedAmount"] == 5000


# Scenario 2: budget available, requires approval.


def test_scenario_2_amount_above_the_limit_is_reserved(
    server: Installation,
) -> None:
    reason = "Budget available. Requires FP&A approval"
    expect(
        send(server, "check", CHECK, amount=10_000.01),
        200,
        success=True,
        available=True,
        canAutoApprove=False,
        reason=reason,
    )
    expect(
        send(server, "reserve", RESERVE, amount=10_000.01), 200, success=True, newAvailable=84999.99
    )
    expect(
        send(server, "check", CHECK, requestId="intake-790", amount=10_000),
        200,
        available=True,
        canAutoApprove=True,
    )


# Scenario 3: budget not available.


@pytest.fixture
def nearly_spent(server: Installation) -> Installation:
    """The server with 2,000 available in the budget."""
    expect(send(server, "check", CHECK, requestId="intake-500", amount=93_000), 200, available=True)
    expect(
        send(server, "reserve", RESERVE, requestId="intake-500", amount=93_000),
        200,
        newAvailable=2000,
    )
    return server


def test_scenario_3_insufficient_budget_has_guides_reason(nearly_spent: Installation) -> None:
    reason = "Insufficient budget. Available: $2,000, Requested: $5,000"
    expect(
        send(nearly_spent, "check", CHECK),
        200,
        success=True,
        available=False,
        canAutoApprove=False,
        reason=reason,
    )
    # A reserve after such a check is an error.
    expect(send(nearly_spent, "reserve", RESERVE), 409, success=False, reason=reason)
    assert budget(nearly_spent)["available"] == 2000


def test_scenario_3_fpa_can_approve_over_budget(
    nearly_spent: Installation, fiona: requests.Session
) -> None:
    expect(send(nearly_spent, "check", CHECK), 200, available=False)
    approval = {"approvedBy": "fpa-001", "reason": "Cannot wait for next quarter"}
    expect(
        send(nearly_spent, "reserve", RESERVE, fiona, overBudget=approval),
        200,
        success=True,
        newAvailable=-3000,
    )
    row = query(
        nearly_spent,
        """
        SELECT "changedBy", "approvedBy", "onBehalfOf", "reason" FROM "AuditLog"
        WHERE "action" = 'OVER_BUDGET'
        """,
    )
    assert row == [
        (
            "Fiona Adams (fiona@acme.com)",
            "Fiona Adams (fiona@acme.com)",
            "Jane Doe (jane@acme.com)",
            "Cannot wait for next quarter",
        )
    ]


# Scenario 4: request rejection.


def test_scenario_4_rejection_releases_the_money(server: Installation) -> None:
    set_budget(server, "102000")
    hold(server)
    expect(
        send(server, "release", REJECT), 200, success=True, amountReleased=5000, newAvailable=97000
    )
    other = send(server, "check", CHECK, requestId="intake-790", amount=97_000)
    expect(other, 200, available=True)


# Scenario 5: the user cancels.


def test_scenario_5_requester_cancels_in_a_session(
    server: Installation, jane: requests.Session
) -> None:
    hold(server, jane)
    expect(
        send(server, "release", CANCEL, jane),
        200,
        success=True,
        amountReleased=5000,
        newAvailable=95000,
    )


def test_scenario_5_service_cancels_for_the_requester(server: Installation) -> None:
    hold(server)
    expect(
        send(server, "release", CANCEL), 200, success=True, amountReleased=5000, newAvailable=95000
    )


def test_scenario_5_cancel_with_wrong_requester_is_403(
    server: Installation, jane: requests.Session
) -> None:
    hold(server, jane)
    expect(
        send(server, "release", CANCEL, jane, originalRequesterId="user-999"), 403, success=False
    )
    expect(send(server, "release", CANCEL, originalRequesterId="user-999"), 403, success=False)
    assert budget(server)["reservedAmount"] == 5000


def test_scenario_5_cancel_of_another_users_request_is_403(
    server: Installation, jane: requests.Session
) -> None:
    expect(
        send(server, "reserve", RESERVE, requestId="intake-501", userId="fpa-001"),
        200,
        success=True,
    )
    for claimed in ("user-123", "fpa-001"):
        expect(
            send(
                server, "release", CANCEL, jane, requestId="intake-501", originalRequesterId=claimed
            ),
            403,
            success=False,
        )
    assert budget(server)["reservedAmount"] == 5000


def test_scenario_5_audit_log_matches_the_guide(
    server: Installation, jane: requests.Session
) -> None:
    cancel = {name: value for name, value in json.loads(CANCEL).items() if name != "reason"} | {
        "requestId": "intake-502"
    }
    expect(send(server, "check", CHECK, jane, requestId="intake-502"), 200, available=True)
    expect(send(server, "reserve", RESERVE, jane, requestId="intake-502"), 200, success=True)
    expect(send(server, "release", json.dumps(cancel), jane), 200, success=True)
    rows = query(
        server,
        """
        SELECT "budgetId", "action", "oldValue", "newValue", "changedBy", "reason" FROM "AuditLog"
        WHERE "budgetId" = 'budget-123' AND "action" = 'RELEASE' AND "requestId" = 'intake-502'
        """,
    )
    assert rows == [
        (
            "budget-123",
            "RELEASE",
            "5000",
            "0",
            "Jane Doe (jane@acme.com)",
            "Request cancelled by user",
        )
    ]


# The curl lines.


def test_bodies_of_the_curl_lines_work(server: Installation, fiona: requests.Session) -> None:
    check = requests.post(
        f"{server.url}/api/budget/check", data=CURL_CHECK, headers=AS_JSON, timeout=30
    )
    expect(check, 200, success=True, available=True, canAutoApprove=True)
    with_cookie = AS_JSON | {
        "Cookie": f"budget_sync_session={fiona.cookies['budget_sync_session']}"
    }
    reserve = requests.post(
        f"{server.url}/api/budget/reserve", data=CURL_RESERVE, headers=with_cookie, timeout=30
    )
    expect(reserve, 200, success=True, amountReserved=5000, newAvailable=90000)
    release = requests.post(
        f"{server.url}/api/budget/release", data=CURL_RELEASE, headers=with_cookie, timeout=30
    )
    expect(release, 200, success=True, amountReleased=5000, newAvailable=95000)


# Budget check errors.


def test_missing_fields_are_a_400_that_names_all(server: Installation) -> None:
    required = {name for name in json.loads(CHECK) if name not in ("vendor", "purpose")}
    reply = expect(send(server, "check", "{}"), 400, success=False)
    assert set(reply["fields"]) == required
    assert all(name in reply["error"] for name in required)


def test_unknown_customer_is_a_400(server: Installation) -> None:
    for body in (CHECK, CURL_CHECK):
        unknown = json.dumps(json.loads(body) | {"customerId": "org-999"})
        expect(send(server, "check", unknown), 400, success=False, error="Invalid customer")
        expect(
            requests.post(
                f"{server.url}/api/budget/check", data=unknown, headers=AS_JSON, timeout=30
            ),
            400,
            success=False,
            error="Invalid customer",
        )


def test_no_budget_found_is_a_200_and_not_available(server: Installation) -> None:
    expect(
        send(server, "check", CHECK, department="Astronomy"),
        200,
        success=True,
        available=False,
        budget=None,
        reason="No budget found",
    )


@pytest.fixture
def log(world: Flask) -> io.StringIO:
    """The log of the in-process app."""
    caught = io.StringIO()
    handler = logging.getLogger("budget_sync").handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(caught)
    return caught


@pytest.mark.parametrize("fault", ["code", "SQL"])
def test_unhandled_exception_is_a_500_with_logged_id(
    world: Flask, log: io.StringIO, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    if fault == "code":

        def broken(*_: object, **__: object) -> None:
            raise ZeroDivisionError("the figures of org-456")

        monkeypatch.setattr(ledger, "check", broken)
    else:
        database.db.execute_sql('ALTER TABLE "BudgetCheckLog" RENAME TO "Lost"')
    response = world.test_client().post(
        "/api/budget/check", data=CHECK, content_type="application/json", headers=key_headers()
    )
    reply = json.loads(response.text)
    assert (response.status_code, response.mimetype) == (500, "application/json")
    assert (reply["success"], reply["code"]) == (False, "INTERNAL_ERROR")
    # The reply has the id of the log lines, but no details of the exception.
    assert reply["requestId"] == response.headers["X-Request-Id"]
    assert f"[{reply['requestId']}]" in log.getvalue()
    assert "Traceback" in log.getvalue()
    assert not any(
        word in response.text for word in ("ZeroDivision", "figures", "BudgetCheckLog", "Traceback")
    )


@sqlite_only
@pytest.mark.parametrize(
    ("call", "body"), [("check", CHECK), ("reserve", RESERVE), ("release", REJECT)]
)
def test_missing_database_is_a_503_until_it_is_back(
    world: Flask, log: io.StringIO, call: str, body: str
) -> None:
    client, headers, path = world.test_client(), key_headers(), Path(database.db.file_path)
    reserve = client.post(
        "/api/budget/reserve", data=RESERVE, content_type="application/json", headers=headers
    )
    assert reserve.status_code == 200
    path.rename(path.with_suffix(".gone"))
    down = client.post(
        f"/api/budget/{call}", data=body, content_type="application/json", headers=headers
    )
    assert (down.status_code, json.loads(down.text)["code"]) == (503, "UNAVAILABLE")
    assert int(down.headers["Retry-After"]) > 0
    assert "unable to open" in log.getvalue()
    path.with_suffix(".gone").rename(path)
    back = client.post(
        f"/api/budget/{call}", data=body, content_type="application/json", headers=headers
    )
    assert (back.status_code, json.loads(back.text)["success"]) == (200, True)


# Budget release errors.


@pytest.mark.parametrize(
    "headers", [{}, {"Cookie": "budget_sync_session=made-up"}, {"Authorization": "Bearer made-up"}]
)
def test_release_without_a_valid_credential_is_a_401(
    server: Installation, headers: dict[str, str]
) -> None:
    hold(server)
    response = requests.post(
        f"{server.url}/api/budget/release", data=REJECT, headers=AS_JSON | headers, timeout=30
    )
    reply = expect(response, 401, success=False, code="AUTHENTICATION_REQUIRED")
    assert reply["error"].startswith("Authentication required")
    assert budget(server)["reservedAmount"] == 5000


def test_employee_may_not_reject(server: Installation, jane: requests.Session) -> None:
    hold(server, jane)
    expect(send(server, "release", REJECT, jane), 403, success=False)
    assert budget(server)["reservedAmount"] == 5000


def test_release_on_an_unknown_budget_is_a_404(
    server: Installation, fiona: requests.Session
) -> None:
    for caller in (fiona, None):
        expect(
            send(server, "release", REJECT, caller, budgetId="budget-999"),
            404,
            success=False,
            error="Budget not found.",
        )


def test_release_above_reserved_is_a_200_without_success(
    server: Installation, fiona: requests.Session
) -> None:
    hold(server)
    for caller in (fiona, None):
        reply = expect(
            send(server, "release", REJECT, caller, amount=5000.01),
            200,
            success=False,
            amountReleased=0,
        )
        assert "exceeds reserved" in reply["error"]
    assert budget(server)["reservedAmount"] == 5000


@pytest.mark.parametrize(
    "request_id",
    ["a/b", "/a", "a//b", "a\nb", "\r\n", "a?b#c", "%2F", "..", "a;b", " a ", "\u202e"],
    ids=repr,
)
def test_request_is_found_by_an_id_of_any_characters(server: Installation, request_id: str) -> None:
    full_id = f"{request_id}-found"
    assert (
        server.post(
            "/api/budget/reserve",
            json.loads(RESERVE) | {"requestId": full_id, "amount": 1},
            headers=server.key(),
        ).status_code
        == 200
    )
    reply = requests.get(
        f"{server.url}/api/requests/{quote(full_id, safe='')}", headers=server.key(), timeout=30
    )
    assert (reply.status_code, reply.json().get("requestId")) == (200, full_id)
