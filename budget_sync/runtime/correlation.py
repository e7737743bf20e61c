"""Ids that correlate log lines with a request, or with one run of a command."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from contextvars import ContextVar

#: The id of log lines without a request or a run.
NO_ID = "-"

#: The id for the lines that are logged in this context. A new thread starts without one.
current_id: ContextVar[str] = ContextVar("current_id", default=NO_ID)

_VALID_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

#: Prefix of the ids of command runs.
RUN_PREFIX = "run-"

# A line about a batch names at most this many ids.
_MAX_IDS = 10


def id_of_request(sent: str) -> str:
    """The caller's own id if it is valid, else a new one."""
    is_valid = _VALID_ID.fullmatch(sent) and not sent.startswith(RUN_PREFIX)
    return sent if is_valid else secrets.token_hex(8)


def id_of_run() -> str:
    """A new id for one run of a command."""
    return f"{RUN_PREFIX}{secrets.token_hex(4)}"


def join_ids(ids: Iterable[str]) -> str:
    """The ids for a line about several requests: up to ten of them and how many more there are."""
    distinct = list(dict.fromkeys(ids))
    more = [f"+{len(distinct) - _MAX_IDS}"] if len(distinct) > _MAX_IDS else []
    return ",".join(distinct[:_MAX_IDS] + more) or NO_ID
