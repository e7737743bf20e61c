"""Checkpoints: the log begins anew while works are committed, nobody waits for it, and one that fails harms nothing."""

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
    """On a database of its own, where a checkpoint is due soon."""
    monkeypatch.setattr(checkpoints, "DUE_ROWS", DUE)


@pytest.fixture
def reader() -> Iterator[sqlite3.Connection]:
    """Another connection, which looks at one moment of the database until it is closed."""
    with closing(sqlite3.connect(database.db.file_path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute('SELECT COUNT(*) FROM "AuditLog"').fetchall()
        yield connection


def write(count: int) -> None:
    """Works of a page or two each, one commit each."""
    for number in range(count):
        database.transact(
            lambda number=number: audit_log.record(  # type: ignore[misc]
                ROOT, "ADD_USER", customer_id=None, subject=f"{number}", reason="x" * 3000
            )
        )


def pages_in_log() -> int:
    """How long the log is now: at its beginning is the number of its first page's salt, and each page that counts bears it."""
    content = database.db.file_path.with_name(f"{database.db.file_path.name}-wal").read_bytes()
    return sum(
        content[at + 8 : at + 16] == content[16:24]
        for at in range(32, len(content) - 24, 24 + 4096)
    )


def begins_anew() -> bool:
    """Whether it has, after some more works, so that the next try is soon due where one fails."""
    write(DUE // 6)
    return pages_in_log() < DUE


def rows() -> int:
    count: int = AuditLog.select().count()
    return count


def test_the_log_begins_anew_while_works_are_committed() -> None:
    largest = 0
    for number in range(1, 41):
        write(10)
        largest = max(largest, pages_in_log())
        assert rows() == 10 * number
    assert largest >= DUE
    wait_until(begins_anew, "the log never begins anew")
    assert any(thread.name == "budget-sync-checkpoints" for thread in threading.enumerate())


def test_a_reader_is_not_waited_for_and_sees_its_own_moment(reader: sqlite3.Connection) -> None:
    write(2 * DUE)
    assert pages_in_log() >= 2 * DUE, "the log has to keep what the reader may still look at"
    assert reader.execute('SELECT COUNT(*) FROM "AuditLog"').fetchone() == (0,)
    reader.execute("COMMIT")
    wait_until(begins_anew, "the log never begins anew")


def test_a_checkpoint_that_fails_is_told_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = checkpoints._copy_back  # noqa: SLF001  # where a full disk would fail it
    failures: list[str] = []

    def fail_at_first() -> None:
        if len(failures) < 3:
            failures.append("failed")
            raise peewee.OperationalError("database or disk is full")
        real()

    monkeypatch.setattr(checkpoints, "_copy_back", fail_at_first)
    monkeypatch.setattr(logging.getLogger("budget_sync"), "propagate", True)
    write(2 * DUE)
    wait_until(begins_anew, "the log never begins anew")
    assert len(failures) == 3
    assert "A checkpoint failed" in caplog.text
    assert rows() >= 2 * DUE
