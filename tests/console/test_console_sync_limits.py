"""Previews and sync runs from pages: at most so many at once, per customer and in all.

While a sheet is fetched, no database connection is held, whatever started it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.console_sheets import upload
from support.console_site import hidden, member, send
from support.sources import add_file
from support.world import ROOT
from werkzeug.test import TestResponse

from budget_sync import database, sync
from budget_sync.accounts import customers
from budget_sync.database import db
from budget_sync.database.models import BudgetDataSourceConfig, SyncHistory
from budget_sync.database.postgres.pool import PostgresServer
from budget_sync.domain.permissions import Role
from budget_sync.operations import demo
from budget_sync.operations.doctor import checklist
from budget_sync.sync import fetch
from budget_sync.sync.files import read_source_file
from budget_sync.web.console.sync_base import RUNS_IN_ALL, RUNS_PER_CUSTOMER

pytestmark = pytest.mark.both_engines

SECRET = "a secret of cron's, long enough"
PLAN = "Department,Fiscal Period,Budgeted Amount\nSales,Q1 2025,1000\n"


class SlowSheets:
    """Replaces the fetch of CSV files by one that takes as long as the test wants."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go_on = threading.Event()
        self.go_on.set()
        self.waiting = threading.Semaphore(0)
        self.connections_in_use: list[int] = []
        self._read = read_source_file
        monkeypatch.setattr(fetch, "read_source_file", self._fetch)

    def _fetch(self, *arguments: Any) -> Any:
        self.connections_in_use.append(connections_in_use())
        self.waiting.release()
        assert self.go_on.wait(20)
        return self._read(*arguments)

    @contextmanager
    def in_progress(self, *calls: Callable[[], Any]) -> Iterator[list[Any]]:
        """Calls that wait for their sheets inside, and have ended after it, with their results."""
        results: list[Any] = []
        # Without the fetches of earlier calls.
        self.waiting = threading.Semaphore(0)
        self.go_on.clear()
        threads = [
            threading.Thread(target=lambda call=call: results.append(call())) for call in calls
        ]
        try:
            for thread in threads:
                thread.start()
            for _ in threads:
                assert self.waiting.acquire(timeout=20)
            yield results
        finally:
            self.go_on.set()
            for thread in threads:
                thread.join()


def connections_in_use() -> int:
    """All pooled connections in use on PostgreSQL; on SQLite, this thread's open connection."""
    if isinstance(db.obj, PostgresServer):
        return len(db.obj._in_use)  # noqa: SLF001  # the pool has no public count
    return int(not db.is_closed())


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> SlowSheets:
    return SlowSheets(monkeypatch)


@pytest.fixture
def source(site: Flask) -> sync.Source:
    return add_source(site, demo.CUSTOMER)


def add_source(site: Flask, customer_id: str) -> sync.Source:
    folder: Path = site.config["SETTINGS"].csv_folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{customer_id}.csv").write_text(PLAN, encoding="utf-8")
    return add_file(customer_id, folder, f"{customer_id}.csv")


def other_admin(site: Flask, customer_id: str) -> FlaskClient:
    """An FP&A admin of another customer, which has a source as well."""
    customers.add_customer(ROOT, customer_id, customer_id)
    add_source(site, customer_id)
    return member(site, f"admin-of-{customer_id}", Role.FPA_ADMIN, customer_id)


def preview(client: FlaskClient) -> TestResponse:
    try:
        # A client of its own for each thread.
        return client.application.test_client(use_cookies=False).get(
            "/sync/preview", headers={"Cookie": cookie(client)}
        )
    finally:
        database.close_connection()


def cookie(client: FlaskClient) -> str:
    found = client.get_cookie("budget_sync_session")
    assert found is not None
    return f"{found.key}={found.value}"


def job(site: Flask) -> sync.Job:
    chosen = site.config["SETTINGS"]
    return sync.Job(ROOT, sync.Reach.of(chosen), chosen.instance_folder)


@pytest.mark.parametrize("page", ["preview", "run", "held", "again", "file"])
def test_page_runs_of_a_customer_are_limited(
    site: Flask, fiona: FlaskClient, source: sync.Source, slow: SlowSheets, page: str
) -> None:
    sync.sync_source(job(site), source)
    other = other_admin(site, "other")
    before = SyncHistory.select().count()
    calls = [*[lambda: preview(fiona)] * RUNS_PER_CUSTOMER, lambda: preview(other)]
    with slow.in_progress(*calls) as results:
        if page == "preview":
            rejected = preview(fiona)
        elif page == "run":
            rejected = send(fiona, "/sync/run")
        elif page == "held":
            rejected = send(fiona, f"/sync/held?source={source.id}", listed="x")
        elif page == "again":
            rejected = fiona.get(f"/sync/again?source={source.id}")
        else:
            rejected = upload(fiona, PLAN.encode())
    assert rejected.status_code == 429
    assert int(rejected.headers["Retry-After"]) > 0
    assert f"{RUNS_PER_CUSTOMER} previews or sync runs of this customer" in rejected.text
    assert "Wait until one of them has finished, then try again." in rejected.text
    assert [response.status_code for response in results] == [200] * len(calls)
    assert SyncHistory.select().count() == before
    assert preview(fiona).status_code == 200


