"""A whole installation: an instance folder, commands, a running server."""

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

#: How many a server has that is not told how many.
WORKERS = 2


def found(target: Path | str, sql: str) -> list[Any]:
    """What anybody with the database finds in it with a statement, on a connection of their own: that file, or that URL's."""
    with closing(
        psycopg.connect(target)
        if isinstance(target, str)
        else sqlite3.connect(f"{target.absolute().as_uri()}?mode=ro", uri=True)
    ) as connection:
        rows: list[Any] = connection.execute(sql).fetchall()
    return rows


@dataclass
class Installation:
    """A whole installation as an operator has it: a folder, commands, and a server that can be started and stopped."""

    environment: dict[str, str]
    port: int = field(default_factory=free_port)
    server: subprocess.Popen[str] | warm.Warm | None = None
    #: What its processes have instead of a module's own constants, by their full names: shorter time-outs, above all.
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
        """Where the server listens."""
        return f"http://127.0.0.1:{self.port}"

    def full_environment(self) -> dict[str, str]:
        """The installation's environment over this process's own."""
        return (
            os.environ
            | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
            | self.environment
        )

    def flask(
        self, *arguments: str, check: bool = True, timeout: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as an operator would; what it has printed."""
        environment = self.full_environment()
        if self._may_be_warm(environment):
            done = warm.run(arguments, environment, self.constants, timeout=timeout)
        else:
            line = [sys.executable, "-m", "flask", *arguments]
            done = subprocess.run(
                line,
                cwd=PROJECT,
                env=environment,
                text=True,
                capture_output=True,
                check=False,
                timeout=timeout,
            )
        if check:
            done.check_returncode()
        return done

    def _may_be_warm(self, environment: dict[str, str]) -> bool:
        """Whether a command need not start with Python: in `make prove`, what a start takes is a part of what is tried."""
        may_be = "PYTEST_VERSION" in os.environ and not warm.comes_too_late(environment)
        assert may_be or not self.constants, "only what is forked can have other constants"
        return may_be

    def start(self, *options: str) -> None:
        """Start the server, and wait until it is ready, with all its workers: the first of them answers for the service."""
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
        """Start the server, and wait for nothing."""
        with (
            (self.folder / "server.log").open("a", encoding="utf-8") as log,
            open(os.devnull, encoding="ascii") as nothing,
        ):
            # In a group of its own, so that it can be killed together with its workers.
            self.server = self.begin(
                ("serve", "--port", str(self.port), *options), [nothing, log, log], own_group=True
            )

    def begin(
        self, arguments: Sequence[str], files: Sequence[IO[Any]], *, own_group: bool = False
    ) -> subprocess.Popen[str] | warm.Warm:
        """Start a command with these files as its standard ones, and wait for nothing."""
        environment = self.full_environment()
        if self._may_be_warm(environment):
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
        """The process ids of the server's workers, by the /proc of Linux."""
        assert self.server is not None
        children = Path(f"/proc/{self.server.pid}/task/{self.server.pid}/children")
        return sorted(int(child) for child in children.read_text(encoding="ascii").split())

    def _worker_count(self) -> int | None:
        """How many workers there are; None where there is no /proc of Linux to say it."""
        return len(self.workers) if Path("/proc/self/task").exists() else None

    @property
    def log(self) -> str:
        """What the server has logged."""
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
        """Kill the server, if it runs, and its workers with it: they would keep their connections to the database for a while."""
        if self.server is not None:
            if self.server.poll() is None:
                os.killpg(self.server.pid, signal.SIGKILL)
            self.stop()

    def post(self, path: str, body: object, **options: Any) -> requests.Response:
        """POST JSON to the server."""
        return requests.post(f"{self.url}{path}", json=body, timeout=30, **options)

    def key(self) -> dict[str, str]:
        """The header of the demo's orchestrator."""
        name, _, value = (
            (self.folder / "demo" / "orchestrator.header")
            .read_text(encoding="utf-8")
            .strip()
            .partition(": ")
        )
        return {name: value}

    def session(self, file: str) -> requests.Session:
        """A session of one of the demo's people: jane, fiona or alex."""
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
    """The cookie of a person's session."""
    cookie: str | None = session.cookies.get("budget_sync_session")
    assert cookie is not None
    return cookie
