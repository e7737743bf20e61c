"""The upgrade of reservations: versions, and replays of calls from before the upgrade."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from database.test_upgrade import EARLIER, create_earlier
from peewee import sqlite3  # type: ignore[attr-defined]  # missing from peewee's stubs
from support.machine import ENGINE
from support.world import ROOT

from budget_sync import database, ledger
from budget_sync.database import db
from budget_sync.database.models import AuditLog, Budget, Reservation
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.request_models import CommitRequest, ReverseRequest, ReverseTo
from budget_sync.ledger import verification

pytestmark = pytest.mark.skipif(ENGINE != "sqlite", reason="each test names its engine")


@pytest.fixture(params=EARLIER, ids=lambda path: f"version {path.stem}")
def dump(request: pytest.FixtureRequest) -> Path:
    """The database of an earlier version, as SQL."""
    path: Path = request.param
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def upgraded(request: pytest.FixtureRequest, dump: Path, tmp_path: Path) -> Iterator[None]:
    """A connected database of that version on each engine, after its upgrade."""
    if request.param == "sqlite":
        path = tmp_path / "budget_sync.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(dump.read_text(encoding="utf-8"))
        database.connect(path)
    else:
        url = request.getfixturevalue("postgres_url")
        create_earlier(url, dump)
        database.connect(url)
    database.upgrade_schema()
    yield
    assert verification.verify().findings == []
    database.disconnect()


def commits() -> list[Any]:
    """The commits with a reference, from before the upgrade."""
    return list(
        AuditLog.select()
        .where((AuditLog.action == "COMMIT") & AuditLog.externalRef.is_null(False))
        .order_by(AuditLog.id)
    )


def whole(row: Any, delta_minor: int) -> Decimal:
    """An amount of an audit row in whole units."""
    return Decimal(delta_minor).scaleb(-Budget.get_by_id(row.budgetId).currencyExponent)


@pytest.mark.usefixtures("upgraded")
def test_version_is_that_of_the_latest_audit_row() -> None:
    stored = {row.id: row.version for row in Reservation.select()}
    query = 'SELECT "reservationId", MAX("version") FROM "AuditLog" GROUP BY "reservationId"'
    latest = {name: version for name, version in db.execute_sql(query).fetchall() if name}
    assert stored
    assert stored == latest
    assert len(set(stored.values())) > 1
    columns = '"adjustedMinor", "reversedMinor", "expiresAt"'
    rows = db.execute_sql(f'SELECT DISTINCT {columns} FROM "Reservation"').fetchall()
    assert rows == [(0, 0, None)]


@pytest.mark.usefixtures("upgraded")
def test_commit_from_before_the_upgrade_is_replayed() -> None:
    assert commits()
    for row in commits():
        reservation = Reservation.get(Reservation.id == row.reservationId)
        body = {
            "budget_id": row.budgetId,
            "request_id": row.requestId,
            "external_ref": row.externalRef,
        }
        before = AuditLog.select().count()
        amount = whole(row, row.committedDeltaMinor)
        reply = ledger.commit(ROOT, CommitRequest(amount=amount, **body))
        assert (reply.replayed, reply.data["amountCommitted"]) == (True, amount)
        assert reply.data["reservationId"] == reservation.id
        with pytest.raises(RequestError) as raised:
            ledger.commit(ROOT, CommitRequest(amount=amount + 1, **body))
        assert raised.value.code is Code.EXTERNAL_REF_CONFLICT
        assert AuditLog.select().count() == before


@pytest.mark.usefixtures("upgraded")
def test_commit_from_before_the_upgrade_is_reversed() -> None:
    row = commits()[-1]
    is_open = Reservation.status == "open"
    before = Reservation.select().where(is_open).count()
    was_open = Reservation.get(Reservation.id == row.reservationId).status == "open"
    for to, amount in ((ReverseTo.AVAILABLE, 1), (ReverseTo.RESERVED, 2)):
        ledger.reverse(
            ROOT,
            ReverseRequest(
                budget_id=row.budgetId,
                request_id=row.requestId,
                amount=Decimal(amount),
                to=to,
                reason="A credit note",
            ),
        )
    assert Reservation.select().where(is_open).count() == before + (not was_open)
