"""Connect a sheet in the console: upload, questions, confirmation, reading it again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from openpyxl import Workbook
from support.console_sheets import (
    PLAIN,
    REVENUE,
    WITH_STATUS,
    Answers,
    answer,
    connect,
    fields,
    send_answers,
    sources,
    upload,
)
from support.console_site import member, send, token
from support.sheets_server import EMAIL, SheetsServer
from support.sources import add_file
from support.world import ROOT

from budget_sync.accounts import customers
from budget_sync.database.models import (
    AuditLog,
    Budget,
    BudgetDataSourceConfig,
    SourceFile,
    SyncHistory,
)
from budget_sync.domain.permissions import Role
from budget_sync.operations import demo
from budget_sync.sync import targets
from budget_sync.web import server_interface
from budget_sync.web.payloads import MAX_BODY_BYTES

pytestmark = pytest.mark.both_engines

APPROVED: Answers = {"keep:Status": ["approved"]}


def from_sheets() -> dict[str, int]:
    """The live budgets of all sources: "Sales, Q1 2025" -> amount in minor units."""
    live = Budget.select().where(Budget.sourceId.is_null(False), Budget.deletedAt.is_null())
    return {f"{each.department}, {each.fiscalPeriod}": each.budgetedMinor for each in live}


def actions(source_id: str) -> list[str]:
    """The audit actions about a source."""
    rows = AuditLog.select().where(AuditLog.subject == source_id).order_by(AuditLog.id)
    return [row.action for row in rows]


def test_plain_file_is_synced_after_one_confirmation(fiona: FlaskClient) -> None:
    uploaded = upload(fiona, PLAIN)
    (source,) = sources()
    assert uploaded.location == f"/sync/reading?source={source.id}"
    page = fiona.get(uploaded.location).text
    for text in ("What was found", "Budgets to come", "$3,500.00", "Design", "Sum in USD"):
        assert text in page
    assert "Needs an answer" not in page
    assert from_sheets() == {}
    assert actions(source.id) == ["ADD_SOURCE"]
    confirmed = send_answers(fiona, uploaded.location, page, "confirm")
    assert confirmed.location.startswith("/sync/pass?id=sync_")
    assert from_sheets() == {"Sales, Q1 2025": 100_000, "Design, Q1 2025": 250_000}
    assert actions(source.id) == ["ADD_SOURCE", "SET_READING"]
    result = fiona.get(confirmed.location).text
    assert "Success. 2 created." in result
    assert "See the budgets" in result


def test_nothing_is_synced_before_the_confirmation(fiona: FlaskClient) -> None:
    upload(fiona, PLAIN)
    assert "Waiting for confirmation of how it is read." in fiona.get("/sync").text
    assert "waits for confirmation" in fiona.get("/").text
    send(fiona, "/sync/run")
    assert from_sheets() == {}
    assert [run.status for run in SyncHistory.select()] == ["skipped"]


def test_source_that_waits_can_be_discarded(fiona: FlaskClient) -> None:
    upload(fiona, PLAIN)
    (source,) = sources()
    assert send(fiona, f"/sync/discard?source={source.id}").location == "/sync"
    assert sources() == []
    assert SourceFile.select().count() == 0


def test_confirmed_source_cannot_be_discarded(fiona: FlaskClient) -> None:
    source_id = connect(fiona)
    send(fiona, f"/sync/discard?source={source_id}")
    assert [source.id for source in sources()] == [source_id]


def test_open_question_blocks_the_confirmation(fiona: FlaskClient) -> None:
    path = upload(fiona, WITH_STATUS).location
    page = fiona.get(path).text
    assert "Needs an answer" in page
    assert "disabled aria-describedby" in page
    assert send_answers(fiona, path, page, "confirm").status_code == 409
    assert sources()[0].reading is None
    assert from_sheets() == {}


def test_answers_lead_to_the_budgets(fiona: FlaskClient) -> None:
    source_id = connect(fiona, WITH_STATUS, APPROVED)
    assert from_sheets() == {"Distillery, FY2026": 12_000_000, "Cooperage, FY2026": 1_250_000}
    reading = json.loads(sources()[0].reading or "")
    assert reading["keep"] == [{"column": "Status", "in": ["approved"], "out": ["draft"]}]
    run = SyncHistory.get(SyncHistory.sourceId == source_id)
    details = fiona.get(f"/sync/pass?id={run.syncId}").text
    assert "left out by Status" in details


def test_left_out_rows_are_struck_through_with_the_reason(fiona: FlaskClient) -> None:
    path = upload(fiona, WITH_STATUS).location
    page = answer(fiona, path, APPROVED).text
    assert "<s>38,000</s>" in page
    assert "left out by Status" in page
    assert "<s>Total</s>" in page
    for role in ("Department", "Period", "Filter", "Amount", "Currency"):
        assert f">{role}</span>" in page


def test_answers_are_kept_when_the_sheet_is_read_again(fiona: FlaskClient) -> None:
    path = upload(fiona, WITH_STATUS).location
    page = answer(fiona, path, APPROVED).text
    assert fields(page)['answer:"keep:Status"'] == ['"approved"']
    page = send_answers(fiona, path, page, "read", {"sum": ["refuse"]}).text
    assert fields(page)['answer:"keep:Status"'] == ['"approved"']
    assert fields(page)['answer:"sum"'] == ['"refuse"']
    assert "Rejected rows" in page


def test_confirmation_is_valid_only_for_the_result_on_the_page(fiona: FlaskClient) -> None:
    path = upload(fiona, WITH_STATUS).location
    page = answer(fiona, path, APPROVED).text
    changed = send_answers(fiona, path, page, "confirm", {"keep:Status": ["draft"]})
    assert changed.status_code == 409
    assert "have changed the result" in changed.text
    assert sources()[0].reading is None


QUARTERS = b"""Department,Status,Q1,Q2,Q3
Loft,Final,10,20,30
Barn,Draft,40,50,60
"""


def test_wrong_answer_is_explained_and_the_others_are_kept(fiona: FlaskClient) -> None:
    path = upload(fiona, QUARTERS).location
    page = answer(fiona, path, {"keep:Status": ["final"], "year": ["soon"]})
    assert page.status_code == 400
    assert "soon" in page.text
    assert fields(page.text)['answer:"keep:Status"'] == ['"final"']
    assert fields(page.text)['text:"year"'] == ["soon"]
    assert sources()[0].reading is None


def test_encodings_are_shown_with_words_of_the_file(fiona: FlaskClient) -> None:
    path = upload(fiona, PLAIN.replace(b"Sales", "Verkäufe".encode("cp1252"))).location
    page = fiona.get(path).text
    assert "With which encoding are these words correct? <span" in page
    assert "<span>Verkäufe (cp1252, Western Europe)</span>" in page
    assert "Verk‰ufe (mac_roman, Western Europe, old Macs)" in page


def test_answers_that_do_not_fit_the_sheet_stay_on_the_page(fiona: FlaskClient) -> None:
    german = b"Department;Year;Budget\nSales;2029;12.000\nDesign;2029;7.500\n"
    page = answer(fiona, upload(fiona, german).location, {"locale": ["decimals"]})
    assert page.status_code == 400
    assert "The sheet cannot be read with these answers. Amount is" in page.text
    assert fields(page.text)['answer:"locale"'] == ['"decimals"']
    assert sources()[0].reading is None


def test_sheet_that_cannot_be_read_creates_no_source(fiona: FlaskClient) -> None:
    refused = upload(fiona, REVENUE)
    assert refused.status_code == 409
    assert "revenue" in refused.text
    assert "plan.csv cannot be used as it is" in refused.text
    assert "/sync/template" in refused.text
    assert "/sync/help" in refused.text
    assert sources() == []


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "The file is empty."),
        (b"\xd0\xcf\x11\xe0 old", "Save it as .xlsx without a password."),
        (b"PK\x03\x04 not a workbook", "cannot"),
        (b"\x00" * 100, "cannot"),
        (b"\x89PNG\r\n\x1a\n\x00", "The file is a picture and not a sheet."),
        (b"%PDF-1.7 \xe2", "The file is a PDF file and not a sheet."),
    ],
    ids=["empty", "old Excel", "broken Excel", "binary", "picture", "PDF"],
)
def test_files_of_other_kinds_are_rejected(
    fiona: FlaskClient, content: bytes, sentence: str
) -> None:
    rejected = upload(fiona, content)
    assert rejected.status_code in (400, 409)
    assert sentence in rejected.text
    assert sources() == []


def test_form_without_a_file_says_so(fiona: FlaskClient) -> None:
    rejected = fiona.post("/sync/file", data={"csrf_token": token(fiona)})
    assert rejected.status_code == 400
    assert "Choose a file." in rejected.text


def test_file_over_the_limit_is_not_read(fiona: FlaskClient) -> None:
    too_large = fiona.post(
        "/sync/file",
        data=b"x",
        content_type="multipart/form-data; boundary=x",
        environ_overrides={"CONTENT_LENGTH": str(server_interface.MAX_UPLOAD_BYTES + 1)},
    )
    assert too_large.status_code == 413
    assert "The file is larger than 16 MB" in too_large.text


def test_limit_of_uploads_covers_the_largest_file() -> None:
    assert server_interface.MAX_UPLOAD_BYTES == targets.MAX_UPLOAD_BYTES + MAX_BODY_BYTES


@pytest.mark.parametrize("path", ["/sync/file", "/sync/upload?source=x"])
def test_upload_needs_a_session_and_a_token(fiona: FlaskClient, path: str) -> None:
    stranger = fiona.application.test_client()
    assert "/sign-in" in stranger.post(path, data={"file": "x"}).location
    expired = fiona.post(path, data={"csrf_token": "stale"})
    assert expired.status_code == 400
    assert "This form has expired" in expired.text


PATHS = (
    ("GET", "/sync/connect"),
    ("GET", "/sync/template"),
    ("POST", "/sync/tabs"),
    ("POST", "/sync/tab"),
    ("POST", "/sync/file"),
    ("GET", "/sync/reading?source={}"),
    ("POST", "/sync/reading?source={}"),
    ("GET", "/sync/again?source={}"),
    ("POST", "/sync/again?source={}"),
    ("POST", "/sync/discard?source={}"),
    ("GET", "/sync/upload?source={}"),
    ("POST", "/sync/upload?source={}"),
    ("POST", "/sync/upload/use?source={}"),
    ("POST", "/sync/upload/discard?source={}"),
    ("POST", "/sync/held?source={}"),
)


@pytest.mark.parametrize("role", [Role.FPA_USER, Role.MANAGER])
def test_other_roles_cannot_manage_sources(site: Flask, fiona: FlaskClient, role: Role) -> None:
    source_id = connect(fiona)
    other = member(site, "other", role)
    for method, path in PATHS:
        sent = {"csrf_token": token(other)} if method == "POST" else None
        response = other.open(path.format(source_id), method=method, data=sent)
        assert response.status_code == 403, path
    assert "Connect a sheet" not in other.get("/sync").text


def test_sources_of_other_customers_are_not_found(site: Flask, fiona: FlaskClient) -> None:
    source_id = connect(fiona)
    customers.add_customer(ROOT, "other", "Other Inc.")
    stranger = member(site, "stranger", Role.ADMIN, "other")
    for method, path in PATHS:
        if "{}" in path:
            sent = {"csrf_token": token(stranger)} if method == "POST" else None
            response = stranger.open(path.format(source_id), method=method, data=sent)
            assert response.status_code == 404, path
    assert source_id not in stranger.get("/sync").text


def test_all_customers_admin_sees_only_the_chosen_customer(site: Flask, fiona: FlaskClient) -> None:
    source_id = connect(fiona)
    customers.add_customer(ROOT, "other", "Other Inc.")
    boss = member(site, "boss", Role.SUPER_ADMIN, None)
    send(boss, "/customer", customer="other")
    assert boss.get(f"/sync/reading?source={source_id}").status_code == 404
    send(boss, "/customer", customer=demo.CUSTOMER)
    assert boss.get(f"/sync/reading?source={source_id}").status_code == 200


def test_template_can_be_connected_without_questions(fiona: FlaskClient) -> None:
    template = fiona.get("/sync/template")
    assert template.headers["Content-Disposition"] == 'attachment; filename="budgets.csv"'
    path = upload(fiona, template.data, name="budgets.csv").location
    page = fiona.get(path).text
    assert "Needs an answer" not in page
    assert "Engineering" in page


def test_stored_reading_is_shown_in_words_and_as_json(fiona: FlaskClient) -> None:
    source_id = connect(fiona, WITH_STATUS, APPROVED)
    page = fiona.get(f"/sync/reading?source={source_id}").text
    for text in (
        "“Cost Center”",
        "counted if approved; left out if draft",
        "are added up",
        "Confirmed by Fp (fp@example.com)",
        "&#34;Adopted Budget&#34;",
    ):
        assert text in page


def test_reading_again_keeps_the_answers_and_shows_the_difference(fiona: FlaskClient) -> None:
    source_id = connect(fiona, WITH_STATUS, APPROVED)
    path = f"/sync/again?source={source_id}"
    page = fiona.get(path).text
    assert fields(page)['answer:"keep:Status"'] == ['"approved"']
    assert "The sheet is read as before." in page
    page = answer(fiona, path, {"keep:Status": ["approved", "draft"]}).text
    assert "<strong>counted if approved, draft; other values are rejected</strong>" in page
    confirmed = send_answers(fiona, path, page, "confirm")
    assert confirmed.location.startswith("/sync/pass")
    assert from_sheets()["Cooperage, FY2026"] == 5_050_000
    (change,) = AuditLog.select().where(AuditLog.action == "SET_READING").offset(1).limit(1)
    assert json.loads(change.oldValue or "")["keep"][0]["in"] == ["approved"]
    assert json.loads(change.newValue or "")["keep"][0]["in"] == ["approved", "draft"]


def test_reading_again_changes_nothing_before_the_confirmation(fiona: FlaskClient) -> None:
    source_id = connect(fiona, WITH_STATUS, APPROVED)
    before = sources()[0].reading
    answer(fiona, f"/sync/again?source={source_id}", {"keep:Status": ["draft"]})
    assert sources()[0].reading == before


def test_page_without_google_credentials_names_the_setting(site: Flask, fiona: FlaskClient) -> None:
    site.config["SETTINGS"] = replace(site.config["SETTINGS"], google_credentials=None)
    page = fiona.get("/sync/connect").text
    assert "Google Sheets are not set up on this server." in page
    assert "GOOGLE_APPLICATION_CREDENTIALS" in page
    rejected = send(fiona, "/sync/tabs", address="https://docs.google.com/spreadsheets/d/abcdefgh")
    assert rejected.status_code == 409


@pytest.mark.parametrize("address", ["", "x", "https://example.com/spreadsheets/d/abc"])
def test_wrong_address_is_explained(fiona: FlaskClient, address: str) -> None:
    rejected = send(fiona, "/sync/tabs", address=address)
    assert rejected.status_code == 400
    assert "The address must be the spreadsheet" in rejected.text


@pytest.mark.parametrize(
    ("header", "rows", "is_better"),
    [
        ("", ["Sales,Q1 2025,1000"], False),
        (",Status", ["Sales,Q1 2025,1000,Approved"], True),
        (",ExpenseRevenue", ["Sales,Q1 2025,1000,Expense"], True),
        ("", ["Sales,Q1 2025,1000", "Sales,Q1 2025,5", "Legal,Q1 2025,7"], True),
        ("", ["Sales,Q1 2025,1000", "Sales,Q1 2025,lots"], True),
        ("", ["Sales,Q1 2025,1000", "Legal,Q1 2025,lots"], False),
    ],
)
def test_upgraded_source_that_can_be_read_better_says_so(
    site: Flask, fiona: FlaskClient, header: str, rows: list[str], is_better: bool
) -> None:
    folder = site.config["SETTINGS"].csv_folder
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"Department,Fiscal Period,Budgeted Amount{header}", *rows]
    (folder / "plan.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    add_file(demo.CUSTOMER, folder, "plan.csv")
    BudgetDataSourceConfig.update(readingConfirmedBy="upgrade", readingFacts=None).execute()
    send(fiona, "/sync/run")
    hint = "Reread this source. It can be read better now."
    assert (hint in fiona.get("/sync").text) is is_better


@pytest.fixture
def google(site: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SheetsServer]:
    """A fake Google that the app uses."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = SheetsServer()
    site.config["SETTINGS"] = replace(
        site.config["SETTINGS"],
        google_credentials=server.credentials_file(tmp_path),
        google_sheets_api_url=server.url,
    )
    yield server
    server.stop()


