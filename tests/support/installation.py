"""An installation as an operator has it: an instance folder, commands and a running server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psycopg
import requests
from peewee import sqlite3  # type: ignore[attr-defined]  # missing from peewee's stubs

from support import warm
from support.machine import PROJECT, free_port, wait_until

#: The server's default number of workers.
WORKERS = 2


def found(target: Path | str, sql: str) -> list[Any]:
    """Query a database (SQLite file or PostgreSQL URL) through a separate connection."""
    with closing(
        psycopg.connect(target)
        if isinstance(target, str)
        else sqlite3.connect(f"{target.absolute().as_uri()}?mode=ro", uri=True)
    ) as connection:
        rows: list[Any] = connection.execute(sql).fetchall()
    return rows


@dataclass
class Installation:
    """A folder, commands to run in it, and a server to start and stop."""

    environment: dict[str, str]
    port: int = field(default_factory=free_port)
    server: subprocess.Popen[str] | warm.Warm | None = None
    #: Replacements for module constants in its processes, by full name. Mostly shorter timeouts.
    constants: dict[str, float] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The instance folder."""
        return Path(self.environment["INSTANCE_FOLDER"])

    @property
    def database(self) -> Path:
        """The database file."""
        return self.folder / "budget_sync.db"

    @property
    def target(self) -> Path | str:
        """The database: its URL on PostgreSQL, else its file."""
        return self.environment.get("DATABASE_URL") or self.database

    @property
    def url(self) -> str:
        """The server's URL."""
        return f"http://127.0.0.1:{self.port}"

    def full_environment(self) -> dict[str, str]:
        """This process's environment, overridden by the installation's."""
        return (
            os.environ
            | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
            | self.environment
        )

    def shell_environment(self) -> dict[str, str]:
        """The same for a shell. Its `flask` commands are forked from a warm process."""
        environment = self.full_environment()
        return environment | {"PATH": f"{warm.program_folder()}:{environment['PATH']}"}

    def flask(
        self, *arguments: str, given: str = "", check: bool = True, timeout: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a `flask` command to its end; `given` is its standard input."""
        environment = self.full_environment()
        if self._can_fork(environment):
            done = warm.run(arguments, environment, self.constants, given=given, timeout=timeout)
        else:
            line = [sys.executable, "-m", "flask", *arguments]
            done = subprocess.run(
                line,
                cwd=PROJECT,
                env=environment,
                input=given,
                text=True,
                capture_output=True,
                check=False,
                timeout=timeout,
            )
        if check:
            done.check_returncode()
        return done

    def _can_fork(self, environment: dict[str, str]) -> bool:
        """Whether a command may be forked from a warm process.

        `make stress` starts Python for each command, because start-up is part of its subject.
        """
        can_fork = "PYTEST_VERSION" in os.environ and not warm.differs_at_start(environment)
        assert can_fork or not self.constants, "only a forked process can replace constants"
        return can_fork

    def start(self, *options: str) -> None:
        """Start the server and wait until it is ready and has all its workers.

        /readyz already replies when only the first worker has started.
        """
        self.launch(*options)
        workers = (
            int(options[options.index("--workers") + 1]) if "--workers" in options else WORKERS
        )
        wait_until(
            lambda: self._is_ready() and self._worker_count() in (None, workers),
            f"the server does not answer:\n{self.log}",
            timeout_s=60,
        )

    def launch(self, *options: str) -> None:
        """Start the server without waiting for it."""
        with (
            (self.folder / "server.log").open("a", encoding="utf-8") as log,
            open(os.devnull, encoding="ascii") as nothing,
        ):
            # Its own process group, so that it can be killed together with its workers.
            self.server = self.begin(
                ("serve", "--port", str(self.port), *options), [nothing, log, log], own_group=True
            )

    def begin(
        self, arguments: Sequence[str], files: Sequence[IO[Any]], *, own_group: bool = False
    ) -> subprocess.Popen[str] | warm.Warm:
        """Start a command with these files as stdin, stdout and stderr, without waiting for it."""
        environment = self.full_environment()
        if self._can_fork(environment):
            return warm.Warm(arguments, environment, self.constants, files, own_group=own_group)
        line, (stdin, stdout, stderr) = [sys.executable, "-m", "flask", *arguments], files
        return subprocess.Popen(
            line,
            cwd=PROJECT,
            env=environment,
            text=True,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            process_group=0 if own_group else None,
        )

    def _is_ready(self) -> bool:
        assert self.server is not None
        assert self.server.poll() is None, self.log
        try:
            return requests.get(f"{self.url}/readyz", timeout=5).ok
        except requests.ConnectionError:
            return False

    @property
    def workers(self) -> list[int]:
        """The process ids of the server's workers, read from /proc (Linux)."""
        assert self.server is not None
        children = Path(f"/proc/{self.server.pid}/task/{self.server.pid}/children")
        return sorted(int(child) for child in children.read_text(encoding="ascii").split())

    def _worker_count(self) -> int | None:
        """The number of workers; None without Linux's /proc."""
        return len(self.workers) if Path("/proc/self/task").exists() else None

    @property
    def log(self) -> str:
        """The server's log."""
        return (self.folder / "server.log").read_text(encoding="utf-8")

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> int:
        """Stop the server and wait for its end; returns its exit status."""
        assert self.server is not None
        if self.server.poll() is None:
            self.server.send_signal(with_signal)
        status = self.server.wait(timeout=60)
        self.server = None
        return status

    def end(self) -> None:
        """Kill the server and its workers, if running.

        Orphaned workers would keep their database connections open for a while.
        """
        if self.server is not None:
            if self.server.poll() is None:
                os.killpg(self.server.pid, signal.SIGKILL)
            self.stop()

    def post(self, path: str, body: object, **options: Any) -> requests.Response:
        """POST JSON to the server."""
        return requests.post(f"{self.url}{path}", json=body, timeout=30, **options)

    def key(self) -> dict[str, str]:
        """The Authorization header of the demo's orchestrator."""
        name, _, value = (
            (self.folder / "demo" / "orchestrator.header")
            .read_text(encoding="utf-8")
            .strip()
            .partition(": ")
        )
        return {name: value}

    def session(self, file: str) -> requests.Session:
        """Log in as one of the demo's users: jane, fiona or alex."""
        session = requests.Session()
        login = (self.folder / "demo" / f"{file}.json").read_text(encoding="utf-8")
        response = session.post(
            f"{self.url}/api/auth/login",
            data=login,
            headers={"Content-Type": "application/json"},
            timeout=30,
        )
        assert response.status_code == 200, response.text
        return session


def session_cookie(session: requests.Session) -> str:
    """The value of the session cookie."""
    cookie: str | None = session.cookies.get("budget_sync_session")
    assert cookie is not None
    return cookie
