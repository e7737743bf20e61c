"""Ids that this service makes, and those that others choose."""

from __future__ import annotations

import re
import secrets
import time

#: An id that others choose stands in addresses and on command lines as it is; and what is said of one that cannot.
CHOSEN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")
CHOSEN_ID_RULE = "must be 1 to 100 letters, digits, dots, hyphens, underscores or @"


def new_id(prefix: str) -> str:
    """Such as res_0198c6a1b2c3d4e5f6a7b8c9: the time in milliseconds and 48 random bits, in hexadecimal.

    Ids made one after another stand beside each other in an index, so that a commit writes fewer pages than with random ones.
    """
    return f"{prefix}_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(6)}"
