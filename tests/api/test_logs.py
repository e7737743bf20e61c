"""The log: every line has the id of its request, and no line has a secret."""

from __future__ import annotations

import io
import json
import logging
import re
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import peewee
import pytest
import requests
from flask import Flask
from gunicorn.http import errors
from operations.test_commands import TYPED
from support.installation import Installation
from support.machine import PROJECT, sqlite_only, wait_until
from support.world import ROOT, check_body, key_headers, release_body, reserve_body

from app import create_app
from budget_sync import database, ledger, settings, sync
from budget_sync.accounts import api_keys, customers, people
from budget_sync.database import db, transact
from budget_sync.domain import clock
from budget_sync.domain.errors import RequestError
from budget_sync.operations import demo
from budget_sync.runtime.correlation import current_id, join_ids
from budget_sync.server import early_errors
from budget_sync.settings import Settings

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ [A-Z]+ \S+ \[([A-Za-z0-9._,+-]+)\] .*")


@contextmanager
def log_of(app: Flask) -> Iterator[io.StringIO]:
    """The log lines of this context."""
    caught = io.StringIO()
    handler = logging.getLogger("budget_sync").handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    before = handler.setStream(caught)
    yield caught
    handler.setStream(before)


def ids(caught: io.StringIO) -> list[str]:
    """The id of each line. Asserts that every line has the format of the service."""
    matches = [LINE.fullmatch(line) for line in caught.getvalue().splitlines()]
    assert all(matches), caught.getvalue()
    return [match.group(1) for match in matches if match]


