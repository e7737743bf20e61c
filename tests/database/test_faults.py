"""Faults: a database that is locked, missing or full, and a server that is stopped or killed.

Clients get a true answer, no acknowledged write is lost, and the server recovers without help.
"""

from __future__ import annotations

import fcntl
import http.client
import itertools
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
import requests
from flask import Flask
from peewee import sqlite3  # type: ignore[attr-defined]  # missing from peewee's stubs
from stress.locks import BUSY_TIMEOUT_S, HOLD_LOCK, SLACK_S
from support.installation import WORKERS, Installation
from support.machine import PROJECT, needs, wait_until
from support.templates import Templates
from support.world import check_body, commit_body, key_headers, release_body, reserve_body

from budget_sync import database
from budget_sync.domain.errors import Code
from budget_sync.ledger import verification
from budget_sync.server.arbiter import THREADS
from budget_sync.settings import Settings

UNAVAILABLE = {Code.UNAVAILABLE, Code.OUTCOME_UNKNOWN}


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, templates: Templates
) -> Iterator[Installation]:
    """A running server, shared by the tests that do not change it permanently."""
    with templates.copy("world", tmp_path_factory.mktemp("faults")) as environment:
        server = Installation(environment)
        server.start()
        yield server
        server.end()


def reserve(
    server: Installation, request_id: str, amount: float = 1, **options: Any
) -> requests.Response:
    """Reserve as the orchestrator, on a new connection."""
    return server.post(
        "/api/budget/reserve",
        reserve_body(requestId=request_id, amount=amount),
        headers=server.key() | {"Connection": "close"},
        **options,
    )


def stored_reservations(server: Installation) -> dict[str, str]:
    """The ID of every reservation in the database file, by request."""
    connection = sqlite3.connect(server.database)
    try:
        return dict(connection.execute('SELECT "requestId", "id" FROM "Reservation"').fetchall())
    finally:
        connection.close()


def is_unavailable(response: requests.Response) -> bool:
    """Whether the response is a 503.

    Asserts that such a response is JSON with a Retry-After header and shows no internals.
    """
    if response.status_code != 503:
        return False
    assert response.headers["Content-Type"] == "application/json"
    assert int(response.headers["Retry-After"]) >= 1
    assert response.json()["success"] is False
    assert response.json()["code"] in UNAVAILABLE
    assert not any(
        word in response.text.lower()
        for word in ("traceback", "sqlite", "budget_sync.db", "peewee", ".py")
    )
    return True


def verifies(server: Installation) -> bool:
    """Whether `flask verify` finds no error; shows its output otherwise."""
    result = server.flask("verify", check=False)
    assert result.returncode == 0, result.stderr
    return True


def all_calls(server: Installation, request_id: str) -> list[Callable[[], requests.Response]]:
    """One call of every endpoint that writes."""
    key = server.key()
    login = json.loads((server.folder / "demo" / "jane.json").read_text(encoding="utf-8"))
    return [
        lambda: server.post("/api/budget/check", check_body(requestId=request_id), headers=key),
        lambda: reserve(server, request_id),
        lambda: server.post(
            "/api/budget/commit", commit_body(requestId=f"{request_id}-held", amount=2), headers=key
        ),
        lambda: server.post(
            "/api/budget/release",
            release_body(requestId=f"{request_id}-held", amount=1),
            headers=key,
        ),
        lambda: server.post("/api/auth/login", login),
    ]


def rows_of(server: Installation) -> list[list[tuple[object, ...]]]:
    """The rows of all tables that the calls write to."""
    connection = sqlite3.connect(server.database)
    try:
        tables = (
            "Reservation",
            "BudgetUtilization",
            "AuditLog",
            "StoredReply",
            "BudgetCheckLog",
            "Session",
            "LoginAttempt",
        )
        return [connection.execute(f'SELECT * FROM "{table}"').fetchall() for table in tables]
    finally:
        connection.close()


