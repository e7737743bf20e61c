"""Password hashing with scrypt.

Each computation needs 32 MB, so at most two run at once on the machine, across all processes.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from werkzeug.security import check_password_hash, generate_password_hash

from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.runtime import slots
from budget_sync.runtime.slots import try_slot

MIN_LENGTH = 12
MAX_LENGTH = 200

_SLOTS = 2
_WAIT_S = 5.0
_POLL_S = 0.02


@functools.cache
def _placeholder_hash() -> str:
    """Compared for an unknown account, so that its reply takes as long as that of a known one."""
    return generate_password_hash("placeholder for an unknown account")


def require_valid(password: str) -> None:
    """Raise RequestError INVALID_REQUEST if a password is too short or too long."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise invalid_request({"password": f"must have {MIN_LENGTH} to {MAX_LENGTH} characters"})


def hash_password(password: str, slots_folder: Path) -> str:
    """Return the hash to store. Raises RequestError UNAVAILABLE if no slot is free in time."""
    with _slot(slots_folder):
        return generate_password_hash(password)


def verify(password_hash: str | None, password: str, slots_folder: Path) -> bool:
    """Whether the password belongs to the hash.

    False if no hash is stored, in the same time as a real comparison. Raises RequestError
    UNAVAILABLE if no slot is free in time.
    """
    with _slot(slots_folder):
        is_equal = check_password_hash(password_hash or _placeholder_hash(), password)
    return is_equal and password_hash is not None


def require_slots(folder: Path) -> None:
    """Raise RequestError UNAVAILABLE if this process cannot use the slots, so no user can sign in.

    It takes no slot and never waits.
    """
    slots.require_usable(folder, "password", _SLOTS)


@contextmanager
def _slot(folder: Path) -> Iterator[None]:
    """Hold one of the machine's slots. Raises RequestError UNAVAILABLE if none is free in time."""
    deadline = time.monotonic() + _WAIT_S
    while True:
        with try_slot(folder, "password", _SLOTS) as is_free:
            if is_free:
                yield
                return
        if time.monotonic() > deadline:
            raise RequestError(
                Code.UNAVAILABLE,
                "Too many people are signing in right now. Try again in a few seconds.",
                retryAfter=2,
            )
        time.sleep(_POLL_S)
