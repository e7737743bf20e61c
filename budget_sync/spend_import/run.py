"""Imports a file of spends: each good row is one `ledger.spend`, and a row is recorded once."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from budget_sync import ledger
from budget_sync.accounts.customers import get_customer
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.money import format_money
from budget_sync.domain.permissions import Action, Actor, require_for
from budget_sync.domain.request_models import SpendRequest
from budget_sync.spend_import.amounts import AmountColumn, DecimalMark
from budget_sync.spend_import.dates import DateOrder, Dates, find_order
from budget_sync.spend_import.rows import BadRow, Budgets, RowReader, SpendRow
from budget_sync.spend_import.stored import (
    CommittedPo,
    EarlierSpend,
    committed_pos,
    earlier_spends,
    load_budgets,
)
from budget_sync.spend_import.table import FileOptions, Table, read_table
from budget_sync.sync.limits import quoted

#: Rows that are compared with the database at once.
BATCH_ROWS: Final = 200

#: Errors of the ledger that are about the row and not about the service.
_ROW_ERRORS: Final = frozenset(
    {
        Code.BUDGET_DELETED,
        Code.BUDGET_NOT_FOUND,
        Code.AMOUNT_TOO_LARGE,
        Code.IDEMPOTENCY_KEY_REUSED,
        Code.INVALID_REQUEST,
    }
)


class Choices(NamedTuple):
    """The operator's answers about a file. None means that the file decides."""

    file: FileOptions = FileOptions()
    date_order: DateOrder | None = None
    decimal_mark: DecimalMark | None = None


_FILE_DECIDES: Final = Choices()


class Outcome(StrEnum):
    """The result of a row."""

    IMPORTED = "imported"
    ALREADY = "already imported"
    MATCHED = "matched"
    REJECTED = "rejected"


class RowResult(NamedTuple):
    """The result of a row, and for a matched or rejected one a sentence about it."""

    number: int
    outcome: Outcome
    text: str = ""


class Summary(NamedTuple):
    """The result of an import. `total` and `overdrawn` are amounts and budgets for people."""

    counts: Counter[Outcome]
    total: tuple[str, ...]
    overdrawn: tuple[str, ...]
    notes: tuple[str, ...]


