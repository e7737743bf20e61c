"""A model of the ledger in dictionaries and integers, to compare the service with.

It is written from the specification and independent of the service's code. Amounts are in minor
units.
"""

from __future__ import annotations

from dataclasses import dataclass, field

DONE, REPLAYED = "done", "replayed"


@dataclass
class Budget:
    """The expected state of a budget."""

    budgeted: int
    live: bool = True
    reserved: int = 0
    committed: int = 0

    @property
    def available(self) -> int:
        """The amount available."""
        return self.budgeted - self.reserved - self.committed


@dataclass
class Hold:
    """A request's latest reservation on a budget."""

    amount: int
    held: int
    # The movement that closed it, and whether the request was checked since then.
    closed_by: tuple[object, ...] | None = None
    reopened: bool = False


@dataclass
class LedgerModel:
    """One customer's budgets and reservations.

    Each method returns the response expected of the service: DONE, REPLAYED or an error code.
    """

    budgets: dict[str, Budget] = field(default_factory=dict)
    holds: dict[tuple[str, str], Hold] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    keys: dict[tuple[str, str], tuple[object, ...]] = field(default_factory=dict)

    def check(self, budget_id: str, request: str, amount: int) -> str:
        """Check: stores no amounts, but allows to reserve again after a reservation was closed."""
        self.known.add(request)
        budget, hold = self.budgets[budget_id], self.holds.get((budget_id, request))
        if not budget.live:
            return "NO_BUDGET"
        if hold:
            hold.reopened = True
        return (
            "REQUIRES_APPROVAL"
            if amount <= budget.available + (hold.held if hold else 0)
            else "INSUFFICIENT_BUDGET"
        )

    def reserve(
        self, budget_id: str, request: str, amount: int, *, over: bool, key: str | None
    ) -> str:
        """Set aside."""
        body = (budget_id, request, amount, over)
        budget, hold = self.budgets[budget_id], self.holds.get((budget_id, request))
        answer = self._keyed("reserve", key, body)
        if answer is None and hold and hold.held:
            answer = REPLAYED if hold.amount == amount else "REQUEST_CONFLICT"
        if answer is None and hold and not hold.reopened:
            answer = "RESERVATION_CLOSED"
        if answer is None and not budget.live:
            answer = "BUDGET_DELETED"
        if answer is None and amount > budget.available and not over:
            answer = "INSUFFICIENT_BUDGET"
        if answer:
            return self._keep("reserve", key, body, answer)
        self.known.add(request)
        budget.reserved += amount
        self.holds[budget_id, request] = Hold(amount, amount)
        return self._keep("reserve", key, body, DONE)

    def commit(
        self, budget_id: str, request: str, amount: int, *, final: bool, key: str | None
    ) -> str:
        """Spend."""
        if request not in self.known:
            return "REQUEST_NOT_FOUND"
        body = (budget_id, request, amount, final)
        budget, hold = self.budgets[budget_id], self.holds.get((budget_id, request))
        answer = self._keyed("commit", key, body)
        if answer is None and hold and hold.closed_by == ("commit", amount, final):
            answer = REPLAYED
        if answer is None and (hold is None or not hold.held):
            answer = "NO_OPEN_RESERVATION"
        if answer or hold is None:
            return self._keep("commit", key, body, str(answer))
        exceeded = max(0, amount - hold.held)
        if exceeded and not budget.live:
            return "BUDGET_DELETED"
        if exceeded > budget.available and exceeded:
            return "INSUFFICIENT_BUDGET"
        budget.reserved -= amount - exceeded
        budget.committed += amount
        hold.held -= amount - exceeded
        if final:
            budget.reserved -= hold.held
            hold.held = 0
        self._close_if_empty(hold, ("commit", amount, final))
        return self._keep("commit", key, body, DONE)

    def release(
        self, budget_id: str, request: str, amount: int, *, action: str, key: str | None
    ) -> str:
        """Give back."""
        body = (budget_id, request, amount, action)
        budget, hold = self.budgets[budget_id], self.holds.get((budget_id, request))
        answer = self._keyed("release", key, body)
        if answer is None and hold and hold.closed_by == ("release", amount, action):
            answer = REPLAYED
        if answer is None and (hold is None or amount > hold.held):
            answer = "AMOUNT_EXCEEDS_RESERVED"
        if answer or hold is None:
            return self._keep("release", key, body, str(answer))
        budget.reserved -= amount
        hold.held -= amount
        self._close_if_empty(hold, ("release", amount, action))
        return self._keep("release", key, body, DONE)

    def sync(self, sheet: dict[str, int]) -> None:
        """Apply a sheet (budget -> amount): delete absent budgets, revive returning ones."""
        for budget_id, amount in sheet.items():
            budget = self.budgets.setdefault(budget_id, Budget(amount))
            budget.budgeted, budget.live = amount, True
        for budget_id in self.budgets.keys() - sheet.keys():
            self.budgets[budget_id].live = False

    def _close_if_empty(self, hold: Hold, by: tuple[object, ...]) -> None:
        if not hold.held:
            hold.closed_by, hold.reopened = by, False

    def _keyed(self, call: str, key: str | None, body: tuple[object, ...]) -> str | None:
        """The response to an Idempotency-Key that was used before."""
        used_for = key and self.keys.get((call, key))
        if not used_for:
            return None
        return REPLAYED if used_for == body else "IDEMPOTENCY_KEY_REUSED"

    def _keep(self, call: str, key: str | None, body: tuple[object, ...], answer: str) -> str:
        """Store the key of a successful call."""
        if key and answer in (DONE, REPLAYED):
            self.keys[call, key] = body
        return answer
