"""Tenant isolation: a customer cannot see, change or block anything of another customer.

Both customers have the same departments, periods and requests.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
import time_machine
from flask import Flask
from support.templates import Templates
from support.world import (
    PASSWORD,
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

from app import create_app
from budget_sync import database, manual_budgets, settings
from budget_sync.accounts import api_keys, authentication, customers, people
from budget_sync.database.models import (
    ApiKey,
    AuditLog,
    Budget,
    BudgetCheckLog,
    BudgetUtilization,
    Reservation,
    User,
)
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Actor, Role
from budget_sync.ledger import retention, verification
from budget_sync.queries import stats

pytestmark = pytest.mark.both_engines

ACME, UMBRELLA = "acme", "umbrella"
REQUEST = "intake-789"

#: Each customer has one user of each role, with an id such as acme-fpa_user.
ROLES = (Role.ADMIN, Role.FPA_USER, Role.BUSINESS_USER)


@dataclass
class World:
    """Both customers' users and services, by name.

    "acme" and "umbrella" are their services, "all" is a service for both, "super" a user for both.
    """

    app: Flask
    credentials: dict[str, dict[str, str]]

    def call(
        self,
        by: str,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> TestResponse:
        """Send a request as this caller."""
        if by not in self.credentials:
            login = self.app.test_client(use_cookies=False).post(
                "/api/auth/login", json={"email": f"{by}@example.com", "password": PASSWORD}
            )
            assert login.status_code == 200, login.json
            self.credentials[by] = {"Cookie": login.headers["Set-Cookie"].partition(";")[0]}
        return self.app.test_client(use_cookies=False).open(
            path, method=method, json=body, headers=self.credentials[by] | (headers or {})
        )

    def get(self, by: str, path: str) -> TestResponse:
        """GET as this caller."""
        return self.call(by, "GET", path)

    def check(self, by: str, customer_id: str, **changes: Any) -> TestResponse:
        """Check at this customer."""
        return self.call(
            by,
            "POST",
            "/api/budget/check",
            check_body(**{"customerId": customer_id, "userEmail": "jane@example.com"} | changes),
        )

    def reserve(
        self, by: str, budget_of: str, headers: dict[str, str] | None = None, **changes: Any
    ) -> TestResponse:
        """Reserve on this customer's budget."""
        return self.call(
            by,
            "POST",
            "/api/budget/reserve",
            reserve_body(**{"budgetId": f"{budget_of}-eng"} | changes),
            headers,
        )

    def commit(
        self, by: str, budget_of: str, headers: dict[str, str] | None = None, **changes: Any
    ) -> TestResponse:
        """Commit on this customer's budget."""
        return self.call(
            by,
            "POST",
            "/api/budget/commit",
            commit_body(**{"budgetId": f"{budget_of}-eng"} | changes),
            headers,
        )

    def release(
        self, by: str, budget_of: str, headers: dict[str, str] | None = None, **changes: Any
    ) -> TestResponse:
        """Release on this customer's budget."""
        return self.call(
            by,
            "POST",
            "/api/budget/release",
            release_body(**{"budgetId": f"{budget_of}-eng"} | changes),
            headers,
        )

    def amend(self, by: str, budget_of: str, **changes: Any) -> TestResponse:
        """Amend on this customer's budget."""
        body = amend_body(**{"budgetId": f"{budget_of}-eng"} | changes)
        return self.call(by, "POST", "/api/budget/amend", body)

    def reverse(self, by: str, budget_of: str, **changes: Any) -> TestResponse:
        """Reverse on this customer's budget."""
        body = reverse_body(**{"budgetId": f"{budget_of}-eng"} | changes)
        return self.call(by, "POST", "/api/budget/reverse", body)

    def spend(self, by: str, budget_of: str, **changes: Any) -> TestResponse:
        """Record a spend on this customer's budget."""
        by_id = {"department": None, "fiscalPeriod": None, "budgetId": f"{budget_of}-eng"}
        return self.call(by, "POST", "/api/budget/spend", spend_body(**by_id | changes))


