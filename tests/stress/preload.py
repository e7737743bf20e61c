"""Loads `preload.c` into servers, to record disk calls, let them fail, and set the clock."""

from __future__ import annotations

import atexit
import mmap
import shutil
import struct
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from support.installation import Installation
from support.machine import needs

WRITE, SYNC, TRUNCATE = 1, 2, 4


@cache
def library() -> Path:
    """The compiled library; compiled once per process."""
    gcc = shutil.which("gcc")
    needs(gcc, "gcc (and libc6-dev)")
    folder = Path(tempfile.mkdtemp(prefix="stress-preload-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    library_path = folder / "preload.so"
    subprocess.run(
        [
            str(gcc),
            "-O2",
            "-Wall",
            "-shared",
            "-fPIC",
            "-o",
            library_path,
            Path(__file__).with_name("preload.c"),
            "-ldl",
        ],
        check=True,
    )
    return library_path


def preload(server: Installation, **variables: Path) -> None:
    """Load the library into all processes that the installation starts from now on."""
    server.environment |= {
        "LD_PRELOAD": str(library()),
        "STRESS_DATABASE": str(server.database),
    } | {name: str(path) for name, path in variables.items()}


class _Shared:
    """Numbers in a file that preloaded processes see change."""

    def __init__(self, path: Path, layout: str) -> None:
        self.path = path
        self._layout = layout
        path.write_bytes(bytes(struct.calcsize(layout)))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)

    def set(self, *numbers: int) -> None:
        """Set all numbers."""
        self._memory[:] = struct.pack(self._layout, *numbers)

    def get(self) -> tuple[int, ...]:
        """Read all numbers."""
        return struct.unpack(self._layout, self._memory[:])


class Fault(_Shared):
    """The disk fault: which calls fail, after how many successes, how often and with what error."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "Qqqq")

    def after(self, successes: int, kinds: int, error: int, failures: int = 1) -> None:
        """Let calls fail after this many further successes."""
        # The kinds are set last, so that a fault never starts half configured.
        self.set(0, successes, failures, error)
        self.set(kinds, successes, failures, error)

    def clear(self) -> bool:
        """Stop failing; returns whether a call has failed."""
        _, successes, *_ = self.get()
        self.set(0, 0, 0, 0)
        return successes < 0


class Clock(_Shared):
    """The wall clock of the preloaded processes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "q")

    def ahead(self, seconds: int) -> None:
        """Set the clock this far ahead of the true time, or behind if negative."""
        self.set(seconds)
