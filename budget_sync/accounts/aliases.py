"""Aliases of departments: other names that checks and spends may send. Add, remove, list.

`ledger/aliases.py` looks them up.
"""

from __future__ import annotations

from typing import NamedTuple

from budget_sync.accounts.changes import bad_names
from budget_sync.accounts.customers import get_customer, locked_customer
from budget_sync.database import audit_log, transact
from budget_sync.database.models import Budget, DepartmentAlias
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.names import fold
from budget_sync.domain.permissions import Action, Actor, require, require_for


class Alias(NamedTuple):
    """Another name of a department, and whether a live budget has that name by now."""

    customer_id: str
    name: str
    department: str
    created_by: str
    is_hidden: bool


def add_alias(actor: Actor, customer_id: str, name: str, department: str) -> bool:
    """Let `name` mean a department, which must have a live budget.

    Return False if it means that department already. Raises RequestError FORBIDDEN,
    INVALID_CUSTOMER, or INVALID_REQUEST if a name is wrong, is a department, or is an alias of
    another one.
    """
    require_for(actor, Action.MANAGE_BUDGETS, customer_id)
    if problems := bad_names(name=name, department=department):
        raise invalid_request(problems)
    key, meant_key = fold(name), fold(department)

    def work() -> bool:
        locked_customer(customer_id)
        meant = _live_department(customer_id, meant_key)
        if meant is None:
            raise _rejected(_problem_of_target(customer_id, meant_key, department.strip()))
        if (existing := _live_department(customer_id, key)) is not None:
            raise _rejected(
                f"{existing} is a department with budgets of its own, so its name cannot mean "
                "another one. Send the other name in the check."
            )
        alias = _find(customer_id, key)
        if alias is not None and alias.departmentKey == meant_key:
            return False
        if alias is not None:
            raise _rejected(
                f"{alias.name} means {alias.department} already. Remove that alias first."
            )
        _require_no_target(customer_id, key)
        DepartmentAlias.insert(
            customerId=customer_id,
            nameKey=key,
            name=name.strip(),
            department=meant,
            departmentKey=meant_key,
            createdBy=actor.label,
            createdAt=clock.now(),
        ).execute()
        audit_log.record(
            actor,
            "ADD_ALIAS",
            customer_id=customer_id,
            subject=name.strip(),
            field="department",
            newValue=meant,
        )
        return True

    return transact(work)


def remove_alias(actor: Actor, customer_id: str, name: str) -> Alias:
    """Let a name no longer mean a department; returns the removed alias.

    Raises RequestError FORBIDDEN, INVALID_CUSTOMER, or NOT_FOUND.
    """
    require_for(actor, Action.MANAGE_BUDGETS, customer_id)
    key = fold(name)

    def work() -> Alias:
        locked_customer(customer_id)
        alias = _find(customer_id, key)
        if alias is None:
            raise RequestError(
                Code.NOT_FOUND, f"There is no alias {name!r}. `flask list-aliases` shows them."
            )
        DepartmentAlias.delete().where(
            DepartmentAlias.customerId == customer_id, DepartmentAlias.nameKey == key
        ).execute()
        audit_log.record(
            actor,
            "REMOVE_ALIAS",
            customer_id=customer_id,
            subject=alias.name,
            field="department",
            oldValue=alias.department,
        )
        return Alias(customer_id, alias.name, alias.department, alias.createdBy, is_hidden=False)

    return transact(work)


def list_aliases(actor: Actor, customer_id: str | None = None) -> list[Alias]:
    """The aliases of one customer, or of all that the caller serves, by customer and name.

    Raises RequestError FORBIDDEN or INVALID_CUSTOMER.
    """
    require(actor, Action.READ_AUDIT)
    wanted = customer_id or actor.customer_id
    rows = DepartmentAlias.select().order_by(DepartmentAlias.customerId, DepartmentAlias.nameKey)
    if wanted is not None:
        require_for(actor, Action.READ_AUDIT, wanted)
        get_customer(wanted)
        rows = rows.where(DepartmentAlias.customerId == wanted)
    return [
        Alias(
            row.customerId,
            row.name,
            row.department,
            row.createdBy,
            is_hidden=_live_department(row.customerId, row.nameKey) is not None,
        )
        for row in rows
    ]


def _find(customer_id: str, key: str) -> DepartmentAlias | None:
    found: DepartmentAlias | None = DepartmentAlias.get_or_none(
        DepartmentAlias.customerId == customer_id, DepartmentAlias.nameKey == key
    )
    return found


def _live_department(customer_id: str, key: str) -> str | None:
    """The name of a department with a live budget."""
    name: str | None = (
        Budget.select(Budget.department)
        .where(
            Budget.customerId == customer_id,
            Budget.departmentKey == key,
            Budget.deletedAt.is_null(),
        )
        .limit(1)
        .scalar()
    )
    return name


def _problem_of_target(customer_id: str, key: str, department: str) -> str:
    """Why a department without live budgets cannot get an alias."""
    alias = _find(customer_id, key)
    if alias is not None:
        return (
            f"{alias.name} is an alias itself. Name the department that it means: "
            f"{alias.department}."
        )
    return (
        f"There is no live budget of a department {department!r}. Name a department that has one."
    )


def _require_no_target(customer_id: str, key: str) -> None:
    """Raises RequestError INVALID_REQUEST if other aliases mean this name."""
    other: DepartmentAlias | None = DepartmentAlias.get_or_none(
        DepartmentAlias.customerId == customer_id, DepartmentAlias.departmentKey == key
    )
    if other is not None:
        raise _rejected(
            f"{other.name} is an alias of {other.department}, which would become an alias itself. "
            f"Remove the alias {other.name} first."
        )


def _rejected(sentence: str) -> RequestError:
    return RequestError(Code.INVALID_REQUEST, sentence)