def build(app: Flask) -> World:
    """Create both customers. Acme's currency is USD, Umbrella's JPY; everything else is equal."""
    for customer_id, currency in ((ACME, "USD"), (UMBRELLA, "JPY")):
        customers.add_customer(ROOT, customer_id, customer_id, currency=currency)
        manual_budgets.set_budget(
            ROOT,
            customer_id,
            "Engineering",
            "Q1 2025",
            Decimal(100_000),
            budget_id=f"{customer_id}-eng",
        )
    # One statement, because creating users is not the subject here.
    password_hash = cheap_hash()
    everybody: list[tuple[str, str | None, Role]] = [
        (f"{customer_id}-{role}", customer_id, role)
        for customer_id in (ACME, UMBRELLA)
        for role in ROLES
    ]
    User.insert_many(
        {
            "id": user_id,
            "customerId": customer_id,
            "name": user_id.title(),
            "email": f"{user_id}@example.com",
            "emailKey": f"{user_id}@example.com",
            "role": role,
            "passwordHash": password_hash,
            "createdAt": clock.now(),
        }
        for user_id, customer_id, role in [*everybody, ("super", None, Role.SUPER_ADMIN)]
    ).execute()
    keys = {
        ACME: key_headers(ACME),
        UMBRELLA: key_headers(UMBRELLA),
        "all": key_headers(None, "everywhere"),
    }
    keys["overspender"] = key_headers(ACME, "overspender", may_overspend=True)
    return World(app, keys)


@pytest.fixture
def world(app: Flask) -> World:
    """Both customers, without any requests."""
    return build(app)


def balances(customer_id: str) -> tuple[Any, ...]:
    """Balances and row counts of a customer: everything a call could change."""
    row = BudgetUtilization.get_by_id(f"{customer_id}-eng")
    counts = [
        table.select().where(table.customerId == customer_id).count()
        for table in (Reservation, BudgetCheckLog, AuditLog)
    ]
    return row.reservedMinor, row.committedMinor, row.version, *counts


def is_error(response: TestResponse, status: int, code: str) -> bool:
    """Assert that the response is this error; returns True."""
    assert (response.status_code, response.get_json()["code"]) == (status, code), response.json
    return True


# The same request id at both customers.


def test_same_request_is_independent_at_both_customers(world: World) -> None:
    for name in (ACME, UMBRELLA):
        checked = world.check(name, name).get_json()
        assert (
            checked["budget"]["id"],
            checked["budget"]["available"],
            "alreadyReserved" in checked,
        ) == (f"{name}-eng", 100_000, False)
        assert world.reserve(name, name, userId="jane").get_json()["newAvailable"] == 95_000
    assert world.release(ACME, ACME).get_json()["newAvailable"] == 100_000
    assert world.commit(UMBRELLA, UMBRELLA).get_json()["newAvailable"] == 95_000
    for name, currency, status in (
        (ACME, "USD", "amountReleased"),
        (UMBRELLA, "JPY", "amountCommitted"),
    ):
        found = world.get(name, f"/api/requests/{REQUEST}").get_json()
        (reservation,) = found["reservations"]
        assert (reservation["budgetId"], reservation["currency"], reservation[status]) == (
            f"{name}-eng",
            currency,
            5000,
        )
        assert [check["budgetId"] for check in found["checks"]] == [f"{name}-eng"]
        assert {movement["budgetId"] for movement in found["movements"]} == {f"{name}-eng"}
        assert [budget["id"] for budget in world.get(name, "/api/budgets").get_json()["items"]] == [
            f"{name}-eng"
        ]
    assert verification.verify().findings == []


