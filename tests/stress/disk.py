"""Disk faults: each nth write, sync or truncation of the database fails, once or permanently.

A request of some calls is sent while the nth operation fails. Each call must return 200 and be
stored, or return 503. Then the fault is removed and the calls are repeated: each must be stored
exactly once, without a restart.
"""

from __future__ import annotations

import errno
from contextlib import closing
from typing import NamedTuple

import requests
from peewee import sqlite3  # type: ignore[attr-defined]  # missing from peewee's stubs
from support.installation import Installation

from stress.kills import traceback_in
from stress.load import STEPS, add_target, compare, verify_balances
from stress.outcome import Outcome, Place
from stress.preload import SYNC, TRUNCATE, WRITE, Fault, preload

FOR_GOOD = 10**9

#: The log message about a checkpoint that failed.
CHECKPOINT_FAILED = "A checkpoint failed;"

#: A few pages are overwritten until the write-ahead log has 16,000 pages, after which a commit also
#: runs a checkpoint. It copies each page once, so it makes only some dozens of calls, and every nth
#: can be tested.
FILLER_PAGES, FILLINGS = 20, 800
PAGE_BYTES = 4096

EMPTY = "PRAGMA wal_checkpoint(RESTART)"
FILLER = """
PRAGMA wal_autocheckpoint = 0;
PRAGMA synchronous = OFF;
CREATE TABLE IF NOT EXISTS "Filler" ("content" BLOB);
DELETE FROM "Filler";
INSERT INTO "Filler" VALUES (NULL);
"""
FILL = """UPDATE "Filler" SET "content" = randomblob(?)"""


class Way(NamedTuple):
    """A fault: which calls fail, with which error, how often, and with a checkpoint or not."""

    name: str
    kinds: int
    error: int
    failures: int
    checkpoint: bool


WAYS = (
    Way("a write fails", WRITE, errno.EIO, 1, checkpoint=False),
    Way("a sync fails", SYNC, errno.EIO, 1, checkpoint=False),
    Way("the disk is full", WRITE, errno.ENOSPC, FOR_GOOD, checkpoint=False),
    Way(
        "the disk became read-only",
        WRITE | SYNC | TRUNCATE,
        errno.EROFS,
        FOR_GOOD,
        checkpoint=False,
    ),
    Way("a write fails with a checkpoint due", WRITE, errno.EIO, 1, checkpoint=True),
    Way("a sync fails with a checkpoint due", SYNC, errno.EIO, 1, checkpoint=True),
    Way("the disk is full with a checkpoint due", WRITE, errno.ENOSPC, FOR_GOOD, checkpoint=True),
)


def stress(tries: int, place: Place) -> Outcome:
    """Let every nth call fail in every way.

    With a checkpoint, which takes longest to prepare, only `tries` values of n are tested, evenly
    distributed.
    """
    outcome = Outcome()
    with place.installation() as server, requests.Session() as caller:
        # Otherwise requests searches the environment for a proxy before every call.
        caller.trust_env = False
        caller.headers.update(server.key())
        fault = Fault(place.folder / "fault")
        add_target(server)
        preload(server, STRESS_FAULT=fault.path)
        server.start("--workers", "1")
        plan: list[tuple[Way, int]] = []
        without: dict[int, int] = {}
        for way in WAYS:
            count = _count_calls(server, caller, fault, way, outcome)
            if way.checkpoint:
                copied = FILLER_PAGES if way.kinds & WRITE else 1
                outcome.expect(
                    count >= without[way.kinds] + copied,
                    f"{way.name}: no checkpoint happened in {count} calls",
                )
            else:
                without[way.kinds] = count
            chosen = min(tries, count) if way.checkpoint else count
            numbers = sorted(
                {round(step * (count - 1) / max(1, chosen - 1)) for step in range(chosen)}
            )
            outcome.notes.append(f"{way.name}: {len(numbers)} of n = 1…{count}")
            plan += [(way, number) for number in numbers]
        for way, number in plan:
            _try(server, caller, fault, way, number, outcome)
            outcome.tries += 1
            place.progress(outcome.tries, len(plan))
        verify_balances(server.target, outcome, "at the end")
        # A failed commit is logged with what SQLite said; nothing else may leave a traceback.
        rest = server.log.replace("Traceback", "").count("Unhandled exception")
        outcome.expect(not rest, f"an unhandled exception: {traceback_in(server.log)}")
    return outcome


