"""Files that are sources: in the configured folder, or uploaded in the console."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePath
from typing import NamedTuple

from budget_sync.sync.limits import MAX_BYTES
from budget_sync.sync.source import CSV, FetchError, Target


class SourceBytes(NamedTuple):
    """A file's content and name, without its folder."""

    data: bytes
    name: str


def read_source_file(target: Target, folder: Path) -> SourceBytes:
    """Read the file of a source. Raises FetchError."""
    kind = _kind_name(target.kind)
    if target.upload is not None:
        data, name = target.upload.content, target.upload.name
    elif target.file_path is not None:
        data = _read(source_file(folder, target.file_path, target.kind), kind)
        name = PurePath(target.file_path).name
    else:
        raise FetchError(f"The {kind} file was not uploaded yet: upload it.")
    if len(data) > MAX_BYTES:
        raise FetchError(f"The {kind} file is larger than {MAX_BYTES // 1024 // 1024} MB.")
    return SourceBytes(data, name)


def source_file(folder: Path, path: str, kind: str = CSV) -> Path:
    """The file of a source. Raises FetchError unless it is inside the folder, links resolved."""
    try:
        root = folder.resolve()
        file = (root / path).resolve()
        inside = file.is_relative_to(root) and file != root
    except (OSError, ValueError, RuntimeError):
        inside = False
    if not inside:
        raise FetchError(
            f"The {_kind_name(kind)} file's path is not inside the folder for CSV files."
        )
    return file


def _kind_name(kind: str) -> str:
    return "CSV" if kind == CSV else "Excel"


def _read(file: Path, kind: str) -> bytes:
    try:
        # The resolved path contains no link (O_NOFOLLOW holds if one appears now), and a pipe must
        # not block the sync run (O_NONBLOCK).
        with open(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise FetchError(f"The {kind} path is not a regular file.")
            return opened.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise FetchError(
            f"The {kind} file is not in the folder for CSV files: put it there."
        ) from None
    except OSError as error:
        raise FetchError(f"The {kind} file cannot be opened: {error.strerror}.") from None
