"""A temporary PostgreSQL cluster that syncs to disk, places in it, and pgbench."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bench.machine import require_loaded
from bench.places import BenchError, Place, UnavailableError
from bench.servers import free_port
from bench.stock import BUDGETS

# initdb and postgres do not run as root.
_USER = "postgres"


class PgbenchResult(NamedTuple):
    """The figures that pgbench measured."""

    rate: float
    p50_ms: float
    p99_ms: float
    failures: int


class Cluster:
    """A running cluster. Each place in it is a database."""

    def __init__(
        self, binaries: Path, folder: Path, port: int, server: subprocess.Popen[bytes]
    ) -> None:
        self.binaries = binaries
        self.folder = folder
        self.port = port
        self.server = server

    @property
    def database_pid(self) -> int:
        """The postmaster."""
        return self.server.pid

    def url(self, database: str) -> str:
        """A database's URL."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def run(self, sql: str) -> None:
        """Run one statement outside any transaction."""
        import psycopg  # noqa: PLC0415

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(sql.encode())

    def new(self, name: str) -> Place:
        """A place without tables, with its instance folder next to the cluster's."""
        self.run(f'CREATE DATABASE "{name}"')
        folder = self.folder.parent / f"{self.folder.name}-{name}"
        folder.mkdir(mode=0o700)
        return Place(folder, self.url(name))

    @contextmanager
    def copy(self, template: Place) -> Iterator[Place]:
        """A copy of a template; removed at the end."""
        name = f"run_{secrets.token_hex(4)}"
        original = template.database_url.rpartition("/")[2]
        self.run(f'CREATE DATABASE "{name}" TEMPLATE "{original}"')
        try:
            # Write what earlier copies have left in the cache now, not during a measurement.
            self.run("CHECKPOINT")
            yield Place(template.folder, self.url(name), template.key)
        finally:
            self.run(f'DROP DATABASE "{name}" WITH (FORCE)')

    def pgbench(self, place: Place, *, clients: int, seconds: int, hot: bool) -> PgbenchResult:
        """Run the product's statements of a reserve with pgbench."""
        logs = self.folder / f"pgbench-{secrets.token_hex(4)}"
        logs.mkdir()
        script = Path(__file__).with_name("reserve.pgbench.sql")
        command: list[str | Path] = [
            self.binaries / "pgbench", "--no-vacuum", "--protocol=prepared", "--jobs=1", "--log",
            f"--client={clients}", f"--time={seconds}", f"--file={script}",
            f"--define=budgets={1 if hot else BUDGETS}", place.database_url,
        ]  # fmt: skip
        done = subprocess.run(command, cwd=logs, check=False, capture_output=True, text=True)
        if done.returncode:
            raise BenchError(f"pgbench: {done.stderr.strip()}")
        # Each line: client, transaction, microseconds or "failed", and more.
        durations = [
            line.split()[2]
            for file in logs.iterdir()
            for line in file.read_text(encoding="ascii").splitlines()
        ]
        times_ms = sorted(int(word) / 1000 for word in durations if word.isdecimal())
        if not times_ms:
            raise BenchError(f"pgbench finished no transaction: {done.stderr.strip()}")
        return PgbenchResult(
            len(times_ms) / seconds,
            times_ms[len(times_ms) // 2],
            times_ms[len(times_ms) * 99 // 100],
            len(durations) - len(times_ms),
        )


@contextmanager
def cluster(folder: Path, preload: Path | None = None) -> Iterator[Cluster]:
    """A running cluster in that new folder, with the default durability; stopped at the end.

    Raises UnavailableError if PostgreSQL is not installed.
    """
    binaries = find_binaries()
    folder.mkdir(mode=0o755)
    owner: dict[str, Any] = {}
    if os.geteuid() == 0:
        shutil.chown(folder, _USER, _USER)
        owner = {"user": _USER, "group": _USER, "extra_groups": []}
    data = folder / "data"
    options = [
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C.UTF-8",
        "--no-instructions",
    ]
    subprocess.run(
        [binaries / "initdb", "-D", data, *options],
        cwd=folder,
        check=True,
        capture_output=True,
        **owner,
    )
    port = free_port()
    settings = (
        "listen_addresses=127.0.0.1",
        f"port={port}",
        f"unix_socket_directories={folder}",
        "max_connections=200",
    )
    environment = os.environ | ({"LD_PRELOAD": str(preload)} if preload else {})
    with (folder / "log").open("wb") as log:
        command: list[str | Path] = [
            binaries / "postgres",
            "-D",
            data,
            *(word for setting in settings for word in ("-c", setting)),
        ]
        server = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, **owner
        )
    running = Cluster(binaries, folder, port, server)
    try:
        _wait(running)
        if preload:
            require_loaded(server.pid, preload)
        yield running
    finally:
        # SIGINT is PostgreSQL's fast shutdown, which does not wait for clients.
        server.send_signal(signal.SIGINT)
        server.wait(timeout=60)


def find_binaries() -> Path:
    """The newest PostgreSQL with pgbench on this machine. Raises UnavailableError."""
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name)
    )
    complete = [
        folder
        for folder in folders
        if all((folder / name).exists() for name in ("initdb", "postgres", "pgbench"))
    ]
    if not complete:
        raise UnavailableError(
            "no PostgreSQL with initdb, postgres and pgbench in /usr/lib/postgresql "
            "(Debian: apt-get install postgresql postgresql-contrib)"
        )
    if os.geteuid() == 0 and not any(user.pw_name == _USER for user in pwd.getpwall()):
        raise UnavailableError(f"PostgreSQL does not run as root, and there is no user {_USER}")
    try:
        import psycopg  # noqa: F401, PLC0415
    except ImportError:
        raise UnavailableError("psycopg is not installed") from None
    return complete[-1]


def _wait(running: Cluster) -> None:
    import psycopg  # noqa: PLC0415

    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(running.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError as error:
            if running.server.poll() is not None or time.monotonic() > deadline:
                raise BenchError(
                    "PostgreSQL does not start:\n"
                    + (running.folder / "log").read_text(encoding="utf-8", errors="replace")
                ) from error
            time.sleep(0.1)
        else:
            return
