"""The command that imports spends from a file."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path, PurePath
from typing import cast

import click

from budget_sync.commands.support import (
    Lines,
    Progress,
    command,
    count_of,
    has_terminal,
    me,
    on_current_schema,
)
from budget_sync.domain.errors import Code, RequestError
from budget_sync.spend_import import (
    Choices,
    DateOrder,
    DecimalMark,
    FileOptions,
    Outcome,
    RowResult,
    Summary,
    import_spend,
)
from budget_sync.sync.limits import MAX_BYTES
from budget_sync.sync.reading.decode import LEGACY_ENCODINGS

#: At most this many rejected rows are printed.
MAX_REJECTED = 200

_PROGRESS_EVERY_ROWS = 50
_TRY_AGAIN = frozenset({Code.UNAVAILABLE, Code.OUTCOME_UNKNOWN})


class _Report:
    """Prints the results of the rows."""

    def __init__(self) -> None:
        self.lines, self.rejected = Lines(), 0
        self._progress, self._shows = Progress(), has_terminal()

    def row(self, result: RowResult) -> None:
        """Print a matched or rejected row."""
        if result.outcome is Outcome.REJECTED:
            self.rejected += 1
            if self.rejected > MAX_REJECTED:
                return
        if result.text:
            self._progress.clear()
            is_rejected = result.outcome is Outcome.REJECTED
            label = "" if is_rejected else f"{result.outcome.value}: "
            self.lines.print(f"Row {result.number}: {label}{result.text}", err=is_rejected)

    def progress(self, done: int, total: int) -> None:
        """Show how many rows are done."""
        if self._shows and (done % _PROGRESS_EVERY_ROWS == 0 or done == total):
            self._progress.say(f"row {done:,} of {total:,}")

    def clear(self) -> None:
        """Erase the progress line."""
        self._progress.clear()

    def summary(self, summary: Summary, *, dry_run: bool) -> None:
        """Print the notes, the totals and the overdrawn budgets."""
        if self.rejected > MAX_REJECTED:
            more = self.rejected - MAX_REJECTED
            self.lines.print(f"{count_of(more, 'more row')} rejected.", err=True)
        for note in summary.notes:
            self.lines.print(f"Note: {note}")
        for line in summary.overdrawn:
            self.lines.print(f"{'Would be overdrawn' if dry_run else 'Overdrawn'}: budget {line}.")
        counts = summary.counts
        money = f" ({', '.join(summary.total)})" if summary.total else ""
        result = (
            f"{'Would import' if dry_run else 'Imported'} "
            f"{count_of(counts[Outcome.IMPORTED], 'spend')}{money}. "
            f"Already imported: {counts[Outcome.ALREADY]:,}. "
            f"Matched with a commit: {counts[Outcome.MATCHED]:,}. "
            f"Rejected: {counts[Outcome.REJECTED]:,}."
        )
        self.lines.print(f"{result} Nothing was changed." if dry_run else result)


@command("import-spend")
@click.argument("file", metavar="FILE")
@click.option(
    "--customer",
    "customer_id",
    required=True,
    metavar="ID",
    help="The customer that the spends belong to.",
)
@click.option("--dry-run", is_flag=True, help="Print the same report and change nothing.")
@click.option(
    "--date-order",
    type=click.Choice([str(order) for order in DateOrder]),
    help="Whether the day or the month comes first in dates such as 03/04/2025.",
)
@click.option(
    "--decimal-mark",
    type=click.Choice([".", ","]),
    help="The mark before the decimals of an amount.",
)
@click.option(
    "--encoding",
    type=click.Choice(LEGACY_ENCODINGS),
    help="The encoding of a file that is not Unicode.",
)
@click.option("--worksheet", help="The worksheet of an Excel file with several.")
@on_current_schema
def import_spends(
    file: str,
    customer_id: str,
    dry_run: bool,
    date_order: str | None,
    decimal_mark: str | None,
    encoding: str | None,
    worksheet: str | None,
) -> None:
    """Record the spends of a CSV or Excel file, which no request has reserved.

    Its columns are Spend ID, Department, Fiscal Period, Amount, Date, Vendor and PO, in any order.
    Rows that were imported before are skipped. A row with the PO of a commit is listed and not
    recorded. Rejected rows are printed to standard error, and the exit status is 1 if there are
    any: correct them and run the command again.
    """
    choices = Choices(
        FileOptions(encoding, worksheet),
        DateOrder(date_order) if date_order else None,
        cast("DecimalMark | None", decimal_mark),
    )
    data, printed = _read(Path(file)), _Report()
    name = PurePath(file).name[:200]
    try:
        summary = import_spend(
            me(),
            customer_id,
            data,
            name if name.isprintable() else "a file",
            choices,
            dry_run=dry_run,
            report=printed.row,
            progress=printed.progress,
        )
    except RequestError as error:
        if error.code not in _TRY_AGAIN:
            raise
        raise click.ClickException(
            f"{error.sentence} Run the command again: no row is imported twice."
        ) from error
    finally:
        printed.clear()
    printed.summary(summary, dry_run=dry_run)
    if printed.lines.trouble:
        raise click.ClickException(
            f"Some lines could not be printed ({printed.lines.trouble}). Run the command again "
            "with --dry-run: it changes nothing and prints them."
        )
    sys.exit(bool(printed.rejected))


def _read(path: Path) -> bytes:
    """The content of a file, up to the largest size that is accepted and one byte more.

    Raises OSError, and click.ClickException if it is a folder or a pipe.
    """
    # A pipe must not block the command (O_NONBLOCK).
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as opened:
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            raise click.ClickException(f"{path} is not a regular file.")
        return opened.read(MAX_BYTES + 1)


COMMANDS = (import_spends,)
