"""The command: which rows to run, how often, and the table at the end."""

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
    """A row that was run."""

    row: Row
    engine: str
    outcome: Outcome
    seconds: float


def main(arguments: Sequence[str]) -> int:
    """Run the rows asked for; the exit status, 1 where a promise was broken or not all of it was tried."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    # What this machine lacks leaves a promise untried.
    os.environ["REQUIRE_ALL"] = "1"
    if chosen.list:
        for row in ROWS:
            click.echo(
                f"{row.name:<14}{row.full:>10,}  {', '.join(row.engines):<20}  {row.promise}"
            )
        return 0
    asked = chosen.only.split(",") if chosen.only else [row.name for row in ROWS]
    unknown = sorted(set(asked) - {row.name for row in ROWS})
    if unknown:
        parser.error(f"there is no row {', '.join(unknown)}; --list names them")
    if chosen.engine == "postgresql" and not BINARIES:
        parser.error("PostgreSQL is not installed here")
    results: list[Result] = []
    stopped = False
    try:
        for result in _run([row for row in ROWS if row.name in asked], chosen):
            results.append(result)  # noqa: PERF402  # what was finished before Ctrl-C is still shown
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
        prog="make prove ARGS=…", description="Try to break every promise of the service."
    )
    parser.add_argument(
        "--list", action="store_true", help="show the rows, and how often each is tried"
    )
    parser.add_argument("--only", metavar="NAME[,NAME]", help="these rows alone")
    parser.add_argument(
        "--tries", type=int, metavar="N", help="this often, instead of each row's own number"
    )
    parser.add_argument("--short", action="store_true", help="as often as in the suite")
    parser.add_argument(
        "--engine",
        choices=("sqlite", "postgresql", "both"),
        default="both",
        help="the database (default: both, of what is installed)",
    )
    parser.add_argument(
        "--seed", type=int, default=None, help="throw the dice of an earlier run again"
    )
    return parser


def _run(rows: Sequence[Row], chosen: argparse.Namespace) -> Iterator[Result]:
    seed = random.randrange(10**6) if chosen.seed is None else chosen.seed  # noqa: S311  # chance, no secret
    click.echo(f"--seed {seed}")
    for engine in _engines(chosen.engine):
        with _templates(engine) as templates:
            for row in rows:
                tries = chosen.tries or (row.short if chosen.short else row.full)
                if engine not in row.engines or tries is None:
                    continue
                yield _run_row(
                    row, engine, tries, Place(Path(), templates, seed, partial(_tell, row.name))
                )


def _engines(asked: str) -> tuple[str, ...]:
    """The engines asked for; of both, those that this machine has."""
    if asked != "both":
        return (asked,)
    if not BINARIES:
        click.echo("PostgreSQL is not installed here: SQLite alone is tried.")
        return ("sqlite",)
    return ("sqlite", "postgresql")


def _run_row(row: Row, engine: str, tries: int, place: Place) -> Result:
    place.folder = Path(tempfile.mkdtemp(prefix=f"prove-{row.name}-"))
    place.tell(f"{tries:,} tries on {engine}")
    began = time.monotonic()
    try:
        outcome = row.stress(tries, place)
        outcome.expect(outcome.tries, "nothing was tried")
    except (Exception, pytest.fail.Exception):  # noqa: BLE001  # whatever it is, the other rows are still to be tried
        outcome = Outcome()
        outcome.expect(holds=False, otherwise=f"the proof itself failed:\n{traceback.format_exc()}")
    if outcome.violation_count:
        place.tell(f"{outcome.violation_count} violations; what they left is in {place.folder}")
    else:
        shutil.rmtree(place.folder, ignore_errors=True)
    return Result(row, engine, outcome, time.monotonic() - began)


@contextmanager
def _templates(engine: str) -> Iterator[Templates]:
    """Templates of installations on that engine."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="prove-templates-")))
        yield stack.enter_context(
            Templates(
                folder,
                stack.enter_context(cluster(BINARIES[-1])) if engine == "postgresql" else None,
            )
        )


def _tell(name: str, text: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')} {name}: {text}")


def _print_table(results: Sequence[Result]) -> None:
    click.echo(f"{'row':<14}{'engine':<12}{'tries':>10}{'violations':>12}{'seconds':>9}  promise")
    for row, engine, outcome, seconds in results:
        click.echo(
            f"{row.name:<14}{engine:<12}{outcome.tries:>10,}{outcome.violation_count:>12,}{seconds:>9,.0f}  {row.promise}"
        )
        for note in outcome.notes:
            click.echo(f"{'':<26}{note}")
    for result in results:
        for violation in result.outcome.violations:
            click.echo(f"\n{result.row.name} on {result.engine}: {violation}")
