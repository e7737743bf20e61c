"""The command line: which stress rows to run, how often, and the table of results."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from support.postgres import BINARIES, cluster
from support.templates import Templates

from stress.outcome import Outcome, Place, Row
from stress.rows import ROWS


class Result(NamedTuple):
    """The outcome of one row on one engine."""

    row: Row
    engine: str
    outcome: Outcome
    seconds: float


def main(arguments: Sequence[str]) -> int:
    """Run the requested rows. Returns 1 if one was violated or not all were run, else 0."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    # A missing tool fails a row instead of skipping it.
    os.environ["REQUIRE_ALL"] = "1"
    if chosen.list:
        for row in ROWS:
            engines = ", ".join(row.engines)
            click.echo(f"{row.name:<14}{row.full:>10,}  {engines:<20}  {row.invariant}")
        return 0
    requested = chosen.only.split(",") if chosen.only else [row.name for row in ROWS]
    unknown = sorted(set(requested) - {row.name for row in ROWS})
    if unknown:
        parser.error(f"there is no row {', '.join(unknown)}; --list names them")
    if chosen.engine == "postgresql" and not BINARIES:
        parser.error("PostgreSQL is not installed")
    results: list[Result] = []
    stopped = False
    try:
        for result in _run([row for row in ROWS if row.name in requested], chosen):
            results.append(result)  # noqa: PERF402  # keeps finished results after Ctrl-C
    except KeyboardInterrupt:
        stopped = True
        click.echo("Stopped.")
    click.echo()
    _print_table(results)
    return (
        1
        if stopped or not results or any(result.outcome.violation_count for result in results)
        else 0
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make stress ARGS=…",
        description="Try to violate the service's invariants, with faults, load and hostile input.",
    )
    parser.add_argument(
        "--list", action="store_true", help="list the rows and their number of tries, and exit"
    )
    parser.add_argument("--only", metavar="NAME[,NAME]", help="run only these rows")
    parser.add_argument(
        "--tries", type=int, metavar="N", help="number of tries (default: set by each row)"
    )
    parser.add_argument("--short", action="store_true", help="as few tries as in the test suite")
    parser.add_argument(
        "--engine",
        choices=("sqlite", "postgresql", "both"),
        default="both",
        help="the database engine (default: both, if installed)",
    )
    parser.add_argument(
        "--seed", type=int, default=None, help="repeat the random choices of an earlier run"
    )
    return parser


def _run(rows: Sequence[Row], chosen: argparse.Namespace) -> Iterator[Result]:
    new_seed = random.randrange(10**6)  # noqa: S311  # not a secret
    seed = new_seed if chosen.seed is None else chosen.seed
    click.echo(f"--seed {seed}")
    for engine in _engines(chosen.engine):
        with _templates(engine) as templates:
            for row in rows:
                tries = chosen.tries or (row.short if chosen.short else row.full)
                if engine not in row.engines or tries is None:
                    continue
                yield _run_row(
                    row, engine, tries, Place(Path(), templates, seed, partial(_report, row.name))
                )


def _engines(requested: str) -> tuple[str, ...]:
    """The requested engines, without PostgreSQL if it is not installed."""
    if requested != "both":
        return (requested,)
    if not BINARIES:
        click.echo("PostgreSQL is not installed. Running on SQLite only.")
        return ("sqlite",)
    return ("sqlite", "postgresql")


def _run_row(row: Row, engine: str, tries: int, place: Place) -> Result:
    place.folder = Path(tempfile.mkdtemp(prefix=f"stress-{row.name}-"))
    place.report(f"{tries:,} tries on {engine}")
    began = time.monotonic()
    try:
        outcome = row.stress(tries, place)
        outcome.expect(outcome.tries, "no tries were made")
    except (Exception, pytest.fail.Exception):  # noqa: BLE001  # continue with the other rows
        outcome = Outcome()
        outcome.expect(
            holds=False, otherwise=f"the stress test itself failed:\n{traceback.format_exc()}"
        )
    if outcome.violation_count:
        place.report(f"{outcome.violation_count} violations; files are kept in {place.folder}")
    else:
        shutil.rmtree(place.folder, ignore_errors=True)
    return Result(row, engine, outcome, time.monotonic() - began)


@contextmanager
def _templates(engine: str) -> Iterator[Templates]:
    """Installation templates for that engine."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stress-templates-")))
        yield stack.enter_context(
            Templates(
                folder,
                stack.enter_context(cluster(BINARIES[-1])) if engine == "postgresql" else None,
            )
        )


def _report(name: str, text: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')} {name}: {text}")


def _print_table(results: Sequence[Result]) -> None:
    click.echo(
        f"{'row':<14}{'engine':<12}{'tries':>10}{'violations':>12}{'seconds':>9}  what must hold"
    )
    for row, engine, outcome, seconds in results:
        click.echo(
            f"{row.name:<14}{engine:<12}{outcome.tries:>10,}{outcome.violation_count:>12,}"
            f"{seconds:>9,.0f}  {row.invariant}"
        )
        for note in outcome.notes:
            click.echo(f"{'':<26}{note}")
    for result in results:
        for violation in result.outcome.violations:
            click.echo(f"\n{result.row.name} on {result.engine}: {violation}")
