"""Connect a sheet: a tab of a Google Sheet, or an uploaded file. Nothing is synced yet."""

from __future__ import annotations

from typing import NamedTuple

from flask import Response, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from budget_sync import sync as sheets
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Action, require
from budget_sync.sync.look_at_sheet import google_account, look_at_sheet, look_at_tabs
from budget_sync.sync.sheet_view import SheetView
from budget_sync.sync.standard import template
from budget_sync.sync.targets import MAX_UPLOAD_BYTES, google_target, upload_target
from budget_sync.web.console.base import console, page, typed, viewer
from budget_sync.web.console.errors import status_of
from budget_sync.web.console.sync_base import customer_of_sheets, reach, sentence_of, slot
from budget_sync.web.server_interface import accepts_upload

#: The size of a file in the texts of pages, in MB.
MAX_MB = MAX_UPLOAD_BYTES // 1024 // 1024


class TabChoice(NamedTuple):
    """A tab as an option of the form. `value` is its number as "gid=123"."""

    value: str
    title: str
    is_hidden: bool
    is_chosen: bool


@console.get("/sync/connect")
def sync_connect() -> Response:
    """The two ways to connect a sheet."""
    require(viewer().actor, Action.MANAGE_SOURCES)
    return _connect_page()


@console.get("/sync/template")
def sync_template() -> Response:
    """A CSV file to start from, with a header and examples."""
    require(viewer().actor, Action.MANAGE_SOURCES)
    headers = {"Content-Disposition": 'attachment; filename="budgets.csv"'}
    return Response(template(clock.now().year), mimetype="text/csv", headers=headers)


@console.get("/sync/help")
def sync_help() -> Response:
    """Help: the kinds of sheets that can be read."""
    require(viewer().actor, Action.READ_SYNC)
    return page("sync_help.html", max_mb=MAX_MB)


@console.post("/sync/tabs")
def sync_tabs() -> Response:
    """The tabs of a Google Sheet, to choose one."""
    require(viewer().actor, Action.MANAGE_SOURCES)
    try:
        return _tabs_page(typed("address"))
    except RequestError as error:
        _require_invalid(error)
        return _connect_page(status_of(error), error=sentence_of(error), address=typed("address"))
    except sheets.FetchError as problem:
        return _connect_page(409, error=str(problem), address=typed("address"))


@console.post("/sync/tab")
def sync_tab() -> AnyResponse:
    """Add a source for a tab, unless it cannot be read."""
    require(viewer().actor, Action.MANAGE_SOURCES)
    address = typed("address")
    try:
        target = google_target(address, typed("tab"))
        view = _look(target)
        refused = view.proposal.refused
        if refused is not None:
            return _tabs_page(address, 409, refused=refused)
        return _add(target, view.book)
    except RequestError as error:
        _require_invalid(error)
        return _connect_page(status_of(error), error=sentence_of(error), address=address)
    except sheets.FetchError as problem:
        return _connect_page(409, error=str(problem), address=address)


@console.post("/sync/file")
@accepts_upload
def sync_file() -> AnyResponse:
    """Add a source for an uploaded file, unless it cannot be read."""
    require(viewer().actor, Action.MANAGE_SOURCES)
    file = request.files.get("file")
    if file is None or not file.filename:
        return _connect_page(400, error="Choose a file.")
    try:
        target = upload_target(file.filename, file.read())
        refused = _look(target).proposal.refused
        if refused is not None:
            name = target.upload.name if target.upload else "The file"
            return _connect_page(409, refused=refused, refused_name=name)
        return _add(target)
    except RequestError as error:
        _require_invalid(error)
        return _connect_page(status_of(error), error=sentence_of(error))


def _require_invalid(error: RequestError) -> None:
    """Raise an error that is not about the form again, for its own page."""
    if error.code is not Code.INVALID_REQUEST:
        raise error


def _look(target: sheets.Target) -> SheetView:
    """The sheet as it can be read. Its proposal says why, if it cannot."""
    with slot():
        return look_at_sheet(target, customer_of_sheets(), {}, reach())


def _add(target: sheets.Target, title: str | None = None) -> AnyResponse:
    who = viewer()
    source, _ = sheets.add_source(who.actor, who.customer.id, target, title=title)
    return redirect(url_for("console.sync_reading", source=source.id))


def _connect_page(status: int = 200, **values: str) -> Response:
    account = google_account(reach())
    return page(
        "sync_connect.html",
        status,
        account=account,
        max_mb=MAX_MB,
        max_bytes=MAX_UPLOAD_BYTES,
        **values,
    )


def _tabs_page(address: str, status: int = 200, refused: str | None = None) -> Response:
    """The tabs of a spreadsheet. Raises RequestError or FetchError."""
    target = google_target(address, needs_worksheet=False)
    with slot():
        found = look_at_tabs(target, reach())
    wanted = typed("tab") or f"gid={target.worksheet_gid}"
    values = [f"gid={tab.gid}" for tab in found.tabs]
    chosen = wanted if wanted in values else values[0] if values else ""
    choices = [
        TabChoice(value, tab.title, tab.is_hidden, value == chosen)
        for value, tab in zip(values, found.tabs, strict=True)
    ]
    return page(
        "sync_tabs.html", status, name=found.title, tabs=choices, address=address, refused=refused
    )
