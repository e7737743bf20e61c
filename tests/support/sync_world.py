"""A world for sync tests: customers, sources, a fake Google, and helpers that run syncs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from budget_sync import sync
from budget_sync.accounts import customers
from budget_sync.database.models import AuditLog, Budget, SyncHistory
from budget_sync.domain.money import to_text
from budget_sync.ledger import verification
from budget_sync.sync import Job, Reach, Source, SyncRunResult
from budget_sync.sync.reading.model import Reading
from support.sheets_server import SheetsServer
from support.sources import add_file, add_sheet, reading_of
from support.world import ROOT

ORG = "org-1"
HEADER = ["Department", "Fiscal Period", "Budgeted Amount"]
HEADER_WITH_ID = ["Budget ID", *HEADER]


def plan_rows(**amounts: Any) -> list[list[Any]]:
    """The rows of a sheet without Budget IDs, all for Q1 2025, under a header."""
    return [HEADER, *([department, "Q1 2025", amount] for department, amount in amounts.items())]


@dataclass
class World:
    """The database of an installation, the folder of its CSV files, and a fake Google."""

    google: SheetsServer
    job: Job
    folder: Path
    sources: dict[str, Source] = field(default_factory=dict)

    def customer(self, customer_id: str, **options: Any) -> str:
        """Add a customer."""
        customers.add_customer(ROOT, customer_id, customer_id.title(), **options)
        return customer_id

    def sheet(
        self,
        key: str,
        rows: list[list[Any]],
        *,
        customer_id: str = ORG,
        worksheet: str = "Budgets",
        locale: str = "en_US",
        reading: Reading | None = None,
    ) -> Source:
        """Share a Google Sheet and add its source, with our headings unless `reading` is given."""
        self.google.share(key, rows, locale=locale)
        reading = reading or reading_of(rows[0] if rows else [])
        source = add_sheet(customer_id, key, worksheet, reading)
        self.sources[key] = source
        return source

    def csv(
        self,
        name: str,
        content: str | bytes,
        *,
        customer_id: str = ORG,
        reading: Reading | None = None,
    ) -> Source:
        """Write a CSV file and add its source, with our headings unless `reading` is given."""
        self.write(name, content)
        return add_file(customer_id, self.folder, name, reading)

    def write(self, name: str, content: str | bytes) -> None:
        """Write a CSV file."""
        (self.folder / name).write_bytes(
            content if isinstance(content, bytes) else content.encode()
        )

    def rows(self, key: str, rows: list[list[Any]]) -> None:
        """Replace the rows of a sheet."""
        self.google.spreadsheets[key].tabs[0].rows = rows

    def sync(self, source: Source | None = None, **job: Any) -> SyncRunResult:
        """Sync every source; return the result of the given source, or of the only one."""
        results = {result.source.id: result for result in sync.sync_all(replace(self.job, **job))}
        return results[source.id] if source else next(iter(results.values()))

    def budgets(self, customer_id: str = ORG) -> dict[str, str]:
        """The live budgets: "Engineering, Q1 2025" -> "1000"."""
        live = (
            Budget.select()
            .where((Budget.customerId == customer_id) & Budget.deletedAt.is_null())
            .order_by(Budget.department)
        )
        return {
            f"{budget.department}, {budget.fiscalPeriod}": to_text(
                budget.budgetedMinor, budget.currencyExponent
            )
            for budget in live
        }

    def budget(self, department: str, customer_id: str = ORG) -> Budget:
        """The budget of a department, deleted or not."""
        budget: Budget = Budget.get(
            (Budget.customerId == customer_id) & (Budget.department == department)
        )
        return budget

    def state(self, customer_id: str = ORG) -> list[tuple[Any, ...]]:
        """Every column of every budget of a customer, for comparing states."""
        return [
            tuple(budget.__data__.values())
            for budget in Budget.select()
            .where(Budget.customerId == customer_id)
            .order_by(Budget.id)
        ]

    def history(self, source: Source) -> list[SyncHistory]:
        """The sync runs of a source, oldest first."""
        return list(
            SyncHistory.select().where(SyncHistory.sourceId == source.id).order_by(SyncHistory.id)
        )

    def last(self, source: Source) -> SyncHistory:
        """The latest sync run of a source."""
        return self.history(source)[-1]

    def bad_rows(self, source: Source) -> dict[int, str]:
        """The rows that the latest sync run rejected: row number -> message."""
        return {error["row"]: error["message"] for error in json.loads(self.last(source).errors)}

    def audit(self, budget: Budget) -> list[tuple[Any, ...]]:
        """The audit rows of a budget: (version, action, field, old, new)."""
        rows = AuditLog.select().where(AuditLog.budgetId == budget.id).order_by(AuditLog.version)
        return [(row.version, row.action, row.field, row.oldValue, row.newValue) for row in rows]

    def verify(self) -> None:
        """Assert that the balances and the audit log agree."""
        assert verification.verify().findings == []


@contextmanager
def open_world(instance_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A world in the app's empty database, with customer org-1."""
    # A proxy of the test machine must not be used for loopback addresses.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = instance_folder / "sheets"
    folder.mkdir()
    customers.add_customer(ROOT, ORG, "Org One")
    google = SheetsServer()
    reach = Reach(
        folder,
        google.credentials_file(instance_folder),
        google.url,
        deadline_s=30,
        timeout_s=10,
        attempts=2,
        backoff_s=0.01,
    )
    try:
        yield World(google, Job(ROOT, reach, instance_folder), folder)
    finally:
        google.stop()
