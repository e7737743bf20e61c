"""The tables at the end: the measured figures, and the ratios with their limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

from bench.cells import Cell, Sample
from bench.reading import Figures
from bench.sheet import LoadedChecks, Times

Samples = dict[Cell, list[Sample]]

SIDES = {
    "bare": "(a) bare Flask reply",
    "plain": "(b) plain Flask + Peewee",
    "sqlite": "(c) SQLite",
    "threads": "(c) SQLite, no greenlets",
    "postgres": "(d) PostgreSQL",
    "pgbench": "(d) pgbench",
}

MAX_MB = 200
MAX_START_S = 2
MAX_GROWTH = 0.05


class Demand(NamedTuple):
    """One line of the table of ratios; `measured` is None if a side is unavailable."""

    what: str
    measured: float | None
    limit: float
    at_most: bool = False
    unit: str = " times"

    @property
    def verdict(self) -> str:
        """Whether the limit is met."""
        if self.measured is None:
            return "not measured"
        is_met = self.measured <= self.limit if self.at_most else self.measured >= self.limit
        return "met" if is_met else "MISSED"


def measured_lines(samples: Samples) -> list[str]:
    """The medians of the rounds of every cell, grouped by load."""
    rows = []
    for cell, found in sorted(
        samples.items(),
        key=lambda item: (item[0].slow, item[0].stored, item[0].hot, item[0].clients),
    ):
        one = Sample.middle(found)
        stored = (
            ""
            if one.stored is None
            else f"{one.acknowledged:,} = {one.stored:,}"
            if one.acknowledged == one.stored
            else _beyond(one)
        )
        name = SIDES[cell.side] + ("" if cell.side in ("plain", "pgbench") else f" {cell.verb}")
        figures = (
            f"{one.rate:,.0f}",
            f"{one.p50_ms:.1f}",
            f"{one.p99_ms:.1f}",
            f"{one.errors}",
            f"{one.cpu_s:.2f}",
        )
        rows.append(
            (
                cell.load,
                name,
                *figures,
                f"{one.resident_mb:.0f}",
                f"{one.proportional_mb:.0f}",
                stored,
            )
        )
    header = (
        "load",
        "side",
        "rate/s",
        "p50 ms",
        "p99 ms",
        "errors",
        "CPU s",
        "RSS MB",
        "PSS MB",
        "acknowledged = stored",
    )
    return table(header, rows, left=(0, 1, 9))


def _beyond(one: Sample) -> str:
    """More stored than acknowledged: wrk has closed its connection before those replies."""
    return f"{one.acknowledged:,} + {(one.stored or 0) - one.acknowledged} open at the end"


def demands(
    samples: Samples, stored_count: int, growth_mb: list[float], sheet: Times | None
) -> list[Demand]:
    """The table of ratios.

    A ratio is the median over the rounds, in each of which the two sides are loaded one after the
    other.
    """

    def ratio(
        over: Cell, under: Cell, figure: Callable[[Sample], float] = lambda sample: sample.rate
    ) -> float | None:
        pairs = (
            list(zip(samples.get(over, []), samples.get(under, []), strict=True))
            if over in samples and under in samples
            else []
        )
        ratios = [figure(first) / figure(second) for first, second in pairs if figure(second)]
        return median(ratios) if ratios else None

    def p99(sample: Sample) -> float:
        return sample.p99_ms

    def cpu(sample: Sample) -> float:
        return sample.cpu_s / max(1, sample.acknowledged)

    reserve, plain, bare = (
        Cell("sqlite", "reserve", 16),
        Cell("plain", "reserve", 16),
        Cell("bare", "reserve", 16),
    )
    postgres = Cell("postgres", "reserve", 16)
    starts_s = [
        sample.start_s
        for cell, found in samples.items()
        for sample in found
        if cell.side == "sqlite" and not cell.slow
    ]
    half = len(growth_mb) // 2
    return [
        Demand("reserve, SQLite, 16 clients: rate against (b)", ratio(reserve, plain), 5),
        Demand("… p99 against (b)", ratio(reserve, plain, p99), 1 / 20, at_most=True),
        Demand("… rate against (a)", ratio(reserve, bare), 0.4),
        *(
            Demand(
                f"reserve, fsync + 3 ms, {clients} clients: rate against (b)",
                ratio(
                    Cell("sqlite", "reserve", clients, slow=True),
                    Cell("plain", "reserve", clients, slow=True),
                ),
                limit,
            )
            for clients, limit in ((16, 10), (64, 15))
        ),
        Demand(
            "check: rate against (a)",
            ratio(Cell("sqlite", "check", 16), Cell("bare", "check", 16)),
            0.35,
        ),
        *(
            Demand(
                f"{verb}: rate with {stored_count:,} reservations stored, against empty",
                ratio(Cell("sqlite", verb, 16, stored=True), Cell("sqlite", verb, 16)),
                0.9,
            )
            for verb in ("check", "reserve", "release")
        ),
        Demand(
            "reserve, SQLite: one hot budget against 1,000",
            ratio(Cell("sqlite", "reserve", 16, hot=True), reserve),
            0.9,
        ),
        *(
            demand
            for verb in ("reserve", "check")
            for over, under in [(Cell("sqlite", verb, 16), Cell("threads", verb, 16))]
            for demand in (
                Demand(f"{verb}: rate with greenlets against without", ratio(over, under), 1),
                Demand("… CPU for each request", ratio(over, under, cpu), 1, at_most=True),
            )
        ),
        Demand("reserve, PostgreSQL, spread: rate against SQLite", ratio(postgres, reserve), 0.5),
        Demand("… p99 against SQLite", ratio(postgres, reserve, p99), 3, at_most=True),
        Demand(
            "memory of the whole server (PSS), 2 workers, after the run",
            growth_mb[-1],
            MAX_MB,
            at_most=True,
            unit=" MB",
        ),
        Demand(
            "… growth over the second half of the run",
            growth_mb[-1] / growth_mb[half - 1] - 1,
            MAX_GROWTH,
            at_most=True,
            unit="",
        ),
        Demand(
            "start to first reply",
            median(starts_s) if starts_s else None,
            MAX_START_S,
            at_most=True,
            unit=" s",
        ),
        *sheet_demands(sheet),
    ]


def sheet_demands(sheet: Times | None) -> list[Demand]:
    """The lines of the sheet sync in that table."""
    return [
        Demand(
            "sheet of 10,000 rows: first import, CPU against executemany",
            sheet and sheet.import_s / sheet.plain_s,
            8,
            at_most=True,
        ),
        Demand(
            "… unchanged sync run, CPU against executemany",
            sheet and sheet.unchanged_s / sheet.plain_s,
            3,
            at_most=True,
        ),
    ]


def reading_demands(found: Figures) -> list[Demand]:
    """The lines of the reading of sheets in that table."""
    return [
        Demand(
            "CSV file of 22,000 lines, 15 columns: apply, CPU against csv.reader",
            found.apply_s / found.csv_s,
            4,
            at_most=True,
        ),
        Demand("… detect, CPU", found.detect_s, 1.5, at_most=True, unit=" s"),
        Demand("… with 6 columns: apply", found.narrow_times, 4, at_most=True),
        # Each line is a budget of its own, which takes more than adding it up.
        Demand("… with a department for each line: apply", found.single_times, 4, at_most=True),
        Demand(
            "Excel file of 100,000 cells: fetch and apply, CPU beyond python-calamine",
            found.xlsx_s - found.calamine_s,
            1,
            at_most=True,
            unit=" s",
        ),
        Demand(
            "… largest memory beyond python-calamine",
            found.xlsx_mb - found.calamine_mb,
            60,
            at_most=True,
            unit=" MB",
        ),
    ]


def demand_lines(found: list[Demand]) -> list[str]:
    """The table of ratios as text."""
    rows = []
    for demand in found:
        measured = "" if demand.measured is None else f"{demand.measured:.3g}{demand.unit}"
        rows.append(
            (
                demand.what,
                measured,
                f"{'at most' if demand.at_most else 'at least'} {demand.limit:g}{demand.unit}",
                demand.verdict,
            )
        )
    return table(("what", "measured", "limit", "verdict"), rows, left=(0, 2, 3))


def loaded_lines(found: list[LoadedChecks]) -> list[str]:
    """The table of checks with and without a sync."""
    rows = [
        (
            one.during,
            str(one.runs),
            f"{one.load.acknowledged / one.load.seconds:,.0f}",
            f"{one.load.p50_ms:.1f}",
            f"{one.load.p99_ms:.1f}",
        )
        for one in found
    ]
    return table(("checks during", "sync runs", "rate/s", "p50 ms", "p99 ms"), rows, left=(0,))


def table(
    header: tuple[str, ...], rows: Sequence[tuple[str, ...]], left: tuple[int, ...]
) -> list[str]:
    """Rows under a header, in aligned columns."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, tuple("-" * width for width in widths), *rows]
    return [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
