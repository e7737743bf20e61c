"""Files that were uploaded in the console: the current one of a source, and a pending newer one.

A pending file changes nothing. A person looks at what it would change, and then uses it or discards
it.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

from budget_sync.database import audit_log, transact
from budget_sync.database.models import BudgetDataSourceConfig, SourceFile
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.permissions import Action, Actor, require
from budget_sync.sync.source import GOOGLE, FetchError, Source, Target, Upload
from budget_sync.sync.source_rows import locked_row
from budget_sync.sync.targets import checked_upload, kind_of

CURRENT = "current"
PENDING = "pending"


class StoredFile(NamedTuple):
    """An uploaded file without its content. `size` is in bytes, `digest` is its SHA-256."""

    name: str
    size: int
    digest: str
    uploaded_by: str
    uploaded_at: datetime


def store_upload(actor: Actor, source_id: str, name: str, content: bytes) -> StoredFile:
    """Store a newer file of an uploaded source as pending, in place of an earlier pending one.

    Raises RequestError NOT_FOUND, FORBIDDEN, or INVALID_REQUEST if the file is empty, too large or
    of another kind, or the source is not an uploaded file.
    """
    require(actor, Action.MANAGE_SOURCES)
    upload = checked_upload(name, content)

    def work() -> StoredFile:
        row = locked_row(actor, source_id)
        if row.sourceType == GOOGLE or row.csvPath is not None:
            raise invalid_request({"file": "cannot be uploaded: this source is read elsewhere"})
        if kind_of(content) != row.sourceType:
            wanted = "a CSV file" if row.sourceType == "csv" else "an Excel file (.xlsx)"
            raise invalid_request({"file": f"must be {wanted}, as before"})
        _delete(source_id, PENDING)
        return insert_file(actor, row.customerId, source_id, PENDING, upload)

    return transact(work)


def stored_file(actor: Actor, source_id: str, state: str = PENDING) -> StoredFile | None:
    """The pending or the current file of a source, without its content; None if it does not exist.

    Raises RequestError FORBIDDEN.
    """
    row = _file(actor, source_id, state)
    if row is None:
        return None
    return _stored(Upload(row.name, bytes(row.content)), row.uploadedBy, row.uploadedAt)


def use_upload(actor: Actor, source_id: str, digest: str) -> None:
    """Make the pending file the current one.

    `digest` is that of the file that the actor has seen. Raises RequestError NOT_FOUND, FORBIDDEN,
    or REQUEST_CONFLICT if another file is pending now, or none.
    """
    require(actor, Action.MANAGE_SOURCES)

    transact(lambda: use_pending(actor, locked_row(actor, source_id), digest))


def use_pending(actor: Actor, row: BudgetDataSourceConfig, digest: str) -> None:
    """As `use_upload`, for the locked row of a source, in the open transaction."""
    pending = stored_file(actor, row.id, PENDING)
    if pending is None or not hmac.compare_digest(pending.digest, digest):
        raise RequestError(
            Code.REQUEST_CONFLICT,
            "Another file was uploaded, used or discarded meanwhile. Look at it again.",
        )
    current: str | None = (
        SourceFile.select(SourceFile.name).where(_is_file(row.id, CURRENT)).scalar()
    )
    _delete(row.id, CURRENT)
    SourceFile.update(state=CURRENT).where(_is_file(row.id, PENDING)).execute()
    audit_log.record(
        actor,
        "SET_FILE",
        customer_id=row.customerId,
        subject=row.id,
        field="file",
        oldValue=current,
        newValue=pending.name,
    )


def discard_upload(actor: Actor, source_id: str) -> None:
    """Delete the pending file, if there is one. Raises RequestError NOT_FOUND or FORBIDDEN."""
    require(actor, Action.MANAGE_SOURCES)

    def work() -> None:
        locked_row(actor, source_id)
        _delete(source_id, PENDING)

    transact(work)


def with_file(source: Source, *, pending: bool = False) -> Target:
    """The target of a source, with its uploaded file if it is one.

    Does not check permissions. Raises FetchError if it does not exist.
    """
    if not source.is_upload:
        return source.target
    state = PENDING if pending else CURRENT
    row = SourceFile.get_or_none(_is_file(source.id, state))
    if row is None:
        raise FetchError("The source has no uploaded file. Upload one on the Sync page.")
    return replace(source.target, upload=Upload(row.name, bytes(row.content)))


def insert_file(
    actor: Actor, customer_id: str, source_id: str, state: str, upload: Upload
) -> StoredFile:
    """Add a file in the open transaction."""
    now = clock.now()
    SourceFile.insert(
        sourceId=source_id,
        customerId=customer_id,
        state=state,
        name=upload.name,
        content=upload.content,
        uploadedBy=actor.label,
        uploadedAt=now,
    ).execute()
    return _stored(upload, actor.label, now)


def _stored(upload: Upload, uploaded_by: str, uploaded_at: datetime) -> StoredFile:
    digest = hashlib.sha256(upload.content).hexdigest()
    return StoredFile(upload.name, len(upload.content), digest, uploaded_by, uploaded_at)


def _is_file(source_id: str, state: str) -> Any:
    """The condition for the file of a source in this state."""
    return (SourceFile.sourceId == source_id) & (SourceFile.state == state)


def _delete(source_id: str, state: str) -> None:
    SourceFile.delete().where(_is_file(source_id, state)).execute()


def _file(actor: Actor, source_id: str, state: str) -> SourceFile | None:
    require(actor, Action.MANAGE_SOURCES)
    row: SourceFile | None = SourceFile.get_or_none(_is_file(source_id, state))
    return row if row is not None and actor.serves(row.customerId) else None
