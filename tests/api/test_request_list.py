"""GET /api/requests: its filters, its order, its pages, and which requests wait for approval."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from flask import Flask
from support.world import (
    ROOT,
    amend_body,
    check_body,
    commit_body,
    demo_client,
    key_headers,
    person,
    release_body,
    reserve_body,
    reverse_body,
    spend_body,
)
from werkzeug.test import TestResponse

from budget_sync import database, ledger, manual_budgets
from budget_sync.database.models import Customer
from budget_sync.domain import clock
from budget_sync.domain.decision_models import ApproveRequest, DeclineRequest
from budget_sync.domain.errors import RequestError
from budget_sync.domain.permissions import ANONYMOUS, Actor, Role
from budget_sync.domain.request_models import (
    CheckRequest,
    ReserveRequest,
)
from budget_sync.operations import demo
from budget_sync.queries import api
from budget_sync.queries.request_query import RequestQuery
from budget_sync.queries.requests import reservations_page
from budget_sync.queries.spends import spends_page

pytestmark = pytest.mark.both_engines

#: The request of the demo's closed reservation.
OF_THE_DEMO = "intake-101"


class Desk:
    """Makes calls as the orchestrator."""

    def __init__(self, app: Flask) -> None:
        self.client = app.test_client()
        self.key = key_headers()
        manual_budgets.set_budget(
            ROOT, demo.CUSTOMER, "Events", "Q2 2025", Decimal(50_000), budget_id="events"
        )

    def post(self, call: str, body: dict[str, Any]) -> TestResponse:
        """A successful call."""
        response = self.client.post(f"/api/budget/{call}", json=body, headers=self.key)
        assert response.status_code == 200, response.text
        return response

    def hold(self, request_id: str, amount: int = 10, budget_id: str = "budget-123") -> None:
        """Reserve an amount."""
        self.post("reserve", reserve_body(requestId=request_id, amount=amount, budgetId=budget_id))

    def check(self, request_id: str, amount: int, **changes: Any) -> None:
        """Check an amount: up to 10,000 it is approved automatically."""
        self.post("check", check_body(requestId=request_id, amount=amount, **changes))

    def page(self, query: str = "") -> dict[str, Any]:
        """A page of the list."""
        response = self.client.get(f"/api/requests{query}", headers=self.key)
        assert response.status_code == 200, response.text
        page: dict[str, Any] = response.get_json()
        return page

    def listed(self, query: str = "") -> list[str]:
        """The ids of the requests on a page."""
        return [item["requestId"] for item in self.page(query)["items"]]


@pytest.fixture
def desk(world: Flask) -> Desk:
    """The guide's world, with a second budget."""
    return Desk(world)


def test_open_requests_come_oldest_first_others_newest_first(desk: Desk) -> None:
    for number in range(4):
        desk.hold(f"r{number}")
    desk.post("commit", commit_body(requestId="r1", amount=10))
    desk.post("commit", commit_body(requestId="r3", amount=10))
    assert desk.listed() == desk.listed("?status=open") == ["r0", "r2"]
    assert desk.listed("?status=closed") == ["r3", "r1", OF_THE_DEMO]
    assert desk.listed("?status=all") == ["r3", "r2", "r1", "r0", OF_THE_DEMO]


@pytest.mark.parametrize("status", ["open", "closed", "all"])
@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_have_every_request_once(desk: Desk, status: str, limit: int) -> None:
    for number in range(5):
        desk.hold(f"r{number}")
        if status == "closed":
            desk.post("commit", commit_body(requestId=f"r{number}", amount=10))
    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        page = desk.page(f"?status={status}&limit={limit}{cursor}")
        assert len(page["items"]) <= limit
        seen += [item["requestId"] for item in page["items"]]
        cursor = page["nextCursor"] and f"&cursor={page['nextCursor']}"
    wanted = [f"r{number}" for number in range(5)]
    assert seen == (wanted if status == "open" else [*wanted[::-1], OF_THE_DEMO])


def test_page_continues_after_a_request_that_was_closed_since(desk: Desk) -> None:
    for number in range(4):
        desk.hold(f"r{number}")
    cursor = desk.page("?limit=2")["nextCursor"]
    desk.post("commit", commit_body(requestId="r1", amount=10))
    assert desk.listed(f"?cursor={cursor}") == ["r2", "r3"]


