"""The reports of a running upgrade."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


def _ignore(_text: str) -> None:
    return


class Report(NamedTuple):
    """`progress` is called with the current step, `note` with a sentence for the operator."""

    progress: Callable[[str], None] = _ignore
    note: Callable[[str], None] = _ignore


#: A statement, or a function that changes rows in the open transaction of a database.
Step = str | Callable[[Any, Report], None]
