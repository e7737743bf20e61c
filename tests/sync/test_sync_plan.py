"""What a sheet's rows mean against the budgets that are there: identity, the brake, and properties that hold for any sheet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_sync.domain.periods import fold, period_key
from budget_sync.sync.cells import DateCell
from budget_sync.sync.match import Stored
from budget_sync.sync.plan import SyncPlan, make_plan
from budget_sync.sync.rows import (
    AMOUNT,
    BUDGET_ID,
    CURRENCY,
    DEPARTMENT,
    LIMIT,
    PERIOD,
    Layout,
    SheetProblem,
    SheetRows,
    read_rows,
)

SOURCE = "src_1"
LAYOUT = Layout(currency="USD", locale="en_US")
HEADER = [BUDGET_ID, DEPARTMENT, PERIOD, AMOUNT]


def stored(
    budget_id: str, department: str, period: str = "Q1 2025", amount: int = 100, **changes: Any
) -> Stored:
    """A budget of the source, in whole dollars."""
    made = Stored(
        budget_id,
        SOURCE,
        None,
        None,
        department,
        fold(department),
        period,
        period_key(period),
        "USD",
        amount * 100,
        None,
        2,
        None,
        0,
        0,
        1,
    )
    return made._replace(**changes)


def sheet(*rows: list[Any], header: list[Any] = HEADER) -> SheetRows:
    return read_rows([header, *rows], LAYOUT)


def plan(rows: SheetRows, there: Iterable[Stored], **options: Any) -> SyncPlan:
    return make_plan(SOURCE, rows, list(there), **options)


def ids(budgets: Iterable[Stored]) -> list[str]:
    return [budget.id for budget in budgets]


def test_a_row_is_known_by_its_budget_id_whatever_else_it_says() -> None:
    made = plan(
        sheet(["B-1", "Platform", "Q1 2025", 150]), [stored("x", "Engineering", external_id="B-1")]
    )
    (change,) = made.updates
    assert change.before.id == "x"
    assert change.fields == (
        ("department", "Engineering", "Platform"),
        ("budgetedAmount", 10000, 15000),
    )
    assert not made.creates + made.deletes


def test_a_row_without_an_id_is_known_by_department_and_period_in_any_spelling() -> None:
    made = plan(sheet(["", " ENGINEERING", "2025-Q1", 150]), [stored("x", "Engineering")])
    assert [change.before.id for change in made.updates] == ["x"]


COMPOSED, APART = "Caf\u00e9", "Cafe\u0301"


@pytest.mark.parametrize(("before", "now"), [(COMPOSED, APART), (APART, COMPOSED)])
def test_a_name_that_is_typed_anew_with_its_accents_stored_otherwise_keeps_its_budget(
    before: str, now: str
) -> None:
    made = plan(sheet(["", now, "Q1 2025", 100]), [stored("x", before, committed_minor=1)])
    assert [(change.before.id, change.fields) for change in made.updates] == [
        ("x", (("department", before, now),))
    ]
    assert not made.creates + made.deletes


def test_two_rows_whose_names_look_the_same_are_one_budget_twice() -> None:
    made = plan(sheet(["", COMPOSED, "Q1 2025", 100], ["", APART, "Q1 2025", 100]), [])
    assert [error.message[-41:] for error in made.errors] == [
        "stands in row 3 as well: keep one of them",
        "stands in row 2 as well: keep one of them",
    ]
    assert made.changes_nothing


# Budgets with the keys that names had when their accents still counted.
OLD_KEY = APART.casefold()


@pytest.mark.parametrize(
    "changes", [{"period": f"{APART} week", "period_key": f"{OLD_KEY} week"}, {}]
)
@pytest.mark.parametrize("deleted_at", [None, "2025-01-01T00:00:00Z"])
def test_a_budget_with_the_key_of_an_earlier_version_is_found_and_gets_its_key_of_today(
    changes: dict[str, Any], deleted_at: str | None
) -> None:
    there = stored(
        "x", APART, committed_minor=1, department_key=OLD_KEY, deleted_at=deleted_at
    )._replace(**changes)
    rows = sheet(["", there.department, there.period, 100])
    made = plan(rows, [there])
    (change,) = made.updates + made.revivals
    assert (change.before.id, change.fields, change.after.department_key) == (
        "x",
        (),
        COMPOSED.casefold(),
    )
    assert not made.creates + made.deletes
    after = [budget._replace(source_row=2) for budget in applied(made, [there])]
    assert plan(rows, after).changes_nothing


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_budgets_that_an_earlier_version_told_apart_neither_is_deleted_while_both_are_in_the_sheet(
    order: int,
) -> None:
    there = [stored("x", COMPOSED), stored("y", APART, department_key=OLD_KEY)][::order]
    made = plan(sheet(["", COMPOSED, "Q1 2025", 100], ["", APART, "Q1 2025", 100]), there)
    assert ([budget.id for budget, _ in made.kept], made.changes_nothing) == (
        ["x", "y"][::order],
        True,
    )
    for name in (COMPOSED, APART):
        made = plan(sheet(["", name, "Q1 2025", 100]), there)
        assert (ids(made.deletes), [change.before.id for change in made.updates]) == (
            ["y"],
            ["x"] if name == APART else [],
        )


def test_a_row_that_gains_an_id_keeps_its_budget() -> None:
    made = plan(sheet(["B-1", "Engineering", "Q1 2025", 100]), [stored("x", "Engineering")])
    (change,) = made.updates
    assert (change.before.id, change.fields) == ("x", (("externalId", None, "B-1"),))


def test_a_row_that_loses_its_id_keeps_its_budget_and_the_budget_its_id() -> None:
    made = plan(
        sheet(["", "Engineering", "Q1 2025", 100]), [stored("x", "Engineering", external_id="B-1")]
    )
    assert (made.unchanged_count, made.updates) == (1, [])


def test_a_row_whose_id_is_changed_keeps_its_budget_when_the_old_id_is_gone() -> None:
    made = plan(
        sheet(["B-9", "Engineering", "Q1 2025", 100]),
        [stored("x", "Engineering", external_id="B-1", reserved_minor=5)],
    )
    assert [change.fields for change in made.updates] == [(("externalId", "B-1", "B-9"),)]


def test_a_row_whose_period_is_changed_takes_its_budget_there() -> None:
    made = plan(
        sheet(["B-1", "Engineering", "Q2 2025", 100]),
        [stored("x", "Engineering", external_id="B-1")],
    )
    assert [change.fields for change in made.updates] == [(("fiscalPeriod", "Q1 2025", "Q2 2025"),)]


def test_a_row_whose_id_is_a_date_keeps_the_budget_of_that_number_and_the_one_of_its_department_and_period() -> (
    None
):
    there = [
        stored("x", "Ops", external_id="45659"),
        stored("y", "Sales", external_id="B-2"),
        stored("z", "Legal", external_id="B-3"),
    ]
    made = plan(sheet([DateCell(45659, "1-2"), "Sales", "Q1 2025", 100]), there, allow_deletes=True)
    assert ([budget.id for budget, _ in made.kept], ids(made.deletes)) == (["x", "y"], ["z"])


def test_a_row_whose_department_is_a_date_keeps_the_budgets_of_its_period() -> None:
    there = [stored("x", "45720"), stored("y", "3-4"), stored("z", "45720", "Q2 2025")]
    made = plan(sheet(["", DateCell(45720, "3-4"), "Q1 2025", 100]), there, allow_deletes=True)
    assert ([budget.id for budget, _ in made.kept], ids(made.deletes)) == (["x", "y"], ["z"])


def test_a_row_whose_period_is_a_date_keeps_the_budgets_of_its_department() -> None:
    there = [
        stored("x", "Ops", "45720"),
        stored("y", "Ops", "Mar 2025"),
        stored("z", "Sales", "45720"),
    ]
    made = plan(sheet(["", "Ops", DateCell(45720, "Mar-25"), 100]), there, allow_deletes=True)
    assert ([budget.id for budget, _ in made.kept], ids(made.deletes)) == (["x", "y"], ["z"])


def test_a_row_that_only_moved_on_the_sheet_is_unchanged_and_noted() -> None:
    there = [stored("x", "Engineering", source_row=2), stored("y", "Sales", source_row=2)]
    made = plan(sheet(["", "Engineering", "Q1 2025", 100], ["", "Sales", "Q1 2025", 100]), there)
    assert (made.unchanged_count, made.updates, made.moved) == (2, [], [(3, "y")])
    assert not made.changes_nothing


def test_a_new_row_may_stand_where_a_budget_was_that_its_own_row_renames() -> None:
    made = plan(
        sheet(["1", "B", "Q1 2025", 100], ["", "A", "Q1 2025", 7]),
        [stored("x", "A", external_id="1")],
    )
    assert (
        [change.after.department for change in made.updates],
        [row.department for row in made.creates],
    ) == (["B"], ["A"])
    assert made.errors == []


def test_a_new_row_may_not_stand_where_a_budget_stays_whose_own_row_is_refused() -> None:
    there = stored("x", "A", external_id="1", committed_minor=1)
    made = plan(sheet(["1", "A", "Q2 2025", 100], ["", "A", "Q1 2025", 7]), [there])
    assert [(error.row, error.message[:44]) for error in made.errors] == [
        (2, "money is reserved or committed on A, Q1 2025"),
        (3, "A, Q1 2025 is still budget x, which this pas"),
    ]
    assert made.changes_nothing


def test_two_budgets_can_change_places() -> None:
    there = [stored("x", "Engineering", external_id="B-1"), stored("y", "Sales", external_id="B-2")]
    made = plan(
        sheet(["B-1", "Sales", "Q1 2025", 100], ["B-2", "Engineering", "Q1 2025", 100]), there
    )
    assert [change.after.department for change in made.updates] == ["Sales", "Engineering"]
    assert made.errors == []


def test_a_budget_by_hand_is_adopted_when_its_row_appears_and_never_deleted_before() -> None:
    by_hand = stored("x", "Engineering", source_id=None)
    assert plan(sheet(["", "Sales", "Q1 2025", 1]), [by_hand]).deletes == []
    (change,) = plan(sheet(["", "Engineering", "Q1 2025", 100]), [by_hand]).updates
    assert change.fields == (("sourceId", None, SOURCE),)


def test_a_budget_by_hand_is_known_by_its_id_too() -> None:
    made = plan(
        sheet(["budget-123", "Research", "Q1 2025", 100]),
        [stored("budget-123", "Engineering", source_id=None)],
    )
    assert [change.before.id for change in made.updates] == ["budget-123"]


@pytest.mark.parametrize(
    "row", [["", "Engineering", "Q1 2025", 1], ["B-1", "Anything", "Q2 2025", 1]]
)
def test_a_budget_of_another_source_is_a_row_error(row: list[Any]) -> None:
    made = plan(sheet(row), [stored("x", "Engineering", source_id="src_2", external_id="B-1")])
    assert "belongs to source src_2" in made.errors[0].message
    assert made.changes_nothing


def test_a_budgets_currency_never_changes() -> None:
    rows = sheet(["", "Engineering", "Q1 2025", 1, "eur"], header=[*HEADER, CURRENCY])
    made = plan(rows, [stored("x", "Engineering")])
    assert "is in USD and cannot become EUR" in made.errors[0].message
    assert made.changes_nothing


@pytest.mark.parametrize("deleted_at", [None, "2025-01-01T00:00:00Z"])
@pytest.mark.parametrize("row_id", ["", "B-1"])
def test_an_amount_is_not_written_in_other_decimals_than_its_budget_has(
    deleted_at: str | None, row_id: str
) -> None:
    made = plan(
        sheet([row_id, "Engineering", "Q1 2025", 5000]),
        [stored("x", "Engineering", external_id="B-1", exponent=0, deleted_at=deleted_at)],
    )
    assert [error.message for error in made.errors] == [
        "Engineering, Q1 2025 (budget x) has USD with 0 decimals, which has 2 by now: it stays as it is until whoever runs this service has seen to it"
    ]
    assert made.changes_nothing


def test_money_does_not_wander_into_another_period() -> None:
    there = stored("x", "Engineering", external_id="B-1", committed_minor=1)
    made = plan(sheet(["B-1", "Engineering", "Q2 2025", 100]), [there])
    assert "add a row for Q2 2025" in made.errors[0].message
    assert made.changes_nothing
    assert [
        change.after.period
        for change in plan(
            sheet(["B-1", "Engineering", "Q2 2025", 100]), [there._replace(committed_minor=0)]
        ).updates
    ] == ["Q2 2025"]


def test_a_budget_that_returns_is_revived_under_its_old_id() -> None:
    gone = [
        stored("old", "Engineering", deleted_at="2025-01-01T00:00:00Z"),
        stored("newer", "Engineering", deleted_at="2025-01-02T00:00:00Z"),
        stored("theirs", "Engineering", deleted_at="2025-01-03T00:00:00Z", source_id="src_2"),
    ]
    (change,) = plan(sheet(["", "Engineering", "Q1 2025", 120]), gone).revivals
    assert (change.before.id, change.is_revival) == ("newer", True)
    (change,) = plan(
        sheet(["B-1", "Elsewhere", "Q3 2025", 1]),
        [stored("z", "Sales", external_id="B-1", deleted_at="2025-01-01T00:00:00Z")],
    ).revivals
    assert change.before.id == "z"


@pytest.mark.parametrize(
    ("row_id", "its_id", "is_revived"),
    [("", None, True), ("", "1", True), ("1", None, True), ("1", "1", True), ("1", "2", False)],
)
def test_a_row_brings_back_a_deleted_budget_unless_both_have_ids_that_differ(
    row_id: str, its_id: str | None, is_revived: bool
) -> None:
    gone = stored("x", "Engineering", external_id=its_id, deleted_at="2025-01-01T00:00:00Z")
    made = plan(sheet([row_id, "Engineering", "Q1 2025", 100]), [gone])
    assert (len(made.revivals), len(made.creates)) == ((1, 0) if is_revived else (0, 1))


DELETED = "2025-01-02T00:00:00Z"


def spent_elsewhere(**changes: Any) -> Stored:
    """A budget whose row left another source's sheet, with money spent on it."""
    there = stored(
        "old",
        "Mkt",
        source_id="src_2",
        deleted_at=DELETED,
        reserved_minor=2500,
        committed_minor=7500,
    )
    return there._replace(**changes)


