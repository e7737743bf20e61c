"""Creates the files and folders of an installation, readable by the service's user only.

A command that root runs may create a file that the service also needs, and the service could not
open a file that belongs to root. So root gives each new file to the owner of its folder. That owner
could put links into the folder to make root change or give away another file. So root gives away
only what it has just created, by descriptor, and never follows a link.
"""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

from budget_sync.domain.errors import Code, RequestError

_OPEN = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_FOLDER = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY

#: How long a client should wait before it retries, in seconds, while the folder cannot be used.
_RETRY_AFTER_S = 5


def create(path: Path, *, like: str | None = None) -> int:
    """Create an empty file that only its owner may read, and return its open descriptor.

    Root gives it to the owner of the file `like` in the same folder, or, without such a file,
    to the owner of the folder. Raises FileExistsError if the name is taken.
    """
    # Use the folder's descriptor for every step: a moment later, its path may lead to another
    # folder.
    folder = os.open(path.parent, _FOLDER)
    try:
        file = os.open(path.name, _OPEN | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
        try:
            _give(file, _owner(folder, like))
        except BaseException:
            os.close(file)
            os.unlink(path.name, dir_fd=folder)
            raise
    except OSError as error:
        # The error would name the file without its folder.
        error.filename = str(path)
        raise
    finally:
        os.close(folder)
    return file


def open_or_create(path: Path) -> int:
    """Open a file for reading and writing, create it if it is missing, and return its descriptor.

    Raises OSError for a symbolic link.
    """
    try:
        return os.open(path, _OPEN)
    except FileNotFoundError:
        pass
    try:
        return create(path)
    except FileExistsError:
        # Another process was faster.
        return os.open(path, _OPEN)


def open_lock(folder: Path, name: str) -> int:
    """Open a lock file of the instance folder and return its descriptor.

    Creates the file and the folder if they are missing. Raises RequestError UNAVAILABLE if that is
    impossible. Its sentence has no path, because API clients see it.
    """
    try:
        create_folder(folder)
        return open_or_create(folder / name)
    except OSError as error:
        raise folder_error(error) from error


def folder_error(error: OSError) -> RequestError:
    """The RequestError for an instance folder that cannot be used."""
    is_in_the_way = isinstance(error, FileExistsError | NotADirectoryError)
    reason = os.strerror(errno.ENOTDIR if is_in_the_way else error.errno or errno.EIO)
    return RequestError(
        Code.UNAVAILABLE,
        f"The instance folder cannot be used: {reason}. Nothing was changed. Check the folder "
        "that INSTANCE_FOLDER names, its owner and its permissions.",
        retryAfter=_RETRY_AFTER_S,
    )


def create_once(path: Path, text: str) -> None:
    """Create a file with that text unless it exists. Atomic: no reader sees a part of the text."""
    draft = _write_draft(path, text)
    try:
        os.link(draft, path, follow_symlinks=False)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def write(path: Path, text: str) -> None:
    """Create or replace a file. Atomic: a reader sees the old text or the new one."""
    draft = _write_draft(path, text)
    try:
        draft.replace(path)
    except BaseException:
        draft.unlink()
        raise


def rename_to_new(path: Path, to: Path) -> Path:
    """Rename a file without overwriting another, to a numbered name if `to` is taken.

    Returns the new path.
    """
    name, number = to, 1
    while True:
        try:
            os.link(path, name, follow_symlinks=False)
            break
        except FileExistsError:
            number += 1
            name = to.with_name(f"{to.stem}-{number}{to.suffix}")
    try:
        path.unlink()
    except BaseException:
        name.unlink()
        raise
    return name


def create_folder(path: Path) -> None:
    """Create a folder that only its owner may enter, and its missing parents, if it is missing."""
    if path.is_dir():
        return
    create_folder(path.parent)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not path.is_dir():
            raise
        # Another process was faster.
        return
    if os.geteuid() == 0:
        _give_folder(path)


def _write_draft(path: Path, text: str) -> Path:
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with open(create(draft), "w", encoding="utf-8") as file:
        try:
            file.write(text)
            file.flush()
        except BaseException:
            draft.unlink()
            raise
    return draft


def _give_folder(path: Path) -> None:
    """Give a new folder to the owner of its parent.

    `mkdir` returns no descriptor, so another folder may have the name by now. Only a folder that
    belongs to root and is empty is given away.
    """
    parent = os.open(path.parent, _FOLDER)
    try:
        folder = os.open(path.name, _FOLDER | os.O_NOFOLLOW, dir_fd=parent)
        try:
            is_empty = not os.listdir(folder)  # noqa: PTH208  # a descriptor, which has no path
            if is_empty and os.fstat(folder).st_uid == 0:
                _give(folder, _owner(parent, None))
        finally:
            os.close(folder)
    finally:
        os.close(parent)


def _owner(folder: int, like: str | None) -> os.stat_result:
    """Owner (uid, gid) for new files in this folder."""
    if like is not None:
        try:
            return os.stat(like, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            pass
    return os.fstat(folder)


def _give(file: int, owner: os.stat_result) -> None:
    """Change the owner if root has created the file; other users keep what they create."""
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.fchown(file, owner.st_uid, owner.st_gid)
