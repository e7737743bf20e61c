"""Held changes of a source, with a button for each answer. An answer starts a sync run."""

from __future__ import annotations

from flask import Response, redirect, url_for
from werkzeug.wrappers import Response as AnyResponse

from budget_sync import database
from budget_sync import sync as sheets
from budget_sync.accounts.authentication import digest
from budget_sync.domain.errors import Code, RequestError
from budget_sync.queries import held
from budget_sync.sync.answer_holds import Choice, answer_holds, choose
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
            "What is held has changed. Check it below, then answer again.",
        )
    budget_id = typed("budget")
    match typed("answer"):
        case Reply.SAME:
            names = {
                hold.budget_id: hold.new.name for hold in of_kind(holds, Kind.RENAME) if hold.new
            }
            choice = Choice(renames=[(budget_id, names.get(budget_id, ""))])
        case Reply.DIFFERENT:
            choice = Choice(different=[budget_id])
        case Reply.APPLY:
            choice = Choice(accept_amounts=True)
        case Reply.APPROVE:
            choice = Choice(allow_deletes=True)
        case _:
            raise RequestError(Code.INVALID_REQUEST, "Choose one of the answers.")
    return choose(holds, choice)


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
        answered=held.answered(who.actor, who.customer.id, source_id),
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
