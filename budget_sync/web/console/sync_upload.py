"""A newer file for an uploaded source: its plan is shown before anything is applied."""

from __future__ import annotations

from flask import Response, flash, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from budget_sync import sync as sheets
from budget_sync.domain.errors import Code, RequestError
from budget_sync.sync import uploads
from budget_sync.sync.targets import MAX_UPLOAD_BYTES
from budget_sync.web.console.base import argument, console, is_sent, page, typed, viewer
from budget_sync.web.console.errors import status_of
from budget_sync.web.console.sync import MAX_PREVIEW_LINES
from budget_sync.web.console.sync_base import (
    find_source,
    flash_result,
    job,
    sentence_of,
    slot,
    source_names,
)
from budget_sync.web.console.sync_connect import MAX_MB
from budget_sync.web.server_interface import accepts_upload


@console.route("/sync/upload", methods=["GET", "POST"])
@accepts_upload
def sync_upload() -> AnyResponse:
    """Upload a newer file, and show its plan."""
    source = _uploaded(argument("source"))
    if not is_sent():
        return _upload_page(source)
    file = request.files.get("file")
    if file is None or not file.filename:
        return _upload_page(source, 400, "Choose a file.")
    try:
        uploads.store_upload(viewer().actor, source.id, file.filename, file.read())
    except RequestError as error:
        return _upload_page(source, status_of(error), sentence_of(error))
    return redirect(url_for("console.sync_upload", source=source.id))


@console.post("/sync/upload/use")
def sync_use_upload() -> AnyResponse:
    """Make the pending file the current one, and sync it."""
    source = _uploaded(argument("source"))
    try:
        uploads.use_upload(viewer().actor, source.id, typed("shown"))
    except RequestError as error:
        return _upload_page(source, status_of(error), error.sentence)
    with slot():
        result = sheets.sync_source(job(), find_source(source.id))
    flash_result(result)
    if result.sync_id is None:
        return redirect(url_for("console.sync"))
    return redirect(url_for("console.sync_run", id=result.sync_id))


@console.post("/sync/upload/discard")
def sync_discard_upload() -> AnyResponse:
    """Delete the pending file."""
    source = _uploaded(argument("source"))
    uploads.discard_upload(viewer().actor, source.id)
    flash("The newer file was discarded. Nothing was changed.")
    return redirect(url_for("console.sync"))


def _uploaded(source_id: str) -> sheets.Source:
    """A confirmed source with an uploaded file. Raises RequestError NOT_FOUND or FORBIDDEN."""
    source = find_source(source_id)
    if not source.is_upload or source.confirmed_at is None:
        raise RequestError(Code.NOT_FOUND, "There is no such source with an uploaded file.")
    return source


def _upload_page(source: sheets.Source, status: int = 200, error: str = "") -> Response:
    """The page, with the plan of the pending file if there is one."""
    pending = uploads.stored_file(viewer().actor, source.id)
    values = {
        "source": source,
        "name": source_names().get(source.id),
        "pending": pending,
        "error": error,
        "max_mb": MAX_MB,
        "max_bytes": MAX_UPLOAD_BYTES,
        "max_lines": MAX_PREVIEW_LINES,
    }
    if pending is None:
        return page("sync_upload.html", status, **values)
    with slot():
        preview = sheets.preview_source(job(), source, pending=True)
        # In the slot as well, because the page of a large sheet takes long to render.
        return page("sync_upload.html", status, preview=preview, **values)
