"""PostgreSQL for tests: a temporary cluster, or the server that TEST_DATABASE_URL names.

A test gets an empty database from the fixture `postgres_url`.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from support.machine import free_port, needs, wait_until

#: Debian's folders of the server programs, the newest last. They are not on the PATH.
BINARIES = sorted(
    Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name)
)

_LIBC = ctypes.CDLL(None)

#: The open connections to maintenance databases, by the URL of the server.
_MAINTENANCE: dict[str, psycopg.Connection[Any]] = {}

#: A server with 8 workers uses up to 160 connections, and those of a server that was just stopped
#: may still be open.
_MAX_CONNECTIONS = 400

# initdb and postgres do not run as root.
_USER = "postgres"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a server's maintenance database, with a user that may create databases."""
    url_of_server = os.environ.get("TEST_DATABASE_URL")
    if url_of_server:
        yield url_of_server
        _close_maintenance(url_of_server)
        return
    needs(BINARIES and _can_run_server(), "PostgreSQL (its server, or TEST_DATABASE_URL)")
    with cluster(BINARIES[-1]) as url:
        yield url


@pytest.fixture(scope="session")
def new_postgres(postgres_server: str) -> Callable[[], AbstractContextManager[str]]:
    """A function that creates a database, for use in a `with` statement that gives its URL.

    For databases that are needed for longer than one test.
    """
    return partial(new_database, postgres_server)


@pytest.fixture
def postgres_url(new_postgres: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """The postgresql:// URL of a fresh, empty database."""
    with new_postgres() as url:
        yield url


@contextmanager
def new_database(server: str, template: str = "template1") -> Iterator[str]:
    """Create a database on a server, empty or a copy of `template`; gives its URL.

    It is dropped at the end, even if connections to it are still open.
    """
    name = f"test_{secrets.token_hex(6)}"
    # Copying files takes half as long as copying blocks through the log, which is the default.
    # Before PostgreSQL 15, it is the only way.
    copy_files = "STRATEGY FILE_COPY" if _maintenance(server).info.server_version >= 150000 else ""
    _maintain(server, f'CREATE DATABASE "{name}" TEMPLATE "{template}" {copy_files}')
    try:
        yield urlsplit(server)._replace(path=f"/{name}").geturl()
    finally:
        _maintain(server, f'DROP DATABASE "{name}" WITH (FORCE)')


def _maintain(server: str, statement: str) -> None:
    """Run a statement in the maintenance database, after a new connection if the server restarted.

    The connection is kept, because opening one takes as long as copying a small database.
    """
    try:
        _maintenance(server).execute(statement.encode())
    except psycopg.OperationalError:
        _close_maintenance(server)
        _maintenance(server).execute(statement.encode())


def _maintenance(server: str) -> psycopg.Connection[Any]:
    """The connection to the maintenance database of a server."""
    if server not in _MAINTENANCE:
        _MAINTENANCE[server] = psycopg.connect(server, autocommit=True)
    return _MAINTENANCE[server]


def _close_maintenance(server: str) -> None:
    """Close that connection if there is one."""
    if server in _MAINTENANCE:
        _MAINTENANCE.pop(server).close()


@contextmanager
def cluster(binaries: Path) -> Iterator[str]:
    """A running cluster in a temporary folder, on a free loopback port; removed at the end."""
    with tempfile.TemporaryDirectory(prefix="budget-sync-postgres-") as folder:
        new_cluster = Cluster(binaries, Path(folder), free_port())
        new_cluster.init()
        try:
            new_cluster.start()
            CLUSTERS[new_cluster.url] = new_cluster
            yield new_cluster.url
        finally:
            CLUSTERS.pop(new_cluster.url, None)
            _close_maintenance(new_cluster.url)
            new_cluster.stop()


@dataclass
class Cluster:
    """A PostgreSQL cluster of the tests and its server process."""

    binaries: Path
    folder: Path
    port: int
    server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of its maintenance database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.folder / "data"

    def init(self) -> None:
        """Create the data folder."""
        if os.geteuid() == 0:
            shutil.chown(self.folder, _USER)
        options = (
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
            "--no-instructions",
        )
        subprocess.run(
            _as_user(self.binaries / "initdb", "-D", self.data, *options),
            cwd=self.folder,
            check=True,
            capture_output=True,
        )

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        self._launch()

        def answers() -> bool:
            assert self.server is not None
            assert self.server.poll() is None, (
                "PostgreSQL ended while starting:\n"
                + self._log.read_text(encoding="utf-8", errors="replace")
            )
            return _answers(self.url)

        wait_until(answers, "PostgreSQL does not start")

    def kill_and_start(self) -> None:
        """Kill the server's main process, which also ends the others, and restart the server.

        Waits until it accepts connections.
        """
        self._send(signal.SIGKILL)

        def started() -> bool:
            # The server does not start while any of the old processes is still running.
            if self.server is None or self.server.poll() is not None:
                self._launch()
            return _answers(self.url)

        wait_until(started, "PostgreSQL does not start again")

    def stop(self) -> None:
        """Stop the server if it is running."""
        if self.server is not None:
            # SIGINT is PostgreSQL's fast shutdown, which does not wait for clients.
            self._send(signal.SIGINT)

    @property
    def _log(self) -> Path:
        return self.folder / "log"

    def _launch(self) -> None:
        # Features that a database does not need if it exists only for seconds.
        switched_off = (
            "fsync=off",
            "full_page_writes=off",
            "wal_level=minimal",
            "max_wal_senders=0",
            "autovacuum=off",
            "jit=off",
        )
        settings = (
            "listen_addresses=127.0.0.1",
            f"port={self.port}",
            f"unix_socket_directories={self.folder}",
            f"max_connections={_MAX_CONNECTIONS}",
            *switched_off,
        )
        with self._log.open("ab") as output:
            command = _as_user(
                self.binaries / "postgres",
                "-D",
                self.data,
                *(word for setting in settings for word in ("-c", setting)),
            )
            self.server = subprocess.Popen(
                command,
                cwd=self.folder,
                stdout=output,
                stderr=output,
                preexec_fn=_end_with_parent,  # noqa: PLW1509  # one call, which takes no lock
            )

    def _send(self, number: signal.Signals) -> None:
        """Send a signal to the server and wait for its end.

        The process id is read from postmaster.pid, because the child process may be runuser.
        """
        assert self.server is not None
        pid_file = self.data / "postmaster.pid"
        if self.server.poll() is None:
            pid = self.server.pid
            if pid_file.exists():
                pid = int(pid_file.read_text(encoding="ascii").split()[0])
            os.kill(pid, number)
        self.server.wait(timeout=30)


#: The running clusters of the tests, by the URL of their maintenance database.
CLUSTERS: dict[str, Cluster] = {}


def _can_run_server() -> bool:
    """Whether a user other than root can run the server."""
    return os.geteuid() != 0 or (
        shutil.which("runuser") is not None
        and any(user.pw_name == _USER for user in pwd.getpwall())
    )


def _as_user(*command: str | Path) -> list[str | Path]:
    return ["runuser", "-u", _USER, "--", *command] if os.geteuid() == 0 else list(command)


def _end_with_parent() -> None:
    """Let the system stop the server if the tests are killed before they can stop it."""
    pr_set_pdeathsig = 1
    _LIBC.prctl(pr_set_pdeathsig, signal.SIGTERM)


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
