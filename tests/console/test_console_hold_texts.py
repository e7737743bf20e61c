"""Held changes as sentences: renames, amounts."""

from __future__ import annotations

import pytest

from budget_sync.domain.balance import Balance
from budget_sync.sync.holds import Hold, Kind, NewBudget, Reason
from budget_sync.web.console.hold_texts import amounts_text, of_kind, rename_text

NEW = NewBudget(4, "Lampe North", "lampe north", "Q1 2026", "2026-Q1")
RENAME = Hold(
    Kind.RENAME,
    "bud_17",
    "Lamp - North",
    "Q1 2026",
    "2026-Q1",
    "EUR",
    2,
    10_000_000,
    10_000_000,
    9_500_000,
    NEW,
    (Reason.MONEY,),
)


def amount(old: int, new: int, *reasons: Reason) -> Hold:
    """A held amount in whole euros."""
    return Hold(
        Kind.AMOUNT,
        f"bud_{old}",
        f"Team {old}",
        "Q1 2026",
        "2026-Q1",
        "EUR",
        2,
        old * 100,
        new * 100,
        0,
        None,
        reasons,
    )


def test_rename_names_both_budgets_and_the_money_on_the_old_one() -> None:
    text = rename_text(RENAME, Balance("EUR", 2, 10_000_000, 0, 9_500_000))
    assert text.sentence == (
        "Lamp - North, Q1 2026 is gone and Lampe North, Q1 2026 is new, both with €100,000.00."
    )
    assert text.used == "€95,000.00 is committed on the old one."
    assert text.why_not_same == ""


def test_rename_with_another_amount_names_both() -> None:
    text = rename_text(RENAME._replace(new_minor=11_000_000, used_minor=0), None)
    assert text.sentence.endswith("is new, with €100,000.00 and €110,000.00.")
    assert text.used == ""


def test_reserved_and_committed_money_is_named() -> None:
    text = rename_text(RENAME, Balance("EUR", 2, 10_000_000, 100, 200))
    assert text.used == "€2.00 is committed and €1.00 is reserved on the old one."


@pytest.mark.parametrize(("used", "is_possible"), [(0, True), (1, False)])
def test_money_does_not_move_to_another_period(used: int, is_possible: bool) -> None:
    hold = RENAME._replace(used_minor=used, new=NEW._replace(period_key="2026-Q2"))
    assert (rename_text(hold, None).why_not_same == "") is is_possible


@pytest.mark.parametrize(
    ("amounts", "reason", "expected"),
    [
        (
            [(1000 * each, each) for each in range(1, 9)],
            Reason.FACTOR,
            "All 8 amounts became a thousandth of what they were.",
        ),
        (
            [(1, 1000), (2, 2000), (3, 3004), (4, 400)],
            Reason.FACTOR,
            "3 of 4 amounts became 1,000 times what they were.",
        ),
        ([(1, 0), (2, 0), (3, 0), (4, 5)], Reason.ZEROS, "3 of 4 amounts became 0."),
        (
            [(100, 700), (100, 800), (100, 900)],
            Reason.SUM,
            "3 amounts changed, from 300.00 to 2,400.00 in total.",
        ),
        (
            [(5, 5000)],
            Reason.HUNDREDFOLD,
            "One amount became 100 times or more of what it was.",
        ),
        (
            [(5, 5000), (7, 70_000)],
            Reason.HUNDREDFOLD,
            "2 amounts became 100 times or more of what they were.",
        ),
    ],
)
def test_held_amounts_say_how_they_changed(
    amounts: list[tuple[int, int]], reason: Reason, expected: str
) -> None:
    text = amounts_text([amount(old, new, reason) for old, new in amounts])
    assert text.sentence == expected
    assert text.question.endswith("?")


def test_holds_are_listed_by_kind() -> None:
    held = amount(1, 2, Reason.SUM)
    assert of_kind([held, RENAME], Kind.RENAME) == [RENAME]
