"""A pass by `flask sync-sheets`, at a terminal of its own: there the command says how far it is, so that it can be met in the middle of its work."""

from __future__ import annotations

import os
import pty
import select
import signal
import time
from contextlib import AbstractContextManager
from pathlib import Path

from support.installation import Installation, found

#: Seconds that starting the command may take on a busy machine, and that the whole of it may.
STARTS_S, ENDS_S = 30.0, 60.0


def write_sheet(server: Installation, name: str, rows: int, amount: int) -> None:
    """A CSV file of so many budgets, all of that amount."""
    folder = server.folder / "sheets"
    folder.mkdir(exist_ok=True)
    lines = [f"Department {number},Q1 2026,{amount}" for number in range(rows)]
    # In its place at once: a pass must not read half of it.
    draft = folder / "draft"
    draft.write_text(
        "\n".join(["Department,Fiscal Period,Budgeted Amount", *lines, ""]), encoding="utf-8"
    )
    draft.replace(folder / name)


def last_pass_s(target: Path | str) -> float:
    """How long the last pass took that changed anything."""
    ((took_ms,),) = found(
        target,
        """SELECT "durationMs" FROM "SyncHistory" WHERE "createdCount" + "updatedCount" > 0 ORDER BY "id" DESC LIMIT 1""",
    )
    return float(took_ms) / 1000


class Pass(AbstractContextManager["Pass"]):
    """The command under way, and what it has said of the pass over one CSV file; killed at the end if it still runs."""

    def __init__(self, server: Installation, name: str) -> None:
        self.said = ""
        self._name = name
        self._terminal, theirs = pty.openpty()
        with open(os.devnull, "rb") as nothing, open(theirs, "wb", buffering=0) as terminal:
            self.process = server.begin(["sync-sheets"], [nothing, terminal, terminal])

    def __exit__(self, *problem: object) -> None:
        self.kill()
        os.close(self._terminal)

    @property
    def began(self) -> bool:
        """Whether it has said that it reads the file."""
        return f"reading CSV {self._name}" in self.said

    @property
    def wrote(self) -> bool:
        """Whether it has said that rows are written, in a transaction that is open or has ended since."""
        return "writing " in self.said

    @property
    def ended(self) -> bool:
        """Whether it has said what came of the file."""
        return f"(CSV {self._name}): " in self.said

    def wait_for_begin(self, *, of_writing: bool = False) -> None:
        """Wait until it begins with the file, or with writing what it says; or has ended without."""
        deadline = time.monotonic() + STARTS_S
        while (
            not (self.wrote if of_writing else self.began)
            and time.monotonic() < deadline
            and self._listen(deadline)
        ):
            pass

    def listen(self, seconds: float) -> None:
        """Hear what it says for so long, or until it has ended."""
        until = time.monotonic() + seconds
        while self._listen(until):
            pass

    def kill(self) -> None:
        """Kill it, and hear the last that it said."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.listen(1)

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        self.listen(ENDS_S)
        return self.process.wait(ENDS_S)

    def _listen(self, until: float) -> bool:
        """Hear what comes next; False where it has ended, or the time is up."""
        if not select.select([self._terminal], [], [], max(0.0, until - time.monotonic()))[0]:
            return False
        try:
            self.said += os.read(self._terminal, 65536).decode(errors="replace")
        except OSError:
            # Linux's way to say that nobody has the other end open any more.
            return False
        return True
