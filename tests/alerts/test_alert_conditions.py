"""Conditions: how people write them, when they begin and end, and the time of the digest."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from support.machine import ENGINE

from budget_sync.alerts.conditions import parse_conditions, to_text
from budget_sync.alerts.digest import next_digest, parse_time
from budget_sync.alerts.plan import BudgetChange, Key, SyncRun, plan
from budget_sync.alerts.texts import Pages, budget_reached, held, percent_used, stale_hold
from budget_sync.domain.balance import Balance
from budget_sync.domain.errors import RequestError

pytestmark = pytest.mark.skipif(ENGINE != "sqlite", reason="not about an engine")

NOW = datetime(2025, 2, 3, 9, 0, tzinfo=UTC)


def test_conditions_are_read_as_people_write_them() -> None:
    text = " Threshold:80, threshold:100%,overdrawn,sync-failed,held,stale-hold:14d,threshold:80,"
    assert to_text(parse_conditions(text)) == (
        "threshold:80,threshold:100,overdrawn,sync-failed,held,stale-hold:14d"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must have at least one condition"),
        ("threshold", "has the unknown condition 'threshold'"),
        ("threshold:0", "has the number 0: a threshold must be from 1 to 1,000"),
        ("stale-hold:0d", "has the number 0: the days must be from 1 to 3,650"),
        ("overdrawn:5", "has the unknown condition 'overdrawn:5'"),
        ("all", "has the unknown condition 'all'"),
    ],
)
def test_wrong_conditions_are_explained(text: str, says: str) -> None:
    with pytest.raises(RequestError, match="on ") as raised:
        parse_conditions(text)
    assert says in raised.value.sentence


def history(rng: random.Random) -> list[tuple[str, Balance, Balance]]:
    """Changes of two budgets: money moves on them and between them, and amounts change."""
    amounts = {name: [rng.choice((0, 50, 100, 1000)), 0, 0] for name in ("a", "b")}
    found = []
    for _ in range(rng.randrange(1, 30)):
        changes = {rng.choice("ab"): rng.choice(("reserve", "release", "commit", "spend", "sync"))}
        if rng.random() < 0.2:
            changes = {"a": "release", "b": "reserve"}
        for name, what in changes.items():
            before = list(amounts[name])
            budgeted, reserved, committed = before
            step = rng.randrange(1, max(budgeted, 20) // 2 + 2)
            if what == "reserve":
                reserved += step
            elif what == "release":
                reserved -= min(step, reserved)
            elif what == "commit":
                moved = min(step, reserved)
                reserved, committed = reserved - moved, committed + moved + rng.choice((0, 0, 1))
            elif what == "spend":
                committed = max(committed + step * rng.choice((1, 1, -1)), 0)
            else:
                budgeted = rng.choice((0, budgeted // 2, budgeted + step, 100))
            amounts[name] = [budgeted, reserved, committed]
            if amounts[name] != before:
                found.append((name, Balance("USD", 2, *before), Balance("USD", 2, *amounts[name])))
    return found


class Model:
    """A separate model: the share as a fraction, and for each threshold whether it may fire."""

    def __init__(self, limits: dict[str, Fraction]) -> None:
        self.limits = limits
        self.waits: set[tuple[str, str]] = set()

    def fires(self, name: str, before: Balance, after: Balance) -> list[str]:
        """The conditions that a change reports."""
        was, now = self.share(before), self.share(after)
        found = []
        for text, limit in self.limits.items():
            is_crossed = was <= 1 < now if text == "overdrawn" else was < limit <= now
            if (name, text) in self.waits:
                if now == 0 or now <= limit - Fraction(5, 100):
                    self.waits.discard((name, text))
            elif is_crossed:
                self.waits.add((name, text))
                found.append(text)
        return found

    @staticmethod
    def share(balance: Balance) -> Fraction:
        """The used share of a budget."""
        used = balance.reserved_minor + balance.committed_minor
        if balance.budgeted_minor:
            return Fraction(used, balance.budgeted_minor)
        # Any use of a budget of 0 is over every limit.
        return Fraction(10**9 if used else 0)


def test_random_histories_fire_as_a_model_says() -> None:
    fired = 0
    for seed in range(1000):
        rng = random.Random(seed)  # noqa: S311  # a test
        limits = {
            f"threshold:{percent}": Fraction(percent, 100)
            for percent in rng.sample((5, 20, 50, 80, 90, 100, 120), 3)
        } | {"overdrawn": Fraction(1)}
        conditions = parse_conditions(",".join(limits))
        model = Model(limits)
        expected, facts = [], []
        for name, before, after in history(rng):
            facts.append(
                BudgetChange(
                    NOW, name, name, "Q1", None, before, after, is_new_period=False, cause=""
                )
            )
            if texts := model.fires(name, before, after):
                expected.append((name, before, after, texts))
        # Pages of any size give the same messages.
        found: list[object] = []
        reported: dict[Key, datetime] = {}
        while facts:
            size = rng.randrange(1, 8)
            page, facts = facts[:size], facts[size:]
            planned = plan(conditions, page, reported)
            reported = planned.reported
            found += [
                (
                    each.fact.budget_id,
                    each.fact.before,
                    each.fact.after,
                    [c.text for c in each.conditions],
                )
                for each in planned.entries
                if isinstance(each.fact, BudgetChange)
            ]
        assert found == expected, seed
        assert {(key.subject, key.condition) for key in reported} == model.waits, seed
        fired += len(found)
    assert fired > 3000


def change(budgeted: int, before: int, after: int, **changes: bool) -> BudgetChange:
    return BudgetChange(
        NOW,
        "b1",
        "Travel",
        "Q1",
        None,
        Balance("USD", 2, budgeted, 0, before),
        Balance("USD", 2, budgeted, 0, after),
        changes.get("is_new_period", False),
        "",
    )


def test_threshold_fires_again_only_after_five_points() -> None:
    conditions = parse_conditions("threshold:80")
    uses = [0, 80, 76, 85, 79, 80, 75, 80, 0, 100]
    facts = [change(100, *pair) for pair in pairwise(uses)]
    fired = [
        entry.fact.after.used_minor
        for entry in plan(conditions, facts, {}).entries
        if isinstance(entry.fact, BudgetChange)
    ]
    assert fired == [80, 80, 100]


def test_new_period_reports_again() -> None:
    conditions = parse_conditions("threshold:80")
    first = plan(conditions, [change(100, 0, 90)], {})
    assert list(first.reported) == [Key("threshold:80", "b1")]
    renamed = plan(conditions, [change(100, 90, 90, is_new_period=True)], first.reported)
    assert (renamed.entries, renamed.reported) == ([], {})


def test_failed_run_neither_begins_nor_ends_held_changes() -> None:
    conditions = parse_conditions("held,sync-failed")

    def run(*, is_failed: bool = False, held_count: int = 0) -> SyncRun:
        return SyncRun(NOW, "s", "source", is_failed, held_count, "")

    runs = [run(held_count=2), run(is_failed=True), run(held_count=2), run(), run(held_count=1)]
    entries = plan(conditions, runs, {}).entries
    assert [[each.text for each in entry.conditions] for entry in entries] == [
        ["held"],
        ["sync-failed"],
        ["held"],
    ]


def test_digest_comes_once_a_day_when_clocks_change() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    # The night of 30 March 2025 has no 02:30; that of 26 October has it twice.
    for at in ("02:30", "08:00", "00:00", "23:59"):
        moment = datetime(2025, 1, 1, tzinfo=UTC)
        found: list[datetime] = []
        while len(found) < 365:
            moment = next_digest(at, berlin, moment)
            found.append(moment)
        days = [each.astimezone(berlin).date() for each in found]
        assert len(set(days)) == 365
        assert all(later - each < timedelta(hours=26) for each, later in pairwise(found))
        wrong = [each for each in found if f"{each.astimezone(berlin):%H:%M}" != at]
        assert len(wrong) == (1 if at == "02:30" else 0)


@pytest.mark.parametrize("text", ["24:00", "8:00", "08:60", "noon", "08:00\n", "٠٨:00"])
def test_wrong_time_is_rejected(text: str) -> None:
    with pytest.raises(RequestError, match="must be a time of day"):
        parse_time(text)


def test_texts_are_short_and_have_no_line_breaks_of_names() -> None:
    link = Pages("https://b.example").budget("id with space&x")
    text = budget_reached(
        "A\nB" * 200,
        Balance("USD", 2, 100_00, 0, 100_01),
        parse_conditions("overdrawn"),
        "x\ny",
        link,
    )
    assert "\n" not in text.title
    assert len(text.title) == 150
    assert text.body.splitlines()[-2:] == [
        "x y",
        "https://b.example/budget?id=id%20with%20space%26x",
    ]
    assert percent_used(Balance("USD", 2, 10_000, 7_999, 0)) == "79.9"
    assert percent_used(Balance("USD", 2, 0, 1, 0)) == "100"
    assert held("Plan", 1, Pages(None).held("s")).body == "They look like a mistake."
    assert stale_hold("r", "Travel", "$5", NOW, 1, "").title.endswith("more than 1 day")
