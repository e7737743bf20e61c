"""Holds: suspected renames, deletions over the limit, misread amounts, and the answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from budget_sync.domain.names import fold
from budget_sync.domain.periods import FiscalYear, period_key
from budget_sync.sync.holds import Answer, Hold, Kind, Reason, Reply
from budget_sync.sync.holds.amounts import AmountPair, bulk_reason, is_hundredfold
from budget_sync.sync.holds.likeness import Comparer, bare
from budget_sync.sync.match import StoredBudget
from budget_sync.sync.plan import SyncPlan, make_plan
from budget_sync.sync.reading.result import (
    Identity,
    RowError,
    SheetBudget,
    SheetResult,
    SheetRow,
)
from budget_sync.sync.refresh import refresh

SOURCE = "src_1"
Q1, Q2 = "Q1 2026", "Q2 2026"


def described(
    department: str, period: str = Q1, amount: float = 100, external_id: str | None = None
) -> SheetBudget:
    """A budget in a sheet; `amount` is in whole dollars."""
    return SheetBudget(
        external_id=external_id,
        department=department,
        department_key=fold(department),
        period=period,
        period_key=period_key(period),
        currency="USD",
        budgeted_minor=round(amount * 100),
        limit_minor=None,
        exponent=2,
    )


def budget(
    budget_id: str,
    department: str,
    period: str = Q1,
    amount: float = 100,
    used: float = 0,
    **changes: Any,
) -> StoredBudget:
    """A live budget of the source, with `used` dollars committed."""
    stored = StoredBudget(
        budget_id,
        SOURCE,
        None,
        None,
        0,
        round(used * 100),
        1,
        described(department, period, amount),
    )
    own = {name: value for name, value in changes.items() if name in StoredBudget._fields}
    of_sheet = {name: value for name, value in changes.items() if name not in own}
    return stored._replace(**own, sheet=stored.sheet._replace(**of_sheet))


def sheet(*rows: SheetBudget | Sequence[Any], errors: Iterable[RowError] = ()) -> SheetResult:
    """A sheet with these budgets, from row 2 on."""
    budgets = [row if isinstance(row, SheetBudget) else described(*row) for row in rows]
    return SheetResult(
        [SheetRow(number, each) for number, each in enumerate(budgets, 2)],
        list(errors),
        has_limits=False,
    )


#: Live budgets that are in every sheet, so that one deletion is never over the limit.
OTHERS = [budget(f"o{number}", f"Others {number}", amount=7_000 + number) for number in range(20)]
OTHER_ROWS = [each.sheet for each in OTHERS]


def plan(
    existing: Iterable[StoredBudget], rows: Iterable[SheetBudget | Sequence[Any]], **options: Any
) -> SyncPlan:
    """The plan for these budgets and rows, and the others."""
    return make_plan(SOURCE, sheet(*rows, *OTHER_ROWS), [*existing, *OTHERS], **options)


def kinds(found: SyncPlan) -> list[str]:
    """The held changes, by kind."""
    return sorted(hold.kind.value for hold in found.held)


def outcome(found: SyncPlan) -> str:
    """The result for one budget that is gone and one that is new."""
    if kinds(found) == ["rename"]:
        assert not found.deletes
        assert not found.creates
        return "held"
    assert (len(found.deletes), len(found.creates), found.held) == (1, 1, [])
    return "applied"


def replies(holds: Iterable[Hold], reply: Reply) -> list[Answer]:
    """The same answer to each hold."""
    return [Answer(hold.question, reply, number) for number, hold in enumerate(holds)]


# Renames.


@pytest.mark.parametrize(
    ("old", "new", "used", "expected"),
    [
        # Names alike and equal amounts.
        (("Lamp - North", Q1, 100), ("Lampe North", Q1, 100), 95, "held"),
        (("Lamp - North", Q1, 100), ("Lampe North", Q1, 100), 0, "held"),
        # Names alike and other amounts: only with money.
        (("Lamp - North", Q1, 100), ("Lampe North", Q1, 200), 95, "held"),
        (("Lamp - North", Q1, 100), ("Lampe North", Q1, 200), 0, "applied"),
        # Equal but for punctuation and zeros: always.
        (("0410", Q1, 100), ("410", Q1, 900), 0, "held"),
        (("R&D", Q1, 100), ("R. D.", Q1, 900), 0, "held"),
        (("Dept 007", Q1, 100), ("dept-7", Q1, 900), 0, "held"),
        # One begins with the other, with at least 4 characters.
        (("Ops of everything", Q1, 100), ("Ops", Q1, 200), 5, "applied"),
        (("Lamp of everything", Q1, 100), ("Lamp", Q1, 200), 5, "held"),
        (("Lamp", Q1, 100), ("Lamp of everything", Q1, 200), 5, "held"),
        # Other names: equal amounts, or amounts within 10%, with money.
        (("Lamp", Q1, 100), ("Zither", Q1, 100), 5, "held"),
        (("Lamp", Q1, 100), ("Zither", Q1, 100), 0, "applied"),
        (("Lamp", Q1, 100), ("Zither", Q1, 110), 5, "held"),
        (("Lamp", Q1, 100), ("Zither", Q1, 90), 5, "held"),
        (("Lamp", Q1, 100), ("Zither", Q1, 110.01), 5, "applied"),
        (("Lamp", Q1, 100), ("Zither", Q1, 89.99), 5, "applied"),
        # Another period of the same year, with money and a near amount.
        (("Lamp", Q1, 100), ("Lamp", Q2, 110), 5, "held"),
        (("Lamp", Q1, 100), ("Lamp", Q2, 110.01), 5, "applied"),
        (("Lamp", Q1, 100), ("Lamp", Q2, 100), 0, "applied"),
        (("Lamp", Q1, 100), ("Lampe", Q2, 100), 5, "applied"),
        # A later year is not a rename.
        (("Lamp", Q1, 100), ("Lamp", "Q1 2027", 100), 5, "applied"),
        (("Lamp", "FY2026", 100), ("Lamp", "FY2027", 100), 5, "applied"),
        (("Lamp", "FY2026", 100), ("Lamp", Q1, 100), 5, "held"),
        # No amount equals no amount, but that says nothing.
        (("Lamp", Q1, 0), ("Zither", Q1, 0), 0, "applied"),
    ],
)
def test_rename_is_held_if_money_or_name_says_so(
    old: tuple[str, str, float], new: tuple[str, str, float], used: float, expected: str
) -> None:
    assert outcome(plan([budget("x", *old, used=used)], [new])) == expected


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        # 2 * 6 / 16 is 0.75.
        ("abcdefgh", "abcdefyz", "held"),
        # 2 * 5 / 16 is less.
        ("abcdefgh", "abcdexyz", "applied"),
        # 2 * 3 / 8 is 0.75, of a short name.
        ("abcd", "abcx", "held"),
    ],
)
def test_names_are_alike_from_a_ratio_of_075(old: str, new: str, expected: str) -> None:
    assert outcome(plan([budget("x", old, used=5)], [(new, Q1, 500)])) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0410", "410"),
        ("410.0", "410"),
        ("410.00", "410"),
        ("00", "0"),
        ("1.05", "15"),
        ("lamp - north", "lampnorth"),
        ("r&d (new)", "rdnew"),
        ("dept 007-b", "dept7b"),
        ("---", ""),
        # The vowel signs of two Hindi words are marks.
        ("\u0915\u093f", "\u0915\u093f"),
        ("bu\u0308ro", "bu\u0308ro"),
    ],
)
def test_bare_names_have_no_punctuation_and_zeros(name: str, expected: str) -> None:
    assert bare(name) == expected


def test_names_of_punctuation_are_not_the_same() -> None:
    assert outcome(plan([budget("x", "---")], [("+++", Q1, 900)])) == "applied"


def test_rename_lists_old_and_new_key_and_the_money() -> None:
    (hold,) = plan([budget("x", "Lamp - North", used=95)], [("Lampe North", Q1, 100)]).held
    assert hold.to_json() == {
        "kind": "rename",
        "budgetId": "x",
        "department": "Lamp - North",
        "period": "2026-Q1",
        "old": "Lamp - North|2026-Q1",
        "new": "Lampe North|2026-Q1",
    }
    assert (hold.old_minor, hold.new_minor, hold.used_minor) == (100_00, 100_00, 95_00)
    assert hold.reasons == (Reason.MONEY, Reason.AMOUNT)


def test_holds_are_stored_and_loaded_unchanged() -> None:
    existing = [budget("x", "0410"), budget("y", "Lamp", amount=1)]
    found = plan(existing, [("410", Q1, 100), ("Lamp", Q1, 100)])
    assert kinds(found) == ["amount", "rename"]
    assert [Hold.from_stored(hold.to_stored()) for hold in found.held] == found.held


def test_budget_with_the_most_money_is_paired_first() -> None:
    existing = [budget("a", "Lamp A", used=1), budget("b", "Lamp B", used=2)]
    found = plan(existing, [("Lamp C", Q1, 100)])
    assert [hold.budget_id for hold in found.held] == ["b"]
    assert [each.id for each in found.deletes] == ["a"]


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        # The same name but for punctuation comes before an equal amount,
        ([("Lamp North!", 900), ("Zither", 100), ("Lampe North", 95)], "Lamp North!"),
        # which comes before a name that is alike,
        ([("Lampe North", 95), ("Zither", 100)], "Zither"),
        # which comes before a near amount. A better likeness comes last.
        ([("Zither", 95), ("Lampe North", 900)], "Lampe North"),
        ([("Lamp Nord", 900), ("Lampe North", 900)], "Lampe North"),
    ],
)
def test_best_partner_of_a_rename(rows: list[tuple[str, float]], best: str) -> None:
    existing = [budget("x", "Lamp North", used=5)]
    found = plan(existing, [(name, Q1, amount) for name, amount in rows])
    assert [hold.new and hold.new.department for hold in found.held] == [best]
    assert len(found.creates) == len(rows) - 1


def test_near_amount_does_not_take_a_like_name() -> None:
    existing = [
        *OTHERS,
        budget("q", "Quarry Works", amount=140, used=70),
        budget("k", "Kiln Department", amount=125, used=62),
    ]
    found = plan(existing, [*OTHER_ROWS, ("Kiln", Q1, 135), ("North Quarry Works", Q1, 162)])
    pairs = {(hold.department, hold.new.department) for hold in found.held if hold.new}
    assert pairs == {("Quarry Works", "North Quarry Works"), ("Kiln Department", "Kiln")}


def test_new_row_is_in_one_rename_only() -> None:
    found = plan([budget("a", "0410"), budget("b", "410.")], [("410", Q1, 100)])
    assert kinds(found) == ["rename"]
    assert len(found.deletes) == 1


def test_row_with_the_budget_id_of_a_deleted_budget_is_not_a_rename() -> None:
    deleted = budget("z", "Lampe North", external_id="L-1", deleted_at="2026-01-01T00:00:00Z")
    row = described("Lampe North", external_id="L-1")
    found = plan([budget("x", "Lamp North", used=5), deleted], [row])
    assert ([each.id for each in found.deletes], found.held) == (["x"], [])
    assert [change.before.id for change in found.revivals] == ["z"]


def test_revival_by_name_may_be_a_rename() -> None:
    deleted = budget("z", "Lampe North", deleted_at="2026-01-01T00:00:00Z")
    found = plan([budget("x", "Lamp North", used=5), deleted], [("Lampe North", Q1, 100)])
    assert (kinds(found), found.deletes, found.revivals) == (["rename"], [], [])
    same = plan(
        [budget("x", "Lamp North", used=5), deleted],
        [("Lampe North", Q1, 100)],
        answers=replies(found.held, Reply.SAME),
    )
    assert [(change.before.id, change.after.sheet.department) for change in same.updates] == [
        ("x", "Lampe North")
    ]
    assert (same.revivals, same.deletes) == ([], [])


def test_row_that_a_bad_row_may_mean_is_kept_and_not_renamed() -> None:
    error = RowError((9,), "Amount is blank.", department_key="lamp north", period_key="2026-Q1")
    found = make_plan(
        SOURCE,
        sheet(("Lampe North", Q1, 100), *OTHER_ROWS, errors=[error]),
        [budget("x", "Lamp North", used=5), *OTHERS],
    )
    assert ([each.budget.id for each in found.kept], found.held) == (["x"], [])


def test_rename_is_held_when_a_bad_row_may_mean_its_budget() -> None:
    error = RowError((9,), "Department shows #REF!. Repair its formula.", period_key="2026-Q1")
    existing = [budget("x", "Lamp - North", used=95), budget("y", "Zither"), *OTHERS]
    rows = sheet(("Lampe North", Q1, 100), *OTHER_ROWS, errors=[error])
    found = make_plan(SOURCE, rows, existing)
    assert (kinds(found), found.creates, found.deletes) == (["rename"], [], [])
    assert [each.budget.id for each in found.kept] == ["y"]
    same = make_plan(SOURCE, rows, existing, answers=replies(found.held, Reply.SAME))
    assert [change.before.id for change in same.updates] == ["x"]
    assert ([each.budget.id for each in same.kept], same.held) == (["y"], [])


def test_every_budget_that_a_bad_row_means_is_kept() -> None:
    """A row of a wide table has two amounts that cannot be read."""
    second = Identity(department_key="lamp", period_key="2026-Q2")
    error = RowError((9,), "", department_key="lamp", period_key="2026-Q1", others=(second,))
    existing = [budget("x", "Lamp", Q1), budget("y", "Lamp", Q2), *OTHERS]
    found = make_plan(SOURCE, sheet(*OTHER_ROWS, errors=[error]), existing)
    assert ([each.budget.id for each in found.kept], found.deletes) == (["x", "y"], [])


def test_budget_ids_of_all_bad_lines_are_taken() -> None:
    """A new row has the department and period of a budget that the second bad line means."""
    error = RowError((9, 10), "", "x", department_key="a", period_key="2026-Q1")
    error = error._replace(others=(Identity("y", False, "a", "2026-Q1"),))
    existing = [budget("y", "Lamp", external_id="y"), *OTHERS]
    found = make_plan(SOURCE, sheet(("Lamp", Q1, 900), *OTHER_ROWS, errors=[error]), existing)
    assert (found.updates, found.creates, len(found.errors)) == ([], [], 2)


@pytest.mark.parametrize(
    ("name", "used", "is_kept"),
    [
        ("lampe north", 0, True),
        ("illumination", 0, False),
        ("illumination", 5, True),
    ],
)
def test_unreadable_row_of_no_budget_may_be_a_rename(name: str, used: int, is_kept: bool) -> None:
    """Its amount is not known. The next run would create it, with all of the money."""
    error = RowError((9,), "Amount is 'TBD'.", department_key=name, period_key="2026-Q1")
    existing = [budget("x", "Lamp North", used=used), *OTHERS]
    found = make_plan(SOURCE, sheet(*OTHER_ROWS, errors=[error]), existing)
    assert bool(found.kept) == is_kept
    assert bool(found.deletes) != is_kept


def test_unreadable_row_of_another_period_keeps_no_budget() -> None:
    error = RowError((9,), "Amount is 'TBD'.", department_key="lampe", period_key="2026-Q2")
    existing = [budget("x", "Lamp North", used=5), *OTHERS]
    found = make_plan(SOURCE, sheet(*OTHER_ROWS, errors=[error]), existing)
    assert (found.kept, [each.id for each in found.deletes]) == ([], ["x"])


def test_error_that_blocks_nothing_keeps_no_budget() -> None:
    error = RowError((), "The column 'Q3 2026' is new and looks like a period.", blocks=False)
    found = make_plan(SOURCE, sheet(*OTHER_ROWS, errors=[error]), [budget("x", "Lamp"), *OTHERS])
    assert ([each.id for each in found.deletes], found.kept) == (["x"], [])
    assert found.errors == [error]


# Answers to renames.


def test_same_budget_keeps_id_and_money_and_takes_the_row() -> None:
    existing = [budget("x", "Lamp - North", used=95)]
    rows = [("Lampe North", Q1, 120)]
    first = plan(existing, rows)
    found = plan(existing, rows, previous=first.held, answers=replies(first.held, Reply.SAME))
    (change,) = found.updates
    assert (change.before.id, change.after.committed_minor) == ("x", 95_00)
    assert change.fields == (
        ("department", "Lamp - North", "Lampe North"),
        ("budgetedAmount", 100_00, 120_00),
    )
    assert (found.held, found.creates, found.deletes) == ([], [], [])
    assert (found.applied_answers, found.expired_answers) == ([0], [])


def test_same_budget_in_another_period_needs_a_budget_without_money() -> None:
    rows = [("Lamp", Q2, 100)]
    first = plan([budget("x", "Lamp", used=5)], rows)
    options: dict[str, Any] = {
        "previous": first.held,
        "answers": replies(first.held, Reply.SAME),
    }
    found = plan([budget("x", "Lamp", used=5)], rows, **options)
    # The answer stays open, and is applied when the money is gone.
    assert (kinds(found), found.applied_answers, found.expired_answers) == (["rename"], [], [])
    found = plan([budget("x", "Lamp")], rows, **options)
    assert [change.fields for change in found.updates] == [(("fiscalPeriod", Q1, Q2),)]
    assert found.applied_answers == [0]


def test_different_budgets_are_deleted_and_created() -> None:
    existing = [budget("x", "Lamp - North", used=95)]
    rows = [("Lampe North", Q1, 100)]
    first = plan(existing, rows)
    found = plan(existing, rows, previous=first.held, answers=replies(first.held, Reply.DIFFERENT))
    assert outcome(found) == "applied"
    assert found.applied_answers == [0]


@pytest.mark.parametrize("reply", [Reply.SAME, Reply.DIFFERENT])
@pytest.mark.parametrize("changed", [("Lampe North", Q1, 101), ("Lampe Nord", Q1, 100)])
def test_answer_does_not_fit_another_amount_or_name(
    reply: Reply, changed: tuple[str, str, float]
) -> None:
    existing = [budget("x", "Lamp - North", used=95)]
    first = plan(existing, [("Lampe North", Q1, 100)])
    found = plan(existing, [changed], previous=first.held, answers=replies(first.held, reply))
    assert kinds(found) == ["rename"]
    assert (found.applied_answers, found.expired_answers) == ([], [0])


# What is held stays held.


def test_rename_stays_held_when_no_rule_holds_it_any_more() -> None:
    first = plan([budget("x", "Lamp", used=5)], [("Zither", Q1, 100)])
    later = plan([budget("x", "Lamp")], [("Zither", Q1, 500)], previous=first.held)
    assert kinds(later) == ["rename"]
    assert outcome(plan([budget("x", "Lamp")], [("Zither", Q1, 500)])) == "applied"


def test_deletion_stays_held_when_the_new_name_is_gone_again() -> None:
    first = plan([budget("x", "Lamp", used=5)], [("Lampe", Q1, 100)])
    second = plan([budget("x", "Lamp", used=5)], [], previous=first.held)
    assert [(hold.kind, hold.reasons) for hold in second.held] == [
        (Kind.DELETION, (Reason.RENAME,))
    ]
    # It holds no other creation, and is a rename again when a partner appears.
    third = plan(
        [budget("x", "Lamp", used=5)],
        [("Lamps", Q1, 900), ("Zither", Q1, 700)],
        previous=second.held,
    )
    assert (kinds(third), [row.budget.department for row in third.creates]) == (
        ["rename"],
        ["Zither"],
    )


def test_rename_stays_held_when_its_row_was_bad_for_a_run() -> None:
    existing = [budget("x", "Lamp", used=95), *OTHERS]
    first = make_plan(SOURCE, sheet(("Zither", Q1, 100), *OTHER_ROWS), existing)
    bad = RowError((9,), "Amount is 'abc'.", department_key="zither", period_key="2026-Q1")
    rows = sheet(*OTHER_ROWS, errors=[bad])
    second = make_plan(SOURCE, rows, existing, previous=first.held)
    stored = [Hold.from_stored(each.to_stored()) for each in second.held]
    assert kinds(second) == ["deletion"]
    # The amount is another one now, which would not be a rename by itself.
    third = plan(existing[:1], [("Zither", Q1, 150)], previous=stored)
    assert (kinds(third), third.creates) == (["rename"], [])
    approved = make_plan(
        SOURCE, rows, existing, previous=stored, answers=replies(stored, Reply.APPROVE)
    )
    assert ([each.id for each in approved.deletes], approved.held) == (["x"], [])


def test_rename_is_over_when_the_old_name_is_back() -> None:
    existing = [budget("x", "Lamp", used=5)]
    first = plan(existing, [("Lampe", Q1, 100)])
    found = plan(existing, [("Lamp", Q1, 100)], previous=first.held)
    assert (found.held, found.deletes, found.creates) == ([], [], [])
    # Both names: the new one is a new department.
    found = plan(existing, [("Lamp", Q1, 100), ("Lampe", Q1, 100)], previous=first.held)
    assert (found.held, len(found.creates)) == ([], 1)


def test_allow_deletes_does_not_answer_renames() -> None:
    found = plan([budget("x", "Lamp", used=5)], [("Lampe", Q1, 100)], allow_deletes=True)
    assert (kinds(found), found.deletes, found.creates) == (["rename"], [], [])


# Deletions over the limit hold the creations of their periods.


def departments(count: int, prefix: str = "Department", **options: Any) -> list[StoredBudget]:
    """Budgets that are not like each other's names with another prefix."""
    return [budget(f"{prefix}{number}", f"{prefix} {number}", **options) for number in range(count)]


