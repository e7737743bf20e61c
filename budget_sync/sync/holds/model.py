"""The types of held changes and of the answers to them. Pure.

A held change looks like a mistake: a department that may only have a new name, too many deletions,
amounts that may be read wrongly. It waits for the answer of a person. An answer is bound to what it
was given for: if the sheet changes again, that is another question.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple, Self

from budget_sync.domain.money import to_number
from budget_sync.sync.match import StoredBudget
from budget_sync.sync.reading.result import BudgetKey, SheetRow


class Kind(StrEnum):
    """The effect that a held change would have."""

    RENAME = "rename"
    SPLIT = "split"
    DELETION = "deletion"
    CREATION = "creation"
    AMOUNT = "amount"


class Reply(StrEnum):
    """The answer of a person.

    SAME and DIFFERENT answer a rename. APPROVE answers deletions and the creations that are held
    with them, APPLY amounts and the creations that are held with them.
    """

    SAME = "same"
    DIFFERENT = "different"
    APPROVE = "approve"
    APPLY = "apply"


class Reason(StrEnum):
    """Why a change is held.

    A rename: MONEY is on the old budget, or the NAME is the same but for punctuation and zeros, or
    the names are alike and the AMOUNT is the same. A rename, a deletion or a creation: the deletion
    LIMIT. A deletion: it was held as a RENAME, and the new budget is no longer in the sheet. A
    deletion and its creations: a department is SPLIT into other periods that share days with a
    budget that has money on it. All amounts and all creations: too many amounts became ZEROS,
    changed by one FACTOR of ten, or the SUM changed too much. One amount: it became a HUNDREDFOLD.
    """

    MONEY = "money"
    NAME = "name"
    AMOUNT = "amount"
    LIMIT = "limit"
    RENAME = "rename"
    SPLIT = "split"
    ZEROS = "zeros"
    FACTOR = "factor"
    SUM = "sum"
    HUNDREDFOLD = "hundredfold"


#: The reasons that hold all changed amounts and all creations of a sync run.
BULK = frozenset({Reason.ZEROS, Reason.FACTOR, Reason.SUM})


class Question(NamedTuple):
    """What an answer is bound to. A deletion has no new values, a creation no budget."""

    kind: Kind
    budget_id: str | None
    new_key: BudgetKey | None
    currency: str
    new_minor: int | None


class Answer(NamedTuple):
    """The answer of a person to a held change. `id` is None until it is stored."""

    question: Question
    reply: Reply
    id: int | None = None


class NewBudget(NamedTuple):
    """The budget of a row that is new in the sheet. `row` is its first row."""

    row: int
    department: str
    department_key: str
    fiscal_period: str
    period_key: str

    @property
    def key(self) -> BudgetKey:
        """The folded department and period."""
        return self.department_key, self.period_key

    @property
    def name(self) -> str:
        """The key for people and commands: "Lampe North|2026-Q1"."""
        return f"{self.department}|{self.period_key}"


class Hold(NamedTuple):
    """A held change.

    `department`, `fiscal_period` (as text) and `period_key` are those of the budget; of a creation,
    those of its row. `old_minor` and `new_minor` are the amounts before and after, and `used_minor`
    is the money on the budget. `new` is the new budget of a rename and of a creation. A deletion
    that was a rename in an earlier run keeps the new budget of that.
    """

    kind: Kind
    budget_id: str | None
    department: str
    fiscal_period: str
    period_key: str
    currency: str
    exponent: int
    old_minor: int | None
    new_minor: int | None
    used_minor: int
    new: NewBudget | None
    reasons: tuple[Reason, ...]

    @property
    def question(self) -> Question:
        """What an answer to this change is bound to."""
        new = None if self.kind is Kind.DELETION else self.new
        return Question(self.kind, self.budget_id, new and new.key, self.currency, self.new_minor)

    @property
    def name(self) -> str:
        """The budget's key for people: "Lamp - North|2026-Q1"."""
        return f"{self.department}|{self.period_key}"

    def to_json(self) -> dict[str, object]:
        """As `sync-sheets --json` lists it; amounts in whole units."""
        is_rename = self.kind is Kind.RENAME
        return {
            "kind": self.kind.value,
            "budgetId": self.budget_id,
            "department": self.department,
            "period": self.period_key,
            "old": self.name if is_rename else _whole(self.old_minor, self.exponent),
            "new": self.new.name
            if is_rename and self.new
            else _whole(self.new_minor, self.exponent),
        }

    def to_stored(self) -> dict[str, object]:
        """As `SyncHistory` stores it: the same, and what `from_stored` needs."""
        return self.to_json() | {
            "fiscalPeriod": self.fiscal_period,
            "currency": self.currency,
            "currencyExponent": self.exponent,
            "oldMinor": self.old_minor,
            "newMinor": self.new_minor,
            "usedMinor": self.used_minor,
            "newBudget": self.new and self.new._asdict(),
            "reasons": [reason.value for reason in self.reasons],
        }

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> Self:
        """The hold of which `to_stored` returned this. Raises KeyError or ValueError."""
        new = stored["newBudget"]
        return cls(
            Kind(stored["kind"]),
            stored["budgetId"],
            stored["department"],
            stored["fiscalPeriod"],
            stored["period"],
            stored["currency"],
            stored["currencyExponent"],
            stored["oldMinor"],
            stored["newMinor"],
            stored["usedMinor"],
            NewBudget(**new) if new else None,
            tuple(map(Reason, stored["reasons"])),
        )


def _whole(minor: int | None, exponent: int) -> int | float | None:
    """An amount in whole units as a JSON number. Amounts have 15 digits, so floats are exact."""
    if minor is None:
        return None
    number = to_number(minor, exponent)
    return number if isinstance(number, int) else float(number)


def new_budget(row: SheetRow) -> NewBudget:
    """The budget of a row that is new in the sheet."""
    budget = row.budget
    return NewBudget(
        row.number, budget.department, budget.department_key, budget.period, budget.period_key
    )


def held_budget(kind: Kind, budget: StoredBudget, row: SheetRow | None, *reasons: Reason) -> Hold:
    """The hold of a change of a stored budget; `row` is that of a rename or of a new amount."""
    sheet = budget.sheet
    return Hold(
        kind,
        budget.id,
        sheet.department,
        sheet.period,
        budget.key[1],
        sheet.currency if row is None else row.budget.currency,
        sheet.exponent,
        sheet.budgeted_minor,
        None if row is None else row.budget.budgeted_minor,
        budget.reserved_minor + budget.committed_minor,
        new_budget(row) if kind is Kind.RENAME and row else None,
        reasons,
    )


def held_creation(row: SheetRow, *reasons: Reason) -> Hold:
    """The hold of a row that would create a budget, or revive a deleted one."""
    sheet = row.budget
    return Hold(
        Kind.CREATION,
        None,
        sheet.department,
        sheet.period,
        sheet.period_key,
        sheet.currency,
        sheet.exponent,
        None,
        sheet.budgeted_minor,
        0,
        new_budget(row),
        reasons,
    )
