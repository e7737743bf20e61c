"""Commands that propose how a sheet is read, ask about it, and store what a person confirms."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache

import click

from budget_sync import database, sync
from budget_sync.accounts import customers
from budget_sync.commands.dialogue import Dialogue, has_dialogue
from budget_sync.commands.reading_answers import parse_answers
from budget_sync.commands.reading_options import (
    Options,
    accept_option,
    answer_options,
    reading_text,
    sheet_options,
    target_of_options,
)
from budget_sync.commands.reading_output import (
    Stored,
    difference_lines,
    print_json,
    print_text,
    warn,
)
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
from budget_sync.sync.describe import proposal_json, proposal_lines
from budget_sync.sync.fetch import Fetched, fetch_source
from budget_sync.sync.propose import Proposed, propose, refusal
from budget_sync.sync.reading.model import Reading, ReadingError
from budget_sync.sync.reading.proposal import Answers
from budget_sync.sync.source import CSV, Reach, Source, Target


@command("add-source")
@sheet_options
@answer_options
@accept_option
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
    """Add a sheet as a source of budgets.

    The sheet is a Google Sheet, a CSV file or an Excel file. The command shows how it reads the
    sheet, asks what the sheet does not say, and stores the source when you confirm. Without a
    terminal, it lists the questions: answer them with --answer, and confirm with --accept. Exit
    status 2 if questions are open or the reading is not confirmed.
    """
    options = Options(answers, reading_file, as_json, accept)

    def run() -> int:
        target = target_of_options(spreadsheet, worksheet, csv_path, xlsx_path)
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
                title=proposed.book,
            )
            sentence = (
                f"Added source {source.id} ({source.label}). Preview the first sync run with "
                f"`flask sync-sheets --customer {customer_id} --dry-run`."
            )
            return Stored(source.id, sentence, warnings)

        return _conclude(proposer, options, store)

    _exit(run, options)


@command("preview-source")
@sheet_options
@answer_options
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
        target = target_of_options(spreadsheet, worksheet, csv_path, xlsx_path)
        return _conclude(Proposer(target, customer_id, options), options, None)

    _exit(run, options)


@command("reread-source")
@click.argument("source_id", metavar="SOURCE")
@answer_options
@accept_option
@on_current_schema
def reread_source(
    source_id: str,
    answers: tuple[str, ...],
    reading_file: str | None,
    as_json: bool,
    accept: bool,
) -> None:
    """Read the sheet of a source in a new way.

    Use it after the layout of the sheet has changed. The command proposes a reading, with the
    stored one as the answers, and prints the difference. The new reading replaces the stored one
    when you confirm. Exit status 2 if questions are open or the reading is not confirmed.
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
            sync.store_reading(
                me(),
                source.id,
                reading,
                trial.facts if trial else None,
                worksheet=proposed.target.worksheet,
            )
            return Stored(source.id, f"Stored the new reading of source {source.id}.", [])

        return _conclude(proposer, options, store)

    _exit(run, options)


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
        self._text = None if self._file is None else reading_text(self._file)

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
        print_json(proposer.source, proposed, stored)
    else:
        print_text(proposer.source, proposed, stored, answered=answers, is_preview=store is None)
    if proposed.proposal.refused is not None:
        return 1
    is_done = proposed.is_complete and (store is None or stored is not None)
    return 0 if is_done else 2


def _converse(
    proposer: Proposer,
    answers: dict[str, list[str]],
    options: Options,
    store: Callable[[Proposed], Stored] | None,
) -> int:
    """Ask the open questions on the terminal, then for confirmation; returns the exit status."""
    dialogue = Dialogue(
        proposer,
        lambda proposed: [*proposal_lines(proposed), *difference_lines(proposer.source, proposed)],
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
        warn(stored.warnings)
    return 0


COMMANDS = (add_source, preview_source, reread_source)
