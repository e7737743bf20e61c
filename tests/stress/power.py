"""Power cuts: what was not synced may be lost, torn or there, in any mixture; what was acknowledged is there.

The server runs under load with a library that keeps a journal of all that its database writes and syncs. A cut is a point in
that journal: the files as they would be found after it are put together from what had been synced by then and some of the
rest, opened, and held against what had been acknowledged by then. So one run gives as many cuts as are wanted.
"""

from __future__ import annotations

import bisect
import random
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from support.installation import Installation

from stress.load import STEPS, Load, compare, verify_balances
from stress.outcome import Outcome, Place
from stress.preload import SYNC, TRUNCATE, WRITE, preload

#: Movements acknowledged in one run: enough for several checkpoints.
MOVEMENTS = 2_500
CUTS_EACH = 50
CALLERS = 8

#: A program that fills the write-ahead log of the file it is given, with pages that are all to be copied back, up to where the
#: next commits begin a checkpoint.
_FILL_LOG = """
import sys
from peewee import sqlite3
sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60).executescript('''
PRAGMA wal_autocheckpoint = 0;
CREATE TABLE IF NOT EXISTS "Filler" ("content" BLOB);
DELETE FROM "Filler";
INSERT INTO "Filler" VALUES (zeroblob(32600000));
''')
"""

_SUFFIXES = ("", "-wal", "-journal")
_HEAD = struct.Struct("=IIQQ")
_SECTOR = 512


class Record(NamedTuple):
    """A call on one of the database's files, and where in the journal it ends."""

    kind: int
    file: int
    offset: int
    data: bytes
    end: int


class Run(NamedTuple):
    """A server's run: the files before it, what it asked of the disk, and where in the journal each acknowledgement came."""

    before: list[bytes]
    records: list[Record]
    acknowledged: list[tuple[int, str, int]]
    reservations: dict[str, str]
    unsure: set[str]


