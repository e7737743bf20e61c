"""Reads a sheet for a page, in a child process: the proposal, some cells and its budgets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from budget_sync.database import close_connection, open_connection
from budget_sync.runtime import isolate
from budget_sync.runtime.isolate import IsolatedError
from budget_sync.sync.propose import propose, worksheet_question
from budget_sync.sync.reading.grid import Grid
from budget_sync.sync.reading.model import Reading
from budget_sync.sync.reading.proposal import Answers, Proposal
from budget_sync.sync.reading.result import Customer
from budget_sync.sync.sheet_view import SheetView, view_of
from budget_sync.sync.source import GOOGLE, FetchError, Reach, Target

if TYPE_CHECKING:
    from budget_sync.sync.google import Tab

T = TypeVar("T")

#: A child process gets this many seconds more than the fetch, to start and to read the sheet.
EXTRA_S = 20.0


def look_at_sheet(
    target: Target,
    customer: Customer,
    answers: Answers,
    reach: Reach,
    stored: Reading | None = None,
) -> SheetView:
    """Fetch a sheet and propose how it is read. Holds no database connection in the meantime.

    `stored` is the reading of a source that is read again. A sheet that cannot be read, or that
    takes too much time or memory, has a proposal that is refused.
    """
    try:
        return in_child(
            _look, target, customer, answers, reach, stored, deadline_s=reach.deadline_s
        )
    except IsolatedError as problem:
        return SheetView("", None, Proposal(None, refused=str(problem)))


class Tabs(NamedTuple):
    """The tabs of a spreadsheet, and its title."""

    title: str
    tabs: tuple[Tab, ...]


def look_at_tabs(target: Target, reach: Reach) -> Tabs:
    """The tabs of the target's spreadsheet. Raises FetchError."""
    try:
        return in_child(_tabs, target.spreadsheet_key, reach, deadline_s=reach.deadline_s)
    except IsolatedError as problem:
        raise FetchError(str(problem)) from None


def _tabs(key: str, reach: Reach) -> Tabs:
    # Local, as in `fetch`: importing gspread takes long.
    from budget_sync.sync.google import list_tabs  # noqa: PLC0415

    about = list_tabs(key, reach)
    return Tabs(about.title, about.tabs)


class Account(NamedTuple):
    """The account to share sheets with. Without an address, `problem` says why."""

    address: str | None
    problem: str


def google_account(reach: Reach) -> Account:
    """The account that reads Google Sheets."""
    from budget_sync.sync.google import sharing_address  # noqa: PLC0415

    try:
        address = sharing_address(reach)
    except FetchError as problem:
        return Account(None, str(problem))
    return Account(address, "")


def in_child(work: Callable[..., T], *arguments: object, deadline_s: float) -> T:
    """Call `work` in a child process, without this thread's database connection.

    Raises what `work` raises, and IsolatedError.
    """
    close_connection()
    try:
        return isolate.call(work, *arguments, timeout_s=deadline_s + EXTRA_S)
    finally:
        open_connection()


def _look(
    target: Target, customer: Customer, answers: Answers, reach: Reach, stored: Reading | None
) -> SheetView:
    proposed = propose(target, customer, answers, reach, stored=stored)
    proposal, worksheet = proposed.proposal, proposed.target.worksheet
    if worksheet is not None and target.worksheet is None and target.kind != GOOGLE:
        # It stays on the page, so that the form keeps the answer.
        question = worksheet_question(proposed.worksheets)
        proposal = replace(proposal, questions=[question, *proposal.questions])
    view = view_of(proposed.file_name, worksheet, proposed.grid or Grid([]), proposal)
    return replace(view, book=proposed.book)
