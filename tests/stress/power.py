"""Power cuts: unsynced data may be lost, torn or complete; acknowledged data must be complete.

The server runs under load with a library that records all its writes and syncs in a journal. A
power cut is a position in the journal: the files are reconstructed from everything synced before
it and parts of the rest. The reconstructed database is compared with what was acknowledged before
that position. One run thus provides as many power cuts as needed.
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

from stress.load import STEPS, Load, add_target, compare, verify_balances
from stress.outcome import Outcome, Place
from stress.preload import SYNC, TRUNCATE, WRITE, preload

#: Movements per run: enough for several checkpoints.
MOVEMENTS = 2_500
CUTS_EACH = 50
CALLERS = 8

#: A program that fills the write-ahead log of a given file with pages that must be copied to the
#: file, so that the next commits start a checkpoint.
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
    """A recorded call on a database file, and its end position in the journal."""

    kind: int
    file: int
    offset: int
    data: bytes
    end: int


class Run(NamedTuple):
    """A server's run: the files before it, the recorded calls, and all acknowledgements.

    Each acknowledgement has its position in the journal.
    """

    before: list[bytes]
    records: list[Record]
    acknowledged: list[tuple[int, str, int]]
    reservations: dict[str, str]
    unsure: set[str]


def stress(tries: int, place: Place) -> Outcome:
    """Cut the power `tries` times.

    As a cross-check, the same cuts must be detected as violations if the disk ignores syncs.
    """
    outcome, without_syncs = Outcome(), Outcome()
    movements = checkpointed = 0
    for first in range(0, tries, CUTS_EACH):
        with place.installation(f"instance-{first}") as server:
            run = _record(server, MOVEMENTS if tries > CUTS_EACH else MOVEMENTS // 8)
        outcome.expect(
            len(run.unsure) <= CALLERS,
            f"{len(run.unsure)} calls of {CALLERS} callers got no response",
        )
        cuts = min(CUTS_EACH, tries - first)
        _cut(run, cuts, place, outcome, syncs_work=True)
        if not without_syncs.violation_count:
            _cut(run, cuts, place, without_syncs, syncs_work=False)
        movements += len(run.acknowledged)
        checkpointed += sum(record.kind == WRITE and record.file == 0 for record in run.records)
        place.progress(outcome.tries, tries)
    outcome.expect(checkpointed, "no checkpoint happened")
    # Otherwise the power cuts would be too harmless.
    outcome.expect(without_syncs.violation_count, "ignored syncs are not detected")
    outcome.notes.append(
        f"{movements:,} movements acknowledged, {checkpointed:,} pages written by checkpoints"
    )
    return outcome


def _record(server: Installation, movements: int) -> Run:
    add_target(server)
    journal = server.folder / "disk-journal"
    preload(server, STRESS_JOURNAL=journal)
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
        # One checkpoint early and one late in the run.
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


def _cut(run: Run, cuts: int, place: Place, outcome: Outcome, *, syncs_work: bool) -> None:
    points = sorted(_points(run, cuts, place.rng))
    disk = Disk(run.before)
    applied = 0
    for number, point in enumerate(points):
        for record in run.records[applied : point + 1]:
            disk.take(record, syncs_work=syncs_work)
        applied = point + 1
        way = place.rng.choice(("nothing", "everything", "some", "torn"))
        folder = place.folder / "cut"
        folder.mkdir(exist_ok=True)
        target = folder / f"{number}.db"
        for suffix, content in zip(_SUFFIXES, disk.found_after_cut(way, place.rng), strict=True):
            if content or not suffix:
                target.with_name(target.name + suffix).write_bytes(content)
        when = f"cut at record {point} of {len(run.records)}, {way} of the unsynced data written"
        _examine(run, run.records[point].end, target, outcome, when)
        outcome.tries += 1
        for path in folder.iterdir():
            path.unlink()
        if outcome.violation_count and not syncs_work:
            return


def _points(run: Run, cuts: int, rng: random.Random) -> Iterator[int]:
    """The record after which each cut happens.

    Half of them follow writes of a checkpoint, whose loss does most damage; a quarter follow
    acknowledgements, which reveal a missing sync.
    """
    in_checkpoints = [number for number, record in enumerate(run.records) if record.file == 0] or [
        0
    ]
    ends = [record.end for record in run.records]
    for number in range(cuts):
        if number % 2:
            # While a checkpoint writes to the database file.
            yield rng.choice(in_checkpoints)
        elif number % 4:
            # When a movement is acknowledged, because most records only fill the log.
            yield max(0, bisect.bisect_right(ends, rng.choice(run.acknowledged)[0]) - 1)
        else:
            yield rng.randrange(len(run.records))


def _examine(run: Run, position: int, target: Path, outcome: Outcome, when: str) -> None:
    """Open the reconstructed database and compare it with the acknowledged requests."""
    timelines: dict[str, tuple[int, str | None]] = {}
    for at, request, step in run.acknowledged:
        if at <= position:
            timelines[request] = (step + 1, run.reservations[request])
    # Each caller's next step, or first step of its next request, may have been in progress. Some
    # calls got no response at all.
    under_way = run.unsure | {
        request
        for _, request, _ in run.acknowledged
        if timelines.get(request, (0, None))[0] < len(STEPS)
    }
    try:
        verify_balances(target, outcome, when)
        compare(timelines, under_way, target, outcome, when, "cut")
    except Exception as error:  # noqa: BLE001  # any error is a violation
        outcome.expect(holds=False, otherwise=f"{when}: the database cannot be read: {error!r}")


class Disk:
    """The synced content of the files, and the writes since then."""

    def __init__(self, before: list[bytes]) -> None:
        self.synced = [bytearray(content) for content in before]
        self.pending: list[list[Record]] = [[] for _ in before]

    def take(self, record: Record, *, syncs_work: bool) -> None:
        """Apply a call. A sync makes all earlier writes permanent, unless it is ignored."""
        if record.kind != SYNC:
            self.pending[record.file].append(record)
        elif syncs_work:
            for earlier in self.pending[record.file]:
                _apply(self.synced[record.file], earlier)
            self.pending[record.file].clear()

    def found_after_cut(self, way: str, rng: random.Random) -> list[bytes]:
        """The files after a power cut: with no, all, some, or torn unsynced writes."""
        found = []
        for synced, pending in zip(self.synced, self.pending, strict=True):
            content = bytearray(synced)
            for record in pending:
                if way == "everything" or (way == "some" and rng.random() < 0.5):
                    _apply(content, record)
                elif way == "torn" and record.kind == WRITE:
                    for start in range(0, len(record.data), _SECTOR):
                        if rng.random() < 0.5:
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
