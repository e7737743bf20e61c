"""Budgets set by hand: removal and revival follow the rules of a sync run; each step is audited."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
import time_machine
from flask import Flask
from support.damage import create_fault_trigger
from support.world import ROOT

from budget_sync import database, ledger, manual_budgets, sync
from budget_sync.accounts import customers
from budget_sync.database.models import (
    AuditLog,
    Budget,
    BudgetDataSourceConfig,
    BudgetUtilization,
)
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Actor, Role
from budget_sync.domain.request_models import (
    CheckRequest,
    CommitRequest,
    ReleaseAction,
    ReleaseRequest,
    ReserveRequest,
)
from budget_sync.ledger import verification
from budget_sync.queries import budgets
from budget_sync.queries.api import get_budget

pytestmark = pytest.mark.both_engines

NOW = datetime(2025, 2, 5, 11, tzinfo=UTC)
BUDGET = "legal-1"


def person(role: Role, customer_id: str | None = "acme") -> Actor:
    """A caller with a role. No user is stored."""
    return Actor(
        principal=f"user:{role}",
        user_id=role,
        name=role,
        email=f"{role}@example.com",
        role=role,
        customer_id=customer_id,
    )


@pytest.fixture
def acme(app: Flask) -> Flask:
    """Acme and Globex, and Acme's budget of 1,000 for Legal."""
    customers.add_customer(ROOT, "acme", "Acme", auto_approve_limit_minor=10_000)
    customers.add_customer(ROOT, "globex", "Globex")
    add_budget(BUDGET)
    return app


def add_budget(
    budget_id: str, amount: int = 1000, *, fiscal_period: str = "Q1 2025", **options: Any
) -> None:
    """Create a budget of Acme for Legal."""
    manual_budgets.set_budget(
        ROOT, "acme", "Legal", fiscal_period, Decimal(amount), budget_id=budget_id, **options
    )


def reserve(request_id: str, amount: int, budget_id: str = BUDGET) -> None:
    ledger.reserve(
        ROOT, ReserveRequest(budget_id=budget_id, request_id=request_id, amount=Decimal(amount))
    )


def check(amount: int) -> dict[str, object]:
    """The reply to a check of Legal, Q1 2025."""
    request = CheckRequest(
        request_id="checked",
        user_id="u",
        user_name="U",
        user_email="u@example.com",
        customer_id="acme",
        department="Legal",
        fiscal_period="Q1 2025",
        amount=Decimal(amount),
    )
    return ledger.check(ROOT, request).data


def error_of(work: Callable[[], object], code: Code = Code.INVALID_REQUEST) -> str:
    """The sentence of the error that `work` raises. Asserts that nothing was written."""
    before = AuditLog.select().count()
    with pytest.raises(RequestError) as error:
        work()
    assert error.value.code == code
    assert AuditLog.select().count() == before
    assert verification.verify().findings == []
    return error.value.sentence


def last_row() -> dict[str, object]:
    """The newest audit row."""
    row: AuditLog = AuditLog.select().order_by(AuditLog.id.desc()).get()
    columns = ("action", "budgetId", "version", "field", "oldValue", "newValue", "reason")
    return {name: getattr(row, name) for name in columns}


# Removal


def test_removed_budget_settles_only_open_reservations(acme: Flask) -> None:
    reserve("r-1", 300)
    reserve("r-2", 200)
    balance = manual_budgets.remove_budget(ROOT, BUDGET).balance
    assert (balance.reserved_minor, balance.available_minor) == (50_000, 50_000)
    assert error_of(lambda: reserve("r-3", 1), Code.BUDGET_DELETED).startswith(
        "The budget was removed and takes no new reservations."
    )
    assert check(1)["code"] == Code.NO_BUDGET
    ledger.commit(ROOT, CommitRequest(budget_id=BUDGET, request_id="r-1", amount=Decimal(300)))
    ledger.release(
        ROOT,
        ReleaseRequest(
            budget_id=BUDGET, request_id="r-2", amount=Decimal(200), action=ReleaseAction.MANUAL
        ),
    )
    used = BudgetUtilization.get_by_id(BUDGET)
    assert (used.reservedMinor, used.committedMinor) == (0, 30_000)
    assert verification.verify().findings == []


