"""The audit log: one row per movement and change, in order; their sum is the current balance."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import peewee
import pytest
import time_machine
from flask import Flask
from support.damage import create_fault_trigger
from support.world import ROOT, slots

from budget_sync import ledger, manual_budgets
from budget_sync.accounts import api_keys, customers, people
from budget_sync.database.models import AuditLog, Budget, BudgetUtilization, Reservation
from budget_sync.domain import clock
from budget_sync.domain.errors import RequestError
from budget_sync.domain.permissions import Actor, Role
from budget_sync.domain.request_models import (
    CheckRequest,
    CommitRequest,
    OverBudget,
    ReleaseAction,
    ReleaseRequest,
    ReserveRequest,
)
from budget_sync.ledger import retention

pytestmark = pytest.mark.both_engines

NOW = datetime(2025, 2, 5, 11, tzinfo=UTC)

JANE = Actor(
    principal="user:user-123",
    user_id="user-123",
    name="Jane Doe",
    email="jane@acme.com",
    role=Role.BUSINESS_USER,
    customer_id="acme",
)
FIONA = Actor(
    principal="user:fiona",
    user_id="fiona",
    name="Fiona Adams",
    email="fiona@acme.com",
    role=Role.FPA_USER,
    customer_id="acme",
)
SERVICE = Actor(
    principal="key:ab12",
    user_id=None,
    name="orchestrator",
    email=None,
    role=Role.API_SYSTEM,
    customer_id="acme",
    may_overspend=True,
)


@pytest.fixture
def acme(app: Flask) -> Flask:
    """Acme with Jane, Fiona of FP&A, and two budgets: 1,000 for Engineering, 300 for Legal."""
    customers.add_customer(ROOT, "acme", "Acme")
    for actor in (JANE, FIONA):
        assert actor.user_id
        assert actor.email
        people.add_user(
            ROOT,
            actor.user_id,
            actor.name,
            actor.email,
            actor.role,
            customer_id="acme",
            password=None,
            slots_folder=slots(),
        )
    manual_budgets.set_budget(
        ROOT, "acme", "Engineering", "Q1 2025", Decimal(1000), budget_id="engineering"
    )
    manual_budgets.set_budget(ROOT, "acme", "Legal", "Q1 2025", Decimal(300), budget_id="legal")
    return app


def check(actor: Actor, request_id: str, amount: str) -> None:
    request = CheckRequest(
        request_id=request_id,
        user_id="user-123",
        user_name="Jane Doe",
        user_email="jane@acme.com",
        customer_id="acme",
        department="Engineering",
        fiscal_period="Q1 2025",
        amount=Decimal(amount),
    )
    ledger.check(actor, request)


def reserve(
    actor: Actor, request_id: str, amount: str, budget_id: str = "engineering", **more: Any
) -> None:
    ledger.reserve(
        actor,
        ReserveRequest(budget_id=budget_id, request_id=request_id, amount=Decimal(amount), **more),
    )


def commit(
    actor: Actor, request_id: str, amount: str, budget_id: str = "engineering", **more: Any
) -> None:
    ledger.commit(
        actor,
        CommitRequest(budget_id=budget_id, request_id=request_id, amount=Decimal(amount), **more),
    )


def release(
    actor: Actor,
    request_id: str,
    amount: str,
    action: str = "reject",
    budget_id: str = "engineering",
    **more: Any,
) -> None:
    request = ReleaseRequest(
        budget_id=budget_id,
        request_id=request_id,
        amount=Decimal(amount),
        action=ReleaseAction(action),
        **more,
    )
    ledger.release(actor, request)


def rows(*conditions: Any) -> list[AuditLog]:
    """The audit rows that meet the conditions, oldest first."""
    return list(AuditLog.select().where(True, *conditions).order_by(AuditLog.id))


def newest(**expected: Any) -> None:
    """Assert these fields of the newest row."""
    row = rows()[-1]
    assert {name: getattr(row, name) for name in expected} == expected


# Movements


def test_row_of_a_reserve(acme: Flask) -> None:
    check(JANE, "intake-789", "500")
    with time_machine.travel(NOW, tick=False):
        reserve(JANE, "intake-789", "500", reason="Slack - Team collaboration")
    newest(
        customerId="acme",
        budgetId="engineering",
        action="RESERVE",
        requestId="intake-789",
        reservationId=Reservation.get().id,
        oldValue="0",
        newValue="500",
        budgetedDeltaMinor=0,
        reservedDeltaMinor=50000,
        committedDeltaMinor=0,
        principal="user:user-123",
        changedBy="Jane Doe (jane@acme.com)",
        onBehalfOf=None,
        approvedBy=None,
        reason="Slack - Team collaboration",
        createdAt=NOW,
    )


def test_row_of_a_cancel_is_as_in_the_guide(acme: Flask) -> None:
    check(JANE, "intake-789", "500")
    reserve(JANE, "intake-789", "500")
    release(JANE, "intake-789", "500", "cancel", original_requester_id="user-123")
    newest(
        action="RELEASE",
        oldValue="500",
        newValue="0",
        reservedDeltaMinor=-50000,
        changedBy="Jane Doe (jane@acme.com)",
        reason="Request cancelled by user",
    )


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("cancel", "Request cancelled by user"),
        ("reject", "Request rejected"),
        ("manual", "Budget released manually"),
    ],
)
def test_release_has_a_default_reason(acme: Flask, action: str, reason: str) -> None:
    reserve(FIONA, "intake-789", "500")
    release(FIONA, "intake-789", "200", action)
    newest(reason=reason)
    release(FIONA, "intake-789", "300", action, reason="Duplicate subscription found")
    newest(reason="Duplicate subscription found")


def test_row_of_a_commit(acme: Flask) -> None:
    reserve(FIONA, "intake-789", "500")
    commit(FIONA, "intake-789", "120.5", external_ref="PO-1002", reason="First instalment")
    newest(
        action="COMMIT",
        oldValue="500",
        newValue="379.5",
        reservedDeltaMinor=-12050,
        committedDeltaMinor=12050,
        externalRef="PO-1002",
        reason="First instalment",
    )


def test_row_of_a_commit_beyond_the_reservation(acme: Flask) -> None:
    reserve(FIONA, "intake-789", "500")
    commit(FIONA, "intake-789", "600")
    newest(
        action="COMMIT",
        oldValue="500",
        newValue="0",
        reservedDeltaMinor=-50000,
        committedDeltaMinor=60000,
    )


def test_final_commit_is_a_commit_and_a_release(acme: Flask) -> None:
    reserve(FIONA, "intake-789", "500")
    commit(FIONA, "intake-789", "450", final=True)
    logged = [
        (row.action, row.oldValue, row.newValue, row.reservedDeltaMinor, row.committedDeltaMinor)
        for row in rows()[-2:]
    ]
    assert logged == [("COMMIT", "500", "50", -45000, 45000), ("RELEASE", "50", "0", -5000, 0)]


def test_service_is_named_with_the_user_it_acts_for(acme: Flask) -> None:
    check(SERVICE, "intake-789", "500")
    reserve(SERVICE, "intake-789", "500")
    newest(
        principal="key:ab12",
        changedBy="orchestrator (service)",
        onBehalfOf="Jane Doe (jane@acme.com)",
        subject="user-123",
    )
    release(SERVICE, "intake-789", "500", "cancel", original_requester_id="user-123")
    newest(changedBy="orchestrator (service)", onBehalfOf="Jane Doe (jane@acme.com)")


def test_over_budget_reserve_names_both_users(acme: Flask) -> None:
    reserve(
        SERVICE,
        "intake-789",
        "5000",
        user_id="user-123",
        over_budget=OverBudget(approved_by="fiona", reason="The auditors insist"),
    )
    newest(
        action="OVER_BUDGET",
        changedBy="orchestrator (service)",
        onBehalfOf="Jane Doe (jane@acme.com)",
        approvedBy="Fiona Adams (fiona@acme.com)",
        reason="The auditors insist",
        oldValue="0",
        newValue="5000",
        reservedDeltaMinor=500000,
    )


def test_unneeded_approval_is_a_plain_reserve(acme: Flask) -> None:
    reserve(
        SERVICE,
        "intake-789",
        "1000",
        user_id="user-123",
        over_budget=OverBudget(approved_by="fiona", reason="The auditors insist"),
    )
    newest(action="RESERVE", approvedBy=None)


def test_errors_and_replays_write_no_row(acme: Flask) -> None:
    reserve(FIONA, "intake-1", "500")
    reserve(FIONA, "intake-2", "100")
    release(FIONA, "intake-2", "100")
    before = len(rows())
    reserve(FIONA, "intake-1", "500")
    release(FIONA, "intake-2", "100")
    failing: list[Callable[[], None]] = [
        lambda: reserve(FIONA, "intake-3", "501"),
        lambda: reserve(FIONA, "intake-1", "400"),
        lambda: reserve(FIONA, "intake-2", "100"),
        lambda: release(FIONA, "intake-1", "501"),
        lambda: release(JANE, "intake-1", "500", "cancel", original_requester_id="user-123"),
        lambda: commit(FIONA, "intake-1", "1001"),
        lambda: commit(FIONA, "intake-2", "1"),
    ]
    for work in failing:
        with pytest.raises(RequestError):
            work()
    assert len(rows()) == before


# Order and sums


@pytest.fixture
def traffic(acme: Flask) -> Flask:
    """Movements of every kind on both budgets in turns, then changes of the budgets."""
    for number in range(12):
        budget_id, request_id = ("engineering", "legal")[number % 2], f"intake-{number}"
        reserve(FIONA, request_id, "30.5" if number % 3 else "7", budget_id, user_id="user-123")
        match number % 6:
            case 0:
                release(FIONA, request_id, "7", "manual", budget_id)
            case 1 | 5:
                commit(FIONA, request_id, "10.25", budget_id)
            case 2:
                commit(FIONA, request_id, "20", budget_id, final=True)
            case 3:
                commit(FIONA, request_id, "8", budget_id)
            case _:
                release(FIONA, request_id, "0.5", "reject", budget_id)
    reserve(
        FIONA,
        "intake-99",
        "5000",
        "legal",
        user_id="user-123",
        over_budget=OverBudget(approved_by="fiona", reason="The auditors insist"),
    )
    manual_budgets.set_budget(
        ROOT, "acme", "Legal", "Q1 2025", Decimal("99.99"), auto_approve_limit=Decimal(5)
    )
    manual_budgets.set_budget(ROOT, "acme", "Engineering", "Q1 2025", Decimal(2500))
    return acme


def test_versions_of_a_budget_are_consecutive(traffic: Flask) -> None:
    for utilization in BudgetUtilization.select():
        versions = [row.version for row in rows(AuditLog.budgetId == utilization.budgetId)]
        assert versions == list(range(1, utilization.version + 1))
        assert len(versions) > 15


def test_sum_of_the_log_is_the_balance_and_never_negative(traffic: Flask) -> None:
    for budget in Budget.select():
        balances = [0, 0, 0]
        for row in rows(AuditLog.budgetId == budget.id):
            deltas = (row.budgetedDeltaMinor, row.reservedDeltaMinor, row.committedDeltaMinor)
            balances = [balance + delta for balance, delta in zip(balances, deltas, strict=True)]
            assert min(balances) >= 0
        utilization = BudgetUtilization.get_by_id(budget.id)
        reserved, committed = utilization.reservedMinor, utilization.committedMinor
        assert balances == [budget.budgetedMinor, reserved, committed]
        assert reserved > 0
        assert committed > 0


def test_rows_of_a_reservation_are_consistent(
    traffic: Flask,
) -> None:
    for reservation in Reservation.select():
        held = Decimal(0)
        for row in rows(AuditLog.reservationId == reservation.id):
            assert (row.requestId, row.budgetId, Decimal(str(row.oldValue))) == (
                reservation.requestId,
                reservation.budgetId,
                held,
            )
            held += Decimal(row.reservedDeltaMinor) / 100
            assert Decimal(str(row.newValue)) == held
        assert held * 100 == reservation.heldMinor


def test_rows_of_a_budget_name_customer_actor_and_time(traffic: Flask) -> None:
    of_budgets = rows(AuditLog.budgetId.is_null(False))
    assert {row.customerId for row in of_budgets} == {"acme"}
    assert {(row.principal, row.changedBy) for row in of_budgets} == {
        ("command", "root (command line)"),
        ("user:fiona", "Fiona Adams (fiona@acme.com)"),
    }
    assert all(isinstance(row.createdAt, datetime) for row in of_budgets)


@pytest.mark.parametrize(
    "rewrite",
    [
        AuditLog.update(reason="another"),
        AuditLog.update(reservedDeltaMinor=0).where(AuditLog.version == 1),
        AuditLog.delete(),
        AuditLog.delete().where(AuditLog.version == 3),
    ],
    ids=["update", "update one", "delete", "delete one"],
)
def test_audit_log_is_append_only(traffic: Flask, rewrite: Any) -> None:
    before = [row.__data__ for row in rows()]
    with pytest.raises(peewee.IntegrityError, match="the audit log is append-only"):
        rewrite.execute()
    assert [row.__data__ for row in rows()] == before


@pytest.mark.parametrize("table", ["AuditLog", "Reservation", "BudgetUtilization"])
def test_row_and_movement_are_one_transaction(acme: Flask, table: str) -> None:
    before = [row.__data__ for row in rows()]
    verb = "UPDATE" if table == "BudgetUtilization" else "INSERT"
    create_fault_trigger(verb, table)
    with pytest.raises(peewee.IntegrityError, match="a fault"):
        reserve(FIONA, "intake-789", "500")
    assert [row.__data__ for row in rows()] == before
    assert BudgetUtilization.get_by_id("engineering").reservedMinor == 0
    assert Reservation.select().count() == 0


def test_account_change_fails_without_its_audit_row(acme: Flask) -> None:
    create_fault_trigger("INSERT", "AuditLog")
    with pytest.raises(peewee.IntegrityError, match="a fault"):
        people.disable_user(ROOT, "user-123")
    with pytest.raises(peewee.IntegrityError, match="a fault"):
        customers.disable_customer(ROOT, "acme")
    with pytest.raises(peewee.IntegrityError, match="a fault"):
        api_keys.add_key(ROOT, "reports", customer_id="acme")
    assert customers.get_customer("acme").disabledAt is None
    assert [user.disabledAt for user in people.list_users(ROOT)] == [None, None]
    assert api_keys.list_keys(ROOT) == []


# Budgets, users, keys and logs


def test_row_of_a_budget_created_by_hand(acme: Flask) -> None:
    manual_budgets.set_budget(ROOT, "acme", "Sales", "2025", Decimal("1234.5"), budget_id="sales")
    newest(
        budgetId="sales",
        version=1,
        action="CREATE",
        field="budgetedAmount",
        oldValue=None,
        newValue="1234.5",
        budgetedDeltaMinor=123450,
        reservedDeltaMinor=0,
        changedBy="root (command line)",
        reason="Sales, 2025: $1,234.50",
    )


def test_each_changed_field_of_a_budget_has_a_row(acme: Flask) -> None:
    manual_budgets.set_budget(
        ROOT, "acme", "Legal", "Q1 2025", Decimal(80), auto_approve_limit=Decimal(5)
    )
    logged = [
        (row.version, row.action, row.field, row.oldValue, row.newValue, row.budgetedDeltaMinor)
        for row in rows()[-2:]
    ]
    assert logged == [
        (2, "UPDATE", "budgetedAmount", "300", "80", -22000),
        (3, "UPDATE", "autoApproveLimit", None, "5", 0),
    ]


def test_initial_limit_of_a_budget_is_logged(acme: Flask) -> None:
    manual_budgets.set_budget(
        ROOT,
        "acme",
        "Sales",
        "2025",
        Decimal(1000),
        budget_id="sales",
        auto_approve_limit=Decimal(5),
    )
    logged = {row.field: row.newValue for row in rows(AuditLog.budgetId == "sales")}
    assert logged == {"budgetedAmount": "1000", "autoApproveLimit": "5"}


#: A placeholder for the id of the newest key.
KEY = "the id of the key"


def add_key(**options: Any) -> None:
    api_keys.add_key(ROOT, "reports", **options)


ADMINISTERED: dict[str, tuple[Callable[[], object], dict[str, object]]] = {
    "add-customer": (
        lambda: customers.add_customer(ROOT, "globex", "Globex"),
        {
            "action": "ADD_CUSTOMER",
            "customerId": "globex",
            "subject": "globex",
            "newValue": "Globex",
        },
    ),
    "disable-customer": (
        lambda: customers.disable_customer(ROOT, "acme"),
        {"action": "DISABLE_CUSTOMER", "subject": "acme"},
    ),
    "add-user": (
        lambda: people.add_user(
            ROOT,
            "bo",
            "Bo",
            "bo@acme.com",
            "manager",
            customer_id="acme",
            password=None,
            slots_folder=slots(),
        ),
        {"action": "ADD_USER", "subject": "bo", "newValue": "manager"},
    ),
    "add-user for all customers": (
        lambda: people.add_user(
            ROOT,
            "bo",
            "Bo",
            "bo@acme.com",
            "super_admin",
            customer_id=None,
            password=None,
            slots_folder=slots(),
        ),
        {"action": "ADD_USER", "customerId": None, "subject": "bo", "newValue": "super_admin"},
    ),
    "set-password": (
        lambda: people.set_password(
            ROOT, "user-123", "correct horse battery", slots_folder=slots()
        ),
        {
            "action": "SET_PASSWORD",
            "subject": "user-123",
            "oldValue": None,
            "newValue": None,
            "reason": None,
        },
    ),
    "disable-user": (
        lambda: people.disable_user(ROOT, "user-123"),
        {"action": "DISABLE_USER", "subject": "user-123"},
    ),
    "add-key": (
        lambda: add_key(customer_id="acme"),
        {"action": "ADD_KEY", "subject": KEY, "newValue": "reports"},
    ),
    "add-key for all customers": (
        lambda: add_key(customer_id=None, may_overspend=True),
        {
            "action": "ADD_KEY",
            "customerId": None,
            "subject": KEY,
            "newValue": "reports, may overspend",
        },
    ),
}


@pytest.mark.parametrize(("work", "expected"), ADMINISTERED.values(), ids=ADMINISTERED)
def test_rows_of_account_and_key_changes(
    acme: Flask, work: Callable[[], object], expected: dict[str, object]
) -> None:
    before = len(rows())
    with time_machine.travel(NOW, tick=False):
        work()
    assert len(rows()) == before + 1
    keys = api_keys.list_keys(ROOT)
    expected = {"customerId": "acme"} | {
        name: keys[-1].id if value is KEY else value for name, value in expected.items()
    }
    newest(
        **expected,
        budgetId=None,
        version=None,
        principal="command",
        changedBy="root (command line)",
        createdAt=NOW,
    )


def test_enable_user_and_revoke_key_are_logged(acme: Flask) -> None:
    people.disable_user(ROOT, "user-123")
    people.enable_user(ROOT, "user-123")
    newest(action="ENABLE_USER", customerId="acme", subject="user-123")
    add_key(customer_id="acme")
    key_id = api_keys.list_keys(ROOT)[0].id
    api_keys.revoke_key(ROOT, key_id)
    newest(action="REVOKE_KEY", customerId="acme", subject=key_id)


def test_repeated_change_writes_no_row(acme: Flask) -> None:
    add_key(customer_id="acme")
    key_id = api_keys.list_keys(ROOT)[0].id
    again: list[Callable[[], None]] = [
        lambda: people.enable_user(ROOT, "fiona"),
        lambda: people.disable_user(ROOT, "user-123"),
        lambda: api_keys.revoke_key(ROOT, key_id),
        lambda: customers.disable_customer(ROOT, "acme"),
    ]
    for work in again:
        work()
    before = len(rows())
    for work in again:
        work()
    assert len(rows()) == before


def test_row_names_the_acting_admin(acme: Flask) -> None:
    alex = Actor(
        principal="user:alex",
        user_id="alex",
        name="Alex Kim",
        email="alex@acme.com",
        role=Role.ADMIN,
        customer_id="acme",
    )
    people.disable_user(alex, "user-123")
    newest(action="DISABLE_USER", principal="user:alex", changedBy="Alex Kim (alex@acme.com)")


def test_pruning_logs_the_number_of_checks_and_the_cutoff(acme: Flask) -> None:
    with time_machine.travel(NOW, tick=False):
        check(JANE, "intake-1", "5")
        check(JANE, "intake-2", "5")
    with time_machine.travel(NOW + timedelta(days=100), tick=False):
        check(JANE, "intake-3", "5")
        retention.prune_checks(ROOT, 30)
    newest(
        action="PRUNE_CHECKS",
        customerId="acme",
        budgetId=None,
        oldValue="2",
        newValue=clock.to_text(NOW + timedelta(days=70)),
        reason="2 checks older than 30 days deleted",
        principal="command",
        changedBy="root (command line)",
        createdAt=NOW + timedelta(days=100),
    )
