"""The one way in which files and folders of an installation are made: for the service's user alone, whoever makes them.

An administrator's command may be the first to need a file that the service needs as well, and root's own would be closed to it.
So root gives what it makes to the owner of the folder that it lies in. That owner may put links into the folder, to have root
change or give away another's file: so only what was made just now is given away, by its descriptor, and no link is followed.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

_OPEN = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_FOLDER = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY


def make(path: Path, *, like: str | None = None) -> int:
    """Make an empty file, which its owner alone may read, and return its open descriptor.

    Root gives it to whom the file `like` beside it belongs, if there is one, else to the owner of the folder. Raises
    FileExistsError where something has that name.
    """
    # All by the folder that was opened here: by its path, another might be found the next time.
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
        # The name alone says little.
        error.filename = str(path)
        raise
    finally:
        os.close(folder)
    return file


def open_or_make(path: Path) -> int:
    """The open descriptor of a file that is made where it is missing, to be read and written. Raises OSError for a link."""
    try:
        return os.open(path, _OPEN)
    except FileNotFoundError:
        pass
    try:
        return make(path)
    except FileExistsError:
        # Another was first.
        return os.open(path, _OPEN)


def make_once(path: Path, text: str) -> None:
    """Make a file with that text, unless it is there. Whoever comes meanwhile finds all of it, or nothing."""
    draft = _write_draft(path, text)
    try:
        os.link(draft, path, follow_symlinks=False)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def write(path: Path, text: str) -> None:
    """Write a file anew, whatever has its name. Whoever comes meanwhile finds all of it, or what was there."""
    draft = _write_draft(path, text)
    try:
        draft.replace(path)
    except BaseException:
        draft.unlink()
        raise


def rename_to_new(path: Path, to: Path) -> Path:
    """Give a file a name that nothing has: this one or, where it is taken, a numbered one; returns it. A rename alone would overwrite what has it."""
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


def make_folder(path: Path) -> None:
    """Make a folder that its owner alone may enter, and those above it; harmless where it is there."""
    if path.is_dir():
        return
    make_folder(path.parent)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not path.is_dir():
            raise
        # Another was first.
        return
    if os.geteuid() == 0:
        _give_folder(path)


def _write_draft(path: Path, text: str) -> Path:
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with open(make(draft), "w", encoding="utf-8") as file:
        try:
            file.write(text)
            file.flush()
        except BaseException:
            draft.unlink()
            raise
    return draft


def _give_folder(path: Path) -> None:
    """A folder has no descriptor from its making: what has its name now is given away only if it is root's, and empty."""
    above = os.open(path.parent, _FOLDER)
    try:
        made = os.open(path.name, _FOLDER | os.O_NOFOLLOW, dir_fd=above)
        try:
            if os.fstat(made).st_uid == 0 and not os.listdir(made):  # noqa: PTH208  # by its descriptor, which has no path
                _give(made, _owner(above, None))
        finally:
            os.close(made)
    finally:
        os.close(above)


def _owner(folder: int, like: str | None) -> os.stat_result:
    """Whose a new file in the folder is to be."""
    if like is not None:
        try:
            return os.stat(like, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            pass
    return os.fstat(folder)


def _give(file: int, owner: os.stat_result) -> None:
    """Give away what root has just made; what another makes is theirs already."""
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.fchown(file, owner.st_uid, owner.st_gid)
