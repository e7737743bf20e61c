"""The sync commands, the dry run's output, signals, and the cron call over HTTP."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskCliRunner
from support.installation import Installation, found
from support.machine import PROJECT, wait_until
from support.sheets_server import ABOUT, VALUES, SheetsServer, silence, status
from support.sources import add_file, add_sheet
from support.sync_world import HEADER_WITH_ID, ORG, World, open_world, plan_rows
from support.world import ROOT

from app import create_app
from budget_sync import ledger, sync
from budget_sync.accounts import customers
from budget_sync.commands.support import Progress, handle_stop_signals
from budget_sync.database.models import SyncHistory
from budget_sync.domain.request_models import ReserveRequest
from budget_sync.settings import Settings, SettingsError, load
from budget_sync.sync import SyncRunResult, result_line

pytestmark = pytest.mark.both_engines

KEY = "the-only-key"
CSV_HEADER = "Department,Fiscal Period,Budgeted Amount\n"
SECRET = "a secret of cron's, long enough"


@pytest.fixture
def world(app: Flask, chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with open_world(chosen.instance_folder, monkeypatch) as world:
        yield world


def app_of(world: World, chosen: Settings, **changes: Any) -> Flask:
    """An app with settings for the world's fake Google."""
    options = {
        "google_credentials": world.job.reach.credentials_path,
        "google_sheets_api_url": world.google.url,
        "csv_folder": world.folder,
    }
    return create_app(replace(chosen, **(options | changes)))


@pytest.fixture
def shell(world: World, chosen: Settings) -> Iterator[FlaskCliRunner]:
    app = app_of(world, chosen)
    # The flask command pushes an app context too.
    with app.app_context():
        yield app.test_cli_runner()


def test_source_is_added_listed_synced_and_removed(world: World, shell: FlaskCliRunner) -> None:
    world.google.share(KEY, [["Team", "Fiscal Period", "Plan"], ["Ops", "Q1 2025", "5.000,00"]])
    added = shell.invoke(
        args=[
            "add-source",
            "--customer",
            ORG,
            "--spreadsheet",
            KEY,
            "--worksheet",
            "Budgets",
            "--accept",
        ]
    )
    assert added.exit_code == 0, added.output
    source_id = added.stdout.split()[2]
    listed = shell.invoke(args=["list-sources"]).output
    assert "  confirmed by root (command line) 20" in listed
    assert listed.splitlines()[1].endswith("  never")
    synced = shell.invoke(args=["sync-sheets"])
    assert (synced.exit_code, synced.stdout, synced.stderr) == (
        0,
        f"org-1 {source_id} (Google Sheet A spreadsheet / Budgets ({KEY})): success: 1 created\n",
        "",
    )
    assert world.budgets() == {"Ops, Q1 2025": "5000"}
    assert shell.invoke(args=["sync-sheets"]).stdout.endswith("success: 1 unchanged\n")
    listed = shell.invoke(args=["list-sources"]).output
    assert re.search(r"  20\d\d-\d\d-\d\dT\S+Z  success\n$", listed)
    world.google.share(KEY, [])
    assert shell.invoke(args=["sync-sheets"]).exit_code == 1
    assert "  failed: " in shell.invoke(args=["list-sources"]).output
    removed = shell.invoke(args=["remove-source", source_id])
    assert removed.output == f"Removed source {source_id}; its 1 budget stays as it is.\n"
    assert shell.invoke(args=["sync-sheets"]).output == ""


def test_sync_prints_a_line_per_source_and_errors_to_stderr(
    world: World, shell: FlaskCliRunner
) -> None:
    world.customer("org-2")
    bad = world.sheet(KEY, plan_rows(Engineering=1))
    good = world.csv("plan.csv", CSV_HEADER + "A,Q1 2025,1\nB,Q1 2025,x\n", customer_id="org-2")
    world.google.spreadsheets.pop(KEY)
    ran = shell.invoke(args=["sync-sheets"])
    assert ran.exit_code == 1
    assert ran.stdout == f"org-2 {good.id} (CSV plan.csv): partial: 1 created, 1 rejected\n"
    failed, bad_row = ran.stderr.splitlines()
    assert failed == (
        f"org-1 {bad.id} (Google Sheet {KEY}, Budgets): failed: "
        f"There is no spreadsheet {KEY}: check the address, and whether the spreadsheet was "
        "deleted. It must be shared with budget-sync@example.iam.gserviceaccount.com."
    )
    assert bad_row == (
        f"{good.id} row 3: Amount is 'x', which is not a number in this sheet. Enter one such as "
        "5,000.50."
    )
    only = shell.invoke(args=["sync-sheets", "--customer", "org-2"])
    assert (only.exit_code, only.stdout) == (
        0,
        f"org-2 {good.id} (CSV plan.csv): partial: 1 unchanged, 1 rejected\n",
    )
    assert shell.invoke(args=["sync-sheets", "--customer", "nobody"]).exit_code == 1


