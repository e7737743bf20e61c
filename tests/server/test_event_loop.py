"""The server finds the views that may run on its event loop by their decorator."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import cast

import pytest
from flask import Flask

from budget_sync.server.connection import Connection
from budget_sync.server.event_loop import event_loop_requests
from budget_sync.server.worker import MAX_LOOP_BYTES, Worker
from budget_sync.web.server_interface import runs_on_event_loop


@pytest.fixture
def small_app() -> Flask:
    """An app with two views on the event loop, one of them at two paths, and one in threads."""
    app = Flask("small")

    @app.post("/fast")
    @app.put("/also-fast")
    @runs_on_event_loop
    def fast() -> str:
        return ""

    @app.post("/slow")
    def slow() -> str:
        return ""

    @app.get("/read")
    @runs_on_event_loop
    def read() -> str:
        return ""

    return app


@pytest.mark.parametrize(
    ("request_line", "is_found"),
    [
        ("POST /fast HTTP/1.1", True),
        ("POST /fast?dry=1 HTTP/1.1", True),
        ("PUT /also-fast HTTP/1.1", True),
        ("GET /read HTTP/1.1", True),
        ("POST /slow HTTP/1.1", False),
        ("GET /fast HTTP/1.1", False),
        ("OPTIONS /fast HTTP/1.1", False),
        ("POST /faster HTTP/1.1", False),
        ("POST /fast/slow HTTP/1.1", False),
    ],
)
def test_only_decorated_views_are_found(
    small_app: Flask, request_line: str, is_found: bool
) -> None:
    requests = event_loop_requests(small_app)
    assert request_line.encode().startswith(requests) == is_found


def test_view_on_event_loop_needs_url_without_variables(small_app: Flask) -> None:
    small_app.get("/read/<name>")(runs_on_event_loop(lambda name: name))
    with pytest.raises(ValueError, match="/read/<name>"):
        event_loop_requests(small_app)


def test_app_without_decorated_views_has_none() -> None:
    requests = event_loop_requests(Flask("empty"))
    assert not requests
    assert not b"GET / HTTP/1.1".startswith(requests)


def test_budget_calls_run_on_the_event_loop(app: Flask) -> None:
    verbs = ("check", "reserve", "amend", "commit", "release", "reverse", "spend")
    lines = [*(f"POST /api/budget/{verb}" for verb in verbs), "GET /api/events", "HEAD /api/events"]
    expected = {f"{line}{end}".encode() for line in lines for end in (" ", "?")}
    assert set(event_loop_requests(app)) == expected


def test_no_other_post_runs_on_the_event_loop(app: Flask) -> None:
    beginnings = event_loop_requests(app)
    for rule in app.url_map.iter_rules():
        line = f"POST {rule.rule} HTTP/1.1".encode()
        assert line.startswith(beginnings) == line.startswith(b"POST /api/budget/"), line


@pytest.mark.parametrize(("length", "runs_here"), [(MAX_LOOP_BYTES, True), (8193, False)])
def test_long_request_gets_a_thread(length: int, runs_here: bool) -> None:
    worker = object.__new__(Worker)
    worker.event_loop_requests = (b"POST /api/budget/check ",)
    ours, theirs = socket.socketpair()
    data = b"POST /api/budget/check HTTP/1.1\r\n".ljust(length)
    with ours, theirs:
        connection = SimpleNamespace(
            sock=ours, buffer=SimpleNamespace(data=data, is_cut=False, fault=None)
        )
        assert worker._may_run_here(cast(Connection, connection)) == runs_here
