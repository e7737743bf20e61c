"""The owners of budgets: how their column is found, read, compared and written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from support.detection import asked, proposal
from support.readings import HEADER, read, reading
from support.sources import reading_of
from support.sync_world import HEADER as HEADINGS
from support.sync_world import World, open_world

from budget_sync.settings import Settings
from budget_sync.sync.reading.grid import Merge
from budget_sync.sync.reading.owners import read_owner
from budget_sync.sync.reading.result import KEEP_OWNER

OWNED = (*HEADER, "Owner Email")
KEY = "owned"


@pytest.fixture
def world(app: Flask, chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with open_world(chosen.instance_folder, monkeypatch) as world:
        yield world


@pytest.mark.parametrize(
    ("cell", "email"),
    [
        (" jane@acme.com ", "jane@acme.com"),
        ("Jane Doe <jane@acme.com>", "jane@acme.com"),
        ("jane@acme.com; bo@acme.com", "jane@acme.com"),
        ("", None),
        (None, None),
        ("Jane Doe", KEEP_OWNER),
        ("jane@acme.com or Bo", KEEP_OWNER),
        (5, KEEP_OWNER),
        (f"{'a' * 250}@acme.com", KEEP_OWNER),
        ("jane@acme.com\u0007", KEEP_OWNER),
    ],
)
def test_owner_of_a_cell(cell: str | int | None, email: str | None) -> None:
    assert read_owner(cell).email == email


def test_bad_owner_is_a_note_and_not_an_error() -> None:
    rows = [OWNED, ("A", "2026", "5", "Jane"), ("B", "2026", "5", "a@x.com, b@x.com")]
    result = read(rows, reading(owner="Owner Email"))
    assert result.errors == []
    assert [row.budget.owner_email for row in result.rows] == [KEEP_OWNER, "a@x.com"]
    assert result.notes == [
        (
            "Row 2: Owner Email is 'Jane', which is not an email address. The owner stays as it "
            "is. Enter an address such as jane@example.com."
        ),
        "Row 3: Owner Email has 2 addresses. 'a@x.com' is the owner. Enter one address.",
    ]


def test_column_of_owners_may_be_gone() -> None:
    result = read([HEADER, ("A", "2026", "5")], reading(owner="Owner Email"))
    assert (len(result.rows), result.errors, result.has_owners) == (1, [], False)
    assert result.notes == [
        "The column 'Owner Email' is gone. The owners of the budgets stay as they are."
    ]


def test_merged_owner_counts_for_each_of_its_rows() -> None:
    rows = [OWNED, ("A", "2026", "5", "a@x.com"), ("B", "2026", "5", None)]
    result = read(rows, reading(owner="Owner Email"), merges=(Merge(1, 3, 2, 3),))
    assert [row.budget.owner_email for row in result.rows] == ["a@x.com", "a@x.com"]


@pytest.mark.parametrize(
    ("headings", "cells", "owner"),
    [
        (["Owner Email"], ["a@x.com"], "Owner Email"),
        (["owner e-mail"], ["not yet"], "owner e-mail"),
        (["Budget Owner"], ["a@x.com"], "Budget Owner"),
        (["Budget Owner"], ["Jane"], None),
        (["Notes"], ["a@x.com"], None),
        (["Email", "Owner Email"], ["a@x.com", "b@x.com"], "Owner Email"),
        (["Owner Email", "Owner E-Mail"], ["a@x.com", "b@x.com"], None),
    ],
)
def test_column_of_owners_is_found_without_questions(
    headings: list[str], cells: list[str], owner: str | None
) -> None:
    rows = [["Department", "Fiscal Period", "Budgeted Amount"], ["A", "Q1 2026", "50"]]
    rows.append(["B", "Q1 2026", "70"])
    plain = proposal(rows)
    found = proposal([row + more for row, more in zip(rows, (headings, cells, cells), strict=True)])
    assert found.reading is not None
    assert found.reading.owner == owner
    assert asked(found) == asked(plain) == []


def test_owner_is_written_audited_and_kept(world: World) -> None:
    rows: list[list[Any]] = [[*HEADINGS, "Owner Email"], ["Ops", "Q1 2025", 100, "jane@acme.com"]]
    by = reading_of(HEADINGS).model_copy(update={"owner": "Owner Email"})
    source = world.sheet(KEY, rows, reading=by)
    assert world.sync(source).created_count == 1
    ops = world.budget("Ops")
    assert ops.ownerEmail == "jane@acme.com"

    for cell, status, updated in (("?", "success", 0), ("bo@acme.com", "success", 1), ("", "", 1)):
        world.rows(KEY, [rows[0], [*rows[1][:3], cell]])
        result = world.sync(source)
        assert result.updated_count == updated
        assert result.status == (status or "success")
    world.rows(KEY, [rows[0][:3], rows[1][:3]])
    assert world.sync(source).updated_count == 0
    assert world.audit(ops) == [
        (1, "CREATE", "budgetedAmount", None, "100"),
        (2, "CREATE", "ownerEmail", None, "jane@acme.com"),
        (3, "UPDATE", "ownerEmail", "jane@acme.com", "bo@acme.com"),
        (4, "UPDATE", "ownerEmail", "bo@acme.com", None),
    ]
    world.verify()


def test_sheet_without_owners_keeps_those_set_by_hand(world: World) -> None:
    source = world.sheet(KEY, [HEADINGS, ["Ops", "Q1 2025", 100]])
    world.sync(source)
    ops = world.budget("Ops")
    ops.ownerEmail = "jane@acme.com"
    ops.save(only=["ownerEmail"])
    assert world.sync(source).unchanged_count == 1
    world.rows(KEY, [HEADINGS, ["Ops", "Q1 2025", 200]])
    assert world.sync(source).updated_count == 1
    assert world.budget("Ops").ownerEmail == "jane@acme.com"
