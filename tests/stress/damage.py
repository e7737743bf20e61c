"""Damaged files: flipped, zeroed and cut bytes in the database and in its write-ahead log.

SQLite keeps checksums in the write-ahead log alone. What it reads of a damaged one must be a state that was once true, or be
refused: where a checkpoint was under way, pages of the file may be newer than what is left of the log. In the file itself
a changed byte of a text cannot be told from a true one; but wherever it touches money, the start must refuse it.
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

#: What is money, or says whose it is: table -> columns.
MONEY = {
    "Budget": "id, customerId, budgetedMinor, deletedAt",
    "BudgetUtilization": "budgetId, reservedMinor, committedMinor, version",
    "Reservation": "id, customerId, budgetId, requestId, amountMinor, heldMinor, committedMinor, releasedMinor, status",
    "AuditLog": "id, customerId, budgetId, version, action, requestId, reservationId, reservedDeltaMinor, committedDeltaMinor, budgetedDeltaMinor",
}

Rows = dict[str, list[tuple[Any, ...]]]


def stress(tries: int, place: Place) -> Outcome:
    """Damage a copy of a server's files `tries` times, and look at what is made of it."""
    outcome = Outcome()
    with place.installation() as server:
        server.start()
        with Load(server, "damage") as load:
            load.wait_for(150)
            # All of it into the database file, and then more for the log.
            with closing(sqlite3.connect(server.database)) as connection:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            load.wait_for(150)
        # While it runs: whoever closes the last connection empties the log.
        original = place.folder / "original.db"
        _copy(server.database, original)
    whole = place.folder / "whole.db"
    _copy(original, whole)
    true_rows, true_texts = _read(whole)
    fates: Counter[str] = Counter()
    for _ in range(tries):
        target = place.folder / "damaged.db"
        _copy(original, target)
        suffix = place.dice.choice(("", "-wal"))
        how = _spoil(target.with_name(target.name + suffix), place.dice)
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


def _spoil(path: Path, dice: random.Random) -> str:
    """Damage a file somewhere; says how."""
    content = bytearray(path.read_bytes())
    way = dice.choice(("flip", "flip", "zeros", "noise", "cut"))
    where = dice.randrange(len(content))
    if way == "flip":
        content[where] ^= 1 << dice.randrange(8)
    elif way == "zeros":
        content[where : where + 512] = bytes(len(content[where : where + 512]))
    elif way == "noise":
        content[where : where + 64] = dice.randbytes(len(content[where : where + 64]))
    else:
        del content[where:]
    path.write_bytes(content)
    return f"{way} at byte {where}"


def _examine(target: Path, true_rows: Rows, true_texts: Rows, *, in_log: bool) -> str:
    """What the service makes of it; beginning with WRONG where that is not allowed."""
    database.connect(target)
    try:
        try:
            database.require_current_schema()
            startup.require_sound_start()
            rows, texts = _read(target)
        except database.DatabaseProblem:
            return "refused at the start"
        except Exception as error:  # noqa: BLE001  # whatever it is: the next one is tried all the same
            expected = isinstance(
                error, peewee.PeeweeException | sqlite3.Error | UnicodeError | ValueError
            )
            return "an error where it is read" if expected else f"WRONG: nobody expects {error!r}"
    finally:
        database.disconnect()
    if in_log:
        # An earlier state is one that the start has proven, and whose audit log is a beginning of the true one.
        return (
            "an earlier state"
            if _begins(rows["AuditLog"], true_rows["AuditLog"])
            else "WRONG: an audit row that was never written"
        )
    if rows != true_rows:
        table = next(name for name in rows if rows[name] != true_rows[name])
        return f"WRONG: {table} has other figures, and nobody notices: {sorted(set(rows[table]) ^ set(true_rows[table]))[:2]}"
    return "no harm" if texts == true_texts else "another text, unseen"


def _begins(rows: list[tuple[Any, ...]], true: list[tuple[Any, ...]]) -> bool:
    return rows == true[: len(rows)]


def _read(path: Path) -> tuple[Rows, Rows]:
    """The money, and everything."""
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
