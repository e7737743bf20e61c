"""Types shared by all stress tests: `Place` is their input, `Outcome` their result."""

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

#: Violations beyond this number are counted but not described.
MAX_DESCRIBED = 20

#: Seconds between two progress lines.
PROGRESS_S = 10.0


@dataclass
class Outcome:
    """The result of a stress test: number of tries, violations, and notes on measurements."""

    tries: int = 0
    violation_count: int = 0
    violations: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def expect(self, holds: object, otherwise: str) -> bool:
        """Record a violation unless the condition holds; returns whether it holds."""
        if not holds:
            self.violation_count += 1
            if len(self.violations) < MAX_DESCRIBED:
                self.violations.append(otherwise)
        return bool(holds)


@dataclass
class Place:
    """Input of a stress test: a folder, a seeded random generator, and installation templates."""

    folder: Path
    templates: Templates
    seed: int = 0
    report: Callable[[str], None] = lambda _: None
    #: Factor for time limits, for a machine that is busy with other work.
    patience: float = 1.0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)  # noqa: S311  # not a secret
        self._reported_at = time.monotonic()

    @property
    def engine(self) -> str:
        """The engine's name."""
        return self.templates.engine

    def progress(self, done: int, tries: int) -> None:
        """Report progress, at most every PROGRESS_S seconds."""
        if time.monotonic() - self._reported_at >= PROGRESS_S:
            self._reported_at = time.monotonic()
            self.report(f"{done:,} of {tries:,}")

    @contextmanager
    def installation(
        self, name: str = "instance", start: Start = "world", **environment: str
    ) -> Iterator[Installation]:
        """An installation in a subfolder, its server not started. Killed at the end if running."""
        with self.templates.copy(start, self.folder / name) as variables:
            installation = Installation(variables | environment)
            try:
                yield installation
            finally:
                installation.end()


class Row(NamedTuple):
    """A stress test: its invariant, its function, and its number of tries.

    `short` is the number of tries in the test suite, None if it is not run there; `full` is the
    number in `make stress`.
    """

    name: str
    invariant: str
    stress: Callable[[int, Place], Outcome]
    short: int | None
    full: int
    engines: tuple[str, ...] = ("sqlite",)
