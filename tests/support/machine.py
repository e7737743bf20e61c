"""The machine that the tests run on: its engine, its ports, what it lacks."""

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


#: The engine that tests run on which take their database from here.
ENGINE = os.environ.get("TEST_ENGINE", "sqlite")


#: For tests of what SQLite alone has: its file, its locks, its faults.
sqlite_only = pytest.mark.skipif(ENGINE != "sqlite", reason="about SQLite")


#: For tests of what root makes for others.
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who may give files away")


#: The user id of somebody who has nothing but what was given to them.
NOBODY = 65534


def needs(present: object, what: str) -> None:
    """Skip a test where the machine lacks something; with REQUIRE_ALL set, as in CI, that is a failure."""
    if present:
        return
    if os.environ.get("REQUIRE_ALL"):
        pytest.fail(f"REQUIRE_ALL is set, and {what} is missing")
    pytest.skip(f"{what} is missing")


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def as_nobody(work: Callable[[], Any]) -> Any:
    """What a work comes to in a process of NOBODY's, as JSON has it. For root alone, who can become another.

    Python may lie where NOBODY cannot import from: what the work needs of it has been imported before.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(writing, json.dumps(work()).encode())
        except BaseException as error:  # noqa: BLE001  # whatever it is, the parent tells of it
            os.write(writing, json.dumps(f"{type(error).__name__}: {error}").encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as said:
        told = json.load(said)
    os.waitpid(pid, 0)
    return told


def wait_until(holds: Callable[[], bool], otherwise: str, timeout_s: float = 20) -> None:
    """Wait for something to hold; fail with `otherwise` where it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)
