"""Adds, lists and removes sources, and stores how they are read. Each change is audited."""

from __future__ import annotations

import secrets

from budget_sync.accounts.customers import get_customer
from budget_sync.database import audit_log, locked, transact
from budget_sync.database.models import (
    Budget,
    BudgetDataSourceConfig,
    BudgetUtilization,
    SourceFile,
)
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.permissions import Action, Actor, require, require_serves
from budget_sync.ledger.movements import LedgerBudget, select_budgets
from budget_sync.sync.facts import facts_to_text
from budget_sync.sync.reading.model import CsvFormat, Reading
from budget_sync.sync.reading.result import Facts
from budget_sync.sync.sheet_names import title_of
from budget_sync.sync.source import CSV, GOOGLE, Source, Target
from budget_sync.sync.source_rows import locked_row, to_source, unknown_source
from budget_sync.sync.uploads import insert_file, use_pending

#: The principal of the command line. Only the command line may add files of this machine.
SHELL = "command"

#: A reading with a longer text is rejected: it names thousands of columns.
MAX_READING_CHARS = 200_000


def add_source(
    actor: Actor,
    customer_id: str,
    target: Target,
    *,
    reading: Reading | None = None,
    facts: Facts | None = None,
    title: str | None = None,
) -> tuple[Source, list[str]]:
    """Create a source; return it with warnings for the caller.

    `target` is from `targets`. With `reading`, the actor has confirmed it, and `facts` are the
    counts of the sheet; without, the source is not synced until `store_reading`. `title` is that of
    a Google spreadsheet. Raises
    RequestError INVALID_REQUEST, INVALID_CUSTOMER or FORBIDDEN.
    """
    require(actor, Action.MANAGE_SOURCES)
    require_serves(actor, customer_id)
    if target.file_path is not None and actor.principal != SHELL:
        raise RequestError(
            Code.FORBIDDEN, "A file on the server can only be added on the command line."
        )
    if reading is not None:
        _require_fit(target, reading)
    if target.kind != GOOGLE and target.file_path is None and target.upload is None:
        raise invalid_request({"source": "must have a file"})

    def work() -> tuple[Source, list[str]]:
        get_customer(customer_id)
        require_unused(customer_id, target)
        row = _create_row(customer_id, target, title, _reading_columns(actor, reading, facts))
        # Paths are only shown on the command line, and the audit log has other readers.
        label = target.public_label
        audit_log.record(
            actor, "ADD_SOURCE", customer_id=customer_id, subject=row.id, newValue=label
        )
        if target.upload is not None:
            insert_file(actor, customer_id, row.id, "current", target.upload)
        if reading is not None:
            _record_reading(actor, row, None, reading)
        source = to_source(row)
        return source, _warnings(source)

    return transact(work)


def _create_row(
    customer_id: str, target: Target, title: str | None, reading_columns: dict[str, object]
) -> BudgetDataSourceConfig:
    """The row of a new source."""
    row: BudgetDataSourceConfig = BudgetDataSourceConfig.create(
        id=f"src_{secrets.token_hex(6)}",
        customerId=customer_id,
        sourceType=target.kind,
        spreadsheetKey=target.spreadsheet_key,
        worksheet=target.worksheet,
        worksheetGid=target.worksheet_gid,
        csvPath=target.file_path,
        title=title_of(title),
        isActive=True,
        createdAt=clock.now(),
        **reading_columns,
    )
    return row


def store_reading(
    actor: Actor,
    source_id: str,
    reading: Reading,
    facts: Facts | None = None,
    *,
    worksheet: str | None = None,
    upload: str | None = None,
) -> Source:
    """Store a reading that the actor has confirmed; return the source.

    `facts` are the counts of the sheet, as read by it. `worksheet` is the worksheet that was chosen
    for a file that has several. `upload` is the digest of the pending file that the reading was
    confirmed for: no sync run may read that file by the old reading. Raises RequestError NOT_FOUND,
    FORBIDDEN, INVALID_REQUEST, or REQUEST_CONFLICT if another file is pending now.
    """
    require(actor, Action.MANAGE_SOURCES)

    def work() -> Source:
        row = locked_row(actor, source_id)
        _require_fit(to_source(row).target, reading)
        if upload is not None:
            use_pending(actor, row, upload)
        set_reading(actor, row, reading, facts)
        if worksheet is not None and row.worksheetGid is None:
            BudgetDataSourceConfig.update(worksheet=worksheet).where(
                BudgetDataSourceConfig.id == source_id
            ).execute()
        return to_source(BudgetDataSourceConfig.get_by_id(source_id))

    return transact(work)


def set_reading(
    actor: Actor, row: BudgetDataSourceConfig, reading: Reading, facts: Facts | None
) -> None:
    """Replace the reading of a locked row in the open transaction."""
    columns = _reading_columns(actor, reading, facts)
    BudgetDataSourceConfig.update(**columns).where(BudgetDataSourceConfig.id == row.id).execute()
    _record_reading(actor, row, row.reading, reading)


def complete_reading(actor: Actor, source: Source, reading: Reading, facts: Facts) -> None:
    """Store what the first sync run found out about a reading from an upgrade.

    Belongs to the transaction of that run, which has locked the row. The reading stays confirmed by
    the upgrade.
    """
    BudgetDataSourceConfig.update(
        reading=reading.to_text(), readingFacts=facts_to_text(facts)
    ).where(BudgetDataSourceConfig.id == source.id).execute()
    if reading != source.reading:
        row = BudgetDataSourceConfig.get_by_id(source.id)
        old = source.reading.to_text() if source.reading else None
        _record_reading(actor, row, old, reading)


