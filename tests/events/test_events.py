"""The events of a customer: what each change reports, in which order, and with which cursor."""

from __future__ import annotations

from decimal import Decimal

import pytest
from flask import Flask
from support.world import ROOT, check_body, person

from budget_sync import ledger, manual_budgets
from budget_sync.database import Horizon, LogIds
from budget_sync.database.models import AuditLog
from budget_sync.domain.decision_models import ApproveRequest, DeclineRequest
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.events import EventType
from budget_sync.domain.permissions import Actor, Role
from budget_sync.domain.request_models import (
    AmendRequest,
    CheckRequest,
    CommitRequest,
    ReleaseAction,
    ReleaseRequest,
    ReserveRequest,
    ReverseRequest,
    ReverseTo,
    SpendRequest,
)
from budget_sync.operations import demo
from budget_sync.queries import events as queries
from budget_sync.queries.event_rows import Event
from budget_sync.queries.events import (
    Cursor,
    latest_cursor,
    parse_cursor,
    parse_types,
    read_events,
)

pytestmark = pytest.mark.both_engines

CUSTOMER = demo.CUSTOMER


def all_events(types: frozenset[EventType] | None = None, limit: int = 100) -> list[Event]:
    """Every event of the customer, read in pages of `limit`."""
    found: list[Event] = []
    after = Cursor()
    while True:
        page = read_events(ROOT, CUSTOMER, after, limit, types)
        found += page.events
        assert len(page.events) <= limit
        if not page.has_more:
            return found
        assert page.cursor != after
        after = page.cursor


def since(cursor: Cursor) -> list[Event]:
    return read_events(ROOT, CUSTOMER, cursor).events


@pytest.fixture
def fpa(world: Flask) -> Actor:
    return person("fpa-9", Role.FPA_ADMIN)


def reserve(actor: Actor, request_id: str, amount: str, budget_id: str = "budget-123") -> None:
    ledger.reserve(
        actor,
        ReserveRequest(budget_id=budget_id, request_id=request_id, amount=Decimal(amount)),
    )


def test_each_movement_is_an_event_with_its_facts(fpa: Actor) -> None:
    start = latest_cursor(ROOT, CUSTOMER)
    reserve(fpa, "r1", "500")
    amend = AmendRequest(
        budget_id="budget-123", request_id="r1", amount=Decimal(700), reason="Higher price"
    )
    ledger.amend(fpa, amend)
    commit = CommitRequest(
        budget_id="budget-123", request_id="r1", amount=Decimal(400), external_ref="INV-1"
    )
    ledger.commit(fpa, commit)
    release = ReleaseRequest(
        budget_id="budget-123",
        request_id="r1",
        amount=Decimal(300),
        action=ReleaseAction.MANUAL,
    )
    ledger.release(fpa, release)
    reverse = ReverseRequest(
        budget_id="budget-123",
        request_id="r1",
        amount=Decimal(100),
        to=ReverseTo.AVAILABLE,
        reason="Credit note",
    )
    ledger.reverse(fpa, reverse)
    spend = SpendRequest.model_validate(
        {
            "spendId": "s1",
            "budgetId": "budget-123",
            "amount": Decimal("12.5"),
            "date": "2025-02-01",
            "reason": "Taxi",
        }
    )
    ledger.spend(fpa, spend)
    found = since(start)
    assert [(event.type, event.data["requestId"], event.data["amount"]) for event in found] == [
        ("reservation.created", "r1", 500),
        ("reservation.amended", "r1", 200),
        ("reservation.committed", "r1", 400),
        ("reservation.released", "r1", 300),
        ("reservation.reversed", "r1", 100),
        ("budget.spent", "s1", Decimal("12.5")),
    ]
    committed = found[2].data
    assert committed["externalRef"] == "INV-1"
    assert committed["by"] == "Fpa-9 (fpa-9@example.com)"
    assert (committed["department"], committed["fiscalPeriod"], committed["currency"]) == (
        "Engineering",
        "Q1 2025",
        "USD",
    )