def test_removal_and_revival_are_audited_and_counted(acme: Flask) -> None:
    with time_machine.travel(NOW, tick=False):
        manual_budgets.remove_budget(ROOT, BUDGET)
    assert last_row() == {
        "action": "SOFT_DELETE",
        "budgetId": BUDGET,
        "version": 2,
        "field": "deletedAt",
        "oldValue": None,
        "newValue": "2025-02-05T11:00:00Z",
        "reason": "Removed by hand",
    }
    manual_budgets.restore_budget(ROOT, BUDGET, reason="It is needed again")
    assert last_row() == {
        "action": "REVIVE",
        "budgetId": BUDGET,
        "version": 3,
        "field": "deletedAt",
        "oldValue": "2025-02-05T11:00:00Z",
        "newValue": None,
        "reason": "It is needed again",
    }
    assert BudgetUtilization.get_by_id(BUDGET).version == 3
    assert verification.verify().findings == []


def test_second_removal_and_second_revival_are_rejected(acme: Flask) -> None:
    with time_machine.travel(NOW, tick=False):
        manual_budgets.remove_budget(ROOT, BUDGET)
    assert error_of(lambda: manual_budgets.remove_budget(ROOT, BUDGET)) == (
        "Budget legal-1 (Legal, Q1 2025) was removed at 2025-02-05T11:00:00Z. Nothing is left to "
        "do."
    )
    manual_budgets.restore_budget(ROOT, BUDGET)
    assert error_of(lambda: manual_budgets.restore_budget(ROOT, BUDGET)) == (
        "Budget legal-1 (Legal, Q1 2025) was not removed. Nothing is left to do."
    )


@pytest.mark.parametrize("verb", [manual_budgets.remove_budget, manual_budgets.restore_budget])
def test_change_and_its_audit_row_are_one_transaction(
    acme: Flask, verb: Callable[[Actor, str], object]
) -> None:
    if verb is manual_budgets.restore_budget:
        manual_budgets.remove_budget(ROOT, BUDGET)
    before = Budget.get_by_id(BUDGET).__data__
    create_fault_trigger("INSERT", "AuditLog")
    with pytest.raises(Exception, match="a fault"):
        verb(ROOT, BUDGET)
    assert Budget.get_by_id(BUDGET).__data__ == before


def test_budget_of_a_source_is_rejected_until_the_source_is_removed(acme: Flask) -> None:
    source = BudgetDataSourceConfig.create(
        id="src-1",
        customerId="acme",
        sourceType="google_sheets",
        spreadsheetKey="1AbCd",
        worksheet="Budgets",
        isActive=True,
        createdAt=NOW,
    )
    Budget.update(sourceId=source.id, sourceRow=2).execute()
    assert error_of(lambda: manual_budgets.remove_budget(ROOT, BUDGET)) == (
        "Budget legal-1 (Legal, Q1 2025) belongs to source src-1. Remove its row from the sheet "
        "instead."
    )
    Budget.update(deletedAt=NOW).execute()
    assert error_of(lambda: manual_budgets.restore_budget(ROOT, BUDGET)) == (
        "Budget legal-1 (Legal, Q1 2025) belongs to source src-1. Put its row back into the sheet "
        "instead."
    )
    sync.remove_source(ROOT, source.id)
    manual_budgets.restore_budget(ROOT, BUDGET)
    manual_budgets.remove_budget(ROOT, BUDGET)
    assert verification.verify().findings == []


# Revival


def test_revived_budget_keeps_its_figures_and_takes_reservations(acme: Flask) -> None:
    reserve("r-1", 300)
    manual_budgets.remove_budget(ROOT, BUDGET)
    ledger.commit(ROOT, CommitRequest(budget_id=BUDGET, request_id="r-1", amount=Decimal(300)))
    balance = manual_budgets.restore_budget(ROOT, BUDGET).balance
    assert (balance.committed_minor, balance.available_minor) == (30_000, 70_000)
    assert error_of(lambda: reserve("r-2", 701), Code.INSUFFICIENT_BUDGET)
    reserve("r-2", 700)
    assert check(1)["code"] == Code.INSUFFICIENT_BUDGET


def test_budget_is_not_revived_next_to_a_live_one(acme: Flask) -> None:
    manual_budgets.remove_budget(ROOT, BUDGET)
    manual_budgets.set_budget(
        ROOT, "acme", "LEGAL", "2025-Q1", Decimal(5), budget_id="legal-2", currency="EUR"
    )
    assert error_of(lambda: manual_budgets.restore_budget(ROOT, BUDGET)) == (
        "Budget legal-1 (Legal, Q1 2025) cannot be revived: budget legal-2 is live for that "
        "department and period. Remove that budget first with `flask remove-budget legal-2`."
    )
    manual_budgets.remove_budget(ROOT, "legal-2")
    manual_budgets.restore_budget(ROOT, BUDGET)


