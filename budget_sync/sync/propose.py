"""Proposes how the sheet of a source is read: fetch it, then `detect`, or `apply` a given reading.

Nothing here uses the database, so that it can run in a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from budget_sync.domain.periods import FiscalYear
from budget_sync.sync.fetch import Fetched, fetch_source
from budget_sync.sync.limits import Check, no_check
from budget_sync.sync.reading.apply import apply
from budget_sync.sync.reading.decode import decode
from budget_sync.sync.reading.detect import AnswerError, detect
from budget_sync.sync.reading.grid import Grid
from budget_sync.sync.reading.header import Layout, find_layout
from budget_sync.sync.reading.model import Reading
from budget_sync.sync.reading.proposal import Answers, Proposal, Question
from budget_sync.sync.reading.result import Customer, SheetProblem
from budget_sync.sync.source import FetchError, Reach, Target

#: Called with the current step.
Say = Callable[[str], None]

#: The id of the question for the worksheet of an Excel file or the tab of a spreadsheet.
WORKSHEET = "worksheet"

#: The ids of all questions. Those about the values of a column begin with KEEP.
QUESTION_IDS: Final = frozenset(
    (
        *("amount", "blanks", "code", "columns", "currency", "dash", "dates", "ddmon"),
        *("department", "encoding", "fill", "first_year", "fiscal_year", "ids", "locale", "mdy"),
        *("part", "period", "section", "sign", "subtotals", "sum", "totals", "tri", "unit"),
        *(WORKSHEET, "year"),
    )
)
KEEP = "keep:"


@dataclass(frozen=True, slots=True)
class Proposed:
    """A proposal for a sheet, with what a person needs to judge it.

    `target` names the chosen worksheet. `grid` is None if the sheet cannot be fetched or split into
    cells, and `layout` if the columns of the reading are not in it. `worksheets` are the tabs of
    the file, and `fiscal_year` is the customer's. A proposal that is refused with `is_wrong_answer`
    is possible with another answer. `book` is the title of a Google spreadsheet.
    """

    proposal: Proposal
    target: Target
    grid: Grid | None = None
    file_name: str = ""
    worksheets: tuple[str, ...] = ()
    layout: Layout | None = None
    fiscal_year: FiscalYear = field(default_factory=FiscalYear)
    is_wrong_answer: bool = False
    book: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the reading can be confirmed."""
        return self.proposal.reading is not None and not self.proposal.open


def propose(
    target: Target,
    customer: Customer,
    answers: Answers,
    reach: Reach,
    *,
    reading: Reading | None = None,
    stored: Reading | None = None,
    say: Say | None = None,
    check: Check = no_check,
    fetch: Callable[[Target, Reach], Fetched] = fetch_source,
) -> Proposed:
    """Fetch a sheet and propose how it is read.

    With `reading`, it is applied, and nothing is asked. `stored` is the reading of a source that is
    read again: it answers the questions for which its answer is still possible. Wrong answers and
    sheets that cannot be read are `refused`; nothing is raised.
    """
    tell = say or _say_nothing
    unknown = [each for each in answers if each not in QUESTION_IDS and not each.startswith(KEEP)]
    if unknown:
        return refusal(target, f"There is no question {unknown[0]!r}.")
    try:
        tell(f"reading {target.public_label}")
        fetched = fetch(target, reach)
        if not fetched.is_chosen:
            chosen = answers.get(WORKSHEET)
            question = worksheet_question(fetched.worksheets)
            if chosen is None:
                return _refer_to(question, target, fetched)
            if len(chosen) != 1 or chosen[0] not in fetched.worksheets:
                sentence = _no_option(question, chosen)
                return replace(refusal(target, sentence), is_wrong_answer=True)
            target = replace(target, worksheet=chosen[0])
            fetched = fetch(target, reach)
    except FetchError as problem:
        return refusal(target, str(problem))
    rest = {key: values for key, values in answers.items() if key != WORKSHEET}
    return propose_fetched(
        target, fetched, customer, rest, reading=reading, stored=stored, say=say, check=check
    )


def propose_fetched(
    target: Target,
    fetched: Fetched,
    customer: Customer,
    answers: Answers,
    *,
    reading: Reading | None = None,
    stored: Reading | None = None,
    say: Say | None = None,
    check: Check = no_check,
) -> Proposed:
    """Propose how a fetched sheet is read. Parameters and result are those of `propose`."""
    tell = say or _say_nothing
    try:
        if reading is not None:
            tell("applying the reading")
            proposal = _applied(reading, fetched, customer, check)
        else:
            tell("looking for the header, the columns and the amounts")
            proposal = detect(
                fetched.source,
                customer,
                answers,
                file_name=fetched.file_name,
                check=check,
                stored=stored,
            )
    except AnswerError as problem:
        return replace(refusal(target, str(problem)), is_wrong_answer=True)
    except SheetProblem as problem:
        return refusal(target, str(problem))
    grid = _grid(fetched, proposal.reading)
    return Proposed(
        proposal,
        target,
        grid,
        fetched.file_name,
        fetched.worksheets,
        _layout(proposal.reading, grid),
        customer.fiscal_year,
        book=fetched.book,
    )


def refusal(target: Target, sentence: str) -> Proposed:
    """A proposal without a reading, and why."""
    return Proposed(Proposal(None, refused=sentence), target)


def _say_nothing(_step: str) -> None:
    """Progress that nobody sees."""


def worksheet_question(worksheets: tuple[str, ...]) -> Question:
    """The question for the worksheet of a file that has several."""
    return Question(
        WORKSHEET,
        f"The file has {len(worksheets)} worksheets. Which one has the budgets?",
        options=worksheets,
    )


def _refer_to(question: Question, target: Target, fetched: Fetched) -> Proposed:
    """A proposal that only asks for the worksheet."""
    return Proposed(
        Proposal(None, [question], [question.id]),
        target,
        file_name=fetched.file_name,
        worksheets=fetched.worksheets,
    )


def _no_option(question: Question, values: Sequence[str]) -> str:
    options = ", ".join(map(repr, question.options[:20]))
    return f"{', '.join(map(repr, values))} is not an answer to {question.id!r}. Choose {options}."


def _applied(reading: Reading, fetched: Fetched, customer: Customer, check: Check) -> Proposal:
    """The proposal of a given reading. Raises SheetProblem."""
    source = fetched.source
    if isinstance(source, bytes) and reading.file is None:
        raise SheetProblem("The reading has no key 'file', which a CSV file needs.")
    return Proposal(reading, trial=apply(reading, source, customer, check=check))


def _grid(fetched: Fetched, reading: Reading | None) -> Grid | None:
    """The cells of the sheet, as `apply` sees them."""
    source = fetched.source
    if not isinstance(source, bytes):
        return source
    if reading is None or reading.file is None:
        return None
    try:
        return decode(source, reading.file)
    except SheetProblem:
        return None


def _layout(reading: Reading | None, grid: Grid | None) -> Layout | None:
    """Where the columns of the reading are."""
    if reading is None or grid is None:
        return None
    try:
        return find_layout(reading, grid)
    except SheetProblem:
        return None
