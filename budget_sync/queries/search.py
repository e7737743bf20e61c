"""Finds budgets and requests by any text: an id, a person, a vendor, a purpose, a department.

Ids are found by index. Other texts are looked for in the newest rows only, so that a search takes
less than a second however many rows there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from operator import itemgetter
from typing import Any, Final, NamedTuple

from peewee import fn

from budget_sync.database.models import Budget, BudgetCheckLog, Reservation, Spend
from budget_sync.domain.permissions import Action, Actor, Scope, require_for
from budget_sync.queries import timeline
from budget_sync.queries.budgets import BudgetLine, BudgetQuery, budgets_page, rows, to_line
from budget_sync.queries.paging import unindexed
from budget_sync.queries.request_query import has_text
from budget_sync.queries.timeline import CheckLine, ReservationLine, SpendLine, can_be_an_id

#: The most budgets, requests and spends that are listed.
LISTED: Final = 50

#: How many rows of each table are searched for a text.
LOOKED_AT: Final = 100_000

_MAX_TEXT: Final = 200

#: After every id with a prefix, and before every other id, in the order of bytes.
_LAST: Final = "\U0010ffff"


class Cursor(NamedTuple):
    """The rows before which a search goes on: ids of the check log, reservations and spends."""

    check: int
    reservation: int
    spend: int

    @classmethod
    def parse(cls, text: str) -> Cursor | None:
        """The cursor in a link; None for anything else."""
        parts = text.split(".")
        if len(parts) != len(cls._fields) or any(
            not (part.isascii() and part.isdecimal() and len(part) <= 15) for part in parts
        ):
            return None
        return cls(*map(int, parts))

    def __str__(self) -> str:
        return ".".join(map(str, self))


class FoundRequest(NamedTuple):
    """A request: its latest reservation, or if there is none, its latest check."""

    request_id: str
    at: datetime
    reservation: ReservationLine | None
    check: CheckLine | None


class Found(NamedTuple):
    """The result of a search.

    `since` is the time of the oldest check that was searched for the text, and `rest` where an
    older search goes on; both are None if all were searched.
    """

    budgets: list[BudgetLine]
    budget_count: int
    requests: list[FoundRequest]
    has_more_requests: bool
    spends: list[SpendLine]
    since: datetime | None
    rest: Cursor | None


class _Table(NamedTuple):
    """The searched columns of a table: its sequence, times, ids of requests, owners and texts."""

    table: Any
    sequence: Any
    at: Any
    id: Any
    owner: Any
    texts: tuple[Any, ...]


_CHECKS = _Table(
    BudgetCheckLog,
    BudgetCheckLog.id,
    BudgetCheckLog.timestamp,
    BudgetCheckLog.requestId,
    BudgetCheckLog.checkedBy,
    (
        BudgetCheckLog.requestId,
        BudgetCheckLog.userName,
        BudgetCheckLog.userEmail,
        BudgetCheckLog.vendor,
        BudgetCheckLog.purpose,
        BudgetCheckLog.department,
    ),
)
_RESERVATIONS = _Table(
    Reservation,
    Reservation.seq,
    Reservation.createdAt,
    Reservation.requestId,
    Reservation.requesterId,
    (Reservation.requestId, Reservation.requesterName, Reservation.requesterEmail),
)
_SPENDS = _Table(
    Spend,
    Spend.seq,
    Spend.createdAt,
    Spend.spendId,
    None,
    (Spend.spendId, Spend.vendor, Spend.reason, Spend.externalRef),
)


class _Place:
    """The rows of a table that a search looks at: of one customer, between two sequence numbers."""

    def __init__(self, table: _Table, customer_id: str, start: int, rest: int) -> None:
        self._table, self._start, self._rest = table, start, rest
        self.condition: Any = table.table.customerId == customer_id
        # Keeps the order of the sequence: the index of requests begins with the customer.
        self._unindexed: Any = unindexed(table.table.customerId) == customer_id

    def of(self, owner: str | None) -> _Place:
        """Only the rows of an owner."""
        self.condition &= self._table.owner == owner
        self._unindexed &= self._table.owner == owner
        return self

    def ids(self, text: str, is_first: bool) -> Iterator[tuple[datetime, str]]:
        """The times and ids of rows with the text; if `is_first`, also by an id that starts so."""
        table, columns = self._table, (self._table.at, self._table.id)
        looked_at = (table.sequence < self._start) & (table.sequence >= self._rest)
        newest_first = table.table.select(*columns).order_by(table.sequence.desc())
        yield from (
            newest_first.where(looked_at & self._unindexed & has_text(text, table.texts))
            .limit(2 * LISTED)
            .tuples()
        )
        if is_first:
            with_prefix = (table.id >= text) & (table.id < text + _LAST)
            for by_id in (table.id == text, with_prefix):
                found = table.table.select(*columns).where(self.condition & by_id)
                yield from found.limit(2 * LISTED).tuples()

    def rows(self, query: Any, ids: list[str]) -> Any:
        """The rows of a query of this table with these ids, oldest first."""
        by_id = query.where(self.condition & self._table.id.in_(ids))
        return by_id.order_by(self._table.sequence)


def search(actor: Actor, customer_id: str, text: str, before: Cursor | None = None) -> Found:
    """The budgets, requests and spends with a text. An older search finds no budgets again.

    An ordinary user finds only their own requests, and no spends. Raises RequestError FORBIDDEN or
    INVALID_CUSTOMER.
    """
    scope = require_for(actor, Action.READ_REQUESTS, customer_id)
    text = text.strip()
    if not text or not can_be_an_id(text[:_MAX_TEXT]):
        return Found([], 0, [], False, [], None, None)
    text = text[:_MAX_TEXT]
    budgets, budget_count = ([], 0) if before else _budgets(actor, customer_id, text)
    start = before or Cursor(*(_after_last(each) for each in (_CHECKS, _RESERVATIONS, _SPENDS)))
    rest = Cursor(*(max(0, each - LOOKED_AT) for each in start))
    places = [
        _Place(_CHECKS, customer_id, start.check, rest.check),
        _Place(_RESERVATIONS, customer_id, start.reservation, rest.reservation),
    ]
    if scope is Scope.OWN:
        owners = (actor.principal, actor.user_id)
        places = [place.of(owner) for place, owner in zip(places, owners, strict=True)]
    ids = _latest_ids([found for place in places for found in place.ids(text, before is None)])
    listed = _described(ids[:LISTED], *places)
    spends: list[SpendLine] = []
    if scope is Scope.ANY:
        place = _Place(_SPENDS, customer_id, start.spend, rest.spend)
        found_ids = _latest_ids(list(place.ids(text, before is None)))[:LISTED]
        spends = [SpendLine(*row) for row in place.rows(timeline.spends(), found_ids)]
    is_complete = not any(rest)
    return Found(
        budgets,
        budget_count,
        listed,
        len(ids) > LISTED,
        spends,
        None if is_complete else _time_after(rest.check),
        None if is_complete else rest,
    )


def _after_last(table: _Table) -> int:
    last = table.table.select(fn.MAX(table.sequence)).scalar()
    return (last or 0) + 1


def _budgets(actor: Actor, customer_id: str, text: str) -> tuple[list[BudgetLine], int]:
    """The live budgets with the text, and a deleted one with that id."""
    found, count = budgets_page(actor, customer_id, BudgetQuery(text=text))
    deleted = rows().where(
        Budget.customerId == customer_id, Budget.id == text, Budget.deletedAt.is_null(False)
    )
    return [*map(to_line, deleted), *found][:LISTED], count


def _latest_ids(found: list[tuple[datetime, str]]) -> list[str]:
    """Each id once, the latest first."""
    latest_first = sorted(found, key=itemgetter(0), reverse=True)
    return list(dict.fromkeys(request_id for _, request_id in latest_first))


def _described(ids: list[str], checks: _Place, reservations: _Place) -> list[FoundRequest]:
    """The state of requests, in the order of their ids."""
    if not ids:
        return []
    latest_check = (
        BudgetCheckLog.select(fn.MAX(BudgetCheckLog.id))
        .where(checks.condition & BudgetCheckLog.requestId.in_(ids))
        .group_by(BudgetCheckLog.requestId)
    )
    of_check = {
        line.request_id: line
        for line in (
            CheckLine(*row) for row in timeline.checks().where(BudgetCheckLog.id.in_(latest_check))
        )
    }
    of_reservation = {
        line.request_id: line
        for line in (
            ReservationLine(*row) for row in reservations.rows(timeline.reservations(), ids)
        )
    }
    described = []
    for request_id in ids:
        check, reservation = of_check.get(request_id), of_reservation.get(request_id)
        at = max(
            line for line in (check and check.at, reservation and reservation.created_at) if line
        )
        described.append(FoundRequest(request_id, at, reservation, check))
    return described


def _time_after(check_id: int) -> datetime | None:
    """The time of the first check from this id on."""
    found: datetime | None = (
        BudgetCheckLog.select(BudgetCheckLog.timestamp)
        .where(BudgetCheckLog.id >= check_id)
        .order_by(BudgetCheckLog.id)
        .limit(1)
        .scalar()
    )
    return found