def test_dry_run_describes_the_plan_and_changes_nothing(
    world: World, shell: FlaskCliRunner
) -> None:
    header = [*HEADER_WITH_ID, "Auto-Approve Limit"]
    source = world.sheet(
        KEY,
        [
            header,
            *(
                [f"B-{number}", f"Team {number}", "Q1 2025", 100 * number, ""]
                for number in range(1, 9)
            ),
            ["E-1", "Engineering", "Q1 2025", 100000, ""],
        ],
    )
    world.sync(source)
    for budget, amount in (("E-1", 72000), ("B-8", 300)):
        ledger.reserve(
            ROOT, ReserveRequest(budget_id=budget, request_id=f"r-{budget}", amount=Decimal(amount))
        )
    kept = [
        [f"B-{number}", f"Team {number}", "Q1 2025", 100 * number, ""] for number in range(3, 8)
    ]
    world.rows(
        KEY,
        [
            header,
            *kept,
            ["E-1", "Engineering", "Q1 2025", 60000, 500],
            ["B-2", "Team 2", "Q1 2025", "#REF!", ""],
            ["N-1", "New", "FY2026", 7.5, 1],
        ],
    )
    before, runs = world.state(), SyncHistory.select().count()
    page = shell.invoke(args=["sync-sheets", "--dry-run"])
    assert page.exit_code == 0
    assert page.stdout == (
        f"org-1 {source.id} (Google Sheet A spreadsheet / Budgets ({KEY}))\n"
        "  1 to create, 1 to change, 2 to delete, 5 unchanged, 1 kept, 1 rejected.\n"
        "\n"
        "  Would be created:\n"
        "    row 9     New, FY2026: $7.50, auto-approve limit $1 (Budget ID N-1)\n"
        "\n"
        "  Would be changed:\n"
        "    row 7     Engineering, Q1 2025 [E-1]: budgeted amount $100,000 → $60,000; "
        "auto-approve limit none → $500\n"
        "              ! row 7 cuts Engineering Q1 2025 to $60,000; "
        "$72,000 is reserved or committed (1 open reservation)\n"
        "\n"
        "  Would be deleted:\n"
        "    Team 1, Q1 2025 [B-1]: $100\n"
        "    Team 8, Q1 2025 [B-8]: $800\n"
        "              ! $300 is reserved (1 open reservation); "
        "it can still be committed or released, but nothing new can be reserved\n"
        "\n"
        "  Kept, though not in the sheet:\n"
        "    Team 2, Q1 2025 [B-2]: row 8 means it, and cannot be used\n"
        "\n"
        "  Rejected rows, which change nothing:\n"
        "    row 8: Amount shows #REF!. Repair its formula.\n"
    )
    assert (world.state(), SyncHistory.select().count()) == (before, runs)


def test_dry_run_shows_held_deletions_for_allow_deletes(
    world: World, shell: FlaskCliRunner
) -> None:
    source = world.sheet(KEY, plan_rows(A=1, B=2, C=3))
    world.sync(source)
    world.rows(KEY, plan_rows(A=1))
    page = shell.invoke(args=["sync-sheets", "--dry-run"]).stdout
    assert "Held back until a person answers, of 3 live budgets of the source:" in page
    assert "    B, Q1 2025 [" in page
    held = shell.invoke(args=["sync-sheets"])
    assert (held.exit_code, held.stdout.strip().split(": ", 1)[1]) == (
        0,
        "partial: 1 unchanged, 2 held back",
    )
    assert "2 deletions held back, out of 3 live budgets" in held.stderr
    deleted = shell.invoke(args=["sync-sheets", "--allow-deletes"])
    assert deleted.stdout.strip().endswith("success: 1 unchanged, 2 deleted")
    assert world.budgets() == {"A, Q1 2025": "1"}


def test_dry_run_of_a_broken_source_fails_with_the_reason(
    world: World, shell: FlaskCliRunner
) -> None:
    world.sheet(KEY, [])
    page = shell.invoke(args=["sync-sheets", "--dry-run"])
    assert page.exit_code == 1
    assert "The sheet is empty" in page.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--spreadsheet", KEY],
        ["--spreadsheet", KEY, "--worksheet", "A", "--csv", "b.csv"],
        ["--csv", "../x.csv"],
        ["--csv", "x.csv", "--answer", "nonsense"],
    ],
)
def test_invalid_source_is_rejected(
    world: World, shell: FlaskCliRunner, arguments: list[str]
) -> None:
    assert shell.invoke(args=["add-source", "--customer", ORG, *arguments]).exit_code != 0
    assert shell.invoke(args=["list-sources"]).output.startswith("There are no sources yet")