def test_filters_use_the_spellings_of_a_check(desk: Desk) -> None:
    desk.hold("first")
    desk.hold("second", budget_id="events")
    assert desk.listed("?department=%20engineering%20") == ["first"]
    assert desk.listed("?fiscalPeriod=2025-Q2") == ["second"]
    assert desk.listed("?department=EVENTS&fiscalPeriod=q2%20fy2025") == ["second"]
    assert desk.listed("?department=Events&fiscalPeriod=Q1%202025") == []
    assert desk.listed("?department=Nowhere") == []


def test_older_than_days_counts_from_the_creation(desk: Desk) -> None:
    now = clock.now()
    for days in (0, 3, 7):
        with time_machine.travel(now - timedelta(days=days, minutes=1), tick=False):
            desk.hold(f"of-{days}")
    assert desk.listed("?olderThanDays=0") == ["of-7", "of-3", "of-0"]
    assert desk.listed("?olderThanDays=3") == ["of-7", "of-3"]
    assert desk.listed("?olderThanDays=7") == ["of-7"]
    assert desk.listed("?olderThanDays=8&status=all") == []


def test_item_shows_later_changes(desk: Desk) -> None:
    Customer.update(holdDays=30).execute()
    desk.check("r", 20_000)
    desk.hold("r", 20_000)
    desk.post("amend", amend_body(requestId="r", amount=18_000))
    desk.post("commit", commit_body(requestId="r", amount=8000))
    desk.post("reverse", reverse_body(requestId="r", amount=3000))
    (item,) = desk.page()["items"]
    timeline = desk.client.get("/api/requests/r", headers=desk.key).get_json()
    assert {name: item[name] for name in timeline["reservations"][0]} == timeline["reservations"][0]
    amounts = {name: value for name, value in item.items() if name.startswith("amount")}
    assert amounts == {
        "amountReserved": 20_000,
        "amountHeld": 10_000,
        "amountCommitted": 5000,
        "amountReleased": 0,
        "amountReversed": 3000,
    }
    assert (item["requesterName"], item["waitingFor"]) == ("Jane Doe", "approval")
    assert item["expiresAt"] > item["createdAt"]
    newest = desk.post("amend", amend_body(requestId="r", amount=9000)).get_json()["version"]
    assert desk.page()["items"][0]["version"] == newest == item["version"] + 1


def test_closed_reservation_does_not_expire(desk: Desk) -> None:
    Customer.update(holdDays=30).execute()
    desk.hold("r")
    assert desk.page()["items"][0]["expiresAt"]
    desk.post("commit", commit_body(requestId="r", amount=10))
    assert desk.page("?status=all")["items"][0]["expiresAt"] is None


# Which requests wait for approval.


def waiting(desk: Desk) -> list[str]:
    """The requests that wait for approval; the list and its items agree."""
    filtered = desk.listed("?waitingFor=approval")
    items = desk.page("?status=all&limit=100")["items"]
    assert {item["requestId"] for item in items if item["waitingFor"] == "approval"} == set(
        filtered
    )
    return filtered


def test_latest_check_decides(desk: Desk) -> None:
    for request_id, amounts in (
        ("auto", [5]),
        ("waits", [20_000]),
        ("approved since", [20_000, 5]),
        ("waits since", [5, 20_000]),
    ):
        for amount in amounts:
            desk.check(request_id, amount)
        desk.hold(request_id)
    desk.hold("unchecked")
    assert waiting(desk) == ["waits", "waits since"]
    desk.post("commit", commit_body(requestId="waits", amount=10))
    assert waiting(desk) == ["waits since"]
    assert desk.listed("?waitingFor=approval&status=closed") == []
    assert desk.listed("?waitingFor=approval&status=all") == ["waits since"]


def test_latest_check_is_by_sequence_if_the_clock_jumps(desk: Desk) -> None:
    desk.check("r", 20_000)
    with time_machine.travel(clock.now() - timedelta(days=1), tick=False):
        desk.check("r", 5)
    desk.hold("r")
    assert waiting(desk) == []


def test_check_of_another_budget_does_not_count(desk: Desk) -> None:
    desk.check("r", 5)
    desk.check("r", 20_000, department="Events", fiscalPeriod="Q2 2025")
    desk.hold("r")
    assert waiting(desk) == []
    desk.hold("r", budget_id="events")
    (item,) = desk.page("?waitingFor=approval")["items"]
    assert item["budgetId"] == "events"


