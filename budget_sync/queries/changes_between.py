"""What changed between the ends of two days: budgets before and after, and net by department."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from budget_sync.database import snapshot
from budget_sync.database.models import Customer
from budget_sync.domain.balance import Balance, added_up
from budget_sync.domain.names import fold
from budget_sync.domain.permissions import Action, Actor, require_for
from budget_sync.queries.as_of import PastDay, lines_at


class Change(NamedTuple):
    """The balance of a budget, or of the budgets of a department in one currency, at both days.

    Before a budget was created, and after it was deleted, its balance is 0: `is_created` and
    `is_deleted` say so.
    """

    name: str
    budget_id: str | None
    period: str | None
    before: Balance
    after: Balance
    is_created: bool = False
    is_deleted: bool = False

    @property
    def budgeted_delta_minor(self) -> int:
        """The net change of the budgeted amount."""
        return self.after.budgeted_minor - self.before.budgeted_minor

    @property
    def reserved_delta_minor(self) -> int:
        """The net change of the reserved amount."""
        return self.after.reserved_minor - self.before.reserved_minor

    @property
    def committed_delta_minor(self) -> int:
        """The net change of the committed amount."""
        return self.after.committed_minor - self.before.committed_minor

    @property
    def available_delta_minor(self) -> int:
        """The net change of the available amount."""
        return self.after.available_minor - self.before.available_minor


class Changes(NamedTuple):
    """The budgets that changed, and the net change of their departments, both by name."""

    departments: list[Change]
    budgets: list[Change]


def changes_between(actor: Actor, customer: Customer, start: PastDay, end: PastDay) -> Changes:
    """What changed from the end of one day to the end of another."""
    require_for(actor, Action.READ_AUDIT, customer.id)
    with snapshot():
        before = {line.id: line for line in lines_at(actor, customer.id, start)}
        after = {line.id: line for line in lines_at(actor, customer.id, end)}
    budgets = []
    for budget_id in before | after:
        old, new = before.get(budget_id), after.get(budget_id)
        line = new or old
        assert line is not None  # noqa: S101  # the id is in one of both
        nothing = Balance(line.balance.currency, line.balance.exponent, 0, 0, 0)
        change = Change(
            line.department,
            budget_id,
            line.period,
            old.balance if old else nothing,
            new.balance if new else nothing,
            is_created=old is None,
            is_deleted=new is None,
        )
        if change.before != change.after or change.is_created or change.is_deleted:
            budgets.append(change)
    budgets.sort(key=lambda each: (fold(each.name), each.period or "", each.budget_id or ""))
    return Changes(_net(budgets), budgets)


def _net(budgets: Iterable[Change]) -> list[Change]:
    """The changed budgets of each department and currency, added up."""
    found = defaultdict(list)
    for change in budgets:
        found[fold(change.name), change.after.currency].append(change)
    return [
        Change(
            of_key[-1].name,
            None,
            None,
            added_up(change.before for change in of_key),
            added_up(change.after for change in of_key),
        )
        for _, of_key in sorted(found.items())
    ]