ADDRESS = "https://docs.google.com/spreadsheets/d/{}/edit"


def test_tab_of_a_google_sheet_is_connected(fiona: FlaskClient, google: SheetsServer) -> None:
    rows = [line.split(",") for line in PLAIN.decode().splitlines()]
    google.share("shared-by-finance", rows, title="FY 2025", gid=7)
    assert EMAIL in fiona.get("/sync/connect").text
    address = ADDRESS.format("shared-by-finance")
    tabs = send(fiona, "/sync/tabs", address=address).text
    assert "FY 2025" in tabs
    connected = send(fiona, "/sync/tab", address=address, tab="gid=7")
    assert connected.location == f"/sync/reading?source={sources()[0].id}"
    assert send_answers(
        fiona, connected.location, fiona.get(connected.location).text, "confirm"
    ).location.startswith("/sync/pass")
    assert from_sheets() == {"Sales, Q1 2025": 100_000, "Design, Q1 2025": 250_000}
    again = send(fiona, "/sync/tab", address=address, tab="gid=7")
    assert "A source of this sheet exists already" in again.text


def test_sheet_that_is_not_shared_says_with_whom(fiona: FlaskClient, google: SheetsServer) -> None:
    rejected = send(fiona, "/sync/tabs", address=ADDRESS.format("not-shared-at-all"))
    assert rejected.status_code == 409
    assert EMAIL in rejected.text


