"""A disk that fails: every nth write, sync or truncation of the database, once or until it is mended.

A story of three movements is told while the nth call fails. Each is answered with 200 and is stored, or with an honest 503;
then the disk is mended, the same calls are sent again, and all of it is there once, without a restart.
"""

from __future__ import annotations

import errno
from contextlib import closing
from typing import NamedTuple

import requests
from peewee import sqlite3  # type: ignore[attr-defined]  # missing from peewee's stubs
from support.installation import Installation

from stress.kills import traceback_in
from stress.load import STEPS, compare, verify_balances
from stress.outcome import Outcome, Place
from stress.preload import SYNC, TRUNCATE, WRITE, Fault, preload

FOR_GOOD = 10**9

#: Few pages, written over and over until the write-ahead log has the 16,000 beyond which a commit also copies it into the
#: database file: each of them goes there once, so a checkpoint makes some dozens of calls, and every nth can be tried.
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
    """A way to fail: which calls, how, how many of them, and whether a checkpoint is due."""

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
    """Let every nth call fail in every way: each n, but where a checkpoint is due, which takes longest to prepare, at most `tries` of them, evenly spread."""
    outcome = Outcome()
    with place.installation() as server, requests.Session() as caller:
        # Looks for a proxy in the environment else, before every call.
        caller.trust_env = False
        caller.headers.update(server.key())
        fault = Fault(place.folder / "fault")
        preload(server, PROVE_FAULT=fault.path)
        server.start("--workers", "1")
        plan: list[tuple[Way, int]] = []
        without: dict[int, int] = {}
        for way in WAYS:
            count = _calls_of_a_story(server, caller, fault, way, outcome)
            if way.checkpoint:
                copied = FILLER_PAGES if way.kinds & WRITE else 1
                outcome.expect(
                    count >= without[way.kinds] + copied,
                    f"{way.name}: no checkpoint came, with {count} calls",
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


def _calls_of_a_story(
    server: Installation, caller: requests.Session, fault: Fault, way: Way, outcome: Outcome
) -> int:
    """How many such calls a whole story makes."""
    _prepare(server, way)
    fault.after(FOR_GOOD, way.kinds, way.error, failures=0)
    _tell(server, caller, f"disk-count-{way.name}", outcome)
    _, left, *_ = fault.get()
    fault.mend()
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
    request = f"{tag}-story"
    _prepare(server, way)
    fault.after(number, way.kinds, way.error, way.failures)
    first = _tell(server, caller, request, outcome)
    reads = caller.get(f"{server.url}/api/budgets", timeout=30)
    outcome.expect(
        reads.status_code == 200,
        f"{when}: reading is answered with {reads.status_code} {reads.text[:200]}",
    )
    failed = fault.mend()
    # What a commit needs may not fail unseen; what a checkpoint does comes after it.
    outcome.expect(
        not failed or way.checkpoint or 503 in first,
        f"{when}: it failed, and all is said to be well: {first}",
    )
    outcome.expect(
        failed or first == [200] * len(STEPS),
        f"{when}: nothing failed, and the answers are {first}",
    )
    acknowledged = first.index(503) if 503 in first else len(STEPS)
    under_way = {request} if acknowledged < len(STEPS) else set()
    compare({request: (acknowledged, None)}, under_way, server.target, outcome, when, tag)
    again = _tell(server, caller, request, outcome)
    outcome.expect(again == [200] * len(STEPS), f"{when}: once mended, the answers are {again}")
    compare({request: (len(STEPS), None)}, set(), server.target, outcome, f"{when}, mended", tag)


def _prepare(server: Installation, way: Way) -> None:
    """Fill the write-ahead log, where a checkpoint is to be due with the next commit; else empty it, so that none comes by itself."""
    with closing(sqlite3.connect(server.database, isolation_level=None)) as connection:
        connection.execute(EMPTY)
        if not way.checkpoint:
            return
        connection.executescript(FILLER)
        for _ in range(FILLINGS):
            connection.execute(FILL, (FILLER_PAGES * PAGE_BYTES,))


def _tell(
    server: Installation, caller: requests.Session, request: str, outcome: Outcome
) -> list[int]:
    """Make a story's calls until one is not answered with 200; the statuses."""
    statuses: list[int] = []
    for call, body, _ in STEPS:
        headers = {"Idempotency-Key": f"{request}-{call}"}
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
                f"{request}: {call} is answered with {response.status_code} {response.text[:300]}",
            )
            break
    return statuses
