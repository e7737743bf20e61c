"""Checkpoints: the log restarts while jobs are committed, and a failed checkpoint loses nothing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import closing

import peewee
import pytest
from flask import Flask
from peewee import sqlite3  # type: ignore[attr-defined]  # missing from peewee's stubs
from support.machine import wait_until
from support.world import ROOT

from budget_sync import database
from budget_sync.database import audit_log
from budget_sync.database.models import AuditLog
from budget_sync.database.sqlite import checkpoints

DUE = 60


@pytest.fixture(autouse=True)
def _often(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a new database, where a checkpoint is due after a few rows."""
    monkeypatch.setattr(checkpoints, "DUE_ROWS", DUE)


@pytest.fixture
def reader() -> Iterator[sqlite3.Connection]:
    """Another connection, which holds a read snapshot until it is closed."""
    with closing(sqlite3.connect(database.db.file_path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute('SELECT COUNT(*) FROM "AuditLog"').fetchall()
        yield connection


def write(count: int) -> None:
    """Run jobs that write a page or two each, with one commit each."""
    for number in range(count):
        database.transact(
            lambda number=number: audit_log.record(  # type: ignore[misc]
                ROOT, "ADD_USER", customer_id=None, subject=f"{number}", reason="x" * 3000
            )
        )


def pages_in_log() -> int:
    """The number of valid pages in the log.

    The header of the log has a salt, and each valid page has the same salt.
    """
    content = database.db.file_path.with_name(f"{database.db.file_path.name}-wal").read_bytes()
    return sum(
        content[at + 8 : at + 16] == content[16:24]
        for at in range(32, len(content) - 24, 24 + 4096)
    )


def log_restarted() -> bool:
    """Whether the log has restarted, after some more jobs, which make a retry due if one failed."""
    write(DUE // 6)
    return pages_in_log() < DUE


def row_count() -> int:
    """The number of audit rows."""
    count: int = AuditLog.select().count()
    return count


def test_log_restarts_while_jobs_are_committed() -> None:
    largest = 0
    for number in range(1, 41):
        write(10)
        largest = max(largest, pages_in_log())
        assert row_count() == 10 * number
    assert largest >= DUE
    wait_until(log_restarted, "the log did not restart")
    assert any(thread.name == "budget-sync-checkpoints" for thread in threading.enumerate())


def test_checkpoint_does_not_wait_for_a_reader(reader: sqlite3.Connection) -> None:
    write(2 * DUE)
    assert pages_in_log() >= 2 * DUE, "the log must keep the pages that the reader may still need"
    assert reader.execute('SELECT COUNT(*) FROM "AuditLog"').fetchone() == (0,)
    reader.execute("COMMIT")
    wait_until(log_restarted, "the log did not restart")


def test_failed_checkpoint_is_logged_and_retried(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = checkpoints._copy_back  # noqa: SLF001  # fails on a full disk
    failures: list[str] = []

    def fail_at_first() -> None:
        if len(failures) < 3:
            failures.append("failed")
            raise peewee.OperationalError("database or disk is full")
        real()

    monkeypatch.setattr(checkpoints, "_copy_back", fail_at_first)
    monkeypatch.setattr(logging.getLogger("budget_sync"), "propagate", True)
    write(2 * DUE)
    wait_until(log_restarted, "the log did not restart")
    assert len(failures) == 3
    assert "A checkpoint failed" in caplog.text
    assert row_count() >= 2 * DUE
