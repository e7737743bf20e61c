"""What the model of the ledger knows: budgets, reservations and spends, and how they change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

DONE, REPLAYED = "done", "replayed"
PERSON, SERVICE = "person", "service"
FUTURE, PAST = "future", "past"

Call = tuple[object, ...]


@dataclass
class Budget:
    """The expected state of a budget. The version is the number of its audit rows."""

    budgeted: int
    live: bool = True
    reserved: int = 0
    committed: int = 0
    version: int = 0

    @property
    def available(self) -> int:
        """The amount available."""
        return self.budgeted - self.reserved - self.committed


class Check(NamedTuple):
    """A check of a request. Its number counts all checks; without a budget, none was found."""

    number: int
    budget_id: str | None
    code: str
    amount: int


@dataclass
class Spend:
    """Money that was spent without a reservation. `budget_id` and `day` identify it."""

    budget_id: str
    amount: int
    day: str
    version: int
    committed: int
    last: Call = ()


@dataclass
class Hold:
    """A reservation of a request on a budget, open as long as it holds something."""

    amount: int
    held: int
    version: int
    expires: str | None
    #: The committed amount, net of reversals.
    committed: int = 0
    # The movement that closed it, and whether the request was checked since then.
    closed_by: Call | None = None
    reopened: bool = False
    #: Its latest movement, if that may be repeated, and its version before that.
    last: Call = ()
    before: int = 0
    #: The amount for which it is approved, and the number of the newest check at that time.
    approved: tuple[int, int] | None = None
    #: Where the money is if a move closed it.
    moved_to: Hold | None = None

    @property
    def is_held_elsewhere(self) -> bool:
        """Whether it was closed by a move, and the money is still held after any more moves."""
        hold: Hold | None = self
        while hold and hold.closed_by and hold.closed_by[0] == "transfer":
            hold = hold.moved_to
        return bool(hold and hold.held)


def room(budget: Budget, amount: int, *, over: bool) -> str | None:
    """The error if a budget may not take that much more. An approval is no help if deleted."""
    if not budget.live:
        return "BUDGET_DELETED"
    return "INSUFFICIENT_BUDGET" if amount > budget.available and not over else None


def set_aside(budget: Budget, amount: int, *, over: bool) -> str | None:
    """Reserve an amount with one audit row, or return the error."""
    answer = room(budget, amount, over=over)
    if answer is None:
        budget.reserved += amount
        budget.version += 1
    return answer


def settle(budget: Budget, hold: Hold, by: Call) -> None:
    """Close a hold if it is empty. The movement is its latest one in any case."""
    hold.version, hold.last = budget.version, ()
    if not hold.held:
        hold.closed_by, hold.reopened = by, False