def test_moved_request_still_waits(desk: Desk) -> None:
    desk.check("r", 20_000)
    desk.hold("r", 20_000)
    desk.post("amend", amend_body(requestId="r", amount=None, toBudgetId="events"))
    (item,) = desk.page("?waitingFor=approval")["items"]
    assert (item["requestId"], item["budgetId"]) == ("r", "events")
    desk.check("r", 5, department="Events", fiscalPeriod="Q2 2025")
    assert waiting(desk) == []


@pytest.mark.parametrize("amount", [5, 20_000])
def test_anonymous_check_never_supersedes_an_authenticated_one(desk: Desk, amount: int) -> None:
    desk.check("r", 20_005 - amount)
    body = check_body(requestId="r") | {"amount": Decimal(amount)}
    ledger.check(ANONYMOUS, CheckRequest.model_validate(body))
    desk.hold("r")
    assert waiting(desk) == (["r"] if amount == 5 else [])


def test_anonymous_check_counts_alone(desk: Desk) -> None:
    body = check_body(requestId="r") | {"amount": Decimal(20_000)}
    ledger.check(ANONYMOUS, CheckRequest.model_validate(body))
    desk.hold("r")
    assert waiting(desk) == ["r"]


@pytest.mark.parametrize("amount", [5, 20_000])
def test_other_users_check_for_themselves_does_not_count(desk: Desk, amount: int) -> None:
    desk.check("r", 20_005 - amount)
    desk.hold("r")
    mallory = person("mallory", Role.BUSINESS_USER)
    body = check_body(requestId="r", userId="mallory") | {"amount": Decimal(amount)}
    ledger.check(mallory, CheckRequest.model_validate(body))
    assert waiting(desk) == (["r"] if amount == 5 else [])


def test_ordinary_user_lists_their_own(world: Flask, desk: Desk) -> None:
    desk.check("of-jane", 20_000)
    desk.hold("of-jane")
    desk.hold("of-nobody")
    jane = demo_client(world, "jane")
    assert [item["requestId"] for item in jane.get("/api/requests").get_json()["items"]] == [
        "of-jane"
    ]
    assert desk.listed() == ["of-jane", "of-nobody"]


# Decisions of FP&A.


def decided(desk: Desk, request_id: str) -> tuple[str | None, list[str | None]]:
    """The decision on a request, and those on its reservations in the list."""
    timeline = desk.client.get(f"/api/requests/{request_id}", headers=desk.key).get_json()
    items = desk.page("?status=all&limit=100")["items"]
    of_list = [item["decision"] for item in items if item["requestId"] == request_id]
    for found in (timeline["decision"], *of_list):
        assert found is None or set(found) == {"decision", "by", "at", "reason"}
    one = timeline["decision"] and timeline["decision"]["decision"]
    return one, [each and each["decision"] for each in of_list]


def decide(verb: str, request_id: str, budget_id: str = "budget-123") -> None:
    """Approve or decline a request as FP&A."""
    if verb == "approve":
        body = ApproveRequest(budget_id=budget_id, request_id=request_id)
        ledger.approve(ROOT, body)
    else:
        decline = DeclineRequest(request_id=request_id, reason="No", customer_id=demo.CUSTOMER)
        ledger.decline(ROOT, decline)


def test_approval_is_the_decision_until_it_waits_again(desk: Desk) -> None:
    desk.check("r", 20_000)
    desk.hold("r", 20_000)
    assert decided(desk, "r") == (None, [None])
    decide("approve", "r")
    assert decided(desk, "r") == ("approved", ["approved"])
    assert waiting(desk) == []
    desk.post("amend", amend_body(requestId="r", amount=None, toBudgetId="events"))
    assert decided(desk, "r") == ("approved", ["approved", "approved"])
    desk.check("r", 30_000, department="Events", fiscalPeriod="Q2 2025")
    desk.post("amend", amend_body(requestId="r", budgetId="events", amount=30_000))
    assert decided(desk, "r") == (None, [None, "approved"])
    assert waiting(desk) == ["r"]


def test_rejection_is_a_decision_but_a_release_by_hand_is_none(desk: Desk) -> None:
    for action, wanted in (("reject", "rejected"), ("manual", None)):
        desk.hold(action, 10)
        body = {"requestId": action, "amount": 10, "action": action, "reason": "No"}
        desk.post("release", release_body(**body))
        assert decided(desk, action) == (wanted, [wanted])


def test_decline_is_the_decision_until_the_next_check(desk: Desk) -> None:
    desk.check("r", 900_000)
    decide("decline", "r")
    assert decided(desk, "r") == ("declined", [])
    desk.check("r", 900_000)
    assert decided(desk, "r") == (None, [])


