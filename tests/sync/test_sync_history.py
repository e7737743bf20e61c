"""`flask prune-history`: which sync runs are deleted, in batches, with audit rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskCliRunner
from support.machine import ENGINE
from support.sync_world import HEADER, ORG, World, open_world, plan_rows
from support.world import ROOT, person

from budget_sync import sync
from budget_sync.database import db
from budget_sync.database.models import AuditLog, SyncHistory
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Role
from budget_sync.queries import monitoring
from budget_sync.settings import Settings
from budget_sync.sync import SyncRunResult, retention
from budget_sync.sync.holds.model import Kind

pytestmark = pytest.mark.both_engines


@pytest.fixture
def world(app: Flask, chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with open_world(chosen.instance_folder, monkeypatch) as world:
        yield world


def add_runs(source: sync.Source, *statuses: str, days: int = 31, **columns: Any) -> list[int]:
    """Add sync runs that started that many days ago; return their ids."""
    start = clock.now() - timedelta(days=days)
    for status in statuses:
        SyncHistory.create(
            syncId=f"sync_{SyncHistory.select().count()}_{days}",
            customerId=source.customer_id,
            sourceId=source.id,
            status=status,
            startedBy="test",
            durationMs=1,
            startTime=start,
            endTime=start,
            **columns,
        )
    return run_ids()[-len(statuses) :]


def run_ids() -> list[int]:
    return [row.id for row in SyncHistory.select(SyncHistory.id).order_by(SyncHistory.id)]


def audited() -> list[tuple[str | None, str | None, str | None]]:
    """The customer, the number of deleted runs and the reason in each audit row."""
    rows = AuditLog.select().where(AuditLog.action == "PRUNE_HISTORY").order_by(AuditLog.id)
    return [(row.customerId, row.oldValue, row.reason) for row in rows]


def test_old_runs_are_deleted_and_audited(world: World) -> None:
    world.customer("org-2")
    mine = world.sheet("sheet-a", plan_rows(A=1))
    theirs = world.sheet("sheet-b", plan_rows(B=1), customer_id="org-2")
    add_runs(mine, "success", "success")
    add_runs(theirs, "failed")
    young = add_runs(mine, "success", days=29) + add_runs(theirs, "failed", "success", days=1)
    assert retention.prune_history(ROOT, 30) == 3
    assert run_ids() == young
    assert audited() == [
        (ORG, "2", "2 sync runs older than 30 days deleted"),
        ("org-2", "1", "1 sync runs older than 30 days deleted"),
    ]
    assert retention.prune_history(ROOT, 30) == 0
    assert len(audited()) == 2
    world.verify()


@pytest.mark.parametrize(
    ("statuses", "kept"),
    [
        (("success", "success"), [1]),
        (("partial", "failed"), [0, 1]),
        (("partial", "failed", "failed"), [0, 2]),
        (("success", "failed", "skipped"), [0, 1, 2]),
        (("success", "failed", "skipped", "skipped"), [0, 1, 3]),
        (("failed", "skipped"), [0, 1]),
        (("skipped", "skipped"), [1]),
        (("failed", "skipped", "partial"), [2]),
    ],
)
def test_newest_runs_of_a_source_stay(
    world: World, statuses: tuple[str, ...], kept: list[int]
) -> None:
    source = world.sheet("sheet-a", plan_rows(A=1))
    other = world.sheet("sheet-b", plan_rows(B=1))
    runs = add_runs(source, *statuses)
    others = add_runs(other, "success", days=1)
    # With a fixed clock, because monitoring reports the ages in whole seconds.
    with time_machine.travel(datetime.now(UTC), tick=False):
        before = monitoring.sources()
        assert retention.prune_history(ROOT, 30) == len(statuses) - len(kept)
        assert monitoring.sources() == before
    assert run_ids() == [runs[index] for index in kept] + others


def held_deletions(result: SyncRunResult) -> int:
    return sum(hold.kind is Kind.DELETION for hold in result.held)


def test_held_deletions_stay_held(world: World) -> None:
    source = world.sheet("sheet-a", plan_rows(A=1, B=1, C=1))
    world.sync(source)
    world.rows("sheet-a", [HEADER, ["New", "Q1 2025", 1]])
    assert held_deletions(world.sync(source)) == 3
    SyncHistory.update(startTime=clock.now() - timedelta(days=99)).execute()
    add_runs(source, "failed", "failed", days=98)
    assert retention.prune_history(ROOT, 30) == 2
    world.rows("sheet-a", [HEADER, *([f"New {number}", "Q1 2025", 1] for number in range(20))])
    assert held_deletions(world.sync(source)) == 3


def test_pruning_works_in_batches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH_SIZE", 2)
    source = world.sheet("sheet-a", plan_rows(A=1))
    runs = add_runs(source, *["success"] * 6)
    progress: list[int] = []

    def report(deleted: int) -> None:
        assert sum(int(count or 0) for _, count, _ in audited()) == deleted
        progress.append(deleted)

    assert retention.prune_history(ROOT, 30, report) == 5
    assert (progress, run_ids()) == ([2, 4, 5], runs[-1:])


def test_pruning_needs_permission_and_stays_within_its_customer(world: World) -> None:
    world.customer("org-2")
    theirs = world.sheet("sheet-b", plan_rows(B=1), customer_id="org-2")
    runs = add_runs(theirs, "success", "success")
    assert retention.prune_history(person("ann", Role.ADMIN, ORG), 30) == 0
    assert run_ids() == runs
    with pytest.raises(RequestError) as error:
        retention.prune_history(person("max", Role.MANAGER, ORG), 30)
    assert error.value.code == Code.FORBIDDEN


def test_command_reports_the_number(world: World, app: Flask) -> None:
    source = world.sheet("sheet-a", plan_rows(A=1))
    add_runs(source, "success", "success")
    shell: FlaskCliRunner = app.test_cli_runner()
    done = shell.invoke(args=["prune-history", "--older-than", "30"])
    assert done.stdout == "Deleted 1 sync runs older than 30 days.\n"


@pytest.mark.skipif(ENGINE != "postgresql", reason="SQLite's writers take turns")
def test_failed_run_takes_its_number_inside_a_transaction(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Otherwise, a reader of the events could take the number for settled, and miss the run.
    source = world.csv("gone.csv", "Department,Fiscal Period,Budgeted Amount\n")
    (world.folder / "gone.csv").unlink()
    real, transactions = SyncHistory.insert, []

    def insert(*arguments: Any, **columns: Any) -> Any:
        row = db.execute_sql("SELECT pg_current_xact_id_if_assigned()::text").fetchone()
        transactions.append(row[0])
        return real(*arguments, **columns)

    monkeypatch.setattr(SyncHistory, "insert", insert)
    assert world.sync(source).status == "failed"
    assert len(transactions) == 1
    assert transactions[0] is not None
