"""Sync runs by `flask sync-sheets`, followed through the progress it prints to a terminal."""

from __future__ import annotations

import os
import pty
import select
import signal
import time
from contextlib import AbstractContextManager
from pathlib import Path

from support.installation import Installation, found

#: Timeouts for the command's start on a busy machine, and for the whole command, in seconds.
STARTS_S, ENDS_S = 30.0, 60.0


def write_sheet(server: Installation, name: str, rows: int, amount: int) -> None:
    """Write a CSV file with this many budgets, all with this amount."""
    folder = server.folder / "sheets"
    folder.mkdir(exist_ok=True)
    lines = [f"Department {number},Q1 2026,{amount}" for number in range(rows)]
    # Replace the file atomically: a sync run must not read half of it.
    draft = folder / "draft"
    draft.write_text(
        "\n".join(["Department,Fiscal Period,Budgeted Amount", *lines, ""]), encoding="utf-8"
    )
    draft.replace(folder / name)


def last_run_s(target: Path | str) -> float:
    """The duration of the last sync run that changed anything."""
    ((took_ms,),) = found(
        target,
        """
        SELECT "durationMs" FROM "SyncHistory" WHERE "createdCount" + "updatedCount" > 0
        ORDER BY "id" DESC LIMIT 1
        """,
    )
    return float(took_ms) / 1000


class SyncRun(AbstractContextManager["SyncRun"]):
    """The running command and its output about one CSV file. Killed at the end if running."""

    def __init__(self, server: Installation, name: str) -> None:
        self.output = ""
        self._name = name
        self._terminal, theirs = pty.openpty()
        with open(os.devnull, "rb") as nothing, open(theirs, "wb", buffering=0) as terminal:
            self.process = server.begin(["sync-sheets"], [nothing, terminal, terminal])

    def __exit__(self, *problem: object) -> None:
        self.kill()
        os.close(self._terminal)

    @property
    def began(self) -> bool:
        """Whether it has started to read the file."""
        return f"reading CSV {self._name}" in self.output

    @property
    def wrote(self) -> bool:
        """Whether it has started to write rows. The transaction may have ended since."""
        return "writing " in self.output

    @property
    def ended(self) -> bool:
        """Whether it has printed the file's result."""
        return f"(CSV {self._name}): " in self.output

    def wait_for_begin(self, *, of_writing: bool = False) -> None:
        """Wait until it starts to read, or to write; or until it ends."""
        deadline = time.monotonic() + STARTS_S
        while (
            not (self.wrote if of_writing else self.began)
            and time.monotonic() < deadline
            and self._collect_next(deadline)
        ):
            pass

    def collect(self, seconds: float) -> None:
        """Collect output for this long, or until it ends."""
        until = time.monotonic() + seconds
        while self._collect_next(until):
            pass

    def kill(self) -> None:
        """Kill it and collect the rest of its output."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.collect(1)

    def wait(self) -> int:
        """Wait for its exit status."""
        self.collect(ENDS_S)
        return self.process.wait(ENDS_S)

    def _collect_next(self, until: float) -> bool:
        """Collect the next output; False if it has ended or the time is over."""
        if not select.select([self._terminal], [], [], max(0.0, until - time.monotonic()))[0]:
            return False
        try:
            self.output += os.read(self._terminal, 65536).decode(errors="replace")
        except OSError:
            # On Linux, the other end of the terminal is closed.
            return False
        return True
