"""The rows in the step to schema version 5: readings, keys of budgets, held deletions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from budget_sync.database.upgrades.report import Report
from budget_sync.domain import clock
from budget_sync.domain.money import locale_marks, to_number
from budget_sync.domain.names import fold
from budget_sync.domain.periods import FiscalYear, read_period

# Our own names for columns, as the column maps of version 4 have them, with the keys of a reading.
_DEPARTMENT = "Department"
_PERIOD = "Fiscal Period"
_AMOUNT = "Budgeted Amount"
_BUDGET_ID = "Budget ID"
_CURRENCY = "Currency"
_LIMIT = "Auto-Approve Limit"

_DEFAULT_LOCALE = "en_US"

_PERIOD_KEY = re.compile(r"[0-9]{4}(?:-(?:Q[1-4]|H[12]|[0-9]{2}))?")

# A statement has at most this many rows; SQLite allows 999 parameters in old versions.
_CHUNK = 300

_INSERT_KEYS = 'INSERT INTO "BudgetKey_5" ("id", "departmentKey", "periodKey") VALUES {rows}'
_SELECT_HELD = """
    SELECT b."id", b."department", b."fiscalPeriod", b."periodKey", b."currency",
        b."currencyExponent", b."budgetedMinor", u."reservedMinor" + u."committedMinor"
    FROM "Budget" b JOIN "BudgetUtilization" u ON u."budgetId" = b."id"
    WHERE b."id" IN ({ids}) ORDER BY b."id"
"""

#: The most budgets that the notes of one kind name.
MAX_NAMED = 20


def create_readings(database: Any, _report: Report) -> None:
    """Give each source a reading in place of its column map and locale, confirmed by `upgrade`.

    The first sync run adds the delimiter and the encoding of a CSV file, and optional columns that
    the map does not name.
    """
    rows = database.execute_sql(
        'SELECT "id", "columnMap", "locale" FROM "BudgetDataSourceConfig"'
    ).fetchall()
    now = clock.to_text(clock.now())
    for source_id, column_map, locale in rows:
        reading = reading_of(json.loads(column_map), locale)
        _run(
            database,
            """
            UPDATE "BudgetDataSourceConfig" SET "reading" = ?, "readingConfirmedBy" = 'upgrade',
                "readingConfirmedAt" = ? WHERE "id" = ?
            """,
            (json.dumps(reading, ensure_ascii=False), now, source_id),
        )


def reading_of(names: Mapping[str, str], locale: str | None) -> dict[str, object]:
    """The reading that reads a sheet as version 4 did.

    `names` maps our columns to the sheet's names for them.
    """
    decimal, group = locale_marks(locale or _DEFAULT_LOCALE)
    reading: dict[str, object] = {
        "version": 1,
        "header": {"rows": 1},
        "department": {
            "column": names.get(_DEPARTMENT, _DEPARTMENT),
            "fill": "no",
            "code": "keep",
        },
        "period": {"column": names.get(_PERIOD, _PERIOD)},
        "amount": {"columns": [names.get(_AMOUNT, _AMOUNT)]},
        "sum": False,
        "keep": [],
        "totals": {"names": [], "departments": []},
        "unit": 1,
        "sign": "as is",
        "marks": {"decimal": decimal, "group": group},
        "blanks": [],
    }
    if _BUDGET_ID in names:
        reading["id"] = names[_BUDGET_ID]
    if _LIMIT in names:
        reading["limit"] = names[_LIMIT]
    if _CURRENCY in names:
        reading["currency"] = {"column": names[_CURRENCY]}
    return reading


class _Budget(NamedTuple):
    """A budget with its stored keys."""

    id: str
    department: str
    period: str
    key: tuple[str, str]
    is_live: bool

    @property
    def label(self) -> str:
        return f"{self.id} ({self.department}, {self.period})"


def change_keys(database: Any, report: Report) -> None:
    """Give the budgets the keys of this version.

    Live budgets of a customer that would then have the same key stay as they are.
    """
    customers = database.execute_sql(
        'SELECT "id", "fiscalYearStartMonth", "fiscalYearNamedBy" FROM "Customer" ORDER BY "id"'
    ).fetchall()
    _run(
        database,
        """
        CREATE TABLE "BudgetKey_5" (
            "id" TEXT PRIMARY KEY, "departmentKey" TEXT NOT NULL, "periodKey" TEXT NOT NULL
        )
        """,
    )
    for customer_id, first_month, named_by in customers:
        budgets = _budgets_of(database, customer_id)
        report.progress(f"{len(budgets):,} budgets of {customer_id}")
        keys = new_keys(budgets, FiscalYear(first_month, named_by), report)
        for chunk in _chunks(keys.items()):
            _run(
                database,
                _INSERT_KEYS.replace("{rows}", ", ".join(["(?, ?, ?)"] * len(chunk))),
                [value for budget_id, key in chunk for value in (budget_id, *key)],
            )
    # A key never starts with a space, so two budgets can swap their keys without a collision.
    for statement in (
        """
        UPDATE "Budget" SET "departmentKey" = ' ' || "id"
        WHERE "id" IN (SELECT "id" FROM "BudgetKey_5")
        """,
        """
        UPDATE "Budget" SET
            "departmentKey" = (
                SELECT k."departmentKey" FROM "BudgetKey_5" k WHERE k."id" = "Budget"."id"
            ),
            "periodKey" = (SELECT k."periodKey" FROM "BudgetKey_5" k WHERE k."id" = "Budget"."id")
        WHERE "id" IN (SELECT "id" FROM "BudgetKey_5")
        """,
        'DROP TABLE "BudgetKey_5"',
    ):
        _run(database, statement)


def _budgets_of(database: Any, customer_id: str) -> list[_Budget]:
    rows = _run(
        database,
        """
        SELECT "id", "department", "fiscalPeriod", "departmentKey", "periodKey",
            "deletedAt" IS NULL
        FROM "Budget" WHERE "customerId" = ? ORDER BY "id"
        """,
        (customer_id,),
    ).fetchall()
    return [
        _Budget(budget_id, department, period, (department_key, period_key), bool(is_live))
        for budget_id, department, period, department_key, period_key, is_live in rows
    ]


def new_keys(
    budgets: Sequence[_Budget], fiscal_year: FiscalYear, report: Report
) -> dict[str, tuple[str, str]]:
    """The keys to change of a customer's budgets, by budget id; reports what stays as it is."""
    periods = {budget.period: read_period(budget.period, fiscal_year).key for budget in budgets}
    wanted: dict[str, tuple[str, str]] = {}
    without_key: list[_Budget] = []
    for budget in budgets:
        period_key = periods[budget.period]
        if period_key is None and budget.is_live and _is_misread(budget):
            without_key.append(budget)
        # The key of a period of no known form is its text.
        wanted[budget.id] = fold(budget.department), period_key or fold(budget.period)
    clashes = _clashes([budget for budget in budgets if budget.is_live], wanted)
    _report(report, without_key, clashes)
    staying = {budget.id for group in clashes for budget in group}
    return {
        budget.id: wanted[budget.id]
        for budget in budgets
        if wanted[budget.id] != budget.key and budget.id not in staying
    }