@pytest.mark.parametrize("row_id", ["", "B-1"])
@pytest.mark.parametrize("its_id", [None, "A-1"])
def test_a_row_that_comes_from_another_sheet_does_not_start_its_budget_anew(
    row_id: str, its_id: str | None
) -> None:
    made = plan(sheet([row_id, " MKT", "2025-Q1", 100]), [spent_elsewhere(external_id=its_id)])
    (error,) = made.errors
    assert error.message == (
        "$100 is reserved or committed on Mkt, Q1 2025 (budget old), whose row left the sheet of source src_2: put it back there, "
        "or make the new budget with `flask set-budget` if it is to start with nothing spent, and this row takes it over"
    )
    assert made.changes_nothing


def test_what_was_left_behind_is_told_in_the_decimals_that_its_budget_was_made_with() -> None:
    (error,) = plan(sheet(["", "Mkt", "Q1 2025", 100]), [spent_elsewhere(exponent=1)]).errors
    assert error.message.startswith("$1,000 is reserved or committed")


def test_of_several_that_were_left_behind_the_latest_is_named() -> None:
    left = [spent_elsewhere(id="a"), spent_elsewhere(id="b", deleted_at="2025-01-01T00:00:00Z")]
    for there in (left, left[::-1]):
        (error,) = plan(sheet(["", "Mkt", "Q1 2025", 100]), there).errors
        assert "(budget a)" in error.message


