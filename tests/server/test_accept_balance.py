"""Kept connections are spread evenly over the workers, and a worker that hangs delays no client."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
from support.installation import Installation
from support.machine import needs, wait_until
from support.templates import Templates

from budget_sync.server.accept_balance import ABSENT, SLOTS, ConnectionCounts
from budget_sync.server.accepting import LEAVE_TO_OTHERS_S

CLIENTS = 20


#: Seconds for which a worker leaves a client to the others: practically forever, because the
#: machine may be busy with other tests.
FOREVER_S = 3600


@pytest.fixture(params=[FOREVER_S])
def running(
    request: pytest.FixtureRequest, tmp_path: Path, templates: Templates
) -> Iterator[Installation]:
    """A server with two workers."""
    needs(Path("/proc/self/net/tcp").exists(), "the /proc of Linux")
    with templates.copy("world", tmp_path) as environment:
        server = Installation(
            environment, constants={"budget_sync.server.accepting.LEAVE_TO_OTHERS_S": request.param}
        )
        server.start("--workers", "2")
        yield server
        server.end()


def connections_of(server: Installation) -> dict[int, int]:
    """The established connections of each worker, from /proc."""
    ours = set()
    for line in Path("/proc/self/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        _, local, _, state, *rest = line.split()
        if int(local.split(":")[1], 16) == server.port and state == "01":
            ours.add(rest[5])
    found = {}
    for worker in server.workers:
        files = [
            str(file.readlink())
            for file in Path(f"/proc/{worker}/fd").iterdir()
            if file.is_symlink()
        ]
        found[worker] = len(
            ours
            & {inode[1] for inode in map(re.compile(r"socket:\[(\d+)\]").fullmatch, files) if inode}
        )
    return found


def connect(
    server: Installation, stack: ExitStack, number: int = CLIENTS
) -> list[requests.Session]:
    """Clients that send one request each and keep their connections."""
    clients = [stack.enter_context(requests.Session()) for _ in range(number)]
    for client in clients:
        get(server, client)
    return clients


def get(server: Installation, client: requests.Session) -> None:
    """Send a request that needs no database.

    The timeout is less than the 5 seconds for which the server keeps an idle connection.
    """
    assert client.get(f"{server.url}/healthz", timeout=4).status_code == 200


def connect_until_even(server: Installation, stack: ExitStack) -> None:
    """Once both workers accept connections, add twice as many clients, and assert an even spread.

    A worker that still loads the app accepts none.
    """
    wait_until(
        lambda: bool(connect(server, stack, 1)) and min(connections_of(server).values()) > 0,
        "one of the workers accepts no connections",
    )
    connect(server, stack, 4 * max(connections_of(server).values()))
    fewer, more = sorted(connections_of(server).values())
    assert more - fewer <= 1


def test_kept_connections_are_spread_evenly_after_a_kill(
    running: Installation,
) -> None:
    with ExitStack() as stack:
        connect_until_even(running, stack)
        killed = running.workers[0]
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: len(set(running.workers) - {killed}) == 2, "no new worker was started")
        connect_until_even(running, stack)


@pytest.mark.parametrize("running", [LEAVE_TO_OTHERS_S], indirect=True)
def test_no_client_waits_for_a_worker_that_hangs(running: Installation) -> None:
    hanging, working = running.workers
    os.kill(hanging, signal.SIGSTOP)
    try:
        with ExitStack() as stack:
            clients = connect(running, stack)
            for client in clients:
                get(running, client)
            assert connections_of(running) == {hanging: 0, working: CLIENTS}
    finally:
        os.kill(hanging, signal.SIGCONT)


def test_absent_worker_never_has_the_lowest_count() -> None:
    counts = ConnectionCounts()
    assert counts.lowest() == ABSENT
    counts.set(1, 7)
    counts.set(2, 3)
    assert counts.lowest() == 3
    counts.set(2, ABSENT)
    assert counts.lowest() == 7


def test_late_worker_has_a_slot() -> None:
    counts = ConnectionCounts()
    counts.set(SLOTS * 5 + 1, 4)
    assert counts.lowest() == 4


def test_other_processes_see_the_counts() -> None:
    counts = ConnectionCounts()
    child = os.fork()
    if not child:
        counts.set(3, 11)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert counts.lowest() == 11
