"""A customer of the service with a model of its budgets: setup, sync runs and comparison.

Raises ConservationError if the service answers or stores something else than the model.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.sources import add_file
from support.world import ROOT

from budget_sync import database, sync
from budget_sync.accounts import customers, people
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Actor, Role
from budget_sync.sync.answer_holds import Choice, answer_holds, choose, show_holds
from stress.balances import BALANCES, StoredBalance
from stress.ledger_model import LedgerModel
from stress.ledger_model_rows import DONE

DEPARTMENTS = ("Engineering", "Legal", "Sales")
PERIOD = "Q1 2025"

#: By how many hundredths of a percent, and how much at most, a service may exceed a hold.
TOLERANCE = (1000, 60)

#: Attempts per operation, because a busy machine may exceed a time limit.
TRIES = 3

_HOLDS = """
    SELECT "budgetId", "requestId", "amountMinor", "heldMinor", "committedMinor" - "reversedMinor",
        "version", CASE WHEN "expiresAt" IS NULL THEN NULL
            WHEN "expiresAt" < '2021-01-01T00:00:00Z' THEN 'past' ELSE 'future' END
    FROM "Reservation" WHERE "customerId" = '{customer}' ORDER BY "seq"
"""
_SPENDS = """
    SELECT "budgetId", "spendId", "amountMinor", "amountMinor" - "reversedMinor", "version"
    FROM "Spend" WHERE "customerId" = '{customer}'
