"""The example orchestrators, run as their README says, and a proxy that loses replies."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import requests
from peewee import sqlite3  # type: ignore[attr-defined]  # missing from peewee's stubs

from support.installation import Installation
from support.machine import PROJECT, free_port, needs, wait_until

FOLDER = PROJECT / "examples" / "orchestrator"
PYTHON = FOLDER / "python" / "orchestrator.py"
TYPESCRIPT = FOLDER / "typescript"

LANGUAGES = ("python", "typescript")


def npm(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run npm in a folder."""
    line = ["npm", "--no-audit", "--no-fund", *arguments]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)


def built_typescript(shared: Path) -> Path:
    """A folder with the example in TypeScript, its packages, and the compiled program.

    The first caller of a test run installs and compiles, also if tests run in several processes.
    """
    for name in ("node", "npm"):
        needs(shutil.which(name), f"{name} (Debian packages nodejs and npm)")
    folder = shared / "typescript"
    with (shared / "typescript.lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "dist").exists():
            shutil.rmtree(folder, ignore_errors=True)
            ignored = shutil.ignore_patterns("node_modules", "dist")
            shutil.copytree(TYPESCRIPT, folder, ignore=ignored)
            installed = npm("ci", "--ignore-scripts", folder=folder)
            needs(installed.returncode == 0, f"the packages of npm:\n{installed.stderr[-500:]}\n")
            compiled = npm("run", "build", folder=folder)
            assert compiled.returncode == 0, compiled.stdout
    return folder


class FaultyProxy:
    """Forwards requests to the server. The first request of some paths gets a fault instead."""

    #: By the start of the path: forwarded without the reply, or answered with this status.
    FAULTS = (
        ("/api/budget/check", "lost"),
        ("/api/budget/reserve", "lost"),
        ("/api/budget/commit", "lost"),
        ("/api/budget/release", "lost"),
        ("/api/requests/", 502),
        ("/api/events", 503),
    )

    def __init__(self, target: str) -> None:
        self.target = target
        self.happened: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                proxy._handle(self)

            def do_POST(self) -> None:
                proxy._handle(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def running(self) -> Iterator[FaultyProxy]:
        """Run it in a thread."""
        work = threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True)
        work.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        faults = [fault for fault in self.FAULTS if handler.path.startswith(fault[0])]
        fault = next((each for each in faults if each[0] not in self.happened), None)
        if fault:
            self.happened.append(fault[0])
            if fault[1] != "lost":
                handler.send_response(int(fault[1]))
                handler.send_header("Retry-After", "1")
                handler.end_headers()
                return
        kept = ("authorization", "content-type", "idempotency-key")
        headers = {name: text for name, text in handler.headers.items() if name.lower() in kept}
        try:
            reply = requests.request(
                handler.command, self.target + handler.path, data=body, headers=headers, timeout=30
            )
        except requests.ConnectionError:
            # The server is down, so the client gets no reply.
            return
        if fault:
            return
        handler.send_response(reply.status_code)
        handler.send_header("Content-Type", reply.headers["Content-Type"])
        if "Retry-After" in reply.headers:
            handler.send_header("Retry-After", reply.headers["Retry-After"])
        handler.end_headers()
        handler.wfile.write(reply.content)


@dataclass
class Orchestrator:
    """A running example: its process, its receiver's port and secret, and the file it stores."""

    process: subprocess.Popen[str]
    port: int
    secret: str
    store: Path

    def send(self, step: str, request_id: str, **facts: Any) -> None:
        """Send a step without waiting for its result."""
        assert self.process.stdin is not None
        line = {"step": step, "requestId": request_id} | facts
        self.process.stdin.write(f"{json.dumps(line)}\n")
        self.process.stdin.flush()

    def result(self) -> tuple[str, str | None]:
        """The state after the oldest step that was sent, and its problem."""
        assert self.process.stdout is not None
        row = json.loads(self.process.stdout.readline())
        return row["state"], row["problem"]

    def do(self, step: str, request_id: str, **facts: Any) -> tuple[str, str | None]:
        """Do a step."""
        self.send(step, request_id, **facts)
        return self.result()

    def stored(self, request_id: str) -> dict[str, Any]:
        """The stored row of a request."""
        if self.store.suffix == ".json":
            kept = json.loads(self.store.read_text(encoding="utf-8"))
            row: dict[str, Any] = kept["requests"][request_id]
            return row
        connection = sqlite3.connect(self.store)
        try:
            sql = "SELECT data FROM kept WHERE id = ?"
            (text,) = connection.execute(sql, [f"request:{request_id}"]).fetchone()
        finally:
            connection.close()
        parsed: dict[str, Any] = json.loads(text)
        return parsed

    def wait_for(self, request_id: str, **expected: Any) -> None:
        """Wait until the stored row has these values."""
        wait_until(
            lambda: self.stored(request_id).items() >= expected.items(),
            f"{request_id} is not {expected}",
        )


@contextmanager
def orchestrator(
    language: str, shared: Path, server: Installation, folder: Path, url: str, poll_s: float
) -> Iterator[Orchestrator]:
    """A running example with a key and a webhook of its own."""
    port = free_port()
    added = server.flask(
        *("add-key", "--customer", "org-456", "--name", "workflow", "--may-overspend"),
        *("--scopes", "check,reserve,commit,release,read"),
    )
    webhook = server.flask(
        *("add-webhook", "--customer", "org-456", "--url", f"http://127.0.0.1:{port}/")
    )
    store = folder / ("store.json" if language == "typescript" else "store.db")
    environment = server.full_environment() | {
        "BUDGET_SYNC_URL": url,
        "BUDGET_SYNC_KEY": added.stdout.split()[-1],
        "WEBHOOK_SECRET": webhook.stdout.split()[-1],
        "PORT": str(port),
        "STORE": str(store),
        "POLL_S": str(poll_s),
    }
    line = [sys.executable, str(PYTHON)]
    if language == "typescript":
        line = ["node", str(built_typescript(shared) / "dist" / "orchestrator.js")]
    with (
        (folder / "orchestrator.log").open("w", encoding="utf-8") as log,
        subprocess.Popen(
            line,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        ) as process,
    ):
        try:
            yield Orchestrator(process, port, environment["WEBHOOK_SECRET"], store)
        finally:
            process.kill()
