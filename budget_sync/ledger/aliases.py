"""Other names of departments, as the calls that name a department look them up.

An alias never shadows a department: it counts only if no live budget has its name. So a call looks
here only if it finds no budget, and the usual call costs nothing more.
"""

from __future__ import annotations

from typing import Any

from peewee import fn

from budget_sync.database import Prepared
from budget_sync.database.models import Budget, DepartmentAlias
from budget_sync.domain.names import fold


def _alias(value: Any) -> Any:
    budget: Any = Budget.alias()
    of_that_name = budget.select(budget.id).where(
        (budget.customerId == DepartmentAlias.customerId)
        & (budget.departmentKey == DepartmentAlias.nameKey)
        & budget.deletedAt.is_null()
    )
    return DepartmentAlias.select(DepartmentAlias.departmentKey).where(
        (DepartmentAlias.customerId == value.customer_id)
        & (DepartmentAlias.nameKey == value.name)
        & ~fn.EXISTS(of_that_name)
    )


_ALIAS = Prepared(_alias)


def department_of_alias(customer_id: str, name_key: str) -> str | None:
    """The key of the department that a folded name means; None if the name is no alias.

    Also None if a live budget has the name.
    """
    key: str | None = _ALIAS.scalar(customer_id=customer_id, name=name_key)
    return key


def department_key(customer_id: str, name: str) -> str:
    """The key of the department with that name or alias, for a search."""
    key = fold(name)
    return department_of_alias(customer_id, key) or key