def import_spend(
    actor: Actor,
    customer_id: str,
    data: bytes,
    name: str,
    choices: Choices = _FILE_DECIDES,
    *,
    dry_run: bool = False,
    report: Callable[[RowResult], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Summary:
    """Record the spends of a file, named `name` in the audit log. `report` gets each row's result.

    Each spend is durable before the next row, and its id is recorded with it. So an import that is
    interrupted can run again: no row is recorded twice. With `dry_run`, nothing is recorded, and
    the result is what an import would report. Raises RequestError FORBIDDEN, INVALID_CUSTOMER,
    INVALID_REQUEST for a file that cannot be read, or an error of `transact`.
    """
    require_for(actor, Action.SPEND, customer_id)
    customer = get_customer(customer_id)
    if customer.disabledAt is not None:
        raise RequestError(Code.INVALID_CUSTOMER, f"Customer {customer_id!r} is disabled.")
    table = read_table(data, choices.file)
    amounts = AmountColumn(table.column("Amount"), customer.currency, choices.decimal_mark)
    order = choices.date_order or find_order(table.column("Date"))
    notes = [*table.notes, *amounts.notes]
    if order and not choices.date_order:
        first = "day" if order is DateOrder.DMY else "month"
        notes.append(f"Dates such as 03/04/2025 are read with the {first} first, as others show.")
    budgets = load_budgets(customer)
    reader = RowReader(table, budgets, amounts, Dates(order, from_1904=table.from_1904))
    work = _Import(actor, customer_id, name, dry_run=dry_run)
    total = sum(1 for _ in table.lines())
    for done, result in enumerate(work.results(table, reader), start=1):
        report(result)
        progress(done, total)
    overdrawn = work.overdrawn(load_budgets(customer))
    return Summary(work.counts, work.total(), overdrawn, tuple(notes))


class _Import:
    """An import in progress."""

    def __init__(self, actor: Actor, customer_id: str, name: str, *, dry_run: bool) -> None:
        self.counts: Counter[Outcome] = Counter()
        self._actor = actor
        self._customer_id = customer_id
        self._name = name
        self._dry_run = dry_run
        #: By budget id, the sum that this run records, or would. 0 if an earlier run did.
        self._recorded_minor: Counter[str] = Counter()
        self._total_minor: Counter[tuple[str, int]] = Counter()
        #: The recorded spends with the ids of this file. A dry run adds those that it would record.
        self._seen: dict[str, EarlierSpend] = {}

    def results(self, table: Table, reader: RowReader) -> Iterator[RowResult]:
        """Import all rows, in their order."""
        lines = table.lines()
        while batch := [reader.read(line) for line in itertools.islice(lines, BATCH_ROWS)]:
            ids = {row.spend_id for row in batch if row.spend_id} - self._seen.keys()
            self._seen.update(earlier_spends(self._customer_id, ids))
            pos = {row.po for row in batch if isinstance(row, SpendRow) and row.po}
            committed = committed_pos(self._customer_id, pos)
            for row in batch:
                outcome, text = self._import(row, committed)
                self.counts[outcome] += 1
                yield RowResult(row.number, outcome, text)

    def total(self) -> tuple[str, ...]:
        """The sum of the imported spends in each currency."""
        return tuple(
            format_money(minor, currency, exponent)
            for (currency, exponent), minor in sorted(self._total_minor.items())
        )

    def overdrawn(self, budgets: Budgets) -> tuple[str, ...]:
        """The overdrawn budgets of this file, with their figures. `budgets` are as of now."""
        found = []
        for budget in budgets.all():
            if budget.id in self._recorded_minor:
                planned_minor = self._recorded_minor[budget.id] if self._dry_run else 0
                missing_minor = planned_minor - budget.balance.available_minor
                if missing_minor > 0:
                    found.append(f"{budget.label} by {budget.balance.money(missing_minor)}")
        return tuple(found)

    def _import(
        self, row: SpendRow | BadRow, committed: Mapping[str, Sequence[CommittedPo]]
    ) -> tuple[Outcome, str]:
        """Record the spend of a row, unless it is bad, recorded already, or a commit has its PO."""
        earlier = self._seen.get(row.spend_id)
        if isinstance(row, BadRow):
            return Outcome.REJECTED, " ".join(row.problems)
        if earlier is not None:
            return self._compared(row, earlier)
        if row.po and (commits := committed.get(row.po.casefold())):
            return Outcome.MATCHED, _match_text(row, commits)
        if not self._dry_run:
            try:
                reply = ledger.spend(self._actor, self._request(row))
            except RequestError as error:
                if error.code not in _ROW_ERRORS:
                    raise
                return Outcome.REJECTED, error.sentence
            if reply.replayed:
                # Another import recorded it since this row was compared.
                return Outcome.ALREADY, ""
        balance = row.budget.balance
        self._recorded_minor[row.budget.id] += row.amount_minor
        self._total_minor[balance.currency, balance.exponent] += row.amount_minor
        self._seen[row.spend_id] = EarlierSpend(
            row.budget.id, row.amount_minor, row.day, balance.currency, balance.exponent
        )
        return Outcome.IMPORTED, ""

    def _compared(self, row: SpendRow, earlier: EarlierSpend) -> tuple[Outcome, str]:
        """The result of a row with a Spend ID that is recorded already."""
        if (row.budget.id, row.amount_minor, row.day) == earlier[:3]:
            self._recorded_minor[row.budget.id] += 0
            return Outcome.ALREADY, ""
        return Outcome.REJECTED, (
            f"Spend ID {quoted(row.spend_id)} is recorded already with {earlier.text}. Correct the "
            "row. If the recorded spend is wrong, reverse it, and give the row another Spend ID."
        )

    def _request(self, row: SpendRow) -> SpendRequest:
        return SpendRequest(
            spend_id=row.spend_id,
            budget_id=row.budget.id,
            amount=row.amount,
            date=row.day,
            vendor=row.vendor,
            reason=f"Imported from {self._name}, row {row.number}",
            external_ref=row.po,
            customer_id=self._customer_id,
        )


def _match_text(row: SpendRow, commits: Sequence[CommittedPo]) -> str:
    """Which request committed the PO of a row, and whether the amounts differ."""
    balance = row.budget.balance
    requests = ", ".join(
        f"request {each.request_id} with {each.money} on budget {each.budget_id}"
        for each in commits
    )
    money = balance.money(row.amount_minor)
    total_minor = sum(each.amount_minor for each in commits)
    if any(each.currency != balance.currency for each in commits):
        differs = f"The row has {money}, in another currency."
    elif total_minor == row.amount_minor:
        differs = "The amounts are equal."
    else:
        gap_minor = row.amount_minor - total_minor
        word = "more" if gap_minor > 0 else "less"
        differs = f"The row has {money}, {balance.money(abs(gap_minor))} {word}."
    return f"PO {quoted(row.po or '')} was committed by {requests}. {differs}"
