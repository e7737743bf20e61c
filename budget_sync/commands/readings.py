"""Commands that propose how a sheet is read, ask about it, and store what a person confirms."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from budget_sync import database, sync
from budget_sync.accounts import customers
from budget_sync.commands.dialogue import Dialogue, has_dialogue
from budget_sync.commands.reading_answers import open_question_lines, parse_answers
from budget_sync.commands.support import (
    command,
    done,
    me,
    on_current_schema,
    progress_line,
    settings,
)
from budget_sync.domain.errors import RequestError, invalid_request
from budget_sync.domain.results import dumps
from budget_sync.runtime import files
from budget_sync.sync.describe import difference, proposal_json, proposal_lines
from budget_sync.sync.fetch import Fetched, fetch_source
from budget_sync.sync.propose import Proposed, propose, refusal
from budget_sync.sync.reading.model import Reading, ReadingError
from budget_sync.sync.reading.proposal import Answers
from budget_sync.sync.source import CSV, XLSX, Reach, Source, Target
from budget_sync.sync.targets import file_target, google_target

#: A larger file cannot be a reading.
MAX_READING_BYTES = 1_000_000

Command = TypeVar("Command", bound=Callable[..., Any])


class Stored(NamedTuple):
    """What a command stored: the source, a sentence about it, and warnings."""

    source_id: str
    sentence: str
    warnings: list[str]


class Options(NamedTuple):
    """The options that all these commands share."""

    answers: tuple[str, ...]
    reading_file: str | None
    as_json: bool
    accept: bool = False


def _answer_options(run: Command) -> Command:
    """Decorator for --answer, --reading and --json."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
        click.option(
            "--reading",
            "reading_file",
            metavar="FILE",
            help="Use this reading (JSON, as show-reading prints it) and ask nothing.",
        ),
        click.option(
            "--answer",
            "answers",
            multiple=True,
            metavar="ID=VALUE",
            help="The answer to a question. May be repeated, also for several values.",
        ),
    ):
        run = option(run)
    return run


