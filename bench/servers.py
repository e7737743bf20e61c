"""Starts and stops the servers to be measured, and loads them with wrk."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.machine import PROJECT, require_loaded
from bench.places import BenchError
from bench.stock import BUDGETS

WORKERS = 2


class Server(NamedTuple):
    """A running server, and the time from its start to its first reply."""

    pid: int
    port: int
    start_s: float


class Load(NamedTuple):
    """The figures of wrk: acknowledged, rejected (error) and lost (no reply) requests."""

    seconds: float
    p50_ms: float
    p99_ms: float
    acknowledged: int
    rejected: int
    lost: int
    next_number: int
    first_rejection: str


def product_command(port: int) -> list[str]:
    """How an operator starts the product."""
    return [sys.executable, "-m", "flask", "serve", "--port", str(port), "--workers", str(WORKERS)]


def other_command(app: str, port: int) -> list[str]:
    """An app of `bench.serve` on the same server."""
    return [sys.executable, "-m", "bench.serve", app, str(port), str(WORKERS)]


def free_port() -> int:
    """An unused port on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def running(
    command: list[str], port: int, environment: dict[str, str], log: Path
) -> Iterator[Server]:
    """Start a server, wait for its first reply, and stop it at the end."""
    began_s = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=PROJECT, env=environment, stdout=output, stderr=output
        )
    try:
        while not _answers(port):
            if process.poll() is not None or time.perf_counter() - began_s > 60:
                raise BenchError(
                    "The server does not start:\n"
                    + log.read_text(encoding="utf-8", errors="replace")
                )
            time.sleep(0.01)
        if "LD_PRELOAD" in environment:
            require_loaded(process.pid, Path(environment["LD_PRELOAD"]))
        yield Server(process.pid, port, time.perf_counter() - began_s)
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def wrk(
    port: int,
    verb: str,
    key: str,
    *,
    clients: int,
    seconds: int,
    tag: str,
    hot: bool = False,
    first: int = 0,
) -> Load:
    """Load a server.

    One thread of wrk sends far more than any of these servers can answer, and leaves a core to
    them.
    """
    command = [
        "wrk", "--threads=1", f"--connections={clients}", f"--duration={seconds}s", "--timeout=30s",
        f"--script={Path(__file__).with_name('load.lua')}", f"--header=Authorization: Bearer {key}",
        f"http://127.0.0.1:{port}", "--", verb, tag, str(1 if hot else BUDGETS), str(first),
    ]  # fmt: skip
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    found = [
        line.partition(" ")[2]
        for line in done.stdout.splitlines()
        if line.startswith(("RESULT ", "REJECTION "))
    ]
    if len(found) != 2:
        raise BenchError(f"wrk: {done.stdout}{done.stderr}")
    duration_us, p50_us, p99_us, acknowledged, rejected, lost, next_number = map(
        int, found[0].split()
    )
    return Load(
        duration_us / 1e6,
        p50_us / 1000,
        p99_us / 1000,
        acknowledged,
        rejected,
        lost,
        next_number,
        found[1],
    )
