"""Clients that keep their connections are shared evenly by the workers, and none waits for a worker that does not come."""

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
from budget_sync.server.worker import LEAVE_TO_OTHERS_S

CLIENTS = 20


#: Seconds, for a worker that leaves a client to others for as long as it takes: the machine may be busy with other tests.
AS_LONG_AS_IT_TAKES_S = 3600


@pytest.fixture(params=[AS_LONG_AS_IT_TAKES_S])
def running(
    request: pytest.FixtureRequest, tmp_path: Path, templates: Templates
) -> Iterator[Installation]:
    """A server with two workers."""
    needs(Path("/proc/self/net/tcp").exists(), "the /proc of Linux")
    with templates.copy("world", tmp_path) as environment:
        made = Installation(
            environment, constants={"budget_sync.server.worker.LEAVE_TO_OTHERS_S": request.param}
        )
        made.start("--workers", "2")
        yield made
        made.end()


def connections_of(server: Installation) -> dict[int, int]:
    """How many established connections each worker has, by the system's own tables."""
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


def come(server: Installation, stack: ExitStack, number: int = CLIENTS) -> list[requests.Session]:
    """Clients that ask once and keep their connections."""
    clients = [stack.enter_context(requests.Session()) for _ in range(number)]
    for client in clients:
        ask(server, client)
    return clients


def ask(server: Installation, client: requests.Session) -> None:
    """Ask for something that needs no database, and wait for less time than the server keeps a connection that others wait for."""
    assert client.get(f"{server.url}/healthz", timeout=4).status_code == 200


def come_until_even(server: Installation, stack: ExitStack) -> None:
    """Clients, twice as many as both workers have, once both take some: a worker that still loads the app takes nobody."""
    wait_until(
        lambda: bool(come(server, stack, 1)) and min(connections_of(server).values()) > 0,
        "one of the workers takes nobody",
    )
    come(server, stack, 4 * max(connections_of(server).values()))
    fewer, more = sorted(connections_of(server).values())
    assert more - fewer <= 1


def test_clients_that_stay_are_shared_evenly_also_with_a_worker_that_replaces_a_killed_one(
    running: Installation,
) -> None:
    with ExitStack() as stack:
        come_until_even(running, stack)
        killed = running.workers[0]
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: len(set(running.workers) - {killed}) == 2, "no new worker came")
        come_until_even(running, stack)


@pytest.mark.parametrize("running", [LEAVE_TO_OTHERS_S], indirect=True)
def test_nobody_waits_for_a_worker_that_hangs(running: Installation) -> None:
    hanging, working = running.workers
    os.kill(hanging, signal.SIGSTOP)
    try:
        with ExitStack() as stack:
            clients = come(running, stack)
            for client in clients:
                ask(running, client)
            assert connections_of(running) == {hanging: 0, working: CLIENTS}
    finally:
        os.kill(hanging, signal.SIGCONT)


def test_who_is_absent_has_never_the_least() -> None:
    counts = ConnectionCounts()
    assert counts.lowest() == ABSENT
    counts.set(1, 7)
    counts.set(2, 3)
    assert counts.lowest() == 3
    counts.set(2, ABSENT)
    assert counts.lowest() == 7


def test_a_worker_that_comes_much_later_has_a_number_too() -> None:
    counts = ConnectionCounts()
    counts.set(SLOTS * 5 + 1, 4)
    assert counts.lowest() == 4


def test_the_numbers_are_seen_by_other_processes() -> None:
    counts = ConnectionCounts()
    child = os.fork()
    if not child:
        counts.set(3, 11)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert counts.lowest() == 11