def as_acme(world: World) -> list[TestResponse]:
    """Make a series of calls as Acme; returns the responses."""
    keyed = {"Idempotency-Key": "one"}
    employee = f"{ACME}-{Role.BUSINESS_USER}"
    return [
        world.check(ACME, ACME),
        world.check(employee, ACME, userId=employee),
        world.reserve(employee, ACME, keyed),
        world.reserve(ACME, ACME),
        world.release(employee, ACME, action="cancel", originalRequesterId=employee),
        world.reserve(ACME, ACME),
        world.commit(ACME, ACME, requestId="other request"),
        world.commit(ACME, ACME, keyed, amount=1),
        world.check(ACME, ACME),
        world.reserve(ACME, ACME, keyed, amount=100_000),
        world.commit(ACME, ACME, keyed, amount=60_000),
        world.release(ACME, ACME, keyed, amount=30_000),
        world.release(ACME, ACME, amount=99_999),
        world.release(ACME, ACME, action="cancel", amount=10_000, originalRequesterId=employee),
        world.check(ACME, ACME, amount=100_000),
        world.check(ACME, ACME, department="Legal"),
        world.reserve(ACME, ACME, requestId="other request", amount=100_000),
        world.get(ACME, "/api/budgets"),
        world.get(ACME, f"/api/budgets/{ACME}-eng"),
        world.get(ACME, f"/api/requests/{REQUEST}"),
        world.get(employee, f"/api/requests/{REQUEST}"),
        world.get(ACME, "/api/requests/other%20request"),
        *later_changes(world, ACME),
        world.get(ACME, "/api/requests"),
        world.get(ACME, "/api/requests?status=all&limit=2"),
        world.get(employee, "/api/requests?status=all"),
        world.get(ACME, "/api/requests/later"),
        world.get(ACME, "/api/requests/card-2025-0031"),
        world.get(employee, "/api/requests/card-2025-0031"),
        world.get(ACME, "/api/auth/me"),
    ]


def later_changes(world: World, name: str) -> list[TestResponse]:
    """Change a request, reverse a part of it, and record a spend, all twice."""
    named: dict[str, Any] = {"requestId": "later"}
    return [
        world.reserve(name, name, **named, amount=100),
        *(world.amend(name, name, **named, amount=200) for _ in range(2)),
        *(world.commit(name, name, **named, amount=200) for _ in range(2)),
        *(world.reverse(name, name, **named, amount=50) for _ in range(2)),
        *(world.spend(name, name, amount=10) for _ in range(2)),
        world.reverse(name, name, requestId="card-2025-0031", amount=4),
    ]


def as_umbrella(world: World) -> None:
    """Use the same requests, keys, departments and user names at Umbrella, and all its money."""
    manual_budgets.set_budget(
        ROOT, UMBRELLA, "Legal", "Q1 2025", Decimal(100_000), budget_id=f"{UMBRELLA}-legal"
    )
    keyed, employee = {"Idempotency-Key": "one"}, f"{UMBRELLA}-{Role.BUSINESS_USER}"
    for request_id in (REQUEST, "other request"):
        world.check(UMBRELLA, UMBRELLA, requestId=request_id, userId=f"{ACME}-{Role.FPA_USER}")
        world.check(employee, UMBRELLA, requestId=request_id, userId=employee)
        assert world.reserve(employee, UMBRELLA, keyed, requestId=request_id).status_code == (
            200 if request_id == REQUEST else 422
        )
    assert world.commit(UMBRELLA, UMBRELLA, keyed, amount=2).status_code == 200
    assert world.release(UMBRELLA, UMBRELLA, keyed, amount=3).status_code == 200
    assert world.reserve(UMBRELLA, UMBRELLA, requestId="the rest", amount=94_000).status_code == 200
    assert {reply.status_code for reply in later_changes(world, UMBRELLA)} == {200}


@pytest.fixture
def quiet(tmp_path: Path, templates: Templates) -> Iterator[World]:
    """The same two customers in a second database, where Umbrella makes no calls."""
    with templates.copy("tables", tmp_path / "quiet") as environment:
        yield build(create_app(settings.load(environment)))
        database.disconnect()


