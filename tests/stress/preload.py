"""`preload.c` compiled and put into a server: its disk can be watched and made to fail, and its wall clock turned."""

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
    """The compiled library, made once a process."""
    gcc = shutil.which("gcc")
    needs(gcc, "gcc (and libc6-dev)")
    folder = Path(tempfile.mkdtemp(prefix="prove-preload-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = folder / "preload.so"
    subprocess.run(
        [
            str(gcc),
            "-O2",
            "-Wall",
            "-shared",
            "-fPIC",
            "-o",
            made,
            Path(__file__).with_name("preload.c"),
            "-ldl",
        ],
        check=True,
    )
    return made


def preload(server: Installation, **variables: Path) -> None:
    """Have what is started from now on run with the library."""
    server.environment |= {"LD_PRELOAD": str(library()), "PROVE_DATABASE": str(server.database)} | {
        name: str(path) for name, path in variables.items()
    }


class _Shared:
    """Numbers in a file that the preloaded processes see change."""

    def __init__(self, path: Path, layout: str) -> None:
        self.path = path
        self._layout = layout
        path.write_bytes(bytes(struct.calcsize(layout)))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)

    def set(self, *numbers: int) -> None:
        """Change them all."""
        self._memory[:] = struct.pack(self._layout, *numbers)

    def get(self) -> tuple[int, ...]:
        """What they are now."""
        return struct.unpack(self._layout, self._memory[:])


class Fault(_Shared):
    """The disk's fault: which calls fail, after how many that succeed, how many of them, and how."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "Qqqq")

    def after(self, successes: int, kinds: int, error: int, failures: int = 1) -> None:
        """Let calls fail after that many more have succeeded."""
        # The kinds last, so that nothing fails by halves.
        self.set(0, successes, failures, error)
        self.set(kinds, successes, failures, error)

    def mend(self) -> bool:
        """Let nothing fail any more; returns whether anything did."""
        _, successes, *_ = self.get()
        self.set(0, 0, 0, 0)
        return successes < 0


class Clock(_Shared):
    """The wall clock of the preloaded processes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "q")

    def ahead(self, seconds: int) -> None:
        """Let it be that far ahead of the true one, or behind."""
        self.set(seconds)
