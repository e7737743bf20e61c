"""Ordinary edits of a synced sheet, with and without money spent, in one database.

No edit makes more money available than the edited amounts say, unless a person answers. Run with
`-s` to print what each edit does.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import NamedTuple

import pytest
from flask import Flask
from support.edits import (
    LINES,
    PLAIN,
    WIDE,
    Edit,
    Sheet,
    Sums,
    Version,
    file_of,
    google_edits,
    lines_edits,
    plain_edits,
    tab_of,
    wide_edits,
)
from support.sync_world import World, open_world
from support.world import ROOT

from budget_sync import database, ledger, sync
from budget_sync.domain.names import fold
from budget_sync.domain.request_models import CommitRequest, ReserveRequest
from budget_sync.settings import Settings
from budget_sync.sync import Source, SyncRunResult
from budget_sync.sync.propose import propose
from budget_sync.sync.reading.result import Customer
from budget_sync.sync.source import CSV
from budget_sync.sync.targets import file_target, google_target

SHEETS = [
    pytest.param(PLAIN, False, plain_edits(), id="plain"),
    pytest.param(PLAIN, True, google_edits(), id="google"),
    pytest.param(WIDE, False, wide_edits(), id="wide"),
    pytest.param(LINES, False, lines_edits(), id="lines"),
]


_STOCK = """
    SELECT b."id", b."department", b."periodKey", b."budgetedMinor",
        COALESCE(u."reservedMinor" + u."committedMinor", 0), b."currencyExponent", b."deletedAt"
    FROM "Budget" b LEFT JOIN "BudgetUtilization" u ON u."budgetId" = b."id"
    WHERE b."customerId" = ?