def test_crontab_line_works_from_any_directory(installation: Installation, tmp_path: Path) -> None:
    google = SheetsServer()
    try:
        google.share(KEY, plan_rows(Legal=1000))
        installation.environment |= {
            "GOOGLE_APPLICATION_CREDENTIALS": str(google.credentials_file(tmp_path)),
            "GOOGLE_SHEETS_API_URL": google.url,
            "NO_PROXY": "127.0.0.1",
        }
        installation.flask(
            *("add-source", "--customer", "org-456", "--accept"),
            *("--spreadsheet", KEY, "--worksheet", "Budgets"),
        )
        ran = installation.flask(
            "--app", str(PROJECT / "app.py"), "sync-sheets", "--customer", "org-456"
        )
        assert "success: 1 created" in ran.stdout
        assert ran.stderr == ""
    finally:
        google.stop()


# Output that cannot be written, and signals.


@pytest.fixture
def two(app: Flask, installation: Installation) -> Installation:
    """An installation with two more sources than the guide's; the second has a bad row."""
    sheets = installation.folder / "sheets"
    sheets.mkdir(exist_ok=True)
    for name, rows in (
        ("a.csv", "Ops,Q1 2025,1\n"),
        ("b.csv", "Legal,Q1 2025,1\nSales,Q1 2025,x\n"),
    ):
        (sheets / name).write_text(CSV_HEADER + rows, encoding="utf-8")
        customers.add_customer(ROOT, name[0], name)
        add_file(name[0], sheets, name)
    return installation


def runs(installation: Installation) -> list[tuple[str, str, str | None]]:
    """Every sync run of the customers a, b and c: customer, status, message."""
    return found(
        installation.target,
        """
        SELECT "customerId", "status", "message" FROM "SyncHistory"
        WHERE "customerId" IN ('a', 'b', 'c') ORDER BY "id"
        """,
    )


@pytest.mark.parametrize(
    "full", [{1}, {2}, {1, 2}], ids=["stdout full", "stderr full", "both full"]
)
def test_every_source_is_synced_if_output_is_full(
    two: Installation, tmp_path: Path, full: set[int]
) -> None:
    paths = {
        number: Path("/dev/full") if number in full else tmp_path / str(number) for number in (1, 2)
    }
    with (
        open(os.devnull, "rb") as nothing,
        paths[1].open("wb") as output,
        paths[2].open("wb") as errors,
    ):
        assert two.begin(("sync-sheets",), [nothing, output, errors]).wait(timeout=60) == 1
    assert [(customer, status) for customer, status, _ in runs(two)] == [
        ("a", "success"),
        ("b", "partial"),
    ]
    if 2 not in full:
        lines = (tmp_path / "2").read_text(encoding="utf-8").splitlines()
        assert lines[1:] == [
            (
                "Error: Some lines could not be printed (No space left on device). "
                "The SyncHistory table has the result of each source."
            )
        ]
    if 1 not in full:
        assert len((tmp_path / "1").read_text(encoding="utf-8").splitlines()) == 3


