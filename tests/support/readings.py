"""Short readings and sheets for the tests of `apply`."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from budget_sync.sync.reading.apply import apply
from budget_sync.sync.reading.grid import Cell, Grid
from budget_sync.sync.reading.model import Reading
from budget_sync.sync.reading.result import Customer, SheetResult

USD = Customer("USD")
CSV = {"delimiter": ",", "encoding": "utf-8", "sepLine": False}
HEADER = ("Department", "Period", "Budget")
Rows = Sequence[Sequence[Cell]]


def reading(*, is_csv: bool = False, **keys: Any) -> Reading:
    """A reading of Department, Period and Budget, with some keys replaced."""
    return Reading.model_validate(
        {
            "file": CSV if is_csv else None,
            "department": {"column": "Department"},
            "period": {"column": "Period"},
            "amount": {"columns": ("Budget",)},
            **keys,
        }
    )


def read(
    rows: Rows, by: Reading | None = None, customer: Customer = USD, **grid: Any
) -> SheetResult:
    """The result of a sheet with the usual header, or with its own if it has another."""
    has_header = bool(rows) and rows[0][:1] in (("Department",), ["Department"])
    cells = list(rows) if has_header else [HEADER, *rows]
    return apply(by or reading(), Grid(cells, **grid), customer)


def budgets(result: SheetResult) -> dict[str, Decimal]:
    """The amounts in whole units by "Department|period key"."""
    return {
        f"{row.budget.department}|{row.budget.period_key}": Decimal(
            row.budget.budgeted_minor
        ).scaleb(-row.budget.exponent)
        for row in result.rows
    }


def errors(result: SheetResult) -> list[tuple[tuple[int, ...], str]]:
    """The rows and the message of each error."""
    return [(error.rows, error.message) for error in result.errors]
