"""Installations to copy.

The commands that create an installation take a second each to start, and hash passwords. A copy
takes almost no time.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import psycopg
import pytest
from peewee import sqlite3  # type: ignore[attr-defined]  # missing from peewee's stubs

from support.installation import Installation
from support.machine import ENGINE
from support.postgres import new_database
from support.world import cheap_hash

SECRET = "a key for tests, long enough"

# PostgreSQL logs the next numbers of a sequence in advance. In a copy by CREATE DATABASE on
# PostgreSQL 15, these numbers are given out again after a crash. So no sequence of a template has
# numbers logged in advance. (Seen as "duplicate key" in SyncHistory after a kill.)
_RESET_SEQUENCES = """
    SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, last_value)
    FROM pg_sequences WHERE last_value IS NOT NULL
"""

#: The initial state: no folder and an empty database; the tables; the guide's example data.
Start = Literal["nothing", "tables", "world"]


class _File(NamedTuple):
    path: Path
    mode: int
    content: bytes


class _Template(NamedTuple):
    """The files of an instance folder, kept in memory, and the URL of a PostgreSQL database."""

    folders: list[tuple[Path, int]]
    files: list[_File]
    url: str | None

    @classmethod
    def of(cls, installation: Installation) -> _Template:
        """The template to copy that installation, which has ended."""
        folder = installation.folder
        found = [(each.relative_to(folder), each) for each in sorted(folder.rglob("*"))]
        return cls(
            [(path, stat.S_IMODE(each.stat().st_mode)) for path, each in found if each.is_dir()],
            [
                _File(path, stat.S_IMODE(each.stat().st_mode), each.read_bytes())
                for path, each in found
                if each.is_file()
            ],
            installation.environment.get("DATABASE_URL"),
        )

    def write(self, folder: Path) -> None:
        """Write the files into a folder, which may exist."""
        folder.mkdir(parents=True, exist_ok=True)
        for path, mode in self.folders:
            (folder / path).mkdir(mode)
        for file in self.files:
            descriptor = os.open(folder / file.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            try:
                os.fchmod(descriptor, file.mode)
                os.write(descriptor, file.content)
            finally:
                os.close(descriptor)


class Templates(AbstractContextManager["Templates"]):
    """One template of each kind, created by the commands on first use.

    The databases are on PostgreSQL if `server` is given. With `cheap_passwords`, the password
    hashes of the example's people are quick to verify, for tests that are not about passwords.
    """

    def __init__(
        self, folder: Path, server: str | None = None, *, cheap_passwords: bool = False
    ) -> None:
        self.folder = folder
        self.server = server
        self.cheap_passwords = cheap_passwords
        self._templates: dict[Start, _Template] = {}
        self._databases = ExitStack()

    def __exit__(self, *exception: object) -> None:
        self._databases.close()

    @property
    def engine(self) -> str:
        """The engine's name."""
        return "postgresql" if self.server else "sqlite"

    @contextmanager
    def copy(self, start: Start, folder: Path) -> Iterator[dict[str, str]]:
        """Create an installation in that folder; gives its environment.

        A PostgreSQL database is dropped at the end.
        """
        with ExitStack() as databases:
            yield self._copy(start, folder, databases)

    def _copy(self, start: Start, folder: Path, databases: ExitStack) -> dict[str, str]:
        template = None if start == "nothing" else self._template(start)
        if template:
            template.write(folder)
        environment = {"INSTANCE_FOLDER": str(folder), "SECRET_KEY": SECRET}
        if self.server:
            names = (urlsplit(template.url).path[1:],) if template and template.url else ()
            environment["DATABASE_URL"] = databases.enter_context(new_database(self.server, *names))
        return environment

    def _template(self, start: Start) -> _Template:
        if start not in self._templates:
            before: Start = "tables" if start == "world" else "nothing"
            installation = Installation(self._copy(before, self.folder / start, self._databases))
            installation.flask("demo" if start == "world" else "init-db")
            self._finish(installation)
            self._templates[start] = _Template.of(installation)
        return self._templates[start]

    def _finish(self, installation: Installation) -> None:
        # Closing the last connection to an SQLite file also empties its write-ahead log.
        installation.folder.mkdir(exist_ok=True)
        with closing(
            psycopg.connect(installation.target)
            if isinstance(installation.target, str)
            else sqlite3.connect(installation.target)
        ) as connection:
            for path in installation.folder.glob("demo/*.json") if self.cheap_passwords else ():
                login = json.loads(path.read_text(encoding="utf-8"))
                password_hash = cheap_hash(login["password"])
                connection.execute(
                    f"""UPDATE "User" SET "passwordHash" = '{password_hash}'
                    WHERE "email" = '{login["email"]}'"""
                )
            if isinstance(installation.target, str):
                connection.execute(_RESET_SEQUENCES)
            connection.commit()


@pytest.fixture(scope="session")
def templates(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Templates]:
    """Templates on the engine that the tests use."""
    server = request.getfixturevalue("postgres_server") if ENGINE == "postgresql" else None
    with Templates(tmp_path_factory.mktemp("templates"), server, cheap_passwords=True) as created:
        yield created


@pytest.fixture(scope="session")
def postgres_templates(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Templates]:
    """Templates on PostgreSQL, regardless of the engine that the tests use."""
    if ENGINE == "postgresql":
        yield request.getfixturevalue("templates")
        return
    postgres_server = request.getfixturevalue("postgres_server")
    with Templates(
        tmp_path_factory.mktemp("postgres-templates"), postgres_server, cheap_passwords=True
    ) as created:
        yield created