def test_tab_that_cannot_be_read_creates_no_source(
    fiona: FlaskClient, google: SheetsServer
) -> None:
    rows = [line.split(",") for line in REVENUE.decode().splitlines()]
    google.share("revenue-of-parks", rows, title="Fees", gid=3)
    refused = send(fiona, "/sync/tab", address=ADDRESS.format("revenue-of-parks"), tab="gid=3")
    assert refused.status_code == 409
    assert "This tab cannot be used as it is." in refused.text
    assert sources() == []


def workbook(**sheets: list[list[object]]) -> bytes:
    """An Excel file with these worksheets."""
    book = Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    file = BytesIO()
    book.save(file)
    return file.getvalue()


HEADER: list[object] = ["Department", "Fiscal Period", "Budgeted Amount"]


def test_worksheet_of_an_excel_file_is_chosen(fiona: FlaskClient) -> None:
    content = workbook(
        Notes=[["Only text"]],
        Plan=[HEADER, ["Sales", "Q1 2025", 1000], ["Design", "Q1 2025", 2500.5]],
    )
    path = upload(fiona, content, name="plan.xlsx").location
    page = fiona.get(path).text
    assert "The file has 2 worksheets. Which one has the budgets?" in page
    page = send_answers(fiona, path, page, "read", {"worksheet": ["Plan"]}).text
    assert "$3,500.50" in page
    assert send_answers(fiona, path, page, "confirm").status_code == 302
    assert sources()[0].worksheet == "Plan"
    assert from_sheets() == {"Sales, Q1 2025": 100_000, "Design, Q1 2025": 250_050}
    assert "plan.xlsx / Plan" in fiona.get("/sync").text
    send(fiona, "/sync/run")
    assert [run.status for run in SyncHistory.select()] == ["success", "success"]
