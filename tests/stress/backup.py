"""Backups that are taken of a busy service and restored elsewhere, and damaged ones, which must leave alone what they were to replace.

What was restored is held against the log of what the service acknowledged: all of it from before the backup began is there,
and nothing that was not sent before it ended.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from itertools import cycle, islice
from pathlib import Path
from subprocess import CompletedProcess
from typing import NamedTuple

import requests
from peewee import sqlite3  # type: ignore[attr-defined]  # missing from peewee's stubs
from support.installation import Installation, found

from budget_sync.domain import clock
from stress.load import Load, compare_within
from stress.outcome import Outcome, Place

#: Backups of one service before the next is made, so that a look at all of it does not get ever longer.
BACKUPS_EACH = 10

#: Damaged copies of each backup.
DAMAGED_EACH = 2

#: Seconds between two calls of a caller: that the service is busy is asked for here, not how much it can do.
PAUSE_S = 0.02

#: The bytes of a backup's last line, which vouches for all before it.
SEAL_BYTES = 93

#: Every row of each table.
Contents = dict[str, list[str]]

#: A way to damage a file somewhere; says how and where.
Way = Callable[[Path, random.Random], str]


class Between(NamedTuple):
    """When a backup was taken: what the load had acknowledged before it began, and what was sent before it ended."""

    load: Load
    acknowledged: dict[str, int]
    sent: dict[str, int]

    def hold_against(self, target: Path | str, outcome: Outcome, when: str) -> None:
        """Compare with what a database has."""
        stories = {
            request: (self.acknowledged.get(request, 0), self.load.reservations.get(request))
            for request in self.sent
        }
        compare_within(stories, self.sent, target, outcome, when, self.load.tag)


def stress(tries: int, place: Place) -> Outcome:
    """Take `tries` backups of services under load, restore each elsewhere, and damaged copies of it over a service that runs."""
    outcome = Outcome()
    ways = cycle(place.dice.sample(WAYS, len(WAYS)))
    acknowledged = damaged = 0
    for first in range(0, tries, BACKUPS_EACH):
        with (
            place.installation(f"instance-{first}") as server,
            place.installation(f"neighbour-{first}") as neighbour,
        ):
            server.start()
            neighbour.start()
            with Load(server, "backup", pause_s=PAUSE_S) as load:
                for number in range(first, min(first + BACKUPS_EACH, tries)):
                    path = place.folder / f"backup-{number}.db"
                    load.wait_for(20)
                    time.sleep(place.dice.uniform(0, 0.2))
                    moment = _take(load, path, outcome)
                    outcome.tries += 1
                    place.progress(outcome.tries, tries)
                    if moment is None:
                        continue
                    backed_up = contents(path)
                    _prove_restored(path, backed_up, moment, place, outcome)
                    for way in islice(ways, DAMAGED_EACH):
                        _restore_damaged(path, way, neighbour, place.dice, outcome)
                        damaged += 1
                    if not outcome.violation_count:
                        path.unlink()
            outcome.expect(not load.odd, f"answers that no caller should get: {load.odd[:3]}")
            acknowledged += load.answer_count
    outcome.notes.append(
        f"{acknowledged:,} movements acknowledged meanwhile; {damaged} damaged backups to be refused"
    )
    return outcome


def _take(load: Load, path: Path, outcome: Outcome) -> Between | None:
    acknowledged = dict(load.acknowledged)
    taken = load.server.flask("backup", str(path), check=False)
    sent = dict(load.sent)
    is_taken = outcome.expect(taken.returncode == 0, f"{path.name} was not taken: {_said(taken)}")
    return Between(load, acknowledged, sent) if is_taken else None


def _prove_restored(
    path: Path, backed_up: Contents, moment: Between, place: Place, outcome: Outcome
) -> None:
    """Restore a backup into an installation that has nothing."""
    with place.installation(f"elsewhere-{path.stem}", "nothing") as elsewhere:
        restored = elsewhere.flask("restore", str(path), check=False)
        if outcome.expect(
            restored.returncode == 0, f"{path.name} is not restored elsewhere: {_said(restored)}"
        ):
            _prove_same(elsewhere, backed_up, path.name, outcome)
            moment.hold_against(elsewhere.target, outcome, f"{path.name}, restored")
    if not outcome.violation_count:
        shutil.rmtree(elsewhere.folder)


def _prove_same(restored: Installation, backed_up: Contents, name: str, outcome: Outcome) -> None:
    """Every row is there, no other, and the service's own proof holds."""
    verified = restored.flask("verify", check=False)
    outcome.expect(verified.returncode == 0, f"{name}, restored: {_said(verified)}")
    there = contents(restored.target)
    differing = [
        table
        for table in there.keys() | backed_up.keys()
        if there.get(table) != backed_up.get(table)
    ]
    outcome.expect(not differing, f"{name}, restored, has other rows in {differing}")


