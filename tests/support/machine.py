"""The environment of the tests: database engine, free ports, optional tools, other users."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parent.parent.parent


#: The engine of the database fixtures.
ENGINE = os.environ.get("TEST_ENGINE", "sqlite")

#: For tests of SQLite's file, locks and faults.
sqlite_only = pytest.mark.skipif(ENGINE != "sqlite", reason="about SQLite")

#: For tests that create files for other users.
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the owner of a file")

#: The user id of the unprivileged user `nobody`.
UNPRIVILEGED_UID = 65534


def needs(present: object, what: str) -> None:
    """Skip the test if a tool is missing; if REQUIRE_ALL is set, as in CI, fail it."""
    if present:
        return
    if os.environ.get("REQUIRE_ALL"):
        pytest.fail(f"REQUIRE_ALL is set, and {what} is missing")
    pytest.skip(f"{what} is missing")


def free_port() -> int:
    """A free port on 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def call_as_unprivileged_user(work: Callable[[], Any]) -> Any:
    """Call `work` in a child process of an unprivileged user; return its result, passed as JSON.

    Needs root. The child may be unable to read Python's library, so import what `work` needs first.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.setgroups([])
            os.setgid(UNPRIVILEGED_UID)
            os.setuid(UNPRIVILEGED_UID)
            os.write(writing, json.dumps(work()).encode())
        except BaseException as error:  # noqa: BLE001  # reported to the parent
            os.write(writing, json.dumps(f"{type(error).__name__}: {error}").encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:
        result = json.load(pipe)
    os.waitpid(pid, 0)
    return result


def wait_until(holds: Callable[[], bool], otherwise: str, timeout_s: float = 20) -> None:
    """Wait until the condition holds; fail with `otherwise` after the timeout."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)