def test_responses_do_not_depend_on_the_other_customer(
    quiet: World, chosen: settings.Settings
) -> None:
    with time_machine.travel(datetime(2025, 2, 5, 10, 30, tzinfo=UTC), tick=False):
        quiet_replies = [comparable(reply) for reply in as_acme(quiet)]
        database.disconnect()
        chosen.instance_folder.mkdir(parents=True)
        database.connect(chosen.database, create=True)
        database.init_schema()
        busy = build(create_app(chosen))
        as_umbrella(busy)
        before = balances(UMBRELLA)
        busy_replies = [comparable(reply) for reply in as_acme(busy)]
        assert busy_replies == quiet_replies
        assert balances(UMBRELLA) == before
        assert {status for status, _ in quiet_replies} == {200, 403, 404, 409}


def comparable(reply: TestResponse) -> tuple[int, str]:
    """The status and text of a response, with random ids replaced."""
    return reply.status_code, re.sub(
        r"(chk|res|call)_[0-9a-f]{24}", r"\1_random", reply.get_data(as_text=True)
    )


def test_ids_reveal_no_counts(world: World) -> None:
    check_ids = [world.check(ACME, ACME).get_json()["checkId"] for _ in range(12)]
    reservation_ids = [
        world.reserve(ACME, ACME, requestId=f"request-{number}", amount=1).get_json()[
            "reservationId"
        ]
        for number in range(12)
    ]
    for ids, prefix in ((check_ids, "chk"), (reservation_ids, "res")):
        assert all(re.fullmatch(rf"{prefix}_[0-9a-f]{{24}}", name) for name in ids)
        # An id contains its creation time, but no counter: after the time, every digit varies
        # and the ids are not in order.
        now_ms = time.time_ns() // 1_000_000
        assert all(now_ms - 60_000 <= int(name[4:16], 16) <= now_ms for name in ids)
        tails = [name[16:] for name in ids]
        assert sorted(tails) != tails
        assert all(len({tail[place] for tail in tails}) > 2 for place in range(12))


def test_check_at_another_customer_reopens_no_reservation(world: World) -> None:
    world.check(ACME, ACME)
    world.reserve(ACME, ACME)
    world.release(ACME, ACME)
    world.check(UMBRELLA, UMBRELLA)
    assert is_error(world.reserve(ACME, ACME), 409, "RESERVATION_CLOSED")
    world.check(ACME, ACME)
    assert world.reserve(ACME, ACME).status_code == 200


def test_requester_never_comes_from_another_customer(world: World) -> None:
    other_user = f"{UMBRELLA}-{Role.FPA_USER}"
    world.check(
        UMBRELLA,
        UMBRELLA,
        userId=other_user,
        userName="Ursula",
        userEmail="ursula@umbrella.example",
    )
    world.reserve(ACME, ACME)
    world.reserve(ACME, ACME, requestId="second", userId=other_user)
    by_itself, by_id = Reservation.select().order_by(Reservation.seq)
    assert by_itself.requesterId.startswith("service:")
    # Acme's service named this user; Umbrella's data about the user is not copied.
    assert (by_id.requesterId, by_id.requesterName, by_id.requesterEmail) == (
        other_user,
        other_user,
        "",
    )


def test_idempotency_key_is_limited_to_one_customer(world: World) -> None:
    keyed = {"Idempotency-Key": "one"}
    for name in (ACME, UMBRELLA):
        reply = world.reserve("all", name, keyed)
        assert (reply.status_code, reply.get_json()["budgetId"]) == (200, f"{name}-eng")
        assert world.reserve("all", name, keyed).headers["Idempotent-Replayed"] == "true"


# Data of another customer gets the same response as data that does not exist.

INSIDERS = (ACME, f"{ACME}-{Role.ADMIN}", f"{ACME}-{Role.FPA_USER}", f"{ACME}-{Role.BUSINESS_USER}")