def _restore_damaged(
    path: Path, way: Way, neighbour: Installation, dice: random.Random, outcome: Outcome
) -> None:
    """Try to restore a damaged copy over a service that runs: it is refused, and the service goes on with what it had."""
    damaged = path.with_name(f"damaged-{path.name}")
    shutil.copyfile(path, damaged)
    how = f"{path.name} with {way(damaged, dice)}"
    before = _picture(neighbour)
    done = neighbour.flask("restore", str(damaged), check=False)
    refused = (done.returncode, done.stdout, done.stderr.count("\n"), done.stderr[:7]) == (
        1,
        "",
        1,
        "Error: ",
    )
    outcome.expect(refused, f"{how} is not refused with one line: {_said(done)}")
    outcome.expect(
        _picture(neighbour) == before,
        f"{how} was to be refused, and what it was to replace is another",
    )
    ready = requests.get(f"{neighbour.url}/readyz", timeout=30)
    outcome.expect(
        ready.ok, f"{how}: the service that it was to be restored over is not ready: {ready.text}"
    )
    if not outcome.violation_count:
        damaged.unlink()


def _picture(installation: Installation) -> tuple[set[str], bytes, Contents]:
    """All that a refused restore leaves alone: the files, the database's own to the byte, and every row."""
    content = b"" if isinstance(installation.target, str) else installation.database.read_bytes()
    return (
        {path.name for path in installation.folder.iterdir()},
        content,
        contents(installation.target),
    )


def contents(target: Path | str) -> Contents:
    """Every row of each table, in no order, as both engines show it, but for sessions, the day the tables were made, and what tells of a restore.

    Nothing of what cannot be read.
    """
    if isinstance(target, str):
        tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
    else:
        tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    chosen = {"AuditLog": """WHERE "action" <> 'RESTORE'"""}
    try:
        return {
            table: sorted(
                repr([_alike(value) for value in row])
                for row in found(target, f'SELECT * FROM "{table}" {chosen.get(table, "")}')
            )
            for (table,) in found(target, tables)
            if table not in ("Session", "SchemaVersion")
        }
    except sqlite3.DatabaseError:
        return {}


def _alike(value: object) -> object:
    """A value as both engines show it: true, 1 and 1.00 are numbers, and a time is its text."""
    if isinstance(value, datetime):
        return clock.to_text(value.astimezone(UTC))
    return float(value) if isinstance(value, int | Decimal) else value


def _said(done: CompletedProcess[str]) -> str:
    return f"exit status {done.returncode}, {done.stdout[-500:]}{done.stderr[-2000:]}"


def _flip(path: Path, dice: random.Random) -> str:
    content = bytearray(path.read_bytes())
    where = dice.randrange(len(content))
    content[where] ^= 1 << dice.randrange(8)
    path.write_bytes(content)
    return f"a bit flipped in byte {where}"


def _noise(path: Path, dice: random.Random) -> str:
    content = bytearray(path.read_bytes())
    where, length = dice.randrange(len(content)), dice.randint(1, 4096)
    content[where : where + length] = dice.randbytes(len(content[where : where + length]))
    path.write_bytes(content)
    return f"noise from byte {where} for {length} bytes"


def _cut(path: Path, dice: random.Random) -> str:
    left = dice.randrange(path.stat().st_size)
    if dice.random() < 0.5:
        # As a copy leaves it that stops at a block.
        left -= left % 4096
    with path.open("r+b") as file:
        file.truncate(left)
    return f"all cut off from byte {left}"


def _cut_seal(path: Path, dice: random.Random) -> str:
    """What is left is an SQLite file in which nothing vouches for the texts."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - SEAL_BYTES)
    return (
        f"its last line cut off, and {_flip(path, dice)}"
        if dice.random() < 0.5
        else "its last line cut off"
    )


def _lengthen(path: Path, dice: random.Random) -> str:
    with path.open("ab") as file:
        length = file.write(dice.randbytes(dice.randint(1, 4096)))
    return f"{length} bytes after its end"


def _replace(path: Path, dice: random.Random) -> str:
    path.unlink()
    if dice.random() < 0.5:
        path.write_text("Dear diary,\n" * dice.choice((0, 1, 1024)), encoding="utf-8")
        return "a text in its place, or nothing"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute('CREATE TABLE "Budget" ("id" TEXT)')
    return "another program's database in its place"


WAYS: tuple[Way, ...] = (_flip, _noise, _cut, _cut_seal, _lengthen, _replace)
