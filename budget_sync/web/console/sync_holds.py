"""Held changes of a source, with a button for each answer. An answer starts a sync run."""

from __future__ import annotations

from flask import Response, redirect, url_for
from werkzeug.wrappers import Response as AnyResponse

from budget_sync import database
from budget_sync import sync as sheets
from budget_sync.accounts.authentication import digest
from budget_sync.domain.errors import Code, RequestError
from budget_sync.queries import held
from budget_sync.sync.answer_holds import answer_holds
from budget_sync.sync.holds import Answer, Hold, Kind, Reply
from budget_sync.web.console.base import (
    argument,
    console,
    is_sent,
    page,
    page_number,
    typed,
    viewer,
)
from budget_sync.web.console.errors import status_of
from budget_sync.web.console.hold_texts import amounts_text, of_kind, rename_text
from budget_sync.web.console.sync_base import find_source, flash_result, job, slot, source_names

#: Held amounts and creations that the page lists.
MAX_LISTED = 200

#: The kinds of changes that each answer covers. The answer to a rename covers only that one.
_COVERED = {
    Reply.APPLY: (Kind.AMOUNT, Kind.CREATION),
    Reply.APPROVE: (Kind.DELETION, Kind.CREATION),
}


@console.route("/sync/held", methods=["GET", "POST"])
def sync_held() -> AnyResponse:
    """List the held changes of a source, and answer them.

    An answer covers only the changes on the page, even if the next sync run finds others.
    """
    source_id = argument("source")
    if not is_sent():
        return _held_page(source_id)
    with slot():
        source = find_source(source_id)
        try:
            answer_holds(viewer().actor, source.id, _answers(source.id))
        except RequestError as error:
            return _held_page(source_id, status_of(error), error.sentence)
        result = sheets.sync_source(job(), source)
    database.open_connection()
    flash_result(result)
    return redirect(url_for("console.sync"))


def _answers(source_id: str) -> list[Answer]:
    """The answers in the form. Raises RequestError REQUEST_CONFLICT or INVALID_REQUEST."""
    who = viewer()
    holds = held.held_changes(who.actor, who.customer.id, source_id)
    if not holds or typed("listed") != _fingerprint(holds):
        raise RequestError(
            Code.REQUEST_CONFLICT,
            "The held changes are others now. Check them below, then answer again.",
        )
    try:
        reply = Reply(typed("answer"))
    except ValueError:
        raise RequestError(Code.INVALID_REQUEST, "Choose one of the answers.") from None
    if reply in _COVERED:
        covered = [hold for hold in holds if hold.kind in _COVERED[reply]]
    else:
        budget_id = typed("budget")
        covered = [hold for hold in of_kind(holds, Kind.RENAME) if hold.budget_id == budget_id]
    return [Answer(hold.question, reply) for hold in covered]


def _held_page(source_id: str, status: int = 200, error: str | None = None) -> Response:
    who = viewer()
    holds = held.held_changes(who.actor, who.customer.id, source_id)
    lines = held.budget_lines(who.actor, who.customer.id, holds)
    amounts = of_kind(holds, Kind.AMOUNT)
    deletions = of_kind(holds, Kind.DELETION)
    return page(
        "sync_held.html",
        status,
        source_id=source_id,
        name=source_names().get(source_id),
        error=error,
        listed=_fingerprint(holds),
        has_holds=bool(holds),
        renames=[
            rename_text(hold, lines[hold.budget_id].balance if hold.budget_id in lines else None)
            for hold in of_kind(holds, Kind.RENAME)
        ],
        amounts=amounts[:MAX_LISTED],
        amount_count=len(amounts),
        amounts_text=amounts_text(amounts) if amounts else None,
        deletions=[lines[hold.budget_id] for hold in deletions if hold.budget_id in lines],
        creations=of_kind(holds, Kind.CREATION),
        max_listed=MAX_LISTED,
        page=page_number(),
    )


def _fingerprint(holds: list[Hold]) -> str:
    """A digest of the held changes, for a hidden field of the form."""
    return digest("\n".join(sorted(repr(tuple(hold.question)) for hold in holds)))
