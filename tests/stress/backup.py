"""Backups taken under load and restored elsewhere, and restores of damaged backups.

A restored backup must contain everything acknowledged before it began, and nothing sent after it
ended. A rejected restore must not change the installation.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime
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

#: Backups per installation. Each backup compares all rows, so the number of rows is limited.
BACKUPS_EACH = 10

#: Damaged copies per backup.
DAMAGED_EACH = 2

#: Seconds between two calls of a thread. The load is light, because throughput is not the subject.
PAUSE_S = 0.02

#: Size of a backup's last line, the checksum of all lines before it.
SEAL_BYTES = 93

#: The rows of each table.
Contents = dict[str, list[str]]

#: Damages a file at a random place and returns a description.
Damage = Callable[[Path, random.Random], str]


class Bounds(NamedTuple):
    """Bounds of a backup: steps acknowledged before it began, and steps sent before it ended."""

    load: Load
    acknowledged: dict[str, int]
    sent: dict[str, int]

    def compare_with(self, target: Path | str, outcome: Outcome, when: str) -> None:
        """Compare a restored database with these bounds."""
        timelines = {
            request: (self.acknowledged.get(request, 0), self.load.reservations.get(request))
            for request in self.sent
        }
        compare_within(timelines, self.sent, target, outcome, when, self.load.tag)


def stress(tries: int, place: Place) -> Outcome:
    """Take `tries` backups under load, restore each, and try to restore damaged copies."""
    outcome = Outcome()
    damages = cycle(place.rng.sample(DAMAGES, len(DAMAGES)))
    acknowledged = damaged = 0
    for first in range(0, tries, BACKUPS_EACH):
        with (
            place.installation(f"instance-{first}") as server,
            place.installation(f"neighbor-{first}") as neighbor,
        ):
            server.start()
            neighbor.start()
            with Load(server, "backup", pause_s=PAUSE_S) as load:
                for number in range(first, min(first + BACKUPS_EACH, tries)):
                    path = place.folder / f"backup-{number}.db"
                    load.wait_for(20)
                    time.sleep(place.rng.uniform(0, 0.2))
                    bounds = _take(load, path, outcome)
                    outcome.tries += 1
                    place.progress(outcome.tries, tries)
                    if bounds is None:
                        continue
                    backed_up = contents(path)
                    _check_restored(path, backed_up, bounds, place, outcome)
                    for damage in islice(damages, DAMAGED_EACH):
                        _restore_damaged(path, damage, neighbor, place.rng, outcome)
                        damaged += 1
                    if not outcome.violation_count:
                        path.unlink()
            outcome.expect(not load.unexpected, f"unexpected responses: {load.unexpected[:3]}")
            acknowledged += load.answer_count
    outcome.notes.append(
        f"{acknowledged:,} movements acknowledged under load; {damaged} damaged backups tested"
    )
    return outcome


def _take(load: Load, path: Path, outcome: Outcome) -> Bounds | None:
    acknowledged = dict(load.acknowledged)
    taken = load.server.flask("backup", str(path), check=False)
    sent = dict(load.sent)
    is_taken = outcome.expect(taken.returncode == 0, f"{path.name} failed: {_describe(taken)}")
    return Bounds(load, acknowledged, sent) if is_taken else None


def _check_restored(
    path: Path, backed_up: Contents, bounds: Bounds, place: Place, outcome: Outcome
) -> None:
    """Restore a backup into an empty installation."""
    with place.installation(f"elsewhere-{path.stem}", "nothing") as elsewhere:
        restored = elsewhere.flask("restore", str(path), check=False)
        if outcome.expect(
            restored.returncode == 0, f"{path.name} cannot be restored: {_describe(restored)}"
        ):
            _check_same(elsewhere, backed_up, path.name, outcome)
            bounds.compare_with(elsewhere.target, outcome, f"{path.name}, restored")
    if not outcome.violation_count:
        shutil.rmtree(elsewhere.folder)


def _check_same(restored: Installation, backed_up: Contents, name: str, outcome: Outcome) -> None:
    """The restored database has exactly the same rows, and `flask verify` succeeds."""
    verified = restored.flask("verify", check=False)
    outcome.expect(verified.returncode == 0, f"{name}, restored: {_describe(verified)}")
    there = contents(restored.target)
    differing = [
        table
        for table in there.keys() | backed_up.keys()
        if there.get(table) != backed_up.get(table)
    ]
    outcome.expect(not differing, f"{name}, restored, differs in {differing}")


def _restore_damaged(
    path: Path, damage: Damage, neighbor: Installation, rng: random.Random, outcome: Outcome
) -> None:
    """Restore a damaged copy over a running service: it must fail without changing anything."""
    damaged = path.with_name(f"damaged-{path.name}")
    shutil.copyfile(path, damaged)
    how = f"{path.name} with {damage(damaged, rng)}"
    before = _snapshot(neighbor)
    done = neighbor.flask("restore", str(damaged), check=False)
    is_rejected = (done.returncode, done.stdout, done.stderr.count("\n"), done.stderr[:7]) == (
        1,
        "",
        1,
        "Error: ",
    )
    outcome.expect(is_rejected, f"{how} is not rejected with one line: {_describe(done)}")
    outcome.expect(
        _snapshot(neighbor) == before,
        f"{how} was rejected, but the installation changed",
    )
    ready = requests.get(f"{neighbor.url}/readyz", timeout=30)
    outcome.expect(ready.ok, f"{how}: the service is not ready afterwards: {ready.text}")
    if not outcome.violation_count:
        damaged.unlink()


def _snapshot(installation: Installation) -> tuple[set[str], bytes, Contents]:
    """The state that a failed restore must preserve: file names, database bytes and rows."""
    content = b"" if isinstance(installation.target, str) else installation.database.read_bytes()
    return (
        {path.name for path in installation.folder.iterdir()},
        content,
        contents(installation.target),
    )


def contents(target: Path | str) -> Contents:
    """The rows of each table in a form that is equal on both engines; empty if unreadable.

    Without sessions, the schema's creation date, and audit rows of a restore.
    """
    if isinstance(target, str):
        tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
    else:
        tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    chosen = {"AuditLog": """WHERE "action" <> 'RESTORE'"""}
    try:
        return {
            table: sorted(
                repr([_normalized(value) for value in row])
                for row in found(target, f'SELECT * FROM "{table}" {chosen.get(table, "")}')
            )
            for (table,) in found(target, tables)
            if table not in ("Session", "SchemaVersion")
        }
    except sqlite3.DatabaseError:
        return {}


def _normalized(value: object) -> object:
    """Normalize a value: numbers as floats, times and dates as text."""
    if isinstance(value, datetime):
        return clock.to_text(value.astimezone(UTC))
    if isinstance(value, date):
        return value.isoformat()
    return float(value) if isinstance(value, int | Decimal) else value


def _describe(done: CompletedProcess[str]) -> str:
    return f"exit status {done.returncode}, {done.stdout[-500:]}{done.stderr[-2000:]}"


def _flip(path: Path, rng: random.Random) -> str:
    content = bytearray(path.read_bytes())
    where = rng.randrange(len(content))
    content[where] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return f"a bit flipped in byte {where}"


def _noise(path: Path, rng: random.Random) -> str:
    content = bytearray(path.read_bytes())
    where, length = rng.randrange(len(content)), rng.randint(1, 4096)
    content[where : where + length] = rng.randbytes(len(content[where : where + length]))
    path.write_bytes(content)
    return f"noise from byte {where} for {length} bytes"


def _cut(path: Path, rng: random.Random) -> str:
    left = rng.randrange(path.stat().st_size)
    if rng.random() < 0.5:
        # Truncated at a block boundary, as an interrupted copy would be.
        left -= left % 4096
    with path.open("r+b") as file:
        file.truncate(left)
    return f"all cut off from byte {left}"


def _cut_seal(path: Path, rng: random.Random) -> str:
    """Remove the checksum line. The rest is a valid SQLite file with unverified texts."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - SEAL_BYTES)
    return (
        f"its last line cut off, and {_flip(path, rng)}"
        if rng.random() < 0.5
        else "its last line cut off"
    )


def _lengthen(path: Path, rng: random.Random) -> str:
    with path.open("ab") as file:
        length = file.write(rng.randbytes(rng.randint(1, 4096)))
    return f"{length} bytes after its end"


def _replace(path: Path, rng: random.Random) -> str:
    path.unlink()
    if rng.random() < 0.5:
        path.write_text("Dear diary,\n" * rng.choice((0, 1, 1024)), encoding="utf-8")
        return "replaced by a text or by nothing"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute('CREATE TABLE "Budget" ("id" TEXT)')
    return "replaced by another program's database"


DAMAGES: tuple[Damage, ...] = (_flip, _noise, _cut, _cut_seal, _lengthen, _replace)
