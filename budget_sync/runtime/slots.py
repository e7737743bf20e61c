"""Slots: how many of something may run at once on this machine, across all processes.

A slot is a locked file, because the limit applies to all processes together, and the kernel unlocks
the slot of a killed process.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from budget_sync.runtime import files


@contextmanager
def try_slot(folder: Path, name: str, count: int) -> Iterator[bool]:
    """Hold one of the `count` slots of a name; False if all are taken. Never waits."""
    for number in range(count):
        with try_file_lock(folder / f"{name}-slot-{number}.lock") as is_locked:
            if is_locked:
                yield True
                return
    yield False


@contextmanager
def try_file_lock(path: Path) -> Iterator[bool]:
    """Hold the lock on a file, which is created if it is missing; False if it is held already."""
    files.create_folder(path.parent)
    file = files.open_or_create(path)
    try:
        yield _try_lock(file)
    finally:
        os.close(file)


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