#: Bodies that could reveal a budget: by currency, decimals, balance, state or requests.
BODIES: dict[str, dict[str, Any]] = {
    "plain": {},
    "its currency": {"currency": "JPY"},
    "another currency": {"currency": "USD"},
    "too many decimals for its currency": {"amount": 0.5},
    "too many decimals for any currency": {"amount": 0.0005},
    "more than available": {"amount": 100_001},
    "the reserved amount": {"amount": 5000},
    "own customerId": {"customerId": ACME},
    "its requester": {"originalRequesterId": "jane"},
    "an unknown request": {"requestId": "unknown"},
    "over budget": {
        "amount": 200_000,
        "overBudget": {"approvedBy": f"{ACME}-{Role.FPA_USER}", "reason": "r"},
    },
}


def same(first: TestResponse, first_name: str, second: TestResponse, second_name: str) -> bool:
    """Assert that two responses are byte-identical except for the echoed name; returns True."""
    assert len(first_name) == len(second_name)
    headers = [
        sorted(
            (name, value) for name, value in reply.headers if name not in ("X-Request-Id", "Date")
        )
        for reply in (first, second)
    ]
    assert (first.status_code, first.data.replace(first_name.encode(), b"?"), headers[0]) == (
        second.status_code,
        second.data.replace(second_name.encode(), b"?"),
        headers[1],
    )
    return True


@pytest.mark.parametrize("by", INSIDERS)
def test_budget_of_another_customer_looks_nonexistent(world: World, by: str) -> None:
    manual_budgets.set_budget(
        ROOT, UMBRELLA, "Legal", "Q1 2025", Decimal(100_000), budget_id=f"{UMBRELLA}-old"
    )
    for name in ("eng", "old"):
        assert (
            world.reserve(
                UMBRELLA, UMBRELLA, budgetId=f"{UMBRELLA}-{name}", userId="jane"
            ).status_code
            == 200
        )
    Budget.update(deletedAt=clock.now()).where(Budget.id == f"{UMBRELLA}-old").execute()
    before, theirs, unknown = (
        balances(UMBRELLA),
        (f"{UMBRELLA}-eng", f"{UMBRELLA}-old"),
        "no_where-eng",
    )

    def looks_unknown(call: Callable[..., TestResponse], *place: str, **words: Any) -> bool:
        nothing = call(by, *place, **words | {"budgetId": unknown})
        return nothing.status_code in (400, 403, 404) and all(
            same(call(by, *place, **words | {"budgetId": name}), name, nothing, unknown)
            for name in theirs
        )

    assert looks_unknown(lambda by, **words: world.get(by, f"/api/budgets/{words['budgetId']}"))
    for case, words in BODIES.items():
        assert looks_unknown(world.reserve, ACME, **words), case
        assert looks_unknown(world.commit, ACME, **words), case
        assert looks_unknown(world.amend, ACME, **words), case
        assert looks_unknown(world.reverse, ACME, **words), case
        assert looks_unknown(world.spend, ACME, **words), case
        for action in ("reject", "manual", "cancel"):
            assert looks_unknown(world.release, ACME, **words, action=action), case
    held: dict[str, Any] = {"requestId": "to move", "amount": 5}
    assert world.reserve(ACME, ACME, **held, userId=by).status_code == 200

    def move(by: str, **words: Any) -> TestResponse:
        return world.amend(by, ACME, **held, toBudgetId=words["budgetId"])

    assert looks_unknown(move)
    assert balances(UMBRELLA) == before
    assert world.reserve(by, UMBRELLA).status_code == 404


