"""Installations to copy: the commands that make one start up for a second each, and hash passwords; a copy costs next to nothing."""

from __future__ import annotations

import json
import shutil
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

# A sequence gives some numbers that its log has already. In a copy by CREATE DATABASE, as PostgreSQL 15 makes it, these are given
# out again after a crash; so a template's sequences are left with none. (Seen as "duplicate key" in SyncHistory after a kill.)
_LOG_SEQUENCES = "SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, last_value) FROM pg_sequences WHERE last_value IS NOT NULL"

#: What is there to begin with: no folder and an empty database; the tables; the guide's world.
Start = Literal["nothing", "tables", "world"]


class _Template(NamedTuple):
    folder: Path
    url: str | None


class Templates(AbstractContextManager["Templates"]):
    """One of each, made by the commands when it is first asked for; on PostgreSQL where a server is named.

    With `cheap_passwords` the world's people sign in with what costs less to compare, for who is about something else.
    """

    def __init__(
        self, folder: Path, server: str | None = None, *, cheap_passwords: bool = False
    ) -> None:
        self.folder = folder
        self.server = server
        self.cheap_passwords = cheap_passwords
        self._made: dict[Start, _Template] = {}
        self._databases = ExitStack()

    def __exit__(self, *problem: object) -> None:
        self._databases.close()

    @property
    def engine(self) -> str:
        """The engine's name."""
        return "postgresql" if self.server else "sqlite"

    @contextmanager
    def copy(self, start: Start, folder: Path) -> Iterator[dict[str, str]]:
        """The environment of a new installation in that folder; its database, where it is PostgreSQL's, is dropped at the end."""
        with ExitStack() as databases:
            yield self._copy(start, folder, databases)

    def _copy(self, start: Start, folder: Path, databases: ExitStack) -> dict[str, str]:
        template = None if start == "nothing" else self._template(start)
        if template:
            shutil.copytree(template.folder, folder, dirs_exist_ok=True)
        environment = {"INSTANCE_FOLDER": str(folder), "SECRET_KEY": SECRET}
        if self.server:
            names = (urlsplit(template.url).path[1:],) if template and template.url else ()
            environment["DATABASE_URL"] = databases.enter_context(new_database(self.server, *names))
        return environment

    def _template(self, start: Start) -> _Template:
        if start not in self._made:
            before: Start = "tables" if start == "world" else "nothing"
            made = Installation(self._copy(before, self.folder / start, self._databases))
            made.flask("demo" if start == "world" else "init-db")
            self._finish(made)
            self._made[start] = _Template(made.folder, made.environment.get("DATABASE_URL"))
        return self._made[start]

    def _finish(self, made: Installation) -> None:
        # Closing the last connection to an SQLite file also puts all of it into that file.
        made.folder.mkdir(exist_ok=True)
        with closing(
            psycopg.connect(made.target)
            if isinstance(made.target, str)
            else sqlite3.connect(made.target)
        ) as connection:
            for path in made.folder.glob("demo/*.json") if self.cheap_passwords else ():
                login = json.loads(path.read_text(encoding="utf-8"))
                connection.execute(
                    f"""UPDATE "User" SET "passwordHash" = '{cheap_hash(login["password"])}' WHERE "email" = '{login["email"]}'"""
                )
            if isinstance(made.target, str):
                connection.execute(_LOG_SEQUENCES)
            connection.commit()


@pytest.fixture(scope="session")
def templates(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Templates]:
    """Templates on the engine that the tests run on."""
    server = request.getfixturevalue("postgres_server") if ENGINE == "postgresql" else None
    with Templates(tmp_path_factory.mktemp("templates"), server, cheap_passwords=True) as made:
        yield made


@pytest.fixture(scope="session")
def postgres_templates(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Templates]:
    """Templates on PostgreSQL, whatever the tests run on."""
    if ENGINE == "postgresql":
        yield request.getfixturevalue("templates")
        return
    postgres_server = request.getfixturevalue("postgres_server")
    with Templates(
        tmp_path_factory.mktemp("postgres-templates"), postgres_server, cheap_passwords=True
    ) as made:
        yield made