def test_creations_in_periods_of_held_deletions_are_held() -> None:
    existing = departments(3, amount=50)
    rows = sheet(("Zither", Q1, 700), ("Zither", Q2, 700), ("Zither", "Q1 2027", 700))
    found = make_plan(SOURCE, rows, existing)
    assert kinds(found) == ["creation", "deletion", "deletion", "deletion"]
    assert [row.budget.period for row in found.creates] == [Q2, "Q1 2027"]
    (creation,) = (hold for hold in found.held if hold.kind is Kind.CREATION)
    assert creation.to_json() == {
        "kind": "creation",
        "budgetId": None,
        "department": "Zither",
        "period": "2026-Q1",
        "old": None,
        "new": 700,
    }


@pytest.mark.parametrize(
    ("old", "new", "is_held"),
    [
        ("Q1 2026", "FY2026", True),
        ("FY2026", "Q3 2026", True),
        ("2026-H2", "Oct 2026", False),
        ("2026-H2", "Feb 2026", True),
        ("FY2026", "Aug 2025", True),
        ("FY2026", "FY2027", False),
        ("Q1 2026", "Q2 2026", False),
        ("Summer", "FY2026", False),
    ],
)
def test_creations_in_overlapping_periods_are_held(old: str, new: str, is_held: bool) -> None:
    """The fiscal year 2026 begins in July 2025: the sheet has years instead of quarters now."""
    existing = departments(4, period=old)
    rows = sheet(("Zither", new, 400))
    found = make_plan(SOURCE, rows, existing, fiscal_year=FiscalYear(7))
    assert kinds(found) == ["creation"] * is_held + ["deletion"] * 4
    assert len(found.creates) == (not is_held)