@pytest.mark.parametrize("by", INSIDERS)
def test_request_of_another_customer_looks_nonexistent(world: World, by: str) -> None:
    world.check(UMBRELLA, UMBRELLA, requestId="request-there")
    world.reserve(UMBRELLA, UMBRELLA, requestId="request-there")
    there, nowhere = "request-there", "request-wrong"
    for query in ("", f"?customerId={ACME}"):
        reply = world.get(by, f"/api/requests/{there}{query}")
        assert reply.status_code == 404
        assert same(reply, there, world.get(by, f"/api/requests/{nowhere}{query}"), nowhere)
    assert world.spend(UMBRELLA, UMBRELLA, spendId="request-card!").status_code == 200
    reply = world.get(by, "/api/requests/request-card!")
    assert same(reply, "request-card!", world.get(by, f"/api/requests/{nowhere}"), nowhere)
    listed = world.get(by, "/api/requests?status=all").get_json()
    assert listed == {"items": [], "nextCursor": None}
    cursor = Reservation.get(Reservation.requestId == there).id
    assert is_error(world.get(by, f"/api/requests?cursor={cursor}"), 400, "INVALID_REQUEST")
    for call in (world.commit, world.release, world.amend, world.reverse):
        assert same(
            call(by, ACME, requestId=there), there, call(by, ACME, requestId=nowhere), nowhere
        )


@pytest.mark.parametrize("by", INSIDERS)
def test_another_customer_looks_nonexistent(world: World, by: str) -> None:
    customers.add_customer(ROOT, "disabled", "Disabled")
    customers.disable_customer(ROOT, "disabled")
    unknown = world.check(by, "no_where_")
    assert is_error(unknown, 400, "INVALID_CUSTOMER")
    assert unknown.get_json()["error"] == "Invalid customer"
    for name in (UMBRELLA, "disabled"):
        before = balances(UMBRELLA)
        assert world.check(by, name).data == unknown.data
        for path in ("/api/budgets?", f"/api/requests/{REQUEST}?"):
            assert (
                world.get(by, f"{path}customerId={name}").data
                == world.get(by, f"{path}customerId=no_where_").data
                == unknown.data
            )
        for call in (world.reserve, world.release):
            assert (
                call(by, ACME, customerId=name).data == call(by, ACME, customerId="no_where_").data
            )
            assert is_error(
                call(by, UMBRELLA, customerId=name, action="cancel", originalRequesterId=by),
                400,
                "INVALID_CUSTOMER",
            )
        assert balances(UMBRELLA) == before


def test_approver_of_another_customer_looks_nonexistent(
    world: World,
) -> None:
    def overspend(approver: str) -> TestResponse:
        return world.reserve(
            "overspender",
            ACME,
            amount=200_000,
            overBudget={"approvedBy": approver, "reason": "The launch cannot wait"},
        )

    theirs, unknown = f"{UMBRELLA}-{Role.FPA_USER}", f"no_where-{Role.FPA_USER}"
    assert is_error(overspend(theirs), 403, "OVERSPEND_NOT_ALLOWED")
    assert same(overspend(theirs), theirs, overspend(unknown), unknown)
    assert overspend(f"{ACME}-{Role.FPA_USER}").status_code == 200


@pytest.mark.parametrize("by", INSIDERS)
def test_budget_list_is_limited_to_the_customer(world: World, by: str) -> None:
    for query in (
        "",
        "?cursor=a",
        "?limit=1",
        "?department=Engineering&fiscalPeriod=Q1%202025",
        "?cursor=",
        f"?cursor={ACME}-en",
    ):
        reply = world.get(by, f"/api/budgets{query}")
        assert UMBRELLA not in reply.get_data(as_text=True)
        assert reply.status_code == 200 or query == "?cursor="
    assert world.get(by, f"/api/budgets?cursor={ACME}-eng").get_json() == {
        "items": [],
        "nextCursor": None,
    }


# Credentials for all customers.


@pytest.mark.parametrize("by", ["all", "super"])
def test_caller_for_all_customers_must_name_one(world: World, by: str) -> None:
    for name in (ACME, UMBRELLA):
        world.check(name, name)
        world.reserve(name, name)
    for path in ("/api/budgets", f"/api/requests/{REQUEST}"):
        missing = world.get(by, path)
        assert is_error(missing, 400, "INVALID_REQUEST")
        assert list(missing.get_json()["fields"]) == ["customerId"]
    for name, other in ((ACME, UMBRELLA), (UMBRELLA, ACME)):
        for path in ("/api/budgets", f"/api/requests/{REQUEST}"):
            text = world.get(by, f"{path}?customerId={name}").get_data(as_text=True)
            assert f"{name}-eng" in text
            assert other not in text


