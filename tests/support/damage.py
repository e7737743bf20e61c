"""Creates data and faults that the service itself cannot create."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from babel.numbers import get_currency_precision

from budget_sync import database
from budget_sync.domain import money
from support.machine import ENGINE


@contextmanager
def without_checks(table: str, constraint: str) -> Iterator[None]:
    """Disable a CHECK constraint, so that a test can write a row that violates it."""
    if ENGINE == "sqlite":
        database.db.execute_sql("PRAGMA ignore_check_constraints = 1")
    else:
        database.db.execute_sql(f'ALTER TABLE "{table}" DROP CONSTRAINT "{constraint}"')
    yield
    if ENGINE == "sqlite":
        database.db.execute_sql("PRAGMA ignore_check_constraints = 0")


#: The sum of this many budgets of the largest amount exceeds 64 bits.
ROWS_OVER_64_BITS = 9_300


def insert_vast_budgets(customer_id: str) -> int:
    """Insert budgets of the largest amount, all of it reserved, without using the ledger.

    Returns their sum in minor units of USD.
    """
    amount_minor = money.LIMIT_MINOR - 1
    rows = (
        "WITH RECURSIVE n(i) AS "
        f"(SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS_OVER_64_BITS}) "
        f"SELECT '{customer_id}-' || i, '{customer_id}'"
    )
    columns = (
        '"department", "departmentKey", "fiscalPeriod", "periodKey", "currency", '
        '"currencyExponent", "budgetedMinor", "createdAt", "updatedAt"'
    )
    at = "'2025-01-01T00:00:00.000000Z'"
    database.db.execute_sql(
        f'INSERT INTO "Budget" ("id", "customerId", {columns})'
        f" {rows}, 'Vast', 'vast', 'Year ' || i, 'year ' || i, 'USD', 2, {amount_minor},"
        f" {at}, {at} FROM n"
    )
    database.db.execute_sql(
        'INSERT INTO "BudgetUtilization" '
        '("budgetId", "customerId", "currencyExponent", "reservedMinor") '
        f"{rows}, 2, {amount_minor} FROM n"
    )
    return ROWS_OVER_64_BITS * amount_minor


def create_fault_trigger(event: str, table: str) -> None:
    """Create a trigger that fails an event on a table with the text "a fault"."""
    if ENGINE == "sqlite":
        database.db.execute_sql(
            f"""CREATE TRIGGER "fault" BEFORE {event} ON "{table}"
            BEGIN SELECT RAISE(ABORT, 'a fault'); END"""
        )
        return
    raising = "RAISE EXCEPTION 'a fault' USING ERRCODE = 'integrity_constraint_violation'"
    database.db.execute_sql(
        f'CREATE FUNCTION "fault"() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {raising}; END $$'
    )
    database.db.execute_sql(
        f'CREATE TRIGGER "fault" BEFORE {event} ON "{table}" '
        'FOR EACH ROW EXECUTE FUNCTION "fault"()'
    )


@contextmanager
def yen_with_decimals(decimals: int) -> Iterator[None]:
    """Give the yen that many decimals, as another version of the currency tables might."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            money,
            "get_currency_precision",
            lambda currency: decimals if currency == "JPY" else get_currency_precision(currency),
        )
        money.currency_exponent.cache_clear()
        yield
    money.currency_exponent.cache_clear()
