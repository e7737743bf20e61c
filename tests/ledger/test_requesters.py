"""Whose request it is: never a body's word. Who checked, who reserves, who cancels, and who approves going over budget."""

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
from budget_sync.accounts import people
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

#: id and role; everybody is named after their id. Tom is of another customer.
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
    """One customer's people and services, each by name; "nobody" calls without a credential."""

    app: Flask
    credentials: dict[str, dict[str, str]]

    def post(
        self, path: str, by: str, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> TestResponse:
        """Call as somebody."""
        return self.app.test_client(use_cookies=False).post(
            path, json=body, headers=self._credential(by) | (headers or {})
        )

    def get(self, path: str, by: str) -> TestResponse:
        """Ask as somebody."""
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
        """Check for somebody."""
        words = {
            "userId": user_id,
            "userName": f"{user_id} by {by}",
            "userEmail": f"{user_id}@words.example",
        }
        return self.post("/api/budget/check", by, check_body(**words | changes))

    def reserve(
        self, by: str, headers: dict[str, str] | None = None, **changes: Any
    ) -> TestResponse:
        """Reserve."""
        return self.post("/api/budget/reserve", by, reserve_body(**changes), headers)

    def cancel(self, by: str, requester: str | None, **changes: Any) -> TestResponse:
        """Release by cancel."""
        return self.post(
            "/api/budget/release",
            by,
            release_body(
                **{"action": "cancel", "originalRequesterId": requester, "reason": None} | changes
            ),
        )


@pytest.fixture
def office(app: Flask) -> Office:
    """10,000 for Engineering, as much for Sales, and everybody there."""
    for customer_id in (CUSTOMER, OTHER_CUSTOMER):
        people.add_customer(ROOT, customer_id, customer_id)
    manual_budgets.set_budget(
        ROOT, CUSTOMER, "Engineering", "Q1 2025", Decimal(10_000), budget_id=BUDGET
    )
    manual_budgets.set_budget(
        ROOT, CUSTOMER, "Sales", "Q1 2025", Decimal(10_000), budget_id=OTHER_BUDGET
    )
    # One statement: nothing here is about making people.
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
    return Office(app, {"nobody": {}} | keys)


def key_id(office: Office, name: str) -> str:
    """How a service's key is known where a person's id would stand."""
    return f"key:{office.credentials[name]['Authorization'].split('_')[1]}"


def refused(response: TestResponse, status: int, code: str) -> bool:
    """Whether the reply is that refusal."""
    assert (response.status_code, response.get_json()["code"]) == (status, code), response.json
    return True


def requester() -> str:
    """Whose the latest reservation is."""
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
    """What both budgets have reserved, in minor units."""
    return sum(row.reservedMinor for row in BudgetUtilization.select())


# Who checked.


def test_a_check_is_stored_with_who_sent_it_whatever_its_body_says(office: Office) -> None:
    claims = {"checkedBy": "user:fiona", "principal": "user:fiona"}
    for by, user_id in (
        ("jane", "jane"),
        ("fiona", "jane"),
        ("orchestrator", "jane"),
        ("nobody", "jane"),
    ):
        assert office.check(by, user_id, **claims).status_code == 200
    rows = BudgetCheckLog.select().order_by(BudgetCheckLog.id)
    assert [(row.checkedBy, row.userId) for row in rows] == [
        ("user:jane", "jane"),
        ("user:fiona", "jane"),
        (key_id(office, "orchestrator"), "jane"),
        (None, "jane"),
    ]


@pytest.mark.parametrize("by", ORDINARY)
def test_an_ordinary_users_check_has_to_carry_their_own_id(office: Office, by: str) -> None:
    for user_id in ("mark", "fiona", by.upper(), f"{by} ", f"user:{by}"):
        assert refused(office.check(by, user_id), 403, "NOT_YOUR_REQUEST")
    assert BudgetCheckLog.select().count() == 0
    assert office.check(by, by).status_code == 200


@pytest.mark.parametrize("by", [*APPROVERS, "orchestrator"])
def test_finance_and_services_check_for_anybody(office: Office, by: str) -> None:
    assert office.check(by, "jane").status_code == 200


# Whose a reservation is.

#: The checks made of the request before, as (sent by, for); who reserves; the body's userId; whose it is then.
CHOICES: dict[str, tuple[list[tuple[str, str]], str, str | None, str]] = {
    "an ordinary user reserves for themselves": ([("jane", "jane")], "jane", None, "jane"),
    "an ordinary user's body does not choose": ([("jane", "jane")], "jane", "mark", "jane"),
    "a manager's body does not choose": ([("mona", "mona")], "mona", "jane", "mona"),
    "an ordinary user's own is theirs, though a service checked it for someone else": (
        [("jane", "jane"), ("orchestrator", "mark")],
        "jane",
        None,
        "jane",
    ),
    "a service names whom it reserves for": ([], "orchestrator", "jane", "jane"),
    "a service's word comes before a check's": (
        [("orchestrator", "mark")],
        "orchestrator",
        "jane",
        "jane",
    ),
    "a service's word comes before a person's check": (
        [("mark", "mark")],
        "orchestrator",
        "jane",
        "jane",
    ),
    "a check that a service sent": ([("orchestrator", "jane")], "orchestrator", None, "jane"),
    "a check that another service sent": ([("overspender", "jane")], "orchestrator", None, "jane"),
    "a check that the person sent": ([("jane", "jane")], "orchestrator", None, "jane"),
    "the latest of two checks": (
        [("orchestrator", "mark"), ("orchestrator", "jane")],
        "orchestrator",
        None,
        "jane",
    ),
    "an anonymous check, where there is no other": (
        [("nobody", "jane")],
        "orchestrator",
        None,
        "jane",
    ),
    "the latest of two anonymous checks": (
        [("nobody", "mark"), ("nobody", "jane")],
        "orchestrator",
        None,
        "jane",
    ),
    "no later anonymous check comes before a proven one": (
        [("orchestrator", "jane"), ("nobody", "mark")],
        "orchestrator",
        None,
        "jane",
    ),
    "no earlier anonymous check either": (
        [("nobody", "mark"), ("orchestrator", "jane")],
        "orchestrator",
        None,
        "jane",
    ),
    "finance names whom it reserves for": ([], "fred", "jane", "jane"),
    "finance reserves what was checked": ([("orchestrator", "jane")], "fiona", None, "jane"),
    "an admin reserves what was checked": ([("jane", "jane")], "alex", None, "jane"),
    "finance reserves for itself, where nobody checked": ([], "fred", None, "fred"),
    "finance reserves for itself by name": ([("orchestrator", "jane")], "sue", "sue", "sue"),
    "somebody whom the service does not know": (
        [("orchestrator", "contractor-7")],
        "orchestrator",
        None,
        "contractor-7",
    ),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_a_reservation_is_whose_it_should_be(office: Office, choice: str) -> None:
    checks, by, user_id, whose = CHOICES[choice]
    for sender, checked_for in checks:
        assert office.check(sender, checked_for).status_code == 200
    assert office.reserve(by, userId=user_id).status_code == 200
    assert requester() == whose


def test_a_service_that_names_nobody_reserves_for_itself_where_nobody_checked(
    office: Office,
) -> None:
    office.check("orchestrator", "jane", requestId="another request")
    assert office.reserve("orchestrator").status_code == 200
    assert requester() == key_id(office, "orchestrator")


def test_whom_a_service_names_is_called_as_their_own_check_has_it(office: Office) -> None:
    office.check("orchestrator", "kim")
    office.check("orchestrator", "lee")
    assert office.reserve("orchestrator", userId="kim").status_code == 200
    assert latest_movement().onBehalfOf == "kim by orchestrator (kim@words.example)"


def test_who_made_a_reservation_first_keeps_it(office: Office) -> None:
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


def test_the_audit_log_names_a_known_person_by_their_record_and_anybody_else_by_the_check(
    office: Office,
) -> None:
    office.check("nobody", "jane", userName="The Boss", userEmail="boss@example.com")
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
    # A check for somebody else lends them no name.
    office.check(
        "orchestrator",
        "contractor-7",
        requestId="fourth",
        userName="Cora",
        userEmail="cora@example.com",
    )
    office.reserve("orchestrator", requestId="fourth", amount=1, userId="contractor-8")
    assert latest_movement().onBehalfOf == "contractor-8"


def test_the_audit_log_names_a_person_who_acts_for_themselves_once(office: Office) -> None:
    office.check("jane", "jane")
    office.reserve("jane")
    assert (
        latest_movement().changedBy,
        latest_movement().onBehalfOf,
        latest_movement().principal,
    ) == ("Jane (jane@example.com)", None, "user:jane")


# An ordinary user reserves what they checked.


def test_an_ordinary_users_check_counts_their_own_hold_alone(office: Office) -> None:
    assert office.reserve("orchestrator", userId="mark", amount=6000).status_code == 200
    theirs = office.check("jane", "jane", amount=5000).get_json()
    assert (theirs["code"], "alreadyReserved" in theirs) == ("INSUFFICIENT_BUDGET", False)
    own = office.check("mark", "mark", amount=9000).get_json()
    assert (own["available"], own["alreadyReserved"]) == (True, 6000)
    another = office.check("mark", "mark", amount=5000, requestId="another").get_json()
    assert (another["code"], "alreadyReserved" in another) == ("INSUFFICIENT_BUDGET", False)


@pytest.mark.parametrize(
    ("by", "customer_id"),
    [("fred", OTHER_CUSTOMER), ("orchestrator", OTHER_CUSTOMER), ("nobody", "org-nowhere")],
)
def test_a_check_of_another_or_an_unknown_customer_is_refused(
    office: Office, by: str, customer_id: str
) -> None:
    assert refused(office.check(by, "jane", customerId=customer_id), 400, "INVALID_CUSTOMER")
    assert BudgetCheckLog.select().count() == 0


@pytest.mark.parametrize("by", ORDINARY)
def test_an_ordinary_user_reserves_up_to_what_they_checked(office: Office, by: str) -> None:
    office.check(by, by, amount=5000)
    assert refused(office.reserve(by, amount=5000.01), 409, "CHECK_REQUIRED")
    assert reserved() == 0
    assert office.reserve(by, amount=4999.99).status_code == 200


def test_an_ordinary_user_reserves_all_of_what_they_checked(office: Office) -> None:
    office.check("jane", "jane", amount=5000)
    assert office.reserve("jane", amount=5000).status_code == 200


#: Checks that are not the one that is asked for: sent by, for, and what differs.
WRONG_CHECKS: dict[str, list[tuple[str, str, dict[str, Any]]]] = {
    "none": [],
    "an anonymous one": [("nobody", "jane", {})],
    "one that a service sent for them": [("orchestrator", "jane", {})],
    "one that finance sent for them": [("fred", "jane", {})],
    "somebody else's": [("mark", "mark", {})],
    "one of another request": [("jane", "jane", {"requestId": "another request"})],
    "one of another budget": [("jane", "jane", {"department": "Sales"})],
    "one of no budget": [("jane", "jane", {"department": "Nowhere"})],
    "one of less": [("jane", "jane", {"amount": 4999.99})],
    "two that come to enough": [
        ("jane", "jane", {"amount": 2500}),
        ("jane", "jane", {"amount": 2500}),
    ],
}


@pytest.mark.parametrize("case", WRONG_CHECKS)
def test_no_other_check_will_do(office: Office, case: str) -> None:
    for sender, checked_for, changes in WRONG_CHECKS[case]:
        assert office.check(sender, checked_for, **changes).status_code == 200
    assert refused(office.reserve("jane"), 409, "CHECK_REQUIRED")
    assert reserved() == 0
    office.check("jane", "jane")
    assert office.reserve("jane").status_code == 200


@pytest.mark.parametrize("by", [*APPROVERS, "orchestrator"])
def test_finance_and_services_need_no_check(office: Office, by: str) -> None:
    assert office.reserve(by).status_code == 200


@pytest.mark.parametrize("by", ORDINARY)
def test_a_request_that_someone_else_holds_is_refused_checked_or_not(
    office: Office, by: str
) -> None:
    office.reserve("orchestrator", {"Idempotency-Key": "one"}, userId="mark")
    for amount in (5000, 1):
        assert refused(office.reserve(by, amount=amount), 403, "NOT_YOUR_REQUEST")
        office.check(by, by, amount=amount)
        refusal = office.reserve(by, {"Idempotency-Key": "one"}, amount=amount)
        assert refused(refusal, 403, "NOT_YOUR_REQUEST")
        assert refusal.json == {
            "success": False,
            "error": "This request belongs to someone else.",
            "code": "NOT_YOUR_REQUEST",
            "requestId": REQUEST,
        }
    assert refused(office.reserve(by, budgetId=OTHER_BUDGET), 403, "NOT_YOUR_REQUEST")
    assert (reserved(), requester()) == (500_000, "mark")


@pytest.mark.parametrize("by", ORDINARY)
def test_a_check_by_somebody_else_blocks_nobody(office: Office, by: str) -> None:
    for sender in ("nobody", "mark", "nobody"):
        office.check(sender, "mark")
    office.check(by, by)
    office.check("nobody", "mark")
    assert office.reserve(by).status_code == 200
    assert requester() == by
    assert office.cancel(by, by).status_code == 200


def test_an_anonymous_check_takes_nobodys_request_over(office: Office) -> None:
    office.check("jane", "jane")
    office.check("nobody", "mark")
    office.reserve("orchestrator")
    assert refused(office.cancel("mark", "mark"), 403, "NOT_YOUR_REQUEST")
    assert office.cancel("jane", "jane").status_code == 200


# Who cancels.


@pytest.mark.parametrize("by", ORDINARY)
def test_the_requester_cancels_naming_themselves(office: Office, by: str) -> None:
    office.check(by, by)
    office.reserve(by)
    for named in (None, "mark", "fiona", by.upper(), f"user:{by}"):
        assert refused(office.cancel(by, named), 403, "NOT_YOUR_REQUEST")
    assert reserved() == 500_000
    assert office.cancel(by, by).get_json()["amountReleased"] == 5000
    row = latest_movement()
    assert (row.action, row.changedBy, row.onBehalfOf, row.reason) == (
        "RELEASE",
        f"{by.title()} ({by}@example.com)",
        None,
        "Request cancelled by user",
    )


def test_the_requester_cancels_what_a_service_reserved_for_them(office: Office) -> None:
    office.reserve("orchestrator", userId="jane")
    assert office.cancel("jane", "jane").status_code == 200


@pytest.mark.parametrize("by", ["mark", "mona"])
def test_a_stranger_cancels_nothing_whoever_they_name(office: Office, by: str) -> None:
    office.check("jane", "jane")
    office.reserve("jane")
    for named in ("jane", by, None):
        assert refused(office.cancel(by, named), 403, "NOT_YOUR_REQUEST")
        assert refused(office.cancel(by, named, amount=1, userId="jane"), 403, "NOT_YOUR_REQUEST")
    assert reserved() == 500_000


def test_nobodys_reservation_is_nobodys_to_cancel(office: Office) -> None:
    office.check("jane", "jane")
    assert refused(office.cancel("jane", "jane"), 403, "NOT_YOUR_REQUEST")


@pytest.mark.parametrize("by", ORDINARY)
def test_an_ordinary_user_neither_rejects_nor_releases_by_hand_even_their_own(
    office: Office, by: str
) -> None:
    office.check(by, by)
    office.reserve(by)
    for action in ("reject", "manual"):
        assert refused(office.cancel(by, by, action=action), 403, "FORBIDDEN")
    assert reserved() == 500_000


def test_a_service_names_the_requester_that_the_reservation_holds(office: Office) -> None:
    office.reserve("orchestrator", userId="jane")
    missing = office.cancel("orchestrator", None)
    assert refused(missing, 400, "INVALID_REQUEST")
    assert list(missing.get_json()["fields"]) == ["originalRequesterId"]
    for named in ("mark", "JANE", key_id(office, "orchestrator"), "orchestrator"):
        assert refused(office.cancel("orchestrator", named), 403, "NOT_YOUR_REQUEST")
    assert reserved() == 500_000
    assert office.cancel("orchestrator", "jane").status_code == 200
    row = latest_movement()
    assert (row.changedBy, row.onBehalfOf, row.reason) == (
        "orchestrator (service)",
        "Jane (jane@example.com)",
        "Request cancelled by user",
    )


def test_a_service_that_names_no_requester_is_told_so_before_anything_else(office: Office) -> None:
    assert refused(
        office.cancel("orchestrator", None, budgetId="no such budget"), 400, "INVALID_REQUEST"
    )


@pytest.mark.parametrize("by", APPROVERS)
@pytest.mark.parametrize("named", [None, "jane", "mark"])
def test_finance_cancels_any_and_need_not_name_the_requester(
    office: Office, by: str, named: str | None
) -> None:
    office.reserve("orchestrator", userId="jane")
    assert office.cancel(by, named).status_code == 200
    assert (latest_movement().changedBy, latest_movement().onBehalfOf) == (
        f"{by.title()} ({by}@example.com)",
        "Jane (jane@example.com)",
    )


@pytest.mark.parametrize("action", ["reject", "manual"])
def test_only_a_cancel_asks_for_the_requester(office: Office, action: str) -> None:
    office.reserve("orchestrator", userId="jane")
    assert office.cancel("orchestrator", None, action=action).status_code == 200


def test_a_cancel_is_answered_again_to_the_requester_and_to_no_stranger(office: Office) -> None:
    office.check("jane", "jane")
    office.reserve("jane")
    first, again = office.cancel("jane", "jane"), office.cancel("jane", "jane")
    assert (again.status_code, again.data, again.headers["Idempotent-Replayed"]) == (
        200,
        first.data,
        "true",
    )
    for by, named in (("mark", "jane"), ("mark", "mark"), ("orchestrator", "mark")):
        assert refused(office.cancel(by, named), 403, "NOT_YOUR_REQUEST")


def test_no_number_of_other_peoples_checks_hides_a_request_from_its_owner(office: Office) -> None:
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
    story = request_timeline(
        Actor("user:jane", "jane", "Jane", "jane@example.com", Role.BUSINESS_USER, CUSTOMER),
        CUSTOMER,
        row["requestId"],
    )
    assert (len(story.checks), len(story.reservations), len(story.movements)) == (1, 1, 1)
    # And who holds nothing of it is told so.
    assert refused(office.get(f"/api/requests/{row['requestId']}", "mona"), 403, "NOT_YOUR_REQUEST")


# Over budget.


def overspend(
    office: Office, by: str, approver: str, user_id: str | None = "jane", **changes: Any
) -> TestResponse:
    """Reserve 15,000 of 10,000."""
    approval = {"approvedBy": approver, "reason": "The launch cannot wait"}
    return office.reserve(
        by, **{"amount": 15_000, "userId": user_id, "overBudget": approval} | changes
    )


@pytest.mark.parametrize("by", APPROVERS)
def test_finance_approves_over_budget_in_person(office: Office, by: str) -> None:
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
def test_a_service_made_for_it_brings_finances_approval(office: Office, approver: str) -> None:
    assert overspend(office, "overspender", approver).status_code == 200
    row = latest_movement()
    assert (row.action, row.changedBy, row.approvedBy, row.onBehalfOf, row.reason) == (
        "OVER_BUDGET",
        "overspender (service)",
        f"{approver.title()} ({approver}@example.com)",
        "Jane (jane@example.com)",
        "The launch cannot wait",
    )


def test_a_super_admin_of_all_customers_approves_for_each(office: Office) -> None:
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


def test_any_other_service_does_not(office: Office) -> None:
    assert refused(
        overspend(office, "orchestrator", "fiona", mayOverspend=True), 403, "OVERSPEND_NOT_ALLOWED"
    )
    assert reserved() == 0


@pytest.mark.parametrize("by", ORDINARY)
def test_an_ordinary_user_neither_approves_nor_brings_an_approval(office: Office, by: str) -> None:
    office.check(by, by, amount=15_000)
    for approver in (by, "fiona"):
        assert refused(overspend(office, by, approver, by), 403, "OVERSPEND_NOT_ALLOWED")
    assert reserved() == 0


@pytest.mark.parametrize("by", APPROVERS)
def test_finance_approves_for_nobody_but_themselves(office: Office, by: str) -> None:
    for approver in ({*APPROVERS} - {by}) | {"jane", "nobody"}:
        assert refused(overspend(office, by, approver), 403, "OVERSPEND_NOT_ALLOWED")
    assert reserved() == 0


def test_who_is_no_finance_person_of_this_customer_cannot_be_named(office: Office) -> None:
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
        key_id(office, "overspender"),
    ):
        assert refused(overspend(office, "overspender", approver), 403, "OVERSPEND_NOT_ALLOWED")
    assert reserved() == 0


@pytest.mark.parametrize("by", ["fiona", "overspender"])
def test_nobody_approves_their_own_request(office: Office, by: str) -> None:
    assert refused(overspend(office, by, "fiona", "fiona"), 403, "OVERSPEND_NOT_ALLOWED")
    # The requester is hers by the check, though nobody says so in the reserve.
    office.check("fiona", "fiona", requestId="checked", amount=15_000)
    assert refused(
        overspend(office, by, "fiona", None, requestId="checked"), 403, "OVERSPEND_NOT_ALLOWED"
    )
    office.check("nobody", "fiona", requestId="anonymous", amount=15_000)
    assert refused(
        overspend(office, by, "fiona", None, requestId="anonymous"), 403, "OVERSPEND_NOT_ALLOWED"
    )
    assert reserved() == 0


@pytest.mark.parametrize("by", ["fiona", "overspender"])
def test_nobody_approves_what_they_once_asked_for_themselves_by_naming_somebody_else(
    office: Office, by: str
) -> None:
    office.check("fiona", "fiona", amount=15_000)
    assert refused(overspend(office, by, "fiona", "ghost"), 403, "OVERSPEND_NOT_ALLOWED")
    office.check("fiona", "jane", amount=15_000)
    assert refused(overspend(office, by, "fiona", None), 403, "OVERSPEND_NOT_ALLOWED")
    assert office.reserve("fiona", amount=1, requestId="given-back").status_code == 200
    assert (
        office.cancel("fiona", "fiona", amount=1, requestId="given-back").get_json()[
            "amountReleased"
        ]
        == 1
    )
    office.check("orchestrator", "jane", requestId="given-back", amount=15_000)
    assert refused(
        overspend(office, by, "fiona", "jane", requestId="given-back"), 403, "OVERSPEND_NOT_ALLOWED"
    )
    assert reserved() == 0


def test_an_anonymous_check_keeps_nobody_from_approving(office: Office) -> None:
    office.check("nobody", "fiona", amount=15_000)
    assert overspend(office, "fiona", "fiona", "jane").status_code == 200


def test_nobody_approves_what_they_reserve_for_themselves(office: Office) -> None:
    assert refused(overspend(office, "fiona", "fiona", None), 403, "OVERSPEND_NOT_ALLOWED")
    assert reserved() == 0


@pytest.mark.parametrize("by", [*APPROVERS, "orchestrator", "overspender"])
def test_there_is_no_other_way_past_the_limit(office: Office, by: str) -> None:
    for changes in ({}, {"overBudget": None}, {"approvedBy": "fiona"}, {"mayOverspend": True}):
        assert refused(
            office.reserve(by, amount=10_000.01, userId="jane", **changes),
            409,
            "INSUFFICIENT_BUDGET",
        )
    assert reserved() == 0


def test_an_approval_that_was_not_needed_is_an_ordinary_reservation(office: Office) -> None:
    assert overspend(office, "fiona", "fiona", amount=10_000).status_code == 200
    assert (latest_movement().action, latest_movement().approvedBy) == ("RESERVE", None)


def test_an_over_budget_reserve_is_answered_again_to_those_alone_who_may_bring_it(
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
    assert refused(overspend(office, "orchestrator", "fiona"), 403, "OVERSPEND_NOT_ALLOWED")
    assert refused(overspend(office, "overspender", "jane"), 403, "OVERSPEND_NOT_ALLOWED")
    assert reserved() == 1_500_000


def test_an_over_budget_reserve_sent_again_is_still_whose_it_was(office: Office) -> None:
    assert (
        office.reserve("orchestrator", requestId="hers", amount=1, userId="fiona").status_code
        == 200
    )
    first = overspend(office, "fiona", "fiona", "jane")
    again = overspend(office, "fiona", "fiona", None)
    assert (again.status_code, again.data) == (200, first.data)
    assert refused(
        overspend(office, "fiona", "fiona", "jane", requestId="hers", amount=1),
        403,
        "OVERSPEND_NOT_ALLOWED",
    )
