"""A PostgreSQL for tests: a throw-away cluster of this machine's own binaries, or the server that TEST_DATABASE_URL names.

A test module asks for it with `pytest_plugins = ["postgres"]`, and a test with the fixture `postgres_url`.
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
from urllib.parse import urlsplit

import psycopg
import pytest

from support.machine import free_port, needs, wait_until

#: Where Debian puts the servers, the newest last; their folder is on nobody's PATH.
BINARIES = sorted(
    Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name)
)

_LIBC = ctypes.CDLL(None)

#: A server of 8 workers keeps up to 160, and one that was just stopped may not have let go of its own yet.
_MAX_CONNECTIONS = 400

# initdb and postgres refuse to run as root.
_USER = "postgres"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a server's maintenance database, as someone who may create databases."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
        return
    needs(BINARIES and _can_run_it(), "PostgreSQL (its server, or TEST_DATABASE_URL)")
    with cluster(BINARIES[-1]) as url:
        yield url


@pytest.fixture(scope="session")
def new_postgres(postgres_server: str) -> Callable[[], AbstractContextManager[str]]:
    """A maker of databases, for whoever needs one for longer than a test: `with` it called, its URL."""
    return partial(new_database, postgres_server)


@pytest.fixture
def postgres_url(new_postgres: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """The postgresql:// URL of a fresh, empty database."""
    with new_postgres() as url:
        yield url


@contextmanager
def new_database(server: str, template: str = "template1") -> Iterator[str]:
    """A database on the server of that URL, empty or a copy, dropped at the end, whoever is still connected."""
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())
    try:
        yield urlsplit(server)._replace(path=f"/{name}").geturl()
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@contextmanager
def cluster(binaries: Path) -> Iterator[str]:
    """A running cluster in a folder of its own, on a free port of loopback; stopped and removed at the end."""
    with tempfile.TemporaryDirectory(prefix="budget-sync-postgres-") as folder:
        made = Cluster(binaries, Path(folder), free_port())
        made.init()
        try:
            made.start()
            CLUSTERS[made.url] = made
            yield made.url
        finally:
            CLUSTERS.pop(made.url, None)
            made.stop()


@dataclass
class Cluster:
    """A cluster of ours, and the process that serves it."""

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
        """Where its files are."""
        return self.folder / "data"

    def init(self) -> None:
        """Make its files."""
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
        """Start the server, and wait until it answers."""
        self._launch()

        def answers() -> bool:
            assert self.server is not None
            assert self.server.poll() is None, (
                f"PostgreSQL ended while starting:\n{self._log.read_text(encoding='utf-8', errors='replace')}"
            )
            return _answers(self.url)

        wait_until(answers, "PostgreSQL does not start")

    def kill_and_start(self) -> None:
        """Kill the server's first process, after which the others end by themselves; start it anew, and wait until it answers."""
        self._send(signal.SIGKILL)

        def started() -> bool:
            # It refuses to start while any of the others is still there.
            if self.server is None or self.server.poll() is not None:
                self._launch()
            return _answers(self.url)

        wait_until(started, "PostgreSQL does not start again")

    def stop(self) -> None:
        """Stop the server, if it runs."""
        if self.server is not None:
            # PostgreSQL's fast shutdown, which waits for no client.
            self._send(signal.SIGINT)

    @property
    def _log(self) -> Path:
        return self.folder / "log"

    def _launch(self) -> None:
        # What a database that lives for seconds needs no more than a sync.
        without = (
            "fsync=off",
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
            *without,
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
                preexec_fn=_end_with_us,  # noqa: PLW1509    # one call, which takes no lock
            )

    def _send(self, number: signal.Signals) -> None:
        """End the server, by the process id it wrote down: what was started may be runuser, with the server below it."""
        assert self.server is not None
        noted = self.data / "postmaster.pid"
        if self.server.poll() is None:
            os.kill(
                int(noted.read_text(encoding="ascii").split()[0])
                if noted.exists()
                else self.server.pid,
                number,
            )
        self.server.wait(timeout=30)


#: The clusters of ours that run, by the URL of their maintenance database.
CLUSTERS: dict[str, Cluster] = {}


def _can_run_it() -> bool:
    """Whether there is somebody to run the server as."""
    return os.geteuid() != 0 or (
        shutil.which("runuser") is not None
        and any(user.pw_name == _USER for user in pwd.getpwall())
    )


def _as_user(*command: str | Path) -> list[str | Path]:
    return ["runuser", "-u", _USER, "--", *command] if os.geteuid() == 0 else list(command)


def _end_with_us() -> None:
    """Let the system stop the server where the tests are killed before they can."""
    pr_set_pdeathsig = 1
    _LIBC.prctl(pr_set_pdeathsig, signal.SIGTERM)


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
