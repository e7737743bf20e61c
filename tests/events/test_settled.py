"""Which events are settled while transactions are open: on PostgreSQL, none may appear later."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from budget_sync import database
from budget_sync.database import settled
from budget_sync.database.settled import LogIds, horizon

_INSERT = """
    INSERT INTO "AuditLog" ("action", "principal", "changedBy", "createdAt")
    VALUES ('ADD_USER', 'x', 'x', NOW()) RETURNING "id"
"""


@pytest.fixture
def url(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    database.connect(postgres_url)
    database.init_schema()
    # What this process knows of another database.
    monkeypatch.setattr(settled, "_settling", settled._Settling())  # noqa: SLF001
    yield postgres_url
    database.disconnect()


def insert(connection: psycopg.Connection[tuple[int]]) -> int:
    row = connection.execute(_INSERT).fetchone()
    assert row is not None
    return row[0]


def test_newest_open_transaction_is_not_settled(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as other, psycopg.connect(url) as slow:
        first = insert(other)
        assert horizon().settled.audit == first
        # No newer transaction ends while this one is open.
        opened = insert(slow)
        assert horizon() == ((first, 0), (opened, 0))
        assert horizon() == ((first, 0), (opened, 0))
        slow.commit()
        assert horizon().settled == LogIds(opened, 0)


def test_newer_transactions_wait_for_an_open_one(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as other, psycopg.connect(url) as slow:
        first = insert(other)
        assert horizon().settled.audit == first
        insert(slow)
        newer = [insert(other) for _ in range(3)]
        assert horizon().settled.audit == first
        with psycopg.connect(url) as later:
            latest = insert(later)
            slow.commit()
            # The ids up to the first pending one are settled; the latest transaction is open.
            assert first < horizon().settled.audit <= newer[-1]
            assert horizon().settled.audit < latest
            later.rollback()
        assert horizon().settled.audit == latest


def test_slower_thread_takes_nothing_back() -> None:
    settling = settled._Settling()  # noqa: SLF001
    assert settling.update(None, LogIds(20, 3), 7, 7) == (20, 3)
    # This thread read before the other one, and then waited.
    assert settling.update(None, LogIds(10, 3), 5, 6) == (20, 3)
    assert settling.update(LogIds(20, 3), LogIds(21, 3), 8, 8) == (21, 3)


def test_ids_below_the_known_ones_begin_again() -> None:
    settling = settled._Settling()  # noqa: SLF001
    settling.update(None, LogIds(20, 3), 7, 7)
    # The database was restored to an earlier state, and a transaction is open.
    assert settling.update(LogIds(20, 3), LogIds(10, 3), 5, 6) is None
    assert settling.update(None, LogIds(10, 3), 6, 6) == (10, 3)