def test_revived_budget_gets_the_keys_of_today(acme: Flask) -> None:
    manual_budgets.remove_budget(ROOT, BUDGET)
    Budget.update(departmentKey="old key", periodKey="q1 2025").execute()
    manual_budgets.restore_budget(ROOT, BUDGET)
    assert check(1)["available"]
    manual_budgets.remove_budget(ROOT, BUDGET)
    Budget.update(departmentKey="old key", periodKey="q1 2025").execute()
    add_budget("legal-2")
    assert "budget legal-2 is live" in error_of(lambda: manual_budgets.restore_budget(ROOT, BUDGET))


def test_money_used_on_a_later_budget_is_not_given_again(acme: Flask) -> None:
    with time_machine.travel(NOW, tick=False):
        manual_budgets.remove_budget(ROOT, BUDGET)
        add_budget("legal-2")
    reserve("r-1", 600, "legal-2")
    with time_machine.travel(NOW + timedelta(days=1), tick=False):
        manual_budgets.remove_budget(ROOT, "legal-2")
    assert error_of(lambda: manual_budgets.restore_budget(ROOT, BUDGET)) == (
        "Budget legal-1 (Legal, Q1 2025) cannot be revived: $600 is reserved or committed on "
        "budget legal-2, which has the same department and period and was removed later. Revive "
        "that budget instead with `flask restore-budget legal-2`."
    )
    assert manual_budgets.restore_budget(ROOT, "legal-2").balance.available_minor == 40_000


def test_unused_or_earlier_budget_does_not_prevent_revival(acme: Flask) -> None:
    reserve("r-1", 600)
    with time_machine.travel(NOW, tick=False):
        manual_budgets.remove_budget(ROOT, BUDGET)
        add_budget("legal-2")
    with time_machine.travel(NOW + timedelta(days=1), tick=False):
        manual_budgets.remove_budget(ROOT, "legal-2")
    manual_budgets.restore_budget(ROOT, "legal-2")
    manual_budgets.remove_budget(ROOT, "legal-2")
    assert manual_budgets.restore_budget(ROOT, BUDGET).balance.available_minor == 40_000


# Callers


@pytest.mark.parametrize("verb", [manual_budgets.remove_budget, manual_budgets.restore_budget])
@pytest.mark.parametrize("role", [Role.FPA_USER, Role.MANAGER, Role.BUSINESS_USER, Role.API_SYSTEM])
def test_role_without_permission_changes_no_budget(
    acme: Flask, role: Role, verb: Callable[[Actor, str], object]
) -> None:
    error_of(lambda: verb(person(role), BUDGET), Code.FORBIDDEN)


@pytest.mark.parametrize("verb", [manual_budgets.remove_budget, manual_budgets.restore_budget])
@pytest.mark.parametrize("role", [Role.SUPER_ADMIN, Role.ADMIN, Role.FPA_ADMIN])
def test_budget_of_another_customer_looks_nonexistent(
    acme: Flask, role: Role, verb: Callable[[Actor, str], object]
) -> None:
    stranger = person(role, "globex")
    sentences = {
        error_of(partial(verb, stranger, name), Code.BUDGET_NOT_FOUND).replace(name, "?")
        for name in (BUDGET, "none")
    }
    assert len(sentences) == 1
    manual_budgets.remove_budget(person(role), BUDGET)


def test_list_has_only_budgets_of_the_callers_customer(acme: Flask) -> None:
    manual_budgets.set_budget(ROOT, "globex", "Legal", "Q1 2025", Decimal(1), budget_id="g-1")
    for customer_id in (None, "acme", "globex"):
        found = budgets.list_budgets(person(Role.ADMIN, "globex"), customer_id)
        assert [line.id for line in found] == ["g-1"]
    assert [line.id for line in budgets.list_budgets(ROOT)] == [BUDGET, "g-1"]


# The auto-approve limit


