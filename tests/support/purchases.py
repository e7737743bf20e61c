"""Calls the ledger's verbs in this process, with a company's budgets and people."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import pytest

from budget_sync import ledger, manual_budgets
from budget_sync.accounts import customers
from budget_sync.database import db
from budget_sync.database.models import AuditLog, Budget, BudgetUtilization, Customer
from budget_sync.domain import clock
from budget_sync.domain.decision_models import ApproveRequest, DeclineRequest
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Actor, Role
from budget_sync.domain.request_models import (
    AmendRequest,
    CheckRequest,
    CommitRequest,
    OverBudget,
    ReleaseAction,
    ReleaseRequest,
    ReserveRequest,
    ReverseRequest,
    ReverseTo,
    SpendRequest,
)
from budget_sync.domain.results import Reply
from support.world import ROOT, person

ACME, GLOBEX = "acme", "globex"
MAIN, OTHER, EURO, FOREIGN = "main", "other", "euro", "foreign"
REQUEST = "r1"
DAY = dt.date(2025, 3, 31)

SERVICE = Actor("service:erp", None, "erp", None, Role.API_SYSTEM, ACME)
OVERSPENDER = Actor("service:erp", None, "erp", None, Role.API_SYSTEM, ACME, may_overspend=True)
#: A service for all customers.
GLOBAL = Actor("service:hub", None, "hub", None, Role.API_SYSTEM, None, may_overspend=True)
FOREIGN_SERVICE = Actor("service:globex", None, "globex", None, Role.API_SYSTEM, GLOBEX)
JANE, MARK, FIONA, FRED = (
    Actor(f"user:{name}", name, name.title(), f"{name}@example.com", role, ACME)
    for name, role in (
        ("jane", Role.BUSINESS_USER),
        ("mark", Role.MANAGER),
        ("fiona", Role.FPA_ADMIN),
        ("fred", Role.FPA_USER),
    )
)

#: The approval of an FP&A person.
APPROVED = OverBudget(approved_by="fiona", reason="The board insists")

_BODIES: dict[str, Any] = {
    "check": CheckRequest,
    "reserve": ReserveRequest,
    "amend": AmendRequest,
    "approve": ApproveRequest,
    "decline": DeclineRequest,
    "commit": CommitRequest,
    "release": ReleaseRequest,
    "reverse": ReverseRequest,
    "spend": SpendRequest,
}
_WITH_REASON = ("amend", "decline", "reverse", "spend")
_TABLES = ("BudgetUtilization", "Reservation", "Spend", "AuditLog", "StoredReply")


def found_company() -> None:
    """Two customers; "acme" has two budgets of 1,000 USD, one of 1,000 EUR, and people."""
    for customer_id in (ACME, GLOBEX):
        customers.add_customer(
            ROOT, customer_id, customer_id.title(), auto_approve_limit_minor=50_000
        )
    for customer_id, budget_id, department, currency in (
        (ACME, MAIN, "Engineering", "USD"),
        (ACME, OTHER, "Marketing", "USD"),
        (ACME, EURO, "Paris", "EUR"),
        (GLOBEX, FOREIGN, "Engineering", "USD"),
    ):
        manual_budgets.set_budget(
            ROOT,
            customer_id,
            department,
            "Q1 2025",
            Decimal(1000),
            budget_id=budget_id,
            currency=currency,
        )
    for actor in (JANE, MARK, FIONA, FRED):
        assert actor.user_id
        person(actor.user_id, Role(actor.role), ACME)


def send(verb: str, by: Actor = SERVICE, key: str | None = None, **fields: Any) -> Reply:
    """Call a verb on the main budget for REQUEST, with these fields of its body."""
    body: dict[str, Any] = {"budget_id": MAIN}
    body["spend_id" if verb == "spend" else "request_id"] = REQUEST
    if verb in _WITH_REASON:
        body["reason"] = "The price changed"
    if verb == "reverse":
        body["to"] = ReverseTo.AVAILABLE
    if verb == "decline":
        body["customer_id"] = ACME
    if verb == "release":
        body["action"] = ReleaseAction.MANUAL
    if verb == "spend":
        body["date"] = DAY
    body |= fields
    if body.get("amount") is not None:
        body["amount"] = Decimal(str(body["amount"]))
    model = _BODIES[verb](**body)
    keyed = {} if verb in ("check", "spend") else {"idempotency_key": key}
    reply: Reply = getattr(ledger, verb)(by, model, **keyed)
    return reply


def do(verb: str, by: Actor = SERVICE, **fields: Any) -> dict[str, Any]:
    """Call a verb that must succeed and is no replay; returns the values of the reply."""
    reply = send(verb, by, **fields)
    assert not reply.replayed, reply.text
    return values(reply)


def values(reply: Reply) -> dict[str, Any]:
    """The values of a reply; numbers with a decimal point are Decimal."""
    parsed: dict[str, Any] = json.loads(reply.text, parse_float=Decimal)
    return parsed


def check(by: Actor, amount: object, budget: str = "Engineering", **fields: Any) -> None:
    """Check REQUEST as a person, for that person."""
    send(
        "check",
        by,
        budget_id=None,
        user_id=by.user_id,
        user_name=by.name,
        user_email=by.email,
        customer_id=ACME,
        department=budget,
        fiscal_period="Q1 2025",
        amount=amount,
        **fields,
    )


def rejected(verb: str, code: Code, by: Actor = SERVICE, **fields: Any) -> RequestError:
    """Assert that the call fails with that code and writes nothing at all; returns the error."""
    before = everything()
    with pytest.raises(RequestError) as raised:
        send(verb, by, **fields)
    assert raised.value.code is code, raised.value
    assert everything() == before
    return raised.value


def replayed(first: Reply, verb: str, by: Actor = SERVICE, **fields: Any) -> None:
    """Assert that the call returns the first reply, byte for byte, and moves nothing."""
    before = everything()
    again = send(verb, by, **fields)
    assert (again.text, again.replayed) == (first.text, True)
    without_keys = [table for table in _TABLES if table != "StoredReply"]
    assert {name: everything()[name] for name in without_keys} == {
        name: before[name] for name in without_keys
    }


def everything() -> dict[str, list[Any]]:
    """All rows that a verb may write, by table."""
    return {
        table: sorted(db.execute_sql(f'SELECT * FROM "{table}"').fetchall(), key=str)
        for table in _TABLES
    }


def figures(budget_id: str = MAIN) -> tuple[int, int]:
    """The reserved and committed amount of a budget, in minor units."""
    row = BudgetUtilization.get_by_id(budget_id)
    return row.reservedMinor, row.committedMinor


def soft_delete(budget_id: str = MAIN) -> None:
    """Delete a budget, as a sync run does if its row is no longer in the sheet."""
    Budget.update(deletedAt=clock.now()).where(Budget.id == budget_id).execute()


def set_customer(**columns: object) -> None:
    """Set columns of the customer "acme"."""
    Customer.update(**columns).where(Customer.id == ACME).execute()


def movements(request_id: str = REQUEST) -> list[AuditLog]:
    """The audit rows of a request or spend, in their order."""
    return list(AuditLog.select().where(AuditLog.requestId == request_id).order_by(AuditLog.id))


def trail(request_id: str = REQUEST) -> list[tuple[str, str | None, str | None, int, int]]:
    """Of each audit row of a request: action, old and new value, and the deltas."""
    return [
        (
            row.action,
            row.oldValue,
            row.newValue,
            row.reservedDeltaMinor,
            row.committedDeltaMinor,
        )
        for row in movements(request_id)
    ]
