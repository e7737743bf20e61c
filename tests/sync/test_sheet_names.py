"""The names of sources, their links, and which problems are for the operator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from support.sync_world import World, open_world, plan_rows
from support.world import ROOT

from budget_sync import sync
from budget_sync.database.models import BudgetDataSourceConfig
from budget_sync.queries.sync_runs import name_of
from budget_sync.settings import Settings
from budget_sync.sync.credentials import load_credentials
from budget_sync.sync.operator_problems import is_for_operator
from budget_sync.sync.sheet_names import SheetName, sheet_name, title_of
from budget_sync.sync.source import FetchError

KEY = "the-only-key"
URL = f"https://docs.google.com/spreadsheets/d/{KEY}/edit"


@pytest.fixture
def world(app: Flask, chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with open_world(chosen.instance_folder, monkeypatch) as world:
        yield world


def source_row(**columns: object) -> BudgetDataSourceConfig:
    """A row of a source that is not stored."""
    return BudgetDataSourceConfig(**columns)


@pytest.mark.parametrize(
    ("columns", "upload", "name"),
    [
        (
            {"worksheet": "Q4", "worksheetGid": 7, "title": "Budget 2026"},
            None,
            SheetName("Budget 2026 / Q4", f"{URL}#gid=7", 7),
        ),
        ({"worksheet": "Q4"}, None, SheetName("Google Sheet / Q4", URL)),
        ({"worksheetGid": 0}, None, SheetName("Google Sheet / tab no. 0", f"{URL}#gid=0", 0)),
        ({"sourceType": "csv", "csvPath": "acme/plan.csv"}, None, SheetName("plan.csv")),
        ({"sourceType": "csv"}, "plan.csv", SheetName("plan.csv")),
        ({"sourceType": "csv"}, None, SheetName("CSV file")),
        (
            {"sourceType": "xlsx", "worksheet": "Q4"},
            "plan.xlsx",
            SheetName("plan.xlsx / Q4"),
        ),
    ],
)
def test_name_of_a_source(columns: dict[str, object], upload: str | None, name: SheetName) -> None:
    row = source_row(**{"sourceType": "google_sheets", "spreadsheetKey": KEY, **columns})
    if columns.get("sourceType"):
        row.spreadsheetKey = None
    assert sheet_name(row, upload) == name


def test_row_of_a_sheet_has_a_name_and_an_address() -> None:
    name = SheetName("Budget 2026 / Q4", f"{URL}#gid=7", 7)
    assert name.row_text(14) == "row 14 of Budget 2026 / Q4"
    assert name.row_url(14) == f"{URL}#gid=7&range=14:14"
    assert (name.row_text(None), name.row_url(None)) == (name.text, name.url)
    assert SheetName("plan.csv").row_url(14) is None
    assert SheetName("Google Sheet / Q4", URL).row_url(14) == URL


def test_title_has_no_control_characters_and_a_limit() -> None:
    assert title_of(" Budget\t2026\x07 ") == "Budget 2026"
    assert len(title_of("x" * 300) or "") == 200
    assert title_of(" ") is title_of(None) is None


def test_sync_run_stores_the_title_and_the_tab(world: World) -> None:
    source = world.sheet(KEY, plan_rows(Ops=100))
    assert name_of(BudgetDataSourceConfig.get()).text == "Google Sheet / Budgets"
    world.sync(source)
    row = BudgetDataSourceConfig.get()
    book, tab = world.google.spreadsheets[KEY], world.google.spreadsheets[KEY].tabs[0]
    assert (row.title, row.worksheet, row.worksheetGid) == (book.title, "Budgets", tab.gid)

    book.title, tab.title = "Budget 2027", "Plan"
    world.sync(source)
    name = name_of(BudgetDataSourceConfig.get())
    assert name == SheetName("Budget 2027 / Plan", f"{URL}#gid={tab.gid}", tab.gid)
    [listed] = sync.list_sources(ROOT)
    assert listed.label == f"Google Sheet Budget 2027 / Plan ({KEY})"


def test_unapplied_run_keeps_the_title(world: World) -> None:
    source = world.sheet(KEY, plan_rows(Ops=100))
    world.sync(source)
    world.google.spreadsheets[KEY].title = "Other"
    world.rows(KEY, [["Something"], ["else"]])
    assert world.sync(source).status == "failed"
    assert BudgetDataSourceConfig.get().title != "Other"


def test_credential_problems_are_for_the_operator(tmp_path: Path) -> None:
    unreadable, wrong, other = (tmp_path / name for name in ("none.json", "bad.json", "type.json"))
    wrong.write_text("{}{", encoding="utf-8")
    other.write_text('{"type": "x"}', encoding="utf-8")
    for path in (None, unreadable, wrong, other):
        with pytest.raises(FetchError) as raised:
            load_credentials(path)
        assert is_for_operator(str(raised.value))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Google rejects the credentials (invalid_grant): renew the credentials file.", True),
        ("The CSV file is not in the folder for CSV files: put it there.", True),
        ("Something went wrong on our side (KeyError) and was logged.", True),
        ("Google denies a@b.c access to the spreadsheet (403: x): share it.", False),
        ("No row among the first 50 has the heading 'Department'.", False),
        (None, False),
    ],
)
def test_problem_is_for_the_operator_or_for_finance(message: str | None, expected: bool) -> None:
    assert is_for_operator(message) is expected
