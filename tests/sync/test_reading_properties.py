"""Properties of reading a sheet and of the holds, for any rows and readings.

The lines are generated with what they mean, so the expected budgets need no code of the reading.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from budget_sync.domain.periods import FiscalYear
from budget_sync.sync.holds.model import Kind
from budget_sync.sync.match import StoredBudget
from budget_sync.sync.plan import SyncPlan, make_plan
from budget_sync.sync.reading.apply import apply
from budget_sync.sync.reading.grid import Grid
from budget_sync.sync.reading.model import (
    Amount,
    CurrencyColumn,
    Department,
    Filter,
    PeriodColumn,
    Reading,
)
from budget_sync.sync.reading.result import BudgetKey, Customer, SheetProblem, SheetResult

SOURCE = "source"
CUSTOMER = Customer("USD", FiscalYear(7))
HEADER = ["Department", "Line", "Fiscal Period", "Budget", "Status", "Curr"]

DEPARTMENTS = {
    "m&e": ("M & E", "m&e", "\uff2d\uff06\uff25"),
    "sales-emea": ("Sales - EMEA", "Sales \u2013 EMEA", "SALES\u2014emea"),
    "legal": ("Legal", " legal ", "LE\u00adGAL"),
    "410": ("410", "410.0"),
    "": ("", " ", None),
}
PERIODS = {
    "2026": ("FY2026", "2026", "FY2025-26", "2025/26", 2026),
    "2026-Q1": ("Q1 2026", "2026-Q1", "Jul-Sep 2025"),
    "2025-07": ("Jul 2025", "P01 FY26", "FY26-01"),
    "": ("", None, "TBD", "Q5 2026", "Q1", "26-Jan", 45000),
}
STATUSES = {"in": ("Approved", "approved "), "out": ("Draft",), "?": ("On ice", "", None)}
CURRENCIES = {"USD": ("USD", "", None), "EUR": ("EUR", "eur"), "": ("xx", "EURO5")}
#: Texts of amounts that cannot be read.
BAD_AMOUNTS = ("abc", "50%", "5k", "12.500", "1.5E+5", "#REF!", True)


class Line(NamedTuple):
    """A row of a sheet with what it means: empty texts and None for what cannot be read."""

    cells: tuple[Any, ...]
    department: str
    period: str
    amount: Decimal | None
    is_blank: bool
    status: str
    currency: str

    @property
    def key(self) -> BudgetKey:
        """The department and period."""
        return self.department, self.period

    @property
    def is_good(self) -> bool:
        """Whether the line can be added to a budget."""
        known = self.department and self.period and self.currency and self.status == "in"
        return bool(known) and self.amount is not None


AMOUNTS = st.decimals(min_value=-50, max_value=5000, places=2)


def written(amount: Decimal) -> st.SearchStrategy[Any]:
    """A number cell or a text."""
    return st.sampled_from([amount, f"{amount:,}", f"{amount}"])


@st.composite
def lines(draw: st.DrawFn, *, departments: Collection[str] = tuple(DEPARTMENTS)) -> Line:
    # Most lines are of one budget: it is the sum of several lines, of which few are bad.
    department = draw(st.sampled_from(["m&e", "m&e", "m&e", *sorted(departments)]))
    period = draw(st.sampled_from(["2026", "2026", "2026", "2026-Q1", "2025-07", ""]))
    status = draw(st.sampled_from(["in", "in", "in", "in", "in", "out", "?"]))
    currency = draw(st.sampled_from(["USD", "USD", "USD", "USD", "USD", "USD", "EUR", ""]))
    kind = draw(st.sampled_from(["good", "good", "good", "good", "good", "bad", "blank"]))
    amount = draw(AMOUNTS) if kind == "good" else None
    cells = (
        draw(st.sampled_from(DEPARTMENTS[department])),
        draw(st.sampled_from(["Travel", "Rent", "Rent"])),
        draw(st.sampled_from(PERIODS[period])),
        draw(written(amount) if amount is not None else st.sampled_from(BAD_AMOUNTS)),
        draw(st.sampled_from(STATUSES[status])),
        draw(st.sampled_from(CURRENCIES[currency])),
    )
    if kind == "blank":
        cells = (*cells[:3], None, *cells[4:])
    return Line(cells, department, period, amount, kind == "blank", status, currency)


@st.composite
def readings(draw: st.DrawFn, *, adds_up: bool | None = None) -> Reading:
    return Reading(
        department=Department(column="Department"),
        period=PeriodColumn(column="Fiscal Period"),
        amount=Amount(columns=("Budget",)),
        currency=CurrencyColumn(column="Curr"),
        sum=draw(st.booleans()) if adds_up is None else adds_up,
        keep=(Filter.model_validate({"column": "Status", "in": ("approved",), "out": ("draft",)}),),
        unit=draw(st.sampled_from([1, 1000])),
        sign=draw(st.sampled_from(["as is", "as is", "negate"])),
    )


def grid(rows: Iterable[Line]) -> Grid:
    return Grid([HEADER, *(list(line.cells) for line in rows)])


def read(reading: Reading, rows: Iterable[Line]) -> SheetResult | None:
    """What `apply` finds; None if no row counts."""
    try:
        return apply(reading, grid(rows), CUSTOMER)
    except SheetProblem:
        return None


def by_number(rows: Sequence[Line]) -> dict[int, Line]:
    """The lines by their sheet rows."""
    return dict(enumerate(rows, start=2))


def rejected(result: SheetResult) -> set[int]:
    return {row for error in result.errors for row in error.rows}


def total_minor(reading: Reading, amounts: Iterable[Decimal | None]) -> Decimal:
    """The sum in cents, in the unit and with the sign of a reading."""
    sign = -1 if reading.sign == "negate" else 1
    return sum((each or Decimal(0) for each in amounts), Decimal(0)) * 100 * reading.unit * sign


ROWS = st.lists(lines(), max_size=8)
MANY = settings(max_examples=100, deadline=None)


@MANY
@given(readings(), ROWS)
def test_reading_is_deterministic(reading: Reading, rows: list[Line]) -> None:
    assert read(reading, rows) == read(reading, rows)
    again = Reading.from_text(reading.to_text())
    assert (again, read(again, rows)) == (reading, read(reading, rows))


@MANY
@given(readings(), ROWS)
def test_every_cent_is_in_a_budget_or_rejected_or_left_out(
    reading: Reading, rows: list[Line]
) -> None:
    result = read(reading, rows)
    if result is None:
        return
    numbered = by_number(rows)
    bad, left_out = rejected(result), set(result.skipped)
    assert not bad & left_out
    others = total_minor(reading, (numbered[row].amount for row in bad | left_out))
    budgets = sum(row.budget.budgeted_minor for row in result.rows)
    assert budgets + others == total_minor(reading, (line.amount for line in rows))


@MANY
@given(readings(), ROWS)
def test_budget_is_the_sum_of_its_lines_or_rejected(reading: Reading, rows: list[Line]) -> None:
    """No rejected row is part of a budget, and each bad row is rejected or left out."""
    result = read(reading, rows)
    if result is None:
        return
    numbered = by_number(rows)
    ignored = rejected(result) | set(result.skipped)
    expected: dict[BudgetKey, list[int]] = {}
    for number, line in numbered.items():
        if line.is_good and number not in ignored:
            expected.setdefault(line.key, []).append(number)
        elif not line.is_good and not line.is_blank and line.status != "out":
            assert number in ignored
        if line.status == "out" and (line.department or not line.is_blank):
            assert number not in rejected(result)
    found = {row.budget.key: row for row in result.rows}
    assert set(found) == set(expected)
    for key, numbers in expected.items():
        row = found[key]
        assert (row.number, row.row_count) == (numbers[0], len(numbers))
        assert row.budget.budgeted_minor == total_minor(
            reading, (numbered[number].amount for number in numbers)
        )
        assert {row.budget.currency} == {numbered[number].currency for number in numbers}
        # A budget of several rows is applied only if all of them can be read.
        assert not any(
            line.key == key and line.status == "in" and not line.is_good and not line.is_blank
            for line in rows
        )


NAMED = st.lists(
    lines(departments=[name for name in DEPARTMENTS if name]).filter(
        lambda line: not line.is_blank
    ),
    min_size=1,
    max_size=10,
)


@MANY
@given(readings(), NAMED, st.data())
def test_order_of_rows_changes_only_row_numbers(
    reading: Reading, rows: list[Line], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(rows))))
    moved = {place + 2: old + 2 for place, old in enumerate(order)}
    before, after = read(reading, rows), read(reading, [rows[place] for place in order])
    assert (before is None) == (after is None)
    if before is None or after is None:
        return

    def budgets(result: SheetResult) -> set[tuple[Any, ...]]:
        return {
            (row.budget.key, row.budget.currency, row.budget.budgeted_minor, row.row_count)
            for row in result.rows
        }

    assert budgets(after) == budgets(before)
    assert {moved[row]: why for row, why in after.skipped.items()} == before.skipped
    assert {(frozenset(moved[row] for row in error.rows), error.key) for error in after.errors} == {
        (frozenset(error.rows), error.key) for error in before.errors
    }
    assert after.facts == before.facts


# Plans.


def new_budget(number: int, row: Any) -> StoredBudget:
    return StoredBudget(f"b{number}", SOURCE, row.number, None, 0, 0, 1, row.budget)


def applied(plan: SyncPlan, existing: list[StoredBudget]) -> list[StoredBudget]:
    """The budgets after a plan."""
    changes = {change.before.id: change.after for change in (*plan.updates, *plan.revivals)}
    moved = {budget_id: number for number, budget_id in plan.moved}
    gone = {budget.id for budget in plan.deletes}
    after = []
    for budget in existing:
        now = changes.get(budget.id, budget)
        if budget.id in moved:
            now = now._replace(source_row=moved[budget.id])
        if budget.id in gone:
            now = now._replace(deleted_at="2025-02-01T00:00:00Z")
        after.append(now)
    first = len(existing)
    return after + [new_budget(first + place, row) for place, row in enumerate(plan.creates)]


@MANY
@given(readings(), ROWS)
def test_second_sync_run_changes_nothing(reading: Reading, rows: list[Line]) -> None:
    result = read(reading, rows)
    if result is None:
        return
    first = make_plan(SOURCE, result, [])
    assert first.held == []
    second = make_plan(SOURCE, result, applied(first, []))
    assert second.changes_nothing
    assert second.held == []


class Edit(NamedTuple):
    """A change of a plain sheet: rows of (department, period, amount)."""

    department: str
    period: str
    amount: int


ALIKE = {"Lamp - North": "Lampe North", "Sales": "Sale", "0410": "410"}
PLAIN = st.lists(
    st.builds(
        Edit,
        st.sampled_from([*ALIKE, *ALIKE.values(), "Tools"]),
        st.sampled_from(["Q1 2026", "Q2 2026", "FY2026"]),
        st.sampled_from([0, 1, 100, 1_000, 100_000, 110_000, 5_000_000]),
    ),
    min_size=1,
    max_size=9,
    unique_by=lambda edit: edit[:2],
)
PLAIN_READING = Reading(
    department=Department(column="Department"),
    period=PeriodColumn(column="Fiscal Period"),
    amount=Amount(columns=("Budget",)),
)


def plain(rows: Iterable[Edit]) -> SheetResult:
    cells: list[list[Any]] = [["Department", "Fiscal Period", "Budget"], *map(list, rows)]
    return apply(PLAIN_READING, Grid(cells), CUSTOMER)


@st.composite
def edits(draw: st.DrawFn, rows: list[Edit]) -> list[Edit]:
    """The rows after ordinary edits: other rows, other amounts, one factor for all."""
    kind = draw(st.sampled_from(["other rows", "renames", "factor", "some amounts", "zeros"]))
    if kind == "other rows":
        return draw(PLAIN)
    if kind == "renames":
        renamed = [row._replace(department=ALIKE.get(row.department, "Toys")) for row in rows]
        return list({row[:2]: row for row in renamed}.values())
    factor = draw(st.sampled_from([1000, 100, 10, 7]))
    size = len(rows)
    chosen = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    amounts = {
        "factor": [row.amount * factor for row in rows],
        "some amounts": [
            row.amount * factor if picked else row.amount
            for row, picked in zip(rows, chosen, strict=True)
        ],
        "zeros": [0 if picked else row.amount for row, picked in zip(rows, chosen, strict=True)],
    }[kind]
    return [row._replace(amount=amount) for row, amount in zip(rows, amounts, strict=True)]


@MANY
@given(PLAIN, st.data())
def test_held_change_never_changes_a_balance(rows: list[Edit], data: st.DataObject) -> None:
    stored = [
        budget._replace(
            committed_minor=data.draw(st.sampled_from([0, 0, budget.sheet.budgeted_minor]))
        )
        for budget in applied(make_plan(SOURCE, plain(rows), []), [])
    ]
    changed = plain(data.draw(edits(rows)))
    plan = make_plan(SOURCE, changed, stored)
    after = {budget.id: budget for budget in applied(plan, stored)}
    held_ids = {hold.budget_id for hold in plan.held if hold.budget_id}
    for budget in stored:
        if budget.id in held_ids:
            now = after[budget.id]
            assert (now.balance, now.deleted_at, now.key) == (budget.balance, None, budget.key)
    new_keys = {hold.new.key for hold in plan.held if hold.new is not None}
    assert not new_keys & {row.budget.key for row in plan.creates}
    assert all(hold.kind is Kind.CREATION or hold.budget_id in after for hold in plan.held)
    # What is held stays held, and nothing else changes.
    again = make_plan(SOURCE, changed, list(after.values()), previous=plan.held)
    assert again.changes_nothing
    assert {hold.question for hold in again.held} == {hold.question for hold in plan.held}
    # If the sheet goes back, nothing is held any more, and the held budgets are as they were.
    back = make_plan(SOURCE, plain(rows), list(after.values()), previous=again.held)
    finally_there = {budget.id: budget for budget in applied(back, list(after.values()))}
    for budget in stored:
        if budget.id in held_ids:
            assert finally_there[budget.id].balance == budget.balance