def get_source(actor: Actor, source_id: str) -> Source:
    """One active source. Raises RequestError NOT_FOUND or FORBIDDEN."""
    require(actor, Action.MANAGE_SOURCES)
    row = BudgetDataSourceConfig.get_or_none(
        (BudgetDataSourceConfig.id == source_id) & BudgetDataSourceConfig.removedAt.is_null()
    )
    if row is None or not actor.serves(row.customerId):
        raise unknown_source(source_id)
    return to_source(row)


def list_sources(actor: Actor, customer_id: str | None = None) -> list[Source]:
    """The active sources that the caller may manage, ordered by customer and age."""
    require(actor, Action.MANAGE_SOURCES)
    wanted = actor.customer_id or customer_id
    query = BudgetDataSourceConfig.select().where(
        BudgetDataSourceConfig.isActive & BudgetDataSourceConfig.removedAt.is_null()
    )
    if wanted is not None:
        query = query.where(BudgetDataSourceConfig.customerId == wanted)
    order = (
        BudgetDataSourceConfig.customerId,
        BudgetDataSourceConfig.createdAt,
        BudgetDataSourceConfig.id,
    )
    return [to_source(row) for row in query.order_by(*order)]


def remove_source(actor: Actor, source_id: str) -> int:
    """Remove a source and its uploaded files; return the number of its live budgets.

    The budgets stay as they are, without a source: they can be changed by hand, and another source
    may adopt them. Raises RequestError NOT_FOUND.
    """
    require(actor, Action.MANAGE_SOURCES)

    def work() -> int:
        row = locked_row(actor, source_id)
        BudgetDataSourceConfig.update(isActive=False, removedAt=clock.now()).where(
            BudgetDataSourceConfig.id == source_id
        ).execute()
        SourceFile.delete().where(SourceFile.sourceId == source_id).execute()
        audit_log.record(actor, "REMOVE_SOURCE", customer_id=row.customerId, subject=source_id)
        owned = list(
            locked(
                Budget.select(Budget.id, Budget.deletedAt)
                .where(Budget.sourceId == source_id)
                .order_by(Budget.id)
            )
        )
        for budget in owned:
            _detach(actor, row.customerId, budget.id, source_id)
        return sum(budget.deletedAt is None for budget in owned)

    return transact(work)


def _detach(actor: Actor, customer_id: str, budget_id: str, source_id: str) -> None:
    """Remove the source from a budget."""
    Budget.update(sourceId=None, sourceRow=None, updatedAt=clock.now()).where(
        Budget.id == budget_id
    ).execute()
    BudgetUtilization.update(version=BudgetUtilization.version + 1).where(
        BudgetUtilization.budgetId == budget_id
    ).execute()
    budget = LedgerBudget.of(select_budgets(Budget.id == budget_id).tuples().get())
    audit_log.record(
        actor,
        "UPDATE",
        customer_id=customer_id,
        budget_id=budget_id,
        version=budget.version,
        balance=budget.balance,
        field="sourceId",
        oldValue=source_id,
        reason="The source was removed",
    )


def _reading_columns(
    actor: Actor, reading: Reading | None, facts: Facts | None
) -> dict[str, object]:
    """The columns of a confirmed reading."""
    if reading is None:
        return {}
    return {
        "reading": reading.to_text(),
        "readingConfirmedBy": actor.label,
        "readingConfirmedAt": clock.now(),
        "readingFacts": facts_to_text(facts) if facts else None,
    }


def _record_reading(
    actor: Actor, row: BudgetDataSourceConfig, old: str | None, reading: Reading
) -> None:
    audit_log.record(
        actor,
        "SET_READING",
        customer_id=row.customerId,
        subject=row.id,
        field="reading",
        oldValue=old,
        newValue=reading.to_text(),
    )


def _require_fit(target: Target, reading: Reading) -> None:
    """Raise RequestError INVALID_REQUEST if the reading cannot be one of this kind of source."""
    if len(reading.to_text()) > MAX_READING_CHARS:
        raise invalid_request({"reading": f"is longer than {MAX_READING_CHARS:,} characters"})
    if target.kind == CSV and reading.file is None:
        raise invalid_request({"reading": "has no key 'file', which a CSV file needs"})
    if target.kind != CSV and reading.file not in (None, CsvFormat()):
        raise invalid_request({"reading": "has the key 'file', which is only for CSV files"})


def require_unused(customer_id: str, target: Target) -> None:
    """Raise RequestError if the customer has a source of the same sheet.

    Two sources of one sheet would take its budgets from each other.
    """
    if target.upload is not None:
        return
    row = BudgetDataSourceConfig
    if target.kind == GOOGLE:
        is_same = (row.spreadsheetKey == target.spreadsheet_key) & (
            (row.worksheetGid == target.worksheet_gid)
            if target.worksheet_gid is not None
            else (row.worksheet == target.worksheet)
        )
    else:
        is_same = row.csvPath == target.file_path
        if target.worksheet is not None:
            is_same &= row.worksheet == target.worksheet
    existing = row.select().where((row.customerId == customer_id) & row.isActive & is_same).first()
    if existing is not None:
        raise invalid_request({"source": f"exists already, as {existing.id}"})


def _warnings(source: Source) -> list[str]:
    key = source.target.spreadsheet_key
    if key is None:
        return []
    others = BudgetDataSourceConfig.select(BudgetDataSourceConfig.customerId).where(
        (BudgetDataSourceConfig.spreadsheetKey == key)
        & (BudgetDataSourceConfig.customerId != source.customer_id)
        & BudgetDataSourceConfig.isActive
    )
    return [
        f"Customer {customer_id} has a source in this spreadsheet too: is that intended?"
        for customer_id in sorted({row.customerId for row in others})
    ]
