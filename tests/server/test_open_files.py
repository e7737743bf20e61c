"""A worker keeps files in reserve for its own work, and survives without free files."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
import requests
from peewee import sqlite3  # type: ignore[attr-defined]  # missing from peewee's stubs
from support.installation import Installation
from support.machine import needs, wait_until
from support.world import reserve_body

from budget_sync.server.arbiter import MAX_CONNECTIONS, RESERVED_FILES, THREADS, connections_within

MALFORMED = b"GET / HTTP/1.1\r\nContent-Length: none\r\n\r\n"

#: The most connections of a worker in these tests, and its other sockets.
MOST, LISTENERS = 2 * THREADS, 1

FULL = "No room for another connection: Too many open files."


@pytest.fixture
def patient(installation: Installation) -> Installation:
    """A server with one worker that drops no slow clients and accepts few connections."""
    needs(Path("/proc/self/fdinfo").exists(), "the /proc of Linux")
    constants = {
        "server.worker.ARRIVAL_S": 3600,
        "server.lingering_close.LINGER_S": 3600,
        "server.arbiter.MAX_CONNECTIONS": MOST,
    }
    installation.constants.update(
        {f"budget_sync.{name}": value for name, value in constants.items()}
    )
    installation.start("--workers", "1")
    return installation


def files_of(process: int) -> dict[int, str]:
    """The open files of a process, by descriptor."""
    found = {}
    for file in Path(f"/proc/{process}/fd").iterdir():
        # It may have been closed by now.
        with suppress(FileNotFoundError):
            found[int(file.name)] = str(file.readlink())
    return found


def sockets_of(process: int) -> list[int]:
    """The descriptors of its sockets. The listener is the first: it is older than the process."""
    return sorted(
        number for number, name in files_of(process).items() if name.startswith("socket:")
    )


def is_woken_by(process: int, number: int) -> bool:
    """Whether the process sleeps on that descriptor."""
    (poller,) = [
        poller for poller, name in files_of(process).items() if name == "anon_inode:[eventpoll]"
    ]
    lines = Path(f"/proc/{process}/fdinfo/{poller}").read_text(encoding="ascii").splitlines()
    return number in [int(line.split()[1]) for line in lines if line.startswith("tfd:")]


def connect(server: Installation, stack: ExitStack) -> socket.socket:
    """A client that stays connected until the stack ends."""
    return stack.enter_context(
        closing(socket.create_connection(("127.0.0.1", server.port), timeout=10))
    )


def is_serving(server: Installation) -> bool:
    """Whether another client gets a reply."""
    return requests.get(f"{server.url}/healthz", headers={"Connection": "close"}, timeout=30).ok


def test_lingering_connections_stay_within_the_limit(patient: Installation) -> None:
    (worker,) = patient.workers
    with ExitStack() as stack:
        for _ in range(3 * MOST):
            client = connect(patient, stack)
            client.sendall(MALFORMED)
            assert client.recv(65_536).startswith(b"HTTP/1.1 400 ")
        assert THREADS < len(sockets_of(worker)) <= LISTENERS + MOST
        assert is_serving(patient)
    assert patient.workers == [worker]


def test_burst_is_answered_within_the_connection_limit(
    patient: Installation,
) -> None:
    (worker,) = patient.workers
    body = json.dumps(reserve_body()).encode()
    ((name, key),) = patient.key().items()
    lines = (
        "POST /api/budget/reserve HTTP/1.1",
        "Host: localhost",
        f"{name}: {key}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    head = "\r\n".join((*lines, "", ""))
    with (
        closing(sqlite3.connect(patient.database, isolation_level=None)) as holder,
        ExitStack() as stack,
    ):
        # No request can be answered yet, and no client is slow, so none is dropped.
        holder.execute("BEGIN IMMEDIATE")
        os.kill(worker, signal.SIGSTOP)
        clients = [connect(patient, stack) for _ in range(3 * MOST)]
        for client in clients:
            client.sendall(head.encode() + body)
        os.kill(worker, signal.SIGCONT)
        wait_until(
            lambda: len(sockets_of(worker)) >= LISTENERS + MOST,
            "fewer connections are accepted than allowed",
        )
        assert len(sockets_of(worker)) == LISTENERS + MOST
        holder.execute("ROLLBACK")
        for client in clients:
            client.settimeout(30)
            assert client.recv(65_536).startswith(b"HTTP/1.1 200 ")
            client.close()


def test_worker_without_files_pauses_and_does_not_spin(
    patient: Installation,
) -> None:
    (worker,) = patient.workers
    listener = sockets_of(worker)[0]
    _, most = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (max(files_of(worker)) + 5, most))
    with ExitStack() as stack:
        for _ in range(THREADS):
            connect(patient, stack)
        wait_until(
            lambda: FULL in patient.log and not is_woken_by(worker, listener),
            "connections in the queue keep the worker awake",
        )
    assert is_serving(patient)
    assert patient.workers == [worker]
    assert patient.log.count(FULL) == 1
    assert "Traceback" not in patient.log


def test_other_open_files_fit_into_the_reserve(
    patient: Installation,
) -> None:
    (worker,) = patient.workers
    key = patient.key() | {"Connection": "close"}

    def call(_: int) -> bool:
        return requests.get(f"{patient.url}/api/budgets", headers=key, timeout=30).ok

    def every_thread_has_a_connection() -> bool:
        with ThreadPoolExecutor(THREADS) as callers:
            assert all(callers.map(call, range(MOST)))
        # And one each for the event loop and the writer.
        return [Path(name) for name in files_of(worker).values()].count(
            patient.database.resolve()
        ) == THREADS + 2

    assert patient.post("/api/budget/reserve", reserve_body(), headers=key).ok
    wait_until(every_thread_has_a_connection, "some threads have no connection")
    # This may include some of the callers' connections.
    assert len(files_of(worker)) <= RESERVED_FILES


@pytest.mark.parametrize(
    ("files", "connections"),
    [
        (50, 2 * THREADS),
        (256, 256 - RESERVED_FILES),
        (1024, MAX_CONNECTIONS),
        (2**20, MAX_CONNECTIONS),
    ],
)
def test_connection_limit_follows_the_file_limit(files: int, connections: int) -> None:
    assert connections_within(files) == connections
