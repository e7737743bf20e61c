"""Every SQL statement of the integration guide works unchanged and gives the guide's values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
import time_machine
from flask import Flask
from peewee import sqlite3  # type: ignore[attr-defined]  # missing from peewee's stubs
from support.machine import ENGINE, sqlite_only
from support.world import (
    ROOT,
    amend_body,
    check_body,
    commit_body,
    demo_client,
    key_headers,
    release_body,
    reserve_body,
    reverse_body,
    spend_body,
)

from budget_sync import database, manual_budgets
from budget_sync.database.models import BudgetDataSourceConfig, SyncHistory
from budget_sync.domain import clock

pytestmark = pytest.mark.both_engines

CHECKS_OF_A_REQUEST = """
SELECT * FROM "BudgetCheckLog" 
WHERE "requestId" = 'intake-789';
"""  # noqa: W291  # trailing spaces of the guide

RELEASES_OF_A_BUDGET = """
SELECT * FROM "AuditLog" 
WHERE "budgetId" = 'budget-123' 
AND "action" = 'RELEASE';
"""  # noqa: W291

SYNC_RUNS_OF_A_CUSTOMER = """
SELECT * FROM "SyncHistory" 
WHERE "customerId" = 'org-456'
ORDER BY "startTime" DESC 
LIMIT 10;
"""  # noqa: W291

# SQLite has no intervals. On SQLite, these replace NOW() - INTERVAL of the guide.
LAST_24_HOURS, LAST_7_DAYS = (
    (
        "strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '-24 hours')",
        "strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '-7 days')",
    )
    if ENGINE == "sqlite"
    else ("NOW() - INTERVAL '24 hours'", "NOW() - INTERVAL '7 days'")
)

CHECK_SUCCESS_RATE = f"""
   SELECT 
     COUNT(*) FILTER (WHERE available = true) * 100.0 / COUNT(*) as success_rate
   FROM "BudgetCheckLog"
   WHERE timestamp > {LAST_24_HOURS};
"""  # noqa: W291

SYNC_SUCCESS_RATE = f"""
   SELECT 
     COUNT(*) FILTER (WHERE status = 'success') * 100.0 / COUNT(*) as sync_success_rate
   FROM "SyncHistory"
   WHERE "startTime" > {LAST_7_DAYS};
"""  # noqa: W291

UTILIZATION = """
   SELECT 
     department,
     SUM("budgetedAmount") as total_budget,
     SUM("reservedAmount" + "committedAmount") as used,
     SUM("budgetedAmount") - SUM("reservedAmount" + "committedAmount") as available
   FROM "Budget"
   LEFT JOIN "BudgetUtilization" ON "Budget".id = "BudgetUtilization"."budgetId"
   GROUP BY department;