def test_parts_of_a_reversal_add_up_to_its_amount(fpa: Actor) -> None:
    reserve(fpa, "r1", "100")
    commit = CommitRequest(budget_id="budget-123", request_id="r1", amount=Decimal(100))
    ledger.commit(fpa, commit)
    ledger.check(
        fpa,
        CheckRequest(
            request_id="r1",
            user_id="fpa-9",
            user_name="Fpa",
            user_email="fpa-9@example.com",
            customer_id=CUSTOMER,
            department="Engineering",
            fiscal_period="Q1 2025",
            amount=Decimal(50),
        ),
    )
    reserve(fpa, "r1", "50")
    start = latest_cursor(ROOT, CUSTOMER)
    reverse = ReverseRequest(
        budget_id="budget-123",
        request_id="r1",
        amount=Decimal(40),
        to=ReverseTo.RESERVED,
        reason="Wrong invoice",
    )
    ledger.reverse(fpa, reverse)
    found = since(start)
    assert [event.type for event in found] == [EventType.RESERVATION_REVERSED] * 2
    # The second one holds the money again, and returns none of its own.
    assert [event.data["amount"] for event in found] == [40, 0]


def test_decisions_are_events(fpa: Actor) -> None:
    start = latest_cursor(ROOT, CUSTOMER)
    for request_id, amount, department in (
        ("held", 20_000, "Engineering"),
        ("denied", 900_000, "Engineering"),
        ("misspelled", "12.5", "Enginering"),
    ):
        body = check_body(requestId=request_id, department=department)
        check = body | {"amount": Decimal(amount)}
        ledger.check(ROOT, CheckRequest.model_validate(check))
    reserve(ROOT, "held", "20000")
    approve = ApproveRequest(budget_id="budget-123", request_id="held", reason="Planned")
    ledger.approve(fpa, approve)
    for request_id in ("denied", "misspelled"):
        decline = DeclineRequest(request_id=request_id, reason="No", customer_id=CUSTOMER)
        ledger.decline(fpa, decline)
    found = since(start)[1:]
    assert [(event.type, event.data["requestId"], event.data["amount"]) for event in found] == [
        ("reservation.approved", "held", 20_000),
        ("request.declined", "denied", 900_000),
        ("request.declined", "misspelled", Decimal("12.5")),
    ]
    approved, denied, misspelled = (event.data for event in found)
    assert (approved["by"], approved["reason"]) == ("Fpa-9 (fpa-9@example.com)", "Planned")
    assert approved["reservationId"]
    assert (denied["budgetId"], denied["department"]) == ("budget-123", "Engineering")
    assert (misspelled["budgetId"], misspelled["department"], misspelled["currency"]) == (
        None,
        "Enginering",
        "USD",
    )
    wanted = frozenset({EventType.REQUEST_DECLINED})
    assert [event.data["requestId"] for event in all_events(wanted)] == ["denied", "misspelled"]


def test_thresholds_and_overdraft_follow_their_cause(fpa: Actor) -> None:
    budget, _ = manual_budgets.set_budget(ROOT, CUSTOMER, "Travel", "Q1 2025", Decimal(1000))
    start = latest_cursor(ROOT, CUSTOMER)
    reserve(fpa, "r1", "950", budget.id)
    manual_budgets.set_budget(ROOT, CUSTOMER, "Travel", "Q1 2025", Decimal(900))
    found = [(event.type, event.data.get("threshold")) for event in since(start)]
    assert found == [
        ("reservation.created", None),
        ("budget.threshold", 80),
        ("budget.threshold", 90),
        ("budget.updated", None),
        ("budget.threshold", 100),
        ("budget.overdrawn", None),
    ]


def test_pages_of_any_size_have_the_same_events(fpa: Actor) -> None:
    budget, _ = manual_budgets.set_budget(ROOT, CUSTOMER, "Travel", "Q1 2025", Decimal(100))
    for number in range(5):
        reserve(fpa, f"r{number}", "20", budget.id)
    whole = all_events()
    assert len(whole) > 10
    for limit in (1, 2, 3, 7):
        assert all_events(limit=limit) == whole
    ids = [event.id for event in whole]
    assert len(set(ids)) == len(ids)


