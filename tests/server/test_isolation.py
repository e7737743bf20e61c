"""The server's child processes, which read sheets: they delay no worker and outlive none."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from support.installation import Installation, found
from support.machine import wait_until
from support.sheets_server import VALUES, Handler, SheetsServer
from support.sources import write_reading

from budget_sync.operations import demo
from budget_sync.sync.standard import standard_reading

pytestmark = [
    pytest.mark.both_engines,
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc"),
]

KEY = "the-spreadsheet"
ROWS: list[list[Any]] = [
    ["Department", "Fiscal Period", "Budgeted Amount"],
    ["Sales", "Q1 2025", 1000],
]


class SlowSheet:
    """A server whose only sheet does not answer while a test is inside `reading`."""

    def __init__(self, server: Installation, google: SheetsServer) -> None:
        self.server, self.google = server, google
        self.go_on = threading.Event()
        self.replies: list[requests.Response] = []

    @contextmanager
    def reading(self, path: str) -> Iterator[int]:
        """A request that waits for the sheet; gives the process id of the child that reads it."""
        session = self.server.session("fiona")
        page = session.get(f"{self.server.url}/sync", timeout=30).text
        token = re.search(r'name="csrf_token" value="([^"]+)"', page)
        assert token
        self.google.fail(VALUES, self._hold)

        def send() -> None:
            # The worker may be killed.
            with suppress(requests.ConnectionError):
                method = "POST" if path == "/sync/run" else "GET"
                self.replies.append(
                    session.request(
                        method,
                        f"{self.server.url}{path}",
                        data={"csrf_token": token[1]} if method == "POST" else None,
                        timeout=60,
                        allow_redirects=False,
                    )
                )

        thread = threading.Thread(target=send)
        thread.start()
        try:
            wait_until(lambda: self.google.faults[VALUES] == [], "the sheet is not read")
            (child,) = self.children()
            yield child
        finally:
            self.go_on.set()
            thread.join()

    def _hold(self, handler: Handler, payload: bytes) -> None:
        self.go_on.wait(60)
        # The child may be gone.
        with suppress(OSError):
            handler.send(200, payload)

    def children(self) -> list[int]:
        """The children of all workers."""
        return [
            int(child)
            for worker in self.server.workers
            for task in Path(f"/proc/{worker}/task").iterdir()
            for child in (task / "children").read_text(encoding="ascii").split()
        ]


@pytest.fixture
def slow_sheet(installation: Installation) -> Iterator[SlowSheet]:
    google = SheetsServer()
    google.share(KEY, ROWS)
    installation.environment |= {
        "GOOGLE_APPLICATION_CREDENTIALS": str(google.credentials_file(installation.folder)),
        "GOOGLE_SHEETS_API_URL": google.url,
        "NO_PROXY": "127.0.0.1",
    }
    for source in found(installation.target, 'SELECT "id" FROM "BudgetDataSourceConfig"'):
        installation.flask("remove-source", source[0])
    installation.flask(
        *("add-source", "--customer", demo.CUSTOMER),
        *("--spreadsheet", KEY, "--worksheet", "Budgets", "--accept"),
        *("--reading", str(write_reading(installation.folder, standard_reading(is_csv=False)))),
    )
    installation.start()
    yield SlowSheet(installation, google)
    google.stop()


def is_gone(pid: int) -> Callable[[], bool]:
    return lambda: (
        not Path(f"/proc/{pid}/cmdline").exists() or not (Path(f"/proc/{pid}/cmdline").read_bytes())
    )


def test_sheet_is_read_by_a_child_that_ends(slow_sheet: SlowSheet) -> None:
    with slow_sheet.reading("/sync/preview") as child:
        assert os.getpriority(os.PRIO_PROCESS, child) > 0
    assert slow_sheet.replies[0].status_code == 200
    assert "Sales, Q1 2025" in slow_sheet.replies[0].text
    wait_until(lambda: not slow_sheet.children(), "the child is still there")


@pytest.mark.parametrize("path", ["/sync/preview", "/sync/run"])
def test_stopping_the_server_ends_a_run(slow_sheet: SlowSheet, path: str) -> None:
    with slow_sheet.reading(path) as child:
        began = time.monotonic()
        assert slow_sheet.server.stop() == 0
        assert time.monotonic() - began < 15
        assert is_gone(child)()
    (reply,) = slow_sheet.replies
    if path == "/sync/preview":
        assert "Stopped by SIGTERM. Nothing was changed." in reply.text
    else:
        assert reply.status_code == 302
        runs = found(slow_sheet.server.target, 'SELECT "status", "message" FROM "SyncHistory"')
        assert ("failed", "Stopped by SIGTERM. Nothing was changed.") in runs
    assert "Traceback" not in slow_sheet.server.log


@pytest.mark.parametrize("whole_server", [False, True], ids=["a worker", "the server"])
def test_no_child_outlives_a_killed_worker(slow_sheet: SlowSheet, whole_server: bool) -> None:
    with slow_sheet.reading("/sync/preview") as child:
        (worker,) = (
            pid
            for pid in slow_sheet.server.workers
            if str(pid) == Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1]
        )
        if whole_server:
            slow_sheet.server.end()
        else:
            os.kill(worker, signal.SIGKILL)
        wait_until(is_gone(child), "the child is still there")


def test_killed_child_fails_its_source_only(slow_sheet: SlowSheet) -> None:
    with slow_sheet.reading("/sync/run") as child:
        workers = slow_sheet.server.workers
        os.kill(child, signal.SIGKILL)
    assert slow_sheet.replies[0].status_code == 302
    runs = found(slow_sheet.server.target, 'SELECT "status", "message" FROM "SyncHistory"')
    assert [status for status, message in runs if message and "MB of memory" in message] == [
        "failed"
    ]
    assert slow_sheet.server.workers == workers
    assert "ended without a result, with status -9" in slow_sheet.server.log
