"""Code of the processes that compete for a budget in tests/ledger/test_concurrency.py.

It is separate from the tests so that the processes start without the tests' imports.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import NamedTuple

from budget_sync import database, ledger
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Actor, Role
from budget_sync.domain.request_models import ReserveRequest

THREADS = 8
AMOUNT = Decimal("27.10")
SERVICE = Actor("key:orchestrator", None, "orchestrator", None, Role.API_SYSTEM, "org-456")


class Competitor(NamedTuple):
    """State of a process between rounds: the start barrier, and threads with their connections."""

    start: Barrier
    threads: ThreadPoolExecutor


_competitor: list[Competitor] = []


def enter(target: Path | str, start: Barrier) -> None:
    """Initialize a process. It opens its own connections, one per thread."""
    database.connect(target)
    _competitor.append(Competitor(start, ThreadPoolExecutor(THREADS)))


def compete(budget_id: str, request_ids: list[str]) -> tuple[int, list[tuple[str, str]]]:
    """Reserve for each request as soon as all processes are ready.

    Returns this process's id, and the acknowledged requests with their reservation ids.
    """
    (me,) = _competitor
    me.start.wait(timeout=60)
    replies = me.threads.map(lambda request_id: reserve(budget_id, request_id), request_ids)
    return os.getpid(), [
        (request_id, reply) for request_id, reply in zip(request_ids, replies, strict=True) if reply
    ]


def reserve(budget_id: str, request_id: str, amount: Decimal = AMOUNT) -> str | None:
    """Reserve, and retry while the database is busy.

    Returns the reservation's id, or None if the budget is insufficient.
    """
    while True:
        try:
            reply = ledger.reserve(
                SERVICE, ReserveRequest(budget_id=budget_id, request_id=request_id, amount=amount)
            )
        except RequestError as error:
            if error.code is Code.INSUFFICIENT_BUDGET:
                return None
            if error.code not in (Code.UNAVAILABLE, Code.OUTCOME_UNKNOWN):
                raise
        else:
            return str(reply.data["reservationId"])
