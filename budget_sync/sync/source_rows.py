"""The database rows of sources."""

from __future__ import annotations

from budget_sync.database import locked
from budget_sync.database.models import BudgetDataSourceConfig, SourceFile
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Actor
from budget_sync.sync.facts import facts_from_text
from budget_sync.sync.reading.model import Reading, ReadingError
from budget_sync.sync.source import GOOGLE, Source, Target


def locked_row(actor: Actor, source_id: str) -> BudgetDataSourceConfig:
    """The row of an active source, locked. Raises RequestError NOT_FOUND."""
    row: BudgetDataSourceConfig | None = locked(
        BudgetDataSourceConfig.select().where(
            (BudgetDataSourceConfig.id == source_id) & BudgetDataSourceConfig.removedAt.is_null()
        )
    ).first()
    if row is None or not actor.serves(row.customerId):
        raise unknown_source(source_id)
    return row


def unknown_source(source_id: str) -> RequestError:
    """The error NOT_FOUND for a source."""
    return RequestError(Code.NOT_FOUND, f"There is no source {source_id!r}; see list-sources.")


def to_source(row: BudgetDataSourceConfig) -> Source:
    """The source of a database row."""
    reading, problem = None, None
    if row.reading is not None:
        try:
            reading = Reading.from_text(row.reading)
        except ReadingError as error:
            problem = f"{error} Run reread-source to confirm how the sheet is read."
    file = None
    if row.sourceType != GOOGLE and row.csvPath is None:
        file = (
            SourceFile.select(SourceFile.name, SourceFile.uploadedAt)
            .where((SourceFile.sourceId == row.id) & (SourceFile.state == "current"))
            .first()
        )
    return Source(
        id=row.id,
        customer_id=row.customerId,
        target=Target(
            row.sourceType,
            spreadsheet_key=row.spreadsheetKey,
            worksheet=row.worksheet,
            worksheet_gid=row.worksheetGid,
            file_path=row.csvPath,
        ),
        reading=reading,
        confirmed_by=row.readingConfirmedBy,
        confirmed_at=row.readingConfirmedAt,
        facts=facts_from_text(row.readingFacts) if row.readingFacts else None,
        reading_problem=problem,
        upload_name=file.name if file else None,
        title=row.title,
        uploaded_at=file.uploadedAt if file else None,
    )
