"""Damaged files: flipped, zeroed or cut bytes in the database file and its write-ahead log.

SQLite has checksums only in the write-ahead log. A damaged log must lead to an earlier state or an
error, as pages in the file may be newer than the rest of the log if a checkpoint was running.
In the file itself, a changed byte in a text cannot be detected, but start-up must detect every
change to money.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import peewee
from peewee import sqlite3  # type: ignore[attr-defined]  # missing from peewee's stubs

from budget_sync import database
from budget_sync.operations import startup
from stress.load import Load
from stress.outcome import Outcome, Place

#: Columns with amounts, or with the owner of an amount, by table.
MONEY = {
    "Budget": "id, customerId, budgetedMinor, deletedAt",
    "BudgetUtilization": "budgetId, reservedMinor, committedMinor, version",
    "Reservation": "id, customerId, budgetId, requestId, amountMinor, heldMinor, committedMinor,"
    " releasedMinor, status",
    "AuditLog": "id, customerId, budgetId, version, action, requestId, reservationId,"
    " reservedDeltaMinor, committedDeltaMinor, budgetedDeltaMinor",
}

Rows = dict[str, list[tuple[Any, ...]]]


def stress(tries: int, place: Place) -> Outcome:
    """Damage copies of a server's files `tries` times, and verify how the service reacts."""
    outcome = Outcome()
    with place.installation() as server:
        server.start()
        with Load(server, "damage") as load:
            load.wait_for(150)
            # First checkpoint everything into the database file, then write more to the log.
            with closing(sqlite3.connect(server.database)) as connection:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            load.wait_for(150)
        # Copied while the server runs, because closing the last connection empties the log.
        original = place.folder / "original.db"
        _copy(server.database, original)
    intact = place.folder / "intact.db"
    _copy(original, intact)
    true_rows, true_texts = _read(intact)
    fates: Counter[str] = Counter()
    for _ in range(tries):
        target = place.folder / "damaged.db"
        _copy(original, target)
        suffix = place.rng.choice(("", "-wal"))
        how = _spoil(target.with_name(target.name + suffix), place.rng)
        fate = _examine(target, true_rows, true_texts, in_log=suffix == "-wal")
        fates[f"{'log' if suffix else 'database'}: {fate}"] += 1
        outcome.expect(
            not fate.startswith("WRONG"),
            f"{how} of the {'log' if suffix else 'database file'}: {fate}",
        )
        outcome.tries += 1
        place.progress(outcome.tries, tries)
    outcome.notes.append("; ".join(f"{fate} {count}" for fate, count in sorted(fates.items())))
    return outcome


def _copy(original: Path, target: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        target.with_name(target.name + suffix).unlink(missing_ok=True)
    for suffix in ("", "-wal"):
        shutil.copy(
            original.with_name(original.name + suffix), target.with_name(target.name + suffix)
        )


def _spoil(path: Path, rng: random.Random) -> str:
    """Damage a file at a random place; returns a description."""
    content = bytearray(path.read_bytes())
    damage = rng.choice(("flip", "flip", "zeros", "noise", "cut"))
    where = rng.randrange(len(content))
    if damage == "flip":
        content[where] ^= 1 << rng.randrange(8)
    elif damage == "zeros":
        content[where : where + 512] = bytes(len(content[where : where + 512]))
    elif damage == "noise":
        content[where : where + 64] = rng.randbytes(len(content[where : where + 64]))
    else:
        del content[where:]
    path.write_bytes(content)
    return f"{damage} at byte {where}"


def _examine(target: Path, true_rows: Rows, true_texts: Rows, *, in_log: bool) -> str:
    """Start on the damaged files; returns the reaction, beginning with WRONG for a violation."""
    database.connect(target)
    try:
        try:
            database.require_current_schema()
            startup.require_sound_start()
            rows, texts = _read(target)
        except database.DatabaseUnusableError:
            return "rejected at start-up"
        except Exception as error:  # noqa: BLE001  # the result of this case
            expected = isinstance(
                error, peewee.PeeweeException | sqlite3.Error | UnicodeError | ValueError
            )
            return "an error on reading" if expected else f"WRONG: an unexpected {error!r}"
    finally:
        database.disconnect()
    if in_log:
        # Start-up has verified the earlier state; its audit log must be a prefix of the true one.
        return (
            "an earlier state"
            if _begins(rows["AuditLog"], true_rows["AuditLog"])
            else "WRONG: an audit row that was never written"
        )
    if rows != true_rows:
        table = next(name for name in rows if rows[name] != true_rows[name])
        differing = sorted(set(rows[table]) ^ set(true_rows[table]))[:2]
        return f"WRONG: undetected different figures in {table}: {differing}"
    return "no harm" if texts == true_texts else "an undetected different text"


def _begins(rows: list[tuple[Any, ...]], true: list[tuple[Any, ...]]) -> bool:
    return rows == true[: len(rows)]


def _read(path: Path) -> tuple[Rows, Rows]:
    """The rows with amounts, and all rows."""
    with closing(sqlite3.connect(path)) as connection:
        money = {
            table: connection.execute(
                f"""SELECT "{'", "'.join(columns.split(", "))}" FROM "{table}" ORDER BY 1"""
            ).fetchall()
            for table, columns in MONEY.items()
        }
        tables = [
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        return money, {
            table: connection.execute(f'SELECT * FROM "{table}"').fetchall() for table in tables
        }