"""


class ConservationError(AssertionError):
    """The service and the model disagree."""


@dataclass
class ModeledCustomer:
    """A customer of the service and its model, which are compared."""

    customer: str
    folder: Path
    model: LedgerModel = field(default_factory=LedgerModel)
    history: list[str] = field(default_factory=list)
    #: How often each operation got each answer. Several customers may share it.
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)

    #: The customer's source, if the customer already exists.
    source: sync.Source | None = None

    def __post_init__(self) -> None:
        fpa = f"fpa-{self.customer}"
        self.actor = Actor(
            f"user:{fpa}", fpa, "Fiona", f"{fpa}@example.com", Role.FPA_USER, self.customer
        )
        self.service = Actor(
            f"service:{self.customer}",
            None,
            "orchestrator",
            None,
            Role.API_SYSTEM,
            self.customer,
            may_overspend=True,
        )
        self.model.tolerance = TOLERANCE
        self.job = sync.Job(
            ROOT, sync.Reach(csv_folder=self.folder), self.folder, allow_deletes=True
        )
        sheet = dict.fromkeys(DEPARTMENTS, 10_000)
        if self.source:
            self._follow(sheet)
            self._follow_versions()
            return
        customers.add_customer(ROOT, self.customer, self.customer)
        people.add_user(
            ROOT,
            fpa,
            "Fiona",
            f"{fpa}@example.com",
            Role.FPA_USER,
            customer_id=self.customer,
            password=None,
            slots_folder=self.folder,
        )
        self.set_customer("invoiceToleranceMinor", TOLERANCE[1])
        self._write_sheet(sheet)
        self.source = add_file(self.customer, self.folder, f"{self.customer}.csv")
        self.sync(sheet)

    def budget_id(self, department: str) -> str:
        """The id of a department's budget."""
        return f"{self.customer}-{department}"

    def sync(self, sheet: dict[str, int]) -> None:
        """Sync a sheet with these departments and amounts: changes, deletes and revives budgets.

        A person approves what the sync run holds.
        """
        self._write_sheet(sheet)
        self._follow(sheet)

        def run_sync() -> str:
            assert self.source
            result = sync.sync_source(self.job, self.source)
            # A rename that is answered may show that amounts are held, too.
            for _ in range(2):
                if result.held_count:
                    self._approve_holds(self.source.id)
                    result = sync.sync_source(self.job, self.source)
            return (
                DONE
                if result.status == "success"
                else f"{result.status}: {result.message} {result.errors}"
            )

        self.compare_answer(f"sync {sheet}", DONE, run_sync)
        self._follow_versions()

    def _approve_holds(self, source_id: str) -> None:
        """Answer everything that the last sync run holds: it is as the sheet says."""
        database.open_connection()
        holds = [change.hold for change in show_holds(ROOT, source_id)]
        choice = Choice(
            different=[
                hold.budget_id for hold in holds if hold.kind == "rename" and hold.budget_id
            ],
            accept_amounts=any(hold.kind == "amount" for hold in holds),
            allow_deletes=any(hold.kind == "deletion" for hold in holds),
        )
        answer_holds(ROOT, source_id, choose(holds, choice))

    def _follow(self, sheet: dict[str, int]) -> None:
        self.model.sync(
            {self.budget_id(department): amount for department, amount in sheet.items()}
        )

    def forget_keys(self) -> None:
        """Forget all used Idempotency-Keys."""
        self.model.keys.clear()
        sql = f"""DELETE FROM "StoredReply" WHERE "customerId" = '{self.customer}'"""
        self.write(sql)

    def compare_balances(self) -> None:
        """Compare stored balances with model, open reservations and audit log.

        Raises ConservationError.
        """
        database.open_connection()
        rows = self._stored_balances()
        if {row.budget_id for row in rows} != self.model.budgets.keys():
            raise self._error(
                f"the budgets are {sorted(row.budget_id for row in rows)},"
                f" the model has {sorted(self.model.budgets)}"
            )
        for row in rows:
            budget = self.model.budgets[row.budget_id]
            stored = (row.budgeted, bool(row.live), row.reserved, row.committed, row.version)
            expected = (
                *(budget.budgeted, budget.live, budget.reserved, budget.committed),
                budget.version,
            )
            if stored != expected:
                raise self._error(f"{row.budget_id} has {stored}, the model has {expected}")
            if row.inconsistency:
                raise self._error(row.inconsistency)
        self._compare_rows()

    def _compare_rows(self) -> None:
        """Compare each stored reservation and spend with the model, with its version."""
        holds: dict[tuple[str, str], list[tuple[Any, ...]]] = {}
        for budget_id, request, *rest in self._read(_HOLDS):
            holds.setdefault((budget_id, request), []).append(tuple(rest))
        expected_holds = {
            key: [
                (hold.amount, hold.held, hold.committed, hold.version, hold.expires)
                for hold in holds_there
            ]
            for key, holds_there in self.model.holds.items()
        }
        if holds != expected_holds:
            raise self._error(f"the reservations are {holds}, the model has {expected_holds}")
        spends = sorted(self._read(_SPENDS))
        expected_spends = sorted(
            (spend.budget_id, spend_id, spend.amount, spend.committed, spend.version)
            for spend_id, spend in self.model.spends.items()
        )
        if spends != expected_spends:
            raise self._error(f"the spends are {spends}, the model has {expected_spends}")

    def _read(self, sql: str) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = database.db.execute_sql(
            sql.format(customer=self.customer)
        ).fetchall()
        return rows

    def write(self, sql: str) -> None:
        """Run a statement in a transaction."""
        for tries_left in reversed(range(TRIES)):
            try:
                database.transact(lambda: database.db.execute_sql(sql))
            except RequestError as error:
                if error.code != Code.UNAVAILABLE or not tries_left:
                    raise
            else:
                return

    def set_customer(self, column: str, value: int | None) -> None:
        """Set a column of the customer's row."""
        value_sql = "NULL" if value is None else value
        self.write(
            f"""UPDATE "Customer" SET "{column}" = {value_sql} WHERE "id" = '{self.customer}'"""
        )

    def _stored_balances(self) -> list[StoredBalance]:
        sql = f"""{BALANCES} WHERE b."customerId" = '{{customer}}'"""
        return [StoredBalance._make(row) for row in self._read(sql)]

    def _follow_versions(self) -> None:
        """Take over the budgets' versions. The model does not count the audit rows of a sync."""
        database.open_connection()
        for row in self._stored_balances():
            self.model.budgets[row.budget_id].version = row.version or 0

    def _write_sheet(self, sheet: dict[str, int]) -> None:
        with (self.folder / f"{self.customer}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["Budget ID", "Department", "Fiscal Period", "Budgeted Amount"])
            writer.writerows(
                [self.budget_id(department), department, PERIOD, f"{amount / 100:.2f}"]
                for department, amount in sheet.items()
            )

    def compare_answer(self, operation: str, expected: str, answer: Callable[[], str]) -> None:
        """Compare the service's answer to an operation with the model's."""
        self.history.append(operation)
        del self.history[:-40]
        for _ in range(TRIES):
            try:
                answered = answer()
            except RequestError as error:
                answered = str(error.code)
            except Exception as error:  # noqa: BLE001  # reported with the history
                answered = repr(error)
            # The error states that nothing was changed, so the operation can be repeated.
            if answered != Code.UNAVAILABLE:
                break
        if answered != expected:
            raise self._error(f"{operation}: the service says {answered}, the model {expected}")
        self.answers[operation.partition(" ")[0], expected] += 1

    def _error(self, text: str) -> ConservationError:
        return ConservationError("\n  ".join([text, "after:", *self.history]))
