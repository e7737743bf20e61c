"""Hold days, `flask expire-holds`, and the expiry at the start of `flask sync-sheets`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import click
import peewee
import pytest
import time_machine
from flask import Flask
from support.world import ROOT

from budget_sync import ledger
from budget_sync.accounts import customers
from budget_sync.database.models import AuditLog, Customer, Reservation
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.request_models import ReserveRequest
from budget_sync.ledger import expiry as ledger_expiry
from budget_sync.ledger import verification
from budget_sync.operations import demo
from budget_sync.operations.doctor import expiry
from budget_sync.operations.doctor.findings import State
from budget_sync.sync import expiry as sync_expiry

pytestmark = pytest.mark.both_engines

NOW = datetime(2025, 2, 5, 10, 30, tzinfo=UTC)
LINE = f"{demo.CUSTOMER} {demo.BUDGET}: released 100 USD of request req-1\n"


def run(app: Flask, *arguments: str) -> click.testing.Result:
    """Run a command in this process."""
    with app.app_context():
        return app.test_cli_runner().invoke(args=arguments, prog_name="flask")


def succeed(app: Flask, *arguments: str) -> str:
    """Run a command that must succeed; returns its output."""
    result = run(app, *arguments)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout


def reserve(request_id: str = "req-1") -> None:
    """Reserve 100 on the guide's budget."""
    ledger.reserve(
        ROOT, ReserveRequest(budget_id=demo.BUDGET, request_id=request_id, amount=Decimal(100))
    )


def expiry_of(request_id: str = "req-1") -> datetime | None:
    found: datetime | None = Reservation.get(Reservation.requestId == request_id).expiresAt
    return found


@pytest.fixture
def expired(world: Flask) -> Flask:
    """The guide's world with a reservation that expired long ago."""
    with time_machine.travel(NOW, tick=False):
        succeed(world, "set-customer", demo.CUSTOMER, "--hold-days", "30")
        reserve()
    return world


def test_open_holds_get_all_days_from_now_and_lose_them(world: Flask) -> None:
    with time_machine.travel(NOW, tick=False):
        reserve()
        reserve("req-2")
    count = Reservation.select().where(Reservation.status == "open").count()
    later = NOW + timedelta(days=100)
    with time_machine.travel(later, tick=False):
        assert succeed(world, "set-customer", demo.CUSTOMER, "--hold-days", "30") == (
            f"Changed customer org-456: holdDays. {count} open reservations will expire at "
            "2025-06-15T10:30:00Z.\n"
        )
        assert expiry_of() == expiry_of("req-2") == later + timedelta(days=30)
        assert "Released 0 expired" in succeed(world, "expire-holds")
        assert succeed(world, "set-customer", demo.CUSTOMER, "--no-hold-days") == (
            f"Changed customer org-456: holdDays. {count} open reservations will not expire.\n"
        )
    assert expiry_of() is None


def test_equal_hold_days_extend_nothing(expired: Flask) -> None:
    assert "Nothing to change" in succeed(
        expired, "set-customer", demo.CUSTOMER, "--hold-days", "30"
    )
    assert expiry_of() == NOW + timedelta(days=30)


def test_expired_holds_are_released_with_a_line_each(expired: Flask) -> None:
    planned = succeed(expired, "expire-holds", "--dry-run")
    assert planned == (
        LINE.replace("released", "would release") + "1 expired reservation. Nothing was changed.\n"
    )
    assert Reservation.get(Reservation.requestId == "req-1").status == "open"
    assert succeed(expired, "expire-holds") == LINE + "Released 1 expired reservation.\n"
    assert succeed(expired, "expire-holds") == "Released 0 expired reservations.\n"
    row = AuditLog.get((AuditLog.requestId == "req-1") & (AuditLog.action == "RELEASE"))
    assert row.changedBy == "expiry"
    assert verification.verify().findings == []


def test_damaged_hold_is_counted_and_others_are_released(
    expired: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    with time_machine.travel(NOW, tick=False):
        reserve("req-2")
    real = ledger_expiry._expire  # noqa: SLF001  # a database that rejects one release

    def expire(due: Any, now: str) -> Any:
        if due.request_id == "req-1":
            raise peewee.IntegrityError("CHECK constraint failed")
        return real(due, now)

    monkeypatch.setattr(ledger_expiry, "_expire", expire)
    result = run(expired, "expire-holds")
    assert result.exit_code == 1
    assert "Released 1 expired reservation.\n" in result.stdout
    assert "1 expired reservation could not be released. The log says which" in result.stderr
    result = run(expired, "sync-sheets")
    assert result.exit_code == 1
    assert "1 expired reservation could not be released" in result.stderr
    assert "success" in result.stdout


def test_only_holds_of_the_named_customer_are_released(expired: Flask) -> None:
    customers.add_customer(ROOT, "rival", "Rival")
    assert succeed(expired, "expire-holds", "--customer", "rival").startswith("Released 0")
    assert run(expired, "expire-holds", "--customer", "nobody").exit_code == 1
    assert succeed(expired, "expire-holds", "--customer", demo.CUSTOMER).startswith(LINE)


def test_holds_of_a_disabled_customer_do_not_stop_the_others(expired: Flask) -> None:
    customers.disable_customer(ROOT, demo.CUSTOMER)
    for options in (("--dry-run",), ()):
        assert LINE not in succeed(expired, "expire-holds", *options)
    assert Reservation.get(Reservation.requestId == "req-1").status == "open"


def test_sync_releases_expired_holds_first(expired: Flask) -> None:
    assert LINE not in run(expired, "sync-sheets", "--dry-run").stdout
    assert Reservation.get(Reservation.requestId == "req-1").status == "open"
    assert succeed(expired, "sync-sheets", "--customer", demo.CUSTOMER).startswith(LINE)
    assert Reservation.get(Reservation.requestId == "req-1").status == "closed"


def test_json_of_a_sync_has_only_sources(expired: Flask) -> None:
    printed = succeed(expired, "sync-sheets", "--json")
    assert all(line.startswith("{") for line in printed.splitlines())
    assert Reservation.get(Reservation.requestId == "req-1").status == "closed"


@pytest.mark.parametrize(
    "error", [RequestError(Code.UNAVAILABLE, "The database is busy."), ValueError("a bug")]
)
def test_failed_expiry_is_reported_and_sheets_are_synced(
    expired: Flask, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr(sync_expiry, "expire_holds", fail)
    result = run(expired, "sync-sheets")
    assert result.exit_code == 1
    assert "Expired reservations could not be released: " in result.stderr
    assert "success" in result.stdout


def test_doctor_warns_if_expired_holds_stay_open(expired: Flask) -> None:
    (finding,) = expiry.released_in_time("flask")
    assert finding.state is State.WARNING
    assert "1 is still open" in finding.seen
    assert "15 * * * * flask expire-holds" in finding.todo
    succeed(expired, "expire-holds")
    assert [each.state for each in expiry.released_in_time("flask")] == [State.OK]
    Customer.update(holdDays=None).execute()
    assert list(expiry.released_in_time("flask")) == []
