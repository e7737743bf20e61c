"""The sequences of the corpus: one sheet after the other, in sync runs with stored budgets.

`steps` have one entry for each version after the first: what is held, applied, refused, or an
error. In each of them, all budgets keep their ids and their money.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from flask import Flask
from support.corpus import Case, answers_of, cases, customer_of, key_of
from support.sync_world import World, open_world
from support.world import ROOT

from budget_sync import ledger, sync
from budget_sync.database.models import Budget, BudgetUtilization
from budget_sync.domain.request_models import CommitRequest, ReserveRequest
from budget_sync.settings import Settings
from budget_sync.sync import Source, SyncRunResult
from budget_sync.sync.propose import propose
from budget_sync.sync.source import CSV
from budget_sync.sync.targets import file_target, google_target

SEQUENCES = [pytest.param(case, id=case["id"]) for case in cases() if "versions" in case]
CUSTOMER = "corpus"


class Stored(NamedTuple):
    """A live budget, with the money on it."""

    id: str
    amount: Decimal
    spent: int


Budgets = Mapping[tuple[str, str], Stored]


@pytest.fixture
def world(app: Flask, chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with open_world(chosen.instance_folder, monkeypatch) as world:
        yield world


def put(world: World, version: Case, *, is_google: bool) -> None:
    """Put a sheet in place."""
    if is_google:
        world.google.put("corpus-book", version)
    else:
        text = version.get("text", "").encode()
        world.write("budgets.csv", base64.b64decode(version.get("base64", "")) or text)


def added(world: World, case: Case, *, is_google: bool) -> Source:
    """The source of a case, with its answers."""
    found = case["customer"]
    customer_id = world.customer(
        CUSTOMER,
        currency=found["currency"],
        fiscal_year_start_month=found["fiscal_year_start"],
        fiscal_year_named_by=found["named_by"],
    )
    target = (
        google_target("corpus-book", "Budgets")
        if is_google
        else file_target(CSV, "budgets.csv", world.folder)
    )
    customer, reach = customer_of(case), world.job.reach
    asked = {question.id for question in propose(target, customer, {}, reach).proposal.questions}
    assert asked >= set(case["expect"].get("must_ask", ()))
    answers = answers_of(case["expect"], asked)
    proposal = propose(target, customer, answers, reach).proposal
    assert (proposal.refused, proposal.open) == (None, [])
    trial = proposal.trial
    assert trial is not None
    return sync.add_source(ROOT, customer_id, target, reading=proposal.reading, facts=trial.facts)[
        0
    ]


def live() -> Budgets:
    """The live budgets by their keys."""
    budgets = Budget.select().where((Budget.customerId == CUSTOMER) & Budget.deletedAt.is_null())
    spent = {
        row.budgetId: row.reservedMinor + row.committedMinor for row in BudgetUtilization.select()
    }
    return {
        key_of(f"{budget.department}|{budget.periodKey}"): Stored(
            budget.id,
            Decimal(budget.budgetedMinor).scaleb(-budget.currencyExponent),
            spent.get(budget.id, 0),
        )
        for budget in budgets
    }


def spend(amounts: Mapping[str, str]) -> None:
    """Reserve and commit money."""
    budgets = live()
    for number, (key, amount) in enumerate(amounts.items()):
        budget_id, paid = budgets[key_of(key)].id, Decimal(amount)
        request_id = f"r-{number}"
        ledger.reserve(
            ROOT, ReserveRequest(budget_id=budget_id, request_id=request_id, amount=paid)
        )
        ledger.commit(ROOT, CommitRequest(budget_id=budget_id, request_id=request_id, amount=paid))


def faults(step: Case, run: SyncRunResult, now: Budgets, before: Budgets) -> Iterator[str]:
    """What is wrong after a step."""
    status = ["failed"] if "refuse" in step else [step.get("status", "success"), "partial"]
    if run.status not in status:
        yield f"status {run.status}: {run.message}"
    if bool(step.get("hold")) != bool(run.held):
        yield f"held: {run.held}"
    yield from unnamed_rows(step, run)
    yield from lost_changes(step, run, now, before)


def unnamed_rows(step: Case, run: SyncRunResult) -> Iterator[str]:
    """The rows that should be errors or skipped."""
    found = [set(error.rows) for error in run.errors]
    for rows in step.get("error_rows", ()):
        if not any(set(rows) <= each for each in found):
            yield f"no error names the rows {rows}: {run.errors}"
    if missing := set(step.get("skipped_rows", ())) - run.skipped.keys():
        yield f"rows {sorted(missing)} are not skipped: {run.skipped}"


def lost_changes(step: Case, run: SyncRunResult, now: Budgets, before: Budgets) -> Iterator[str]:
    """What was not applied as expected, and the budgets that lost something."""
    counts = [c for text in step.get("apply", ()) if (c := re.match(r"(\d+) (ch|cr)", text))]
    for count in counts:
        done = run.updated_count if count[2] == "ch" else run.created_count
        if done != int(count[1]):
            yield f"{done} and not {count[0]}…"
    if not counts and now != before:
        yield f"the budgets changed: {set(now.items()) ^ set(before.items())}"
    for key, budget in before.items():
        after = now.get(key)
        if after is None or (after.id, after.spent) != (budget.id, budget.spent):
            yield f"{key} lost its id or its money"


@pytest.mark.parametrize("case", SEQUENCES)
def test_sequence_is_applied_and_held_as_expected(world: World, case: dict[str, Any]) -> None:
    first, *later = case["versions"]
    is_google = any({"cells", "merges", "hidden"} & set(version) for version in case["versions"])
    put(world, first, is_google=is_google)
    source = added(world, case, is_google=is_google)
    assert world.sync(source).status in ("success", "partial")
    spend(case.get("spent") or {})
    for number, (version, step) in enumerate(zip(later, case["expect"]["steps"], strict=True)):
        before = live()
        put(world, version, is_google=is_google)
        run = world.sync(source)
        now = live()
        assert [f"step {number}: {fault}" for fault in faults(step, run, now, before)] == []
        again = world.sync(source)
        assert live() == now, "a second run changes something"
        assert (again.held_count, again.status) == (run.held_count, run.status)
    world.verify()
