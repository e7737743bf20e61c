"""What a row of the proof is given and what it gives back."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from support.installation import Installation
from support.templates import Start, Templates

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
    templates: Templates
    seed: int = 0
    tell: Callable[[str], None] = lambda _: None
    #: By how much promised times are stretched, for a machine that does much else.
    patience: float = 1.0

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)  # noqa: S311  # chance, no secret
        self._told_at = time.monotonic()

    @property
    def engine(self) -> str:
        """The engine's name."""
        return self.templates.engine

    def progress(self, done: int, tries: int) -> None:
        """Say how far it is, now and then."""
        if time.monotonic() - self._told_at >= PROGRESS_S:
            self._told_at = time.monotonic()
            self.tell(f"{done:,} of {tries:,}")

    @contextmanager
    def installation(
        self, name: str = "instance", start: Start = "world", **environment: str
    ) -> Iterator[Installation]:
        """An installation in a folder of that name, with the guide's world loaded, its server not started; killed at the end if it runs."""
        with self.templates.copy(start, self.folder / name) as made:
            installation = Installation(made | environment)
            try:
                yield installation
            finally:
                installation.end()


class Row(NamedTuple):
    """A row of the table: what is promised, how it is tried, and how often in the suite and in `make prove`."""

    name: str
    promise: str
    stress: Callable[[int, Place], Outcome]
    short: int | None
    full: int
    engines: tuple[str, ...] = ("sqlite",)