@pytest.mark.parametrize("by", ["all", "super"])
def test_budget_implies_its_customer_or_is_not_found(world: World, by: str) -> None:
    for name, other in ((ACME, UMBRELLA), (UMBRELLA, ACME)):
        assert world.get(by, f"/api/budgets/{name}-eng").get_json()["customerId"] == name
        wrong = world.reserve(by, name, customerId=other)
        assert same(
            wrong,
            f"{name}-eng",
            world.reserve(by, name, customerId=other, budgetId=f"{name[:2]}?{name[3:]}-eng"),
            f"{name[:2]}?{name[3:]}-eng",
        )
        assert is_error(wrong, 404, "BUDGET_NOT_FOUND")
        before, both = balances(other), cast("list[dict[str, Any]]", [{}, {"customerId": name}])
        for changes in both:
            assert world.reserve(by, name, **changes).status_code == 200
            assert world.commit(by, name, amount=1000, **changes).status_code == 200
            assert world.release(by, name, amount=4000, **changes).status_code == 200
            assert world.check(by, name).get_json()["budget"]["id"] == f"{name}-eng"
        assert balances(other) == before


@pytest.mark.parametrize("by", ["all", "super"])
def test_caller_for_all_customers_needs_an_existing_one(world: World, by: str) -> None:
    assert is_error(world.check(by, "nowhere"), 400, "INVALID_CUSTOMER")
    assert is_error(world.get(by, "/api/budgets?customerId=nowhere"), 400, "INVALID_CUSTOMER")


# Commands and pages of a customer's admin.


def admin_of(customer_id: str, role: Role = Role.ADMIN) -> Actor:
    """An admin of this customer."""
    return Actor(
        f"user:{customer_id}-admin",
        f"{customer_id}-admin",
        "Admin",
        "admin@example.com",
        role,
        customer_id,
    )


def key_of(customer_id: str | None) -> str:
    """The id of this customer's API key."""
    return str(
        ApiKey.select()
        .where(ApiKey.customerId == customer_id if customer_id else ApiKey.customerId.is_null())
        .get()
        .id
    )


#: Attempts of Acme's admin on Umbrella and on all customers. Each must fail and change nothing.
REACHES: dict[str, Callable[[Actor, Path], object]] = {
    "disable their user": lambda actor, _: people.disable_user(actor, f"{UMBRELLA}-fpa_user"),
    "enable their user": lambda actor, _: people.enable_user(actor, f"{UMBRELLA}-fpa_user"),
    "set their password": lambda actor, slots: people.set_password(
        actor, f"{UMBRELLA}-fpa_user", "a new password", slots_folder=slots
    ),
    "disable a super admin for all": lambda actor, _: people.disable_user(actor, "super"),
    "add a user there": lambda actor, slots: people.add_user(
        actor,
        "spy",
        "Spy",
        "spy@example.com",
        Role.ADMIN,
        customer_id=UMBRELLA,
        password=None,
        slots_folder=slots,
    ),
    "add a user for all": lambda actor, slots: people.add_user(
        actor,
        "spy",
        "Spy",
        "spy@example.com",
        Role.SUPER_ADMIN,
        customer_id=None,
        password=None,
        slots_folder=slots,
    ),
    "add a key there": lambda actor, _: api_keys.add_key(actor, "spy", customer_id=UMBRELLA),
    "add a key for all": lambda actor, _: api_keys.add_key(actor, "spy", customer_id=None),
    "revoke their key": lambda actor, _: api_keys.revoke_key(actor, key_of(UMBRELLA)),
    "revoke a key for all": lambda actor, _: api_keys.revoke_key(actor, key_of(None)),
    "add a customer": lambda actor, _: customers.add_customer(actor, "third", "Third"),
    "disable them": lambda actor, _: customers.disable_customer(actor, UMBRELLA),
    "change their budget": lambda actor, _: manual_budgets.set_budget(
        actor, UMBRELLA, "Engineering", "Q1 2025", Decimal(1)
    ),
    "create a budget there": lambda actor, _: manual_budgets.set_budget(
        actor, UMBRELLA, "Espionage", "Q1 2025", Decimal(1)
    ),
}


