"""Installations of the product to be measured: templates, and a new copy for each measurement."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dotenv import dotenv_values
from peewee import sqlite3  # type: ignore[attr-defined]  # missing from peewee's stubs

from bench.machine import PROJECT
from bench.stock import CUSTOMER, Stock, fingerprint, first_open
from budget_sync.domain.periods import period_key


class BenchError(Exception):
    """The benchmark cannot go on, or has found an error of the product; the text is the reason."""


class UnavailableError(BenchError):
    """This side cannot be measured here; the text is the reason."""


@dataclass(frozen=True)
class Place:
    """One installation: its instance folder, its database, and an API key of its customer."""

    folder: Path
    database_url: str
    key: str = ""

    def environment(self, preload: Path | None = None) -> dict[str, str]:
        """The environment of its processes, without the caller's settings and those of `.env`."""
        inherited = {
            name: os.environ[name]
            for name in ("PATH", "HOME", "LANG", "TMPDIR")
            if name in os.environ
        }
        hidden = dict.fromkeys(dotenv_values(PROJECT / ".env"), "")
        settings = {
            "INSTANCE_FOLDER": str(self.folder),
            "DATABASE_URL": self.database_url,
            "SECRET_KEY": "only for measuring, on loopback",
        }
        return inherited | hidden | settings | ({"LD_PRELOAD": str(preload)} if preload else {})

    def flask(self, *arguments: str) -> str:
        """Run a command of the product, and return its output. Raises BenchError if it fails."""
        command = [sys.executable, "-m", "flask", *arguments]
        done = subprocess.run(
            command,
            cwd=PROJECT,
            env=self.environment(),
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise BenchError(f"flask {arguments[0]}: {(done.stderr or done.stdout).strip()}")
        return done.stdout.strip()

    @contextmanager
    def stock(self) -> Iterator[Stock]:
        """Direct access to the tables."""
        if self.database_url.startswith("sqlite:"):
            with closing(
                sqlite3.connect(self.database_url.removeprefix("sqlite:///"), timeout=30)
            ) as connection:
                yield Stock(connection, "?")
            return
        import psycopg  # noqa: PLC0415  # only with PostgreSQL

        with closing(psycopg.connect(self.database_url)) as connection:
            yield Stock(connection, "%s")

    def scalar(self, sql: str) -> int:
        """The number that a query returns."""
        with self.stock() as stock:
            value = stock.connection.cursor().execute(sql).fetchone()[0]
        return int(value or 0)


@dataclass(frozen=True)
class Template:
    """A place to copy, and the number of its first open reservation."""

    place: Place
    first_open: int = 0


class Engine(Protocol):
    """Creates and copies places on one database engine."""

    @property
    def database_pid(self) -> int | None:
        """The process of the database server, if there is one."""

    def new(self, name: str) -> Place:
        """A place without tables."""

    def copy(self, template: Place) -> Any:
        """A copy of a template, as a context manager; removed at the end."""


class Sqlite:
    """Places with an SQLite file in their folder."""

    database_pid = None

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def new(self, name: str) -> Place:
        """A place without tables."""
        return self.at(self.folder / name)

    def at(self, folder: Path, key: str = "") -> Place:
        """The place in that folder."""
        folder.mkdir(mode=0o700, exist_ok=True)
        return Place(folder, f"sqlite:///{folder}/budget_sync.db", key)

    @contextmanager
    def copy(self, template: Place) -> Iterator[Place]:
        """A copy of a template; removed at the end."""
        place = self.new(f"run-{secrets.token_hex(4)}")
        try:
            shutil.copytree(template.folder, place.folder, dirs_exist_ok=True)
            # Sync now, not during a measurement.
            with (place.folder / "budget_sync.db").open("rb") as file:
                os.fsync(file.fileno())
            yield Place(place.folder, place.database_url, template.key)
        finally:
            shutil.rmtree(place.folder)


def create(place: Place) -> Place:
    """Create a new place's tables, customer, key and budgets.

    Raises UnavailableError if the product does not accept its kind of database.
    """
    try:
        place.flask("init-db")
    except BenchError as error:
        # Any other error is an error of the product.
        if "DATABASE_URL" not in str(error):
            raise
        raise UnavailableError(str(error)) from error
    place.flask("add-customer", CUSTOMER, "--name", "Bench")
    place = Place(
        place.folder,
        place.database_url,
        place.flask("add-key", "--customer", CUSTOMER, "--name", "bench"),
    )
    with place.stock() as stock:
        stock.add_budgets(period_key("Q1 2025"))
    return place


def stored_history(count: int, cache: Path, sqlite: Sqlite) -> Template:
    """A template with that many reservations and their logs, cached for later runs."""
    cached = cache / f"stored-{count}-{fingerprint(PROJECT / 'schema.sql')}"
    note = cached / "key"
    if not note.exists():
        for outdated in cache.glob(f"stored-{count}-*"):
            shutil.rmtree(outdated)
        draft = create(sqlite.new("history"))
        with draft.stock() as stock:
            # Durability is not needed: the file is moved into the cache once it is complete.
            for pragma in (
                "synchronous = OFF",
                "cache_size = -500000",
                "foreign_keys = ON",
                "wal_autocheckpoint = 100000",
            ):
                stock.connection.execute(f"PRAGMA {pragma}")
            stock.add_history(count)
            stock.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        draft.flask("verify")
        shutil.move(draft.folder, cached)
        note.write_text(draft.key, encoding="ascii")
    return Template(sqlite.at(cached, note.read_text(encoding="ascii")), first_open(count))


def cache_folder() -> Path:
    """The folder for large databases between runs: in the temporary folder, for this user only."""
    folder = Path(tempfile.gettempdir()) / f"budget-sync-bench-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise BenchError(f"{folder} belongs to another user. Remove it, or set TMPDIR.")
    return folder
