"""Plans of a sync run: matching rows to budgets, the deletion limit, and general properties."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.sources import read_grid

from budget_sync.domain.periods import fold, period_key
from budget_sync.sync.holds.model import Answer, Hold, Kind, Reason, Reply, held_budget
from budget_sync.sync.match import StoredBudget
from budget_sync.sync.plan import SyncPlan, make_plan
from budget_sync.sync.reading.grid import DateCell
from budget_sync.sync.reading.result import SheetBudget, SheetProblem, SheetResult
from budget_sync.sync.standard import AMOUNT, BUDGET_ID, CURRENCY, DEPARTMENT, LIMIT, PERIOD

SOURCE = "src_1"
GONE = (Kind.DELETION, Kind.RENAME)
HEADER = [BUDGET_ID, DEPARTMENT, PERIOD, AMOUNT]


def stored(
    budget_id: str, department: str, period: str = "Q1 2025", amount: int = 100, **changes: Any
) -> StoredBudget:
    """A budget of the source; `amount` is in whole dollars."""
    budget = StoredBudget(
        id=budget_id,
        source_id=SOURCE,
        source_row=None,
        deleted_at=None,
        reserved_minor=0,
        committed_minor=0,
        version=1,
        sheet=SheetBudget(
            external_id=None,
            department=department,
            department_key=fold(department),
            period=period,
            period_key=period_key(period),
            currency="USD",
            budgeted_minor=amount * 100,
            limit_minor=None,
            exponent=2,
        ),
    )
    return changed(budget, **changes)


def changed(budget: StoredBudget, **changes: Any) -> StoredBudget:
    """The budget with other values in its own fields, or in those of its sheet."""
    own = {name: changes.pop(name) for name in list(changes) if name in StoredBudget._fields}
    return budget._replace(**own, sheet=budget.sheet._replace(**changes))


def sheet(*rows: list[Any], header: list[Any] = HEADER) -> SheetResult:
    return read_grid([header, *rows])


def plan_for(rows: SheetResult, existing: Iterable[StoredBudget], **options: Any) -> SyncPlan:
    return make_plan(SOURCE, rows, list(existing), **options)


def ids(budgets: Iterable[StoredBudget]) -> list[str]:
    return [budget.id for budget in budgets]


def held_ids(plan: SyncPlan) -> list[str]:
    """The budgets with a held deletion or rename."""
    return [hold.budget_id for hold in plan.held if hold.kind in GONE and hold.budget_id]


def held_deletions(budgets: Iterable[StoredBudget]) -> list[Hold]:
    """What a run holds that finds too many of these budgets missing."""
    return [held_budget(Kind.DELETION, budget, None, Reason.LIMIT) for budget in budgets]


def approvals(budgets: Iterable[StoredBudget]) -> list[Answer]:
    """The approvals of the held deletions of these budgets."""
    return [Answer(hold.question, Reply.APPROVE) for hold in held_deletions(budgets)]


def test_row_with_budget_id_is_matched_by_it() -> None:
    plan = plan_for(
        sheet(["B-1", "Platform", "Q1 2025", 150]), [stored("x", "Engineering", external_id="B-1")]
    )
    (change,) = plan.updates
    assert change.before.id == "x"
    assert change.fields == (
        ("department", "Engineering", "Platform"),
        ("budgetedAmount", 10000, 15000),
    )
    assert not plan.creates + plan.deletes


def test_row_without_id_is_matched_by_department_and_period() -> None:
    plan = plan_for(sheet(["", " ENGINEERING", "2025-Q1", 150]), [stored("x", "Engineering")])
    assert [change.before.id for change in plan.updates] == ["x"]


COMPOSED, APART = "Caf\u00e9", "Cafe\u0301"


@pytest.mark.parametrize(("before", "now"), [(COMPOSED, APART), (APART, COMPOSED)])
def test_accent_in_another_encoding_is_the_same_name(before: str, now: str) -> None:
    plan = plan_for(sheet(["", now, "Q1 2025", 100]), [stored("x", before, committed_minor=1)])
    assert [(change.before.id, change.fields) for change in plan.updates] == [
        ("x", (("department", before, now),))
    ]
    assert not plan.creates + plan.deletes


def test_rows_with_equivalent_names_are_duplicates() -> None:
    plan = plan_for(sheet(["", COMPOSED, "Q1 2025", 100], ["", APART, "Q1 2025", 100]), [])
    assert [error.rows for error in plan.errors] == [(2, 3)]
    assert plan.changes_nothing


# Keys as earlier versions stored them, when accents were not normalized.
OLD_KEY = APART.casefold()


@pytest.mark.parametrize("deleted_at", [None, "2025-01-01T00:00:00Z"])
def test_old_key_is_matched_and_replaced(deleted_at: str | None) -> None:
    existing = stored("x", APART, committed_minor=1, department_key=OLD_KEY, deleted_at=deleted_at)
    rows = sheet(["", existing.sheet.department, existing.sheet.period, 100])
    plan = plan_for(rows, [existing])
    (change,) = plan.updates + plan.revivals
    assert (change.before.id, change.fields, change.after.sheet.department_key) == (
        "x",
        (),
        COMPOSED.casefold(),
    )
    assert not plan.creates + plan.deletes
    after = [budget._replace(source_row=2) for budget in applied(plan, [existing])]
    assert plan_for(rows, after).changes_nothing


@pytest.mark.parametrize("order", [1, -1])
def test_budgets_with_equivalent_old_keys_are_kept_together(
    order: int,
) -> None:
    existing = [stored("x", COMPOSED), stored("y", APART, department_key=OLD_KEY)][::order]
    plan = plan_for(sheet(["", COMPOSED, "Q1 2025", 100], ["", APART, "Q1 2025", 100]), existing)
    assert ([each.budget.id for each in plan.kept], plan.changes_nothing) == (
        ["x", "y"][::order],
        True,
    )
    for name in (COMPOSED, APART):
        plan = plan_for(sheet(["", name, "Q1 2025", 100]), existing)
        assert (ids(plan.deletes), [change.before.id for change in plan.updates]) == (
            ["y"],
            ["x"] if name == APART else [],
        )


def test_row_that_gains_an_id_keeps_its_budget() -> None:
    plan = plan_for(sheet(["B-1", "Engineering", "Q1 2025", 100]), [stored("x", "Engineering")])
    (change,) = plan.updates
    assert (change.before.id, change.fields) == ("x", (("externalId", None, "B-1"),))


def test_row_that_loses_its_id_keeps_budget_and_id() -> None:
    plan = plan_for(
        sheet(["", "Engineering", "Q1 2025", 100]), [stored("x", "Engineering", external_id="B-1")]
    )
    assert (plan.unchanged_count, plan.updates) == (1, [])


def test_row_with_a_new_id_keeps_its_budget() -> None:
    plan = plan_for(
        sheet(["B-9", "Engineering", "Q1 2025", 100]),
        [stored("x", "Engineering", external_id="B-1", reserved_minor=5)],
    )
    assert [change.fields for change in plan.updates] == [(("externalId", "B-1", "B-9"),)]


def test_row_with_a_new_period_moves_its_budget() -> None:
    plan = plan_for(
        sheet(["B-1", "Engineering", "Q2 2025", 100]),
        [stored("x", "Engineering", external_id="B-1")],
    )
    assert [change.fields for change in plan.updates] == [(("fiscalPeriod", "Q1 2025", "Q2 2025"),)]


def test_row_with_a_date_as_id_keeps_all_budgets_it_may_mean() -> None:
    existing = [
        stored("x", "Ops", external_id="45659"),
        stored("y", "Sales", external_id="B-2"),
        stored("z", "Legal", external_id="B-3"),
    ]
    plan = plan_for(
        sheet([DateCell(45659, "1-2"), "Sales", "Q1 2025", 100]), existing, allow_deletes=True
    )
    assert ([each.budget.id for each in plan.kept], ids(plan.deletes)) == (["x", "y"], ["z"])


def test_row_with_a_date_as_department_keeps_budgets_of_period() -> None:
    existing = [stored("x", "45720"), stored("y", "3-4"), stored("z", "45720", "Q2 2025")]
    plan = plan_for(
        sheet(["", DateCell(45720, "3-4"), "Q1 2025", 100]), existing, allow_deletes=True
    )
    assert ([each.budget.id for each in plan.kept], ids(plan.deletes)) == (["x", "y"], ["z"])


def test_row_with_a_date_as_period_keeps_department_budgets() -> None:
    existing = [
        stored("x", "Ops", "45720"),
        stored("y", "Ops", "Mar 2025"),
        stored("z", "Sales", "45720"),
    ]
    plan = plan_for(
        sheet(["", "Ops", DateCell(45720, "Mar-25"), 100]), existing, allow_deletes=True
    )
    assert ([each.budget.id for each in plan.kept], ids(plan.deletes)) == (["x", "y"], ["z"])


def test_row_that_only_moved_in_the_sheet_is_unchanged() -> None:
    existing = [stored("x", "Engineering", source_row=2), stored("y", "Sales", source_row=2)]
    plan = plan_for(
        sheet(["", "Engineering", "Q1 2025", 100], ["", "Sales", "Q1 2025", 100]), existing
    )
    assert (plan.unchanged_count, plan.updates, plan.moved) == (2, [], [(3, "y")])
    assert not plan.changes_nothing


def test_new_row_may_take_the_key_of_a_renamed_budget() -> None:
    plan = plan_for(
        sheet(["1", "B", "Q1 2025", 100], ["", "A", "Q1 2025", 7]),
        [stored("x", "A", external_id="1")],
    )
    assert (
        [change.after.sheet.department for change in plan.updates],
        [row.budget.department for row in plan.creates],
    ) == (["B"], ["A"])
    assert plan.errors == []


def test_new_row_may_not_take_the_key_of_a_rejected_row() -> None:
    existing = stored("x", "A", external_id="1", committed_minor=1)
    plan = plan_for(sheet(["1", "A", "Q2 2025", 100], ["", "A", "Q1 2025", 7]), [existing])
    assert [(error.row, error.message[:44]) for error in plan.errors] == [
        (2, "money is reserved or committed on A, Q1 2025"),
        (3, "A, Q1 2025 is still budget x, which this syn"),
    ]
    assert plan.changes_nothing


def test_two_budgets_can_swap_departments() -> None:
    existing = [
        stored("x", "Engineering", external_id="B-1"),
        stored("y", "Sales", external_id="B-2"),
    ]
    plan = plan_for(
        sheet(["B-1", "Sales", "Q1 2025", 100], ["B-2", "Engineering", "Q1 2025", 100]), existing
    )
    assert [change.after.sheet.department for change in plan.updates] == ["Sales", "Engineering"]
    assert plan.errors == []


def test_budget_set_by_hand_is_adopted_and_not_deleted_before() -> None:
    by_hand = stored("x", "Engineering", source_id=None)
    assert plan_for(sheet(["", "Sales", "Q1 2025", 1]), [by_hand]).deletes == []
    (change,) = plan_for(sheet(["", "Engineering", "Q1 2025", 100]), [by_hand]).updates
    assert change.fields == (("sourceId", None, SOURCE),)


def test_budget_set_by_hand_is_matched_by_its_own_id() -> None:
    plan = plan_for(
        sheet(["budget-123", "Research", "Q1 2025", 100]),
        [stored("budget-123", "Engineering", source_id=None)],
    )
    assert [change.before.id for change in plan.updates] == ["budget-123"]


@pytest.mark.parametrize(
    "row", [["", "Engineering", "Q1 2025", 1], ["B-1", "Anything", "Q2 2025", 1]]
)
def test_budget_of_another_source_is_a_row_error(row: list[Any]) -> None:
    plan = plan_for(sheet(row), [stored("x", "Engineering", source_id="src_2", external_id="B-1")])
    assert "belongs to source src_2" in plan.errors[0].message
    assert plan.changes_nothing


def test_currency_of_a_budget_never_changes() -> None:
    rows = sheet(["", "Engineering", "Q1 2025", 1, "eur"], header=[*HEADER, CURRENCY])
    plan = plan_for(rows, [stored("x", "Engineering")])
    assert "is in USD and cannot become EUR" in plan.errors[0].message
    assert plan.changes_nothing


@pytest.mark.parametrize("deleted_at", [None, "2025-01-01T00:00:00Z"])
@pytest.mark.parametrize("row_id", ["", "B-1"])
def test_row_with_other_decimals_than_its_budget_is_rejected(
    deleted_at: str | None, row_id: str
) -> None:
    plan = plan_for(
        sheet([row_id, "Engineering", "Q1 2025", 5000]),
        [stored("x", "Engineering", external_id="B-1", exponent=0, deleted_at=deleted_at)],
    )
    (error,) = plan.errors
    assert error.message == (
        "Engineering, Q1 2025 (budget x) has USD with 0 decimals, which now has 2: "
        "it stays as it is until the operator of this service fixes it"
    )
    assert plan.changes_nothing


def test_budget_with_money_used_cannot_change_its_period() -> None:
    existing = stored("x", "Engineering", external_id="B-1", committed_minor=1)
    plan = plan_for(sheet(["B-1", "Engineering", "Q2 2025", 100]), [existing])
    assert "add a row for Q2 2025" in plan.errors[0].message
    assert plan.changes_nothing
    assert [
        change.after.sheet.period
        for change in plan_for(
            sheet(["B-1", "Engineering", "Q2 2025", 100]), [existing._replace(committed_minor=0)]
        ).updates
    ] == ["Q2 2025"]


def test_budget_back_in_the_sheet_is_revived_with_its_id() -> None:
    gone = [
        stored("old", "Engineering", deleted_at="2025-01-01T00:00:00Z"),
        stored("newer", "Engineering", deleted_at="2025-01-02T00:00:00Z"),
        stored("theirs", "Engineering", deleted_at="2025-01-03T00:00:00Z", source_id="src_2"),
    ]
    (change,) = plan_for(sheet(["", "Engineering", "Q1 2025", 120]), gone).revivals
    assert (change.before.id, change.is_revival) == ("newer", True)
    (change,) = plan_for(
        sheet(["B-1", "Elsewhere", "Q3 2025", 1]),
        [stored("z", "Sales", external_id="B-1", deleted_at="2025-01-01T00:00:00Z")],
    ).revivals
    assert change.before.id == "z"


@pytest.mark.parametrize(
    ("row_id", "its_id", "is_revived"),
    [("", None, True), ("", "1", True), ("1", None, True), ("1", "1", True), ("1", "2", False)],
)
def test_row_revives_a_budget_unless_their_ids_differ(
    row_id: str, its_id: str | None, is_revived: bool
) -> None:
    gone = stored("x", "Engineering", external_id=its_id, deleted_at="2025-01-01T00:00:00Z")
    plan = plan_for(sheet([row_id, "Engineering", "Q1 2025", 100]), [gone])
    assert (len(plan.revivals), len(plan.creates)) == ((1, 0) if is_revived else (0, 1))


DELETED = "2025-01-02T00:00:00Z"


def test_deleted_budget_without_a_source_is_revived() -> None:
    deleted = stored("x", "Engineering", source_id=None, deleted_at=DELETED)
    plan = plan_for(sheet(["", "Engineering", "Q1 2025", 100]), [deleted])
    assert [change.before.id for change in plan.revivals] == ["x"]


def spent_elsewhere(**changes: Any) -> StoredBudget:
    """A used budget with a row that was removed from the sheet of another source."""
    existing = stored(
        "old",
        "Mkt",
        source_id="src_2",
        deleted_at=DELETED,
        reserved_minor=2500,
        committed_minor=7500,
    )
    return changed(existing, **changes)


@pytest.mark.parametrize("row_id", ["", "B-1"])
@pytest.mark.parametrize("its_id", [None, "A-1"])
def test_row_moved_from_another_sheet_gets_no_fresh_money(row_id: str, its_id: str | None) -> None:
    plan = plan_for(sheet([row_id, " MKT", "2025-Q1", 100]), [spent_elsewhere(external_id=its_id)])
    (error,) = plan.errors
    assert error.message == (
        "$100 is reserved or committed on Mkt, Q1 2025 (budget old), whose row was removed from "
        "the sheet of source src_2: put it back there, or create the new budget with "
        "`flask set-budget` to start with nothing used, and this row will take it over"
    )
    assert plan.changes_nothing


def test_used_amount_is_shown_with_its_own_decimals() -> None:
    (error,) = plan_for(sheet(["", "Mkt", "Q1 2025", 100]), [spent_elsewhere(exponent=1)]).errors
    assert error.message.startswith("$1,000 is reserved or committed")


def test_error_names_the_used_budget_deleted_last() -> None:
    left = [spent_elsewhere(id="a"), spent_elsewhere(id="b", deleted_at="2025-01-01T00:00:00Z")]
    for existing in (left, left[::-1]):
        (error,) = plan_for(sheet(["", "Mkt", "Q1 2025", 100]), existing).errors
        assert "(budget a)" in error.message


def test_error_names_one_of_two_used_budgets_consistently() -> None:
    left = [spent_elsewhere(id="a"), spent_elsewhere(id="b")]
    for existing in (left, left[::-1]):
        (error,) = plan_for(sheet(["", "Mkt", "Q1 2025", 100]), existing).errors
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
def test_row_is_new_if_no_matching_deleted_budget_is_used(
    changes: dict[str, Any],
) -> None:
    plan = plan_for(sheet(["", "Mkt", "Q1 2025", 100]), [spent_elsewhere(**changes)])
    assert (len(plan.creates), plan.errors) == (1, [])


@pytest.mark.parametrize(
    ("deleted_at", "comes_back"),
    [("2025-01-01T00:00:00Z", False), (DELETED, False), ("2025-01-03T00:00:00Z", True)],
)
@pytest.mark.parametrize("row_id", ["", "B-1"])
def test_row_back_from_another_sheet_gets_no_fresh_money(
    deleted_at: str, comes_back: bool, row_id: str
) -> None:
    mine = stored("mine", "Mkt", external_id="B-1", deleted_at=deleted_at)
    plan = plan_for(sheet([row_id, "Mkt", "Q1 2025", 100]), [spent_elsewhere(), mine])
    assert ([change.before.id for change in plan.revivals], len(plan.errors)) == (
        (["mine"], 0) if comes_back else ([], 1)
    )


def test_new_id_gives_no_fresh_money_after_source_removal() -> None:
    existing = [spent_elsewhere(source_id=None, external_id="A-1")]
    plan = plan_for(sheet(["B-1", "Mkt", "Q1 2025", 100]), existing)
    advice = "whose source was removed: write A-1 in the Budget ID column to revive that budget, or"
    assert advice + " create" in plan.errors[0].message
    assert plan.changes_nothing
    assert [
        change.before.id
        for change in plan_for(sheet(["A-1", "Mkt", "Q1 2025", 100]), existing).revivals
    ] == ["old"]


def test_error_names_the_source_of_a_deleted_budget() -> None:
    plan = plan_for(
        sheet(["A-1", "Mkt", "Q1 2025", 100]),
        [spent_elsewhere(external_id="A-1", reserved_minor=0, committed_minor=0)],
    )
    assert (
        "belongs to source src_2, and was removed from that sheet: put it back there, or give this "
        "row another Budget ID" in plan.errors[0].message
    )
    assert plan.changes_nothing


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_revived_budget_does_not_depend_on_read_order(
    order: tuple[str, str],
) -> None:
    gone = [stored(name, "Engineering", deleted_at="2025-01-01T00:00:00Z") for name in order]
    assert [
        change.before.id
        for change in plan_for(sheet(["", "Engineering", "Q1 2025", 100]), gone).revivals
    ] == ["b"]


def test_only_a_sheet_with_limits_sets_limits() -> None:
    existing = [stored("x", "Engineering", limit_minor=500)]
    assert plan_for(sheet(["", "Engineering", "Q1 2025", 100]), existing).unchanged_count == 1
    with_limits = [*HEADER, LIMIT]
    (change,) = plan_for(
        sheet(["", "Engineering", "Q1 2025", 100, ""], header=with_limits), existing
    ).updates
    assert change.fields == (("autoApproveLimit", 500, None),)
    (change,) = plan_for(
        sheet(["", "Engineering", "Q1 2025", 100, 0], header=with_limits), existing
    ).updates
    assert change.fields == (("autoApproveLimit", 500, 0),)
    assert (
        plan_for(
            sheet(["", "Engineering", "Q1 2025", 100, 5], header=with_limits), existing
        ).unchanged_count
        == 1
    )


def many(count: int) -> list[StoredBudget]:
    return [stored(f"b{number}", f"Department {number}") for number in range(count)]


def without(existing: list[StoredBudget], gone: int) -> SheetResult:
    return sheet(
        *(["", budget.sheet.department, budget.sheet.period, 100] for budget in existing[gone:])
    )


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
def test_deletion_limit_is_half_or_ten_and_a_tenth(live: int, gone: int, held: bool) -> None:
    existing = many(live)
    plan = plan_for(without(existing, gone), existing)
    assert (len(plan.deletes), len(plan.held)) == ((0, gone) if held else (gone, 0))


def test_allow_deletes_switches_the_deletion_limit_off() -> None:
    existing = many(10)
    assert len(plan_for(without(existing, 9), existing, allow_deletes=True).deletes) == 9


def test_approval_covers_only_the_listed_budgets() -> None:
    existing = many(10)
    plan = plan_for(without(existing, 9), existing, answers=approvals(existing[:2]))
    assert (ids(plan.deletes), len(plan.held)) == (["b0", "b1"], 7)
    assert (
        len(plan_for(without(existing, 6), existing, answers=approvals(existing[:2])).deletes) == 6
    )


def test_approved_deletions_do_not_raise_the_limit_for_others() -> None:
    existing = many(20)
    approved = existing[5:]
    answered = {"previous": held_deletions(approved), "answers": approvals(approved)}
    only_first = sheet(["", existing[0].sheet.department, "Q1 2025", 100])
    plan = plan_for(only_first, existing, **answered)
    assert (ids(plan.deletes), held_ids(plan), plan.live_count) == (
        ids(approved),
        ids(existing[1:5]),
        5,
    )
    # An approved budget that is back in the sheet stays, and counts as a live budget.
    plan = plan_for(
        sheet(*(["", budget.sheet.department, "Q1 2025", 100] for budget in existing[4:])),
        existing,
        **answered,
    )
    assert (ids(plan.deletes), plan.held) == (ids(existing[:4]), [])


def test_held_deletions_stay_held_when_budgets_are_added() -> None:
    existing = many(4)
    swapped = sheet(*(["", f"New {number}", "Q1 2025", 1] for number in range(20)))
    first = plan_for(swapped, existing)
    assert (len(held_ids(first)), len(first.held), first.creates) == (4, 24, [])
    # Later, the new budgets are so many that the limit would no longer be exceeded.
    after = [*applied(first, existing), *(stored(f"o{n}", f"Other {n}") for n in range(20))]
    swapped = sheet(
        *(["", f"New {number}", "Q1 2025", 1] for number in range(20)),
        *(["", f"Other {number}", "Q1 2025", 100] for number in range(20)),
    )
    again = plan_for(swapped, after, previous=first.held)
    assert (len(held_ids(again)), again.creates) == (4, [])
    assert len(plan_for(swapped, after).deletes) == 4
    assert ids(
        plan_for(swapped, after, previous=first.held, answers=approvals(after[:1])).deletes
    ) == ["b0"]
    assert len(plan_for(swapped, after, previous=first.held, allow_deletes=True).deletes) == 4


def test_held_deletions_count_toward_the_limit() -> None:
    existing = many(20)
    plan = plan_for(without(existing, 11), existing, previous=held_deletions(existing[:8]))
    assert (plan.deletes, len(plan.held)) == ([], 11)


def test_bad_row_keeps_its_budget_with_deletes_allowed() -> None:
    existing = [
        stored("x", "Engineering", external_id="B-1"),
        stored("y", "Sales", external_id="B-2"),
        stored("z", "Legal", external_id="B-3"),
    ]
    rows = sheet(["B-1", "#REF!", "#REF!", 100], ["", "Sales", "Q1 2025", "#REF!"])
    plan = plan_for(rows, existing, allow_deletes=True)
    assert ids(plan.deletes) == ["z"]
    assert [(each.budget.id, each.reason) for each in plan.kept] == [
        ("x", "row 2 means it, and cannot be used"),
        ("y", "row 3 means it, and cannot be used"),
    ]


def test_bad_row_may_use_the_internal_id_of_a_budget() -> None:
    existing = [stored("b0", "A"), stored("b1", "B"), *many(9)[2:]]
    plan = plan_for(
        sheet(
            ["b0", "#REF!", "#REF!", 1],
            *(["", budget.sheet.department, budget.sheet.period, 100] for budget in existing[2:]),
        ),
        existing,
    )
    assert ([(each.budget.id, each.reason) for each in plan.kept], ids(plan.deletes)) == (
        [("b0", "row 2 means it, and cannot be used")],
        ["b1"],
    )


@pytest.mark.parametrize(
    ("row", "kept"),
    [
        (["", "#REF!", "#REF!", 1], ["a1", "a2", "c1"]),
        (["", "A", "#REF!", 1], ["a1", "a2"]),
        (["", "#REF!", "Q1 2025", 1], ["a1", "c1"]),
        (["", "A", "Q1 2025", ""], ["a1"]),
        (["new", "#REF!", "Q2 2025", 1], ["a2"]),
        (["#REF!", "New", "Q1 2025", 1], ["a1", "a2"]),
        (["#REF!", "B", "Q1 2025", 1], ["c1"]),
        (["new", "New", "Q9 2025", ""], []),
    ],
)
def test_bad_row_keeps_every_budget_that_it_may_mean(row: list[Any], kept: list[str]) -> None:
    existing = [
        stored("a1", "A", external_id="1"),
        stored("a2", "A", "Q2 2025", external_id="2"),
        stored("c1", "B"),
        *many(9),
    ]
    rows = sheet(
        row, *(["", budget.sheet.department, budget.sheet.period, 100] for budget in existing[3:])
    )
    plan = plan_for(rows, existing)
    assert [each.budget.id for each in plan.kept] == kept
    assert ids(plan.deletes) == [name for name in ("a1", "a2", "c1") if name not in kept]


def test_row_may_not_take_the_key_of_another_sources_budget() -> None:
    existing = [
        stored("x", "Engineering", external_id="B-1"),
        stored("theirs", "Sales", source_id="src_2"),
    ]
    plan = plan_for(sheet(["B-1", "Sales", "Q1 2025", 5]), existing)
    assert "Sales, Q1 2025 is still budget theirs" in plan.errors[0].message
    assert plan.changes_nothing


@pytest.mark.parametrize(
    "row", [["B-1", "Sales", "Q1 2025", 5], ["B-1", "Engineering", "Q2 2025", 5]]
)
@pytest.mark.parametrize("deleted_at", [None, "2025-01-01T00:00:00Z"])
def test_move_or_revival_may_not_take_the_key_of_a_budget(
    row: list[Any], deleted_at: str | None
) -> None:
    existing = [
        stored("x", "Engineering", external_id="B-1", deleted_at=deleted_at),
        stored("theirs", "Sales", source_id="src_2"),
        stored("too", "Engineering", "Q2 2025", source_id="src_2"),
    ]
    plan = plan_for(sheet(row), existing)
    assert "which this sync run does not move or delete" in plan.errors[0].message
    assert plan.changes_nothing


def test_revival_is_rejected_if_its_key_is_in_use() -> None:
    existing = [
        stored("x", "Engineering", external_id="B-1", deleted_at="2025-01-01T00:00:00Z"),
        stored("theirs", "Engineering", source_id="src_2"),
    ]
    plan = plan_for(sheet(["B-1", "Engineering", "Q1 2025", 5]), existing)
    assert "Engineering, Q1 2025 is still budget theirs" in plan.errors[0].message
    assert plan.changes_nothing


def test_rejected_move_rejects_the_move_into_its_key() -> None:
    existing = [
        stored("x", "A", external_id="1"),
        stored("y", "B", external_id="2"),
        stored("theirs", "C", source_id="src_2"),
    ]
    plan = plan_for(sheet(["1", "B", "Q1 2025", 100], ["2", "C", "Q1 2025", 100]), existing)
    assert [error.row for error in plan.errors] == [2, 3]
    assert plan.changes_nothing


def test_good_row_may_not_take_the_budget_of_a_bad_row() -> None:
    plan = plan_for(
        sheet(["", "A", "Q1 2025", 7], ["1", "A", "#REF!", 100]),
        [stored("x", "A", external_id="1")],
    )
    assert [error.row for error in plan.errors] == [2, 3]
    assert plan.changes_nothing


def test_good_row_does_not_revive_the_budget_of_a_bad_row() -> None:
    plan = plan_for(
        sheet(["", "A", "Q1 2025", 7], ["1", "B", "Q1 2025", ""]),
        [stored("x", "A", external_id="1", deleted_at="2025-01-01T00:00:00Z")],
    )
    assert ([row.number for row in plan.creates], plan.revivals) == ([2], [])


@pytest.mark.parametrize(
    ("source_id", "amount", "is_overdrawn"),
    [(SOURCE, 71, True), (SOURCE, 72, False), (SOURCE, 73, False), (None, 72, False)],
)
def test_cut_below_the_used_amount_is_applied_and_counted(
    source_id: str | None, amount: int, is_overdrawn: bool
) -> None:
    plan = plan_for(
        sheet(["", "Engineering", "Q1 2025", amount]),
        [
            stored(
                "x", "Engineering", source_id=source_id, reserved_minor=5000, committed_minor=2200
            )
        ],
    )
    assert (plan.overdrawn_count, plan.updates[0].is_overdrawn) == (is_overdrawn, is_overdrawn)


def test_overdrawn_count_excludes_deleted_budgets() -> None:
    existing = [stored(name, name, reserved_minor=10001) for name in "ABCD"]
    plan = plan_for(without(existing, 1), existing)
    assert (ids(plan.deletes), plan.unchanged_count, plan.overdrawn_count) == (["A"], 3, 3)


# --- properties ---

DEPARTMENTS = st.sampled_from(["A", "B", "C", " a ", "#REF!", "", "=1+1", "D"])
PERIODS = st.sampled_from(["Q1 2025", "2025-Q1", "Q2 2025", "FY2025", "", "#N/A", 45658])
AMOUNTS = st.one_of(
    st.integers(-5, 10**6),
    st.sampled_from(["", "Loading…", "$5,000", "5,00", 10**16, True, None, "7"]),
)
BUDGET_IDS = st.sampled_from(["", "", "1", "2", "3", "new", "#REF!", True])
CELLS = st.lists(st.tuples(BUDGET_IDS, DEPARTMENTS, PERIODS, AMOUNTS), max_size=12)


@st.composite
def budgets(draw: st.DrawFn) -> list[StoredBudget]:
    """Budgets that the database allows: keys of live ones and all ids are unique."""
    drawn: list[StoredBudget] = []
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
        used = {budget.sheet.external_id for budget in drawn}
        drawn.append(
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
    return drawn


def read(rows: list[tuple[Any, ...]]) -> SheetResult:
    """The rows of a sheet; none if the sheet cannot be read."""
    try:
        return read_grid([HEADER, *(list(row) for row in rows)])
    except SheetProblem:
        return SheetResult([], [], has_limits=False)


def applied(plan: SyncPlan, existing: list[StoredBudget]) -> list[StoredBudget]:
    """The budgets after a plan."""
    changes = {change.before.id: change.after for change in (*plan.updates, *plan.revivals)}
    gone = set(ids(plan.deletes))
    moved = {budget_id: number for number, budget_id in plan.moved}
    after = [changes.get(budget.id, budget) for budget in existing]
    after = [
        budget._replace(deleted_at="2025-02-01T00:00:00Z") if budget.id in gone else budget
        for budget in after
    ]
    after = [
        budget._replace(source_row=moved.get(budget.id, budget.source_row)) for budget in after
    ]
    for number, row in enumerate(plan.creates):
        after.append(
            StoredBudget(
                id=f"n{number}",
                source_id=SOURCE,
                source_row=row.number,
                deleted_at=None,
                reserved_minor=0,
                committed_minor=0,
                version=1,
                sheet=row.budget._replace(limit_minor=None),
            )
        )
    return after


@settings(max_examples=100, deadline=None)
@given(CELLS, budgets(), st.booleans())
def test_applying_a_plan_gives_the_sheet_and_is_idempotent(
    rows: list[tuple[Any, ...]], existing: list[StoredBudget], allow: bool
) -> None:
    found = read(rows)
    plan = plan_for(found, existing, allow_deletes=allow)
    after = applied(plan, existing)
    live = [budget for budget in after if budget.deleted_at is None]
    # The database's own rules hold.
    assert len({budget.key for budget in live}) == len(live)
    external_ids = [
        budget.sheet.external_id for budget in after if budget.sheet.external_id is not None
    ]
    assert len(set(external_ids)) == len(external_ids)
    # Each row that was not rejected and is not held has a budget as the sheet describes it, or with
    # its old amount if the new one is held.
    rejected = {error.row for error in plan.errors} | {
        hold.new.row for hold in plan.held if hold.new
    }
    old_amounts = {hold.budget_id: hold.old_minor for hold in plan.held if hold.kind is Kind.AMOUNT}
    mine = {budget.source_row: budget for budget in live if budget.source_id == SOURCE}
    for row in found.rows:
        if row.number not in rejected:
            budget_id, budget = mine[row.number].id, mine[row.number].sheet
            assert row.budget.external_id in (None, budget.external_id)
            assert budget.budgeted_minor == old_amounts.get(budget_id, row.budget.budgeted_minor)
            assert row.budget == budget._replace(
                external_id=row.budget.external_id,
                limit_minor=row.budget.limit_minor,
                budgeted_minor=row.budget.budgeted_minor,
            )
    # A live budget of the source without a row is held or kept, or its row was rejected.
    on_sheet = {row.number for row in found.rows} - rejected
    waiting = set(held_ids(plan)) | {each.budget.id for each in plan.kept}
    again = plan_for(found, after, allow_deletes=allow, previous=plan.held)
    assert again.changes_nothing
    assert again.unchanged_count == len(on_sheet)
    assert [hold.question for hold in again.held] == [hold.question for hold in plan.held]
    assert waiting <= {budget.id for budget in live}


@settings(max_examples=100, deadline=None)
@given(CELLS, budgets(), st.sets(st.sampled_from([f"b{number}" for number in range(14)])))
def test_no_plan_exceeds_the_limit_or_deletes_foreign_budgets(
    rows: list[tuple[Any, ...]], existing: list[StoredBudget], approved: set[str]
) -> None:
    answers = approvals(budget for budget in existing if budget.id in approved)
    plan = plan_for(read(rows), existing, answers=answers)
    owned = {
        budget.id for budget in existing if budget.source_id == SOURCE and budget.deleted_at is None
    }
    assert set(ids(plan.deletes)) <= owned
    approved_deletes = set(ids(plan.deletes)) & approved
    assert len(plan.deletes) - len(approved_deletes) <= (len(owned) - len(approved_deletes)) / 2
    touched = [change.before for change in (*plan.updates, *plan.revivals)]
    assert all(budget.source_id in (SOURCE, None) for budget in touched)
    assert all(
        change.before.sheet.currency == change.after.sheet.currency for change in plan.updates
    )


@settings(max_examples=100, deadline=None)
@given(CELLS, budgets(), st.booleans())
def test_no_bad_row_is_applied_or_deletes_its_budget(
    rows: list[tuple[Any, ...]], existing: list[StoredBudget], allow: bool
) -> None:
    found = read(rows)
    plan = plan_for(found, existing, allow_deletes=allow)
    bad = {error.row for error in plan.errors}
    assert bad >= {error.row for error in found.errors}
    assert not bad & {change.row for change in (*plan.updates, *plan.revivals)}
    assert not bad & {row.number for row in plan.creates}
    for error in plan.errors:
        for budget in plan.deletes:
            assert error.external_id is None or error.external_id not in (
                budget.sheet.external_id,
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
def test_reading_any_cells_gives_rows_or_errors(cells: list[list[Any]]) -> None:
    found = read([tuple(row) for row in cells])
    numbers = [row.number for row in found.rows] + [error.row for error in found.errors]
    assert len(set(numbers)) == len(numbers)
    assert all(0 <= row.budget.budgeted_minor < 10**15 for row in found.rows)
    assert all(error.message for error in found.errors)