@pytest.mark.parametrize("role", [Role.ADMIN, Role.SUPER_ADMIN])
@pytest.mark.parametrize("reach", REACHES)
def test_admin_changes_nothing_of_another_customer(world: World, reach: str, role: Role) -> None:
    before = snapshot()
    with pytest.raises(RequestError) as error:
        REACHES[reach](admin_of(ACME, role), Path(world.app.instance_path))
    assert error.value.code in (Code.FORBIDDEN, Code.NOT_FOUND, Code.INVALID_CUSTOMER)
    assert snapshot() == before


def snapshot() -> list[tuple[object, ...]]:
    """All stored customers, users, keys, budgets and audit rows."""
    tables = ("Customer", "User", "ApiKey", "Budget", "AuditLog")
    return [
        row
        for table in tables
        for row in database.db.execute_sql(f'SELECT * FROM "{table}" ORDER BY "id"').fetchall()
    ]


def test_user_or_key_of_another_customer_looks_nonexistent(world: World) -> None:
    def sentence(work: Callable[[str], object], name: str) -> str:
        with pytest.raises(RequestError) as error:
            work(name)
        return error.value.sentence.replace(name, "?")

    admin = admin_of(ACME)
    assert sentence(lambda name: people.disable_user(admin, name), f"{UMBRELLA}-admin") == sentence(
        lambda name: people.disable_user(admin, name), "nobody"
    )
    assert sentence(lambda name: api_keys.revoke_key(admin, name), key_of(UMBRELLA)) == sentence(
        lambda name: api_keys.revoke_key(admin, name), "none"
    )


def test_admin_lists_only_their_own_customer(world: World) -> None:
    admin = admin_of(ACME)
    assert {user.customerId for user in people.list_users(admin, UMBRELLA)} == {ACME}
    assert {key.customerId for key in api_keys.list_keys(admin, UMBRELLA)} == {ACME}
    assert [customer.id for customer in customers.list_customers(admin)] == [ACME]


def test_admin_sees_statistics_of_their_customer_only(world: World) -> None:
    for _ in range(3):
        world.check(UMBRELLA, UMBRELLA)
    world.check(ACME, ACME)
    for customer_id in (None, ACME, UMBRELLA):
        figures = stats.load_stats(admin_of(ACME), customer_id)
        assert figures.checks == 1
        assert [row.currency for row in figures.utilization] == ["USD"]


def test_admin_prunes_no_checks_of_another_customer(world: World) -> None:
    with time_machine.travel(datetime(2024, 1, 1, tzinfo=UTC)):
        world.check(UMBRELLA, UMBRELLA)
    world.check(ACME, ACME)
    # Pruning may fail or be limited to the admin's customer; both are fine.
    with suppress(RequestError):
        retention.prune_checks(admin_of(ACME), 30)
    assert BudgetCheckLog.select().where(BudgetCheckLog.customerId == UMBRELLA).count() == 1


def test_credentials_work_for_one_customer_only(world: World) -> None:
    for name in (ACME, UMBRELLA):
        me = world.get(name, "/api/auth/me").get_json()["user"]
        assert (me["customerId"], me["role"]) == (name, "api_system")
        actor = authentication.actor_of_key(
            world.credentials[name]["Authorization"].removeprefix("Bearer ")
        )
        assert actor is not None
        assert [actor.serves(other) for other in (ACME, UMBRELLA)] == [
            name == ACME,
            name == UMBRELLA,
        ]