def test_lines_of_all_threads_have_the_request_id(
    world: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = ledger.reserve

    def logging_reserve(*arguments: Any, **options: Any) -> Any:
        def work() -> None:
            logging.getLogger("budget_sync.ledger").warning("on the thread that writes")

        transact(work)
        logging.getLogger("urllib3").warning("from a library")
        return original(*arguments, **options)

    monkeypatch.setattr(ledger, "reserve", logging_reserve)
    headers = key_headers()
    with log_of(world) as log:
        for number in (1, 2):
            assert (
                world.test_client()
                .post(
                    "/api/budget/reserve",
                    json=reserve_body(requestId=f"r-{number}"),
                    headers=headers | {"X-Request-Id": f"mine-{number}"},
                )
                .status_code
                == 200
            )
        logging.getLogger("budget_sync").warning("after both")
    assert ids(log) == ["mine-1", "mine-1", "mine-2", "mine-2", "-"]


def test_traceback_has_the_id_and_cannot_forge_lines(
    world: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError(
            "half\n2026-01-01T00:00:00Z INFO budget_sync [forged] all is well\x1b[2J"
        )

    monkeypatch.setattr(ledger, "check", broken)
    with log_of(world) as log:
        response = world.test_client().post(
            "/api/budget/check", json=check_body(), headers=key_headers()
        )
    assert response.status_code == 500
    assert len(ids(log)) > 5
    assert set(ids(log)) == {response.headers["X-Request-Id"]}
    assert "\x1b" not in log.getvalue()


@sqlite_only
def test_line_about_several_requests_has_all_ids(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing() -> None:
        raise peewee.OperationalError("disk I/O error")

    with log_of(app) as log:
        before = current_id.set("one")
        monkeypatch.setattr(type(db.obj), "commit", lambda _: failing())
        with pytest.raises(RequestError, match="unknown"):
            transact(clock.now)
        current_id.reset(before)
    assert set(ids(log)) == {"one"}
    assert "A commit failed" in log.getvalue()
    assert join_ids(["one", "two", "one"]) == "one,two"
    assert join_ids(map(str, range(30))) == "0,1,2,3,4,5,6,7,8,9,+20"
    assert join_ids([]) == "-"


def test_json_line_is_one_object_with_the_id(
    chosen: Settings, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    json_app = create_app(replace(chosen, log_format="json"))

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr(database, "require_current_schema", broken)
    with log_of(json_app) as log:
        json_app.test_client().get("/readyz", headers={"X-Request-Id": "mine"})
    entries = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [entry["requestId"] for entry in entries] == ["mine", "mine"]
    assert "ZeroDivisionError: two\nlines" in entries[0]["trace"]


def test_command_logs_unhandled_exceptions_with_its_id(
    world: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("half")

    monkeypatch.setattr(sync.fetch, "fetch_source", broken)
    with log_of(world) as log, world.app_context():
        result = world.test_cli_runner().invoke(args=["sync-sheets"])
    assert result.exit_code == 1
    assert "and was logged" in result.stderr
    assert "ZeroDivisionError: half" in log.getvalue()
    assert len(set(ids(log))) == 1
    assert re.fullmatch(r"run-[0-9a-f]{8}", ids(log)[0])


def test_threads_of_a_sync_over_http_log_its_id(
    world: Flask, chosen: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("half")

    monkeypatch.setattr(sync.fetch, "fetch_source", broken)
    world.config["SETTINGS"] = replace(chosen, cron_secret="a secret for cron, long enough")
    with log_of(world) as log:
        headers = {"Authorization": "Bearer a secret for cron, long enough", "X-Request-Id": "mine"}
        assert (
            world.test_client().get("/api/cron/sync-google-sheets", headers=headers).status_code
            == 200
        )
    assert set(ids(log)) == {"mine"}


#: The service with a page that fails while it is sent.
BREAKING = """
from app import create_app
from budget_sync.settings import load
from budget_sync.server.arbiter import Server

def pieces():
    yield "the first part"
    raise ZeroDivisionError("half")

def make_app():
    app = create_app(load())
    app.add_url_rule("/breaks", view_func=lambda: pieces())
    return app

Server(make_app, host="127.0.0.1", port={port}, workers=1).run()
"""


def test_reply_that_breaks_off_is_logged_with_its_id(
    installation: Installation,
) -> None:
    log = installation.folder / "server.log"
    code = BREAKING.format(port=installation.port)
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=PROJECT,
            env=installation.full_environment(),
            stderr=file,
        ) as server,
    ):
        try:
            wait_until(lambda: is_there(installation), "the server does not reply")
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                requests.get(
                    f"{installation.url}/breaks", headers={"X-Request-Id": "mine"}, timeout=10
                )
            # The next request of the same thread has another id.
            assert (
                requests.get(f"{installation.url}/healthz", timeout=10).headers["X-Request-Id"]
                != "mine"
            )
        finally:
            server.terminate()
    lines = [line for line in log.read_text(encoding="utf-8").splitlines() if " ERROR " in line]
    assert "ZeroDivisionError: half" in lines[-1]
    assert {match and match[1] for match in map(LINE.fullmatch, lines)} == {"mine"}


def is_there(installation: Installation) -> bool:
    """Whether the server replies."""
    try:
        return requests.get(f"{installation.url}/healthz", timeout=5).ok
    except requests.ConnectionError:
        return False


# Secrets. All contain this mark, so that one search finds any of them.
MARK = f"s3cr3t-{secrets.token_hex(8)}"


def secret(of: str) -> str:
    return f"{of}-{MARK}-long-enough"


@sqlite_only
def test_no_call_logs_a_secret(environment: dict[str, str]) -> None:
    installation = Installation(
        environment
        | {name: secret(name) for name in ("SECRET_KEY", "CRON_SECRET", "METRICS_TOKEN")}
        | {"LOG_LEVEL": "DEBUG"}
    )
    app = prepare(installation)
    key = api_keys.add_key(ROOT, "orchestrator", customer_id=demo.CUSTOMER)
    database.disconnect()
    installation.start("--workers", "1")
    session = requests.Session()
    assert (
        session.post(
            f"{installation.url}/api/auth/login",
            json={"email": "mark@acme.com", "password": secret("password")},
            timeout=30,
        ).status_code
        == 200
    )
    cookie = session.cookies["budget_sync_session"]
    try:
        call_everything(installation, app, key, cookie)
        # And again without a database.
        installation.database.rename(installation.database.with_suffix(".gone"))
        call_everything(installation, app, key, cookie)
    finally:
        installation.stop()
    log = installation.log
    assert "is not available" in log
    assert {line for line in log.splitlines() if not LINE.fullmatch(line)} == set()
    for hidden in (MARK, key.split("_", 2)[2], cookie, max(cookie.split("."), key=len)):
        assert hidden not in log


def prepare(installation: Installation) -> Flask:
    """The app of an installation with a person whose password has the mark."""
    chosen = settings.load(installation.environment)
    chosen.instance_folder.mkdir(parents=True)
    database.connect(chosen.database, create=True)
    database.init_schema()
    customers.add_customer(ROOT, demo.CUSTOMER, "Acme Inc.")
    people.add_user(
        ROOT,
        "mark",
        "Mark",
        "mark@acme.com",
        "admin",
        customer_id=demo.CUSTOMER,
        password=secret("password"),
        slots_folder=chosen.instance_folder,
    )
    return create_app(chosen)


def call_everything(installation: Installation, app: Flask, key: str, cookie: str) -> None:
    """Call every path with every method.

    With valid and invalid credentials in turn, and secrets in right and wrong places.
    """
    credentials: tuple[dict[str, str], ...] = (
        {"Authorization": f"Bearer {key}"},
        {"Authorization": f"Bearer {key}{MARK}"},
        {"Authorization": f"Basic {MARK}"},
        {"Authorization": f"Bearer {secret('CRON_SECRET')}"},
        {"Authorization": f"Bearer {secret('METRICS_TOKEN')}"},
        {"Cookie": f"budget_sync_session={cookie}"},
        {"Cookie": f"budget_sync_session={cookie}{MARK}"},
    )
    body = (
        {"email": "mark@acme.com", "password": secret("password")}
        | check_body()
        | reserve_body()
        | release_body(originalRequesterId=MARK)
    )
    bodies = (
        json.dumps(body),
        f'{{"password": "{MARK}", "password": "{MARK}"}}',
        f'{{"amount": "{MARK}"',
        json.dumps(body | {"amount": MARK}),
    )
    turns = cycle(enumerate(credentials))
    with requests.Session() as caller:
        for rule in app.url_map.iter_rules():
            path = re.sub(r"<[^>]+>", "x", rule.rule)
            for method in (rule.methods or set()) - {"OPTIONS"}:
                # Three credentials for each method, so that all of them have a turn.
                for number, headers in islice(turns, 3):
                    caller.request(
                        method,
                        f"{installation.url}{path}?key={key}&password={MARK}",
                        data=bodies[number % len(bodies)] if method != "GET" else None,
                        headers={"Content-Type": "application/json"} | headers,
                        allow_redirects=False,
                        timeout=30,
                    )


#: Invalid or incomplete HTTP, with a secret in each invalid part.
MALFORMED = (
    *(
        f"GET / HTTP/1.1\r\nHost: localhost\r\n{line}\r\n\r\n"
        for line in (
            f"Authorization Bearer {MARK}",
            f"Bearer {MARK}: x",
            f"X: y\r\n {MARK}",
            f"X: {MARK}\x00",
        )
    ),
    *(
        f"GET / HTTP/1.1\r\nHost: localhost\r\n{line}\r\n\r\n"
        for line in (
            f"Expect: {MARK}",
            f"Host: {MARK}",
            f"Transfer-Encoding: {MARK}",
            f"Content-Length: {MARK}",
        )
    ),
    *(
        f"{line}\r\nHost: localhost\r\n\r\n"
        for line in (
            f"GET /?key={MARK} HTTP/3.1",
            f"GET /?key={MARK} {MARK}",
            f"GET /?key={MARK}",
            f"{MARK} / HTTP/1.1",
            f"GET {MARK} HTTP/1.1",
        )
    ),
    f"GET /?key={MARK}{'x' * 10_000} HTTP/1.1\r\n\r\n",
    f"GET / HTTP/1.1\r\nX: {MARK}{'x' * 10_000}\r\n\r\n",
    f"GET / HTTP/1.1\r\nX: {MARK}{'x' * 40_000}",
    (
        "POST /api/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f'Content-Length: 2\r\n\r\n{{}}{{"password":"{MARK}"}}\r\n\r\n'
    ),
    *(
        f"{call} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
        f"Transfer-Encoding: chunked\r\n\r\n{body}"
        for call, kind in (
            ("POST /api/auth/login", "application/json"),
            ("POST /sign-in", "application/x-www-form-urlencoded"),
            ("GET /healthz", "text/plain"),
        )
        for body in (
            f"{MARK}\r\n",
            f"1;{MARK}=;=\r\na\r\n0\r\n\r\n",
            f"1\r\na{MARK}",
            f"1\r\na\r\n0\r\n{MARK}\r\n\r\n",
        )
    ),
)


@sqlite_only
def test_malformed_request_is_logged_without_its_text(
    environment: dict[str, str], app: Flask
) -> None:
    installation = Installation(environment | {"LOG_LEVEL": "DEBUG"})
    database.disconnect()
    installation.start("--workers", "1")
    try:
        replies = [exchange(installation.port, sent.encode("latin-1")) for sent in MALFORMED]
    finally:
        installation.stop()
    log = installation.log
    assert MARK not in log
    assert "Traceback" not in log
    rejected = re.findall(
        r"WARNING gunicorn.error \[([0-9a-f]{16})\] "
        r"Rejected before it reached the app: \d{3} (.+)",
        log,
    )
    assert {kind for _, kind in rejected} >= {
        f"The request is malformed: invalid {what}."
        for what in ("header", "request line", "length", "chunk")
    }
    for sent, reply in zip(MALFORMED, replies, strict=True):
        assert reply.startswith((b"HTTP/1.1 4", b"HTTP/1.1 501", b"HTTP/1.1 200")), (sent, reply)
        assert MARK.encode() not in reply
    # A reply from below the app has the same id and sentence as its log line.
    early_replies = [
        (found[1].decode(), json.loads(found[2])["error"])
        for reply in replies
        for found in re.finditer(
            rb"X-Request-Id: ([0-9a-f]{16})\r\nContent-Type.*\r\n.*\r\n\r\n(.*)", reply
        )
    ]
    assert {(log_id, kind) for log_id, kind in rejected} >= {
        (log_id, error.partition(". ")[2]) for log_id, error in early_replies
    }
    assert len(early_replies) > len(MALFORMED) / 2


def exchange(port: int, sent: bytes) -> bytes:
    """All received bytes after sending some, until the connection is closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while data := connection.recv(65_536):
            received += data
    return received


def test_every_parser_error_has_a_reply() -> None:
    """Others would be logged as unhandled exceptions, with a message that quotes the request."""
    not_expected = {
        # Errors of settings that this service does not use.
        *(
            errors.InvalidProxyLine,
            errors.InvalidProxyHeader,
            errors.ForbiddenProxyRequest,
            errors.InvalidSchemeHeaders,
            errors.InvalidH2CPreface,
        ),
        # Bugs of the app, and the base class.
        *(
            errors.ConfigurationProblem,
            errors.InvalidResponseHeader,
            errors.InvalidResponseHeaderName,
            errors.ParseException,
        ),
    }
    assert {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.ParseException)
    } - not_expected == set(early_errors.MALFORMED)


# Commands that print a secret on standard output on purpose.
PRINTING = {"add-key", "demo"}


@sqlite_only
@pytest.mark.parametrize("has_database", [True, False], ids=["database", "no database"])
def test_commands_do_not_print_secrets(
    environment: dict[str, str], tmp_path: Path, has_database: bool
) -> None:
    marked = {name: secret(name) for name in ("SECRET_KEY", "CRON_SECRET", "METRICS_TOKEN")}
    installation = Installation(environment | marked)
    app = prepare(installation)
    key = api_keys.add_key(ROOT, "orchestrator", customer_id=demo.CUSTOMER)
    if not has_database:
        database.disconnect()
        app = create_app(
            settings.load(
                environment
                | marked
                | {"DATABASE_URL": f"postgresql://budgets:{MARK}@127.0.0.1:1/budgets"}
            )
        )
    printed = io.StringIO()
    with socket.socket() as taken, log_of(app) as log:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for name, typed in TYPED.items():
            arguments = {
                "serve": ("--port", str(taken.getsockname()[1])),
                "copy-to": (f"postgresql://budgets:{MARK}@127.0.0.1:1/budgets",),
                "backup": (str(tmp_path / "a.db"),),
                "restore": (str(tmp_path / "a.db"),),
            }.get(name, typed)
            with app.app_context():
                result = app.test_cli_runner().invoke(
                    args=[name, *arguments], input=f"{secret('password')}\n" * 2, prog_name="flask"
                )
            printed.write(f"{name}: {'' if name in PRINTING else result.stdout}{result.stderr}\n")
    assert all(f"{name}: " in printed.getvalue() for name in TYPED)
    for hidden in (MARK, key.split("_", 2)[2]):
        assert hidden not in printed.getvalue() + log.getvalue()
    database.disconnect()


def test_error_about_a_setting_does_not_quote_it(environment: dict[str, str]) -> None:
    for name, value in (
        ("DATABASE_URL", f"postgresql://budgets:{MARK}@host:port/budgets"),
        ("DATABASE_URL", f"postgresql://budgets:{MARK}@"),
        ("SECRET_KEY", MARK[:15]),
        ("GOOGLE_SHEETS_API_URL", f"https://user:{MARK}@sheets.example"),
        ("GOOGLE_SHEETS_API_URL", f"https://:{MARK}@sheets.example"),
        ("GOOGLE_SHEETS_API_URL", f"http://{MARK}@127.0.0.1"),
        ("GOOGLE_SHEETS_API_URL", f"https://sheets.example/?key={MARK}"),
        ("GOOGLE_SHEETS_API_URL", f"https://user:{MARK}\u2100@sheets.example"),
        ("GOOGLE_SHEETS_API_URL", f"https://user:[{MARK}]@sheets.example"),
    ):
        with pytest.raises(settings.SettingsError) as raised:
            settings.load(environment | {name: value})
        assert MARK[:15] not in str(raised.value)
        assert str(raised.value).startswith(f"{name} must ")
    assert MARK not in repr(
        settings.load(
            environment | {"SECRET_KEY": MARK, "CRON_SECRET": MARK, "METRICS_TOKEN": MARK}
        )
    )
