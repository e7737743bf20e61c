"""Ownership: the stored requester decides about reserve, cancel and over-budget approval."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from support.world import (
    PASSWORD,
    ROOT,
    cheap_hash,
    check_body,
    key_headers,
    release_body,
    reserve_body,
)
from werkzeug.test import TestResponse

from budget_sync import manual_budgets
from budget_sync.accounts import customers, people
from budget_sync.database.models import (
    AuditLog,
    BudgetCheckLog,
    BudgetUtilization,
    Reservation,
    User,
)
from budget_sync.domain import clock
from budget_sync.domain.permissions import Actor, Role
from budget_sync.queries.timeline import request_timeline

pytestmark = pytest.mark.both_engines

CUSTOMER, OTHER_CUSTOMER = "org-456", "org-789"
BUDGET, OTHER_BUDGET = "budget-123", "budget-124"
REQUEST = "intake-789"

#: Id and role. Each name is the id in title case. Tom belongs to another customer.
PEOPLE = {
    "jane": Role.BUSINESS_USER,
    "mark": Role.BUSINESS_USER,
    "mona": Role.MANAGER,
    "fred": Role.FPA_USER,
    "fiona": Role.FPA_ADMIN,
    "alex": Role.ADMIN,
    "sue": Role.SUPER_ADMIN,
    "tom": Role.FPA_ADMIN,
}
ORDINARY = ("jane", "mona")
APPROVERS = ("fred", "fiona", "alex", "sue")


@dataclass
class Office:
    """One customer's users and services, by name; "anonymous" calls without a credential."""

    app: Flask
    credentials: dict[str, dict[str, str]]

    def post(
        self, path: str, by: str, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> TestResponse:
        """Send a POST request as that caller."""
        return self.app.test_client(use_cookies=False).post(
            path, json=body, headers=self._credential(by) | (headers or {})
        )

    def get(self, path: str, by: str) -> TestResponse:
        """Send a GET request as that caller."""
        return self.app.test_client(use_cookies=False).get(path, headers=self._credential(by))

    def _credential(self, by: str) -> dict[str, str]:
        if by in PEOPLE and by not in self.credentials:
            login = self.app.test_client(use_cookies=False).post(
                "/api/auth/login", json={"email": f"{by}@example.com", "password": PASSWORD}
            )
            assert login.status_code == 200, login.json
            self.credentials[by] = {"Cookie": login.headers["Set-Cookie"].partition(";")[0]}
        return self.credentials[by]

    def check(self, by: str, user_id: str, **changes: Any) -> TestResponse:
        """Check for that user, with a name and email that only the body has."""
        sent = {
            "userId": user_id,
            "userName": f"{user_id} by {by}",
            "userEmail": f"{user_id}@body.example",
        }
        return self.post("/api/budget/check", by, check_body(**sent | changes))

    def reserve(
        self, by: str, headers: dict[str, str] | None = None, **changes: Any
    ) -> TestResponse:
        """Reserve, with changes to the guide's body."""
        return self.post("/api/budget/reserve", by, reserve_body(**changes), headers)

    def cancel(self, by: str, requester: str | None, **changes: Any) -> TestResponse:
        """Cancel, naming that requester."""
        return self.post(
            "/api/budget/release",
            by,
            release_body(
                **{"action": "cancel", "originalRequesterId": requester, "reason": None} | changes
            ),
        )


@pytest.fixture
def office(app: Flask) -> Office:
    """Budgets of 10,000 for Engineering and Sales, all of PEOPLE, and two services."""
    for customer_id in (CUSTOMER, OTHER_CUSTOMER):
        customers.add_customer(ROOT, customer_id, customer_id)
    manual_budgets.set_budget(
        ROOT, CUSTOMER, "Engineering", "Q1 2025", Decimal(10_000), budget_id=BUDGET
    )
    manual_budgets.set_budget(
        ROOT, CUSTOMER, "Sales", "Q1 2025", Decimal(10_000), budget_id=OTHER_BUDGET
    )
    # One statement, because these tests are not about creating users.
    password_hash = cheap_hash()
    User.insert_many(
        {
            "id": user_id,
            "customerId": OTHER_CUSTOMER if user_id == "tom" else CUSTOMER,
            "name": user_id.title(),
            "email": f"{user_id}@example.com",
            "emailKey": f"{user_id}@example.com",
            "role": role,
            "passwordHash": password_hash,
            "createdAt": clock.now(),
        }
        for user_id, role in PEOPLE.items()
    ).execute()
    keys = {
        "orchestrator": key_headers(CUSTOMER),
        "overspender": key_headers(CUSTOMER, "overspender", may_overspend=True),
    }
    return Office(app, {"anonymous": {}} | keys)


def is_error(response: TestResponse, status: int, code: str) -> bool:
    """Assert that the reply is that error; always true."""
    assert (response.status_code, response.get_json()["code"]) == (status, code), response.json
    return True


def requester() -> str:
    """The requester of the latest reservation."""
    return str(Reservation.select().order_by(Reservation.seq.desc()).get().requesterId)


def latest_movement() -> AuditLog:
    """The latest audit row of a movement."""
    row: AuditLog = (
        AuditLog.select()
        .where(AuditLog.reservationId.is_null(False))
        .order_by(AuditLog.id.desc())
        .get()
    )
    return row


def reserved() -> int:
    """The reserved amount of both budgets, in minor units."""
    return sum(row.reservedMinor for row in BudgetUtilization.select())


# Checks


def test_check_stores_its_authenticated_sender(office: Office) -> None:
    claims = {"checkedBy": "user:fiona", "principal": "user:fiona"}
    for by, user_id in (
        ("jane", "jane"),
        ("fiona", "jane"),
        ("orchestrator", "jane"),
        ("anonymous", "jane"),
    ):
        assert office.check(by, user_id, **claims).status_code == 200
    rows = BudgetCheckLog.select().order_by(BudgetCheckLog.id)
    assert [(row.checkedBy, row.userId) for row in rows] == [
        ("user:jane", "jane"),
        ("user:fiona", "jane"),
        ("service:orchestrator", "jane"),
        (None, "jane"),
    ]


@pytest.mark.parametrize("by", ORDINARY)
def test_ordinary_user_checks_only_with_their_own_id(office: Office, by: str) -> None:
    for user_id in ("mark", "fiona", by.upper(), f"{by} ", f"user:{by}"):
        assert is_error(office.check(by, user_id), 403, "NOT_YOUR_REQUEST")
    assert BudgetCheckLog.select().count() == 0
    assert office.check(by, by).status_code == 200


@pytest.mark.parametrize("by", [*APPROVERS, "orchestrator"])
def test_fpa_and_services_check_for_any_user(office: Office, by: str) -> None:
    assert office.check(by, "jane").status_code == 200


# The requester of a reservation

#: Earlier checks of the request as (sender, userId); the reserving caller; the body's userId; the
#: resulting requester.
CHOICES: dict[str, tuple[list[tuple[str, str]], str, str | None, str]] = {
    "ordinary user reserves for themselves": ([("jane", "jane")], "jane", None, "jane"),
    "body of an ordinary user is ignored": ([("jane", "jane")], "jane", "mark", "jane"),
    "body of a manager is ignored": ([("mona", "mona")], "mona", "jane", "mona"),
    "ordinary user after a service's check for another": (
        [("jane", "jane"), ("orchestrator", "mark")],
        "jane",
        None,
        "jane",
    ),
    "service names the requester": ([], "orchestrator", "jane", "jane"),
    "body of a service before its check": (
        [("orchestrator", "mark")],
        "orchestrator",
        "jane",
        "jane",
    ),
    "body of a service before a person's check": (
        [("mark", "mark")],
        "orchestrator",
        "jane",
        "jane",
    ),
    "check by the service": ([("orchestrator", "jane")], "orchestrator", None, "jane"),
    "check by another service": ([("overspender", "jane")], "orchestrator", None, "jane"),
    "check by the user": ([("jane", "jane")], "orchestrator", None, "jane"),
    "later of two checks": (
        [("orchestrator", "mark"), ("orchestrator", "jane")],
        "orchestrator",
        None,
        "jane",
    ),
    "anonymous check if there is no other": (
        [("anonymous", "jane")],
        "orchestrator",
        None,
        "jane",
    ),
    "later of two anonymous checks": (
        [("anonymous", "mark"), ("anonymous", "jane")],
        "orchestrator",
        None,
        "jane",
    ),
    "authenticated before a later anonymous check": (
        [("orchestrator", "jane"), ("anonymous", "mark")],
        "orchestrator",
        None,
        "jane",
    ),
    "authenticated before an earlier anonymous check": (
        [("anonymous", "mark"), ("orchestrator", "jane")],
        "orchestrator",
        None,
        "jane",
    ),
    "FP&A names the requester": ([], "fred", "jane", "jane"),
    "FP&A after a service's check": ([("orchestrator", "jane")], "fiona", None, "jane"),
    "admin after a user's check": ([("jane", "jane")], "alex", None, "jane"),
    "FP&A without a check": ([], "fred", None, "fred"),
    "FP&A names itself": ([("orchestrator", "jane")], "sue", "sue", "sue"),
    "user without an account": (
        [("orchestrator", "contractor-7")],
        "orchestrator",
        None,
        "contractor-7",
    ),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_requester_of_a_reservation(office: Office, choice: str) -> None:
    checks, by, user_id, expected = CHOICES[choice]
    for sender, checked_for in checks:
        assert office.check(sender, checked_for).status_code == 200
    assert office.reserve(by, userId=user_id).status_code == 200
    assert requester() == expected


def test_service_is_requester_if_no_user_is_known(
    office: Office,
) -> None:
    office.check("orchestrator", "jane", requestId="another request")
    assert office.reserve("orchestrator").status_code == 200
    assert requester() == "service:orchestrator"


def test_named_requester_has_the_name_from_their_check(office: Office) -> None:
    office.check("orchestrator", "kim")
    office.check("orchestrator", "lee")
    assert office.reserve("orchestrator", userId="kim").status_code == 200
    assert latest_movement().onBehalfOf == "kim by orchestrator (kim@body.example)"


def test_open_reservation_keeps_its_requester(office: Office) -> None:
    first = office.reserve("orchestrator", userId="jane")
    office.check("orchestrator", "mark")
    for again in (
        office.reserve("orchestrator", userId="mark"),
        office.reserve("orchestrator"),
        office.reserve("fred", userId="fred"),
    ):
        assert (again.status_code, again.data) == (200, first.data)
        assert again.headers["Idempotent-Replayed"] == "true"
    assert Reservation.select().count() == 1
    assert requester() == "jane"


def test_audit_log_names_users_by_account_or_by_check(
    office: Office,
) -> None:
    office.check("anonymous", "jane", userName="The Boss", userEmail="boss@example.com")
    office.reserve("orchestrator")
    assert (latest_movement().changedBy, latest_movement().onBehalfOf) == (
        "orchestrator (service)",
        "Jane (jane@example.com)",
    )
    office.check(
        "orchestrator",
        "contractor-7",
        requestId="second",
        userName="Cora",
        userEmail="cora@example.com",
    )
    office.reserve("orchestrator", requestId="second", amount=1)
    assert latest_movement().onBehalfOf == "Cora (cora@example.com)"
    office.reserve("orchestrator", requestId="third", amount=1, userId="contractor-8")
    assert latest_movement().onBehalfOf == "contractor-8"
    # A check for another user does not provide the name.
    office.check(
        "orchestrator",
        "contractor-7",
        requestId="fourth",
        userName="Cora",
        userEmail="cora@example.com",
    )
    office.reserve("orchestrator", requestId="fourth", amount=1, userId="contractor-8")
    assert latest_movement().onBehalfOf == "contractor-8"


def test_audit_log_names_a_self_acting_user_once(office: Office) -> None:
    office.check("jane", "jane")
    office.reserve("jane")
    assert (
        latest_movement().changedBy,
        latest_movement().onBehalfOf,
        latest_movement().principal,
    ) == ("Jane (jane@example.com)", None, "user:jane")


# An ordinary user reserves only what they checked


def test_ordinary_users_check_counts_only_their_own_hold(office: Office) -> None:
    assert office.reserve("orchestrator", userId="mark", amount=6000).status_code == 200
    theirs = office.check("jane", "jane", amount=5000).get_json()
    assert (theirs["code"], "alreadyReserved" in theirs) == ("INSUFFICIENT_BUDGET", False)
    own = office.check("mark", "mark", amount=9000).get_json()
    assert (own["available"], own["alreadyReserved"]) == (True, 6000)
    another = office.check("mark", "mark", amount=5000, requestId="another").get_json()
    assert (another["code"], "alreadyReserved" in another) == ("INSUFFICIENT_BUDGET", False)


@pytest.mark.parametrize(
    ("by", "customer_id"),
    [("fred", OTHER_CUSTOMER), ("orchestrator", OTHER_CUSTOMER), ("anonymous", "org-nowhere")],
)
def test_check_of_other_or_unknown_customer_is_an_error(
    office: Office, by: str, customer_id: str
) -> None:
    assert is_error(office.check(by, "jane", customerId=customer_id), 400, "INVALID_CUSTOMER")
    assert BudgetCheckLog.select().count() == 0


@pytest.mark.parametrize("by", ORDINARY)
def test_ordinary_user_reserves_at_most_what_they_checked(office: Office, by: str) -> None:
    office.check(by, by, amount=5000)
    assert is_error(office.reserve(by, amount=5000.01), 409, "CHECK_REQUIRED")
    assert reserved() == 0
    assert office.reserve(by, amount=4999.99).status_code == 200


def test_ordinary_user_reserves_all_they_checked(office: Office) -> None:
    office.check("jane", "jane", amount=5000)
    assert office.reserve("jane", amount=5000).status_code == 200


#: Checks that do not count: sender, userId, and what differs.
WRONG_CHECKS: dict[str, list[tuple[str, str, dict[str, Any]]]] = {
    "none": [],
    "anonymous": [("anonymous", "jane", {})],
    "by a service for the user": [("orchestrator", "jane", {})],
    "by FP&A for the user": [("fred", "jane", {})],
    "of another user": [("mark", "mark", {})],
    "another request": [("jane", "jane", {"requestId": "another request"})],
    "another budget": [("jane", "jane", {"department": "Sales"})],
    "no budget": [("jane", "jane", {"department": "Nowhere"})],
    "a smaller amount": [("jane", "jane", {"amount": 4999.99})],
    "two whose sum is enough": [
        ("jane", "jane", {"amount": 2500}),
        ("jane", "jane", {"amount": 2500}),
    ],
}


@pytest.mark.parametrize("case", WRONG_CHECKS)
def test_checks_that_do_not_count(office: Office, case: str) -> None:
    for sender, checked_for, changes in WRONG_CHECKS[case]:
        assert office.check(sender, checked_for, **changes).status_code == 200
    assert is_error(office.reserve("jane"), 409, "CHECK_REQUIRED")
    assert reserved() == 0
    office.check("jane", "jane")
    assert office.reserve("jane").status_code == 200


@pytest.mark.parametrize("by", [*APPROVERS, "orchestrator"])
def test_fpa_and_services_need_no_check(office: Office, by: str) -> None:
    assert office.reserve(by).status_code == 200


@pytest.mark.parametrize("by", ORDINARY)
def test_request_held_by_another_user_is_an_error(office: Office, by: str) -> None:
    office.reserve("orchestrator", {"Idempotency-Key": "one"}, userId="mark")
    for amount in (5000, 1):
        assert is_error(office.reserve(by, amount=amount), 403, "NOT_YOUR_REQUEST")
        office.check(by, by, amount=amount)
        reply = office.reserve(by, {"Idempotency-Key": "one"}, amount=amount)
        assert is_error(reply, 403, "NOT_YOUR_REQUEST")
        assert reply.json == {
            "success": False,
            "error": "This request belongs to another user. Use a new requestId.",
            "code": "NOT_YOUR_REQUEST",
            "requestId": REQUEST,
        }
    assert is_error(office.reserve(by, budgetId=OTHER_BUDGET), 403, "NOT_YOUR_REQUEST")
    assert (reserved(), requester()) == (500_000, "mark")


@pytest.mark.parametrize("by", ORDINARY)
def test_check_by_another_user_does_not_block(office: Office, by: str) -> None:
    for sender in ("anonymous", "mark", "anonymous"):
        office.check(sender, "mark")
    office.check(by, by)
    office.check("anonymous", "mark")
    assert office.reserve(by).status_code == 200
    assert requester() == by
    assert office.cancel(by, by).status_code == 200


def test_anonymous_check_does_not_change_the_requester(office: Office) -> None:
    office.check("jane", "jane")
    office.check("anonymous", "mark")
    office.reserve("orchestrator")
    assert is_error(office.cancel("mark", "mark"), 403, "NOT_YOUR_REQUEST")
    assert office.cancel("jane", "jane").status_code == 200


# Cancel


@pytest.mark.parametrize("by", ORDINARY)
def test_requester_cancels_naming_themselves(office: Office, by: str) -> None:
    office.check(by, by)
    office.reserve(by)
    for named in (None, "mark", "fiona", by.upper(), f"user:{by}"):
        assert is_error(office.cancel(by, named), 403, "NOT_YOUR_REQUEST")
    assert reserved() == 500_000
    assert office.cancel(by, by).get_json()["amountReleased"] == 5000
    row = latest_movement()
    assert (row.action, row.changedBy, row.onBehalfOf, row.reason) == (
        "RELEASE",
        f"{by.title()} ({by}@example.com)",
        None,
        "Request cancelled by user",
    )


def test_requester_cancels_a_services_reservation_for_them(office: Office) -> None:
    office.reserve("orchestrator", userId="jane")
    assert office.cancel("jane", "jane").status_code == 200


@pytest.mark.parametrize("by", ["mark", "mona"])
def test_other_user_cannot_cancel(office: Office, by: str) -> None:
    office.check("jane", "jane")
    office.reserve("jane")
    for named in ("jane", by, None):
        assert is_error(office.cancel(by, named), 403, "NOT_YOUR_REQUEST")
        assert is_error(office.cancel(by, named, amount=1, userId="jane"), 403, "NOT_YOUR_REQUEST")
    assert reserved() == 500_000


def test_request_without_reservation_cannot_be_cancelled(office: Office) -> None:
    office.check("jane", "jane")
    assert is_error(office.cancel("jane", "jane"), 403, "NOT_YOUR_REQUEST")


@pytest.mark.parametrize("by", ORDINARY)
def test_ordinary_user_can_neither_reject_nor_release(office: Office, by: str) -> None:
    office.check(by, by)
    office.reserve(by)
    for action in ("reject", "manual"):
        assert is_error(office.cancel(by, by, action=action), 403, "FORBIDDEN")
    assert reserved() == 500_000


def test_service_names_the_stored_requester(office: Office) -> None:
    office.reserve("orchestrator", userId="jane")
    missing = office.cancel("orchestrator", None)
    assert is_error(missing, 400, "INVALID_REQUEST")
    assert list(missing.get_json()["fields"]) == ["originalRequesterId"]
    for named in ("mark", "JANE", "service:orchestrator", "orchestrator"):
        assert is_error(office.cancel("orchestrator", named), 403, "NOT_YOUR_REQUEST")
    assert reserved() == 500_000
    assert office.cancel("orchestrator", "jane").status_code == 200
    row = latest_movement()
    assert (row.changedBy, row.onBehalfOf, row.reason) == (
        "orchestrator (service)",
        "Jane (jane@example.com)",
        "Request cancelled by user",
    )


def test_missing_requester_is_the_first_error_of_a_cancel(office: Office) -> None:
    assert is_error(
        office.cancel("orchestrator", None, budgetId="no such budget"), 400, "INVALID_REQUEST"
    )


@pytest.mark.parametrize("by", APPROVERS)
@pytest.mark.parametrize("named", [None, "jane", "mark"])
def test_fpa_cancels_any_without_naming_the_requester(
    office: Office, by: str, named: str | None
) -> None:
    office.reserve("orchestrator", userId="jane")
    assert office.cancel(by, named).status_code == 200
    assert (latest_movement().changedBy, latest_movement().onBehalfOf) == (
        f"{by.title()} ({by}@example.com)",
        "Jane (jane@example.com)",
    )


@pytest.mark.parametrize("action", ["reject", "manual"])
def test_only_cancel_requires_the_requester(office: Office, action: str) -> None:
    office.reserve("orchestrator", userId="jane")
    assert office.cancel("orchestrator", None, action=action).status_code == 200


def test_cancel_is_replayed_only_to_the_requester(office: Office) -> None:
    office.check("jane", "jane")
    office.reserve("jane")
    first, again = office.cancel("jane", "jane"), office.cancel("jane", "jane")
    assert (again.status_code, again.data, again.headers["Idempotent-Replayed"]) == (
        200,
        first.data,
        "true",
    )
    for by, named in (("mark", "jane"), ("mark", "mark"), ("orchestrator", "mark")):
        assert is_error(office.cancel(by, named), 403, "NOT_YOUR_REQUEST")


def test_other_users_checks_do_not_hide_a_request(office: Office) -> None:
    office.check("jane", "jane")
    assert office.reserve("jane").status_code == 200
    row: Any = BudgetCheckLog.select().dicts().get()
    BudgetCheckLog.insert_many(
        [
            row
            | {"id": 1000 + n, "checkId": f"chk_{n}", "checkedBy": "user:mark", "userId": "mark"}
            for n in range(300)
        ]
    ).execute()
    found = office.get(f"/api/requests/{row['requestId']}", "jane").get_json()
    assert [check["checkId"] for check in found["checks"]] == [row["checkId"]]
    assert [movement["action"] for movement in found["movements"]] == ["RESERVE"]
    timeline = request_timeline(
        Actor("user:jane", "jane", "Jane", "jane@example.com", Role.BUSINESS_USER, CUSTOMER),
        CUSTOMER,
        row["requestId"],
    )
    assert (len(timeline.checks), len(timeline.reservations), len(timeline.movements)) == (1, 1, 1)
    # A user without a check or reservation of it gets the error.
    assert is_error(
        office.get(f"/api/requests/{row['requestId']}", "mona"), 403, "NOT_YOUR_REQUEST"
    )


# Over budget


def overspend(
    office: Office, by: str, approver: str, user_id: str | None = "jane", **changes: Any
) -> TestResponse:
    """Reserve 15,000 on a budget of 10,000."""
    approval = {"approvedBy": approver, "reason": "The launch cannot wait"}
    return office.reserve(
        by, **{"amount": 15_000, "userId": user_id, "overBudget": approval} | changes
    )


@pytest.mark.parametrize("by", APPROVERS)
def test_fpa_approves_over_budget_in_person(office: Office, by: str) -> None:
    reply = overspend(office, by, by).get_json()
    assert (reply["amountReserved"], reply["newAvailable"]) == (15_000, -5000)
    row = latest_movement()
    me = f"{by.title()} ({by}@example.com)"
    assert (row.action, row.changedBy, row.approvedBy, row.onBehalfOf, row.reason) == (
        "OVER_BUDGET",
        me,
        me,
        "Jane (jane@example.com)",
        "The launch cannot wait",
    )


@pytest.mark.parametrize("approver", APPROVERS)
def test_service_with_may_overspend_submits_an_approval(office: Office, approver: str) -> None:
    assert overspend(office, "overspender", approver).status_code == 200
    row = latest_movement()
    assert (row.action, row.changedBy, row.approvedBy, row.onBehalfOf, row.reason) == (
        "OVER_BUDGET",
        "overspender (service)",
        f"{approver.title()} ({approver}@example.com)",
        "Jane (jane@example.com)",
        "The launch cannot wait",
    )


def test_super_admin_of_all_customers_may_approve(office: Office) -> None:
    people.add_user(
        ROOT,
        "root-1",
        "Rita",
        "rita@example.com",
        Role.SUPER_ADMIN,
        customer_id=None,
        password=None,
        slots_folder=Path(),
    )
    assert overspend(office, "overspender", "root-1").status_code == 200
    assert latest_movement().approvedBy == "Rita (rita@example.com)"


def test_service_without_may_overspend_cannot(office: Office) -> None:
    assert is_error(
        overspend(office, "orchestrator", "fiona", mayOverspend=True), 403, "OVERSPEND_NOT_ALLOWED"
    )
    assert reserved() == 0


@pytest.mark.parametrize("by", ORDINARY)
def test_ordinary_user_cannot_approve_or_submit_approvals(office: Office, by: str) -> None:
    office.check(by, by, amount=15_000)
    for approver in (by, "fiona"):
        assert is_error(overspend(office, by, approver, by), 403, "OVERSPEND_NOT_ALLOWED")
    assert reserved() == 0


@pytest.mark.parametrize("by", APPROVERS)
def test_fpa_cannot_submit_another_users_approval(office: Office, by: str) -> None:
    for approver in ({*APPROVERS} - {by}) | {"jane", "nobody"}:
        assert is_error(overspend(office, by, approver), 403, "OVERSPEND_NOT_ALLOWED")
    assert reserved() == 0


def test_approver_must_be_fpa_of_same_customer(office: Office) -> None:
    User.update(disabledAt="2025-02-05T10:30:00Z").where(User.id == "alex").execute()
    for approver in (
        "mark",
        "mona",
        "tom",
        "alex",
        "unknown",
        "FIONA",
        "user:fiona",
        "fiona@example.com",
        "service:overspender",
    ):
        assert is_error(overspend(office, "overspender", approver), 403, "OVERSPEND_NOT_ALLOWED")
    assert reserved() == 0


@pytest.mark.parametrize("by", ["fiona", "overspender"])
def test_approver_is_not_the_requester(office: Office, by: str) -> None:
    assert is_error(overspend(office, by, "fiona", "fiona"), 403, "OVERSPEND_NOT_ALLOWED")
    # Fiona is the requester by the check, although the reserve names no user.
    office.check("fiona", "fiona", requestId="checked", amount=15_000)
    assert is_error(
        overspend(office, by, "fiona", None, requestId="checked"), 403, "OVERSPEND_NOT_ALLOWED"
    )
    office.check("anonymous", "fiona", requestId="anonymous", amount=15_000)
    assert is_error(
        overspend(office, by, "fiona", None, requestId="anonymous"), 403, "OVERSPEND_NOT_ALLOWED"
    )
    assert reserved() == 0


@pytest.mark.parametrize("by", ["fiona", "overspender"])
def test_approver_never_requested_it_under_their_own_name(office: Office, by: str) -> None:
    office.check("fiona", "fiona", amount=15_000)
    assert is_error(overspend(office, by, "fiona", "ghost"), 403, "OVERSPEND_NOT_ALLOWED")
    office.check("fiona", "jane", amount=15_000)
    assert is_error(overspend(office, by, "fiona", None), 403, "OVERSPEND_NOT_ALLOWED")
    assert office.reserve("fiona", amount=1, requestId="released").status_code == 200
    assert (
        office.cancel("fiona", "fiona", amount=1, requestId="released").get_json()["amountReleased"]
        == 1
    )
    office.check("orchestrator", "jane", requestId="released", amount=15_000)
    assert is_error(
        overspend(office, by, "fiona", "jane", requestId="released"), 403, "OVERSPEND_NOT_ALLOWED"
    )
    assert reserved() == 0


def test_anonymous_check_does_not_prevent_approval(office: Office) -> None:
    office.check("anonymous", "fiona", amount=15_000)
    assert overspend(office, "fiona", "fiona", "jane").status_code == 200


def test_approver_cannot_reserve_for_themselves(office: Office) -> None:
    assert is_error(overspend(office, "fiona", "fiona", None), 403, "OVERSPEND_NOT_ALLOWED")
    assert reserved() == 0


@pytest.mark.parametrize("by", [*APPROVERS, "orchestrator", "overspender"])
def test_only_an_approval_exceeds_the_budget(office: Office, by: str) -> None:
    for changes in ({}, {"overBudget": None}, {"approvedBy": "fiona"}, {"mayOverspend": True}):
        assert is_error(
            office.reserve(by, amount=10_000.01, userId="jane", **changes),
            409,
            "INSUFFICIENT_BUDGET",
        )
    assert reserved() == 0


def test_unneeded_approval_is_an_ordinary_reservation(office: Office) -> None:
    assert overspend(office, "fiona", "fiona", amount=10_000).status_code == 200
    assert (latest_movement().action, latest_movement().approvedBy) == ("RESERVE", None)


def test_over_budget_replay_needs_the_same_permission(
    office: Office,
) -> None:
    first, again = (
        overspend(office, "overspender", "fiona"),
        overspend(office, "overspender", "fiona"),
    )
    assert (again.status_code, again.data, again.headers["Idempotent-Replayed"]) == (
        200,
        first.data,
        "true",
    )
    assert is_error(overspend(office, "orchestrator", "fiona"), 403, "OVERSPEND_NOT_ALLOWED")
    assert is_error(overspend(office, "overspender", "jane"), 403, "OVERSPEND_NOT_ALLOWED")
    assert reserved() == 1_500_000


def test_over_budget_replay_keeps_the_requester(office: Office) -> None:
    assert (
        office.reserve("orchestrator", requestId="hers", amount=1, userId="fiona").status_code
        == 200
    )
    first = overspend(office, "fiona", "fiona", "jane")
    again = overspend(office, "fiona", "fiona", None)
    assert (again.status_code, again.data) == (200, first.data)
    assert is_error(
        overspend(office, "fiona", "fiona", "jane", requestId="hers", amount=1),
        403,
        "OVERSPEND_NOT_ALLOWED",
    )