def test_types_are_filtered_and_the_cursor_still_moves(fpa: Actor) -> None:
    reserve(fpa, "r1", "20")
    wanted = frozenset({EventType.RESERVATION_CREATED})
    assert {event.type for event in all_events(wanted)} == wanted
    page = read_events(ROOT, CUSTOMER, Cursor(), 100, frozenset({EventType.SYNC_FAILED}))
    assert page.events == []
    assert page.cursor.audit_id == AuditLog.select().order_by(AuditLog.id.desc()).first().id


def test_rare_types_are_found_in_pages_of_few_rows(
    fpa: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10):
        reserve(fpa, f"r{number}", "1")
    rare = frozenset({EventType.BUDGET_SPENT, EventType.SYNC_FINISHED})
    spend = {"spendId": "s", "amount": 1, "date": "2025-02-01", "reason": "x"}
    ledger.spend(fpa, SpendRequest.model_validate(spend | {"budgetId": "budget-123"}))
    whole = [event for event in all_events() if event.type in rare]
    assert EventType.BUDGET_SPENT in {event.type for event in whole}
    monkeypatch.setattr(queries, "_MOST_PASSED", 3)
    first = read_events(ROOT, CUSTOMER, Cursor(), 100, frozenset({EventType.BUDGET_SPENT}))
    assert (first.events, first.has_more) == ([], True)
    ids = [row.id for row in AuditLog.select().where(AuditLog.customerId == CUSTOMER).limit(4)]
    assert first.cursor.audit_id == ids[-1]
    assert all_events(rare) == whole


def test_actions_without_an_event_are_passed(fpa: Actor) -> None:
    start = latest_cursor(ROOT, CUSTOMER)
    reserve(fpa, "r1", "1")
    known = AuditLog.select().order_by(AuditLog.id.desc()).dicts().first()
    known |= {"id": known["id"] + 1, "version": known["version"] + 1, "action": "ROTATE_KEY"}
    AuditLog.insert(known).execute()
    assert [event.type for event in since(start)] == [EventType.RESERVATION_CREATED]


def test_events_of_a_row_survive_a_process_that_knows_less(fpa: Actor) -> None:
    budget, _ = manual_budgets.set_budget(ROOT, CUSTOMER, "Travel", "Q1 2025", Decimal(100))
    start = latest_cursor(ROOT, CUSTOMER)
    reserve(fpa, "r1", "85", budget.id)
    created = read_events(ROOT, CUSTOMER, start, 1)
    # A process that has just started while a transaction is open.
    nothing = Horizon(LogIds(0, 0), LogIds(10**6, 10**6))
    page = read_events(ROOT, CUSTOMER, created.cursor, at=nothing)
    assert (page.events, page.cursor) == ([], created.cursor)
    assert [event.type for event in since(page.cursor)] == [EventType.BUDGET_THRESHOLD]


def test_latest_is_never_before_all_events(world: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "horizon", lambda: Horizon(LogIds(0, 0), LogIds(5, 0)))
    with pytest.raises(RequestError, match="open for too long") as raised:
        latest_cursor(ROOT, CUSTOMER)
    assert raised.value.code is Code.UNAVAILABLE
    # In a new database, nothing has happened.
    monkeypatch.setattr(queries, "horizon", lambda: Horizon(LogIds(0, 0), LogIds(0, 0)))
    assert latest_cursor(ROOT, CUSTOMER) == Cursor()


def test_cursor_survives_its_text() -> None:
    cursor = Cursor(12, 2, 7, 0)
    assert parse_cursor(cursor.text) == cursor
    for text in ("", "12", "a1.0-s", "a1.0-s1.0 ", "a-1.0-s1.0", "a" + "9" * 30 + ".0-s1.0"):
        with pytest.raises(RequestError):
            parse_cursor(text)


def test_unknown_type_is_named() -> None:
    with pytest.raises(RequestError, match=r"budget\.lost"):
        parse_types("budget.created,budget.lost")


def test_cursor_beyond_the_newest_event_is_rejected(world: Flask) -> None:
    with pytest.raises(RequestError, match="restored"):
        read_events(ROOT, CUSTOMER, Cursor(audit_id=10**9))