def test_locked_database_is_a_503_within_the_busy_timeout(
    running: Installation,
) -> None:
    assert reserve(running, "locked-held", amount=3).status_code == 200
    before = rows_of(running)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, str(running.database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        began = time.monotonic()
        calls = all_calls(running, "locked")
        with ThreadPoolExecutor(len(calls)) as pool:
            responses = [answer.result() for answer in [pool.submit(call) for call in calls]]
        assert time.monotonic() - began < BUSY_TIMEOUT_S + SLACK_S
        assert all(is_unavailable(response) for response in responses), [
            response.text for response in responses
        ]
        assert {response.json()["code"] for response in responses} == {Code.UNAVAILABLE}
        # A request that only reads does not wait for a writer.
        assert (
            requests.get(
                f"{running.url}/api/budgets", headers=running.key(), timeout=BUSY_TIMEOUT_S
            ).status_code
            == 200
        )
        assert rows_of(running) == before
        wait_until(lambda: "database is locked" in running.log, "the log does not say why")
    finally:
        holder.communicate()
    assert [call().status_code for call in all_calls(running, "locked")] == [200] * 5
    assert verifies(running)


def files_of(database_file: Path) -> list[Path]:
    """The database file and the files that SQLite keeps next to it."""
    return [
        path
        for path in (
            database_file.with_name(database_file.name + suffix) for suffix in ("", "-wal", "-shm")
        )
        if path.exists()
    ]


@contextmanager
def moved_away(database_file: Path) -> Iterator[Path]:
    """Move the database files to another folder and back at the end; gives the moved file.

    Files that a test puts in the original place are removed at the end.
    """
    folder = database_file.parent / "moved"
    folder.mkdir()
    for path in files_of(database_file):
        path.rename(folder / path.name)
    try:
        yield folder / database_file.name
    finally:
        for path in files_of(database_file):
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink()
        for path in folder.iterdir():
            path.rename(database_file.parent / path.name)
        folder.rmdir()


def missing(place: Path, original: Path) -> None:
    """No file."""


def directory(place: Path, original: Path) -> None:
    """A directory with the name of the database."""
    place.mkdir()


def garbage(place: Path, original: Path) -> None:
    """A file of random bytes."""
    place.write_bytes(os.urandom(16_384))


def truncated(place: Path, original: Path) -> None:
    """A truncated copy."""
    place.write_bytes(original.read_bytes()[:8_192])


def empty_file(place: Path, original: Path) -> None:
    """A file without tables."""
    place.touch()


def read_only(place: Path, original: Path) -> None:
    """A copy that SQLite opens read-only for every user.

    Its header says that writing needs a newer file format.
    """
    source, target = sqlite3.connect(original), sqlite3.connect(place)
    source.backup(target)
    source.close()
    target.close()
    with place.open("r+b") as file:
        file.seek(18)
        file.write(b"\x03")


@pytest.mark.parametrize(
    "put_in_place",
    [missing, directory, garbage, truncated, empty_file, read_only],
    ids=lambda function: function.__name__,
)
def test_unusable_database_is_a_503_until_it_is_back(
    running: Installation, put_in_place: Callable[[Path, Path], None]
) -> None:
    name = put_in_place.__name__
    acknowledged = reserve(running, f"{name}-held", amount=3).json()["reservationId"]
    logged = len(running.log)
    with moved_away(running.database) as original:
        put_in_place(running.database, original)
        # Several times, so that every worker is tried, with connections to both files.
        for _ in range(6):
            for call in all_calls(running, name):
                response = call()
                assert is_unavailable(response), (response.status_code, response.text)
        if put_in_place is not read_only:
            for path in ("/readyz", "/api/budgets", f"/api/requests/{name}-held"):
                response = requests.get(f"{running.url}{path}", headers=running.key(), timeout=30)
                assert is_unavailable(response), (path, response.status_code, response.text)
    assert "The database is not available" in running.log[logged:]
    for call in all_calls(running, name):
        response = call()
        assert response.status_code == 200, response.text
    stored = requests.get(
        f"{running.url}/api/requests/{name}-held", headers=running.key(), timeout=30
    ).json()
    assert [reservation["reservationId"] for reservation in stored["reservations"]] == [
        acknowledged
    ]


def test_server_without_database_is_alive_but_not_ready(running: Installation) -> None:
    with moved_away(running.database):
        assert requests.get(f"{running.url}/healthz", timeout=30).status_code == 200
        assert is_unavailable(requests.get(f"{running.url}/readyz", timeout=30))
        assert f"There is no database at {running.database}" in running.log
    assert requests.get(f"{running.url}/readyz", timeout=30).status_code == 200


@pytest.mark.parametrize("suffix", ["turnstile", "lock"])
def test_server_without_its_lock_files_is_not_ready(running: Installation, suffix: str) -> None:
    lock = running.database.with_name(f"{running.database.name}.{suffix}")
    lock.unlink(missing_ok=True)
    lock.mkdir()
    try:
        assert is_unavailable(reserve(running, f"without-{suffix}"))
        assert is_unavailable(requests.get(f"{running.url}/readyz", timeout=30))
        assert f"The database {running.database} cannot be written: " in running.log
    finally:
        lock.rmdir()
    assert requests.get(f"{running.url}/readyz", timeout=30).status_code == 200
    assert reserve(running, f"with-{suffix}").status_code == 200


def test_server_is_ready_while_another_process_writes(running: Installation) -> None:
    with ExitStack() as held:
        for suffix in ("turnstile", "lock"):
            lock = held.enter_context(
                running.database.with_name(f"{running.database.name}.{suffix}").open(
                    "a", encoding="ascii"
                )
            )
            fcntl.flock(lock, fcntl.LOCK_EX)
        # Several times, so that every worker is tried.
        for _ in range(4):
            assert (
                requests.get(f"{running.url}/readyz", timeout=BUSY_TIMEOUT_S / 2).status_code == 200
            )


def goes_through_a_full_disk(
    server: Installation, fill: Callable[[], None], make_room: Callable[[], None]
) -> None:
    """Reserve until the disk is full, and again when there is room.

    Each request must be stored or get a 503.
    """
    logged = len(server.log)
    acknowledged: dict[str, str] = {}
    unavailable: list[str] = []
    fill()
    try:
        for number in range(200):
            request = f"full-{number}"
            response = reserve(server, request)
            if is_unavailable(response):
                unavailable.append(request)
            else:
                assert response.status_code == 200, response.text
                acknowledged[request] = response.json()["reservationId"]
            if len(unavailable) == 5:
                break
        assert len(unavailable) == 5, f"the disk is not full after {len(acknowledged)} reservations"
        # A request that only reads needs no space.
        assert (
            requests.get(f"{server.url}/api/budgets", headers=server.key(), timeout=30).status_code
            == 200
        )
        assert acknowledged.items() <= stored_reservations(server).items()
    finally:
        make_room()
    assert any(
        cause in server.log[logged:] for cause in ("database or disk is full", "disk I/O error")
    )
    for request in (*acknowledged, *unavailable):
        response = reserve(server, request)
        assert response.status_code == 200, response.text
        assert response.json()["reservationId"] == acknowledged.get(
            request, response.json()["reservationId"]
        )
    stored = stored_reservations(server)
    assert all(request in stored for request in unavailable)
    assert acknowledged.items() <= stored.items()
    assert verifies(server)


def workers_of(server: Installation) -> set[int]:
    """The process ids of the server's workers."""
    needs(Path("/proc/self/task").exists(), "the /proc of Linux")
    return set(server.workers)


def test_file_size_limit_is_a_503_until_it_is_lifted(running: Installation) -> None:
    workers = workers_of(running)
    limits = {worker: resource.prlimit(worker, resource.RLIMIT_FSIZE) for worker in workers}
    # Empty the write-ahead log, so that it must grow.
    connection = sqlite3.connect(running.database)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()

    def fill() -> None:
        # The limit must leave room for the server's log file, so that it can log the errors.
        room = len(running.log.encode()) + 100_000
        for worker in workers:
            resource.prlimit(worker, resource.RLIMIT_FSIZE, (room, limits[worker][1]))

    def make_room() -> None:
        for worker in workers:
            resource.prlimit(worker, resource.RLIMIT_FSIZE, limits[worker])

    goes_through_a_full_disk(running, fill, make_room)


class OnSmallDisk(Installation):
    """An installation with its database on a small disk."""

    @property
    def disk(self) -> Path:
        """The mount point of the disk."""
        return self.folder.parent / "disk"

    @property
    def database(self) -> Path:
        """The database file."""
        return self.disk / "budget_sync.db"


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a tmpfs of that size on a new folder."""
    folder.mkdir(parents=True)
    mount = shutil.which("mount")
    needs(
        mount
        and subprocess.run(
            [mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder],
            capture_output=True,
            check=False,
        ).returncode
        == 0,
        "the right to mount a small disk",
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def on_small_disk(environment: dict[str, str]) -> Iterator[OnSmallDisk]:
    """A running server with its database on a disk of 2 MB."""
    server = OnSmallDisk(environment)
    server.environment["DATABASE_URL"] = f"sqlite:///{server.database}"
    with small_disk(server.disk, "2m"):
        try:
            server.flask("init-db")
            server.flask("demo")
            server.start()
            yield server
        finally:
            server.end()


def test_full_disk_is_a_503_until_there_is_room(on_small_disk: OnSmallDisk) -> None:
    filler = on_small_disk.disk / "filler"

    def fill() -> None:
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4_096))
        assert shutil.disk_usage(on_small_disk.disk).free == 0

    goes_through_a_full_disk(on_small_disk, fill, filler.unlink)


def test_backup_to_a_full_disk_is_one_line_and_no_file(
    running: Installation, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        result = running.flask("backup", str(disk), check=False)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr == (
            f"Error: No backup was created: cannot write the copy in {disk} "
            "(database or disk is full).\n"
        )
        assert list(disk.iterdir()) == []


class FaultyConnection(sqlite3.Connection):  # type: ignore[misc]  # not in peewee's stubs
    """A connection whose next COMMIT can fail, before or after the transaction is on disk."""

    # The fate of the transaction whose COMMIT fails: "lost" or "kept".
    next_fault: str | None = None

    def cursor(self) -> FaultyCursor:
        """A cursor that simulates the fault."""
        return super().cursor(FaultyCursor)  # type: ignore[no-any-return]  # as above


class FaultyCursor(sqlite3.Cursor):  # type: ignore[misc]  # as above
    """A cursor of such a connection."""

    def execute(self, sql: str, *parameters: Any) -> FaultyCursor:
        """Run the statement, or fail if it is the COMMIT to fail; commit a "kept" one before."""
        fault = FaultyConnection.next_fault
        if sql != "COMMIT" or fault is None:
            return super().execute(sql, *parameters)  # type: ignore[no-any-return]  # as above
        FaultyConnection.next_fault = None
        if fault == "kept":
            super().execute(sql)
        raise sqlite3.OperationalError("disk I/O error")


@pytest.fixture
def faulty(world: Flask, chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> Flask:
    """The guide's example data, with connections whose COMMIT can fail."""
    monkeypatch.setattr(FaultyConnection, "next_fault", None)
    database.connect(chosen.database_path, busy_timeout_s=chosen.busy_timeout_s)
    database.db.connect_params["factory"] = FaultyConnection
    return world


@pytest.mark.parametrize("fault", ["lost", "kept"])
def test_failed_commit_is_outcome_unknown_and_retry_is_safe(faulty: Flask, fault: str) -> None:
    client, headers = faulty.test_client(), key_headers() | {"Idempotency-Key": "once"}
    steps = (
        ("/api/budget/reserve", reserve_body(), "RESERVE"),
        ("/api/budget/commit", commit_body(amount=2000), "COMMIT"),
        ("/api/budget/release", release_body(amount=1000), "RELEASE"),
        # Without a key, a call that closes a reservation is still done only once.
        ("/api/budget/release", release_body(amount=2000), "RELEASE"),
    )
    done: list[str] = []
    for path, body, action in steps:
        sent = headers if len(done) < 3 else {"Authorization": headers["Authorization"]}
        FaultyConnection.next_fault = fault
        response = client.post(path, json=body, headers=sent)
        assert FaultyConnection.next_fault is None
        assert (response.status_code, response.json and response.json["code"]) == (
            503,
            Code.OUTCOME_UNKNOWN,
        )
        assert int(response.headers["Retry-After"]) >= 1
        again = client.post(path, json=body, headers=sent)
        assert (again.status_code, again.json and again.json["success"]) == (200, True), again.text
        assert ("Idempotent-Replayed" in again.headers) == (fault == "kept")
        done.append(action)
        movements = database.db.execute_sql(
            """SELECT "action" FROM "AuditLog" WHERE "requestId" = 'intake-789' ORDER BY "id" """
        ).fetchall()
        assert [row[0] for row in movements] == done
    assert verification.verify().findings == []


@dataclass
class Load:
    """Threads that reserve continuously, each request on a new connection, and all outcomes."""

    server: Installation
    answered: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        headers = self.server.key() | {"Content-Type": "application/json", "Connection": "close"}
        self.threads = [
            threading.Thread(target=self._run, args=(number, headers)) for number in range(8)
        ]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def wait_for(self, more: int) -> None:
        """Wait until that many more requests succeeded."""
        enough = len(self.answered) + more
        wait_until(
            lambda: len(self.answered) >= enough, f"the server stopped answering; {self.unexpected}"
        )

    def _run(self, number: int, headers: dict[str, str]) -> None:
        for count in itertools.count():
            if self.ended.is_set():
                return
            request = f"load-{number}-{count}"
            connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
            try:
                connection.connect()
            except OSError:
                # The connection was rejected before anything was sent.
                return
            try:
                connection.request(
                    "POST",
                    "/api/budget/reserve",
                    json.dumps(reserve_body(requestId=request, amount=0.01)),
                    headers,
                )
                response = connection.getresponse()
                body = json.loads(response.read())
            except (OSError, http.client.HTTPException) as error:
                self.dropped[request] = repr(error)
                continue
            finally:
                connection.close()
            if response.status == 200:
                self.answered[request] = body["reservationId"]
            else:
                self.unexpected.append(f"{response.status} {body}")


def stored_of_load(server: Installation) -> dict[str, str]:
    """The ID of every reservation of the load in the database, by request."""
    return {
        request: reservation
        for request, reservation in stored_reservations(server).items()
        if request.startswith("load-")
    }


def test_clients_that_do_not_read_block_no_other_clients(
    running: Installation,
) -> None:
    request_count = 40
    document = requests.get(f"{running.url}/openapi.json", timeout=10).content
    with ExitStack() as stack:
        clients = [
            stack.enter_context(closing(connection_with_small_buffer(running)))
            for _ in range(3 * THREADS)
        ]
        for client in clients:
            client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * request_count)
        began = time.monotonic()
        for _ in range(10):
            assert (
                requests.get(
                    f"{running.url}/api/budgets",
                    headers=running.key() | {"Connection": "close"},
                    timeout=30,
                ).status_code
                == 200
            )
        assert time.monotonic() - began < 5
        received = b""
        # The replies can still be read later.
        while received.count(document) < request_count:
            received += clients[0].recv(1_000_000)
    assert received.count(b"HTTP/1.1 200 OK") == request_count


