"""Held changes and newer files in the console: sentences, answers, plans."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.console_sheets import connect, newer, sources, upload
from support.console_site import hidden, hold, member, send, token
from werkzeug.test import TestResponse

from budget_sync.database.models import AuditLog, Budget, SourceFile, SyncHistory
from budget_sync.domain.permissions import Role

pytestmark = pytest.mark.both_engines

HEADER = "Department,Fiscal Period,Budgeted Amount\n"


def sheet(**amounts: int) -> bytes:
    """A CSV file with these departments; "_" is a space."""
    rows = "".join(
        f"{name.replace('_', ' ')},Q1 2026,{amount}\n" for name, amount in amounts.items()
    )
    return (HEADER + rows).encode()


TEAMS = {f"Team_{letter}": 1000 * number for number, letter in enumerate("ABCDEFGH", 1)}


def budget(department: str) -> Budget:
    found: Budget = Budget.get(Budget.department == department)
    return found


def page_of(client: FlaskClient, source_id: str) -> str:
    return client.get(f"/sync/held?source={source_id}").text


def reply(client: FlaskClient, source_id: str, answer: str, **form: str) -> TestResponse:
    """Press the button of an answer."""
    listed = hidden(page_of(client, source_id), "listed")
    return send(client, f"/sync/held?source={source_id}", listed=listed, answer=answer, **form)


@pytest.fixture
def renamed(site: Flask, fiona: FlaskClient) -> tuple[str, Budget]:
    """A source in which a department with money on it may have a new name: id and old budget."""
    source_id = connect(fiona, sheet(Lamp_North=100_000, Sales=50_000))
    old = budget("Lamp North")
    hold("intake-7", 95_000, budget_id=old.id)
    newer(fiona, source_id, sheet(Lampe_North=100_000, Sales=51_000))
    return source_id, old


def test_held_rename_names_both_and_changes_nothing(
    fiona: FlaskClient, renamed: tuple[str, Budget]
) -> None:
    source_id, _ = renamed
    assert budget("Lamp North").deletedAt is None
    assert Budget.select().where(Budget.department == "Lampe North").count() == 0
    assert budget("Sales").budgetedMinor == 5_100_000
    page = page_of(fiona, source_id)
    assert (
        "Lamp North, Q1 2026 is gone and Lampe North, Q1 2026 is new, both with $100,000.00."
        in page
    )
    assert "$95,000.00 is reserved on the old one." in page
    assert "1 change is held" in fiona.get("/sync").text


def test_same_budget_keeps_its_money(fiona: FlaskClient, renamed: tuple[str, Budget]) -> None:
    source_id, old = renamed
    assert reply(fiona, source_id, "same", budget=old.id).location == "/sync"
    after = Budget.get_by_id(old.id)
    assert (after.department, after.deletedAt) == ("Lampe North", None)
    assert (
        Budget.select().where(Budget.deletedAt.is_null(), Budget.sourceId == source_id).count() == 2
    )
    assert "No held changes" in page_of(fiona, source_id)
    assert AuditLog.select().where(AuditLog.action == "ANSWER_HOLD").count() == 1
    assert f"rename of {old.id}: same budget (lampe north, 2026-Q1)" in fiona.get("/audit").text


def test_different_budget_starts_without_money(
    fiona: FlaskClient, renamed: tuple[str, Budget]
) -> None:
    source_id, old = renamed
    reply(fiona, source_id, "different", budget=old.id)
    assert Budget.get_by_id(old.id).deletedAt is not None
    assert budget("Lampe North").deletedAt is None


def test_answer_is_valid_only_for_the_changes_on_the_page(
    fiona: FlaskClient, renamed: tuple[str, Budget]
) -> None:
    source_id, old = renamed
    stale = send(fiona, f"/sync/held?source={source_id}", listed="x", answer="same", budget=old.id)
    assert stale.status_code == 409
    assert "What is held has changed." in stale.text
    for answer in ("", "maybe"):
        assert reply(fiona, source_id, answer, budget=old.id).status_code == 400
    for wrong in ("apply", "approve"):
        assert reply(fiona, source_id, wrong).status_code == 409
    assert reply(fiona, source_id, "same", budget="other").status_code == 409
    assert budget("Lamp North").deletedAt is None


def test_held_amounts_are_applied_after_the_answer(fiona: FlaskClient) -> None:
    source_id = connect(fiona, sheet(**TEAMS))
    newer(fiona, source_id, sheet(**{name: amount // 1000 for name, amount in TEAMS.items()}))
    assert budget("Team A").budgetedMinor == 100_000
    page = page_of(fiona, source_id)
    assert "All 8 amounts became a thousandth of what they were." in page
    assert "Is a decimal mark read differently?" in page
    reply(fiona, source_id, "apply")
    assert budget("Team A").budgetedMinor == 100
    assert "No held changes" in page_of(fiona, source_id)


def test_held_deletions_are_approved(fiona: FlaskClient) -> None:
    source_id = connect(fiona, sheet(**TEAMS))
    newer(fiona, source_id, sheet(Team_A=1000))
    page = page_of(fiona, source_id)
    assert "7 budgets are missing from the sheet" in page
    assert "Delete these 7 budgets" in page
    assert budget("Team B").deletedAt is None
    reply(fiona, source_id, "approve")
    live = Budget.select().where(Budget.sourceId == source_id, Budget.deletedAt.is_null())
    assert [each.department for each in live] == ["Team A"]


def test_role_that_only_reads_sees_no_buttons(
    site: Flask, fiona: FlaskClient, renamed: tuple[str, Budget]
) -> None:
    source_id, old = renamed
    reader = member(site, "reader", Role.FPA_USER)
    page = page_of(reader, source_id)
    assert "is gone and Lampe North" in page
    assert "An FP&amp;A admin can answer." in page
    assert "Same budget</button>" not in page
    sent = send(reader, f"/sync/held?source={source_id}", answer="same", budget=old.id)
    assert sent.status_code == 403


def test_newer_file_changes_nothing_before_it_is_applied(fiona: FlaskClient) -> None:
    source_id = connect(fiona, sheet(Sales=100))
    path = f"/sync/upload?source={source_id}"
    assert upload(fiona, sheet(Sales=200, Design=5), path).location == path
    page = fiona.get(path).text
    for text in ("Design, Q1 2026", "Sales, Q1 2026", "$200", "Nothing is applied yet."):
        assert text in page
    assert budget("Sales").budgetedMinor == 10_000
    assert "Review the newer file" in fiona.get("/sync").text
    send(fiona, "/sync/run")
    assert budget("Sales").budgetedMinor == 10_000


def test_newer_file_shows_what_is_left_out(fiona: FlaskClient) -> None:
    source_id = connect(fiona, sheet(Sales=100, Design=500))
    path = f"/sync/upload?source={source_id}"
    upload(fiona, sheet(Sales=100, Design=500) + b"Total,,600\n", path)
    assert "row 4 (total)" in fiona.get(path).text


def test_title_with_another_year_is_noted(fiona: FlaskClient) -> None:
    plan = b"Plan FY2031,\nDepartment,Amount\nSales,100\nDesign,500\n"
    source_id = connect(fiona, plan, {"period": ["FY2031"]})
    path = f"/sync/upload?source={source_id}"
    upload(fiona, plan.replace(b"2031", b"2032"), path)
    page = fiona.get(path).text
    assert "The title says 2032, but &#39;FY2031&#39; is confirmed for this sheet." in page
    assert "read the sheet again.</li>" in page


def test_applied_file_is_synced_and_audited(fiona: FlaskClient) -> None:
    source_id = connect(fiona, sheet(Sales=100))
    applied = newer(fiona, source_id, sheet(Sales=200, Design=5))
    assert applied.location.startswith("/sync/pass?id=")
    assert budget("Sales").budgetedMinor == 20_000
    assert AuditLog.select().where(AuditLog.action == "SET_FILE").count() == 1
    assert [file.state for file in SourceFile.select()] == ["current"]


def test_discarded_file_leaves_the_current_one(fiona: FlaskClient) -> None:
    source_id = connect(fiona, sheet(Sales=100))
    upload(fiona, sheet(Sales=200), f"/sync/upload?source={source_id}")
    send(fiona, f"/sync/upload/discard?source={source_id}")
    assert [file.state for file in SourceFile.select()] == ["current"]
    send(fiona, "/sync/run")
    assert budget("Sales").budgetedMinor == 10_000


def test_only_the_file_that_was_shown_is_applied(fiona: FlaskClient) -> None:
    source_id = connect(fiona, sheet(Sales=100))
    path = f"/sync/upload?source={source_id}"
    upload(fiona, sheet(Sales=200), path)
    shown = hidden(fiona.get(path).text, "shown")
    upload(fiona, sheet(Sales=900), path)
    stale = send(fiona, f"/sync/upload/use?source={source_id}", shown=shown)
    assert stale.status_code == 409
    assert budget("Sales").budgetedMinor == 10_000


def test_file_with_another_layout_is_read_again(fiona: FlaskClient) -> None:
    source_id = connect(fiona, sheet(Sales=100))
    path = f"/sync/upload?source={source_id}"
    other = sheet(Sales=200).replace(b"Budgeted Amount", b"Adopted Budget")
    upload(fiona, other, path)
    page = fiona.get(path).text
    assert "Budgeted Amount" in page
    assert "Read the sheet again to confirm." in page
    assert "reread-source" not in page
    assert ">Apply</button>" not in page
    again = f"/sync/again?source={source_id}"
    page = fiona.get(again).text
    assert "read from the newer file plan.csv" in page
    form = {"csrf_token": token(fiona), "shown": hidden(page, "shown"), "do": "confirm"}
    assert fiona.post(again, data=form).status_code == 302
    assert budget("Sales").budgetedMinor == 20_000
    assert [file.state for file in SourceFile.select()] == ["current"]


def test_runs_show_notes_and_left_out_rows(fiona: FlaskClient) -> None:
    total = b"Total,,600\n"
    source_id = connect(fiona, sheet(Sales=100, Design=500) + total)
    run = SyncHistory.get(SyncHistory.sourceId == source_id)
    page = fiona.get(f"/sync/pass?id={run.syncId}").text
    assert "1 row left out" in page
    assert "plan.csv, <time" in page
    assert "total" in page


def test_source_of_a_sheet_is_not_an_uploaded_file(fiona: FlaskClient) -> None:
    upload(fiona, sheet(Sales=100))
    waiting = sources()[0].id
    assert fiona.get(f"/sync/upload?source={waiting}").status_code == 404
