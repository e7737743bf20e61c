"""Slots: at most so many at once, in all processes; a killed process frees its slot."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path

from budget_sync.runtime.slots import try_file_lock, try_slot


def test_no_more_slots_than_the_count(tmp_path: Path) -> None:
    with ExitStack() as held:
        assert [held.enter_context(try_slot(tmp_path, "run", 2)) for _ in range(4)] == [
            True,
            True,
            False,
            False,
        ]
        with try_slot(tmp_path, "other", 2) as is_free:
            assert is_free
    with try_slot(tmp_path, "run", 2) as is_free:
        assert is_free


def test_killed_process_frees_its_slot(tmp_path: Path) -> None:
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        with try_slot(tmp_path, "run", 1):
            os.write(tell, b"held")
            signal.pause()
        os._exit(0)
    assert os.read(told, 4) == b"held"
    with try_slot(tmp_path, "run", 1) as is_free:
        assert not is_free
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(told)
    os.close(tell)
    with try_slot(tmp_path, "run", 1) as is_free:
        assert is_free


def test_missing_folder_is_created(tmp_path: Path) -> None:
    folder = tmp_path / "missing" / "instance"
    with try_file_lock(folder / "sync-1.lock") as is_locked:
        assert is_locked
    assert folder.stat().st_mode & 0o777 == 0o700
