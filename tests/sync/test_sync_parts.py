"""Large plans are written in parts: the end is the same, and each state on the way is valid."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
import time_machine
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st
from support.delivery import add, once
from support.receivers import receiver
from support.sync_world import HEADER_WITH_ID, ORG, World, open_world
from support.world import ROOT

from budget_sync import database, ledger, manual_budgets
from budget_sync.accounts import customers
from budget_sync.alerts.conditions import parse_conditions
from budget_sync.alerts.facts import read_page
from budget_sync.alerts.plan import SyncRun
from budget_sync.database.delivery_models import Alert
from budget_sync.database.models import Budget, SyncHistory
from budget_sync.delivery.deliver import Deliverer
from budget_sync.domain import clock
from budget_sync.domain.events import EventType
from budget_sync.domain.request_models import ReserveRequest
from budget_sync.queries.events import Cursor, latest_cursor, read_events
from budget_sync.queries.sync_runs import GOES_ON_FOR
from budget_sync.settings import Settings
from budget_sync.sync import Cancellation, Source, parts, write
from budget_sync.sync.changes import Change, MovedRow
from budget_sync.sync.match import StoredBudget
from budget_sync.sync.parts import CircleError, Counts, split
from budget_sync.sync.plan import SyncPlan
from budget_sync.sync.reading.result import SheetBudget, SheetRow

KEY = "the-only-key"

NEXT = "If this run has ended, the next one makes the others."

SYNC_EVENTS = {EventType.SYNC_FINISHED, EventType.SYNC_FAILED}

#: Changes of a part in these tests.
PART = 3


def budget(number: int, name: str, amount: int = 100) -> StoredBudget:
    return StoredBudget(
        id=f"b-{number:03}",
        source_id="src_1",
        source_row=number,
        deleted_at=None,
        reserved_minor=0,
        committed_minor=0,
        version=1,
        sheet=SheetBudget(
            external_id=str(number),
            department=name,
            department_key=name,
            period="2025",
            period_key="2025",
            currency="USD",
            budgeted_minor=amount,
            limit_minor=None,
            exponent=2,
        ),
    )


def change(before: StoredBudget, name: str, amount: int) -> Change:
    after = before._replace(
        sheet=before.sheet._replace(department=name, department_key=name, budgeted_minor=amount)
    )
    return Change(1, before, after, ())


def plan_of(**lists: Any) -> SyncPlan:
    empty: dict[str, Any] = {
        name: []
        for name in (
            *("creates", "updates", "revivals", "moved", "deletes", "held", "kept", "errors"),
            *("applied_answers", "expired_answers"),
        )
    }
    counts = {"unchanged_count": 0, "overdrawn_count": 0, "live_count": 0}
    return SyncPlan(**(empty | counts | lists))


def names_after(names: dict[str, str], part: SyncPlan) -> dict[str, str]:
    """The names of the live budgets by id, once a part is written; they must be unique."""
    names = dict(names)
    for deleted in part.deletes:
        del names[deleted.id]
    for changed in part.updates:
        names[changed.before.id] = changed.after.sheet.department
    for row in part.creates:
        names[f"new-{row.number}"] = row.budget.department
    assert len(set(names.values())) == len(names)
    return names


@settings(deadline=None, max_examples=200)
@given(st.permutations(range(12)), st.integers(0, 12), st.integers(1, 7), st.integers(0, 5))
def test_every_part_of_any_renames_leaves_unique_names(
    order: list[int], renamed: int, size: int, extra: int
) -> None:
    stored = [budget(number, f"name {number}") for number in range(12)]
    # Some budgets exchange their names, some take free ones, and their old ones are taken again.
    updates = [
        change(
            stored[number],
            f"name {number + 100 if number < extra else order[number]}",
            100 + order[number] - number,
        )
        for number in range(12)
        if order[number] < renamed or number < extra
    ]
    taken = {each.after.sheet.department for each in updates}
    changed_ids = {each.before.id for each in updates}
    deletes = [
        each for each in stored if each.sheet.department in taken and each.id not in changed_ids
    ]
    new = [SheetRow(number, budget(number, f"new {number}").sheet) for number in range(extra)]
    plan = plan_of(updates=updates, deletes=deletes, creates=new, moved=[MovedRow(1, "b-001")])
    if len(taken) < len(updates):
        return
    found = split(plan, size, size)
    names = {each.id: each.sheet.department for each in stored}
    for part in found:
        names = names_after(names, part)
    for kind in ("deletes", "updates", "creates", "moved"):
        assert sorted((item for part in found for item in getattr(part, kind)), key=repr) == sorted(
            getattr(plan, kind), key=repr
        )
    assert all(Counts.of(part).total <= max(size, len(order)) for part in found)


def test_lower_amounts_are_written_before_higher_ones() -> None:
    stored = [budget(number, f"name {number}") for number in range(6)]
    updates = [
        change(each, each.sheet.department, 50 if number % 2 else 150)
        for number, each in enumerate(stored)
    ]
    first, second = split(plan_of(updates=updates), PART, PART)
    assert {each.after.sheet.budgeted_minor for each in first.updates} == {50}
    assert {each.after.sheet.budgeted_minor for each in second.updates} == {150}


def test_lower_amounts_are_written_before_raised_renames() -> None:
    stored = [budget(number, f"name {number}") for number in range(6)]
    raised = [change(each, f"new {each.id}", 150) for each in stored[:PART]]
    lowered = [change(each, each.sheet.department, 50) for each in stored[PART:]]
    first, second = split(plan_of(updates=[*raised, *lowered]), PART, PART)
    assert (first.updates, second.updates) == (lowered, raised)


def test_small_plan_is_one_part() -> None:
    stored = [budget(number, f"name {number}") for number in range(parts.MAX_CHANGES)]
    plan = plan_of(deletes=stored)
    assert split(plan) == [plan]


def test_long_chain_of_renames_is_split_but_a_circle_is_not() -> None:
    count = parts.MAX_CIRCLE + 1
    stored = [budget(number, f"name {number}") for number in range(count)]
    chain = [change(each, f"name {number + 1}", 1) for number, each in enumerate(stored)]
    found = split(plan_of(updates=chain), max_atomic=parts.MAX_CHANGES)
    assert len(found) == 1 + count // parts.MAX_CHANGES
    assert found[0].updates[0].before is stored[-1]
    chain[-1] = change(stored[-1], "name 0", 1)
    with pytest.raises(CircleError, match=r"More than 5,000 budgets exchange their names\. Noth"):
        split(plan_of(updates=chain), max_atomic=parts.MAX_CHANGES)


@pytest.fixture
def world(app: Flask, chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(write, "split", partial(split, max_changes=PART, max_atomic=PART))
    with open_world(chosen.instance_folder, monkeypatch) as world:
        yield world


@pytest.fixture
def source(world: World) -> Source:
    return world.sheet(KEY, rows(10))


def rows(count: int, amount: int = 100, shift: int = 0) -> list[list[Any]]:
    """Rows with Budget IDs; with `shift`, each budget has the name of another one."""
    return [
        HEADER_WITH_ID,
        *(
            [f"id-{number}", f"Team {(number + shift) % count}", "Q1 2025", amount]
            for number in range(count)
        ),
    ]


def between_parts(monkeypatch: pytest.MonkeyPatch, *actions: Callable[[], object]) -> None:
    """Call each action once, after one part of a plan is written."""
    add, left = write.Written.add, list(actions)

    def then_act(*arguments: Any) -> None:
        add(*arguments)
        if left:
            left.pop(0)()

    monkeypatch.setattr(write.Written, "add", then_act)


@pytest.mark.both_engines
def test_result_of_parts_is_that_of_one_transaction(
    world: World, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int, str | None]] = []

    def look() -> None:
        row = world.last(source)
        seen.append((row.status, row.createdCount, row.message))
        world.verify()

    between_parts(monkeypatch, look, look, look)
    result = world.sync(source)
    assert (result.status, result.created_count, result.message) == ("success", 10, None)
    assert seen[:2] == [
        (
            "failed",
            done,
            f"{done} of 10 changes were made so far. {NEXT}",
        )
        for done in (3, 6)
    ]
    (row,) = world.history(source)
    assert (row.syncId, row.status, row.createdCount) == (result.sync_id, "success", 10)
    assert len(world.budgets()) == 10
    result = world.sync(source)
    assert (result.unchanged_count, result.updated_count) == (10, 0)
    world.verify()


def syncs_reported() -> tuple[list[str], list[bool]]:
    """The types of the events of sync runs, and whether the runs that alerts see have failed."""
    events = read_events(ROOT, ORG, Cursor(), types=SYNC_EVENTS).events
    alert = Alert(id="alert", customerId=ORG)
    page = read_page(alert, parse_conditions("sync-failed"), Cursor(), database.horizon())
    runs = [fact.is_failed for fact in page.facts if isinstance(fact, SyncRun)]
    return [event.type for event in events], runs


@pytest.mark.both_engines
def test_run_in_parts_is_reported_once_it_has_ended(
    world: World, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[list[str], list[bool]]] = []
    between_parts(monkeypatch, *[lambda: seen.append(syncs_reported())] * 3)
    world.sync(source)
    assert seen == [([], [])] * 3
    assert syncs_reported() == (["sync.finished"], [False])


@pytest.mark.both_engines
def test_cursor_of_the_latest_event_is_before_an_unfinished_run(
    world: World, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    latest: list[Cursor] = []
    between_parts(monkeypatch, lambda: latest.append(latest_cursor(ROOT, ORG)))
    world.sync(source)
    (event,) = read_events(ROOT, ORG, latest[0], types=SYNC_EVENTS).events
    assert event.type is EventType.SYNC_FINISHED


@pytest.mark.both_engines
def test_delivery_does_not_wait_for_an_unfinished_run(
    world: World, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[int] = []
    with receiver() as started:
        add(started.url, ORG, "sync.finished,sync.failed")
        deliverer = Deliverer(private_networks=False)

        def three_rounds() -> None:
            # Rows of others move the horizon of the audit log between them.
            for number in range(3):
                customers.add_customer(ROOT, f"other-{number}", "Other")
                rounds.append(deliverer.round())
                deliverer._wait_for(deliverer._deliveries)  # noqa: SLF001  # one round at a time

        between_parts(monkeypatch, once, three_rounds)
        world.sync(source)
        assert rounds == [1, 0, 0]
        assert started.received == []
        assert once().counts.delivered == 1
        assert started.received[0].event["type"] == "sync.finished"


def test_killed_run_in_parts_is_reported_as_failed_later(
    world: World, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die() -> None:
        raise KeyboardInterrupt

    between_parts(monkeypatch, die)
    with pytest.raises(KeyboardInterrupt):
        world.sync(source)
    assert syncs_reported() == ([], [])
    with time_machine.travel(clock.now() + GOES_ON_FOR + timedelta(seconds=1)):
        assert syncs_reported() == (["sync.failed"], [True])


@pytest.mark.both_engines
def test_cancelled_run_says_what_it_made_and_the_next_one_ends_it(
    world: World, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = Cancellation()
    between_parts(monkeypatch, lambda: None, lambda: stop.request(signal.SIGTERM))
    result = world.sync(source, stop=stop)
    assert (result.status, result.message) == (
        "failed",
        "Stopped by SIGTERM. 6 of 10 changes were made.",
    )
    (row,) = world.history(source)
    assert (row.status, row.message, row.createdCount) == ("failed", result.message, 6)
    assert len(world.budgets()) == 6
    world.verify()
    result = world.sync(source)
    assert (result.status, result.created_count, result.unchanged_count) == ("success", 4, 6)
    world.verify()


@pytest.mark.both_engines
def test_money_reserved_between_parts_stays_reserved(
    world: World, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.sync(source)
    world.rows(KEY, rows(10, amount=40))
    budgets = list(Budget.select())

    def reserve() -> None:
        for each in budgets:
            ledger.reserve(
                ROOT,
                ReserveRequest(budget_id=each.id, request_id=each.id, amount=Decimal(30)),
            )

    between_parts(monkeypatch, reserve)
    result = world.sync(source)
    assert (result.status, result.updated_count) == ("success", 10)
    assert set(world.budgets().values()) == {"40"}
    world.verify()


@pytest.mark.both_engines
def test_money_on_a_budget_to_delete_is_seen_between_parts(
    world: World, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With money on it, its name may have become one of the new names of a later part."""
    world.rows(KEY, rows(20))
    world.sync(source)
    last = Budget.get(Budget.department == "Team 19")
    new = [[f"new-{number}", f"Zither {number}", "Q1 2025", 100] for number in range(9)]
    world.rows(KEY, [*rows(20)[:12], *new])
    spent = ReserveRequest(budget_id=last.id, request_id="r1", amount=Decimal(30))
    between_parts(monkeypatch, lambda: ledger.reserve(ROOT, spent))
    result = world.sync(source)
    assert [hold.budget_id for hold in result.held] == [last.id]
    assert (result.status, result.soft_deleted_count, result.created_count) == ("partial", 8, 8)
    world.verify()