def connection_with_small_buffer(server: Installation) -> socket.socket:
    """A connection with a very small receive buffer."""
    client = socket.socket()
    client.settimeout(10)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", server.port))
    return client


def test_sigterm_under_load_drops_no_reply(server: Installation) -> None:
    with Load(server) as load:
        load.wait_for(100)
        status = server.stop(signal.SIGTERM)
    assert status == 0
    assert not load.unexpected
    assert stored_of_load(server) == load.answered
    assert verifies(server)
    # The kernel may accept one more connection between a worker's last accept and its close.
    assert len(load.dropped) <= 1, load.dropped


#: Starts a session with standard input as its controlling terminal, as a shell in a window does.
AT_TERMINAL = """
import fcntl, os, signal, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGHUP, getattr(signal, sys.argv[1]))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


@contextmanager
def at_terminal(installation: Installation, on_hang_up: str) -> Iterator[Callable[[], None]]:
    """Start the server at a terminal, with this handling of SIGHUP.

    Gives a function that closes the terminal.
    """
    window, terminal = os.openpty()
    command = [
        sys.executable,
        "-c",
        AT_TERMINAL,
        on_hang_up,
        "-m",
        "flask",
        "serve",
        "--port",
        str(installation.port),
    ]
    with (
        open(window, "rb") as window_file,
        open(terminal, "rb") as terminal_file,
        (installation.folder / "server.log").open("w", encoding="utf-8") as log,
    ):
        options: dict[str, Any] = {
            "stdin": terminal_file,
            "stdout": log,
            "stderr": log,
            "text": True,
        }
        server = installation.server = subprocess.Popen(
            command, cwd=PROJECT, env=installation.full_environment(), **options
        )
        terminal_file.close()
        wait_until(lambda: len(workers_of(installation)) == WORKERS, "the server does not start")

        def close() -> None:
            window_file.close()
            # A shell also sends SIGHUP to all processes of a job.
            os.killpg(server.pid, signal.SIGHUP)

        yield close


def test_closed_terminal_stops_the_server_gracefully(
    installation: Installation,
) -> None:
    with at_terminal(installation, "SIG_DFL") as close, Load(installation) as load:
        load.wait_for(100)
        close()
        assert installation.server is not None
        assert installation.server.wait(timeout=60) == 0
    assert not load.unexpected
    assert stored_of_load(installation) == load.answered
    assert len(load.dropped) <= 1, load.dropped
    assert "was sent SIGHUP" not in installation.log


def test_server_that_ignores_sighup_outlives_its_terminal(
    installation: Installation,
) -> None:
    with at_terminal(installation, "SIG_IGN") as close:
        before = workers_of(installation)
        close()
        wait_until(
            lambda: (
                len(workers_of(installation)) == WORKERS and not workers_of(installation) & before
            ),
            "the workers were not replaced",
        )
        assert reserve(installation, "after-sighup").status_code == 200
        assert installation.stop() == 0


def test_server_without_terminal_restarts_workers_on_sighup(server: Installation) -> None:
    before = workers_of(server)
    assert server.server is not None
    server.server.send_signal(signal.SIGHUP)
    wait_until(
        lambda: len(workers_of(server)) == len(before) and not workers_of(server) & before,
        "the workers were not replaced",
    )
    assert reserve(server, "after-sighup").status_code == 200
    assert server.stop() == 0


def test_killed_worker_is_replaced_and_loses_nothing(running: Installation) -> None:
    before = workers_of(running)
    with Load(running) as load:
        load.wait_for(50)
        os.kill(min(before), signal.SIGKILL)
        wait_until(
            lambda: (
                len(workers_of(running) - before) == 1 and len(workers_of(running)) == len(before)
            ),
            "the worker was not replaced",
        )
        load.wait_for(50)
    assert not load.unexpected
    assert load.answered.items() <= stored_of_load(running).items()
    # A request in the killed worker may or may not be stored. Sent again, it is stored once.
    for request in load.dropped:
        load.answered[request] = reserve(running, request, amount=0.01).json()["reservationId"]
    assert stored_of_load(running) == load.answered
    assert verifies(running)


def send_and_receive(server: Installation, sent: bytes) -> tuple[int, str, bytes]:
    """Send bytes, shut down the sending side and read the reply: status, content type and body."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        # The server may reply and close before all bytes are sent.
        with suppress(OSError):
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, response.headers["Content-Type"], response.read()