def test_of_several_that_were_left_behind_at_once_the_same_is_named_each_time() -> None:
    left = [spent_elsewhere(id="a"), spent_elsewhere(id="b")]
    for there in (left, left[::-1]):
        (error,) = plan(sheet(["", "Mkt", "Q1 2025", 100]), there).errors
        assert "(budget b)" in error.message


@pytest.mark.parametrize(
    "changes",
    [
        {"reserved_minor": 0, "committed_minor": 0},
        {"period": "Q2 2025", "period_key": "2025-Q2"},
        {"currency": "EUR"},
        {"department_key": "legal"},
    ],
)
def test_a_row_is_a_new_budget_where_no_other_sheets_deleted_one_of_its_kind_has_money_on_it(
    changes: dict[str, Any],
) -> None:
    made = plan(sheet(["", "Mkt", "Q1 2025", 100]), [spent_elsewhere(**changes)])
    assert (len(made.creates), made.errors) == (1, [])


@pytest.mark.parametrize(
    ("deleted_at", "comes_back"),
    [("2025-01-01T00:00:00Z", False), (DELETED, False), ("2025-01-03T00:00:00Z", True)],
)
@pytest.mark.parametrize("row_id", ["", "B-1"])
def test_a_row_that_went_to_another_sheet_and_back_does_not_leave_behind_what_was_spent_there(
    deleted_at: str, comes_back: bool, row_id: str
) -> None:
    mine = stored("mine", "Mkt", external_id="B-1", deleted_at=deleted_at)
    made = plan(sheet([row_id, "Mkt", "Q1 2025", 100]), [spent_elsewhere(), mine])
    assert ([change.before.id for change in made.revivals], len(made.errors)) == (
        (["mine"], 0) if comes_back else ([], 1)
    )


