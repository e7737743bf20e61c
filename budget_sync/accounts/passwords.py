"""Password hashes (scrypt), at most two computed at once on the box: each takes 32 MB for as long as it runs."""

from __future__ import annotations

import fcntl
import functools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from werkzeug.security import check_password_hash, generate_password_hash

from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.runtime import files

MIN_LENGTH = 12
MAX_LENGTH = 200

_SLOTS = 2
_WAIT_S = 5.0
_POLL_S = 0.02


@functools.cache
def _nobodys_hash() -> str:
    """What an unknown account's password is compared with, so that its answer takes as long as a known one's."""
    return generate_password_hash("nobody has this password")


def require_good(password: str) -> None:
    """Raises RequestError INVALID_REQUEST for a password that is too short or too long."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise invalid_request({"password": f"must have {MIN_LENGTH} to {MAX_LENGTH} characters"})


def hash_password(password: str, slots_folder: Path) -> str:
    """The hash to store."""
    with _slot(slots_folder):
        return generate_password_hash(password)


def matches(password_hash: str | None, password: str, slots_folder: Path) -> bool:
    """Whether the password is the one hashed; without a hash never, and no sooner."""
    with _slot(slots_folder):
        right = check_password_hash(password_hash or _nobodys_hash(), password)
    return right and password_hash is not None


@contextmanager
def _slot(folder: Path) -> Iterator[None]:
    """Hold one of the box's slots: locked files, since the limit is for all processes together, and a killed one frees its own."""
    deadline = time.monotonic() + _WAIT_S
    slots = [
        files.open_or_make(folder / f"password-slot-{number}.lock") for number in range(_SLOTS)
    ]
    try:
        while not any(_try_lock(slot) for slot in slots):
            if time.monotonic() > deadline:
                raise RequestError(
                    Code.UNAVAILABLE,
                    "Too many people are signing in right now. Please try again shortly.",
                    retryAfter=2,
                )
            time.sleep(_POLL_S)
        yield
    finally:
        for slot in slots:
            os.close(slot)


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
