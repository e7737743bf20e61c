"""What a sheet cannot do: take more than linear time, fill the memory, or fill the history."""

from __future__ import annotations

import gc
import json
import re
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from support.sources import read_grid
from support.sync_world import HEADER, HEADER_WITH_ID, ORG, World, open_world, plan_rows
from support.world import ROOT

import budget_sync.sync
from budget_sync import ledger, manual_budgets, sync
from budget_sync.database import transact
from budget_sync.database.models import Budget
from budget_sync.domain.periods import fold, period_key
from budget_sync.domain.request_models import ReserveRequest
from budget_sync.settings import Settings
from budget_sync.sync import apply, cancel, fetch, limits, prepare, write
from budget_sync.sync.google import client, sheet
from budget_sync.sync.match import StoredBudget
from budget_sync.sync.plan import make_plan
from budget_sync.sync.reading.apply import apply as apply_reading
from budget_sync.sync.reading.result import Customer, SheetBudget, SheetProblem, SheetResult
from budget_sync.sync.refresh import refresh
from budget_sync.sync.source import CSV, FetchError, Target
from budget_sync.sync.standard import AMOUNT, DEPARTMENT, HEADINGS, PERIOD, standard_reading

SOURCE = "src_1"
KEY = "the-only-key"


def read(cells: Sequence[Any], check: limits.Check = limits.no_check) -> SheetResult:
    return read_grid(cells, check=check)


