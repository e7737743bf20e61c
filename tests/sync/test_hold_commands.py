"""answer-hold, and sync-sheets with --json: what is held, answered and applied."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskCliRunner
from support.sync_world import World, open_world
from support.world import ROOT

from app import create_app
from budget_sync import ledger
from budget_sync.database.models import AuditLog, HoldAnswer
from budget_sync.domain.request_models import CommitRequest, ReserveRequest
from budget_sync.settings import Settings
from budget_sync.sync import Source

pytestmark = pytest.mark.both_engines

HEADER = "Department,Fiscal Period,Budgeted Amount\n"
KEYS = [
    *("source", "status", "created", "updated", "unchanged", "deleted", "revived"),
    *("held", "errors", "notes", "skipped"),
]


def plan(**amounts: object) -> str:
    """A CSV file with one budget of Q1 2026 for each department."""
    lines = (f"{name.replace('_', ' ')},Q1 2026,{amount}\n" for name, amount in amounts.items())
    return HEADER + "".join(lines)


@pytest.fixture
def world(app: Flask, chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with open_world(chosen.instance_folder, monkeypatch) as world:
        yield world


@pytest.fixture
def shell(world: World, chosen: Settings) -> Iterator[FlaskCliRunner]:
    app = create_app(replace(chosen, csv_folder=world.folder))
    with app.app_context():
        yield app.test_cli_runner()


@pytest.fixture
def source(world: World, shell: FlaskCliRunner) -> Source:
    """Four departments, of which Lamp North has spent 95,000."""
    source = world.csv("plan.csv", plan(Lamp_North=100_000, Sales=200, Legal=300, IT=400))
    assert said(shell)["created"] == 4
    spend(world, "Lamp North", 95_000)
    return source


def spend(world: World, department: str, amount: int) -> None:
    budget_id = world.budget(department).id
    ledger.reserve(
        ROOT, ReserveRequest(budget_id=budget_id, request_id="r-1", amount=Decimal(amount))
    )
    ledger.commit(
        ROOT, CommitRequest(budget_id=budget_id, request_id="r-1", amount=Decimal(amount))
    )


def said(shell: FlaskCliRunner, *options: str) -> dict[str, Any]:
    """What `sync-sheets --json` says about the only source."""
    ran = shell.invoke(args=["sync-sheets", "--json", *options])
    (line,) = ran.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    assert list(found) == KEYS
    assert ran.exit_code == (found["status"] == "failed")
    return found


def answer(shell: FlaskCliRunner, source: Source, *options: str, exit_code: int = 0) -> str:
    """Run answer-hold; returns its line."""
    ran = shell.invoke(args=["answer-hold", source.id, *options])
    assert ran.exit_code == exit_code, ran.output
    (line,) = ran.output.splitlines()
    return str(line)


def rename(world: World) -> str:
    """Rename Lamp North in the sheet; returns the id of its budget."""
    world.write("plan.csv", plan(Lampe_North=100_000, Sales=200, Legal=300, IT=400))
    return str(world.budget("Lamp North").id)


def test_held_rename_is_one_object(world: World, shell: FlaskCliRunner, source: Source) -> None:
    old_id = rename(world)
    found = said(shell)
    assert (found["source"], found["status"], found["unchanged"]) == (source.id, "partial", 3)
    assert found["held"] == [
        {
            "kind": "rename",
            "budgetId": old_id,
            "department": "Lamp North",
            "period": "2026-Q1",
            "old": "Lamp North|2026-Q1",
            "new": "Lampe North|2026-Q1",
        }
    ]
    assert "Lampe North, Q1 2026" not in world.budgets()


def test_same_budget_keeps_its_id_and_money(
    world: World, shell: FlaskCliRunner, source: Source
) -> None:
    old_id = rename(world)
    said(shell)
    # The department is compared folded.
    assert answer(shell, source, "--rename", f"{old_id}=LAMPE  north|2026-Q1") == (
        f"Stored 1 answer for source {source.id}. The next sync run applies it."
    )
    found = said(shell)
    assert (found["status"], found["updated"], found["held"]) == ("success", 1, [])
    assert world.budget("Lampe North").id == old_id
    assert [row.outcome for row in HoldAnswer.select()] == ["applied"]
    assert AuditLog.select().where(AuditLog.action == "ANSWER_HOLD").count() == 1
    world.verify()


def test_printed_options_answer_a_held_rename(
    world: World, shell: FlaskCliRunner, source: Source
) -> None:
    rename(world)
    printed = shell.invoke(args=["sync-sheets"]).stderr
    _, _, options = printed.partition("`flask answer-hold SOURCE` and ")
    option, value, *_ = shlex.split(options)
    answer(shell, source, option, value)
    assert said(shell)["updated"] == 1


def test_rename_may_name_the_text_of_the_period(
    world: World, shell: FlaskCliRunner, source: Source
) -> None:
    old_id = rename(world)
    said(shell)
    answer(shell, source, "--rename", f"{old_id}=Lampe North|q1 2026")
    assert said(shell)["updated"] == 1


def test_notes_are_not_mailed_by_cron(world: World, shell: FlaskCliRunner, source: Source) -> None:
    text = plan(Lamp_North=100_000, Sales=200, Legal=300, IT=400)
    world.write("plan.csv", f"{text}Total,,1\n")
    ran = shell.invoke(args=["sync-sheets"])
    assert ran.stderr == ""
    assert ran.stdout.splitlines()[1:] == [
        f"{source.id}: Row 6 (Total) is called a total but is not the sum of the rows above."
    ]


def test_different_budgets_are_deleted_and_created(
    world: World, shell: FlaskCliRunner, source: Source
) -> None:
    old_id = rename(world)
    said(shell)
    answer(shell, source, "--different", old_id)
    found = said(shell)
    assert (found["status"], found["created"], found["deleted"]) == ("success", 1, 1)
    assert world.budget("Lampe North").id != old_id
    world.verify()


def test_accepted_amounts_are_applied(world: World, shell: FlaskCliRunner, source: Source) -> None:
    world.write("plan.csv", plan(Lamp_North=100, Sales="0.2", Legal="0.3", IT="0.4", New=5))
    found = said(shell)
    kinds = [each["kind"] for each in found["held"]]
    assert (sorted(kinds), found["updated"], found["created"]) == (
        ["amount"] * 4 + ["creation"],
        0,
        0,
    )
    sales = next(each for each in found["held"] if each["department"] == "Sales")
    assert (sales["old"], sales["new"]) == (200, 0.2)
    answer(shell, source, "--accept-amounts")
    found = said(shell)
    assert (found["status"], found["updated"], found["created"]) == ("success", 4, 1)
    assert world.budgets()["Sales, Q1 2026"] == "0.2"


def test_allowed_deletions_are_applied(world: World, shell: FlaskCliRunner, source: Source) -> None:
    world.write("plan.csv", plan(Lamp_North=100_000, Procurement=7))
    found = said(shell)
    kinds = sorted(each["kind"] for each in found["held"])
    assert kinds == ["creation", "deletion", "deletion", "deletion"]
    answer(shell, source, "--allow-deletes")
    found = said(shell)
    assert (found["status"], found["deleted"], found["created"]) == ("success", 3, 1)


def test_answers_are_bound_to_what_was_held(
    world: World, shell: FlaskCliRunner, source: Source
) -> None:
    old_id = rename(world)
    said(shell)
    answer(shell, source, "--rename", f"{old_id}=Lampe North|2026-Q1")
    world.write("plan.csv", plan(Lampe_North=150_000, Sales=200, Legal=300, IT=400))
    found = said(shell)
    assert [each["kind"] for each in found["held"]] == ["rename"]
    assert world.budget("Lamp North").deletedAt is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--rename", "{id}=Other|2026-Q1"], "=Lampe North|2026-Q1."),
        (["--rename", "{id}=Lampe North|2026-Q2"], "No held rename"),
        (["--rename", "bud_none=Lampe North|2026-Q1"], "No held rename of budget bud_none"),
        (["--different", "bud_none"], "No held rename of budget bud_none"),
        (["--accept-amounts"], "No amounts are held."),
        (["--allow-deletes"], "No deletions are held."),
        (["--different", "{id}", "--accept-amounts"], "No amounts are held."),
        (["--different", "{id}", "--rename", "{id}=Lampe North|2026-Q1"], "two answers"),
    ],
)
def test_answer_that_fits_nothing_stores_none(
    world: World, shell: FlaskCliRunner, source: Source, options: list[str], says: str
) -> None:
    old_id = rename(world)
    said(shell)
    line = answer(shell, source, *(each.format(id=old_id) for each in options), exit_code=1)
    assert says in line
    assert HoldAnswer.select().count() == 0


def test_rename_to_another_period_needs_a_budget_without_money(
    world: World, shell: FlaskCliRunner, source: Source
) -> None:
    text = plan(Lamp_North=100_000, Sales=200, Legal=300, IT=400)
    world.write("plan.csv", text.replace("Lamp North,Q1 2026", "Lamp North,Q2 2026"))
    (held,) = said(shell)["held"]
    line = answer(shell, source, "--rename", f"{held['budgetId']}=Lamp North|2026-Q2", exit_code=1)
    assert "cannot move to 2026-Q2 while money is reserved or committed on it" in line
    assert HoldAnswer.select().count() == 0


def test_contradiction_of_an_earlier_answer_is_refused(
    world: World, shell: FlaskCliRunner, source: Source
) -> None:
    old_id = rename(world)
    said(shell)
    answer(shell, source, "--different", old_id)
    line = answer(shell, source, "--rename", f"{old_id}=Lampe North|2026-Q1", exit_code=1)
    assert "was answered before (different)" in line
    answer(shell, source, "--different", old_id)
    assert HoldAnswer.select().count() == 1


@pytest.mark.parametrize("options", [[], ["--rename", "bud_1"], ["--rename", "bud_1=No period"]])
def test_wrong_option_of_answer_hold_is_one_line(
    shell: FlaskCliRunner, source: Source, options: list[str]
) -> None:
    ran = shell.invoke(args=["answer-hold", source.id, *options])
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert len(ran.stderr.splitlines()) == 1


def test_dry_run_in_json_changes_nothing(
    world: World, shell: FlaskCliRunner, source: Source
) -> None:
    rename(world)
    before, runs = world.state(), len(world.history(source))
    found = said(shell, "--dry-run")
    assert ([each["kind"] for each in found["held"]], found["status"]) == (["rename"], "partial")
    assert (world.state(), len(world.history(source))) == (before, runs)


def test_json_lists_errors_notes_and_skipped_rows(
    world: World, shell: FlaskCliRunner, source: Source
) -> None:
    text = plan(Lamp_North=100_000, Sales=200, Legal=300, IT="x")
    world.write("plan.csv", f"{text}Total,,100500\n")
    found = said(shell)
    assert (found["status"], found["unchanged"]) == ("partial", 3)
    assert [each["rows"] for each in found["errors"]] == [[5]]
    assert found["skipped"] == {"6": "total"}
    stored = world.last(source)
    assert json.loads(stored.skippedRows) == {"6": "total"}
    assert json.loads(stored.notes) == found["notes"]


def test_json_of_a_failed_source_has_one_error_without_rows(
    world: World, shell: FlaskCliRunner, source: Source
) -> None:
    world.write("plan.csv", plan(Sales=1).replace("Budgeted Amount", "Something"))
    found = said(shell)
    assert found["status"] == "failed"
    assert [each["rows"] for each in found["errors"]] == [[]]
    assert "'Budgeted Amount'" in found["errors"][0]["message"]
    assert found == {**said(shell, "--dry-run"), "source": source.id}
