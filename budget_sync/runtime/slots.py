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
        with try_file_lock(_path(folder, name, number)) as is_locked:
            if is_locked:
                yield True
                return
    yield False


@contextmanager
def try_file_lock(path: Path) -> Iterator[bool]:
    """Hold the lock on a file, which is created if it is missing; False if it is held already.

    Raises RequestError UNAVAILABLE if the file cannot be opened or locked.
    """
    file = files.open_lock(path.parent, path.name)
    try:
        yield _try_lock(file)
    finally:
        os.close(file)


def require_usable(folder: Path, name: str, count: int) -> None:
    """Raise RequestError UNAVAILABLE if this process cannot open the slots. Takes none of them."""
    for number in range(count):
        path = _path(folder, name, number)
        os.close(files.open_lock(path.parent, path.name))


def _path(folder: Path, name: str, number: int) -> Path:
    return folder / f"{name}-slot-{number}.lock"


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        # A network file system may have no locks.
        raise files.folder_error(error) from error
    return True
