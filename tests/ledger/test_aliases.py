"""Aliases of departments, and the names that a check without a budget suggests."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from support.purchases import (
    ACME,
    FIONA,
    FOREIGN_SERVICE,
    FRED,
    GLOBEX,
    JANE,
    MAIN,
    MARK,
    OTHER,
    SERVICE,
    do,
    rejected,
    send,
    set_customer,
    soft_delete,
    values,
)
from support.world import ROOT

from budget_sync import manual_budgets
from budget_sync.accounts import aliases
from budget_sync.accounts.customers import get_customer
from budget_sync.database.models import AuditLog, BudgetCheckLog, DepartmentAlias
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import ANONYMOUS, Actor, ApiScope
from budget_sync.ledger.aliases import department_key
from budget_sync.spend_import.stored import load_budgets

pytestmark = [pytest.mark.both_engines, pytest.mark.usefixtures("company")]


def asked(
    department: str,
    by: Actor = SERVICE,
    period: str = "Q1 2025",
    customer_id: str = ACME,
    request_id: str = "r1",
) -> dict[str, Any]:
    """The reply to a check of a department."""
    user = by if by.user_id else JANE
    reply = send(
        "check",
        by,
        budget_id=None,
        request_id=request_id,
        user_id=user.user_id,
        user_name=user.name,
        user_email=user.email,
        customer_id=customer_id,
        department=department,
        fiscal_period=period,
        amount=10,
    )
    return values(reply)


def suggested(department: str, by: Actor = SERVICE, period: str = "Q1 2025") -> list[str]:
    reply = asked(department, by, period)
    assert reply["code"] == Code.NO_BUDGET
    found: list[str] = reply["suggestions"]
    return found


def add_budget(department: str, period: str = "Q1 2025", customer_id: str = ACME) -> None:
    manual_budgets.set_budget(ROOT, customer_id, department, period, Decimal(100))


def test_next_check_matches_and_keeps_the_name_as_sent() -> None:
    assert asked("Eng")["code"] == Code.NO_BUDGET
    assert aliases.add_alias(FIONA, ACME, " Eng ", "engineering") is True
    for name in ("Eng", "ENG", " eng "):
        reply = asked(name)
        assert (reply["code"], reply["budget"]["id"]) == (Code.AUTO_APPROVED, MAIN)
        assert "suggestions" not in reply
    newest = BudgetCheckLog.select().order_by(BudgetCheckLog.id.desc()).first()
    assert (newest.department.strip(), newest.budgetId) == ("eng", MAIN)
    assert asked("Eng", period="Q4 2031")["suggestions"] == ["Engineering"]
    row = AuditLog.get(AuditLog.action == "ADD_ALIAS")
    assert (row.customerId, row.subject, row.newValue, row.changedBy) == (
        ACME,
        "Eng",
        "Engineering",
        FIONA.label,
    )
    assert aliases.add_alias(FIONA, ACME, "eng", "ENGINEERING") is False
    assert AuditLog.select().where(AuditLog.action == "ADD_ALIAS").count() == 1


def test_held_amount_counts_for_a_check_by_alias() -> None:
    aliases.add_alias(FIONA, ACME, "Eng", "Engineering")
    asked("Eng", JANE)
    assert do("reserve", JANE, amount=10)["newAvailable"] == 990
    assert asked("Eng", JANE)["alreadyReserved"] == 10


def test_alias_is_of_one_customer() -> None:
    aliases.add_alias(FIONA, ACME, "Eng", "Engineering")
    foreign = asked("Eng", FOREIGN_SERVICE, customer_id=GLOBEX)
    assert (foreign["code"], foreign["suggestions"]) == (Code.NO_BUDGET, ["Engineering"])
    with pytest.raises(RequestError) as raised:
        aliases.add_alias(FIONA, GLOBEX, "Eng", "Engineering")
    assert raised.value.code is Code.INVALID_CUSTOMER
    assert [alias.name for alias in aliases.list_aliases(FIONA)] == ["Eng"]
    with pytest.raises(RequestError):
        aliases.list_aliases(FIONA, GLOBEX)
    assert aliases.list_aliases(ROOT, GLOBEX) == []


def test_live_department_wins_over_an_alias() -> None:
    aliases.add_alias(FIONA, ACME, "Eng", "Engineering")
    add_budget("Eng", "Q2 2025")
    assert asked("Eng")["code"] == Code.NO_BUDGET
    assert asked("Eng", period="Q2 2025")["code"] == Code.AUTO_APPROVED
    assert [alias.is_hidden for alias in aliases.list_aliases(FIONA)] == [True]
    assert department_key(ACME, "ENG") == "eng"


@pytest.mark.parametrize(
    ("name", "department", "sentence"),
    [
        ("Marketing", "Engineering", "Marketing is a department with budgets of its own"),
        ("Engineering", "Engineering", "Engineering is a department with budgets of its own"),
        ("Eng", "Nothing", "There is no live budget of a department 'Nothing'"),
        ("Dev", "Eng", "Eng is an alias itself. Name the department that it means: Engineering"),
        ("Eng", "Marketing", "Eng means Engineering already. Remove that alias first"),
        ("", "Engineering", "name must be 1 to 200 printable characters"),
        ("a\nb", "Engineering", "name must be 1 to 200 printable characters"),
        ("x" * 201, "Engineering", "name must be 1 to 200 printable characters"),
    ],
)
def test_wrong_alias_is_rejected(name: str, department: str, sentence: str) -> None:
    aliases.add_alias(FIONA, ACME, "Eng", "Engineering")
    with pytest.raises(RequestError) as raised:
        aliases.add_alias(FIONA, ACME, name, department)
    assert sentence in raised.value.sentence
    assert raised.value.code is Code.INVALID_REQUEST
    assert [alias.name for alias in DepartmentAlias.select()] == ["Eng"]


def test_target_of_an_alias_cannot_become_one() -> None:
    aliases.add_alias(FIONA, ACME, "Eng", "Engineering")
    soft_delete()
    with pytest.raises(RequestError) as raised:
        aliases.add_alias(FIONA, ACME, "Engineering", "Marketing")
    assert "Remove the alias Eng first" in raised.value.sentence
    assert asked("Eng")["code"] == Code.NO_BUDGET


@pytest.mark.parametrize("by", [SERVICE, JANE, MARK, FRED], ids=lambda by: by.name)
def test_other_roles_change_no_alias(by: Actor) -> None:
    aliases.add_alias(FIONA, ACME, "Eng", "Engineering")
    for change in (
        lambda: aliases.add_alias(by, ACME, "Dev", "Engineering"),
        lambda: aliases.remove_alias(by, ACME, "Eng"),
    ):
        with pytest.raises(RequestError) as raised:
            change()
        assert raised.value.code is Code.FORBIDDEN
    assert [alias.name for alias in DepartmentAlias.select()] == ["Eng"]


def test_removed_alias_matches_no_more() -> None:
    aliases.add_alias(FIONA, ACME, "Eng", "Engineering")
    assert aliases.remove_alias(FIONA, ACME, "ENG").department == "Engineering"
    assert asked("Eng")["code"] == Code.NO_BUDGET
    row = AuditLog.get(AuditLog.action == "REMOVE_ALIAS")
    assert (row.subject, row.oldValue, row.newValue) == ("Eng", "Engineering", None)
    with pytest.raises(RequestError) as raised:
        aliases.remove_alias(FIONA, ACME, "Eng")
    assert raised.value.code is Code.NOT_FOUND


def test_spend_follows_an_alias() -> None:
    named: dict[str, Any] = {
        "budget_id": None,
        "department": "Eng",
        "fiscal_period": "Q1 2025",
        "amount": 5,
    }
    rejected("spend", Code.BUDGET_NOT_FOUND, **named)
    aliases.add_alias(FIONA, ACME, "Eng", "Engineering")
    first = send("spend", **named)
    assert json.loads(first.text)["budgetId"] == MAIN
    soft_delete()
    again = send("spend", **named)
    assert (again.replayed, again.text) == (True, first.text)


def test_import_of_spends_follows_an_alias() -> None:
    aliases.add_alias(FIONA, ACME, "Eng", "Engineering")
    found = load_budgets(get_customer(ACME)).find("eng", "2025-Q1")
    assert not isinstance(found, str)
    assert found.id == MAIN
    add_budget("Eng", "Q2 2025")
    assert "Eng has no budget for" in str(load_budgets(get_customer(ACME)).find("eng", "Q1 2025"))


def test_check_suggests_the_nearest_departments() -> None:
    for department in ("Marketing EMEA", "Marketing APAC", "Marketing LATAM", "Marketing Ops"):
        add_budget(department)
    add_budget("Marketting", "Q2 2025")
    assert suggested("Enginering") == ["Engineering"]
    assert suggested("zzz") == []
    assert suggested("Marketin")[0] == "Marketing"
    assert len(suggested("Marketin")) == 3
    # Departments with a budget in that period come first.
    assert suggested("Marketin", period="Q2 2025")[0] == "Marketting"


def test_department_without_a_budget_in_the_period_is_suggested_alone() -> None:
    add_budget("Engineering East", "Q2 2025")
    assert suggested("engineering", period="Q2 2025") == ["Engineering"]


def test_deleted_budgets_are_not_suggested() -> None:
    soft_delete(OTHER)
    assert suggested("Marketting") == []


def test_only_readers_of_budgets_get_suggestions() -> None:
    checks_only = replace(SERVICE, scopes=frozenset({ApiScope.CHECK}))
    reads = replace(SERVICE, scopes=frozenset({ApiScope.CHECK, ApiScope.READ}))
    for by, expected in (
        (JANE, ["Engineering"]),
        (FIONA, ["Engineering"]),
        (ANONYMOUS, []),
        (checks_only, []),
        (reads, ["Engineering"]),
    ):
        assert suggested("Enginering", by) == expected, by


def test_employee_who_sees_own_budgets_gets_only_those() -> None:
    set_customer(employeesSee="own")
    assert suggested("Enginering", JANE) == []
    assert suggested("Enginering", FIONA) == ["Engineering"]
    asked("Engineering", JANE)
    do("reserve", JANE, amount=10)
    assert suggested("Enginering", JANE) == ["Engineering"]
    assert suggested("Marketting", JANE) == []
