"""The options of the commands that propose how a sheet is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from budget_sync.commands.support import settings
from budget_sync.runtime import files
from budget_sync.sync.source import CSV, XLSX, Target
from budget_sync.sync.targets import file_target, google_target

#: A larger file cannot be a reading.
MAX_READING_BYTES = 1_000_000

Command = TypeVar("Command", bound=Callable[..., Any])


class Options(NamedTuple):
    """The options that all these commands share."""

    answers: tuple[str, ...]
    reading_file: str | None
    as_json: bool
    accept: bool = False


def answer_options(run: Command) -> Command:
    """Decorator for --answer, --reading and --json."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object, ask nothing."),
        click.option(
            "--reading",
            "reading_file",
            metavar="FILE",
            help="Use the reading in this file (JSON, as show-reading prints it), and ask nothing.",
        ),
        click.option(
            "--answer",
            "answers",
            multiple=True,
            metavar="ID=VALUE",
            help="The answer to a question, such as unit=1000. Repeat it for other questions, and "
            "for several values of one.",
        ),
    ):
        run = option(run)
    return run


def sheet_options(run: Command) -> Command:
    """Decorator for the options that name a sheet."""
    for option in (
        click.option(
            "--worksheet",
            metavar="NAME",
            help='Title of the tab or worksheet; of a Google Sheet also its number, as in "gid=0".',
        ),
        click.option(
            "--xlsx",
            "xlsx_path",
            metavar="FILE",
            help="An Excel file (.xlsx) inside CSV_FOLDER.",
        ),
        click.option(
            "--csv",
            "csv_path",
            metavar="FILE",
            help="A CSV file inside CSV_FOLDER (by default instance/sheets).",
        ),
        click.option(
            "--spreadsheet",
            metavar="KEY",
            help="Key or address of a Google spreadsheet.",
        ),
        click.option(
            "--customer",
            "customer_id",
            required=True,
            metavar="ID",
            help="The customer that the budgets belong to.",
        ),
    ):
        run = option(run)
    return run


def accept_option(run: Command) -> Command:
    """Decorator for --accept."""
    return click.option(
        "--accept",
        is_flag=True,
        help="Confirm the reading without being asked, if no question is open.",
    )(run)


def target_of_options(
    spreadsheet: str | None, worksheet: str | None, csv_path: str | None, xlsx_path: str | None
) -> Target:
    """The sheet of the options. Raises click.UsageError unless exactly one is named."""
    named = [each for each in (spreadsheet, csv_path, xlsx_path) if each is not None]
    if len(named) != 1:
        raise click.UsageError("Give one of --spreadsheet, --csv and --xlsx.")
    if csv_path is not None and worksheet is not None:
        raise click.UsageError("--worksheet is not for a CSV file.")
    if spreadsheet is not None:
        return google_target(spreadsheet, worksheet)
    folder = settings().csv_folder
    files.create_folder(folder)
    return file_target(XLSX if csv_path is None else CSV, named[0], folder, worksheet)


def reading_text(path: str) -> str:
    """The text of a reading. Raises click.UsageError if the file cannot be read."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_READING_BYTES + 1)
        if len(data) > MAX_READING_BYTES:
            raise click.UsageError(f"--reading {path!r} is larger than {MAX_READING_BYTES} bytes.")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise click.UsageError(f"--reading {path!r} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise click.UsageError(f"--reading {path!r} is not UTF-8.") from None
