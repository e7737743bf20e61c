"""What the log lines that are written now are about: a request, by its id, or one run of a command."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from contextvars import ContextVar

#: What lines that are about nothing in particular have instead of an id.
NOTHING = "-"

#: The id for lines written from here. A new thread begins with none.
current_id: ContextVar[str] = ContextVar("current_id", default=NOTHING)

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

#: With this begins the id of a command's run.
RUN = "run-"

# A line about a whole batch names so many at most.
_MOST = 10


def id_of_request(sent: str) -> str:
    """The caller's own id, where it is a sane one, or else a new one."""
    return sent if _SANE_ID.fullmatch(sent) and not sent.startswith(RUN) else secrets.token_hex(8)


def id_of_run() -> str:
    """A new id for one run of a command."""
    return f"{RUN}{secrets.token_hex(4)}"


def of_all(ids: Iterable[str]) -> str:
    """For a line that is about several: their ids, and how many more there are."""
    distinct = list(dict.fromkeys(ids))
    more = [f"+{len(distinct) - _MOST}"] if len(distinct) > _MOST else []
    return ",".join(distinct[:_MOST] + more) or NOTHING