@pytest.mark.parametrize(
    ("period", "fiscal_year", "is_held"),
    [
        ("2026", FiscalYear(), True),
        ("2026-H1", FiscalYear(), True),
        ("2026-03", FiscalYear(), True),
        ("2026-04", FiscalYear(), False),
        ("2026-H2", FiscalYear(), False),
        ("2027", FiscalYear(), False),
        ("2025-09", FiscalYear(7), True),
        ("2026-03", FiscalYear(7), False),
        ("a text", FiscalYear(), False),
    ],
)
def test_creations_in_periods_that_share_days_are_held(
    period: str, fiscal_year: FiscalYear, is_held: bool
) -> None:
    """A sheet of quarters becomes one of months: the money would be there twice."""
    existing = departments(4)
    rows = sheet(*(described(f"Other {number}", period, 7) for number in range(4)))
    found = make_plan(SOURCE, rows, existing, fiscal_year=fiscal_year)
    held = [hold for hold in found.held if hold.kind is Kind.CREATION]
    assert (len(held), len(found.creates)) == ((4, 0) if is_held else (0, 4))


def test_suspected_renames_count_as_deletions() -> None:
    """12 renames of 30 budgets exceed the limit, so other creations of the period wait too."""
    existing = departments(12, "0", amount=50) + OTHERS[:18]
    rows = [(f"0-{number}", Q1, 50) for number in range(12)]
    new = ("Zither", Q1, 700)
    found = make_plan(SOURCE, sheet(*rows, new, *OTHER_ROWS[:18]), existing)
    assert kinds(found) == ["creation", *["rename"] * 12]
    few = make_plan(
        SOURCE,
        sheet(*rows[:3], *(each.sheet for each in existing[3:]), new),
        existing,
    )
    assert (kinds(few), len(few.creates)) == (["rename"] * 3, 1)