@pytest.fixture
def world(app: Flask, chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with open_world(chosen.instance_folder, monkeypatch) as world:
        yield world


def stored(number: int, **changes: Any) -> StoredBudget:
    department = changes.pop("department", f"Team {number}")
    period = changes.pop("period", "Q1 2025")
    external_id = changes.pop("external_id", None)
    budget = StoredBudget(
        f"b{number:07}",
        SOURCE,
        None,
        None,
        0,
        0,
        1,
        SheetBudget(
            external_id,
            department,
            fold(department),
            period,
            period_key(period),
            "USD",
            100_00,
            None,
            2,
        ),
    )
    return budget._replace(**changes)


Rows = list[list[Any]]


def _budgets(count: int, *, with_ids: bool = False) -> list[StoredBudget]:
    return [
        stored(number, external_id=f"B-{number}" if with_ids else None) for number in range(count)
    ]


def blank_departments(count: int) -> tuple[Rows, list[StoredBudget]]:
    return [["", "", f"Week {number}", 1] for number in range(count)], _budgets(count)


def blank_periods(count: int) -> tuple[Rows, list[StoredBudget]]:
    return [["", f"Other {number}", "", 1] for number in range(count)], _budgets(count)


def unreadable_ids(count: int) -> tuple[Rows, list[StoredBudget]]:
    return [["#REF!", f"Other {number}", "Q1 2025", 1] for number in range(count)], _budgets(count)


def identical_rows(count: int) -> tuple[Rows, list[StoredBudget]]:
    return [["", "Sales", "Q1 2025", 1]] * count, _budgets(count)


def identical_ids(count: int) -> tuple[Rows, list[StoredBudget]]:
    return [["B-1", f"Team {number}", "Q1 2025", 1] for number in range(count)], _budgets(count)


def identical_bad_rows(count: int) -> tuple[Rows, list[StoredBudget]]:
    return [["B-1", "Sales", "Q1 2025", "#REF!"]] * count + [
        ["B-1", "Sales", "Q1 2025", 1]
    ] * count, []


def rename_chain(count: int) -> tuple[Rows, list[StoredBudget]]:
    """Each budget is renamed to the next one, and the last one to a budget of another source."""
    rows = [[f"B-{number}", f"Team {number + 1}", "Q1 2025", 1] for number in range(count)]
    theirs = stored(count, source_id="src_2", external_id="other")
    return rows, [*_budgets(count, with_ids=True), theirs]


def swapped_ids(count: int) -> tuple[Rows, list[StoredBudget]]:
    rows = [[f"B-{number ^ 1}", f"Team {number}", "Q1 2025", 1] for number in range(count)]
    return rows, _budgets(count, with_ids=True)


def same_deleted_budget(count: int) -> tuple[Rows, list[StoredBudget]]:
    """All budgets are deleted ones of one department and period, used in another source."""
    rows = [["", f"Team {number}", "Q1 2025", 1] for number in range(count)]
    gone = [
        stored(
            number,
            department="Team 1",
            deleted_at="2025-01-01T00:00:00Z",
            source_id=("src_2", SOURCE)[number % 2],
            committed_minor=1,
        )
        for number in range(count)
    ]
    return rows, gone


def rows_without_budgets(count: int) -> tuple[Rows, list[StoredBudget]]:
    """Half of the rows are gone, and the others are bad in different ways."""
    bad: Rows = [["", "", "", 1], ["#REF!", "#REF!", "#REF!", "x"], ["", "Sales", "#N/A", ""]]
    return [list(bad[number % 3]) for number in range(count // 2)], _budgets(count)


SHAPES: list[Callable[[int], tuple[Rows, list[StoredBudget]]]] = [
    blank_departments,
    blank_periods,
    unreadable_ids,
    identical_rows,
    identical_ids,
    identical_bad_rows,
    rename_chain,
    swapped_ids,
    same_deleted_budget,
    rows_without_budgets,
]


def operations(work: Callable[[], object]) -> int:
    """The number of function calls, each resumption of a generator included."""
    count = 0

    def profile(*_: object) -> None:
        nonlocal count
        count += 1

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("shape", SHAPES)
def test_reading_and_planning_take_linear_time(shape: Callable[[int], Any]) -> None:
    def work(count: int) -> Callable[[], object]:
        rows, existing = shape(count)
        return lambda: make_plan(SOURCE, read([HEADER_WITH_ID, *rows]), existing)

    small, large = operations(work(200)), operations(work(800))
    assert large < 5 * small, (small, large)


def test_short_rows_below_a_wide_header_take_no_more_time() -> None:
    header = [*[""] * 19_000, *HEADER]
    began_s = time.process_time()
    with pytest.raises(SheetProblem, match="No row below the header counts"):
        read([header, *[["a note"]] * 20_000])
    # A row that is extended to the width of the header takes 0.2 ms.
    assert time.process_time() - began_s < 1


def test_reading_and_planning_call_their_check() -> None:
    calls: list[None] = []

    def check() -> None:
        calls.append(None)

    rows = [HEADER, *([f"Team {number}", "Q1 2025", 1] for number in range(10_000))]
    found = read(rows, check)
    assert len(calls) >= 10
    calls.clear()
    make_plan(SOURCE, found, _budgets(10_000), check=check)
    assert len(calls) >= 20


# --- a run and its transaction ---


def reserve(budget: Budget, amount: int, request_id: str = "r-1") -> None:
    ledger.reserve(
        ROOT, ReserveRequest(budget_id=budget.id, request_id=request_id, amount=Decimal(amount))
    )


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each plan that is created: whether that happens in a transaction."""
    found: list[bool] = []
    inside = False

    def watched(work: Callable[[], Any]) -> Any:
        def watched_work() -> Any:
            nonlocal inside
            inside = True
            try:
                return work()
            finally:
                inside = False

        return transact(watched_work)

    def recorded(*arguments: Any, **options: Any) -> Any:
        found.append(inside)
        return make_plan(*arguments, **options)

    monkeypatch.setattr(write, "transact", watched)
    monkeypatch.setattr(prepare, "make_plan", recorded)
    return found


def after_reading_budgets(monkeypatch: pytest.MonkeyPatch, *changes: Callable[[], object]) -> None:
    """Make one change after each time that a run reads the budgets, before it writes."""
    real, left = apply.read_stored, list(changes)

    def read_stored(customer_id: str) -> Any:
        found = real(customer_id)
        if left:
            left.pop(0)()
        return found

    monkeypatch.setattr(apply, "read_stored", read_stored)


@pytest.mark.both_engines
def test_budget_set_meanwhile_is_planned_again_outside_transaction(
    world: World, monkeypatch: pytest.MonkeyPatch, planned: list[bool]
) -> None:
    source = world.sheet(KEY, plan_rows(Engineering=100, Sales=5))
    after_reading_budgets(
        monkeypatch,
        lambda: manual_budgets.set_budget(ROOT, ORG, "Engineering", "Q1 2025", Decimal(70)),
    )
    assert world.sync(source).status == "success"
    assert planned == [False, False]
    assert world.budgets() == {"Engineering, Q1 2025": "100", "Sales, Q1 2025": "5"}
    world.verify()


@pytest.mark.both_engines
def test_money_reserved_meanwhile_is_in_the_plan(
    world: World, monkeypatch: pytest.MonkeyPatch, planned: list[bool]
) -> None:
    source = world.sheet(KEY, plan_rows(Engineering=100, Sales=50, Legal=7))
    world.sync(source)
    world.rows(KEY, plan_rows(Engineering=60, Sales=50, Ops=1))
    budgets = [world.budget(name) for name in ("Engineering", "Sales", "Legal")]

    def reserve_on_each() -> None:
        for number, budget in enumerate(budgets):
            reserve(budget, [80, 10, 5][number], f"r-{number}")

    after_reading_budgets(monkeypatch, reserve_on_each)
    planned.clear()
    result = world.sync(source)
    # A budget with money that is gone may have been renamed, so the plan is another one.
    assert planned == [False, False]
    assert (result.status, result.overdrawn_count) == ("success", 1)
    assert result.message == (
        "Row 2 cuts Engineering Q1 2025 to $60; $80 is reserved or committed."
    )
    assert (result.updated_count, result.soft_deleted_count, result.created_count) == (1, 1, 1)
    assert world.budgets() == {
        "Engineering, Q1 2025": "60",
        "Ops, Q1 2025": "1",
        "Sales, Q1 2025": "50",
    }
    world.verify()


@pytest.mark.both_engines
def test_reservation_meanwhile_that_changes_the_plan_is_respected(
    world: World, monkeypatch: pytest.MonkeyPatch, planned: list[bool]
) -> None:
    source = world.sheet(KEY, [HEADER_WITH_ID, ["B-1", "Ops", "Q1 2025", 100]])
    world.sync(source)
    world.rows(KEY, [HEADER_WITH_ID, ["B-1", "Ops", "Q2 2025", 100]])
    budget = world.budget("Ops")
    after_reading_budgets(monkeypatch, lambda: reserve(budget, 5))
    planned.clear()
    assert world.sync(source).error_count == 1
    assert planned == [False, False]
    assert world.budgets() == {"Ops, Q1 2025": "100"}
    world.verify()


@pytest.mark.both_engines
def test_run_gives_up_if_budgets_never_stop_changing(
    world: World, monkeypatch: pytest.MonkeyPatch, planned: list[bool]
) -> None:
    source = world.sheet(KEY, plan_rows(Engineering=100))
    changes = [
        (
            lambda number=number: manual_budgets.set_budget(
                ROOT, ORG, f"New {number}", "Q1 2025", Decimal(1)
            )
        )
        for number in range(write.PLAN_ATTEMPTS)
    ]
    after_reading_budgets(monkeypatch, *changes)
    result = world.sync(source)
    assert (result.status, planned) == ("failed", [False] * write.PLAN_ATTEMPTS)
    assert "were changed during the sync run, 5 times in a row" in (result.message or "")
    assert "Engineering, Q1 2025" not in world.budgets()
    assert world.sync(source).created_count == 1
    world.verify()


@pytest.mark.parametrize(
    "step",
    [
        "budget_sync.sync.prepare.apply_reading",
        "budget_sync.sync.apply.read_stored",
        "budget_sync.sync.prepare.make_plan",
        "budget_sync.sync.write.transact",
        "budget_sync.sync.apply.lock_and_find_changed",
        "budget_sync.sync.apply.apply_plan",
    ],
)
def test_time_limit_holds_in_each_step(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    source = world.sheet(KEY, plan_rows(Engineering=100))
    world.sync(source)
    world.rows(KEY, plan_rows(Engineering=200, Sales=5))
    before = world.state()
    late_s = 0.0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + late_s)
    monkeypatch.setattr(cancel, "time", clock)
    module, _, name = step.rpartition(".")
    real = getattr(import_module(module), name)

    def slow(*arguments: Any, **options: Any) -> Any:
        nonlocal late_s
        late_s = 1000.0
        return real(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(step, slow)
        result = world.sync(source)
    assert (result.status, world.state()) == ("failed", before)
    assert result.message == (
        "The sync run was not finished within 30 s. Nothing was changed; the next sync run tries "
        "again. If that fails too, split the sheet into several sources."
    )
    assert world.sync(source).status == "success"


def test_preview_has_the_same_time_limit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.sheet(KEY, plan_rows(Engineering=100))
    monkeypatch.setattr(
        "budget_sync.sync.preview.TimeLimit", lambda stop, _: cancel.TimeLimit(stop, -1)
    )
    (preview,) = sync.preview_all(world.job)
    assert (preview.failed, "was not finished within" in preview.summary) == (True, True)


# --- the plan with newer figures ---


@pytest.mark.parametrize("change", ["reserve", "release", "delete", "rename", "no change"])
def test_refreshed_plan_is_the_plan_for_the_new_figures(change: str) -> None:
    existing = [
        stored(0, reserved_minor=50_00),
        stored(1, reserved_minor=120_00),
        stored(2, reserved_minor=5_00),
        *(stored(number) for number in range(3, 9)),
    ]
    rows = [HEADER, ["Team 0", "Q1 2025", 40], ["Team 1", "Q1 2025", 100], ["New", "Q1 2025", 1]]
    found = read([*rows, *([f"Team {n}", "Q1 2025", 100] for n in range(3, 9))])
    plan = make_plan(SOURCE, found, existing)
    changes: dict[str, dict[str, Any]] = {
        "reserve": {"reserved_minor": 500_00, "version": 2},
        "release": {"reserved_minor": 0, "version": 2},
        "delete": {"deleted_at": "2025-01-01T00:00:00Z", "version": 2},
        "rename": {"sheet": existing[0].sheet._replace(department="X"), "version": 2},
        "no change": {},
    }
    for index in range(4):
        newer = existing[index]._replace(**changes[change])
        after = [newer if budget.id == newer.id else budget for budget in existing]
        refreshed = refresh(SOURCE, plan, existing, [newer], has_new=plan.has_new)
        if change in ("delete", "rename"):
            assert refreshed is None
        else:
            assert refreshed == make_plan(SOURCE, found, after)


# --- cells ---

LONG = {
    "spaces": f"1{' ' * 50_000}x1",
    "letters": "x" * 1001,
    "digits": "1" * 50_000,
    "formula": f"#{'!' * 50_000}x",
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
@pytest.mark.parametrize("column", HEADINGS)
def test_long_cell_is_a_row_error_before_any_pattern(
    column: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in patterns().items():
        if name.startswith("budget_sync.sync.reading."):
            monkeypatch.setattr(name, ShortTextsOnly(value))
    values = ["Sales", "Q1 2025", 5, "B-1", "USD", 1]
    values[HEADINGS.index(column)] = text
    (error,) = read([list(HEADINGS), values]).errors
    name = {PERIOD: "Period", AMOUNT: "Amount"}.get(column, column)
    assert error.message.startswith(name)
    assert len(error.message) < 200


class ShortTextsOnly:
    """A pattern that fails the test for a long text."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self.pattern = pattern

    def __getattr__(self, name: str) -> Callable[[str], object]:
        def match(text: str) -> object:
            assert len(text) <= limits.MAX_CELL_CHARS
            return getattr(self.pattern, name)(text)

        return match


def test_long_cells_that_do_not_matter_are_accepted() -> None:
    rows = [
        ["x" * 5000, *HEADER, "Notes"],
        ["", "Sales", f"Q1 2025{' ' * 900}", 5, "x" * 50_000],
        ["", " " * 50_000, " " * 2000, "", "x"],
    ]
    found = read(rows)
    assert ([row.number for row in found.rows], found.errors) == ([2], [])


def test_row_with_a_long_cell_keeps_the_budgets_it_may_mean() -> None:
    existing = [stored(0), stored(1), stored(2, period="Q2 2025")]
    rows = [HEADER, ["x" * 1001, "Q1 2025", 1], ["Other", "Q1 2026", 1]]
    plan = make_plan(SOURCE, read(rows), existing, allow_deletes=True)
    assert [kept.budget.id for kept in plan.kept] == [existing[0].id, existing[1].id]


ADVERSARIAL = [
    f"{start}{repeated * (20_000 // len(repeated))}{end}"
    for start in ("", "1", "#", "q", "fy", "https://docs.google.com/spreadsheets/d/")
    for repeated in (" ", "1", "x", "1 ", ".", "#", "!", "a1", ",", "'", "gid=", "\u00a0 ", "-")
    for end in ("", "x1", "!", " x", "\n1", "+")
]


def patterns() -> dict[str, re.Pattern[str]]:
    """Every compiled pattern of the package."""
    return {
        f"{info.name}.{name}": value
        for info in walk_packages(budget_sync.sync.__path__, "budget_sync.sync.")
        for name, value in vars(import_module(info.name)).items()
        if isinstance(value, re.Pattern)
    }


@pytest.mark.parametrize("name", patterns())
def test_pattern_takes_linear_time_for_any_text(name: str) -> None:
    pattern = patterns()[name]
    for text in ADVERSARIAL:
        began_s = time.process_time()
        pattern.fullmatch(text)
        pattern.match(text)
        # A linear pattern takes about a millisecond, a quadratic one more than a second.
        assert time.process_time() - began_s < 0.2, text[:20]


@pytest.mark.parametrize("text", ADVERSARIAL[::5])
def test_messages_quote_only_the_start_of_a_cell(text: str) -> None:
    cell = text[:1000]
    for column in HEADINGS:
        values = ["Sales", "Q1 2025", 5, "B-1", "USD", 1]
        values[HEADINGS.index(column)] = cell
        for error in read([list(HEADINGS), values]).errors:
            assert len(error.message) < 300


# --- rows, cells and memory ---


def test_sheet_with_the_most_rows_is_read_and_one_more_fails() -> None:
    most = [HEADER, *[[]] * 200_000]
    with pytest.raises(SheetProblem, match="No row below the header counts"):
        read(most)
    with pytest.raises(SheetProblem, match=r"^The sheet has more than 200,000 rows: remove"):
        read([*most, []])


def test_sheet_with_the_most_cells_is_read_and_one_more_fails() -> None:
    most = [HEADER, *[[None] * 20] * 100_000]
    with pytest.raises(SheetProblem, match="No row below the header counts"):
        read(most)
    with pytest.raises(
        SheetProblem, match=r"^The sheet has more than 2,000,000 used cells: remove"
    ):
        read([*most, [None]])


def read_csv(folder: Path, content: str) -> SheetResult:
    """What `apply` finds in a CSV file with our headings."""
    (folder / "plan.csv").write_text(content, encoding="utf-8")
    fetched = fetch.fetch_source(Target(CSV, file_path="plan.csv"), sync.Reach(folder))
    return apply_reading(standard_reading(), fetched.source, Customer("USD"))


CSV_HEADER = "Department,Fiscal Period,Budgeted Amount\n"
TOO_LARGE = {
    "rows": (CSV_HEADER + "1\n" * 6_000_000, "200,000 rows"),
    "cells": (CSV_HEADER + "1,2,3,4,5,6,7,8,9,10,11,12\n" * 190_000, "2,000,000 used cells"),
    "cells of one row": (CSV_HEADER + "," * 12_000_000, "2,000,000 used cells"),
    "cells of one row in lines": (CSV_HEADER + ('"\n"' + "," * 500_000) * 8, "2,000,000 used"),
    "blank rows before a row": (CSV_HEADER + "\n" * 200_010 + "1", "200,000 rows"),
    "endless blank rows": (CSV_HEADER + "\n" * 3_000_000, "200,000 rows"),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_csv_file_that_is_too_large_fails_with_little_memory(name: str, tmp_path: Path) -> None:
    content, says = TOO_LARGE[name]
    tracemalloc.start()
    try:
        with pytest.raises(SheetProblem, match=says):
            read_csv(tmp_path, content)
        # The text of 12 MB is held up to four times, once with four bytes for a character.
        assert tracemalloc.get_traced_memory()[1] < 250_000_000
    finally:
        tracemalloc.stop()


def test_csv_file_may_end_with_many_blank_rows_and_cells(tmp_path: Path) -> None:
    blank = ",,,,\n" * 250_000
    found = read_csv(tmp_path, f"{CSV_HEADER}\nSales,Q1 2025,5,,,\n{blank}")
    assert [(row.number, row.budget.department) for row in found.rows] == [(3, "Sales")]


def test_csv_cell_of_any_length_is_a_row_error(tmp_path: Path) -> None:
    found = read_csv(tmp_path, f"{CSV_HEADER}Sales,Q1 2025,5\n{'x' * 500_000},Q1 2025,5\n")
    assert [error.row for error in found.errors] == [3]


@pytest.mark.parametrize(
    ("row", "count", "says"),
    [
        ("[1]", 200_100, "200,000 rows"),
        ('["x"]', 200_100, "200,000 rows"),
        ("[1" + ",1" * 99 + "]", 30_000, "2,000,000 used cells"),
        ('[""' + ',""' * 99 + "]", 30_000, "2,000,000 used cells"),
    ],
)
def test_google_reply_that_is_too_large_is_not_parsed(row: str, count: int, says: str) -> None:
    content = f'{{"range": "Budgets!A1:B2", "values": [{",".join([row] * count)}]}}'.encode()
    with pytest.raises(FetchError, match=says):
        client.require_size(content)


def test_texts_with_brackets_do_not_count_as_rows() -> None:
    text = json.dumps("[a],\\" * 300_000 + '"[],' * 300_000 + "\\")
    client.require_size(f'{{"values": [[{text}]]}}'.encode())


def test_grid_of_google_is_limited() -> None:
    values = {"range": "Budgets!A1:B2", "values": [[1]] * 200_050}
    assert len(sheet.grid_of(values, "Budgets")) == 200_050
    with pytest.raises(FetchError, match="200,000 rows"):
        sheet.grid_of(values | {"values": [[1]] * 200_051}, "Budgets")


def test_few_texts_of_a_sheet_stay_in_memory() -> None:
    def read_and_plan(tag: str) -> None:
        rows = [[f"{tag} {number} {'x' * 900}"] * 3 for number in range(500)]
        names = [[f"{tag} {number} {'x' * 150}", "Q1 2025", "5 USD"] for number in range(500)]
        found = read([HEADER, *rows, *names])
        make_plan(SOURCE, found, [stored(n, department=row[0]) for n, row in enumerate(names)])

    read_and_plan("first")
    gc.collect()
    tracemalloc.start()
    try:
        for tag in "abc":
            read_and_plan(tag)
        gc.collect()
        # The caches of short texts are bounded.
        assert tracemalloc.get_traced_memory()[0] < 1_500_000
    finally:
        tracemalloc.stop()


# --- history and preview ---


def test_history_stores_200_short_row_errors_and_counts_the_rest(world: World) -> None:
    rows = [[f"{number} {'x' * 50_000}", "Q1 2025", "y" * 900] for number in range(500)]
    source = world.sheet(KEY, [HEADER, *rows])
    result = world.sync(source)
    assert (result.status, result.error_count) == ("partial", 500)
    last = world.last(source)
    assert (len(json.loads(last.errors)), last.errorCount) == (200, 500)
    assert len(last.errors) < 100_000
    assert len(last.message or "") < 1000


def test_preview_lists_at_most_2000_rows_of_a_kind(world: World) -> None:
    world.sheet(KEY, [HEADER, *([f"Team {number}", "Q1 2025", 1] for number in range(2500))])
    (preview,) = sync.preview_all(world.job)
    (section,) = preview.sections
    assert (len(section.lines), section.lines[-1]) == (2001, "and 500 more")


# --- budgets without a source ---


@pytest.mark.both_engines
def test_takeover_of_a_budget_set_by_hand_is_reported(world: World) -> None:
    first, _ = manual_budgets.set_budget(ROOT, ORG, "Engineering", "Q1 2025", Decimal(70))
    manual_budgets.set_budget(ROOT, ORG, "Sales", "Q1 2025", Decimal(5))
    source = world.sheet(KEY, plan_rows(Engineering=100, Sales=5))
    result = world.sync(source)
    says = (
        f"Row 2 takes over Engineering, Q1 2025 (budget {first.id}), which was set by hand or lost "
        "its source: its amount was $70 and is now $100 (and 1 more)."
    )
    assert (result.status, result.message, result.warnings) == ("success", says, [says])
    assert world.sync(source).message is None


@pytest.mark.both_engines
@pytest.mark.parametrize(
    ("amount", "is_held"), [(71, True), (72, False), (100, False), (150, False)]
)
def test_takeover_that_lowers_below_the_used_amount_is_held(
    world: World, amount: int, is_held: bool
) -> None:
    by_hand, _ = manual_budgets.set_budget(ROOT, ORG, "Engineering", "Q1 2025", Decimal(100))
    reserve(by_hand, 72)
    source = world.sheet(KEY, plan_rows(Engineering=amount, Sales=1))
    result = world.sync(source)
    budget = Budget.get_by_id(by_hand.id)
    if is_held:
        assert (budget.sourceId, budget.budgetedMinor) == (None, 100_00)
        assert (result.status, world.bad_rows(source)) == (
            "partial",
            {
                2: f"$72 is reserved or committed on Engineering, Q1 2025 (budget {by_hand.id}), "
                "which was set by hand or lost its source, and this row would take it over and "
                "lower it from $100 to $71: enter at least $72, or lower it with "
                "`flask set-budget` first"
            },
        )
        # The advice works.
        manual_budgets.set_budget(ROOT, ORG, "Engineering", "Q1 2025", Decimal(amount))
        assert world.sync(source).status == "success"
    else:
        assert (budget.sourceId, budget.budgetedMinor) == (source.id, amount * 100)
    world.verify()


@pytest.mark.both_engines
def test_reservation_meanwhile_holds_a_takeover(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand, _ = manual_budgets.set_budget(ROOT, ORG, "Engineering", "Q1 2025", Decimal(100))
    source = world.sheet(KEY, plan_rows(Engineering=50))
    after_reading_budgets(monkeypatch, lambda: reserve(by_hand, 72))
    assert world.sync(source).error_count == 1
    assert Budget.get_by_id(by_hand.id).budgetedMinor == 100_00
    world.verify()


def test_takeover_of_a_deleted_budget_is_held_too() -> None:
    gone = stored(0, source_id=None, deleted_at="2025-01-01T00:00:00Z", reserved_minor=72_00)
    rows = read([[DEPARTMENT, PERIOD, AMOUNT], ["Team 0", "Q1 2025", 71]])
    plan = make_plan(SOURCE, rows, [gone])
    assert (len(plan.errors), plan.changes_nothing) == (1, True)
    assert replace(plan, errors=[]).changes_nothing
