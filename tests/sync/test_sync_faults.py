"""Failures of a source: its budgets stay, other sources are synced, SyncHistory has the reason."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from flask import Flask
from support.sheets_server import (
    ABOUT,
    TOKEN,
    VALUES,
    Date,
    Fault,
    Handler,
    SheetsServer,
    Tab,
    cut_short,
    cut_short_but_valid_length,
    endless,
    hang_up,
    html_200,
    html_502,
    silence,
    slow_drip,
    slow_headers,
    status,
)
from support.sources import reading_of
from support.sync_world import HEADER, HEADER_WITH_ID, ORG, World, open_world, plan_rows
from support.world import ROOT

from budget_sync import sync
from budget_sync.accounts import customers
from budget_sync.settings import Settings
from budget_sync.sync import Cancellation
from budget_sync.sync.reading.apply import apply
from budget_sync.sync.reading.model import Marks

KEY = "the-key-that-fails"
GOOD = "the-key-that-works"


@pytest.fixture
def two(app: Flask, chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A sheet of five budgets that is going to fail, and two neighbor sources that are not."""
    with open_world(chosen.instance_folder, monkeypatch) as world:
        world.customer("org-2")
        world.sheet(KEY, plan_rows(Design=100, Engineering=200, Finance=300, Legal=400, Sales=500))
        world.sheet(GOOD, plan_rows(Research=1), customer_id="org-2")
        world.csv(
            "good.csv",
            "Department,Fiscal Period,Budgeted Amount\nSupport,Q1 2025,1\n",
            customer_id="org-2",
        )
        assert world.sync(world.sources[KEY]).created_count == 5
        yield world


def change_neighbors(world: World) -> None:
    """Change the sheets of the neighbors."""
    world.rows(GOOD, plan_rows(Research=2))
    world.write("good.csv", "Department,Fiscal Period,Budgeted Amount\nSupport,Q1 2025,2\n")


def spreadsheet(world: World) -> Any:
    return world.google.spreadsheets[KEY]


class Failure(NamedTuple):
    """How a source fails, and the reason in SyncHistory. `token`: all Google Sheets fail."""

    prepare: Callable[[World], object]
    says: str
    token: bool = False


def fails(call: str, fault: Any, says: str, times: int = 9) -> Failure:
    key = None if call == TOKEN else KEY
    return Failure(
        lambda world: world.google.fail(call, *[fault] * times, key=key), says, token=call == TOKEN
    )


def says(payload: str) -> Any:
    """A fault: Google replies with this JSON."""
    return lambda handler, _: handler.send(200, payload.encode())


def says_amount(number: str) -> Any:
    header = '["Department", "Fiscal Period", "Budgeted Amount"]'
    return says(f'{{"values": [{header}, ["Design", "Q1 2025", {number}]]}}')


def says_range(a1: str) -> Any:
    """A fault: the sheet's values under the name of another range."""
    return lambda handler, payload: handler.send(
        200, json.dumps(json.loads(payload) | {"range": a1}).encode()
    )


def goes_well(handler: Handler, payload: bytes) -> None:
    """No fault, before one in a later call."""
    handler.send(200, payload)


def then(change: Callable[[list[list[Any]]], object]) -> Fault:
    """A good reply, after which the sheet's rows change."""

    def fault(handler: Handler, payload: bytes) -> None:
        change(handler.google.spreadsheets[KEY].tabs[0].rows)
        goes_well(handler, payload)

    return fault


gains_a_row = then(lambda rows: rows.insert(2, ["Marketing", "Q1 2025", 50]))


def on_second_read(fault: Fault, says: str) -> Failure:
    """The second read of the values fails, and so does its retry."""
    return Failure(lambda world: world.google.fail(VALUES, goes_well, fault, fault, key=KEY), says)


def rows_are(cells: list[list[Any]]) -> Callable[[World], object]:
    return lambda world: world.rows(KEY, cells)