def test_new_names_after_held_deletions_are_held_too() -> None:
    """The sheet loses rows in one run, and has them under other names in the next."""
    existing = departments(3, amount=50)
    first = make_plan(SOURCE, sheet(("Zither", "FY2030", 1)), existing)
    assert kinds(first) == ["deletion"] * 3
    later = make_plan(
        SOURCE,
        sheet(*((f"Quarry {number}", Q1, 999) for number in range(40))),
        [*existing, *departments(40, "Old", period=Q2)],
        previous=first.held,
        allow_deletes=False,
    )
    assert later.creates == []


def test_approved_deletions_release_their_creations() -> None:
    existing = departments(3, amount=50)
    rows = sheet(("Zither", Q1, 700))
    first = make_plan(SOURCE, rows, existing)
    answers = replies(first.held, Reply.APPROVE)
    found = make_plan(SOURCE, rows, existing, previous=first.held, answers=answers)
    assert (len(found.deletes), len(found.creates), found.held) == (3, 1, [])
    allowed = make_plan(SOURCE, rows, existing, previous=first.held, allow_deletes=True)
    assert (len(allowed.deletes), len(allowed.creates), allowed.held) == (3, 1, [])


def test_creation_is_released_while_renames_of_its_period_wait() -> None:
    existing = departments(12, "0", amount=50) + OTHERS[:18]
    rows = sheet(
        *((f"0-{number}", Q1, 50) for number in range(12)), ("Zither", Q1, 700), *OTHER_ROWS[:18]
    )
    first = make_plan(SOURCE, rows, existing)
    creation = [hold for hold in first.held if hold.kind is Kind.CREATION]
    answers = replies(creation, Reply.APPROVE)
    found = make_plan(SOURCE, rows, existing, previous=first.held, answers=answers)
    assert (kinds(found), len(found.creates)) == (["rename"] * 12, 1)