def head(server: Installation, *headers: str) -> bytes:
    """The head of the orchestrator's reserve request, as bytes."""
    ((name, value),) = server.key().items()
    lines = (
        "POST /api/budget/reserve HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"{name}: {value}",
        *headers,
        "",
        "",
    )
    return "\r\n".join(lines).encode()


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


@pytest.mark.parametrize(
    ("header", "spoil", "status"),
    [
        ("Transfer-Encoding: chunked", lambda body: b"zz\r\n" + body, 400),
        ("Transfer-Encoding: chunked", lambda body: chunk(body) + b"-5\r\n", 400),
        ("Transfer-Encoding: chunked", lambda body: chunk(body)[:-2] + b"xx0\r\n\r\n", 400),
        ("Transfer-Encoding: chunked", chunk, 400),
        ("Transfer-Encoding: chunked", lambda body: chunk(body)[:-20], 400),
        (
            "Transfer-Encoding: chunked",
            lambda body: chunk(body) + 5 * chunk(b" " * 16_384) + b"0\r\n\r\n",
            413,
        ),
        ("Transfer-Encoding: chunked", lambda body: chunk(body.ljust(100_000)) + b"0\r\n\r\n", 413),
        ("Transfer-Encoding: chunked", lambda body: b"00000000" + chunk(body) + b"0\r\n\r\n", 400),
        ("Content-Length: 1000", lambda body: body, 400),
        ("Content-Length: 100000", lambda body: body.ljust(100_000), 413),
        ("Content-Length: 0000000000000000100", lambda body: body.ljust(100), 400),
    ],
    ids=[
        "no size",
        "negative size",
        "no line end",
        "no last chunk",
        "half a chunk",
        "too many chunks",
        "chunk too large",
        "long size",
        "body too short",
        "body too long",
        "long length",
    ],
)
def test_malformed_body_is_rejected(
    running: Installation,
    request: pytest.FixtureRequest,
    header: str,
    spoil: Callable[[bytes], bytes],
    status: int,
) -> None:
    body = json.dumps(reserve_body(requestId=request.node.name, amount=1)).encode()
    actual, content_type, reply = send_and_receive(running, head(running, header) + spoil(body))
    assert (actual, content_type) == (status, "application/json"), reply
    assert json.loads(reply)["success"] is False
    assert request.node.name not in stored_reservations(running)


@pytest.mark.parametrize(
    "sent",
    [
        b"NONSENSE\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET /api/budgets/" + b"x" * 5_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 10_000 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Nul: a\x00b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n",
        b"POST /api/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    ],
    ids=[
        "no request",
        "unknown version",
        "long path",
        "long header",
        "NUL in header",
        "no colon",
        "negative length",
    ],
)
def test_malformed_http_gets_a_json_error(running: Installation, sent: bytes) -> None:
    status, content_type, body = send_and_receive(running, sent)
    assert 400 <= status < 500
    assert content_type == "application/json", body
    reply = json.loads(body)
    assert reply["success"] is False
    assert reply["error"]
    assert reply["code"] in set(Code)
