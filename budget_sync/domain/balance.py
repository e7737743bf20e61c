"""The balance of a budget, or of several budgets in one currency."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from budget_sync.domain.money import format_money, rescaled, to_number, to_text

#: A budget of which more than this share is reserved or committed is nearly used up.
HIGH_PERCENT = 80


class Balance(NamedTuple):
    """Amounts in minor units of one currency. `exponent` is the currency's number of decimals."""

    currency: str
    exponent: int
    budgeted_minor: int
    reserved_minor: int
    committed_minor: int

    @property
    def used_minor(self) -> int:
        """Reserved and committed together."""
        return self.reserved_minor + self.committed_minor

    @property
    def available_minor(self) -> int:
        """Budgeted less used; negative if the budget is overdrawn."""
        return self.budgeted_minor - self.used_minor

    @property
    def percent_used(self) -> float:
        """The used share in percent; 100 if anything is used of a budget of 0."""
        if self.budgeted_minor == 0:
            return 100.0 if self.used_minor else 0.0
        return 100 * self.used_minor / self.budgeted_minor

    @property
    def state(self) -> str:
        """`overdrawn`, `high` (over HIGH_PERCENT is used) or `ok`."""
        if self.used_minor > self.budgeted_minor:
            return "overdrawn"
        is_high = self.used_minor * 100 > self.budgeted_minor * HIGH_PERCENT
        return "high" if self.used_minor and is_high else "ok"

    def moved(self, *, reserved_minor: int = 0, committed_minor: int = 0) -> Balance:
        """The balance after these amounts are added to it."""
        # Not `_replace`, which takes twice as long.
        return Balance(
            self.currency,
            self.exponent,
            self.budgeted_minor,
            self.reserved_minor + reserved_minor,
            self.committed_minor + committed_minor,
        )

    def to_json(self) -> dict[str, object]:
        """The balance as replies show it, amounts in whole units."""
        return {
            "currency": self.currency,
            "budgetedAmount": self.number(self.budgeted_minor),
            "reservedAmount": self.number(self.reserved_minor),
            "committedAmount": self.number(self.committed_minor),
            "available": self.number(self.available_minor),
        }

    def number(self, minor: int) -> int | Decimal:
        """An amount of this currency as a JSON number in whole units."""
        return to_number(minor, self.exponent)

    def text(self, minor: int) -> str:
        """An amount of this currency as the audit log writes it: "5000", "99.5"."""
        return to_text(minor, self.exponent)

    def money(self, minor: int) -> str:
        """An amount of this currency for people: "$2,000", "$99.50"."""
        return format_money(minor, self.currency, self.exponent)


def added_up(balances: Iterable[Balance]) -> Balance:
    """The balance of several budgets in one currency, with the largest number of decimals of any.

    Raises ValueError without any balance.
    """
    known = list(balances)
    exponent = max(balance.exponent for balance in known)

    def total(amounts: Iterable[int]) -> int:
        pairs = zip(known, amounts, strict=True)
        return sum(rescaled(minor, balance.exponent, exponent) for balance, minor in pairs)

    return Balance(
        known[0].currency,
        exponent,
        total(balance.budgeted_minor for balance in known),
        total(balance.reserved_minor for balance in known),
        total(balance.committed_minor for balance in known),
    )