FAILURES = {
    "429": fails(VALUES, status(429), "fewer requests (429). Tried 2 times"),
    "500": fails(VALUES, status(500), "failed (500)"),
    "503": fails(ABOUT, status(503), "failed (503)"),
    "HTML 502": fails(VALUES, html_502, "failed (502)"),
    "sign-in page instead of JSON": fails(ABOUT, html_200, "reply was not valid JSON"),
    "timeout": fails(VALUES, silence, "did not answer in time"),
    "slow body": fails(VALUES, slow_drip, "could not be read within"),
    "slow headers": fails(ABOUT, slow_headers, "could not be read within"),
    "truncated body": fails(VALUES, cut_short, "IncompleteRead"),
    "half a body of matching length": fails(
        VALUES, cut_short_but_valid_length, "reply was not valid JSON"
    ),
    "slow body, second read": on_second_read(slow_drip, "could not be read within"),
    "truncated body, second read": on_second_read(cut_short, "IncompleteRead"),
    "values of another tab, second read": on_second_read(
        says_range("Other!A1:Z9"), "the values of Other!A1:Z9 instead of 'Budgets'"
    ),
    "sheet that grows during reads": Failure(
        lambda world: world.google.fail(VALUES, *[gains_a_row, goes_well] * 2, key=KEY),
        "The sheet was changed while it was being read; the next sync run tries again.",
    ),
    "closed connection": fails(ABOUT, hang_up, "connection to 127.0.0.1 failed"),
    "401": fails(VALUES, status(401), "does not accept the credentials"),
    "403": Failure(lambda world: spreadsheet(world).readers.clear(), "share it with that address"),
    "404": Failure(
        lambda world: world.google.spreadsheets.pop(KEY),
        "There is no spreadsheet the-key-that-fails",
    ),
    "missing tab": Failure(
        lambda world: spreadsheet(world).tabs.__setitem__(0, Tab("Other", [], 7)),
        "has no tab named 'Budgets'; it has 'Other'",
    ),
    "rejected token request": fails(TOKEN, status(400), "rejects the credentials"),
    "token service 503": fails(TOKEN, status(503), "token service failed (503)"),
    "truncated token": fails(TOKEN, cut_short, "token service cannot be reached (IncompleteRead)"),
    "HTML from token service": fails(TOKEN, html_200, "token service was not valid"),
    "infinite token lifetime": fails(
        TOKEN, says('{"access_token": "x", "expires_in": 1e999}'), "token service was not valid"
    ),
    "number too large for Decimal": fails(
        VALUES, says_amount("1e999999999999999999999"), "reply was not valid JSON"
    ),
    "number too large for a double": fails(
        VALUES, says_amount("1e9999999"), "reply was not valid JSON"
    ),
    "fraction too small for a double": fails(
        VALUES, says_amount("1e-9999999"), "reply was not valid JSON"
    ),
    "tab with an infinite gid": fails(
        ABOUT,
        says('{"sheets": [{"properties": {"title": "Budgets", "sheetId": Infinity}}]}'),
        "does not match its API description",
    ),
    "object in a cell": Failure(
        rows_are([HEADER, ["Design", "Q1 2025", {"a": 1}]]), "does not match its API description"
    ),
    "list in a cell": Failure(
        rows_are([HEADER, ["Design", ["GO"], 1]]), "does not match its API description"
    ),
    "values of another tab": fails(
        VALUES, says_range("Other!A1:Z9"), "the values of Other!A1:Z9 instead of 'Budgets'"
    ),
    "values of a tab with a similar title": fails(
        VALUES, says_range("'Old!Budgets'!A1:Z9"), "does not match its API description"
    ),
    "values without a range": fails(
        VALUES, says('{"values": []}'), "does not match its API description"
    ),
    "missing column": Failure(
        rows_are([["Department", "Fiscal Period"], ["Sales", "Q1 2025"]]),
        "has the heading 'Budgeted Amount'",
    ),
    "no header": Failure(
        rows_are([["Sales", "Q1 2025", 1]]), "No row among the first 50 has the headings"
    ),
    "duplicate column": Failure(
        rows_are([[*HEADER, "budgeted amount"], ["Sales", "Q1 2025", 1, 2]]),
        "has 'Budgeted Amount' twice",
    ),
    "only a header": Failure(rows_are([HEADER]), "No row below the header counts"),
    "empty sheet": Failure(rows_are([]), "The sheet is empty"),
    "blank cells only": Failure(rows_are([["", " "], [None, ""]]), "No row among the first 50 has"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failing_source_changes_nothing_and_others_are_synced(two: World, name: str) -> None:
    failure = FAILURES[name]
    source = two.sources[KEY]
    before = two.state()
    change_neighbors(two)
    failure.prepare(two)
    reach = (
        replace(two.job.reach, deadline_s=2.0, timeout_s=0.5)
        if "slow" in name or name == "timeout"
        else two.job.reach
    )
    result = two.sync(source, reach=reach)
    assert (result.status, two.last(source).status) == ("failed", "failed")
    assert failure.says in str(two.last(source).message)
    assert two.state() == before
    assert two.budgets("org-2") == {
        "Research, Q1 2025": "1" if failure.token else "2",
        "Support, Q1 2025": "2",
    }
    assert [row.status for row in two.history(source)] == ["success", "failed"]
    counts = two.last(source)
    assert (
        counts.createdCount,
        counts.updatedCount,
        counts.unchangedCount,
        counts.softDeletedCount,
        counts.heldCount,
        counts.errorCount,
    ) == (0,) * 6
    two.verify()


def test_source_recovers_with_the_next_run(two: World) -> None:
    source = two.sources[KEY]
    two.google.fail(VALUES, status(500), status(500), key=KEY)
    assert two.sync(source).status == "failed"
    assert two.sync(source).status == "success"


@pytest.mark.parametrize(
    "fault",
    [
        status(429, {"Retry-After": "0"}),
        status(500),
        status(503),
        html_502,
        cut_short,
        hang_up,
        html_200,
    ],
)
def test_one_failed_reply_is_retried_in_the_same_run(two: World, fault: Any) -> None:
    two.rows(KEY, plan_rows(Design=101, Engineering=200, Finance=300, Legal=400, Sales=500))
    two.google.fail(VALUES, fault, key=KEY)
    result = two.sync(two.sources[KEY])
    assert (result.status, result.updated_count) == ("success", 1)


@pytest.mark.parametrize(
    "wait", ["Tue, 01 Jan 2999 00:00:00 GMT", "Tue, 01 Jan 2999 00:00:00 -0000", "3600"]
)
def test_retry_after_header_is_respected(two: World, wait: str) -> None:
    two.google.fail(VALUES, status(429, {"Retry-After": wait}), key=KEY)
    source = two.sources[KEY]
    # Even the longest allowed wait ends after the deadline, so the run ends at once.
    assert two.sync(source, reach=replace(two.job.reach, deadline_s=10)).status == "failed"
    assert str(two.last(source).message).startswith(
        "Google asks for fewer requests (429). It could not be read within 10 s"
    )


@pytest.mark.parametrize(
    "wait",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "soon",
        "Tue, 01 Jan 2999",
        "Tue, 99 Jan 2999 00:00:00 GMT",
        "-5",
        "",
    ],
)
def test_past_or_invalid_retry_after_means_no_wait(two: World, wait: str) -> None:
    two.google.fail(VALUES, status(429, {"Retry-After": wait}), key=KEY)
    assert (
        two.sync(two.sources[KEY], reach=replace(two.job.reach, deadline_s=10)).status == "success"
    )


def test_early_expired_token_is_renewed_once(two: World) -> None:
    two.google.fail(VALUES, status(401), key=KEY)
    two.google.calls.clear()
    assert two.sync(two.sources[KEY]).status == "success"
    # One for each of the two Google Sheets, and another for the renewal.
    assert two.google.count(TOKEN) == 3


def test_retries_end(two: World) -> None:
    two.google.fail(ABOUT, *[status(503)] * 99, key=KEY)
    two.google.calls.clear()
    two.sync()
    # Two attempts for this sheet, and one for the other.
    assert two.google.count(ABOUT) == 3


# Cancelled sync runs.


def stopping_at(step: str, stop: Cancellation) -> Callable[[str], None]:
    """A progress callback that cancels the run at the first step that matches the pattern."""
    return lambda text: stop.request(signal.SIGTERM) if re.match(step, text) else None


@pytest.mark.parametrize("step", ["reading Google", "applying", "writing"])
def test_run_cancelled_at_any_step_changes_nothing(two: World, step: str) -> None:
    source, before, others = two.sources[KEY], two.state(), two.history(two.sources[GOOD])
    # More rows than one statement writes.
    two.rows(KEY, plan_rows(**{f"Team{number}": number for number in range(1500)}))
    stop = Cancellation()
    result = two.sync(source, stop=stop, say=stopping_at(step, stop), allow_deletes=True)
    assert (result.status, result.message) == ("failed", "Stopped by SIGTERM. Nothing was changed.")
    assert (two.last(source).status, two.last(source).message) == ("failed", result.message)
    assert two.state() == before
    assert two.history(two.sources[GOOD]) == others
    two.verify()


def test_run_cancelled_after_writing_is_complete_and_last(two: World) -> None:
    source, others = two.sources[KEY], two.history(two.sources[GOOD])
    two.rows(KEY, plan_rows(Design=101, Engineering=200, Finance=300, Legal=400, Sales=500))
    stop = Cancellation()
    assert (
        two.sync(source, stop=stop, say=stopping_at(r"writing (\d+) of \1 ", stop)).status
        == "success"
    )
    assert (two.budgets()["Design, Q1 2025"], two.last(source).status) == ("101", "success")
    assert two.history(two.sources[GOOD]) == others
    two.verify()


ENGLISH = Marks()
GERMAN = Marks(decimal=",", group=".")


def use_marks(world: World, marks: Marks) -> None:
    """Confirm a reading with these marks."""
    sync.store_reading(
        ROOT,
        world.sources[KEY].id,
        reading_of(HEADER, marks=marks),
        world.sources[KEY].facts,
    )


class BadRow(NamedTuple):
    """Engineering's row as it is read, and the error in SyncHistory."""

    row: list[Any]
    says: str
    marks: Marks = ENGLISH


def amount(cell: Any, says: str, marks: Marks = ENGLISH) -> BadRow:
    return BadRow(["Engineering", "Q1 2025", cell], f"Amount {says}", marks)


AS_TEXT = (
    "which the sheet stores as a date or a time: format the cell as plain text, and type it again"
)

BAD_ROWS = {
    "#REF!": amount("#REF!", "shows #REF!. Repair its formula."),
    "#N/A": amount("#N/A", "shows #N/A. Repair its formula."),
    "Loading…": amount("Loading…", "shows 'Loading…'. The sheet had not finished"),
    "Loading...": amount("Loading...", "shows 'Loading...'"),
    "5,00 in English": amount("5,00", "is '5,00', which is not a number in this sheet"),
    "5.00 in German": amount("5.00", "is '5.00', which is not a number in this sheet", GERMAN),
    "sign of another currency": amount("€5,000", "is '€5,000', but the row is in USD"),
    "blank": amount("", "is blank. Enter an amount, or 0."),
    "spaces": amount("  ", "is blank"),
    "negative": BadRow(["Engineering", "Q1 2025", -5], "Q1 2025 is -5. A budget is 0 or more."),
    "negative in parentheses": BadRow(
        ["Engineering", "Q1 2025", "(5,000)"], "Q1 2025 is -5000. A budget is 0 or more."
    ),
    "1e308": amount(1e308, "is too large"),
    "16 digits": amount(10**15, "is too large"),
    "NaN": amount(float("nan"), "is NaN. Enter a number."),
    "infinity": amount(float("inf"), "is Infinity. Enter a number."),
    "TRUE": amount(True, "is TRUE. Enter a number."),  # a cell's value
    "words": amount("about 5k", "is 'about 5k'. Write the number out."),
    "percentage": amount("50%", "is '50%'"),
    "date": amount(
        Date("2025-05-01", 45778),
        "is '2025-05-01', which the sheet stores as a date. Enter a number.",
    ),
    "day and month": amount(Date("1-2", 45659), "is '1-2', which the sheet stores as a date"),
    "date that looks like an amount": amount(
        Date("5,000", 45778), "is '5,000', which the sheet stores as a date"
    ),
    "time": amount(Date("8:30", 0.3541666666666667), "is '8:30', which the sheet stores as a date"),
    "duration": amount(Date("120:00:00", 5), "is '120:00:00', which the sheet stores as a date"),
    "date as period": BadRow(
        ["Engineering", Date("Jan 2025", 45658), 200],
        "Period is 'Jan 2025', which the sheet stores as a date. Format it as plain text.",
    ),
    "date as department": BadRow(
        [Date("3-4", 45720), "Q1 2025", 200], f"Department is '3-4', {AS_TEXT}"
    ),
    "blank period": BadRow(["Engineering", "", 200], "Period is blank"),
    "date as period, in number format": BadRow(
        ["Engineering", 45658, 200], "Period is the number 45658"
    ),
    "broken period": BadRow(["Engineering", "#REF!", 200], "Period shows #REF!"),
    "blank department": BadRow(["", "Q1 2025", 200], "1 row has an amount but no department"),
    "broken department": BadRow(["#N/A", "Q1 2025", 200], "Department shows #N/A"),
    "everything broken": BadRow(["#REF!", "#REF!", "#REF!"], "Department shows #REF!"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_row_keeps_its_budget_and_good_rows_are_applied(two: World, name: str) -> None:
    bad = BAD_ROWS[name]
    source = two.sources[KEY]
    engineering = two.budget("Engineering").__data__
    use_marks(two, bad.marks)
    two.rows(
        KEY,
        [
            HEADER,
            ["Design", "Q1 2025", 111],
            bad.row,
            ["Finance", "Q1 2025", 300],
            ["Legal", "Q1 2025", 400],
            ["Sales", "Q1 2025", 500],
        ],
    )
    change_neighbors(two)
    result = two.sync(source)
    assert (
        result.status,
        result.updated_count,
        result.unchanged_count,
        result.error_count,
        result.soft_deleted_count,
    ) == ("partial", 1, 3, 1, 0)
    assert list(two.bad_rows(source)) == [3]
    assert bad.says in two.bad_rows(source)[3]
    assert two.budget("Engineering").__data__ == engineering
    assert two.budgets()["Design, Q1 2025"] == "111"
    assert two.budgets("org-2") == {"Research, Q1 2025": "2", "Support, Q1 2025": "2"}
    two.verify()


class GoodCell(NamedTuple):
    """An unusual amount that is understood."""

    cell: Any
    means: str
    marks: Marks = ENGLISH


@pytest.mark.parametrize(
    "good",
    [
        GoodCell("$5,000", "5000"),
        GoodCell("$ 5,000.50", "5000.5"),
        GoodCell("USD 5,000", "5000"),
        GoodCell("5.000,00", "5000", GERMAN),
        GoodCell("5.000,00 $", "5000", GERMAN),
        GoodCell("5 000,50", "5000.5", Marks(decimal=",", group=" ")),
        GoodCell("5'000.50", "5000.5", Marks(group="'")),
        GoodCell(0.1 + 0.2, "0.3"),
        GoodCell(2.675, "2.68"),
        GoodCell(2.665, "2.66"),
        GoodCell(1999.9999999999998, "2000"),
        GoodCell(-1e-17, "0"),
        GoodCell(0, "0"),
        GoodCell("0012", "12"),
        GoodCell(99999999999.99, "99999999999.99"),
    ],
    ids=lambda good: f"{good.cell} in {good.marks.group}{good.marks.decimal}",
)
def test_amount_is_read_exactly_with_the_marks_of_the_sheet(two: World, good: GoodCell) -> None:
    use_marks(two, good.marks)
    two.rows(
        KEY,
        [
            HEADER,
            ["Procurement", "Q1 2025", good.cell],
            *plan_rows(Design=100, Engineering=200, Finance=300, Legal=400, Sales=500)[1:],
        ],
    )
    assert two.sync(two.sources[KEY]).status == "success"
    assert two.budgets()["Procurement, Q1 2025"] == good.means


def test_date_is_rejected_in_each_used_column(two: World) -> None:
    header = [*HEADER_WITH_ID, "Currency", "Auto-Approve Limit", "Due"]
    good = ["B-1", "Ops", "Q1 2025", 5, "USD", 1, Date("5/1/2025", 45778)]
    source = two.sheet(
        "dates", [header, good, [Date(f"1-{day}", 45657 + day) for day in range(2, 9)]]
    )
    assert (two.sync(source).status, two.budgets()["Ops, Q1 2025"]) == ("partial", "5")
    for name, shown in (
        ("Department", "1-3"),
        ("Period", "1-4"),
        ("Budget ID", "1-2"),
        ("Currency", "1-6"),
    ):
        assert f"{name} is '{shown}'" in two.bad_rows(source)[3]


@pytest.mark.parametrize(
    ("typed", "first", "later"),
    [
        (
            ["B-1", "Ops", "Jan 2025"],
            ["B-1", "Ops", Date("Jan 2025", 45658)],
            ["B-1", "Ops", Date("Jan-25", 45658)],
        ),
        (
            ["", "Ops", "Jan 2025"],
            ["", "Ops", Date("Jan 2025", 45658)],
            ["", "Ops", Date("Jan-25", 45658)],
        ),
        (
            ["", 45720, "Q1 2025"],
            ["", Date("3-4", 45720), "Q1 2025"],
            ["", Date("3/4/2025", 45720), "Q1 2025"],
        ),
        (
            [45659, "Ops", "Q1 2025"],
            [Date("1-2", 45659), "Ops", "Q1 2025"],
            [Date("2 Jan", 45659), "Operations", "Q1 2025"],
        ),
        (
            ["1-2", "Ops", "Q1 2025"],
            [Date("1-2", 45659), "Ops", "Q1 2025"],
            [Date("2 Jan", 45659), "Ops", "Q1 2025"],
        ),
    ],
    ids=["period, with ID", "period", "department", "ID", "ID that was text"],
)
def test_cell_that_becomes_a_date_changes_no_budget(
    two: World, typed: list[Any], first: list[Any], later: list[Any]
) -> None:
    others = [[f"B-{number}", f"Team {number}", "Q2 2025", 1] for number in range(5, 10)]
    source = two.sheet("formats", [HEADER_WITH_ID, [*typed, 500], *others])
    assert two.sync(source).created_count == 6
    before = two.budgets()
    for row in (first, later):
        two.rows("formats", [HEADER_WITH_ID, [*row, 500], *others])
        result = two.sync(source)
        assert (
            result.error_count,
            result.unchanged_count,
            result.created_count,
            result.soft_deleted_count,
            result.held_count,
        ) == (1, 5, 0, 0, 0)
        assert two.budgets() == before


PERIODS = ["2025-01-06", "2024-25-1", "8:30", "2025/13"]


def test_period_text_that_looks_like_a_date_is_rejected(two: World) -> None:
    source = two.sheet(
        "periods-as-text",
        [HEADER, ["Ops", "2025.4.1", 5], *(["Ops", period, 5] for period in PERIODS)],
    )
    assert two.sync(source).status == "partial"
    assert list(two.bad_rows(source)) == [3, 4, 5, 6]
    assert two.budgets()["Ops, 2025.4.1"] == "5"
    two.rows("periods-as-text", [HEADER, ["Ops", "April 2025", 5]])
    assert (two.sync(source).updated_count, two.sync(source).unchanged_count) == (1, 1)


def test_sheet_that_grows_during_a_read_is_read_again(two: World) -> None:
    two.google.fail(VALUES, gains_a_row, key=KEY)
    result = two.sync(two.sources[KEY])
    assert (result.status, result.created_count, result.unchanged_count) == ("success", 1, 5)


def test_sorting_during_a_read_turns_no_date_into_an_amount(two: World) -> None:
    two.rows(
        KEY,
        [
            HEADER,
            ["Design", "Q1 2025", Date("5/1/2025", 45778)],
            *plan_rows(Engineering=200, Finance=300, Legal=400, Sales=500)[1:],
        ],
    )
    two.google.fail(VALUES, then(lambda rows: rows.append(rows.pop(1))), key=KEY)
    before = two.budgets()
    assert two.sync(two.sources[KEY]).status == "partial"
    assert two.bad_rows(two.sources[KEY])[2] == (
        "Amount changed while the sheet was being read: the next sync run reads it again."
    )
    assert two.budgets() == before
    assert two.sync(two.sources[KEY]).unchanged_count == 4


def test_changing_cells_in_an_unused_column_do_not_matter(
    two: World,
) -> None:
    cells = iter([0.75, Date("8:30", 45658.1), "#N/A", 0.25])
    plan = plan_rows(Design=100, Engineering=200, Finance=300, Legal=400, Sales=500)
    two.rows(KEY, [[*HEADER, "Now"], *([*row, 0.5] for row in plan[1:])])
    two.google.fail(VALUES, *[then(lambda rows: rows[1].__setitem__(3, next(cells)))] * 4, key=KEY)
    assert [two.sync(two.sources[KEY]).status for _ in range(2)] == ["success"] * 2


def test_rows_with_duplicate_keys_are_all_rejected(two: World) -> None:
    source = two.sources[KEY]
    before = two.budget("Engineering").__data__
    two.rows(
        KEY,
        [
            *plan_rows(Design=100, Engineering=201, Finance=300, Legal=400, Sales=500),
            [" ENGINEERING ", "2025-Q1", 999],
        ],
    )
    assert two.sync(source).status == "partial"
    assert two.bad_rows(source) == {
        3: "Engineering, Q1 2025 is in rows 3, 7. Keep one, or let this source add such rows up."
    }
    assert two.budget("Engineering").__data__ == before


def test_rows_with_duplicate_budget_ids_are_all_rejected(two: World) -> None:
    source = two.sheet(
        "ids-of-two",
        [
            HEADER_WITH_ID,
            ["B-1", "Ops", "Q1 2025", 1],
            ["B-1", "Ops", "Q2 2025", 2],
            ["B-2", "IT", "Q1 2025", 3],
        ],
    )
    assert two.sync(source).created_count == 1
    assert two.bad_rows(source)[2] == "Budget ID 'B-1' is in rows 2, 3."


def test_losing_60_percent_of_rows_holds_deletions_and_creations(two: World) -> None:
    source = two.sources[KEY]
    two.rows(KEY, plan_rows(Design=101, Engineering=200, Marketing=50))
    result = two.sync(source)
    assert (
        result.status,
        result.soft_deleted_count,
        result.held_count,
        result.updated_count,
        result.created_count,
    ) == ("partial", 0, 4, 1, 0)
    assert set(two.budgets()) == {
        f"{name}, Q1 2025" for name in ("Design", "Engineering", "Finance", "Legal", "Sales")
    }
    assert "3 deletions held back, out of 5 live budgets" in str(two.last(source).message)
    held = {two.budget(name).id for name in ("Finance", "Legal", "Sales")}
    assert {hold.budget_id for hold in result.held} == held | {None}
    two.verify()


def test_renamed_tab_is_found_by_its_gid(two: World) -> None:
    tab = spreadsheet(two).tabs[0]
    spreadsheet(two).tabs.insert(0, Tab("Budgets", plan_rows(Trap=1), gid=99))
    for title in ("Budgets 'final' (2)", "'", "It''s!", "2025"):
        tab.title = title
        assert two.sync(two.sources[KEY]).unchanged_count == 5
    assert "Trap, Q1 2025" not in two.budgets()


def test_moved_columns_change_nothing(two: World) -> None:
    source = two.sources[KEY]
    before = two.state()
    two.rows(
        KEY,
        [
            ["BUDGETED  amount", "Notes", "fiscal period", "", "DEPARTMENT"],
            *([row[2], "x", row[1], "", row[0]] for row in spreadsheet(two).tabs[0].rows[1:]),
        ],
    )
    result = two.sync(source)
    assert (result.status, result.unchanged_count) == ("success", 5)
    assert two.state() == before


def test_moved_rows_change_only_their_numbers(two: World) -> None:
    source = two.sources[KEY]
    before = {
        budget.id: (budget.department, budget.budgetedMinor, budget.updatedAt)
        for budget in (two.budget("Design"), two.budget("Sales"))
    }
    versions = two.audit(two.budget("Sales"))
    two.rows(KEY, [["Our plan"], [], HEADER, *reversed(spreadsheet(two).tabs[0].rows[1:])])
    result = two.sync(source)
    assert (result.status, result.unchanged_count, result.updated_count) == ("success", 5, 0)
    assert {
        budget.id: (budget.department, budget.budgetedMinor, budget.updatedAt)
        for budget in (two.budget("Design"), two.budget("Sales"))
    } == before
    assert two.budget("Sales").sourceRow == 4
    assert two.audit(two.budget("Sales")) == versions


@pytest.mark.parametrize(
    "name",
    [
        '=HYPERLINK("http://evil.example")',
        "+1",
        "-cmd|' /C calc'!A0",
        "@IF(1)",
        "#marketing",
        "'quoted'",
        "Loading bay",
    ],
)
def test_department_that_looks_like_a_formula_is_text(two: World, name: str) -> None:
    two.rows(KEY, [*spreadsheet(two).tabs[0].rows, [name, "Q1 2025", 7]])
    assert two.sync(two.sources[KEY]).status == "success"
    assert two.budgets()[f"{name}, Q1 2025"] == "7"


def test_source_of_a_disabled_customer_is_skipped(two: World) -> None:
    source = two.sources[KEY]
    before = two.state()
    change_neighbors(two)
    two.rows(KEY, plan_rows(Design=999))
    customers.disable_customer(ROOT, ORG)
    two.google.calls.clear()
    assert two.sync(source).status == "skipped"
    assert two.last(source).message == "Customer org-1 is disabled."
    assert two.state() == before
    assert two.google.count(ABOUT) == 1  # the neighbor's
    assert two.budgets("org-2") == {"Research, Q1 2025": "2", "Support, Q1 2025": "2"}


def test_unhandled_exception_does_not_stop_other_sources(
    two: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = apply

    def failing(reading: Any, source: Any, *arguments: Any, **options: Any) -> Any:
        if not isinstance(source, bytes) and len(source.rows) == 6:
            raise ZeroDivisionError
        return real(reading, source, *arguments, **options)

    monkeypatch.setattr("budget_sync.sync.prepare.apply_reading", failing)
    change_neighbors(two)
    assert two.sync(two.sources[KEY]).status == "failed"
    assert "Something went wrong on our side (ZeroDivisionError)" in str(
        two.last(two.sources[KEY]).message
    )
    assert two.budgets("org-2") == {"Research, Q1 2025": "2", "Support, Q1 2025": "2"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"credentials_path": None}, "GOOGLE_APPLICATION_CREDENTIALS is not set"),
        ({"api_url": "http://127.0.0.1:9"}, "connection to 127.0.0.1 failed"),
    ],
)
def test_wrong_setting_is_reported(two: World, change: dict[str, Any], says: str) -> None:
    source = two.sources[KEY]
    assert two.sync(source, reach=replace(two.job.reach, **change)).status == "failed"
    assert says in str(two.last(source).message)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"token_uri": "http://evil.example/token"}, "must be https, or loopback"),
        ({"private_key": "nonsense"}, "not the JSON of a service account"),
        ({"type": "external_account"}, "credentials of type 'external_account'"),
        ({"client_email": None}, "rejects the credentials"),
    ],
)
def test_bad_credentials_file_is_reported_without_its_path(
    two: World, changes: dict[str, Any], says: str
) -> None:
    source = two.sources[KEY]
    path = two.google.credentials_file(two.folder, **changes)
    assert two.sync(source, reach=replace(two.job.reach, credentials_path=path)).status == "failed"
    message = str(two.last(source).message)
    assert says in message
    assert str(path) not in message


