"""However many clients come, and whether or not they go, a worker has files left for its own work, and survives where it has none."""

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

#: Connections that a worker takes here, and what it has of sockets beside.
MOST, LISTENER = 2 * THREADS, 1

FULL = "No room for another connection: Too many open files."


@pytest.fixture
def patient(installation: Installation) -> Installation:
    """A server with one worker, which lets nobody go for being slow and takes few connections."""
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
    """What a process has open, by number."""
    found = {}
    for file in Path(f"/proc/{process}/fd").iterdir():
        # One may be closed meanwhile.
        with suppress(FileNotFoundError):
            found[int(file.name)] = str(file.readlink())
    return found


def sockets_of(process: int) -> list[int]:
    """The sockets among them, the listener first: it is older than the process."""
    return sorted(
        number for number, name in files_of(process).items() if name.startswith("socket:")
    )


def is_woken_by(process: int, number: int) -> bool:
    """Whether the process sleeps on that file."""
    (poller,) = [
        poller for poller, name in files_of(process).items() if name == "anon_inode:[eventpoll]"
    ]
    lines = Path(f"/proc/{process}/fdinfo/{poller}").read_text(encoding="ascii").splitlines()
    return number in [int(line.split()[1]) for line in lines if line.startswith("tfd:")]


def comes(server: Installation, stack: ExitStack) -> socket.socket:
    """A client that stays until the stack ends."""
    return stack.enter_context(
        closing(socket.create_connection(("127.0.0.1", server.port), timeout=10))
    )


def answers(server: Installation) -> bool:
    """Whether somebody else is answered."""
    return requests.get(f"{server.url}/healthz", headers={"Connection": "close"}, timeout=30).ok


def test_who_stays_when_told_to_go_takes_no_more_files_than_others(patient: Installation) -> None:
    (worker,) = patient.workers
    with ExitStack() as stack:
        for _ in range(3 * MOST):
            client = comes(patient, stack)
            client.sendall(MALFORMED)
            assert client.recv(65_536).startswith(b"HTTP/1.1 400 ")
        assert THREADS < len(sockets_of(worker)) <= LISTENER + MOST
        assert answers(patient)
    assert patient.workers == [worker]


def test_all_who_came_at_once_are_answered_but_no_more_of_them_at_a_time_than_are_taken(
    patient: Installation,
) -> None:
    (worker,) = patient.workers
    body = json.dumps(reserve_body()).encode()
    ((name, key),) = patient.key().items()
    head = f"POST /api/budget/reserve HTTP/1.1\r\nHost: localhost\r\n{name}: {key}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with (
        closing(sqlite3.connect(patient.database, isolation_level=None)) as holder,
        ExitStack() as stack,
    ):
        # None of them can be answered yet, and none is slow: nobody gives way.
        holder.execute("BEGIN IMMEDIATE")
        os.kill(worker, signal.SIGSTOP)
        clients = [comes(patient, stack) for _ in range(3 * MOST)]
        for client in clients:
            client.sendall(head.encode() + body)
        os.kill(worker, signal.SIGCONT)
        wait_until(
            lambda: len(sockets_of(worker)) >= LISTENER + MOST, "not as many are taken as may be"
        )
        assert len(sockets_of(worker)) == LISTENER + MOST
        holder.execute("ROLLBACK")
        for client in clients:
            client.settimeout(30)
            assert client.recv(65_536).startswith(b"HTTP/1.1 200 ")
            client.close()


def test_a_worker_without_files_takes_nobody_for_a_while_and_does_not_spin(
    patient: Installation,
) -> None:
    (worker,) = patient.workers
    listener = sockets_of(worker)[0]
    _, most = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (max(files_of(worker)) + 5, most))
    with ExitStack() as stack:
        for _ in range(THREADS):
            comes(patient, stack)
        wait_until(
            lambda: FULL in patient.log and not is_woken_by(worker, listener),
            "who waits to be taken in keeps the worker awake",
        )
    assert answers(patient)
    assert patient.workers == [worker]
    assert patient.log.count(FULL) == 1
    assert "Traceback" not in patient.log


def test_what_a_worker_has_open_beside_its_connections_is_less_than_is_left_for_it(
    patient: Installation,
) -> None:
    (worker,) = patient.workers
    key = patient.key() | {"Connection": "close"}

    def call(_: int) -> bool:
        return requests.get(f"{patient.url}/api/budgets", headers=key, timeout=30).ok

    def every_thread_has_a_connection() -> bool:
        with ThreadPoolExecutor(THREADS) as callers:
            assert all(callers.map(call, range(MOST)))
        # The loop and the writer, too.
        return [Path(name) for name in files_of(worker).values()].count(
            patient.database.resolve()
        ) == THREADS + 2

    assert patient.post("/api/budget/reserve", reserve_body(), headers=key).ok
    wait_until(every_thread_has_a_connection, "some threads have nothing to do")
    # Though some of the callers may still be there.
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
def test_a_worker_takes_as_many_connections_as_it_may_have_files(
    files: int, connections: int
) -> None:
    assert connections_within(files) == connections