def stress(tries: int, place: Place) -> Outcome:
    """Cut the power `tries` times, and look whether the same cuts would tell on a disk that says it has synced and has not."""
    outcome, with_a_liar = Outcome(), Outcome()
    movements = checkpointed = 0
    for first in range(0, tries, CUTS_EACH):
        with place.installation(f"instance-{first}") as server:
            run = _record(server, MOVEMENTS if tries > CUTS_EACH else MOVEMENTS // 8)
        outcome.expect(
            len(run.unsure) <= CALLERS,
            f"{len(run.unsure)} callers never heard what became of a call, and only one each was cut off at the end",
        )
        cuts = min(CUTS_EACH, tries - first)
        _cut(run, cuts, place, outcome, disk_is_honest=True)
        if not with_a_liar.violation_count:
            _cut(run, cuts, place, with_a_liar, disk_is_honest=False)
        movements += len(run.acknowledged)
        checkpointed += sum(record.kind == WRITE and record.file == 0 for record in run.records)
        place.progress(outcome.tries, tries)
    outcome.expect(checkpointed, "no checkpoint came")
    # Else the cuts would prove nothing.
    outcome.expect(with_a_liar.violation_count, "a disk that lies about syncing is not noticed")
    outcome.notes.append(
        f"{movements:,} movements acknowledged, {checkpointed:,} pages written by checkpoints"
    )
    return outcome


def _record(server: Installation, movements: int) -> Run:
    journal = server.folder / "disk-journal"
    preload(server, PROVE_JOURNAL=journal)
    before = [
        _content(server.database.with_name(server.database.name + suffix)) for suffix in _SUFFIXES
    ]
    acknowledged: list[tuple[int, str, int]] = []
    server.start()
    load = Load(
        server,
        "cut",
        CALLERS,
        on_acknowledged=lambda request, step: acknowledged.append(
            (journal.stat().st_size, request, step)
        ),
    )
    with load:
        # So that a checkpoint comes early and late in the run.
        for _ in range(2):
            load.wait_for(movements // 3)
            subprocess.run(
                [sys.executable, "-c", _FILL_LOG, server.database],
                env=server.full_environment(),
                check=True,
            )
        load.wait_for(movements // 3)
        server.stop(signal.SIGKILL)
    return Run(
        before, list(_read(journal.read_bytes())), acknowledged, load.reservations, load.unsure
    )


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _read(journal: bytes) -> Iterator[Record]:
    place = 0
    while place + _HEAD.size <= len(journal):
        kind, file, offset, length = _HEAD.unpack_from(journal, place)
        place += _HEAD.size
        yield Record(kind, file, offset, journal[place : place + length], place + length)
        place += length


def _cut(run: Run, cuts: int, place: Place, outcome: Outcome, *, disk_is_honest: bool) -> None:
    points = sorted(_points(run, cuts, place.dice))
    disk = Disk(run.before)
    applied = 0
    for number, point in enumerate(points):
        for record in run.records[applied : point + 1]:
            disk.take(record, honest=disk_is_honest)
        applied = point + 1
        way = place.dice.choice(("nothing", "everything", "some", "torn"))
        folder = place.folder / "cut"
        folder.mkdir(exist_ok=True)
        target = folder / f"{number}.db"
        for suffix, content in zip(_SUFFIXES, disk.found_after_cut(way, place.dice), strict=True):
            if content or not suffix:
                target.with_name(target.name + suffix).write_bytes(content)
        when = (
            f"cut at record {point} of {len(run.records)}, {way} of what was not synced was written"
        )
        _examine(run, run.records[point].end, target, outcome, when)
        outcome.tries += 1
        for path in folder.iterdir():
            path.unlink()
        if outcome.violation_count and not disk_is_honest:
            return


def _points(run: Run, cuts: int, dice: random.Random) -> Iterator[int]:
    """After which record each cut comes: half of them where a lost write would hurt most, a quarter where a missing sync would be seen."""
    in_checkpoints = [number for number, record in enumerate(run.records) if record.file == 0] or [
        0
    ]
    ends = [record.end for record in run.records]
    for number in range(cuts):
        if number % 2:
            # While a checkpoint writes into the database file.
            yield dice.choice(in_checkpoints)
        elif number % 4:
            # As somebody hears of a movement: of all records, few are a movement's, and most are what fills the log.
            yield max(0, bisect.bisect_right(ends, dice.choice(run.acknowledged)[0]) - 1)
        else:
            yield dice.randrange(len(run.records))


def _examine(run: Run, position: int, target: Path, outcome: Outcome, when: str) -> None:
    """Open the database as it is found, and hold it against what was acknowledged by then."""
    stories: dict[str, tuple[int, str | None]] = {}
    for at, request, step in run.acknowledged:
        if at <= position:
            stories[request] = (step + 1, run.reservations[request])
    # The next step of each, or the first of a new one, may have been under way; of some, nobody ever heard what became.
    under_way = run.unsure | {
        request
        for _, request, _ in run.acknowledged
        if stories.get(request, (0, None))[0] < len(STEPS)
    }
    try:
        verify_balances(target, outcome, when)
        compare(stories, under_way, target, outcome, when, "cut")
    except Exception as error:  # noqa: BLE001  # whatever keeps it from being read
        outcome.expect(holds=False, otherwise=f"{when}: the database cannot be read: {error!r}")


class Disk:
    """The files as the disk has them for certain, and what it was told since."""

    def __init__(self, before: list[bytes]) -> None:
        self.synced = [bytearray(content) for content in before]
        self.pending: list[list[Record]] = [[] for _ in before]

    def take(self, record: Record, *, honest: bool) -> None:
        """A call; a sync makes certain what came before it."""
        if record.kind != SYNC:
            self.pending[record.file].append(record)
        elif honest:
            for earlier in self.pending[record.file]:
                _apply(self.synced[record.file], earlier)
            self.pending[record.file].clear()

    def found_after_cut(self, way: str, dice: random.Random) -> list[bytes]:
        """The files' content once the power is back, with nothing, everything, some or torn pieces of what was not synced."""
        found = []
        for synced, pending in zip(self.synced, self.pending, strict=True):
            content = bytearray(synced)
            for record in pending:
                if way == "everything" or (way == "some" and dice.random() < 0.5):
                    _apply(content, record)
                elif way == "torn" and record.kind == WRITE:
                    for start in range(0, len(record.data), _SECTOR):
                        if dice.random() < 0.5:
                            _apply(
                                content,
                                record._replace(
                                    offset=record.offset + start,
                                    data=record.data[start : start + _SECTOR],
                                ),
                            )
            found.append(bytes(content))
        return found


def _apply(content: bytearray, record: Record) -> None:
    if record.kind == TRUNCATE:
        del content[record.offset :]
        content.extend(bytes(record.offset - len(content)))
        return
    end = record.offset + len(record.data)
    content.extend(bytes(max(0, end - len(content))))
    content[record.offset : end] = record.data