def test_page_runs_in_all_are_limited(site: Flask, slow: SlowSheets) -> None:
    admins = [other_admin(site, f"org-{number}") for number in range(RUNS_IN_ALL + 1)]
    calls = [lambda client=client: preview(client) for client in admins[:-1]]
    with slow.in_progress(*calls):
        rejected = preview(admins[-1])
    assert rejected.status_code == 429
    assert int(rejected.headers["Retry-After"]) > 0
    assert "previews or sync runs of other customers" in rejected.text


def test_preview_page_shows_a_limited_number_of_lines(
    site: Flask, fiona: FlaskClient, source: sync.Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("budget_sync.web.console.sync.MAX_PREVIEW_LINES", 10)
    file = site.config["SETTINGS"].csv_folder / (source.target.file_path or "")
    rows = "".join(f"Team {number:02},Q1 2025,1\n" for number in range(24))
    file.write_text(PLAN + rows, encoding="utf-8")
    page = fiona.get("/sync/preview").text
    assert "Team 08" in page
    assert "Team 09" not in page
    assert "And 15 more." in page
    assert "25 to create" in page


def test_role_without_permission_uses_no_slot(
    site: Flask, fiona: FlaskClient, source: sync.Source, slow: SlowSheets
) -> None:
    only_reads = member(site, "felix", Role.FPA_USER)
    with slow.in_progress(*[lambda: preview(fiona)] * RUNS_PER_CUSTOMER):
        assert preview(only_reads).status_code == 403


WAYS: dict[str, Callable[[Flask, FlaskClient, sync.Source], object]] = {
    "a sync command": lambda site, *_: list(sync.sync_all(job(site))),
    "a dry run": lambda site, *_: list(sync.preview_all(job(site))),
    "a preview page": lambda _, fiona, __: fiona.get("/sync/preview"),
    "a run from a page": lambda _, fiona, __: send(fiona, "/sync/run"),
    "approved deletions": lambda _, fiona, source: approve(fiona, source),
    "reading a sheet again": lambda _, fiona, source: fiona.get(f"/sync/again?source={source.id}"),
    "the cron call": lambda site, *_: call_cron(site),
    "the doctor": lambda site, *_: list(
        checklist._sheet_sync(ROOT, site.config["SETTINGS"])  # noqa: SLF001  # only this line of it
    ),
}


def approve(fiona: FlaskClient, source: sync.Source) -> None:
    page = fiona.get(f"/sync/held?source={source.id}").text
    listed = hidden(page, "listed")
    response = send(fiona, f"/sync/held?source={source.id}", listed=listed, answer="approve")
    assert response.status_code == 302


def call_cron(site: Flask) -> Any:
    site.config["SETTINGS"] = replace(site.config["SETTINGS"], cron_secret=SECRET)
    response = site.test_client().get(
        "/api/cron/sync-google-sheets", headers={"Authorization": f"Bearer {SECRET}"}
    )
    database.close_connection()
    assert response.status_code == 200
    return response.get_json()


def test_cron_call_during_another_one_skips_every_source(
    site: Flask, source: sync.Source, slow: SlowSheets
) -> None:
    before = SyncHistory.select().count()
    with slow.in_progress(lambda: call_cron(site)) as first:
        second = call_cron(site)
    (skipped,) = second["results"]
    assert (skipped["sourceId"], skipped["status"]) == (source.id, "skipped")
    assert skipped["message"] == "Another call to sync all sources is in progress."
    assert [result["status"] for result in first[0]["results"]] == ["success"]
    database.open_connection()
    assert SyncHistory.select().count() == before + 1


def test_run_next_to_another_one_starts_no_child(
    site: Flask, source: sync.Source, slow: SlowSheets, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first() -> Any:
        try:
            return sync.sync_source(job(site), source)
        finally:
            database.close_connection()

    def no_child(*_: Any) -> None:
        pytest.fail("a child process was started")

    with slow.in_progress(first), monkeypatch.context() as patched:
        patched.setattr("budget_sync.sync.isolated.call", no_child)
        child = sync.Database.of(site.config["SETTINGS"])
        second = sync.sync_source(replace(job(site), child_database=child), source)
    assert second.status == "skipped"
    assert second.message == "Another sync run of this source is in progress."


@pytest.mark.parametrize("way", WAYS)
def test_no_connection_is_held_while_a_sheet_is_fetched(
    site: Flask, fiona: FlaskClient, source: sync.Source, slow: SlowSheets, way: str
) -> None:
    if way == "approved deletions":
        lose_rows(site, source)
    database.close_connection()
    slow.connections_in_use.clear()
    WAYS[way](site, fiona, source)
    assert slow.connections_in_use == [0]
    database.open_connection()
    assert BudgetDataSourceConfig.get().id == source.id


def lose_rows(site: Flask, source: sync.Source) -> None:
    """Sync a sheet from which most rows disappear, so that deletions are held."""
    file = site.config["SETTINGS"].csv_folder / (source.target.file_path or "")
    file.write_text(PLAN + "A,Q1 2025,1\nB,Q1 2025,1\nC,Q1 2025,1\n", encoding="utf-8")
    sync.sync_source(job(site), source)
    file.write_text(PLAN, encoding="utf-8")
    sync.sync_source(job(site), source)
