"""What runs in the processes that compete for a budget: apart from the tests, so that they start without all that tests import."""

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
    """What a process keeps between rounds: the others to wait for, and its threads with their connections."""

    start: Barrier
    threads: ThreadPoolExecutor


_competitor: list[Competitor] = []


def enter(target: Path | str, start: Barrier) -> None:
    """Begin a process: it opens its own connections, one a thread."""
    database.connect(target)
    _competitor.append(Competitor(start, ThreadPoolExecutor(THREADS)))


def compete(budget_id: str, request_ids: list[str]) -> tuple[int, list[tuple[str, str]]]:
    """Try to reserve for each request, once the other processes are there too; this process, and what was acknowledged."""
    (me,) = _competitor
    me.start.wait(timeout=60)
    replies = me.threads.map(lambda request_id: reserve(budget_id, request_id), request_ids)
    return os.getpid(), [
        (request_id, reply) for request_id, reply in zip(request_ids, replies, strict=True) if reply
    ]


def reserve(budget_id: str, request_id: str, amount: Decimal = AMOUNT) -> str | None:
    """The acknowledged reservation, or None where the budget has no room; busy means to try again."""
    while True:
        try:
            reply = ledger.reserve(
                SERVICE, ReserveRequest(budget_id=budget_id, request_id=request_id, amount=amount)
            )
        except RequestError as refusal:
            if refusal.code is Code.INSUFFICIENT_BUDGET:
                return None
            if refusal.code not in (Code.UNAVAILABLE, Code.OUTCOME_UNKNOWN):
                raise
        else:
            return str(reply.data["reservationId"])