def test_every_source_is_synced_if_output_is_closed(two: Installation, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with (
        open(os.devnull, "rb") as nothing,
        open(writing, "wb") as output,
        (tmp_path / "2").open("wb") as errors,
    ):
        assert two.begin(("sync-sheets",), [nothing, output, errors]).wait(timeout=60) == 1
    assert [(customer, status) for customer, status, _ in runs(two)] == [
        ("a", "success"),
        ("b", "partial"),
    ]
    last = (tmp_path / "2").read_text(encoding="utf-8").splitlines()[-1]
    assert (
        last == "Error: Some lines could not be printed (Broken pipe). "
        "The SyncHistory table has the result of each source."
    )


def test_progress_ignores_a_broken_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w", encoding="utf-8") as gone:
        monkeypatch.setattr(sys, "stderr", gone)
        progress = Progress()
        progress.say("reading")
        progress.clear()
        # Closing the file would try to write the buffered text again.
        with suppress(OSError):
            gone.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_during_a_read_is_recorded_and_reported(
    two: Installation, tmp_path: Path, number: signal.Signals
) -> None:
    google = SheetsServer()
    try:
        google.share(KEY, plan_rows(Legal=1000))
        google.fail(VALUES, silence)
        two.environment |= {
            "GOOGLE_APPLICATION_CREDENTIALS": str(google.credentials_file(tmp_path)),
            "GOOGLE_SHEETS_API_URL": google.url,
            "NO_PROXY": "127.0.0.1",
        }
        customers.add_customer(ROOT, "c", "C")
        add_sheet("c", KEY)
        with (
            open(os.devnull, "rb") as nothing,
            (tmp_path / "1").open("wb") as output,
            (tmp_path / "2").open("wb") as errors,
        ):
            running = two.begin(("sync-sheets",), [nothing, output, errors])
            wait_until(lambda: google.count(VALUES) == 1, "the sheet was not requested")
            running.send_signal(number)
            assert running.wait(timeout=15) == 128 + number
    finally:
        google.stop()
    done, last = runs(two)[:2], runs(two)[2:]
    assert [status for _, status, _ in done] == ["success", "partial"]
    assert last == [("c", "failed", f"Stopped by {number.name}. Nothing was changed.")]
    _, line = (tmp_path / "2").read_text(encoding="utf-8").splitlines()
    assert line.endswith(
        f"(Google Sheet {KEY}, Budgets): failed: Stopped by {number.name}. Nothing was changed."
    )
    # The guide's source was not started.
    assert len((tmp_path / "1").read_text(encoding="utf-8").splitlines()) == 2


def test_signal_between_sources_starts_no_other_source(
    world: World, shell: FlaskCliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.csv", "b.csv"):
        world.csv(name, CSV_HEADER + f"{name},Q1 2025,1\n")

    def signal_then_format(result: SyncRunResult) -> str:
        signal.raise_signal(signal.SIGTERM)
        return result_line(result)

    monkeypatch.setattr(sync, "result_line", signal_then_format)
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("no handler was installed"))
    try:
        ran = shell.invoke(args=["sync-sheets"])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (ran.exit_code, ran.stderr) == (128 + signal.SIGTERM, "Stopped by SIGTERM.\n")
    assert ran.stdout.endswith("success: 1 created\n")
    assert [row.status for row in SyncHistory.select()] == ["success"]


def test_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handle_stop_signals(lambda _: pytest.fail("an ignored signal was handled")):
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_cron_call_syncs_every_source_and_shows_no_path(world: World, chosen: Settings) -> None:
    sheet = world.sheet(KEY, plan_rows(Engineering=1))
    world.csv("secret-name.csv", CSV_HEADER + "A,Q1 2025,1\n")
    world.google.fail(ABOUT, *[status(404)], key=KEY)
    client = app_of(world, chosen, cron_secret=SECRET).test_client()
    reply = client.get(
        "/api/cron/sync-google-sheets", headers={"Authorization": f"Bearer {SECRET}"}
    )
    assert reply.status_code == 200
    results = {result["sourceType"]: result for result in reply.get_json()["results"]}
    assert (results["csv"]["status"], results["csv"]["createdCount"]) == ("success", 1)
    assert (results["google_sheets"]["status"], results["google_sheets"]["sourceId"]) == (
        "failed",
        sheet.id,
    )
    assert "secret-name" not in reply.text
    assert [row.startedBy for row in SyncHistory.select()] == ["Scheduled sync (cron)"] * 2


@pytest.mark.parametrize(
    ("secret", "sent"),
    [
        (None, None),
        (None, "Bearer "),
        (None, "Bearer None"),
        ("short", "Bearer short"),
        ("x" * 15, f"Bearer {'x' * 15}"),
        (SECRET, None),
        (SECRET, "Bearer wrong"),
        (SECRET, f"Basic {SECRET}"),
        (SECRET, SECRET),
        (SECRET, "Bearer schlüssel".encode().decode("latin-1")),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_cron_call_without_the_secret_is_denied(
    world: World, chosen: Settings, secret: str | None, sent: str | None, method: str
) -> None:
    world.csv("plan.csv", CSV_HEADER + "A,Q1 2025,1\n")
    client = app_of(world, chosen, cron_secret=secret).test_client()
    reply = client.open(
        "/api/cron/sync-google-sheets",
        method=method,
        headers={"Authorization": sent} if sent is not None else {},
    )
    assert reply.status_code == 401
    assert world.budgets() == {}


def test_cron_head_request_does_nothing(world: World, chosen: Settings) -> None:
    world.csv("plan.csv", CSV_HEADER + "A,Q1 2025,1\n")
    client = app_of(world, chosen, cron_secret=SECRET).test_client()
    assert (
        client.head(
            "/api/cron/sync-google-sheets", headers={"Authorization": f"Bearer {SECRET}"}
        ).status_code
        == 200
    )
    assert world.budgets() == {}
    assert SyncHistory.select().count() == 0


@pytest.mark.parametrize(
    "url",
    [
        "http://evil.example",
        "ftp://127.0.0.1",
        "sheets.googleapis.com",
        "https://",
        "https://user@host",
    ],
)
def test_google_url_must_be_https_or_loopback(environment: dict[str, str], url: str) -> None:
    with pytest.raises(SettingsError, match="GOOGLE_SHEETS_API_URL must be an https address"):
        load(environment | {"GOOGLE_SHEETS_API_URL": url})
    assert (
        load(
            environment | {"GOOGLE_SHEETS_API_URL": "http://127.0.0.1:8080/"}
        ).google_sheets_api_url
        == "http://127.0.0.1:8080"
    )