def test_wrong_private_key_gets_no_token(two: World) -> None:
    other_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = other_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    source = two.sources[KEY]
    path = two.google.credentials_file(two.folder, private_key=pem)
    assert two.sync(source, reach=replace(two.job.reach, credentials_path=path)).status == "failed"
    assert "Invalid JWT Signature" in str(two.last(source).message)


@pytest.mark.parametrize("kind", ["service_account", "authorized_user"])
@pytest.mark.parametrize("code", [302, 307, 308])
def test_credentials_follow_no_redirect(two: World, kind: str, code: int) -> None:
    other = SheetsServer()
    path = two.google.credentials_file(two.folder, kind)
    two.google.fail(TOKEN, *[status(code, {"Location": f"{other.url}/token"})] * 9)
    two.google.calls.clear()
    try:
        assert (
            two.sync(two.sources[KEY], reach=replace(two.job.reach, credentials_path=path)).status
            == "failed"
        )
    finally:
        other.stop()
    assert other.calls == []
    assert f"answers with a redirect ({code}), which is not followed with credentials" in str(
        two.last(two.sources[KEY]).message
    )
    # A retry would not help, so there is only one call for each of the two Google Sheets.
    assert two.google.calls == [TOKEN] * 2


def test_endless_token_reply_is_not_read_completely(two: World) -> None:
    two.google.fail(TOKEN, *[endless] * 2)
    assert two.sync(two.sources[KEY]).status == "failed"
    assert (
        two.last(two.sources[KEY]).message
        == "The reply of Google's token service is larger than 1 MB."
    )


def test_authorized_user_can_read(two: World) -> None:
    path = two.google.credentials_file(two.folder, "authorized_user")
    assert (
        two.sync(two.sources[KEY], reach=replace(two.job.reach, credentials_path=path)).status
        == "success"
    )


def test_run_sends_only_one_token_request_and_three_reads(two: World) -> None:
    two.google.calls.clear()
    two.sync()
    assert sorted(two.google.calls) == sorted([TOKEN, ABOUT, VALUES, VALUES] * 2)


def test_netrc_does_not_replace_the_token(two: World, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = two.folder / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(netrc))
    assert two.sync(two.sources[KEY]).status == "success"