def _count_calls(
    server: Installation, caller: requests.Session, fault: Fault, way: Way, outcome: Outcome
) -> int:
    """The number of such calls that one request makes."""
    _prepare(server, way)
    fault.after(FOR_GOOD, way.kinds, way.error, failures=0)
    _send(server, caller, f"disk-count-{way.name}", outcome)
    _, left, *_ = fault.get()
    fault.clear()
    return FOR_GOOD - left


def _try(
    server: Installation,
    caller: requests.Session,
    fault: Fault,
    way: Way,
    number: int,
    outcome: Outcome,
) -> None:
    when = f"{way.name}, n = {number + 1}"
    tag = f"{way.name} {number}"
    request = f"{tag}-request"
    _prepare(server, way)
    checkpoint_failures = server.log.count(CHECKPOINT_FAILED)
    fault.after(number, way.kinds, way.error, way.failures)
    first = _send(server, caller, request, outcome)
    reads = caller.get(f"{server.url}/api/budgets", timeout=30)
    outcome.expect(
        reads.status_code == 200,
        f"{when}: reading gets {reads.status_code} {reads.text[:200]}",
    )
    failed = fault.clear()
    # A fault during a commit must be reported. A checkpoint runs after the commit; after enough
    # commits, the service runs one by itself.
    in_checkpoint = way.checkpoint or server.log.count(CHECKPOINT_FAILED) > checkpoint_failures
    outcome.expect(
        not failed or in_checkpoint or 503 in first,
        f"{when}: a call failed, but the responses are {first}",
    )
    outcome.expect(
        failed or first == [200] * len(STEPS),
        f"{when}: nothing failed, but the responses are {first}",
    )
    acknowledged = first.index(503) if 503 in first else len(STEPS)
    under_way = {request} if acknowledged < len(STEPS) else set()
    compare({request: (acknowledged, None)}, under_way, server.target, outcome, when, tag)
    again = _send(server, caller, request, outcome)
    outcome.expect(
        again == [200] * len(STEPS), f"{when}: without the fault, the responses are {again}"
    )
    compare(
        {request: (len(STEPS), None)},
        set(),
        server.target,
        outcome,
        f"{when}, without the fault",
        tag,
    )


def _prepare(server: Installation, way: Way) -> None:
    """Fill the log, so that the next commit runs a checkpoint, or empty it, so that none does."""
    with closing(sqlite3.connect(server.database, isolation_level=None)) as connection:
        connection.execute(EMPTY)
        if not way.checkpoint:
            return
        connection.executescript(FILLER)
        for _ in range(FILLINGS):
            connection.execute(FILL, (FILLER_PAGES * PAGE_BYTES,))


def _send(
    server: Installation, caller: requests.Session, request: str, outcome: Outcome
) -> list[int]:
    """Send a request's calls until one fails; returns the statuses."""
    statuses: list[int] = []
    for step, (call, body, _) in enumerate(STEPS):
        headers = {"Idempotency-Key": f"{request}-{step}"}
        response = caller.post(
            f"{server.url}/api/budget/{call}", json=body(request), headers=headers, timeout=30
        )
        statuses.append(response.status_code)
        if response.status_code != 200:
            honest = (
                response.status_code == 503
                and "Retry-After" in response.headers
                and response.json()["code"] in ("UNAVAILABLE", "OUTCOME_UNKNOWN")
            )
            outcome.expect(
                honest,
                f"{request}: {call} gets {response.status_code} {response.text[:300]}",
            )
            break
    return statuses