def test_user_does_not_see_a_colleagues_decision(desk: Desk) -> None:
    desk.check("r", 900_000)
    mark = person("mark", Role.MANAGER)
    body = check_body(requestId="r", userId="mark") | {"amount": Decimal(5)}
    ledger.check(mark, CheckRequest.model_validate(body))
    decide("decline", "r")
    assert api.get_request(mark, "r")["decision"] is None
    assert desk.client.get("/api/requests/r", headers=desk.key).get_json()["decision"]


def test_release_of_a_declined_request_keeps_its_shape(desk: Desk) -> None:
    desk.check("r", 900_000)
    body = release_body(requestId="r", amount=900_000, action="reject")
    before = desk.post("release", body)
    decide("decline", "r")
    after = desk.post("release", body)
    assert (before.status_code, after.status_code) == (200, 200)
    same = after.get_json()
    decision = same.pop("decision")
    assert (decision["decision"], same.pop("declined")) == ("declined", True)
    assert same.pop("error").startswith(before.get_json()["error"])
    assert same == {name: v for name, v in before.get_json().items() if name != "error"}


def test_approval_over_budget_names_the_approver(desk: Desk) -> None:
    person("fpa-9", Role.FPA_USER)
    approval = {"approved_by": "fpa-9", "reason": "Urgent"}
    body = {"budget_id": "budget-123", "request_id": "r", "amount": Decimal(900_000)}
    service = Actor(
        "service:x", None, "x", None, Role.API_SYSTEM, demo.CUSTOMER, may_overspend=True
    )
    ledger.reserve(service, ReserveRequest.model_validate(body | {"over_budget": approval}))
    assert decided(desk, "r") == ("approved_over_budget", ["approved_over_budget"])
    timeline = desk.client.get("/api/requests/r", headers=desk.key).get_json()
    assert timeline["decision"]["by"] == "Fpa-9 (fpa-9@example.com)"
    assert timeline["decision"]["reason"] == "Urgent"


# Spend.


def test_spend_has_a_timeline_for_callers_that_read_all(world: Flask, desk: Desk) -> None:
    desk.post("spend", spend_body())
    desk.post("reverse", reverse_body(requestId="card-2025-0031", amount=40, externalRef=None))
    path = "/api/requests/card-2025-0031"
    timeline = desk.client.get(path, headers=desk.key).get_json()
    assert [movement["action"] for movement in timeline["movements"]] == ["SPEND", "REVERSE"]
    (found,) = timeline["spends"]
    created_at = found.pop("createdAt")
    assert created_at.endswith("Z")
    assert found == {
        "spendId": "card-2025-0031",
        "budgetId": "budget-123",
        "department": "Engineering",
        "fiscalPeriod": "Q1 2025",
        "currency": "USD",
        "amount": 640,
        "amountReversed": 40,
        "date": "2025-02-07",
        "vendor": "Lufthansa",
        "reason": "Flight to a customer",
        "externalRef": None,
        "recordedBy": "orchestrator (service)",
    }
    reply = demo_client(world, "jane").get(path)
    assert (reply.status_code, reply.get_json()["code"]) == (404, "REQUEST_NOT_FOUND")


def test_spends_are_listed_newest_first(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("budget_sync.queries.paging.PAGE_SIZE", 2)
    for number in range(3):
        desk.post("spend", spend_body(spendId=f"card-{number}", amount=5))
    with database.snapshot():
        lines, after = spends_page(ROOT, demo.CUSTOMER, RequestQuery())
        rest, last = spends_page(ROOT, demo.CUSTOMER, RequestQuery(after=after))
    assert [line.id for line in lines + rest] == ["card-2", "card-1", "card-0"]
    assert last is None
    jane = person("janet", Role.MANAGER)
    with pytest.raises(RequestError, match="does not allow"):
        spends_page(jane, demo.CUSTOMER, RequestQuery())


def test_console_query_has_the_same_filters(desk: Desk) -> None:
    desk.check("r", 20_000)
    desk.hold("r")
    desk.hold("s", budget_id="events")
    for query, wanted in (
        (RequestQuery(waits_for_approval=True), ["r"]),
        (RequestQuery(department="events"), ["s"]),
        (RequestQuery(period="2025-Q1"), ["r"]),
        (RequestQuery(older_than_days=1), []),
        (RequestQuery(), ["r", "s"]),
    ):
        lines, _ = reservations_page(ROOT, demo.CUSTOMER, query)
        assert [line.request_id for line in lines] == wanted
