"""Commands of `flask`, each in a process of its own, without the half second in which each would import the service first.

`python -m tests.support.warm` imports it once, and is forked for every command that it is asked for. What Python looks at before it
begins (`LD_PRELOAD`, `PYTHONPATH`, a locale) comes too late for a fork: with such, Python is started as an operator does it.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO, Any, NoReturn

PROJECT = Path(__file__).resolve().parent.parent.parent

#: The service, and what some of its commands import only once they run.
_MODULES = (
    "app",
    "flask.cli",
    "budget_sync.server.arbiter",
    "budget_sync.web.openapi.document",
    "gspread",
    "babel.numbers",
)

_TOO_LATE = ("PYTHON", "LD_", "LC_", "LANG")

#: The most that a command's line and environment may be.
_MOST_BYTES = 100_000


class Warm:
    """A command that was started so, as much like a `subprocess.Popen` as is needed here."""

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        constants: Mapping[str, float],
        files: Sequence[IO[Any]],
        *,
        own_group: bool = False,
    ) -> None:
        self.returncode: int | None = None
        self._arguments = arguments
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._connection.connect(_address())
        asked = json.dumps([arguments, dict(environment), dict(constants), own_group]).encode()
        socket.send_fds(self._connection, [asked], [file.fileno() for file in files])
        self.pid = int(self._connection.recv(100))

    def poll(self) -> int | None:
        """Its exit status, if it has ended."""
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            return self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, once it has ended. Raises subprocess.TimeoutExpired where that takes too long."""
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(list(self._arguments), timeout or 0)
            self.returncode = os.waitstatus_to_exitcode(int(self._connection.recv(100)))
            self._connection.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it has not ended."""
        with suppress(ProcessLookupError):
            if self.poll() is None:
                os.kill(self.pid, number)


def comes_too_late(environment: Mapping[str, str]) -> bool:
    """Whether something differs that Python looks at before it begins."""
    return any(
        environment.get(name) != os.environ.get(name)
        for name in environment.keys() | os.environ.keys()
        if name.startswith(_TOO_LATE)
    )


def run(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    constants: Mapping[str, float],
    *,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; what it printed, and its status."""
    with (
        open(os.devnull, "rb") as nothing,
        tempfile.TemporaryFile("w+") as output,
        tempfile.TemporaryFile("w+") as errors,
    ):
        process = Warm(arguments, environment, constants, [nothing, output, errors])
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            raise
        for file in (output, errors):
            file.seek(0)
        return subprocess.CompletedProcess(
            ["flask", *arguments], status, output.read(), errors.read()
        )


@cache
def _address() -> str:
    """Where to ask for a command; what answers ends with this process."""
    # Nobody's file: only Linux's own list of names has it.
    address = f"\0budget-sync-tests-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(address)
        listener.listen(100)
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.warm", str(listener.fileno())],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
        )
    atexit.register(process.communicate)
    return address


def _serve(listener: socket.socket) -> None:
    """Fork for whoever asks, until standard input ends."""
    for name in _MODULES:
        import_module(name)
    gc.collect()
    gc.freeze()
    # Nobody waits for those who wait for a command.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        connection, _ = listener.accept()
        if not os.fork():
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _answer(connection)
        connection.close()


def _answer(connection: socket.socket) -> NoReturn:
    """Start the command, and say which process it is and how it ended."""
    asked, files, _, _ = socket.recv_fds(connection, _MOST_BYTES, 3)
    arguments, environment, constants, own_group = json.loads(asked)
    pid = os.fork()
    if not pid:
        connection.close()
        for name, value in constants.items():
            module, _, constant = name.rpartition(".")
            # Only of what is there: a constant by another name would change nothing.
            getattr(sys.modules[module], constant)
            setattr(sys.modules[module], constant, value)
        _become(arguments, environment, files, own_group=own_group)
    for file in files:
        os.close(file)
    try:
        connection.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        connection.send(str(status).encode())
    finally:
        # What is below here is the listener's.
        os._exit(0)


def _become(
    arguments: list[str], environment: dict[str, str], files: list[int], *, own_group: bool
) -> NoReturn:
    """Be the command, to the end of the interpreter."""
    if own_group:
        os.setpgid(0, 0)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    # Whoever runs the tests may have them ignore these, as nohup does.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.argv = ["flask", *arguments]
    runpy.run_module("flask", run_name="__main__", alter_sys=True)
    sys.exit(0)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as _listener:
        _serve(_listener)
