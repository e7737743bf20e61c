"""The results of a load test: the table, the verdict, and what the doctor shows later."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from budget_sync.domain import clock
from budget_sync.runtime import files

#: The guide's limit: "Alert if > 2 seconds".
LIMIT_S = 2.0

#: The calls of a purchase, in the order of the table.
CALLS = ("check", "reserve", "commit", "release")

_FILE = "load-test.json"


@dataclass
class Report:
    """What was measured. Threads may add results at the same time."""

    latencies_s: dict[str, list[float]] = field(
        default_factory=lambda: {call: [] for call in CALLS}
    )
    retries: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CALLS, 0))
    errors: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CALLS, 0))
    #: The problems, with their numbers.
    problems: dict[str, int] = field(default_factory=dict)
    duration_s: float = 0.0
    is_complete: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, call: str, latency_s: float, retries: int, problem: str | None) -> None:
        """Add a call. `problem` says why it failed."""
        with self.lock:
            self.latencies_s[call].append(latency_s)
            self.retries[call] += retries
            if problem is not None:
                self.errors[call] += 1
                text = f"{call}: {problem}"
                self.problems[text] = self.problems.get(text, 0) + 1

    @property
    def calls(self) -> int:
        """The number of calls that ended."""
        return sum(map(len, self.latencies_s.values()))

    @property
    def p99_s(self) -> float:
        """The largest 99th percentile of a call, in seconds."""
        return max(percentile(latencies, 99) for latencies in self.latencies_s.values())

    @property
    def passed(self) -> bool:
        """Whether the run is complete, no call failed, and 99 % of each took at most LIMIT_S."""
        has_errors = any(self.errors.values())
        return self.is_complete and self.calls > 0 and not has_errors and self.p99_s <= LIMIT_S

    def rows(self) -> list[tuple[str, ...]]:
        """The lines of the table under HEADER: each call, then all of them."""
        everything = [each for latencies in self.latencies_s.values() for each in latencies]
        lines = [
            (call, latencies, self.retries[call], self.errors[call])
            for call, latencies in self.latencies_s.items()
        ]
        lines.append(("all", everything, sum(self.retries.values()), sum(self.errors.values())))
        return [
            (
                *(call, f"{len(latencies):,}", f"{self._per_minute(len(latencies)):,.0f}"),
                *(f"{percentile(latencies, percent):.3f} s" for percent in (50, 95, 99, 100)),
                *(f"{retries:,}", f"{errors:,}"),
            )
            for call, latencies, retries, errors in lines
        ]

    def _per_minute(self, count: int) -> float:
        return 60 * count / self.duration_s if self.duration_s else 0.0


#: The columns of the table.
HEADER = ("call", "calls", "per minute", "p50", "p95", "p99", "max", "retries", "errors")


def percentile(values: list[float], percent: int) -> float:
    """The smallest value that is not exceeded by that share of the values; 0 without values."""
    if not values:
        return 0.0
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]


class StoredResult(NamedTuple):
    """The last load test that passed."""

    time: str
    url: str
    per_minute: int
    minutes: float
    p99_s: float


def store_passed(folder: Path, url: str, per_minute: int, minutes: float, p99_s: float) -> Path:
    """Store that a load test passed, for the doctor. Raises OSError."""
    path = folder / _FILE
    result = StoredResult(clock.to_text(clock.now()), url, per_minute, minutes, round(p99_s, 3))
    files.write(path, json.dumps(result._asdict()) + "\n")
    return path


def last_passed(folder: Path) -> StoredResult | None:
    """The last load test that passed; None if none is stored, or its file cannot be read."""
    try:
        stored = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        return StoredResult(
            str(stored["time"]),
            str(stored["url"]),
            int(stored["per_minute"]),
            float(stored["minutes"]),
            float(stored["p99_s"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
