"""Functions to run in child processes. A child imports this module, so it imports little."""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
import time
from pathlib import Path

from budget_sync.domain.errors import Code, RequestError
from budget_sync.runtime import isolate
from budget_sync.runtime.correlation import current_id

log = logging.getLogger("budget_sync.work")


def facts() -> dict[str, object]:
    """The state of a child: its process id, its priorities and its open files."""
    files = [str(file.readlink()) for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]
    return {
        "pid": os.getpid(),
        "niceness": os.nice(0),
        "niceness of urgent work": isolate.at_normal_priority(lambda: os.nice(0)),
        "files": files,
        "id": current_id.get(),
    }


def fail_in_urgent_work() -> None:
    """Fail in work at the normal priority."""
    isolate.at_normal_priority(lambda: fail("known"))


def fail(kind: str) -> None:
    """Fail in one of several ways."""
    if kind == "known":
        raise RequestError(Code.NOT_FOUND, "Gone.", fields={"id": "is unknown"}, retryAfter=5)
    if kind == "unknown":
        raise ZeroDivisionError("secret detail")
    if kind == "out of memory":
        bytearray(8 * 2**30)
    if kind == "not picklable":
        raise _LocalError(threading.Lock())
    os.kill(os.getpid(), signal.Signals[kind])


def speak() -> str:
    """Report progress and log."""
    isolate.report("half")
    log.warning("A line about %s.", "it")
    log.debug("Not wanted.")
    return "done"


def hold_interpreter(pid_file: Path | None = None) -> None:
    """Hold the lock of the interpreter for hours, in a pattern."""
    if pid_file:
        pid_file.write_text(str(os.getpid()), encoding="ascii")
    re.compile("(a+)+b").fullmatch("a" * 60)


def wait(pid_file: Path | None = None) -> None:
    """Wait for a minute."""
    if pid_file:
        pid_file.write_text(str(os.getpid()), encoding="ascii")
    time.sleep(60)


def call_and_hold(pid_file: Path) -> None:
    """Be the parent of a child that holds its interpreter."""
    isolate.call(hold_interpreter, pid_file, timeout_s=60)


class _LocalError(RequestError):
    def __init__(self, value: object) -> None:
        super().__init__(Code.NOT_FOUND, "Gone.", value=value)