def test_a_row_with_a_new_id_does_not_start_a_budget_anew_that_lost_its_source() -> None:
    there = [spent_elsewhere(source_id=None, external_id="A-1")]
    made = plan(sheet(["B-1", "Mkt", "Q1 2025", 100]), there)
    assert (
        "whose source was removed: write A-1 in its Budget ID column to bring that budget back, or make"
        in made.errors[0].message
    )
    assert made.changes_nothing
    assert [
        change.before.id for change in plan(sheet(["A-1", "Mkt", "Q1 2025", 100]), there).revivals
    ] == ["old"]


def test_a_row_that_names_another_sources_deleted_budget_says_where_it_belongs() -> None:
    made = plan(
        sheet(["A-1", "Mkt", "Q1 2025", 100]),
        [spent_elsewhere(external_id="A-1", reserved_minor=0, committed_minor=0)],
    )
    assert (
        "belongs to source src_2, whose sheet it left: put it back there, or give this row another Budget ID"
        in made.errors[0].message
    )
    assert made.changes_nothing


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_of_two_budgets_deleted_at_one_moment_the_same_one_returns_in_whatever_order_they_are_read(
    order: tuple[str, str],
) -> None:
    gone = [stored(name, "Engineering", deleted_at="2025-01-01T00:00:00Z") for name in order]
    assert [
        change.before.id
        for change in plan(sheet(["", "Engineering", "Q1 2025", 100]), gone).revivals
    ] == ["b"]