@pytest.mark.both_engines
def test_name_taken_between_parts_is_planned_again(
    world: World, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    between_parts(
        monkeypatch,
        lambda: manual_budgets.set_budget(ROOT, ORG, "Team 9", "Q1 2025", Decimal(70)),
    )
    result = world.sync(source)
    assert (result.status, result.created_count, result.updated_count) == ("success", 9, 1)
    assert result.unchanged_count == 0
    assert world.budgets()["Team 9, Q1 2025"] == "100"
    assert SyncHistory.select().count() == 1
    world.verify()


@pytest.mark.both_engines
def test_names_exchanged_in_a_circle_change_together(
    world: World, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.sync(source)
    names = sorted(world.budgets())
    seen: list[list[str]] = []
    between_parts(monkeypatch, lambda: seen.append(sorted(world.budgets())))
    world.rows(KEY, [*rows(10, shift=1), ["id-10", "New", "Q1 2025", 1]])
    result = world.sync(source)
    assert (result.status, result.updated_count, result.created_count) == ("success", 10, 1)
    assert seen == [names]
    world.verify()


@pytest.mark.both_engines
def test_too_large_a_circle_of_names_changes_nothing(
    world: World, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.sync(source)
    before = world.state()
    monkeypatch.setattr(parts, "MAX_CIRCLE", 9)
    world.rows(KEY, rows(10, shift=1))
    result = world.sync(source)
    assert result.status == "failed"
    assert "exchange their names. Nothing was changed. Check the" in (result.message or "")
    assert world.state() == before
