"""Runs `flask` commands in forked processes, which saves half a second of imports per command.

`python -m tests.support.warm` imports the service once and forks itself for each requested command.
Settings that Python reads at start-up (`LD_PRELOAD`, `PYTHONPATH`, the locale) have no effect on a
fork. For commands with such settings, Python is started in the usual way.
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

#: Modules to import in advance: the service, and modules that commands import when they run.
_MODULES = (
    "app",
    "flask.cli",
    "budget_sync.server.arbiter",
    "budget_sync.web.openapi.document",
    "gspread",
    "babel.numbers",
)

#: Prefixes of variables that Python reads at start-up.
_READ_AT_START = ("PYTHON", "LD_", "LC_", "LANG")

#: The program `flask` for shells. Without the site packages, Python starts in 20 ms.
_PROGRAM = """#!{python} -IS
import json, os, socket, sys
connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
connection.connect({address!r})
request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ), {{}}, False])
socket.send_fds(connection, [request.encode()], [0, 1, 2])
connection.recv(100)  # the process id
sys.exit(os.waitstatus_to_exitcode(int(connection.recv(100))))
"""

#: The maximum size of a request: a command line and an environment.
_MAX_REQUEST_BYTES = 100_000


class Warm:
    """A command in a forked process, with the part of `subprocess.Popen` that tests use."""

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
        request = json.dumps(
            [arguments, str(PROJECT), dict(environment), dict(constants), own_group]
        ).encode()
        socket.send_fds(self._connection, [request], [file.fileno() for file in files])
        self.pid = int(self._connection.recv(100))

    def poll(self) -> int | None:
        """The exit status, or None while the command runs."""
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            return self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit status. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(list(self._arguments), timeout or 0)
            self.returncode = os.waitstatus_to_exitcode(int(self._connection.recv(100)))
            self._connection.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal if the command still runs."""
        with suppress(ProcessLookupError):
            if self.poll() is None:
                os.kill(self.pid, number)


def differs_at_start(environment: Mapping[str, str]) -> bool:
    """Whether the environment changes a variable that Python reads at start-up."""
    return any(
        environment.get(name) != os.environ.get(name)
        for name in environment.keys() | os.environ.keys()
        if name.startswith(_READ_AT_START)
    )


def run(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    constants: Mapping[str, float],
    *,
    given: str = "",
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with a standard input. Raises subprocess.TimeoutExpired."""
    with (
        tempfile.TemporaryFile("w+") as typed,
        tempfile.TemporaryFile("w+") as output,
        tempfile.TemporaryFile("w+") as errors,
    ):
        typed.write(given)
        typed.seek(0)
        process = Warm(arguments, environment, constants, [typed, output, errors])
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
def program_folder() -> Path:
    """A folder for the PATH of shells. Its program `flask` runs each command in a fork."""
    folder = tempfile.TemporaryDirectory(prefix="budget-sync-programs-")
    atexit.register(folder.cleanup)
    program = Path(folder.name) / "flask"
    program.write_text(_PROGRAM.format(python=sys.executable, address=_address()), "utf-8")
    program.chmod(0o700)
    return program.parent


@cache
def _address() -> str:
    """The socket address of the warm process, which is started here and ends with this process."""
    # An abstract socket of Linux, without a file.
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
    """Accept requests and fork for each, until standard input ends."""
    for name in _MODULES:
        import_module(name)
    gc.collect()
    gc.freeze()
    # Forked children are not waited for.
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
    """Start the command and send its process id, then its exit status."""
    request, files, _, _ = socket.recv_fds(connection, _MAX_REQUEST_BYTES, 3)
    arguments, folder, environment, constants, own_group = json.loads(request)
    pid = os.fork()
    if not pid:
        connection.close()
        for name, value in constants.items():
            module, _, constant = name.rpartition(".")
            # Raises AttributeError for a misspelled constant.
            getattr(sys.modules[module], constant)
            setattr(sys.modules[module], constant, value)
        os.chdir(folder)
        _become(arguments, environment, files, own_group=own_group)
    for file in files:
        os.close(file)
    try:
        connection.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        connection.send(str(status).encode())
    finally:
        # Do not return into the listener's loop.
        os._exit(0)


def _become(
    arguments: list[str], environment: dict[str, str], files: list[int], *, own_group: bool
) -> NoReturn:
    """Turn this process into the command. Does not return."""
    if own_group:
        os.setpgid(0, 0)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    # The test run may ignore these signals, for example under nohup.
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
