"""The cells: a cell is one side under one load, and the plan is their order in a round."""

from __future__ import annotations

from statistics import median
from typing import NamedTuple


class Cell(NamedTuple):
    """One side (bare, plain, sqlite, threads, postgres, pgbench) under one load.

    `threads` is `sqlite` with every request in a thread, and none in a greenlet on the event loop.

    `hot`: all requests on one budget, else spread over 1,000. `stored`: on a database with the
    large history, else on an empty one (for releases: with their reservations only). `slow`: with
    an fsync that takes 3 ms longer.
    """

    side: str
    verb: str
    clients: int
    hot: bool = False
    stored: bool = False
    slow: bool = False

    @property
    def load(self) -> str:
        """Everything but the side and the verb, for people."""
        words = [
            f"{self.clients} client{'s' if self.clients > 1 else ''}",
            "one budget" if self.hot else "1,000 budgets",
        ]
        return ", ".join(words + ["large history"] * self.stored + ["fsync + 3 ms"] * self.slow)


class Sample(NamedTuple):
    """One measurement.

    Memory and processor time are those of the server's processes, including PostgreSQL, without wrk
    and pgbench.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    errors: int
    cpu_s: float
    resident_mb: float
    proportional_mb: float
    start_s: float
    acknowledged: int
    stored: int | None = None

    @classmethod
    def middle(cls, samples: list[Sample]) -> Sample:
        """The median of each figure, and the sum of each count."""
        figures = {
            name: median(getattr(sample, name) for sample in samples)
            for name in cls._fields[:-2]
            if name != "errors"
        }
        stored = [sample.stored for sample in samples if sample.stored is not None]
        return cls(
            **figures,
            errors=sum(sample.errors for sample in samples),
            acknowledged=sum(sample.acknowledged for sample in samples),
            stored=sum(stored) if stored else None,
        )


def plan(*, quick: bool, with_postgres: bool) -> list[list[Cell]]:
    """The cells in groups. The servers of a group run at the same time, and are loaded in turn."""
    groups = []
    for clients in (16,) if quick else (1, 16, 64):
        compared = clients == 16
        for verb in ("reserve", "check", "release"):
            cells = [Cell("sqlite", verb, clients), Cell("postgres", verb, clients)]
            cells += [Cell("threads", verb, clients)] if verb != "release" else []
            cells += (
                [Cell(side, "reserve", clients) for side in ("plain", "pgbench")]
                if verb == "reserve"
                else []
            )
            cells += [Cell("bare", verb, clients)] if verb != "release" else []
            cells += (
                [Cell("sqlite", verb, clients, hot=True)] if compared and verb != "release" else []
            )
            cells += [Cell("sqlite", verb, clients, stored=True)] if compared else []
            groups.append(cells)
    groups.append(
        [Cell(side, "reserve", 16, hot=True) for side in ("plain", "postgres", "pgbench")]
    )
    for clients in (16, 64) if quick else (1, 16, 64):
        cells = [
            Cell(side, "reserve", clients, slow=True)
            for side in ("sqlite", "plain", "postgres", "pgbench")
        ]
        groups.append(
            cells
            + (
                []
                if quick
                else [Cell("sqlite", verb, clients, slow=True) for verb in ("check", "release")]
            )
        )
    return [
        [cell for cell in cells if with_postgres or cell.side not in ("postgres", "pgbench")]
        for cells in groups
    ]
