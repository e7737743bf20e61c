"""The first half of a sync run: fetch the sheet, apply its reading, plan. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace

from budget_sync.accounts.customers import fiscal_year_of, get_customer
from budget_sync.database import locked, open_connection
from budget_sync.database.models import BudgetDataSourceConfig, Customer
from budget_sync.sync import answers, apply, fetch, history
from budget_sync.sync.cancel import TimeLimit
from budget_sync.sync.job import Job, Skipped
from budget_sync.sync.match import StoredBudget
from budget_sync.sync.plan import SyncPlan, make_plan
from budget_sync.sync.reading import result
from budget_sync.sync.reading.apply import apply as apply_reading
from budget_sync.sync.reading.model import Reading
from budget_sync.sync.reading.result import Facts, SheetResult
from budget_sync.sync.reading.upgraded import ENCODING_NOTE, completed
from budget_sync.sync.source import Source
from budget_sync.sync.source_rows import to_source
from budget_sync.sync.uploads import with_file

#: Why a source without a reading is not synced.
UNCONFIRMED = "Waiting for confirmation of how it is read."


@dataclass(frozen=True, slots=True)
class Prepared:
    """A source that was read, and the plan for it.

    `title` names the sheet for people. `gid` is the number of its tab; `book` and `tab` are the
    titles of the spreadsheet and the tab. `reading` is the source's, completed if it is from an
    upgrade. `customer` is the customer as the sheet was read.
    """

    title: str
    gid: int | None
    book: str | None
    tab: str | None
    reading: Reading
    customer: result.Customer
    sheet: SheetResult
    stored: list[StoredBudget]
    plan: SyncPlan


def reading_customer(customer: Customer) -> result.Customer:
    """The settings of a customer that a reading needs."""
    return result.Customer(
        currency=customer.currency,
        fiscal_year=fiscal_year_of(customer),
    )


def current_source(source: Source, reading: Reading | None = None) -> Source:
    """The source as it is stored now, or with another reading. A transaction locks its row.

    Raises Skipped if the customer is disabled, the source was removed, or its reading is not
    confirmed.
    """
    if get_customer(source.customer_id).disabledAt is not None:
        raise Skipped(f"Customer {source.customer_id} is disabled.")
    row = locked(
        BudgetDataSourceConfig.select().where(
            (BudgetDataSourceConfig.id == source.id) & BudgetDataSourceConfig.isActive
        )
    ).first()
    if row is None or row.removedAt is not None:
        raise Skipped("The source was removed.")
    now = to_source(row)
    if reading is not None:
        return replace(now, reading=reading)
    if now.reading is None:
        raise Skipped(now.reading_problem or UNCONFIRMED)
    return now


def prepare(job: Job, source: Source, limit: TimeLimit, *, pending: bool = False) -> Prepared:
    """Read a source and plan, outside any transaction. The source is from `current_source`.

    With `pending`, the pending uploaded file is read. Raises FetchError, SheetProblem,
    OutOfTimeError and Cancelled.
    """
    reading = source.reading
    if reading is None:
        raise RuntimeError("a source without a reading is skipped before this")
    target = with_file(source, pending=pending)
    before = _facts_before(source)
    job.report(f"reading {source.label}")
    with job.stop.at_once():
        fetched = fetch.fetch_source(target, job.reach)
        fetched.require_chosen()
    open_connection()
    customer = reading_customer(get_customer(source.customer_id))
    job.report(f"applying the reading of {source.label}")
    with job.stop.at_once():
        if source.is_upgraded:
            reading = completed(reading, fetched.source)
        sheet = apply_reading(reading, fetched.source, customer, before=before, check=limit.check)
    if source.is_upgraded and reading.file and reading.file.encoding == "cp1252":
        sheet.notes.insert(0, ENCODING_NOTE)
    stored, plan = plan_for(job, source, customer, sheet, limit)
    return Prepared(
        title=fetched.title,
        gid=fetched.gid,
        book=fetched.book,
        tab=fetched.tab,
        reading=reading,
        customer=customer,
        sheet=sheet,
        stored=stored,
        plan=plan,
    )


def _facts_before(source: Source) -> list[Facts]:
    """The counts at the confirmation and in the latest applied run, as far as they are known."""
    return [facts for facts in (source.facts, history.latest_facts(source.id)) if facts]


def plan_for(
    job: Job, source: Source, customer: result.Customer, sheet: SheetResult, limit: TimeLimit
) -> tuple[list[StoredBudget], SyncPlan]:
    """The budgets as they are now, and the changes that a sheet means for them."""
    limit.check()
    stored = apply.read_stored(source.customer_id)
    limit.check()
    plan = make_plan(
        source.id,
        sheet,
        stored,
        allow_deletes=job.allow_deletes,
        previous=answers.previous_holds(source.id),
        answers=answers.open_answers(source.id),
        fiscal_year=customer.fiscal_year,
        check=limit.check,
    )
    return stored, plan
