"""Reads files of sources in processes with limited memory and processor time.

As a program, it reads one JSON list per line (kind, folder, name, and the name of a worksheet or
null), and answers each with one JSON object. Each file is read in a forked process, so that the
imports are needed only once.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple, Self

from budget_sync.sync import fetch, xlsx  # noqa: F401  # imported before the limits
from budget_sync.sync.reading.decode import decode
from budget_sync.sync.reading.model import CsvFormat
from budget_sync.sync.reading.result import SheetProblem
from budget_sync.sync.source import FetchError, Reach, Target
from support.machine import PROJECT

#: What a process may use beyond what it has after the imports.
MEMORY_BYTES = 512 * 1024 * 1024
CPU_S = 20


class Outcome(NamedTuple):
    """How reading a file ended: a sentence, or the number of rows and the first cell.

    `error` is an unexpected exception, or how the process died.
    """

    sentence: str | None = None
    rows: int | None = None
    first: str | None = None
    error: str | None = None


class LimitedReader:
    """The program in a child process."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.limited_reader"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{PROJECT}:{PROJECT / 'tests'}"},
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)

    def read(self, kind: str, file: Path, worksheet: str | None = None) -> Outcome:
        """Read a file."""
        return self.read_path(kind, file.parent, file.name, worksheet)

    def read_path(
        self, kind: str, folder: Path, path: str, worksheet: str | None = None
    ) -> Outcome:
        """Read the file at a path in a folder."""
        assert self._process.stdin
        assert self._process.stdout
        request = json.dumps([kind, str(folder), path, worksheet])
        print(request, file=self._process.stdin, flush=True)  # to the program
        return Outcome(**json.loads(self._process.stdout.readline()))


def _limit() -> None:
    """Limit this process."""
    status = Path("/proc/self/statm").read_text(encoding="ascii")
    used = int(status.split()[0]) * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (used, used))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = int(usage.ru_utime + usage.ru_stime) + CPU_S
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _read(kind: str, folder: str, name: str, worksheet: str | None) -> dict[str, Any]:
    target = Target(kind, worksheet=worksheet, file_path=name)
    try:
        source = fetch.read_target(target, Reach(Path(folder))).source
        grid = decode(source, CsvFormat()) if isinstance(source, bytes) else source
    except (FetchError, SheetProblem) as problem:
        return {"sentence": str(problem)}
    first = next((repr(cell) for row in grid.rows for cell in row), None)
    return {"rows": len(grid.rows), "first": first and first[:100]}


def main() -> None:
    """Answer requests until the input ends."""
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            _limit()
            try:
                found = _read(*json.loads(line))
            except BaseException as error:  # noqa: BLE001  # reported
                found = {"error": f"{type(error).__name__}: {error}"[:300]}
            print(json.dumps(found), flush=True)  # noqa: T201  # a program
            os._exit(0)
        status = os.waitpid(process, 0)[1]
        if status:
            died = {"error": f"the process died with status {status}"}
            print(json.dumps(died), flush=True)  # noqa: T201  # a program


if __name__ == "__main__":
    main()