def test_a_sheet_without_limits_leaves_them_and_one_with_them_sets_them() -> None:
    there = [stored("x", "Engineering", limit_minor=500)]
    assert plan(sheet(["", "Engineering", "Q1 2025", 100]), there).unchanged_count == 1
    with_limits = [*HEADER, LIMIT]
    (change,) = plan(
        sheet(["", "Engineering", "Q1 2025", 100, ""], header=with_limits), there
    ).updates
    assert change.fields == (("autoApproveLimit", 500, None),)
    (change,) = plan(
        sheet(["", "Engineering", "Q1 2025", 100, 0], header=with_limits), there
    ).updates
    assert change.fields == (("autoApproveLimit", 500, 0),)
    assert (
        plan(
            sheet(["", "Engineering", "Q1 2025", 100, 5], header=with_limits), there
        ).unchanged_count
        == 1
    )


def many(count: int) -> list[Stored]:
    return [stored(f"b{number}", f"Department {number}") for number in range(count)]


def without(there: list[Stored], gone: int) -> SheetRows:
    return sheet(*(["", budget.department, budget.period, 100] for budget in there[gone:]))


@pytest.mark.parametrize(
    ("live", "gone", "held"),
    [
        (2, 1, False),
        (3, 2, True),
        (10, 5, False),
        (10, 6, True),
        (20, 10, False),
        (20, 11, True),
        (110, 11, False),
        (109, 11, True),
        (200, 20, False),
        (200, 21, True),
    ],
)
def test_the_brake_holds_more_than_half_or_more_than_ten_and_a_tenth(
    live: int, gone: int, held: bool
) -> None:
    there = many(live)
    made = plan(without(there, gone), there)
    assert (len(made.deletes), len(made.held)) == ((0, gone) if held else (gone, 0))


def test_the_brake_lets_go_when_told_to() -> None:
    there = many(10)
    assert len(plan(without(there, 9), there, allow_deletes=True).deletes) == 9


def test_an_approval_binds_to_the_budgets_listed() -> None:
    there = many(10)
    made = plan(without(there, 9), there, approved_ids={"b0", "b1"})
    assert (ids(made.deletes), len(made.held)) == (["b0", "b1"], 7)
    assert len(plan(without(there, 6), there, approved_ids={"b0", "b1"}).deletes) == 6


def test_what_was_approved_does_not_loosen_the_brake_for_the_others() -> None:
    there = many(20)
    approved = ids(there[5:])
    alone = sheet(["", there[0].department, "Q1 2025", 100])
    made = plan(alone, there, held_before=approved, approved_ids=approved)
    assert (ids(made.deletes), ids(made.held), made.live_count) == (approved, ids(there[1:5]), 5)
    # What was approved and is back in the sheet stays, and counts as one that does.
    made = plan(
        sheet(*(["", budget.department, "Q1 2025", 100] for budget in there[4:])),
        there,
        held_before=approved,
        approved_ids=approved,
    )
    assert (ids(made.deletes), made.held) == (ids(there[:4]), [])


def test_what_was_held_stays_held_though_the_same_sheet_brought_many_new_budgets() -> None:
    there = many(4)
    swapped = sheet(*(["", f"New {number}", "Q1 2025", 1] for number in range(20)))
    first = plan(swapped, there)
    assert (len(first.held), len(first.creates)) == (4, 20)
    after = applied(first, there)
    assert len(plan(swapped, after, held_before=ids(first.held)).held) == 4
    assert ids(plan(swapped, after, held_before=ids(first.held), approved_ids={"b0"}).deletes) == [
        "b0"
    ]
    assert len(plan(swapped, after, held_before=ids(first.held), allow_deletes=True).deletes) == 4


