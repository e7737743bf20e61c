"""What a row of the proof is given and what it gives back."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from conftest import Installation

#: More violations than this are counted, not told.
MAX_TOLD = 20

#: Seconds between two lines of progress.
PROGRESS_S = 10.0


@dataclass
class Outcome:
    """How often a promise was tried, what broke it, and what was measured on the way."""

    tries: int = 0
    violation_count: int = 0
    violations: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def expect(self, holds: object, otherwise: str) -> bool:
        """Note a violation unless the condition holds; returns whether it does."""
        if not holds:
            self.violation_count += 1
            if len(self.violations) < MAX_TOLD:
                self.violations.append(otherwise)
        return bool(holds)


@dataclass
class Place:
    """Where a row works: a folder of its own, dice that can be thrown again, and an engine."""

    folder: Path
    seed: int = 0
    tell: Callable[[str], None] = lambda _: None
    new_postgres: Callable[[], AbstractContextManager[str]] | None = None
    #: By how much promised times are stretched, for a machine that does much else.
    patience: float = 1.0

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)  # noqa: S311  # chance, no secret
        self._told_at = time.monotonic()

    @property
    def engine(self) -> str:
        """The engine's name."""
        return "postgresql" if self.new_postgres else "sqlite"

    def progress(self, done: int, tries: int) -> None:
        """Say how far it is, now and then."""
        if time.monotonic() - self._told_at >= PROGRESS_S:
            self._told_at = time.monotonic()
            self.tell(f"{done:,} of {tries:,}")

    @contextmanager
    def environment(self, name: str) -> Iterator[dict[str, str]]:
        """The environment of an installation in a folder of that name; on PostgreSQL with a database of its own."""
        made = {"INSTANCE_FOLDER": str(self.folder / name), "SECRET_KEY": "a key for the proof, long enough"}
        if self.new_postgres is None:
            yield made
            return
        with self.new_postgres() as url:
            yield made | {"DATABASE_URL": url}

    @contextmanager
    def installation(self, name: str = "instance", **environment: str) -> Iterator[Installation]:
        """An installation with the guide's world loaded, its server not started; killed at the end if it runs."""
        with self.environment(name) as made:
            installation = Installation(made | environment)
            installation.flask("init-db")
            installation.flask("demo")
            try:
                yield installation
            finally:
                installation.end()


class Row(NamedTuple):
    """A row of the table: what is promised, how it is tried, and how often in the suite and in `make prove`."""

    name: str
    promise: str
    prove: Callable[[int, Place], Outcome]
    short: int | None
    full: int
    engines: tuple[str, ...] = ("sqlite",)
