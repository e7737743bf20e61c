"""Clients that poll GET /api/events under load: each event once, in order, none missing.

Concurrent transactions get the numbers of their audit rows in another order than they commit, so a
feed that gave every committed row at once would skip rows.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import requests
from support.installation import Installation, found

from stress.load import Load
from stress.outcome import Outcome, Place

#: Concurrent callers that move money.
CALLERS = 16

#: Calls that must succeed before progress is reported again.
ROUND = 500

#: A client stops after this many seconds, so that a server that stops answering ends the row.
TIMEOUT_S = 30


class _Client(NamedTuple):
    """How a client polls: events per page, and seconds that a call may wait for one."""

    limit: int
    wait: int


_CLIENTS = (_Client(limit=100, wait=0), _Client(limit=7, wait=1))


def stress(tries: int, place: Place) -> Outcome:
    """Move money `tries` times with concurrent calls, while clients poll."""
    outcome = Outcome()
    with (
        place.installation() as server,
        ThreadPoolExecutor(len(_CLIENTS)) as pool,
    ):
        server.start()
        ended = threading.Event()
        try:
            cursor = _read(server, {"after": "latest"})[1]
            clients = [pool.submit(_poll, server, client, cursor, ended) for client in _CLIENTS]
            with Load(server, "events", threads_count=CALLERS) as load:
                while load.answer_count < tries:
                    load.wait_for(min(ROUND, tries - load.answer_count))
                    place.progress(load.answer_count, tries)
        finally:
            ended.set()
        outcome.tries = load.answer_count
        outcome.expect(not load.unexpected, f"unexpected responses: {load.unexpected[:3]}")
        _compare(outcome, _expected(server, cursor), clients)
    return outcome


def _compare(outcome: Outcome, expected: list[str], clients: list[Future[list[str]]]) -> None:
    """Compare what the clients read with the audit log."""
    outcome.expect(len(expected) >= outcome.tries, f"only {len(expected)} events are expected")
    for client, polling in zip(_CLIENTS, clients, strict=True):
        got = polling.result()
        missing = sorted(set(expected) - set(got))
        outcome.expect(not missing, f"{client}: {len(missing)} events missing: {missing[:3]}")
        outcome.expect(
            got == expected or missing, f"{client}: events given twice, in another order, or extra"
        )
        outcome.notes.append(f"{client}: {len(got):,} of {len(expected):,} events, in order")


def _poll(server: Installation, client: _Client, cursor: str, ended: threading.Event) -> list[str]:
    """The ids of all events after a cursor, until the load has ended and none is left."""
    ids: list[str] = []
    with requests.Session() as session:
        while True:
            was_ended = ended.is_set()
            query = {"after": cursor, "limit": str(client.limit), "wait": str(client.wait)}
            page, cursor = _read(server, query, session)
            ids.extend(page)
            if was_ended and not page:
                return ids


def _read(
    server: Installation, query: dict[str, str], session: requests.Session | None = None
) -> tuple[list[str], str]:
    """A page of the feed: the ids of its events, and the next cursor."""
    response = (session or requests).get(
        f"{server.url}/api/events", params=query, headers=server.key(), timeout=TIMEOUT_S
    )
    response.raise_for_status()
    reply = response.json()
    return [item["id"] for item in reply["items"]], reply["nextCursor"]


def _expected(server: Installation, cursor: str) -> list[str]:
    """The ids of all events after a cursor, in order, by SQL of this test.

    The load crosses no threshold and runs no sync, so each audit row of a budget is one event.
    """
    start = int(cursor.removeprefix("a").partition(".")[0])
    rows = found(
        server.target,
        f"""SELECT "id" FROM "AuditLog" WHERE "id" > {start} AND "customerId" = 'org-456'
        AND "budgetId" IS NOT NULL ORDER BY "id" ASC""",
    )
    return [f"evt_a{row_id}" for (row_id,) in rows]