def test_removed_limit_lets_the_customers_limit_apply(acme: Flask) -> None:
    add_budget(BUDGET, auto_approve_limit=Decimal(5))
    assert check(50)["canAutoApprove"] is False
    _, change = manual_budgets.set_budget(
        ROOT, "acme", "Legal", "Q1 2025", Decimal(1000), no_auto_approve_limit=True
    )
    assert change == "updated"
    assert last_row() == {
        "action": "UPDATE",
        "budgetId": BUDGET,
        "version": 3,
        "field": "autoApproveLimit",
        "oldValue": "5",
        "newValue": None,
        "reason": "Set by hand",
    }
    assert check(50)["canAutoApprove"] is True
    _, change = manual_budgets.set_budget(
        ROOT, "acme", "Legal", "Q1 2025", Decimal(1000), no_auto_approve_limit=True
    )
    assert change == "unchanged"
    assert verification.verify().findings == []


def test_limit_that_is_not_given_stays(acme: Flask) -> None:
    add_budget(BUDGET, auto_approve_limit=Decimal(5))
    add_budget(BUDGET, amount=900)
    assert Budget.get_by_id(BUDGET).autoApproveLimitMinor == 500


def test_limit_cannot_be_set_and_removed_at_once(acme: Flask) -> None:
    error = error_of(
        lambda: manual_budgets.set_budget(
            ROOT,
            "acme",
            "Legal",
            "Q1 2025",
            Decimal(1),
            auto_approve_limit=Decimal(5),
            no_auto_approve_limit=True,
        )
    )
    assert error == (
        "The request is not valid: autoApproveLimit can be either set or removed, not both."
    )


# Owners


def test_owner_is_set_kept_and_removed(acme: Flask) -> None:
    add_budget(BUDGET, owner_email=" jane@acme.com ")
    add_budget(BUDGET, amount=900)
    assert Budget.get_by_id(BUDGET).ownerEmail == "jane@acme.com"
    add_budget(BUDGET, amount=900, no_owner_email=True)
    rows = AuditLog.select().where(AuditLog.field == "ownerEmail").order_by(AuditLog.version)
    assert [(row.action, row.oldValue, row.newValue) for row in rows] == [
        ("UPDATE", None, "jane@acme.com"),
        ("UPDATE", "jane@acme.com", None),
    ]
    add_budget("legal-2", fiscal_period="Q2 2025", owner_email="bo@acme.com")
    assert Budget.get_by_id("legal-2").ownerEmail == "bo@acme.com"
    assert verification.verify().findings == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"owner_email": "Jane"}, "'Jane' is not an email address"),
        (
            {"owner_email": "a@x.com", "no_owner_email": True},
            "can be either set or removed, not both",
        ),
    ],
)
def test_bad_owner_is_rejected(acme: Flask, options: dict[str, Any], problem: str) -> None:
    error = error_of(lambda: add_budget(BUDGET, **options))
    assert error == f"The request is not valid: ownerEmail {problem}."


@pytest.mark.parametrize(
    ("role", "reads_owner"), [(Role.FPA_USER, True), (Role.API_SYSTEM, True), (Role.MANAGER, False)]
)
def test_employees_do_not_read_owners(acme: Flask, role: Role, reads_owner: bool) -> None:
    add_budget(BUDGET, owner_email="jane@acme.com")
    reply = get_budget(person(role), BUDGET)
    assert reply.get("ownerEmail") == ("jane@acme.com" if reads_owner else None)
    assert ("ownerEmail" in reply) == reads_owner


# Concurrent changes


def test_removal_and_revival_at_once_with_movements_keep_the_balances(acme: Flask) -> None:
    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except RequestError as error:
            # Either order of the calls is right. On a busy machine, one of them may wait for the
            # row longer than the second that the tests allow.
            assert error.code in (  # noqa: PT017
                Code.INVALID_REQUEST,
                Code.BUDGET_DELETED,
                Code.UNAVAILABLE,
            )
        finally:
            database.close_connection()

    works: list[Callable[[], object]] = []
    for number in range(20):
        works += [
            lambda: manual_budgets.remove_budget(ROOT, BUDGET),
            partial(reserve, f"r-{number}", 1),
            lambda: manual_budgets.restore_budget(ROOT, BUDGET),
            partial(
                manual_budgets.set_budget, ROOT, "acme", "Legal", "Q1 2025", Decimal(1000 + number)
            ),
        ]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(run, works))
    live = Budget.select().where(Budget.deletedAt.is_null()).count()
    assert live <= 1
    assert verification.verify().findings == []
