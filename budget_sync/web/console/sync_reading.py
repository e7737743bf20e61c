"""How a sheet is read: the questions and the confirmation, the stored reading, reading it again."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from flask import Response, flash, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from budget_sync import sync as sheets
from budget_sync.domain.errors import Code, RequestError
from budget_sync.sync import uploads
from budget_sync.sync.look_at_sheet import look_at_sheet
from budget_sync.sync.reading.detect import answers_of
from budget_sync.sync.reading.model import Reading
from budget_sync.sync.sheet_view import SheetView
from budget_sync.web.console.base import argument, console, is_sent, page, typed, viewer
from budget_sync.web.console.questions import SentAnswers, from_form, to_fields, without_typed
from budget_sync.web.console.reading_texts import differences, reading_lines
from budget_sync.web.console.sync_base import (
    customer_of_sheets,
    find_source,
    flash_result,
    job,
    reach,
    slot,
    source_names,
)

#: The names of the roles of columns, and what they mean.
ROLES = {
    "department": "Department",
    "period": "Period",
    "amount": "Amount",
    "currency": "Currency",
    "id": "Budget ID",
    "limit": "Limit",
    "owner": "Owner",
    "filter": "Filter",
    "ignored": "Left out",
}
ROLE_HINTS = {
    "department": "who may spend it",
    "period": "when",
    "amount": "how much",
    "currency": "in which currency",
    "id": "names the budget",
    "limit": "auto-approve limit",
    "owner": "email address of the owner",
    "filter": "says which rows count",
    "ignored": "a period that is not a budget",
}

NOT_WITH_THESE = "The sheet cannot be read with these answers."
CHANGED = "The answers or the sheet have changed the result. Check it below, then confirm again."


@console.route("/sync/reading", methods=["GET", "POST"])
def sync_reading() -> AnyResponse:
    """The questions of a source that waits for confirmation; else its stored reading."""
    source = find_source(argument("source"))
    if source.confirmed_at is None:
        return _proposal(source, is_again=False)
    if is_sent():
        return redirect(url_for("console.sync_reading", source=source.id))
    return _stored_page(source)


@console.route("/sync/again", methods=["GET", "POST"])
def sync_again() -> AnyResponse:
    """Read the sheet of a confirmed source again, and confirm the new reading."""
    source = find_source(argument("source"))
    if source.confirmed_at is None:
        return redirect(url_for("console.sync_reading", source=source.id))
    return _proposal(source, is_again=True)


@console.post("/sync/discard")
def sync_discard() -> AnyResponse:
    """Remove a source that was never confirmed."""
    source = find_source(argument("source"))
    if source.confirmed_at is None:
        sheets.remove_source(viewer().actor, source.id)
        flash("The source was discarded. Nothing was synced from it.")
    return redirect(url_for("console.sync"))


def _stored_page(source: sheets.Source) -> Response:
    reading = source.reading
    return page(
        "sync_stored.html",
        source=source,
        name=source_names().get(source.id),
        lines=reading_lines(reading) if reading else [],
        json=json.dumps(reading.to_json(), ensure_ascii=False, indent=2) if reading else None,
        problem=source.reading_problem,
    )


def _proposal(source: sheets.Source, *, is_again: bool) -> AnyResponse:
    """Show the proposal with the answers so far; once it is confirmed, store it and sync."""
    sent = from_form(request.form.lists()) if is_sent() else SentAnswers({})
    stored = source.reading if is_again else None
    pending = uploads.stored_file(viewer().actor, source.id) if is_again else None
    shown = _Shown(source, stored, sent, pending)
    try:
        with slot():
            target = sheets.with_file(source, pending=pending is not None)
            view, sent = _view(target, sent, stored)
    except sheets.FetchError as problem:
        return shown.page(None, 409, str(problem))
    shown = replace(shown, sent=sent)
    if not is_sent():
        return shown.page(view)
    error = " ".join(sent.problems)
    if typed("do") != "confirm":
        return shown.page(view, 400 if error else 200, error)
    if not error and typed("shown") != view.fingerprint:
        error = CHANGED
    if error or not view.is_complete:
        return shown.page(view, 409, error)
    return _confirm(source, view, pending)


def _view(
    target: sheets.Target, sent: SentAnswers, stored: Reading | None
) -> tuple[SheetView, SentAnswers]:
    """The sheet, read with the answers, and the answers with their problems.

    If the sheet is rejected with the answers, it is read again without the typed ones, and then
    without any: the questions stay on the page with the answers and the reason. Answers with a
    problem are never confirmed.
    """
    view = look_at_sheet(target, customer_of_sheets(), sent.answers, reach(), stored)
    refused = view.proposal.refused
    if refused is None:
        return view, sent
    for fewer in (without_typed(sent.answers), {}):
        if fewer != sent.answers:
            again = look_at_sheet(target, customer_of_sheets(), fewer, reach(), stored)
            if again.proposal.refused is None:
                is_about_answer = " is not an answer to " in refused
                problem = refused if is_about_answer else f"{NOT_WITH_THESE} {refused}"
                return again, SentAnswers(sent.answers, [*sent.problems, problem])
    return view, sent


def _confirm(
    source: sheets.Source, view: SheetView, pending: uploads.StoredFile | None
) -> AnyResponse:
    """Store the reading, use the pending file, start a sync run, and show its result."""
    reading = view.proposal.reading
    if reading is None:
        raise RequestError(Code.REQUEST_CONFLICT, CHANGED)
    confirmed = sheets.store_reading(
        viewer().actor,
        source.id,
        reading,
        view.facts,
        worksheet=view.worksheet,
        upload=pending.digest if pending else None,
    )
    with slot():
        result = sheets.sync_source(job(), confirmed)
    flash_result(result)
    if result.sync_id is None:
        return redirect(url_for("console.sync"))
    return redirect(url_for("console.sync_run", id=result.sync_id))


@dataclass(frozen=True, slots=True)
class _Shown:
    """The page of a proposal, except for what the sheet says."""

    source: sheets.Source
    stored: Reading | None
    sent: SentAnswers
    pending: uploads.StoredFile | None

    def page(self, view: SheetView | None, status: int = 200, error: str = "") -> Response:
        """Render it. `view` is None if the sheet cannot be fetched."""
        known = answers_of(self.stored) if self.stored else {}
        proposal = view.proposal if view else None
        reading = proposal.reading if proposal else None
        return page(
            "sync_reading.html",
            status,
            source=self.source,
            name=source_names().get(self.source.id),
            is_again=self.source.confirmed_at is not None,
            pending=self.pending,
            view=view,
            questions=to_fields(proposal, self.sent.answers, known) if proposal else [],
            differences=differences(self.stored, reading) if self.stored and reading else [],
            answered=bool(self.sent.answers),
            error=error,
            ROLES=ROLES,
            ROLE_HINTS=ROLE_HINTS,
        )