def test_held_creation_is_over_when_its_row_is_gone() -> None:
    existing = departments(3, amount=50)
    first = make_plan(SOURCE, sheet(("Zither", Q1, 700)), existing)
    found = make_plan(SOURCE, sheet(("Zither", Q2, 700)), existing, previous=first.held)
    assert (kinds(found), len(found.creates)) == (["deletion"] * 3, 1)


def test_held_creation_is_applied_when_the_deletions_are_over() -> None:
    existing = departments(3, amount=50)
    first = make_plan(SOURCE, sheet(("Zither", Q1, 700)), existing)
    back = sheet(("Zither", Q1, 700), *(each.sheet for each in existing))
    found = make_plan(SOURCE, back, existing, previous=first.held)
    assert (found.held, len(found.creates)) == ([], 1)


# Amounts.


def pairs(*amounts: tuple[int, int], currency: str = "USD") -> list[AmountPair]:
    """Budgets with their amounts before and after."""
    return [
        AmountPair(f"{currency}{number}", currency, old, new)
        for number, (old, new) in enumerate(amounts)
    ]


SAME = (500, 500)


@pytest.mark.parametrize(
    ("amounts", "expected"),
    [
        # 3 amounts, and more than half of those above 0, become 0.
        ([(500, 0)] * 3 + [SAME] * 2, Reason.ZEROS),
        ([(500, 0)] * 3 + [SAME] * 3, None),
        ([(500, 0)] * 2, None),
        ([(500, 0)] * 3 + [(0, 0)] * 30, Reason.ZEROS),
        # 3 of the changed amounts, and more than half of them, by one power of ten.
        ([(500, 5000)] * 3 + [SAME] * 50, Reason.FACTOR),
        ([(500, 5000)] * 2 + [SAME] * 50, None),
        ([(500, 5000)] * 3 + [(500, 501)] * 2 + [SAME] * 50, Reason.FACTOR),
        ([(500, 5000)] * 3 + [(500, 501)] * 3 + [SAME] * 50, None),
        ([(500, 50_000)] * 3 + [SAME] * 1000, Reason.FACTOR),
        ([(500, 500_000)] * 3 + [SAME] * 10_000, Reason.FACTOR),
        ([(500, 500_000_000)] * 3, Reason.FACTOR),
        ([(5000, 500)] * 3 + [SAME] * 50, Reason.FACTOR),
        ([(500_000_000, 500)] * 3, Reason.FACTOR),
        # Other powers and different ones are not one power of ten.
        ([(500, 5_000_000)] * 3 + [(10**9, 10**9)] * 5, None),
        ([(500, 5000)] * 2 + [(500, 50)] * 2 + [SAME] * 50, None),
        # +-0.2%
        ([(10_000, 100_200)] * 3 + [(10_000, 10_000)] * 50, Reason.FACTOR),
        ([(10_000, 99_800)] * 3 + [(10_000, 10_000)] * 50, Reason.FACTOR),
        ([(10_000, 100_201)] * 3 + [(10_000, 10_000)] * 50, None),
        ([(10_000, 99_799)] * 3 + [(10_000, 10_000)] * 50, None),
        ([(100_000, 10_020)] * 3 + [(10_000, 10_000)] * 50, Reason.FACTOR),
        ([(100_000, 10_021)] * 3 + [(10_000, 10_000)] * 50, None),
        # The sum becomes more than 5 times what it was, or less than a fifth.
        ([(100, 500)] * 2 + [(100, 501)], Reason.SUM),
        ([(100, 500)] * 3, None),
        ([(500, 100)] * 2 + [(500, 99)], Reason.SUM),
        ([(500, 100)] * 3, None),
        ([(100, 700)] * 3 + [(100, 100)] * 3, None),
        ([(100, 7000)] * 2 + [(1, 1)], None),
        # An ordinary cut, and the next year's amounts.
        ([(1000, 950)] * 8, None),
        ([(1000, 1170), (800, 700), (10, 0), (20, 0), (5000, 4000)], None),
        ([], None),
    ],
)
def test_bulk_rules_and_their_borders(
    amounts: list[tuple[int, int]], expected: Reason | None
) -> None:
    assert bulk_reason(pairs(*amounts)) == expected


