"""An action and its effects on budgets: the amounts before and after."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from budget_sync.domain.balance import Balance
from budget_sync.domain.money import to_number
from budget_sync.queries.budgets import BudgetLine
from budget_sync.web.console import formats


class Share(NamedTuple):
    """What the request has on a budget before an action, and by how much the action changes it."""

    label: str
    before_minor: int
    change_minor: int


@dataclass(frozen=True, slots=True)
class Effect:
    """The effect of an action on one budget.

    `reserved_minor` and `committed_minor` are the changes to the budget's balance. `share` is what
    the request has there; a new spend has nothing.
    """

    budget: BudgetLine
    share: Share | None = None
    reserved_minor: int = 0
    committed_minor: int = 0
    direction: str = ""

    @property
    def before(self) -> Balance:
        """The budget's balance before the action."""
        return self.budget.balance

    @property
    def after(self) -> Balance:
        """The budget's balance after the action."""
        return self.before.moved(
            reserved_minor=self.reserved_minor, committed_minor=self.committed_minor
        )

    @property
    def rows(self) -> list[tuple[str, int, int]]:
        """The amounts to show, with their labels: before and after."""
        before, after = self.before, self.after
        rows = [
            ("Reserved", before.reserved_minor, after.reserved_minor),
            ("Committed", before.committed_minor, after.committed_minor),
        ]
        if self.share:
            label, minor, change_minor = self.share
            rows.insert(0, (label, minor, minor + change_minor))
        return rows

    @property
    def takes_money(self) -> bool:
        """Whether the budget has less available after the action."""
        return self.reserved_minor + self.committed_minor > 0

    @property
    def overdraft_minor(self) -> int:
        """By how much the budget is overdrawn after an action that takes money from it."""
        return max(0, -self.after.available_minor) if self.takes_money else 0

    @property
    def lacking_minor(self) -> int:
        """How much of what the action takes the budget does not have available."""
        return min(self.overdraft_minor, self.reserved_minor + self.committed_minor)

    @property
    def shown(self) -> str:
        """The amounts that the viewer confirms, with the overdraft if the budget has one."""
        share = self.share[1:] if self.share else ()
        amounts = [*share, self.reserved_minor, self.committed_minor]
        if self.overdraft_minor:
            amounts.append(self.overdraft_minor)
        return "/".join([self.budget.id, *map(str, amounts)])


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerAction:
    """An action that the viewer is about to take, with its effect on each budget.

    `held_minor` is what the request holds before. `state` is what the viewer confirms apart from
    the amounts. `approves` is whether the viewer's confirmation is an approval over budget, if one
    is needed; `is_past` whether the money is already spent, so that no approval is needed.
    `no_budget` has the currency of an action without effects.
    """

    title: str
    button: str
    explanation: str
    request_id: str
    effects: tuple[Effect, ...]
    amount_minor: int
    held_minor: int = 0
    state: str = ""
    template: str = "action.html"
    is_dangerous: bool = False
    approves: bool = False
    is_past: bool = False
    needs_reason: bool = True
    no_budget: Balance | None = None

    @property
    def balance(self) -> Balance:
        """The balance before the action of the budget that the action is on."""
        if self.no_budget and not self.effects:
            return self.no_budget
        return self.effects[0].before

    @property
    def may_overdraw(self) -> bool:
        """Whether the action is possible if the budget does not have the money available."""
        return self.approves or self.is_past

    @property
    def overdraws(self) -> bool:
        """Whether a budget is overdrawn after the action takes money from it."""
        return any(effect.overdraft_minor for effect in self.effects)

    @property
    def shown(self) -> str:
        """What the page shows, for a hidden field: a confirmation is valid only for that."""
        return "|".join(
            [str(self.amount_minor), self.state, *(effect.shown for effect in self.effects)]
        )

    @property
    def amount(self) -> Decimal:
        """The amount in whole units."""
        return Decimal(to_number(self.amount_minor, self.balance.exponent))

    @property
    def amount_text(self) -> str:
        """The amount in a sentence: "$2,000"."""
        return formats.balance_money(self.balance, self.amount_minor)
