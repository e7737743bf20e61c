"""Changes a customer's fiscal year: the keys of its budgets' periods follow.

"FY2024-25" is the fiscal year 2025 of a customer that names it by its end, and 2024 of one that
names it by its start. A key that stayed would name other months than before, and the next sync run
would create the same budget again. Budgets keep their ids and their money.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from budget_sync.database.models import Budget, BudgetDataSourceConfig
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.names import fold
from budget_sync.domain.periods import FiscalYear, Settled, read_period

#: Most budgets that an error names.
_MAX_NAMED = 3


class _Source(NamedTuple):
    """How a source's periods are read: what is settled, and whether months are fiscal ones.

    With `has_parts`, years and their quarters or months are in two columns. The year is not stored
    as written: a "2025-26" has another name with another naming, a "2026" has not.
    """

    settled: Settled
    has_fiscal_months: bool
    has_parts: bool


def change_keys(customer_id: str, old: FiscalYear, new: FiscalYear) -> int:
    """Give the customer's budgets the keys of their periods in another fiscal year.

    Returns the number of changed budgets. Raises RequestError INVALID_REQUEST, and changes nothing,
    if the period of a budget would have no key, or the key of another live budget, or if its key
    does not follow from its text. Runs in the caller's transaction.
    """
    sources = _sources(customer_id)
    budgets: list[Budget] = list(Budget.select().where(Budget.customerId == customer_id))
    new_keys: dict[str, str] = {}
    unclear = []
    for budget in budgets:
        key = _new_key(budget, sources.get(budget.sourceId or ""), old, new)
        if key is not None:
            new_keys[budget.id] = key
        elif budget.deletedAt is None:
            unclear.append(budget)
    _require_clear(unclear, "would have no period")
    _require_clear(_equal(budgets, new_keys), "would have the same period as another budget")
    changed = [each for each in budgets if new_keys.get(each.id, each.periodKey) != each.periodKey]
    _write(changed, new_keys)
    return len(changed)


def _sources(customer_id: str) -> Mapping[str, _Source]:
    rows: Any = (
        BudgetDataSourceConfig.select(BudgetDataSourceConfig.id, BudgetDataSourceConfig.reading)
        .where(BudgetDataSourceConfig.customerId == customer_id)
        .tuples()
    )
    return {source_id: _source(reading) for source_id, reading in rows}


def _source(reading: str | None) -> _Source:
    period = json.loads(reading)["period"] if reading else {}
    settled = Settled(**{name: period.get(name) for name in Settled._fields})
    return _Source(settled, period.get("partKind") == "fiscal", period.get("part") is not None)


def _new_key(
    budget: Budget, source: _Source | None, old: FiscalYear, new: FiscalYear
) -> str | None:
    """The key of a budget's period in the new fiscal year; None if it cannot be known."""
    settled = source.settled if source else Settled()
    was = read_period(budget.fiscalPeriod, old, settled)
    if was.key is None and budget.periodKey == fold(budget.fiscalPeriod):
        # A name, such as "Summer Campaign".
        return str(budget.periodKey)
    if was.key != budget.periodKey or (source and source.has_fiscal_months):
        return None
    if source and source.has_parts and old.named_by != new.named_by:
        return None
    return read_period(budget.fiscalPeriod, new, settled).key


def _equal(budgets: Iterable[Budget], new_keys: Mapping[str, str]) -> list[Budget]:
    """The live budgets that would have the key of an earlier one."""
    seen: set[tuple[str, str]] = set()
    found = []
    for budget in budgets:
        if budget.deletedAt is None:
            key = budget.departmentKey, new_keys.get(budget.id, budget.periodKey)
            if key in seen:
                found.append(budget)
            seen.add(key)
    return found


def _require_clear(budgets: list[Budget], problem: str) -> None:
    if budgets:
        names = "; ".join(
            f"{each.department}, {each.fiscalPeriod}" for each in budgets[:_MAX_NAMED]
        )
        more = f" and {len(budgets) - _MAX_NAMED} more" if len(budgets) > _MAX_NAMED else ""
        raise RequestError(
            Code.INVALID_REQUEST,
            f"The fiscal year cannot be changed: with the new one, these budgets {problem}: "
            f"{names}{more}. Remove them first.",
        )


def _write(budgets: list[Budget], new_keys: Mapping[str, str]) -> None:
    """Store the new keys. A key may be that of another budget until that one has its new key."""
    for is_last in (False, True):
        for budget in budgets:
            key = new_keys[budget.id] if is_last else f"~{budget.id}"
            Budget.update(periodKey=key).where(Budget.id == budget.id).execute()
