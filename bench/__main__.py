"""The command: python -m bench [--quick]. Prints every cell and the table of ratios.

The exit status is 1 if an acknowledged request was lost.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import click

from bench import (
    console_load,
    console_stock,
    credentials,
    machine,
    pages,
    places,
    reading,
    report,
    sheet,
)
from bench.cells import Cell, plan
from bench.measure import WARM_UP_S, Bench, Side
from bench.places import BenchError, Sqlite, Template, UnavailableError, create
from bench.postgres import Cluster, cluster
from bench.servers import WORKERS
from budget_sync.server.arbiter import THREADS

#: More than any side releases in a second: the open reservations to prepare for each second.
MAX_RELEASES_PER_S = 6000


@click.command("bench")
@click.option(
    "--quick",
    is_flag=True,
    help="About 2 minutes: one short round, fewer loads, a smaller history. "
    "To try the benchmark out, not for figures.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    help="How often to measure each cell; its median counts. [default: 3; quick: 1]",
)
@click.option(
    "--seconds", type=click.IntRange(1), help="How long to load each cell. [default: 3; quick: 1]"
)
@click.option(
    "--stored",
    type=click.IntRange(1000),
    help="Reservations in the large history. [default: 1,000,000; quick: 50,000]",
)
@click.option("--only-sheet", is_flag=True, help="Measure the sync and the reading of sheets only.")
@click.option("--only-pages", is_flag=True, help="Measure the pages of the console only.")
@click.option("--only-tokens", is_flag=True, help="Measure tokens against API keys only.")
def main(
    quick: bool,
    rounds: int | None,
    seconds: int | None,
    stored: int | None,
    only_sheet: bool,
    only_pages: bool,
    only_tokens: bool,
) -> None:
    """Compare this service with a bare Flask reply, a plain Flask + Peewee app and pgbench."""
    # If it is terminated, it still stops the processes that it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if only_sheet:
            run_sheet(rounds or (1 if quick else 3), seconds or (1 if quick else 3))
            return
        if only_pages:
            run_pages(rounds or (1 if quick else 3), 5 * (seconds or 3), _stored(stored, quick))
            return
        if only_tokens:
            run_tokens(rounds or 3, seconds or 3)
            return
        problems = run(
            quick=quick,
            rounds=rounds or (1 if quick else 3),
            seconds=seconds or (1 if quick else 3),
            stored=_stored(stored, quick),
        )
    except BenchError as error:
        raise click.ClickException(str(error)) from error
    if problems:
        raise click.ClickException("\n".join(["The product is wrong:", *problems]))


def _stored(stored: int | None, quick: bool) -> int:
    return stored or (50_000 if quick else 1_000_000)


def run(*, quick: bool, rounds: int, seconds: int, stored: int) -> list[str]:
    """Measure and print everything; returns the problems found."""
    missing = [program for program in ("wrk", "gcc") if shutil.which(program) is None]
    if missing:
        raise BenchError(
            f"{' and '.join(missing)} missing. On Debian: apt-get install wrk gcc libc6-dev."
        )
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="budget-sync-bench-run-"))
        )
        # PostgreSQL's user must reach its folder and the preload library in this folder. The folder
        # of each installation stays closed.
        folder.chmod(0o711)
        slow_library = machine.slow_fsync_library(folder)
        lines = machine.facts(folder, slow_library)
        say(*lines)
        sqlite = Sqlite(folder)
        side = sqlite_side(sqlite, seconds * rounds, stored)
        bench = Bench(folder, slow_library, seconds, {("sqlite", False): side})
        skipped = add_postgres(bench, stack, seconds * rounds)
        samples = measure_all(bench, plan(quick=quick, with_postgres=skipped is None), rounds)
        say("Memory: one server on the large history, loaded again and again …")
        with sqlite.copy(side.template(Cell("sqlite", "reserve", 16, stored=True)).place) as place:
            growth_mb = bench.memory_growth(
                place, slices=4 if quick else 8, seconds=1 if quick else 3, clients=16
            )
        times, loaded_checks, no_sheet = measure_sheet(side.empty.place, sqlite, rounds, seconds)
        read = measure_reading(folder, rounds)
        say("", *lines, f"Load average after the run: {os.getloadavg()[0]:.1f}")
        say(
            f"Rounds: {rounds}, {seconds} s each; the median of each figure, the sum of errors and "
            f"acknowledged requests; {WORKERS} workers of {THREADS} threads."
        )
        say(
            "The servers of compared cells run at the same time and are loaded in turn, because "
            "the machine may be half as fast a minute later. PSS is that of one server among them."
        )
        say(
            "Requests without a reply at the end of a round count in no percentile. That flatters "
            "a side if its slowest requests take about as long as a round."
        )
        say("", *report.measured_lines(samples), "")
        say(
            "Memory (PSS, MB) after each load of one server: "
            + ", ".join(f"{size:.0f}" for size in growth_mb),
            "",
        )
        say(
            *(
                [f"Sheet sync: not measured: {no_sheet}"]
                if no_sheet
                else report.loaded_lines(loaded_checks)
            ),
            "",
        )
        say(*([f"PostgreSQL: not measured: {skipped}", ""] if skipped else []))
        with sqlite.copy(side.empty.place) as place:
            costs = credentials.token_against_key(place, rounds, seconds)
        found = report.demands(samples, stored, growth_mb, times) + read
        say(*report.demand_lines(found + credentials.demands(costs)))
        return bench.problems


def run_tokens(rounds: int, seconds: int) -> None:
    """Measure and print the cost of tokens only."""
    if shutil.which("wrk") is None:
        raise BenchError("wrk is missing. On Debian: apt-get install wrk.")
    with tempfile.TemporaryDirectory(prefix="budget-sync-bench-run-") as name:
        place = create(Sqlite(Path(name)).new("empty"))
        costs = credentials.token_against_key(place, rounds, seconds)
        say(f"{os.cpu_count()} cores; load average {os.getloadavg()[0]:.1f}")
        say(*report.demand_lines(credentials.demands(costs)))


def run_pages(rounds: int, seconds: int, stored: int) -> None:
    """Measure and print the pages of the console, and the API next to them, only."""
    cache = places.cache_folder()
    say(f"Creating {stored:,} checks and reservations, or taking them from {cache} …")
    place = console_stock.stored(stored)
    with (
        tempfile.TemporaryDirectory(prefix="budget-sync-bench-run-") as name,
        Sqlite(Path(name)).copy(place) as copied,
    ):
        beside = console_load.measure(copied, seconds, rounds)
    times = []
    for each in pages.measure(place, rounds):
        times.append(each)
        say(f"{each.path}: {each.p50_ms:.0f} ms, its SQL {each.sql_ms:.0f} ms")
    say("", f"{os.cpu_count()} cores; load average {os.getloadavg()[0]:.1f}")
    say("", *pages.lines(times), "", *console_load.lines(beside), "")
    say(*report.demand_lines(pages.demands(times) + console_load.demands(beside)))


def run_sheet(rounds: int, seconds: int) -> None:
    """Measure and print the sheet sync only."""
    if shutil.which("wrk") is None:
        raise BenchError("wrk is missing. On Debian: apt-get install wrk.")
    with tempfile.TemporaryDirectory(prefix="budget-sync-bench-run-") as name:
        sqlite = Sqlite(Path(name))
        times, loaded_checks, problem = measure_sheet(
            create(sqlite.new("empty")), sqlite, rounds, seconds
        )
        if times is None:
            raise BenchError(str(problem))
        say(
            "",
            f"{os.cpu_count()} cores; load average {os.getloadavg()[0]:.1f}",
            *report.loaded_lines(loaded_checks),
            "",
        )
        found = report.sheet_demands(times) + measure_reading(Path(name), rounds)
        say(*report.demand_lines(found))


def sqlite_side(sqlite: Sqlite, seconds: int, stored: int) -> Side:
    """The templates on SQLite, with enough reservations for that many seconds of releases."""
    say("Creating databases …")
    empty = create(sqlite.new("empty"))
    releasable = create(sqlite.new("releasable"))
    with releasable.stock() as stock:
        stock.add_open(0, MAX_RELEASES_PER_S * (seconds + WARM_UP_S))
    say(
        f"Creating {stored:,} reservations with their logs, or taking them from "
        f"{places.cache_folder()} …"
    )
    return Side(
        sqlite,
        Template(empty),
        Template(releasable),
        places.stored_history(stored, places.cache_folder(), sqlite),
    )


def add_postgres(bench: Bench, stack: ExitStack, seconds: int) -> str | None:
    """Add PostgreSQL with normal and slow fsync; returns the reason if it is unavailable."""
    try:
        for slow in (False, True):
            started = stack.enter_context(
                cluster(
                    bench.folder / f"postgres-{'slow' if slow else 'normal'}",
                    bench.slow_library if slow else None,
                )
            )
            bench.sides["postgres", slow] = postgres_side(started, seconds)
    except UnavailableError as problem:
        say(f"PostgreSQL is left out: {problem}")
        return str(problem)
    return None


def postgres_side(started: Cluster, seconds: int) -> Side:
    """The templates on PostgreSQL, in the same way."""
    empty = create(started.new("empty"))
    releasable = create(started.new("releasable"))
    with releasable.stock() as stock:
        stock.add_open(0, MAX_RELEASES_PER_S * (seconds + WARM_UP_S))
    return Side(started, Template(empty), Template(releasable))


def measure_all(bench: Bench, groups: list[list[Cell]], rounds: int) -> report.Samples:
    """Measure every cell `rounds` times, in turn with the cells it is compared with."""
    samples: report.Samples = {}
    began_s, done, measurements = time.monotonic(), 0, rounds * sum(map(len, groups))
    for group in groups:
        samples |= {cell: [] for cell in group}
        for cell, sample in bench.measure(group, rounds):
            samples[cell].append(sample)
            done += 1
            progress = f"{done}/{measurements}, {time.monotonic() - began_s:.0f} s"
            say(
                f"[{progress}] {report.SIDES[cell.side]} {cell.verb}, {cell.load}: "
                f"{sample.rate:,.0f}/s, p99 {sample.p99_ms:.1f} ms"
            )
    return samples


def measure_sheet(
    empty: places.Place, sqlite: Sqlite, rounds: int, seconds: int
) -> tuple[sheet.Times | None, list[sheet.LoadedChecks], str | None]:
    """The times of the sheet sync and the checks during it, or the reason why it is left out."""
    say("Sheet sync: 10,000 rows …")
    try:
        template = sheet.template(empty, sqlite)
    except UnavailableError as problem:
        return None, [], str(problem)
    times = sheet.times(template, sqlite, rounds)
    say(
        f"processor time: executemany {times.plain_s:.3f} s, first import {times.import_s:.3f} s, "
        f"unchanged sync run {times.unchanged_s:.3f} s"
    )
    loaded_checks = sheet.checks_during_sync(template, sqlite, max(5, 2 * seconds), clients=16)
    return times, loaded_checks, None


def measure_reading(folder: Path, rounds: int) -> list[report.Demand]:
    """The limits of reading sheets, with what was measured."""
    say("Reading sheets: a CSV file of 22,000 lines, and an Excel file of 100,000 cells …")
    return report.reading_demands(reading.measure(folder, rounds))


def say(*lines: str) -> None:
    """Print without buffering, also into a file."""
    for line in lines:
        click.echo(line)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