def test_what_is_still_held_weighs_on_the_brake_with_what_is_newly_missing() -> None:
    there = many(20)
    made = plan(without(there, 11), there, held_before=ids(there[:8]))
    assert (made.deletes, len(made.held)) == ([], 11)


def test_a_bad_row_keeps_the_budget_it_names_even_when_deletes_are_allowed() -> None:
    there = [
        stored("x", "Engineering", external_id="B-1"),
        stored("y", "Sales", external_id="B-2"),
        stored("z", "Legal", external_id="B-3"),
    ]
    rows = sheet(["B-1", "#REF!", "#REF!", 100], ["", "Sales", "Q1 2025", "#REF!"])
    made = plan(rows, there, allow_deletes=True)
    assert ids(made.deletes) == ["z"]
    assert [(budget.id, reason) for budget, reason in made.kept] == [
        ("x", "row 2 means it, and cannot be used"),
        ("y", "row 3 means it, and cannot be used"),
    ]


def test_a_bad_row_may_name_a_budget_by_the_id_that_it_has_here() -> None:
    there = [stored("b0", "A"), stored("b1", "B"), *many(9)[2:]]
    made = plan(
        sheet(
            ["b0", "#REF!", "#REF!", 1],
            *(["", budget.department, budget.period, 100] for budget in there[2:]),
        ),
        there,
    )
    assert ([(budget.id, reason) for budget, reason in made.kept], ids(made.deletes)) == (
        [("b0", "row 2 means it, and cannot be used")],
        ["b1"],
    )


@pytest.mark.parametrize(
    ("row", "kept"),
    [
        (["", "#REF!", "#REF!", 1], ["a1", "a2", "c1"]),
        (["", "", "", 1], ["a1", "a2", "c1"]),
        (["", "A", "#REF!", 1], ["a1", "a2"]),
        (["", "#REF!", "Q1 2025", 1], ["a1", "c1"]),
        (["", "A", "Q1 2025", ""], ["a1"]),
        (["new", "#REF!", "Q2 2025", 1], ["a2"]),
        (["#REF!", "New", "Q1 2025", 1], ["a1", "a2"]),
        (["#REF!", "B", "Q1 2025", 1], ["c1"]),
        (["new", "New", "Q9 2025", ""], []),
    ],
)
def test_a_bad_row_keeps_every_budget_that_it_may_mean(row: list[Any], kept: list[str]) -> None:
    there = [
        stored("a1", "A", external_id="1"),
        stored("a2", "A", "Q2 2025", external_id="2"),
        stored("c1", "B"),
        *many(9),
    ]
    rows = sheet(row, *(["", budget.department, budget.period, 100] for budget in there[3:]))
    made = plan(rows, there)
    assert [budget.id for budget, _ in made.kept] == kept
    assert ids(made.deletes) == [name for name in ("a1", "a2", "c1") if name not in kept]


def test_a_row_may_not_take_the_place_of_a_budget_that_stays() -> None:
    there = [
        stored("x", "Engineering", external_id="B-1"),
        stored("theirs", "Sales", source_id="src_2"),
    ]
    made = plan(sheet(["B-1", "Sales", "Q1 2025", 5]), there)
    assert "Sales, Q1 2025 is still budget theirs" in made.errors[0].message
    assert made.changes_nothing


@pytest.mark.parametrize(
    "row", [["B-1", "Sales", "Q1 2025", 5], ["B-1", "Engineering", "Q2 2025", 5]]
)
@pytest.mark.parametrize("deleted_at", [None, "2025-01-01T00:00:00Z"])
def test_neither_a_move_nor_a_return_may_take_the_place_of_a_budget_that_stays(
    row: list[Any], deleted_at: str | None
) -> None:
    there = [
        stored("x", "Engineering", external_id="B-1", deleted_at=deleted_at),
        stored("theirs", "Sales", source_id="src_2"),
        stored("too", "Engineering", "Q2 2025", source_id="src_2"),
    ]
    made = plan(sheet(row), there)
    assert "which this pass does not move or delete" in made.errors[0].message
    assert made.changes_nothing


def test_a_return_into_the_place_it_had_is_refused_where_another_budget_has_it_now() -> None:
    there = [
        stored("x", "Engineering", external_id="B-1", deleted_at="2025-01-01T00:00:00Z"),
        stored("theirs", "Engineering", source_id="src_2"),
    ]
    made = plan(sheet(["B-1", "Engineering", "Q1 2025", 5]), there)
    assert "Engineering, Q1 2025 is still budget theirs" in made.errors[0].message
    assert made.changes_nothing


