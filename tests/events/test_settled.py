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