def test_sums_of_two_currencies_are_not_added() -> None:
    """The yen would hide that the dollars became 6 times as much."""
    yen = pairs(*[(10**9, 10**9)] * 2, currency="JPY")
    assert bulk_reason(pairs(*[(100, 600)] * 3) + yen) is Reason.SUM


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [(100, 10_000, True), (100, 9_999, False), (0, 10_000, False), (10_000, 100, False)],
)
def test_hundredfold_and_its_border(old: int, new: int, expected: bool) -> None:
    assert is_hundredfold(AmountPair("x", "USD", old, new)) is expected


def with_amounts(existing: Sequence[StoredBudget], *amounts: float) -> list[SheetBudget]:
    """The rows of these budgets with other amounts; the last ones keep theirs."""
    rows = [each.sheet for each in existing]
    return [
        row._replace(budgeted_minor=round(amount * 100))
        for row, amount in zip(rows, amounts, strict=False)
    ] + rows[len(amounts) :]


EIGHT = [budget(f"b{number}", f"Lamp {number}", amount=1000 * number) for number in range(1, 9)]
THOUSANDTHS = with_amounts(EIGHT, *range(1, 9))


def test_misread_amounts_and_all_creations_are_held() -> None:
    rows = [*THOUSANDTHS, described("Zither", "Q1 2030", 7)]
    found = make_plan(SOURCE, sheet(*rows), EIGHT)
    assert kinds(found) == ["amount"] * 8 + ["creation"]
    assert (found.updates, found.creates, found.deletes) == ([], [], [])
    assert found.held[0].to_json() == {
        "kind": "amount",
        "budgetId": "b1",
        "department": "Lamp 1",
        "period": "2026-Q1",
        "old": 1000,
        "new": 1,
    }


def test_one_hundredfold_amount_is_held_alone() -> None:
    rows = [*with_amounts(EIGHT, 100_000, 1500), described("Zither", Q1, 7)]
    found = make_plan(SOURCE, sheet(*rows), EIGHT)
    assert [(hold.kind, hold.budget_id) for hold in found.held] == [(Kind.AMOUNT, "b1")]
    assert [change.before.id for change in found.updates] == ["b2"]
    assert len(found.creates) == 1


