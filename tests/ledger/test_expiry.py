"""expire_holds: each expired reservation is released once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import time_machine
from flask import Flask
from support.purchases import (
    ACME,
    FIONA,
    FOREIGN,
    FOREIGN_SERVICE,
    GLOBAL,
    GLOBEX,
    JANE,
    MAIN,
    OTHER,
    REQUEST,
    SERVICE,
    check,
    do,
    everything,
    figures,
    movements,
    rejected,
    set_customer,
    soft_delete,
    trail,
)
from support.world import ROOT

from budget_sync.accounts import customers
from budget_sync.database.models import BudgetUtilization, Customer, Reservation
from budget_sync.domain.errors import Code, RequestError
from budget_sync.ledger import expiry
from budget_sync.ledger.expiry import Expired, NotReleasedError, expire_holds

pytestmark = pytest.mark.both_engines


@pytest.fixture(autouse=True)
def clock(company: Flask) -> Iterator[time_machine.Traveller]:
    """Holds of both customers last for ten days; the time stands still."""
    Customer.update(holdDays=10).execute()
    with time_machine.travel("2025-01-01T00:00:00Z", tick=False) as travel:
        yield travel


def later(clock: time_machine.Traveller, day: int, second: int = 0) -> None:
    """Continue at a day of January."""
    clock.move_to(f"2025-01-{day:02}T00:00:{second:02}Z", tick=False)


def test_expired_hold_is_released(clock: time_machine.Traveller) -> None:
    do("reserve", amount=100, user_id="jane")
    do("commit", amount=30)
    clock.move_to("2025-01-10T23:59:59Z", tick=False)
    before = everything()
    assert expire_holds(ROOT) == 0
    assert everything() == before
    later(clock, 11)
    reported: list[Expired] = []
    assert expire_holds(ROOT, report=reported.append) == 1
    assert reported == [Expired(ACME, MAIN, REQUEST, "70", "USD")]
    assert figures() == (0, 3_000)
    assert trail()[2:] == [("RELEASE", "70", "0", -7_000, 0)]
    row = movements()[-1]
    assert (row.principal, row.changedBy, row.onBehalfOf, row.reason) == (
        "expiry",
        "expiry",
        "Jane (jane@example.com)",
        "The hold expired at 2025-01-11T00:00:00Z",
    )
    stored = Reservation.get()
    assert (stored.status, stored.closingCall, stored.releasedMinor) == ("closed", "expiry", 7_000)
    assert expire_holds(ROOT) == 0


def test_calls_after_the_expiry(clock: time_machine.Traveller) -> None:
    do("reserve", amount=100)
    later(clock, 12)
    # Until it is released, the hold is a hold.
    do("commit", amount=30)
    assert expire_holds(ROOT) == 1
    rejected("commit", Code.NO_OPEN_RESERVATION, amount=70)
    rejected("amend", Code.NO_OPEN_RESERVATION, extend=True)
    rejected("release", Code.AMOUNT_EXCEEDS_RESERVED, amount=70)
    rejected("reserve", Code.RESERVATION_CLOSED, amount=100)
    check(JANE, 100)
    assert do("reserve", amount=100)["expiresAt"] == "2025-01-22T00:00:00Z"


def test_extended_and_moved_holds_keep_their_time(clock: time_machine.Traveller) -> None:
    for request_id in ("extended", "moved", "forgotten"):
        do("reserve", request_id=request_id, amount=10)
    later(clock, 5)
    do("amend", request_id="extended", extend=True)
    do("amend", request_id="moved", to_budget_id=OTHER)
    later(clock, 11)
    assert expire_holds(ROOT) == 2
    assert (figures(), figures(OTHER)) == ((1_000, 0), (0, 0))
    later(clock, 15)
    assert expire_holds(ROOT) == 1


def test_holds_without_days_never_expire(clock: time_machine.Traveller) -> None:
    set_customer(holdDays=None)
    assert "expiresAt" not in do("reserve", amount=100)
    clock.move_to("2035-01-01T00:00:00Z", tick=False)
    assert expire_holds(ROOT) == 0


def test_deleted_budgets_and_many_batches(
    clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "BATCH_SIZE", 2)
    for number in range(5):
        do("reserve", request_id=f"r{number}", amount=10)
    soft_delete()
    later(clock, 11)
    reported: list[Expired] = []
    assert expire_holds(ROOT, report=reported.append) == 5
    assert [each.request_id for each in reported] == [f"r{number}" for number in range(5)]
    assert figures() == (0, 0)


def test_customers_are_separate(clock: time_machine.Traveller) -> None:
    do("reserve", amount=100)
    do("reserve", GLOBAL, budget_id=FOREIGN, amount=100)
    later(clock, 11)
    with pytest.raises(RequestError) as raised:
        expire_holds(FOREIGN_SERVICE, ACME)
    assert raised.value.code is Code.INVALID_CUSTOMER
    assert expire_holds(ROOT, "unknown") == 0
    assert expire_holds(FIONA) == 1
    assert (figures(), figures(FOREIGN)) == ((0, 0), (10_000, 0))
    assert expire_holds(ROOT, GLOBEX) == 1


def test_disabled_customer_stops_no_other(clock: time_machine.Traveller) -> None:
    do("reserve", amount=100)
    do("reserve", GLOBAL, budget_id=FOREIGN, amount=100)
    customers.disable_customer(ROOT, ACME)
    later(clock, 11)
    assert expire_holds(ROOT) == 1
    assert (figures(), figures(FOREIGN)) == ((10_000, 0), (0, 0))
    Customer.update(disabledAt=None).execute()
    assert expire_holds(ROOT) == 1


def test_ordinary_user_expires_nothing(clock: time_machine.Traveller) -> None:
    do("reserve", amount=100)
    later(clock, 11)
    with pytest.raises(RequestError) as raised:
        expire_holds(JANE)
    assert raised.value.code is Code.FORBIDDEN
    assert expire_holds(SERVICE) == 1


@pytest.mark.parametrize("change", ["extended", "released", "reserved again"])
def test_hold_that_changed_since_it_was_looked_up_stays(
    clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    do("reserve", amount=100)
    later(clock, 11)
    looked_up = list(expiry._due(None, "2025-01-11T00:00:00Z"))  # noqa: SLF001  # the race
    monkeypatch.setattr(expiry, "_due", lambda *_: iter(looked_up))
    if change == "extended":
        do("amend", extend=True)
    else:
        do("release", amount=100)
    if change == "reserved again":
        check(JANE, 50)
        do("reserve", amount=50)
    before = everything()
    assert len(looked_up) == 1
    assert expire_holds(ROOT) == 0
    assert everything() == before


def test_damaged_balance_does_not_keep_the_holds_of_others(clock: time_machine.Traveller) -> None:
    do("reserve", request_id="damaged", amount=100)
    do("reserve", request_id="intact", budget_id=OTHER, amount=100)
    balance = BudgetUtilization.budgetId == MAIN
    BudgetUtilization.update(reservedMinor=0).where(balance).execute()
    later(clock, 12)
    reported: list[Expired] = []
    with pytest.raises(NotReleasedError, match="1 expired reservation could not be released"):
        expire_holds(ROOT, report=reported.append)
    assert [expired.request_id for expired in reported] == ["intact"]
    assert (figures(), figures(OTHER)) == ((0, 0), (0, 0))
    assert Reservation.get(Reservation.requestId == "damaged").status == "open"
    BudgetUtilization.update(reservedMinor=10_000).where(balance).execute()
    assert expire_holds(ROOT) == 1