def _is_misread(budget: _Budget) -> bool:
    """Whether a period without a key has that of another one: FY2011-12 had that of December."""
    return budget.key[1] != fold(budget.period) and bool(_PERIOD_KEY.fullmatch(budget.key[1]))


def _clashes(
    budgets: Sequence[_Budget], wanted: Mapping[str, tuple[str, str]]
) -> list[list[_Budget]]:
    """The groups of live budgets that would have one key; they keep their old keys.

    A budget that would get the old key of such a budget keeps its own as well.
    """
    by_key: dict[tuple[str, str], list[_Budget]] = {}
    for budget in budgets:
        by_key.setdefault(wanted[budget.id], []).append(budget)
    groups = [group for group in by_key.values() if len(group) > 1]
    staying = {budget.id for group in groups for budget in group}
    waiting = [budget for group in groups for budget in group]
    while waiting:
        kept = waiting.pop()
        others = [each for each in by_key.get(kept.key, ()) if each.id not in staying]
        if others:
            groups.append([kept, *others])
            staying |= {budget.id for budget in others}
            waiting += others
    return groups


def _report(
    report: Report, without_key: Sequence[_Budget], clashes: Sequence[Sequence[_Budget]]
) -> None:
    for group in clashes[:MAX_NAMED]:
        named = " and ".join(budget.label for budget in group[:MAX_NAMED])
        report.note(
            f"{named} are now the same department and period, and were left as they were. Keep one "
            "of them: remove the other from its sheet, or delete it with `flask remove-budget`."
        )
    _report_more(report, len(clashes), "such groups of budgets")
    for budget in without_key[:MAX_NAMED]:
        report.note(
            f"The period of {budget.label} cannot be read, and requests no longer find this "
            "budget. Write the period as FY2026, Q1 2026 or Jan 2026, or set the month in which "
            "the customer's fiscal year begins."
        )
    _report_more(report, len(without_key), "such budgets")


def _report_more(report: Report, count: int, what: str) -> None:
    if count > MAX_NAMED:
        report.note(f"And {count - MAX_NAMED:,} more {what}.")


def describe_held(database: Any, _report: Report) -> None:
    """Describe the held deletions of each source's latest applied run, which is what counts."""
    rows = database.execute_sql(
        """
        SELECT "id", "heldBudgetIds" FROM "SyncHistory" WHERE "id" IN (
            SELECT MAX("id") FROM "SyncHistory" WHERE "status" IN ('success', 'partial')
            GROUP BY "sourceId"
        ) AND "heldBudgetIds" <> '[]'
        """
    ).fetchall()
    for history_id, held_ids in rows:
        held = [hold for chunk in _chunks(json.loads(held_ids)) for hold in _held(database, chunk)]
        _run(
            database,
            'UPDATE "SyncHistory" SET "held" = ? WHERE "id" = ?',
            (json.dumps(held, ensure_ascii=False), history_id),
        )


def _held(database: Any, budget_ids: Sequence[str]) -> Iterator[dict[str, object]]:
    """The held deletions of these budgets, as sync runs store them."""
    rows = _run(
        database,
        _SELECT_HELD.replace("{ids}", ", ".join(["?"] * len(budget_ids))),
        budget_ids,
    ).fetchall()
    for budget_id, department, period, key, currency, exponent, budgeted, used in rows:
        number = to_number(budgeted, exponent)
        yield {
            "kind": "deletion",
            "budgetId": budget_id,
            "department": department,
            "period": key,
            "old": number if isinstance(number, int) else float(number),
            "new": None,
            "fiscalPeriod": period,
            "currency": currency,
            "currencyExponent": exponent,
            "oldMinor": budgeted,
            "newMinor": None,
            "usedMinor": used,
            "newBudget": None,
            "reasons": ["limit"],
        }


def _chunks(items: Iterable[Any]) -> Iterator[list[Any]]:
    left = iter(items)
    while chunk := list(islice(left, _CHUNK)):
        yield chunk


def _run(database: Any, sql: str, parameters: Sequence[object] = ()) -> Any:
    return database.execute_sql(sql.replace("?", database.param), tuple(parameters))