def test_held_amount_keeps_the_limit_and_takes_the_name() -> None:
    existing = [budget("x", "lamp", limit_minor=500), *EIGHT]
    row = described("LAMP", Q1, 10_000)._replace(limit_minor=50_000)
    rows = sheet(row, *(each.sheet for each in EIGHT))
    found = make_plan(SOURCE, SheetResult(rows.rows, [], has_limits=True), existing)
    (change,) = found.updates
    assert change.fields == (("department", "lamp", "LAMP"),)
    assert (change.after.sheet.budgeted_minor, change.after.sheet.limit_minor) == (100_00, 500)


def test_budgets_that_are_taken_over_are_not_held() -> None:
    existing = [each._replace(source_id=None) for each in EIGHT]
    found = make_plan(SOURCE, sheet(*with_amounts(EIGHT, *[200_000.0] * 8)), existing)
    assert (len(found.updates), found.held) == (8, [])


def test_first_run_holds_nothing() -> None:
    theirs = [each._replace(source_id="src_2", deleted_at="2026-01-01T00:00:00Z") for each in EIGHT]
    found = make_plan(SOURCE, sheet(("Lampe 1", Q1, 5), ("Zither", Q1, 7)), theirs)
    assert (len(found.creates), found.held) == (2, [])


def test_accepted_amounts_and_creations_are_applied() -> None:
    rows = sheet(*THOUSANDTHS, ("Zither", "Q1 2030", 7))
    first = make_plan(SOURCE, rows, EIGHT)
    answers = replies(first.held, Reply.APPLY)
    found = make_plan(SOURCE, rows, EIGHT, previous=first.held, answers=answers)
    assert (len(found.updates), len(found.creates), found.held) == (8, 1, [])
    assert (found.applied_answers, found.expired_answers) == (list(range(9)), [])


def test_amount_that_changed_after_the_answer_is_asked_again() -> None:
    first = make_plan(SOURCE, sheet(*THOUSANDTHS), EIGHT)
    rows = with_amounts(THOUSANDTHS_AS_STORED, 2.5)
    found = make_plan(
        SOURCE,
        sheet(*rows),
        EIGHT,
        previous=first.held,
        answers=replies(first.held, Reply.APPLY),
    )
    assert [(hold.budget_id, hold.new_minor) for hold in found.held] == [("b1", 2_50)]
    assert len(found.updates) == 7
    assert (len(found.applied_answers), found.expired_answers) == (7, [0])


THOUSANDTHS_AS_STORED = [
    each._replace(sheet=row) for each, row in zip(EIGHT, THOUSANDTHS, strict=True)
]


def test_held_amounts_stay_held_when_the_sheet_goes_half_back() -> None:
    """Two misread amounts are too few for the rule, but they were held with the others."""
    first = make_plan(SOURCE, sheet(*THOUSANDTHS), EIGHT)
    rows = [*THOUSANDTHS[:2], *(each.sheet for each in EIGHT[2:])]
    assert make_plan(SOURCE, sheet(*rows), EIGHT).held == []
    later = make_plan(SOURCE, sheet(*rows, ("Zither", Q1, 5)), EIGHT, previous=first.held)
    assert kinds(later) == ["amount", "amount", "creation"]
    assert later.updates == []


def test_amount_stays_held_when_its_row_was_bad_for_a_run() -> None:
    existing = [budget("x", "Lamp"), *OTHERS]
    first = make_plan(SOURCE, sheet(("Lamp", Q1, 10_000), *OTHER_ROWS), existing)
    bad = RowError((9,), "Amount is 'abc'.", department_key="lamp", period_key="2026-Q1")
    rows = sheet(*OTHER_ROWS, errors=[bad])
    second = make_plan(SOURCE, rows, existing, previous=first.held)
    assert (second.held, [each.budget.id for each in second.kept]) == (first.held, ["x"])
    # 99 times the old amount would not be held by itself.
    third = plan(existing[:1], [("Lamp", Q1, 9_900)], previous=second.held)
    assert (kinds(third), third.updates) == (["amount"], [])


def test_takeover_with_more_money_is_held_like_a_creation() -> None:
    theirs = [
        budget("m", "More", amount=1, source_id=None),
        budget("e", "Equal", amount=5, source_id=None),
    ]
    rows = sheet(*THOUSANDTHS, ("More", Q1, 2), ("Equal", Q1, 5))
    found = make_plan(SOURCE, rows, [*EIGHT, *theirs])
    creations = [hold for hold in found.held if hold.kind is Kind.CREATION]
    assert [hold.department for hold in creations] == ["More"]
    assert [change.before.id for change in found.updates] == ["e"]
    answers = replies(found.held, Reply.APPLY)
    applied = make_plan(SOURCE, rows, [*EIGHT, *theirs], previous=found.held, answers=answers)
    assert (len(applied.updates), applied.held) == (10, [])


def test_held_amount_is_over_when_the_sheet_goes_back() -> None:
    first = make_plan(SOURCE, sheet(*THOUSANDTHS), EIGHT)
    back = make_plan(
        SOURCE,
        sheet(*(each.sheet for each in EIGHT), ("Zither", Q1, 5)),
        EIGHT,
        previous=first.held,
        answers=replies(first.held, Reply.APPLY),
    )
    assert (back.held, back.updates, len(back.creates)) == ([], [], 1)
    assert len(back.expired_answers) == 8
    assert not back.changes_nothing


def test_creation_held_for_two_reasons_needs_both_answers() -> None:
    existing = [*EIGHT, *departments(20, amount=50)]
    rows = sheet(*THOUSANDTHS, ("Zither", Q1, 7))
    first = make_plan(SOURCE, rows, existing)
    creation = [hold for hold in first.held if hold.kind is Kind.CREATION]
    assert [hold.reasons for hold in creation] == [(Reason.LIMIT, Reason.FACTOR)]
    for reply in (Reply.APPROVE, Reply.APPLY):
        found = make_plan(
            SOURCE, rows, existing, previous=first.held, answers=replies(creation, reply)
        )
        # The other reason is left, and the answer stays open.
        assert (len(found.creates), found.applied_answers, found.expired_answers) == (0, [], [])
    both = [*replies(creation, Reply.APPROVE), *replies(creation, Reply.APPLY)]
    found = make_plan(SOURCE, rows, existing, previous=first.held, answers=both)
    assert len(found.creates) == 1


