"""What `apply` finds in a sheet: budgets, rejected rows, skipped rows and notes. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, NamedTuple

from budget_sync.domain.periods import FiscalYear

#: The owner of a row whose cell cannot be read: the budget keeps its owner.
KEEP_OWNER: Final = ""

#: Department and period, each in its one spelling: unique among the live budgets of a customer.
BudgetKey = tuple[str, str]


class SheetProblem(Exception):
    """A sheet that no longer fits its reading; the sync run fails and changes nothing.

    The text says why and what to do.
    """


class SheetBudget(NamedTuple):
    """A budget as a sheet describes it.

    `external_id` is its Budget ID. `limit_minor` and `owner_email` are meaningful only if the sheet
    has that column. `owner_email` may be KEEP_OWNER.
    """

    external_id: str | None
    department: str
    department_key: str
    period: str
    period_key: str
    currency: str
    budgeted_minor: int
    limit_minor: int | None
    exponent: int
    owner_email: str | None = None

    @property
    def key(self) -> BudgetKey:
        """The folded department and period."""
        return self.department_key, self.period_key

    @property
    def label(self) -> str:
        """The name for people."""
        return f"{self.department}, {self.period}"


class SheetRow(NamedTuple):
    """A budget of a sheet: its first row, the budget, and the number of rows that are added up."""

    number: int
    budget: SheetBudget
    row_count: int = 1


class Customer(NamedTuple):
    """The settings of a customer that a reading needs."""

    currency: str
    fiscal_year: FiscalYear = FiscalYear()


class Identity(NamedTuple):
    """What indicates the budget that a rejected row means."""

    external_id: str | None = None
    id_unknown: bool = False
    department_key: str | None = None
    period_key: str | None = None


class RowError(NamedTuple):
    """Rejected rows, and everything that indicates which budget they mean.

    `rows` are sheet rows in ascending order; empty if the error is not about rows (a new period
    column). If `id_unknown`, the row has a Budget ID that cannot be read; `external_id` is then its
    possible value if the cell is a date, and None otherwise. An error with `blocks` keeps the
    budgets that it may mean from being deleted. Rows that may mean several budgets have `others`.
    """

    rows: tuple[int, ...]
    message: str
    external_id: str | None = None
    id_unknown: bool = False
    department_key: str | None = None
    period_key: str | None = None
    blocks: bool = True
    others: tuple[Identity, ...] = ()

    def each(self) -> list[RowError]:
        """The error once for each budget that its rows may mean."""
        alone = self._replace(others=())
        return [alone, *(alone._replace(**other._asdict()) for other in self.others)]

    @property
    def row(self) -> int:
        """The first row; 0 without rows."""
        return self.rows[0] if self.rows else 0

    @property
    def key(self) -> BudgetKey | None:
        """The department and period, if both are known."""
        if self.department_key is None or self.period_key is None:
            return None
        return self.department_key, self.period_key


@dataclass(frozen=True, slots=True)
class Facts:
    """Counts of a sheet, stored at the confirmation and by each applied sync run.

    `rows` are the rows below the header that are not blank. `total` is the sum of the budgets by
    currency, in whole units. `nameless_rows` have an amount and no department.
    """

    rows: int = 0
    budgets: int = 0
    total: dict[str, Decimal] = field(default_factory=dict)
    nameless_rows: int = 0
    blank_amounts: int = 0


class OptionalColumns(NamedTuple):
    """Whether a sheet has the columns for limits and owners."""

    limits: bool
    owners: bool


@dataclass(frozen=True, slots=True)
class SheetResult:
    """What a sheet says. `rows` and `errors` are in sheet order.

    `skipped` are the rows that do not count, and why. `has_limits`: the sheet has a column for
    auto-approve limits; `has_owners`: it has one for the owners. `notes` are sentences for people.
    `headings` are those of all columns.
    """

    rows: list[SheetRow]
    errors: list[RowError]
    has_limits: bool
    notes: list[str] = field(default_factory=list)
    skipped: dict[int, str] = field(default_factory=dict)
    facts: Facts = field(default_factory=Facts)
    headings: tuple[str, ...] = ()
    has_owners: bool = False

    @property
    def optional(self) -> OptionalColumns:
        """Which optional columns the sheet has."""
        return OptionalColumns(self.has_limits, self.has_owners)