def test_a_refused_move_refuses_the_move_into_its_place() -> None:
    there = [
        stored("x", "A", external_id="1"),
        stored("y", "B", external_id="2"),
        stored("theirs", "C", source_id="src_2"),
    ]
    made = plan(sheet(["1", "B", "Q1 2025", 100], ["2", "C", "Q1 2025", 100]), there)
    assert [error.row for error in made.errors] == [2, 3]
    assert made.changes_nothing


def test_a_good_row_may_not_take_a_budget_whose_own_row_is_bad() -> None:
    made = plan(
        sheet(["", "A", "Q1 2025", 7], ["1", "A", "#REF!", 100]),
        [stored("x", "A", external_id="1")],
    )
    assert [error.row for error in made.errors] == [2, 3]
    assert made.changes_nothing


def test_a_good_row_does_not_bring_back_a_budget_that_a_bad_row_names() -> None:
    made = plan(
        sheet(["", "A", "Q1 2025", 7], ["1", "B", "Q1 2025", ""]),
        [stored("x", "A", external_id="1", deleted_at="2025-01-01T00:00:00Z")],
    )
    assert ([row.row for row in made.creates], made.revivals) == ([2], [])


@pytest.mark.parametrize(("amount", "is_overdrawn"), [(71, True), (72, False), (73, False)])
@pytest.mark.parametrize("source_id", [SOURCE, None])
def test_what_is_cut_below_what_is_spoken_for_is_applied_and_counted(
    amount: int, is_overdrawn: bool, source_id: str | None
) -> None:
    made = plan(
        sheet(["", "Engineering", "Q1 2025", amount]),
        [
            stored(
                "x", "Engineering", source_id=source_id, reserved_minor=5000, committed_minor=2200
            )
        ],
    )
    assert (made.overdrawn_count, made.updates[0].is_overdrawn) == (is_overdrawn, is_overdrawn)


def test_what_is_overdrawn_already_is_counted_where_it_stays_and_not_where_it_is_deleted() -> None:
    there = [stored(name, name, reserved_minor=10001) for name in "ABCD"]
    made = plan(without(there, 1), there)
    assert (ids(made.deletes), made.unchanged_count, made.overdrawn_count) == (["A"], 3, 3)


# --- properties -----------------------------------------------------------------------------------------------------------------

DEPARTMENTS = st.sampled_from(["A", "B", "C", " a ", "#REF!", "", "=1+1", "D"])
PERIODS = st.sampled_from(["Q1 2025", "2025-Q1", "Q2 2025", "FY2025", "", "#N/A", 45658])
AMOUNTS = st.one_of(
    st.integers(-5, 10**6),
    st.sampled_from(["", "Loading…", "$5,000", "5,00", 10**16, True, None, "7"]),
)
BUDGET_IDS = st.sampled_from(["", "", "1", "2", "3", "new", "#REF!", True])
CELLS = st.lists(st.tuples(BUDGET_IDS, DEPARTMENTS, PERIODS, AMOUNTS), max_size=12)


@st.composite
def budgets(draw: st.DrawFn) -> list[Stored]:
    """Budgets of a customer as the database could have them: live ones differ in department and period, all in their ids."""
    made: list[Stored] = []
    live: set[tuple[str, str]] = set()
    for number, external_id in enumerate(
        draw(st.lists(st.sampled_from(["1", "2", "3", "4", None]), max_size=14))
    ):
        department, period = (
            draw(st.sampled_from("ABCDEF")),
            draw(st.sampled_from(["Q1 2025", "Q2 2025", "2026"])),
        )
        key = (fold(department), period_key(period))
        deleted = draw(st.booleans()) if key not in live else True
        used = {budget.external_id for budget in made}
        made.append(
            stored(
                f"b{number}",
                department,
                period,
                draw(st.integers(0, 1000)),
                source_id=draw(st.sampled_from([SOURCE, SOURCE, SOURCE, None, "src_2"])),
                external_id=external_id if external_id not in used else None,
                deleted_at="2025-01-01T00:00:00Z" if deleted else None,
                reserved_minor=draw(st.sampled_from([0, 0, 300])),
                currency=draw(st.sampled_from(["USD", "USD", "USD", "EUR"])),
            )
        )
        if not deleted:
            live.add(key)
    return made


def read(rows: list[tuple[Any, ...]]) -> SheetRows:
    try:
        return read_rows([HEADER, *(list(row) for row in rows)], LAYOUT)
    except SheetProblem:
        return SheetRows([], [], has_limits=False)