# Money that moves between planning and writing.


def test_money_on_a_budget_to_delete_needs_a_new_plan() -> None:
    existing = [budget("x", "Lamp"), *OTHERS]
    found = plan(existing[:1], [("Zither", Q1, 100)])
    assert outcome(found) == "applied"
    spent = existing[0]._replace(committed_minor=500, version=2)
    assert refresh(SOURCE, found, existing, [spent], has_new=found.has_new) is None
    # Without a new budget, the deletion cannot be a rename.
    alone = plan(existing[:1], [])
    refreshed = refresh(SOURCE, alone, existing, [spent], has_new=alone.has_new)
    assert refreshed is not None
    assert refreshed.deletes == [spent]


def test_held_rename_shows_the_newest_money() -> None:
    existing = [budget("x", "Lamp", used=5), *OTHERS]
    found = plan(existing[:1], [("Lampe", Q1, 100)])
    spent = existing[0]._replace(committed_minor=80_00, version=2)
    refreshed = refresh(SOURCE, found, existing, [spent], has_new=found.has_new)
    assert refreshed is not None
    assert [hold.used_minor for hold in refreshed.held] == [80_00]


# The work is bounded.


def test_comparer_stops_at_its_limit() -> None:
    comparer = Comparer(max_work=500)
    assert comparer.ratio("lamp north", "lampe north") > 0
    assert not comparer.is_exhausted
    for _ in range(10):
        comparer.ratio("lamp north", "lampe north")
    assert comparer.is_exhausted
    assert comparer.ratio("lamp north", "lampe north") == 0


SHAPES = {
    "numbered": lambda number, side: f"Department {number:05} {side}",
    "one long beginning": lambda number, side: f"{'ab' * 80}{number}{side}",
    "anagrams": lambda number, side: f"{number:05}{side}"[::-1] + "stressed desserts",
    "nothing alike": lambda number, side: chr(0x4E00 + number) * 3 + side,
}


@pytest.mark.parametrize("used", [0, 5], ids=["no money", "money"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_many_renames_need_bounded_work(shape: Any, used: int) -> None:
    """More names than are all compared with each other."""
    existing = [budget(f"b{n}", shape(n, "old"), amount=50, used=used) for n in range(600)]
    rows = sheet(*((shape(n, "new"), Q1, 50) for n in range(600)))
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1

    found = make_plan(SOURCE, rows, existing, check=check)
    assert (found.creates, found.deletes) == ([], [])
    assert calls > 2
    gone = {hold.budget_id for hold in found.held if hold.kind in (Kind.RENAME, Kind.DELETION)}
    assert len(gone) == 600


def test_too_many_names_to_compare_hold_all_deletions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("budget_sync.sync.holds.renames.Comparer", lambda: Comparer(max_work=10))
    found = plan([budget("x", "Lamp - North", used=5)], [("Lampe North", Q1, 500)])
    assert kinds(found) == ["creation", "deletion"]
    assert (found.creates, found.deletes) == ([], [])


@pytest.mark.parametrize("used", [0, 20])
def test_department_with_money_is_not_split_or_joined(used: float) -> None:
    """Its new budgets of overlapping periods would have all of the money again."""
    quarters = [budget(f"q{each}", "Lamp", f"Q{each} 2026", 25, used) for each in range(1, 5)]
    others = [budget(f"o{each}", f"Other {each}", "FY2026") for each in range(12)]
    other_rows = [(each.sheet.department, "FY2026", 100) for each in others]
    joined = make_plan(SOURCE, sheet(("Lamp", "FY2026", 100), *other_rows), [*quarters, *others])
    assert len(joined.creates) == (not used)
    assert kinds(joined) == (["creation"] + ["deletion"] * 4 if used else [])
    year = budget("y", "Lamp", "FY2026", 100, used * 4)
    rows = sheet(*(("Lamp", f"Q{each} 2026", 25) for each in range(1, 5)), *other_rows)
    split = make_plan(SOURCE, rows, [year, *others])
    assert len(split.creates) == (0 if used else 4)
    assert [each.budget.id for each in split.kept] == []


def test_split_department_is_applied_once_approved() -> None:
    year = budget("y", "Lamp", "FY2026", 100, 80)
    rows = sheet(*(("Lamp", f"Q{each} 2026", 25) for each in range(1, 5)), *OTHER_ROWS)
    held = make_plan(SOURCE, rows, [year, *OTHERS])
    assert {reason for hold in held.held for reason in hold.reasons} == {Reason.SPLIT}
    again = make_plan(SOURCE, rows, [year, *OTHERS], previous=held.held)
    assert (again.creates, kinds(again)) == ([], kinds(held))
    approved = make_plan(
        SOURCE,
        rows,
        [year, *OTHERS],
        previous=held.held,
        answers=replies(held.held, Reply.APPROVE),
    )
    assert ([each.id for each in approved.deletes], approved.held) == (["y"], [])
    assert len(approved.creates) == 4


def test_next_year_of_a_department_is_created() -> None:
    year = budget("y", "Lamp", "FY2026", 100, 80)
    found = make_plan(SOURCE, sheet(("Lamp", "FY2027", 110), *OTHER_ROWS), [year, *OTHERS])
    assert ([each.id for each in found.deletes], len(found.creates)) == (["y"], 1)