def _sheet_options(run: Command) -> Command:
    """Decorator for the options that name a sheet."""
    for option in (
        click.option(
            "--worksheet",
            metavar="NAME",
            help='Title of the tab, or its number as in "gid=0".',
        ),
        click.option(
            "--xlsx",
            "xlsx_path",
            metavar="FILE",
            help="An Excel file inside CSV_FOLDER.",
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


def _accept_option(run: Command) -> Command:
    """Decorator for --accept."""
    return click.option(
        "--accept",
        is_flag=True,
        help="Confirm the reading if no question is open.",
    )(run)


@command("add-source")
@_sheet_options
@_answer_options
@_accept_option
@on_current_schema
def add_source(
    customer_id: str,
    spreadsheet: str | None,
    worksheet: str | None,
    csv_path: str | None,
    xlsx_path: str | None,
    answers: tuple[str, ...],
    reading_file: str | None,
    as_json: bool,
    accept: bool,
) -> None:
    """Add a Google Sheet, a CSV file or an Excel file as a source of budgets.

    Shows how the sheet is read, asks what it does not say, and stores the source when the reading
    is confirmed. Exit status 2 if questions are open or the reading is not confirmed.
    """
    options = Options(answers, reading_file, as_json, accept)

    def run() -> int:
        target = _target(spreadsheet, worksheet, csv_path, xlsx_path)
        customers.get_customer(customer_id)
        sync.require_unused(customer_id, target)
        proposer = Proposer(target, customer_id, options)

        def store(proposed: Proposed) -> Stored:
            reading, trial = proposed.proposal.reading, proposed.proposal.trial
            source, warnings = sync.add_source(
                me(),
                customer_id,
                proposed.target,
                reading=reading,
                facts=trial.facts if trial else None,
            )
            sentence = (
                f"Added source {source.id} ({source.label}). Preview the first sync run with "
                f"`flask sync-sheets --customer {customer_id} --dry-run`."
            )
            return Stored(source.id, sentence, warnings)

        return _conclude(proposer, options, store)

    _exit(run, options)


@command("preview-source")
@_sheet_options
@_answer_options
@on_current_schema
def preview_source(
    customer_id: str,
    spreadsheet: str | None,
    worksheet: str | None,
    csv_path: str | None,
    xlsx_path: str | None,
    answers: tuple[str, ...],
    reading_file: str | None,
    as_json: bool,
) -> None:
    """Show how add-source would read a sheet. Stores nothing.

    Exit status 2 if questions are open.
    """
    options = Options(answers, reading_file, as_json)

    def run() -> int:
        target = _target(spreadsheet, worksheet, csv_path, xlsx_path)
        return _conclude(Proposer(target, customer_id, options), options, None)

    _exit(run, options)


@command("reread-source")
@click.argument("source_id", metavar="SOURCE")
@_answer_options
@_accept_option
@on_current_schema
def reread_source(
    source_id: str,
    answers: tuple[str, ...],
    reading_file: str | None,
    as_json: bool,
    accept: bool,
) -> None:
    """Propose again how the sheet of a source is read, starting from the stored reading.

    Prints the difference to the stored reading. Exit status 2 if questions are open or the reading
    is not confirmed.
    """
    options = Options(answers, reading_file, as_json, accept)

    def run() -> int:
        source = sync.get_source(me(), source_id)
        target = _target_of(source)
        proposer = Proposer(target, source.customer_id, options, source)

        def store(proposed: Proposed) -> Stored:
            reading, trial = proposed.proposal.reading, proposed.proposal.trial
            if reading is None:
                raise RuntimeError("there is no reading to store")
            sync.store_reading(me(), source.id, reading, trial.facts if trial else None)
            return Stored(source.id, f"Stored the new reading of source {source.id}.", [])

        return _conclude(proposer, options, store)

    _exit(run, options)


def _target(
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


def _target_of(source: Source) -> Target:
    """The target of a source. Raises RequestError if its uploaded file is missing."""
    try:
        return sync.with_file(source)
    except sync.FetchError as problem:
        raise invalid_request({"source": str(problem)}) from None


class Proposer:
    """Proposes readings of one sheet, which is fetched once. Has the reading of --reading."""

    def __init__(
        self, target: Target, customer_id: str, options: Options, source: Source | None = None
    ) -> None:
        """Raises RequestError for an unknown customer, and click.UsageError for a missing file."""
        self.target = target
        self.source = source
        self._customer = sync.reading_customer(customers.get_customer(customer_id))
        self._reach = Reach.of(settings())
        self._file = options.reading_file
        if self._file is not None and options.answers:
            raise click.UsageError("--reading and --answer cannot be combined.")
        self._text = None if self._file is None else _reading_text(self._file)

        @cache
        def fetch(target: Target, reach: Reach) -> Fetched:
            return fetch_source(target, reach)

        self._fetch = fetch

    def __call__(self, answers: Answers) -> Proposed:
        """The proposal after these answers."""
        for question_id, values in answers.items():
            several = question_id == "columns" or question_id.startswith("keep:")
            if len(values) > 1 and not several:
                return refusal(self.target, f"{question_id!r} has several answers. Give one.")
        reading = None
        if self._text is not None:
            try:
                reading = Reading.from_text(self._text)
            except ReadingError as error:
                return refusal(self.target, str(error))
        with progress_line() as say:
            proposed = propose(
                self.target,
                self._customer,
                answers,
                self._reach,
                reading=reading,
                stored=self.source.reading if self.source else None,
                say=say,
                fetch=self._fetch,
            )
        database.open_connection()
        return proposed

    def question_ids(self, answers: Answers) -> set[str]:
        """The ids of the questions that are asked after these answers."""
        return {question.id for question in self(answers).proposal.questions}


def _reading_text(path: str) -> str:
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


def _exit(run: Callable[[], int], options: Options) -> None:
    """Run a command and exit with its status. With --json, an error is a JSON object too."""
    try:
        status = run()
    except RequestError as error:
        if not options.as_json:
            raise
        click.echo(dumps(proposal_json(refusal(Target(CSV), error.sentence), None)))
        status = 1
    sys.exit(status)


def _conclude(
    proposer: Proposer, options: Options, store: Callable[[Proposed], Stored] | None
) -> int:
    """Propose, ask, store and print; returns the exit status.

    Without `store`, nothing is stored. Raises RequestError.
    """
    answers = parse_answers(options.answers, proposer.question_ids)
    if not options.as_json and has_dialogue():
        return _converse(proposer, answers, options, store)
    proposed = proposer(answers)
    stored = None
    if store is not None and options.accept and proposed.is_complete:
        stored = store(proposed)
    if options.as_json:
        _print_json(proposer, proposed, stored)
    else:
        _print_text(proposer, proposed, stored, store is None)
    if proposed.proposal.refused is not None:
        return 1
    is_done = proposed.is_complete and (store is None or stored is not None)
    return 0 if is_done else 2


def _print_json(proposer: Proposer, proposed: Proposed, stored: Stored | None) -> None:
    found = proposal_json(proposed, stored.source_id if stored else None)
    if proposer.source is not None:
        found["difference"] = difference(proposer.source.reading, proposed.proposal.reading)
    text = dumps(found)
    if stored is None:
        click.echo(text)
        return
    done(text, instead=stored.sentence)
    _warn(stored.warnings)


def _print_text(
    proposer: Proposer, proposed: Proposed, stored: Stored | None, is_preview: bool
) -> None:
    """Print a proposal for a caller without a terminal. Raises click.ClickException if refused."""
    proposal = proposed.proposal
    if proposal.refused is not None:
        raise click.ClickException(proposal.refused)
    if stored is not None:
        for line in (*proposal_lines(proposed), *_difference_lines(proposer, proposed)):
            click.echo(line, err=True)
        done(stored.sentence)
        _warn(stored.warnings)
        return
    for line in (*proposal_lines(proposed), *_difference_lines(proposer, proposed)):
        click.echo(line)
    questions = [each for each in proposal.questions if each.id in proposal.open]
    if questions:
        click.echo("\nOpen questions:\n")
        for line in open_question_lines(questions):
            click.echo(line)
    elif not is_preview:
        click.echo("\nNothing was stored. Add --accept to confirm this reading.")


def _difference_lines(proposer: Proposer, proposed: Proposed) -> list[str]:
    """What differs from the stored reading, a line each."""
    if proposer.source is None or proposed.proposal.reading is None:
        return []
    changes = difference(proposer.source.reading, proposed.proposal.reading)
    if not changes:
        return ["The reading is the stored one."]
    return [
        "Different from the stored reading:",
        *(f"  {each['key']}: {dumps(each['old'])} → {dumps(each['new'])}" for each in changes),
    ]


def _warn(warnings: list[str]) -> None:
    for warning in warnings:
        click.echo(f"Warning: {warning}", err=True)


def _converse(
    proposer: Proposer,
    answers: dict[str, list[str]],
    options: Options,
    store: Callable[[Proposed], Stored] | None,
) -> int:
    """Ask the open questions on the terminal, then for confirmation; returns the exit status."""
    dialogue = Dialogue(
        proposer,
        lambda proposed: [*proposal_lines(proposed), *_difference_lines(proposer, proposed)],
        answers,
    )
    needs_confirmation = store is not None and not options.accept
    proposed = dialogue.hold(confirm=needs_confirmation)
    if proposed is None:
        if store is not None:
            click.echo("Nothing was stored.")
        return 2
    if proposed.proposal.refused is not None:
        raise click.ClickException(proposed.proposal.refused)
    if store is not None:
        stored = store(proposed)
        done(stored.sentence)
        _warn(stored.warnings)
    return 0


COMMANDS = (add_source, preview_source, reread_source)