def applied(made: SyncPlan, there: list[Stored]) -> list[Stored]:
    """The budgets after a plan."""
    changed = {change.before.id: change.after for change in (*made.updates, *made.revivals)}
    gone = set(ids(made.deletes))
    moved = {budget_id: row for row, budget_id in made.moved}
    after = [changed.get(budget.id, budget) for budget in there]
    after = [
        budget._replace(deleted_at="2025-02-01T00:00:00Z") if budget.id in gone else budget
        for budget in after
    ]
    after = [
        budget._replace(source_row=moved.get(budget.id, budget.source_row)) for budget in after
    ]
    for number, row in enumerate(made.creates):
        after.append(
            Stored(
                f"n{number}",
                SOURCE,
                row.row,
                row.external_id,
                *row[2:8],
                None,
                row.exponent,
                None,
                0,
                0,
                1,
            )
        )
    return after


@settings(max_examples=100, deadline=None)
@given(CELLS, budgets(), st.booleans())
def test_applying_a_plan_gives_the_sheet_and_planning_again_gives_nothing(
    rows: list[tuple[Any, ...]], there: list[Stored], allow: bool
) -> None:
    found = read(rows)
    made = plan(found, there, allow_deletes=allow)
    after = applied(made, there)
    live = [budget for budget in after if budget.deleted_at is None]
    # The database's own rules hold.
    assert len({budget.key for budget in live}) == len(live)
    named = [budget.external_id for budget in after if budget.external_id is not None]
    assert len(set(named)) == len(named)
    # Each row that was not refused is there as it stands in the sheet.
    refused = {error.row for error in made.errors}
    mine = {budget.source_row: budget for budget in live if budget.source_id == SOURCE}
    for row in found.budgets:
        if row.row not in refused:
            assert mine[row.row][4:10] == row[2:8]
            assert row.external_id in (None, mine[row.row].external_id)
    # What is live of the source and has no row is held or kept, or was refused its row.
    on_sheet = {row.row for row in found.budgets} - refused
    waiting = {budget.id for budget in made.held} | {budget.id for budget, _ in made.kept}
    again = plan(found, after, allow_deletes=allow, held_before=set(ids(made.held)))
    assert again.changes_nothing
    assert again.unchanged_count == len(on_sheet)
    assert waiting <= {budget.id for budget in live}


@settings(max_examples=100, deadline=None)
@given(CELLS, budgets(), st.sets(st.sampled_from([f"b{number}" for number in range(14)])))
def test_no_plan_deletes_more_than_the_brake_allows_or_what_it_does_not_own(
    rows: list[tuple[Any, ...]], there: list[Stored], approved: set[str]
) -> None:
    made = plan(read(rows), there, approved_ids=approved)
    owned = {
        budget.id for budget in there if budget.source_id == SOURCE and budget.deleted_at is None
    }
    assert set(ids(made.deletes)) <= owned
    let_go = set(ids(made.deletes)) & approved
    assert len(made.deletes) - len(let_go) <= (len(owned) - len(let_go)) / 2
    touched = [change.before for change in (*made.updates, *made.revivals)]
    assert all(budget.source_id in (SOURCE, None) for budget in touched)
    assert all(change.before.currency == change.after.currency for change in made.updates)


@settings(max_examples=100, deadline=None)
@given(CELLS, budgets(), st.booleans())
def test_no_bad_row_is_applied_or_deletes_what_it_names(
    rows: list[tuple[Any, ...]], there: list[Stored], allow: bool
) -> None:
    found = read(rows)
    made = plan(found, there, allow_deletes=allow)
    bad = {error.row for error in made.errors}
    assert bad >= {error.row for error in found.errors}
    assert not bad & {change.row for change in (*made.updates, *made.revivals)}
    assert not bad & {row.row for row in made.creates}
    for error in made.errors:
        for budget in made.deletes:
            assert error.external_id is None or error.external_id not in (
                budget.external_id,
                budget.id,
            )
            assert (error.department_key, error.period_key) != budget.key


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.lists(
            st.one_of(st.text(max_size=8), st.integers(), st.floats(), st.booleans(), st.none()),
            max_size=6,
        ),
        max_size=8,
    )
)
def test_reading_any_cells_ends_in_rows_or_a_sentence(cells: list[list[Any]]) -> None:
    found = read([tuple(row) for row in cells])
    numbers = [row.row for row in found.budgets] + [error.row for error in found.errors]
    assert len(set(numbers)) == len(numbers)
    assert all(0 <= row.budgeted_minor < 10**15 for row in found.budgets)
    assert all(error.message for error in found.errors)
