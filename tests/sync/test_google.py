"""Google Sheets: merges, hidden rows and formats, the number of requests, error sentences."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.sheets_server import ABOUT, EMAIL, VALUES, Date, SheetsServer, Spreadsheet, Tab

from budget_sync.sync.fetch import Fetched, read_target
from budget_sync.sync.google import list_tabs, sharing_address
from budget_sync.sync.reading.grid import DateCell, Grid, LongCell, Merge, PercentCell
from budget_sync.sync.source import GOOGLE, FetchError, Reach, Target

KEY = "the-key"
ROWS: list[list[Any]] = [
    ["Department", "Fiscal Period", "Budget"],
    ["Sales", "Q1 2026", 100],
    ["", "Q2 2026", 0.5],
    ["Legal", "Q1 2026", "text"],
]


@pytest.fixture
def google() -> Iterator[SheetsServer]:
    server = SheetsServer()
    yield server
    server.stop()


@pytest.fixture
def reach(google: SheetsServer, tmp_path: Path) -> Reach:
    path = google.credentials_file(tmp_path)
    return Reach(tmp_path, path, google.url, deadline_s=20, backoff_s=0.01)


@pytest.fixture
def tab(google: SheetsServer) -> Tab:
    return google.share(KEY, [list(row) for row in ROWS], gid=7)


def fetch(reach: Reach, worksheet: str | None = "Budgets", gid: int | None = None) -> Fetched:
    return read_target(Target(GOOGLE, KEY, worksheet, gid), reach)


def grid(reach: Reach, **where: Any) -> Grid:
    source = fetch(reach, **where).source
    assert isinstance(source, Grid)
    return source


def test_merged_ranges_end_with_the_used_cells(tab: Tab, reach: Reach) -> None:
    tab.merges = [[1, 0, 2, 0], [0, 0, 0, 9], [3, 2, 90, 2], [50, 0, 60, 0]]
    assert grid(reach).merges == (Merge(1, 0, 2, 0), Merge(0, 0, 0, 2))


def test_rows_that_a_person_or_a_filter_hides(tab: Tab, reach: Reach) -> None:
    tab.rows += [[], ["Last", "Q1 2026", 1]]
    tab.hidden_rows = {1, 4}
    tab.filtered_rows = {5}
    assert grid(reach).hidden_rows == {2, 6}


@pytest.mark.parametrize("pattern", ["0%", "0.00%", "#,##0%;-#,##0%", "PERCENT"])
def test_number_that_is_shown_as_a_percentage(pattern: str, tab: Tab, reach: Reach) -> None:
    tab.formats = {(1, 2): pattern, (2, 2): pattern, (3, 2): pattern, (2, 0): pattern}
    rows = grid(reach).rows
    assert [row[2] for row in rows[1:]] == [
        PercentCell(100),
        PercentCell(Decimal("0.5")),
        "text",
    ]
    assert rows[2][0] == ""


def test_effective_format_counts(tab: Tab, reach: Reach) -> None:
    tab.formats = {(1, 2): "0%", (2, 2): "0%"}
    tab.effective_formats = {(1, 2): "0.00"}
    assert [row[2] for row in grid(reach).rows[1:3]] == [100, PercentCell(Decimal("0.5"))]


@pytest.mark.parametrize("pattern", ["0.00", '0"%"', "#,##0"])
def test_number_with_another_format(pattern: str, tab: Tab, reach: Reach) -> None:
    tab.formats = {(1, 2): pattern}
    assert grid(reach).rows[1][2] == 100


def test_dates_and_long_texts(tab: Tab, reach: Reach) -> None:
    tab.rows[1] = ["x" * 1001, Date("Jan-26", 46023), 1]
    tab.formats = {(1, 1): "mmm-yy"}
    assert list(grid(reach).rows[1]) == [LongCell(1001), DateCell(46023, "Jan-26"), 1]


def test_fetch_takes_three_requests(google: SheetsServer, tab: Tab, reach: Reach) -> None:
    tab.merges = [[1, 0, 2, 0]]
    tab.formats = {(1, 2): "0%"}
    fetch(reach)
    fetch(reach, gid=7)
    fetch(reach, None, 7)
    assert (google.count(ABOUT), google.count(VALUES)) == (3, 6)


def test_only_the_tab_is_asked_for_its_formats(google: SheetsServer, reach: Reach) -> None:
    google.spreadsheets[KEY] = Spreadsheet(
        [Tab("Other", [[1]], 1), Tab("It's A1", ROWS, 2), Tab("Secret", [[1]], 3, is_hidden=True)]
    )
    found = fetch(reach, "It's A1")
    assert (found.gid, found.title) == (2, '''sheet "It's A1"''')
    assert (found.file_name, found.worksheets) == ("A spreadsheet, It's A1", ("It's A1",))


def test_renamed_tab_is_found_by_its_number(google: SheetsServer, tab: Tab, reach: Reach) -> None:
    tab.title = "Budgets 2026"
    tab.merges = [[1, 0, 2, 0]]
    found = fetch(reach, "Budgets", 7)
    assert isinstance(found.source, Grid)
    assert (found.title, found.source.merges) == ("sheet 'Budgets 2026'", (Merge(1, 0, 2, 0),))


def test_tab_with_the_old_name_of_another_is_not_read(
    google: SheetsServer, tab: Tab, reach: Reach
) -> None:
    tab.title = "Budgets 2026"
    google.spreadsheets[KEY].tabs.append(Tab("Budgets", [["copy"]], 8))
    found = fetch(reach, "Budgets", 7)
    assert (found.gid, found.title) == (7, "sheet 'Budgets 2026'")


def test_missing_tab_names_the_others(google: SheetsServer, tab: Tab, reach: Reach) -> None:
    with pytest.raises(
        FetchError, match=r"^The spreadsheet has no tab named 'Plan'; it has 'Budgets'\.$"
    ):
        fetch(reach, "Plan")


def test_excel_file_in_drive(google: SheetsServer, tab: Tab, reach: Reach) -> None:
    google.spreadsheets[KEY].is_excel_file = True
    sentence = (
        "This is an Excel file in Drive. Use File > Save as Google Sheets, and enter that address."
    )
    for call in (lambda: fetch(reach), lambda: list_tabs(KEY, reach)):
        with pytest.raises(FetchError) as problem:
            call()
        assert str(problem.value) == sentence
    assert google.count(ABOUT) == 2


def test_missing_spreadsheet_names_the_address_to_share_with(reach: Reach) -> None:
    with pytest.raises(FetchError, match=f"^There is no spreadsheet {KEY}: .*shared with {EMAIL}"):
        list_tabs(KEY, reach)


def test_denied_access_names_the_address_to_share_with(
    google: SheetsServer, tab: Tab, reach: Reach
) -> None:
    google.spreadsheets[KEY].readers.clear()
    with pytest.raises(FetchError, match=rf"^Google denies {EMAIL} access .*share it with that"):
        list_tabs(KEY, reach)


def test_list_of_tabs(google: SheetsServer, reach: Reach) -> None:
    google.spreadsheets[KEY] = Spreadsheet(
        [Tab("Budgets", ROWS, 0), Tab("Old", ROWS, 5, is_hidden=True)], title="Plan FY26"
    )
    found = list_tabs(KEY, reach)
    assert (found.title, found.visible) == ("Plan FY26", ("Budgets",))
    assert [tuple(tab) for tab in found.tabs] == [("Budgets", 0, False), ("Old", 5, True)]
    assert (google.count(ABOUT), google.count(VALUES)) == (1, 0)


def test_address_to_share_with(google: SheetsServer, reach: Reach, tmp_path: Path) -> None:
    assert sharing_address(reach) == EMAIL
    path = google.credentials_file(tmp_path, "authorized_user")
    assert sharing_address(Reach(tmp_path, path, google.url)) is None
    with pytest.raises(FetchError, match="GOOGLE_APPLICATION_CREDENTIALS is not set"):
        sharing_address(Reach(tmp_path))