"""


class Stored(NamedTuple):
    """A budget of the database, with the money on it."""

    key: tuple[str, str]
    amount: Decimal
    spent: Decimal
    is_live: bool


Stock = dict[str, Stored]


class Book(NamedTuple):
    """A sheet and its source, which belongs to a customer of its own."""

    world: World
    source: Source
    sheet: Sheet

    def put(self, version: Version) -> None:
        """Replace the sheet."""
        name = self.source.customer_id
        if isinstance(version, bytes):
            self.world.write(f"{name}.csv", version)
        else:
            self.world.google.put(f"sheet-{name}", version)

    def sync(self, *, allow_deletes: bool = False) -> SyncRunResult:
        """A sync run."""
        job = replace(self.world.job, allow_deletes=allow_deletes)
        return sync.sync_source(job, sync.get_source(ROOT, self.source.id))

    def stock(self) -> Stock:
        """All budgets of the customer, also deleted ones, by id."""
        rows = database.db.execute_sql(_STOCK, (self.source.customer_id,)).fetchall()
        return {
            row[0]: Stored(
                (fold(row[1]), row[2]),
                Decimal(row[3]).scaleb(-row[5]),
                Decimal(row[4]).scaleb(-row[5]),
                row[6] is None,
            )
            for row in rows
        }


def book_of(world: World, sheet: Sheet, *, is_google: bool, is_spent: bool) -> Book:
    """A sheet that was synced, with or without money spent."""
    name = f"{sheet.name}-{'google' if is_google else 'file'}-{'spent' if is_spent else 'new'}"
    world.customer(name)
    if is_google:
        world.google.put(f"sheet-{name}", tab_of(sheet.rows))
        target = google_target(f"sheet-{name}", "Budgets")
    else:
        world.write(f"{name}.csv", file_of(sheet.rows))
        target = file_target(CSV, f"{name}.csv", world.folder)
    answers = {"keep:Status": ["approved"]} if sheet is LINES else {}
    found = propose(target, Customer("USD"), answers, world.job.reach).proposal
    assert (found.refused, found.open) == (None, [])
    assert found.trial is not None
    source = sync.add_source(ROOT, name, target, reading=found.reading, facts=found.trial.facts)[0]
    book = Book(world, source, sheet)
    assert book.sync().status == "success"
    ids = {budget.key: key for key, budget in book.stock().items()}
    for key, amount in sheet.spent.items() if is_spent else ():
        department, period = key.split("|")
        budget_id, paid = ids[fold(department), period], Decimal(amount)
        ledger.reserve(ROOT, ReserveRequest(budget_id=budget_id, request_id=key, amount=paid))
        # Half of the requests are still open.
        if len(key) % 2:
            ledger.commit(ROOT, CommitRequest(budget_id=budget_id, request_id=key, amount=paid))
    return book


def live(stock: Stock) -> Stock:
    """The live budgets by id."""
    return {budget_id: budget for budget_id, budget in stock.items() if budget.is_live}


def available(stock: Stock) -> Sums:
    """What can still be spent in each period."""
    sums: Sums = defaultdict(Decimal)
    for budget in stock.values():
        if budget.is_live:
            sums[budget.key[1]] += budget.amount - budget.spent
    return sums


def said_available(sheet: Sheet, edit: Edit, stock: Stock) -> Sums:
    """What the edited amounts say can still be spent in each period, after all that was spent."""
    sums: Sums = defaultdict(Decimal, {**sheet.sums, **edit.says})
    for budget in stock.values():
        sums[budget.key[1]] -= budget.spent
    return sums


def try_edit(book: Book, edit: Edit) -> tuple[str, list[str]]:
    """Apply an edit and take it back. Returns what it did, and what is wrong with that."""
    first = book.stock()
    wrong: list[str] = []
    for version in edit.versions:
        before = book.stock()
        book.put(version)
        run = book.sync()
        after = book.stock()
        wrong += faults(book.sheet, edit, before, after)
        again = book.sync()
        if book.stock() != after or (again.status, again.held_count) != (
            run.status,
            run.held_count,
        ):
            wrong.append("a second run changes something")
    restored = book.sheet.rows
    is_google = book.source.target.spreadsheet_key is not None
    book.put(tab_of(restored) if is_google else file_of(restored))
    # What the edit added, such as another year, is deleted with a person's answer.
    book.sync()
    if live(book.stock()) != live(first):
        book.sync(allow_deletes=True)
    if live(book.stock()) != live(first):
        wrong.append(f"the first sheet gives {live(book.stock())}, not {live(first)}")
    return outcome(run), [f"{edit.name}: {fault}" for fault in wrong]


def faults(sheet: Sheet, edit: Edit, before: Stock, after: Stock) -> Iterator[str]:
    """What is wrong after an edited sheet was synced."""
    for budget_id, budget in before.items():
        if after[budget_id].spent != budget.spent:
            yield f"{budget.key} lost money"
    had, said = available(before), said_available(sheet, edit, after)
    for period, amount in available(after).items():
        if amount > max(had[period], said[period]):
            yield f"{amount} can be spent in {period}, of {had[period]} before, {said[period]} said"


def outcome(run: SyncRunResult) -> str:
    """What a run did, in a few words."""
    if run.status == "failed":
        return f"failed: {(run.message or '')[:60]}"
    counts = {
        "created": run.created_count,
        "changed": run.updated_count,
        "deleted": run.soft_deleted_count,
        "restored": run.revived_count,
        "held": run.held_count,
        "rejected rows": len({row for error in run.errors for row in error.rows}),
    }
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "nothing"


@pytest.fixture
def world(app: Flask, chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with open_world(chosen.instance_folder, monkeypatch) as world:
        yield world


@pytest.mark.parametrize(("sheet", "is_google", "edits"), SHEETS)
def test_no_edit_makes_money(
    world: World, sheet: Sheet, is_google: bool, edits: list[Edit]
) -> None:
    spent, new = (
        book_of(world, sheet, is_google=is_google, is_spent=is_spent) for is_spent in (True, False)
    )
    wrong: list[str] = []
    for edit in edits:
        done = [try_edit(book, edit) for book in (spent, new)]
        wrong += [fault for _, faults in done for fault in faults]
        sys.stdout.write(f"| {edit.name} | {' | '.join(text for text, _ in done)} |\n")
    world.verify()
    assert not wrong, "\n".join(wrong)


def test_list_of_edits_is_long() -> None:
    edits = [edit for case in SHEETS for edit in case.values[2]]  # type: ignore[union-attr]
    assert len(edits) >= 40