"""  # noqa: W291

LATEST_CHECKS = """SELECT * FROM "BudgetCheckLog" ORDER BY timestamp DESC LIMIT 10"""

LATEST_SYNC_RUNS = """SELECT * FROM "SyncHistory" ORDER BY "startTime" DESC LIMIT 5"""

CHECKED_AT = datetime(2025, 2, 5, 10, 30, tzinfo=UTC)
CANCELLED_AT = datetime(2025, 2, 5, 11, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _without_sync_run_of_demo(world: Flask) -> None:
    """Delete the sync run of the demo, so that tests count only their own."""
    SyncHistory.delete().execute()


def run(sql: str) -> list[dict[str, Any]]:
    """The rows of a statement, from the engine's driver on a separate connection."""
    if ENGINE == "postgresql":
        with psycopg.connect(
            database.db.connection().info.dsn, row_factory=psycopg.rows.dict_row
        ) as server:
            server.execute("SET TIME ZONE 'UTC'")
            return [
                {name: plain(value) for name, value in row.items()}
                for row in server.execute(sql.encode()).fetchall()
            ]
    connection = sqlite3.connect(f"file:{database.db.file_path}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    try:
        return [dict(row) for row in connection.execute(sql).fetchall()]
    finally:
        connection.close()


def plain(value: Any) -> Any:
    """A PostgreSQL timestamp, boolean or decimal as SQLite returns it."""
    if isinstance(value, datetime):
        return clock.to_text(value)
    if isinstance(value, Decimal):
        return int(value) if value == int(value) else float(value)
    return int(value) if isinstance(value, bool) else value


def shown(row: dict[str, Any], like: dict[str, Any]) -> dict[str, tuple[object, type]]:
    """The columns of a row that the guide prints, with types, because 5000.0 == 5000."""
    return {name: (row[name], type(row[name])) for name in like}


def printed(values: dict[str, Any]) -> dict[str, tuple[object, type]]:
    """The guide's row, to compare with `shown`. SQLite returns 1 for true."""
    plain = {
        name: int(value) if isinstance(value, bool) else value for name, value in values.items()
    }
    return {name: (value, type(value)) for name, value in plain.items()}


@pytest.fixture
def traffic(world: Flask) -> Iterator[dict[str, Any]]:
    """Jane checks and reserves, and cancels half an hour later. The check's reply."""
    with time_machine.travel(CHECKED_AT, tick=False) as now:
        jane = demo_client(world, "jane")
        checked = jane.post("/api/budget/check", json=check_body())
        assert jane.post("/api/budget/reserve", json=reserve_body()).status_code == 200
        now.move_to(CANCELLED_AT)
        cancel = release_body(action="cancel", originalRequesterId="user-123", reason=None)
        assert jane.post("/api/budget/release", json=cancel).status_code == 200
        yield json.loads(checked.text)


@pytest.fixture
def sync_runs(world: Flask) -> None:
    """Sync runs of one source: the guide's, one of 8 days ago, and four of the last 7 days."""
    BudgetDataSourceConfig.insert(
        id="src-1",
        customerId="org-456",
        sourceType="google_sheets",
        spreadsheetKey="1abc",
        isActive=True,
        createdAt=clock.now(),
    ).execute()
    now = clock.now()
    guide_start = datetime(2025, 2, 5, 10, 0, tzinfo=UTC)
    figures = {
        "createdCount": 3,
        "updatedCount": 5,
        "unchangedCount": 42,
        "softDeletedCount": 1,
        "durationMs": 2340,
    }
    for sync_id, status, start in (
        ("sync_1707134400_org-456", "success", guide_start),
        ("sync_2_org-456", "failed", now - timedelta(days=8)),
        ("sync_3_org-456", "success", now - timedelta(days=6)),
        ("sync_4_org-456", "partial", now - timedelta(hours=1)),
        ("sync_5_org-456", "success", now),
        ("sync_6_org-456", "success", now - timedelta(hours=2)),
    ):
        SyncHistory.insert(
            syncId=sync_id,
            customerId="org-456",
            sourceId="src-1",
            status=status,
            startedBy="cron",
            startTime=start,
            endTime=start,
            **figures,
        ).execute()


@sqlite_only
def test_driver_is_the_one_with_the_fixed_sqlite() -> None:
    assert Path(sqlite3.__file__).parent.name == "pysqlite3"


def test_logged_check_matches_the_guide(traffic: dict[str, Any]) -> None:
    guide = {
        "requestId": "intake-789",
        "userId": "user-123",
        "userName": "Jane Doe",
        "userEmail": "jane@acme.com",
        "department": "Engineering",
        "amount": 5000,
        "available": True,
        "canAutoApprove": True,
        "timestamp": "2025-02-05T10:30:00Z",
    }
    (row,) = run(CHECKS_OF_A_REQUEST)
    assert shown(row, guide) == printed(guide)
    assert json.loads(row["response"]) == traffic
    assert (traffic["success"], traffic["budget"]["available"]) == (True, 95000)
    assert isinstance(row["durationMs"], int)


def test_logged_release_matches_the_guide(traffic: dict[str, Any]) -> None:
    guide = {
        "budgetId": "budget-123",
        "action": "RELEASE",
        "oldValue": "5000",
        "newValue": "0",
        "changedBy": "Jane Doe (jane@acme.com)",
        "reason": "Request cancelled by user",
        "createdAt": "2025-02-05T11:00:00Z",
    }
    (row,) = run(RELEASES_OF_A_BUDGET)
    assert shown(row, guide) == printed(guide)


@pytest.mark.usefixtures("sync_runs")
def test_sync_history_matches_the_guide() -> None:
    guide = {
        "syncId": "sync_1707134400_org-456",
        "status": "success",
        "createdCount": 3,
        "updatedCount": 5,
        "unchangedCount": 42,
        "softDeletedCount": 1,
        "durationMs": 2340,
        "startTime": "2025-02-05T10:00:00Z",
    }
    rows = run(SYNC_RUNS_OF_A_CUSTOMER)
    assert [row["syncId"][5:6] for row in rows] == ["5", "4", "6", "3", "2", "1"]
    assert shown(rows[-1], guide) == printed(guide)


def test_check_success_rate_covers_the_last_24_hours(world: Flask) -> None:
    client, headers = world.test_client(), key_headers()
    with time_machine.travel(clock.now() - timedelta(hours=25)):
        client.post("/api/budget/check", json=check_body(department="Marketing"), headers=headers)
    # With the check of the demo, which is available, there are four.
    for changes in ({}, {"amount": 95_000.01}, {"amount": 20_000}):
        assert (
            client.post(
                "/api/budget/check", json=check_body(**changes), headers=headers
            ).status_code
            == 200
        )
    assert run(CHECK_SUCCESS_RATE) == [{"success_rate": 75}]


@pytest.mark.usefixtures("sync_runs")
def test_sync_success_rate_covers_the_last_7_days() -> None:
    assert run(SYNC_SUCCESS_RATE) == [{"sync_success_rate": 75}]


def engineering() -> dict[str, Any]:
    """The row of Engineering in the utilization statement."""
    (row,) = [row for row in run(UTILIZATION) if row["department"] == "Engineering"]
    return row


def test_utilization_is_in_whole_units(world: Flask) -> None:
    guide = {"department": "Engineering", "total_budget": 100000, "used": 5000, "available": 95000}
    before = engineering()
    assert shown(before, guide) == printed(guide)
    client, headers = world.test_client(), key_headers()
    assert (
        client.post("/api/budget/reserve", json=reserve_body(), headers=headers).status_code == 200
    )
    reserved = guide | {"used": 10000, "available": 90000}
    row = engineering()
    assert shown(row, reserved) == printed(reserved)
    assert (
        client.post(
            "/api/budget/reserve", json=reserve_body(requestId="fine", amount=99.5), headers=headers
        ).status_code
        == 200
    )
    row = engineering()
    assert (row["total_budget"], row["used"], row["available"]) == (100000, 10099.5, 89900.5)


def test_utilization_follows_later_changes(world: Flask) -> None:
    client, headers = world.test_client(), key_headers()
    for call, body, used in (
        ("reserve", reserve_body(), 10_000),
        ("amend", amend_body(amount=7500), 12_500),
        ("amend", amend_body(amount=6000), 11_000),
        ("commit", commit_body(amount=6300), 11_300),
        ("reverse", reverse_body(amount=1200.5), 10_099.5),
        ("reverse", reverse_body(amount=99.5, to="reserved", externalRef=None), 10_099.5),
        ("release", release_body(amount=99.5), 10_000),
        ("spend", spend_body(amount=96_000), 106_000),
        ("reverse", reverse_body(requestId="card-2025-0031", amount=96_000), 10_000),
    ):
        response = client.post(f"/api/budget/{call}", json=body, headers=headers)
        assert response.status_code == 200, response.text
        row = engineering()
        assert (row["used"], row["available"]) == (used, 100_000 - used), call


def test_moved_money_is_used_once(world: Flask) -> None:
    client, headers = world.test_client(), key_headers()
    manual_budgets.set_budget(
        ROOT, "org-456", "Events", "Q1 2025", Decimal(20_000), budget_id="events"
    )
    for call, body in (
        ("reserve", reserve_body()),
        ("amend", amend_body(amount=6000, toBudgetId="events")),
    ):
        response = client.post(f"/api/budget/{call}", json=body, headers=headers)
        assert response.status_code == 200, response.text
    used = {row["department"]: row["used"] for row in run(UTILIZATION)}
    assert (used["Engineering"], used["Events"]) == (5000, 6000)


def test_release_after_a_change_matches_the_guide(world: Flask) -> None:
    client, headers = world.test_client(), key_headers()
    for call, body in (
        ("reserve", reserve_body()),
        ("amend", amend_body(amount=6000)),
        ("release", release_body(amount=6000)),
    ):
        response = client.post(f"/api/budget/{call}", json=body, headers=headers)
        assert response.status_code == 200, response.text
    (row,) = run(RELEASES_OF_A_BUDGET)
    assert (row["oldValue"], row["newValue"]) == ("6000", "0")


@pytest.mark.usefixtures("traffic")
def test_latest_checks_come_first(world: Flask) -> None:
    assert (
        world.test_client()
        .post("/api/budget/check", json=check_body(requestId="last"), headers=key_headers())
        .status_code
        == 200
    )
    rows = run(LATEST_CHECKS)
    # The check of the demo has the real time, which is later.
    assert [row["requestId"] for row in rows] == ["intake-101", "last", "intake-789"]
    assert [row["timestamp"] for row in rows[1:]] == [
        "2025-02-05T11:00:00Z",
        "2025-02-05T10:30:00Z",
    ]
    assert [(row["amount"], type(row["amount"])) for row in rows] == [(5000, int)] * 3


@pytest.mark.usefixtures("sync_runs")
def test_latest_sync_runs_come_first() -> None:
    assert [row["syncId"] for row in run(LATEST_SYNC_RUNS)] == [
        f"sync_{number}_org-456" for number in (5, 4, 6, 3, 2)
    ]
